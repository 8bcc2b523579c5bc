//! The log engine at scale; the directory must be empty or missing, but for `open`.
//! `cargo run --release -p trine-benches --example logstore_scale -- MODE DIR CORPUS [NUMBER]`
//!
//! - `append`: NUMBER megabytes (1000) of lines in 100 streams, in batches of 1 MB, acknowledged as
//!   buffered; seals are done between and counted by themselves: bytes a second of wall and of
//!   processor.
//! - `out-of-order`: the same, with every tenth batch older than the one before.
//! - `metadata`: the same, with a trace and a span id as metadata of each line.
//! - `full`: the same as `append` with workers: everything is counted, and what memory it took.
//! - `streams`: NUMBER streams (1,000,000) of one short line; memory of each, time to seal them.
//! - `fill`: appends until the log is nearly at its limit, without a worker, and dies; then
//! - `open`: the time to open what is there.
//!
//! CORPUS is a folder of sample logs, `*.log`.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures with the real clock and ends at the first error"
)]

use std::path::Path;
use std::time::Instant;

use trine_benches::lines;
use trine_benches::process::{memory, thread_seconds};
use trine_logstore::{Config, Durability, LogStore};
use trine_storage::Labels;
use trine_storage::shared::{self, Shared};

const BATCH_BYTES: usize = 1_000_000;
/// Batches that are made before anything is measured; they come again with other timestamps.
const BATCHES: usize = 50;
const START_NS: i64 = 1_763_700_000_000_000_000;

fn stream(number: usize) -> Labels {
    Labels::from_pairs([
        ("app", format!("app-{}", number % 17)),
        ("host", format!("host-{number:07}.example.internal")),
        ("job", "bench".to_owned()),
        (
            "level",
            ["debug", "info", "warn", "error"][number % 4].to_owned(),
        ),
    ])
    .unwrap()
}

fn open(dir: &str, workers: bool) -> LogStore {
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
    LogStore::builder(dir)
        .config(config)
        .shared(shared)
        .open()
        .unwrap()
}

/// Batches of lines, one after the other.
struct Source {
    streams: Vec<Labels>,
    /// Lines by stream, as senders put them together.
    batches: Vec<Vec<(usize, Vec<u8>)>>,
    next: usize,
    timestamp: i64,
    with_ids: bool,
    levels: Vec<Labels>,
    random: lines::Random,
}

impl Source {
    fn new(corpus: &str, with_ids: bool) -> Self {
        let mut source = lines::Source::new(Path::new(corpus));
        let level = |level| Labels::from_pairs([("detected_level", level)]).unwrap();
        let streams = source.streams().iter();
        let streams = streams.map(|stream| Labels::from_pairs(stream.labels.clone()).unwrap());
        let streams = streams.collect();
        let batch = |_| {
            let (mut batch, mut bytes, mut line) = (Vec::new(), 0, String::new());
            while bytes < BATCH_BYTES {
                let stream = source.line(START_NS, &mut line);
                bytes += line.len();
                batch.push((stream, line.clone().into_bytes()));
            }
            batch.sort_by_key(|(stream, _)| *stream);
            batch
        };
        Self {
            streams,
            batches: (0..BATCHES).map(batch).collect(),
            next: 0,
            timestamp: START_NS,
            with_ids,
            levels: ["debug", "info", "warn", "error"].map(level).to_vec(),
            random: lines::Random::new(7),
        }
    }

    /// Appends a batch; gives the bytes of its lines, and the seconds of wall and processor.
    fn push(&mut self, store: &LogStore, back_ns: i64) -> (usize, f64, f64) {
        let batch = &self.batches[self.next % BATCHES];
        let mut ids = Vec::new();
        if self.with_ids {
            let mut set = |_| {
                let (trace, span) = (self.random.id(), self.random.id());
                let pairs = [
                    ("detected_level", "info"),
                    ("span_id", &span[..16]),
                    ("trace_id", &trace),
                ];
                Labels::from_pairs(pairs).unwrap()
            };
            ids = batch.iter().map(&mut set).collect();
        }
        let (wall, cpu) = (Instant::now(), thread_seconds());
        let mut appender = store.appender();
        let mut bytes = 0;
        for (row, (stream, line)) in batch.iter().enumerate() {
            let metadata = ids.get(row).unwrap_or(&self.levels[stream % 4]);
            let timestamp = self.timestamp - back_ns;
            appender.append(&self.streams[*stream], timestamp, line, metadata);
            bytes += line.len();
            self.timestamp += 50_000;
        }
        self.next += 1;
        let commit = appender.commit(Durability::Buffered).unwrap();
        assert_eq!(commit.wait().unwrap().rejected, []);
        (bytes, wall.elapsed().as_secs_f64(), thread_seconds() - cpu)
    }
}

