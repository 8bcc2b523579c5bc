//! What is done with whole series: `topk`, `bottomk`, comparisons, and arithmetic between series.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use crate::traceql::ast::{Op, SecondStage};
use crate::traceql::source::Value;

use super::labels::{Label, LabelKey, NAME, Series, order};

/// Applies a stage. Series that have no value left are dropped.
pub(super) fn apply(stage: &SecondStage, series: &mut Vec<Series>) {
    match stage {
        SecondStage::Top(count, _) => keep_first(*count, series, |a, b| {
            b.1.total_cmp(&a.1).then_with(|| order(a.0, b.0))
        }),
        // Of equals the last by their labels stay.
        SecondStage::Bottom(count, _) => keep_first(*count, series, |a, b| {
            a.1.total_cmp(&b.1).then_with(|| order(b.0, a.0))
        }),
        SecondStage::Compare(op, bound, _) => {
            for value in series.iter_mut().flat_map(|series| &mut series.values) {
                if !compares(*op, *value, *bound) {
                    *value = f64::NAN;
                }
            }
        }
    }
    series.retain(|series| !series.is_empty());
}

fn compares(op: Op, value: f64, bound: f64) -> bool {
    match op {
        Op::Equal => value == bound,
        Op::NotEqual => value != bound,
        Op::Less => value < bound,
        Op::LessEqual => value <= bound,
        Op::Greater => value > bound,
        Op::GreaterEqual => value >= bound,
        _ => false,
    }
}

/// Keeps in each interval the values that come first, so many of them.
fn keep_first(
    count: i64,
    series: &mut [Series],
    order: impl Fn(&(&[Label], f64), &(&[Label], f64)) -> Ordering,
) {
    let count = usize::try_from(count).unwrap_or(0);
    let intervals = series.iter().map(|series| series.values.len()).max();
    let mut ranked: Vec<(usize, f64)> = Vec::with_capacity(series.len());
    for at in 0..intervals.unwrap_or(0) {
        ranked.clear();
        let values = series.iter().map(|series| series.values.get(at).copied());
        let values = values.enumerate();
        // Zeros are equal, whatever their sign.
        ranked.extend(values.filter_map(|(number, value)| Some((number, value? + 0.0))));
        ranked.retain(|(_, value)| !value.is_nan());
        if ranked.len() <= count {
            continue;
        }
        let told = |(number, value): &(usize, f64)| {
            let labels = series.get(*number).map_or(&[][..], |series| &series.labels);
            (labels, *value)
        };
        if count > 0 {
            ranked.select_nth_unstable_by(count - 1, |a, b| order(&told(a), &told(b)));
        }
        for (number, _) in ranked.drain(count..) {
            let series = series.get_mut(number);
            if let Some(value) = series.and_then(|series| series.values.get_mut(at)) {
                *value = f64::NAN;
            }
        }
    }
}

/// `a op b`. What is divided by zero has no value.
pub(super) fn compute(op: Op, a: f64, b: f64) -> f64 {
    match op {
        Op::Add => a + b,
        Op::Subtract => a - b,
        Op::Multiply => a * b,
        Op::Divide if b != 0.0 => a / b,
        _ => f64::NAN,
    }
}

/// Arithmetic between series of the same labels. A side that has a series without labels but for its
/// name computes that with each series of the other. What is missing in an interval counts as zero.
pub(super) fn combine(op: Op, left: &[Series], right: &[Series]) -> Vec<Series> {
    let (left, right) = (Side::of(left), Side::of(right));
    let (driving, other) = match right.single {
        Some(_) => (&left, &right),
        None => (&right, &left),
    };
    let mut found = Vec::new();
    for (key, one) in driving.series.iter().map(|one| (one.key(), one)) {
        let Some(matching) = other.get(&key) else {
            continue;
        };
        let (a, b) = match right.single {
            Some(_) => (one, matching),
            None => (matching, one),
        };
        let number = |value: &f64| if value.is_nan() { 0.0 } else { *value };
        let values = a.values.iter().map(number).zip(b.values.iter().map(number));
        found.push(Series {
            labels: merged(op, &a.labels, &b.labels),
            values: values.map(|(a, b)| compute(op, a, b)).collect(),
            exemplars: a.exemplars.iter().chain(&b.exemplars).cloned().collect(),
        });
    }
    found.retain(|series| !series.is_empty());
    found
}

