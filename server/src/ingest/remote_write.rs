//! Remote write 1.0: series and samples to the metrics engine. `ingest::handlers` calls
//! [`translate`].

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use trine_storage::Labels;
use trine_storage::labels::LabelsBuffer;

use super::rejections::Rejections;
use crate::body::{Encoding, Share};
use crate::config::Limits;
use crate::proto::remote_write::{TimeSeries, WriteRequest};
use crate::refusal::{Reason, Refusal};

/// What was stored of a request, for the headers that senders read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Samples that were given to the engine.
    pub samples: u64,
    /// What was refused.
    pub rejections: Rejections,
}

/// Whether the content type is remote write 1.0.
///
/// # Errors
/// [`Reason::UnsupportedMedia`] for anything else; a sender of version 2 falls back to version 1
/// when it sees that.
pub fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = headers
        .get(header::CONTENT_TYPE)
        .map_or("", |value| value.to_str().unwrap_or("?"));
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or("").to_ascii_lowercase();
    let proto = parts.find_map(|part| part.strip_prefix("proto="));
    // A request without a content type comes from hand-written senders; version 1 it is.
    let known = matches!(kind.as_str(), "" | "application/x-protobuf")
        && matches!(proto, None | Some("prometheus.WriteRequest"));
    if known {
        return Ok(());
    }
    let text = format!("content type {text:?} is not supported; send application/x-protobuf");
    Err(Refusal::new(Reason::UnsupportedMedia, text))
}

/// Unpacks a body whose sender does not say how it is compressed. The protocol asks for snappy and
/// most senders mean it; Fluent Bit sends the plain message.
///
/// # Errors
/// As [`Encoding::decode`] when it is neither.
pub fn unpack(bytes: Bytes, bytes_max: usize, share: &mut Share) -> Result<Bytes, Refusal> {
    match Encoding::Snappy.decode(bytes.clone(), bytes_max, share) {
        Err(refusal) if refusal.reason == Reason::Bad && is_request(&bytes) => {
            Encoding::Identity.decode(bytes, bytes_max, share)
        }
        other => other,
    }
}

/// Whether `bytes` are a write request with at least one series.
fn is_request(bytes: &[u8]) -> bool {
    let mut request = WriteRequest::of(bytes);
    let mut series = TimeSeries::default();
    let mut count = 0;
    loop {
        match request.next_series(&mut series) {
            Ok(true) if series.read_labels().is_ok() => count += 1,
            Ok(true) => return false,
            Ok(false) => return count > 0,
            Err(_) => return false,
        }
    }
}

/// Takes series with their samples.
pub trait Sink {
    /// Stages samples (timestamp in milliseconds, value) of the series whose labels were sent as
    /// `wire`, if it is known by that; else gives false and [`Sink::floats`] follows.
    fn known(&mut self, wire: &[u8], samples: &[(i64, f64)]) -> bool;

    /// Stages samples of one series; `wire` is what it may be known by from now on.
    fn floats(&mut self, wire: Option<&[u8]>, labels: &LabelsBuffer, samples: &[(i64, f64)]);
}

/// Gives every sample of an unpacked body to `sink`.
///
/// # Errors
/// [`Reason::Bad`] when the body cannot be read: what was given to `sink` must not be stored.
pub fn translate(body: &[u8], limits: &Limits, sink: &mut dyn Sink) -> Result<Written, Refusal> {
    let wrong = |error| Refusal::bad(format!("cannot read the write request: {error}"));
    let mut series = TimeSeries::default();
    let mut labels = LabelsBuffer::default();
    let mut written = Written::default();
    let mut request = WriteRequest::of(body);
    while request.next_series(&mut series).map_err(wrong)? {
        let wire = series.labels_first.then_some(series.wire_labels);
        if series.exemplars == 0
            && series.histograms == 0
            && wire.is_some_and(|wire| sink.known(wire, &series.samples))
        {
            written.samples += series.samples.len() as u64;
            continue;
        }
        series.read_labels().map_err(wrong)?;
        if let Err(text) = encode(&series, limits, &mut labels) {
            let parts = series.samples.len() + series.histograms + series.exemplars;
            written.rejections.add(parts.max(1) as u64, text);
            continue;
        }
        if series.histograms > 0 {
            let text = format!(
                "series {}: native histograms are not stored yet",
                shown(&labels)
            );
            written.rejections.add(series.histograms as u64, text);
        }
        if series.exemplars > 0 {
            let text = format!("series {}: exemplars are not stored yet", shown(&labels));
            written.rejections.add(series.exemplars as u64, text);
        }
        sink.floats(wire, &labels, &series.samples);
        written.samples += series.samples.len() as u64;
    }
    Ok(written)
}

