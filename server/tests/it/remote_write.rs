//! Remote write of both versions over HTTP: what is stored, and what senders are told.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use trine_server::tenants::TenantId;
use trine_storage::{Matcher, TimeRange};
use trine_tsdb::{Hints, Metadata, Value};

use crate::client::Response;
use crate::harness::Running;
use crate::schema::{self, v1, v2};
use crate::wire::{now_ms, snappy};

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// What the anonymous tenant holds of the metric `name`, a line for each sample and exemplar;
/// times are relative to `now`.
fn stored(running: &Running, name: &str, now: i64) -> Vec<String> {
    let tenants = &running.server().app().tenants;
    let Some(tenant) = tenants.get(&TenantId::anonymous()) else {
        return Vec::new();
    };
    let Some(engine) = tenant.read_metrics().unwrap() else {
        return Vec::new();
    };
    let matchers = [Matcher::equal("__name__", name)];
    let (snapshot, hints) = (engine.snapshot(), Hints::default());
    let mut lines = Vec::new();
    for series in snapshot.select(&matchers, TimeRange::ALL, &hints).unwrap() {
        let series = series.unwrap();
        let samples = &series.samples;
        for (at, timestamp) in samples.timestamps.iter().enumerate() {
            let starts = samples.start_timestamps.as_ref();
            let since = match starts.map(|starts| starts[at]) {
                None | Some(0) => String::new(),
                Some(start) => format!(" since {}", start - now),
            };
            let value = match samples.values.get(at).unwrap() {
                Value::Float(value) if value.to_bits() == 0x7ff0_0000_0000_0002 => "stale".into(),
                Value::Float(value) => value.to_string(),
                Value::Histogram(histogram) if histogram.is_stale() => "stale histogram".into(),
                Value::Histogram(histogram) => {
                    format!("histogram {} {}", histogram.schema, histogram.count())
                }
                other => panic!("{other:?}"),
            };
            let after = timestamp - now;
            lines.push(format!("{} {after} {value}{since}", series.labels));
        }
    }
    let exemplars = snapshot.exemplars(&matchers, TimeRange::ALL, &hints);
    for series in exemplars.unwrap() {
        for exemplar in &series.exemplars {
            let (after, labels) = (exemplar.timestamp - now, &exemplar.labels);
            lines.push(format!("exemplar {after} {} {labels}", exemplar.value));
        }
    }
    lines
}

fn metadata(running: &Running, metric: &str) -> Vec<Metadata> {
    let tenants = &running.server().app().tenants;
    let engine = tenants.get(&TenantId::anonymous()).unwrap();
    let engine = engine.read_metrics().unwrap().unwrap();
    let found = engine.snapshot().metadata(Some(metric), None, None);
    found.into_iter().flat_map(|(_, told)| told).collect()
}

fn send(running: &Running, kind: &str, body: &[u8]) -> Response {
    running
        .post("/api/v1/write")
        .header("Content-Encoding", "snappy")
        .body(kind, snappy(body))
        .send()
}

/// The counts of samples, histograms and exemplars that an answer tells.
fn written(response: &Response) -> [u64; 3] {
    ["samples", "histograms", "exemplars"].map(|what| {
        let name = format!("x-prometheus-remote-write-{what}-written");
        let header = response.header(&name);
        header.expect("each answer has it").parse().unwrap()
    })
}

fn rich_v1(now: i64) -> v1::WriteRequest {
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let mut classic = v1::series(&[("__name__", "m")], &[(now, 1.0), (now + 2, stale)]);
    classic.exemplars = vec![v1::Exemplar {
        labels: v1::labels(&[("trace_id", "ff")]),
        value: 0.5,
        timestamp: now,
    }];
    let mut native = v1::series(&[("__name__", "h")], &[]);
    let custom = schema::Histogram {
        schema: -53,
        count: Some(schema::Count::Integer(3)),
        custom_values: vec![0.5, 1.0],
        positive_spans: vec![schema::Span {
            offset: 0,
            length: 3,
        }],
        positive_deltas: vec![1, 0, 0],
        timestamp: now + 2,
        ..schema::Histogram::default()
    };
    let fine = schema::Histogram {
        schema: 9,
        ..schema::histogram(now + 1)
    };
    let end = schema::Histogram {
        sum: stale,
        timestamp: now + 3,
        ..schema::Histogram::default()
    };
    native.histograms = vec![schema::histogram(now), fine, custom, end];
    v1::WriteRequest {
        timeseries: vec![classic, native],
        metadata: vec![v1::Metadata {
            kind: 3,
            family: "h".into(),
            help: "How long.".into(),
            unit: "seconds".into(),
        }],
    }
}

