//! Parsers against naive versions, and pipelines that look ahead against ones that do not.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use trine_storage::Labels;

use crate::logql::ast::Expr;
use crate::logql::parse;
use crate::logql::pipeline::Pipeline;
use crate::logql::pipeline::labels::{Ahead, Category, Wanted};

type Row = (Vec<u8>, BTreeMap<String, String>);

fn pipeline(query: &str, wanted: Wanted) -> Pipeline {
    let Ok(Expr::Log(log)) = parse(query) else {
        panic!("{query}");
    };
    Pipeline::new(&log.stages, wanted).unwrap()
}

/// What comes out, by the names in `shown`.
fn row(pipeline: &Pipeline, line: &str, stream: &Labels, shown: &Wanted) -> Option<Row> {
    let (empty, mut scratch) = (Labels::empty(), pipeline.scratch());
    let passed = pipeline.run(line.as_bytes(), stream, &empty, &mut scratch)?;
    let mut labels = BTreeMap::new();
    passed.labels.each(|category, name, value| {
        if category == Category::Parsed && shown.contains(name) {
            labels.insert(name.to_owned(), value.to_owned());
        }
    });
    for name in ["__error__", "__error_details__"] {
        if let Some(value) = passed.labels.get(name).filter(|_| shown.contains(name)) {
            labels.insert(name.to_owned(), value.to_owned());
        }
    }
    Some((passed.line.into_owned(), labels))
}

fn extracted(stage: &str, line: &str) -> BTreeMap<String, String> {
    let pipeline = pipeline(&format!("{{a=\"b\"}} | {stage}"), Wanted::All);
    row(&pipeline, line, &Labels::empty(), &Wanted::All)
        .unwrap()
        .1
}

/// A key as a label's name, a character at a time.
fn sanitized(key: &str) -> String {
    let mut name = String::new();
    for c in key.trim_matches([' ', '\t', '\n', '\r', '\u{c}']).chars() {
        if name.is_empty() && c.is_ascii_digit() {
            name.push('_');
        }
        name.push(if c.is_ascii_alphanumeric() { c } else { '_' });
    }
    name
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(members) => {
            for (key, value) in members {
                let name = if path.is_empty() {
                    sanitized(key)
                } else {
                    format!("{path}_{}", sanitized(&format!("x{key}")).get(1..).unwrap())
                };
                flatten(&name, value, into);
            }
            return;
        }
        Value::Null | Value::Array(_) => return,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    into.entry(path.to_owned()).or_insert(text);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c\"\\\\/\n\té€😀 ]{0,6}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c][a-d0-9.é-]{0,3}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-d0-9][a-d0-9.é-]{0,3}", value, 0..5)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

const FILTERS: [&str; 10] = [
    "a=\"1\"",
    "a!=\"1\"",
    "b=~\"[12]\"",
    "a>1",
    "b<=2 or a=\"x\"",
    "c>1s and a!=\"x\"",
    "b=\"\"",
    "__error__=\"\"",
    "c>=1KB",
    "a=ip(\"1.1.1.1\")",
];

const PARSERS: [&str; 8] = [
    "json",
    "logfmt",
    "logfmt --strict",
    "json a, b=\"c\"",
    "logfmt a, c=\"b\"",
    "pattern `a=<a> <b> <c>`",
    "regexp \"a=(?P<a>.) b=(?P<b>.)\"",
    "unpack",
];

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["1", "2", "x", "", "2s", "5KB", "1.1.1.1"]).prop_map(str::to_owned)
}

fn line() -> impl Strategy<Value = String> {
    let pair = (prop::sample::select(vec!["a", "b", "c", "s"]), value());
    (prop::collection::vec(pair, 0..5), 0..4u8).prop_map(|(pairs, kind)| {
        let each = pairs.iter().map(|(key, value)| match kind {
            0 | 1 => format!("\"{key}\":\"{value}\""),
            _ => format!("{key}={value}"),
        });
        let all: Vec<String> = each.collect();
        match kind {
            0 => format!("{{{}}}", all.join(",")),
            1 => format!("{{{}", all.join(",")),
            2 => all.join(" "),
            _ => format!("{} =", all.join(" ")),
        }
    })
}

