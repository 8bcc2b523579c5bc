//! All values of a column as templates and numbers, on the way to pages.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64;

use super::super::template::split;
use super::super::values::Texts;
use super::choose::{Rows, Used, VALUES_PER_ENTRY, sorted};

/// Columns with more templates are blobs: all are decoded to read one value.
const TEMPLATES_MAX: usize = 4096;

/// The items of [`Rows`], split.
pub(super) struct SplitTexts {
    /// In the order of the codes.
    templates: Texts,
    order: Vec<u32>,
    /// By template: how many values have it, by first appearance.
    counts: Vec<u32>,
    /// By item: its template, and where its numbers end.
    items: Vec<(u32, usize)>,
    slots: Vec<u64>,
}

impl SplitTexts {
    /// Splits all items that are used; `None` when there are too many templates.
    pub(super) fn of(rows: &Rows<'_>, used: Option<&Used>) -> Option<Self> {
        let texts = rows.items();
        let most = TEMPLATES_MAX.min(rows.len() / VALUES_PER_ENTRY);
        let mut all = Self {
            templates: Texts::default(),
            order: Vec::new(),
            counts: Vec::new(),
            items: Vec::with_capacity(texts.len()),
            slots: Vec::new(),
        };
        let mut table: HashTable<u32> = HashTable::new();
        let mut template = Vec::new();
        for (item, text) in texts.iter().enumerate() {
            let times = used.map_or(1, |used| used.counts.get(item).copied().unwrap_or(0));
            if times == 0 {
                all.items.push((0, all.slots.len()));
                continue;
            }
            template.clear();
            split(text, &mut template, &mut all.slots);
            let known = |code: &u32| all.templates.get(*code as usize);
            let equals = |code: &u32| known(code) == template;
            let hash = |code: &u32| xxh3_64(known(code));
            let code = match table.entry(xxh3_64(&template), equals, hash) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    let code = u32::try_from(all.counts.len()).unwrap_or(u32::MAX);
                    entry.insert(code);
                    all.templates.push(&template);
                    all.counts.push(0);
                    code
                }
            };
            if all.counts.len() > most {
                return None;
            }
            if let Some(count) = all.counts.get_mut(code as usize) {
                *count += times;
            }
            all.items.push((code, all.slots.len()));
        }
        all.order = sorted(&all.templates, &all.counts);
        let mut places = vec![0; all.order.len()];
        for (place, &code) in (0..).zip(&all.order) {
            if let Some(to) = places.get_mut(code as usize) {
                *to = place;
            }
        }
        for (code, _) in &mut all.items {
            *code = places.get(*code as usize).copied().unwrap_or(0);
        }
        Some(all)
    }

    /// The templates in order, with how many values have each.
    pub(super) fn order(&self) -> Vec<(&[u8], u32)> {
        let count = |code: &u32| {
            let place = *code as usize;
            let count = self.counts.get(place).copied().unwrap_or(0);
            (self.templates.get(place), count)
        };
        self.order.iter().map(count).collect()
    }

    /// The place of the template of an item, and its numbers.
    pub(super) fn value(&self, item: usize) -> (u32, &[u64]) {
        let start = match item.checked_sub(1) {
            Some(before) => self.items.get(before).map_or(0, |item| item.1),
            None => 0,
        };
        let Some(&(code, end)) = self.items.get(item) else {
            return (0, &[]);
        };
        (code, self.slots.get(start..end).unwrap_or_default())
    }
}
