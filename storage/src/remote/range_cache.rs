//! Ranges of remote objects that are kept near: in memory, and on the local disk below it
//! (`range_cache/disk`). [`super::file`] reads through it.
//!
//! Objects are cut into pages of one size. A page is in memory, on the disk, coming, or not here. Who
//! misses pages fetches them in runs (near ones together, long ones in parallel) and tells everybody
//! else who waits for them, so that a page is fetched once whoever asks. What comes in the wrong length
//! is an error and is not kept; what is read from the disk is checked, and fetched again if it is
//! damaged.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};

use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};
use tokio::runtime::Handle;

use super::failure::{Failure, Reason};
use crate::clock::Clock;
use crate::cost::Round;
use crate::error::Result;
use crate::fs::Fs;

mod disk;

use disk::Disk;

/// Pages that came together share a piece of memory if that is at most one in so many of all.
const RUN_ONE_IN: u64 = 16;
/// As many objects are known before it is looked which nobody needs any more.
const OBJECTS_MIN: usize = 1024;

/// Limits of a cache.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// Bytes of pages in memory. Default 256 MiB.
    pub memory_bytes_max: u64,
    /// How much of it pages of high priority may take before they give way to each other rather than
    /// to none, percent. Default 60.
    pub high_percent_max: u64,
    /// Where pages are on the local disk; nothing for memory only.
    pub disk: Option<DiskOptions>,
    /// Bytes of a page. Default 64 KiB, at least 4 KiB.
    pub page_bytes: u64,
    /// Missing pages with no more than so many bytes between them are fetched together. Default
    /// 128 KiB.
    pub gap_bytes_max: u64,
    /// Bytes of one request; longer runs are fetched in parallel. Default 4 MiB.
    pub request_bytes_max: u64,
}

/// The part of a cache on the local disk.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// A directory that nobody else uses.
    pub dir: PathBuf,
    /// Bytes of all files in it. Default 10 GiB.
    pub bytes_max: u64,
    /// Bytes of one file, which is written at once and is held in memory until then. Default 16 MiB.
    pub segment_bytes: u64,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            memory_bytes_max: 256 << 20,
            high_percent_max: 60,
            disk: None,
            page_bytes: 64 << 10,
            gap_bytes_max: 128 << 10,
            request_bytes_max: 4 << 20,
        }
    }
}

impl DiskOptions {
    /// The defaults in this directory.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            bytes_max: 10 << 30,
            segment_bytes: 16 << 20,
        }
    }
}

/// How much it costs to miss a page again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Data.
    Normal,
    /// Footers, indexes, filters: what every read of the object looks at first.
    High,
}

/// What a cache has and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes of pages in memory.
    pub memory_bytes: u64,
    /// Pages in memory.
    pub memory_pages: u64,
    /// Bytes of files on the disk.
    pub disk_bytes: u64,
    /// Pages on the disk.
    pub disk_pages: u64,
    /// Pages that were found in memory.
    pub memory_hits: u64,
    /// Pages that were found on the disk.
    pub disk_hits: u64,
    /// Pages that were not found.
    pub misses: u64,
    /// Pages that left memory.
    pub evicted: u64,
    /// Pages on the disk that were not what was written.
    pub damaged: u64,
    /// Why nothing is written to the disk at the moment.
    pub disk_error: Option<String>,
}

/// A page of an object: the hash of its name, and the number of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PageKey {
    pub(crate) object: u128,
    pub(crate) page: u32,
}

/// A run of pages that is being fetched.
pub(crate) struct Flight {
    pages: Arc<Pages>,
    /// The bytes of the object.
    pub(crate) range: Range<u64>,
    /// Of the query that asked for it.
    pub(crate) round: Option<Round>,
    done: Mutex<Option<Result<Bytes, Failure>>>,
    woken: Condvar,
}

impl Flight {
    /// Waits until it is there.
    pub(crate) fn wait(&self) -> Result<Bytes, Failure> {
        let mut done = self.done.lock();
        loop {
            if let Some(result) = &*done {
                return result.clone();
            }
            self.woken.wait(&mut done);
        }
    }
}

enum Slot {
    Coming(Arc<Flight>),
    Held(Held),
}

/// A page in memory.
struct Held {
    bytes: Bytes,
    /// Where the bytes are part of more.
    run: Option<Arc<Run>>,
    priority: Priority,
    used: AtomicBool,
    /// In which it came.
    round: Option<Round>,
}

