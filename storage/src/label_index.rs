//! Inverted index from (label name, value) to the numbers of the series or streams that carry it.
//! All engines ask it for their memory; blocks have a [`frozen_index`](crate::frozen_index).
//!
//! Expressions are run over the distinct values of a name, never over series.

mod postings;
mod values;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;

use hashbrown::HashTable;
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_64;

use crate::cardinality::{Cardinality, Pair};
use crate::labels::Labels;
use crate::matcher::{MatchOp, Matcher};
use crate::regex::LabelRegex;
use values::Values;

/// Finds the ids whose labels satisfy matchers.
///
/// An id is whatever the caller numbers its label sets with. A label that is absent counts as the
/// empty string.
///
/// ```
/// use trine_storage::label_index::LabelIndex;
/// use trine_storage::{Labels, MatchOp, Matcher};
///
/// let mut index = LabelIndex::new();
/// index.insert(7, &Labels::from_pairs([("job", "api"), ("env", "prod")])?);
/// index.insert(8, &Labels::from_pairs([("job", "db")])?);
/// let matchers = [Matcher::new(MatchOp::Match, "job", "api|db")?, Matcher::equal("env", "")];
/// assert_eq!(index.select(&matchers).iter().collect::<Vec<_>>(), [8]);
/// # Ok::<(), trine_storage::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct LabelIndex {
    all: RoaringBitmap,
    names: BTreeMap<Box<str>, Name>,
    /// Bytes of all names and values, and of what holds them.
    text_bytes: usize,
    /// Number of (id, label) pairs.
    pairs: usize,
}

/// What is known of one label name.
#[derive(Debug, Clone, Default)]
struct Name {
    values: Values,
    /// Every id that has the label: the union of the postings of all values, which are disjoint.
    present: RoaringBitmap,
}

impl LabelIndex {
    /// An index of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `id` with its labels. An id that is already here must be removed with its old labels
    /// before it can get others; with the same labels nothing changes.
    pub fn insert(&mut self, id: u32, labels: &Labels) {
        self.all.insert(id);
        for (name, value) in labels {
            if !self.names.contains_key(name) {
                self.names.insert(name.into(), Name::default());
                self.text_bytes += name_bytes(name);
            }
            let Some(of_name) = self.names.get_mut(name) else {
                continue;
            };
            if of_name.present.insert(id) {
                self.pairs += 1;
            }
            if of_name.values.insert(value, id) {
                self.text_bytes += value_bytes(value);
            }
        }
    }

    /// Adds many sets at once, as [`LabelIndex::insert`] would one by one: each distinct value is
    /// looked up once, which is several times as fast for a million sets. Ids should rise.
    pub fn extend(&mut self, sets: &[(u32, Labels)]) {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for (id, labels) in sets {
            self.all.insert(*id);
            // Sets mostly have the same names in the same places.
            let mut place = 0;
            for (name, value) in labels {
                if groups.get(place).is_none_or(|group| group.name != name) {
                    place = groups
                        .iter()
                        .position(|group| group.name == name)
                        .unwrap_or_else(|| {
                            groups.push(Group::new(name));
                            groups.len() - 1
                        });
                }
                groups[place].add(value, *id);
                place += 1;
            }
        }
        for group in groups {
            if !self.names.contains_key(group.name) {
                self.names.insert(group.name.into(), Name::default());
                self.text_bytes += name_bytes(group.name);
            }
            let Some(of_name) = self.names.get_mut(group.name) else {
                continue;
            };
            let mut values = group.values;
            values.sort_unstable_by_key(|(value, _)| *value);
            for (value, ids) in values {
                for id in ids {
                    self.pairs += usize::from(of_name.present.insert(id));
                    if of_name.values.insert(value, id) {
                        self.text_bytes += value_bytes(value);
                    }
                }
            }
        }
    }

