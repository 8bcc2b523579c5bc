//! Our own cases of series over time: the scripts `query/testdata/traceql/*.series`, over spans of a
//! store's memory and of its blocks, and once more as rows only, without what the store counts.
//!
//! A script has lines `span TRACE ID PARENT KIND STATUS NAME START DURATION name=value...`, then
//! `range START END STEP` or `instant START END`, and for each query `eval QUERY` with a line
//! `{labels} value value...` for each series, where `_` is no value, or with a line `error TEXT`.

use std::path::Path;
use std::sync::Arc;

use trine_query::text::parse_go_duration;
use trine_query::traceql::source::{Batches, Request, Source, Value, ValuesRequest};
use trine_query::traceql::{MetricSeries, MetricsOptions};
use trine_storage::error::Kind;
use trine_storage::shared::Shared;
use trine_storage::sim::SimFs;
use trine_storage::{Error, TimeRange};
use trine_tracestore::{
    AnyValue, Config, Durability, Event, KeyValue, Resource, Scope, Span, Status, TraceStore,
};

use super::cases::{files, say};
use super::metrics::{ask, is_close, options};

/// A source that does not count.
pub(super) struct RowsOnly<'a>(pub(super) &'a dyn Source);

impl Source for RowsOnly<'_> {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        match request {
            Request::Rows(_) => self.0.scan(request),
            _ => Err(Error::new(Kind::Unsupported, "this source only gives rows")),
        }
    }

    fn attribute_names(
        &self,
        range: TimeRange,
    ) -> Result<Vec<(trine_query::traceql::source::Scope, String, u64)>, Error> {
        self.0.attribute_names(range)
    }

    fn attribute_values(&self, request: &ValuesRequest) -> Result<Vec<(Value, u64)>, Error> {
        self.0.attribute_values(request)
    }
}

#[test]
fn own_series() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/traceql");
    let (mut passed, mut cases, mut wrong) = (0, 0, String::new());
    for path in files(&folder, "series") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let script = Script::read(&std::fs::read_to_string(&path).unwrap());
        for (place, reason) in script.run() {
            cases += 1;
            match reason {
                Ok(()) => passed += 1,
                Err(reason) => wrong.push_str(&format!("\n{name}:{place}: {reason}")),
            }
        }
    }
    say(&format!("traceql own series: {passed} of {cases} passed"));
    assert!(wrong.is_empty(), "{wrong}");
}

/// One query and what is expected of it.
struct Case {
    line: usize,
    query: String,
    options: MetricsOptions,
    expected: Vec<String>,
}

pub(super) struct Script {
    pub(super) store: TraceStore,
    cases: Vec<Case>,
}

