//! Remote write 1.0: series and samples to the metrics engine. `ingest::handlers` calls
//! [`translate`].

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use trine_storage::Labels;

use super::otlp_metrics::Sink;
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
            Ok(true) => count += 1,
            Ok(false) => return count > 0,
            Err(_) => return false,
        }
    }
}

/// Gives every sample of an unpacked body to `sink`.
///
/// # Errors
/// [`Reason::Bad`] when the body cannot be read. Nothing has been given to `sink` then, because
/// the whole body is read once before.
pub fn translate(body: &[u8], limits: &Limits, sink: &mut dyn Sink) -> Result<Written, Refusal> {
    let wrong = |error| Refusal::bad(format!("cannot read the write request: {error}"));
    let mut series = TimeSeries::default();
    let mut check = WriteRequest::of(body);
    while check.next_series(&mut series).map_err(wrong)? {}

    let mut written = Written::default();
    let mut request = WriteRequest::of(body);
    while request.next_series(&mut series).map_err(wrong)? {
        write(&series, limits, sink, &mut written);
    }
    Ok(written)
}

fn write(series: &TimeSeries<'_>, limits: &Limits, sink: &mut dyn Sink, written: &mut Written) {
    let labels = match Labels::from_pairs(series.labels.iter().copied()) {
        Ok(labels) => labels,
        Err(error) => {
            let parts = series.samples.len() + series.histograms + series.exemplars;
            let text = format!("series with labels {:?}: {error}", series.labels);
            return written.rejections.add(parts.max(1) as u64, text);
        }
    };
    if series.histograms > 0 {
        let text = format!("series {labels}: native histograms are not stored yet");
        written.rejections.add(series.histograms as u64, text);
    }
    if series.exemplars > 0 {
        let text = format!("series {labels}: exemplars are not stored yet");
        written.rejections.add(series.exemplars as u64, text);
    }
    if series.samples.is_empty() {
        return;
    }
    if let Err(text) = admit(&labels, limits) {
        return written.rejections.add(series.samples.len() as u64, text);
    }
    for &(timestamp, value) in &series.samples {
        match sink.sample(&labels, timestamp, value) {
            Ok(()) => written.samples += 1,
            Err(text) => written.rejections.add(1, text),
        }
    }
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
    use trine_storage::Labels;

    use super::{Limits, Sink, check_content_type, translate, unpack};
    use crate::body::Budget;
    use crate::proto::remote_write::schema;

    struct Lines(Vec<String>);

    impl Sink for Lines {
        fn sample(&mut self, labels: &Labels, timestamp_ms: i64, value: f64) -> Result<(), String> {
            self.0.push(format!("{labels} {timestamp_ms} {value}"));
            Ok(())
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
    fn a_damaged_body_stores_nothing() {
        let series = schema::series(&[("__name__", "up")], &[(1, 1.0)]);
        let timeseries = vec![series; 2];
        let body = schema::WriteRequest { timeseries }.encode_to_vec();
        let mut lines = Lines(Vec::new());
        let cut = body.get(..body.len() - 1).unwrap();
        translate(cut, &Limits::default(), &mut lines).unwrap_err();
        assert!(lines.0.is_empty());
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
