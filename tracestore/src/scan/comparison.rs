//! How often values of attributes occur among two kinds of spans. `Snapshot::scan` calls it.
//!
//! One pass over the spans counts the codes of all attributes, both kinds at a time. What spans share
//! (resources, scopes) is counted by the row of its table, and only at the end by its values.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;
use std::sync::Arc;

use trine_storage::Result;

use super::buckets::Buckets;
use super::coder::BEYOND;
use super::codes::{self, Named, Translation, Wanted, value_of};
use super::condition::visible;
use super::counts::Reading;
use super::sweep::{Found, Sweep, on_threads};
use super::traces::{asks_trace, asks_traces};
use super::view::View;
use crate::block::build::start_of;
use crate::block::format::span;
use crate::block::image::Image;
use crate::block::table::Key;
use crate::request::{
    ABSENT, AttributeRef, Batch, Batches, Column, Comparison, ComparisonBatch, Intrinsic,
    Occurrences, Scope, Value,
};

/// The most buckets and sides, and the most codes of a dictionary, for which codes are counted as they
/// are stored.
const STORED_SLOTS_MAX: usize = 32;
const STORED_CODES_MAX: usize = 1 << 16;

/// Counts for a comparison. What the threads of the request count comes in a batch of each.
pub(crate) fn comparison(views: &[View], request: &Comparison) -> Result<Batches> {
    let asks = request.attributes.iter().any(asks_trace);
    let asks = asks || asks_traces(&request.filter) || asks_traces(&request.selection);
    let filters = [&request.filter, &request.selection];
    let sweep = Sweep::new(views, &filters, (asks, request.range))?;
    let threads = request.effort.threads.min(sweep.pieces().saturating_sub(1));
    let compared = on_threads(threads, &|| {
        let mut comparing = Comparing::new(request);
        sweep.run(&mut |found| {
            comparing.add(found)?;
            Ok(!request.effort.is_stopped())
        })?;
        comparing.leave()?;
        Ok(Batch::Comparison(comparing.finish()))
    });
    Ok(Box::new(compared.into_iter()))
}

/// Counts by bucket and side, and by a number.
#[derive(Debug, Default)]
struct Counts(Vec<Vec<u64>>);

impl Counts {
    fn add(&mut self, slot: usize, number: usize, count: u64) {
        if slot >= self.0.len() {
            self.0.resize_with(slot + 1, Vec::new);
        }
        let Some(counts) = self.0.get_mut(slot) else {
            return;
        };
        if number >= counts.len() {
            counts.resize(number + 1, 0);
        }
        if let Some(held) = counts.get_mut(number) {
            *held += count;
        }
    }
}

/// What is counted of one attribute.
#[derive(Debug)]
struct Counted {
    reading: Reading,
    /// Of the image at hand.
    translation: Translation,
    /// Of columns of the image at hand, by codes of their dictionaries.
    stored: HashMap<Key, Counts>,
    counts: Counts,
    /// Of values that have no code of their own, by bucket and side.
    beyond: Counts,
}

impl Counted {
    fn add(&mut self, slot: usize, code: u32, count: u64) {
        match code {
            ABSENT => {}
            BEYOND => self.beyond.add(slot, 0, count),
            code => self.counts.add(slot, code as usize, count),
        }
    }
}

/// Rows of a table that spans share, counted until the image changes.
#[derive(Debug, Default)]
struct Shared {
    counts: Counts,
    is_wanted: bool,
}

struct Comparing<'a> {
    request: &'a Comparison,
    counted: Vec<Counted>,
    /// Resources and scopes.
    shared: [Shared; 2],
    image: Option<Arc<Image>>,
    buckets: Buckets,
    wanted: Wanted,
    /// The bucket of each wanted row, twice, and one more where it is selected.
    slots: Vec<usize>,
    starts: Vec<u64>,
}

/// Which table spans share that has an attribute.
fn shared_of(attribute: &AttributeRef) -> Option<usize> {
    match attribute {
        AttributeRef::Attribute {
            scope: Some(Scope::Resource),
            ..
        } => Some(0),
        AttributeRef::Attribute {
            scope: Some(Scope::Instrumentation),
            ..
        } => Some(1),
        _ => None,
    }
}

