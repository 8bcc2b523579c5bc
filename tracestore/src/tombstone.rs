//! What is in blocks and memory and is not to be seen: spans that are deleted or expired. Snapshots and
//! merges ask for the rows of a place.

use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use trine_storage::Result;

use crate::block::image::Image;
use crate::place::Held;

/// What is not to be seen of a store at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Hidden {
    /// Traces that began before this are expired.
    pub(crate) oldest_ns: i64,
}

/// What was worked out of a place.
#[derive(Debug, Default)]
pub(crate) struct Veil {
    /// How many traces are expired, and their rows.
    expired: Mutex<(usize, Arc<RoaringBitmap>)>,
}

impl Hidden {
    /// Rows of the spans of a place that are not to be seen.
    pub(crate) fn rows(&self, held: &Held) -> Result<Arc<RoaringBitmap>> {
        if held.range().start >= self.oldest_ns {
            return Ok(Arc::default());
        }
        let image = held.image()?;
        let expired = self.expired(&image)?;
        let mut known = held.veil().expired.lock();
        if known.0 != expired {
            let rows = image.first_rows()?.get(expired).copied().unwrap_or(0);
            let mut hidden = RoaringBitmap::new();
            hidden.insert_range(0..rows);
            *known = (expired, Arc::new(hidden));
        }
        Ok(Arc::clone(&known.1))
    }

    /// How many traces are expired; they are the first.
    fn expired(&self, image: &Image) -> Result<usize> {
        let mut bounds = 0..image.trace_count();
        while !bounds.is_empty() {
            let middle = bounds.start + bounds.len() / 2;
            if image.trace(middle)?.start < self.oldest_ns {
                bounds.start = middle + 1;
            } else {
                bounds.end = middle;
            }
        }
        Ok(bounds.start)
    }
}
