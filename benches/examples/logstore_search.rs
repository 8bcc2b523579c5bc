//! The log engine on lines as a program of many services writes them: sizes, rates, searches.
//! `cargo run --release -p trine-benches --example logstore_search -- MODE DIR CORPUS [MEGABYTES]`
//!
//! - `fill`: appends so many megabytes (3000) to the store in DIR, in batches of one, seals 64 at
//!   a time, and compacts at the end; CORPUS is a folder of sample logs.
//! - `sample`: the same, with the sample logs as they are, a third of them with an id of 32
//!   hexadecimal digits.
//! - `sizes`: bytes by what they are.
//! - `search`: times of searches, on one thread and on two; with WHAT in place of CORPUS only of
//!   those that have it in their name.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures with the real clock and ends at the first error"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use trine_benches::lines::{Random, Source};
use trine_benches::process::{cpu_seconds, memory};
use trine_logstore::{
    Batch, Batches, Config, Counts, Direction, Durability, LineFilter, LogStore, Measure,
    Projection, Request, Rows,
};
use trine_storage::regex::LineRegex;
use trine_storage::shared::Shared;
use trine_storage::{Labels, Matcher, TimeRange};

const NEEDLE: &str = "needle-7f3a9c51e2";
const HOURS_NS: i64 = 6 * 3_600_000_000_000;
/// The last instant of the lines; long ago, so that every window is closed.
const END_NS: i64 = 1_763_700_000_000_000_000;
const BATCH_BYTES: usize = 1_000_000;
/// What lies in a sealed block.
const SEAL_BYTES: usize = 64_000_000;

fn open(dir: &str) -> LogStore {
    let begun = Instant::now();
    let config = Config {
        retention: None,
        ..Config::default()
    };
    let builder = LogStore::builder(dir).config(config);
    let store = builder.shared(Shared::without_workers()).open().unwrap();
    println!("open {:.3} s", begun.elapsed().as_secs_f64());
    store
}

fn fill(dir: &str, corpus: &str, megabytes: u64, as_they_are: bool) {
    let store = open(dir);
    let mut source = Source::new(Path::new(corpus));
    let labels: Vec<Labels> = source
        .streams()
        .iter()
        .map(|stream| Labels::from_pairs(stream.labels.iter().map(|(n, v)| (*n, v))).unwrap())
        .collect();
    let total = megabytes * 1_000_000;
    let (mut raw, mut lines, mut needles, mut line) = (0u64, 0u64, 0, String::new());
    let mut ids = Random::new(5);
    let (mut append_s, mut seal_s, mut peak, mut since_seal) = (0.0, 0.0, 0, 0);
    while raw < total {
        let mut batch: Vec<Vec<(i64, String)>> = vec![Vec::new(); labels.len()];
        let mut bytes = 0;
        while bytes < BATCH_BYTES && raw < total {
            let timestamp =
                END_NS - HOURS_NS + (HOURS_NS as f64 * (raw as f64 / total as f64)) as i64;
            let stream = if as_they_are {
                let (stream, sample) = source.sample();
                line.clear();
                line.push_str(sample);
                if ids.below(3) == 0 {
                    line.push_str(" trace_id=");
                    line.push_str(&ids.id());
                }
                stream
            } else {
                source.line(timestamp, &mut line)
            };
            if raw * 4 >= total * (needles + 1) && stream < 32 {
                line.push(' ');
                line.push_str(NEEDLE);
                needles += 1;
            }
            raw += line.len() as u64;
            bytes += line.len();
            lines += 1;
            batch[stream].push((timestamp, line.clone()));
        }
        let begun = cpu_seconds();
        let mut appender = store.appender();
        for (stream, entries) in labels.iter().zip(&batch) {
            for (timestamp, line) in entries {
                appender.append(stream, *timestamp, line.as_bytes(), &Labels::empty());
            }
        }
        appender
            .commit(Durability::Buffered)
            .unwrap()
            .wait()
            .unwrap();
        append_s += cpu_seconds() - begun;
        let begun = cpu_seconds();
        since_seal += bytes;
        if since_seal >= SEAL_BYTES {
            store.flush().unwrap();
            since_seal = 0;
        }
        seal_s += cpu_seconds() - begun;
        peak = peak.max(memory("RssAnon"));
    }
    let begun = cpu_seconds();
    store.flush().unwrap();
    seal_s += cpu_seconds() - begun;
    let begun = cpu_seconds();
    store.compact().unwrap();
    let compact_s = cpu_seconds() - begun;
    let mb = raw as f64 / 1e6;
    println!(
        "{lines} lines, {mb:.0} MB, {:.0} bytes a line",
        raw as f64 / lines as f64
    );
    for (what, seconds) in [
        ("append", append_s),
        ("seal", seal_s),
        ("compact", compact_s),
    ] {
        println!(
            "{what}: {seconds:.2} CPU-s, {:.0} MB/s a core",
            mb / seconds
        );
    }
    println!(
        "RssAnon {} MiB while appending, {} MiB at last",
        peak >> 10,
        memory("RssAnon") >> 10
    );
    sizes(&store, raw);
    store.close().unwrap();
}

