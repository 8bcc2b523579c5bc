use std::collections::HashSet;

use proptest::prelude::*;

use super::split::EncodedLines;
use super::*;
use crate::index::token::{Class, tokens};

fn encoded(lines: &[&[u8]], timestamps: &[i64]) -> EncodedLines {
    let mut builder = LineBuilder::default();
    for line in lines {
        builder.push(line);
    }
    builder.encode(timestamps, |_, _| {})
}

fn packed(lines: &[&[u8]], timestamps: &[i64]) -> (PackedLines, VariableColumns) {
    let encoded = encoded(lines, timestamps);
    let page = Bytes::from(encoded.variables);
    let columns = VariableColumns::read("test", &page).unwrap();
    let lengths = lengths_of(lines, encoded.lengths);
    let packed = PackedLines::read("test", encoded.text, &page, lengths).unwrap();
    (packed, columns)
}

fn lengths_of(lines: &[&[u8]], page: Vec<u8>) -> Lengths {
    let line_bytes: usize = lines.iter().map(|line| line.len()).sum();
    Lengths::new(Bytes::from(page), lines.len(), line_bytes as u64)
}

fn lines_of(blob: &[u8], ends: &[u32]) -> Vec<Vec<u8>> {
    let mut start = 0;
    let mut line = |end: &u32| {
        let line = blob[start..*end as usize].to_vec();
        start = *end as usize;
        line
    };
    ends.iter().map(&mut line).collect()
}

/// The bytes written down in FORMAT.md, "Lines".
#[test]
fn golden_bytes() {
    let time = 1_700_000_000_000_000_000;
    let found = encoded(
        &[
            b"ts=1700000000 user=u1234 id=0123456789abcdef status=200",
            b"status=404",
        ],
        &[time, time],
    );
    assert_eq!(found.text, b"ts=\0 user=u\0 id=\0 status=\0\nstatus=\0\n");
    #[rustfmt::skip]
    let expected = [
        1, b'\n', 0, // split, what ends lines, what stands in
        4, // kinds
        4, 10, 1, 0, // the entry's time in ten digits, once
        0, 4, 1, 4, 0, 0xd2, 9, 0, // 1234
        1, 16, 1, 9, 0, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
        0, 3, 2, 6, 0, 0xc8, 1, 8, 0, 204, // 200 and 404
        6, 0, 0, 1, 2, 3, 3, // order
    ];
    assert_eq!(found.variables, expected);
    let binary: Vec<u8> = (0..=255).collect();
    let whole = encoded(&[&binary, b"12345"], &[0, 0]);
    assert_eq!(whole.text.len(), 261);
    assert_eq!(whole.variables, [0]);
    assert_eq!(whole.lengths, [0, 5, 8, 251, 0]);
}

const LINES: &[&[u8]] = &[
    b"",
    b"GET /ready 200",
    b"id=4bf92f3577b34da6a3ce929d0e0e4736 next",
    b"ID=4BF92F3577B34DA6A3CE929D0E0E4736",
    b"mixed 4bF92f3577b34DA6a3ce",
    b"odd 4bf92f3577b34 00012345",
    b"99999999999999999999999999999999",
    b"user12345x678 18446744073709551615",
    b"\n two lines\n",
    b"1700000000123 1700000000 x",
    b"\xff\xfe\xc3 12345",
    b"blk_-1608999687919862906",
];
const TIME: i64 = 1_700_000_000_123_456_789;

#[test]
fn lines_come_back_byte_for_byte() {
    let timestamps = vec![TIME; LINES.len()];
    for with in 0..=LINES.len() {
        let (packed, _) = packed(&LINES[..with], &timestamps);
        let (blob, ends) = packed.expand(&timestamps).unwrap();
        assert_eq!(lines_of(&blob, &ends), &LINES[..with]);
        let (blob, ends) = packed.expand_rows(&timestamps, |row| row % 3 == 1).unwrap();
        for (row, line) in lines_of(&blob, &ends).iter().enumerate() {
            let expected: &[u8] = if row % 3 == 1 { LINES[row] } else { b"" };
            assert_eq!(line, expected);
        }
    }
}

#[test]
fn parts_of_ids_are_found_in_their_columns() {
    let timestamps = vec![TIME; LINES.len()];
    let (_, columns) = packed(LINES, &timestamps);
    let find = |part: Part<'_>| {
        let times = || Ok(timestamps.clone());
        columns.may_contain("test", part, times).unwrap()
    };
    let check = |text: &str, open: [bool; 2], fold, expected| {
        let part = Part {
            bytes: text.as_bytes(),
            open_left: open[0],
            open_right: open[1],
            fold,
        };
        assert_eq!(find(part), expected, "{part:?}");
    };
    const INSIDE: [bool; 2] = [true, true];
    for (text, found) in [
        ("4bf92f", true),
        ("bf92f3", true),
        ("0e4736", true),
        ("e4736", true),
        ("4bf92f3577b34da6a3ce929d0e0e4736", true),
        ("4bf92f3577b34da6a3ce929d0e0e47360", false),
        ("7364bf9", false),
        ("BF92F3", true),
        ("bF92f3", true),
        ("Bf92f3", false),
        ("00012345", true),
        ("12345", true),
        ("99999999999999999999", true),
        ("1700000000123", true),
        ("0000123", true),
        ("123456", false),
        ("18446744073709551615", true),
        ("9687919862", true),
        ("xyzw", false),
        ("abc", true),
    ] {
        check(text, INSIDE, false, found);
    }
    check("bf92f3", [false, true], false, false);
    check("4bf92f", [false, true], false, true);
    check("4736", [true, false], false, true);
    check("e473", [true, false], false, false);
    check("4bf92f3577b34da6a3ce929d0e0e4736", [false; 2], false, true);
    check("00012345", [false; 2], false, true);
    check("0001234", [false; 2], false, false);
    check("Bf92F3577", INSIDE, true, true);
}

