//! Chunks: golden bytes, round trips, damage.

use proptest::prelude::*;

use super::super::arbitrary::{hostile_series, valid_series};
use super::super::tests::{integer, span};
use super::*;

fn encode(samples: &[(i64, Arc<Histogram>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = HistogramEncoder::new();
    for (timestamp, histogram) in samples {
        encoder.append(&mut out, *timestamp, histogram);
    }
    out
}

fn decode(bytes: &[u8], count: usize) -> Result<Vec<(i64, Arc<Histogram>)>> {
    let (mut timestamps, mut histograms) = (Vec::new(), Vec::new());
    let count = u32::try_from(count).expect("few samples");
    decode_histograms("test", bytes, count, &mut timestamps, &mut histograms)?;
    Ok(timestamps.into_iter().zip(histograms).collect())
}

fn same(left: &[(i64, Arc<Histogram>)], right: &[(i64, Arc<Histogram>)]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(left, right)| left.0 == right.0 && left.1.same_bits(&right.1))
}

#[test]
fn golden_bytes() {
    let whole = integer(&[3, 1]);
    let mut spans = integer(&[3, 2]);
    spans.positive_spans = vec![span(1, 1), span(1, 1)];
    let stale = Histogram {
        reset_hint: ResetHint::Gauge,
        ..Histogram::stale()
    };
    let samples: Vec<(i64, Arc<Histogram>)> = [
        (1_000, whole.clone()),
        (2_000, whole),
        (3_000, integer(&[3, 2])),
        (4_001, spans),
        (5_001, stale),
    ]
    .map(|(timestamp, histogram)| (timestamp, Arc::new(histogram)))
    .to_vec();
    let bytes = encode(&samples);
    let golden: Vec<u8> = [
        // Whole: 1,000 after 0; the layout; sum 1.5, no excess, no zero count; both buckets.
        &[0x00, 0xd0, 0x0f][..],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 0],
        &[0x02, 0xf8, 0x3f, 0, 0, 0b11, 6, 2],
        // Repeated, on time.
        &[0x25],
        // The same layout, on time: the second bucket is one more.
        &[0x22, 0, 0, 0, 0b10, 2],
        // Other spans, a millisecond late: bucket 1 stays, bucket 3 is new.
        &[0x01, 2, 2, 2, 1, 2, 1, 0, 0, 0, 0, 0b10, 4],
        // Stale, of a gauge, a millisecond less late.
        &[0x1b, 1],
    ]
    .concat();
    assert_eq!(bytes, golden);
    assert!(same(&decode(&bytes, 5).expect("golden"), &samples));
}

#[test]
fn idle_and_stale_samples_are_one_byte() {
    let idle = Arc::new(integer(&[7; 60]));
    let mut samples: Vec<_> = (0..10).map(|i| (i * 15_000, Arc::clone(&idle))).collect();
    let before = encode(&samples[..2]).len();
    assert_eq!(encode(&samples).len(), before + 8);
    let decoded = decode(&encode(&samples), 10).expect("a chunk");
    assert!(Arc::ptr_eq(&decoded[0].1, &decoded[9].1), "one allocation");
    samples.push((150_000, Arc::new(Histogram::stale())));
    assert_eq!(encode(&samples).len(), before + 9);
    // The one after the end is told by the last before it.
    samples.push((165_000, idle));
    assert_eq!(encode(&samples).len(), before + 10);
}

#[test]
fn a_full_chunk_says_so() {
    let mut out = Vec::new();
    let mut encoder = HistogramEncoder::new();
    let mut counts = vec![0; BUCKETS_MAX];
    let mut append = |encoder: &mut HistogramEncoder, out: &mut Vec<u8>| {
        counts[0] += 1;
        encoder.append(out, counts[0], &Arc::new(integer(&counts)));
    };
    let mut full = 0;
    while !encoder.is_full() {
        append(&mut encoder, &mut out);
        full += 1;
    }
    assert_eq!(full, 251);
    assert!(decode(&out, full).is_ok());
    // It has five times the room of such a sample left, then bytes may not ask for more.
    for _ in 0..5 {
        append(&mut encoder, &mut out);
    }
    let error = decode(&out, full + 5).expect_err("too large");
    assert!(error.to_string().contains("more counts"), "{error}");
}

