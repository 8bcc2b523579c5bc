//! What this process may do with the stores of a bucket, and for how long: the lease and who else has
//! it. [`super::depots`] keeps it, every [`super::depot`] asks it.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::bucket::Bucket;
use super::lease::{Holder, Lease, LeaseTimes, Taken, Watch};
use crate::depot::Role;
use crate::error::{Error, Kind, Result};

/// The lease of a bucket, or the wait for it.
#[derive(Debug)]
pub(super) struct Tenure {
    bucket: Bucket,
    holder: Holder,
    times: LeaseTimes,
    is_reader: bool,
    /// Why the bucket could not be asked, as long as it never was.
    away: RwLock<Option<Error>>,
    state: RwLock<State>,
    /// What the tries have seen; held while the lease is taken, beaten or given back.
    watch: Mutex<Watch>,
}

#[derive(Debug, Default)]
struct State {
    lease: Option<Arc<Lease>>,
    /// Who else writes, as far as it is known.
    other: Option<String>,
    /// No lease is taken any more.
    is_over: bool,
}

impl Tenure {
    pub(super) fn new(bucket: Bucket, holder: Holder, times: LeaseTimes, is_reader: bool) -> Self {
        Self {
            bucket,
            holder,
            times,
            is_reader,
            away: RwLock::default(),
            state: RwLock::default(),
            watch: Mutex::default(),
        }
    }

    /// Told that the bucket does not answer now, for this reason.
    pub(super) fn begin_away(&self, error: Error) {
        *self.away.write() = Some(error);
    }

    /// Refuses what needs the bucket while it has not answered since the beginning: nobody is to wait for
    /// it once more.
    ///
    /// # Errors
    /// [`Kind::Unavailable`].
    pub(super) fn check_reached(&self) -> Result<()> {
        self.away.read().clone().map_or(Ok(()), Err)
    }

    /// What stays the same when the process starts again on the same data.
    pub(super) fn instance(&self) -> &str {
        self.holder.instance.as_deref().unwrap_or("")
    }

    /// What this process may do now. A writer whose bucket does not answer stays one until it learns
    /// that another has taken over: what it appends is on its own disk.
    pub(super) fn role(&self) -> Role {
        if self.is_reader {
            return Role::ReadOnly;
        }
        let state = self.state.read();
        match &state.lease {
            Some(lease) => match lease.lost() {
                None => Role::Writer {
                    epoch: lease.epoch(),
                },
                Some(by) => Role::Standby { by: by.name },
            },
            None => Role::Standby {
                by: state.other.clone().unwrap_or_default(),
            },
        }
    }

    /// The lease that is surely ours, by which something may be written.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`], [`Kind::Locked`] when somebody else has it, [`Kind::Unavailable`] when it ran
    /// out because the bucket did not answer.
    pub(super) fn lease(&self) -> Result<Arc<Lease>> {
        if let Some(error) = self.refusal() {
            return Err(error);
        }
        let lease = self.state.read().lease.clone();
        match lease {
            Some(lease) if lease.is_held() => Ok(lease),
            Some(lease) if lease.lost().is_none() => {
                let what = format!(
                    "the lease of {} ran out, as it did not answer for {:?}; it is taken anew once it answers",
                    self.bucket.name(),
                    self.times.lease_time
                );
                Err(Error::new(Kind::Unavailable, what))
            }
            // It was lost since.
            _ => Err(self.locked("")),
        }
    }

    /// Why this process may not write; nothing when it may.
    pub(super) fn refusal(&self) -> Option<Error> {
        match self.role() {
            Role::Writer { .. } => None,
            Role::Standby { by } => Some(match self.check_reached() {
                Ok(()) => self.locked(&by),
                Err(error) => self.unreached(error),
            }),
            Role::ReadOnly => Some(self.read_only()),
        }
    }

    fn read_only(&self) -> Error {
        let name = self.bucket.name();
        let what = match &self.state.read().other {
            Some(by) => {
                format!("this server is read-only (--read-only); {name} is written to by {by}")
            }
            None => format!(
                "this server is read-only (--read-only); send it to the one that writes to {name}"
            ),
        };
        Error::new(Kind::ReadOnly, what)
    }

    fn unreached(&self, error: Error) -> Error {
        let what = format!(
            "{} has not answered since this server started, so that nobody knows whether another one writes there; writes are taken once it answers",
            self.bucket.name()
        );
        Error::caused_by(Kind::Unavailable, what, error)
    }

    fn locked(&self, by: &str) -> Error {
        let by = if by.is_empty() { "another process" } else { by };
        let what = format!(
            "{} is written to by {by}; this one takes over when its lease has run out",
            self.bucket.name()
        );
        Error::new(Kind::Locked, what)
    }

    /// Beats, or tries to take the lease where it is not held; a reader looks who has it. Asks the
    /// bucket.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]: try again soon. [`Kind::Corrupt`] when there is something else in the place
    /// of the lease.
    pub(super) fn keep(&self) -> Result<()> {
        self.ask()?;
        *self.away.write() = None;
        Ok(())
    }

    fn ask(&self) -> Result<()> {
        let mut watch = self.watch.lock();
        if self.is_reader {
            let last = Lease::last_holder(&self.bucket)?;
            self.state.write().other = last.map(|(holder, _)| holder.name);
            return Ok(());
        }
        let held = self.state.read().lease.clone();
        if let Some(lease) = held.filter(|lease| lease.lost().is_none()) {
            if let Some(by) = lease.beat()? {
                self.overtaken(by.name);
            }
            return Ok(());
        }
        if self.state.read().is_over {
            return Ok(());
        }
        match Lease::take(&self.bucket, &self.holder, self.times, &mut watch)? {
            Taken::Held(lease) => {
                *watch = Watch::default();
                *self.state.write() = State {
                    lease: Some(Arc::new(lease)),
                    ..State::default()
                };
            }
            Taken::Refused { by, .. } => self.overtaken(by.name),
        }
        Ok(())
    }

    /// Told that a commit was refused because another has taken over.
    pub(super) fn fenced(&self, lease: &Lease, by: &str) -> Error {
        lease.lose(Holder::new(by, None));
        self.locked(by)
    }

    fn overtaken(&self, by: String) {
        let mut state = self.state.write();
        state.lease = None;
        state.other = Some(by);
    }

    /// Gives the lease back, and takes none any more.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]: it runs out by itself.
    pub(super) fn release(&self) -> Result<()> {
        let _watch = self.watch.lock();
        let lease = {
            let mut state = self.state.write();
            state.is_over = true;
            state.lease.take()
        };
        match lease {
            Some(lease) if lease.lost().is_none() => lease.release(),
            _ => Ok(()),
        }
    }
}
