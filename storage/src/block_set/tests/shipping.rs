use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::rows::{PART_LEVEL, Rows, RowsFile};
use crate::block_set::{Block, BlockSet, Edit, Version, warm};
use crate::catalog::Catalog;
use crate::clock::ManualClock;
use crate::depot::{Depot, Role, ShipEdit};
use crate::error::Kind;
use crate::fs::Fs;
use crate::sim::{Crash, Cut, MemoryBucket, MemoryDepot, SimFs};
use crate::time::TimeRange;
use crate::ulid::BlockId;
use crate::wal::Durability::Synced;

/// A directory and the bucket it is shipped to.
pub(super) struct Machine {
    pub(super) fs: SimFs,
    pub(super) clock: Arc<ManualClock>,
    pub(super) bucket: MemoryBucket,
    pub(super) depot: Arc<MemoryDepot>,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self::of(&MemoryBucket::new(), "first")
    }

    pub(super) fn of(bucket: &MemoryBucket, instance: &str) -> Self {
        Self {
            fs: SimFs::new(),
            clock: Arc::new(ManualClock::new(1_000_000_000_000)),
            bucket: bucket.clone(),
            depot: bucket.depot(instance),
        }
    }

    pub(super) fn open(&self) -> Rows {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> crate::Result<Rows> {
        let depot: Arc<dyn Depot> = Arc::<MemoryDepot>::clone(&self.depot);
        Rows::open(&self.fs, &self.clock, Some(depot))
    }

    pub(super) fn block_files(&self) -> Vec<PathBuf> {
        let mut files = self.fs.files();
        files.retain(|path| path.starts_with("store/blocks"));
        files
    }

    fn path(id: BlockId) -> PathBuf {
        Path::new("store/blocks").join(format!("{id}.block"))
    }
}

/// Seals and ships each of the rows as a block of its own.
pub(super) fn ship_each(store: &Rows, rows: impl IntoIterator<Item = u64>) {
    for row in rows {
        store.add(&[row], Synced).unwrap();
        store.seal().unwrap();
    }
    store.ship().unwrap();
}

pub(super) fn sorted(store: &Rows) -> Vec<u64> {
    let mut rows = store.all().unwrap();
    rows.sort_unstable();
    rows
}

pub(super) fn remote(version: &Version<RowsFile>) -> usize {
    let blocks = version.blocks.iter();
    blocks.filter(|block| block.file.is_remote()).count()
}

#[test]
fn what_is_shipped_is_there_on_an_empty_disk() {
    let first = Machine::new();
    let store = first.open();
    ship_each(&store, [1, 2, 3]);
    assert!(store.blocks.version().blocks.iter().all(|b| b.is_shipped()));
    store.add(&[4], Synced).unwrap();
    store.seal().unwrap();
    assert_eq!(
        first.depot.told().unshipped_blocks,
        0,
        "as of the last ship"
    );
    let second = Machine::of(&first.bucket, "second");
    let (calls, reads) = (first.bucket.calls(), first.bucket.reads());
    let other = second.open();
    assert_eq!(
        first.bucket.calls(),
        calls + 1,
        "one question opens a store"
    );
    assert_eq!(first.bucket.reads(), reads, "no block is looked at");
    assert_eq!(sorted(&other), [1, 2, 3]);
    assert!(second.block_files().is_empty());
    // The log goes on behind what is shipped; ids are other ones although the path is the same.
    assert_eq!(other.blocks.version().wal_position, 3);
    let third = Machine::of(&first.bucket, "third").open();
    let ids = [&store, &other, &third].map(|store| store.blocks.next_id(&*first.clock));
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    ship_each(&other, [5]);
    assert_eq!(sorted(&second.open()), [1, 2, 3, 5]);
}

