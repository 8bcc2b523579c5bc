//! The smallest engine there is: rows are numbers, a block is a list of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::block_set::{Block, BlockReader, BlockSet, Edit, Version};
use crate::catalog::{BlockMeta, Delete};
use crate::clock::{Clock, ManualClock};
use crate::codec::{Reader, put_u64};
use crate::depot::Depot;
use crate::error::{Kind, Result};
use crate::fs::Fs;
use crate::sealed::{SealedFile, SealedWriter};
use crate::sim::{ShippedSubject, SimFs, Subject};
use crate::time::TimeRange;
use crate::ulid::BlockId;
use crate::wal::{Durability, Wal};

/// A block of rows, of which nothing is read before it is asked for.
#[derive(Debug)]
pub(crate) struct RowsFile(SealedFile);

/// The level of blocks that stay on the disk.
pub(super) const PART_LEVEL: u8 = u8::MAX;

impl BlockReader for RowsFile {
    const KIND: [u8; 4] = *b"rows";
    const FIRST_SECTIONS: &'static [u32] = &[1];

    fn open(file: SealedFile, _meta: &BlockMeta) -> Result<Self> {
        Ok(Self(file))
    }

    fn is_shippable(meta: &BlockMeta) -> bool {
        meta.level != PART_LEVEL
    }
}

impl RowsFile {
    fn rows(&self) -> Result<Vec<u64>> {
        let section = self.0.section(1)?;
        let mut reader = Reader::new(self.0.name(), &section);
        let mut rows = Vec::new();
        while !reader.is_empty() {
            rows.push(reader.u64()?);
        }
        Ok(rows)
    }
}

/// A store of rows.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) blocks: BlockSet<RowsFile>,
    fs: SimFs,
    clock: Arc<ManualClock>,
    wal: Wal,
    memory: Mutex<Vec<u64>>,
    deletes: RwLock<Vec<Delete>>,
}

impl Rows {
    pub(crate) fn open(
        fs: &SimFs,
        clock: &Arc<ManualClock>,
        depot: Option<Arc<dyn Depot>>,
    ) -> Result<Self> {
        clock.advance(Duration::from_millis(1));
        let (store, shared) = (Path::new("store"), Arc::new(fs.clone()) as Arc<dyn Fs>);
        let time: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        let blocks = BlockSet::open_with(Arc::clone(&shared), time, store, depot)?;
        let version = blocks.version();
        let mut memory = Vec::new();
        let mut replay = |_: u64, record: &[u8]| {
            memory.push(Reader::new("record", record).u64()?);
            Ok(())
        };
        let from = version.wal_position;
        let config = crate::wal::Config::default();
        let (wal, _) = Wal::open(shared, &store.join("wal"), config, from, &mut replay)?;
        wal.truncate(from)?;
        let rows = Self {
            deletes: RwLock::new(version.deletes.clone()),
            blocks,
            fs: fs.clone(),
            clock: Arc::clone(clock),
            wal,
            memory: Mutex::new(memory),
        };
        let is_writer = |depot: &Arc<dyn Depot>| depot.role().is_writer();
        if rows.blocks.depot().is_some_and(is_writer) {
            rows.take_over()?;
        }
        Ok(rows)
    }

    /// Lets what is appended from now on be later than everything that is shipped.
    pub(crate) fn take_over(&self) -> Result<()> {
        let floor = self.blocks.floor();
        if self.wal.next_position() < floor {
            self.seal()?;
            let edit = Edit {
                wal_position: Some(floor),
                ..Edit::default()
            };
            self.blocks.commit(&edit, || {})?;
            self.wal.skip_to(floor)?;
            self.wal.truncate(floor)?;
        }
        Ok(())
    }

    pub(crate) fn add(&self, rows: &[u64], durability: Durability) -> Result<()> {
        let mut last = None;
        for row in rows {
            last = Some(self.wal.append(&row.to_le_bytes())?);
        }
        match last {
            Some(last) => self.wal.commit(last, durability)?,
            None => return Ok(()),
        }
        self.memory.lock().extend(rows);
        Ok(())
    }

    pub(crate) fn seal(&self) -> Result<()> {
        self.seal_as(0)
    }

