//! The write paths over HTTP and gRPC: what is stored, and what senders are told.

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, number_data_point,
};
use prost::Message;
use trine_server::tenants::TenantId;
use trine_storage::{Labels, Matcher, TimeRange};
use trine_tsdb::Values;

use crate::harness::Running;
use crate::wire::{now_ms, push_request, series, snappy, write_request};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// The values that `tenant` holds of the metric `name`.
fn values(running: &Running, tenant: &str, name: &str) -> Vec<f64> {
    let Some(tenant) = running
        .server()
        .app()
        .tenants
        .get(&TenantId::parse(tenant).unwrap())
    else {
        return Vec::new();
    };
    let Some(engine) = tenant.read_metrics().unwrap() else {
        return Vec::new();
    };
    let matchers = [Matcher::equal("__name__", name)];
    let found = engine.snapshot();
    let found = found
        .select(&matchers, TimeRange::ALL, &trine_tsdb::Hints::default())
        .unwrap();
    found
        .flat_map(|series| match series.unwrap().samples.values {
            Values::Floats(values) => values,
            _ => Vec::new(),
        })
        .collect()
}

/// The streams that `tenant` holds.
fn streams(running: &Running, tenant: &str) -> Vec<Labels> {
    let Some(tenant) = running
        .server()
        .app()
        .tenants
        .get(&TenantId::parse(tenant).unwrap())
    else {
        return Vec::new();
    };
    let Some(engine) = tenant.read_logs().unwrap() else {
        return Vec::new();
    };
    engine.snapshot().streams(&[], TimeRange::ALL).unwrap()
}

#[test]
fn remote_write_is_stored_per_tenant_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let body = write_request(vec![series(
        &[("__name__", "m")],
        &[(now - 1, 1.0), (now, 2.0)],
    )]);
    for (tenant, path) in [("a", "/api/v1/write"), ("b", "/prometheus/api/v1/write")] {
        let response = running
            .post(path)
            .tenant(tenant)
            .header("Content-Encoding", "snappy")
            .body(PROTOBUF, snappy(&body))
            .send();
        assert_eq!((response.status, response.text()), (204, ""));
        let written = response.header("x-prometheus-remote-write-samples-written");
        assert_eq!(written, Some("2"));
    }
    for (encoding, packed) in [
        ("zstd", zstd::encode_all(&body[..], 1).unwrap()),
        ("identity", body.clone()),
        ("snappy", snappy(&body)),
    ] {
        let request = running.post("/api/v1/push").tenant("a");
        let response = request
            .header("Content-Encoding", encoding)
            .body(PROTOBUF, packed)
            .send();
        assert_eq!(response.status, 204, "the same sample again, as {encoding}");
    }
    assert_eq!(values(&running, "a", "m"), [1.0, 2.0]);
    assert!(values(&running, "anonymous", "m").is_empty());
    running.stop();

    let running = Running::start(dir.path(), |_| {});
    assert_eq!(values(&running, "a", "m"), [1.0, 2.0]);
    assert_eq!(values(&running, "b", "m"), [1.0, 2.0]);
    running.stop();
}

#[test]
fn loki_pushes_in_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let protobuf = snappy(&push_request(
        "{app=\"p\"}",
        &[(now, "one"), (now + 1, "two")],
    ));
    for (path, encoding) in [
        ("/loki/api/v1/push", Some("snappy")),
        ("/loki/loki/api/v1/push", None),
    ] {
        let mut request = running.post(path).body(PROTOBUF, protobuf.clone());
        if let Some(encoding) = encoding {
            request = request.header("Content-Encoding", encoding);
        }
        assert_eq!(request.send().status, 204);
    }
    let json =
        format!(r#"{{"streams":[{{"stream":{{"app":"j"}},"values":[["{now}000000","x"]]}}]}}"#);
    assert_eq!(
        running
            .post("/loki/api/v1/push")
            .body(JSON, json.clone())
            .send()
            .status,
        204
    );
    assert_eq!(
        running
            .post("/api/prom/push")
            .body(JSON, json)
            .send()
            .status,
        204
    );
    let half = format!(
        r#"{{"streams":[{{"stream":{{"app":"h"}},"values":[["{now}000000","x"]]}},{{"stream":{{}},"values":[["1","x"]]}}]}}"#
    );
    let response = running.post("/loki/api/v1/push").body(JSON, half).send();
    assert_eq!(response.status, 400);
    assert_eq!(
        response.text(),
        "error at least one label pair is required per stream\n"
    );
    let found = streams(&running, "anonymous");
    let apps: Vec<_> = found
        .iter()
        .filter_map(|labels| labels.get("app"))
        .collect();
    assert_eq!(apps, ["h", "j", "p"]);
    assert!(
        found
            .iter()
            .all(|labels| labels.get("service_name") == labels.get("app"))
    );
    running.stop();
}

