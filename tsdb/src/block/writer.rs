//! Writes the samples of a head into blocks, one per time range.

use std::time::Duration;

use trine_storage::catalog::BlockMeta;
use trine_storage::codec::{put_bytes, put_varint};
use trine_storage::fs::Fs;
use trine_storage::label_index::LabelIndex;
use trine_storage::sealed::{PageRef, SealedWriter};
use trine_storage::ulid::BlockId;
use trine_storage::{Error, Result, TimeRange};

use super::format::{self, PAGE_BYTES, ZSTD_LEVEL};
use crate::head::{Head, MemSeries};

/// The time ranges that the samples of a head are sealed into: aligned to the width `range`, which
/// is doubled until there are at most `ranges_max` of them (or it cannot grow). A pure function.
pub(crate) fn plan(head: &Head, range: Duration, ranges_max: usize) -> Vec<TimeRange> {
    let mut width = i64::try_from(range.as_millis()).unwrap_or(i64::MAX).max(1);
    loop {
        let mut starts: Vec<i64> = head
            .all_series()
            .iter()
            .flat_map(|series| {
                let mut at = 0;
                std::iter::from_fn(move || {
                    let start = align(*series.timestamps.get(at)?, width);
                    let end = start.saturating_add(width);
                    at += series.timestamps[at..].partition_point(|&t| t < end).max(1);
                    Some(start)
                })
            })
            .collect();
        starts.sort_unstable();
        starts.dedup();
        if starts.len() <= ranges_max.max(1) || width > i64::MAX / 2 {
            let range = |start: i64| TimeRange::new(start, start.saturating_add(width));
            return starts.into_iter().map(range).collect();
        }
        width *= 2;
    }
}

fn align(timestamp: i64, width: i64) -> i64 {
    timestamp.saturating_sub(timestamp.rem_euclid(width))
}

/// Writes the samples of `head` in `range` as the block `id` into the file `path`, synced.
///
/// # Errors
/// [`Kind::Io`](trine_storage::Kind::Io).
pub(crate) fn write(
    fs: &dyn Fs,
    path: &std::path::Path,
    id: BlockId,
    head: &Head,
    range: TimeRange,
    now_ms: i64,
) -> Result<BlockMeta> {
    let mut series: Vec<&MemSeries> = head
        .all_series()
        .iter()
        .filter(|series| !series.in_range(range).0.is_empty())
        .collect();
    series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));

    let mut pages = Pages::new(SealedWriter::create(fs, path, format::KIND)?)?;
    let mut table = Vec::new();
    put_varint(&mut table, series.len() as u64);
    let mut index = LabelIndex::new();
    let mut rows = 0;
    for (place, series) in (0u32..).zip(&series) {
        let (timestamps, values) = series.in_range(range);
        let run = pages.run(timestamps, values)?;
        put_bytes(&mut table, series.labels.encoded());
        for part in [run.page, run.offset, run.len] {
            put_varint(&mut table, part as u64);
        }
        index.insert(place, &series.labels);
        rows += values.len() as u64;
    }
    let (mut file, page_table) = pages.finish()?;
    file.section(format::SERIES, &table)?;
    file.section(format::PAGES, &page_table)?;
    let mut bytes = Vec::new();
    index.write(&mut bytes);
    file.section(format::INDEX, &bytes)?;
    let bytes = file.finish()?;
    Ok(BlockMeta {
        id,
        range,
        rows,
        bytes,
        level: 0,
        created_ms: now_ms,
    })
}

/// Where a run lies.
struct Run {
    page: usize,
    offset: usize,
    len: usize,
}

/// Packs runs into compressed pages.
struct Pages {
    file: SealedWriter,
    zstd: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
    written: Vec<(PageRef, usize)>,
}

impl Pages {
    fn new(file: SealedWriter) -> Result<Self> {
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)
            .map_err(|e| Error::io("set up the compression", e))?;
        Ok(Self {
            file,
            zstd,
            buffer: Vec::new(),
            written: Vec::new(),
        })
    }

    fn run(&mut self, timestamps: &[i64], values: &[f64]) -> Result<Run> {
        if self.buffer.len() >= PAGE_BYTES {
            self.flush()?;
        }
        let offset = self.buffer.len();
        format::encode_run(&mut self.buffer, timestamps, values);
        Ok(Run {
            page: self.written.len(),
            offset,
            len: self.buffer.len() - offset,
        })
    }

    fn flush(&mut self) -> Result<()> {
        let packed = self
            .zstd
            .compress(&self.buffer)
            .map_err(|e| Error::io("compress a page", e))?;
        self.written
            .push((self.file.page(&packed)?, self.buffer.len()));
        self.buffer.clear();
        Ok(())
    }

    /// The file and the bytes of the page table.
    fn finish(mut self) -> Result<(SealedWriter, Vec<u8>)> {
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        let mut table = Vec::new();
        put_varint(&mut table, self.written.len() as u64);
        for (page, raw_len) in &self.written {
            page.put(&mut table);
            put_varint(&mut table, *raw_len as u64);
        }
        Ok((self.file, table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Accepted;
    use crate::wal_record::Batch;

    #[test]
    fn ranges_are_aligned_and_widened_until_they_are_few() {
        let plan_for = |timestamps: &[i64], ranges_max| {
            let mut head = Head::default();
            let mut batch = Batch::default();
            for timestamp in timestamps {
                batch.push(&trine_storage::Labels::empty(), *timestamp, 0.0);
            }
            head.apply(&batch, 0, &mut Accepted::default());
            plan(&head, Duration::from_millis(10), ranges_max)
                .iter()
                .map(|range| (range.start, range.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(plan_for(&[], 4), []);
        assert_eq!(plan_for(&[0, 9, 10, 35], 4), [(0, 10), (10, 20), (30, 40)]);
        assert_eq!(plan_for(&[-1, 0], 4), [(-10, 0), (0, 10)]);
        assert_eq!(plan_for(&[0, 10, 20, 30], 2), [(0, 20), (20, 40)]);
        // The width ends where `i64` does.
        let extremes = plan_for(&[i64::MIN, 0, i64::MAX - 1], 1);
        assert!(extremes.len() <= 3, "{extremes:?}");
    }
}
