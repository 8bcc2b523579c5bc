//! Runs searches: batch after batch, newest trace first, until the limit.

use std::collections::BTreeSet;
use std::sync::Arc;

use trine_storage::clock::{Clock, SystemClock};
use trine_storage::{Error, TimeRange};

use super::ast::{
    Attribute, FieldExpr, Intrinsic, Pipeline, Query, ScalarExpr, SpansetExpr, Stage,
};
use super::error::QueryError;
use super::field::{Patterns, Values, attribute_values};
use super::lower;
use super::source::{Batch, Request, Rows, Source, SpanBatch, SpanId, TraceId, Value};
use super::spanset::{self, Set};
use crate::budget::{Budget, Cancel, Limits};

/// Searches sources of spans.
#[derive(Debug, Clone)]
pub struct Engine {
    limits: Limits,
    clock: Arc<dyn Clock>,
}

/// What a search wants besides its query.
#[derive(Debug, Clone)]
pub struct SearchOptions {
    /// The most traces of the answer.
    pub limit: usize,
    /// The most spans that a set of spans shows; 0 for all.
    pub spans_per_span_set: usize,
}

/// The answer of a search.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchResult {
    /// The traces, newest first.
    pub traces: Vec<TraceSummary>,
    /// Traces that the engine looked at.
    pub inspected_traces: u64,
    /// Spans that the engine looked at.
    pub inspected_spans: u64,
}

/// One trace of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSummary {
    /// Its id.
    pub id: TraceId,
    /// Service of its root, if the root is stored.
    pub root_service: Option<Arc<str>>,
    /// Name of its root, if the root is stored.
    pub root_name: Option<Arc<str>>,
    /// When its first span began, nanoseconds since 1970.
    pub start_ns: i64,
    /// From its first start to its last end, nanoseconds.
    pub duration_ns: u64,
    /// The sets of spans that matched; never empty.
    pub span_sets: Vec<SpanSet>,
}

/// Spans of a trace that matched together.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanSet {
    /// Some of them, by start.
    pub spans: Vec<SpanResult>,
    /// How many they are.
    pub matched: usize,
    /// What the query found out about them.
    pub attributes: Vec<(String, Value)>,
}

/// One span of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanResult {
    /// Its id.
    pub id: SpanId,
    /// Its name.
    pub name: Arc<str>,
    /// When it began, nanoseconds since 1970.
    pub start_ns: i64,
    /// How long it took, nanoseconds.
    pub duration_ns: u64,
    /// What the query asked about it, where it has it.
    pub attributes: Vec<(String, Value)>,
}

impl Engine {
    /// An engine on the system's clock.
    pub fn new(limits: Limits) -> Self {
        Self::with_clock(limits, Arc::new(SystemClock::new()))
    }

    /// An engine on another clock.
    pub fn with_clock(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { limits, clock }
    }

    /// The account of a query that begins now.
    pub(super) fn budget(&self, cancel: &Cancel) -> Budget {
        Budget::new(self.limits.clone(), cancel.clone(), Arc::clone(&self.clock))
    }

