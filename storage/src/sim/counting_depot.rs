//! A depot that counts what is asked for of blocks, and how many answers had to be waited for.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::MemoryDepot;
use crate::catalog::{BlockMeta, Document};
use crate::depot::{Adopted, Depot, Guard, LocalCopy, Role, ShipEdit, ShipState};
use crate::error::Result;
use crate::fs::{ReadFile, WriteFile};
use crate::ulid::BlockId;

/// What was asked for of the blocks of a bucket so far, each page of them once.
#[derive(Debug, Default)]
pub struct Asked {
    pages: BTreeMap<(BlockId, u64), u64>,
    rounds: u64,
}

impl Asked {
    /// How many pages.
    pub fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    /// How many answers had to be waited for, one after the other.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }
}

/// A depot whose reads are counted: what is asked for while nothing is waited for comes in one round.
#[derive(Debug)]
pub struct CountingDepot {
    depot: Arc<MemoryDepot>,
    page_bytes: u64,
    ahead_bytes_max: u64,
    asked: Arc<Mutex<Asked>>,
}

impl CountingDepot {
    /// Counts the reads of `depot` by pages of so many bytes.
    pub fn new(depot: Arc<MemoryDepot>, page_bytes: u64) -> Arc<Self> {
        Self::with_ahead(depot, page_bytes, u64::MAX)
    }

    /// The same for readers that may ask for so many bytes ahead of themselves.
    pub fn with_ahead(depot: Arc<MemoryDepot>, page_bytes: u64, ahead_bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            depot,
            page_bytes,
            ahead_bytes_max,
            asked: Arc::default(),
        })
    }

    /// What was asked for so far, to be read and to be reset.
    pub fn asked(&self) -> Arc<Mutex<Asked>> {
        Arc::clone(&self.asked)
    }
}

#[derive(Debug)]
struct CountedFile {
    id: BlockId,
    file: Arc<dyn ReadFile>,
    page_bytes: u64,
    ahead_bytes_max: u64,
    asked: Arc<Mutex<Asked>>,
}

impl CountedFile {
    /// Asks for pages; gives the round in which the last of them comes.
    fn ask(&self, asked: &mut Asked, ranges: &[Range<u64>]) -> u64 {
        let next = asked.rounds + 1;
        let size = self.page_bytes;
        let of = |range: &Range<u64>| range.start / size..range.end.div_ceil(size);
        let pages = ranges.iter().flat_map(of);
        let rounds = pages.map(|page| *asked.pages.entry((self.id, page)).or_insert(next));
        rounds.max().unwrap_or(0)
    }
}

impl ReadFile for CountedFile {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        let mut asked = self.asked.lock();
        asked.rounds = asked.rounds.max(self.ask(&mut asked, ranges));
        self.file.read(ranges)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn prefetch(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        self.ask(&mut self.asked.lock(), ranges);
        Ok(())
    }

    fn ahead_bytes_max(&self) -> u64 {
        self.ahead_bytes_max
    }
}

impl Depot for CountingDepot {
    fn name(&self) -> &str {
        self.depot.name()
    }

    fn instance(&self) -> &str {
        self.depot.instance()
    }

    fn role(&self) -> Role {
        self.depot.role()
    }

    fn newest(&self, known: u64) -> Result<Option<Arc<Document>>> {
        self.depot.newest(known)
    }

    fn commit(&self, edit: &ShipEdit) -> Result<Adopted> {
        self.depot.commit(edit)
    }

    fn upload(
        &self,
        id: BlockId,
        file: &dyn ReadFile,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Guard> {
        self.depot.upload(id, file, check)
    }

    fn open(&self, meta: &BlockMeta) -> Arc<dyn ReadFile> {
        Arc::new(CountedFile {
            id: meta.id,
            file: self.depot.open(meta),
            page_bytes: self.page_bytes,
            ahead_bytes_max: self.ahead_bytes_max,
            asked: Arc::clone(&self.asked),
        })
    }

    fn download(&self, meta: &BlockMeta, to: &mut dyn WriteFile) -> Result<()> {
        self.depot.download(meta, to)
    }

    fn surplus(&self, copies: &[LocalCopy]) -> Vec<BlockId> {
        self.depot.surplus(copies)
    }

    fn kept_bytes_max(&self, kept: u64) -> u64 {
        self.depot.kept_bytes_max(kept)
    }

    fn tell(&self, state: ShipState) {
        self.depot.tell(state);
    }
}
