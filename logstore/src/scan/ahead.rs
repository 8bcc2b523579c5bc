//! Fetches what a scan comes to next, where blocks are far away: the tables of the next places, the
//! pages of the next chunks. A scan that may stop early begins with few, and has fetched about twice what
//! it needed when it stops. Nothing is done where all files are on this disk.

use trine_storage::block_set::{Block, warm};

use super::Scan;
use super::place::{Held, Place};
use crate::block::reader::{BlockFile, SEARCHED, TABLES};
use crate::request::Rows;

/// As many places or chunks are fetched at a time.
const AT_ONCE: usize = 64;
/// The tables that are fetched at a time take about as many bytes at most, unless those of one place take
/// more.
const TABLE_BYTES_MAX: u64 = 64 << 20;

/// How far a scan is ahead of itself.
#[derive(Debug)]
pub(super) struct Ahead {
    /// How many that come next are fetched.
    fetched: usize,
    /// How many are fetched when there are none left.
    next: usize,
}

impl Ahead {
    /// Of a scan that needs all there is, or of one that may stop early.
    pub(super) fn new(needs_all: bool) -> Self {
        Self {
            fetched: 0,
            next: if needs_all { AT_ONCE } else { 1 },
        }
    }

    /// Tells that so many are used; gives how many are to be fetched, those first.
    pub(super) fn step(&mut self, used: usize) -> usize {
        if let Some(left) = self.fetched.checked_sub(used) {
            self.fetched = left;
            return 0;
        }
        let count = self.next.max(used);
        self.next = (2 * self.next).min(AT_ONCE);
        self.fetched = count - used;
        count
    }
}

/// Which pages of chunks a scan needs as a rule.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// The reader does not stop before the end.
    pub(crate) is_all: bool,
    /// Chunks are looked into, and not only their headers.
    pub(crate) is_any: bool,
    pub(crate) lines: bool,
    pub(crate) metadata: bool,
}

impl Wanted {
    /// What is given of rows.
    pub(crate) fn of(request: &Rows) -> Self {
        Self {
            is_all: request.limit_hint.is_none(),
            is_any: true,
            lines: request.projection.lines,
            metadata: request.projection.metadata,
        }
    }
}

impl Scan {
    /// Begins to fetch the tables of places that were not opened yet. What goes wrong is told by whoever
    /// opens them.
    pub(super) fn fetch_places(&self, numbers: impl IntoIterator<Item = usize>) {
        let slots = numbers.into_iter().filter_map(|n| self.places.get(n));
        let closed = slots.filter(|slot| slot.open.get().is_none());
        let blocks = closed.filter_map(|slot| slot.place.block());
        let needles = self.spec.needles.as_ref();
        let sections: &[u32] = match needles.is_some_and(|needles| !needles.is_anything()) {
            true => &SEARCHED,
            false => &TABLES,
        };
        fetch_tables(blocks.collect(), sections);
    }

    /// Begins to fetch the pages of chunks of open places.
    pub(super) fn fetch_chunks(&self, chunks: impl IntoIterator<Item = (usize, usize)>) {
        if !self.wanted.is_any {
            return;
        }
        let lines = self.wanted.lines || !self.spec.filters.is_empty();
        let metadata = self.wanted.metadata || !self.spec.metadata.is_empty();
        let has_either = self.spec.either.is_some();
        let mut pages = Vec::new();
        let mut chunks = chunks.into_iter().peekable();
        while let Some((number, chunk)) = chunks.next() {
            let open = self.places.get(number).and_then(|slot| slot.open.get());
            let Some(Some(open)) = open else { continue };
            let Held::Block(block, _) = &open.held else {
                continue;
            };
            if let Some(header) = open.header(chunk) {
                pages.push(header.timestamps);
                if open.is_sure() {
                    if lines || has_either {
                        pages.extend([header.lengths, header.text, header.variables]);
                    }
                    if metadata || has_either {
                        pages.push(header.metadata);
                    }
                } else {
                    // Ids are looked at first, and rule out most.
                    pages.push(header.variables);
                }
            }
            if chunks.peek().is_none_or(|(next, _)| *next != number) {
                pages.retain(|page| page.len > 0);
                block.reader.prefetch(&pages);
                pages.clear();
            }
        }
    }

    /// How far the scan is ahead of itself at its beginning.
    pub(super) fn ahead(&self) -> Ahead {
        Ahead::new(self.wanted.is_all)
    }

    /// Whether anything of it is far away.
    pub(super) fn is_remote(&self) -> bool {
        self.is_remote
    }
}

/// Begins to fetch the tables of `places`; gives them back a group at a time, so that what is fetched
/// is used soon.
pub(crate) fn in_groups(places: &[Place]) -> impl Iterator<Item = &Place> {
    places.chunks(AT_ONCE).flat_map(|group| {
        fetch_tables(group.iter().filter_map(Place::block).collect(), &TABLES);
        group
    })
}

/// As [`in_groups`], of blocks.
pub(crate) fn blocks_in_groups<'a>(
    blocks: &'a [&'a Block<BlockFile>],
) -> impl Iterator<Item = &'a Block<BlockFile>> {
    blocks.chunks(AT_ONCE).flat_map(|group| {
        fetch_tables(group.to_vec(), &TABLES);
        group.iter().copied()
    })
}

/// Begins to fetch the tables of blocks that are far away, the heads of all in one round. What goes wrong
/// is told by whoever reads them.
fn fetch_tables(mut blocks: Vec<&Block<BlockFile>>, sections: &[u32]) {
    blocks.retain(|block| block.file.is_remote());
    warm(blocks.iter().copied(), &[]).ok();
    let mut left = TABLE_BYTES_MAX;
    for block in blocks {
        let bytes = sections.iter().map(|id| {
            let len = block.file.section_len(*id).ok().flatten();
            len.unwrap_or(0)
        });
        block.file.prefetch_sections(sections).ok();
        match left.checked_sub(bytes.sum()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
