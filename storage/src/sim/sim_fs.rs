//! The file system of a simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Rng;
use crate::fs::{Entry, Fs, Lock, ReadFile, WriteFile, parent, slice_ranges};

/// How the simulated machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: everything that was written is there afterwards.
    Process,
    /// The power fails: what was not synced may be lost.
    Power,
}

/// A file system in memory with simulated crashes. Cheap to clone; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    dirs: BTreeSet<PathBuf>,
    /// What the names stand for now, and what they stand for after a power loss.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    files: Vec<File>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    /// From this operation on every one fails.
    cut_at: Option<u64>,
    /// Writes beyond this many bytes in all fail as on a full disk.
    capacity: Option<u64>,
    written: u64,
}

#[derive(Debug, Default, Clone)]
struct File {
    content: Vec<u8>,
    synced_len: usize,
    /// What was in a file that is written over: behind `content` it still is.
    old: Vec<u8>,
}

impl File {
    /// What a reader finds.
    fn whole(&self) -> Vec<u8> {
        let old = self.old.get(self.content.len()..).unwrap_or_default();
        [&self.content, old].concat()
    }
}

impl SimFs {
    /// An empty disk.
    #[expect(
        clippy::new_without_default,
        reason = "a disk should be made on purpose"
    )]
    pub fn new() -> Self {
        Self {
            disk: Arc::default(),
        }
    }

    /// How many changing operations were done (write, sync, create, rename, remove, cut).
    pub fn operations(&self) -> u64 {
        self.disk.lock().operations
    }

    /// Lets the first `operations` changing operations pass and every later one fail.
    pub fn cut_after(&self, operations: u64) {
        self.disk.lock().cut_at = Some(operations);
    }

    /// Lets writes fail as on a full disk once `bytes` were written in all.
    pub fn fill_after(&self, bytes: u64) {
        self.disk.lock().capacity = Some(bytes);
    }

    /// The disk that is found after a crash now. The old one stays as it is.
    #[must_use]
    pub fn crash(&self, how: Crash, seed: u64) -> Self {
        let disk = self.disk.lock();
        let mut rng = Rng::new(seed);
        let mut after = Disk {
            dirs: disk.dirs.clone(),
            ..Disk::default()
        };
        let mut names = disk.names.clone();
        if how == Crash::Power {
            let touched: BTreeSet<&PathBuf> =
                disk.names.keys().chain(disk.durable_names.keys()).collect();
            names = touched
                .into_iter()
                .filter_map(|path| {
                    let (now, durable) = (disk.names.get(path), disk.durable_names.get(path));
                    let kept = if rng.below(2) == 0 { now } else { durable };
                    Some((path.clone(), *kept?))
                })
                .collect();
        }
        for (path, index) in names {
            let file = &disk.files[index];
            let mut content = file.content.clone();
            if how == Crash::Power {
                let unsynced = content.len() - file.synced_len;
                let kept = rng.below(unsynced as u64 + 1) as usize;
                content.truncate(file.synced_len + kept);
                if kept > 0 && rng.below(2) == 0 {
                    let garbage = 1 + rng.below(kept as u64) as usize;
                    let start = content.len() - garbage;
                    content[start..].fill_with(|| rng.next_u64() as u8);
                }
            }
            content.extend_from_slice(file.old.get(content.len()..).unwrap_or_default());
            after.durable_names.insert(path.clone(), after.files.len());
            after.names.insert(path, after.files.len());
            after.files.push(File {
                synced_len: content.len(),
                content,
                old: Vec::new(),
            });
        }
        Self {
            disk: Arc::new(Mutex::new(after)),
        }
    }

    /// Flips the bits of `mask` in one byte of a file, synced or not.
    ///
    /// # Panics
    /// When there is no such file or byte.
    pub fn corrupt(&self, path: &Path, offset: usize, mask: u8) {
        let mut disk = self.disk.lock();
        let index = disk.names[path];
        disk.files[index].content[offset] ^= mask;
    }

    /// Paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.disk.lock().names.keys().cloned().collect()
    }
}