#[test]
fn version_1_stores_histograms_exemplars_and_metadata_and_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let body = rich_v1(now).encode_to_vec();
    // The second time each series is known, and everything is there already.
    for _ in 0..3 {
        let response = send(&running, V1, &body);
        assert_eq!((response.status, response.text()), (204, ""));
        assert_eq!(written(&response), [2, 4, 1]);
    }
    let check = |running: &Running| {
        let m = [
            r#"{__name__="m"} 0 1"#,
            r#"{__name__="m"} 2 stale"#,
            r#"exemplar 0 0.5 {trace_id="ff"}"#,
        ];
        assert_eq!(stored(running, "m", now), m);
        let h = [
            r#"{__name__="h"} 0 histogram 0 4"#,
            r#"{__name__="h"} 1 histogram 8 4"#,
            r#"{__name__="h"} 2 histogram -53 3"#,
            r#"{__name__="h"} 3 stale histogram"#,
        ];
        assert_eq!(stored(running, "h", now), h);
        let told = metadata(running, "h");
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].kind.to_string(), "histogram");
        assert_eq!((&*told[0].help, &*told[0].unit), ("How long.", "seconds"));
    };
    check(&running);
    running.stop();
    let running = Running::start(dir.path(), |_| {});
    check(&running);
    running.stop();
}

#[test]
fn version_2_stores_start_timestamps_too() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let mut request = v2::Request::begin();
    let trace = request.refs(&[("trace_id", "ff")]);
    let (help, unit) = (request.symbol("How many."), request.symbol("bytes"));
    let series = request.series(&[("job", "j"), ("__name__", "x_total")], &[(now, 1.0)]);
    series.samples[0].start_timestamp = now - 100;
    series.exemplars = vec![v2::Exemplar {
        labels_refs: trace,
        value: 0.5,
        timestamp: 0,
    }];
    series.metadata = Some(v2::Metadata {
        kind: 1,
        help_ref: help,
        unit_ref: unit,
    });
    let native = request.series(&[("__name__", "h")], &[]);
    native.created_timestamp = now - 50;
    native.histograms = vec![schema::histogram(now)];
    let body = request.encode_to_vec();
    for _ in 0..2 {
        let response = send(&running, V2, &body);
        assert_eq!((response.status, response.text()), (204, ""));
        assert_eq!(written(&response), [1, 1, 1]);
    }
    let x = [
        r#"{__name__="x_total", job="j"} 0 1 since -100"#,
        r#"exemplar 0 0.5 {trace_id="ff"}"#,
    ];
    assert_eq!(stored(&running, "x_total", now), x);
    let h = [r#"{__name__="h"} 0 histogram 0 4 since -50"#];
    assert_eq!(stored(&running, "h", now), h);
    let told = metadata(&running, "x_total");
    assert_eq!((&*told[0].help, &*told[0].unit), ("How many.", "bytes"));
    running.stop();
}

#[test]
fn of_a_half_good_write_the_good_half_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let hour = 3_600_000;
    let mut one = rich_v1(now);
    one.timeseries[1].histograms[1].positive_deltas = vec![3];
    one.timeseries[0].samples.push(schema::Sample {
        timestamp: now + hour,
        ..schema::Sample::default()
    });
    one.timeseries
        .push(v1::series(&[("no", "name")], &[(now, 1.0)]));
    let response = send(&running, V1, &one.encode_to_vec());
    let text = response.text();
    assert_eq!(
        (response.status, written(&response)),
        (400, [2, 3, 1]),
        "{text}"
    );
    for expect in [
        "out of bounds: too far in the future: series={__name__=\"m\"} timestamp=",
        "histogram spans specify different number of buckets than provided",
        "invalid metric name or labels, got {no=\"name\"}",
    ] {
        assert!(text.contains(expect), "{text:?} does not say {expect:?}");
    }
    assert_eq!(stored(&running, "h", now).len(), 3);

    let mut two = v2::Request::begin();
    two.series(&[("__name__", "m")], &[(now, 7.0), (now + 1, 2.0)]);
    two.series(&[("__name__", "n")], &[(now, 1.0)]);
    two.series(&[], &[]).labels_refs = vec![1, 99];
    let response = send(&running, V2, &two.encode_to_vec());
    let text = response.text();
    assert_eq!(
        (response.status, written(&response)),
        (400, [2, 0, 0]),
        "{text}"
    );
    for expect in [
        "duplicate sample for timestamp: series={__name__=\"m\"} timestamp=",
        "TimeSeries must contain at least one sample or histogram for series {}",
    ] {
        assert!(text.contains(expect), "{text:?} does not say {expect:?}");
    }
    let m = stored(&running, "m", now);
    assert_eq!(m[..2], [r#"{__name__="m"} 0 1"#, r#"{__name__="m"} 1 2"#]);
    running.stop();
}

#[test]
fn an_exemplar_that_is_refused_is_no_reason_to_refuse_its_sample() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let edge = "x".repeat(128 - "trace_id".len());
    for (value, count) in [(edge.clone(), 1), (edge + "x", 0)] {
        let mut series = v1::series(&[("__name__", "m")], &[(now, 1.0)]);
        series.exemplars = vec![v1::Exemplar {
            labels: v1::labels(&[("trace_id", &value)]),
            ..v1::Exemplar::default()
        }];
        let response = send(&running, V1, &v1::request(vec![series]).encode_to_vec());
        assert_eq!((response.status, written(&response)), (204, [1, 0, count]));
    }
    assert_eq!(stored(&running, "m", now).len(), 2);
    running.stop();
}

