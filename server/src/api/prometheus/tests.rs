//! The handlers of Prometheus' API over a store with a few samples.

use axum::http::Request;
use trine_storage::Labels;
use trine_tsdb::{Durability, Value};

use super::mount;
use super::run::harness::Harness;
use crate::config::Config;

mod compat;
mod facts;

const EMPTY: &str = r#"{"status":"success","data":[]}"#;

/// `up` of two jobs and a name with a dot, at 0, 10, 20 seconds of 2023-11-14T22:13:20Z.
fn filled() -> Harness {
    filled_with(|_| {})
}

fn filled_with(change: impl FnOnce(&mut Config)) -> Harness {
    let harness = Harness::new(mount, change);
    let mut appender = harness.tenant().metrics().unwrap().appender();
    for (job, of) in [("api", 1.0), ("db", 0.5)] {
        let pairs = [("__name__", "up"), ("job", job), ("http.status", "200")];
        let labels = Labels::from_pairs(pairs).unwrap();
        for at in 0..3 {
            let value = Value::Float(of * f64::from(at));
            appender.append(&labels, 1_700_000_000_000 + i64::from(at) * 10_000, value);
        }
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    harness
}

#[tokio::test]
async fn queries() {
    let harness = filled();
    for (query, expect) in [
        (
            "query=1%2B1&time=4",
            r#"{"resultType":"scalar","result":[4,"2"]}"#,
        ),
        (
            "query=%22a%22&time=4",
            r#"{"resultType":"string","result":[4,"a"]}"#,
        ),
        (
            "query=sum(up)&time=1700000020.5",
            r#"{"resultType":"vector","result":[{"metric":{},"value":[1700000020.500,"3"]}]}"#,
        ),
        ("query=up&time=4", r#"{"resultType":"vector","result":[]}"#),
        (
            "query=up{job=%22db%22}&time=1700000010",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","http.status":"200","job":"db"},"value":[1700000010,"0.5"]}]}"#,
        ),
        (
            "query=up{job=%22db%22}[15s]&time=2023-11-14T22:13:40Z",
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","http.status":"200","job":"db"},"values":[[1700000010,"0.5"],[1700000020,"1"]]}]}"#,
        ),
        (
            "query=up{job=%22db%22}&time=1700000021&lookback_delta=500ms",
            r#"{"resultType":"vector","result":[]}"#,
        ),
    ] {
        let expect = format!(r#"{{"status":"success","data":{expect}}}"#);
        let path = format!("/api/v1/query?{query}");
        assert_eq!(
            harness.get(&path).await.told(),
            (200, expect.as_str()),
            "{query}"
        );
        let posted = harness.post("/api/v1/query", query).await;
        assert_eq!(posted.told(), (200, expect.as_str()), "{query}");
    }
}

#[tokio::test]
async fn a_post_may_have_parameters_in_both_places() {
    let harness = filled();
    let answer = harness
        .post("/api/v1/query?timeout=5s&x=y", "query=1&time=0")
        .await;
    let expect = r#"{"status":"success","data":{"resultType":"scalar","result":[0,"1"]}}"#;
    assert_eq!(answer.told(), (200, expect));
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[tokio::test]
async fn range_queries() {
    let harness = filled();
    for (query, expect) in [
        (
            "query=sum by (job) (up)&start=1700000000&end=1700000020&step=10",
            r#"{"resultType":"matrix","result":[{"metric":{"job":"api"},"values":[[1700000000,"0"],[1700000010,"1"],[1700000020,"2"]]},{"metric":{"job":"db"},"values":[[1700000000,"0"],[1700000010,"0.5"],[1700000020,"1"]]}]}"#,
        ),
        (
            "query=vector(1)&start=0&end=1&step=500ms",
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"],[0.500,"1"],[1,"1"]]}]}"#,
        ),
    ] {
        let expect = format!(r#"{{"status":"success","data":{expect}}}"#);
        let answer = harness.post("/api/v1/query_range", query).await;
        assert_eq!(answer.told(), (200, expect.as_str()), "{query}");
    }
    let query = "query=up&start=1700000000&end=1700000000&step=1&limit=1";
    let answer = harness.post("/api/v1/query_range", query).await;
    assert!(answer.text().contains(r#""job":"api""#) && !answer.text().contains("db"));
    assert!(
        answer
            .text()
            .ends_with(r#""warnings":["results truncated due to limit"]}"#)
    );
}

#[tokio::test]
async fn names_and_series() {
    let harness = filled();
    let cut = r#"["__name__"],"warnings":["results truncated due to limit"]"#;
    for (path, expect) in [
        ("labels", r#"["__name__","http.status","job"]"#),
        ("labels?limit=1", cut),
        ("labels?limit=3", r#"["__name__","http.status","job"]"#),
        ("labels?match[]=nothing", "[]"),
        ("label/job/values", r#"["api","db"]"#),
        (
            "label/job/values?match[]=up{job=%22db%22}&match[]=up{job=%22no%22}",
            r#"["db"]"#,
        ),
        ("label/U__http_2e_status/values?limit=0", r#"["200"]"#),
        (
            "label/__name__/values?start=1700000000&end=1700000020",
            r#"["up"]"#,
        ),
        ("label/__name__/values?end=4", "[]"),
        (
            "series?match[]=up{job=%22api%22}",
            r#"[{"__name__":"up","http.status":"200","job":"api"}]"#,
        ),
        ("metadata?limit=40000", "{}"),
        ("rules", r#"{"groups":[]}"#),
        ("alerts", r#"{"alerts":[]}"#),
        (
            "query_exemplars?query=test&start=1700000000000&end=1700000003600",
            "[]",
        ),
        (
            "format_query?query=sum(up)by(job)",
            r#""sum by (job) (up)""#,
        ),
    ] {
        let answer = harness.get(&format!("/api/v1/{path}")).await;
        let expect = format!(r#"{{"status":"success","data":{expect}}}"#);
        assert_eq!(answer.told(), (200, expect.as_str()), "{path}");
    }
    let posted = harness
        .post("/api/v1/series", "match[]=up{job=\"no\"}")
        .await;
    assert_eq!(posted.told(), (200, EMPTY));
    let build = harness.post("/api/v1/status/buildinfo", "").await;
    assert!(build.text().contains(r#""version":"3."#) && !build.text().contains("features"));
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let harness = filled();
    for (path, text) in [
        (
            "query?query=sum(",
            r#"invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"#,
        ),
        (
            "query",
            r#"invalid parameter \"query\": 1:1: parse error: no expression found in input"#,
        ),
        (
            "query?query=up&time=x",
            r#"invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp"#,
        ),
        (
            "query?query=up&timeout=x",
            r#"invalid parameter \"timeout\": cannot parse \"x\" to a valid duration"#,
        ),
        (
            "query_range?query=up[1m]&start=0&end=1&step=1",
            r#"invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"#,
        ),
        (
            "query_range?query=up&start=0&end=11001&step=1",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        ("series", "no match[] parameter provided"),
        (
            "series?match[]={}",
            r#"invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"#,
        ),
        (
            "label/job/values?match[]=up{",
            "1:4: parse error: unexpected end of input inside braces",
        ),
        (
            "query_exemplars?query=up{",
            "1:4: parse error: unexpected end of input inside braces",
        ),
        (
            "query?query=sum(&lookback_delta=x",
            r#"error parsing lookback delta duration: cannot parse \"x\" to a valid duration"#,
        ),
        (
            "query?query=sum(&lookback_delta=x&timeout=x",
            r#"invalid parameter \"timeout\": cannot parse \"x\" to a valid duration"#,
        ),
        (
            "query_range?query=sum(&start=0&end=1&step=1&limit=x",
            r#"invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"#,
        ),
        ("status/tsdb?limit=0", "limit must be a positive number"),
        ("status/tsdb?limit=10001", "limit must not exceed 10000"),
        (
            "targets/metadata?match_target=up{",
            r#"invalid parameter \"match_target\": 1:4: parse error: unexpected end of input inside braces"#,
        ),
        (
            "series?match[]=up&limit=-1",
            r#"invalid parameter \"limit\": limit must be non-negative"#,
        ),
        (
            "labels?match[]={a=%22%22}",
            "match[] must contain at least one non-empty matcher",
        ),
    ] {
        let answer = harness.get(&format!("/api/v1/{path}")).await;
        let expect = format!(r#"{{"status":"error","errorType":"bad_data","error":"{text}"}}"#);
        assert_eq!(answer.told(), (400, expect.as_str()), "{path}");
    }
}

#[tokio::test]
async fn parts_of_the_language_are_settings() {
    let harness = Harness::new(mount, |config| config.promql.experimental_functions = false);
    let answer = harness
        .get("/api/v1/query?query=mad_over_time(up[1m])")
        .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("is not enabled"),
        "{}",
        answer.text()
    );
    let features = harness.get("/api/v1/features").await;
    for expect in [
        r#""mad_over_time":false"#,
        r#""limitk":false"#,
        r#""rate":true"#,
    ] {
        assert!(
            features.text().contains(expect),
            "{expect}: {}",
            features.text()
        );
    }
    let form = "query=label_replace(abs(up),\"x\",\"$1\",\"__name__\",\"(.%2B)\")&time=1700000020";
    for delayed in [false, true] {
        let harness = filled_with(|config| config.promql.delayed_name_removal = delayed);
        let answer = harness.post("/api/v1/query", form).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sees_name = answer.text().contains(r#""x":"up""#);
        assert_eq!(sees_name, delayed, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_query_has_limits() {
    let harness = Harness::new(mount, |config| config.query_samples_max = 2);
    let mut appender = harness.tenant().metrics().unwrap().appender();
    let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
    for at in 0..3 {
        appender.append(&labels, 1000 + at, Value::Float(1.0));
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    let answer = harness.get("/api/v1/query?query=up[1m]&time=2").await;
    let expect = r#"{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory in query execution"}"#;
    assert_eq!(answer.told(), (422, expect));
    let answer = harness
        .get("/api/v1/query?query=up[1m]&time=2&timeout=0")
        .await;
    assert_eq!(answer.status, 503);
    assert!(
        answer
            .text()
            .contains(r#""errorType":"timeout","error":"query timed out"#)
    );
}

#[tokio::test]
async fn a_tenant_that_does_not_exist_is_empty_and_stays_so() {
    let harness = Harness::new(mount, |_| {});
    let ask = |path: &str| {
        let request = Request::get(format!("/api/v1/{path}")).header("X-Scope-OrgID", "nobody");
        harness.send(request.body(axum::body::Body::empty()).unwrap())
    };
    let vector = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    assert_eq!(ask("query?query=up").await.told(), (200, vector));
    let one = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[4,"1"]}]}}"#;
    assert_eq!(ask("query?query=vector(1)&time=4").await.told(), (200, one));
    for path in ["labels", "label/job/values", "series?match[]=up"] {
        assert_eq!(ask(path).await.told(), (200, EMPTY), "{path}");
    }
    assert_eq!(harness.tenants(), 0);
    let request = Request::get("/api/v1/labels").header("X-Scope-OrgID", "../../x");
    let answer = harness
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .text()
            .starts_with(r#"{"status":"error","errorType":"bad_data","#)
    );
}
