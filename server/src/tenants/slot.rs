//! An engine that is opened when it is first needed, and opened again when it can write no more.

use parking_lot::Mutex;
use trine_logstore::LogStore;
use trine_storage::Error;
use trine_tracestore::TraceStore;
use trine_tsdb::Tsdb;

/// What is in a [`Slot`].
pub(super) trait Engine: Clone {
    /// Whether a write to its log failed, so that it refuses all others.
    fn is_poisoned(&self) -> bool;

    /// Gives its directory back.
    fn shut(&self) -> Result<(), Error>;
}

impl Engine for Tsdb {
    fn is_poisoned(&self) -> bool {
        self.stats().wal.is_poisoned
    }

    fn shut(&self) -> Result<(), Error> {
        self.close()
    }
}

impl Engine for LogStore {
    fn is_poisoned(&self) -> bool {
        self.stats().wal.is_poisoned
    }

    fn shut(&self) -> Result<(), Error> {
        self.close()
    }
}

impl Engine for TraceStore {
    fn is_poisoned(&self) -> bool {
        self.stats().wal.is_poisoned
    }

    fn shut(&self) -> Result<(), Error> {
        self.close()
    }
}

/// A place for one engine.
#[derive(Debug)]
pub(super) struct Slot<E> {
    /// Held while it is opened, which may take long.
    opening: Mutex<()>,
    engine: Mutex<Option<E>>,
}

impl<E: Engine> Slot<E> {
    pub(super) fn new() -> Self {
        Self {
            opening: Mutex::new(()),
            engine: Mutex::new(None),
        }
    }

    pub(super) fn get_or_open(&self, open: impl FnOnce() -> Result<E, Error>) -> Result<E, Error> {
        if let Some(engine) = self.get() {
            return Ok(engine);
        }
        let _one = self.opening.lock();
        if let Some(engine) = self.get() {
            return Ok(engine);
        }
        let engine = open()?;
        *self.engine.lock() = Some(engine.clone());
        Ok(engine)
    }

    /// The engine if it is open by now.
    pub(super) fn get(&self) -> Option<E> {
        self.engine.lock().clone()
    }

    /// The engine if it is open, or is being opened.
    pub(super) fn get_opened(&self) -> Option<E> {
        let _one = self.opening.lock();
        self.get()
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.get().is_some_and(|engine| engine.is_poisoned())
    }

    /// Closes the engine if it is poisoned, and opens it again; whether it was. Whoever asks for it in
    /// the meantime waits. `between` is called when the old one takes nothing any more and nobody has
    /// the new one.
    ///
    /// # Errors
    /// Those of `open`; then it is opened when it is next needed.
    pub(super) fn revive(
        &self,
        between: impl FnOnce(),
        open: impl FnOnce() -> Result<E, Error>,
    ) -> Result<bool, Error> {
        let _one = self.opening.lock();
        if !self.is_poisoned() {
            return Ok(false);
        }
        let Some(engine) = self.engine.lock().take() else {
            return Ok(false);
        };
        // That its log cannot be synced is why this is done.
        engine.shut().ok();
        drop(engine);
        between();
        *self.engine.lock() = Some(open()?);
        Ok(true)
    }
}
