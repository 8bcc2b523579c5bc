//! The lines of a chunk, split into text and variables (`FORMAT.md`, "Lines"): called by the
//! block's writer and reader.
//!
//! Numbers and ids leave the text and lie in typed columns, one for each class and length; a byte
//! that no line has stands in for each. What remains, the *skeleton*, repeats from line to line, so
//! that it is smaller and faster to unpack than the lines were, and most needles can be searched in
//! it. Parts of ids are searched in the columns. (After CLP: Rodrigues et al., OSDI 2021.)

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;

use bytes::Bytes;
use memchr::memmem::Finder;
use memchr::{memchr_iter, memchr2, memchr2_iter};
use trine_storage::codec::{Reader, put_bytes, put_varint};
use trine_storage::{Error, Result};

use super::column;
use crate::index::token::{Class, ID_DIGITS_MIN, ID_HEX_MIN, is_token_byte, tokens};

/// Runs of fewer digits stay in the text.
const DIGITS_MIN: usize = 3;
/// The most digits of a number: all of that length fit 64 bits.
const DIGITS_MAX: usize = 19;
/// Kinds of variables are numbered by one byte.
const KINDS_MAX: usize = 256;
/// More than the lines of any chunk; a claim above it is damage.
const LINES_BYTES_MAX: usize = 64 << 20;

/// The lines follow each other.
const WHOLE: u8 = 0;
/// The lines are split.
const SPLIT: u8 = 1;

/// What kind of variable: its class and how many bytes it takes in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    class: VariableClass,
    len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum VariableClass {
    /// A decimal number, with leading zeros if need be.
    Number,
    /// Hexadecimal digits, small letters; two a byte.
    HexLower,
    /// Hexadecimal digits, capital letters; two a byte.
    HexUpper,
    /// An id as it is.
    Text,
    /// The timestamp of the entry in units of 10^(19-len) ns; nothing is stored.
    Time,
}

impl VariableClass {
    const ALL: [Self; 5] = [
        Self::Number,
        Self::HexLower,
        Self::HexUpper,
        Self::Text,
        Self::Time,
    ];

    fn number(self) -> u8 {
        match self {
            Self::Number => 0,
            Self::HexLower => 1,
            Self::HexUpper => 2,
            Self::Text => 3,
            Self::Time => 4,
        }
    }
}

/// The lines of a chunk that is being put together, each followed by a line feed.
#[derive(Debug, Default)]
pub(crate) struct LineBuilder {
    text: Vec<u8>,
    /// Where the line feed after each line is.
    ends: Vec<u32>,
}

/// The pages of a chunk's lines, not packed yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EncodedLines {
    /// How long each line is.
    pub(crate) lengths: Vec<u8>,
    /// The skeleton, or the lines as they are.
    pub(crate) text: Vec<u8>,
    /// How to read it, and the variables.
    pub(crate) variables: Vec<u8>,
}

impl LineBuilder {
    /// Adds a line. The caller bounds a chunk far below 4 GiB.
    pub(crate) fn push(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.ends
            .push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.text.push(b'\n');
    }

    /// Bytes of the lines.
    pub(crate) fn line_bytes(&self) -> usize {
        self.text.len() - self.ends.len()
    }

    /// How many lines there are.
    pub(crate) fn rows(&self) -> usize {
        self.ends.len()
    }

    /// Where a line lies in the text.
    pub(crate) fn line_end(&self, row: usize) -> usize {
        self.ends.get(row).map_or(0, |&end| end as usize)
    }

    /// Forgets the lines and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Splits the lines, whose entries have these timestamps. Every token is handed to `index`.
    pub(crate) fn encode(
        &mut self,
        timestamps: &[i64],
        mut index: impl FnMut(&[u8], Class),
    ) -> EncodedLines {
        let Some([terminator, placeholder]) = self.unused_bytes() else {
            return self.encode_whole(index);
        };
        if terminator != b'\n' {
            for &end in &self.ends {
                if let Some(byte) = self.text.get_mut(end as usize) {
                    *byte = terminator;
                }
            }
        }
        let mut split = Split {
            text: &self.text,
            ends: &self.ends,
            timestamps,
            row: 0,
            copied: 0,
            skeleton: Vec::with_capacity(self.text.len()),
            placeholder,
            variables: Variables::default(),
        };
        tokens(&self.text, |token| {
            if let Some(bytes) = self.text.get(token.start..token.end) {
                index(bytes, token.class);
                split.token(token.start, bytes, token.class);
            }
        });
        split.copy_until(self.text.len());
        let Split {
            skeleton, variables, ..
        } = split;
        if variables.columns.len() > KINDS_MAX {
            // The tokens were handed over already.
            return self.encode_whole(|_, _| {});
        }
        let mut out = vec![SPLIT, terminator, placeholder];
        variables.put(&mut out);
        EncodedLines {
            lengths: self.lengths(),
            text: skeleton,
            variables: out,
        }
    }

