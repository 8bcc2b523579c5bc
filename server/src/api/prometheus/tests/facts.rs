//! What the store and the server say of themselves, administration, federation, cardinality.

use axum::http::Request;
use trine_storage::Labels;
use trine_tsdb::{Durability, Value};

use super::super::mount;
use super::super::run::harness::Harness;
use super::filled;

#[tokio::test]
async fn stats_are_told_and_old_words_warned_of() {
    let harness = filled();
    let path = "/api/v1/query?query=sum(up)&time=1700000020&stats=";
    assert!(!harness.get(path).await.text().contains("stats"));
    for (word, warns) in [("true", false), ("all", false), ("yes", true)] {
        let answer = harness.get(&format!("{path}{word}")).await;
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let samples = &json["data"]["stats"]["samples"];
        assert_eq!(samples["totalQueryableSamples"], 6, "{word}: {json}");
        assert!(samples["peakSamples"].is_u64());
        for timing in [
            "evalTotalTime",
            "resultSortTime",
            "queryPreparationTime",
            "innerEvalTime",
            "execQueueTime",
            "execTotalTime",
        ] {
            assert!(
                json["data"]["stats"]["timings"][timing].is_number(),
                "{timing}"
            );
        }
        let warning = "value \"yes\" for parameter \"stats\" is deprecated and will be rejected in \
                       the next major release, use \"true\" or \"all\"";
        assert_eq!(json["warnings"][0] == warning, warns, "{json}");
    }
}

#[tokio::test]
async fn a_large_answer_comes_in_pieces() {
    let harness = filled();
    let path = "/api/v1/query_range?query=vector(0.1)+or+up&start=0&end=10999&step=1";
    let answer = harness.get(path).await;
    assert_eq!(
        answer.headers.get("content-length"),
        None,
        "its length is not known before"
    );
    assert_eq!(answer.headers["content-type"], "application/json");
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        json["data"]["result"][0]["values"]
            .as_array()
            .unwrap()
            .len(),
        11_000
    );
}

/// An exemplar and metadata, as remote write brings them.
fn with_exemplars() -> Harness {
    let harness = filled();
    let mut appender = harness.tenant().metrics().unwrap().appender();
    let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
    for (job, at) in [("api", 0), ("db", 10_000)] {
        let series = labels(&[("__name__", "up"), ("job", job), ("http.status", "200")]);
        let exemplar = trine_tsdb::Exemplar {
            timestamp: 1_700_000_000_500 + at,
            value: 0.25,
            labels: labels(&[("trace_id", job)]),
        };
        appender.series(&series).exemplar(exemplar);
    }
    let metadata = |kind, help: &str| trine_tsdb::Metadata {
        kind,
        help: help.to_owned(),
        unit: String::new(),
    };
    appender.metadata(
        "up",
        metadata(trine_tsdb::MetricType::Gauge, "Is it \"up\"?"),
    );
    appender.metadata("up", metadata(trine_tsdb::MetricType::Unknown, ""));
    appender.metadata("x_total", metadata(trine_tsdb::MetricType::Counter, "x"));
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    harness
}

#[tokio::test]
async fn exemplars() {
    let harness = with_exemplars();
    let one = |job, at| {
        format!(
            r#"{{"seriesLabels":{{"__name__":"up","http.status":"200","job":"{job}"}},"exemplars":[{{"labels":{{"trace_id":"{job}"}},"value":"0.25","timestamp":{at}}}]}}"#
        )
    };
    let (api, db) = (one("api", "1700000000.500"), one("db", "1700000010.500"));
    let both = format!("{api},{db}");
    for (query, expect) in [
        ("query=up&start=1700000000&end=1700000020", &both),
        (
            "query=rate(up[5m])%2Bup&start=1700000000&end=1700000020",
            &both,
        ),
        ("query=sum(up{job=%22db%22})", &db),
        ("query=up&start=1700000000&end=1700000001", &api),
        ("query=up&start=1700000001&end=1700000002", &String::new()),
        ("query=1", &String::new()),
    ] {
        let expect = format!(r#"{{"status":"success","data":[{expect}]}}"#);
        let answer = harness.post("/api/v1/query_exemplars", query).await;
        assert_eq!(answer.told(), (200, expect.as_str()), "{query}");
    }
    let answer = harness
        .get("/api/v1/query_exemplars?query=up&start=2&end=1")
        .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .text()
            .contains("end timestamp must not be before start timestamp")
    );
}

