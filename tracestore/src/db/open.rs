//! Puts a store together: its blocks, then what the log holds after them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use trine_storage::block_set::{BlockSet, Version};
use trine_storage::fs;
use trine_storage::shared::Maintain;
use trine_storage::shipping::{Shipper, Shipping};
use trine_storage::wal::{Replayer, Wal};
use trine_storage::{Kind, Result};

use super::{BackgroundErrors, Compactor, Handle, Inner, TraceStore};
use crate::block::image::BlockFile;
use crate::config::{Components, Config, Progress};
use crate::live::Live;
use crate::retention::Retention;
use crate::tombstone;
use crate::wal_record;

impl TraceStore {
    pub(crate) fn assemble(
        path: &Path,
        config: Config,
        components: Components,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let Components {
            fs,
            clock,
            shared,
            shippers,
            depot,
        } = components;
        let lock = fs::claim(&*fs, path)?;
        let blocks: BlockSet<BlockFile> =
            BlockSet::open_with(Arc::clone(&fs), Arc::clone(&clock), path, depot)?;
        let version = blocks.version();
        let tombstones = tombstone::of_catalog(&version.deletes)?;
        let applied = version.blocks.iter().map(|b| b.meta.deletes_applied);
        let mut live = Live::new(config.stage_spans_max);
        let mut replaying = Replaying {
            live: &mut live,
            version: &version,
            now_ns: clock.now_ns(),
            damaged: Vec::new(),
            progress,
        };
        let from = version.wal_position;
        let (wal, mut replay) = Wal::open(
            Arc::clone(&fs),
            &path.join("wal"),
            config.wal.clone(),
            from,
            &mut replaying,
        )?;
        replay.damaged.extend(replaying.damaged);
        // A crash may have come between the catalog's commit and this.
        wal.truncate(from)?;
        let account = shared.memory().account();
        account.set(live.figures().bytes);
        let shipping = Shipping::new(clock.now_ms());
        let retention = Retention::new(config.retention, &config.retention_rules);
        let inner = Arc::new(Inner {
            config,
            wal,
            fs,
            clock,
            blocks,
            live: Mutex::new(live),
            read_ns: AtomicI64::new(i64::MIN),
            account,
            order: Mutex::new(()),
            sealing: Mutex::new(()),
            compacting: Mutex::new(()),
            deleting: Mutex::new(()),
            tombstones: RwLock::new(Arc::new(tombstones)),
            carried_out: AtomicU64::new(applied.max().unwrap_or(0)),
            retention: Arc::new(retention),
            compaction: Mutex::default(),
            shipping,
            shared: shared.clone(),
            shippers: shippers.clone(),
            replay,
            background_error: Mutex::new(BackgroundErrors::default()),
            closed: AtomicBool::new(false),
            compactor: Mutex::new(None),
            shipper: Mutex::new(None),
            lock: Mutex::new(Some(lock)),
        });
        let sealer: Weak<dyn Maintain> = Arc::<Inner>::downgrade(&inner);
        shared.register(sealer);
        let compactor = Arc::new(Compactor {
            inner: Arc::downgrade(&inner),
        });
        let registered: Weak<dyn Maintain> = Arc::<Compactor>::downgrade(&compactor);
        shared.register(registered);
        *inner.compactor.lock() = Some(compactor);
        // Closes what was opened if that fails.
        let handle = Handle { inner };
        let inner = &handle.inner;
        *inner.shipper.lock() = Shipper::begin(inner, &shippers)?;
        Ok(Self {
            inner: Arc::new(handle),
        })
    }
}

/// What the log gives while a store is opened.
struct Replaying<'a> {
    live: &'a mut Live,
    version: &'a Version<BlockFile>,
    now_ns: i64,
    damaged: Vec<String>,
    progress: &'a mut dyn FnMut(Progress),
}

impl Replayer for Replaying<'_> {
    fn record(&mut self, position: u64, record: &[u8]) -> Result<()> {
        match wal_record::replay(record, self.live.stage(self.now_ns)) {
            Ok(_) => {
                if self.live.is_full() {
                    // The store is ready sooner when runs are built by who needs them, or soon after.
                    self.live.cut(&self.version.blocks, i64::MIN);
                }
            }
            // One bad record must not keep the store from opening for ever.
            Err(error) if error.kind() == Kind::Corrupt => {
                let what = format!("record {position} of the log is lost: {error}");
                self.damaged.push(what);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64) {
        (self.progress)(Progress::Log { done, total });
    }
}
