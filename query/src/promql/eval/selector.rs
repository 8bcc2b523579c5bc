//! Selectors and subqueries: from the samples of a series to values at steps and to windows.

use trine_storage::{MatchOp, TimeRange};

use super::Evaluation;
use super::steps::Steps;
use super::stream::{Held, Vector};
use crate::promql::ast::{At, Expr, ExprKind, Modifiers, Selector, Subquery};
use crate::promql::error::QueryError;
use crate::promql::source::{Hints, Samples, SelectRequest, Series, Values};
use crate::vector::{ABSENT, METRIC_NAME, StepSeries, is_absent};
use trine_storage::Labels;

/// Where a selector looks at each step: `@` and `offset` applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// The time at which the first step looks.
    first: i64,
    /// How far the next step looks ahead; 0 where all look at the same time.
    stride: i64,
    /// The number of steps.
    pub(super) count: usize,
}

impl Places {
    pub(super) fn at(&self, step: usize) -> i64 {
        let ahead = i64::try_from(step)
            .unwrap_or(i64::MAX)
            .saturating_mul(self.stride);
        self.first.saturating_add(ahead)
    }

    fn last(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    /// Whether all steps look at the same time.
    pub(super) fn fixed(&self) -> bool {
        self.stride == 0
    }
}

/// The samples of one series.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) labels: Labels,
    pub(super) timestamps: Vec<i64>,
    pub(super) values: Vec<f64>,
}

/// A range vector: the samples of each series, and where the windows end.
pub(super) struct Ranges<'q> {
    pub(super) series: Box<dyn Iterator<Item = Result<Raw, QueryError>> + 'q>,
    pub(super) places: Places,
    pub(super) range_ms: i64,
    pub(super) one_name: bool,
}

/// The samples of a series in `(end_ms - range_ms, end_ms]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'w> {
    pub(super) timestamps: &'w [i64],
    pub(super) values: &'w [f64],
    /// The index in the series of the first sample here.
    pub(super) offset: usize,
    pub(super) end_ms: i64,
    pub(super) range_ms: i64,
}

impl<'q> Evaluation<'q> {
    pub(super) fn places(&self, modifiers: &Modifiers, steps: Steps) -> Places {
        let offset = modifiers.offset_ms.unwrap_or(0);
        let (first, stride) = match modifiers.at {
            None => (steps.start(), steps.step_ms()),
            Some(At::Time(time)) => (time, 0),
            Some(At::Start) => (self.steps.start(), 0),
            Some(At::End) => (self.steps.end(), 0),
        };
        Places {
            first: first.saturating_sub(offset),
            stride,
            count: steps.count(),
        }
    }

    /// An instant vector selector.
    pub(super) fn selector(
        &'q self,
        selector: &'q Selector,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        self.looked_up(selector, steps, |_, value| value)
    }

    /// The time of the sample that an instant vector selector finds, in seconds.
    pub(super) fn timestamps(
        &'q self,
        selector: &'q Selector,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        self.looked_up(selector, steps, |time, _| time as f64 / 1000.0)
    }

