//! Settings (plain data) and components (clock, file system, shared workers) of a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trine_storage::Result;
use trine_storage::clock::{Clock, SystemClock};
use trine_storage::fs::{Fs, RealFs};
use trine_storage::shared::Shared;
use trine_storage::wal;

use crate::db::TraceStore;

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long spans are kept; `None` (the default) keeps them for ever.
    pub retention: Option<Duration>,
    /// How far ahead of the clock a span may begin; `None` for any. Default one day: clocks of
    /// hosts that trace differ, and a trace should not lose a part over it.
    pub future_max: Option<Duration>,
    /// The width of the time range of a block. Default two hours.
    pub block_range: Duration,
    /// The most blocks that one seal makes; when spans spread over more ranges the ranges are
    /// made wider. Default 64.
    pub block_ranges_max: usize,
    /// The largest span, in bytes of protobuf. Default 4 MiB.
    pub span_bytes_max: usize,
    /// The most attributes of a span, an event, a link, a resource or a scope. Default 10,000.
    pub span_attributes_max: usize,
    /// Memory is sealed when the live spans take this many bytes. Default 256 MiB.
    pub live_bytes_max: u64,
    /// Memory is sealed when the log holds this many bytes, so that replay reads about as much.
    /// Default 64 MiB.
    pub wal_bytes_max: u64,
    /// Memory is sealed when it is this old. Default two hours.
    pub seal_age: Duration,
    /// Settings of the write-ahead log.
    pub wal: wal::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            retention: None,
            future_max: Some(Duration::from_secs(24 * 3600)),
            block_range: Duration::from_secs(2 * 3600),
            block_ranges_max: 64,
            span_bytes_max: 4 << 20,
            span_attributes_max: 10_000,
            live_bytes_max: 256 << 20,
            wal_bytes_max: 64 << 20,
            seal_age: Duration::from_secs(2 * 3600),
            wal: wal::Config::default(),
        }
    }
}

/// Opens a store with other settings or components than the defaults.
#[derive(Debug)]
pub struct Builder {
    path: PathBuf,
    config: Config,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    shared: Option<Shared>,
}

impl Builder {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            config: Config::default(),
            fs: Arc::new(RealFs),
            clock: Arc::new(SystemClock::new()),
            shared: None,
        }
    }

    /// Takes these settings.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Takes this file system.
    #[must_use]
    pub fn fs(mut self, fs: Arc<dyn Fs>) -> Self {
        self.fs = fs;
        self
    }

    /// Takes this clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes the workers and the memory budget of the process; by default a store has its own.
    #[must_use]
    pub fn shared(mut self, shared: Shared) -> Self {
        self.shared = Some(shared);
        self
    }

    /// Opens the store: reads the catalog, replays the log.
    ///
    /// # Errors
    /// [`Kind::Locked`](trine_storage::Kind::Locked) when another process has it open,
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) or
    /// [`Kind::Unsupported`](trine_storage::Kind::Unsupported) when the catalog cannot be read,
    /// [`Kind::Io`](trine_storage::Kind::Io). A damaged block is no error: it is quarantined.
    pub fn open(self) -> Result<TraceStore> {
        let shared = self.shared.unwrap_or_default();
        TraceStore::assemble(&self.path, self.config, self.fs, self.clock, &shared)
    }
}
