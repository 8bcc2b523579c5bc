//! Pipelines over spans in memory, operations on two values, and what equals what.

use std::collections::BTreeMap;

use serde_json::Value;
use trine_query::budget::{Cancel, Limits};
use trine_query::traceql::ast::{KINDS, Op, STATUSES};
use trine_query::traceql::value::{Field, apply};
use trine_query::traceql::{Engine, SearchOptions, parse, source};
use trine_storage::TimeRange;

use super::memory::Memory;
use super::spans::{Span, Told};
use super::{Check, same, text};

/// The check of a list; none for lists that are not checked.
pub(super) fn check_of(list: &str) -> Option<Check> {
    match list {
        "cases" => Some(pipeline),
        "binary_ops" => Some(operation),
        "equality" => Some(equality),
        _ => None,
    }
}

/// A set of an answer: its spans as the case writes them, and what is told of the set.
type Set = (Vec<String>, BTreeMap<String, String>);

fn pipeline(case: &Value) -> Result<(), String> {
    let query = text(case, "query");
    let inputs: Vec<&Value> = case["input"].as_array().unwrap().iter().collect();
    let written = |set: &Value, at: usize| set["spans"][at].to_string();
    // Sets with attributes are what `by()` made of one trace.
    let of_one_trace = inputs.iter().any(|set| set.get("attributes").is_some());
    let mut traces: Vec<Vec<Span>> = Vec::new();
    let mut names = BTreeMap::new();
    for input in &inputs {
        if traces.is_empty() || !of_one_trace {
            traces.push(Vec::new());
        }
        let trace = traces.last_mut().unwrap();
        for (at, mut span) in Span::list(&input["spans"]).into_iter().enumerate() {
            // Ids of cases need not be unique.
            span.id = (names.len() as u64 + 1).to_be_bytes();
            names.insert(span.id, written(input, at));
            trace.push(span);
        }
    }
    traces.retain(|trace| !trace.is_empty());
    let parsed = parse(query).map_err(|error| format!("{query}: {error}"))?;
    let options = SearchOptions {
        limit: usize::MAX,
        spans_per_span_set: 0,
    };
    let found = Engine::new(Limits::default()).search(
        &Memory { traces },
        &parsed,
        TimeRange::ALL,
        &options,
        &Cancel::new(),
    );
    if case["error"] == true {
        return match found {
            Err(_) => Ok(()),
            Ok(found) => Err(format!("{query}: an error is due, found {found:?}")),
        };
    }
    let found = found.map_err(|error| format!("{query}: {error}"))?;
    let mut found: Vec<Set> = found
        .traces
        .iter()
        .flat_map(|trace| &trace.span_sets)
        .map(|set| {
            let mut spans: Vec<String> = set.spans.iter().map(|s| names[&s.id].clone()).collect();
            spans.sort();
            let told = set.attributes.iter();
            let told = told.map(|(name, value)| (name.clone(), format!("{value:?}")));
            (spans, told.collect())
        })
        .collect();
    let mut expected: Vec<Set> = Vec::new();
    for set in case["output"].as_array().unwrap() {
        let place = |at: &Value| {
            let number = |i: usize| usize::try_from(at[i].as_u64().unwrap()).unwrap();
            written(inputs[number(0)], number(1))
        };
        let mut spans: Vec<String> = set["spans"].as_array().unwrap().iter().map(place).collect();
        spans.sort();
        let told = set["attributes"].as_object().into_iter().flatten();
        let told = told.map(|(name, value)| {
            let told = Told::read(value);
            (name.clone(), format!("{:?}", answered(&told).unwrap()))
        });
        let told: BTreeMap<String, String> = told.collect();
        if let Some(scalar) = set.get("scalar") {
            let scalar = format!("{:?}", answered(&Told::read(scalar)).unwrap());
            let is_told = told.values().any(|value| *value == scalar);
            assert!(is_told, "{query}: no attribute has the number {scalar}");
        }
        expected.push((spans, told));
    }
    found.sort();
    expected.sort();
    same(query, &format!("{found:?}"), &format!("{expected:?}"))
}

/// A value of a case as the language has it.
fn field(told: &Told) -> Field {
    let number = |names: &[&str], name: &str| {
        let at = names.iter().position(|held| *held == name).unwrap();
        u8::try_from(at).unwrap()
    };
    match told {
        Told::Nil => Field::Nil,
        Told::Bool(truth) => Field::Bool(*truth),
        Told::Int(number) => Field::Int(*number),
        Told::Float(number) => Field::Float(*number),
        Told::Str(text) => Field::Str(text.as_str().into()),
        Told::Duration(nanoseconds) => Field::Duration(*nanoseconds),
        Told::Status(name) => Field::Status(number(&STATUSES, name)),
        Told::Kind(name) => Field::Kind(number(&KINDS, name)),
        Told::Array(values) => Field::Array(values.iter().map(field).collect()),
    }
}

/// A value of a case as an answer tells it.
pub(super) fn answered(told: &Told) -> Option<source::Value> {
    field(told).into_answer()
}

/// The operator of a case, and whether its right side must be a list and its left side none.
fn operator(name: &str) -> (Op, bool) {
    let of_lists = [
        ("in", Op::Equal),
        ("not-in", Op::NotEqual),
        ("match-any", Op::Match),
        ("match-none", Op::NotMatch),
    ];
    if let Some((_, op)) = of_lists.iter().find(|(held, _)| *held == name) {
        return (*op, true);
    }
    let op = match name {
        "&&" => Op::And,
        "||" => Op::Or,
        "=" => Op::Equal,
        "!=" => Op::NotEqual,
        "<" => Op::Less,
        "<=" => Op::LessEqual,
        ">" => Op::Greater,
        ">=" => Op::GreaterEqual,
        "=~" => Op::Match,
        "!~" => Op::NotMatch,
        "+" => Op::Add,
        "-" => Op::Subtract,
        "*" => Op::Multiply,
        "/" => Op::Divide,
        "%" => Op::Modulo,
        "^" => Op::Power,
        name => panic!("no operator is called {name}"),
    };
    (op, false)
}

fn operation(case: &Value) -> Result<(), String> {
    let (op, of_lists) = operator(text(case, "op"));
    let (left, right) = (
        field(&Told::read(&case["lhs"])),
        field(&Told::read(&case["rhs"])),
    );
    let is_list = |value: &Field| matches!(value, Field::Array(_));
    let apply = |left: &Field, right: &Field| match of_lists {
        true if is_list(left) || !is_list(right) => {
            Err("one value is looked for in a list".to_owned())
        }
        _ => apply(op, left, right),
    };
    let what = case.to_string();
    if case["error"] == true {
        return match apply(&left, &right) {
            Err(_) => Ok(()),
            Ok(found) => Err(format!("{what}: an error is due, found {found:?}")),
        };
    }
    let expected = format!("{:?}", Ok::<_, String>(field(&Told::read(&case["result"]))));
    same(&what, &format!("{:?}", apply(&left, &right)), &expected)?;
    match case["symmetric"] == true {
        true => same(&what, &format!("{:?}", apply(&right, &left)), &expected),
        false => Ok(()),
    }
}

fn equality(case: &Value) -> Result<(), String> {
    let (left, right) = (
        field(&Told::read(&case["lhs"])),
        field(&Told::read(&case["rhs"])),
    );
    for (left, right) in [(&left, &right), (&right, &left)] {
        let found = format!("{} {}", left.equals(right), left.differs(right));
        let expected = format!("{} {}", case["equal"], case["not_equal"]);
        same(&case.to_string(), &found, &expected)?;
    }
    Ok(())
}
