//! What clients of Loki trip over: ways to ask that must work, and answers that must not change.

use serde_json::{Value, json};

use crate::client::Response;
use crate::harness::Running;
use crate::query::path;
use crate::wire::{now_ms, push_request, snappy};

const FORM: &str = "application/x-www-form-urlencoded";

/// A server with lines of three streams, a tenth of a second apart.
pub(crate) fn filled(dir: &std::path::Path) -> Running {
    let running = Running::start(dir, |_| {});
    push(&running, "");
    running
}

fn push(running: &Running, tenant: &str) {
    let now = now_ms();
    for (labels, line) in [
        (r#"{app="a", env="x"}"#, "level=info k=1"),
        (r#"{app="b", env="x"}"#, r#"{"level":"error","k":2}"#),
        (r#"{app="c", env="y"}"#, "plain"),
    ] {
        let body = snappy(&push_request(
            labels,
            &[(now - 1000, line), (now - 900, line)],
        ));
        let push = running.post("/loki/api/v1/push").tenant(tenant);
        let push = push.body("application/x-protobuf", body).send();
        assert_eq!(push.status, 204);
    }
}

fn range() -> [(&'static str, String); 2] {
    let now = now_ms();
    [
        ("start", format!("{}000000", now - 600_000)),
        ("end", format!("{now}000000")),
    ]
}

pub(crate) fn ask(
    running: &Running,
    name: &str,
    params: &[(&str, &str)],
    headers: &[(&str, &str)],
) -> Response {
    let range = range();
    let times = range.iter().map(|(name, time)| (*name, time.as_str()));
    let params: Vec<(&str, &str)> = params.iter().copied().chain(times).collect();
    let path = path(&format!("/loki/api/v1/{name}"), &params);
    let mut request = running.get(&path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send()
}

#[test]
fn parameters_in_the_url_and_in_the_body() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    for prefix in ["", "/loki"] {
        for (name, form) in [
            ("query", "query=vector(1)"),
            ("query_range", "query={app=\"a\"}"),
            ("labels", "query={app=\"a\"}"),
            ("label/app/values", "query={app=\"a\"}"),
            ("series", "match[]={app=\"a\"}"),
            ("index/stats", "query={app=\"a\"}"),
            ("index/volume", "query={app=\"a\"}"),
            ("index/volume_range", "query={app=\"a\"}"),
            ("patterns", "query={app=\"a\"}"),
            ("detected_labels", "query={app=\"a\"}"),
            ("detected_fields", "query={app=\"a\"}"),
            ("detected_field/k/values", "query={app=\"a\"}"),
            ("format_query", "query={app=\"a\"}"),
        ] {
            let now = now_ms() / 1000;
            let path = format!(
                "{prefix}/loki/api/v1/{name}?start={}&end={now}&step=10",
                now - 60
            );
            let answer = running.post(&path).body(FORM, form).send();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
    }
    running.stop();
}

#[test]
fn the_check_of_a_data_source_needs_no_data() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let query = "/loki/api/v1/query?query=vector(1)%2Bvector(1)&direction=backward&time=4000000000";
    let flags = "categorize-labels";
    let answer = running
        .get(query)
        .header("X-Loki-Response-Encoding-Flags", flags)
        .send();
    let data = &answer.json()["data"];
    assert_eq!(data["resultType"], "vector");
    assert_eq!(
        data["result"],
        json!([{ "metric": {}, "value": [4_000_000_000u32, "2"] }])
    );
    running.stop();
}

#[test]
fn streams_are_read_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    let flags = ("X-Loki-Response-Encoding-Flags", "categorize-labels");
    for (headers, elements) in [(&[][..], 2), (&[flags], 3)] {
        let query = [
            ("query", "{env=\"x\"} | logfmt"),
            ("limit", "10"),
            ("step", "1000ms"),
        ];
        let answer = ask(&running, "query_range", &query, headers);
        let text = answer.text();
        let key = |key: &str| text.find(key);
        assert!(key("\"resultType\"") < key("\"result\":"));
        assert_eq!(key("\"encodingFlags\"").is_some(), elements == 3);
        assert!(key("\"encodingFlags\"") < key("\"result\":"));
        let answer = answer.json();
        let streams = answer["data"]["result"].as_array().unwrap();
        assert!(streams.len() >= 2);
        for stream in streams {
            let keys: Vec<&String> = stream.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["stream", "values"]);
            let labels = stream["stream"].as_object().unwrap();
            assert!(labels.values().all(Value::is_string), "{labels:?}");
            for value in stream["values"].as_array().unwrap() {
                assert_eq!(value.as_array().unwrap().len(), elements);
                if let Some(categories) = value.get(2) {
                    let known = ["structuredMetadata", "parsed"];
                    let keys = categories.as_object().unwrap().keys();
                    assert!(keys.into_iter().all(|key| known.contains(&key.as_str())));
                }
            }
        }
    }
    running.stop();
}

#[test]
fn what_is_empty_is_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    let none = [("query", "{app=\"none\"}")];
    for (name, pointer) in [
        ("query_range", "/data/result"),
        ("labels", "/data"),
        ("label/app/values", "/data"),
        ("label/__stream_shard__/values", "/data"),
        ("index/volume", "/data/result"),
        ("index/volume_range", "/data/result"),
        ("patterns", "/data"),
        ("detected_labels", "/detectedLabels"),
        ("detected_fields", "/fields"),
        ("detected_field/x/values", "/values"),
    ] {
        let answer = ask(&running, name, &none, &[]);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(answer.json().pointer(pointer), Some(&json!([])), "{name}");
    }
    let stats = ask(&running, "index/stats", &none, &[]).json();
    assert_eq!(
        stats,
        json!({ "streams": 0, "chunks": 0, "bytes": 0, "entries": 0 })
    );
    running.stop();
}

#[test]
fn rulers_that_have_no_rules() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    for prefix in ["", "/loki"] {
        for path in ["/loki/api/v1/rules", "/api/prom/rules"] {
            let answer = running.get(&format!("{prefix}{path}")).send();
            assert_eq!((answer.status, answer.text()), (200, "{}\n"));
            assert_eq!(answer.header("content-type"), Some("application/yaml"));
            let answer = running.get(&format!("{prefix}{path}/test")).send();
            assert_eq!(
                (answer.status, answer.text()),
                (404, "no rule groups found\n")
            );
            let answer = running.get(&format!("{prefix}{path}/test/test")).send();
            let told = "GetRuleGroup unsupported in rule local store\n";
            assert_eq!((answer.status, answer.text()), (404, told));
        }
        for (what, list) in [("rules", "groups"), ("alerts", "alerts")] {
            let answer = running
                .get(&format!("{prefix}/prometheus/api/v1/{what}"))
                .send();
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.json()["data"], json!({ list: [] }));
        }
    }
    running.stop();
}

