//! Binary operators on two values of any kind, floats or histograms. Called where one of two
//! series has histograms; floats among themselves have their own way.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::histogram::{Combined, Incompatible, TrimSide};
use super::{ABSENT, Arithmetic, BinaryOp, Comparison, Histogram, StepSeries, is_absent};

/// What is worth knowing of a binary operator on histograms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BinaryNotes {
    /// Kinds of values that the operator does not take, left and right; the result has nothing for
    /// them.
    pub incompatible: BTreeSet<(ValueKind, ValueKind)>,
    /// One histogram had exponential and the other custom buckets; the result has nothing for them.
    pub mixed_schemas: bool,
    /// Custom bounds were given up, since only one of two histograms had them.
    pub bounds_reconciled: bool,
    /// One of two histograms was a counter reset and the other was not.
    pub resets_collide: bool,
}

/// A kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueKind {
    /// A float.
    Float,
    /// A native histogram.
    Histogram,
}

impl ValueKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Histogram => "histogram",
        }
    }
}

/// A value at a step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand<'a> {
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

impl<'a> Operand<'a> {
    /// What a series has at `step`.
    pub(super) fn of(series: &'a StepSeries, step: usize) -> Option<Self> {
        if let Some(histogram) = series.histogram(step) {
            return Some(Self::Histogram(histogram));
        }
        let value = series.values.get(step).copied();
        value.filter(|value| !is_absent(*value)).map(Self::Float)
    }

    fn kind(self) -> ValueKind {
        match self {
            Self::Float(_) => ValueKind::Float,
            Self::Histogram(_) => ValueKind::Histogram,
        }
    }
}

/// An operator with what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The operator.
    pub op: BinaryOp,
    /// What a comparison yields.
    pub comparison: Comparison,
    /// Whose rules hold.
    pub rules: Arithmetic,
}

/// An entry of the column of values and one of that of histograms, of which one at most is there.
pub(super) type Outcome = (f64, Option<Arc<Histogram>>);

const NOTHING: Outcome = (ABSENT, None);

impl Operation {
    /// Whether it is a comparison that keeps or drops its left value.
    pub(super) fn filters(self) -> bool {
        self.op.is_comparison() && self.comparison == Comparison::Filter
    }

    /// Whether its result is another metric than its operand.
    pub fn drops_name(self) -> bool {
        self.op.drops_name(self.comparison)
    }

    /// `left op right`.
    pub(super) fn apply(
        self,
        left: Operand<'_>,
        right: Operand<'_>,
        notes: &mut BinaryNotes,
    ) -> Outcome {
        match (left, right) {
            (Operand::Float(l), Operand::Float(r)) if !self.op.is_trim() => {
                if !self.filters() {
                    (self.op.apply(l, r, self.rules), None)
                } else if self.op.holds(l, r) {
                    (l, None)
                } else {
                    NOTHING
                }
            }
            (Operand::Histogram(l), Operand::Histogram(r)) => self.between(l, r, notes),
            (Operand::Histogram(h), Operand::Float(x)) => match self.op {
                BinaryOp::Mul => changed(h, |h| h.scale(x)),
                BinaryOp::Div => changed(h, |h| h.divide(x)),
                BinaryOp::TrimUpper => (ABSENT, Some(Arc::new(h.trimmed(TrimSide::Below, x)))),
                BinaryOp::TrimLower => (ABSENT, Some(Arc::new(h.trimmed(TrimSide::Above, x)))),
                _ => incompatible(left, right, notes),
            },
            (Operand::Float(x), Operand::Histogram(h)) if self.op == BinaryOp::Mul => {
                changed(h, |h| h.scale(x))
            }
            _ => incompatible(left, right, notes),
        }
    }

    fn between(
        self,
        left: &Arc<Histogram>,
        right: &Arc<Histogram>,
        notes: &mut BinaryNotes,
    ) -> Outcome {
        let equal = match self.op {
            BinaryOp::Add => {
                let mut sum = Histogram::clone(left);
                return combined(sum.add(right), sum, notes);
            }
            BinaryOp::Sub => {
                let mut difference = Histogram::clone(left);
                let notable = difference.subtract(right);
                difference.reset_hint = super::histogram::ResetHint::Gauge;
                return combined(notable, difference, notes);
            }
            BinaryOp::Equal => true,
            BinaryOp::NotEqual => false,
            _ => {
                let (left, right) = (Operand::Histogram(left), Operand::Histogram(right));
                return incompatible(left, right, notes);
            }
        };
        let holds = left.same_bits(right) == equal;
        match self.comparison {
            Comparison::Bool => (f64::from(holds), None),
            Comparison::Filter if holds => (ABSENT, Some(Arc::clone(left))),
            Comparison::Filter => NOTHING,
        }
    }
}

fn changed(of: &Arc<Histogram>, change: impl FnOnce(&mut Histogram)) -> Outcome {
    let mut result = Histogram::clone(of);
    change(&mut result);
    result.compact();
    (ABSENT, Some(Arc::new(result)))
}

fn combined(
    notable: Result<Combined, Incompatible>,
    mut result: Histogram,
    notes: &mut BinaryNotes,
) -> Outcome {
    match notable {
        Ok(combined) => {
            notes.bounds_reconciled |= combined.bounds_reconciled;
            notes.resets_collide |= combined.resets_collide;
            result.compact();
            (ABSENT, Some(Arc::new(result)))
        }
        Err(Incompatible) => {
            notes.mixed_schemas = true;
            NOTHING
        }
    }
}

fn incompatible(left: Operand<'_>, right: Operand<'_>, notes: &mut BinaryNotes) -> Outcome {
    notes.incompatible.insert((left.kind(), right.kind()));
    NOTHING
}
