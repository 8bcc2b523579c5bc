use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn texts(entries: &BTreeMap<Vec<u8>, u32>) -> Bytes {
    let counts: Vec<u32> = entries.values().copied().collect();
    let mut out = Vec::new();
    put_texts(&mut out, entries.keys().map(Vec::as_slice), &counts);
    out.into()
}

fn numbers(entries: &BTreeMap<u64, u32>) -> Bytes {
    let keys: Vec<u64> = entries.keys().copied().collect();
    let counts: Vec<u32> = entries.values().copied().collect();
    let mut out = Vec::new();
    put_numbers(&mut out, &keys, &counts);
    out.into()
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![Just(1), 1..10u32, 1..=u32::MAX]
}

#[test]
fn golden_bytes() {
    let entries = [("GET", 3), ("GO", 1)].map(|(text, count)| (text.as_bytes().to_vec(), count));
    // Width 2 of counts less one, no exceptions, 2 and 0; width 0 of offsets; plain.
    assert_eq!(
        texts(&entries.into()),
        &b"\x02\x00\x02\x00\x00\x03GET\x01\x01O"[..]
    );
    let entries = [200, 404].map(|number| (ordered(Type::Int, number), 1));
    // 200 as a zigzag varint, width 0 of firsts, width 8, 0 and 204.
    assert_eq!(
        numbers(&entries.into()),
        &b"\x00\x00\x90\x03\x00\x08\x00\xcc"[..]
    );
}

#[test]
fn texts_are_compared_without_their_counts() {
    let open = |entries: &[(&str, u32)]| {
        let entries = entries
            .iter()
            .map(|(text, count)| (text.as_bytes().to_vec(), *count));
        let entries: BTreeMap<Vec<u8>, u32> = entries.collect();
        Dictionary::open("test", 0, Type::Str, entries.len(), &texts(&entries)).unwrap()
    };
    let some = open(&[("GET", 3), ("GO", 1)]);
    assert!(some.has_texts_of(&open(&[("GET", 1), ("GO", 70_000)])));
    assert!(!some.has_texts_of(&open(&[("GET", 3), ("GOT", 1)])));
    assert!(!some.has_texts_of(&open(&[("GET", 3)])));
    let bytes = numbers(&[(7, 1)].into());
    let number = Dictionary::open("test", 0, Type::Int, 1, &bytes).unwrap();
    assert!(!number.has_texts_of(&number));
}

#[test]
fn long_texts_are_packed() {
    let long = |n: u32| {
        format!(
            "{n:03} {}",
            "at com.shop.Order.process(Order.java:17) ".repeat(20)
        )
    };
    let entries: BTreeMap<Vec<u8>, u32> = (0..40).map(|n| (long(n).into_bytes(), 1)).collect();
    let raw: usize = entries.keys().map(Vec::len).sum();
    let bytes = texts(&entries);
    assert!(bytes.len() < raw / 10, "{} of {raw}", bytes.len());
    let dictionary = Dictionary::open("test", 0, Type::Str, entries.len(), &bytes).unwrap();
    let found = dictionary.find(ValueRef::Str(&long(17))).unwrap();
    assert_eq!(found, Some(17));
}

#[test]
fn a_few_large_counts_do_not_widen_all() {
    let mut entries: BTreeMap<u64, u32> = (0..10_000).map(|n| (n, 1 + (n % 2) as u32)).collect();
    entries.insert(77, 4_000_000_000);
    let bytes = numbers(&entries);
    // One bit for the count and eight for the number, and the firsts of groups.
    assert!(bytes.len() < 10_000 * 10 / 8, "{}", bytes.len());
    let dictionary = Dictionary::open("test", 0, Type::Bool, entries.len(), &bytes).unwrap();
    assert_eq!(dictionary.count(77), 4_000_000_000);
    assert_eq!((dictionary.count(78), dictionary.count(79)), (1, 2));
}

