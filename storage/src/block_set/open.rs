//! Opens a block set: what the depot and the local catalog say, and what a crash has left behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::files::{Files, Place};
use super::link::{Link, Trouble};
use super::ship::prune;
use super::{Block, BlockReader, BlockSet, State, Version};
use crate::catalog::{BlockMeta, Catalog, Delete, Document};
use crate::clock::Clock;
use crate::depot::Depot;
use crate::error::{Error, Kind, Result};
use crate::fs::Fs;
use crate::ulid::{BlockId, IdSource};

impl<R: BlockReader> BlockSet<R> {
    /// Opens the set under `store`: the file `catalog` and the directory `blocks`. A block that
    /// cannot be read is quarantined: it stays where it is and is not served.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] or [`Kind::Unsupported`] when the catalog cannot be read,
    /// [`Kind::Unsupported`] when the store was shipped and has its blocks elsewhere, [`Kind::Io`].
    pub fn open(fs: Arc<dyn Fs>, store: &Path) -> Result<Self> {
        let files = begin(fs, store)?;
        let adopted = Catalog::new(Arc::clone(&files.fs), &store.join("shipped"));
        if adopted.load()?.version > 0 {
            let what = format!(
                "most of the blocks of {} are in object storage; start with --storage, or get them with `trine restore`",
                store.display()
            );
            return Err(Error::new(Kind::Unsupported, what));
        }
        let catalog = Catalog::new(Arc::clone(&files.fs), &store.join("catalog"));
        let mut local = catalog.load()?;
        if local.version == 0 {
            // A store that never had a catalog has no blocks: they would be lost without it.
            refuse_blocks(&files, &Document::default())?;
            local.version = 1;
            catalog.swap(&local)?;
        }
        let salt = xxh3_64_with_seed(files.dir.as_os_str().as_encoded_bytes(), local.version);
        let state = State::new(catalog, local, Arc::default());
        Self::assemble(files, state, salt, None)
    }

    /// Opens the set under `store`, whose blocks are shipped to `depot` where there is one. Blocks that
    /// are not on this disk are read from there; opening them asks nothing.
    ///
    /// # Errors
    /// As [`BlockSet::open`]; [`Kind::Unavailable`] when the depot does not answer and nothing is known
    /// here of what it has; [`Kind::Invalid`] when it knows less than was seen of it here.
    pub fn open_with(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        store: &Path,
        depot: Option<Arc<dyn Depot>>,
    ) -> Result<Self> {
        let Some(depot) = depot else {
            return Self::open(fs, store);
        };
        let files = begin(fs, store)?;
        files.look_at(&*clock);
        let catalog = Catalog::new(Arc::clone(&files.fs), &store.join("catalog"));
        let adopted = Catalog::new(Arc::clone(&files.fs), &store.join("shipped"));
        let mut local = catalog.load()?;
        let newest = newest(&*depot, &adopted, local.version > 0)?;
        if local.version == 0 {
            refuse_blocks(&files, &newest.shipped)?;
            // The log goes on behind what was ever shipped, so that positions rise over all
            // directories.
            local.version = 1;
            local.wal_position = newest.shipped.floor();
            catalog.swap(&local)?;
        } else {
            let mut next = prune(&local, &newest.shipped, depot.instance());
            if newest.failed.is_none() {
                renumber(&mut next.deletes, &newest.shipped);
            }
            if next != local {
                next.version += 1;
                catalog.swap(&next)?;
                local = next;
            }
        }
        // Both versions rise with the blocks that were ever committed here, so that even a clock that
        // stands still never gives an id twice; another directory of the same path has another
        // instance.
        let mut salt = files.dir.as_os_str().as_encoded_bytes().to_vec();
        salt.extend_from_slice(depot.instance().as_bytes());
        salt.extend_from_slice(&newest.shipped.version.to_le_bytes());
        let salt = xxh3_64_with_seed(&salt, local.version);
        let mut state = State::new(catalog, local, newest.shipped);
        let now_ms = clock.now_ms();
        if newest.failed.is_some() {
            // Any of them may be shipped.
            let blocks = state.local.blocks.iter();
            let shippable = blocks.filter(|meta| R::is_shippable(meta));
            state.doubtful = shippable.map(|meta| meta.id).collect();
        }
        let link = Link {
            depot,
            clock,
            adopted,
            shipping: Mutex::new(()),
            deciding: Mutex::new(()),
            copying: Mutex::new(()),
            behind: AtomicBool::new(newest.failed.is_some()),
            trouble: Mutex::new(Trouble {
                since_ms: now_ms,
                followed_ms: if newest.failed.is_some() { 0 } else { now_ms },
                failed: newest.failed,
            }),
            lost: Mutex::default(),
        };
        let set = Self::assemble(files, state, salt, Some(link))?;
        set.tell();
        Ok(set)
    }

    fn assemble(files: Arc<Files>, state: State, salt: u64, link: Option<Link>) -> Result<Self> {
        let set = Self {
            ids: IdSource::new(salt),
            current: RwLock::new(Arc::new(Version {
                number: 0,
                wal_position: 0,
                blocks: Vec::new(),
                deletes: Vec::new(),
                deletes_given: 0,
            })),
            state: Mutex::new(state),
            quarantined: Mutex::default(),
            failed: Mutex::default(),
            files,
            link,
        };
        let state = set.state.lock();
        sweep(&set.files, &state)?;
        let mut blocks = set.open_shipped(&state.shipped)?;
        let shipped: BTreeSet<BlockId> = state.shipped.blocks.iter().map(|meta| meta.id).collect();
        let unshipped = state.local.blocks.iter();
        for meta in unshipped.filter(|meta| !shipped.contains(&meta.id)) {
            match set.open_local(meta, false) {
                Ok(block) => blocks.push(Arc::new(block)),
                Err(error) => set.quarantined.lock().push(error),
            }
        }
        set.publish(&state, blocks, || {});
        drop(state);
        Ok(set)
    }

