//! OTLP metrics as series: names as Prometheus writes them, resource attributes as `job`,
//! `instance` and `target_info`, exponential histograms as native ones. The HTTP and gRPC handlers
//! of `ingest` call [`translate`] through `ingest::otlp`.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, SummaryDataPoint, exemplar, metric::Data, number_data_point,
};
use trine_storage::labels::LabelsBuffer;
use trine_tsdb::{Metadata, MetricType};

use super::metric_labels::Rules;
use super::metric_rows::{Extras, Sink};
use super::otlp_names::Shape;
use super::rejections::Rejections;
use crate::config::OtlpMetrics;

mod labels;
mod native;

use labels::{Names, PointLabels, ResourceLabels};

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

/// Gives every sample of `request` to `sink` and says what was refused, counted in data points.
pub fn translate(
    request: &ExportMetricsServiceRequest,
    settings: &OtlpMetrics,
    rules: &Rules<'_>,
    sink: &mut dyn Sink,
) -> Rejections {
    let mut rejections = Rejections::default();
    let mut names = Names::new(settings.translation_strategy);
    for resource in &request.resource_metrics {
        let mut translation = Translation {
            settings,
            rules,
            sink: &mut *sink,
            names: &mut names,
            labels: LabelsBuffer::default(),
            extras: Extras::default(),
            rejections: &mut rejections,
            span: None,
        };
        translation.resource(resource);
    }
    rejections
}

/// How many data points a request has.
pub fn points(request: &ExportMetricsServiceRequest) -> u64 {
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|r| &r.scope_metrics);
    let metrics = scopes.flat_map(|scope| &scope.metrics);
    let count = metrics.map(|metric| match &metric.data {
        None => 1,
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
    });
    count.sum::<usize>() as u64
}

/// The translation of one resource's metrics.
struct Translation<'a> {
    settings: &'a OtlpMetrics,
    rules: &'a Rules<'a>,
    sink: &'a mut dyn Sink,
    names: &'a mut Names,
    labels: LabelsBuffer,
    extras: Extras,
    rejections: &'a mut Rejections,
    /// First and last timestamp (milliseconds), for `target_info`.
    span: Option<(i64, i64)>,
}

/// What the samples of one data point share.
#[derive(Debug, Clone, Copy)]
struct Point<'a> {
    /// The name of its metric.
    metric: &'a str,
    labels: &'a PointLabels<'a>,
    timestamp: i64,
    /// When its counter began, 0 when that is not known.
    start: i64,
    is_stale: bool,
}

impl Point<'_> {
    fn value(&self, value: f64) -> f64 {
        if self.is_stale { STALE } else { value }
    }
}

/// Which of a data point's series a sample belongs to.
#[derive(Debug, Clone, Copy, Default)]
struct Of<'a> {
    suffix: &'a str,
    extra: Option<(&'a str, &'a str)>,
}