    /// Takes out `id`, which was inserted with exactly these labels. An unknown id changes nothing.
    pub fn remove(&mut self, id: u32, labels: &Labels) {
        if !self.all.remove(id) {
            return;
        }
        for (name, value) in labels {
            let Some(of_name) = self.names.get_mut(name) else {
                continue;
            };
            let Some(value_is_gone) = of_name.values.remove(value, id) else {
                continue;
            };
            of_name.present.remove(id);
            self.pairs -= 1;
            if value_is_gone {
                self.text_bytes -= value_bytes(value);
            }
            if of_name.present.is_empty() {
                self.names.remove(name);
                self.text_bytes -= name_bytes(name);
            }
        }
    }

    /// The ids whose labels satisfy all matchers; without matchers, all ids.
    pub fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut wanted: Vec<Cow<'_, RoaringBitmap>> = Vec::new();
        let mut unwanted: Vec<Cow<'_, RoaringBitmap>> = Vec::new();
        for matcher in matchers {
            match self.ids(matcher) {
                Ids::Everything => {}
                Ids::Only(ids) if ids.is_empty() => return RoaringBitmap::new(),
                Ids::Only(ids) => wanted.push(ids),
                Ids::AllBut(ids) => unwanted.push(ids),
            }
        }
        wanted.sort_by_key(|ids| ids.len());
        let mut wanted = wanted.into_iter();
        let mut selected = match wanted.next() {
            Some(smallest) => smallest.into_owned(),
            None => self.all.clone(),
        };
        for ids in wanted {
            selected &= &*ids;
        }
        for ids in unwanted {
            selected -= &*ids;
        }
        selected
    }

    /// The label names that occur, sorted; with `filter`, those that occur among its ids.
    pub fn names(&self, filter: Option<&RoaringBitmap>) -> Vec<&str> {
        let occurs = |name: &Name| filter.is_none_or(|ids| !ids.is_disjoint(&name.present));
        self.names
            .iter()
            .filter(|(_, name)| occurs(name))
            .map(|(name, _)| &**name)
            .collect()
    }

    /// The values of `name` that occur, sorted; with `filter`, those that occur among its ids; with
    /// `limit`, the first that many.
    pub fn values(
        &self,
        name: &str,
        filter: Option<&RoaringBitmap>,
        limit: Option<usize>,
    ) -> Vec<&str> {
        let Some(name) = self.names.get(name) else {
            return Vec::new();
        };
        name.values
            .from("")
            .filter(|(_, postings)| filter.is_none_or(|ids| postings.intersects(ids)))
            .map(|(value, _)| value)
            .take(limit.unwrap_or(usize::MAX))
            .collect()
    }

    /// Every (name, value) with its number of ids, sorted by name, then value.
    pub fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        self.names.iter().flat_map(|(name, of_name)| {
            of_name.values.from("").map(move |(value, postings)| Pair {
                name,
                value,
                ids: postings.len(),
            })
        })
    }

    /// Which names and values there are most of; `metric_label` is the name whose values
    /// [`Cardinality::series_by_name`] counts, `limit` the length of each list.
    pub fn cardinality(&self, metric_label: &str, limit: usize) -> Cardinality {
        let pairs = self.pairs().map(Ok::<_, Infallible>);
        match Cardinality::count(self.all.len(), [pairs], metric_label, limit) {
            Ok(cardinality) => cardinality,
            Err(never) => match never {},
        }
    }

    /// The number of ids.
    pub fn len(&self) -> usize {
        usize::try_from(self.all.len()).unwrap_or(usize::MAX)
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Bytes held on the heap: an estimate from counters, kept in constant time. An id costs two to
    /// four bytes in the postings of a value that many have and next to nothing in those of all ids.
    pub fn heap_bytes(&self) -> usize {
        self.text_bytes + self.pairs / 2 * 5 + self.len()
    }

    /// What one matcher demands of the ids.
    fn ids(&self, matcher: &Matcher) -> Ids<'_> {
        // A name that nobody has is a name whose value is empty everywhere.
        let Some(name) = self.names.get(matcher.name()) else {
            return match matcher.matches_empty() {
                true => Ids::Everything,
                false => Ids::Only(Cow::Owned(RoaringBitmap::new())),
            };
        };
        let value = matcher.value();
        match (matcher.op(), matcher.regex()) {
            (MatchOp::Equal, _) if value.is_empty() => Ids::AllBut(Cow::Borrowed(&name.present)),
            (MatchOp::Equal, _) => Ids::Only(name.values.bitmap(value)),
            (MatchOp::NotEqual, _) if value.is_empty() => Ids::Only(Cow::Borrowed(&name.present)),
            (MatchOp::NotEqual, _) => Ids::AllBut(name.values.bitmap(value)),
            (MatchOp::Match, Some(regex)) => name.matching(regex),
            (MatchOp::NotMatch, Some(regex)) => match name.matching(regex) {
                Ids::Everything => Ids::Only(Cow::Owned(RoaringBitmap::new())),
                Ids::Only(ids) => Ids::AllBut(ids),
                Ids::AllBut(ids) => Ids::Only(ids),
            },
            (MatchOp::Match | MatchOp::NotMatch, None) => {
                Ids::Only(Cow::Owned(RoaringBitmap::new()))
            }
        }
    }
}

