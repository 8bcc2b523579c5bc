//! All stores from a bucket to a directory that needs no bucket any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Blocks, Source, Transfer, block_key, store_dir};
use crate::catalog::{BlockMeta, Catalog, Document};
use crate::error::{Error, Kind, Result};
use crate::fs::{Fs, read_if_exists, replace};
use crate::remote::markers::StoreName;
use crate::sealed::SealedFile;

/// There as long as a directory holds a part of a copy only.
const MARKER: &str = "restoring";
/// Where in a sealed file its kind is.
const KIND_AT: std::ops::Range<u64> = 12..16;

/// Why nothing may be read of the data directory `dir`: a copy to it has not come to its end.
///
/// # Errors
/// [`Kind::Io`].
pub fn unfinished(fs: &dyn Fs, dir: &Path) -> Result<Option<Error>> {
    let path = dir.join(MARKER);
    let found = read_if_exists(fs, &path);
    let found = found.map_err(|e| Error::io(format!("read {}", path.display()), e))?;
    Ok(found.map(|text| {
        let text = String::from_utf8_lossy(&text);
        let from = text.lines().nth(1).unwrap_or("a bucket");
        let what = format!(
            "{} holds only a part of what is restored from {from}; run `trine restore` again to its end, or remove the directory",
            dir.display()
        );
        Error::invalid(what)
    }))
}

/// A copy to a data directory, which is locked by the caller.
#[derive(Debug)]
pub struct Fetch {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    root: PathBuf,
}

impl Fetch {
    /// Begins a copy of `source` to `dir`, or goes on with one that has not come to its end. The stores
    /// are below `dir/tenants`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the directory has stores already, or a part of another copy;
    /// [`Kind::Io`].
    pub fn begin(fs: Arc<dyn Fs>, dir: &Path, source: &Source) -> Result<Self> {
        let marker = dir.join(MARKER);
        let shown = marker.display();
        let root = dir.join("tenants");
        let text = format!("{}\n{}\n", source.identity(), source.name());
        let found = read_if_exists(&*fs, &marker);
        let found = found.map_err(|e| Error::io(format!("read {shown}"), e))?;
        match found {
            Some(found) if found.starts_with(format!("{}\n", source.identity()).as_bytes()) => {}
            Some(_) => {
                let what = format!(
                    "{} holds a part of another copy; run that again to its end, or remove the directory",
                    dir.display()
                );
                return Err(Error::invalid(what));
            }
            None if has_stores(&*fs, &root)? => {
                let what = format!(
                    "{} has stores already; name a directory that is empty or new",
                    dir.display()
                );
                return Err(Error::invalid(what));
            }
            None => replace(&*fs, &marker, text.as_bytes())?,
        }
        Ok(Self {
            fs,
            dir: dir.to_owned(),
            root,
        })
    }

    /// Fetches the stores, checks every block, and makes the directory one that a server starts on. Each
    /// store is as it was in the source at some time during the copy.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]; [`Kind::Corrupt`] when a block is damaged; [`Kind::Io`]; those of
    /// [`Transfer::check`]. Do it again after any of them: what was fetched stays.
    ///
    /// # Durability
    /// Everything is synced when this returns.
    pub fn run(&self, source: &Source, transfer: &Transfer) -> Result<()> {
        let stores = u64::try_from(source.stores.len()).unwrap_or(u64::MAX);
        transfer.progress.plan_stores(stores);
        for name in &source.stores {
            (transfer.check)()?;
            if let Some(blocks) = Blocks::load(source, name)? {
                self.fetch_store(blocks, name, transfer)?;
            }
            transfer.progress.store_done();
        }
        let io = |e| Error::io(format!("write to {}", self.dir.display()), e);
        self.fs.sync_dir(&self.dir).map_err(io)?;
        self.fs.remove_file(&self.dir.join(MARKER)).map_err(io)?;
        self.fs.sync_dir(&self.dir).map_err(io)
    }

    fn fetch_store(&self, mut blocks: Blocks, name: &StoreName, transfer: &Transfer) -> Result<()> {
        let store = store_dir(&self.root, name)?;
        let dir = store.join("blocks");
        let io = |e| Error::io(format!("write to {}", dir.display()), e);
        self.fs.create_dir_all(&dir).map_err(io)?;
        let from = blocks.bucket.clone();
        let file_of = |meta: &BlockMeta| dir.join(format!("{}.block", meta.id));
        let is_there = |meta: &BlockMeta| {
            let path = file_of(meta);
            match self.fs.open(&path) {
                Ok(file) => Ok(file.len() == meta.bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(Error::io(format!("open {}", path.display()), error)),
            }
        };
        blocks.copy_all(transfer, is_there, |meta| {
            let path = file_of(meta);
            let temporary = path.with_extension("tmp");
            let mut file = self.fs.create(&temporary).map_err(io)?;
            let pass = |bytes| {
                (transfer.check)()?;
                from.wait(transfer.throttle.reserve(bytes))
            };
            from.download_while(&block_key(meta.id), meta.bytes, &mut *file, &pass)?;
            file.sync().map_err(io)?;
            drop(file);
            self.verify(&temporary, meta)?;
            self.fs.rename(&temporary, &path).map_err(io)
        })?;
        self.fs.sync_dir(&dir).map_err(io)?;
        let newest = blocks.newest.catalog;
        let wal_position = newest.floor();
        Catalog::new(Arc::clone(&self.fs), &store.join("catalog")).put(&Document {
            version: 1,
            wal_position,
            blocks: newest.blocks,
            deletes: newest.deletes,
            ..Document::default()
        })
    }

    /// Reads the file from the first to the last byte and checks it.
    fn verify(&self, path: &Path, meta: &BlockMeta) -> Result<()> {
        let shown = path.display().to_string();
        let file = self.fs.open(path);
        let file = file.map_err(|e| Error::io(format!("open {shown}"), e))?;
        let head = file.read(&[KIND_AT]).unwrap_or_default();
        let kind = head.first().and_then(|bytes| (&bytes[..]).try_into().ok());
        let checked =
            SealedFile::open(file, &shown, kind.unwrap_or_default()).and_then(|file| file.verify());
        checked.map_err(|error| {
            let what = format!(
                "block {} is damaged where it is copied from: {error}; bring the object back, or let the server that writes there drop it",
                meta.id
            );
            Error::caused_by(Kind::Corrupt, what, error)
        })
    }
}

/// Whether there is a store of any tenant below `root`.
fn has_stores(fs: &dyn Fs, root: &Path) -> Result<bool> {
    let list = |dir: &Path| match fs.list(dir) {
        Ok(entries) => Ok(entries),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io(format!("list {}", dir.display()), error)),
    };
    for tenant in list(root)?.iter().filter(|entry| entry.is_dir) {
        if !list(&root.join(&tenant.name))?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
