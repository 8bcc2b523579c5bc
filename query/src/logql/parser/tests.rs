//! Tests of the parser and the printer: error texts, canonical forms, limits.

use super::{NESTING_MAX, OPERATORS_MAX, QUERY_BYTES_MAX, parse, parse_bytes, parse_selector};
use crate::logql::ast::MetricKind;

fn check_error(query: &str, expect: &str) {
    match parse(query) {
        Ok(expr) => panic!("{query} was read as {expr}"),
        Err(error) => assert_eq!(error.to_string(), expect, "{query}"),
    }
}

fn check_print(query: &str, expect: &str) {
    match parse(query) {
        Ok(expr) => assert_eq!(expr.to_string(), expect, "{query}"),
        Err(error) => panic!("{query}: {error}"),
    }
    let again = parse(expect).unwrap_or_else(|error| panic!("{expect}: {error}"));
    assert_eq!(again.to_string(), expect, "printing is a fixed point");
}

#[test]
fn syntax_errors_name_place_token_and_what_would_do() {
    let at = |position: &str, text: &str| format!("parse error at {position}: {text}");
    let check = |query, position: &str, text: &str| check_error(query, &at(position, text));
    check_error("", "parse error : syntax error: unexpected $end");
    check(
        "{a=\"b\"",
        "line 1, col 7",
        "syntax error: unexpected $end, expecting } or ,",
    );
    check(
        "{a",
        "line 1, col 3",
        "syntax error: unexpected $end, expecting = or =~ or !~ or !=",
    );
    check(
        "{a=b}",
        "line 1, col 4",
        "syntax error: unexpected IDENTIFIER, expecting STRING",
    );
    check(
        "{a=\"b\",}",
        "line 1, col 8",
        "syntax error: unexpected }, expecting IDENTIFIER",
    );
    check(
        "{by=\"b\"}",
        "line 1, col 2",
        "syntax error: unexpected by, expecting IDENTIFIER or }",
    );
    check("{a=\"b}", "line 1, col 4", "literal not terminated");
    check(
        "{a=\"b\"} |~",
        "line 1, col 11",
        "syntax error: unexpected $end, expecting STRING or ip",
    );
    check(
        "{a=\"b\"} \"c\"",
        "line 1, col 9",
        "syntax error: unexpected STRING",
    );
    check(
        "{a=\"b\"} c",
        "line 1, col 9",
        "syntax error: unexpected IDENTIFIER",
    );
    check(
        "{a=\"b\"}\n  | json |",
        "line 2, col 11",
        "syntax error: unexpected $end",
    );
    check(
        "{ä=\"ö\"} c",
        "line 1, col 9",
        "syntax error: unexpected IDENTIFIER",
    );
    check(
        "#{a=\"b\"}",
        "line 1, col 9",
        "syntax error: unexpected $end",
    );
    check(
        "rate({a=\"b\"}[5)",
        "line 0, col 13",
        "missing closing ']' in duration",
    );
    check(
        "rate({a=\"b\"}[5minutes])",
        "line 0, col 13",
        "unknown unit \"minutes\" in duration \"5minutes\"",
    );
    check(
        "min({a=\"b\"}[5m])",
        "line 0, col 12",
        "syntax error: unexpected RANGE",
    );
    check(
        "stddev({a=\"b\"})",
        "line 1, col 15",
        "syntax error: unexpected )",
    );
    check(
        "rate({a=\"b\"})",
        "line 1, col 13",
        "syntax error: unexpected )",
    );
    check(
        "vector(abc)",
        "line 1, col 8",
        "syntax error: unexpected IDENTIFIER, expecting NUMBER",
    );
    check(
        "-rate({a=\"b\"}[1m])",
        "line 1, col 2",
        "syntax error: unexpected RATE, expecting NUMBER",
    );
    check(
        "count without (rate({a=\"b\"}[15s]))",
        "line 1, col 16",
        "syntax error: unexpected RATE, expecting IDENTIFIER or )",
    );
    check(
        "bottomk(he,rate({a=\"b\"}[5h]))",
        "line 1, col 9",
        "syntax error: unexpected IDENTIFIER",
    );
    check(
        "bool 1 > 1",
        "line 1, col 1",
        "syntax error: unexpected bool",
    );
    check(
        "{a=\"b\"} | c >= ip(\"::1\")",
        "line 1, col 16",
        "syntax error: unexpected ip",
    );
    check(
        "{a=\"b\"} | c == \"d\"",
        "line 1, col 16",
        "syntax error: unexpected STRING",
    );
    check(
        "{a=\"b\"} | c > 1mb",
        "line 1, col 18",
        "syntax error: unexpected $end",
    );
    check(
        "{a=\"b\"} | drop",
        "line 1, col 15",
        "syntax error: unexpected $end, expecting IDENTIFIER",
    );
    check(
        "label_replace(rate({a=\"b\"}[5m]),\"\")",
        "line 1, col 35",
        "syntax error: unexpected ), expecting ,",
    );
    check(
        "{a=\"b\"} | unwrap c",
        "line 1, col 11",
        "syntax error: unexpected unwrap",
    );
}