#[test]
fn a_store_opens_while_the_depot_is_away() {
    let machine = Machine::new();
    machine.bucket.set_away(true);
    let error = machine.try_open().unwrap_err();
    assert_eq!(
        error.kind(),
        Kind::Unavailable,
        "an empty store would be wrong"
    );
    machine.bucket.set_away(false);
    ship_each(&machine.open(), [1, 2]);
    machine.bucket.set_away(true);
    let store = machine.open();
    assert!(store.blocks.is_behind());
    assert_eq!(sorted(&store), [1, 2]);
    // Appends and seals wait for nobody; nothing is shipped, deletes are refused.
    store.add(&[3], Synced).unwrap();
    store.seal().unwrap();
    assert!(store.blocks.ship(&|| Ok(())).unwrap().is_nothing());
    let refused = store.delete(TimeRange::new(1, 2)).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert_eq!(store.follow().unwrap_err().kind(), Kind::Unavailable);
    assert!(machine.depot.told().failed.is_some());
    machine.bucket.set_away(false);
    store.ship().unwrap();
    assert_eq!(machine.bucket.document().blocks.len(), 3);
    assert_eq!(machine.depot.told().failed.map(|error| error.kind()), None);
}

#[test]
fn a_shipped_store_is_not_opened_without_its_depot() {
    let machine = Machine::new();
    ship_each(&machine.open(), [1]);
    let error = Rows::open(&machine.fs, &machine.clock, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("--storage"), "{error}");
}

#[test]
fn a_place_that_knows_less_than_was_seen_is_refused() {
    let machine = Machine::new();
    ship_each(&machine.open(), [1]);
    let other = Machine {
        fs: machine.fs.clone(),
        ..Machine::of(&MemoryBucket::new(), "first")
    };
    assert_eq!(other.try_open().unwrap_err().kind(), Kind::Invalid);
    assert_eq!(machine.block_files().len(), 1, "nothing is swept");
}

#[test]
fn a_store_that_was_local_is_shipped_with_its_deletes() {
    let machine = Machine::new();
    let store = Rows::open(&machine.fs, &machine.clock, None).unwrap();
    store.add(&[1, 2, 3], Synced).unwrap();
    let number = store.delete(TimeRange::new(2, 3)).unwrap();
    store.add(&[4], Synced).unwrap();
    store.seal().unwrap();
    drop(store);
    let store = machine.open();
    assert_eq!(sorted(&store), [1, 3, 4]);
    store.ship().unwrap();
    assert_eq!(machine.bucket.document().deletes_given, number);
    assert_eq!(sorted(&store), [1, 3, 4]);
    let other = Machine::of(&machine.bucket, "second").open();
    assert_eq!(sorted(&other), [1, 3, 4]);
    assert!(other.blocks.version().next_delete() > number);
}

#[test]
fn a_batch_whose_answer_is_lost_is_shipped_once_and_not_merged_before_that_is_known() {
    let machine = Machine::new();
    let store = machine.open();
    for row in [1, 2] {
        store.add(&[row], Synced).unwrap();
        store.seal().unwrap();
    }
    // Two uploads pass, of the commit the answer is lost.
    machine
        .bucket
        .cut_after(machine.bucket.calls() + 2, Cut::Answer);
    assert_eq!(store.ship().unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(machine.bucket.document().blocks.len(), 2);
    assert!(store.blocks.is_behind());
    // Away for long, unshipped blocks are merged, but not these.
    machine.clock.advance(Duration::from_secs(601));
    store.add(&[3], Synced).unwrap();
    store.seal().unwrap();
    let version = store.blocks.version();
    let mergeable = store.blocks.mergeable(&version);
    assert_eq!(mergeable.len(), 1);
    assert_eq!(mergeable[0].meta.id, version.blocks[2].meta.id);
    // The same after a restart: then nothing of what is here is sure.
    drop((mergeable, version, store));
    let store = machine.open();
    machine.clock.advance(Duration::from_secs(601));
    assert!(store.blocks.mergeable(&store.blocks.version()).is_empty());
    machine.bucket.set_away(false);
    store.ship().unwrap();
    assert_eq!(sorted(&store), [1, 2, 3]);
    assert_eq!(machine.bucket.document().blocks.len(), 3);
}

#[test]
fn what_another_writer_has_merged_away_is_not_shipped_again() {
    let machine = Machine::new();
    let store = machine.open();
    for row in [1, 2] {
        store.add(&[row], Synced).unwrap();
        store.seal().unwrap();
    }
    machine
        .bucket
        .cut_after(machine.bucket.calls() + 2, Cut::Answer);
    store.ship().unwrap_err();
    drop(store);
    machine.bucket.set_away(false);
    let other = Machine::of(&machine.bucket, "second");
    let store = other.open();
    ship_each(&store, [3]);
    store.merge().unwrap();
    store.ship().unwrap();
    assert_eq!(other.bucket.document().blocks.len(), 1);
    drop(store);
    let store = machine.open();
    assert_eq!(sorted(&store), [1, 2, 3]);
    store.ship().unwrap();
    assert_eq!(machine.bucket.document().blocks.len(), 1);
}

#[test]
fn merges_wait_for_the_depot_and_readers_see_either_side() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2]);
    let before = store.blocks.version();
    store.merge().unwrap();
    assert_eq!(
        store.ids(),
        [before.blocks[0].meta.id, before.blocks[1].meta.id]
    );
    assert!(store.blocks.mergeable(&before).is_empty(), "they are busy");
    store.merge().unwrap();
    store.ship().unwrap();
    assert_eq!(store.ids().len(), 1);
    assert_eq!(sorted(&store), [1, 2]);
    assert_eq!(
        machine.block_files().len(),
        3,
        "an old version is still held"
    );
    drop(before);
    assert_eq!(machine.block_files().len(), 1);
    machine.bucket.sweep();
    assert_eq!(machine.bucket.objects(), store.ids());
}

