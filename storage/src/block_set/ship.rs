//! Ships blocks to the depot, and follows what others ship.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::files::Place;
use super::link::{Link, Lost};
use super::open::open_at;
use super::{Block, BlockReader, BlockSet, Edit, State, Version};
use crate::catalog::{BlockMeta, Delete, Document};
use crate::depot::{Depot, Guard, ShipEdit, ShipState};
use crate::error::{Error, Kind, Result};
use crate::sealed::Damage;
use crate::ulid::BlockId;

/// A batch has no more blocks than this, unless they are of one sequence.
const BATCH_BLOCKS_MAX: usize = 64;
/// A batch has no more bytes than this, unless they are of one sequence.
const BATCH_BYTES_MAX: u64 = 1 << 30;
/// No merge is planned while this many wait for the depot.
const PENDING_MAX: usize = 4;
/// When the depot does not answer for this long, blocks are merged that were not shipped yet.
const SILENT_MS_MAX: i64 = 600_000;

/// What [`BlockSet::ship`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Blocks that are in the depot now and were not before.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Changes of shipped blocks that were made: merges and retention.
    pub replaced: u64,
}

impl Shipped {
    /// Whether there was nothing to do, or nothing that could be done.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl<R: BlockReader> BlockSet<R> {
    /// The depot that blocks are shipped to.
    pub fn depot(&self) -> Option<&Arc<dyn Depot>> {
        self.link.as_ref().map(|link| &link.depot)
    }

