//! Settings (plain data) and components (clock, file system, shared workers) of a store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trine_storage::Result;
use trine_storage::clock::{Clock, SystemClock};
use trine_storage::depot::Depot;
use trine_storage::fs::{Fs, RealFs};
use trine_storage::shared::Shared;
use trine_storage::wal;

use crate::db::Tsdb;

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long samples are kept; `None` (the default) keeps them for ever.
    pub retention: Option<Duration>,
    /// How many bytes of blocks are kept; the oldest go first. `None` (the default) for any number.
    pub retention_bytes: Option<u64>,
    /// How far behind the clock a timestamp may lie; `None` (the default) for the whole retention.
    pub out_of_order_window: Option<Duration>,
    /// How far ahead of the clock a timestamp may lie; `None` for any. Default ten minutes.
    pub future_max: Option<Duration>,
    /// The width of the time range of the smallest blocks; larger ones are four, twelve, sixty and
    /// 372 times as wide, up to a tenth of the retention. Default two hours.
    pub block_range: Duration,
    /// The most blocks that are made of parts at a time; when samples spread over more ranges the ranges are
    /// made wider. Default 64.
    pub block_ranges_max: usize,
    /// The most buckets that a native histogram is stored with: exponential ones are made coarser
    /// until they fit, others are refused. Default 1,000, at most
    /// [`BUCKETS_MAX`](crate::BUCKETS_MAX).
    pub histogram_buckets_max: usize,
    /// The most metrics whose metadata is kept. Default 100,000.
    pub metadata_max: usize,
    /// Memory is sealed when its samples take this many bytes; series, which stay, do not count.
    /// Default 256 MiB.
    pub head_bytes_max: u64,
    /// The most bytes that the log holds, so that replay never reads more (but for the batches that
    /// come at one moment): memory is sealed when it is half full. Default 64 MiB.
    pub wal_bytes_max: u64,
    /// The most samples in memory and log, so that a replay never has more (but for the batches that
    /// come at one moment): memory is sealed at half as many. Default 16,777,216.
    pub head_samples_max: u64,
    /// Memory is sealed when it is this old. Default two hours.
    pub seal_age: Duration,
    /// All that is sealed is made into blocks when the oldest sample that is in none is this old, that
    /// of windows that more is expected for, too. `None` (the default) waits until they are closed.
    pub cut_age: Option<Duration>,
    /// With a depot: the oldest sample that is on this disk only is about this old at most, while the
    /// depot answers; `cut_age` is two thirds of it at most. Default 15 minutes.
    pub ship_age_max: Duration,
    /// With a depot that another process writes to: how often it is asked what is new, while the store
    /// is read. Default ten seconds.
    pub follow_interval: Duration,
    /// Settings of the write-ahead log.
    pub wal: wal::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            retention: None,
            retention_bytes: None,
            out_of_order_window: None,
            future_max: Some(Duration::from_secs(600)),
            block_range: Duration::from_secs(2 * 3600),
            block_ranges_max: 64,
            histogram_buckets_max: 1_000,
            metadata_max: 100_000,
            head_bytes_max: 256 << 20,
            wal_bytes_max: 64 << 20,
            head_samples_max: 16 << 20,
            seal_age: Duration::from_secs(2 * 3600),
            cut_age: None,
            ship_age_max: Duration::from_secs(15 * 60),
            follow_interval: Duration::from_secs(10),
            wal: wal::Config::default(),
        }
    }
}

/// How far the opening of a store is: first parts are read, then the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Parts whose series are known.
    Parts {
        /// How many were read.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// Bytes of the log that were replayed.
    Log {
        /// How many were read.
        done: u64,
        /// How many there are.
        total: u64,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parts { done, total } => write!(f, "{done} of {total} parts read"),
            Self::Log { done, total } => write!(f, "{done} of {total} bytes of the log replayed"),
        }
    }
}

/// What a store works with.
#[derive(Debug)]
pub(crate) struct Components {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Shared,
    pub(crate) shippers: Shared,
    pub(crate) depot: Option<Arc<dyn Depot>>,
}

/// Opens a store with other settings or components than the defaults.
#[derive(Debug)]
pub struct Builder {
    path: PathBuf,
    config: Config,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    shared: Option<Shared>,
    shippers: Option<Shared>,
    depot: Option<Arc<dyn Depot>>,
}

impl Builder {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            config: Config::default(),
            fs: Arc::new(RealFs),
            clock: Arc::new(SystemClock::new()),
            shared: None,
            shippers: None,
            depot: None,
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

    /// Takes the depot that blocks are shipped to, and where those are that are not on this disk. By
    /// default there is none, and this disk has everything.
    #[must_use]
    pub fn depot(mut self, depot: Arc<dyn Depot>) -> Self {
        self.depot = Some(depot);
        self
    }

    /// Takes the workers that ship, so that what goes over the network is not in the way of the others;
    /// by default those of [`Builder::shared`].
    #[must_use]
    pub fn shippers(mut self, shippers: Shared) -> Self {
        self.shippers = Some(shippers);
        self
    }

    /// Opens the store: reads the catalog, replays the log.
    ///
    /// # Errors
    /// [`Kind::Locked`](trine_storage::Kind::Locked) when another process has it open,
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) or
    /// [`Kind::Unsupported`](trine_storage::Kind::Unsupported) when the catalog cannot be read,
    /// [`Kind::Io`](trine_storage::Kind::Io),
    /// [`Kind::Unavailable`](trine_storage::Kind::Unavailable) when the depot does not answer and
    /// nothing is known here of what it has. A damaged block is no error: it is quarantined.
    pub fn open(self) -> Result<Tsdb> {
        self.open_with_progress(|_| {})
    }

    /// As [`Builder::open`], and tells `progress` how far it is.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open_with_progress(self, mut progress: impl FnMut(Progress)) -> Result<Tsdb> {
        let shared = self.shared.unwrap_or_default();
        let components = Components {
            fs: self.fs,
            clock: self.clock,
            shippers: self.shippers.unwrap_or_else(|| shared.clone()),
            shared,
            depot: self.depot,
        };
        Tsdb::assemble(&self.path, self.config, components, &mut progress)
    }
}
