//! Each kind of metric, what it becomes and what is refused by name.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, metric::Data, number_data_point, summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use trine_storage::Labels;

use super::{Sink, translate};

struct Lines(Vec<String>);

impl Sink for Lines {
    fn sample(&mut self, labels: &Labels, timestamp_ms: i64, value: f64) -> Result<(), String> {
        if labels.get("refuse").is_some() {
            return Err("refused on purpose".to_owned());
        }
        let value = match value.to_bits() {
            0x7ff0_0000_0000_0002 => "stale".to_owned(),
            _ => value.to_string(),
        };
        self.0.push(format!("{labels} {timestamp_ms} {value}"));
        Ok(())
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue {
        value: Some(Value::StringValue(value.into())),
    });
    KeyValue {
        key: key.into(),
        value,
        ..KeyValue::default()
    }
}

fn number(ms: u64, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: ms * 1_000_000,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

/// The samples and the refusals of metrics under one resource.
fn check(resource: &[(&str, &str)], metrics: Vec<(&str, &str, Data)>, expect: &[&str], told: &str) {
    let metrics = metrics
        .into_iter()
        .map(|(name, unit, data)| Metric {
            name: name.into(),
            unit: unit.into(),
            data: Some(data),
            ..Metric::default()
        })
        .collect();
    let attributes = resource
        .iter()
        .map(|(key, value)| attribute(key, value))
        .collect();
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    let mut lines = Lines(Vec::new());
    let rejections = translate(&request, &mut lines);
    assert_eq!(lines.0, expect);
    assert_eq!(rejections.text("; "), told);
}

#[test]
fn gauges_sums_and_the_resource() {
    let mut point = number(1500, 2.0);
    point.attributes = vec![
        attribute("http.route", "/"),
        attribute("b.x", "2"),
        attribute("b-x", "1"),
    ];
    check(
        &[
            ("service.name", "shop"),
            ("service.namespace", "eu"),
            ("service.instance.id", "i1"),
            ("host.name", "h"),
        ],
        vec![
            (
                "queue.size",
                "1",
                Data::Gauge(Gauge {
                    data_points: vec![point],
                }),
            ),
            (
                "requests",
                "{request}",
                Data::Sum(Sum {
                    data_points: vec![number(2000, 7.0)],
                    aggregation_temporality: 2,
                    is_monotonic: true,
                }),
            ),
        ],
        &[
            r#"{__name__="queue_size_ratio", b_x="1;2", http_route="/", instance="i1", job="eu/shop"} 1500 2"#,
            r#"{__name__="requests_total", instance="i1", job="eu/shop"} 2000 7"#,
            r#"{__name__="target_info", host_name="h", instance="i1", job="eu/shop"} 1500 1"#,
            r#"{__name__="target_info", host_name="h", instance="i1", job="eu/shop"} 2000 1"#,
        ],
        "",
    );
}

#[test]
fn histograms_and_summaries() {
    let histogram = HistogramDataPoint {
        time_unix_nano: 1_000_000,
        count: 6,
        sum: Some(4.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 10.0],
        ..HistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        time_unix_nano: 1_000_000,
        count: 3,
        sum: 9.0,
        quantile_values: vec![ValueAtQuantile {
            quantile: 0.99,
            value: 4.0,
        }],
        ..SummaryDataPoint::default()
    };
    let data_points = vec![histogram];
    check(
        &[("service.name", "shop")],
        vec![
            (
                "lat",
                "s",
                Data::Histogram(Histogram {
                    data_points,
                    aggregation_temporality: 2,
                }),
            ),
            (
                "old",
                "",
                Data::Summary(Summary {
                    data_points: vec![summary],
                }),
            ),
        ],
        &[
            r#"{__name__="lat_seconds_bucket", job="shop", le="0.5"} 1 1"#,
            r#"{__name__="lat_seconds_bucket", job="shop", le="10"} 1 3"#,
            r#"{__name__="lat_seconds_bucket", job="shop", le="+Inf"} 1 6"#,
            r#"{__name__="lat_seconds_count", job="shop"} 1 6"#,
            r#"{__name__="lat_seconds_sum", job="shop"} 1 4.5"#,
            r#"{__name__="old", job="shop", quantile="0.99"} 1 4"#,
            r#"{__name__="old_sum", job="shop"} 1 9"#,
            r#"{__name__="old_count", job="shop"} 1 3"#,
        ],
        "",
    );
}

#[test]
fn nothing_recorded_is_a_stale_marker() {
    let mut point = number(1, 0.0);
    (point.flags, point.value) = (1, None);
    check(
        &[],
        vec![(
            "up",
            "",
            Data::Gauge(Gauge {
                data_points: vec![point],
            }),
        )],
        &[r#"{__name__="up"} 1 stale"#],
        "",
    );
}

#[test]
fn what_cannot_be_stored_is_refused_by_name_and_the_rest_is_kept() {
    let delta = Sum {
        data_points: vec![number(1, 1.0), number(2, 1.0)],
        aggregation_temporality: 1,
        is_monotonic: true,
    };
    let exponential = ExponentialHistogram {
        data_points: vec![ExponentialHistogramDataPoint::default()],
        aggregation_temporality: 2,
    };
    let mut refused = number(1, 1.0);
    refused.attributes = vec![attribute("refuse", "me")];
    let mut empty = number(1, 1.0);
    empty.value = None;
    check(
        &[],
        vec![
            ("d", "", Data::Sum(delta)),
            ("e", "", Data::ExponentialHistogram(exponential)),
            (
                "g",
                "",
                Data::Gauge(Gauge {
                    data_points: vec![refused, empty, number(3, 3.0)],
                }),
            ),
        ],
        &[r#"{__name__="g"} 3 3"#],
        "invalid temporality and type combination for metric \"d\": delta is not stored yet; \
         export cumulative values; metric \"e\" is an exponential histogram, which is not stored \
         yet; use explicit buckets; refused on purpose; a point of \"g\" holds no value",
    );
}

#[test]
fn exemplars_are_told_and_their_points_stored() {
    let mut point = number(1, 1.0);
    point.exemplars = vec![Exemplar::default()];
    check(
        &[],
        vec![(
            "g",
            "",
            Data::Gauge(Gauge {
                data_points: vec![point],
            }),
        )],
        &[r#"{__name__="g"} 1 1"#],
        "metric \"g\": exemplars are not stored yet",
    );
}
