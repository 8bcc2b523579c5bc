//! Changes of the local catalog, and of what is deleted; the plans of merges.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::link::Link;
use super::{Block, BlockReader, BlockSet, Edit, State, Version};
use crate::catalog::{Delete, Document};
use crate::depot::ShipEdit;
use crate::error::{Error, Kind, Result};
use crate::ulid::BlockId;

/// A delete that another data directory may have asked for is not forgotten before it is this old,
/// milliseconds: a day. A directory that is away for longer may bring back rows that it had deleted and
/// not shipped.
pub const DELETE_KEPT_MS: i64 = 24 * 3_600_000;

impl<R: BlockReader> BlockSet<R> {
    /// Makes a change, durably and as one. `publish` runs at the moment of the change, before
    /// anybody can [`BlockSet::read`] the new version: there an engine lets go of the memory that
    /// the new blocks hold.
    ///
    /// Blocks that are added are on this disk only, and only such may be removed: what replaces others
    /// goes through [`BlockSet::replace`]. Deletes are decided by the depot where there is one: this
    /// then waits for its answer.
    ///
    /// # Errors
    /// [`Kind::Io`]: the change may or may not be there after a restart, so every later change is
    /// refused with [`Kind::Poisoned`]. Reads go on with the old version. [`Kind::Invalid`] when a
    /// shipped block is to be removed. For deletes also what the depot says: [`Kind::Unavailable`],
    /// and then the delete is in force from the next [`BlockSet::follow`] on if it came through;
    /// [`Kind::Locked`] and [`Kind::ReadOnly`] where this process is not the writer.
    pub fn commit(&self, edit: &Edit, publish: impl FnOnce()) -> Result<()> {
        let deletes = edit.delete.is_some() || !edit.forget_deletes.is_empty();
        match &self.link {
            Some(link) if deletes => self.commit_deletes(link, edit, publish),
            _ => self.commit_local(&mut self.state.lock(), edit, publish),
        }
    }

