//! A depot in memory, for tests: a document, objects, and calls that fail when they are told to.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::catalog::{BlockMeta, Document};
use crate::depot::{Adopted, Depot, Guard, LocalCopy, Role, ShipEdit, ShipState};
use crate::error::{Error, Kind, Result};
use crate::fs::{ReadFile, WriteFile, slice_ranges};
use crate::ulid::BlockId;

/// What the bucket does with the call at which it is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing of it arrives.
    Request,
    /// It is done, and the answer does not come back.
    Answer,
}

/// The bucket of one store. Cheap to clone; clones are the same bucket.
#[derive(Debug, Clone, Default)]
pub struct MemoryBucket {
    contents: Arc<Mutex<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    document: Arc<Document>,
    /// The highest epoch that has committed: lower ones can do so no more.
    claimed: u64,
    objects: BTreeMap<BlockId, Bytes>,
    /// How many guards hold each object.
    held: BTreeMap<BlockId, u64>,
    calls: u64,
    reads: u64,
    cut: Option<(u64, Cut)>,
    is_away: bool,
    /// Local copies of more bytes in all are surplus.
    copies_max: Option<u64>,
    /// Whether copies are fetched that fit.
    fetches: bool,
    /// Bytes of copies that were fetched so far.
    fetched_bytes: u64,
    is_full: bool,
    kept_max: Option<u64>,
}

impl Contents {
    /// Counts a call; gives whether its answer is lost, or fails it.
    fn call(&mut self) -> Result<bool> {
        self.calls += 1;
        match self.cut {
            _ if self.is_away => Err(away()),
            Some((after, cut)) if self.calls > after => match cut {
                Cut::Answer if self.calls == after + 1 => Ok(true),
                _ => Err(away()),
            },
            _ => Ok(false),
        }
    }

    /// Refuses a writer that was overtaken, whatever it believes of itself.
    fn claim(&mut self, role: &Role) -> Result<()> {
        if let Role::Writer { epoch } = *role {
            if epoch < self.claimed {
                let what = format!("memory: epoch {} writes, not {epoch}", self.claimed);
                return Err(Error::new(Kind::Locked, what));
            }
            self.claimed = epoch;
        }
        Ok(())
    }

    fn is_gone(&self) -> bool {
        self.is_away || self.cut.is_some_and(|(after, _)| self.calls > after)
    }

    fn object(&self, id: BlockId) -> Result<Bytes> {
        let missing = || Error::new(Kind::Unavailable, format!("object {id} is missing"));
        self.objects.get(&id).cloned().ok_or_else(missing)
    }
}

fn away() -> Error {
    Error::new(Kind::Unavailable, "memory: the bucket does not answer")
}

impl MemoryBucket {
    /// An empty bucket.
    pub fn new() -> Self {
        Self::default()
    }

    /// A depot on this bucket, for the data directory `instance`, which is the writer.
    pub fn depot(&self, instance: &str) -> Arc<MemoryDepot> {
        Arc::new(MemoryDepot {
            bucket: self.clone(),
            instance: instance.to_owned(),
            role: Mutex::new(Role::Writer { epoch: 1 }),
            known: Mutex::new(0),
            told: Mutex::default(),
            copies: Mutex::default(),
        })
    }

    /// How many calls there were that could fail. Reads of files are not counted.
    pub fn calls(&self) -> u64 {
        self.contents.lock().calls
    }

    /// How many reads of files there were.
    pub fn reads(&self) -> u64 {
        self.contents.lock().reads
    }

    /// Lets the first `calls` calls pass and every later one fail; what becomes of the first of those
    /// says `cut`.
    pub fn cut_after(&self, calls: u64, cut: Cut) {
        self.contents.lock().cut = Some((calls, cut));
    }

    /// Whether nothing answers any more. `false` also ends what [`MemoryBucket::cut_after`] began.
    pub fn set_away(&self, is_away: bool) {
        let mut contents = self.contents.lock();
        contents.is_away = is_away;
        contents.cut = None;
    }

