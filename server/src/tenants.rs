//! Tenants: who a request is for, and the three engines that hold what is theirs.
//!
//! Handlers take the id from the header `X-Scope-OrgID`; writes open engines on first use, reads
//! of a tenant that was never written to find nothing and create nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::HeaderMap;
use parking_lot::Mutex;
use trine_logstore::LogStore;
use trine_query::logql::logstore::Conditions;
use trine_storage::block_set::Shipped;
use trine_storage::clock::Clock;
use trine_storage::depot::Depot;
use trine_storage::fs::{Fs, Lock};
use trine_storage::remote::StoreName;
use trine_storage::shared::{self, Shared};
use trine_storage::{Error, Kind};
use trine_tracestore::TraceStore;
use trine_tsdb::Tsdb;

use crate::config::{self, Config};
use crate::ingest::elections::Elections;
use crate::ingest::known_series::KnownSeries;
use crate::ingest::rates::Rates;
use crate::process::generator::{self, Generator};
use crate::process::patterns::{Patterns, Total};
use crate::refusal::Refusal;
use crate::storage::Storage;

pub mod revival;
mod slot;

use slot::Slot;

/// The header that names the tenant.
pub const TENANT_HEADER: &str = "x-scope-orgid";

/// Bytes of a tenant's id.
const ID_BYTES_MAX: usize = 150;

/// Bytes that `detected_level` and its value may add to an entry's metadata.
const LEVEL_BYTES_MAX: usize = 4096;

/// The names of what a tenant has, in its directory and in a bucket.
pub(crate) const SIGNALS: [&str; 3] = [METRICS, LOGS, TRACES];

/// The name of a tenant's metrics.
pub const METRICS: &str = "metrics";

const LOGS: &str = "logs";
const TRACES: &str = "traces";

/// Stores of a bucket that are opened at the same time at the start.
const OPENED_AT_ONCE: usize = 8;

/// How long a store may take to open before it is told how far it is, milliseconds.
const TOLD_AFTER_MS: i64 = 1_000;

