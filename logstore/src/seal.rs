//! Turns memory into blocks: sorts its entries and writes one block for each range of time.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::Result;
use trine_storage::block_set::BlockSet;
use trine_storage::catalog::BlockMeta;
use trine_storage::clock::Clock;
use trine_storage::fs::Fs;
use trine_storage::time::nanos;

use crate::block::reader::BlockFile;
use crate::block::writer::{BlockWriter, SetCodes};
use crate::buffer::{PAGE_ROWS, Page, View};
use crate::config::Config;

/// What a seal needs of its store.
#[derive(Debug)]
pub(crate) struct Sealer<'a> {
    pub(crate) fs: &'a Arc<dyn Fs>,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) blocks: &'a BlockSet<BlockFile>,
    pub(crate) config: &'a Config,
}

/// Where an entry of memory is: the number of its page, then its row there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct At(u32);

impl At {
    fn page(self) -> usize {
        self.0 as usize / PAGE_ROWS
    }

    fn row(self) -> usize {
        self.0 as usize % PAGE_ROWS
    }

    /// Whether `next` is the entry after this one in its page.
    fn is_before(self, next: Self) -> bool {
        self.0 + 1 == next.0 && self.page() == next.page()
    }
}

impl Sealer<'_> {
    /// Writes the entries, which are complete up to a position of the log, into blocks under
    /// temporary names.
    pub(crate) fn write(&self, view: &View, position: u64) -> Result<Vec<BlockMeta>> {
        let mut written = Vec::new();
        let result = self.write_blocks(view, position, &mut written);
        if let Err(error) = result {
            for path in written {
                // What cannot be removed now is swept at the next open.
                self.fs.remove_file(&path).ok();
            }
            return Err(error);
        }
        result
    }

    fn write_blocks(
        &self,
        view: &View,
        position: u64,
        written: &mut Vec<PathBuf>,
    ) -> Result<Vec<BlockMeta>> {
        let labels = view.streams();
        let mut order: Vec<u32> = (0u32..).take(labels.len()).collect();
        order.sort_unstable_by(|&a, &b| labels[a as usize].cmp(&labels[b as usize]));
        let pages = view.pages();
        let (width, ranges) = ranges_of(&pages, self.config);
        // What sets of metadata are called in the chunk that is written, by page.
        let mut codes: Vec<SetCodes> = pages.iter().map(|_| SetCodes::default()).collect();
        let mut metas = Vec::new();
        for range in ranges {
            let mut rows = Rows::of(&pages, labels.len(), |t| range_number(t, width) == range);
            let id = self.blocks.next_id(self.clock);
            let path = self.blocks.temporary(id);
            written.push(path.clone());
            let mut writer = BlockWriter::create(&**self.fs, &path)?;
            codes.fill_with(SetCodes::default);
            for &stream in &order {
                let rows = rows.of_stream(stream, &pages);
                if rows.is_empty() {
                    continue;
                }
                let runs = || {
                    let runs = rows.chunk_by(|a, b| a.is_before(*b));
                    runs.map(|run| (run[0].page(), run[0].row()..run[0].row() + run.len()))
                };
                let bytes = runs().map(|(page, rows)| pages[page].columns.bytes_of(rows));
                writer.stream(&labels[stream as usize], bytes.sum())?;
                for (page, rows) in runs() {
                    writer.push_rows(&pages[page].columns, rows, &mut codes[page])?;
                }
            }
            let done = writer.finish()?;
            metas.push(BlockMeta {
                id,
                range: done.range,
                rows: done.rows,
                bytes: done.bytes,
                level: 0,
                sequence: position,
                created_ms: self.clock.now_ms(),
                deletes_applied: 0,
            });
        }
        Ok(metas)
    }
}

/// The width of the ranges, and the ranges that have entries, in order.
fn ranges_of(pages: &[Page], config: &Config) -> (Option<i64>, BTreeSet<i64>) {
    // Most pages lie in one range whatever its width.
    let timestamps = || {
        pages.iter().flat_map(|page| {
            let [first, last] = [page.range.start, page.range.end - 1];
            let least = nanos(config.block_range).max(1);
            let inside = range_number(first, Some(least)) == range_number(last, Some(least));
            let ends = [first, last].into_iter().filter(move |_| inside);
            let all = page.columns.timestamps.iter().copied();
            ends.chain(all.filter(move |_| !inside))
        })
    };
    let width = range_width(timestamps, config.block_range, config.block_ranges_max);
    let ranges = timestamps().map(|timestamp| range_number(timestamp, width));
    (width, ranges.collect())
}

