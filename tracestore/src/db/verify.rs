//! Checks every byte of the store: blocks, wherever they are, catalog and log.

use trine_storage::block_set::{Block, BlockReader};
use trine_storage::{Error, Result};

use super::Inner;
use crate::block::image::BlockFile;
use crate::stage::Stage;
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
                Ok(spans) => {
                    report.blocks += 1;
                    report.spans += spans;
                }
                Err(error) => report.errors.push(error),
            }
        }
        report.errors.extend(self.blocks.verify_catalog().err());
        let mut decode =
            |record: &[u8]| wal_record::replay(record, &mut Stage::default()).map(drop);
        let mut log = self.wal.verify(&mut decode);
        report.records = log.records;
        report.errors.append(&mut log.errors);
        report
    }

    fn verify_block(block: &Block<BlockFile>) -> Result<u64> {
        let file = block.fresh()?;
        let name = file.name().to_owned();
        file.verify()?;
        let spans = BlockFile::open(file, &block.meta)?.image()?.check()?;
        if spans != block.meta.rows {
            let told = block.meta.rows;
            let what = format!("it has {spans} spans, the catalog says {told}");
            return Err(Error::corrupt(name, 0, what));
        }
        Ok(spans)
    }
}