#[test]
fn a_plan_that_another_writer_made_void_is_forgotten() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2]);
    store.merge().unwrap();
    // Somebody else removes one of the two.
    let other = machine.bucket.depot("second");
    let gone = store.ids()[0];
    let edit = ShipEdit {
        remove: vec![gone],
        ..ShipEdit::default()
    };
    other.newest(0).unwrap();
    other.commit(&edit).unwrap();
    store.ship().unwrap();
    assert!(store.follow().unwrap());
    assert_eq!(sorted(&store), [2]);
    assert_eq!(
        machine.block_files().len(),
        1,
        "{:?}",
        machine.block_files()
    );
    // The one that is left is free again.
    assert_eq!(store.blocks.mergeable(&store.blocks.version()).len(), 1);
}

#[test]
fn a_merge_takes_only_shipped_or_only_unshipped_blocks() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1]);
    store.add(&[2], Synced).unwrap();
    store.seal().unwrap();
    let version = store.blocks.version();
    assert_eq!(store.blocks.mergeable(&version).len(), 1);
    // Whoever asks for it all the same gets nothing.
    store.merge_these(&version, &version.blocks).unwrap();
    assert_eq!(store.ids().len(), 2);
    assert_eq!(machine.block_files().len(), 2);
    // Of blocks that only go, each goes for itself.
    store
        .blocks
        .replace(Edit {
            remove: store.ids(),
            ..Edit::default()
        })
        .unwrap();
    assert_eq!(sorted(&store), [1]);
    store.ship().unwrap();
    assert_eq!(sorted(&store), [0; 0]);
}

#[test]
fn eviction_takes_the_shipped_and_readers_keep_what_they_hold() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2]);
    store.add(&[3], Synced).unwrap();
    store.seal().unwrap();
    let held = store.blocks.version();
    machine.bucket.set_copies_max(Some(0));
    store.blocks.care().unwrap();
    assert_eq!(remote(&store.blocks.version()), 2);
    assert_eq!(machine.block_files().len(), 3, "somebody still reads them");
    assert_eq!(remote(&held), 0);
    let reads = machine.bucket.reads();
    assert_eq!(sorted(&store), [1, 2, 3]);
    assert!(machine.bucket.reads() > reads);
    // A copy is made anew: it does not go with those who hold the one before.
    let again = store
        .blocks
        .localize(&store.blocks.version().blocks)
        .unwrap();
    assert_eq!(remote(&store.blocks.version()), 0);
    drop(held);
    assert_eq!(machine.block_files().len(), 3);
    drop(again);
    store.blocks.care().unwrap();
    assert_eq!(machine.block_files().len(), 1, "the unshipped one");
    assert_eq!(sorted(&store), [1, 2, 3]);
    drop(store);
    assert_eq!(sorted(&machine.open()), [1, 2, 3]);
}