    fn encode_whole(&self, mut index: impl FnMut(&[u8], Class)) -> EncodedLines {
        let mut blob = Vec::with_capacity(self.line_bytes());
        let mut start = 0;
        for &end in &self.ends {
            let line = self.text.get(start..end as usize).unwrap_or_default();
            tokens(line, |token| {
                index(line.get(token.start..token.end).unwrap_or_default(), token.class);
            });
            blob.extend_from_slice(line);
            start = end as usize + 1;
        }
        EncodedLines {
            lengths: self.lengths(),
            text: blob,
            variables: vec![WHOLE],
        }
    }

    fn lengths(&self) -> Vec<u8> {
        let mut start = 0;
        let mut length = |&end: &u32| {
            let length = u64::from(end - start);
            start = end + 1;
            length
        };
        let lengths: Vec<u64> = self.ends.iter().map(&mut length).collect();
        let mut out = Vec::new();
        column::put_numbers(&mut out, &lengths);
        out
    }

    /// A byte to end lines and one to stand in for variables: no token bytes, and in no line.
    fn unused_bytes(&self) -> Option<[u8; 2]> {
        let mut is_used = [false; 256];
        for &byte in &self.text {
            if let Some(flag) = is_used.get_mut(usize::from(byte)) {
                *flag = true;
            }
        }
        // Every line ends in one, so it is free when it occurs no more often than that.
        let line_feeds = memchr_iter(b'\n', &self.text).count();
        is_used[usize::from(b'\n')] = line_feeds > self.rows();
        let unused = |byte: &u8| {
            !is_token_byte(*byte) && is_used.get(usize::from(*byte)).is_some_and(|used| !used)
        };
        let mut free = std::iter::once(b'\n').chain(0..b'\n').chain(11..0x80).filter(unused);
        Some([free.next()?, free.next()?])
    }
}

/// Lines while they are split.
struct Split<'a> {
    text: &'a [u8],
    ends: &'a [u32],
    timestamps: &'a [i64],
    /// The line of the last token.
    row: usize,
    /// How much of the text is in the skeleton or among the variables.
    copied: usize,
    skeleton: Vec<u8>,
    placeholder: u8,
    variables: Variables,
}

impl Split<'_> {
    fn token(&mut self, start: usize, bytes: &[u8], class: Class) {
        match class {
            Class::Digits => self.digits(start, bytes, true),
            Class::Hex => {
                let has = |of: fn(&u8) -> bool| bytes.iter().any(of);
                let class = match (
                    has(u8::is_ascii_lowercase),
                    has(u8::is_ascii_uppercase),
                ) {
                    (true, true) => VariableClass::Text,
                    (_, true) => VariableClass::HexUpper,
                    _ => VariableClass::HexLower,
                };
                self.take(start, bytes.len());
                self.variables.bytes(class, bytes);
            }
            Class::Word | Class::Long => {
                if bytes.len() < DIGITS_MIN {
                    return;
                }
                let mut at = 0;
                while let Some(rest) = bytes.get(at..) {
                    let Some(skip) = rest.iter().position(u8::is_ascii_digit) else {
                        return;
                    };
                    let rest = rest.get(skip..).unwrap_or_default();
                    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    if (DIGITS_MIN..=DIGITS_MAX).contains(&len) {
                        self.digits(start + at + skip, rest.get(..len).unwrap_or_default(), false);
                    }
                    at += skip + len;
                }
            }
        }
    }

    fn digits(&mut self, start: usize, bytes: &[u8], is_token: bool) {
        self.take(start, bytes.len());
        if bytes.len() > DIGITS_MAX {
            self.variables.bytes(VariableClass::Text, bytes);
            return;
        }
        let number = bytes
            .iter()
            .fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
        if is_token && matches!(bytes.len(), 10 | 13 | 16 | 19) {
            while self.ends.get(self.row).is_some_and(|&end| (end as usize) < start) {
                self.row += 1;
            }
            let timestamp = self.timestamps.get(self.row).copied();
            if timestamp.and_then(|t| time_as_number(t, bytes.len())) == Some(number) {
                self.variables.time(bytes.len());
                return;
            }
        }
        self.variables.number(bytes.len(), number);
    }

    /// Copies the text before a variable and puts the stand-in.
    fn take(&mut self, start: usize, len: usize) {
        self.copy_until(start);
        self.skeleton.push(self.placeholder);
        self.copied = start + len;
    }

    fn copy_until(&mut self, end: usize) {
        let text = self.text.get(self.copied..end).unwrap_or_default();
        self.skeleton.extend_from_slice(text);
        self.copied = end;
    }
}

