use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::sim::{Crash, SimFs};

const DIR: &str = "store/wal";

type Records = Vec<(u64, Vec<u8>)>;

fn open_from(fs: &SimFs, config: Config, from: u64) -> (Wal, Replay, Records) {
    let mut records = Vec::new();
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    let mut each = |position: u64, record: &[u8]| {
        records.push((position, record.to_vec()));
        Ok(())
    };
    let (wal, replay) = Wal::open(fs, Path::new(DIR), config, from, &mut each).unwrap();
    (wal, replay, records)
}

fn open(fs: &SimFs) -> (Wal, Replay, Records) {
    open_from(fs, Config::default(), 0)
}

fn put(wal: &Wal, record: &[u8]) -> u64 {
    let position = wal.append(record).unwrap();
    wal.commit(position, Durability::Synced).unwrap();
    position
}

fn small_segments() -> Config {
    Config {
        segment_bytes: 100,
        ..Config::default()
    }
}

#[test]
fn records_come_back_in_order_with_their_positions() {
    let fs = SimFs::new();
    let (wal, _, _) = open(&fs);
    let large = vec![7; 10_000];
    put(&wal, b"one");
    put(&wal, &large);
    put(&wal, b"");
    drop(wal);
    let (wal, replay, records) = open(&fs);
    assert_eq!(records, [(0, b"one".to_vec()), (1, large), (2, vec![])]);
    assert_eq!((replay.records, replay.end, replay.torn_bytes), (3, 3, 0));
    assert_eq!(put(&wal, b"next"), 3);
}

#[test]
fn a_log_is_read_however_its_frames_are_stored() {
    let fs = SimFs::new();
    let bytes_with = |compression| {
        let config = Config {
            compression,
            ..Config::default()
        };
        let (wal, _, _) = open_from(&fs, config, 0);
        let before = wal.stats().bytes;
        let position = wal.append_parts(&[&[1; 300], b"", &[2; 700]]).unwrap();
        wal.commit(position, Durability::Buffered).unwrap();
        wal.stats().bytes - before
    };
    assert!(bytes_with(Compression::None) > 1_000);
    assert!(bytes_with(Compression::Zstd) < 200);
    let record = [[1; 300].as_slice(), &[2; 700]].concat();
    assert_eq!(open(&fs).2, [(0, record.clone()), (1, record)]);
}

/// `Durability::Synced` survives a power loss, `Durability::Buffered` a crash of the process.
#[test]
fn each_durability_keeps_its_promise() {
    let fs = SimFs::new();
    let (wal, _, _) = open(&fs);
    put(&wal, b"synced");
    let buffered = wal.append(b"buffered").unwrap();
    wal.commit(buffered, Durability::Buffered).unwrap();
    wal.append(b"only staged").unwrap();
    let (_, _, after) = open(&fs.crash(Crash::Process, 1));
    assert_eq!(after.len(), 2);
    for seed in 0..20 {
        let (_, _, after) = open(&fs.crash(Crash::Power, seed));
        assert!(
            after.len() <= 2 && after[0].1 == b"synced",
            "seed {seed}: {after:?}"
        );
    }
}

#[test]
fn replay_starts_at_the_position_that_the_catalog_names() {
    let fs = SimFs::new();
    let (wal, _, _) = open(&fs);
    for record in [b"a", b"b", b"c"] {
        put(&wal, record);
    }
    let (_, replay, records) = open_from(&fs, Config::default(), 2);
    assert_eq!((replay.records, records), (1, vec![(2, b"c".to_vec())]));
    // A log that lost everything still never gives a position twice.
    let (wal, _, _) = open_from(&SimFs::new(), Config::default(), 9);
    assert_eq!(wal.next_position(), 9);
}

