//! The OpenTelemetry SDK for Rust sends all three signals to the real binary, over gRPC and over
//! HTTP; the query APIs give them back.

use std::time::Duration;

use http::{Request, Response};
use opentelemetry::logs::{LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{Span, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prost::Message;
use serde_json::{Value, json};

use crate::client::request;
use crate::process::Process;
use crate::query::path;

/// The tests' own HTTP client as the SDK wants one.
#[derive(Debug)]
struct Client;

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let authority = parts
            .uri
            .authority()
            .ok_or("no authority")?
            .as_str()
            .parse()?;
        let mut post = self::request(authority, "POST", parts.uri.path());
        for (name, value) in &parts.headers {
            post = post.header(name.as_str(), value.to_str()?);
        }
        let answer = post.raw_body(body.to_vec()).send();
        Ok(Response::builder()
            .status(answer.status)
            .body(answer.body.into())?)
    }
}

/// The three exporters of one protocol.
fn exporters(process: &Process, grpc: bool) -> (SpanExporter, MetricExporter, LogExporter) {
    let base = format!("http://{}", process.address);
    if grpc {
        return (
            SpanExporter::builder()
                .with_tonic()
                .with_endpoint(&base)
                .build()
                .unwrap(),
            MetricExporter::builder()
                .with_tonic()
                .with_endpoint(&base)
                .build()
                .unwrap(),
            LogExporter::builder()
                .with_tonic()
                .with_endpoint(&base)
                .build()
                .unwrap(),
        );
    }
    let url = |signal: &str| format!("{base}/v1/{signal}");
    let binary = Protocol::HttpBinary;
    (
        SpanExporter::builder()
            .with_http()
            .with_http_client(Client)
            .with_protocol(binary)
            .with_endpoint(url("traces"))
            .build()
            .unwrap(),
        MetricExporter::builder()
            .with_http()
            .with_http_client(Client)
            .with_protocol(binary)
            .with_endpoint(url("metrics"))
            .build()
            .unwrap(),
        LogExporter::builder()
            .with_http()
            .with_http_client(Client)
            .with_protocol(binary)
            .with_endpoint(url("logs"))
            .build()
            .unwrap(),
    )
}

/// An instrumented program: ten orders, each with a child span, a log record, a counter and a
/// histogram. Gives the id of the last trace.
fn run_shop(process: &Process, service: &'static str, grpc: bool) -> String {
    let (spans, points, records) = exporters(process, grpc);
    let resource = Resource::builder().with_service_name(service).build();
    let tracing = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(spans)
        .build();
    let metering = SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_periodic_exporter(points)
        .build();
    let logging = SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(records)
        .build();
    let tracer = tracing.tracer("shop");
    let meter = metering.meter("shop");
    let logger = logging.logger("shop");
    let orders = meter.u64_counter("shop.orders").with_unit("1").build();
    let duration = meter
        .f64_histogram("shop.order.duration")
        .with_unit("s")
        .build();
    let mut last = String::new();
    for number in 0..10 {
        let mut root = tracer
            .span_builder("POST /orders")
            .with_kind(SpanKind::Server)
            .with_attributes([KeyValue::new("order.number", number)])
            .start(&tracer);
        if number == 3 {
            root.set_status(Status::error("card declined"));
            root.add_event(
                "exception",
                vec![KeyValue::new("exception.type", "Declined")],
            );
        }
        last = root.span_context().trace_id().to_string();
        let context = Context::new().with_span(root);
        let mut child = tracer.start_with_context("charge card", &context);
        child.set_attribute(KeyValue::new("card", "visa"));
        child.end();
        context.span().end();
        let mut record = logger.create_log_record();
        record.set_severity_number(Severity::Info);
        record.set_body(format!("order {number} taken").into());
        record.add_attribute("order", number);
        logger.emit(record);
        orders.add(1, &[KeyValue::new("region", "eu")]);
        duration.record(0.5, &[]);
    }
    tracing.force_flush().unwrap();
    metering.force_flush().unwrap();
    logging.force_flush().unwrap();
    tracing
        .shutdown_with_timeout(Duration::from_secs(5))
        .unwrap();
    metering
        .shutdown_with_timeout(Duration::from_secs(5))
        .unwrap();
    logging
        .shutdown_with_timeout(Duration::from_secs(5))
        .unwrap();
    last
}