fn nanos(text: &str) -> i64 {
    parse_go_duration(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Words, of which those in double quotes may hold spaces.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => {}
        }
        if c != ' ' || is_quoted {
            words.last_mut().unwrap().push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn any_value(text: &str) -> AnyValue {
    if let Some(text) = text.strip_prefix('"') {
        return AnyValue::String(text.trim_end_matches('"').to_owned());
    }
    if let Some(list) = text.strip_prefix('[') {
        let list = list.trim_end_matches(']');
        return AnyValue::Array(list.split(',').map(any_value).collect());
    }
    match text.parse::<i64>() {
        Ok(number) => AnyValue::Int(number),
        Err(_) => match text.parse::<bool>() {
            Ok(truth) => AnyValue::Bool(truth),
            Err(_) => AnyValue::Double(text.parse().unwrap_or_else(|_| panic!("{text}?"))),
        },
    }
}

fn span(line: &str) -> (Resource, Scope, Span) {
    let words = words(line);
    let number = |at: usize| words[at].parse::<u8>().unwrap();
    let place = |of: &[&str], at: usize| {
        let found = of.iter().position(|held| *held == words[at]);
        i32::try_from(found.unwrap_or_else(|| panic!("{}?", words[at]))).unwrap()
    };
    let kinds = [
        "unspecified",
        "internal",
        "server",
        "client",
        "producer",
        "consumer",
    ];
    let start = nanos(&words[6]);
    let mut resource = Resource::default();
    let mut span = Span {
        trace_id: [number(0); 16],
        span_id: [number(1); 8],
        parent_span_id: (number(2) != 0).then(|| [number(2); 8]),
        kind: place(&kinds, 3),
        status: Some(Status {
            code: place(&["unset", "ok", "error"], 4),
            ..Status::default()
        }),
        name: words[5].trim_matches('"').to_owned(),
        start_ns: u64::try_from(start).unwrap(),
        end_ns: u64::try_from(start + nanos(&words[7])).unwrap(),
        ..Span::default()
    };
    for word in &words[8..] {
        let (name, value) = word.split_once('=').unwrap();
        let value = any_value(value);
        if let ("event:name", AnyValue::String(name)) = (name, &value) {
            span.events.push(Event {
                name: name.clone(),
                ..Event::default()
            });
            continue;
        }
        let (scope, key) = name.split_once('.').unwrap();
        let key = key.into();
        match scope {
            "resource" => resource.attributes.push(KeyValue { key, value }),
            "event" => span.events[0].attributes.push(KeyValue { key, value }),
            _ => span.attributes.push(KeyValue { key, value }),
        }
    }
    (resource, Scope::default(), span)
}

impl Script {
    /// Reads a script and stores its spans.
    pub(super) fn read(text: &str) -> Self {
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
        let mut cases: Vec<Case> = Vec::new();
        let mut asked = options((0, 1, 1), false);
        for (line, text) in (1..).zip(text.lines()) {
            let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
            match word {
                "span" => {
                    let (resource, scope, span) = span(rest);
                    appender.append(&Arc::new(resource), &Arc::new(scope), span);
                }
                "range" | "instant" => {
                    let times: Vec<i64> = rest.split(' ').map(nanos).collect();
                    let step = times.get(2).copied().unwrap_or(0);
                    asked = options((times[0], times[1], step), word == "instant");
                }
                "eval" => cases.push(Case {
                    line,
                    query: rest.to_owned(),
                    options: asked.clone(),
                    expected: Vec::new(),
                }),
                _ if text.trim().is_empty() || text.starts_with('#') => {}
                _ => cases
                    .last_mut()
                    .unwrap()
                    .expected
                    .push(text.trim().to_owned()),
            }
        }
        appender.commit(Durability::Synced).unwrap().wait().unwrap();
        Self { store, cases }
    }

    /// Runs all cases; each with its line.
    fn run(&self) -> Vec<(usize, Result<(), String>)> {
        let memory = self.store.snapshot();
        self.store.flush().unwrap();
        let blocks = self.store.snapshot();
        let sources: [(&str, &dyn Source); 3] = [
            ("rows", &RowsOnly(&blocks)),
            ("in memory", &memory),
            ("in a block", &blocks),
        ];
        let run = |case: &Case| {
            for (place, source) in sources {
                let found = match ask(source, &case.query, &case.options) {
                    Ok(found) => told(&found, &case.options),
                    Err(reason) => vec![format!("error {reason}")],
                };
                if !is_same(&found, &case.expected) {
                    return Err(format!(
                        "{}\n  {place}: found\n    {}\n  expected\n    {}",
                        case.query,
                        found.join("\n    "),
                        case.expected.join("\n    ")
                    ));
                }
            }
            Ok(())
        };
        self.cases
            .iter()
            .map(|case| (case.line, run(case)))
            .collect()
    }
}

/// The times of an answer's intervals, milliseconds.
fn times(options: &MetricsOptions) -> Vec<i64> {
    const MILLISECOND: i64 = 1_000_000;
    if options.instant {
        return vec![options.end_ns / MILLISECOND];
    }
    let step = options.step_ns;
    let start = options.start_ns - options.start_ns % step;
    let times = (1..).map(|at| start + at * step);
    let times = times.take_while(|time| *time < options.end_ns + step);
    times.map(|time| time / MILLISECOND).collect()
}

fn value(value: &Value) -> String {
    match value {
        Value::Str(text) => format!("{text:?}"),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Bool(truth) => truth.to_string(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(self::value).collect();
            format!("[{}]", values.join(","))
        }
    }
}

/// Series in words.
fn told(series: &[MetricSeries], options: &MetricsOptions) -> Vec<String> {
    let times = times(options);
    let one = |series: &MetricSeries| {
        let label = |(name, held): &(Arc<str>, Option<Value>)| match held {
            Some(held) => format!("{name}={}", value(held)),
            None => format!("{name}=nil"),
        };
        let labels: Vec<String> = series.labels.iter().map(label).collect();
        let sample = |time: &i64| {
            let found = series.samples.iter().find(|(held, _)| held == time);
            found.map_or("_".to_owned(), |(_, value)| format!("{value:?}"))
        };
        let samples: Vec<String> = match series.samples.is_empty() {
            true => Vec::new(),
            false => times.iter().map(sample).collect(),
        };
        format!("{{{}}} {}", labels.join(", "), samples.join(" "))
            .trim_end()
            .to_owned()
    };
    series.iter().map(one).collect()
}

/// Whether lines are the same, but for what rounding does to values.
fn is_same(found: &[String], expected: &[String]) -> bool {
    let parts = |line: &str| -> (String, Vec<String>) {
        match line.rsplit_once('}') {
            Some((labels, values)) => (
                labels.to_owned(),
                values.split_whitespace().map(str::to_owned).collect(),
            ),
            None => (line.to_owned(), Vec::new()),
        }
    };
    let same_value = |found: &String, expected: &String| {
        let numbers = (found.parse::<f64>(), expected.parse::<f64>());
        match numbers {
            (Ok(found), Ok(expected)) => is_close(found, expected),
            _ => found == expected,
        }
    };
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            let (found, expected) = (parts(found), parts(expected));
            found.0 == expected.0
                && found.1.len() == expected.1.len()
                && found
                    .1
                    .iter()
                    .zip(&expected.1)
                    .all(|(a, b)| same_value(a, b))
        })
}
