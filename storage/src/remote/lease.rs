//! Who may write to a bucket: epochs that are created once each, and the beats of their holders.
//! [`super::bucket_catalog`] asks for the lease at every commit.
//!
//! ```text
//! lease/00000000000000000001         epoch 1 and who took it; epochs follow without a gap and stay
//! lease/00000000000000000001.beat    written again and again while the holder is alive
//! ```
//!
//! The lease keeps two writers from working against each other; it is not what keeps the catalog
//! whole. That is the version which a new holder commits with its epoch: the old one, however late it
//! wakes, cannot commit behind it. So nothing is lost when a lease is taken from somebody who is
//! alive after all, and clocks may be wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, PutNew, last_there};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// By how much two times of a store may be wrong against each other.
const STORE_SLACK: Duration = Duration::from_secs(5);

/// Somebody who writes to a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// What others are told: host and process, for example.
    pub name: String,
    /// What stays the same when the process starts again on the same data. Whoever gives one must
    /// have that data locked, so that the process before it is known to be gone; it then gets its
    /// lease back at once.
    pub instance: Option<String>,
}

impl Holder {
    /// A holder of this name.
    pub fn new(name: &str, instance: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            instance: instance.map(str::to_owned),
        }
    }
}

/// What an epoch object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Epoch {
    #[serde(flatten)]
    holder: Holder,
    token: String,
}

/// What a beat says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Beat {
    beats: u64,
    released: bool,
}

/// How long a lease lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long after its last beat a holder is believed to be alive. Default 60 s.
    pub lease_time: Duration,
    /// How often the holder should [`Lease::beat`]. Default 15 s.
    pub beat_interval: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            lease_time: Duration::from_secs(60),
            beat_interval: Duration::from_secs(15),
        }
    }
}

/// What a taker has seen of the holder so far: keep it from try to try.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// The epoch, its last beat as it was read, and since when it is so, monotonic nanoseconds.
    seen: Option<(u64, Bytes, u64)>,
}

/// What became of a try to take the lease.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Held(Lease),
    /// Somebody else has it; try again with the same [`Watch`].
    Refused {
        /// Who.
        by: Holder,
        /// How long it may take until it runs out if the holder is gone.
        left: Duration,
    },
}

/// The right to write to a bucket and to everything within it: catalogs of many tenants need one
/// lease only.
#[derive(Debug)]
pub struct Lease {
    bucket: Bucket,
    epoch: u64,
    holder: Holder,
    times: LeaseTimes,
    clock: Arc<dyn Clock>,
    beats: AtomicU64,
    /// The beginning of the last beat that succeeded, monotonic nanoseconds.
    beaten_ns: AtomicU64,
    lost: Mutex<Option<Box<Holder>>>,
    released: AtomicBool,
}

fn epoch_key(epoch: u64) -> String {
    format!("lease/{epoch:020}")
}

fn beat_key(epoch: u64) -> String {
    format!("{}.beat", epoch_key(epoch))
}

fn json(value: &impl Serialize) -> Result<Bytes> {
    let text = serde_json::to_vec(value);
    text.map(Bytes::from)
        .map_err(|e| Error::caused_by(Kind::Invalid, format!("cannot write a lease: {e}"), e))
}

impl Lease {
    /// Tries to take the lease of the bucket. It is had at once when nobody ever had it, when its
    /// holder has released it, when the holder was the same instance, or when by the store's own clock
    /// the last beat is older than the lease lasts. Otherwise it takes as long as the lease lasts on
    /// our clock, from the first try on, without a beat in between.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], [`Kind::Corrupt`] when what is there is not a lease.
    pub fn take(
        bucket: &Bucket,
        holder: &Holder,
        times: LeaseTimes,
        watch: &mut Watch,
    ) -> Result<Taken> {
        let newest = newest_epoch(bucket)?;
        if newest > 0 {
            let by = read_epoch(bucket, newest)?;
            let same = holder.instance.is_some() && by.instance == holder.instance;
            if !same && let Some(left) = time_left(bucket, newest, times, watch)? {
                return Ok(Taken::Refused { by, left });
            }
        }
        let epoch = newest + 1;
        let beginning = bucket.clock().monotonic_ns();
        let body = Epoch {
            holder: holder.clone(),
            token: bucket.token(),
        };
        if bucket.put_new(&epoch_key(epoch), json(&body)?)? == PutNew::Exists {
            return Ok(Taken::Refused {
                by: read_epoch(bucket, epoch)?,
                left: times.lease_time,
            });
        }
        let lease = Self {
            bucket: bucket.clone(),
            epoch,
            holder: holder.clone(),
            times,
            clock: Arc::clone(bucket.clock()),
            beats: AtomicU64::new(0),
            beaten_ns: AtomicU64::new(beginning),
            lost: Mutex::new(None),
            released: AtomicBool::new(false),
        };
        // If it fails the next beat comes in time, and nobody else can have the epoch.
        lease.write_beat(false).ok();
        if newest > 0 {
            // Nobody looks at it any more; if this fails it stays, which does no harm.
            bucket.delete(&beat_key(newest)).ok();
        }
        Ok(Taken::Held(lease))
    }

    /// The bucket that it is of.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The number of this holder: higher than that of all before it.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The name of the holder.
    pub fn name(&self) -> &str {
        &self.holder.name
    }

