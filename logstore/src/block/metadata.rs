//! Structured metadata of a chunk as columns, one for each name (`FORMAT.md`, "Metadata"): called
//! by the block's writer and reader.
//!
//! Values that repeat are codes of a dictionary; ids and numbers, which do not, lie as binary.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;

use bytes::Bytes;
use trine_storage::Result;
use trine_storage::codec::{Reader, put_bytes, put_varint};
use trine_storage::labels::{pairs_of, put_pairs};

use super::format::CHUNK_ROWS_MAX;
use super::{column, digits};
use crate::sets::Sets;

/// Every entry has the same value.
const CONSTANT: u8 = 0;
/// Codes of a dictionary; code 0 for no value.
const DICTIONARY: u8 = 1;
/// Small hexadecimal digits, equally many in each value; two a byte.
const HEX: u8 = 2;
/// Decimal numbers as a number writes itself.
const NUMBER: u8 = 3;
/// Text.
const TEXT: u8 = 4;

/// Fewer distinct values are always a dictionary.
const DISTINCT_MIN: usize = 16;
/// More than the metadata of any chunk; a claim above it is damage.
const VALUES_BYTES_MAX: usize = 64 << 20;

/// The metadata of a chunk's entries, turned into columns.
#[derive(Debug, Default)]
pub(crate) struct Columns<'a> {
    /// By name.
    names: Vec<(&'a str, Values<'a>)>,
}

/// The values of one name.
#[derive(Debug, Default)]
struct Values<'a> {
    /// Code 1 is the first.
    dictionary: Vec<&'a str>,
    codes: HashMap<&'a str, u64>,
    /// For each entry its code.
    rows: Vec<u64>,
}

impl<'a> Columns<'a> {
    /// Columns of the entries whose sets `codes` name.
    pub(crate) fn new(sets: &'a Sets, codes: &[u32]) -> Self {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut columns: Vec<(&str, Values<'_>)> = Vec::new();
        // For each set its columns and codes there.
        let mut pairs: Vec<(usize, u64)> = Vec::new();
        let mut ends = vec![0];
        for set in sets.iter() {
            for (name, value) in pairs_of(set) {
                let next = columns.len();
                let column = *numbers.entry(name).or_insert(next);
                if column == next {
                    columns.push((name, Values::default()));
                }
                if let Some((_, values)) = columns.get_mut(column) {
                    let next = values.dictionary.len() as u64 + 1;
                    let code = *values.codes.entry(value).or_insert(next);
                    if code == next {
                        values.dictionary.push(value);
                    }
                    pairs.push((column, code));
                }
            }
            ends.push(pairs.len());
        }
        for (_, values) in &mut columns {
            values.rows = vec![0; codes.len()];
        }
        for (row, &set) in codes.iter().enumerate() {
            let set = usize::try_from(set).unwrap_or(usize::MAX);
            let end = ends.get(set).copied().unwrap_or(0);
            let start = set.checked_sub(1).and_then(|set| ends.get(set).copied());
            for &(column, code) in pairs.get(start.unwrap_or(0)..end).unwrap_or_default() {
                let slot = columns
                    .get_mut(column)
                    .and_then(|(_, v)| v.rows.get_mut(row));
                if let Some(slot) = slot {
                    *slot = code;
                }
            }
        }
        columns.sort_unstable_by_key(|(name, _)| *name);
        Self { names: columns }
    }

    /// The distinct values of a name and, for each entry, its code: 0 for none, n for the n-th.
    pub(crate) fn values(&self, name: &str) -> Option<(&[&'a str], &[u64])> {
        let found = self.names.iter().find(|(held, _)| *held == name);
        found.map(|(_, values)| (values.dictionary.as_slice(), values.rows.as_slice()))
    }

    /// Every distinct pair of name and value.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let of = |(name, values): &'_ (&'a str, Values<'a>)| {
            let name = *name;
            values
                .dictionary
                .clone()
                .into_iter()
                .map(move |value| (name, value))
        };
        self.names.iter().flat_map(of)
    }

    /// The bytes of the page.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.names.len() as u64);
        for (name, values) in &self.names {
            put_bytes(&mut out, name.as_bytes());
            let mut column = Vec::new();
            values.put(&mut column);
            put_bytes(&mut out, &column);
        }
        out
    }
}

