//! What Grafana asks, call by call, and decodes without mercy (`strict`).

use super::shop::{START_NS, START_S, push, shop, six, span, tenant};
use super::strict::{self, decode, shown};
use super::{ask, ask_as};
use crate::api::prometheus::run::harness::Harness;

const JSON: &str = "application/json";

/// A path with a query and the range of the shop.
fn path(of: &str, query: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
    let (start, end) = (START_S - 60, START_S + 60);
    format!("{of}?q={query}&start={start}&end={end}")
}

async fn search(harness: &Harness, query: &str, more: &str) -> strict::SearchResponse {
    let path = path("search", query) + more;
    let answer = ask(harness, &path, JSON).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    decode(answer.text())
}

#[tokio::test]
async fn searches() {
    let harness = shop(|_| {});
    let found = search(&harness, "{}", "&limit=20&spss=3").await;
    let ids: Vec<&str> = found
        .traces
        .iter()
        .map(|t| t.trace_id.trim_start_matches('0'))
        .collect();
    assert_eq!(ids, ["9", "8", "7", "6", "5", "4", "3", "2", "1"]);
    assert_eq!(found.metrics.completed_jobs, found.metrics.total_jobs);
    let shop_trace = found.traces.last().unwrap();
    assert_eq!(shop_trace.trace_id.len(), 32);
    assert_eq!(shop_trace.root_service_name, "shop");
    assert_eq!(shop_trace.root_trace_name, "A");
    assert_eq!(
        shop_trace.start_time_unix_nano,
        (START_NS + 1_000_000).to_string()
    );
    assert_eq!(shop_trace.duration_ms, 10);
    let set = &shop_trace.span_sets[0];
    assert_eq!((set.matched, set.spans.len()), (6, 3));
    assert_eq!(shop_trace.span_set.as_ref().unwrap().matched, 6);
    assert_eq!(set.spans[0].span_id, "0000000000000001");
    assert_eq!(set.spans[0].duration_nanos, "5000000");
    // Of the whole trace, whatever the query looks for.
    for query in ["{}", "{name = \"C\"}"] {
        let found = search(&harness, query, "").await;
        let stats = found.traces.last().unwrap().service_stats.iter();
        let mut stats: Vec<_> = stats
            .map(|(service, told)| (&**service, told.span_count, told.error_count))
            .collect();
        stats.sort_unstable();
        assert_eq!(stats, [("shop", 6, 1)], "{query}");
    }

    // The default limit, and fewer traces than there are.
    assert_eq!(search(&harness, "{}", "&limit=2").await.traces.len(), 2);
    let one = search(
        &harness,
        "{status = error && resource.service.name = \"shop\"}",
        "",
    )
    .await;
    assert_eq!(one.traces.len(), 1);
    let failed = &one.traces[0].span_sets[0].spans[0];
    assert_eq!(failed.name, "C");
    let told = shown(&failed.attributes);
    assert!(
        told.contains("status=error") && told.contains("service.name=shop"),
        "{told}"
    );
    assert!(
        search(&harness, "{name = \"nobody\"}", "")
            .await
            .traces
            .is_empty()
    );
}

#[tokio::test]
async fn a_search_that_uses_too_much_says_so() {
    let harness = shop(|config| config.query_samples_max = 1);
    let answer = ask(&harness, &path("search", "{}"), JSON).await;
    assert_eq!(answer.status, 200);
    let found: strict::SearchResponse = decode(answer.text());
    let jobs = (found.metrics.completed_jobs, found.metrics.total_jobs);
    assert_eq!(jobs, (0, 1));
    let warning = answer.headers["warning"].to_str().unwrap();
    assert_eq!(
        warning,
        "299 trine \"query processing would load too many samples into memory in query execution\""
    );
    let whole = ask(&shop(|_| {}), &path("search", "{}"), JSON).await;
    assert!(!whole.headers.contains_key("warning"));
}

