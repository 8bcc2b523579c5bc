//! Tests of the frozen index: golden bytes, equality with the index of the memory, damage.

use proptest::prelude::*;

use super::*;
use crate::codec::put_u32;
use crate::error::Kind;
use crate::label_index::LabelIndex;
use crate::matcher::{MatchOp, Matcher};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn write(sets: &[Labels]) -> Vec<u8> {
    let mut writer = FrozenWriter::new();
    sets.iter().for_each(|labels| writer.push(labels));
    writer.finish().unwrap()
}

fn open(bytes: Vec<u8>) -> Result<FrozenIndex> {
    FrozenIndex::open("an index", bytes.into())
}

fn in_memory(sets: &[Labels]) -> LabelIndex {
    let mut index = LabelIndex::new();
    for (place, labels) in (0u32..).zip(sets) {
        index.insert(place, labels);
    }
    index
}

fn small() -> Vec<Labels> {
    vec![
        Labels::empty(),
        labels(&[("env", "prod"), ("job", "api")]),
        labels(&[("env", "test"), ("job", "api")]),
        labels(&[("job", "db")]),
    ]
}

/// The bytes written down in FORMAT.md, "Frozen index".
#[test]
fn golden_bytes() {
    let mut expected = Vec::new();
    let numbers = |out: &mut Vec<u8>, numbers: &[u32]| {
        numbers.iter().for_each(|n| put_u32(out, *n));
    };
    numbers(&mut expected, &[1, 4, 6, 2, 4, 19, 10, 17]);
    numbers(&mut expected, &[3, 5, 8, 11, 15, 19]);
    expected.extend(b"apidbenvjobprodtest");
    numbers(&mut expected, &[2, 0, 0, 3, 2, 3]);
    numbers(&mut expected, &[4, 5, 0, 1]);
    numbers(&mut expected, &[0x8000_0001, 0x8000_0002, 7, 0x8000_0003]);
    expected.extend([4, 1, 0]);
    expected.extend([6, 1, 0, 0]);
    expected.extend([4, 1, 0]);
    numbers(&mut expected, &[0]);
    expected.extend([0, 0, 0]);
    expected.extend([0, 0, 2, 0, 0, 0, 0]);
    expected.extend([2, 1]);
    expected.extend([0, 0, 1, 1, 1]);
    assert_eq!(write(&small()), expected);
}

/// A list of places, a bitmap and every place; a set of 65 labels; a group of its own for set 16.
#[test]
fn postings_and_sets_have_the_shortest_form() {
    let sets: Vec<Labels> = (0..1200u32)
        .map(|n| {
            let (odd, tenth) = (n % 2, n / 120);
            let odd = ["x", "y"][odd as usize];
            labels(&[
                ("all", "z"),
                ("m", &format!("{n:04}")),
                ("odd", odd),
                ("tenth", &tenth.to_string()),
            ])
        })
        .collect();
    let index = open(write(&sets)).unwrap();
    let form = |name: &str, value: &str| {
        let (_, name) = index.find_name(name).unwrap().unwrap();
        let value = index.find_value(name, value).unwrap().unwrap();
        let form = match index.value_postings(name, value).unwrap() {
            postings::Postings::Every { .. } => "every",
            postings::Postings::One(_) => "one",
            postings::Postings::Listed { .. } => "listed",
            postings::Postings::Bitmap { .. } => "bitmap",
        };
        let len = index.value_postings(name, value).unwrap().len();
        (form, len)
    };
    assert_eq!(form("all", "z"), ("every", 1200));
    assert_eq!(form("m", "0007"), ("one", 1));
    assert_eq!(form("odd", "y"), ("listed", 600));
    assert_eq!(form("tenth", "3"), ("bitmap", 120));
    check_all(&sets, &index, &[]).unwrap();

    let wide = |last: &str| {
        let pairs = (0..65).map(|n| (format!("l{n:02}"), if n == 64 { last } else { "v" }));
        Labels::from_pairs(pairs).unwrap()
    };
    let sets = [wide("a"), wide("b")];
    let index = open(write(&sets)).unwrap();
    check_all(&sets, &index, &[]).unwrap();
}

