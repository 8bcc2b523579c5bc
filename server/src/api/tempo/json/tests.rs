//! The JSON of Tempo's API, byte by byte.

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

use super::*;
use crate::proto::tempo::{SearchTagsV2Scope, ServiceStats};

fn value(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn pair(key: &str, of: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value(of)),
        ..KeyValue::default()
    }
}

#[test]
fn values_of_attributes() {
    let list = vec![value(Value::IntValue(1)), value(Value::BoolValue(true))];
    for (of, expect) in [
        (
            Value::StringValue("<\"".to_owned()),
            r#"{"stringValue":"<\""}"#,
        ),
        (Value::StringValue(String::new()), r#"{"stringValue":""}"#),
        (Value::BoolValue(false), r#"{"boolValue":false}"#),
        (
            Value::IntValue(i64::MIN),
            r#"{"intValue":"-9223372036854775808"}"#,
        ),
        (Value::DoubleValue(1.5), r#"{"doubleValue":1.5}"#),
        (Value::DoubleValue(f64::NAN), r#"{"doubleValue":"NaN"}"#),
        (
            Value::DoubleValue(f64::NEG_INFINITY),
            r#"{"doubleValue":"-Infinity"}"#,
        ),
        (Value::BytesValue(vec![1]), r#"{"bytesValue":"AQ=="}"#),
        (
            Value::ArrayValue(ArrayValue { values: list }),
            r#"{"arrayValue":{"values":[{"intValue":"1"},{"boolValue":true}]}}"#,
        ),
        (
            Value::KvlistValue(KeyValueList {
                values: vec![pair("k", Value::IntValue(0))],
            }),
            r#"{"kvlistValue":{"values":[{"key":"k","value":{"intValue":"0"}}]}}"#,
        ),
    ] {
        let mut out = String::new();
        any_value(&mut out, &value(of));
        assert_eq!(out, expect);
    }
}

fn spans() -> ResourceSpans {
    let plain = Span {
        trace_id: vec![0xab; 16],
        span_id: vec![1; 8],
        status: Some(Status::default()),
        ..Span::default()
    };
    let full = Span {
        trace_id: vec![0xab; 16],
        span_id: vec![2; 8],
        parent_span_id: vec![1; 8],
        trace_state: "a=b".to_owned(),
        flags: 257,
        name: "GET /".to_owned(),
        kind: SpanKind::Server as i32,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_000_000_001,
        attributes: vec![pair("a", Value::IntValue(7))],
        dropped_attributes_count: 1,
        events: vec![Event {
            time_unix_nano: 5,
            name: "e".to_owned(),
            attributes: vec![],
            dropped_attributes_count: 2,
        }],
        dropped_events_count: 3,
        links: vec![Link {
            trace_id: vec![0],
            span_id: vec![0],
            ..Link::default()
        }],
        dropped_links_count: 4,
        status: Some(Status {
            message: "m".to_owned(),
            code: StatusCode::Error as i32,
        }),
    };
    ResourceSpans {
        resource: Some(Resource {
            attributes: vec![pair("service.name", Value::StringValue("shop".to_owned()))],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope::default()),
            spans: vec![plain, full],
            schema_url: "u".to_owned(),
        }],
        schema_url: String::new(),
    }
}

#[test]
fn traces() {
    let inner = "{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":\
         {\"stringValue\":\"shop\"}}]},\"scopeSpans\":[{\"scope\":{},\"spans\":[\
         {\"traceId\":\"q6urq6urq6urq6urq6urqw==\",\"spanId\":\"AQEBAQEBAQE=\",\"status\":{}},\
         {\"traceId\":\"q6urq6urq6urq6urq6urqw==\",\"spanId\":\"AgICAgICAgI=\",\
         \"traceState\":\"a=b\",\"parentSpanId\":\"AQEBAQEBAQE=\",\"flags\":257,\
         \"name\":\"GET /\",\"kind\":\"SPAN_KIND_SERVER\",\
         \"startTimeUnixNano\":\"1700000000000000000\",\
         \"endTimeUnixNano\":\"1700000000000000001\",\
         \"attributes\":[{\"key\":\"a\",\"value\":{\"intValue\":\"7\"}}],\
         \"droppedAttributesCount\":1,\
         \"events\":[{\"timeUnixNano\":\"5\",\"name\":\"e\",\"droppedAttributesCount\":2}],\
         \"droppedEventsCount\":3,\"links\":[{\"traceId\":\"AA==\",\"spanId\":\"AA==\"}],\
         \"droppedLinksCount\":4,\"status\":{\"message\":\"m\",\"code\":\"STATUS_CODE_ERROR\"}}],\
         \"schemaUrl\":\"u\"}]}";
    assert_eq!(batches(&[spans()]), format!("{{\"batches\":[{inner}]}}"));
    assert_eq!(
        trace(&[spans()], ""),
        format!("{{\"trace\":{{\"resourceSpans\":[{inner}]}}}}")
    );
    assert_eq!(trace(&[], ""), r#"{"trace":{}}"#);
    let part = r#"{"trace":{},"status":"PARTIAL","message":"why"}"#;
    assert_eq!(trace(&[], "why"), part);
}

#[test]
fn searches() {
    let set = SpanSet {
        spans: vec![FoundSpan {
            span_id: "563d623c76514f8e".to_owned(),
            name: String::new(),
            start_time_unix_nano: 1_684_778_327_735_077_898,
            duration_nanos: 446_979_497,
            attributes: vec![pair("status", Value::StringValue("error".to_owned()))],
        }],
        matched: 1,
        attributes: Vec::new(),
    };
    let found = TraceSearchMetadata {
        trace_id: "2f3e0cee77ae5dc9c17ade3689eb2e54".to_owned(),
        root_service_name: "shop".to_owned(),
        root_trace_name: "GET /".to_owned(),
        start_time_unix_nano: 1_684_778_327_699_392_724,
        duration_ms: 557,
        span_set: None,
        span_sets: vec![set],
        service_stats: HashMap::from([
            (
                "shop".to_owned(),
                ServiceStats {
                    span_count: 3,
                    error_count: 1,
                },
            ),
            (
                "db".to_owned(),
                ServiceStats {
                    span_count: 1,
                    error_count: 0,
                },
            ),
        ]),
    };
    let metrics = SearchMetrics {
        total_blocks: 13,
        inspected_bytes: 9,
        ..Default::default()
    };
    let response = SearchResponse {
        traces: vec![found],
        metrics: Some(metrics),
    };
    assert_eq!(
        search(&response),
        "{\"traces\":[{\"traceID\":\"2f3e0cee77ae5dc9c17ade3689eb2e54\",\
         \"rootServiceName\":\"shop\",\"rootTraceName\":\"GET /\",\
         \"startTimeUnixNano\":\"1684778327699392724\",\"durationMs\":557,\"spanSets\":[\
         {\"spans\":[{\"spanID\":\"563d623c76514f8e\",\
         \"startTimeUnixNano\":\"1684778327735077898\",\"durationNanos\":\"446979497\",\
         \"attributes\":[{\"key\":\"status\",\"value\":{\"stringValue\":\"error\"}}]}],\
         \"matched\":1}],\
         \"serviceStats\":{\"db\":{\"spanCount\":1},\"shop\":{\"spanCount\":3,\"errorCount\":1}}}],\
         \"metrics\":{\"inspectedBytes\":\"9\",\"totalBlocks\":13}}"
    );
    let empty = SearchResponse {
        traces: Vec::new(),
        metrics: Some(SearchMetrics::default()),
    };
    assert_eq!(search(&empty), r#"{"traces":[],"metrics":{}}"#);
}

#[test]
fn names_and_values() {
    let metrics = Some(MetadataMetrics {
        inspected_bytes: 630_188,
        total_jobs: 2,
        ..MetadataMetrics::default()
    });
    let told = r#""metrics":{"inspectedBytes":"630188","totalJobs":2}"#;
    let strings = |all: [&str; 2]| all.map(str::to_owned).to_vec();
    let names = SearchTagsResponse {
        tag_names: strings(["a", "b\""]),
        metrics,
    };
    assert_eq!(
        tags(&names),
        format!("{{\"tagNames\":[\"a\",\"b\\\"\"],{told}}}")
    );
    let by_scope = SearchTagsV2Response {
        scopes: vec![SearchTagsV2Scope {
            name: "span".to_owned(),
            tags: strings(["a", "b"]),
        }],
        metrics: None,
    };
    let expect = r#"{"scopes":[{"name":"span","tags":["a","b"]}]}"#;
    assert_eq!(scopes(&by_scope), expect);
    let plain = [("string", "x".into()), ("string", "".into())];
    assert_eq!(values(&plain), r#"{"tagValues":["x",""],"metrics":{}}"#);
    let typed = [
        ("int", "7".into()),
        ("string", "\"".into()),
        ("string", "b".into()),
    ];
    let expect = "{\"tagValues\":[{\"type\":\"int\",\"value\":\"7\"},\
                  {\"type\":\"string\",\"value\":\"\\\"\"},{\"type\":\"string\",\"value\":\"b\"}],\
                  \"metrics\":{}}";
    assert_eq!(typed_values(&typed), expect);
}

#[test]
fn series() {
    let labels = vec![
        pair("__name__", Value::StringValue("rate".to_owned())),
        pair("p", Value::DoubleValue(0.9)),
    ];
    let told = "\"labels\":[{\"key\":\"__name__\",\"value\":{\"stringValue\":\"rate\"}},\
                {\"key\":\"p\",\"value\":{\"doubleValue\":0.9}}]";
    let sample = |timestamp_ms, value| Sample {
        value,
        timestamp_ms,
    };
    let response = QueryRangeResponse {
        series: vec![TimeSeries {
            labels: labels.clone(),
            samples: vec![
                sample(0, 0.0),
                sample(1_700_000_000_000, 12.5),
                sample(-1, f64::INFINITY),
            ],
            exemplars: vec![Exemplar {
                labels: vec![pair("trace:id", Value::StringValue("ab".to_owned()))],
                value: 0.25,
                timestamp_ms: 7,
            }],
        }],
        metrics: Some(SearchMetrics::default()),
        status: PartialStatus::Partial.into(),
        message: "why".to_owned(),
    };
    assert_eq!(
        range(&response),
        format!(
            "{{\"series\":[{{{told},\"samples\":[{{}},\
             {{\"timestampMs\":\"1700000000000\",\"value\":12.5}},\
             {{\"timestampMs\":\"-1\",\"value\":\"Infinity\"}}],\
             \"exemplars\":[{{\"labels\":[{{\"key\":\"trace:id\",\"value\":{{\"stringValue\":\"ab\"}}}}],\
             \"value\":0.25,\"timestampMs\":\"7\"}}]}}],\
             \"metrics\":{{}},\"status\":\"PARTIAL\",\"message\":\"why\"}}"
        )
    );
    let response = QueryInstantResponse {
        series: vec![InstantSeries { labels, value: 3.0 }],
        ..QueryInstantResponse::default()
    };
    assert_eq!(
        instant(&response),
        format!("{{\"series\":[{{{told},\"value\":3}}]}}")
    );
}
