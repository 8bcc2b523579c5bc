//! `compare({ ... })`: how often each value of each attribute occurs among the spans that are
//! selected and among the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use trine_storage::TimeRange;

use crate::budget::{Budget, BudgetError};
use crate::traceql::ast::{
    Attribute, Intrinsic, Metrics, MetricsArgument, Pipeline, SpansetExpr, Stage,
};
use crate::traceql::error::QueryError;
use crate::traceql::field::{Evaluation, Patterns, attribute_values};
use crate::traceql::source::{
    self, AttributeRef, ComparisonBatch, Effort, Filter, Source, SpanBatch, Value,
};
use crate::traceql::{lower, spanset};

use super::counted::told;
use super::intervals::Intervals;
use super::labels::{Interner, LabelKey, NIL, Series};

/// What a series tells.
const META_TYPE: &str = "__meta_type";
/// What is not told completely.
const META_ERROR: &str = "__meta_error";
const TOO_MANY_VALUES: &str = "__too_many_values__";
/// The values of an attribute that are told where the query names no number.
const TOP_DEFAULT: usize = 10;
/// The most values of an attribute that are told.
const TOP_MAX: usize = 1000;
/// The most values of an attribute that are counted where there is one interval; those that are met
/// later are counted as one.
const VALUES_MAX: usize = 1 << 16;
/// The most counts of an attribute, in all intervals together.
const COUNTS_MAX: usize = 1 << 18;

/// Whether a span is not selected (0) or selected (1).
const SIDES: [(&str, &str); 2] = [
    ("baseline", "baseline_total"),
    ("selection", "selection_total"),
];

/// What a query compares.
#[derive(Debug)]
pub(super) struct Comparison {
    pipeline: Pipeline,
    patterns: Patterns,
    top: usize,
    /// Only spans that begin in this range are selected.
    times: Option<(i64, i64)>,
}

impl Comparison {
    pub(super) fn of(function: &Metrics) -> Result<Self, QueryError> {
        let filter = function
            .arguments
            .iter()
            .find_map(|argument| match argument {
                MetricsArgument::Filter(filter) => Some(filter.clone()),
                _ => None,
            });
        let selection = filter.unwrap_or(SpansetExpr::Filter(None, function.span));
        let pipeline = Pipeline {
            stages: vec![Stage::Spans(selection)],
        };
        let mut patterns = Patterns::default();
        crate::traceql::engine::fields(&pipeline, &mut |field| patterns.add(field))?;
        let numbers = function.numbers();
        let top = numbers.first().and_then(|top| usize::try_from(*top).ok());
        Ok(Self {
            pipeline,
            patterns,
            top: top.unwrap_or(TOP_DEFAULT).min(TOP_MAX),
            times: match numbers[..] {
                [_, start, end, ..] if start > 0 && end > 0 => Some((start, end)),
                _ => None,
            },
        })
    }

    /// The attributes whose values are told: all that spans have, and what is built in but for ids,
    /// times and places.
    pub(super) fn attributes(
        source: &dyn Source,
        intervals: &Intervals,
    ) -> Result<Vec<Attribute>, QueryError> {
        let built_in = [
            Intrinsic::Name,
            Intrinsic::Status,
            Intrinsic::StatusMessage,
            Intrinsic::Kind,
            Intrinsic::TraceRootName,
            Intrinsic::TraceRootService,
            Intrinsic::EventName,
            Intrinsic::InstrumentationName,
            Intrinsic::InstrumentationVersion,
        ];
        let mut attributes: Vec<Attribute> = built_in.map(Attribute::Intrinsic).to_vec();
        let named = source.attribute_names(intervals.covers())?.into_iter();
        attributes.extend(named.map(|(scope, key, _)| Attribute::Named {
            scope: Some(scope),
            parent: false,
            key: key.into(),
        }));
        Ok(attributes)
    }

    /// The columns that the selection and the attributes need.
    pub(super) fn projection(
        &self,
        attributes: &[Attribute],
    ) -> Result<Vec<AttributeRef>, QueryError> {
        let mut needed: Vec<AttributeRef> = attributes.iter().filter_map(lower::column).collect();
        crate::traceql::engine::fields(&self.pipeline, &mut |field| {
            field.attributes(&mut |attribute| {
                if let Some(column) = lower::column(attribute)
                    && !needed.contains(&column)
                {
                    needed.push(column);
                }
            });
            Ok(())
        })?;
        Ok(needed)
    }

    /// What a store is asked for the comparison among the spans that satisfy a filter; none when it
    /// cannot tell which are selected.
    pub(super) fn request(
        &self,
        filter: Filter,
        attributes: &[Attribute],
        intervals: &Intervals,
        effort: Effort,
    ) -> Option<source::Comparison> {
        let references = attributes.iter().map(lower::reference);
        let attributes: Option<Vec<AttributeRef>> = references.collect();
        let (origin_ns, bucket_ns) = intervals.buckets();
        Some(source::Comparison {
            range: intervals.covers(),
            filter,
            selection: lower::exact(&self.pipeline)?,
            selected_range: self.times(),
            origin_ns,
            bucket_ns,
            attributes: attributes?,
            values_max: self.values_max(intervals),
            effort,
        })
    }

