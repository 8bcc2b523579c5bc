//! Runs: golden bytes, round trips of any rows, damage.

use proptest::prelude::*;

use super::super::arbitrary::{hostile_series, valid_series};
use super::super::tests::{integer, span};
use super::*;

fn encode(histograms: &[Arc<Histogram>]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_run(histograms, &mut out).expect("compressed");
    out
}

fn decode(bytes: &[u8], count: usize, rows: Range<usize>) -> Result<Vec<Arc<Histogram>>> {
    let mut out = Vec::new();
    decode_run("test", bytes, count, rows, &mut out)?;
    Ok(out)
}

#[track_caller]
fn check(histograms: &[Arc<Histogram>], rows: Range<usize>) {
    let decoded = decode(&encode(histograms), histograms.len(), rows.clone()).expect("intact");
    let expect = &histograms[rows];
    assert_eq!(decoded.len(), expect.len());
    let mut both = decoded.iter().zip(expect);
    assert!(
        both.all(|(left, right)| left.same_bits(right)),
        "{decoded:?}"
    );
}

/// A series as a busy program has it: `len` scrapes, 60 filled buckets of schema 3.
fn busy(len: usize) -> Vec<Arc<Histogram>> {
    let mut counts = vec![0i64; 60];
    let mut seed = 1u64;
    let mut sum = 0.0;
    (0..len)
        .map(|_| {
            for (place, count) in counts.iter_mut().enumerate() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let added = (seed >> 33) % (1 + place as u64);
                *count += added.cast_signed();
                sum += added as f64 * 0.0137;
            }
            let mut histogram = integer(&counts);
            (histogram.schema, histogram.sum) = (3, sum);
            Arc::new(histogram)
        })
        .collect()
}

#[test]
fn golden_bytes() {
    let mut spans = integer(&[5, 2]);
    spans.positive_spans = vec![span(1, 1), span(1, 1)];
    let mut halves = integer(&[]);
    halves.buckets = Buckets::Float {
        zero_count: 2.0,
        count: 2.5,
        positive: vec![],
        negative: vec![],
    };
    halves.reset_hint = ResetHint::Gauge;
    let run = [
        integer(&[3, 1]),
        integer(&[4, 1]),
        spans,
        Histogram::stale(),
        halves,
    ]
    .map(Arc::new);
    let page: Vec<u8> = [
        // A whole group of two, hint unknown, the layout.
        &[0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 0][..],
        // Sums 1.5 and 1.5; no excess; no zero count; buckets 3 4 and 1 1.
        &[0, 0x02, 0, 0xf8, 0x3f, 0, 0, 0, 0, 1, 6, 2, 0, 2],
        // One of other spans: the sum; excess; zero count; bucket 1 is one more, bucket 3 new.
        &[1, 1, 0, 2, 2, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 4],
        // One stale.
        &[3, 1, 0],
        // One of floats: its layout with an empty span; sum; count 2.5; zero count 2.
        &[0, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0],
        &[0, 0x02, 0xf8, 0x3f, 0, 0x02, 0x04, 0x40, 1, 0, 4],
    ]
    .concat();
    let bytes = encode(&run);
    let mut reader = Reader::new("test", &bytes);
    assert_eq!(reader.varint().expect("rows"), 5);
    assert_eq!(reader.varint().expect("bytes"), page.len() as u64);
    let compressed = reader.bytes().expect("a page");
    let raw = zstd::bulk::decompress(compressed, page.len()).expect("zstd");
    assert_eq!(raw, page);
    check(&run, 0..5);

    // What does not shrink is stored as it is: here one stale histogram.
    let run = [Arc::new(Histogram::stale())];
    assert_eq!(encode(&run), [1, 3, 3, 3, 1, 0]);
    check(&run, 0..1);
    assert!(encode(&[]).is_empty());
}

#[test]
fn pages_are_skipped() {
    let run = busy(5_000);
    let mut bytes = encode(&run);
    for rows in [0..5_000, 0..1, 4_999..5_000, 900..2_100, 1_500..1_500] {
        check(&run, rows);
    }
    // The first page is damaged: rows of later pages are read all the same.
    let mut reader = Reader::new("test", &bytes);
    let first = usize::try_from(reader.varint().expect("a length")).expect("small");
    assert!((500..2_000).contains(&first), "{first} rows a page");
    bytes[40] ^= 0x55;
    bytes[41] ^= 0x55;
    assert!(decode(&bytes, 5_000, 0..5_000).is_err());
    assert_eq!(
        decode(&bytes, 5_000, first..5_000).expect("intact").len(),
        5_000 - first
    );
}

