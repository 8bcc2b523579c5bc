//! The reader against the schema, and what it does with damage.

use prost::Message;

use super::{EXEMPLAR_REFS_MAX, Exemplar, Metadata, Request, SYMBOLS_MAX, TimeSeries};
use crate::proto::remote_write::ROWS_MAX;
use crate::proto::schema::{self, v2};
use crate::proto::wire::WireError;

fn request() -> v2::Request {
    let mut request = v2::Request::begin();
    let (help, unit) = (request.symbol("Requests."), request.symbol("seconds"));
    let trace = request.refs(&[("trace_id", "ff")]);
    let now = 1_700_000_000_123;
    request.series(
        &[("__name__", "up"), ("job", "é")],
        &[(now, 1.0), (1, 0.0), (-5, f64::NEG_INFINITY)],
    );
    let rich = request.series(&[("__name__", "x_total")], &[(now, 2.0), (now + 1, 3.0)]);
    rich.samples[1].start_timestamp = now - 1;
    rich.histograms = vec![schema::histogram(now)];
    rich.exemplars = vec![v2::Exemplar {
        labels_refs: trace,
        value: 0.5,
        timestamp: now,
    }];
    rich.metadata = Some(v2::Metadata {
        kind: 1,
        help_ref: help,
        unit_ref: unit,
    });
    let created = request.series(&[("__name__", "old")], &[(now, 1.0), (now + 1, 2.0)]);
    created.created_timestamp = now - 7;
    created.samples[0].start_timestamp = now - 9;
    request.series(&[], &[]);
    request
}

#[test]
fn the_reader_agrees_with_the_schema() {
    let request = request();
    let bytes = request.encode_to_vec();
    let mut reader = Request::read(&bytes, SYMBOLS_MAX).unwrap();
    let symbols = request.symbols.iter().map(String::as_bytes);
    assert!(reader.symbols.iter().copied().eq(symbols));
    let mut got = TimeSeries::default();
    for expect in &request.timeseries {
        assert!(reader.next_series(100, &mut got).unwrap());
        assert_eq!(got.labels_refs, expect.labels_refs);
        assert_eq!(got.ref_count, expect.labels_refs.len());
        let samples = expect.samples.iter().map(|s| (s.timestamp, s.value));
        assert_eq!(got.samples, samples.collect::<Vec<_>>());
        let starts: Vec<i64> = expect
            .samples
            .iter()
            .map(|sample| match sample.start_timestamp {
                0 => expect.created_timestamp,
                start => start,
            })
            .collect();
        if starts.iter().all(|start| *start == 0) {
            assert!(got.starts.is_empty());
        } else {
            assert_eq!(got.starts, starts);
        }
        let metadata = expect.metadata.unwrap_or_default();
        let kind = u64::try_from(metadata.kind).unwrap();
        let (help_ref, unit_ref) = (metadata.help_ref, metadata.unit_ref);
        assert_eq!(
            got.metadata,
            Metadata {
                kind,
                help_ref,
                unit_ref
            }
        );
        let histograms = expect.histograms.iter().map(Message::encode_to_vec);
        assert_eq!(got.histograms, histograms.collect::<Vec<_>>());
        assert_eq!(got.exemplars.len(), expect.exemplars.len());
        for (message, expect) in got.exemplars.iter().zip(&expect.exemplars) {
            let mut exemplar = Exemplar::default();
            exemplar.read(message).unwrap();
            assert_eq!(exemplar.labels_refs, expect.labels_refs);
            assert_eq!(exemplar.value, expect.value);
            assert_eq!(exemplar.timestamp, expect.timestamp);
        }
    }
    assert!(!reader.next_series(100, &mut got).unwrap());
    for cut in 1..bytes.len() {
        if let Ok(mut reader) = Request::read(&bytes[..cut], SYMBOLS_MAX) {
            while let Ok(true) = reader.next_series(100, &mut got) {}
        }
    }
}