impl<'a> Comparing<'a> {
    fn new(request: &'a Comparison) -> Self {
        let counted = |attribute: &AttributeRef| Counted {
            reading: Reading::bounded(attribute, request.values_max),
            translation: Translation::default(),
            stored: HashMap::new(),
            counts: Counts::default(),
            beyond: Counts::default(),
        };
        let mut shared = [Shared::default(), Shared::default()];
        for at in request.attributes.iter().filter_map(shared_of) {
            if let Some(shared) = shared.get_mut(at) {
                shared.is_wanted = true;
            }
        }
        Self {
            request,
            counted: request.attributes.iter().map(counted).collect(),
            shared,
            image: None,
            buckets: Buckets::new(request.origin_ns, request.bucket_ns),
            wanted: Wanted::default(),
            slots: Vec::new(),
            starts: Vec::new(),
        }
    }

    fn add(&mut self, found: &Found<'_>) -> Result<()> {
        let (view, page) = (found.view, found.page);
        let held = self.image.as_ref();
        if !held.is_some_and(|held| Arc::ptr_eq(held, &view.image)) {
            self.leave()?;
            self.image = Some(Arc::clone(&view.image));
        }
        self.wanted
            .set(found.rows, page.table().rows_of(page.number()).len());
        self.set_slots(found)?;
        for (shared, number) in self.shared.iter_mut().zip([span::RESOURCE, span::SCOPE]) {
            if !shared.is_wanted {
                continue;
            }
            let rows = codes::numbers(&view.image.spans, number, page.number(), &self.wanted.rows)?;
            for (row, slot) in rows.into_iter().zip(&self.slots) {
                let row = usize::try_from(row).unwrap_or(usize::MAX);
                shared.counts.add(*slot, row, 1);
            }
        }
        for (attribute, counted) in self.request.attributes.iter().zip(&mut self.counted) {
            if shared_of(attribute).is_none() {
                counted.add_page(found, attribute, &self.wanted, &self.slots)?;
            }
        }
        Ok(())
    }

    /// Finds out the bucket and the side of each wanted row.
    fn set_slots(&mut self, found: &Found<'_>) -> Result<()> {
        let (view, page) = (found.view, found.page);
        let mut selected = match found.others.first() {
            Some(node) => page.rows(node, found.rows)?,
            None => found.rows.clone(),
        };
        let times = self.request.selected_range;
        let is_within = times.start <= view.range.start && view.range.end <= times.end;
        let one = self.buckets.one(view, page.number())?;
        if one.is_none() || !is_within {
            self.starts.clear();
            view.image.starts(page.number(), &mut self.starts)?;
        }
        let start = |row: u32| start_of(self.starts.get(row as usize).copied().unwrap_or(0));
        if !is_within {
            let rows: Vec<u32> = selected.iter().collect();
            for row in rows.into_iter().filter(|row| !times.contains(start(*row))) {
                selected.remove(row);
            }
        }
        self.slots.clear();
        for row in &self.wanted.rows {
            let bucket = one.unwrap_or_else(|| self.buckets.of(start(*row)));
            self.slots
                .push(2 * bucket + usize::from(selected.contains(*row)));
        }
        Ok(())
    }

    /// Takes what was counted of the image at hand over into counts of values.
    fn leave(&mut self) -> Result<()> {
        let Some(image) = self.image.take() else {
            return Ok(());
        };
        for (attribute, counted) in self.request.attributes.iter().zip(&mut self.counted) {
            counted.translation = Translation::default();
            counted.leave(&image)?;
            let (Some(at), AttributeRef::Attribute { scope, key }) =
                (shared_of(attribute), attribute)
            else {
                continue;
            };
            let table = match at {
                0 => &image.resources,
                _ => &image.scopes,
            };
            let named = Named {
                scope: scope.unwrap_or(Scope::Resource),
                key: key.clone(),
            };
            let rows: Vec<usize> = (0..table.rows()).collect();
            let values = value_of(table, &named, &rows)?;
            let coder = &mut counted.reading.coder;
            let code = |value: &Option<Value>| value.as_ref().map_or(ABSENT, |v| coder.code_of(v));
            let codes: Vec<u32> = values.iter().map(code).collect();
            let counts = self.shared.get(at).map(|shared| &shared.counts.0);
            for (slot, counts) in counts.into_iter().flatten().enumerate() {
                if counts.len() > codes.len() {
                    return Err(table.corrupt("a span names a row that is not there"));
                }
                for (code, count) in codes.iter().zip(counts).filter(|(_, count)| **count > 0) {
                    counted.add(slot, *code, *count);
                }
            }
        }
        for shared in &mut self.shared {
            shared.counts = Counts::default();
        }
        Ok(())
    }