    /// Makes a change of what merges and retention do: blocks for others, or for nothing. Where the
    /// blocks that go are shipped, the change waits until [`BlockSet::ship`] has got the depot's
    /// consent: until then they are served, and they are not [mergeable](BlockSet::mergeable). A plan
    /// that does not hold any more, because one of its blocks is gone or is just being shipped, is
    /// dropped: nothing changes, and the planner finds something else to do.
    ///
    /// # Errors
    /// As [`BlockSet::commit`].
    pub fn replace(&self, edit: Edit) -> Result<()> {
        let mut state = self.state.lock();
        let Some(link) = &self.link else {
            return self.commit_local(&mut state, &edit, || {});
        };
        let named =
            |document: &Document, id: &BlockId| document.blocks.iter().any(|meta| meta.id == *id);
        let is_free = |id: &&BlockId| !state.busy.contains(id) && !state.doubtful.contains(id);
        let free: Vec<BlockId> = edit.remove.iter().filter(is_free).copied().collect();
        let (shipped, others): (Vec<BlockId>, Vec<BlockId>) =
            free.iter().partition(|id| named(&state.shipped, id));
        let local: Vec<BlockId> = others
            .into_iter()
            .filter(|id| named(&state.local, id))
            .collect();
        let is_whole = |part: &[BlockId]| part.len() == edit.remove.len();
        if edit.add.is_empty() {
            // Every block for itself.
            if !local.is_empty() {
                let edit = Edit {
                    remove: local,
                    ..Edit::default()
                };
                self.commit_local(&mut state, &edit, || {})?;
            }
            if !shipped.is_empty() {
                link.require_writer()?;
                state.busy.extend(&shipped);
                let mut pending = state.pending.iter_mut();
                match pending.find(|pending| pending.add.is_empty()) {
                    Some(pending) => pending.remove.extend(shipped),
                    None => state.pending.push(Edit {
                        remove: shipped,
                        ..Edit::default()
                    }),
                }
            }
            Ok(())
        } else if is_whole(&local) {
            self.commit_local(&mut state, &edit, || {})
        } else if is_whole(&shipped) {
            link.require_writer()?;
            // From here on the files are not removed with their writer.
            self.files.take_in(&edit.add)?;
            state.busy.extend(&shipped);
            state.pending.push(edit);
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Changes what this disk alone knows.
    pub(super) fn commit_local(
        &self,
        state: &mut State,
        edit: &Edit,
        publish: impl FnOnce(),
    ) -> Result<()> {
        self.check_healthy()?;
        let shipped = &state.shipped.blocks;
        if let Some(meta) = shipped.iter().find(|meta| edit.remove.contains(&meta.id)) {
            let what = format!("block {} is shipped, it cannot be removed here", meta.id);
            return Err(Error::invalid(what));
        }
        let (next, added) = self.poison(self.install(state, edit))?;
        state.local = next;
        self.publish(state, added, publish);
        Ok(())
    }

    /// Gives the new files their names, opens them, and swaps the catalog.
    fn install(&self, state: &State, edit: &Edit) -> Result<(Document, Vec<Arc<Block<R>>>)> {
        self.files.take_in(&edit.add)?;
        let added = edit
            .add
            .iter()
            .map(|meta| self.open_local(meta, false).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        let mut next = state.local.clone();
        next.version += 1;
        next.wal_position = edit.wal_position.unwrap_or(next.wal_position);
        next.blocks.retain(|meta| !edit.remove.contains(&meta.id));
        next.blocks.extend(edit.add.iter().cloned());
        next.deletes
            .retain(|delete| !edit.forget_deletes.contains(&delete.number));
        next.deletes.extend(edit.delete.clone());
        state.catalog.swap(&next)?;
        Ok((next, added))
    }

    /// Whether a delete that concerns none of these blocks any more may be forgotten. One that was asked
    /// for here may: what it was to hide was seen here. Another data directory may have asked for any
    /// other one, and may still have to ship rows that it deleted: such a delete stays for
    /// [`DELETE_KEPT_MS`], so that it is there when they come.
    pub fn may_forget(&self, delete: &Delete) -> bool {
        let Some(link) = &self.link else {
            return true;
        };
        delete.created_ms.saturating_add(DELETE_KEPT_MS) <= link.clock.now_ms()
            || self.state.lock().own_deletes.contains(&delete.number)
    }

    /// Asks the depot for a change of what is deleted, and sees to the rest here.
    fn commit_deletes(&self, link: &Link, edit: &Edit, publish: impl FnOnce()) -> Result<()> {
        link.require_writer()?;
        let _deciding = link.deciding.lock();
        self.check_healthy()?;
        if link.is_behind() {
            let what = format!(
                "it is not known yet what {} has; ask again in a moment",
                link.depot.name()
            );
            return Err(Error::new(Kind::Unavailable, what));
        }
        let asked = ShipEdit {
            delete: edit.delete.clone().into_iter().collect(),
            forget_deletes: edit.forget_deletes.clone(),
            ..ShipEdit::default()
        };
        let document = self.decide(link, &asked)?;
        // It is in force after a restart, too, when the depot is away then.
        let kept = link.adopted.put(&document);
        kept.inspect_err(|_| link.set_behind(true))?;
        let rest = Edit {
            add: edit.add.clone(),
            remove: edit.remove.clone(),
            wal_position: edit.wal_position,
            delete: None,
            forget_deletes: edit.forget_deletes.clone(),
        };
        let mut state = self.state.lock();
        let asked_here = edit.delete.iter().map(|delete| delete.number);
        state.own_deletes.extend(asked_here);
        let left = |number: &u64| document.deletes.iter().any(|d| d.number == *number);
        state.own_deletes.retain(left);
        let forgets = |delete: &Delete| edit.forget_deletes.contains(&delete.number);
        let is_local = !rest.add.is_empty()
            || !rest.remove.is_empty()
            || rest.wal_position.is_some()
            || state.local.deletes.iter().any(forgets);
        state.shipped = document;
        if is_local {
            return self.commit_local(&mut state, &rest, publish);
        }
        self.publish(&state, Vec::new(), publish);
        Ok(())
    }

    /// Refuses changes after one whose outcome is not known.
    pub(super) fn check_healthy(&self) -> Result<()> {
        match &*self.failed.lock() {
            Some(error) => Err(Error::caused_by(
                Kind::Poisoned,
                format!("an earlier change of the catalog failed: {error}"),
                error.clone(),
            )),
            None => Ok(()),
        }
    }

    /// Remembers that the outcome of a change of the catalog is not known.
    pub(super) fn poison<T>(&self, changed: Result<T>) -> Result<T> {
        changed.inspect_err(|error| *self.failed.lock() = Some(error.clone()))
    }

    /// Makes a version of what the documents say. The open blocks stay as they are, but for those that
    /// `opened` has afresh; what is gone goes with its last reader.
    pub(super) fn publish(
        &self,
        state: &State,
        opened: Vec<Arc<Block<R>>>,
        publish: impl FnOnce(),
    ) {
        let old = self.version();
        let held = old.blocks.iter().cloned().chain(opened);
        let mut open: BTreeMap<BlockId, Arc<Block<R>>> = BTreeMap::new();
        let mut gone = Vec::new();
        for block in held {
            gone.extend(open.insert(block.meta.id, block));
        }
        if let Some(link) = &self.link {
            let lost = link.lost.lock();
            gone.extend(lost.keys().filter_map(|id| open.remove(id)));
        }
        let mut blocks = Vec::with_capacity(open.len());
        for meta in &state.shipped.blocks {
            if let Some(block) = open.remove(&meta.id) {
                block.place.set_shipped();
                blocks.push(block);
            }
        }
        for meta in &state.local.blocks {
            blocks.extend(open.remove(&meta.id));
        }
        let mut deletes = state.shipped.deletes.clone();
        let numbers: Vec<u64> = deletes.iter().map(|delete| delete.number).collect();
        let own = state.local.deletes.iter();
        deletes.extend(own.filter(|own| !numbers.contains(&own.number)).cloned());
        deletes.sort_by_key(|delete| delete.number);
        let version = Arc::new(Version {
            number: state.local.version + state.shipped.version,
            wal_position: state.local.wal_position,
            blocks,
            deletes,
            deletes_given: state.shipped.deletes_given,
        });
        {
            let mut current = self.current.write();
            publish();
            *current = version;
        }
        drop(old);
        for block in gone.into_iter().chain(open.into_values()) {
            if let Some(file) = block.place.local() {
                file.remove();
            }
        }
    }
}
