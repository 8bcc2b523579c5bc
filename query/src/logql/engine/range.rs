//! Makes series of lines: plans what of a range aggregation the store counts and what is read, has
//! it scanned, and adds each line to the series of its labels at all steps whose window holds it.

use trine_storage::{Labels, MatchOp, Matcher, TimeRange};

use super::equality::Equality;
use super::metric::{Evaluator, Steps};
use super::scan::Scan;
use super::series::{Holds, SeriesTable};
use super::unwrap::Extractor;
use super::window::Window;
use crate::logql::ast::{LabelChoice, RangeAggregation, RangeOp, Stage, StageKind};
use crate::logql::error::QueryError;
use crate::logql::pipeline::Pipeline;
use crate::logql::pipeline::labels::{ERROR, EXTRACTED, Wanted};
use crate::logql::source::{Counts, Direction, Measure, Projection, Request, Rows};
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
    let unwrap = node.range.unwrap.as_ref();
    let extractor = unwrap.map(|unwrap| Extractor::new(unwrap, &grouping));
    let extractor = extractor.transpose()?;
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
    let plans = plan(evaluator, node, &grouping, &pipeline, windows, measure)?;
    // What is counted has passed all stages.
    let counted = Pipeline::new(&[], wanted(&grouping, None))?;
    let holds = if extractor.is_some() {
        Holds::Values
    } else {
        Holds::Counts
    };
    let mut table = SeriesTable::new(grouping.clone(), holds, evaluator.steps.count);
    for Plan { request, only } in &plans {
        let scan = Scan {
            windows,
            measure,
            pipeline: &pipeline,
            counted: &counted,
            extractor: extractor.as_ref(),
            budget: evaluator.budget,
            request,
            only,
            grouping: &grouping,
            holds,
            steps: evaluator.steps.count,
        };
        for found in scan.run(evaluator.source, evaluator.permits())? {
            table.absorb(found.table, evaluator.budget);
            evaluator.stats.lines_processed += found.stats.lines_processed;
            evaluator.stats.bytes_processed += found.stats.bytes_processed;
            evaluator.stats.lines_passed += found.stats.lines_passed;
            evaluator.warnings.extend(found.warnings);
        }
    }
    let window = Window {
        op: node.op,
        param: node.param.unwrap_or(0.0),
        seconds: node.range.interval as f64 / 1e9,
    };
    let series = table.finish(window, windows, evaluator.budget)?;
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

/// One request to the source.
struct Plan {
    request: Request,
    /// Only lines of which these hold are meant, whatever the source gives.
    only: Vec<Matcher>,
}

/// What to ask of the source: numbers when the source can do all that the stages do and the result
/// has no labels but those that the source counts by, else rows.
///
/// Where stages parse lines only to find labels that most lines have beside them, numbers are asked
/// for of those and rows of the others.
fn plan(
    evaluator: &Evaluator<'_>,
    node: &RangeAggregation,
    grouping: &Option<Grouping>,
    pipeline: &Pipeline,
    windows: Windows,
    measure: Measure,
) -> Result<Vec<Plan>, QueryError> {
    let matchers = node.range.log.selector.matchers.clone();
    let range = windows.scanned();
    let (lines, metadata) = (&pipeline.pushed().lines, &pipeline.pushed().metadata);
    let has_values = node.range.unwrap.is_some();
    let plain = pipeline.is_empty() && !has_values;
    // Which of two values of one instant is later is known in order only.
    let direction = match node.op {
        RangeOp::First | RangeOp::Last | RangeOp::RateCounter => Direction::Forward,
        _ => Direction::Any,
    };
    let by_skeletons = direction == Direction::Any && measure == Measure::Lines;
    let rows = Rows {
        matchers: matchers.clone(),
        range,
        lines: lines.clone(),
        metadata: metadata.clone(),
        either: Equality::of(&node.range.log.stages).map(|equality| equality.either()),
        direction,
        limit_hint: None,
        projection: Projection {
            lines: !plain || measure == Measure::Bytes,
            metadata: !matches!(grouping, Some(Grouping::By(names)) if plain && names.is_empty()),
            skeletons: by_skeletons && pipeline.takes_skeletons(),
        },
        threads: 1,
    };
    let all_rows = |rows: Rows| {
        Ok(vec![Plan {
            request: Request::Rows(rows),
            only: Vec::new(),
        }])
    };
    let Some(Grouping::By(names)) = grouping else {
        return all_rows(rows);
    };
    let countable = !has_values && !names.iter().any(|name| name.ends_with(EXTRACTED));
    let Some(bucket_ns) = windows.bucket().filter(|_| countable) else {
        return all_rows(rows);
    };
    let stages = match pipeline.is_pushed() {
        true => Some(node.range.log.stages.clone()),
        false => without_parsers(&node.range.log.stages, names),
    };
    let unparsed = stages.map(|stages| Pipeline::new(&stages, Wanted::Names(names.clone())));
    if !unparsed
        .transpose()?
        .is_some_and(|unparsed| unparsed.is_pushed())
    {
        return all_rows(rows);
    }
    let missing = missing_labels(evaluator, &matchers, range, names)?;
    let mut counts = Counts {
        lines: lines.clone(),
        metadata: metadata.clone(),
        by: missing.clone(),
        // Buckets are open at their start: they begin where the first window does.
        ..Counts::new(
            matchers,
            TimeRange::new(range.start.saturating_sub(1), range.end),
            bucket_ns,
            measure,
        )
    };
    let mut plans = Vec::new();
    let mut present = Vec::new();
    if !pipeline.is_pushed() {
        for name in &missing {
            let mut only = present.clone();
            only.push(Matcher::equal(name.as_str(), ""));
            let mut rows = rows.clone();
            rows.metadata.extend_from_slice(&only);
            plans.push(Plan {
                request: Request::Rows(rows),
                only,
            });
            present.push(Matcher::new(MatchOp::NotEqual, name.as_str(), "")?);
        }
    }
    counts.metadata.extend_from_slice(&present);
    plans.push(Plan {
        request: Request::Counts(counts),
        only: present,
    });
    Ok(plans)
}

