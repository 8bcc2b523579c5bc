//! Checks every byte that the store has on disk: blocks, catalog and log.

use trine_storage::block_set::{Block, BlockReader};
use trine_storage::sealed::SealedFile;
use trine_storage::{Error, Result};

use super::Inner;
use crate::block::reader::BlockFile;
use crate::stats::Report;
use crate::wal_record;

impl Inner {
    /// Reads everything from the first to the last byte, from the disk and not from what is open.
    pub(super) fn verify(&self) -> Report {
        let mut report = Report {
            errors: self.blocks.quarantined(),
            ..Report::default()
        };
        for block in &self.blocks.version().blocks {
            match self.verify_block(block) {
                Ok(rows) => {
                    report.blocks += 1;
                    report.rows += rows;
                }
                Err(error) => report.errors.push(error),
            }
        }
        report.errors.extend(self.blocks.verify_catalog().err());
        let mut decode = |record: &[u8]| wal_record::decode(record).map(drop);
        let mut log = self.wal.verify(&mut decode);
        report.records = log.records;
        report.errors.append(&mut log.errors);
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
        BlockFile::open(file, &block.meta)?.verify()
    }
}