#[test]
fn truncation_removes_whole_segments_only() {
    let fs = SimFs::new();
    let (wal, _, _) = open_from(&fs, small_segments(), 0);
    for _ in 0..10 {
        put(&wal, &[1; 60]);
    }
    let before = wal.stats();
    assert!(before.segments > 3, "{before:?}");
    wal.truncate(4).unwrap();
    let (_, _, records) = open_from(&fs, small_segments(), 4);
    assert_eq!(records.first().map(|r| r.0), Some(4));
    wal.truncate(10).unwrap();
    assert_eq!(
        wal.stats(),
        Stats {
            bytes: 0,
            segments: 0,
            next_position: 10,
            is_poisoned: false,
        }
    );
    assert_eq!(put(&wal, b"goes on"), 10);
    assert_eq!(open(&fs).2, [(10, b"goes on".to_vec())]);
}

fn reused_segments() -> Config {
    Config {
        reused_bytes_max: 1_000,
        compression: Compression::None,
        ..small_segments()
    }
}

/// Records of many sizes, while segments are cut off the log and written over; at every operation
/// the process or the machine goes down.
#[test]
fn segments_are_written_over_and_what_was_there_before_never_comes_back() {
    let record = |n: u64| vec![n as u8; 20 + (n as usize * 37) % 90];
    let run = |fs: &SimFs| {
        let mut acknowledged = 0;
        let each = &mut |_: u64, _: &[u8]| Ok(());
        let fs: Arc<dyn Fs> = Arc::new(fs.clone());
        let opened = Wal::open(fs, Path::new(DIR), reused_segments(), 0, each);
        let Ok((wal, _)) = opened else { return 0 };
        for n in 0..24 {
            let position = wal.append(&record(n)).unwrap_or(n);
            if wal.commit(position, Durability::Synced).is_err() {
                break;
            }
            acknowledged = n + 1;
            // What is cut off is in a block, as far as anybody knows.
            if n % 5 == 4 && wal.truncate(n - 2).is_err() {
                break;
            }
        }
        acknowledged
    };
    let whole = SimFs::new();
    assert_eq!(run(&whole), 24);
    for cut in 0..whole.operations() {
        let disk = SimFs::new();
        disk.cut_after(cut);
        let acknowledged = run(&disk);
        let from = (acknowledged / 5 * 5).saturating_sub(3);
        for (how, seed) in [
            (Crash::Process, 0),
            (Crash::Power, cut),
            (Crash::Power, !cut),
        ] {
            let (_, replay, records) = open_from(&disk.crash(how, seed), reused_segments(), from);
            let positions: Vec<u64> = records.iter().map(|(position, _)| *position).collect();
            assert!(
                positions
                    .iter()
                    .copied()
                    .eq(from..from + positions.len() as u64)
                    && from + positions.len() as u64 >= acknowledged,
                "cut {cut} {how:?}: {positions:?} of {acknowledged} from {from}"
            );
            for (position, found) in records {
                assert_eq!(found, record(position), "cut {cut} {how:?}");
            }
            assert_eq!(replay.damaged, Vec::<String>::new(), "cut {cut} {how:?}");
        }
    }
    let segments = |fs: &SimFs, extension: &str| {
        let is = |path: &PathBuf| path.extension().is_some_and(|e| e == extension);
        fs.files().into_iter().filter(is).count()
    };
    assert!(segments(&whole, "spare") > 0, "{:?}", whole.files());
    drop(open_from(&whole, reused_segments(), 22));
    assert_eq!(segments(&whole, "spare"), 0, "{:?}", whole.files());
}

