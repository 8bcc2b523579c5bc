use proptest::prelude::*;

use super::*;
use crate::error::Kind;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn small() -> LabelIndex {
    let mut index = LabelIndex::new();
    index.insert(1, &labels(&[("job", "api"), ("env", "prod")]));
    index.insert(2, &labels(&[("job", "api"), ("env", "test")]));
    index.insert(3, &labels(&[("job", "db")]));
    index.insert(9, &Labels::empty());
    index
}

#[test]
fn matchers_select_ids() {
    let index = small();
    let check = |matchers: &[(MatchOp, &str, &str)], expect: &[u32]| {
        let matchers: Vec<Matcher> = matchers
            .iter()
            .map(|&(op, name, value)| Matcher::new(op, name, value).unwrap())
            .collect();
        assert_eq!(
            index.select(&matchers).iter().collect::<Vec<_>>(),
            expect,
            "{matchers:?}"
        );
    };
    use MatchOp::{Equal, Match, NotEqual, NotMatch};
    check(&[], &[1, 2, 3, 9]);
    check(&[(Equal, "job", "api")], &[1, 2]);
    check(&[(Equal, "job", "")], &[9]);
    check(&[(Equal, "none", "")], &[1, 2, 3, 9]);
    check(&[(Equal, "none", "x")], &[]);
    check(&[(NotEqual, "job", "api")], &[3, 9]);
    check(&[(NotEqual, "job", "")], &[1, 2, 3]);
    check(&[(NotEqual, "env", "prod"), (Equal, "job", "api")], &[2]);
    check(&[(Match, "job", "api|db|x")], &[1, 2, 3]);
    check(&[(Match, "job", "a.*")], &[1, 2]);
    check(&[(Match, "job", "[ab].?.?")], &[1, 2]);
    check(&[(Match, "job", ".*")], &[1, 2, 3, 9]);
    check(&[(Match, "job", ".+")], &[1, 2, 3]);
    check(&[(Match, "job", "|db")], &[3, 9]);
    check(&[(NotMatch, "job", "|db")], &[1, 2]);
    check(&[(NotMatch, "job", ".+")], &[9]);
    check(&[(NotMatch, "job", ".*")], &[]);
    check(&[(NotMatch, "env", "p.*")], &[2, 3, 9]);
    check(
        &[(Match, "none", "x*"), (NotMatch, "none", "x+")],
        &[1, 2, 3, 9],
    );
    check(
        &[
            (Match, "job", ".+"),
            (NotEqual, "env", ""),
            (NotMatch, "env", "t.*"),
        ],
        &[1],
    );
}

#[test]
fn names_and_values_are_sorted_and_filtered() {
    let index = small();
    assert_eq!(index.names(None), ["env", "job"]);
    assert_eq!(index.values("job", None, None), ["api", "db"]);
    assert_eq!(index.values("job", None, Some(1)), ["api"]);
    assert_eq!(index.values("job", None, Some(0)), [""; 0]);
    assert_eq!(index.values("none", None, None), [""; 0]);
    let only = |ids: &[u32]| ids.iter().copied().collect::<RoaringBitmap>();
    assert_eq!(index.names(Some(&only(&[3, 9]))), ["job"]);
    assert_eq!(index.values("env", Some(&only(&[2, 3])), None), ["test"]);
    assert_eq!(index.values("job", Some(&only(&[2, 3])), Some(1)), ["api"]);
    assert_eq!((index.len(), index.is_empty()), (4, false));
}

#[test]
fn what_is_removed_leaves_nothing() {
    let mut index = small();
    let full = index.heap_bytes();
    assert!(full > 0);
    index.insert(1, &labels(&[("job", "api"), ("env", "prod")]));
    assert_eq!(index.heap_bytes(), full);
    index.remove(4, &labels(&[("job", "api")]));
    assert_eq!(index.len(), 4);
    index.remove(2, &labels(&[("job", "api"), ("env", "test")]));
    assert_eq!(index.values("env", None, None), ["prod"]);
    index.remove(1, &labels(&[("job", "api"), ("env", "prod")]));
    assert_eq!(index.names(None), ["job"]);
    index.remove(3, &labels(&[("job", "db")]));
    index.remove(9, &Labels::empty());
    assert_eq!(
        (index.len(), index.names(None).len(), index.heap_bytes()),
        (0, 0, 0)
    );
}

