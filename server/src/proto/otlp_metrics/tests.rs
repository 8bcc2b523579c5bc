//! The reader against generated code: whatever one reads, the other reads; and what damage does.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::metrics::v1 as sent;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{exemplar, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message;

use super::{
    ATTRIBUTES_READ_MAX, Attribute, AttributeValue, Attributes, Exemplar, ExponentialPoint,
    HistogramPoint, Kind, Metric, NumberPoint, Point, ResourceMetrics, SIDE_BUCKETS_MAX, Scope,
    ScopeMetrics, Side, SummaryPoint, quantile, resources,
};
use crate::proto::wire::WireError;

/// All that the reader finds in a request, a line for each thing.
fn read(message: &[u8]) -> Result<Vec<String>, WireError> {
    let mut lines = Vec::new();
    let (mut resource, mut all) = (ResourceMetrics::default(), resources(message));
    let (mut number, mut histogram) = (NumberPoint::default(), HistogramPoint::default());
    let (mut exponential, mut summary) = (ExponentialPoint::default(), SummaryPoint::default());
    while let Some(message) = all.next_message()? {
        resource.read(message)?;
        lines.push(format!("resource {}", attributes(&resource.attributes)));
        let mut scopes = resource.scopes();
        while let Some(message) = scopes.next_message()? {
            let metrics = ScopeMetrics::read(message)?;
            let scope = metrics.scope.map(Scope::read).transpose()?;
            let scope =
                scope.map(|scope| (scope.name, scope.version, attributes(&scope.attributes)));
            lines.push(format!("scope {:?} {scope:?}", metrics.schema_url));
            let mut metrics = metrics.metrics();
            while let Some(message) = metrics.next_message()? {
                let metric = Metric::read(message)?;
                let texts = (metric.name, metric.description, metric.unit);
                let (kind, temporality) = (metric.kind, metric.temporality.cast_signed());
                let grows = metric.is_monotonic;
                let count = metric.points_count;
                lines.push(format!("{texts:?} {kind:?} {temporality} {grows} {count}"));
                let mut points = metric.points();
                while let Some(message) = points.next_message()? {
                    let (shared, own) = match kind {
                        None => panic!("points of no kind"),
                        Some(Kind::Gauge | Kind::Sum) => {
                            number.read(message)?;
                            (
                                &number.point,
                                format!("{:?}", number.value.map(f64::to_bits)),
                            )
                        }
                        Some(Kind::Histogram) => {
                            histogram.read(message)?;
                            let bounds = bits(&histogram.explicit_bounds);
                            let own = (
                                histogram.count,
                                histogram.sum.map(f64::to_bits),
                                &histogram.bucket_counts,
                                bounds,
                            );
                            (&histogram.point, format!("{own:?}"))
                        }
                        Some(Kind::ExponentialHistogram) => {
                            let read = &mut exponential;
                            read.read(message)?;
                            let side = |side: &Side| (side.offset, side.counts.clone());
                            let own = (
                                (read.count, read.sum.map(f64::to_bits), read.scale),
                                (read.zero_count, read.zero_threshold.to_bits()),
                                (side(&read.positive), side(&read.negative)),
                            );
                            (&exponential.point, format!("{own:?}"))
                        }
                        Some(Kind::Summary) => {
                            summary.read(message)?;
                            let mut pairs = Vec::new();
                            let mut quantiles = summary.quantiles.clone();
                            while let Some(message) = quantiles.next_message()? {
                                let (at, value) = quantile(message)?;
                                pairs.push((at.to_bits(), value.to_bits()));
                            }
                            let own = (summary.count, summary.sum.to_bits(), pairs);
                            (&summary.point, format!("{own:?}"))
                        }
                    };
                    lines.push(format!("{} {own}", point(shared)?));
                }
            }
        }
    }
    Ok(lines)
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn attributes(attributes: &Attributes<'_>) -> String {
    assert_eq!(attributes.count, attributes.list.len());
    let pair = |pair: &Attribute<'_>| match &pair.value {
        AttributeValue::Text(text) => format!("{:?}: {text:?}, ", pair.key),
        AttributeValue::Other(value) => format!("{:?}: {value:?}, ", pair.key),
    };
    attributes.list.iter().map(pair).collect()
}

