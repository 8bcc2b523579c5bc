//! What is to be merged: pure functions of what the catalog says and the time.
//!
//! Time is divided into windows of a few widths, each a multiple of the one before. A window is
//! *closed* when it ended long enough ago that little comes late. Parts are cut into one block per
//! closed window; blocks that lie in a closed window of the next width are merged into one.

use std::time::Duration;

use trine_storage::TimeRange;
use trine_storage::catalog::BlockMeta;
use trine_storage::ulid::BlockId;

use crate::block::{PART_LEVEL, is_block};

/// The widths of windows, in units of the smallest.
const MULTIPLES: [i64; 5] = [1, 4, 12, 60, 372];
/// The largest window is at most this part of the retention, so that old samples go in time.
const RETENTION_PARTS: i64 = 10;
/// Blocks of one window that together are smaller than this part of the largest wait for more.
const SMALL_PARTS: u64 = 8;
/// As many blocks of one window are merged whatever their sizes.
const BLOCKS_MAX: usize = 4;
/// Parts are cut when there are this many, however small.
const PARTS_MAX: usize = 8;
/// Parts are cut when they hold this many bytes.
const PART_BYTES_MAX: u64 = 256 << 20;
/// Parts are cut when the oldest was made this long ago and holds samples of closed windows.
const PART_AGE_MS: i64 = 60_000;

/// The windows that time is divided into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Widths in milliseconds, rising.
    widths: Vec<i64>,
    now_ms: i64,
}

/// Blocks that become one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// By sequence, so that later rows win.
    pub(crate) inputs: Vec<BlockId>,
    pub(crate) window: TimeRange,
    pub(crate) level: u8,
}

impl Windows {
    /// The windows for blocks of the width `block_range` at the time `now_ms`, made `scale` times as
    /// wide.
    pub(crate) fn new(
        block_range: Duration,
        retention: Option<Duration>,
        scale: i64,
        now_ms: i64,
    ) -> Self {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let least = ms(block_range).max(1).saturating_mul(scale);
        let most = retention.map_or(i64::MAX, |kept| ms(kept) / RETENTION_PARTS);
        let wide = |multiple: &i64| least.checked_mul(*multiple).filter(|&w| w <= most);
        let mut widths: Vec<i64> = MULTIPLES.iter().filter_map(wide).collect();
        if widths.is_empty() {
            widths.push(least);
        }
        Self { widths, now_ms }
    }

    /// The window of the width number `level` - 1 that `timestamp` lies in.
    fn at_level(&self, level: usize, timestamp: i64) -> Option<TimeRange> {
        let width = *self.widths.get(level.checked_sub(1)?)?;
        let start = timestamp.saturating_sub(timestamp.rem_euclid(width));
        Some(TimeRange::new(start, start.saturating_add(width)))
    }

    /// Whether samples of the window are no longer expected: it ended half a smallest window ago.
    fn is_closed(&self, window: TimeRange) -> bool {
        let grace = self.widths.first().copied().unwrap_or(0) / 2;
        window.end.saturating_add(grace) <= self.now_ms
    }

    /// The widest closed window that `timestamp` lies in, and the level of its blocks.
    pub(crate) fn closed_at(&self, timestamp: i64) -> Option<(u8, TimeRange)> {
        (1..=self.widths.len()).rev().find_map(|level| {
            let window = self.at_level(level, timestamp)?;
            self.is_closed(window).then_some((level as u8, window))
        })
    }

    /// The smallest window that `timestamp` lies in, closed or not.
    fn smallest_at(&self, timestamp: i64) -> (u8, TimeRange) {
        let all = TimeRange::ALL;
        (1, self.at_level(1, timestamp).unwrap_or(all))
    }

    /// The window whose block a sample at `timestamp` goes to, and its level.
    pub(crate) fn at(&self, timestamp: i64) -> (u8, TimeRange) {
        let closed = self.closed_at(timestamp);
        closed.unwrap_or_else(|| self.smallest_at(timestamp))
    }
}

/// Whether the parts are to be cut into blocks.
pub(crate) fn cut_is_due<'a>(
    blocks: impl Iterator<Item = &'a BlockMeta>,
    windows: &Windows,
) -> bool {
    let parts: Vec<&BlockMeta> = blocks.filter(|meta| meta.level == PART_LEVEL).collect();
    let closed =
        |meta: &&&BlockMeta| meta.rows > 0 && windows.closed_at(meta.range.start).is_some();
    let due: Vec<&&BlockMeta> = parts.iter().filter(closed).collect();
    let bytes: u64 = due.iter().map(|meta| meta.bytes).sum();
    let old = |meta: &&&BlockMeta| windows.now_ms.saturating_sub(meta.created_ms) >= PART_AGE_MS;
    parts.len() >= 8 * PARTS_MAX
        || due.len() >= PARTS_MAX
        || bytes >= PART_BYTES_MAX
        || due.iter().any(old)
}

