//! Label index and label sets of a block, read straight from the bytes of its section. The engines
//! write it when they write a block and ask it for every query.
//!
//! Nothing is decoded at open: names and values are found by binary search in fixed-width tables,
//! postings and label sets are decoded when they are needed. The bytes are described in
//! `FORMAT.md`, "Frozen index".

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod format;
mod postings;
mod select;
mod sets;
mod symbols;
mod writer;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::cardinality::{Cardinality, Pair};
use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::labels::Labels;
use format::{GROUP_SETS, Layout, Table};

pub use sets::LabelSets;
pub use writer::FrozenWriter;

/// What it costs to find a group of label sets and to decode half of it, in ids of postings.
const GROUP_COST: u64 = 96;
/// What it costs to decode one more label set of a group, in ids of postings.
const SET_COST: u64 = 4;
/// What it costs to look at the postings of one value, in ids.
const POSTINGS_COST: u64 = 8;

/// Finds the places of a block whose labels satisfy matchers, and gives the labels of a place.
///
/// A *place* numbers the series or streams of the block in label order, from 0. A label that is
/// absent counts as the empty string. Cloning is cheap.
///
/// # Errors
/// Bytes that break the format end in [`Kind::Corrupt`](crate::Kind::Corrupt) with the offset in
/// the section, here and in all methods, at the moment when they are looked at.
///
/// ```
/// use trine_storage::frozen_index::{FrozenIndex, FrozenWriter};
/// use trine_storage::{Labels, MatchOp, Matcher};
///
/// let mut writer = FrozenWriter::new();
/// writer.push(&Labels::from_pairs([("env", "prod"), ("job", "api")])?);
/// writer.push(&Labels::from_pairs([("job", "db")])?);
/// let index = FrozenIndex::open("an index", writer.finish()?.into())?;
/// let matchers = [Matcher::new(MatchOp::Match, "job", "api|db")?, Matcher::equal("env", "")];
/// assert_eq!(index.select(&matchers)?.iter().collect::<Vec<_>>(), [1]);
/// assert_eq!(index.labels(1)?.to_string(), r#"{job="db"}"#);
/// # Ok::<(), trine_storage::Error>(())
/// ```
#[derive(Clone)]
pub struct FrozenIndex {
    bytes: Bytes,
    /// What errors call the bytes.
    name: Arc<str>,
    layout: Layout,
}

/// One row of the table of names.
#[derive(Debug, Clone, Copy)]
struct Name {
    symbol: u32,
    /// The first of its values in the tables of values.
    first: u32,
    /// How many values it has; at least 1.
    values: u32,
    /// The postings of all places that have the label.
    present: u32,
}

impl FrozenIndex {
    /// Takes the bytes that [`FrozenWriter::finish`] gave, whose checksum the caller checked;
    /// `name` is what errors call them. Looks at the header and at the names only.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::Kind::Corrupt) when the tables do not fit the bytes or the names
    /// are out of order, [`Kind::Unsupported`](crate::Kind::Unsupported) when a newer version wrote
    /// them.
    pub fn open(name: &str, bytes: Bytes) -> Result<Self> {
        let layout = Layout::read(name, &bytes)?;
        let index = Self {
            bytes,
            name: name.into(),
            layout,
        };
        index.check_names()?;
        Ok(index)
    }

    fn check_names(&self) -> Result<()> {
        let mut last = "";
        let mut next_value = 0;
        for number in 0..self.layout.names {
            let name = self.name(number)?;
            let text = self.text(name.symbol)?;
            if text <= last {
                return Err(self.corrupt_name(number, "a name is empty or out of order"));
            }
            if name.first != next_value || name.values == 0 {
                return Err(self.corrupt_name(number, "the values of a name are not its own"));
            }
            next_value += name.values;
            last = text;
        }
        if next_value != self.layout.values {
            return Err(self.corrupt(format::HEADER_BYTES, "values belong to no name"));
        }
        Ok(())
    }

    /// The number of places.
    pub fn len(&self) -> usize {
        self.layout.sets as usize
    }

    /// Whether there are no places.
    pub fn is_empty(&self) -> bool {
        self.layout.sets == 0
    }

    /// Bytes of the section.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The labels of `place`. To read many in rising order, [`FrozenIndex::label_sets`] is faster.
    ///
    /// # Errors
    /// Also when there is no such place.
    pub fn labels(&self, place: u32) -> Result<Labels> {
        self.label_sets().labels(place)
    }

