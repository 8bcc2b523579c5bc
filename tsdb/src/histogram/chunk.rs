//! The append-only codec of native histograms in memory and in parts (`FORMAT.md`, "Histogram
//! chunk"): the head appends one sample at a time, each told by the one before it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use trine_storage::Result;
use trine_storage::codec::{Reader, put_signed};

use super::form::{Form, bucketed, excess};
use super::number::{Number, put_changes, take_changes};
use super::{BUCKETS_MAX, Buckets, Histogram, ResetHint};

/// The code in place of a [`Form`] of a sample equal to the one before it but for the hint.
const REPEATED: u8 = 5;

/// Bits of the form in the first byte of a sample; then come those of the hint.
const FORM_BITS: u32 = 3;

/// The bit of the first byte that says that the sample came at the usual interval.
const ON_TIME: u8 = 1 << 5;

/// Bits of the first byte that are never set.
const UNUSED: u8 = 0b1100_0000;

/// The most words of memory ([`Histogram::words`]) that the histograms of a chunk take once they
/// are decoded: 32 MiB, where some kilobytes are usual. Damaged bytes cannot ask for more.
const CHUNK_WORDS_MAX: usize = 4 << 20;

/// Appends samples to the bytes of one chunk, which the caller keeps.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistogramEncoder {
    timestamp: i64,
    interval: i64,
    words: usize,
    /// What the next sample is told by: the last that is not told by a stale form.
    before: Option<Arc<Histogram>>,
}

impl HistogramEncoder {
    /// Before the first sample.
    pub(crate) const fn new() -> Self {
        Self {
            timestamp: 0,
            interval: 0,
            words: 0,
            before: None,
        }
    }

    /// Whether another sample could take the chunk beyond what is decoded: then begin a new one.
    pub(crate) fn is_full(&self) -> bool {
        self.words > CHUNK_WORDS_MAX - 5 * BUCKETS_MAX
    }

    /// Appends a sample to `out`, which holds those before it and nothing else. Any counts are kept
    /// bit by bit; a layout that [`Histogram::validate`] refuses cannot be read back, nor can a
    /// chunk that was full.
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, timestamp: i64, histogram: &Arc<Histogram>) {
        let before = self.before.as_deref();
        let form = Form::of(histogram, before);
        let is_repeated =
            form == Form::Same && before.is_some_and(|before| before.same_values(histogram));
        let code = if is_repeated { REPEATED } else { form as u8 };
        let interval = timestamp.wrapping_sub(self.timestamp);
        let is_on_time = interval == self.interval;
        let hint = histogram.reset_hint.code() << FORM_BITS;
        out.push(code | hint | if is_on_time { ON_TIME } else { 0 });
        if !is_on_time {
            put_signed(out, interval.wrapping_sub(self.interval));
        }
        if !matches!(form, Form::StaleInteger | Form::StaleFloat) {
            if !is_repeated {
                let base = form.put_base(histogram, before, out);
                put_values(out, &base, histogram);
            }
            let is_shared = is_repeated
                && before.is_some_and(|before| before.reset_hint == histogram.reset_hint);
            if !is_shared {
                self.words += histogram.words();
            }
            self.before = Some(Arc::clone(histogram));
        }
        (self.timestamp, self.interval) = (timestamp, interval);
    }
}

/// The timestamp of the first sample, if the chunk has one.
pub(crate) fn first_timestamp(bytes: &[u8]) -> Option<i64> {
    let mut reader = Reader::new("a chunk", bytes);
    match reader.u8().ok()? & ON_TIME {
        0 => reader.signed().ok(),
        _ => Some(0),
    }
}

