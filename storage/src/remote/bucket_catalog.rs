//! The catalog in a bucket: numbered versions that are created and never written over, so that of two
//! writers one wins each number. Writers commit under a [`Lease`]; followers load what is newest.
//!
//! ```text
//! catalog/began                  there is a catalog: whoever sees no version sees an old list
//! catalog/00000000000000000001   the first version, then 2, 3 ... without a gap
//! ```
//!
//! What makes it safe, whatever lists say and however long somebody sleeps:
//!
//! 1. A version is created by create-if-absent and never changes.
//! 2. Versions go in their order, each known to be gone before the next one goes. Where version `v` is
//!    there, everything after it that was ever made is there, too. So `v + 1` was never made if it is
//!    missing and `v` is there afterwards.
//! 3. Whoever created a version looks whether the one before it is still there. If not, it slept so
//!    long that the number was swept in the meantime; the version is taken back.
//! 4. Epochs never fall from version to version. A writer that finds a higher one than its own stops.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, PutNew, last_there, refused};
use super::failure::Reason;
use super::lease::Lease;
use crate::catalog::{Document, decode_as, encode};
use crate::error::{Error, Kind, Result};
use crate::ulid::BlockId;

/// Where versions are.
const DIR: &str = "catalog";
/// How often a list that cannot be right is asked for again.
const LISTS_MAX: u32 = 5;
/// The object that says that there are versions.
const BEGAN: &str = "catalog/began";
/// Bytes of an encoded version.
pub const DOCUMENT_BYTES_MAX: usize = 48 << 20;

/// One version of the catalog in a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketDocument {
    /// The blocks, as a local catalog lists them; its `version` is the number of this version.
    pub catalog: Document,
    /// The epoch of the lease under which it was committed.
    pub epoch: u64,
    /// The name of the writer.
    pub writer: String,
    /// Differs from commit to commit.
    pub token: String,
    /// Objects that the catalog no longer names and that readers may still need.
    #[serde(default)]
    pub doomed: Vec<Doomed>,
    /// The lowest version that may be there still.
    #[serde(default)]
    pub oldest: u64,
}

/// An object that will be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doomed {
    /// Its name in the bucket.
    pub key: String,
    /// The first version that does not name it.
    pub since: u64,
}

impl BucketDocument {
    /// The number of this version.
    pub fn version(&self) -> u64 {
        self.catalog.version
    }
}

/// The name of a block in the bucket.
pub fn block_key(id: BlockId) -> String {
    format!("blocks/{id}.block")
}

fn version_key(version: u64) -> String {
    format!("{DIR}/{version:020}")
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// It is the newest version now.
    Committed(BucketDocument),
    /// Another version took the number. Apply the edit to this one, which is the newest, and commit
    /// again. It may hold the edit already: an earlier commit whose outcome was unknown.
    Conflict(BucketDocument),
    /// Another writer has taken the bucket over. Stop writing.
    Fenced {
        /// Its name.
        by: String,
        /// Its epoch.
        epoch: u64,
    },
}

/// The catalog in a bucket.
///
/// ```
/// # use std::{collections::BTreeMap, sync::Arc};
/// # use trine_storage::clock::SystemClock;
/// # use trine_storage::remote::{Bucket, Options};
/// use trine_storage::remote::{BucketCatalog, Commit, Holder, Lease, LeaseTimes, Taken, Watch};
///
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # let (clock, handle) = (Arc::new(SystemClock::new()), runtime.handle().clone());
/// # let bucket = Bucket::open("memory:///", &BTreeMap::new(), Options::default(), handle, clock)?;
/// let me = Holder::new("host-1", None);
/// let Taken::Held(lease) = Lease::take(&bucket, &me, LeaseTimes::default(), &mut Watch::default())?
/// else {
///     panic!("somebody else writes to the bucket");
/// };
/// let catalog = BucketCatalog::new(bucket);
/// let Commit::Committed(first) = catalog.claim(&lease)? else {
///     panic!("somebody else took it over");
/// };
/// let mut next = first.catalog.clone();
/// next.wal_position = 7;
/// let Commit::Committed(second) = catalog.commit(&lease, &first, next, &[])? else {
///     panic!("somebody else wrote");
/// };
/// assert_eq!(catalog.load_newest()?, Some(second));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct BucketCatalog {
    bucket: Bucket,
}

