//! Builds a frozen index from label sets that come in label order. Called by the writers of blocks.

use std::collections::HashMap;
use std::ops::Range;

use super::format::{GROUP_SETS, HEADER_BYTES, NAME_NUMBERS, SETS_MAX, VERSION};
use super::postings::put_postings;
use super::sets::{Coded, put_set};
use super::symbols::Pairs;
use crate::codec::put_u32;
use crate::error::{Error, Kind, Result};
use crate::labels::Labels;

/// Writes the index and the label sets of a block.
///
/// Memory: each distinct label with its text and about fifty bytes once, and eight bytes for each
/// label of each set.
#[derive(Debug, Default)]
pub struct FrozenWriter {
    names: Vec<Box<str>>,
    name_numbers: HashMap<Box<str>, u32>,
    pairs: Pairs,
    /// The pairs of all sets, one set after the other.
    sets: Vec<u32>,
    /// Where each set ends in `sets`.
    ends: Vec<usize>,
    last: Labels,
}

/// The pairs in their final order: by name, then value.
#[derive(Default)]
struct Sorted<'a> {
    /// Every name and value once, in order.
    symbols: Vec<&'a str>,
    /// For each name its symbol and the first of its pairs.
    names: Vec<(u32, u32)>,
    /// For each pair the symbol of its value.
    values: Vec<u32>,
    /// For each pair as it came its place in the order.
    places: Vec<u32>,
    /// For each pair, in order, its name's number and its number among the values of the name.
    coded: Vec<Coded>,
}

/// What [`FrozenWriter::postings`] makes.
struct Posted {
    bytes: Vec<u8>,
    /// References of the names, then of the values.
    names: Vec<u32>,
    values: Vec<u32>,
}

impl FrozenWriter {
    /// A writer of an index of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the label set of the next place. Sets come in label order, each once.
    pub fn push(&mut self, labels: &Labels) {
        debug_assert!(
            self.ends.is_empty() || self.last < *labels,
            "sets come in label order, each once"
        );
        let last = std::mem::replace(&mut self.last, labels.clone());
        let last_start = self.ends.iter().nth_back(1).copied().unwrap_or(0);
        // Most labels are those of the set before and need no look-up.
        let mut before = last.iter().zip(last_start..).peekable();
        for (name, value) in labels {
            while before.next_if(|((other, _), _)| *other < name).is_some() {}
            let same_name = before.next_if(|((other, _), _)| *other == name);
            let known = same_name.and_then(|((_, other), at)| Some((other, *self.sets.get(at)?)));
            let pair = match known {
                Some((other, pair)) if other == value => pair,
                Some((_, pair)) => self.pairs.number(self.pairs.name(pair), value),
                None => {
                    let name = self.name(name);
                    self.pairs.number(name, value)
                }
            };
            self.sets.push(pair);
        }
        self.ends.push(self.sets.len());
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(number) = self.name_numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).expect("the names fit memory");
        self.names.push(name.into());
        self.name_numbers.insert(name.into(), number);
        number
    }

    /// The bytes of the index. Equal sets give equal bytes.
    ///
    /// # Errors
    /// [`Kind::Limit`] when there are more than 2^31 - 1 sets, or when the texts or the sets take
    /// more than 4 GiB or the postings more than 2 GiB.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        let sets = length("label sets", self.ends.len(), SETS_MAX)?;
        self.pairs.close();
        let mut pairs = std::mem::take(&mut self.sets);
        let sorted = self.sort();
        for pair in &mut pairs {
            *pair = at(&sorted.places, *pair);
        }
        let posted = postings(&sorted, &pairs, &self.ends, sets);
        let (group_offsets, label_sets) = put_sets(&sorted, &pairs, &self.ends)?;

        let text_bytes = sorted.symbols.iter().map(|text| text.len()).sum();
        let tables = sorted.symbols.len() + 2 * sorted.values.len() + group_offsets.len();
        let mut out = Vec::with_capacity(
            4 * tables + text_bytes + posted.bytes.len() + label_sets.len() + HEADER_BYTES,
        );
        put_u32(&mut out, VERSION);
        put_u32(&mut out, sets);
        for (what, len, max) in [
            ("symbols", sorted.symbols.len(), u32::MAX),
            ("names", sorted.names.len(), u32::MAX / NAME_NUMBERS),
            ("values", sorted.values.len(), u32::MAX),
            ("bytes of text", text_bytes, u32::MAX),
            ("bytes of postings", posted.bytes.len(), SETS_MAX),
            ("bytes of label sets", label_sets.len(), u32::MAX),
        ] {
            put_u32(&mut out, length(what, len, max)?);
        }
        let mut end = 0u32;
        for text in &sorted.symbols {
            // The sum was checked above.
            end = end.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
            put_u32(&mut out, end);
        }
        for text in &sorted.symbols {
            out.extend_from_slice(text.as_bytes());
        }
        for ((symbol, first), present) in sorted.names.iter().zip(&posted.names) {
            for number in [symbol, first, present] {
                put_u32(&mut out, *number);
            }
        }
        put_numbers(&mut out, &sorted.values);
        put_numbers(&mut out, &posted.values);
        out.extend_from_slice(&posted.bytes);
        put_numbers(&mut out, &group_offsets);
        out.extend_from_slice(&label_sets);
        Ok(out)
    }

    /// Sorts symbols, names and values.
    fn sort(&self) -> Sorted<'_> {
        let names = (0u32..)
            .zip(&self.names)
            .map(|(n, text)| (true, n, &**text));
        let values = self
            .pairs
            .numbers()
            .map(|n| (false, n, self.pairs.value(n)));
        // Comparing the first bytes as a number saves most looks at the text.
        let mut texts: Vec<(u64, &str, u32, bool)> = names
            .chain(values)
            .map(|(is_name, number, text)| (first_bytes(text), text, number, is_name))
            .collect();
        texts.sort_unstable();
        let mut sorted = Sorted::default();
        let mut name_symbols = vec![0; self.names.len()];
        let mut value_symbols = vec![0; texts.len() - self.names.len()];
        for (_, text, number, is_name) in texts {
            if sorted.symbols.last() != Some(&text) {
                sorted.symbols.push(text);
            }
            let symbol = u32::try_from(sorted.symbols.len() - 1).unwrap_or(u32::MAX);
            let symbols = match is_name {
                true => &mut name_symbols,
                false => &mut value_symbols,
            };
            set(symbols, number, symbol);
        }

        let mut order: Vec<(u32, u32, u32)> = self
            .pairs
            .numbers()
            .map(|pair| {
                (
                    at(&name_symbols, self.pairs.name(pair)),
                    at(&value_symbols, pair),
                    pair,
                )
            })
            .collect();
        order.sort_unstable();
        sorted.places = vec![0; order.len()];
        sorted.values.reserve_exact(order.len());
        sorted.coded.reserve_exact(order.len());
        let mut first = 0;
        for (place, &(name, value, pair)) in (0u32..).zip(&order) {
            if sorted.names.last().is_none_or(|(last, _)| *last != name) {
                sorted.names.push((name, place));
                first = place;
            }
            let number = u32::try_from(sorted.names.len() - 1).unwrap_or(u32::MAX);
            sorted.values.push(value);
            set(&mut sorted.places, pair, place);
            sorted.coded.push((number, place - first));
        }
        sorted
    }
}