/// The ids of the values of one name while many sets are added.
struct Group<'a> {
    name: &'a str,
    values: Vec<(&'a str, Vec<u32>)>,
    places: HashTable<usize>,
    last: usize,
}

impl<'a> Group<'a> {
    fn new(name: &'a str) -> Self {
        Self {
            name,
            values: Vec::new(),
            places: HashTable::new(),
            last: 0,
        }
    }

    fn add(&mut self, value: &'a str, id: u32) {
        if self
            .values
            .get(self.last)
            .is_none_or(|(last, _)| *last != value)
        {
            let hash = |value: &str| xxh3_64(value.as_bytes());
            let values = &self.values;
            let same = |place: &usize| values[*place].0 == value;
            self.last = match self.places.find(hash(value), same) {
                Some(place) => *place,
                None => {
                    let place = self.values.len();
                    let values = &mut self.values;
                    values.push((value, Vec::new()));
                    let hash_of = |place: &usize| hash(values[*place].0);
                    self.places.insert_unique(hash(value), place, hash_of);
                    place
                }
            };
        }
        self.values[self.last].1.push(id);
    }
}

/// What a matcher demands.
enum Ids<'a> {
    Everything,
    Only(Cow<'a, RoaringBitmap>),
    AllBut(Cow<'a, RoaringBitmap>),
}

impl Name {
    /// The ids whose value matches. An expression that matches the empty string also takes the ids
    /// without the label, so what comes back is then what it leaves out.
    fn matching(&self, regex: &LabelRegex) -> Ids<'_> {
        if regex.matches_everything() {
            return Ids::Everything;
        }
        if regex.matches_not_empty() {
            return Ids::Only(Cow::Borrowed(&self.present));
        }
        if regex.matches_empty() {
            let others = self.values.from("");
            let others = others.filter(|(value, _)| !regex.is_match(value));
            return Ids::AllBut(Cow::Owned(postings::union(others.map(|(_, ids)| ids))));
        }
        if let Some(set) = regex.set_matches() {
            let found = set.iter().filter_map(|value| self.values.find(value));
            return Ids::Only(Cow::Owned(postings::union(found)));
        }
        let prefix = regex.prefix();
        let matching = self
            .values
            .from(prefix)
            .take_while(|(value, _)| value.starts_with(prefix))
            .filter(|(value, _)| regex.is_match(value));
        Ids::Only(Cow::Owned(postings::union(matching.map(|(_, ids)| ids))))
    }
}

/// The heap bytes of one value: its text and what holds it, with some room to grow.
fn value_bytes(text: &str) -> usize {
    text.len() + text.len() / 8 + 16
}

/// The heap bytes of one name: its text, its node and its first leaf of values.
fn name_bytes(text: &str) -> usize {
    text.len() + size_of::<Name>() + 128
}

#[cfg(test)]
mod tests;
