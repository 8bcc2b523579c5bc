//! Object storage of one server: the bucket that it was told to use, whether it may write there, and
//! what is wrong with it. `server` opens it before the tenants and closes it after them; [`watch`] runs
//! beside it. What is done with the bucket is `trine_storage::remote`'s.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trine_storage::catalog::Document;
use trine_storage::clock::Clock;
use trine_storage::depot::{Depot as _, Role};
use trine_storage::fs::{self, Fs};
use trine_storage::remote::{
    Bucket, CacheOptions, Depots, DepotsConfig, DiskOptions, FirstAsk, Holder, Options, RangeCache,
    Reason, StoreName, SweepOptions,
};
use trine_storage::shared::{self, Shared};
use trine_storage::ulid::{BlockId, IdSource};
use trine_storage::{Error, Kind};

use crate::app::App;
use crate::config::{self, Config};
use crate::tenants::{METRICS, SIGNALS, TenantId};

/// Threads that keep the lease and sweep: nothing else may run on them.
const KEEPERS: usize = 2;
/// Threads that ship and follow for all engines; one of them may be fetching a copy.
const SHIPPERS: usize = 3;
/// Of the disk for copies, the part that single pages may take: one in so many.
const PAGES_ONE_IN: u64 = 5;
/// How often it is looked what this server may do now.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long after a failure it is tried again to take over.
const REST: Duration = Duration::from_secs(5);
/// How often it is tried to open what could not be opened.
const REOPEN_INTERVAL: Duration = Duration::from_secs(10);
/// Stores that are opened at the start, before anybody asks for them; the others are opened when they are
/// needed. Default 256.
const OPENED_AT_START_MAX: usize = 256;
/// Stores whose history is told to probes.
const HISTORY_MAX: usize = 16;
/// By how much the clocks of store and server may differ before it is told.
const AHEAD_MS_MAX: i64 = 60_000;
/// How often a server that can begin without the bucket asks it before it does so, and how long it
/// waits each time.
const FIRST_ATTEMPTS: u32 = 2;
const FIRST_TIME: Duration = Duration::from_secs(10);
/// In the data directory: its name.
const INSTANCE: &str = "instance";
/// In the data directory: which stores were seen in the bucket, a line each.
const STORES: &str = "stores";

/// The bucket of a server.
#[derive(Debug)]
pub struct Storage {
    config: config::Storage,
    fs: Arc<dyn Fs>,
    data_dir: PathBuf,
    depots: Arc<Depots>,
    /// How many stores the data directory says are in the bucket.
    remembered: AtomicUsize,
    keepers: Shared,
    shippers: Shared,
    /// The epoch in which the engines have taken over, so that writes are let in; 0 for none.
    admitted: AtomicU64,
    told: Mutex<Told>,
    /// Why something that is on this disk cannot be opened, and so is not shipped.
    unopened: Mutex<Option<String>>,
    /// Whether there was nothing in the data directory at the start.
    was_empty: bool,
    /// How far the history goes that was found in the bucket instead.
    history: Mutex<Vec<String>>,
    /// Whether that is found out: only once, as what is shipped later is this server's.
    is_told: AtomicBool,
}

/// What was logged last.
#[derive(Debug, Default)]
struct Told {
    role: Option<Role>,
    /// Troubles by what stays the same of their lines.
    troubles: BTreeMap<String, String>,
}