/// The postings of all names and values; `pairs` holds the pairs of each set, by their order.
fn postings(sorted: &Sorted<'_>, pairs: &[u32], ends: &[usize], sets: u32) -> Posted {
    // The places of every pair, in one vector: count, then fill.
    let mut pair_ends = vec![0usize; sorted.values.len()];
    for &pair in pairs {
        if let Some(count) = pair_ends.get_mut(pair as usize) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for end in &mut pair_ends {
        sum += std::mem::replace(end, sum);
    }
    let mut places = vec![0u32; pairs.len()];
    for (place, set) in (0u32..).zip(each_set(pairs, ends)) {
        for &pair in set {
            if let Some(end) = pair_ends.get_mut(pair as usize) {
                if let Some(slot) = places.get_mut(*end) {
                    *slot = place;
                }
                *end += 1;
            }
        }
    }
    let end_of = |pair: Option<usize>| pair.and_then(|pair| pair_ends.get(pair)).copied();
    let of = |pairs: Range<usize>| {
        let start = end_of(pairs.start.checked_sub(1)).unwrap_or(0);
        let end = end_of(pairs.end.checked_sub(1)).unwrap_or(0);
        places.get(start..end).unwrap_or_default()
    };

    let mut bytes = Vec::new();
    let firsts = sorted.names.iter().map(|(_, first)| *first as usize);
    let nexts = firsts.clone().skip(1).chain([sorted.values.len()]);
    let mut names = Vec::with_capacity(sorted.names.len());
    for (first, next) in firsts.zip(nexts) {
        let mut of_name = of(first..next).to_vec();
        // Most names are everywhere, which needs no order.
        if of_name.len() < sets as usize {
            of_name.sort_unstable();
        }
        names.push(put_postings(&mut bytes, &of_name, sets));
    }
    let values = (0..sorted.values.len())
        .map(|pair| put_postings(&mut bytes, of(pair..pair + 1), sets))
        .collect();
    Posted {
        bytes,
        names,
        values,
    }
}

/// The offsets of the groups, and the label sets.
fn put_sets(sorted: &Sorted<'_>, pairs: &[u32], ends: &[usize]) -> Result<(Vec<u32>, Vec<u8>)> {
    let mut offsets = Vec::new();
    let mut out = Vec::new();
    let (mut before, mut coded): (Vec<Coded>, Vec<Coded>) = (Vec::new(), Vec::new());
    for (place, set) in each_set(pairs, ends).enumerate() {
        if place.is_multiple_of(GROUP_SETS as usize) {
            offsets.push(length("bytes of label sets", out.len(), u32::MAX)?);
            before.clear();
        }
        coded.clear();
        coded.extend(
            set.iter()
                .filter_map(|pair| sorted.coded.get(*pair as usize)),
        );
        put_set(&mut out, &before, &coded);
        std::mem::swap(&mut before, &mut coded);
    }
    Ok((offsets, out))
}

/// The pairs of each set.
fn each_set<'a>(pairs: &'a [u32], ends: &'a [usize]) -> impl Iterator<Item = &'a [u32]> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let ranges = starts.zip(ends);
    ranges.map(|(start, end)| pairs.get(start..*end).unwrap_or_default())
}

/// The first eight bytes, which order as the text does where they differ.
fn first_bytes(text: &str) -> u64 {
    let bytes = text.as_bytes().iter().copied().chain(std::iter::repeat(0));
    bytes
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(byte))
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| put_u32(out, *number));
}

fn at(table: &[u32], index: u32) -> u32 {
    table.get(index as usize).copied().unwrap_or_default()
}

fn set(table: &mut [u32], index: u32, value: u32) {
    if let Some(slot) = table.get_mut(index as usize) {
        *slot = value;
    }
}

fn length(what: &str, len: usize, max: u32) -> Result<u32> {
    let fits = u32::try_from(len).ok().filter(|len| *len <= max);
    fits.ok_or_else(|| {
        Error::new(
            Kind::Limit,
            format!("a label index has {len} {what} and can hold {max}; write smaller blocks"),
        )
    })
}
