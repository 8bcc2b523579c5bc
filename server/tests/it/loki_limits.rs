//! Limits that a request brings itself, tenants that are kept out, and the small pages.

use serde_json::json;

use crate::harness::Running;
use crate::loki_traps::{ask, filled};
use crate::wire::{now_ms, push_request, snappy};

#[test]
fn a_request_may_bring_tighter_limits() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    let get = |name: &str, query: &str, headers: &[(&str, &str)]| {
        let answer = ask(&running, name, &[("query", query)], headers);
        (answer.status, answer.text().to_owned())
    };
    let limits = |text| [("X-Loki-Query-Limits", text)];
    let (log, rate) = ("{app=\"a\"}", "rate({app=\"a\"}[2h])");
    for (query, header, told) in [
        (
            log,
            r#"{"maxEntriesLimitPerQuery": 99}"#,
            "max entries limit per query exceeded, limit > max_entries_limit_per_query (100 > 99)",
        ),
        (
            log,
            r#"{"maxQueryLength": "5m"}"#,
            "the query time range exceeds the limit (query length: 10m0s, limit: 5m)",
        ),
        (
            rate,
            r#"{"maxQueryInterval": "1h"}"#,
            "[interval] value exceeds limit: [2h] > [1h]",
        ),
        (
            log,
            r#"{"requiredLabels": ["env"]}"#,
            "stream selector is missing required matchers [env], labels present in the query were [app]",
        ),
        (
            log,
            r#"{"maxQueryBytesRead": "1B"}"#,
            "the query would read too many bytes (query: 28 B, limit: 1 B); consider adding more specific stream selectors or reduce the time range of the query",
        ),
    ] {
        let answer = get("query_range", query, &limits(header));
        assert_eq!(answer, (400, told.to_owned()), "{header}");
    }
    // They widen nothing, and what cannot be read is none.
    for header in [
        r#"{"maxEntriesLimitPerQuery": 100, "maxQueryInterval": "2h"}"#,
        r#"{"maxQueryTime": "1h"}"#,
        "{broken",
    ] {
        let (status, text) = get("query_range", rate, &limits(header));
        assert_eq!(status, 200, "{header}: {text}");
    }

    // A part of a query is refused when the whole reads too much.
    let now = now_ms();
    let whole = json!({"expr": "{env=~\".+\"}", "from": now - 600_000, "to": now}).to_string();
    let both = [
        ("X-Loki-Query-Limits", r#"{"maxQueryBytesRead": "50B"}"#),
        ("X-Loki-Query-Limits-Context", &whole),
    ];
    let (status, text) = get("query_range", log, &both);
    assert_eq!(status, 400);
    assert!(
        text.starts_with("the query would read too many bytes (query: 84 B"),
        "{text}"
    );
    assert_eq!(get("query_range", log, &both[..1]).0, 200);
    running.stop();
}

#[test]
fn a_tenant_that_is_kept_out_hears_it_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |config| {
        for (tenant, status) in [("told", 260), ("untold", 200), ("later", 503)] {
            let mut own = config.clone();
            own.logs.blocked_until_ns = Some(4_000_000_000_000_000_000);
            own.logs.blocked_status = status;
            config.overrides.insert(tenant.to_owned(), own);
        }
    });
    let body = snappy(&push_request("{app=\"a\"}", &[(now_ms(), "x")]));
    for (tenant, status) in [
        ("told", 260),
        ("untold", 204),
        ("later", 503),
        ("other", 204),
    ] {
        let push = running.post("/loki/api/v1/push").tenant(tenant);
        let answer = push.body("application/x-protobuf", body.clone()).send();
        let told = match status {
            204 => String::new(),
            _ => format!(
                "ingestion blocked for user '{tenant}' until '2096-10-02T07:06:40Z' with status code '{status}'\n"
            ),
        };
        assert_eq!((answer.status, answer.text()), (status, told.as_str()));
        let found = running.get("/loki/api/v1/labels").tenant(tenant).send();
        let is_there = found.text().contains("app");
        assert_eq!(is_there, tenant == "other", "{tenant}");
    }
    running.stop();
}

#[test]
fn pages_that_tell_little() {
    let dir = tempfile::tempdir().unwrap();
    let running = filled(dir.path());
    let shards = ask(
        &running,
        "index/shards",
        &[("query", "{env=\"x\"}"), ("targetBytesPerShard", "1KB")],
        &[],
    );
    let shards = shards.json();
    assert_eq!(
        shards["shards"],
        json!([{
            "bounds": {"min": 0, "max": u64::MAX},
            "stats": {"streams": 2, "chunks": 1, "bytes": 74, "entries": 4},
        }])
    );
    assert_eq!(shards["statistics"]["totalChunks"], 0);
    let number = running.get("/loki/api/v1/cache/generation_numbers").send();
    assert_eq!((number.status, number.text()), (200, "\"\""));
    let config = running.get("/config").send();
    assert_eq!(config.header("content-type"), Some("application/yaml"));
    assert!(
        config.text().contains("max-query-length: \"721h\"\n"),
        "{}",
        config.text()
    );
    // What curl sends when nobody tells it what the body is.
    let push = running.post("/loki/api/v1/push");
    let form = "application/x-www-form-urlencoded";
    let push = push.body(form, " {\"streams\":[]}").send();
    assert_eq!(push.status, 400);
    let hint = "; a body of JSON needs the header Content-Type: application/json\n";
    assert!(push.text().ends_with(hint), "{}", push.text());
    for path in ["/services", "/loki/services"] {
        let services = running.get(path).send();
        assert!(services.text().contains("querier => Running\n"));
    }
    running.stop();
}
