//! Spans that stand for the values of series: a bounded number, one of a trace, spread over the time
//! of the answer.

use std::collections::HashMap;
use std::sync::Arc;

use crate::budget::Budget;
use crate::text::format_go_duration;
use crate::traceql::ast::Attribute;
use crate::traceql::error::QueryError;
use crate::traceql::field::{attribute_values, hex};
use crate::traceql::source::{
    Batch, Filter, Request, Rows, Scope, Source, SpanBatch, TraceFilter, Value,
};

use super::Exemplar;
use super::intervals::Intervals;
use super::labels::{Interner, Label, Series};
use super::observed::{Observer, Seen};
use super::tally::Group;

/// Parts of the range in which exemplars are looked for where the store counts spans itself.
const PARTS_MAX: usize = 16;
/// The most spans that are read for them in each part.
const SPANS_MAX: u64 = 8_192;

/// An exemplar and the interval that it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) interval: usize,
    pub(super) exemplar: Exemplar,
}

/// Exemplars while they are gathered.
#[derive(Debug)]
pub(super) struct Exemplars {
    most: usize,
    intervals: Intervals,
    /// How many there are in each slot of time.
    slots: Vec<usize>,
    per_slot: usize,
    count: usize,
    found: HashMap<Group, Vec<Held>>,
}

impl Exemplars {
    pub(super) fn new(most: usize, intervals: Intervals) -> Self {
        let slots = most.min(intervals.count());
        Self {
            most,
            intervals,
            slots: vec![0; slots],
            per_slot: most.div_ceil(slots.max(1)),
            count: 0,
            found: HashMap::new(),
        }
    }

    /// What spans are told by, besides what every batch has.
    pub(super) fn attributes() -> [Attribute; 1] {
        [Attribute::Named {
            scope: Some(Scope::Resource),
            parent: false,
            key: "service.name".into(),
        }]
    }

    /// Whether no more are wanted.
    pub(super) fn is_full(&self) -> bool {
        self.count >= self.most
    }

    /// Takes a span, if its time has not enough of them yet.
    fn add(&mut self, batch: &SpanBatch, seen: &Seen, value: f64) -> bool {
        let slot = seen.interval * self.slots.len() / self.intervals.count().max(1);
        let (is_full, per_slot) = (self.is_full(), self.per_slot);
        let Some(held) = self.slots.get_mut(slot).filter(|held| **held < per_slot) else {
            return false;
        };
        if is_full {
            return false;
        }
        *held += 1;
        self.count += 1;
        let start = batch.starts.get(seen.row).copied().unwrap_or(0);
        let exemplar = Exemplar {
            labels: labels(batch, seen),
            value,
            timestamp_ms: start.div_euclid(1_000_000),
        };
        self.found.entry(seen.group).or_default().push(Held {
            interval: seen.interval,
            exemplar,
        });
        true
    }

    /// Gives them to the series of their groups. Where a group has several series (quantiles), each
    /// goes to the first that is not below it in its interval, or else to the last.
    pub(super) fn attach(mut self, series: &mut [(Group, Series)]) {
        for of_group in series.chunk_by_mut(|(a, _), (b, _)| a == b) {
            let Some((group, _)) = of_group.first() else {
                continue;
            };
            for held in self.found.remove(group).unwrap_or_default() {
                let is_below = |(_, series): &(Group, Series)| {
                    let value = series.values.get(held.interval);
                    value.is_none_or(|value| *value < held.exemplar.value)
                };
                let at = of_group.iter().position(|series| !is_below(series));
                let at = at.unwrap_or(of_group.len() - 1);
                if let Some((_, series)) = of_group.get_mut(at) {
                    series.exemplars.push(held);
                }
            }
        }
    }
}

/// Takes exemplars of the spans of a batch while these are handed over, one of each trace.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    pub(super) exemplars: &'a mut Exemplars,
    /// By what measured numbers are divided to be the value of an exemplar; none where it is that of
    /// its series.
    pub(super) unit: Option<f64>,
    /// The trace of the batch that has given its exemplar.
    taken: Option<usize>,
}

impl<'a> Taking<'a> {
    /// Begins a batch.
    pub(super) fn new(exemplars: &'a mut Exemplars, unit: Option<f64>) -> Self {
        Self {
            exemplars,
            unit,
            taken: None,
        }
    }

    /// Looks at a span that counts.
    pub(super) fn see(&mut self, batch: &SpanBatch, mut seen: Seen, is_histogram: bool) {
        if self.taken == Some(seen.trace) || self.exemplars.is_full() {
            return;
        }
        if !is_histogram {
            seen.group.exponent = 0;
        }
        let value = self.unit.map_or(f64::NAN, |unit| seen.number / unit);
        if self.exemplars.add(batch, &seen, value) {
            self.taken = Some(seen.trace);
        }
    }
}

fn labels(batch: &SpanBatch, seen: &Seen) -> Vec<Label> {
    let text = |name: &str, value: String| (Arc::from(name), Some(Value::Str(value.into())));
    let mut labels = Vec::new();
    if let Some(trace) = batch.traces.get(seen.trace) {
        labels.push(text("trace:id", hex(&trace.id)));
    }
    if let Some(id) = batch.span_ids.get(seen.row) {
        labels.push(text("span:id", hex(id)));
    }
    let code = batch.names.codes.get(seen.row);
    let name = code.and_then(|code| batch.names.dictionary.get(*code as usize));
    labels.push(("name".into(), name.cloned()));
    let duration = batch.durations.get(seen.row).copied().unwrap_or(0);
    let duration = i64::try_from(duration).unwrap_or(i64::MAX);
    labels.push(text("duration", format_go_duration(duration)));
    for attribute in Exemplars::attributes() {
        let value = attribute_values(&attribute, batch).get(seen.row);
        labels.push((attribute.to_string().into(), value.into_answer()));
    }
    labels.retain(|(_, value)| value.is_some());
    labels
}

/// Looks for exemplars among the newest traces of each part of the range. How many spans are read is
/// bounded.
pub(super) fn fetch(
    source: &dyn Source,
    (observer, filter): (&Observer<'_>, &Filter),
    budget: &Budget,
    interner: &mut Interner,
    (exemplars, unit, is_histogram): (&mut Exemplars, Option<f64>, bool),
) -> Result<(), QueryError> {
    let parts = exemplars.intervals.parts(PARTS_MAX);
    // The parts spread them: the newest traces of each lie close together.
    exemplars.per_slot = exemplars.most;
    let mut left = parts.len();
    for range in parts.into_iter().rev() {
        let wanted = (exemplars.most - exemplars.count).div_ceil(left);
        left -= 1;
        let enough = exemplars.count + wanted;
        let filter = match filter {
            Filter::And(of) if of.is_empty() => TraceFilter::All,
            filter => TraceFilter::Has(filter.clone()),
        };
        let request = Request::Rows(Rows {
            range,
            filter,
            projection: observer.projection(&Exemplars::attributes())?,
            enough: wanted,
        });
        let mut spans = 0;
        for batch in source.scan(&request)? {
            budget.check()?;
            let Batch::Spans(batch) = batch? else {
                continue;
            };
            spans += batch.starts.len() as u64;
            let mut taking = Taking::new(exemplars, unit);
            observer.batch(&batch, interner, &mut |seen| {
                if taking.exemplars.count < enough {
                    taking.see(&batch, seen, is_histogram);
                }
                Ok(())
            })?;
            if exemplars.count >= enough || spans >= SPANS_MAX {
                break;
            }
        }
    }
    Ok(())
}
