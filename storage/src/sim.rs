//! Simulated crashes: a file system in memory that forgets what was not synced, and one script
//! that cuts the power at every single operation of any engine. For stores that are shipped there is a
//! depot in memory, whose calls fail as told.
//!
//! The fault model: contents of a file that were not synced may be lost from any byte on, and what
//! is left may end in garbage; a name that was created, renamed or removed may be the old or the
//! new one until its directory is synced. Synced bytes are never damaged (tests damage them by
//! hand, [`SimFs::corrupt`]). Everything is chosen by a seed.

mod counting_depot;
mod crash;
mod crash_shipped;
mod memory_depot;
mod sim_fs;

pub use counting_depot::{Asked, CountingDepot};
pub use crash::{Step, Subject, check_every_cut, script};
pub use crash_shipped::{
    ShippedBucket, ShippedStep, ShippedSubject, check_cuts_over, check_every_cut_shipped,
    script_shipped,
};
pub use memory_depot::{Cut, MemoryBucket, MemoryDepot};
pub use sim_fs::{Crash, SimFs};

/// The seeds of random runs: as many as `TRINE_CASES` says, `cases` if it says nothing, or only `SIM_SEED`.
pub fn seeds(cases: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("SIM_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..number("TRINE_CASES").unwrap_or(cases),
    }
}

/// A small deterministic generator (SplitMix64): the same seed gives the same run.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 when the bound is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }
}
