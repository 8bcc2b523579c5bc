//! What version 2 becomes, and what is refused in Prometheus' words.

use prost::Message;

use super::super::remote_write::{Version, translate};
use crate::config::Limits;
use crate::ingest::metric_labels::Rules;
use crate::ingest::recorder::Recorder;
use crate::proto::schema::{self, v2};

fn run(request: &v2::Request) -> (Vec<String>, u64, String) {
    let limits = Limits::default();
    let mut recorder = Recorder::default();
    let body = request.encode_to_vec();
    let rejections = translate(Version::V2, &body, &Rules::of(&limits), &mut recorder).unwrap();
    (recorder.lines, rejections.count(), rejections.text("; "))
}

#[test]
fn everything_that_a_series_has_is_taken() {
    let mut request = v2::Request::begin();
    let (help, unit) = (request.symbol("How long."), request.symbol("s"));
    let trace = request.refs(&[("trace_id", "ff")]);
    let metadata = v2::Metadata {
        kind: 3,
        help_ref: help,
        unit_ref: unit,
    };
    for _ in 0..2 {
        let plain = request.series(&[("b", "é"), ("__name__", "up")], &[(1, 1.0), (2, 0.5)]);
        plain.samples[1].start_timestamp = 1;
        let rich = request.series(&[("__name__", "x_bucket")], &[(3, 3.0)]);
        rich.metadata = Some(metadata);
        rich.created_timestamp = 2;
        rich.histograms = vec![
            schema::histogram(4),
            schema::Histogram {
                start_timestamp: 3,
                ..schema::histogram(5)
            },
        ];
        rich.exemplars = vec![v2::Exemplar {
            labels_refs: trace.clone(),
            value: 0.5,
            timestamp: 0,
        }];
    }
    let (lines, count, told) = run(&request);
    let rows = [
        r#"{__name__="up", b="é"} 1 1"#,
        r#"{__name__="up", b="é"} 2 0.5 since 1"#,
        r#"{__name__="x_bucket"} 3 3 since 2"#,
        r#"{__name__="x_bucket"} 4 integers schema 0 count 4 sum 10.5 since 2"#,
        r#"{__name__="x_bucket"} 5 integers schema 0 count 4 sum 10.5 since 3"#,
        r#"{__name__="x_bucket"} exemplar 3 0.5 {trace_id="ff"}"#,
    ];
    let mut expect: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
    expect.push(r#"x is histogram "How long." "s""#.to_owned());
    expect.extend(rows.iter().map(|row| format!("known {row}")));
    assert_eq!(lines, expect);
    assert_eq!((count, told.as_str()), (0, ""));
}

#[test]
fn a_series_is_known_whatever_the_places_of_its_symbols_are() {
    let pairs = [("__name__", "up"), ("a", "b")];
    let mut recorder = Recorder::default();
    let limits = Limits::default();
    for symbols in [&[][..], &["x", "b", "y"], &["a", "up"]] {
        let mut request = v2::Request::begin();
        for symbol in symbols {
            request.symbol(symbol);
        }
        request.series(&pairs, &[(1, 1.0)]);
        // The same symbols in another order are another series.
        request.series(&[("__name__", "a"), ("up", "b")], &[(1, 1.0)]);
        let body = request.encode_to_vec();
        translate(Version::V2, &body, &Rules::of(&limits), &mut recorder).unwrap();
    }
    let fresh = [
        r#"{__name__="up", a="b"} 1 1"#,
        r#"{__name__="a", up="b"} 1 1"#,
    ];
    let known = fresh.map(|line| format!("known {line}"));
    assert_eq!(recorder.lines[..2], fresh);
    assert_eq!(recorder.lines[2..4], known);
    assert_eq!(recorder.lines[4..], known);
}

#[test]
fn what_is_wrong_is_refused_in_prometheus_words_and_the_rest_is_taken() {
    let up = [("__name__", "up")];
    let check = |change: &dyn Fn(&mut v2::TimeSeries), count: u64, lines: usize, expect: &str| {
        let mut request = v2::Request::begin();
        request.series(&[("__name__", "good")], &[(1, 1.0)]);
        change(request.series(&up, &[(1, 1.0), (2, 2.0)]));
        request.series(&[("__name__", "fine")], &[(1, 1.0)]);
        let (taken, refused, told) = run(&request);
        assert_eq!(told, expect);
        assert_eq!((refused, taken.len()), (count, 2 + lines), "{expect}");
    };
    let size = "outside of symbols table (size 5)";
    check(
        &|series| series.labels_refs = vec![1, 2, 3],
        2,
        0,
        "parsing labels for series [1 2 3]: invalid labelRefs length 3",
    );
    check(
        &|series| series.labels_refs = vec![1, 999],
        2,
        0,
        &format!("parsing labels for series [1 999]: labelRefs 1 (name) = 999 (value) {size}"),
    );
    check(
        &|series| series.labels_refs = vec![u32::MAX, 1],
        2,
        0,
        &format!(
            "parsing labels for series [4294967295 1]: labelRefs 4294967295 (name) = 1 (value) \
             {size}"
        ),
    );
    check(
        &|series| series.labels_refs = vec![],
        2,
        0,
        "invalid metric name or labels, got {}",
    );
    check(
        &|series| series.labels_refs = vec![1, 3, 0, 2],
        2,
        0,
        r#"invalid metric name or labels, got {__name__="up", ="good"}"#,
    );
    check(
        &|series| series.labels_refs = vec![1, 3, 1, 3],
        2,
        0,
        "invalid labels for series, labels {__name__=\"up\", __name__=\"up\"}, duplicated label \
         __name__",
    );
    check(
        &|series| {
            series.samples.clear();
            series.exemplars = vec![v2::Exemplar::default()];
        },
        1,
        0,
        "TimeSeries must contain at least one sample or histogram for series {__name__=\"up\"}",
    );
    check(
        &|series| {
            series.exemplars = vec![v2::Exemplar {
                labels_refs: vec![7],
                ..v2::Exemplar::default()
            }];
        },
        1,
        2,
        "parsing exemplar for series {__name__=\"up\"}: parsing labels for series [7]: invalid \
         labelRefs length 1",
    );
    check(
        &|series| {
            series.metadata = Some(v2::Metadata {
                help_ref: 77,
                ..v2::Metadata::default()
            });
        },
        1,
        2,
        "parsing metadata for series {__name__=\"up\"}: symbol reference 77 outside of symbols \
         table (size 5)",
    );
    check(
        &|series| {
            series.samples.clear();
            series.histograms = vec![schema::Histogram {
                schema: 1000,
                ..schema::histogram(9)
            }];
        },
        1,
        0,
        "invalid histogram: series={__name__=\"up\"} timestamp=9: histogram has an invalid \
         schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, \
         got schema 1000",
    );
}

#[test]
fn labels_that_are_too_many_are_refused_by_their_number() {
    let limits = Limits {
        metric_labels_max: 2,
        ..Limits::default()
    };
    let mut request = v2::Request::begin();
    let names: Vec<String> = (0..99).map(|n| format!("l{n:02}")).collect();
    let mut pairs = vec![("__name__", "up")];
    pairs.extend(names.iter().map(|name| (name.as_str(), "x")));
    request.series(&pairs, &[(1, 1.0)]);
    request.series(&pairs[..2], &[(1, 1.0)]);
    let mut recorder = Recorder::default();
    let body = request.encode_to_vec();
    let rejections = translate(Version::V2, &body, &Rules::of(&limits), &mut recorder).unwrap();
    let told = rejections.text("");
    assert!(told.contains("(actual: 100, limit: 2)"), "{told}");
    assert_eq!(recorder.lines, [r#"{__name__="up", l00="x"} 1 1"#]);
}