/// The entries of one range by stream.
struct Rows {
    /// Of each stream one after the other, as they came.
    rows: Vec<At>,
    /// Where the entries of each stream end.
    ends: Vec<u32>,
}

impl Rows {
    /// Puts the entries whose timestamps are `inside` in order by counting: nothing is compared.
    fn of(pages: &[Page], streams: usize, inside: impl Fn(i64) -> bool) -> Self {
        let wanted = |page: &Page| {
            let all = inside(page.range.start) && inside(page.range.end - 1);
            // Ranges have no holes.
            let inside = &inside;
            let columns = Arc::clone(&page.columns);
            move |row: usize| all || inside(columns.timestamps[row])
        };
        let mut ends = vec![0u32; streams];
        for page in pages {
            let wanted = wanted(page);
            for (row, &stream) in page.columns.streams.iter().enumerate() {
                ends[stream as usize] += u32::from(wanted(row));
            }
        }
        let mut all = 0;
        for end in &mut ends {
            let count = std::mem::replace(end, all);
            all += count;
        }
        let mut rows = vec![At(0); all as usize];
        for (number, page) in (0u32..).zip(pages) {
            let wanted = wanted(page);
            let first = number * PAGE_ROWS as u32;
            for ((row, &stream), at) in page.columns.streams.iter().enumerate().zip(first..) {
                if wanted(row) {
                    let next = &mut ends[stream as usize];
                    rows[*next as usize] = At(at);
                    *next += 1;
                }
            }
        }
        Self { rows, ends }
    }

    /// The entries of a stream by time; of one instant in the order in which they came.
    fn of_stream(&mut self, stream: u32, pages: &[Page]) -> &[At] {
        let before = (stream as usize).checked_sub(1);
        let start = before.map_or(0, |before| self.ends[before]) as usize;
        let end = self.ends[stream as usize] as usize;
        let rows = &mut self.rows[start..end];
        let timestamp = |at: &At| pages[at.page()].columns.timestamps[at.row()];
        if !rows.is_sorted_by_key(timestamp) {
            rows.sort_by_cached_key(timestamp);
        }
        rows
    }
}

/// The smallest width, `least` doubled as often as needed, with which the timestamps lie in no more
/// than `ranges_max` ranges. `None` for one range that holds everything.
fn range_width<I: Iterator<Item = i64>>(
    timestamps: impl Fn() -> I,
    least: Duration,
    ranges_max: usize,
) -> Option<i64> {
    let mut width = nanos(least).max(1);
    loop {
        let mut ranges = HashSet::new();
        let mut last = None;
        for timestamp in timestamps() {
            let range = range_number(timestamp, Some(width));
            if last.replace(range) != Some(range) {
                ranges.insert(range);
                if ranges.len() > ranges_max {
                    break;
                }
            }
        }
        if ranges.len() <= ranges_max {
            return Some(width);
        }
        width = width.checked_mul(2)?;
    }
}

fn range_number(timestamp: i64, width: Option<i64>) -> i64 {
    width.map_or(0, |width| timestamp.div_euclid(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_widened_until_they_are_few_enough() {
        let check = |timestamps: &[i64], least: u64, ranges_max, expected| {
            let least = Duration::from_nanos(least);
            let width = range_width(|| timestamps.iter().copied(), least, ranges_max);
            assert_eq!(
                width, expected,
                "{timestamps:?} in {ranges_max} of {least:?}"
            );
        };
        check(&[], 10, 1, Some(10));
        check(&[0, 9], 10, 1, Some(10));
        check(&[0, 10], 10, 2, Some(10));
        check(&[0, 10], 10, 1, Some(20));
        check(&[0, 10, 20, 30], 10, 2, Some(20));
        check(&[0, 1_000], 10, 2, Some(10));
        check(&[-1, 0], 10, 1, None);
        check(&[i64::MIN, i64::MAX], 10, 1, None);
    }
}
