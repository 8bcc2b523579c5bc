//! The log engine: an embeddable store of streams of log lines.
//!
//! A *stream* is a label set; an *entry* is a timestamp in nanoseconds, a line of any bytes and a
//! set of structured metadata. It is not: clustered, a LogQL engine (that is `trine-query`), a
//! server (`trine-server`). It does not know what a line means.
//!
//! ```
//! use trine_logstore::{Batch, Durability, LineFilter, LogStore, Request, Rows};
//! use trine_storage::{Labels, Matcher, TimeRange};
//!
//! # fn main() -> Result<(), trine_storage::Error> {
//! # let dir = tempfile::tempdir().expect("a directory for the example");
//! # let path = dir.path();
//! let store = LogStore::open(path)?;
//! let mut appender = store.appender();
//! let api = Labels::from_pairs([("app", "api")])?;
//! appender.append(&api, 1_000, b"GET /ready 200", &Labels::empty());
//! appender.commit(Durability::Synced)?.wait()?;
//!
//! let request = Request::Rows(Rows {
//!     lines: vec![LineFilter::Contains("200".into())],
//!     ..Rows::new(vec![Matcher::equal("app", "api")], TimeRange::new(0, 2_000))
//! });
//! for batch in store.snapshot().scan(&request)? {
//!     let Batch::Rows(rows) = batch? else { continue };
//!     assert_eq!(rows.lines.get(0), b"GET /ready 200");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! In reading order: [`LogStore`] (`db`) wires the parts, `appender` puts batches together,
//! `wal_record` is what the log holds, `columns` is how entries lie in memory, `buffer` is memory,
//! `seal` turns it into `block`s, which are immutable, `request` is what readers ask, `snapshot`,
//! `scan` and `filter` answer, `retention` says which blocks go. File formats: `FORMAT.md` beside
//! this crate.

mod appender;
#[expect(
    dead_code,
    reason = "reads of parts of chunks come with the token index"
)]
mod block;
mod buffer;
mod columns;
mod compact;
mod config;
mod db;
mod entry;
mod filter;
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        unused_imports,
        reason = "the block writer and reads are not on it yet"
    )
)]
mod index;
mod merge;
mod request;
mod retention;
mod scan;
mod seal;
mod snapshot;
mod stats;
mod tail;
mod tombstone;
mod wal_record;

pub use appender::{Appender, Commit};
pub use config::{Builder, Config, Progress};
pub use db::{Deletion, LogStore};
pub use entry::{Accepted, Reason, Rejected};
pub use request::{
    Batch, Batches, CountBatch, Counts, Direction, LineFilter, Lines, Measure, Projection, Request,
    RowBatch, Rows,
};
pub use retention::RetentionRule;
pub use snapshot::Snapshot;
pub use stats::{Report, Stats};
pub use tail::{Tail, Tailed};
pub use trine_storage::wal::Durability;

/// Decoders of untrusted bytes, for fuzzing.
#[doc(hidden)]
pub mod decoders {
    pub use crate::index::probe as probe_index;
    pub use crate::wal_record::decode as decode_record;
}
