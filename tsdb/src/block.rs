//! What is immutable: blocks, the parts that seals write, and files with metadata.

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
/// The level of a file that holds the metadata of a store and nothing else.
pub(crate) const METADATA_LEVEL: u8 = u8::MAX;

/// A file that the catalog names.
#[derive(Debug)]
pub(crate) enum Sealed {
    Part(PartFile),
    Block(BlockFile),
    /// What metrics are, for those who have no parts of this store.
    Metadata(SealedFile),
}

/// Whether a file holds samples and does not depend on others.
pub(crate) fn is_block(meta: &BlockMeta) -> bool {
    !matches!(meta.level, PART_LEVEL | METADATA_LEVEL)
}

impl BlockReader for Sealed {
    const KIND: [u8; 4] = format::KIND;

    const FIRST_SECTIONS: &'static [u32] = &reader::TABLES;

    fn open(file: SealedFile, meta: &BlockMeta) -> Result<Self> {
        Ok(match meta.level {
            PART_LEVEL => Self::Part(PartFile::new(file)),
            METADATA_LEVEL => Self::Metadata(file),
            _ => Self::Block(BlockFile::new(file, meta.rows)),
        })
    }

    /// What ids mean in parts is known by other parts and by the log.
    fn is_shippable(meta: &BlockMeta) -> bool {
        meta.level != PART_LEVEL
    }
}
