use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::rows::{Rows, RowsFile};
use super::shipping::{Machine, remote, ship_each, sorted};
use crate::block_set::Block;
use crate::depot::{Depot, ShipEdit};
use crate::error::{Error, Kind, Result};
use crate::sim::{Crash, Cut};

/// Two blocks that are shipped and not here any more, of a depot that has copies fetched.
fn evicted(machine: &Machine) -> Rows {
    let store = machine.open();
    ship_each(&store, [1, 2]);
    store.blocks.make_room().unwrap();
    machine.bucket.set_fetches(true);
    store
}

fn block(store: &Rows, number: usize) -> Arc<Block<RowsFile>> {
    Arc::clone(&store.blocks.version().blocks[number])
}

/// Reads the only page of a block until so many bytes came.
fn read(block: &Block<RowsFile>, bytes: u64) {
    let page = block.file.section(1).unwrap().len() as u64;
    for _ in 1..bytes.div_ceil(page) {
        block.file.section(1).unwrap();
    }
}

fn fetch(store: &Rows) -> Result<u64> {
    store.blocks.fetch(&|| Ok(()))
}

fn no_unfinished(machine: &Machine) {
    let is_whole = |path: &PathBuf| path.extension().is_some_and(|end| end == "block");
    let files = machine.block_files();
    assert!(files.iter().all(is_whole), "{files:?}");
}

#[test]
fn a_block_comes_home_once_as_much_was_read_as_it_has() {
    let machine = Machine::new();
    let store = evicted(&machine);
    let wanted = block(&store, 1);
    let bytes = wanted.meta.bytes;
    // To the last page; who reads it once from front to back does not bring it here.
    read(&wanted, bytes - 8);
    wanted.fresh().unwrap().verify().unwrap();
    assert_eq!(fetch(&store).unwrap(), 0);
    wanted.file.section(1).unwrap();
    let (calls, held) = (machine.bucket.calls(), store.blocks.version());
    assert_eq!(fetch(&store).unwrap(), bytes);
    assert_eq!(machine.bucket.calls(), calls + 1, "it came in one piece");
    assert_eq!(machine.bucket.fetched_bytes(), bytes);
    // Those who have the block go on; all others read the copy.
    assert_eq!((remote(&held), remote(&store.blocks.version())), (2, 1));
    let reads = machine.bucket.reads();
    read(&block(&store, 1), bytes);
    assert_eq!(machine.bucket.reads(), reads);
    held.blocks[1].file.section(1).unwrap();
    assert_eq!(fetch(&store).unwrap(), 0, "it is here");
    assert_eq!(sorted(&store), [1, 2]);
    drop((wanted, held, store));
    let store = machine.open();
    assert_eq!(
        remote(&store.blocks.version()),
        1,
        "it is here after a restart"
    );
    // Once it had to go it has to be wanted anew.
    store.blocks.make_room().unwrap();
    assert!(machine.block_files().is_empty());
    assert_eq!(fetch(&store).unwrap(), 0);
}

#[test]
fn what_is_wanted_most_for_its_size_comes_first_and_only_where_there_is_room() {
    let machine = Machine::new();
    let store = evicted(&machine);
    let (first, second) = (block(&store, 0), block(&store, 1));
    read(&first, first.meta.bytes);
    read(&second, 2 * second.meta.bytes);
    machine.bucket.set_copies_max(Some(second.meta.bytes - 1));
    assert_eq!(fetch(&store).unwrap(), 0);
    machine.bucket.set_copies_max(Some(second.meta.bytes));
    store.blocks.care().unwrap();
    assert_eq!(fetch(&store).unwrap(), second.meta.bytes);
    assert_eq!(fetch(&store).unwrap(), 0, "the first waits for room");
    let now = store.blocks.version();
    assert!(now.blocks[0].file.is_remote() && !now.blocks[1].file.is_remote());
    machine.bucket.set_copies_max(None);
    assert_eq!(fetch(&store).unwrap(), first.meta.bytes);
}

#[test]
fn readers_that_are_made_anew_go_on_counting() {
    let machine = Machine::new();
    let store = evicted(&machine);
    let first = block(&store, 0);
    let bytes = first.meta.bytes;
    read(&first, bytes - 8);
    machine.bucket.set_kept_bytes_max(0);
    store.blocks.care().unwrap();
    let renewed = block(&store, 0);
    assert!(!Arc::ptr_eq(&first, &renewed));
    assert_eq!(fetch(&store).unwrap(), 0);
    renewed.file.section(1).unwrap();
    assert_eq!(fetch(&store).unwrap(), bytes);
}

#[test]
fn a_fetch_that_is_ended_leaves_everything_as_it_was() {
    let machine = Machine::new();
    let store = evicted(&machine);
    let bytes = block(&store, 0).meta.bytes;
    // Before the download, and behind it.
    for passing in [0, 1] {
        read(&block(&store, 0), bytes);
        let left = Cell::new(passing);
        let end = || match left.get() {
            0 => Err(Error::new(Kind::Closed, "it is closed")),
            _ => {
                left.set(left.get() - 1);
                Ok(())
            }
        };
        let error = store.blocks.fetch(&end).unwrap_err();
        assert_eq!(error.kind(), Kind::Closed);
        assert!(machine.block_files().is_empty());
        assert_eq!(fetch(&store).unwrap(), 0, "it has to be wanted anew");
    }
    // So it is with a depot that is away, of which only the shipper tells.
    read(&block(&store, 0), bytes);
    machine
        .bucket
        .cut_after(machine.bucket.calls(), Cut::Request);
    assert_eq!(fetch(&store).unwrap_err().kind(), Kind::Unavailable);
    machine.bucket.set_away(false);
    store.blocks.care().unwrap();
    assert!(machine.depot.told().failed.is_none());
    read(&block(&store, 0), bytes);
    assert_eq!(fetch(&store).unwrap(), bytes);
}

