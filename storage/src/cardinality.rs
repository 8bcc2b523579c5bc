//! Statistics of what labels there are: which names and values make the series. Called by engines
//! for their status pages, over the pairs of label indexes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A label as an index has it, with the number of ids that carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The label's name.
    pub name: &'a str,
    /// The label's value.
    pub value: &'a str,
    /// How many ids have this label.
    pub ids: u64,
}

/// Which names and values there are most of. Each list is sorted by its number, largest first, then
/// by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Number of ids.
    pub series: u64,
    /// Number of distinct (name, value).
    pub label_pairs: u64,
    /// Values of the label that names a metric, by number of ids.
    pub series_by_name: Vec<(String, u64)>,
    /// Label names by number of distinct values.
    pub values_by_label: Vec<(String, u64)>,
    /// `name=value` by number of ids.
    pub series_by_pair: Vec<(String, u64)>,
    /// Label names by bytes of their values, each value counted once for each id that has it.
    pub bytes_by_label: Vec<(String, u64)>,
}

impl Cardinality {
    /// Counts the pairs of several indexes as one.
    ///
    /// Each of `sources` gives its pairs sorted by name, then value, each once, as
    /// `LabelIndex::pairs` and `FrozenIndex::pairs` do. Which pairs there are is exact. Indexes do
    /// not know which of their ids are the same series, so a pair that several sources have counts
    /// with the largest of their numbers: no more than the union has, and equal to it when one
    /// source holds all series of the pair. `series` is what the caller knows. Memory does not grow
    /// with the number of pairs.
    ///
    /// `metric_label` is the name whose values [`Cardinality::series_by_name`] counts, `limit` the
    /// length of each list.
    ///
    /// # Errors
    /// The first error of a source.
    pub fn count<'a, I, E>(
        series: u64,
        sources: impl IntoIterator<Item = I>,
        metric_label: &str,
        limit: usize,
    ) -> Result<Self, E>
    where
        I: Iterator<Item = Result<Pair<'a>, E>>,
    {
        let mut count = Count::new(metric_label, limit);
        let mut sources: Vec<I> = sources.into_iter().collect();
        let mut heads = BinaryHeap::new();
        for (number, source) in sources.iter_mut().enumerate() {
            if let Some(pair) = source.next() {
                let pair = pair?;
                heads.push(Reverse((pair.name, pair.value, pair.ids, number)));
            }
        }
        while let Some(Reverse((name, value, ids, number))) = heads.pop() {
            count.add(Pair { name, value, ids });
            if let Some(pair) = sources.get_mut(number).and_then(Iterator::next) {
                let pair = pair?;
                heads.push(Reverse((pair.name, pair.value, pair.ids, number)));
            }
        }
        Ok(count.finish(series))
    }
}

/// What was counted so far.
struct Count<'a, 'm> {
    metric_label: &'m str,
    /// Its number is the largest seen.
    pair: Option<Pair<'a>>,
    /// Of the name of `pair`, without `pair`.
    values: u64,
    bytes: u64,
    label_pairs: u64,
    series_by_name: Top,
    values_by_label: Top,
    series_by_pair: Top,
    bytes_by_label: Top,
}

impl<'a, 'm> Count<'a, 'm> {
    fn new(metric_label: &'m str, limit: usize) -> Self {
        Self {
            metric_label,
            pair: None,
            values: 0,
            bytes: 0,
            label_pairs: 0,
            series_by_name: Top::new(limit),
            values_by_label: Top::new(limit),
            series_by_pair: Top::new(limit),
            bytes_by_label: Top::new(limit),
        }
    }

    /// Adds a pair that is not before the last.
    fn add(&mut self, pair: Pair<'a>) {
        match &mut self.pair {
            Some(last) if (last.name, last.value) == (pair.name, pair.value) => {
                last.ids = last.ids.max(pair.ids);
            }
            Some(last) => {
                let ends_name = last.name != pair.name;
                self.end_pair();
                if ends_name {
                    self.end_name();
                }
                self.pair = Some(pair);
            }
            None => self.pair = Some(pair),
        }
    }

    fn end_pair(&mut self) {
        let Some(Pair { name, value, ids }) = self.pair else {
            return;
        };
        self.label_pairs += 1;
        self.values += 1;
        let bytes = (value.len() as u64).saturating_mul(ids);
        self.bytes = self.bytes.saturating_add(bytes);
        self.series_by_pair.add(ids, || format!("{name}={value}"));
        if name == self.metric_label {
            self.series_by_name.add(ids, || value.to_owned());
        }
    }

