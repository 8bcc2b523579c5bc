//! What a store may use to skip traces: a filter that every trace of the answer satisfies.
//!
//! Sound, and as narrow as a store can be asked: what is not certain is left out, and the engine applies
//! the whole query to what comes back. A missing attribute makes every comparison false, so each of them
//! also says that the attribute is there, and `!` of one holds for spans without it. Where a condition
//! says all that an expression says it is *exact*: then its opposite is known as well, and spans can be
//! counted by it.

use trine_storage::regex::{Dot, LabelRegex};

use super::ast::{
    Aggregate, Attribute, FieldExpr, Form, Intrinsic, Op, Pipeline, Relation, ScalarExpr,
    SpansetExpr, SpansetOp, Stage, Static,
};
use super::source::{self, AttributeRef, Condition, Filter, Scope, Test, TraceFilter, Value};

/// What a trace of the answer has.
pub fn filter(pipeline: &Pipeline) -> TraceFilter {
    let mut found: Vec<TraceFilter> = Vec::new();
    // How many of them say nothing but that some span passes the filters so far.
    let mut said = 0;
    // What spans of a set satisfy after the stages so far.
    let mut spans = Lowered::everything();
    let mut is_one_set = true;
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(expr) => {
                if matches!(expr, SpansetExpr::Filter(..)) && said == found.len() {
                    said += 1;
                }
                found.push(spanset(expr));
                spans = both(vec![spans, of_spans(expr).apart()]);
            }
            Stage::Filter { op, lhs, rhs, .. } => {
                let filter = comparison_of_sets(*op, lhs, rhs, &spans, is_one_set);
                if matches!(filter, TraceFilter::Has(_) | TraceFilter::Count { .. }) {
                    found.drain(..said);
                    said = 0;
                }
                found.push(filter);
            }
            Stage::By(_) => is_one_set = false,
            Stage::Coalesce | Stage::Select(_) => {}
        }
    }
    all(found)
}

/// What exactly the spans satisfy that a pipeline chooses, if a store can be asked that: then it can
/// count them, and need not hand them over.
pub fn exact(pipeline: &Pipeline) -> Option<Filter> {
    exact_pipeline(pipeline)
        .filter(|spans| spans.is_exact)
        .map(|spans| spans.filter)
}

fn exact_pipeline(pipeline: &Pipeline) -> Option<Lowered> {
    let mut spans = Vec::new();
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(expr) => spans.push(exact_spanset(expr)?.apart()),
            // These neither drop spans nor add any.
            Stage::By(_) | Stage::Coalesce | Stage::Select(_) => {}
            Stage::Filter { .. } => return None,
        }
    }
    Some(both(spans))
}

fn exact_spanset(expr: &SpansetExpr) -> Option<Lowered> {
    match expr {
        SpansetExpr::Filter(expr, _) => {
            Some(expr.as_ref().map_or_else(Lowered::everything, condition))
        }
        SpansetExpr::Pipeline(inner) => exact_pipeline(inner),
        SpansetExpr::Binary {
            op: SpansetOp::Or,
            lhs,
            rhs,
            ..
        } => Some(either(vec![exact_spanset(lhs)?, exact_spanset(rhs)?])),
        // The others ask about whole traces.
        SpansetExpr::Binary { .. } => None,
    }
}

/// What a span satisfies for which an expression is true.
pub fn of_expression(expr: &FieldExpr) -> Filter {
    condition(expr).filter
}

/// What spans satisfy.
#[derive(Debug, Clone)]
struct Lowered {
    /// Without parts ([`Filter::And`]) nothing.
    filter: Filter,
    /// Whether all spans that satisfy it are wanted.
    is_exact: bool,
    /// Whether it is about one event, or one link, of the span.
    below: Below,
}

/// The tables below a span that a filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Nothing,
    /// Only one of them, and nothing else.
    Only(Scope),
    /// Other things, too.
    Mixed,
}

impl Lowered {
    fn everything() -> Self {
        Self::exact(Filter::And(Vec::new()))
    }

    /// Nothing is certain.
    fn unknown() -> Self {
        Self {
            is_exact: false,
            ..Self::everything()
        }
    }

    fn nothing() -> Self {
        Self::exact(Filter::Or(Vec::new()))
    }

    fn exact(filter: Filter) -> Self {
        Self {
            filter,
            is_exact: true,
            below: Below::Nothing,
        }
    }

