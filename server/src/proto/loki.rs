//! Loki's push request in protobuf, read stream by stream without copying. `ingest::loki_push`
//! calls it.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::wire::{Fields, WireError};

/// The streams of a request, one after the other.
#[derive(Debug, Clone)]
pub struct PushRequest<'a>(Fields<'a>);

/// One stream: its labels as text and its entries.
#[derive(Debug, Clone)]
pub struct Stream<'a> {
    /// The selector text, `{a="b"}`.
    pub labels: &'a str,
    message: &'a [u8],
}

/// One entry; reused from entry to entry.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Nanoseconds since 1970; saturated when the sender's seconds do not fit.
    pub timestamp: i64,
    /// The line.
    pub line: &'a str,
    /// Structured metadata in the order in which it was sent.
    pub metadata: Vec<(&'a str, &'a str)>,
}

/// The entries of one stream.
#[derive(Debug, Clone)]
pub struct Entries<'a>(Fields<'a>);

impl<'a> PushRequest<'a> {
    /// The request in `message`.
    pub fn of(message: &'a [u8]) -> Self {
        Self(Fields::of(message))
    }

    /// The next stream, or `None` after the last one.
    ///
    /// # Errors
    /// [`WireError`] when the rest is not a push request.
    pub fn next_stream(&mut self) -> Result<Option<Stream<'a>>, WireError> {
        while let Some((number, value)) = self.0.next_field()? {
            if number != 1 {
                continue;
            }
            let message = value.bytes()?;
            let mut labels = "";
            let mut fields = Fields::of(message);
            while let Some((number, value)) = fields.next_field()? {
                if number == 1 {
                    labels = value.text()?;
                }
            }
            return Ok(Some(Stream { labels, message }));
        }
        Ok(None)
    }
}

impl<'a> Stream<'a> {
    /// The stream's entries.
    pub fn entries(&self) -> Entries<'a> {
        Entries(Fields::of(self.message))
    }
}

impl<'a> Entries<'a> {
    /// Reads the next entry into `entry`; false after the last one.
    ///
    /// # Errors
    /// [`WireError`] when the rest is not a stream.
    pub fn next_entry(&mut self, entry: &mut Entry<'a>) -> Result<bool, WireError> {
        while let Some((number, value)) = self.0.next_field()? {
            if number == 2 {
                entry.read(value.bytes()?)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl<'a> Entry<'a> {
    fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        (self.timestamp, self.line) = (0, "");
        self.metadata.clear();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => self.timestamp = timestamp(value.bytes()?)?,
                2 => self.line = value.text()?,
                3 => self.metadata.push(pair(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(())
    }
}

fn timestamp(message: &[u8]) -> Result<i64, WireError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => seconds = value.int64()?,
            2 => nanos = value.int64()?,
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

fn pair(message: &[u8]) -> Result<(&str, &str), WireError> {
    let mut pair = ("", "");
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => pair.0 = value.text()?,
            2 => pair.1 = value.text()?,
            _ => {}
        }
    }
    Ok(pair)
}

/// The same messages as a schema: what the hand-written reader is compared with, and what tests
/// write requests with.
#[cfg(test)]
pub(crate) mod schema {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct PushRequest {
        #[prost(message, repeated, tag = "1")]
        pub(crate) streams: Vec<Stream>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Stream {
        #[prost(string, tag = "1")]
        pub(crate) labels: String,
        #[prost(message, repeated, tag = "2")]
        pub(crate) entries: Vec<Entry>,
        #[prost(uint64, tag = "3")]
        pub(crate) hash: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Entry {
        #[prost(message, optional, tag = "1")]
        pub(crate) timestamp: Option<Timestamp>,
        #[prost(string, tag = "2")]
        pub(crate) line: String,
        #[prost(message, repeated, tag = "3")]
        pub(crate) metadata: Vec<Pair>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Timestamp {
        #[prost(int64, tag = "1")]
        pub(crate) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(crate) nanos: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Pair {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) value: String,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{Entry, PushRequest, schema};

    #[test]
    fn the_reader_agrees_with_the_schema() {
        let entry = |seconds, nanos, line: &str, metadata: &[(&str, &str)]| schema::Entry {
            timestamp: Some(schema::Timestamp { seconds, nanos }),
            line: line.into(),
            metadata: metadata
                .iter()
                .map(|(name, value)| schema::Pair {
                    name: (*name).into(),
                    value: (*value).into(),
                })
                .collect(),
        };
        let request = schema::PushRequest {
            streams: vec![
                schema::Stream {
                    labels: r#"{a="b"}"#.into(),
                    entries: vec![
                        entry(1, 2, "one", &[("trace_id", "x"), ("n", "")]),
                        entry(-1, 0, "", &[]),
                        entry(i64::MAX, 5, "late", &[]),
                    ],
                    hash: 7,
                },
                schema::Stream::default(),
            ],
        };
        let bytes = request.encode_to_vec();
        let mut reader = PushRequest::of(&bytes);
        let stream = reader.next_stream().unwrap().unwrap();
        assert_eq!(stream.labels, r#"{a="b"}"#);
        let mut entries = stream.entries();
        let mut got = Entry::default();
        assert!(entries.next_entry(&mut got).unwrap());
        assert_eq!((got.timestamp, got.line), (1_000_000_002, "one"));
        assert_eq!(got.metadata, [("trace_id", "x"), ("n", "")]);
        assert!(entries.next_entry(&mut got).unwrap());
        assert_eq!(
            (got.timestamp, got.line, got.metadata.len()),
            (-1_000_000_000, "", 0)
        );
        assert!(entries.next_entry(&mut got).unwrap());
        assert_eq!(got.timestamp, i64::MAX);
        assert!(!entries.next_entry(&mut got).unwrap());
        let stream = reader.next_stream().unwrap().unwrap();
        assert_eq!(stream.labels, "");
        assert!(reader.next_stream().unwrap().is_none());
        for cut in 1..bytes.len() {
            let mut reader = PushRequest::of(&bytes[..cut]);
            while let Ok(Some(stream)) = reader.next_stream() {
                let mut entries = stream.entries();
                while let Ok(true) = entries.next_entry(&mut got) {}
            }
        }
    }
}
