//! Prometheus' remote read: the request, and both forms of the answer, written straight into bytes.
//! `api::prometheus::read` calls it.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::{put_signed, put_varint};
use trine_storage::{Labels, MatchOp};
use trine_tsdb::{Buckets, Histogram, ResetHint, Samples, Span, Value, Values};

use super::wire::{Fields, WireError};

/// Some queries, and the forms of answers that the client reads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadRequest {
    /// Each is answered for itself.
    pub queries: Vec<Query>,
    /// Numbers of forms, the most wanted first; none for [`SAMPLES`].
    pub accepted: Vec<u64>,
}

/// The form of an answer that is one message with all samples.
pub const SAMPLES: u64 = 0;

/// The form of an answer that is a stream of messages with chunks.
pub const STREAMED_CHUNKS: u64 = 1;

/// Which samples of which series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// The first millisecond.
    pub start_ms: i64,
    /// The last millisecond.
    pub end_ms: i64,
    /// Operator, name and value; all must hold.
    pub matchers: Vec<(MatchOp, String, String)>,
}

impl ReadRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut request = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, value) => request.queries.push(Query::decode(value.bytes()?)?),
                (2, super::wire::Value::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        request.accepted.push(take_varint(&mut packed)?);
                    }
                }
                (2, value) => request.accepted.push(value.int64()?.cast_unsigned()),
                _ => {}
            }
        }
        Ok(request)
    }
}

impl Query {
    fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut query = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => query.start_ms = value.int64()?,
                2 => query.end_ms = value.int64()?,
                3 => query.matchers.push(matcher(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(query)
    }
}

fn matcher(message: &[u8]) -> Result<(MatchOp, String, String), WireError> {
    let (mut op, mut name, mut text) = (MatchOp::Equal, "", "");
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => {
                op = match value.int64()? {
                    0 => MatchOp::Equal,
                    1 => MatchOp::NotEqual,
                    2 => MatchOp::Match,
                    3 => MatchOp::NotMatch,
                    _ => return Err(WireError::BadNumber),
                }
            }
            2 => name = value.text()?,
            3 => text = value.text()?,
            _ => {}
        }
    }
    Ok((op, name.to_owned(), text.to_owned()))
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, WireError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(WireError::Cut)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(WireError::BadNumber)
}

/// Appends a field that is bytes, a text or a message.
pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    put_varint(out, u64::from(field << 3));
    put_varint(out, number);
}

fn put_double(out: &mut Vec<u8>, field: u32, value: f64) {
    put_varint(out, u64::from(field << 3 | 1));
    out.extend_from_slice(&value.to_le_bytes());
}

/// The fields of `Label` messages, field 1 of every message about a series.
pub fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    let mut label = Vec::new();
    for (name, value) in labels {
        label.clear();
        put_bytes(&mut label, 1, name.as_bytes());
        put_bytes(&mut label, 2, value.as_bytes());
        put_bytes(out, 1, &label);
    }
}

/// Appends the message `TimeSeries`: labels, floats and histograms.
pub fn put_series(out: &mut Vec<u8>, labels: &Labels, samples: &Samples) {
    put_labels(out, labels);
    let mut sample = Vec::new();
    let mut float = |out: &mut Vec<u8>, time_ms: i64, value: f64| {
        sample.clear();
        put_double(&mut sample, 1, value);
        put_number(&mut sample, 2, time_ms.cast_unsigned());
        put_bytes(out, 2, &sample);
    };
    let times = samples.timestamps.iter().copied();
    if let Values::Floats(values) = &samples.values {
        for (time_ms, value) in times.zip(values) {
            float(out, time_ms, *value);
        }
        return;
    }
    let mut message = Vec::new();
    for (time_ms, at) in times.zip(0..) {
        match samples.values.get(at) {
            Some(Value::Float(value)) => float(out, time_ms, value),
            Some(Value::Histogram(histogram)) => {
                message.clear();
                put_histogram(&mut message, time_ms, &histogram);
                put_bytes(out, 4, &message);
            }
            _ => {}
        }
    }
}