    fn end_name(&mut self) {
        let values = std::mem::take(&mut self.values);
        let bytes = std::mem::take(&mut self.bytes);
        if let Some(pair) = self.pair {
            self.values_by_label.add(values, || pair.name.to_owned());
            self.bytes_by_label.add(bytes, || pair.name.to_owned());
        }
    }

    fn finish(mut self, series: u64) -> Cardinality {
        self.end_pair();
        self.end_name();
        Cardinality {
            series,
            label_pairs: self.label_pairs,
            series_by_name: self.series_by_name.finish(),
            values_by_label: self.values_by_label.finish(),
            series_by_pair: self.series_by_pair.finish(),
            bytes_by_label: self.bytes_by_label.finish(),
        }
    }
}

/// The entries with the largest numbers.
struct Top {
    limit: usize,
    /// The entry that goes next is on top: the smallest number, of these the last name.
    entries: BinaryHeap<(Reverse<u64>, String)>,
}

impl Top {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            entries: BinaryHeap::new(),
        }
    }

    fn add(&mut self, number: u64, text: impl FnOnce() -> String) {
        // Most entries are too small and need no text.
        let is_full = self.entries.len() >= self.limit;
        if is_full && self.entries.peek().is_none_or(|(last, _)| number < last.0) {
            return;
        }
        self.entries.push((Reverse(number), text()));
        if is_full {
            self.entries.pop();
        }
    }

    fn finish(self) -> Vec<(String, u64)> {
        let sorted = self.entries.into_sorted_vec();
        sorted
            .into_iter()
            .map(|(number, text)| (text, number.0))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Result};

    fn pair<'a>(name: &'a str, value: &'a str, ids: u64) -> Result<Pair<'a>> {
        Ok(Pair { name, value, ids })
    }

    fn list(entries: &[(&str, u64)]) -> Vec<(String, u64)> {
        entries
            .iter()
            .map(|(text, n)| ((*text).to_owned(), *n))
            .collect()
    }

    #[test]
    fn the_largest_come_first_and_ties_go_by_name() {
        let pairs = || {
            [
                pair("__name__", "down", 2),
                pair("__name__", "up", 2),
                pair("__name__", "walks", 1),
                pair("pod", "a-1", 3),
                pair("pod", "a-2", 2),
            ]
        };
        let all = Cardinality::count(5, [pairs().into_iter()], "__name__", 10).unwrap();
        assert_eq!((all.series, all.label_pairs), (5, 5));
        assert_eq!(
            all.series_by_name,
            list(&[("down", 2), ("up", 2), ("walks", 1)])
        );
        assert_eq!(all.values_by_label, list(&[("__name__", 3), ("pod", 2)]));
        assert_eq!(all.bytes_by_label, list(&[("__name__", 17), ("pod", 15)]));
        let two = Cardinality::count(5, [pairs().into_iter()], "__name__", 2).unwrap();
        assert_eq!(two.label_pairs, 5);
        assert_eq!(two.series_by_name, list(&[("down", 2), ("up", 2)]));
        assert_eq!(
            two.series_by_pair,
            list(&[("pod=a-1", 3), ("__name__=down", 2)])
        );
        let none = Cardinality::count(5, [pairs().into_iter()], "__name__", 0).unwrap();
        assert_eq!((none.label_pairs, none.series_by_pair.len()), (5, 0));
    }

    #[test]
    fn several_indexes_count_as_one() {
        let head = [pair("a", "x", 3), pair("b", "y", 1)];
        let block = [pair("a", "w", 1), pair("a", "x", 4)];
        let sources = [head.into_iter(), block.into_iter()];
        let united = Cardinality::count(6, sources, "a", 3).unwrap();
        assert_eq!(united.label_pairs, 3);
        assert_eq!(united.series_by_name, list(&[("x", 4), ("w", 1)]));
        assert_eq!(united.values_by_label, list(&[("a", 2), ("b", 1)]));
        assert_eq!(
            united.series_by_pair,
            list(&[("a=x", 4), ("a=w", 1), ("b=y", 1)])
        );
        let broken = [Err(Error::invalid("no"))];
        assert!(Cardinality::count(0, [broken.into_iter()], "a", 1).is_err());
        let nothing: [std::vec::IntoIter<Result<Pair<'_>>>; 0] = [];
        assert_eq!(
            Cardinality::count(0, nothing, "a", 1).unwrap(),
            Cardinality::default()
        );
    }
}
