//! Turns memory into blocks: sorts its entries and writes one block for each range of time.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use trine_storage::Result;
use trine_storage::block_set::BlockSet;
use trine_storage::catalog::BlockMeta;
use trine_storage::clock::Clock;
use trine_storage::fs::Fs;

use crate::block::reader::BlockFile;
use crate::block::writer::BlockWriter;
use crate::buffer::{Page, View};
use crate::config::{Config, nanos};

/// What a seal needs of its store.
#[derive(Debug)]
pub(crate) struct Sealer<'a> {
    pub(crate) fs: &'a Arc<dyn Fs>,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) blocks: &'a BlockSet<BlockFile>,
    pub(crate) config: &'a Config,
}

/// Where an entry of memory belongs and where it is; ordered as blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    range: i64,
    /// Place of the stream in label order.
    stream: u32,
    timestamp: i64,
    page: u32,
    row: u32,
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
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_unstable_by(|&a, &b| labels[a].cmp(&labels[b]));
        let mut places = vec![0u32; labels.len()];
        for (place, &id) in (0u32..).zip(&order) {
            places[id] = place;
        }
        let pages = view.pages();
        let rows = sorted(&pages, &places, self.config);
        let mut metas = Vec::new();
        for rows in rows.chunk_by(|a, b| a.range == b.range) {
            let id = self.blocks.next_id(self.clock);
            let path = self.blocks.temporary(id);
            written.push(path.clone());
            let mut writer = BlockWriter::create(&**self.fs, &path, false)?;
            for of_stream in rows.chunk_by(|a, b| a.stream == b.stream) {
                writer.stream(&labels[order[of_stream[0].stream as usize]]);
                for row in of_stream {
                    let (columns, at) = (&pages[row.page as usize].columns, row.row as usize);
                    writer.push(row.timestamp, columns.line(at), columns.set(at))?;
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

/// All rows by range, stream and time; of one stream and instant in the order in which they came.
fn sorted(pages: &[Page], places: &[u32], config: &Config) -> Vec<Row> {
    let timestamps = || {
        pages
            .iter()
            .flat_map(|page| page.columns.timestamps.iter().copied())
    };
    let width = range_width(timestamps, config.block_range, config.block_ranges_max);
    let mut rows = Vec::new();
    for (page_number, page) in (0u32..).zip(pages) {
        let columns = &page.columns;
        let of_page = columns.timestamps.iter().zip(&columns.streams);
        rows.extend(
            (0u32..)
                .zip(of_page)
                .map(|(row, (&timestamp, &stream))| Row {
                    range: range_number(timestamp, width),
                    stream: places[stream as usize],
                    timestamp,
                    page: page_number,
                    row,
                }),
        );
    }
    rows.sort_unstable();
    rows
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
