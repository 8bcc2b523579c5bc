//! Which stores a bucket has: an empty-handed object for each, made before its first block is named.
//!
//! ```text
//! stores/TENANT/SIGNAL
//! ```

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use parking_lot::RwLock;
use percent_encoding::percent_decode_str;

use super::bucket::Bucket;
use crate::error::Result;

const DIR: &str = "stores";

/// A store of a bucket: whose, and of what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreName {
    /// Whose it is.
    pub tenant: String,
    /// What is in it: `metrics`, `logs`, `traces`.
    pub signal: String,
}

impl StoreName {
    /// The store of this tenant and signal.
    pub fn new(tenant: &str, signal: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
            signal: signal.to_owned(),
        }
    }

    /// The part of the bucket that is its own.
    pub(super) fn within(&self, bucket: &Bucket) -> Bucket {
        bucket
            .within("tenants")
            .within(&self.tenant)
            .within(&self.signal)
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.signal)
    }
}

/// The stores that are known to be in the bucket.
#[derive(Debug)]
pub(super) struct Markers {
    bucket: Bucket,
    known: RwLock<BTreeSet<StoreName>>,
}

impl Markers {
    pub(super) fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            known: RwLock::default(),
        }
    }

    /// Told which there are.
    pub(super) fn learn(&self, names: impl IntoIterator<Item = StoreName>) {
        self.known.write().extend(names);
    }

    /// Learns which there are. A store that was seen once stays.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable).
    pub(super) fn list(&self) -> Result<()> {
        let objects = self.bucket.list(DIR)?;
        self.learn(objects.iter().filter_map(|object| name_of(&object.key)));
        Ok(())
    }

    /// Makes the marker of a store where there is none.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable).
    pub(super) fn make(&self, name: &StoreName) -> Result<()> {
        if self.has(name) {
            return Ok(());
        }
        let parts = self.bucket.within(DIR).within(&name.tenant);
        // Whoever made it, it is there.
        parts.put_new(&name.signal, Bytes::from(self.bucket.token()))?;
        self.learn([name.clone()]);
        Ok(())
    }

    pub(super) fn has(&self, name: &StoreName) -> bool {
        self.known.read().contains(name)
    }

    pub(super) fn count(&self) -> usize {
        self.known.read().len()
    }

    pub(super) fn all(&self) -> Vec<StoreName> {
        self.known.read().iter().cloned().collect()
    }
}

/// The store whose marker has this key.
fn name_of(key: &str) -> Option<StoreName> {
    let (tenant, signal) = key.strip_prefix(DIR)?.strip_prefix('/')?.split_once('/')?;
    let text = |part: &str| Some(percent_decode_str(part).decode_utf8().ok()?.into_owned());
    Some(StoreName {
        tenant: text(tenant)?,
        signal: text(signal)?,
    })
}