#[tokio::test]
async fn metadata() {
    let harness = with_exemplars();
    let gauge = r#"{"type":"gauge","help":"Is it \"up\"?","unit":""}"#;
    let unknown = r#"{"type":"unknown","help":"","unit":""}"#;
    let x = r#""x_total":[{"type":"counter","help":"x","unit":""}]"#;
    for (query, expect) in [
        ("", format!(r#"{{"up":[{unknown},{gauge}],{x}}}"#)),
        ("limit=1", format!(r#"{{"up":[{unknown},{gauge}]}}"#)),
        ("limit=-1&metric=x_total", format!("{{{x}}}")),
        (
            "limit_per_metric=1&metric=up",
            format!(r#"{{"up":[{unknown}]}}"#),
        ),
        ("metric=none", "{}".to_owned()),
    ] {
        let answer = harness.get(&format!("/api/v1/metadata?{query}")).await;
        let expect = format!(r#"{{"status":"success","data":{expect}}}"#);
        assert_eq!(answer.told(), (200, expect.as_str()), "{query}");
    }
    let answer = harness.get("/api/v1/metadata?limit=x").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .text()
            .contains(r#""error":"limit must be a number""#)
    );
}

#[tokio::test]
async fn what_does_not_exist_here_is_an_empty_list() {
    let harness = filled();
    for (path, data) in [
        (
            "targets",
            r#"{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}"#,
        ),
        ("targets/metadata?metric=up", "[]"),
        ("scrape_pools", r#"{"scrapePools":[]}"#),
        (
            "alertmanagers",
            r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#,
        ),
        ("rules?type=alert", r#"{"groups":[]}"#),
        ("alerts", r#"{"alerts":[]}"#),
        ("notifications", "[]"),
        ("status/walreplay", r#"{"min":0,"max":0,"current":0}"#),
    ] {
        let answer = harness.get(&format!("/api/v1/{path}")).await;
        let expect = format!(r#"{{"status":"success","data":{data}}}"#);
        assert_eq!(answer.told(), (200, expect.as_str()), "{path}");
    }
}

async fn json(harness: &Harness, path: &str) -> serde_json::Value {
    let answer = harness.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn status() {
    let harness = filled();
    let runtime = json(&harness, "/api/v1/status/runtimeinfo").await;
    for key in [
        "startTime",
        "CWD",
        "serverTime",
        "lastConfigTime",
        "storageRetention",
    ] {
        assert!(runtime["data"][key].is_string(), "{key}: {runtime}");
    }
    let flags = json(&harness, "/api/v1/status/flags").await;
    assert_eq!(flags["data"]["query-samples-max"], "50000000", "{flags}");
    let config = json(&harness, "/api/v1/status/config").await;
    let yaml = config["data"]["yaml"].as_str().unwrap();
    assert!(yaml.contains("query-timeout: \"2m\"\n"), "{yaml}");

    let tsdb = json(&harness, "/api/v1/status/tsdb?limit=2").await;
    let data = &tsdb["data"];
    assert_eq!(data["headStats"]["numSeries"], 2, "{tsdb}");
    assert_eq!(data["headStats"]["numLabelPairs"], 4);
    assert_eq!(data["headStats"]["minTime"], 1_700_000_000_000i64);
    assert_eq!(data["headStats"]["maxTime"], 1_700_000_020_000i64);
    let up = serde_json::json!([{ "name": "up", "value": 2 }]);
    assert_eq!(data["seriesCountByMetricName"], up);
    let values = serde_json::json!([
        { "name": "job", "value": 2 },
        { "name": "__name__", "value": 1 },
    ]);
    assert_eq!(data["labelValueCountByLabelName"], values);
    assert_eq!(
        data["seriesCountByLabelValuePair"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert!(data["memoryInBytesByLabelName"].is_array());
    json(&harness, "/api/v1/status/tsdb?limit=10000").await;

    let blocks = json(&harness, "/api/v1/status/tsdb/blocks").await;
    assert_eq!(blocks["data"]["blocks"], serde_json::json!([]));
    harness.tenant().metrics().unwrap().flush().unwrap();
    let blocks = json(&harness, "/api/v1/status/tsdb/blocks").await;
    let block = &blocks["data"]["blocks"][0];
    assert_eq!(block["minTime"], 1_700_000_000_000i64, "{blocks}");
    assert_eq!(block["stats"]["numSamples"], 6);
}

#[tokio::test]
async fn features_are_what_the_parser_knows() {
    let harness = Harness::new(mount, |config| config.enable_admin_api = true);
    let features = json(&harness, "/api/v1/features").await;
    let data = &features["data"];
    assert_eq!(data["api"]["admin"], true);
    assert_eq!(data["api"]["lifecycle"], false);
    for (group, name) in [
        ("promql", "at_modifier"),
        ("promql", "group_left"),
        ("promql", "subqueries"),
        ("promql_functions", "rate"),
        ("promql_functions", "days_in_month"),
        ("promql_functions", "label_join"),
        ("promql_operators", "!~"),
        ("promql_operators", "atan2"),
        ("promql_operators", "count_values"),
    ] {
        assert_eq!(data[group][name], true, "{group} {name}: {features}");
    }
    let functions = data["promql_functions"].as_object().unwrap();
    assert_eq!(functions.len(), trine_query::promql::functions::all().len());
}

#[tokio::test]
async fn parse_query() {
    let harness = filled();
    let answer = harness.post("/api/v1/parse_query", "query=-1").await;
    let expect = r#"{"status":"success","data":{"type":"unaryExpr","op":"-","expr":{"type":"numberLiteral","val":"1"}}}"#;
    // A sign before a number may also be a part of it.
    let folded = r#"{"status":"success","data":{"type":"numberLiteral","val":"-1"}}"#;
    assert!(
        [expect, folded].contains(&answer.text()),
        "{}",
        answer.text()
    );
    assert_eq!(
        harness.get("/api/v1/parse_query?query=sum(").await.status,
        400
    );
}

#[tokio::test]
async fn administration_is_off_unless_it_is_switched_on() {
    let off = r#"{"status":"error","errorType":"unavailable","error":"admin APIs disabled"}"#;
    let harness = filled();
    for name in ["delete_series?match[]=up", "clean_tombstones", "snapshot"] {
        let path = format!("/api/v1/admin/tsdb/{name}");
        assert_eq!(harness.post(&path, "").await.told(), (500, off));
        assert_eq!(harness.get(&path).await.status, 405);
    }

    let harness = Harness::new(mount, |config| config.enable_admin_api = true);
    let answer = harness.post("/api/v1/admin/tsdb/snapshot", "").await;
    assert_eq!(answer.status, 404, "nothing to copy: {}", answer.text());
    let mut appender = harness.tenant().metrics().unwrap().appender();
    for job in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]).unwrap();
        for at in 0..3 {
            appender.append(&labels, at * 1000, Value::Float(1.0));
        }
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    let base = "/api/v1/admin/tsdb";
    let answer = harness.post(&format!("{base}/delete_series"), "").await;
    assert!(answer.text().contains("no match[] parameter provided"));
    let delete = format!("{base}/delete_series?match[]=up{{job=%22a%22}}&end=1");
    let put = Request::put(&delete)
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(harness.send(put).await.told(), (204, ""));
    let left = json(
        &harness,
        "/api/v1/query?query=count_over_time(up[1m])&time=10",
    )
    .await;
    let counts: Vec<_> = left["data"]["result"].as_array().unwrap().iter().collect();
    assert_eq!(counts[0]["value"][1], "1", "{left}");
    assert_eq!(counts[1]["value"][1], "3", "{left}");
    assert_eq!(
        harness
            .post(&format!("{base}/clean_tombstones"), "")
            .await
            .told(),
        (204, "")
    );

    let answer = harness
        .post(&format!("{base}/snapshot?skip_head=maybe"), "")
        .await;
    assert_eq!(answer.status, 400);
    let answer = harness
        .post(&format!("{base}/snapshot?skip_head=false"), "")
        .await;
    let found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let name = found["data"]["name"].as_str().unwrap();
    assert_eq!(
        name.len(),
        "20171210T211224Z-2be650b6d019eb54".len(),
        "{name}"
    );
    let copy = harness.app.config.data_dir.join("snapshots").join(name);
    let copy = trine_tsdb::Tsdb::open(copy.join("tenants/anonymous/metrics")).unwrap();
    let series = copy
        .snapshot()
        .series(&[], trine_storage::TimeRange::ALL, None)
        .unwrap();
    assert_eq!(series.len(), 2);
}

#[tokio::test]
async fn federation_of_servers() {
    let harness = Harness::new(mount, |_| {});
    let now = harness.app.clock.now_ms();
    let mut appender = harness.tenant().metrics().unwrap().appender();
    for (pairs, at, value) in [
        (&[("__name__", "up"), ("job", "a")][..], now - 2000, 0.5),
        (&[("__name__", "up"), ("job", "a")], now - 1000, 1e6),
        (
            &[("__name__", "up"), ("instance", "x"), ("job", "a\"\n")],
            now - 1000,
            2.0,
        ),
        (
            &[("__name__", "big"), ("job", "a")],
            now - 1000,
            f64::INFINITY,
        ),
        (
            &[("__name__", "http.requests"), ("a.b", "c")],
            now - 1000,
            1.0,
        ),
        (&[("__name__", "old")], now - 400_000, 1.0),
        (
            &[("__name__", "gone")],
            now - 1000,
            f64::from_bits(0x7ff0_0000_0000_0002),
        ),
    ] {
        let labels = Labels::from_pairs(pairs.iter().copied()).unwrap();
        appender.append(&labels, at, Value::Float(value));
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    let at = now - 1000;
    let path = "/federate?match[]=up&match[]={__name__=~%22.%2B%22}&match[]=up{job=%22a%22}";
    let answer = harness.get(path).await;
    let expect = format!(
        "# TYPE big untyped\nbig{{job=\"a\",instance=\"\"}} +Inf {at}\n\
         # TYPE http_requests untyped\nhttp_requests{{a_b=\"c\",instance=\"\"}} 1 {at}\n\
         # TYPE up untyped\nup{{instance=\"x\",job=\"a\\\"\\n\"}} 2 {at}\n\
         up{{job=\"a\",instance=\"\"}} 1e+06 {at}\n"
    );
    assert_eq!(answer.told(), (200, expect.as_str()));
    let kind = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    assert_eq!(answer.headers["content-type"], kind);
    let request = Request::get("/federate?match[]={__name__=%22http.requests%22}").header(
        "Accept",
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5",
    );
    let answer = harness
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await;
    let expect = format!(
        "# TYPE \"http.requests\" untyped\n{{\"http.requests\",\"a.b\"=\"c\",instance=\"\"}} 1 {at}\n"
    );
    assert_eq!(answer.told(), (200, expect.as_str()));
    assert_eq!(harness.get("/federate").await.told(), (200, ""));
    assert_eq!(harness.get("/federate?match[]=up{").await.status, 400);
}

#[tokio::test]
async fn cardinality_in_mimirs_shape() {
    let harness = Harness::new(mount, |_| {});
    let now = harness.app.clock.now_ms();
    let mut appender = harness.tenant().metrics().unwrap().appender();
    for (job, instance) in [("a", "1"), ("a", "2"), ("b", "1")] {
        let pairs = [("__name__", "up"), ("job", job), ("instance", instance)];
        appender.append(&Labels::from_pairs(pairs).unwrap(), now, Value::Float(1.0));
    }
    let labels = Labels::from_pairs([("__name__", "sizes")]).unwrap();
    appender.append(&labels, now, trine_tsdb::Histogram::default().into());
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    for (path, expect) in [
        (
            "label_names?limit=1",
            serde_json::json!({
                "label_values_count_total": 6, "label_names_count": 3,
                "cardinality": [{ "label_name": "__name__", "label_values_count": 2 }],
            }),
        ),
        (
            "label_names?selector=up{job=%22a%22}&count_method=active",
            serde_json::json!({
                "label_values_count_total": 4, "label_names_count": 3,
                "cardinality": [
                    { "label_name": "instance", "label_values_count": 2 },
                    { "label_name": "__name__", "label_values_count": 1 },
                    { "label_name": "job", "label_values_count": 1 },
                ],
            }),
        ),
        (
            "label_values?label_names[]=job&limit=1",
            serde_json::json!({
                "series_count_total": 4,
                "labels": [{
                    "label_name": "job", "label_values_count": 2, "series_count": 3,
                    "cardinality": [{ "label_value": "a", "series_count": 2 }],
                }],
            }),
        ),
        (
            "active_series?selector=up{job=%22b%22}",
            serde_json::json!({ "data": [{ "__name__": "up", "job": "b", "instance": "1" }] }),
        ),
        (
            "active_native_histogram_metrics?selector={__name__!=%22%22}",
            serde_json::json!({ "data": [{
                "metric": "sizes", "series_count": 1, "bucket_count": 0, "avg_bucket_count": 0.0,
                "min_bucket_count": 0, "max_bucket_count": 0,
            }] }),
        ),
    ] {
        let found = json(&harness, &format!("/api/v1/cardinality/{path}")).await;
        assert_eq!(found, expect, "{path}");
    }
    json(&harness, "/api/v1/cardinality/label_names?limit=500").await;
    for path in [
        "label_names?limit=501",
        "label_names?limit=-1",
        "label_names?count_method=guess",
        "label_names?selector={",
        "label_values",
        "active_series",
    ] {
        let answer = harness.get(&format!("/api/v1/cardinality/{path}")).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
    let stats = json(&harness, "/api/v1/user_stats").await;
    assert_eq!(stats["numSeries"], 4);
    assert_eq!(
        json(&harness, "/api/v1/user_limits").await["ingestion_rate"],
        0
    );
}

#[tokio::test]
async fn a_server_that_says_it_is_mimir() {
    let harness = Harness::new(mount, |config| {
        config.metrics_api = crate::config::MetricsApi::Mimir;
    });
    let build = json(&harness, "/api/v1/status/buildinfo").await;
    assert_eq!(build["data"]["application"], "Grafana Mimir");
    let features = build["data"]["features"].as_object().unwrap();
    assert!(
        features.values().all(serde_json::Value::is_string),
        "{build}"
    );
    for path in ["config", "flags"] {
        let found = json(&harness, &format!("/api/v1/status/{path}")).await;
        assert_eq!(found["data"], serde_json::json!({}));
    }
}

#[tokio::test]
async fn several_tenants_are_read_as_one() {
    let harness = filled();
    let other = crate::tenants::TenantId::parse("other").unwrap();
    let other = harness.app.tenants.get_or_create(&other).unwrap();
    let mut appender = other.metrics().unwrap().appender();
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "web")]).unwrap();
    appender.append(&labels, 1_700_000_020_000, Value::Float(7.0));
    let help = trine_tsdb::Metadata::default();
    appender.metadata("up", help);
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    let ask = |path: &str| {
        let request = Request::get(format!("/api/v1/{path}"));
        let request = request.header("X-Scope-OrgID", "other|anonymous|nobody");
        harness.send(request.body(axum::body::Body::empty()).unwrap())
    };
    for (path, data) in [
        (
            "query?query=sum by (__tenant_id__) (up)&time=1700000020",
            r#"{"resultType":"vector","result":[{"metric":{"__tenant_id__":"anonymous"},"value":[1700000020,"3"]},{"metric":{"__tenant_id__":"other"},"value":[1700000020,"7"]}]}"#,
        ),
        (
            "query?query=sum(up{__tenant_id__!=%22anonymous%22})&time=1700000020",
            r#"{"resultType":"vector","result":[{"metric":{},"value":[1700000020,"7"]}]}"#,
        ),
        (
            "label/__tenant_id__/values",
            r#"["anonymous","nobody","other"]"#,
        ),
        ("label/job/values", r#"["api","db","web"]"#),
        (
            "labels",
            r#"["__name__","__tenant_id__","http.status","job"]"#,
        ),
        (
            "series?match[]=up{job=%22web%22}",
            r#"[{"__name__":"up","__tenant_id__":"other","job":"web"}]"#,
        ),
        (
            "metadata",
            r#"{"up":[{"type":"unknown","help":"","unit":""}]}"#,
        ),
    ] {
        let answer = ask(&path.replace(' ', "%20")).await;
        let expect = format!(r#"{{"status":"success","data":{data}}}"#);
        assert_eq!(answer.told(), (200, expect.as_str()), "{path}");
    }
}
