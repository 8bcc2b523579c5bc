//! The distinct values of a column in a block, sorted, with how often each occurs. Read in place:
//! opening looks at headers only, a look-up at a few groups. A code is the place of a value, so
//! ranges of values are ranges of codes.
//!
//! Texts lie in groups of 16: the first as it is, the others without the bytes that they share with
//! the one before. Numbers lie in groups of 64, packed above the first of the group.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::OnceLock;

use bytes::Bytes;
use trine_storage::codec::{Reader, put_signed, put_u32, put_varint};
use trine_storage::{Error, Result};

use super::bits::{self, Packed, packed_bytes, width_of};
use super::frame;
use super::numbers::{ordered, unordered};
use super::values::{Texts, Type, ValueRef};

/// Texts from one entry of the table to the next.
const TEXTS: usize = 16;
/// Numbers that share a width.
const NUMBERS: usize = 64;
/// Bytes of an exception among the counts: code and count.
const EXCEPTION: usize = 8;
/// All texts of a dictionary together are no longer; a claim above it is damage.
pub(crate) const TEXT_BYTES_MAX: usize = frame::RAW_BYTES_MAX;
/// Dictionaries of long texts are put under zstd: from so many bytes, and so many for each text.
const PACK_BYTES_MIN: usize = 4 << 10;
const PACK_TEXT_MIN: usize = 128;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// Appends a dictionary of texts, which are sorted, with how often each occurs (at least once).
pub(crate) fn put_texts<'t>(
    out: &mut Vec<u8>,
    texts: impl Iterator<Item = &'t [u8]>,
    counts: &[u32],
) {
    put_counts(out, counts);
    let (mut offsets, mut text) = (Vec::new(), Vec::new());
    let mut before: &[u8] = b"";
    for (place, entry) in texts.enumerate() {
        if place % TEXTS == 0 {
            offsets.push(text.len() as u64);
            put_varint(&mut text, entry.len() as u64);
            text.extend_from_slice(entry);
        } else {
            let pairs = before.iter().zip(entry);
            let shared = pairs.take_while(|(a, b)| a == b).count();
            let rest = entry.get(shared..).unwrap_or_default();
            put_varint(&mut text, shared as u64);
            put_varint(&mut text, rest.len() as u64);
            text.extend_from_slice(rest);
        }
        before = entry;
    }
    let width = width_of(offsets.last().copied().unwrap_or(0));
    out.push(width);
    bits::pack(out, offsets.into_iter(), width);
    if text.len() >= PACK_BYTES_MIN && text.len() / PACK_TEXT_MIN >= counts.len() {
        let mut packed = Vec::new();
        if frame::put(&mut packed, &text) < text.len() / 2 {
            out.push(ZSTD);
            put_varint(out, text.len() as u64);
            out.extend_from_slice(&packed);
            return;
        }
    }
    out.push(PLAIN);
    out.extend_from_slice(&text);
}

/// Appends a dictionary of numbers, which are ordered and ascend, with how often each occurs.
pub(crate) fn put_numbers(out: &mut Vec<u8>, numbers: &[u64], counts: &[u32]) {
    put_counts(out, counts);
    let least = numbers.first().copied().unwrap_or(0);
    let firsts: Vec<u64> = numbers
        .chunks(NUMBERS)
        .filter_map(|group| group.first())
        .map(|first| first.wrapping_sub(least))
        .collect();
    let width = width_of(firsts.last().copied().unwrap_or(0));
    put_signed(out, unordered(Type::Int, least).cast_signed());
    out.push(width);
    bits::pack(out, firsts.into_iter(), width);
    let ends = |group: &[u64]| group.first().copied().zip(group.last().copied());
    let spans = numbers.chunks(NUMBERS).filter_map(ends);
    out.extend(spans.map(|(first, last)| width_of(last.wrapping_sub(first))));
    for group in numbers.chunks(NUMBERS) {
        let Some((first, last)) = ends(group) else {
            continue;
        };
        let above = group.iter().map(|number| number.wrapping_sub(first));
        bits::pack(out, above, width_of(last.wrapping_sub(first)));
    }
}

/// How often: less one, packed at the width that costs least, with those that do not fit in a list.
fn put_counts(out: &mut Vec<u8>, counts: &[u32]) {
    let mut of_width = [0usize; 33];
    for count in counts {
        let width = usize::from(width_of(u64::from(count.saturating_sub(1))));
        if let Some(counted) = of_width.get_mut(width) {
            *counted += 1;
        }
    }
    let (mut best, mut above, mut width) = (usize::MAX, 0, 0);
    for (candidate, counted) in (0u8..=32).zip(of_width).rev() {
        let cost = packed_bytes(counts.len(), candidate) + above * EXCEPTION;
        if cost <= best {
            (best, width) = (cost, candidate);
        }
        above += counted;
    }
    let fits = |count: u32| width_of(u64::from(count.saturating_sub(1))) <= width;
    let exceptions = || (0u32..).zip(counts).filter(|(_, count)| !fits(**count));
    out.push(width);
    put_varint(out, exceptions().count() as u64);
    let packed = counts.iter().map(|&count| match fits(count) {
        true => u64::from(count.saturating_sub(1)),
        false => 0,
    });
    bits::pack(out, packed, width);
    for (code, count) in exceptions() {
        put_u32(out, code);
        put_u32(out, *count);
    }
}

