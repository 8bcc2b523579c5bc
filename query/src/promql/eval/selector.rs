//! Selectors and subqueries: from the samples of a series to values at steps and to windows.

use std::ops::Range;
use std::sync::Arc;

use trine_storage::{MatchOp, TimeRange};

use super::Evaluation;
use super::extended;
use super::look_up::{Pick, look_up};
use super::steps::Steps;
use super::stream::{HISTOGRAM_BYTES_PER_SAMPLE, Held, Vector};
use super::waves::{Computed, Waves};
use crate::promql::ast::{At, Expr, ExprKind, Extended, Modifiers, Selector, Subquery};
use crate::promql::error::QueryError;
use crate::promql::source::{Batches, Hints, SampleValue, Samples, SelectRequest, Series, Values};
use crate::text::Span;
use crate::vector::histogram::ResetHint;
use crate::vector::{Histogram, METRIC_NAME, drop_name, is_absent};
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

    /// `count` places from `first` on, `stride` milliseconds from each other.
    #[cfg(test)]
    pub(super) fn new(first: i64, stride: i64, count: usize) -> Self {
        Self {
            first,
            stride,
            count,
        }
    }

    pub(super) fn stride(&self) -> i64 {
        self.stride
    }

    fn last(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    /// Whether all steps look at the same time.
    pub(super) fn fixed(&self) -> bool {
        self.stride == 0
    }
}

/// The samples of one series, floats and histograms apart from each other.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) labels: Labels,
    /// Whether the name is to be dropped at the end: only a subquery gives such series.
    pub(super) drop_name: bool,
    /// Those of the floats.
    pub(super) timestamps: Vec<i64>,
    /// Those of the floats; `None` where none is known.
    pub(super) start_timestamps: Option<Vec<i64>>,
    pub(super) values: Vec<f64>,
    /// `None` where the series has none, so that floats cost nothing.
    pub(super) histograms: Option<Box<Histograms>>,
}

/// The histograms of one series, as columns of equal length.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    pub(super) timestamps: Vec<i64>,
    /// `None` where none is known.
    pub(super) start_timestamps: Option<Vec<i64>>,
    pub(super) values: Vec<Arc<Histogram>>,
}

/// A range vector: the samples of each series, and where the windows end.
pub(super) struct Ranges<'q> {
    pub(super) series: Box<dyn Iterator<Item = Result<Raw, QueryError>> + 'q>,
    pub(super) places: Places,
    pub(super) range_ms: i64,
    pub(super) one_name: bool,
}

/// A time and the value then.
pub(super) type Sample = (i64, SampleValue);

/// The samples of a series in `(end_ms - range_ms, end_ms]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'w> {
    pub(super) timestamps: &'w [i64],
    pub(super) values: &'w [f64],
    /// When the counters of the samples began; `None` where that is not known or not to be used.
    pub(super) starts: Option<&'w [i64]>,
    /// The index in the series of the first sample here.
    pub(super) offset: usize,
    pub(super) end_ms: i64,
    pub(super) range_ms: i64,
    /// The histograms between the floats.
    pub(super) histograms: HistogramWindow<'w>,
}

/// The histograms of a window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HistogramWindow<'w> {
    pub(super) timestamps: &'w [i64],
    pub(super) values: &'w [Arc<Histogram>],
    /// As those of the floats.
    pub(super) starts: Option<&'w [i64]>,
    /// The index in the series of the first one here.
    pub(super) offset: usize,
}