fn shown(labels: &LabelsBuffer) -> Labels {
    labels.to_labels().unwrap_or_default()
}

/// Puts the labels of a series into `labels` and checks them against the limits.
///
/// # Errors
/// The refusal's text.
fn encode(
    series: &TimeSeries<'_>,
    limits: &Limits,
    labels: &mut LabelsBuffer,
) -> Result<(), String> {
    labels.clear();
    let mut named = false;
    let plain = series.labels.len() <= limits.metric_labels_max
        && series.labels.iter().all(|(name, value)| {
            named |= *name == b"__name__";
            name.len() <= limits.metric_label_name_bytes_max
                && value.len() <= limits.metric_label_value_bytes_max
                && labels.push(name, value)
        });
    if plain && named {
        return Ok(());
    }
    // Unsorted, or something is wrong with it: in full, with words.
    let text = |bytes| std::str::from_utf8(bytes);
    let pairs: Result<Vec<(&str, &str)>, _> = series
        .labels
        .iter()
        .map(|(name, value)| Ok((text(name)?, text(value)?)))
        .collect();
    let pairs =
        pairs.map_err(|_: std::str::Utf8Error| "a series with labels that are not UTF-8")?;
    let sorted = Labels::from_pairs(pairs.iter().copied())
        .map_err(|error| format!("series with labels {pairs:?}: {error}"))?;
    admit(&sorted, limits)?;
    labels.clear();
    for (name, value) in &sorted {
        labels.push(name.as_bytes(), value.as_bytes());
    }
    Ok(())
}