fn sizes(store: &LogStore, raw: u64) {
    let stats = store.stats();
    println!(
        "{} blocks ({} not merged), {} bytes, {:.4} of raw",
        stats.blocks,
        stats.sealed_blocks,
        stats.block_bytes,
        stats.block_bytes as f64 / raw as f64
    );
    for (what, bytes) in store.sizes().unwrap() {
        println!("  {what:<12} {bytes:>12} {:.5}", bytes as f64 / raw as f64);
    }
}

/// What an answer was made of.
#[derive(Debug, Default)]
struct Found {
    rows: u64,
    sum: u64,
}

fn drive(batches: Batches, limit: usize) -> Found {
    let mut found = Found::default();
    for batch in batches {
        match batch.unwrap() {
            Batch::Rows(rows) => found.rows += rows.timestamps.len() as u64,
            Batch::Counts(counts) => {
                found.rows += counts.count.len() as u64;
                found.sum += counts.count.iter().sum::<u64>();
            }
        }
        if found.rows >= limit as u64 {
            break;
        }
    }
    found
}

fn timed((what, only): (&str, &str), times: usize, run: impl Fn() -> Found) {
    if !what.contains(only) {
        return;
    }
    let mut walls: Vec<Duration> = Vec::new();
    run();
    let begun = cpu_seconds();
    let mut found = Found::default();
    for _ in 0..times {
        let begun = Instant::now();
        found = run();
        walls.push(begun.elapsed());
    }
    let used = (cpu_seconds() - begun) / times as f64;
    walls.sort();
    println!(
        "{what:<44} {:>9.2} ms {:>8.4} CPU-s  rows {} sum {}",
        walls[times / 2].as_secs_f64() * 1e3,
        used,
        found.rows,
        found.sum
    );
}

