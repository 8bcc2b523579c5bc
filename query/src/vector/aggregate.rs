//! Aggregations over the series of a step vector, fed one series after the other.

mod histograms;

use std::collections::{BinaryHeap, HashMap};
use std::fmt;

use trine_storage::Labels;

pub use self::histograms::AggregateNotes;
use self::histograms::Column;
use super::kahan::{Mean, Sum};
use super::limit::{Limited, share_holds};
use super::ranking::{Candidate, End};
use super::{ABSENT, StepSeries, VectorError, drop_name, is_absent, quantile};
use crate::text::format_float;

/// An aggregation operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    /// `sum`
    Sum,
    /// `avg`
    Avg,
    /// `count`
    Count,
    /// `min`
    Min,
    /// `max`
    Max,
    /// `group`: 1 for each group
    Group,
    /// `stddev`, of the population
    Stddev,
    /// `stdvar`, of the population
    Stdvar,
    /// `topk`
    Topk,
    /// `bottomk`
    Bottomk,
    /// `quantile`
    Quantile,
    /// `count_values`
    CountValues,
    /// `limitk`: some k series
    Limitk,
    /// `limit_ratio`: a share of the series
    LimitRatio,
}

impl AggregateOp {
    /// Whether the result consists of series of the input, with their own labels.
    pub fn selects(self) -> bool {
        matches!(
            self,
            Self::Topk | Self::Bottomk | Self::Limitk | Self::LimitRatio
        )
    }
}

impl AggregateOp {
    /// Whether histograms take part, or are ignored.
    fn takes_histograms(self) -> bool {
        self.counts()
            || matches!(
                self,
                Self::Sum | Self::Avg | Self::CountValues | Self::Limitk | Self::LimitRatio
            )
    }

    /// Whether only the presence of a value matters.
    fn counts(self) -> bool {
        matches!(self, Self::Count | Self::Group)
    }
}

impl fmt::Display for AggregateOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::Quantile => "quantile",
            Self::CountValues => "count_values",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        })
    }
}

/// The labels that make a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// Only these; `By(vec![])` is one group.
    By(Vec<String>),
    /// All but these and the metric's name.
    Without(Vec<String>),
}

impl Grouping {
    /// The labels of the group that a series with `labels` belongs to.
    #[must_use]
    pub fn group_of(&self, labels: &Labels) -> Labels {
        match self {
            Self::By(names) if names.is_empty() => Labels::empty(),
            Self::By(names) => labels.filter(|name| names.iter().any(|n| n == name)),
            Self::Without(names) if names.is_empty() => drop_name(labels),
            Self::Without(names) => {
                drop_name(labels).filter(|name| !names.iter().any(|n| n == name))
            }
        }
    }

    /// The names that were written.
    pub fn names(&self) -> &[String] {
        match self {
            Self::By(names) | Self::Without(names) => names,
        }
    }
}

/// What stands before the vector in `topk(k, v)`, `quantile(q, v)`, `count_values("l", v)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// Nothing.
    None,
    /// A number for each step.
    Steps(Vec<f64>),
    /// A label's name.
    Label(String),
}

/// An aggregation at work: series go in one after the other and are not kept, but for what the
/// operator must keep (the best k, the values of a quantile).
#[derive(Debug)]
pub struct Aggregator {
    op: AggregateOp,
    grouping: Grouping,
    /// The k of each step for `topk`, `bottomk` and `limitk`.
    ranks: Vec<usize>,
    /// The q of each step for `quantile`, the share for `limit_ratio`.
    quantiles: Vec<f64>,
    /// The label of `count_values`.
    label: String,
    steps: usize,
    groups: Vec<Group>,
    by_labels: HashMap<Labels, usize>,
    /// Values held beyond one a step and group.
    extra_held: u64,
    notes: AggregateNotes,
}

#[derive(Debug)]
struct Group {
    labels: Labels,
    /// Whether one of its series wants its name dropped at the end.
    drop_name: bool,
    state: State,
    /// `None` as long as there are none.
    histograms: Option<Box<Column>>,
}

