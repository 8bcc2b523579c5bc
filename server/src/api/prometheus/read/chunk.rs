//! Samples as chunks in the forms of Prometheus' storage, which is what a streamed remote read
//! carries: floats as XOR chunks, native histograms as histogram chunks. `read` calls it.
//!
//! ```text
//! XOR              count u16 | t varint, v 64 | dt uvarint, v xor | (ddt 1..68, v xor)*
//! histograms       count u16 | flags u8 | threshold, schema, spans, bounds | first | (all ddt)*
//! float histograms count u16 | flags u8 | threshold, schema, spans, bounds | first | (ddt, xor)*
//! ```
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use trine_tsdb::{Buckets, Histogram, ResetHint, Span, Value, Values};

use super::bits::{Bits, Xor, fits};

/// The most samples of one chunk, as Prometheus makes them.
pub(super) const SAMPLES_MAX: usize = 120;

/// The kinds of chunks by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Floats.
    Xor = 1,
    /// Histograms with whole counts.
    Histogram = 2,
    /// Histograms with fractions.
    FloatHistogram = 3,
}

/// Samples of one series as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    pub(super) encoding: Encoding,
    pub(super) data: Vec<u8>,
}

/// Calls `give` with the chunks of a series in order of time until it says false.
pub(super) fn encode(times: &[i64], values: &Values, mut give: impl FnMut(Chunk) -> bool) {
    match values {
        Values::Floats(floats) => {
            let pieces = times.chunks(SAMPLES_MAX).zip(floats.chunks(SAMPLES_MAX));
            for (times, floats) in pieces {
                if !give(xor(times, floats)) {
                    return;
                }
            }
        }
        Values::Histograms(all) => {
            histograms(times, all, &mut give);
        }
        _ => mixed(times, values, &mut give),
    }
}

/// Runs of one kind are chunks of that kind.
fn mixed(times: &[i64], values: &Values, give: &mut impl FnMut(Chunk) -> bool) {
    let mut rows = times.iter().zip(0..).peekable();
    while rows.peek().is_some() {
        let (mut run, mut floats, mut found) = (Vec::new(), Vec::new(), Vec::new());
        while let Some((time, at)) = rows.peek() {
            match values.get(*at) {
                Some(Value::Float(value)) if found.is_empty() => floats.push(value),
                Some(Value::Histogram(histogram)) if floats.is_empty() => found.push(histogram),
                Some(_) => break,
                None => {}
            }
            run.push(**time);
            rows.next();
        }
        let goes_on = if found.is_empty() {
            let pieces = run.chunks(SAMPLES_MAX).zip(floats.chunks(SAMPLES_MAX));
            pieces
                .into_iter()
                .all(|(times, floats)| give(xor(times, floats)))
        } else {
            histograms(&run, &found, give)
        };
        if !goes_on {
            return;
        }
    }
}

fn xor(times: &[i64], values: &[f64]) -> Chunk {
    let mut bits = Bits::after(count(times.len()).to_vec());
    let mut samples = times.iter().zip(values);
    let (mut time, mut delta) = (0i64, 0i64);
    if let Some((first, value)) = samples.next() {
        bits.put_varint(*first);
        bits.put_float(*value);
        let mut floats = Xor::after(*value);
        time = *first;
        for (at, (next, value)) in samples.enumerate() {
            let step = next.wrapping_sub(time);
            if at == 0 {
                bits.put_uvarint(step.cast_unsigned());
            } else {
                put_time(&mut bits, step.wrapping_sub(delta));
            }
            floats.put(*value, &mut bits);
            (time, delta) = (*next, step);
        }
    }
    Chunk {
        min_ms: times.first().copied().unwrap_or(0),
        max_ms: time,
        encoding: Encoding::Xor,
        data: bits.into_bytes(),
    }
}

/// By how much a step differs from the one before.
fn put_time(bits: &mut Bits, difference: i64) {
    if difference == 0 {
        return bits.put(0, 1);
    }
    for (prefix, length, width) in [(0b10, 2, 14), (0b110, 3, 17), (0b1110, 4, 20)] {
        if fits(difference, width) {
            bits.put(prefix, length);
            return bits.put(difference.cast_unsigned(), width);
        }
    }
    bits.put(0b1111, 4);
    bits.put(difference.cast_unsigned(), 64);
}

