//! The log engine: an embeddable store of streams of log lines.
//!
//! A *stream* is a label set; an *entry* is a timestamp in nanoseconds, a line of any bytes and a
//! set of structured metadata. It is not: clustered, a LogQL engine (that is `trine-query`), a
//! server (`trine-server`). It does not know what a line means.
//!
//! ```
//! use trine_logstore::{Batch, Durability, LineFilter, LogStore, Request, Rows};
//! use trine_logstore::{Labels, Matcher, TimeRange};
//!
//! # fn main() -> Result<(), trine_logstore::Error> {
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
//! `wal_record` is what the log holds, `columns` is how entries lie in memory, `sets` their
//! metadata, `buffer` is memory, `seal` turns it into `block`s, which are immutable (and shipped, with
//! [`Builder::depot`]), `merge` makes few of many, `request` is what readers ask, `snapshot`, `scan` and `filter` answer
//! with the help of the token `index`, `tombstone` and `retention` say what is not to be seen, `tail`
//! follows what is appended, `discover` finds level and service of a line. File formats: `FORMAT.md`
//! beside this crate.

mod appender;
mod block;
mod buffer;
mod columns;
mod condition;
mod config;
mod db;
pub mod discover;
mod entry;
mod figures;
mod filter;
mod index;
mod merge;
mod request;
mod retention;
mod scan;
mod seal;
mod sets;
mod snapshot;
mod stats;
mod tail;
mod tombstone;
mod wal_record;

pub use appender::{Appender, Commit};
pub use block::lines::Skeletons;
pub use condition::{Condition, Language};
pub use config::{Builder, Config, LongLines, Progress};
pub use db::{Deletion, LogStore};
pub use entry::{Accepted, Reason, Rejected};
pub use figures::{Found, Totals, Volume};
pub use request::{
    Batch, Batches, CountBatch, Counts, Direction, Either, LineFilter, Lines, Measure, Projection,
    Request, RowBatch, Rows,
};
pub use retention::RetentionRule;
pub use snapshot::Snapshot;
pub use stats::{LevelStats, Report, Stats};
pub use tail::{Tail, Tailed};
pub use trine_storage as storage;
pub use trine_storage::catalog::BlockMeta;
pub use trine_storage::wal::Durability;
pub use trine_storage::{Error, Kind, Labels, MatchOp, Matcher, TimeRange};

/// Decoders of untrusted bytes, for fuzzing.
#[doc(hidden)]
pub mod decoders {
    use bytes::Bytes;
    use trine_storage::{Result, TimeRange};

    use crate::block::format::{self, ChunkHeader, Summary};
    use crate::block::lines::{Lengths, PackedLines, Part, VariableColumns, read_ends};
    use crate::block::metadata::Metadata;
    pub use crate::index::probe as index;
    pub use crate::wal_record::decode as decode_record;

    /// The lines of a chunk of `rows` entries, from its pages as they are before they are packed.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt); so for all.
    pub fn lines(lengths: &[u8], text: &[u8], variables: &[u8], rows: usize) -> Result<Vec<u8>> {
        let page = Bytes::copy_from_slice(variables);
        let timestamps = vec![1_700_000_000_000_000_000; rows];
        let ends = read_ends("fuzz", lengths, rows)?;
        let columns = VariableColumns::read("fuzz", &page)?;
        for (bytes, fold) in [(&b"12345"[..], false), (b"4bf92", true)] {
            let part = Part {
                bytes,
                open_left: true,
                open_right: true,
                fold,
            };
            columns
                .may_contain("fuzz", part, || Ok(timestamps.clone()))
                .ok();
        }
        let line_bytes = ends.last().map_or(0, |&end| u64::from(end));
        let lengths = Lengths::new(Bytes::copy_from_slice(lengths), rows, line_bytes);
        let mut packed = PackedLines::read("fuzz", text.to_vec(), &page, lengths)?;
        packed.skeleton();
        packed.rows_with(b"123").ok();
        packed.expand_rows(&timestamps, |row| row % 2 == 0).ok();
        let lines = packed.expand(&timestamps);
        if let Some(skeletons) = packed.take_skeletons(&timestamps)? {
            let mut line = Vec::new();
            for row in 0..rows {
                let whole = 0..skeletons.get(row).len();
                skeletons.write(row, whole, &mut line).ok();
            }
            if let Ok((blob, _)) = &lines {
                assert_eq!(line, *blob, "lines are the same however they are given");
            }
        }
        lines.map(|(blob, _)| blob)
    }

    /// The metadata of a chunk of `rows` entries.
    ///
    /// # Errors
    /// As [`lines`].
    pub fn metadata(page: &[u8], rows: u32) -> Result<()> {
        let metadata = Metadata::read("fuzz", &Bytes::copy_from_slice(page), rows)?;
        metadata.verify()?;
        let all: Vec<u32> = (0..rows).collect();
        metadata.sets_of(&all).map(drop)
    }

    /// The headers of a block's chunks, and the timestamps of the first of them.
    ///
    /// # Errors
    /// As [`lines`].
    pub fn chunks(summary: &[u8], headers: &[u8], timestamps: &[u8]) -> Result<Vec<TimeRange>> {
        let summary = Summary::decode("fuzz", summary)?;
        let chunks = format::decode_chunks("fuzz", headers, &summary)?;
        for (run, chunk) in chunks.iter().enumerate() {
            chunk.levels_of(run);
        }
        if let Some(chunk) = chunks.first() {
            format::decode_timestamps("fuzz", timestamps, chunk)?;
        }
        Ok(chunks
            .iter()
            .map(|chunk: &ChunkHeader| chunk.range)
            .collect())
    }
}
