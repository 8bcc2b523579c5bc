//! Series over time from spans in memory, and from a trace store that counts them itself; the tables
//! of steps, intervals and ranks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use trine_query::budget::{Cancel, Limits};
use trine_query::traceql::source::{self, Source};
use trine_query::traceql::{Engine, MetricSeries, MetricsOptions, default_step, parse};
use trine_storage::shared::Shared;
use trine_storage::sim::SimFs;
use trine_tracestore::{
    AnyValue, Config, Durability, KeyValue, Resource, Scope, Span as StoredSpan, TraceStore,
};

use super::memory::Memory;
use super::spans::{Span, Told, float};
use super::{Check, text};

/// How far a value may be from the one expected: a share of it.
const TOLERANCE: f64 = 1e-9;
/// Tables count in small numbers; samples are told in milliseconds.
const MILLISECOND: i64 = 1_000_000;

/// The check of a list; none for lists that are not checked.
pub(super) fn check_of(list: &str) -> Option<Check> {
    match list {
        "cases" => Some(case),
        "tables" => Some(table),
        _ => None,
    }
}

/// A query over spans of one trace.
fn case(case: &Value) -> Result<(), String> {
    let spans = Span::list(&case["spans"]);
    let request = &case["request"];
    let number = |field: &str| request[field].as_i64().unwrap_or(0);
    let options = options(
        (number("start_ns"), number("end_ns"), number("step_ns")),
        request["instant"].as_bool().unwrap_or(false),
    );
    each_source(&spans, &mut |place, source| {
        let found = ask(source, text(request, "query"), &options);
        let found = found.and_then(|found| compare(&found, case, &options));
        found.map_err(|reason| format!("{place}: {reason}"))
    })
}

pub(super) fn options(
    (start_ns, end_ns, step_ns): (i64, i64, i64),
    instant: bool,
) -> MetricsOptions {
    MetricsOptions {
        start_ns,
        end_ns,
        step_ns,
        instant,
        exemplars: 0,
        series_max: 0,
    }
}

/// The spans as rows of one trace, in a store's memory and in its blocks.
fn each_source(
    spans: &[Span],
    check: &mut dyn FnMut(&str, &dyn Source) -> Result<(), String>,
) -> Result<(), String> {
    let traces = match spans.is_empty() {
        true => Vec::new(),
        false => vec![spans.to_vec()],
    };
    check("rows", &Memory { traces })?;
    let store = stored(spans);
    check("in memory", &store.snapshot())?;
    store.flush().unwrap();
    check("in a block", &store.snapshot())
}

