use proptest::prelude::*;

use super::*;

mod go_answers;

#[test]
fn matches_what_go_matches() {
    for &(pattern, text, found, whole) in go_answers::MATCHES {
        let line = LineRegex::new(pattern).unwrap();
        assert_eq!(
            line.is_match(text.as_bytes()),
            found,
            "{pattern:?} in {text:?}"
        );
        let mut locations = line.locations();
        assert_eq!(
            line.captures(text.as_bytes(), &mut locations),
            found,
            "{pattern:?}"
        );
        let label = LabelRegex::new(pattern).unwrap();
        assert_eq!(label.is_match(text), whole, "{pattern:?} is {text:?}");
        let general = general(pattern).unwrap();
        assert_eq!(
            general.is_match(text.as_bytes()),
            whole,
            "{pattern:?} is {text:?}, general"
        );
    }
}

#[test]
fn refuses_what_go_refuses_in_its_words() {
    for &(pattern, text) in go_answers::REFUSED {
        for error in [
            LineRegex::new(pattern).err(),
            LabelRegex::new(pattern).err(),
        ] {
            let error = error.unwrap_or_else(|| panic!("{pattern:?} was accepted"));
            assert_eq!(error.to_string(), format!("error parsing regexp: {text}"));
            assert_eq!(error.kind(), Kind::Invalid);
        }
    }
}

/// Go takes each byte that is not UTF-8 for one U+FFFD.
#[test]
fn bytes_that_are_not_utf8_are_characters() {
    let lines: [&[u8]; 5] = [
        b"\xff",
        b"a\xffb",
        b"\xe4\xb8",
        b"\xc3\xa9\xffb",
        b"\xc3\xa9",
    ];
    for (pattern, found) in [
        (".", [true, true, true, true, true]),
        ("^.$", [true, false, false, false, true]),
        ("^..$", [false, false, true, false, false]),
        ("^...$", [false, true, false, true, false]),
        ("[^a]", [true, true, true, true, true]),
        (r"\x{FFFD}", [true, true, true, true, false]),
        ("[\u{fffd}]", [true, true, true, true, false]),
        (r"\W", [true, true, true, true, true]),
        (r"\w", [false, true, false, true, false]),
        ("a.b", [false, true, false, false, false]),
        (r"\PL", [true, true, true, true, false]),
        (r"\pL", [false, true, false, true, true]),
        ("é", [false, false, false, true, true]),
        (r"\B", [true, false, true, true, true]),
        ("(?s).*b", [false, true, false, true, false]),
        ("^[^é]*$", [true, true, true, false, false]),
    ] {
        let regex = LineRegex::new(pattern).unwrap();
        assert_eq!(lines.map(|line| regex.is_match(line)), found, "{pattern}");
    }
}

#[test]
fn captures_are_where_go_has_them() {
    let check = |pattern: &str, line: &[u8], expect: &[Option<(usize, usize)>]| {
        let regex = LineRegex::new(pattern).unwrap();
        let mut locations = regex.locations();
        assert!(regex.captures(line, &mut locations), "{pattern}");
        let found: Vec<_> = (0..regex.capture_names().len())
            .map(|i| locations.get(i).map(|range| (range.start, range.end)))
            .collect();
        assert_eq!(found, expect, "{pattern}");
    };
    check("(a)|(b)", b"xb", &[Some((1, 2)), None, Some((1, 2))]);
    check(
        r"(?P<n>\w+)=(\d*)",
        b"\xff k=12",
        &[Some((2, 6)), Some((2, 3)), Some((4, 6))],
    );
    check(
        "(.)(.)$",
        b"\xc3\xa9\xff",
        &[Some((0, 3)), Some((0, 2)), Some((2, 3))],
    );
    check(
        r"(.)\W(.)",
        b"\xffa\xffb",
        &[Some((1, 4)), Some((1, 2)), Some((3, 4))],
    );
    check("(a*)(b)?", b"aa", &[Some((0, 2)), Some((0, 2)), None]);
    check("x*", "é".as_bytes(), &[Some((0, 0))]);
    check("^", b"\x80", &[Some((0, 0))]);
    check(r"\B(.)", "éa".as_bytes(), &[Some((0, 2)), Some((0, 2))]);
}

