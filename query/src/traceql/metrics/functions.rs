//! What the functions over time make of a tally.

use std::sync::Arc;

use crate::traceql::ast::{
    Attribute, Intrinsic, Metrics, MetricsArgument, MetricsFunction, Static,
};
use crate::traceql::source::Value;

use super::intervals::Intervals;
use super::labels::{Interner, Label, NAME, Series};
use super::tally::{BY_MAX, Group, Made, Tally};

/// The label of a bucket of a histogram.
const BUCKET: &str = "__bucket";
/// The label of a quantile.
const QUANTILE: &str = "p";
/// Durations are told in seconds.
const NANOSECONDS: f64 = 1e9;

/// What a function measures; none where it counts spans.
pub(super) fn measured(function: &Metrics) -> Option<&Attribute> {
    function
        .arguments
        .iter()
        .find_map(|argument| match argument {
            MetricsArgument::Attribute(attribute, _) => Some(attribute),
            _ => None,
        })
}

/// What a function has made of the numbers of spans.
pub(super) fn made(function: MetricsFunction) -> Made {
    match function {
        MetricsFunction::MinOverTime => Made::Least,
        MetricsFunction::MaxOverTime => Made::Greatest,
        MetricsFunction::AvgOverTime | MetricsFunction::SumOverTime => Made::Sum,
        _ => Made::Count,
    }
}

/// By what numbers are divided to be told.
pub(super) fn unit(function: &Metrics) -> f64 {
    match measured(function) {
        Some(Attribute::Intrinsic(
            Intrinsic::Duration | Intrinsic::TraceDuration | Intrinsic::EventTimeSinceStart,
        )) => NANOSECONDS,
        _ => 1.0,
    }
}

/// The quantiles that a function asks for.
pub(super) fn quantiles(function: &Metrics) -> Vec<f64> {
    let number = |argument: &MetricsArgument| match argument {
        MetricsArgument::Literal(Static::Float(number), _) => Some(*number),
        MetricsArgument::Literal(Static::Int(number), _) => Some(*number as f64),
        _ => None,
    };
    function.arguments.iter().filter_map(number).collect()
}

/// The series of a function, each with the group that its exemplars belong to.
pub(super) fn series(
    function: &Metrics,
    tally: &Tally<'_>,
    interner: &Interner,
    intervals: &Intervals,
) -> Vec<(Group, Series)> {
    let names: Vec<Arc<str>> = function
        .by
        .iter()
        .map(|(attribute, _)| attribute.to_string().into())
        .collect();
    let labels = |by: &[u32; BY_MAX], more: Option<Label>| {
        labels(function.function, &names, (by, interner), more)
    };
    let groups = tally.groups();
    let unit = unit(function);
    let is_count = matches!(
        function.function,
        MetricsFunction::Rate | MetricsFunction::CountOverTime
    );
    if groups.is_empty() && is_count && names.is_empty() {
        // That there are no spans is a count as well.
        return vec![(
            Group::default(),
            Series {
                labels: labels(&[0; BY_MAX], None),
                values: vec![0.0; intervals.count()],
                ..Series::default()
            },
        )];
    }
    if function.function == MetricsFunction::QuantileOverTime {
        let of_one = groups.chunk_by(|(a, _), (b, _)| a.by == b.by);
        let mut found = Vec::new();
        for groups in of_one {
            let Some((first, _)) = groups.first() else {
                continue;
            };
            let histogram: Vec<(i32, &[u64])> = groups
                .iter()
                .map(|(group, place)| (group.exponent, tally.counts(*place)))
                .collect();
            for p in quantiles(function) {
                let value = |at: usize| {
                    let buckets = histogram.iter().filter_map(|(exponent, counts)| {
                        counts.get(at).map(|count| (*exponent, *count))
                    });
                    quantile(p, &buckets.collect::<Vec<_>>()) / unit
                };
                let group = Group {
                    by: first.by,
                    ..Group::default()
                };
                found.push((
                    group,
                    Series {
                        labels: labels(&first.by, Some((QUANTILE.into(), Some(Value::Float(p))))),
                        values: (0..intervals.count()).map(value).collect(),
                        ..Series::default()
                    },
                ));
            }
        }
        return found;
    }
    let one = |(group, place): &(Group, usize)| {
        let counts = tally.counts(*place).iter().map(|count| *count as f64);
        let numbers = (0..intervals.count()).map(|at| tally.number(*place, at));
        let mut more = None;
        let values: Vec<f64> = match function.function {
            MetricsFunction::Rate => counts.map(|count| count / intervals.seconds()).collect(),
            MetricsFunction::MinOverTime
            | MetricsFunction::MaxOverTime
            | MetricsFunction::SumOverTime => numbers.map(|number| number / unit).collect(),
            MetricsFunction::AvgOverTime => numbers
                .zip(counts)
                .map(|(sum, count)| sum / count / unit)
                .collect(),
            MetricsFunction::HistogramOverTime => {
                let bound = f64::from(group.exponent).exp2() / unit;
                more = Some((BUCKET.into(), Some(Value::Float(bound))));
                counts.collect()
            }
            _ => counts.collect(),
        };
        let series = Series {
            labels: labels(&group.by, more),
            values,
            ..Series::default()
        };
        (*group, series)
    };
    groups.iter().map(one).collect()
}