/// A tenant's id: 1 to 150 of the characters that Mimir allows, never `.` or `..`, so that it is
/// also the name of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant of requests that name none.
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }

    /// The tenant that holds what the server observes of itself.
    pub fn own() -> Self {
        Self("trine".into())
    }

    /// Reads an id.
    ///
    /// # Errors
    /// [`Reason::Bad`](crate::refusal::Reason::Bad) when it is not one.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.contains('|') {
            let why = "several tenants at once (a|b) can only be read; name one tenant";
            return Err(Refusal::bad(why));
        }
        if text.len() > ID_BYTES_MAX {
            let why = format!("tenant ID is too long: max {ID_BYTES_MAX} characters");
            return Err(Refusal::bad(why));
        }
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()".contains(c);
        if let Some(c) = text.chars().find(|&c| !is_allowed(c)) {
            let why = format!("tenant ID {text:?} contains unsupported character {c:?}");
            return Err(Refusal::bad(why));
        }
        if matches!(text, "" | "." | "..") {
            return Err(Refusal::bad(format!("tenant ID {text:?} is not allowed")));
        }
        Ok(Self(text.into()))
    }

    /// The id that a request names, `anonymous` without one.
    ///
    /// # Errors
    /// As [`TenantId::parse`].
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        match headers.get(TENANT_HEADER) {
            None => Ok(Self::anonymous()),
            Some(value) if value.is_empty() => Ok(Self::anonymous()),
            Some(value) => {
                let text = value.to_str();
                Self::parse(text.map_err(|_| Refusal::bad("the tenant ID is not ASCII"))?)
            }
        }
    }

    /// The ids that a request names, `a|b` for two of them: in order, each once, at least one.
    ///
    /// # Errors
    /// As [`TenantId::parse`].
    pub fn all_of(headers: &HeaderMap) -> Result<Vec<Self>, Refusal> {
        let several = headers.get(TENANT_HEADER).and_then(|v| v.to_str().ok());
        let mut ids = match several.filter(|text| text.contains('|')) {
            Some(text) => text
                .split('|')
                .map(Self::parse)
                .collect::<Result<Vec<_>, _>>()?,
            None => vec![Self::of(headers)?],
        };
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All tenants of a data directory.
#[derive(Debug)]
pub struct Tenants {
    root: PathBuf,
    tenants_max: usize,
    parts: Parts,
    known: Mutex<BTreeMap<TenantId, Arc<Tenant>>>,
    _lock: Box<dyn Lock>,
}

/// What every engine is opened with.
#[derive(Debug, Clone)]
struct Parts {
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    shared: Shared,
    metrics: trine_tsdb::Config,
    logs: Arc<LogsByTenant>,
    traces: trine_tracestore::Config,
    /// How many patterns of lines there are of all tenants.
    patterns: Total,
    /// How metrics are made of spans.
    generators: Arc<GeneratorsByTenant>,
    /// How much of the spans of all tenants waits to be counted.
    uncounted: generator::Total,
    /// The bucket behind the data directory.
    storage: Option<Arc<Storage>>,
}

/// What the metrics of spans are made with.
#[derive(Debug)]
struct GeneratorsByTenant {
    usual: Arc<config::Generator>,
    others: BTreeMap<String, Arc<config::Generator>>,
}

impl GeneratorsByTenant {
    fn new(config: &Config) -> Self {
        let of = |config: &Config| Arc::new(config.generator.clone());
        let others = config.overrides.iter();
        Self {
            usual: of(config),
            others: others.map(|(id, own)| (id.clone(), of(own))).collect(),
        }
    }

    fn of(&self, id: &TenantId) -> &Arc<config::Generator> {
        self.others.get(id.as_str()).unwrap_or(&self.usual)
    }
}

/// What the engines of logs are opened with.
#[derive(Debug)]
struct LogsByTenant {
    usual: trine_logstore::Config,
    others: BTreeMap<String, trine_logstore::Config>,
}

impl LogsByTenant {
    fn new(config: &Config) -> Self {
        let of = |config: &Config| trine_logstore::Config {
            retention: config.retention,
            future_max: Some(config.creation_grace_period),
            line_bytes_max: config.limits.log_line_bytes_max,
            // The server adds the level to what the sender's metadata may be.
            metadata_bytes_max: config.limits.log_metadata_bytes_max + LEVEL_BYTES_MAX,
            metadata_max: config.limits.log_metadata_entries_max + 1,
            ship_age_max: config.storage.ship_age_max,
            follow_interval: config.storage.follow_interval,
            ..Default::default()
        };
        let others = config.overrides.iter();
        Self {
            usual: of(config),
            others: others.map(|(id, own)| (id.clone(), of(own))).collect(),
        }
    }

    fn of(&self, id: &TenantId) -> &trine_logstore::Config {
        self.others.get(id.as_str()).unwrap_or(&self.usual)
    }
}

/// One tenant's engines.
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    dir: PathBuf,
    parts: Parts,
    metrics: Slot<Tsdb>,
    /// Series of `metrics` by what senders call them.
    known_series: KnownSeries,
    /// Which replicas of senders of metrics are listened to.
    elections: Elections,
    logs: Slot<LogStore>,
    /// How fast logs come.
    rates: Rates,
    /// Patterns of the lines of logs.
    patterns: Patterns,
    traces: Slot<TraceStore>,
    /// Metrics of the spans.
    generator: Generator,
}

impl Tenants {
    /// Finds the tenants in the data directory, which `lock` has locked, and in the bucket behind it.
    ///
    /// # Errors
    /// [`Kind::Io`].
    pub fn open(
        config: &Config,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        shared: Shared,
        lock: Box<dyn Lock>,
        storage: Option<Arc<Storage>>,
    ) -> Result<Self, Error> {
        let root = config.data_dir.join("tenants");
        fs.create_dir_all(&root)
            .map_err(|e| Error::io(format!("create {}", root.display()), e))?;
        let metrics = trine_tsdb::Config {
            retention: config.retention,
            future_max: Some(config.creation_grace_period),
            ship_age_max: config.storage.ship_age_max,
            follow_interval: config.storage.follow_interval,
            ..Default::default()
        };
        let logs = Arc::new(LogsByTenant::new(config));
        let traces = trine_tracestore::Config {
            retention: config.retention,
            span_attributes_max: config.limits.trace_attributes_max,
            ship_age_max: config.storage.ship_age_max,
            follow_interval: config.storage.follow_interval,
            ..Default::default()
        };
        let parts = Parts {
            fs,
            clock,
            shared,
            metrics,
            logs,
            traces,
            patterns: Total::default(),
            generators: Arc::new(GeneratorsByTenant::new(config)),
            uncounted: generator::Total::default(),
            storage,
        };
        let entries = parts
            .fs
            .list(&root)
            .map_err(|e| Error::io(format!("list {}", root.display()), e))?;
        let known = entries
            .into_iter()
            .filter(|entry| entry.is_dir)
            .filter_map(|entry| TenantId::parse(&entry.name).ok())
            .map(|id| (id.clone(), Arc::new(Tenant::new(&root, &id, &parts))))
            .collect();
        Ok(Self {
            root,
            tenants_max: config.tenants_max,
            parts,
            known: Mutex::new(known),
            _lock: lock,
        })
    }

