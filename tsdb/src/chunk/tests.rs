//! Chunks byte by byte, and all kinds of samples and bytes.

use proptest::prelude::*;
use trine_storage::Kind;

use super::*;

fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
    let (mut out, mut encoder) = (Vec::new(), FloatEncoder::new());
    let mut before = None;
    for (timestamp, value) in samples {
        encoder.append(&mut out, before.replace(*timestamp), *timestamp, *value);
    }
    out
}

/// Decodes behind what the columns already have. Checks that they stay of one length, that errors
/// are of the right kind and leave the columns as they were.
fn decode(bytes: &[u8], count: usize) -> trine_storage::Result<Vec<(i64, u64)>> {
    let (mut timestamps, mut values) = (vec![7], vec![7.0]);
    let result = decode_floats("a", bytes, count as u32, &mut timestamps, &mut values);
    assert_eq!((timestamps[0], values[0]), (7, 7.0));
    assert_eq!(timestamps.len(), values.len());
    assert_eq!(timestamps.len(), if result.is_ok() { count + 1 } else { 1 });
    assert!(
        timestamps.capacity() <= 8 * bytes.len() + 16 + 4,
        "{}",
        timestamps.capacity()
    );
    if let Err(error) = &result {
        assert_eq!(error.kind(), Kind::Corrupt);
    }
    let bits = values.iter().map(|value| value.to_bits());
    let decoded: Vec<_> = timestamps.iter().copied().zip(bits).skip(1).collect();
    assert!(decoded.is_sorted_by(|(one, _), (other, _)| one < other));
    result.map(|()| decoded)
}

fn bits(samples: &[(i64, f64)]) -> Vec<(i64, u64)> {
    samples
        .iter()
        .map(|(timestamp, value)| (*timestamp, value.to_bits()))
        .collect()
}

/// Samples every 15 s.
fn regular(values: impl IntoIterator<Item = f64>) -> Vec<(i64, f64)> {
    let timestamps = (0..).map(|step| 1_790_000_000_000 + step * 15_000);
    timestamps.zip(values).collect()
}

fn stale() -> f64 {
    f64::from_bits(STALE)
}

/// The bytes written down in FORMAT.md, "Chunk".
#[test]
fn golden_bytes() {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let check = |samples: &[(i64, f64)], expected: &str| {
        let bytes = encode(samples);
        assert_eq!(hex(&bytes), expected, "{samples:?}");
        assert_eq!(decode(&bytes, samples.len()).unwrap(), bits(samples));
    };
    check(&[(1000, 1.0)], "d00f023ff0");
    check(
        &[
            (1000, 1.0),
            (2000, 1.0),
            (3000, 1.0),
            (4000, 3.0),
            (5000, 4.0),
        ],
        "d00f023ff0f8001f41a00860",
    );
    check(
        &[
            (1000, 0.5),
            (2000, 0.25),
            (2998, stale()),
            (4000, 0.25),
            (5000, 1.0 / 3.0),
        ],
        "d00f023fe0f8001f4710ea6efb38264dcaaaaaaaaaaaaa80",
    );
}

/// What the head pays for each series.
#[test]
fn an_encoder_is_small() {
    assert_eq!(size_of::<FloatEncoder>(), 32);
}

/// Upper limits for the bytes of a chunk of 240 samples by kind of series.
#[test]
fn usual_series_are_small() {
    let mut random = 1u64;
    let mut below = |limit: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (((random >> 33) * limit) >> 31) as f64
    };
    let mut sum = 1e9;
    let counter: Vec<f64> = (0..240).map(|_| (sum += below(1000), sum).1).collect();
    let cents: Vec<f64> = (0..240).map(|_| (5000.0 + below(256)) / 100.0).collect();
    let pages: Vec<f64> = (0..240).map(|_| (1e6 + below(64)) * 4096.0).collect();
    let toggle: Vec<f64> = (0..240).map(|_| below(2)).collect();
    let check = |values: &[f64], bits_max: usize| {
        let len = encode(&regular(values.iter().copied())).len();
        assert!(
            len * 8 <= bits_max,
            "{} bits of at most {bits_max}",
            len * 8
        );
    };
    let head = 200;
    check(&[1.0; 240], head + 240);
    check(&counter, head + 240 * 12);
    check(&cents, head + 240 * 12);
    check(&pages, head + 240 * 10);
    check(&toggle, head + 240 * 4);
    let steady: Vec<f64> = (0..240).map(|step| 1e9 + 150.0 * f64::from(step)).collect();
    check(&steady, head + 240 * 2 + 16 * 10);
    let jitter: Vec<_> = (0..240)
        .map(|i| (1_790_000_000_000 + i * 15_000 + i * 7 % 31, 1.0))
        .collect();
    let len = encode(&jitter).len();
    assert!(len * 8 <= head + 240 * 11, "{len}");
}

