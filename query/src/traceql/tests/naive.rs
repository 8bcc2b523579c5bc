//! Random queries over random spans in the trace store, against an evaluator that knows nothing but
//! spans and the language: it looks at one span (and one of its events) at a time.

use proptest::prelude::*;
use trine_storage::regex::{Dot, LabelRegex};

use super::memory::{Child, Span, of_child};
use super::store::store_of;
use super::*;
use crate::traceql::ast::{
    Aggregate, Attribute, FieldExpr, Form, Intrinsic, Op, Pipeline, Relation, ScalarExpr,
    SpansetExpr, SpansetOp, Stage, Static,
};

/// A value; numbers are floats, which those of the tests fit into.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Number(f64),
    Text(String),
    Truth(bool),
    Word(&'static str, u8),
    List(Vec<Seen>),
}

fn seen(value: &Value) -> Seen {
    match value {
        Value::Str(text) => Seen::Text(text.to_string()),
        Value::Int(number) => Seen::Number(*number as f64),
        Value::Float(number) => Seen::Number(*number),
        Value::Bool(truth) => Seen::Truth(*truth),
        Value::Array(values) => Seen::List(values.iter().map(seen).collect()),
    }
}

/// One trace.
struct Trace<'a> {
    spans: Vec<&'a Span>,
}

/// A span by its place in the trace, with one of its events.
#[derive(Clone, Copy)]
struct Cell<'a> {
    span: usize,
    event: Option<&'a Child>,
}

fn is_nil(expr: &FieldExpr) -> bool {
    matches!(expr, FieldExpr::Static(Static::Nil, _))
}

fn names_events(expr: &FieldExpr) -> bool {
    let mut found = false;
    expr.attributes(&mut |attribute| found |= is_of_event(attribute).is_some());
    found
}

fn is_of_event(attribute: &Attribute) -> Option<&str> {
    match attribute {
        Attribute::Named {
            scope: Some(Scope::Event),
            key,
            ..
        } => Some(key),
        Attribute::Intrinsic(Intrinsic::EventName) => Some(keys::EVENT_NAME),
        _ => None,
    }
}

/// Whether one event has to satisfy it together with its neighbours.
fn joins(expr: &FieldExpr) -> bool {
    match expr {
        FieldExpr::Binary { op, lhs, rhs, .. } => match op {
            Op::And | Op::Or => joins(lhs) || joins(rhs),
            Op::Equal if is_nil(lhs) || is_nil(rhs) => false,
            _ => names_events(expr),
        },
        FieldExpr::Attribute(..) => names_events(expr),
        _ => false,
    }
}

fn parts<'e>(expr: &'e FieldExpr, found: &mut Vec<&'e FieldExpr>) {
    match expr {
        FieldExpr::Binary {
            op: Op::And,
            lhs,
            rhs,
            ..
        } => {
            parts(lhs, found);
            parts(rhs, found);
        }
        expr => found.push(expr),
    }
}

impl<'a> Trace<'a> {
    fn parents(&self) -> Vec<Option<usize>> {
        let place = |id: u8| self.spans.iter().position(|span| span.id == id);
        let parent = |span: &&Span| match span.parent {
            0 => None,
            parent if parent == span.id => None,
            parent => place(parent),
        };
        let mut parents: Vec<Option<usize>> = self.spans.iter().map(parent).collect();
        let mut by_age: Vec<usize> = (0..parents.len()).collect();
        by_age.sort_by_key(|at| self.spans[*at].id);
        // Circles are cut where nothing leads to a top, at the first span.
        loop {
            let leads_up = |at: &usize| {
                let mut up = std::iter::successors(Some(*at), |at| parents[*at]);
                up.nth(parents.len()).is_none()
            };
            match by_age.iter().find(|at| !leads_up(at)) {
                Some(first) => parents[*first] = None,
                None => return parents,
            }
        }
    }

    fn root(&self) -> Option<&Span> {
        self.spans.iter().find(|span| span.parent == 0).copied()
    }

