//! Finds the lines of a chunk that have a number among their variables, without putting them together.
//! Called by scans for needles such as `user=u4242 `.

use memchr::memchr_iter;
use trine_storage::Result;

use super::{Layout, PackedLines, VariableClass, column, digits};

impl PackedLines {
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
