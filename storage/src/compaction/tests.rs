use super::*;

const HOUR_MS: i64 = 3_600_000;
const HOUR: i64 = HOUR_MS * 1_000_000;

const SETTINGS: Settings = Settings {
    block_range: Duration::from_secs(7_200),
    keep: None,
    size_max: 8_000,
    merged_least: 8,
    overhang: Duration::ZERO,
    waiting_max: SEALED_MAX,
};

fn rules(now_hours: i64) -> Rules {
    Rules::new(&SETTINGS, now_hours * HOUR)
}

#[test]
fn sealed_blocks_wait_while_one_follows_soon_after_the_other() {
    let settings = Settings {
        waiting_max: 20,
        ..SETTINGS
    };
    let check = |count, bytes, newest_age_ms: i64, expected: Option<u64>| {
        let mut blocks = sealed(count, 10, bytes, 11);
        if let Some(newest) = blocks.last_mut() {
            newest.created_ms += HOUR_MS / 10;
        }
        let now_ms = 11 * HOUR_MS + HOUR_MS / 10 + newest_age_ms;
        let rules = Rules::new(&settings, now_ms * 1_000_000);
        let found = planned(&blocks, &rules, &[], &[]);
        let expected = expected.map(|count| (1, (1..=count).collect()));
        assert_eq!(
            found, expected,
            "{count} blocks, {newest_age_ms} ms after the last"
        );
    };
    check(19, 10, BUSY_MS - 1, None);
    check(20, 10, BUSY_MS - 1, Some(20));
    check(19, 1_000, BUSY_MS - 1, None);
    check(20, 1_000, BUSY_MS - 1, Some(8));
    check(8, 10, BUSY_MS, Some(8));
    check(2, 4_000, BUSY_MS, Some(2));
    check(7, 10, BUSY_MS, None);
    // A block of the future says nothing: a clock was put back.
    check(8, 10, -1, Some(8));
    // In a closed window nothing waits longer than before.
    let mut blocks = sealed(3, 10, 10, 13);
    blocks[2].created_ms = 14 * HOUR_MS;
    let rules = Rules::new(&settings, 14 * HOUR);
    assert_eq!(planned(&blocks, &rules, &[], &[]), Some((1, vec![1, 2, 3])));
}

/// A block that holds the first half of an hour and was made so many hours after 1970.
fn block(number: u64, level: u8, hour: i64, bytes: u64, made: i64) -> BlockMeta {
    BlockMeta {
        id: BlockId::from_bits(u128::from(number)),
        range: TimeRange::new(hour * HOUR, hour * HOUR + HOUR / 2),
        rows: 1,
        bytes,
        level,
        sequence: number,
        created_ms: made * HOUR_MS,
        deletes_applied: 0,
    }
}

fn delete(number: u64, sequence: u64) -> Delete {
    Delete {
        number,
        sequence,
        range: TimeRange::ALL,
        what: String::new(),
        created_ms: 0,
    }
}

fn planned(
    blocks: &[BlockMeta],
    rules: &Rules,
    forced: &[u64],
    pending: &[Delete],
) -> Option<(u8, Vec<u64>)> {
    let blocks: Vec<Sized<'_>> = blocks
        .iter()
        .map(|meta| Sized {
            meta,
            size: meta.bytes,
        })
        .collect();
    let id = |number: &u64| BlockId::from_bits(u128::from(*number));
    let forced = forced.iter().map(id).collect();
    let pending: Vec<&Delete> = pending.iter().collect();
    let merge = next_merge(&blocks, rules, &forced, &pending)?;
    let number = |id: &BlockId| {
        let named = blocks.iter().find(|block| block.meta.id == *id);
        named.map_or(0, |block| block.meta.sequence)
    };
    Some((merge.level, merge.inputs.iter().map(number).collect()))
}

fn sealed(count: u64, hour: i64, bytes: u64, made: i64) -> Vec<BlockMeta> {
    (1..=count)
        .map(|n| block(n, 0, hour, bytes, made))
        .collect()
}

