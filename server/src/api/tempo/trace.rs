//! A trace by its id: put together from all tenants of a request, cut to the spans that a filter
//! matches and to a size, in protobuf or JSON. `tempo` mounts the two handlers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use prost::Message as _;
use trine_query::traceql::ast::{
    Attribute, FieldExpr, Intrinsic, Op, Pipeline, Query, Root, SpansetExpr, Stage, Static,
};
use trine_query::traceql::{self, SearchOptions};
use trine_storage::TimeRange;
use trine_tracestore::{SpanId, Trace, TraceId};

use super::request;
use super::{PROTOBUF, answer, json, otlp, respond, respond_json, source, wants_protobuf};
use crate::api::prometheus::run::Asked;
use crate::app::App;
use crate::config::Traces;
use crate::ingest::otlp_value::hex;
use crate::params::Params;
use crate::proto::tempo::{PartialStatus, TraceByIdResponse};
use crate::refusal::{Reason, Refusal};

/// `start` and `end` of a trace by id are a hint where to look; it is found without.
pub(super) async fn first_version(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answer(app, request, move |asked| {
        let id = request::trace_id(&id)?;
        request::range(&asked.params)?;
        let Some(trace) = stored(asked, id)? else {
            return Err(Refusal::new(Reason::NotFound, "trace not found"));
        };
        let max = source::limits(asked).trace_bytes_max;
        let bytes = trace.to_otlp();
        if max > 0 && bytes.len() > max {
            let why = format!("trace exceeds max size (max bytes: {max})");
            return Err(Refusal::new(Reason::Execution, why));
        }
        Ok(if wants_protobuf(&asked.headers) {
            respond(PROTOBUF, bytes)
        } else {
            respond_json(json::batches(&otlp::resource_spans(trace)))
        })
    })
    .await
}

/// A trace that is not known is an empty one here: 404 would make Grafana ask once more, and a
/// missing `trace` would stop it.
pub(super) async fn second_version(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answer(app, request, move |asked| {
        let id = request::trace_id(&id)?;
        request::range(&asked.params)?;
        let limits = source::limits(asked);
        let cut = Cut::of(&asked.params, &limits)?;
        let mut trace = stored(asked, id)?.unwrap_or_default();
        let mut notices = Vec::new();
        if let Some(cut) = &cut
            && cut.apply(asked, id, &mut trace)?
        {
            notices.push(
                "Trace filtered, only a subset of spans matching the filter is returned".to_owned(),
            );
        }
        let max = limits.trace_bytes_max;
        let mut bytes = trace.to_otlp();
        if max > 0 && bytes.len() > max {
            trace.truncate(max);
            bytes = trace.to_otlp();
            notices.push(format!(
                "Trace exceeds maximum size of {max} bytes, a partial trace is returned"
            ));
        }
        let message = notices.join("; ");
        if !wants_protobuf(&asked.headers) {
            let spans = otlp::resource_spans(trace);
            return Ok(respond_json(json::trace(&spans, &message)));
        }
        let status = if message.is_empty() {
            PartialStatus::Complete
        } else {
            PartialStatus::Partial
        };
        let response = TraceByIdResponse {
            trace: Some(bytes.into()),
            metrics: None,
            status: status.into(),
            message,
        };
        Ok(respond(PROTOBUF, response.encode_to_vec()))
    })
    .await
}

/// What all tenants of the request have of a trace, each span once.
fn stored(asked: &Asked, id: TraceId) -> Result<Option<Trace>, Refusal> {
    let mut found: Option<Trace> = None;
    for store in source::snapshots(asked)? {
        let Some(part) = store.trace(id)? else {
            continue;
        };
        match &mut found {
            None => found = Some(part),
            Some(trace) => add(trace, part),
        }
    }
    if let Some(trace) = &mut found {
        for span in spans_mut(trace) {
            // Grafana reads it without asking whether it is there.
            span.status.get_or_insert_default();
        }
    }
    Ok(found)
}

/// Adds the spans of another tenant that are not there yet. Client and server may share an id.
fn add(trace: &mut Trace, other: Trace) {
    let mut held: HashSet<(SpanId, i32)> = trace
        .spans()
        .map(|(_, _, span)| (span.span_id, span.kind))
        .collect();
    let known = trace.resources.len();
    trace.resources.extend(other.resources);
    for of_resource in trace.resources.iter_mut().skip(known) {
        for of_scope in &mut of_resource.scopes {
            of_scope
                .spans
                .retain(|span| held.insert((span.span_id, span.kind)));
        }
    }
    drop_empty(trace);
}

fn drop_empty(trace: &mut Trace) {
    for of_resource in &mut trace.resources {
        of_resource.scopes.retain(|scope| !scope.spans.is_empty());
    }
    trace.resources.retain(|spans| !spans.scopes.is_empty());
}

fn spans_mut(trace: &mut Trace) -> impl Iterator<Item = &mut trine_tracestore::Span> {
    let scopes = trace
        .resources
        .iter_mut()
        .flat_map(|spans| &mut spans.scopes);
    scopes.flat_map(|scope| &mut scope.spans)
}

