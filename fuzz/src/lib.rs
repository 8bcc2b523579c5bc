//! Fuzz targets as plain functions: every decoder and parser of the workspace, over any bytes.
//!
//! `cargo test` replays the corpus and thousands of seeded mutations of it. libFuzzer runs the same
//! functions with `cargo fuzz run any --features fuzzing` (nightly) and `TRINE_FUZZ_TARGET=name`.
//! A target fails by panicking: bad bytes must be read or refused.

mod logql_stages;
mod logstore_pages;
mod remote_write;
mod spans;
mod tsdb_files;

use std::ops::Range;
use std::sync::Arc;

use trine_query::{logql, promql, traceql};
use trine_server::proto::{loki, remote_read};
use trine_storage::frozen_index::FrozenIndex;
use trine_storage::fs::ReadFile;
use trine_storage::regex::{Dot, LabelRegex, LineRegex, translate};
use trine_storage::sealed::SealedFile;
use trine_storage::{Labels, MatchOp, Matcher, catalog, wal};

/// One decoder or parser.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, also that of its folder under `corpus/`.
    pub name: &'static str,
    /// Feeds it.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "labels",
        run: labels,
    },
    Target {
        name: "frozen_index",
        run: frozen_index,
    },
    Target {
        name: "wal_segment",
        run: wal_segment,
    },
    Target {
        name: "sealed_file",
        run: sealed_file,
    },
    Target {
        name: "catalog",
        run: catalog_document,
    },
    Target {
        name: "regex",
        run: regex,
    },
    Target {
        name: "tsdb_record",
        run: tsdb_record,
    },
    Target {
        name: "tsdb_chunk",
        run: tsdb_chunk,
    },
    Target {
        name: "tsdb_run",
        run: tsdb_run,
    },
    Target {
        name: "tsdb_histogram",
        run: tsdb_histogram,
    },
    Target {
        name: "tsdb_part",
        run: tsdb_files::part,
    },
    Target {
        name: "tsdb_block",
        run: tsdb_files::block,
    },
    Target {
        name: "logstore_record",
        run: logstore_record,
    },
    Target {
        name: "logstore_index",
        run: logstore_index,
    },
    Target {
        name: "logstore_lines",
        run: logstore_pages::lines,
    },
    Target {
        name: "logstore_metadata",
        run: logstore_pages::metadata,
    },
    Target {
        name: "logstore_chunks",
        run: logstore_pages::chunks,
    },
    Target {
        name: "tracestore_record",
        run: tracestore_record,
    },
    Target {
        name: "tracestore_otlp",
        run: tracestore_otlp,
    },
    Target {
        name: "tracestore_block",
        run: tracestore_block,
    },
    Target {
        name: "tracestore_column",
        run: tracestore_column,
    },
    Target {
        name: "remote_write",
        run: remote_write::version_1,
    },
    Target {
        name: "remote_write_v2",
        run: remote_write::version_2,
    },
    Target {
        name: "otlp_metrics",
        run: remote_write::otlp,
    },
    Target {
        name: "remote_read",
        run: remote_read_request,
    },
    Target {
        name: "loki_push",
        run: loki_push,
    },
    Target {
        name: "jaeger_thrift",
        run: spans::jaeger,
    },
    Target {
        name: "zipkin",
        run: spans::zipkin,
    },
    Target {
        name: "promql",
        run: promql_query,
    },
    Target {
        name: "promql_series",
        run: promql_series,
    },
    Target {
        name: "logql",
        run: logql_query,
    },
    Target {
        name: "logql_stages",
        run: logql_stages::run,
    },
    Target {
        name: "traceql",
        run: traceql_query,
    },
];