impl Storage {
    /// Opens the bucket that the configuration names, checks it, and tries to take its lease; nothing
    /// when it names none. Requests run on `handle`. The data directory has to be locked. Blocks.
    ///
    /// A bucket that does not answer is no reason not to begin for a data directory that was used with
    /// one before: the server then answers from what is on its disk, takes no writes, and goes on trying.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the setting or the environment is wrong, [`Kind::Unavailable`] or
    /// [`Kind::Unsupported`] when the bucket is no good, [`Kind::Io`].
    pub fn open(
        config: &Config,
        fs: &Arc<dyn Fs>,
        clock: &Arc<dyn Clock>,
        handle: &Handle,
    ) -> Result<Option<Arc<Self>>, Error> {
        let settings = &config.storage;
        let Some(url) = &settings.url else {
            return Ok(None);
        };
        let options = Options {
            requests_in_flight_max: settings.requests_max,
            ..Options::default()
        };
        let bucket = Bucket::open(
            url,
            &environment(),
            options,
            handle.clone(),
            Arc::clone(clock),
        )?;
        let was_used = is_named(&**fs, &config.data_dir)?;
        let first = reach(&bucket, settings.read_only, was_used)?;
        let was_empty = has_nothing(&**fs, &config.data_dir.join("tenants"))?;
        let instance = instance(&**fs, &config.data_dir, &**clock)?;
        let remembered = remembered(&**fs, &config.data_dir)?;
        let (pages, copies) = shares(settings.cache_disk_max as u64);
        let mut disk = DiskOptions::new(config.data_dir.join("cache"));
        disk.bytes_max = pages;
        disk.segment_bytes = disk.segment_bytes.min(pages / 4);
        let cache = CacheOptions {
            memory_bytes_max: settings.cache_memory_max as u64,
            disk: Some(disk),
            ..CacheOptions::default()
        };
        let cache = RangeCache::open(cache, fs, handle.clone(), clock)?;
        let bandwidth = Some(settings.ship_bandwidth_max as u64).filter(|&bytes| bytes > 0);
        let depots_config = DepotsConfig {
            is_read_only: settings.read_only,
            list_interval: settings.follow_interval,
            sweep: SweepOptions {
                delete_delay: settings.delete_delay,
                ..SweepOptions::default()
            },
            upload_bytes_per_second: bandwidth,
            fetch_bytes_per_second: bandwidth,
            copies_bytes_max: copies,
            first,
            known: remembered.clone(),
            ..DepotsConfig::new(Holder::new(&name(settings), Some(&instance)))
        };
        let workers = |workers| {
            Shared::new(&shared::Config {
                workers,
                ..shared::Config::default()
            })
        };
        let (keepers, shippers) = (workers(KEEPERS), workers(SHIPPERS));
        let depots = Depots::open(&bucket, depots_config, cache, &keepers)?;
        let storage = Self {
            config: settings.clone(),
            fs: Arc::clone(fs),
            data_dir: config.data_dir.clone(),
            remembered: AtomicUsize::new(remembered.len()),
            // No engine is open yet that would have to take over.
            admitted: AtomicU64::new(epoch(&depots).unwrap_or(0)),
            depots,
            keepers,
            shippers,
            told: Mutex::default(),
            unopened: Mutex::default(),
            was_empty,
            history: Mutex::default(),
            is_told: AtomicBool::new(false),
        };
        if !storage.is_remembered() {
            storage.remember()?;
        }
        if storage.depots.is_away() {
            tracing::warn!(
                "{} does not answer; the server begins with what is on its disk",
                bucket.name()
            );
        }
        storage.tell();
        Ok(Some(Arc::new(storage)))
    }

    /// The stores of the bucket.
    pub fn depots(&self) -> &Arc<Depots> {
        &self.depots
    }

    /// Writes down which stores are in the bucket: a server that begins
    /// without the bucket then knows what it does not have. Blocks.
    fn remember(&self) -> Result<(), Error> {
        let stores = self.depots.stores();
        let lines: String = stores.iter().map(|store| format!("{store}\n")).collect();
        fs::replace(&*self.fs, &self.data_dir.join(STORES), lines.as_bytes())?;
        self.remembered.store(stores.len(), Ordering::Release);
        Ok(())
    }

    fn is_remembered(&self) -> bool {
        self.remembered.load(Ordering::Acquire) == self.depots.store_count()
    }

    /// What it was told.
    pub fn config(&self) -> &config::Storage {
        &self.config
    }

    /// Threads on which engines ship and follow.
    pub fn shippers(&self) -> &Shared {
        &self.shippers
    }

    /// Why nothing may be written now; nothing when it may. Asks nothing of the bucket.
    pub fn refusal(&self) -> Option<Error> {
        match epoch(&self.depots) {
            Some(epoch) if epoch == self.admitted.load(Ordering::Acquire) => None,
            Some(_) => {
                let name = self.depots.name();
                let what = format!("this server takes {name} over; try again in a moment");
                Some(Error::new(Kind::Locked, what))
            }
            None => self.depots.refusal(),
        }
    }

    /// The epoch that was gained, and in which the engines have not taken over yet.
    fn gained(&self) -> Option<u64> {
        let epoch = epoch(&self.depots)?;
        (epoch != self.admitted.load(Ordering::Acquire)).then_some(epoch)
    }

