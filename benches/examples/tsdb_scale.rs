//! The metrics engine at scale: appends of one sample a series and round, memory, selection, time to
//! reopen. `cargo run --release -p trine-benches --example tsdb_scale -- DIR [SERIES] [ROUNDS]`
//!
//! The directory must be empty or missing. Ten labels a series, one of them unique.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures with the real clock and ends at the first error"
)]

use std::time::Instant;

use trine_storage::shared::{self, Shared};
use trine_storage::{Labels, Matcher, TimeRange};
use trine_tsdb::{Config, Durability, Hints, SeriesRef, Tsdb, Value};

/// Samples of one commit.
const BATCH: usize = 10_000;
const STEP_MS: i64 = 15_000;

fn series(number: usize) -> Labels {
    let host = number / 100;
    Labels::from_pairs([
        ("__name__", format!("metric_{}_total", number % 100)),
        ("cluster", format!("cluster-{}", host % 4)),
        ("container", format!("container-{}", number % 7)),
        ("env", "production".to_owned()),
        ("instance", format!("host-{host:05}.example.internal:9100")),
        ("job", format!("job-{}", number % 20)),
        ("namespace", format!("team-{}", host % 50)),
        ("node", format!("node-{:04}", host % 997)),
        ("pod", format!("app-{}-{number:08x}", number % 50)),
        (
            "region",
            ["eu-west-1", "us-east-1", "ap-south-1"][host % 3].to_owned(),
        ),
    ])
    .unwrap()
}

fn value(number: usize, round: usize) -> f64 {
    // A counter of its own pace.
    (number * 10 + round * (1 + number % 50)) as f64
}

/// Kilobytes from `/proc/self/status`.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn open(dir: &str) -> Tsdb {
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let shared = Shared::new(&shared::Config {
        memory_bytes_max: 8 << 30,
        ..shared::Config::default()
    });
    Tsdb::builder(dir)
        .config(config)
        .shared(shared)
        .open()
        .unwrap()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("a directory");
    let mut number = |default| {
        arguments
            .next()
            .map_or(default, |text| text.parse().unwrap())
    };
    let (count, rounds): (usize, usize) = (number(1_000_000), number(20));
    let names: Vec<Labels> = (0..count).map(series).collect();
    let before = memory("RssAnon");
    let db = open(&dir);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let start = now.as_millis() as i64 - rounds as i64 * STEP_MS;
    let rate = |what: &str, rounds: usize, since: Instant| {
        let seconds = since.elapsed().as_secs_f64();
        let samples = (count * rounds) as f64;
        println!("{what}: {:.2} M samples/s", samples / seconds / 1e6);
    };
    let mut round = 0;
    let by_labels = |round: usize| {
        for (at, batch) in names.chunks(BATCH).enumerate() {
            let mut appender = db.appender();
            for (i, labels) in batch.iter().enumerate() {
                let value = Value::Float(value(at * BATCH + i, round));
                appender.append(labels, start + round as i64 * STEP_MS, value);
            }
            appender
                .commit(Durability::Buffered)
                .unwrap()
                .wait()
                .unwrap();
        }
    };
    let since = Instant::now();
    by_labels(round);
    round += 1;
    rate("first samples, by labels", 1, since);
    println!(
        "memory: {} B a series",
        (memory("RssAnon") - before) * 1024 / count as u64
    );
    for _ in 0..3 {
        let since = Instant::now();
        by_labels(round);
        round += 1;
        rate("by labels", 1, since);
    }
    let references: Vec<SeriesRef> = names.iter().map(|l| db.reference(l).unwrap()).collect();
    for _ in 0..3 {
        let since = Instant::now();
        for (at, batch) in references.chunks(BATCH).enumerate() {
            let mut appender = db.appender();
            for (i, series) in batch.iter().enumerate() {
                let value = Value::Float(value(at * BATCH + i, round));
                appender.append_reference(*series, start + round as i64 * STEP_MS, value);
            }
            appender
                .commit(Durability::Buffered)
                .unwrap()
                .wait()
                .unwrap();
        }
        round += 1;
        rate("by reference", 1, since);
    }
    let since = Instant::now();
    while round < rounds {
        by_labels(round);
        round += 1;
    }
    println!(
        "{round} rounds after {:.1} s more",
        since.elapsed().as_secs_f64()
    );
    println!(
        "memory: RssAnon {} MiB, of which the label sets of this program and others {} MiB",
        memory("RssAnon") >> 10,
        before >> 10
    );
    let snapshot = db.snapshot();
    let matchers = [
        Matcher::equal("__name__", "metric_7_total"),
        Matcher::equal("instance", "host-00042.example.internal:9100"),
    ];
    for (what, matchers) in [("one series", &matchers[..]), ("one host", &matchers[1..])] {
        let mut times: Vec<f64> = (0..11)
            .map(|_| {
                let since = Instant::now();
                let set = snapshot
                    .select(matchers, TimeRange::ALL, &Hints::default())
                    .unwrap();
                let found = set
                    .map(|series| series.unwrap().samples.timestamps.len())
                    .sum::<usize>();
                assert!(found > 0);
                since.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("select {what}: {:.2} ms", times[5]);
    }
    println!("{:?}", db.stats());
    drop(snapshot);
    drop(db);
    let since = Instant::now();
    let db = open(&dir);
    println!("reopened in {:.2} s", since.elapsed().as_secs_f64());
    println!("replayed {} bytes", db.stats().replayed_bytes);
}
