//! The trace engine: an embeddable store of spans.
//!
//! It is not: clustered, a TraceQL engine (that is `trine-query`), a server (`trine-server`).
//!
//! ```
//! use std::sync::Arc;
//! use trine_tracestore::{
//!     AttributeRef, Batch, Condition, Durability, Filter, Intrinsic, Request, Resource, Rows, Scope,
//!     Span, Test, TimeRange, TraceFilter, TraceStore, Value,
//! };
//!
//! # fn main() -> Result<(), trine_tracestore::Error> {
//! # let dir = tempfile::tempdir().expect("a directory for the example");
//! # let path = dir.path();
//! let store = TraceStore::open(path)?;
//! let mut appender = store.appender();
//! let span = Span { trace_id: [1; 16], span_id: [2; 8], name: "GET /".into(), ..Span::default() };
//! appender.append(&Arc::new(Resource::default()), &Arc::new(Scope::default()), span);
//! appender.commit(Durability::Synced)?.wait()?;
//!
//! let trace = store.snapshot().trace([1; 16])?;
//! assert_eq!(trace.map(|trace| trace.spans().count()), Some(1));
//!
//! let name = Condition {
//!     attribute: AttributeRef::Intrinsic(Intrinsic::Name),
//!     test: Test::Equal(vec![Value::Str("GET /".into())]),
//! };
//! let filter = TraceFilter::Has(Filter::Is(name));
//! let rows = Rows { range: TimeRange::ALL, filter, projection: Vec::new(), enough: 20 };
//! for batch in store.snapshot().scan(&Request::Rows(rows))? {
//!     let Batch::Spans(spans) = batch? else { continue };
//!     assert_eq!(spans.traces[0].id, [1; 16]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! With a [`Depot`](storage::depot::Depot) ([`Builder::depot`]) blocks are shipped to an object store: an
//! empty directory shows what was shipped, other processes follow the one that writes, local files are
//! copies. Without one a store is its directory.
//!
//! In reading order: [`TraceStore`] (`db`) wires the parts, `model` is what a span is, `otlp` how it
//! arrives, `wal_record` what the log holds, `stage` the spans that came last, `stored` how those who
//! watch spans come see them, `live` memory, `block`
//! what is immutable, in memory and on disk, `structure` the order of spans in a trace, `place` what a
//! snapshot holds, `request` what is asked and answered, `snapshot` and `scan` how, `tombstone` and
//! `retention` what is not to be seen. File formats: `FORMAT.md`
//! beside this crate.

mod appender;
mod block;
mod config;
mod db;
mod live;
mod model;
mod otlp;
mod place;
mod request;
mod retention;
mod scan;
mod snapshot;
mod stage;
mod stats;
mod stored;
mod structure;
mod tombstone;
mod wal_record;

pub use appender::{Appender, Commit};
pub use config::{Builder, Config, Progress};
pub use db::{Deletion, TraceStore};
pub use model::{
    AnyValue, Event, KeyValue, Link, Resource, ResourceSpans, Scope, ScopeSpans, Span, SpanId,
    Status, Trace, TraceId,
};
pub use place::Snapshot;
pub use request::{
    ABSENT, AttributeColumn, AttributeRef, Batch, Batches, Column, Comparison, ComparisonBatch,
    Condition, CountBatch, Counts, Effort, Filter, Intrinsic, Measure, NO_ROW, Occurrences,
    Relation, Request, Rows, Scope as AttributeScope, SpanBatch, Test, TraceFilter, TraceRows,
    Value, ValuesRequest, keys,
};
pub use retention::RetentionRule;
pub use stats::{Accepted, LevelStats, Reason, Rejected, Report, Stats};
pub use stored::{ResourceView, SpanReader, SpanView, StoredSpans, ValueView};
pub use tombstone::Deleted;
pub use trine_storage as storage;
pub use trine_storage::block_set::Shipped;
pub use trine_storage::catalog::BlockMeta;
pub use trine_storage::regex::LabelRegex;
pub use trine_storage::wal::Durability;
pub use trine_storage::{Error, Kind, TimeRange};

/// Decoders of untrusted bytes, for fuzzing.
#[doc(hidden)]
pub mod decoders {
    pub use crate::block::decode::{
        blob_page, dictionary, directory_entry, filter, number_page, rows_page, template_of,
        template_page,
    };

    use trine_storage::Result;
    use trine_storage::fs::MemoryFile;
    use trine_storage::sealed::SealedFile;

    use crate::block::build::{Input, Source};
    use crate::block::format;
    use crate::block::image::{Image, in_memory};
    use crate::otlp::Bounds;
    use crate::scan::spans;
    use crate::stage::Stage;
    use crate::{Accepted, wal_record};

    /// A record of the log into an empty stage.
    ///
    /// # Errors
    /// Those of a replay.
    pub fn replay(record: &[u8]) -> Result<Accepted> {
        wal_record::replay(record, &mut Stage::default())
    }

    /// Everything that a block file holds, whatever its checksums say; gives the number of spans.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when it makes no sense.
    pub fn block(file: &[u8]) -> Result<u64> {
        let file = MemoryFile::of(file.to_vec()).finish();
        let file = SealedFile::open_unchecked(file, "a block", format::KIND)?;
        let image = Image::open(&file)?;
        for trace in image.traces()? {
            spans::read(&image, &trace)?;
        }
        in_memory(&[Input::all(Source::Image(&image))], &|_| true)?;
        image.check()
    }

    /// Requests of OTLP into an empty stage; gives how many spans it has then.
    ///
    /// # Errors
    /// [`Kind::Invalid`](trine_storage::Kind::Invalid) when one is malformed.
    pub fn push_otlp(requests: &[&[u8]]) -> Result<u32> {
        let bounds = Bounds {
            oldest_ns: 0,
            newest_ns: i64::MAX,
            span_bytes_max: 1 << 16,
            attributes_max: 100,
        };
        let mut stage = Stage::default();
        for request in requests {
            stage.push_request(request, &bounds)?;
        }
        Ok(stage.rows())
    }
}
