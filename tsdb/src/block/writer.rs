//! Writes a block: series in label order, each with its samples in the block's range.

use std::path::Path;

use trine_storage::codec::{put_bytes, put_varint};
use trine_storage::fs::Fs;
use trine_storage::label_index::LabelIndex;
use trine_storage::sealed::{PageRef, SealedWriter};
use trine_storage::{Error, Labels, Result};

use super::format::{self, PAGE_BYTES, ZSTD_LEVEL};
use crate::columns::Columns;

/// A block that is being written.
pub(crate) struct BlockWriter {
    pages: Pages,
    table: Vec<u8>,
    series: u32,
    index: LabelIndex,
    samples: u64,
}

/// What a finished block holds.
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) samples: u64,
}

impl BlockWriter {
    pub(crate) fn create(fs: &dyn Fs, path: &Path) -> Result<Self> {
        Ok(Self {
            pages: Pages::new(SealedWriter::create(fs, path, format::KIND)?)?,
            table: Vec::new(),
            series: 0,
            index: LabelIndex::new(),
            samples: 0,
        })
    }

    /// Adds a series, which must come after those before it in label order and have samples.
    pub(crate) fn series(&mut self, labels: &Labels, samples: &Columns) -> Result<()> {
        let run = self.pages.run(&samples.timestamps, &samples.values)?;
        put_bytes(&mut self.table, labels.encoded());
        for part in [run.page, run.offset, run.len] {
            put_varint(&mut self.table, part as u64);
        }
        self.index.insert(self.series, labels);
        self.series += 1;
        self.samples += samples.len() as u64;
        Ok(())
    }

    /// Completes and syncs the file.
    pub(crate) fn finish(self) -> Result<Written> {
        let (mut file, page_table) = self.pages.finish()?;
        let mut table = Vec::with_capacity(self.table.len() + 5);
        put_varint(&mut table, u64::from(self.series));
        table.extend_from_slice(&self.table);
        file.section(format::SERIES, &table)?;
        file.section(format::PAGES, &page_table)?;
        let mut bytes = Vec::new();
        self.index.write(&mut bytes);
        file.section(format::INDEX, &bytes)?;
        Ok(Written {
            bytes: file.finish()?,
            samples: self.samples,
        })
    }
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
