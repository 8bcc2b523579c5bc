//! One store from bucket to bucket.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::super::bucket::Bucket;
use super::object::ObjectFile;
use super::target::Target;
use super::{Blocks, Source, Transfer, block_key};
use crate::catalog::{BlockMeta, Document};
use crate::error::Result;

impl Target {
    /// Makes the stores of `source` the stores of this bucket. Each is consistent at every moment: as it
    /// was before, or as it was in the source at some time during the copy.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable); [`Kind::Locked`](crate::Kind::Locked) when somebody
    /// else has taken this bucket over; [`Kind::Corrupt`](crate::Kind::Corrupt) when the source lacks an
    /// object that its catalog names; those of [`Transfer::check`]. Do it again after any of them: what
    /// was copied is not sent again.
    pub fn mirror(&self, source: &Source, transfer: &Transfer) -> Result<()> {
        transfer
            .progress
            .plan_stores(u64::try_from(source.stores.len()).unwrap_or(u64::MAX));
        for name in &source.stores {
            (transfer.check)()?;
            // A marker is made before the first version.
            if let Some(blocks) = Blocks::load(source, name)? {
                let objects = self.objects(name)?;
                self.mirror_store(blocks, &name.within(self.bucket()), objects, transfer)
                    .and_then(|document| self.commit(name, &document, transfer))?;
            }
            transfer.progress.store_done();
        }
        Ok(())
    }

    fn mirror_store(
        &self,
        mut blocks: Blocks,
        to: &Bucket,
        objects: BTreeMap<String, u64>,
        transfer: &Transfer,
    ) -> Result<Document> {
        let from = blocks.bucket.clone();
        let objects = Mutex::new(objects);
        let is_there = |meta: &BlockMeta| {
            let found = objects.lock().get(&block_key(meta.id)).copied();
            Ok(found == Some(meta.bytes))
        };
        blocks.copy_all(transfer, is_there, |meta| {
            let key = block_key(meta.id);
            let file = ObjectFile {
                bucket: from.clone(),
                key: key.clone(),
                len: meta.bytes,
            };
            let check = || self.lease.require().and_then(|()| (transfer.check)());
            to.upload_while(&key, &file, &transfer.throttle, &check)?;
            objects.lock().insert(key, meta.bytes);
            Ok(())
        })?;
        Ok(blocks.newest.catalog)
    }
}