    /// Whether the depot may have decided more than is seen here: then nothing is shipped before the
    /// next [`BlockSet::follow`].
    pub fn is_behind(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_behind)
    }

    /// The position that the log has to go on at, at least, so that what is appended from now on is
    /// later than all blocks and is not concerned by the deletes there are.
    pub fn floor(&self) -> u64 {
        let state = self.state.lock();
        state.shipped.floor().max(state.local.floor())
    }

    /// The blocks that a merge or a retention may take: with a depot the shipped ones that nothing
    /// waits for, and none where this process is not the writer. When the depot is away for more than
    /// ten minutes they are those that were not shipped yet, so that small blocks do not pile up.
    pub fn mergeable(&self, version: &Version<R>) -> Vec<Arc<Block<R>>> {
        let Some(link) = &self.link else {
            return version.blocks.clone();
        };
        if !link.depot.role().is_writer() {
            return Vec::new();
        }
        let is_silent = link.silent_ms() > SILENT_MS_MAX;
        let state = self.state.lock();
        if !is_silent && state.pending.len() >= PENDING_MAX {
            return Vec::new();
        }
        let is_free = |block: &&Arc<Block<R>>| {
            let id = &block.meta.id;
            let is_meant = match is_silent {
                true => !block.is_shipped() && R::is_shippable(&block.meta),
                false => block.is_shipped(),
            };
            is_meant && !state.busy.contains(id) && !state.doubtful.contains(id)
        };
        version.blocks.iter().filter(is_free).cloned().collect()
    }

    /// Ships what is on this disk only, oldest first, and makes the changes of shipped blocks that
    /// [`BlockSet::replace`] was asked for. Does nothing where this process is not the writer, and when
    /// it [is behind](BlockSet::is_behind). `check` is asked from time to time; its error ends this.
    ///
    /// # Errors
    /// What `check` says; [`Kind::Unavailable`] when the depot does not answer, [`Kind::Locked`] when
    /// another process has taken it over: everything stays as it is and is tried again by the next
    /// call. [`Kind::Io`] and [`Kind::Poisoned`] as for [`BlockSet::commit`].
    ///
    /// # Durability
    /// A block whose [`Block::is_shipped`] is true is in the depot, whatever happens to this disk.
    pub fn ship(&self, check: &dyn Fn() -> Result<()>) -> Result<Shipped> {
        let Some(link) = &self.link else {
            return Ok(Shipped::default());
        };
        let _shipping = link.shipping.lock();
        // What could not be seen here would be sent again and again.
        self.check_healthy()?;
        let mut done = Shipped::default();
        let result = self
            .ship_batches(link, check, &mut done)
            .and_then(|()| self.ship_pending(link, check, &mut done));
        self.tell();
        result.map(|()| done)
    }

    fn ship_batches(
        &self,
        link: &Link,
        check: &dyn Fn() -> Result<()>,
        done: &mut Shipped,
    ) -> Result<()> {
        while link.depot.role().is_writer() && !link.is_behind() {
            check()?;
            let batch = {
                let mut state = self.state.lock();
                let batch = batch::<R>(&state, &self.version());
                state.busy.extend(batch.iter().map(|meta| meta.id));
                batch
            };
            if batch.is_empty() {
                return Ok(());
            }
            let shipped = self.ship_batch(link, check, &batch);
            let mut state = self.state.lock();
            for meta in &batch {
                state.busy.remove(&meta.id);
            }
            drop(state);
            if shipped? {
                done.blocks += batch.len() as u64;
                done.bytes += batch.iter().map(|meta| meta.bytes).sum::<u64>();
            }
        }
        Ok(())
    }

    /// Ships blocks; gives whether this is seen here already.
    fn ship_batch(
        &self,
        link: &Link,
        check: &dyn Fn() -> Result<()>,
        batch: &[BlockMeta],
    ) -> Result<bool> {
        let guards = self.upload(link, check, batch)?;
        check()?;
        let _deciding = link.deciding.lock();
        if link.is_behind() {
            return Ok(false);
        }
        let edit = ShipEdit {
            add: batch.to_vec(),
            // A store that was local before has some.
            delete: self.state.lock().local.deletes.clone(),
            is_batch: true,
            wal_position: batch.iter().map(|meta| meta.sequence).max(),
            ..ShipEdit::default()
        };
        let adopted = self.decide(link, &edit);
        if link.is_behind() {
            // The depot may know them, or does and knows more.
            let ids = batch.iter().map(|meta| meta.id);
            self.state.lock().doubtful.extend(ids);
            return adopted.map(|_| false);
        }
        self.adopt(link, adopted?, || {})?;
        drop(guards);
        Ok(true)
    }

    fn upload(
        &self,
        link: &Link,
        check: &dyn Fn() -> Result<()>,
        metas: &[BlockMeta],
    ) -> Result<Vec<Guard>> {
        let mut guards = Vec::with_capacity(metas.len());
        for meta in metas {
            let path = self.files.block(meta.id);
            let file = self
                .files
                .fs
                .open(&path)
                .map_err(|e| Error::io(format!("open {}", path.display()), e))?;
            let upload = link.depot.upload(meta.id, &*file, check);
            guards.push(link.heard(upload)?);
        }
        Ok(guards)
    }

    /// Makes the changes of shipped blocks that wait.
    fn ship_pending(
        &self,
        link: &Link,
        check: &dyn Fn() -> Result<()>,
        done: &mut Shipped,
    ) -> Result<()> {
        while link.depot.role().is_writer() && !link.is_behind() {
            check()?;
            let Some((add, remove)) = self.next_pending() else {
                return Ok(());
            };
            let guards = self.upload(link, check, &add)?;
            check()?;
            let _deciding = link.deciding.lock();
            if link.is_behind() {
                return Ok(());
            }
            let edit = ShipEdit {
                add,
                remove,
                ..ShipEdit::default()
            };
            match self.decide(link, &edit) {
                Ok(document) if !link.is_behind() => self.adopt(link, document, || {})?,
                Ok(_) => return Ok(()),
                // Another writer has changed the store: the plan is void.
                Err(error) if error.kind() == Kind::Invalid => self.forget_plan(&edit),
                Err(error) => return Err(error),
            }
            drop(guards);
            done.replaced += 1;
        }
        Ok(())
    }

    fn next_pending(&self) -> Option<(Vec<BlockMeta>, Vec<BlockId>)> {
        let state = self.state.lock();
        let pending = state.pending.first()?;
        Some((pending.add.clone(), pending.remove.clone()))
    }

    /// Gives up a change that waited.
    fn forget_plan(&self, plan: &ShipEdit) {
        let mut state = self.state.lock();
        for id in &plan.remove {
            state.busy.remove(id);
        }
        let (void, left): (Vec<Edit>, Vec<Edit>) = std::mem::take(&mut state.pending)
            .into_iter()
            .partition(|pending| pending.add == plan.add);
        state.pending = left;
        self.remove_outputs(&state, &void);
    }

    /// Removes the files of merges that came to nothing. If that fails they are orphans, which the next
    /// open sweeps.
    fn remove_outputs(&self, state: &State, plans: &[Edit]) {
        let shipped = ids(&state.shipped);
        for meta in plans.iter().flat_map(|plan| &plan.add) {
            if !shipped.contains(&meta.id) {
                self.files.fs.remove_file(&self.files.block(meta.id)).ok();
            }
        }
    }

    /// Asks the depot for a change; the lock for that is held. When others have changed something, too,
    /// or the answer is missing, this set is behind after it: only the deletes that were asked for may
    /// be seen before it follows. They are in what is given then, and nothing else that is new.
    pub(super) fn decide(&self, link: &Link, edit: &ShipEdit) -> Result<Arc<Document>> {
        let known = Arc::clone(&self.state.lock().shipped);
        let expected = edit.applied_to(&known, link.depot.instance());
        match link.heard(link.depot.commit(edit)) {
            Ok(adopted) => {
                let is_expected = |expected: &Document| {
                    ids(expected) == ids(&adopted.document)
                        && expected.deletes == adopted.document.deletes
                };
                if !adopted.is_foreign && expected.is_ok_and(|expected| is_expected(&expected)) {
                    return Ok(adopted.document);
                }
                link.set_behind(true);
                let mut document = (*known).clone();
                edit.delete_in(&mut document)?;
                Ok(Arc::new(document))
            }
            Err(error) => {
                if !matches!(error.kind(), Kind::Invalid | Kind::ReadOnly) {
                    link.set_behind(true);
                }
                Err(error)
            }
        }
    }

    /// Looks what the depot has decided since, and makes it seen here. `read` makes of the deletes what
    /// the engine needs of them; its error leaves everything as it is. `publish` runs at the moment of
    /// the change, as for [`BlockSet::commit`]. No delete may be committed meanwhile. Gives whether
    /// there was anything new.
    ///
    /// # Errors
    /// What `read` says; [`Kind::Unavailable`] when the depot does not answer, [`Kind::Io`] and
    /// [`Kind::Poisoned`] as for [`BlockSet::commit`].
    pub fn follow<T>(
        &self,
        read: impl FnOnce(&[Delete]) -> Result<T>,
        publish: impl FnOnce(T),
    ) -> Result<bool> {
        let Some(link) = &self.link else {
            return Ok(false);
        };
        let result = self.follow_link(link, read, publish);
        self.tell();
        result
    }

    fn follow_link<T>(
        &self,
        link: &Link,
        read: impl FnOnce(&[Delete]) -> Result<T>,
        publish: impl FnOnce(T),
    ) -> Result<bool> {
        let _deciding = link.deciding.lock();
        let known = self.state.lock().shipped.version;
        let newest = link.heard(link.depot.newest(known))?;
        let is_new = newest.is_some();
        if let Some(next) = newest {
            if next.version < known {
                let what = format!(
                    "{} has version {} of what is shipped, version {known} was seen already",
                    link.depot.name(),
                    next.version
                );
                return Err(Error::invalid(what));
            }
            let mut deletes = next.deletes.clone();
            let own = prune(&self.state.lock().local, &next, link.depot.instance()).deletes;
            deletes.extend(own);
            deletes.sort_by_key(|delete| delete.number);
            let read = read(&deletes)?;
            self.adopt(link, next, || publish(read))?;
        }
        self.state.lock().doubtful.clear();
        link.set_behind(false);
        link.trouble.lock().followed_ms = link.clock.now_ms();
        Ok(is_new)
    }

    /// Makes `next` what is shipped; the lock for what the depot decides is held.
    fn adopt(&self, link: &Link, next: Arc<Document>, publish: impl FnOnce()) -> Result<()> {
        self.check_healthy()?;
        let adopted = link
            .adopted
            .put(&next)
            .and_then(|()| self.open_shipped(&next));
        // What the depot has decided stays so: it is seen by the next follow.
        let opened = adopted.inspect_err(|_| link.set_behind(true))?;
        let mut state = self.state.lock();
        let mut local = prune(&state.local, &next, link.depot.instance());
        if local != state.local {
            local.version += 1;
            self.poison(state.catalog.swap(&local))?;
            state.local = local;
        }
        state.shipped = next;
        self.settle(&mut state);
        self.publish(&state, opened, publish);
        Ok(())
    }

    /// Lets go of the changes that waited and are made, or cannot be made any more.
    fn settle(&self, state: &mut State) {
        let shipped = ids(&state.shipped);
        let is_there = |id: &BlockId| shipped.contains(id);
        let mut settled = Vec::new();
        for mut pending in std::mem::take(&mut state.pending) {
            let holds = if pending.add.is_empty() {
                pending.remove.retain(is_there);
                !pending.remove.is_empty()
            } else {
                pending.remove.iter().all(is_there)
                    && !pending.add.iter().any(|meta| is_there(&meta.id))
            };
            match holds {
                true => state.pending.push(pending),
                false => settled.push(pending),
            }
        }
        let waiting = state.pending.iter().flat_map(|pending| &pending.remove);
        let waiting: BTreeSet<BlockId> = waiting.copied().collect();
        let local = ids(&state.local);
        // What is neither local nor waits for anything is not busy.
        state
            .busy
            .retain(|id| waiting.contains(id) || local.contains(id));
        self.remove_outputs(state, &settled);
    }

    /// Opens the shipped blocks that are not open yet: copies where they are, the others without a
    /// request. Those that are damaged are not served.
    pub(super) fn open_shipped(&self, shipped: &Document) -> Result<Vec<Arc<Block<R>>>> {
        let Some(link) = &self.link else {
            return Ok(Vec::new());
        };
        let version = self.version();
        let open: BTreeSet<BlockId> = version.blocks.iter().map(|block| block.meta.id).collect();
        let mut lost = link.lost.lock();
        let named = ids(shipped);
        lost.retain(|id, _| named.contains(id));
        let mut opened = Vec::new();
        for meta in &shipped.blocks {
            if open.contains(&meta.id) || lost.contains_key(&meta.id) {
                continue;
            }
            match self
                .open_copy(meta)
                .map_or_else(|| self.open_remote(link, meta), Ok)
            {
                Ok(block) => opened.push(Arc::new(block)),
                Err(error) if error.kind() == Kind::Corrupt => {
                    let damage = Damage { error, page: None };
                    lost.insert(meta.id, Lost::new(meta, damage, link.clock.now_ms()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(opened)
    }

    /// Opens the copy of a shipped block. One that is not whole is removed: it is only a copy.
    fn open_copy(&self, meta: &BlockMeta) -> Option<Block<R>> {
        let path = self.files.block(meta.id);
        // Where there is none, nothing is opened.
        let bytes = self.files.fs.open(&path).ok()?.len();
        let copy = self.open_local(meta, true);
        match copy {
            Ok(copy) if bytes == meta.bytes => Some(copy),
            _ => {
                self.files.fs.remove_file(&path).ok();
                None
            }
        }
    }

    /// Opens a shipped block where it was shipped to.
    pub(super) fn open_remote(&self, link: &Link, meta: &BlockMeta) -> Result<Block<R>> {
        open_at(Place::Remote(Arc::clone(&link.depot)), meta)
    }

    /// Tells the depot how far this set has come.
    pub(super) fn tell(&self) {
        let Some(link) = &self.link else {
            return;
        };
        let quarantined = self.quarantined();
        let version = self.version();
        let waiting = version.blocks.iter().filter(|block| !block.is_shipped());
        let waiting: Vec<&BlockMeta> = waiting
            .map(|block| &block.meta)
            .filter(|meta| R::is_shippable(meta))
            .collect();
        let shipped = self.state.lock().shipped.version;
        let trouble = link.trouble.lock();
        link.depot.tell(ShipState {
            unshipped_blocks: waiting.len() as u64,
            unshipped_bytes: waiting.iter().map(|meta| meta.bytes).sum(),
            unshipped_since_ms: waiting.iter().map(|meta| meta.created_ms).min(),
            version: shipped,
            followed_ms: trouble.followed_ms,
            failed: trouble.failed.clone(),
            quarantined,
        });
    }
}

/// What is shipped next: the oldest blocks that are on this disk only, those of one sequence together,
/// so that what is unshipped is later than what is shipped.
fn batch<R: BlockReader>(state: &State, version: &Version<R>) -> Vec<BlockMeta> {
    let waiting = version.blocks.iter().filter(|block| {
        let id = &block.meta.id;
        !block.is_shipped() && !state.busy.contains(id) && R::is_shippable(&block.meta)
    });
    let mut sequences: BTreeMap<u64, Vec<&BlockMeta>> = BTreeMap::new();
    for block in waiting {
        sequences
            .entry(block.meta.sequence)
            .or_default()
            .push(&block.meta);
    }
    let mut batch: Vec<BlockMeta> = Vec::new();
    let mut bytes = 0;
    for metas in sequences.into_values() {
        bytes += metas.iter().map(|meta| meta.bytes).sum::<u64>();
        let blocks = batch.len() + metas.len();
        if !batch.is_empty() && (blocks > BATCH_BLOCKS_MAX || bytes > BATCH_BYTES_MAX) {
            break;
        }
        batch.extend(metas.into_iter().cloned());
    }
    batch
}

/// The local catalog without what is shipped. Its version is as it was.
pub(super) fn prune(local: &Document, shipped: &Document, instance: &str) -> Document {
    let mut gone = ids(shipped);
    gone.extend(shipped.shipped.get(instance).into_iter().flatten());
    let mut next = local.clone();
    next.blocks.retain(|meta| !gone.contains(&meta.id));
    next.deletes
        .retain(|delete| !shipped.deletes.contains(delete));
    next
}

fn ids(document: &Document) -> BTreeSet<BlockId> {
    document.blocks.iter().map(|meta| meta.id).collect()
}
