use super::*;
use crate::block_set::tests::rows::RowsSubject;
use crate::remote::check_over_faults;
use crate::sim::{ShippedStep, script_shipped, seeds};

#[test]
fn two_processes_and_a_bucket_that_fails_keep_every_promise() {
    let subject = RowsSubject::new();
    let done: u64 = seeds(60).map(|seed| live(&subject, seed, 80)).sum();
    let all = seeds(60).count();
    println!("{all} lives: {done} writes went well");
    assert!(done > 5 * all as u64, "only {done} writes went well");
}

#[test]
fn a_bucket_that_is_cut_off_or_fails_keeps_every_promise() {
    let mut cuts = 0;
    for seed in seeds(4) {
        let mut workload = script_shipped(seed, 12);
        workload.push(ShippedStep::Ship);
        cuts += check_over_faults(&RowsSubject::new(), &workload, seed, 60);
    }
    let scripts = seeds(4).count() as u64;
    println!("{scripts} scripts: {cuts} cuts");
    assert!(cuts > 40 * scripts, "only {cuts} cuts");
}
