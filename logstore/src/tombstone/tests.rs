use std::time::Duration;

use super::*;
use crate::retention::RetentionRule;

fn delete(number: u64, start: i64, end: i64, what: String) -> Delete {
    Delete {
        number,
        sequence: 10,
        range: TimeRange::new(start, end),
        what,
        created_ms: 0,
    }
}

fn block(sequence: u64, deletes_applied: u64) -> BlockMeta {
    BlockMeta {
        id: trine_storage::ulid::BlockId::from_bits(1),
        range: TimeRange::new(0, 100),
        rows: 1,
        bytes: 1,
        level: 0,
        sequence,
        created_ms: 0,
        deletes_applied,
    }
}

fn app(name: &str) -> Labels {
    Labels::from_pairs([("app", name)]).unwrap()
}

/// The words written down in FORMAT.md, "Deletes".
#[test]
fn golden_words() {
    let matchers = [
        Matcher::equal("app", "api"),
        Matcher::new(MatchOp::NotMatch, "env", "dev|test").unwrap(),
    ];
    let lines = [
        LineFilter::Contains(Bytes::from("secret")),
        LineFilter::NotContains(Bytes::from_static(&[0xff, 0])),
    ];
    let expected = concat!(
        r#"{"lines":[["|=","secret"],["!=",[255,0]]],"#,
        r#""matchers":[["app","=","api"],["env","!~","dev|test"]]}"#
    );
    assert_eq!(words(&matchers, &lines, None), expected);
    let format = include_str!("../../FORMAT.md");
    assert!(format.contains(expected));
    let expected =
        r#"{"lines":[],"matchers":[["app","=","api"]],"where":"{app=\"api\"} | json | k=\"v\""}"#;
    let text = "{app=\"api\"} | json | k=\"v\"";
    assert_eq!(words(&matchers[..1], &[], Some(text)), expected);
    assert!(format.contains(expected));
}

#[test]
fn words_are_read_back() {
    let matchers = vec![
        Matcher::equal("app", "a\"b"),
        Matcher::new(MatchOp::NotEqual, "x", "").unwrap(),
        Matcher::new(MatchOp::Match, "app", "a.*").unwrap(),
        Matcher::new(MatchOp::NotMatch, "app", "a|b").unwrap(),
    ];
    let lines = vec![
        LineFilter::Contains(Bytes::from("über \"it\"")),
        LineFilter::NotContains(Bytes::from_static(&[0xff, 0])),
        LineFilter::ContainsAny(vec![Bytes::from("a"), Bytes::from_static(&[0xff])]),
        LineFilter::ContainsWhole {
            text: Bytes::from("a"),
            or: Some(Bytes::from("b")),
        },
        LineFilter::ContainsWhole {
            text: Bytes::from_static(&[0xff]),
            or: None,
        },
        LineFilter::Matches(LineRegex::new("a.*b").unwrap()),
        LineFilter::NotMatches(LineRegex::new("(?i)x").unwrap()),
    ];
    let back =
        Tombstone::from_catalog(delete(1, 0, 1, words(&matchers, &lines, None)), None).unwrap();
    assert_eq!(back.matchers, matchers);
    assert_eq!(back.lines, lines);
    for bad in [
        "",
        "{}",
        r#"{"matchers":[]}"#,
        r#"{"matchers":[["a","~","b"]],"lines":[]}"#,
        r#"{"matchers":[["a","=~","("]],"lines":[]}"#,
        r#"{"matchers":[],"lines":[["|=",[256]]]}"#,
        r#"{"matchers":[],"lines":[["?","x"]]}"#,
        r#"{"matchers":[],"lines":[["or","x"]]}"#,
        r#"{"matchers":[],"lines":[["|~","("]]}"#,
    ] {
        let error = Tombstone::from_catalog(delete(1, 0, 1, bad.to_owned()), None);
        assert!(error.is_err(), "{bad}");
    }
}