    fn is(attribute: AttributeRef, test: Test) -> Self {
        let below = match &attribute {
            AttributeRef::Attribute {
                scope: Some(scope @ (Scope::Event | Scope::Link)),
                ..
            } if !matches!(test, Test::Missing) => Below::Only(*scope),
            _ => Below::Nothing,
        };
        Self {
            below,
            ..Self::exact(Filter::Is(Condition { attribute, test }))
        }
    }

    /// The same, or fewer spans.
    fn at_most(self) -> Self {
        Self {
            is_exact: false,
            ..self
        }
    }

    /// The same beside others without being asked of the same event as they are.
    fn apart(self) -> Self {
        match self.below {
            Below::Nothing => self,
            // The store joins nothing below this.
            _ => Self {
                filter: Filter::Not(Box::new(Filter::Not(Box::new(self.filter)))),
                is_exact: self.is_exact,
                below: Below::Nothing,
            },
        }
    }

    fn is_everything(&self) -> bool {
        matches!(&self.filter, Filter::And(of) if of.is_empty())
    }
}

/// All of these.
fn both(of: Vec<Lowered>) -> Lowered {
    let is_exact = of.iter().all(|lowered| lowered.is_exact);
    // Parts about events must hold for one event together. The store joins those that are about nothing
    // else; what is beside them is asked for any event.
    let about = of.iter().filter(|lowered| lowered.below != Below::Nothing);
    let about: Vec<Below> = about.map(|lowered| lowered.below).collect();
    let joined = about.len() < 2 || !about.contains(&Below::Mixed);
    let below = match about.as_slice() {
        [] => Below::Nothing,
        [first, rest @ ..] if about.len() == of.len() && rest.iter().all(|b| b == first) => *first,
        _ => Below::Mixed,
    };
    let mut parts: Vec<Filter> = Vec::new();
    for lowered in of {
        match lowered.filter {
            Filter::And(of) => parts.extend(of),
            filter => parts.push(filter),
        }
    }
    let parts = join(parts, &|test| match test {
        Test::NotEqual(values) => Some(values),
        _ => None,
    });
    Lowered {
        filter: one_or(parts, Filter::And),
        is_exact: is_exact && joined,
        below,
    }
}

/// One of these.
fn either(of: Vec<Lowered>) -> Lowered {
    if of.iter().any(Lowered::is_everything) {
        let is_exact = of.iter().any(|of| of.is_everything() && of.is_exact);
        return match is_exact {
            true => Lowered::everything(),
            false => Lowered::unknown(),
        };
    }
    let is_exact = of.iter().all(|lowered| lowered.is_exact);
    let below = match of.first().map(|first| first.below) {
        Some(first) if of.iter().all(|lowered| lowered.below == first) => first,
        _ => Below::Mixed,
    };
    let mut parts: Vec<Filter> = Vec::new();
    for lowered in of {
        match lowered.filter {
            Filter::Or(of) => parts.extend(of),
            filter => parts.push(filter),
        }
    }
    let parts = join(parts, &|test| match test {
        Test::Equal(values) => Some(values),
        _ => None,
    });
    Lowered {
        filter: one_or(parts, Filter::Or),
        is_exact,
        below,
    }
}

/// Not this. Nothing is known of what is only known in part.
fn not(of: Lowered) -> Lowered {
    match of.filter {
        _ if !of.is_exact => Lowered::unknown(),
        filter => Lowered::exact(match filter {
            Filter::And(of) if of.is_empty() => Filter::Or(of),
            Filter::Or(of) if of.is_empty() => Filter::And(of),
            filter => Filter::Not(Box::new(filter)),
        }),
    }
}

fn one_or(mut parts: Vec<Filter>, make: fn(Vec<Filter>) -> Filter) -> Filter {
    match parts.len() {
        1 => parts.remove(0),
        _ => make(parts),
    }
}

/// Makes one test of those of one attribute that list values.
fn join(
    parts: Vec<Filter>,
    values_of: &dyn Fn(&mut Test) -> Option<&mut Vec<Value>>,
) -> Vec<Filter> {
    let mut joined: Vec<Filter> = Vec::new();
    for mut part in parts {
        if let Filter::Is(Condition { attribute, test }) = &mut part
            && let Some(values) = values_of(test)
        {
            let same = joined.iter_mut().find_map(|held| match held {
                Filter::Is(held) if held.attribute == *attribute => values_of(&mut held.test),
                _ => None,
            });
            if let Some(held) = same {
                held.append(values);
                continue;
            }
        }
        joined.push(part);
    }
    joined
}