/// Which spans of a trace are wanted.
struct Cut {
    filter: FieldExpr,
    /// How many levels below a match; `None` for all.
    below: Option<u32>,
    /// How many levels above it; `None` for all.
    above: Option<u32>,
}

impl Cut {
    /// The parameters `q`, `match_depth`, `keep_hierarchy` and `ancestor_depth`; `None` when all spans
    /// are wanted.
    fn of(params: &Params, limits: &Traces) -> Result<Option<Self>, Refusal> {
        let Some(text) = params.get("q") else {
            return Ok(None);
        };
        request::size(text, limits)?;
        let filter = traceql::parse_filter(text)
            .map_err(|error| Refusal::bad(format!("invalid TraceQL query: {error}")))?;
        let above = match params.get("keep_hierarchy") {
            Some("true" | "1") => depth(params, "ancestor_depth", None)?,
            _ => Some(0),
        };
        let below = depth(params, "match_depth", Some(0))?;
        Ok(filter.map(|filter| Self {
            filter,
            below,
            above,
        }))
    }

    /// Takes the other spans out. Whether there were any.
    fn apply(&self, asked: &Asked, id: TraceId, trace: &mut Trace) -> Result<bool, Refusal> {
        let matches = self.matches(asked, id)?;
        let mut parents: HashMap<SpanId, SpanId> = HashMap::new();
        let mut children: HashMap<SpanId, Vec<SpanId>> = HashMap::new();
        for (_, _, span) in trace.spans() {
            if let Some(parent) = span.parent_span_id {
                parents.insert(span.span_id, parent);
                children.entry(parent).or_default().push(span.span_id);
            }
        }
        let mut kept = matches.clone();
        let parent = |id: &SpanId| parents.get(id).copied().into_iter().collect();
        let below = |id: &SpanId| children.get(id).cloned().unwrap_or_default();
        spread(&matches, self.above, &parent, &mut kept);
        spread(&matches, self.below, &below, &mut kept);
        let before = trace.spans().count();
        for of_resource in &mut trace.resources {
            for of_scope in &mut of_resource.scopes {
                of_scope.spans.retain(|span| kept.contains(&span.span_id));
            }
        }
        drop_empty(trace);
        Ok(trace.spans().count() < before)
    }

    /// The spans of the trace that satisfy the filter.
    fn matches(&self, asked: &Asked, id: TraceId) -> Result<HashSet<SpanId>, Refusal> {
        let span = self.filter.span();
        let of_trace = FieldExpr::Binary {
            op: Op::Equal,
            lhs: Box::new(FieldExpr::Attribute(
                Attribute::Intrinsic(Intrinsic::TraceId),
                span,
            )),
            rhs: Box::new(FieldExpr::Static(Static::Str(hex(&id).into()), span)),
            span,
        };
        let both = FieldExpr::Binary {
            op: Op::And,
            lhs: Box::new(of_trace),
            rhs: Box::new(self.filter.clone()),
            span,
        };
        let stage = Stage::Spans(SpansetExpr::Filter(Some(both), span));
        let query = Query {
            root: Root::Search(Pipeline {
                stages: vec![stage],
            }),
            hints: Vec::new(),
        };
        let options = SearchOptions {
            limit: 1,
            spans_per_span_set: 0,
        };
        let all = TimeRange::new(i64::MIN, i64::MAX);
        let mut matches = HashSet::new();
        for store in source::snapshots(asked)? {
            let found = source::engine(asked)
                .search(&store, &query, all, &options, &asked.cancel)
                .map_err(source::refusal)?;
            let sets = found.traces.into_iter().flat_map(|trace| trace.span_sets);
            matches.extend(sets.flat_map(|set| set.spans).map(|span| span.id));
        }
        Ok(matches)
    }
}

/// Adds to `kept` what is at most `levels` steps from one of `starts`.
fn spread(
    starts: &HashSet<SpanId>,
    levels: Option<u32>,
    step: &dyn Fn(&SpanId) -> Vec<SpanId>,
    kept: &mut HashSet<SpanId>,
) {
    // A span that was met is not met again: spans may be their own ancestors.
    let mut met = starts.clone();
    let mut edge: Vec<SpanId> = starts.iter().copied().collect();
    let mut level = 0;
    while !edge.is_empty() && levels.is_none_or(|levels| level < levels) {
        let next = edge.iter().flat_map(step);
        edge = next.filter(|id| met.insert(*id)).collect();
        level += 1;
    }
    kept.extend(met);
}

/// A number of levels: -1 for all of them.
fn depth(params: &Params, name: &str, default: Option<u32>) -> Result<Option<u32>, Refusal> {
    match params.get(name) {
        None => Ok(default),
        Some("-1") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            Refusal::bad(format!(
                "invalid {name}: must be a number of levels, or -1 for all of them"
            ))
        }),
    }
}
