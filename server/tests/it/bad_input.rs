//! The ugliest input against the real binary: it is refused, takes no memory, leaves nothing.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::client::request;
use crate::process::Process;
use crate::query::path;
use crate::wire::{now_ms, push_request, snappy};

/// Two gibibytes of zeros in about two megabytes.
fn bomb() -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..2048 {
        gzip.write_all(&zeros).unwrap();
    }
    gzip.finish().unwrap()
}

#[test]
fn a_body_that_unpacks_to_gigabytes_is_refused_and_takes_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let bomb = bomb();
    for (to, kind, status) in [
        ("/v1/traces", "application/x-protobuf", 413),
        ("/v1/logs", "application/json", 413),
        ("/loki/api/v1/push", "application/x-protobuf", 413),
        // Fluent Bit repeats a 413 for ever.
        ("/loki/api/v1/push", "application/json", 400),
    ] {
        let answer = request(process.address, "POST", to)
            .header("Content-Encoding", "gzip")
            .body(kind, bomb.clone())
            .send();
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{to} {kind}: {said}");
        assert!(
            said.contains("request body too large"),
            "{to} {kind}: {said}"
        );
    }
    // A snappy block that claims four gigabytes.
    let claim = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 20]].concat();
    let answer = request(process.address, "POST", "/api/v1/write")
        .body("application/x-protobuf", claim)
        .send();
    assert_eq!(answer.status, 400);
    let held = process.anonymous_kb();
    assert!(held < 200_000, "{held} kB after the bombs");
    assert_eq!(process.get("/ready").send().status, 200);
}

#[test]
fn tenants_that_would_be_paths_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let long = "a".repeat(151);
    let body = r#"{"streams":[{"stream":{"a":"b"},"values":[]}]}"#;
    for tenant in ["../../x", ".", "..", "a/b", "a\\b", "a b", &long] {
        let push = request(process.address, "POST", "/loki/api/v1/push").tenant(tenant);
        assert_eq!(
            push.body("application/json", body).send().status,
            400,
            "{tenant}"
        );
        let ask = process.get("/api/v1/labels").tenant(tenant).send();
        assert_eq!(ask.status, 400, "{tenant}");
    }
    assert_eq!(
        process
            .get("/api/v1/labels")
            .tenant(&long[..150])
            .send()
            .status,
        200
    );
}

#[test]
fn queries_that_make_no_sense_or_never_end_are_refused_in_the_words_of_each_language() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let chain = |part: &str, by: &str| vec![part; 3_000].join(by);
    let promql = chain("a", "+");
    let logql = chain("vector(1)", "+");
    let traceql = format!("{{ {} }}", chain(".a", " + "));
    for (api, name, query, says) in [
        ("/api/v1/query", "query", "rate(", "1:6: parse error: "),
        (
            "/api/v1/query",
            "query",
            promql.as_str(),
            "nested more than 200 levels deep",
        ),
        ("/loki/api/v1/query_range", "query", "{", "parse error"),
        (
            "/loki/api/v1/query_range",
            "query",
            logql.as_str(),
            "more than 256 binary operators",
        ),
        (
            "/api/search",
            "q",
            "{ .a = }",
            "invalid TraceQL query: parse error at line 1, col 8",
        ),
        (
            "/api/search",
            "q",
            traceql.as_str(),
            "more than 500 operators deep",
        ),
    ] {
        let answer = process.get(&path(api, &[(name, query)])).send();
        let said = answer.text();
        assert_eq!(answer.status, 400, "{api}: {said}");
        assert!(said.contains(says), "{api}: {said}");
    }
    assert_eq!(process.get("/ready").send().status, 200);
}

#[test]
fn queries_of_logs_that_would_burst_are_refused_or_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let body = snappy(&push_request("{app=\"a\"}", &[(now_ms(), "k=1")]));
    let push = request(process.address, "POST", "/loki/api/v1/push");
    let push = push.body("application/x-protobuf", body).send();
    assert_eq!(push.status, 204);
    let ask = |name: &str, params: &[(&str, &str)]| {
        let form = path("", params).replacen('?', "", 1);
        let post = request(process.address, "POST", name);
        post.body("application/x-www-form-urlencoded", form).send()
    };
    let long = format!("{{app=\"{}\"}}", "x".repeat(1 << 20));
    let deep = format!("{}vector(1){}", "(".repeat(5000), ")".repeat(5000));
    for (query, says) in [
        (
            long.as_str(),
            "parse error : input size too long (1048584 > 131072)",
        ),
        (&deep, "nests deeper than"),
        (
            r#"{app=~"((a{1000}){1000}){1000}"}"#,
            "invalid repeat count: `{1000}`",
        ),
        (
            r#"{app="a"} |~ "(a{500}){500}""#,
            "invalid repeat count: `{500}`",
        ),
    ] {
        let answer = ask("/loki/api/v1/query_range", &[("query", query)]);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains(says), "{}", answer.text());
    }
    let query = r#"{app="a"} | line_format `{{ repeat 1000000000 "x" }}`"#;
    let answer = ask("/loki/api/v1/query_range", &[("query", query)]);
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("TemplateFormatErr"),
        "{}",
        answer.text()
    );
    for (name, params, says) in [
        (
            "query_range",
            [("limit", "9223372036854775807"), ("step", "1")],
            "max entries limit",
        ),
        (
            "query_range",
            [("step", "1e-300"), ("limit", "1")],
            "zero or negative",
        ),
        (
            "query_range",
            [
                ("start", "-9223372036854775808"),
                ("end", "9223372036854775807"),
            ],
            "the query time range exceeds the limit",
        ),
        (
            "index/volume_range",
            [("start", "0"), ("step", "1ms")],
            "exceeded maximum resolution",
        ),
        (
            "detected_fields",
            [("line_limit", "99999999"), ("limit", "1")],
            "max entries limit",
        ),
    ] {
        let mut params = params.to_vec();
        params.push(("query", "{app=\"a\"}"));
        let answer = ask(&format!("/loki/api/v1/{name}"), &params);
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        assert!(answer.text().starts_with(says), "{name}: {}", answer.text());
    }
    let held = process.anonymous_kb();
    assert!(held < 200_000, "{held} kB after all that");
}