#[test]
fn an_empty_index_answers() {
    let index = open(FrozenWriter::new().finish().unwrap()).unwrap();
    assert_eq!(
        (index.len(), index.is_empty(), index.bytes()),
        (0, true, 32)
    );
    assert!(index.select(&[]).unwrap().is_empty());
    assert!(index.names(None).unwrap().is_empty());
    assert!(index.values("a", None, None).unwrap().is_empty());
    assert_eq!(index.labels(0).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(index.labels(u32::MAX).unwrap_err().kind(), Kind::Corrupt);
    let none = Cardinality::default();
    assert_eq!(index.cardinality("a", 3).unwrap(), none);
}

#[test]
fn damaged_bytes_are_named() {
    let good = write(&small());
    let check = |at: usize, byte: u8, kind: Kind, text: &str| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        let error = open(bytes).and_then(|index| ask_everything(&index));
        let error = error.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().contains(text)),
            (kind, true),
            "{error}"
        );
    };
    check(0, 0, Kind::Corrupt, "its version is 0");
    check(
        0,
        2,
        Kind::Unsupported,
        "version 2 and this program reads up to 1",
    );
    check(
        4,
        5,
        Kind::Corrupt,
        "damaged at byte 162: the data ends too early",
    );
    check(7, 0x80, Kind::Corrupt, "more label sets or names");
    check(8, 7, Kind::Corrupt, "not as long as its bytes");
    check(
        32,
        9,
        Kind::Corrupt,
        "damaged at byte 56: a symbol lies outside the text",
    );
    check(56, 0xff, Kind::Corrupt, "not UTF-8");
    check(
        87,
        2,
        Kind::Corrupt,
        "damaged at byte 87: a name is empty or out of order",
    );
    check(79, 1, Kind::Corrupt, "the values of a name are not its own");
    check(99, 7, Kind::Corrupt, "a number leads outside its table");
    check(122, 0x40, Kind::Corrupt, "the data ends too early");
    check(
        115,
        9,
        Kind::Corrupt,
        "a value names a place that is not there",
    );
    check(
        131,
        0,
        Kind::Corrupt,
        "postings have no places or more than there are",
    );
    check(
        131,
        10,
        Kind::Corrupt,
        "postings have no places or more than there are",
    );
    check(131, 5, Kind::Corrupt, "a bitmap of places is damaged");
    check(
        133,
        9,
        Kind::Corrupt,
        "postings name a place that is not there",
    );
    check(141, 0x40, Kind::Corrupt, "the data ends too early");
    check(
        146,
        3,
        Kind::Corrupt,
        "a label set keeps more than there is",
    );
    check(
        151,
        9,
        Kind::Corrupt,
        "a label has a name that is not there",
    );
    check(155, 8, Kind::Corrupt, "a label that changes is not there");
    check(156, 9, Kind::Corrupt, "a value is not one of its name's");
    let index = open(good.clone()).unwrap();
    ask_everything(&index).unwrap();
    let error = index.labels(4).unwrap_err().to_string();
    assert!(error.contains("label set 4 is not there"), "{error}");
}

/// Bytes that every look-up takes for good and that contradict each other.
#[test]
fn verify_finds_what_contradicts_itself() {
    let good = write(&small());
    let check = |at: usize, byte: u8, text: &str| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        let error = open(bytes).unwrap().verify().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    check(
        115,
        2,
        "the postings of a value are not those of the label sets",
    );
    check(
        133,
        1,
        "the postings of a name are not those of the label sets",
    );
    check(156, 0, "label sets are out of order");
}