fn stages() -> impl Strategy<Value = String> {
    let stage = prop_oneof![
        4 => prop::sample::select(PARSERS.to_vec()),
        4 => prop::sample::select(FILTERS.to_vec()),
        1 => prop::sample::select(vec!["drop a", "keep a, b", "label_format a=b, c=\"{{.a}}1\""]),
    ];
    prop::collection::vec(stage, 1..6).prop_map(|stages| stages.join(" | "))
}

/// Names of labels, and keys that become them.
const LONG: [(&str, &[&str]); 3] = [
    (
        "detected_level",
        &[
            "detected_level",
            "detected-level",
            "\\u0064etected_level",
            "detected",
        ],
    ),
    ("path", &["path", " path ", "pa\\u0074h", "o"]),
    ("_9lives", &["9lives", "_9lives", "9live"]),
];

/// JSON, cut or not, and pairs, with such keys or without.
fn long_line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(LONG.iter().flat_map(|(_, keys)| *keys).collect::<Vec<_>>());
    let member = (key, value(), 0..4u8).prop_map(|(key, value, kind)| match kind {
        0 => format!("\"{key}\":{{\"level\":\"{value}\",\"path\":1}}"),
        1 => format!("\"{key}\" : [1, {{\"path\":2}}]"),
        _ => format!("\"{key}\":\"{value}\""),
    });
    (prop::collection::vec(member, 0..5), 0..5u8).prop_map(|(members, kind)| match kind {
        0 | 1 => format!("{{{}}}", members.join(",")),
        2 => format!("{{ {} , \"pathless\": nul }}", members.join(",")),
        3 => format!("{{{}", members.join(" ,")),
        _ => members
            .join(" ")
            .replace(['{', '}'], "")
            .replace("\":", "=")
            .replace('"', ""),
    })
}