    /// Local copies of more bytes in all are surplus from now on.
    pub fn set_copies_max(&self, bytes: Option<u64>) {
        self.contents.lock().copies_max = bytes;
    }

    /// Has copies fetched from now on, as far as no other becomes surplus.
    pub fn set_fetches(&self, fetches: bool) {
        self.contents.lock().fetches = fetches;
    }

    /// Bytes of the copies that were fetched so far, as a depot counts them.
    pub fn fetched_bytes(&self) -> u64 {
        self.contents.lock().fetched_bytes
    }

    /// Whether a depot was told since this was asked last that the disk is full.
    pub fn take_was_full(&self) -> bool {
        std::mem::take(&mut self.contents.lock().is_full)
    }

    /// Readers of remote blocks may keep as many bytes from now on.
    pub fn set_kept_bytes_max(&self, bytes: u64) {
        self.contents.lock().kept_max = Some(bytes);
    }

    /// The newest document.
    pub fn document(&self) -> Arc<Document> {
        Arc::clone(&self.contents.lock().document)
    }

    /// The ids of all objects.
    pub fn objects(&self) -> Vec<BlockId> {
        self.contents.lock().objects.keys().copied().collect()
    }

    /// Removes the objects that nothing names or holds.
    pub fn sweep(&self) {
        let mut contents = self.contents.lock();
        let Contents {
            document,
            objects,
            held,
            ..
        } = &mut *contents;
        let is_named = |id: &BlockId| document.blocks.iter().any(|meta| meta.id == *id);
        objects.retain(|id, _| is_named(id) || held.contains_key(id));
    }

    /// Replaces an object, as somebody would who should not.
    pub fn damage(&self, id: BlockId, change: impl FnOnce(&mut Vec<u8>)) {
        let mut contents = self.contents.lock();
        if let Some(object) = contents.objects.get_mut(&id) {
            let mut bytes = object.to_vec();
            change(&mut bytes);
            *object = bytes.into();
        }
    }
}

/// A depot on a [`MemoryBucket`].
#[derive(Debug)]
pub struct MemoryDepot {
    bucket: MemoryBucket,
    instance: String,
    role: Mutex<Role>,
    /// The version that this depot has given last.
    known: Mutex<u64>,
    told: Mutex<ShipState>,
    /// The copies that it was told last.
    copies: Mutex<Vec<LocalCopy>>,
}

impl MemoryDepot {
    /// Changes what the process may do.
    pub fn set_role(&self, role: Role) {
        *self.role.lock() = role;
    }

    /// What it was told last.
    pub fn told(&self) -> ShipState {
        self.told.lock().clone()
    }
}

impl Depot for MemoryDepot {
    fn name(&self) -> &'static str {
        "memory:///"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn role(&self) -> Role {
        self.role.lock().clone()
    }

    fn newest(&self, known: u64) -> Result<Option<Arc<Document>>> {
        let mut contents = self.bucket.contents.lock();
        if contents.call()? {
            return Err(away());
        }
        *self.known.lock() = contents.document.version;
        let is_new = contents.document.version != known;
        Ok(is_new.then(|| Arc::clone(&contents.document)))
    }

    fn commit(&self, edit: &ShipEdit) -> Result<Adopted> {
        self.role().require_writer(self.name())?;
        let mut contents = self.bucket.contents.lock();
        let is_lost = contents.call()?;
        contents.claim(&self.role())?;
        let next = Arc::new(edit.applied_to(&contents.document, &self.instance)?);
        for meta in &next.blocks {
            let object = contents.objects.get(&meta.id);
            assert!(object.is_some(), "block {} is named and not there", meta.id);
        }
        let is_foreign = *self.known.lock() != contents.document.version;
        contents.document = Arc::clone(&next);
        if is_lost {
            return Err(away());
        }
        *self.known.lock() = next.version;
        Ok(Adopted {
            document: next,
            is_foreign,
        })
    }

