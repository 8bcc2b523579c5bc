//! The part of a [`RangeCache`](super::RangeCache) on the local disk: files of many pages that are
//! written at once, never changed, and removed oldest first.
//!
//! ```text
//! +------------------+-----------+---------+-------+-----+-------+-----------+
//! | magic TRINERNG 8 | version 4 | count 4 | entry | ... | CRC 4 | pages ... |
//! +------------------+-----------+---------+-------+-----+-------+-----------+
//! entry: hash of the object 16 | page 4 | bytes 4 | CRC of the page 4 | priority 4
//! ```
//!
//! The CRC behind the entries covers all before it. Nothing is synced: a file that a power loss has torn
//! is found by its checksums. Pages that were used, and those of high priority, are written
//! again when their file goes.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use parking_lot::Mutex;

use super::{CacheStats, DiskOptions, PageKey, Priority};
use crate::clock::Clock;
use crate::codec::{Reader, put_u32};
use crate::error::{Error, Result};
use crate::fs::{Fs, Lock, ReadFile, claim};

const MAGIC: &[u8; 8] = b"TRINERNG";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 16;
const ENTRY_BYTES: u64 = 32;
const ENDING: &str = ".ranges";
/// Pages of a file; more would not fit into its head.
const PAGES_MAX: u32 = 1 << 20;
/// How long nothing is written after the disk refused it.
const REST_NS: u64 = 60_000_000_000;

pub(super) struct Disk {
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    options: DiskOptions,
    state: Mutex<State>,
    /// Held while a file is written, so that one is at a time.
    writing: Mutex<()>,
    _lock: Box<dyn Lock>,
}

#[derive(Default)]
struct State {
    index: HashMap<PageKey, Place>,
    /// Oldest first.
    segments: VecDeque<Segment>,
    bytes: u64,
    next: u64,
    /// Pages that will be a file.
    open: Vec<(PageKey, Bytes, Priority)>,
    open_bytes: u64,
    damaged: u64,
    error: Option<(String, u64)>,
}

struct Segment {
    number: u64,
    bytes: u64,
    file: Arc<dyn ReadFile>,
    keys: Vec<PageKey>,
}

#[derive(Clone)]
struct Place {
    segment: u64,
    file: Arc<dyn ReadFile>,
    offset: u64,
    len: u32,
    crc: u32,
    priority: Priority,
    used: bool,
}

impl Disk {
    pub(super) fn open(
        options: &DiskOptions,
        fs: &Arc<dyn Fs>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let shown = options.dir.display();
        let lock = claim(&**fs, &options.dir)?;
        let mut entries = fs
            .list(&options.dir)
            .map_err(|e| Error::io(format!("list {shown}"), e))?;
        // Names sort by age; the newest stay.
        entries.sort_by(|a, b| b.name.cmp(&a.name));
        let disk = Self {
            fs: Arc::clone(fs),
            clock: Arc::clone(clock),
            options: options.clone(),
            state: Mutex::default(),
            writing: Mutex::new(()),
            _lock: lock,
        };
        {
            let mut state = disk.state.lock();
            for entry in entries.iter().filter(|entry| !entry.is_dir) {
                let number = entry.name.strip_suffix(ENDING).and_then(|n| n.parse().ok());
                let fits = state.bytes + entry.len <= options.bytes_max;
                let read = number.filter(|_| fits).and_then(|n| disk.load(n).ok());
                match (number, read) {
                    (Some(number), Some((segment, places))) => {
                        state.next = state.next.max(number + 1);
                        state.bytes += segment.bytes;
                        for (key, place) in segment.keys.iter().zip(places) {
                            // Of two the newer is in already.
                            state.index.entry(*key).or_insert(place);
                        }
                        state.segments.push_front(segment);
                    }
                    _ if entry.name == "lock" => {}
                    // Only our own: half-written, damaged or too much.
                    _ if entry.name.ends_with(ENDING) || entry.name.ends_with(".tmp") => {
                        disk.fs.remove_file(&options.dir.join(&entry.name)).ok();
                    }
                    _ => {}
                }
            }
        }
        Ok(disk)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.options.dir.join(format!("{number:020}{ENDING}"))
    }

