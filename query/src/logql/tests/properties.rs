//! Properties against naive models.

use bytes::Bytes;
use proptest::prelude::*;
use trine_storage::Labels;

use super::memory::{Answers, Entry, Memory};
use super::script::{engine, labels};
use crate::budget::Cancel;
use crate::logql::ast::{Expr, LineFilter, LineOp, LineOperand};
use crate::logql::pipeline::line_filter::LineTest;
use crate::logql::source::{Direction, Lines};
use crate::logql::{QueryValue, RangeQuery, parse};

const PIECES: [&str; 60] = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    "|",
    "|=",
    "!=",
    "|~",
    "!~",
    "|>",
    "=",
    "==",
    "=~",
    ">",
    "<=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "app",
    "x",
    "\"a\"",
    "`b`",
    "\"",
    "`",
    "5m",
    "[5m]",
    "[1h",
    "10",
    "1.5",
    "0x1p3",
    "5KB",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "bool",
    "offset",
    "or",
    "and",
    "unless",
    "json",
    "logfmt",
    "--strict",
    "unwrap",
    "drop",
    "keep",
    "rate",
    "sum",
    "topk",
    "label_format",
    "ip",
    "#",
    "\n",
];

fn query_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(0..PIECES.len(), 0..40).prop_map(|picks| {
        picks
            .into_iter()
            .map(|i| PIECES[i])
            .collect::<Vec<_>>()
            .join(" ")
    })
}

fn stage() -> impl Strategy<Value = String> {
    let fixed = prop_oneof![
        Just("| json"),
        Just("| json a, b=\"x[0].y\""),
        Just("| logfmt --strict --keep-empty c=\"d\""),
        Just("| logfmt"),
        Just("| decolorize"),
        Just("| unpack"),
        Just("| regexp \"(?P<a>.*)\""),
        Just("| pattern \"<a> b\""),
        Just("| line_format \"{{.a}}\\n\""),
        Just("| label_format a=b,c=\"{{.d}}\""),
        Just("| drop a, b=~\"c.*\""),
        Just("| keep __error__, a!=\"`x`\""),
        Just("|= \"a\" or \"b\\\"\" or ip(\"::1\")"),
        Just("!~ `x\\d` or `y`"),
        Just("|> \"<_> a\""),
    ]
    .prop_map(str::to_owned);
    let filter = prop_oneof![
        Just("a=\"b\""),
        Just("a=~`\\d+`"),
        Just("n >= 1.5e3"),
        Just("d < 1h30m"),
        Just("s == 5KiB"),
        Just("i != ip(\"10.0.0.0/8\")"),
    ];
    let operator = prop_oneof![Just(" and "), Just(" or "), Just(", "), Just(" ")];
    let chain = proptest::collection::vec((filter, operator), 1..5).prop_map(|parts| {
        let mut text = "| ".to_owned();
        for (i, (filter, operator)) in parts.iter().enumerate() {
            text += if i == 0 { "" } else { operator };
            text += &(if i % 2 == 0 {
                format!("({filter})")
            } else {
                (*filter).to_owned()
            });
        }
        text
    });
    prop_oneof![fixed, chain]
}

fn valid_query() -> impl Strategy<Value = String> {
    let log = proptest::collection::vec(stage(), 0..5)
        .prop_map(|stages| format!("{{app=\"a\", b!~`c\"`}} {}", stages.join(" ")));
    let range = log.prop_flat_map(|log| {
        prop_oneof![
            Just(format!("count_over_time({log} [5m] offset -1m)")),
            Just(format!(
                "quantile_over_time(0.9, {log} | unwrap bytes(n) | a>1 [1d]) by (x)"
            )),
            Just(format!("rate(({log})[90s])")),
            Just(log),
        ]
    });
    let leaf = range.prop_filter("metric", |text| !text.starts_with('{'));
    let metric = leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|i| format!("sum by (a, b) ({i})")),
            inner
                .clone()
                .prop_map(|i| format!("topk(3, {i}) without ()")),
            inner
                .clone()
                .prop_map(|i| format!("label_replace({i}, \"a\", \"$1\", \"b\", \"(.*)\")")),
            inner.clone().prop_map(|i| format!("2 * {i} ^ 0.5")),
            inner.clone().prop_map(|i| format!("1 / 0 - (2 - {i})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b}) % {a} ^ {b}")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("{a} > bool on (x) group_left (y) {b}")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("{a} unless ignoring (x) {b}")),
        ]
    });
    let log = proptest::collection::vec(stage(), 0..5)
        .prop_map(|stages| format!("{{app=\"a\"}} {}", stages.join(" ")));
    prop_oneof![log, metric]
}

/// The tree as text, without where its nodes were read.
fn without_places(expr: &Expr) -> String {
    let text = format!("{expr:?}");
    let mut parts = text.split("span: Span {");
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |out, part| {
        out + part.split_once('}').map_or(part, |(_, rest)| rest)
    })
}

