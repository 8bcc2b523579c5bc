use proptest::prelude::*;

use super::*;
use crate::regex::LineRegex;

/// `a & b`, `a | b`, texts in quotes, with `i` in front when letter case is ignored.
fn shown(required: &Required) -> String {
    let join = |parts: &[Required], with: &str| {
        let parts: Vec<String> = parts.iter().map(shown).collect();
        format!("({})", parts.join(with))
    };
    match required {
        Required::Nothing => "nothing".to_owned(),
        Required::Literal { text, fold } => format!("{}{text:?}", if *fold { "i" } else { "" }),
        Required::All(parts) => join(parts, " & "),
        Required::Any(parts) => join(parts, " | "),
    }
}

#[test]
fn what_is_required() {
    for (pattern, expected) in [
        ("", "nothing"),
        ("error", r#""error""#),
        ("(?i)error", r#"i"error""#),
        ("(?i)error 7", r#"i"error 7""#),
        ("err.*or", r#"("err" & "or")"#),
        ("err.or", r#"("err" & "or")"#),
        ("timeout|refused", r#"("timeout" | "refused")"#),
        ("(?i:timeout|refused)", r#"(i"timeout" | i"refused")"#),
        ("timeout|.*", "nothing"),
        ("a(b|c)d", r#"("abd" | "acd")"#),
        ("[ab]", "nothing"),
        ("a|bc", "nothing"),
        ("[a-e]f", r#""f""#),
        ("[Ee]rror", r#"("Error" | "error")"#),
        ("user=(\\d+) id", r#"("user=" & " id")"#),
        ("^GET /api$", r#""GET /api""#),
        (r"\berror\b", r#""error""#),
        ("x*", "nothing"),
        ("x?y", r#""y""#),
        ("(ab)+c", r#"("ab" & "c")"#),
        ("(ab){2}c", r#""ababc""#),
        ("(ab){2,3}c", r#"("ab" & "c")"#),
        ("(a|b.c|d)", r#"("a" | ("b" & "c") | "d")"#),
        ("a\u{fffd}b", r#"("a" & "b")"#),
        ("[\u{fffd}]b", r#""b""#),
        ("[^a]b", r#""b""#),
        (r"\d\d:\d\d", r#"":""#),
        (
            "status=50[0234]",
            r#"("status=500" | "status=502" | "status=503" | "status=504")"#,
        ),
    ] {
        let found = shown(LineRegex::new(pattern).unwrap().required());
        assert_eq!(found, expected, "{pattern}");
    }
}

#[test]
fn bounds_at_their_edges() {
    let list = |count: usize| {
        let words: Vec<String> = (0..count).map(|i| format!("w{i}")).collect();
        LineRegex::new(&words.join("|")).unwrap()
    };
    let Required::Any(parts) = list(REQUIRED_LITERALS_MAX).required().clone() else {
        panic!("a list is a list");
    };
    assert_eq!(parts.len(), REQUIRED_LITERALS_MAX);
    assert_eq!(
        *list(REQUIRED_LITERALS_MAX + 1).required(),
        Required::Nothing
    );
    let text = |len: usize| LineRegex::new(&"x".repeat(len)).unwrap();
    assert_ne!(*text(REQUIRED_BYTES_MAX).required(), Required::Nothing);
    assert_eq!(*text(REQUIRED_BYTES_MAX + 1).required(), Required::Nothing);
    let all = vec!["x."; REQUIRED_LITERALS_MAX + 1].concat();
    let Required::All(parts) = LineRegex::new(&all).unwrap().required().clone() else {
        panic!("a sequence is a sequence");
    };
    assert_eq!(parts.len(), REQUIRED_LITERALS_MAX);
}

fn holds(required: &Required, line: &[u8]) -> bool {
    match required {
        Required::Nothing => true,
        Required::Literal { text, fold: false } => {
            memchr::memmem::find(line, text.as_bytes()).is_some()
        }
        Required::Literal { text, fold: true } => {
            let pattern = format!("(?i:{})", regex::escape(text));
            regex::bytes::Regex::new(&pattern).unwrap().is_match(line)
        }
        Required::All(parts) => parts.iter().all(|part| holds(part, line)),
        Required::Any(parts) => parts.iter().any(|part| holds(part, line)),
    }
}

fn patterns() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        8 => "[abkKsS]{1,3}",
        2 => Just("\u{212a}".to_owned()),
        1 => Just("\u{fffd}".to_owned()),
        2 => Just("[ab]".to_owned()),
        1 => Just("[^a]".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(r"\b".to_owned()),
        1 => Just(r"\B".to_owned()),
        1 => Just("^".to_owned()),
        1 => Just(r"\W".to_owned()),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            4 => several.clone().prop_map(|parts| parts.concat()),
            3 => several.prop_map(|parts| format!("({})", parts.join("|"))),
            1 => inner.clone().prop_map(|part| format!("(?i:{part})")),
            2 => (inner, prop::sample::select(vec!["*", "+", "?", "{2}", "{1,2}", "{0}"]))
                .prop_map(|(part, count)| format!("(?:{part}){count}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_match_has_what_is_required(
        pattern in patterns(),
        line in prop::collection::vec(
            prop::sample::select(vec![
                "a", "b", "k", "K", "s", "S", "\u{17f}", "\u{212a}", " ", "ab", "\u{fffd}",
            ]),
            0..8,
        ),
        invalid in prop::option::of(0..8usize),
    ) {
        let mut line = line.concat().into_bytes();
        if let Some(at) = invalid {
            line.insert(at.min(line.len()), 0xff);
        }
        let regex = LineRegex::new(&pattern).unwrap();
        if regex.is_match(&line) {
            prop_assert!(holds(regex.required(), &line), "{} in {:?}", shown(regex.required()), line);
        }
    }
}
