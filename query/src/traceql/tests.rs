//! Queries over one small store: which spans match, what parses, what is refused.

#![expect(clippy::unwrap_used, reason = "a test that fails should say where")]

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::shared::Shared;
use trine_storage::sim::SimFs;
use trine_storage::{Error, TimeRange};
use trine_tracestore::{
    AnyValue, Config, Durability, Event, KeyValue, Resource, Scope as Instrumentation, Span,
    Status, TraceStore,
};

use super::source::{Batches, Request, Scope, Source, Value};
use super::*;
use crate::budget::{Cancel, Limits};

const SECOND: u64 = 1_000_000_000;

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value,
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, AnyValue::String(value.into()))
}

/// Two traces. Trace 1, service `shop`: root `GET /` (2 s, server, ok) with the children `auth`
/// (client, error, 500) and `pay` (service `bank`, 1.5 s), below which is `db`. Trace 2, later,
/// service `cart`: `orphan`, whose parent is not stored, with the child `leaf`.
fn store() -> TraceStore {
    let fs = SimFs::new();
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let builder = TraceStore::builder(Path::new("store"))
        .config(config)
        .fs(Arc::new(fs));
    let store = builder.shared(Shared::without_workers()).open().unwrap();
    let scope = Arc::new(Instrumentation {
        name: "lib".into(),
        ..Default::default()
    });
    let service = |name: &str| {
        let attributes = vec![text("service.name", name), text("region", "eu")];
        Arc::new(Resource {
            attributes,
            ..Resource::default()
        })
    };
    let span = |trace: u8, id: u8, parent: u8, name: &str, kind: i32, millis: u64| Span {
        trace_id: [trace; 16],
        span_id: [id; 8],
        parent_span_id: (parent != 0).then_some([parent; 8]),
        name: name.into(),
        kind,
        start_ns: (u64::from(trace) * 100 + u64::from(id)) * SECOND,
        end_ns: (u64::from(trace) * 100 + u64::from(id)) * SECOND + millis * 1_000_000,
        ..Span::default()
    };
    let mut root = span(1, 1, 0, "GET /", 2, 2_000);
    root.status = Some(Status {
        code: 1,
        message: String::new(),
    });
    root.attributes = vec![
        text("http.method", "GET"),
        pair("n", AnyValue::Int(5)),
        pair("ratio", AnyValue::Double(0.5)),
        pair("cached", AnyValue::Bool(true)),
        pair(
            "tags",
            AnyValue::Array(vec![
                AnyValue::String("x".into()),
                AnyValue::String("y".into()),
            ]),
        ),
        text("a b", "quoted"),
    ];
    let mut auth = span(1, 2, 1, "auth", 3, 100);
    auth.status = Some(Status {
        code: 2,
        message: "denied".into(),
    });
    auth.attributes = vec![
        pair("n", AnyValue::Int(7)),
        pair("http.status_code", AnyValue::Int(500)),
        pair("cached", AnyValue::Bool(false)),
        text("region", "us"),
    ];
    auth.events = vec![Event {
        name: "exception".into(),
        attributes: vec![text("exception.type", "Timeout")],
        ..Event::default()
    }];
    let pay = span(1, 3, 1, "pay", 1, 1_500);
    let mut db = span(1, 4, 3, "db", 3, 10);
    db.attributes = vec![pair("n", AnyValue::Double(2.5)), text("db.system", "redis")];
    let orphan = span(2, 1, 9, "orphan", 4, 300);
    let mut leaf = span(2, 2, 1, "leaf", 5, 200);
    leaf.attributes = vec![text("n", "5")];
    let mut appender = store.appender();
    for (name, span) in [
        ("shop", root),
        ("shop", auth),
        ("bank", pay),
        ("bank", db),
        ("cart", orphan),
        ("cart", leaf),
    ] {
        appender.append(&service(name), &scope, span);
    }
    appender.commit(Durability::Synced).unwrap().wait().unwrap();
    store
}

fn search(source: &dyn Source, query: &str) -> Result<SearchResult, String> {
    let query = parse(query).map_err(|e| e.to_string())?;
    let options = SearchOptions {
        limit: 100,
        spans_per_span_set: 0,
    };
    Engine::new(Limits::default())
        .search(source, &query, TimeRange::ALL, &options, &Cancel::new())
        .map_err(|e| e.to_string())
}