#[test]
fn what_was_read_last_is_kept() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2, 3]);
    machine.clock.advance(Duration::from_secs(60));
    store.blocks.care().unwrap();
    let version = store.blocks.version();
    let read = &version.blocks[1];
    read.file.section(1).unwrap();
    machine.bucket.set_copies_max(Some(read.meta.bytes));
    store.blocks.care().unwrap();
    let left: Vec<bool> = store
        .blocks
        .version()
        .blocks
        .iter()
        .map(|block| block.file.is_remote())
        .collect();
    assert_eq!(left, [true, false, true]);
    // When the disk is full nothing is kept.
    assert_eq!(store.blocks.make_room().unwrap(), read.meta.bytes);
    assert_eq!(remote(&store.blocks.version()), 3);
}

#[test]
fn warming_looks_at_all_heads_and_evicted_blocks_only() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2]);
    let reads = machine.bucket.reads();
    let version = store.blocks.version();
    warm(version.blocks.iter().map(|block| &**block), &[1]).unwrap();
    assert_eq!(machine.bucket.reads(), reads);
    store.blocks.make_room().unwrap();
    let version = store.blocks.version();
    warm(version.blocks.iter().map(|block| &**block), &[1]).unwrap();
    assert_eq!(machine.bucket.reads(), reads + 2, "two heads");
}

#[test]
fn readers_that_keep_too_much_are_made_anew() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2]);
    store.blocks.make_room().unwrap();
    sorted(&store);
    let version = store.blocks.version();
    store.blocks.care().unwrap();
    let first = &version.blocks[0];
    machine.clock.advance(Duration::from_secs(10));
    first.file.section(1).unwrap();
    // Three sections of 8 bytes are kept; the block that was not read since goes first.
    machine.bucket.set_kept_bytes_max(16);
    store.blocks.care().unwrap();
    let now = store.blocks.version();
    assert!(Arc::ptr_eq(&now.blocks[0], first));
    assert!(!Arc::ptr_eq(&now.blocks[1], &version.blocks[1]));
    assert_eq!(sorted(&store), [1, 2]);
}

#[test]
fn a_damaged_copy_is_replaced_by_what_was_shipped() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2]);
    let version = store.blocks.version();
    machine
        .fs
        .corrupt(&Machine::path(version.blocks[0].meta.id), 17, 0xff);
    drop((version, store));
    // The head is whole: the damage is found by who reads, and what was shipped is read instead.
    let store = machine.open();
    assert_eq!(remote(&store.blocks.version()), 0);
    assert_eq!(sorted(&store), [1, 2]);
    assert_eq!(machine.bucket.reads(), 1);
    store.blocks.care().unwrap();
    assert_eq!(remote(&store.blocks.version()), 1);
    assert_eq!(sorted(&store), [1, 2]);
    assert_eq!(machine.block_files().len(), 1);
    // A copy that was cut is found at open.
    let cut = &machine.block_files()[0];
    machine.fs.truncate(cut, 20).unwrap();
    drop(store);
    let store = machine.open();
    assert!(store.blocks.quarantined().is_empty());
    assert_eq!(remote(&store.blocks.version()), 2);
    assert_eq!(sorted(&store), [1, 2]);
}

#[test]
fn a_damaged_object_is_quarantined_and_comes_back_when_it_is_repaired() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2]);
    store.blocks.make_room().unwrap();
    let id = store.ids()[0];
    machine.bucket.damage(id, |bytes| bytes[17] ^= 1);
    assert_eq!(store.all().unwrap_err().kind(), Kind::Corrupt);
    store.blocks.care().unwrap();
    assert_eq!(sorted(&store), [2]);
    assert_eq!(store.blocks.quarantined().len(), 1);
    assert_eq!(machine.depot.told().quarantined.len(), 1);
    // Still damaged after ten minutes, repaired after twenty.
    machine.clock.advance(Duration::from_secs(600));
    store.blocks.care().unwrap();
    assert_eq!(sorted(&store), [2]);
    machine.bucket.damage(id, |bytes| bytes[17] ^= 1);
    store.blocks.care().unwrap();
    assert_eq!(sorted(&store), [2], "it is not time to look again");
    machine.clock.advance(Duration::from_secs(600));
    store.blocks.care().unwrap();
    assert_eq!(sorted(&store), [1, 2]);
    assert!(store.blocks.quarantined().is_empty());
}