    fn looked_up(
        &'q self,
        selector: &'q Selector,
        steps: Steps,
        pick: fn(i64, f64) -> f64,
    ) -> Result<Vector<'q>, QueryError> {
        let places = self.places(&selector.modifiers, steps);
        let lookback = self.options.lookback_ms.max(1);
        let hints = Hints {
            step_ms: steps.step_ms(),
            range_ms: 0,
            function: None,
        };
        let all = self.samples(selector, places, lookback, hints)?;
        let series = all.filter_map(move |raw| match raw {
            Ok(raw) => {
                let values = look_up(&raw, places, lookback, pick);
                let series = StepSeries::new(raw.labels, values);
                series.has_values().then_some(Ok(series))
            }
            Err(error) => Some(Err(error)),
        });
        Ok(Vector {
            series: Box::new(series),
            one_name: has_one_name(selector),
        })
    }

    /// A range vector: a selector with a range, or a subquery.
    pub(super) fn ranges(
        &'q self,
        expr: &'q Expr,
        steps: Steps,
        function: Option<&'static str>,
    ) -> Result<Ranges<'q>, QueryError> {
        match &expr.unwrapped().kind {
            ExprKind::Range {
                selector, range_ms, ..
            } => {
                let places = self.places(&selector.modifiers, steps);
                let hints = Hints {
                    step_ms: steps.step_ms(),
                    range_ms: *range_ms,
                    function,
                };
                let series = self.samples(selector, places, *range_ms, hints)?;
                let series = series.map(|raw| raw.map(Raw::without_stale));
                let one_name = has_one_name(selector);
                Ok(Ranges {
                    series: Box::new(series),
                    places,
                    range_ms: *range_ms,
                    one_name,
                })
            }
            ExprKind::Subquery(subquery) => self.subquery(subquery, steps),
            _ => Err(QueryError::Invalid("expected a range vector".to_owned())),
        }
    }

    fn subquery(&'q self, subquery: &'q Subquery, steps: Steps) -> Result<Ranges<'q>, QueryError> {
        let places = self.places(&subquery.modifiers, steps);
        let step = subquery
            .step_ms
            .unwrap_or(self.options.subquery_step_ms)
            .max(1);
        // Its steps are multiples of its step, whatever the query's are: the first one after the
        // open start of the first window.
        let open = places.first.saturating_sub(subquery.range_ms);
        let start = open.div_euclid(step).saturating_add(1).saturating_mul(step);
        let inner = Steps::between(start, places.last(), step);
        let mut held = Held::new(self.budget);
        held.add(inner.count())?;
        let vector = self.vector(&subquery.expr, inner)?;
        let series = vector.series.map(move |series| {
            let _until_the_end = &held;
            let series = super::points(series?, inner);
            Ok(Raw::new(series))
        });
        let (range_ms, one_name) = (subquery.range_ms, vector.one_name);
        Ok(Ranges {
            series: Box::new(series),
            places,
            range_ms,
            one_name,
        })
    }

    /// The samples that a selector needs: those less than `before` milliseconds before a place.
    fn samples(
        &'q self,
        selector: &'q Selector,
        places: Places,
        before: i64,
        hints: Hints,
    ) -> Result<impl Iterator<Item = Result<Raw, QueryError>> + 'q, QueryError> {
        let first = places.first.saturating_sub(before).saturating_add(1);
        let range = TimeRange::inclusive(first, places.last());
        let request = SelectRequest {
            matchers: selector.matchers.clone(),
            range,
            hints,
        };
        let mut held = Held::new(self.budget);
        Ok(self.source.select(&request)?.map(move |series| {
            let series = series?;
            let count = series.samples.timestamps.len();
            self.budget.read_series(count as u64)?;
            // One series is decoded at a time, so the longest one is what is held.
            held.grow_to(count as u64)?;
            Ok(Raw::new(series))
        }))
    }

    /// The value of a range vector at one step: its samples themselves.
    pub(super) fn instant_matrix(&'q self, expr: &'q Expr) -> Result<Vec<Series>, QueryError> {
        let ranges = self.ranges(expr, self.steps, None)?;
        let (places, range_ms) = (ranges.places, ranges.range_ms);
        let mut held = Held::new(self.budget);
        let mut out = Vec::new();
        for raw in ranges.series {
            let raw = raw?;
            let Some(window) = raw.windows(places, range_ms).next() else {
                continue;
            };
            if window.timestamps.is_empty() {
                continue;
            }
            held.add(window.timestamps.len())?;
            let values = Values::Floats(window.values.to_vec());
            let samples = Samples {
                timestamps: window.timestamps.to_vec(),
                values,
            };
            out.push(Series {
                labels: raw.labels.clone(),
                samples,
            });
        }
        out.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }
}

/// Whether all series that a selector finds have one name.
fn has_one_name(selector: &Selector) -> bool {
    selector
        .matchers
        .iter()
        .any(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal)
}

/// The newest sample of each step that is less than `lookback` milliseconds old and no stale
/// marker.
fn look_up(raw: &Raw, places: Places, lookback: i64, pick: fn(i64, f64) -> f64) -> Vec<f64> {
    let mut next = 0;
    let mut find = |step: usize| {
        let place = places.at(step);
        while raw.timestamps.get(next).is_some_and(|time| *time <= place) {
            next += 1;
        }
        let found = next.checked_sub(1)?;
        let (time, value) = (*raw.timestamps.get(found)?, *raw.values.get(found)?);
        let fresh = time > place.saturating_sub(lookback) && !is_absent(value);
        fresh.then(|| pick(time, value))
    };
    if places.fixed() {
        return vec![find(0).unwrap_or(ABSENT); places.count];
    }
    (0..places.count)
        .map(|step| find(step).unwrap_or(ABSENT))
        .collect()
}

impl Raw {
    fn new(series: Series) -> Self {
        let Values::Floats(values) = series.samples.values;
        Self {
            labels: series.labels,
            timestamps: series.samples.timestamps,
            values,
        }
    }

    /// The samples without stale markers, which ranges do not see.
    fn without_stale(mut self) -> Self {
        if self.values.iter().any(|value| is_absent(*value)) {
            let mut values = self.values.iter();
            self.timestamps
                .retain(|_| values.next().is_some_and(|value| !is_absent(*value)));
            self.values.retain(|value| !is_absent(*value));
        }
        self
    }

    /// The window of each step. Both ends only move ahead, since places do.
    pub(super) fn windows(
        &self,
        places: Places,
        range_ms: i64,
    ) -> impl Iterator<Item = Window<'_>> {
        let (mut low, mut high) = (0, 0);
        (0..places.count).map(move |step| {
            let end_ms = places.at(step);
            let open = end_ms.saturating_sub(range_ms);
            while self
                .timestamps
                .get(high)
                .is_some_and(|time| *time <= end_ms)
            {
                high += 1;
            }
            while low < high && self.timestamps.get(low).is_some_and(|time| *time <= open) {
                low += 1;
            }
            Window {
                timestamps: self.timestamps.get(low..high).unwrap_or_default(),
                values: self.values.get(low..high).unwrap_or_default(),
                offset: low,
                end_ms,
                range_ms,
            }
        })
    }
}
