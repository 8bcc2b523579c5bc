//! All signals of a trace in one answer: its spans, the log lines and the exemplars that name it. The
//! path says `signals`, since links are what OTLP calls references from span to span. `routes` mounts
//! it.
//!
//! Each part has the form that the API of its signal gives it, so that a client may hand it to the
//! reader that it has: `trace` is that of Tempo's `/api/v2/traces`, `logs` are streams of Loki,
//! `exemplars` those of Prometheus.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use trine_logstore::{Batch, Either, LineFilter, RowBatch, Rows};
use trine_query::budget::Budget;
use trine_storage::{Error, Labels, Matcher, TimeRange};
use trine_tracestore::{Trace, TraceId};
use trine_tsdb::{Exemplar, Hints};

use super::prometheus::exemplars::write as put_exemplars;
use super::prometheus::federation::labelled;
use super::prometheus::json::{self, Object};
use super::prometheus::run::{self, Asked};
use super::tempo;
use crate::app::App;
use crate::params::Params;
use crate::refusal::Refusal;
use crate::routes::Routes;
use crate::tenants::Tenant;

/// Log lines and exemplars of an answer, each, unless `limit` says otherwise.
const LIMIT: usize = 1000;

/// The most that `limit` may say.
const LIMIT_MAX: usize = 10_000;

/// Seconds before and after the spans in which lines and exemplars are looked for, unless `slack` says
/// otherwise: clocks differ, and lines are written when a request is over.
const SLACK_S: i64 = 60;

/// The most that `slack` may say.
const SLACK_S_MAX: i64 = 24 * 3600;

/// Seconds back in which they are looked for when neither spans nor the request say when.
const LOOK_BACK_S: i64 = 3600;

const SECOND_NS: i64 = 1_000_000_000;
const MILLISECOND_NS: i64 = 1_000_000;

/// Labels and metadata that hold the id of a trace, by the habits of various senders.
const NAMES: [&str; 4] = ["trace_id", "traceID", "traceId", "TraceId"];

/// Adds the route under `prefix`.
pub fn mount(routes: Routes, prefix: &str) -> Routes {
    routes.route(&format!("{prefix}/api/signals/{{id}}"), get(signals))
}

async fn signals(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let found = run::run_of_several(app, request, move |asked| {
        let id = tempo::trace_id(&id)?;
        find(asked, id).map(Found::json)
    });
    match found.await {
        Ok(text) => tempo::respond_json(text),
        Err(refusal) => tempo::refused(&refusal),
    }
}

/// A log line: time, line, metadata.
type Entry = (i64, String, Labels);

/// What there is about a trace.
#[derive(Debug)]
struct Found {
    id: TraceId,
    range: TimeRange,
    trace: Trace,
    logs: BTreeMap<Labels, Vec<Entry>>,
    exemplars: BTreeMap<Labels, Vec<Exemplar>>,
    /// Why there may be more.
    notices: Vec<String>,
}

/// Texts that are the id in labels and lines: those of 64 bits are often written without zeros.
fn texts(id: TraceId) -> Vec<String> {
    let long: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    match long.strip_prefix("0000000000000000") {
        Some(short) => vec![long.clone(), short.to_owned()],
        None => vec![long],
    }
}

fn number(params: &Params, name: &str, (usual, max): (i64, i64)) -> Result<i64, Refusal> {
    let Some(text) = params.get(name) else {
        return Ok(usual);
    };
    let number = text.parse().ok();
    number
        .filter(|number| (0..=max).contains(number))
        .ok_or_else(|| Refusal::bad(format!("invalid {name}: must be a number from 0 to {max}")))
}

fn find(asked: &Asked, id: TraceId) -> Result<Found, Refusal> {
    let params = &asked.params;
    let limits = (LIMIT as i64, LIMIT_MAX as i64);
    let limit = usize::try_from(number(params, "limit", limits)?).unwrap_or(0);
    let slack_ns = number(params, "slack", (SLACK_S, SLACK_S_MAX))? * SECOND_NS;
    let told = tempo::range(params)?;
    let mut found = Found {
        id,
        range: told,
        trace: Trace::default(),
        logs: BTreeMap::new(),
        exemplars: BTreeMap::new(),
        notices: Vec::new(),
    };
    let tenants = asked.tenants.iter();
    let tenants: Vec<(&str, &Tenant)> = tenants
        .filter_map(|(id, tenant)| Some((id.as_str(), tenant.as_deref()?)))
        .collect();
    for (_, tenant) in &tenants {
        if let Some(store) = tenant.read_traces()?
            && let Some(trace) = store.snapshot().trace(id)?
        {
            found.trace.resources.extend(trace.resources);
        }
    }
    found.range = range(&found.trace, told, slack_ns, asked.app.clock.now_ns());
    let budget = Budget::new(
        asked.limits(),
        asked.cancel.clone(),
        Arc::clone(&asked.app.clock),
    );
    let is_one = asked.tenants.len() == 1;
    for (name, tenant) in tenants {
        let of = |labels: &Labels| match is_one {
            true => labels.clone(),
            false => labelled(labels, name),
        };
        found.add_logs(tenant, limit, &budget, of)?;
        found.add_exemplars(tenant, limit, of)?;
    }
    Ok(found)
}