#[test]
fn a_follower_sees_blocks_and_deletes_and_asks_its_role() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2, 3]);
    let second = Machine::of(&machine.bucket, "second");
    second.depot.set_role(Role::ReadOnly);
    let reader = second.open();
    store.delete(TimeRange::new(2, 3)).unwrap();
    ship_each(&store, [4]);
    assert_eq!(sorted(&reader), [1, 2, 3], "nothing changes by itself");
    let before = reader.blocks.version().number;
    assert!(reader.follow().unwrap());
    assert!(!reader.follow().unwrap());
    assert_eq!(sorted(&reader), [1, 3, 4]);
    assert!(reader.blocks.version().number > before);
    // It keeps rows of its own, ships nothing, merges nothing, deletes nothing.
    reader.add(&[9], Synced).unwrap();
    reader.seal().unwrap();
    assert!(reader.blocks.ship(&|| Ok(())).unwrap().is_nothing());
    assert!(reader.blocks.mergeable(&reader.blocks.version()).is_empty());
    let refused = reader.delete(TimeRange::new(1, 2)).unwrap_err();
    assert_eq!(refused.kind(), Kind::ReadOnly);
    let shipped = &reader.blocks.version().blocks[0];
    let edit = Edit {
        remove: vec![shipped.meta.id],
        ..Edit::default()
    };
    assert_eq!(
        reader.blocks.replace(edit).unwrap_err().kind(),
        Kind::ReadOnly
    );
    second.depot.set_role(Role::Standby { by: "a".into() });
    let refused = reader.delete(TimeRange::new(1, 2)).unwrap_err();
    assert_eq!(refused.kind(), Kind::Locked);
    // A delete that the engine cannot read refuses the whole version.
    store.delete(TimeRange::new(3, 4)).unwrap();
    let unread = reader.blocks.follow(
        |_| Err::<(), _>(crate::Error::invalid("what is this")),
        |()| panic!("published all the same"),
    );
    assert_eq!(unread.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(sorted(&reader), [1, 3, 4, 9]);
    // Once it writes, its own rows are shipped, too.
    second.depot.set_role(Role::Writer { epoch: 2 });
    assert!(reader.follow().unwrap());
    reader.take_over().unwrap();
    reader.ship().unwrap();
    assert_eq!(sorted(&reader), [1, 4, 9]);
}

#[test]
fn changes_of_others_are_seen_by_the_next_follow_and_deletes_at_once() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2]);
    let second = Machine::of(&machine.bucket, "second");
    ship_each(&second.open(), [3]);
    // The writer does not know of it when it deletes.
    store.delete(TimeRange::new(1, 2)).unwrap();
    assert_eq!(sorted(&store), [2]);
    assert!(store.blocks.is_behind());
    assert!(store.follow().unwrap());
    assert_eq!(sorted(&store), [2, 3]);
    store.merge().unwrap();
    store.ship().unwrap();
    store.forget().unwrap();
    assert_eq!(sorted(&store), [2, 3]);
    assert!(store.blocks.version().next_delete() > machine.bucket.document().deletes_given);
    assert!(machine.bucket.document().deletes.is_empty());
}

#[test]
fn what_was_deleted_and_not_shipped_stays_deleted_when_another_directory_wrote_meanwhile() {
    let machine = Machine::new();
    let first = machine.open();
    ship_each(&first, [1]);
    first.add(&[2, 3], Synced).unwrap();
    first.delete(TimeRange::new(2, 3)).unwrap();
    machine.depot.set_role(Role::Standby { by: "b".into() });
    let second = Machine::of(&machine.bucket, "second");
    second.depot.set_role(Role::Writer { epoch: 2 });
    let store = second.open();
    ship_each(&store, [4]);
    // It has no block that the delete concerns, and the first one has.
    store.forget().unwrap();
    assert_eq!(machine.bucket.document().deletes.len(), 1);
    // What it asks for itself it may forget.
    store.delete(TimeRange::new(9, 10)).unwrap();
    store.forget().unwrap();
    assert_eq!(machine.bucket.document().deletes.len(), 1);
    second.depot.set_role(Role::Standby { by: "a".into() });
    machine.depot.set_role(Role::Writer { epoch: 3 });
    first.follow().unwrap();
    first.take_over().unwrap();
    first.ship().unwrap();
    assert_eq!(sorted(&first), [1, 3, 4]);
    store.follow().unwrap();
    assert_eq!(sorted(&store), [1, 3, 4]);
    // Who has seen all of it forgets it, and so does everybody after a day.
    let delete = machine.bucket.document().deletes[0].clone();
    assert!(first.blocks.may_forget(&delete) && !store.blocks.may_forget(&delete));
    second.clock.advance(Duration::from_secs(24 * 3_600));
    assert!(store.blocks.may_forget(&delete));
}