/// Pages beside each other that came together, in one piece of memory: who reads several of them gets it
/// without a copy.
struct Run {
    pages: Range<u32>,
    bytes: Bytes,
    /// Bytes of pages that are not held any more. Changes behind the lock of [`Memory`].
    dead: AtomicU64,
}

impl Held {
    /// The bytes, which were used by this.
    fn take(&self) -> &Bytes {
        // Mostly it is set, and then readers need not write to what they share.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        &self.bytes
    }
}

/// The pages of one object that are in memory or coming. Who only looks for them locks nothing that is
/// shared with other objects.
///
/// Whoever changes which pages are held has the lock of [`Memory`], and takes this one within it.
pub(crate) struct Pages {
    object: u128,
    slots: RwLock<BTreeMap<u32, Slot>>,
}

/// The pages of an object, while nobody changes them, that did not come for the query that looks: of those
/// it matters when they came.
pub(crate) struct HeldPages<'a> {
    slots: RwLockReadGuard<'a, BTreeMap<u32, Slot>>,
    here: Option<Round>,
}

impl Pages {
    /// A look at what is in memory.
    pub(crate) fn held(&self) -> HeldPages<'_> {
        HeldPages {
            slots: self.slots.read(),
            here: Round::next(),
        }
    }

    /// Says of pages that they do not come, or are not kept.
    fn land_without(&self, came: &[Came]) {
        let mut slots = self.slots.write();
        for (page, ..) in came {
            // It may have come from the disk meanwhile.
            if matches!(slots.get(page), Some(Slot::Coming(_))) {
                slots.remove(page);
            }
        }
    }

    fn key(&self, page: u32) -> PageKey {
        PageKey {
            object: self.object,
            page,
        }
    }
}

impl HeldPages<'_> {
    /// A page that is in memory, which was used by this.
    pub(crate) fn get(&self, page: u32) -> Option<&Bytes> {
        Some(self.find(page)?.take())
    }

    fn find(&self, page: u32) -> Option<&Held> {
        let Some(Slot::Held(held)) = self.slots.get(&page) else {
            return None;
        };
        let both = held.round.zip(self.here);
        let is_own = both.is_some_and(|(round, here)| round.is_of(here));
        (!is_own).then_some(held)
    }

    /// Pages that are in memory in one piece, which were used by this: the number of the first page of
    /// that, and its bytes.
    pub(crate) fn together(&self, pages: Range<u32>) -> Option<(u32, Bytes)> {
        let mut found: Option<&Arc<Run>> = None;
        for page in pages {
            let held = self.find(page)?;
            let run = held.run.as_ref()?;
            if !Arc::ptr_eq(found.get_or_insert(run), run) {
                return None;
            }
            held.take();
        }
        found.map(|run| (run.pages.start, run.bytes.clone()))
    }
}

/// A page that came from somewhere: its number, its bytes, which may be part of more, and its priority.
pub(crate) type Came = (u32, Bytes, Priority);

/// What a look for a page gives.
pub(crate) enum Look {
    Memory(Bytes, Option<Round>),
    Coming(Arc<Flight>),
    Missing,
}

/// Which pages are held, of all objects.
#[derive(Default)]
struct Memory {
    /// In the order in which they came or were last spared.
    normal: VecDeque<Entry>,
    high: VecDeque<Entry>,
    bytes: u64,
    high_bytes: u64,
}

/// A page that is held.
struct Entry {
    pages: Arc<Pages>,
    page: u32,
}

/// The objects of which pages are held, or that somebody reads.
#[derive(Default)]
struct Objects {
    known: HashMap<u128, Weak<Pages>>,
    /// How many are known when those are looked for that nobody needs any more.
    most: usize,
}

impl Objects {
    fn get(&mut self, object: u128) -> Arc<Pages> {
        if let Some(pages) = self.known.get(&object).and_then(Weak::upgrade) {
            return pages;
        }
        let pages = Arc::new(Pages {
            object,
            slots: RwLock::default(),
        });
        self.known.insert(object, Arc::downgrade(&pages));
        if self.known.len() > self.most {
            self.known.retain(|_, pages| pages.strong_count() > 0);
            self.most = OBJECTS_MIN.max(2 * self.known.len());
        }
        pages
    }
}

#[derive(Default)]
struct Figures {
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
}