type Key = Vec<(Arc<str>, LabelKey)>;

/// One side of an operator.
struct Side<'a> {
    series: &'a [Series],
    by_key: HashMap<Key, &'a Series>,
    /// The series without labels.
    single: Option<&'a Series>,
}

impl<'a> Side<'a> {
    fn of(series: &'a [Series]) -> Self {
        let by_key: HashMap<Key, &Series> = series.iter().map(|one| (one.key(), one)).collect();
        Self {
            series,
            single: by_key.get(&Vec::new()).copied(),
            by_key,
        }
    }

    fn get(&self, key: &Key) -> Option<&'a Series> {
        self.by_key.get(key).copied().or(self.single)
    }
}

/// The labels of both sides. Only where both have a name has the result one.
fn merged(op: Op, left: &[Label], right: &[Label]) -> Vec<Label> {
    let name = |labels: &[Label]| {
        let named = labels.iter().find(|(name, _)| **name == *NAME);
        match named {
            Some((_, Some(Value::Str(name)))) => Some(Arc::clone(name)),
            _ => None,
        }
    };
    let mut labels: Vec<Label> = Vec::new();
    for label in left.iter().chain(right) {
        if *label.0 != *NAME && !labels.iter().any(|(name, _)| *name == label.0) {
            labels.push(label.clone());
        }
    }
    if let (Some(left), Some(right)) = (name(left), name(right)) {
        let name = format!("({left} {op} {right})");
        labels.push((NAME.into(), Some(Value::Str(name.into()))));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f64 = f64::NAN;

    fn series(of: &[(&str, &[f64])]) -> Vec<Series> {
        let one = |(name, values): &(&str, &[f64])| Series {
            labels: match *name {
                "" => vec![(NAME.into(), Some(Value::Str("rate".into())))],
                name => vec![("x".into(), Some(Value::Str(name.into())))],
            },
            values: values.to_vec(),
            ..Series::default()
        };
        of.iter().map(one).collect()
    }

    fn told(series: &[Series]) -> Vec<String> {
        let one = |series: &Series| {
            let labels = series.labels.iter().map(|(name, value)| match value {
                Some(Value::Str(value)) => format!("{name}={value}"),
                other => format!("{name}={other:?}"),
            });
            format!(
                "{} {:?}",
                labels.collect::<Vec<_>>().join(","),
                series.values
            )
        };
        let mut told: Vec<String> = series.iter().map(one).collect();
        told.sort();
        told
    }

    #[test]
    fn of_equal_values_labels_decide() {
        let all = series(&[("c", &[1.0, 0.0]), ("a", &[1.0, -0.0]), ("b", &[1.0, 7.0])]);
        let span = crate::text::Span::default();
        let mut top = all.clone();
        apply(&SecondStage::Top(2, span), &mut top);
        assert_eq!(told(&top), ["x=a [1.0, -0.0]", "x=b [1.0, 7.0]"]);
        let mut bottom = all.clone();
        apply(&SecondStage::Bottom(2, span), &mut bottom);
        assert_eq!(
            told(&bottom),
            ["x=a [NaN, -0.0]", "x=b [1.0, NaN]", "x=c [1.0, 0.0]"]
        );
        let mut most = all;
        apply(&SecondStage::Top(i64::MAX, span), &mut most);
        assert_eq!(most.len(), 3);
    }

    #[test]
    fn sides_meet_by_labels() {
        let a = series(&[("a", &[1.0, NAN]), ("b", &[2.0, 4.0])]);
        let b = series(&[("b", &[0.0, 2.0]), ("c", &[1.0, 1.0])]);
        assert_eq!(told(&combine(Op::Divide, &a, &b)), ["x=b [NaN, 2.0]"]);
        let single = series(&[("", &[2.0, 2.0])]);
        assert_eq!(
            told(&combine(Op::Add, &a, &single)),
            ["x=a [3.0, 2.0]", "x=b [4.0, 6.0]"]
        );
        assert_eq!(
            told(&combine(Op::Subtract, &single, &a)),
            ["x=a [1.0, 2.0]", "x=b [0.0, -2.0]"]
        );
        assert_eq!(
            told(&combine(Op::Multiply, &single, &single)),
            ["__name__=(rate * rate) [4.0, 4.0]"]
        );
        assert!(combine(Op::Add, &a, &[]).is_empty());
    }
}
