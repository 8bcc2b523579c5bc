//! `/federate`: the newest sample of each series in the text format, for another Prometheus to
//! scrape. Mounted by `prometheus`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use trine_query::budget::BudgetError;
use trine_query::promql::eval::LOOKBACK_MS;
use trine_query::promql::{self, Hints, SampleValue, SelectRequest};
use trine_query::text::format_general;
use trine_query::vector::is_absent;
use trine_storage::{Labels, TimeRange};

use super::answer::Failure;
use super::pieces::{PIECE_BYTES, Produce, Reply};
use super::run::{self, Asked};
use super::source;
use crate::app::App;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
const TEXT_UTF8: &str = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8";

/// The handler.
pub(super) async fn federate(State(app): State<Arc<App>>, request: Request) -> Response {
    let utf8 = takes_utf8(request.headers());
    let work = move |asked: &Asked| newest(asked, utf8);
    match run::run_of_several(app, request, work).await {
        Ok(reply) => reply.into_response_of(if utf8 { TEXT_UTF8 } else { TEXT }),
        Err(failure) => {
            let kind = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
            let status = match failure.status() {
                StatusCode::BAD_REQUEST => StatusCode::BAD_REQUEST,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, [kind], format!("{failure}\n")).into_response()
        }
    }
}

/// Whether the client reads names that are no plain identifiers.
fn takes_utf8(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    accepted.any(|value| {
        let text = value.to_str().unwrap_or("").to_ascii_lowercase();
        text.contains("escaping=allow-utf-8")
    })
}

/// The newest samples of the series that any selector names; native histograms have no form here.
fn newest(asked: &Asked, utf8: bool) -> Result<Reply, Failure> {
    let now = asked.app.clock.now_ms();
    let source = source::of(asked)?;
    let mut found: BTreeMap<(String, Labels), (i64, f64)> = BTreeMap::new();
    for text in asked.params.all("match[]") {
        let matchers = promql::parse_selector(text);
        let request = SelectRequest {
            matchers: matchers.map_err(|error| Failure::bad(error.to_string()))?,
            range: TimeRange::inclusive(now - LOOKBACK_MS + 1, now),
            hints: Hints::default(),
        };
        for series in source.select(&request)? {
            let series = series?;
            if asked.cancel.is_canceled() {
                return Err(promql::QueryError::from(BudgetError::Canceled).into());
            }
            let samples = &series.samples;
            let until = samples.timestamps.partition_point(|time| *time <= now);
            if let Some(at) = until.checked_sub(1)
                && let Some(time) = samples.timestamps.get(at)
                && let Some(SampleValue::Float(value)) = samples.values.get(at)
                && !is_absent(value)
                && let Some(name) = series.labels.get("__name__")
            {
                found.insert((name.to_owned(), series.labels.clone()), (*time, value));
            }
        }
    }
    Ok(Reply::of(Families {
        samples: found.into_iter(),
        name: String::new(),
        utf8,
    }))
}

/// Samples by name, being written.
struct Families {
    samples: std::collections::btree_map::IntoIter<(String, Labels), (i64, f64)>,
    /// The name of the last one.
    name: String,
    utf8: bool,
}

impl Produce for Families {
    fn produce(&mut self, out: &mut String) -> bool {
        while out.len() < PIECE_BYTES {
            let Some(((name, labels), (time_ms, value))) = self.samples.next() else {
                return false;
            };
            if name != self.name {
                out.push_str("# TYPE ");
                self.metric_name(out, &name);
                out.push_str(" untyped\n");
                self.name.clone_from(&name);
            }
            self.series(out, &name, &labels);
            let value = format_general(value);
            writeln!(out, " {value} {time_ms}").expect("a String takes everything");
        }
        true
    }
}

impl Families {
    fn metric_name(&self, out: &mut String, name: &str) {
        match (is_plain(name, true), self.utf8) {
            (true, _) => out.push_str(name),
            (false, true) => quoted(out, name),
            (false, false) => out.push_str(&escaped(name, true)),
        }
    }

    fn series(&self, out: &mut String, name: &str, labels: &Labels) {
        let inside = !is_plain(name, true) && self.utf8;
        if !inside {
            self.metric_name(out, name);
        }
        out.push('{');
        if inside {
            quoted(out, name);
            out.push(',');
        }
        for (name, value) in labels.iter().filter(|(name, _)| *name != "__name__") {
            match (is_plain(name, false), self.utf8) {
                (true, _) => out.push_str(name),
                (false, true) => quoted(out, name),
                (false, false) => out.push_str(&escaped(name, false)),
            }
            out.push('=');
            quoted(out, value);
            out.push(',');
        }
        // Without one the scraping server would put its own there.
        if labels.get("instance").is_none() {
            out.push_str("instance=\"\"");
        } else {
            out.pop();
        }
        out.push('}');
    }
}

/// Whether a name needs no quotes. Metrics may have colons.
fn is_plain(name: &str, is_metric: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || is_metric && c == ':';
    !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && name.chars().all(fits)
}

/// A name with underscores for what a plain one cannot have.
fn escaped(name: &str, is_metric: bool) -> String {
    let place = |(at, c): (usize, char)| match c {
        '0'..='9' if at > 0 => c,
        ':' if is_metric => c,
        'a'..='z' | 'A'..='Z' | '_' => c,
        _ => '_',
    };
    name.chars().enumerate().map(place).collect()
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
}
