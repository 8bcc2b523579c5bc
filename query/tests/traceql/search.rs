//! Searches over one stored trace, and the names and values of its tags: in the trace store, from
//! memory and from a block, and in a vector of spans.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use trine_query::budget::{Cancel, Limits};
use trine_query::traceql::ast::Attribute;
use trine_query::traceql::source::{
    AttributeRef, Batch, Batches, Request, Scope, Source, TraceId, ValuesRequest,
};
use trine_query::traceql::{
    Engine, SearchOptions, SearchResult, SpanSet, TraceSummary, parse, parse_attribute, source,
    tag_filter,
};
use trine_storage::shared::Shared;
use trine_storage::sim::SimFs;
use trine_storage::{Error, TimeRange};
use trine_tracestore::{self as store, Config, Durability, TraceStore};

use super::memory::Memory;
use super::spans::{Span, Told, id};
use super::{Check, same, text};

const SECOND_NS: i64 = 1_000_000_000;

/// The check of a list; none for lists that are not checked.
pub(super) fn check_of(list: &str) -> Option<Check> {
    match list {
        "cases" => Some(search),
        "tag_values" => Some(tag_values),
        "tag_names" => Some(tag_names),
        _ => None,
    }
}

/// An id of the stored trace. All zeros is no id that a store takes; the span that has it, and its
/// parent, get others.
const NO_ID: &str = "0000000000000000";
const OWN: &str = "ffffffffffffffff";
const PARENT: &str = "eeeeeeeeeeeeeeee";

/// The stored trace as the file tells it.
struct Stored {
    id: TraceId,
    document: Value,
}

static STORED: LazyLock<Stored> = LazyLock::new(|| {
    let folder = super::conformance().unwrap();
    let path = folder.join("traceql").join("search_trace.json");
    let mut document: Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut trace = String::new();
    for resource in document["resourceSpans"].as_array_mut().unwrap() {
        for scope in resource["scopeSpans"].as_array_mut().unwrap() {
            for span in scope["spans"].as_array_mut().unwrap() {
                trace = span["traceId"].as_str().unwrap().to_owned();
                if span["spanId"] == NO_ID {
                    span["spanId"] = json!(OWN);
                    span["parentSpanId"] = json!(PARENT);
                }
            }
        }
    }
    Stored {
        id: id(&trace),
        document,
    }
});

static STORE: LazyLock<TraceStore> = LazyLock::new(|| {
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
    for resource in list(&STORED.document["resourceSpans"]) {
        let under = Arc::new(store::Resource {
            attributes: key_values(&resource["resource"]["attributes"]),
            ..Default::default()
        });
        for scope in list(&resource["scopeSpans"]) {
            let library = Arc::new(store::Scope {
                name: text(&scope["scope"], "name").into(),
                version: text(&scope["scope"], "version").into(),
                attributes: key_values(&scope["scope"]["attributes"]),
                ..Default::default()
            });
            for span in list(&scope["spans"]) {
                appender.append(&under, &library, stored_span(span));
            }
        }
    }
    // The file says what lies beside the trace.
    let other = store::Resource {
        attributes: vec![key_value(&json!({
            "key": "service.name",
            "value": { "stringValue": "test-service" }
        }))],
        ..Default::default()
    };
    let span = store::Span {
        trace_id: [7; 16],
        span_id: [7; 8],
        start_ns: 1_000_000_000_000,
        end_ns: 1_000_000_000_000,
        ..Default::default()
    };
    appender.append(&Arc::new(other), &Arc::default(), span);
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    store
});

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn key_values(attributes: &Value) -> Vec<store::KeyValue> {
    list(attributes).iter().map(key_value).collect()
}

fn key_value(attribute: &Value) -> store::KeyValue {
    let value = match told(&attribute["value"]) {
        Told::Str(text) => store::AnyValue::String(text),
        Told::Int(number) => store::AnyValue::Int(number),
        Told::Bool(truth) => store::AnyValue::Bool(truth),
        Told::Float(number) => store::AnyValue::Double(number),
        other => panic!("{other:?} is no value of the trace"),
    };
    store::KeyValue {
        key: text(attribute, "key").into(),
        value,
    }
}

