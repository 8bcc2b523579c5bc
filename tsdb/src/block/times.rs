//! Columns of timestamps that a block writer has written, so that the series of one scrape share one.

use std::collections::HashMap;

use trine_storage::labels::hash_encoded;

/// Timestamps that are remembered at most: columns beyond are written again.
const ROWS_MAX: usize = 4 << 20;

/// A column and its number.
type Numbered = (u32, Box<[i64]>);

/// The columns of one block, by number.
#[derive(Debug, Default)]
pub(super) struct Times {
    by_hash: HashMap<u64, Vec<Numbered>>,
    rows: usize,
    count: u32,
}

impl Times {
    /// The number of the column with exactly these timestamps.
    pub(super) fn find(&self, timestamps: &[i64]) -> Option<u32> {
        let columns = self.by_hash.get(&hash(timestamps))?;
        let same = columns.iter().find(|(_, column)| **column == *timestamps);
        same.map(|(number, _)| *number)
    }

    /// Gives the next number to a column.
    pub(super) fn add(&mut self, timestamps: &[i64]) -> u32 {
        let number = self.count;
        self.count += 1;
        if self.rows + timestamps.len() <= ROWS_MAX {
            self.rows += timestamps.len();
            let columns = self.by_hash.entry(hash(timestamps)).or_default();
            columns.push((number, timestamps.into()));
        }
        number
    }
}

/// Ends, middle and length: columns that agree in these are compared in full.
fn hash(timestamps: &[i64]) -> u64 {
    let at = |place: usize| timestamps.get(place).copied().unwrap_or(0);
    let last = timestamps.len().saturating_sub(1);
    let mut bytes = [0; 32];
    let parts = [at(0), at(last / 2), at(last), timestamps.len() as i64];
    for (to, part) in bytes.chunks_exact_mut(8).zip(parts) {
        to.copy_from_slice(&part.to_le_bytes());
    }
    hash_encoded(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_columns_have_one_number() {
        let mut times = Times::default();
        let columns = [vec![1, 2, 3, 4], vec![1, 2, 3], vec![1, 3, 3, 4], vec![]];
        for (number, column) in (0..).zip(&columns) {
            assert_eq!(times.find(column), None);
            assert_eq!(times.add(column), number);
        }
        for (number, column) in (0..).zip(&columns) {
            assert_eq!(times.find(column), Some(number));
        }
        let long = vec![7; ROWS_MAX];
        assert_eq!(times.add(&long), 4);
        assert_eq!(times.find(&long), None, "too much to remember");
    }
}