#[test]
fn every_answer_tells_how_much_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| config.body_bytes_max = 2000);
    let empty = v2::Request::begin().encode_to_vec();
    let v3 = "application/x-protobuf;proto=io.prometheus.write.v3.Request";
    let one = v1::request(vec![v1::series(&[("__name__", "m")], &[(1, 1.0)])]).encode_to_vec();
    let large = vec![0; 2001];
    let packed = snappy(&empty);
    let snappy_one = snappy(&one);
    for (kind, headers, body, status) in [
        (V2, &[][..], &packed, 204),
        (V2, &[("Content-Encoding", "snappy")], &packed, 204),
        (v3, &[], &packed, 415),
        ("application/json", &[], &packed, 415),
        (V2, &[("Content-Encoding", "br")], &packed, 415),
        // Version 2 allows nothing but snappy, whatever the body is.
        (V2, &[("Content-Encoding", "gzip")], &packed, 415),
        (V2, &[("Content-Encoding", "identity")], &empty, 415),
        (V2, &[("X-Scope-OrgID", "../x")], &packed, 400),
        // Fluent Bit would repeat a 413 for ever.
        (V2, &[], &large, 400),
        (V2, &[], &b"plain".to_vec(), 400),
        // A body of the other version would be an empty request.
        (V2, &[], &snappy_one, 400),
        (V1, &[], &packed, 400),
    ] {
        let mut request = running.post("/api/v1/push").body(kind, body.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.send();
        assert_eq!(response.status, status, "{kind} {headers:?}");
        assert_eq!(written(&response), [0; 3]);
    }
    running.stop();
}