/// A cache of ranges for all remote files of a process. A cheap handle.
#[derive(Clone)]
pub struct RangeCache {
    inner: Arc<Inner>,
}

struct Inner {
    options: CacheOptions,
    memory: Mutex<Memory>,
    objects: Mutex<Objects>,
    disk: Option<Arc<Disk>>,
    handle: Handle,
    figures: Figures,
}

impl RangeCache {
    /// A cache. Takes over what an earlier process left on the disk, by reading the beginning of
    /// each file; what is damaged or too much is removed. Files are written on `handle`'s threads for
    /// blocking work.
    ///
    /// # Errors
    /// [`Kind::Locked`](crate::Kind::Locked) when another process has the directory,
    /// [`Kind::Io`](crate::Kind::Io) when it cannot be made or listed.
    pub fn open(
        options: CacheOptions,
        fs: &Arc<dyn Fs>,
        handle: Handle,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let options = CacheOptions {
            page_bytes: options.page_bytes.clamp(4 << 10, 1 << 30),
            ..options
        };
        let disk = match &options.disk {
            Some(disk) => Some(Arc::new(Disk::open(disk, fs, clock)?)),
            None => None,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                memory: Mutex::default(),
                objects: Mutex::default(),
                disk,
                handle,
                figures: Figures::default(),
            }),
        })
    }

    /// Its limits.
    pub fn options(&self) -> &CacheOptions {
        &self.inner.options
    }

    /// What it has and did.
    pub fn stats(&self) -> CacheStats {
        let memory = self.inner.memory.lock();
        let figures = &self.inner.figures;
        let mut stats = CacheStats {
            memory_bytes: memory.bytes,
            memory_pages: (memory.normal.len() + memory.high.len()) as u64,
            memory_hits: figures.memory_hits.load(Ordering::Relaxed),
            disk_hits: figures.disk_hits.load(Ordering::Relaxed),
            misses: figures.misses.load(Ordering::Relaxed),
            evicted: figures.evicted.load(Ordering::Relaxed),
            ..CacheStats::default()
        };
        drop(memory);
        if let Some(disk) = &self.inner.disk {
            disk.tell(&mut stats);
        }
        stats
    }

    /// Writes what is still in memory for the disk: before a process ends.
    pub fn flush(&self) {
        if let Some(disk) = &self.inner.disk {
            disk.flush();
        }
    }

    /// The pages of an object.
    pub(crate) fn pages(&self, object: u128) -> Arc<Pages> {
        self.inner.objects.lock().get(object)
    }

    /// Drops the pages of an object, because what they say is wrong: the next read fetches them. What
    /// is coming already comes.
    pub(crate) fn forget(&self, pages: &Arc<Pages>) {
        self.inner.memory.lock().forget(pages);
        if let Some(disk) = &self.inner.disk {
            disk.forget(pages.object);
        }
    }

    pub(crate) fn count(&self, memory_hits: u64, disk_hits: u64, misses: u64) {
        let figures = &self.inner.figures;
        for (figure, more) in [
            (&figures.memory_hits, memory_hits),
            (&figures.disk_hits, disk_hits),
            (&figures.misses, misses),
        ] {
            if more > 0 {
                figure.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// Looks for pages of an object in memory.
    pub(crate) fn look(&self, pages: &Pages, wanted: &[u32]) -> Vec<Look> {
        let slots = pages.slots.read();
        let look = |page: &u32| match slots.get(page) {
            Some(Slot::Held(held)) => Look::Memory(held.take().clone(), held.round),
            Some(Slot::Coming(flight)) => Look::Coming(Arc::clone(flight)),
            None => Look::Missing,
        };
        wanted.iter().map(look).collect()
    }

    /// A page from the disk, where it lies there; nothing when it is not there or is damaged.
    pub(crate) fn load_from_disk(&self, pages: &Pages, page: u32, len: u64) -> Option<Bytes> {
        self.inner.disk.as_ref()?.read(pages.key(page), len)
    }

    /// Keeps pages in memory as far as they fit, in the order of their numbers.
    pub(crate) fn hold(&self, pages: &Arc<Pages>, came: &[Came]) {
        self.inner.hold(pages, came, None);
    }

    /// Says that the pages of `range` are coming. Gives the flight if it is this call's to begin;
    /// nothing when some are here or coming by now, and then the caller looks again.
    pub(crate) fn begin(
        &self,
        pages: &Arc<Pages>,
        range: Range<u64>,
        wanted: &[u32],
    ) -> Option<Arc<Flight>> {
        let mut slots = pages.slots.write();
        if wanted.iter().any(|page| slots.contains_key(page)) {
            return None;
        }
        let flight = Arc::new(Flight {
            pages: Arc::clone(pages),
            range,
            round: Round::next(),
            done: Mutex::new(None),
            woken: Condvar::new(),
        });
        for page in wanted {
            slots.insert(*page, Slot::Coming(Arc::clone(&flight)));
        }
        Some(flight)
    }

    /// What a task holds that fetches a run: it ends the flight, whatever becomes of the task.
    pub(crate) fn landing(
        &self,
        flight: Arc<Flight>,
        pages: Vec<u32>,
        priorities: Vec<Priority>,
    ) -> Landing {
        Landing {
            cache: Arc::clone(&self.inner),
            flight,
            pages,
            priorities,
            ended: false,
        }
    }
}

impl Inner {
    /// Keeps pages in memory as far as they fit, those beside each other in one piece.
    fn hold(&self, pages: &Arc<Pages>, came: &[Came], round: Option<Round>) {
        let max = self.options.memory_bytes_max;
        let shared_max = max / RUN_ONE_IN;
        let page_bytes = self.options.page_bytes;
        let is_run =
            |a: &Came, b: &Came| a.0.checked_add(1) == Some(b.0) && a.1.len() as u64 == page_bytes;
        let most = usize::try_from(shared_max / page_bytes).unwrap_or(usize::MAX);
        for group in came
            .chunk_by(is_run)
            .flat_map(|group| group.chunks(most.max(1)))
        {
            if group.iter().any(|(_, bytes, _)| bytes.len() as u64 > max) {
                pages.land_without(group);
                continue;
            }
            // A copy: what came may be part of much more.
            let mut bytes =
                BytesMut::with_capacity(group.iter().map(|(_, page, _)| page.len()).sum());
            for (_, page, _) in group {
                bytes.extend_from_slice(page);
            }
            let mut memory = self.memory.lock();
            memory.hold(pages, group, bytes.freeze(), round);
            let evicted = memory.evict(&self.options);
            drop(memory);
            self.figures.evicted.fetch_add(evicted, Ordering::Relaxed);
        }
    }
}

impl Memory {
    /// Keeps a group of pages, whose bytes these are.
    fn hold(&mut self, pages: &Arc<Pages>, group: &[Came], bytes: Bytes, round: Option<Round>) {
        let Some((first, ..)) = group.first() else {
            return;
        };
        let run = (group.len() > 1).then(|| {
            let end = group
                .last()
                .map_or(*first, |(last, ..)| last.saturating_add(1));
            Arc::new(Run {
                pages: *first..end,
                bytes: bytes.clone(),
                dead: AtomicU64::new(0),
            })
        });
        self.bytes += bytes.len() as u64;
        let mut slots = pages.slots.write();
        let (mut rest, mut twice) = (bytes, 0);
        for (page, part, priority) in group {
            let bytes = rest.split_to(part.len().min(rest.len()));
            let len = bytes.len() as u64;
            if matches!(slots.get(page), Some(Slot::Held(_))) {
                twice += len;
                continue;
            }
            let held = Held {
                bytes,
                run: run.clone(),
                priority: *priority,
                used: AtomicBool::new(false),
                round,
            };
            slots.insert(*page, Slot::Held(held));
            let entry = Entry {
                pages: Arc::clone(pages),
                page: *page,
            };
            match priority {
                Priority::Normal => self.normal.push_back(entry),
                Priority::High => {
                    self.high_bytes += len;
                    self.high.push_back(entry);
                }
            }
        }
        if twice > 0 {
            self.let_go(&mut slots, run.as_ref(), twice);
        }
    }

    /// Counts bytes as gone that were held. When half of their run is gone the rest gets memory of its
    /// own, so that a page keeps no more than itself for long.
    fn let_go(&mut self, slots: &mut BTreeMap<u32, Slot>, run: Option<&Arc<Run>>, bytes: u64) {
        let Some(run) = run else {
            self.bytes -= bytes;
            return;
        };
        let dead = run.dead.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if dead.saturating_mul(2) < run.bytes.len() as u64 {
            return;
        }
        for (_, slot) in slots.range_mut(run.pages.clone()) {
            if let Slot::Held(held) = slot
                && held.run.as_ref().is_some_and(|of| Arc::ptr_eq(of, run))
            {
                held.bytes = Bytes::copy_from_slice(&held.bytes);
                held.run = None;
            }
        }
        self.bytes -= dead;
    }

    fn forget(&mut self, pages: &Arc<Pages>) {
        let mut slots = pages.slots.write();
        let held: Vec<u32> = slots
            .iter()
            .filter_map(|(page, slot)| matches!(slot, Slot::Held(_)).then_some(*page))
            .collect();
        for page in held {
            self.remove(&mut slots, page);
        }
        let is_other = |entry: &Entry| !Arc::ptr_eq(&entry.pages, pages);
        self.normal.retain(is_other);
        self.high.retain(is_other);
    }

    /// Holds a page no longer, which is in no queue any more.
    fn remove(&mut self, slots: &mut BTreeMap<u32, Slot>, page: u32) {
        if let Some(Slot::Held(held)) = slots.remove(&page) {
            let len = held.bytes.len() as u64;
            if held.priority == Priority::High {
                self.high_bytes -= len;
            }
            self.let_go(slots, held.run.as_ref(), len);
        }
    }

    /// Makes it fit: what was not used since it came or was last spared goes first.
    fn evict(&mut self, options: &CacheOptions) -> u64 {
        let high_max = options.memory_bytes_max / 100 * options.high_percent_max.min(100);
        let mut evicted = 0;
        while self.bytes > options.memory_bytes_max {
            let of_high = self.high_bytes > high_max || self.normal.is_empty();
            let queue = if of_high {
                &mut self.high
            } else {
                &mut self.normal
            };
            let Some(entry) = queue.pop_front() else {
                return evicted;
            };
            let mut slots = entry.pages.slots.write();
            let Some(Slot::Held(held)) = slots.get(&entry.page) else {
                continue;
            };
            if held.used.swap(false, Ordering::Relaxed) {
                drop(slots);
                queue.push_back(entry);
                continue;
            }
            self.remove(&mut slots, entry.page);
            evicted += 1;
        }
        evicted
    }
}

/// Ends a flight: with its bytes, or with a failure when the task that fetches them is dropped.
pub(crate) struct Landing {
    cache: Arc<Inner>,
    flight: Arc<Flight>,
    pages: Vec<u32>,
    priorities: Vec<Priority>,
    ended: bool,
}

impl Landing {
    /// Hands out what came.
    pub(crate) fn end(mut self, result: Result<Bytes, Failure>) {
        self.finish(result);
    }

    fn finish(&mut self, result: Result<Bytes, Failure>) {
        self.ended = true;
        let (page_bytes, pages) = (self.cache.options.page_bytes, &self.flight.pages);
        let part = |page: u32, bytes: &Bytes| {
            let offset = (u64::from(page) * page_bytes).saturating_sub(self.flight.range.start);
            let start = usize::try_from(offset).ok()?;
            let end = usize::try_from(offset + page_bytes).ok()?.min(bytes.len());
            (start <= end).then(|| bytes.slice(start..end))
        };
        let mut came: Vec<Came> = Vec::with_capacity(self.pages.len());
        for (page, priority) in self.pages.iter().zip(&self.priorities) {
            match result.as_ref().ok().and_then(|bytes| part(*page, bytes)) {
                Some(bytes) => came.push((*page, bytes, *priority)),
                None => pages.land_without(&[(*page, Bytes::new(), *priority)]),
            }
        }
        if let Some(disk) = &self.cache.disk {
            for (page, bytes, priority) in &came {
                disk.add(pages.key(*page), bytes, *priority);
            }
        }
        self.cache.hold(pages, &came, self.flight.round);
        *self.flight.done.lock() = Some(result);
        self.flight.woken.notify_all();
        if let Some(disk) = &self.cache.disk
            && disk.has_full_segment()
        {
            let disk = Arc::clone(disk);
            self.cache.handle.spawn_blocking(move || disk.write_full());
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.ended {
            let words = "the runtime was shut down";
            self.finish(Err(Failure::new(Reason::Runtime, words)));
        }
    }
}

impl fmt::Debug for RangeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeCache")
            .field("stats", &self.stats())
            .finish()
    }
}

#[cfg(test)]
mod tests;
