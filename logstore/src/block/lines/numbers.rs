//! Finds the lines of a chunk that have a text or a number, without putting them together and without
//! knowing where each ends. Called by scans.

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};
use trine_storage::Result;

use super::{Layout, PackedLines, VariableClass, column, digits};

impl PackedLines {
    /// The rows, ascending, that have a text whose [`PackedLines::place_of`] is the skeleton; `None`
    /// when lines are not split.
    pub(crate) fn rows_with_text(&self, finder: &Finder<'_>) -> Option<Vec<u32>> {
        let Layout::Split { terminator, .. } = &self.layout else {
            return None;
        };
        let (mut rows, mut row, mut rest) = (Vec::new(), 0u32, self.text.as_slice());
        while let Some(hit) = finder.find(rest) {
            let (before, line) = rest.split_at(hit);
            row += u32::try_from(memchr_iter(*terminator, before).count()).unwrap_or(u32::MAX);
            rows.push(row);
            let Some(end) = memchr(*terminator, line) else {
                break;
            };
            (row, rest) = (row + 1, line.get(end + 1..).unwrap_or_default());
        }
        Some(rows)
    }

    /// The rows, ascending, that have exactly these digits as a variable of a word; `None` when lines
    /// are not split. Digits that stay in the text are not looked for.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the variables cannot be read.
    pub(crate) fn rows_with(&self, number: &[u8]) -> Result<Option<Vec<u32>>> {
        let Layout::Split {
            terminator,
            placeholder,
            variables,
        } = &self.layout
        else {
            return Ok(None);
        };
        let wanted = digits::number_of(number);
        let mut found = Vec::new();
        let mut order = None;
        for (code, column) in (0u8..=u8::MAX).zip(&variables.columns) {
            if column.kind.class != VariableClass::Number || column.kind.len != number.len() {
                continue;
            }
            let values = column::numbers(&self.name, &column.bytes, column.count)?;
            let mut hits = values
                .iter()
                .enumerate()
                .filter(|(_, value)| **value == wanted);
            let Some((mut hit, _)) = hits.next() else {
                continue;
            };
            let order = match &mut order {
                Some(order) => order,
                none => none.insert(column::blob(&self.name, &variables.order, variables.count)?),
            };
            // Which of all variables these are.
            for (at, variable) in memchr_iter(code, order).enumerate() {
                if at == hit {
                    found.push(variable);
                    match hits.next() {
                        Some((next, _)) => hit = next,
                        None => break,
                    }
                }
            }
        }
        found.sort_unstable();
        let mut rows = Vec::with_capacity(found.len());
        let mut found = found.into_iter().peekable();
        let (mut row, mut variables, mut start) = (0, 0, 0);
        for end in memchr_iter(*terminator, &self.text) {
            let Some(&next) = found.peek() else {
                break;
            };
            let line = self.text.get(start..end).unwrap_or_default();
            variables += memchr_iter(*placeholder, line).count();
            if next < variables {
                rows.push(row);
                while found.next_if(|&variable| variable < variables).is_some() {}
            }
            (row, start) = (row + 1, end + 1);
        }
        Ok(Some(rows))
    }
}