#[test]
fn keywords_and_numbers_as_people_write_them() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    for query in [
        "SUM BY (app) (RATE({env=\"x\"}[1m0s]))",
        "sum by () (count_over_time({env=\"x\"}[60s]))",
        "sum(rate({env=\"x\"}[1m])) # a remark\n > .0",
        "sum(rate({app=\"a\"}[1m])) OR sum(rate({app=\"b\"}[1m]))",
        "{  env = `x`  }   |=    \"k\"",
        "{env=\"x\"} | logfmt | k=\"1\" OR k=\"2\"",
    ] {
        let answer = ask(
            &running,
            "query_range",
            &[("query", query), ("step", "10s")],
            &[],
        );
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let found = answer.json()["data"]["result"].as_array().unwrap().len();
        assert!(found > 0, "{query}");
    }
    running.stop();
}

#[test]
fn tags_of_queries_may_hold_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    for tags in ["Source=logvolhist", "Source=\u{1b}[31m\u{e9}", "{{{%n%s"] {
        // A control character in a header is refused by whoever reads HTTP.
        let tags = tags.replace('\u{1b}', "");
        let answer = ask(&running, "labels", &[], &[("X-Query-Tags", &tags)]);
        assert_eq!(answer.status, 200, "{tags:?}");
    }
    running.stop();
}

#[test]
fn answers_are_packed_for_who_takes_gzip() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    let answer = ask(&running, "series", &[], &[("Accept-Encoding", "gzip")]);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let answer = ask(&running, "series", &[], &[("Accept-Encoding", "br")]);
    assert_eq!(answer.header("content-encoding"), None);
    running.stop();
}