impl Window<'_> {
    /// How many samples there are.
    pub(super) fn len(&self) -> usize {
        self.values.len() + self.histograms.values.len()
    }
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
        span: Span,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        if selector.modifiers.extended == Some(Extended::Smoothed) {
            return self.smoothed_selector(selector, span, steps);
        }
        self.looked_up(selector, steps, Pick::Value)
    }

    /// The time of the sample that an instant vector selector finds, in seconds.
    pub(super) fn timestamps(
        &'q self,
        selector: &'q Selector,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        self.looked_up(selector, steps, Pick::Time)
    }

    /// When the counter of the sample began that an instant vector selector finds, in seconds.
    pub(super) fn start_timestamps(
        &'q self,
        selector: &'q Selector,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        self.looked_up(selector, steps, Pick::Start)
    }

    fn looked_up(
        &'q self,
        selector: &'q Selector,
        steps: Steps,
        pick: Pick,
    ) -> Result<Vector<'q>, QueryError> {
        let places = self.places(&selector.modifiers, steps);
        let lookback = self.options.lookback_ms.max(1);
        let hints = Hints {
            step_ms: steps.step_ms(),
            range_ms: 0,
            function: None,
        };
        let hints_resets = self.reset_hints.wants(selector);
        let compute = move |raw: &mut Raw| {
            raw.find_resets_if(hints_resets);
            let series = look_up(raw, places, lookback, pick);
            Ok(series.has_values().then_some(series))
        };
        let batches = self.batches(selector, places, (lookback, 0), hints)?;
        let series = Waves::new(self.budget, batches, steps.count(), compute);
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
                if let (Some(extended), Some(function)) = (selector.modifiers.extended, function) {
                    extended::check(extended, function)?;
                }
                let places = self.places(&selector.modifiers, steps);
                let hints = Hints {
                    step_ms: steps.step_ms(),
                    range_ms: *range_ms,
                    function,
                };
                let series = self.samples(selector, places, (*range_ms, 0), hints)?;
                let starts = self.options.start_timestamps;
                let series = series.map(move |raw| {
                    let mut raw = raw?;
                    raw.forget_starts_unless(starts);
                    raw.drop_stale();
                    Ok(raw)
                });
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
            let series = series?;
            let drop_name = series.drop_name;
            let mut raw = Raw {
                drop_name,
                ..Raw::new(super::points(series, inner))
            };
            if let Some(histograms) = &mut raw.histograms {
                histograms.forget_resets();
            }
            Ok(raw)
        });
        let (range_ms, one_name) = (subquery.range_ms, vector.one_name);
        Ok(Ranges {
            series: Box::new(series),
            places,
            range_ms,
            one_name,
        })
    }

    /// The series of a range vector, each computed from its samples by `compute`, in no particular
    /// order; with them, whether all have one name.
    pub(super) fn over_ranges(
        &'q self,
        expr: &'q Expr,
        steps: Steps,
        function: Option<&'static str>,
        compute: impl Fn(&mut Raw, Places, i64) -> Computed + Send + Sync + 'q,
    ) -> Result<Vector<'q>, QueryError> {
        let ExprKind::Range {
            selector, range_ms, ..
        } = &expr.unwrapped().kind
        else {
            let ranges = self.ranges(expr, steps, function)?;
            let (places, range_ms, one_name) = (ranges.places, ranges.range_ms, ranges.one_name);
            let series = ranges.series.filter_map(move |raw| {
                let computed = raw.and_then(|mut raw| compute(&mut raw, places, range_ms));
                computed.transpose()
            });
            return Ok(Vector {
                series: Box::new(series),
                one_name,
            });
        };
        if let (Some(extended), Some(function)) = (selector.modifiers.extended, function) {
            extended::check(extended, function)?;
        }
        let (places, range_ms) = (self.places(&selector.modifiers, steps), *range_ms);
        let hints = Hints {
            step_ms: steps.step_ms(),
            range_ms,
            function,
        };
        let batches = self.batches(selector, places, (range_ms, 0), hints)?;
        let hints_resets = self.reset_hints.wants(selector);
        let starts = self.options.start_timestamps;
        let compute = move |raw: &mut Raw| {
            raw.find_resets_if(hints_resets);
            raw.forget_starts_unless(starts);
            raw.drop_stale();
            compute(raw, places, range_ms)
        };
        Ok(Vector {
            series: Box::new(Waves::new(self.budget, batches, steps.count(), compute)),
            one_name: has_one_name(selector),
        })
    }

    /// What a selector asks for: samples less than `before` milliseconds before a place, and up to
    /// `after` behind it.
    fn request(
        selector: &Selector,
        places: Places,
        (before, after): (i64, i64),
        hints: Hints,
    ) -> SelectRequest {
        let first = places.first.saturating_sub(before).saturating_add(1);
        SelectRequest {
            matchers: selector.matchers.clone(),
            range: TimeRange::inclusive(first, places.last().saturating_add(after)),
            hints,
        }
    }

    fn batches(
        &self,
        selector: &Selector,
        places: Places,
        around: (i64, i64),
        hints: Hints,
    ) -> Result<Box<dyn Batches>, QueryError> {
        let request = Self::request(selector, places, around, hints);
        Ok(self.source.batches(&request)?)
    }

    /// The samples less than `before` milliseconds before a place, and up to `after` behind it,
    /// without stale markers.
    pub(super) fn samples_around(
        &'q self,
        selector: &'q Selector,
        places: Places,
        around: (i64, i64),
        function: Option<&'static str>,
    ) -> Result<impl Iterator<Item = Result<Raw, QueryError>> + 'q, QueryError> {
        let hints = Hints {
            step_ms: places.stride,
            range_ms: around.0,
            function,
        };
        let raws = self.samples(selector, places, around, hints)?;
        Ok(raws.map(|raw| {
            let mut raw = raw?;
            raw.drop_stale();
            Ok(raw)
        }))
    }

    /// The samples that a selector needs, series by series in label order.
    pub(super) fn samples(
        &'q self,
        selector: &Selector,
        places: Places,
        around: (i64, i64),
        hints: Hints,
    ) -> Result<impl Iterator<Item = Result<Raw, QueryError>> + use<'q>, QueryError> {
        let request = Self::request(selector, places, around, hints);
        let hints_resets = self.reset_hints.wants(selector);
        let mut held = Held::new(self.budget);
        Ok(self.source.select(&request)?.map(move |series| {
            let mut raw = Raw::new(series?);
            self.budget.read_series(raw.len() as u64)?;
            raw.find_resets_if(hints_resets);
            // One series is decoded at a time, so the longest one is what is held.
            held.grow_to(raw.len() as u64 + raw.histogram_samples())?;
            Ok(raw)
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
            if window.len() == 0 {
                continue;
            }
            held.add(window.values.len())?;
            if let Some(histograms) = &raw.histograms {
                held.add_histograms(histograms.heap_bytes())?;
            }
            let labels = if raw.drop_name {
                drop_name(&raw.labels)
            } else {
                raw.labels.clone()
            };
            out.push(Series {
                labels,
                samples: window.samples(),
            });
        }
        out.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }
}

