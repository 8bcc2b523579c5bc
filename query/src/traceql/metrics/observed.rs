//! Functions over time from spans: the pipeline is run over batches of whole traces, and what it
//! gives is handed over span by span. For what a store cannot count, and for exemplars.

use crate::traceql::ast::{Attribute, Metrics, MetricsFunction, Pipeline};
use crate::traceql::error::QueryError;
use crate::traceql::field::{Patterns, Values, attribute_values};
use crate::traceql::source::{AttributeRef, SpanBatch};
use crate::traceql::value::Field;
use crate::traceql::{lower, spanset};

use super::functions::measured;
use super::intervals::Intervals;
use super::labels::Interner;
use super::tally::Group;

/// A span that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Its place in the batch.
    pub(super) row: usize,
    /// That of its trace.
    pub(super) trace: usize,
    pub(super) interval: usize,
    pub(super) group: Group,
    /// What is measured; zero when spans are counted.
    pub(super) number: f64,
}

/// Runs a pipeline and a function over time.
#[derive(Debug)]
pub(super) struct Observer<'a> {
    pipeline: &'a Pipeline,
    patterns: Patterns,
    by: Vec<&'a Attribute>,
    measured: Option<&'a Attribute>,
    is_bucketed: bool,
    intervals: Intervals,
}

impl<'a> Observer<'a> {
    pub(super) fn new(
        pipeline: &'a Pipeline,
        function: &'a Metrics,
        intervals: Intervals,
    ) -> Result<Self, QueryError> {
        use MetricsFunction::{HistogramOverTime, QuantileOverTime};
        let mut patterns = Patterns::default();
        crate::traceql::engine::fields(pipeline, &mut |field| patterns.add(field))?;
        Ok(Self {
            pipeline,
            patterns,
            by: function.by.iter().map(|(attribute, _)| attribute).collect(),
            measured: measured(function),
            is_bucketed: matches!(function.function, HistogramOverTime | QuantileOverTime),
            intervals,
        })
    }

    /// The columns that are needed, and those of `more`.
    pub(super) fn projection(&self, more: &[Attribute]) -> Result<Vec<AttributeRef>, QueryError> {
        let mut needed: Vec<AttributeRef> = Vec::new();
        let mut add = |attribute: &Attribute| {
            if let Some(column) = lower::column(attribute)
                && !needed.contains(&column)
            {
                needed.push(column);
            }
        };
        self.by
            .iter()
            .copied()
            .chain(self.measured)
            .chain(more)
            .for_each(&mut add);
        crate::traceql::engine::fields(self.pipeline, &mut |field| {
            field.attributes(&mut add);
            Ok(())
        })?;
        Ok(needed)
    }

    /// Hands over the spans of a batch that the pipeline gives, that begin in an interval and that
    /// have what is measured.
    pub(super) fn batch(
        &self,
        batch: &SpanBatch,
        interner: &mut Interner,
        each: &mut dyn FnMut(Seen) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let sets = spanset::run(self.pipeline, batch, &self.patterns)?;
        let by: Vec<Values<'_>> = self
            .by
            .iter()
            .map(|attribute| attribute_values(attribute, batch))
            .collect();
        let by: Vec<_> = by.iter().map(|values| interner.numbers(values)).collect();
        let measured = self
            .measured
            .map(|attribute| attribute_values(attribute, batch));
        for (trace, sets) in sets.into_iter().enumerate() {
            for row in sets.into_iter().flat_map(|set| set.rows) {
                let row = row as usize;
                let start = batch.starts.get(row).copied().unwrap_or(i64::MIN);
                let Some(interval) = self.intervals.of(start) else {
                    continue;
                };
                let mut group = Group::default();
                for (number, values) in group.by.iter_mut().zip(&by) {
                    *number = values.of(row);
                }
                let mut number = 0.0;
                if let Some(measured) = &measured {
                    let value = measured.get(row);
                    match value.number() {
                        Some(measured) if !measured.is_nan() => number = measured,
                        _ => continue,
                    }
                    if self.is_bucketed {
                        match exponent(&value) {
                            Some(exponent) => group.exponent = exponent,
                            None => continue,
                        }
                    }
                }
                each(Seen {
                    row,
                    trace,
                    interval,
                    group,
                    number,
                })?;
            }
        }
        Ok(())
    }
}

/// The power of two that is a number's bucket: the least that is not below it. Numbers up to one are
/// in none, nor is infinity.
fn exponent(value: &Field) -> Option<i32> {
    const FRACTION: u32 = 52;
    match value {
        Field::Int(number) | Field::Duration(number) if *number > 1 => {
            Some((64 - (number - 1).leading_zeros()) as i32)
        }
        Field::Float(number) if *number > 1.0 && number.is_finite() => {
            let bits = number.to_bits();
            let is_between = bits & ((1 << FRACTION) - 1) != 0;
            Some((bits >> FRACTION) as i32 - 1023 + i32::from(is_between))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_belong_to_powers_of_two() {
        for (number, expected) in [
            (i64::MIN, None),
            (0, None),
            (1, None),
            (2, Some(1)),
            (3, Some(2)),
            (4, Some(2)),
            (5, Some(3)),
            (1023, Some(10)),
            (1024, Some(10)),
            (1025, Some(11)),
            (i64::MAX, Some(63)),
        ] {
            assert_eq!(exponent(&Field::Int(number)), expected, "{number}");
            assert_eq!(exponent(&Field::Duration(number)), expected, "{number}");
        }
        for (number, expected) in [
            (f64::NAN, None),
            (f64::INFINITY, None),
            (-3.0, None),
            (1.0, None),
            (1.5, Some(1)),
            (2.0, Some(1)),
            (2.5, Some(2)),
            (f64::MAX, Some(1024)),
        ] {
            assert_eq!(exponent(&Field::Float(number)), expected, "{number}");
        }
        assert_eq!(exponent(&Field::Bool(true)), None);
    }
}
