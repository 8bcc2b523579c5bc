//! Tests of the run codec as a whole: golden bytes, round trips, ranges, sizes and hostile bytes.

use proptest::prelude::*;
use trine_storage::Kind;

use super::page::PAGE_ROWS;
use super::*;

const STALE: u64 = 0x7ff0_0000_0000_0002;

fn floats(values: &[f64], effort: Effort) -> Vec<u8> {
    let mut out = Vec::new();
    encode_floats(values, effort, &mut out);
    out
}

fn integers(values: &[i64], effort: Effort) -> Vec<u8> {
    let mut out = Vec::new();
    encode_integers(values, effort, &mut out);
    out
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Both efforts give all rows back, and each of `ranges` gives its rows.
fn check_floats(values: &[f64], ranges: &[(usize, usize)]) {
    for effort in [Effort::Fast, Effort::Small] {
        let bytes = floats(values, effort);
        for &(start, end) in ranges.iter().chain(&[(0, values.len())]) {
            let rows = start..end;
            let mut got = vec![7.0];
            decode_floats("run", &bytes, values.len(), rows.clone(), &mut got).unwrap();
            assert_eq!(
                bits(&got[1..]),
                bits(&values[rows.clone()]),
                "{effort:?} {rows:?}"
            );
        }
    }
}

fn check_integers(values: &[i64], ranges: &[(usize, usize)]) {
    for effort in [Effort::Fast, Effort::Small] {
        let bytes = integers(values, effort);
        for &(start, end) in ranges.iter().chain(&[(0, values.len())]) {
            let rows = start..end;
            let mut got = vec![7];
            decode_integers("run", &bytes, values.len(), rows.clone(), &mut got).unwrap();
            assert_eq!(got[1..], values[rows.clone()], "{effort:?} {rows:?}");
        }
    }
}

/// Pseudo-random numbers below `end`.
fn random(seed: u64, end: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % end
    })
}

fn counter(rows: usize, step: u64) -> Vec<i64> {
    let mut sum = 0;
    let add = |step: u64| {
        sum += step.cast_signed();
        sum
    };
    random(1, step).take(rows).map(add).collect()
}

#[test]
fn golden_bytes() {
    let check = |values: &[f64], expect: &[u8]| assert_eq!(floats(values, Effort::Small), expect);
    check(&[], &[]);
    check(&[0.0], &[0]);
    check(&[1.0; 9], &[0, 0x3f, 0xf0]);
    check(
        &[f64::from_bits(STALE); 2],
        &[0, 0x7f, 0xf0, 0, 0, 0, 0, 0, 2],
    );
    check(&[1.5, 1.75, 2.0], &[17, 0, 172, 2, 50]);
    check(
        &[1.0, 2.0, f64::from_bits(STALE), 3.0],
        &[5, 1, 3, 0, 4, 0, 3, 0, 0, 0, 0, 2, 2],
    );
    let thirds = [
        2, 0, 170, 213, 170, 213, 170, 213, 170, 213, 127, 128, 128, 128, 128, 128, 128, 128, 16,
    ];
    check(&[1.0 / 3.0, 2.0 / 3.0], &thirds);
    let check = |values: &[i64], expect: &[u8]| assert_eq!(integers(values, Effort::Small), expect);
    check(&[], &[]);
    check(&[-3], &[0, 5, 0]);
    check(&[15_000, 30_000, 45_000], &[0, 176, 234, 1, 176, 234, 1]);
    let mut changes = [5; 60];
    changes[40..].fill(7);
    check(&changes, &[1, 1, 3, 0, 80, 0, 0, 10, 4]);
    check(&[0, 1, 1, 2, 3, 3, 4, 4], &[6, 1, 0, 16, 16, 218]);
    check(&[3, 0, 1, 2, 0, 3, 1, 2], &[2, 6, 5, 32, 16, 54, 198]);
    check(
        &[0, 40, 50, 90, 70, 30, 10, 60, 20, 80],
        &[34, 0, 10, 0, 64, 16, 40, 22, 115, 89, 4],
    );
    let jitter = [
        15_001, 30_000, 45_002, 60_001, 75_000, 90_001, 105_002, 120_000,
    ];
    check(&jitter, &[66, 178, 234, 1, 176, 234, 1, 1, 32, 16, 24, 73]);
}

#[test]
fn special_values_come_back_bit_for_bit() {
    let odd = [
        f64::from_bits(STALE),
        f64::NAN,
        -f64::NAN,
        f64::from_bits(0x7ff8_dead_beef_0001),
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        f64::MIN_POSITIVE,
        5e-324,
        f64::MAX,
        f64::MIN,
        1e22,
        9.2e18,
        -9.3e18,
        0.1,
        1.0 / 3.0,
        123_456_789.012_345_6,
        9_007_199_254_740_993.0,
        2_251_799_813_685_248.5,
    ];
    check_floats(&odd, &[(3, 9), (0, 0), (20, 20)]);
    for &value in &odd {
        check_floats(&[value], &[]);
        check_floats(&[value; 300], &[(17, 50)]);
        for base in [1.0, 0.01, 1.0 / 3.0] {
            let mut values: Vec<f64> = counter(5_000, 700)
                .iter()
                .map(|&n| n as f64 * base)
                .collect();
            for row in [0, 1, 77, 2_047, 2_048, 4_999] {
                values[row] = value;
            }
            check_floats(
                &values,
                &[(0, 1), (1, 2), (76, 79), (2_040, 2_060), (4_990, 5_000)],
            );
        }
    }
}

