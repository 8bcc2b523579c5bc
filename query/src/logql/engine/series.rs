//! The series that a range aggregation makes of lines, found by the labels of each row; filled by
//! `range.rs`.

use std::collections::HashMap;

use trine_storage::Labels;

use super::range::{Held, Windows};
use super::window::{self, Window};
use crate::budget::{Budget, BudgetError};
use crate::logql::ast::RangeOp;
use crate::logql::pipeline::labels::{ERROR, ERROR_DETAILS, RowLabels};
use crate::vector::{ABSENT, Grouping, StepSeries};

/// What one line adds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    /// Lines or bytes.
    pub(super) weight: u64,
    /// The value of `unwrap`.
    pub(super) value: f64,
}

#[derive(Debug)]
struct OneSeries {
    labels: Labels,
    state: State,
}

#[derive(Debug)]
enum State {
    /// At each step how much comes in with it and how much goes out before it.
    Counts {
        lines: Vec<i64>,
        weights: Vec<i64>,
    },
    Values(Vec<window::Value>),
}

/// What series are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Numbers of lines or bytes at each step.
    Counts,
    /// The values of `unwrap` with their instants.
    Values,
}

impl Holds {
    /// Samples that a series without lines stands for.
    fn samples(self, steps: usize) -> u64 {
        match self {
            Self::Counts => steps as u64 + 1,
            Self::Values => 0,
        }
    }
}

/// Room for so many values is made at first.
const VALUES_MIN: usize = 4;

/// Bytes that a series takes beside its samples, about.
fn series_bytes(labels: &Labels) -> u64 {
    const FIXED: usize = 256;
    let text: usize = labels
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    (FIXED + text) as u64
}

/// The series found so far.
pub(super) struct SeriesTable {
    grouping: Option<Grouping>,
    holds: Holds,
    steps: usize,
    series: Vec<OneSeries>,
    by_labels: HashMap<Labels, usize>,
    /// A shortcut: what makes a row's labels, as bytes. Holds codes of one batch unless rows are
    /// grouped by the values of some labels.
    by_key: HashMap<Vec<u8>, usize>,
    recent: Recent,
    key: Vec<u8>,
}

/// Keys seen of late, each at the one place that its bytes say: a shorter way than a hash that
/// nobody who sends lines can foresee.
#[derive(Debug)]
struct Recent(Vec<Option<(Vec<u8>, usize)>>);

impl Recent {
    /// Of the top bits of a sum.
    const PLACES_BITS: u32 = 7;

    fn place(key: &[u8]) -> usize {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut sum = 0u64;
        let mut add = |word: [u8; 8]| {
            sum = (sum.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
        };
        let (words, rest) = key.as_chunks::<8>();
        words.iter().for_each(|word| add(*word));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        add(last);
        (sum >> (u64::BITS - Self::PLACES_BITS)) as usize
    }

    fn get(&self, place: usize, key: &[u8]) -> Option<usize> {
        let (known, series) = self.0.get(place)?.as_ref()?;
        (known == key).then_some(*series)
    }

    fn put(&mut self, place: usize, key: &[u8], series: usize) {
        if self.0.is_empty() {
            self.0.resize(1 << Self::PLACES_BITS, None);
        }
        match &mut self.0[place] {
            Some((known, at)) => {
                known.clear();
                known.extend_from_slice(key);
                *at = series;
            }
            free => *free = Some((key.to_vec(), series)),
        }
    }
}

impl SeriesTable {
    /// An empty table. Series keep the labels that `grouping` says, all without one.
    pub(super) fn new(grouping: Option<Grouping>, holds: Holds, steps: usize) -> Self {
        Self {
            grouping,
            holds,
            steps,
            series: Vec::new(),
            by_labels: HashMap::new(),
            by_key: HashMap::new(),
            recent: Recent(Vec::new()),
            key: Vec::new(),
        }
    }

    /// Forgets what holds for one batch only.
    pub(super) fn next_batch(&mut self) {
        if !matches!(self.grouping, Some(Grouping::By(_))) {
            self.by_key.clear();
            self.recent.0.clear();
        }
    }