/// What a group remembers, one entry a step. [`ABSENT`] or an empty entry: no value so far.
#[derive(Debug)]
enum State {
    Sums {
        seen: Vec<bool>,
        sums: Vec<Sum>,
    },
    Means(Vec<Mean>),
    /// Counts, minima, maxima, ones.
    Values(Vec<f64>),
    Variances(Vec<Variance>),
    Best(Vec<BinaryHeap<Candidate>>),
    Limited(Limited),
    Samples(Vec<Vec<f64>>),
}

/// Welford's running variance. Not compensated, since the originals' is not.
#[derive(Debug, Clone, Copy, Default)]
struct Variance {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Variance {
    fn add(&mut self, x: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = x;
            self.squares = if x.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = x - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (x - self.mean);
    }
}

impl Aggregator {
    /// An aggregation over vectors of `steps` steps.
    ///
    /// # Errors
    /// When the parameter of `topk` or `bottomk` is no number of series at some step, or the label
    /// of `count_values` is empty.
    pub fn new(
        op: AggregateOp,
        grouping: Grouping,
        parameter: Parameter,
        steps: usize,
    ) -> Result<Self, VectorError> {
        let (mut ranks, mut quantiles, mut label) = (Vec::new(), Vec::new(), String::new());
        match (op, parameter) {
            (
                AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk,
                Parameter::Steps(values),
            ) => {
                ranks = values.into_iter().map(rank).collect::<Result<_, _>>()?;
            }
            (AggregateOp::LimitRatio, Parameter::Steps(values)) => {
                if values.iter().any(|share| share.is_nan()) {
                    return Err(VectorError::RatioNan);
                }
                quantiles = values;
            }
            (AggregateOp::Quantile, Parameter::Steps(values)) => quantiles = values,
            (AggregateOp::CountValues, Parameter::Label(name)) => {
                if name.is_empty() {
                    return Err(VectorError::InvalidLabelName(name));
                }
                label = name;
            }
            _ => {}
        }
        // The value's label makes a group even where `by` does not name it.
        let grouping = match grouping {
            Grouping::By(mut names) if op == AggregateOp::CountValues => {
                names.push(label.clone());
                Grouping::By(names)
            }
            grouping => grouping,
        };
        let (groups, by_labels) = (Vec::new(), HashMap::new());
        let extra_held = 0;
        Ok(Self {
            op,
            grouping,
            ranks,
            quantiles,
            label,
            steps,
            groups,
            by_labels,
            extra_held,
            notes: AggregateNotes::default(),
        })
    }

    /// Takes in one series. Values beyond the number of steps are not looked at.
    pub fn push(&mut self, series: &StepSeries) {
        if self.op == AggregateOp::CountValues {
            return self.count_values(series);
        }
        if !self.takes(series) {
            return;
        }
        let at = self.group(self.grouping.group_of(&series.labels));
        let (op, ranks, shares) = (self.op, &self.ranks, &self.quantiles);
        let Some(group) = self.groups.get_mut(at) else {
            return;
        };
        group.drop_name |= series.drop_name;
        if series.histograms.is_some() {
            match &mut group.state {
                State::Sums { .. } | State::Means(_) => {
                    let column = group.histograms.get_or_insert_default();
                    self.extra_held += column.push(op, series, &mut self.notes);
                }
                State::Values(kept) if op.counts() => {
                    for (step, kept) in kept.iter_mut().enumerate() {
                        if series.histogram(step).is_some() {
                            *kept = fold(op, *kept, 1.0);
                        }
                    }
                }
                _ => {}
            }
        }
        let values = series.values.iter().copied();
        match &mut group.state {
            State::Sums { seen, sums } => {
                for ((value, seen), sum) in values.zip(seen).zip(sums) {
                    if !is_absent(value) {
                        *seen = true;
                        sum.add(value);
                    }
                }
            }
            State::Means(means) => {
                values
                    .zip(means)
                    .filter(|(v, _)| !is_absent(*v))
                    .for_each(|(v, m)| m.add(v));
            }
            State::Values(kept) => {
                for (value, kept) in values.zip(kept) {
                    if !is_absent(value) {
                        *kept = fold(op, *kept, value);
                    }
                }
            }
            State::Variances(all) => {
                values
                    .zip(all)
                    .filter(|(v, _)| !is_absent(*v))
                    .for_each(|(v, s)| s.add(v));
            }
            State::Samples(all) => {
                for (value, samples) in values.zip(all) {
                    if !is_absent(value) {
                        samples.push(value);
                        self.extra_held += 1;
                    }
                }
            }
            State::Limited(limited) => {
                self.extra_held += match op {
                    AggregateOp::Limitk => limited.first(series, ranks),
                    _ => limited.keep(series, |hash, step| {
                        shares
                            .get(step)
                            .is_some_and(|share| share_holds(hash, *share))
                    }),
                };
            }
            State::Best(heaps) => {
                let end = if op == AggregateOp::Topk {
                    End::Top
                } else {
                    End::Bottom
                };
                for ((value, heap), k) in values.zip(heaps).zip(ranks) {
                    if !is_absent(value) {
                        self.extra_held += offer(heap, *k, end, value, series);
                    }
                }
            }
        }
    }