/// The parts that are to become one, so that a read of one series need not look into many: the newest
/// ones, when several are of one size.
pub(crate) fn next_part_merge<'a>(blocks: impl Iterator<Item = &'a BlockMeta>) -> Vec<BlockId> {
    let mut parts: Vec<&BlockMeta> = blocks.filter(|meta| meta.level == PART_LEVEL).collect();
    parts.sort_by_key(|meta| meta.sequence);
    // Eight parts of a size make one of the next.
    let size = |meta: &BlockMeta| meta.rows.max(1).ilog2() / PARTS_MAX.ilog2();
    let mut sizes: Vec<u32> = parts.iter().map(|meta| size(meta)).collect();
    sizes.sort_unstable();
    for most in sizes {
        let newest = || {
            let newest = parts.iter().rev();
            newest.take_while(|meta| size(meta) <= most)
        };
        let all: u64 = newest().map(|meta| meta.rows).sum();
        let largest = newest().map(|meta| meta.rows).max().unwrap_or(0);
        // A large one is not written again for a few small ones.
        if newest().count() >= PARTS_MAX && all / 2 >= largest {
            return newest().map(|meta| meta.id).collect();
        }
    }
    Vec::new()
}

/// The next merge that is due, of those blocks that are free to be merged.
pub(crate) fn next_merge<'a>(
    blocks: impl Iterator<Item = &'a BlockMeta>,
    windows: &Windows,
    is_free: impl Fn(&BlockMeta) -> bool,
) -> Option<Merge> {
    let mut blocks: Vec<&BlockMeta> = blocks.filter(|meta| is_block(meta)).collect();
    blocks.sort_by_key(|meta| (meta.range.start, meta.sequence));
    for level in 1..=windows.widths.len() {
        let mut at = 0;
        while let Some(first) = blocks.get(at) {
            let Some(window) = windows.at_level(level, first.range.start) else {
                break;
            };
            let end = at + blocks[at..].partition_point(|meta| meta.range.start < window.end);
            let inside: Vec<&BlockMeta> = blocks[at..end]
                .iter()
                .copied()
                .filter(|meta| meta.range.end <= window.end && is_free(meta))
                .collect();
            at = end;
            if windows.is_closed(window)
                && is_worth_it(&inside)
                && nothing_between(&blocks, &inside)
            {
                return Some(merge(&inside, window, level as u8));
            }
        }
    }
    None
}

/// Whether merging gains more than it costs: blocks that are small beside the largest wait until
/// there are several.
fn is_worth_it(inside: &[&BlockMeta]) -> bool {
    let largest = inside.iter().map(|meta| meta.bytes).max().unwrap_or(0);
    let all: u64 = inside.iter().map(|meta| meta.bytes).sum();
    inside.len() >= BLOCKS_MAX
        || inside.len() >= 2 && (all - largest).saturating_mul(SMALL_PARTS) >= largest
}

/// Whether no other block holds rows that are later than some of `inside` and earlier than others.
/// One that is as late as the last may be of the same cut as it, and is later than the others.
fn nothing_between(blocks: &[&BlockMeta], inside: &[&BlockMeta]) -> bool {
    let sequences = || inside.iter().map(|meta| meta.sequence);
    let (Some(first), Some(last)) = (sequences().min(), sequences().max()) else {
        return true;
    };
    !blocks.iter().any(|other| {
        let between = other.sequence > first && other.sequence <= last;
        let overlaps = inside.iter().any(|meta| meta.range.overlaps(&other.range));
        between && overlaps && !inside.iter().any(|meta| meta.id == other.id)
    })
}

