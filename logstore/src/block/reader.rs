//! Reads blocks: footer and totals at open, tables at the first query, pages when asked for. Of a block
//! that is far away nothing is read before it is asked for.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use roaring::RoaringBitmap;
use trine_storage::block_set::BlockReader;
use trine_storage::catalog::BlockMeta;
use trine_storage::frozen_index::FrozenIndex;
use trine_storage::pack;
use trine_storage::sealed::{PageRef, SealedFile};
use trine_storage::{Error, Kind, Labels, Matcher, Result};

use super::format::{self, ChunkHeader, Summary};
use super::lines::{Lengths, PackedLines, Part, VariableColumns};
use super::metadata::Metadata;
use crate::index::{IdColumns, TokenIndex};

/// One block as the engine keeps it open.
#[derive(Debug)]
pub(crate) struct BlockFile {
    file: SealedFile,
    /// Read at open where the file is on this disk.
    summary: OnceLock<Summary>,
    /// Decoded at the first query and kept.
    tables: OnceLock<Arc<Tables>>,
    /// Opened at the first search and kept.
    tokens: OnceLock<Arc<TokenIndex>>,
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

    const FIRST_SECTIONS: &'static [u32] = &SEARCHED;

    fn open(file: SealedFile, _meta: &BlockMeta) -> Result<Self> {
        let block = Self {
            file,
            summary: OnceLock::new(),
            tables: OnceLock::new(),
            tokens: OnceLock::new(),
        };
        if !block.file.is_remote() {
            block.summary()?;
        }
        Ok(block)
    }
}

/// What [`BlockFile::tables`] reads.
pub(crate) const TABLES: [u32; 3] = [format::SUMMARY, format::CHUNKS, format::LABEL_INDEX];