impl Translation<'_> {
    fn resource(&mut self, resource: &ResourceMetrics) {
        let attributes = resource.resource.as_ref().map(|r| r.attributes.as_slice());
        let attributes = attributes.unwrap_or_default();
        let mut shared = ResourceLabels::of(attributes, self.settings, self.names);
        for scope in &resource.scope_metrics {
            if self.settings.promote_scope_metadata {
                shared.set_scope(scope, self.names);
            }
            for metric in &scope.metrics {
                self.metric(metric, &shared);
            }
        }
        self.target_info(attributes, &shared);
    }

    fn metric(&mut self, metric: &Metric, shared: &ResourceLabels) {
        let Some(data) = &metric.data else {
            let text = format!("metric {:?} holds no data", metric.name);
            return self.rejections.add(1, text);
        };
        let (kind, shape, temporality, count) = match data {
            Data::Gauge(gauge) => (
                MetricType::Gauge,
                Shape::Gauge,
                None,
                gauge.data_points.len(),
            ),
            Data::Sum(sum) => {
                let temporality = Some(sum.aggregation_temporality);
                let (kind, shape) = match sum.is_monotonic {
                    true => (MetricType::Counter, Shape::Counter),
                    false => (MetricType::Gauge, Shape::Gauge),
                };
                (kind, shape, temporality, sum.data_points.len())
            }
            Data::Histogram(histogram) => {
                let temporality = Some(histogram.aggregation_temporality);
                let count = histogram.data_points.len();
                (MetricType::Histogram, Shape::Other, temporality, count)
            }
            Data::ExponentialHistogram(histogram) => {
                let temporality = Some(histogram.aggregation_temporality);
                let count = histogram.data_points.len();
                (MetricType::Histogram, Shape::Other, temporality, count)
            }
            Data::Summary(summary) => {
                let count = summary.data_points.len();
                (MetricType::Summary, Shape::Other, None, count)
            }
        };
        if temporality.is_some_and(|found| found != AggregationTemporality::Cumulative as i32) {
            let text = format!(
                "invalid temporality and type combination for metric {:?}: only cumulative values \
                 are stored; set the exporter's temporality preference to cumulative",
                metric.name
            );
            return self.rejections.add(count as u64, text);
        }
        let strategy = self.settings.translation_strategy;
        let name = strategy.metric_name(&metric.name, &metric.unit, shape);
        if name.is_empty() {
            let text = format!("nothing is left of the name of metric {:?}", metric.name);
            return self.rejections.add(count as u64, text);
        }
        if count == 0 {
            return;
        }
        self.sink.metadata(
            &name,
            Metadata {
                kind,
                help: metric.description.clone(),
                unit: strategy.unit_name(&metric.unit),
            },
        );
        self.points(&name, data, shared);
    }

    fn points(&mut self, name: &str, data: &Data, shared: &ResourceLabels) {
        match data {
            Data::Gauge(gauge) => {
                for point in &gauge.data_points {
                    self.number(name, point, shared, Counts::No);
                }
            }
            Data::Sum(sum) => {
                let counts = if sum.is_monotonic {
                    Counts::Yes
                } else {
                    Counts::No
                };
                for point in &sum.data_points {
                    self.number(name, point, shared, counts);
                }
            }
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    let times = (
                        point.start_time_unix_nano,
                        point.time_unix_nano,
                        point.flags,
                    );
                    let labels = PointLabels::of(&point.attributes, shared, self.names);
                    self.point(name, labels, times, |own, shared| {
                        if own.settings.convert_histograms_to_nhcb {
                            let histogram = native::custom(point, shared.is_stale)?;
                            own.native(shared, histogram, &point.exemplars)
                        } else {
                            own.histogram(shared, point)
                        }
                    });
                }
            }
            Data::ExponentialHistogram(histogram) => {
                for point in &histogram.data_points {
                    self.exponential(name, point, shared);
                }
            }
            Data::Summary(summary) => {
                for point in &summary.data_points {
                    let times = (
                        point.start_time_unix_nano,
                        point.time_unix_nano,
                        point.flags,
                    );
                    let labels = PointLabels::of(&point.attributes, shared, self.names);
                    self.point(name, labels, times, |own, shared| {
                        own.summary(shared, point)
                    });
                }
            }
        }
    }

    /// Translates one data point with `each`; it counts once, however many of its samples are
    /// refused.
    fn point(
        &mut self,
        metric: &str,
        labels: Result<PointLabels<'_>, String>,
        (start_ns, timestamp_ns, flags): (u64, u64, u32),
        each: impl FnOnce(&mut Self, &Point<'_>) -> Result<(), String>,
    ) {
        let timestamp = milliseconds(timestamp_ns);
        let start = milliseconds(start_ns);
        let (first, last) = self.span.unwrap_or((timestamp, timestamp));
        self.span = Some((first.min(timestamp), last.max(timestamp)));
        let done = labels.and_then(|labels| {
            let point = Point {
                metric,
                labels: &labels,
                timestamp,
                // A counter that begins after it was read tells nothing.
                start: if start < timestamp { start } else { 0 },
                is_stale: flags & NO_RECORDED_VALUE != 0,
            };
            each(self, &point)
        });
        if let Err(text) = done {
            self.extras.forget();
            self.rejections.add(1, text);
        }
    }

    fn number(
        &mut self,
        name: &str,
        point: &NumberDataPoint,
        shared: &ResourceLabels,
        counts: Counts,
    ) {
        let start = match counts {
            Counts::Yes => point.start_time_unix_nano,
            Counts::No => 0,
        };
        let times = (start, point.time_unix_nano, point.flags);
        let labels = PointLabels::of(&point.attributes, shared, self.names);
        self.point(name, labels, times, |own, shared| {
            let value = match point.value {
                _ if shared.is_stale => STALE,
                Some(number_data_point::Value::AsDouble(value)) => value,
                Some(number_data_point::Value::AsInt(value)) => value as f64,
                None => return Err(format!("a point of {name:?} holds no value")),
            };
            let exemplars: Vec<&Exemplar> = point.exemplars.iter().collect();
            own.sample(shared, Of::default(), value, &exemplars)
        });
    }

    /// The series of a classic histogram. An exemplar is with the bucket that it was counted in.
    fn histogram(&mut self, point: &Point<'_>, sent: &HistogramDataPoint) -> Result<(), String> {
        if sent.bucket_counts.len() > sent.explicit_bounds.len() + 1 {
            let name = point.metric;
            return Err(format!(
                "a histogram of {name:?} has more buckets than bounds"
            ));
        }
        let mut refused = Ok(());
        let mut exemplars: Vec<&Exemplar> = sent.exemplars.iter().collect();
        exemplars.sort_by(|a, b| measured(a).total_cmp(&measured(b)));
        let mut exemplars = exemplars.as_slice();
        let mut bucket = |own: &mut Self, bound: &str, up_to: f64, count: f64| {
            let inside = exemplars.partition_point(|exemplar| measured(exemplar) <= up_to);
            let (inside, above) = exemplars.split_at(inside);
            exemplars = above;
            let of = Of {
                suffix: "_bucket",
                extra: Some(("le", bound)),
            };
            let stored = own.sample(point, of, point.value(count), inside);
            if refused.is_ok() {
                refused = stored;
            }
        };
        let mut total = 0u64;
        for (bound, count) in sent.explicit_bounds.iter().zip(&sent.bucket_counts) {
            total = total.saturating_add(*count);
            // Not finite is only the last bucket, which follows.
            if bound.is_finite() {
                bucket(self, &float_text(*bound), *bound, total as f64);
            }
        }
        bucket(self, "+Inf", f64::INFINITY, sent.count as f64);
        refused?;
        self.total(point, "_count", sent.count as f64)?;
        match sent.sum {
            Some(sum) => self.total(point, "_sum", sum),
            None => Ok(()),
        }
    }

    fn summary(&mut self, point: &Point<'_>, sent: &SummaryDataPoint) -> Result<(), String> {
        for quantile in &sent.quantile_values {
            let of = Of {
                suffix: "",
                extra: Some(("quantile", &float_text(quantile.quantile))),
            };
            self.sample(point, of, point.value(quantile.value), &[])?;
        }
        self.total(point, "_sum", sent.sum)?;
        self.total(point, "_count", sent.count as f64)
    }

    fn exponential(
        &mut self,
        name: &str,
        point: &ExponentialHistogramDataPoint,
        shared: &ResourceLabels,
    ) {
        let times = (
            point.start_time_unix_nano,
            point.time_unix_nano,
            point.flags,
        );
        let labels = PointLabels::of(&point.attributes, shared, self.names);
        self.point(name, labels, times, |own, shared| {
            let histogram = native::exponential(point, shared.is_stale)?;
            own.native(shared, histogram, &point.exemplars)
        });
    }

    fn native(
        &mut self,
        point: &Point<'_>,
        histogram: trine_tsdb::Histogram,
        exemplars: &[Exemplar],
    ) -> Result<(), String> {
        self.extras.forget();
        let row = (point.timestamp, point.start, histogram.into());
        self.extras.histograms.push(row);
        let exemplars: Vec<&Exemplar> = exemplars.iter().collect();
        self.give(point, Of::default(), &[], &exemplars)
    }

    fn total(&mut self, point: &Point<'_>, suffix: &str, value: f64) -> Result<(), String> {
        let of = Of {
            suffix,
            extra: None,
        };
        self.sample(point, of, point.value(value), &[])
    }

    fn sample(
        &mut self,
        point: &Point<'_>,
        of: Of<'_>,
        value: f64,
        exemplars: &[&Exemplar],
    ) -> Result<(), String> {
        self.extras.forget();
        self.give(point, of, &[(point.timestamp, value)], exemplars)
    }

    /// Gives samples, or the histogram that waits in `extras`, to the sink.
    fn give(
        &mut self,
        point: &Point<'_>,
        of: Of<'_>,
        samples: &[(i64, f64)],
        exemplars: &[&Exemplar],
    ) -> Result<(), String> {
        for exemplar in exemplars {
            if let Err(text) = native::read_exemplar(exemplar, samples, &mut self.extras) {
                let text = format!("an exemplar was not stored: {text}");
                self.rejections.warn(text);
            }
        }
        let (metric, labels) = (point.metric, point.labels);
        let rules = self.rules;
        let out = &mut self.labels;
        labels.with(metric, of.suffix, of.extra, |pairs| {
            rules.encode(pairs, pairs.len(), out)
        })?;
        let starts = [point.start];
        let known = point.start != 0 && !samples.is_empty();
        let mut rows = self.extras.rows(samples, if known { &starts } else { &[] });
        self.sink.series(None, &self.labels, &mut rows);
        Ok(())
    }

    /// The series `target_info` with the other attributes of the resource, from the first to the
    /// last time of its points.
    fn target_info(
        &mut self,
        attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
        shared: &ResourceLabels,
    ) {
        let Some((first, last)) = self.span else {
            return;
        };
        let Some(labels) = shared.target_info(attributes, self.settings, self.names) else {
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
            return self.rejections.warn(text);
        }
        self.extras.forget();
        let mut rows = self.extras.rows(&samples, &[]);
        self.sink.series(None, &self.labels, &mut rows);
    }
}

/// Whether the points of a metric count since a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Yes,
    No,
}

fn milliseconds(nanoseconds: u64) -> i64 {
    (nanoseconds / 1_000_000).cast_signed()
}

fn measured(exemplar: &Exemplar) -> f64 {
    match exemplar.value {
        Some(exemplar::Value::AsDouble(value)) => value,
        Some(exemplar::Value::AsInt(value)) => value as f64,
        None => 0.0,
    }
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