/// A value as OTLP writes it.
fn told(value: &Value) -> Told {
    let (kind, held) = value.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "stringValue" => Told::Str(held.as_str().unwrap().into()),
        "intValue" => Told::Int(held.as_str().unwrap().parse().unwrap()),
        "boolValue" => Told::Bool(held.as_bool().unwrap()),
        "doubleValue" => Told::Float(held.as_f64().unwrap()),
        kind => panic!("no value of the trace is a {kind}"),
    }
}

fn number(span: &Value, field: &str) -> u64 {
    text(span, field).parse().unwrap()
}

fn stored_span(span: &Value) -> store::Span {
    let event = |event: &Value| store::Event {
        time_ns: number(event, "timeUnixNano"),
        name: text(event, "name").into(),
        attributes: key_values(&event["attributes"]),
        ..Default::default()
    };
    let link = |link: &Value| store::Link {
        trace_id: id::<16>(text(link, "traceId")).to_vec(),
        span_id: id::<8>(text(link, "spanId")).to_vec(),
        attributes: key_values(&link["attributes"]),
        ..Default::default()
    };
    let parent = text(span, "parentSpanId");
    let code = span["status"]["code"].as_i64().unwrap_or(0);
    store::Span {
        trace_id: STORED.id,
        span_id: id(text(span, "spanId")),
        parent_span_id: (!parent.is_empty()).then(|| id(parent)),
        name: text(span, "name").into(),
        kind: i32::try_from(span["kind"].as_i64().unwrap_or(0)).unwrap(),
        start_ns: number(span, "startTimeUnixNano"),
        end_ns: number(span, "endTimeUnixNano"),
        attributes: key_values(&span["attributes"]),
        events: list(&span["events"]).iter().map(event).collect(),
        links: list(&span["links"]).iter().map(link).collect(),
        status: Some(store::Status {
            code: i32::try_from(code).unwrap(),
            message: String::new(),
        }),
        ..Default::default()
    }
}

