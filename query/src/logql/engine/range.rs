//! Makes series of lines: scans what the windows of a range aggregation cover, runs the pipeline,
//! and adds each line to the series of its labels at all steps whose window holds it.

use trine_storage::{Kind, Labels, MatchOp, Matcher, TimeRange};

use super::metric::{Evaluator, Steps};
use super::series::{Amount, Holds, SeriesTable};
use super::window::Window;
use crate::budget::Budget;
use crate::logql::ast::{Conversion, RangeAggregation, RangeOp, Stage, StageKind, Unwrap};
use crate::logql::error::QueryError;
use crate::logql::pipeline::label_filter::LabelTest;
use crate::logql::pipeline::labels::{EXTRACTED, PRESERVE_ERROR, RowError, RowLabels, Wanted};
use crate::logql::pipeline::{Pipeline, Scratch, label_test};
use crate::logql::source::{
    Batch, CountBatch, Counts, Direction, Measure, Projection, Request, RowBatch, Rows,
};
use crate::logql::units;
use crate::vector::{ABSENT, Grouping, StepSeries};

/// The most buckets that a source is asked to count in.
const BUCKETS_MAX: i64 = 1_000_000;

/// Evaluates a range aggregation; `grouping` says which labels the series keep.
pub(super) fn evaluate(
    evaluator: &mut Evaluator<'_>,
    node: &RangeAggregation,
    grouping: Option<Grouping>,
) -> Result<Vec<StepSeries>, QueryError> {
    let is_absent = node.op == RangeOp::Absent;
    let grouping = if is_absent {
        Some(Grouping::By(Vec::new()))
    } else {
        grouping
    };
    let extractor = node.range.unwrap.as_ref().map(Extractor::new).transpose()?;
    let pipeline = Pipeline::new(
        &node.range.log.stages,
        wanted(&grouping, extractor.as_ref()),
    )?;
    let windows = Windows {
        steps: evaluator.steps,
        range_ns: node.range.interval,
        offset_ns: node.range.offset,
    };
    let measure = match node.op {
        RangeOp::Bytes | RangeOp::BytesRate => Measure::Bytes,
        _ => Measure::Lines,
    };
    let request = plan(evaluator, node, &grouping, &pipeline, windows, measure)?;
    // What is counted has passed all stages.
    let counted = Pipeline::new(&[], wanted(&grouping, None))?;
    let holds = if extractor.is_some() {
        Holds::Values
    } else {
        Holds::Counts
    };
    let mut scan = Scan {
        windows,
        measure,
        pipeline: &pipeline,
        counted: &counted,
        extractor: extractor.as_ref(),
        budget: evaluator.budget,
        table: SeriesTable::new(grouping, holds, evaluator.steps.count),
        scratch: pipeline.scratch(),
    };
    for batch in evaluator.source.scan(&request)? {
        evaluator.budget.check()?;
        let Some(batch) = super::readable(batch, &mut evaluator.warnings)? else {
            continue;
        };
        match (batch, &request) {
            (Batch::Rows(batch), _) => {
                evaluator.stats.lines_processed += batch.timestamps.len() as u64;
                evaluator.stats.bytes_processed += batch.lines.blob.len() as u64;
                evaluator.stats.lines_passed += scan.rows(&batch)?;
            }
            (Batch::Counts(batch), Request::Counts(counts)) => scan.counts(&batch, counts)?,
            (Batch::Counts(_), Request::Rows(_)) => {
                let text = "a log store answered a query for lines with counts";
                return Err(trine_storage::Error::new(Kind::Unsupported, text).into());
            }
        }
    }
    let window = Window {
        op: node.op,
        param: node.param.unwrap_or(0.0),
        seconds: node.range.interval as f64 / 1e9,
    };
    let series = scan.table.finish(window, windows);
    evaluator.stats.entries_returned += series.len() as u64;
    if is_absent {
        return Ok(absent(
            &node.range.log.selector.matchers,
            &series,
            evaluator.steps.count,
        ));
    }
    Ok(series)
}

