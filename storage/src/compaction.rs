//! What is to be merged: pure functions of what the catalog says and the time. Engines whose blocks lie
//! in windows of time call it.
//!
//! Time is divided into windows of a small and a large width. Sealed blocks (level 0) of a window
//! become one block of level 1 when they are several (where an engine says so, many while one is sealed
//! soon after the other) or the window is *closed*, which is when it ended long enough ago that little
//! comes late. Merged blocks are merged again when several of
//! about one size lie in a closed window, so that a row is seldom written more than twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::catalog::{BlockMeta, Delete};
use crate::time::{TimeRange, nanos};
use crate::ulid::BlockId;

/// The large width in units of the small one.
const LARGE_MULTIPLE: i64 = 12;
/// The large width is at most this part of the retention, so that old rows go in time.
const RETENTION_PARTS: i64 = 10;
/// As many sealed blocks of one window are merged, closed or not.
pub const SEALED_MAX: usize = 8;
/// More may wait while one is sealed so soon after the other: whoever writes that much needs the
/// machine for it.
const BUSY_MS: i64 = 10_000;
/// Sealed blocks of a closed window are merged when nothing was added for this long ...
const SETTLED_MS: i64 = 60_000;
/// ... or the first was made this long ago.
const SEALED_AGE_MS: i64 = 10 * 60_000;
/// Small ones, in a window of the large width, are merged when there are this many.
const SMALL_MAX: usize = 4;
/// Blocks are small when together they are at most this part of what may become one.
const SMALL_PARTS: u64 = 8;
/// The most blocks that become one at a time.
const INPUTS_MAX: usize = 32;

/// How an engine merges.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The small width.
    pub block_range: Duration,
    /// The shortest retention of any row.
    pub keep: Option<Duration>,
    /// Blocks that become one are at most this together, in the unit of [`Sized::size`].
    pub size_max: u64,
    /// Merged blocks of one window that are about one size become one when there are this many.
    pub merged_least: usize,
    /// How far rows of a block may lie behind its window without it lying in none.
    pub overhang: Duration,
    /// As many sealed blocks of a window wait for their merge at most while one is sealed soon after
    /// the other; with [`SEALED_MAX`] none does.
    pub waiting_max: usize,
}

/// What merges are planned by.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    small_ns: i64,
    large_ns: i64,
    size_max: u64,
    merged_least: usize,
    overhang_ns: i64,
    waiting_max: usize,
    now_ns: i64,
}

/// A block, and how large it is for a merge.
#[derive(Debug, Clone, Copy)]
pub struct Sized<'a> {
    /// What the catalog says of it.
    pub meta: &'a BlockMeta,
    /// In the unit of [`Settings::size_max`].
    pub size: u64,
}

/// Blocks that become one.
#[derive(Debug, PartialEq, Eq)]
pub struct Merge {
    /// By sequence.
    pub inputs: Vec<BlockId>,
    /// The level of the block that they become.
    pub level: u8,
}

impl Rules {
    /// Rules by the settings of an engine, now.
    pub fn new(settings: &Settings, now_ns: i64) -> Self {
        let small_ns = nanos(settings.block_range).max(1);
        let parts = |keep| nanos(keep) / RETENTION_PARTS;
        let most = settings.keep.map_or(i64::MAX, parts);
        let large_ns = small_ns.saturating_mul(LARGE_MULTIPLE).min(most);
        Self {
            small_ns,
            // Windows of the large width are made of whole ones of the small width.
            large_ns: (large_ns / small_ns).max(1) * small_ns,
            size_max: settings.size_max,
            merged_least: settings.merged_least,
            overhang_ns: nanos(settings.overhang),
            waiting_max: settings.waiting_max,
            now_ns,
        }
    }

    /// The window of a width that a block lies in; all of time when it lies in none.
    fn window(&self, block: &BlockMeta, width: i64) -> TimeRange {
        let (start, last) = (block.range.start, block.range.end.saturating_sub(1));
        let number = start.div_euclid(width);
        let overhang = last.saturating_sub(number.saturating_add(1).saturating_mul(width));
        if overhang >= self.overhang_ns {
            return TimeRange::ALL;
        }
        let start = number.saturating_mul(width);
        TimeRange::new(start, start.saturating_add(width))
    }

    /// Whether rows of the window are no longer expected: it ended half a small window ago.
    fn is_closed(&self, window: TimeRange) -> bool {
        window == TimeRange::ALL || window.end.saturating_add(self.small_ns / 2) <= self.now_ns
    }
}