#[test]
fn needles_are_searched_where_they_can_be() {
    let (split, _) = packed(&[b"some text 12345"], &[0]);
    let binary: Vec<u8> = (0..=255).collect();
    let (whole, _) = packed(&[&binary], &[0]);
    for (needle, place) in [
        ("error", Place::Skeleton),
        ("failed to", Place::Skeleton),
        ("level=", Place::Skeleton),
        (" fade ", Place::Skeleton),
        ("fade ", Place::Lines),
        (" fade", Place::Lines),
        ("e", Place::Lines),
        ("=", Place::Skeleton),
        ("", Place::Lines),
        ("status=5", Place::Lines),
        ("abcdefabcdef", Place::Lines),
        (" abcdefabcdef ", Place::Lines),
        ("\n", Place::Nowhere),
        ("a\0b", Place::Nowhere),
    ] {
        assert_eq!(split.place_of(needle.as_bytes()), place, "{needle:?}");
        assert_eq!(whole.place_of(needle.as_bytes()), Place::Skeleton);
    }
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let text = "[a-f0-9 =:_x]{0,40}".prop_map(String::into_bytes);
    let ids = "([a-f0-9]{12,40} ?|[A-F0-9]{12,33}-|[0-9]{1,24}|err |deed){0,4}"
        .prop_map(String::into_bytes);
    prop_oneof![text, ids, any::<Vec<u8>>()]
}

/// Lines of many words, some of which the line before has too.
fn wordy_line() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        "[ab]{1,2}",
        "[abcxyz]{7,10}",
        "[x-z]{15,18}",
        "ab[0-9]{0,3}",
        "\\PC"
    ];
    prop::collection::vec(word, 0..20).prop_map(|words| words.join(" ").into_bytes())
}

