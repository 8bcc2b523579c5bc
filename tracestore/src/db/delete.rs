//! Deletes and backups: both begin with a seal, so that files hold everything that is concerned.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trine_storage::block_set::Edit;
use trine_storage::catalog::Delete;
use trine_storage::shipping::Ships as _;
use trine_storage::{Error, Kind, Result, TimeRange};

use super::Inner;
use crate::tombstone::{Deleted, Hidden, Tombstone, Tombstones};
use trine_storage::time::nanos;

/// The most bytes that a delete takes as text.
const DELETE_BYTES_MAX: usize = 64 << 10;

/// A delete whose spans may still be in files.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// Its number; later ones have higher ones.
    pub number: u64,
    /// Which spans are deleted.
    pub what: Deleted,
    /// Of those the ones that began in this range, nanoseconds since 1970.
    pub range: TimeRange,
    /// When it was asked for, milliseconds since 1970.
    pub created_ms: i64,
    /// Whether it can still be cancelled.
    pub cancellable: bool,
}

impl Inner {
    /// Deletes what there is of these spans.
    pub(super) fn delete(&self, what: Deleted, range: TimeRange) -> Result<u64> {
        self.check_open()?;
        let words = what.words();
        if words.len() > DELETE_BYTES_MAX {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "a delete of {} bytes is larger than {DELETE_BYTES_MAX} bytes; use shorter conditions",
                    words.len()
                ),
            ));
        }
        // What could not be read again would keep the store from opening.
        let unread = Delete {
            number: 0,
            sequence: 0,
            range,
            what: words.clone(),
            created_ms: 0,
        };
        if Tombstone::from_catalog(unread).is_err() {
            let what = "the conditions of a delete are nested too deep; use fewer levels";
            return Err(Error::new(Kind::Limit, what));
        }
        self.require_writer()?;
        let _deleting = self.deleting.lock();
        self.catch_up()?;
        if self.tombstones().len() >= self.config.deletes_max {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "deletes_max ({}) deletes are not done with yet; ask again later",
                    self.config.deletes_max
                ),
            ));
        }
        self.flush()?;
        let version = self.blocks.version();
        let delete = Delete {
            number: version.next_delete(),
            sequence: version.wal_position,
            range,
            what: words,
            created_ms: self.clock.now_ms(),
        };
        let number = delete.number;
        let edit = Edit {
            delete: Some(delete.clone()),
            ..Edit::default()
        };
        let tombstone = Arc::new(Tombstone { delete, what });
        self.blocks.commit(&edit, || {
            let mut tombstones = self.tombstones.write();
            Arc::make_mut(&mut tombstones).push(tombstone);
        })?;
        Ok(number)
    }

    /// Takes a delete back.
    pub(super) fn cancel_delete(&self, number: u64) -> Result<()> {
        self.check_open()?;
        self.require_writer()?;
        let _deleting = self.deleting.lock();
        self.catch_up()?;
        let tombstones = self.tombstones();
        let found = tombstones.iter().find(|held| held.delete.number == number);
        let Some(tombstone) = found else {
            return Err(Error::invalid(format!("there is no delete {number}")));
        };
        if self.is_due(&tombstone.delete) {
            return Err(Error::invalid(format!(
                "delete {number} is carried out already; it could be cancelled for {:?}",
                self.config.delete_delay
            )));
        }
        self.forget(&[number])
    }

    /// Whether files are written without what this deletes: it cannot be cancelled any more.
    pub(super) fn is_due(&self, delete: &Delete) -> bool {
        let delay_ms = nanos(self.config.delete_delay) / 1_000_000;
        delete.number <= self.carried_out.load(Ordering::Relaxed)
            || delete.created_ms.saturating_add(delay_ms) <= self.clock.now_ms()
    }

    /// What a file that is written now is to leave out: deletes that are due, all of them when
    /// `at_once`, and what is expired. None of these deletes can be cancelled from now on.
    pub(super) fn carry_out(&self, at_once: bool) -> Hidden {
        let _deleting = self.deleting.lock();
        let mut hidden = self.hidden();
        let all = hidden.tombstones.iter();
        // By number, so that one number says which a file has left behind.
        let due = all.take_while(|held| at_once || self.is_due(&held.delete));
        let due: Tombstones = due.cloned().collect();
        if let Some(last) = due.last() {
            self.carried_out
                .fetch_max(last.delete.number, Ordering::Relaxed);
        }
        hidden.tombstones = Arc::new(due);
        hidden
    }

    /// The deletes that are in force.
    pub(super) fn deletes(&self) -> Vec<Deletion> {
        let tombstones = self.tombstones();
        let deletion = |held: &Arc<Tombstone>| Deletion {
            number: held.delete.number,
            what: held.what.clone(),
            range: held.delete.range,
            created_ms: held.delete.created_ms,
            cancellable: !self.is_due(&held.delete),
        };
        tombstones.iter().map(deletion).collect()
    }

    pub(super) fn tombstones(&self) -> Arc<Tombstones> {
        Arc::clone(&self.tombstones.read())
    }

    /// What is not to be seen now.
    pub(super) fn hidden(&self) -> Hidden {
        Hidden {
            tombstones: self.tombstones(),
            retention: Arc::clone(&self.retention),
            now_ns: self.clock.now_ns(),
        }
    }

    /// Lets go of deletes, by number; `deleting` is held.
    pub(super) fn forget(&self, numbers: &[u64]) -> Result<()> {
        let edit = Edit {
            forget_deletes: numbers.to_vec(),
            ..Edit::default()
        };
        self.blocks.commit(&edit, || {
            let mut tombstones = self.tombstones.write();
            Arc::make_mut(&mut tombstones).retain(|held| !numbers.contains(&held.delete.number));
        })?;
        for block in &self.blocks.version().blocks {
            block.reader.veil.forget(numbers);
        }
        Ok(())
    }

    /// Seals, and makes `target` a store with all that is sealed.
    pub(super) fn backup(&self, target: &Path) -> Result<()> {
        self.check_open()?;
        self.flush()?;
        self.blocks.backup(&self.blocks.version(), target)
    }
}