#[test]
fn an_idle_log_lets_go_of_what_it_would_write_over() {
    let fs = SimFs::new();
    let (wal, _, _) = open_from(&fs, reused_segments(), 0);
    for _ in 0..10 {
        put(&wal, &[1; 60]);
    }
    // A segment that is being read is not written over.
    let segments = wal.segments();
    let read = segments.iter().next().unwrap().0.to_owned();
    wal.truncate(3).unwrap();
    let is_spare = |path: &PathBuf| path.extension().is_some_and(|e| e == "spare");
    assert!(!fs.files().iter().any(is_spare) && !fs.files().contains(&read));
    drop(segments);
    wal.truncate(9).unwrap();
    assert!(fs.files().iter().any(is_spare));
    let held = fs.files().len();
    wal.trim().unwrap();
    assert_eq!(fs.files().len(), held, "records came since the last time");
    wal.trim().unwrap();
    assert_eq!(fs.files().len(), 1, "{:?}", fs.files());
    assert_eq!(put(&wal, b"goes on"), 10);
}

#[test]
fn a_torn_end_is_cut_off_and_the_log_goes_on() {
    let fs = SimFs::new();
    let (wal, _, _) = open(&fs);
    put(&wal, b"kept");
    let len = wal.stats().bytes;
    put(&wal, b"torn");
    let path = fs.files().pop().unwrap();
    fs.truncate(&path, len + 10).unwrap();
    let (wal, replay, records) = open(&fs);
    assert_eq!(
        (records.len(), replay.torn_bytes, replay.damaged.len()),
        (1, 10, 0)
    );
    put(&wal, b"after");
    let (_, replay, records) = open(&fs);
    assert_eq!((records.len(), replay.torn_bytes), (2, 0));
    assert!(replay.damaged.is_empty(), "{:?}", replay.damaged);
}

/// Every byte of a log flipped, one at a time: nothing but the frame it is in may be lost, nothing
/// is invented, and what is lost in the middle is told.
#[test]
fn damage_loses_one_frame_and_is_told() {
    let fs = SimFs::new();
    let (wal, _, _) = open(&fs);
    for record in [b"first", b"secnd", b"third"] {
        put(&wal, record);
    }
    let path = fs.files().pop().unwrap();
    let len = usize::try_from(wal.stats().bytes).unwrap();
    let all = open(&fs).2;
    for offset in 0..len {
        let damaged = fs.crash(Crash::Process, 0);
        damaged.corrupt(&path, offset, 0x10);
        let (_, replay, records) = open(&damaged);
        assert!(
            records.iter().all(|record| all.contains(record)),
            "byte {offset}: {records:?}"
        );
        let told = !replay.damaged.is_empty() || replay.torn_bytes > 0;
        assert!(told || records == all, "byte {offset} was lost in silence");
        let lost_at_most = if offset < 32 { 3 } else { 1 };
        assert!(
            all.len() - records.len() <= lost_at_most,
            "byte {offset}: {records:?}"
        );
    }
}

