//! The distinct values of a column, when they are few enough for a dictionary to be worth it.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64;

use super::super::bits::{packed_bytes, width_of};
use super::super::dictionary::TEXT_BYTES_MAX;
use super::super::values::Texts;

/// So few distinct values are a dictionary whatever else there is, unless they are long.
pub(super) const FEW: usize = 64;
/// A dictionary has at most one entry for so many values.
pub(super) const VALUES_PER_ENTRY: usize = 4;
/// Up to so many distinct numbers may cost a tenth more as a dictionary: it has counts, and absent
/// values are not in it.
const NUMBERS_MAX: usize = 4096;
/// What a dictionary of few numbers may cost more in any case.
const SLACK: usize = 64;
/// Numbers within a span of so many are counted in an array.
const SPAN_MAX: u64 = 1 << 16;
/// When so many values were seen and nine of ten were new, the others are not looked at.
const SEEN: usize = 1 << 14;
/// Rows of texts.
pub(super) enum Rows<'a> {
    Coded {
        codes: &'a [u32],
        entries: &'a Texts,
    },
    Plain(&'a Texts),
}

impl<'a> Rows<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Coded { codes, .. } => codes.len(),
            Self::Plain(texts) => texts.len(),
        }
    }

    pub(super) fn get(&self, row: usize) -> &'a [u8] {
        self.items().get(self.item(row))
    }

    /// The item of a row: an entry of those that are coded, else a row.
    pub(super) fn item(&self, row: usize) -> usize {
        match self {
            Self::Coded { codes, .. } => codes.get(row).copied().unwrap_or(0) as usize,
            Self::Plain(_) => row,
        }
    }

    /// The texts of all items.
    pub(super) fn items(&self) -> &'a Texts {
        match self {
            Self::Coded { entries, .. } => entries,
            Self::Plain(texts) => texts,
        }
    }
}

/// How often the entries of a list are used.
pub(super) struct Used {
    pub(super) counts: Vec<u32>,
    pub(super) entries: usize,
    pub(super) entry_bytes: usize,
    pub(super) raw_bytes: u64,
}

impl Used {
    pub(super) fn of(codes: &[u32], entries: &Texts) -> Self {
        let mut counts = vec![0u32; entries.len()];
        for &code in codes {
            if let Some(count) = counts.get_mut(code as usize) {
                *count += 1;
            }
        }
        let mut used = Self {
            counts: Vec::new(),
            entries: 0,
            entry_bytes: 0,
            raw_bytes: 0,
        };
        for (&count, entry) in counts.iter().zip(entries.iter()) {
            if count > 0 {
                used.entries += 1;
                used.entry_bytes += entry.len();
                used.raw_bytes += u64::from(count) * entry.len() as u64;
            }
        }
        used.counts = counts;
        used
    }
}

/// The distinct texts and the code of each row, when there are few enough for a dictionary.
pub(super) fn distinct_texts(texts: &Texts) -> Option<(Vec<u32>, Texts)> {
    let most = FEW.max(texts.len() / VALUES_PER_ENTRY);
    let mut table: HashTable<u32> = HashTable::new();
    let mut entries = Texts::default();
    let mut codes = Vec::with_capacity(texts.len());
    for (seen, text) in texts.iter().enumerate() {
        if entries.len() > most
            || entries.bytes_len() > TEXT_BYTES_MAX
            || (seen == SEEN && entries.len() > SEEN / 10 * 9)
        {
            return None;
        }
        let equals = |&code: &u32| entries.get(code as usize) == text;
        let hash = |&code: &u32| xxh3_64(entries.get(code as usize));
        let code = match table.entry(xxh3_64(text), equals, hash) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let code = u32::try_from(entries.len()).unwrap_or(u32::MAX);
                entry.insert(code);
                entries.push(text);
                code
            }
        };
        codes.push(code);
    }
    (entries.len() <= most).then_some((codes, entries))
}

/// The used entries in the order of their texts.
pub(super) fn sorted(entries: &Texts, counts: &[u32]) -> Vec<u32> {
    let used = || {
        (0u32..)
            .zip(counts)
            .filter(|(_, count)| **count > 0)
            .map(|(code, _)| code)
    };
    let text = |code: u32| entries.get(code as usize);
    let mut order: Vec<u32> = used().collect();
    if order.is_sorted_by(|&a, &b| text(a) < text(b)) {
        return order;
    }
    // Most comparisons are of eight bytes after what all texts begin with.
    let first = order.first().map_or(&[][..], |&code| text(code));
    let shared = used().fold(first.len(), |shared, code| {
        let pairs = first.iter().zip(text(code)).take(shared);
        pairs.take_while(|(a, b)| a == b).count()
    });
    let key = |code: u32| {
        let mut key = [0; 8];
        let rest = text(code).get(shared..).unwrap_or_default();
        key.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        u64::from_be_bytes(key)
    };
    let mut keyed: Vec<(u64, u32)> = order.iter().map(|&code| (key(code), code)).collect();
    keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| text(a.1).cmp(text(b.1))));
    order.clear();
    order.extend(keyed.iter().map(|(_, code)| code));
    order
}