fn all(mut filters: Vec<TraceFilter>) -> TraceFilter {
    filters.retain(|filter| !matches!(filter, TraceFilter::All));
    match filters.len() {
        0 => TraceFilter::All,
        1 => filters.remove(0),
        _ => TraceFilter::And(filters),
    }
}

fn any(mut filters: Vec<TraceFilter>) -> TraceFilter {
    if filters
        .iter()
        .any(|filter| matches!(filter, TraceFilter::All))
    {
        return TraceFilter::All;
    }
    match filters.len() {
        1 => filters.remove(0),
        _ => TraceFilter::Or(filters),
    }
}

fn has(spans: Lowered) -> TraceFilter {
    match spans.is_everything() {
        true => TraceFilter::All,
        false => TraceFilter::Has(spans.filter),
    }
}

/// What a trace has of which an expression over sets chooses spans.
fn spanset(expr: &SpansetExpr) -> TraceFilter {
    match expr {
        SpansetExpr::Filter(..) => has(of_spans(expr)),
        SpansetExpr::Pipeline(inner) => filter(inner),
        SpansetExpr::Binary { op, lhs, rhs, .. } => match op {
            SpansetOp::Or => any(vec![spanset(lhs), spanset(rhs)]),
            SpansetOp::And => all(vec![spanset(lhs), spanset(rhs)]),
            // Without a left span no right one is related to it, which is what this form asks for.
            SpansetOp::Structural(_, Form::Not) => spanset(rhs),
            SpansetOp::Structural(relation, _) => {
                let (left, right) = (of_spans(lhs).filter, of_spans(rhs).filter);
                let (relation, above, below) = match relation {
                    Relation::Child => (source::Relation::Child, left, right),
                    Relation::Parent => (source::Relation::Child, right, left),
                    Relation::Descendant => (source::Relation::Descendant, left, right),
                    Relation::Ancestor => (source::Relation::Descendant, right, left),
                    Relation::Sibling => (source::Relation::Sibling, left, right),
                };
                let mut found = vec![TraceFilter::Related {
                    relation,
                    above,
                    below,
                }];
                // Sides that are more than a filter may ask for more.
                for side in [lhs, rhs] {
                    if !matches!(**side, SpansetExpr::Filter(..)) {
                        found.push(spanset(side));
                    }
                }
                all(found)
            }
        },
    }
}

/// What the spans satisfy that an expression over sets chooses.
fn of_spans(expr: &SpansetExpr) -> Lowered {
    match expr {
        SpansetExpr::Filter(expr, _) => expr.as_ref().map_or_else(Lowered::everything, condition),
        SpansetExpr::Pipeline(inner) => {
            let stages = inner.stages.iter().filter_map(|stage| match stage {
                Stage::Spans(expr) => Some(of_spans(expr).apart()),
                _ => None,
            });
            both(stages.collect()).at_most()
        }
        SpansetExpr::Binary { op, lhs, rhs, .. } => match op {
            SpansetOp::Structural(_, Form::Right | Form::Not) => of_spans(rhs).at_most(),
            SpansetOp::And | SpansetOp::Or | SpansetOp::Structural(_, Form::Union) => {
                either(vec![of_spans(lhs), of_spans(rhs)]).at_most()
            }
        },
    }
}

