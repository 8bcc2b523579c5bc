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
    #[prost(uint64, tag = "3")]
    hash: u64,
}

/// A line of a Loki push.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
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

/// A line of a Loki push, at milliseconds since 1970.
pub(crate) fn entry(ms: i64, line: &str, metadata: &[(&str, &str)]) -> Entry {
    let pair = |(name, value): &(&str, &str)| Pair {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    Entry {
        timestamp: Some(Timestamp {
            seconds: ms.div_euclid(1000),
            nanos: i32::try_from(ms.rem_euclid(1000)).unwrap() * 1_000_000,
        }),
        line: line.to_owned(),
        metadata: metadata.iter().map(pair).collect(),
    }
}

/// A Loki push body of one stream in protobuf, not compressed.
pub(crate) fn push(labels: &str, entries: Vec<Entry>, hash: u64) -> Vec<u8> {
    let stream = Stream {
        labels: labels.to_owned(),
        entries,
        hash,
    };
    PushRequest {
        streams: vec![stream],
    }
    .encode_to_vec()
}

/// As [`push`], of lines without metadata.
pub(crate) fn push_request(labels: &str, lines: &[(i64, &str)]) -> Vec<u8> {
    let entries = lines.iter().map(|(ms, line)| entry(*ms, line, &[]));
    push(labels, entries.collect(), 0)
}