/// Which labels the parsers must find.
fn wanted(grouping: &Option<Grouping>, extractor: Option<&Extractor>) -> Wanted {
    let Some(Grouping::By(names)) = grouping else {
        return Wanted::All;
    };
    let mut names = names.clone();
    if let Some(extractor) = extractor {
        names.push(extractor.label.clone());
        for test in &extractor.filters {
            test.each_name(&mut |name| names.push(name.to_owned()));
        }
    }
    Wanted::Names(names)
}

/// What to ask of the source: numbers when the source can do all that the stages do and the result
/// has no labels but those that the source counts by, else rows.
fn plan(
    evaluator: &Evaluator<'_>,
    node: &RangeAggregation,
    grouping: &Option<Grouping>,
    pipeline: &Pipeline,
    windows: Windows,
    measure: Measure,
) -> Result<Request, QueryError> {
    let matchers = node.range.log.selector.matchers.clone();
    let range = windows.scanned();
    let (lines, metadata) = (&pipeline.pushed().lines, &pipeline.pushed().metadata);
    let has_values = node.range.unwrap.is_some();
    let plain = pipeline.is_empty() && !has_values;
    if pipeline.is_pushed()
        && !has_values
        && let Some(Grouping::By(names)) = grouping
        && !names.iter().any(|name| name.ends_with(EXTRACTED))
        && let Some(bucket_ns) = windows.bucket()
    {
        let by = missing_labels(evaluator, &matchers, range, names)?;
        // Buckets are open at their start: they begin where the first window does.
        let range = TimeRange::new(range.start.saturating_sub(1), range.end);
        return Ok(Request::Counts(Counts {
            lines: lines.clone(),
            metadata: metadata.clone(),
            by,
            threads: evaluator.threads(),
            ..Counts::new(matchers, range, bucket_ns, measure)
        }));
    }
    Ok(Request::Rows(Rows {
        matchers,
        range,
        lines: lines.clone(),
        metadata: metadata.clone(),
        // Sums of values depend on the order, if only by their last digits.
        direction: if has_values {
            Direction::Forward
        } else {
            Direction::Any
        },
        limit_hint: None,
        projection: Projection {
            lines: !plain || measure == Measure::Bytes,
            metadata: !matches!(grouping, Some(Grouping::By(names)) if plain && names.is_empty()),
        },
        threads: evaluator.threads(),
    }))
}

/// Those of the names that some stream has no label of, so that metadata counts there.
fn missing_labels(
    evaluator: &Evaluator<'_>,
    matchers: &[Matcher],
    range: TimeRange,
    names: &[String],
) -> Result<Vec<String>, QueryError> {
    let mut missing = names.to_vec();
    if !missing.is_empty() {
        let streams = evaluator.source.streams(matchers, range)?;
        missing.retain(|name| streams.iter().any(|stream| stream.get(name).is_none()));
    }
    Ok(missing)
}

/// The windows `(T - range - offset, T - offset]` of all steps T.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    steps: Steps,
    range_ns: i64,
    offset_ns: i64,
}

impl Windows {
    /// The instants that some window may hold.
    fn scanned(&self) -> TimeRange {
        let start = self.steps.start_ns.saturating_sub(self.offset_ns);
        let last = self.steps.last().saturating_sub(self.offset_ns);
        TimeRange::inclusive(start.saturating_sub(self.range_ns).saturating_add(1), last)
    }

    /// The steps whose windows hold an instant: from the first to before the second.
    pub(super) fn steps_of(&self, timestamp: i64) -> (usize, usize) {
        let Steps {
            start_ns,
            step_ns,
            count,
        } = self.steps;
        let shifted = timestamp.saturating_add(self.offset_ns);
        let step_at = |instant: i64| {
            let distance = instant.saturating_sub(start_ns);
            let step = distance.div_euclid(step_ns) + i64::from(distance.rem_euclid(step_ns) > 0);
            usize::try_from(step.max(0)).map_or(count, |step| step.min(count))
        };
        (
            step_at(shifted),
            step_at(shifted.saturating_add(self.range_ns)),
        )
    }

