//! An object that is read once from front to back.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::super::bucket::Bucket;
use crate::fs::ReadFile;

/// An object as a file, without a cache.
#[derive(Debug)]
pub(super) struct ObjectFile {
    pub(super) bucket: Bucket,
    pub(super) key: String,
    pub(super) len: u64,
}

impl ReadFile for ObjectFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        let read = |range: &Range<u64>| match range.is_empty() {
            true => Ok(Bytes::new()),
            false => self.bucket.get_range(&self.key, range.clone()),
        };
        let pieces = ranges.iter().map(read);
        pieces.collect::<Result<_, _>>().map_err(io::Error::other)
    }

    fn is_remote(&self) -> bool {
        true
    }
}
