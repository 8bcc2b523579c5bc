//! What is refused, at which place and in which words.

use super::memory::Conditions;
use super::*;

#[test]
fn broken_queries_are_refused_with_the_place_and_the_reason() {
    for (query, expected) in [
        (
            "",
            "parse error at line 1, col 1: syntax error: unexpected $end",
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
            "parse error at line 1, col 13: syntax error: unexpected $end",
        ),
        (
            "{ .a = 1\n  } foo",
            "parse error at line 2, col 5: syntax error: unexpected IDENTIFIER, expecting with",
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
            "parse error at line 1, col 8: strconv.ParseInt: parsing \"0x10\": invalid syntax",
        ),
        (
            "{ . = 1 }",
            "parse error at line 1, col 3: syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER",
        ),
        (
            "{ span:nope = 1 }",
            "parse error at line 1, col 3: syntax error: unexpected IDENTIFIER",
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
            "span filter field expressions must resolve to a boolean: { 2 }",
        ),
        (
            "{ 1 = \"foo\" }",
            "binary operations must operate on the same type: 1 = `foo`",
        ),
        (
            "{ status > ok }",
            "illegal operation for the given types: status > ok",
        ),
        (
            "{ duration = \"x\" }",
            "binary operations must operate on the same type: duration = `x`",
        ),
        ("{ -true }", "illegal operation for the given type: -true"),
        (
            "{ .a =~ \"[\" }",
            "invalid regex: error parsing regexp: missing closing ]: `[`: .a =~ `[`",
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
            "parse error at line 1, col 17: syntax error: unexpected STRING",
        ),
        ("{ name = nil }", "intrinsics are never nil: name = nil"),
        (
            "{ resource.service.name = nil }",
            "resource.service.name is never nil: resource.service.name = nil",
        ),
        ("{ parent.span.a = 1 }", "parent not yet supported"),
        (
            "coalesce()",
            "parse error at line 1, col 1: syntax error: unexpected coalesce",
        ),
        (
            "{ .a } | { .b",
            "parse error at line 1, col 14: syntax error: unexpected $end",
        ),
        (
            "{ .a | .b }",
            "parse error at line 1, col 6: syntax error: unexpected |",
        ),
        (
            "({ .a } | { .b }",
            "parse error at line 1, col 17: syntax error: unexpected $end, expecting ) or |",
        ),
        (
            "({ .a } | { .b }) + ({ .a } | { .b })",
            "parse error at line 1, col 19: syntax error: unexpected +, expecting with",
        ),
        (
            "by()",
            "parse error at line 1, col 4: syntax error: unexpected )",
        ),
        (
            "by(.a) && { .b }",
            "parse error at line 1, col 8: syntax error: unexpected &&, expecting with",
        ),
        (
            "select(.a) && { .b }",
            "parse error at line 1, col 12: syntax error: unexpected &&, expecting with",
        ),
        (
            "{ true } &&",
            "parse error at line 1, col 12: syntax error: unexpected $end, expecting { or (",
        ),
        (
            "(avg(.foo) > count()) + sum(.bar)",
            "parse error at line 1, col 23: syntax error: unexpected +, expecting with",
        ),
        (
            "count(",
            "parse error at line 1, col 7: syntax error: unexpected $end, expecting )",
        ),
        (
            "count(avg)",
            "parse error at line 1, col 7: syntax error: unexpected avg, expecting )",
        ),
        (
            "wharblgarbl",
            "parse error at line 1, col 1: syntax error: unexpected IDENTIFIER",
        ),
        (
            "{ 2 <> 3}",
            "parse error at line 1, col 6: syntax error: unexpected >",
        ),
        (
            "{ 2 = .b ",
            "parse error at line 1, col 10: syntax error: unexpected $end",
        ),
        (
            "{ + }",
            "parse error at line 1, col 3: syntax error: unexpected +",
        ),
        (
            "{ .foo .bar }",
            "parse error at line 1, col 8: syntax error: unexpected .",
        ),
        (
            "{ .a span.b }",
            "parse error at line 1, col 6: syntax error: unexpected span.",
        ),
        (
            "{ parent. }",
            "parse error at line 1, col 3: syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER or resource. or span.",
        ),
        (
            "{} | topk(10)",
            "parse error at line 1, col 6: syntax error: unexpected topk",
        ),
        (
            "{} | bottomk(10)",
            "parse error at line 1, col 6: syntax error: unexpected bottomk",
        ),
        (
            "{} | rate() | topk(-1)",
            "parse error at line 1, col 20: syntax error: unexpected -, expecting INTEGER",
        ),
        (
            "{} | rate() | { }",
            "parse error at line 1, col 15: syntax error: unexpected {",
        ),
        (
            "rate()",
            "parse error at line 1, col 1: syntax error: unexpected rate",
        ),
        (
            "{} | rate(.a)",
            "parse error at line 1, col 11: syntax error: unexpected ., expecting )",
        ),
        (
            "{} | max_over_time()",
            "parse error at line 1, col 20: syntax error: unexpected )",
        ),
        (
            "{} | quantile_over_time(.a)",
            "parse error at line 1, col 27: syntax error: unexpected ), expecting ,",
        ),
        (
            "{} | compare(.a)",
            "parse error at line 1, col 14: syntax error: unexpected ., expecting {",
        ),
        (
            "{} > 10",
            "parse error at line 1, col 6: syntax error: unexpected INTEGER, expecting { or (",
        ),
        (
            "{} = 10",
            "parse error at line 1, col 4: syntax error: unexpected =, expecting with",
        ),
        (
            "3 = 2",
            "parse error at line 1, col 3: syntax error: unexpected =",
        ),
        (
            r#"{ .a."x\y" = 1 }"#,
            "parse error at line 1, col 3: syntax error: invalid escape in a name",
        ),
        (
            "{} | rate() | topk(0)",
            "limit must be greater than 0: | topk(0)",
        ),
        (
            "{} | rate() | bottomk(0)",
            "limit must be greater than 0: | bottomk(0)",
        ),
        (
            "{} | quantile_over_time(duration, 1.5)",
            "quantile must be between 0 and 1: 1.5",
        ),
        (
            "{} | rate() by(.a, .b, .c, .d, .e, .f)",
            "metrics group by 6 values not yet supported",
        ),
        (
            "{} | compare({ status = error }) | topk(10)",
            "compare() takes no second stage: | topk(10)",
        ),
        (
            "{} | compare({ status = error }) > 10",
            "compare() takes no second stage: > 10",
        ),
    ] {
        let refused = parse(query).map_err(|error| error.to_string());
        let printed = refused.map(|query| query.to_string());
        assert_eq!(printed, Err(expected.to_owned()), "{query}");
    }
}