/// The trace as spans in a vector.
fn in_memory() -> Memory {
    let mut spans = Vec::new();
    for resource in list(&STORED.document["resourceSpans"]) {
        for scope in list(&resource["scopeSpans"]) {
            for span in list(&scope["spans"]) {
                spans.push((resource, &scope["scope"], span));
            }
        }
    }
    let parent = |span: &Value| text(span, "parentSpanId").to_owned();
    let mut numbers: BTreeMap<&str, (i32, i32, i32)> = BTreeMap::new();
    let mut next = 1;
    // Depth first, from the roots.
    let mut open: Vec<(&str, i32, bool)> = Vec::new();
    let children = |id: &str| {
        let of = spans.iter().rev().filter(|(_, _, span)| parent(span) == id);
        of.map(|(_, _, span)| text(span, "spanId"))
            .collect::<Vec<&str>>()
    };
    open.extend(children("").into_iter().map(|root| (root, -1, false)));
    while let Some((id, parent, is_left)) = open.pop() {
        if is_left {
            numbers.get_mut(id).unwrap().1 = next;
        } else {
            numbers.insert(id, (next, 0, parent));
            open.push((id, parent, true));
            open.extend(children(id).into_iter().map(|child| (child, next, false)));
        }
        next += 1;
    }
    let span = |(resource, scope, span): &(&Value, &Value, &Value)| {
        let mut attributes = BTreeMap::new();
        let mut add = |scope: &str, held: &Value| {
            for attribute in list(held) {
                let name = format!("{scope}.{}", text(attribute, "key"));
                attributes.insert(name, told(&attribute["value"]));
            }
        };
        add("resource", &resource["resource"]["attributes"]);
        add("instrumentation", &scope["attributes"]);
        add("span", &span["attributes"]);
        let mut known = vec![("name", text(span, "name").to_owned())];
        for event in list(&span["events"]) {
            add("event", &event["attributes"]);
            known.push(("event:name", text(event, "name").to_owned()));
        }
        for link in list(&span["links"]) {
            add("link", &link["attributes"]);
            known.push(("link:traceID", text(link, "traceId").to_owned()));
            known.push(("link:spanID", text(link, "spanId").to_owned()));
        }
        if scope.is_object() {
            known.push(("instrumentation:name", text(scope, "name").to_owned()));
            known.push(("instrumentation:version", text(scope, "version").to_owned()));
        }
        if parent(span).is_empty() {
            known.push(("rootName", text(span, "name").to_owned()));
            let mut held = list(&resource["resource"]["attributes"]).iter();
            let service = held.find(|held| held["key"] == "service.name").unwrap();
            known.push((
                "rootServiceName",
                text(&service["value"], "stringValue").to_owned(),
            ));
        }
        let start = number(span, "startTimeUnixNano").cast_signed();
        let mut attributes: BTreeMap<String, Told> = attributes;
        let known = known.into_iter();
        attributes.extend(known.map(|(name, value)| (name.to_owned(), Told::Str(value))));
        for event in list(&span["events"]) {
            let since = number(event, "timeUnixNano").cast_signed() - start;
            attributes.insert("event:timeSinceStart".to_owned(), Told::Duration(since));
        }
        let named = |names: &[&str], number: usize| names[number].to_owned();
        let code = span["status"]["code"].as_u64().unwrap_or(0);
        let kind = span["kind"].as_u64().unwrap_or(0);
        use trine_query::traceql::ast::{KINDS, STATUSES};
        let status = named(&STATUSES, usize::try_from(code).unwrap());
        attributes.insert("status".to_owned(), Told::Status(status));
        let kind = named(&KINDS, usize::try_from(kind).unwrap());
        attributes.insert("kind".to_owned(), Told::Kind(kind));
        Span {
            id: id(text(span, "spanId")),
            start,
            duration: number(span, "endTimeUnixNano").cast_signed() - start,
            nested: Some(
                numbers
                    .get(text(span, "spanId"))
                    .copied()
                    .unwrap_or((0, 0, 0)),
            ),
            attributes,
        }
    };
    let mut found: Vec<Span> = spans.iter().map(span).collect();
    // Depth first, what is in no tree at the end.
    found.sort_by_key(|span| {
        span.nested
            .map(|(left, _, _)| left.cast_unsigned().wrapping_sub(1))
    });
    Memory {
        traces: vec![found],
    }
}

/// Spans in a vector under the id that the trace has.
struct OneTrace(Memory);

impl Source for OneTrace {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        let named = |batch: Result<Batch, Error>| {
            let mut batch = batch?;
            if let Batch::Spans(spans) = &mut batch {
                spans
                    .traces
                    .iter_mut()
                    .for_each(|trace| trace.id = STORED.id);
            }
            Ok(batch)
        };
        Ok(Box::new(self.0.scan(request)?.map(named)))
    }

    fn attribute_names(&self, range: TimeRange) -> Result<Vec<(Scope, String, u64)>, Error> {
        self.0.attribute_names(range)
    }

    fn attribute_values(
        &self,
        request: &ValuesRequest,
    ) -> Result<Vec<(source::Value, u64)>, Error> {
        self.0.attribute_values(request)
    }
}

/// The query of a request; older requests have tags and durations, which become one.
fn query_of(request: &Value) -> String {
    if let Some(query) = request["query"].as_str() {
        return query.to_owned();
    }
    let mut conditions = Vec::new();
    for (tag, value) in request["tags"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap();
        let within = format!("=~ `.*{}.*`", value.replace('.', "\\."));
        conditions.push(match tag.as_str() {
            "service.name" => format!("resource.service.name {within}"),
            "name" => format!("name {within}"),
            "root.name" => format!("rootName {within}"),
            "root.service.name" => format!("rootServiceName {within}"),
            tag => format!(".{tag} = `{value}`"),
        });
    }
    for (field, op) in [("minDurationMs", ">="), ("maxDurationMs", "<=")] {
        if let Some(bound) = request[field].as_u64() {
            conditions.push(format!("trace:duration {op} {bound}ms"));
        }
    }
    // Each may hold for another span.
    match conditions.is_empty() {
        true => "{ }".to_owned(),
        false => format!("{{ {} }}", conditions.join(" } && { ")),
    }
}

