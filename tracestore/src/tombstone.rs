//! What is in blocks and memory and is not to be seen: spans that are deleted or expired. Snapshots and
//! merges ask for the rows of a place.

mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use serde_json::{Value, json};
use trine_storage::block_set::Block;
use trine_storage::catalog::Delete;
use trine_storage::{Error, Kind, Result, TimeRange};

use crate::block::image::{BlockFile, Image};
use crate::model::TraceId;
use crate::place::Held;
use crate::request::Filter;
use crate::retention::{Retention, RetentionRule};
use crate::scan;

/// Deletes that are in force, by number.
pub(crate) type Tombstones = Vec<Arc<Tombstone>>;

/// Which spans a delete concerns.
#[derive(Debug, Clone)]
pub enum Deleted {
    /// All spans of a trace.
    Trace(TraceId),
    /// Spans that satisfy a filter. What it says about whole traces is asked of the spans that lie
    /// together in a block.
    Spans(Filter),
}

/// One delete, ready to be asked.
#[derive(Debug)]
pub(crate) struct Tombstone {
    pub(crate) delete: Delete,
    pub(crate) what: Deleted,
}

/// What is not to be seen of a store at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Hidden {
    pub(crate) tombstones: Arc<Tombstones>,
    pub(crate) retention: Arc<Retention>,
    pub(crate) now_ns: i64,
}

/// Deletes in the words of the catalog. One that cannot be read is not passed over: deleted spans would
/// come back.
///
/// # Errors
/// [`Kind::Corrupt`] when one says nothing.
pub(crate) fn of_catalog(deletes: &[Delete]) -> Result<Tombstones> {
    let read = |delete: &Delete| Tombstone::from_catalog(delete.clone()).map(Arc::new);
    deletes.iter().map(read).collect()
}

/// What was worked out of a place, so that it is worked out once.
#[derive(Debug, Default)]
pub(crate) struct Veil {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Rows that deletes hide, by their numbers.
    deleted: BTreeMap<u64, Arc<RoaringBitmap>>,
    /// Traces that each retention rule is for.
    ruled: Option<Vec<RoaringBitmap>>,
    /// What was hidden when it was last asked: by which deletes, and how many traces are older than
    /// each retention.
    last: (Vec<u64>, Vec<u32>),
    hidden: Arc<RoaringBitmap>,
}

impl Tombstone {
    /// A delete in the words of the catalog.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when they say nothing.
    pub(crate) fn from_catalog(delete: Delete) -> Result<Self> {
        let bad = |why: &str| {
            let number = delete.number;
            Error::new(Kind::Corrupt, format!("delete {number}: {why}"))
        };
        let words: Value =
            serde_json::from_str(&delete.what).map_err(|error| bad(&error.to_string()))?;
        let what = Deleted::read(&words).ok_or_else(|| bad("its words make no sense"))?;
        Ok(Self { delete, what })
    }

    /// The rows of an image that it deletes.
    fn rows(&self, image: &Arc<Image>) -> Result<RoaringBitmap> {
        match &self.what {
            Deleted::Trace(id) => {
                let mut rows = RoaringBitmap::new();
                if let Some(place) = image.find(id)? {
                    rows.insert_range(image.trace(place)?.rows);
                }
                Ok(rows)
            }
            Deleted::Spans(filter) => {
                scan::matching_rows(image, filter, self.delete.range, &Arc::default())
            }
        }
    }

    /// Whether it, which concerns a block, hides spans of it.
    ///
    /// # Errors
    /// As [`Held::image`].
    pub(crate) fn touches(&self, block: &Block<BlockFile>) -> Result<bool> {
        if let Deleted::Trace(id) = &self.what
            && !block.reader.may_have(id)?
        {
            return Ok(false);
        }
        let image = block.reader.image()?;
        let mut known = block.reader.veil.known.lock();
        Ok(!known.rows(self, &image)?.is_empty())
    }

    /// Whether it may concern spans of a place. Memory is sealed before anything is deleted.
    pub(crate) fn concerns(&self, held: &Held) -> bool {
        match held {
            Held::Block(block) => self.delete.concerns(&block.meta),
            Held::Run(_) => false,
        }
    }
}

impl Deleted {
    /// In the words of the catalog.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Trace(id) => {
                let id = format!("{:032x}", u128::from_be_bytes(*id));
                json!({ "trace": id })
            }
            Self::Spans(filter) => json!({ "spans": words::filter(filter) }),
        }
        .to_string()
    }

    fn read(words: &Value) -> Option<Self> {
        if let Some(filter) = words.get("spans") {
            return words::read_filter(filter).map(Self::Spans);
        }
        let id = words.get("trace")?.as_str()?;
        let is_id = id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
        let id = is_id.then(|| u128::from_str_radix(id, 16).ok()).flatten()?;
        Some(Self::Trace(id.to_be_bytes()))
    }
}