    fn attribute(&self, attribute: &Attribute, cell: Cell<'a>) -> Option<Seen> {
        let span = self.spans[cell.span];
        if let Some(key) = is_of_event(attribute) {
            return of_child(cell.event?, key).as_ref().map(seen);
        }
        let text = |text: &str| Some(Seen::Text(text.into()));
        let intrinsic = match attribute {
            Attribute::Named { scope, key, .. } => {
                return span.attribute(*scope, key).as_ref().map(seen);
            }
            Attribute::Intrinsic(intrinsic) => intrinsic,
        };
        match intrinsic {
            Intrinsic::Name => text(span.name),
            Intrinsic::StatusMessage => text(span.message),
            Intrinsic::Kind => Some(Seen::Word("kind", span.kind)),
            Intrinsic::Status => Some(Seen::Word("status", span.status)),
            Intrinsic::Duration => Some(Seen::Number(span.nanoseconds() as f64)),
            Intrinsic::SpanId => text(&format!("{:02x}", span.id).repeat(8)),
            Intrinsic::ParentId if span.parent == 0 => text(""),
            Intrinsic::ParentId => text(&format!("{:02x}", span.parent).repeat(8)),
            Intrinsic::TraceId => text(&format!("{:02x}", span.trace).repeat(16)),
            Intrinsic::TraceRootName => text(self.root().map_or("", |root| root.name)),
            Intrinsic::TraceDuration => {
                let end = |span: &&Span| span.start() + span.nanoseconds() as i64;
                let start = self.spans.iter().map(|span| span.start()).min()?;
                Some(Seen::Number(
                    (self.spans.iter().map(end).max()? - start) as f64,
                ))
            }
            Intrinsic::ChildCount => {
                let parents = self.parents();
                let children = parents.iter().filter(|parent| **parent == Some(cell.span));
                Some(Seen::Number(children.count() as f64))
            }
            // Whether it is a root is all that is asked.
            Intrinsic::NestedSetParent if span.parent == 0 => Some(Seen::Number(-1.0)),
            Intrinsic::NestedSetParent => Some(Seen::Number(0.0)),
            other => panic!("the queries have no {other:?}"),
        }
    }

    fn value(&self, expr: &FieldExpr, cell: Cell<'a>) -> Option<Seen> {
        match expr {
            FieldExpr::Static(value, _) => Some(match value {
                Static::Nil => return None,
                Static::Bool(truth) => Seen::Truth(*truth),
                Static::Int(number) | Static::Duration(number) => Seen::Number(*number as f64),
                Static::Float(number) => Seen::Number(*number),
                Static::Str(text) => Seen::Text(text.to_string()),
                Static::Status(number) => Seen::Word("status", *number),
                Static::Kind(number) => Seen::Word("kind", *number),
            }),
            FieldExpr::Attribute(attribute, _) => self.attribute(attribute, cell),
            FieldExpr::Binary { op, lhs, rhs, .. } if op.is_arithmetic() => {
                match (self.value(lhs, cell)?, self.value(rhs, cell)?) {
                    (Seen::Number(a), Seen::Number(b)) => Some(Seen::Number(match op {
                        Op::Add => a + b,
                        Op::Subtract => a - b,
                        Op::Multiply => a * b,
                        op => panic!("the queries have no {op:?}"),
                    })),
                    _ => None,
                }
            }
            FieldExpr::Negate(inner, _) => match self.value(inner, cell)? {
                Seen::Number(number) => Some(Seen::Number(-number)),
                _ => None,
            },
            expr => Some(Seen::Truth(self.holds(expr, cell))),
        }
    }

    /// One side of a comparison: literals that are compared to a trace id may lack leading zeros.
    fn side(&self, expr: &FieldExpr, other: &FieldExpr, cell: Cell<'a>) -> Option<Seen> {
        let is_id = |expr: &FieldExpr| {
            let id = Attribute::Intrinsic(Intrinsic::TraceId);
            matches!(expr, FieldExpr::Attribute(attribute, _) if *attribute == id)
        };
        match self.value(expr, cell)? {
            Seen::Text(text)
                if is_id(other) && text.bytes().all(|sign| sign.is_ascii_hexdigit()) =>
            {
                Some(Seen::Text(format!("{text:0>32}")))
            }
            value => Some(value),
        }
    }

