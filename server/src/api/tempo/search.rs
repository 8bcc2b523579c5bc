//! Searches for traces, in all tenants of a request: at once, or piece after piece for clients that
//! want to see the first traces early. `tempo` and `streaming` call it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use trine_query::traceql::ast::{Query, Root};
use trine_query::traceql::source::Value;
use trine_query::traceql::{self, Engine, SearchOptions, SearchResult, TraceSummary};
use trine_storage::TimeRange;
use trine_tracestore::Snapshot;

use super::request::{self, Search};
use super::source::{self, pair};
use crate::api::prometheus::run::Asked;
use crate::config::Traces;
use crate::ingest::otlp_value::hex;
use crate::proto::tempo::{
    SearchMetrics, SearchResponse, ServiceStats, Span, SpanSet, TraceSearchMetadata,
};
use crate::refusal::Refusal;

/// The service of a trace whose root did not arrive.
const ROOT_UNKNOWN: &str = "<root span not yet received>";

/// Into how many pieces a search is cut whose client wants to see the first traces early.
const PIECES: u32 = 5;

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) response: SearchResponse,
    /// Why there may be more, when the search used up what it may use.
    pub(super) notice: Option<String>,
}

/// A search that is about to run.
struct Run<'a> {
    asked: &'a Asked,
    engine: Engine,
    query: Query,
    stores: Vec<Snapshot>,
    options: SearchOptions,
}

impl<'a> Run<'a> {
    fn new(asked: &'a Asked, search: &Search, limits: &Traces) -> Result<Self, Refusal> {
        let query = request::parse(&search.query, limits)?;
        if !matches!(query.root, Root::Search(_)) {
            return Err(Refusal::bad(
                "a metrics query finds no traces; ask /api/metrics/query_range for it",
            ));
        }
        Ok(Self {
            asked,
            engine: source::engine(asked),
            query,
            stores: source::snapshots(asked)?,
            options: SearchOptions {
                limit: search.limit,
                spans_per_span_set: search.spans_per_set,
            },
        })
    }

    /// The newest traces of a range in all stores.
    fn range(&self, range: TimeRange) -> Result<SearchResult, Refusal> {
        let mut all = SearchResult::default();
        for store in &self.stores {
            let found = self
                .engine
                .search(store, &self.query, range, &self.options, &self.asked.cancel)
                .map_err(source::refusal)?;
            all.inspected_traces += found.inspected_traces;
            all.inspected_spans += found.inspected_spans;
            all.traces.extend(found.traces);
            all.is_partial |= found.is_partial;
            all.message = all.message.or(found.message);
        }
        if self.stores.len() > 1 {
            all.traces = joined(all.traces, self.options.spans_per_span_set);
            all.traces.truncate(self.options.limit);
        }
        Ok(all)
    }
}

/// The traces that a search finds, the newest first.
pub(super) fn whole(asked: &Asked, search: &Search, limits: &Traces) -> Result<Found, Refusal> {
    let run = Run::new(asked, search, limits)?;
    let found = run.range(search.range)?;
    let metrics = metrics(&found, (u32::from(!found.is_partial), 1));
    Ok(Found {
        response: response(found.traces, metrics),
        notice: found.message.filter(|_| found.is_partial),
    })
}

/// As [`whole`], in pieces from the newest to the oldest: together they are what the whole is, each
/// trace once, in the same order. Stops when `send` says so.
pub(super) fn in_pieces(
    asked: &Asked,
    search: &Search,
    limits: &Traces,
    mut send: impl FnMut(SearchResponse) -> ControlFlow<()>,
) -> Result<(), Refusal> {
    let mut run = Run::new(asked, search, limits)?;
    // Of a trace that lies in two stores the parts may lie in two pieces of time.
    let ranges = match run.stores.len() {
        0 | 1 => pieces(search.range),
        _ => vec![search.range],
    };
    let total = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
    // Traces that began before the piece in which they were met, until their time has come. What was
    // sent began in a later piece than is looked at, and is not met again.
    let mut held: Vec<TraceSummary> = Vec::new();
    let mut sum = SearchResult::default();
    for (done, range) in (1..).zip(ranges) {
        let found = run.range(range)?;
        sum.inspected_traces += found.inspected_traces;
        sum.inspected_spans += found.inspected_spans;
        held.extend(found.traces);
        held.sort_by(newest_first);
        held.dedup_by_key(|trace| trace.id);
        let ready = if done == total || found.is_partial {
            held.len()
        } else {
            held.partition_point(|trace| trace.start_ns >= range.start)
        };
        let ready: Vec<TraceSummary> = held.drain(..ready.min(run.options.limit)).collect();
        run.options.limit -= ready.len();
        let is_over = run.options.limit == 0 || found.is_partial;
        let jobs = match found.is_partial {
            true => (done - 1, total),
            false if is_over => (total, total),
            false => (done, total),
        };
        if send(response(ready, metrics(&sum, jobs))).is_break() || is_over {
            break;
        }
    }
    Ok(())
}