impl Values<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        let present = self.rows.iter().filter(|&&code| code > 0).count();
        if let ([value], true) = (self.dictionary.as_slice(), present == self.rows.len()) {
            out.push(CONSTANT);
            out.extend_from_slice(value.as_bytes());
            return;
        }
        if self.dictionary.len() < DISTINCT_MIN || self.dictionary.len() < present / 2 {
            out.push(DICTIONARY);
            put_varint(out, self.dictionary.len() as u64);
            put_text(out, self.dictionary.iter().copied());
            column::put_numbers(out, &self.rows);
            return;
        }
        let values = || {
            let code = |code: &u64| usize::try_from(code.checked_sub(1)?).ok();
            let codes = self.rows.iter().filter_map(code);
            codes.filter_map(|code| self.dictionary.get(code).copied())
        };
        let hex_len = self.dictionary.first().map_or(0, |value| value.len());
        let is_hex = |value: &str| {
            let mut digits = value.bytes();
            value.len() == hex_len && digits.all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let shape = if hex_len > 0 && self.dictionary.iter().all(|value| is_hex(value)) {
            HEX
        } else if self
            .dictionary
            .iter()
            .all(|value| number_of(value).is_some())
        {
            NUMBER
        } else {
            TEXT
        };
        out.push(shape);
        let mut presence = Vec::new();
        let has_value: Vec<u64> = self.rows.iter().map(|&code| code.min(1)).collect();
        column::put_numbers(&mut presence, &has_value);
        put_bytes(out, &presence);
        match shape {
            HEX => {
                put_varint(out, hex_len as u64);
                let mut packed = Vec::with_capacity(present * hex_len.div_ceil(2));
                for value in values() {
                    digits::put_nibbles(&mut packed, value.as_bytes());
                }
                column::put_blob(out, &packed);
            }
            NUMBER => {
                let numbers: Vec<u64> = values().filter_map(number_of).collect();
                column::put_numbers(out, &numbers);
            }
            _ => put_text(out, values()),
        }
    }
}

/// Appends texts: their lengths, then all of them.
fn put_text<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = &'a str>) {
    let (mut lengths, mut text) = (Vec::new(), Vec::new());
    for value in values {
        lengths.push(value.len() as u64);
        text.extend_from_slice(value.as_bytes());
    }
    let mut column = Vec::new();
    column::put_numbers(&mut column, &lengths);
    put_bytes(out, &column);
    column.clear();
    column::put_blob(&mut column, &text);
    put_bytes(out, &column);
}

fn number_of(value: &str) -> Option<u64> {
    let canonical = value == "0" || !value.starts_with('0');
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits).then(|| value.parse().ok()).flatten()
}

/// The metadata of a chunk; a column is decoded when it is asked for.
#[derive(Debug)]
pub(crate) struct Metadata {
    name: String,
    rows: usize,
    columns: Vec<(String, Bytes)>,
}

/// One column of metadata: for each entry a code, for each code a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MetadataColumn {
    /// For each entry: 0 when it has no value, n for the n-th value. Two codes may have one value.
    pub(crate) codes: Vec<u32>,
    text: String,
    /// Where each value ends in the text.
    ends: Vec<usize>,
}

impl MetadataColumn {
    /// How many values there are, that of code 0 not counted.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The value of a code; empty for code 0.
    pub(crate) fn value(&self, code: u32) -> &str {
        let Some(at) = usize::try_from(code)
            .ok()
            .and_then(|code| code.checked_sub(1))
        else {
            return "";
        };
        let start = at.checked_sub(1).and_then(|at| self.ends.get(at).copied());
        let end = self.ends.get(at).copied().unwrap_or(0);
        self.text.get(start.unwrap_or(0)..end).unwrap_or_default()
    }

