//! `COMPAT.md` held against the code: what its tables of TraceQL say to be there is, and nothing is
//! there without a row.

use std::collections::BTreeSet;

use serde_json::json;
use trine_query::budget::{Cancel, Limits};
use trine_query::traceql::ast::{Aggregate, Intrinsic, MetricsFunction};
use trine_query::traceql::{Engine, SearchOptions, parse};
use trine_storage::TimeRange;

use super::memory::Memory;
use super::spans::Span;

const PAGE: &str = include_str!("../../../COMPAT.md");

/// The rows of the table under a heading: the name of each, and its other cells.
fn rows(heading: &str) -> Vec<(String, Vec<&'static str>)> {
    let (_, section) = PAGE.split_once(&format!("\n{heading}\n")).unwrap();
    let lines = section.lines().take_while(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` |")?;
        let cells = rest.split(" |").map(str::trim).collect();
        Some((name.replace("\\|", "|"), cells))
    };
    lines.filter_map(row).collect()
}

/// A trace of a slow server span with an erroneous client span below it.
fn trace() -> Vec<Span> {
    let root = json!({
        "id": "01", "start_ns": 1, "duration_ns": 2_000_000_000_i64,
        "nested_set": {"left": 1, "right": 4, "parent": -1},
        "attributes": {"name": {"string": "GET /"}, "kind": {"kind": "server"},
            "status": {"status": "ok"}, "resource.service.name": {"string": "shop"},
            "rootName": {"string": "GET /"}, "rootServiceName": {"string": "shop"}},
    });
    let child = json!({
        "id": "02", "start_ns": 2, "duration_ns": 1_000_000_000_i64,
        "nested_set": {"left": 2, "right": 3, "parent": 1},
        "attributes": {"name": {"string": "pay"}, "kind": {"kind": "client"},
            "status": {"status": "error"}, "resource.service.name": {"string": "shop"},
            "event.exception.type": {"string": "Timeout"}, "span.tries": {"int_array": [1, 2]}},
    });
    Span::list(&json!([root, child]))
}

/// Parses a query, and runs it where it is a search.
fn run(query: &str) -> Result<(), String> {
    let read = parse(query).map_err(|error| error.to_string())?;
    if read.search().is_none() {
        return Ok(());
    }
    let source = Memory {
        traces: vec![trace()],
    };
    let options = SearchOptions {
        limit: 10,
        spans_per_span_set: 3,
    };
    let engine = Engine::new(Limits::default());
    let found = engine.search(&source, &read, TimeRange::ALL, &options, &Cancel::new());
    found.map(drop).map_err(|error| error.to_string())
}

/// Expects the table to have just the names of `queries`, and those that it says are there to be
/// answered, the others to be refused.
fn check(heading: &str, queries: &[(String, String)]) {
    let told = rows(heading);
    let names: BTreeSet<&String> = told.iter().map(|(name, _)| name).collect();
    let code: BTreeSet<&String> = queries.iter().map(|(name, _)| name).collect();
    let difference: Vec<_> = names.symmetric_difference(&code).collect();
    assert!(
        difference.is_empty(),
        "{heading}: in one of table and code only: {difference:?}"
    );
    for (name, cells) in &told {
        let (_, query) = queries.iter().find(|(held, _)| held == name).unwrap();
        let is_there = match cells[0] {
            "full" | "partial" => true,
            "no" => false,
            state => panic!("{name}: {state:?} is no state"),
        };
        let ran = run(query);
        assert_eq!(ran.is_ok(), is_there, "{name}: {query}: {ran:?}");
    }
}

#[test]
fn stages_and_functions() {
    let stages = [
        ("by", "{ } | by(.a)"),
        ("coalesce", "{ } | by(.a) | coalesce()"),
        ("select", "{ } | select(.a)"),
        ("topk", "{ } | rate() | topk(1)"),
        ("bottomk", "{ } | rate() | bottomk(1)"),
        ("with", "{ } with(most_recent=true)"),
    ];
    let of_sets = Aggregate::NAMES
        .iter()
        .map(|(function, name)| match function {
            Aggregate::Count => ((*name).to_owned(), format!("{{ }} | {name}() > 0")),
            _ => ((*name).to_owned(), format!("{{ }} | {name}(duration) > 0")),
        });
    let over_time = MetricsFunction::NAMES.iter().map(|(function, name)| {
        let arguments = match function {
            MetricsFunction::Rate | MetricsFunction::CountOverTime => "",
            MetricsFunction::QuantileOverTime => "duration, 0.5",
            MetricsFunction::Compare => "{ status = error }",
            _ => "duration",
        };
        ((*name).to_owned(), format!("{{ }} | {name}({arguments})"))
    });
    let stages = stages.map(|(name, query)| (name.to_owned(), query.to_owned()));
    let stages = stages.into_iter().chain(of_sets).chain(over_time);
    let all: Vec<_> = stages.collect();
    check("### Stages and functions of TraceQL", &all);
}

#[test]
fn operators() {
    let between_fields = [
        "&&", "||", "=", "!=", "<", "<=", ">", ">=", "=~", "!~", "+", "-", "*", "/", "%", "^",
    ];
    let between_spans = [
        "&&", "||", ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<",
        "&<<", "&~",
    ];
    let fields = |op: &str| match op {
        "=~" | "!~" => format!("{{ name {op} `a` }}"),
        "+" | "-" | "*" | "/" | "%" | "^" => format!("{{ .a {op} 1 > 2 }}"),
        _ => format!("{{ .a {op} .b }}"),
    };
    let of_fields = between_fields.map(|op| (op.to_owned(), fields(op)));
    let of_spans = between_spans.map(|op| (op.to_owned(), format!("{{ }} {op} {{ .a }}")));
    for (_, query) in &of_spans {
        assert_eq!(run(query), Ok(()), "{query}");
    }
    let not = ("!".to_owned(), "{ !.a }".to_owned());
    let mut all: Vec<_> = of_fields.into_iter().chain([not]).collect();
    for (op, query) in of_spans {
        if all.iter().all(|(held, _)| *held != op) {
            all.push((op, query));
        }
    }
    check("### Operators of TraceQL", &all);
}

#[test]
fn fields() {
    let named = |name: &str| (name.to_owned(), format!("{{ }} | select({name})"));
    let intrinsics = Intrinsic::NAMES
        .iter()
        .map(|(intrinsic, _, _)| named(intrinsic.name()));
    let scopes = ["", "span", "resource", "event", "link", "instrumentation"];
    let scopes = scopes.map(|scope| {
        let query = format!("{{ {scope}.a = 1 }}");
        (format!("{scope}."), query)
    });
    let all: Vec<_> = intrinsics.chain(scopes).collect();
    check("### Fields of TraceQL", &all);
}

#[test]
fn queries_that_tempo_answers_otherwise_are_answered() {
    for (query, _) in rows("### Queries that Tempo answers otherwise") {
        assert_eq!(run(&query), Ok(()), "{query}");
    }
}