    /// The most values of an attribute that are counted, never fewer than are told.
    pub(super) fn values_max(&self, intervals: &Intervals) -> usize {
        let most = COUNTS_MAX / intervals.count().max(1);
        most.min(VALUES_MAX).max(self.top)
    }

    /// When selected spans begin.
    fn times(&self) -> TimeRange {
        let times = self.times.map(|(start, end)| TimeRange::new(start, end));
        times.unwrap_or(TimeRange::ALL)
    }

    /// Which spans of a batch are selected.
    pub(super) fn selected(&self, batch: &SpanBatch) -> Result<Vec<bool>, QueryError> {
        let mut selected = vec![false; batch.starts.len()];
        let evaluation = Evaluation::new(batch, &self.patterns);
        let sets = spanset::run(&self.pipeline, &evaluation)?;
        for row in sets.into_iter().flatten().flat_map(|set| set.rows) {
            if let Some(held) = selected.get_mut(row as usize) {
                *held = true;
            }
        }
        let times = self.times();
        for (held, time) in selected.iter_mut().zip(&batch.starts) {
            *held &= times.contains(*time);
        }
        Ok(selected)
    }
}

/// How often values of one attribute occur, by side and interval.
#[derive(Debug, Default)]
pub(super) struct Occurrences {
    interner: Interner,
    /// By side; of each value all intervals.
    counts: [Vec<u64>; 2],
    totals: [Vec<u64>; 2],
    /// The most values.
    values_max: usize,
    /// Whether there are values that are not counted.
    is_over: bool,
}

/// How often values of all attributes occur.
#[derive(Debug)]
pub(super) struct Sides<'a> {
    budget: &'a Budget,
    intervals: usize,
    values_max: usize,
    attributes: BTreeMap<Arc<str>, Occurrences>,
}

impl<'a> Sides<'a> {
    pub(super) fn new(comparison: &Comparison, budget: &'a Budget, intervals: &Intervals) -> Self {
        Self {
            budget,
            intervals: intervals.count(),
            values_max: comparison.values_max(intervals),
            attributes: BTreeMap::new(),
        }
    }

    /// The occurrences of an attribute by its name.
    pub(super) fn of(&mut self, attribute: &Attribute) -> &mut Occurrences {
        let name: Arc<str> = attribute.to_string().into();
        let values_max = self.values_max;
        let held = self.attributes.entry(name).or_default();
        held.values_max = values_max;
        held
    }