    /// Whether a condition holds for a span with one event.
    fn holds(&self, expr: &FieldExpr, cell: Cell<'a>) -> bool {
        let is = |expr: &FieldExpr| self.value(expr, cell) == Some(Seen::Truth(true));
        match expr {
            FieldExpr::Not(inner, _) => !self.satisfies(inner, cell.span),
            FieldExpr::Binary { op, lhs, rhs, .. } => match op {
                Op::And => is(lhs) && is(rhs),
                Op::Or => is(lhs) || is(rhs),
                Op::Equal | Op::NotEqual if is_nil(lhs) || is_nil(rhs) => {
                    let other = if is_nil(lhs) { rhs } else { lhs };
                    let events = self.spans[cell.span].events.iter().map(Some);
                    let mut cells = events.map(|event| Cell { event, ..cell });
                    let is_there = self.value(other, cell).is_some();
                    match op {
                        Op::NotEqual => is_there,
                        _ if names_events(other) => cells.all(|c| self.value(other, c).is_none()),
                        _ => !is_there,
                    }
                }
                op => match (self.side(lhs, rhs, cell), self.side(rhs, lhs, cell)) {
                    (Some(a), Some(b)) => compares(*op, &a, &b),
                    _ => false,
                },
            },
            expr => is(expr),
        }
    }

    /// Whether a condition holds for a span.
    fn satisfies(&self, expr: &FieldExpr, span: usize) -> bool {
        let bare = Cell { span, event: None };
        match expr {
            FieldExpr::Not(inner, _) => !self.satisfies(inner, span),
            FieldExpr::Binary {
                op: Op::Or,
                lhs,
                rhs,
                ..
            } => self.satisfies(lhs, span) || self.satisfies(rhs, span),
            FieldExpr::Binary { op: Op::And, .. } => {
                let mut all = Vec::new();
                parts(expr, &mut all);
                let (joined, apart): (Vec<_>, Vec<_>) = all.into_iter().partition(|e| joins(e));
                apart.iter().all(|expr| self.satisfies(expr, span))
                    && (joined.is_empty() || self.some_event(&joined, span))
            }
            expr if joins(expr) => self.some_event(&[expr], span),
            expr => self.holds(expr, bare),
        }
    }

    fn some_event(&self, conditions: &[&FieldExpr], span: usize) -> bool {
        let events = &self.spans[span].events;
        let none = events.is_empty().then_some(None);
        let mut cells = events.iter().map(Some).chain(none);
        cells.any(|event| {
            let cell = Cell { span, event };
            conditions.iter().all(|expr| self.holds(expr, cell))
        })
    }

    /// The spans among these that an expression over sets chooses.
    fn choose(&self, expr: &SpansetExpr, among: &[usize]) -> Vec<usize> {
        match expr {
            SpansetExpr::Filter(expr, _) => {
                let passes = |at: &usize| expr.as_ref().is_none_or(|e| self.satisfies(e, *at));
                among.iter().copied().filter(passes).collect()
            }
            SpansetExpr::Pipeline(inner) => self.run(inner),
            SpansetExpr::Binary { op, lhs, rhs, .. } => {
                let (left, right) = (self.choose(lhs, among), self.choose(rhs, among));
                let mut found: Vec<usize> = match op {
                    SpansetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
                    SpansetOp::And | SpansetOp::Or => [left, right].concat(),
                    SpansetOp::Structural(relation, form) => {
                        let related = |l: usize, r: usize| self.related(*relation, l, r);
                        let has = |r: &usize| left.iter().any(|l| related(*l, *r));
                        let is_left = |l: &usize| right.iter().any(|r| related(*l, *r));
                        match form {
                            Form::Not => right.iter().copied().filter(|r| !has(r)).collect(),
                            Form::Right => right.iter().copied().filter(has).collect(),
                            Form::Union => {
                                let rights = right.iter().copied().filter(has);
                                rights.chain(left.iter().copied().filter(is_left)).collect()
                            }
                        }
                    }
                };
                found.sort_unstable();
                found.dedup();
                found
            }
        }
    }

    /// Whether `right` is the child, the parent and so on of `left`.
    fn related(&self, relation: Relation, left: usize, right: usize) -> bool {
        let parents = self.parents();
        let is_above = |upper: usize, lower: usize| {
            std::iter::successors(parents[lower], |at| parents[*at]).any(|at| at == upper)
        };
        match relation {
            Relation::Child => parents[right] == Some(left),
            Relation::Parent => parents[left] == Some(right),
            Relation::Descendant => is_above(left, right),
            Relation::Ancestor => is_above(right, left),
            Relation::Sibling => {
                let parent = |at: usize| self.spans[at].parent;
                left != right && parent(left) != 0 && parent(left) == parent(right)
            }
        }
    }

