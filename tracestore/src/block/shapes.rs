//! Shapes: which attribute columns each row of a table has, in the order of its attributes. Called by
//! `table` to write and read them, and by `gather` to put rows of several tables together.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::put_varint;

use super::values::Texts;
use crate::stage::Index;

/// The shape of each row of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RowShapes {
    /// Places in `lists`, one a row.
    pub(crate) codes: Vec<u32>,
    /// Numbers of columns, in the order of the attributes.
    pub(crate) lists: Lists,
}

/// Lists of numbers of columns, as bytes one after the other: rows that all have other attributes
/// have as many lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lists(Texts);

impl Lists {
    /// Appends a list.
    pub(crate) fn push(&mut self, columns: impl IntoIterator<Item = u32>) {
        self.0.push_with(|out| put(out, columns));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The list at a place, which must exist.
    pub(crate) fn get(&self, place: u32) -> List<'_> {
        List(self.0.get(place as usize))
    }

    /// All lists in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = List<'_>> {
        self.0.iter().map(List)
    }

    /// Bytes that they take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes_len() + self.0.len() * size_of::<usize>()
    }
}

impl<L: IntoIterator<Item = u32>> FromIterator<L> for Lists {
    fn from_iter<I: IntoIterator<Item = L>>(lists: I) -> Self {
        let mut all = Self::default();
        lists.into_iter().for_each(|list| all.push(list));
        all
    }
}

fn put(out: &mut Vec<u8>, columns: impl IntoIterator<Item = u32>) {
    for column in columns {
        put_varint(out, column.into());
    }
}

/// The numbers of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List<'a>(&'a [u8]);

impl Iterator for List<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let mut number = 0u32;
        let mut shift = 0;
        while let Some((&byte, rest)) = self.0.split_first() {
            self.0 = rest;
            number |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
            shift = (shift + 7).min(31);
        }
        None
    }
}

/// Gives equal lists one number.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    lists: Texts,
    index: Index,
    list: Vec<u8>,
}

impl Numbering {
    /// The number of a list.
    pub(crate) fn number(&mut self, columns: impl IntoIterator<Item = u32>) -> u32 {
        self.list.clear();
        put(&mut self.list, columns);
        self.index.place(&mut self.lists, &self.list)
    }

    /// The lists by number.
    pub(crate) fn finish(self) -> Lists {
        Lists(self.lists)
    }
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

    /// The list of a row.
    pub(crate) fn of_row(&self, row: usize) -> List<'_> {
        self.codes
            .get(row)
            .map_or(List(&[]), |code| self.lists.get(*code))
    }

    /// Where the values of columns are.
    pub(crate) fn placed(&self, columns: usize) -> Placed<'_> {
        const ROWS_PER_LIST: usize = 8;
        match self.lists.len().saturating_mul(ROWS_PER_LIST) <= self.codes.len() {
            true => Placed::by_lists(self, columns),
            false => Placed::by_rows(self, columns),
        }
    }
}

/// Which rows have which columns, the other way round.
#[derive(Debug)]
pub(crate) enum Placed<'a> {
    /// Of each column the lists that have it, and how often: when they are few.
    Lists {
        shapes: &'a RowShapes,
        with: Vec<Vec<(u32, u32)>>,
        occurrences: Vec<u32>,
    },
    /// The rows of the first column, then those of the second and so on, and where they end. A row
    /// is there as often as it has the column.
    Rows {
        of: usize,
        rows: Vec<u32>,
        ends: Vec<usize>,
    },
}

impl<'a> Placed<'a> {
    fn by_lists(shapes: &'a RowShapes, columns: usize) -> Self {
        let mut with: Vec<Vec<(u32, u32)>> = vec![Vec::new(); columns];
        for (list, columns) in (0u32..).zip(shapes.lists.iter()) {
            for column in columns {
                let Some(lists) = with.get_mut(column as usize) else {
                    continue;
                };
                match lists.last_mut() {
                    Some((last, count)) if *last == list => *count += 1,
                    _ => lists.push((list, 1)),
                }
            }
        }
        Self::Lists {
            shapes,
            with,
            occurrences: vec![0; shapes.lists.len()],
        }
    }

