//! Reads chunks back: for queries of the head and of parts, and when parts are cut into blocks.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::Reader;
use trine_storage::{Error, Result};

use super::bits::{WORD_BITS, Words, top};
use super::window::{INTEGER_BITS_MAX, Range, Scale, value};
use super::{STALE, form, interval};

/// The timestamp of the first sample, if the chunk has one.
pub(crate) fn first_timestamp(bytes: &[u8]) -> Option<i64> {
    Reader::new("a chunk", bytes).signed().ok()
}

/// The first `count` samples of a chunk of at least so many, added to the columns. Timestamps rise.
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the bytes are no chunk of so many samples;
/// nothing was added then. No more memory is asked for than bytes of this number can hold samples.
pub fn decode_floats(
    name: &str,
    bytes: &[u8],
    count: u32,
    timestamps: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let corrupt = |what: &str| Error::corrupt(name, 0, what);
    // A sample is one bit at least, and the first one more.
    let count = count as usize;
    if count / 8 > bytes.len() {
        return Err(corrupt("a chunk is shorter than its number of samples"));
    }
    let mut reader = Reader::new(name, bytes);
    let timestamp = reader.signed()?;
    let len = usize::from(reader.u8()?);
    let mut first = [0; 8];
    let Some(head) = first.get_mut(..len) else {
        return Err(reader.corrupt("the first value of a chunk is longer than a value"));
    };
    head.copy_from_slice(reader.take(len)?);
    let reference = u64::from_be_bytes(first);
    let begin = reader.offset() * 8;

    let from = (timestamps.len(), values.len());
    timestamps.resize(from.0 + count, timestamp);
    values.resize(from.1 + count, f64::from_bits(reference));
    // Words are read whole.
    let mut short = [0; 8];
    let padded = match short.get_mut(..bytes.len()) {
        Some(head) => {
            head.copy_from_slice(bytes);
            &short
        }
        None => bytes,
    };
    let mut decoder = Decoder {
        words: Words::new(padded),
        bit: begin,
        end: bytes.len() * 8,
        reference,
        window: Window::Xor {
            leading: 0,
            width: 64,
        },
        told: 1,
        timestamp,
        interval: 0,
    };
    let (_, new_timestamps) = timestamps.split_at_mut(from.0);
    let (_, new_values) = values.split_at_mut(from.1);
    decoder.run(new_timestamps, new_values).map_err(|what| {
        timestamps.truncate(from.0);
        values.truncate(from.1);
        corrupt(what)
    })
}

/// What is wrong with the bytes.
type Fault = &'static str;

const NOT_RISING: Fault = "the timestamps of a chunk do not rise";
const TOO_SHORT: Fault = "a chunk ends within its samples";
const NO_FORM: Fault = "a value of a chunk has a form that is not known";

/// Integers that are read from one word at most; more hardly are faster.
const PER_WORD_MAX: usize = 8;

/// What payloads are at the moment.
#[derive(Debug, Clone, Copy)]
enum Window {
    Xor { leading: u32, width: u32 },
    Integers { scale: Scale, range: Range },
}

/// The end of a loop over samples.
type Step = Result<(), Fault>;

/// What is decoded into, and where the next sample goes.
struct Columns<'a> {
    timestamps: &'a mut [i64],
    values: &'a mut [f64],
    at: usize,
}

/// State between samples. The index of the next one is with the caller.
#[derive(Debug)]
struct Decoder<'a> {
    words: Words<'a>,
    /// The next bit.
    bit: usize,
    /// How many bits there are.
    end: usize,
    /// The bits of the last value that was not stale.
    reference: u64,
    window: Window,
    /// How many timestamps are written; those at the usual interval wait until they are many.
    told: usize,
    /// The last that is written.
    timestamp: i64,
    /// The usual interval, of at most 32 bits; 0 if it is not known.
    interval: u64,
}