    /// How many values are held now, for the query's budget.
    pub fn samples_held(&self) -> u64 {
        let values = self.groups.len().saturating_mul(self.steps);
        u64::try_from(values)
            .unwrap_or(u64::MAX)
            .saturating_add(self.extra_held)
    }

    /// Whether the operator can do something with what the series has.
    fn takes(&mut self, series: &StepSeries) -> bool {
        if series.histograms.is_none() || self.op.takes_histograms() {
            return series.has_values();
        }
        self.notes.ignored = true;
        series.values.iter().any(|value| !is_absent(*value))
    }

    /// The groups in the order in which they first appeared. `topk` and `bottomk` over one step
    /// give each group's series from the best to the least.
    pub fn finish(self) -> Vec<StepSeries> {
        self.finish_with_notes().0
    }

    /// The same, with what is worth knowing of histograms.
    pub fn finish_with_notes(self) -> (Vec<StepSeries>, AggregateNotes) {
        let mut out = Vec::with_capacity(self.groups.len());
        let mut notes = self.notes;
        for group in self.groups {
            let Group {
                labels,
                drop_name,
                state,
                histograms,
            } = group;
            let mut values = match state {
                State::Sums { seen, sums } => {
                    let values = seen.into_iter().zip(sums);
                    values
                        .map(|(seen, sum)| if seen { sum.value() } else { ABSENT })
                        .collect()
                }
                State::Means(means) => means
                    .into_iter()
                    .map(|mean| {
                        if mean.count() == 0.0 {
                            ABSENT
                        } else {
                            mean.value()
                        }
                    })
                    .collect(),
                State::Values(values) => values,
                State::Variances(all) => all.into_iter().map(|v| spread(self.op, v)).collect(),
                State::Samples(all) => all
                    .into_iter()
                    .zip(&self.quantiles)
                    .map(|(mut s, q)| {
                        if s.is_empty() {
                            ABSENT
                        } else {
                            quantile(*q, &mut s)
                        }
                    })
                    .collect(),
                State::Best(heaps) => {
                    out.extend(best_series(heaps));
                    continue;
                }
                State::Limited(limited) => {
                    out.extend(limited.into_series());
                    continue;
                }
            };
            let series = match histograms {
                None => StepSeries::new(labels, values),
                Some(column) => {
                    let histograms = column.finish(&mut values, &mut notes);
                    StepSeries::with_histograms(labels, values, histograms)
                }
            };
            out.push(StepSeries {
                drop_name,
                ..series
            });
        }
        (out, notes)
    }

    fn group(&mut self, labels: Labels) -> usize {
        let next = self.groups.len();
        let at = *self.by_labels.entry(labels.clone()).or_insert(next);
        if at == next {
            self.groups.push(Group {
                labels,
                drop_name: false,
                state: State::new(self.op, self.steps),
                histograms: None,
            });
        }
        at
    }

    fn count_values(&mut self, series: &StepSeries) {
        // Equal values mostly follow each other, so one look-up serves a run of steps.
        let mut last: Option<(u64, usize)> = None;
        for (step, value) in series.values.iter().enumerate().take(self.steps) {
            if let Some(histogram) = series.histogram(step) {
                let labels = series.labels.with(&self.label, &histogram.to_string());
                let at = self.group(self.grouping.group_of(&labels));
                self.count_one(at, step, series.drop_name);
                continue;
            }
            if is_absent(*value) {
                continue;
            }
            let at = match last {
                Some((bits, at)) if bits == value.to_bits() => at,
                _ => {
                    let labels = series.labels.with(&self.label, &format_float(*value));
                    let at = self.group(self.grouping.group_of(&labels));
                    last = Some((value.to_bits(), at));
                    at
                }
            };
            self.count_one(at, step, series.drop_name);
        }
    }

