//! What nobody needs any more goes: objects that the catalog has doomed, blocks that no version names,
//! old versions. All times are those of the store, and compared with each other only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::bucket_catalog::{BucketCatalog, BucketDocument, Commit, block_key};
use super::lease::Lease;
use crate::error::{Error, Kind, Result};
use crate::ulid::BlockId;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepOptions {
    /// How long objects stay after the catalog stopped naming them, and orphans after they were
    /// written. A reader may be so late. Default 1 h.
    pub delete_delay: Duration,
    /// Versions of the catalog that stay however old they are. Default 16, at least 2.
    pub versions_kept_min: u64,
    /// Versions that one sweep removes. Default 1,000.
    pub versions_swept_max: u64,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self {
            delete_delay: Duration::from_secs(3600),
            versions_kept_min: 16,
            versions_swept_max: 1_000,
        }
    }
}

/// What a sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects that the catalog had doomed.
    pub doomed: u64,
    /// Blocks that no version named.
    pub orphans: u64,
    /// Bytes of these orphans.
    pub orphan_bytes: u64,
    /// Versions of the catalog.
    pub versions: u64,
    /// The newest version after it.
    pub newest: BucketDocument,
}

/// Objects that somebody works with: whoever uploads a block holds its key from before the upload
/// until the catalog names it, so that a sweep at the same time does not take what an earlier, failed
/// attempt left and this one goes on with.
#[derive(Debug, Clone, Default)]
pub struct Holds {
    inner: Arc<Held>,
}

#[derive(Debug, Default)]
struct Held {
    keys: Mutex<BTreeSet<String>>,
    freed: Condvar,
}

/// One held key. Dropping it lets go.
#[derive(Debug)]
pub struct Hold {
    held: Arc<Held>,
    key: String,
}

impl Holds {
    /// Holds a key, as soon as nobody else does.
    pub fn hold(&self, key: &str) -> Hold {
        let mut keys = self.inner.keys.lock();
        while keys.contains(key) {
            self.inner.freed.wait(&mut keys);
        }
        self.held(&mut keys, key)
    }

    /// Holds a key unless somebody else does.
    pub fn try_hold(&self, key: &str) -> Option<Hold> {
        let mut keys = self.inner.keys.lock();
        (!keys.contains(key)).then(|| self.held(&mut keys, key))
    }