/// Whether all series that a selector finds have one name.
pub(super) fn has_one_name(selector: &Selector) -> bool {
    selector
        .matchers
        .iter()
        .any(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal)
}

impl Raw {
    pub(super) fn new(series: Series) -> Self {
        let Series { labels, samples } = series;
        let mut raw = Self {
            labels,
            drop_name: false,
            timestamps: samples.timestamps,
            start_timestamps: samples.start_timestamps,
            values: Vec::new(),
            histograms: None,
        };
        match samples.values {
            Values::Floats(values) => raw.values = values,
            Values::Histograms(values) => {
                raw.histograms = Some(Box::new(Histograms {
                    timestamps: std::mem::take(&mut raw.timestamps),
                    start_timestamps: raw.start_timestamps.take(),
                    values,
                }));
            }
            Values::Mixed(values) => raw.split(values),
        }
        raw
    }

    /// What a batch lends.
    pub(super) fn take(series: &mut Series) -> Self {
        let none = Samples::new(Vec::new(), Values::Floats(Vec::new()));
        Self::new(Series {
            labels: series.labels.clone(),
            samples: std::mem::replace(&mut series.samples, none),
        })
    }

    /// Gives the room for floats back to the batch.
    pub(super) fn give_back(self, series: &mut Series) {
        series.samples = Samples::new(self.timestamps, Values::Floats(self.values));
    }

    /// Tells the histograms which of them follow a reset, where that is wanted.
    fn find_resets_if(&mut self, wanted: bool) {
        if wanted && let Some(histograms) = &mut self.histograms {
            histograms.find_resets();
        }
    }

    /// How many samples there are.
    pub(super) fn len(&self) -> usize {
        let histograms = self.histograms.as_ref().map_or(0, |all| all.values.len());
        self.values.len() + histograms
    }

    /// Sorts the samples of both kinds into their columns.
    fn split(&mut self, values: Vec<SampleValue>) {
        let mut histograms = Histograms::default();
        let (mut float_starts, mut starts) = (Vec::new(), Vec::new());
        let times = std::mem::take(&mut self.timestamps);
        let start_of = self.start_timestamps.take().unwrap_or_default();
        for (at, (time, value)) in times.into_iter().zip(values).enumerate() {
            let start = start_of.get(at).copied();
            match value {
                SampleValue::Float(value) => {
                    self.timestamps.push(time);
                    float_starts.extend(start);
                    self.values.push(value);
                }
                SampleValue::Histogram(value) => {
                    histograms.timestamps.push(time);
                    starts.extend(start);
                    histograms.values.push(value);
                }
            }
        }
        self.start_timestamps = (!float_starts.is_empty()).then_some(float_starts);
        histograms.start_timestamps = (!starts.is_empty()).then_some(starts);
        self.histograms = Some(Box::new(histograms));
    }