/// A dictionary, read in place.
#[derive(Debug)]
pub(crate) struct Dictionary {
    name: String,
    offset: u64,
    kind: Type,
    len: usize,
    counts_width: u8,
    counts: Bytes,
    exceptions: Bytes,
    entries: Entries,
    /// All texts, once somebody wants an entry by reference.
    texts: OnceLock<Texts>,
    /// The bits of all numbers, once a page is decoded.
    numbers: OnceLock<Vec<u64>>,
}

#[derive(Debug)]
enum Entries {
    Texts {
        width: u8,
        table: Bytes,
        text: Bytes,
    },
    Numbers {
        /// By group: the first number, where its others begin in `packed`, their width.
        groups: Vec<(u64, usize, u8)>,
        packed: Bytes,
    },
}

impl Dictionary {
    /// The dictionary of `len` entries that takes all of `bytes`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), with `name` and `offset`, when it makes no
    /// sense; so for all methods.
    pub(crate) fn open(
        name: &str,
        offset: u64,
        kind: Type,
        len: usize,
        bytes: &Bytes,
    ) -> Result<Self> {
        let mut reader = Reader::new(name, bytes);
        let slice = |part: &[u8]| bytes.slice_ref(part);
        let counts_width = reader.u8()?;
        let exceptions = reader.count(EXCEPTION)?;
        if counts_width > 32 {
            return Err(reader.corrupt("counts are wider than they can be"));
        }
        let counts = slice(reader.take(packed_bytes(len, counts_width))?);
        let exceptions = slice(reader.take(exceptions * EXCEPTION)?);
        let entries = if kind.is_number() {
            let groups = len.div_ceil(NUMBERS);
            let least = ordered(Type::Int, reader.signed()?.cast_unsigned());
            let width = reader.u8()?;
            let firsts = reader.take(packed_bytes(groups, width))?;
            let firsts = Packed::new(name, offset, firsts, groups, width)?;
            let widths = reader.take(groups)?;
            let mut start = 0;
            let mut left = len;
            let mut table = Vec::with_capacity(groups);
            for (group, &width) in widths.iter().enumerate() {
                let held = left.min(NUMBERS);
                // All differ, so few bits cannot stand for many numbers.
                if width > 64 || width < width_of(held as u64 - 1) {
                    return Err(reader.corrupt("numbers of a dictionary have no such width"));
                }
                table.push((least.wrapping_add(firsts.get(group)), start, width));
                start += packed_bytes(held, width);
                left -= held;
            }
            let packed = slice(reader.take(start)?);
            if !reader.is_empty() {
                return Err(reader.corrupt("a dictionary is longer than it says"));
            }
            Entries::Numbers {
                groups: table,
                packed,
            }
        } else {
            let groups = len.div_ceil(TEXTS);
            let width = reader.u8()?;
            let table = slice(reader.take(packed_bytes(groups, width))?);
            Packed::new(name, offset, &table, groups, width)?;
            let text = match reader.u8()? {
                PLAIN => slice(reader.take(reader.remaining())?),
                ZSTD => {
                    let raw_len = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
                    let stored = reader.take(reader.remaining())?;
                    let mut raw = Vec::new();
                    frame::open(stored, raw_len, &mut raw)
                        .ok_or_else(|| reader.corrupt("a dictionary cannot be decompressed"))?;
                    Bytes::from(raw)
                }
                _ => return Err(reader.corrupt("a dictionary is stored in an unknown way")),
            };
            if text.len() < len {
                return Err(reader.corrupt("a dictionary has more texts than bytes"));
            }
            Entries::Texts { width, table, text }
        };
        Ok(Self {
            name: name.to_owned(),
            offset,
            kind,
            len,
            counts_width,
            counts,
            exceptions,
            entries,
            texts: OnceLock::new(),
            numbers: OnceLock::new(),
        })
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn corrupt(&self, what: &str) -> Error {
        Error::corrupt(&self.name, self.offset, what)
    }

    /// Whether it has the same texts as another one, as far as the bytes tell. Of numbers nothing is
    /// told.
    pub(crate) fn has_texts_of(&self, other: &Self) -> bool {
        let texts = |dictionary: &Self| match &dictionary.entries {
            Entries::Texts { width, table, text } => Some((*width, table.clone(), text.clone())),
            Entries::Numbers { .. } => None,
        };
        let own = texts(self);
        (self.kind, self.len) == (other.kind, other.len) && own.is_some() && own == texts(other)
    }

    /// How many values have a code.
    pub(crate) fn count(&self, code: u32) -> u32 {
        let (exceptions, _) = self.exceptions.as_chunks::<EXCEPTION>();
        let parts = |[a, b, c, d, e, f, g, h]: [u8; EXCEPTION]| {
            let (code, count) = ([a, b, c, d], [e, f, g, h]);
            (u32::from_le_bytes(code), u32::from_le_bytes(count))
        };
        let found = exceptions.binary_search_by_key(&code, |entry| parts(*entry).0);
        if let Some(entry) = found.ok().and_then(|place| exceptions.get(place)) {
            return parts(*entry).1;
        }
        let packed = Packed::new(
            &self.name,
            self.offset,
            &self.counts,
            self.len,
            self.counts_width,
        );
        let less_one = packed.map_or(0, |packed| packed.get(code as usize));
        u32::try_from(less_one).map_or(u32::MAX, |count| count.saturating_add(1))
    }

    /// The entry of a code. Texts are decoded all when one is asked for first; [`Self::read`] does
    /// not.
    pub(crate) fn entry(&self, code: u32) -> Result<ValueRef<'_>> {
        let place = self.place(code)?;
        match &self.entries {
            Entries::Numbers { .. } => self.number(place),
            Entries::Texts { .. } => self.value(self.texts()?.get(place)),
        }
    }