/// Numbers as codes of their distinct values.
pub(super) struct Coded {
    pub(super) codes: Vec<u32>,
    /// Ascending.
    pub(super) entries: Vec<u64>,
    pub(super) counts: Vec<u32>,
}

/// Whether numbers are better kept as a dictionary of so many bytes than packed in so many.
pub(super) fn is_dictionary_better(coded: &Coded, dictionary: usize, packed: usize) -> bool {
    let width = width_of((coded.entries.len() as u64).saturating_sub(1));
    let all = dictionary + packed_bytes(coded.codes.len(), width);
    all <= packed / 10 * 9
        || (coded.entries.len() <= NUMBERS_MAX && all <= packed + packed / 10 + SLACK)
}

/// The distinct numbers, when there are few enough for a dictionary.
pub(super) fn distinct_numbers(numbers: &[u64]) -> Option<Coded> {
    let least = numbers.iter().copied().min()?;
    let greatest = numbers.iter().copied().max()?;
    let most = FEW.max(numbers.len() / VALUES_PER_ENTRY);
    if greatest - least < SPAN_MAX.min(4 * numbers.len() as u64 + 64) {
        return dense_numbers(numbers, least, greatest, most);
    }
    let mut table: HashTable<u32> = HashTable::new();
    let mut entries: Vec<u64> = Vec::new();
    let mut counts: Vec<u32> = Vec::new();
    let mut codes = Vec::with_capacity(numbers.len());
    let mut last = None;
    for (seen, &number) in numbers.iter().enumerate() {
        if entries.len() > most || (seen == SEEN && entries.len() > SEEN / 10 * 9) {
            return None;
        }
        let code = match last {
            Some((before, code)) if before == number => code,
            _ => {
                let at = |code: &u32| entries.get(*code as usize).copied().unwrap_or(0);
                match table.entry(
                    mixed(number),
                    |code| at(code) == number,
                    |code| mixed(at(code)),
                ) {
                    Entry::Occupied(entry) => *entry.get(),
                    Entry::Vacant(entry) => {
                        let code = u32::try_from(counts.len()).unwrap_or(u32::MAX);
                        entry.insert(code);
                        entries.push(number);
                        counts.push(0);
                        code
                    }
                }
            }
        };
        last = Some((number, code));
        if let Some(count) = counts.get_mut(code as usize) {
            *count += 1;
        }
        codes.push(code);
    }
    if entries.len() > most {
        return None;
    }
    let mut order: Vec<(u64, u32)> = entries.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let mut places = vec![0; order.len()];
    for (place, (_, code)) in (0..).zip(&order) {
        if let Some(to) = places.get_mut(*code as usize) {
            *to = place;
        }
    }
    for code in &mut codes {
        *code = places.get(*code as usize).copied().unwrap_or(0);
    }
    let count = |(_, code): &(u64, u32)| counts.get(*code as usize).copied().unwrap_or(0);
    Some(Coded {
        codes,
        counts: order.iter().map(count).collect(),
        entries: order.into_iter().map(|(number, _)| number).collect(),
    })
}

/// [`distinct_numbers`] of those that lie close together.
fn dense_numbers(numbers: &[u64], least: u64, greatest: u64, most: usize) -> Option<Coded> {
    let place = |number: u64| usize::try_from(number - least).unwrap_or(usize::MAX);
    let mut table = vec![0u32; place(greatest) + 1];
    for &number in numbers {
        if let Some(count) = table.get_mut(place(number)) {
            *count += 1;
        }
    }
    let used = table.iter().filter(|count| **count > 0).count();
    if used > most {
        return None;
    }
    let (mut entries, mut counts) = (Vec::with_capacity(used), Vec::with_capacity(used));
    for (number, count) in (least..=greatest).zip(&mut table) {
        if *count > 0 {
            entries.push(number);
            counts.push(*count);
            *count = u32::try_from(entries.len() - 1).unwrap_or(u32::MAX);
        }
    }
    let code = |&number: &u64| table.get(place(number)).copied().unwrap_or(0);
    Some(Coded {
        codes: numbers.iter().map(code).collect(),
        entries,
        counts,
    })
}

/// A hash of a number: tables look at its highest and lowest bits.
fn mixed(number: u64) -> u64 {
    let product = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}