#[test]
fn sealed_blocks_are_merged_when_they_are_several_or_their_window_is_closed() {
    let check = |count, bytes, made, now, expected: Option<u64>| {
        let found = planned(&sealed(count, 10, bytes, made), &rules(now), &[], &[]);
        let expected = expected.map(|count| (1, (1..=count).collect()));
        assert_eq!(found, expected, "{count} blocks made at {made}, now {now}");
    };
    check(7, 10, 10, 11, None);
    check(8, 10, 10, 11, Some(8));
    check(40, 10, 10, 11, Some(32));
    check(2, 4_000, 10, 11, Some(2));
    check(2, 3_999, 10, 11, None);
    check(3, 4_000, 10, 11, Some(2));
    check(1, 9_000, 10, 11, Some(1));
    // The window of the hours 10 and 11 is closed one hour after it.
    check(1, 10, 10, 12, None);
    check(3, 10, 10, 13, Some(3));
    check(1, 10, 13, 13, None);
    check(1, 10, 13, 14, Some(1));
    let mut later = sealed(2, 10, 10, 13);
    later[1].created_ms = 14 * HOUR_MS;
    assert_eq!(planned(&later, &rules(14), &[], &[]), Some((1, vec![1, 2])));
    later[0].created_ms = 14 * HOUR_MS;
    assert_eq!(planned(&later, &rules(14), &[], &[]), None, "more may come");
    assert_eq!(
        planned(&sealed(2, 10, 10, 10), &rules(11), &[2], &[]),
        Some((1, vec![1, 2])),
        "forced"
    );
}

#[test]
fn rows_shortly_after_a_window_may_belong_to_it() {
    let settings = Settings {
        overhang: Duration::from_secs(3_600),
        ..SETTINGS
    };
    let rules = |now: i64| Rules::new(&settings, now * HOUR);
    let mut blocks = sealed(2, 10, 10, 10);
    blocks[1].range.end = 13 * HOUR;
    let due = Some((1, vec![1, 2]));
    assert_eq!(planned(&blocks, &rules(13), &[], &[]), due);
    blocks[1].range.end += 1;
    let alone = Some((1, vec![1]));
    assert_eq!(planned(&blocks, &rules(13), &[], &[]), alone);
}

#[test]
fn a_block_that_lies_in_no_window_is_merged_with_others_like_it() {
    let mut wide = sealed(3, 10, 10, 10);
    wide[0].range.end = 30 * HOUR;
    wide[2].range.end = 40 * HOUR;
    assert_eq!(planned(&wide, &rules(11), &[], &[]), Some((1, vec![1, 3])));
    let mut of_a_day = sealed(3, 10, 10, 10);
    of_a_day[0].range.end = 14 * HOUR;
    of_a_day[2].range.end = 15 * HOUR;
    assert_eq!(planned(&of_a_day, &rules(24), &[], &[]), Some((1, vec![2])));
    of_a_day.remove(1);
    assert_eq!(planned(&of_a_day, &rules(24), &[], &[]), None, "open");
    assert_eq!(
        planned(&of_a_day, &rules(25), &[], &[]),
        Some((1, vec![1, 3]))
    );
}

#[test]
fn merged_blocks_are_merged_again_when_several_are_of_one_size() {
    let of = |sizes: &[u64]| -> Vec<BlockMeta> {
        let sizes = (1..).zip(sizes);
        sizes
            .map(|(n, bytes)| block(n, 1, 10, *bytes, 10))
            .collect()
    };
    let check = |sizes: &[u64], expected: Option<(u8, Vec<u64>)>| {
        assert_eq!(
            planned(&of(sizes), &rules(200), &[], &[]),
            expected,
            "{sizes:?}"
        );
        assert_eq!(planned(&of(sizes), &rules(12), &[], &[]), None, "open");
    };
    check(&[1_000; 7], None);
    check(&[1_000; 8], Some((2, (1..=8).collect())));
    check(&[1_001; 8], None);
    check(&[900; 9], Some((2, (1..=8).collect())));
    check(&[7_000, 1, 1, 1, 1, 1, 1, 1], Some((2, (2..=8).collect())));
    check(&[250; 4], Some((2, (1..=4).collect())));
    check(&[251; 4], None);
    check(&[250; 3], None);
}