fn point(point: &Point<'_>) -> Result<String, WireError> {
    let mut own = Attributes::default();
    point.attributes.read(&mut own)?;
    let own = attributes(&own);
    let mut line = format!("{own} {} {} {}", point.start_ns, point.time_ns, point.flags);
    let mut exemplars = point.exemplars.clone();
    while let Some(message) = exemplars.next_message()? {
        let read = Exemplar::read(message)?;
        let own = attributes(&read.attributes);
        let value = read.value.map(f64::to_bits);
        let ids = (read.span_id, read.trace_id);
        line.push_str(&format!(
            " exemplar {own} {} {value:?} {ids:?}",
            read.time_ns
        ));
    }
    Ok(line)
}

/// The same lines of what generated code has read.
fn expect(request: &ExportMetricsServiceRequest) -> Vec<String> {
    let mut lines = Vec::new();
    for resource in &request.resource_metrics {
        let shared = resource.resource.as_ref();
        let shared = shared.map_or_else(String::new, |resource| pairs(&resource.attributes));
        lines.push(format!("resource {shared}"));
        for metrics in &resource.scope_metrics {
            let scope = metrics.scope.as_ref();
            let scope =
                scope.map(|scope| (&*scope.name, &*scope.version, pairs(&scope.attributes)));
            lines.push(format!("scope {:?} {scope:?}", metrics.schema_url));
            for metric in &metrics.metrics {
                let texts = (&*metric.name, &*metric.description, &*metric.unit);
                let (kind, temporality, grows, points) = expect_points(metric.data.as_ref());
                let count = points.len();
                lines.push(format!("{texts:?} {kind:?} {temporality} {grows} {count}"));
                lines.extend(points);
            }
        }
    }
    lines
}

fn expect_points(data: Option<&Data>) -> (Option<Kind>, i32, bool, Vec<String>) {
    let number = |point: &sent::NumberDataPoint| {
        let value = point.value.map(|value| match value {
            number_data_point::Value::AsDouble(value) => value.to_bits(),
            number_data_point::Value::AsInt(value) => (value as f64).to_bits(),
        });
        let times = (point.start_time_unix_nano, point.time_unix_nano);
        let shared = expect_point(&point.attributes, times, point.flags, &point.exemplars);
        format!("{shared} {value:?}")
    };
    match data {
        None => (None, 0, false, Vec::new()),
        Some(Data::Gauge(gauge)) => {
            let points = gauge.data_points.iter().map(number);
            (Some(Kind::Gauge), 0, false, points.collect())
        }
        Some(Data::Sum(sum)) => {
            let points = sum.data_points.iter().map(number).collect();
            let temporality = sum.aggregation_temporality;
            (Some(Kind::Sum), temporality, sum.is_monotonic, points)
        }
        Some(Data::Histogram(histogram)) => {
            let points = histogram.data_points.iter().map(|point| {
                let times = (point.start_time_unix_nano, point.time_unix_nano);
                let shared = expect_point(&point.attributes, times, point.flags, &point.exemplars);
                let bounds = bits(&point.explicit_bounds);
                let sum = point.sum.map(f64::to_bits);
                let own = (point.count, sum, &point.bucket_counts, bounds);
                format!("{shared} {own:?}")
            });
            let points = points.collect();
            let temporality = histogram.aggregation_temporality;
            (Some(Kind::Histogram), temporality, false, points)
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            let points = histogram.data_points.iter().map(|point| {
                let times = (point.start_time_unix_nano, point.time_unix_nano);
                let shared = expect_point(&point.attributes, times, point.flags, &point.exemplars);
                let side = |side: Option<&Buckets>| {
                    let side = side.cloned().unwrap_or_default();
                    (side.offset, side.bucket_counts)
                };
                let own = (
                    (point.count, point.sum.map(f64::to_bits), point.scale),
                    (point.zero_count, point.zero_threshold.to_bits()),
                    (side(point.positive.as_ref()), side(point.negative.as_ref())),
                );
                format!("{shared} {own:?}")
            });
            let points = points.collect();
            let temporality = histogram.aggregation_temporality;
            (Some(Kind::ExponentialHistogram), temporality, false, points)
        }
        Some(Data::Summary(summary)) => {
            let points = summary.data_points.iter().map(|point| {
                let times = (point.start_time_unix_nano, point.time_unix_nano);
                let shared = expect_point(&point.attributes, times, point.flags, &[]);
                let quantiles = point.quantile_values.iter();
                let quantiles =
                    quantiles.map(|pair| (pair.quantile.to_bits(), pair.value.to_bits()));
                let own = (
                    point.count,
                    point.sum.to_bits(),
                    quantiles.collect::<Vec<_>>(),
                );
                format!("{shared} {own:?}")
            });
            (Some(Kind::Summary), 0, false, points.collect())
        }
    }
}

