//! Loki's push: JSON or protobuf to log entries. `ingest::handlers` calls [`translate`].
//!
//! Valid entries are stored even when others of the same request are refused; the answer then is
//! a 400 with the reasons, in Loki's words.

use std::borrow::Cow;

use bytes::Bytes;
use trine_logstore::discover::{DETECTED_LEVEL, Levels};
use trine_storage::Labels;

use super::otlp_logs::Sink;
use super::rejections::Rejections;
use super::stream;
use crate::body::{Encoding, Share};
use crate::config::Limits;
use crate::proto::loki::{Entry, PushRequest};
use crate::refusal::{Reason, Refusal};

mod json;

/// How the body of a push is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// Anything else: protobuf in one snappy block.
    Protobuf,
}

impl Format {
    /// The format that a content type names.
    pub fn of(content_type: Option<&str>) -> Self {
        let kind = content_type
            .unwrap_or("")
            .split(';')
            .next()
            .unwrap_or("")
            .trim();
        if kind.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else {
            Self::Protobuf
        }
    }
}

/// Unpacks a push body. Protobuf is always snappy inside, whatever the header says; gzip, deflate
/// and zstd may be around it.
///
/// # Errors
/// As [`Encoding::decode`]; a JSON body that is too large is [`Reason::Bad`], because Fluent Bit
/// sends what was answered with 413 again for ever.
pub fn unpack(
    format: Format,
    encoding: Option<Encoding>,
    bytes: Bytes,
    bytes_max: usize,
    share: &mut Share,
) -> Result<Bytes, Refusal> {
    match format {
        Format::Json => encoding
            .unwrap_or(Encoding::Identity)
            .decode(bytes, bytes_max, share)
            .map_err(too_large_is_bad),
        Format::Protobuf => {
            let inner = match encoding {
                None | Some(Encoding::Snappy | Encoding::Identity) => bytes,
                Some(outer) => outer.decode(bytes, bytes_max, share)?,
            };
            Encoding::Snappy.decode(inner, bytes_max, share)
        }
    }
}

/// See [`unpack`].
pub fn too_large_is_bad(refusal: Refusal) -> Refusal {
    match refusal.reason {
        Reason::TooLarge => Refusal::new(Reason::Bad, refusal.text),
        _ => refusal,
    }
}

/// Gives every entry of an unpacked body to `sink` and says what was refused.
///
/// # Errors
/// [`Reason::Bad`] when the body cannot be read. Nothing has been given to `sink` then, because
/// the whole body is read once before.
pub fn translate(
    format: Format,
    body: &[u8],
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<Rejections, Refusal> {
    let mut push = Push {
        limits,
        sink,
        rejections: Rejections::default(),
        entries: 0,
    };
    match format {
        Format::Json => {
            let request = json::parse(body).map_err(Refusal::bad)?;
            for stream in &request.streams {
                push.json_stream(stream);
            }
        }
        Format::Protobuf => {
            let wrong = |error| Refusal::bad(format!("cannot read the push request: {error}"));
            check_protobuf(body).map_err(wrong)?;
            let mut request = PushRequest::of(body);
            while let Some(stream) = request.next_stream().map_err(wrong)? {
                push.protobuf_stream(&stream).map_err(wrong)?;
            }
        }
    }
    if push.entries == 0 && push.rejections.is_empty() {
        return Err(Refusal::bad(
            "error at least one valid stream is required for ingestion",
        ));
    }
    Ok(push.rejections)
}

/// Reads a whole request without keeping anything.
fn check_protobuf(body: &[u8]) -> Result<(), crate::proto::wire::WireError> {
    let mut request = PushRequest::of(body);
    let mut entry = Entry::default();
    while let Some(stream) = request.next_stream()? {
        let mut entries = stream.entries();
        while entries.next_entry(&mut entry)? {}
    }
    Ok(())
}

struct Push<'a> {
    limits: &'a Limits,
    sink: &'a mut dyn Sink,
    rejections: Rejections,
    entries: u64,
}

impl Push<'_> {
    fn json_stream(&mut self, stream: &json::Stream<'_>) {
        let labels = match &stream.labels {
            json::StreamLabels::Pairs(pairs) => stream::build(pairs, &json::text(pairs)),
            json::StreamLabels::Text(text) => stream::parse(text),
        };
        let labels = match labels.and_then(|labels| stream::admit(labels, self.limits)) {
            Ok(labels) => labels,
            Err(text) => {
                return self
                    .rejections
                    .add(stream.entries.len().max(1) as u64, text);
            }
        };
        let (entries, mut stream) = (&stream.entries, Stream::of(labels));
        for entry in entries {
            self.entry(&mut stream, entry.timestamp, &entry.line, &entry.metadata);
        }
    }

    fn protobuf_stream(
        &mut self,
        stream: &crate::proto::loki::Stream<'_>,
    ) -> Result<(), crate::proto::wire::WireError> {
        let mut admitted = stream::parse(stream.labels)
            .and_then(|labels| stream::admit(labels, self.limits))
            .map(Stream::of);
        let mut entries = stream.entries();
        let mut entry = Entry::default();
        let mut metadata = Vec::new();
        while entries.next_entry(&mut entry)? {
            match &mut admitted {
                Ok(stream) => {
                    metadata.clear();
                    metadata.extend(
                        entry
                            .metadata
                            .iter()
                            .map(|&(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value))),
                    );
                    self.entry(stream, entry.timestamp, entry.line, &metadata);
                }
                Err(text) => self.rejections.add(1, text.clone()),
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        stream: &mut Stream,
        timestamp: i64,
        line: &str,
        metadata: &[(Cow<'_, str>, Cow<'_, str>)],
    ) {
        self.entries += 1;
        let admitted = stream::admit_entry(&stream.labels, line, metadata, self.limits);
        let stored = admitted.and_then(|()| {
            let level = stream.levels.level(metadata, line.as_bytes());
            let described = match &stream.described {
                _ if !metadata.is_empty() => describe(metadata, &level)?,
                Some((last, described)) if *last == level => described.clone(),
                _ => {
                    let described = describe(metadata, &level)?;
                    stream.described = Some((level.into_owned(), described.clone()));
                    described
                }
            };
            self.sink.entry(&stream.labels, timestamp, line, &described)
        });
        if let Err(text) = stored {
            self.rejections.add(1, text);
        }
    }
}

/// A stream whose entries are read.
struct Stream {
    labels: Labels,
    levels: Levels,
    /// The level of the last entry without metadata, and the metadata that this makes.
    described: Option<(String, Labels)>,
}

impl Stream {
    fn of(labels: Labels) -> Self {
        Self {
            levels: Levels::of(&labels),
            labels,
            described: None,
        }
    }
}

/// The metadata as a set, with the level. Of two values of one name the first is kept.
fn describe(metadata: &[(Cow<'_, str>, Cow<'_, str>)], level: &str) -> Result<Labels, String> {
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(metadata.len() + 1);
    pairs.push((DETECTED_LEVEL, level));
    for (name, value) in metadata {
        if !pairs.iter().any(|(earlier, _)| *earlier == &**name) {
            pairs.push((name, value));
        }
    }
    Labels::from_pairs(pairs).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