#[test]
fn a_block_that_is_here_or_gone_meanwhile_is_not_fetched_any_more() {
    let machine = Machine::new();
    let store = evicted(&machine);
    let (first, second) = (block(&store, 0), block(&store, 1));
    read(&first, first.meta.bytes);
    // Behind the download somebody makes a copy who does not wait for this one.
    let asked = Cell::new(0);
    let localize = || {
        asked.set(asked.get() + 1);
        if asked.get() == 2 {
            let copies = store.blocks.localize(&[Arc::clone(&first)])?;
            assert!(!copies[0].file.is_remote());
        }
        Ok(())
    };
    assert_eq!(store.blocks.fetch(&localize).unwrap(), 0);
    assert_eq!((asked.get(), machine.block_files().len()), (2, 1));
    no_unfinished(&machine);
    assert_eq!(remote(&store.blocks.version()), 1);
    // Another writer removes it.
    read(&second, second.meta.bytes);
    let other = machine.bucket.depot("second");
    let edit = ShipEdit {
        remove: vec![second.meta.id],
        ..ShipEdit::default()
    };
    let remove = || {
        other.commit(&edit)?;
        store.follow().map(drop)
    };
    assert_eq!(store.blocks.fetch(&remove).unwrap(), 0);
    no_unfinished(&machine);
    assert_eq!(sorted(&store), [1]);
}

#[test]
fn what_waits_to_be_merged_away_is_not_fetched() {
    let machine = Machine::new();
    let store = evicted(&machine);
    let version = store.blocks.version();
    store.merge().unwrap();
    store.blocks.make_room().unwrap();
    let first = block(&store, 0);
    read(&first, first.meta.bytes);
    assert_eq!(fetch(&store).unwrap(), 0);
    drop((version, first));
    store.ship().unwrap();
    assert_eq!(sorted(&store), [1, 2]);
}

#[test]
fn a_full_disk_is_told_and_the_block_is_read_as_before() {
    let machine = Machine::new();
    let store = evicted(&machine);
    let first = block(&store, 0);
    machine.fs.fill_after(first.meta.bytes - 1);
    read(&first, first.meta.bytes);
    // Who made room for others has told already.
    assert!(machine.bucket.take_was_full());
    assert_eq!(fetch(&store).unwrap_err().kind(), Kind::Io);
    assert!(machine.bucket.take_was_full());
    assert!(machine.block_files().is_empty());
    assert_eq!(sorted(&store), [1, 2]);
    machine.fs.fill_after(u64::MAX);
    read(&first, first.meta.bytes);
    assert_eq!(fetch(&store).unwrap(), first.meta.bytes);
    assert!(!machine.bucket.take_was_full());
}

#[test]
fn what_comes_damaged_does_not_take_the_place_of_the_block() {
    let machine = Machine::new();
    let store = evicted(&machine);
    let first = block(&store, 0);
    let id = first.meta.id;
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 3] = [
        |object| object.push(0),
        |object| object.truncate(40),
        |object| object[1] ^= 1,
    ];
    for change in changes {
        read(&first, first.meta.bytes);
        let mut whole = Vec::new();
        machine.bucket.damage(id, |object| {
            whole.clone_from(object);
            change(object);
        });
        assert_eq!(fetch(&store).unwrap_err().kind(), Kind::Corrupt);
        machine
            .bucket
            .damage(id, |object| object.clone_from(&whole));
        assert!(machine.block_files().is_empty());
        assert_eq!(remote(&store.blocks.version()), 2);
    }
    assert_eq!(sorted(&store), [1, 2]);
}

#[test]
fn a_crash_in_a_fetch_leaves_a_copy_or_nothing() {
    for cut in 0..20 {
        let machine = Machine::new();
        let store = evicted(&machine);
        let bytes = block(&store, 0).meta.bytes;
        read(&block(&store, 0), bytes);
        machine.fs.cut_after(machine.fs.operations() + cut);
        let fetched = fetch(&store);
        if let Ok(fetched) = fetched {
            assert_eq!((fetched, cut > 3), (bytes, true));
            return;
        }
        let after = Machine {
            fs: machine.fs.crash(Crash::Power, cut),
            ..Machine::of(&machine.bucket, "first")
        };
        assert_eq!(sorted(&after.open()), [1, 2]);
        no_unfinished(&after);
    }
    panic!("it was cut at every operation and never done");
}

#[test]
fn a_block_is_as_recently_used_as_it_was_read() {
    let machine = Machine::new();
    let store = evicted(&machine);
    let first = block(&store, 0);
    let at = |machine: &Machine| crate::clock::Clock::now_ms(&*machine.clock);
    store.blocks.care().unwrap();
    let read_ms = at(&machine);
    first.file.section(1).unwrap();
    machine.clock.advance(Duration::from_secs(10));
    // It was before the clock was looked at again, and is not asked for later reads.
    assert_eq!(first.file.used_ms(read_ms), read_ms);
    assert_eq!(first.file.used_ms(at(&machine)), read_ms);
    first.file.section(1).unwrap();
    assert_eq!(first.file.used_ms(at(&machine)), at(&machine));
}