#[tokio::test]
async fn what_traces_drilldown_asks() {
    let harness = shop(|_| {});
    let signals = ["nestedSetParent<0", "true", "kind=server", "kind=consumer"];
    for signal in signals {
        for (query, more) in [
            (
                format!("{{{signal} && duration > 1ms}} | select(status, name)"),
                "&limit=200&spss=10",
            ),
            (
                format!(
                    "{{{signal} && status = error}} | select(resource.service.name, \
                     event.exception.message,event.exception.stacktrace,event.exception.type) \
                     with(most_recent=true)"
                ),
                "&limit=400&spss=10",
            ),
            (
                format!(
                    "({{{signal}}} &>> {{kind = server}}) || ({{{signal}}}) | select(status, \
                     resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)"
                ),
                "&limit=200&spss=20",
            ),
        ] {
            search(&harness, &query, more).await;
        }
        for (function, more) in [
            ("rate()", "&step=15s"),
            (
                "rate() by(resource.service.name) with(sample=true)",
                "&step=15s",
            ),
            (
                "histogram_over_time(duration) with(sample=true)",
                "&step=15s",
            ),
            ("quantile_over_time(duration, 0.9) by(name)", "&step=15s"),
            ("compare({status = error}, 10)", "&step=120s"),
            (
                "compare({duration >= 1ms && duration <= 9ms}, 10, 1699999900000000000, \
                 1700000100000000000)",
                "&step=120s",
            ),
        ] {
            let query = format!("{{{signal} && resource.service.name != nil}} | {function}");
            let path = path("metrics/query_range", &query) + more;
            let answer = ask(&harness, &path, JSON).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            decode::<strict::RangeResponse>(answer.text());
        }
    }
    let query = "({true} &>> {kind = server}) || ({true}) | select(status, \
                 resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)";
    let found = search(&harness, query, "&limit=200&spss=20").await;
    let spans = found.traces.iter().flat_map(|trace| &trace.span_sets);
    for span in spans.flat_map(|set| &set.spans) {
        for name in ["nestedSetParent", "nestedSetLeft", "nestedSetRight"] {
            let held = span.attributes.iter().find(|pair| pair.key == name);
            let is_int = held.is_some_and(|pair| pair.value.int_value.is_some());
            assert!(is_int, "{name}: {span:?}");
        }
    }
    let query = "{nestedSetParent<0} | rate()";
    let answer = ask(&harness, &path("metrics/query_range", query), JSON).await;
    assert!(!answer.text().contains("localblocks processor not found"));
    let found: strict::RangeResponse = decode(answer.text());
    assert_eq!(found.series.len(), 1);
}

