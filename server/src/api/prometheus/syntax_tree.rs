//! A query as a tree in JSON, in the shape that Prometheus' own web pages read. `query` calls it for
//! `parse_query`.

use trine_query::promql::ValueType;
use trine_query::promql::ast::{
    Aggregate, At, Binary, Expr, ExprKind, Extended, Modifiers, Selector, Sign,
};
use trine_query::promql::functions::{Function, Optional};
use trine_query::text::format_float;
use trine_query::vector::{Cardinality, Comparison, Grouping, MatchLabels, Matching};

use super::json::{self, Object};

/// Writes `expr`.
pub(super) fn write(out: &mut String, expr: &Expr) {
    let mut object = Object::begin(out);
    match &expr.kind {
        ExprKind::Number(number) => {
            object.text("type", "numberLiteral");
            object.text("val", &format_float(number.value));
        }
        ExprKind::String(literal) => {
            object.text("type", "stringLiteral");
            object.text("val", &literal.text);
        }
        ExprKind::Selector(of) => {
            object.text("type", "vectorSelector");
            selector(&mut object, of);
        }
        ExprKind::Range {
            selector: of,
            range_ms,
            ..
        } => {
            object.text("type", "matrixSelector");
            object.raw("range", range_ms);
            selector(&mut object, of);
        }
        ExprKind::Subquery(subquery) => {
            object.text("type", "subquery");
            write(object.key("expr"), &subquery.expr);
            object.raw("range", subquery.range_ms);
            object.raw("step", subquery.step_ms.unwrap_or(0));
            modifiers(&mut object, &subquery.modifiers);
        }
        ExprKind::Aggregate(of) => aggregation(&mut object, of),
        ExprKind::Binary(of) => binary(&mut object, of),
        ExprKind::Unary { sign, expr } => {
            object.text("type", "unaryExpr");
            let sign = match sign {
                Sign::Plus => "+",
                Sign::Minus => "-",
            };
            object.text("op", sign);
            write(object.key("expr"), expr);
        }
        ExprKind::Call {
            function: of,
            arguments,
        } => {
            object.text("type", "call");
            function(object.key("func"), of);
            json::array(object.key("args"), arguments, write);
        }
        ExprKind::Paren(inner) => {
            object.text("type", "parenExpr");
            write(object.key("expr"), inner);
        }
    }
    object.end();
}

fn selector(object: &mut Object<'_>, of: &Selector) {
    object.text("name", of.name.as_deref().unwrap_or(""));
    json::array(object.key("matchers"), &of.matchers, |out, matcher| {
        let mut object = Object::begin(out);
        object.text("name", matcher.name());
        object.text("value", matcher.value());
        object.text("type", &matcher.op().to_string());
        object.end();
    });
    modifiers(object, &of.modifiers);
    let extended = of.modifiers.extended;
    object.raw("anchored", extended == Some(Extended::Anchored));
    object.raw("smoothed", extended == Some(Extended::Smoothed));
}

fn modifiers(object: &mut Object<'_>, of: &Modifiers) {
    object.raw("offset", of.offset_ms.unwrap_or(0));
    let (time, word) = match of.at {
        None => (None, None),
        Some(At::Time(ms)) => (Some(ms), None),
        Some(At::Start) => (None, Some("start")),
        Some(At::End) => (None, Some("end")),
    };
    match time {
        Some(ms) => object.raw("timestamp", ms),
        None => object.raw("timestamp", "null"),
    }
    match word {
        Some(word) => object.text("startOrEnd", word),
        None => object.raw("startOrEnd", "null"),
    }
}

fn aggregation(object: &mut Object<'_>, of: &Aggregate) {
    object.text("type", "aggregation");
    object.text("op", &of.op.to_string());
    write(object.key("expr"), &of.expr);
    match &of.parameter {
        Some(parameter) => write(object.key("param"), parameter),
        None => object.raw("param", "null"),
    }
    json::strings(object.key("grouping"), of.grouping.names());
    let without = matches!(of.grouping, Grouping::Without(_));
    object.raw("without", without);
}

fn binary(object: &mut Object<'_>, of: &Binary) {
    object.text("type", "binaryExpr");
    object.text("op", &of.op.to_string());
    write(object.key("lhs"), &of.lhs);
    write(object.key("rhs"), &of.rhs);
    match &of.matching {
        Some(of) => matching(object.key("matching"), of),
        None => object.raw("matching", "null"),
    }
    object.raw("bool", of.comparison == Comparison::Bool);
}

fn matching(out: &mut String, of: &Matching) {
    let mut object = Object::begin(out);
    let card = match of.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    object.text("card", card);
    json::strings(object.key("labels"), of.labels.names());
    object.raw("on", matches!(of.labels, MatchLabels::On(_)));
    json::strings(object.key("include"), &of.include);
    let mut fill = Object::begin(object.key("fillValues"));
    for (side, value) in [("lhs", of.fill.left), ("rhs", of.fill.right)] {
        match value {
            // JSON has no others.
            Some(value) if value.is_finite() => json::float(fill.key(side), value),
            _ => fill.raw(side, "null"),
        }
    }
    fill.end();
    object.end();
}

