use super::super::fault::Faults;
use super::super::stage::{Stage, handle, options};
use super::*;
use crate::clock::SystemClock;
use crate::error::Kind;

fn quiet() -> Faults {
    Faults::default()
}

#[test]
fn objects_are_written_once_read_listed_and_removed() {
    let stage = Stage::new(1, quiet());
    let bucket = stage.bucket(1).within("a tenant/å").within("traces");
    assert_eq!(bucket.name(), "test:/a tenant/å/traces");
    assert_eq!(bucket.get("k").unwrap(), None);
    assert_eq!(bucket.head("k").unwrap(), None);
    assert_eq!(
        bucket.put_new("d/k", "one".into()).unwrap(),
        PutNew::Created
    );
    assert_eq!(bucket.put_new("d/k", "two".into()).unwrap(), PutNew::Exists);
    bucket.put("d/l", "three".into()).unwrap();
    assert_eq!(bucket.get("d/k").unwrap().unwrap(), "one");
    assert_eq!(bucket.get_range("d/l", 1..4).unwrap(), "hre");
    let keys = |dir: &str| -> Vec<(String, u64)> {
        let listed = bucket.list(dir).unwrap();
        listed.into_iter().map(|o| (o.key, o.bytes)).collect()
    };
    let both = [("d/k".to_owned(), 3), ("d/l".to_owned(), 5)];
    assert_eq!(keys("d"), both);
    assert_eq!(keys(""), both);
    assert_eq!(keys("e"), []);
    assert!(!bucket.is_empty("").unwrap());
    assert!(stage.bucket(2).within("other").is_empty("").unwrap());
    bucket.delete("d/k").unwrap();
    bucket.delete("d/k").unwrap();
    assert_eq!(bucket.get("d/k").unwrap(), None);
    let object = bucket.head("d/l").unwrap().unwrap();
    assert_eq!(object.modified_ms, 1_700_000_000_000);
}

#[test]
fn every_request_is_counted_as_what_it_is() {
    let stage = Stage::new(1, quiet());
    let bucket = stage.bucket(1);
    bucket.put("a", "12345".into()).unwrap();
    bucket.get("a").unwrap();
    bucket.get("none").unwrap();
    bucket.head("a").unwrap();
    bucket.list("").unwrap();
    bucket.delete("a").unwrap();
    let counted = bucket.counters().now();
    assert_eq!(counted.requests, [2, 1, 1, 1, 1]);
    assert_eq!(counted.errors, [0; 5]);
    assert_eq!((counted.bytes_in, counted.bytes_out), (5, 5));
    stage.store.set_gone(true);
    bucket.within("x").get("a").unwrap_err();
    let counted = bucket.counters().now();
    assert_eq!((counted.of(Verb::Get), counted.errors[0]), (5, 3));
    assert_eq!((counted.retries, counted.throttled), (2, 0));
}

#[test]
fn pages_of_a_list_are_counted_and_its_length_is_bounded() {
    for (objects, max, pages) in [(999, 1001, 1), (1000, 1001, 2), (1001, 1001, 2)] {
        let stage = Stage::new(1, quiet());
        for i in 0..objects {
            stage.store.set(&format!("d/{i:05}"), Bytes::new());
        }
        let bucket = stage.bucket_with(Options {
            objects_listed_max: max,
            ..options(1)
        });
        assert_eq!(bucket.list("d").unwrap().len(), objects);
        assert_eq!(bucket.counters().now().of(Verb::List), pages);
        stage.store.set("d/x", Bytes::new());
        stage.store.set("d/y", Bytes::new());
        stage.store.set("d/z", Bytes::new());
        match bucket.list("d") {
            Ok(listed) => assert_eq!(listed.len(), objects + 3),
            Err(error) => {
                assert!(objects + 3 > max);
                assert_eq!(error.kind(), Kind::Limit);
            }
        }
    }
}

#[test]
fn a_success_whose_answer_was_lost_is_told_from_somebody_elses_object() {
    let lost = Faults {
        after: 1000,
        ..quiet()
    };
    // The answer to the first attempt is lost, the second is refused.
    let stage = Stage::new(1, lost);
    let bucket = stage.bucket(1);
    let error = bucket.put_new("k", "mine".into()).unwrap_err();
    assert_eq!(Reason::of(&error), Some(Reason::Unavailable), "{error}");
    stage.store.set_faults(quiet());
    assert_eq!(bucket.put_new("k", "mine".into()).unwrap(), PutNew::Created);
    assert_eq!(
        bucket.put_new("k", "theirs".into()).unwrap(),
        PutNew::Exists
    );
    // However answers are lost: what is said agrees with what is there.
    for seed in 0..300 {
        let stage = Stage::new(
            seed,
            Faults {
                after: 400,
                before: 100,
                late: 100,
                late_requests: 3,
                ..quiet()
            },
        );
        let (a, b) = (stage.bucket(1), stage.bucket(2));
        let made = [a.put_new("k", "a".into()), b.put_new("k", "b".into())];
        stage.store.settle();
        stage.store.set_faults(quiet());
        let there = a.get("k").unwrap();
        for (result, text) in made.iter().zip(["a", "b"]) {
            let is_there = there.as_deref() == Some(text.as_bytes());
            match result {
                Ok(PutNew::Created) => assert!(is_there, "seed {seed}: {text}"),
                Ok(PutNew::Exists) => assert!(!is_there, "seed {seed}: {text}"),
                Err(_) => {}
            }
        }
    }
}