    pub(super) fn seal_as(&self, level: u8) -> Result<()> {
        self.clock.advance(Duration::from_millis(1));
        let rows = self.memory.lock().clone();
        let position = self.wal.next_position();
        if rows.is_empty() {
            return Ok(());
        }
        let (meta, _file) = self.write(&rows, level, position, 0)?;
        let edit = Edit {
            add: vec![meta],
            wal_position: Some(position),
            ..Edit::default()
        };
        self.blocks.commit(&edit, || self.memory.lock().clear())?;
        self.wal.truncate(position)
    }

    fn write(
        &self,
        rows: &[u64],
        level: u8,
        sequence: u64,
        deletes_applied: u64,
    ) -> Result<(BlockMeta, crate::block_set::Unfinished)> {
        let file = self.blocks.begin(&*self.clock);
        let mut writer = SealedWriter::create(&self.fs, file.path(), RowsFile::KIND)?;
        let mut section = Vec::new();
        for row in rows {
            put_u64(&mut section, *row);
        }
        writer.section(1, &section)?;
        let ends = |row: Option<&u64>| i64::try_from(*row.unwrap()).unwrap();
        let meta = BlockMeta {
            id: file.id(),
            range: TimeRange::inclusive(ends(rows.iter().min()), ends(rows.iter().max())),
            rows: rows.len() as u64,
            bytes: writer.finish()?,
            level,
            sequence,
            created_ms: self.clock.now_ms(),
            deletes_applied,
        };
        Ok((meta, file))
    }

    /// All rows that are not deleted.
    pub(crate) fn all(&self) -> Result<Vec<u64>> {
        let (version, mut rows) = self.blocks.read(|version| {
            assert_eq!(
                *self.deletes.read(),
                version.deletes,
                "the engine knows the deletes of the version"
            );
            (Arc::clone(version), self.memory.lock().clone())
        });
        for block in &version.blocks {
            rows.extend(left(block, &version.deletes)?);
        }
        Ok(rows)
    }

    pub(crate) fn follow(&self) -> Result<bool> {
        self.blocks.follow(
            |deletes| Ok(deletes.to_vec()),
            |deletes| *self.deletes.write() = deletes,
        )
    }

    /// Seals, follows and ships until nothing is left.
    pub(crate) fn ship(&self) -> Result<()> {
        self.seal()?;
        for _ in 0..100 {
            if self.blocks.is_behind() {
                self.follow()?;
            }
            let shipped = self.blocks.ship(&|| Ok(()))?;
            if shipped.is_nothing() && !self.blocks.is_behind() {
                return Ok(());
            }
        }
        panic!("shipping does not come to an end");
    }

    /// Makes one block of all that may be merged.
    pub(crate) fn merge(&self) -> Result<()> {
        let version = self.blocks.version();
        let inputs = self.blocks.mergeable(&version);
        if inputs.len() < 2 {
            return Ok(());
        }
        self.merge_these(&version, &inputs)
    }

    pub(crate) fn merge_these(
        &self,
        version: &Version<RowsFile>,
        inputs: &[Arc<Block<RowsFile>>],
    ) -> Result<()> {
        self.clock.advance(Duration::from_millis(1));
        let inputs = self.blocks.localize(inputs)?;
        let mut rows = Vec::new();
        for block in &inputs {
            rows.extend(left(block, &version.deletes)?);
        }
        let metas = || inputs.iter().map(|block| &block.meta);
        let applied = version.deletes.iter().map(|delete| delete.number).max();
        let applied = metas().map(|meta| meta.deletes_applied).max().max(applied);
        let remove = metas().map(|meta| meta.id).collect();
        if rows.is_empty() {
            return self.blocks.replace(Edit {
                remove,
                ..Edit::default()
            });
        }
        let sequence = metas().map(|meta| meta.sequence).max().unwrap();
        let (meta, _file) = self.write(&rows, 1, sequence, applied.unwrap())?;
        self.blocks.replace(Edit {
            add: vec![meta],
            remove,
            ..Edit::default()
        })
    }