#[test]
fn errors_know_their_place_in_the_text() {
    for (query, expected) in [
        ("{ .a = 1 } | { status }", "{ status }"),
        ("{ .a && 1 = \"x\" }", "1 = \"x\""),
        ("{ } | sum(name) = 2", "sum(name)"),
        ("{ .a = 1 } &&& { }", "&"),
    ] {
        let error = parse(query).unwrap_err();
        assert_eq!(
            &query[error.span.start..error.span.end],
            expected,
            "{query}"
        );
    }
}

#[test]
fn what_is_not_evaluated_is_refused_by_name() {
    let source = memory(Conditions::Applied);
    for (query, expected) in [
        (
            "{ } | rate()",
            "a search for series over time is not supported yet",
        ),
        (
            "({ } | by(kind)) && { }",
            "spanset operators are not supported for multiple spansets per trace. consider using coalesce()",
        ),
    ] {
        assert_eq!(search(&source, query), Err(expected.to_owned()), "{query}");
    }
}

#[test]
fn brackets_may_be_nested_as_deep_as_the_limit_and_no_deeper() {
    for open in ["{ } > (", "{ } | (", "(count() > 1 | ", "(by(.a) | "] {
        let nested = |depth: usize| {
            let close = ")".repeat(open.matches('(').count().min(1) * depth);
            format!("{}{{ }}{close}", open.repeat(depth))
        };
        let deepest = parse(&nested(NESTING_MAX)).unwrap().to_string();
        assert_eq!(parse(&deepest).unwrap().to_string(), deepest, "{open}");
        let error = parse(&nested(NESTING_MAX + 1)).unwrap_err();
        assert!(
            error.message.ends_with("the query is nested too deep"),
            "{open}: {error}"
        );
    }
    assert!(parse(&"x".repeat(QUERY_BYTES_MAX + 1)).is_err());
    // Those around one expression leave nothing behind and cost no stack.
    let depth = QUERY_BYTES_MAX / 2 - 4;
    let (open, close) = ("(".repeat(depth), ")".repeat(depth));
    for nested in [
        format!("{{ {open}.a{close} }}"),
        format!("{open}{{ .a }}{close}"),
    ] {
        assert_eq!(parse(&nested).unwrap().to_string(), "{ .a }");
    }
    for open in [
        "(",
        "{",
        "{(",
        "{!",
        "{-",
        "(-",
        "-",
        "({}|",
        "by(",
        "{}|compare(",
    ] {
        let error = parse(&open.repeat(QUERY_BYTES_MAX / open.len())).unwrap_err();
        assert!(error.message.starts_with("parse error"), "{open}: {error}");
    }
}

