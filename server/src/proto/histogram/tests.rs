//! Each form of histogram as the schema writes it, and what is refused.

use prost::Message;
use trine_tsdb::{BUCKETS_MAX, Buckets, Histogram, HistogramError, ResetHint, Span};

use super::HistogramSample;
use crate::proto::schema;

fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

fn sent(offset: i32, length: u32) -> schema::Span {
    schema::Span { offset, length }
}

fn read(message: &schema::Histogram) -> HistogramSample {
    HistogramSample::read(&message.encode_to_vec()).unwrap()
}

#[test]
fn integers_come_as_differences() {
    let mut message = schema::histogram(5);
    message.schema = -4;
    message.zero_count = Some(schema::ZeroCount::Integer(7));
    message.negative_spans = vec![sent(-3, 3)];
    message.negative_deltas = vec![1, 1, -2];
    message.reset_hint = 2;
    message.start_timestamp = 3;
    let got = read(&message);
    assert_eq!((got.timestamp, got.start_timestamp), (5, 3));
    let expect = Histogram {
        schema: -4,
        reset_hint: ResetHint::NotReset,
        zero_threshold: 1e-128,
        sum: 10.5,
        buckets: Buckets::Integer {
            zero_count: 7,
            count: 4,
            positive: vec![3, 1],
            negative: vec![1, 2, 0],
        },
        positive_spans: vec![span(1, 1), span(1, 1)],
        negative_spans: vec![span(-3, 3)],
        custom_values: vec![],
    };
    assert_eq!(got.histogram, Ok(expect));
}

#[test]
fn floats_come_as_they_are() {
    let message = schema::Histogram {
        count: Some(schema::Count::Float(2.5)),
        zero_count: Some(schema::ZeroCount::Float(0.5)),
        schema: -53,
        positive_spans: vec![sent(0, 2)],
        positive_counts: vec![0.5, 1.5],
        negative_spans: vec![sent(1, 1)],
        negative_counts: vec![0.25],
        custom_values: vec![0.1, 5.0],
        reset_hint: 3,
        ..schema::Histogram::default()
    };
    let got = read(&message).histogram.unwrap();
    assert_eq!(got.reset_hint, ResetHint::Gauge);
    assert_eq!(got.custom_values, [0.1, 5.0]);
    let expect = Buckets::Float {
        zero_count: 0.5,
        count: 2.5,
        positive: vec![0.5, 1.5],
        negative: vec![0.25],
    };
    assert_eq!(got.buckets, expect);
}

#[test]
fn stale_markers_keep_their_bits() {
    for count in [schema::Count::Integer(0), schema::Count::Float(0.0)] {
        let message = schema::Histogram {
            count: Some(count),
            sum: f64::from_bits(0x7ff0_0000_0000_0002),
            ..schema::Histogram::default()
        };
        assert!(read(&message).histogram.unwrap().is_stale());
    }
}

#[test]
fn an_empty_message_is_an_empty_histogram() {
    let got = HistogramSample::read(&[]).unwrap();
    assert_eq!(got.histogram, Ok(Histogram::default()));
}

#[test]
fn what_fits_no_histogram_is_an_error_of_its_own() {
    let check = |message: schema::Histogram, expect: HistogramError| {
        assert_eq!(read(&message).histogram, Err(expect));
    };
    let plain = schema::histogram(1);
    for (schema, unknown) in [(1000, 1000), (i32::MIN, i32::MIN), (i32::MAX, i32::MAX)] {
        let message = schema::Histogram {
            schema,
            ..plain.clone()
        };
        check(message, HistogramError::UnknownSchema(unknown));
    }
    let message = schema::Histogram {
        positive_deltas: vec![i64::MAX, 1],
        ..plain.clone()
    };
    check(message, HistogramError::CountOverflow);
    let message = schema::Histogram {
        positive_deltas: vec![0; BUCKETS_MAX + 1],
        ..plain.clone()
    };
    let (buckets, max) = (BUCKETS_MAX + 1, BUCKETS_MAX);
    check(message, HistogramError::TooManyBuckets { buckets, max });
    let message = schema::Histogram {
        custom_values: vec![0.0; BUCKETS_MAX + 2],
        ..plain.clone()
    };
    check(message, HistogramError::TooManySpans(BUCKETS_MAX + 2));
    let message = schema::Histogram {
        positive_deltas: vec![0; BUCKETS_MAX],
        ..plain.clone()
    };
    assert!(read(&message).histogram.is_ok());
    let bytes = plain.encode_to_vec();
    for cut in 0..bytes.len() {
        HistogramSample::read(&bytes[..cut]).ok();
    }
}
