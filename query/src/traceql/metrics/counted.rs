//! Functions over time that a store counts, without a look at single spans.

use crate::budget::BudgetError;
use crate::traceql::ast::{Attribute, Intrinsic, Metrics, MetricsFunction};
use crate::traceql::error::QueryError;
use crate::traceql::lower::reference;
use crate::traceql::source::{
    ABSENT, AttributeRef, Batch, CountBatch, Counts, Effort, Filter, Measure, Request, Source,
    Value,
};
use crate::traceql::value::Field;

use super::functions::measured;
use super::intervals::Intervals;
use super::labels::{Interner, NIL};
use super::tally::{Group, Tally};

/// What a store is asked for the function over the spans that satisfy a filter; none when it cannot
/// tell spans apart as is asked.
pub(super) fn request(
    function: &Metrics,
    filter: Filter,
    intervals: &Intervals,
    (groups_max, effort): (usize, Effort),
) -> Option<Counts> {
    let attributes = function
        .by
        .iter()
        .map(|(attribute, _)| reference(attribute));
    let by: Option<Vec<AttributeRef>> = attributes.collect();
    let measure = match measured(function) {
        None => Measure::Spans,
        Some(attribute) => {
            let attribute = reference(attribute)?;
            match function.function {
                MetricsFunction::MinOverTime => Measure::Least(attribute),
                MetricsFunction::MaxOverTime => Measure::Greatest(attribute),
                MetricsFunction::AvgOverTime | MetricsFunction::SumOverTime => {
                    Measure::Sum(attribute)
                }
                _ => Measure::Log2(attribute),
            }
        }
    };
    let (origin_ns, bucket_ns) = intervals.buckets();
    Some(Counts {
        range: intervals.covers(),
        filter,
        origin_ns,
        bucket_ns,
        by: by?,
        measure,
        groups_max,
        effort,
    })
}

/// Adds what a store counts to a tally.
pub(super) fn count(
    (source, function): (&dyn Source, &Metrics),
    request: Counts,
    intervals: &Intervals,
    (interner, tally): (&mut Interner, &mut Tally<'_>),
) -> Result<(), QueryError> {
    let is_bucketed = matches!(request.measure, Measure::Log2(_));
    let groups_max = request.groups_max as u64;
    for batch in source.scan(&Request::Counts(request))? {
        if let Batch::Counts(batch) = batch? {
            add(function, &batch, is_bucketed, intervals, (interner, tally))?;
            if batch.is_full {
                return Err(BudgetError::Series(groups_max).into());
            }
        }
    }
    Ok(())
}

fn add(
    function: &Metrics,
    batch: &CountBatch,
    is_bucketed: bool,
    intervals: &Intervals,
    (interner, tally): (&mut Interner, &mut Tally<'_>),
) -> Result<(), QueryError> {
    let pairs = batch.by.iter().zip(&function.by);
    let numbers: Vec<Vec<u32>> = pairs
        .map(|(column, (attribute, _))| {
            let values = column.dictionary.iter();
            values
                .map(|value| interner.number(told(attribute, value)))
                .collect()
        })
        .collect();
    for (row, (bucket, count)) in batch.buckets.iter().zip(&batch.counts).enumerate() {
        let mut group = Group::default();
        for (number, (column, numbers)) in group.by.iter_mut().zip(batch.by.iter().zip(&numbers)) {
            let code = column.codes.get(row).copied().unwrap_or(ABSENT);
            *number = numbers.get(code as usize).copied().unwrap_or(NIL);
        }
        if is_bucketed {
            match batch.exponents.get(row) {
                Some(exponent) if (1..i32::MAX).contains(exponent) => group.exponent = *exponent,
                // Numbers up to one are in no bucket, nor is infinity.
                _ => continue,
            }
        }
        let Some(interval) = intervals.of_bucket(*bucket) else {
            continue;
        };
        let number = batch.values.get(row).copied().unwrap_or(0.0);
        tally.add(group, interval, (*count, number))?;
    }
    Ok(())
}

/// A value of a store as labels have it: some intrinsics are numbers there.
pub(super) fn told(attribute: &Attribute, value: &Value) -> Option<Value> {
    let Value::Int(number) = value else {
        return Some(value.clone());
    };
    let small = || u8::try_from(*number).unwrap_or(u8::MAX);
    match attribute {
        Attribute::Intrinsic(Intrinsic::Status) => Field::Status(small()).into_answer(),
        Attribute::Intrinsic(Intrinsic::Kind) => Field::Kind(small()).into_answer(),
        Attribute::Intrinsic(Intrinsic::Duration | Intrinsic::TraceDuration) => {
            Field::Duration(*number).into_answer()
        }
        _ => Some(value.clone()),
    }
}
