use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use trine_storage::fs::Fs;
use trine_storage::sealed::SealedWriter;
use trine_storage::sim::SimFs;

use super::super::values::{Texts, Values};
use super::*;

mod damage;

const KIND: [u8; 4] = *b"test";
const PATH: &str = "blocks/column";

/// One value.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Number(u64),
    Bytes(Vec<u8>),
}

fn values_of(column: &ColumnReader, page: u32) -> u32 {
    column.meta().page(page).map_or(0, |page| page.count)
}

/// A column in a file of its own.
fn written(kind: Type, values: &Values, page_ends: &[u32]) -> (SimFs, ColumnMeta) {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("blocks")).unwrap();
    let mut sink = SealedWriter::create(&fs, Path::new(PATH), KIND).unwrap();
    sink.page(b"something before").unwrap();
    let meta = write(&mut sink, kind, values, page_ends).unwrap();
    sink.finish().unwrap();
    (fs, meta)
}

fn opened(fs: &SimFs) -> SealedFile {
    let file = fs.open(Path::new(PATH)).unwrap();
    SealedFile::open(file, "column", KIND).unwrap()
}

fn entry(meta: &ColumnMeta) -> Vec<u8> {
    let mut directory = Vec::new();
    meta.put(&mut directory);
    directory
}

/// Writes a column and opens it again, through its directory entry.
fn reopened(kind: Type, values: &Values, page_ends: &[u32]) -> ColumnReader {
    let (fs, meta) = written(kind, values, page_ends);
    let directory = entry(&meta);
    let mut reader = Reader::new("directory", &directory);
    let read = ColumnMeta::read(&mut reader, page_ends.len()).unwrap();
    assert!(reader.is_empty());
    assert_eq!(read, meta);
    assert_eq!(read.values(), values.len() as u64);
    let raw: usize = cells(values)
        .iter()
        .map(|cell| match cell {
            Cell::Number(_) if kind == Type::Bool => 1,
            Cell::Number(_) => 8,
            Cell::Bytes(bytes) => bytes.len(),
        })
        .sum();
    assert_eq!(read.raw_bytes(), raw as u64);
    ColumnReader::new(&opened(&fs), kind, Arc::new(read))
}

/// The values one by one.
fn cells(values: &Values) -> Vec<Cell> {
    match values {
        Values::Numbers(bits) => bits.iter().map(|&bits| Cell::Number(bits)).collect(),
        Values::Coded { codes, dictionary } => {
            let text = |&code: &u32| Cell::Bytes(dictionary.get(code as usize).to_vec());
            codes.iter().map(text).collect()
        }
        Values::Plain(texts) => texts
            .iter()
            .map(|text| Cell::Bytes(text.to_vec()))
            .collect(),
    }
}

fn value(kind: Type, cell: &Cell) -> ValueRef<'_> {
    match cell {
        Cell::Number(bits) => ValueRef::of_bits(kind, *bits),
        Cell::Bytes(bytes) if kind == Type::Str => {
            ValueRef::Str(std::str::from_utf8(bytes).unwrap())
        }
        Cell::Bytes(bytes) => ValueRef::Bytes(bytes),
    }
}