/// Names of the matching spans: traces apart by `|`, sets of one trace by `/`.
fn names(result: &SearchResult) -> String {
    let set = |set: &SpanSet| {
        assert_eq!(set.spans.len(), set.matched);
        set.spans
            .iter()
            .map(|span| span.name.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let trace = |trace: &TraceSummary| {
        trace
            .span_sets
            .iter()
            .map(set)
            .collect::<Vec<_>>()
            .join("/")
    };
    result
        .traces
        .iter()
        .map(trace)
        .collect::<Vec<_>>()
        .join("|")
}

/// A source that ignores the conditions.
struct Unfiltered<'a>(&'a dyn Source);

impl Source for Unfiltered<'_> {
    fn spans(&self, request: &Request) -> Result<Batches, Error> {
        let mut request = request.clone();
        if let Request::Rows(rows) = &mut request {
            // The columns of the conditions still have to come.
            let columns = rows
                .conditions
                .drain(..)
                .map(|condition| condition.attribute);
            rows.projection.extend(columns);
        }
        self.0.spans(&request)
    }
    fn attribute_names(&self, range: TimeRange) -> Result<Vec<(Scope, String)>, Error> {
        self.0.attribute_names(range)
    }
    fn attribute_values(
        &self,
        scope: Option<Scope>,
        key: &str,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Value>, Error> {
        self.0.attribute_values(scope, key, range, limit)
    }
}

const MATCHES: &[(&str, &str)] = &[
    ("{ }", "orphan leaf|GET / auth pay db"),
    ("{ true }", "orphan leaf|GET / auth pay db"),
    ("{ false }", ""),
    // Attributes, their scopes and types.
    (r#"{ span.http.method = "GET" }"#, "GET /"),
    (r#"{ .http.method = "GET" }"#, "GET /"),
    (r#"{ resource.service.name = "bank" }"#, "pay db"),
    (r#"{ .service.name = "bank" }"#, "pay db"),
    (r#"{ span.service.name = "bank" }"#, ""),
    (r#"{ resource.region = "us" }"#, ""),
    (r#"{ .region = "us" }"#, "auth"),
    (r#"{ .region = "eu" }"#, "orphan leaf|GET / pay db"),
    (r#"{ span."a b" = "quoted" }"#, "GET /"),
    ("{ .n = 5 }", "GET /"),
    ("{ .n = 5.0 }", "GET /"),
    (r#"{ .n = "5" }"#, "leaf"),
    ("{ .n > 5 }", "auth"),
    ("{ .n >= 2.5 }", "GET / auth db"),
    ("{ .n < 3 }", "db"),
    ("{ 5 < .n }", "auth"),
    ("{ 5 = .n }", "GET /"),
    ("{ .ratio <= 0.5 }", "GET /"),
    ("{ .cached }", "GET /"),
    ("{ .cached = true }", "GET /"),
    ("{ .cached != true }", "auth"),
    ("{ !.cached }", "orphan leaf|auth pay db"),
    ("{ .cached = false }", "auth"),
    // What is missing makes every comparison false.
    ("{ .n != 5 }", "auth db"),
    ("{ .missing != 5 }", ""),
    ("{ .missing = .missing }", ""),
    ("{ .missing = nil }", "orphan leaf|GET / auth pay db"),
    ("{ .n != nil }", "leaf|GET / auth db"),
    ("{ .n = nil }", "orphan|pay"),
    ("{ nil != .n }", "leaf|GET / auth db"),
    ("{ !(.n = 5) }", "orphan leaf|auth pay db"),
    ("{ .n = nil || .n != 5 }", "orphan|auth pay db"),
    // Arrays.
    (r#"{ .tags = "x" }"#, "GET /"),
    (r#"{ .tags = "z" }"#, ""),
    (r#"{ .tags != "x" }"#, ""),
    (r#"{ .tags != "z" }"#, "GET /"),
    (r#"{ .tags =~ "y|q" }"#, "GET /"),
    (r#"{ .tags !~ "y|q" }"#, ""),
    // Text.
    (r#"{ .http.method =~ "G.*" }"#, "GET /"),
    (r#"{ .http.method =~ "E" }"#, ""),
    (r#"{ .http.method !~ "P.*" }"#, "GET /"),
    (r#"{ name > "leaf" }"#, "orphan|pay"),
    // Intrinsics.
    (r#"{ name = "db" }"#, "db"),
    (r#"{ span:name = "db" }"#, "db"),
    ("{ duration > 1s }", "GET / pay"),
    ("{ duration = 1500ms }", "pay"),
    ("{ duration >= 1.5s }", "GET / pay"),
    ("{ 1h > duration }", "orphan leaf|GET / auth pay db"),
    ("{ status = error }", "auth"),
    ("{ status = ok }", "GET /"),
    ("{ status != unset }", "GET / auth"),
    (r#"{ statusMessage = "denied" }"#, "auth"),
    ("{ kind = server }", "GET /"),
    ("{ kind = client }", "auth db"),
    ("{ kind = producer || kind = consumer }", "orphan leaf"),
    (r#"{ rootName = "GET /" }"#, "GET / auth pay db"),
    (
        r#"{ rootServiceName = "shop" && kind = client }"#,
        "auth db",
    ),
    (r#"{ trace:rootService = "" }"#, "orphan leaf"),
    ("{ traceDuration > 3s }", "GET / auth pay db"),
    ("{ nestedSetParent < 0 }", "GET /"),
    ("{ nestedSetParent = 0 }", "orphan"),
    ("{ nestedSetLeft = 1 }", "orphan|GET /"),
    ("{ span:childCount = 2 }", "GET /"),
    (r#"{ span:id = "0404040404040404" }"#, "db"),
    (r#"{ span:parentID = "0303030303030303" }"#, "db"),
    (
        r#"{ trace:id = "02020202020202020202020202020202" }"#,
        "orphan leaf",
    ),
    (r#"{ event:name = "exception" }"#, "auth"),
    (r#"{ event.exception.type =~ "Time.*" }"#, "auth"),
    (r#"{ instrumentation:name = "lib" && name = "db" }"#, "db"),
    // Arithmetic and precedence.
    ("{ .n + 1 = 6 }", "GET /"),
    ("{ .n * 2 > 9 }", "GET / auth"),
    ("{ .n - 2 * 2 = 1 }", "GET /"),
    ("{ 2 ^ 3 = 8 && .n = 5 }", "GET /"),
    ("{ 2 ^ 3 ^ 2 = 512 && .n = 5 }", "GET /"),
    ("{ -.ratio = -0.5 }", "GET /"),
    ("{ .n / 2 = 2 }", "GET /"),
    ("{ .n % 4 = 3 }", "auth"),
    ("{ duration * 2 = 3s }", "pay"),
    ("{ .n = 5 || .n = 7 && kind = server }", "GET /"),
    ("{ .n = 5 || (.n = 7 && kind = server) }", "GET /"),
    ("{ .n = 7 && kind = client || .cached }", "GET / auth"),
    // What has no meaning for a value has no value, and fails nothing.
    ("{ 1 / 0 = 1 || .n = 5 }", "GET /"),
    ("{ .n != 5 && 10 / (.n - 7) = nil }", "auth"),
    ("{ .tags + 1 = 1 }", ""),
    ("{ -.http.method = 1 }", ""),
    ("{ !.http.method }", "orphan leaf|auth pay db"),
    ("{ duration + 1ns > 2s }", "GET /"),
    ("{ duration / 2s = 1 }", "GET /"),
    (
        r#"{ trace:id = "2020202020202020202020202020202" }"#,
        "orphan leaf",
    ),
    // Sets of spans.
    ("{ .n = 5 } && { status = error }", "GET / auth"),
    ("{ .n = 5 } && { .n = 99 }", ""),
    ("{ .n = 5 } || { name = `leaf` }", "leaf|GET /"),
    (r#"{ name = "GET /" } > { }"#, "auth pay"),
    (r#"{ name = "GET /" } >> { }"#, "auth pay db"),
    (r#"{ name = "db" } << { }"#, "GET / pay"),
    (r#"{ name = "db" } < { }"#, "pay"),
    (r#"{ name = "auth" } ~ { }"#, "pay"),
    (r#"{ name = "GET /" } &>> { name = "db" }"#, "GET / db"),
    (r#"{ name = "auth" } ~ { name = "auth" }"#, ""),
    (r#"{ kind = client } << { }"#, "GET / pay"),
    (r#"{ } >> { }"#, "leaf|auth pay db"),
    (r#"{ } &> { name = "db" }"#, "pay db"),
    (r#"{ } !~ { }"#, "orphan leaf|GET / db"),
    (r#"{ name = "pay" } !> { }"#, "orphan leaf|GET / auth pay"),
    (r#"{ name = "orphan" } > { }"#, "leaf"),
    (r#"{ name = "nobody" } !>> { kind = client }"#, "auth db"),
    (
        r#"({ name = "pay" } > { }) && { status = error }"#,
        "auth db",
    ),
    // Pipelines.
    ("{ } | { kind = client }", "auth db"),
    ("{ } | count() > 2", "GET / auth pay db"),
    ("{ } | count() = 2", "orphan leaf"),
    ("{ kind = client } | count() + 1 = 3", "auth db"),
    ("count() > 2", "GET / auth pay db"),
    ("{ } | max(duration) > 1s", "GET / auth pay db"),
    ("{ } | min(duration) < 50ms", "GET / auth pay db"),
    ("{ } | avg(duration) = 250ms", "orphan leaf"),
    ("{ } | sum(.n) = 14.5", "GET / auth pay db"),
    ("{ } | max(.absent) > 0", ""),
    (
        "{ } | by(resource.service.name)",
        "orphan leaf|GET / auth/pay db",
    ),
    (
        "{ } | by(resource.service.name) | count() = 2",
        "orphan leaf|GET / auth/pay db",
    ),
    ("{ } | by(kind) | count() > 1", "auth db"),
    (
        "{ } | by(kind) | coalesce() | count() = 4",
        "GET / auth pay db",
    ),
    (
        "{ .n = 5 } | select(resource.service.name, status)",
        "GET /",
    ),
    (
        "({ kind = client } | count() > 1) && { kind = server }",
        "GET / auth db",
    ),
    ("// a comment\n{ /* another */ .n = 5 } // the end", "GET /"),
    ("{ .n = 5 } with (most_recent=true)", "GET /"),
];

#[test]
fn queries_match_spans_in_memory_and_in_blocks() {
    let store = store();
    for sealed in [false, true] {
        if sealed {
            store.flush().unwrap();
        }
        let mut wrong = Vec::new();
        for (query, expected) in MATCHES {
            let snapshot = store.snapshot();
            let found = search(&snapshot, query).map(|found| names(&found));
            if found.as_deref() != Ok(*expected) {
                wrong.push(format!("{query}: {found:?}, expected {expected:?}"));
            }
            let unfiltered = search(&Unfiltered(&snapshot), query).map(|found| names(&found));
            assert_eq!(found, unfiltered, "conditions change {query}");
        }
        assert!(wrong.is_empty(), "sealed={sealed}\n{}", wrong.join("\n"));
    }
}

#[test]
fn what_is_printed_parses_to_the_same() {
    for (query, _) in MATCHES {
        let printed = parse(query).unwrap().to_string();
        let again = parse(&printed).unwrap_or_else(|e| panic!("{query} -> {printed}: {e}"));
        assert_eq!(again.to_string(), printed, "{query}");
    }
}

#[test]
fn broken_queries_are_refused_with_the_place_and_the_reason() {
    for (query, expected) in [
        (
            "",
            "parse error at line 1, col 1: syntax error: unexpected $end, expecting { or (",
        ),
        (
            "{",
            "parse error at line 1, col 2: syntax error: unexpected $end",
        ),
        (
            "{ .a = }",
            "parse error at line 1, col 8: syntax error: unexpected }",
        ),
        (
            "{ .a = 1 } |",
            "parse error at line 1, col 13: syntax error: unexpected $end, expecting { or (",
        ),
        (
            "{ .a = 1\n  } foo",
            "parse error at line 2, col 5: syntax error: unexpected IDENTIFIER, expecting |",
        ),
        (
            "{ .a = 'x' }",
            "parse error at line 1, col 8: syntax error: invalid character",
        ),
        (
            "{ .a = \"x }",
            "parse error at line 1, col 8: syntax error: literal not terminated",
        ),
        (
            "{ .a = 0x10 }",
            "parse error at line 1, col 8: syntax error: bad number or duration",
        ),
        (
            "{ . = 1 }",
            "parse error at line 1, col 3: syntax error: attribute without a name",
        ),
        (
            "{ span:nope = 1 }",
            "parse error at line 1, col 3: syntax error: unknown intrinsic span:nope",
        ),
        (
            "{ } | count()",
            "parse error at line 1, col 14: syntax error: unexpected $end",
        ),
        (
            "{ } | by()",
            "parse error at line 1, col 10: syntax error: unexpected )",
        ),
        (
            "{ status }",
            "span filter field expressions must resolve to a boolean: { status }",
        ),
        (
            "{ 1 + 1 }",
            "span filter field expressions must resolve to a boolean: { 1 + 1 }",
        ),
        (
            "{ 1 = \"foo\" }",
            "binary operations must operate on the same type: 1 = \"foo\"",
        ),
        (
            "{ status > ok }",
            "illegal operation for the given types: status > ok",
        ),
        (
            "{ duration = \"x\" }",
            "binary operations must operate on the same type: duration = \"x\"",
        ),
        ("{ -true }", "illegal operation for the given type: -true"),
        (
            "{ .a =~ \"[\" }",
            "invalid regex: error parsing regexp: missing closing ]: `[`: .a =~ \"[\"",
        ),
        (
            "{ .a =~ .b }",
            "the right side of =~ must be a string: .a =~ .b",
        ),
        (
            "{ } | by(1)",
            "grouping field expressions must reference the span: by(1)",
        ),
        (
            "{ } | sum(3) = 2",
            "aggregate field expressions must reference the span: sum(3)",
        ),
        (
            "{ } | sum(name) = 2",
            "aggregate field expressions must resolve to a number type: sum(name)",
        ),
        (
            "{ } | count() = \"x\"",
            "binary operations must operate on the same type: count() = \"x\"",
        ),
        ("{ name = nil }", "intrinsics are never nil: name = nil"),
        (
            "{ resource.service.name = nil }",
            "resource.service.name is never nil: resource.service.name = nil",
        ),
        ("{ parent.span.a = 1 }", "parent not yet supported"),
        ("coalesce()", "coalesce() cannot come first"),
    ] {
        assert_eq!(
            parse(query).map(|q| q.to_string()),
            Err(expected.to_owned()).map_err(|m: String| {
                ParseError {
                    span: parse(query)
                        .err()
                        .map_or(crate::text::Span::new(0, 0), |e| e.span),
                    message: m,
                }
            }),
            "{query}"
        );
    }
}

#[test]
fn what_is_not_evaluated_is_refused_by_name() {
    let store = store();
    let snapshot = store.snapshot();
    for (query, expected) in [
        (
            "{ } | rate()",
            "the metrics function rate() is not supported yet",
        ),
        (
            "{ } | rate() by (name) with (sample=true)",
            "the metrics function rate() is not supported yet",
        ),
        (
            "{ } | quantile_over_time(duration, .9, .5) by (name) | topk(5)",
            "the metrics function quantile_over_time() is not supported yet",
        ),
        (
            "({ } | by(kind)) && { }",
            "spanset operators are not supported for multiple spansets per trace. consider using coalesce()",
        ),
    ] {
        assert_eq!(
            search(&snapshot, query),
            Err(expected.to_owned()),
            "{query}"
        );
    }
}

#[test]
fn answers_hold_what_the_query_mentions() {
    let store = store();
    let query =
        r#"{ resource.service.name = "shop" && status = error } | select(.n, nestedSetParent)"#;
    let result = search(&store.snapshot(), query).unwrap();
    let trace = &result.traces[0];
    assert_eq!(
        (trace.root_service.as_deref(), trace.root_name.as_deref()),
        (Some("shop"), Some("GET /"))
    );
    assert_eq!(
        (trace.start_ns, trace.duration_ns),
        (101_000_000_000, 3_500_000_000)
    );
    let span = &trace.span_sets[0].spans[0];
    let mut told: Vec<String> = span
        .attributes
        .iter()
        .map(|(k, v)| format!("{k}={v:?}"))
        .collect();
    told.sort();
    let expected = [
        "n=Int(7)",
        "nestedSetParent=Int(1)",
        "service.name=Str(\"shop\")",
        "status=Str(\"error\")",
    ];
    assert_eq!(told, expected);
    let grouped = search(
        &store.snapshot(),
        "{ } | by(resource.service.name) | count() = 2",
    )
    .unwrap();
    let set = &grouped.traces[0].span_sets[0];
    let told: Vec<String> = set
        .attributes
        .iter()
        .map(|(k, v)| format!("{k}={v:?}"))
        .collect();
    assert_eq!(
        told,
        ["by(resource.service.name)=Str(\"cart\")", "count()=Int(2)"]
    );
}

#[test]
fn limits_stop_at_the_newest() {
    let store = store();
    let query = parse("{ }").unwrap();
    let options = SearchOptions {
        limit: 1,
        spans_per_span_set: 1,
    };
    let engine = Engine::new(Limits::default());
    let found = engine
        .search(
            &store.snapshot(),
            &query,
            TimeRange::ALL,
            &options,
            &Cancel::new(),
        )
        .unwrap();
    assert_eq!(found.traces.len(), 1);
    let set = &found.traces[0].span_sets[0];
    assert_eq!(
        (set.spans.len(), set.matched, &*set.spans[0].name),
        (1, 2, "orphan")
    );
    let canceled = Cancel::new();
    canceled.cancel();
    let error = engine.search(
        &store.snapshot(),
        &query,
        TimeRange::ALL,
        &options,
        &canceled,
    );
    assert!(matches!(error, Err(QueryError::Budget(_))), "{error:?}");
}

#[test]
fn brackets_may_be_nested_as_deep_as_the_limit_and_no_deeper() {
    let nested = |depth: usize| format!("{{ {}.a{} }}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(NESTING_MAX - 2)).is_ok());
    let error = parse(&nested(NESTING_MAX + 1)).unwrap_err();
    assert!(
        error.message.ends_with("the query is nested too deep"),
        "{error}"
    );
    assert!(parse(&"x".repeat(QUERY_BYTES_MAX + 1)).is_err());
}

/// Random filters over the attributes of the store, as text.
fn filter() -> impl Strategy<Value = String> {
    let attribute = prop::sample::select(vec![
        ".n",
        "span.n",
        ".cached",
        ".region",
        "resource.service.name",
        "name",
        ".tags",
        ".missing",
        "kind",
        "status",
        "duration",
    ]);
    let literal = prop::sample::select(vec![
        "5", "2.5", "\"5\"", "\"x\"", "\"shop\"", "\"eu\"", "true", "nil", "client", "error", "1s",
    ]);
    let op = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let leaf = (attribute, op, literal, any::<bool>()).prop_map(|(a, op, l, turned)| {
        if turned {
            format!("{l} {op} {a}")
        } else {
            format!("{a} {op} {l}")
        }
    });
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (
                inner.clone(),
                prop::sample::select(vec!["&&", "||"]),
                inner.clone()
            )
                .prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

thread_local! {
    static STORE: TraceStore = store();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// What the store skips is never what the query wants.
    #[test]
    fn conditions_lose_nothing(left in filter(), right in filter(), op in "&&|\\|\\||>|>>|!>|&>|~") {
        STORE.with(|store| {
            let snapshot = store.snapshot();
            for query in [format!("{{ {left} }}"), format!("{{ {left} }} {op} {{ {right} }}")] {
                let found = search(&snapshot, &query).map(|found| found.traces);
                let unfiltered = search(&Unfiltered(&snapshot), &query).map(|found| found.traces);
                prop_assert_eq!(found, unfiltered, "{}", query);
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[{}()|&<>=!~.a-z0-9\" +*/^-]{0,40}") {
        if let Ok(query) = parse(&text) {
            let printed = query.to_string();
            let again = parse(&printed).map(|query| query.to_string());
            prop_assert!(printed.contains("_over_time") || printed.contains("rate") || printed.contains("compare")
                || again.as_ref() == Ok(&printed), "{} -> {} -> {:?}", text, printed, again);
        }
    }
}