/// The bytes written down in FORMAT.md, "Label index".
#[test]
fn golden_bytes() {
    let mut bytes = Vec::new();
    small().write(&mut bytes);
    let mut expected = vec![1, 4, 1, 1, 1, 6, 2];
    expected.extend(b"\x03env\x02\x04prod\x01\x01\x04test\x01\x02");
    expected.extend(b"\x03job\x02\x03api\x02\x01\x01\x02db\x01\x03");
    assert_eq!(bytes, expected);

    // Nine ids are a bitmap: here one run from 10 of eight more ids.
    let mut index = LabelIndex::new();
    (10..19).for_each(|id| index.insert(id, &labels(&[("a", "b")])));
    let mut bytes = Vec::new();
    index.write(&mut bytes);
    let run = [9, 15, 0x3b, 0x30, 0, 0, 1, 0, 0, 8, 0, 1, 0, 10, 0, 8, 0];
    let expected = [&[1][..], &run, b"\x01\x01a\x01\x01b", &run].concat();
    assert_eq!(bytes, expected);
}

#[test]
fn damaged_bytes_are_named() {
    let check = |bytes: &[u8], kind: Kind, text: &str| {
        let error = LabelIndex::read(bytes).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().contains(text)),
            (kind, true),
            "{error}"
        );
    };
    check(
        b"",
        Kind::Corrupt,
        "damaged at byte 0: the data ends too early",
    );
    check(b"\x00", Kind::Corrupt, "version is 0");
    check(
        b"\x02",
        Kind::Unsupported,
        "version 2 and this program reads up to 1",
    );
    check(
        b"\x01\x00\x00x",
        Kind::Corrupt,
        "bytes follow the last name",
    );
    check(
        b"\x01\x00\xff\x01",
        Kind::Corrupt,
        "a count is larger than the data",
    );
    check(
        b"\x01\x01\x07\x01\x01a\x00\0\0\0\0",
        Kind::Corrupt,
        "a name has no values",
    );
    check(
        b"\x01\x01\x07\x01\x00\x01\x01b\x01\x07\0",
        Kind::Corrupt,
        "empty or out of order",
    );
    check(
        b"\x01\x01\x07\x01\x01a\x01\x01b\x01\x08",
        Kind::Corrupt,
        "no ids or unknown ones",
    );
    check(
        b"\x01\x01\x07\x01\x01a\x01\x01b\x00\0",
        Kind::Corrupt,
        "no ids or unknown ones",
    );
    check(
        b"\x01\x01\x07\x01\x01a\x02\x01b\x01\x07\x01c\x01\x07",
        Kind::Corrupt,
        "an id has two values",
    );
    check(
        b"\x01\x02\x07\x00\x00",
        Kind::Corrupt,
        "out of order or too large",
    );
    check(
        b"\x01\x01\xff\xff\xff\xff\x1f\x00",
        Kind::Corrupt,
        "out of order or too large",
    );
    check(
        b"\x01\x09\x02ab\x00",
        Kind::Corrupt,
        "a bitmap of ids is damaged",
    );
}

type Rows = BTreeMap<u32, Labels>;

fn rows() -> impl Strategy<Value = Rows> {
    let pair = (prop::sample::select(vec!["a", "b", "c"]), "[xyz]{0,2}");
    let set = prop::collection::btree_map(pair.0, pair.1, 0..4)
        .prop_map(|pairs| Labels::from_pairs(pairs).unwrap());
    // Ids of two containers, close enough to make runs.
    let id = prop_oneof![0u32..60, 65_530u32..65_560];
    prop::collection::btree_map(id, set, 0..60)
}

fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
    let op = prop::sample::select(vec![
        MatchOp::Equal,
        MatchOp::NotEqual,
        MatchOp::Match,
        MatchOp::NotMatch,
    ]);
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    let value = prop::sample::select(vec![
        "", "x", "xy", "x|y", ".*", ".+", "x.*", "x.+", ".*y", ".*z.*", "[xy].", "(x|)y?", "[^x]+",
        "(?i)X", "x?",
    ]);
    prop::collection::vec((op, name, value), 0..4).prop_map(|all| {
        all.into_iter()
            .map(|(op, name, value)| Matcher::new(op, name, value).unwrap())
            .collect()
    })
}

