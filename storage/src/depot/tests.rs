use super::*;
use crate::Kind;
use crate::time::TimeRange;

fn block(number: u128) -> BlockMeta {
    BlockMeta {
        id: BlockId::from_bits(number),
        range: TimeRange { start: 0, end: 7 },
        rows: 3,
        bytes: 99,
        level: 0,
        sequence: 1,
        created_ms: 1,
        deletes_applied: 0,
    }
}

fn delete(number: u64) -> Delete {
    Delete {
        number,
        sequence: 1,
        range: TimeRange { start: 0, end: 7 },
        what: "x".to_owned(),
        created_ms: 1,
    }
}

fn batch(numbers: &[u128]) -> ShipEdit {
    ShipEdit {
        add: numbers.iter().map(|&n| block(n)).collect(),
        is_batch: true,
        ..ShipEdit::default()
    }
}

fn merge(remove: &[u128], add: &[u128]) -> ShipEdit {
    ShipEdit {
        add: add.iter().map(|&n| block(n)).collect(),
        remove: ids(remove),
        ..ShipEdit::default()
    }
}

fn ids(numbers: &[u128]) -> Vec<BlockId> {
    numbers.iter().map(|&n| BlockId::from_bits(n)).collect()
}

/// What the edit makes of it; nothing when it changes nothing.
fn apply(document: &Document, edit: &ShipEdit, instance: &str) -> Result<Option<Document>> {
    let next = edit.applied_to(document, instance)?;
    assert_eq!(next.version == document.version, next == *document);
    Ok((next != *document).then_some(next))
}

fn done(document: &Document, edit: &ShipEdit, instance: &str) -> Document {
    let next = apply(document, edit, instance).unwrap().expect("a change");
    assert_eq!(apply(&next, edit, instance).unwrap(), None, "twice is once");
    next
}

fn named(document: &Document) -> Vec<BlockId> {
    document.blocks.iter().map(|block| block.id).collect()
}

#[test]
fn a_batch_is_remembered_until_the_next_of_the_same_directory() {
    let first = done(&Document::default(), &batch(&[1, 2]), "a");
    assert_eq!(first.shipped["a"], ids(&[1, 2]));
    let second = done(&first, &batch(&[3]), "b");
    let third = done(&second, &batch(&[4]), "a");
    assert_eq!(
        (&third.shipped["a"], &third.shipped["b"]),
        (&ids(&[4]), &ids(&[3]))
    );
    assert_eq!(named(&third), ids(&[1, 2, 3, 4]));
}

#[test]
fn what_was_shipped_and_merged_away_since_is_not_shipped_again() {
    let shipped = done(&Document::default(), &batch(&[1, 2]), "a");
    let merged = done(&shipped, &merge(&[1, 2], &[9]), "b");
    assert_eq!(apply(&merged, &batch(&[1, 2]), "a").unwrap(), None);
    // More than before, and less.
    let more = done(&merged, &batch(&[1, 2, 3]), "a");
    assert_eq!(named(&more), ids(&[9, 3]));
    assert_eq!(more.shipped["a"], ids(&[1, 2, 3]));
    let less = done(&merged, &batch(&[2, 4]), "a");
    assert_eq!(named(&less), ids(&[9, 4]));
    assert_eq!(less.shipped["a"], ids(&[1, 2, 4]));
    // Another directory knows nothing of it.
    assert_eq!(named(&done(&merged, &batch(&[1]), "b")), ids(&[9, 1]));
}

#[test]
fn a_merge_of_blocks_that_are_gone_is_void_unless_it_was_this_one() {
    let shipped = done(&Document::default(), &batch(&[1, 2, 3]), "a");
    let merged = done(&shipped, &merge(&[1, 2], &[8]), "a");
    let void = apply(&merged, &merge(&[2, 3], &[9]), "a").unwrap_err();
    assert_eq!(void.kind(), Kind::Invalid);
    assert!(
        void.to_string().contains(&ids(&[2])[0].to_string()),
        "{void}"
    );
    // Retention and merges of which nothing is left remove what is still there.
    let retained = done(&merged, &merge(&[1, 3], &[]), "a");
    assert_eq!(named(&retained), ids(&[8]));
}

#[test]
fn the_number_of_a_delete_is_never_given_again() {
    let edit = |number| ShipEdit {
        delete: vec![delete(number)],
        ..ShipEdit::default()
    };
    let forget = |number| ShipEdit {
        forget_deletes: vec![number],
        ..ShipEdit::default()
    };
    let first = done(&Document::default(), &edit(5), "a");
    let other = ShipEdit {
        delete: vec![Delete {
            what: "y".to_owned(),
            ..delete(5)
        }],
        ..ShipEdit::default()
    };
    let taken = apply(&first, &other, "a").unwrap_err();
    assert_eq!(taken.kind(), Kind::Invalid);
    let forgotten = done(&first, &forget(5), "a");
    assert_eq!((forgotten.deletes.len(), forgotten.deletes_given), (0, 5));
    assert_eq!(
        apply(&forgotten, &edit(5), "a").unwrap_err().kind(),
        Kind::Invalid
    );
    let next = done(&forgotten, &edit(6), "a");
    assert_eq!((next.deletes.len(), next.deletes_given), (1, 6));
    assert_eq!(apply(&next, &forget(4), "a").unwrap(), None);
}

#[test]
fn the_position_only_rises() {
    let edit = |position| ShipEdit {
        wal_position: Some(position),
        ..ShipEdit::default()
    };
    let first = done(&Document::default(), &edit(7), "a");
    assert_eq!(apply(&first, &edit(6), "a").unwrap(), None);
}

#[test]
fn the_directory_that_shipped_longest_ago_is_forgotten_first() {
    let mut document = Document::default();
    for number in 1..=u128::try_from(INSTANCES_MAX).unwrap() {
        document = done(&document, &batch(&[number]), &format!("d{number}"));
    }
    document = done(&document, &batch(&[1000]), "d1");
    document = done(&document, &batch(&[1001]), "new");
    assert_eq!(document.shipped.len(), INSTANCES_MAX);
    assert!(!document.shipped.contains_key("d2"));
    assert_eq!(document.shipped["d1"], ids(&[1000]));
}