#[test]
fn bodies_of_the_wrong_length_are_errors() {
    let stage = Stage::new(1, quiet());
    let bucket = stage.bucket(1);
    bucket.put("k", "0123456789".into()).unwrap();
    let beyond = bucket.get_range("k", 5..11).unwrap_err();
    assert_eq!(beyond.kind(), Kind::Corrupt, "{beyond}");
    let outside = bucket.get_range("k", 10..12).unwrap_err();
    assert_eq!(outside.kind(), Kind::Corrupt, "{outside}");
    stage.store.set_faults(Faults {
        short: 1000,
        ..quiet()
    });
    let short = bucket.get("k").unwrap_err();
    assert_eq!(short.kind(), Kind::Unavailable);
    assert!(short.to_string().contains("5 bytes came of 10"), "{short}");
    assert_eq!(
        bucket.counters().now().of(Verb::Get),
        5,
        "only the short body is asked for again"
    );
    let missing = bucket.get_range("none", 0..1).unwrap_err();
    assert_eq!(Reason::of(&missing), Some(Reason::Missing));
}

#[test]
fn a_whole_object_is_read_up_to_the_limit() {
    let stage = Stage::new(1, quiet());
    let bucket = stage.bucket_with(Options {
        body_bytes_max: 4,
        ..options(1)
    });
    bucket.put("fits", "1234".into()).unwrap();
    bucket.put("larger", "12345".into()).unwrap();
    assert_eq!(bucket.get("fits").unwrap().unwrap(), "1234");
    assert_eq!(bucket.get("larger").unwrap_err().kind(), Kind::Limit);
    assert_eq!(bucket.get_range("larger", 0..5).unwrap(), "12345");
}

#[test]
fn requests_are_repeated_as_often_as_allowed_and_throttling_is_counted() {
    for attempts_max in [1, 4] {
        let stage = Stage::new(
            1,
            Faults {
                throttled: 1000,
                ..quiet()
            },
        );
        let bucket = stage.bucket_with(Options {
            attempts_max,
            ..options(1)
        });
        let error = bucket.put("k", Bytes::new()).unwrap_err();
        assert_eq!(Reason::of(&error), Some(Reason::Throttled), "{error}");
        assert_eq!(error.kind(), Kind::Unavailable);
        let counted = bucket.counters().now();
        assert_eq!(counted.throttled, u64::from(attempts_max));
        assert_eq!(counted.retries, u64::from(attempts_max) - 1);
    }
}

#[test]
fn the_start_up_probe_refuses_stores_that_overwrite() {
    let stage = Stage::new(1, quiet());
    let bucket = stage.bucket(1);
    assert!(bucket.check().unwrap().is_empty);
    assert_eq!(bucket.list("").unwrap(), [], "nothing stays behind");
    bucket.put("k", Bytes::new()).unwrap();
    let checked = bucket.check().unwrap();
    assert_eq!((checked.is_empty, checked.ahead_ms), (false, 0));
    stage.store.set_faults(Faults {
        ignores_create: true,
        ..quiet()
    });
    let error = bucket.check().unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("If-None-Match"), "{error}");
    assert_eq!(bucket.list("probe").unwrap(), []);
    stage.store.set_gone(true);
    let error = bucket.check().unwrap_err();
    assert_eq!(Reason::of(&error), Some(Reason::Unavailable));
}

#[test]
fn a_directory_is_a_bucket_too() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/new/bucket", dir.path().display());
    let clock = Arc::new(SystemClock::new());
    let bucket = Bucket::open(&url, &BTreeMap::new(), options(1), handle(), clock).unwrap();
    assert!(bucket.check().unwrap().is_empty);
    let bucket = bucket.within("tenant").within("logs");
    assert_eq!(
        bucket.put_new("a/b", "one".into()).unwrap(),
        PutNew::Created
    );
    assert_eq!(bucket.put_new("a/b", "two".into()).unwrap(), PutNew::Exists);
    assert_eq!(
        bucket.put_new("a/b", "one".into()).unwrap(),
        PutNew::Created
    );
    assert_eq!(bucket.get_range("a/b", 1..3).unwrap(), "ne");
    assert_eq!(
        bucket.get_range("a/b", 1..4).unwrap_err().kind(),
        Kind::Corrupt
    );
    assert_eq!(bucket.list("a").unwrap()[0].key, "a/b");
    bucket.delete("a/b").unwrap();
    assert_eq!(bucket.get("a/b").unwrap(), None);
}