    /// Deletes the rows of a range.
    pub(crate) fn delete(&self, range: TimeRange) -> Result<u64> {
        self.seal()?;
        let version = self.blocks.version();
        let delete = Delete {
            number: version.next_delete(),
            sequence: version.wal_position,
            range,
            what: String::new(),
            created_ms: self.clock.now_ms(),
        };
        let number = delete.number;
        let edit = Edit {
            delete: Some(delete.clone()),
            ..Edit::default()
        };
        self.blocks
            .commit(&edit, || self.deletes.write().push(delete))?;
        Ok(number)
    }

    /// Forgets the deletes that no block is concerned by.
    pub(crate) fn forget(&self) -> Result<()> {
        let version = self.blocks.version();
        let is_done = |delete: &&Delete| {
            let mut blocks = version.blocks.iter();
            !blocks.any(|block| delete.concerns(&block.meta)) && self.blocks.may_forget(delete)
        };
        let done = version.deletes.iter().filter(is_done);
        let done: Vec<u64> = done.map(|delete| delete.number).collect();
        if done.is_empty() {
            return Ok(());
        }
        let edit = Edit {
            forget_deletes: done.clone(),
            ..Edit::default()
        };
        self.blocks.commit(&edit, || {
            let mut deletes = self.deletes.write();
            deletes.retain(|delete| !done.contains(&delete.number));
        })
    }

    pub(crate) fn ids(&self) -> Vec<BlockId> {
        let version = self.blocks.version();
        version.blocks.iter().map(|block| block.meta.id).collect()
    }
}

/// The rows of a block that are not deleted.
fn left(block: &Block<RowsFile>, deletes: &[Delete]) -> Result<Vec<u64>> {
    let mut rows = block.reader.rows()?;
    for delete in deletes.iter().filter(|delete| delete.concerns(&block.meta)) {
        rows.retain(|row| !delete.range.contains(i64::try_from(*row).unwrap()));
    }
    Ok(rows)
}

/// The engine for the scripts of crashes.
#[derive(Debug)]
pub(crate) struct RowsSubject {
    pub(crate) clock: Arc<ManualClock>,
}

impl RowsSubject {
    pub(crate) fn new() -> Self {
        Self {
            clock: Arc::new(ManualClock::new(1_000_000_000_000)),
        }
    }
}

impl Subject for RowsSubject {
    type Store = Rows;

    fn open(&self, fs: &SimFs) -> Result<Rows> {
        Rows::open(fs, &self.clock, None)
    }

    fn append(&self, store: &Rows, rows: &[u64], durability: Durability) -> Result<()> {
        store.add(rows, durability)
    }

    fn flush(&self, store: &Rows) -> Result<()> {
        store.seal()
    }

    fn rows(&self, store: &Rows) -> Result<Vec<u64>> {
        store.all()
    }
}

impl ShippedSubject for RowsSubject {
    fn open_with(&self, fs: &SimFs, depot: Arc<dyn Depot>) -> Result<Rows> {
        Rows::open(fs, &self.clock, Some(depot))
    }

    fn ship(&self, store: &Rows) -> Result<()> {
        store.ship()
    }

    fn merge(&self, store: &Rows) -> Result<()> {
        match store.merge() {
            Err(error) if error.kind() == Kind::ReadOnly => Ok(()),
            done => done,
        }
    }

    fn evict(&self, store: &Rows) -> Result<()> {
        store.blocks.care()
    }
}

#[cfg(feature = "remote")]
impl crate::remote::LivingSubject for RowsSubject {
    fn open_at(&self, fs: &SimFs, clock: &Arc<ManualClock>, depot: Arc<dyn Depot>) -> Result<Rows> {
        Rows::open(fs, clock, Some(depot))
    }

    fn fetch(&self, store: &Rows) -> Result<()> {
        for block in &store.blocks.version().blocks {
            for _ in 0..block.meta.bytes / 8 {
                block.file.section(1)?;
            }
        }
        store.blocks.care()?;
        store.blocks.fetch(&|| Ok(())).map(drop)
    }

    fn follow(&self, store: &Rows) -> Result<()> {
        store.follow().map(drop)
    }

    fn take_over(&self, store: &Rows) -> Result<()> {
        store.take_over()
    }

    fn delete(&self, store: &Rows, rows: std::ops::Range<u64>) -> Result<()> {
        let time = |row: u64| i64::try_from(row).unwrap();
        let range = TimeRange::new(time(rows.start), time(rows.end));
        store.delete(range).map(drop)
    }
}
