//! What goes on while the depot is asked: appends, seals and reads wait for none of its calls.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::rows::Rows;
use crate::catalog::{BlockMeta, Document};
use crate::clock::ManualClock;
use crate::depot::{Adopted, Depot, Guard, LocalCopy, Role, ShipEdit, ShipState};
use crate::error::{Error, Kind, Result};
use crate::fs::{ReadFile, WriteFile};
use crate::sim::{MemoryBucket, MemoryDepot, SimFs};
use crate::time::TimeRange;
use crate::ulid::BlockId;
use crate::wal::Durability::Synced;

/// Rows that are appended in calls of the depot.
const ROWS_MAX: u64 = 150;

/// A depot during each of whose calls a row is appended, sealed and read.
#[derive(Debug)]
struct Busy {
    depot: Arc<MemoryDepot>,
    store: OnceLock<Weak<Rows>>,
    rows: Mutex<Vec<u64>>,
}

impl Busy {
    fn meanwhile(&self) {
        let Some(store) = self.store.get().and_then(Weak::upgrade) else {
            return;
        };
        let row = {
            let mut rows = self.rows.lock();
            let row = rows.len() as u64;
            // Else there would always be more to ship.
            if row == ROWS_MAX {
                return;
            }
            rows.push(row);
            row
        };
        store.add(&[row], Synced).unwrap();
        store.seal().unwrap();
        let mut seen = store.all().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, *self.rows.lock());
        let version = store.blocks.version();
        store.blocks.mergeable(&version);
        store.blocks.quarantined();
        store.blocks.make_room().unwrap();
    }
}

impl Depot for Busy {
    fn name(&self) -> &str {
        self.depot.name()
    }

    fn instance(&self) -> &str {
        self.depot.instance()
    }

    fn role(&self) -> Role {
        self.depot.role()
    }

    fn newest(&self, known: u64) -> Result<Option<Arc<Document>>> {
        self.meanwhile();
        self.depot.newest(known)
    }

    fn commit(&self, edit: &ShipEdit) -> Result<Adopted> {
        self.meanwhile();
        let done = self.depot.commit(edit);
        self.meanwhile();
        done
    }

    fn upload(
        &self,
        id: BlockId,
        file: &dyn ReadFile,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Guard> {
        self.meanwhile();
        self.depot.upload(id, file, check)
    }

    fn open(&self, meta: &BlockMeta) -> Arc<dyn ReadFile> {
        self.depot.open(meta)
    }

    fn download(&self, meta: &BlockMeta, to: &mut dyn WriteFile) -> Result<()> {
        self.meanwhile();
        self.depot.download(meta, to)
    }

    fn surplus(&self, copies: &[LocalCopy]) -> Vec<BlockId> {
        self.depot.surplus(copies)
    }

    fn kept_bytes_max(&self, kept: u64) -> u64 {
        self.depot.kept_bytes_max(kept)
    }

    fn tell(&self, state: ShipState) {
        self.depot.tell(state);
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_000_000_000_000))
}

#[test]
fn appends_seals_and_reads_wait_for_no_call_of_the_depot() {
    let bucket = MemoryBucket::new();
    let depot = Arc::new(Busy {
        depot: bucket.depot("busy"),
        store: OnceLock::new(),
        rows: Mutex::default(),
    });
    let shared = Arc::<Busy>::clone(&depot);
    let store = Arc::new(Rows::open(&SimFs::new(), &clock(), Some(shared)).unwrap());
    depot.store.set(Arc::downgrade(&store)).unwrap();
    depot.meanwhile();
    while depot.rows.lock().len() < 150 {
        store.follow().unwrap();
        store.delete(TimeRange::new(-1, 0)).unwrap();
        store.forget().unwrap();
        store.merge().unwrap();
        // It would go on until there are no more rows.
        let left = Cell::new(6);
        let enough = || {
            left.set(left.get() - 1);
            match left.get() {
                0 => Err(Error::new(Kind::Closed, "enough")),
                _ => Ok(()),
            }
        };
        let done = store.blocks.ship(&enough).map(drop);
        assert!(done.is_ok() || left.get() == 0, "{done:?}");
    }
    store.ship().unwrap();
    assert!(!bucket.document().blocks.is_empty());
}

/// One thread appends and seals, one ships, merges and evicts, one follows in another directory; whoever
/// reads sees all that was acknowledged before, once.
#[test]
fn readers_beside_everything_see_each_row_once() {
    const ROWS: u64 = 300;
    let (bucket, clock) = (MemoryBucket::new(), clock());
    bucket.set_copies_max(Some(500));
    let open = |name: &str| {
        let depot: Arc<dyn Depot> = bucket.depot(name);
        Rows::open(&SimFs::new(), &clock, Some(depot)).unwrap()
    };
    let (store, follower) = (open("first"), open("second"));
    let appended = AtomicU64::new(0);
    let is_done = || appended.load(Ordering::Acquire) == ROWS;
    let sorted = |store: &Rows| {
        let mut rows = store.all().unwrap();
        rows.sort_unstable();
        rows
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for row in 0..ROWS {
                store.add(&[row], Synced).unwrap();
                if row % 3 == 0 {
                    store.seal().unwrap();
                }
                appended.store(row + 1, Ordering::Release);
            }
        });
        scope.spawn(|| {
            while !is_done() {
                store.blocks.ship(&|| Ok(())).unwrap();
                store.merge().unwrap();
                store.blocks.care().unwrap();
            }
        });
        scope.spawn(|| {
            while !is_done() {
                let before = appended.load(Ordering::Acquire);
                let rows = sorted(&store);
                let least = usize::try_from(before).unwrap();
                assert!(rows.len() >= least, "{} of {before}", rows.len());
                assert!(rows.iter().copied().eq(0..rows.len() as u64), "{rows:?}");
            }
        });
        let mut last = 0;
        while !is_done() {
            follower.follow().unwrap();
            let rows = sorted(&follower);
            assert!(rows.windows(2).all(|two| two[0] < two[1]), "{rows:?}");
            assert!(rows.len() >= last);
            last = rows.len();
        }
    });
    store.ship().unwrap();
    follower.follow().unwrap();
    assert_eq!(sorted(&follower), Vec::from_iter(0..ROWS));
}
