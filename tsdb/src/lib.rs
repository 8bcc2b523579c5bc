//! The metrics engine: an embeddable store of series of samples.
//!
//! It is not: clustered, a PromQL engine (that is `trine-query`), a server (`trine-server`). It
//! does not know what labels mean beyond their bytes and their order.
//!
//! ```
//! use trine_tsdb::{Durability, Hints, Labels, Matcher, TimeRange, Tsdb};
//!
//! # fn main() -> Result<(), trine_tsdb::Error> {
//! # let dir = tempfile::tempdir().expect("a directory for the example");
//! # let path = dir.path();
//! let db = Tsdb::open(path)?;
//! let mut appender = db.appender();
//! let up = Labels::from_pairs([("__name__", "up"), ("job", "api")])?;
//! appender.append(&up, 1_000, 1.0.into());
//! appender.commit(Durability::Synced)?.wait()?;
//!
//! let matchers = [Matcher::equal("job", "api")];
//! for series in db.snapshot().select(&matchers, TimeRange::new(0, 2_000), &Hints::default())? {
//!     assert_eq!(series?.samples.timestamps, [1_000]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! In reading order: [`Tsdb`] (`db`) wires the parts, `wal_record` is what the log holds, `head` is
//! memory (`chunk` and `histogram` its bits), `part` is what a seal writes, `block` is what is immutable and
//! self-contained, and what [`Builder::depot`] ships, `compact` plans what is merged, `tombstone` hides what is deleted, `snapshot`
//! reads all of them as one, `retention` says which blocks go. File formats: `FORMAT.md` beside this
//! crate.

mod appender;
mod batch;
mod block;
mod chunk;
mod columns;
mod compact;
mod config;
mod db;
mod exemplar;
mod head;
mod histogram;
mod metadata;
mod part;
mod retention;
mod sample;
mod select;
mod snapshot;
mod stats;
mod tombstone;
mod wal_record;

pub use appender::{Appender, Commit, Encoded, LABELS_BYTES_MAX, SeriesAppender, SeriesRef};
pub use config::{Builder, Config, Progress};
pub use db::Tsdb;
pub use exemplar::{EXEMPLAR_LABELS_CHARS_MAX, Exemplar};
pub use histogram::{
    BUCKETS_MAX, Buckets, CUSTOM_SCHEMA, Histogram, HistogramError, ResetHint, SCHEMA_MAX,
    SCHEMA_MIN, SCHEMA_RESERVED_MAX, Side, Span,
};
pub use metadata::{METADATA_BYTES_MAX, Metadata, MetricType};
pub use sample::{Accepted, Reason, Rejected, Samples, Value, Values};
pub use select::{Batch, Batches, SeriesSet};
pub use snapshot::{Hints, Series, SeriesExemplars, Snapshot};
pub use stats::{Report, Stats};
pub use trine_storage as storage;
pub use trine_storage::catalog::BlockMeta;
pub use trine_storage::wal::Durability;
pub use trine_storage::{Error, Kind, Labels, MatchOp, Matcher, TimeRange};

/// Decoders of untrusted bytes, for fuzzing.
#[doc(hidden)]
pub mod decoders {
    pub use crate::block::run::{decode_floats as decode_float_run, decode_integers};
    pub use crate::chunk::decode_floats;
    pub use crate::chunk::starts::decode_starts;
    pub use crate::histogram::{decode_histograms, decode_run as decode_histogram_run};
    pub use crate::wal_record::decode as decode_record;
}
