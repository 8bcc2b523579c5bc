//! Tests of the block's bytes: golden ones, damaged ones.

use std::path::Path;

use proptest::prelude::*;
use trine_storage::block_set::BlockReader;
use trine_storage::catalog::BlockMeta;
use trine_storage::fs::Fs;
use trine_storage::sealed::{PageRef, SealedFile};
use trine_storage::sim::SimFs;
use trine_storage::ulid::BlockId;
use trine_storage::{Kind, Labels, TimeRange};

use super::format::*;
use super::reader::BlockFile;
use super::writer::{BlockWriter, Written};
use trine_storage::pack::{pack, unpack};

fn labels(value: &str) -> Labels {
    Labels::from_pairs([("a", value)]).unwrap()
}

fn page(offset: u64) -> PageRef {
    PageRef {
        offset,
        len: 2,
        crc: 3,
    }
}

fn chunk() -> ChunkHeader {
    ChunkHeader {
        range: TimeRange::new(-1, 301),
        rows: 3,
        line_bytes: 7,
        timestamps: page(16),
        lengths: page(18),
        text: page(20),
        variables: page(22),
        metadata: PageRef {
            offset: 0,
            len: 0,
            crc: 0,
        },
        runs: vec![
            Run {
                stream: 0,
                rows: 2,
                line_bytes: 5,
                first: -1,
                last: 300,
            },
            Run {
                stream: 2,
                rows: 1,
                line_bytes: 2,
                first: 4,
                last: 4,
            },
        ],
        levels: vec!["".into(), "info".into()],
        level_counts: vec![1, 1, 0, 1],
    }
}

const SUMMARY_OF_ONE: Summary = Summary {
    rows: 3,
    streams: 3,
    chunks: 1,
};

/// The bytes written down in FORMAT.md, "Block".
#[test]
fn golden_sections() {
    assert_eq!(
        SUMMARY_OF_ONE.encode(),
        [3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0]
    );
    let mut header = Vec::new();
    chunk().put(&mut header);
    let mut expected = vec![1];
    let pages = [(16, 2, 3), (18, 2, 3), (20, 2, 3), (22, 2, 3), (0, 0, 0)];
    for (offset, len, crc) in pages {
        expected.extend([offset, 0, 0, 0, 0, 0, 0, 0, len, 0, 0, 0, crc, 0, 0, 0]);
    }
    expected.extend([2, 0, 2, 5, 0, 0xad, 2, 1, 1, 2, 5, 0]);
    expected.extend([2, 0, 4, b'i', b'n', b'f', b'o', 1, 1, 0, 1]);
    assert_eq!(header, expected);
}

/// The bytes written down in FORMAT.md, "Pages".
#[test]
fn golden_pages() {
    assert_eq!(
        encode_timestamps(&[-1, 300, 4], &chunk().runs),
        [0xad, 2, 1, 1],
        "one step of 301"
    );
    assert_eq!(pack(b"hi").unwrap(), [0, 2, 0, 0, 0, b'h', b'i']);
    let zeros = pack(&[0; 1000]).unwrap();
    assert_eq!(zeros[..5], [1, 0xe8, 3, 0, 0]);
    assert_eq!(unpack("test", &zeros).unwrap(), [0; 1000]);
}

#[test]
fn sections_come_back() {
    let chunk = chunk();
    let mut bytes = Vec::new();
    chunk.put(&mut bytes);
    assert_eq!(
        decode_chunks("test", &bytes, &SUMMARY_OF_ONE).unwrap(),
        [chunk]
    );
    assert_eq!(
        Summary::decode("test", &SUMMARY_OF_ONE.encode()).unwrap(),
        SUMMARY_OF_ONE
    );
}

#[test]
fn a_newer_version_is_refused_by_number() {
    let mut bytes = SUMMARY_OF_ONE.encode();
    bytes[0] = 9;
    let error = Summary::decode("x.block", &bytes).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("version 9"), "{error}");
}

