//! A file that is read from the object store through the cache of ranges. Engines read it as they
//! read local files.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use super::bucket::{Bucket, refuse_runtime_threads};
use super::failure::{Failure, Reason};
use super::range_cache::{Flight, Look, Pages, Priority, RangeCache};
use crate::cost::{Cost, Round};
use crate::fs::ReadFile;

/// Of the cache in memory, the part that one reader may fetch ahead of itself: one in so many.
const AHEAD_ONE_IN: u64 = 8;

/// An object that no longer changes.
///
/// One [`ReadFile::read`] is one round: whatever its ranges miss is fetched at the same time. What the
/// reads of a query cost is counted where its threads say so ([`Cost::enter`]).
///
/// ```
/// # use std::{collections::BTreeMap, sync::Arc};
/// # use trine_storage::clock::{Clock, SystemClock};
/// # use trine_storage::fs::{Fs, RealFs};
/// # use trine_storage::remote::{Bucket, CacheOptions, Options, RangeCache};
/// use trine_storage::cost::Cost;
/// use trine_storage::fs::ReadFile;
/// use trine_storage::remote::RemoteFile;
///
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # let (clock, handle): (Arc<dyn Clock>, _) = (Arc::new(SystemClock::new()), runtime.handle().clone());
/// # let (fs, environment): (Arc<dyn Fs>, _) = (Arc::new(RealFs), BTreeMap::new());
/// # let bucket = Bucket::open("memory:///", &environment, Options::default(), handle.clone(), clock.clone())?;
/// bucket.put("blocks/x", vec![7; 1_000_000].into())?;
/// let cache = RangeCache::open(CacheOptions::default(), &fs, handle, &clock)?;
/// let file = RemoteFile::new(&bucket, &cache, "blocks/x", 1_000_000);
/// let cost = Arc::new(Cost::default());
/// let counting = cost.enter();
/// file.read(&[0..16, 999_968..1_000_000])?;
/// file.read(&[999_000..999_968])?;
/// drop(counting);
/// // Two requests at the same time; what the second read wanted had come with the first.
/// assert_eq!((cost.now().requests, cost.now().depth), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RemoteFile {
    inner: Arc<Inner>,
}

struct Inner {
    bucket: Bucket,
    cache: RangeCache,
    key: String,
    path: Path,
    len: u64,
    pages: Arc<Pages>,
    /// Pages of high priority, as ranges of their numbers.
    high: Mutex<Vec<Range<u32>>>,
}

/// Pages that are at hand.
enum Piece {
    Page(Bytes),
    /// Bytes of the object from an offset on, that are more than the page.
    Run(u64, Bytes),
}

/// Missing pages that one request fetches.
struct Run {
    range: Range<u64>,
    pages: Vec<u32>,
}

impl RemoteFile {
    /// The object `key` of the bucket, which has `len` bytes. Asks for nothing. Its first and last page
    /// have [`Priority::High`]: header and footer are there.
    pub fn new(bucket: &Bucket, cache: &RangeCache, key: &str, len: u64) -> Self {
        let mut hasher = Xxh3::new();
        for part in [bucket.name(), "\0", key, "\0"] {
            hasher.update(part.as_bytes());
        }
        hasher.update(&len.to_le_bytes());
        let file = Self {
            inner: Arc::new(Inner {
                bucket: bucket.clone(),
                cache: cache.clone(),
                key: key.to_owned(),
                path: bucket.path(key),
                len,
                pages: cache.pages(hasher.digest128()),
                high: Mutex::new(Vec::new()),
            }),
        };
        file.prioritize(&[0..1.min(len), len.saturating_sub(1)..len]);
        file
    }

    /// The name of the object.
    pub fn key(&self) -> &str {
        &self.inner.key
    }
}

impl ReadFile for RemoteFile {
    fn len(&self) -> u64 {
        self.inner.len
    }

    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        let inner = &self.inner;
        if let Some(read) = inner.read_held(ranges) {
            return Ok(read);
        }
        let wanted = inner.wanted(ranges)?;
        let pieces = inner.gather(&wanted).map_err(|failure| {
            let kind = match failure.reason {
                Reason::Missing => io::ErrorKind::NotFound,
                Reason::Damaged => io::ErrorKind::InvalidData,
                _ => io::ErrorKind::Other,
            };
            let what = format!("get ranges of {} in {}", inner.key, inner.bucket.name());
            io::Error::new(kind, failure.during(what))
        })?;
        ranges
            .iter()
            .map(|range| inner.assemble(range, &wanted, &pieces))
            .collect()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn prefetch(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        let wanted = self.inner.wanted(ranges)?;
        let pages = self.inner.beside(&wanted);
        let missing: Vec<u32> = pages
            .into_iter()
            .filter_map(|(page, found)| found.is_none().then_some(page))
            .collect();
        self.inner.fetch(&missing);
        Ok(())
    }

