//! Runs searches: batch after batch, newest trace first, until the limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trine_storage::clock::{Clock, SystemClock};
use trine_storage::{Error, TimeRange};

use super::ast::{
    Attribute, FieldExpr, Intrinsic, Pipeline, Query, ScalarExpr, SpansetExpr, Stage,
};
use super::error::QueryError;
use super::field::{Evaluation, Patterns, Values};
use super::lower;
use super::source::{
    AttributeRef, Batch, Request, Rows, Scope, Source, SpanBatch, SpanId, TraceId, TraceRows, Value,
};
use super::spanset::{self, Set};
use crate::budget::{Budget, BudgetError, Cancel, Limits};

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
    /// Whether a bound of the query stopped it before its end; the traces were found until then.
    pub is_partial: bool,
    /// Why it is partial, for clients.
    pub message: Option<String>,
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
    /// The services that have spans in it, by name.
    pub services: BTreeMap<Arc<str>, ServiceStats>,
}

/// What a service has in a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceStats {
    /// Spans.
    pub spans: u32,
    /// Those of them that ended with an error.
    pub errors: u32,
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

    /// The newest traces that match and of which a span lies in `range` (nanoseconds) or reaches into it,
    /// in the order of their first spans and then their ids. When a bound of the query is reached before
    /// its end, what was found is the answer, and it says so.
    ///
    /// # Errors
    /// [`QueryError::Unsupported`] for metrics functions, [`QueryError::Execution`] where values
    /// cannot be used as the query asks, [`QueryError::Budget`] when it was canceled,
    /// [`QueryError::Source`].
    pub fn search(
        &self,
        source: &dyn Source,
        query: &Query,
        range: TimeRange,
        options: &SearchOptions,
        cancel: &Cancel,
    ) -> Result<SearchResult, QueryError> {
        let Some(pipeline) = query.search() else {
            let what = "a search for series over time".to_owned();
            return Err(QueryError::Unsupported(what));
        };
        let budget = self.budget(cancel);
        let search = Search::new(pipeline, options)?;
        let mut result = SearchResult::default();
        match search.run(source, range, &budget, &mut result) {
            Err(QueryError::Budget(error)) if error != BudgetError::Canceled => {
                result.is_partial = true;
                result.message = Some(error.to_string());
                Ok(result)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(result),
        }
    }
}

/// One search.
struct Search<'a> {
    pipeline: &'a Pipeline,
    options: &'a SearchOptions,
    /// What the query mentions.
    mentioned: BTreeSet<Attribute>,
    patterns: Patterns,
}

impl<'a> Search<'a> {
    fn new(pipeline: &'a Pipeline, options: &'a SearchOptions) -> Result<Self, QueryError> {
        let mut mentioned = BTreeSet::new();
        let mut patterns = Patterns::default();
        fields(pipeline, &mut |field| {
            field.attributes(&mut |attribute| {
                mentioned.insert(attribute.clone());
            });
            patterns.add(field)
        })?;
        for stage in &pipeline.stages {
            if let Stage::Select(selected) = stage {
                mentioned.extend(selected.iter().map(|(attribute, _)| attribute.clone()));
            }
        }
        Ok(Self {
            pipeline,
            options,
            mentioned,
            patterns,
        })
    }

    fn run(
        &self,
        source: &dyn Source,
        range: TimeRange,
        budget: &Budget,
        result: &mut SearchResult,
    ) -> Result<(), QueryError> {
        let mut projection: Vec<AttributeRef> =
            self.mentioned.iter().filter_map(lower::column).collect();
        let service = AttributeRef::Attribute {
            scope: Some(Scope::Resource),
            key: SERVICE.into(),
        };
        if !projection.contains(&service) {
            projection.push(service);
        }
        let request = Request::Rows(Rows {
            range,
            filter: lower::filter(self.pipeline),
            projection,
            enough: self.options.limit,
        });
        for batch in source.scan(&request)? {
            budget.check()?;
            let Batch::Spans(batch) = batch? else {
                continue;
            };
            let rows = batch.starts.len() as u64;
            budget.read_series(rows)?;
            budget.hold_samples(rows)?;
            result.inspected_traces += batch.traces.len() as u64;
            result.inspected_spans += rows;
            self.add(&batch, budget, result)?;
            budget.release_samples(rows);
            if result.traces.len() >= self.options.limit {
                break;
            }
        }
        Ok(())
    }

    /// Adds the traces of a batch that match, up to the limit.
    fn add(
        &self,
        batch: &SpanBatch,
        budget: &Budget,
        result: &mut SearchResult,
    ) -> Result<(), QueryError> {
        let evaluation = Evaluation::new(batch, &self.patterns);
        let sets = spanset::run(self.pipeline, &evaluation)?;
        let columns: Vec<(String, Values<'_>)> = self
            .mentioned
            .iter()
            .filter(|attribute| is_shown(attribute))
            .map(|attribute| (shown_name(attribute), evaluation.attribute(attribute)))
            .collect();
        let left = self.options.limit.saturating_sub(result.traces.len());
        let traces = batch.traces.iter().zip(sets);
        for (trace, sets) in traces.filter(|(_, sets)| !sets.is_empty()).take(left) {
            let most = self.options.spans_per_span_set;
            let sets = sets.into_iter();
            let span_sets: Vec<SpanSet> = sets
                .map(|set| span_set(set, batch, &columns, most))
                .collect();
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
                services: services(batch, trace),
            });
        }
        Ok(())
    }
}

/// The attribute of resources that names their service.
const SERVICE: &str = "service.name";

/// The services of a trace of a batch.
fn services(batch: &SpanBatch, trace: &TraceRows) -> BTreeMap<Arc<str>, ServiceStats> {
    let mut columns = batch.attributes.iter();
    let column = columns.find(|held| held.scope == Scope::Resource && &*held.key == SERVICE);
    let mut found: BTreeMap<Arc<str>, ServiceStats> = BTreeMap::new();
    let Some(column) = column.map(|held| &held.column) else {
        return found;
    };
    let rows = trace.rows.start as usize..trace.rows.end as usize;
    let codes = column.codes.get(rows.clone()).unwrap_or_default();
    let statuses = batch.statuses.get(rows).unwrap_or_default();
    for (code, status) in codes.iter().zip(statuses) {
        let Some(Value::Str(service)) = column.dictionary.get(*code as usize) else {
            continue;
        };
        if !found.contains_key(service) {
            found.insert(Arc::clone(service), ServiceStats::default());
        }
        if let Some(stats) = found.get_mut(service) {
            stats.spans += 1;
            stats.errors += u32::from(*status == STATUS_ERROR);
        }
    }
    found
}

/// How batches tell that a span ended with an error.
const STATUS_ERROR: u8 = 2;

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
