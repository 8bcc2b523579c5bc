//! The file system that is passed in: the real one here, the simulated one in [`crate::sim`].
//!
//! Only what the toolkit needs: append-only writes, atomic rename, explicit sync of files and of
//! directories, random reads of files that no longer change.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Kind, Result};

mod memory;
mod real;

pub use memory::MemoryFile;
pub use real::RealFs;

/// A directory tree. All methods block.
///
/// Nothing is durable by itself: contents survive a power loss after [`WriteFile::sync`], names
/// (created, renamed, removed) after [`Fs::sync_dir`] of their directory.
pub trait Fs: Send + Sync + fmt::Debug {
    /// Creates `dir` and what is missing above it, durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// What is in `dir`, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// Creates an empty file to append to, in place of what was there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;

    /// Opens a file to write over what is in it, from its start; what is not written over stays. A
    /// file whose pages are there already is written several times as fast as a new one. Where this
    /// cannot be had, the file is made empty.
    fn reuse(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.create(path)
    }

    /// Opens a file that is no longer written to.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>>;

    /// Cuts a file to `len` bytes and syncs it.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Renames a file, in place of what `to` named.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file that no longer changes a second name. [`io::ErrorKind::AlreadyExists`] when `to`
    /// names a file; other errors where the file system cannot.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the lock file `path`; the lock goes when the answer is dropped or the process ends.
    /// [`io::ErrorKind::WouldBlock`] when somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// A held lock. Dropping it lets go.
pub trait Lock: Send + Sync + fmt::Debug {}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last part of the path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes in the file; 0 for directories.
    pub len: u64,
}

/// A file that is being written, from front to back.
pub trait WriteFile: Send + fmt::Debug {
    /// Appends `bytes` and hands them to the operating system.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written so far survive a power loss. After a failure nothing is known
    /// about what was written: never try again, give the file up.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that no longer changes. The only way in is [`ReadFile::read`], one call per phase of a
/// read, so that a remote file can fetch all ranges at once.
pub trait ReadFile: Send + Sync + fmt::Debug {
    /// Bytes in the file.
    fn len(&self) -> u64;

    /// Whether the file is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of each range. [`io::ErrorKind::UnexpectedEof`] when one ends after the file.
    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>>;

    /// Whether reads may have to wait for another machine.
    fn is_remote(&self) -> bool {
        false
    }

    /// Begins to fetch what is missing of these ranges and does not wait: a later read finds it, or
    /// waits for the rest. Of a local file nothing is missing.
    fn prefetch(&self, _ranges: &[Range<u64>]) -> io::Result<()> {
        Ok(())
    }

    /// Bytes that one reader should have asked for at most before it comes to them: what is fetched
    /// early must not push out what was fetched before it and is not used yet.
    fn ahead_bytes_max(&self) -> u64 {
        u64::MAX
    }

    /// Says that these ranges are what every read looks at first: where a cache is between, they stay
    /// longer than data.
    fn prioritize(&self, _ranges: &[Range<u64>]) {}

    /// Says that what was read is not what was written: what is kept of the file is forgotten, and the
    /// next read gets it from where it came from.
    fn distrust(&self) {}
}

/// Makes `dir` a directory that nobody else has: creates it if it is missing and holds its file
/// `lock` as long as what is given lives.
///
/// # Errors
/// [`Kind::Locked`] when another process has it, [`Kind::Io`].
pub fn claim(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn Lock>> {
    let shown = dir.display();
    fs.create_dir_all(dir)
        .map_err(|e| Error::io(format!("create {shown}"), e))?;
    fs.lock(&dir.join("lock")).map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            let what = format!("{shown} is in use by another process; stop it first");
            Error::new(Kind::Locked, what)
        } else {
            Error::io(format!("lock {shown}"), error)
        }
    })
}

/// Reads a whole file, or `None` when there is none of that name.
///
/// # Errors
/// What [`Fs::open`] and [`ReadFile::read`] give, but for a file that does not exist.
pub fn read_if_exists(fs: &dyn Fs, path: &Path) -> io::Result<Option<Bytes>> {
    let file = match fs.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let whole = 0..file.len();
    Ok(file.read(&[whole])?.pop())
}

/// Puts `bytes` in place of whatever a file holds, durably: through a file of the same name with the
/// ending `tmp`.
///
/// # Errors
/// [`Kind::Io`], and then either content may be the one that is found after a restart.
pub fn replace(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = fs.create(&temporary)?;
        file.write_all(bytes)?;
        file.sync()?;
        fs.rename(&temporary, path)?;
        fs.sync_dir(&parent(path))
    };
    write().map_err(|e| Error::io(format!("write {}", path.display()), e))
}

/// Slices ranges out of a file that is one piece of memory.
pub(crate) fn slice_ranges(whole: &Bytes, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
    let slice = |range: &Range<u64>| {
        let start = usize::try_from(range.start).ok()?;
        let end = usize::try_from(range.end).ok()?;
        (start <= end && end <= whole.len()).then(|| whole.slice(start..end))
    };
    ranges
        .iter()
        .map(|r| slice(r).ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
        .collect()
}

/// The parent of `path`, or `path` itself when it has none.
pub(crate) fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests;
