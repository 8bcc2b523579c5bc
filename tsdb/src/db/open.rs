//! Puts a store together: what the parts define, then what the log holds after them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use trine_storage::block_set::BlockSet;
use trine_storage::fs;
use trine_storage::label_index::LabelIndex;
use trine_storage::shared::{self, Maintain};
use trine_storage::shipping::{Shipper, Shipping};
use trine_storage::wal::{Replayer, Wal};
use trine_storage::{Kind, Labels, Result};

use super::ship::Recalled;
use super::{BackgroundErrors, Compactor, Handle, Inner, Tsdb};
use crate::block::{PART_LEVEL, Sealed};
use crate::config::{Components, Config, Progress};
use crate::head::{Head, Restored};
use crate::metadata::MetadataTable;
use crate::tombstone::Tombstone;
use crate::wal_record::{self, Record};

/// The first epoch; restored series were last appended to before it.
const FIRST_EPOCH: u32 = 1;
/// Series whose values are sorted together for the index.
const INDEXED_AT_ONCE: usize = 1 << 16;

impl Tsdb {
    pub(crate) fn assemble(
        path: &Path,
        config: Config,
        components: Components,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let Components {
            fs,
            clock,
            shared: process,
            shippers,
            depot,
        } = components;
        let lock = fs::claim(&*fs, path)?;
        let blocks = BlockSet::open_with(Arc::clone(&fs), Arc::clone(&clock), path, depot)?;
        // A delete that cannot be read is not passed over: deleted samples would come back.
        let version = blocks.version();
        let tombstones = Tombstone::all(&version.deletes)?;
        let head = Head::new(process.memory().max());
        let mut replaying = Replaying {
            head: &head,
            metadata: MetadataTable::default(),
            damaged: Vec::new(),
            begun: BTreeSet::new(),
            replaced: Vec::new(),
            progress,
        };
        replaying.parts(&blocks)?;
        let since_ms = clock.now_ms();
        let from = blocks.version().wal_position;
        // The index of what the parts define is made while the log is replayed.
        let sets = head.label_sets();
        let (mut index, opened) = shared::join(
            || index_of(&sets),
            || {
                let (fs, dir, config) = (Arc::clone(&fs), path.join("wal"), config.wal.clone());
                Wal::open(fs, &dir, config, from, &mut replaying)
            },
        );
        let (wal, mut replay) = opened?;
        replaying.complete(&mut index);
        let lost = replaying.lost_ids(&blocks)?;
        let Replaying {
            metadata, damaged, ..
        } = replaying;
        replay.damaged.extend(damaged);
        head.restored(index, &lost);
        // A crash may have come between the catalog's commit and this.
        wal.truncate(from)?;
        let account = process.memory().account();
        account.set(head.bytes() + metadata.bytes());
        let uncut = version.blocks.iter().map(|block| &block.meta);
        let uncut = uncut.filter(|meta| meta.level == PART_LEVEL && !meta.range.is_empty());
        let uncut_ms = uncut.map(|meta| meta.created_ms).min();
        let empty = head.is_empty(FIRST_EPOCH) && !metadata.has_changed();
        let inner = Arc::new(Inner {
            config,
            fs,
            clock,
            wal,
            blocks,
            head,
            metadata: Mutex::new(metadata),
            epoch: RwLock::new(FIRST_EPOCH),
            since_ms: AtomicI64::new(if empty { i64::MAX } else { since_ms }),
            flipped_ms: AtomicI64::new(since_ms),
            quiet_epoch: AtomicU32::new(0),
            sealing: Mutex::new(None),
            compacting: Mutex::new(()),
            cutting: Mutex::new(()),
            uncut_ms: AtomicI64::new(uncut_ms.unwrap_or(i64::MAX)),
            // Whether it did is not written down.
            told: AtomicBool::new(true),
            shipping: Shipping::new(since_ms),
            recalled: Recalled::default(),
            deleting: Mutex::new(()),
            tombstones: RwLock::new(Arc::new(tombstones)),
            account,
            shared: process.clone(),
            shippers: shippers.clone(),
            replay,
            background_error: Mutex::new(BackgroundErrors::default()),
            closed: AtomicBool::new(false),
            compactor: Mutex::new(None),
            shipper: Mutex::new(None),
            lock: Mutex::new(Some(lock)),
        });
        let sealer: Weak<dyn Maintain> = Arc::<Inner>::downgrade(&inner);
        process.register(sealer);
        let compactor = Arc::new(Compactor {
            inner: Arc::downgrade(&inner),
        });
        let registered: Weak<dyn Maintain> = Arc::<Compactor>::downgrade(&compactor);
        process.register(registered);
        *inner.compactor.lock() = Some(compactor);
        // Closes what was opened if something fails.
        let handle = Arc::new(Handle { inner });
        let inner = &handle.inner;
        // What cannot be read now is read by the first who follows.
        inner.learn_metadata().ok();
        *inner.shipper.lock() = Shipper::begin(inner, &shippers)?;
        Ok(Self { handle })
    }
}