    /// As how many more samples the histograms count.
    pub(super) fn histogram_samples(&self) -> u64 {
        let bytes = self.histograms.as_ref().map_or(0, |all| all.heap_bytes());
        (bytes / HISTOGRAM_BYTES_PER_SAMPLE) as u64
    }

    /// Leaves it open when counters began, unless that is wanted.
    fn forget_starts_unless(&mut self, wanted: bool) {
        if wanted {
            return;
        }
        self.start_timestamps = None;
        if let Some(histograms) = &mut self.histograms {
            histograms.start_timestamps = None;
        }
    }

    /// The samples without stale markers, which ranges do not see.
    fn drop_stale(&mut self) {
        if self.values.iter().any(|value| is_absent(*value)) {
            let stale: Vec<bool> = self.values.iter().map(|value| is_absent(*value)).collect();
            keep_fresh(&mut self.timestamps, &stale);
            self.start_timestamps
                .iter_mut()
                .for_each(|starts| keep_fresh(starts, &stale));
            keep_fresh(&mut self.values, &stale);
        }
        if let Some(all) = &mut self.histograms
            && all.values.iter().any(|value| value.is_stale())
        {
            let stale: Vec<bool> = all.values.iter().map(|value| value.is_stale()).collect();
            keep_fresh(&mut all.timestamps, &stale);
            all.start_timestamps
                .iter_mut()
                .for_each(|starts| keep_fresh(starts, &stale));
            keep_fresh(&mut all.values, &stale);
        }
    }

    /// The window of each step. Both ends only move ahead, since places do.
    pub(super) fn windows(
        &self,
        places: Places,
        range_ms: i64,
    ) -> impl Iterator<Item = Window<'_>> {
        let (mut floats, mut others) = (Edges::default(), Edges::default());
        (0..places.count).map(move |step| {
            let end_ms = places.at(step);
            let open = end_ms.saturating_sub(range_ms);
            let inside = floats.move_to(&self.timestamps, open, end_ms);
            let offset = inside.start;
            let histograms = match &self.histograms {
                None => HistogramWindow::default(),
                Some(all) => {
                    let inside = others.move_to(&all.timestamps, open, end_ms);
                    HistogramWindow {
                        offset: inside.start,
                        timestamps: all.timestamps.get(inside.clone()).unwrap_or_default(),
                        values: all.values.get(inside.clone()).unwrap_or_default(),
                        starts: all
                            .start_timestamps
                            .as_deref()
                            .and_then(|starts| starts.get(inside)),
                    }
                }
            };
            Window {
                timestamps: self.timestamps.get(inside.clone()).unwrap_or_default(),
                values: self.values.get(inside.clone()).unwrap_or_default(),
                starts: self
                    .start_timestamps
                    .as_deref()
                    .and_then(|starts| starts.get(inside)),
                offset,
                end_ms,
                range_ms,
                histograms,
            }
        })
    }
}

impl Histograms {
    /// Says of each histogram whether its counter was reset, where that is not known.
    fn find_resets(&mut self) {
        let mut hints = Vec::with_capacity(self.values.len());
        let mut before: Option<&Arc<Histogram>> = None;
        for now in &self.values {
            hints.push(match (now.reset_hint, before) {
                (ResetHint::Unknown, Some(before)) if now.is_reset_since(before) => {
                    ResetHint::Reset
                }
                (ResetHint::Unknown, Some(_)) => ResetHint::NotReset,
                (hint, _) => hint,
            });
            before = Some(now);
        }
        for (value, hint) in self.values.iter_mut().zip(hints) {
            if value.reset_hint != hint {
                Arc::make_mut(value).reset_hint = hint;
            }
        }
    }