/// What a trace has one of whose sets passes a comparison of numbers about it, when the spans of its
/// sets satisfy `spans`.
fn comparison_of_sets(
    op: Op,
    lhs: &ScalarExpr,
    rhs: &ScalarExpr,
    spans: &Lowered,
    is_one_set: bool,
) -> TraceFilter {
    if lhs.has_pipeline() || rhs.has_pipeline() {
        let mut pipelines = Vec::new();
        pipelines_of(lhs, &mut pipelines);
        pipelines_of(rhs, &mut pipelines);
        return any(pipelines.into_iter().map(filter).collect());
    }
    let (op, function, field, value) = match (lhs, rhs) {
        (
            ScalarExpr::Aggregate {
                function, field, ..
            },
            ScalarExpr::Static(value, _),
        ) => (op, *function, field, value),
        (
            ScalarExpr::Static(value, _),
            ScalarExpr::Aggregate {
                function, field, ..
            },
        ) => (flip(op), *function, field, value),
        _ => return TraceFilter::All,
    };
    match (function, field, value) {
        (Aggregate::Count, _, Static::Int(number)) => {
            let Some((least, most)) = counts(op, *number) else {
                return TraceFilter::Or(Vec::new());
            };
            // Of spans of which only some count there may be more.
            let most = if spans.is_exact && is_one_set {
                most
            } else {
                u64::MAX
            };
            match (least, most) {
                (..=1, u64::MAX) => TraceFilter::All,
                _ => TraceFilter::Count {
                    filter: spans.filter.clone(),
                    least,
                    most,
                },
            }
        }
        // The greatest is that of some span, and no average is above all spans'.
        (Aggregate::Max, Some(FieldExpr::Attribute(attribute, _)), value)
            if matches!(op, Op::Greater | Op::GreaterEqual) =>
        {
            has(both(vec![
                spans.clone(),
                comparison(attribute, op, value).apart(),
            ]))
        }
        (Aggregate::Min, Some(FieldExpr::Attribute(attribute, _)), value)
            if matches!(op, Op::Less | Op::LessEqual) =>
        {
            has(both(vec![
                spans.clone(),
                comparison(attribute, op, value).apart(),
            ]))
        }
        (
            Aggregate::Avg,
            Some(FieldExpr::Attribute(
                attribute @ Attribute::Intrinsic(Intrinsic::Duration | Intrinsic::TraceDuration),
                _,
            )),
            value,
        ) if matches!(op, Op::Greater | Op::GreaterEqual) => has(both(vec![
            spans.clone(),
            comparison(attribute, op, value).apart(),
        ])),
        _ => TraceFilter::All,
    }
}

fn pipelines_of<'e>(expr: &'e ScalarExpr, found: &mut Vec<&'e Pipeline>) {
    match expr {
        ScalarExpr::Static(..) | ScalarExpr::Aggregate { .. } => {}
        ScalarExpr::Binary { lhs, rhs, .. } => {
            pipelines_of(lhs, found);
            pipelines_of(rhs, found);
        }
        ScalarExpr::Of(pipeline, ..) => found.push(pipeline),
    }
}

/// The counts of one or more for which `count op number` holds, or a range around them; none when there
/// are none.
fn counts(op: Op, number: i64) -> Option<(u64, u64)> {
    let (least, most) = match op {
        Op::Equal => (number, number),
        Op::Greater => (number.saturating_add(1), i64::MAX),
        Op::GreaterEqual => (number, i64::MAX),
        Op::Less => (1, number.saturating_sub(1)),
        Op::LessEqual => (1, number),
        _ => (1, i64::MAX),
    };
    let least = u64::try_from(least.max(1)).unwrap_or(1);
    let most = match most {
        i64::MAX => u64::MAX,
        most => u64::try_from(most).ok()?,
    };
    (least <= most).then_some((least, most))
}

/// What a span satisfies for which the expression is true.
fn condition(expr: &FieldExpr) -> Lowered {
    match expr {
        FieldExpr::Static(Static::Bool(true), _) => Lowered::everything(),
        FieldExpr::Static(..) => Lowered::nothing(),
        FieldExpr::Attribute(attribute, _) => {
            // An array may have it, but is not true.
            comparison(attribute, Op::Equal, &Static::Bool(true)).at_most()
        }
        FieldExpr::Not(inner, _) if is_truth(inner) => not(condition(inner)),
        FieldExpr::Not(..) | FieldExpr::Negate(..) => Lowered::unknown(),
        FieldExpr::Binary { op, lhs, rhs, .. } => match op {
            Op::Or => either(vec![condition(lhs), condition(rhs)]),
            Op::And => {
                let mut parts = Vec::new();
                expr.conjuncts(&mut parts);
                both(parts.into_iter().map(condition).collect())
            }
            op if op.is_comparison() => match (&**lhs, &**rhs) {
                (FieldExpr::Attribute(attribute, _), FieldExpr::Static(value, _)) => {
                    comparison(attribute, *op, value)
                }
                (FieldExpr::Static(value, _), FieldExpr::Attribute(attribute, _)) => {
                    comparison(attribute, flip(*op), value)
                }
                (truth, FieldExpr::Static(Static::Bool(wanted), _))
                | (FieldExpr::Static(Static::Bool(wanted), _), truth)
                    if is_truth(truth) && matches!(op, Op::Equal | Op::NotEqual) =>
                {
                    match *wanted == (*op == Op::Equal) {
                        true => condition(truth),
                        // What events do is said by some event, here as well.
                        false if is_about_spans(truth) => not(condition(truth)),
                        false => Lowered::unknown(),
                    }
                }
                // What is compared must be there.
                (lhs, rhs) if !is_nil(lhs) && !is_nil(rhs) => {
                    both(vec![needed(lhs), needed(rhs)]).at_most()
                }
                _ => Lowered::unknown(),
            },
            _ => Lowered::unknown(),
        },
    }
}

