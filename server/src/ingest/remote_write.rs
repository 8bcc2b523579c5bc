//! Remote write: which version a request is of, and version 1.0 with series, samples, histograms,
//! exemplars and metadata to the metrics engine. `ingest::http` calls it.

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use trine_storage::labels::LabelsBuffer;
use trine_tsdb::Metadata;

use super::metric_labels::{Rules, shown};
use super::metric_rows::{Extras, Sink, metric_type};
use super::rejections::Rejections;
use super::remote_write_v2;
use crate::body::{Encoding, Share};
use crate::proto::remote_write::{self as proto, Part, ROWS_MAX, TimeSeries, WriteRequest};
use crate::proto::remote_write_v2::{Request, SYMBOLS_MAX};
use crate::proto::wire::WireError;
use crate::refusal::{Reason, Refusal};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 1.0: `prometheus.WriteRequest`.
    V1,
    /// 2.0: `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// The version that the content type asks for.
    ///
    /// # Errors
    /// [`Reason::UnsupportedMedia`] for anything else, so that a sender of a version that comes
    /// later falls back to one of these.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = headers
            .get(header::CONTENT_TYPE)
            .map_or("", |value| value.to_str().unwrap_or("?"));
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or("").to_ascii_lowercase();
        let proto = parts.find_map(|part| part.strip_prefix("proto="));
        match (kind.as_str(), proto.map(|proto| proto.trim_matches('"'))) {
            // A request without a content type comes from hand-written senders; version 1 it is.
            ("" | "application/x-protobuf", None | Some("prometheus.WriteRequest")) => Ok(Self::V1),
            ("application/x-protobuf", Some("io.prometheus.write.v2.Request")) => Ok(Self::V2),
            _ => {
                let text =
                    format!("content type {text:?} is not supported; send application/x-protobuf");
                Err(Refusal::new(Reason::UnsupportedMedia, text))
            }
        }
    }

    /// Whether requests of this version may be compressed like this.
    ///
    /// # Errors
    /// [`Reason::UnsupportedMedia`] for anything but snappy with version 2, which demands that.
    /// Senders of version 1 use others, whatever it says.
    pub fn check_encoding(self, encoding: Option<Encoding>) -> Result<(), Refusal> {
        match (self, encoding) {
            (Self::V1, _) | (Self::V2, None | Some(Encoding::Snappy)) => Ok(()),
            (Self::V2, Some(_)) => {
                let text = "remote write 2.0 is sent with Content-Encoding snappy";
                Err(Refusal::new(Reason::UnsupportedMedia, text))
            }
        }
    }

    /// Whether `bytes` are a request of this version with at least one series.
    fn is_request(self, bytes: &[u8]) -> bool {
        let read = || {
            let mut count = 0;
            match self {
                Self::V1 => {
                    let mut request = WriteRequest::of(bytes, ROWS_MAX);
                    let mut series = TimeSeries::default();
                    while request.next_part(&mut series)?.is_some() {
                        series.read_labels(0)?;
                        count += 1;
                    }
                }
                Self::V2 => {
                    let mut request = Request::read(bytes, SYMBOLS_MAX)?;
                    let mut series = Default::default();
                    while request.next_series(0, &mut series)? {
                        count += 1;
                    }
                }
            }
            Ok::<_, WireError>(count > 0)
        };
        read().unwrap_or(false)
    }
}

/// Unpacks a body whose sender does not say how it is compressed. The protocol asks for snappy and
/// most senders mean it; Fluent Bit sends the plain message.
///
/// # Errors
/// As [`Encoding::decode`] when it is neither.
pub fn unpack(
    version: Version,
    bytes: Bytes,
    bytes_max: usize,
    share: &mut Share,
) -> Result<Bytes, Refusal> {
    match Encoding::Snappy.decode(bytes.clone(), bytes_max, share) {
        Err(refusal) if refusal.reason == Reason::Bad && version.is_request(&bytes) => {
            Encoding::Identity.decode(bytes, bytes_max, share)
        }
        other => other,
    }
}

/// Gives everything in an unpacked body to `sink` and says what was refused.
///
/// # Errors
/// [`Reason::Bad`] when the body cannot be read: what was given to `sink` must not be stored.
pub fn translate(
    version: Version,
    body: &[u8],
    rules: &Rules<'_>,
    sink: &mut dyn Sink,
) -> Result<Rejections, Refusal> {
    let translated = match version {
        Version::V1 => Translation::new(rules, sink).run(body),
        Version::V2 => remote_write_v2::translate(body, rules, sink),
    };
    translated.map_err(unreadable)
}