#[test]
fn integers_at_the_ends_come_back() {
    let ends = [i64::MIN, i64::MAX, 0, -1, 1, i64::MIN + 1, i64::MAX - 1];
    let picked: Vec<i64> = random(3, 7)
        .take(3_000)
        .map(|at| ends[usize::try_from(at).unwrap()])
        .collect();
    check_integers(&picked, &[(5, 17), (2_047, 2_049)]);
    check_integers(&[i64::MIN, i64::MAX], &[]);
    check_integers(&[i64::MIN, 0, i64::MIN, 0, 0], &[(1, 3)]);
    check_integers(&[0, i64::MIN, 0, 5], &[(1, 3)]);
    let wide: Vec<i64> = random(9, u64::MAX)
        .take(2_500)
        .map(|bits| (bits << 11 | bits).cast_signed())
        .collect();
    check_integers(&wide, &[(2_000, 2_100)]);
}

#[test]
fn lengths_around_groups_and_pages_come_back() {
    for rows in (1..40).chain([
        255, 256, 257, 2_047, 2_048, 2_049, 2_051, 4_095, 4_096, 4_097, 10_000,
    ]) {
        for step in [2, 5, 600, 1 << 20, 1 << 33] {
            check_integers(
                &counter(rows, step),
                &[(0, rows / 2), (rows / 2, rows), (rows - 1, rows)],
            );
        }
    }
}

#[test]
fn more_spikes_than_bins_come_back() {
    // Each of 3,000 far apart values would deserve a bin of its own.
    let spikes: Vec<i64> = random(6, 3_000)
        .take(60_000)
        .map(|n| (n * n * 8_191 + n).cast_signed())
        .collect();
    check_integers(&spikes, &[(59_000, 60_000)]);
}

#[test]
fn sizes_are_near_the_entropy() {
    // Bits a row that a perfect coder would need, and what we may take for 5,760 rows.
    for (step, entropy) in [(2u64, 1.0), (3, 1.585), (601, 9.231), (6_000_001, 22.517)] {
        let size = integers(&counter(5_760, step), Effort::Small).len() as f64;
        assert!(
            size < 5_760.0 * entropy / 8.0 * 1.01 + 40.0,
            "{step}: {size} bytes"
        );
    }
    let regular: Vec<i64> = (0..5_760)
        .map(|row| 1_763_700_000_000 + row * 15_000)
        .collect();
    assert_eq!(integers(&regular, Effort::Fast).len(), 10);
    let mut gap = regular.clone();
    gap.remove(1_000);
    assert!(integers(&gap, Effort::Small).len() < 40);
    let jitter: Vec<i64> = regular
        .iter()
        .zip(random(4, 7))
        .map(|(t, j)| t + j.cast_signed())
        .collect();
    assert!(integers(&jitter, Effort::Small).len() < 2_200);
    let mut seldom = vec![5.25; 5_760];
    seldom[3_000..].fill(6.5);
    assert!(floats(&seldom, Effort::Small).len() < 24);
    let pages: Vec<f64> = counter(5_760, 100)
        .iter()
        .map(|&n| 8e9 + n as f64 * 4_096.0)
        .collect();
    assert!(floats(&pages, Effort::Small).len() < 4_880);
    // One stale marker costs some bytes, it does not spoil the rest.
    let mut stale: Vec<f64> = counter(5_760, 100).iter().map(|&n| n as f64).collect();
    let before = floats(&stale, Effort::Small).len();
    stale[2_222] = f64::from_bits(STALE);
    assert!(floats(&stale, Effort::Small).len() < before + 40);
}