/// The stages without those that parse, if these make no difference to lines that have labels of all
/// `names` before they are parsed: what is parsed gets other names then, and errors are dropped.
fn without_parsers(stages: &[Stage], names: &[String]) -> Option<Vec<Stage>> {
    let (mut left, mut parsed, mut may_fail) = (Vec::new(), false, false);
    for stage in stages {
        match &stage.kind {
            StageKind::LineFilter(_) => left.push(stage.clone()),
            StageKind::LabelFilter(_) if !parsed => left.push(stage.clone()),
            StageKind::Json(_) | StageKind::Logfmt(_) => (parsed, may_fail) = (true, true),
            StageKind::Regexp(_) | StageKind::Pattern(_) => parsed = true,
            StageKind::Drop(choices) => {
                for choice in choices {
                    match choice {
                        LabelChoice::Name(name) if name == ERROR => may_fail = false,
                        choice if choice.name() == ERROR => return None,
                        choice if names.iter().any(|name| name == choice.name()) => return None,
                        _ => {}
                    }
                }
            }
            _ => return None,
        }
    }
    (parsed && !may_fail).then_some(left)
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
    pub(super) fn steps_of(&self, timestamp: i64) -> Held {
        let Steps {
            start_ns,
            step_ns,
            count,
        } = self.steps;
        // The first step at or after an instant, and the instants of which the same is true.
        let step_at = |shift: i64| {
            let distance = timestamp.saturating_add(shift).saturating_sub(start_ns);
            let step = distance.div_euclid(step_ns) + i64::from(distance.rem_euclid(step_ns) > 0);
            let until = start_ns
                .saturating_add(step.saturating_mul(step_ns))
                .saturating_sub(shift);
            let clamped = usize::try_from(step.max(0)).map_or(count, |step| step.min(count));
            (clamped, until)
        };
        let (first, in_until) = step_at(self.offset_ns);
        let (end, out_until) = step_at(self.offset_ns.saturating_add(self.range_ns));
        let until = in_until.min(out_until).max(timestamp);
        let after = in_until.max(out_until).saturating_sub(step_ns);
        Held {
            first,
            end,
            after: after.min(timestamp.saturating_sub(1)),
            until,
        }
    }

    /// The window of a step: after the first instant, up to the second.
    pub(super) fn of(&self, step: usize) -> (i64, i64) {
        let end = self.steps.at(step).saturating_sub(self.offset_ns);
        (end.saturating_sub(self.range_ns), end)
    }

    /// Whether no instant is in two windows.
    pub(super) fn are_apart(&self) -> bool {
        self.steps.count == 1 || self.range_ns <= self.steps.step_ns
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

/// The steps from `first` to before `end`, whose windows hold all instants after `after` up to `until`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) first: usize,
    pub(super) end: usize,
    after: i64,
    until: i64,
}

impl Held {
    /// The steps of some instant after those of another: most lines come close after one another.
    pub(super) fn of(self, windows: &Windows, timestamp: i64) -> Self {
        if timestamp > self.after && timestamp <= self.until {
            return self;
        }
        windows.steps_of(timestamp)
    }

    /// Whether there are any.
    pub(super) fn is_some(self) -> bool {
        self.first < self.end
    }
}

fn greatest_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
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