#[test]
fn damage_is_an_error_or_harmless() {
    let some: BTreeMap<Vec<u8>, u32> = (0..40u32)
        .map(|n| (format!("name-{}", n * 7).into_bytes(), n * n + 1))
        .collect();
    let other: BTreeMap<u64, u32> = (0..100).map(|n| (n * n * 1000, n as u32 + 1)).collect();
    for (kind, len, bytes) in [
        (Type::Str, some.len(), texts(&some)),
        (Type::Int, other.len(), numbers(&other)),
    ] {
        let read = |bytes: &[u8]| -> Result<()> {
            let bytes = Bytes::copy_from_slice(bytes);
            let dictionary = Dictionary::open("test", 0, kind, len, &bytes)?;
            let mut scratch = Vec::new();
            dictionary.count(3);
            dictionary.find(ValueRef::Str("name-98"))?;
            dictionary.find(ValueRef::Int(49_000))?;
            dictionary.read(39, &mut scratch)?;
            dictionary.each(0, &mut |_, _| true)?;
            dictionary.entry(17).map(|_| ())
        };
        read(&bytes).unwrap();
        for at in 0..bytes.len() {
            assert!(read(&bytes[..at]).is_err(), "{kind:?} {at}");
            for mask in [1, 0x80, 0xff] {
                let mut bytes = bytes.to_vec();
                bytes[at] ^= mask;
                if let Err(error) = read(&bytes) {
                    assert_eq!(error.kind(), trine_storage::Kind::Corrupt);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn texts_come_back_and_are_found(
        entries in proptest::collection::btree_map("[a-c]{0,6}", count(), 0..120),
        needle in "[a-c]{0,6}",
        from in 0..130u32,
    ) {
        let entries: BTreeMap<Vec<u8>, u32> =
            entries.into_iter().map(|(text, count)| (text.into_bytes(), count)).collect();
        let bytes = texts(&entries);
        let dictionary = Dictionary::open("test", 0, Type::Str, entries.len(), &bytes).unwrap();
        let mut scratch = Vec::new();
        for (code, (text, count)) in (0..).zip(&entries) {
            prop_assert_eq!(dictionary.read(code, &mut scratch).unwrap().bytes(), Some(&text[..]));
            prop_assert_eq!(dictionary.entry(code).unwrap().bytes(), Some(&text[..]));
            prop_assert_eq!(dictionary.count(code), *count);
        }
        prop_assert!(dictionary.entry(entries.len() as u32).is_err());
        let place = entries.keys().position(|text| text == needle.as_bytes());
        let found = dictionary.find(ValueRef::Str(&needle)).unwrap();
        prop_assert_eq!(found.map(|code| code as usize), place);
        let mut rest = vec![];
        dictionary.each(from, &mut |code, value| {
            rest.push((code, value.bytes().unwrap().to_vec()));
            rest.len() < 20
        }).unwrap();
        let expected: Vec<_> =
            (0..).zip(entries.keys().cloned()).skip(from as usize).take(20).collect();
        prop_assert_eq!(rest, expected);
    }

    #[test]
    fn numbers_come_back_and_are_found(
        keys in proptest::collection::btree_set(
            prop_oneof![any::<u64>(), 0..300u64, (u64::MAX - 300)..],
            0..200,
        ),
        needle in prop_oneof![any::<u64>(), 0..300u64],
        kind in prop_oneof![Just(Type::Int), Just(Type::Float)],
    ) {
        let keys: BTreeSet<u64> = keys.into_iter().collect();
        let entries: BTreeMap<u64, u32> =
            keys.iter().map(|&key| (key, (key % 9) as u32 + 1)).collect();
        let bytes = numbers(&entries);
        let dictionary = Dictionary::open("test", 0, kind, entries.len(), &bytes).unwrap();
        for (code, (key, count)) in (0..).zip(&entries) {
            let value = ValueRef::of_bits(kind, unordered(kind, *key));
            prop_assert_eq!(dictionary.entry(code).unwrap().bits(), value.bits());
            prop_assert_eq!(dictionary.count(code), *count);
            prop_assert_eq!(dictionary.find(value).unwrap(), Some(code));
        }
        let bound = entries.range(..needle).count();
        prop_assert_eq!(dictionary.lower_bound_number(needle) as usize, bound);
        let mut all = vec![];
        dictionary.each(0, &mut |_, value| {
            all.push(ordered(kind, value.bits().unwrap()));
            true
        }).unwrap();
        prop_assert!(all.iter().eq(entries.keys()));
    }
}