/// Where to look: about the spans, else where the request says, else in the last hour.
fn range(trace: &Trace, told: TimeRange, slack_ns: i64, now_ns: i64) -> TimeRange {
    let time = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    let first = trace.spans().map(|(_, _, span)| time(span.start_ns)).min();
    let last = trace.spans().map(|(_, _, span)| time(span.end_ns)).max();
    match (first, last) {
        (Some(first), Some(last)) => TimeRange::new(
            first.saturating_sub(slack_ns),
            last.max(first).saturating_add(slack_ns),
        ),
        _ if told.start != i64::MIN => told,
        _ => TimeRange::new(now_ns - LOOK_BACK_S * SECOND_NS, now_ns),
    }
}

impl Found {
    /// Adds the log lines of a tenant that have the id in them, or in a label or metadata of one of
    /// the usual names.
    fn add_logs(
        &mut self,
        tenant: &Tenant,
        limit: usize,
        budget: &Budget,
        of: impl Fn(&Labels) -> Labels,
    ) -> Result<(), Refusal> {
        let Some(store) = tenant.read_logs()? else {
            return Ok(());
        };
        let snapshot = store.snapshot();
        let mut entries: Vec<(i64, Labels, String, Labels)> = Vec::new();
        for text in texts(self.id) {
            for (at, name) in NAMES.into_iter().enumerate() {
                let mut rows = Rows::new(Vec::new(), self.range);
                rows.limit_hint = Some(limit.saturating_add(1));
                let metadata = Matcher::equal(name, &text);
                if at == 0 {
                    let line = LineFilter::Contains(text.clone().into());
                    rows.either = Some(Either { line, metadata });
                } else {
                    rows.metadata = vec![metadata];
                }
                let mut count = 0;
                for batch in snapshot.scan(&trine_logstore::Request::Rows(rows))? {
                    if let Err(error) = budget.check() {
                        self.notice(format!("log lines are missing: {error}"));
                        break;
                    }
                    let Batch::Rows(batch) = batch? else { continue };
                    count += batch.timestamps.len();
                    entries.extend(entries_of(&batch));
                    if count > limit {
                        break;
                    }
                }
            }
        }
        entries.sort();
        entries.dedup();
        if entries.len() > limit {
            entries.truncate(limit);
            self.notice(format!("there are more than {limit} log lines"));
        }
        for (time, labels, line, metadata) in entries {
            let stream = self.logs.entry(of(&labels)).or_default();
            stream.push((time, line, metadata));
        }
        Ok(())
    }

    /// Adds the exemplars of a tenant that have the id as the value of a label.
    fn add_exemplars(
        &mut self,
        tenant: &Tenant,
        limit: usize,
        of: impl Fn(&Labels) -> Labels,
    ) -> Result<(), Error> {
        let Some(store) = tenant.read_metrics()? else {
            return Ok(());
        };
        let texts = texts(self.id);
        let names = |exemplar: &Exemplar| {
            let mut values = exemplar.labels.iter().map(|(_, value)| value);
            values.any(|value| texts.iter().any(|text| text.eq_ignore_ascii_case(value)))
        };
        let range = TimeRange::inclusive(
            self.range.start.div_euclid(MILLISECOND_NS),
            self.range.end.div_euclid(MILLISECOND_NS),
        );
        let mut count = 0;
        let snapshot = store.snapshot();
        for series in snapshot.exemplars(&[], range, &Hints::default())? {
            let of_trace = series.exemplars.into_iter().filter(names);
            let of_trace: Vec<Exemplar> = of_trace.take(limit - count).collect();
            count += of_trace.len();
            if !of_trace.is_empty() {
                let exemplars = self.exemplars.entry(of(&series.labels)).or_default();
                exemplars.extend(of_trace);
            }
        }
        if count >= limit {
            self.notice(format!("there may be more than {limit} exemplars"));
        }
        Ok(())
    }

    fn notice(&mut self, text: String) {
        if !self.notices.contains(&text) {
            self.notices.push(text);
        }
    }

    fn json(self) -> String {
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        object.text("traceId", texts(self.id).first().map_or("", String::as_str));
        // Numbers of 64 bits are strings, as in OTLP.
        object.text("startTimeUnixNano", &self.range.start.to_string());
        object.text("endTimeUnixNano", &self.range.end.to_string());
        tempo::put_trace(object.key("trace"), self.trace);
        json::array(object.key("logs"), self.logs, put_stream);
        json::array(object.key("exemplars"), self.exemplars, put_exemplars);
        json::strings(object.key("notices"), &self.notices);
        object.end();
        out
    }
}

fn entries_of(batch: &RowBatch) -> impl Iterator<Item = (i64, Labels, String, Labels)> {
    let rows = batch.stream.iter().zip(&batch.timestamps);
    rows.enumerate().map(|(row, (stream, time))| {
        let of = |sets: &[Labels], at: Option<u32>| {
            let set = at.and_then(|at| sets.get(at as usize));
            set.cloned().unwrap_or_else(Labels::empty)
        };
        let line = String::from_utf8_lossy(batch.lines.get(row)).into_owned();
        let metadata = of(&batch.metadata_sets, batch.metadata.get(row).copied());
        (*time, of(&batch.streams, Some(*stream)), line, metadata)
    })
}

fn put_stream(out: &mut String, (labels, entries): (Labels, Vec<Entry>)) {
    let mut object = Object::begin(out);
    json::labels(object.key("stream"), &labels);
    json::array(object.key("values"), entries, |out, entry| {
        let (time, line, metadata) = entry;
        out.push('[');
        json::string(out, &time.to_string());
        out.push(',');
        json::string(out, &line);
        out.push(',');
        let mut parts = Object::begin(out);
        if !metadata.is_empty() {
            json::labels(parts.key("structuredMetadata"), &metadata);
        }
        parts.end();
        out.push(']');
    });
    object.end();
}

#[cfg(test)]
mod tests;
