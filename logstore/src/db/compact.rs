//! What is merged and what goes.

use trine_storage::Result;
use trine_storage::block_set::Edit;

use super::Inner;
use crate::retention;

impl Inner {
    pub(super) fn compact_if_due(&self) -> Result<()> {
        let _compacting = self.compacting.lock();
        self.retain()
    }

    /// Removes the blocks that the retention is done with.
    fn retain(&self) -> Result<()> {
        let version = self.blocks.version();
        let metas = version.blocks.iter().map(|block| &block.meta);
        let limits = retention::Limits {
            oldest_ns: self.retention.oldest_of_all_ns(self.clock.now_ns()),
            bytes: self.config.retention_bytes,
        };
        let remove = retention::plan(metas, &limits);
        if remove.is_empty() {
            return Ok(());
        }
        self.blocks.commit(
            &Edit {
                remove,
                ..Edit::default()
            },
            || {},
        )
    }
}
