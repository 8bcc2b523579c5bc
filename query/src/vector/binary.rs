//! Binary operators between step vectors, and between a step vector and a scalar.

use trine_storage::Labels;

use super::join::{Group, group};
use super::operation::{Operand, Operation};
use super::{
    ABSENT, BinaryNotes, BinaryOp, Cardinality, MatchLabels, Matching, Merged, Side, StepSeries,
    VectorError, drop_name, is_absent,
};

/// `lhs op rhs` between two vectors. The order of the result is that of the groups of the left
/// side. Arithmetic and `bool` comparisons drop the metric's name.
///
/// # Errors
/// A matching that is not unique where it must be, per step.
pub fn binary(
    operation: Operation,
    matching: &Matching,
    lhs: Vec<StepSeries>,
    rhs: Vec<StepSeries>,
    notes: &mut BinaryNotes,
) -> Result<Vec<StepSeries>, VectorError> {
    if operation.op.is_set() {
        return set_operation(operation.op, &matching.labels, lhs, rhs);
    }
    let join = Join {
        operation,
        matching,
        lhs: &lhs,
        rhs: &rhs,
    };
    let mut out = Merged::with_capacity(lhs.len().min(rhs.len()));
    for group in group(&matching.labels, &lhs, &rhs) {
        let both = !group.left.is_empty() && !group.right.is_empty();
        if both || !matching.fill.is_none() {
            join.group(&group, &mut out, notes)?;
        } else {
            join.check_one_side(&group)?;
        }
    }
    Ok(out.into_series())
}

/// Where the scalar stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarSide {
    /// `scalar op vector`
    Left,
    /// `vector op scalar`
    Right,
}

/// An operator between one series of a vector and a scalar with one value a step. A comparison
/// that filters keeps the vector's value, on whichever side it stands.
#[must_use]
pub fn binary_scalar(
    operation: Operation,
    mut series: StepSeries,
    scalar: &[f64],
    side: ScalarSide,
    notes: &mut BinaryNotes,
) -> StepSeries {
    let op = operation.op;
    if series.histograms.is_some() || op.is_trim() {
        return mixed_with_scalar(operation, &series, scalar, side, notes);
    }
    for (value, scalar) in series.values.iter_mut().zip(scalar) {
        if is_absent(*value) {
            continue;
        }
        let (left, right) = match side {
            ScalarSide::Left => (*scalar, *value),
            ScalarSide::Right => (*value, *scalar),
        };
        if !operation.filters() {
            *value = op.apply(left, right, operation.rules);
        } else if !op.holds(left, right) {
            *value = ABSENT;
        }
    }
    if operation.drops_name() && !series.drop_name {
        series.labels = drop_name(&series.labels);
    }
    series
}

/// The same where the series has histograms, or the operator wants some.
fn mixed_with_scalar(
    operation: Operation,
    series: &StepSeries,
    scalar: &[f64],
    side: ScalarSide,
    notes: &mut BinaryNotes,
) -> StepSeries {
    let outcome = |(step, scalar): (usize, &f64)| {
        let Some(operand) = Operand::of(series, step) else {
            return (ABSENT, None);
        };
        let scalar = Operand::Float(*scalar);
        match side {
            ScalarSide::Left => operation.apply(scalar, operand, notes),
            ScalarSide::Right => operation.apply(operand, scalar, notes),
        }
    };
    let (values, histograms) = scalar.iter().enumerate().map(outcome).unzip();
    let labels = if operation.drops_name() && !series.drop_name {
        drop_name(&series.labels)
    } else {
        series.labels.clone()
    };
    StepSeries {
        drop_name: series.drop_name,
        ..StepSeries::with_histograms(labels, values, histograms)
    }
}

/// One arithmetic or comparison operator at work.
struct Join<'a> {
    operation: Operation,
    matching: &'a Matching,
    lhs: &'a [StepSeries],
    rhs: &'a [StepSeries],
}

