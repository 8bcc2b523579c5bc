use super::rows::RowsSubject;
use crate::sim::{
    Crash, SimFs, Subject, check_every_cut, check_every_cut_shipped, script, script_shipped,
};
use crate::wal::Durability::Synced;

#[test]
fn a_store_without_a_depot_survives_every_cut() {
    for seed in 0..3 {
        let cuts = check_every_cut(&RowsSubject::new(), &script(seed, 12), seed);
        assert!(cuts > 20, "{cuts} cuts");
    }
}

/// Every row of the table of crashes is among these: each operation of the disk and each call of the
/// depot is a place to die at.
#[test]
fn a_store_that_is_shipped_survives_every_cut() {
    for seed in 0..6 {
        let workload = script_shipped(seed, 24);
        let cuts = check_every_cut_shipped(&RowsSubject::new(), &workload, seed);
        assert!(cuts > 50, "{cuts} cuts");
    }
}

/// The process dies at any operation of a seal and starts again, and only then the power fails: what the
/// new process did must not rest on names that were not synced. It let go of the log because of a
/// catalog that was gone after it.
#[test]
fn a_restart_before_the_power_fails_loses_nothing() {
    let subject = RowsSubject::new();
    for cut in 0..20 {
        for seed in 0..8 {
            let fs = SimFs::new();
            let store = subject.open(&fs).unwrap();
            subject.append(&store, &[1, 2], Synced).unwrap();
            fs.cut_after(fs.operations() + cut);
            let sealed = subject.flush(&store);
            drop(store);
            fs.cut_after(u64::MAX);
            drop(subject.open(&fs).unwrap());
            let found = fs.crash(Crash::Power, seed);
            let store = subject.open(&found).unwrap();
            let rows = subject.rows(&store).unwrap();
            assert_eq!(rows, [1, 2], "cut {cut}, seed {seed}, {sealed:?}");
        }
    }
}
