//! Targets of the metrics engine over whole files: a store with one part or one block.
//!
//! Checksums would hide everything behind them, so the input is what lies in the file (two bytes of
//! length before each piece) and the container is written around it: header, checksums of pages and
//! sections, the table of pages, footer, and a catalog that names it.

use std::path::Path;
use std::sync::Arc;

use trine_storage::catalog::{BlockMeta, Catalog, Document};
use trine_storage::clock::ManualClock;
use trine_storage::codec::{Reader, put_varint};
use trine_storage::fs::Fs;
use trine_storage::sealed::SealedWriter;
use trine_storage::shared::{self, Shared};
use trine_storage::sim::SimFs;
use trine_storage::ulid::BlockId;
use trine_storage::{Kind, Matcher, Result, TimeRange};
use trine_tsdb::{Hints, Series, Tsdb};

const STORE: &str = "store";
const KIND: [u8; 4] = *b"tsdb";
/// 2026-01-01 in nanoseconds.
const NOW_NS: i64 = 1_767_225_600_000_000_000;
/// Rows of a column above which an input is passed over: a file may claim as many as a real one
/// has, and a constant column of them takes a few bytes.
const ROWS_MAX: u32 = 1 << 16;
/// Memory of the store, so that a file cannot make it take much.
const MEMORY_BYTES_MAX: u64 = 64 << 20;
/// Bits of an id that are the place in the shard, and the largest place that is not passed over: the
/// head makes room for those before it.
const PLACE_MASK: u64 = (1 << 28) - 1;
const PLACE_MAX: u64 = 1 << 10;
/// Rows of all columns together.
const ALL_ROWS_MAX: u64 = 1 << 18;

/// Definitions as they are before they are compressed, ids, places, pages.
pub(crate) fn part(data: &[u8]) {
    let pieces = pieces(data);
    let [definitions, ids, places, pages @ ..] = pieces.as_slice() else {
        return;
    };
    let Some(number) = definitions_in(definitions) else {
        return;
    };
    check(0, 1, |fs, path| {
        let mut file = SealedWriter::create(fs, path, KIND)?;
        let table = page_table(&mut file, pages)?;
        let packed = zstd::bulk::compress(definitions, 1).expect("there is memory");
        let page = file.page(&packed)?;
        let mut defined = Vec::new();
        put_varint(&mut defined, number);
        put_varint(&mut defined, 1);
        page.put(&mut defined);
        put_varint(&mut defined, definitions.len() as u64);
        for (number, section) in [(1, &*defined), (2, ids), (3, places), (4, &table)] {
            file.section(number, section)?;
        }
        file.finish()
    });
}

/// The number of rows (two bytes), index, series, times, pages.
pub(crate) fn block(data: &[u8]) {
    let Some(([low, high], data)) = data.split_first_chunk() else {
        return;
    };
    let rows = u64::from(u16::from_le_bytes([*low, *high]));
    let pieces = pieces(data);
    let [index, series, times, pages @ ..] = pieces.as_slice() else {
        return;
    };
    let claims = times
        .chunks_exact(12)
        .filter_map(|place| place.last_chunk());
    let claims: Vec<u32> = claims.map(|rows| u32::from_le_bytes(*rows)).collect();
    let most = claims.iter().max().copied().unwrap_or(0);
    if most > ROWS_MAX || u64::from(most) * (series.len() as u64 / 8) > ALL_ROWS_MAX {
        return;
    }
    check(1, rows, |fs, path| {
        let mut file = SealedWriter::create(fs, path, KIND)?;
        let table = page_table(&mut file, pages)?;
        for (number, section) in [(1, *index), (2, series), (3, times), (4, &*table)] {
            file.section(number, section)?;
        }
        file.finish()
    });
}

fn pieces(mut data: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some(([low, high], rest)) = data.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (piece, rest) = rest.split_at(len);
        pieces.push(piece);
        data = rest;
    }
    pieces
}

fn page_table(file: &mut SealedWriter, pages: &[&[u8]]) -> Result<Vec<u8>> {
    let mut table = Vec::new();
    for page in pages {
        file.page(page)?.put(&mut table);
    }
    Ok(table)
}