fn line_texts() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[ab ]{0,6}", 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_the_parser_panic(text in query_text(), noise in ".{0,40}") {
        for text in [text.clone(), format!("{{app=\"a\"}} {text}"), noise] {
            // Only that it comes back matters.
            if let Ok(expr) = parse(&text) {
                prop_assert!(parse(&expr.to_string()).is_ok(), "{text} printed as {expr}");
            }
        }
    }

    #[test]
    fn what_is_printed_reads_back_the_same(text in valid_query()) {
        let expr = parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let printed = expr.to_string();
        let again = parse(&printed)
            .map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        prop_assert_eq!(&printed, &again.to_string());
        prop_assert_eq!(without_places(&expr), without_places(&again), "{}", printed);
    }

    #[test]
    fn a_layout_changes_nothing_and_stays(text in valid_query(), line_max in 1..120usize) {
        let expr = parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let pretty = expr.pretty_within(line_max);
        let again = parse(&pretty)
            .map_err(|error| TestCaseError::fail(format!("{pretty}: {error}")))?;
        prop_assert_eq!(expr.to_string(), again.to_string(), "{}", pretty);
        prop_assert_eq!(&pretty, &again.pretty_within(line_max));
    }

    #[test]
    fn searching_all_lines_at_once_is_searching_each(
        texts in line_texts(),
        needles in proptest::collection::vec("[ab]{0,3}", 1..4),
        negative in any::<bool>(),
        wanted in proptest::collection::vec(any::<bool>(), 30),
    ) {
        let op = if negative { LineOp::NotContains } else { LineOp::Contains };
        let operands = needles.iter().cloned().map(LineOperand::Text).collect();
        let test = LineTest::new(&LineFilter { op, operands }).unwrap();
        let mut ends = Vec::new();
        let mut blob = Vec::new();
        for text in &texts {
            blob.extend_from_slice(text.as_bytes());
            ends.push(blob.len() as u32);
        }
        let lines = Lines { blob: Bytes::from(blob), ends };
        let mut selected = wanted[..texts.len()].to_vec();
        test.select(&lines, &mut selected);
        for ((text, selected), wanted) in texts.iter().zip(&selected).zip(&wanted) {
            let naive = *wanted
                && needles.iter().any(|needle| text.contains(needle.as_str())) != negative;
            prop_assert_eq!(*selected, naive, "{:?}", text);
        }
    }

    #[test]
    fn counting_is_counting(
        rows in proptest::collection::vec((0..120i64, 0..3usize, "[ab]{0,3}"), 0..40),
        range in 1..40i64,
        step in 1..40i64,
        offset in -20..20i64,
        filtered in any::<bool>(),
        summed in any::<bool>(),
        answers in prop_oneof![Just(Answers::Counts), Just(Answers::Rows)],
    ) {
        let streams = ["{app=\"x\", n=\"0\"}", "{app=\"x\", n=\"1\"}", "{app=\"x\", n=\"2\"}"];
        let entries = rows.iter().map(|(timestamp, stream, line)| Entry {
            timestamp: timestamp * 1_000_000_000,
            stream: labels(streams[*stream]),
            metadata: Labels::empty(),
            line: line.clone().into_bytes(),
        });
        let memory = Memory { entries: entries.collect(), answers, batch: 7 };
        let filter = if filtered { "|= \"a\" != \"bb\"" } else { "" };
        let query = format!("count_over_time({{app=\"x\"}} {filter} [{range}s] offset {offset}s)");
        let query = if summed { format!("sum by (n) ({query})") } else { query };
        let expr = parse(&query).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let (start, end) = (10i64, 100i64);
        let second = 1_000_000_000;
        let request = RangeQuery {
            start_ns: start * second,
            end_ns: end * second,
            step_ns: step * second,
            direction: Direction::Forward,
            limit: 0,
            interval_ns: 0,
        };
        let result = engine().range(&memory, &expr, request, &Cancel::new());
        let result = result.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let QueryValue::Matrix(matrix) = result.value else {
            return Err(TestCaseError::fail("not a matrix"));
        };
        let mut found: Vec<(String, i64, f64)> = Vec::new();
        for series in &matrix {
            let name = series.labels.get("n").unwrap_or("").to_owned();
            found.extend(series.points.iter().map(|p| (name.clone(), p.timestamp_ns, p.value)));
        }
        let mut naive: Vec<(String, i64, f64)> = Vec::new();
        for stream in 0..3usize {
            for at in (start..=end).step_by(step as usize) {
                let until = at - offset;
                let count = rows.iter().filter(|(timestamp, of, line)| {
                    let keep = !filtered || (line.contains('a') && !line.contains("bb"));
                    keep && *of == stream && *timestamp > until - range && *timestamp <= until
                });
                let count = count.count();
                if count > 0 {
                    naive.push((stream.to_string(), at * second, count as f64));
                }
            }
        }
        prop_assert_eq!(found, naive, "{}", query);
    }
}