#[test]
fn an_engine_says_how_many_of_one_size_become_one() {
    let settings = Settings {
        merged_least: 4,
        ..SETTINGS
    };
    let rules = Rules::new(&settings, 200 * HOUR);
    let check = |sizes: &[u64], expected: Option<(u8, Vec<u64>)>| {
        let sized = (1..).zip(sizes);
        let blocks: Vec<BlockMeta> = sized
            .map(|(n, bytes)| block(n, 1, 10, *bytes, 10))
            .collect();
        assert_eq!(planned(&blocks, &rules, &[], &[]), expected, "{sizes:?}");
    };
    check(&[2_000; 3], None);
    check(&[2_000; 4], Some((2, (1..=4).collect())));
    check(&[2_001; 4], None);
    check(&[1_700; 5], Some((2, (1..=4).collect())));
    check(&[7_000, 1, 1, 1, 1], Some((2, (2..=5).collect())));
    check(&[250; 3], None);
}

#[test]
fn small_blocks_of_a_day_become_one() {
    let day: Vec<BlockMeta> = (0..12)
        .map(|n| block(n + 1, 1, 2 * n.cast_signed(), 50, 0))
        .collect();
    assert_eq!(
        planned(&day, &rules(25), &[], &[]),
        Some((2, (1..=12).collect()))
    );
    assert_eq!(planned(&day, &rules(24), &[], &[]), None, "not over yet");
    let kept = Some(Duration::from_secs(40 * 3_600));
    let settings = Settings {
        keep: kept,
        ..SETTINGS
    };
    let short = Rules::new(&settings, 25 * HOUR);
    assert_eq!(
        planned(&day, &short, &[], &[]),
        None,
        "would be kept too long"
    );
}

#[test]
fn a_pending_delete_keeps_older_and_later_blocks_apart() {
    let blocks = sealed(8, 10, 10, 10);
    let check = |sequence, expected: &[u64]| {
        let found = planned(&blocks, &rules(11), &[], &[delete(1, sequence)]);
        assert_eq!(found, Some((1, expected.to_vec())), "{sequence}");
    };
    check(8, &[1, 2, 3, 4, 5, 6, 7, 8]);
    check(5, &[1, 2, 3, 4, 5]);
    check(1, &[1]);
    check(0, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let merged: Vec<BlockMeta> = (1..=8).map(|n| block(n, 1, 10, 100, 10)).collect();
    let at = |sequence| planned(&merged, &rules(26), &[], &[delete(1, sequence)]);
    assert_eq!(at(8), Some((2, (1..=8).collect())));
    assert_eq!(at(0), Some((2, (1..=8).collect())));
    assert_eq!(at(4), Some((2, vec![5, 6, 7, 8])), "as a day's small ones");
}

#[test]
fn a_merged_block_that_must_be_written_again_is_written_alone() {
    let blocks = [block(1, 1, 10, 100, 10), block(2, 2, 10, 100, 10)];
    assert_eq!(planned(&blocks, &rules(11), &[2], &[]), Some((2, vec![2])));
}

#[test]
fn times_at_both_ends_of_what_there_is_are_planned() {
    let mut blocks = sealed(8, 10, 10, 10);
    for (block, start) in blocks
        .iter_mut()
        .zip([i64::MIN, i64::MAX - 2].into_iter().cycle())
    {
        block.range = TimeRange::new(start, start + 1);
    }
    for now in [i64::MIN, 0, i64::MAX] {
        let rules = Rules::new(&SETTINGS, now);
        planned(&blocks, &rules, &[], &[]);
    }
}
