//! What a block set knows of its depot, and whether the depot answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::catalog::{BlockMeta, Catalog};
use crate::clock::Clock;
use crate::depot::Depot;
use crate::error::{Error, Kind, Result};
use crate::sealed::Damage;
use crate::ulid::BlockId;

/// A shipped block that cannot be read is looked at again after this long.
const RETRY_MS: i64 = 600_000;

/// The depot of a block set.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) depot: Arc<dyn Depot>,
    pub(super) clock: Arc<dyn Clock>,
    /// The file `shipped`: the document that was adopted last, so that a store opens while the depot is
    /// away.
    pub(super) adopted: Catalog,
    /// Held by who ships a batch.
    pub(super) shipping: Mutex<()>,
    /// Held while the depot decides and until that is seen here.
    pub(super) deciding: Mutex<()>,
    /// The depot may have decided more than is seen here.
    pub(super) behind: AtomicBool,
    /// Held by who makes copies.
    pub(super) copying: Mutex<()>,
    pub(super) trouble: Mutex<Trouble>,
    /// Shipped blocks that are not served.
    pub(super) lost: Mutex<BTreeMap<BlockId, Lost>>,
}

/// How the depot answered lately.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The last failure, if nothing has succeeded since.
    pub(super) failed: Option<Error>,
    /// Since when it has been failing, milliseconds since 1970.
    pub(super) since_ms: i64,
    /// When it told last what is new, milliseconds since 1970.
    pub(super) followed_ms: i64,
}

/// A shipped block that cannot be read.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) meta: BlockMeta,
    pub(super) damage: Damage,
    /// When it is looked at again, milliseconds since 1970.
    pub(super) retry_ms: i64,
}

impl Lost {
    pub(super) fn new(meta: &BlockMeta, damage: Damage, now_ms: i64) -> Self {
        Self {
            meta: meta.clone(),
            damage,
            retry_ms: now_ms.saturating_add(RETRY_MS),
        }
    }
}

impl Link {
    pub(super) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    pub(super) fn set_behind(&self, is_behind: bool) {
        self.behind.store(is_behind, Ordering::Release);
    }

    /// Refuses what only the writer may do.
    pub(super) fn require_writer(&self) -> Result<()> {
        self.depot.role().require_writer(self.depot.name())
    }

    /// Remembers whether the depot answered.
    pub(super) fn heard<T>(&self, answer: Result<T>) -> Result<T> {
        let mut trouble = self.trouble.lock();
        match &answer {
            Ok(_) => trouble.failed = None,
            // It answered.
            Err(error) if error.kind() == Kind::Invalid => trouble.failed = None,
            Err(error) => {
                if trouble.failed.is_none() {
                    trouble.since_ms = self.clock.now_ms();
                }
                trouble.failed = Some(error.clone());
            }
        }
        answer
    }

    /// For how long the depot has not been answering, in milliseconds.
    pub(super) fn silent_ms(&self) -> i64 {
        let trouble = self.trouble.lock();
        match &trouble.failed {
            Some(error) if error.kind() == Kind::Unavailable => {
                self.clock.now_ms().saturating_sub(trouble.since_ms)
            }
            _ => 0,
        }
    }

    pub(super) fn lost(&self) -> Vec<Error> {
        let lost = self.lost.lock();
        lost.values()
            .map(|lost| lost.damage.error.clone())
            .collect()
    }
}