#[test]
fn a_failed_write_poisons_the_log() {
    let fs = SimFs::new();
    let (wal, _, _) = open(&fs);
    put(&wal, b"before");
    fs.cut_after(fs.operations());
    let position = wal.append(b"lost").unwrap();
    let error = wal.commit(position, Durability::Synced).unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert_eq!(wal.append(b"later").unwrap_err().kind(), Kind::Poisoned);
    assert_eq!(
        wal.commit(position, Durability::Buffered)
            .unwrap_err()
            .kind(),
        Kind::Poisoned
    );
    assert!(wal.failure().is_some());
    assert_eq!(open(&fs.crash(Crash::Process, 0)).2.len(), 1);
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing_acknowledged() {
    let fs = SimFs::new();
    let (wal, _, _) = open(&fs);
    put(&wal, b"before");
    fs.fill_after(0);
    let position = wal.append(b"too much").unwrap();
    let error = wal.commit(position, Durability::Synced).unwrap_err();
    assert_eq!(error.kind(), Kind::Io, "{error}");
    assert_eq!(
        open(&fs.crash(Crash::Power, 3)).2,
        [(0, b"before".to_vec())]
    );
}

#[test]
fn a_record_may_be_as_large_as_the_limit_and_no_larger() {
    let config = Config {
        record_bytes_max: 100,
        ..Config::default()
    };
    let (wal, _, _) = open_from(&SimFs::new(), config, 0);
    wal.append(&[0; 100]).unwrap();
    let error = wal.append(&[0; 101]).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    assert!(
        error.to_string().contains("record_bytes_max (100 bytes)"),
        "{error}"
    );
}

#[test]
fn staged_bytes_are_bounded_by_writing_them() {
    let config = Config {
        staged_bytes_max: 50,
        ..Config::default()
    };
    let fs = SimFs::new();
    let (wal, _, _) = open_from(&fs, config, 0);
    for _ in 0..10 {
        wal.append(&[0; 30]).unwrap();
    }
    // All but the last two were written on the way, without anybody waiting for them.
    assert!(open(&fs.crash(Crash::Process, 0)).2.len() >= 8);
}

#[test]
fn a_newer_version_is_refused_by_number() {
    let fs = SimFs::new();
    let (wal, _, _) = open(&fs);
    put(&wal, b"x");
    let mut segment = frame::segment_header(1, 0);
    segment[8] = 2;
    let crc = crc32fast::hash(&segment[..28]);
    segment[28..].copy_from_slice(&crc.to_le_bytes());
    let error = read_segment("seg", &segment, &mut |_, _| Ok(())).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert_eq!(
        error.to_string(),
        "seg (segment 1) has version 2, this program reads 1"
    );
}

/// The bytes written down in FORMAT.md, "Write-ahead log".
#[test]
fn golden_bytes() {
    let header = frame::segment_header(2, 7);
    assert_eq!(
        &header[..28],
        b"TRINEWAL\x01\0\0\0\x02\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0"
    );
    assert_eq!(header[28..], crc32fast::hash(&header[..28]).to_le_bytes());
    let mut batch = [[0; frame::FRAME_HEADER_BYTES].as_slice(), b"\x02hi"].concat();
    let mut encoder = frame::Encoder::new(Compression::Zstd);
    let out = encoder.encode(&mut batch, 7, 1).unwrap();
    assert_eq!(
        &out[..28],
        b"TWF\x01\x03\0\0\0\x03\0\0\0\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"
    );
    assert_eq!(&out[32..], b"\x02hi");
    let crc = crc32fast::hash(&[&out[..28], &out[32..]].concat());
    assert_eq!(out[28..32], crc.to_le_bytes());
}

#[test]
fn callers_that_wait_together_share_a_sync() {
    let fs = SimFs::new();
    let (wal, _, _) = open(&fs);
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    put(&wal, b"row");
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(acknowledged.into_inner(), 200);
    let (_, replay, records) = open(&fs.crash(Crash::Power, 5));
    assert_eq!((records.len(), replay.end), (200, 200));
}

/// Where the catalog says so first, the positions that were passed over are missed by nobody.
#[test]
fn positions_are_skipped_and_never_given() {
    let fs = SimFs::new();
    for reused in [0, 1 << 20] {
        let config = Config {
            reused_bytes_max: reused,
            ..Config::default()
        };
        let (wal, _, _) = open_from(&fs, config.clone(), 100);
        let first = put(&wal, b"in a block");
        let second = wal.append(b"buffered, in a block").unwrap();
        let refused = wal.skip_to(1_000).unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "a record is not written yet");
        wal.commit(second, Durability::Buffered).unwrap();
        let from = first + 500;
        wal.skip_to(from).unwrap();
        wal.skip_to(first).unwrap();
        assert_eq!(wal.next_position(), from);
        wal.commit(second, Durability::Synced).unwrap();
        wal.truncate(from).unwrap();
        assert_eq!(put(&wal, b"later"), from);
        drop(wal);
        let (wal, replay, records) = open_from(&fs, config, from);
        assert_eq!(records, [(from, b"later".to_vec())]);
        assert_eq!(replay.damaged, [""; 0]);
        assert_eq!(wal.next_position(), from + 1);
        wal.truncate(from + 1).unwrap();
    }
}