/// A timestamp as `len` digits tell it, when it has as many.
fn time_as_number(timestamp: i64, len: usize) -> Option<u64> {
    let drop = u32::try_from(DIGITS_MAX.checked_sub(len)?).ok()?;
    let number = u64::try_from(timestamp).ok()? / 10u64.pow(drop);
    let least = 10u64.pow(u32::try_from(len).ok()?.saturating_sub(1));
    (number >= least).then_some(number)
}

/// The variables of a chunk while it is written.
#[derive(Debug, Default)]
struct Variables {
    codes: HashMap<Kind, usize>,
    /// Code of the numbers of each length, plus one.
    number_codes: [usize; DIGITS_MAX + 1],
    columns: Vec<(Kind, Values)>,
    /// The code of each variable, in order.
    order: Vec<u8>,
}

#[derive(Debug, Default)]
struct Values {
    count: usize,
    numbers: Vec<u64>,
    bytes: Vec<u8>,
}

impl Variables {
    fn number(&mut self, len: usize, number: u64) {
        let known = self.number_codes.get(len).copied().unwrap_or(0);
        let code = known.checked_sub(1).unwrap_or_else(|| {
            let code = self.code(VariableClass::Number, len);
            if let Some(slot) = self.number_codes.get_mut(len) {
                *slot = code + 1;
            }
            code
        });
        if let Some(values) = self.values(code) {
            values.numbers.push(number);
        }
    }

    fn bytes(&mut self, class: VariableClass, bytes: &[u8]) {
        let code = self.code(class, bytes.len());
        let Some(values) = self.values(code) else {
            return;
        };
        if class == VariableClass::Text {
            values.bytes.extend_from_slice(bytes);
            return;
        }
        for pair in bytes.chunks(2) {
            let nibble = |at: usize| pair.get(at).copied().and_then(nibble_of).unwrap_or(0);
            values.bytes.push(nibble(0) << 4 | nibble(1));
        }
    }

    fn time(&mut self, len: usize) {
        let code = self.code(VariableClass::Time, len);
        self.values(code);
    }

    fn code(&mut self, class: VariableClass, len: usize) -> usize {
        let kind = Kind { class, len };
        let next = self.columns.len();
        let code = *self.codes.entry(kind).or_insert(next);
        if code == next {
            self.columns.push((kind, Values::default()));
        }
        code
    }

    /// The column of the next variable, which is counted.
    fn values(&mut self, code: usize) -> Option<&mut Values> {
        self.order.push(u8::try_from(code).unwrap_or(u8::MAX));
        let (_, values) = self.columns.get_mut(code)?;
        values.count += 1;
        Some(values)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.columns.len() as u64);
        let mut column = Vec::new();
        for (kind, values) in &self.columns {
            out.push(kind.class.number());
            put_varint(out, kind.len as u64);
            put_varint(out, values.count as u64);
            column.clear();
            match kind.class {
                VariableClass::Number => column::put_numbers(&mut column, &values.numbers),
                VariableClass::Time => {}
                _ => column::put_blob(&mut column, &values.bytes),
            }
            put_bytes(out, &column);
        }
        column.clear();
        column::put_blob(&mut column, &self.order);
        put_bytes(out, &column);
    }
}

/// The lines of a chunk, as far as they are unpacked.
#[derive(Debug)]
pub(crate) struct PackedLines {
    name: String,
    text: Vec<u8>,
    layout: Layout,
    /// Where each line ends when they are expanded.
    ends: Vec<u32>,
}

#[derive(Debug)]
enum Layout {
    Whole,
    Split {
        terminator: u8,
        placeholder: u8,
        variables: VariableColumns,
    },
}