#[tokio::test]
async fn series_over_time() {
    let harness = shop(|_| {});
    let query = "{} | count_over_time() by (resource.service.name)";
    let answer = ask(
        &harness,
        &(path("metrics/query_range", query) + "&step=10"),
        JSON,
    )
    .await;
    let found: strict::RangeResponse = decode(answer.text());
    let told: Vec<(String, f64)> = found
        .series
        .iter()
        .map(|series| {
            let sum = series.samples.iter().map(|sample| sample.value).sum();
            (shown(&series.labels), sum)
        })
        .collect();
    let expect = [
        ("resource.service.name=cart", 8.0),
        ("resource.service.name=shop", 6.0),
    ];
    assert_eq!(told, expect.map(|(labels, sum)| (labels.to_owned(), sum)));
    for series in &found.series {
        for sample in &series.samples {
            assert!(sample.timestamp_ms.parse::<i64>().unwrap() % 10_000 == 0);
        }
        for exemplar in &series.exemplars {
            assert!(exemplar.timestamp_ms.parse::<i64>().is_ok());
            assert!(
                shown(&exemplar.labels).contains("trace:id="),
                "{exemplar:?}"
            );
        }
    }
    assert_eq!((found.status.as_str(), found.message.as_str()), ("", ""));

    let answer = ask(&harness, &path("metrics/query", query), JSON).await;
    let found: strict::InstantResponse = decode(answer.text());
    let told: Vec<(String, f64)> = found
        .series
        .iter()
        .map(|series| (shown(&series.labels), series.value))
        .collect();
    assert_eq!(told, expect.map(|(labels, sum)| (labels.to_owned(), sum)));

    // A search is no metrics query, and the other way round.
    for wrong in [path("metrics/query", "{}"), path("search", "{} | rate()")] {
        assert_eq!(ask(&harness, &wrong, JSON).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn more_series_than_there_may_be() {
    let query = "{} | count_over_time() by (name, resource.service.name)";
    for (max, asked, is_partial) in [
        (7, "", false),
        (6, "", true),
        (0, "", false),
        (0, "2", true),
    ] {
        let harness = shop(|config| config.traces.response_series_max = max);
        let path = path("metrics/query_range", query) + "&step=10&maxSeries=" + asked;
        let answer = ask(&harness, &path, JSON).await;
        let found: strict::RangeResponse = decode(answer.text());
        assert_eq!(found.status == "PARTIAL", is_partial, "{max} {asked}");
        let limit = if asked.is_empty() { max } else { 2 };
        if is_partial {
            assert_eq!(found.series.len(), limit);
            assert_eq!(
                found.message,
                format!(
                    "Response exceeds maximum series limit of {limit}, a partial response is \
                     returned. Warning: the accuracy of each individual value is not guaranteed."
                )
            );
        } else {
            assert_eq!((found.series.len(), found.message.as_str()), (7, ""));
        }
    }
}

#[tokio::test]
async fn names_and_values_for_autocompletion() {
    let harness = shop(|_| {});
    let range = format!("start={}&end={}", START_S - 60, START_S + 60);
    for (path, expect) in [
        (
            format!("v2/search/tags?limit=5000&scope=span&{range}"),
            r#"{"scopes":[{"name":"span","tags":["http.status_code"]}],"metrics":{}}"#,
        ),
        (
            "v2/search/tags?limit=5000&scope=event".to_owned(),
            r#"{"scopes":[{"name":"event","tags":["exception.message"]}],"metrics":{}}"#,
        ),
        // Names that spans have which satisfy a query.
        (
            "v2/search/tags?scope=span&q={resource.service.name=%22cart%22}".to_owned(),
            r#"{"scopes":[],"metrics":{}}"#,
        ),
        (
            "v2/search/tags?scope=span&q={resource.service.name=%22shop%22}".to_owned(),
            r#"{"scopes":[{"name":"span","tags":["http.status_code"]}],"metrics":{}}"#,
        ),
        (
            format!("v2/search/tag/resource.service.name/values?limit=5000&tag=x&{range}"),
            r#"{"tagValues":[{"type":"string","value":"cart"},{"type":"string","value":"shop"}],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/span.http.status_code/values".to_owned(),
            r#"{"tagValues":[{"type":"int","value":"200"},{"type":"int","value":"500"}],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/span.http.status_code/values?limit=1".to_owned(),
            r#"{"tagValues":[{"type":"int","value":"200"}],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/name/values?q={span.http.status_code=500}".to_owned(),
            r#"{"tagValues":[{"type":"string","value":"C"}],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/rootName/values".to_owned(),
            r#"{"tagValues":[{"type":"string","value":"A"},{"type":"string","value":"GET /cart"}],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/trace:rootService/values?q={kind=client}".to_owned(),
            r#"{"tagValues":[{"type":"string","value":"cart"}],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/event:name/values".to_owned(),
            r#"{"tagValues":[{"type":"string","value":"exception"}],"metrics":{}}"#,
        ),
        (
            "v2/search/tag/event.exception.message/values".to_owned(),
            r#"{"tagValues":[{"type":"string","value":"boom"}],"metrics":{}}"#,
        ),
        (
            "search/tag/name/values?limit=2".to_owned(),
            r#"{"tagValues":["A","B"],"metrics":{}}"#,
        ),
        (
            "search/tags".to_owned(),
            r#"{"tagNames":["exception.message","http.status_code","service.name"],"metrics":{}}"#,
        ),
        (
            "search/tags?scope=resource".to_owned(),
            r#"{"tagNames":["service.name"],"metrics":{}}"#,
        ),
        (
            "search/tags?scope=intrinsic&limit=1".to_owned(),
            r#"{"tagNames":["duration"],"metrics":{}}"#,
        ),
    ] {
        let answer = ask(&harness, &path, JSON).await;
        assert_eq!(answer.told(), (200, expect), "{path}");
    }
}

#[tokio::test]
async fn filters_of_lists_are_lenient() {
    let harness = shop(|config| config.traces.condition_groups_max = 2);
    let both = r#"{"tagValues":["cart","shop"],"metrics":{}}"#;
    let shop = r#"{"tagValues":["shop"],"metrics":{}}"#;
    let of_path = |query: &str| path("search/tag/service.name/values", query);
    for (query, expect) in [
        ("", both),
        ("{", both),
        ("no query", both),
        ("{ span.http.status_code = 500 && name =", shop),
        ("{ span.http.status_code = 500 && resource.", shop),
        ("{ span.http.status_code = 500 } | rate()", shop),
        ("{ span.http.status_code = 500 } >> { }", both),
        ("{ .http.status_code = 500 }", both),
        ("{ span.http.status_code = 500 || name = \"D\" }", shop),
    ] {
        let answer = ask(&harness, &of_path(query), JSON).await;
        assert_eq!(answer.told(), (200, expect), "{query}");
    }
    let three = "{ name = \"A\" || name = \"B\" || name = \"C\" }";
    let why = "maximum condition groups reached (limit: 2). Reduce the number of OR conditions in \
               the query";
    let answer = ask(&harness, &of_path(three), JSON).await;
    assert_eq!(answer.told(), (400, why));
}

#[tokio::test]
async fn lists_have_sizes() {
    for (max, expect) in [
        (12, r#"["A","B","C","D","E","F"]"#),
        (5, r#"["A","B","C","D","E"]"#),
        (0, r#"["A","B","C","D","E","F","GET /cart"]"#),
        (15, r#"["A","B","C","D","E","F","GET /cart"]"#),
        (14, r#"["A","B","C","D","E","F"]"#),
    ] {
        let harness = shop(|config| config.traces.tag_values_bytes_max = max);
        let answer = ask(&harness, "search/tag/name/values", JSON).await;
        let expect = format!("{{\"tagValues\":{expect},\"metrics\":{{}}}}");
        assert_eq!(answer.told(), (200, expect.as_str()), "{max}");
    }
    for (max, expect) in [
        (44, r#"["exception.message","http.status_code"]"#),
        (
            45,
            r#"["exception.message","http.status_code","service.name"]"#,
        ),
    ] {
        let harness = shop(|config| config.traces.tags_bytes_max = max);
        let answer = ask(&harness, "search/tags", JSON).await;
        let expect = format!("{{\"tagNames\":{expect},\"metrics\":{{}}}}");
        assert_eq!(answer.told(), (200, expect.as_str()), "{max}");
    }
}

#[tokio::test]
async fn several_tenants_are_one() {
    let harness = shop(|_| {});
    let (a, b) = (tenant(&harness, "a"), tenant(&harness, "b"));
    push(&a, "shop", six().into_iter().take(3));
    push(&b, "bank", six().into_iter().skip(3));
    push(&b, "bank", [span((7, 9, 0), "pay")]);
    let all = path("search", "{}") + "&spss=0";
    let answer = ask_as(&harness, "a|b", &all, JSON).await;
    let found: strict::SearchResponse = decode(answer.text());
    let told: Vec<(&str, u32, u32)> = found
        .traces
        .iter()
        .map(|trace| {
            let set = &trace.span_sets[0];
            (
                trace.root_trace_name.as_str(),
                trace.duration_ms,
                set.matched,
            )
        })
        .collect();
    assert_eq!(told, [("pay", 5, 1), ("A", 10, 6)]);
    let one = path("search", "{}") + "&limit=1";
    let answer = ask_as(&harness, "a|b", &one, JSON).await;
    let found: strict::SearchResponse = decode(answer.text());
    assert_eq!(found.traces[0].root_trace_name, "pay");

    let answer = ask_as(&harness, "a|b", "search/tag/service.name/values", JSON).await;
    assert_eq!(
        answer.told(),
        (200, r#"{"tagValues":["bank","shop"],"metrics":{}}"#)
    );
    let query = path(
        "metrics/query",
        "{} | count_over_time() by (resource.service.name)",
    );
    let answer = ask_as(&harness, "a|b", &query, JSON).await;
    let found: strict::InstantResponse = decode(answer.text());
    let told: Vec<(String, f64)> = found
        .series
        .iter()
        .map(|series| (shown(&series.labels), series.value))
        .collect();
    let expect = [
        ("resource.service.name=bank", 4.0),
        ("resource.service.name=shop", 3.0),
    ];
    assert_eq!(told, expect.map(|(labels, sum)| (labels.to_owned(), sum)));
    let answer = ask_as(&harness, "a|x/y", &one, JSON).await;
    assert_eq!(answer.status, 400);
}