proptest! {
    /// The token index leaves out nothing only if it is given every token.
    #[test]
    fn every_token_is_handed_over(
        lines in prop::collection::vec(prop_oneof![wordy_line(), any_line()], 0..12),
    ) {
        let mut builder = LineBuilder::default();
        let mut expected = HashSet::new();
        for line in &lines {
            builder.push(line);
            tokens(line, |token| {
                expected.insert((line[token.start..token.end].to_vec(), token.class));
            });
        }
        let mut given = HashSet::new();
        builder.encode(&vec![0; lines.len()], |text, token| {
            given.insert((text[token.start..token.end].to_vec(), token.class));
        });
        prop_assert_eq!(given, expected);
    }

    #[test]
    fn any_lines_come_back(
        lines in prop::collection::vec(any_line(), 0..20),
        timestamps in prop::collection::vec(any::<i64>(), 20),
    ) {
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let (packed, _) = packed(&lines, &timestamps);
        let (blob, ends) = packed.expand(&timestamps).unwrap();
        prop_assert_eq!(lines_of(&blob, &ends), lines);
    }

    /// Without their variables lines come back in parts, in whatever order these are asked for.
    #[test]
    fn parts_of_skeletons_come_back(
        lines in prop::collection::vec(prop_oneof![any_line(), wordy_line()], 1..30),
        timestamps in prop::collection::vec(prop_oneof![Just(TIME), any::<i64>()], 30),
        asked in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 1..30),
    ) {
        let refs: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let timestamps = &timestamps[..refs.len()];
        let (mut packed, _) = packed(&refs, timestamps);
        let Some(skeletons) = packed.take_skeletons(timestamps).unwrap() else {
            let told = refs.iter().any(|line| line.contains(&Skeletons::STAND_IN));
            prop_assert!(told || matches!(packed.layout, Layout::Whole));
            return Ok(());
        };
        let bytes: usize = refs.iter().map(|line| line.len()).sum();
        prop_assert_eq!(skeletons.line_bytes(), bytes as u64);
        for (row, middle) in asked {
            let row = row.index(refs.len());
            let length = skeletons.get(row).len();
            let middle = middle.index(length + 1);
            let (mut end, mut line) = (Vec::new(), Vec::new());
            skeletons.write(row, middle..length, &mut end).unwrap();
            skeletons.write(row, 0..middle, &mut line).unwrap();
            line.append(&mut end);
            prop_assert_eq!(&line, &lines[row]);
        }
    }

    /// Lines are found by text and by numbers as if they were read one by one.
    #[test]
    fn rows_are_found_without_their_lines(
        lines in prop::collection::vec(prop_oneof![any_line(), wordy_line()], 1..30),
        needle in "[abx]{1,3}[0-9]{3,5}|[abx ]{1,4}",
        of in prop::sample::select(vec![" user123", " user4567 ", "x123x", "=777 "]),
        marked: u32,
    ) {
        let line = |(row, line): (usize, &Vec<u8>)| match marked >> row & 1 {
            0 => line.clone(),
            _ => [line.as_slice(), of.as_bytes()].concat(),
        };
        let lines: Vec<Vec<u8>> = lines.iter().enumerate().map(line).collect();
        let refs: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let (packed, _) = packed(&refs, &vec![0; refs.len()]);
        let rows = |passes: &dyn Fn(&[u8]) -> bool| -> Vec<u32> {
            (0u32..).zip(&refs).filter(|(_, line)| passes(line)).map(|(row, _)| row).collect()
        };
        let finder = memchr::memmem::Finder::new(needle.as_bytes());
        if packed.place_of(needle.as_bytes()) == Place::Skeleton
            && let Some(found) = packed.rows_with_text(&finder)
        {
            prop_assert_eq!(found, rows(&|line| finder.find(line).is_some()));
        }
        let digits: Vec<u8> = of.bytes().filter(u8::is_ascii_digit).collect();
        if let Some(found) = packed.rows_with(&digits).unwrap() {
            let has = |line: &[u8]| {
                let mut runs = line.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
                runs.any(|run| run == digits)
            };
            let with = rows(&has);
            prop_assert!(found.iter().all(|row| with.contains(row)), "{:?}", found);
            // Ids have no other letters, and numbers that repeat stay in the text.
            let in_word = |line: &[u8]| {
                let of_token = |byte: &u8| is_token_byte(*byte);
                let mut tokens = line.chunk_by(|a, b| of_token(a) && of_token(b));
                tokens.any(|token| token.iter().any(|byte| matches!(byte, b'g'..=b'z')) && has(token))
            };
            let with = rows(&in_word);
            let (text, ends) = packed.skeleton();
            let skeletons = lines_of(text, &ends);
            let stays = |row: &u32| {
                memchr::memmem::find(&skeletons[*row as usize], &digits).is_some()
            };
            prop_assert!(with.iter().all(|row| found.contains(row) || stays(row)), "{:?}", with);
        }
    }

    /// What is cut out of a line is found: in the skeleton, or, of an id, in the columns.
    #[test]
    fn cuts_of_lines_are_found(
        lines in prop::collection::vec(any_line(), 1..8),
        from: prop::sample::Index,
        len in 0..20usize,
    ) {
        let refs: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let timestamps = vec![0; refs.len()];
        let (packed, columns) = packed(&refs, &timestamps);
        let line = from.get(&lines);
        let start = from.index(line.len() + 1);
        let needle = &line[start..(start + len).min(line.len())];
        let (skeleton, ends) = packed.skeleton();
        prop_assert_eq!(ends.len(), lines.len());
        match packed.place_of(needle) {
            Place::Skeleton => {
                let found = memchr::memmem::find(skeleton, needle);
                prop_assert!(found.is_some(), "{:?}", needle);
            }
            Place::Lines => {
                let mut hit = false;
                for line in &lines {
                    tokens(line, |token| {
                        let bytes = &line[token.start..token.end];
                        let inside = memchr::memmem::find(bytes, needle).is_some();
                        hit |= inside && matches!(token.class, Class::Digits | Class::Hex);
                    });
                }
                let part = Part { bytes: needle, open_left: true, open_right: true, fold: false };
                let found = columns.may_contain("test", part, || Ok(timestamps.clone())).unwrap();
                prop_assert!(found || !hit, "{:?}", needle);
            }
            Place::Nowhere => prop_assert!(false, "{:?} is there", needle),
        }
    }

    #[test]
    fn damage_is_told_or_harmless(
        lines in prop::collection::vec(any_line(), 1..8),
        at: prop::sample::Index,
        flip in 1..=255u8,
    ) {
        let refs: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let timestamps = vec![0; refs.len()];
        let EncodedLines { text, mut variables, lengths } = encoded(&refs, &timestamps);
        let at = at.index(variables.len());
        variables[at] ^= flip;
        for page in [&variables[..], &variables[..at]] {
            let page = Bytes::copy_from_slice(page);
            let lengths = lengths_of(&refs, lengths.clone());
            if let Ok(mut packed) = PackedLines::read("test", text.clone(), &page, lengths) {
                packed.skeleton();
                packed.expand(&timestamps).ok();
                packed.rows_with(b"123").ok();
                if let Ok(Some(skeletons)) = packed.take_skeletons(&timestamps) {
                    for row in 0..refs.len() + 1 {
                        let whole = 0..skeletons.get(row).len();
                        skeletons.write(row, whole, &mut Vec::new()).ok();
                    }
                }
            }
            if let Ok(columns) = VariableColumns::read("test", &page) {
                let part = Part { bytes: b"12345", open_left: true, open_right: true, fold: false };
                columns.may_contain("test", part, || Ok(timestamps.clone())).ok();
            }
        }
    }
}