/// The variables of a chunk, not decoded yet.
#[derive(Debug)]
pub(crate) struct VariableColumns {
    /// False when the lines are not split, and then ids may lie anywhere.
    is_split: bool,
    columns: Vec<StoredColumn>,
    order: Bytes,
    /// How many variables there are.
    count: usize,
}

#[derive(Debug)]
struct StoredColumn {
    kind: Kind,
    count: usize,
    bytes: Bytes,
}

/// Where a needle can be in the lines of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It has a byte that no line has.
    Nowhere,
    /// It touches no variable: searching the skeleton will do.
    Skeleton,
    /// The lines themselves must be searched.
    Lines,
}

/// A part of a token that is looked for among ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) bytes: &'a [u8],
    /// The token may have more bytes before it.
    pub(crate) open_left: bool,
    /// The token may have more bytes after it.
    pub(crate) open_right: bool,
    /// Case does not matter.
    pub(crate) fold: bool,
}

/// What every variables page begins with.
struct Head {
    layout: u8,
    terminator: u8,
    placeholder: u8,
}

fn read_head(reader: &mut Reader<'_>) -> Result<Head> {
    let layout = reader.u8()?;
    let mut head = Head {
        layout,
        terminator: 0,
        placeholder: 0,
    };
    match layout {
        WHOLE => {}
        SPLIT => {
            head.terminator = reader.u8()?;
            head.placeholder = reader.u8()?;
            if head.terminator == head.placeholder {
                return Err(reader.corrupt("a byte has two meanings"));
            }
        }
        _ => return Err(reader.corrupt("lines are laid out in an unknown way")),
    }
    Ok(head)
}

/// Reads the lengths page of a chunk of `rows` entries: where each line ends.
pub(crate) fn read_ends(name: &str, page: &[u8], rows: usize) -> Result<Vec<u32>> {
    let mut end = 0u64;
    let mut ends = Vec::with_capacity(rows);
    for length in column::numbers(name, page, rows)? {
        end = end.saturating_add(length);
        let fits = u32::try_from(end).ok().filter(|_| end <= LINES_BYTES_MAX as u64);
        ends.push(fits.ok_or_else(|| Error::corrupt(name, 0, "lines are larger than any chunk's"))?);
    }
    Ok(ends)
}

impl VariableColumns {
    /// Reads the variables page of a chunk; columns are decoded when they are asked for.
    pub(crate) fn read(name: &str, page: &Bytes) -> Result<Self> {
        let mut reader = Reader::new(name, page);
        let head = read_head(&mut reader)?;
        Self::read_columns(&mut reader, page, head.layout == SPLIT)
    }

    fn read_columns(reader: &mut Reader<'_>, page: &Bytes, is_split: bool) -> Result<Self> {
        let mut columns = Self {
            is_split,
            columns: Vec::new(),
            order: Bytes::new(),
            count: 0,
        };
        if !is_split {
            return Ok(columns);
        }
        for _ in 0..reader.count(4)? {
            let class = reader.u8()?;
            let class = VariableClass::ALL
                .into_iter()
                .find(|known| known.number() == class)
                .ok_or_else(|| reader.corrupt("a variable has an unknown class"))?;
            let len = usize::try_from(reader.varint()?).ok();
            let most = match class {
                VariableClass::Number | VariableClass::Time => DIGITS_MAX,
                _ => LINES_BYTES_MAX,
            };
            let len = len
                .filter(|len| (1..=most).contains(len))
                .ok_or_else(|| reader.corrupt("a variable has an impossible length"))?;
            let count = usize::try_from(reader.varint()?).ok();
            let count = count
                .filter(|count| count.saturating_mul(len) <= LINES_BYTES_MAX)
                .ok_or_else(|| reader.corrupt("variables are longer than any chunk"))?;
            columns.count = columns.count.saturating_add(count);
            columns.columns.push(StoredColumn {
                kind: Kind { class, len },
                count,
                bytes: page.slice_ref(reader.bytes()?),
            });
        }
        if columns.columns.len() > KINDS_MAX {
            return Err(reader.corrupt("there are too many kinds of variables"));
        }
        columns.order = page.slice_ref(reader.bytes()?);
        Ok(columns)
    }

