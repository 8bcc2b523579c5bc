//! Lines at hand as a store: the stages of a query are applied to lines that were just pushed
//! (`tail`) or already read (`detected`), by the engine that applies them to stored ones.

use std::sync::Arc;

use trine_query::budget::{Cancel, Limits};
use trine_query::logql::ast::{Expr, LogExpr};
use trine_query::logql::source::{Batch, Batches, Direction, Request, RowBatch, Source};
use trine_query::logql::{Engine, Entry, QueryError, QueryValue, RangeQuery};
use trine_storage::clock::Clock;
use trine_storage::{Error, Labels, Matcher, TimeRange};

/// Lines whose streams are those that are asked for.
struct Given(RowBatch);

impl Source for Given {
    fn scan(&self, _: &Request) -> Result<Batches, Error> {
        Ok(Box::new(std::iter::once(Ok(Batch::Rows(self.0.clone())))))
    }

    fn streams(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, Error> {
        Ok(self.0.streams.clone())
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

/// What the stages of `expr` leave of `rows`, in the order of time.
///
/// # Errors
/// Those of the stages, and of `limits`.
pub(super) fn staged(
    rows: RowBatch,
    expr: &LogExpr,
    limits: &Limits,
    clock: &Arc<dyn Clock>,
    cancel: &Cancel,
) -> Result<Vec<Entry>, QueryError> {
    let query = RangeQuery {
        start_ns: i64::MIN,
        end_ns: i64::MAX,
        step_ns: 1,
        direction: Direction::Forward,
        limit: rows.timestamps.len(),
        interval_ns: 0,
    };
    let engine = Engine::with_clock(limits.clone(), Arc::clone(clock));
    let expr = Expr::Log(expr.clone());
    let result = engine.range(&Given(rows), &expr, query, cancel)?;
    match result.value {
        QueryValue::Streams(rows) => Ok(rows.entries),
        _ => Ok(Vec::new()),
    }
}
