//! Chunks read back by a decoder that follows Prometheus' description of them.

#![expect(
    clippy::cast_possible_truncation,
    reason = "a decoder of what this program wrote"
)]

use std::sync::Arc;

use proptest::prelude::*;
use trine_tsdb::{Buckets, Histogram, ResetHint, Span, Value, Values};

use super::{Chunk, Encoding, SAMPLES_MAX, encode};

/// Reads bits, highest first.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bits(&mut self, width: u32) -> u64 {
        (0..width).fold(0, |number, _| {
            let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
            self.at += 1;
            number << 1 | u64::from(bit)
        })
    }

    /// How many ones come before the next zero, at most `max`.
    fn ones(&mut self, max: u32) -> u32 {
        (0..max).take_while(|_| self.bits(1) == 1).count() as u32
    }

    fn signed(&mut self, width: u32) -> i64 {
        let bits = self.bits(width);
        if width < 64 && bits > 1 << (width - 1) {
            bits.wrapping_sub(1 << width).cast_signed()
        } else {
            bits.cast_signed()
        }
    }

    fn uvarint(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.bits(8);
            number |= (byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }

    fn varint(&mut self) -> i64 {
        let number = self.uvarint();
        (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
    }

    fn float(&mut self) -> f64 {
        f64::from_bits(self.bits(64))
    }

    fn width(&mut self) -> u32 {
        [0, 3, 6, 9, 12, 18, 25, 56, 64][self.ones(8) as usize]
    }

    fn near(&mut self) -> i64 {
        match self.width() {
            0 => 0,
            width => self.signed(width),
        }
    }

    fn small(&mut self) -> u64 {
        let width = self.width();
        self.bits(width)
    }

    /// The next float after `before`; the window is that of the last one.
    fn xor(&mut self, before: f64, window: &mut (u32, u32)) -> f64 {
        if self.bits(1) == 0 {
            return before;
        }
        if self.bits(1) == 1 {
            let leading = self.bits(5) as u32;
            let width = match self.bits(6) as u32 {
                0 => 64,
                width => width,
            };
            *window = (leading, 64 - leading - width);
        }
        let (leading, trailing) = *window;
        let difference = self.bits(64 - leading - trailing) << trailing;
        f64::from_bits(before.to_bits() ^ difference)
    }
}

fn read_xor(data: &[u8]) -> Vec<(i64, f64)> {
    let mut reader = Reader { bytes: data, at: 0 };
    let count = reader.bits(16);
    let (mut time, mut delta, mut value, mut window) = (0, 0, 0.0, (0, 0));
    let mut samples = Vec::new();
    for at in 0..count {
        match at {
            0 => (time, value) = (reader.varint(), reader.float()),
            1 => {
                delta = reader.uvarint().cast_signed();
                time += delta;
                value = reader.xor(value, &mut window);
            }
            _ => {
                let width = [0, 14, 17, 20, 64][reader.ones(4) as usize];
                let change = if width == 0 { 0 } else { reader.signed(width) };
                delta = delta.wrapping_add(change);
                time = time.wrapping_add(delta);
                value = reader.xor(value, &mut window);
            }
        }
        samples.push((time, value));
    }
    samples
}

/// The histograms of a chunk; the hint is what a reader is told of each.
fn read_histograms(chunk: &Chunk) -> Vec<(i64, Histogram)> {
    let mut reader = Reader {
        bytes: &chunk.data,
        at: 0,
    };
    let count = reader.bits(16);
    let flags = reader.bits(8);
    let zero_threshold = match reader.bits(8) {
        0 => 0.0,
        255 => reader.float(),
        byte => 2f64.powi(byte as i32 - 244),
    };
    let schema = reader.near() as i8;
    let spans = |reader: &mut Reader<'_>| -> Vec<Span> {
        let count = reader.small();
        let span = |_| {
            let length = reader.small() as u32;
            let offset = reader.near() as i32;
            Span { offset, length }
        };
        (0..count).map(span).collect()
    };
    let (positive_spans, negative_spans) = (spans(&mut reader), spans(&mut reader));
    let bounds = if schema == -53 { reader.small() } else { 0 };
    let bound = |_| match reader.small() {
        0 => reader.float(),
        number => (number - 1) as f64 / 1000.0,
    };
    let custom_values: Vec<f64> = (0..bounds).map(bound).collect();
    let buckets = |spans: &[Span]| spans.iter().map(|span| span.length as usize).sum::<usize>();
    let (above, below) = (buckets(&positive_spans), buckets(&negative_spans));
    let numbers = 2 + above + below;

    let whole = chunk.encoding == Encoding::Histogram;
    let (mut time, mut step, mut sum, mut sum_window) = (0i64, 0i64, 0.0, (0, 0));
    let (mut integers, mut deltas) = (vec![0i64; numbers], vec![0i64; numbers]);
    let (mut floats, mut windows) = (vec![0f64; numbers], vec![(0, 0); numbers]);
    let mut found = Vec::new();
    for row in 0..count {
        if row == 0 {
            time = reader.near();
        } else {
            step = step.wrapping_add(reader.near());
            time += step;
        }
        for at in 0..numbers {
            match (whole, row) {
                (true, 0) if at < 2 => integers[at] = reader.small().cast_signed(),
                (true, 0) => integers[at] = reader.near(),
                (true, _) => {
                    deltas[at] += reader.near();
                    integers[at] += deltas[at];
                }
                (false, 0) => floats[at] = reader.float(),
                (false, _) => floats[at] = reader.xor(floats[at], &mut windows[at]),
            }
            if at == 1 {
                sum = match row {
                    0 => reader.float(),
                    _ => reader.xor(sum, &mut sum_window),
                };
            }
        }
        let absolute = |deltas: &[i64]| {
            let sums = deltas.iter().scan(0, |sum, delta| {
                *sum += delta;
                Some(*sum)
            });
            sums.collect::<Vec<i64>>()
        };
        let buckets = if whole {
            Buckets::Integer {
                count: integers[0].cast_unsigned(),
                zero_count: integers[1].cast_unsigned(),
                positive: absolute(&integers[2..2 + above]),
                negative: absolute(&integers[2 + above..]),
            }
        } else {
            Buckets::Float {
                count: floats[0],
                zero_count: floats[1],
                positive: floats[2..2 + above].to_vec(),
                negative: floats[2 + above..].to_vec(),
            }
        };
        let reset_hint = match flags {
            0b1100_0000 => ResetHint::Gauge,
            _ if row > 0 => ResetHint::NotReset,
            0b1000_0000 => ResetHint::Reset,
            0b0100_0000 => ResetHint::NotReset,
            _ => ResetHint::Unknown,
        };
        let histogram = Histogram {
            schema,
            reset_hint,
            zero_threshold,
            sum,
            buckets,
            positive_spans: positive_spans.clone(),
            negative_spans: negative_spans.clone(),
            custom_values: custom_values.clone(),
        };
        found.push((time, histogram));
    }
    found
}