#[test]
fn cut_sections_are_corrupt() {
    let mut header = Vec::new();
    chunk().put(&mut header);
    for cut in 0..header.len() {
        assert!(
            decode_chunks("test", &header[..cut], &SUMMARY_OF_ONE).is_err(),
            "{cut}"
        );
    }
    for cut in 0..20 {
        let bytes = &SUMMARY_OF_ONE.encode()[..cut];
        assert_eq!(
            Summary::decode("test", bytes).unwrap_err().kind(),
            Kind::Corrupt,
            "{cut}"
        );
    }
}

#[test]
fn headers_that_make_no_sense_are_corrupt() {
    let check = |what: &str, change: &dyn Fn(&mut ChunkHeader)| {
        let mut chunk = chunk();
        change(&mut chunk);
        let mut bytes = Vec::new();
        chunk.put(&mut bytes);
        let error = decode_chunks("test", &bytes, &SUMMARY_OF_ONE).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{what}");
    };
    check("a stream that is not in the table", &|c| {
        c.runs[1].stream = 3;
    });
    check("a run of no entries", &|c| {
        c.runs[1].rows = 0;
    });
    check("more entries than the summary counts", &|c| {
        c.runs[1].rows = 2;
    });
    check("more entries than a chunk has", &|c| {
        c.runs[1].rows = 1 << 20;
    });
    check("more bytes than a page has", &|c| {
        c.runs[1].line_bytes = 1 << 40;
    });
    check("a timestamp after all time", &|c| {
        c.runs[1].last = i64::MAX;
    });
    check("more levels than entries", &|c| {
        c.level_counts[0] = 2;
    });
    check("fewer levels than entries", &|c| {
        c.level_counts[0] = 0;
    });
}

fn open(disk: &SimFs, path: &Path, written: Written) -> BlockFile {
    let file = SealedFile::open(disk.open(path).unwrap(), "x.block", KIND).unwrap();
    let id = BlockId::from_bits(1);
    let (range, bytes) = (written.range, written.bytes);
    let meta = BlockMeta {
        id,
        range,
        rows: written.rows,
        bytes,
        level: 0,
        sequence: 0,
        created_ms: 0,
        deletes_applied: 0,
    };
    BlockFile::open(file, &meta).unwrap()
}

/// Writes lines of `line_bytes` bytes to two streams in turns; gives the rows of each chunk.
fn chunk_rows(rows: usize, line_bytes: usize, metadata: &Labels) -> Vec<u32> {
    let disk = SimFs::new();
    disk.create_dir_all(Path::new("/")).unwrap();
    let path = Path::new("/x.block");
    let mut writer = BlockWriter::create(&disk, path).unwrap();
    let line = vec![b'x'; line_bytes];
    for row in 0..rows {
        if row == 0 || row == rows / 2 {
            writer
                .stream(&labels(if row == 0 { "b" } else { "c" }), 0)
                .unwrap();
        }
        writer.push(row as i64, &line, metadata).unwrap();
    }
    let written = writer.finish().unwrap();
    assert_eq!(
        (written.rows, written.range),
        (rows as u64, TimeRange::new(0, rows as i64))
    );
    let block = open(&disk, path, written);
    assert_eq!(block.verify().unwrap(), rows as u64);
    block
        .tables()
        .unwrap()
        .chunks
        .iter()
        .map(|chunk| chunk.rows)
        .collect()
}

