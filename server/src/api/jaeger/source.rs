//! A tenant's traces as Jaeger's API asks for them; nothing is found for a tenant without traces.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use trine_query::budget::{Budget, BudgetError};
use trine_storage::TimeRange;
use trine_tracestore::{
    ABSENT, AttributeRef, AttributeScope, Batch, Column, CountBatch, Counts, Effort, Filter,
    Intrinsic, Measure, NO_ROW, Request, Rows, Snapshot, SpanBatch, Test, TraceFilter, Value,
    ValuesRequest,
};

use super::search::{Search, attribute, intrinsic, of_service};
use super::ui::SERVICE_MISSING;
use crate::api::prometheus::run::Asked;
use crate::api::tempo::otlp;
use crate::ingest::jaeger_tags as tags;
use crate::refusal::{Reason, Refusal};

/// Spans of all traces of one answer; a search that finds more gives those traces that it has.
pub(super) const SPANS_MAX: usize = 1_000_000;

/// The spans of a trace.
pub(super) type Spans = Vec<ResourceSpans>;

fn snapshot(asked: &Asked) -> Result<Option<Snapshot>, Refusal> {
    let engine = match &asked.tenant {
        Some(tenant) => tenant.read_traces()?,
        None => None,
    };
    Ok(engine.map(|engine| engine.snapshot()))
}

fn budget(asked: &Asked) -> Budget {
    let clock = Arc::clone(&asked.app.clock);
    Budget::new(asked.limits(), asked.cancel.clone(), clock)
}

fn over(error: BudgetError) -> Refusal {
    Refusal::new(Reason::Timeout, error.to_string())
}

/// The spans of a trace; `None` when it is not known.
pub(super) fn trace(asked: &Asked, id: [u8; 16]) -> Result<Option<Spans>, Refusal> {
    let Some(snapshot) = snapshot(asked)? else {
        return Ok(None);
    };
    Ok(snapshot.trace(id)?.map(otlp::resource_spans))
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The traces, the newest first.
    pub(super) traces: Vec<Spans>,
    /// Whether there are more, which would have made the answer too large.
    pub(super) is_cut: bool,
}

