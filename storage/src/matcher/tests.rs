use super::*;
use crate::error::Kind;

#[test]
fn matchers_treat_a_missing_label_as_empty() {
    let labels = Labels::from_pairs([("job", "api"), ("env", "prod")]).unwrap();
    for (op, name, value, labels_match, empty_matches) in [
        (MatchOp::Equal, "job", "api", true, false),
        (MatchOp::Equal, "job", "ap", false, false),
        (MatchOp::Equal, "none", "", true, true),
        (MatchOp::Equal, "job", "", false, true),
        (MatchOp::NotEqual, "job", "api", false, true),
        (MatchOp::NotEqual, "none", "x", true, true),
        (MatchOp::NotEqual, "none", "", false, false),
        (MatchOp::NotEqual, "job", "", true, false),
        (MatchOp::Match, "job", "a.*|b", true, false),
        (MatchOp::Match, "job", "a", false, false),
        (MatchOp::Match, "none", "x?", true, true),
        (MatchOp::Match, "none", ".+", false, false),
        (MatchOp::NotMatch, "job", "a.i", false, true),
        (MatchOp::NotMatch, "job", "a", true, true),
        (MatchOp::NotMatch, "none", ".*", false, false),
        (MatchOp::NotMatch, "env", "", true, false),
    ] {
        let matcher = Matcher::new(op, name, value).unwrap();
        assert_eq!(matcher.matches_labels(&labels), labels_match, "{matcher}");
        assert_eq!(matcher.matches_empty(), empty_matches, "{matcher}");
    }
}

#[test]
fn a_bad_expression_is_refused_only_where_it_is_one() {
    let error = Matcher::new(MatchOp::Match, "job", "a(").unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(
        error.to_string(),
        "error parsing regexp: missing closing ): `a(`"
    );
    assert!(Matcher::new(MatchOp::NotMatch, "job", "a(").is_err());
    assert!(Matcher::new(MatchOp::Equal, "job", "a(").is_ok());
    assert_eq!(
        Matcher::equal("job", "a("),
        Matcher::new(MatchOp::Equal, "job", "a(").unwrap()
    );
}

/// The right column is what Go's `strconv.Quote` gives.
#[test]
fn values_are_quoted_as_in_go() {
    for (value, quoted) in [
        ("", r#""""#),
        ("a\"b\\c", r#""a\"b\\c""#),
        ("\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
        ("\0\x1f\x7f", r#""\x00\x1f\x7f""#),
        ("é世", r#""é世""#),
        (
            "\u{200b}\u{a0}\u{301}a\u{301}",
            "\"\\u200b\\u00a0\u{301}a\u{301}\"",
        ),
        ("\u{1f600}\u{e0001}", "\"\u{1f600}\\U000e0001\""),
        ("'`{}", r#""'`{}""#),
        ("\u{2028}\u{fffd}\u{feff}", "\"\\u2028\u{fffd}\\ufeff\""),
        ("\u{378}", r#""\u0378""#),
    ] {
        let matcher = Matcher::equal("n", value);
        assert_eq!(matcher.to_string(), format!("n={quoted}"));
    }
    let matcher = Matcher::new(MatchOp::NotMatch, "n", r"\d").unwrap();
    assert_eq!(matcher.to_string(), r#"n!~"\\d""#);
}
