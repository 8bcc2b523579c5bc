//! A data directory as the place that is copied. Its engines are opened one after another, write what is
//! in their logs into blocks and are closed again: that is what a server does at its end. A copy of each
//! store on the same disk, which shares its files, then ships all it has. So the directory stays one that
//! needs no bucket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trine_logstore::LogStore;
use trine_query::logql::logstore::Conditions;
use trine_storage::catalog::Catalog;
use trine_storage::depot::Depot;
use trine_storage::fs::{self, Fs, RealFs};
use trine_storage::remote::{Gather, StoreName, Target, unfinished};
use trine_storage::shared::Shared;
use trine_storage::{Error, Kind};
use trine_tracestore::TraceStore;
use trine_tsdb::Tsdb;

use super::{Work, release};
use crate::storage;
use crate::tenants::{SIGNALS, TenantId};

/// Where in the data directory stores are copied to for the time that they are shipped.
const STAGING: &str = "backup.tmp";

impl Work {
    /// Copies a data directory to a bucket; gives what cannot be read of it, a sentence each.
    pub(super) fn back_up(&self, dir: &Path, url: &str) -> Result<Vec<String>, Error> {
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        // Nothing is made where there is nothing.
        stores(&*fs, dir)?;
        let _lock = fs::claim(&*fs, dir)?;
        unfinished(&*fs, dir)?.map_or(Ok(()), Err)?;
        let stores = stores(&*fs, dir)?;
        for name in &stores {
            refuse_shipped(&fs, dir, name)?;
        }
        let identity = storage::instance(&*fs, dir, &*self.clock)?;
        let target = Arc::new(self.target(url, &identity)?);
        let done = self.copy_stores(&fs, dir, &stores, &target);
        if let Some(target) = Arc::into_inner(target) {
            release(target);
        }
        done
    }

    fn copy_stores(
        &self,
        fs: &Arc<dyn Fs>,
        dir: &Path,
        stores: &[StoreName],
        target: &Arc<Target>,
    ) -> Result<Vec<String>, Error> {
        let progress = &self.transfer.progress;
        progress.plan_stores(u64::try_from(stores.len()).unwrap_or(u64::MAX));
        let staging = dir.join(STAGING);
        // Of a run that was killed.
        clear(&staging)?;
        let mut lacks = Vec::new();
        for name in stores {
            (self.transfer.check)()?;
            let gather = Arc::new(Gather::begin(target, name, &self.transfer)?);
            let copied = self.copy_store(fs, dir, &staging, &gather, name);
            let cleared = clear(&staging);
            lacks.extend(copied?);
            cleared?;
            gather.commit()?;
            progress.store_done();
        }
        Ok(lacks)
    }

    fn copy_store(
        &self,
        fs: &Arc<dyn Fs>,
        dir: &Path,
        staging: &Path,
        gather: &Arc<Gather>,
        name: &StoreName,
    ) -> Result<Vec<String>, Error> {
        // Nothing happens in the background: what is copied is what was there.
        let shared = Shared::without_workers();
        let (fs, clock) = (Arc::clone(fs), Arc::clone(&self.clock));
        let from = store_dir(dir, name);
        let gather = || Arc::clone(gather) as Arc<dyn Depot>;
        // The engines have the same methods, and no trait in common.
        macro_rules! copy {
            ($builder:expr) => {{
                let builder = |dir: &Path| {
                    let builder = $builder(dir);
                    builder
                        .fs(Arc::clone(&fs))
                        .clock(Arc::clone(&clock))
                        .shared(shared.clone())
                };
                let engine = builder(&from).open()?;
                let staged = engine.backup(staging);
                let lacks = engine.stats().damaged;
                let closed = engine.close();
                staged.and(closed)?;
                drop(engine);
                let builder = builder(staging).depot(gather());
                let engine = builder.shippers(shared.clone()).open()?;
                let shipped = engine.ship();
                let closed = engine.close();
                shipped.and(closed)?;
                Ok(lacks)
            }};
        }
        match name.signal.as_str() {
            "metrics" => copy!(Tsdb::builder),
            "logs" => copy!(|dir| LogStore::builder(dir).language(Arc::new(Conditions))),
            _ => copy!(TraceStore::builder),
        }
    }
}

fn store_dir(dir: &Path, name: &StoreName) -> PathBuf {
    dir.join("tenants").join(&name.tenant).join(&name.signal)
}

/// The stores of a data directory, at least one.
fn stores(fs: &dyn Fs, dir: &Path) -> Result<Vec<StoreName>, Error> {
    let list = |dir: &Path| match fs.list(dir) {
        Ok(entries) => Ok(entries),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io(format!("list {}", dir.display()), error)),
    };
    let root = dir.join("tenants");
    let mut stores = Vec::new();
    for tenant in list(&root)?.iter().filter(|entry| entry.is_dir) {
        if TenantId::parse(&tenant.name).is_err() {
            continue;
        }
        let entries = list(&root.join(&tenant.name))?;
        let is_store = |signal: &str| entries.iter().any(|e| e.is_dir && e.name == signal);
        let signals = SIGNALS.into_iter().filter(|signal| is_store(signal));
        stores.extend(signals.map(|signal| StoreName::new(&tenant.name, signal)));
    }
    if stores.is_empty() {
        let what = format!(
            "{} has no data; name the directory that a server was given as --data-dir",
            dir.display()
        );
        return Err(Error::invalid(what));
    }
    Ok(stores)
}

/// Refuses a directory whose data is in a bucket already.
fn refuse_shipped(fs: &Arc<dyn Fs>, dir: &Path, name: &StoreName) -> Result<(), Error> {
    let adopted = Catalog::new(Arc::clone(fs), &store_dir(dir, name).join("shipped"));
    if adopted.load()?.version == 0 {
        return Ok(());
    }
    let what = format!(
        "{} ships its data to a bucket, where most of it is; copy that: give its --storage as --from (POST /flush ships what is on the disk only)",
        dir.display()
    );
    Err(Error::new(Kind::Unsupported, what))
}

/// Removes what was staged.
#[expect(
    clippy::disallowed_methods,
    reason = "a whole directory that nothing depends on goes, however much of it there is"
)]
fn clear(staging: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(staging) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let what = format!("remove {}", staging.display());
            Err(Error::io(what, error))
        }
        _ => Ok(()),
    }
}