/// The attributes that spans of a group have, and one label more. When there is none, the first
/// attribute stands there without a value, or the name of the function.
fn labels(
    function: MetricsFunction,
    names: &[Arc<str>],
    (by, interner): (&[u32; BY_MAX], &Interner),
    more: Option<Label>,
) -> Vec<Label> {
    let values = by.iter().map(|number| interner.value(*number));
    let named = names.iter().cloned().zip(values);
    let mut labels: Vec<Label> = named.filter(|(_, value)| value.is_some()).collect();
    labels.extend(more);
    if labels.is_empty() {
        labels.push(match names.first() {
            Some(name) => (Arc::clone(name), None),
            None => (NAME.into(), Some(Value::Str(function.name().into()))),
        });
    }
    labels
}

/// A quantile of a histogram of powers of two, its buckets in order: exact where a bucket ends there,
/// and in between as if numbers grew by the same factor from one to the next. 0 when it is empty.
pub(super) fn quantile(p: f64, buckets: &[(i32, u64)]) -> f64 {
    let held = || buckets.iter().filter(|(_, count)| *count > 0);
    let total: u64 = held().map(|(_, count)| count).sum();
    // At least one must be read, and more rather than fewer of a few.
    let wanted = ((p * total as f64).ceil() as u64).max(1);
    let mut before = 0;
    let mut floor = None;
    for (exponent, count) in held() {
        if before + count == wanted {
            return f64::from(*exponent).exp2();
        }
        if before + count > wanted {
            let floor = f64::from(floor.unwrap_or(*exponent - 1));
            let part = (wanted - before) as f64 / *count as f64;
            return (floor + (f64::from(*exponent) - floor) * part).exp2();
        }
        before += count;
        floor = Some(*exponent);
    }
    // Rounding asked for more than there are.
    floor.map_or(0.0, |floor| f64::from(floor).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_ends_of_their_bucket() {
        let buckets = [(3, 2), (4, 0), (5, 2)];
        for (p, expected) in [
            (0.0, 2f64.powf(2.5)),
            (0.25, 2f64.powf(2.5)),
            (0.5, 8.0),
            // The bucket before is the one that has numbers.
            (0.75, 2f64.powf(4.0)),
            (1.0, 32.0),
        ] {
            assert_eq!(quantile(p, &buckets), expected, "{p}");
        }
        assert_eq!(quantile(0.5, &[]), 0.0);
        assert_eq!(quantile(0.5, &[(3, 0)]), 0.0);
        assert_eq!(quantile(1.0, &[(1, u64::MAX / 2)]), 2.0);
    }
}