#[test]
fn limits_are_told_in_the_words_that_are_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        config.query_series_max = 2;
        config.logs.entries_max = 50;
        config.logs.query_bytes_max = 40;
        config.logs.query_length_max = std::time::Duration::from_secs(2 * 3600);
        config.logs.required_labels = vec!["app".to_owned()];
        config.logs.required_labels_count = 1;
        let mut past = config.clone();
        past.logs.query_lookback_max = std::time::Duration::from_secs(3600);
        config.overrides.insert("past".to_owned(), past);
        let mut slow = config.clone();
        slow.logs.query_bytes_max = 0;
        slow.query_timeout = std::time::Duration::ZERO;
        config.overrides.insert("slow".to_owned(), slow);
    });
    push(&running, "");
    push(&running, "slow");
    let now = now_ms() / 1000;
    let (hours, day) = ((now - 3 * 3600).to_string(), (now - 24 * 3600).to_string());
    let (recent, end) = ((now - 60).to_string(), (now + 1).to_string());
    let ago = (now - 23 * 3600).to_string();
    for (tenant, query, start, end, status, told) in [
        (
            "",
            "{app=\"a\"}",
            &recent,
            &end,
            400,
            "max entries limit per query exceeded, limit > max_entries_limit_per_query (100 > 50)",
        ),
        (
            "",
            "rate({app=\"a\"}[1m])",
            &hours,
            &end,
            400,
            "the query time range exceeds the limit (query length: 3h0m1s, limit: 2h)",
        ),
        (
            "past",
            "rate({app=\"a\"}[1m])",
            &day,
            &ago,
            400,
            "this data is no longer available, it is past now - max_query_lookback (1h)",
        ),
        (
            "",
            "rate({app=~\".+\"}[1m])",
            &recent,
            &end,
            400,
            "the query would read too many bytes (query: 84 B, limit: 40 B); consider adding more specific stream selectors or reduce the time range of the query",
        ),
        (
            "",
            "rate({env=\"x\"}[1m])",
            &recent,
            &end,
            400,
            "stream selector is missing required matchers [app], labels present in the query were [env]",
        ),
        (
            "slow",
            "sum by (app, k) (rate({app=~\".+\"} | logfmt [1m]))",
            &recent,
            &end,
            504,
            "request timed out, decrease the duration of the request or add more label matchers (prefer exact match over regex match) to reduce the amount of data processed",
        ),
    ] {
        let params = [
            ("query", query),
            ("start", start.as_str()),
            ("end", end.as_str()),
            ("step", "10"),
        ];
        let path = path("/loki/api/v1/query_range", &params);
        let answer = running.get(&path).tenant(tenant).send();
        assert_eq!((answer.status, answer.text()), (status, told), "{query}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
    running.stop();
}

#[test]
fn a_query_of_too_many_series_says_so_as_the_app_expects() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| config.query_series_max = 2);
    push(&running, "");
    let query = [
        ("query", "sum by (app) (count_over_time({env=~\".+\"}[5m]))"),
        ("step", "60"),
    ];
    let answer = ask(&running, "query_range", &query, &[]);
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .text()
            .starts_with("maximum number of series (2) reached for a single query")
    );
    // Logs Drilldown takes what there is.
    let tags = ("X-Query-Tags", "Source=grafana-lokiexplore-app");
    let answer = ask(&running, "query_range", &query, &[tags]).json();
    let told = "maximum number of series (2) reached for a single query; returning partial results";
    assert_eq!(answer["warnings"], json!([told]));
    assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 2);
    running.stop();
}