impl Decoder<'_> {
    /// Decodes into slices of equal length whose first place is taken by the first sample.
    ///
    /// What is behind the end of the bytes decodes to something too; it is enough to look once, at
    /// last, whether that was reached, as every sample moves on.
    fn run(&mut self, timestamps: &mut [i64], values: &mut [f64]) -> Result<(), Fault> {
        let mut at = 1;
        loop {
            let mut columns = Columns {
                timestamps,
                values,
                at,
            };
            match self.window {
                Window::Xor { leading, width } => self.xors(&mut columns, leading, width)?,
                Window::Integers { scale, range } => self.integers(&mut columns, scale, range)?,
            }
            at = columns.at;
            let Some(value) = values.get_mut(at) else {
                break;
            };
            // An interval has told all but that the value is a form.
            self.bit += if self.told > at { 2 } else { 3 };
            *value = self.form()?;
            at += 1;
        }
        self.tell(timestamps.get_mut(self.told..).unwrap_or_default())?;
        if self.bit > self.end {
            Err(TOO_SHORT)
        } else {
            Ok(())
        }
    }

    /// Samples with values as before or in a window of integers, up to one that is neither.
    #[inline(never)]
    fn integers(&mut self, columns: &mut Columns<'_>, scale: Scale, range: Range) -> Step {
        let (divisor, base, width) = (scale.divisor(), range.base(), range.width);
        let changed_bits = width as usize + 2;
        let per_word = (WORD_BITS as usize / changed_bits).min(PER_WORD_MAX);
        let mut integer = scale.integer(self.reference);
        let mut last = f64::from_bits(self.reference);
        let mut bit = self.bit;
        let mut at = columns.at;
        while at < columns.values.len() {
            let mut word = self.words.at(bit);
            if word >= 0b11 << 62 {
                if self.told > at || word < 0b111 << 61 {
                    break;
                }
                bit = self.interval(columns.timestamps, at, bit, word)?;
                word = self.words.at(bit);
            }
            if word < 1 << 56 {
                let run = same(columns.values, at, word, last);
                at += run;
                bit += run;
                continue;
            }
            // A form behind an interval ends it at once, and the outer loop with the next word.
            for slot in columns.values.iter_mut().skip(at).take(per_word) {
                if word >= 0b11 << 62 {
                    break;
                }
                let changed = u64::from(word >= 1 << 63).wrapping_neg();
                let difference = top(word << 2, width).cast_signed().wrapping_add(base);
                integer = integer.wrapping_add(difference & changed.cast_signed());
                last = value(integer, divisor);
                *slot = last;
                let bits = if changed == 0 { 1 } else { changed_bits };
                word <<= bits;
                bit += bits;
                at += 1;
            }
        }
        self.bit = bit;
        self.reference = last.to_bits();
        columns.at = at;
        Ok(())
    }

    /// The same in a window of XORs.
    #[inline(never)]
    fn xors(&mut self, columns: &mut Columns<'_>, leading: u32, width: u32) -> Step {
        let trailing = 64 - leading - width;
        let high = width.min(WORD_BITS);
        let low = width - high;
        let mut bits = self.reference;
        let mut bit = self.bit;
        let mut at = columns.at;
        while let Some(slot) = columns.values.get_mut(at) {
            let mut word = self.words.at(bit);
            if word >= 0b111 << 61 {
                bit = self.interval(columns.timestamps, at, bit, word)?;
                word = self.words.at(bit);
            }
            if word < 1 << 56 {
                let run = same(columns.values, at, word, f64::from_bits(bits));
                at += run;
                bit += run;
                continue;
            }
            if word >= 0b11 << 62 {
                break;
            }
            let changed = u64::from(word >= 1 << 63).wrapping_neg();
            let mut xor = top(self.words.at(bit + 2), high);
            if low > 0 {
                xor = xor << low | top(self.words.at(bit + 2 + high as usize), low);
            }
            bits ^= (xor << trailing) & changed;
            *slot = f64::from_bits(bits);
            bit += if changed == 0 { 1 } else { width as usize + 2 };
            at += 1;
        }
        self.bit = bit;
        self.reference = bits;
        columns.at = at;
        Ok(())
    }

    /// The interval at `bit`, whose word is `word`, which is not the usual one: tells the timestamp
    /// of the sample `at`. Gives the bit behind it.
    #[inline]
    fn interval(
        &mut self,
        timestamps: &mut [i64],
        at: usize,
        bit: usize,
        word: u64,
    ) -> Result<usize, Fault> {
        if self.told < at {
            self.tell(timestamps.get_mut(self.told..at).unwrap_or_default())?;
        }
        let (interval, bit) = if word < interval::FAR << 60 {
            let len = interval::NEAR_BITS;
            let difference = signed_top(word << interval::PREFIX_BITS, len);
            let interval = self.interval.wrapping_add(difference);
            (interval, bit + (interval::PREFIX_BITS + len) as usize)
        } else {
            self.far_interval(bit + interval::PREFIX_BITS as usize)
        };
        let next = self.timestamp.checked_add_unsigned(interval);
        self.timestamp = next
            .filter(|next| *next > self.timestamp)
            .ok_or(NOT_RISING)?;
        if let Some(slot) = timestamps.get_mut(at) {
            *slot = self.timestamp;
        }
        self.told = at + 1;
        Ok(bit)
    }

    /// An interval whose class is at `bit`, and the bit behind it.
    #[inline(never)]
    fn far_interval(&mut self, bit: usize) -> (u64, usize) {
        let [class, ..] = self.words.number(bit, interval::CLASS_BITS).to_le_bytes();
        let class = usize::from(class);
        let bit = bit + interval::CLASS_BITS as usize;
        let len = interval::FAR_BITS.get(class).copied().unwrap_or(64);
        let difference = signed_top(self.words.number(bit, len) << (64 - len), len);
        let interval = self.interval.wrapping_add(difference);
        if class >= interval::USUAL_CLASS {
            self.interval = if interval >> 32 == 0 { interval } else { 0 };
        }
        (interval, bit + len as usize)
    }

    /// A value that is not in the window.
    fn form(&mut self) -> Result<f64, Fault> {
        match self.take(form::BITS) {
            form::STALE => return Ok(f64::from_bits(STALE)),
            form::XOR => {
                let (leading, width) = (self.small(6), self.small(6) + 1);
                if leading + width > 64 {
                    return Err(NO_FORM);
                }
                self.window = Window::Xor { leading, width };
            }
            form::INTEGERS => {
                let [scale, ..] = self.take(Scale::BITS).to_le_bytes();
                let width = self.small(Range::WIDTH_BITS);
                let anchor = match self.take(2) {
                    0b00 => 0,
                    0b01 => -1,
                    high => {
                        let low = self.take(15);
                        let [a, b, ..] = ((high & 1) << 15 | low).to_le_bytes();
                        i16::from_le_bytes([a, b])
                    }
                };
                if width > INTEGER_BITS_MAX {
                    return Err(NO_FORM);
                }
                let (scale, range) = (Scale::new(scale), Range { width, anchor });
                self.window = Window::Integers { scale, range };
            }
            _ => return Err(NO_FORM),
        }
        Ok(self.payload())
    }

    /// The value of a payload of the window.
    fn payload(&mut self) -> f64 {
        match self.window {
            Window::Xor { leading, width } => {
                self.reference ^= self.take(width) << (64 - leading - width);
            }
            Window::Integers { scale, range } => {
                let difference = self
                    .take(range.width)
                    .cast_signed()
                    .wrapping_add(range.base());
                let integer = scale.integer(self.reference).wrapping_add(difference);
                self.reference = value(integer, scale.divisor()).to_bits();
            }
        }
        f64::from_bits(self.reference)
    }

    /// Writes timestamps at the usual interval.
    #[inline]
    fn tell(&mut self, timestamps: &mut [i64]) -> Result<(), Fault> {
        let len = timestamps.len() as u64;
        if len == 0 {
            return Ok(());
        }
        // Neither factor has more than 32 bits.
        let end = self.timestamp.checked_add_unsigned(len * self.interval);
        let Some(end) = end.filter(|_| self.interval > 0) else {
            return Err(NOT_RISING);
        };
        let mut timestamp = self.timestamp;
        for slot in timestamps {
            timestamp = timestamp.wrapping_add_unsigned(self.interval);
            *slot = timestamp;
        }
        self.timestamp = end;
        Ok(())
    }

    fn take(&mut self, len: u32) -> u64 {
        let number = self.words.number(self.bit, len);
        self.bit += len as usize;
        number
    }

    /// A number of at most eight bits.
    fn small(&mut self, len: u32) -> u32 {
        let [number, ..] = self.take(len).to_le_bytes();
        u32::from(number)
    }
}

/// The first `len` bits of a word as a signed number.
#[inline(always)]
fn signed_top(word: u64, len: u32) -> u64 {
    (word.cast_signed() >> (64 - len)).cast_unsigned()
}

/// Repeats `value` for each bit that is zero at the begin of `word`. Gives how many.
#[inline]
fn same(values: &mut [f64], at: usize, word: u64, value: f64) -> usize {
    let run = word.leading_zeros().min(WORD_BITS) as usize;
    let end = (at + run).min(values.len());
    values.get_mut(at..end).unwrap_or_default().fill(value);
    end - at
}