#[test]
fn a_delete_whose_answer_is_lost_is_in_force_after_the_next_follow() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2]);
    machine
        .bucket
        .cut_after(machine.bucket.calls(), Cut::Answer);
    let lost = store.delete(TimeRange::new(1, 2)).unwrap_err();
    assert_eq!(lost.kind(), Kind::Unavailable);
    assert_eq!(sorted(&store), [1, 2]);
    machine.bucket.set_away(false);
    let refused = store.delete(TimeRange::new(2, 3)).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable, "its number may be taken");
    assert!(store.follow().unwrap());
    assert_eq!(sorted(&store), [2]);
    store.delete(TimeRange::new(2, 3)).unwrap();
    assert_eq!(sorted(&store), [0; 0]);
}

#[test]
fn an_acknowledged_delete_is_in_force_while_the_depot_is_away() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2, 3]);
    store.delete(TimeRange::new(1, 2)).unwrap();
    ship_each(&Machine::of(&machine.bucket, "second").open(), [4]);
    store.delete(TimeRange::new(2, 3)).unwrap();
    drop(store);
    machine.bucket.set_away(true);
    let store = machine.open();
    assert_eq!(sorted(&store), [3]);
    machine.bucket.set_away(false);
    store.follow().unwrap();
    assert_eq!(sorted(&store), [3, 4]);
}

#[test]
fn a_backup_of_evicted_blocks_is_a_plain_store() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1, 2]);
    store.delete(TimeRange::new(2, 3)).unwrap();
    store.add(&[3], Synced).unwrap();
    store.seal().unwrap();
    store.blocks.make_room().unwrap();
    let version = store.blocks.version();
    store
        .blocks
        .backup(&version, Path::new("copy/store"))
        .unwrap();
    let shared = Arc::new(machine.fs.clone()) as Arc<dyn Fs>;
    let copy = BlockSet::<RowsFile>::open(shared, Path::new("copy/store")).unwrap();
    let (copied, served) = (copy.version(), store.blocks.version());
    let metas = |version: &Version<RowsFile>| -> Vec<_> {
        version
            .blocks
            .iter()
            .map(|block| block.meta.clone())
            .collect()
    };
    assert_eq!(metas(&copied), metas(&served));
    assert_eq!(copied.deletes, served.deletes);
    assert_eq!(remote(&copied), 0);
}

#[test]
fn batches_are_in_the_order_of_appending() {
    let machine = Machine::new();
    let store = machine.open();
    for row in 0..70 {
        store.add(&[row], Synced).unwrap();
        store.seal().unwrap();
    }
    // A batch has 64 blocks: uploads, then the commit.
    machine
        .bucket
        .cut_after(machine.bucket.calls() + 65, Cut::Request);
    store.ship().unwrap_err();
    let shipped = machine.bucket.document();
    assert_eq!(shipped.blocks.len(), 64);
    assert_eq!(shipped.wal_position, 64);
    assert_eq!(shipped.shipped["first"].len(), 64);
    let version = store.blocks.version();
    let is_old = |block: &&Arc<Block<RowsFile>>| block.meta.sequence <= 64;
    assert!(version.blocks.iter().filter(is_old).all(|b| b.is_shipped()));
    let local = Catalog::new(Arc::new(machine.fs.clone()), Path::new("store/catalog"));
    assert_eq!(local.load().unwrap().blocks.len(), 6);
    machine.bucket.set_away(false);
    store.ship().unwrap();
    assert_eq!(machine.bucket.document().shipped["first"].len(), 6);
}