/// Appends the message `Histogram`.
fn put_histogram(out: &mut Vec<u8>, time_ms: i64, histogram: &Histogram) {
    match &histogram.buckets {
        Buckets::Integer {
            count, zero_count, ..
        } => {
            put_number(out, 1, *count);
            put_double(out, 3, histogram.sum);
            put_number(out, 6, *zero_count);
        }
        Buckets::Float {
            count, zero_count, ..
        } => {
            put_double(out, 2, *count);
            put_double(out, 3, histogram.sum);
            put_double(out, 7, *zero_count);
        }
    }
    put_varint(out, 4 << 3);
    put_signed(out, i64::from(histogram.schema));
    put_double(out, 5, histogram.zero_threshold);
    put_spans(out, 8, &histogram.negative_spans);
    put_spans(out, 11, &histogram.positive_spans);
    match &histogram.buckets {
        Buckets::Integer {
            positive, negative, ..
        } => {
            put_deltas(out, 9, negative);
            put_deltas(out, 12, positive);
        }
        Buckets::Float {
            positive, negative, ..
        } => {
            put_doubles(out, 10, negative);
            put_doubles(out, 13, positive);
        }
    }
    let hint = match histogram.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    put_number(out, 14, hint);
    put_number(out, 15, time_ms.cast_unsigned());
    put_doubles(out, 16, &histogram.custom_values);
}

fn put_spans(out: &mut Vec<u8>, field: u32, spans: &[Span]) {
    let mut message = Vec::new();
    for span in spans {
        message.clear();
        put_varint(&mut message, 1 << 3);
        put_signed(&mut message, i64::from(span.offset));
        put_number(&mut message, 2, u64::from(span.length));
        put_bytes(out, field, &message);
    }
}

/// Counts as differences, each from the one before.
fn put_deltas(out: &mut Vec<u8>, field: u32, counts: &[i64]) {
    if counts.is_empty() {
        return;
    }
    let (mut packed, mut before) = (Vec::new(), 0i64);
    for count in counts {
        put_signed(&mut packed, count.wrapping_sub(before));
        before = *count;
    }
    put_bytes(out, field, &packed);
}

fn put_doubles(out: &mut Vec<u8>, field: u32, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    let packed: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    put_bytes(out, field, &packed);
}

/// Appends the message `Chunk`.
pub fn put_chunk(out: &mut Vec<u8>, (min_ms, max_ms): (i64, i64), encoding: u64, data: &[u8]) {
    put_number(out, 1, min_ms.cast_unsigned());
    put_number(out, 2, max_ms.cast_unsigned());
    put_number(out, 3, encoding);
    put_bytes(out, 4, data);
}

