//! Pushes in both formats, good ones, half-good ones and damaged ones.

use prost::Message;
use trine_storage::Labels;

use super::{Format, translate, unpack};
use crate::body::{Budget, Encoding};
use crate::config::Config;
use crate::ingest::log_rules::Rules;
use crate::ingest::otlp_logs::Sink;
use crate::ingest::rates::Rates;
use crate::proto::loki::schema;
use crate::refusal::Reason;

struct Lines(Vec<String>);

impl Sink for Lines {
    fn entry(
        &mut self,
        labels: &Labels,
        timestamp_ns: i64,
        line: &str,
        metadata: &Labels,
    ) -> Result<(), String> {
        self.0
            .push(format!("{labels} {timestamp_ns} {line} {metadata}"));
        Ok(())
    }
}

/// What is stored of a body, and what the sender is told.
fn run(format: Format, body: &[u8]) -> (Vec<String>, String) {
    let mut lines = Lines(Vec::new());
    let mut config = Config::default();
    config.limits.log_line_bytes_max = 10;
    let rates = Rates::default();
    let rules = Rules::new(&config, "t", &rates, (1_700_000_000_000_000_000, 0));
    let told = match translate(format, body, &rules, &mut lines) {
        Ok(rejections) => rejections.text("; "),
        Err(refusal) => format!("{:?}: {refusal}", refusal.reason),
    };
    (lines.0, told)
}

#[test]
fn json_bodies() {
    let check = |body: &str, expect: &[&str], told: &str| {
        let (lines, got) = run(Format::Json, body.as_bytes());
        assert_eq!(lines, expect, "{body}");
        assert!(
            got.contains(told) && got.is_empty() == told.is_empty(),
            "{got:?} is not {told:?}"
        );
    };
    check(
        r#"{"other":[1],"streams":[{"stream":{"app":"a\"b"},"values":[["1","x\n"],["2","err",{"k":"v","k":"w"}],["3","y",{}]]}]}"#,
        &[
            "{app=\"a\\\"b\", service_name=\"a\\\"b\"} 1 x\n {detected_level=\"unknown\"}",
            r#"{app="a\"b", service_name="a\"b"} 2 err {detected_level="error", k="v"}"#,
            r#"{app="a\"b", service_name="a\"b"} 3 y {detected_level="unknown"}"#,
        ],
        "",
    );
    check(
        r#"{"streams":[{"labels":"{app=\"a\"}","entries":[{"ts":"1970-01-01T00:00:01.5Z","line":"x"}]}]}"#,
        &[r#"{app="a", service_name="a"} 1500000000 x {detected_level="unknown"}"#],
        "",
    );
    // The good entries of a half-good request are stored.
    check(
        r#"{"streams":[{"stream":{},"values":[["1","x"]]},{"stream":{"a":"b"},"values":[["1","12345678901"],["2","y"]]}]}"#,
        &[r#"{a="b", service_name="unknown_service"} 2 y {detected_level="unknown"}"#],
        "error at least one label pair is required per stream; max entry size '10' bytes exceeded",
    );
    let none = "Bad: error at least one valid stream is required for ingestion";
    for body in [r#"{"streams":[]}"#, r#"{"streams":null}"#, "{}"] {
        check(body, &[], none);
    }
    check(
        r#"{"streams":[{"stream":{"a":"b"},"values":[]}]}"#,
        &[],
        none,
    );
    for (body, told) in [
        ("", "cannot read the JSON body"),
        ("[]", "a push request"),
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[[1,"x"]]}]}"#,
            "expected a string",
        ),
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[["1s","x"]]}]}"#,
            "not a timestamp",
        ),
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[["1"]]}]}"#,
            "lacks its line",
        ),
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"k":1}]]}]}"#,
            "expected a string",
        ),
        (
            r#"{"streams":[{"stream":{"a":1},"values":[]}]}"#,
            "expected a string",
        ),
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x"]]}"#,
            "cannot read the JSON body",
        ),
    ] {
        let (lines, got) = run(Format::Json, body.as_bytes());
        assert!(lines.is_empty() && got.contains(told), "{body}: {got}");
    }
    let (_, got) = run(Format::Json, b"{\"streams\":\xff}");
    assert!(got.contains("not UTF-8"), "{got}");
}

fn protobuf() -> Vec<u8> {
    let entry = |seconds, line: &str| schema::Entry {
        timestamp: Some(schema::Timestamp { seconds, nanos: 1 }),
        line: line.into(),
        metadata: vec![schema::Pair {
            name: "level".into(),
            value: "WARN".into(),
        }],
    };
    let stream = |labels: &str, entries| schema::Stream {
        labels: labels.into(),
        entries,
        hash: 0,
    };
    schema::PushRequest {
        streams: vec![
            stream("{job=\"j\"}", vec![entry(1, "x"), entry(2, "y")]),
            stream("{job", vec![entry(3, "z")]),
        ],
    }
    .encode_to_vec()
}

#[test]
fn protobuf_bodies() {
    let body = protobuf();
    let (lines, told) = run(Format::Protobuf, &body);
    assert_eq!(
        lines,
        [
            r#"{job="j", service_name="j"} 1000000001 x {detected_level="warn", level="WARN"}"#,
            r#"{job="j", service_name="j"} 2000000001 y {detected_level="warn", level="WARN"}"#,
        ]
    );
    assert_eq!(told, "error parsing labels '{job' with error: expected =");
    let (lines, told) = run(Format::Protobuf, body.get(..body.len() - 1).unwrap());
    assert!(lines.is_empty(), "nothing is stored of a damaged body");
    assert_eq!(
        told,
        "Bad: cannot read the push request: the message is cut short"
    );
}

#[test]
fn protobuf_is_snappy_whatever_the_header_says() {
    let plain = protobuf();
    let packed = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    let wrapped = zstd::encode_all(&packed[..], 3).unwrap();
    let run = |format, encoding, bytes: &[u8], max| {
        let mut share = Budget::new(1 << 20).share();
        unpack(format, encoding, bytes.to_vec().into(), max, &mut share).map_err(|e| e.reason)
    };
    for encoding in [None, Some(Encoding::Snappy), Some(Encoding::Identity)] {
        assert_eq!(
            run(Format::Protobuf, encoding, &packed, 1000).unwrap(),
            plain
        );
    }
    assert_eq!(
        run(Format::Protobuf, Some(Encoding::Zstd), &wrapped, 1000).unwrap(),
        plain
    );
    assert_eq!(run(Format::Protobuf, None, &plain, 1000), Err(Reason::Bad));
    assert_eq!(
        run(Format::Protobuf, None, &packed, 10),
        Err(Reason::TooLarge)
    );
    assert_eq!(run(Format::Json, None, b"{}", 2).unwrap(), "{}");
    assert_eq!(
        run(Format::Json, None, b"{ }", 2),
        Err(Reason::Bad),
        "not 413"
    );
}

#[test]
fn formats_by_content_type() {
    for (kind, expect) in [
        (Some("application/json"), Format::Json),
        (Some("Application/JSON; charset=utf-8"), Format::Json),
        (Some("application/x-protobuf"), Format::Protobuf),
        (Some("text/plain"), Format::Protobuf),
        (None, Format::Protobuf),
    ] {
        assert_eq!(Format::of(kind), expect, "{kind:?}");
    }
}
