use super::super::bucket::Bucket;
use super::super::fault::Faults;
use super::super::stage::{Stage, lease};
use super::*;

impl Lease {
    /// As if it had just been beaten: what a process that was stopped for long believes.
    pub(in crate::remote) fn pretend_beat(&self) {
        let now = self.clock.monotonic_ns();
        self.beaten_ns.store(now, Ordering::Release);
    }
}

fn take(bucket: &Bucket, holder: &Holder, watch: &mut Watch) -> Taken {
    Lease::take(bucket, holder, LeaseTimes::default(), watch).unwrap()
}

fn refused(taken: Taken) -> (String, u64) {
    match taken {
        Taken::Refused { by, left } => (by.name, left.as_secs()),
        Taken::Held(lease) => panic!("epoch {} was given", lease.epoch()),
    }
}

fn held(taken: Taken) -> Lease {
    match taken {
        Taken::Held(lease) => lease,
        Taken::Refused { by, left } => panic!("{} has it for {left:?}", by.name),
    }
}

#[test]
fn a_second_writer_is_refused_with_the_name_of_the_first_until_it_is_gone() {
    let stage = Stage::new(1, Faults::default());
    let (a, b) = (stage.bucket(1), stage.bucket(2));
    let first = lease(&a, "host-a");
    let (me, mut watch) = (Holder::new("host-b", None), Watch::default());
    assert_eq!(
        refused(take(&b, &me, &mut watch)),
        ("host-a".to_owned(), 60)
    );
    // As long as it beats it stays, however long that is.
    for _ in 0..10 {
        stage.advance(30);
        assert_eq!(first.beat().unwrap(), None);
        assert_eq!(refused(take(&b, &me, &mut watch)).1, 60);
    }
    stage.advance(59);
    assert_eq!(refused(take(&b, &me, &mut watch)).1, 1);
    assert!(first.is_held());
    stage.advance(1);
    assert!(!first.is_held(), "by its own clock, too");
    let second = held(take(&b, &me, &mut watch));
    assert_eq!(second.epoch(), 2);
    // The first finds out, and then is refused in turn.
    assert_eq!(first.beat().unwrap().unwrap().name, "host-b");
    assert!(!first.is_held());
    let error = first.require().unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert!(error.to_string().contains("host-b"), "{error}");
    let taken = take(&a, &Holder::new("host-a", None), &mut Watch::default());
    assert_eq!(refused(taken).0, "host-b");
}

#[test]
fn by_the_clock_of_the_store_a_holder_may_be_gone_already() {
    for (seconds, gone) in [(64, false), (65, true)] {
        let stage = Stage::new(1, Faults::default());
        let first = lease(&stage.bucket(1), "a");
        first.beat().unwrap();
        stage.advance(seconds);
        let taken = take(
            &stage.bucket(2),
            &Holder::new("b", None),
            &mut Watch::default(),
        );
        assert_eq!(matches!(taken, Taken::Held(_)), gone, "{seconds} s");
    }
}

#[test]
fn what_was_released_is_given_at_once_and_the_same_instance_gets_its_own() {
    let stage = Stage::new(1, Faults::default());
    let bucket = stage.bucket(1);
    lease(&bucket, "a").release().unwrap();
    let mut watch = Watch::default();
    let second = held(take(&bucket, &Holder::new("b", Some("data-1")), &mut watch));
    assert_eq!(second.epoch(), 2);
    let other = Holder::new("b", Some("data-2"));
    assert_eq!(refused(take(&bucket, &other, &mut watch)).0, "b");
    let restarted = held(take(&bucket, &Holder::new("b", Some("data-1")), &mut watch));
    assert_eq!(restarted.epoch(), 3);
    assert_eq!(second.beat().unwrap().unwrap().name, "b");
    // Beats of those before are gone, their epochs stay.
    let keys: Vec<String> = bucket
        .list("lease")
        .unwrap()
        .into_iter()
        .map(|o| o.key)
        .collect();
    assert_eq!(
        keys,
        [epoch_key(1), epoch_key(2), epoch_key(3), beat_key(3)]
    );
}

#[test]
fn a_lease_runs_out_when_the_store_is_not_reached_and_comes_back_with_it() {
    let stage = Stage::new(1, Faults::default());
    let first = lease(&stage.bucket(1), "a");
    stage.store.set_gone(true);
    stage.advance(40);
    assert_eq!(first.beat().unwrap_err().kind(), Kind::Unavailable);
    assert!(first.is_held());
    stage.advance(20);
    let error = first.require().unwrap_err();
    assert!(error.to_string().contains("ran out"), "{error}");
    stage.store.set_gone(false);
    assert_eq!(first.beat().unwrap(), None);
    assert!(first.is_held());
}

#[test]
fn epochs_are_found_without_a_list() {
    let stage = Stage::new(1, Faults::default());
    let bucket = stage.bucket(1);
    for epoch in 1..=70 {
        assert_eq!(newest_epoch(&bucket).unwrap(), epoch - 1);
        stage.store.set(&epoch_key(epoch), Bytes::new());
    }
    let before = bucket.counters().now().all();
    assert_eq!(newest_epoch(&bucket).unwrap(), 70);
    assert!(bucket.counters().now().all() - before <= 14);
    let error = Lease::take(
        &bucket,
        &Holder::new("a", None),
        LeaseTimes::default(),
        &mut Watch::default(),
    );
    assert_eq!(
        error.unwrap_err().kind(),
        Kind::Corrupt,
        "an empty epoch object"
    );
}

#[test]
fn golden_bytes() {
    let stage = Stage::new(1, Faults::default());
    let bucket = stage.bucket(1);
    let first = lease(&bucket, "host-1");
    assert_eq!(first.beat().unwrap(), None);
    let text = |key: &str| String::from_utf8(bucket.get(key).unwrap().unwrap().to_vec()).unwrap();
    let epoch = text("lease/00000000000000000001");
    let (head, token) = epoch.split_once("01").unwrap();
    assert_eq!(head, r#"{"name":"host-1","instance":null,"token":""#);
    assert_eq!(token.len(), 26, "{token}");
    let beat = text("lease/00000000000000000001.beat");
    assert_eq!(beat, r#"{"beats":1,"released":false}"#);
}
