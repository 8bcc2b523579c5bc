//! What is kept and what goes: pure functions of the settings, of what the catalog says and of the
//! time.

use std::time::Duration;

use trine_storage::catalog::{BlockMeta, outdated};
use trine_storage::ulid::BlockId;

use crate::config::nanos;

/// How long spans are kept.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    keep: Option<Duration>,
}

/// How much is kept, as far as whole blocks are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Every trace that began before this is expired.
    pub(crate) oldest_ns: i64,
    pub(crate) bytes: Option<u64>,
}

impl Retention {
    pub(crate) fn new(keep: Option<Duration>) -> Self {
        Self { keep }
    }

    /// The shortest time that anything is kept for; `None` when everything is kept for ever.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.keep
    }

    /// Traces that began from here on are kept, whatever they are.
    pub(crate) fn newest_expired_ns(&self, now_ns: i64) -> i64 {
        self.oldest_of_all_ns(now_ns)
    }

    /// Traces that began before this are expired, whatever they are.
    pub(crate) fn oldest_of_all_ns(&self, now_ns: i64) -> i64 {
        self.keep
            .map_or(i64::MIN, |kept| now_ns.saturating_sub(nanos(kept)))
    }
}

/// The blocks of which everything is expired, and the oldest of those that are more than the bytes
/// that are kept.
pub(crate) fn plan<'a>(
    blocks: impl Iterator<Item = &'a BlockMeta>,
    limits: &Limits,
) -> Vec<BlockId> {
    outdated(blocks, limits.oldest_ns, limits.bytes)
}
