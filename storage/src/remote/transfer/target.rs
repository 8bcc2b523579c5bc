//! A bucket that copies are written to: empty, or an earlier copy of the same source. Its lease is held
//! meanwhile, under a name that says of what it is a copy, so that a bucket which somebody has written to
//! since is never written over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::super::bucket::Bucket;
use super::super::bucket_catalog::{BucketCatalog, Commit};
use super::super::depot::is_same;
use super::super::lease::{Holder, Lease, LeaseTimes, Taken, Watch};
use super::super::markers::{Markers, StoreName};
use super::super::sweep::{Holds, SweepOptions, sweep_while};
use super::Transfer;
use crate::catalog::Document;
use crate::error::{Error, Kind, Result};

/// How often a commit is made again because another version took its number.
const CONFLICTS_MAX: u32 = 16;

/// Called while an earlier copy, which may have been killed, still has the lease: waits a moment. Told how
/// long it may take.
pub type Wait<'a> = &'a dyn Fn(Duration) -> Result<()>;

/// A bucket that copies are written to.
#[derive(Debug)]
pub struct Target {
    bucket: Bucket,
    /// Held unless it was lost.
    pub(super) lease: Arc<Lease>,
    markers: Markers,
    beating: JoinHandle<()>,
}

impl Target {
    /// Takes the lease of `bucket` for copies of the source that `identity` names, for a process that
    /// others know as `name`, and keeps it. Give it back with [`Target::release`].
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the bucket is the source itself, or has stores and is no copy of it;
    /// [`Kind::Locked`] when somebody else writes to it; [`Kind::Unavailable`]; those of `wait`.
    pub fn take(
        bucket: &Bucket,
        identity: &str,
        name: &str,
        times: LeaseTimes,
        wait: Wait<'_>,
    ) -> Result<Self> {
        let shown = bucket.name();
        if Lease::identity(bucket)?.as_deref() == Some(identity) {
            let what = format!("{shown} is the source itself; name another bucket or prefix");
            return Err(Error::invalid(what));
        }
        let markers = Markers::new(bucket.clone());
        markers.list()?;
        let mark = format!("copy of {identity} ");
        let is_copier = |holder: &Holder| {
            let instance = holder.instance.as_deref();
            instance.is_some_and(|instance| instance.starts_with(&mark))
        };
        let last = Lease::last_holder(bucket)?;
        if let Some((by, _)) = last.as_ref().filter(|(by, _)| !is_copier(by))
            && !markers.all().is_empty()
        {
            let what = format!(
                "{shown} has stores that are no copy of what is read: {} wrote to it last; name an empty prefix",
                by.name
            );
            return Err(Error::invalid(what));
        }
        let holder = Holder::new(name, Some(&format!("{mark}{}", bucket.token())));
        let mut watch = Watch::default();
        let mut least = Duration::MAX;
        let lease = loop {
            match Lease::take(bucket, &holder, times, &mut watch)? {
                Taken::Held(lease) => break lease,
                // It may have been killed, and then it beats no more, and ever less is left.
                Taken::Refused { by, left } if is_copier(&by) && left < least => {
                    least = left;
                    wait(left)?;
                }
                Taken::Refused { by, .. } => {
                    let what = format!(
                        "{shown} is written to by {}; wait for its end, or name another place",
                        by.name
                    );
                    return Err(Error::new(Kind::Locked, what));
                }
            }
        };
        let before = last.map_or(0, |(_, epoch)| epoch);
        if lease.epoch() != before + 1 {
            lease.release().ok();
            let what = format!("somebody else wrote to {shown} a moment ago; look who it is");
            return Err(Error::new(Kind::Locked, what));
        }
        let lease = Arc::new(lease);
        let beating = bucket
            .handle()
            .spawn(beat(Arc::clone(&lease), times.beat_interval));
        Ok(Self {
            bucket: bucket.clone(),
            lease,
            markers,
            beating,
        })
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The blocks of a store that are there, named or not, with their lengths.
    pub(super) fn objects(&self, name: &StoreName) -> Result<BTreeMap<String, u64>> {
        let listed = name.within(&self.bucket).list("blocks")?;
        let objects = listed.into_iter();
        Ok(objects.map(|object| (object.key, object.bytes)).collect())
    }

    /// Makes `next` what the store is; its blocks are there. Then removes what no version has named for
    /// an hour.
    pub(super) fn commit(
        &self,
        name: &StoreName,
        next: &Document,
        transfer: &Transfer,
    ) -> Result<()> {
        let catalog = BucketCatalog::new(name.within(&self.bucket));
        let newest = catalog.load_newest()?;
        if newest.is_some_and(|newest| is_same(newest.catalog, next)) {
            return Ok(());
        }
        self.markers.make(name)?;
        let mut result = catalog.claim(&self.lease)?;
        for _ in 0..CONFLICTS_MAX {
            match result {
                Commit::Committed(newest) if is_same(newest.catalog.clone(), next) => {
                    let options = SweepOptions::default();
                    let check = &*transfer.check;
                    sweep_while(&catalog, &self.lease, &options, &Holds::default(), check)?;
                    return Ok(());
                }
                Commit::Committed(newest) | Commit::Conflict(newest) => {
                    result = catalog.commit(&self.lease, &newest, next.clone(), &[])?;
                }
                Commit::Fenced { by, .. } => {
                    let what = format!("{} is written to by {by} now", self.bucket.name());
                    return Err(Error::new(Kind::Locked, what));
                }
            }
        }
        let what = format!(
            "other versions of the catalog of {name} in {} were always earlier; do it again",
            self.bucket.name()
        );
        Err(Error::new(Kind::Unavailable, what))
    }

    /// Gives the lease back, so that whoever comes next need not wait.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]: it runs out by itself, within a minute.
    pub fn release(self) -> Result<()> {
        self.beating.abort();
        match self.lease.lost() {
            None => self.lease.release(),
            Some(_) => Ok(()),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

/// Says from time to time that the holder is alive. What fails is tried again by the next one; when it
/// fails for long the lease runs out, which the next commit tells.
async fn beat(lease: Arc<Lease>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let lease = Arc::clone(&lease);
        let beat = tokio::task::spawn_blocking(move || lease.beat().is_ok());
        beat.await.ok();
    }
}