/// The range of a request; its ends are seconds, the last one counts as a whole.
fn range_of(request: &Value) -> TimeRange {
    let at = |field: &str, or: i64| request[field].as_i64().map_or(or, |s| s * SECOND_NS);
    TimeRange::new(at("start", i64::MIN), at("end", i64::MAX))
}

fn search(case: &Value) -> Result<(), String> {
    let request = &case["request"];
    let query = query_of(request);
    let parsed = parse(&query).map_err(|error| format!("{query}: {error}"))?;
    let options = SearchOptions {
        limit: usize::try_from(request["limit"].as_u64().unwrap_or(20)).unwrap(),
        spans_per_span_set: 3,
    };
    let engine = Engine::new(Limits::default());
    let check = |what: &str, source: &dyn Source| {
        let range = range_of(request);
        let found = engine.search(source, &parsed, range, &options, &Cancel::new());
        let found = found.map_err(|error| format!("{query}: {error}"))?;
        let what = format!("{query} {request} in {what}");
        checked(&what, case, &found)
    };
    check("a vector", &OneTrace(in_memory()))?;
    check("the store's memory", &STORE.snapshot())?;
    STORE.flush().unwrap();
    check("a block", &STORE.snapshot())
}

fn checked(what: &str, case: &Value, found: &SearchResult) -> Result<(), String> {
    let mut traces = found.traces.iter();
    let trace = traces.find(|trace| trace.id == STORED.id);
    if let Some(matches) = case["matches"].as_bool() {
        same(what, &trace.is_some().to_string(), &matches.to_string())?;
    }
    let sets: &[SpanSet] = trace.map_or(&[], |trace| &trace.span_sets);
    if let Some(wanted) = case.get("contains_span") {
        let mut spans = sets.iter().flat_map(|set| &set.spans);
        let id = id_of(text(wanted, "spanID"));
        let found = spans.any(|span| span.id == id);
        same(what, &found.to_string(), &wanted["expected"].to_string())?;
    }
    let Some(trace) = trace else {
        return Ok(());
    };
    same(
        what,
        &summary(trace),
        "RootService RootSpan 1000000000000 2000",
    )?;
    if let Some(field) = case["every_returned_span_has"].as_str() {
        for span in sets.iter().flat_map(|set| &set.spans) {
            let is_told = span.attributes.iter().any(|(name, _)| name == field);
            let is_known = field == "duration" && span.duration_ns > 0;
            same(what, &(is_told || is_known).to_string(), "true")?;
        }
    }
    let Some(expected) = case["spanSets"].as_array() else {
        return Ok(());
    };
    let mut found: Vec<String> = sets.iter().map(|set| set_told(set, expected)).collect();
    let mut expected: Vec<String> = expected.iter().map(set_expected).collect();
    found.sort();
    expected.sort();
    same(what, &found.join("\n"), &expected.join("\n"))
}

fn summary(trace: &TraceSummary) -> String {
    format!(
        "{} {} {} {}",
        trace.root_service.as_deref().unwrap_or(""),
        trace.root_name.as_deref().unwrap_or(""),
        trace.start_ns,
        trace.duration_ns / 1_000_000
    )
}

fn id_of(digits: &str) -> [u8; 8] {
    id(if digits == NO_ID { OWN } else { digits })
}

fn set_told(set: &SpanSet, expected: &[Value]) -> String {
    // A name is only looked at where the case has one.
    let has_name = |id: [u8; 8]| {
        let mut spans = expected.iter().flat_map(|set| list(&set["spans"]));
        spans.any(|span| id_of(text(span, "spanID")) == id && span.get("name").is_some())
    };
    let mut spans: Vec<String> = set
        .spans
        .iter()
        .map(|span| {
            let name = if has_name(span.id) { &*span.name } else { "" };
            let told = attributes_told(&span.attributes);
            format!(
                "{:?} {name} {} {} {told}",
                span.id, span.start_ns, span.duration_ns
            )
        })
        .collect();
    spans.sort();
    format!(
        "{} {} {spans:?}",
        set.matched,
        attributes_told(&set.attributes)
    )
}

