//! The values of one label name in order, each with its ids. A label such as `pod` has as many
//! values as there are series, so a value costs little more than its text.
//!
//! Values lie in leaves of some dozens: their text one after the other, and for each its end and a
//! word that is its only id or leads to its ids.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

use roaring::RoaringBitmap;

use super::postings::{Many, Postings};

/// Most values of a leaf. More would save memory and make it slower to add a value.
const LEAF_VALUES_MAX: usize = 128;
/// A leaf with fewer values is joined to the one before it, where they fit.
const LEAF_VALUES_MIN: usize = LEAF_VALUES_MAX / 4;
/// A word with this bit is the place of the ids among [`Values::many`], else it is the only id.
const MANY: u32 = 1 << 31;

/// A sorted map from values to ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    /// By a text that is not after their first value and after the last of the leaf before.
    leaves: BTreeMap<Box<str>, Leaf>,
    many: Vec<Many>,
    /// Places in `many` that are not in use.
    free: Vec<u32>,
    /// A value that got an id and the place of its ids. Series that come one after the other mostly
    /// have the same value of a name, which then needs no search.
    last: Option<(String, u32)>,
}

#[derive(Debug, Clone, Default)]
struct Leaf {
    text: String,
    /// Where each value ends in `text`, and its word.
    entries: Vec<(u32, u32)>,
}

impl Values {
    /// Adds `id` to the ids of `value`; says whether the value is new.
    pub(super) fn insert(&mut self, value: &str, id: u32) -> bool {
        if let Some((last, place)) = &self.last
            && last == value
        {
            self.many[*place as usize].insert(id);
            return false;
        }
        let Some((_, leaf)) = self.leaves.range_mut::<str, _>(up_to(value)).next_back() else {
            let mut leaf = Leaf::default();
            leaf.insert(0, value, first_word(&mut self.many, &mut self.free, id));
            self.leaves.insert("".into(), leaf);
            return true;
        };
        match leaf.search(value) {
            Ok(at) => {
                let word = &mut leaf.entries[at].1;
                if *word & MANY != 0 {
                    let place = *word & !MANY;
                    self.many[place as usize].insert(id);
                    let (last, last_place) = self.last.get_or_insert_default();
                    last.clear();
                    last.push_str(value);
                    *last_place = place;
                } else if *word != id {
                    let mut many = Many::Listed(vec![*word]);
                    many.insert(id);
                    *word = put(&mut self.many, &mut self.free, many);
                }
                false
            }
            Err(at) => {
                leaf.insert(at, value, first_word(&mut self.many, &mut self.free, id));
                if leaf.entries.len() > LEAF_VALUES_MAX {
                    let upper = leaf.split_off(LEAF_VALUES_MAX / 2);
                    self.leaves.insert(upper.value(0).into(), upper);
                }
                true
            }
        }
    }

    /// Takes `id` from the ids of `value`. `None` when it is not among them, else whether the value
    /// is gone with it.
    pub(super) fn remove(&mut self, value: &str, id: u32) -> Option<bool> {
        self.last = None;
        let (_, leaf) = self.leaves.range_mut::<str, _>(up_to(value)).next_back()?;
        let at = leaf.search(value).ok()?;
        let word = leaf.entries[at].1;
        if word & MANY != 0 {
            let place = word & !MANY;
            let many = &mut self.many[place as usize];
            if !many.remove(id) {
                return None;
            }
            if !many.is_empty() {
                return Some(false);
            }
            *many = Many::Listed(Vec::new());
            self.free.push(place);
        } else if word != id {
            return None;
        }
        leaf.remove(at);
        if leaf.entries.len() < LEAF_VALUES_MIN {
            self.join(value);
        }
        Some(true)
    }

    /// Joins the leaf of `value` to the one before it, when they make a leaf that is not full.
    fn join(&mut self, value: &str) {
        let mut leaves = self.leaves.range_mut::<str, _>(up_to(value));
        let Some((key, leaf)) = leaves.next_back() else {
            return;
        };
        let joined = match leaves.next_back() {
            _ if leaf.entries.is_empty() => true,
            Some((_, before)) => before.join(leaf),
            None => false,
        };
        if joined {
            let key = key.clone();
            self.leaves.remove(&key);
        }
    }