/// Everything that can be read is what was written.
fn check_reads(kind: Type, values: &Values, page_ends: &[u32], column: &ColumnReader) {
    let cells = cells(values);
    assert_eq!(self::cells(&column.read_all().unwrap()), cells);
    let dictionary = column.dictionary().unwrap();
    let mut start = 0;
    for (page, &end) in (0..).zip(page_ends) {
        let expected = &cells[start as usize..end as usize];
        assert_eq!(values_of(column, page), end - start);
        if kind.is_number() {
            let mut out = vec![1];
            column.numbers(page, &mut out).unwrap();
            assert_eq!(self::cells(&Values::Numbers(out[1..].to_vec())), expected);
            let (mut tail, half) = (vec![], (end - start) / 2);
            column
                .numbers_in(page, half..end - start, &mut tail)
                .unwrap();
            assert_eq!(tail, out[1 + half as usize..]);
            assert!(
                column
                    .numbers_in(page, half..end - start + 1, &mut tail)
                    .is_err()
            );
            for (position, &bits) in (0..).zip(&out[1..]) {
                assert_eq!(column.number_at(page, position).unwrap(), bits);
                let number = ordered(kind, bits);
                assert!(column.may_have(page, number, number));
            }
        } else {
            let mut out = Texts::default();
            column.texts(page, None, &mut out).unwrap();
            assert_eq!(self::cells(&Values::Plain(out)), expected);
            let third: Vec<u32> = (0..end - start).step_by(3).collect();
            let mut out = Texts::default();
            column.texts(page, Some(&third), &mut out).unwrap();
            let some: Vec<Cell> = expected.iter().step_by(3).cloned().collect();
            assert_eq!(self::cells(&Values::Plain(out)), some);
            assert!(
                column
                    .texts(page, Some(&[end - start]), &mut Texts::default())
                    .is_err()
                    || start == end
            );
        }
        if let Some(dictionary) = &dictionary {
            let mut codes = vec![];
            column.codes(page, &mut codes).unwrap();
            for (code, cell) in codes.into_iter().zip(expected) {
                let entry = dictionary.entry(code).unwrap();
                assert_eq!(entry.bits(), value(kind, cell).bits());
                assert_eq!(entry.bytes(), value(kind, cell).bytes());
            }
        }
        start = end;
    }
}

/// One value at a time, before anything else is decoded.
fn check_points(values: &Values, page_ends: &[u32], column: &ColumnReader) {
    let cells = cells(values);
    let mut start = 0;
    for (page, &end) in (0..).zip(page_ends) {
        for position in (0..end - start).step_by(7) {
            let mut out = Texts::default();
            column.texts(page, Some(&[position]), &mut out).unwrap();
            let cell = Cell::Bytes(out.get(0).to_vec());
            assert_eq!(cell, cells[(start + position) as usize]);
        }
        start = end;
    }
}

/// How often each value occurs, by counting and by `distinct`.
fn check_distinct(values: &Values, column: &ColumnReader) {
    let key = |cell: &Cell| match cell {
        Cell::Number(bits) => (Some(*bits), Vec::new()),
        Cell::Bytes(bytes) => (None, bytes.clone()),
    };
    let mut expected = BTreeMap::new();
    for cell in cells(values) {
        *expected.entry(key(&cell)).or_insert(0u64) += 1;
    }
    let mut counted = BTreeMap::new();
    let mut times = 0;
    column
        .distinct(&mut |value, count| {
            let key = (value.bits(), value.bytes().unwrap_or_default().to_vec());
            *counted.entry(key).or_insert(0u64) += count;
            times += 1;
            true
        })
        .unwrap();
    assert_eq!(counted, expected);
    if let Some(distinct) = column.meta().distinct() {
        assert_eq!((distinct as usize, times), (expected.len(), expected.len()));
    }
    let mut asked = 0;
    column
        .distinct(&mut |_, _| {
            asked += 1;
            asked < 2
        })
        .unwrap();
    assert!(asked <= 2);
}

fn passes(kind: Type, probe: &Probe<'_>, value: ValueRef<'_>) -> bool {
    match probe {
        Probe::Equal(values) => values.contains(&value),
        Probe::Range { least, greatest } => value
            .bits()
            .is_some_and(|bits| (*least..=*greatest).contains(&ordered(kind, bits))),
        Probe::Where(test) => test(value),
    }
}

/// A search finds what going through all values finds.
fn check_search(
    kind: Type,
    values: &Values,
    page_ends: &[u32],
    column: &ColumnReader,
    probe: &Probe<'_>,
) {
    let cells = cells(values);
    let prepared = column.prepare(probe).unwrap();
    let mut start = 0;
    for (page, &end) in (0..).zip(page_ends) {
        let expected: Vec<u32> = (0..)
            .zip(&cells[start..end as usize])
            .filter(|(_, cell)| passes(kind, probe, value(kind, cell)))
            .map(|(position, _)| position)
            .collect();
        let mut found = vec![];
        column.search(page, &prepared, &mut found).unwrap();
        assert_eq!(found, expected, "page {page}");
        start = end as usize;
    }
}

