//! The codec of native histograms in blocks (`FORMAT.md`, "Histogram run"): the histograms of one
//! series and one block, column by column, in compressed pages that are read alone. The block
//! writer encodes, snapshots and compactions decode.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;
use std::sync::Arc;

use trine_storage::codec::{Reader, put_bytes, put_varint};
use trine_storage::{Error, Kind, Result};

use super::column::{put_floats, put_integers, take_floats, take_integers};
use super::form::{Form, bucketed, excess};
use super::number::Number;
use super::{BUCKETS_MAX, Buckets, Histogram, ResetHint};

/// A page is closed once its columns have so many bytes.
const PAGE_BYTES: usize = 64 << 10;

/// A page is closed once its histograms have so many words in memory ([`Histogram::words`]), and a
/// group that would have more is cut, so that a reader of few rows decodes few others.
const PAGE_WORDS: usize = 64 << 10;

/// The most words of a page: one short of closed, and a group of the largest size.
const PAGE_WORDS_MAX: usize = 2 * PAGE_WORDS + 4 * BUCKETS_MAX;

/// The most bytes of a page before compression: each word of a group takes eleven at most.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Pages are small; each level above costs time and finds little more in columns of differences.
const ZSTD_LEVEL: i32 = 3;

/// The code of a group whose hints differ, in place of the one of their hint.
const HINTS_DIFFER: u8 = 4;

/// Appends the histograms of a run. Any counts are kept bit by bit; layouts that
/// [`Histogram::validate`] refuses cannot be read back.
///
/// # Errors
/// [`Kind::Io`] when the compressor fails.
pub(crate) fn encode_run(histograms: &[Arc<Histogram>], out: &mut Vec<u8>) -> Result<()> {
    let mut page = Page::default();
    let mut rest = histograms;
    while let Some(first) = rest.first() {
        let before = page.before.as_deref();
        let form = Form::of(first, before);
        // The largest group that fits a page; at least one.
        let rows_max = PAGE_WORDS / first.words();
        let rows = 1 + rest
            .iter()
            .skip(1)
            .take(rows_max.saturating_sub(1))
            .take_while(|next| match form.stale(next.reset_hint) {
                Some(stale) => stale.same_bits(next),
                None => {
                    next.layout_eq(first)
                        && !matches!(
                            Form::of(next, Some(first)),
                            Form::StaleInteger | Form::StaleFloat
                        )
                }
            })
            .count();
        let (group, after) = rest.split_at(rows);
        page.put_group(form, group);
        rest = after;
        if page.bytes.len() >= PAGE_BYTES || page.words >= PAGE_WORDS || rest.is_empty() {
            page.close(out)?;
        }
    }
    Ok(())
}

/// Appends the histograms of the `rows` of a run of `count`; pages outside them are skipped.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes read are no run of `count` histograms; some of them may have
/// been appended then.
pub fn decode_run(
    name: &str,
    bytes: &[u8],
    count: usize,
    rows: Range<usize>,
    out: &mut Vec<Arc<Histogram>>,
) -> Result<()> {
    let mut reader = Reader::new(name, bytes);
    let mut first = 0usize;
    while first < count.min(rows.end) {
        let len = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        let raw_len = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        let compressed = reader.bytes()?;
        if len == 0 || len > count - first || raw_len > PAGE_BYTES_MAX {
            return Err(reader.corrupt("a page is larger than pages are"));
        }
        let end = first + len;
        if end > rows.start {
            let wanted = rows.start.saturating_sub(first)..rows.end.min(end) - first;
            if raw_len == compressed.len() {
                take_page(name, compressed, len, wanted, out)?;
            } else {
                let raw = zstd::bulk::decompress(compressed, raw_len)
                    .map_err(|error| reader.corrupt(&format!("a page: {error}")))?;
                if raw.len() != raw_len {
                    return Err(reader.corrupt("a page is shorter than it says"));
                }
                take_page(name, &raw, len, wanted, out)?;
            }
        }
        first = end;
    }
    if first == count && !reader.is_empty() {
        return Err(reader.corrupt("a run has more pages than it should"));
    }
    Ok(())
}

