//! The answers of Loki's API, byte by byte.

use trine_query::logql::{Entry, Sample, Series};
use trine_storage::Kind;

use super::*;
use crate::refusal::Reason;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

/// Checks what stands before the statistics.
fn check(value: QueryValue, encoding: Encoding, expect: &str) {
    let result = QueryResult {
        value,
        stats: Stats::default(),
        warnings: Vec::new(),
    };
    let text = query_result(result, encoding, Duration::ZERO);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(json["data"]["stats"]["summary"]["execTime"].is_number());
    let (head, _) = text.split_once(",\"stats\"").unwrap();
    assert_eq!(head, format!(r#"{{"status":"success","data":{{{expect}"#));
}

fn entry(timestamp_ns: i64, line: &[u8], metadata: Labels, parsed: Labels) -> Entry {
    let stream = labels(&[("app", "api")]);
    Entry {
        timestamp_ns,
        line: line.to_vec(),
        stream,
        metadata,
        parsed,
    }
}

fn rows() -> QueryValue {
    let none = Labels::empty();
    let traced = labels(&[("trace_id", "7")]);
    let parsed = labels(&[("level", "info")]);
    QueryValue::Streams(LogRows {
        entries: vec![
            entry(2, b"b\"\n\xff", traced, parsed),
            entry(1, b"a", none.clone(), none),
        ],
    })
}

#[test]
fn streams_have_two_columns_and_all_labels() {
    check(
        rows(),
        Encoding::Merged,
        "\"resultType\":\"streams\",\"result\":[\
         {\"stream\":{\"app\":\"api\"},\"values\":[[\"1\",\"a\"]]},\
         {\"stream\":{\"app\":\"api\",\"level\":\"info\",\"trace_id\":\"7\"},\
         \"values\":[[\"2\",\"b\\\"\\n\u{fffd}\"]]}]",
    );
}

#[test]
fn categorized_streams_have_three_columns() {
    check(
        rows(),
        Encoding::Categorized,
        "\"resultType\":\"streams\",\"encodingFlags\":[\"categorize-labels\"],\"result\":[\
         {\"stream\":{\"app\":\"api\"},\"values\":[[\"2\",\"b\\\"\\n\u{fffd}\",\
         {\"structuredMetadata\":{\"trace_id\":\"7\"},\"parsed\":{\"level\":\"info\"}}],\
         [\"1\",\"a\",{}]]}]",
    );
}

#[test]
fn numbers() {
    let at = |timestamp_ns, value| Point {
        timestamp_ns,
        value,
    };
    check(
        QueryValue::Streams(LogRows::default()),
        Encoding::Merged,
        r#""resultType":"streams","result":[]"#,
    );
    check(
        QueryValue::Scalar(at(1_500_000_000, 1e21)),
        Encoding::Merged,
        r#""resultType":"scalar","result":[1.5,"1000000000000000000000"]"#,
    );
    let sample = Sample {
        labels: labels(&[]),
        timestamp_ns: 4_000_000_000,
        value: 2.0,
    };
    check(
        QueryValue::Vector(vec![sample]),
        Encoding::Merged,
        r#""resultType":"vector","result":[{"metric":{},"value":[4,"2"]}]"#,
    );
    let series = Series {
        labels: labels(&[("a", "b")]),
        points: vec![
            at(1_700_000_000_123_456_789, f64::INFINITY),
            at(-1_000_000, f64::NAN),
        ],
    };
    check(
        QueryValue::Matrix(vec![series]),
        Encoding::Categorized,
        r#""resultType":"matrix","encodingFlags":["categorize-labels"],"result":[{"metric":{"a":"b"},"values":[[1700000000.123,"+Inf"],[-0.001,"NaN"]]}]"#,
    );
}

#[test]
fn statistics_and_warnings() {
    let stats = Stats {
        lines_processed: 10,
        bytes_processed: 1000,
        lines_passed: 4,
        entries_returned: 3,
    };
    let value = QueryValue::Vector(Vec::new());
    let result = QueryResult {
        value,
        stats,
        warnings: vec!["w".to_owned()],
    };
    let text = query_result(result, Encoding::Merged, Duration::from_millis(500));
    assert!(
        text.starts_with(r#"{"status":"success","warnings":["w"],"data":{"#),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let stats = &json["data"]["stats"];
    for (pointer, expect) in [
        ("/summary/bytesProcessedPerSecond", 2000.0),
        ("/summary/linesProcessedPerSecond", 20.0),
        ("/summary/totalBytesProcessed", 1000.0),
        ("/summary/totalLinesProcessed", 10.0),
        ("/summary/execTime", 0.5),
        ("/summary/totalEntriesReturned", 3.0),
        ("/summary/totalPostFilterLines", 4.0),
        ("/querier/store/chunk/decompressedLines", 10.0),
        ("/store/totalChunksRef", 0.0),
        ("/ingester/totalReached", 0.0),
        ("/ingester/store/chunk/decompressedBytes", 0.0),
    ] {
        let found = stats.pointer(pointer).and_then(serde_json::Value::as_f64);
        assert_eq!(found, Some(expect), "{pointer}");
    }
}

#[test]
fn lists() {
    assert_eq!(names(&[]), r#"{"status":"success","data":[]}"#);
    assert_eq!(
        names(&["a".to_owned()]),
        r#"{"status":"success","data":["a"]}"#
    );
    let expect = r#"{"status":"success","data":[{"a":"b"}]}"#;
    assert_eq!(series(&[labels(&[("a", "b")])]), expect);
}

#[tokio::test]
async fn failures_are_plain_text() {
    let refusal = |reason| Failure::from(Refusal::new(reason, "why"));
    let timed_out = QueryError::from(BudgetError::TimedOut);
    for (failure, status, text) in [
        (Failure::bad("why"), 400, "why"),
        (QueryError::Invalid("why".to_owned()).into(), 400, "why"),
        (QueryError::Unsupported("why".to_owned()).into(), 400, "why"),
        (QueryError::Limit("why".to_owned()).into(), 400, "why"),
        (timed_out.into(), 504, TIMED_OUT),
        (
            QueryError::Cancelled.into(),
            499,
            "the request was cancelled by the client",
        ),
        (Error::new(Kind::Io, "why").into(), 503, "why"),
        (refusal(Reason::Busy), 429, "why"),
    ] {
        let response = failure.into_response();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(
            response.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
        assert_eq!(
            response.headers().contains_key("retry-after"),
            [429, 503].contains(&status)
        );
        let body = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        assert_eq!(std::str::from_utf8(&body).unwrap(), text);
    }
}