impl Hidden {
    /// Rows of the spans of a place that are not to be seen.
    pub(crate) fn rows(&self, held: &Held) -> Result<Arc<RoaringBitmap>> {
        let concerns = |tombstone: &&Arc<Tombstone>| tombstone.concerns(held);
        let tombstones: Vec<_> = self.tombstones.iter().filter(concerns).collect();
        let expires = held.range().start < self.retention.newest_expired_ns(self.now_ns);
        if tombstones.is_empty() && !expires {
            return Ok(Arc::default());
        }
        let image = held.image()?;
        let numbers = tombstones.iter().map(|tombstone| tombstone.delete.number);
        let old = if expires {
            self.old(&image)?
        } else {
            Vec::new()
        };
        let asked = (numbers.collect::<Vec<u64>>(), old);
        let mut known = held.veil().known.lock();
        if known.last != asked {
            let mut hidden = RoaringBitmap::new();
            for tombstone in tombstones {
                hidden |= &*known.rows(tombstone, &image)?;
            }
            let first_rows = image.first_rows()?;
            for trace in known.expired(&self.retention, &asked.1, &image)? {
                let rows = first_rows
                    .get(trace as usize)
                    .zip(first_rows.get(trace as usize + 1));
                hidden.insert_range(rows.map_or(0..0, |(first, end)| *first..*end));
            }
            known.last = asked;
            known.hidden = Arc::new(hidden);
        }
        Ok(Arc::clone(&known.hidden))
    }

    /// How many traces are older than each retention; they are the first.
    fn old(&self, image: &Image) -> Result<Vec<u32>> {
        let older = |oldest_ns: i64| {
            let mut bounds = 0..image.trace_count();
            while !bounds.is_empty() {
                let middle = bounds.start + bounds.len() / 2;
                if image.trace(middle)?.start < oldest_ns {
                    bounds.start = middle + 1;
                } else {
                    bounds.end = middle;
                }
            }
            Ok(u32::try_from(bounds.start).unwrap_or(u32::MAX))
        };
        self.retention.oldest_ns(self.now_ns).map(older).collect()
    }
}

impl Veil {
    /// Lets go of deletes, by number.
    pub(crate) fn forget(&self, numbers: &[u64]) {
        let mut known = self.known.lock();
        known.deleted.retain(|number, _| !numbers.contains(number));
    }
}

impl Known {
    /// Rows that a delete hides.
    fn rows(&mut self, tombstone: &Tombstone, image: &Arc<Image>) -> Result<Arc<RoaringBitmap>> {
        let number = tombstone.delete.number;
        if let Some(rows) = self.deleted.get(&number) {
            return Ok(Arc::clone(rows));
        }
        let rows = Arc::new(tombstone.rows(image)?);
        self.deleted.insert(number, Arc::clone(&rows));
        Ok(rows)
    }

    /// The traces that are expired, when so many are older than each retention.
    fn expired(
        &mut self,
        retention: &Retention,
        old: &[u32],
        image: &Arc<Image>,
    ) -> Result<RoaringBitmap> {
        let mut expired = RoaringBitmap::new();
        expired.insert_range(0..old.iter().copied().max().unwrap_or(0));
        let Some((unruled, of_rules)) = old.split_first() else {
            return Ok(expired);
        };
        let ruled = match &mut self.ruled {
            Some(ruled) => ruled,
            none => none.insert(ruled(retention, image)?),
        };
        let mut kept = expired.clone();
        kept.remove_range(..unruled);
        for of_rule in &*ruled {
            kept -= of_rule;
        }
        for (of_rule, old) in ruled.iter().zip(of_rules) {
            let mut of_rule = of_rule.clone();
            of_rule.remove_range(..old);
            kept |= of_rule;
        }
        Ok(expired - kept)
    }
}

/// The traces that each rule is for.
fn ruled(retention: &Retention, image: &Arc<Image>) -> Result<Vec<RoaringBitmap>> {
    let first_rows = image.first_rows()?;
    let of_rule = |rule: &RetentionRule| {
        let rows = scan::matching_rows(image, &rule.filter, TimeRange::ALL, &Arc::default())?;
        let mut traces = RoaringBitmap::new();
        let mut rows = rows.iter();
        while let Some(row) = rows.next() {
            let trace = u32::try_from(Image::trace_of(&first_rows, row)).unwrap_or(u32::MAX);
            traces.insert(trace);
            let next = first_rows.get(trace as usize + 1);
            rows.advance_to(next.copied().unwrap_or(u32::MAX));
        }
        Ok(traces)
    };
    retention.rules.iter().map(of_rule).collect()
}
