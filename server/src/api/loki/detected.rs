//! Labels and fields that are found in logs, for clients that offer them to choose from: labels by
//! their streams, fields by a sample of lines that are read as JSON and as logfmt.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use trine_query::logql::ast::Expr;
use trine_query::logql::source::{Direction, Lines, RowBatch};
use trine_query::logql::{self, Entry, QueryError, QueryValue, RangeQuery, Stages};
use trine_query::text::parse_go_duration;
use trine_storage::Labels;

use super::answer::Failure;
use super::limits::QueryLimits;
use super::{engine, parsed, request, source};
use crate::api::prometheus::json::{self, Object};
use crate::api::prometheus::run::Asked;

/// Labels that are always told.
const ALWAYS: [&str; 4] = ["cluster", "namespace", "instance", "pod"];

/// What parsers say of a line that they cannot read.
const ERRORS: [&str; 2] = ["__error__", "__error_details__"];

/// `detected_labels`: names of labels with the number of their values, without such as only number
/// things.
pub(super) fn labels(asked: &Asked) -> Result<String, Failure> {
    let range = super::bounds(asked)?.range();
    let matchers = request::selector(&asked.params)?;
    let streams = source::of(asked)?.streams(&matchers, range)?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in streams.iter().flatten() {
        values.entry(name).or_default().insert(value);
    }
    values.retain(|name, values| ALWAYS.contains(name) || !values.iter().all(|v| is_id(v)));
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::array(
        object.key("detectedLabels"),
        &values,
        |out, (name, values)| {
            let mut object = Object::begin(out);
            object.text("label", name);
            object.raw("cardinality", values.len());
            object.end();
        },
    );
    object.end();
    Ok(out)
}

/// Whether a value is a number or a UUID.
fn is_id(value: &str) -> bool {
    value.parse::<f64>().is_ok() || is_uuid(value)
}

fn is_uuid(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    lengths == [8, 4, 4, 4, 12] && parts.iter().all(hex)
}

/// A field of lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Field {
    values: BTreeSet<String>,
    parsers: BTreeSet<&'static str>,
    /// Where JSON has it.
    path: Vec<String>,
}

/// `detected_fields`.
pub(super) fn fields(asked: &Asked) -> Result<String, Failure> {
    let limit = request::fields_limit(&asked.params)?;
    let fields = sampled(asked)?;
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    let told = fields.iter().take(limit);
    json::array(object.key("fields"), told, |out, (name, field)| {
        let mut object = Object::begin(out);
        object.text("label", name);
        object.text("type", kind(&field.values));
        object.raw("cardinality", field.values.len());
        if field.parsers.is_empty() {
            object.raw("parsers", "null");
        } else {
            json::strings(object.key("parsers"), &field.parsers);
        }
        if !field.path.is_empty() {
            json::strings(object.key("jsonPath"), &field.path);
        }
        object.end();
    });
    object.raw("limit", limit);
    object.end();
    Ok(out)
}

/// `detected_field/{name}/values`.
pub(super) fn values(asked: &Asked, name: &str) -> Result<String, Failure> {
    let limit = request::fields_limit(&asked.params)?;
    let mut fields = sampled(asked)?;
    let found = fields.remove(name).unwrap_or_default();
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::strings(object.key("values"), found.values.iter().take(limit));
    object.raw("limit", limit);
    object.end();
    Ok(out)
}

/// The fields of the newest lines that the query gives.
fn sampled(asked: &Asked) -> Result<BTreeMap<String, Field>, Failure> {
    let limits = QueryLimits::of(asked);
    let bounds = super::bounds(asked)?;
    let mut query = RangeQuery {
        start_ns: bounds.start_ns,
        end_ns: bounds.end_ns,
        step_ns: 1,
        direction: Direction::Backward,
        limit: request::line_limit(&asked.params)?,
        interval_ns: 0,
    };
    limits.check_entries(query.limit)?;
    limits.check_range(&mut query, asked.app.clock.now_ns())?;
    let Expr::Log(expr) = parsed(asked)? else {
        return Err(Failure::bad("only log selector is supported"));
    };
    let expr = Expr::Log(expr);
    limits.check(asked, &expr, (query.start_ns, query.end_ns))?;
    let result = engine(asked).range(&*source::of(asked)?, &expr, query, &asked.cancel)?;
    let QueryValue::Streams(rows) = result.value else {
        return Ok(BTreeMap::new());
    };
    Ok(fields_of(asked, &rows.entries)?)
}

fn fields_of(asked: &Asked, entries: &[Entry]) -> Result<BTreeMap<String, Field>, QueryError> {
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    for entry in entries {
        for (name, value) in &entry.metadata {
            let field = fields.entry(name.to_owned()).or_default();
            field.values.insert(value.to_owned());
        }
    }
    let limits = asked.limits();
    let read = |parser: &str| -> Result<Vec<Entry>, QueryError> {
        let Expr::Log(expr) = logql::parse(&format!("{{sample=\"x\"}} | {parser}"))? else {
            return Ok(Vec::new());
        };
        let stages = Stages::new(&expr)?;
        stages.entries(&rows(entries), &limits, &asked.app.clock, &asked.cancel)
    };
    let (as_json, as_logfmt) = (read("json")?, read("logfmt")?);
    for ((json, logfmt), entry) in as_json.iter().zip(&as_logfmt).zip(entries) {
        let is_json = json.parsed.get(ERRORS[0]).is_none();
        let (parser, parsed) = match is_json {
            true => ("json", &json.parsed),
            false => ("logfmt", &logfmt.parsed),
        };
        let told = parsed.iter().filter(|(name, _)| !ERRORS.contains(name));
        let mut paths = None;
        for (name, value) in told {
            let field = fields.entry(name.to_owned()).or_default();
            field.values.insert(value.to_owned());
            field.parsers.insert(parser);
            if is_json && field.path.is_empty() {
                let paths = paths.get_or_insert_with(|| paths_of(&entry.line));
                let plain = name.strip_suffix("_extracted").unwrap_or(name);
                let path = paths.get(name).or_else(|| paths.get(plain));
                field.path = path.cloned().unwrap_or_default();
            }
        }
    }
    Ok(fields)
}

