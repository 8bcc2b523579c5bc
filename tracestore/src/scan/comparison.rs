//! How often values of attributes occur among two kinds of spans. `Snapshot::scan` calls it.
//!
//! One pass over the spans counts the codes of all attributes, both kinds at a time. What spans share
//! (resources, scopes) is counted by the row of its table, and only at the end by its values. Where all
//! spans of a page are compared and belong to one bucket, all are counted as of the kind that most of
//! them are, without looking which row has which value; the few others are moved then.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;
use std::sync::Arc;

use trine_storage::Result;

use super::buckets::Buckets;
use super::coder::BEYOND;
use super::codes::{self, Children, Named, Translation, Wanted, value_of};
use super::condition::visible;
use super::counts::Reading;
use super::evaluate::Page;
use super::intrinsics::small_number;
use super::sweep::{Found, Sweep, on_threads};
use super::traces::{asks_trace, asks_traces};
use super::view::View;
use crate::block::build::start_of;
use crate::block::dictionary::Dictionary;
use crate::block::format::span;
use crate::block::image::Image;
use crate::block::table::{Column as StoredColumn, Key, PAGE_ROWS};
use crate::request::{
    ABSENT, AttributeRef, Batch, Batches, Column, Comparison, ComparisonBatch, Intrinsic,
    Occurrences, Scope,
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

/// Kinds and statuses that are stored as greater numbers are not defined.
const DEFINED_MAX: usize = 256;

/// Counts by bucket and side, and by a number.
#[derive(Debug, Default)]
struct Counts(Vec<Vec<u64>>);

impl Counts {
    /// Those of a slot by number, at least so many.
    fn of(&mut self, slot: usize, least: usize) -> &mut [u64] {
        if slot >= self.0.len() {
            self.0.resize_with(slot + 1, Vec::new);
        }
        let Some(counts) = self.0.get_mut(slot) else {
            return &mut [];
        };
        if least > counts.len() {
            counts.resize(least, 0);
        }
        counts
    }

    /// Counts one as of another slot that was counted before.
    fn shift(&mut self, (from, to): (usize, usize), number: usize) {
        if let Some(held) = self.of(from, 0).get_mut(number) {
            *held = held.saturating_sub(1);
            self.add(to, number, 1);
        }
    }

    fn add(&mut self, slot: usize, number: usize, count: u64) {
        if let Some(held) = self.of(slot, number + 1).get_mut(number) {
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
        add((&mut self.counts, &mut self.beyond), slot, code, count);
    }
}

fn add((counts, beyond): (&mut Counts, &mut Counts), slot: usize, code: u32, count: u64) {
    match code {
        ABSENT => {}
        BEYOND => beyond.add(slot, 0, count),
        code => counts.add(slot, code as usize, count),
    }
}

/// Counts all values of a column of a whole page as one; nothing and `false` where a row may have
/// several.
fn add_as_one(
    page: &Page<'_>,
    column: &StoredColumn,
    slots: &Slots,
    counts: &mut Counts,
) -> Result<bool> {
    let Some(two) = slots.two else {
        return Ok(false);
    };
    if !page.has_one_each(column)? {
        return Ok(false);
    }
    let number = u32::try_from(page.number()).unwrap_or(u32::MAX);
    let count = column.values.count(number);
    counts.add(two.0, 0, count.into());
    if count > 0 && !slots.few.is_empty() {
        page.each_place(column, slots.few(), |(), _| {
            counts.shift(two, 0);
        })?;
    }
    Ok(true)
}

/// Counts all values of a column of a whole page by their stored codes; nothing and `false` where
/// values are not stored so, or a row may have several.
fn add_whole(
    page: &Page<'_>,
    column: &StoredColumn,
    slots: &Slots,
    counts: &mut Counts,
) -> Result<bool> {
    let (Some(two), Some(dictionary)) = (slots.two, column.values.dictionary()?) else {
        return Ok(false);
    };
    if !page.has_one_each(column)? {
        return Ok(false);
    }
    let mut codes = Vec::with_capacity(PAGE_ROWS);
    let number = u32::try_from(page.number()).unwrap_or(u32::MAX);
    column.values.codes(number, &mut codes)?;
    let missing = || page.table().corrupt("a code is in no dictionary");
    let held = counts.of(two.0, dictionary.len());
    for code in &codes {
        *held.get_mut(*code as usize).ok_or_else(missing)? += 1;
    }
    if !codes.is_empty() && !slots.few.is_empty() {
        page.each_place(column, slots.few(), |(), place| {
            if let Some(code) = codes.get(place as usize) {
                counts.shift(two, *code as usize);
            }
        })?;
    }
    Ok(true)
}

impl Shared {
    /// Counts the numbers of the wanted rows of a page.
    fn add_page(
        &mut self,
        image: &Image,
        column: u8,
        (page, rows): (usize, &[u32]),
        slots: &Slots,
    ) -> Result<()> {
        let numbers = codes::numbers(&image.spans, column, page, rows)?;
        let missing = || image.spans.corrupt("a span names a row that is not there");
        let (most, instead) = match column {
            span::RESOURCE => (image.resources.rows(), None),
            span::SCOPE => (image.scopes.rows(), None),
            // What OTLP does not define is told as 0 is.
            _ => (DEFINED_MAX, Some(0)),
        };
        let number = |number: u64| {
            let held = usize::try_from(number).ok();
            held.filter(|held| *held < most).or(instead)
        };
        match slots.two {
            Some(two) => {
                let counts = self.counts.of(two.0, most);
                for held in &numbers {
                    let held = number(*held).and_then(|at| counts.get_mut(at));
                    *held.ok_or_else(missing)? += 1;
                }
                for row in &slots.few {
                    if let Some(number) = numbers.get(*row as usize).copied().and_then(number) {
                        self.counts.shift(two, number);
                    }
                }
            }
            None => {
                for (held, slot) in numbers.into_iter().zip(&slots.each) {
                    self.counts.add(*slot, number(held).ok_or_else(missing)?, 1);
                }
            }
        }
        Ok(())
    }
}

/// The events or links of the wanted spans of a page, found once for all attributes.
#[derive(Debug, Default)]
struct PageChildren([Option<Children>; 2]);

impl PageChildren {
    fn of(&mut self, found: &Found<'_, '_>, scope: Scope, wanted: &Wanted) -> Result<&Children> {
        let [events, links] = &mut self.0;
        let held = match scope {
            Scope::Link => links,
            _ => events,
        };
        if let Some(held) = held {
            return Ok(held);
        }
        let children = Children::of(found.view, found.page.number(), scope, wanted)?;
        Ok(held.insert(children))
    }
}

/// A column of small numbers that stand for values (or rows of a table that spans share), counted
/// until the image changes.
#[derive(Debug, Default)]
struct Shared {
    counts: Counts,
    is_wanted: bool,
}

/// Which rows of a page are counted where.
#[derive(Debug, Default)]
struct Slots {
    /// The bucket of each wanted row, twice, and one more where it is selected.
    each: Vec<usize>,
    /// Where all rows of the page are wanted and belong to one bucket: the slot of most of them and
    /// that of the few others.
    two: Option<(usize, usize)>,
    /// The few, ascending.
    few: Vec<u32>,
    /// Whether all slots are below [`STORED_SLOTS_MAX`].
    is_narrow: bool,
}

impl Slots {
    fn of(&self, at: u32) -> usize {
        self.each.get(at as usize).copied().unwrap_or(0)
    }

    fn few(&self) -> impl Iterator<Item = (u32, ())> {
        self.few.iter().map(|row| (*row, ()))
    }
}

struct Comparing<'a> {
    request: &'a Comparison,
    counted: Vec<Counted>,
    /// Those of [`SHARED`].
    shared: [Shared; 4],
    image: Option<Arc<Image>>,
    buckets: Buckets,
    wanted: Wanted,
    slots: Slots,
    starts: Vec<u64>,
}

/// The columns of spans that many attributes are read from, or that have small numbers.
const SHARED: [u8; 4] = [span::RESOURCE, span::SCOPE, span::KIND, span::STATUS];

/// From which of [`SHARED`] an attribute is told.
fn shared_of(attribute: &AttributeRef) -> Option<usize> {
    let number = match attribute {
        AttributeRef::Attribute {
            scope: Some(Scope::Resource),
            ..
        } => span::RESOURCE,
        AttributeRef::Attribute {
            scope: Some(Scope::Instrumentation),
            ..
        } => span::SCOPE,
        AttributeRef::Intrinsic(Intrinsic::Kind) => span::KIND,
        AttributeRef::Intrinsic(Intrinsic::Status) => span::STATUS,
        _ => return None,
    };
    SHARED.iter().position(|shared| *shared == number)
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
        let mut shared: [Shared; 4] = Default::default();
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
            slots: Slots::default(),
            starts: Vec::new(),
        }
    }

    fn add(&mut self, found: &Found<'_, '_>) -> Result<()> {
        let (view, page) = (found.view, found.page);
        let held = self.image.as_ref();
        if !held.is_some_and(|held| Arc::ptr_eq(held, &view.image)) {
            self.leave()?;
            self.image = Some(Arc::clone(&view.image));
        }
        self.wanted
            .set(found.rows, page.table().rows_of(page.number()).len());
        self.set_slots(found)?;
        for (shared, number) in self.shared.iter_mut().zip(SHARED) {
            if shared.is_wanted {
                let of = (page.number(), &*self.wanted.rows);
                shared.add_page(&view.image, number, of, &self.slots)?;
            }
        }
        let mut children = PageChildren::default();
        for (attribute, counted) in self.request.attributes.iter().zip(&mut self.counted) {
            if shared_of(attribute).is_none() {
                let to = (&self.wanted, &self.slots);
                counted.add_page(found, attribute, to, &mut children)?;
            }
        }
        Ok(())
    }

    /// Finds out the bucket and the side of each wanted row.
    fn set_slots(&mut self, found: &Found<'_, '_>) -> Result<()> {
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
        let Slots {
            each,
            two,
            few,
            is_narrow,
        } = &mut self.slots;
        each.clear();
        few.clear();
        let count = self.wanted.rows.len();
        let is_whole = count == page.table().rows_of(page.number()).len();
        *two = one.filter(|_| is_whole).map(|bucket| {
            let (others, chosen) = (2 * bucket, 2 * bucket + 1);
            match 2 * selected.len() <= count {
                true => (others, chosen),
                false => (chosen, others),
            }
        });
        for row in &self.wanted.rows {
            let bucket = one.unwrap_or_else(|| self.buckets.of(start(*row)));
            let slot = 2 * bucket + usize::from(selected.contains(*row));
            if two.is_some_and(|(_, others)| others == slot) {
                few.push(*row);
            }
            each.push(slot);
        }
        *is_narrow = each.iter().all(|slot| *slot < STORED_SLOTS_MAX);
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
            let shared = shared_of(attribute).and_then(|at| self.shared.get(at));
            let Some(shared) = shared.map(|shared| &shared.counts.0) else {
                continue;
            };
            let values = match attribute {
                AttributeRef::Attribute { scope, key } => {
                    let scope = scope.unwrap_or(Scope::Resource);
                    let table = match scope {
                        Scope::Instrumentation => &image.scopes,
                        _ => &image.resources,
                    };
                    let named = Named {
                        scope,
                        key: key.clone(),
                    };
                    let rows: Vec<usize> = (0..table.rows()).collect();
                    value_of(table, &named, &rows)?
                }
                AttributeRef::Intrinsic(intrinsic) => {
                    let most = shared.iter().map(Vec::len).max().unwrap_or(0);
                    let of_number = small_number(*intrinsic).map(|(_, of)| of);
                    let value = |number| of_number.map(|of| of(number));
                    (0..).take(most).map(value).collect()
                }
            };
            let mut codes = vec![None; values.len()];
            for (slot, counts) in shared.iter().enumerate() {
                if counts.len() > values.len() {
                    let spans = &image.spans;
                    return Err(spans.corrupt("a span names a row that is not there"));
                }
                let of = values.iter().zip(&mut codes).zip(counts);
                for ((value, code), count) in of.filter(|(_, count)| **count > 0) {
                    let coder = &mut counted.reading.coder;
                    let make = || value.as_ref().map_or(ABSENT, |value| coder.code_of(value));
                    let code = code.get_or_insert_with(make);
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
        found: &Found<'_, '_>,
        attribute: &AttributeRef,
        (wanted, slots): (&Wanted, &Slots),
        children: &mut PageChildren,
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
            AttributeRef::Attribute {
                scope: Some(scope @ (Scope::Event | Scope::Link)),
                key,
            } => {
                let named = Named {
                    scope: *scope,
                    key: key.clone(),
                };
                let children = children.of(found, *scope, wanted)?;
                let Self {
                    reading,
                    counts,
                    beyond,
                    ..
                } = self;
                let each = |at, code| add((&mut *counts, &mut *beyond), slots.of(at), code, 1);
                return codes::children(view, &named, children, &mut reading.coder, each);
            }
            _ => {
                self.reading.read(view, page, wanted)?;
                // Rows of a trace are neighbours, and most of them are of one slot.
                let mut next = 0;
                for same in self.reading.codes.chunk_by(|a, b| a == b) {
                    let Some(code) = same.first() else {
                        continue;
                    };
                    let slots = slots.each.get(next..).unwrap_or_default();
                    let slots = slots.get(..same.len()).unwrap_or(slots);
                    next += same.len();
                    for slots in slots.chunk_by(|a, b| a == b) {
                        let slot = slots.first().copied().unwrap_or(0);
                        let to = (&mut self.counts, &mut self.beyond);
                        add(to, slot, *code, slots.len() as u64);
                    }
                }
                return Ok(());
            }
        };
        for key in columns {
            let column = spans.known(&key)?;
            let dictionary = column.values.dictionary()?;
            let is_short = |held: &Arc<Dictionary>| held.len() <= STORED_CODES_MAX;
            if slots.is_narrow && dictionary.as_ref().is_some_and(is_short) {
                let counts = self.stored.entry(key.clone()).or_default();
                if slots.two.is_some() && add_whole(page, column, slots, counts)? {
                    continue;
                }
                let done = codes::each_stored(page, column, wanted, |at, code| {
                    counts.add(slots.of(at), code as usize, 1);
                    Ok(())
                })?;
                if done {
                    continue;
                }
            }
            // Values that no dictionary lists seldom repeat: those that have codes are not looked for.
            if self.reading.coder.is_full()
                && dictionary.is_none()
                && add_as_one(page, column, slots, &mut self.beyond)?
            {
                continue;
            }
            let to = (&mut self.reading.coder, &mut self.translation);
            let (counts, beyond) = (&mut self.counts, &mut self.beyond);
            codes::each_code(page, column, wanted, to, |at, code| {
                add((counts, beyond), slots.of(at), code, 1);
            })?;
        }
        Ok(())
    }
}