/// Runs the target that the environment variable `TRINE_FUZZ_TARGET` names.
///
/// # Panics
/// When it names none, and when the target finds something.
pub fn run_chosen(data: &[u8]) {
    let chosen = std::env::var("TRINE_FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|target| target.name == chosen);
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let target = target.unwrap_or_else(|| panic!("set TRINE_FUZZ_TARGET to one of {names:?}"));
    (target.run)(data);
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

fn labels(data: &[u8]) {
    if let Ok(labels) = Labels::from_encoded(data) {
        assert_eq!(labels.encoded(), data);
        let again = Labels::from_pairs(labels.iter()).expect("read labels are valid");
        assert_eq!(again, labels);
    }
}

fn frozen_index(data: &[u8]) {
    // An error of one question must not hide what another finds.
    let Ok(index) = FrozenIndex::open("fuzz", data.to_vec().into()) else {
        return;
    };
    let places = u32::try_from(index.len()).expect("places are 32 bits");
    let mut sets = index.label_sets();
    let read = (0..places.min(1 << 10)).try_for_each(|place| sets.labels(place).map(drop));
    let names = index.names(None).unwrap_or_default();
    let matchers = |name: &str| [Matcher::equal(name, "b"), Matcher::equal("c", "")];
    for name in &names {
        if let Ok(selected) = index.select(&matchers(name)) {
            assert!(selected.max().is_none_or(|place| place < places));
            let filtered = index.values(name, Some(&selected), None).is_ok();
            assert!(filtered || index.verify().is_err());
            assert!(index.names(Some(&selected)).is_ok() || index.verify().is_err());
        }
        if let Ok(regex) = Matcher::new(MatchOp::NotMatch, *name, "[a-m].*") {
            assert!(index.select(&[regex]).is_ok() || index.verify().is_err());
        }
    }
    let counted = index.cardinality("a", 3).is_ok();
    assert!((read.is_ok() && counted) || index.verify().is_err());
}

fn wal_segment(data: &[u8]) {
    let mut end = None;
    let report = wal::read_segment("fuzz", data, &mut |position, _| {
        end = Some(position + 1);
        Ok(())
    });
    if let (Ok(report), Some(end)) = (report, end) {
        assert_eq!(report.end, end);
    }
}

/// A file in memory.
#[derive(Debug)]
struct Memory(Vec<u8>);

impl ReadFile for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, ranges: &[Range<u64>]) -> std::io::Result<Vec<bytes::Bytes>> {
        let slice = |range: &Range<u64>| {
            let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
            self.0.get(range).map(bytes::Bytes::copy_from_slice)
        };
        let missing = || std::io::ErrorKind::UnexpectedEof.into();
        ranges
            .iter()
            .map(|range| slice(range).ok_or_else(missing))
            .collect()
    }
}

fn sealed_file(data: &[u8]) {
    if let Ok(file) = SealedFile::open(Arc::new(Memory(data.to_vec())), "fuzz", *b"fuzz") {
        for section in 0..4 {
            file.section(section).ok();
        }
        file.verify().ok();
    }
}

fn catalog_document(data: &[u8]) {
    catalog::decode("fuzz", data).ok();
}

/// The pattern is what stands before the first newline, the text what follows.
fn regex(data: &[u8]) {
    let Some((pattern, line)) = text(data).and_then(|text| text.split_once('\n')) else {
        return;
    };
    translate(pattern, Dot::NotNewline).ok();
    if let Ok(regex) = LabelRegex::new(pattern) {
        regex.is_match(line);
        for literal in regex.set_matches().unwrap_or_default() {
            assert!(regex.is_match(literal), "{pattern:?} promises {literal:?}");
        }
    }
    if let Ok(regex) = LineRegex::new(pattern) {
        let mut locations = regex.locations();
        let found = regex.captures(line.as_bytes(), &mut locations);
        assert_eq!(
            found,
            regex.is_match(line.as_bytes()),
            "{pattern:?} on {line:?}"
        );
    }
}

fn tsdb_record(data: &[u8]) {
    trine_tsdb::decoders::decode_record(data).ok();
}

/// The first two bytes say how many rows there should be.
fn tsdb_run(data: &[u8]) {
    if let Some(([low, high], bytes)) = data.split_first_chunk() {
        let count = usize::from(u16::from_le_bytes([*low, *high]));
        let (mut floats, mut integers) = (Vec::new(), Vec::new());
        let rows = count / 3..count;
        trine_tsdb::decoders::decode_float_run("fuzz", bytes, count, rows.clone(), &mut floats)
            .ok();
        trine_tsdb::decoders::decode_integers("fuzz", bytes, count, rows, &mut integers).ok();
    }
}

/// The first two bytes say how many samples there should be.
fn tsdb_chunk(data: &[u8]) {
    if let Some(([low, high], bytes)) = data.split_first_chunk() {
        let count = u32::from(u16::from_le_bytes([*low, *high]));
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        let read = trine_tsdb::decoders::decode_floats;
        if read("fuzz", bytes, count, &mut timestamps, &mut values).is_ok() {
            assert!(timestamps.is_sorted_by(|a, b| a < b), "timestamps rise");
        }
    }
}

/// The first byte says how many samples there should be.
fn tsdb_histogram(data: &[u8]) {
    if let Some(([count], bytes)) = data.split_first_chunk() {
        let (mut timestamps, mut histograms) = (Vec::new(), Vec::new());
        let read = trine_tsdb::decoders::decode_histograms;
        let count = u32::from(*count);
        if read("fuzz", bytes, count, &mut timestamps, &mut histograms).is_ok() {
            for histogram in &histograms {
                histogram.positive_buckets().for_each(drop);
            }
        }
        let count = usize::from(u8::try_from(count).unwrap_or(u8::MAX));
        let read = trine_tsdb::decoders::decode_histogram_run;
        read("fuzz", bytes, count, count / 3..count, &mut histograms).ok();
        let timestamps: Vec<i64> = (0..200).collect();
        trine_tsdb::decoders::decode_starts("fuzz", bytes, &timestamps, &mut Vec::new()).ok();
    }
}

