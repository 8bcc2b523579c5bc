//! Blocks and catalog in an object store: S3, GCS, Azure, a directory. A toolkit like the rest of the
//! crate: engines wire it to their block sets.
//!
//! In reading order: [`Bucket`] asks and repeats, [`BucketCatalog`] says which objects belong to the
//! store, [`Lease`] who may change it, [`upload`](Bucket::upload) ships a file, [`RemoteFile`] reads it
//! through a [`RangeCache`], [`sweep`] removes what nobody needs, [`Depots`] does all of it for the stores
//! of a process, [`Transfer`] copies them to another place, [`FaultStore`] is a store that fails, [`live`] what engines
//! have to stand over it.
//!
//! All calls block. They run their requests on a tokio runtime that the caller gives, and refuse to be
//! called on a thread that drives it. See `FORMAT.md`, "Bucket".

mod bucket;
mod bucket_catalog;
mod copies;
mod counters;
mod depot;
mod depots;
mod failure;
mod fault;
mod fault_bucket;
mod file;
mod kept;
mod lease;
mod lives;
mod location;
mod markers;
mod probe;
mod range_cache;
mod stage;
mod sweep;
mod tenure;
mod transfer;
mod upload;

pub use bucket::{Bucket, Object, Options, PutNew};
pub use bucket_catalog::{
    BucketCatalog, BucketDocument, Commit, DOCUMENT_BYTES_MAX, Doomed, block_key,
};
pub use copies::CopiesStats;
pub use counters::{Counted, Counters, Verb};
pub use depot::StoreDepot;
pub use depots::{Depots, DepotsConfig, DepotsStats, FirstAsk, StoreStats};
pub use failure::Reason;
pub use fault::{Change, FaultStore, Faults, Turns};
pub use fault_bucket::{FaultBucket, check_over_faults};
pub use file::RemoteFile;
pub use lease::{Holder, Lease, LeaseTimes, Taken, Watch};
pub use lives::{LivingSubject, check_lives, check_scripts, live};
pub use markers::StoreName;
pub use probe::Checked;
pub use range_cache::{CacheOptions, CacheStats, DiskOptions, Priority, RangeCache};
pub use sweep::{Hold, Holds, SweepOptions, Swept, sweep};
pub use transfer::{Done, Fetch, Gather, Progress, Source, Target, Transfer, Wait, unfinished};
pub use upload::{PART_BYTES, Throttle, Uploaded};

#[cfg(test)]
mod campaign;
#[cfg(test)]
mod moto;
#[cfg(test)]
mod s3;