#[test]
fn what_cannot_be_shipped_stays_and_is_free_to_be_replaced() {
    let machine = Machine::new();
    let store = machine.open();
    for row in [1, 2] {
        store.add(&[row], Synced).unwrap();
        store.seal_as(PART_LEVEL).unwrap();
    }
    ship_each(&store, [3]);
    assert_eq!(machine.bucket.document().blocks.len(), 1);
    assert_eq!(machine.depot.told().unshipped_blocks, 0);
    drop(store);
    machine.bucket.set_away(true);
    let store = machine.open();
    let version = store.blocks.version();
    let is_part = |block: &&Arc<Block<RowsFile>>| block.meta.level == PART_LEVEL;
    let parts: Vec<_> = version.blocks.iter().filter(is_part).cloned().collect();
    store.merge_these(&version, &parts).unwrap();
    assert_eq!(store.ids().len(), 2);
    machine.bucket.set_away(false);
    store.ship().unwrap();
    let other = Machine::of(&machine.bucket, "second").open();
    assert_eq!(
        sorted(&other),
        [1, 2, 3],
        "what was made of them is shipped"
    );
}

#[test]
fn a_check_that_fails_ends_the_ship_and_leaves_everything() {
    let machine = Machine::new();
    let store = machine.open();
    store.add(&[1], Synced).unwrap();
    store.seal().unwrap();
    let stop = || Err(crate::Error::new(Kind::Closed, "it is closed"));
    assert_eq!(store.blocks.ship(&stop).unwrap_err().kind(), Kind::Closed);
    assert_eq!(machine.bucket.document().version, 0);
    assert_eq!(store.blocks.ship(&|| Ok(())).unwrap().blocks, 1);
}

#[test]
fn a_lost_catalog_beside_unshipped_blocks_is_refused() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1]);
    store.add(&[2], Synced).unwrap();
    store.seal().unwrap();
    drop(store);
    machine.fs.remove_file(Path::new("store/catalog")).unwrap();
    let error = machine.try_open().unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().starts_with("1 blocks are in"), "{error}");
    assert_eq!(machine.block_files().len(), 2);
}

#[test]
fn what_a_crash_leaves_of_a_copy_is_swept() {
    let machine = Machine::new();
    let store = machine.open();
    ship_each(&store, [1]);
    store.blocks.make_room().unwrap();
    let blocks = store.blocks.version().blocks.clone();
    let from = machine.fs.operations();
    for cut in 0..5 {
        machine.fs.cut_after(from + cut);
        let found = match store.blocks.localize(&blocks) {
            Ok(_) => break,
            Err(error) => {
                assert_eq!(error.kind(), Kind::Io);
                machine.fs.crash(Crash::Power, cut)
            }
        };
        let after = Machine {
            fs: found,
            ..Machine::of(&machine.bucket, "first")
        };
        assert_eq!(sorted(&after.open()), [1]);
        let whole = |path: &PathBuf| path.extension().is_some_and(|end| end == "block");
        assert!(after.block_files().iter().all(whole));
    }
}

#[test]
fn who_is_overtaken_between_upload_and_commit_keeps_its_blocks() {
    let machine = Machine::new();
    let store = machine.open();
    store.add(&[1], Synced).unwrap();
    store.seal().unwrap();
    let asked = Cell::new(0);
    let overtaken = || {
        asked.set(asked.get() + 1);
        // Before the batch, in the upload, before the commit.
        if asked.get() == 3 {
            let standby = Role::Standby { by: "b".into() };
            machine.depot.set_role(standby);
        }
        Ok(())
    };
    let error = store.blocks.ship(&overtaken).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert_eq!(machine.bucket.document().version, 0);
    assert_eq!(sorted(&store), [1]);
    drop(store);
    let store = machine.open();
    assert!(store.blocks.ship(&|| Ok(())).unwrap().is_nothing());
    machine.depot.set_role(Role::Writer { epoch: 3 });
    assert_eq!(store.blocks.ship(&|| Ok(())).unwrap().blocks, 1);
    assert_eq!(sorted(&store), [1]);
}
