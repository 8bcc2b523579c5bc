//! Deletes and backups: both begin with a seal, so that files hold everything that is concerned.

use std::path::Path;
use std::sync::Arc;

use trine_storage::block_set::{Edit, Version};
use trine_storage::catalog::Delete;
use trine_storage::shipping::Ships as _;
use trine_storage::{Matcher, Result, TimeRange};

use super::Inner;
use crate::block::Sealed;
use crate::tombstone::{self, Tombstone};

/// Deletes that are in force, by number.
pub(crate) type Tombstones = Vec<Arc<Tombstone>>;

impl Inner {
    /// Deletes the samples in `range` of the series that satisfy all `matchers`.
    pub(super) fn delete(&self, matchers: &[Matcher], range: TimeRange) -> Result<()> {
        self.check_open()?;
        self.require_writer()?;
        let _deleting = self.deleting.lock();
        self.catch_up()?;
        self.flush()?;
        let version = self.blocks.version();
        let delete = Delete {
            number: version.next_delete(),
            sequence: version.wal_position,
            range,
            what: tombstone::words(matchers)?,
            created_ms: self.clock.now_ms(),
        };
        let edit = Edit {
            delete: Some(delete.clone()),
            ..Edit::default()
        };
        self.blocks.commit(&edit, || {
            let tombstone = Tombstone::new(delete, matchers);
            let mut tombstones = self.tombstones.write();
            Arc::make_mut(&mut tombstones).push(Arc::new(tombstone));
        })
    }

    /// The deletes that are in force.
    pub(crate) fn tombstones(&self) -> Arc<Tombstones> {
        Arc::clone(&self.tombstones.read())
    }

    /// Forgets the deletes that no file holds samples of any more.
    pub(super) fn forget_deletes(&self) -> Result<()> {
        let _deleting = self.deleting.lock();
        if self.blocks.depot().is_some() && !self.blocks.quarantined().is_empty() {
            // What cannot be read now may come back, with samples that are deleted.
            return Ok(());
        }
        let version = self.blocks.version();
        let done: Vec<u64> = version
            .deletes
            .iter()
            .filter(|delete| {
                let mut blocks = version.blocks.iter();
                let concerned = blocks.any(|block| delete.concerns(&block.meta));
                !concerned && self.blocks.may_forget(delete)
            })
            .map(|delete| delete.number)
            .collect();
        if done.is_empty() {
            return Ok(());
        }
        let edit = Edit {
            forget_deletes: done.clone(),
            ..Edit::default()
        };
        self.blocks.commit(&edit, || {
            let mut tombstones = self.tombstones.write();
            Arc::make_mut(&mut tombstones).retain(|held| !done.contains(&held.delete.number));
        })
    }

    /// Seals, and makes `target` a store with all that is sealed.
    pub(super) fn backup(&self, target: &Path) -> Result<()> {
        self.flush()?;
        let version: Arc<Version<Sealed>> = self.blocks.version();
        self.blocks.backup(&version, target)
    }
}