fn merge(inside: &[&BlockMeta], window: TimeRange, level: u8) -> Merge {
    let mut inputs = inside.to_vec();
    inputs.sort_by_key(|meta| (meta.sequence, meta.id));
    Merge {
        inputs: inputs.iter().map(|meta| meta.id).collect(),
        window,
        level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn windows(now_ms: i64) -> Windows {
        Windows::new(Duration::from_secs(7_200), None, 1, now_ms)
    }

    fn block(number: u128, start: i64, end: i64, bytes: u64) -> BlockMeta {
        BlockMeta {
            id: BlockId::from_bits(number),
            range: TimeRange::new(start, end),
            rows: 1,
            bytes,
            level: 1,
            sequence: number as u64,
            created_ms: 0,
            deletes_applied: 0,
        }
    }

    #[test]
    fn the_widest_closed_window_is_chosen() {
        let hours = |window: Option<(u8, TimeRange)>| {
            window.map(|(level, w)| (level, w.start / HOUR, w.end / HOUR))
        };
        let now = windows(100 * HOUR);
        assert_eq!(hours(now.closed_at(99 * HOUR)), None);
        assert_eq!(hours(now.closed_at(98 * HOUR)), None, "ended too lately");
        assert_eq!(hours(now.closed_at(97 * HOUR)), Some((1, 96, 98)));
        assert_eq!(hours(now.closed_at(90 * HOUR)), Some((3, 72, 96)));
        assert_eq!(
            hours(windows(93 * HOUR).closed_at(85 * HOUR)),
            Some((2, 80, 88))
        );
        assert_eq!(hours(now.closed_at(30 * HOUR)), Some((3, 24, 48)));
        assert_eq!(hours(now.closed_at(-1)), Some((5, -744, 0)));
        let short = Windows::new(
            Duration::from_secs(7_200),
            Some(Duration::from_secs(100 * 3_600)),
            1,
            1_000 * HOUR,
        );
        assert_eq!(
            hours(short.closed_at(0)),
            Some((2, 0, 8)),
            "a tenth of the retention"
        );
    }

    #[test]
    fn eight_parts_of_a_size_become_one() {
        let part = |(number, rows): (u128, u64)| BlockMeta {
            level: PART_LEVEL,
            rows,
            ..block(number, 0, 1, 1)
        };
        let check = |rows: &[u64], expected: std::ops::Range<u128>| {
            let parts: Vec<BlockMeta> = (0..).zip(rows.iter().copied()).map(part).collect();
            let mut found = next_part_merge(parts.iter());
            found.reverse();
            assert_eq!(found, expected.map(BlockId::from_bits).collect::<Vec<_>>());
        };
        check(&[], 0..0);
        check(&[100; 7], 0..0);
        check(&[100; 8], 0..8);
        check(&[100; 9], 0..9);
        check(&[600, 100, 100, 100, 100, 100, 100, 100], 0..8);
        check(&[800, 100, 100, 100, 100, 100, 100, 100], 0..0);
        check(&[800, 100, 100, 100, 100, 100, 100, 100, 100], 1..9);
        check(&[9_000, 100, 100, 100, 100, 100, 100, 100], 0..0);
        check(&[9_000, 70, 80, 90, 100, 200, 300, 400, 500], 1..9);
        check(&[0, 0, 0, 0, 0, 0, 0, 0, 9], 0..0);
        check(&[0, 0, 0, 0, 0, 0, 0, 0, 9, 9], 0..10);
        check(&[0; 8], 0..8);
    }

    #[test]
    fn blocks_of_a_closed_window_become_one() {
        let ids = |blocks: &[BlockMeta], now| {
            next_merge(blocks.iter(), &windows(now), |_| true).map(|merge| {
                let inputs: Vec<u128> = (0..100)
                    .filter(|n| merge.inputs.contains(&BlockId::from_bits(*n)))
                    .collect();
                (merge.level, merge.window.start / HOUR, inputs)
            })
        };
        let row: Vec<BlockMeta> = (0..4)
            .map(|n| block(n as u128, n * 2 * HOUR, (n + 1) * 2 * HOUR, 100))
            .collect();
        assert_eq!(ids(&row, 8 * HOUR), None, "not closed yet");
        assert_eq!(ids(&row, 9 * HOUR), Some((2, 0, vec![0, 1, 2, 3])));
        let one = [block(1, 0, 24 * HOUR, 100)];
        assert_eq!(ids(&one, 900 * HOUR), None, "one block is merged");
        let late = [block(1, 0, 24 * HOUR, 1_000), block(2, 0, 2 * HOUR, 10)];
        assert_eq!(ids(&late, 900 * HOUR), None, "too little came late");
        let late = [block(1, 0, 24 * HOUR, 1_000), block(2, 0, 2 * HOUR, 125)];
        assert_eq!(ids(&late, 90 * HOUR), Some((3, 0, vec![1, 2])));
        let between = [
            block(1, 0, 2 * HOUR, 100),
            block(2, 0, 24 * HOUR, 100_000),
            block(3, 0, 2 * HOUR, 100),
        ];
        assert_eq!(
            ids(&between[..], 4 * HOUR),
            None,
            "a later block lies between"
        );
    }
}