fn chunks(times: &[i64], values: &Values) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    encode(times, values, |chunk| {
        chunks.push(chunk);
        true
    });
    chunks
}

/// Encodes floats and expects them back, bit by bit.
fn check_floats(samples: &[(i64, f64)]) {
    let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
    let chunks = chunks(&times, &Values::Floats(values));
    let mut found = Vec::new();
    for chunk in &chunks {
        let read = read_xor(&chunk.data);
        assert!((1..=SAMPLES_MAX).contains(&read.len()));
        let ends = (read[0].0, read[read.len() - 1].0);
        assert_eq!((chunk.min_ms, chunk.max_ms), ends);
        assert_eq!(chunk.encoding, Encoding::Xor);
        found.extend(read);
    }
    let bits = |samples: &[(i64, f64)]| -> Vec<(i64, u64)> {
        samples
            .iter()
            .map(|(time, v)| (*time, v.to_bits()))
            .collect()
    };
    assert_eq!(bits(&found), bits(samples));
}

#[test]
fn floats() {
    check_floats(&[]);
    check_floats(&[(-7, f64::NAN)]);
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    check_floats(&[
        (i64::MIN / 4, 1.0),
        (0, stale),
        (1, -0.0),
        (i64::MAX / 4, 1.0),
    ]);
    // Every width of a change of the interval, at its edges.
    let mut time = 0;
    let mut samples = vec![(0, 0.5)];
    let edges = [1 << 13, 1 << 16, 1 << 19, 1 << 40i64];
    for (at, edge) in edges.into_iter().enumerate() {
        for delta in [
            1 << 41,
            (1 << 41) + edge,
            1 << 41,
            (1 << 41) + edge - 1,
            (1 << 41) + 2 * edge,
        ] {
            time += delta;
            samples.push((time, f64::from(at as u32) * 0.1));
        }
    }
    check_floats(&samples);
    for count in [SAMPLES_MAX, SAMPLES_MAX + 1, 3 * SAMPLES_MAX] {
        let samples: Vec<(i64, f64)> = (0..count as i64).map(|at| (at * 15_000, 1.0)).collect();
        check_floats(&samples);
    }
    // The bytes of a chunk of two samples, worked out by hand.
    let two = chunks(&[1, 3], &Values::Floats(vec![1.0, 1.0]));
    let bytes = [0, 2, 2, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 2, 0];
    assert_eq!(two[0].data, bytes);
}