    /// The newest traces that match and have a span that begins in `range` (nanoseconds), in the
    /// order of their first spans and then their ids.
    ///
    /// # Errors
    /// [`QueryError::Unsupported`] for metrics functions, [`QueryError::Execution`] where values
    /// cannot be used as the query asks, [`QueryError::Budget`], [`QueryError::Source`].
    pub fn search(
        &self,
        source: &dyn Source,
        query: &Query,
        range: TimeRange,
        options: &SearchOptions,
        cancel: &Cancel,
    ) -> Result<SearchResult, QueryError> {
        let mut result = SearchResult::default();
        let Some(pipeline) = query.search() else {
            let what = "a search for series over time".to_owned();
            return Err(QueryError::Unsupported(what));
        };
        let budget = self.budget(cancel);
        let mut shown = BTreeSet::new();
        fields(pipeline, &mut |field| {
            field.attributes(&mut |attribute| {
                shown.insert(attribute.clone());
            });
            Ok(())
        })?;
        for stage in &pipeline.stages {
            if let Stage::Select(selected) = stage {
                shown.extend(selected.iter().map(|(attribute, _)| attribute.clone()));
            }
        }
        let mut patterns = Patterns::default();
        fields(pipeline, &mut |field| patterns.add(field))?;
        let request = Request::Rows(Rows {
            range,
            filter: lower::filter(pipeline),
            projection: shown.iter().filter_map(lower::column).collect(),
        });
        for batch in source.scan(&request)? {
            let Batch::Spans(batch) = batch? else {
                continue;
            };
            budget.check()?;
            let rows = batch.starts.len() as u64;
            budget.read_series(rows)?;
            budget.hold_samples(rows)?;
            result.inspected_traces += batch.traces.len() as u64;
            result.inspected_spans += batch.starts.len() as u64;
            let sets = spanset::run(pipeline, &batch, &patterns)?;
            let columns: Vec<(String, Values<'_>)> = shown
                .iter()
                .filter(|attribute| is_shown(attribute))
                .map(|attribute| (shown_name(attribute), attribute_values(attribute, &batch)))
                .collect();
            for (trace, sets) in batch.traces.iter().zip(sets) {
                if sets.is_empty() {
                    continue;
                }
                if result.traces.len() >= options.limit {
                    return Ok(result);
                }
                let span_sets = sets
                    .into_iter()
                    .map(|set| span_set(set, &batch, &columns, options.spans_per_span_set))
                    .collect::<Vec<SpanSet>>();
                // Spans of the answer are held until the end.
                let shown = span_sets.iter().map(|set| set.spans.len() as u64).sum();
                budget.hold_samples(shown)?;
                result.traces.push(TraceSummary {
                    id: trace.id,
                    root_service: trace.root_service.clone(),
                    root_name: trace.root_name.clone(),
                    start_ns: trace.start,
                    duration_ns: u64::try_from(trace.end.saturating_sub(trace.start)).unwrap_or(0),
                    span_sets,
                });
            }
            budget.release_samples(rows);
            if result.traces.len() >= options.limit {
                break;
            }
        }
        Ok(result)
    }
}

fn span_set(set: Set, batch: &SpanBatch, columns: &[(String, Values<'_>)], most: usize) -> SpanSet {
    let most = if most == 0 { usize::MAX } else { most };
    let mut rows = set.rows.clone();
    rows.sort_by_key(|row| batch.starts.get(*row as usize));
    let spans = rows.iter().take(most).map(|&row| {
        let row = row as usize;
        let name = batch
            .names
            .codes
            .get(row)
            .and_then(|code| batch.names.dictionary.get(*code as usize));
        let attributes = columns
            .iter()
            .filter_map(|(name, values)| Some((name.clone(), values.get(row).into_answer()?)));
        SpanResult {
            id: batch.span_ids[row],
            name: match name {
                Some(Value::Str(name)) => Arc::clone(name),
                _ => "".into(),
            },
            start_ns: batch.starts[row],
            duration_ns: batch.durations[row],
            attributes: attributes.collect(),
        }
    });
    let spans = spans.collect();
    let told = set.attributes.into_iter();
    SpanSet {
        spans,
        matched: set.rows.len(),
        attributes: told
            .filter_map(|(name, value)| Some((name, value.into_answer()?)))
            .collect(),
    }
}

/// Whether spans of the answer tell this attribute; what every answer has anyway is not repeated.
fn is_shown(attribute: &Attribute) -> bool {
    !matches!(
        attribute,
        Attribute::Intrinsic(
            Intrinsic::Name
                | Intrinsic::Duration
                | Intrinsic::SpanId
                | Intrinsic::TraceId
                | Intrinsic::TraceDuration
                | Intrinsic::TraceRootName
                | Intrinsic::TraceRootService
        )
    )
}

/// Answers name attributes without their scopes.
fn shown_name(attribute: &Attribute) -> String {
    match attribute {
        Attribute::Named { key, .. } => key.to_string(),
        Attribute::Intrinsic(intrinsic) => intrinsic.name().to_owned(),
    }
}

/// Calls `each` with every expression over fields that a pipeline holds.
pub(super) fn fields(
    pipeline: &Pipeline,
    each: &mut dyn FnMut(&FieldExpr) -> Result<(), Error>,
) -> Result<(), Error> {
    fn of_set(
        expr: &SpansetExpr,
        each: &mut dyn FnMut(&FieldExpr) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match expr {
            SpansetExpr::Filter(expr, _) => expr.iter().try_for_each(each),
            SpansetExpr::Pipeline(inner) => fields(inner, each),
            SpansetExpr::Binary { lhs, rhs, .. } => {
                of_set(lhs, each)?;
                of_set(rhs, each)
            }
        }
    }
    fn of_scalar(
        expr: &ScalarExpr,
        each: &mut dyn FnMut(&FieldExpr) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match expr {
            ScalarExpr::Static(..) => Ok(()),
            ScalarExpr::Aggregate { field, .. } => field.iter().try_for_each(each),
            ScalarExpr::Binary { lhs, rhs, .. } => {
                of_scalar(lhs, each)?;
                of_scalar(rhs, each)
            }
            ScalarExpr::Of(inner, aggregate, _) => {
                fields(inner, each)?;
                of_scalar(aggregate, each)
            }
        }
    }
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(expr) => of_set(expr, each)?,
            Stage::Filter { lhs, rhs, .. } => {
                of_scalar(lhs, each)?;
                of_scalar(rhs, each)?;
            }
            Stage::By(expr) => each(expr)?,
            Stage::Select(_) | Stage::Coalesce => {}
        }
    }
    Ok(())
}