/// The message `ChunkedReadResponse` with one series, whose message is given.
pub fn chunked_response(series: &[u8], query: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(series.len() + 16);
    put_bytes(&mut out, 1, series);
    put_number(&mut out, 2, query);
    out
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// The messages as a schema compiler reads them.
    mod schema {
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct ReadRequest {
            #[prost(message, repeated, tag = "1")]
            pub(super) queries: Vec<Query>,
            #[prost(int32, repeated, tag = "2")]
            pub(super) accepted: Vec<i32>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Query {
            #[prost(int64, tag = "1")]
            pub(super) start: i64,
            #[prost(int64, tag = "2")]
            pub(super) end: i64,
            #[prost(message, repeated, tag = "3")]
            pub(super) matchers: Vec<Matcher>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Matcher {
            #[prost(int32, tag = "1")]
            pub(super) op: i32,
            #[prost(string, tag = "2")]
            pub(super) name: String,
            #[prost(string, tag = "3")]
            pub(super) value: String,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct TimeSeries {
            #[prost(message, repeated, tag = "1")]
            pub(super) labels: Vec<Label>,
            #[prost(message, repeated, tag = "2")]
            pub(super) samples: Vec<Sample>,
            #[prost(message, repeated, tag = "4")]
            pub(super) histograms: Vec<Histogram>,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Label {
            #[prost(string, tag = "1")]
            pub(super) name: String,
            #[prost(string, tag = "2")]
            pub(super) value: String,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Sample {
            #[prost(double, tag = "1")]
            pub(super) value: f64,
            #[prost(int64, tag = "2")]
            pub(super) timestamp: i64,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Span {
            #[prost(sint32, tag = "1")]
            pub(super) offset: i32,
            #[prost(uint32, tag = "2")]
            pub(super) length: u32,
        }

        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct Histogram {
            #[prost(uint64, optional, tag = "1")]
            pub(super) count_int: Option<u64>,
            #[prost(double, optional, tag = "2")]
            pub(super) count_float: Option<f64>,
            #[prost(double, tag = "3")]
            pub(super) sum: f64,
            #[prost(sint32, tag = "4")]
            pub(super) schema: i32,
            #[prost(double, tag = "5")]
            pub(super) zero_threshold: f64,
            #[prost(uint64, optional, tag = "6")]
            pub(super) zero_int: Option<u64>,
            #[prost(double, optional, tag = "7")]
            pub(super) zero_float: Option<f64>,
            #[prost(message, repeated, tag = "8")]
            pub(super) negative_spans: Vec<Span>,
            #[prost(sint64, repeated, tag = "9")]
            pub(super) negative_deltas: Vec<i64>,
            #[prost(double, repeated, tag = "10")]
            pub(super) negative_counts: Vec<f64>,
            #[prost(message, repeated, tag = "11")]
            pub(super) positive_spans: Vec<Span>,
            #[prost(sint64, repeated, tag = "12")]
            pub(super) positive_deltas: Vec<i64>,
            #[prost(double, repeated, tag = "13")]
            pub(super) positive_counts: Vec<f64>,
            #[prost(int32, tag = "14")]
            pub(super) reset_hint: i32,
            #[prost(int64, tag = "15")]
            pub(super) timestamp: i64,
            #[prost(double, repeated, tag = "16")]
            pub(super) custom_values: Vec<f64>,
        }
    }

    #[test]
    fn requests() {
        let matcher = |op| schema::Matcher {
            op,
            name: "job".to_owned(),
            value: "a".to_owned(),
        };
        let mut request = schema::ReadRequest {
            queries: vec![schema::Query {
                start: -5,
                end: 7,
                matchers: (0..4).map(matcher).collect(),
            }],
            accepted: vec![1, 0, 300],
        };
        let got = ReadRequest::decode(&request.encode_to_vec()).unwrap();
        assert_eq!(got.accepted, [1, 0, 300]);
        assert_eq!((got.queries[0].start_ms, got.queries[0].end_ms), (-5, 7));
        let ops = [
            MatchOp::Equal,
            MatchOp::NotEqual,
            MatchOp::Match,
            MatchOp::NotMatch,
        ];
        let expect = ops.map(|op| (op, "job".to_owned(), "a".to_owned()));
        assert_eq!(got.queries[0].matchers, expect);
        request.queries[0].matchers.push(matcher(4));
        assert!(ReadRequest::decode(&request.encode_to_vec()).is_err());
        // Not packed, as old clients write it.
        assert_eq!(ReadRequest::decode(&[0x10, 1]).unwrap().accepted, [1]);
        for bad in [&[0x12, 1, 0x80][..], &[0x0a, 5, 1], &[0xff]] {
            assert!(ReadRequest::decode(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn series_of_both_kinds() {
        let labels = Labels::from_pairs([("a", "b"), ("c", "")]).unwrap();
        let span = |offset, length| Span { offset, length };
        let whole = Histogram {
            schema: -2,
            zero_threshold: 0.25,
            sum: 9.5,
            reset_hint: ResetHint::Gauge,
            buckets: Buckets::Integer {
                zero_count: 1,
                count: 12,
                positive: vec![5, 3],
                negative: vec![3],
            },
            positive_spans: vec![span(-1, 1), span(2, 1)],
            negative_spans: vec![span(0, 1)],
            custom_values: vec![],
        };
        let parts = Histogram {
            schema: -53,
            sum: 2.0,
            buckets: Buckets::Float {
                zero_count: 0.0,
                count: 1.5,
                positive: vec![0.5, 1.0],
                negative: vec![],
            },
            positive_spans: vec![span(0, 2)],
            custom_values: vec![1.0],
            ..Histogram::default()
        };
        let samples = Samples {
            timestamps: vec![-1, 2, 3],
            start_timestamps: None,
            values: Values::Mixed(vec![0.5.into(), whole.into(), parts.into()]),
        };
        let mut bytes = Vec::new();
        put_series(&mut bytes, &labels, &samples);
        let got = schema::TimeSeries::decode(&bytes[..]).unwrap();
        assert_eq!(got.labels.len(), labels.len());
        assert_eq!(got.samples.len(), 1);
        assert_eq!((got.samples[0].timestamp, got.samples[0].value), (-1, 0.5));
        let span = |offset, length| schema::Span { offset, length };
        let whole = schema::Histogram {
            count_int: Some(12),
            sum: 9.5,
            schema: -2,
            zero_threshold: 0.25,
            zero_int: Some(1),
            negative_spans: vec![span(0, 1)],
            negative_deltas: vec![3],
            positive_spans: vec![span(-1, 1), span(2, 1)],
            positive_deltas: vec![5, -2],
            reset_hint: 3,
            timestamp: 2,
            ..schema::Histogram::default()
        };
        let parts = schema::Histogram {
            count_float: Some(1.5),
            sum: 2.0,
            schema: -53,
            zero_float: Some(0.0),
            positive_spans: vec![span(0, 2)],
            positive_counts: vec![0.5, 1.0],
            timestamp: 3,
            custom_values: vec![1.0],
            ..schema::Histogram::default()
        };
        assert_eq!(got.histograms, [whole, parts]);
    }
}