/// The lines as a batch; their places are their timestamps, so that they stay in order.
fn rows(entries: &[Entry]) -> RowBatch {
    let mut rows = RowBatch {
        metadata_sets: vec![Labels::empty()],
        ..RowBatch::default()
    };
    let mut blob = Vec::new();
    let mut places: BTreeMap<&Labels, u32> = BTreeMap::new();
    for (at, entry) in (0i64..).zip(entries) {
        let next = u32::try_from(places.len()).unwrap_or(u32::MAX);
        let place = *places.entry(&entry.stream).or_insert_with(|| {
            rows.streams.push(entry.stream.clone());
            next
        });
        blob.extend_from_slice(&entry.line);
        rows.stream.push(place);
        rows.timestamps.push(at);
        let end = u32::try_from(blob.len()).unwrap_or(u32::MAX);
        rows.lines.ends.push(end);
        rows.metadata.push(0);
    }
    let ends = std::mem::take(&mut rows.lines.ends);
    rows.lines = Lines {
        blob: Bytes::from(blob),
        ends,
    };
    rows
}

/// Where a line of JSON has the values that become labels, by the names of the labels.
fn paths_of(line: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut paths = BTreeMap::new();
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(line) {
        add_paths(&object, &mut Vec::new(), &mut paths);
    }
    paths
}

fn add_paths(
    object: &serde_json::Map<String, serde_json::Value>,
    path: &mut Vec<String>,
    paths: &mut BTreeMap<String, Vec<String>>,
) {
    for (key, value) in object {
        path.push(key.clone());
        match value {
            serde_json::Value::Object(inner) => add_paths(inner, path, paths),
            _ => drop(paths.insert(label_of(path), path.clone())),
        }
        path.pop();
    }
}

/// The label that a path of JSON becomes.
fn label_of(path: &[String]) -> String {
    let joined = path.join("_");
    let digit = joined.starts_with(|c: char| c.is_ascii_digit());
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let clean = joined
        .trim()
        .chars()
        .map(|c| if allowed(c) { c } else { '_' });
    let prefix = if digit { "_" } else { "" };
    prefix.chars().chain(clean).collect()
}

/// What a value may be, and how that is seen.
type Kind = (&'static str, fn(&str) -> bool);

/// What all values are, in the words of Loki.
fn kind(values: &BTreeSet<String>) -> &'static str {
    const KINDS: [Kind; 5] = [
        ("int", |value| value.parse::<i64>().is_ok()),
        ("float", |value| value.parse::<f64>().is_ok()),
        ("boolean", |value| {
            let words = [
                "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
            ];
            words.contains(&value)
        }),
        ("duration", |value| parse_go_duration(value).is_ok()),
        ("bytes", is_bytes),
    ];
    let found = KINDS
        .iter()
        .find(|(_, is)| values.iter().all(|value| is(value)));
    found.map_or("string", |(name, _)| name)
}

/// Whether a value is a number with a unit of bytes.
fn is_bytes(value: &str) -> bool {
    let end = value.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
    let (number, unit) = value.split_at(end.unwrap_or(value.len()));
    let units = [
        "", "b", "kb", "kib", "k", "ki", "mb", "mib", "m", "mi", "gb", "gib", "g", "gi", "tb",
        "tib", "t", "ti", "pb", "pib", "p", "pi", "eb", "eib", "e", "ei",
    ];
    let unit = unit.trim().to_ascii_lowercase();
    number.replace(',', "").parse::<f64>().is_ok() && units.contains(&unit.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (values, expect) in [
            (&["1", "-20"][..], "int"),
            (&["1", "2.5"], "float"),
            (&["true", "False"], "boolean"),
            (&["1.5s", "20ms"], "duration"),
            (&["1KiB", "20 MB"], "bytes"),
            (&["1", "x"], "string"),
            (&["GET"], "string"),
        ] {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            assert_eq!(kind(&values), expect, "{values:?}");
        }
    }

    #[test]
    fn ids_are_numbers_and_uuids() {
        for (value, expect) in [
            ("17", true),
            ("1.5", true),
            ("b0c40b24-2892-11eb-adc1-0242ac120002", true),
            ("b0c40b24-2892-11eb-adc1-0242ac12000", false),
            ("api-7", false),
        ] {
            assert_eq!(is_id(value), expect, "{value}");
        }
    }

    #[test]
    fn labels_of_json_know_where_they_are() {
        let paths = paths_of(br#"{"a":{"b.c":1,"d":{"e":[1]}},"2x":true}"#);
        let told: Vec<(&str, String)> = paths
            .iter()
            .map(|(name, path)| (name.as_str(), path.join("/")))
            .collect();
        let expect = [("_2x", "2x"), ("a_b_c", "a/b.c"), ("a_d_e", "a/d/e")];
        assert_eq!(told.len(), 3);
        for ((name, path), (n, p)) in told.iter().zip(expect) {
            assert_eq!((*name, path.as_str()), (n, p));
        }
        assert!(paths_of(b"no").is_empty());
    }
}
