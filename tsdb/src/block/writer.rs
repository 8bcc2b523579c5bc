//! Writes a block: series in label order, each with its samples in the block's range.

use std::path::Path;

use trine_storage::codec::{put_bytes, put_u32, put_varint};
use trine_storage::frozen_index::FrozenWriter;
use trine_storage::fs::Fs;
use trine_storage::sealed::{PageRef, SealedWriter};
use trine_storage::{Error, Kind, Labels, Result};

use super::format::{self, COLUMN_ROWS_MAX, PAGE_BYTES};
use super::run::{self, Effort};
use super::times::Times;
use crate::columns::Columns;

/// A block that is being written.
pub(crate) struct BlockWriter {
    pages: Pages,
    index: FrozenWriter,
    effort: Effort,
    /// Section of the series.
    series: Vec<u8>,
    /// Columns of timestamps that were written, and the section that says where.
    times: Times,
    time_places: Vec<u8>,
    samples: u64,
}

/// What a finished block holds.
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) samples: u64,
}

impl BlockWriter {
    pub(crate) fn create(fs: &dyn Fs, path: &Path, effort: Effort) -> Result<Self> {
        Ok(Self {
            pages: Pages::new(SealedWriter::create(fs, path, format::KIND)?),
            index: FrozenWriter::new(),
            effort,
            series: Vec::new(),
            times: Times::default(),
            time_places: Vec::new(),
            samples: 0,
        })
    }

    /// Adds a series, which must come after those before it in label order and have samples.
    pub(crate) fn series(&mut self, labels: &Labels, samples: &Columns) -> Result<()> {
        let times = self.times(&samples.timestamps)?;
        let (page, offset) = self.pages.place()?;
        put_u32(&mut self.series, page);
        put_u32(&mut self.series, offset);
        let out = &mut self.pages.buffer;
        put_varint(out, format::FLOATS);
        put_varint(out, u64::from(times));
        let mut values = Vec::new();
        run::encode_floats(&samples.values, self.effort, &mut values);
        put_bytes(out, &values);
        self.index.push(labels);
        self.samples += samples.len() as u64;
        Ok(())
    }

    /// The number of the column with these timestamps, which is written if it is new.
    fn times(&mut self, timestamps: &[i64]) -> Result<u32> {
        if let Some(number) = self.times.find(timestamps) {
            return Ok(number);
        }
        let rows = u32::try_from(timestamps.len())
            .ok()
            .filter(|rows| *rows <= COLUMN_ROWS_MAX);
        let rows = rows.ok_or_else(|| {
            let what = format!("a series has {} samples in one block", timestamps.len());
            Error::new(Kind::Limit, what)
        })?;
        let (page, offset) = self.pages.place()?;
        for number in [page, offset, rows] {
            put_u32(&mut self.time_places, number);
        }
        let mut column = Vec::new();
        run::encode_integers(timestamps, self.effort, &mut column);
        put_bytes(&mut self.pages.buffer, &column);
        Ok(self.times.add(timestamps))
    }

    /// Completes and syncs the file.
    pub(crate) fn finish(self) -> Result<Written> {
        let (mut file, pages) = self.pages.finish()?;
        file.section(format::INDEX, &self.index.finish()?)?;
        file.section(format::SERIES, &self.series)?;
        file.section(format::TIMES, &self.time_places)?;
        file.section(format::PAGES, &pages)?;
        Ok(Written {
            bytes: file.finish()?,
            samples: self.samples,
        })
    }
}

/// Packs runs and columns into pages.
struct Pages {
    file: SealedWriter,
    buffer: Vec<u8>,
    written: Vec<PageRef>,
}

impl Pages {
    fn new(file: SealedWriter) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Where what is put into the buffer next will lie.
    fn place(&mut self) -> Result<(u32, u32)> {
        if self.buffer.len() >= PAGE_BYTES {
            self.flush()?;
        }
        let number = |n: usize| {
            let what = "a block has more pages than it can number";
            u32::try_from(n).map_err(|_| Error::new(Kind::Limit, what))
        };
        Ok((number(self.written.len())?, number(self.buffer.len())?))
    }

    fn flush(&mut self) -> Result<()> {
        self.written.push(self.file.page(&self.buffer)?);
        self.buffer.clear();
        Ok(())
    }

    /// The file and the section of the pages.
    fn finish(mut self) -> Result<(SealedWriter, Vec<u8>)> {
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        let mut table = Vec::new();
        for page in &self.written {
            page.put(&mut table);
        }
        Ok((self.file, table))
    }
}