/// Operators besides those of a chain, a query with a chain of so many, and why a longer one is refused.
type Lengthened<'a> = (usize, &'a dyn Fn(usize) -> String, &'static str);

/// A chain of operators is a tree as deep as the chain is long: it must stop before the stack does.
#[test]
fn chains_of_operators_may_be_as_long_as_the_limit_and_no_longer() {
    let source = memory(Conditions::Applied);
    let chain =
        |word: &str, operator: &str, operators: usize| vec![word; operators + 1].join(operator);
    let deep = "the expression is more than 500 operators deep";
    let many = "the query has more than 500 operators";
    // How many operators besides those of the chain count; the innermost between fields does not.
    let queries: [Lengthened<'_>; 8] = [
        (
            0,
            &|n| format!("{{ {} }}", chain(".cached && .cached", " || ", n / 2)),
            deep,
        ),
        (0, &|n| chain("{ .cached }", "||", n), many),
        (0, &|n| chain("{ .cached }", "|", n), many),
        (
            1,
            &|n| format!("{{ 1 = {} }}", chain(".n", " ^ ", n + 1)),
            deep,
        ),
        (
            1,
            &|n| format!("{{ .n = {} }}", chain(".n", " + ", n + 1)),
            deep,
        ),
        (0, &|n| format!("{{ {}.cached }}", "!".repeat(n)), deep),
        // As many brackets as may be around the chain that is read from the right.
        (
            1,
            &|n| {
                let (open, close) = ("(".repeat(1_000), ")".repeat(1_000));
                format!("{{ 1 = {open}{}{close} }}", chain(".n", " ^ ", n + 1))
            },
            deep,
        ),
        (
            1,
            &|n| format!("count() > {}", chain("count()", " - ", n)),
            many,
        ),
    ];
    for (more, query, what) in queries {
        let longest = query(500 - more);
        let found = search(&source, &longest);
        assert!(found.is_ok(), "{longest}: {found:?}");
        let printed = parse(&longest).unwrap().to_string();
        assert_eq!(parse(&printed).unwrap().to_string(), printed);
        for operators in [500 - more + 2, 5_000] {
            let error = parse(&query(operators)).unwrap_err();
            assert!(error.message.ends_with(what), "{error}");
        }
    }
}

/// Tools ask for one of thousands of values so.
#[test]
fn chains_of_one_logical_operator_are_as_long_as_a_query() {
    let source = memory(Conditions::Applied);
    for operator in [" || ", " && "] {
        for word in [
            ".name = `frontend`",
            ".cached",
            "!(.a = 1)",
            ".b - 1 > duration",
        ] {
            let chain = |count: usize| format!("{{ {} }}", vec![word; count].join(operator));
            let most = QUERY_BYTES_MAX / (word.len() + operator.len()) - 1;
            let found = search(&source, &chain(most));
            assert!(found.is_ok(), "{word}{operator}: {found:?}");
            // What is printed has more brackets.
            let printed = parse(&chain(most / 3)).unwrap().to_string();
            assert_eq!(parse(&printed).unwrap().to_string(), printed);
        }
    }
}