fn gauge_and_delta() -> ExportMetricsServiceRequest {
    let point = |value| NumberDataPoint {
        time_unix_nano: u64::try_from(now_ms()).unwrap() * 1_000_000,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    };
    let metric = |name: &str, data| Metric {
        name: name.into(),
        data: Some(data),
        ..Metric::default()
    };
    let delta = Sum {
        data_points: vec![point(1.0), point(1.0)],
        aggregation_temporality: 1,
        is_monotonic: true,
    };
    let metrics = vec![
        metric(
            "g",
            Data::Gauge(Gauge {
                data_points: vec![point(5.0)],
            }),
        ),
        metric("d", Data::Sum(delta)),
    ];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics,
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

#[test]
fn otlp_over_http_tells_what_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let response = running
        .post("/v1/metrics")
        .body(PROTOBUF, gauge_and_delta().encode_to_vec())
        .send();
    assert_eq!(
        (response.status, response.header("content-type")),
        (200, Some(PROTOBUF))
    );
    let answer = ExportMetricsServiceResponse::decode(&response.body[..]).unwrap();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 2);
    assert!(
        partial
            .error_message
            .contains("only cumulative values are stored"),
        "{partial:?}"
    );
    assert_eq!(values(&running, "anonymous", "g"), [5.0]);

    let logs = format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeLogs":[{{"logRecords":[{{"timeUnixNano":"{}000000","body":{{"stringValue":"hi"}}}}]}}]}}]}}"#,
        now_ms()
    );
    let packed = {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut writer, logs.as_bytes()).unwrap();
        writer.finish().unwrap()
    };
    let request = running
        .post("/otlp/v1/logs")
        .header("Content-Encoding", "gzip");
    let response = request.body(JSON, packed).send();
    assert_eq!((response.status, response.text()), (200, "{}"));
    assert_eq!(response.header("content-type"), Some(JSON));
    assert_eq!(
        streams(&running, "anonymous")[0].get("service_name"),
        Some("shop")
    );
    running.stop();
}

#[test]
fn otlp_over_grpc_on_the_same_port() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let url = format!("http://{}", running.address);
    running.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(url)
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut metrics = MetricsServiceClient::new(channel.clone())
            .send_compressed(tonic::codec::CompressionEncoding::Gzip);
        let mut request = tonic::Request::new(gauge_and_delta());
        request
            .metadata_mut()
            .insert("x-scope-orgid", "g".parse().unwrap());
        let answer = metrics.export(request).await.unwrap().into_inner();
        assert_eq!(answer.partial_success.unwrap().rejected_data_points, 2);

        // A resource whose length goes past the end, and a method that there is not.
        for (method, message, code) in [("Export", [0x0a, 9], "3"), ("Import", [0x0a, 0], "12")] {
            let service = "opentelemetry.proto.collector.metrics.v1.MetricsService";
            let answer = running
                .post(&format!("/{service}/{method}"))
                .body(
                    "application/grpc",
                    [&[0, 0, 0, 0, 2], &message[..]].concat(),
                )
                .send();
            assert_eq!(answer.header("grpc-status"), Some(code));
        }

        let mut logs = LogsServiceClient::new(channel.clone());
        let answer = logs
            .export(tonic::Request::new(Default::default()))
            .await
            .unwrap();
        assert!(answer.into_inner().partial_success.is_none());
        let mut traces = TraceServiceClient::new(channel);
        let mut request = tonic::Request::new(Default::default());
        request
            .metadata_mut()
            .insert("x-scope-orgid", "../x".parse().unwrap());
        let status = traces.export(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(
            status.message().contains("unsupported character '/'"),
            "{status}"
        );
    });
    assert_eq!(values(&running, "g", "g"), [5.0]);
    running.stop();
}

#[test]
fn spans_arrive_over_http_and_grpc_and_bad_ones_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let span = |trace: &str, id: &str| {
        format!(
            r#"{{"traceId":"{trace}","spanId":"{id}","name":"x","kind":2,"startTimeUnixNano":"{now}000000","endTimeUnixNano":"{now}500000"}}"#
        )
    };
    let good = span("000102030405060708090a0b0c0d0e0f", "0000000000000001");
    let bad = span("0001", "0000000000000002");
    let request =
        |spans: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    let both = request(&format!("{good},{bad}"));
    let answer = running.post("/v1/traces").body(JSON, both).send().json();
    let partial = &answer["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], "1", "{answer}");
    assert_eq!(
        partial["errorMessage"],
        "trace ids must be 128 bit, received 16 bits"
    );

    let second = span("000102030405060708090a0b0c0d0e0f", "0000000000000003");
    let second = serde_json::from_str(&request(&second)).unwrap();
    let url = format!("http://{}", running.address);
    running.block_on(async {
        let endpoint = tonic::transport::Endpoint::from_shared(url).unwrap();
        let mut client = TraceServiceClient::new(endpoint.connect().await.unwrap())
            .send_compressed(tonic::codec::CompressionEncoding::Zstd);
        let answer = client.export(tonic::Request::new(second)).await.unwrap();
        assert!(answer.into_inner().partial_success.is_none());
    });
    let id = std::array::from_fn(|i| i as u8);
    let tenant = running
        .server()
        .app()
        .tenants
        .get(&TenantId::anonymous())
        .unwrap();
    let trace = tenant
        .read_traces()
        .unwrap()
        .unwrap()
        .snapshot()
        .trace(id)
        .unwrap()
        .unwrap();
    let ids: Vec<u8> = trace.spans().map(|(_, _, span)| span.span_id[7]).collect();
    assert_eq!(ids, [1, 3]);
    running.stop();
}

