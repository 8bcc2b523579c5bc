use super::super::fault::Faults;
use super::super::stage::{Stage, lease};
use super::*;
use crate::catalog::BlockMeta;
use crate::time::TimeRange;

fn id(number: u64) -> BlockId {
    BlockId::from_bits(u128::from(number))
}

fn block(number: u64) -> BlockMeta {
    BlockMeta {
        id: id(number),
        range: TimeRange { start: 0, end: 7 },
        rows: 3,
        bytes: 99,
        level: 0,
        sequence: number,
        created_ms: 1,
        deletes_applied: 0,
    }
}

struct Writer {
    catalog: BucketCatalog,
    lease: Lease,
    newest: BucketDocument,
}

impl Writer {
    fn new(stage: &Stage) -> Self {
        let catalog = BucketCatalog::new(stage.bucket(1));
        let lease = lease(catalog.bucket(), "a");
        let Commit::Committed(newest) = catalog.claim(&lease).unwrap() else {
            panic!("nobody else is there");
        };
        Self {
            catalog,
            lease,
            newest,
        }
    }

    fn blocks(&mut self, numbers: &[u64]) {
        self.lease.beat().unwrap();
        let mut next = self.newest.catalog.clone();
        next.blocks = numbers.iter().map(|n| block(*n)).collect();
        let done = self.catalog.commit(&self.lease, &self.newest, next, &[]);
        let Commit::Committed(newest) = done.unwrap() else {
            panic!("nobody else is there");
        };
        self.newest = newest;
    }

    fn sweep(&mut self, holds: &Holds) -> Swept {
        self.lease.beat().unwrap();
        let swept = sweep(&self.catalog, &self.lease, &SweepOptions::default(), holds).unwrap();
        self.newest = swept.newest.clone();
        swept
    }
}

fn keys(stage: &Stage) -> Vec<u64> {
    let numbers = (0..100).filter(|n| stage.bucket(9).head(&block_key(id(*n))).unwrap().is_some());
    numbers.collect()
}

#[test]
fn doomed_objects_and_orphans_go_after_the_delay_and_not_before() {
    let stage = Stage::new(1, Faults::default());
    let mut writer = Writer::new(&stage);
    for number in [1, 2, 3, 50] {
        stage.store.set(&block_key(id(number)), "x".into());
    }
    for foreign in ["blocks/readme.txt", "blocks/x.block", "other", "probe/x"] {
        stage.store.set(foreign, "x".into());
    }
    writer.blocks(&[1, 2, 3]);
    stage.advance(10);
    writer.blocks(&[2, 3]);
    stage.advance(3589);
    let swept = writer.sweep(&Holds::default());
    assert_eq!((swept.doomed, swept.orphans), (0, 0), "3,599 s");
    stage.advance(1);
    let swept = writer.sweep(&Holds::default());
    assert_eq!((swept.doomed, swept.orphans, swept.orphan_bytes), (0, 1, 1));
    assert_eq!(keys(&stage), [1, 2, 3]);
    stage.advance(9);
    assert_eq!(writer.sweep(&Holds::default()).doomed, 0);
    stage.advance(1);
    let swept = writer.sweep(&Holds::default());
    assert_eq!((swept.doomed, swept.orphans), (1, 0));
    assert_eq!(swept.newest.doomed, []);
    assert_eq!(keys(&stage), [2, 3]);
    let bucket = stage.bucket(9);
    for foreign in ["blocks/readme.txt", "blocks/x.block", "other"] {
        assert!(
            bucket.head(foreign).unwrap().is_some(),
            "{foreign} is not ours"
        );
    }
}

#[test]
fn what_somebody_holds_stays() {
    let stage = Stage::new(1, Faults::default());
    let mut writer = Writer::new(&stage);
    stage.store.set(&block_key(id(1)), "x".into());
    stage.advance(4000);
    let holds = Holds::default();
    let hold = holds.hold(&block_key(id(1)));
    assert!(holds.try_hold(&block_key(id(1))).is_none());
    assert_eq!(writer.sweep(&holds).orphans, 0);
    drop(hold);
    assert_eq!(writer.sweep(&holds).orphans, 1);
}

#[test]
fn old_versions_go_in_their_order_and_some_stay() {
    let stage = Stage::new(1, Faults::default());
    let mut writer = Writer::new(&stage);
    for n in 0..17 {
        writer.blocks(&[n]);
    }
    let versions = || stage.bucket(9).list("catalog").unwrap().len();
    assert_eq!(versions(), 18);
    assert_eq!(
        writer.sweep(&Holds::default()).versions,
        0,
        "they are young"
    );
    stage.advance(3600);
    let swept = writer.sweep(&Holds::default());
    // 17 objects were doomed that never were there; sixteen versions stay, one is new, and `began`.
    assert_eq!((swept.versions, swept.doomed), (1, 16));
    assert_eq!(versions(), 17 + 1 + 1);
    assert_eq!(swept.newest.oldest, 2);
    let swept = writer.sweep(&Holds::default());
    assert_eq!(swept.versions, 1);
}

#[test]
fn only_the_holder_sweeps_and_only_its_own_catalog() {
    let stage = Stage::new(1, Faults::default());
    let old = Writer::new(&stage);
    stage.advance(66);
    let options = SweepOptions::default();
    let error = sweep(&old.catalog, &old.lease, &options, &Holds::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    let catalog = BucketCatalog::new(stage.bucket(2));
    let new = lease(catalog.bucket(), "b");
    let error = sweep(&catalog, &new, &options, &Holds::default()).unwrap_err();
    assert!(error.to_string().contains("claim it"), "{error}");
    let Commit::Committed(_) = catalog.claim(&new).unwrap() else {
        panic!("it is ours");
    };
    sweep(&catalog, &new, &options, &Holds::default()).unwrap();
    old.lease.pretend_beat();
    let error = sweep(&old.catalog, &old.lease, &options, &Holds::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
}

#[test]
fn one_sweep_removes_so_many_versions() {
    let stage = Stage::new(1, Faults::default());
    let mut writer = Writer::new(&stage);
    for _ in 0..30 {
        writer.blocks(&[]);
    }
    stage.advance(4000);
    writer.lease.beat().unwrap();
    for (max, removed) in [(0, 0), (1, 1), (5, 5), (1000, 10)] {
        let options = SweepOptions {
            versions_swept_max: max,
            ..SweepOptions::default()
        };
        let swept = sweep(&writer.catalog, &writer.lease, &options, &Holds::default()).unwrap();
        assert_eq!(swept.versions, removed, "at most {max}");
    }
}
