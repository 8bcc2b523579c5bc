//! OTLP metrics as series: names as Prometheus writes them, resource attributes as `job`,
//! `instance` and `target_info`. The HTTP and gRPC handlers of `ingest` call [`translate`].

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    SummaryDataPoint, metric::Data, number_data_point,
};
use trine_storage::Labels;

use super::otlp_names::{Shape, label_name, metric_name};
use super::otlp_value::text;
use super::rejections::Rejections;

/// The flag of a point that says "nothing was measured": it becomes a stale marker.
const NO_RECORDED_VALUE: u32 = 1;

/// The value that says that a series has ended; Prometheus' own bit pattern.
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Resource attributes that `job` and `instance` are made of.
const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE_ID: &str = "service.instance.id";

/// Takes samples one by one: labels, milliseconds, value; an error is the text of a refusal.
pub trait Sink {
    /// Takes one sample.
    ///
    /// # Errors
    /// The text that says why it is refused.
    fn sample(&mut self, labels: &Labels, timestamp_ms: i64, value: f64) -> Result<(), String>;
}

/// Gives every sample of `request` to `sink` and says what was refused, counted in data points.
pub fn translate(request: &ExportMetricsServiceRequest, sink: &mut dyn Sink) -> Rejections {
    let mut rejections = Rejections::default();
    for resource in &request.resource_metrics {
        Translation::new(resource, sink, &mut rejections).run(resource);
    }
    rejections
}

/// Whether some point carries exemplars.
fn has_exemplars(metric: &Metric) -> bool {
    let numbers = |points: &[NumberDataPoint]| points.iter().any(|p| !p.exemplars.is_empty());
    match &metric.data {
        Some(Data::Gauge(gauge)) => numbers(&gauge.data_points),
        Some(Data::Sum(sum)) => numbers(&sum.data_points),
        Some(Data::Histogram(histogram)) => histogram
            .data_points
            .iter()
            .any(|point| !point.exemplars.is_empty()),
        _ => false,
    }
}

/// The translation of one resource's metrics.
struct Translation<'a> {
    sink: &'a mut dyn Sink,
    rejections: &'a mut Rejections,
    identity: Vec<(&'static str, String)>,
    /// First and last timestamp (milliseconds), for `target_info`.
    span: Option<(i64, i64)>,
}