impl Disk {
    /// Counts a changing operation, or fails it.
    fn change(&mut self) -> io::Result<()> {
        if self.cut_at.is_some_and(|cut| self.operations >= cut) {
            return Err(io::Error::other("the power is cut"));
        }
        self.operations += 1;
        Ok(())
    }

    fn index(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Fs for SimFs {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let missing: Vec<PathBuf> = dir
            .ancestors()
            .filter(|dir| !disk.dirs.contains(*dir))
            .map(Path::to_owned)
            .collect();
        if !missing.is_empty() {
            disk.change()?;
            disk.dirs.extend(missing);
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let disk = self.disk.lock();
        if !disk.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let in_dir = |path: &Path| {
            (path.parent() == Some(dir)).then(|| {
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            })
        };
        let mut entries: Vec<Entry> = disk
            .dirs
            .iter()
            .filter_map(|path| {
                Some(Entry {
                    name: in_dir(path)?,
                    is_dir: true,
                    len: 0,
                })
            })
            .collect();
        entries.extend(disk.names.iter().filter_map(|(path, &index)| {
            let len = disk.files[index].whole().len() as u64;
            Some(Entry {
                name: in_dir(path)?,
                is_dir: false,
                len,
            })
        }));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut disk = self.disk.lock();
        disk.change()?;
        if !disk.dirs.contains(&parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let index = disk.files.len();
        disk.files.push(File::default());
        disk.names.insert(path.to_owned(), index);
        Ok(Box::new(SimWriteFile {
            disk: Arc::clone(&self.disk),
            index,
        }))
    }

    fn reuse(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut disk = self.disk.lock();
        disk.change()?;
        let index = disk.index(path)?;
        let file = &mut disk.files[index];
        *file = File {
            old: file.whole(),
            ..File::default()
        };
        Ok(Box::new(SimWriteFile {
            disk: Arc::clone(&self.disk),
            index,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        let disk = self.disk.lock();
        let index = disk.index(path)?;
        let bytes = Bytes::from(disk.files[index].whole());
        Ok(Arc::new(SimReadFile { bytes }))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        let index = disk.index(path)?;
        let file = &mut disk.files[index];
        let mut content = file.whole();
        content.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        *file = File {
            synced_len: content.len(),
            content,
            old: Vec::new(),
        };
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        let index = disk.index(from)?;
        disk.names.remove(from);
        disk.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        let index = disk.index(from)?;
        if disk.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        disk.index(path)?;
        disk.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        let inside = |path: &PathBuf| path.parent() == Some(dir);
        let names: Vec<(PathBuf, usize)> = disk
            .names
            .iter()
            .filter(|(p, _)| inside(p))
            .map(|(p, i)| (p.clone(), *i))
            .collect();
        disk.durable_names.retain(|path, _| !inside(path));
        disk.durable_names.extend(names);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut disk = self.disk.lock();
        if !disk.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock {
            disk: Arc::clone(&self.disk),
            path: path.to_owned(),
        }))
    }
}

struct SimLock {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimLock").field(&self.path).finish()
    }
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.lock().locks.remove(&self.path);
    }
}

struct SimWriteFile {
    disk: Arc<Mutex<Disk>>,
    index: usize,
}

impl fmt::Debug for SimWriteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimWriteFile").field(&self.index).finish()
    }
}

impl WriteFile for SimWriteFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        disk.written += bytes.len() as u64;
        if disk
            .capacity
            .is_some_and(|capacity| disk.written > capacity)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.files[self.index].content.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.change()?;
        let file = &mut disk.files[self.index];
        file.synced_len = file.content.len();
        Ok(())
    }
}

#[derive(Debug)]
struct SimReadFile {
    bytes: Bytes,
}

impl ReadFile for SimReadFile {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        slice_ranges(&self.bytes, ranges)
    }
}
