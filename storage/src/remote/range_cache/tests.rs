#![expect(
    clippy::single_range_in_vec_init,
    reason = "a read of one range is the usual case"
)]

use std::io;
use std::path::Path as FsPath;

use super::super::counters::Verb;
use super::super::fault::Faults;
use super::super::file::RemoteFile;
use super::super::stage::{Stage, handle};
use super::*;
use crate::cost::{Cost, Spent};
use crate::fs::{Fs, ReadFile};
use crate::sim::{Crash, Rng, SimFs};

const PAGE: u64 = 4096;

/// Bytes that say where they are.
fn content(len: u64) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect()
}

fn small() -> CacheOptions {
    CacheOptions {
        page_bytes: PAGE,
        gap_bytes_max: PAGE,
        request_bytes_max: 8 * PAGE,
        memory_bytes_max: 1000 * PAGE,
        ..CacheOptions::default()
    }
}

fn cache(stage: &Stage, options: CacheOptions, fs: &Arc<dyn Fs>) -> RangeCache {
    let clock = Arc::clone(&stage.clock) as Arc<dyn Clock>;
    RangeCache::open(options, fs, handle(), &clock).unwrap()
}

fn memory_only(stage: &Stage, options: CacheOptions) -> RangeCache {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    cache(stage, options, &fs)
}

/// A file of so many bytes in the store.
fn stored(stage: &Stage, cache: &RangeCache, key: &str, len: u64) -> RemoteFile {
    stage.store.set(key, content(len));
    RemoteFile::new(&stage.bucket(1), cache, key, len)
}

/// What a read costs.
fn spent(work: impl FnOnce()) -> Spent {
    let cost = Arc::new(Cost::default());
    let counting = cost.enter();
    work();
    drop(counting);
    cost.now()
}

fn expect(file: &RemoteFile, ranges: &[Range<u64>]) {
    let whole = content(file.len());
    let read = file.read(ranges).unwrap();
    for (range, bytes) in ranges.iter().zip(read) {
        let at = range.start as usize..range.end as usize;
        assert_eq!(bytes, whole.slice(at), "{range:?}");
    }
}

#[test]
fn a_read_is_one_round_and_near_ranges_are_one_request() {
    let stage = Stage::new(1, Faults::default());
    let cache = memory_only(&stage, small());
    let far = 100 * PAGE;
    for (number, (ranges, requests, bytes)) in [
        (vec![], 0, 0),
        (vec![7..7], 0, 0),
        (vec![0..1], 1, PAGE),
        // In one page, over the edge of two, and twice the same.
        (vec![10..20, 30..40, 10..20], 1, PAGE),
        (vec![PAGE - 1..PAGE + 1], 1, 2 * PAGE),
        // A gap of one page is fetched with it, two are not.
        (vec![0..1, 2 * PAGE..2 * PAGE + 1], 1, 3 * PAGE),
        (vec![0..1, 3 * PAGE..3 * PAGE + 1], 2, 2 * PAGE),
        // Not in order, overlapping.
        (vec![far..far + 1, 5..PAGE, 0..10], 2, 2 * PAGE),
        // Eight pages are one request, nine are two.
        (vec![0..8 * PAGE], 1, 8 * PAGE),
        (vec![0..8 * PAGE + 1], 2, 9 * PAGE),
        // The last page is not whole.
        (vec![far + PAGE..far + PAGE + 9], 1, 10),
    ]
    .into_iter()
    .enumerate()
    {
        let file = stored(&stage, &cache, &format!("f{number}"), far + PAGE + 10);
        let first = spent(|| expect(&file, &ranges));
        let rounds = u64::from(requests > 0);
        assert_eq!(
            (first.requests, first.bytes),
            (requests, bytes),
            "{ranges:?}"
        );
        assert_eq!((first.rounds, first.depth), (rounds, rounds), "{ranges:?}");
        assert_eq!((first.memory_hits, first.disk_hits), (0, 0));
        let again = spent(|| expect(&file, &ranges));
        let hits = first.misses;
        let only_hits = Spent {
            memory_hits: hits,
            ..Spent::default()
        };
        assert_eq!(again, only_hits, "{ranges:?}");
    }
}

