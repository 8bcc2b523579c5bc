//! What a store says of itself.

use trine_storage::{Error, wal};

/// Figures of a store; the server turns them into metrics.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Series in memory.
    pub head_series: u64,
    /// Samples in memory.
    pub head_samples: u64,
    /// Bytes that memory takes, about.
    pub head_bytes: u64,
    /// The oldest and the newest timestamp in memory, milliseconds since 1970.
    pub head_times: Option<(i64, i64)>,
    /// Blocks that are served, parts counted too.
    pub blocks: u64,
    /// Parts among them: sealed memory that was not made into blocks yet.
    pub parts: u64,
    /// With a depot: blocks that are on this disk only.
    pub unshipped_blocks: u64,
    /// Bytes in those.
    pub unshipped_bytes: u64,
    /// With a depot: when the first sample came that is on this disk only, milliseconds since 1970,
    /// about; `None` when there is none.
    pub unshipped_since_ms: Option<i64>,
    /// Deletes whose samples may still be in files.
    pub deletes: u64,
    /// Bytes in those blocks.
    pub block_bytes: u64,
    /// Samples in those blocks.
    pub block_samples: u64,
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

/// What [`Tsdb::verify`](crate::Tsdb::verify) found.
#[derive(Debug, Default)]
pub struct Report {
    /// Blocks that were read from the first to the last byte.
    pub blocks: u64,
    /// Samples in them.
    pub samples: u64,
    /// Records of the log that were read.
    pub records: u64,
    /// What is damaged, in parts, blocks, catalog and log.
    pub errors: Vec<Error>,
}
