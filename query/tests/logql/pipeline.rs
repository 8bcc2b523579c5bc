//! Pipelines over single lines, and the discovery of levels. A case becomes a query over a source
//! that holds its lines only.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use trine_logstore::discover::Levels;
use trine_query::budget::{Cancel, Limits};
use trine_query::logql::source::{Batch, Batches, Direction, Lines, Request, RowBatch, Source};
use trine_query::logql::{Engine, QueryResult, QueryValue, RangeQuery, parse};
use trine_query::text::quote;
use trine_storage::{Error, Labels, Matcher, TimeRange};

use super::{same, text};

/// When lines are that do not say.
const SOME_TIME: i64 = 1_700_000_000_000_000_000;

/// The window of metric queries in the cases.
const WINDOW_SECONDS: f64 = 60.0;

/// Lines of one stream; any selector selects it.
struct OneStream {
    stream: Labels,
    metadata: Labels,
    lines: Vec<String>,
    time: i64,
}

impl Source for OneStream {
    fn scan(&self, _: &Request) -> Result<Batches, Error> {
        let rows = self.lines.len();
        let mut end = 0;
        let ends = self.lines.iter().map(|line| {
            end += u32::try_from(line.len()).unwrap();
            end
        });
        let batch = RowBatch {
            streams: vec![self.stream.clone()],
            stream: vec![0; rows],
            timestamps: vec![self.time; rows],
            lines: Lines {
                ends: ends.collect(),
                blob: Bytes::from(self.lines.concat()),
            },
            skeletons: None,
            metadata_sets: vec![Labels::empty(), self.metadata.clone()],
            metadata: vec![1; rows],
        };
        Ok(Box::new(std::iter::once(Ok(Batch::Rows(batch)))))
    }

    fn streams(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, Error> {
        Ok(vec![self.stream.clone()])
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        Ok(self
            .stream
            .iter()
            .map(|(name, _)| name.to_owned())
            .collect())
    }

    fn label_values(&self, name: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        Ok(self
            .stream
            .get(name)
            .map(str::to_owned)
            .into_iter()
            .collect())
    }
}

/// The pairs of an object, or of an array where an empty object is meant.
fn pairs(value: &Value) -> BTreeMap<String, String> {
    let object = value.as_object().into_iter().flatten();
    object
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned()))
        .collect()
}

fn source(case: &Value) -> OneStream {
    let mut metadata = pairs(&case["structured_metadata"]);
    for (field, label) in [
        ("preset_error", "__error__"),
        ("preset_error_details", "__error_details__"),
    ] {
        if !text(case, field).is_empty() {
            metadata.insert(label.to_owned(), text(case, field).to_owned());
        }
    }
    let lines = case["lines"].as_array().map_or_else(
        || vec![text(case, "line").to_owned()],
        |lines| {
            lines
                .iter()
                .map(|l| l.as_str().unwrap_or("").to_owned())
                .collect()
        },
    );
    OneStream {
        stream: Labels::showing(pairs(&case["stream_labels"])),
        metadata: Labels::showing(metadata),
        lines,
        time: case["timestamp_ns"].as_i64().unwrap_or(SOME_TIME),
    }
}

fn run(query: &str, source: &OneStream) -> Result<QueryResult, String> {
    let expr = parse(query).map_err(|error| error.to_string())?;
    let engine = Engine::new(Limits::default());
    let range = RangeQuery {
        start_ns: source.time,
        end_ns: source.time + 1,
        step_ns: 1,
        direction: Direction::Forward,
        limit: 1000,
        interval_ns: 0,
    };
    let result = match &expr {
        trine_query::logql::ast::Expr::Log(_) => engine.range(source, &expr, range, &Cancel::new()),
        trine_query::logql::ast::Expr::Metric(_) => {
            engine.instant(source, &expr, source.time, &Cancel::new())
        }
    };
    result.map_err(|error| error.to_string())
}

/// A line that came through, and all its labels.
type Passed = (String, BTreeMap<String, String>);