fn function(out: &mut String, of: &Function) {
    let mut object = Object::begin(out);
    object.text("name", of.name);
    let types = of.arguments.iter().map(|kind| word(*kind));
    json::strings(object.key("argTypes"), types);
    let variadic = match of.optional {
        Optional::No => 0,
        Optional::Last => 1,
        Optional::Any => -1,
        Optional::UpTo(times) => i64::try_from(times).unwrap_or(i64::MAX),
    };
    object.raw("variadic", variadic);
    object.text("returnType", word(of.returns));
    object.end();
}

/// The word of the API for a type, which is not that of error texts.
fn word(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::InstantVector => "vector",
        ValueType::RangeVector => "matrix",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trine_query::promql;

    use super::write;

    fn tree(query: &str) -> Value {
        let mut out = String::new();
        write(&mut out, &promql::parse(query).unwrap().expr);
        serde_json::from_str(&out).unwrap()
    }

    fn up() -> Value {
        json!({
            "type": "vectorSelector", "name": "up", "offset": 0, "timestamp": null,
            "startOrEnd": null, "anchored": false, "smoothed": false,
            "matchers": [{ "name": "__name__", "value": "up", "type": "=" }],
        })
    }

    #[test]
    fn trees() {
        for (query, expect) in [
            ("5m", json!({ "type": "numberLiteral", "val": "300" })),
            (
                "1e30",
                json!({ "type": "numberLiteral", "val": "1000000000000000000000000000000" }),
            ),
            ("\"a<\"", json!({ "type": "stringLiteral", "val": "a<" })),
            ("up", up()),
            (
                "-up",
                json!({ "type": "unaryExpr", "op": "-", "expr": up() }),
            ),
            ("(up)", json!({ "type": "parenExpr", "expr": up() })),
            (
                "{a=~\"b\"}[5m] offset 1m @ 7",
                json!({
                    "type": "matrixSelector", "name": "", "range": 300_000, "offset": 60_000,
                    "timestamp": 7000, "startOrEnd": null, "anchored": false, "smoothed": false,
                    "matchers": [{ "name": "a", "value": "b", "type": "=~" }],
                }),
            ),
            (
                "rate(up[5m] smoothed)",
                json!({
                    "type": "call",
                    "func": {
                        "name": "rate", "argTypes": ["matrix"], "variadic": 0,
                        "returnType": "vector",
                    },
                    "args": [{
                        "type": "matrixSelector", "name": "up", "range": 300_000, "offset": 0,
                        "timestamp": null, "startOrEnd": null, "anchored": false,
                        "smoothed": true,
                        "matchers": [{ "name": "__name__", "value": "up", "type": "=" }],
                    }],
                }),
            ),
            (
                "up + fill_left(-0.5) up",
                json!({
                    "type": "binaryExpr", "op": "+", "lhs": up(), "rhs": up(), "bool": false,
                    "matching": {
                        "card": "one-to-one", "labels": [], "on": false, "include": [],
                        "fillValues": { "lhs": -0.5, "rhs": null },
                    },
                }),
            ),
            (
                "up[5m:] @ end()",
                json!({
                    "type": "subquery", "expr": up(), "range": 300_000, "step": 0, "offset": 0,
                    "timestamp": null, "startOrEnd": "end",
                }),
            ),
            (
                "topk without (a) (2, up)",
                json!({
                    "type": "aggregation", "op": "topk", "expr": up(), "grouping": ["a"],
                    "without": true, "param": { "type": "numberLiteral", "val": "2" },
                }),
            ),
            (
                "sum(up)",
                json!({
                    "type": "aggregation", "op": "sum", "expr": up(), "grouping": [],
                    "without": false, "param": null,
                }),
            ),
            (
                "up == bool on (a) group_left (b) up",
                json!({
                    "type": "binaryExpr", "op": "==", "lhs": up(), "rhs": up(), "bool": true,
                    "matching": {
                        "card": "many-to-one", "labels": ["a"], "on": true, "include": ["b"],
                        "fillValues": { "lhs": null, "rhs": null },
                    },
                }),
            ),
            (
                "up + 1",
                json!({
                    "type": "binaryExpr", "op": "+", "lhs": up(), "bool": false, "matching": null,
                    "rhs": { "type": "numberLiteral", "val": "1" },
                }),
            ),
            (
                "round(up)",
                json!({
                    "type": "call", "args": [up()],
                    "func": {
                        "name": "round", "argTypes": ["vector", "scalar"], "variadic": 1,
                        "returnType": "vector",
                    },
                }),
            ),
            (
                "time()",
                json!({
                    "type": "call", "args": [],
                    "func": {
                        "name": "time", "argTypes": [], "variadic": 0, "returnType": "scalar",
                    },
                }),
            ),
        ] {
            assert_eq!(tree(query), expect, "{query}");
        }
    }
}
