//! The handlers of Loki's API over a store with a few lines.

use axum::body::Body;
use axum::http::Request;
use trine_logstore::Durability;
use trine_storage::Labels;

use super::mount;
use crate::api::prometheus::run::harness::{Answer, Harness};

const EMPTY: &str = r#"{"status":"success","data":[]}"#;

/// The first line's time, in nanoseconds: an hour ago, to the minute.
fn first(harness: &Harness) -> i64 {
    let minute = 60_000_000_000;
    (harness.app.clock.now_ns() / minute - 60) * minute
}

/// Three lines a second apart, one with structured metadata, one of another stream.
fn filled() -> (Harness, i64) {
    let harness = Harness::new(mount, |_| {});
    let first = first(&harness);
    let mut appender = harness.tenant().logs().unwrap().appender();
    let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied()).unwrap();
    let (api, db) = (
        labels(&[("app", "api"), ("env", "x")]),
        labels(&[("app", "db")]),
    );
    let (none, traced) = (Labels::empty(), labels(&[("trace_id", "7")]));
    appender.append(&api, first, b"level=info a", &none);
    appender.append(&api, first + 1_000_000_000, b"level=warn b", &traced);
    appender.append(&db, first + 2_000_000_000, b"c", &none);
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    (harness, first)
}

/// The answer up to its statistics, which hold the time it took.
fn head(answer: &Answer) -> &str {
    let text = answer.text();
    text.split_once(",\"stats\"").map_or(text, |(head, _)| head)
}

async fn ask(harness: &Harness, path: &str, flags: Option<&str>) -> Answer {
    let mut request = Request::get(format!("/loki/api/v1/{path}"));
    if let Some(flags) = flags {
        request = request.header("X-Loki-Response-Encoding-Flags", flags);
    }
    harness.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn the_check_of_grafana() {
    let harness = Harness::new(mount, |_| {});
    let query = "query?query=vector(1)%2Bvector(1)&direction=backward&time=4000000000";
    let answer = ask(&harness, query, Some("categorize-labels")).await;
    assert_eq!(answer.status, 200);
    let json: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
    assert_eq!(json["data"]["resultType"], "vector");
    assert_eq!(json["data"]["result"][0]["value"][1], "2");
    assert_eq!(json["data"]["result"].as_array().unwrap().len(), 1);
    let key = |key: &str| answer.text().find(key).unwrap();
    assert!(key("resultType") < key("encodingFlags") && key("encodingFlags") < key("\"result\""));
    assert_eq!(harness.tenants(), 0);
}

#[tokio::test]
async fn lines() {
    let (harness, first) = filled();
    let (a, b) = (first, first + 1_000_000_000);
    let end = first + 10_000_000_000;
    let range = format!("start={first}&end={end}");
    let prefix = r#"{"status":"success","data":{"resultType":"streams","#;
    let path =
        format!("query_range?query={{app=%22api%22}}&{range}&direction=backward&step=1000ms");
    let merged = format!(
        "{prefix}\"result\":[{{\"stream\":{{\"app\":\"api\",\"env\":\"x\"}},\"values\":[[\"{a}\",\"level=info a\"]]}},\
         {{\"stream\":{{\"app\":\"api\",\"env\":\"x\",\"trace_id\":\"7\"}},\"values\":[[\"{b}\",\"level=warn b\"]]}}]"
    );
    let answer = ask(&harness, &path, None).await;
    assert_eq!((answer.status, head(&answer)), (200, merged.as_str()));
    let categorized = format!(
        "{prefix}\"encodingFlags\":[\"categorize-labels\"],\"result\":[{{\"stream\":{{\"app\":\"api\",\"env\":\"x\"}},\"values\":[\
         [\"{b}\",\"level=warn b\",{{\"structuredMetadata\":{{\"trace_id\":\"7\"}}}}],[\"{a}\",\"level=info a\",{{}}]]}}]"
    );
    let answer = ask(&harness, &path, Some("a, categorize-labels")).await;
    assert_eq!((answer.status, head(&answer)), (200, categorized.as_str()));
    let parsed = format!(
        "{prefix}\"encodingFlags\":[\"categorize-labels\"],\"result\":[{{\"stream\":{{\"app\":\"api\",\"env\":\"x\"}},\"values\":[\
         [\"{a}\",\"level=info a\",{{\"parsed\":{{\"level\":\"info\"}}}}]]}}]"
    );
    let query = "{app=%22api%22}|%3D%22a%22|logfmt|level=%22info%22";
    let path = format!("query_range?query={query}&{range}&limit=1&direction=forward");
    let answer = ask(&harness, &path, Some("categorize-labels")).await;
    assert_eq!((answer.status, head(&answer)), (200, parsed.as_str()));
    let none = format!("{prefix}\"result\":[]");
    let path = format!("query_range?query={{app=%22no%22}}&{range}");
    assert_eq!(head(&ask(&harness, &path, None).await), none);
}

#[tokio::test]
async fn numbers() {
    let (harness, first) = filled();
    let time = first + 60_000_000_000;
    let seconds = time / 1_000_000_000;
    let form = format!("query=sum by (app) (count_over_time({{env=\"x\"}}[5m]))&time={time}");
    let answer = harness.post("/loki/api/v1/query", &form).await;
    let expect = format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"app":"api"}},"value":[{seconds},"2"]}}]"#
    );
    assert_eq!((answer.status, head(&answer)), (200, expect.as_str()));
    let form =
        format!("query=sum(count_over_time({{env=\"x\"}}[5m]))&start={time}&end={time}&step=60");
    let answer = harness.post("/loki/api/v1/query_range", &form).await;
    let expect = format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[[{seconds},"2"]]}}]"#
    );
    assert_eq!((answer.status, head(&answer)), (200, expect.as_str()));
}