    /// Opens a file and reads what is in it.
    fn load(&self, number: u64) -> Result<(Segment, Vec<Place>)> {
        let path = self.path(number);
        let name = path.display().to_string();
        let failed = |e| Error::io(format!("read {name}"), e);
        let bad = |what: &str| Error::corrupt(&name, 0, what);
        let file = self.fs.open(&path).map_err(failed)?;
        let read = |len: u64| -> Result<Bytes> {
            let range = 0..len;
            let mut read = file.read(std::slice::from_ref(&range)).map_err(failed)?;
            read.pop().ok_or_else(|| bad("it cannot be read"))
        };
        let header = read(HEADER_BYTES)?;
        let mut reader = Reader::new(&name, &header);
        if reader.take(8)? != MAGIC || reader.u32()? != VERSION {
            return Err(bad("it is no file of ranges of this version"));
        }
        let count = reader.u32()?;
        if count > PAGES_MAX {
            return Err(bad("it has too many pages"));
        }
        let head_bytes = HEADER_BYTES + ENTRY_BYTES * u64::from(count);
        let head = read(head_bytes + 4)?;
        let mut reader = Reader::new(&name, &head);
        let covered = reader.take(usize::try_from(head_bytes).unwrap_or(usize::MAX))?;
        if crc32fast::hash(covered) != reader.u32()? {
            return Err(bad("the checksum of its head does not match"));
        }
        let mut reader = Reader::new(&name, &head);
        reader.take(16)?;
        let (mut keys, mut places) = (Vec::new(), Vec::new());
        let mut offset = head_bytes + 4;
        for _ in 0..count {
            let object = u128::from_le_bytes(reader.array()?);
            let page = reader.u32()?;
            let (len, crc) = (reader.u32()?, reader.u32()?);
            let priority = match reader.u32()? {
                0 => Priority::Normal,
                _ => Priority::High,
            };
            keys.push(PageKey { object, page });
            places.push(Place {
                segment: number,
                file: Arc::clone(&file),
                offset,
                len,
                crc,
                priority,
                used: false,
            });
            offset += u64::from(len);
        }
        if offset != file.len() {
            return Err(bad("its pages do not fill it"));
        }
        let bytes = file.len();
        let segment = Segment {
            number,
            bytes,
            file,
            keys,
        };
        Ok((segment, places))
    }

    /// A page, checked, as it lies in its file; nothing when it is not here or damaged.
    pub(super) fn read(&self, key: PageKey, len: u64) -> Option<Bytes> {
        let place = {
            let mut state = self.state.lock();
            let place = state.index.get_mut(&key)?;
            place.used = true;
            place.clone()
        };
        let bytes = read_place(&place).filter(|bytes| bytes.len() as u64 == len);
        if bytes.is_none() {
            let mut state = self.state.lock();
            state.damaged += 1;
            if state
                .index
                .get(&key)
                .is_some_and(|now| now.segment == place.segment)
            {
                state.index.remove(&key);
            }
        }
        bytes
    }

    /// Takes a page for the next file, in memory of its own, unless the disk cannot keep up or refuses.
    pub(super) fn add(&self, key: PageKey, bytes: &Bytes, priority: Priority) {
        let mut state = self.state.lock();
        let rests = matches!(&state.error, Some((_, until)) if self.clock.monotonic_ns() < *until);
        let full = state.open_bytes >= self.options.segment_bytes.saturating_mul(2)
            || state.open.len() >= PAGES_MAX as usize;
        if rests || full || state.index.contains_key(&key) {
            return;
        }
        state.open_bytes += bytes.len() as u64;
        state
            .open
            .push((key, Bytes::copy_from_slice(bytes), priority));
    }

    /// Drops the pages of an object. Their files stay until it is their turn.
    pub(super) fn forget(&self, object: u128) {
        let mut state = self.state.lock();
        state.index.retain(|key, _| key.object != object);
        state.open.retain(|(key, ..)| key.object != object);
        state.open_bytes = state
            .open
            .iter()
            .map(|(_, page, _)| page.len() as u64)
            .sum();
    }

    pub(super) fn has_full_segment(&self) -> bool {
        self.state.lock().open_bytes >= self.options.segment_bytes
    }

    /// Writes the open pages as a file if they are enough for one.
    pub(super) fn write_full(&self) {
        let Some(_one) = self.writing.try_lock() else {
            return;
        };
        if self.has_full_segment() {
            self.write_open();
        }
    }