    /// The tenant, if anything was ever written for it. Asks nothing of a bucket.
    pub fn get(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        let mut known = self.known.lock();
        if let Some(tenant) = known.get(id) {
            return Some(Arc::clone(tenant));
        }
        // Another server may have written for it.
        let depots = self.parts.storage.as_ref()?.depots();
        let is_shipped = |signal: &str| depots.has(id.as_str(), signal);
        if !SIGNALS.into_iter().any(is_shipped) {
            return None;
        }
        let tenant = Arc::new(Tenant::new(&self.root, id, &self.parts));
        known.insert(id.clone(), Arc::clone(&tenant));
        Some(tenant)
    }

    /// The tenant, for writing.
    ///
    /// # Errors
    /// [`Kind::Limit`] when it would be one too many; those of [`Tenants::may_write`].
    pub fn get_or_create(&self, id: &TenantId) -> Result<Arc<Tenant>, Error> {
        self.may_write()?;
        if let Some(tenant) = self.get(id) {
            return Ok(tenant);
        }
        let mut known = self.known.lock();
        if let Some(tenant) = known.get(id) {
            return Ok(Arc::clone(tenant));
        }
        if known.len() >= self.tenants_max {
            let why = format!(
                "tenant {id} would be one more than tenants-max allows ({}); raise it",
                self.tenants_max
            );
            return Err(Error::new(Kind::Limit, why));
        }
        let tenant = Arc::new(Tenant::new(&self.root, id, &self.parts));
        known.insert(id.clone(), Arc::clone(&tenant));
        Ok(tenant)
    }

    /// Whether this server takes writes now.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`] when it only reads, [`Kind::Locked`] while another server writes to the bucket
    /// or this one is about to.
    pub fn may_write(&self) -> Result<(), Error> {
        let refusal = self.parts.storage.as_ref().and_then(|s| s.refusal());
        refusal.map_or(Ok(()), Err)
    }

    /// The bucket behind the data directory.
    pub fn storage(&self) -> Option<&Arc<Storage>> {
        self.parts.storage.as_ref()
    }

    /// The tenants and their open engines, for figures.
    pub fn all(&self) -> Vec<(TenantId, Arc<Tenant>)> {
        self.known
            .lock()
            .iter()
            .map(|(id, tenant)| (id.clone(), Arc::clone(tenant)))
            .collect()
    }

    /// Has every open engine take over what another server wrote to the bucket last: once this one has
    /// its lease, and before it lets writes in. Blocks.
    ///
    /// # Errors
    /// The first failure; it may be done again.
    pub fn take_over(&self) -> Result<(), Error> {
        for (_, tenant) in self.all() {
            tenant.take_over()?;
        }
        Ok(())
    }

    /// Opens every engine that was written to this disk, so that what is only there is shipped although
    /// nobody asks for it. Blocks.
    ///
    /// # Errors
    /// The first failure; the others are opened nevertheless. It may be done again.
    pub fn open_written(&self) -> Result<(), Error> {
        let mut first = Ok(());
        for (_, tenant) in self.all() {
            first = first.and(tenant.open_written());
        }
        first
    }

    /// Opens the stores of the bucket, `max` at most, so that the first query of each finds its catalog
    /// loaded. What cannot be opened is opened by whoever reads it. Blocks until `is_over`.
    pub fn open_shipped(&self, max: usize, is_over: &(dyn Fn() -> bool + Sync)) {
        let Some(storage) = &self.parts.storage else {
            return;
        };
        let mut stores = storage.depots().stores();
        stores.truncate(max);
        let open = |store: &StoreName| {
            let id = TenantId::parse(&store.tenant).ok();
            if let Some(tenant) = id.filter(|_| !is_over()).and_then(|id| self.get(&id)) {
                match store.signal.as_str() {
                    METRICS => tenant.read_metrics().map(drop),
                    LOGS => tenant.read_logs().map(drop),
                    TRACES => tenant.read_traces().map(drop),
                    _ => Ok(()),
                }
                // Whoever reads it hears of it.
                .ok();
            }
            Ok(())
        };
        // No store fails.
        shared::for_each(OPENED_AT_ONCE, &stores, open).ok();
    }