    fn count_one(&mut self, at: usize, step: usize, drop_name: bool) {
        let Some(group) = self.groups.get_mut(at) else {
            return;
        };
        group.drop_name |= drop_name;
        if let State::Values(counts) = &mut group.state
            && let Some(count) = counts.get_mut(step)
        {
            *count = fold(AggregateOp::Count, *count, 1.0);
        }
    }
}

impl State {
    fn new(op: AggregateOp, steps: usize) -> Self {
        match op {
            AggregateOp::Sum => Self::Sums {
                seen: vec![false; steps],
                sums: vec![Sum::default(); steps],
            },
            AggregateOp::Avg => Self::Means(vec![Mean::default(); steps]),
            AggregateOp::Count
            | AggregateOp::Min
            | AggregateOp::Max
            | AggregateOp::Group
            | AggregateOp::CountValues => Self::Values(vec![ABSENT; steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                Self::Variances(vec![Variance::default(); steps])
            }
            AggregateOp::Topk | AggregateOp::Bottomk => {
                Self::Best((0..steps).map(|_| BinaryHeap::new()).collect())
            }
            AggregateOp::Limitk | AggregateOp::LimitRatio => Self::Limited(Limited::new(steps)),
            AggregateOp::Quantile => Self::Samples(vec![Vec::new(); steps]),
        }
    }
}

/// The number of series that a parameter of `topk` asks for.
fn rank(value: f64) -> Result<usize, VectorError> {
    if value.is_nan() {
        Err(VectorError::ParameterNan)
    } else if value >= i64::MAX as f64 {
        Err(VectorError::ParameterOverflow(value))
    } else if value <= i64::MIN as f64 {
        Err(VectorError::ParameterUnderflow(value))
    } else {
        Ok(value.max(0.0) as usize)
    }
}

#[inline]
fn fold(op: AggregateOp, kept: f64, value: f64) -> f64 {
    match op {
        AggregateOp::Count | AggregateOp::CountValues if is_absent(kept) => 1.0,
        AggregateOp::Count | AggregateOp::CountValues => kept + 1.0,
        AggregateOp::Min if kept.is_nan() || value < kept => value,
        AggregateOp::Max if kept.is_nan() || value > kept => value,
        AggregateOp::Min | AggregateOp::Max => kept,
        _ => 1.0,
    }
}

fn spread(op: AggregateOp, of: Variance) -> f64 {
    if of.count == 0.0 {
        return ABSENT;
    }
    let variance = of.squares / of.count;
    if op == AggregateOp::Stddev {
        variance.sqrt()
    } else {
        variance
    }
}

/// Keeps the `k` first candidates in a heap whose top is the last of them.
/// Returns by how many candidates it grew.
fn offer(
    heap: &mut BinaryHeap<Candidate>,
    k: usize,
    end: End,
    value: f64,
    series: &StepSeries,
) -> u64 {
    let candidate = || Candidate {
        value,
        labels: series.labels.clone(),
        drop_name: series.drop_name,
        end,
    };
    if heap.len() < k {
        heap.push(candidate());
        return 1;
    }
    let Some(mut last) = heap.peek_mut() else {
        return 0;
    };
    let order = end
        .compare(value, last.value)
        .then_with(|| series.labels.cmp(&last.labels));
    if order.is_lt() {
        *last = candidate();
    }
    0
}

fn best_series(heaps: Vec<BinaryHeap<Candidate>>) -> Vec<StepSeries> {
    let steps = heaps.len();
    let mut out: Vec<StepSeries> = Vec::new();
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    for (step, heap) in heaps.into_iter().enumerate() {
        for candidate in heap.into_sorted_vec() {
            let next = out.len();
            let at = *by_labels.entry(candidate.labels.clone()).or_insert(next);
            if at == next {
                out.push(StepSeries {
                    drop_name: candidate.drop_name,
                    ..StepSeries::absent(candidate.labels, steps)
                });
            }
            if let Some(value) = out
                .get_mut(at)
                .and_then(|series| series.values.get_mut(step))
            {
                *value = candidate.value;
            }
        }
    }
    out
}