/// A page that is being filled.
#[derive(Default)]
struct Page {
    rows: usize,
    words: usize,
    bytes: Vec<u8>,
    /// The last histogram that is not told by a stale form.
    before: Option<Arc<Histogram>>,
    column: Vec<u64>,
}

impl Page {
    /// Appends histograms of one form; but for a stale one, they have one layout.
    fn put_group(&mut self, form: Form, group: &[Arc<Histogram>]) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return;
        };
        self.rows += group.len();
        self.words += group.len() * first.words();
        self.bytes.push(form as u8);
        put_varint(&mut self.bytes, group.len() as u64);
        put_hints(&mut self.bytes, group);
        if matches!(form, Form::StaleInteger | Form::StaleFloat) {
            return;
        }
        let before = self.before.take();
        let base = form.put_base(first, before.as_deref(), &mut self.bytes);
        let is_integer = first.buckets.is_integer();
        for place in 0..first.columns() {
            let base = base.word(place);
            self.column.clear();
            self.column
                .extend(group.iter().map(|histogram| histogram.word(place)));
            if is_integer && place > 0 {
                put_integers(&mut self.bytes, base, &self.column);
            } else {
                put_floats(&mut self.bytes, base, &self.column);
            }
        }
        self.before = Some(Arc::clone(last));
    }

    /// Appends the page to `out` and begins the next one, which is told by none before it.
    fn close(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let compressed = zstd::bulk::compress(&self.bytes, ZSTD_LEVEL)
            .map_err(|error| Error::caused_by(Kind::Io, "cannot compress histograms", error))?;
        put_varint(out, self.rows as u64);
        put_varint(out, self.bytes.len() as u64);
        let stored = if compressed.len() < self.bytes.len() {
            &compressed
        } else {
            &self.bytes
        };
        put_bytes(out, stored);
        (self.rows, self.words, self.before) = (0, 0, None);
        self.bytes.clear();
        Ok(())
    }
}

/// Appends the `wanted` histograms of a page of `rows`.
fn take_page(
    name: &str,
    bytes: &[u8],
    rows: usize,
    wanted: Range<usize>,
    out: &mut Vec<Arc<Histogram>>,
) -> Result<()> {
    let mut reader = Reader::new(name, bytes);
    let (mut first, mut words) = (0usize, 0usize);
    let mut before: Option<Histogram> = None;
    let mut columns = Vec::new();
    while first < wanted.end {
        let Some(form) = Form::from_code(reader.u8()?) else {
            return Err(reader.corrupt("a group has no such form"));
        };
        let len = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        // Checked before the hints, so that a damaged length asks for no memory.
        if len == 0 || len > (rows - first).min(PAGE_WORDS) {
            return Err(reader.corrupt("a group has more histograms than its page"));
        }
        let hints = take_hints(&mut reader, len)?;
        let hint = |row: usize| hints.get(row).copied().unwrap_or_default();
        let group = wanted.start.saturating_sub(first)..wanted.end.min(first + len) - first;
        first += len;
        if let Some(stale) = form.stale(ResetHint::Unknown) {
            check_words(&mut words, len, stale.words(), &reader)?;
            out.extend(group.filter_map(|row| form.stale(hint(row))).map(Arc::new));
            continue;
        }
        let base = form.take_base(before.as_ref(), &mut reader)?;
        check_words(&mut words, len, base.words(), &reader)?;
        take_columns(&base, len, &mut reader, &mut columns)?;
        for row in group {
            let mut histogram = base.filled(&columns, len, row);
            histogram.reset_hint = hint(row);
            out.push(Arc::new(histogram));
        }
        before = Some(base.filled(&columns, len, len - 1));
    }
    if first == rows && !reader.is_empty() {
        return Err(reader.corrupt("a page has more groups than it should"));
    }
    Ok(())
}

/// Adds the words of a group to those of its page.
fn check_words(words: &mut usize, rows: usize, each: usize, reader: &Reader<'_>) -> Result<()> {
    *words = words.saturating_add(rows.saturating_mul(each));
    if *words > PAGE_WORDS_MAX {
        return Err(reader.corrupt("a page has more counts than pages have"));
    }
    Ok(())
}