    /// Writes what is in memory into blocks, and ships those where there is a bucket. Blocks.
    ///
    /// # Errors
    /// The first failure; the others are flushed nevertheless.
    pub fn flush(&self) -> Result<(), Error> {
        self.may_write()?;
        // What nobody has asked for since the start is flushed, too.
        let mut first = self.open_written();
        for (_, tenant) in self.all() {
            first = first.and(tenant.flush());
        }
        first
    }

    /// Closes every open engine; what is written later is refused.
    ///
    /// # Errors
    /// The first failure; the others are closed nevertheless.
    pub fn close(&self) -> Result<(), Error> {
        let mut first = Ok(());
        for (_, tenant) in self.all() {
            for closed in [
                tenant.metrics.get().map_or(Ok(()), |engine| engine.close()),
                tenant.logs.get().map_or(Ok(()), |engine| engine.close()),
                tenant.traces.get().map_or(Ok(()), |engine| engine.close()),
            ] {
                first = first.and(closed);
            }
        }
        self.parts.shared.stop();
        first
    }
}

impl Tenant {
    fn new(root: &Path, id: &TenantId, parts: &Parts) -> Self {
        Self {
            id: id.clone(),
            dir: root.join(id.as_str()),
            parts: parts.clone(),
            metrics: Slot::new(),
            known_series: KnownSeries::default(),
            elections: Elections::default(),
            logs: Slot::new(),
            rates: Rates::default(),
            patterns: Patterns::new(parts.patterns.clone()),
            traces: Slot::new(),
            generator: Generator::new(
                Arc::clone(parts.generators.of(id)),
                parts.uncounted.clone(),
                parts.clock.now_ms(),
            ),
        }
    }

    fn take_over(&self) -> Result<(), Error> {
        if let Some(engine) = self.metrics.get_opened() {
            engine.take_over()?;
        }
        if let Some(engine) = self.logs.get_opened() {
            engine.take_over()?;
        }
        if let Some(engine) = self.traces.get_opened() {
            engine.take_over()?;
        }
        Ok(())
    }

