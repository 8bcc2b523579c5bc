//! Encodes label sets one after the other into one buffer, for those who look them up rather than
//! keep them: a receiver that gets a thousand known series makes no allocation.

use std::ops::Range;

use super::{Labels, push_len};
use crate::error::Result;

/// A label set that is being encoded; reused from set to set.
///
/// Names and values are bytes as they came. Whether they are UTF-8 is only checked by
/// [`LabelsBuffer::to_labels`]: a set whose bytes equal those of a known set needs no check.
///
/// ```
/// use trine_storage::labels::LabelsBuffer;
/// use trine_storage::Labels;
///
/// let mut buffer = LabelsBuffer::default();
/// assert!(buffer.push(b"__name__", b"up") && buffer.push(b"job", b"api"));
/// assert!(!buffer.push(b"instance", b"a"), "out of order");
/// assert_eq!(buffer.to_labels()?, Labels::from_pairs([("__name__", "up"), ("job", "api")])?);
/// # Ok::<(), trine_storage::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct LabelsBuffer {
    encoded: Vec<u8>,
    /// Where the last name lies.
    last: Range<usize>,
}

impl LabelsBuffer {
    /// Begins a new set.
    pub fn clear(&mut self) {
        self.encoded.clear();
        self.last = 0..0;
    }

    /// Adds a label. Nothing is added and `false` given when its name is empty or does not come
    /// after the names before it, or when its value is empty: then [`Labels::from_pairs`] sorts it
    /// out.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> bool {
        let follows = self
            .encoded
            .get(self.last.clone())
            .is_some_and(|last| last < name);
        if !follows || value.is_empty() {
            return false;
        }
        push_len(&mut self.encoded, name.len());
        let start = self.encoded.len();
        self.encoded.extend_from_slice(name);
        self.last = start..self.encoded.len();
        push_len(&mut self.encoded, value.len());
        self.encoded.extend_from_slice(value);
        true
    }

    /// The encoding, as [`Labels::encoded`] of the same set.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The set.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::Kind::Corrupt) when a name or value is not UTF-8.
    pub fn to_labels(&self) -> Result<Labels> {
        Labels::from_encoded(&self.encoded)
    }
}