#[test]
fn several_tenants_in_all_that_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    push(&running, "one");
    push(&running, "two");
    let both = [("X-Scope-OrgID", "one|two")];
    let read = |name: &str, params: &[(&str, &str)]| {
        let answer = ask(&running, name, params, &both);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        answer.json()
    };
    let tenants = json!(["one", "two"]);
    assert_eq!(read("label/__tenant_id__/values", &[])["data"], tenants);
    let names = json!(["__tenant_id__", "app", "env", "service_name"]);
    assert_eq!(read("labels", &[])["data"], names);
    assert_eq!(read("series", &[])["data"].as_array().unwrap().len(), 6);
    let one = read("series", &[("match[]", "{__tenant_id__=\"one\"}")]);
    assert_eq!(one["data"].as_array().unwrap().len(), 3);
    let lines = read("query_range", &[("query", "{app=\"a\"}")]);
    let streams = lines["data"]["result"].as_array().unwrap();
    let of: Vec<&Value> = streams
        .iter()
        .map(|s| &s["stream"]["__tenant_id__"])
        .collect();
    assert_eq!(of, ["one", "two"]);
    let count = "sum by (__tenant_id__) (count_over_time({app=\"a\"}[1h]))";
    let count = read("query", &[("query", count)]);
    assert_eq!(count["data"]["result"].as_array().unwrap().len(), 2);
    assert_eq!(
        read("index/stats", &[("query", "{app=\"a\"}")])["entries"],
        4
    );
    let volume = read(
        "index/volume",
        &[("query", "{app=\"a\", __tenant_id__=~\".+\"}")],
    );
    assert_eq!(volume["data"]["result"].as_array().unwrap().len(), 2);
    let patterns = read("patterns", &[("query", "{app=\"a\"}")]);
    assert_eq!(patterns["data"].as_array().unwrap().len(), 1);
    let fields = read("detected_fields", &[("query", "{app=\"a\"}")]);
    assert!(!fields["fields"].as_array().unwrap().is_empty());
    running.stop();
}

