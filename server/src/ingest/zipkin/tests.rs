//! Spans of Zipkin's clients as spans of OTLP.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message as _;

use super::*;

fn translated(body: &str) -> Vec<ResourceSpans> {
    let batch = translate(body.as_bytes(), usize::MAX).unwrap();
    let request = ExportTraceServiceRequest::decode(batch.finish()).unwrap();
    request.resource_spans
}

fn only(body: &str) -> (Resource, InstrumentationScope, Span) {
    let mut all = translated(body);
    let mut of_resource = all.pop().unwrap();
    let mut of_scope = of_resource.scope_spans.pop().unwrap();
    assert!(all.is_empty() && of_resource.scope_spans.is_empty() && of_scope.spans.len() == 1);
    let (resource, scope) = (of_resource.resource.unwrap(), of_scope.scope.unwrap());
    (resource, scope, of_scope.spans.remove(0))
}

#[test]
fn a_span_has_all_that_was_sent() {
    let (resource, scope, span) = only(
        r#"[{"traceId":"4d1e00c0db9010db86154a4ba6e91385","parentId":"86154a4ba6e91385",
        "id":"4d1e00c0db9010db","kind":"CLIENT","name":"get /","timestamp":1472470996199000,
        "duration":207000,"debug":true,"shared":true,"unknown":{"a":[1]},
        "localEndpoint":{"serviceName":"frontend","ipv4":"10.0.0.1","ipv6":"::1","port":80},
        "remoteEndpoint":{"serviceName":"backend","ipv4":"10.0.0.2","port":9000},
        "annotations":[{"timestamp":1472470996238000,"value":"foo"},
            {"timestamp":1472470996403000,"value":"bar|{\"k\":\"v\",\"n\":1,\"f\":0.5}|2"}],
        "tags":{"http.path":"/api","clnt/finagle.version":"6.45.0","telemetry.sdk.name":"x",
            "otel.library.name":"lib","otel.scope.version":"2","otel.status_code":"ERROR",
            "otel.status_description":"no","w3c.tracestate":"a=b",
            "otlp.link.0":"1|2|s=t|{\"a\":true}|3"}}]"#,
    );
    let attributes = [
        tags::text(tags::SERVICE, "frontend"),
        tags::text("telemetry.sdk.name", "x"),
    ];
    assert_eq!(resource.attributes, attributes);
    assert_eq!((&*scope.name, &*scope.version), ("lib", "2"));
    let event = |us: u64, name: &str, attributes, dropped_attributes_count| Event {
        time_unix_nano: us * 1000,
        name: name.to_owned(),
        attributes,
        dropped_attributes_count,
    };
    let of_bar = vec![
        tags::pair("f", Value::DoubleValue(0.5)),
        tags::text("k", "v"),
        tags::pair("n", Value::IntValue(1)),
    ];
    let expect = Span {
        trace_id: 0x4d1e_00c0_db90_10db_8615_4a4b_a6e9_1385u128
            .to_be_bytes()
            .to_vec(),
        span_id: 0x4d1e_00c0_db90_10dbu64.to_be_bytes().to_vec(),
        parent_span_id: 0x8615_4a4b_a6e9_1385u64.to_be_bytes().to_vec(),
        trace_state: "a=b".to_owned(),
        name: "get /".to_owned(),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: 1_472_470_996_199_000_000,
        end_time_unix_nano: 1_472_470_996_406_000_000,
        attributes: vec![
            tags::text("http.path", "/api"),
            tags::text("clnt/finagle.version", "6.45.0"),
            tags::text("net.host.ip", "10.0.0.1"),
            tags::pair("net.host.port", Value::IntValue(80)),
            tags::text("peer.service", "backend"),
            tags::text("net.peer.ip", "10.0.0.2"),
            tags::pair("net.peer.port", Value::IntValue(9000)),
        ],
        events: vec![
            event(1_472_470_996_238_000, "foo", Vec::new(), 0),
            event(1_472_470_996_403_000, "bar", of_bar, 2),
        ],
        links: vec![Link {
            trace_id: 1u128.to_be_bytes().to_vec(),
            span_id: 2u64.to_be_bytes().to_vec(),
            trace_state: "s=t".to_owned(),
            attributes: vec![tags::pair("a", Value::BoolValue(true))],
            dropped_attributes_count: 3,
            ..Link::default()
        }],
        status: Some(Status {
            code: StatusCode::Error.into(),
            message: "no".to_owned(),
        }),
        ..Span::default()
    };
    assert_eq!(span, expect);
}

