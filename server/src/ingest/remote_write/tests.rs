//! What version 1 becomes, what is refused, and which version a request is of.

use axum::http::{HeaderMap, HeaderValue, header};
use prost::Message;

use super::{Rules, Version, first_labels, translate, unpack};
use crate::body::Budget;
use crate::config::Limits;
use crate::ingest::recorder::Recorder;
use crate::proto::schema::{self, v1, v2};

fn run(request: &v1::WriteRequest) -> (Vec<String>, String) {
    let limits = Limits::default();
    let mut recorder = Recorder::default();
    let body = request.encode_to_vec();
    let rejections = translate(Version::V1, &body, &Rules::of(&limits), &mut recorder).unwrap();
    (recorder.lines, rejections.text("; "))
}

#[test]
fn everything_that_a_series_has_is_taken() {
    let plain = v1::series(&[("__name__", "up"), ("a", "")], &[(1, 1.0), (2, 0.5)]);
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let mut rich = v1::series(&[("__name__", "x")], &[(3, stale)]);
    rich.histograms = vec![
        schema::histogram(4),
        schema::Histogram {
            count: Some(schema::Count::Float(0.0)),
            sum: stale,
            schema: -53,
            timestamp: 5,
            ..schema::Histogram::default()
        },
    ];
    let exemplar = |pairs: &[(&str, &str)], timestamp| v1::Exemplar {
        labels: v1::labels(pairs),
        value: 0.5,
        timestamp,
    };
    rich.exemplars = vec![
        exemplar(&[("trace_id", "ff")], 2),
        exemplar(&[("b", "1"), ("a", "2")], 0),
    ];
    let request = v1::WriteRequest {
        timeseries: vec![plain.clone(), rich.clone(), rich, plain],
        metadata: vec![v1::Metadata {
            kind: 1,
            family: "up".into(),
            help: "Is it?".into(),
            unit: "s".into(),
        }],
    };
    let (lines, told) = run(&request);
    let known = |line: &str| format!("known {line}");
    let plain = [r#"{__name__="up"} 1 1"#, r#"{__name__="up"} 2 0.5"#];
    let rich = [
        r#"{__name__="x"} 3 stale"#,
        r#"{__name__="x"} 4 integers schema 0 count 4 sum 10.5 since 0"#,
        r#"{__name__="x"} 5 floats schema -53 count 0 sum stale since 0"#,
        r#"{__name__="x"} exemplar 2 0.5 {trace_id="ff"}"#,
        r#"{__name__="x"} exemplar 3 0.5 {a="2", b="1"}"#,
    ];
    let mut expect: Vec<String> = plain.iter().chain(&rich).map(|l| (*l).to_owned()).collect();
    expect.extend(rich.iter().chain(&plain).map(|line| known(line)));
    expect.push(r#"up is counter "Is it?" "s""#.to_owned());
    assert_eq!(lines, expect);
    assert_eq!(told, "");
}

#[test]
fn what_is_wrong_is_refused_by_name_and_the_rest_is_taken() {
    let mut broken = v1::series(&[("__name__", "h")], &[(1, 1.0)]);
    broken.histograms = vec![
        schema::Histogram {
            schema: 1000,
            timestamp: 7,
            ..schema::Histogram::default()
        },
        schema::histogram(8),
    ];
    broken.exemplars = vec![v1::Exemplar {
        labels: v1::labels(&[("a", "1"), ("a", "2")]),
        ..v1::Exemplar::default()
    }];
    let mut nameless = v1::series(&[("a", "b")], &[(1, 1.0)]);
    nameless.histograms = vec![schema::histogram(1); 2];
    let mut request = v1::request(vec![
        broken.clone(),
        nameless,
        v1::series(&[("__name__", "x"), ("a", "b"), ("a", "c")], &[(1, 1.0)]),
        v1::series(&[("__name__", "x"), ("", "b")], &[(1, 1.0)]),
        broken,
    ]);
    request.metadata = vec![v1::Metadata::default()];
    let (lines, told) = run(&request);
    let taken = r#"{__name__="h"} 8 integers schema 0 count 4 sum 10.5 since 0"#;
    assert_eq!(lines[..2], [r#"{__name__="h"} 1 1"#, taken]);
    assert_eq!(lines[3], format!("known {taken}"));
    assert_eq!(lines.len(), 4);
    for expect in [
        "an exemplar was not stored: ",
        r#"invalid histogram: series={__name__="h"} timestamp=7: "#,
        r#"invalid metric name or labels, got {a="b"}"#,
        r#"invalid labels for series, labels {__name__="x", a="b", a="c"}, duplicated label a"#,
        r#"invalid metric name or labels, got {__name__="x", ="b"}"#,
        "metadata of a metric without a name",
    ] {
        assert!(told.contains(expect), "{told:?} does not say {expect:?}");
    }
    let limits = Limits::default();
    let mut recorder = Recorder::default();
    let body = request.encode_to_vec();
    let rejections = translate(Version::V1, &body, &Rules::of(&limits), &mut recorder).unwrap();
    // One histogram twice, three rows without a name, one with a label twice, one with none.
    assert_eq!(rejections.count(), 2 + 3 + 1 + 1);
    assert_eq!(recorder.learned(), 1);
}

#[test]
fn a_body_without_a_name_for_its_encoding_is_snappy_or_plain() {
    let v1 = v1::request(vec![v1::series(&[("__name__", "up")], &[(1, 1.0)])]).encode_to_vec();
    let mut two = v2::Request::begin();
    two.series(&[("__name__", "up")], &[(1, 1.0)]);
    for (version, plain) in [(Version::V1, v1), (Version::V2, two.encode_to_vec())] {
        let packed = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        let run = |bytes: &[u8]| {
            let mut share = Budget::new(1 << 20).share();
            unpack(version, bytes.to_vec().into(), 1000, &mut share)
        };
        assert_eq!(run(&packed).unwrap(), plain);
        assert_eq!(run(&plain).unwrap(), plain);
        for neither in [&b""[..], b"hello", plain.get(..plain.len() - 1).unwrap()] {
            let refusal = run(neither).unwrap_err();
            assert!(refusal.text.contains("snappy"), "{refusal}");
        }
    }
}

#[test]
fn a_damaged_body_is_refused() {
    let series = v1::series(&[("__name__", "up")], &[(1, 1.0)]);
    let body = v1::request(vec![series.clone(); 2]).encode_to_vec();
    let mut other = v2::Request::begin();
    other.series(&[("__name__", "up")], &[(1, 1.0)]);
    let limits = Limits::default();
    for (version, body, expect) in [
        (Version::V1, &body[..body.len() - 1], "cut short"),
        (Version::V1, &other.encode_to_vec(), "another version"),
        (Version::V2, &body, "another version"),
    ] {
        let mut recorder = Recorder::default();
        let refusal = translate(version, body, &Rules::of(&limits), &mut recorder).unwrap_err();
        let text = &refusal.text;
        assert!(
            text.starts_with("cannot read the write request: "),
            "{text}"
        );
        assert!(text.contains(expect), "{text}");
    }
}

#[test]
fn the_first_series_names_its_replica() {
    let pairs = [("__name__", "up"), ("__replica__", "r1"), ("cluster", "c")];
    let one = v1::WriteRequest {
        timeseries: vec![
            v1::series(&pairs, &[]),
            v1::series(&[("cluster", "x")], &[]),
        ],
        metadata: vec![v1::Metadata::default()],
    };
    let mut two = v2::Request::begin();
    two.series(&pairs, &[]);
    let limits = Limits::default();
    for (version, body) in [
        (Version::V1, one.encode_to_vec()),
        (Version::V2, two.encode_to_vec()),
    ] {
        let names = ["cluster", "__replica__", "z"];
        let found = first_labels(version, &body, names, &Rules::of(&limits)).unwrap();
        assert_eq!(found, ["c", "r1", ""]);
        let found = first_labels(version, &[], names, &Rules::of(&limits)).unwrap();
        assert_eq!(found, ["", "", ""]);
        assert!(first_labels(version, &body[..9], names, &Rules::of(&limits)).is_err());
    }
}

#[test]
fn content_types() {
    let v1 = "application/x-protobuf;proto=prometheus.WriteRequest";
    let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    for (text, expect) in [
        (Some("application/x-protobuf"), Some(Version::V1)),
        (Some("Application/X-Protobuf"), Some(Version::V1)),
        (Some(v1), Some(Version::V1)),
        (Some(&*v1.replace(';', " ; ")), Some(Version::V1)),
        (None, Some(Version::V1)),
        (Some(v2), Some(Version::V2)),
        (Some(&*v2.replace(';', "; ")), Some(Version::V2)),
        (
            Some("application/x-protobuf; charset=utf-8; proto=\"prometheus.WriteRequest\""),
            Some(Version::V1),
        ),
        (
            Some("application/x-protobuf;proto=io.prometheus.write.v3.Request"),
            None,
        ),
        (Some("application/json"), None),
        (Some("text/plain;proto=prometheus.WriteRequest"), None),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(text) = text {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(text).unwrap());
        }
        assert_eq!(Version::of(&headers).ok(), expect, "{text:?}");
    }
}