    /// The series that a row belongs to; `codes` are those of its stream and metadata.
    ///
    /// # Errors
    /// When a new series is more than the budget has room for.
    pub(super) fn find(
        &mut self,
        labels: &RowLabels<'_>,
        codes: (u32, u32),
        budget: &Budget,
    ) -> Result<usize, BudgetError> {
        self.key.clear();
        let key = &mut self.key;
        let mut push = |text: &str| {
            key.extend_from_slice(&text.len().to_le_bytes());
            key.extend_from_slice(text.as_bytes());
        };
        match &self.grouping {
            Some(Grouping::By(names)) => {
                names
                    .iter()
                    .for_each(|name| push(labels.get(name).unwrap_or("")));
            }
            grouping => {
                let without = grouping.as_ref().map_or(&[][..], Grouping::names);
                for name in [ERROR, ERROR_DETAILS] {
                    push(labels.get(name).unwrap_or(""));
                }
                labels.each_hidden(&mut push);
                // An empty name parts what was removed from what was added.
                push("");
                labels.each_added(|name, value| {
                    if !without.iter().any(|gone| gone == name) {
                        push(name);
                        push(value);
                    }
                });
                key.extend_from_slice(&codes.0.to_le_bytes());
                key.extend_from_slice(&codes.1.to_le_bytes());
            }
        }
        let place = Recent::place(&self.key);
        if let Some(found) = self.recent.get(place, &self.key) {
            return Ok(found);
        }
        if let Some(found) = self.by_key.get(self.key.as_slice()) {
            self.recent.put(place, &self.key, *found);
            return Ok(*found);
        }
        let labels = self.labels_of(labels);
        let at = *self
            .by_labels
            .entry(labels.clone())
            .or_insert(self.series.len());
        if at == self.series.len() {
            budget.hold_samples(self.holds.samples(self.steps))?;
            budget.hold_bytes(series_bytes(&labels))?;
            let state = match self.holds {
                Holds::Values => State::Values(Vec::new()),
                Holds::Counts => State::Counts {
                    lines: vec![0; self.steps + 1],
                    weights: vec![0; self.steps + 1],
                },
            };
            self.series.push(OneSeries { labels, state });
        }
        self.by_key.insert(self.key.clone(), at);
        Ok(at)
    }

    fn labels_of(&self, labels: &RowLabels<'_>) -> Labels {
        match &self.grouping {
            Some(Grouping::By(names)) => {
                let mut names: Vec<&String> = names.iter().collect();
                names.sort();
                names.dedup();
                let pairs = names
                    .into_iter()
                    .map(|name| (name, labels.get(name).unwrap_or("")));
                // Sorted and unique names cannot be refused.
                Labels::from_pairs(pairs).unwrap_or_default()
            }
            Some(Grouping::Without(names)) => labels
                .merged()
                .filter(|name| !names.iter().any(|gone| gone == name)),
            None => labels.merged(),
        }
    }

    /// Adds a line to a series, at the steps `held`.
    ///
    /// # Errors
    /// When the value is more than the budget has room for.
    pub(super) fn add(
        &mut self,
        series: usize,
        held: Held,
        timestamp: i64,
        amount: Amount,
        budget: &Budget,
    ) -> Result<(), BudgetError> {
        let Some(series) = self.series.get_mut(series) else {
            return Ok(());
        };
        match &mut series.state {
            State::Values(values) => {
                if values.len() == values.capacity() {
                    let more = values.len().max(VALUES_MIN);
                    budget.hold_samples(more as u64)?;
                    values.reserve_exact(more);
                }
                values.push((timestamp, amount.value));
            }
            State::Counts { lines, weights } => {
                if held.is_some() {
                    let weight = i64::try_from(amount.weight).unwrap_or(i64::MAX);
                    lines[held.first] += 1;
                    lines[held.end] -= 1;
                    weights[held.first] = weights[held.first].saturating_add(weight);
                    weights[held.end] = weights[held.end].saturating_sub(weight);
                }
            }
        }
        Ok(())
    }

