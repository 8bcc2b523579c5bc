use super::super::bucket::Options;
use super::super::fault::Faults;
use super::super::stage::{Stage, handle, options};
use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::fs::MemoryFile;

fn content(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(37) >> 5) as u8).collect()
}

fn file(len: u64) -> Arc<dyn ReadFile> {
    MemoryFile::of(content(len)).finish()
}

fn throttle() -> Throttle {
    Throttle::new(Arc::new(SystemClock::new()), None, 4)
}

#[test]
fn files_of_any_length_become_objects_in_parts() {
    let stage = Stage::new(1, Faults::default());
    let bucket = stage.bucket(1);
    for (len, parts) in [
        (0, 1),
        (1, 1),
        (COMPARED_BYTES, 1),
        (COMPARED_BYTES + 1, 1),
        (PART_BYTES, 1),
        (PART_BYTES + 1, 2),
        (3 * PART_BYTES - 1, 3),
    ] {
        let key = format!("blocks/{len}");
        let before = bucket.counters().now();
        let sent = bucket.upload(&key, &*file(len), &throttle()).unwrap();
        assert_eq!(sent, Uploaded { bytes: len, parts });
        let after = bucket.counters().now();
        // Parts, and the beginning and the end of an upload in parts.
        let puts = if parts == 1 { 1 } else { parts + 2 };
        assert_eq!(after.of(Verb::Put) - before.of(Verb::Put), puts, "{len}");
        assert_eq!(after.bytes_out - before.bytes_out, len);
        let again = bucket.upload(&key, &*file(len), &throttle()).unwrap();
        assert_eq!(
            again,
            Uploaded {
                bytes: len,
                parts: 0
            }
        );
        assert_eq!(bucket.counters().now().bytes_out, after.bytes_out);
        let bytes = bucket.get(&key).unwrap().unwrap();
        assert!(bytes == content(len), "{len}");
    }
}

#[test]
fn what_is_there_already_is_only_believed_if_it_is_the_same() {
    let stage = Stage::new(1, Faults::default());
    let bucket = stage.bucket(1);
    let len = 200_000;
    let good = content(len);
    for (name, bytes) in [
        ("shorter", good[..199_999].to_vec()),
        ("longer", [&good[..], b"x"].concat()),
        ("other head", [b"x", &good[1..]].concat()),
        ("other tail", [&good[..199_999], b"x"].concat()),
    ] {
        stage.store.set("k", bytes.into());
        let sent = bucket.upload("k", &*file(len), &throttle()).unwrap();
        assert_eq!(sent.parts, 1, "{name}");
        assert!(bucket.get("k").unwrap().unwrap() == good, "{name}");
    }
}

#[test]
fn an_upload_ends_as_it_should_or_says_so_whatever_fails() {
    let len = 2 * PART_BYTES + 5;
    let local = file(len);
    let good = content(len);
    let (mut done, mut failed) = (0, 0);
    for seed in 0..20 {
        let stage = Stage::new(
            seed,
            Faults {
                before: 80,
                after: 80,
                late: 30,
                late_requests: 4,
                throttled: 50,
                short: 30,
                ..Faults::default()
            },
        );
        let bucket = stage.bucket(seed);
        // Until it succeeds, as whoever ships does.
        for _ in 0..20 {
            match bucket.upload("k", &*local, &throttle()) {
                Ok(_) => {
                    done += 1;
                    stage.store.set_faults(Faults::default());
                    assert!(bucket.get("k").unwrap().unwrap() == good, "seed {seed}");
                    break;
                }
                Err(_) => failed += 1,
            }
        }
    }
    assert_eq!(done, 20, "{failed} attempts failed");
    assert!(failed > 0);
}

#[test]
fn what_cannot_be_read_back_is_not_shipped() {
    let stage = Stage::new(1, Faults::default());
    let bucket = stage.bucket_with(Options {
        attempts_max: 1,
        ..options(1)
    });
    stage.store.set_gone(true);
    let error = bucket.upload("k", &*file(10), &throttle()).unwrap_err();
    assert_eq!(Reason::of(&error), Some(Reason::Unavailable));
    stage.store.set_gone(false);
    stage.store.set_faults(Faults {
        short: 1000,
        ..Faults::default()
    });
    let error = bucket.upload("k", &*file(10), &throttle()).unwrap_err();
    assert_eq!(Reason::of(&error), Some(Reason::Unavailable), "{error}");
}

#[test]
fn a_directory_takes_files_in_parts_too() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", dir.path().display());
    let clock = Arc::new(SystemClock::new());
    let environment = std::collections::BTreeMap::new();
    let bucket = Bucket::open(&url, &environment, options(1), handle(), clock).unwrap();
    for len in [0, 100, 2 * PART_BYTES + 7] {
        let sent = bucket.upload("blocks/x", &*file(len), &throttle()).unwrap();
        assert_eq!(sent.parts, 1 + len / PART_BYTES);
        assert!(bucket.get("blocks/x").unwrap().unwrap() == content(len));
    }
}

#[test]
fn bandwidth_is_shared_out_in_order() {
    let clock = Arc::new(ManualClock::new(1));
    let throttle = Throttle::new(Arc::clone(&clock) as Arc<dyn Clock>, Some(1000), 1);
    let seconds = |bytes| throttle.reserve(bytes).as_secs_f64();
    assert_eq!((seconds(500), seconds(1000), seconds(0)), (0.0, 0.5, 1.5));
    clock.advance(Duration::from_secs(1));
    assert_eq!(seconds(1), 0.5);
    clock.advance(Duration::from_secs(100));
    assert_eq!(seconds(1), 0.0, "what was not used is not saved up");
    let unlimited = Throttle::new(clock, None, 1);
    assert_eq!(unlimited.reserve(u64::MAX), Duration::ZERO);
}

#[test]
fn so_many_parts_are_in_memory_at_a_time() {
    let faults = Faults {
        latency: Duration::from_millis(10),
        ..Faults::default()
    };
    let stage = Stage::new(1, faults);
    for parts_max in [1, 2] {
        let clock = Arc::new(SystemClock::new());
        let throttle = Throttle::new(clock, None, parts_max);
        let key = format!("k{parts_max}");
        stage
            .bucket(1)
            .upload(&key, &*file(5 * PART_BYTES), &throttle)
            .unwrap();
        assert_eq!(stage.store.in_flight_most(), parts_max as u64);
    }
}
