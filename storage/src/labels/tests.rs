use proptest::prelude::*;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

#[test]
fn pairs_are_sorted_and_empty_values_left_out() {
    let set = labels(&[("z", "1"), ("a", "2"), ("gone", "")]);
    assert_eq!(set.iter().collect::<Vec<_>>(), [("a", "2"), ("z", "1")]);
    assert_eq!(set.get("gone"), None);
    assert_eq!((set.len(), set.is_empty()), (2, false));
    assert!(Labels::empty().is_empty());
}

#[test]
fn empty_and_duplicate_names_are_refused() {
    assert!(
        Labels::from_pairs([("", "x")])
            .unwrap_err()
            .to_string()
            .contains("empty name")
    );
    let twice = Labels::from_pairs([("a", "x"), ("b", "y"), ("a", "z")]).unwrap_err();
    assert_eq!(twice.to_string(), "duplicate label name \"a\"");
}

#[test]
fn order_is_by_pairs_not_by_encoding() {
    let long = "v".repeat(70);
    assert!(labels(&[("a", &long)]) < labels(&[("a", "w")]));
    assert!(labels(&[("a", "1")]) < labels(&[("a", "1"), ("b", "1")]));
    assert!(labels(&[("a", "1"), ("c", "1")]) > labels(&[("a", "1"), ("b", "2")]));
}

#[test]
fn with_replaces_adds_and_removes() {
    let set = labels(&[("a", "1"), ("c", "3")]);
    assert_eq!(
        set.with("b", "2"),
        labels(&[("a", "1"), ("b", "2"), ("c", "3")])
    );
    assert_eq!(set.with("a", "9"), labels(&[("a", "9"), ("c", "3")]));
    assert_eq!(set.with("c", ""), labels(&[("a", "1")]));
    assert_eq!(set.with("", "x"), set);
    assert_eq!(set.filter(|n| n == "c"), labels(&[("c", "3")]));
}

/// The bytes written down in FORMAT.md, "Labels".
#[test]
fn golden_bytes() {
    let set = labels(&[("job", "api"), ("path", &"x".repeat(70))]);
    let mut expected = b"\x03job\x03api\x04path\x46\x01".to_vec();
    expected.extend([b'x'; 70]);
    assert_eq!(set.encoded(), expected);
    assert_eq!(labels(&[("a", "b")]).hash64(), xxh3_64(b"\x01a\x01b"));
}

/// Two encodings of one set would be unequal sets that look alike.
#[test]
fn a_length_in_a_longer_form_is_refused() {
    assert!(Labels::from_encoded(b"\x01a\x01b").is_ok());
    for overlong in [&b"\x41\0a\x01b"[..], b"\x01a\x41\0b", b"\x41\x40\0a\x01b"] {
        assert!(Labels::from_encoded(overlong).is_err(), "{overlong:?}");
    }
}

proptest! {
    #[test]
    fn encoding_round_trips(pairs in prop::collection::btree_map("\\PC{1,90}", "\\PC{1,90}", 0..6)) {
        let set = Labels::from_pairs(pairs.iter()).unwrap();
        let back = Labels::from_encoded(set.encoded()).unwrap();
        prop_assert_eq!(&back, &set);
        prop_assert!(back.iter().eq(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))));
        for cut in 1..set.encoded().len() {
            // A cut either falls between two pairs or is noticed.
            if let Ok(short) = Labels::from_encoded(&set.encoded()[..cut]) {
                prop_assert!(short.len() < set.len());
            }
        }
    }

    #[test]
    fn order_is_the_order_of_the_pairs(
        a in prop::collection::btree_map("[a-c]{1,2}", "[a-c]{1,2}", 0..4),
        b in prop::collection::btree_map("[a-c]{1,2}", "[a-c]{1,2}", 0..4),
    ) {
        let (left, right) = (Labels::from_pairs(&a).unwrap(), Labels::from_pairs(&b).unwrap());
        prop_assert_eq!(left.cmp(&right), a.iter().cmp(b.iter()));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(set) = Labels::from_encoded(&bytes) {
            prop_assert_eq!(set.encoded(), bytes);
        }
    }
}

#[test]
fn the_order_is_that_of_the_pairs() {
    let long = "x".repeat(70);
    let texts = ["a", "aa", "b", "aé", long.as_str(), &long[1..]];
    let mut sets = vec![Labels::empty()];
    for (i, one) in texts.iter().enumerate() {
        for (j, two) in texts.iter().enumerate() {
            sets.push(Labels::from_pairs([(*one, *two)]).unwrap());
            for (k, three) in texts.iter().enumerate() {
                let pairs = [(*one, *two), (texts[(i + 1 + j) % texts.len()], *three)];
                sets.extend(Labels::from_pairs(pairs));
                sets.extend(Labels::from_pairs([pairs[0], (texts[k], "a")]));
            }
        }
    }
    for a in &sets {
        for b in &sets {
            assert_eq!(a.cmp(b), a.iter().cmp(b.iter()), "{a} and {b}");
        }
    }
}
