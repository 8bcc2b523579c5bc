//! Values on the way to pages of templates and numbers.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64;

use super::super::template::split;
use super::super::values::Texts;

/// Columns with more templates are blobs: all are decoded to read one value.
const TEMPLATES_MAX: usize = 4096;

/// The templates that were met, by first appearance.
pub(super) struct Splitter {
    pub(super) templates: Texts,
    table: HashTable<u32>,
    most: usize,
    scratch: Vec<u8>,
    last: u32,
}

/// Texts that were split.
#[derive(Default)]
pub(super) struct Items {
    /// By text: the code of its template, and where its numbers end.
    items: Vec<(u32, u32)>,
    slots: Vec<u64>,
}

impl Items {
    /// Takes all texts out and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.slots.clear();
    }

    /// The code of the template of a text, and its numbers.
    pub(super) fn get(&self, item: usize) -> (u32, &[u64]) {
        let start = match item.checked_sub(1) {
            Some(before) => self.items.get(before).map_or(0, |item| item.1),
            None => 0,
        };
        let Some(&(code, end)) = self.items.get(item) else {
            return (0, &[]);
        };
        let slots = self.slots.get(start as usize..end as usize);
        (code, slots.unwrap_or_default())
    }
}

impl Splitter {
    /// For a column of so many values, of which each template must fit several.
    pub(super) fn new(values: usize, values_per_template: usize) -> Self {
        Self {
            templates: Texts::default(),
            table: HashTable::new(),
            most: TEMPLATES_MAX.min(values / values_per_template),
            scratch: Vec::new(),
            last: 0,
        }
    }

    /// Splits a text and appends it to `items`; `None` when there are too many templates.
    pub(super) fn push(&mut self, text: &[u8], items: &mut Items) -> Option<()> {
        self.scratch.clear();
        split(text, &mut self.scratch, &mut items.slots);
        let code = self.code()?;
        let end = u32::try_from(items.slots.len()).ok()?;
        items.items.push((code, end));
        (self.templates.len() <= self.most).then_some(())
    }

    /// The code of the template at hand.
    fn code(&mut self) -> Option<u32> {
        let known = |code: &u32| self.templates.get(*code as usize);
        // In many columns all values have the same.
        if !self.templates.is_empty() && known(&self.last) == self.scratch {
            return Some(self.last);
        }
        let equals = |code: &u32| known(code) == self.scratch;
        let hash = |code: &u32| xxh3_64(known(code));
        let code = match self.table.entry(xxh3_64(&self.scratch), equals, hash) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let code = u32::try_from(self.templates.len()).ok()?;
                entry.insert(code);
                self.templates.push(&self.scratch);
                code
            }
        };
        self.last = code;
        Some(code)
    }

    /// Appends a text that nobody uses, so that the others keep their places.
    pub(super) fn skip(&mut self, items: &mut Items) {
        let end = items.items.last().map_or(0, |item| item.1);
        items.items.push((0, end));
    }
}