    /// The spans that pass all stages.
    fn run(&self, pipeline: &Pipeline) -> Vec<usize> {
        let mut spans: Vec<usize> = (0..self.spans.len()).collect();
        for stage in &pipeline.stages {
            match stage {
                Stage::Spans(expr) => spans = self.choose(expr, &spans),
                Stage::Filter { op, lhs, rhs, .. } => {
                    let numbers = (self.number(lhs, &spans), self.number(rhs, &spans));
                    let passes = match numbers {
                        (Some(a), Some(b)) => compares(*op, &Seen::Number(a), &Seen::Number(b)),
                        _ => false,
                    };
                    if !passes || spans.is_empty() {
                        return Vec::new();
                    }
                }
                other => panic!("the queries have no {other:?}"),
            }
        }
        spans
    }

    fn number(&self, expr: &ScalarExpr, spans: &[usize]) -> Option<f64> {
        match expr {
            ScalarExpr::Static(Static::Int(number) | Static::Duration(number), _) => {
                Some(*number as f64)
            }
            ScalarExpr::Static(Static::Float(number), _) => Some(*number),
            ScalarExpr::Binary { op, lhs, rhs } => {
                let (a, b) = (self.number(lhs, spans)?, self.number(rhs, spans)?);
                match op {
                    Op::Add => Some(a + b),
                    op => panic!("the queries have no {op:?}"),
                }
            }
            ScalarExpr::Aggregate {
                function: Aggregate::Count,
                ..
            } => Some(spans.len() as f64),
            ScalarExpr::Aggregate {
                function,
                field: Some(field),
                ..
            } => {
                let value = |at: &usize| {
                    let span = Cell {
                        span: *at,
                        event: None,
                    };
                    match self.value(field, span)? {
                        Seen::Number(number) => Some(number),
                        _ => None,
                    }
                };
                let numbers: Vec<f64> = spans.iter().filter_map(value).collect();
                match function {
                    Aggregate::Max => numbers.into_iter().reduce(f64::max),
                    Aggregate::Min => numbers.into_iter().reduce(f64::min),
                    Aggregate::Avg if numbers.is_empty() => None,
                    // Durations are whole.
                    Aggregate::Avg => {
                        Some((numbers.iter().sum::<f64>() / numbers.len() as f64).floor())
                    }
                    other => panic!("the queries have no {other:?}"),
                }
            }
            other => panic!("the queries have no {other:?}"),
        }
    }
}

fn compares(op: Op, a: &Seen, b: &Seen) -> bool {
    let of_list = |results: Vec<bool>| match op {
        Op::NotEqual | Op::NotMatch => !results.contains(&false),
        _ => results.contains(&true),
    };
    match (a, b) {
        (Seen::List(values), b) => {
            return of_list(values.iter().map(|value| compares(op, value, b)).collect());
        }
        (a, Seen::List(values)) => {
            return of_list(values.iter().map(|value| compares(op, a, value)).collect());
        }
        _ => {}
    }
    let order = match (a, b) {
        (Seen::Text(a), Seen::Text(b)) if matches!(op, Op::Match | Op::NotMatch) => {
            let regex = LabelRegex::with_dot(b, Dot::NotNewline).unwrap();
            return regex.is_match(a) == (op == Op::Match);
        }
        // NaN differs from every number.
        (Seen::Number(a), Seen::Number(b)) if a.is_nan() || b.is_nan() => {
            return op == Op::NotEqual;
        }
        (Seen::Number(a), Seen::Number(b)) => a.partial_cmp(b),
        (Seen::Text(a), Seen::Text(b)) => Some(a.cmp(b)),
        (Seen::Truth(a), Seen::Truth(b)) => Some(a.cmp(b)),
        (Seen::Word(a, n), Seen::Word(b, m)) if a == b => Some(n.cmp(m)),
        _ => None,
    };
    order.is_some_and(|order| match op {
        Op::Equal => order.is_eq(),
        Op::NotEqual => order.is_ne(),
        Op::Less => order.is_lt(),
        Op::LessEqual => order.is_le(),
        Op::Greater => order.is_gt(),
        Op::GreaterEqual => order.is_ge(),
        _ => false,
    })
}