fn pairs(attributes: &[KeyValue]) -> String {
    let pair = |pair: &KeyValue| match pair.value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Any::StringValue(text)) => format!("{:?}: {text:?}, ", pair.key),
        other => {
            let value = other.cloned();
            format!("{:?}: {:?}, ", pair.key, AnyValue { value })
        }
    };
    attributes.iter().map(pair).collect()
}

fn expect_point(
    attributes: &[KeyValue],
    (start, time): (u64, u64),
    flags: u32,
    exemplars: &[sent::Exemplar],
) -> String {
    let mut line = format!("{} {start} {time} {flags}", pairs(attributes));
    for exemplar in exemplars {
        let value = exemplar.value.map(|value| match value {
            exemplar::Value::AsDouble(value) => value.to_bits(),
            exemplar::Value::AsInt(value) => (value as f64).to_bits(),
        });
        let own = pairs(&exemplar.filtered_attributes);
        let ids = (&*exemplar.span_id, &*exemplar.trace_id);
        let time = exemplar.time_unix_nano;
        line.push_str(&format!(" exemplar {own} {time} {value:?} {ids:?}"));
    }
    line
}

/// Choices of a random request, one byte or eight each; nothing is chosen when they have run out.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, count: u8) -> u8 {
        self.0.next().map_or(0, |byte| byte % count)
    }

    fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => 1_700_000_000_123_456_789,
            2 => u64::MAX,
            3 => 1 << 63,
            _ => u64::from_le_bytes([(); 8].map(|()| self.below(u8::MAX))),
        }
    }

    fn double(&mut self) -> f64 {
        f64::from_bits(self.number())
    }

    fn text(&mut self) -> String {
        let texts = ["", "a", "service.name", "é\u{10ffff}", "z.z"];
        match texts.get(usize::from(self.below(6))) {
            Some(text) => (*text).to_owned(),
            None => "long ".repeat(40),
        }
    }

    fn many<T>(&mut self, count: u8, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(count)).map(|_| one(self)).collect()
    }

    fn maybe<T>(&mut self, one: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 1).then(|| one(self))
    }

    fn any(&mut self, depth: u8) -> AnyValue {
        let value = match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => None,
            1 | 2 => Some(Any::StringValue(self.text())),
            3 => Some(Any::IntValue(self.number().cast_signed())),
            4 => Some(Any::BoolValue(self.below(2) == 1)),
            5 => Some(Any::BytesValue(self.many(5, |own| own.below(u8::MAX)))),
            6 => {
                let values = self.many(3, |own| own.any(depth - 1));
                Some(Any::ArrayValue(ArrayValue { values }))
            }
            _ => {
                let values = self.pairs(depth - 1);
                Some(Any::KvlistValue(KeyValueList { values }))
            }
        };
        AnyValue { value }
    }

    fn pairs(&mut self, depth: u8) -> Vec<KeyValue> {
        self.many(4, |own| KeyValue {
            key: own.text(),
            value: own.maybe(|own| own.any(depth)),
            ..KeyValue::default()
        })
    }

    fn exemplars(&mut self) -> Vec<sent::Exemplar> {
        self.many(3, |own| sent::Exemplar {
            filtered_attributes: own.pairs(1),
            time_unix_nano: own.number(),
            span_id: own.many(9, |own| own.below(u8::MAX)),
            trace_id: own.many(17, |own| own.below(u8::MAX)),
            value: own.maybe(|own| match own.below(2) {
                0 => exemplar::Value::AsDouble(own.double()),
                _ => exemplar::Value::AsInt(own.number().cast_signed()),
            }),
        })
    }

    fn number_point(&mut self) -> sent::NumberDataPoint {
        sent::NumberDataPoint {
            attributes: self.pairs(2),
            start_time_unix_nano: self.number(),
            time_unix_nano: self.number(),
            exemplars: self.exemplars(),
            flags: u32::from(self.below(3)),
            value: self.maybe(|own| match own.below(2) {
                0 => number_data_point::Value::AsDouble(own.double()),
                _ => number_data_point::Value::AsInt(own.number().cast_signed()),
            }),
        }
    }

    fn histogram_point(&mut self) -> sent::HistogramDataPoint {
        sent::HistogramDataPoint {
            attributes: self.pairs(1),
            start_time_unix_nano: self.number(),
            time_unix_nano: self.number(),
            count: self.number(),
            sum: self.maybe(Self::double),
            bucket_counts: self.many(5, Self::number),
            explicit_bounds: self.many(5, Self::double),
            exemplars: self.exemplars(),
            flags: u32::from(self.below(3)),
            min: self.maybe(Self::double),
            max: self.maybe(Self::double),
        }
    }

    fn side(&mut self) -> Buckets {
        Buckets {
            offset: self.int32(),
            bucket_counts: self.many(5, Self::number),
        }
    }

    fn int32(&mut self) -> i32 {
        [0, -1, 20, i32::MIN, i32::MAX][usize::from(self.below(5))]
    }

    fn exponential_point(&mut self) -> sent::ExponentialHistogramDataPoint {
        sent::ExponentialHistogramDataPoint {
            attributes: self.pairs(1),
            start_time_unix_nano: self.number(),
            time_unix_nano: self.number(),
            count: self.number(),
            sum: self.maybe(Self::double),
            scale: self.int32(),
            zero_count: self.number(),
            positive: self.maybe(Self::side),
            negative: self.maybe(Self::side),
            flags: u32::from(self.below(3)),
            exemplars: self.exemplars(),
            min: self.maybe(Self::double),
            max: self.maybe(Self::double),
            zero_threshold: self.double(),
        }
    }

    fn summary_point(&mut self) -> sent::SummaryDataPoint {
        sent::SummaryDataPoint {
            attributes: self.pairs(1),
            start_time_unix_nano: self.number(),
            time_unix_nano: self.number(),
            count: self.number(),
            sum: self.double(),
            quantile_values: self.many(4, |own| ValueAtQuantile {
                quantile: own.double(),
                value: own.double(),
            }),
            flags: u32::from(self.below(3)),
        }
    }

    fn data(&mut self) -> Option<Data> {
        let aggregation_temporality = i32::from(self.below(4));
        Some(match self.below(6) {
            0 => return None,
            1 => Data::Gauge(sent::Gauge {
                data_points: self.many(4, Self::number_point),
            }),
            2 => Data::Sum(sent::Sum {
                data_points: self.many(4, Self::number_point),
                aggregation_temporality,
                is_monotonic: self.below(2) == 1,
            }),
            3 => Data::Histogram(sent::Histogram {
                data_points: self.many(4, Self::histogram_point),
                aggregation_temporality,
            }),
            4 => Data::ExponentialHistogram(sent::ExponentialHistogram {
                data_points: self.many(4, Self::exponential_point),
                aggregation_temporality,
            }),
            _ => Data::Summary(sent::Summary {
                data_points: self.many(4, Self::summary_point),
            }),
        })
    }

    fn request(&mut self) -> ExportMetricsServiceRequest {
        let resource = |own: &mut Self| sent::ResourceMetrics {
            resource: own.maybe(|own| Resource {
                attributes: own.pairs(2),
                dropped_attributes_count: 7,
                ..Resource::default()
            }),
            scope_metrics: own.many(3, |own| sent::ScopeMetrics {
                scope: own.maybe(|own| InstrumentationScope {
                    name: own.text(),
                    version: own.text(),
                    attributes: own.pairs(1),
                    dropped_attributes_count: 7,
                }),
                metrics: own.many(5, |own| sent::Metric {
                    name: own.text(),
                    description: own.text(),
                    unit: own.text(),
                    metadata: own.pairs(1),
                    data: own.data(),
                }),
                schema_url: own.text(),
            }),
            schema_url: own.text(),
        };
        ExportMetricsServiceRequest {
            resource_metrics: self.many(3, resource),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_reader_agrees_with_generated_code(bytes in proptest::collection::vec(any::<u8>(), 0..800)) {
        let request = Choices(bytes.iter()).request();
        let bytes = request.encode_to_vec();
        // A zero with a sign is not written.
        let request = ExportMetricsServiceRequest::decode(&bytes[..]).unwrap();
        prop_assert_eq!(read(&bytes), Ok(expect(&request)));
    }
}

/// A request with points of each kind.
fn full() -> ExportMetricsServiceRequest {
    let attribute = |value| KeyValue {
        key: "k".to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    let attributes = vec![
        attribute(Any::StringValue("v".to_owned())),
        attribute(Any::IntValue(200)),
    ];
    let exemplar = sent::Exemplar {
        filtered_attributes: attributes.clone(),
        time_unix_nano: 7,
        span_id: vec![1],
        trace_id: vec![2],
        value: Some(exemplar::Value::AsInt(3)),
    };
    let side = Buckets {
        offset: -3,
        bucket_counts: vec![1, 200],
    };
    let data = [
        Data::Gauge(sent::Gauge {
            data_points: vec![sent::NumberDataPoint {
                attributes: attributes.clone(),
                time_unix_nano: 5,
                value: Some(number_data_point::Value::AsInt(-3)),
                exemplars: vec![exemplar.clone(); 2],
                flags: 1,
                ..Default::default()
            }],
        }),
        Data::Sum(sent::Sum {
            data_points: vec![sent::NumberDataPoint {
                start_time_unix_nano: 4,
                value: Some(number_data_point::Value::AsDouble(0.5)),
                ..Default::default()
            }],
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
        Data::Histogram(sent::Histogram {
            data_points: vec![sent::HistogramDataPoint {
                count: 3,
                sum: Some(1.5),
                bucket_counts: vec![1, 2],
                explicit_bounds: vec![0.5],
                ..Default::default()
            }],
            aggregation_temporality: 1,
        }),
        Data::ExponentialHistogram(sent::ExponentialHistogram {
            data_points: vec![sent::ExponentialHistogramDataPoint {
                attributes: attributes.clone(),
                scale: -2,
                positive: Some(side.clone()),
                negative: Some(side),
                zero_threshold: 0.25,
                ..Default::default()
            }],
            aggregation_temporality: 2,
        }),
        Data::Summary(sent::Summary {
            data_points: vec![sent::SummaryDataPoint {
                quantile_values: vec![ValueAtQuantile {
                    quantile: 0.5,
                    value: 2.0,
                }],
                ..Default::default()
            }],
        }),
    ];
    let metrics = data.map(|data| sent::Metric {
        name: "name".to_owned(),
        unit: "s".to_owned(),
        data: Some(data),
        ..sent::Metric::default()
    });
    let scope = InstrumentationScope {
        name: "scope".to_owned(),
        attributes: attributes.clone(),
        ..InstrumentationScope::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![sent::ResourceMetrics {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            scope_metrics: vec![sent::ScopeMetrics {
                scope: Some(scope),
                metrics: metrics.to_vec(),
                ..sent::ScopeMetrics::default()
            }],
            ..sent::ResourceMetrics::default()
        }],
    }
}

#[test]
fn what_generated_code_reads_of_damage_is_read_the_same() {
    let bytes = full().encode_to_vec();
    let check = |damaged: &[u8]| {
        let got = read(damaged);
        match ExportMetricsServiceRequest::decode(damaged) {
            Ok(request) => match got {
                // Fields twice and groups: the format has them, senders do not.
                Err(WireError::Repeated | WireError::BadType) => 0,
                got => {
                    assert_eq!(got, Ok(expect(&request)), "{damaged:02x?}");
                    1
                }
            },
            Err(_) => usize::from(got.is_ok()) << 20,
        }
    };
    let (mut same, mut refused) = (0, 0);
    for cut in 0..bytes.len() {
        let count = check(&bytes[..cut]);
        refused += usize::from(count == 0);
        assert!(count <= 1, "only one of them reads {cut} bytes");
    }
    assert!(refused > bytes.len() - 10, "{refused} of {}", bytes.len());
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            same += check(&damaged) & 1;
        }
    }
    assert!(same > bytes.len(), "most damage is in numbers and texts");
}

#[test]
fn what_is_wrong_is_said() {
    let check = |message: &[u8], expect: WireError| {
        assert_eq!(read(message), Err(expect), "{message:02x?}");
    };
    // Each message in the one before: resource metrics, scope metrics, metric, gauge, point.
    let nested = |tags: &[u8], inner: &[u8]| {
        tags.iter().rev().fold(inner.to_vec(), |inner, tag| {
            let length = u8::try_from(inner.len()).unwrap();
            [&[*tag, length], &inner[..]].concat()
        })
    };
    let point = [0x0a, 0x12, 0x12, 0x2a, 0x0a];
    check(&[0x0a, 5, 0], WireError::Cut);
    check(&[0x08, 1], WireError::BadType);
    check(&nested(&point, &[0x19, 0]), WireError::Cut);
    check(&nested(&point, &[0x18, 0]), WireError::BadType);
    check(
        &nested(&point, &[0x3a, 3, 0x0a, 1, 0xff]),
        WireError::NotUtf8,
    );
    let value = [0x3a, 5, 0x12, 3, 0x0a, 1, 0xff];
    check(&nested(&point, &value), WireError::NotUtf8);
    let value = [0x3a, 4, 0x12, 2, 0x12, 0];
    check(&nested(&point, &value), WireError::BadAttribute);
    let value = [0x3a, 4, 0x12, 0, 0x12, 0];
    check(&nested(&point, &value), WireError::Repeated);
    let twice = nested(&point[..3], &[0x2a, 0, 0x3a, 0]);
    check(&twice, WireError::Repeated);
    let twice = nested(&point[..1], &[0x0a, 0, 0x0a, 0]);
    check(&twice, WireError::Repeated);
    let twice = nested(&point[..2], &[0x0a, 0, 0x0a, 0]);
    check(&twice, WireError::Repeated);
    let side = [0x0a, 0x12, 0x12, 0x52, 0x0a, 0x42];
    check(&nested(&side, &[0x12, 1, 0x80]), WireError::Cut);
    let twice = nested(&side[..5], &[0x42, 0, 0x42, 0]);
    check(&twice, WireError::Repeated);
    let deep = (0..150).fold(AnyValue::default(), |inner, _| AnyValue {
        value: Some(Any::ArrayValue(ArrayValue {
            values: vec![inner],
        })),
    });
    let mut request = full();
    let resource = request.resource_metrics[0].resource.as_mut().unwrap();
    resource.attributes[0].value = Some(deep);
    check(&request.encode_to_vec(), WireError::BadAttribute);
}

#[test]
fn more_than_a_limit_is_counted_and_not_kept() {
    for extra in [0, 1] {
        let count = ATTRIBUTES_READ_MAX + extra;
        let point = sent::NumberDataPoint {
            attributes: vec![KeyValue::default(); count],
            ..Default::default()
        };
        let (bytes, mut read) = (point.encode_to_vec(), NumberPoint::default());
        for _ in 0..2 {
            read.read(&bytes).unwrap();
            let attributes = &read.point.attributes;
            assert_eq!(
                (attributes.list.len(), attributes.count),
                (ATTRIBUTES_READ_MAX, count)
            );
        }
        let count = SIDE_BUCKETS_MAX + extra;
        let point = sent::ExponentialHistogramDataPoint {
            positive: Some(Buckets {
                offset: 0,
                bucket_counts: vec![0; count],
            }),
            ..Default::default()
        };
        let (bytes, mut read) = (point.encode_to_vec(), ExponentialPoint::default());
        for _ in 0..2 {
            read.read(&bytes).unwrap();
            let side = &read.positive;
            assert_eq!((side.counts.len(), side.count), (SIDE_BUCKETS_MAX, count));
        }
    }
}