/// What [`BlockFile::tables`] and [`BlockFile::tokens`] read.
pub(crate) const SEARCHED: [u32; 6] = [
    format::SUMMARY,
    format::CHUNKS,
    format::LABEL_INDEX,
    format::FILTERS,
    format::LONG,
    format::WORDS,
];

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
    /// [`Kind::Io`](trine_storage::Kind::Io), [`Kind::Unavailable`] where the block is far away.
    pub(crate) fn tables(&self) -> Result<Arc<Tables>> {
        if let Some(tables) = self.tables.get() {
            return Ok(Arc::clone(tables));
        }
        self.file.prefetch_sections(&TABLES)?;
        let name = self.file.name();
        let summary = self.summary()?;
        let chunks = format::decode_chunks(name, &self.file.section(format::CHUNKS)?, summary)?;
        let index = FrozenIndex::open(
            &format!("the label index of {name}"),
            self.file.section(format::LABEL_INDEX)?,
        )?;
        if index.len() as u64 != u64::from(summary.streams) {
            return Err(Error::corrupt(
                name,
                0,
                "the streams are not as many as the summary counts",
            ));
        }
        let tables = Arc::new(Tables { index, chunks });
        Ok(Arc::clone(self.tables.get_or_init(|| tables)))
    }

    /// Which chunks may have which tokens. What of it is damaged is missing and told by
    /// [`TokenIndex::damage`]: searches are slower without, not wrong.
    ///
    /// # Errors
    /// What is not damage: it may be over the next time.
    pub(crate) fn tokens(&self) -> Result<Arc<TokenIndex>> {
        if let Some(tokens) = self.tokens.get() {
            return Ok(Arc::clone(tokens));
        }
        // What goes wrong is told by who reads them.
        self.file.prefetch_sections(&SEARCHED).ok();
        let section = |id| match self.file.section(id) {
            Err(error) if error.kind() == Kind::Corrupt => Ok(Bytes::new()),
            read => read,
        };
        let chunks = match self.summary() {
            Ok(summary) => summary.chunks,
            Err(error) if error.kind() == Kind::Corrupt => 0,
            Err(error) => return Err(error),
        };
        let tokens = TokenIndex::open(
            self.file.name(),
            section(format::FILTERS)?,
            section(format::LONG)?,
            &section(format::WORDS)?,
            chunks,
        );
        Ok(Arc::clone(self.tokens.get_or_init(|| Arc::new(tokens))))
    }

    /// What of the token index is known to be damaged; nothing before it was used.
    pub(crate) fn token_damage(&self) -> &[Error] {
        self.tokens.get().map_or(&[], |tokens| tokens.damage())
    }

    /// The pages of a chunk as they are, in the order of [`ChunkHeader::pages`], each checked; no
    /// bytes for one that is not there.
    ///
    /// # Errors
    /// As [`BlockFile::tables`].
    pub(crate) fn pages(&self, chunk: &ChunkHeader) -> Result<Vec<Bytes>> {
        self.file.read(&chunk.pages().map(|page| *page))
    }

    /// Begins to fetch pages, where the block is far away.
    pub(crate) fn prefetch(&self, pages: &[PageRef]) {
        if self.file.is_remote() && !pages.is_empty() {
            self.file.prefetch(pages);
        }
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
        self.lengths(page, chunk).into_ends(self.file.name())
    }

    /// The lines of a chunk, ready to be searched or expanded.
    pub(crate) fn packed_lines(&self, chunk: &ChunkHeader) -> Result<PackedLines> {
        let pages = self
            .file
            .read(&[chunk.lengths, chunk.text, chunk.variables])?;
        let [lengths, text, variables] = pages.as_slice() else {
            return Err(self.corrupt(&chunk.text, "lines cannot be read"));
        };
        let lengths = self.lengths(lengths.clone(), chunk);
        let text = pack::unpack(self.file.name(), text)?;
        PackedLines::read(self.file.name(), text, variables, lengths)
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
        let sections = [
            ("labels", format::LABEL_INDEX),
            ("headers", format::CHUNKS),
            ("filters", format::FILTERS),
            ("long tokens", format::LONG),
            ("words", format::WORDS),
        ];
        let mut sizes: Vec<(&'static str, u64)> = names.into_iter().zip(pages).collect();
        for (name, id) in sections {
            sizes.push((name, self.file.section_len(id)?.unwrap_or(0)));
        }
        Ok(sizes)
    }

    /// Reads and decodes everything; gives the number of entries.
    pub(crate) fn verify(&self) -> Result<u64> {
        self.file.verify()?;
        let tables = self.tables()?;
        tables.index.verify()?;
        self.tokens()?.verify(self.file.name())?;
        for chunk in &tables.chunks {
            let timestamps = self.timestamps(chunk)?;
            self.lines(chunk, &timestamps)?;
            if let Some(metadata) = self.metadata(chunk)? {
                metadata.verify()?;
            }
        }
        Ok(self.summary()?.rows)
    }

    /// The totals.
    fn summary(&self) -> Result<&Summary> {
        if let Some(summary) = self.summary.get() {
            return Ok(summary);
        }
        let summary = Summary::decode(self.file.name(), &self.file.section(format::SUMMARY)?)?;
        Ok(self.summary.get_or_init(|| summary))
    }

    fn lengths(&self, page: Bytes, chunk: &ChunkHeader) -> Lengths {
        let rows = usize::try_from(chunk.rows).unwrap_or(0);
        Lengths::new(page, rows, chunk.line_bytes)
    }

    fn page(&self, page: &PageRef) -> Result<Bytes> {
        let read = self.file.read(&[*page])?.pop();
        read.ok_or_else(|| self.corrupt(page, "a page cannot be read"))
    }

    fn corrupt(&self, page: &PageRef, what: &str) -> Error {
        Error::corrupt(self.file.name(), page.offset, what)
    }
}

/// The ids of a block, for its token index.
#[derive(Debug)]
pub(crate) struct Ids<'a> {
    pub(crate) file: &'a BlockFile,
    pub(crate) chunks: &'a [ChunkHeader],
}

impl IdColumns for Ids<'_> {
    fn may_contain(
        &self,
        chunk: u32,
        run: &[u8],
        open_left: bool,
        open_right: bool,
        fold: bool,
    ) -> bool {
        let part = Part {
            bytes: run,
            open_left,
            open_right,
            fold,
        };
        let header = usize::try_from(chunk)
            .ok()
            .and_then(|chunk| self.chunks.get(chunk));
        let found = header.map(|header| {
            let timestamps = || self.file.timestamps(header);
            let variables = self.file.variables(header)?;
            variables.may_contain(self.file.file.name(), part, timestamps)
        });
        // What cannot be read is told by whoever reads the lines.
        !matches!(found, Some(Ok(false)))
    }
}