/// How many definitions a reader finds, so that the number is right as long as they are; `None` for
/// one whose place is passed over.
fn definitions_in(definitions: &[u8]) -> Option<u64> {
    let mut number = 0;
    let mut reader = Reader::new("fuzz", definitions);
    while let (Ok(id), Ok(_)) = (reader.varint(), reader.bytes()) {
        if id & PLACE_MASK > PLACE_MAX {
            return None;
        }
        number += 1;
        if reader.is_empty() {
            break;
        }
    }
    Some(number)
}

/// Makes a store of one file and asks it everything.
fn check(level: u8, rows: u64, write: impl FnOnce(&SimFs, &Path) -> Result<u64>) {
    let fs = SimFs::new();
    let id = BlockId::from_bits(1);
    let dir = Path::new(STORE).join("blocks");
    fs.create_dir_all(&dir).expect("the disk is whole");
    let bytes = write(&fs, &dir.join(format!("{id}.block"))).expect("the disk is whole");
    let catalog = Catalog::new(Arc::new(fs.clone()), &Path::new(STORE).join("catalog"));
    let meta = BlockMeta {
        id,
        range: TimeRange::ALL,
        rows,
        bytes,
        level,
        sequence: 1,
        created_ms: 0,
        deletes_applied: 0,
    };
    let document = Document {
        version: 1,
        wal_position: 1,
        blocks: vec![meta],
        deletes: Vec::new(),
        ..Document::default()
    };
    catalog.swap(&document).expect("the disk is whole");
    let db = Tsdb::builder(STORE)
        .fs(Arc::new(fs))
        .clock(Arc::new(ManualClock::new(NOW_NS)))
        .shared(Shared::new(&shared::Config {
            workers: 0,
            memory_bytes_max: MEMORY_BYTES_MAX,
            ..shared::Config::default()
        }))
        .open()
        .expect("damage of a file is no reason not to open");
    ask(&db);
}

fn ask(db: &Tsdb) {
    let whole = db.verify().errors.is_empty() && db.stats().damaged.is_empty();
    let range = TimeRange::new(0, 1 << 41);
    let before = read(db, &[], TimeRange::ALL);
    let part = read(db, &[Matcher::equal("n", "a")], range);
    let snapshot = db.snapshot();
    let labels = snapshot.series(&[], TimeRange::ALL, None).is_ok()
        & snapshot.label_values("n", &[], range, None).is_ok()
        & snapshot.label_names(&[], range, None).is_ok()
        & snapshot.cardinality("n", 3).is_ok();
    if whole {
        assert!(
            before.is_ok() && part.is_ok() && labels,
            "verify found nothing"
        );
    }
    let compacted = db.compact();
    if let Err(error) = &compacted {
        assert!(!whole, "{error}");
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        return;
    }
    if let (true, Ok(before)) = (whole, before) {
        let after = read(db, &[], TimeRange::ALL).expect("it was just written");
        assert_eq!(bits(&before), bits(&after), "compaction changed something");
        assert!(db.verify().errors.is_empty(), "compaction wrote damage");
    }
}

/// Everything that an answer holds, in order.
fn bits(answer: &[Series]) -> Vec<(String, i64, u64)> {
    let mut bits = Vec::new();
    for series in answer {
        let trine_tsdb::Values::Floats(values) = &series.samples.values else {
            panic!("there are only floats")
        };
        for (timestamp, value) in series.samples.timestamps.iter().zip(values) {
            bits.push((series.labels.to_string(), *timestamp, value.to_bits()));
        }
    }
    bits
}

fn read(db: &Tsdb, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Series>> {
    let set = db.snapshot().select(matchers, range, &Hints::default())?;
    let answer: Vec<Series> = set.collect::<Result<_>>()?;
    for series in &answer {
        let timestamps = &series.samples.timestamps;
        assert!(timestamps.is_sorted_by(|a, b| a < b), "timestamps rise");
        assert!(
            timestamps.iter().all(|t| range.contains(*t)),
            "in the range"
        );
        assert!(!timestamps.is_empty(), "series have samples");
    }
    Ok(answer)
}
