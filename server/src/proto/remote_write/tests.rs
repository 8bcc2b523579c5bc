//! The reader against the schema, and what it does with damage.

use prost::Message;

use super::{EXEMPLAR_LABELS_MAX, Exemplar, Metadata, Part, ROWS_MAX, TimeSeries, WriteRequest};
use crate::proto::schema::{self, v1};
use crate::proto::wire::WireError;

#[test]
fn the_reader_agrees_with_the_schema() {
    let mut third = v1::series(&[("a", "")], &[]);
    third.exemplars = vec![v1::Exemplar::default(); 2];
    third.histograms = vec![schema::histogram(7); 3];
    let request = v1::request(vec![
        v1::series(
            &[("__name__", "up"), ("job", "é")],
            &[(1, 0.0), (-5, f64::NEG_INFINITY), (i64::MAX, -0.0)],
        ),
        v1::series(
            &[("a", "b"), ("long", &"x".repeat(200)), ("z", "")],
            &[
                (1_700_000_000_123, 2.5),
                ((1 << 42) - 1, 1.0),
                (1 << 42, 3.0),
            ],
        ),
        v1::series(&[], &[]),
        third,
    ]);
    let bytes = request.encode_to_vec();
    let mut reader = WriteRequest::of(&bytes, ROWS_MAX);
    let mut got = TimeSeries::default();
    for expect in &request.timeseries {
        assert!(reader.next_part(&mut got).unwrap() == Some(Part::Series));
        assert!(got.labels.is_empty());
        got.read_labels(10).unwrap();
        let labels: Vec<_> = expect
            .labels
            .iter()
            .map(|l| (l.name.as_bytes(), l.value.as_bytes()))
            .collect();
        assert_eq!(got.labels, labels);
        let samples: Vec<_> = expect
            .samples
            .iter()
            .map(|s| (s.timestamp, s.value))
            .collect();
        assert_eq!(got.samples, samples);
        assert_eq!(got.label_count, expect.labels.len());
        assert_eq!(got.exemplars.len(), expect.exemplars.len());
        let histograms = expect.histograms.iter().map(Message::encode_to_vec);
        assert_eq!(got.histograms, histograms.collect::<Vec<_>>());
    }
    assert_eq!(reader.next_part(&mut got), Ok(None));
    for cut in 1..bytes.len() {
        let mut reader = WriteRequest::of(&bytes[..cut], ROWS_MAX);
        while let Ok(Some(_)) = reader.next_part(&mut got) {
            got.read_labels(10).ok();
        }
    }
}

#[test]
fn labels_that_do_not_come_first_are_read_all_the_same() {
    let label = [0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'b'];
    let sample = [0x12, 2, 0x10, 7];
    let check = |series: &[u8], first: bool, labels: usize| {
        let length = u8::try_from(series.len()).unwrap();
        let message = [&[0x0a, length][..], series].concat();
        let mut got = TimeSeries::default();
        WriteRequest::of(&message, ROWS_MAX)
            .next_part(&mut got)
            .unwrap();
        got.read_labels(10).unwrap();
        assert_eq!((got.labels_first, got.labels.len()), (first, labels));
        assert!(got.labels.iter().all(|label| *label == (b"a", b"b")));
        assert_eq!(got.samples, [(7, 0.0)]);
    };
    check(&[&label[..], &label, &sample].concat(), true, 2);
    check(&[&sample[..], &label].concat(), false, 1);
    check(&[&label[..], &sample, &label].concat(), false, 2);
    check(&sample, true, 0);
}

#[test]
fn a_stale_marker_keeps_its_bits() {
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let request = v1::request(vec![v1::series(&[("a", "b")], &[(1, stale)])]);
    let bytes = request.encode_to_vec();
    let mut got = TimeSeries::default();
    WriteRequest::of(&bytes, ROWS_MAX)
        .next_part(&mut got)
        .unwrap();
    assert_eq!(got.samples[0].1.to_bits(), stale.to_bits());
}

#[test]
fn exemplars_and_metadata_agree_with_the_schema() {
    let mut exemplar = Exemplar::default();
    let sent = v1::Exemplar {
        labels: v1::labels(&[("trace_id", "ff"), ("a", "")]),
        value: 0.5,
        timestamp: -1,
    };
    let bytes = sent.encode_to_vec();
    exemplar.read(&bytes).unwrap();
    assert_eq!(
        exemplar.labels,
        [(&b"trace_id"[..], &b"ff"[..]), (b"a", b"")]
    );
    assert_eq!((exemplar.value, exemplar.timestamp), (0.5, -1));
    let many = v1::Exemplar {
        labels: vec![v1::Label::default(); 2 * EXEMPLAR_LABELS_MAX],
        ..v1::Exemplar::default()
    };
    let bytes = many.encode_to_vec();
    exemplar.read(&bytes).unwrap();
    assert_eq!(exemplar.labels.len(), EXEMPLAR_LABELS_MAX);

    let request = v1::WriteRequest {
        metadata: vec![v1::Metadata {
            kind: 3,
            family: "f".into(),
            help: "h".into(),
            unit: "u".into(),
        }],
        ..v1::WriteRequest::default()
    };
    let expect = Metadata {
        kind: 3,
        family: b"f",
        help: b"h",
        unit: b"u",
    };
    let bytes = request.encode_to_vec();
    let got = WriteRequest::of(&bytes, ROWS_MAX).next_part(&mut TimeSeries::default());
    assert_eq!(got, Ok(Some(Part::Metadata(expect))));
}

#[test]
fn labels_that_are_too_many_are_counted_and_not_kept() {
    let series = v1::series(&[("a", "b"), ("c", "d"), ("e", "f")], &[]);
    let bytes = v1::request(vec![series]).encode_to_vec();
    let mut got = TimeSeries::default();
    WriteRequest::of(&bytes, ROWS_MAX)
        .next_part(&mut got)
        .unwrap();
    got.read_labels(2).unwrap();
    assert_eq!((got.labels.len(), got.label_count), (2, 3));
}

#[test]
fn a_request_of_version_2_is_told_from_an_empty_one() {
    let mut request = v1_other();
    let got = WriteRequest::of(&request, ROWS_MAX).next_part(&mut TimeSeries::default());
    assert_eq!(got, Err(WireError::OtherVersion));
    request.clear();
    let got = WriteRequest::of(&request, ROWS_MAX).next_part(&mut TimeSeries::default());
    assert_eq!(got, Ok(None));
}

fn v1_other() -> Vec<u8> {
    let mut request = schema::v2::Request::begin();
    request.series(&[("a", "b")], &[(1, 1.0)]);
    request.encode_to_vec()
}

#[test]
fn rows_have_a_limit_over_all_series() {
    let mut series = v1::series(&[("a", "b")], &[(1, 1.0), (2, 2.0)]);
    series.exemplars = vec![v1::Exemplar::default()];
    series.histograms = vec![schema::histogram(1)];
    let bytes = v1::request(vec![series; 3]).encode_to_vec();
    // Each series and four rows of it.
    for (max, count) in [(15, 3), (14, 2), (10, 2), (4, 0)] {
        let mut reader = WriteRequest::of(&bytes, max);
        let mut got = TimeSeries::default();
        for _ in 0..count {
            assert_eq!(reader.next_part(&mut got), Ok(Some(Part::Series)));
        }
        let end = match count {
            3 => Ok(None),
            _ => Err(WireError::TooManyRows(max)),
        };
        assert_eq!(reader.next_part(&mut got), end, "{max}");
    }
}