/// Whether the value is always true or false.
fn is_truth(expr: &FieldExpr) -> bool {
    match expr {
        FieldExpr::Static(Static::Bool(_), _) => true,
        FieldExpr::Not(inner, _) => is_truth(inner),
        FieldExpr::Binary { op, .. } => !op.is_arithmetic(),
        _ => false,
    }
}

/// Whether no part is about events or links.
fn is_about_spans(expr: &FieldExpr) -> bool {
    let mut is_so = true;
    expr.attributes(&mut |attribute| {
        is_so &= !matches!(
            column(attribute),
            Some(AttributeRef::Attribute {
                scope: Some(Scope::Event | Scope::Link),
                ..
            })
        );
    });
    is_so
}

fn is_nil(expr: &FieldExpr) -> bool {
    matches!(expr, FieldExpr::Static(Static::Nil, _))
}

/// What must be there for an expression to have a value.
fn needed(expr: &FieldExpr) -> Lowered {
    match expr {
        FieldExpr::Attribute(attribute, _) => match reference(attribute) {
            Some(attribute @ AttributeRef::Attribute { .. }) => {
                Lowered::is(attribute, Test::Exists)
            }
            _ => Lowered::unknown(),
        },
        FieldExpr::Negate(inner, _) => needed(inner),
        FieldExpr::Binary { op, lhs, rhs, .. } if op.is_arithmetic() => {
            both(vec![needed(lhs), needed(rhs)])
        }
        _ => Lowered::unknown(),
    }
}

fn flip(op: Op) -> Op {
    match op {
        Op::Less => Op::Greater,
        Op::LessEqual => Op::GreaterEqual,
        Op::Greater => Op::Less,
        Op::GreaterEqual => Op::LessEqual,
        op => op,
    }
}

fn comparison(attribute: &Attribute, op: Op, value: &Static) -> Lowered {
    if *attribute == Attribute::Intrinsic(Intrinsic::NestedSetParent) {
        return root(op, value);
    }
    let Some(attribute) = reference(attribute) else {
        return Lowered::unknown();
    };
    let is_named = matches!(attribute, AttributeRef::Attribute { .. });
    if *value == Static::Nil {
        return match op {
            Op::NotEqual if is_named => Lowered::is(attribute, Test::Exists),
            Op::Equal if is_named => Lowered::is(attribute, Test::Missing),
            // Intrinsics always are.
            Op::NotEqual => Lowered::everything(),
            _ => Lowered::nothing(),
        };
    }
    if let (Op::Match | Op::NotMatch, Static::Str(pattern)) = (op, value) {
        let test = LabelRegex::with_dot(pattern, Dot::NotNewline).ok();
        let test = test.map(|regex| match op {
            Op::Match => Test::Matches(regex),
            _ => Test::NotMatches(regex),
        });
        return match test {
            Some(test) => Lowered::is(attribute, test),
            None => Lowered::unknown(),
        };
    }
    let value = match (&attribute, value) {
        (AttributeRef::Intrinsic(source::Intrinsic::Status), Static::Status(number))
        | (AttributeRef::Intrinsic(source::Intrinsic::Kind), Static::Kind(number)) => {
            Value::Int((*number).into())
        }
        // Types that cannot meet make every comparison false.
        (_, Static::Status(_) | Static::Kind(_) | Static::Nil)
        | (AttributeRef::Intrinsic(source::Intrinsic::Status | source::Intrinsic::Kind), _) => {
            return Lowered::nothing();
        }
        (AttributeRef::Intrinsic(source::Intrinsic::TraceId), Static::Str(text))
            if text.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            // Literals may lack leading zeros.
            Value::Str(format!("{:0>32}", text.to_ascii_lowercase()).into())
        }
        (_, Static::Bool(truth)) => Value::Bool(*truth),
        (_, Static::Int(number) | Static::Duration(number)) => Value::Int(*number),
        (_, Static::Float(number)) => Value::Float(*number),
        (_, Static::Str(text)) => Value::Str(text.clone()),
    };
    let test = match op {
        Op::Equal => Test::Equal(vec![value]),
        Op::NotEqual => Test::NotEqual(vec![value]),
        Op::Less => Test::Less(value),
        Op::LessEqual => Test::LessEqual(value),
        Op::Greater => Test::Greater(value),
        Op::GreaterEqual => Test::GreaterEqual(value),
        // A pattern that is no text.
        _ => return Lowered::unknown(),
    };
    Lowered::is(attribute, test)
}