#[test]
fn of_two_replicas_one_is_stored_without_its_label() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| config.ha.accept = true);
    let now = now_ms();
    let one = |replica: &str, at: i64| {
        let pairs = [
            ("__name__", "m"),
            ("__replica__", replica),
            ("cluster", "c"),
        ];
        v1::request(vec![v1::series(&pairs, &[(now + at, 1.0)])]).encode_to_vec()
    };
    let two = |replica: &str, at: i64| {
        let mut request = v2::Request::begin();
        let pairs = [
            ("__name__", "m"),
            ("__replica__", replica),
            ("cluster", "c"),
        ];
        request.series(&pairs, &[(now + at, 2.0)]);
        request.encode_to_vec()
    };
    for (kind, body, status) in [
        (V1, one("a", 0), 204),
        (V1, one("b", 1), 202),
        (V2, two("b", 1), 202),
        (V2, two("a", 2), 204),
        (V2, two("a", 3), 204),
        (V1, one("a", 4), 204),
    ] {
        let response = send(&running, kind, &body);
        assert_eq!(response.status, status);
        if status == 202 {
            let text = "replicas did not match, rejecting sample: replica=b, elected=a\n";
            assert_eq!((response.text(), written(&response)), (text, [0; 3]));
        }
    }
    let lines: Vec<String> = [(0, 1), (2, 2), (3, 2), (4, 1)]
        .iter()
        .map(|(at, value)| format!(r#"{{__name__="m", cluster="c"}} {at} {value}"#))
        .collect();
    assert_eq!(stored(&running, "m", now), lines);
    running.stop();
}

#[test]
fn otlp_stores_what_a_data_point_has_in_protobuf_and_json() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let ns = |after: i64| format!("\"{}000000\"", now + after);
    let exemplar = format!(
        r#"{{"timeUnixNano":{},"asDouble":0.5,"traceId":"{}","spanId":"{}"}}"#,
        ns(1),
        "ab".repeat(16),
        "01".repeat(8)
    );
    let native = format!(
        r#"{{"startTimeUnixNano":{},"timeUnixNano":{},"count":"4","sum":9,"scale":3,"zeroCount":"1",
            "positive":{{"offset":2,"bucketCounts":["1","0","2"]}},"exemplars":[{exemplar}]}}"#,
        ns(-9),
        ns(2)
    );
    let stale = format!(r#"{{"timeUnixNano":{},"flags":1}}"#, ns(3));
    let delta = format!(r#"{{"timeUnixNano":{},"asInt":"1"}}"#, ns(3));
    let json = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[
            {{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},
            "scopeMetrics":[{{"metrics":[
            {{"name":"h.x","unit":"s","description":"Why.","exponentialHistogram":
                {{"aggregationTemporality":2,"dataPoints":[{native}]}}}},
            {{"name":"g","gauge":{{"dataPoints":[{stale}]}}}},
            {{"name":"d","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{delta}]}}}}
        ]}}]}}]}}"#
    );
    let request: ExportMetricsServiceRequest = serde_json::from_str(&json).unwrap();
    for (path, kind, body) in [
        (
            "/api/v1/otlp/v1/metrics",
            "application/json",
            json.into_bytes(),
        ),
        ("/otlp/v1/metrics", V1, request.encode_to_vec()),
    ] {
        let response = running.post(path).body(kind, body).send();
        assert_eq!(response.status, 200);
        let text = String::from_utf8_lossy(&response.body).into_owned();
        let expect = "invalid temporality and type combination for metric \"d\"";
        let expect = expect.replace('"', if kind == V1 { "\"" } else { "\\\"" });
        assert!(text.contains(&expect), "{text}");
        let trace = "ab".repeat(16);
        let h = [
            r#"{__name__="h_x_seconds", job="shop"} 2 histogram 3 4 since -9"#.to_owned(),
            format!(r#"exemplar 1 0.5 {{span_id="0101010101010101", trace_id="{trace}"}}"#),
        ];
        assert_eq!(stored(&running, "h_x_seconds", now), h);
        let g = [r#"{__name__="g", job="shop"} 3 stale"#];
        assert_eq!(stored(&running, "g", now), g);
        let told = metadata(&running, "h_x_seconds");
        assert_eq!((&*told[0].help, &*told[0].unit), ("Why.", "seconds"));
    }
    running.stop();
}

#[test]
fn otlp_series_that_are_known_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let resource = |job: &str, at: i64, value: i64| {
        let ns = format!("\"{}000000\"", now + at);
        format!(
            r#"{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{job}"}}}}]}},
                "scopeMetrics":[{{"metrics":[{{"name":"k","histogram":{{"aggregationTemporality":2,
                "dataPoints":[{{"timeUnixNano":{ns},"count":"{value}","bucketCounts":["1","{value}"],
                "explicitBounds":[0.5],"attributes":[{{"key":"a","value":{{"stringValue":"b"}}}}]}}]
            }}}}]}}]}}"#
        )
    };
    // Resources in one order and in the other, so that a series is not where it is expected.
    for (at, jobs) in [["x", "y"], ["x", "y"], ["y", "x"]].iter().enumerate() {
        let at = i64::try_from(at).unwrap();
        let [one, two] = jobs.map(|job| resource(job, at, if job == "x" { 3 } else { 5 } + at));
        let json = format!(r#"{{"resourceMetrics":[{one},{two}]}}"#);
        let request: ExportMetricsServiceRequest = serde_json::from_str(&json).unwrap();
        let sent = running
            .post("/otlp/v1/metrics")
            .body(V1, request.encode_to_vec());
        assert_eq!(sent.send().status, 200);
    }
    let mut expect = Vec::new();
    for (job, first) in [("x", 3), ("y", 5)] {
        expect.extend((0..3).map(|at| {
            format!(
                r#"{{__name__="k_count", a="b", job="{job}"}} {at} {}"#,
                first + at
            )
        }));
    }
    assert_eq!(stored(&running, "k_count", now), expect);
    let buckets = stored(&running, "k_bucket", now);
    let low = buckets.iter().filter(|line| line.contains(r#"le="0.5""#));
    assert!(low.clone().all(|line| line.ends_with(" 1")), "{buckets:?}");
    assert_eq!((low.count(), buckets.len()), (6, 12));
    running.stop();
}

#[test]
fn timestamps_at_the_ends_of_their_range_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let samples = [(i64::MIN, 1.0), (i64::MAX, 1.0), (0, 1.0), (now, f64::NAN)];
    let one = v1::request(vec![v1::series(&[("__name__", "m")], &samples)]);
    let mut two = v2::Request::begin();
    let series = two.series(&[("__name__", "m")], &samples);
    series.histograms = vec![schema::histogram(i64::MIN), schema::histogram(i64::MAX)];
    series.created_timestamp = i64::MIN;
    for (kind, body) in [(V1, one.encode_to_vec()), (V2, two.encode_to_vec())] {
        let response = send(&running, kind, &body);
        assert_eq!(response.status, 400, "{}", response.text());
        assert!(response.text().contains("out of bounds"), "{response:?}");
        assert!(written(&response)[0] >= 1);
    }
    let held = stored(&running, "m", 0);
    assert!(held.iter().any(|line| line.contains("NaN")), "{held:?}");
    running.stop();
}

#[test]
fn names_and_values_are_any_utf8() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let sets: &[&[(&str, &str)]] = &[
        &[("__name__", "resource.cpu.usage"), ("job.name", "a")],
        &[("__name__", "resource cpu usage"), ("job name", "a")],
        &[("__name__", "up"), ("job", "line\nbreak\n")],
        &[("__name__", "up"), ("region", "🌍")],
        &[("region", "no order"), ("__name__", "up"), ("a", "b")],
        &[("__name__", "up"), ("empty", "")],
    ];
    let values = [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0];
    for (at, value) in values.into_iter().enumerate() {
        let samples = [(now + at as i64, value)];
        let one = sets.iter().map(|pairs| v1::series(pairs, &samples));
        let one = v1::request(one.collect()).encode_to_vec();
        let mut two = v2::Request::begin();
        for pairs in sets {
            two.series(pairs, &samples);
        }
        for (kind, body) in [(V1, one), (V2, two.encode_to_vec())] {
            let response = send(&running, kind, &body);
            let count = sets.len() as u64;
            assert_eq!((response.status, written(&response)), (204, [count, 0, 0]));
        }
    }
    assert_eq!(
        stored(&running, "resource.cpu.usage", now).len(),
        values.len()
    );
    assert_eq!(stored(&running, "up", now).len(), 4 * values.len());
    running.stop();
}