    /// Whether the server does its work, and the text that says so to those who probe it.
    pub fn readiness(&self) -> (bool, String) {
        let name = self.depots.name();
        match self.depots.role() {
            Role::Standby { .. } if self.depots.is_away() => {
                let troubles = self.depots.ready().join("; ");
                let text = format!(
                    "not ready: {troubles}; answers from what is on its disk, takes writes once the bucket answers\n"
                );
                (false, text)
            }
            Role::Standby { by } => {
                let by = some_name(&by);
                let text = format!(
                    "not ready: {name} is written to by {by}; takes over when its lease has run out\n"
                );
                (false, text)
            }
            Role::Writer { .. } if self.gained().is_some() => {
                (false, format!("not ready: {name} is being taken over\n"))
            }
            _ => {
                let mut text = "ready\n".to_owned();
                let history = self.history.lock().clone();
                for line in self.troubles().into_iter().chain(history) {
                    // Writing to a String cannot fail.
                    writeln!(text, "storage: {line}").ok();
                }
                (true, text)
            }
        }
    }

    /// What is wrong, one line each.
    fn troubles(&self) -> Vec<String> {
        let mut lines = self.depots.ready();
        lines.extend(self.unopened.lock().clone());
        lines
    }

    /// What this server does with the bucket, in one sentence for its operator.
    pub fn role(&self) -> String {
        let name = self.depots.name();
        match self.depots.role() {
            _ if self.depots.is_away() => {
                format!("It answers from what is on its disk until {name} answers, too.")
            }
            Role::Writer { .. } => format!("It ships its data to {name}."),
            Role::ReadOnly => format!("It reads {name} and writes nothing."),
            Role::Standby { by } => format!(
                "It stands by: {name} is written to by {}, and it takes over when that is gone.",
                some_name(&by)
            ),
        }
    }

    /// Says how far the history of each store goes, when this server writes to the bucket with a data
    /// directory that was empty: what was not shipped before is not here. Asks the bucket.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]; it may be done again.
    fn tell_history(&self) -> Result<(), Error> {
        if !self.was_empty || self.is_told.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut lines = Vec::new();
        for name in self.depots.stores() {
            let store = self.depots.store(&name.tenant, &name.signal);
            let document = store.peek()?;
            // What this directory has shipped itself is not what it found.
            if document.shipped.contains_key(store.instance()) {
                continue;
            }
            if let Some(ms) = newest_ms(&document, &name.signal) {
                lines.push(history(self.depots.name(), &name, ms));
            }
        }
        for line in &lines {
            tracing::warn!("storage: {line}");
        }
        let more = lines.len().saturating_sub(HISTORY_MAX);
        lines.truncate(HISTORY_MAX);
        if more > 0 {
            lines.push(format!(
                "and {more} more like the last; the log has them all"
            ));
        }
        *self.history.lock() = lines;
        self.is_told.store(true, Ordering::Release);
        Ok(())
    }

    /// Logs what has changed since the last time.
    fn tell(&self) {
        let mut told = self.told.lock();
        let (name, role) = (self.depots.name(), self.depots.role());
        if told.role.as_ref() != Some(&role) && !self.depots.is_away() {
            match &role {
                Role::Writer { epoch } => {
                    tracing::info!("this server writes to {name} from now on, in epoch {epoch}");
                }
                Role::Standby { by } => tracing::warn!(
                    "{name} is written to by {}; this server stands by and takes no writes",
                    some_name(by)
                ),
                Role::ReadOnly => tracing::info!("this server reads {name} and writes nothing"),
            }
            told.role = Some(role);
        }
        let lines = self.troubles().into_iter();
        let troubles: BTreeMap<String, String> =
            lines.map(|line| (key(&line).to_owned(), line)).collect();
        for (key, line) in &troubles {
            if !told.troubles.contains_key(key) {
                tracing::warn!("storage: {line}");
            }
        }
        for key in told.troubles.keys() {
            if !troubles.contains_key(key) {
                tracing::info!("storage: it is over: {key}");
            }
        }
        told.troubles = troubles;
    }

    /// Waits for the bucket no longer: whoever waits for an answer gets an error.
    pub fn give_up(&self) {
        self.depots.give_up();
    }

    /// Ends everything that goes on and gives the lease back: after the engines were closed. Blocks.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]: the lease runs out by itself.
    pub fn close(&self) -> Result<(), Error> {
        self.depots.end();
        self.shippers.stop();
        let released = self.depots.release();
        self.keepers.stop();
        released
    }
}