/// A store of spans, which are made roots of one trace.
fn stored(spans: &[Span]) -> TraceStore {
    let config = Config {
        future_max: None,
        retention: None,
        ..Config::default()
    };
    let builder = TraceStore::builder(Path::new("store"))
        .config(config)
        .fs(Arc::new(SimFs::new()));
    let store = builder.shared(Shared::without_workers()).open().unwrap();
    let mut appender = store.appender();
    for (number, span) in (1u64..).zip(spans) {
        let of = |scope: &str| {
            let held = span.attributes.iter();
            held.filter_map(|(name, value)| {
                let key = name.strip_prefix(scope)?;
                Some(KeyValue {
                    key: key.into(),
                    value: any_value(value)?,
                })
            })
            .collect::<Vec<_>>()
        };
        let resource = Arc::new(Resource {
            attributes: of("resource."),
            ..Resource::default()
        });
        let start_ns = u64::try_from(span.start).unwrap();
        let stored = StoredSpan {
            trace_id: [1; 16],
            span_id: number.to_be_bytes(),
            start_ns,
            end_ns: start_ns + u64::try_from(span.duration).unwrap(),
            attributes: of("span."),
            ..StoredSpan::default()
        };
        appender.append(&resource, &Arc::new(Scope::default()), stored);
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    store
}

fn any_value(value: &Told) -> Option<AnyValue> {
    Some(match value {
        Told::Nil | Told::Status(_) | Told::Kind(_) => return None,
        Told::Bool(truth) => AnyValue::Bool(*truth),
        Told::Int(number) | Told::Duration(number) => AnyValue::Int(*number),
        Told::Float(number) => AnyValue::Double(*number),
        Told::Str(text) => AnyValue::String(text.clone()),
        Told::Array(values) => AnyValue::Array(values.iter().filter_map(any_value).collect()),
    })
}

pub(super) fn ask(
    source: &dyn Source,
    query: &str,
    options: &MetricsOptions,
) -> Result<Vec<MetricSeries>, String> {
    let query = parse(query).map_err(|error| error.to_string())?;
    let engine = Engine::new(Limits::default());
    let found = engine.metrics(source, &query, options, &Cancel::new());
    Ok(found.map_err(|error| error.to_string())?.series)
}

/// Labels by name, in words.
fn labels(series: &MetricSeries) -> BTreeMap<String, String> {
    let told = |(name, value): &(Arc<str>, Option<source::Value>)| {
        (name.to_string(), format!("{value:?}"))
    };
    series.labels.iter().map(told).collect()
}

fn compare(found: &[MetricSeries], case: &Value, options: &MetricsOptions) -> Result<(), String> {
    let expected = case["series"].as_array().map_or(&[][..], Vec::as_slice);
    if let Some(count) = case["exact_series_count"].as_u64()
        && found.len() as u64 != count
    {
        return Err(format!("found {} series, expected {count}", found.len()));
    }
    for series in expected {
        let wanted: BTreeMap<String, String> = series["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), format!("{:?}", Told::read(value).stored())))
            .collect();
        let values: Vec<&Value> = series["values"].as_array().into_iter().flatten().collect();
        let is_nan = |value: &Value| value.as_str() == Some("NaN");
        let Some(found) = found
            .iter()
            .find(|found| close_labels(&labels(found), &wanted))
        else {
            // A series without a value is not returned.
            if values.iter().all(|value| is_nan(value)) {
                continue;
            }
            return Err(format!("no series has the labels {wanted:?}"));
        };
        for (at, value) in values
            .into_iter()
            .enumerate()
            .filter(|(_, value)| !value.is_null())
        {
            let time = match options.instant {
                true => options.end_ns,
                false => {
                    let start = options.start_ns - options.start_ns.rem_euclid(options.step_ns);
                    start + options.step_ns * (i64::try_from(at).unwrap() + 1)
                }
            };
            let time = time.div_euclid(MILLISECOND);
            let sample = found.samples.iter().find(|(held, _)| *held == time);
            let is_right = match sample {
                None => is_nan(value),
                Some((_, held)) => !is_nan(value) && is_close(*held, float(value)),
            };
            if !is_right {
                return Err(format!(
                    "{wanted:?} at {time}: found {sample:?}, expected {value}"
                ));
            }
        }
    }
    Ok(())
}

/// Whether labels are the same, but for what rounding does to bounds of buckets.
fn close_labels(found: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    let number = |text: &str| {
        let inner = text.strip_prefix("Some(Float(")?.strip_suffix("))")?;
        inner.parse::<f64>().ok()
    };
    found.len() == wanted.len()
        && found.iter().zip(wanted).all(|(found, wanted)| {
            let is_same = match (number(found.1), number(wanted.1)) {
                (Some(found), Some(wanted)) => is_close(found, wanted),
                _ => found.1 == wanted.1,
            };
            found.0 == wanted.0 && is_same
        })
}

pub(super) fn is_close(found: f64, expected: f64) -> bool {
    found == expected || (found - expected).abs() <= TOLERANCE * expected.abs()
}

/// A table of small facts.
fn table(table: &Value) -> Result<(), String> {
    let check: fn(&Value) -> Result<(), String> = match text(table, "table") {
        "default_step" => step,
        "interval_count" | "interval_timestamp" | "interval_of" => interval,
        "log2_bucket" => bucket,
        "rank" => rank,
        other => return Err(format!("no table is called {other}")),
    };
    let rows = table["rows"].as_array().into_iter().flatten();
    let wrong = rows.filter_map(|row| check(row).err().map(|reason| format!("{row}: {reason}")));
    let wrong: Vec<String> = wrong.collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n    ")),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("found {found:?}, expected {expected:?}")),
    }
}

fn step(row: &Value) -> Result<(), String> {
    let window = row["window_ns"].as_i64().unwrap();
    // Where the range begins makes no difference.
    for start in [0, 1_700_000_000_000_000_123] {
        let expected = row["step_ns"].as_i64().unwrap();
        same(&default_step(start, start + window), &expected)?;
    }
    Ok(())
}

/// What a count over a range tells of its intervals.
fn interval(row: &Value) -> Result<(), String> {
    let number = |field: &str| row[field].as_i64().map(|number| number * MILLISECOND);
    let range = |field: &str| number(field).unwrap();
    let options = options(
        (range("start"), range("end"), range("step")),
        row["instant"].as_bool().unwrap(),
    );
    let query = "{ } | count_over_time()";
    let time = number("ts").unwrap_or(range("end"));
    let span = Span {
        start: time,
        ..Span::default()
    };
    each_source(&[span], &mut |place, source| {
        let found = ask(source, query, &options);
        let samples = match found {
            Ok(mut found) if !found.is_empty() => found.remove(0).samples,
            Ok(_) => Vec::new(),
            // A range that ends before it begins has no intervals.
            Err(_) if options.end_ns <= options.start_ns => Vec::new(),
            Err(reason) => return Err(reason),
        };
        let checked = if let Some(count) = row["intervals"].as_u64() {
            same(&(samples.len() as u64), &count)
        } else if let Some(at) = row["interval"].as_u64()
            && let Some(time) = row["timestamp"].as_i64()
        {
            // Also of an interval behind the last.
            let at = i64::try_from(at).unwrap();
            same(&(samples[0].0 + at * row["step"].as_i64().unwrap()), &time)
        } else {
            let found = samples.iter().position(|(_, count)| *count > 0.0);
            let found = found.map_or(-1, |at| i64::try_from(at).unwrap());
            same(&found, &row["interval"].as_i64().unwrap())
        };
        checked.map_err(|reason| format!("{place}: {reason}"))
    })
}

/// The bucket of a number, as a histogram tells it.
fn bucket(row: &Value) -> Result<(), String> {
    let number = row["in"].as_i64().unwrap();
    let attributes = [("span.n".to_owned(), Told::Int(number))];
    let span = Span {
        start: 1,
        attributes: attributes.into_iter().collect(),
        ..Span::default()
    };
    let options = options((0, 10, 10), false);
    each_source(&[span], &mut |_, source| {
        let found = ask(source, "{ } | histogram_over_time(span.n)", &options)?;
        let bound = found.first().and_then(|series| match &series.labels[..] {
            [(_, Some(source::Value::Float(bound)))] => Some(*bound),
            _ => None,
        });
        same(&bound.unwrap_or(-1.0), &float(&row["bucket"]))
    })
}

/// `topk` or `bottomk` over series whose values are given.
fn rank(row: &Value) -> Result<(), String> {
    let mut spans = Vec::new();
    for (name, values) in row["in"].as_object().unwrap() {
        for (at, value) in (1..).zip(values.as_array().unwrap()) {
            let value = float(value);
            if value.is_nan() {
                continue;
            }
            let attributes = [
                ("span.x".to_owned(), Told::Str(name.clone())),
                ("span.n".to_owned(), Told::Float(value)),
            ];
            spans.push(Span {
                start: at * MILLISECOND,
                attributes: attributes.into_iter().collect(),
                ..Span::default()
            });
        }
    }
    let options = options((0, 3 * MILLISECOND, MILLISECOND), false);
    let query = format!(
        "{{ }} | sum_over_time(span.n) by (span.x) | {}({})",
        text(row, "op"),
        row["limit"]
    );
    each_source(&spans, &mut |place, source| {
        let found = ask(source, &query, &options)?;
        let told = |series: &MetricSeries| {
            let value = |at: i64| {
                let sample = series.samples.iter().find(|(time, _)| *time == at);
                sample.map_or("NaN".to_owned(), |(_, value)| value.to_string())
            };
            (
                format!("{:?}", series.labels[0].1),
                (1..=3).map(value).collect(),
            )
        };
        let found: BTreeMap<String, Vec<String>> = found.iter().map(told).collect();
        let expected = row["out"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, values)| {
                let name = source::Value::Str(name.as_str().into());
                let values = values.as_array().unwrap().iter();
                let values = values.map(|value| float(value).to_string()).collect();
                (format!("{:?}", Some(name)), values)
            });
        same(&found, &expected.collect()).map_err(|reason| format!("{place}: {reason}"))
    })
}