    /// Says that the holder is alive, and looks whether somebody has taken over: `Some` says who. Then
    /// nothing may be written any more, and the lease has to be taken anew.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]: try again; the lease runs out if this goes on.
    pub fn beat(&self) -> Result<Option<Holder>> {
        if let Some(by) = &*self.lost.lock() {
            return Ok(Some(Holder::clone(by)));
        }
        self.require_kept()?;
        let beginning = self.clock.monotonic_ns();
        if self.bucket.head(&epoch_key(self.epoch + 1))?.is_some() {
            let newest = newest_epoch(&self.bucket)?;
            let by = read_epoch(&self.bucket, newest)?;
            *self.lost.lock() = Some(Box::new(by.clone()));
            return Ok(Some(by));
        }
        self.write_beat(false)?;
        self.beaten_ns.store(beginning, Ordering::Release);
        Ok(None)
    }

    /// Whether the lease is surely ours: beaten within its time and taken by nobody.
    pub fn is_held(&self) -> bool {
        let beaten = self.beaten_ns.load(Ordering::Acquire);
        let since = self.clock.monotonic_ns().saturating_sub(beaten);
        Duration::from_nanos(since) < self.times.lease_time
            && self.lost.lock().is_none()
            && !self.released.load(Ordering::Acquire)
    }

    /// Who has taken over, as far as it is known.
    pub fn lost(&self) -> Option<Holder> {
        self.lost.lock().as_deref().cloned()
    }

    /// Told that somebody has taken over, by a commit that was fenced.
    pub(crate) fn lose(&self, by: Holder) {
        self.lost.lock().get_or_insert_with(|| Box::new(by));
    }

    /// Who took the lease last, and its epoch; nothing when nobody ever did. Writes nothing.
    ///
    /// # Errors
    /// As [`Lease::take`].
    pub fn last_holder(bucket: &Bucket) -> Result<Option<(Holder, u64)>> {
        match newest_epoch(bucket)? {
            0 => Ok(None),
            epoch => Ok(Some((read_epoch(bucket, epoch)?, epoch))),
        }
    }

    /// What tells this bucket from all others, whatever it is called; nothing when nobody ever took its
    /// lease. Writes nothing.
    ///
    /// # Errors
    /// As [`Lease::take`].
    pub fn identity(bucket: &Bucket) -> Result<Option<String>> {
        // The first epoch stays for ever.
        match bucket.head(&epoch_key(1))? {
            Some(_) => Ok(Some(epoch_of(bucket, 1)?.token)),
            None => Ok(None),
        }
    }

    fn require_kept(&self) -> Result<()> {
        if self.released.load(Ordering::Acquire) {
            let what = format!("the lease of {} was given back", self.bucket.name());
            return Err(Error::new(Kind::Locked, what));
        }
        Ok(())
    }

    /// Refuses what only the holder may do.
    pub(crate) fn require(&self) -> Result<()> {
        if self.is_held() {
            return Ok(());
        }
        self.require_kept()?;
        let name = self.bucket.name();
        let what = match &*self.lost.lock() {
            Some(by) => format!("{name} is written to by {} now", by.name),
            None => format!(
                "the lease of {name} ran out, as the store was not reached for {:?}; it is taken anew once the store answers",
                self.times.lease_time
            ),
        };
        Err(Error::new(Kind::Locked, what))
    }

    /// Gives the lease back, so that the next taker need not wait. From now on it is not held.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]: it then runs out.
    pub fn release(&self) -> Result<()> {
        self.released.store(true, Ordering::Release);
        self.write_beat(true)
    }

    fn write_beat(&self, released: bool) -> Result<()> {
        let beats = self.beats.fetch_add(1, Ordering::Relaxed);
        let beat = Beat { beats, released };
        self.bucket.put(&beat_key(self.epoch), json(&beat)?)
    }
}

/// How long the holder of `epoch` must still be believed to be alive; nothing when it need not.
fn time_left(
    bucket: &Bucket,
    epoch: u64,
    times: LeaseTimes,
    watch: &mut Watch,
) -> Result<Option<Duration>> {
    let now = bucket.clock().monotonic_ns();
    let (mark, modified_ms) = match bucket.get_object(&beat_key(epoch))? {
        Some((bytes, object)) => (bytes, Some(object.modified_ms)),
        // It has not come to its first beat.
        None => (
            Bytes::new(),
            bucket.head(&epoch_key(epoch))?.map(|o| o.modified_ms),
        ),
    };
    if serde_json::from_slice(&mark).is_ok_and(|beat: Beat| beat.released) {
        return Ok(None);
    }
    let since = match &watch.seen {
        Some((seen, old, since)) if *seen == epoch && *old == mark => *since,
        seen => {
            // Whoever watches for the first time may believe the store, which has seen more.
            if seen.is_none()
                && let Some(modified_ms) = modified_ms
            {
                let age = bucket.now_ms()?.saturating_sub(modified_ms);
                let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
                if age >= times.lease_time + STORE_SLACK {
                    return Ok(None);
                }
            }
            watch.seen = Some((epoch, mark, now));
            now
        }
    };
    let watched = Duration::from_nanos(now.saturating_sub(since));
    let left = times.lease_time.saturating_sub(watched);
    Ok((!left.is_zero()).then_some(left))
}

/// The newest epoch, 0 when there is none. Epochs have no gaps and never go, so that a search needs
/// no list.
fn newest_epoch(bucket: &Bucket) -> Result<u64> {
    last_there(0, |epoch| Ok(bucket.head(&epoch_key(epoch))?.is_some()))
}

fn read_epoch(bucket: &Bucket, epoch: u64) -> Result<Holder> {
    Ok(epoch_of(bucket, epoch)?.holder)
}

fn epoch_of(bucket: &Bucket, epoch: u64) -> Result<Epoch> {
    let key = epoch_key(epoch);
    let name = format!("{key} in {}", bucket.name());
    let bytes = bucket
        .get(&key)?
        .ok_or_else(|| Error::corrupt(&name, 0, "it is missing"))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::caused_by(Kind::Corrupt, format!("{name} is damaged: {e}"), e))
}

#[cfg(test)]
mod tests;
