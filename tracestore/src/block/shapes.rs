//! Shapes: which attribute columns each row of a table has, in the order of its attributes. Called by
//! `table` to write and read them, and by `build` to put rows of several tables together.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;

/// The shape of each row of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RowShapes {
    /// Places in `lists`, one a row.
    pub(crate) codes: Vec<u32>,
    /// Numbers of columns, in the order of the attributes.
    pub(crate) lists: Vec<Box<[u32]>>,
}

/// Gives equal lists one number.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    numbers: HashMap<Box<[u32]>, u32>,
    lists: Vec<Box<[u32]>>,
}

impl Lists {
    /// The number of a list.
    pub(crate) fn number(&mut self, list: &[u32]) -> u32 {
        if let Some(&number) = self.numbers.get(list) {
            return number;
        }
        let number = u32::try_from(self.lists.len()).unwrap_or(u32::MAX);
        self.lists.push(list.into());
        self.numbers.insert(list.into(), number);
        number
    }

    /// The lists by number.
    pub(crate) fn finish(self) -> Vec<Box<[u32]>> {
        self.lists
    }
}

/// How often each list has a column.
pub(crate) fn occurrences(lists: &[Box<[u32]>], column: u32) -> Vec<u32> {
    let count = |list: &[u32]| list.iter().filter(|held| **held == column).count();
    let counts = lists.iter().map(|list| count(list));
    counts
        .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
        .collect()
}

impl RowShapes {
    /// How often each list is the shape of a row.
    pub(crate) fn rows_by_list(&self) -> Vec<u32> {
        let mut rows = vec![0u32; self.lists.len()];
        for code in &self.codes {
            if let Some(rows) = rows.get_mut(*code as usize) {
                *rows += 1;
            }
        }
        rows
    }

    /// Where the values of each row begin among those of a column; one more at the end.
    pub(crate) fn starts(&self, column: u32) -> Vec<u32> {
        let occurrences = occurrences(&self.lists, column);
        let mut next = 0u32;
        let mut starts = Vec::with_capacity(self.codes.len() + 1);
        starts.push(0);
        for code in &self.codes {
            next += occurrences.get(*code as usize).copied().unwrap_or(0);
            starts.push(next);
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_numbers_and_columns_have_places() {
        let mut lists = Lists::default();
        let codes: Vec<u32> = [&[][..], &[1, 0], &[2, 2], &[1, 0], &[0, 1]]
            .iter()
            .map(|list| lists.number(list))
            .collect();
        assert_eq!(codes, [0, 1, 2, 1, 3]);
        let shapes = RowShapes {
            codes,
            lists: lists.finish(),
        };
        assert_eq!(shapes.lists.len(), 4);
        assert_eq!(shapes.rows_by_list(), [1, 2, 1, 1]);
        assert_eq!(shapes.starts(0), [0, 0, 1, 1, 2, 3]);
        assert_eq!(shapes.starts(2), [0, 0, 0, 2, 2, 2]);
        assert_eq!(shapes.starts(9), [0; 6]);
    }
}