/// The index of these series.
fn index_of(sets: &[(u32, Labels)]) -> LabelIndex {
    let mut index = LabelIndex::default();
    for sets in sets.chunks(INDEXED_AT_ONCE) {
        index.extend(sets);
    }
    index
}

/// What parts and log give while a store is opened.
struct Replaying<'a> {
    head: &'a Head,
    metadata: MetadataTable,
    damaged: Vec<String>,
    /// Ids that the log defines, and what they meant before.
    begun: BTreeSet<u32>,
    replaced: Vec<(u32, Labels)>,
    progress: &'a mut dyn FnMut(Progress),
}

impl Replaying<'_> {
    /// Reads what the parts define and the metadata of the last that has some, oldest first. A
    /// damaged part is told and the others are read.
    fn parts(&mut self, blocks: &BlockSet<Sealed>) -> Result<()> {
        let version = blocks.version();
        let mut parts: Vec<_> = version
            .blocks
            .iter()
            .filter_map(|block| match &block.reader {
                Sealed::Part(part) => Some((block.meta.sequence, part)),
                Sealed::Block(_) | Sealed::Metadata(_) => None,
            })
            .collect();
        parts.sort_by_key(|(sequence, _)| *sequence);
        let total = parts.len() as u64;
        for (done, (_, part)) in (1..).zip(parts) {
            let definitions = part.definitions(
                |series| self.head.expect(series),
                |id, labels| self.head.restore(id, labels, true).map(drop),
            );
            match definitions.and_then(|()| part.metadata()) {
                Ok(Some(table)) => self.metadata = table,
                Ok(None) => {}
                Err(error) if error.kind() == Kind::Corrupt => {
                    let what = format!("series of {} are lost: {error}", part.name());
                    self.damaged.push(what);
                }
                Err(error) => return Err(error),
            }
            (self.progress)(Progress::Parts { done, total });
        }
        Ok(())
    }

    /// Ids that readable parts use and no part defines, because one is damaged: no other series may
    /// get them.
    fn lost_ids(&self, blocks: &BlockSet<Sealed>) -> Result<BTreeSet<u32>> {
        let mut lost = BTreeSet::new();
        if self.damaged.is_empty() && blocks.quarantined().is_empty() {
            return Ok(lost);
        }
        for block in &blocks.version().blocks {
            let Sealed::Part(part) = &block.reader else {
                continue;
            };
            let ids = part.ids().and_then(|ids| {
                let with_exemplars = part.exemplar_ids()?;
                Ok(ids.chain(with_exemplars).collect::<Vec<u32>>())
            });
            match ids {
                Ok(ids) => lost.extend(ids.iter().filter(|id| self.head.labels(**id).is_none())),
                // What cannot be read cannot be taken for another series' either.
                Err(error) if error.kind() == Kind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// Brings the index of the series that parts define up to date with the log.
    fn complete(&self, index: &mut LabelIndex) {
        for (id, labels) in &self.replaced {
            index.remove(*id, labels);
        }
        let labels = |id: &u32| Some((*id, self.head.labels(*id)?));
        let sets: Vec<(u32, Labels)> = self.begun.iter().filter_map(labels).collect();
        for sets in sets.chunks(INDEXED_AT_ONCE) {
            index.extend(sets);
        }
    }

    /// Gives how many rows belong to no series.
    fn apply(&mut self, record: &[u8]) -> Result<u64> {
        let head = self.head;
        match wal_record::decode(record)? {
            Record::Series(series) => {
                for (id, labels) in series {
                    if let Restored::Begun { replaced } = head.restore(id, labels, false)? {
                        self.begun.insert(id);
                        self.replaced.extend(replaced.map(|labels| (id, labels)));
                    }
                }
                Ok(0)
            }
            Record::Floats(floats) => Ok(head.replay(&floats, FIRST_EPOCH)),
            Record::Histograms(histograms) => Ok(head.replay(&histograms, FIRST_EPOCH)),
            Record::Exemplars(exemplars) => Ok(head.replay_exemplars(&exemplars, FIRST_EPOCH)),
            Record::Metadata(entry) => {
                self.metadata.insert(entry);
                Ok(0)
            }
        }
    }
}

impl Replayer for Replaying<'_> {
    fn record(&mut self, position: u64, record: &[u8]) -> Result<()> {
        match self.apply(record) {
            Ok(0) => {}
            Ok(lost) => self.damaged.push(format!(
                "record {position} of the log has {lost} samples of series that are not known"
            )),
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
