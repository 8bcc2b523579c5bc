//! Our own searches, in `query/testdata/traceql/searches.test`, over spans in the trace store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use trine_query::budget::{Cancel, Limits};
use trine_query::text::parse_go_duration;
use trine_query::traceql::ast::{KINDS, STATUSES};
use trine_query::traceql::{Engine, SearchOptions, SearchResult, SpanSet, TraceSummary, parse};
use trine_storage::TimeRange;
use trine_storage::shared::Shared;
use trine_storage::sim::SimFs;
use trine_tracestore::{
    AnyValue, Config, Durability, Event, KeyValue, Link, Resource, Snapshot, Span, Status,
    TraceStore,
};

use super::say;
use super::spans::id;

const SCRIPT: &str = include_str!("../../testdata/traceql/searches.test");
const SECOND_NS: u64 = 1_000_000_000;

/// The words of a line; text between quotes is part of a word.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for sign in line.chars() {
        is_quoted ^= sign == '"';
        if sign == ' ' && !is_quoted {
            words.push(String::new());
        } else {
            words.last_mut().unwrap().push(sign);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn any_value(value: &Value) -> AnyValue {
    match value {
        Value::Bool(truth) => AnyValue::Bool(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AnyValue::Int(number),
            None => AnyValue::Double(number.as_f64().unwrap()),
        },
        Value::String(text) => AnyValue::String(text.clone()),
        Value::Array(values) => AnyValue::Array(values.iter().map(any_value).collect()),
        other => panic!("{other} is no value"),
    }
}

/// What a line says: attributes by scope, and everything else by its name.
#[derive(Default)]
struct Fields {
    attributes: BTreeMap<String, Vec<KeyValue>>,
    known: BTreeMap<String, String>,
}

impl Fields {
    fn read(words: &[String]) -> Self {
        let mut fields = Self::default();
        for word in words {
            let (name, value) = word.split_once('=').unwrap();
            match name.split_once('.') {
                Some((scope, key)) => {
                    let value = any_value(&serde_json::from_str(value).unwrap());
                    let key = key.into();
                    fields
                        .attributes
                        .entry(scope.to_owned())
                        .or_default()
                        .push(KeyValue { key, value });
                }
                None => {
                    let value = value.trim_matches('"').to_owned();
                    fields.known.insert(name.to_owned(), value);
                }
            }
        }
        fields
    }

    fn attributes(&mut self, scope: &str) -> Vec<KeyValue> {
        self.attributes.remove(scope).unwrap_or_default()
    }

    fn text(&self, name: &str) -> &str {
        self.known.get(name).map_or("", String::as_str)
    }

    fn nanoseconds(&self, name: &str) -> u64 {
        u64::try_from(parse_go_duration(self.text(name)).unwrap()).unwrap()
    }
}

/// The place of a name, 0 for none.
fn place(names: &[&str], name: &str) -> i32 {
    let at = names.iter().position(|held| *held == name);
    i32::try_from(at.unwrap_or(0)).unwrap()
}

/// Spans by `TRACE.ID`, with their resources.
#[derive(Default)]
struct Spans(BTreeMap<String, (Resource, Span)>);

impl Spans {
    fn add(&mut self, words: &[String]) {
        let bytes = |number: &str| number.parse::<u8>().unwrap();
        let place = words[1].clone();
        let Some((trace, span)) = place.split_once('.') else {
            panic!("{place} names no span");
        };
        match words[0].as_str() {
            "span" => {
                let mut fields = Fields::read(&words[4..]);
                let start_ns = (u64::from(bytes(trace)) * 100 + u64::from(bytes(span))) * SECOND_NS;
                let resource = Resource {
                    attributes: fields.attributes("resource"),
                    ..Resource::default()
                };
                let parent = &words[2];
                let held = Span {
                    trace_id: [bytes(trace); 16],
                    span_id: [bytes(span); 8],
                    parent_span_id: (parent != "-").then(|| [bytes(parent); 8]),
                    name: words[3].clone(),
                    kind: self::place(&KINDS, fields.text("kind")),
                    start_ns,
                    end_ns: start_ns + fields.nanoseconds("took"),
                    attributes: fields.attributes("span"),
                    status: Some(Status {
                        code: self::place(&STATUSES, fields.text("status")),
                        message: fields.text("message").to_owned(),
                    }),
                    ..Span::default()
                };
                self.0.insert(place, (resource, held));
            }
            "event" => {
                let mut fields = Fields::read(&words[2..]);
                let (_, held) = self.0.get_mut(&place).unwrap();
                held.events.push(Event {
                    time_ns: held.start_ns + fields.nanoseconds("at"),
                    name: fields.text("event:name").to_owned(),
                    attributes: fields.attributes("event"),
                    ..Event::default()
                });
            }
            "link" => {
                let mut fields = Fields::read(&words[2..]);
                let (_, held) = self.0.get_mut(&place).unwrap();
                held.links.push(Link {
                    trace_id: vec![9; 16],
                    span_id: id::<8>(fields.text("link:spanID")).to_vec(),
                    attributes: fields.attributes("link"),
                    ..Link::default()
                });
            }
            word => panic!("{word} is nothing that a script says"),
        }
    }

    fn store(self) -> TraceStore {
        let config = Config {
            future_max: None,
            ..Config::default()
        };
        let builder = TraceStore::builder(Path::new("store")).config(config);
        let builder = builder
            .fs(Arc::new(SimFs::new()))
            .shared(Shared::without_workers());
        let store = builder.open().unwrap();
        let mut appender = store.appender();
        for (resource, span) in self.0.into_values() {
            appender.append(&Arc::new(resource), &Arc::default(), span);
        }
        appender.commit(Durability::Synced).unwrap().wait().unwrap();
        store
    }
}

/// Names of the spans that match.
fn names(found: &SearchResult) -> String {
    let set = |set: &SpanSet| {
        let names: Vec<&str> = set.spans.iter().map(|span| &*span.name).collect();
        names.join(" ")
    };
    let trace = |trace: &TraceSummary| {
        let mut sets: Vec<String> = trace.span_sets.iter().map(set).collect();
        sets.sort();
        sets.join("/")
    };
    let traces: Vec<String> = found.traces.iter().map(trace).collect();
    traces.join("|")
}

fn search(snapshot: &Snapshot, query: &str) -> Result<String, String> {
    let parsed = parse(query).map_err(|error| error.to_string())?;
    let options = SearchOptions {
        limit: 100,
        spans_per_span_set: 0,
    };
    let engine = Engine::new(Limits::default());
    let found = engine.search(snapshot, &parsed, TimeRange::ALL, &options, &Cancel::new());
    found
        .map(|found| names(&found))
        .map_err(|error| error.to_string())
}

#[test]
fn own_searches() {
    let mut spans = Spans::default();
    let mut cases: Vec<(&str, &str)> = Vec::new();
    let mut lines = SCRIPT
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let Some(line) = lines.next() {
        match line.strip_prefix("? ") {
            Some(query) => cases.push((query, lines.next().unwrap())),
            None => spans.add(&words(line)),
        }
    }
    let store = spans.store();
    let mut wrong = String::new();
    for is_sealed in [false, true] {
        if is_sealed {
            store.flush().unwrap();
        }
        let snapshot = store.snapshot();
        for (query, expected) in &cases {
            let found = search(&snapshot, query);
            let (kind, expected) = expected.split_at(1);
            let expected = expected.trim();
            let is_right = match (&found, kind) {
                (Ok(found), "=") => found == expected,
                (Err(error), "!") => error.contains(expected),
                _ => false,
            };
            if !is_right {
                writeln!(
                    wrong,
                    "{query}\n  found    {found:?}\n  expected {expected}"
                )
                .unwrap();
            }
        }
    }
    say(&format!("traceql own searches: {} cases", cases.len()));
    assert!(wrong.is_empty(), "\n{wrong}");
}