#[test]
fn unsound_layouts_are_refused() {
    // A whole sample at 0 of this schema, these bounds and spans.
    let check = |schema: i8, rest: &[u8], expect: &str| {
        let mut bytes = vec![ON_TIME, 0, schema.cast_unsigned()];
        bytes.extend([0; 8]);
        bytes.extend(rest);
        let error = decode(&bytes, 1).expect_err("unsound").to_string();
        assert!(error.ends_with(expect), "{error}");
    };
    check(9, &[], "no such kind or schema");
    check(-5, &[], "no such kind or schema");
    // 16,385 buckets, on one side or both.
    let many = "more buckets than any may have";
    check(0, &[0, 1, 0, 0x81, 0x80, 1, 0], many);
    check(0, &[0, 1, 0, 0x80, 0x80, 1, 1, 0, 1], many);
    check(0, &[0, 2, 0, 1, 1, 1, 0], "a span whose offset is negative");
    let spans_of_ends = [0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 1, 0];
    check(0, &spans_of_ends, "beyond the largest bucket index");
    check(
        0,
        &[0, 1, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 0],
        "longer than there are buckets",
    );
    // Custom buckets: two without a bound, one below zero.
    check(-53, &[0, 1, 0, 2, 0], "more than their bounds");
    check(-53, &[0, 0, 1, 0, 1], "more than their bounds");
}

fn timestamps(len: usize) -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![4 => Just(15_000i64), 1 => 14_990i64..15_010, 1 => any::<i64>()];
    (any::<i64>(), prop::collection::vec(step, len)).prop_map(|(start, steps)| {
        let next = |time: &mut i64, step: i64| {
            *time = time.wrapping_add(step);
            Some(*time)
        };
        steps.into_iter().scan(start, next).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_goes_in_comes_out(
        valid in valid_series(24), hostile in hostile_series(24), times in timestamps(24),
    ) {
        for series in [valid, hostile] {
            let samples: Vec<_> = times.iter().copied().zip(series).collect();
            let decoded = decode(&encode(&samples), samples.len()).expect("an intact chunk");
            prop_assert!(same(&decoded, &samples), "{decoded:?} {samples:?}");
        }
    }

    #[test]
    fn no_damage_panics(
        series in valid_series(8), times in timestamps(8), mask in 1u8.., more in 0usize..4,
    ) {
        let samples: Vec<_> = times.into_iter().zip(series).collect();
        let bytes = encode(&samples);
        prop_assert!(samples.is_empty() || decode(&bytes, samples.len() - 1).is_err());
        prop_assert!(decode(&bytes, samples.len() + 1 + more).is_err());
        for cut in 0..bytes.len() {
            prop_assert!(decode(&bytes[..cut], samples.len()).is_err());
            let mut flipped = bytes.clone();
            flipped[cut] ^= mask;
            // Another chunk or an error: what comes out has sound layouts either way.
            for (_, histogram) in decode(&flipped, samples.len()).unwrap_or_default() {
                prop_assert_eq!(histogram.positive_buckets().count(), positive_len(&histogram));
            }
        }
    }

    #[test]
    fn any_bytes_are_a_chunk_or_an_error(bytes: Vec<u8>, count in 0usize..64) {
        if let Ok(samples) = decode(&bytes, count) {
            prop_assert_eq!(samples.len(), count);
        }
    }
}

fn positive_len(histogram: &Histogram) -> usize {
    match &histogram.buckets {
        Buckets::Integer { positive, .. } => positive.len(),
        Buckets::Float { positive, .. } => positive.len(),
    }
}
