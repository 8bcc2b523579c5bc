//! What is asked of a store before it is trusted.

use bytes::Bytes;

use super::bucket::{Bucket, PutNew, refused};
use super::failure::Reason;
use crate::error::Result;

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// By how many milliseconds the clock of the store is ahead of ours; stores tell whole seconds.
    pub ahead_ms: i64,
    /// Whether there is nothing in the bucket yet.
    pub is_empty: bool,
}

impl Bucket {
    /// Asks for everything that will be needed: lists, creates an object below `probe/`, creates it
    /// again and insists on a refusal, reads it back, removes it. Stores that accept the header of a
    /// conditional write and ignore it are found here, before two writers both win.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable) when the bucket, the credentials or the clock are
    /// wrong, or the store does not answer; [`Kind::Unsupported`](crate::Kind::Unsupported) when it
    /// cannot create objects conditionally.
    pub fn check(&self) -> Result<Checked> {
        let is_empty = self.is_empty("")?;
        let key = format!("probe/{}", self.token());
        let (first, second) = (Bytes::from(self.token()), Bytes::from(self.token()));
        let created = self.put_new(&key, first.clone())?;
        let again = self.put_new(&key, second);
        let found = self.get_object(&key);
        // Whatever the answers say, nothing stays behind.
        let deleted = self.delete(&key);
        let (again, found) = (again?, found?);
        deleted?;
        let now_ms = self.clock().now_ms();
        match (created, again, found) {
            (PutNew::Created, PutNew::Exists, Some((bytes, object))) if bytes == first => {
                Ok(Checked {
                    ahead_ms: object.modified_ms.saturating_sub(now_ms),
                    is_empty,
                })
            }
            (_, PutNew::Created, _) => Err(refused(
                format_args!("use {}", self.name()),
                Reason::Unsupported,
                "an object was created although it existed: the store ignores `If-None-Match: *`, so that two writers could overwrite each other",
            )),
            (created, again, found) => Err(refused(
                format_args!("use {}", self.name()),
                Reason::Unsupported,
                &format!(
                    "an object that was created ({created:?}) and refused ({again:?}) was read as {:?}",
                    found.map(|(bytes, _)| bytes)
                ),
            )),
        }
    }

    /// The time by the clock of the store, milliseconds since 1970: what its objects' times are
    /// compared with. Takes three requests.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable).
    pub fn now_ms(&self) -> Result<i64> {
        let key = format!("probe/{}", self.token());
        self.put(&key, Bytes::new())?;
        let found = self.head(&key);
        self.delete(&key)?;
        match found? {
            Some(object) => Ok(object.modified_ms),
            None => Err(refused(
                format_args!("ask {} for the time", self.name()),
                Reason::Unavailable,
                "an object that was just written is not there",
            )),
        }
    }
}
