//! Checks every byte that the store has on disk: blocks, catalog and log.

use trine_storage::Result;
use trine_storage::block_set::{Block, BlockReader};

use super::Inner;
use crate::block::reader::BlockFile;
use crate::stats::Report;
use crate::wal_record;

impl Inner {
    /// Reads everything from the first to the last byte, from where it is and not from what is open.
    pub(super) fn verify(&self) -> Report {
        let mut report = Report {
            errors: self.blocks.quarantined(),
            ..Report::default()
        };
        for block in &self.blocks.version().blocks {
            match Self::verify_block(block) {
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

    fn verify_block(block: &Block<BlockFile>) -> Result<u64> {
        BlockFile::open(block.fresh()?, &block.meta)?.verify()
    }
}