/// Comparisons with `nestedSetParent` that only roots satisfy, or none of them: it is -1 for these and
/// not below 0 for others.
fn root(op: Op, value: &Static) -> Lowered {
    let Static::Int(number) = value else {
        return Lowered::unknown();
    };
    let wanted = match (op, number) {
        (Op::Less, ..=-1) | (Op::LessEqual, ..=-2) => return Lowered::nothing(),
        (Op::Less, 0) | (Op::LessEqual | Op::Equal, -1) => true,
        (Op::Greater | Op::NotEqual, -1) | (Op::GreaterEqual, 0) => false,
        (Op::Greater, 0..) | (Op::GreaterEqual, 1..) | (Op::Equal, 0..) => {
            return is_root(false).at_most();
        }
        _ => return Lowered::unknown(),
    };
    is_root(wanted)
}

fn is_root(truth: bool) -> Lowered {
    let attribute = AttributeRef::Intrinsic(source::Intrinsic::IsRoot);
    Lowered::is(attribute, Test::Equal(vec![Value::Bool(truth)]))
}

/// What a store calls the attribute, if a condition can be about it.
pub(super) fn reference(attribute: &Attribute) -> Option<AttributeRef> {
    let intrinsic = match attribute {
        Attribute::Named { parent: true, .. } => return None,
        Attribute::Intrinsic(Intrinsic::Duration) => source::Intrinsic::Duration,
        Attribute::Intrinsic(Intrinsic::Name) => source::Intrinsic::Name,
        Attribute::Intrinsic(Intrinsic::Status) => source::Intrinsic::Status,
        Attribute::Intrinsic(Intrinsic::StatusMessage) => source::Intrinsic::StatusMessage,
        Attribute::Intrinsic(Intrinsic::Kind) => source::Intrinsic::Kind,
        Attribute::Intrinsic(Intrinsic::SpanId) => source::Intrinsic::SpanId,
        Attribute::Intrinsic(Intrinsic::ParentId) => source::Intrinsic::ParentId,
        Attribute::Intrinsic(Intrinsic::ChildCount) => source::Intrinsic::ChildCount,
        Attribute::Intrinsic(Intrinsic::TraceId) => source::Intrinsic::TraceId,
        Attribute::Intrinsic(Intrinsic::TraceDuration) => source::Intrinsic::TraceDuration,
        Attribute::Intrinsic(Intrinsic::TraceRootName) => source::Intrinsic::RootName,
        Attribute::Intrinsic(Intrinsic::TraceRootService) => source::Intrinsic::RootServiceName,
        _ => return column(attribute),
    };
    Some(AttributeRef::Intrinsic(intrinsic))
}

/// The column that an attribute is read from, if it is not one that every batch has.
pub(super) fn column(attribute: &Attribute) -> Option<AttributeRef> {
    use source::keys;
    let named = |scope, key: &str| {
        Some(AttributeRef::Attribute {
            scope: Some(scope),
            key: key.to_owned(),
        })
    };
    match attribute {
        Attribute::Named { scope, key, .. } => Some(AttributeRef::Attribute {
            scope: *scope,
            key: key.to_string(),
        }),
        Attribute::Intrinsic(Intrinsic::EventName) => named(Scope::Event, keys::EVENT_NAME),
        Attribute::Intrinsic(Intrinsic::EventTimeSinceStart) => {
            named(Scope::Event, keys::EVENT_TIME_SINCE_START)
        }
        Attribute::Intrinsic(Intrinsic::LinkTraceId) => named(Scope::Link, keys::LINK_TRACE_ID),
        Attribute::Intrinsic(Intrinsic::LinkSpanId) => named(Scope::Link, keys::LINK_SPAN_ID),
        Attribute::Intrinsic(Intrinsic::InstrumentationName) => {
            named(Scope::Instrumentation, keys::INSTRUMENTATION_NAME)
        }
        Attribute::Intrinsic(Intrinsic::InstrumentationVersion) => {
            named(Scope::Instrumentation, keys::INSTRUMENTATION_VERSION)
        }
        Attribute::Intrinsic(_) => None,
    }
}
