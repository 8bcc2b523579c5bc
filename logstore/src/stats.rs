//! What a store says of itself.

use trine_storage::catalog::BlockMeta;
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
    /// Those of them that were not merged yet.
    pub sealed_blocks: u64,
    /// Bytes in those blocks.
    pub block_bytes: u64,
    /// Entries in those blocks.
    pub block_rows: u64,
    /// The blocks by level, lowest first.
    pub levels: Vec<LevelStats>,
    /// With a depot: those that are on this disk only.
    pub unshipped_blocks: u64,
    /// Bytes in those.
    pub unshipped_bytes: u64,
    /// With a depot: when the first entry came that is on this disk only, milliseconds since 1970,
    /// about; `None` when there is none.
    pub unshipped_since_ms: Option<i64>,
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

/// Figures of the blocks of one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LevelStats {
    /// How often their entries were merged: 0 for sealed blocks.
    pub level: u8,
    /// How many there are.
    pub blocks: u64,
    /// Entries in them.
    pub rows: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Stats {
    /// Counts a block.
    pub(crate) fn add_block(&mut self, meta: &BlockMeta) {
        self.blocks += 1;
        self.sealed_blocks += u64::from(meta.level == 0);
        self.block_bytes += meta.bytes;
        self.block_rows += meta.rows;
        let at = self.levels.partition_point(|of| of.level < meta.level);
        if self.levels.get(at).is_none_or(|of| of.level != meta.level) {
            let level = meta.level;
            let empty = LevelStats {
                level,
                ..LevelStats::default()
            };
            self.levels.insert(at, empty);
        }
        if let Some(of) = self.levels.get_mut(at) {
            of.blocks += 1;
            of.rows += meta.rows;
            of.bytes += meta.bytes;
        }
    }
}

/// What [`LogStore::verify`](crate::LogStore::verify) found.
#[derive(Debug, Default)]
pub struct Report {
    /// Blocks that were read from the first to the last byte.
    pub blocks: u64,
    /// Entries in them.
    pub rows: u64,
    /// Records of the log that were read.
    pub records: u64,
    /// What is damaged, in blocks, catalog and log.
    pub errors: Vec<Error>,
}