    /// Writes the open pages as a file.
    pub(super) fn flush(&self) {
        let _one = self.writing.lock();
        self.write_open();
    }

    fn write_open(&self) {
        let (number, pages) = {
            let mut state = self.state.lock();
            state.open_bytes = 0;
            let number = state.next;
            state.next += 1;
            (number, std::mem::take(&mut state.open))
        };
        if pages.is_empty() {
            return;
        }
        let bytes: u64 = pages.iter().map(|(_, bytes, _)| bytes.len() as u64).sum();
        self.make_room(bytes + ENTRY_BYTES * pages.len() as u64 + HEADER_BYTES + 4);
        let written = self.write(number, &pages).and_then(|()| self.load(number));
        let mut state = self.state.lock();
        match written {
            Ok((segment, places)) => {
                state.error = None;
                state.bytes += segment.bytes;
                for (key, place) in segment.keys.iter().zip(places) {
                    state.index.insert(*key, place);
                }
                state.segments.push_back(segment);
            }
            Err(error) => {
                let until = self.clock.monotonic_ns().saturating_add(REST_NS);
                state.error = Some((error.to_string(), until));
                drop(state);
                let path = self.path(number);
                self.fs.remove_file(&path.with_extension("tmp")).ok();
                self.fs.remove_file(&path).ok();
            }
        }
    }

    fn write(&self, number: u64, pages: &[(PageKey, Bytes, Priority)]) -> Result<()> {
        let mut head = MAGIC.to_vec();
        put_u32(&mut head, VERSION);
        put_u32(&mut head, u32::try_from(pages.len()).unwrap_or(u32::MAX));
        for (key, bytes, priority) in pages {
            head.extend_from_slice(&key.object.to_le_bytes());
            put_u32(&mut head, key.page);
            put_u32(&mut head, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            put_u32(&mut head, crc32fast::hash(bytes));
            put_u32(&mut head, u32::from(*priority == Priority::High));
        }
        let crc = crc32fast::hash(&head);
        put_u32(&mut head, crc);
        let path = self.path(number);
        let temporary = path.with_extension("tmp");
        let write = || {
            let mut file = self.fs.create(&temporary)?;
            file.write_all(&head)?;
            for (_, bytes, _) in pages {
                file.write_all(bytes)?;
            }
            self.fs.rename(&temporary, &path)
        };
        write().map_err(|e| Error::io(format!("write {}", path.display()), e))
    }

    /// Removes the oldest files until `bytes` more fit. Pages worth it come into the next file.
    fn make_room(&self, bytes: u64) {
        let mut state = self.state.lock();
        let kept_max = self.options.segment_bytes / 2;
        while state.bytes.saturating_add(bytes) > self.options.bytes_max {
            let Some(segment) = state.segments.pop_front() else {
                return;
            };
            state.bytes = state.bytes.saturating_sub(segment.bytes);
            for key in &segment.keys {
                let here = |place: &Place| place.segment == segment.number;
                let Some(place) = state.index.get(key).filter(|p| here(p)).cloned() else {
                    continue;
                };
                state.index.remove(key);
                let is_worth = place.used || place.priority == Priority::High;
                if is_worth
                    && state.open_bytes < kept_max
                    && let Some(bytes) = read_place(&place)
                {
                    state.open_bytes += bytes.len() as u64;
                    let bytes = Bytes::copy_from_slice(&bytes);
                    state.open.push((*key, bytes, place.priority));
                }
            }
            let path = self.path(segment.number);
            drop(segment.file);
            // If this fails the next open finds it.
            self.fs.remove_file(&path).ok();
        }
    }

    pub(super) fn tell(&self, stats: &mut CacheStats) {
        let state = self.state.lock();
        stats.disk_bytes = state.bytes;
        stats.disk_pages = state.index.len() as u64;
        stats.damaged = state.damaged;
        stats.disk_error = state.error.as_ref().map(|(words, _)| words.clone());
    }
}

/// The bytes of a page as they lie in its file, if they are what was written.
fn read_place(place: &Place) -> Option<Bytes> {
    let range = place.offset..place.offset + u64::from(place.len);
    let read = place.file.read(std::slice::from_ref(&range)).ok()?.pop()?;
    (crc32fast::hash(&read) == place.crc).then_some(read)
}