impl Join<'_> {
    /// The side whose series must be unique in each group.
    fn one_side(&self) -> Side {
        match self.matching.cardinality {
            Cardinality::OneToMany => Side::Left,
            _ => Side::Right,
        }
    }

    fn sides<'g, 's>(&self, group: &'g Group<'s>) -> (&'g [&'s StepSeries], &'g [&'s StepSeries]) {
        match self.one_side() {
            Side::Left => (&group.right, &group.left),
            Side::Right => (&group.left, &group.right),
        }
    }

    /// Two series of the "one" side at one step are an error as soon as the other side has any
    /// series at that step, whether it matches or not.
    fn check_one_side(&self, group: &Group<'_>) -> Result<(), VectorError> {
        let (_, one) = self.sides(group);
        if one.len() < 2 {
            return Ok(());
        }
        let others = if self.one_side() == Side::Right {
            self.lhs
        } else {
            self.rhs
        };
        let steps = one
            .iter()
            .map(|series| series.values.len())
            .max()
            .unwrap_or(0);
        for step in 0..steps {
            let mut present = one.iter().filter(|series| series.has(step));
            let (Some(a), Some(b)) = (present.next(), present.next()) else {
                continue;
            };
            if others.iter().any(|series| series.has(step)) {
                let (first, second) = if a.labels <= b.labels { (a, b) } else { (b, a) };
                return Err(VectorError::DuplicateOnOneSide {
                    group: group.signature.clone(),
                    side: self.one_side(),
                    first: first.labels.clone(),
                    second: second.labels.clone(),
                });
            }
        }
        Ok(())
    }

    fn group(
        &self,
        group: &Group<'_>,
        out: &mut Merged,
        notes: &mut BinaryNotes,
    ) -> Result<(), VectorError> {
        self.check_one_side(group)?;
        let (many, one) = self.sides(group);
        // Whichever side the operands stand on: the left value is that of the many.
        let fill = self.matching.fill;
        let missing_many = fill
            .left
            .and_then(|value| stand_in(value, group, many, one));
        let missing_one = fill
            .right
            .and_then(|value| stand_in(value, group, one, many));
        let many: Vec<&StepSeries> = many.iter().copied().chain(&missing_many).collect();
        let one: Vec<&StepSeries> = one.iter().copied().chain(&missing_one).collect();
        let mut of_group = Merged::with_capacity(many.len());
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let mut taken = vec![
            false;
            if one_to_one && many.len() > 1 {
                self.steps(group)
            } else {
                0
            }
        ];
        for m in &many {
            for o in &one {
                let Some(series) = self.pair(m, o, &mut taken, notes)? else {
                    continue;
                };
                of_group
                    .push(series)
                    .map_err(|_| VectorError::GroupingNotUnique)?;
            }
        }
        of_group
            .into_series()
            .into_iter()
            .try_for_each(|series| out.push(series))
    }

    fn steps(&self, group: &Group<'_>) -> usize {
        group
            .left
            .iter()
            .map(|series| series.values.len())
            .max()
            .unwrap_or(0)
    }

    /// The result of one pair, or `None` when there is none. `taken` marks the steps at which the
    /// group has a match already; it is empty where a second one is no error.
    fn pair(
        &self,
        many: &StepSeries,
        one: &StepSeries,
        taken: &mut [bool],
        notes: &mut BinaryNotes,
    ) -> Result<Option<StepSeries>, VectorError> {
        let (left, right) = match self.one_side() {
            Side::Left => (one, many),
            Side::Right => (many, one),
        };
        if many.histograms.is_some() || one.histograms.is_some() || self.operation.op.is_trim() {
            let pair = self.mixed_pair(left, right, taken, notes)?;
            return Ok(pair.map(|series| StepSeries {
                labels: self.result_labels(many, one),
                drop_name: !self.operation.drops_name() && many.drop_name,
                ..series
            }));
        }
        let operation = self.operation;
        let mut values = Vec::with_capacity(left.values.len());
        let mut any = false;
        for (step, (l, r)) in left.values.iter().zip(&right.values).enumerate() {
            if is_absent(*l) || is_absent(*r) {
                values.push(ABSENT);
                continue;
            }
            // A match counts even where the comparison then leaves nothing of it.
            if let Some(taken) = taken.get_mut(step)
                && std::mem::replace(taken, true)
            {
                return Err(VectorError::ManyToOneNotExplicit);
            }
            let value = if !operation.filters() {
                operation.op.apply(*l, *r, operation.rules)
            } else if operation.op.holds(*l, *r) {
                *l
            } else {
                ABSENT
            };
            any |= !is_absent(value);
            values.push(value);
        }
        Ok(any.then(|| StepSeries {
            drop_name: !self.operation.drops_name() && many.drop_name,
            ..StepSeries::new(self.result_labels(many, one), values)
        }))
    }

    /// The same where one has histograms, or the operator wants some; without labels.
    fn mixed_pair(
        &self,
        left: &StepSeries,
        right: &StepSeries,
        taken: &mut [bool],
        notes: &mut BinaryNotes,
    ) -> Result<Option<StepSeries>, VectorError> {
        let steps = left.values.len();
        let (mut values, mut histograms) = (Vec::with_capacity(steps), Vec::with_capacity(steps));
        for step in 0..steps {
            let (value, histogram) = match (Operand::of(left, step), Operand::of(right, step)) {
                (Some(left), Some(right)) => {
                    if let Some(taken) = taken.get_mut(step)
                        && std::mem::replace(taken, true)
                    {
                        return Err(VectorError::ManyToOneNotExplicit);
                    }
                    self.operation.apply(left, right, notes)
                }
                _ => (ABSENT, None),
            };
            values.push(value);
            histograms.push(histogram);
        }
        let series = StepSeries::with_histograms(Labels::empty(), values, histograms);
        Ok(series.has_values().then_some(series))
    }

    fn result_labels(&self, many: &StepSeries, one: &StepSeries) -> Labels {
        let labels = if self.operation.drops_name() {
            drop_name(&many.labels)
        } else {
            many.labels.clone()
        };
        if self.matching.cardinality == Cardinality::OneToOne {
            return match &self.matching.labels {
                MatchLabels::On(names) => labels.filter(|name| names.iter().any(|n| n == name)),
                MatchLabels::Ignoring(names) if names.is_empty() => labels,
                MatchLabels::Ignoring(names) => {
                    labels.filter(|name| !names.iter().any(|n| n == name))
                }
            };
        }
        self.matching.include.iter().fold(labels, |labels, name| {
            labels.with(name, one.labels.get(name).unwrap_or(""))
        })
    }
}

