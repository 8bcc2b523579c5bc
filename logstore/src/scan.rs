//! Reads memory and blocks as one: opens the places that hold entries, then merges or counts.
//!
//! Everything is lazy: a block is looked into when the answer reaches its range of time, a chunk
//! is unpacked when the answer reaches the chunk's, and what a filter or a range has excluded by
//! then is never unpacked at all.

mod counts;
mod merge;

use std::sync::Arc;

use roaring::RoaringBitmap;
use trine_storage::block_set::Block;
use trine_storage::{Labels, Matcher, Result, TimeRange};

pub(crate) use counts::CountScan;
pub(crate) use merge::RowScan;

use crate::block::format::ChunkHeader;
use crate::block::reader::{BlockFile, Tables};
use crate::buffer::{Page, View};
use crate::tombstone::{Hidden, Veil};

/// Something that holds entries.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Block(Arc<Block<BlockFile>>),
    Memory(View),
}

impl Place {
    /// The range of time that its entries lie in.
    pub(crate) fn range(&self) -> Option<TimeRange> {
        match self {
            Self::Block(block) => Some(block.meta.range),
            Self::Memory(view) => view.range(),
        }
    }

    /// What of it is not to be seen in `range`.
    pub(crate) fn veil(&self, hidden: &Hidden, range: TimeRange) -> Veil {
        match self {
            Self::Block(block) => hidden.veil(Some(&block.meta), range),
            Self::Memory(_) => hidden.veil(None, range),
        }
    }

    /// Finds out which streams satisfy `matchers` and what chunks there are.
    pub(crate) fn open(&self, matchers: &[Matcher]) -> Result<(OpenPlace, RoaringBitmap)> {
        match self {
            Self::Block(block) => {
                let tables = block.reader.tables()?;
                let selected = tables.select(matchers)?;
                Ok((OpenPlace::Block(Arc::clone(block), tables), selected))
            }
            Self::Memory(view) => {
                let selected = view.select(matchers);
                let (streams, pages) = (view.streams(), view.pages());
                Ok((OpenPlace::Memory { streams, pages }, selected))
            }
        }
    }
}

/// A place that was looked into.
#[derive(Debug)]
pub(crate) enum OpenPlace {
    Block(Arc<Block<BlockFile>>, Arc<Tables>),
    Memory {
        streams: Vec<Labels>,
        pages: Vec<Page>,
    },
}

/// A chunk of a block, or a page of the buffer.
pub(crate) enum Chunk<'a> {
    Block(&'a BlockFile, &'a ChunkHeader),
    Page(&'a Page),
}

impl OpenPlace {
    /// How many stream codes there are.
    pub(crate) fn streams(&self) -> usize {
        match self {
            Self::Block(_, tables) => tables.index.len(),
            Self::Memory { streams, .. } => streams.len(),
        }
    }

    /// The labels of those of `codes` that there are, in order.
    pub(crate) fn labels_of(&self, codes: &RoaringBitmap) -> Result<Vec<(u32, Labels)>> {
        match self {
            Self::Block(_, tables) => tables.labels_of(codes),
            Self::Memory { streams, .. } => {
                let labels = |code| Some((code, streams.get(code as usize)?.clone()));
                Ok(codes.iter().filter_map(labels).collect())
            }
        }
    }

    pub(crate) fn chunks(&self) -> usize {
        match self {
            Self::Block(_, tables) => tables.chunks.len(),
            Self::Memory { pages, .. } => pages.len(),
        }
    }

    pub(crate) fn chunk(&self, number: usize) -> Option<Chunk<'_>> {
        match self {
            Self::Block(block, tables) => tables
                .chunks
                .get(number)
                .map(|header| Chunk::Block(&block.reader, header)),
            Self::Memory { pages, .. } => pages.get(number).map(Chunk::Page),
        }
    }
}

impl Chunk<'_> {
    /// From the first to the last timestamp, when entries in `range` of streams for which
    /// `is_selected` may be in it.
    pub(crate) fn range_if(
        &self,
        range: TimeRange,
        is_selected: impl Fn(u32) -> bool,
    ) -> Option<TimeRange> {
        match self {
            Self::Block(_, header) => {
                let mut runs = header.runs.iter();
                let some = header.range.overlaps(&range)
                    && runs.any(|run| is_selected(run.stream) && run.range().overlaps(&range));
                some.then_some(header.range)
            }
            Self::Page(page) => Some(page.range).filter(|held| held.overlaps(&range)),
        }
    }
}