/// Reads the columns of a group, one after the other.
fn take_columns(
    base: &Histogram,
    rows: usize,
    reader: &mut Reader<'_>,
    columns: &mut Vec<u64>,
) -> Result<()> {
    columns.clear();
    let is_integer = base.buckets.is_integer();
    for place in 0..base.columns() {
        if is_integer && place > 0 {
            take_integers(reader, base.word(place), rows, columns)?;
        } else {
            take_floats(reader, base.word(place), rows, columns)?;
        }
    }
    Ok(())
}

fn put_hints(out: &mut Vec<u8>, group: &[Arc<Histogram>]) {
    let hints = || group.iter().map(|histogram| histogram.reset_hint.code());
    let first = hints().next().unwrap_or(0);
    if hints().all(|hint| hint == first) {
        out.push(first);
    } else {
        out.push(HINTS_DIFFER);
        out.extend(hints());
    }
}

fn take_hints(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<ResetHint>> {
    let hint = |code: u8, reader: &Reader<'_>| match code {
        0..HINTS_DIFFER => Ok(ResetHint::from_code(code)),
        _ => Err(reader.corrupt("histograms have no such reset hint")),
    };
    match reader.u8()? {
        HINTS_DIFFER => {
            let codes = reader.take(rows)?;
            codes.iter().map(|code| hint(*code, reader)).collect()
        }
        code => Ok(vec![hint(code, reader)?; rows]),
    }
}

impl Histogram {
    /// Words in memory, about: what the caps of the decoders count.
    pub(super) fn words(&self) -> usize {
        let spans = self.positive_spans.len() + self.negative_spans.len();
        self.columns() + spans + self.custom_values.len()
    }

    /// The sum, the count, the zero count, each bucket.
    fn columns(&self) -> usize {
        3 + self.buckets.len()
    }

    /// The bits of what a column holds of this histogram.
    fn word(&self, column: usize) -> u64 {
        let Some(column) = column.checked_sub(1) else {
            return self.sum.bits();
        };
        match &self.buckets {
            Buckets::Integer {
                zero_count,
                count,
                positive,
                negative,
            } => match column {
                0 => excess(*zero_count, *count, positive, negative),
                1 => *zero_count,
                _ => word_of(positive, negative, column - 2),
            },
            Buckets::Float {
                zero_count,
                count,
                positive,
                negative,
            } => match column {
                0 => count.bits(),
                1 => zero_count.bits(),
                _ => word_of(positive, negative, column - 2),
            },
        }
    }

    /// A histogram of this layout with the numbers of a row of the columns of `rows` each.
    fn filled(&self, columns: &[u64], rows: usize, row: usize) -> Self {
        let mut words = columns.iter().skip(row).step_by(rows).copied();
        let mut histogram = self.clone();
        let mut next = || words.next().unwrap_or(0);
        histogram.sum = f64::from_bits(next());
        match &mut histogram.buckets {
            Buckets::Integer {
                zero_count,
                count,
                positive,
                negative,
            } => {
                let excess = next();
                *zero_count = next();
                for bucket in positive.iter_mut().chain(negative.iter_mut()) {
                    *bucket = next().cast_signed();
                }
                *count = bucketed(*zero_count, positive, negative).wrapping_add(excess);
            }
            Buckets::Float {
                zero_count,
                count,
                positive,
                negative,
            } => {
                *count = f64::from_bits(next());
                *zero_count = f64::from_bits(next());
                for bucket in positive.iter_mut().chain(negative) {
                    *bucket = f64::from_bits(next());
                }
            }
        }
        histogram
    }
}

fn word_of<T: Number>(positive: &[T], negative: &[T], bucket: usize) -> u64 {
    let negative = || negative.get(bucket.checked_sub(positive.len())?);
    let count = positive.get(bucket).or_else(negative);
    count.map_or(0, |count| count.bits())
}

#[cfg(test)]
mod tests;