    /// Opens a block whose file is on this disk.
    pub(super) fn open_local(&self, meta: &BlockMeta, is_shipped: bool) -> Result<Block<R>> {
        let depot = self.link.as_ref().map(|link| Arc::clone(&link.depot));
        let place = Place::Local(self.files.local(meta.id, is_shipped), depot);
        open_at(place, meta)
    }
}

impl State {
    fn new(catalog: Catalog, local: Document, shipped: Arc<Document>) -> Self {
        Self {
            catalog,
            local,
            shipped,
            busy: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            pending: Vec::new(),
            own_deletes: BTreeSet::new(),
        }
    }
}

/// Opens a block where it is.
pub(super) fn open_at<R: BlockReader>(place: Place, meta: &BlockMeta) -> Result<Block<R>> {
    let file = place.open(meta, R::KIND, R::FIRST_SECTIONS)?;
    let reader = R::open(file.clone(), meta)?;
    Ok(Block {
        meta: meta.clone(),
        reader,
        file,
        place,
    })
}

fn begin(fs: Arc<dyn Fs>, store: &Path) -> Result<Arc<Files>> {
    let dir = store.join("blocks");
    fs.create_dir_all(&dir)
        .map_err(|e| Error::io(format!("create {}", dir.display()), e))?;
    // A process may have died between giving a catalog its name and syncing that: what follows from the
    // catalog, as letting go of the log, must not outlive it.
    fs.sync_dir(store)
        .map_err(|e| Error::io(format!("sync {}", store.display()), e))?;
    Ok(Arc::new(Files::new(fs, dir)))
}

/// What is shipped, as far as that can be found out.
struct Newest {
    shipped: Arc<Document>,
    /// Why it may be more.
    failed: Option<Error>,
}

/// Asks the depot, or goes on with what was adopted last.
fn newest(depot: &dyn Depot, adopted: &Catalog, has_catalog: bool) -> Result<Newest> {
    let known = adopted.load();
    let told = match depot.newest(0) {
        Ok(told) => told.unwrap_or_default(),
        Err(error) if error.kind() == Kind::Unavailable => {
            let known = known?;
            if known.version == 0 && !has_catalog {
                return Err(error);
            }
            return Ok(Newest {
                shipped: Arc::new(known),
                failed: Some(error),
            });
        }
        Err(error) => return Err(error),
    };
    match known {
        Ok(known) if known.version > told.version => {
            let what = format!(
                "{} has version {} of what is shipped, this directory has seen version {}; name the place that it was shipped to, or remove the file \"shipped\" to begin anew there",
                depot.name(),
                told.version,
                known.version
            );
            return Err(Error::invalid(what));
        }
        Ok(known) if known == *told => {}
        // What cannot be read here is told anew.
        Ok(_) => adopted.put(&told)?,
        Err(error) if error.kind() == Kind::Corrupt => adopted.put(&told)?,
        Err(error) => return Err(error),
    }
    Ok(Newest {
        shipped: told,
        failed: None,
    })
}

/// Gives deletes of a store that was local before numbers that the depot has not given to others.
fn renumber(deletes: &mut [Delete], shipped: &Document) {
    let taken = shipped.deletes.iter().map(|delete| delete.number);
    let taken = taken.fold(shipped.deletes_given, u64::max);
    let last = deletes.iter().map(|delete| delete.number).max();
    let mut next = last.unwrap_or(0).max(taken);
    for delete in deletes.iter_mut().filter(|delete| delete.number <= taken) {
        next += 1;
        delete.number = next;
    }
    deletes.sort_by_key(|delete| delete.number);
}

/// Refuses a store that has blocks and no catalog.
fn refuse_blocks(files: &Files, shipped: &Document) -> Result<()> {
    let shown = files.dir.display();
    let entries = files
        .fs
        .list(&files.dir)
        .map_err(|e| Error::io(format!("list {shown}"), e))?;
    let copies = names(&shipped.blocks);
    let blocks = entries
        .iter()
        .filter(|e| e.name.ends_with(".block") && !copies.contains(&e.name))
        .count();
    if blocks == 0 {
        return Ok(());
    }
    let what = format!(
        "{blocks} blocks are in {shown} but no catalog that names them; restore the file \"catalog\" beside it, or move the blocks away to begin anew"
    );
    Err(Error::new(Kind::Corrupt, what))
}

/// Removes the files that no version of the catalog will ever name: half-written blocks and those
/// that were removed while somebody still read them.
fn sweep(files: &Files, state: &State) -> Result<()> {
    let entries = files
        .fs
        .list(&files.dir)
        .map_err(|e| Error::io(format!("list {}", files.dir.display()), e))?;
    let mut known = names(&state.local.blocks);
    known.extend(names(&state.shipped.blocks));
    for entry in entries {
        let ours = entry.name.ends_with(".tmp") || entry.name.ends_with(".block");
        if ours && !known.contains(&entry.name) {
            let path = files.dir.join(&entry.name);
            files
                .fs
                .remove_file(&path)
                .map_err(|e| Error::io(format!("remove {}", path.display()), e))?;
        }
    }
    Ok(())
}

fn names(blocks: &[BlockMeta]) -> BTreeSet<String> {
    blocks.iter().map(|m| format!("{}.block", m.id)).collect()
}