#[test]
fn ranges_outside_the_file_are_refused_without_a_request() {
    let stage = Stage::new(1, Faults::default());
    let file = stored(&stage, &memory_only(&stage, small()), "f", 10);
    for range in [0..11, 10..11, 11..11, u64::MAX - 1..u64::MAX] {
        let error = file.read(&[0..1, range]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is the case")]
    let reversed = file.read(&[5..4]).unwrap_err();
    assert_eq!(reversed.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(stage.store.requests(), 0);
    expect(&file, &[0..10, 10..10]);
}

#[test]
fn random_reads_are_what_the_object_is_whatever_fails_and_however_small_the_cache() {
    for seed in 0..20 {
        let faults = Faults {
            before: 100,
            short: 100,
            throttled: 50,
            ..Faults::default()
        };
        let stage = Stage::new(seed, faults);
        let mut rng = Rng::new(seed);
        let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
        let options = CacheOptions {
            // In the larger ones pages that come together share memory.
            memory_bytes_max: PAGE * rng.below(20) * (1 + 9 * rng.below(2)),
            gap_bytes_max: PAGE * rng.below(4),
            disk: (seed % 2 == 0).then(|| DiskOptions {
                dir: "/cache".into(),
                bytes_max: PAGE * 40,
                segment_bytes: PAGE * 8,
            }),
            ..small()
        };
        let cache = cache(&stage, options.clone(), &fs);
        let len = 1 + rng.below(60 * PAGE);
        let file = stored(&stage, &cache, "f", len);
        let mut failed = 0;
        for _ in 0..60 {
            if rng.below(20) == 0 {
                file.distrust();
            }
            let ranges: Vec<Range<u64>> = (0..rng.below(5))
                .map(|_| {
                    let start = rng.below(len + 1);
                    start..start + rng.below((len - start + 1).min(20 * PAGE))
                })
                .collect();
            match file.read(&ranges) {
                Ok(_) => expect_or_fail(&file, &ranges),
                Err(error) => {
                    failed += 1;
                    assert_ne!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
                }
            }
        }
        assert!(failed < 20, "seed {seed}: {failed} reads failed");
        let stats = cache.stats();
        assert!(stats.memory_bytes <= options.memory_bytes_max, "{stats:?}");
        assert!(stats.disk_bytes <= PAGE * 40, "{stats:?}");
        assert_eq!(stats.damaged, 0);
        file.distrust();
        let stats = cache.stats();
        assert_eq!((stats.memory_bytes, stats.memory_pages), (0, 0));
    }
}

/// As [`expect`], where the store may fail.
fn expect_or_fail(file: &RemoteFile, ranges: &[Range<u64>]) {
    let whole = content(file.len());
    if let Ok(read) = file.read(ranges) {
        for (range, bytes) in ranges.iter().zip(read) {
            assert_eq!(bytes, whole.slice(range.start as usize..range.end as usize));
        }
    }
}

#[test]
fn readers_at_the_same_time_fetch_once() {
    let latency = std::time::Duration::from_millis(20);
    let stage = Stage::new(
        1,
        Faults {
            latency,
            ..Faults::default()
        },
    );
    let cache = memory_only(&stage, small());
    let file = stored(&stage, &cache, "f", 100 * PAGE);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| expect(&file, &[0..3 * PAGE, 50 * PAGE..51 * PAGE]));
        }
    });
    assert_eq!(stage.store.requests(), 2);
    // What was begun without waiting is found by whoever waits.
    file.prefetch(&[80 * PAGE..81 * PAGE]).unwrap();
    let other = stored(&stage, &cache, "g", 100 * PAGE);
    other.prefetch(&[0..1, 90 * PAGE..91 * PAGE]).unwrap();
    let read = spent(|| {
        expect(&file, &[80 * PAGE..80 * PAGE + 1]);
        expect(&other, &[0..1, 90 * PAGE..90 * PAGE + 1]);
    });
    // Each was waited for, so each has been counted.
    assert_eq!(stage.store.requests(), 5);
    assert_eq!((read.requests, read.misses + read.memory_hits), (0, 3));
}