/// A wide XOR does not make all that follow wide.
#[test]
fn a_window_of_xors_gets_narrow_again() {
    let narrow = (0..100).map(|step| f64::from_bits(0x3ff0_1234_5678_9abc + (step << 20)));
    let values = [1e300, -1.0 / 3.0].into_iter().chain(narrow);
    let bytes = encode(&regular(values));
    assert!(bytes.len() <= 50 + 100 * 2, "{}", bytes.len());
}

/// Floats that are no integers although they are close or equal to one.
#[test]
fn special_values_among_integers_come_back() {
    let nan = |payload: u64| f64::from_bits(0x7ff8_0000_0000_0000 | payload);
    let close = f64::from_bits(2.0f64.to_bits() + 1);
    let far = [
        2f64.powi(51),
        2f64.powi(53) + 2.0,
        1e300,
        f64::MAX,
        -f64::MAX,
        5e-324,
    ];
    let specials = [
        -0.0,
        nan(0),
        nan(7),
        -nan(1),
        f64::INFINITY,
        -f64::INFINITY,
        close,
        stale(),
    ];
    for divisor in [1.0, 100.0, 1.0 / 4096.0] {
        let integers = [0.0, 1.0, 2.0, 3.0, 1.0, 0.0].map(|integer| integer / divisor);
        for special in specials.into_iter().chain(far) {
            let samples = regular(
                integers
                    .into_iter()
                    .chain([special, special])
                    .chain(integers),
            );
            let bytes = encode(&samples);
            assert_eq!(decode(&bytes, samples.len()).unwrap(), bits(&samples));
        }
    }
}

/// After a few equal intervals, whatever it was before, an interval is the usual one.
#[test]
fn a_new_interval_becomes_the_usual_one() {
    for interval in [1, 14_999, 15_031, 15_500, 60_000, 3_600_000] {
        let mut samples = regular([1.0; 10]);
        let before = encode(&samples);
        for _ in 0..103 {
            samples.push((samples[samples.len() - 1].0 + interval, 1.0));
        }
        let after = encode(&samples);
        assert_eq!(decode(&after, samples.len()).unwrap(), bits(&samples));
        let grown = after.len() - before.len();
        assert!(grown <= 25, "{interval}: {grown} bytes");
    }
}

#[test]
fn a_missing_sample_costs_one_interval() {
    let mut samples = regular([1.0; 101]);
    let whole = encode(&samples);
    samples.remove(50);
    let bytes = encode(&samples);
    assert!(
        bytes.len() <= whole.len() + 3,
        "{} {}",
        bytes.len(),
        whole.len()
    );
}

/// No sample is longer than the limit, and one is as long.
#[test]
fn a_sample_has_at_most_so_many_bytes() {
    let far = 1 << 40;
    let samples = [
        (i64::MIN, f64::from_bits(u64::MAX)),
        (i64::MIN + far, 1.0),
        (0, f64::from_bits(0xffff_ffff_ffff_fffe)),
        (i64::MAX, f64::from_bits(1)),
    ];
    let (mut out, mut encoder) = (Vec::new(), FloatEncoder::new());
    let (mut longest, mut before) = (0, None);
    for (timestamp, value) in samples {
        let len = out.len();
        encoder.append(&mut out, before.replace(timestamp), timestamp, value);
        longest = longest.max(out.len() - len);
    }
    assert_eq!(longest, SAMPLE_BYTES_MAX);
    assert_eq!(decode(&out, 4).unwrap(), bits(&samples));
}

/// The vector grows only when a byte is needed, though the encoder likes to write eight.
#[test]
fn no_byte_is_asked_for_that_is_not_needed() {
    let whole = encode(&regular((0..100).map(f64::from)));
    let (mut out, mut encoder) = (Vec::with_capacity(whole.len()), FloatEncoder::new());
    let (capacity, mut before) = (out.capacity(), None);
    for (timestamp, value) in regular((0..100).map(f64::from)) {
        encoder.append(&mut out, before.replace(timestamp), timestamp, value);
    }
    assert_eq!((out.capacity(), out), (capacity, whole));
}