/// What the evaluator finds, as [`told`] tells it.
fn expected(spans: &[Span], pipeline: &Pipeline) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    let mut traces: Vec<u8> = spans.iter().map(|span| span.trace).collect();
    traces.sort_unstable();
    traces.dedup();
    for id in traces {
        let trace = Trace {
            spans: spans.iter().filter(|span| span.trace == id).collect(),
        };
        let mut ids: Vec<u8> = trace
            .run(pipeline)
            .into_iter()
            .map(|at| trace.spans[at].id)
            .collect();
        ids.sort_unstable();
        if !ids.is_empty() {
            found.push((id, ids));
        }
    }
    found.sort();
    found
}

/// Traces with the ids of their spans that match.
fn told(found: &SearchResult) -> Vec<(u8, Vec<u8>)> {
    let trace = |trace: &TraceSummary| {
        let spans = trace.span_sets.iter().flat_map(|set| &set.spans);
        let mut ids: Vec<u8> = spans.map(|span| span.id[0]).collect();
        ids.sort_unstable();
        (trace.id[0], ids)
    };
    let mut found: Vec<(u8, Vec<u8>)> = found.traces.iter().map(trace).collect();
    found.sort();
    found
}

fn value() -> impl Strategy<Value = Value> {
    let text = |text: &str| Value::Str(text.into());
    prop::sample::select(vec![
        Value::Int(1),
        Value::Int(5),
        Value::Float(2.5),
        Value::Float(f64::NAN),
        text("x"),
        text("5"),
        text(""),
        Value::Bool(true),
        Value::Bool(false),
        Value::Array(vec![text("x"), text("y")]),
        Value::Array(vec![Value::Int(1), Value::Int(5)]),
    ])
}

fn child() -> impl Strategy<Value = Child> {
    let name = prop::sample::select(vec!["exception", "retry"]);
    let attribute = (prop::sample::select(vec!["a", "b"]), value());
    (name, prop::collection::vec(attribute, 0..3)).prop_map(|(name, attributes)| {
        let mut child = vec![(keys::EVENT_NAME, Value::Str(name.into()))];
        for (key, value) in attributes {
            if child.iter().all(|(held, _)| *held != key) {
                child.push((key, value));
            }
        }
        child
    })
}

