//! Label sets: names and values as small numbers, most sets as what differs from the one before.
//!
//! ```text
//! set     mask varint; bit 0 is the last label of the set, bit 1 the one before it ...
//!         not 0: the names are those of the set before, and so are the values but those whose bit
//!                is set; for each of them, in order of the names: how far the number of its value
//!                lies after the one before, the first as varint, the others signed
//!         0:     kept varint, added varint: the first labels are those of the set before, then
//!                come others; for each: names skipped since the label before, varint;
//!                number of the value among those of its name, varint
//! ```
//!
//! The first set of a group does not use the one before.

use super::FrozenIndex;
use super::format::GROUP_SETS;
use crate::codec::{Reader, put_signed, put_varint};
use crate::error::{Error, Result};
use crate::labels::Labels;

/// A label as (number of its name, number of its value among those of the name).
pub(super) type Coded = (u32, u32);

/// Bits of a mask.
const MASK_LABELS_MAX: usize = 64;

/// Reads the label sets of a [`FrozenIndex`]; rising places do not decode a set twice.
#[derive(Debug)]
pub struct LabelSets<'a> {
    index: &'a FrozenIndex,
    reader: Reader<'a>,
    /// The place of the set that follows in `reader`.
    next: u32,
    /// The set before that.
    set: Vec<Coded>,
    /// The labels that were asked for last, with their texts.
    pairs: Vec<(Coded, (&'a str, &'a str))>,
}

impl<'a> LabelSets<'a> {
    pub(super) fn new(index: &'a FrozenIndex) -> Self {
        Self {
            index,
            reader: Reader::new(&index.name, &[]),
            next: 0,
            set: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// The labels of `place`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::Kind::Corrupt) when there is no such place or the bytes are damaged.
    pub fn labels(&mut self, place: u32) -> Result<Labels> {
        self.seek(place)?;
        self.pairs.truncate(self.set.len());
        for (at, &coded) in self.set.iter().enumerate() {
            // Most labels are those of the set before.
            if self.pairs.get(at).is_some_and(|pair| pair.0 == coded) {
                continue;
            }
            let name = self.index.name(coded.0)?;
            let value = self.index.value_text(name, coded.1)?;
            if value.is_empty() {
                self.pairs.clear();
                return Err(self.reader.corrupt("a label has an empty value"));
            }
            let pair = (coded, (self.index.text(name.symbol)?, value));
            match self.pairs.get_mut(at) {
                Some(other) => *other = pair,
                None => self.pairs.push(pair),
            }
        }
        Ok(Labels::from_sorted(self.pairs.iter().map(|pair| pair.1)))
    }

    /// The set of `place`, names rising.
    pub(super) fn seek(&mut self, place: u32) -> Result<&[Coded]> {
        if place >= self.index.layout.sets {
            return Err(self.missing(place));
        }
        let is_current = self.next == place + 1;
        let is_ahead = self.next <= place
            && self.next / GROUP_SETS == place / GROUP_SETS
            && !self.next.is_multiple_of(GROUP_SETS);
        if !is_current && !is_ahead {
            self.open_group(place / GROUP_SETS)?;
        }
        while self.next <= place {
            self.read_set()?;
        }
        Ok(&self.set)
    }

    fn missing(&self, place: u32) -> Error {
        let what = format!("label set {place} is not there");
        self.index
            .corrupt(self.index.layout.label_sets.start, &what)
    }

    fn open_group(&mut self, group: u32) -> Result<()> {
        let layout = &self.index.layout;
        let offset = self.index.number(&layout.group_offsets, group)? as usize;
        let area = &layout.label_sets;
        self.reader = self
            .index
            .reader(area.start.saturating_add(offset), area.end)?;
        self.next = group * GROUP_SETS;
        self.set.clear();
        Ok(())
    }

    fn read_set(&mut self) -> Result<()> {
        // What is left of a set that could not be read must not be taken for one.
        let place = std::mem::replace(&mut self.next, u32::MAX);
        let mask = self.reader.varint()?;
        if mask == 0 {
            self.read_listed()?;
        } else {
            self.read_changes(mask)?;
        }
        self.next = place + 1;
        Ok(())
    }

    fn read_changes(&mut self, mut mask: u64) -> Result<()> {
        let mut is_first = true;
        while mask != 0 {
            let bit = mask.ilog2();
            mask ^= 1 << bit;
            let label = self.set.iter_mut().nth_back(bit as usize);
            let Some((_, value)) = label else {
                return Err(self.reader.corrupt("a label that changes is not there"));
            };
            let distance = if is_first {
                i64::try_from(self.reader.varint()?).unwrap_or(i64::MAX)
            } else {
                self.reader.signed()?
            };
            is_first = false;
            let changed = i64::from(*value).saturating_add(distance);
            *value = u32::try_from(changed)
                .map_err(|_| self.reader.corrupt("a value is not one of its name's"))?;
        }
        Ok(())
    }

    fn read_listed(&mut self) -> Result<()> {
        let kept = self.reader.varint()?;
        let Some(kept) = usize::try_from(kept).ok().filter(|k| *k <= self.set.len()) else {
            return Err(self.reader.corrupt("a label set keeps more than there is"));
        };
        self.set.truncate(kept);
        let mut next_name = self.set.last().map_or(0, |(name, _)| u64::from(*name) + 1);
        for _ in 0..self.reader.count(2)? {
            let name = next_name.saturating_add(self.reader.varint()?);
            let name = u32::try_from(name).ok();
            let Some(name) = name.filter(|name| *name < self.index.layout.names) else {
                return Err(self.reader.corrupt("a label has a name that is not there"));
            };
            let value = u32::try_from(self.reader.varint()?)
                .map_err(|_| self.reader.corrupt("a value is not one of its name's"))?;
            self.set.push((name, value));
            next_name = u64::from(name) + 1;
        }
        Ok(())
    }
}

/// Appends a set; `before` is empty at the start of a group.
pub(super) fn put_set(out: &mut Vec<u8>, before: &[Coded], set: &[Coded]) {
    let same_names = before.len() == set.len()
        && set.len() <= MASK_LABELS_MAX
        && before.iter().zip(set).all(|(a, b)| a.0 == b.0);
    if same_names && !set.is_empty() {
        put_changes(out, before, set);
        return;
    }
    let kept = before.iter().zip(set).take_while(|(a, b)| a == b).count();
    put_varint(out, 0);
    put_varint(out, kept as u64);
    put_varint(out, (set.len() - kept) as u64);
    let (kept, added) = set.split_at(kept);
    let mut next_name = kept.last().map_or(0, |(name, _)| name + 1);
    for &(name, value) in added {
        put_varint(out, u64::from(name - next_name));
        put_varint(out, u64::from(value));
        next_name = name + 1;
    }
}

fn put_changes(out: &mut Vec<u8>, before: &[Coded], set: &[Coded]) {
    let changes = || {
        before
            .iter()
            .zip(set)
            .map(|(a, b)| i64::from(b.1) - i64::from(a.1))
    };
    let mask = changes().fold(0u64, |mask, change| mask << 1 | u64::from(change != 0));
    put_varint(out, mask);
    let mut changed = changes().filter(|change| *change != 0);
    if let Some(first) = changed.next() {
        debug_assert!(first > 0, "sets come in label order");
        put_varint(out, first.unsigned_abs());
    }
    changed.for_each(|change| put_signed(out, change));
}
