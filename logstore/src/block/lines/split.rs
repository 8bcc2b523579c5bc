//! Splits the lines of a chunk into text and variables. Called by the block's writer.

use std::collections::HashMap;

use memchr::{memchr, memchr_iter};
use trine_storage::codec::{put_bytes, put_varint};

use super::{DIGITS_MAX, Kind, SPLIT, VariableClass, WHOLE, column, digits, time_as_number};
use crate::index::token::{Class, Token, is_token_byte, tokens};

/// Runs of fewer digits stay in the text.
const DIGITS_MIN: usize = 3;
/// Numbers of this many digits and fewer stay in the text when they repeat.
const REPEATING_DIGITS_MAX: usize = 4;
/// How much of a chunk tells whether they do, in bytes.
const SAMPLE_BYTES: usize = 8 << 10;
/// Kinds of variables are numbered by one byte.
pub(super) const KINDS_MAX: usize = 256;

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

    /// Forgets the lines and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Splits the lines, whose entries have these timestamps. Every token is handed to `index` once
    /// or more often.
    pub(crate) fn encode(
        &mut self,
        timestamps: &[i64],
        mut index: impl FnMut(&[u8], &Token),
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
            stay: self.repeating_numbers(),
            variables: Variables::default(),
        };
        tokens(&self.text, |token| {
            index(&self.text, &token);
            if token.has_digit || token.class == Class::Hex {
                split.token(&token);
            }
        });
        split.copy_until(self.text.len());
        let Split {
            skeleton,
            variables,
            ..
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

    fn encode_whole(&self, mut index: impl FnMut(&[u8], &Token)) -> EncodedLines {
        let mut blob = Vec::with_capacity(self.line_bytes());
        let mut start = 0;
        for &end in &self.ends {
            let line = self.text.get(start..end as usize).unwrap_or_default();
            tokens(line, |token| index(line, &token));
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

    /// By number of digits: whether short numbers repeat, as parts of dates do. They compress better
    /// among the words that they repeat with.
    fn repeating_numbers(&self) -> [bool; REPEATING_DIGITS_MAX + 1] {
        let sample = self.text.get(..SAMPLE_BYTES).unwrap_or(&self.text);
        let mut seen: [Vec<u64>; REPEATING_DIGITS_MAX + 1] = Default::default();
        for run in sample.split(|byte| !byte.is_ascii_digit()) {
            if (DIGITS_MIN..=REPEATING_DIGITS_MAX).contains(&run.len())
                && let Some(values) = seen.get_mut(run.len())
            {
                values.push(digits::number_of(run));
            }
        }
        seen.map(|values| column::repeats(&values))
    }

    /// A byte to end lines and one to stand in for variables: no token bytes, and in no line.
    fn unused_bytes(&self) -> Option<[u8; 2]> {
        // Every line ends in a line feed, which is free when there are no more than that.
        let line_feeds = memchr_iter(b'\n', &self.text).count();
        if line_feeds == self.rows() && memchr(0, &self.text).is_none() {
            return Some([b'\n', 0]);
        }
        let mut is_used = [false; 256];
        for &byte in &self.text {
            if let Some(flag) = is_used.get_mut(usize::from(byte)) {
                *flag = true;
            }
        }
        if let Some(flag) = is_used.get_mut(usize::from(b'\n')) {
            *flag = line_feeds > self.rows();
        }
        let unused = |byte: &u8| {
            !is_token_byte(*byte) && is_used.get(usize::from(*byte)).is_some_and(|used| !used)
        };
        let mut free = std::iter::once(b'\n')
            .chain(0..b'\n')
            .chain(11..0x80)
            .filter(unused);
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
    /// By number of digits: whether such numbers are better left in the text.
    stay: [bool; REPEATING_DIGITS_MAX + 1],
    variables: Variables,
}

impl Split<'_> {
    fn token(&mut self, token: &Token) {
        let start = token.start;
        let bytes = self.text.get(start..token.end).unwrap_or_default();
        match token.class {
            Class::Digits => self.digits(start, bytes, true),
            Class::Hex => {
                let class = match digits::letter_cases(bytes) {
                    (true, true) => VariableClass::Text,
                    (_, true) => VariableClass::HexUpper,
                    _ => VariableClass::HexLower,
                };
                self.take(start, bytes.len());
                self.variables.bytes(class, bytes);
            }
            Class::Word | Class::Long => {
                if !token.has_digit || bytes.len() < DIGITS_MIN {
                    return;
                }
                let mut at = 0;
                while let Some(rest) = bytes.get(at..) {
                    let Some(skip) = rest.iter().position(u8::is_ascii_digit) else {
                        return;
                    };
                    let rest = rest.get(skip..).unwrap_or_default();
                    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let stays = self.stay.get(len).is_some_and(|&stays| stays);
                    if (DIGITS_MIN..=DIGITS_MAX).contains(&len) && !stays {
                        self.digits(
                            start + at + skip,
                            rest.get(..len).unwrap_or_default(),
                            false,
                        );
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
        let number = digits::number_of(bytes);
        if is_token && matches!(bytes.len(), 10 | 13 | 16 | 19) {
            while self
                .ends
                .get(self.row)
                .is_some_and(|&end| (end as usize) < start)
            {
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
        digits::put_nibbles(&mut values.bytes, bytes);
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