    /// The entry of a code. A text is put together in `scratch`.
    pub(crate) fn read<'s>(&self, code: u32, scratch: &'s mut Vec<u8>) -> Result<ValueRef<'s>> {
        let place = self.place(code)?;
        if self.kind.is_number() {
            let bits = self.number(place)?.bits();
            return Ok(ValueRef::of_bits(self.kind, bits.unwrap_or(0)));
        }
        let mut walk = self.walk(place / TEXTS)?;
        for _ in 0..=place % TEXTS {
            walk.next(scratch)?;
        }
        self.value(scratch)
    }

    /// Hands over entries in order, from a code on, until `each` says no.
    pub(crate) fn each(
        &self,
        from: u32,
        each: &mut dyn FnMut(u32, ValueRef<'_>) -> bool,
    ) -> Result<()> {
        let from = from as usize;
        if from >= self.len {
            return Ok(());
        }
        let mut scratch = Vec::new();
        let mut walk = match self.kind.is_number() {
            true => None,
            false => Some(self.walk(from / TEXTS)?),
        };
        let first = if walk.is_some() {
            from / TEXTS * TEXTS
        } else {
            from
        };
        for place in first..self.len {
            let value = match &mut walk {
                None => self.number(place)?,
                Some(walk) => {
                    walk.next(&mut scratch)?;
                    if place < from {
                        continue;
                    }
                    self.value(&scratch)?
                }
            };
            if !each(u32::try_from(place).unwrap_or(u32::MAX), value) {
                break;
            }
        }
        Ok(())
    }

    /// The code of a value, when there is one.
    pub(crate) fn find(&self, value: ValueRef<'_>) -> Result<Option<u32>> {
        if !self.kind.is_of(value) {
            return Ok(None);
        }
        let (code, equal) = match value.bytes() {
            Some(bytes) => self.place_of_text(bytes)?,
            None => self.place_of_number(ordered(self.kind, value.bits().unwrap_or(0))),
        };
        Ok(equal.then_some(code))
    }

    /// The code of the first number that is not less (both ordered), or how many entries there are.
    pub(crate) fn lower_bound_number(&self, number: u64) -> u32 {
        self.place_of_number(number).0
    }

    /// All texts, decoded once.
    pub(crate) fn texts(&self) -> Result<&Texts> {
        if let Some(texts) = self.texts.get() {
            return Ok(texts);
        }
        let mut texts = Texts::with_capacity(self.len, 0);
        let mut walk = self.walk(0)?;
        let mut scratch = Vec::new();
        for _ in 0..self.len {
            walk.next(&mut scratch)?;
            texts.push(&scratch);
            if texts.bytes_len() > TEXT_BYTES_MAX {
                return Err(self.corrupt("the texts of a dictionary are too long together"));
            }
        }
        Ok(self.texts.get_or_init(|| texts))
    }

    /// Whether all texts are decoded.
    pub(crate) fn has_texts(&self) -> bool {
        self.texts.get().is_some()
    }

    /// The bits of all numbers, decoded once.
    pub(crate) fn numbers(&self) -> &[u64] {
        self.numbers.get_or_init(|| {
            let bits = |place| unordered(self.kind, self.ordered(place));
            match self.entries {
                Entries::Numbers { .. } => (0..self.len).map(bits).collect(),
                Entries::Texts { .. } => Vec::new(),
            }
        })
    }

    fn place(&self, code: u32) -> Result<usize> {
        let place = code as usize;
        if place >= self.len {
            return Err(self.corrupt("a code is not in its dictionary"));
        }
        Ok(place)
    }

    fn value<'t>(&self, text: &'t [u8]) -> Result<ValueRef<'t>> {
        if self.kind != Type::Str {
            return Ok(ValueRef::Bytes(text));
        }
        match std::str::from_utf8(text) {
            Ok(text) => Ok(ValueRef::Str(text)),
            Err(_) => Err(self.corrupt("text is not UTF-8")),
        }
    }

    /// A number as it is ordered.
    pub(crate) fn ordered(&self, place: usize) -> u64 {
        let Entries::Numbers { groups, packed } = &self.entries else {
            return 0;
        };
        let Some(&(first, start, width)) = groups.get(place / NUMBERS) else {
            return 0;
        };
        let count = (self.len - place / NUMBERS * NUMBERS).min(NUMBERS);
        let bytes = packed.get(start..).unwrap_or_default();
        let bytes = bytes.get(..packed_bytes(count, width)).unwrap_or_default();
        let above = Packed::new(&self.name, self.offset, bytes, count, width);
        first.wrapping_add(above.map_or(0, |above| above.get(place % NUMBERS)))
    }

    fn number(&self, place: usize) -> Result<ValueRef<'static>> {
        let bits = unordered(self.kind, self.ordered(place));
        Ok(ValueRef::of_bits(self.kind, bits))
    }

    fn place_of_number(&self, number: u64) -> (u32, bool) {
        let Entries::Numbers { groups, .. } = &self.entries else {
            return (0, false);
        };
        let group = groups.partition_point(|(first, ..)| *first <= number);
        let Some(group) = group.checked_sub(1) else {
            return (0, false);
        };
        let (mut from, mut to) = (group * NUMBERS, self.len.min((group + 1) * NUMBERS));
        while from < to {
            let middle = from + (to - from) / 2;
            match self.ordered(middle) < number {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        let equal = from < self.len && self.ordered(from) == number;
        (u32::try_from(from).unwrap_or(u32::MAX), equal)
    }

    fn place_of_text(&self, text: &[u8]) -> Result<(u32, bool)> {
        // The last group of which the first text is not greater.
        let (mut from, mut to) = (0, self.len.div_ceil(TEXTS));
        while from < to {
            let middle = from + (to - from) / 2;
            match self.walk(middle)?.first()? <= text {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        let Some(group) = from.checked_sub(1) else {
            return Ok((0, false));
        };
        let mut walk = self.walk(group)?;
        let mut scratch = Vec::new();
        let end = self.len.min((group + 1) * TEXTS);
        for place in group * TEXTS..end {
            walk.next(&mut scratch)?;
            if scratch.as_slice() >= text {
                let code = u32::try_from(place).unwrap_or(u32::MAX);
                return Ok((code, scratch == text));
            }
        }
        Ok((u32::try_from(end).unwrap_or(u32::MAX), false))
    }

    /// The texts from a group on.
    fn walk(&self, group: usize) -> Result<Walk<'_>> {
        let Entries::Texts { width, table, text } = &self.entries else {
            return Err(self.corrupt("a dictionary of numbers has no texts"));
        };
        let groups = self.len.div_ceil(TEXTS);
        let offset = Packed::new(&self.name, self.offset, table, groups, *width)?.get(group);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = text.get(from..);
        let rest = rest.ok_or_else(|| self.corrupt("a group of texts lies outside"))?;
        Ok(Walk {
            reader: Reader::new(&self.name, rest),
            place: 0,
        })
    }
}

/// Texts one after the other, from the start of a group.
struct Walk<'d> {
    reader: Reader<'d>,
    place: usize,
}

impl<'d> Walk<'d> {
    /// The first text of the group; nothing else may be read after it.
    fn first(&mut self) -> Result<&'d [u8]> {
        self.reader.bytes()
    }

    /// Replaces the text before by the next.
    fn next(&mut self, text: &mut Vec<u8>) -> Result<()> {
        let shared = match self.place % TEXTS {
            0 => 0,
            _ => usize::try_from(self.reader.varint()?).unwrap_or(usize::MAX),
        };
        if shared > text.len() {
            return Err(self.reader.corrupt("a text shares more than there is"));
        }
        text.truncate(shared);
        text.extend_from_slice(self.reader.bytes()?);
        self.place += 1;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests use small numbers")]
mod tests;