#[test]
fn the_largest_histograms_fit_a_page() {
    let mut widest = integer(&vec![i64::MAX; BUCKETS_MAX]);
    widest.positive_spans = vec![span(0, 1); BUCKETS_MAX];
    let mut other = integer(&vec![i64::MIN; BUCKETS_MAX]);
    other.positive_spans = vec![span(1, 0); BUCKETS_MAX - 1];
    other.positive_spans.push(span(100_000_000, 16_384));
    other.negative_spans = vec![span(100_000, 0); BUCKETS_MAX];
    let run: Vec<_> = [&widest, &other, &widest, &widest, &other]
        .map(|histogram| Arc::new(histogram.clone()))
        .to_vec();
    check(&run, 0..5);
    check(&run, 3..4);
}

#[test]
fn a_busy_series_is_small() {
    let run = busy(480);
    let bytes = encode(&run).len() / run.len();
    let naive = run[0].heap_bytes();
    assert!(bytes < 60 && naive > 600, "{bytes} of {naive} bytes");
}

#[test]
fn small_bytes_cannot_ask_for_much_memory() {
    // A page that says it has many rows of many buckets, all equal.
    let mut raw = vec![0u8];
    put_varint(&mut raw, PAGE_WORDS as u64);
    raw.extend([0, 0, 0]);
    raw.extend([0; 8]);
    raw.extend([0, 1, 0]);
    put_varint(&mut raw, BUCKETS_MAX as u64);
    raw.push(0);
    raw.extend(vec![0; 2 * BUCKETS_MAX + 7]);
    let mut bytes = Vec::new();
    put_varint(&mut bytes, PAGE_WORDS as u64);
    put_varint(&mut bytes, raw.len() as u64);
    put_bytes(&mut bytes, &raw);
    let error = decode(&bytes, PAGE_WORDS, 0..PAGE_WORDS).expect_err("too many counts");
    assert!(error.to_string().contains("more counts"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_goes_in_comes_out(
        valid in valid_series(30),
        hostile in hostile_series(30),
        from in 0usize..31,
        len in 0usize..31,
    ) {
        for series in [valid, hostile] {
            check(&series, 0..series.len());
            let from = from.min(series.len());
            check(&series, from..(from + len).min(series.len()));
        }
    }

    #[test]
    fn no_damage_panics(series in valid_series(10), mask in 1u8..) {
        let bytes = encode(&series);
        let all = 0..series.len();
        prop_assert!(decode(&bytes, series.len() + 1, 0..series.len() + 1).is_err());
        for cut in 0..bytes.len() {
            prop_assert!(decode(&bytes[..cut], series.len(), all.clone()).is_err());
            let mut flipped = bytes.clone();
            flipped[cut] ^= mask;
            if let Ok(decoded) = decode(&flipped, series.len(), all.clone()) {
                prop_assert_eq!(decoded.len(), series.len());
            }
        }
    }

    /// Flips in what is not compressed reach the decoders of groups and columns.
    #[test]
    fn no_damaged_page_panics(series in hostile_series(10), mask in 1u8..) {
        let mut page = Page::default();
        for histogram in &series {
            let form = Form::of(histogram, page.before.as_deref());
            page.put_group(form, std::slice::from_ref(histogram));
        }
        let take = |bytes: &[u8]| {
            let mut out = Vec::new();
            take_page("test", bytes, series.len(), 0..series.len(), &mut out).map(|()| out)
        };
        prop_assert_eq!(take(&page.bytes).expect("intact").len(), series.len());
        for cut in 0..page.bytes.len() {
            prop_assert!(take(&page.bytes[..cut]).is_err());
            let mut flipped = page.bytes.clone();
            flipped[cut] ^= mask;
            for histogram in take(&flipped).unwrap_or_default() {
                let buckets = histogram.positive_buckets().chain(histogram.negative_buckets());
                prop_assert_eq!(buckets.count(), histogram.buckets.len());
            }
        }
    }

    #[test]
    fn any_bytes_are_a_run_or_an_error(bytes: Vec<u8>, count in 0usize..64) {
        if let Ok(histograms) = decode(&bytes, count, 0..count) {
            prop_assert_eq!(histograms.len(), count);
        }
    }
}