fn ask(process: &Process, api: &str, params: &[(&str, &str)]) -> Value {
    let answer = process.get(&path(api, params)).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn check(process: &Process, service: &str, trace: &str) {
    let promql =
        |query: &str| ask(process, "/api/v1/query", &[("query", query)])["data"]["result"].clone();
    let orders = promql(&format!("shop_orders_total{{job=\"{service}\"}}"));
    assert_eq!(orders[0]["value"][1], "10", "{orders}");
    assert_eq!(orders[0]["metric"]["region"], "eu");
    let buckets = promql(&format!(
        "shop_order_duration_seconds_bucket{{job=\"{service}\",le=\"+Inf\"}}"
    ));
    assert_eq!(buckets[0]["value"][1], "10", "{buckets}");
    let quantile = format!(
        "histogram_quantile(0.5, sum by (le) (shop_order_duration_seconds_bucket{{job=\"{service}\"}}))"
    );
    assert!(promql(&quantile)[0]["value"][1].is_string());

    let selector = format!("{{service_name=\"{service}\"}} |= \"taken\"");
    let count = format!("sum(count_over_time({selector} [1h]))");
    let counted = ask(process, "/loki/api/v1/query", &[("query", &count)]);
    assert_eq!(counted["data"]["result"][0]["value"][1], "10", "{counted}");
    let categorized = process
        .get(&path("/loki/api/v1/query_range", &[("query", &selector)]))
        .header("X-Loki-Response-Encoding-Flags", "categorize-labels")
        .send()
        .json();
    assert_eq!(
        categorized["data"]["encodingFlags"],
        json!(["categorize-labels"])
    );
    let entry = &categorized["data"]["result"][0]["values"][0];
    assert_eq!(entry[1], "order 9 taken", "newest first: {categorized}");
    assert_eq!(entry[2]["structuredMetadata"]["order"], "9");
    assert_eq!(entry[2]["structuredMetadata"]["detected_level"], "info");

    let search = |q: &str| ask(process, "/api/search", &[("q", q), ("limit", "100")]);
    let all = search(&format!("{{ resource.service.name = \"{service}\" }}"));
    assert_eq!(all["traces"].as_array().unwrap().len(), 10, "{all}");
    assert_eq!(all["traces"][0]["traceID"], trace);
    assert_eq!(all["traces"][0]["rootTraceName"], "POST /orders");
    let one = search(&format!(
        "{{ .service.name = \"{service}\" && span.order.number = 3 && status = error }}"
    ));
    assert_eq!(one["traces"][0]["spanSets"][0]["matched"], 1, "{one}");
    let event = format!(
        "{{ resource.service.name = \"{service}\" && event.exception.type = \"Declined\" }}"
    );
    assert_eq!(search(&event)["traces"].as_array().unwrap().len(), 1);
    let child = format!(
        "{{ resource.service.name = \"{service}\" && kind = server }} > {{ span.card = \"visa\" }}"
    );
    assert_eq!(search(&child)["traces"].as_array().unwrap().len(), 10);

    let v1 = ask(process, &format!("/api/traces/{trace}"), &[]);
    let spans = v1["batches"][0]["scopeSpans"][0]["spans"]
        .as_array()
        .unwrap();
    assert_eq!(spans.len(), 2, "{v1}");
    let v2 = process
        .get(&format!("/api/v2/traces/{trace}"))
        .header("Accept", "application/protobuf")
        .send();
    // TraceByIDResponse{trace = 1}: a length-delimited field around the OTLP message.
    let mut body = v2.body.as_slice();
    let (tag, _) = prost::encoding::decode_key(&mut body).unwrap();
    let length = prost::encoding::decode_varint(&mut body).unwrap() as usize;
    let data = TracesData::decode(&body[..length]).unwrap();
    let names: Vec<&str> = data
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .map(|span| span.name.as_str())
        .collect();
    assert_eq!((tag, names.len()), (1, 2), "{names:?}");

    let tags = ask(
        process,
        "/api/v2/search/tag/resource.service.name/values",
        &[],
    );
    let told = tags["tagValues"].as_array().unwrap();
    assert!(
        told.contains(&json!({"type": "string", "value": service})),
        "{tags}"
    );
}

#[test]
fn the_sdk_sends_all_three_signals_over_grpc_and_http() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    // The SDK's gRPC client needs a runtime around it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let guard = runtime.enter();
    let over_grpc = run_shop(&process, "shop-grpc", true);
    let over_http = run_shop(&process, "shop-http", false);
    drop(guard);
    check(&process, "shop-grpc", &over_grpc);
    check(&process, "shop-http", &over_http);
    // All of it is still there after a kill.
    let process = process.kill_and_restart();
    check(&process, "shop-grpc", &over_grpc);
    check(&process, "shop-http", &over_http);
}