/// Within a character of several bytes there is no position to match at.
#[test]
fn empty_matches_do_not_split_characters() {
    assert!(!LineRegex::new(r"\B").unwrap().is_match("aéa".as_bytes()));
    let regex = LineRegex::new(r"\B").unwrap();
    assert!(!regex.captures("aéa".as_bytes(), &mut regex.locations()));
    assert!(LineRegex::new(r"\B").unwrap().is_match("aéaa".as_bytes()));
}

#[test]
fn names_keep_their_order_and_may_repeat() {
    let regex = LineRegex::new("(?P<a>.)(x)(?<1>y)(?P<a>z)").unwrap();
    let names: Vec<_> = regex.capture_names().iter().map(Option::as_deref).collect();
    assert_eq!(names, [None, Some("a"), None, Some("1"), Some("a")]);
}

#[test]
fn templates_expand_as_in_go() {
    let regex = LineRegex::new("(?P<a>.)(?P<b>x)?(é)?(?P<b>y)?").unwrap();
    let expand = |template: &str, line: &str| {
        let mut locations = regex.locations();
        assert!(regex.captures(line.as_bytes(), &mut locations));
        let mut out = Vec::new();
        Template::new(template, &regex).expand(line.as_bytes(), &locations, &mut out);
        String::from_utf8(out).unwrap()
    };
    for (template, first, second) in [
        ("$1", "q", "q"),
        ("$2", "x", ""),
        ("${1}x", "qx", "qx"),
        ("$1x", "", ""),
        ("$a-$b", "q-x", "q-y"),
        ("${a}${b}", "qx", "qy"),
        ("$$1", "$1", "$1"),
        ("$", "$", "$"),
        ("$-", "$-", "$-"),
        ("${a", "${a", "${a"),
        ("${}", "${}", "${}"),
        ("${a b}", "${a b}", "${a b}"),
        ("$01", "", ""),
        ("$9", "", ""),
        ("$99999999999999999999", "", ""),
        ("$nope", "", ""),
        ("$é", "", ""),
        ("a$", "a$", "a$"),
        ("$0", "qxé", "qy"),
        ("${0}$1y", "qxé", "qy"),
        ("$$", "$", "$"),
        ("$a$", "q$", "q$"),
        ("", "", ""),
    ] {
        assert_eq!(
            [expand(template, "qxé"), expand(template, "qy")],
            [first, second],
            "{template}"
        );
    }
}

#[test]
fn flags_end_with_their_group() {
    let check = |pattern: &str, text: &str, expect: bool| {
        assert_eq!(
            LabelRegex::new(pattern).unwrap().is_match(text),
            expect,
            "{pattern} {text}"
        );
    };
    for pattern in [
        "((?i)a)b",
        "(?i:a)b",
        "(?:(?i)x|a)b",
        "(?i)a(?-i)b",
        "(?i)a(?-i:b)",
    ] {
        check(pattern, "Ab", true);
        check(pattern, "AB", false);
    }
    check("a(?i)b|c", "aC", false);
    check("a(?i)b|c", "C", true);
    check("(?-s:(?s).a).", "\na\n", true);
    check("(?-s:.a).", "\na\n", false);
    check("(?:(?-s)x|.).", "\n\n", false);
    check("(?:x|(?-s:.)|a).", "a\n", true);
}

#[test]
fn anchored_expressions_match_the_whole_text() {
    let regex = LineRegex::anchored("(.*)-b|a").unwrap();
    let mut locations = regex.locations();
    assert!(regex.captures(b"x\ny-b", &mut locations));
    assert_eq!(locations.get(1), Some(0..3));
    assert!(regex.is_match(b"a") && !regex.is_match(b"ab") && !regex.is_match(b"ba"));
}

#[test]
fn dots_of_label_filters_stop_at_newlines() {
    let filter = LabelRegex::with_dot("a.b|c.*", Dot::NotNewline).unwrap();
    assert!(filter.is_match("axb") && !filter.is_match("a\nb"));
    assert!(filter.is_match("cd") && !filter.is_match("c\n"));
    assert!(LabelRegex::new("c.*").unwrap().is_match("c\n"));
}