    /// The ids of `value`.
    pub(super) fn find(&self, value: &str) -> Option<Postings<'_>> {
        let (_, leaf) = self.leaves.range::<str, _>(up_to(value)).next_back()?;
        let at = leaf.search(value).ok()?;
        Some(self.postings(leaf.entries[at].1))
    }

    /// The ids of `value`, none when there is no such value.
    pub(super) fn bitmap(&self, value: &str) -> Cow<'_, RoaringBitmap> {
        self.find(value).map_or_else(Cow::default, Postings::bitmap)
    }

    /// The values that are not before `start`, in order.
    pub(super) fn from<'a>(
        &'a self,
        start: &str,
    ) -> impl Iterator<Item = (&'a str, Postings<'a>)> + use<'a> {
        let before = self.leaves.range::<str, _>(up_to(start)).next_back();
        let skipped = before.map_or(0, |(_, leaf)| leaf.search(start).unwrap_or_else(|at| at));
        let first = before.map_or("", |(key, _)| &**key);
        let leaves = self
            .leaves
            .range::<str, _>((Bound::Included(first), Bound::Unbounded))
            .map(|(_, leaf)| leaf);
        leaves
            .flat_map(|leaf| (0..leaf.entries.len()).map(move |at| (leaf, at)))
            .skip(skipped)
            .map(|(leaf, at)| (leaf.value(at), self.postings(leaf.entries[at].1)))
    }

    fn postings(&self, word: u32) -> Postings<'_> {
        match word & MANY {
            0 => Postings::One(word),
            _ => Postings::Many(&self.many[(word & !MANY) as usize]),
        }
    }
}

fn up_to(value: &str) -> (Bound<&str>, Bound<&str>) {
    (Bound::Unbounded, Bound::Included(value))
}

/// The word of a value whose first id is `id`.
fn first_word(many: &mut Vec<Many>, free: &mut Vec<u32>, id: u32) -> u32 {
    match id & MANY {
        0 => id,
        _ => put(many, free, Many::Listed(vec![id])),
    }
}

/// Keeps `ids`; gives the word that leads to them.
fn put(many: &mut Vec<Many>, free: &mut Vec<u32>, ids: Many) -> u32 {
    if let Some(place) = free.pop() {
        many[place as usize] = ids;
        return place | MANY;
    }
    let place = u32::try_from(many.len()).expect("each has an id of 32 bits");
    many.push(ids);
    place | MANY
}

impl Leaf {
    fn start(&self, at: usize) -> usize {
        at.checked_sub(1)
            .map_or(0, |before| self.entries[before].0 as usize)
    }

    fn value(&self, at: usize) -> &str {
        &self.text[self.start(at)..self.entries[at].0 as usize]
    }

    /// Where `value` is, or where it belongs.
    fn search(&self, value: &str) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.entries.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.value(middle).cmp(value) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    fn insert(&mut self, at: usize, value: &str, word: u32) {
        // Grown by little: there are as many leaves as there are dozens of values.
        if self.text.capacity() - self.text.len() < value.len() {
            self.text.reserve_exact(value.len() + self.text.len() / 8);
        }
        if self.entries.capacity() == self.entries.len() {
            self.entries.reserve_exact(1 + self.entries.len() / 8);
        }
        let start = self.start(at);
        self.text.insert_str(start, value);
        self.entries.insert(at, (start as u32, word));
        for entry in &mut self.entries[at..] {
            entry.0 += value.len() as u32;
        }
    }

    fn remove(&mut self, at: usize) {
        let range = self.start(at)..self.entries[at].0 as usize;
        let len = range.len() as u32;
        self.text.replace_range(range, "");
        self.entries.remove(at);
        for entry in &mut self.entries[at..] {
            entry.0 -= len;
        }
    }

    /// Takes the values from `at` on.
    fn split_off(&mut self, at: usize) -> Self {
        let start = self.start(at);
        let text = self.text.split_off(start);
        let mut entries = self.entries.split_off(at);
        for entry in &mut entries {
            entry.0 -= start as u32;
        }
        self.text.shrink_to_fit();
        self.entries.shrink_to_fit();
        Self { text, entries }
    }

    /// Takes all values of `after`, unless they would be too many.
    fn join(&mut self, after: &Self) -> bool {
        if self.entries.len() + after.entries.len() > LEAF_VALUES_MAX / 2 {
            return false;
        }
        let start = self.text.len() as u32;
        self.text.push_str(&after.text);
        let moved = after.entries.iter().map(|(end, word)| (start + end, *word));
        self.entries.extend(moved);
        true
    }
}
