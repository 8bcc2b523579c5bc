//! The stages of a query, compiled once, over lines that are at hand: such as were just pushed, a
//! sample, or what a delete may concern. The server calls it; no store is asked.

use std::sync::Arc;

use trine_storage::Labels;
use trine_storage::clock::Clock;

use super::Entry;
use super::log::{entry, order};
use crate::budget::{Budget, Cancel, Limits};
use crate::logql::ast::LogExpr;
use crate::logql::error::QueryError;
use crate::logql::pipeline::labels::Wanted;
use crate::logql::pipeline::{Passed, Pipeline, Scratch};
use crate::logql::source::{Direction, RowBatch};

/// Stages that are ready to run on lines whose streams are those that are asked for.
#[derive(Debug)]
pub struct Stages {
    pipeline: Pipeline,
}

impl Stages {
    /// Compiles the stages of a query.
    ///
    /// # Errors
    /// What makes no sense in a stage.
    pub fn new(expr: &LogExpr) -> Result<Self, QueryError> {
        let pipeline = Pipeline::new(&expr.stages, Wanted::All)?;
        Ok(Self { pipeline })
    }

    /// What the stages leave of `rows`, in the order of time.
    ///
    /// # Errors
    /// Those of `limits`, and [`QueryError::Cancelled`].
    pub fn entries(
        &self,
        rows: &RowBatch,
        limits: &Limits,
        clock: &Arc<dyn Clock>,
        cancel: &Cancel,
    ) -> Result<Vec<Entry>, QueryError> {
        let budget = Budget::new(limits.clone(), cancel.clone(), Arc::clone(clock));
        let mut entries = Vec::new();
        let mut result = Ok(());
        self.run(rows, |row, passed| {
            if let Some(passed) = passed
                && result.is_ok()
            {
                result = budget.hold_samples(1);
                result = result.and_then(|()| budget.hold_bytes(passed.line.len() as u64));
                let timestamp = rows.timestamps.get(row).copied().unwrap_or(0);
                entries.push(entry(timestamp, passed));
            }
            if result.is_ok() && row.is_multiple_of(CHECK_EVERY) {
                result = budget.check();
            }
            result.is_ok()
        });
        result?;
        entries.sort_by(|a, b| order(Direction::Forward, a, b));
        Ok(entries)
    }

    /// Which of `rows` come through the stages.
    pub fn passing(&self, rows: &RowBatch) -> Vec<bool> {
        let mut passing = Vec::with_capacity(rows.timestamps.len());
        self.run(rows, |_, passed| {
            passing.push(passed.is_some());
            true
        });
        passing
    }

    /// Gives each row to `take`, with what the stages leave of it, until that is not true.
    fn run(&self, rows: &RowBatch, mut take: impl FnMut(usize, Option<Passed<'_>>) -> bool) {
        let mut scratch: Scratch = self.pipeline.scratch();
        let mut selected = vec![true; rows.timestamps.len()];
        self.pipeline.select(&rows.lines, &mut selected);
        let empty = Labels::empty();
        for (row, &timestamp) in rows.timestamps.iter().enumerate() {
            let metadata = rows.metadata_sets.get(rows.metadata_code(row) as usize);
            let passed = match rows.stream_of(row) {
                Some(stream) if selected.get(row) == Some(&true) => {
                    scratch.timestamp_ns = timestamp;
                    let metadata = metadata.unwrap_or(&empty);
                    let line = rows.lines.get(row);
                    self.pipeline.run(line, stream, metadata, &mut scratch)
                }
                _ => None,
            };
            if !take(row, passed) {
                return;
            }
        }
    }
}

/// After how many rows it is looked whether to go on.
const CHECK_EVERY: usize = 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trine_storage::clock::SystemClock;

    use super::*;
    use crate::logql::ast::Expr;
    use crate::logql::parse;
    use crate::logql::source::Lines;

    fn rows() -> RowBatch {
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
        RowBatch {
            streams: vec![labels(&[("app", "a")]), labels(&[("app", "b")])],
            stream: vec![1, 0, 0],
            timestamps: vec![3, 2, 2],
            skeletons: None,
            lines: Lines {
                blob: Bytes::from_static(b"k=1k=2k=1"),
                ends: vec![3, 6, 9],
            },
            metadata_sets: vec![Labels::empty(), labels(&[("trace", "x")])],
            metadata: vec![0, 1, 1],
        }
    }

    fn stages(query: &str) -> Stages {
        let Expr::Log(expr) = parse(query).unwrap() else {
            panic!("{query}")
        };
        Stages::new(&expr).unwrap()
    }

    #[test]
    fn rows_that_come_through() {
        for (query, expect) in [
            ("{app=~\".+\"}", [true, true, true]),
            ("{app=~\".+\"} |= \"1\"", [true, false, true]),
            (
                "{app=~\".+\"} | logfmt | k=\"1\" | trace=\"x\"",
                [false, false, true],
            ),
            ("{app=~\".+\"} | trace=\"\"", [true, false, false]),
            (
                "{app=~\".+\"} | app=\"b\" or trace=\"x\" != \"2\"",
                [true, false, true],
            ),
        ] {
            assert_eq!(stages(query).passing(&rows()), expect, "{query}");
        }
    }

    #[test]
    fn entries_are_in_order_and_bounded() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let stages = stages("{app=~\".+\"} | logfmt | line_format \"<{{.k}}>\"");
        let run =
            |limits: &Limits, cancel: &Cancel| stages.entries(&rows(), limits, &clock, cancel);
        let entries = run(&Limits::default(), &Cancel::new()).unwrap();
        let told = entries
            .iter()
            .map(|entry| (entry.timestamp_ns, entry.line.as_slice()));
        let told: Vec<_> = told.collect();
        assert_eq!(told, [(2, &b"<2>"[..]), (2, b"<1>"), (3, b"<1>")]);
        let few = Limits {
            samples_max: 2,
            ..Limits::default()
        };
        assert!(matches!(
            run(&few, &Cancel::new()),
            Err(QueryError::Limit(_))
        ));
        let cancel = Cancel::new();
        cancel.cancel();
        let stopped = run(&Limits::default(), &cancel);
        assert!(matches!(stopped, Err(QueryError::Cancelled)));
    }
}
