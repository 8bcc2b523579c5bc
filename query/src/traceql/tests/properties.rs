//! Random queries: the engine agrees with a model that looks at one span at a time, what a source
//! may skip is never wanted, and any text is parsed or refused.

use proptest::prelude::*;

use super::memory::{Conditions, Span};
use super::*;
use crate::traceql::ast::{Attribute, FieldExpr, Intrinsic, Op, SpansetExpr, Stage, Static};

/// Random filters over the attributes of the spans, as text.
pub(super) fn span_filter() -> impl Strategy<Value = String> {
    filter_of(OF_SPANS.to_vec())
}

/// And over what is known of traces.
pub(super) fn filter() -> impl Strategy<Value = String> {
    let mut attributes = OF_SPANS.to_vec();
    attributes.extend([
        "rootName",
        "rootServiceName",
        "traceDuration",
        "nestedSetParent",
        "span:childCount",
    ]);
    filter_of(attributes)
}

const OF_SPANS: [&str; 12] = [
    ".n",
    "span.n",
    ".cached",
    ".region",
    "resource.service.name",
    "name",
    ".tags",
    ".ints",
    ".missing",
    "kind",
    "status",
    "duration",
];

fn filter_of(attributes: Vec<&'static str>) -> impl Strategy<Value = String> {
    let attribute = prop::sample::select(attributes);
    let literal = prop::sample::select(vec![
        "5", "2.5", "\"5\"", "\"x\"", "\"shop\"", "\"eu\"", "true", "nil", "client", "error", "1s",
        "3",
    ]);
    let op = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let leaf = (attribute, op, literal, any::<bool>()).prop_map(|(a, op, l, turned)| {
        if turned {
            format!("{l} {op} {a}")
        } else {
            format!("{a} {op} {l}")
        }
    });
    leaf.prop_recursive(3, 8, 2, |inner| {
        let both = prop::sample::select(vec!["&&", "||"]);
        prop_oneof![
            (inner.clone(), both, inner.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

/// A value of the model; `None` is nil. Numbers of every kind are floats: those of the test are
/// small enough.
#[derive(Debug, Clone, PartialEq)]
enum Model {
    Number(f64),
    Text(String),
    Truth(bool),
    Word(&'static str, u8),
    List(Vec<Model>),
}

fn of_value(value: &Value) -> Model {
    match value {
        Value::Str(text) => Model::Text(text.to_string()),
        Value::Int(number) => Model::Number(*number as f64),
        Value::Float(number) => Model::Number(*number),
        Value::Bool(truth) => Model::Truth(*truth),
        Value::Array(values) => Model::List(values.iter().map(of_value).collect()),
    }
}

fn of_span(span: &Span, expr: &FieldExpr) -> Option<Model> {
    Some(match expr {
        FieldExpr::Static(value, _) => match value {
            Static::Nil => return None,
            Static::Bool(truth) => Model::Truth(*truth),
            Static::Int(number) | Static::Duration(number) => Model::Number(*number as f64),
            Static::Float(number) => Model::Number(*number),
            Static::Str(text) => Model::Text(text.to_string()),
            Static::Status(number) => Model::Word("status", *number),
            Static::Kind(number) => Model::Word("kind", *number),
        },
        FieldExpr::Attribute(Attribute::Named { scope, key, .. }, _) => {
            of_value(&span.attribute(*scope, key)?)
        }
        FieldExpr::Attribute(Attribute::Intrinsic(intrinsic), _) => match intrinsic {
            Intrinsic::Name => Model::Text(span.name.into()),
            Intrinsic::Kind => Model::Word("kind", span.kind),
            Intrinsic::Status => Model::Word("status", span.status),
            Intrinsic::Duration => Model::Number(span.nanoseconds() as f64),
            other => panic!("the filters have no {other:?}"),
        },
        FieldExpr::Not(inner, _) => Model::Truth(of_span(span, inner) != Some(Model::Truth(true))),
        FieldExpr::Binary { op, lhs, rhs, .. } => {
            let is_nil = |expr: &FieldExpr| matches!(expr, FieldExpr::Static(Static::Nil, _));
            let (left, right) = (of_span(span, lhs), of_span(span, rhs));
            let truth = |side: &Option<Model>| *side == Some(Model::Truth(true));
            Model::Truth(match op {
                Op::And => truth(&left) && truth(&right),
                Op::Or => truth(&left) || truth(&right),
                Op::Equal if is_nil(rhs) => left.is_none(),
                Op::Equal if is_nil(lhs) => right.is_none(),
                Op::NotEqual if is_nil(rhs) => left.is_some(),
                Op::NotEqual if is_nil(lhs) => right.is_some(),
                _ => left.zip(right).is_some_and(|(a, b)| compares(*op, &a, &b)),
            })
        }
        FieldExpr::Negate(..) => panic!("the filters have no signs"),
    })
}

/// Whether an expression is true of a span.
pub(super) fn satisfies(span: &Span, expr: &FieldExpr) -> bool {
    of_span(span, expr) == Some(Model::Truth(true))
}

fn compares(op: Op, a: &Model, b: &Model) -> bool {
    let of_list = |results: Vec<bool>| match op {
        Op::NotEqual => !results.contains(&false),
        _ => results.contains(&true),
    };
    let order = match (a, b) {
        (Model::List(values), b) => {
            return of_list(values.iter().map(|value| compares(op, value, b)).collect());
        }
        (a, Model::List(values)) => {
            return of_list(values.iter().map(|value| compares(op, a, value)).collect());
        }
        (Model::Number(a), Model::Number(b)) => a.partial_cmp(b),
        (Model::Text(a), Model::Text(b)) => Some(a.cmp(b)),
        (Model::Truth(a), Model::Truth(b)) => Some(a.cmp(b)),
        (Model::Word(a, n), Model::Word(b, m)) if a == b => Some(n.cmp(m)),
        _ => None,
    };
    order.is_some_and(|order| match op {
        Op::Equal => order.is_eq(),
        Op::NotEqual => order.is_ne(),
        Op::Less => order.is_lt(),
        Op::LessEqual => order.is_le(),
        Op::Greater => order.is_gt(),
        Op::GreaterEqual => order.is_ge(),
        other => panic!("{other:?} compares nothing"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Columns and codes give what looking at one span after the other gives.
    #[test]
    fn filters_agree_with_the_model(filter in span_filter()) {
        // What makes no sense by its types is refused, and that is tested elsewhere.
        let Ok(query) = parse(&format!("{{ {filter} }}")) else { return Ok(()) };
        let stages = query.search().map_or(&[][..], |pipeline| &pipeline.stages[..]);
        let [Stage::Spans(SpansetExpr::Filter(Some(expr), _))] = stages else {
            panic!("{query} is not one filter");
        };
        let spans = shop();
        let expected = |trace: u8| {
            let matching = spans.iter().filter(|span| span.trace == trace);
            let matching = matching.filter(|span| satisfies(span, expr));
            matching.map(|span| span.name).collect::<Vec<_>>().join(" ")
        };
        let expected: Vec<String> =
            [2, 1].into_iter().map(expected).filter(|names| !names.is_empty()).collect();
        let found = search(&memory(Conditions::Ignored), &query.to_string());
        prop_assert_eq!(found.map(|found| names(&found)), Ok(expected.join("|")), "{}", query);
    }

    /// What a source skips is never what the query wants.
    #[test]
    fn conditions_lose_nothing(
        left in filter(),
        right in filter(),
        op in "&&|\\|\\||>|>>|<|<<|!>|!<<|&>|&<|~|!~",
    ) {
        for query in [format!("{{ {left} }}"), format!("{{ {left} }} {op} {{ {right} }}")] {
            let found = search(&memory(Conditions::Applied), &query).map(|found| found.traces);
            let all = search(&memory(Conditions::Ignored), &query).map(|found| found.traces);
            prop_assert_eq!(found, all, "{}", query);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
        if let Ok(query) = parse(&text) {
            prop_assert_eq!(parse(&query.to_string()).map(|q| q.to_string()), Ok(query.to_string()));
        }
    }

    /// Text made of the words of the language gets further than any text.
    #[test]
    fn any_words_are_parsed_or_refused(words in prop::collection::vec(prop::sample::select(WORDS), 0..20)) {
        for glue in [" ", ""] {
            let text = words.join(glue);
            if let Ok(query) = parse(&text) {
                let printed = query.to_string();
                let again = parse(&printed).map(|query| query.to_string());
                prop_assert_eq!(again, Ok(printed), "{}", text);
            }
        }
    }
}

const WORDS: &[&str] = &[
    "{",
    "}",
    "(",
    ")",
    "{",
    "}",
    "(",
    ")",
    "|",
    "&&",
    "||",
    "=",
    "!=",
    ">",
    ">>",
    "!~",
    "=~",
    "!",
    "-",
    "+",
    "*",
    "^",
    ",",
    ".a",
    "span.\"b c\"",
    "name",
    "1",
    "2.5",
    "1s",
    "`x`",
    "nil",
    "true",
    "error",
    "count()",
    "max(.a)",
    "by(.a)",
    "select(.a)",
    "coalesce()",
    "rate()",
    "topk(2)",
    "quantile_over_time(.a, 0.5)",
    "compare({ .a })",
    "by",
    "with(a=1)",
    "// x\n",
    "/* y */",
];