#[test]
fn errors_of_meaning_have_no_place() {
    let check = |query: &str, text: &str| check_error(query, &format!("parse error : {text}"));
    let broad = "queries require at least one regexp or equality matcher that does not have an \
        empty-compatible value. For instance, app=~\".*\" does not meet this requirement, but \
        app=~\".+\" will";
    for query in [
        "{}",
        "{a=~\".*\"}",
        "{a!=\"b\"}",
        "1 + rate({a!~\"b|c\"}[5m])",
    ] {
        check(query, broad);
    }
    let rate = "rate({a=\"b\"}[5m])";
    check(
        &format!("sum({rate}) or 1"),
        "unexpected literal for right leg of logical/set binary operation (or): 1.000000",
    );
    check(
        &format!("1 unless {rate}"),
        "unexpected literal for left leg of logical/set binary operation (unless): 1.000000",
    );
    check(
        "{a=\"b\"} + {a=\"b\"}",
        "unexpected type for left leg of binary operation (+): *syntax.MatchersExpr",
    );
    check(
        &format!("{rate} > {{a=\"b\"}} | json"),
        "unexpected type for right leg of binary operation (>): *syntax.PipelineExpr",
    );
    check(
        "topk(rate({a=\"b\"}[5h]))",
        "parameter required for operation topk",
    );
    check(
        "bottomk(1.2,rate({a=\"b\"}[5h]))",
        "invalid parameter bottomk(1.2,",
    );
    check(
        "topk(0,rate({a=\"b\"}[5h]))",
        "invalid parameter (must be greater than 0) topk(0",
    );
    check(
        "sum(1,rate({a=\"b\"}[5h]))",
        "unsupported parameter for operation sum(1,",
    );
    check(
        "rate(2,{a=\"b\"}[5h])",
        "parameter 2 not supported for operation rate",
    );
    check(
        "sort(rate({a=\"b\"}[5h])) by (c)",
        "sort and sort_desc doesn't allow grouping by ",
    );
    check(
        "quantile_over_time({a=\"b\"} | unwrap c [5m])",
        "parameter required for operation quantile_over_time",
    );
    check(
        "absent_over_time({a=\"b\"}[5h]) by (c)",
        "grouping not allowed for absent_over_time aggregation",
    );
    check(
        "sum_over_time({a=\"b\"}[5m])",
        "invalid aggregation sum_over_time without unwrap",
    );
    check(
        "bytes_rate({a=\"b\"} | unwrap c [5m])",
        "invalid aggregation bytes_rate with unwrap",
    );
    check(
        "{a=\"b\"} | c > 0x10",
        "unable to parse literal as a float: strconv.ParseFloat: parsing \"0x10\": invalid syntax",
    );
    check(
        "{a=\"b\"} | label_format c=d,c=e",
        "multiple label name 'c' not allowed in a single format operation",
    );
    check(
        "{a=\"b\"} | label_format __error__=d",
        "__error__ cannot be formatted",
    );
}