/// Checks a series' labels against the limits.
///
/// # Errors
/// The refusal's text.
pub fn admit(labels: &Labels, limits: &Limits) -> Result<(), String> {
    if labels.get("__name__").is_none() {
        return Err(format!("series {labels} has no metric name (__name__)"));
    }
    let mut count = 0;
    for (name, value) in labels {
        count += 1;
        let (max, what, bytes) = if name.len() > limits.metric_label_name_bytes_max {
            (limits.metric_label_name_bytes_max, "name", name.len())
        } else if value.len() > limits.metric_label_value_bytes_max {
            (limits.metric_label_value_bytes_max, "value", value.len())
        } else {
            continue;
        };
        let start: String = name.chars().take(64).collect();
        return Err(format!(
            "a label {what} of a series has {bytes} bytes, limit {max} (label {start:?})"
        ));
    }
    let max = limits.metric_labels_max;
    if count > max {
        return Err(format!("series {labels} has {count} labels, limit {max}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};
    use prost::Message;
    use trine_storage::labels::LabelsBuffer;

    use super::{Limits, Sink, check_content_type, translate, unpack};
    use crate::body::Budget;
    use crate::proto::remote_write::schema;

    struct Lines(Vec<String>);

    impl Sink for Lines {
        fn known(&mut self, _: &[u8], _: &[(i64, f64)]) -> bool {
            false
        }

        fn floats(&mut self, _: Option<&[u8]>, labels: &LabelsBuffer, samples: &[(i64, f64)]) {
            let labels = labels.to_labels().unwrap();
            let lines = samples.iter().map(|(t, v)| format!("{labels} {t} {v}"));
            self.0.extend(lines);
        }
    }

    fn run(timeseries: Vec<schema::TimeSeries>) -> (Vec<String>, String) {
        let limits = Limits {
            metric_labels_max: 3,
            metric_label_name_bytes_max: 8,
            metric_label_value_bytes_max: 4,
            ..Limits::default()
        };
        let body = schema::WriteRequest { timeseries }.encode_to_vec();
        let mut lines = Lines(Vec::new());
        let written = translate(&body, &limits, &mut lines).unwrap();
        assert_eq!(written.samples, lines.0.len() as u64);
        (lines.0, written.rejections.text("; "))
    }

    #[test]
    fn samples_are_taken_and_the_rest_is_refused_by_name() {
        let good = schema::series(&[("__name__", "up"), ("a", "")], &[(1, 1.0), (2, 0.5)]);
        let mut extras = schema::series(&[("__name__", "x")], &[(3, 3.0)]);
        extras.histograms = vec![schema::Sample::default()];
        extras.exemplars = vec![schema::Sample::default()];
        let (lines, told) = run(vec![
            good,
            extras,
            schema::series(&[("a", "b")], &[(1, 1.0)]),
            schema::series(&[("__name__", "x"), ("a", "b"), ("a", "c")], &[(1, 1.0)]),
            schema::series(&[("__name__", "x"), ("", "b")], &[(1, 1.0)]),
        ]);
        let stored = [
            "{__name__=\"up\"} 1 1",
            "{__name__=\"up\"} 2 0.5",
            "{__name__=\"x\"} 3 3",
        ];
        assert_eq!(lines, stored);
        for expect in [
            "series {__name__=\"x\"}: native histograms are not stored yet",
            "series {__name__=\"x\"}: exemplars are not stored yet",
            "series {a=\"b\"} has no metric name",
            "duplicate label name \"a\"",
            "has an empty name",
        ] {
            assert!(told.contains(expect), "{told:?} does not say {expect:?}");
        }
    }

    #[test]
    fn limits_at_their_edges() {
        let edge = [("__name__", "1234"), ("a2345678", "b"), ("c", "d")];
        let (lines, told) = run(vec![schema::series(&edge, &[(1, 1.0)])]);
        assert_eq!((lines.len(), told.as_str()), (1, ""));
        for (labels, expect) in [
            (
                &[("__name__", "12345")][..],
                "a label value of a series has 5 bytes, limit 4",
            ),
            (
                &[("__name__", "x"), ("a23456789", "b")],
                "a label name of a series has 9 bytes",
            ),
            (
                &[("__name__", "x"), ("a", "b"), ("c", "d"), ("e", "f")],
                "has 4 labels, limit 3",
            ),
        ] {
            let (lines, told) = run(vec![schema::series(labels, &[(1, 1.0)])]);
            assert!(lines.is_empty() && told.contains(expect), "{told}");
        }
    }

    #[test]
    fn a_body_without_a_name_for_its_encoding_is_snappy_or_plain() {
        let series = schema::series(&[("__name__", "up")], &[(1, 1.0)]);
        let plain = schema::WriteRequest {
            timeseries: vec![series],
        }
        .encode_to_vec();
        let packed = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        let run = |bytes: &[u8]| {
            let mut share = Budget::new(1 << 20).share();
            unpack(bytes.to_vec().into(), 1000, &mut share)
        };
        assert_eq!(run(&packed).unwrap(), plain);
        assert_eq!(run(&plain).unwrap(), plain);
        for neither in [&b""[..], b"hello", plain.get(..plain.len() - 1).unwrap()] {
            let refusal = run(neither).unwrap_err();
            assert!(refusal.text.contains("snappy"), "{refusal}");
        }
    }

    #[test]
    fn a_damaged_body_is_refused() {
        let series = schema::series(&[("__name__", "up")], &[(1, 1.0)]);
        let timeseries = vec![series; 2];
        let body = schema::WriteRequest { timeseries }.encode_to_vec();
        let mut lines = Lines(Vec::new());
        let cut = body.get(..body.len() - 1).unwrap();
        let refusal = translate(cut, &Limits::default(), &mut lines).unwrap_err();
        assert!(
            refusal.text.contains("cannot read the write request"),
            "{refusal}"
        );
    }

    #[test]
    fn content_types() {
        for (text, good) in [
            (Some("application/x-protobuf"), true),
            (
                Some("application/x-protobuf;proto=prometheus.WriteRequest"),
                true,
            ),
            (
                Some("application/x-protobuf; proto=prometheus.WriteRequest"),
                true,
            ),
            (None, true),
            (
                Some("application/x-protobuf;proto=io.prometheus.write.v2.Request"),
                false,
            ),
            (Some("application/json"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(text) = text {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
            }
            assert_eq!(check_content_type(&headers).is_ok(), good, "{text:?}");
        }
    }
}