impl<'a> Translation<'a> {
    fn new(
        resource: &ResourceMetrics,
        sink: &'a mut dyn Sink,
        rejections: &'a mut Rejections,
    ) -> Self {
        let attribute = |key: &str| {
            let attributes = &resource.resource.as_ref()?.attributes;
            let pair = attributes.iter().find(|pair| pair.key == key)?;
            Some(text(pair.value.as_ref())).filter(|value| !value.is_empty())
        };
        let job = match (attribute(SERVICE_NAMESPACE), attribute(SERVICE_NAME)) {
            (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
            (_, name) => name,
        };
        let identity = [("job", job), ("instance", attribute(SERVICE_INSTANCE_ID))]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        Self {
            sink,
            rejections,
            identity,
            span: None,
        }
    }

    fn run(&mut self, resource: &ResourceMetrics) {
        for metric in resource
            .scope_metrics
            .iter()
            .flat_map(|scope| &scope.metrics)
        {
            self.metric(metric);
        }
        self.target_info(resource);
    }

    fn metric(&mut self, metric: &Metric) {
        if has_exemplars(metric) {
            // Told as a warning: nothing but the exemplars is left out.
            let text = format!("metric {:?}: exemplars are not stored yet", metric.name);
            self.rejections.add(0, text);
        }
        let name = |shape| metric_name(&metric.name, &metric.unit, shape);
        match &metric.data {
            None => self
                .rejections
                .add(1, format!("metric {:?} holds no data", metric.name)),
            Some(Data::Gauge(gauge)) => self.numbers(&name(Shape::Gauge), &gauge.data_points),
            Some(Data::Sum(sum)) => {
                if is_cumulative(sum.aggregation_temporality) {
                    let shape = if sum.is_monotonic {
                        Shape::Counter
                    } else {
                        Shape::Gauge
                    };
                    self.numbers(&name(shape), &sum.data_points);
                } else {
                    self.refuse_delta(metric, sum.data_points.len());
                }
            }
            Some(Data::Histogram(histogram)) => {
                if is_cumulative(histogram.aggregation_temporality) {
                    for point in &histogram.data_points {
                        self.histogram(&name(Shape::Other), point);
                    }
                } else {
                    self.refuse_delta(metric, histogram.data_points.len());
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => self.rejections.add(
                histogram.data_points.len() as u64,
                format!(
                    "metric {:?} is an exponential histogram, which is not stored yet; use \
                     explicit buckets",
                    metric.name
                ),
            ),
            Some(Data::Summary(summary)) => {
                for point in &summary.data_points {
                    self.summary(&name(Shape::Other), point);
                }
            }
        }
    }

    fn refuse_delta(&mut self, metric: &Metric, points: usize) {
        let text = format!(
            "invalid temporality and type combination for metric {:?}: delta is not stored yet; \
             export cumulative values",
            metric.name
        );
        self.rejections.add(points as u64, text);
    }

    fn numbers(&mut self, name: &str, points: &[NumberDataPoint]) {
        for point in points {
            let value = match point.value {
                _ if point.flags & NO_RECORDED_VALUE != 0 => STALE,
                Some(number_data_point::Value::AsDouble(value)) => value,
                Some(number_data_point::Value::AsInt(value)) => value as f64,
                None => {
                    self.rejections
                        .add(1, format!("a point of {name:?} holds no value"));
                    continue;
                }
            };
            let series = Point::new(&point.attributes, point.time_unix_nano, point.flags);
            self.point(
                &series,
                &[Part {
                    name,
                    suffix: "",
                    extra: None,
                    value,
                }],
            );
        }
    }

    fn histogram(&mut self, name: &str, point: &HistogramDataPoint) {
        let series = Point::new(&point.attributes, point.time_unix_nano, point.flags);
        if point.bucket_counts.len() > point.explicit_bounds.len() + 1 {
            let text = format!("a histogram of {name:?} has more buckets than bounds");
            self.rejections.add(1, text);
            return;
        }
        let mut parts = Vec::with_capacity(point.explicit_bounds.len() + 3);
        let mut total = 0u64;
        for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
            total = total.saturating_add(*count);
            let extra = Some(("le", float_text(*bound)));
            parts.push(Part {
                name,
                suffix: "_bucket",
                extra,
                value: total as f64,
            });
        }
        let count = point.count as f64;
        let extra = Some(("le", "+Inf".to_owned()));
        parts.push(Part {
            name,
            suffix: "_bucket",
            extra,
            value: count,
        });
        parts.push(Part {
            name,
            suffix: "_count",
            extra: None,
            value: count,
        });
        if let Some(sum) = point.sum {
            parts.push(Part {
                name,
                suffix: "_sum",
                extra: None,
                value: sum,
            });
        }
        self.point(&series, &parts);
    }

    fn summary(&mut self, name: &str, point: &SummaryDataPoint) {
        let series = Point::new(&point.attributes, point.time_unix_nano, point.flags);
        let mut parts: Vec<Part<'_>> = point
            .quantile_values
            .iter()
            .map(|quantile| Part {
                name,
                suffix: "",
                extra: Some(("quantile", float_text(quantile.quantile))),
                value: quantile.value,
            })
            .collect();
        parts.push(Part {
            name,
            suffix: "_sum",
            extra: None,
            value: point.sum,
        });
        parts.push(Part {
            name,
            suffix: "_count",
            extra: None,
            value: point.count as f64,
        });
        self.point(&series, &parts);
    }

    /// Gives the parts of one data point to the sink; the point counts once, however many of its
    /// parts are refused.
    fn point(&mut self, point: &Point<'_>, parts: &[Part<'_>]) {
        let (first, last) = self
            .span
            .unwrap_or((point.timestamp_ms, point.timestamp_ms));
        self.span = Some((first.min(point.timestamp_ms), last.max(point.timestamp_ms)));
        let shared = self.labels(point.attributes);
        let mut refused = None;
        for part in parts {
            let mut labels = shared.clone();
            labels.insert(
                "__name__".to_owned(),
                format!("{}{}", part.name, part.suffix),
            );
            if let Some((name, value)) = &part.extra {
                labels.insert((*name).to_owned(), value.clone());
            }
            let value = if point.stale { STALE } else { part.value };
            let stored = Labels::from_pairs(&labels)
                .map_err(|error| error.to_string())
                .and_then(|labels| self.sink.sample(&labels, point.timestamp_ms, value));
            refused = refused.or(stored.err());
        }
        if let Some(text) = refused {
            self.rejections.add(1, text);
        }
    }

    /// The attributes as labels, with `job` and `instance`. Attributes whose names become the
    /// same are joined with `;` in the order of their keys.
    fn labels(&self, attributes: &[KeyValue]) -> BTreeMap<String, String> {
        let mut sorted: Vec<&KeyValue> = attributes.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        for pair in sorted {
            let name = label_name(&pair.key);
            if name.is_empty() || name == "__name__" {
                continue;
            }
            let value = text(pair.value.as_ref());
            match labels.get_mut(&name) {
                Some(earlier) => {
                    earlier.push(';');
                    earlier.push_str(&value);
                }
                None => {
                    labels.insert(name, value);
                }
            }
        }
        for (name, value) in &self.identity {
            labels.insert((*name).to_owned(), value.clone());
        }
        labels
    }

    /// The series `target_info` with the other attributes of the resource, at the first and the
    /// last time of its points.
    fn target_info(&mut self, resource: &ResourceMetrics) {
        let Some((first, last)) = self.span else {
            return;
        };
        let attributes = resource
            .resource
            .as_ref()
            .map_or(&[][..], |r| &r.attributes);
        let identifying = [SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_INSTANCE_ID];
        let others: Vec<KeyValue> = attributes
            .iter()
            .filter(|pair| !identifying.contains(&pair.key.as_str()))
            .cloned()
            .collect();
        if others.is_empty() || self.identity.is_empty() {
            return;
        }
        let mut labels = self.labels(&others);
        labels.insert("__name__".to_owned(), "target_info".to_owned());
        let Ok(labels) = Labels::from_pairs(&labels) else {
            return;
        };
        for timestamp in if first == last {
            vec![first]
        } else {
            vec![first, last]
        } {
            if let Err(text) = self.sink.sample(&labels, timestamp, 1.0) {
                self.rejections
                    .add(0, format!("target_info was not stored: {text}"));
            }
        }
    }
}

/// What the samples of one data point share.
struct Point<'a> {
    attributes: &'a [KeyValue],
    timestamp_ms: i64,
    stale: bool,
}

impl<'a> Point<'a> {
    fn new(attributes: &'a [KeyValue], time_unix_nano: u64, flags: u32) -> Self {
        let timestamp_ms = i64::try_from(time_unix_nano / 1_000_000).unwrap_or(i64::MAX);
        Self {
            attributes,
            timestamp_ms,
            stale: flags & NO_RECORDED_VALUE != 0,
        }
    }
}

/// One sample of a data point.
struct Part<'a> {
    name: &'a str,
    suffix: &'static str,
    extra: Option<(&'static str, String)>,
    value: f64,
}

fn is_cumulative(temporality: i32) -> bool {
    temporality == AggregationTemporality::Cumulative as i32
}

/// A bound as the value of `le` or `quantile`. Rust writes no exponents here; Prometheus' text
/// formats neither for the bounds that occur.
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
