//! Loki's push: JSON or protobuf to log entries. `ingest::handlers` calls [`translate`].
//!
//! Valid entries are stored even when others of the same request are refused; the answer then is
//! a 400 with the reasons, in Loki's words.

use std::borrow::Cow;

use bytes::Bytes;
use trine_logstore::discover::{DETECTED_LEVEL, Levels};
use trine_storage::Labels;

use super::log_rules::{Counted, Denied, Rules};
use super::otlp_logs::Sink;
use super::rejections::Rejections;
use super::store::{self, Outcome};
use super::stream;
use crate::app::App;
use crate::body::{Encoding, Share};
use crate::observe::registry::Signal;
use crate::proto::loki::{Entry, PushRequest};
use crate::refusal::{Reason, Refusal};
use crate::tenants::TenantId;

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
            let is_json = inner.trim_ascii_start().first() == Some(&b'{');
            let unpacked = Encoding::Snappy.decode(inner, bytes_max, share);
            unpacked.map_err(|refusal| match (is_json, refusal.reason) {
                (true, Reason::Bad) => Refusal::bad(format!(
                    "{}; a body of JSON needs the header Content-Type: application/json",
                    refusal.text
                )),
                _ => refusal,
            })
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

/// Stores an unpacked body for a tenant.
///
/// # Errors
/// As [`translate`] and [`store::push`].
pub fn store(
    app: &App,
    tenant: &TenantId,
    format: Format,
    body: &[u8],
) -> Result<Outcome, Refusal> {
    let outcome = store::push(app, tenant, |rules, logs| {
        translate(format, body, rules, logs)
    })?;
    let rejected = outcome.rejections.count();
    app.observer
        .registry
        .written(Signal::Logs, outcome.stored, rejected);
    Ok(outcome)
}

/// How a sender hears of what was refused of a request whose rest is stored; `None` when nothing was.
pub fn refusal(outcome: &Outcome) -> Option<Refusal> {
    let rejections = &outcome.rejections;
    let reason = match rejections.is_busy() {
        true => Reason::Busy,
        false => Reason::Bad,
    };
    (!rejections.is_empty()).then(|| Refusal::new(reason, rejections.text("\n")))
}