/// The first byte says how many chunks there are, two times two more how long the first two sections
/// are.
fn logstore_index(data: &[u8]) {
    let Some(([chunks, a, b, c, d], rest)) = data.split_first_chunk() else {
        return;
    };
    let cut = |bytes: [u8; 2], rest: &[u8]| usize::from(u16::from_le_bytes(bytes)).min(rest.len());
    let (filters, rest) = rest.split_at(cut([*a, *b], rest));
    let (long, words) = rest.split_at(cut([*c, *d], rest));
    trine_logstore::decoders::index(filters, long, words, *chunks);
}

fn logstore_record(data: &[u8]) {
    trine_logstore::decoders::decode_record(data).ok();
}

fn tracestore_record(data: &[u8]) {
    trine_tracestore::decoders::replay(data).ok();
}

fn tracestore_otlp(data: &[u8]) {
    if let Ok(spans) = trine_tracestore::decoders::push_otlp(&[data]) {
        assert!(spans as usize <= data.len());
    }
}

/// The first byte says what of a column the others are.
fn tracestore_column(data: &[u8]) {
    use trine_tracestore::decoders;
    let Some((which, bytes)) = data.split_first() else {
        return;
    };
    match which % 8 {
        0 => drop(decoders::directory_entry(bytes)),
        1 => drop(decoders::number_page(bytes)),
        2 => drop(decoders::dictionary(bytes)),
        3 => drop(decoders::blob_page(bytes)),
        4 => drop(decoders::template_page(bytes)),
        5 => drop(decoders::filter(bytes)),
        6 => drop(decoders::rows_page(bytes)),
        _ => {
            if let Some(text) = text(bytes) {
                assert!(decoders::template_of(text), "{text:?} does not come back");
            }
        }
    }
}

fn tracestore_block(data: &[u8]) {
    trine_tracestore::decoders::block(data).ok();
}

fn remote_read_request(data: &[u8]) {
    if let Ok(request) = remote_read::ReadRequest::decode(data) {
        assert!(request.queries.len() + request.accepted.len() <= data.len());
    }
}

fn loki_push(data: &[u8]) {
    let mut request = loki::PushRequest::of(data);
    while let Ok(Some(stream)) = request.next_stream() {
        let mut entries = stream.entries();
        let mut entry = loki::Entry::default();
        while matches!(entries.next_entry(&mut entry), Ok(true)) {}
    }
}

fn promql_query(data: &[u8]) {
    let Some(query) = text(data).and_then(|text| promql::parse(text).ok()) else {
        return;
    };
    let printed = query.to_string();
    let again = promql::parse(&printed).map(|query| query.to_string());
    assert_eq!(
        again.as_ref().ok(),
        Some(&printed),
        "printed from {:?}",
        query.text
    );
    let pretty = query.pretty();
    let again = promql::parse(&pretty).map(|query| query.to_string());
    assert_eq!(
        again.as_ref().ok(),
        Some(&printed),
        "laid out as {pretty:?}"
    );
}

fn promql_series(data: &[u8]) {
    let Some(Ok(series)) = text(data).map(promql::parse_series) else {
        return;
    };
    assert!(series.items.iter().all(|item| item.count > 0));
}

fn logql_query(data: &[u8]) {
    let Ok(query) = logql::parse_bytes(data) else {
        return;
    };
    let printed = query.to_string();
    let pretty = query.pretty_within(data.len() / 2);
    for text in [&printed, &pretty] {
        let again = logql::parse(text).map(|query| query.to_string());
        assert_eq!(again.as_ref().ok(), Some(&printed));
    }
}

fn traceql_query(data: &[u8]) {
    let Some(text) = text(data) else {
        return;
    };
    let strict = traceql::parse_unchecked(text).ok();
    for query in strict.into_iter().chain([traceql::tag_query(text)]) {
        let printed = query.to_string();
        // Brackets and blanks may make it longer than a query may be.
        if printed.len() <= traceql::QUERY_BYTES_MAX {
            let again = traceql::parse_unchecked(&printed).map(|query| query.to_string());
            assert_eq!(again.as_ref().ok(), Some(&printed));
        }
    }
    traceql::tag_filter(text).ok();
    traceql::parse_filter(text).ok();
    traceql::tokens(text);
}
