//! Settings (plain data) and components (clock, file system, shared workers) of a store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trine_storage::clock::{Clock, SystemClock};
use trine_storage::depot::Depot;
use trine_storage::fs::{Fs, RealFs};
use trine_storage::shared::Shared;
use trine_storage::{Error, Result, wal};

use crate::condition::Language;
use crate::db::LogStore;
use crate::retention::RetentionRule;

/// More than any sensible line; above it a chunk could not be held in memory comfortably.
const LINE_BYTES_LIMIT: usize = 16 << 20;
/// The same for the metadata of an entry.
const METADATA_BYTES_LIMIT: usize = 1 << 20;

/// What becomes of a line that is longer than [`Config::line_bytes_max`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LongLines {
    /// Its entry is refused.
    #[default]
    Refuse,
    /// It is cut, and the entry counted in [`Accepted::truncated`](crate::Accepted::truncated).
    Truncate,
}

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long entries are kept; `None` (the default) keeps them for ever.
    pub retention: Option<Duration>,
    /// Streams whose entries are kept longer or shorter. Default none.
    pub retention_rules: Vec<RetentionRule>,
    /// How many bytes of blocks are kept; the oldest go first. `None` (the default) for any number.
    pub retention_bytes: Option<u64>,
    /// How long a delete can be cancelled: only then are files written without what it deletes.
    /// Default ten minutes.
    pub delete_delay: Duration,
    /// The most deletes whose entries may still be in files. Default 1,000.
    pub deletes_max: usize,
    /// How far ahead of the clock a timestamp may lie; `None` for any. Default ten minutes.
    pub future_max: Option<Duration>,
    /// The width of the time range of a block. Default two hours.
    pub block_range: Duration,
    /// The most blocks that one seal makes; when entries spread over more ranges the ranges are
    /// made wider. Default 64.
    pub block_ranges_max: usize,
    /// The most bytes of blocks that are merged into one. Default 1 GiB.
    pub compacted_bytes_max: u64,
    /// The longest line, in bytes; at most 16 MiB. Default 256 KiB.
    pub line_bytes_max: usize,
    /// What becomes of a longer line. Default [`LongLines::Refuse`].
    pub long_lines: LongLines,
    /// The most labels of a stream. Default 256.
    pub labels_max: usize,
    /// The most bytes that names and values of a stream's labels take together. Default 64 KiB.
    pub labels_bytes_max: usize,
    /// The most bytes that names and values of an entry's metadata take together; at most 1 MiB.
    /// Default 64 KiB.
    pub metadata_bytes_max: usize,
    /// The most pairs in an entry's metadata. Default 128.
    pub metadata_max: usize,
    /// The most bytes that memory takes, about. It is sealed when it takes half of them; an append
    /// that finds it full waits until it is sealed. Default 160 MiB.
    pub buffer_bytes_max: u64,
    /// The most streams in memory: it is sealed as for `buffer_bytes_max`. Default 2,000,000.
    pub streams_max: u64,
    /// The most bytes of the log, which a replay reads: memory is sealed as for `buffer_bytes_max`.
    /// Default 128 MiB.
    pub wal_bytes_max: u64,
    /// Memory is sealed when its first entry came this long ago. Default two hours.
    pub seal_age: Duration,
    /// With a depot: the oldest entry that is on this disk only is about this old at most, while the
    /// depot answers. Memory is sealed when two thirds of it are over. Default 15 minutes.
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
            retention_rules: Vec::new(),
            retention_bytes: None,
            delete_delay: Duration::from_secs(600),
            deletes_max: 1_000,
            future_max: Some(Duration::from_secs(600)),
            block_range: Duration::from_secs(2 * 3600),
            block_ranges_max: 64,
            compacted_bytes_max: 1 << 30,
            line_bytes_max: 256 << 10,
            long_lines: LongLines::default(),
            labels_max: 256,
            labels_bytes_max: 64 << 10,
            metadata_bytes_max: 64 << 10,
            metadata_max: 128,
            buffer_bytes_max: 160 << 20,
            streams_max: 2_000_000,
            wal_bytes_max: 128 << 20,
            seal_age: Duration::from_secs(2 * 3600),
            ship_age_max: Duration::from_secs(15 * 60),
            follow_interval: Duration::from_secs(10),
            wal: wal::Config {
                // A tenth of the work of an append, and the log is small: memory is.
                compression: wal::Compression::None,
                reused_bytes_max: 64 << 20,
                ..wal::Config::default()
            },
        }
    }
}

impl Config {
    /// Refuses settings that make no sense.
    pub(crate) fn check(&self) -> Result<()> {
        let least_and_most: [(&str, u128, u128, u128); 4] = [
            (
                "block_range (ns)",
                self.block_range.as_nanos(),
                1,
                i64::MAX as u128,
            ),
            (
                "block_ranges_max",
                self.block_ranges_max as u128,
                1,
                1 << 16,
            ),
            (
                "line_bytes_max",
                self.line_bytes_max as u128,
                1,
                LINE_BYTES_LIMIT as u128,
            ),
            (
                "metadata_bytes_max",
                self.metadata_bytes_max as u128,
                0,
                METADATA_BYTES_LIMIT as u128,
            ),
        ];
        for (name, value, least, most) in least_and_most {
            if value < least || value > most {
                return Err(Error::invalid(format!(
                    "{name} is {value}; it must lie between {least} and {most}"
                )));
            }
        }
        Ok(())
    }
}

/// How far the opening of a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
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
    pub(crate) language: Option<Arc<dyn Language>>,
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
    language: Option<Arc<dyn Language>>,
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
            language: None,
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

    /// Takes this meaning of texts as conditions of deletes; none by default.
    #[must_use]
    pub fn language(mut self, language: Arc<dyn Language>) -> Self {
        self.language = Some(language);
        self
    }

    /// Opens the store: reads the catalog, replays the log.
    ///
    /// # Errors
    /// [`Kind::Invalid`](trine_storage::Kind::Invalid) when a setting makes no sense,
    /// [`Kind::Locked`](trine_storage::Kind::Locked) when another process has it open,
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) or
    /// [`Kind::Unsupported`](trine_storage::Kind::Unsupported) when the catalog cannot be read,
    /// [`Kind::Io`](trine_storage::Kind::Io),
    /// [`Kind::Unavailable`](trine_storage::Kind::Unavailable) when the depot does not answer and
    /// nothing is known here of what it has. A damaged block is no error: it is quarantined.
    pub fn open(self) -> Result<LogStore> {
        self.open_with_progress(|_| {})
    }

    /// As [`Builder::open`], and tells `progress` how far it is.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open_with_progress(self, mut progress: impl FnMut(Progress)) -> Result<LogStore> {
        self.config.check()?;
        let shared = self.shared.unwrap_or_default();
        let components = Components {
            fs: self.fs,
            clock: self.clock,
            shippers: self.shippers.unwrap_or_else(|| shared.clone()),
            shared,
            depot: self.depot,
            language: self.language,
        };
        LogStore::assemble(&self.path, self.config, components, &mut progress)
    }
}