fn check_against(
    rows: &Rows,
    index: &LabelIndex,
    matchers: &[Matcher],
) -> Result<(), TestCaseError> {
    let matches = |labels: &Labels| matchers.iter().all(|m| m.matches_labels(labels));
    let expect: RoaringBitmap = rows
        .iter()
        .filter(|(_, labels)| matches(labels))
        .map(|(id, _)| *id)
        .collect();
    let selected = index.select(matchers);
    prop_assert_eq!(&selected, &expect);
    prop_assert_eq!(index.len(), rows.len());
    for filter in [None, Some(&selected)] {
        let kept = |id: &u32| filter.is_none_or(|ids| ids.contains(*id));
        let pairs = || {
            rows.iter()
                .filter(|(id, _)| kept(id))
                .flat_map(|(_, labels)| labels)
        };
        let mut names: Vec<&str> = pairs().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        prop_assert_eq!(index.names(filter), names);
        for name in ["a", "d"] {
            let mut values: Vec<&str> = pairs()
                .filter(|(n, _)| *n == name)
                .map(|(_, value)| value)
                .collect();
            values.sort_unstable();
            values.dedup();
            prop_assert_eq!(index.values(name, filter, None), values.clone());
            values.truncate(2);
            prop_assert_eq!(index.values(name, filter, Some(2)), values);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn equals_a_scan_over_all_labels(
        rows in rows(),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        matchers in matchers(),
    ) {
        let mut rows = rows;
        let mut index = LabelIndex::new();
        for (id, labels) in &rows {
            index.insert(*id, labels);
        }
        check_against(&rows, &index, &matchers)?;
        for at in removed {
            if rows.is_empty() {
                break;
            }
            let id = *rows.keys().nth(at.index(rows.len())).unwrap();
            index.remove(id, &rows.remove(&id).unwrap());
        }
        check_against(&rows, &index, &matchers)?;

        let mut bytes = Vec::new();
        index.write(&mut bytes);
        let back = LabelIndex::read(&bytes).unwrap();
        check_against(&rows, &back, &matchers)?;
        prop_assert_eq!(back.heap_bytes(), index.heap_bytes());
        let mut again = Vec::new();
        back.write(&mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn damage_is_an_error_or_another_index(rows in rows(), flip in 1u8..) {
        let mut index = LabelIndex::new();
        for (id, labels) in &rows {
            index.insert(*id, labels);
        }
        let mut bytes = Vec::new();
        index.write(&mut bytes);
        for cut in 0..bytes.len() {
            let error = LabelIndex::read(&bytes[..cut]).unwrap_err();
            prop_assert_eq!(error.kind(), Kind::Corrupt);
        }
        for at in 0..bytes.len() {
            bytes[at] ^= flip;
            check_survives(&bytes)?;
            bytes[at] ^= flip;
        }
    }

    #[test]
    fn random_bytes_do_no_harm(
        bytes in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..80),
    ) {
        check_survives(&bytes)?;
        let mut versioned = bytes;
        versioned.insert(0, 1);
        check_survives(&versioned)?;
    }
}

/// Reads bytes that may be damaged; an index that comes of them must work.
fn check_survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    match LabelIndex::read(bytes) {
        Ok(index) => {
            let mut rows: Rows = index.all.iter().map(|id| (id, Labels::empty())).collect();
            for (name, values) in &index.names {
                for (value, postings) in &values.by_value {
                    for id in &*postings.bitmap() {
                        let row = rows.get_mut(&id).unwrap();
                        *row = row.with(name, value);
                    }
                }
            }
            check_against(
                &rows,
                &index,
                &[Matcher::new(MatchOp::Match, "a", "x.*").unwrap()],
            )
        }
        Err(error) => {
            prop_assert!(matches!(error.kind(), Kind::Corrupt | Kind::Unsupported));
            Ok(())
        }
    }
}
