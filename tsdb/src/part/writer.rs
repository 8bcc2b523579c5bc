//! Writes a part, series in order of their ids.

use std::path::Path;

use trine_storage::codec::{put_bytes, put_signed, put_u32, put_varint};
use trine_storage::fs::Fs;
use trine_storage::sealed::{PageRef, SealedWriter};
use trine_storage::{Error, Labels, Result, TimeRange};

use super::{
    DEFINITION_PAGE_BYTES, DEFINITIONS, GOES_ON, IDS, KIND_SHIFT, PAGE_BYTES, PAGES, PLACES,
    STARTED, ZSTD_LEVEL,
};
use crate::block::format::KIND;
use crate::exemplar::{Exemplar, ExemplarWriter};
use crate::head::series::Chunk;
use crate::metadata::MetadataTable;

/// A part that is being written.
pub(crate) struct PartWriter {
    file: SealedWriter,
    zstd: zstd::bulk::Compressor<'static>,
    definitions: Vec<u8>,
    definition_pages: Vec<(PageRef, usize)>,
    defined: u64,
    ids: Vec<u8>,
    places: Vec<u8>,
    page: Vec<u8>,
    pages: Vec<PageRef>,
    exemplars: ExemplarWriter,
    /// The section of the metadata is written.
    told: bool,
    samples: u64,
    range: Option<TimeRange>,
}

/// What a finished part holds.
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) samples: u64,
    /// Empty when there are no samples.
    pub(crate) range: TimeRange,
}

impl PartWriter {
    pub(crate) fn create(fs: &dyn Fs, path: &Path) -> Result<Self> {
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL);
        Ok(Self {
            file: SealedWriter::create(fs, path, KIND)?,
            zstd: zstd.map_err(|e| Error::io("set up the compression", e))?,
            definitions: Vec::new(),
            definition_pages: Vec::new(),
            defined: 0,
            ids: Vec::new(),
            places: Vec::new(),
            page: Vec::new(),
            pages: Vec::new(),
            exemplars: ExemplarWriter::default(),
            told: false,
            samples: 0,
            range: None,
        })
    }

    /// Says what an id means.
    pub(crate) fn define(&mut self, id: u32, labels: &Labels) -> Result<()> {
        put_varint(&mut self.definitions, u64::from(id));
        put_bytes(&mut self.definitions, labels.encoded());
        self.defined += 1;
        if self.definitions.len() >= DEFINITION_PAGE_BYTES {
            self.flush_definitions()?;
        }
        Ok(())
    }

    /// Adds the chunks of a series, if there are any; ids rise from call to call.
    pub(crate) fn series<B: AsRef<[u8]>>(
        &mut self,
        id: u32,
        chunks: impl Iterator<Item = Chunk<B>>,
    ) -> Result<()> {
        let mut chunks = chunks.peekable();
        if chunks.peek().is_none() {
            return Ok(());
        }
        if self.page.len() >= PAGE_BYTES {
            self.flush_page()?;
        }
        put_u32(&mut self.ids, id);
        put_u32(
            &mut self.places,
            u32::try_from(self.pages.len()).unwrap_or(u32::MAX),
        );
        put_u32(
            &mut self.places,
            u32::try_from(self.page.len()).unwrap_or(u32::MAX),
        );
        while let Some(chunk) = chunks.next() {
            let chunk = chunk.as_slice();
            let flags = [
                (!chunk.starts.is_empty(), STARTED),
                (chunks.peek().is_some(), GOES_ON),
            ];
            let flags = flags.iter().filter(|(is, _)| *is).map(|(_, flag)| flag);
            let kind = u64::from(chunk.kind.number()) << KIND_SHIFT;
            put_varint(&mut self.page, kind | flags.sum::<u64>());
            put_varint(&mut self.page, u64::from(chunk.count));
            put_signed(&mut self.page, chunk.first);
            put_signed(&mut self.page, chunk.last.wrapping_sub(chunk.first));
            put_bytes(&mut self.page, chunk.bytes);
            if !chunk.starts.is_empty() {
                put_bytes(&mut self.page, chunk.starts);
            }
            self.samples += u64::from(chunk.count);
            self.widen(chunk.first, chunk.last);
        }
        Ok(())
    }

    /// Adds the exemplars of a series, if there are any; ids rise from call to call.
    pub(crate) fn exemplars(&mut self, id: u32, exemplars: &[Exemplar]) -> Result<()> {
        for exemplar in exemplars {
            self.widen(exemplar.timestamp, exemplar.timestamp);
        }
        self.exemplars.series(id, exemplars, &mut self.file)
    }

    /// Writes all metadata.
    pub(crate) fn metadata(&mut self, table: &MetadataTable) -> Result<()> {
        self.told = true;
        table.write(&mut self.file)
    }

    fn widen(&mut self, first: i64, last: i64) {
        let range = TimeRange::inclusive(first, last);
        self.range = Some(self.range.map_or(range, |held| held.union(&range)));
    }

    fn flush_page(&mut self) -> Result<()> {
        self.pages.push(self.file.page(&self.page)?);
        self.page.clear();
        Ok(())
    }

    fn flush_definitions(&mut self) -> Result<()> {
        let packed = self
            .zstd
            .compress(&self.definitions)
            .map_err(|e| Error::io("compress a page", e))?;
        let page = self.file.page(&packed)?;
        self.definition_pages.push((page, self.definitions.len()));
        self.definitions.clear();
        Ok(())
    }

    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.defined == 0 && self.range.is_none() && !self.told
    }

    /// Completes and syncs the file.
    pub(crate) fn finish(mut self) -> Result<Written> {
        if !self.page.is_empty() {
            self.flush_page()?;
        }
        if !self.definitions.is_empty() {
            self.flush_definitions()?;
        }
        let mut table = Vec::new();
        put_varint(&mut table, self.defined);
        put_varint(&mut table, self.definition_pages.len() as u64);
        for (page, raw_len) in &self.definition_pages {
            page.put(&mut table);
            put_varint(&mut table, *raw_len as u64);
        }
        self.file.section(DEFINITIONS, &table)?;
        self.file.section(IDS, &self.ids)?;
        self.file.section(PLACES, &self.places)?;
        let mut table = Vec::new();
        for page in &self.pages {
            page.put(&mut table);
        }
        self.file.section(PAGES, &table)?;
        self.exemplars.finish(&mut self.file)?;
        Ok(Written {
            bytes: self.file.finish()?,
            samples: self.samples,
            range: self.range.unwrap_or(TimeRange::new(0, 0)),
        })
    }
}
