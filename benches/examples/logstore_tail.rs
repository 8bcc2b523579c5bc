//! What a follower costs those who append: the same pushes with none, one of all streams, one of one
//! stream. Run under `valgrind --tool=callgrind` with `none`, `all` or `one` as argument and compare
//! the instructions.

#![expect(
    clippy::unwrap_used,
    reason = "a measurement stops at the first surprise"
)]

use trine_logstore::{Durability, LineFilter, LogStore, Matcher};
use trine_storage::Labels;

const STREAMS: usize = 50;
const PUSHES: i64 = 40;
const LINES: i64 = 1_000;

fn main() {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path()).unwrap();
    let streams: Vec<Labels> = (0..STREAMS)
        .map(|i| Labels::from_pairs([("app", format!("app-{i}"))]).unwrap())
        .collect();
    let level = Labels::from_pairs([("detected_level", "info")]).unwrap();
    let matchers = match mode.as_str() {
        "one" => vec![Matcher::equal("app", "app-7")],
        _ => Vec::new(),
    };
    let filters = match mode.as_str() {
        "filter" => vec![LineFilter::Contains("status=503".into())],
        _ => Vec::new(),
    };
    let tail = (mode != "none").then(|| store.tail(&matchers, &filters, 10_000).unwrap());
    let (mut seen, mut dropped) = (0, 0);
    for push in 0..PUSHES {
        let mut appender = store.appender();
        for i in 0..LINES {
            let line = format!(
                "level=info ts=2026-11-21T22:00:00Z caller=http.go:{i} method=GET path=/api/v1/{i} \
                 status=200 duration={}ms trace_id={:032x}",
                i % 97,
                push * LINES + i
            );
            let stream = &streams[i as usize % STREAMS];
            let at = 1_700_000_000_000_000_000 + (push * LINES + i) * 1_000_000;
            appender.append(stream, at, line.as_bytes(), &level);
        }
        appender
            .commit(Durability::Buffered)
            .unwrap()
            .wait()
            .unwrap();
        // As often as the server looks.
        if push % 5 == 4
            && let Some(tailed) = tail.as_ref().and_then(|tail| tail.try_recv().unwrap())
        {
            let rows = tailed.rows.iter().map(|rows| rows.timestamps.len());
            seen += rows.sum::<usize>();
            dropped += tailed.dropped;
        }
    }
    println!("{mode}: {seen} given, {dropped} dropped");
}
