//! Columns of one series while they are read: chunks decoded one after the other, late ones merged.

use trine_storage::{Error, Result, TimeRange};

use crate::chunk;
use crate::head::series::{Chunk, ChunkKind};

/// Samples of one series, in order of time once [`Columns::settle`] was called.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Columns {
    pub(crate) timestamps: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

impl Columns {
    pub(crate) fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.timestamps.len()
    }

    pub(crate) fn push(&mut self, timestamp: i64, value: f64) {
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    /// Adds the samples of a chunk, later appended than those before it.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the bytes are no chunk of its kind and
    /// size.
    pub(crate) fn decode<B: AsRef<[u8]>>(&mut self, name: &str, chunk: &Chunk<B>) -> Result<()> {
        let start = self.timestamps.len();
        match chunk.kind {
            ChunkKind::Floats => chunk::decode_floats(
                name,
                chunk.bytes.as_ref(),
                chunk.count,
                &mut self.timestamps,
                &mut self.values,
            )?,
        }
        let added = &self.timestamps[start..];
        let ends = (added.first().copied(), added.last().copied());
        if ends == (Some(chunk.first), Some(chunk.last)) {
            return Ok(());
        }
        let what = "a chunk does not begin and end where it should";
        Err(Error::corrupt(name, 0, what))
    }

    /// Brings the samples into order of time; of those with one timestamp the last added stays.
    pub(crate) fn settle(&mut self) {
        if self.timestamps.is_sorted_by(|a, b| a < b) {
            return;
        }
        let mut order: Vec<(i64, u32)> = self.timestamps.iter().copied().zip(0u32..).collect();
        order.sort_unstable();
        let values = std::mem::take(&mut self.values);
        self.timestamps.clear();
        let mut order = order.into_iter().peekable();
        while let Some((timestamp, at)) = order.next() {
            if order.peek().is_none_or(|(next, _)| *next != timestamp) {
                self.push(timestamp, values[at as usize]);
            }
        }
    }

    /// Takes out the samples from the place `start` on whose timestamps lie in `range`.
    pub(crate) fn remove(&mut self, start: usize, range: TimeRange) {
        let mut kept = start;
        for at in start..self.timestamps.len() {
            let timestamp = self.timestamps[at];
            if !range.contains(timestamp) {
                self.timestamps[kept] = timestamp;
                self.values[kept] = self.values[at];
                kept += 1;
            }
        }
        self.timestamps.truncate(kept.max(start));
        self.values.truncate(kept.max(start));
    }

    /// Keeps the samples in `range`; they must be in order of time.
    pub(crate) fn keep(&mut self, range: TimeRange) {
        let first = self.timestamps.partition_point(|&t| t < range.start);
        let end = self.timestamps.partition_point(|&t| t < range.end);
        let end = end.max(first);
        self.timestamps.truncate(end);
        self.values.truncate(end);
        self.timestamps.drain(..first);
        self.values.drain(..first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_added_stays_and_order_is_kept() {
        for (added, expected) in [
            (vec![], vec![]),
            (vec![(1, 'o'), (2, 'o')], vec![(1, 'o'), (2, 'o')]),
            (
                vec![(1, 'o'), (3, 'o'), (5, 'o'), (2, 'n'), (3, 'n')],
                vec![(1, 'o'), (2, 'n'), (3, 'n'), (5, 'o')],
            ),
            (
                vec![(5, 'o'), (1, 'n'), (9, 'n')],
                vec![(1, 'n'), (5, 'o'), (9, 'n')],
            ),
            (vec![(5, 'o'), (5, 'm'), (5, 'n')], vec![(5, 'n')]),
        ] {
            let columns = |rows: &[(i64, char)]| {
                let mut columns = Columns::default();
                for (timestamp, value) in rows {
                    columns.push(*timestamp, f64::from(*value as u32));
                }
                columns
            };
            let mut settled = columns(&added);
            settled.settle();
            assert_eq!(settled, columns(&expected), "{added:?}");
        }
    }
}
