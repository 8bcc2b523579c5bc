//! OTLP metrics as series: names as Prometheus writes them, resource attributes as `job`,
//! `instance` and `target_info`, exponential histograms as native ones. The HTTP and gRPC handlers
//! of `ingest` call [`translate`] through `ingest::otlp`.

use trine_storage::labels::LabelsBuffer;
use trine_tsdb::{Metadata, MetricType};

use super::known_series::Print;
use super::metric_labels::Rules;
use super::metric_rows::{Extras, Sink};
use super::otlp_names::Shape;
use super::rejections::Rejections;
use crate::config::OtlpMetrics;
use crate::proto::otlp_metrics::{
    Attributes, Exemplar, ExponentialPoint, HistogramPoint, Kind, Metric, NumberPoint,
    Point as Sent, ResourceMetrics, ScopeMetrics, SummaryPoint, quantile, resources,
};
use crate::proto::wire::{Messages, WireError};

mod labels;
mod native;

use labels::{Names, PointLabels, ResourceLabels};

/// The number of the only temporality that is stored.
const CUMULATIVE: u32 = 2;

/// The flag of a point that says "nothing was measured": it becomes a stale marker.
const NO_RECORDED_VALUE: u32 = 1;

/// The value that says that a series has ended; Prometheus' own bit pattern.
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// The longest time between two samples of `target_info`, milliseconds: half of what a query looks
/// back, so that it is always found beside the samples of its resource.
const TARGET_INFO_STEP_MS: i64 = 150_000;

/// Samples of `target_info` that one request makes of a resource at most; those before the last
/// ones are left out.
const TARGET_INFO_SAMPLES_MAX: i64 = 1_000;

/// What became of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// What was refused, counted in data points.
    pub rejections: Rejections,
    /// How many data points the request has.
    pub points: u64,
}

/// Gives every sample of `request`, an `ExportMetricsServiceRequest`, to `sink`.
///
/// # Errors
/// [`WireError`] when it is none; what was given to `sink` before is to be forgotten.
pub fn translate(
    request: &[u8],
    settings: &OtlpMetrics,
    rules: &Rules<'_>,
    sink: &mut dyn Sink,
) -> Result<Translated, WireError> {
    let mut translation = Translation {
        settings,
        rules,
        sink,
        names: Names::new(settings.translation_strategy),
        attributes: Attributes::default(),
        labels: LabelsBuffer::default(),
        extras: Extras::default(),
        done: Translated::default(),
        span: None,
    };
    let mut read = Read::default();
    let mut resource = ResourceMetrics::default();
    let mut resources = resources(request);
    while let Some(message) = resources.next_message()? {
        resource.read(message)?;
        translation.resource(&resource, &mut read)?;
    }
    Ok(translation.done)
}

/// What points are read into.
#[derive(Debug, Default)]
struct Read<'m> {
    number: NumberPoint<'m>,
    histogram: HistogramPoint<'m>,
    exponential: ExponentialPoint<'m>,
    summary: SummaryPoint<'m>,
}

/// The translation of a request, `'m`.
struct Translation<'a, 'm> {
    settings: &'a OtlpMetrics,
    rules: &'a Rules<'a>,
    sink: &'a mut dyn Sink,
    names: Names<'m>,
    /// Those of a point.
    attributes: Attributes<'m>,
    labels: LabelsBuffer,
    extras: Extras,
    done: Translated,
    /// First and last timestamp (milliseconds) of a resource, for `target_info`.
    span: Option<(i64, i64)>,
}

/// Why a point is not stored.
#[derive(Debug)]
enum Fault {
    /// Because of what it says; the text says what.
    Refused(String),
    /// The request is none.
    Wire(WireError),
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self::Refused(text)
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// A metric with what its series share.
#[derive(Debug, Clone, Copy)]
struct Series<'a> {
    /// The name of the metric.
    name: &'a str,
    shared: &'a ResourceLabels,
    /// What stands for both; `None` when series are not remembered.
    print: Option<Print>,
}

/// What the samples of one data point share.
#[derive(Debug)]
struct Point<'a, 'm> {
    series: Series<'a>,
    sent: &'a Sent<'m>,
    /// What stands for the point among those of all metrics.
    print: Option<Print>,
    /// Read when a series of the point is not known.
    labels: Option<PointLabels<'a>>,
    timestamp: i64,
    /// When its counter began, 0 when that is not known.
    start: i64,
    is_stale: bool,
}

impl Point<'_, '_> {
    fn value(&self, value: f64) -> f64 {
        if self.is_stale { STALE } else { value }
    }
}

/// Which of a data point's series a sample belongs to.
#[derive(Debug, Clone, Copy, Default)]
struct Of<'a> {
    suffix: &'a str,
    /// The label that tells it from the others, and its value.
    extra: Option<(&'a str, f64)>,
}