impl BucketCatalog {
    /// The catalog of this bucket.
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket }
    }

    /// The bucket that it is in.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// One version; nothing when it was swept or never made.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when it is damaged or says another number,
    /// [`Kind::Unsupported`] when a newer program wrote it, [`Kind::Unavailable`].
    pub fn load(&self, version: u64) -> Result<Option<BucketDocument>> {
        let key = version_key(version);
        let Some(bytes) = self.bucket.get(&key)? else {
            return Ok(None);
        };
        let name = format!("{key} in {}", self.bucket.name());
        let document: BucketDocument = decode_as(&name, &bytes)?;
        if document.version() != version {
            let what = format!("it says that it is version {}", document.version());
            return Err(Error::corrupt(name, 0, what));
        }
        Ok(Some(document))
    }

    /// The newest version; nothing when there never was one. Takes three requests where the list is as of
    /// now.
    ///
    /// # Errors
    /// As [`BucketCatalog::load`].
    pub fn load_newest(&self) -> Result<Option<BucketDocument>> {
        for _ in 0..LISTS_MAX {
            let listed = self.bucket.list(DIR)?;
            let newest = listed.iter().rev().find_map(|object| number(&object.key));
            // A list may be as of some time ago: version 1 is not in it, or swept already.
            let found = match newest {
                Some(newest) => self.load(self.last_after(newest)?)?,
                None => match self.load(1)? {
                    Some(first) => self.forward(first)?,
                    None if self.bucket.head(BEGAN)?.is_none() => return Ok(None),
                    None => None,
                },
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Err(refused(
            format_args!("list {DIR} in {}", self.bucket.name()),
            Reason::Unavailable,
            "the list does not show what is there; it is asked for again later",
        ))
    }

    /// The newest version if there is one after `known`, which was the newest once. Takes two
    /// requests when there is none.
    ///
    /// # Errors
    /// As [`BucketCatalog::load`].
    pub fn load_after(&self, known: &BucketDocument) -> Result<Option<BucketDocument>> {
        let newer = match self.load(known.version() + 1)? {
            // What follows is only known to be the history if what it follows is there.
            Some(next) if self.bucket.head(&version_key(known.version()))?.is_some() => {
                self.forward(next)?
            }
            // Nothing follows, unless it was made and swept since.
            None if self.bucket.head(&version_key(known.version()))?.is_some() => return Ok(None),
            _ => None,
        };
        let newest = match newer {
            Some(newer) => Some(newer),
            None => self.load_newest()?,
        };
        match newest {
            Some(newest) if newest.version() < known.version() => {
                Err(self.fell_back(&newest, known))
            }
            None => Err(self.fell_back(&BucketDocument::default(), known)),
            newest => Ok(newest.filter(|newest| newest.version() > known.version())),
        }
    }

    fn fell_back(&self, newest: &BucketDocument, known: &BucketDocument) -> Error {
        let what = format!(
            "the newest version is {} and was {}: objects were removed or the bucket was exchanged; restart with the right one",
            newest.version(),
            known.version()
        );
        Error::corrupt(format_args!("{DIR} in {}", self.bucket.name()), 0, what)
    }

    /// The last version after `found` without a gap; nothing when it was swept meanwhile.
    fn forward(&self, found: BucketDocument) -> Result<Option<BucketDocument>> {
        let last = self.last_after(found.version())?;
        if last == found.version() {
            return Ok(self.bucket.head(&version_key(last))?.map(|_| found));
        }
        self.load(last)
    }

    /// The last version after `first` without a gap. It is the newest if it is still there when this is
    /// known.
    fn last_after(&self, first: u64) -> Result<u64> {
        let there = |version| Ok(self.bucket.head(&version_key(version))?.is_some());
        last_there(first, there)
    }

    /// Makes the bucket the writer's: commits a version with its epoch, which stops every writer
    /// before it. The first thing to do with a lease; makes the first version where there is none.
    ///
    /// # Errors
    /// As [`BucketCatalog::commit`].
    pub fn claim(&self, lease: &Lease) -> Result<Commit> {
        let mut newest = match self.load_newest()? {
            Some(newest) => newest,
            // Nothing comes before the first version.
            None => match self.create(lease, BucketDocument::default())? {
                Commit::Conflict(newest) => newest,
                other => return Ok(other),
            },
        };
        loop {
            let same = newest.catalog.clone();
            match self.commit(lease, &newest, same, &[])? {
                Commit::Conflict(newer) => newest = newer,
                other => return Ok(other),
            }
        }
    }

    /// Commits `next` as the version after `expected`, which the writer believes to be the newest.
    /// Blocks that it no longer names are doomed with it; `gone` are objects that are removed for
    /// good and no longer doomed.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], and then the version may be there, now or later: load what is newest,
    /// and go on from there. [`Kind::Locked`] when the lease ran out or was lost, [`Kind::Limit`] when
    /// the document is larger than [`DOCUMENT_BYTES_MAX`].
    pub fn commit(
        &self,
        lease: &Lease,
        expected: &BucketDocument,
        next: Document,
        gone: &[String],
    ) -> Result<Commit> {
        if expected.epoch > lease.epoch() {
            return Ok(fenced(expected));
        }
        let version = expected.version() + 1;
        let mut doomed = expected.doomed.clone();
        doomed.retain(|doomed| !gone.contains(&doomed.key));
        let kept: BTreeSet<BlockId> = next.blocks.iter().map(|block| block.id).collect();
        // An edit that is made again may name what was doomed in between.
        let named: BTreeSet<String> = kept.iter().copied().map(block_key).collect();
        doomed.retain(|doomed| !named.contains(&doomed.key));
        let removed = expected
            .catalog
            .blocks
            .iter()
            .filter(|b| !kept.contains(&b.id));
        doomed.extend(removed.map(|block| Doomed {
            key: block_key(block.id),
            since: version,
        }));
        let document = BucketDocument {
            catalog: Document {
                version: expected.version(),
                ..next
            },
            doomed,
            oldest: expected.oldest,
            ..BucketDocument::default()
        };
        self.create(lease, document)
    }

    /// Says that versions before `oldest` are gone.
    pub(crate) fn commit_oldest(
        &self,
        lease: &Lease,
        expected: &BucketDocument,
        oldest: u64,
        gone: &[String],
    ) -> Result<Commit> {
        let mut moved = expected.clone();
        moved.oldest = oldest;
        self.commit(lease, &moved, expected.catalog.clone(), gone)
    }

    /// Creates the version after `document.version()`.
    fn create(&self, lease: &Lease, mut document: BucketDocument) -> Result<Commit> {
        lease.require()?;
        let before = document.version();
        document.catalog.version = before + 1;
        document.epoch = lease.epoch();
        document.oldest = document.oldest.max(1);
        lease.name().clone_into(&mut document.writer);
        document.token = self.bucket.token();
        let key = version_key(before + 1);
        let bytes = encode(&document)
            .map_err(|e| Error::caused_by(Kind::Invalid, format!("cannot write {key}: {e}"), e))?;
        if bytes.len() > DOCUMENT_BYTES_MAX {
            let what = format!(
                "the catalog would have {} bytes, at most {DOCUMENT_BYTES_MAX}; let blocks be merged or shorten the retention",
                bytes.len()
            );
            return Err(Error::new(Kind::Limit, what));
        }
        match self.bucket.put_new(&key, Bytes::from(bytes))? {
            PutNew::Created if self.follows(before)? => Ok(Commit::Committed(document)),
            // The number had been made and swept while this writer slept.
            PutNew::Created => {
                self.bucket.delete(&key)?;
                self.overtaken(lease, None)
            }
            PutNew::Exists => self.overtaken(lease, self.load(before + 1)?),
        }
    }

    /// Whether what was just created after the version `before` is the history.
    fn follows(&self, before: u64) -> Result<bool> {
        let witness = match before {
            // Before the first version goes it is said that there is a catalog.
            0 => return Ok(self.bucket.head(BEGAN)?.is_none()),
            before => version_key(before),
        };
        Ok(self.bucket.head(&witness)?.is_some())
    }

    /// Somebody else has made the version, or it is so long ago that it was swept.
    fn overtaken(&self, lease: &Lease, found: Option<BucketDocument>) -> Result<Commit> {
        let newest = match found
            .map(|found| self.forward(found))
            .transpose()?
            .flatten()
        {
            Some(newest) => Some(newest),
            None => self.load_newest()?,
        };
        match newest {
            Some(newest) if newest.epoch > lease.epoch() => Ok(fenced(&newest)),
            Some(newest) => Ok(Commit::Conflict(newest)),
            None => Err(refused(
                format_args!("commit to {}", self.bucket.name()),
                Reason::Unavailable,
                "the version that was in the way is gone; try again",
            )),
        }
    }

    /// Says that there is a catalog, so that its first versions may go.
    pub(crate) fn mark_begun(&self) -> Result<()> {
        if self.bucket.head(BEGAN)?.is_none() {
            self.bucket.put(BEGAN, Bytes::from(self.bucket.token()))?;
        }
        Ok(())
    }

    /// When a version was committed by the clock of the store; nothing when it is gone.
    pub(crate) fn committed_ms(&self, version: u64) -> Result<Option<i64>> {
        let found = self.bucket.head(&version_key(version))?;
        Ok(found.map(|object| object.modified_ms))
    }

    pub(crate) fn remove(&self, version: u64) -> Result<()> {
        self.bucket.delete(&version_key(version))
    }
}

fn fenced(by: &BucketDocument) -> Commit {
    Commit::Fenced {
        by: by.writer.clone(),
        epoch: by.epoch,
    }
}

/// The number of the version under this key.
fn number(key: &str) -> Option<u64> {
    let digits = key.strip_prefix(DIR)?.strip_prefix('/')?;
    let is_number = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
