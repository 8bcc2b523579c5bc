//! Queries over two small traces: which spans match, what answers hold, what is refused.

use trine_storage::TimeRange;

use super::source::{AttributeRef, Filter, Scope, Source, TraceFilter, Value, keys};
use super::*;
use crate::budget::{Cancel, Limits};

mod language;
mod matches;
mod memory;
#[cfg(feature = "tracestore")]
mod metrics;
#[cfg(feature = "tracestore")]
mod naive;
mod properties;
mod refusals;
#[cfg(feature = "tracestore")]
mod store;

use matches::MATCHES;
use memory::{Conditions, Memory, Span};

/// Two traces. Trace 1, service `shop`: root `GET /` (2 s, server, ok) with the children `auth`
/// (client, error, 500) and `pay` (service `bank`, 1.5 s), below which is `db`. Trace 2, later,
/// service `cart`: `orphan`, whose parent is not stored, with the child `leaf`.
fn shop() -> Vec<Span> {
    let text = |text: &str| Value::Str(text.into());
    let ints = |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Int).collect());
    let span = |trace, id, parent, name, service, attributes: Vec<(Scope, &'static str, Value)>| {
        let of_all = [
            (Scope::Resource, "service.name", text(service)),
            (Scope::Resource, "region", text("eu")),
            (
                Scope::Instrumentation,
                keys::INSTRUMENTATION_NAME,
                text("lib"),
            ),
        ];
        Span {
            trace,
            id,
            parent,
            name,
            attributes: of_all.into_iter().chain(attributes).collect(),
            ..Span::default()
        }
    };
    let of_root = vec![
        (Scope::Span, "http.method", text("GET")),
        (Scope::Span, "n", Value::Int(5)),
        (Scope::Span, "ratio", Value::Float(0.5)),
        (Scope::Span, "cached", Value::Bool(true)),
        (
            Scope::Span,
            "tags",
            Value::Array(vec![text("x"), text("y")]),
        ),
        (Scope::Span, "a b", text("quoted")),
    ];
    let of_auth = vec![
        (Scope::Span, "n", Value::Int(7)),
        (Scope::Span, "http.status_code", Value::Int(500)),
        (Scope::Span, "cached", Value::Bool(false)),
        (Scope::Span, "region", text("us")),
    ];
    let events = vec![
        vec![
            (keys::EVENT_NAME, text("exception")),
            ("exception.type", text("Timeout")),
            ("attempt", Value::Int(2)),
        ],
        vec![
            (keys::EVENT_NAME, text("retry")),
            ("attempt", Value::Int(3)),
        ],
    ];
    let floats = Value::Array(vec![Value::Float(1.5), Value::Float(2.5)]);
    let flags = Value::Array(vec![Value::Bool(true), Value::Bool(false)]);
    let of_pay = vec![
        (Scope::Span, "ints", ints(&[1, 2])),
        (Scope::Span, "floats", floats),
        (Scope::Span, "flags", flags),
    ];
    let of_db = vec![
        (Scope::Span, "n", Value::Float(2.5)),
        (Scope::Span, "db.system", text("redis")),
        (Scope::Span, "ints", ints(&[3, 4])),
    ];
    let links = vec![vec![
        (keys::LINK_SPAN_ID, text("0909090909090909")),
        ("reason", text("follows")),
    ]];
    let with = |span, kind, status, message, millis| Span {
        kind,
        status,
        message,
        millis,
        ..span
    };
    let of_leaf = vec![(Scope::Span, "n", text("5"))];
    let mut spans = vec![
        with(span(1, 1, 0, "GET /", "shop", of_root), 2, 1, "", 2_000),
        with(span(1, 2, 1, "auth", "shop", of_auth), 3, 2, "denied", 100),
        with(span(1, 3, 1, "pay", "bank", of_pay), 1, 0, "", 1_500),
        with(span(1, 4, 3, "db", "bank", of_db), 3, 0, "", 10),
        with(span(2, 1, 9, "orphan", "cart", vec![]), 4, 0, "", 300),
        with(span(2, 2, 1, "leaf", "cart", of_leaf), 5, 0, "", 200),
    ];
    spans[1].events = events;
    spans[3].links = links;
    spans
}

fn memory(conditions: Conditions) -> Memory {
    Memory {
        spans: shop(),
        conditions,
        batch: 10,
    }
}

fn search(source: &dyn Source, query: &str) -> Result<SearchResult, String> {
    search_with(source, query, 100, 0, &Cancel::new()).map_err(|error| error.to_string())
}