impl<'m> Translation<'_, 'm> {
    fn resource(
        &mut self,
        resource: &ResourceMetrics<'m>,
        read: &mut Read<'m>,
    ) -> Result<(), WireError> {
        self.span = None;
        let attributes = &resource.attributes;
        let mut shared = ResourceLabels::of(attributes, self.settings, &mut self.names);
        let of_resource = self.sink.print(resource.resource);
        let mut scopes = resource.scopes();
        while let Some(message) = scopes.next_message()? {
            let scope = ScopeMetrics::read(message)?;
            let mut print = of_resource;
            if self.settings.promote_scope_metadata {
                shared.set_scope(&scope, &self.names)?;
                print = self.print_after(print, scope.scope.unwrap_or_default());
                print = self.print_after(print, scope.schema_url.as_bytes());
            }
            let mut metrics = scope.metrics();
            while let Some(message) = metrics.next_message()? {
                self.metric(&Metric::read(message)?, &shared, print, read)?;
            }
        }
        self.target_info(resource, &shared);
        Ok(())
    }

    /// What stands for things in their order, of which `print` is that of those before `next`.
    fn print_after(&self, print: Option<Print>, next: &[u8]) -> Option<Print> {
        Some(print?.and(self.sink.print(next)?))
    }

    fn metric(
        &mut self,
        metric: &Metric<'m>,
        shared: &ResourceLabels,
        print: Option<Print>,
        read: &mut Read<'m>,
    ) -> Result<(), WireError> {
        let Some(kind) = metric.kind else {
            self.done.points += 1;
            let text = format!("metric {:?} holds no data", metric.name);
            self.done.rejections.add(1, text);
            return Ok(());
        };
        let count = metric.points_count as u64;
        self.done.points += count;
        let (type_, shape) = match kind {
            Kind::Sum if metric.is_monotonic => (MetricType::Counter, Shape::Counter),
            Kind::Gauge | Kind::Sum => (MetricType::Gauge, Shape::Gauge),
            Kind::Histogram | Kind::ExponentialHistogram => (MetricType::Histogram, Shape::Other),
            Kind::Summary => (MetricType::Summary, Shape::Other),
        };
        if !matches!(kind, Kind::Gauge | Kind::Summary) && metric.temporality != CUMULATIVE {
            let text = format!(
                "invalid temporality and type combination for metric {:?}: only cumulative values \
                 are stored; set the exporter's temporality preference to cumulative",
                metric.name
            );
            self.done.rejections.add(count, text);
            return Ok(());
        }
        let strategy = self.settings.translation_strategy;
        let name = strategy.metric_name(metric.name, metric.unit, shape);
        if name.is_empty() {
            let text = format!("nothing is left of the name of metric {:?}", metric.name);
            self.done.rejections.add(count, text);
            return Ok(());
        }
        if count == 0 {
            return Ok(());
        }
        self.sink.metadata(
            &name,
            Metadata {
                kind: type_,
                help: metric.description.to_owned(),
                unit: strategy.unit_name(metric.unit),
            },
        );
        let series = Series {
            name: &name,
            shared,
            print: self.print_after(print, name.as_bytes()),
        };
        let mut points = metric.points();
        while let Some(message) = points.next_message()? {
            match kind {
                Kind::Gauge | Kind::Sum => {
                    let sent = &mut read.number;
                    sent.read(message)?;
                    if type_ == MetricType::Gauge {
                        // It does not count since a time.
                        sent.point.start_ns = 0;
                    }
                    self.point(series, &sent.point, |own, point| own.number(point, sent))?;
                }
                Kind::Histogram => {
                    let sent = &mut read.histogram;
                    sent.read(message)?;
                    self.point(series, &sent.point, |own, point| {
                        if own.settings.convert_histograms_to_nhcb {
                            let histogram = native::custom(sent, point.is_stale)?;
                            own.native(point, histogram, &sent.point.exemplars)
                        } else {
                            own.histogram(point, sent)
                        }
                    })?;
                }
                Kind::ExponentialHistogram => {
                    let sent = &mut read.exponential;
                    sent.read(message)?;
                    self.point(series, &sent.point, |own, point| {
                        let histogram = native::exponential(sent, point.is_stale)?;
                        own.native(point, histogram, &sent.point.exemplars)
                    })?;
                }
                Kind::Summary => {
                    let sent = &mut read.summary;
                    sent.read(message)?;
                    self.point(series, &sent.point, |own, point| own.summary(point, sent))?;
                }
            }
        }
        Ok(())
    }

    /// Translates one data point with `each`; it counts once, however many of its samples are
    /// refused.
    fn point(
        &mut self,
        series: Series<'_>,
        sent: &Sent<'m>,
        each: impl FnOnce(&mut Self, &mut Point<'_, 'm>) -> Result<(), Fault>,
    ) -> Result<(), WireError> {
        let timestamp = milliseconds(sent.time_ns);
        let start = milliseconds(sent.start_ns);
        let (first, last) = self.span.unwrap_or((timestamp, timestamp));
        self.span = Some((first.min(timestamp), last.max(timestamp)));
        let attributes = &sent.attributes;
        let mut print = series.print;
        if attributes.count > attributes.list.len() {
            print = None;
        }
        for attribute in &attributes.list {
            print = self.print_after(print, attribute);
        }
        let mut point = Point {
            series,
            sent,
            print,
            labels: None,
            timestamp,
            // A counter that begins after it was read tells nothing.
            start: if start < timestamp { start } else { 0 },
            is_stale: sent.flags & NO_RECORDED_VALUE != 0,
        };
        let done = each(self, &mut point);
        match done {
            Ok(()) => Ok(()),
            Err(Fault::Wire(error)) => Err(error),
            Err(Fault::Refused(text)) => {
                self.extras.forget();
                self.done.rejections.add(1, text);
                Ok(())
            }
        }
    }

    fn number(&mut self, point: &mut Point<'_, 'm>, sent: &NumberPoint<'_>) -> Result<(), Fault> {
        let value = match sent.value {
            _ if point.is_stale => STALE,
            Some(value) => value,
            None => return Err(format!("a point of {:?} holds no value", point.series.name).into()),
        };
        let exemplars = read_exemplars(&sent.point.exemplars)?;
        self.sample(point, Of::default(), value, &exemplars)
    }

    /// The series of a classic histogram. An exemplar is with the bucket that it was counted in.
    fn histogram(
        &mut self,
        point: &mut Point<'_, 'm>,
        sent: &HistogramPoint<'_>,
    ) -> Result<(), Fault> {
        if sent.bucket_counts.len() > sent.explicit_bounds.len() + 1 {
            let name = point.series.name;
            let text = format!("a histogram of {name:?} has more buckets than bounds");
            return Err(text.into());
        }
        let mut refused = Ok(());
        let mut exemplars = read_exemplars(&sent.point.exemplars)?;
        exemplars.sort_by(|a, b| measured(a).total_cmp(&measured(b)));
        let mut exemplars = exemplars.as_slice();
        let mut bucket = |own: &mut Self, bound: f64, count: f64| {
            if refused.is_err() {
                return;
            }
            let inside = exemplars.partition_point(|exemplar| measured(exemplar) <= bound);
            let (inside, above) = exemplars.split_at(inside);
            exemplars = above;
            let of = Of {
                suffix: "_bucket",
                extra: Some(("le", bound)),
            };
            refused = own.sample(point, of, point.value(count), inside);
        };
        let mut total = 0u64;
        for (bound, count) in sent.explicit_bounds.iter().zip(&sent.bucket_counts) {
            total = total.saturating_add(*count);
            // Not finite is only the last bucket, which follows.
            if bound.is_finite() {
                bucket(self, *bound, total as f64);
            }
        }
        bucket(self, f64::INFINITY, sent.count as f64);
        refused?;
        self.total(point, "_count", sent.count as f64)?;
        match sent.sum {
            Some(sum) => self.total(point, "_sum", sum),
            None => Ok(()),
        }
    }

    fn summary(&mut self, point: &mut Point<'_, 'm>, sent: &SummaryPoint<'_>) -> Result<(), Fault> {
        let mut quantiles = sent.quantiles.clone();
        while let Some(message) = quantiles.next_message()? {
            let (at, value) = quantile(message)?;
            let of = Of {
                suffix: "",
                extra: Some(("quantile", at)),
            };
            self.sample(point, of, point.value(value), &[])?;
        }
        self.total(point, "_sum", sent.sum)?;
        self.total(point, "_count", sent.count as f64)
    }

    fn native(
        &mut self,
        point: &mut Point<'_, 'm>,
        histogram: trine_tsdb::Histogram,
        exemplars: &Messages<'_>,
    ) -> Result<(), Fault> {
        self.extras.forget();
        let row = (point.timestamp, point.start, histogram.into());
        self.extras.histograms.push(row);
        let exemplars = read_exemplars(exemplars)?;
        self.give(point, Of::default(), &[], &exemplars)
    }

    fn total(&mut self, point: &mut Point<'_, 'm>, suffix: &str, value: f64) -> Result<(), Fault> {
        let of = Of {
            suffix,
            extra: None,
        };
        self.sample(point, of, point.value(value), &[])
    }

    fn sample(
        &mut self,
        point: &mut Point<'_, 'm>,
        of: Of<'_>,
        value: f64,
        exemplars: &[Exemplar<'_>],
    ) -> Result<(), Fault> {
        self.extras.forget();
        self.give(point, of, &[(point.timestamp, value)], exemplars)
    }

    /// Gives samples, or the histogram that waits in `extras`, to the sink.
    fn give(
        &mut self,
        point: &mut Point<'_, 'm>,
        of: Of<'_>,
        samples: &[(i64, f64)],
        exemplars: &[Exemplar<'_>],
    ) -> Result<(), Fault> {
        for exemplar in exemplars {
            if let Err(text) = native::read_exemplar(exemplar, samples, &mut self.extras) {
                let text = format!("an exemplar was not stored: {text}");
                self.done.rejections.warn(text);
            }
        }
        let starts = [point.start];
        let has_starts = point.start != 0 && !samples.is_empty();
        let starts: &[i64] = if has_starts { &starts } else { &[] };
        let print = self.print_of(point, of);
        let mut rows = self.extras.rows(samples, starts);
        if print.is_some_and(|print| self.sink.known(print, &mut rows)) {
            return Ok(());
        }
        let labels = match &point.labels {
            Some(labels) => labels,
            None => {
                let attributes = &mut self.attributes;
                point.sent.attributes.read(attributes)?;
                let shared = point.series.shared;
                let labels = PointLabels::of(attributes, shared, &mut self.names)?;
                point.labels.insert(labels)
            }
        };
        let (rules, out) = (self.rules, &mut self.labels);
        let value = of.extra.map(|(_, value)| float_text(value));
        let extra = of.extra.map(|(name, _)| name).zip(value.as_deref());
        labels.with(point.series.name, of.suffix, extra, |pairs| {
            rules.encode(pairs, pairs.len(), out)
        })?;
        let mut rows = self.extras.rows(samples, starts);
        self.sink.series(print, &self.labels, &mut rows);
        Ok(())
    }

    /// What stands for a series of a point. It ends with nothing, which no print of another
    /// protocol does.
    fn print_of(&self, point: &Point<'_, 'm>, of: Of<'_>) -> Option<Print> {
        let mut print = self.print_after(point.print, of.suffix.as_bytes())?;
        if let Some((_, value)) = of.extra {
            print = print.and(self.sink.print(&value.to_bits().to_le_bytes())?);
        }
        Some(print.and(Print::NOTHING))
    }

    /// The series `target_info` with the other attributes of the resource, from the first to the
    /// last time of its points.
    fn target_info(&mut self, resource: &ResourceMetrics<'m>, shared: &ResourceLabels) {
        let Some((first, last)) = self.span else {
            return;
        };
        let attributes = &resource.attributes;
        let labels = shared.target_info(attributes, self.settings, &mut self.names);
        let Some(labels) = labels else {
            return;
        };
        let steps = last.saturating_sub(first) / TARGET_INFO_STEP_MS;
        let from = match steps < TARGET_INFO_SAMPLES_MAX {
            true => first,
            false => last - TARGET_INFO_STEP_MS * (TARGET_INFO_SAMPLES_MAX - 1),
        };
        let mut samples = Vec::new();
        let mut timestamp = from;
        while timestamp < last {
            samples.push((timestamp, 1.0));
            timestamp = timestamp.saturating_add(TARGET_INFO_STEP_MS);
        }
        samples.push((last, 1.0));
        let (rules, out) = (self.rules, &mut self.labels);
        let named = labels.and_then(|labels| {
            labels.with("target_info", "", None, |pairs| {
                rules.encode(pairs, pairs.len(), out)
            })
        });
        if let Err(text) = named {
            let text = format!("target_info was not stored: {text}");
            return self.done.rejections.warn(text);
        }
        self.extras.forget();
        let mut rows = self.extras.rows(&samples, &[]);
        self.sink.series(None, &self.labels, &mut rows);
    }
}

fn milliseconds(nanoseconds: u64) -> i64 {
    (nanoseconds / 1_000_000).cast_signed()
}

fn read_exemplars<'m>(messages: &Messages<'m>) -> Result<Vec<Exemplar<'m>>, WireError> {
    let mut messages = messages.clone();
    let mut exemplars = Vec::new();
    while let Some(message) = messages.next_message()? {
        exemplars.push(Exemplar::read(message)?);
    }
    Ok(exemplars)
}

fn measured(exemplar: &Exemplar<'_>) -> f64 {
    exemplar.value.unwrap_or(0.0)
}

/// A bound as the value of `le` or `quantile`. Rust writes no exponents here, and neither does
/// Prometheus.
fn float_text(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests;