/// Gives every entry of an unpacked body to `sink` and says what was refused.
///
/// # Errors
/// [`Reason::Bad`] when the body cannot be read, [`Reason::Busy`] when it is too much at once. Nothing
/// has been given to `sink` then, because the whole body is read once before.
pub fn translate(
    format: Format,
    body: &[u8],
    rules: &Rules<'_>,
    sink: &mut dyn Sink,
) -> Result<Rejections, Refusal> {
    let mut push = Push {
        rules,
        sink,
        rejections: Rejections::default(),
        entries: 0,
    };
    match format {
        Format::Json => {
            let request = json::parse(body).map_err(Refusal::bad)?;
            if rules.limits_rate() {
                let entries = || request.streams.iter().flat_map(|stream| &stream.entries);
                let bytes = |entry: &json::Entry<'_>| entry.line.len() + bytes_of(&entry.metadata);
                rules.take(entries().count() as u64, entries().map(bytes).sum())?;
            }
            for stream in &request.streams {
                push.json_stream(stream);
            }
        }
        Format::Protobuf => {
            let wrong = |error| Refusal::bad(format!("cannot read the push request: {error}"));
            let (lines, bytes) = check_protobuf(body).map_err(wrong)?;
            rules.take(lines, bytes)?;
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

/// Reads a whole request without keeping anything; says how many lines and bytes it brings.
fn check_protobuf(body: &[u8]) -> Result<(u64, usize), crate::proto::wire::WireError> {
    let mut request = PushRequest::of(body);
    let mut entry = Entry::default();
    let (mut lines, mut bytes) = (0, 0);
    while let Some(stream) = request.next_stream()? {
        let mut entries = stream.entries();
        while entries.next_entry(&mut entry)? {
            lines += 1;
            bytes += entry.line.len() + bytes_of(&entry.metadata);
        }
    }
    Ok((lines, bytes))
}

fn bytes_of<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> usize {
    let size = |(name, value): &(N, V)| name.as_ref().len() + value.as_ref().len();
    pairs.iter().map(size).sum()
}

struct Push<'a> {
    rules: &'a Rules<'a>,
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
        let labels = labels.map_err(Denied::Bad);
        let labels = match labels.and_then(|labels| self.rules.admit_stream(labels)) {
            Ok(labels) => labels,
            Err(denied) => {
                let entries = stream.entries.len().max(1) as u64;
                return denied.tell(entries, &mut self.rejections);
            }
        };
        let (entries, mut stream) = (&stream.entries, Stream::of(labels));
        for entry in entries {
            self.entry(&mut stream, entry.timestamp, &entry.line, &entry.metadata);
        }
        self.end(&stream);
    }

    fn protobuf_stream(
        &mut self,
        stream: &crate::proto::loki::Stream<'_>,
    ) -> Result<(), crate::proto::wire::WireError> {
        let mut admitted = stream::parse(stream.labels)
            .map_err(Denied::Bad)
            .and_then(|labels| self.rules.admit_stream(labels))
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
                Err(denied) => denied.tell(1, &mut self.rejections),
            }
        }
        if let Ok(stream) = &admitted {
            self.end(stream);
        }
        Ok(())
    }

    fn end(&mut self, stream: &Stream) {
        let (labels, counted) = (&stream.labels, &stream.counted);
        self.rules.tell(labels, counted, &mut self.rejections);
    }

    fn entry(
        &mut self,
        stream: &mut Stream,
        timestamp: i64,
        line: &str,
        metadata: &[(Cow<'_, str>, Cow<'_, str>)],
    ) {
        self.entries += 1;
        let rules = self.rules;
        let admitted = rules.admit_entry(&stream.labels, timestamp, line, metadata);
        let too_fast = admitted == Err(Denied::TooFast);
        stream.counted.add(timestamp, line, too_fast);
        let stored = match admitted {
            Ok(line) => self.store(stream, timestamp, line, metadata),
            Err(denied) => return denied.tell(1, &mut self.rejections),
        };
        if let Err(text) = stored {
            self.rejections.add(1, text);
        }
    }

    fn store(
        &mut self,
        stream: &mut Stream,
        timestamp: i64,
        line: &str,
        metadata: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Result<(), String> {
        if !self.rules.logs.levels {
            let described = describe(metadata, None)?;
            return self.sink.entry(&stream.labels, timestamp, line, &described);
        }
        let level = stream.levels.level(metadata, line.as_bytes());
        let described = match &stream.described {
            _ if !metadata.is_empty() => describe(metadata, Some(&level))?,
            Some((last, described)) if *last == level => described.clone(),
            _ => {
                let described = describe(metadata, Some(&level))?;
                stream.described = Some((level.into_owned(), described.clone()));
                described
            }
        };
        self.sink.entry(&stream.labels, timestamp, line, &described)
    }
}

/// A stream whose entries are read.
struct Stream {
    labels: Labels,
    levels: Levels,
    /// The level of the last entry without metadata, and the metadata that this makes.
    described: Option<(String, Labels)>,
    counted: Counted,
}

impl Stream {
    fn of(labels: Labels) -> Self {
        Self {
            levels: Levels::of(&labels),
            labels,
            described: None,
            counted: Counted::default(),
        }
    }
}

/// The metadata as a set, with the level if it is known. Of two values of one name the first is kept.
fn describe(
    metadata: &[(Cow<'_, str>, Cow<'_, str>)],
    level: Option<&str>,
) -> Result<Labels, String> {
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(metadata.len() + 1);
    pairs.extend(level.map(|level| (DETECTED_LEVEL, level)));
    for (name, value) in metadata {
        if !pairs.iter().any(|(earlier, _)| *earlier == &**name) {
            pairs.push((name, value));
        }
    }
    Labels::from_pairs(pairs).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