#[test]
fn what_cannot_be_a_chunk_is_corrupt() {
    let bytes = encode(&regular([1.0; 9]));
    // 2^62 after 2^62.
    let mut late = encode(&[(0, 0.0), (1 << 62, 0.0)]);
    late.splice(..1, encode(&[(1 << 62, 0.0)])[..10].iter().copied());
    let with_tail = |tail: &[u8]| [&bytes[..], tail].concat();
    let check = |bytes: &[u8], count: usize, expected: &str| {
        let error = decode(bytes, count).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}, not {expected}");
    };
    check(&[], 1, "ends too early");
    check(&bytes[..6], 1, "ends too early");
    check(&bytes[..8], 1, "ends too early");
    check(&[0, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1], 1, "longer than a value");
    check(
        &bytes,
        u32::MAX as usize,
        "shorter than its number of samples",
    );
    check(&bytes, 17, "ends within its samples");
    check(&with_tail(&[0b1101_1000; 20]), 40, "form");
    // XORs of 64 bits behind 63 zeros, integers of 63 bits.
    check(
        &with_tail(&[0b1100_1111, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        40,
        "form",
    );
    check(
        &with_tail(&[0b1101_0000, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        40,
        "form",
    );
    // No interval, one of 0, of -1, and 2^62 after 2^62.
    check(&[2, 0, 0, 0], 2, "do not rise");
    check(&[2, 0, 0b1110_0000, 0, 0, 0], 2, "do not rise");
    check(&[2, 0, 0b1110_1111, 0xff, 0, 0], 2, "do not rise");
    check(&late, 2, "do not rise");
    // Ten samples 2^31 apart, of which the last would be behind the end of time.
    let end = i64::MAX - (9 << 31);
    let first: Vec<_> = (0..10).map(|step| (end + (step << 31), 0.0)).collect();
    let mut bytes = encode(&first);
    assert_eq!(decode(&bytes, 10).unwrap(), bits(&first));
    bytes.push(0);
    check(&bytes, 18, "do not rise");
    assert_eq!(decode(&[], 0).unwrap(), []);
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-100i32..100).prop_map(f64::from),
        any::<i64>().prop_map(|integer| integer as f64),
        (any::<i32>(), 0..9).prop_map(|(integer, e)| f64::from(integer) / 10f64.powi(e)),
        prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
        Just(stale()),
    ]
}

/// Intervals and values of a stretch of one kind, so that windows get used; between stretches
/// anything may change.
fn stretch() -> impl Strategy<Value = Vec<(u64, f64)>> {
    let interval = prop_oneof![
        4 => Just(15_000u64),
        1 => 14_990u64..15_010,
        1 => 1u64..5_000_000,
        1 => 1u64..u64::MAX / 64,
    ];
    let regular = (1u64..60_000).prop_flat_map(|i| prop::collection::vec(Just(i), 1..80));
    let irregular = prop::collection::vec(interval, 1..40);
    let intervals = prop_oneof![regular, irregular];
    let step = prop_oneof![1i64..10, -1000i64..100_000, -1i64 << 50..1 << 50];
    (intervals, value(), step, 0..6, any::<u64>()).prop_map(
        |(intervals, start, step, kind, seed)| {
            let mut value = start;
            let mut random = seed | 1;
            let next = |interval| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let x = (random >> 20) as i64 % (step.abs() + 1);
                match kind {
                    0 => value += x as f64,
                    1 => value = ((value * 100.0).round() + x as f64) / 100.0,
                    2 if x % 3 == 0 => value -= step as f64,
                    3 => value = f64::from_bits(value.to_bits() ^ (random >> (random & 63))),
                    4 => value = (x * 4096) as f64,
                    _ => {}
                }
                let value = if random % 50 == 0 { stale() } else { value };
                (interval, value)
            };
            intervals.into_iter().map(next).collect()
        },
    )
}

fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let start = prop_oneof![any::<i64>(), Just(i64::MIN), Just(1_790_000_000_000)];
    (start, prop::collection::vec(stretch(), 1..6)).prop_map(|(start, stretches)| {
        let mut samples = Vec::new();
        let mut timestamp = start;
        for (interval, value) in stretches.concat() {
            samples.push((timestamp, value));
            let Some(next) = timestamp.checked_add_unsigned(interval) else {
                break;
            };
            timestamp = next;
        }
        samples
    })
}

proptest! {
    #[test]
    fn what_was_appended_comes_back(samples in samples()) {
        let (mut out, mut encoder) = (Vec::new(), FloatEncoder::new());
        let mut before = None;
        for (timestamp, value) in &samples {
            let len = out.len();
            encoder.append(&mut out, before.replace(*timestamp), *timestamp, *value);
            prop_assert!(out.len() <= len + SAMPLE_BYTES_MAX);
            prop_assert_eq!(first_timestamp(&out), samples.first().map(|(first, _)| *first));
        }
        prop_assert_eq!(decode(&out, samples.len()).unwrap(), bits(&samples));
    }

    /// The bytes are whole after each sample, and those of more samples do no harm.
    #[test]
    fn any_number_of_first_samples_can_be_read(
        samples in samples(),
        at in any::<prop::sample::Index>(),
    ) {
        let count = at.index(samples.len()) + 1;
        let whole = encode(&samples);
        let part = encode(&samples[..count]);
        let first = bits(&samples[..count]);
        prop_assert_eq!(decode(&whole, count).unwrap(), first.clone());
        prop_assert_eq!(decode(&part, count).unwrap(), first);
    }

    #[test]
    fn every_cut_is_corrupt(samples in samples()) {
        let bytes = encode(&samples);
        for len in 0..bytes.len() {
            let cut = decode(&bytes[..len], samples.len());
            prop_assert!(cut.is_err(), "{} of {}", len, bytes.len());
        }
    }

    /// No bit that flips makes more of it than an error or other samples.
    #[test]
    fn damage_is_harmless(samples in samples(), bit in any::<prop::sample::Index>()) {
        let mut bytes = encode(&samples);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        drop(decode(&bytes, samples.len()));
    }

    #[test]
    fn any_bytes_are_harmless(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        count in prop_oneof![0u32..2000, any::<u32>()],
    ) {
        drop(decode(&bytes, count as usize));
    }
}
