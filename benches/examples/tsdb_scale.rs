//! The metrics engine at scale, ten labels a series, one of them unique; the directory must be empty
//! or missing, but for `open`.
//! `cargo run --release -p trine-benches --example tsdb_scale -- MODE DIR [SERIES] [ROUNDS]`
//!
//! - `append`: one sample a series and round (20, 15 s apart); memory, selection, time to reopen.
//! - `churn`: a round a minute (360) in each of which one in forty series ends and another begins,
//!   so that ten times as many series come and go; memory on the way. What is due in the background
//!   is done after each round, since a round takes less than a minute here.
//! - `fill`: appends until the log is nearly at its limit, without a worker that would seal, and
//!   dies; then
//! - `open`: the time to open what is there.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures with the real clock and ends at the first error"
)]

use std::time::Instant;

use trine_benches::process::memory;
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

fn open(dir: &str, workers: bool) -> Tsdb {
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let limits = shared::Config {
        memory_bytes_max: 8 << 30,
        ..shared::Config::default()
    };
    let shared = match workers {
        true => Shared::new(&limits),
        false => Shared::without_workers(),
    };
    let db = Tsdb::builder(dir).config(config).shared(shared);
    db.open().unwrap()
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis() as i64
}

/// One sample of each of these series.
fn append(db: &Tsdb, series: &[(usize, Labels)], timestamp: i64, round: usize) {
    for batch in series.chunks(BATCH) {
        let mut appender = db.appender();
        for (number, labels) in batch {
            let value = Value::Float(value(*number, round));
            appender.append(labels, timestamp, value);
        }
        let commit = appender.commit(Durability::Buffered).unwrap();
        assert_eq!(commit.wait().unwrap().rejected, []);
    }
}

fn churn(dir: &str, count: usize, rounds: usize) {
    let mut active: Vec<(usize, Labels)> = (0..count).map(|n| (n, series(n))).collect();
    let before = memory("RssAnon");
    let db = open(dir, false);
    let start = now_ms() - rounds as i64 * 60_000;
    let (mut next, gone) = (count, count / 40);
    for round in 0..rounds {
        append(&db, &active, start + round as i64 * 60_000, round);
        db.maintain().unwrap();
        for _ in 0..gone {
            active[next % count] = (next, series(next));
            next += 1;
        }
        if round % 20 == 19 || round + 1 == rounds {
            let stats = db.stats();
            println!(
                "round {}: {next} series so far, {} in memory, RssAnon {} MiB beside the program's own, {} files of {} MiB",
                round + 1,
                stats.head_series,
                memory("RssAnon").saturating_sub(before) >> 10,
                stats.blocks,
                stats.block_bytes >> 20,
            );
        }
    }
}

fn fill(dir: &str, count: usize) {
    let series: Vec<(usize, Labels)> = (0..count).map(|n| (n, series(n))).collect();
    let db = open(dir, true);
    let start = now_ms() - 3_600_000;
    append(&db, &series, start, 0);
    db.flush().unwrap();
    db.close().unwrap();
    drop(db);
    let db = open(dir, false);
    for round in 1.. {
        for (batch, of) in series.chunks(BATCH).enumerate() {
            append(&db, of, start + round as i64 * 15_000, round);
            let (stats, limits) = (db.stats(), Config::default());
            let (bytes, samples) = (stats.wal.bytes, stats.head_samples);
            if bytes > limits.wal_bytes_max * 98 / 100
                || samples > limits.head_samples_max * 98 / 100
            {
                println!(
                    "{samples} samples in a log of {bytes} bytes, round {round}, batch {batch}"
                );
                std::process::exit(0);
            }
        }
    }
}

fn reopen(dir: &str) {
    let before = memory("RssAnon");
    let since = Instant::now();
    let config = Config {
        future_max: None,
        ..Config::default()
    };
    let db = Tsdb::builder(dir).config(config);
    let told = |progress| println!("{:.2} s: {progress}", since.elapsed().as_secs_f64());
    let db = db.open_with_progress(told).unwrap();
    println!("opened in {:.2} s", since.elapsed().as_secs_f64());
    println!("RssAnon {} MiB", (memory("RssAnon") - before) >> 10);
    let stats = db.stats();
    println!(
        "{} series, {} samples in memory, {} bytes of the log, {} files",
        stats.head_series, stats.head_samples, stats.replayed_bytes, stats.blocks
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().expect("a mode");
    let dir = arguments.next().expect("a directory");
    let mut number = |default| {
        arguments
            .next()
            .map_or(default, |text| text.parse().unwrap())
    };
    let count = number(1_000_000);
    match mode.as_str() {
        "append" => append_and_read(&dir, count, number(20)),
        "churn" => churn(&dir, count, number(360)),
        "fill" => fill(&dir, count),
        "open" => reopen(&dir),
        other => panic!("there is no mode {other}"),
    }
}

fn append_and_read(dir: &str, count: usize, rounds: usize) {
    let names: Vec<Labels> = (0..count).map(series).collect();
    let before = memory("RssAnon");
    let db = open(dir, true);
    let start = now_ms() - rounds as i64 * STEP_MS;
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
    reopen(dir);
}