/// Every answer that the index can give.
fn ask_everything(index: &FrozenIndex) -> Result<()> {
    let mut sets = index.label_sets();
    for place in 0..index.layout.sets.min(1 << 10) {
        sets.labels(place)?;
    }
    let some: RoaringBitmap = (0..5).collect();
    let all = index.select(&[])?;
    for filter in [None, Some(&some), Some(&all)] {
        for name in index.names(filter)? {
            index.values(name, filter, None)?;
        }
    }
    let regex = |op, name| Matcher::new(op, name, ".*[aeiou].*");
    for matchers in [
        vec![Matcher::equal("job", "api")],
        vec![Matcher::equal("job", "api"), Matcher::equal("env", "prod")],
        vec![Matcher::equal("job", ""), regex(MatchOp::NotMatch, "env")?],
        vec![Matcher::equal("a", "x"), regex(MatchOp::Match, "b")?],
        vec![regex(MatchOp::Match, "job")?, regex(MatchOp::Match, "a")?],
    ] {
        let selected = index.select(&matchers)?;
        assert!(selected.max().is_none_or(|place| place < index.layout.sets));
    }
    index.cardinality("job", 3)?;
    index.verify()
}

fn sets() -> impl Strategy<Value = Vec<Labels>> {
    let pair = (prop::sample::select(vec!["a", "b", "c", "x"]), "[xyz]{0,3}");
    let set = prop::collection::btree_map(pair.0, pair.1, 0..5)
        .prop_map(|pairs| Labels::from_pairs(pairs).unwrap());
    prop::collection::btree_set(set, 0..120).prop_map(|sets| sets.into_iter().collect())
}

fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
    let op = prop::sample::select(vec![
        MatchOp::Equal,
        MatchOp::NotEqual,
        MatchOp::Match,
        MatchOp::NotMatch,
    ]);
    let name = prop::sample::select(vec!["a", "b", "c", "d", "x"]);
    let value = prop::sample::select(vec![
        "", "x", "xy", "x|y", ".*", ".+", "x.*", "x.+", ".*y", ".*z.*", "[xy].", "(x|)y?", "[^x]+",
        "(?i)X", "x?", "|xy|zz",
    ]);
    prop::collection::vec((op, name, value), 0..4).prop_map(|all| {
        all.into_iter()
            .map(|(op, name, value)| Matcher::new(op, name, value).unwrap())
            .collect()
    })
}

/// All answers are those of the index of the memory, and the labels are those that were written.
fn check_all(
    sets: &[Labels],
    index: &FrozenIndex,
    matchers: &[Matcher],
) -> Result<(), TestCaseError> {
    let memory = in_memory(sets);
    let selected = memory.select(matchers);
    prop_assert_eq!(&index.select(matchers).unwrap(), &selected);
    prop_assert_eq!(index.len(), sets.len());
    index.verify().unwrap();
    let first: RoaringBitmap = selected.iter().take(1).chain([5_000_000]).collect();
    for filter in [None, Some(&selected), Some(&first)] {
        prop_assert_eq!(index.names(filter).unwrap(), memory.names(filter));
        for name in ["a", "b", "d", "m", "odd"] {
            for limit in [None, Some(2), Some(0)] {
                prop_assert_eq!(
                    index.values(name, filter, limit).unwrap(),
                    memory.values(name, filter, limit)
                );
            }
        }
    }
    let pairs: Vec<Pair<'_>> = index.pairs().collect::<Result<_>>().unwrap();
    prop_assert_eq!(pairs, memory.pairs().collect::<Vec<_>>());
    prop_assert_eq!(
        index.cardinality("a", 4).unwrap(),
        memory.cardinality("a", 4)
    );
    let mut rising = index.label_sets();
    for (place, labels) in (0u32..).zip(sets) {
        prop_assert_eq!(&rising.labels(place).unwrap(), labels);
        prop_assert_eq!(&index.labels(place).unwrap(), labels);
    }
    let mut falling = index.label_sets();
    for (place, labels) in (0u32..).zip(sets).collect::<Vec<_>>().into_iter().rev() {
        prop_assert_eq!(&falling.labels(place).unwrap(), labels);
    }
    Ok(())
}