    fn held(&self, keys: &mut BTreeSet<String>, key: &str) -> Hold {
        keys.insert(key.to_owned());
        Hold {
            held: Arc::clone(&self.inner),
            key: key.to_owned(),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.keys.lock().remove(&self.key);
        self.held.freed.notify_all();
    }
}

/// Removes what nobody needs. Only the holder of the lease may, after it has claimed the catalog.
///
/// # Errors
/// [`Kind::Locked`] when the lease is not held or the catalog is another writer's,
/// [`Kind::Unavailable`]: what was not removed is by the next sweep.
pub fn sweep(
    catalog: &BucketCatalog,
    lease: &Lease,
    options: &SweepOptions,
    holds: &Holds,
) -> Result<Swept> {
    sweep_while(catalog, lease, options, holds, &|| Ok(()))
}

/// As [`sweep`]; `check` is asked before each object, and its error ends it.
pub(crate) fn sweep_while(
    catalog: &BucketCatalog,
    lease: &Lease,
    options: &SweepOptions,
    holds: &Holds,
    check: &dyn Fn() -> Result<()>,
) -> Result<Swept> {
    lease.require()?;
    let bucket = catalog.bucket();
    let mut swept = Swept::default();
    let Some(newest) = catalog.load_newest()? else {
        return Ok(swept);
    };
    if newest.epoch != lease.epoch() {
        let what = format!(
            "the catalog of {} was written by {} last; claim it before it is swept",
            bucket.name(),
            newest.writer
        );
        return Err(Error::new(Kind::Locked, what));
    }
    let delay_ms = i64::try_from(options.delete_delay.as_millis()).unwrap_or(i64::MAX);
    let now_ms = bucket.now_ms()?;
    let is_old = |modified_ms: i64| now_ms.saturating_sub(modified_ms) >= delay_ms;

    let mut gone = Vec::new();
    let mut failed = None;
    for key in due(catalog, &newest, is_old)? {
        match check().and_then(|()| bucket.delete(&key)) {
            Ok(()) => gone.push(key),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    swept.doomed = gone.len() as u64;

    let mut known: BTreeSet<&str> = newest.doomed.iter().map(|d| d.key.as_str()).collect();
    let named: Vec<String> = newest
        .catalog
        .blocks
        .iter()
        .map(|b| block_key(b.id))
        .collect();
    known.extend(named.iter().map(String::as_str));
    let listed = if failed.is_none() {
        bucket.list("blocks")?
    } else {
        Vec::new()
    };
    for object in listed {
        let is_orphan = is_block(&object.key) && !known.contains(object.key.as_str());
        if !is_orphan || !is_old(object.modified_ms) {
            continue;
        }
        check()?;
        let Some(_hold) = holds.try_hold(&object.key) else {
            continue;
        };
        // Since the list was made it may have been written again, or named.
        let still_old = bucket
            .head(&object.key)?
            .is_some_and(|o| is_old(o.modified_ms));
        let newer = catalog
            .load_after(&newest)?
            .is_some_and(|newer| names(&newer, &object.key));
        if still_old && !newer {
            bucket.delete(&object.key)?;
            swept.orphans += 1;
            swept.orphan_bytes += object.bytes;
        }
    }

    // Whoever made these did not come to remove them.
    for probe in if failed.is_none() {
        bucket.list("probe")?
    } else {
        Vec::new()
    } {
        if is_old(probe.modified_ms) {
            bucket.delete(&probe.key)?;
        }
    }

    let oldest = if failed.is_none() {
        sweep_versions(catalog, &newest, options, is_old, check)?
    } else {
        newest.oldest
    };
    swept.versions = oldest - newest.oldest;
    swept.newest = note(catalog, lease, newest, oldest, &gone)?;
    match failed {
        Some(error) => Err(error),
        None => Ok(swept),
    }
}

/// Whether a version still needs the object.
fn names(document: &BucketDocument, key: &str) -> bool {
    document
        .catalog
        .blocks
        .iter()
        .any(|block| block_key(block.id) == key)
        || document.doomed.iter().any(|doomed| doomed.key == key)
}

/// Whether a key is that of a block: what else lies there is not ours.
fn is_block(key: &str) -> bool {
    let name = key
        .strip_prefix("blocks/")
        .and_then(|k| k.strip_suffix(".block"));
    name.is_some_and(|name| name.parse::<BlockId>().is_ok())
}

/// The doomed objects whose time has come.
fn due(
    catalog: &BucketCatalog,
    newest: &BucketDocument,
    is_old: impl Fn(i64) -> bool,
) -> Result<Vec<String>> {
    let mut by_version: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for doomed in &newest.doomed {
        by_version
            .entry(doomed.since)
            .or_default()
            .push(&doomed.key);
    }
    let mut due = Vec::new();
    for (version, keys) in by_version {
        // A version that was swept is older than the delay.
        let old = version < newest.oldest || catalog.committed_ms(version)?.is_none_or(&is_old);
        if !old {
            break;
        }
        due.extend(keys.into_iter().map(str::to_owned));
    }
    Ok(due)
}

/// Removes old versions, each only when the one before it is gone. Gives the oldest that is left.
fn sweep_versions(
    catalog: &BucketCatalog,
    newest: &BucketDocument,
    options: &SweepOptions,
    is_old: impl Fn(i64) -> bool,
    check: &dyn Fn() -> Result<()>,
) -> Result<u64> {
    let end = newest
        .version()
        .saturating_sub(options.versions_kept_min.max(2));
    let end = end.min(newest.oldest.saturating_add(options.versions_swept_max));
    let mut oldest = newest.oldest.max(1);
    if oldest >= end {
        return Ok(newest.oldest);
    }
    catalog.mark_begun()?;
    while oldest < end {
        check()?;
        // Somebody may have loaded it until it was replaced.
        if !catalog.committed_ms(oldest + 1)?.is_none_or(&is_old) {
            break;
        }
        catalog.remove(oldest)?;
        oldest += 1;
    }
    Ok(oldest)
}

/// Commits what is gone, so that nobody looks for it again.
fn note(
    catalog: &BucketCatalog,
    lease: &Lease,
    mut newest: BucketDocument,
    oldest: u64,
    gone: &[String],
) -> Result<BucketDocument> {
    while oldest > newest.oldest || newest.doomed.iter().any(|d| gone.contains(&d.key)) {
        match catalog.commit_oldest(lease, &newest, oldest.max(newest.oldest), gone)? {
            Commit::Committed(document) => return Ok(document),
            Commit::Conflict(newer) => newest = newer,
            Commit::Fenced { by, .. } => {
                let what = format!("{} is written to by {by} now", catalog.bucket().name());
                return Err(Error::new(Kind::Locked, what));
            }
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests;