fn check_all(kind: Type, values: &Values, page_ends: &[u32], picks: &[prop::sample::Index]) {
    let column = reopened(kind, values, page_ends);
    if !kind.is_number() {
        check_points(values, page_ends, &column);
    }
    check_reads(kind, values, page_ends, &column);
    check_distinct(values, &column);
    let cells = cells(values);
    let some: Vec<ValueRef<'_>> = picks
        .iter()
        .filter(|_| !cells.is_empty())
        .map(|pick| value(kind, pick.get(&cells)))
        .collect();
    let absent = match kind {
        Type::Str => ValueRef::Str("never seen 12345"),
        Type::Int => ValueRef::Int(-123_456_789),
        Type::Float => ValueRef::Float(0.000_123),
        Type::Bool => ValueRef::Bool(true),
        Type::Array | Type::Other => ValueRef::Bytes(b"never"),
    };
    let check = |probe: Probe<'_>| check_search(kind, values, page_ends, &column, &probe);
    check(Probe::Equal(&[]));
    check(Probe::Equal(&[absent]));
    check(Probe::Equal(&[
        ValueRef::Float(0.0),
        ValueRef::Float(f64::NAN),
    ]));
    check(Probe::Equal(&some));
    for value in &some {
        check(Probe::Equal(&[*value]));
        check(Probe::Equal(&[*value, absent]));
        check(Probe::Where(&|other| other == *value));
        check(Probe::Where(&|other| other != *value));
    }
    check(Probe::Where(&|_| true));
    check(Probe::Where(&|_| false));
    if kind.is_number() {
        for a in &some {
            for b in &some {
                let [a, b] = [a, b].map(|value| ordered(kind, value.bits().unwrap()));
                check(Probe::Range {
                    least: a,
                    greatest: b,
                });
                check(Probe::Range {
                    least: a.saturating_add(1),
                    greatest: b,
                });
            }
        }
        check(Probe::Range {
            least: 0,
            greatest: u64::MAX,
        });
    }
}

/// Ends of pages: some are empty, the last ends with the values.
fn page_ends(values: usize, cuts: &[prop::sample::Index]) -> Vec<u32> {
    let mut ends: Vec<u32> = cuts
        .iter()
        .map(|cut| cut.index(values + 1) as u32)
        .collect();
    ends.push(values as u32);
    ends.sort_unstable();
    ends
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof![
        "[a-c]{0,2}",
        "[a-z]{0,9}",
        "user-[0-9]{1,6}",
        "http://[a-b]\\.svc:80[0-9]{2}/x\\?q=[0-9]{1,5}",
        "[0-9a-f]{12}",
        any::<String>(),
    ];
    proptest::collection::vec(one, 1..8).prop_flat_map(|some| {
        let same = proptest::collection::vec(prop::sample::select(some), 0..300);
        let different = proptest::collection::vec("[a-b]-[0-9]{1,9}", 0..300);
        prop_oneof![same, different]
    })
}

