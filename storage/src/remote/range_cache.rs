//! Ranges of remote objects that are kept near: in memory, and on the local disk below it
//! (`range_cache/disk`). [`super::file`] reads through it.
//!
//! Objects are cut into pages of one size. A page is in memory, on the disk, coming, or not here. Who
//! misses pages fetches them in runs (near ones together, long ones in parallel) and tells everybody
//! else who waits for them, so that a page is fetched once whoever asks. What comes in the wrong length
//! is an error and is not kept; what is read from the disk is checked, and fetched again if it is
//! damaged.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use super::failure::{Failure, Reason};
use crate::clock::Clock;
use crate::cost::Round;
use crate::error::Result;
use crate::fs::Fs;

mod disk;

use disk::Disk;

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
    object: u128,
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
    Held {
        bytes: Bytes,
        priority: Priority,
        used: bool,
        /// In which it came.
        round: Option<Round>,
    },
}

/// What a look for a page gives.
pub(crate) enum Look {
    Memory(Bytes, Option<Round>),
    Coming(Arc<Flight>),
    Missing,
}

#[derive(Default)]
struct Memory {
    pages: HashMap<PageKey, Slot>,
    /// Held pages in the order in which they came or were last spared.
    normal: VecDeque<PageKey>,
    high: VecDeque<PageKey>,
    bytes: u64,
    high_bytes: u64,
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

    /// Drops the pages of an object, because what they say is wrong: the next read fetches them. What
    /// is coming already comes.
    pub(crate) fn forget(&self, object: u128) {
        self.inner.memory.lock().forget(object);
        if let Some(disk) = &self.inner.disk {
            disk.forget(object);
        }
    }

    pub(crate) fn count(&self, memory_hits: u64, disk_hits: u64, misses: u64) {
        let figures = &self.inner.figures;
        figures
            .memory_hits
            .fetch_add(memory_hits, Ordering::Relaxed);
        figures.disk_hits.fetch_add(disk_hits, Ordering::Relaxed);
        figures.misses.fetch_add(misses, Ordering::Relaxed);
    }

    /// Looks for pages of an object in memory.
    pub(crate) fn look(&self, object: u128, pages: &[u32]) -> Vec<Look> {
        let mut memory = self.inner.memory.lock();
        let mut look = |page: &u32| match memory.pages.get_mut(&PageKey {
            object,
            page: *page,
        }) {
            Some(Slot::Held {
                bytes, used, round, ..
            }) => {
                *used = true;
                Look::Memory(bytes.clone(), *round)
            }
            Some(Slot::Coming(flight)) => Look::Coming(Arc::clone(flight)),
            None => Look::Missing,
        };
        pages.iter().map(&mut look).collect()
    }

    /// A page from the disk; nothing when it is not there or is damaged.
    pub(crate) fn load_from_disk(
        &self,
        object: u128,
        page: u32,
        len: u64,
        priority: Priority,
    ) -> Option<Bytes> {
        let key = PageKey { object, page };
        let bytes = self.inner.disk.as_ref()?.read(key, len)?;
        self.inner.hold(key, bytes.clone(), priority, None);
        Some(bytes)
    }

    /// Says that the pages of `range` are coming. Gives the flight if it is this call's to begin;
    /// nothing when some are here or coming by now, and then the caller looks again.
    pub(crate) fn begin(
        &self,
        object: u128,
        range: Range<u64>,
        pages: &[u32],
    ) -> Option<Arc<Flight>> {
        let mut memory = self.inner.memory.lock();
        let key = |page: &u32| PageKey {
            object,
            page: *page,
        };
        if pages
            .iter()
            .any(|page| memory.pages.contains_key(&key(page)))
        {
            return None;
        }
        let flight = Arc::new(Flight {
            object,
            range,
            round: Round::next(),
            done: Mutex::new(None),
            woken: Condvar::new(),
        });
        for page in pages {
            let slot = Slot::Coming(Arc::clone(&flight));
            memory.pages.insert(key(page), slot);
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
    /// Keeps a page in memory if it fits.
    fn hold(&self, key: PageKey, bytes: Bytes, priority: Priority, round: Option<Round>) {
        let mut memory = self.memory.lock();
        match memory.pages.get(&key) {
            Some(Slot::Held { .. }) => return,
            Some(Slot::Coming(_)) | None => {}
        }
        let len = bytes.len() as u64;
        if len > self.options.memory_bytes_max {
            memory.pages.remove(&key);
            return;
        }
        let slot = Slot::Held {
            bytes,
            priority,
            used: false,
            round,
        };
        memory.pages.insert(key, slot);
        memory.bytes += len;
        match priority {
            Priority::Normal => memory.normal.push_back(key),
            Priority::High => {
                memory.high_bytes += len;
                memory.high.push_back(key);
            }
        }
        let evicted = memory.evict(&self.options);
        self.figures.evicted.fetch_add(evicted, Ordering::Relaxed);
    }
}

impl Memory {
    fn forget(&mut self, object: u128) {
        let (mut bytes, mut high_bytes) = (0, 0);
        self.pages.retain(|key, slot| match slot {
            Slot::Held {
                bytes: page,
                priority,
                ..
            } if key.object == object => {
                bytes += page.len() as u64;
                if *priority == Priority::High {
                    high_bytes += page.len() as u64;
                }
                false
            }
            _ => true,
        });
        self.bytes -= bytes;
        self.high_bytes -= high_bytes;
        self.normal.retain(|key| key.object != object);
        self.high.retain(|key| key.object != object);
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
            let Some(key) = queue.pop_front() else {
                return evicted;
            };
            match self.pages.get_mut(&key) {
                Some(Slot::Held { used, .. }) if *used => {
                    *used = false;
                    queue.push_back(key);
                }
                Some(Slot::Held {
                    bytes, priority, ..
                }) => {
                    let len = bytes.len() as u64;
                    self.bytes -= len;
                    if *priority == Priority::High {
                        self.high_bytes -= len;
                    }
                    self.pages.remove(&key);
                    evicted += 1;
                }
                Some(Slot::Coming(_)) | None => {}
            }
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
        let page_bytes = self.cache.options.page_bytes;
        for (page, priority) in self.pages.iter().zip(&self.priorities) {
            let key = PageKey {
                object: self.flight.object,
                page: *page,
            };
            let offset = (u64::from(*page) * page_bytes).saturating_sub(self.flight.range.start);
            let held = result.as_ref().ok().and_then(|bytes| {
                let start = usize::try_from(offset).ok()?;
                let end = usize::try_from(offset + page_bytes).ok()?;
                // A copy, or a page would keep all of its run in memory.
                let page = bytes.get(start..end.min(bytes.len()))?;
                Some(Bytes::copy_from_slice(page))
            });
            match held {
                Some(bytes) => {
                    if let Some(disk) = &self.cache.disk {
                        disk.add(key, &bytes, *priority);
                    }
                    self.cache.hold(key, bytes, *priority, self.flight.round);
                }
                None => {
                    self.cache.memory.lock().pages.remove(&key);
                }
            }
        }
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