/// Chunks of histograms: a new one wherever a reader would otherwise not see that a counter began
/// anew, or buckets differ. Gives whether `give` always wants more.
fn histograms(
    times: &[i64],
    values: &[Arc<Histogram>],
    give: &mut impl FnMut(Chunk) -> bool,
) -> bool {
    let mut rows = times.iter().zip(values).peekable();
    while let Some((first_ms, first)) = rows.next() {
        let mut writer = Writer::begin(*first_ms, first);
        let mut before = first;
        while let Some((time, next)) = rows.peek() {
            if writer.count >= SAMPLES_MAX || !continues(before, next) {
                break;
            }
            writer.append(**time, next);
            before = next;
            rows.next();
        }
        if !give(writer.finish()) {
            return false;
        }
    }
    true
}

/// Whether a histogram may follow another one in a chunk, where it will be read as one of the same
/// buckets that did not begin anew.
fn continues(before: &Histogram, next: &Histogram) -> bool {
    if before.is_stale() || next.is_stale() || !before.layout_eq(next) {
        return false;
    }
    let gauges = [before, next].map(|h| h.reset_hint == ResetHint::Gauge);
    match (gauges, next.reset_hint) {
        ([true, true], _) => true,
        ([true, false] | [false, true], _) | (_, ResetHint::Reset) => false,
        (_, ResetHint::NotReset) => true,
        _ => !falls(before, next),
    }
}

/// Whether a count is lower than before; the buckets are the same.
fn falls(before: &Histogram, next: &Histogram) -> bool {
    match (&before.buckets, &next.buckets) {
        (
            Buckets::Integer {
                zero_count: z,
                count: c,
                positive: p,
                negative: n,
            },
            Buckets::Integer {
                zero_count,
                count,
                positive,
                negative,
            },
        ) => {
            let fall = |a: &[i64], b: &[i64]| a.iter().zip(b).any(|(a, b)| b < a);
            count < c || zero_count < z || fall(p, positive) || fall(n, negative)
        }
        (
            Buckets::Float {
                zero_count: z,
                count: c,
                positive: p,
                negative: n,
            },
            Buckets::Float {
                zero_count,
                count,
                positive,
                negative,
            },
        ) => {
            let fall = |a: &[f64], b: &[f64]| a.iter().zip(b).any(|(a, b)| b < a);
            count < c || zero_count < z || fall(p, positive) || fall(n, negative)
        }
        _ => true,
    }
}

/// A chunk of histograms in the making.
struct Writer {
    bits: Bits,
    count: usize,
    first_ms: i64,
    time_ms: i64,
    step: i64,
    sum: Xor,
    counts: Counts,
}

/// What was written last of the counts: the number of all observations, that of the zero bucket,
/// then those of the buckets.
enum Counts {
    /// Each with its last difference; buckets as differences from the one before them.
    Integer(Vec<(i64, i64)>),
    Float(Vec<Xor>),
}

impl Writer {
    fn begin(time_ms: i64, histogram: &Histogram) -> Self {
        // A marker has no buckets.
        let emptied;
        let histogram = if histogram.is_stale() {
            emptied = Histogram {
                sum: histogram.sum,
                buckets: match &histogram.buckets {
                    Buckets::Integer { .. } => Buckets::default(),
                    Buckets::Float { .. } => Buckets::Float {
                        zero_count: 0.0,
                        count: 0.0,
                        positive: Vec::new(),
                        negative: Vec::new(),
                    },
                },
                ..Histogram::default()
            };
            &emptied
        } else {
            histogram
        };
        let flags = match histogram.reset_hint {
            ResetHint::Unknown => 0,
            ResetHint::Reset => 0b1000_0000,
            ResetHint::NotReset => 0b0100_0000,
            ResetHint::Gauge => 0b1100_0000,
        };
        let mut bits = Bits::after(vec![0, 0, flags]);
        put_layout(&mut bits, histogram);
        bits.put_near(time_ms);
        let counts = match &histogram.buckets {
            Buckets::Integer { .. } => {
                let counts = integers(histogram);
                for (at, count) in counts.iter().enumerate() {
                    match at {
                        0 | 1 => bits.put_small(count.cast_unsigned()),
                        _ => bits.put_near(*count),
                    }
                    if at == 1 {
                        bits.put_float(histogram.sum);
                    }
                }
                Counts::Integer(counts.into_iter().map(|count| (count, 0)).collect())
            }
            Buckets::Float { .. } => {
                let counts = floats(histogram);
                for (at, count) in counts.iter().enumerate() {
                    bits.put_float(*count);
                    if at == 1 {
                        bits.put_float(histogram.sum);
                    }
                }
                Counts::Float(counts.into_iter().map(Xor::after).collect())
            }
        };
        Self {
            bits,
            count: 1,
            first_ms: time_ms,
            time_ms,
            step: 0,
            sum: Xor::after(histogram.sum),
            counts,
        }
    }

