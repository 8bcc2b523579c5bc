//! What is immutable: blocks, and the parts that seals write.

pub(crate) mod format;
pub(crate) mod reader;
pub(crate) mod run;
mod times;
pub(crate) mod writer;

use trine_storage::Result;
use trine_storage::block_set::BlockReader;
use trine_storage::catalog::BlockMeta;
use trine_storage::sealed::SealedFile;

use crate::part::reader::PartFile;
use reader::BlockFile;

/// The level of a part; blocks have higher ones.
pub(crate) const PART_LEVEL: u8 = 0;

/// A file that the catalog names.
#[derive(Debug)]
pub(crate) enum Sealed {
    Part(PartFile),
    Block(BlockFile),
}

impl BlockReader for Sealed {
    const KIND: [u8; 4] = format::KIND;

    fn open(file: SealedFile, meta: &BlockMeta) -> Result<Self> {
        Ok(match meta.level {
            PART_LEVEL => Self::Part(PartFile::new(file)),
            _ => Self::Block(BlockFile::new(file, meta.rows)),
        })
    }
}