    /// Adds what a store has counted.
    ///
    /// # Errors
    /// [`BudgetError::Samples`].
    pub(super) fn add_counted(
        &mut self,
        batch: &ComparisonBatch,
        attributes: &[Attribute],
        intervals: &Intervals,
    ) -> Result<(), BudgetError> {
        let bounds = (self.intervals, self.budget);
        for (attribute, counted) in attributes.iter().zip(&batch.attributes) {
            let held = self.of(attribute);
            let values = counted.values.dictionary.iter();
            let numbers: Vec<u32> = values
                .map(|value| held.number(shown(attribute, told(attribute, value))))
                .collect();
            let sides = counted.others.iter().zip(&counted.selected);
            let rows = counted.values.codes.iter().zip(&counted.buckets).zip(sides);
            for ((code, bucket), (others, selected)) in rows {
                let Some(interval) = intervals.of_bucket(*bucket) else {
                    continue;
                };
                let number = numbers.get(*code as usize).copied();
                let number = number.unwrap_or_else(|| held.beyond());
                for (is_selected, count) in [(false, *others), (true, *selected)] {
                    if count > 0 {
                        held.add((number, interval, is_selected), count, bounds)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts the spans of a batch, each with its interval and whether it is selected.
    ///
    /// # Errors
    /// [`BudgetError::Samples`].
    pub(super) fn add_batch(
        &mut self,
        batch: &SpanBatch,
        attributes: &[Attribute],
        rows: &[(usize, usize, bool)],
    ) -> Result<(), BudgetError> {
        let (intervals, budget) = (self.intervals, self.budget);
        for attribute in attributes {
            let values = attribute_values(attribute, batch);
            let held = self.of(attribute);
            // Only what is there is counted, so the dictionary is not looked through as a whole.
            let mut known: Vec<u32> = Vec::new();
            for (row, interval, is_selected) in rows {
                let number = match &values {
                    crate::traceql::field::Values::Coded(codes, values) => {
                        let code = codes.get(*row).copied().unwrap_or(u32::MAX) as usize;
                        let Some(value) = values.get(code) else {
                            continue;
                        };
                        if known.is_empty() {
                            known.resize(values.len(), NIL);
                        }
                        match known.get_mut(code) {
                            Some(known) if *known == NIL => {
                                let value = value.clone().into_answer();
                                *known = held.number(shown(attribute, value));
                                *known
                            }
                            Some(known) => *known,
                            None => NIL,
                        }
                    }
                    values => held.number(shown(attribute, values.get(*row).into_answer())),
                };
                held.add((number, *interval, *is_selected), 1, (intervals, budget))?;
            }
        }
        Ok(())
    }

    /// How many spans were counted, as far as an attribute that most have tells.
    pub(super) fn spans(&self) -> u64 {
        let totals = self.attributes.values();
        let sum = |held: &Occurrences| held.totals.iter().flatten().sum();
        totals.map(sum).max().unwrap_or(0)
    }

    /// The series of a comparison.
    pub(super) fn series(self, comparison: &Comparison) -> Vec<Series> {
        let mut found = Vec::new();
        for (name, held) in &self.attributes {
            let mut is_over = held.is_over;
            for (side, (each, total)) in SIDES.iter().enumerate() {
                let one = |told: &str, value: Option<Value>, values: &[u64]| Series {
                    labels: vec![
                        (META_TYPE.into(), Some(Value::Str(told.into()))),
                        (Arc::clone(name), value),
                    ],
                    values: values.iter().map(|count| *count as f64).collect(),
                    ..Series::default()
                };
                let counts = held.counts[side].chunks(self.intervals.max(1));
                let sums = counts.clone().map(|counts| counts.iter().sum::<u64>());
                let mut values: Vec<(u64, u32)> = sums.zip(0..).collect();
                values.retain(|(count, _)| *count > 0);
                if values.len() > comparison.top {
                    is_over = true;
                    // Values of equal counts are told by their order, which takes longer to find out.
                    let mut by_count = values.clone();
                    let at = comparison.top.saturating_sub(1);
                    let (_, (least, _), _) = by_count.select_nth_unstable_by(at, |a, b| b.cmp(a));
                    let least = *least;
                    values.retain(|(count, _)| *count >= least);
                }
                let key = |number| LabelKey::of(held.interner.value(number).as_ref());
                values.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| key(a.1).cmp(&key(b.1))));
                for (_, number) in values.into_iter().take(comparison.top) {
                    let counts = counts.clone().nth(number as usize).unwrap_or_default();
                    found.push(one(each, held.interner.value(number), counts));
                }
                let totals = &held.totals[side];
                if totals.iter().any(|count| *count > 0) {
                    found.push(one(total, None, totals));
                }
            }
            if is_over {
                found.push(Series {
                    labels: vec![
                        (META_ERROR.into(), Some(Value::Str(TOO_MANY_VALUES.into()))),
                        (Arc::clone(name), None),
                    ],
                    ..Series::default()
                });
            }
        }
        found
    }
}

impl Occurrences {
    /// The number of a value; that of none when there are too many.
    pub(super) fn number(&mut self, value: Option<Value>) -> u32 {
        match self.interner.find(value.as_ref()) {
            Some(number) => number,
            None if self.interner.count() > self.values_max => self.beyond(),
            None => self.interner.number(value),
        }
    }

    /// The number of values that are not told apart.
    fn beyond(&mut self) -> u32 {
        self.is_over = true;
        TOO_MANY
    }

    /// Counts spans that have a value.
    ///
    /// # Errors
    /// [`BudgetError::Samples`].
    pub(super) fn add(
        &mut self,
        (number, interval, is_selected): (u32, usize, bool),
        count: u64,
        (intervals, budget): (usize, &Budget),
    ) -> Result<(), BudgetError> {
        if number == NIL {
            return Ok(());
        }
        let side = usize::from(is_selected);
        let totals = &mut self.totals[side];
        totals.resize(intervals, 0);
        if let Some(held) = totals.get_mut(interval) {
            *held += count;
        }
        if number == TOO_MANY {
            return Ok(());
        }
        let counts = &mut self.counts[side];
        let end = (number as usize + 1) * intervals;
        if end > counts.len() {
            budget.hold_samples((end - counts.len()) as u64)?;
            counts.resize(end, 0);
        }
        if let Some(held) = counts.get_mut(end - intervals + interval) {
            *held += count;
        }
        Ok(())
    }
}

/// The value of an attribute, where it says something: what is built in is empty where it is not set.
fn shown(attribute: &Attribute, value: Option<Value>) -> Option<Value> {
    let is_built_in = matches!(attribute, Attribute::Intrinsic(_));
    value.filter(|value| !is_built_in || !matches!(value, Value::Str(text) if text.is_empty()))
}

/// Stands for values that are not counted one by one.
const TOO_MANY: u32 = u32::MAX;
