//! Filters over blobs against filters line by line.

use proptest::prelude::*;

use super::*;

#[path = "../../tests/it/line_filter.rs"]
mod line_filter;

use line_filter::passes;

fn check_all(lines: &[&[u8]], candidates: &[u32], filters: &[LineFilter]) {
    let blob = lines.concat();
    let mut ends = Vec::new();
    for line in lines {
        ends.push(ends.last().copied().unwrap_or(0) + line.len() as u32);
    }
    let text = Text {
        blob: &blob,
        ends: &ends,
    };
    let mut rows = candidates.to_vec();
    Filters::new(filters).unwrap().retain(text, &mut rows);
    let all = |&row: &u32| {
        filters
            .iter()
            .all(|filter| passes(filter, lines[row as usize]))
    };
    let expected: Vec<u32> = candidates.iter().copied().filter(all).collect();
    assert_eq!(
        rows, expected,
        "{filters:?} in {lines:?}, of {candidates:?}"
    );
}

fn check(lines: &[&[u8]], candidates: &[u32], needle: &'static [u8]) {
    let needle = Bytes::from_static(needle);
    check_all(lines, candidates, &[LineFilter::Contains(needle.clone())]);
    check_all(lines, candidates, &[LineFilter::NotContains(needle)]);
}

#[test]
fn hits_belong_to_lines() {
    check(&[b"error", b"all well", b"an error"], &[0, 1, 2], b"error");
    check(&[b"er", b"ror"], &[0, 1], b"error");
    check(&[b"aa", b"aaa", b"", b"a"], &[0, 1, 2, 3], b"aa");
    check(&[b"", b"", b"x", b""], &[0, 1, 2, 3], b"");
    check(&[b"x", b"x", b"x"], &[0, 2], b"x");
    check(&[b"", b""], &[0, 1], b"x");
    check(&[b"ab", b"aab"], &[0, 1], b"ba");
    check(&[b"\xff\x00", b"\x00\xff"], &[0, 1], b"\x00\x00");
    check(&[], &[], b"x");
}

#[test]
fn any_of_several_hides_none() {
    let any = |needles: &[&'static str]| {
        let needles = needles.iter().map(|needle| Bytes::from(*needle));
        [LineFilter::ContainsAny(needles.collect())]
    };
    let lines: &[&[u8]] = &[b"ab", b"cab", b"c", b"", b"xa"];
    let rows = &[0, 1, 2, 3, 4];
    // The longer literal reaches into the next line and hides the shorter.
    check_all(lines, rows, &any(&["abc", "ab"]));
    check_all(lines, rows, &any(&["b", "xa"]));
    check_all(lines, rows, &any(&["b", ""]));
    check_all(lines, rows, &any(&["c"]));
    check_all(lines, rows, &any(&[]));
}

#[test]
fn expressions_mean_what_they_mean_for_one_line() {
    let lines: &[&[u8]] = &[
        b"error 17",
        b"",
        b"Error",
        b"an error\nand more",
        b"caf\xc3",
        b"\xa9 caf\xc3\xa9",
        b"no",
    ];
    let rows: Vec<u32> = (0..lines.len() as u32).collect();
    for pattern in [
        "error",
        "(?i)error",
        "^error",
        "error$",
        "(?m)error$",
        r"\bcaf",
        r"\Bf",
        "x*",
        "^$",
        "",
        ".",
        "..",
        "r.*o",
        "e[^a]",
        "é",
        "caf.",
        "a|o",
        "rrorErr",
        r"\d+",
        "(?s)r.a",
        "[^a-z]$",
        "\u{fffd}",
        "$^",
    ] {
        let regex = LineRegex::new(pattern).unwrap();
        check_all(lines, &rows, &[LineFilter::Matches(regex.clone())]);
        check_all(lines, &[0, 2, 4, 5], &[LineFilter::Matches(regex.clone())]);
        check_all(lines, &rows, &[LineFilter::NotMatches(regex)]);
    }
}

fn filter() -> impl Strategy<Value = LineFilter> {
    let regex = prop::sample::select(vec![
        "a", "ab|b", "a+b", "^a", "b$", "[^b]", "a.b", r"\b", "(?i)A", "", "c*", "(a|bc)+a",
    ])
    .prop_map(|pattern| LineRegex::new(pattern).unwrap());
    prop_oneof![
        "[ab]{0,3}".prop_map(|needle| LineFilter::Contains(needle.into())),
        "[ab]{0,3}".prop_map(|needle| LineFilter::NotContains(needle.into())),
        prop::collection::vec("[abc]{0,3}".prop_map(Bytes::from), 0..4)
            .prop_map(LineFilter::ContainsAny),
        ("[abc ]{0,3}", prop::option::of("[abc]{0,3}")).prop_map(|(text, or)| {
            LineFilter::ContainsWhole {
                text: text.into(),
                or: or.map(Bytes::from),
            }
        }),
        regex.clone().prop_map(LineFilter::Matches),
        regex.prop_map(LineFilter::NotMatches),
    ]
}

proptest! {
    #[test]
    fn blobs_and_lines_agree(
        lines in prop::collection::vec("[abc ]{0,6}|\u{e9}a".prop_map(String::into_bytes), 0..12),
        filters in prop::collection::vec(filter(), 0..3),
        mask: u16,
    ) {
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let rows: Vec<u32> = (0..lines.len() as u32).filter(|row| mask >> row & 1 == 1).collect();
        check_all(&lines, &rows, &filters);
    }
}