    fn ahead_bytes_max(&self) -> u64 {
        self.inner.cache.options().memory_bytes_max / AHEAD_ONE_IN
    }

    fn prioritize(&self, ranges: &[Range<u64>]) {
        let pages = ranges.iter().filter_map(|range| self.inner.numbers(range));
        self.inner.high.lock().extend(pages);
    }

    fn distrust(&self) {
        self.inner.cache.forget(&self.inner.pages);
    }
}

impl Inner {
    fn page_bytes(&self) -> u64 {
        self.cache.options().page_bytes
    }

    /// The numbers of the pages that a range touches.
    fn numbers(&self, range: &Range<u64>) -> Option<Range<u32>> {
        if range.is_empty() {
            return None;
        }
        let first = u32::try_from(range.start / self.page_bytes()).ok()?;
        let last = u32::try_from((range.end - 1) / self.page_bytes()).ok()?;
        Some(first..last.saturating_add(1))
    }

    /// Where a page lies in the object.
    fn page_range(&self, page: u32) -> Range<u64> {
        let start = u64::from(page) * self.page_bytes();
        start..self.len.min(start + self.page_bytes())
    }

    fn priority(&self, page: u32) -> Priority {
        match self.high.lock().iter().any(|range| range.contains(&page)) {
            true => Priority::High,
            false => Priority::Normal,
        }
    }

    /// The pages of all ranges, in their order, each once.
    fn wanted(&self, ranges: &[Range<u64>]) -> io::Result<Vec<u32>> {
        let mut wanted = Vec::with_capacity(ranges.len());
        for range in ranges {
            if range.start > range.end || range.end > self.len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            wanted.extend(self.numbers(range).into_iter().flatten());
        }
        wanted.sort_unstable();
        wanted.dedup();
        Ok(wanted)
    }

    /// The ranges, if all of their pages are in memory, as they mostly are of what is read again: with
    /// one look, and without a copy where a range lies in one page.
    fn read_held(&self, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        let mut read = Vec::with_capacity(ranges.len());
        let mut to_join: Vec<(usize, Vec<Bytes>)> = Vec::new();
        {
            let held = self.pages.held();
            for range in ranges {
                if range.start > range.end || range.end > self.len {
                    return None;
                }
                let pages = self.numbers(range).unwrap_or_default();
                let part = |page: u32| {
                    let start = self.page_range(page).start;
                    slice(held.get(page)?, start, range)
                };
                let bytes = match pages.len() {
                    0 => Bytes::new(),
                    1 => part(pages.start)?,
                    _ if let Some((first, bytes)) = held.together(pages.clone()) => {
                        slice(&bytes, self.page_range(first).start, range)?
                    }
                    _ => {
                        let parts = pages.map(part).collect::<Option<Vec<_>>>()?;
                        to_join.push((read.len(), parts));
                        Bytes::new()
                    }
                };
                read.push(bytes);
            }
        }
        for (at, parts) in to_join {
            if let Some(bytes) = read.get_mut(at) {
                *bytes = parts.concat().into();
            }
        }
        let is_whole =
            |(range, bytes): (&Range<u64>, &Bytes)| bytes.len() as u64 == range.end - range.start;
        if !ranges.iter().zip(&read).all(is_whole) {
            return None;
        }
        let hits = self.count_numbers(ranges);
        self.cache.count(hits, 0, 0);
        if let Some(cost) = Cost::current() {
            cost.looked(hits, 0, 0);
        }
        Some(read)
    }

    /// How many pages the ranges touch, each counted once.
    fn count_numbers(&self, ranges: &[Range<u64>]) -> u64 {
        let (mut count, mut last) = (0, 0..0);
        for pages in ranges.iter().filter_map(|range| self.numbers(range)) {
            if pages.start < last.start {
                // They are in no order.
                return self.wanted(ranges).map_or(0, |wanted| wanted.len() as u64);
            }
            count += u64::from(pages.end.saturating_sub(pages.start.max(last.end)));
            last = pages.start..pages.end.max(last.end);
        }
        count
    }