#[tokio::test]
async fn names_series_and_volumes() {
    let (harness, first) = filled();
    let end = first + 10_000_000_000;
    let seconds = end / 1_000_000_000;
    for (path, expect) in [
        ("labels?", r#"{"status":"success","data":["app","env"]}"#),
        (
            "label?query={app=%22db%22}&",
            r#"{"status":"success","data":["app"]}"#,
        ),
        (
            "label/app/values?",
            r#"{"status":"success","data":["api","db"]}"#,
        ),
        (
            "label/app/values?query={env=%22x%22}&",
            r#"{"status":"success","data":["api"]}"#,
        ),
        ("label/__stream_shard__/values?", EMPTY),
        (
            "series?match[]={app=%22db%22}&match={env=%22x%22}&",
            r#"{"status":"success","data":[{"app":"api","env":"x"},{"app":"db"}]}"#,
        ),
        (
            "series?match={}&",
            r#"{"status":"success","data":[{"app":"api","env":"x"},{"app":"db"}]}"#,
        ),
        (
            "index/stats?query={app=%22api%22}&",
            r#"{"streams":1,"chunks":1,"bytes":24,"entries":2}"#,
        ),
        (
            "format_query?query={app=%22api%22}|=%22a%22&",
            r#"{"status":"success","data":"{app=\"api\"} |= \"a\""}"#,
        ),
    ] {
        let answer = ask(&harness, &format!("{path}start={first}&end={end}"), None).await;
        assert_eq!(answer.told(), (200, expect), "{path}");
    }
    let vector = r#"{"status":"success","data":{"resultType":"vector","result":"#;
    for (path, expect) in [
        (
            "query={app=~%22.%2B%22}",
            format!(
                r#"[{{"metric":{{"app":"api"}},"value":[{seconds},"24"]}},{{"metric":{{"app":"db"}},"value":[{seconds},"1"]}}]"#
            ),
        ),
        (
            "query={app=~%22.%2B%22}&limit=1&aggregateBy=labels",
            format!(r#"[{{"metric":{{"app":""}},"value":[{seconds},"25"]}}]"#),
        ),
        (
            "query={}&targetLabels=env",
            format!(r#"[{{"metric":{{"env":"x"}},"value":[{seconds},"24"]}}]"#),
        ),
    ] {
        let path = format!("index/volume?{path}&start={first}&end={end}");
        let answer = ask(&harness, &path, None).await;
        assert_eq!(head(&answer), format!("{vector}{expect}"), "{path}");
    }
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let (harness, _) = filled();
    for (path, text) in [
        (
            "query_range?query={app=%22a%22}&limit=0",
            "limit must be a positive value",
        ),
        (
            "query_range?query={app=%22a%22}&limit=5001",
            "max entries limit per query exceeded, limit > max_entries_limit_per_query (5001 > 5000)",
        ),
        (
            "query_range?query={app=%22a%22}&direction=up",
            "invalid direction 'up'",
        ),
        (
            "query?query={app=%22a%22}",
            "log queries are not supported as an instant query type, please change your query to a range query type",
        ),
        (
            "labels?start=2&end=1",
            "end timestamp must not be before or equal to start time",
        ),
        (
            "index/volume?query={app=%22a%22}&aggregateBy=x",
            "invalid aggregation option",
        ),
    ] {
        let answer = ask(&harness, path, None).await;
        assert_eq!(answer.told(), (400, text), "{path}");
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    }
    let at_most = "query_range?query={app=%22a%22}&limit=5000";
    assert_eq!(ask(&harness, at_most, None).await.status, 200);
    for path in [
        "query_range?query={app=",
        "query?query=sum(",
        "series?match=x",
        "labels?query=x",
    ] {
        let answer = ask(&harness, path, None).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().starts_with("parse error"), "{answer:?}");
    }
    let answer = ask(&harness, "format_query?query={", None).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .text()
            .starts_with(r#"{"status":"invalid-query","error":"parse error"#)
    );
}

#[tokio::test]
async fn a_tenant_that_does_not_exist_is_empty_and_stays_so() {
    let harness = Harness::new(mount, |_| {});
    for path in ["labels", "label/app/values", "series"] {
        assert_eq!(
            ask(&harness, path, None).await.told(),
            (200, EMPTY),
            "{path}"
        );
    }
    let answer = ask(&harness, "query_range?query={app=%22a%22}", None).await;
    let expect = r#"{"status":"success","data":{"resultType":"streams","result":[]"#;
    assert_eq!(head(&answer), expect);
    let stats = ask(&harness, "index/stats?query={app=%22a%22}", None).await;
    assert_eq!(
        stats.text(),
        r#"{"streams":0,"chunks":0,"bytes":0,"entries":0}"#
    );
    assert_eq!(harness.tenants(), 0);
}