#[test]
fn a_body_of_the_wrong_length_is_an_error_and_is_not_kept() {
    let stage = Stage::new(1, Faults::default());
    let cache = memory_only(&stage, small());
    let file = stored(&stage, &cache, "f", 10 * PAGE);
    stage.store.set_faults(Faults {
        short: 1000,
        ..Faults::default()
    });
    let error = file.read(&[0..1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Other);
    assert!(error.to_string().contains("bytes came of"), "{error}");
    assert_eq!(cache.stats().memory_pages, 0);
    stage.store.set_faults(Faults::default());
    expect(&file, &[0..1]);
    // An object that is shorter than the catalog says, and one that is gone.
    let longer = RemoteFile::new(&stage.bucket(1), &cache, "f", 11 * PAGE);
    assert_eq!(
        longer.read(&[10 * PAGE..11 * PAGE]).unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
    let gone = RemoteFile::new(&stage.bucket(1), &cache, "none", 10);
    assert_eq!(
        gone.read(&[0..1]).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    stage.store.set_gone(true);
    let error = file.read(&[5 * PAGE..6 * PAGE]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Other);
    assert!(error.to_string().contains("does not answer"), "{error}");
    // What is here is served.
    expect(&file, &[0..1]);
}

#[test]
fn memory_is_bounded_and_what_is_read_first_stays_longest() {
    let stage = Stage::new(1, Faults::default());
    let options = CacheOptions {
        memory_bytes_max: 10 * PAGE,
        high_percent_max: 50,
        gap_bytes_max: 0,
        ..small()
    };
    let cache = memory_only(&stage, options);
    let file = stored(&stage, &cache, "f", 100 * PAGE);
    let page = |n: u64| n * PAGE..n * PAGE + 1;
    let is_here = |n: u64| spent(|| expect(&file, &[page(n)])).requests == 0;
    file.prioritize(&[40 * PAGE..42 * PAGE]);
    expect(&file, &[page(40), page(41), page(99)]);
    for n in 1..=30 {
        expect(&file, &[page(n)]);
        let stats = cache.stats();
        assert!(stats.memory_bytes <= 10 * PAGE, "{stats:?}");
    }
    assert!(is_here(40) && is_here(41) && is_here(99), "indexes stay");
    assert!(is_here(30) && !is_here(1), "the newest of the data stays");
    // What is used again survives what is used once.
    expect(&file, &[page(50)]);
    expect(&file, &[page(50)]);
    for n in 51..=56 {
        expect(&file, &[page(n)]);
    }
    assert!(is_here(50) && !is_here(51));
    // Too much of high priority gives way to itself.
    file.prioritize(&[60 * PAGE..90 * PAGE]);
    for n in 60..90 {
        expect(&file, &[page(n)]);
    }
    expect(&file, &[page(2)]);
    assert!(is_here(2) && is_here(89) && !is_here(60));
    assert!(cache.stats().evicted > 0);
}

#[test]
fn what_came_together_is_read_without_a_copy_until_half_of_it_is_gone() {
    let stage = Stage::new(1, Faults::default());
    let options = CacheOptions {
        memory_bytes_max: 128 * PAGE,
        ..small()
    };
    let cache = memory_only(&stage, options);
    let file = stored(&stage, &cache, "f", 300 * PAGE);
    let whole = 4 * PAGE..12 * PAGE - 5;
    let place = |range: &Range<u64>| {
        let read = file.read(std::slice::from_ref(range)).unwrap();
        assert_eq!(
            read[0],
            content(file.len()).slice(range.start as usize..range.end as usize)
        );
        read[0].as_ptr() as usize
    };
    // One of 128 pages is in a run of eight at most.
    expect(&file, &[4 * PAGE..12 * PAGE]);
    let first = place(&whole);
    assert_eq!(place(&whole), first);
    assert_eq!(place(&(5 * PAGE - 1..7 * PAGE)), first + PAGE as usize - 1);
    assert_eq!(cache.stats().memory_bytes, 8 * PAGE);
    // Over the end of the run: a page that came by itself.
    expect(&file, &[12 * PAGE..13 * PAGE, 3 * PAGE..3 * PAGE + 1]);
    expect(
        &file,
        &[11 * PAGE..12 * PAGE + 1, 0..4 * PAGE, 3 * PAGE..5 * PAGE],
    );
    // Others come; of the run only its first page is read again and again.
    for n in 20..300 {
        expect(&file, &[n * PAGE..n * PAGE + 1, 4 * PAGE..4 * PAGE + 1]);
        let stats = cache.stats();
        assert!(stats.memory_bytes <= 128 * PAGE, "{stats:?}");
        // What is gone of a run and not given back is less than half of it.
        assert!(
            stats.memory_bytes < (stats.memory_pages + 4) * PAGE,
            "{stats:?}"
        );
    }
    let misses = |range| spent(|| expect(&file, &[range])).misses;
    assert_eq!(misses(4 * PAGE..4 * PAGE + 9), 0);
    assert_eq!(misses(5 * PAGE..5 * PAGE + 9), 1);
    assert_ne!(place(&(4 * PAGE..5 * PAGE)), first);
    let stats = cache.stats();
    assert_eq!(stats.memory_bytes, stats.memory_pages * PAGE, "{stats:?}");
    file.distrust();
    let stats = cache.stats();
    assert_eq!((stats.memory_bytes, stats.memory_pages), (0, 0));
}

#[test]
fn pages_from_the_disk_are_in_one_piece_too() {
    let stage = Stage::new(1, Faults::default());
    let disk = SimFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let options = on_disk(64, 100);
    let first = cache(&stage, options.clone(), &fs);
    expect(&stored(&stage, &first, "f", 8 * PAGE), &[0..8 * PAGE]);
    first.flush();
    let fs: Arc<dyn Fs> = Arc::new(disk.crash(Crash::Process, 1));
    let second = cache(&stage, options, &fs);
    let file = RemoteFile::new(&stage.bucket(1), &second, "f", 8 * PAGE);
    assert_eq!(spent(|| expect(&file, &[0..4 * PAGE])).disk_hits, 4);
    let place = || file.read(&[PAGE..4 * PAGE]).unwrap()[0].as_ptr();
    assert_eq!(place(), place());
    assert_eq!(second.stats().memory_bytes, 4 * PAGE);
}

#[test]
fn a_page_fits_into_memory_to_the_last_byte() {
    for (memory_bytes_max, kept) in [(PAGE, 1), (PAGE - 1, 0)] {
        let stage = Stage::new(1, Faults::default());
        let options = CacheOptions {
            memory_bytes_max,
            ..small()
        };
        let cache = memory_only(&stage, options);
        let file = stored(&stage, &cache, "f", 10 * PAGE);
        expect(&file, &[0..1]);
        assert_eq!(cache.stats().memory_pages, kept);
    }
}

fn on_disk(memory_pages: u64, disk_pages: u64) -> CacheOptions {
    CacheOptions {
        memory_bytes_max: memory_pages * PAGE,
        gap_bytes_max: 0,
        disk: Some(DiskOptions {
            dir: "/cache".into(),
            // With room for the heads of files.
            bytes_max: disk_pages * (PAGE + 64),
            segment_bytes: 4 * PAGE,
        }),
        ..small()
    }
}

#[test]
fn what_left_memory_is_on_the_disk_also_after_a_restart() {
    let stage = Stage::new(1, Faults::default());
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let first = cache(&stage, on_disk(2, 40), &fs);
    let file = stored(&stage, &first, "f", 100 * PAGE);
    for n in 0..20 {
        expect(&file, &[n * PAGE..n * PAGE + 1]);
    }
    first.flush();
    let stats = first.stats();
    assert_eq!(
        (stats.disk_pages, &stats.disk_error),
        (20, &None),
        "{stats:?}"
    );
    let again = spent(|| {
        for n in 0..20 {
            expect(&file, &[n * PAGE + 5..n * PAGE + 7]);
        }
    });
    assert_eq!(
        (again.requests, again.memory_hits + again.disk_hits),
        (0, 20)
    );
    drop((file, first));
    let second = cache(&stage, on_disk(2, 40), &fs);
    let file = RemoteFile::new(&stage.bucket(1), &second, "f", 100 * PAGE);
    let again = spent(|| expect(&file, &[0..20 * PAGE]));
    assert_eq!((again.requests, again.disk_hits), (0, 20));
    // A file of the same name and another length is another one.
    let other = RemoteFile::new(&stage.bucket(1), &second, "f", 50 * PAGE);
    assert_eq!(
        spent(|| {
            other.read(&[0..1]).unwrap();
        })
        .requests,
        1
    );
}

#[test]
fn the_disk_is_bounded_and_used_pages_survive_their_file() {
    let stage = Stage::new(1, Faults::default());
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let cache = cache(&stage, on_disk(1, 12), &fs);
    let file = stored(&stage, &cache, "f", 100 * PAGE);
    let page = |n: u64| n * PAGE..n * PAGE + 1;
    for n in 1..90 {
        expect(&file, &[page(n)]);
        // Used again and again.
        expect(&file, &[page(1)]);
        if n % 4 == 0 {
            cache.flush();
        }
        let stats = cache.stats();
        assert!(stats.disk_bytes <= 12 * (PAGE + 64), "{stats:?}");
    }
    let fetched = |n: u64| spent(|| expect(&file, &[page(n)])).requests;
    assert_eq!((fetched(1), fetched(88), fetched(2)), (0, 0, 1));
}

#[test]
fn damaged_pages_and_files_are_fetched_again() {
    let stage = Stage::new(1, Faults::default());
    let disk = SimFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let first = cache(&stage, on_disk(1, 40), &fs);
    let file = stored(&stage, &first, "f", 100 * PAGE);
    let fill = |cache: &RangeCache, file: &RemoteFile| {
        for n in 0..8 {
            expect(file, &[n * PAGE..n * PAGE + 1]);
        }
        cache.flush();
    };
    fill(&first, &file);
    let names = |fs: &Arc<dyn Fs>| -> Vec<String> {
        let entries = fs.list(FsPath::new("/cache")).unwrap();
        entries
            .into_iter()
            .map(|e| e.name)
            .filter(|n| n != "lock")
            .collect()
    };
    let one = FsPath::new("/cache").join(&names(&fs)[0]);
    let len = fs.open(&one).unwrap().len();
    drop((file, first));
    for at in [0, 9, 20, 60, len / 2, len - 1] {
        let copy = disk.crash(Crash::Process, 1);
        copy.corrupt(&one, usize::try_from(at).unwrap(), 0x40);
        let fs: Arc<dyn Fs> = Arc::new(copy);
        let second = cache(&stage, on_disk(1, 40), &fs);
        let file = RemoteFile::new(&stage.bucket(1), &second, "f", 100 * PAGE);
        let again = spent(|| {
            for n in 0..8 {
                expect(&file, &[n * PAGE..n * PAGE + 1]);
            }
        });
        assert!(again.requests > 0 && again.requests <= 8, "{at}: {again:?}");
    }
    // Cut, empty, foreign and half-written files go at the start; what is not ours stays.
    let copy = disk.crash(Crash::Process, 1);
    copy.truncate(&one, len / 2).unwrap();
    for name in ["00000000000000000077.ranges", "x.tmp", "notes.txt"] {
        copy.create(&FsPath::new("/cache").join(name)).unwrap();
    }
    let fs: Arc<dyn Fs> = Arc::new(copy);
    let second = cache(&stage, on_disk(1, 40), &fs);
    let left = names(&fs);
    assert!(left.contains(&"notes.txt".to_owned()), "{left:?}");
    assert!(
        !left
            .iter()
            .any(|n| n.starts_with("00000000000000000077") || n == "x.tmp"),
        "{left:?}"
    );
    let file = RemoteFile::new(&stage.bucket(1), &second, "f", 100 * PAGE);
    fill(&second, &file);
}

#[test]
fn what_is_distrusted_is_fetched_again_and_nothing_else() {
    let stage = Stage::new(1, Faults::default());
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let cache = cache(&stage, on_disk(2, 100), &fs);
    let (wrong, good) = (
        stored(&stage, &cache, "wrong", 2 * PAGE),
        stored(&stage, &cache, "good", 2 * PAGE),
    );
    for file in [&wrong, &good] {
        expect(file, &[0..2 * PAGE]);
    }
    cache.flush();
    assert_eq!(spent(|| expect(&wrong, &[0..2 * PAGE])).misses, 0);
    wrong.distrust();
    assert_eq!(spent(|| expect(&good, &[0..2 * PAGE])).misses, 0);
    assert_eq!(spent(|| expect(&wrong, &[0..2 * PAGE])).misses, 2);
    let stats = cache.stats();
    assert!(stats.memory_bytes <= 2 * PAGE && stats.memory_pages <= 2);
}

#[test]
fn a_full_disk_is_told_and_nothing_else_suffers() {
    let stage = Stage::new(1, Faults::default());
    let disk = SimFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let cache = cache(&stage, on_disk(1, 400), &fs);
    let file = stored(&stage, &cache, "f", 400 * PAGE);
    disk.fill_after(6 * PAGE);
    let read = |from: u64| {
        for n in from..from + 20 {
            expect(&file, &[n * PAGE..n * PAGE + 1]);
        }
        cache.flush();
    };
    read(0);
    let stats = cache.stats();
    let told = stats.disk_error.unwrap();
    assert!(told.contains("cannot write /cache/"), "{told}");
    // It is tried again after a while.
    disk.fill_after(u64::MAX);
    read(20);
    assert!(cache.stats().disk_error.is_some());
    stage.advance(61);
    read(40);
    let stats = cache.stats();
    assert_eq!((stats.disk_error, stats.disk_pages >= 20), (None, true));
}

#[test]
fn a_directory_belongs_to_one_cache() {
    let stage = Stage::new(1, Faults::default());
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new());
    let _first = cache(&stage, on_disk(1, 4), &fs);
    let clock = Arc::clone(&stage.clock) as Arc<dyn Clock>;
    let second = RangeCache::open(on_disk(1, 4), &fs, handle(), &clock);
    assert_eq!(second.unwrap_err().kind(), crate::Kind::Locked);
}

#[test]
fn a_block_opens_and_is_read_as_a_local_one_is() {
    use crate::fs::MemoryFile;
    use crate::sealed::{SealedFile, SealedWriter};
    let stage = Stage::new(1, Faults::default());
    let cache = memory_only(&stage, CacheOptions::default());
    let memory = MemoryFile::default();
    let mut writer = SealedWriter::new(memory.writer(), FsPath::new("b"), *b"test").unwrap();
    let pages: Vec<_> = (0..50)
        .map(|n| writer.page(&content(20_000 + n)).unwrap())
        .collect();
    writer.section(7, &content(300)).unwrap();
    let len = writer.finish().unwrap();
    let whole = 0..len;
    let bytes = memory
        .finish()
        .read(std::slice::from_ref(&whole))
        .unwrap()
        .remove(0);
    stage.store.set("b", bytes);
    let file = Arc::new(RemoteFile::new(&stage.bucket(1), &cache, "b", len));
    let opened = spent(|| {
        let file = Arc::clone(&file) as Arc<dyn ReadFile>;
        let sealed = SealedFile::deferred(file, "b", *b"test", &[7]);
        assert_eq!(sealed.section(7).unwrap(), content(300));
    });
    assert_eq!(
        (opened.requests, opened.depth),
        (1, 1),
        "the footer, and what is near it"
    );
    let sealed = SealedFile::open(file as Arc<dyn ReadFile>, "b", *b"test").unwrap();
    let read = spent(|| {
        let read = sealed.read(&[pages[10], pages[40]]).unwrap();
        assert_eq!(read, [content(20_010), content(20_040)]);
    });
    assert_eq!((read.requests, read.depth), (2, 1));
    sealed.verify().unwrap();
    // What is wrong with the store is not taken for damage of the block.
    let longer = Arc::new(RemoteFile::new(&stage.bucket(1), &cache, "b", len + 1));
    let error = SealedFile::open(longer as Arc<dyn ReadFile>, "b", *b"test").unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Corrupt, "{error}");
    stage.store.set_gone(true);
    let gone = Arc::new(RemoteFile::new(&stage.bucket(1), &cache, "c", len));
    let error = SealedFile::open(gone as Arc<dyn ReadFile>, "c", *b"test").unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Unavailable, "{error}");
    assert_eq!(
        stage.bucket(1).counters().now().of(Verb::Get),
        0,
        "counters are per bucket"
    );
}