fn attributes_told(attributes: &[(String, source::Value)]) -> String {
    let sorted: BTreeMap<&str, &source::Value> = attributes
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    format!("{sorted:?}")
}

fn set_expected(set: &Value) -> String {
    let attributes = |held: &Value| {
        let held: Vec<(String, source::Value)> = list(held)
            .iter()
            .map(|a| {
                (
                    text(a, "key").to_owned(),
                    told(&a["value"]).stored().unwrap(),
                )
            })
            .collect();
        attributes_told(&held)
    };
    let mut spans: Vec<String> = list(&set["spans"])
        .iter()
        .map(|span| {
            let id = id_of(text(span, "spanID"));
            let (start, took) = (text(span, "startTimeUnixNano"), text(span, "durationNanos"));
            let told = attributes(&span["attributes"]);
            format!("{id:?} {} {start} {took} {told}", text(span, "name"))
        })
        .collect();
    spans.sort();
    format!(
        "{} {} {spans:?}",
        set["matched"],
        attributes(&set["attributes"])
    )
}

fn tag_values(case: &Value) -> Result<(), String> {
    let (tag, query) = (text(case, "tag"), text(case, "query"));
    let attribute = match parse_attribute(tag).map_err(|error| error.to_string())? {
        Attribute::Named { scope, key, .. } => AttributeRef::Attribute {
            scope,
            key: key.to_string(),
        },
        Attribute::Intrinsic(intrinsic) => panic!("{} is no tag of the cases", intrinsic.name()),
    };
    let request = ValuesRequest {
        attribute,
        range: TimeRange::ALL,
        filter: tag_filter(query, 100).map_err(|error| error.to_string())?,
        limit: 1_000,
    };
    let kind = |value: &source::Value| match value {
        source::Value::Str(text) => format!("string {text}"),
        source::Value::Int(number) => format!("int {number}"),
        source::Value::Bool(truth) => format!("bool {truth}"),
        other => panic!("no tag of the cases has {other:?}"),
    };
    let found = Source::attribute_values(&STORE.snapshot(), &request);
    let found = found.map_err(|error| error.to_string())?;
    let found: BTreeSet<String> = found.iter().map(|(value, _)| kind(value)).collect();
    let expected = list(&case["values"]).iter();
    let expected: BTreeSet<String> = expected
        .map(|value| format!("{} {}", text(value, "type"), text(value, "value")))
        .collect();
    same(
        &format!("{tag} of {query}"),
        &format!("{found:?}"),
        &format!("{expected:?}"),
    )
}

fn tag_names(case: &Value) -> Result<(), String> {
    let query = text(case, "query");
    let filter = tag_filter(query, 100).map_err(|error| error.to_string())?;
    let snapshot = STORE.snapshot();
    let names = Source::attribute_names(&snapshot, TimeRange::ALL);
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (scope, key, _) in names.map_err(|error| error.to_string())? {
        let request = ValuesRequest {
            attribute: AttributeRef::Attribute {
                scope: Some(scope),
                key: key.clone(),
            },
            range: TimeRange::ALL,
            filter: filter.clone(),
            limit: 1,
        };
        let values = Source::attribute_values(&snapshot, &request);
        if values.map_err(|error| error.to_string())?.is_empty() {
            continue;
        }
        let scope = match scope {
            Scope::Resource => "resource",
            Scope::Span => "span",
            Scope::Event => "event",
            Scope::Link => "link",
            Scope::Instrumentation => "instrumentation",
        };
        found.entry(scope).or_default().insert(key);
    }
    let expected = case["names"].as_object().unwrap().iter();
    let names = |names: &Value| -> BTreeSet<String> {
        list(names)
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let expected: BTreeMap<&str, BTreeSet<String>> = expected
        .map(|(scope, held)| (scope.as_str(), names(held)))
        .collect();
    same(query, &format!("{found:?}"), &format!("{expected:?}"))
}
