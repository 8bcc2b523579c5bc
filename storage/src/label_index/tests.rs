use proptest::prelude::*;

use super::*;

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
fn many_at_once_are_as_one_by_one() {
    let sets: Vec<(u32, Labels)> = (0..500u32)
        .map(|id| {
            let (job, pod) = (format!("j{}", id % 3), format!("p{id}"));
            let env = if id % 7 == 0 { "" } else { "prod" };
            (
                id * 3,
                labels(&[("job", &job), ("pod", &pod), ("env", env)]),
            )
        })
        .collect();
    let mut one_by_one = LabelIndex::new();
    for (id, labels) in &sets {
        one_by_one.insert(*id, labels);
    }
    let mut at_once = LabelIndex::new();
    let (first, last) = sets.split_at(200);
    at_once.extend(first);
    at_once.extend(last);
    assert_eq!(at_once.len(), 500);
    assert_eq!(at_once.heap_bytes(), one_by_one.heap_bytes());
    assert!(at_once.pairs().eq(one_by_one.pairs()));
    for (name, value) in [("job", "j1"), ("pod", "p77"), ("env", ""), ("env", "prod")] {
        let matchers = [Matcher::equal(name, value)];
        assert_eq!(
            at_once.select(&matchers),
            one_by_one.select(&matchers),
            "{name}={value}"
        );
    }
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
    let mut counts = BTreeMap::new();
    for (name, value) in rows.values().flatten() {
        *counts.entry((name, value)).or_insert(0) += 1;
    }
    let pairs = index
        .pairs()
        .map(|pair| ((pair.name, pair.value), pair.ids));
    prop_assert_eq!(pairs.collect::<BTreeMap<_, _>>(), counts);
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
    }
}

/// Values that fill and split leaves and lists that become bitmaps, added and taken out at random
/// and compared with a plain map.
#[test]
fn many_values_and_many_ids_come_and_go() {
    let mut rng = crate::sim::Rng::new(7);
    let mut rows = Rows::new();
    let mut index = LabelIndex::new();
    for step in 0..6_000u32 {
        // First it grows, then it shrinks.
        let grows = rng.below(6_000) > u64::from(step);
        if grows || rows.is_empty() {
            let id = step.wrapping_mul(1 << 9) | u32::from(step % 7 == 0) << 31;
            let pod = format!("pod-{:05}", rng.below(1_000_000));
            let shard = format!("shard-{}", rng.below(40));
            let labels = labels(&[("a", &pod), ("b", &shard), ("c", "all")]);
            index.insert(id, &labels);
            rows.insert(id, labels);
        } else {
            let id = *rows
                .keys()
                .nth(rng.below(rows.len() as u64) as usize)
                .unwrap();
            index.remove(id, &rows.remove(&id).unwrap());
        }
        if step % 500 == 499 {
            let regex = Matcher::new(MatchOp::Match, "a", "pod-0[13].*").unwrap();
            check_against(&rows, &index, &[regex]).unwrap();
            let shard = Matcher::new(MatchOp::NotMatch, "b", "shard-1.").unwrap();
            check_against(&rows, &index, &[shard]).unwrap();
        }
    }
    for (id, labels) in &rows {
        index.remove(*id, labels);
    }
    assert_eq!((index.len(), index.heap_bytes()), (0, 0));
}