/// Parsers and conditions, of which some see errors and some do not.
fn long_stages() -> impl Strategy<Value = String> {
    let stage = prop_oneof![
        4 => prop::sample::select(vec!["json", "logfmt", "logfmt --strict", "logfmt --keep-empty"]),
        2 => prop::sample::select(vec![
            "path=\"1\"", "detected_level!=\"2\"", "_9lives>1", "__error__=\"\"",
            "path=ip(\"1.1.1.1\")", "__error__!=\"JSONParserErr\" or path=\"x\"",
        ]),
        1 => prop::sample::select(vec![
            "drop __error__", "drop path", "drop pod", "keep path, __error__",
            "drop __error__=\"JSONParserErr\"", "label_format path=_9lives",
            "drop __error_details__, __error__",
        ]),
    ];
    prop::collection::vec(stage, 1..6).prop_map(|stages| stages.join(" | "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn json_is_flattened(value in json()) {
        let mut expected = BTreeMap::new();
        flatten("", &value, &mut expected);
        let found = extracted("json", &value.to_string());
        let names = |set: &BTreeMap<String, String>| set.keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(names(&found), names(&expected));
        // Keys that become one name: which value stays depends on their order in the line.
        let plain = |name: &String| !name.contains("__") && !name.contains('_');
        for (name, value) in found.iter().filter(|(name, _)| plain(name)) {
            prop_assert_eq!(value, &expected[name]);
        }
    }

    #[test]
    fn pairs_of_logfmt_are_those_that_were_written(
        pairs in prop::collection::btree_map("[a-z][a-z0-9.é-]{0,4}", "[a-c\"\\\\=é \n]{1,6}", 0..5),
    ) {
        let quoted = |value: &str| {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("\"{escaped}\"")
        };
        let line: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={}", quoted(v))).collect();
        let mut expected = BTreeMap::new();
        for (key, value) in &pairs {
            expected.entry(sanitized(key)).or_insert_with(|| value.clone());
        }
        prop_assert_eq!(extracted("logfmt", &line.join(" ")), expected);
    }

    /// A parser that stops where a later filter refuses what it found drops the same rows.
    #[test]
    fn looking_ahead_changes_nothing(stages in stages(), line in line()) {
        let stream = Labels::from_pairs([("s", "own"), ("b", "2")]).unwrap();
        let query = format!("{{a=\"b\"}} | {stages}");
        let ahead = pipeline(&query, Wanted::All);
        let mut naive = pipeline(&query, Wanted::All);
        naive.ahead.iter_mut().for_each(|ahead| *ahead = Ahead::default());
        let expected = row(&naive, &line, &stream, &Wanted::All);
        let found = row(&ahead, &line, &stream, &Wanted::All);
        prop_assert_eq!(found, expected);
    }

    /// Whatever a pipeline leaves out of lines, what is wanted of them is as if it did not.
    #[test]
    fn leaving_out_changes_nothing(
        stages in long_stages(),
        lines in prop::collection::vec(long_line(), 1..4),
        names in prop::sample::subsequence(
            vec!["detected_level", "path", "_9lives", "path_extracted", "__error__", "pod_extracted"], 0..4),
        drops in any::<bool>(),
        own in prop::sample::select(vec![&[("s", "1")][..], &[("path", "1"), ("pod", "2")]]),
    ) {
        let stream = Labels::from_pairs(own.iter().copied()).unwrap();
        let drops = if drops { " | drop __error__, __error_details__" } else { "" };
        let query = format!("{{a=\"b\"}} | {stages}{drops}");
        let wanted = Wanted::Names(names.iter().copied().map(str::to_owned).collect());
        let quick = pipeline(&query, wanted.clone());
        let mut naive = pipeline(&query, wanted.clone());
        naive.ahead.iter_mut().for_each(|ahead| *ahead = Ahead::default());
        let Ok(Expr::Log(log)) = parse(&query) else { panic!("{query}") };
        let sieve = Pipeline::sieve(&log.stages).unwrap();
        let mut sieved = Pipeline::sieve(&log.stages).unwrap();
        sieved.ahead.iter_mut().for_each(|ahead| *ahead = Ahead::default());
        for line in &lines {
            let expected = row(&naive, line, &stream, &wanted);
            prop_assert_eq!(row(&quick, line, &stream, &wanted), expected, "{} {}", query, line);
            let passes = |pipeline| row(pipeline, line, &stream, &wanted).is_some();
            prop_assert_eq!(passes(&sieve), passes(&sieved), "{} {}", query, line);
        }
        // Looking keys up finds what making names of them does. The latter reads lines to their ends
        // here, and may meet a mistake there.
        let sees_errors = query.contains("__error__") || query.contains("ip(");
        if sees_errors || names.contains(&"__error__") {
            return Ok(());
        }
        let none = (0..64).map(|i| format!("none{i}"));
        let many = names.iter().copied().map(str::to_owned).chain(none).collect();
        let mut slow = pipeline(&query, Wanted::Names(many));
        slow.ahead.iter_mut().for_each(|ahead| *ahead = Ahead::default());
        for line in &lines {
            let expected = row(&slow, line, &stream, &wanted);
            prop_assert_eq!(row(&naive, line, &stream, &wanted), expected, "{} {}", query, line);
        }
    }

    /// A pipeline that extracts what is wanted only gives the same values for it, where the line is
    /// no mistake: a parser that has found all it wants does not see one after that.
    #[test]
    fn wanting_less_gives_the_same_values(stages in stages(), line in line()) {
        let stream = Labels::from_pairs([("s", "own")]).unwrap();
        let query = format!("{{a=\"b\"}} | {stages}");
        let wanted = Wanted::Names(vec!["a".to_owned(), "c".to_owned()]);
        let all = row(&pipeline(&query, Wanted::All), &line, &stream, &Wanted::All);
        prop_assume!(all.as_ref().is_none_or(|(_, labels)| !labels.contains_key("__error__")));
        prop_assume!(!query.contains("__error__"));
        let some = row(&pipeline(&query, wanted.clone()), &line, &stream, &wanted);
        let shown = all.map(|(line, mut labels)| {
            labels.retain(|name, _| wanted.contains(name));
            (line, labels)
        });
        prop_assert_eq!(some, shown);
    }
}