#[test]
fn finite_patterns_are_sets() {
    let check = |pattern: &str, expect: Option<&[&str]>| {
        let regex = LabelRegex::new(pattern).unwrap();
        let set = regex
            .set_matches()
            .map(|set| set.iter().map(|s| &**s).collect::<Vec<_>>());
        assert_eq!(set.as_deref(), expect, "{pattern}");
    };
    check("", Some(&[""]));
    check("abc", Some(&["abc"]));
    check("b|a|b", Some(&["a", "b"]));
    check("a(b|c)d", Some(&["abd", "acd"]));
    check("x[12]", Some(&["x1", "x2"]));
    check(
        "x[12][34]?",
        Some(&["x1", "x13", "x14", "x2", "x23", "x24"]),
    );
    check("^a$", Some(&["a"]));
    check("^(?:a|)$", Some(&["", "a"]));
    check(r"10\.0\.0\.1", Some(&["10.0.0.1"]));
    check("(?i)10", Some(&["10"]));
    check("a{2}", Some(&["aa"]));
    check(r"\Qa|b\E", Some(&["a|b"]));
    for pattern in ["(?i)a", "a.*", "a+", "[^a]", r"\pL", "a^", ".", "a|b.*"] {
        check(pattern, None);
    }
}

/// Combinations stop at [`EXPANSION_MAX`]; a plain list does not.
#[test]
fn expansion_ends_at_its_limit() {
    let count = |pattern: &str| {
        LabelRegex::new(pattern)
            .unwrap()
            .set_matches()
            .map(<[_]>::len)
    };
    assert_eq!(count("[0-9a-f][0-9a-f]"), Some(EXPANSION_MAX));
    assert_eq!(count("[0-9a-g][0-9a-f]"), None);
    assert_eq!(count(r"[\x{100}-\x{1ff}]"), Some(EXPANSION_MAX));
    assert_eq!(count(r"[\x{100}-\x{200}]"), None);
    let list: Vec<String> = (0..2000).map(|i| format!("pod-{i}")).collect();
    assert_eq!(count(&list.join("|")), Some(2000));
    assert_eq!(count(&format!("x({})y", list.join("|"))), Some(2000));
    // What would take too much memory is left to the engine.
    assert_eq!(
        count(&format!("{}({})", "x".repeat(10_000), list.join("|"))),
        None
    );
}

#[test]
fn what_is_known_without_matching() {
    let regex = |pattern: &str| LabelRegex::new(pattern).unwrap();
    for (pattern, prefix) in [
        ("abc.*", "abc"),
        ("abc(d|e)f+", "abc"),
        ("^abc.+x", "abc"),
        ("(abc)d.", "abcd"),
        ("(?i)abc.*", ""),
        ("a|b.*", ""),
        (".*abc", ""),
    ] {
        assert_eq!(regex(pattern).prefix(), prefix, "{pattern}");
    }
    assert!(regex(".*").matches_everything() && regex("(.*)").matches_everything());
    assert!(regex(".+").matches_not_empty() && regex("^.+?$").matches_not_empty());
    assert!(!regex("(?-s).*").matches_everything() && !regex("(?-s:.+)").matches_not_empty());
    for (pattern, empty) in [
        ("", true),
        (".*", true),
        ("a?", true),
        ("a|", true),
        (".+", false),
    ] {
        assert_eq!(regex(pattern).matches_empty(), empty, "{pattern}");
    }
}

#[test]
fn limits_hold_at_their_edges() {
    let kind = |pattern: &str| LineRegex::new(pattern).err().map(|error| error.kind());
    assert_eq!(kind(&format!("a{{{REPEAT_MAX}}}")), None);
    assert_eq!(
        kind(&format!("a{{{}}}", REPEAT_MAX + 1)),
        Some(Kind::Invalid)
    );
    assert_eq!(
        LabelRegex::new(&"a".repeat(PATTERN_BYTES_MAX))
            .err()
            .map(|e| e.kind()),
        None
    );
    let long = LabelRegex::new(&"a".repeat(PATTERN_BYTES_MAX + 1));
    assert_eq!(long.err().map(|e| e.kind()), Some(Kind::Limit));

    // Each of these is four levels: repetition, group, alternatives, sequence.
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")*".repeat(depth));
    assert_eq!(kind(&nested(62)), None);
    assert_eq!(kind(&nested(63)), Some(Kind::Limit));
    assert_eq!(kind(&nested(240)), Some(Kind::Limit));
    assert_eq!(kind(&"(".repeat(100_000)), Some(Kind::Limit));
    // Nesting without parentheses.
    assert_eq!(
        kind(&format!("a{}", r"*\Q\E".repeat(100_000))),
        Some(Kind::Limit)
    );

    let error = LineRegex::new(r"(\pL{100}\pN{100}){10}").unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    assert!(
        error.to_string().contains("needs more than 10485760 bytes"),
        "{error}"
    );
}