/// The values of labels in the first series of an unpacked body, an empty one where it is missing.
///
/// # Errors
/// [`Reason::Bad`] when the body cannot be read.
pub fn first_labels<const N: usize>(
    version: Version,
    body: &[u8],
    names: [&str; N],
    rules: &Rules<'_>,
) -> Result<[String; N], Refusal> {
    let mut values = [const { String::new() }; N];
    let mut each = |name: &[u8], value: &[u8]| {
        for (wanted, found) in names.iter().zip(&mut values) {
            if wanted.as_bytes() == name {
                *found = String::from_utf8_lossy(value).into_owned();
            }
        }
    };
    let mut read = || {
        match version {
            Version::V1 => {
                let mut series = TimeSeries::default();
                let mut request = WriteRequest::of(body, ROWS_MAX);
                while let Some(part) = request.next_part(&mut series)? {
                    if part == Part::Series {
                        series.read_labels(rules.labels_read_max())?;
                        series.labels.iter().for_each(|(n, v)| each(n, v));
                        break;
                    }
                }
            }
            Version::V2 => remote_write_v2::first_labels(body, rules, &mut each)?,
        }
        Ok::<_, WireError>(())
    };
    read().map_err(unreadable)?;
    Ok(values)
}

fn unreadable(error: WireError) -> Refusal {
    Refusal::bad(format!("cannot read the write request: {error}"))
}

/// The translation of one request of version 1.
struct Translation<'a> {
    rules: &'a Rules<'a>,
    sink: &'a mut dyn Sink,
    labels: LabelsBuffer,
    extras: Extras,
    rejections: Rejections,
}

impl<'a> Translation<'a> {
    fn new(rules: &'a Rules<'a>, sink: &'a mut dyn Sink) -> Self {
        Self {
            rules,
            sink,
            labels: LabelsBuffer::default(),
            extras: Extras::default(),
            rejections: Rejections::default(),
        }
    }

    fn run(mut self, body: &[u8]) -> Result<Rejections, WireError> {
        let mut series = TimeSeries::default();
        let mut exemplar = proto::Exemplar::default();
        let mut request = WriteRequest::of(body, ROWS_MAX);
        while let Some(part) = request.next_part(&mut series)? {
            match part {
                Part::Series => self.series(&mut series, &mut exemplar)?,
                Part::Metadata(metadata) => self.metadata(metadata),
            }
        }
        Ok(self.rejections)
    }

    fn series<'b>(
        &mut self,
        series: &mut TimeSeries<'b>,
        exemplar: &mut proto::Exemplar<'b>,
    ) -> Result<(), WireError> {
        let Self {
            rules,
            sink,
            labels,
            extras,
            rejections,
        } = self;
        let has_extras = !series.histograms.is_empty() || !series.exemplars.is_empty();
        if has_extras {
            extras.read_histograms(&series.histograms, 0)?;
            for message in &series.exemplars {
                exemplar.read(message)?;
                let (timestamp, value) = (exemplar.timestamp, exemplar.value);
                let added = extras.exemplar(&exemplar.labels, timestamp, value, &series.samples);
                if let Err(text) = added {
                    rejections.warn(format!("an exemplar was not stored: {text}"));
                }
            }
        } else {
            extras.histograms.clear();
            extras.exemplars.clear();
        }
        let print = match series.labels_first {
            true => sink.print(series.wire_labels),
            false => None,
        };
        if print.is_none_or(|print| !sink.known(print, &mut extras.rows(&series.samples, &[]))) {
            series.read_labels(rules.labels_read_max())?;
            if let Err(text) = rules.encode(&series.labels, series.label_count, labels) {
                let rows = series.samples.len() + series.histograms.len();
                rejections.add(rows.max(1) as u64, text);
                extras.forget();
                return Ok(());
            }
            sink.series(print, labels, &mut extras.rows(&series.samples, &[]));
        }
        if extras.has_refused() {
            series.read_labels(rules.labels_read_max())?;
            extras.tell(&series.labels, rejections);
        }
        Ok(())
    }

    fn metadata(&mut self, metadata: proto::Metadata<'_>) {
        let text = |bytes| std::str::from_utf8(bytes).map(str::to_owned);
        let read = || {
            let told = Metadata {
                kind: metric_type(metadata.kind),
                help: text(metadata.help)?,
                unit: text(metadata.unit)?,
            };
            Ok::<_, std::str::Utf8Error>((std::str::from_utf8(metadata.family)?, told))
        };
        match read() {
            Ok(("", _)) => self.rejections.warn("metadata of a metric without a name"),
            Ok((family, told)) => self.sink.metadata(family, told),
            Err(_) => {
                let name = shown(&[(b"__name__", metadata.family)]);
                let text = format!("metadata of {name} is not UTF-8");
                self.rejections.warn(text);
            }
        }
    }
}

#[cfg(test)]
mod tests;