#[test]
fn bad_requests_are_refused_with_a_reason_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        config.body_bytes_max = 2000;
        config.decoded_bytes_max = 4000;
    });
    let good = snappy(&write_request(vec![series(
        &[("__name__", "m")],
        &[(now_ms(), 1.0)],
    )]));
    let bomb = zstd::encode_all(&vec![0u8; 100 << 20][..], 3).unwrap();
    let bomb = bomb.get(..1500).map_or(bomb.clone(), <[u8]>::to_vec);
    let large = vec![b'{'; 2001];
    let cut = good[..good.len() - 1].to_vec();
    let v3 = "application/x-protobuf;proto=io.prometheus.write.v3.Request";
    let check =
        |path: &str, headers: &[(&str, &str)], kind: &str, body: &[u8], expect: (u16, &str)| {
            let mut request = running.post(path).body(kind, body);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let response = request.send();
            let text = String::from_utf8_lossy(&response.body).into_owned();
            assert_eq!(response.status, expect.0, "{path}: {text}");
            assert!(
                text.contains(expect.1),
                "{path}: {text:?} does not say {:?}",
                expect.1
            );
        };
    let zstd = [("Content-Encoding", "zstd")];
    let tenant = [("X-Scope-OrgID", "../../x")];
    let brotli = [("Content-Encoding", "br")];
    let large_text = "request body too large: 2001 bytes, limit: 2000 bytes";
    for (path, headers, kind, body, expect) in [
        (
            "/api/v1/write",
            &[][..],
            PROTOBUF,
            &cut[..],
            (400, "snappy"),
        ),
        ("/api/v1/write", &[], PROTOBUF, b"", (400, "snappy")),
        ("/api/v1/write", &[], v3, &good, (415, "not supported")),
        ("/api/v1/write", &[], JSON, &good, (415, "not supported")),
        ("/api/v1/write", &brotli, PROTOBUF, &good, (415, "br")),
        ("/api/v1/write", &[], PROTOBUF, &large, (400, large_text)),
        ("/api/v1/write", &zstd, PROTOBUF, &bomb, (400, "too large")),
        (
            "/api/v1/write",
            &tenant,
            PROTOBUF,
            &good,
            (400, "unsupported character '/'"),
        ),
        (
            "/loki/api/v1/push",
            &[],
            JSON,
            b"{",
            (400, "cannot read the JSON body"),
        ),
        ("/loki/api/v1/push", &[], JSON, &large, (400, large_text)),
        (
            "/loki/api/v1/push",
            &[],
            PROTOBUF,
            &large,
            (413, large_text),
        ),
        (
            "/loki/api/v1/push",
            &[],
            PROTOBUF,
            b"plain",
            (400, "snappy"),
        ),
        (
            "/loki/api/v1/push",
            &tenant,
            JSON,
            b"{}",
            (400, "unsupported character"),
        ),
        ("/v1/traces", &[], "text/plain", b"", (415, "not supported")),
        (
            "/v1/traces",
            &[],
            JSON,
            b"[",
            (400, "cannot read the JSON body"),
        ),
        (
            "/v1/logs",
            &[],
            PROTOBUF,
            b"\x0a",
            (400, "cannot read the protobuf body"),
        ),
        (
            "/v1/metrics",
            &tenant,
            PROTOBUF,
            b"",
            (400, "unsupported character"),
        ),
        ("/v1/metrics", &[], PROTOBUF, &large, (413, large_text)),
    ] {
        check(path, headers, kind, body, expect);
    }
    let status = running.post("/v1/metrics").body(JSON, "{").send().json();
    assert_eq!(status["code"], 3);
    assert!(values(&running, "anonymous", "m").is_empty());
    assert_eq!(
        running
            .post("/api/v1/write")
            .body(PROTOBUF, good)
            .send()
            .status,
        204
    );
    assert_eq!(
        values(&running, "anonymous", "m").len(),
        1,
        "the server goes on"
    );
    assert!(!dir.path().parent().unwrap().join("x").is_dir());

    running.stop();
}
