//! `compare({ ... })`: how often each value of each attribute occurs among the spans that are
//! selected and among the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::budget::{Budget, BudgetError};
use crate::traceql::ast::{
    Attribute, Intrinsic, Metrics, MetricsArgument, Pipeline, SpansetExpr, Stage, Static,
};
use crate::traceql::error::QueryError;
use crate::traceql::field::{Patterns, attribute_values};
use crate::traceql::source::{AttributeRef, Source, SpanBatch, Value};
use crate::traceql::{lower, spanset};

use super::intervals::Intervals;
use super::labels::{Interner, NIL, Series, order};

/// What a series tells.
const META_TYPE: &str = "__meta_type";
/// What is not told completely.
const META_ERROR: &str = "__meta_error";
const TOO_MANY_VALUES: &str = "__too_many_values__";
/// The values of an attribute that are told where the query names no number.
const TOP_DEFAULT: usize = 10;
/// The most values of an attribute that are told.
const TOP_MAX: usize = 1000;
/// The most values of an attribute that are counted; those that are met later are left out.
pub(super) const VALUES_MAX: usize = 1 << 16;

/// Whether a span is not selected (0) or selected (1).
pub(super) const SIDES: [(&str, &str); 2] = [
    ("baseline", "baseline_total"),
    ("selection", "selection_total"),
];

/// What a query compares.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) selection: SpansetExpr,
    pipeline: Pipeline,
    patterns: Patterns,
    top: usize,
    /// Only spans that begin in this range are selected.
    pub(super) times: Option<(i64, i64)>,
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
            stages: vec![Stage::Spans(selection.clone())],
        };
        let mut patterns = Patterns::default();
        crate::traceql::engine::fields(&pipeline, &mut |field| patterns.add(field))?;
        let numbers = function
            .arguments
            .iter()
            .filter_map(|argument| match argument {
                MetricsArgument::Literal(Static::Int(number), _) => Some(*number),
                _ => None,
            });
        let numbers: Vec<i64> = numbers.collect();
        let top = numbers.first().and_then(|top| usize::try_from(*top).ok());
        Ok(Self {
            selection,
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

    /// Which spans of a batch are selected.
    pub(super) fn selected(&self, batch: &SpanBatch) -> Result<Vec<bool>, QueryError> {
        let mut selected = vec![false; batch.starts.len()];
        let sets = spanset::run(&self.pipeline, batch, &self.patterns)?;
        for row in sets.into_iter().flatten().flat_map(|set| set.rows) {
            if let Some(held) = selected.get_mut(row as usize) {
                *held = true;
            }
        }
        if let Some((start, end)) = self.times {
            for (held, time) in selected.iter_mut().zip(&batch.starts) {
                *held &= (start..end).contains(time);
            }
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
    /// Whether there are values that are not counted.
    is_over: bool,
}

/// How often values of all attributes occur.
#[derive(Debug)]
pub(super) struct Sides<'a> {
    budget: &'a Budget,
    intervals: usize,
    attributes: BTreeMap<Arc<str>, Occurrences>,
}

impl<'a> Sides<'a> {
    pub(super) fn new(budget: &'a Budget, intervals: &Intervals) -> Self {
        Self {
            budget,
            intervals: intervals.count(),
            attributes: BTreeMap::new(),
        }
    }

    /// The occurrences of an attribute by its name.
    pub(super) fn of(&mut self, attribute: &Attribute) -> &mut Occurrences {
        let name: Arc<str> = attribute.to_string().into();
        self.attributes.entry(name).or_default()
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
                                *known = held.number(value.clone().into_answer());
                                *known
                            }
                            Some(known) => *known,
                            None => NIL,
                        }
                    }
                    values => held.number(values.get(*row).into_answer()),
                };
                held.add((number, *interval, *is_selected), 1, (intervals, budget))?;
            }
        }
        Ok(())
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
                let counts = &held.counts[side];
                let mut values: Vec<(u64, Series)> = counts
                    .chunks(self.intervals.max(1))
                    .zip(0..)
                    .map(|(counts, number)| {
                        let series = one(each, held.interner.value(number), counts);
                        (counts.iter().sum(), series)
                    })
                    .filter(|(count, _)| *count > 0)
                    .collect();
                is_over |= values.len() > comparison.top;
                values.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| order(&a.1.labels, &b.1.labels)));
                found.extend(values.into_iter().take(comparison.top).map(|(_, one)| one));
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
            None if self.interner.count() > VALUES_MAX => {
                self.is_over = true;
                TOO_MANY
            }
            None => self.interner.number(value),
        }
    }

    /// Says that there are values that were not counted.
    pub(super) fn is_over(&mut self) {
        self.is_over = true;
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

/// Stands for values that are not counted one by one.
const TOO_MANY: u32 = u32::MAX;