fn append(dir: &str, megabytes: usize, mut source: Source, back_ns: i64) {
    let store = open(dir, false);
    let (mut bytes, mut wall, mut cpu, mut batches) = (0, 0.0, 0.0, 0);
    let (mut seal_wall, mut seal_cpu, mut sealed) = (0.0, 0.0, 0);
    let mut peak = 0;
    while bytes < megabytes * 1_000_000 {
        batches += 1;
        let back_ns = if batches % 10 == 0 { back_ns } else { 0 };
        let took = source.push(&store, back_ns);
        bytes += took.0;
        sealed += took.0;
        wall += took.1;
        cpu += took.2;
        if sealed > 60_000_000 {
            peak = memory("RssAnon").max(peak);
            let (since, before) = (Instant::now(), thread_seconds());
            store.flush().unwrap();
            seal_wall += since.elapsed().as_secs_f64();
            seal_cpu += thread_seconds() - before;
            if seal_wall > 0.0 && bytes < megabytes * 1_000_000 {
                sealed = 0;
            }
        }
    }
    let rate = |bytes: usize, seconds: f64| bytes as f64 / seconds / 1e6;
    println!(
        "append: {:.0} MB/s of wall, {:.0} MB/s of processor",
        rate(bytes, wall),
        rate(bytes, cpu)
    );
    println!(
        "seal: {:.0} MB/s of wall, {:.0} MB/s of processor; RssAnon before {} MiB",
        rate(bytes - sealed, seal_wall),
        rate(bytes - sealed, seal_cpu),
        peak >> 10
    );
}

fn full(dir: &str, megabytes: usize, mut source: Source) {
    let before = memory("RssAnon");
    let store = open(dir, true);
    let (since, mut bytes, mut peak) = (Instant::now(), 0, 0);
    while bytes < megabytes * 1_000_000 {
        bytes += source.push(&store, 0).0;
        peak = memory("RssAnon").max(peak);
    }
    let seconds = since.elapsed().as_secs_f64();
    let stats = store.stats();
    println!(
        "{:.0} MB/s; RssAnon at most {} MiB beside the program's own {}; {} blocks of {} MB, log {} MB",
        bytes as f64 / seconds / 1e6,
        (peak - before) >> 10,
        before >> 10,
        stats.blocks,
        stats.block_bytes / 1_000_000,
        stats.wal.bytes / 1_000_000,
    );
    println!("{:?}", stats.background_error);
}

fn streams(dir: &str, count: usize) {
    // All of them in memory, however many they are.
    let config = Config {
        buffer_bytes_max: u64::MAX,
        streams_max: u64::MAX,
        wal_bytes_max: u64::MAX,
        ..Config::default()
    };
    let store = LogStore::builder(dir).config(config);
    let store = store.shared(Shared::without_workers()).open().unwrap();
    let before = memory("RssAnon");
    let since = Instant::now();
    for first in (0..count).step_by(5_000) {
        let mut appender = store.appender();
        for number in first..first + 5_000 {
            let timestamp = START_NS + number as i64;
            appender.append(&stream(number), timestamp, b"ready", &Labels::empty());
        }
        let commit = appender.commit(Durability::Buffered).unwrap();
        assert_eq!(commit.wait().unwrap().rejected, []);
    }
    println!(
        "{count} streams in {:.1} s: {} bytes of RssAnon each; the store says {}",
        since.elapsed().as_secs_f64(),
        (memory("RssAnon") - before) * 1024 / count as u64,
        store.stats().buffer_bytes / count as u64,
    );
    let since = Instant::now();
    store.flush().unwrap();
    println!(
        "sealed in {:.1} s; VmHWM {} MiB",
        since.elapsed().as_secs_f64(),
        memory("VmHWM") >> 10
    );
}

fn fill(dir: &str, mut source: Source) {
    let store = open(dir, false);
    let limit = Config::default().wal_bytes_max;
    loop {
        source.push(&store, 0);
        let stats = store.stats();
        if stats.wal.bytes + 2_000_000 > limit {
            println!(
                "{} entries in a log of {} bytes",
                stats.buffer_rows, stats.wal.bytes
            );
            std::process::exit(0);
        }
    }
}

fn reopen(dir: &str) {
    let before = memory("RssAnon");
    let since = Instant::now();
    let store = open(dir, false);
    println!("opened in {:.3} s", since.elapsed().as_secs_f64());
    println!("RssAnon {} MiB", (memory("RssAnon") - before) >> 10);
    let stats = store.stats();
    println!(
        "{} streams, {} entries in memory, {} bytes of the log, {} blocks",
        stats.buffer_streams, stats.buffer_rows, stats.replayed_bytes, stats.blocks
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().expect("a mode");
    let dir = arguments.next().expect("a directory");
    let corpus = arguments.next().expect("a folder of sample logs");
    let number = arguments.next().map(|text| text.parse().unwrap());
    let source = |with_ids| Source::new(&corpus, with_ids);
    let megabytes = number.unwrap_or(1000);
    match mode.as_str() {
        "append" => append(&dir, megabytes, source(false), 0),
        "out-of-order" => append(&dir, megabytes, source(false), 400_000_007),
        "metadata" => append(&dir, megabytes, source(true), 0),
        "full" => full(&dir, megabytes, source(false)),
        "streams" => streams(&dir, number.unwrap_or(1_000_000)),
        "fill" => fill(&dir, source(false)),
        "open" => reopen(&dir),
        other => panic!("there is no mode {other}"),
    }
}