    /// Where samples were left out between two, what is known of resets says nothing.
    fn forget_resets(&mut self) {
        for value in &mut self.values {
            if matches!(value.reset_hint, ResetHint::Reset | ResetHint::NotReset) {
                Arc::make_mut(value).reset_hint = ResetHint::Unknown;
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        self.values.iter().map(|value| value.heap_bytes()).sum()
    }
}

/// The ends of a window that slides over rising times.
#[derive(Debug, Default)]
pub(super) struct Edges {
    low: Edge,
    high: Edge,
}

/// The number of times up to a bound that only rises.
#[derive(Debug, Default)]
struct Edge {
    at: usize,
    /// By how many it moved last, which where samples are regular is by how many it moves next.
    moved: usize,
}

impl Edges {
    /// The places of the times in `(open, end]`.
    #[inline]
    pub(super) fn move_to(&mut self, times: &[i64], open: i64, end: i64) -> Range<usize> {
        self.high.move_to(times, end);
        self.low.move_to(times, open);
        self.low.at..self.high.at.max(self.low.at)
    }
}

impl Edge {
    #[inline]
    fn move_to(&mut self, times: &[i64], bound: i64) {
        let guess = self.at + self.moved;
        if let (Some(before), Some(after)) = (times.get(guess.wrapping_sub(1)), times.get(guess))
            && *before <= bound
            && bound < *after
        {
            self.at = guess;
            return;
        }
        let from = self.at;
        while times.get(self.at).is_some_and(|time| *time <= bound) {
            self.at += 1;
        }
        self.moved = self.at - from;
    }
}

impl Window<'_> {
    /// Its samples in order of time.
    fn samples(&self) -> Samples {
        if self.histograms.values.is_empty() {
            let values = Values::Floats(self.values.to_vec());
            return Samples::new(self.timestamps.to_vec(), values);
        }
        let (timestamps, values): (Vec<i64>, Vec<SampleValue>) = self.iter().unzip();
        Samples::new(timestamps, values.into())
    }

    /// Times and values of both kinds, in order of time.
    pub(super) fn iter(&self) -> impl Iterator<Item = Sample> {
        let mut floats = self.floats().peekable();
        let mut others = self.others().peekable();
        std::iter::from_fn(move || {
            let float_first = match (floats.peek(), others.peek()) {
                (Some((float, _)), Some((other, _))) => float < other,
                (float, _) => float.is_some(),
            };
            if float_first {
                floats.next()
            } else {
                others.next()
            }
        })
    }

    fn floats(&self) -> impl DoubleEndedIterator<Item = Sample> {
        let floats = self.timestamps.iter().zip(self.values);
        floats.map(|(time, value)| (*time, SampleValue::Float(*value)))
    }

    fn others(&self) -> impl DoubleEndedIterator<Item = Sample> {
        let others = self
            .histograms
            .timestamps
            .iter()
            .zip(self.histograms.values);
        others.map(|(time, value)| (*time, SampleValue::Histogram(Arc::clone(value))))
    }

    /// The first sample of either kind.
    pub(super) fn first(&self) -> Option<Sample> {
        self.iter().next()
    }

    /// The last two samples of either kind.
    pub(super) fn last_two(&self) -> (Option<Sample>, Option<Sample>) {
        let mut last: Vec<Sample> = self.floats().rev().take(2).collect();
        last.extend(self.others().rev().take(2));
        last.sort_by_key(|(time, _)| *time);
        let newest = last.pop();
        (last.pop(), newest)
    }

    /// The samples of both kinds in order of time, by their indices in the series.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let (mut float, mut other) = (0, 0);
        std::iter::from_fn(move || {
            let of_float = self.timestamps.get(float);
            let of_other = self.histograms.timestamps.get(other);
            let float_first = match (of_float, of_other) {
                (None, None) => return None,
                (Some(float), Some(other)) => float < other,
                (float, _) => float.is_some(),
            };
            let (next, offset) = if float_first {
                (&mut float, self.offset)
            } else {
                (&mut other, self.histograms.offset)
            };
            let place = offset + *next;
            *next += 1;
            Some(if float_first {
                Place::Float(place)
            } else {
                Place::Histogram(place)
            })
        })
    }
}

/// A sample by its index among those of its kind in the series.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Float(usize),
    Histogram(usize),
}

fn keep_fresh<T>(column: &mut Vec<T>, stale: &[bool]) {
    let mut stale = stale.iter();
    column.retain(|_| stale.next().is_some_and(|stale| !stale));
}
