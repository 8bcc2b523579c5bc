//! Structural operators over spans that are given by their nested-set numbers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use trine_query::budget::{Cancel, Limits};
use trine_query::traceql::{Engine, SearchOptions, parse};
use trine_storage::TimeRange;

use super::memory::Memory;
use super::spans::{Span, Told, numbers};
use super::{Check, same, text};

/// The check of a list; none for lists that are not checked.
pub(super) fn check_of(list: &str) -> Option<Check> {
    (list == "groups").then_some(relation as Check)
}

/// Marks the spans of both sides and asks for their relation.
fn relation(case: &Value) -> Result<(), String> {
    let names = |field: &str| -> BTreeSet<&str> {
        let held = case[field].as_array().unwrap();
        held.iter().map(|name| name.as_str().unwrap()).collect()
    };
    let (left, right) = (names("lhs"), names("rhs"));
    let mut ids = BTreeMap::new();
    let mut trace = Vec::new();
    for (name, told) in case["spans"].as_object().unwrap() {
        let id = (trace.len() as u64 + 1).to_be_bytes();
        ids.insert(id, name.as_str());
        let marks = [("span.left", &left), ("span.right", &right)];
        let marks = marks
            .into_iter()
            .filter(|(_, side)| side.contains(name.as_str()));
        trace.push(Span {
            id,
            nested: Some(numbers(told)),
            attributes: marks
                .map(|(mark, _)| (mark.to_owned(), Told::Bool(true)))
                .collect(),
            ..Span::default()
        });
    }
    let query = format!("{{ span.left }} {} {{ span.right }}", text(case, "op"));
    let parsed = parse(&query).map_err(|error| format!("{query}: {error}"))?;
    let options = SearchOptions {
        limit: usize::MAX,
        spans_per_span_set: 0,
    };
    let memory = Memory {
        traces: vec![trace],
    };
    let engine = Engine::new(Limits::default());
    let found = engine.search(&memory, &parsed, TimeRange::ALL, &options, &Cancel::new());
    let found = found.map_err(|error| format!("{query}: {error}"))?;
    let sets = found.traces.iter().flat_map(|trace| &trace.span_sets);
    let found: BTreeSet<&str> = sets
        .flat_map(|set| &set.spans)
        .map(|s| ids[&s.id])
        .collect();
    let what = format!(
        "{}: {left:?} {} {right:?}",
        text(case, "note"),
        text(case, "op")
    );
    same(
        &what,
        &format!("{found:?}"),
        &format!("{:?}", names("result")),
    )
}