#[test]
fn what_is_read_prints_in_canonical_form() {
    let same = |query| check_print(query, query);
    same("{a=\"b\", c!=\"d\"}");
    same("{a=\"b\"} |= \"c\" |~ \"d\" |> \"e\" !> \"f\" != \"g\" !~ \"h\"");
    same("{a=\"b\"} |= \"c\" or \"d\" or ip(\"10.0.0.0/8\")");
    same("{a=\"b\"} | logfmt --strict --keep-empty c=\"d\" | e=ip(\"::1\") | f=\"g\"");
    same("{a=\"b\"} | foo=~\".*\"");
    same("{a=\"b\"} | msg=~`\\w.*`");
    same("{a=\"b\"} | logfmt | msg=~\"`.\\\"`\"");
    same(
        "{a=\"b\"} | json c=\"c\",d=\"e[0]\" | line_format \"\\n\" | label_format a=b,c=\"{{.d}}\"",
    );
    same("{a=\"b\"} | unpack | decolorize | drop c,d=\"e\" | keep f");
    same("{a=\"b\"} | ( c>1 or ( d<250ms and e>=10GB ) )");
    same("sum by (c,d)(rate({a=\"b\"}[1d]))");
    same(
        "quantile_over_time(0.9,{a=\"b\"} | unwrap duration(c) | d=\"e\"[5m] offset 1h0m0s) by (f)",
    );
    same("(rate({a=\"b\"}[1m]) / on (c) group_left (d) rate({a=\"b\"}[5m]))");
    same("vector(1.5)");
    check_print("{a=\"b\"} != \"c\" or \"d\"", "{a=\"b\"} != \"c\" != \"d\"");
    check_print(
        "{a=\"b\"} | counter>-1 | counter=2",
        "{a=\"b\"} | counter>-1 | counter==2",
    );
    check_print("1 > 1 > 1", "0");
    check_print("2 ^ 3 ^ 0", "2");
    check_print("1+1--1", "3");
    check_print("10 / (5 / 2)", "4");
    check_print(
        "1 > bool 1 > count_over_time({a=\"b\"}[1m])",
        "(0 > count_over_time({a=\"b\"}[1m]))",
    );
    check_print(
        "RATE({a=\"b\"}[1m] |= \"c\")",
        "rate({a=\"b\"} |= \"c\"[1m])",
    );
    check_print(
        "(rate((({a=\"b\"} | json)[1m])))",
        "rate({a=\"b\"} | json[1m])",
    );
    check_print(
        "Sum(rate({a=\"b\"}[1m])) By (c)",
        "sum by (c)(rate({a=\"b\"}[1m]))",
    );
}

#[test]
fn conditions_bind_like_this() {
    let check = |filter: &str, expect: &str| {
        check_print(
            &format!("{{a=\"b\"}} | {filter}"),
            &format!("{{a=\"b\"}} | {expect}"),
        );
    };
    check("a>1 or b>2 and c>3", "( a>1 or ( b>2 and c>3 ) )");
    check("a>1 and b>2 or c>3", "( ( a>1 and b>2 ) or c>3 )");
    check("a>1, b>2 or c>3", "( a>1 and ( b>2 or c>3 ) )");
    check("a>1 b>2 c>3", "( a>1 and b>2 and c>3 )");
    check("(a>1 or b>2) and c>3", "( ( a>1 or b>2 ) and c>3 )");
}

#[test]
fn words_are_functions_only_where_they_are_called() {
    for query in [
        "{rate=\"x\"}",
        "{a=\"b\"} | json | count > 1",
        "{a=\"b\"} | sum = \"a\" | ip = \"c\"",
        "sum by (count,rate)(rate({a=\"b\"}[1m]))",
        "rate({a=\"b\"} | unwrap bytes [1m])",
    ] {
        assert!(parse(query).is_ok(), "{query}");
    }
}