#[test]
fn translations_stand_in_any_expression() {
    for (pattern, emitted) in [
        ("a.b", r"a(?s:.)b"),
        ("^a$", r"\Aa\z"),
        ("(?m)^a$", r"(?m:^)a(?m:$)"),
        ("(?i)ab", r"(?i:ab)"),
        ("(?U)a+", "a+?"),
        ("(?P<1>a)", "(a)"),
        (r"\bx\B", r"(?-u:\b)x(?-u:\B)"),
        ("[a&&b]", r"[a\x{26}\x{26}b]"),
        (r"[^\W_]", r"[^\x{5F}[^0-9A-Z\x{5F}a-z]]"),
        (r"\p{^L}", r"[\P{gc=l}]"),
        ("a{2,3}?b{4}", r"a{2,3}?b{4,4}"),
    ] {
        assert_eq!(translate(pattern, Dot::AnyChar).unwrap(), emitted);
        regex::Regex::new(emitted).unwrap();
    }
    assert_eq!(translate(".", Dot::NotNewline).unwrap(), r"[^\n]");
}

/// The anchored expression without any fast path.
fn general(pattern: &str) -> Result<regex::bytes::Regex> {
    compile(
        &label::anchored(&translate(pattern, Dot::AnyChar)?),
        pattern,
    )
}

/// Patterns from the pieces that fast paths are made of.
fn simple_pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "ab", ".", ".*", ".+", "|", "(", ")", "(?:", "[ab]", "[^a]", "?", "*", "+", "^",
        "$", "(?i)", "(?-s)", "{0,2}", "k", "é",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Patterns from everything that means something to the parser.
fn wild_pattern() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "é", "(", ")", "(?", "?:", "P<n>", "<", "i", "-", "s", "U", "m", ":", "[", "]", "^",
        "[:", ":]", "alpha", "\\", "p", "P", "{", "}", "L", "Greek", "x", "41", ",", "0", "2",
        "1000", "*", "+", "?", "|", ".", "$", "\\Q", "\\E", "d", "W", "b", "B", "D800", "&&",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn fast_paths_equal_the_engine(
        pattern in simple_pattern(),
        texts in prop::collection::vec("[abkKé\n]{0,5}", 1..12),
    ) {
        let Ok(general) = general(&pattern) else {
            prop_assert!(LabelRegex::new(&pattern).is_err());
            return Ok(());
        };
        let fast = LabelRegex::new(&pattern).unwrap();
        prop_assert_eq!(fast.matches_empty(), general.is_match(b""));
        for text in &texts {
            let whole = general.is_match(text.as_bytes());
            prop_assert_eq!(fast.is_match(text), whole, "{:?} is {:?}", pattern, text);
            if whole {
                prop_assert!(text.starts_with(fast.prefix()));
            }
        }
        for text in fast.set_matches().unwrap_or_default() {
            prop_assert!(general.is_match(text.as_bytes()));
        }
    }

    /// What the parser accepts the engine accepts too, unless it is too large.
    #[test]
    fn no_pattern_panics(
        pattern in prop_oneof![wild_pattern(), "\\PC{0,12}", any::<String>()],
        line: Vec<u8>,
    ) {
        match LineRegex::new(&pattern) {
            Ok(regex) => {
                let mut locations = regex.locations();
                let found = regex.captures(&line, &mut locations);
                prop_assert_eq!(found, regex.is_match(&line));
                for group in 0..regex.capture_names().len() {
                    if found && let Some(range) = locations.get(group) {
                        prop_assert!(line.get(range).is_some());
                    }
                }
            }
            Err(error) => prop_assert_ne!(error.kind(), Kind::Unsupported, "{}", error),
        }
    }

    #[test]
    fn no_template_panics(template: String, wild in "[$\\{\\}a-c0-2é_]{0,12}") {
        let regex = LineRegex::new("(?P<a>a)|(b)").unwrap();
        let mut locations = regex.locations();
        prop_assert!(regex.captures(b"b", &mut locations));
        for template in [template, wild] {
            Template::new(&template, &regex).expand(b"b", &locations, &mut Vec::new());
        }
    }
}