#[test]
fn a_span_needs_no_more_than_its_ids() {
    let (resource, _, span) = only(r#"[{"traceId":"a","id":"b","parentId":null,"tags":null}]"#);
    assert_eq!(resource, Resource::default());
    let expect = Span {
        trace_id: 10u128.to_be_bytes().to_vec(),
        span_id: 11u64.to_be_bytes().to_vec(),
        attributes: vec![tags::pair(START_ABSENT, Value::BoolValue(true))],
        ..Span::default()
    };
    assert_eq!(span, expect);
    assert!(translated("[]").is_empty());
    assert!(translated(" [null] ").is_empty());
}

#[test]
fn kinds_parents_and_statuses() {
    let span = |rest: &str| {
        let (_, _, span) = only(&format!(
            r#"[{{"traceId":"1","id":"2","timestamp":1,{rest}}}]"#
        ));
        let status = span.status.map(|status| status.code);
        let keys: Vec<String> = span.attributes.into_iter().map(|pair| pair.key).collect();
        (
            span.kind,
            span.parent_span_id.last().copied(),
            status,
            keys.join(" "),
        )
    };
    for (rest, kind, parent, status, keys) in [
        (r#""kind":"SERVER","parentId":"3""#, 2, Some(3), None, ""),
        (r#""kind":"PRODUCER","parentId":"2""#, 4, None, None, ""),
        (r#""kind":"CONSUMER","parentId":"0""#, 5, None, None, ""),
        (r#""kind":"?","parentId":"""#, 0, None, None, ""),
        (r#""tags":{"span.kind":"internal"}"#, 1, None, None, ""),
        (r#""tags":{"span.kind":"server"}"#, 0, None, None, ""),
        (r#""tags":{"error":"true"}"#, 0, None, Some(2), ""),
        (r#""tags":{"error":"it broke"}"#, 0, None, None, "error"),
        (
            r#""tags":{"otel.status_code":"STATUS_CODE_OK"}"#,
            0,
            None,
            Some(1),
            "",
        ),
        (
            r#""tags":{"otel.status_code":"Unset","error":"true"}"#,
            0,
            None,
            Some(2),
            "",
        ),
        (
            r#""tags":{"otlp.link.0":"x"}"#,
            0,
            None,
            None,
            "otlp.link.0",
        ),
    ] {
        assert_eq!(
            span(rest),
            (kind, parent, status, keys.to_owned()),
            "{rest}"
        );
    }
}

#[test]
fn spans_are_grouped_by_what_sent_them() {
    let one = |id: u8, service: &str| {
        format!(r#"{{"traceId":"1","id":"{id}","localEndpoint":{{"serviceName":"{service}"}}}}"#)
    };
    let body = format!("[{},{},{}]", one(1, "a"), one(2, "b"), one(3, "a"));
    let counts: Vec<usize> = translated(&body)
        .iter()
        .map(|of_resource| of_resource.scope_spans[0].spans.len())
        .collect();
    assert_eq!(counts, [2, 1]);
}

#[test]
fn what_is_refused_is_told() {
    for (body, why) in [
        (
            "",
            "cannot read the spans: EOF while parsing a value at line 1 column 0",
        ),
        (
            "{}",
            "cannot read the spans: invalid type: map, expected a list of spans at line 1 column 0",
        ),
        (
            r#"[{"id":"1"}]"#,
            "cannot read the spans: traceId \"\" is no id: send up to 32 hexadecimal digits \
             at line 1 column 12",
        ),
        (
            r#"[{"traceId":"1","id":"12345678901234567"}]"#,
            "cannot read the spans: id \"12345678901234567\" is no id: send up to 16 hexadecimal \
             digits at line 1 column 42",
        ),
        (
            r#"[{"traceId":"1","id":"+1"}]"#,
            "cannot read the spans: id \"+1\" is no id: send up to 16 hexadecimal digits at line 1 \
             column 27",
        ),
        (
            "[] x",
            "cannot read the spans: trailing characters at line 1 column 4",
        ),
    ] {
        assert_eq!(
            translate(body.as_bytes(), usize::MAX).unwrap_err(),
            why,
            "{body}"
        );
    }
    assert!(translate(r#"[{"traceId":1,"id":"2"}]"#.as_bytes(), usize::MAX).is_err());
    assert!(translate(&b"[{\"traceId\":\"\xff\"}]"[..], usize::MAX).is_err());
    assert!(translate("[".repeat(10_000).as_bytes(), usize::MAX).is_err());
}

#[test]
fn a_span_has_so_many_tags_and_annotations_and_no_more() {
    let body = |name: &str, open: char, close: char, item: &str, count: usize| {
        let items = vec![item; count].join(",");
        format!(r#"[{{"traceId":"1","id":"2","{name}":{open}{items}{close}}}]"#)
    };
    for (name, open, close, item) in [
        ("tags", '{', '}', r#""":"""#),
        ("annotations", '[', ']', "{}"),
    ] {
        let read = |count| translate(body(name, open, close, item, count).as_bytes(), usize::MAX);
        assert_eq!(read(SPAN_ITEMS_MAX).map(|batch| batch.len()), Ok(1));
        let error = read(SPAN_ITEMS_MAX + 1).unwrap_err();
        assert!(
            error.contains("a span has more than 65536 tags or annotations"),
            "{error}"
        );
    }
}

#[test]
fn damage_is_refused_and_never_a_panic() {
    let body = r#"[{"traceId":"1","id":"2","timestamp":-1e300,"duration":1e300,"tags":{"a":"b|{}|1"},
        "annotations":[{"timestamp":5,"value":"a|{}|1"}],"localEndpoint":{"port":-1}}]"#;
    assert!(translate(body.as_bytes(), usize::MAX).is_ok());
    for at in 0..body.len() {
        assert!(
            translate(&body.as_bytes()[..at], usize::MAX).is_err(),
            "cut at {at}"
        );
        for bit in 0..8 {
            let mut bytes = body.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            translate(&bytes, usize::MAX).ok();
        }
    }
}

#[test]
fn a_list_has_a_limit() {
    let body = br#"[{"traceId":"1","id":"2"},{"traceId":"1","id":"3"}]"#;
    let error = translate(body, 10).unwrap_err();
    let why = "cannot read the spans: the message holds spans that take more than 10 bytes as OTLP";
    assert!(error.starts_with(why), "{error}");
}
