//! Which pages reads of some rows come upon, so that those of a file that is far away are fetched
//! together. Nothing here is read; what is missed is fetched when it is read.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;

use trine_storage::sealed::PageRef;

use super::read::{Column, TableReader, pages_of};
use super::{Key, PAGE_ROWS, Presence, small};
use crate::block::numbers::ordered;
use crate::block::values::Type;

impl TableReader {
    /// Appends the pages of all columns that have values of some rows, or say which of them have some.
    pub(crate) fn pages_with(&self, rows: &Range<usize>, out: &mut Vec<PageRef>) {
        for column in self.columns() {
            self.pages_of_column(column, rows, out);
        }
    }

    /// Appends the pages of a column that every row has, if the table has it.
    pub(crate) fn pages_of_numbers(&self, number: u8, rows: &Range<usize>, out: &mut Vec<PageRef>) {
        if let Some(column) = self.told(&Key::Number(number)) {
            self.pages_of_column(column, rows, out);
        }
    }

    /// Appends the pages of a column that have values of some rows, if the table has it.
    pub(crate) fn pages_of(&self, key: &Key, rows: &Range<usize>, out: &mut Vec<PageRef>) {
        if let Some(column) = self.own(key) {
            self.pages_of_column(column, rows, out);
        } else if let Some((
            Column {
                values,
                presence: Presence::Rows(told),
                ..
            },
            pages,
        )) = self.pooled_pages(key)
        {
            told.places(pages.clone(), out);
            values.places(pages, out);
        }
    }

    /// Appends what it takes to look values up in a column, if the table has it: of one that shares a
    /// column all values.
    pub(crate) fn stored_of(&self, key: &Key, out: &mut Vec<PageRef>) {
        match self.own(key) {
            Some(column) => column.values.stored(out),
            None => self.pages_of(key, &(0..0), out),
        }
    }

    /// Appends the pages that say which attributes some rows have.
    pub(crate) fn pages_of_shapes(&self, rows: &Range<usize>, out: &mut Vec<PageRef>) {
        let columns = self.columns().iter();
        for column in columns.filter(|column| Self::is_of_shapes(column)) {
            self.pages_of_column(column, rows, out);
        }
    }

    /// Appends the pages of a column that have values of some rows.
    pub(crate) fn pages_of_column(
        &self,
        column: &Column,
        rows: &Range<usize>,
        out: &mut Vec<PageRef>,
    ) {
        if rows.is_empty() {
            return;
        }
        let pages = rows.start / PAGE_ROWS..rows.end.div_ceil(PAGE_ROWS);
        match &column.presence {
            Presence::Every | Presence::Shapes(_) => column.values.places(pages, out),
            Presence::Pages(_, told) => {
                told.places(pages.clone(), out);
                column.values.places(pages, out);
            }
            Presence::Rows(told) => {
                let bounds = [pages.start * PAGE_ROWS, pages.end * PAGE_ROWS - 1];
                let [least, greatest] = bounds.map(|row| ordered(Type::Int, row as u64));
                for page in 0..pages_of(told) {
                    if told.may_have(small(page), least, greatest) {
                        told.places(page..page + 1, out);
                        column.values.places(page..page + 1, out);
                    }
                }
            }
        }
    }
}
