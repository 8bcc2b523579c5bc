//! What a store says of itself.

use trine_storage::{Error, wal};

/// Figures of a store; the server turns them into metrics.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Streams in memory.
    pub buffer_streams: u64,
    /// Entries in memory.
    pub buffer_rows: u64,
    /// Bytes that memory takes, about.
    pub buffer_bytes: u64,
    /// Blocks that are served.
    pub blocks: u64,
    /// Bytes in those blocks.
    pub block_bytes: u64,
    /// Entries in those blocks.
    pub block_rows: u64,
    /// Deletes whose entries may still be in files.
    pub deletes: u64,
    /// The write-ahead log.
    pub wal: wal::Stats,
    /// Bytes of the log that were replayed at open.
    pub replayed_bytes: u64,
    /// What could not be read at open although it may have been acknowledged: damaged parts of the
    /// log and quarantined blocks, a sentence each.
    pub damaged: Vec<String>,
    /// Why the last background work failed, until it succeeds again.
    pub background_error: Option<String>,
}

/// What [`LogStore::verify`](crate::LogStore::verify) found.
#[derive(Debug, Default)]
pub struct Report {
    /// Blocks that were read from the first to the last byte.
    pub blocks: u64,
    /// Entries in them.
    pub rows: u64,
    /// What is damaged.
    pub errors: Vec<Error>,
}