fn histogram(counts: [i64; 3], hint: ResetHint) -> Histogram {
    let [a, b, c] = counts;
    Histogram {
        schema: 3,
        reset_hint: hint,
        zero_threshold: 2f64.powi(-128),
        sum: a as f64 * 0.1,
        buckets: Buckets::Integer {
            zero_count: 2,
            count: (a + b + c + 2).cast_unsigned(),
            positive: vec![a, b],
            negative: vec![c],
        },
        positive_spans: vec![
            Span {
                offset: -3,
                length: 1,
            },
            Span {
                offset: 5,
                length: 1,
            },
        ],
        negative_spans: vec![Span {
            offset: 400,
            length: 1,
        }],
        custom_values: vec![],
    }
}

fn as_floats(histogram: &Histogram) -> Histogram {
    let mut of = histogram.clone();
    if let Buckets::Integer {
        zero_count,
        count,
        positive,
        negative,
    } = &histogram.buckets
    {
        let floats = |counts: &[i64]| counts.iter().map(|count| *count as f64 + 0.25).collect();
        of.buckets = Buckets::Float {
            zero_count: *zero_count as f64,
            count: *count as f64,
            positive: floats(positive),
            negative: floats(negative),
        };
    }
    of
}

/// Encodes histograms and expects them back in chunks of these lengths; of hints only what a reader
/// must know.
fn check_histograms(histograms: &[Histogram], lengths: &[usize]) {
    for of in [
        histograms.to_vec(),
        histograms.iter().map(as_floats).collect(),
    ] {
        let times: Vec<i64> = (0..of.len() as i64).map(|at| at * at * 1000 - 5).collect();
        let values = Values::Histograms(of.iter().cloned().map(Arc::new).collect());
        let chunks = chunks(&times, &values);
        let read: Vec<Vec<(i64, Histogram)>> = chunks.iter().map(read_histograms).collect();
        assert_eq!(read.iter().map(Vec::len).collect::<Vec<_>>(), lengths);
        for ((time, mut found), (expected_time, expected)) in
            read.into_iter().flatten().zip(times.iter().zip(&of))
        {
            assert_eq!(time, *expected_time);
            if found.reset_hint != ResetHint::Reset && expected.reset_hint == ResetHint::Unknown {
                found.reset_hint = ResetHint::Unknown;
            }
            if expected.is_stale() {
                assert!(found.is_stale());
            } else {
                assert!(found.same_bits(expected), "{found:?} is not {expected:?}");
            }
        }
    }
}