/// The lines that come through.
fn entries(query: &str, source: &OneStream) -> Result<Vec<Passed>, String> {
    let QueryValue::Streams(rows) = run(query, source)?.value else {
        return Err(format!("{query} gives no lines"));
    };
    let all = rows.entries.iter().map(|entry| {
        let sets = [&entry.stream, &entry.metadata, &entry.parsed];
        let labels = sets.into_iter().flatten();
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let line = String::from_utf8_lossy(&entry.line).into_owned();
        (line, labels.collect())
    });
    Ok(all.collect())
}

pub(super) fn case(case: &Value) -> Result<(), String> {
    match text(case, "group") {
        "metric_sample" => metric_sample(case),
        "unwrap" => unwrap(case),
        "pattern_matcher" => pattern(case),
        "pattern_parser_valid" => {
            let query = format!("{{x=\"y\"}} | pattern {}", quote(text(case, "pattern")));
            lines(case, &query)
        }
        "pattern_line_filter_valid" => {
            let query = format!("{{x=\"y\"}} |> {}", quote(text(case, "pattern")));
            lines(case, &query)
        }
        "json_path" => json_path(case),
        "sanitize_label_key" => {
            let mut one = source(case);
            one.lines = vec![serde_json::json!({ text(case, "key"): "v" }).to_string()];
            let found = entries("{x=\"y\"} | json", &one)?;
            let names: Vec<&String> = found.iter().flat_map(|(_, labels)| labels.keys()).collect();
            same(
                "names",
                &format!("{names:?}"),
                &format!("{:?}", [text(case, "want")]),
            )
        }
        _ if !text(case, "query").is_empty() => lines(case, text(case, "query")),
        _ => {
            // A stage that names no label cannot be written.
            let pipeline = text(case, "pipeline");
            let pipeline = pipeline.strip_suffix("| keep ").unwrap_or(pipeline);
            lines(case, &format!("{{x=\"y\"}} {pipeline}"))
        }
    }
}

fn lines(case: &Value, query: &str) -> Result<(), String> {
    let found = entries(query, &source(case));
    let wanted = [text(case, "want_error"), text(case, "want_error_contains")].concat();
    if case["want_valid"] == Value::Bool(false) || !wanted.is_empty() {
        return match found {
            Ok(_) => Err(format!("{query} is accepted")),
            Err(error) if error.contains(&wanted) => Ok(()),
            Err(error) => same("error", &error, &wanted),
        };
    }
    let found = found?;
    if let Some(kept) = case["want_kept_lines"].as_array() {
        let kept: Vec<&str> = kept.iter().filter_map(Value::as_str).collect();
        let found: Vec<&String> = found.iter().map(|(line, _)| line).collect();
        return same("lines", &format!("{found:?}"), &format!("{kept:?}"));
    }
    if case["want_valid"] == Value::Bool(true) {
        return Ok(());
    }
    let keeps = case["want_keep"].as_bool().unwrap_or(true);
    if keeps == found.is_empty() {
        return Err(format!("{query} gives {} lines", found.len()));
    }
    let Some((line, labels)) = found.first() else {
        return Ok(());
    };
    if case.get("want_line").is_some() {
        same("line", line, text(case, "want_line"))?;
    }
    if case.get("want_labels").is_some() {
        let wanted = pairs(&case["want_labels"]);
        same("labels", &format!("{labels:?}"), &format!("{wanted:?}"))?;
    }
    Ok(())
}

fn sample(query: &str, source: &OneStream) -> Result<Option<(f64, String)>, String> {
    match run(query, source)?.value {
        QueryValue::Vector(samples) => Ok(samples
            .first()
            .map(|sample| (sample.value, sample.labels.to_string()))),
        _ => Err(format!("{query} gives no vector")),
    }
}

/// The cases tell the value of the one sample, of which a rate is a part.
fn metric_sample(case: &Value) -> Result<(), String> {
    // That samples are absent is told of the samples that are there: one without labels for a line.
    let query = match text(case, "query").strip_prefix("absent_over_time") {
        Some(rest) => &format!("sum(count_over_time{rest})"),
        None => text(case, "query"),
    };
    let found = sample(query, &source(case))?;
    let Some((value, series)) = found else {
        return same(
            "a sample",
            "none",
            if case["want_ok"] == true {
                "one"
            } else {
                "none"
            },
        );
    };
    let value = if query.contains("rate(") {
        value * WINDOW_SECONDS
    } else {
        value
    };
    let wanted = case["want_value"].as_f64().unwrap_or(f64::NAN);
    if (value - wanted).abs() > 1e-9 {
        return Err(format!("the value is {value} and not {wanted}"));
    }
    same("series", &series, text(case, "want_series"))
}