    /// Whether an id of the chunk may contain `part`. Exact for ids, save for parts that are too
    /// short to be looked for. `timestamps` gives those of the chunk.
    pub(crate) fn may_contain(
        &self,
        name: &str,
        part: Part<'_>,
        timestamps: impl Fn() -> Result<Vec<i64>>,
    ) -> Result<bool> {
        const SHORT: usize = 4;
        if !self.is_split || part.bytes.len() < SHORT {
            return Ok(true);
        }
        let all = |of: fn(&u8) -> bool| part.bytes.iter().all(of);
        let is_number = all(u8::is_ascii_digit);
        if !all(u8::is_ascii_hexdigit) {
            return Ok(false);
        }
        let small = all(|byte| !byte.is_ascii_uppercase()) || part.fold;
        let capital = all(|byte| !byte.is_ascii_lowercase()) || part.fold;
        for column in &self.columns {
            let Kind { class, len } = column.kind;
            let open = part.open_left || part.open_right;
            let fits = part.bytes.len() == len || open && part.bytes.len() < len;
            if !fits {
                continue;
            }
            let found = match class {
                VariableClass::Number if is_number && len >= ID_DIGITS_MIN => {
                    let numbers = column::numbers(name, &column.bytes, column.count)?;
                    has_part(&render(numbers.into_iter(), len), len, part)
                }
                VariableClass::Time if is_number => {
                    let times = timestamps()?;
                    let numbers = times.into_iter().filter_map(|t| time_as_number(t, len));
                    has_part(&render(numbers, len), len, part)
                }
                VariableClass::HexLower if small => hex_has_part(&column.hex(name)?, len, part),
                VariableClass::HexUpper if capital => hex_has_part(&column.hex(name)?, len, part),
                VariableClass::Text => {
                    let text = column::blob(name, &column.bytes, column.count * len)?;
                    has_part(&text, len, part)
                }
                _ => false,
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl StoredColumn {
    fn hex(&self, name: &str) -> Result<Vec<u8>> {
        column::blob(name, &self.bytes, self.count * self.kind.len.div_ceil(2))
    }
}

impl Part<'_> {
    /// Whether a hit from `start` on in a token of `len` bytes is allowed.
    fn fits(&self, start: usize, len: usize) -> bool {
        let end = start + self.bytes.len();
        end <= len && (start == 0 || self.open_left) && (end == len || self.open_right)
    }
}

/// Numbers as text, each of `len` digits.
fn render(numbers: impl Iterator<Item = u64>, len: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for number in numbers {
        put_digits(&mut text, number, len);
    }
    text
}

/// Whether one of the tokens of `len` bytes, which follow each other in `text`, has `part`.
fn has_part(text: &[u8], len: usize, part: Part<'_>) -> bool {
    if part.fold {
        return text.chunks_exact(len).any(|token| {
            let mut windows = token.windows(part.bytes.len()).enumerate();
            windows.any(|(at, window)| {
                window.eq_ignore_ascii_case(part.bytes) && part.fits(at, len)
            })
        });
    }
    let finder = Finder::new(part.bytes);
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| finder.find(rest)) {
        let at = from + found;
        if part.fits(at % len, len) {
            return true;
        }
        from = at + 1;
    }
    false
}

/// As [`has_part`], over tokens of `len` hexadecimal digits, two a byte.
fn hex_has_part(packed: &[u8], len: usize, part: Part<'_>) -> bool {
    let digits: Vec<u8> = part.bytes.iter().copied().filter_map(nibble_of).collect();
    let width = len.div_ceil(2);
    // The part may begin at the high or at the low half of a byte.
    for skipped in [0usize, 1] {
        let whole = digits.get(skipped..).unwrap_or_default();
        let (pairs, last) = whole.as_chunks::<2>();
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        let before = digits.first().filter(|_| skipped == 1);
        let finder = Finder::new(&bytes);
        let mut from = 0;
        while let Some(found) = packed.get(from..).and_then(|rest| finder.find(rest)) {
            let at = from + found;
            from = at + 1;
            let in_token = at % width;
            // A token that begins in the token before this one is none.
            let Some(start) = (2 * in_token).checked_sub(skipped) else {
                continue;
            };
            let byte = |at: usize| packed.get(at).copied();
            let first_fits = before.is_none_or(|&nibble| {
                let held = at.checked_sub(1).and_then(byte);
                held.is_some_and(|held| held & 15 == nibble)
            });
            let last_fits = last.first().is_none_or(|&nibble| {
                byte(at + bytes.len()).is_some_and(|held| held >> 4 == nibble)
            });
            if first_fits && last_fits && part.fits(start, len) {
                return true;
            }
        }
    }
    false
}

pub(crate) fn nibble_of(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl PackedLines {
    /// The lines of a chunk, from its text page, its variables page and what [`read_ends`] gave.
    pub(crate) fn read(name: &str, text: Vec<u8>, page: &Bytes, ends: Vec<u32>) -> Result<Self> {
        let mut reader = Reader::new(name, page);
        let head = read_head(&mut reader)?;
        let layout = if head.layout == WHOLE {
            if ends.last().map_or(0, |&end| end as usize) != text.len() {
                return Err(reader.corrupt("lines are not as long as their lengths say"));
            }
            Layout::Whole
        } else {
            Layout::Split {
                terminator: head.terminator,
                placeholder: head.placeholder,
                variables: VariableColumns::read_columns(&mut reader, page, true)?,
            }
        };
        Ok(Self {
            name: name.to_owned(),
            text,
            layout,
            ends,
        })
    }

    /// Where `needle` is to be searched.
    pub(crate) fn place_of(&self, needle: &[u8]) -> Place {
        let Layout::Split {
            terminator,
            placeholder,
            ..
        } = self.layout
        else {
            return Place::Skeleton;
        };
        if memchr2(terminator, placeholder, needle).is_some() {
            Place::Nowhere
        } else if is_plain(needle) {
            Place::Skeleton
        } else {
            Place::Lines
        }
    }

    /// Text in which a needle whose [`PackedLines::place_of`] is [`Place::Skeleton`] is found exactly
    /// in the lines that have it, and where the part of each line ends in it.
    pub(crate) fn skeleton(&self) -> (&[u8], Vec<u32>) {
        match &self.layout {
            Layout::Whole => (&self.text, self.ends.clone()),
            Layout::Split { terminator, .. } => {
                let mut ends = Vec::with_capacity(self.ends.len());
                let after = |at: usize| u32::try_from(at + 1).unwrap_or(u32::MAX);
                ends.extend(memchr_iter(*terminator, &self.text).map(after));
                // A damaged page may have others; what is asked for is there in any case.
                ends.resize(self.ends.len(), ends.last().copied().unwrap_or(0));
                (&self.text, ends)
            }
        }
    }

    /// All lines in one piece, and where each ends.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when text and variables do not fit.
    pub(crate) fn expand(&self, timestamps: &[i64]) -> Result<(Vec<u8>, Vec<u32>)> {
        self.expand_rows(timestamps, |_| true)
    }

    /// As [`PackedLines::expand`]; the lines for which `wanted` says no are left empty.
    pub(crate) fn expand_rows(
        &self,
        timestamps: &[i64],
        wanted: impl Fn(usize) -> bool,
    ) -> Result<(Vec<u8>, Vec<u32>)> {
        let (terminator, placeholder, variables) = match &self.layout {
            Layout::Whole => return Ok((self.text.clone(), self.ends.clone())),
            Layout::Split {
                terminator,
                placeholder,
                variables,
            } => (*terminator, *placeholder, variables),
        };
        let bad = || Error::corrupt(&*self.name, 0, "the variables of lines do not fit their text");
        let order = column::blob(&self.name, &variables.order, variables.count)?;
        let mut columns = Vec::with_capacity(variables.columns.len());
        for column in &variables.columns {
            columns.push(Cursor::new(&self.name, column)?);
        }
        let mut order = order.iter();
        let line_bytes = self.ends.last().map_or(0, |&end| end as usize);
        let rows = self.ends.len();
        let mut out = Vec::with_capacity(line_bytes);
        let mut ends = Vec::with_capacity(rows);
        let (mut row, mut copied, mut is_wanted) = (0, 0, wanted(0));
        for at in memchr2_iter(placeholder, terminator, &self.text) {
            if is_wanted {
                out.extend_from_slice(self.text.get(copied..at).ok_or_else(bad)?);
            }
            copied = at + 1;
            if self.text.get(at) == Some(&terminator) {
                ends.push(u32::try_from(out.len()).map_err(|_| bad())?);
                row += 1;
                is_wanted = row < rows && wanted(row);
                continue;
            }
            let code = order.next().ok_or_else(bad)?;
            let cursor = columns.get_mut(usize::from(*code)).ok_or_else(bad)?;
            if is_wanted {
                cursor
                    .render(&mut out, timestamps.get(row).copied())
                    .ok_or_else(bad)?;
                if out.len() > line_bytes {
                    return Err(bad());
                }
            }
            cursor.at += 1;
        }
        if row != rows || copied != self.text.len() || out.len() > line_bytes {
            return Err(bad());
        }
        Ok((out, ends))
    }
}

/// The variables of one kind, and which comes next.
struct Cursor {
    kind: Kind,
    numbers: Vec<u64>,
    bytes: Vec<u8>,
    at: usize,
}

impl Cursor {
    fn new(name: &str, column: &StoredColumn) -> Result<Self> {
        let (mut numbers, mut bytes) = (Vec::new(), Vec::new());
        match column.kind.class {
            VariableClass::Number => {
                numbers = column::numbers(name, &column.bytes, column.count)?;
            }
            VariableClass::Time => {}
            VariableClass::Text => {
                bytes = column::blob(name, &column.bytes, column.count * column.kind.len)?;
            }
            VariableClass::HexLower | VariableClass::HexUpper => bytes = column.hex(name)?,
        }
        Ok(Self {
            kind: column.kind,
            numbers,
            bytes,
            at: 0,
        })
    }

    /// Appends the next variable as it is in the line. `None` when there is none.
    fn render(&self, out: &mut Vec<u8>, timestamp: Option<i64>) -> Option<()> {
        let Kind { class, len } = self.kind;
        let fixed = |width: usize| self.bytes.get(self.at * width..(self.at + 1) * width);
        match class {
            VariableClass::Number => put_digits(out, *self.numbers.get(self.at)?, len),
            VariableClass::Time => put_digits(out, time_as_number(timestamp?, len)?, len),
            VariableClass::Text => out.extend_from_slice(fixed(len)?),
            VariableClass::HexLower => put_hex_lower(out, fixed(len.div_ceil(2))?, len),
            VariableClass::HexUpper => put_hex(out, fixed(len.div_ceil(2))?, len, &HEX_UPPER),
        }
        Some(())
    }
}

type Pairs = [[u8; 2]; 256];
static HEX_LOWER: Pairs = pairs(b"0123456789abcdef");
static HEX_UPPER: Pairs = pairs(b"0123456789ABCDEF");

#[expect(clippy::indexing_slicing, reason = "computed when the program is built")]
const fn pairs(digits: &[u8; 16]) -> Pairs {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
}

/// Appends `len` small hexadecimal digits.
pub(crate) fn put_hex_lower(out: &mut Vec<u8>, bytes: &[u8], len: usize) {
    put_hex(out, bytes, len, &HEX_LOWER);
}

fn put_hex(out: &mut Vec<u8>, bytes: &[u8], len: usize, pairs: &Pairs) {
    let end = out.len() + len;
    let pair = |byte: &u8| pairs.get(usize::from(*byte)).copied().unwrap_or_default();
    let mut rest = bytes;
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        let mut text = [0; 16];
        let (slots, _) = text.as_chunks_mut::<2>();
        slots.iter_mut().zip(eight).for_each(|(slot, byte)| *slot = pair(byte));
        out.extend_from_slice(&text);
        rest = after;
    }
    for byte in rest {
        out.extend_from_slice(&pair(byte));
    }
    out.truncate(end);
}

/// Appends a number as `len` decimal digits, at most [`DIGITS_MAX`].
fn put_digits(out: &mut Vec<u8>, number: u64, len: usize) {
    let mut text = [b'0'; DIGITS_MAX];
    let mut rest = number;
    for digit in text.iter_mut().take(len).rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    out.extend_from_slice(text.get(..len).unwrap_or_default());
}

/// Whether no variable can hide any part of `needle`.
fn is_plain(needle: &[u8]) -> bool {
    if needle.is_empty() || needle.iter().any(u8::is_ascii_digit) {
        return false;
    }
    let mut start = 0;
    for part in needle.split(|&byte| !is_token_byte(byte)) {
        let end = start + part.len();
        let is_open = start == 0 || end == needle.len();
        let may_be_id = part.iter().all(u8::is_ascii_hexdigit) && !part.is_empty();
        if may_be_id && (is_open || part.len() >= ID_HEX_MIN) {
            return false;
        }
        start = end + 1;
    }
    true
}

#[cfg(test)]
mod tests;
