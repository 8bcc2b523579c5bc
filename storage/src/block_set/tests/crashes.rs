use super::rows::RowsSubject;
use crate::sim::{check_every_cut, check_every_cut_shipped, script, script_shipped};

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