#[test]
fn golden_bytes() {
    let stage = Stage::new(1, Faults::default());
    let disk = SimFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let cache = cache(&stage, on_disk(10, 40), &fs);
    stage.store.set("k", Bytes::from_static(b"abc"));
    let file = RemoteFile::new(&stage.bucket(1), &cache, "k", 3);
    file.read(&[0..3]).unwrap();
    cache.flush();
    let name = FsPath::new("/cache/00000000000000000000.ranges");
    let bytes = crate::fs::read_if_exists(&*fs, name).unwrap().unwrap();
    let object = xxhash_rust::xxh3::xxh3_128(b"test:\0k\0\x03\0\0\0\0\0\0\0");
    let mut expected = b"TRINERNG\x01\0\0\0\x01\0\0\0".to_vec();
    expected.extend_from_slice(&object.to_le_bytes());
    expected.extend_from_slice(b"\0\0\0\0\x03\0\0\0");
    expected.extend_from_slice(&crc32fast::hash(b"abc").to_le_bytes());
    expected.extend_from_slice(b"\x01\0\0\0");
    let crc = crc32fast::hash(&expected);
    expected.extend_from_slice(&crc.to_le_bytes());
    expected.extend_from_slice(b"abc");
    assert_eq!(bytes, expected);
}