    /// Which pages are at hand, or coming; counts what was found where. What the same query has asked for
    /// before was counted then.
    fn beside(&self, wanted: &[u32]) -> Vec<(u32, Option<Look>)> {
        let here = Round::next();
        let is_known = |round: &Option<Round>| {
            let both = round.zip(here);
            both.is_some_and(|(round, here)| round.is_of(here))
        };
        let (mut memory, mut disk, mut misses) = (0, 0, 0);
        let looks = self.cache.look(&self.pages, wanted);
        let mut loaded = Vec::new();
        let found: Vec<(u32, Option<Look>)> = wanted
            .iter()
            .zip(looks)
            .map(|(&page, look)| match look {
                Look::Memory(_, ref round) => {
                    memory += u64::from(!is_known(round));
                    (page, Some(look))
                }
                Look::Coming(ref flight) => {
                    misses += u64::from(!is_known(&flight.round));
                    (page, Some(look))
                }
                Look::Missing => {
                    let range = self.page_range(page);
                    let len = range.end - range.start;
                    let read = self.cache.load_from_disk(&self.pages, page, len);
                    match &read {
                        Some(bytes) => {
                            disk += 1;
                            loaded.push((page, bytes.clone(), self.priority(page)));
                        }
                        None => misses += 1,
                    }
                    (page, read.map(|bytes| Look::Memory(bytes, None)))
                }
            })
            .collect();
        self.cache.hold(&self.pages, &loaded);
        self.cache.count(memory, disk, misses);
        if let Some(cost) = Cost::current() {
            cost.looked(memory, disk, misses);
        }
        found
    }

    /// All wanted pages, in their order.
    fn gather(self: &Arc<Self>, wanted: &[u32]) -> Result<Vec<Piece>, Failure> {
        let mut pieces: Vec<Option<Piece>> = Vec::new();
        pieces.resize_with(wanted.len(), || None);
        let mut waited = false;
        let mut looked = self.beside(wanted);
        loop {
            let mut missing = Vec::new();
            let mut flights: Vec<Arc<Flight>> = Vec::new();
            for (page, look) in &looked {
                match look {
                    Some(Look::Coming(flight)) => add(&mut flights, flight),
                    Some(_) => {}
                    None => missing.push(*page),
                }
            }
            let own = self.fetch(&missing);
            for flight in &own {
                add(&mut flights, flight);
            }
            if !flights.is_empty() {
                refuse_runtime_threads(self.bucket.handle())?;
                if !waited {
                    waited = true;
                    Cost::waited();
                }
            }
            let mut came: Vec<(Range<u64>, Bytes)> = Vec::new();
            // All of them are used together, so none of them comes after another.
            let (next, mut rounds) = (Round::next(), Vec::new());
            for flight in &flights {
                rounds.push(match (flight.round, next) {
                    (Some(round), Some(next)) if round.is_of(next) => Some(round),
                    // As if it were our own request.
                    _ => next,
                });
                match flight.wait() {
                    Ok(bytes) => came.push((flight.range.clone(), bytes)),
                    // Another read's bad luck is not ours: we try it ourselves.
                    Err(_) if !own.iter().any(|o| Arc::ptr_eq(o, flight)) => {}
                    Err(failure) => return Err(failure),
                }
            }
            for (page, look) in looked {
                if let Some(Look::Memory(_, round)) = &look {
                    rounds.push(*round);
                }
                let Some(piece) = wanted
                    .binary_search(&page)
                    .ok()
                    .and_then(|at| pieces.get_mut(at))
                else {
                    continue;
                };
                if let Some(Look::Memory(bytes, _)) = look {
                    *piece = Some(Piece::Page(bytes));
                    continue;
                }
                let range = self.page_range(page);
                let holds = |run: &&(Range<u64>, Bytes)| {
                    run.0.start <= range.start && range.end <= run.0.end
                };
                if let Some((run, bytes)) = came.iter().find(holds) {
                    *piece = Some(Piece::Run(run.start, bytes.clone()));
                }
            }
            rounds.into_iter().for_each(Cost::used);
            let left: Vec<u32> = wanted
                .iter()
                .zip(&pieces)
                .filter_map(|(page, piece)| piece.is_none().then_some(*page))
                .collect();
            if left.is_empty() {
                return Ok(pieces.into_iter().flatten().collect());
            }
            let looks = self.cache.look(&self.pages, &left);
            looked = left
                .into_iter()
                .zip(looks)
                .map(|(page, look)| match look {
                    Look::Missing => (page, None),
                    look => (page, Some(look)),
                })
                .collect();
        }
    }