    /// Takes over the series of another table of the same kind.
    pub(super) fn absorb(&mut self, other: Self, budget: &Budget) {
        for OneSeries { labels, state } in other.series {
            let next = self.series.len();
            let at = *self.by_labels.entry(labels.clone()).or_insert(next);
            let Some(series) = self.series.get_mut(at) else {
                self.series.push(OneSeries { labels, state });
                continue;
            };
            budget.release_samples(self.holds.samples(self.steps));
            budget.release_bytes(series_bytes(&labels));
            match (&mut series.state, state) {
                (State::Values(all), State::Values(more)) => {
                    let spare = (all.capacity() - all.len()) + (more.capacity() - more.len());
                    all.shrink_to_fit();
                    all.extend_from_slice(&more);
                    budget.release_samples(spare as u64);
                }
                (
                    State::Counts { lines, weights },
                    State::Counts {
                        lines: more_lines,
                        weights: more_weights,
                    },
                ) => {
                    for (sum, more) in lines.iter_mut().zip(more_lines) {
                        *sum += more;
                    }
                    for (sum, more) in weights.iter_mut().zip(more_weights) {
                        *sum = sum.saturating_add(more);
                    }
                }
                _ => {}
            }
        }
    }

    /// The values at all steps.
    ///
    /// # Errors
    /// When the query is over its time, or nobody waits for it any more.
    pub(super) fn finish(
        self,
        window: Window,
        windows: Windows,
        budget: &Budget,
    ) -> Result<Vec<StepSeries>, BudgetError> {
        let steps = self.steps;
        let finish = |series: OneSeries| {
            budget.check()?;
            let values = match series.state {
                State::Counts { lines, weights } => totals(window, &lines, &weights, steps),
                State::Values(values) if window.takes_any_order() && windows.are_apart() => {
                    scatter(window, windows, &values, steps)
                }
                State::Values(mut values) => {
                    window.sort(&mut values);
                    slide(window, windows, &values, (steps, budget))?
                }
            };
            Ok(StepSeries::new(series.labels, values))
        };
        self.series.into_iter().map(finish).collect()
    }
}

fn totals(window: Window, lines: &[i64], weights: &[i64], steps: usize) -> Vec<f64> {
    let per_second = matches!(window.op, RangeOp::Rate | RangeOp::BytesRate);
    let (mut count, mut total) = (0i64, 0i64);
    let changes = lines.iter().zip(weights).take(steps);
    let values = changes.map(|(line, weight)| {
        count += line;
        total = total.saturating_add(*weight);
        match (count > 0, per_second) {
            (false, _) => ABSENT,
            (true, false) => total as f64,
            (true, true) => total as f64 / window.seconds,
        }
    });
    values.collect()
}

/// After how many values it is looked whether to go on.
const CHECK_EVERY: usize = 1 << 16;

fn slide(
    window: Window,
    windows: Windows,
    values: &[window::Value],
    (steps, budget): (usize, &Budget),
) -> Result<Vec<f64>, BudgetError> {
    let mut seen = 0;
    let value_at = |step| {
        let (after, until) = windows.of(step);
        let from = values.partition_point(|(timestamp, _)| *timestamp <= after);
        let to = values.partition_point(|(timestamp, _)| *timestamp <= until);
        seen += to.saturating_sub(from);
        if seen >= CHECK_EVERY {
            seen = 0;
            budget.check()?;
        }
        Ok(match values.get(from..to) {
            Some(inside) if !inside.is_empty() => window.value(inside, (after, until)),
            _ => ABSENT,
        })
    };
    (0..steps).map(value_at).collect()
}

/// As [`slide`], where each value is in one window at most and their order does not matter.
fn scatter(window: Window, windows: Windows, values: &[window::Value], steps: usize) -> Vec<f64> {
    let step_of = |held: &mut Held, timestamp: i64| {
        *held = held.of(&windows, timestamp);
        held.is_some().then_some(held.first)
    };
    let mut held = windows.steps_of(i64::MIN);
    let mut ends = vec![0usize; steps];
    for (timestamp, _) in values {
        if let Some(step) = step_of(&mut held, *timestamp) {
            ends[step] += 1;
        }
    }
    let mut total = 0;
    for end in &mut ends {
        // For now where the window begins; each value that is put into it moves it on.
        (*end, total) = (total, total + *end);
    }
    let mut numbers = vec![0.0; total];
    for (timestamp, value) in values {
        if let Some(step) = step_of(&mut held, *timestamp) {
            numbers[ends[step]] = *value;
            ends[step] += 1;
        }
    }
    let mut start = 0;
    let value = |end: usize| {
        let numbers = &mut numbers[std::mem::replace(&mut start, end)..end];
        match numbers.is_empty() {
            true => ABSENT,
            false => window.of_any_order(numbers),
        }
    };
    ends.into_iter().map(value).collect()
}