/// Rows at 0, 10, 20 ... of one stream with these lines; those that are left.
fn left(hidden: &Hidden, block: Option<&BlockMeta>, app_name: &str, lines: &[&str]) -> Vec<u32> {
    let mut columns = Columns::default();
    for (row, line) in (0..).zip(lines) {
        columns.push(0, row * 10, line.as_bytes(), 0);
    }
    let veil = hidden.veil(block, TimeRange::new(0, 100));
    let mut rows: Vec<u32> = (0..lines.len() as u32).collect();
    if veil.is_empty() {
        return rows;
    }
    let veil = veil.of_stream(&app(app_name));
    let before = rows.clone();
    let looked = Looked {
        timestamps: &columns.timestamps,
        text: columns.text(),
        metadata: &|_| Labels::empty(),
    };
    veil.retain(looked, &mut rows, 0);
    for row in 0..lines.len() as u32 {
        let at = i64::from(row) * 10;
        let instant = TimeRange::inclusive(at, at);
        let kept = rows.contains(&row);
        assert!(kept || veil.touches(instant), "row {row}");
        assert!(!kept || !veil.covers(instant), "row {row}");
    }
    // What is before `from` is left alone.
    let mut from_two = before;
    veil.retain(looked, &mut from_two, 2);
    assert_eq!(from_two[..2], [0, 1]);
    rows
}

fn hidden(tombstones: Vec<Tombstone>, retention: Retention) -> Hidden {
    Hidden {
        tombstones: Arc::new(tombstones.into_iter().map(Arc::new).collect()),
        retention: Arc::new(retention),
        now_ns: 100,
    }
}

#[test]
fn deletes_hide_rows_of_their_streams_range_and_lines() {
    let tombstone = |number, range: (i64, i64), lines: &[LineFilter]| {
        let matchers = [Matcher::equal("app", "a")];
        let delete = delete(number, range.0, range.1, String::new());
        Tombstone::new(delete, &matchers, lines, None).unwrap()
    };
    let lines = ["x", "xy", "y", "z"];
    let check = |tombstones: Vec<Tombstone>, expected: &[u32]| {
        let hidden = hidden(tombstones, Retention::default());
        assert_eq!(left(&hidden, Some(&block(10, 0)), "a", &lines), expected);
        let all = [0, 1, 2, 3];
        assert_eq!(
            left(&hidden, Some(&block(11, 0)), "a", &lines),
            all,
            "later"
        );
        assert_eq!(left(&hidden, Some(&block(10, 9)), "a", &lines), all, "gone");
        assert_eq!(
            left(&hidden, Some(&block(10, 0)), "b", &lines),
            all,
            "other"
        );
        assert_eq!(left(&hidden, None, "a", &lines), all, "memory");
    };
    let contains = |text: &str| LineFilter::Contains(Bytes::copy_from_slice(text.as_bytes()));
    let lacks = |text: &str| LineFilter::NotContains(Bytes::copy_from_slice(text.as_bytes()));
    check(vec![], &[0, 1, 2, 3]);
    check(vec![tombstone(1, (10, 20), &[])], &[0, 2, 3]);
    check(vec![tombstone(1, (0, 100), &[])], &[]);
    check(vec![tombstone(1, (0, 100), &[contains("y")])], &[0, 3]);
    check(vec![tombstone(1, (0, 20), &[contains("y")])], &[0, 2, 3]);
    let both = [contains("y"), lacks("x")];
    check(vec![tombstone(1, (0, 100), &both)], &[0, 1, 3]);
    let two = vec![
        tombstone(1, (0, 1), &[]),
        tombstone(2, (0, 100), &[contains("z")]),
    ];
    check(two, &[1, 2]);
}

#[test]
fn expired_rows_are_hidden_by_stream() {
    let rule = RetentionRule {
        matchers: vec![Matcher::equal("app", "b")],
        keep: Some(Duration::from_nanos(70)),
        priority: 1,
    };
    let retention = || Retention::new(Some(Duration::from_nanos(90)), std::slice::from_ref(&rule));
    let hidden = hidden(vec![], retention());
    let lines = ["", "", "", "", ""];
    assert_eq!(left(&hidden, None, "a", &lines), [1, 2, 3, 4]);
    assert_eq!(left(&hidden, Some(&block(1, 0)), "b", &lines), [3, 4]);
    let veil = hidden.veil(None, TimeRange::new(30, 100));
    assert!(veil.is_empty(), "nothing in this range can be expired");
}
