//! Which way of storing texts is smallest, by a sample of them.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64;

use super::super::bits::{packed_bytes, width_of};
use super::super::dictionary::TEXT_BYTES_MAX;
use super::super::frame;
use super::super::numbers::Bounds;
use super::super::template::{SLOTS_MAX, split};
use super::super::values::{Texts, Type};
use super::choose::{FEW, Rows, Used, VALUES_PER_ENTRY, sorted};

/// With so many values for each entry nothing is smaller than a dictionary.
const PLENTY: usize = 16;
/// So few bytes of entries are not worth a sample.
const ENTRY_BYTES: usize = 4 << 10;
/// One value of so many is in a sample, within bounds; and so many bytes are.
const SAMPLE_OF: usize = 16;
const SAMPLE_LEAST: usize = 64;
const SAMPLE_MOST: usize = 1000;
const SAMPLE_BYTES: usize = 32 << 10;
/// Bits for each distinct value that a column without a dictionary has in its filter.
const FILTER_BITS: usize = 10;

/// The used entries in order, when texts are to be stored by a dictionary.
pub(super) fn dictionary_order(kind: Type, rows: &Rows<'_>, used: &Used) -> Option<Vec<u32>> {
    let values = rows.len();
    let few = used.entries <= FEW.max(values / VALUES_PER_ENTRY);
    if !few || used.entry_bytes > TEXT_BYTES_MAX {
        return None;
    }
    let entries = rows.items();
    let order = sorted(entries, &used.counts);
    if used.entries.saturating_mul(PLENTY) <= values || used.entry_bytes <= ENTRY_BYTES {
        return Some(order);
    }
    let width = width_of(used.entries as u64);
    let dictionary = front_coded_bytes(entries, &order) + packed_bytes(values, width);
    let blobs = blob_bytes(rows);
    let other = match kind {
        Type::Str => template_bytes(rows).map_or(blobs, |templates| templates.min(blobs)),
        _ => blobs,
    };
    let other = other + used.entries * FILTER_BITS / 8;
    // A dictionary answers more without its pages.
    (dictionary <= other + other / 8).then_some(order)
}

/// Whether texts are to be stored as templates rather than blobs.
pub(super) fn has_templates(rows: &Rows<'_>) -> bool {
    template_bytes(rows).is_some_and(|templates| {
        let blobs = blob_bytes(rows);
        templates <= blobs + blobs / 8
    })
}

/// Bytes of a dictionary, about.
fn front_coded_bytes(entries: &Texts, order: &[u32]) -> usize {
    let mut before: &[u8] = b"";
    let mut bytes = 0;
    for &code in order {
        let entry = entries.get(code as usize);
        let pairs = before.iter().zip(entry);
        bytes += 2 + entry.len() - pairs.take_while(|(a, b)| a == b).count();
        before = entry;
    }
    bytes
}

/// Bytes of all values as blobs, about.
fn blob_bytes(rows: &Rows<'_>) -> usize {
    let (mut raw, mut sampled) = (Vec::new(), 0);
    for row in sample(rows.len()) {
        raw.extend_from_slice(rows.get(row));
        sampled += 1;
        if raw.len() >= SAMPLE_BYTES {
            break;
        }
    }
    let mut packed = Vec::new();
    let stored = frame::put(&mut packed, &raw);
    // A byte for the length.
    scaled(stored + sampled, rows.len(), sampled)
}

/// Bytes of all values as templates, about; `None` when there are too many templates.
fn template_bytes(rows: &Rows<'_>) -> Option<usize> {
    let mut templates = Texts::default();
    let mut table: HashTable<u32> = HashTable::new();
    let mut places: [Vec<u64>; SLOTS_MAX] = Default::default();
    let (mut template, mut slots) = (Vec::new(), Vec::new());
    let mut sampled = 0;
    for row in sample(rows.len()) {
        template.clear();
        slots.clear();
        split(rows.get(row), &mut template, &mut slots);
        sampled += 1;
        for (place, slot) in places.iter_mut().zip(&slots) {
            place.push(*slot);
        }
        let text = |code: &u32| templates.get(*code as usize);
        let equals = |code: &u32| text(code) == template;
        let entry = table.entry(xxh3_64(&template), equals, |code| xxh3_64(text(code)));
        if let Entry::Vacant(entry) = entry {
            entry.insert(u32::try_from(templates.len()).unwrap_or(u32::MAX));
            templates.push(&template);
        }
    }
    if templates.len() > sampled / VALUES_PER_ENTRY {
        return None;
    }
    let numbers = places.iter().map(|place| {
        let bounds = Bounds::of(place.iter().copied()).unwrap_or_default();
        bounds.page_bytes(place.len())
    });
    let codes = packed_bytes(sampled, width_of(templates.len() as u64 - 1));
    let packed = numbers.sum::<usize>() + codes;
    Some(scaled(packed, rows.len(), sampled) + templates.bytes_len())
}

/// What `bytes` of `sampled` values are of all.
fn scaled(bytes: usize, values: usize, sampled: usize) -> usize {
    let all = bytes as u128 * values as u128 / sampled.max(1) as u128;
    usize::try_from(all).unwrap_or(usize::MAX)
}

/// Rows spread evenly.
fn sample(rows: usize) -> impl Iterator<Item = usize> {
    let values = (rows / SAMPLE_OF).clamp(SAMPLE_LEAST, SAMPLE_MOST);
    (0..rows).step_by((rows / values).max(1))
}