#[test]
fn symbols_may_come_last_and_have_a_limit() {
    let mut request = request();
    let timeseries = std::mem::take(&mut request.timeseries);
    let count = request.symbols.len();
    let symbols = request.encode_to_vec();
    let series = v2::Request {
        timeseries,
        ..v2::Request::default()
    };
    let turned = [series.encode_to_vec(), symbols].concat();
    let mut reader = Request::read(&turned, count).unwrap();
    assert_eq!(reader.symbols.len(), count);
    assert!(reader.next_series(100, &mut TimeSeries::default()).unwrap());
    let refused = Request::read(&turned, count - 1).unwrap_err();
    assert_eq!(refused, WireError::TooManySymbols(count - 1));
    assert!(refused.to_string().contains("more than"), "{refused}");
}

#[test]
fn a_request_of_version_1_is_told_from_an_empty_one() {
    let one = schema::v1::series(&[("a", "b")], &[(1, 1.0)]);
    let bytes = schema::v1::request(vec![one]).encode_to_vec();
    let refused = Request::read(&bytes, SYMBOLS_MAX).unwrap_err();
    assert_eq!(refused, WireError::OtherVersion);
    assert!(Request::read(&[], SYMBOLS_MAX).is_ok());
}

#[test]
fn what_is_too_much_is_counted_and_not_kept() {
    let mut request = v2::Request::begin();
    let series = request.series(&[], &[]);
    series.labels_refs = vec![1, 2, u32::MAX, 4];
    let exemplar = v2::Exemplar {
        labels_refs: vec![0; 2 * EXEMPLAR_REFS_MAX],
        ..v2::Exemplar::default()
    };
    let bytes = request.encode_to_vec();
    let mut got = TimeSeries::default();
    let mut reader = Request::read(&bytes, SYMBOLS_MAX).unwrap();
    assert!(reader.next_series(3, &mut got).unwrap());
    assert_eq!(got.labels_refs, [1, 2, u32::MAX]);
    assert_eq!(got.ref_count, 4);
    let bytes = exemplar.encode_to_vec();
    let mut got = Exemplar::default();
    got.read(&bytes).unwrap();
    assert_eq!(got.labels_refs.len(), EXEMPLAR_REFS_MAX);
}

#[test]
fn numbers_at_their_ends_are_read() {
    let mut request = v2::Request::begin();
    let ends = [
        (i64::MIN, f64::MAX),
        (i64::MAX, -0.0),
        (1 << 42, 1.0),
        ((1 << 42) - 1, 1.0),
    ];
    let series = request.series(&[], &ends);
    series.samples[3].start_timestamp = i64::MIN;
    let bytes = request.encode_to_vec();
    let mut got = TimeSeries::default();
    let mut reader = Request::read(&bytes, SYMBOLS_MAX).unwrap();
    assert!(reader.next_series(3, &mut got).unwrap());
    assert_eq!(got.samples, ends);
    assert_eq!(got.starts, [0, 0, 0, i64::MIN]);
    // A reference beyond 32 bits refers to nothing.
    let series = [0x0a, 6, 0x80, 0x80, 0x80, 0x80, 0x10, 0x01];
    let message = [&[0x2a, 8][..], &series].concat();
    let mut reader = Request::read(&message, SYMBOLS_MAX).unwrap();
    assert!(reader.next_series(10, &mut got).unwrap());
    assert_eq!(got.labels_refs, [u32::MAX, 1]);
}

#[test]
fn rows_have_a_limit() {
    // One series of empty samples, two bytes each.
    let series = |samples: usize| {
        let sample = [0x12, 0].repeat(samples);
        let mut message = vec![0x2a];
        prost::encoding::encode_varint(sample.len() as u64, &mut message);
        message.extend(sample);
        message
    };
    for (samples, expect) in [
        (ROWS_MAX - 1, Ok(true)),
        (ROWS_MAX, Err(WireError::TooManyRows(ROWS_MAX))),
    ] {
        let message = series(samples);
        let mut got = TimeSeries::default();
        let mut reader = Request::read(&message, SYMBOLS_MAX).unwrap();
        assert_eq!(reader.next_series(3, &mut got), expect);
    }
}
