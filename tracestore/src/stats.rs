//! What a store says of itself, and what becomes of spans that cannot be stored.

use std::fmt;

use trine_storage::catalog::BlockMeta;
use trine_storage::{Error, wal};

use crate::live::Figures;

/// What became of a committed batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accepted {
    /// Spans that are stored.
    pub stored: u64,
    /// Spans that are not, by reason.
    pub rejected: Vec<Rejected>,
}

/// Spans of one batch that were refused for one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// How many.
    pub count: u64,
    /// What was wrong with the first of them, a sentence for its sender.
    pub example: String,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.example)?;
        match self.count {
            0 | 1 => Ok(()),
            count => write!(f, " (and {} more)", count - 1),
        }
    }
}

/// Why a span was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The trace id has not 16 bytes or is all zero.
    TraceId,
    /// The span id has not 8 bytes or is all zero.
    SpanId,
    /// There is a parent, and its id has not 8 bytes.
    ParentId,
    /// It begins before the retention.
    TooOld,
    /// It begins further ahead of the clock than `Config::future_max`.
    TooFarInFuture,
    /// It, its resource or its scope is larger than `Config::span_bytes_max`.
    TooLarge,
    /// It, an event, a link, its resource or its scope has more than `Config::span_attributes_max`
    /// attributes.
    TooManyAttributes,
    /// An attribute is nested deeper than any value may be.
    TooDeep,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TraceId => "trace ids must be 128 bit and not all zero",
            Self::SpanId => "span ids must be 64 bit and not all zero",
            Self::ParentId => "parent span ids must be 64 bit",
            Self::TooOld => "span begins before the retention",
            Self::TooFarInFuture => "span begins too far in the future",
            Self::TooLarge => "span is too large",
            Self::TooManyAttributes => "a span has too many attributes",
            Self::TooDeep => "an attribute is nested too deep",
        })
    }
}

impl Accepted {
    /// Counts one refused span; `example` is only asked for the first of a reason.
    pub(crate) fn reject(&mut self, reason: Reason, example: impl FnOnce() -> String) {
        match self
            .rejected
            .iter_mut()
            .find(|rejected| rejected.reason == reason)
        {
            Some(rejected) => rejected.count += 1,
            None => self.rejected.push(Rejected {
                reason,
                count: 1,
                example: example(),
            }),
        }
    }
}

/// Figures of a store; the server turns them into metrics.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Traces in memory, about.
    pub live_traces: u64,
    /// Spans in memory, those that came twice perhaps counted twice.
    pub live_spans: u64,
    /// Bytes that memory takes, about.
    pub live_bytes: u64,
    /// Pieces that memory consists of, beside the newest.
    pub live_runs: u64,
    /// Blocks that are served.
    pub blocks: u64,
    /// Those of them that were not merged yet.
    pub sealed_blocks: u64,
    /// Bytes in those blocks.
    pub block_bytes: u64,
    /// Spans in those blocks.
    pub block_spans: u64,
    /// The blocks by level, lowest first.
    pub levels: Vec<LevelStats>,
    /// With a depot: blocks that are on this disk only.
    pub unshipped_blocks: u64,
    /// Bytes in those blocks.
    pub unshipped_bytes: u64,
    /// With a depot: when the first span came that is on this disk only, milliseconds since 1970, about;
    /// `None` when there is none.
    pub unshipped_since_ms: Option<i64>,
    /// Blocks that cannot be read and are not served; `damaged` says why.
    pub quarantined: u64,
    /// Deletes whose spans may still be in files.
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
    /// How often their spans were merged: 0 for sealed blocks.
    pub level: u8,
    /// How many there are.
    pub blocks: u64,
    /// Spans in them.
    pub spans: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Stats {
    /// Counts memory.
    pub(crate) fn add_live(&mut self, figures: &Figures) {
        self.live_traces += figures.traces;
        self.live_spans += figures.spans;
        self.live_bytes += figures.bytes;
        self.live_runs += figures.runs;
    }

    /// Counts a span that is not shipped and came then, milliseconds since 1970.
    pub(crate) fn unshipped_since(&mut self, ms: i64) {
        let since = self.unshipped_since_ms.get_or_insert(ms);
        *since = ms.min(*since);
    }

    /// Counts a block, which is to be shipped if `waits`.
    pub(crate) fn add_block(&mut self, meta: &BlockMeta, waits: bool) {
        self.blocks += 1;
        if waits {
            self.unshipped_blocks += 1;
            self.unshipped_bytes += meta.bytes;
            self.unshipped_since(meta.created_ms);
        }
        self.sealed_blocks += u64::from(meta.level == 0);
        self.block_bytes += meta.bytes;
        self.block_spans += meta.rows;
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
            of.spans += meta.rows;
            of.bytes += meta.bytes;
        }
    }
}

/// What [`TraceStore::verify`](crate::TraceStore::verify) found.
#[derive(Debug, Default)]
pub struct Report {
    /// Blocks that were read from the first to the last byte.
    pub blocks: u64,
    /// Spans in them.
    pub spans: u64,
    /// Records of the log that were read.
    pub records: u64,
    /// What is damaged, in blocks, catalog and log.
    pub errors: Vec<Error>,
}