    fn by_rows(shapes: &RowShapes, columns: usize) -> Self {
        let mut ends = vec![0usize; columns];
        let rows_by_list = shapes.rows_by_list();
        for (list, rows) in shapes.lists.iter().zip(rows_by_list) {
            for column in list {
                if let Some(end) = ends.get_mut(column as usize) {
                    *end += rows as usize;
                }
            }
        }
        // First where each begins; what is put there moves it to its end.
        let mut all = 0;
        for end in &mut ends {
            all += std::mem::replace(end, all);
        }
        let mut rows = vec![0u32; all];
        for (row, code) in (0u32..).zip(&shapes.codes) {
            for column in shapes.lists.get(*code) {
                if let Some(end) = ends.get_mut(column as usize) {
                    if let Some(place) = rows.get_mut(*end) {
                        *place = row;
                    }
                    *end += 1;
                }
            }
        }
        Self::Rows {
            of: shapes.codes.len(),
            rows,
            ends,
        }
    }

    /// Where the values of each row begin among those of a column; one more at the end.
    pub(crate) fn starts(&mut self, column: u32) -> Vec<u32> {
        match self {
            Self::Lists {
                shapes,
                with,
                occurrences,
            } => {
                let lists = with.get(column as usize).map_or(&[][..], Vec::as_slice);
                for (list, count) in lists {
                    if let Some(held) = occurrences.get_mut(*list as usize) {
                        *held = *count;
                    }
                }
                let mut next = 0u32;
                let mut starts = Vec::with_capacity(shapes.codes.len() + 1);
                starts.push(0);
                for code in &shapes.codes {
                    next += occurrences.get(*code as usize).copied().unwrap_or(0);
                    starts.push(next);
                }
                for (list, _) in lists {
                    if let Some(held) = occurrences.get_mut(*list as usize) {
                        *held = 0;
                    }
                }
                starts
            }
            Self::Rows { of, rows, ends } => {
                let end = |column: usize| ends.get(column).copied().unwrap_or(0);
                let first = (column as usize).checked_sub(1).map_or(0, end);
                let held = rows.get(first..end(column as usize));
                starts_of(held.unwrap_or_default(), *of)
            }
        }
    }
}

/// Where the values of each of so many rows begin among values of rows, which ascend; one more at
/// the end.
pub(crate) fn starts_of(held: &[u32], rows: usize) -> Vec<u32> {
    let mut starts = Vec::with_capacity(rows + 1);
    for (place, row) in (0u32..).zip(held) {
        let row = (*row as usize).min(rows);
        if starts.len() <= row {
            starts.resize(row + 1, place);
        }
    }
    let all = u32::try_from(held.len()).unwrap_or(u32::MAX);
    starts.resize(rows + 1, all);
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_numbers_and_columns_have_places() {
        let told: [&[u32]; 5] = [&[], &[1, 0], &[2, 2], &[1, 0], &[0, 1]];
        let mut numbering = Numbering::default();
        let codes = told.map(|list| numbering.number(list.iter().copied()));
        assert_eq!(codes, [0, 1, 2, 1, 3]);
        let shapes = RowShapes {
            codes: codes.to_vec(),
            lists: numbering.finish(),
        };
        assert_eq!(shapes.lists.len(), 4);
        assert_eq!(shapes.rows_by_list(), [1, 2, 1, 1]);
        for (row, list) in told.iter().enumerate() {
            assert!(shapes.of_row(row).eq(list.iter().copied()));
        }
        assert_eq!(shapes.of_row(5).count(), 0);
        for mut placed in [Placed::by_lists(&shapes, 3), Placed::by_rows(&shapes, 3)] {
            for _ in 0..2 {
                assert_eq!(placed.starts(0), [0, 0, 1, 1, 2, 3]);
                assert_eq!(placed.starts(2), [0, 0, 0, 2, 2, 2]);
                assert_eq!(placed.starts(9), [0; 6]);
            }
        }
    }

    #[test]
    fn numbers_of_any_length_come_back() {
        let all: Vec<u32> = (0..32).flat_map(|bit| [1 << bit, (1 << bit) - 1]).collect();
        let lists: Lists = [all.clone(), vec![u32::MAX], Vec::new()]
            .into_iter()
            .collect();
        assert!(lists.get(0).eq(all));
        assert!(lists.get(1).eq([u32::MAX]));
        assert_eq!(lists.get(2).count(), 0);
    }
}