    fn finish(self) -> ComparisonBatch {
        let buckets: Vec<(i64, usize)> = self.buckets.used().collect();
        let told = |counted: Counted| {
            let mut told = Occurrences::default();
            for (begin, bucket) in &buckets {
                let slots = [2 * bucket, 2 * bucket + 1];
                let of = |counts: &Counts| {
                    slots.map(|slot| counts.0.get(slot).cloned().unwrap_or_default())
                };
                for (is_beyond, [others, selected]) in
                    [(false, of(&counted.counts)), (true, of(&counted.beyond))]
                {
                    for at in 0..others.len().max(selected.len()) {
                        let count = |of: &[u64]| of.get(at).copied().unwrap_or(0);
                        if count(&others) + count(&selected) == 0 {
                            continue;
                        }
                        let code = u32::try_from(at).unwrap_or(ABSENT);
                        told.values
                            .codes
                            .push(if is_beyond { ABSENT } else { code });
                        told.buckets.push(*begin);
                        told.others.push(count(&others));
                        told.selected.push(count(&selected));
                    }
                }
            }
            told.values = Column {
                codes: told.values.codes,
                dictionary: counted.reading.coder.values,
            };
            told
        };
        ComparisonBatch {
            attributes: self.counted.into_iter().map(told).collect(),
        }
    }
}

impl Counted {
    /// Takes what was counted of the columns of an image over into counts of values.
    fn leave(&mut self, image: &Image) -> Result<()> {
        for (key, Counts(by_slot)) in std::mem::take(&mut self.stored) {
            let Some(dictionary) = image.spans.known(&key)?.values.dictionary()? else {
                continue;
            };
            let mut scratch = Vec::new();
            for (slot, counts) in by_slot.into_iter().enumerate() {
                for (code, count) in (0u32..).zip(counts).filter(|(_, count)| *count > 0) {
                    let value = dictionary.read(code, &mut scratch)?;
                    let code = self.reading.coder.code(value);
                    self.add(slot, code, count);
                }
            }
        }
        Ok(())
    }

    /// Counts the values of a page.
    fn add_page(
        &mut self,
        found: &Found<'_>,
        attribute: &AttributeRef,
        wanted: &Wanted,
        slots: &[usize],
    ) -> Result<()> {
        let (view, page) = (found.view, found.page);
        let spans = &view.image.spans;
        let columns: Vec<_> = match attribute {
            AttributeRef::Attribute {
                scope: Some(Scope::Span),
                key,
            } => visible(spans, key).collect(),
            AttributeRef::Intrinsic(Intrinsic::Name) => vec![span::NAME],
            AttributeRef::Intrinsic(Intrinsic::StatusMessage) => vec![span::MESSAGE],
            _ => {
                self.reading.read(view, page, wanted)?;
                for at in 0..self.reading.codes.len() {
                    let code = self.reading.codes.get(at).copied().unwrap_or(ABSENT);
                    let slot = slots.get(at).copied().unwrap_or(0);
                    self.add(slot, code, 1);
                }
                return Ok(());
            }
        };
        let is_narrow = slots.iter().all(|slot| *slot < STORED_SLOTS_MAX);
        for key in columns {
            let column = spans.known(&key)?;
            let dictionary = column.values.dictionary()?;
            if is_narrow && dictionary.is_some_and(|held| held.len() <= STORED_CODES_MAX) {
                let counts = self.stored.entry(key.clone()).or_default();
                let done = codes::each_stored(page, column, wanted, |at, code| {
                    let slot = slots.get(at as usize).copied().unwrap_or(0);
                    counts.add(slot, code as usize, 1);
                    Ok(())
                })?;
                if done {
                    continue;
                }
            }
            let to = (&mut self.reading.coder, &mut self.translation);
            let (counts, beyond) = (&mut self.counts, &mut self.beyond);
            codes::each_code(page, column, wanted, to, |at, code| {
                let slot = slots.get(at as usize).copied().unwrap_or(0);
                match code {
                    ABSENT => {}
                    BEYOND => beyond.add(slot, 0, 1),
                    code => counts.add(slot, code as usize, 1),
                }
            })?;
        }
        Ok(())
    }
}