/// Looks until `stop` changes what the server may do: lets writes in once the engines have taken over,
/// and logs what changes. Opens the stores of the bucket before.
pub async fn watch(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let Some(storage) = app.tenants.storage().cloned() else {
        return;
    };
    let (opening, over) = (Arc::clone(&app), stop.clone());
    tokio::task::spawn_blocking(move || {
        let is_over = || *over.borrow();
        opening.tenants.open_shipped(OPENED_AT_START_MAX, &is_over);
    });
    // In which epoch it was tried to open everything that is on this disk, and how long ago.
    let mut opened = None;
    let mut since = Duration::ZERO;
    let mut opening: Option<JoinHandle<()>> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            _ = stop.changed() => return,
        }
        storage.tell();
        if !storage.is_remembered() {
            let known = Arc::clone(&storage);
            let remembered = tokio::task::spawn_blocking(move || known.remember()).await;
            if let Ok(Err(error)) = remembered {
                tracing::warn!(%error, "it is not written down which stores the bucket has");
                tokio::time::sleep(REST).await;
            }
        }
        let Some(epoch) = storage.gained() else {
            let epoch = epoch(&storage.depots);
            since = since.saturating_add(LOOK_INTERVAL);
            let is_due = since >= REOPEN_INTERVAL && storage.unopened.lock().is_some();
            let is_free = opening.as_ref().is_none_or(JoinHandle::is_finished);
            if epoch.is_some() && is_free && (epoch != opened || is_due) {
                (opened, since) = (epoch, Duration::ZERO);
                let work = open_written(Arc::clone(&app), Arc::clone(&storage));
                opening = Some(tokio::task::spawn_blocking(work));
            }
            continue;
        };
        let work = Arc::clone(&app);
        let done = tokio::task::spawn_blocking(move || work.tenants.take_over()).await;
        match done {
            Ok(Ok(())) => storage.admitted.store(epoch, Ordering::Release),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot take the bucket over; it is tried again");
                tokio::time::sleep(REST).await;
            }
            // A panic was told by its hook.
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}

/// Says how far the history in the bucket goes, and opens what is on this disk as far as it can be.
fn open_written(app: Arc<App>, storage: Arc<Storage>) -> impl FnOnce() + Send + 'static {
    move || {
        if let Err(error) = storage.tell_history() {
            tracing::warn!(%error, "it is not known how far the history in the bucket goes");
        }
        let error = app.tenants.open_written().err();
        let line =
            |error| format!("not everything on this disk can be opened and shipped: {error}");
        *storage.unopened.lock() = error.map(line);
    }
}

fn epoch(depots: &Depots) -> Option<u64> {
    match depots.role() {
        Role::Writer { epoch } => Some(epoch),
        _ => None,
    }
}

fn some_name(by: &str) -> &str {
    if by.is_empty() { "another server" } else { by }
}

/// The time up to which a store has rows in the bucket, milliseconds since 1970; nothing when it has
/// none. Blocks of metrics have the range of their window, so that the time at which a block was made
/// bounds it, too.
fn newest_ms(document: &Document, signal: &str) -> Option<i64> {
    let unit = if signal == METRICS { 1 } else { 1_000_000 };
    let rows = document.blocks.iter().filter(|block| block.rows > 0);
    rows.map(|block| {
        let last = block.range.end.saturating_sub(1).div_euclid(unit);
        last.min(block.created_ms)
    })
    .max()
}

fn history(bucket: &str, store: &StoreName, newest_ms: i64) -> String {
    let newest = config::rfc3339(newest_ms.saturating_mul(1_000_000));
    let StoreName { tenant, signal } = store;
    format!(
        "the {signal} of tenant {tenant} were taken over from {bucket} into an empty data directory: the newest shipped row is from {newest}; what was appended after it is lost with the former disk, unless a server starts on that again"
    )
}

/// Whether there is no such directory, or nothing in it.
fn has_nothing(fs: &dyn Fs, dir: &Path) -> Result<bool, Error> {
    match fs.list(dir) {
        Ok(entries) => Ok(entries.is_empty()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Error::io(format!("list {}", dir.display()), error)),
    }
}

/// What stays the same of a line as long as its trouble does.
fn key(line: &str) -> &str {
    line.split_once(" UTC:").map_or(line, |(key, _)| key)
}

/// Checks a bucket, which is only read, or written to. It may be away if the data directory `was_used`
/// with one before.
fn reach(bucket: &Bucket, is_read_only: bool, was_used: bool) -> Result<FirstAsk, Error> {
    let hurried;
    let asked = if was_used {
        hurried = bucket.hurried(FIRST_ATTEMPTS, FIRST_TIME);
        &hurried
    } else {
        bucket
    };
    let checked = match is_read_only {
        true => asked.is_empty("").map(|_| 0),
        false => asked.check().map(|checked| checked.ahead_ms),
    };
    match checked {
        Ok(ahead_ms) => {
            if ahead_ms.abs() > AHEAD_MS_MAX {
                tracing::warn!(
                    "the clock of {} is ahead of this machine's by {} s; synchronise them",
                    bucket.name(),
                    ahead_ms / 1000
                );
            }
            Ok(match was_used {
                true => FirstAsk::Optional,
                false => FirstAsk::Required,
            })
        }
        Err(error) if was_used && Reason::of(&error).is_some_and(Reason::passes) => {
            Ok(FirstAsk::Failed(error))
        }
        Err(error) => Err(error),
    }
}