/// The next merge that is due. Blocks of `forced` are merged whatever their number; no block is
/// merged with later ones while one of `pending` deletes concerns it and not them.
pub fn next_merge(
    blocks: &[Sized<'_>],
    rules: &Rules,
    forced: &BTreeSet<BlockId>,
    pending: &[&Delete],
) -> Option<Merge> {
    let sealed = blocks.iter().copied().filter(|block| block.meta.level == 0);
    let narrowest = |meta: &BlockMeta| match rules.window(meta, rules.small_ns) {
        TimeRange::ALL => rules.window(meta, rules.large_ns),
        window => window,
    };
    for (window, group) in windows(sealed, narrowest) {
        let is_forced = group.iter().any(|block| forced.contains(&block.meta.id));
        if is_forced || sealed_is_due(&group, window, rules) {
            return Some(merge(first_of(&group, rules, pending), 1));
        }
    }
    let merged = || blocks.iter().copied().filter(|block| block.meta.level > 0);
    if let Some(block) = merged().find(|block| forced.contains(&block.meta.id)) {
        return Some(merge(&[block], block.meta.level));
    }
    let small = (rules.small_ns, rules.merged_least, rules.size_max);
    let large = (rules.large_ns, SMALL_MAX, rules.size_max / SMALL_PARTS);
    for (width, least, size_max) in [small, large] {
        for (window, group) in windows(merged(), |meta| rules.window(meta, width)) {
            // What lies in no small window may lie in a large one.
            let in_none = window == TimeRange::ALL && width < rules.large_ns;
            if in_none || !rules.is_closed(window) {
                continue;
            }
            if let Some(inputs) = of_one_size(&group, least, size_max, pending) {
                let level = inputs.iter().map(|block| block.meta.level).max();
                return Some(merge(inputs, level.unwrap_or(1).saturating_add(1)));
            }
        }
    }
    None
}

/// The blocks of each window, by sequence.
fn windows<'a>(
    blocks: impl Iterator<Item = Sized<'a>>,
    window_of: impl Fn(&BlockMeta) -> TimeRange,
) -> Vec<(TimeRange, Vec<Sized<'a>>)> {
    let mut windows: BTreeMap<(i64, i64), Vec<Sized<'_>>> = BTreeMap::new();
    for block in blocks {
        let window = window_of(block.meta);
        windows
            .entry((window.start, window.end))
            .or_default()
            .push(block);
    }
    let by_sequence = |((start, end), mut group): ((i64, i64), Vec<Sized<'a>>)| {
        group.sort_by_key(|block| (block.meta.sequence, block.meta.id));
        (TimeRange::new(start, end), group)
    };
    windows.into_iter().map(by_sequence).collect()
}

/// Whether sealed blocks of one window are to be merged.
fn sealed_is_due(group: &[Sized<'_>], window: TimeRange, rules: &Rules) -> bool {
    let size: u64 = group.iter().map(|block| block.size).sum();
    let now_ms = rules.now_ns / 1_000_000;
    let ages = || {
        group
            .iter()
            .map(|block| now_ms.saturating_sub(block.meta.created_ms))
    };
    let settled = ages().all(|age| age >= SETTLED_MS) || ages().any(|age| age >= SEALED_AGE_MS);
    if rules.is_closed(window) && settled || group.len() >= rules.waiting_max {
        return true;
    }
    let is_busy = rules.waiting_max > SEALED_MAX && ages().any(|age| (0..BUSY_MS).contains(&age));
    !is_busy && (group.len() >= SEALED_MAX || size >= rules.size_max)
}

/// As many of `group`, from the first on, as may become one block.
fn first_of<'a, 'b>(group: &'b [Sized<'a>], rules: &Rules, pending: &[&Delete]) -> &'b [Sized<'a>] {
    let group = &group[..group.len().min(INPUTS_MAX)];
    let mut size = 0u64;
    let fits = group.iter().take_while(|block| {
        size = size.saturating_add(block.size);
        size <= rules.size_max
    });
    let fits = fits.count().max(1);
    before_deletes(&group[..fits], pending)
}

/// As many of `group` as pending deletes allow to become one: all of them are older than a delete
/// that concerns one of them, or all are later.
fn before_deletes<'a, 'b>(group: &'b [Sized<'a>], pending: &[&Delete]) -> &'b [Sized<'a>] {
    let mut group = group;
    for delete in pending {
        if group.iter().any(|block| delete.concerns(block.meta)) {
            let older = group.partition_point(|block| block.meta.sequence <= delete.sequence);
            group = &group[..older.max(1)];
        }
    }
    group
}

/// The first `least` or more neighbours of `group` none of which is larger than the others
/// together, if they are at most `size_max` together.
fn of_one_size<'a, 'b>(
    group: &'b [Sized<'a>],
    least: usize,
    size_max: u64,
    pending: &[&Delete],
) -> Option<&'b [Sized<'a>]> {
    for start in 0..group.len() {
        let (mut all, mut largest, mut best) = (0u64, 0, None);
        for (count, block) in (1..=INPUTS_MAX).zip(&group[start..]) {
            all = all.saturating_add(block.size);
            largest = largest.max(block.size);
            if all > size_max {
                break;
            }
            if count >= least && all / 2 >= largest {
                best = Some(&group[start..start + count]);
            }
        }
        if let Some(best) = best
            && before_deletes(best, pending).len() == best.len()
        {
            return Some(best);
        }
    }
    None
}

fn merge(inputs: &[Sized<'_>], level: u8) -> Merge {
    Merge {
        inputs: inputs.iter().map(|block| block.meta.id).collect(),
        level,
    }
}

#[cfg(test)]
mod tests;
