//! Inverted index from (label name, value) to the numbers of the series or streams that carry it.
//! All three engines ask it for their memory, and blocks store its byte form.
//!
//! Expressions are run over the distinct values of a name, never over series. The byte form is
//! described in `FORMAT.md`, "Label index".

mod format;
mod postings;

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::labels::Labels;
use crate::matcher::{MatchOp, Matcher};
use crate::regex::LabelRegex;
use postings::Postings;

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
    names: BTreeMap<Arc<str>, Values>,
    /// Bytes of all names and values, and of the nodes that hold them.
    text_bytes: usize,
    /// Number of (id, label) pairs.
    pairs: usize,
}

/// What is known of one label name.
#[derive(Debug, Clone, Default)]
struct Values {
    by_value: BTreeMap<Arc<str>, Postings>,
    /// Every id that has the label: the union of all postings above, which are disjoint.
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
            let (values, new_name) = entry(&mut self.names, name);
            let (postings, new_value) = entry(&mut values.by_value, value);
            if postings.insert(id) {
                self.pairs += 1;
            }
            values.present.insert(id);
            self.text_bytes += if new_name { entry_bytes(name) } else { 0 };
            self.text_bytes += if new_value { entry_bytes(value) } else { 0 };
        }
    }

    /// Takes out `id`, which was inserted with exactly these labels. An unknown id changes nothing.
    pub fn remove(&mut self, id: u32, labels: &Labels) {
        if !self.all.remove(id) {
            return;
        }
        for (name, value) in labels {
            let Some(values) = self.names.get_mut(name) else {
                continue;
            };
            let Some(postings) = values.by_value.get_mut(value) else {
                continue;
            };
            if !postings.remove(id) {
                continue;
            }
            self.pairs -= 1;
            values.present.remove(id);
            if postings.is_empty() {
                values.by_value.remove(value);
                self.text_bytes -= entry_bytes(value);
            }
            if values.by_value.is_empty() {
                self.names.remove(name);
                self.text_bytes -= entry_bytes(name);
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
        let occurs = |values: &Values| filter.is_none_or(|ids| !ids.is_disjoint(&values.present));
        self.names
            .iter()
            .filter(|(_, values)| occurs(values))
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
        let Some(values) = self.names.get(name) else {
            return Vec::new();
        };
        values
            .by_value
            .iter()
            .filter(|(_, postings)| filter.is_none_or(|ids| postings.intersects(ids)))
            .map(|(value, _)| &**value)
            .take(limit.unwrap_or(usize::MAX))
            .collect()
    }

    /// The number of ids.
    pub fn len(&self) -> usize {
        usize::try_from(self.all.len()).unwrap_or(usize::MAX)
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Bytes held on the heap: an estimate from counters, kept in constant time, that counts each
    /// id twice per label (for the value and for the name) at two bytes.
    pub fn heap_bytes(&self) -> usize {
        self.text_bytes + 4 * self.pairs + 2 * self.len()
    }

    /// What one matcher demands of the ids.
    fn ids(&self, matcher: &Matcher) -> Ids<'_> {
        // A name that nobody has is a name whose value is empty everywhere.
        let Some(values) = self.names.get(matcher.name()) else {
            return match matcher.matches_empty() {
                true => Ids::Everything,
                false => Ids::Only(Cow::Owned(RoaringBitmap::new())),
            };
        };
        let value = matcher.value();
        match (matcher.op(), matcher.regex()) {
            (MatchOp::Equal, _) if value.is_empty() => Ids::AllBut(Cow::Borrowed(&values.present)),
            (MatchOp::Equal, _) => Ids::Only(values.get(value)),
            (MatchOp::NotEqual, _) if value.is_empty() => Ids::Only(Cow::Borrowed(&values.present)),
            (MatchOp::NotEqual, _) => Ids::AllBut(values.get(value)),
            (MatchOp::Match, Some(regex)) => values.matching(regex),
            (MatchOp::NotMatch, Some(regex)) => match values.matching(regex) {
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

/// What a matcher demands.
enum Ids<'a> {
    Everything,
    Only(Cow<'a, RoaringBitmap>),
    AllBut(Cow<'a, RoaringBitmap>),
}

impl Values {
    fn get(&self, value: &str) -> Cow<'_, RoaringBitmap> {
        self.by_value
            .get(value)
            .map_or_else(Cow::default, Postings::bitmap)
    }

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
            let others = self
                .by_value
                .iter()
                .filter(|(value, _)| !regex.is_match(value));
            return Ids::AllBut(Cow::Owned(postings::union(others.map(|(_, ids)| ids))));
        }
        if let Some(set) = regex.set_matches() {
            let found = set.iter().filter_map(|value| self.by_value.get(&**value));
            return Ids::Only(Cow::Owned(postings::union(found)));
        }
        let prefix = regex.prefix();
        let matching = self
            .by_value
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(value, _)| value.starts_with(prefix))
            .filter(|(value, _)| regex.is_match(value));
        Ids::Only(Cow::Owned(postings::union(matching.map(|(_, ids)| ids))))
    }
}

/// The value of `key`, and whether it had to be created. A key that exists is not allocated again.
fn entry<'m, V: Default>(map: &'m mut BTreeMap<Arc<str>, V>, key: &str) -> (&'m mut V, bool)
where
    Arc<str>: Borrow<str>,
{
    let new = !map.contains_key(key);
    if new {
        map.insert(key.into(), V::default());
    }
    (map.get_mut(key).expect("the key was inserted above"), new)
}

/// The heap bytes of one name or value: its text with the two counters of the `Arc`, the pointer
/// in the tree and what hangs on it.
fn entry_bytes(text: &str) -> usize {
    text.len() + 4 * size_of::<usize>() + size_of::<Postings>()
}

#[cfg(test)]
mod tests;