#[test]
fn histograms() {
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    check_histograms(&[histogram([1, 2, 3], Unknown)], &[1]);
    let rising = |at: i64| histogram([at, at * 2, 5], Unknown);
    let many: Vec<Histogram> = (0..SAMPLES_MAX as i64 + 1).map(rising).collect();
    check_histograms(&many, &[SAMPLES_MAX, 1]);
    // A chunk ends where a reader would miss that the counter began anew.
    let falling = [[9, 9, 9], [9, 9, 8], [9, 9, 9]];
    check_histograms(&falling.map(|counts| histogram(counts, Unknown)), &[1, 2]);
    check_histograms(&falling.map(|counts| histogram(counts, Gauge)), &[3]);
    let hints = [Unknown, NotReset, Reset, NotReset, Gauge, Unknown];
    let same = hints.map(|hint| histogram([1, 1, 1], hint));
    check_histograms(&same, &[2, 2, 1, 1]);
    let mut stale = histogram([1, 1, 1], Unknown);
    stale.sum = f64::from_bits(0x7ff0_0000_0000_0002);
    check_histograms(&[rising(1), stale, rising(2), rising(3)], &[1, 1, 2]);
}

#[test]
fn layouts() {
    for threshold in [
        0.0,
        2f64.powi(-243),
        2f64.powi(-244),
        1024.0,
        2048.0,
        0.1,
        5e-324,
    ] {
        let mut of = histogram([1, 2, 3], ResetHint::Unknown);
        of.zero_threshold = threshold;
        check_histograms(&[of], &[1]);
    }
    let bounds = vec![-1.0, 0.0, 0.001, 0.1, 33_554.43, 33_554.431, 1e9, f64::MAX];
    let of = Histogram {
        schema: -53,
        sum: 1.0,
        buckets: Buckets::Integer {
            zero_count: 0,
            count: 1 << 60,
            positive: vec![1 << 60],
            negative: vec![],
        },
        positive_spans: vec![Span {
            offset: 7,
            length: 1,
        }],
        custom_values: bounds,
        ..Histogram::default()
    };
    check_histograms(&[of], &[1]);
}

#[test]
fn kinds_do_not_mix_in_a_chunk() {
    let one: Value = histogram([1, 2, 3], ResetHint::Unknown).into();
    let values = vec![
        1.0.into(),
        2.0.into(),
        one.clone(),
        one.clone(),
        3.0.into(),
        one,
    ];
    let times: Vec<i64> = (0..6).collect();
    let chunks = chunks(&times, &Values::Mixed(values));
    let kinds: Vec<_> = chunks
        .iter()
        .map(|c| (c.encoding, c.min_ms, c.max_ms))
        .collect();
    let (xor, histogram) = (Encoding::Xor, Encoding::Histogram);
    assert_eq!(
        kinds,
        [
            (xor, 0, 1),
            (histogram, 2, 3),
            (xor, 4, 4),
            (histogram, 5, 5)
        ]
    );
}

#[test]
fn encoding_stops_when_nobody_wants_more() {
    let times: Vec<i64> = (0..1000).collect();
    let mut given = 0;
    encode(&times, &Values::Floats(vec![0.5; 1000]), |_| {
        given += 1;
        given < 3
    });
    assert_eq!(given, 3);
}

proptest! {
    #[test]
    fn any_floats(
        start in any::<i32>(),
        samples in prop::collection::vec((1..1i64 << 40, any::<u64>(), 0..4u8), 0..300),
    ) {
        let (mut time, mut value) = (i64::from(start), 0u64);
        let samples: Vec<(i64, f64)> = samples
            .into_iter()
            .map(|(delta, bits, kind)| {
                time += if kind == 0 { delta } else { delta % 20_000 + 1 };
                value = match kind {
                    0 => bits,
                    1 => value,
                    2 => value ^ (bits & 0xfff0_0000),
                    _ => (bits as u32 as f64).to_bits(),
                };
                (time, f64::from_bits(value))
            })
            .collect();
        check_floats(&samples);
    }
}
