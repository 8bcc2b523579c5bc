//! Bytes a sample by kind of series: a day of samples every 15 s of 100 series, once compacted, the
//! label index and all else in the directory counted, the log not.
//! `cargo run --release -p trine-benches --example tsdb_sizes -- DIR` (empty or missing)

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures with the real clock and ends at the first error"
)]

use std::path::Path;

use trine_storage::Labels;
use trine_storage::shared::Shared;
use trine_tsdb::{Buckets, Durability, Histogram, Span, Tsdb, Value};

const SERIES: usize = 100;
const SAMPLES: usize = 5760;
const STEP_MS: i64 = 15_000;

/// A sequence that looks random and is the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        let x = self.0 ^ self.0 >> 33;
        x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 11
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// From 0 up to 1.
    fn fraction(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 53) as f64
    }
}

/// What a kind of series is called, how late its samples may be, and its next value.
type Kind = (&'static str, u64, fn(&mut Random, f64) -> f64);

const FLOATS: &[Kind] = &[
    ("constant", 0, |_, last| last),
    ("constant, up to 5 ms late", 5, |_, last| last),
    ("counter, one a scrape", 0, |_, last| last + 1.0),
    ("counter, 0 to 1000 a scrape", 0, |r, last| {
        last + r.below(1000) as f64
    }),
    ("counter of bytes, 0 to 10 million", 0, |r, last| {
        last + r.below(10_000_000) as f64
    }),
    ("counter of seconds, two decimals", 0, |r, last| {
        (last * 100.0 + r.below(1500) as f64).round() / 100.0
    }),
    ("gauge, whole, small steps", 0, |r, last| {
        last + r.below(21) as f64 - 10.0
    }),
    ("gauge, one decimal, walking", 0, |r, last| {
        (last * 10.0 + r.below(21) as f64 - 10.0).round() / 10.0
    }),
    ("gauge of bytes, pages of 4096", 0, |r, last| {
        last + 4096.0 * (r.below(2001) as f64 - 1000.0)
    }),
    ("gauge, 0 or 1", 0, |r, _| {
        f64::from(u8::from(r.below(20) == 0))
    }),
    ("any double from 0 to 1", 0, |r, _| r.fraction()),
];

fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    for (at, (name, late, next)) in FLOATS.iter().enumerate() {
        let mut random = Random(at as u64);
        let mut last = vec![1_000_000.0; SERIES];
        let size = stored(&Path::new(&dir).join(at.to_string()), *late, |series| {
            last[series] = next(&mut random, last[series]);
            Value::Float(last[series])
        });
        println!("{name}: {size:.3} B/sample");
    }
    let mut random = Random(99);
    let mut counts = vec![vec![100i64; 20]; SERIES];
    let size = stored(&Path::new(&dir).join("histograms"), 0, |series| {
        let counts = &mut counts[series];
        for _ in 0..10 {
            counts[random.below(20) as usize] += 1;
        }
        let count: i64 = counts.iter().sum();
        Value::from(Histogram {
            schema: 3,
            zero_threshold: 1e-128,
            sum: count as f64 * 0.25,
            buckets: Buckets::Integer {
                zero_count: 0,
                count: count.cast_unsigned(),
                positive: counts.clone(),
                negative: Vec::new(),
            },
            positive_spans: vec![Span {
                offset: -10,
                length: 20,
            }],
            ..Histogram::default()
        })
    });
    println!("native histogram of 20 buckets, 10 observations a scrape: {size:.3} B/sample");
}

/// Bytes a sample of a store of such series.
fn stored(dir: &Path, late: u64, mut value: impl FnMut(usize) -> Value) -> f64 {
    let db = Tsdb::builder(dir).shared(Shared::without_workers());
    let db = db.open().unwrap();
    let labels: Vec<Labels> = (0..SERIES)
        .map(|series| {
            let instance = format!("host-{series}:9100");
            Labels::from_pairs([
                ("__name__", "metric"),
                ("job", "node"),
                ("instance", &instance),
            ])
        })
        .collect::<Result<_, _>>()
        .unwrap();
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    // A day that ended long enough ago to be final.
    let start = (now.as_millis() as i64 / 86_400_000 - 3) * 86_400_000;
    let mut jitter = Random(7);
    for sample in 0..SAMPLES {
        let mut appender = db.appender();
        for (series, labels) in labels.iter().enumerate() {
            let time = start + sample as i64 * STEP_MS + jitter.below(late + 1) as i64;
            appender.append(labels, time, value(series));
        }
        let commit = appender.commit(Durability::Buffered).unwrap();
        assert!(commit.wait().unwrap().rejected.is_empty());
    }
    db.compact().unwrap();
    let bytes = db.stats().block_bytes;
    db.close().unwrap();
    bytes as f64 / (SERIES * SAMPLES) as f64
}
