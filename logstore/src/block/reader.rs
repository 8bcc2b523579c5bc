//! Reads blocks: footer and totals at open, tables at the first query, pages when asked for.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use roaring::RoaringBitmap;
use trine_storage::block_set::BlockReader;
use trine_storage::catalog::BlockMeta;
use trine_storage::frozen_index::FrozenIndex;
use trine_storage::sealed::{PageRef, SealedFile};
use trine_storage::{Error, Labels, Matcher, Result};

use super::format::{self, ChunkHeader, Summary};
use super::lines::{PackedLines, VariableColumns, read_ends};
use super::metadata::Metadata;
use super::pack;

/// One block as the engine keeps it open.
#[derive(Debug)]
pub(crate) struct BlockFile {
    file: SealedFile,
    summary: Summary,
    /// Decoded at the first query and kept.
    tables: OnceLock<Arc<Tables>>,
}

/// The tables of a block.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Its places are the codes of the streams.
    pub(crate) index: FrozenIndex,
    pub(crate) chunks: Vec<ChunkHeader>,
}

impl BlockReader for BlockFile {
    const KIND: [u8; 4] = format::KIND;

    fn open(file: SealedFile, _meta: &BlockMeta) -> Result<Self> {
        let summary = Summary::decode(file.name(), &file.section(format::SUMMARY)?)?;
        Ok(Self {
            file,
            summary,
            tables: OnceLock::new(),
        })
    }
}

impl Tables {
    /// Codes of the streams that satisfy `matchers`.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        self.index.select(matchers)
    }

    /// The labels of `streams`, in order.
    pub(crate) fn labels_of(&self, streams: &RoaringBitmap) -> Result<Vec<(u32, Labels)>> {
        let mut sets = self.index.label_sets();
        let labels = |stream| Ok((stream, sets.labels(stream)?));
        streams.iter().map(labels).collect()
    }
}

impl BlockFile {
    /// The label index and the headers of the chunks.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when they are damaged,
    /// [`Kind::Io`](trine_storage::Kind::Io).
    pub(crate) fn tables(&self) -> Result<Arc<Tables>> {
        if let Some(tables) = self.tables.get() {
            return Ok(Arc::clone(tables));
        }
        let name = self.file.name();
        let chunks =
            format::decode_chunks(name, &self.file.section(format::CHUNKS)?, &self.summary)?;
        let index = FrozenIndex::open(
            &format!("the label index of {name}"),
            self.file.section(format::LABEL_INDEX)?,
        )?;
        if index.len() as u64 != u64::from(self.summary.streams) {
            return Err(Error::corrupt(
                name,
                0,
                "the streams are not as many as the summary counts",
            ));
        }
        let tables = Arc::new(Tables { index, chunks });
        Ok(Arc::clone(self.tables.get_or_init(|| tables)))
    }

    /// Timestamps of a chunk's entries, by stream and time.
    ///
    /// # Errors
    /// As [`BlockFile::tables`]; so for all methods below.
    pub(crate) fn timestamps(&self, chunk: &ChunkHeader) -> Result<Vec<i64>> {
        let page = self.page(&chunk.timestamps)?;
        format::decode_timestamps(self.file.name(), &page, chunk)
    }

    /// Where the lines of a chunk end when they follow each other.
    pub(crate) fn ends(&self, chunk: &ChunkHeader) -> Result<Vec<u32>> {
        let page = self.page(&chunk.lengths)?;
        self.decode_ends(&page, chunk)
    }

    /// The lines of a chunk, ready to be searched or expanded.
    pub(crate) fn packed_lines(&self, chunk: &ChunkHeader) -> Result<PackedLines> {
        let pages = self
            .file
            .read(&[chunk.lengths, chunk.text, chunk.variables])?;
        let [lengths, text, variables] = pages.as_slice() else {
            return Err(self.corrupt(&chunk.text, "lines cannot be read"));
        };
        let ends = self.decode_ends(lengths, chunk)?;
        let text = pack::unpack(self.file.name(), text)?;
        PackedLines::read(self.file.name(), text, variables, ends)
    }

    /// The lines of a chunk in one piece, and where they end. `timestamps` are those of the chunk.
    pub(crate) fn lines(
        &self,
        chunk: &ChunkHeader,
        timestamps: &[i64],
    ) -> Result<(Vec<u8>, Vec<u32>)> {
        self.packed_lines(chunk)?.expand(timestamps)
    }

    /// The variables of a chunk's lines, to look for ids in them.
    pub(crate) fn variables(&self, chunk: &ChunkHeader) -> Result<VariableColumns> {
        VariableColumns::read(self.file.name(), &self.page(&chunk.variables)?)
    }

    /// The metadata of a chunk; `None` when no entry has any.
    pub(crate) fn metadata(&self, chunk: &ChunkHeader) -> Result<Option<Metadata>> {
        if chunk.metadata.len == 0 {
            return Ok(None);
        }
        let page = self.page(&chunk.metadata)?;
        Metadata::read(self.file.name(), &page, chunk.rows).map(Some)
    }

    /// Bytes of the block by what they are.
    pub(crate) fn sizes(&self) -> Result<Vec<(&'static str, u64)>> {
        let tables = self.tables()?;
        let mut pages = [0u64; 5];
        for chunk in &tables.chunks {
            for (sum, page) in pages.iter_mut().zip(chunk.pages()) {
                *sum += u64::from(page.len);
            }
        }
        let names = ["timestamps", "lengths", "text", "variables", "metadata"];
        let sections = [("labels", format::LABEL_INDEX), ("headers", format::CHUNKS)];
        let section = |(name, id)| (name, self.file.section_len(id).unwrap_or(0));
        let pages = names.into_iter().zip(pages);
        Ok(pages.chain(sections.into_iter().map(section)).collect())
    }

    /// Reads and decodes everything; gives the number of entries.
    pub(crate) fn verify(&self) -> Result<u64> {
        self.file.verify()?;
        let tables = self.tables()?;
        tables.index.verify()?;
        for chunk in &tables.chunks {
            let timestamps = self.timestamps(chunk)?;
            self.lines(chunk, &timestamps)?;
            if let Some(metadata) = self.metadata(chunk)? {
                metadata.verify()?;
            }
        }
        Ok(self.summary.rows)
    }

    fn decode_ends(&self, page: &[u8], chunk: &ChunkHeader) -> Result<Vec<u32>> {
        let rows = usize::try_from(chunk.rows).unwrap_or(0);
        let ends = read_ends(self.file.name(), page, rows)?;
        if ends.last().map_or(0, |&end| u64::from(end)) != chunk.line_bytes {
            return Err(self.corrupt(&chunk.lengths, "lengths do not add up to their header's"));
        }
        Ok(ends)
    }

    fn page(&self, page: &PageRef) -> Result<Bytes> {
        let read = self.file.read(&[*page])?.pop();
        read.ok_or_else(|| self.corrupt(page, "a page cannot be read"))
    }

    fn corrupt(&self, page: &PageRef, what: &str) -> Error {
        Error::corrupt(self.file.name(), page.offset, what)
    }
}