    /// Reads label sets, fastest in rising order of places.
    pub fn label_sets(&self) -> LabelSets<'_> {
        LabelSets::new(self)
    }

    /// The label names that occur, sorted; with `filter`, those that occur among its places.
    pub fn names(&self, filter: Option<&RoaringBitmap>) -> Result<Vec<&str>> {
        let Some(filter) = filter else {
            return self
                .all_names()
                .map(|name| self.text(name?.symbol))
                .collect();
        };
        let mut ids = 0;
        for name in self.all_names() {
            ids += self.postings(name?.present)?.cost();
        }
        let mut found = Vec::new();
        if self.walk_is_cheaper(filter, ids) {
            let mut seen = BTreeSet::new();
            let mut sets = self.label_sets();
            for place in filter.iter().take_while(|place| *place < self.layout.sets) {
                seen.extend(sets.seek(place)?.iter().map(|(name, _)| *name));
            }
            for name in seen {
                found.push(self.text(self.name(name)?.symbol)?);
            }
            return Ok(found);
        }
        for name in self.all_names() {
            let name = name?;
            if self.postings(name.present)?.intersects(filter)? {
                found.push(self.text(name.symbol)?);
            }
        }
        Ok(found)
    }

    /// The values of `name` that occur, sorted; with `filter`, those that occur among its places;
    /// with `limit`, the first that many.
    pub fn values(
        &self,
        name: &str,
        filter: Option<&RoaringBitmap>,
        limit: Option<usize>,
    ) -> Result<Vec<&str>> {
        let Some((number, name)) = self.find_name(name)? else {
            return Ok(Vec::new());
        };
        let limit = limit.unwrap_or(usize::MAX);
        let values = 0..name.values;
        let Some(filter) = filter else {
            return values
                .take(limit)
                .map(|v| self.value_text(name, v))
                .collect();
        };
        if self.walk_is_cheaper(filter, self.scan_cost(name, filter)?) {
            let mut seen = RoaringBitmap::new();
            let mut sets = self.label_sets();
            for place in filter.iter().take_while(|place| *place < self.layout.sets) {
                seen.extend(
                    sets.seek(place)?
                        .iter()
                        .filter(|l| l.0 == number)
                        .map(|l| l.1),
                );
            }
            let seen = seen.iter().take(limit);
            return seen.map(|v| self.value_text(name, v)).collect();
        }
        let mut found = Vec::new();
        for value in values {
            if found.len() >= limit {
                break;
            }
            if self.value_postings(name, value)?.intersects(filter)? {
                found.push(self.value_text(name, value)?);
            }
        }
        Ok(found)
    }

    /// Every (name, value) with its number of places, sorted by name, then value.
    pub fn pairs(&self) -> impl Iterator<Item = Result<Pair<'_>>> {
        (0..self.layout.names).flat_map(move |number| {
            let name = self.name(number);
            let values = name.as_ref().map_or(1, |name| name.values);
            (0..values).map(move |value| {
                let name = name.clone()?;
                Ok(Pair {
                    name: self.text(name.symbol)?,
                    value: self.value_text(name, value)?,
                    ids: self.value_postings(name, value)?.len(),
                })
            })
        })
    }

    /// Which names and values there are most of; `metric_label` is the name whose values
    /// [`Cardinality::series_by_name`] counts, `limit` the length of each list.
    pub fn cardinality(&self, metric_label: &str, limit: usize) -> Result<Cardinality> {
        let series = u64::from(self.layout.sets);
        Cardinality::count(series, [self.pairs()], metric_label, limit)
    }

    /// Reads everything and checks that it fits together.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::Kind::Corrupt) for the first contradiction.
    pub fn verify(&self) -> Result<()> {
        let mut places = vec![RoaringBitmap::new(); self.layout.values as usize];
        let mut sets = self.label_sets();
        let mut last: Option<Labels> = None;
        for place in 0..self.layout.sets {
            let labels = sets.labels(place)?;
            if last.is_some_and(|last| last >= labels) {
                let start = self.layout.label_sets.start;
                return Err(self.corrupt(start, "label sets are out of order"));
            }
            last = Some(labels);
            for &(name, value) in sets.seek(place)? {
                let value = self.name(name)?.first.saturating_add(value);
                if let Some(places) = places.get_mut(value as usize) {
                    places.insert(place);
                }
            }
        }
        let mut places = places.into_iter();
        let start = self.layout.postings.start;
        for name in self.all_names() {
            let name = name?;
            let mut of_name = RoaringBitmap::new();
            for (value, places) in (0..name.values).zip(&mut places) {
                if self.value_postings(name, value)?.bitmap()? != places {
                    let what = "the postings of a value are not those of the label sets";
                    return Err(self.corrupt(start, what));
                }
                of_name |= places;
            }
            if self.postings(name.present)?.bitmap()? != of_name {
                let what = "the postings of a name are not those of the label sets";
                return Err(self.corrupt(start, what));
            }
        }
        Ok(())
    }

    /// Whether reading the label sets of `places` costs less than `cost`, counted in ids of postings.
    fn walk_is_cheaper(&self, places: &RoaringBitmap, cost: u64) -> bool {
        let (Some(min), Some(max)) = (places.min(), places.max()) else {
            return true;
        };
        let groups = places.len().min(u64::from((max - min) / GROUP_SETS) + 1);
        groups * GROUP_COST + places.len() * SET_COST < cost
    }

    /// What it costs to find which values of `name` have a place in `filter`: a value is done at
    /// its first place that is.
    fn scan_cost(&self, name: Name, filter: &RoaringBitmap) -> Result<u64> {
        let values = u64::from(name.values);
        let places = self.postings(name.present)?.len();
        let until_found = u64::from(self.layout.sets) / filter.len().max(1) + 1;
        Ok(values * POSTINGS_COST + places.min(values * until_found))
    }

    fn all_names(&self) -> impl Iterator<Item = Result<Name>> {
        (0..self.layout.names).map(|number| self.name(number))
    }

    fn name(&self, number: u32) -> Result<Name> {
        let at = number.saturating_mul(format::NAME_NUMBERS);
        let column = |column| self.number(&self.layout.name_table, at.saturating_add(column));
        let first = column(1)?;
        let end = if number + 1 < self.layout.names {
            column(1 + format::NAME_NUMBERS)?
        } else {
            self.layout.values
        };
        Ok(Name {
            symbol: column(0)?,
            first,
            values: end.saturating_sub(first),
            present: column(2)?,
        })
    }

    /// A name with its number, by its text.
    fn find_name(&self, text: &str) -> Result<Option<(u32, Name)>> {
        let number = partition(0..self.layout.names, |number| {
            Ok(self.symbol(self.name(number)?.symbol)? < text.as_bytes())
        })?;
        if number == self.layout.names {
            return Ok(None);
        }
        let name = self.name(number)?;
        let found = self.symbol(name.symbol)? == text.as_bytes();
        Ok(found.then_some((number, name)))
    }

    /// The number of the first value of `name` that is not before `text`.
    fn value_at_or_after(&self, name: Name, text: &str) -> Result<u32> {
        partition(0..name.values, |value| {
            Ok(self.symbol(self.value_symbol(name, value)?)? < text.as_bytes())
        })
    }

    /// The number of the value `text` of `name`.
    fn find_value(&self, name: Name, text: &str) -> Result<Option<u32>> {
        let value = self.value_at_or_after(name, text)?;
        if value == name.values {
            return Ok(None);
        }
        let found = self.symbol(self.value_symbol(name, value)?)? == text.as_bytes();
        Ok(found.then_some(value))
    }

    fn value_symbol(&self, name: Name, value: u32) -> Result<u32> {
        self.value_number(&self.layout.value_symbols, name, value)
    }

    fn value_text(&self, name: Name, value: u32) -> Result<&str> {
        self.text(self.value_symbol(name, value)?)
    }

    fn value_postings(&self, name: Name, value: u32) -> Result<postings::Postings<'_>> {
        self.postings(self.value_reference(name, value)?)
    }

    fn value_reference(&self, name: Name, value: u32) -> Result<u32> {
        self.value_number(&self.layout.value_postings, name, value)
    }

    fn value_number(&self, table: &Table, name: Name, value: u32) -> Result<u32> {
        if value >= name.values {
            return Err(self.corrupt(table.start, "a value is not one of its name's"));
        }
        self.number(table, name.first.saturating_add(value))
    }

    /// The text of a symbol, as bytes that are not known to be UTF-8.
    fn symbol(&self, symbol: u32) -> Result<&[u8]> {
        let start = match symbol.checked_sub(1) {
            Some(before) => self.number(&self.layout.symbol_ends, before)?,
            None => 0,
        };
        let end = self.number(&self.layout.symbol_ends, symbol)?;
        let text = self.bytes.get(self.layout.text.clone()).unwrap_or_default();
        text.get(start as usize..end as usize)
            .ok_or_else(|| self.corrupt(self.layout.text.start, "a symbol lies outside the text"))
    }

    fn text(&self, symbol: u32) -> Result<&str> {
        std::str::from_utf8(self.symbol(symbol)?)
            .map_err(|_| self.corrupt(self.layout.text.start, "a symbol is not UTF-8"))
    }

    fn number(&self, table: &Table, at: u32) -> Result<u32> {
        table
            .get(&self.bytes, at)
            .ok_or_else(|| self.corrupt(table.start, "a number leads outside its table"))
    }

    /// A cursor at `offset` of the part of the bytes that ends at `end`.
    fn reader(&self, offset: usize, end: usize) -> Result<Reader<'_>> {
        let mut reader = Reader::new(&self.name, self.bytes.get(..end).unwrap_or_default());
        reader.take(offset)?;
        Ok(reader)
    }

    fn corrupt(&self, offset: usize, what: &str) -> Error {
        Error::corrupt(&self.name, offset as u64, what)
    }

    fn corrupt_name(&self, number: u32, what: &str) -> Error {
        let row = (number as usize).saturating_mul(4 * format::NAME_NUMBERS as usize);
        self.corrupt(self.layout.name_table.start.saturating_add(row), what)
    }
}

impl fmt::Debug for FrozenIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenIndex")
            .field("name", &self.name)
            .field("bytes", &self.bytes.len())
            .field("layout", &self.layout)
            .finish()
    }
}

/// The first number of `range` for which `is_before` does not hold; it holds for none after that.
fn partition(
    range: std::ops::Range<u32>,
    mut is_before: impl FnMut(u32) -> Result<bool>,
) -> Result<u32> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low.midpoint(high);
        if is_before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests;