fn bits() -> impl Strategy<Value = Vec<u64>> {
    let range = prop_oneof![
        Just(0u64),
        Just(3),
        Just(1000),
        Just(1 << 40),
        Just(u64::MAX)
    ];
    (range, any::<u64>(), 1..5u64).prop_flat_map(|(range, base, step)| {
        let one = (0..=range).prop_map(move |n| base.wrapping_add(n.wrapping_mul(step)));
        proptest::collection::vec(one, 0..300)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn texts_are_read_and_found(
        texts in texts(),
        kind in prop_oneof![Just(Type::Str), Just(Type::Array), Just(Type::Other)],
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        unused in proptest::collection::vec("[a-z]{20}", 0..3),
    ) {
        let ends = page_ends(texts.len(), &cuts);
        let plain = Values::Plain(texts.iter().collect());
        check_all(kind, &plain, &ends, &picks);

        let mut entries: Vec<&String> = texts.iter().chain(&unused).collect();
        entries.sort_unstable_by_key(|text| (text.len(), text.bytes().rev().collect::<Vec<_>>()));
        entries.dedup();
        let code = |text: &String| entries.iter().position(|entry| *entry == text).unwrap() as u32;
        let coded = Values::Coded {
            codes: texts.iter().map(code).collect(),
            dictionary: entries.iter().collect(),
        };
        check_all(kind, &coded, &ends, &picks);
    }

    #[test]
    fn numbers_are_read_and_found(
        bits in bits(),
        kind in prop_oneof![Just(Type::Int), Just(Type::Float)],
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let ends = page_ends(bits.len(), &cuts);
        check_all(kind, &Values::Numbers(bits), &ends, &picks);
    }

    #[test]
    fn truth_is_read_and_found(
        truth in proptest::collection::vec(any::<bool>(), 0..300),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..2),
    ) {
        let ends = page_ends(truth.len(), &cuts);
        let bits = truth.into_iter().map(u64::from).collect();
        check_all(Type::Bool, &Values::Numbers(bits), &ends, &picks);
    }
}

#[test]
fn values_of_one_template_with_one_number_are_counted() {
    // Too many are distinct for a dictionary. The second kind has numbers that are too large to count
    // by, the third two templates, the fourth such with several numbers in between.
    let kinds: [fn(u64) -> String; 4] = [
        |n| format!("user-{}", n * 7 % 2_000),
        |n| format!("user-{}", (n * 7 % 2_000) << 40),
        |n| format!("{}-{}", ["user", "guest"][n as usize % 2], n * 7 % 2_001),
        |n| match n % 2 {
            0 => format!("user-{}", n * 7 % 2_001),
            _ => format!("{n}/{n}"),
        },
    ];
    for kind in kinds {
        let texts: Vec<String> = (0..3_000).map(kind).collect();
        let values = Values::Plain(texts.iter().map(String::as_str).collect());
        let column = reopened(Type::Str, &values, &[1_000, 1_000, 3_000]);
        let encoding = &column.meta().encoding;
        assert!(
            matches!(encoding, Encoding::Templates { .. }),
            "{}",
            texts[0]
        );
        check_distinct(&values, &column);
    }
}

#[test]
fn both_zeros_are_equal_and_nothing_is_nan() {
    let floats = [0.0, -0.0, f64::NAN, 1.0].map(f64::to_bits);
    let column = reopened(Type::Float, &Values::Numbers(floats.to_vec()), &[4]);
    for (wanted, expected) in [
        (0.0, &[0, 1][..]),
        (-0.0, &[0, 1]),
        (f64::NAN, &[]),
        (1.0, &[3]),
    ] {
        let wanted = [ValueRef::Float(wanted)];
        let prepared = column.prepare(&Probe::Equal(&wanted)).unwrap();
        let mut found = vec![];
        column.search(0, &prepared, &mut found).unwrap();
        assert_eq!(found, expected, "{wanted:?}");
    }
}

#[test]
fn a_probe_of_another_type_finds_nothing() {
    let ints = reopened(Type::Int, &Values::Numbers(vec![0, 1, 2]), &[3]);
    let texts = Values::Plain(["a", "b"].into_iter().collect());
    let texts = reopened(Type::Str, &texts, &[2]);
    for value in [
        ValueRef::Float(0.0),
        ValueRef::Bool(true),
        ValueRef::Str("0"),
    ] {
        let wanted = [value];
        let prepared = ints.prepare(&Probe::Equal(&wanted)).unwrap();
        assert!(matches!(prepared, Prepared::Nothing), "{value:?}");
    }
    let prepared = texts.prepare(&Probe::Equal(&[ValueRef::Int(0)])).unwrap();
    assert!(matches!(prepared, Prepared::Nothing));
    let everything = Probe::Range {
        least: 0,
        greatest: u64::MAX,
    };
    assert!(matches!(
        texts.prepare(&everything).unwrap(),
        Prepared::Nothing
    ));
}
