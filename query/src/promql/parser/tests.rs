//! The parser against tables: exact error texts with positions, the printed form, types.

use proptest::prelude::*;

use crate::promql::ast::{ExprKind, ValueType};
use crate::promql::{ParseOptions, parse, parse_selector, parse_with};

#[test]
fn errors_have_the_texts_and_positions_of_prometheus() {
    let table = [
        // Nothing and rubbish.
        ("", "1:1: parse error: no expression found in input"),
        (
            "# only a comment",
            "1:1: parse error: no expression found in input",
        ),
        (".", "1:1: parse error: unexpected character: '.'"),
        ("2.5.", "1:4: parse error: unexpected character: '.'"),
        ("100..4", "1:5: parse error: unexpected number \".4\""),
        (
            "0deadbeef",
            "1:1: parse error: bad number or duration syntax: \"0de\"",
        ),
        ("1+", "1:3: parse error: unexpected end of input"),
        ("1 /", "1:4: parse error: unexpected end of input"),
        ("*1", "1:1: parse error: unexpected <op:*>"),
        ("(1))", "1:4: parse error: unexpected right parenthesis ')'"),
        ("((1)", "1:5: parse error: unclosed left parenthesis"),
        ("(", "1:2: parse error: unclosed left parenthesis"),
        ("foo]", "1:4: parse error: unexpected right bracket ']'"),
        ("foo[[5m]]", "1:5: parse error: unexpected left bracket '['"),
        ("foo[5m::]", "1:8: parse error: unexpected colon ':'"),
        ("\"abc", "1:1: parse error: unterminated quoted string"),
        ("`abc", "1:1: parse error: unterminated raw string"),
        (
            "1 !~ 1",
            "1:3: parse error: unexpected character after '!': '~'",
        ),
        (
            "1 =~ 1",
            "1:3: parse error: unexpected character after '=': '~'",
        ),
        ("-=", "1:2: parse error: unexpected \"=\""),
        (
            "foo\n  bar",
            "2:3: parse error: unexpected identifier \"bar\"",
        ),
        // Operators and types.
        (
            "1 and 1",
            "1:1: parse error: set operator \"and\" not allowed in binary scalar expression",
        ),
        (
            "foo or 1",
            "1:1: parse error: set operator \"or\" not allowed in binary scalar expression",
        ),
        (
            "1 == 1",
            "1:3: parse error: comparisons between scalars must use BOOL modifier",
        ),
        (
            "foo + bool bar",
            "1:5: parse error: bool modifier can only be used on comparison operators",
        ),
        (
            "foo == on(bar) 10",
            "1:1: parse error: vector matching only allowed between instant vectors",
        ),
        (
            "foo + group_left(baz) bar",
            "1:7: parse error: unexpected <group_left>",
        ),
        (
            "a - on(b) ignoring(c) d",
            "1:11: parse error: unexpected <ignoring>",
        ),
        (
            "foo and on(bar) group_left(baz) bar",
            "1:1: parse error: no grouping allowed for \"and\" operation",
        ),
        (
            "foo + on(a) group_left(b, a) bar",
            "1:5: parse error: label \"a\" must not occur in ON and GROUP clause at once",
        ),
        (
            "foo + \"x\"",
            "1:7: parse error: binary expression must contain only scalar and instant vector types",
        ),
        (
            "-\"string\"",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or \
             instant vector, got \"string\"",
        ),
        (
            "-foo[5m]",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or \
             instant vector, got \"range vector\"",
        ),
        // Selectors.
        (
            "{}",
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        (
            "{x=\"\"}",
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        (
            "{x=~\".*\"}",
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        (
            "foo{__name__=\"bar\"}",
            "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"",
        ),
        (
            "{\"foo\", \"bar\"}",
            "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"",
        ),
        (
            "foo{a=b}",
            "1:7: parse error: unexpected identifier \"b\" in label matching, expected string",
        ),
        (
            "foo{a:b=\"b\"}",
            "1:6: parse error: unexpected character inside braces: ':'",
        ),
        (
            "foo{a*\"b\"}",
            "1:6: parse error: unexpected character inside braces: '*'",
        ),
        (
            "foo{gibberish}",
            "1:14: parse error: unexpected \"}\" in label matching, expected label matching \
             operator",
        ),
        (
            "foo{,}",
            "1:5: parse error: unexpected \",\" in label matching, expected identifier or \"}\"",
        ),
        (
            "foo{a=\"b\" c}",
            "1:11: parse error: unexpected identifier \"c\" in label matching, expected \",\" or \
             \"}\"",
        ),
        (
            "foo{a=\"b\"",
            "1:10: parse error: unexpected end of input inside braces",
        ),
        (
            "foo{a!\"b\"}",
            "1:6: parse error: unexpected character after '!' inside braces: '\"'",
        ),
        ("foo{{", "1:5: parse error: unexpected left brace '{'"),
        // Ranges, offsets, times.
        (
            "foo[5mm]",
            "1:5: parse error: bad number or duration syntax: \"5mm\"",
        ),
        (
            "foo[5m1]",
            "1:5: parse error: bad number or duration syntax: \"5m1\"",
        ),
        (
            "foo[]",
            "1:5: parse error: unexpected \"]\" in subquery or range selector, expected number, \
             duration, step(), or range()",
        ),
        (
            "foo[0m]",
            "1:5: parse error: duration must be greater than 0",
        ),
        (
            "foo[-5m]",
            "1:5: parse error: duration must be greater than 0",
        ),
        ("foo[1e20]", "1:5: parse error: duration out of range"),
        ("foo[5m", "1:7: parse error: unclosed left bracket"),
        (
            "foo[\"5m\"]",
            "1:5: parse error: unexpected string \"\\\"5m\\\"\" in subquery or range selector, \
             expected number, duration, step(), or range()",
        ),
        (
            "(foo + bar)[5m]",
            "1:12: parse error: ranges only allowed for vector selectors",
        ),
        (
            "foo offset 1m[5m]",
            "1:14: parse error: no offset modifiers allowed before range",
        ),
        (
            "foo @ 1234 [5m]",
            "1:12: parse error: no @ modifiers allowed before range",
        ),
        (
            "foo offset",
            "1:11: parse error: unexpected end of input in offset, expected number, duration, \
             step(), or range()",
        ),
        (
            "1 offset 1d",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or \
             range vector selector or a subquery",
        ),
        (
            "sum(foo) @ 5",
            "1:1: parse error: @ modifier must be preceded by an instant vector selector or range \
             vector selector or a subquery",
        ),
        (
            "foo offset 1s offset 2s",
            "1:1: parse error: offset may not be set multiple times",
        ),
        (
            "foo @ 1 @ 2",
            "1:1: parse error: @ <timestamp> may not be set multiple times",
        ),
        (
            "foo @",
            "1:6: parse error: unexpected end of input in @, expected timestamp",
        ),
        (
            "foo @ Inf",
            "1:7: parse error: timestamp out of bounds for @ modifier: +Inf",
        ),
        (
            "foo[5m][1m:]",
            "1:1: parse error: subquery is only allowed on instant vector, got matrix instead",
        ),
        // Aggregations and calls.
        (
            "sum()",
            "1:1: parse error: no arguments for aggregate expression provided",
        ),
        (
            "sum(a, b)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, \
             expected 1, got 2",
        ),
        (
            "topk(foo)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, \
             expected 2, got 1",
        ),
        (
            "topk(foo, bar)",
            "1:6: parse error: expected type scalar in aggregation parameter, got instant vector",
        ),
        (
            "count_values(5, foo)",
            "1:14: parse error: expected type string in aggregation parameter, got scalar",
        ),
        (
            "sum(5)",
            "1:5: parse error: expected type instant vector in aggregation expression, got scalar",
        ),
        (
            "sum by foo(bar)",
            "1:8: parse error: unexpected identifier \"foo\" in grouping opts, expected \"(\"",
        ),
        (
            "sum by (,) (foo)",
            "1:9: parse error: unexpected \",\" in grouping opts, expected label",
        ),
        (
            "sum by (a b) (foo)",
            "1:11: parse error: unexpected identifier \"b\" in grouping opts, expected \",\" or \
             \")\"",
        ),
        (
            "sum by (a) (foo) by (b)",
            "1:18: parse error: unexpected <by> in aggregation",
        ),
        (
            "sum foo by (a)",
            "1:5: parse error: unexpected identifier \"foo\" in aggregation",
        ),
        (
            "topk(5, foo,)",
            "1:12: parse error: trailing commas not allowed in function call args",
        ),
        (
            "floor()",
            "1:1: parse error: expected 1 argument(s) in call to \"floor\", got 0",
        ),
        (
            "floor(\"x\")",
            "1:7: parse error: expected type instant vector in call to function \"floor\", got \
             string",
        ),
        (
            "rate(foo)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got \
             instant vector",
        ),
        (
            "hour(a, b)",
            "1:1: parse error: expected at most 1 argument(s) in call to \"hour\", got 2",
        ),
        (
            "label_join(a)",
            "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 1",
        ),
        (
            "time(foo)",
            "1:1: parse error: expected 0 argument(s) in call to \"time\", got 1",
        ),
        (
            "nope()",
            "1:1: parse error: unknown function with name \"nope\"",
        ),
        (
            "Rate(foo[5m])",
            "1:1: parse error: unknown function with name \"Rate\"",
        ),
        (
            "histogram_quantiles(a, \"q\", 0,0,0,0,0,0,0,0,0,0,0)",
            "1:1: parse error: expected at most 12 argument(s) in call to \"histogram_quantiles\", \
             got 13",
        ),
        (
            "histogram_quantiles(a, \"q\")",
            "1:1: parse error: expected at least 3 argument(s) in call to \"histogram_quantiles\", \
             got 2",
        ),
        (
            "info(foo, bar{a=\"b\"})",
            "1:11: parse error: expected label selectors only, got vector selector instead",
        ),
        (
            "info(foo, sum(bar))",
            "1:11: parse error: expected label selectors only",
        ),
        // Durations that are computed.
        ("foo[5m/0]", "1:7: parse error: division by zero"),
        ("foo[5m % 0s]", "1:8: parse error: modulo by zero"),
        (
            "foo[5m+]",
            "1:8: parse error: unexpected \"]\" in subquery or range selector, expected number, \
             duration, step(), or range()",
        ),
        (
            "foo[step(]",
            "1:10: parse error: unexpected \"]\" in subquery or range selector, expected number, \
             duration, step(), or range()",
        ),
        (
            "foo[min_of(5m)]",
            "1:14: parse error: unexpected \")\" in subquery or range selector, expected number, \
             duration, step(), or range()",
        ),
        (
            "foo[time()]",
            "1:5: parse error: unexpected identifier \"time\" in subquery or range selector, expected \
             number, duration, step(), or range()",
        ),
        (
            "foo[1h:*]",
            "1:8: parse error: unexpected <op:*> in subquery selector, expected number, duration, \
             step(), range(), or \"]\"",
        ),
        (
            "foo[5m 5m]",
            "1:8: parse error: unexpected duration \"5m\" in subquery or range, expected \":\" or \
             \"]\"",
        ),
        ("foo[-(1e30)]", "1:7: parse error: duration out of range"),
        (
            "foo offset (5m",
            "1:15: parse error: unclosed left parenthesis",
        ),
        (
            "foo offset (1) offset 2",
            "1:1: parse error: offset may not be set multiple times",
        ),
        (
            "foo offset step()[5m]",
            "1:18: parse error: no offset modifiers allowed before range",
        ),
        // Ranges that reach beyond their borders.
        (
            "foo[5m] anchored smoothed",
            "1:1: parse error: anchored and smoothed modifiers cannot be used together",
        ),
        (
            "rate(foo[5m:1m] anchored)",
            "1:6: parse error: anchored modifier is not supported for subqueries",
        ),
        (
            "sum(foo) smoothed",
            "1:1: parse error: smoothed modifier not implemented",
        ),
        // Values that stand in for missing ones.
        (
            "foo and fill(0) bar",
            "1:1: parse error: filling in missing series not allowed for set operators",
        ),
        (
            "foo + fill(0) 1",
            "1:1: parse error: filling in missing series only allowed between instant vectors",
        ),
        (
            "foo + fill(x) bar",
            "1:12: parse error: unexpected identifier \"x\"",
        ),
        (
            "foo + fill(0) fill(0) bar",
            "1:19: parse error: unexpected \"(\"",
        ),
    ];
    for (text, expect) in table {
        let error = parse(text).map(|query| query.to_string()).expect_err(text);
        assert_eq!(error.to_string(), expect, "{text}");
    }
}

#[test]
fn what_is_switched_off_says_so() {
    let off = ParseOptions {
        experimental_functions: false,
        duration_expressions: false,
        extended_selectors: false,
        fill_modifiers: false,
    };
    let table = [
        (
            "info(foo)",
            "1:1: parse error: function \"info\" is not enabled",
        ),
        (
            "1 + max_of(1, 2)",
            "1:5: parse error: function \"max_of\" is not enabled",
        ),
        (
            "limitk(5, foo)",
            "1:1: parse error: limitk() is experimental and must be enabled with \
             --enable-feature=promql-experimental-functions",
        ),
        (
            "foo[5m * 2]",
            "1:5: parse error: experimental duration expression is not enabled",
        ),
        (
            "foo[step()]",
            "1:5: parse error: experimental duration expression is not enabled",
        ),
        (
            "rate(foo[5m] anchored)",
            "1:6: parse error: anchored modifier is experimental and not enabled",
        ),
        (
            "1 + foo smoothed",
            "1:5: parse error: smoothed modifier is experimental and not enabled",
        ),
        (
            "foo + on(a) fill(0) bar",
            "1:1: parse error: binop fill modifiers are experimental and not enabled",
        ),
    ];
    for (text, expect) in table {
        let error = parse_with(text, &off)
            .map(|query| query.to_string())
            .expect_err(text);
        assert_eq!(error.to_string(), expect, "{text}");
        assert!(parse(text).is_ok(), "{text}");
    }
    assert!(parse_with("first_over_time(foo[5m]) offset 5m", &off).is_err());
    assert!(parse_with("first_over_time(foo[5m] offset -5m)", &off).is_ok());
}

#[test]
fn bad_expressions_name_the_pattern() {
    let error = parse("foo{a=~\"(\"}").unwrap_err().to_string();
    assert!(
        error.starts_with("1:8: parse error: error parsing regexp"),
        "{error}"
    );
}

#[test]
fn queries_print_in_the_canonical_form() {
    let table = [
        ("1", "1"),
        ("0x1F", "31"),
        ("1e3", "1000"),
        ("-Inf", "-Inf"),
        ("5m", "5m"),
        ("-1h30m", "-1h30m"),
        ("'a\"b'", "\"a\\\"b\""),
        ("'a\\xc5z'", "\"a\\xc5z\""),
        ("`raw\\n`", "\"raw\\\\n\""),
        ("foo", "foo"),
        ("foo{}", "foo"),
        ("foo {b='2',a=\"1\",}", "foo{a=\"1\",b=\"2\"}"),
        ("{__name__=\"foo\"}", "{__name__=\"foo\"}"),
        (
            "{\"my.metric\", \"l.x\"!~\"v|w\"}",
            "{\"l.x\"!~\"v|w\",__name__=\"my.metric\"}",
        ),
        ("foo:bar:baz", "foo:bar:baz"),
        ("foo[ 5m ]", "foo[5m]"),
        ("foo[300]", "foo[5m]"),
        ("foo[5m] offset 1h", "foo[5m] offset 1h"),
        ("foo OFFSET -1h @ 10.5", "foo @ 10.500 offset -1h"),
        ("foo @ start()", "foo @ start()"),
        ("foo[1h:] @ END()", "foo[1h:] @ end()"),
        (
            "rate(foo[5m])[1h:30s] offset 2.5",
            "rate(foo[5m])[1h:30s] offset 2s500ms",
        ),
        ("SUM(foo)", "sum(foo)"),
        ("sum(foo) BY (a,b,)", "sum by (a, b) (foo)"),
        ("sum by () (foo)", "sum(foo)"),
        ("sum without () (foo)", "sum without () (foo)"),
        (
            "avg without (\"service.name\") (foo)",
            "avg without (\"service.name\") (foo)",
        ),
        ("topk by (a) (5, foo)", "topk by (a) (5, foo)"),
        ("count_values('v', foo)", "count_values(\"v\", foo)"),
        ("a+b*c", "a + b * c"),
        ("a ^ b ^ c", "a ^ b ^ c"),
        ("-a ^ 2", "-a ^ 2"),
        ("a == bool 1", "a == bool 1"),
        ("a + on(b) group_left(c) d", "a + on (b) group_left (c) d"),
        (
            "a / ignoring(b) group_right d",
            "a / ignoring (b) group_right () d",
        ),
        ("a and on() b", "a and on () b"),
        (
            "a unless ignoring(x) b or c",
            "a unless ignoring (x) b or c",
        ),
        ("a ATAN2 b", "a atan2 b"),
        ("(a)", "(a)"),
        ("+a", "+a"),
        ("a </ 5", "a </ 5"),
        ("a>/b+1", "a >/ b + 1"),
        ("a + fill(1) b", "a + fill (1) b"),
        (
            "a + FILL_RIGHT(-2) fill_left(5m) b",
            "a + fill_left (300) fill_right (-2) b",
        ),
        ("a + fill_left(1) fill_right(1) b", "a + fill (1) b"),
        (
            "a == bool on(x) group_left fill(NaN) b",
            "a == bool on (x) group_left () fill (NaN) b",
        ),
        ("fill + fill_left", "fill + fill_left"),
        ("limitk(2, a)", "limitk(2, a)"),
        (
            "limit_ratio(-0.5, a) by (b)",
            "limit_ratio by (b) (-0.5, a)",
        ),
        ("a[5m] anchored @ 1", "a[5m] anchored @ 1.000"),
        ("a smoothed offset 5m @ 1", "a @ 1.000 smoothed offset 5m"),
        ("a[5m] offset 5m smoothed", "a[5m] smoothed offset 5m"),
        ("a[2*5m]", "a[2 * 5m]"),
        ("a[-5m+35m]", "a[-5m + 35m]"),
        ("a[STEP()^2*3]", "a[step() ^ 2 * 3]"),
        ("a[-(range())]", "a[-(range())]"),
        ("a[(5m)]", "a[(5m)]"),
        (
            "a[max_of(5m,min_of(1,step())):2*step()]",
            "a[max_of(5m, min_of(1, step())):2 * step()]",
        ),
        ("a offset (5m+2)", "a offset (5m + 2)"),
        ("a offset 5m+2", "a offset 5m + 2"),
        ("a offset -step()", "a offset -step()"),
        ("a offset -(1m+1)", "a offset -(1m + 1)"),
        ("a[1h:step()] @ start()", "a[1h:step()] @ start()"),
        (
            "start()+end()*range()-step()",
            "start() + end() * range() - step()",
        ),
        ("min_of(1,2)", "min_of(1, 2)"),
        ("info(a,{b=~\".*\"})", "info(a, {b=~\".*\"})"),
        (
            "label_replace(a,'x',\"$1\",'y',`(.*)`)",
            "label_replace(a, \"x\", \"$1\", \"y\", \"(.*)\")",
        ),
        ("time()", "time()"),
        ("day_of_week()", "day_of_week()"),
        ("foo # comment\n + bar", "foo + bar"),
        // Reserved words as names of metrics and labels.
        ("sum", "sum"),
        ("sum + by", "sum + by"),
        ("offset offset 5m", "offset offset 5m"),
        ("and and or", "and and or"),
        ("sum by (on, sum) (group)", "sum by (on, sum) (group)"),
        ("start{end=\"x\"}", "start{end=\"x\"}"),
        ("foo{by=\"x\",sum!=\"\"}", "foo{by=\"x\",sum!=\"\"}"),
    ];
    for (text, expect) in table {
        let printed = parse(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .to_string();
        assert_eq!(printed, expect, "{text}");
        assert_eq!(
            parse(&printed).map(|q| q.to_string()).as_deref(),
            Ok(expect),
            "{text} again"
        );
    }
}

#[test]
fn operators_bind_as_they_should() {
    // Parentheses that say what is meant anyway do not change the value.
    let table = [
        ("1 + 2 * 3", "1 + (2 * 3)"),
        ("2 ^ 3 ^ 2", "2 ^ (3 ^ 2)"),
        ("-2 ^ 2", "-(2 ^ 2)"),
        ("10 - 3 - 2", "(10 - 3) - 2"),
        ("8 / 4 * 2", "(8 / 4) * 2"),
        ("7 % 4 * 2", "(7 % 4) * 2"),
        ("1 < bool 2 + 1", "1 < bool (2 + 1)"),
    ];
    for (plain, meant) in table {
        let shape = |text: &str| {
            let query = parse(text).unwrap();
            fn full(expr: &crate::promql::Expr) -> String {
                match &expr.kind {
                    ExprKind::Binary(b) => format!("({} {} {})", full(&b.lhs), b.op, full(&b.rhs)),
                    ExprKind::Unary { expr, .. } => format!("-{}", full(expr)),
                    ExprKind::Paren(inner) => full(inner),
                    _ => expr.to_string(),
                }
            }
            full(&query.expr)
        };
        assert_eq!(shape(plain), shape(meant), "{plain}");
    }
}

#[test]
fn nodes_know_where_they_stand() {
    let text = "sum by (a) (rate(foo[5m] offset 1m)) / 2";
    let query = parse(text).unwrap();
    let ExprKind::Binary(binary) = &query.expr.kind else {
        panic!("a binary expression")
    };
    let at = |span: crate::text::Span| &text[span.start..span.end];
    assert_eq!(at(query.expr.span), text);
    assert_eq!(at(binary.op_span), "/");
    assert_eq!(at(binary.lhs.span), "sum by (a) (rate(foo[5m] offset 1m))");
    let ExprKind::Aggregate(aggregate) = &binary.lhs.kind else {
        panic!("an aggregation")
    };
    let ExprKind::Call { arguments, .. } = &aggregate.expr.kind else {
        panic!("a call")
    };
    assert_eq!(at(arguments[0].span), "foo[5m] offset 1m");
    assert_eq!(arguments[0].value_type(), ValueType::RangeVector);
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow() {
    let deep = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&deep(super::DEPTH_MAX - 1)).is_ok());
    let error = parse(&deep(super::DEPTH_MAX)).unwrap_err().to_string();
    assert!(
        error.ends_with("expression is nested more than 200 levels deep"),
        "{error}"
    );
    assert!(parse(&vec!["1"; 10_000].join("+")).is_err());
    assert!(parse(&"-".repeat(100_000)).is_err());
    assert!(parse(&vec!["1"; super::DEPTH_MAX / 2].join("^")).is_ok());
}

#[test]
fn selectors_alone() {
    let matchers = parse_selector("up{job=\"api\", x!~'a.*'}").unwrap();
    let printed: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    assert_eq!(printed, ["job=\"api\"", "x!~\"a.*\"", "__name__=\"up\""]);
    for text in ["up[5m]", "sum(up)", "{}", "up offset 5m", "1", ""] {
        assert!(parse_selector(text).is_err(), "{text}");
    }
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("foo".to_owned()),
        Just("foo{a=\"b\",c!~\"d.*\"} offset 5m".to_owned()),
        Just("{\"x y\"} @ 5.25".to_owned()),
        Just("rate(foo[5m] @ end())".to_owned()),
        Just("max_over_time(foo[1h:1m])".to_owned()),
        Just("rate(foo[step() * (2 - 1)] smoothed)".to_owned()),
        Just("foo offset -min_of(step(), 5m)".to_owned()),
        (0.0..1e9f64).prop_map(|n| format!("vector({n})")),
    ];
    leaf.prop_recursive(4, 24, 2, |inner| {
        let operator = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("^"),
            Just("% "),
            Just("atan2"),
            Just("== bool"),
            Just("> on(a)"),
            Just("or"),
            Just("and ignoring(b)"),
            Just("- on(a) group_left(b)"),
            Just("+ fill(-1)"),
            Just("- on(a) fill_right(0.5)"),
        ];
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(l, o, r)| format!("{l} {o} {r}")),
            inner.clone().prop_map(|e| format!("({e})")),
            inner.clone().prop_map(|e| format!("-{e}")),
            inner.clone().prop_map(|e| format!("sum by (a, b) ({e})")),
            inner.clone().prop_map(|e| format!("topk(3, {e})")),
            inner.prop_map(|e| format!("abs({e})")),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(text in expression()) {
        let printed = parse(&text).expect(&text).to_string();
        let again = parse(&printed).expect(&printed).to_string();
        prop_assert_eq!(printed, again);
    }

    #[test]
    fn no_text_panics(text in "[a-z0-9(){}\\[\\]\"'`=!~<>+*/%^@:,.# \né-]{0,40}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.position.line >= 1 && error.position.column >= 1);
        }
    }
}
