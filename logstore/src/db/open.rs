//! Puts a store together: its blocks, then what the log holds after them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use trine_storage::block_set::BlockSet;
use trine_storage::fs;
use trine_storage::shared::Maintain;
use trine_storage::shipping::{Shipper, Shipping};
use trine_storage::wal::{Replayer, Wal};
use trine_storage::{Kind, Result};

use super::{BackgroundErrors, Compactor, Handle, Inner, LogStore, Memory};
use crate::appender::Rooms;
use crate::buffer::Buffer;
use crate::config::{Components, Config, Progress};
use crate::retention::Retention;
use crate::tombstone::Tombstone;
use crate::wal_record;

impl LogStore {
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
            language,
        } = components;
        let lock = fs::claim(&*fs, path)?;
        let blocks = BlockSet::open_with(Arc::clone(&fs), Arc::clone(&clock), path, depot)?;
        // A delete that cannot be read is not passed over: deleted entries would come back.
        let version = blocks.version();
        let tombstones = Tombstone::all(&version.deletes, language.as_deref())?;
        let applied = version.blocks.iter().map(|b| b.meta.deletes_applied);
        let retention = Retention::new(config.retention, &config.retention_rules);
        let buffer = Buffer::new(shared.memory().account());
        let mut replaying = Replaying {
            buffer: &buffer,
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
        let inner = Arc::new(Inner {
            config,
            wal,
            fs,
            shipping: Shipping::new(clock.now_ms()),
            clock,
            blocks,
            rooms: Rooms::default(),
            memory: RwLock::new(Memory {
                buffer: Arc::new(buffer),
                sealing: None,
            }),
            order: Mutex::new(()),
            sealing: Mutex::new(()),
            compacting: Mutex::new(()),
            deleting: Mutex::new(()),
            tombstones: RwLock::new(Arc::new(tombstones)),
            language,
            carried_out: AtomicU64::new(applied.max().unwrap_or(0)),
            tails: Arc::default(),
            compaction: Mutex::default(),
            retention: Arc::new(retention),
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
    buffer: &'a Buffer,
    now_ns: i64,
    damaged: Vec<String>,
    progress: &'a mut dyn FnMut(Progress),
}

impl Replayer for Replaying<'_> {
    fn record(&mut self, position: u64, record: &[u8]) -> Result<()> {
        match wal_record::decode(record) {
            Ok(batch) => self.buffer.apply(&batch, self.now_ns),
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