    /// Adds a histogram that [`continues`] the last one.
    fn append(&mut self, time_ms: i64, histogram: &Histogram) {
        let step = time_ms.wrapping_sub(self.time_ms);
        self.bits.put_near(step.wrapping_sub(self.step));
        (self.time_ms, self.step) = (time_ms, step);
        self.count += 1;
        match &mut self.counts {
            Counts::Integer(counts) => {
                let next = integers(histogram);
                for (at, ((before, delta), count)) in counts.iter_mut().zip(next).enumerate() {
                    let change = count.wrapping_sub(*before);
                    self.bits.put_near(change.wrapping_sub(*delta));
                    (*before, *delta) = (count, change);
                    if at == 1 {
                        self.sum.put(histogram.sum, &mut self.bits);
                    }
                }
            }
            Counts::Float(counts) => {
                for (at, (before, count)) in counts.iter_mut().zip(floats(histogram)).enumerate() {
                    before.put(count, &mut self.bits);
                    if at == 1 {
                        self.sum.put(histogram.sum, &mut self.bits);
                    }
                }
            }
        }
    }

    fn finish(self) -> Chunk {
        let mut data = self.bits.into_bytes();
        if let Some(place) = data.first_chunk_mut() {
            *place = count(self.count);
        }
        Chunk {
            min_ms: self.first_ms,
            max_ms: self.time_ms,
            encoding: match self.counts {
                Counts::Integer(_) => Encoding::Histogram,
                Counts::Float(_) => Encoding::FloatHistogram,
            },
            data,
        }
    }
}

/// How many samples a chunk has, as it says so; there are never more than [`SAMPLES_MAX`].
fn count(samples: usize) -> [u8; 2] {
    u16::try_from(samples).unwrap_or(u16::MAX).to_be_bytes()
}

/// Count, zero count and buckets, of these each as its difference from the one before.
fn integers(histogram: &Histogram) -> Vec<i64> {
    let Buckets::Integer {
        zero_count,
        count,
        positive,
        negative,
    } = &histogram.buckets
    else {
        return Vec::new();
    };
    let mut all = vec![count.cast_signed(), zero_count.cast_signed()];
    for side in [positive, negative] {
        let mut before = 0i64;
        all.extend(side.iter().map(|count| {
            let change = count.wrapping_sub(before);
            before = *count;
            change
        }));
    }
    all
}

/// Count, zero count and buckets.
fn floats(histogram: &Histogram) -> Vec<f64> {
    let Buckets::Float {
        zero_count,
        count,
        positive,
        negative,
    } = &histogram.buckets
    else {
        return Vec::new();
    };
    let both = positive.iter().chain(negative).copied();
    [*count, *zero_count].into_iter().chain(both).collect()
}

/// What all histograms of a chunk have in common.
fn put_layout(bits: &mut Bits, histogram: &Histogram) {
    put_threshold(bits, histogram.zero_threshold);
    bits.put_near(i64::from(histogram.schema));
    put_spans(bits, &histogram.positive_spans);
    put_spans(bits, &histogram.negative_spans);
    if histogram.has_custom_bounds() {
        bits.put_small(histogram.custom_values.len() as u64);
        for bound in &histogram.custom_values {
            put_bound(bits, *bound);
        }
    }
}

fn put_spans(bits: &mut Bits, spans: &[Span]) {
    bits.put_small(spans.len() as u64);
    for span in spans {
        bits.put_small(u64::from(span.length));
        bits.put_near(i64::from(span.offset));
    }
}

/// Zero is a zero byte, a power of two from 2^-243 to 2^10 a byte, all else a byte and a float.
fn put_threshold(bits: &mut Bits, threshold: f64) {
    let raw = threshold.to_bits();
    let (exponent, fraction) = (raw >> 52, raw & ((1 << 52) - 1));
    // The exponent that the byte holds counts from one half: 2^-243 is 1, 2^10 is 254.
    let byte = exponent.wrapping_sub(1023 - 244);
    if raw == 0 {
        bits.put(0, 8);
    } else if fraction == 0 && (1..=254).contains(&byte) {
        bits.put(byte, 8);
    } else {
        bits.put(255, 8);
        bits.put_float(threshold);
    }
}

/// Thousandths from 0 to 33554.430 are a small number above zero, all else is a zero and a float.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a whole number that was checked to be in range"
)]
fn put_bound(bits: &mut Bits, bound: f64) {
    let thousandths = (bound * 1000.0).round();
    if (0.0..=33_554_430.0).contains(&(bound * 1000.0))
        && (thousandths / 1000.0).to_bits() == bound.to_bits()
    {
        bits.put_small(thousandths as u64 + 1);
    } else {
        bits.put(0, 1);
        bits.put_float(bound);
    }
}

#[cfg(test)]
mod tests;