#[test]
fn spans_are_bytes_of_the_query() {
    let query = "sum( rate({ä=\"b\"} | json [1m]) )";
    let super::Expr::Metric(sum) = parse(query).unwrap() else {
        panic!("not a metric")
    };
    assert_eq!(&query[sum.span.start..sum.span.end], query);
    let MetricKind::Aggregate(sum) = sum.kind else {
        panic!("not a sum")
    };
    assert_eq!(
        &query[sum.inner.span.start..sum.inner.span.end],
        "rate({ä=\"b\"} | json [1m])"
    );
    let MetricKind::Range(rate) = &sum.inner.kind else {
        panic!("not a range")
    };
    let stage = rate.range.log.stages.first().unwrap();
    assert_eq!(&query[stage.span.start..stage.span.end], "| json");
    let error = parse("{a=\"b\"} | json\n| x = ").unwrap_err();
    assert_eq!((error.span.start, error.span.end), (21, 21));
}

#[test]
fn selectors_for_listings_may_be_empty() {
    assert!(parse_selector("{}").unwrap().is_empty());
    assert_eq!(parse_selector("{a=~\".*\", b!=\"c\"}").unwrap().len(), 2);
    assert_eq!(parse_selector("({a=\"b\"})").unwrap().len(), 1);
    let check = |text: &str, expect: &str| {
        assert_eq!(parse_selector(text).unwrap_err().to_string(), expect);
    };
    for more in ["{a=\"b\"} |= \"c\"", "rate({a=\"b\"}[5m])", "1"] {
        check(more, "only label matchers are supported");
    }
    check(
        "{a",
        "parse error at line 1, col 3: syntax error: unexpected $end, expecting = or =~ or !~ or !=",
    );
}

#[test]
fn bytes_that_are_no_text_are_a_mistake_like_others() {
    let check = |query: &[u8], expect: &str| {
        let error = parse_bytes(query).unwrap_err().to_string();
        assert_eq!(error, expect, "{query:?}");
    };
    assert!(parse_bytes("{a=\"ä\"}".as_bytes()).is_ok());
    check(
        b"{a=\"b\xff\"}",
        "parse error at line 1, col 4: invalid UTF-8 encoding",
    );
    check(
        b"{a=\"b\"}\n|= `\xc3`",
        "parse error at line 2, col 4: invalid UTF-8 encoding",
    );
    check(
        b"{a b \xff",
        "parse error at line 1, col 4: syntax error: unexpected IDENTIFIER, expecting = or =~ \
         or !~ or !=",
    );
}

#[test]
fn limits_hold_at_their_edges() {
    let long = |length: usize| format!("{{a=\"{}\"}}", "b".repeat(length - 6));
    assert!(parse(&long(QUERY_BYTES_MAX)).is_ok());
    let length = QUERY_BYTES_MAX + 1;
    check_error(
        &long(length),
        &format!("parse error : input size too long ({length} > {QUERY_BYTES_MAX})"),
    );
    // The innermost expression is a level of its own.
    let deep = |levels: usize| format!("{}1{}", "(".repeat(levels - 1), ")".repeat(levels - 1));
    assert!(parse(&deep(NESTING_MAX)).is_ok());
    check_error(
        &deep(NESTING_MAX + 1),
        &format!("parse error : the query nests deeper than {NESTING_MAX} levels"),
    );
    // Conditions side by side are no levels, unlike alternatives behind a comma.
    for between in [", ", " and ", " or ", " "] {
        let conditions = vec!["c>1"; 5000].join(between);
        assert!(parse(&format!("{{a=\"b\"}} | {conditions}")).is_ok());
    }
    let alternating = |commas: usize| format!("{{a=\"b\"}} | c>1{}", " or c>2, c>3".repeat(commas));
    assert!(parse(&alternating(NESTING_MAX - 1)).is_ok());
    check_error(
        &alternating(NESTING_MAX),
        &format!("parse error : the query nests deeper than {NESTING_MAX} levels"),
    );
    let wide = |operators: usize| format!("1{}", "+1".repeat(operators));
    assert!(parse(&wide(OPERATORS_MAX)).is_ok());
    check_error(
        &wide(OPERATORS_MAX + 1),
        &format!("parse error : the query has more than {OPERATORS_MAX} binary operators"),
    );
}