fn search_with(
    source: &dyn Source,
    query: &str,
    limit: usize,
    spans_per_span_set: usize,
    cancel: &Cancel,
) -> Result<SearchResult, Box<dyn std::error::Error>> {
    let query = parse(query)?;
    let options = SearchOptions {
        limit,
        spans_per_span_set,
    };
    let engine = Engine::new(Limits::default());
    Ok(engine.search(source, &query, TimeRange::ALL, &options, cancel)?)
}

/// Names of the matching spans: traces apart by `|`, sets of one trace by `/`.
fn names(result: &SearchResult) -> String {
    let set = |set: &SpanSet| {
        assert_eq!(set.spans.len(), set.matched);
        let names: Vec<&str> = set.spans.iter().map(|span| &*span.name).collect();
        names.join(" ")
    };
    let trace = |trace: &TraceSummary| {
        let sets: Vec<String> = trace.span_sets.iter().map(set).collect();
        sets.join("/")
    };
    let traces: Vec<String> = result.traces.iter().map(trace).collect();
    traces.join("|")
}

fn check_matches(source: &dyn Source, matches: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (query, expected) in matches {
        let found = search(source, query).map(|found| names(&found));
        if found.as_deref() != Ok(*expected) {
            wrong.push(format!("{query}: {found:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn queries_match_spans_however_traces_are_batched_and_skipped() {
    for conditions in [Conditions::Ignored, Conditions::Applied] {
        for batch in [1, 10] {
            let source = Memory {
                batch,
                ..memory(conditions)
            };
            check_matches(&source, MATCHES);
        }
    }
}

/// A filter of traces in few words.
fn told(filter: &TraceFilter) -> String {
    fn of_span(filter: &Filter) -> String {
        let words = |of: &[Filter], glue: &str| {
            let of: Vec<String> = of.iter().map(of_span).collect();
            format!("({})", of.join(glue))
        };
        match filter {
            Filter::And(of) => words(of, " & "),
            Filter::Or(of) => words(of, " | "),
            Filter::Not(of) => format!("!{}", of_span(of)),
            Filter::Is(condition) => {
                let test = format!("{:?}", condition.test);
                let name = match &condition.attribute {
                    AttributeRef::Intrinsic(intrinsic) => format!("{intrinsic:?}"),
                    AttributeRef::Attribute { key, .. } => key.clone(),
                };
                format!("{name} {}", test.split('(').next().unwrap())
            }
        }
    }
    let words = |of: &[TraceFilter], glue: &str| {
        let of: Vec<String> = of.iter().map(told).collect();
        format!("[{}]", of.join(glue))
    };
    match filter {
        TraceFilter::All => String::new(),
        TraceFilter::Has(filter) => of_span(filter),
        TraceFilter::Count {
            filter,
            least,
            most,
        } => match *most {
            u64::MAX => format!("{least}.. {}", of_span(filter)),
            most => format!("{least}..={most} {}", of_span(filter)),
        },
        TraceFilter::Related {
            relation,
            above,
            below,
        } => format!("{} {relation:?} {}", of_span(above), of_span(below)),
        TraceFilter::And(of) => words(of, " & "),
        TraceFilter::Or(of) => words(of, " | "),
    }
}

#[test]
fn filters_tell_what_is_certain() {
    for (query, expected) in [
        ("{ span.n = 5 }", "n Equal"),
        ("{ 2 < span.n }", "n Greater"),
        (
            "{ 400 <= span.n && status = error }",
            "(n GreaterEqual & Status Equal)",
        ),
        (
            "{ .a = 1 && .b = 2 && .c = 3 }",
            "(a Equal & b Equal & c Equal)",
        ),
        (
            "{ .a = 1 && (.b = 2 || .c = 3) }",
            "(a Equal & (b Equal | c Equal))",
        ),
        ("{ span.n = 5 || span.n = 7 }", "n Equal"),
        ("{ span.n != 5 && span.n != 7 }", "n NotEqual"),
        (
            "{ span.n = 5 || .missing = nil }",
            "(n Equal | missing Missing)",
        ),
        ("{ .a }", "a Equal"),
        ("{ false }", "()"),
        ("{ true }", ""),
        ("{ !(span.n = 5) }", "!n Equal"),
        ("{ !(span.n + 1 = 5) }", ""),
        ("{ !(span.n = 5 && .a != nil) }", "!(n Equal & a Exists)"),
        ("{ !.a }", ""),
        ("{ (span.n = 5) = false }", "!n Equal"),
        ("{ true != (span.n = 5) }", "!n Equal"),
        ("{ span.n = nil }", "n Missing"),
        ("{ span.n != nil }", "n Exists"),
        ("{ name != nil }", ""),
        ("{ span.n =~ `a` }", "n Matches"),
        ("{ rootName !~ `a` }", "RootName NotMatches"),
        ("{ span.n + 1 = 2 }", "n Exists"),
        ("{ .a * 2 > -.b }", "(a Exists & b Exists)"),
        (
            "{ nestedSetParent < 0 && duration > 1s }",
            "(IsRoot Equal & Duration Greater)",
        ),
        ("{ nestedSetParent = 5 }", "IsRoot Equal"),
        ("{ nestedSetParent < 5 }", ""),
        ("{ nestedSetLeft = 5 }", ""),
        (
            "{ trace:duration > 1s && span:childCount = 0 }",
            "(TraceDuration Greater & ChildCount Equal)",
        ),
        (
            "{ trace:id = `1` || span:id = `a` || span:parentID = `` }",
            "(TraceId Equal | SpanId Equal | ParentId Equal)",
        ),
        (
            "{ event:name = `a` && event.b = 1 }",
            "(event:name Equal & b Equal)",
        ),
        (
            "{ event:name = `a` } | { event.b = 1 }",
            "[event:name Equal & b Equal]",
        ),
        ("{ .a = 1 } || { .b != 2 }", "[a Equal | b NotEqual]"),
        ("{ .a = 1 } || { }", ""),
        ("{ .a = 1 } && { .b = 2 }", "[a Equal & b Equal]"),
        ("{ .a = 1 } && { }", "a Equal"),
        ("{ .a = 1 } >> { .b < 2 }", "a Equal Descendant b Less"),
        ("{ .a = 1 } << { .b < 2 }", "b Less Descendant a Equal"),
        ("{ .a = 1 } < { .b < 2 }", "b Less Child a Equal"),
        ("{ .a = 1 } &~ { .b < 2 }", "a Equal Sibling b Less"),
        ("{ .a = 1 } !>> { .b < 2 }", "b Less"),
        (
            "({ .a = 1 } | count() > 1) > { .b = 2 }",
            "[a Equal Child b Equal & 2.. a Equal]",
        ),
        ("{ .a = 1 } | count() > 12", "13.. a Equal"),
        ("{ .a = 1 } | 3 >= count()", "1..=3 a Equal"),
        ("{ .a = 1 } | count() = 2", "2..=2 a Equal"),
        ("{ .a = 1 } | count() != 2", "a Equal"),
        ("{ .a = 1 } | count() < 1", "[a Equal & []]"),
        ("{ .a = 1 } | by(.c) | count() = 2", "2.. a Equal"),
        ("{ !(.a + 1 = 2) } | count() = 2", "2.. ()"),
        (
            "{ .a = 1 } > { .b = 2 } | count() < 3",
            "a Equal Child b Equal",
        ),
        (
            "{ .a = 1 } > { .b = 2 } | count() > 3",
            "[a Equal Child b Equal & 4.. b Equal]",
        ),
        (
            "{ .a = 1 } | max(duration) > 1s",
            "(a Equal & Duration Greater)",
        ),
        ("{ .a = 1 } | min(.b) <= 1s", "(a Equal & b LessEqual)"),
        (
            "{ .a = 1 } | avg(duration) >= 1s",
            "(a Equal & Duration GreaterEqual)",
        ),
        ("{ .a = 1 } | avg(.b) >= 1s", "a Equal"),
        ("{ .a = 1 } | max(duration) < 1s", "a Equal"),
        ("{ .a = 1 } | by(.c) | { .b = 2 }", "[a Equal & b Equal]"),
        ("count() > 1", "2.. ()"),
    ] {
        let lowered = filter(parse(query).unwrap().search().unwrap());
        assert_eq!(told(&lowered), expected, "{query}");
    }
}

#[test]
fn what_is_printed_parses_to_the_same() {
    let metrics = [
        "{ } | rate()",
        "{ .a = 1 } | count_over_time() by(name, span.b) | topk(5) > 2 | bottomk(1)",
        "{ } | quantile_over_time(duration, 0.5, 1) >= 1s with(sample=true)",
        "{ } | compare({ status = error }, 10, 5, 7)",
        "{ } | histogram_over_time(span.\"a \\\" b\") < -2.5",
        "{ .\"line\nbreak\" = 1 }",
        "{ !(.a && .b) || !.c = true }",
        "{ 2 ^ 3 ^ 2 = (2 ^ 3) ^ 2 }",
        "{ 1 - (2 - 3) = 1 - 2 - 3 }",
    ];
    for query in MATCHES.iter().map(|(query, _)| *query).chain(metrics) {
        let printed = parse(query).unwrap().to_string();
        let again = parse(&printed).unwrap_or_else(|e| panic!("{query} -> {printed}: {e}"));
        assert_eq!(again.to_string(), printed, "{query}");
    }
}

#[test]
fn printing_keeps_the_brackets_that_matter() {
    for (query, expected) in [
        ("{.a=1&&.b||.c}", "{ ((.a = 1) && .b) || .c }"),
        ("{ .a && (.b || .c) }", "{ .a && (.b || .c) }"),
        ("{ (.a + 1) * 2 = -(.b) }", "{ ((.a + 1) * 2) = (-.b) }"),
        ("{ !(.a = 1) }", "{ !(.a = 1) }"),
        (
            "{ .a ^ (3 ^ .b) = (.a ^ 3) ^ .b }",
            "{ (.a ^ (3 ^ .b)) = ((.a ^ 3) ^ .b) }",
        ),
        ("({.a} && {.b}) > {}", "(({ .a }) && ({ .b })) > ({ true })"),
        (
            "{} | (count()+1)*2 > 3",
            "{ true }|(((count()) + 1) * 2) > 3",
        ),
        (
            "{}|rate() by(.a)|topk(5)>2 with(sample=true)",
            "{ true } | rate()by(.a) | topk(5) > 2 with(sample=true)",
        ),
    ] {
        assert_eq!(parse(query).unwrap().to_string(), expected, "{query}");
    }
}

#[test]
fn answers_hold_what_the_query_mentions() {
    let source = memory(Conditions::Applied);
    let told = |attributes: &[(String, Value)]| {
        let mut told: Vec<String> = attributes
            .iter()
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        told.sort();
        told
    };
    let query =
        r#"{ resource.service.name = "shop" && status = error } | select(.n, nestedSetParent)"#;
    let result = search(&source, query).unwrap();
    let trace = &result.traces[0];
    let root = (trace.root_service.as_deref(), trace.root_name.as_deref());
    assert_eq!(root, (Some("shop"), Some("GET /")));
    assert_eq!(
        (trace.start_ns, trace.duration_ns),
        (101_000_000_000, 3_500_000_000)
    );
    let expected = [
        "n=Int(7)",
        "nestedSetParent=Int(1)",
        "service.name=Str(\"shop\")",
        "status=Str(\"error\")",
    ];
    assert_eq!(told(&trace.span_sets[0].spans[0].attributes), expected);
    let grouped = search(&source, "{ } | by(resource.service.name) | count() = 2").unwrap();
    let expected = ["by(resource.service.name)=Str(\"cart\")", "count()=Int(2)"];
    assert_eq!(told(&grouped.traces[0].span_sets[0].attributes), expected);
}

#[test]
fn limits_stop_at_the_newest() {
    let source = memory(Conditions::Applied);
    let found = search_with(&source, "{ }", 1, 1, &Cancel::new()).unwrap();
    assert_eq!(found.traces.len(), 1);
    let set = &found.traces[0].span_sets[0];
    assert_eq!(
        (set.spans.len(), set.matched, &*set.spans[0].name),
        (1, 2, "orphan")
    );
    let canceled = Cancel::new();
    canceled.cancel();
    let error = search_with(&source, "{ }", 1, 1, &canceled).unwrap_err();
    assert_eq!(error.to_string(), "query was canceled in query execution");
}

#[test]
fn spans_that_are_held_count_against_the_bound() {
    // Six spans of two batches, of which the newer holds two: with those of the answer that is
    // two and two, then four more of the batch beside the two of the answer, and their four.
    let source = Memory {
        batch: 1,
        ..memory(Conditions::Applied)
    };
    let (query, options) = (
        parse("{ }").unwrap(),
        SearchOptions {
            limit: 10,
            spans_per_span_set: 0,
        },
    );
    for (samples_max, fits) in [(10, true), (9, false)] {
        let engine = Engine::new(Limits {
            samples_max,
            ..Limits::default()
        });
        let found = engine.search(&source, &query, TimeRange::ALL, &options, &Cancel::new());
        // What was found until then is told, and that it is not all.
        let found = found.unwrap();
        assert_eq!(names(&found).contains("GET /"), fits, "{samples_max}");
        assert!(names(&found).starts_with("orphan leaf"), "{samples_max}");
        let message = "query processing would load too many samples into memory in query execution";
        assert_eq!(found.is_partial, !fits, "{samples_max}");
        assert_eq!(
            found.message.as_deref(),
            (!fits).then_some(message),
            "{samples_max}"
        );
    }
}