fn unwrap(case: &Value) -> Result<(), String> {
    let inner = format!("sum_over_time({{x=\"y\"}} {} [1m])", text(case, "pipeline"));
    let query = match text(case, "grouping") {
        "default" => inner,
        "none" => format!("sum({inner})"),
        grouping => format!("sum {grouping} ({inner})"),
    };
    let wanted = Labels::showing(pairs(&case["want_labels"]));
    match sample(&query, &source(case)) {
        // The series with the error is told in the error that a query ends with.
        Err(error) => match wanted.get("__error__") {
            Some(name) if error.contains(&format!("'{name}' for series: '{wanted}'")) => Ok(()),
            _ => Err(error),
        },
        Ok(None) => Err("no sample".to_owned()),
        Ok(Some((value, series))) => {
            same("series", &series, &wanted.to_string())?;
            let wanted = case["want_value"].as_f64().unwrap_or(f64::NAN);
            same("value", &value.to_string(), &wanted.to_string())
        }
    }
}

/// The names in a pattern, with what is around them.
fn names(pattern: &str) -> Vec<(String, String)> {
    let parts = pattern.split('<').skip(1);
    let names = parts.filter_map(|part| part.split_once('>'));
    names
        .map(|(name, _)| (name.to_owned(), format!("<{name}>")))
        .collect()
}

fn pattern(case: &Value) -> Result<(), String> {
    let pattern = text(case, "pattern");
    let one = source(case);
    let captured = entries(&format!("{{x=\"y\"}} | pattern {}", quote(pattern)), &one)?;
    let (_, labels) = captured.first().ok_or("the line is dropped")?;
    let names: Vec<_> = names(pattern)
        .into_iter()
        .filter(|(name, _)| name != "_")
        .collect();
    let values: Vec<&String> = names
        .iter()
        .filter_map(|(name, _)| labels.get(name))
        .collect();
    same(
        "captures",
        &format!("{values:?}"),
        &format!("{:?}", strings(&case["want_captures"])),
    )?;
    let mut filter = pattern.to_owned();
    for (_, whole) in &names {
        filter = filter.replace(whole, "<_>");
    }
    let kept = entries(&format!("{{x=\"y\"}} |> {}", quote(&filter)), &one)?;
    let matches = case["want_line_filter_match"].as_bool().unwrap_or(false);
    same(
        "filter",
        &(!kept.is_empty()).to_string(),
        &matches.to_string(),
    )
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map_or_else(Vec::new, |all| {
        all.iter().filter_map(Value::as_str).collect()
    })
}

/// A path leads to the value that is put at its end.
fn json_path(case: &Value) -> Result<(), String> {
    let query = format!(
        "{{x=\"y\"}} | json found={}",
        quote(text(case, "expression"))
    );
    let path = case["want_path"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(Value::String(_)) = path.first() else {
        return lines(case, &query);
    };
    let mut value = Value::from("here");
    for step in path.iter().rev() {
        value = match step.as_str() {
            Some(name) => serde_json::json!({ name: value }),
            None => {
                let before = usize::try_from(step.as_u64().unwrap()).unwrap();
                let mut list = vec![Value::from(0); before];
                list.push(value);
                Value::from(list)
            }
        };
    }
    let mut one = source(case);
    one.lines = vec![value.to_string()];
    let found = entries(&query, &one)?;
    let value = found.first().and_then(|(_, labels)| labels.get("found"));
    same("value", value.map_or("", String::as_str), "here")
}

pub(super) fn level(case: &Value) -> Result<(), String> {
    let metadata: Vec<(String, String)> = pairs(&case["structured_metadata"]).into_iter().collect();
    let levels = Levels::of(&Labels::empty());
    let found = levels.level(&metadata, text(case, "line").as_bytes());
    same("level", &found, text(case, "want"))
}