    /// The value of an entry; empty when it has none.
    pub(crate) fn of_row(&self, row: usize) -> &str {
        self.value(self.codes.get(row).copied().unwrap_or(0))
    }
}

impl Metadata {
    /// Reads the names of a page of `rows` entries; `name` is what errors call the file.
    pub(crate) fn read(name: &str, page: &Bytes, rows: u32) -> Result<Self> {
        let mut reader = Reader::new(name, page);
        let mut columns = Vec::new();
        for _ in 0..reader.count(2)? {
            let key = reader.text()?.to_owned();
            columns.push((key, page.slice_ref(reader.bytes()?)));
        }
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        Ok(Self {
            name: name.to_owned(),
            rows: rows.min(CHUNK_ROWS_MAX),
            columns,
        })
    }

    /// The names that entries of the chunk have values for, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// The column of a name; `None` when no entry has it.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when it is damaged.
    pub(crate) fn column(&self, name: &str) -> Result<Option<MetadataColumn>> {
        let found = self.columns.iter().find(|(held, _)| held == name);
        found.map(|(_, bytes)| self.decode(bytes)).transpose()
    }

    /// The sets of `rows`, and for each entry of the chunk a code of its set: 0 is the empty set,
    /// and what entries get that were not asked for.
    ///
    /// # Errors
    /// As [`Metadata::column`].
    pub(crate) fn sets_of(&self, rows: &[u32]) -> Result<(Sets, Vec<u32>)> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (name, bytes) in &self.columns {
            columns.push((name.as_str(), self.decode(bytes)?));
        }
        let mut sets = Sets::default();
        let mut codes = vec![0; self.rows];
        // Where every other entry has an id of its own there is no use in looking for equal sets.
        let repeats = columns.iter().all(|(_, c)| c.len() * 2 <= rows.len());
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        let (mut key, mut encoded) = (Vec::new(), Vec::new());
        for &row in rows {
            let row = usize::try_from(row).unwrap_or(usize::MAX);
            key.clear();
            let code_of = |column: &MetadataColumn| column.codes.get(row).copied().unwrap_or(0);
            key.extend(columns.iter().map(|(_, column)| code_of(column)));
            let Some(slot) = codes
                .get_mut(row)
                .filter(|_| key.iter().any(|&code| code > 0))
            else {
                continue;
            };
            *slot = match known.get(&key) {
                Some(&code) => code,
                None => {
                    let with_value = columns.iter().zip(&key).filter(|(_, code)| **code > 0);
                    encoded.clear();
                    put_pairs(
                        &mut encoded,
                        with_value.map(|((name, column), code)| (*name, column.value(*code))),
                    );
                    let code = sets.push_encoded(&encoded)?;
                    if repeats {
                        known.insert(key.clone(), code);
                    }
                    code
                }
            };
        }
        Ok((sets, codes))
    }

    /// Decodes every column.
    pub(crate) fn verify(&self) -> Result<()> {
        self.columns
            .iter()
            .try_for_each(|(_, bytes)| self.decode(bytes).map(drop))
    }

    fn decode(&self, bytes: &Bytes) -> Result<MetadataColumn> {
        let mut reader = Reader::new(&self.name, bytes);
        let shape = reader.u8()?;
        match shape {
            CONSTANT => {
                let rest = reader.take(reader.remaining())?;
                let text = utf8(&reader, rest.to_vec())?;
                Ok(MetadataColumn {
                    codes: vec![1; self.rows],
                    ends: vec![text.len()],
                    text,
                })
            }
            DICTIONARY => {
                let count = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
                let (text, ends) = read_text(&mut reader, count)?;
                let codes =
                    column::numbers(&self.name, reader.take(reader.remaining())?, self.rows)?;
                let code = |code: u64| u32::try_from(code).ok().filter(|_| code <= count as u64);
                let codes: Option<Vec<u32>> = codes.into_iter().map(code).collect();
                let codes = codes.ok_or_else(|| reader.corrupt("a code names nothing"))?;
                Ok(MetadataColumn { codes, text, ends })
            }
            HEX | NUMBER | TEXT => {
                let presence = column::numbers(&self.name, reader.bytes()?, self.rows)?;
                let mut next = 0u32;
                let code = |has: u64| {
                    let has = u32::from(has > 0);
                    next += has;
                    next * has
                };
                let codes: Vec<u32> = presence.into_iter().map(code).collect();
                let count = usize::try_from(next).unwrap_or(usize::MAX);
                let (text, ends) = match shape {
                    HEX => self.read_hex(&mut reader, count)?,
                    NUMBER => {
                        let rest = reader.take(reader.remaining())?;
                        let (mut text, mut ends) = (String::new(), Vec::with_capacity(count));
                        for number in column::numbers(&self.name, rest, count)? {
                            text.push_str(&number.to_string());
                            ends.push(text.len());
                        }
                        (text, ends)
                    }
                    _ => read_text(&mut reader, count)?,
                };
                Ok(MetadataColumn { codes, text, ends })
            }
            _ => Err(reader.corrupt("metadata is stored in an unknown way")),
        }
    }

    fn read_hex(&self, reader: &mut Reader<'_>, count: usize) -> Result<(String, Vec<usize>)> {
        let len = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        if len == 0 || len.saturating_mul(count) > VALUES_BYTES_MAX {
            return Err(reader.corrupt("metadata is longer than any chunk's"));
        }
        let width = len.div_ceil(2);
        let packed = column::blob(&self.name, reader.take(reader.remaining())?, count * width)?;
        let mut text = vec![0; count * len];
        for (slot, value) in text.chunks_exact_mut(len).zip(packed.chunks_exact(width)) {
            digits::write_hex(slot, value, &digits::HEX_LOWER);
        }
        Ok((utf8(reader, text)?, (1..=count).map(|n| n * len).collect()))
    }
}