/// A series of `value` at the steps at which nothing of `absent` and something of `present` is
/// there. It has the matching labels only.
fn stand_in(
    value: f64,
    group: &Group<'_>,
    absent: &[&StepSeries],
    present: &[&StepSeries],
) -> Option<StepSeries> {
    let steps = present.iter().map(|series| series.values.len()).max()?;
    let (mut there, mut wanted) = (vec![false; steps], vec![false; steps]);
    absent
        .iter()
        .for_each(|series| series.mark_present(&mut there));
    present
        .iter()
        .for_each(|series| series.mark_present(&mut wanted));
    let values = there.iter().zip(&wanted).map(
        |(there, wanted)| {
            if *wanted && !*there { value } else { ABSENT }
        },
    );
    let series = StepSeries::new(group.signature.clone(), values.collect());
    series.has_values().then_some(series)
}

fn set_operation(
    op: BinaryOp,
    matching: &MatchLabels,
    mut lhs: Vec<StepSeries>,
    mut rhs: Vec<StepSeries>,
) -> Result<Vec<StepSeries>, VectorError> {
    // `or` filters the right side by the left one, the others filter the left side by the right.
    let (filtered, by) = if op == BinaryOp::Or {
        (&mut rhs, &lhs)
    } else {
        (&mut lhs, &rhs)
    };
    let keep_where_present = op == BinaryOp::And;
    let presence = presence(matching, by);
    for series in filtered.iter_mut() {
        let present = presence.get(&matching.signature(&series.labels));
        for step in 0..series.values.len() {
            let here = present
                .and_then(|steps| steps.get(step))
                .copied()
                .unwrap_or(false);
            if here != keep_where_present {
                series.clear(step);
            }
        }
    }
    filtered.retain(StepSeries::has_values);
    if op != BinaryOp::Or {
        return Ok(lhs);
    }
    let mut out = Merged::with_capacity(lhs.len() + rhs.len());
    lhs.into_iter()
        .chain(rhs)
        .try_for_each(|series| out.push(series))?;
    Ok(out.into_series())
}

/// For each signature the steps at which some series has a value.
fn presence(
    matching: &MatchLabels,
    series: &[StepSeries],
) -> std::collections::HashMap<Labels, Vec<bool>> {
    let mut presence = std::collections::HashMap::with_capacity(series.len());
    for one in series {
        let steps = presence
            .entry(matching.signature(&one.labels))
            .or_insert_with(|| vec![false; one.values.len()]);
        one.mark_present(steps);
    }
    presence
}