    /// Begins to fetch pages that are neither here nor coming.
    fn fetch(self: &Arc<Self>, missing: &[u32]) -> Vec<Arc<Flight>> {
        let mut flights = Vec::new();
        let cost = Cost::current();
        for run in self.runs(missing) {
            let Some(flight) = self.cache.begin(&self.pages, run.range.clone(), &run.pages) else {
                // Somebody began with some of them since we looked.
                continue;
            };
            if let Some(cost) = &cost {
                cost.fetched(1, run.range.end - run.range.start);
            }
            let priorities = run.pages.iter().map(|&page| self.priority(page)).collect();
            let landing = self
                .cache
                .landing(Arc::clone(&flight), run.pages, priorities);
            let this = Arc::clone(self);
            self.bucket.handle().spawn(async move {
                let fetched = this.bucket.fetch(&this.path, Some(run.range)).await;
                landing.end(fetched.map(|(bytes, _)| bytes));
            });
            flights.push(flight);
        }
        flights
    }

    /// Which requests fetch the pages: near ones together, none larger than a limit.
    fn runs(&self, missing: &[u32]) -> Vec<Run> {
        let options = self.cache.options();
        let mut runs: Vec<Run> = Vec::new();
        for &page in missing {
            let range = self.page_range(page);
            if let Some(run) = runs.last_mut()
                && range.start.saturating_sub(run.range.end) <= options.gap_bytes_max
                && range.end - run.range.start <= options.request_bytes_max
            {
                run.range.end = range.end;
                run.pages.push(page);
            } else {
                runs.push(Run {
                    range,
                    pages: vec![page],
                });
            }
        }
        runs
    }

    /// The bytes of a range from its pages.
    fn assemble(&self, range: &Range<u64>, wanted: &[u32], pieces: &[Piece]) -> io::Result<Bytes> {
        let missing = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let Some(pages) = self.numbers(range) else {
            return Ok(Bytes::new());
        };
        let at = wanted.partition_point(|&page| page < pages.start);
        let pieces = pieces
            .get(at..at + (pages.end - pages.start) as usize)
            .ok_or_else(missing)?;
        let mut joined = BytesMut::new();
        for (page, piece) in pages.zip(pieces) {
            let (start, bytes) = match piece {
                Piece::Page(bytes) => (self.page_range(page).start, bytes),
                Piece::Run(start, bytes) => (*start, bytes),
            };
            let part = slice(bytes, start, range).ok_or_else(missing)?;
            // The most common case needs no copy.
            if part.len() as u64 == range.end - range.start {
                return Ok(part);
            }
            let part = match piece {
                Piece::Page(_) => part,
                Piece::Run(..) => {
                    let page = self.page_range(page);
                    let inside = range.start.max(page.start)..range.end.min(page.end);
                    slice(bytes, start, &inside).ok_or_else(missing)?
                }
            };
            joined.reserve(usize::try_from(range.end - range.start).unwrap_or(0) - joined.len());
            joined.extend_from_slice(&part);
        }
        if joined.len() as u64 != range.end - range.start {
            return Err(missing());
        }
        Ok(joined.freeze())
    }
}

/// What `bytes`, which begin at `start` of the object, have of a range.
fn slice(bytes: &Bytes, start: u64, range: &Range<u64>) -> Option<Bytes> {
    let from = usize::try_from(range.start.saturating_sub(start)).ok()?;
    let to = usize::try_from(range.end.checked_sub(start)?).ok()?;
    let to = to.min(bytes.len());
    (from <= to).then(|| bytes.slice(from..to))
}

fn add(flights: &mut Vec<Arc<Flight>>, flight: &Arc<Flight>) {
    if !flights.iter().any(|known| Arc::ptr_eq(known, flight)) {
        flights.push(Arc::clone(flight));
    }
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFile")
            .field("key", &self.inner.key)
            .field("len", &self.inner.len)
            .finish()
    }
}