    fn upload(
        &self,
        id: BlockId,
        file: &dyn ReadFile,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Guard> {
        check()?;
        self.role().require_writer(self.name())?;
        let whole = 0..file.len();
        let read = file.read(std::slice::from_ref(&whole));
        let read = read.map_err(|e| Error::io(format!("read block {id}"), e))?;
        let bytes = Bytes::from(read.concat());
        let mut contents = self.bucket.contents.lock();
        let is_lost = contents.call()?;
        let named = contents.document.blocks.iter().any(|meta| meta.id == id);
        let there = contents.objects.insert(id, bytes.clone());
        assert!(
            !named || there.is_none_or(|there| there == bytes),
            "block {id} is shipped and was overwritten with something else"
        );
        if is_lost {
            return Err(away());
        }
        *contents.held.entry(id).or_default() += 1;
        Ok(Box::new(Held {
            bucket: self.bucket.clone(),
            id,
        }))
    }

    fn open(&self, meta: &BlockMeta) -> Arc<dyn ReadFile> {
        Arc::new(Object {
            bucket: self.bucket.clone(),
            id: meta.id,
            len: meta.bytes,
        })
    }

    fn download(&self, meta: &BlockMeta, to: &mut dyn WriteFile) -> Result<()> {
        let object = {
            let mut contents = self.bucket.contents.lock();
            if contents.call()? {
                return Err(away());
            }
            contents.object(meta.id)?
        };
        to.write_all(&object)
            .map_err(|e| Error::io(format!("write block {}", meta.id), e))
    }

    fn fetch(
        &self,
        meta: &BlockMeta,
        to: &mut dyn WriteFile,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        check()?;
        self.download(meta, to)?;
        check()?;
        self.bucket.contents.lock().fetched_bytes += meta.bytes;
        Ok(())
    }

    fn admit(&self, copy: &LocalCopy) -> Option<Guard> {
        let contents = self.bucket.contents.lock();
        let copies = self
            .copies
            .lock()
            .iter()
            .map(|held| held.bytes)
            .sum::<u64>();
        let fits = copies + copy.bytes <= contents.copies_max.unwrap_or(u64::MAX);
        (contents.fetches && fits).then(|| Box::new(()) as Guard)
    }

    fn disk_is_full(&self) {
        self.bucket.contents.lock().is_full = true;
    }

    fn surplus(&self, copies: &[LocalCopy]) -> Vec<BlockId> {
        *self.copies.lock() = copies.to_vec();
        let Some(mut left) = self.bucket.contents.lock().copies_max else {
            return Vec::new();
        };
        let mut copies = copies.to_vec();
        copies.sort_by_key(|copy| std::cmp::Reverse(copy.used_ms));
        let mut surplus = Vec::new();
        for copy in copies {
            match left.checked_sub(copy.bytes) {
                Some(rest) => left = rest,
                None => surplus.push(copy.id),
            }
        }
        surplus
    }

    fn kept_bytes_max(&self, _kept: u64) -> u64 {
        self.bucket.contents.lock().kept_max.unwrap_or(u64::MAX)
    }

    fn tell(&self, state: ShipState) {
        *self.told.lock() = state;
    }
}

/// Keeps an object from being swept.
struct Held {
    bucket: MemoryBucket,
    id: BlockId,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut contents = self.bucket.contents.lock();
        if let Some(held) = contents.held.get_mut(&self.id) {
            *held -= 1;
            if *held == 0 {
                contents.held.remove(&self.id);
            }
        }
    }
}

/// An object that is read.
struct Object {
    bucket: MemoryBucket,
    id: BlockId,
    len: u64,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Object").field(&self.id).finish()
    }
}

impl ReadFile for Object {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        let mut contents = self.bucket.contents.lock();
        contents.reads += 1;
        let object = match contents.is_gone() {
            true => Err(away()),
            false => contents.object(self.id),
        };
        slice_ranges(&object.map_err(io::Error::other)?, ranges)
    }

    fn is_remote(&self) -> bool {
        true
    }
}