fn read_text(reader: &mut Reader<'_>, count: usize) -> Result<(String, Vec<usize>)> {
    if count > CHUNK_ROWS_MAX {
        return Err(reader.corrupt("there are more values than entries"));
    }
    let lengths = column::numbers("lengths of metadata", reader.bytes()?, count)?;
    let mut ends = Vec::with_capacity(count);
    let mut end = 0usize;
    for length in lengths {
        end = usize::try_from(length)
            .ok()
            .and_then(|len| end.checked_add(len))
            .unwrap_or(usize::MAX);
        ends.push(end);
    }
    if end > VALUES_BYTES_MAX {
        return Err(reader.corrupt("metadata is longer than any chunk's"));
    }
    let text = column::blob("text of metadata", reader.bytes()?, end)?;
    let text = utf8(reader, text)?;
    if ends.iter().any(|&end| !text.is_char_boundary(end)) {
        return Err(reader.corrupt("a value is cut within a character"));
    }
    Ok((text, ends))
}

fn utf8(reader: &Reader<'_>, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| reader.corrupt("text is not UTF-8"))
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small tables")]
mod tests {
    use proptest::prelude::*;
    use trine_storage::Labels;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn read(sets: &[Labels], codes: &[u32]) -> Metadata {
        let page = Bytes::from(Columns::new(&Sets::of(sets), codes).encode());
        Metadata::read("test", &page, codes.len() as u32).unwrap()
    }

    /// The bytes written down in FORMAT.md, "Metadata".
    #[test]
    fn golden_bytes() {
        let sets = [
            Labels::empty(),
            labels(&[("a", "x"), ("b", "y")]),
            labels(&[("b", "y")]),
        ];
        #[rustfmt::skip]
        let expected = [
            2, // names
            1, b'a', 13, 1, 1, // "a": a dictionary of one value
            3, 0, 1, 0, 2, 0, b'x', // its length, its text
            0, 0, 1, 0b10, // codes of the entries
            1, b'b', 2, 0, b'y', // "b": always "y"
        ];
        assert_eq!(Columns::new(&Sets::of(&sets), &[2, 1]).encode(), expected);
    }

    #[test]
    fn every_shape_comes_back() {
        let (mut sets, mut codes) = (vec![Labels::empty()], vec![0]);
        for n in 0..200u64 {
            let id = format!(
                "{:032x}",
                u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c)
            );
            let (number, text) = ((n * n * 7).to_string(), format!("Text {n}"));
            let level = ["info", "warn"][n as usize % 2];
            let mut pairs = vec![("detected_level", level), ("n", &number), ("trace_id", &id)];
            if n % 3 == 0 {
                pairs.push(("words", &text));
            }
            sets.push(labels(&pairs));
            codes.push(sets.len() as u32 - 1);
        }
        let metadata = read(&sets, &codes);
        let names: Vec<&str> = metadata.names().collect();
        assert_eq!(names, ["detected_level", "n", "trace_id", "words"]);
        for name in names {
            let column = metadata.column(name).unwrap().unwrap();
            for (row, &code) in codes.iter().enumerate() {
                let expected = sets[code as usize].get(name).unwrap_or("");
                assert_eq!(column.of_row(row), expected, "{name} of {row}");
            }
        }
        assert_eq!(metadata.column("none").unwrap(), None);
        let page = Columns::new(&Sets::of(&sets), &codes).encode();
        assert!(
            page.len() < 200 * (16 + 4 + 4),
            "ids are binary: {}",
            page.len()
        );
    }

    fn any_set() -> impl Strategy<Value = Labels> {
        let value = prop_oneof!["[a-c]{0,2}", "[0-9a-f]{8}", "[1-9][0-9]{0,5}", "\\PC{0,4}"];
        prop::collection::btree_map("[ab]", value, 0..3)
            .prop_map(|pairs| Labels::from_pairs(pairs).unwrap())
    }

    proptest! {
        #[test]
        fn sets_come_back(
            sets in prop::collection::vec(any_set(), 0..40),
            rows in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
            wanted in prop::collection::vec(any::<bool>(), 60),
        ) {
            let sets: Vec<Labels> = std::iter::once(Labels::empty()).chain(sets).collect();
            let codes: Vec<u32> = rows.iter().map(|row| row.index(sets.len()) as u32).collect();
            let metadata = read(&sets, &codes);
            let asked: Vec<u32> = (0..codes.len() as u32).filter(|&r| wanted[r as usize]).collect();
            let (found, found_codes) = metadata.sets_of(&asked).unwrap();
            for row in asked {
                let row = row as usize;
                prop_assert_eq!(&found.labels(found_codes[row]), &sets[codes[row] as usize]);
            }
            metadata.verify().unwrap();
        }

        #[test]
        fn damage_is_told_or_harmless(
            sets in prop::collection::vec(any_set(), 1..40),
            at: prop::sample::Index,
            flip in 1..=255u8,
        ) {
            let sets: Vec<Labels> = std::iter::once(Labels::empty()).chain(sets).collect();
            let codes: Vec<u32> = (0..sets.len() as u32).collect();
            let mut page = Columns::new(&Sets::of(&sets), &codes).encode();
            let at = at.index(page.len());
            page[at] ^= flip;
            for page in [&page[..], &page[..at]] {
                let page = Bytes::copy_from_slice(page);
                if let Ok(metadata) = Metadata::read("test", &page, codes.len() as u32) {
                    metadata.verify().ok();
                    metadata.sets_of(&codes).ok();
                }
            }
        }
    }
}