#[test]
fn deletes_are_seen_at_once_listed_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        let mut none = config.clone();
        none.logs.deletes = false;
        config.overrides.insert("none".to_owned(), none);
    });
    push(&running, "");
    let now = now_ms() / 1000;
    let (start, end) = ((now - 600).to_string(), now.to_string());
    let delete = |query: &str| {
        path(
            "/loki/api/v1/delete",
            &[("query", query), ("start", &start), ("end", &end)],
        )
    };
    let count = || {
        let lines = ask(&running, "index/stats", &[("query", "{env=~\".+\"}")], &[]);
        lines.json()["entries"].as_u64().unwrap()
    };
    // The last of them may be younger than the last full second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let end = (now_ms() / 1000).to_string();
    let until = |query: &str| {
        path(
            "/loki/api/v1/delete",
            &[("query", query), ("start", &start), ("end", &end)],
        )
    };
    assert_eq!(count(), 6);
    assert_eq!(
        running
            .post(&until("{app=\"a\"} |= \"k=1\" != \"no\""))
            .send()
            .status,
        204
    );
    assert_eq!(count(), 4);
    let list = running.get("/loki/api/v1/delete").send().json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list[0]["query"], "{app=\"a\"} |= \"k=1\" != \"no\"");
    assert_eq!(list[0]["status"], "received");
    assert_eq!(list[0]["start_time"], json!(now - 600));
    let id = list[0]["request_id"].as_str().unwrap();
    let cancel = |id: &str| {
        let path = format!("/loki/api/v1/delete?request_id={id}");
        let answer = crate::client::request(running.address, "DELETE", &path).send();
        (answer.status, answer.text().to_owned())
    };
    let unknown = (
        404,
        "could not find delete request with given id".to_owned(),
    );
    assert_eq!(cancel("ffff"), unknown);
    assert_eq!(cancel("x"), unknown);
    assert_eq!(cancel(id), (204, String::new()));
    assert_eq!(count(), 6);
    assert_eq!(running.get("/loki/api/v1/delete").send().text(), "[]");
    for (query, left) in [
        (r#"{env=~".+"} | json | level = "error""#, 4),
        (r#"{env=~".+"} | detected_level="info" |= "k""#, 4),
        (r#"{env=~".+"} != "level" !~ "k=." |~ "pl|x""#, 4),
        (r#"{env=~".+"} |> "level=<_>" | logfmt | k < 2"#, 4),
        (r#"{env=~".+"} |= "k" or "plain" | line_format "x""#, 0),
        (r#"{env=~".+"} | logfmt | nothing="there""#, 6),
    ] {
        assert_eq!(running.post(&until(query)).send().status, 204, "{query}");
        assert_eq!(count(), left, "{query}");
        let list = running.get("/loki/api/v1/delete").send().json();
        let id = list[0]["request_id"].as_str().unwrap();
        assert_eq!(cancel(id).0, 204, "{list}");
    }
    let bad = running
        .post(&until(r#"{env=~".+"} | line_format "{{""#))
        .send();
    assert_eq!(bad.status, 400, "{}", bad.text());
    for (query, told) in [
        ("/loki/api/v1/delete?start=1", "query not set"),
        (
            "/loki/api/v1/delete?query={&start=1",
            "invalid query expression",
        ),
        (
            "/loki/api/v1/delete?query={a=%22b%22}",
            "start time not set",
        ),
        (
            "/loki/api/v1/delete?query={a=%22b%22}&start=x",
            "invalid start time: require unix seconds or RFC3339 format",
        ),
        (
            "/loki/api/v1/delete?query={a=%22b%22}&start=1&end=9999999999",
            "deletes in the future are not allowed",
        ),
        (
            "/loki/api/v1/delete?query={a=%22b%22}&start=2&end=1",
            "start time can't be greater than or equal to end time",
        ),
        (
            "/loki/api/v1/delete?query={a=%22b%22}&start=1&end=2&max_interval=1x",
            "invalid max_interval: valid time units are 's', 'm', 'h'",
        ),
    ] {
        let answer = running.post(query).send();
        assert_eq!((answer.status, answer.text()), (400, told), "{query}");
    }
    let forbidden = running.post(&delete("{app=\"a\"}")).tenant("none").send();
    let told = "deletion is not available for this tenant";
    assert_eq!((forbidden.status, forbidden.text()), (403, told));
    running.stop();
}

#[test]
fn the_paths_of_old() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    let range = range();
    let ask = |name: &str, more: &[(&str, &str)]| {
        let times = range.iter().map(|(name, time)| (*name, time.as_str()));
        let params: Vec<(&str, &str)> = more.iter().copied().chain(times).collect();
        running
            .get(&path(&format!("/api/prom/{name}"), &params))
            .send()
            .json()
    };
    assert_eq!(
        ask("label", &[]),
        json!({ "values": ["app", "env", "service_name"] })
    );
    assert_eq!(
        ask("label/app/values", &[]),
        json!({ "values": ["a", "b", "c"] })
    );
    assert_eq!(
        ask("series", &[("match", "{app=\"a\"}")])["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let lines = ask("query", &[("query", "{app=\"c\"}"), ("limit", "1")]);
    let stream = &lines["streams"][0];
    let labels = r#"{app="c", detected_level="unknown", env="y", service_name="c"}"#;
    assert_eq!(stream["labels"], labels);
    assert_eq!(stream["entries"][0]["line"], "plain");
    assert!(stream["entries"][0]["ts"].as_str().unwrap().ends_with('Z'));
    running.stop();
}

#[test]
fn limits_of_a_tenant_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        config.retention = Some(std::time::Duration::from_secs(31 * 24 * 3600));
        let mut own = config.clone();
        own.logs.entries_max = 7;
        config.overrides.insert("t".to_owned(), own);
    });
    let page = running.get("/config/tenant/v1/limits").tenant("t").send();
    assert_eq!(page.header("content-type"), Some("application/yaml"));
    assert!(
        page.text().contains("max_entries_limit_per_query: 7\n"),
        "{}",
        page.text()
    );
    let told = running.get("/loki/api/v1/drilldown-limits").send().json();
    assert_eq!(told["limits"]["max_entries_limit_per_query"], 5000);
    assert_eq!(told["limits"]["retention_period"], "31d");
    assert_eq!(told["limits"]["volume_enabled"], true);
    assert_eq!(told["pattern_ingester_enabled"], true);
    running.stop();
}

#[test]
fn volumes_over_time_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    let query = [
        ("query", "{env=~\".+\"}"),
        ("step", "60s"),
        ("targetLabels", "app"),
    ];
    let answer = ask(&running, "index/volume_range", &query, &[]).json();
    assert_eq!(answer["data"]["resultType"], "matrix");
    let result = answer["data"]["result"].as_array().unwrap();
    let sums: Vec<(String, u64)> = result
        .iter()
        .map(|series| {
            let values = series["values"].as_array().unwrap().iter();
            let bytes = values.map(|value| value[1].as_str().unwrap().parse::<u64>().unwrap());
            (
                series["metric"]["app"].as_str().unwrap().to_owned(),
                bytes.sum(),
            )
        })
        .collect();
    let expect = [("b", 46), ("a", 28), ("c", 10)];
    let expect: Vec<_> = expect
        .iter()
        .map(|(app, sum)| ((*app).to_owned(), *sum))
        .collect();
    assert_eq!(sums, expect);
    running.stop();
}