/// Levels of entries by run, as the header of the one chunk tells them.
#[test]
fn levels_are_counted_by_run() {
    let level = |level: &str| Labels::from_pairs([(LEVEL, level)]).unwrap();
    let (info, warn, none) = (level("info"), level("warn"), Labels::empty());
    let many: Vec<Labels> = (0..LEVELS_MAX).map(|n| level(&format!("l{n}"))).collect();
    let check = |runs: &[&[&Labels]], expected: &[&[(&str, u32)]]| {
        let disk = SimFs::new();
        disk.create_dir_all(Path::new("/")).unwrap();
        let path = Path::new("/x.block");
        let mut writer = BlockWriter::create(&disk, path).unwrap();
        for (name, run) in (0..).zip(runs) {
            writer.stream(&labels(&format!("{name}")), 0).unwrap();
            for (at, set) in (0..).zip(*run) {
                writer.push(at, b"x", set).unwrap();
            }
        }
        let written = writer.finish().unwrap();
        let block = open(&disk, path, written);
        let tables = block.tables().unwrap();
        let chunk = &tables.chunks[0];
        for (run, expected) in expected.iter().enumerate() {
            let found = chunk.levels_of(run);
            let found = found.map(|levels| {
                let mut named: Vec<(&str, u32)> = levels
                    .iter()
                    .map(|(place, count)| (&*chunk.levels[*place], *count))
                    .collect();
                named.sort_unstable();
                named
            });
            assert_eq!(found.unwrap_or_default(), **expected);
        }
    };
    check(&[&[&none, &none]], &[&[("", 2)]]);
    check(&[&[&info, &info]], &[&[("info", 2)]]);
    check(
        &[&[&info, &none, &warn], &[&warn]],
        &[&[("", 1), ("info", 1), ("warn", 1)], &[("warn", 1)]],
    );
    let all: Vec<&Labels> = many.iter().collect();
    let named: Vec<String> = (0..LEVELS_MAX).map(|n| format!("l{n}")).collect();
    let mut expected: Vec<(&str, u32)> = named.iter().map(|name| (name.as_str(), 1)).collect();
    expected.sort_unstable();
    check(&[&all], &[&expected]);
    let too_many: Vec<&Labels> = all.iter().copied().chain([&none]).collect();
    check(&[&too_many], &[&[]]);
}

#[test]
fn chunks_are_closed_by_bytes_of_lines_and_metadata_or_by_rows() {
    let none = Labels::empty();
    let half = CHUNK_BYTES / 2;
    let max = CHUNK_ROWS_MAX as u32;
    assert_eq!(chunk_rows(4, 10, &none), [4], "small streams share a chunk");
    assert_eq!(chunk_rows(4, half, &none), [2, 2]);
    assert_eq!(chunk_rows(4, half + 1, &none), [1, 1, 1, 1]);
    assert_eq!(
        chunk_rows(2, 3 * CHUNK_BYTES, &none),
        [1, 1],
        "an entry is never divided"
    );
    assert_eq!(
        chunk_rows(4, half, &labels("d")),
        [1, 1, 1, 1],
        "metadata counts too"
    );
    assert_eq!(chunk_rows(CHUNK_ROWS_MAX, 0, &none), [max]);
    assert_eq!(chunk_rows(CHUNK_ROWS_MAX + 1, 0, &none), [max, 1]);
}

proptest! {
    #[test]
    fn pages_round_trip(raw: Vec<u8>) {
        prop_assert_eq!(unpack("test", &pack(&raw).unwrap()).unwrap(), raw);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        decode_chunks("test", &bytes, &SUMMARY_OF_ONE).ok();
        Summary::decode("test", &bytes).ok();
        unpack("test", &bytes).ok();
        decode_timestamps("test", &bytes, &chunk()).ok();
    }

    #[test]
    fn timestamps_round_trip(
        mut timestamps in prop::collection::vec(any::<i64>(), 1..20),
        unit in 1..2_000_000i64,
    ) {
        for timestamp in &mut timestamps {
            *timestamp = *timestamp / unit * unit;
        }
        timestamps.iter_mut().for_each(|t| *t = (*t).min(i64::MAX - 1));
        timestamps.sort_unstable();
        let (first, last) = (timestamps[0], timestamps[timestamps.len() - 1]);
        let rows = timestamps.len() as u32;
        let run = Run { stream: 0, rows, line_bytes: 0, first, last };
        let chunk = ChunkHeader { rows, runs: vec![run], ..chunk() };
        let raw = encode_timestamps(&timestamps, &chunk.runs);
        prop_assert_eq!(decode_timestamps("test", &raw, &chunk).unwrap(), timestamps);
    }
}
