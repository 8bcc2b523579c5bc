//! Tests of the lexer.

use super::{Token, tokenize};

/// The names of the tokens of `text`, without the end.
fn names(text: &str) -> String {
    let tokens = tokenize(text);
    let names = tokens.iter().filter(|(token, _)| *token != Token::End);
    names
        .map(|(token, _)| token.name())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn texts_split_into_tokens() {
    let check = |text: &str, expect: &str| assert_eq!(names(text), expect, "{text}");
    check("{foo=\"bar\"}", "{ IDENTIFIER = STRING }");
    check(
        "{foo=`b\"r`} |~ \"\\\\w+\"",
        "{ IDENTIFIER = STRING } |~ STRING",
    );
    check("foo = 0ms", "IDENTIFIER = DURATION");
    check("size > 250kB", "IDENTIFIER > BYTES");
    check(
        "1.5h 10GiB 1e3 .5 0x1p-3 1_000",
        "DURATION BYTES NUMBER NUMBER NUMBER NUMBER",
    );
    check("1mb", "DURATION IDENTIFIER");
    check("-123.45", "- NUMBER");
    check("1+1--1", "NUMBER + NUMBER - - NUMBER");
    check(
        "logfmt --strict --keep-empty",
        "logfmt FUNCTION_FLAG FUNCTION_FLAG",
    );
    check("ip", "IDENTIFIER");
    check("ip(\"::1\")", "ip ( STRING )");
    check("SUM BY (a) rate (", "SUM by ( IDENTIFIER ) RATE (");
    check("sum without", "IDENTIFIER without");
    check(
        "count_over_time({a=\"b\"}[5m])",
        "COUNT_OVER_TIME ( { IDENTIFIER = STRING } RANGE )",
    );
    check("a # b\n c", "IDENTIFIER IDENTIFIER");
    check("a ; b", "IDENTIFIER IDENTIFIER IDENTIFIER");
    check("\u{feff}a'b'", "IDENTIFIER IDENTIFIER");
    check("'ab'", "$unk");
    check("x > -123ms -5", "IDENTIFIER > DURATION - NUMBER");
    check("1-5m", "NUMBER DURATION");
    check("label_replace(", "label_replace (");
    check("\"a\nb\"", "$unk");
    check("[0s]", "$unk");
}

#[test]
fn strings_lose_quotes_and_escapes() {
    let check = |text: &str, expect: &str| {
        let token = tokenize(text).into_iter().next().map(|(token, _)| token);
        assert_eq!(token, Some(Token::Text(expect.to_owned())), "{text}");
    };
    check("\"a\\tb\\\"\"", "a\tb\"");
    check("`a\\tb\"`", "a\\tb\"");
    check("`a\nb`", "a\nb");
    check("\"\\u00e4\"", "ä");
}
