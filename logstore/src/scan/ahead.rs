//! Fetches what a scan comes to next, where blocks are far away: the tables of the next places, the
//! pages of the next chunks, of whichever place they are. A scan that may stop early begins with few, and
//! has fetched about twice what it needed when it stops. Nothing is done where all files are on this disk.

use trine_storage::block_set::{Block, warm};
use trine_storage::read_ahead::ReadAhead;
use trine_storage::sealed::PageRef;

use super::Scan;
use super::counts::{Buckets, Told};
use super::place::{Held, OpenPlace, Place};
use crate::block::reader::{BlockFile, SEARCHED, TABLES};
use crate::request::Rows;

/// As many places or chunks are fetched at a time.
const AT_ONCE: usize = 64;
/// As many places are fetched first where a scan may stop early and few entries of each pass.
const NARROW_FIRST: usize = 4;
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
    /// Of a scan that fetches so many first.
    fn new(first: usize) -> Self {
        Self {
            fetched: 0,
            next: first,
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

/// Pages of places, named by their numbers, that are to be fetched together.
pub(super) type Pages = Vec<(usize, PageRef)>;

/// Which pages of chunks a scan needs as a rule.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// The reader does not stop before the end.
    pub(crate) is_all: bool,
    /// Chunks are looked into, and not only their headers.
    pub(crate) is_any: bool,
    pub(crate) lines: bool,
    pub(crate) metadata: bool,
    /// Headers tell most of it.
    pub(crate) headers: Option<Headers>,
}

/// What is looked for in chunks whose headers do not tell it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Headers {
    pub(crate) buckets: Option<Buckets>,
    pub(crate) lengths: bool,
    pub(crate) levels: bool,
}

impl Wanted {
    /// What is given of rows.
    pub(crate) fn of(request: &Rows) -> Self {
        Self {
            is_all: request.limit_hint.is_none(),
            is_any: true,
            lines: request.projection.lines,
            metadata: request.projection.metadata,
            headers: None,
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
        let sections: &[u32] = match self.is_searched() {
            true => &SEARCHED,
            false => &TABLES,
        };
        fetch_tables(blocks.collect(), sections);
    }

    /// Begins to fetch the pages of chunks of open places.
    pub(super) fn fetch_chunks(&self, chunks: impl IntoIterator<Item = (usize, usize)>) {
        let mut pages = Pages::new();
        for chunk in chunks {
            self.pages_of(chunk, &mut pages);
        }
        self.fetch(pages);
    }

    /// Begins to fetch pages.
    pub(super) fn fetch(&self, mut pages: Pages) {
        pages.sort_unstable_by_key(|(place, page)| (*place, page.offset));
        pages.dedup();
        for of_place in pages.chunk_by(|a, b| a.0 == b.0) {
            let place = of_place.first().map(|(place, _)| *place);
            let block = place.and_then(|place| self.places.get(place)?.place.block());
            if let Some(block) = block {
                let pages: Vec<PageRef> = of_place.iter().map(|(_, page)| *page).collect();
                block.reader.prefetch(&pages);
            }
        }
    }

    /// Appends the pages that are needed of a chunk as a rule. Nothing of a place that is not open.
    pub(super) fn pages_of(&self, (number, chunk): (usize, usize), out: &mut Pages) {
        let open = self.places.get(number).and_then(|slot| slot.open.get());
        let Some(Some(open)) = open else { return };
        let (Held::Block(..), Some(header)) = (&open.held, open.header(chunk)) else {
            return;
        };
        let first = out.len();
        let mut add = |page: PageRef| out.push((number, page));
        match self.wanted.headers.filter(|_| self.headers_know(open)) {
            Some(headers) => self.pages_of_counted((number, chunk), open, headers, out),
            None if !self.wanted.is_any => {}
            None => {
                let lines = self.wanted.lines || !self.spec.filters.is_empty();
                let metadata = self.wanted.metadata || !self.spec.metadata.is_empty();
                let has_either = self.spec.either.is_some();
                add(header.timestamps);
                if open.is_sure() {
                    if lines || has_either {
                        [header.lengths, header.text, header.variables]
                            .into_iter()
                            .for_each(&mut add);
                    }
                    if metadata || has_either {
                        add(header.metadata);
                    }
                } else {
                    // Ids are looked at first, and rule out most.
                    add(header.variables);
                }
            }
        }
        let mut at = 0;
        out.retain(|(_, page)| {
            at += 1;
            at <= first || page.len > 0
        });
    }

    /// Appends the pages of a chunk that has runs which its header does not tell all of, and the
    /// timestamps of earlier places that may hold the same entries.
    fn pages_of_counted(
        &self,
        (number, chunk): (usize, usize),
        open: &OpenPlace,
        headers: Headers,
        out: &mut Pages,
    ) {
        let Some(header) = open.header(chunk) else {
            return;
        };
        let levels = headers.levels || !open.conditions.is_empty();
        let mut is_needed = false;
        for (at, run) in header.runs.iter().enumerate() {
            match Told::of(self, (number, open), run, headers.buckets) {
                Told::Nothing => {}
                Told::Header(_) => is_needed |= levels && header.levels_of(at).is_none(),
                Told::Times => is_needed = true,
                Told::Rows => {
                    is_needed = true;
                    self.each_like(number, open, run, |earlier, header| {
                        out.push((earlier, header.timestamps));
                    });
                }
            }
        }
        if is_needed {
            out.push((number, header.timestamps));
            if headers.lengths {
                out.push((number, header.lengths));
            }
            if levels {
                out.push((number, header.metadata));
            }
        }
    }

    /// How far the scan is ahead of itself at its beginning.
    pub(super) fn ahead(&self) -> Ahead {
        Ahead::new(if self.wanted.is_all { AT_ONCE } else { 1 })
    }

    /// The same for places.
    pub(super) fn places_ahead(&self) -> Ahead {
        match !self.wanted.is_all && self.is_searched() {
            true => Ahead::new(NARROW_FIRST),
            false => self.ahead(),
        }
    }

    /// Whether the token index is asked which chunks may have something.
    fn is_searched(&self) -> bool {
        let needles = self.spec.needles.as_ref();
        needles.is_some_and(|needles| !needles.is_anything())
    }

    /// The same for chunks that are taken in the order of places.
    pub(super) fn read_ahead(&self) -> ReadAhead {
        let blocks = self.places.iter().filter_map(|slot| slot.place.block());
        let bytes_max = blocks.map(|block| block.file.ahead_bytes_max()).min();
        ReadAhead::new(bytes_max.unwrap_or(u64::MAX), self.wanted.is_all)
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