#[test]
fn only_the_pages_of_a_range_are_read() {
    let values = counter(3 * PAGE_ROWS, 250);
    let bytes = integers(&values, Effort::Small);
    let mut damaged = bytes.clone();
    let middle = bytes.len() / 2;
    damaged[middle] ^= 0x55;
    let last = 2 * PAGE_ROWS..3 * PAGE_ROWS;
    for rows in [0..PAGE_ROWS, last] {
        let mut got = Vec::new();
        decode_integers("run", &damaged, values.len(), rows.clone(), &mut got).unwrap();
        assert_eq!(got, values[rows]);
    }
    let mut got = Vec::new();
    let whole = decode_integers("run", &damaged, values.len(), 0..values.len(), &mut got);
    assert!(whole.is_err() || got != values);
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let bytes = floats(&[1.0, 2.5], Effort::Fast);
    for (start, end) in [(0, 3), (3, 3), (2, 1)] {
        let rows = start..end;
        let error = decode_floats("run", &bytes, 2, rows.clone(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let error = decode_integers("run", &[0, 0, 0], 2, rows, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
    }
}

/// One run of each kind.
fn samples() -> Vec<Vec<f64>> {
    let mut stale: Vec<f64> = counter(600, 9).iter().map(|&n| n as f64 / 100.0).collect();
    stale[300] = f64::from_bits(STALE);
    let mut seldom = vec![1.0; 500];
    seldom[100..].fill(2.0);
    seldom[350..].fill(7.0);
    let ramp = |n: i64| n as f64 * n as f64;
    vec![
        vec![0.25; 10],
        (0..50).map(f64::from).collect(),
        seldom,
        stale,
        counter(300, 2).iter().map(|&n| n as f64).collect(),
        counter(2_300, 100_000)
            .iter()
            .map(|&n| n as f64 * 3.0)
            .collect(),
        (0..700).map(ramp).collect(),
        random(2, 1 << 50)
            .take(300)
            .map(|n| n as f64 / 7.0)
            .collect(),
        random(2, u64::MAX)
            .take(100)
            .map(|n| f64::from_bits(n << 11 | n))
            .collect(),
    ]
}

fn decode_anything(bytes: &[u8], count: usize) {
    let mut got = Vec::new();
    let result = decode_floats("run", bytes, count, 0..count, &mut got);
    assert!(
        got.capacity() <= 4 * count.max(PAGE_ROWS),
        "{} rows for {count}",
        got.capacity()
    );
    if result.is_ok() {
        assert_eq!(got.len(), count);
    }
    let mut got = Vec::new();
    let rows = count / 3..count / 2;
    if decode_integers("run", bytes, count, rows.clone(), &mut got).is_ok() {
        assert_eq!(got.len(), rows.len());
    }
}

#[test]
fn cut_and_flipped_bytes_never_panic() {
    for values in samples() {
        let bytes = floats(&values, Effort::Small);
        for len in 0..bytes.len() {
            decode_anything(&bytes[..len], values.len());
        }
        // All bits of the header, and some of the pages.
        let step = (bytes.len() / 600).max(1);
        for at in (0..bytes.len().min(200)).chain((200..bytes.len()).step_by(step)) {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                decode_anything(&flipped, values.len());
            }
        }
        for count in [0, 1, values.len() - 1, values.len() + 1, 100_000] {
            decode_anything(&bytes, count);
        }
    }
}

#[test]
fn a_cut_page_is_an_error() {
    for values in samples().split_off(4) {
        let bytes = floats(&values, Effort::Small);
        for len in 0..bytes.len() {
            let mut got = Vec::new();
            let result = decode_floats(
                "run",
                &bytes[..len],
                values.len(),
                0..values.len(),
                &mut got,
            );
            assert!(
                result.is_err() || bits(&got) != bits(&values),
                "{len} of {}",
                bytes.len()
            );
        }
    }
}

/// Values of many kinds, one after the other.
fn mixes() -> impl Strategy<Value = Vec<f64>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u64>().prop_map(f64::from_bits), 1..20),
        (any::<f64>(), 1usize..300).prop_map(|(value, rows)| vec![value; rows]),
        (1u64..1_000, 0u32..6, 1usize..900).prop_map(|(step, decimals, rows)| {
            let power = 10f64.powi(decimals.cast_signed());
            counter(rows, step)
                .iter()
                .map(|&n| n as f64 / power)
                .collect()
        }),
        (-1e9..1e9, 1usize..400).prop_map(|(start, rows)| {
            random(5, 1 << 40)
                .take(rows)
                .map(|n| start + n as f64 / 3e10)
                .collect()
        }),
        Just(vec![f64::from_bits(STALE)]),
        Just(vec![-0.0]),
    ];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_mix_round_trips(values in mixes(), a in 0.0f64..1.0, b in 0.0f64..1.0) {
        let place = |part: f64| (values.len() as f64 * part) as usize;
        check_floats(&values, &[(place(a.min(b)), place(a.max(b)))]);
    }

    #[test]
    fn any_integers_round_trip(
        values in prop::collection::vec(prop_oneof![any::<i64>(), -9i64..9, Just(1_000_000)], 0..700),
        spread in 0u32..63,
        a in 0.0f64..1.0,
        b in 0.0f64..1.0,
    ) {
        let values: Vec<i64> = values.iter().map(|value| value >> spread).collect();
        let place = |part: f64| (values.len() as f64 * part) as usize;
        check_integers(&values, &[(place(a.min(b)), place(a.max(b)))]);
    }

    #[test]
    fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..64, count in 0usize..5_000) {
        decode_anything(&bytes, count);
        let mut typed = vec![kind];
        typed.extend(bytes);
        decode_anything(&typed, count);
    }
}