/// The stores that the data directory says are in the bucket. Lines that say nothing are passed over.
fn remembered(fs: &dyn Fs, dir: &Path) -> Result<Vec<StoreName>, Error> {
    let path = dir.join(STORES);
    let found = fs::read_if_exists(fs, &path)
        .map_err(|e| Error::io(format!("read {}", path.display()), e))?
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&found);
    let pairs = text.lines().filter_map(|line| line.split_once('/'));
    let stores = pairs
        .filter(|(tenant, signal)| TenantId::parse(tenant).is_ok() && SIGNALS.contains(signal));
    Ok(stores
        .map(|(tenant, signal)| StoreName::new(tenant, signal))
        .collect())
}

/// What of the disk single pages may take, and what whole copies may.
fn shares(disk: u64) -> (u64, u64) {
    let pages = disk / PAGES_ONE_IN;
    (pages, disk - pages)
}

/// Where credentials and endpoints of buckets come from.
pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// What others are told of this process.
pub(crate) fn name(settings: &config::Storage) -> String {
    if let Some(name) = &settings.instance_name {
        return name.clone();
    }
    let host = std::env::var("HOSTNAME").ok();
    let host = host.filter(|host| !host.is_empty()).or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    });
    let host = host.unwrap_or_else(|| "trine".to_owned());
    format!("{host} (process {})", std::process::id())
}

/// Whether a data directory has a [name](instance): it was used with a bucket.
fn is_named(fs: &dyn Fs, dir: &Path) -> Result<bool, Error> {
    let path = dir.join(INSTANCE);
    let found = fs::read_if_exists(fs, &path);
    let found = found.map_err(|e| Error::io(format!("read {}", path.display()), e))?;
    Ok(found.is_some())
}

/// The name of the data directory, made once: the file `instance`.
pub(crate) fn instance(fs: &dyn Fs, dir: &Path, clock: &dyn Clock) -> Result<String, Error> {
    let path = dir.join(INSTANCE);
    let shown = path.display();
    let found = fs::read_if_exists(fs, &path).map_err(|e| Error::io(format!("read {shown}"), e))?;
    if let Some(bytes) = found {
        let text = String::from_utf8_lossy(&bytes);
        let id: BlockId = text.trim().parse().map_err(|_| {
            Error::corrupt(
                &shown,
                0,
                "it is not the name of a data directory; restore it, or remove it if all data of the directory is shipped",
            )
        })?;
        return Ok(id.to_string());
    }
    let id = IdSource::new(RandomState::new().build_hasher().finish())
        .next(clock)
        .to_string();
    fs::replace(fs, &path, format!("{id}\n").as_bytes())?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use trine_storage::clock::SystemClock;
    use trine_storage::fs::RealFs;

    use super::*;

    #[test]
    fn a_directory_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let clock = SystemClock::new();
        let first = instance(&RealFs, dir.path(), &clock).unwrap();
        assert_eq!(instance(&RealFs, dir.path(), &clock).unwrap(), first);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(instance(&RealFs, other.path(), &clock).unwrap(), first);
        let mut file = RealFs.create(&dir.path().join("instance")).unwrap();
        file.write_all(b"x").unwrap();
        let error = instance(&RealFs, dir.path(), &clock).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
    }

    #[test]
    fn a_trouble_is_told_once_however_its_line_changes() {
        let line = |minutes| {
            format!(
                "s3://b fails since 12:01:07 UTC: it does not answer; the oldest for {minutes} min"
            )
        };
        assert_eq!(key(&line(1)), key(&line(2)));
        assert_eq!(key("block x is damaged"), "block x is damaged");
    }

    #[test]
    fn others_are_told_the_host_and_the_process_unless_it_has_a_name() {
        let mut settings = config::Storage::default();
        assert!(name(&settings).ends_with(&format!(" (process {})", std::process::id())));
        settings.instance_name = Some("a".to_owned());
        assert_eq!(name(&settings), "a");
        assert_eq!(shares(100), (20, 80));
    }
}