fn span() -> impl Strategy<Value = Span> {
    let scope = prop::sample::select(vec![Scope::Span, Scope::Resource]);
    let number = prop::sample::select(vec![Value::Int(1), Value::Int(5), Value::Float(2.5)]);
    let attribute = prop_oneof![
        (scope.clone(), prop::sample::select(vec!["a", "b"]), value()),
        (scope, Just("n"), number),
    ];
    let ids = (1u8..4, 1u8..7, 0u8..9);
    let known = (0u8..6, 0u8..3, prop::sample::select(vec![0u64, 100, 2_000]));
    let name = prop::sample::select(vec!["get", "put"]);
    let attributes = prop::collection::vec(attribute, 0..4);
    let events = prop::collection::vec(child(), 0..3);
    (ids, known, name, attributes, events).prop_map(|(ids, known, name, attributes, events)| {
        let mut held: Vec<(Scope, &'static str, Value)> = Vec::new();
        for (scope, key, value) in attributes {
            if held.iter().all(|(s, k, _)| (*s, *k) != (scope, key)) {
                held.push((scope, key, value));
            }
        }
        Span {
            trace: ids.0,
            id: ids.1,
            parent: ids.2,
            name,
            kind: known.0,
            status: known.1,
            millis: known.2,
            attributes: held,
            events,
            ..Span::default()
        }
    })
}

/// Spans, each id once in a trace.
fn spans() -> impl Strategy<Value = Vec<Span>> {
    prop::collection::vec(span(), 1..14).prop_map(|mut spans| {
        spans.sort_by_key(|span| (span.trace, span.id));
        spans.dedup_by_key(|span| (span.trace, span.id));
        spans
    })
}

/// A filter, as text.
fn filter() -> impl Strategy<Value = String> {
    let attribute = prop::sample::select(vec![
        ".a",
        ".b",
        "span.a",
        "resource.a",
        "span.missing",
        ".n",
        "name",
        "kind",
        "status",
        "duration",
        "event:name",
        "event.a",
        "event.b",
        "span:childCount",
        "traceDuration",
        "rootName",
        "span:id",
        "span:parentID",
        "trace:id",
    ]);
    let literal = prop::sample::select(vec![
        "5",
        "2.5",
        "\"x\"",
        "\"5\"",
        "\"\"",
        "true",
        "false",
        "nil",
        "client",
        "error",
        "1s",
        "1",
        "0",
        "-1",
        "\"get\"",
        "\"exception\"",
        "\"0202020202020202\"",
        "\"2020202020202020202020202020202\"",
    ]);
    let op = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">=", "=", "!="]);
    let comparison = (attribute.clone(), op, literal, any::<bool>()).prop_map(
        |(a, op, l, turned)| match turned {
            true => format!("{l} {op} {a}"),
            false => format!("{a} {op} {l}"),
        },
    );
    let pattern = prop::sample::select(vec!["x", "[xg].*", "exc.+", ""]);
    let text = prop::sample::select(vec![".a", "event.a", "event:name", "name", "rootName"]);
    let matched = (text, prop::sample::select(vec!["=~", "!~"]), pattern)
        .prop_map(|(a, op, pattern)| format!("{a} {op} `{pattern}`"));
    let computed = prop::sample::select(vec![
        ".n + 1 > 3",
        ".n * 2 = span:childCount + 5",
        "-.n < -2",
        ".a = .b",
        "span.n = resource.n",
        "event.a = .n",
        "event.a != event.b",
        "nestedSetParent < 0",
        "nestedSetParent = -1",
        "-1 != nestedSetParent",
        "0 <= nestedSetParent",
        "nestedSetParent > 0 && nestedSetParent < 0",
    ]);
    let leaf = prop_oneof![
        8 => comparison,
        2 => matched,
        1 => computed.prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let both = prop::sample::select(vec!["&&", "&&", "||"]);
        prop_oneof![
            4 => (inner.clone(), both, inner.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => inner.prop_map(|a| format!("({a}) = false")),
        ]
    })
}

/// A search, as text.
fn query() -> impl Strategy<Value = String> {
    let filter = || filter().prop_map(|filter| format!("{{ {filter} }}"));
    let relation = prop::sample::select(vec![
        ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<", "&<<", "&~",
        "&&", "||",
    ]);
    let some = prop_oneof![2 => filter(), 1 => Just("{ }".to_owned())];
    let pair = (some.clone(), relation.clone(), some.clone())
        .prop_map(|(a, op, b)| format!("({a} {op} {b})"));
    let three =
        (pair.clone(), relation, some.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}"));
    let sets = prop_oneof![2 => some, 3 => pair, 1 => three];
    let then = prop::sample::select(vec![
        "",
        "",
        "| count() > 1",
        "| count() = 2",
        "| 3 > count()",
        "| count() >= 1",
        "| count() != 2",
        "| max(duration) > 1s",
        "| min(duration) <= 100ms",
        "| avg(duration) >= 100ms",
        "| max(.n) >= 2.5",
        "| count() + count() > 3",
        "| max(.n) > min(.n)",
        "| { .n > 1 }",
        "| { event.a != nil } | count() > 1",
    ]);
    (sets, then).prop_map(|(sets, then)| format!("{sets} {then}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn searches_find_what_a_naive_reader_finds(
        spans in spans(),
        queries in prop::collection::vec(query(), 4),
    ) {
        let store = store_of(&spans);
        let snapshot = store.snapshot();
        for text in queries {
            // What makes no sense by its types is refused, and that is tested elsewhere.
            let Ok(query) = parse(&text) else { continue };
            let expected = expected(&spans, query.search().unwrap());
            let found = search(&snapshot, &text).map(|found| told(&found));
            // Two lists that meet fail a query, which the reader does not know.
            if found.as_ref().is_err_and(|error| error.starts_with("arrays cannot be compared")) {
                continue;
            }
            prop_assert_eq!(found, Ok(expected), "{}", query);
        }
    }
}