/// The newest traces that a search finds, all at once: of `spans_max` spans, but for the first, which
/// may have more.
pub(super) fn find(asked: &Asked, search: &Search, spans_max: usize) -> Result<Found, Refusal> {
    let mut found = Found::default();
    let mut spans = 0;
    find_each(asked, search, |trace| {
        spans += trace
            .iter()
            .flat_map(|of| &of.scope_spans)
            .map(|of| of.spans.len())
            .sum::<usize>();
        if spans > spans_max && !found.traces.is_empty() {
            found.is_cut = true;
            return ControlFlow::Break(());
        }
        found.traces.push(trace);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Gives the newest traces that a search finds, one by one, until there are enough.
pub(super) fn find_each(
    asked: &Asked,
    search: &Search,
    mut give: impl FnMut(Spans) -> ControlFlow<()>,
) -> Result<(), Refusal> {
    let Some(snapshot) = snapshot(asked)? else {
        return Ok(());
    };
    let budget = budget(asked);
    let request = Request::Rows(Rows {
        range: search.range,
        filter: TraceFilter::Has(search.filter()),
        projection: Vec::new(),
    });
    let mut given = 0;
    for batch in snapshot.scan(&request)? {
        let Batch::Spans(batch) = batch? else {
            continue;
        };
        for rows in &batch.traces {
            budget.check().map_err(over)?;
            if given >= search.limit {
                return Ok(());
            }
            // A trace with a span in the range counts as a whole for the store, and here the span.
            let trace = snapshot.trace(rows.id)?;
            let Some(trace) = trace.filter(|trace| search.finds(trace)) else {
                continue;
            };
            given += 1;
            if give(otlp::resource_spans(trace)).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn service() -> AttributeRef {
    AttributeRef::Attribute {
        scope: Some(AttributeScope::Resource),
        key: tags::SERVICE.to_owned(),
    }
}

/// The names of all services, sorted.
pub(super) fn services(asked: &Asked) -> Result<Vec<String>, Refusal> {
    let Some(snapshot) = snapshot(asked)? else {
        return Ok(Vec::new());
    };
    let values = |attribute: AttributeRef, filter: Option<Filter>, limit: usize| {
        snapshot.attribute_values(&ValuesRequest {
            attribute,
            range: TimeRange::ALL,
            filter,
            limit,
        })
    };
    let named = values(service(), None, usize::MAX)?;
    let mut names: Vec<String> = named
        .into_iter()
        .filter_map(|(value, _)| text(value))
        .collect();
    let name = AttributeRef::Intrinsic(Intrinsic::Name);
    let missing = attribute(AttributeScope::Resource, tags::SERVICE, Test::Missing);
    if !values(name, Some(missing), 1)?.is_empty() {
        names.push(SERVICE_MISSING.to_owned());
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Str(text) if !text.is_empty() => Some(text.to_string()),
        _ => None,
    }
}

/// The name of the kind of spans that have none.
const UNSPECIFIED: &str = "unspecified";

/// What spans of a service are called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Operation {
    pub(super) name: String,
    /// The name of the kind; empty for spans that have none.
    pub(super) kind: &'static str,
}

/// The names and kinds of the spans of a service, sorted; of one kind where one is named. They are
/// at most as many as the series that a query may return; more are left out.
pub(super) fn operations(
    asked: &Asked,
    service: &str,
    kind: Option<&str>,
) -> Result<Vec<Operation>, Refusal> {
    let Some(snapshot) = snapshot(asked)? else {
        return Ok(Vec::new());
    };
    let mut filters = vec![of_service(service)];
    if let Some(name) = kind {
        let kind = tags::kind_named(&name.to_ascii_lowercase());
        if kind == SpanKind::Unspecified && name != UNSPECIFIED {
            return Ok(Vec::new());
        }
        let number = Value::Int(i32::from(kind).into());
        filters.push(intrinsic(Intrinsic::Kind, Test::Equal(vec![number])));
    }
    let by = [Intrinsic::Name, Intrinsic::Kind];
    let request = Request::Counts(Counts {
        range: TimeRange::ALL,
        filter: Filter::And(filters),
        origin_ns: 0,
        bucket_ns: 0,
        by: by.map(AttributeRef::Intrinsic).to_vec(),
        measure: Measure::Spans,
        groups_max: asked.app.config.query_series_max,
        effort: Effort {
            threads: 0,
            stop: asked.cancel.flag(),
        },
    });
    let budget = budget(asked);
    let mut operations = Vec::new();
    for batch in snapshot.scan(&request)? {
        budget.check().map_err(over)?;
        if let Batch::Counts(counts) = batch? {
            operations.extend((0..counts.counts.len()).filter_map(|row| operation(&counts, row)));
        }
    }
    operations.sort();
    operations.dedup();
    operations.truncate(asked.app.config.query_series_max);
    Ok(operations)
}

fn operation(counts: &CountBatch, row: usize) -> Option<Operation> {
    let [names, kinds] = counts.by.as_slice() else {
        return None;
    };
    let name = match value(names, row) {
        Some(Value::Str(name)) => name.to_string(),
        _ => String::new(),
    };
    let kind = match value(kinds, row) {
        Some(Value::Int(number)) => i32::try_from(*number).ok(),
        _ => None,
    };
    let kind = kind.and_then(|number| SpanKind::try_from(number).ok());
    let kind = kind.and_then(tags::kind_name).unwrap_or("");
    Some(Operation { name, kind })
}

fn value(column: &Column, row: usize) -> Option<&Value> {
    let code = *column.codes.get(row)?;
    column.dictionary.get(usize::try_from(code).ok()?)
}

/// How often a service called another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) parent: String,
    pub(super) child: String,
    pub(super) calls: u64,
}

/// Which services call which, of all spans that begin in `range` and whose parent is stored; sorted.
pub(super) fn dependencies(asked: &Asked, range: TimeRange) -> Result<Vec<Dependency>, Refusal> {
    let Some(snapshot) = snapshot(asked)? else {
        return Ok(Vec::new());
    };
    let budget = budget(asked);
    let request = Request::Rows(Rows {
        range,
        filter: TraceFilter::All,
        projection: vec![service()],
    });
    let mut calls: BTreeMap<(String, String), u64> = BTreeMap::new();
    for batch in snapshot.scan(&request)? {
        budget.check().map_err(over)?;
        let Batch::Spans(batch) = batch? else {
            continue;
        };
        for ((parent, child), count) in calls_of(&batch, range) {
            *calls.entry((parent, child)).or_default() += count;
        }
    }
    let all = calls.into_iter();
    let all = all.map(|((parent, child), calls)| Dependency {
        parent,
        child,
        calls,
    });
    Ok(all.collect())
}

/// The kinds of spans as a batch has them.
const SERVER: u8 = 2;
const CLIENT: u8 = 3;

/// The calls between services that a batch tells of.
fn calls_of(batch: &SpanBatch, range: TimeRange) -> Vec<((String, String), u64)> {
    let services = batch.attributes.iter();
    let services = services.map(|attribute| &attribute.column).next();
    let code = |row: usize| {
        let code = services.and_then(|column| column.codes.get(row));
        code.copied().unwrap_or(ABSENT)
    };
    let name = |code: u32| {
        let value = services.zip(usize::try_from(code).ok());
        match value.and_then(|(column, code)| column.dictionary.get(code)) {
            Some(Value::Str(name)) => name.to_string(),
            _ => SERVICE_MISSING.to_owned(),
        }
    };
    let mut calls: HashMap<(u32, u32), u64> = HashMap::new();
    for trace in &batch.traces {
        let rows = trace.rows.start as usize..trace.rows.end as usize;
        let shared = shared(batch, rows.clone());
        for row in rows {
            let begins_here = batch
                .starts
                .get(row)
                .is_some_and(|start| range.contains(*start));
            if let Some(parent) = parent_of(batch, &shared, row)
                && begins_here
            {
                *calls.entry((code(parent), code(row))).or_default() += 1;
            }
        }
    }
    let all = calls.into_iter();
    all.map(|((parent, child), count)| ((name(parent), name(child)), count))
        .collect()
}

/// Pairs of a client's span and the server's span that has the same id, as Zipkin's clients make them:
/// by the server's row that of the client, and by the client's row that of the server.
#[derive(Debug, Default)]
struct Shared {
    clients: HashMap<usize, usize>,
    servers: HashMap<usize, usize>,
}

fn shared(batch: &SpanBatch, rows: Range<usize>) -> Shared {
    let of_kind = |kind: u8| {
        let rows = rows.clone();
        rows.filter(move |row| batch.kinds.get(*row) == Some(&kind))
    };
    let mut shared = Shared::default();
    if of_kind(SERVER).next().is_none() {
        return shared;
    }
    let id = |row: usize| Some((*batch.span_ids.get(row)?, row));
    let clients: HashMap<_, _> = of_kind(CLIENT).filter_map(id).collect();
    for (id, server) in of_kind(SERVER).filter_map(id) {
        if let Some(client) = clients.get(&id) {
            shared.clients.insert(server, *client);
            shared.servers.insert(*client, server);
        }
    }
    shared
}

/// The row of a span's parent. What has a shared id as its parent was called by the server.
fn parent_of(batch: &SpanBatch, shared: &Shared, row: usize) -> Option<usize> {
    if let Some(client) = shared.clients.get(&row) {
        return Some(*client);
    }
    let parent = *batch.parents.get(row)?;
    if parent == NO_ROW {
        return None;
    }
    let parent = parent as usize;
    Some(shared.servers.get(&parent).copied().unwrap_or(parent))
}
