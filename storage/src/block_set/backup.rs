//! A store that holds the blocks of a version and nothing else.

use std::path::Path;
use std::sync::Arc;

use super::files::{Place, block_path};
use super::{Block, BlockReader, BlockSet, Version};
use crate::catalog::{Catalog, Document};
use crate::error::{Error, Result};
use crate::fs::Fs;

impl<R: BlockReader> BlockSet<R> {
    /// Makes the directory `target` a store that holds the blocks of `version` and nothing else.
    /// Files are shared by hard links where the file system can, and copied otherwise; blocks that are
    /// not on this disk are fetched.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) when `target` is a store already,
    /// [`Kind::Io`](crate::Kind::Io), [`Kind::Unavailable`](crate::Kind::Unavailable).
    ///
    /// # Durability
    /// Everything is synced when this returns; the catalog is written last.
    pub fn backup(&self, version: &Version<R>, target: &Path) -> Result<()> {
        let fs = &self.files.fs;
        let catalog = Catalog::new(Arc::clone(fs), &target.join("catalog"));
        if catalog.load()?.version > 0 {
            let what = format!(
                "{} is a store already; name another directory",
                target.display()
            );
            return Err(Error::invalid(what));
        }
        let dir = target.join("blocks");
        fs.create_dir_all(&dir)
            .map_err(|e| Error::io(format!("create {}", dir.display()), e))?;
        for block in &version.blocks {
            self.back_up(block, &block_path(&dir, block.meta.id))?;
        }
        fs.sync_dir(&dir)
            .map_err(|e| Error::io(format!("sync {}", dir.display()), e))?;
        catalog.swap(&Document {
            version: 1,
            wal_position: version.wal_position,
            blocks: version
                .blocks
                .iter()
                .map(|block| block.meta.clone())
                .collect(),
            deletes: version.deletes.clone(),
            ..Document::default()
        })
    }

    fn back_up(&self, block: &Block<R>, to: &Path) -> Result<()> {
        let fs = &*self.files.fs;
        let io = |e| Error::io(format!("copy to {}", to.display()), e);
        match &block.place {
            Place::Local(file, _) => match fs.hard_link(&file.path(), to) {
                Ok(()) => Ok(()),
                // An earlier attempt came this far: the same id is the same file.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                Err(_) => copy(fs, &file.path(), to).map_err(io),
            },
            Place::Remote(depot) => {
                let mut file = fs.create(to).map_err(io)?;
                depot.download(&block.meta, &mut *file)?;
                file.sync().map_err(io)
            }
        }
    }
}

/// Copies a file that no longer changes, synced.
fn copy(fs: &dyn Fs, from: &Path, to: &Path) -> std::io::Result<()> {
    const STEP: u64 = 4 << 20;
    let file = fs.open(from)?;
    let mut copy = fs.create(to)?;
    let mut offset = 0;
    while offset < file.len() {
        let end = file.len().min(offset + STEP);
        let range = offset..end;
        for bytes in file.read(std::slice::from_ref(&range))? {
            copy.write_all(&bytes)?;
        }
        offset = end;
    }
    copy.sync()
}