    /// Opens what was written to this disk.
    fn open_written(&self) -> Result<(), Error> {
        let is_here = |signal: &str| self.parts.fs.list(&self.dir.join(signal)).is_ok();
        if is_here(METRICS) {
            self.metrics()?;
        }
        if is_here(LOGS) {
            self.logs()?;
        }
        if is_here(TRACES) {
            self.traces()?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        let is_shipped = self.parts.storage.is_some();
        // What one of them cannot do is no reason for the others not to.
        let of = |flushed: Result<(), Error>, ship: &dyn Fn() -> Result<Shipped, Error>| {
            flushed?;
            match is_shipped {
                true => ship().map(drop),
                false => Ok(()),
            }
        };
        let metrics = self.open_metrics();
        let metrics = metrics.map_or(Ok(()), |engine| of(engine.flush(), &|| engine.ship()));
        let logs = self.open_logs();
        let logs = logs.map_or(Ok(()), |engine| of(engine.flush(), &|| engine.ship()));
        let traces = self.open_traces();
        let traces = traces.map_or(Ok(()), |engine| of(engine.flush(), &|| engine.ship()));
        metrics.and(logs).and(traces)
    }

    /// The depot of a store and the threads that ship it, where there is a bucket.
    fn depot(&self, signal: &str) -> Option<(Arc<dyn Depot>, Shared)> {
        let storage = self.parts.storage.as_ref()?;
        let depot = storage.depots().store(self.id.as_str(), signal);
        Some((depot, storage.shippers().clone()))
    }

    /// The metrics engine, for writing.
    ///
    /// # Errors
    /// As the engine's builder.
    pub fn metrics(&self) -> Result<Tsdb, Error> {
        self.metrics.get_or_open(|| self.begin_metrics())
    }

    fn begin_metrics(&self) -> Result<Tsdb, Error> {
        let parts = &self.parts;
        let began_ms = parts.clock.now_ms();
        let dir = self.dir.join(METRICS);
        let mut builder = Tsdb::builder(&dir)
            .config(parts.metrics.clone())
            .fs(Arc::clone(&parts.fs))
            .clock(Arc::clone(&parts.clock))
            .shared(parts.shared.clone());
        if let Some((depot, shippers)) = self.depot(METRICS) {
            builder = builder.depot(depot).shippers(shippers);
        }
        builder.open_with_progress(|progress| {
            if parts.clock.now_ms() - began_ms >= TOLD_AFTER_MS {
                tracing::info!("opening {}: {progress}", dir.display());
            }
        })
    }

    /// The series that senders of remote write named before.
    pub fn known_series(&self) -> &KnownSeries {
        &self.known_series
    }

    /// Which replicas of senders of metrics are listened to.
    pub fn elections(&self) -> &Elections {
        &self.elections
    }

    /// How fast logs come.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Patterns of the lines of logs.
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// Metrics of the spans.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// The logs engine, for writing.
    ///
    /// # Errors
    /// As the engine's builder.
    pub fn logs(&self) -> Result<LogStore, Error> {
        self.logs.get_or_open(|| self.begin_logs())
    }

    fn begin_logs(&self) -> Result<LogStore, Error> {
        let parts = &self.parts;
        let mut builder = LogStore::builder(self.dir.join(LOGS))
            .config(parts.logs.of(&self.id).clone())
            .fs(Arc::clone(&parts.fs))
            .clock(Arc::clone(&parts.clock))
            .shared(parts.shared.clone())
            .language(Arc::new(Conditions));
        if let Some((depot, shippers)) = self.depot(LOGS) {
            builder = builder.depot(depot).shippers(shippers);
        }
        builder.open()
    }

    /// The traces engine, for writing.
    ///
    /// # Errors
    /// As the engine's builder.
    pub fn traces(&self) -> Result<TraceStore, Error> {
        self.traces.get_or_open(|| self.begin_traces())
    }

    fn begin_traces(&self) -> Result<TraceStore, Error> {
        let parts = &self.parts;
        let mut builder = TraceStore::builder(self.dir.join(TRACES))
            .config(parts.traces.clone())
            .fs(Arc::clone(&parts.fs))
            .clock(Arc::clone(&parts.clock))
            .shared(parts.shared.clone());
        if let Some((depot, shippers)) = self.depot(TRACES) {
            builder = builder.depot(depot).shippers(shippers);
        }
        builder.open()
    }

    /// The metrics engine if there is something in it, for reading.
    ///
    /// # Errors
    /// As the engine's builder.
    pub fn read_metrics(&self) -> Result<Option<Tsdb>, Error> {
        self.if_written(METRICS, self.metrics.get(), || self.metrics())
    }

    /// The logs engine if there is something in it, for reading.
    ///
    /// # Errors
    /// As the engine's builder.
    pub fn read_logs(&self) -> Result<Option<LogStore>, Error> {
        self.if_written(LOGS, self.logs.get(), || self.logs())
    }

    /// The traces engine if there is something in it, for reading.
    ///
    /// # Errors
    /// As the engine's builder.
    pub fn read_traces(&self) -> Result<Option<TraceStore>, Error> {
        self.if_written(TRACES, self.traces.get(), || self.traces())
    }

    /// The open metrics engine.
    pub fn open_metrics(&self) -> Option<Tsdb> {
        self.metrics.get()
    }

    /// The open logs engine.
    pub fn open_logs(&self) -> Option<LogStore> {
        self.logs.get()
    }

    /// The open traces engine.
    pub fn open_traces(&self) -> Option<TraceStore> {
        self.traces.get()
    }

    fn if_written<E>(
        &self,
        name: &str,
        open: Option<E>,
        or_open: impl FnOnce() -> Result<E, Error>,
    ) -> Result<Option<E>, Error> {
        if open.is_some() {
            return Ok(open);
        }
        if let Some(storage) = &self.parts.storage
            && storage.depots().has(self.id.as_str(), name)
        {
            return or_open().map(Some);
        }
        match self.parts.fs.list(&self.dir.join(name)) {
            Ok(_) => or_open().map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(
                format!("list {}", self.dir.join(name).display()),
                error,
            )),
        }
    }
}

#[cfg(test)]
mod tests;