    /// The window of a step: after the first instant, up to the second.
    pub(super) fn of(&self, step: usize) -> (i64, i64) {
        let end = self.steps.at(step).saturating_sub(self.offset_ns);
        (end.saturating_sub(self.range_ns), end)
    }

    /// The width of buckets of which all windows consist; `None` when there were too many.
    fn bucket(&self) -> Option<i64> {
        let width = if self.steps.count == 1 {
            self.range_ns
        } else {
            greatest_divisor(self.range_ns, self.steps.step_ns)
        };
        let (start, end) = (
            self.of(0).0,
            self.steps.last().saturating_sub(self.offset_ns),
        );
        (end.saturating_sub(start) / width.max(1) <= BUCKETS_MAX).then_some(width)
    }
}

fn greatest_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Reads the value of `unwrap`.
struct Extractor {
    label: String,
    conversion: Conversion,
    filters: Vec<LabelTest>,
}

impl Extractor {
    fn new(unwrap: &Unwrap) -> Result<Self, QueryError> {
        let compile = |filter| {
            let kind = StageKind::LabelFilter(Clone::clone(filter));
            label_test(
                &Stage {
                    kind,
                    span: unwrap.span,
                },
                filter,
            )
        };
        Ok(Self {
            label: unwrap.label.clone(),
            conversion: unwrap.conversion,
            filters: unwrap
                .filters
                .iter()
                .map(compile)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The value of a row; `None` when it has none or a filter drops it.
    fn value(&self, labels: &mut RowLabels<'_>) -> Option<f64> {
        let text = labels.get(&self.label)?;
        let read = match self.conversion {
            Conversion::Number => units::float(text),
            Conversion::Bytes => units::bytes(text).map(|bytes| bytes as f64),
            Conversion::Duration | Conversion::DurationSeconds => {
                units::go_duration(text).map(|nanos| nanos as f64 / 1e9)
            }
        };
        let value = match read {
            Ok(value) => value,
            Err(details) => {
                labels.set_error(RowError::SampleExtraction, &details);
                0.0
            }
        };
        if !self.filters.iter().all(|test| test.passes(labels)) {
            return None;
        }
        // The value is no label of the series; but an error is told with it.
        if labels.error().is_none() {
            labels.remove(&self.label);
        }
        Some(value)
    }
}

/// A scan at work.
struct Scan<'a> {
    windows: Windows,
    measure: Measure,
    pipeline: &'a Pipeline,
    /// For numbers that the source counted.
    counted: &'a Pipeline,
    extractor: Option<&'a Extractor>,
    budget: &'a Budget,
    table: SeriesTable,
    scratch: Scratch,
}

impl Scan<'_> {
    /// Takes in the lines of a batch; gives how many came through.
    fn rows(&mut self, batch: &RowBatch) -> Result<u64, QueryError> {
        self.table.next_batch();
        let in_windows = |timestamp: &i64| {
            let (first, end) = self.windows.steps_of(*timestamp);
            first < end
        };
        let mut selected: Vec<bool> = batch.timestamps.iter().map(in_windows).collect();
        self.pipeline.select(&batch.lines, &mut selected);
        let mut passed = 0;
        for (row, &timestamp) in batch.timestamps.iter().enumerate() {
            if selected.get(row) == Some(&true) {
                passed += u64::from(self.row(batch, row, timestamp)?);
            }
        }
        Ok(passed)
    }

    fn row(&mut self, batch: &RowBatch, row: usize, timestamp: i64) -> Result<bool, QueryError> {
        let Some(stream) = batch.stream_of(row) else {
            return Ok(false);
        };
        let empty = Labels::empty();
        let code = batch.metadata_code(row);
        let metadata = batch.metadata_sets.get(code as usize).unwrap_or(&empty);
        let line = batch.lines.get(row);
        self.scratch.timestamp_ns = timestamp;
        let Some(mut passed) = self.pipeline.run(line, stream, metadata, &mut self.scratch) else {
            return Ok(false);
        };
        let mut value = 0.0;
        if let Some(extractor) = self.extractor {
            match extractor.value(&mut passed.labels) {
                Some(found) => value = found,
                None => return Ok(false),
            }
        }
        if let Some(error) = passed.labels.error()
            && passed.labels.get(PRESERVE_ERROR) != Some("true")
        {
            return Err(pipeline_error(error, &passed.labels.merged()));
        }
        let codes = (batch.stream.get(row).copied().unwrap_or(0), code);
        let before = self.table.len();
        let series = self.table.find(&passed.labels, codes);
        let weight = match self.measure {
            Measure::Lines => 1,
            Measure::Bytes => passed.line.len() as u64,
        };
        let held = self
            .table
            .add(series, self.windows, timestamp, Amount { weight, value });
        let new = (self.table.len() - before) as u64;
        self.budget
            .hold_samples(held + new * self.windows.steps.count as u64)?;
        Ok(true)
    }

    /// Takes in numbers that the source counted.
    fn counts(&mut self, batch: &CountBatch, request: &Counts) -> Result<(), QueryError> {
        self.table.next_batch();
        let empty = Labels::empty();
        let columns = batch.stream.iter().zip(&batch.bucket).zip(&batch.count);
        for (row, ((&stream, &bucket), &weight)) in columns.enumerate() {
            let Some(labels) = batch.streams.get(stream as usize) else {
                continue;
            };
            let group = batch.group.get(row).copied().unwrap_or(0);
            let metadata = batch.groups.get(group as usize).unwrap_or(&empty);
            // All of a bucket is in the windows that hold its last instant.
            let width = request.bucket_ns.saturating_mul(i64::from(bucket) + 1);
            let timestamp = request.range.start.saturating_add(width);
            let Some(passed) = self.counted.run(&[], labels, metadata, &mut self.scratch) else {
                continue;
            };
            let before = self.table.len();
            let series = self.table.find(&passed.labels, (stream, group));
            self.table.add(
                series,
                self.windows,
                timestamp,
                Amount { weight, value: 0.0 },
            );
            let new = (self.table.len() - before) as u64;
            self.budget
                .hold_samples(new * self.windows.steps.count as u64)?;
        }
        Ok(())
    }
}

fn pipeline_error(error: &str, series: &Labels) -> QueryError {
    QueryError::Invalid(format!(
        "pipeline error: '{error}' for series: '{series}'.\n\
         Use a label filter to intentionally skip this error. (e.g | __error__!=\"{error}\").\n\
         To skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
         The label filter can also be specified after unwrap. \
         (e.g | unwrap latency | __error__=\"\" )\n"
    ))
}

/// 1 at the steps at which no series has a value.
fn absent(matchers: &[Matcher], series: &[StepSeries], steps: usize) -> Vec<StepSeries> {
    let is_missing = |step: usize| {
        let at = |series: &StepSeries| series.values.get(step).copied().unwrap_or(ABSENT);
        series
            .iter()
            .all(|series| crate::vector::is_absent(at(series)))
    };
    let values = (0..steps)
        .map(|step| if is_missing(step) { 1.0 } else { ABSENT })
        .collect::<Vec<_>>();
    // The labels that the missing lines would have: those that one matcher alone pins down.
    let pinned = matchers.iter().filter(|matcher| {
        matcher.op() == MatchOp::Equal
            && matchers
                .iter()
                .filter(|other| other.name() == matcher.name())
                .count()
                == 1
    });
    let labels = Labels::from_pairs(pinned.map(|matcher| (matcher.name(), matcher.value())));
    vec![StepSeries::new(labels.unwrap_or_default(), values)]
}
