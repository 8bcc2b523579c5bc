//! Bodies as senders write them.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::schema::v1;
pub(crate) use crate::schema::v1::series;

#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    line: String,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "senders have clocks of their own"
)]
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}

pub(crate) fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

/// A remote-write body, not compressed.
pub(crate) fn write_request(timeseries: Vec<v1::TimeSeries>) -> Vec<u8> {
    v1::request(timeseries).encode_to_vec()
}

/// A Loki push body in protobuf, not compressed.
pub(crate) fn push_request(labels: &str, lines: &[(i64, &str)]) -> Vec<u8> {
    let entry = |&(ms, line): &(i64, &str)| Entry {
        timestamp: Some(Timestamp {
            seconds: ms.div_euclid(1000),
            nanos: i32::try_from(ms.rem_euclid(1000)).unwrap() * 1_000_000,
        }),
        line: line.into(),
    };
    let stream = Stream {
        labels: labels.into(),
        entries: lines.iter().map(entry).collect(),
    };
    PushRequest {
        streams: vec![stream],
    }
    .encode_to_vec()
}