#[test]
fn threads_of_the_runtime_are_refused_and_those_beside_it_are_not() {
    let stage = Stage::new(1, quiet());
    let bucket = stage.bucket(1);
    let ask = |bucket: Bucket| move || bucket.put("k", Bytes::new());
    let on_worker = ask(bucket.clone());
    let refused = wait(&handle(), async move { on_worker() }).unwrap();
    assert_eq!(Reason::of(&refused.unwrap_err()), Some(Reason::Runtime));
    let beside = handle().spawn_blocking(ask(bucket.clone()));
    wait(&handle(), beside).unwrap().unwrap().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gone = runtime.handle().clone();
    let store = Arc::new(stage.store.clone());
    let clock = Arc::clone(&stage.clock) as Arc<dyn Clock>;
    let bucket = Bucket::over(store, "test:", options(1), gone, clock);
    runtime.shutdown_background();
    let error = bucket.put("k", Bytes::new()).unwrap_err();
    assert_eq!(
        (error.kind(), Reason::of(&error)),
        (Kind::Closed, Some(Reason::Runtime))
    );
}

#[test]
fn pauses_grow_up_to_their_limit_and_never_to_nothing() {
    let stage = Stage::new(1, quiet());
    let bucket = stage.bucket_with(Options {
        backoff_first: Duration::from_micros(100),
        backoff_max: Duration::from_micros(300),
        attempts_max: 70,
        ..options(1)
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let failure = || Failure::new(Reason::Unavailable, "");
    runtime.block_on(async {
        // Also where doubling would overflow.
        for attempt in [1, 2, 3, 33, 69] {
            bucket.pause(attempt, failure()).await.unwrap();
        }
        bucket.pause(70, failure()).await.unwrap_err();
    });
}

#[test]
fn a_request_that_is_not_answered_in_time_is_given_up() {
    let faults = Faults {
        latency: Duration::from_secs(3600),
        ..quiet()
    };
    let stage = Stage::new(1, faults);
    let bucket = stage.bucket_with(Options {
        request_time_max: Duration::from_millis(5),
        ..options(1)
    });
    let error = bucket.get("k").unwrap_err();
    assert_eq!(Reason::of(&error), Some(Reason::Unavailable));
    assert!(
        error.to_string().contains("no answer within 5ms"),
        "{error}"
    );
    assert_eq!(stage.store.requests(), 0);
}

#[test]
fn so_many_requests_are_sent_at_a_time_and_no_more() {
    for max in [1, 3] {
        let faults = Faults {
            latency: Duration::from_millis(10),
            ..quiet()
        };
        let stage = Stage::new(1, faults);
        let bucket = stage.bucket_with(Options {
            requests_in_flight_max: max,
            ..options(1)
        });
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| bucket.get("k").unwrap());
            }
        });
        assert_eq!(stage.store.in_flight_most(), max as u64);
    }
}

#[test]
fn the_last_number_is_found_in_few_steps() {
    for first in [0, 1, 77] {
        for last in (first..first + 70).chain([1000, 1023, 1024, 1025, 1_000_000]) {
            let asked = AtomicU64::new(0);
            let there = |number: u64| {
                asked.fetch_add(1, Ordering::Relaxed);
                assert!(number > first);
                Ok(number <= last)
            };
            assert_eq!(last_there(first, there).unwrap(), last);
            let bound = 2 * (u64::BITS - (last - first + 1).leading_zeros()) as u64;
            assert!(asked.into_inner() <= bound.max(1), "{first} to {last}");
        }
    }
}

#[test]
fn who_has_waited_long_enough_waits_for_no_request() {
    let stage = Stage::new(1, quiet());
    let bucket = stage.bucket(1);
    let within = bucket.within("x");
    bucket.put("a", "1".into()).unwrap();
    stage.store.set_faults(Faults {
        latency: Duration::from_secs(3600),
        ..quiet()
    });
    let waiting = || within.put("b", "2".into()).unwrap_err();
    let (error, ()) = crate::shared::join(waiting, || {
        while bucket.counters().now().of(Verb::Put) < 2 {
            std::thread::yield_now();
        }
        bucket.give_up();
    });
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.to_string().contains("the process ends"), "{error}");
    // Nor for one that comes later.
    assert_eq!(bucket.get("a").unwrap_err().kind(), Kind::Unavailable);
}