#[test]
fn how_far_ahead_of_the_clock_a_sample_may_lie_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        config.creation_grace_period = std::time::Duration::from_secs(3600);
    });
    for (ahead_ms, status) in [(3_590_000, 204), (3_660_000, 400)] {
        let sample = (now_ms() + ahead_ms, 1.0);
        let request = v1::request(vec![v1::series(&[("__name__", "m")], &[sample])]);
        let response = send(&running, V1, &request.encode_to_vec());
        assert_eq!(response.status, status, "{ahead_ms}: {}", response.text());
    }
    running.stop();
}

#[test]
fn senders_that_compress_otherwise_or_ask_first_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let request = v1::request(vec![v1::series(&[("__name__", "m")], &[(now, 1.0)])]);
    let body = request.encode_to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &body).unwrap();
    let packed = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&body[..], 1).unwrap();
    for path in [
        "/api/v1/write",
        "/api/v1/push",
        "/api/prom/push",
        "/prometheus/api/v1/write",
    ] {
        for (encoding, body) in [
            (Some("gzip"), &packed),
            (Some("zstd"), &zstd),
            (Some("snappy"), &snappy(&body)),
            (None, &snappy(&body)),
            // Fluent Bit without compression.
            (None, &body),
        ] {
            let mut request = running.post(path).body(V1, body.clone());
            if let Some(encoding) = encoding {
                request = request.header("Content-Encoding", encoding);
            }
            let response = request.send();
            assert_eq!(response.status, 204, "{path} {encoding:?}");
            assert_eq!(written(&response), [1, 0, 0]);
        }
        // Vector's health check.
        assert_eq!(running.get(path).send().status, 200, "{path}");
    }
    assert_eq!(stored(&running, "m", now).len(), 1);
    running.stop();
}

#[test]
fn any_cut_of_a_request_is_refused_or_stored_and_never_ends_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms();
    let one = rich_v1(now).encode_to_vec();
    let mut two = v2::Request::begin();
    two.series(&[("__name__", "m"), ("a", "b")], &[(now, 1.0)]);
    let two = two.encode_to_vec();
    for (kind, body) in [(V1, &one), (V2, &two)] {
        for cut in (0..body.len()).step_by(7) {
            let response = send(&running, kind, &body[..cut]);
            assert!(matches!(response.status, 204 | 400), "{response:?}");
        }
        assert_eq!(send(&running, kind, body).status, 204);
    }
    let values = stored(&running, "m", now);
    assert!(values.len() >= 3, "{values:?}");
    running.stop();
}