fn search(dir: &str, only: &str) {
    let store = open(dir);
    let snapshot = store.snapshot();
    let all = || vec![Matcher::equal("job", "bench")];
    let range = TimeRange::new(END_NS - HOURS_NS, END_NS + 1);
    let with = |lines: Vec<LineFilter>, threads| {
        Request::Rows(Rows {
            lines,
            threads,
            ..Rows::new(all(), range)
        })
    };
    let contains = |text: &str| LineFilter::Contains(text.to_owned().into());
    // An id that is there, to be searched whole and in part.
    let some = with(vec![contains("trace_id")], 1);
    let Some(Ok(Batch::Rows(rows))) = snapshot.scan(&some).unwrap().nth(3) else {
        panic!("no line has an id");
    };
    let line = String::from_utf8_lossy(rows.lines.get(7)).into_owned();
    let at = line.find("trace_id").unwrap() + "trace_id".len();
    let id: String = line[at..]
        .chars()
        .skip_while(|c| !c.is_ascii_hexdigit())
        .take(32)
        .collect();
    let absent_id = Random::new(99).id();
    let regex = |pattern: &str| LineFilter::Matches(LineRegex::new(pattern).unwrap());
    for threads in [1, 2] {
        println!("{threads} threads");
        let rows = |what: &str, times, lines: Vec<LineFilter>| {
            let request = with(lines, threads);
            timed((what, only), times, || {
                drive(snapshot.scan(&request).unwrap(), usize::MAX)
            });
        };
        rows("rare needle", 20, vec![contains(NEEDLE)]);
        rows("absent needle", 20, vec![contains("no-such-text-0000")]);
        rows("absent word", 20, vec![contains("qwertzuiop")]);
        rows("an id", 20, vec![contains(&id)]);
        rows("an absent id", 20, vec![contains(&absent_id)]);
        rows(
            "6 hexadecimal digits of an id",
            5,
            vec![contains(&id[9..15])],
        );
        rows("6 digits", 3, vec![contains("917364")]);
        rows(
            "regex with a literal",
            10,
            vec![regex("needle-[0-9a-f]{10}")],
        );
        rows(
            "regex, case-insensitive, absent",
            5,
            vec![regex("(?i)QWERTZ.*x")],
        );
        rows(
            "plain scan: a word of every line, then none",
            3,
            vec![contains("request"), contains("requests were absent")],
        );
        rows("plain scan: two bytes", 3, vec![contains("~~")]);
        rows("plain scan: digits", 3, vec![contains("=00=")]);
        for (what, direction) in [
            ("newest", Direction::Backward),
            ("oldest", Direction::Forward),
        ] {
            let request = Request::Rows(Rows {
                lines: vec![contains("request")],
                direction,
                limit_hint: Some(100),
                threads,
                projection: Projection::ALL,
                ..Rows::new(all(), range)
            });
            let what = format!("common needle, the {what} 100");
            timed((&what, only), 20, || {
                drive(snapshot.scan(&request).unwrap(), 100)
            });
        }
        let counts = |what: &str, request: Counts| {
            let request = Request::Counts(request);
            timed((what, only), 10, || {
                let parts = snapshot.scan_parts(&request, threads).unwrap();
                std::thread::scope(|scope| {
                    let run = |part| scope.spawn(move || drive(part, usize::MAX));
                    let threads: Vec<_> = parts.into_iter().map(run).collect();
                    threads.into_iter().fold(Found::default(), |all, thread| {
                        let found = thread.join().unwrap();
                        Found {
                            rows: all.rows + found.rows,
                            sum: all.sum + found.sum,
                        }
                    })
                })
            });
        };
        let minutes = 300_000_000_000;
        counts(
            "lines by stream and 5 min",
            Counts::new(all(), range, minutes, Measure::Lines),
        );
        counts(
            "bytes by stream and 5 min",
            Counts::new(all(), range, minutes, Measure::Bytes),
        );
        counts(
            "bytes by stream",
            Counts::new(all(), range, HOURS_NS + 1, Measure::Bytes),
        );
        counts(
            "lines by level and 5 min",
            Counts {
                by: vec!["detected_level".to_owned()],
                ..Counts::new(all(), range, minutes, Measure::Lines)
            },
        );
        counts(
            "lines with `error` by stream and 5 min",
            Counts {
                lines: vec![contains("error")],
                ..Counts::new(all(), range, minutes, Measure::Lines)
            },
        );
    }
    println!("RssAnon {} MiB", memory("RssAnon") >> 10);
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().expect("a mode");
    let dir = arguments.next().expect("a directory");
    let corpus = arguments.next().unwrap_or_default();
    let megabytes = arguments.next().map_or(3_000, |n| n.parse().unwrap());
    match mode.as_str() {
        "fill" => fill(&dir, &corpus, megabytes, false),
        "sample" => fill(&dir, &corpus, megabytes, true),
        "sizes" => sizes(&open(&dir), megabytes * 1_000_000),
        "search" => search(&dir, &corpus),
        _ => panic!("{mode} is no mode"),
    }
}