/// Appends the samples of a chunk to the columns. Equal histograms in a row are one allocation.
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the bytes are no chunk of `count` samples;
/// the columns then hold some of them.
pub fn decode_histograms(
    name: &str,
    bytes: &[u8],
    count: u32,
    timestamps: &mut Vec<i64>,
    histograms: &mut Vec<Arc<Histogram>>,
) -> Result<()> {
    let mut reader = Reader::new(name, bytes);
    let (mut timestamp, mut interval) = (0i64, 0i64);
    let mut before: Option<Arc<Histogram>> = None;
    let mut words = 0usize;
    for _ in 0..count {
        let first = reader.u8()?;
        if first & UNUSED != 0 {
            return Err(reader.corrupt("a sample begins with bits that mean nothing"));
        }
        if first & ON_TIME == 0 {
            interval = interval.wrapping_add(reader.signed()?);
        }
        timestamp = timestamp.wrapping_add(interval);
        let hint = ResetHint::from_code(first >> FORM_BITS);
        let code = first & ((1 << FORM_BITS) - 1);
        let histogram = if code == REPEATED {
            let Some(before) = &mut before else {
                return Err(reader.corrupt("a histogram repeats none before it"));
            };
            if before.reset_hint != hint {
                words += before.words();
                Arc::make_mut(before).reset_hint = hint;
            }
            Arc::clone(before)
        } else {
            let Some(form) = Form::from_code(code) else {
                return Err(reader.corrupt("a sample has no such form"));
            };
            match form.stale(hint) {
                Some(stale) => Arc::new(stale),
                None => {
                    let mut histogram = form.take_base(before.as_deref(), &mut reader)?;
                    take_values(&mut histogram, &mut reader)?;
                    histogram.reset_hint = hint;
                    words += histogram.words();
                    before.insert(Arc::new(histogram)).clone()
                }
            }
        };
        if words > CHUNK_WORDS_MAX {
            return Err(reader.corrupt("a chunk has more counts than chunks have"));
        }
        timestamps.push(timestamp);
        histograms.push(histogram);
    }
    if !reader.is_empty() {
        return Err(reader.corrupt("a chunk has more samples than it should"));
    }
    Ok(())
}

/// Appends the differences of the sum and the counts to those of the base, which has the same
/// layout.
fn put_values(out: &mut Vec<u8>, base: &Histogram, histogram: &Histogram) {
    histogram.sum.put(base.sum, out);
    match (&base.buckets, &histogram.buckets) {
        (
            Buckets::Integer {
                zero_count: base_zero,
                count: base_count,
                positive: base_positive,
                negative: base_negative,
            },
            Buckets::Integer {
                zero_count,
                count,
                positive,
                negative,
            },
        ) => {
            let before = excess(*base_zero, *base_count, base_positive, base_negative);
            excess(*zero_count, *count, positive, negative).put(before, out);
            zero_count.put(*base_zero, out);
            put_changes(out, base_positive, positive);
            put_changes(out, base_negative, negative);
        }
        (
            Buckets::Float {
                zero_count: base_zero,
                count: base_count,
                positive: base_positive,
                negative: base_negative,
            },
            Buckets::Float {
                zero_count,
                count,
                positive,
                negative,
            },
        ) => {
            count.put(*base_count, out);
            zero_count.put(*base_zero, out);
            put_changes(out, base_positive, positive);
            put_changes(out, base_negative, negative);
        }
        _ => unreachable!("the base of a form has counts of the same kind"),
    }
}

/// Turns the sum and the counts of the base into those that [`put_values`] wrote.
fn take_values(histogram: &mut Histogram, reader: &mut Reader<'_>) -> Result<()> {
    histogram.sum = f64::take(histogram.sum, reader)?;
    match &mut histogram.buckets {
        Buckets::Integer {
            zero_count,
            count,
            positive,
            negative,
        } => {
            let before = excess(*zero_count, *count, positive, negative);
            let excess = u64::take(before, reader)?;
            *zero_count = u64::take(*zero_count, reader)?;
            take_changes(positive, reader)?;
            take_changes(negative, reader)?;
            *count = bucketed(*zero_count, positive, negative).wrapping_add(excess);
        }
        Buckets::Float {
            zero_count,
            count,
            positive,
            negative,
        } => {
            *count = f64::take(*count, reader)?;
            *zero_count = f64::take(*zero_count, reader)?;
            take_changes(positive, reader)?;
            take_changes(negative, reader)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
