//! What is known of the spans of each group in each interval: how many they are, and a number made
//! of theirs. `counted` and `observed` fill it, `functions` reads it.

use std::collections::HashMap;

use super::intervals::Intervals;
use crate::budget::{Budget, BudgetError};

/// The most attributes that series are told apart by.
pub(super) const BY_MAX: usize = 5;

/// The most groups of a function over time, each power of two one of its own.
const GROUPS_MAX: usize = 1 << 20;

/// What spans are told apart by: numbers of values, and an exponent of two where it is one of
/// several buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Group {
    pub(super) by: [u32; BY_MAX],
    pub(super) exponent: i32,
}

/// What is made of the numbers of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// Nothing; spans are counted.
    Count,
    /// Their sum, with what rounding loses made good.
    Sum,
    /// The least.
    Least,
    /// The greatest.
    Greatest,
}

/// Counts and numbers by group and interval.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    made: Made,
    intervals: usize,
    budget: &'a Budget,
    places: HashMap<Group, usize>,
    groups: Vec<Group>,
    counts: Vec<u64>,
    values: Vec<f64>,
    /// What sums have lost.
    rests: Vec<f64>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(made: Made, intervals: &Intervals, budget: &'a Budget) -> Self {
        Self {
            made,
            intervals: intervals.count(),
            budget,
            places: HashMap::new(),
            groups: Vec::new(),
            counts: Vec::new(),
            values: Vec::new(),
            rests: Vec::new(),
        }
    }

    /// Counts spans of a group in an interval, with the number that was made of theirs.
    ///
    /// # Errors
    /// [`BudgetError::Samples`] and [`BudgetError::Series`] when more groups than may be would be held.
    pub(super) fn add(
        &mut self,
        group: Group,
        interval: usize,
        (count, number): (u64, f64),
    ) -> Result<(), BudgetError> {
        let at = self.place(group)? * self.intervals + interval;
        let Some(held) = self.counts.get_mut(at) else {
            return Ok(());
        };
        let is_first = *held == 0;
        *held += count;
        let Some(value) = self.values.get_mut(at) else {
            return Ok(());
        };
        match self.made {
            Made::Count => {}
            Made::Least if is_first || number < *value => *value = number,
            Made::Greatest if is_first || number > *value => *value = number,
            Made::Least | Made::Greatest => {}
            Made::Sum => {
                let sum = *value + number;
                // What a sum with infinity loses is no number.
                if let (true, Some(rest)) = (sum.is_finite(), self.rests.get_mut(at)) {
                    *rest += match value.abs() >= number.abs() {
                        true => *value - sum + number,
                        false => number - sum + *value,
                    };
                }
                *value = sum;
            }
        }
        Ok(())
    }

    fn place(&mut self, group: Group) -> Result<usize, BudgetError> {
        if let Some(place) = self.places.get(&group) {
            return Ok(*place);
        }
        let columns = match self.made {
            Made::Count => 1,
            Made::Least | Made::Greatest => 2,
            Made::Sum => 3,
        };
        self.budget
            .hold_samples((self.intervals * columns) as u64)?;
        let place = self.groups.len();
        self.places.insert(group, place);
        self.groups.push(group);
        let len = self.groups.len() * self.intervals;
        self.counts.resize(len, 0);
        if columns > 1 {
            self.values.resize(len, 0.0);
        }
        if columns > 2 {
            self.rests.resize(len, 0.0);
        }
        Ok(place)
    }

    /// The groups in order, each with its place.
    pub(super) fn groups(&self) -> Vec<(Group, usize)> {
        let places = self.groups.iter().copied().zip(0..);
        let mut groups: Vec<(Group, usize)> = places.collect();
        groups.sort_unstable();
        groups
    }

    /// How many spans the group at a place has in each interval.
    pub(super) fn counts(&self, place: usize) -> &[u64] {
        let start = place * self.intervals;
        self.counts
            .get(start..start + self.intervals)
            .unwrap_or_default()
    }

    /// The number of the group at a place in an interval; NaN where it has no spans.
    pub(super) fn number(&self, place: usize, interval: usize) -> f64 {
        let at = place * self.intervals + interval;
        let of = |numbers: &[f64]| numbers.get(at).copied().unwrap_or(0.0);
        match self.counts.get(at) {
            Some(1..) => of(&self.values) + of(&self.rests),
            _ => f64::NAN,
        }
    }

    /// How many groups a count may have that is to be added.
    pub(super) fn groups_max(&self) -> usize {
        let samples = usize::try_from(self.budget.limits().samples_max).unwrap_or(usize::MAX);
        GROUPS_MAX.min(samples / self.intervals.max(1))
    }

    /// How many spans were counted.
    pub(super) fn spans(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trine_storage::clock::SystemClock;

    use super::*;
    use crate::budget::{Cancel, Limits};

    fn budget(samples_max: u64) -> Budget {
        let limits = Limits {
            samples_max,
            ..Limits::default()
        };
        Budget::new(limits, Cancel::new(), Arc::new(SystemClock::new()))
    }

    #[test]
    fn sums_keep_what_rounding_loses() {
        let budget = budget(100);
        let mut tally = Tally::new(Made::Sum, &Intervals::instant(0, 1), &budget);
        for number in [1e16, 1.0, 1.0, -1e16] {
            tally.add(Group::default(), 0, (1, number)).unwrap();
        }
        assert_eq!(tally.number(0, 0), 2.0);
        tally.add(Group::default(), 0, (1, f64::INFINITY)).unwrap();
        assert_eq!(tally.number(0, 0), f64::INFINITY);
    }

    #[test]
    fn groups_are_bounded() {
        let budget = budget(8);
        let mut tally = Tally::new(Made::Least, &Intervals::range(0, 2, 1), &budget);
        let group = |exponent| Group {
            exponent,
            ..Group::default()
        };
        for exponent in [1, 2, 1] {
            tally
                .add(group(exponent), 0, (1, f64::from(exponent)))
                .unwrap();
        }
        assert_eq!(tally.add(group(3), 0, (1, 3.0)), Err(BudgetError::Samples));
        assert_eq!(tally.groups().len(), 2);
        assert_eq!(
            (tally.number(1, 0), tally.number(1, 1).is_nan()),
            (2.0, true)
        );
    }
}