proptest! {
    // Every byte of every index is changed and cut, which takes long.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn damage_is_an_error_or_another_index(sets in sets(), flip in 1u8..) {
        let mut bytes = write(&sets[..sets.len().min(12)]);
        for cut in 0..bytes.len() {
            prop_assert_eq!(open(bytes[..cut].to_vec()).unwrap_err().kind(), Kind::Corrupt);
        }
        for at in 0..bytes.len() {
            bytes[at] ^= flip;
            survives(bytes.clone());
            bytes[at] ^= flip;
        }
    }
}

proptest! {
    #[test]
    fn equals_the_index_of_the_memory(sets in sets(), matchers in matchers()) {
        let bytes = write(&sets);
        prop_assert_eq!(&write(&sets), &bytes);
        check_all(&sets, &open(bytes).unwrap(), &matchers)?;
    }

    #[test]
    fn random_bytes_do_no_harm(
        lens in prop::collection::vec(0u32..6, 7),
        bytes in prop::collection::vec(prop_oneof![0u8..6, any::<u8>()], 300),
    ) {
        // The header is right for its bytes, which are anything.
        let mut index = Vec::new();
        put_u32(&mut index, 1);
        lens.iter().for_each(|len| put_u32(&mut index, *len));
        let tables = lens[1] + 3 * lens[2] + 2 * lens[3] + lens[0].div_ceil(16);
        let len = 4 * tables + lens[4] + lens[5] + lens[6];
        index.extend(bytes.iter().take(len as usize));
        survives(index);
    }
}

/// Asks an index of bytes that may be damaged: an error or another answer, never a panic.
fn survives(bytes: Vec<u8>) {
    if let Err(error) = open(bytes).and_then(|index| ask_everything(&index)) {
        assert!(matches!(error.kind(), Kind::Corrupt | Kind::Unsupported));
    }
}

/// Sets by the thousand, so that selection reads label sets rather than postings.
#[test]
fn what_is_cheaper_gives_the_same_answer() {
    let mut rng = crate::sim::Rng::new(3);
    let mut sets: Vec<Labels> = (0..20_000u32)
        .map(|n| {
            labels(&[
                ("a", &format!("metric-{}", n % 97)),
                ("b", &format!("{:03}", rng.below(500))),
                ("c", ["GET", "PUT", ""][(n % 3) as usize]),
                ("m", &n.to_string()),
            ])
        })
        .collect();
    sets.sort();
    let index = open(write(&sets)).unwrap();
    let memory = in_memory(&sets);
    let equal = Matcher::equal;
    let other = |op, name: &str, value: &str| Matcher::new(op, name, value).unwrap();
    use MatchOp::{Match, NotEqual, NotMatch};
    for matchers in [
        vec![equal("a", "metric-7"), equal("c", "GET")],
        vec![equal("b", "044"), equal("a", "metric-7"), equal("c", "")],
        vec![equal("b", "044"), other(Match, "a", ".*[13579].?")],
        vec![equal("b", "044"), other(NotMatch, "a", ".*[13579].?")],
        vec![equal("b", "044"), other(NotEqual, "c", "GET")],
        vec![equal("m", "77"), other(Match, "b", "[0-4].*|")],
        vec![equal("m", "77"), other(NotMatch, "d", ".+")],
        vec![equal("m", "77"), other(Match, "d", ".+")],
        vec![other(Match, "b", "044|045|x"), other(Match, "c", "G.*")],
        vec![other(Match, "b", ".*[012]")],
        vec![other(NotMatch, "b", ".*[012]"), other(NotEqual, "c", "")],
    ] {
        let found = index.select(&matchers).unwrap();
        assert_eq!(found, memory.select(&matchers), "{matchers:?}");
        for name in ["a", "b", "c", "m"] {
            let values = index.values(name, Some(&found), None).unwrap();
            assert_eq!(values, memory.values(name, Some(&found), None));
        }
        assert_eq!(
            index.names(Some(&found)).unwrap(),
            memory.names(Some(&found))
        );
    }
}