/// A range from its end to its start in pieces that double, so that little is done twice. A range
/// without ends is one.
fn pieces(range: TimeRange) -> Vec<TimeRange> {
    let Some(length) = range.end.checked_sub(range.start) else {
        return vec![range];
    };
    let unit = length >> (PIECES - 1);
    if unit == 0 {
        return vec![range];
    }
    let mut end = range.end;
    let starts = (0..PIECES - 1).map(|at| range.end - (unit << at));
    starts
        .chain([range.start])
        .map(|start| {
            let piece = TimeRange::new(start, end);
            end = start;
            piece
        })
        .collect()
}

fn newest_first(a: &TraceSummary, b: &TraceSummary) -> std::cmp::Ordering {
    (b.start_ns, a.id).cmp(&(a.start_ns, b.id))
}

/// Traces of several stores, the newest first; one that lies in two of them is one.
fn joined(traces: Vec<TraceSummary>, spans_per_set: usize) -> Vec<TraceSummary> {
    let mut all: Vec<TraceSummary> = Vec::new();
    let mut places = HashMap::new();
    for trace in traces {
        match places.entry(trace.id) {
            Entry::Vacant(place) => {
                place.insert(all.len());
                all.push(trace);
            }
            Entry::Occupied(place) => {
                if let Some(held) = all.get_mut(*place.get()) {
                    join(held, trace, spans_per_set);
                }
            }
        }
    }
    all.sort_by(newest_first);
    all
}

/// Adds what another store has of a trace.
fn join(trace: &mut TraceSummary, other: TraceSummary, spans_per_set: usize) {
    let end = |trace: &TraceSummary| i128::from(trace.start_ns) + i128::from(trace.duration_ns);
    let last = end(trace).max(end(&other));
    trace.start_ns = trace.start_ns.min(other.start_ns);
    trace.duration_ns = u64::try_from(last - i128::from(trace.start_ns)).unwrap_or(u64::MAX);
    if trace.root_name.is_none() {
        trace.root_name = other.root_name;
        trace.root_service = other.root_service;
    }
    for (service, stats) in other.services {
        let held = trace.services.entry(service).or_default();
        held.spans += stats.spans;
        held.errors += stats.errors;
    }
    for set in other.span_sets {
        let same = |held: &&mut traceql::SpanSet| is_of_one_group(held, &set);
        let Some(held) = trace.span_sets.iter_mut().find(same) else {
            trace.span_sets.push(set);
            continue;
        };
        held.matched += set.matched;
        held.spans.extend(set.spans);
        held.spans.sort_by_key(|span| span.start_ns);
        if spans_per_set > 0 {
            held.spans.truncate(spans_per_set);
        }
    }
}

/// Whether two sets of spans are told apart by nothing.
fn is_of_one_group(a: &traceql::SpanSet, b: &traceql::SpanSet) -> bool {
    let groups = |set: &traceql::SpanSet| -> Vec<(String, Value)> {
        let told = set.attributes.iter();
        told.filter(|(name, _)| name.starts_with("by("))
            .cloned()
            .collect()
    };
    groups(a) == groups(b)
}

fn metrics(found: &SearchResult, (done, total): (u32, u32)) -> SearchMetrics {
    SearchMetrics {
        inspected_traces: u32::try_from(found.inspected_traces).unwrap_or(u32::MAX),
        inspected_spans: found.inspected_spans,
        completed_jobs: done,
        total_jobs: total,
        ..SearchMetrics::default()
    }
}

fn response(traces: Vec<TraceSummary>, metrics: SearchMetrics) -> SearchResponse {
    SearchResponse {
        traces: traces.into_iter().map(found_trace).collect(),
        metrics: Some(metrics),
    }
}

fn found_trace(trace: TraceSummary) -> TraceSearchMetadata {
    let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("").to_owned();
    let span_sets: Vec<SpanSet> = trace.span_sets.into_iter().map(span_set).collect();
    let services = trace.services.into_iter().map(|(service, stats)| {
        let stats = ServiceStats {
            span_count: stats.spans,
            error_count: stats.errors,
        };
        (service.to_string(), stats)
    });
    TraceSearchMetadata {
        trace_id: hex(&trace.id),
        root_service_name: match &trace.root_name {
            Some(_) => text(&trace.root_service),
            None => ROOT_UNKNOWN.to_owned(),
        },
        root_trace_name: text(&trace.root_name),
        start_time_unix_nano: trace.start_ns.cast_unsigned(),
        duration_ms: u32::try_from(trace.duration_ns / 1_000_000).unwrap_or(u32::MAX),
        span_set: span_sets.first().cloned(),
        span_sets,
        service_stats: services.collect(),
    }
}

fn span_set(set: traceql::SpanSet) -> SpanSet {
    let attributes = |told: Vec<(String, Value)>| -> Vec<KeyValue> {
        let told = told.into_iter();
        told.map(|(key, value)| pair(key, Some(value))).collect()
    };
    let span = |span: traceql::SpanResult| Span {
        span_id: hex(&span.id),
        name: span.name.to_string(),
        start_time_unix_nano: span.start_ns.cast_unsigned(),
        duration_nanos: span.duration_ns,
        attributes: attributes(span.attributes),
    };
    SpanSet {
        spans: set.spans.into_iter().map(span).collect(),
        matched: u32::try_from(set.matched).unwrap_or(u32::MAX),
        attributes: attributes(set.attributes),
    }
}

#[cfg(test)]
mod tests;
