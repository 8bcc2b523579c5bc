//! Checks every byte that the store has on disk: blocks, catalog and log.

use std::path::Path;

use trine_storage::block_set::{Block, BlockReader};
use trine_storage::fs::read_if_exists;
use trine_storage::sealed::SealedFile;
use trine_storage::{Error, Result, catalog, wal};

use super::Inner;
use crate::block::image::BlockFile;
use crate::stage::Stage;
use crate::stats::Report;
use crate::wal_record;

/// How often the end of the log is read again when something was written meanwhile.
const ATTEMPTS: usize = 5;

impl Inner {
    /// Reads everything from the first to the last byte, from the disk and not from what is open.
    pub(super) fn verify(&self) -> Report {
        let mut report = Report {
            errors: self.blocks.quarantined(),
            ..Report::default()
        };
        for block in &self.blocks.version().blocks {
            match self.verify_block(block) {
                Ok(spans) => {
                    report.blocks += 1;
                    report.spans += spans;
                }
                Err(error) => report.errors.push(error),
            }
        }
        if let Err(error) = self.verify_catalog() {
            report.errors.push(error);
        }
        self.verify_log(&mut report);
        report
    }

    fn verify_block(&self, block: &Block<BlockFile>) -> Result<u64> {
        let path = self.path.join("blocks");
        let path = path.join(format!("{}.block", block.meta.id));
        let name = path.display().to_string();
        let file = self
            .fs
            .open(&path)
            .map_err(|e| Error::io(format!("open {name}"), e))?;
        let file = SealedFile::open(file, &name, BlockFile::KIND)?;
        file.verify()?;
        let spans = BlockFile::open(file, &block.meta)?.image()?.check()?;
        if spans != block.meta.rows {
            let told = block.meta.rows;
            let what = format!("it has {spans} spans, the catalog says {told}");
            return Err(Error::corrupt(&*name, 0, what));
        }
        Ok(spans)
    }

    fn verify_catalog(&self) -> Result<()> {
        let path = self.path.join("catalog");
        let name = path.display().to_string();
        let bytes =
            read_if_exists(&*self.fs, &path).map_err(|e| Error::io(format!("read {name}"), e))?;
        // It is replaced as a whole, so that it is whole at any moment.
        match bytes {
            Some(bytes) => catalog::decode(&name, &bytes).map(drop),
            None => Err(Error::corrupt(&*name, 0, "it is missing")),
        }
    }

    fn verify_log(&self, report: &mut Report) {
        for attempt in 1.. {
            let before = self.wal.stats();
            let (mut records, mut errors) = (0, Vec::new());
            for (path, bytes) in self.wal.segments().iter() {
                match self.verify_segment(path, bytes) {
                    Ok(found) => records += found,
                    Err(error) => errors.push(error),
                }
            }
            let still = self.wal.stats() == before;
            if errors.is_empty() || still || attempt == ATTEMPTS {
                report.records += records;
                // An end that is torn after a failed write is told as such and cut at open.
                if still && self.wal.failure().is_none() {
                    report.errors.append(&mut errors);
                }
                return;
            }
        }
    }

    /// Gives how many records there are in the first `len` bytes.
    fn verify_segment(&self, path: &Path, len: u64) -> Result<u64> {
        let name = path.display().to_string();
        let bytes =
            read_if_exists(&*self.fs, path).map_err(|e| Error::io(format!("read {name}"), e))?;
        // It may be cut off the log by now.
        let Some(bytes) = bytes else { return Ok(0) };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if bytes.len() < len {
            let at = bytes.len() as u64;
            return Err(Error::corrupt(&*name, at, "it is shorter than it was"));
        }
        let bytes = bytes.slice(..len);
        let mut each =
            |_: u64, record: &[u8]| wal_record::replay(record, &mut Stage::default()).map(drop);
        let read = wal::read_segment(&name, &bytes, &mut each)?;
        let bad = |at: u64| Error::corrupt(&*name, at, "it is damaged here");
        if let Some((start, _)) = read.damaged.first() {
            return Err(bad(*start));
        }
        if read.good_bytes < bytes.len() as u64 {
            return Err(bad(read.good_bytes));
        }
        Ok(read.records)
    }
}
