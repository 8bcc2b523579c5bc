//! Series that senders named before, by the very bytes that named them. Senders repeat the labels
//! of a series with each of its samples; `store` asks here first, so that the labels need neither
//! be read nor looked up again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard};
use trine_tsdb::SeriesRef;
use xxhash_rust::xxh3::xxh3_128_with_secret;

/// Series that are known at most (about 32 bytes each); when there are more, all are forgotten and
/// the busy ones are soon known again.
pub const KNOWN_MAX: usize = 200_000;

/// Series that one request teaches at most, so that more series than there is room for cost little.
pub const LEARNED_MAX: usize = 256;

/// The series of one tenant that are known.
#[derive(Debug)]
pub struct KnownSeries {
    /// For series that are stored as they are, and for those that lose a label.
    secrets: [Secret; 2],
    references: RwLock<References>,
}

/// How often everything was forgotten before something was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since(u64);

/// References in the order in which they were learned. Senders name series in the same order again
/// and again, so the next one mostly lies behind the last one, and memory is read from front to
/// back: a look-up in a table of ten thousand series costs a miss of the cache, twice as much as
/// all else that has to be done for a series here.
#[derive(Debug, Default)]
struct References {
    learned: Vec<(Print, SeriesRef)>,
    /// Places in `learned`.
    table: HashTable<u32>,
    forgotten: u64,
}

/// Stands for the bytes of a label set: their XXH3 of 128 bits, with a secret. Two sets share one
/// with a chance of 2^-128, far below that of a memory error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print {
    low: u64,
    high: u64,
}

/// What prints are made with, different in each process: nobody can make two label sets with one
/// print. A seed instead would be made into one of these for each set of more than 240 bytes.
#[derive(Debug, Clone)]
struct Secret([u8; 192]);

impl Secret {
    fn random() -> Self {
        let random = RandomState::new();
        let mut bytes = [0; 192];
        for (number, eight) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *eight = random.hash_one(number).to_le_bytes();
        }
        Self(bytes)
    }
}

/// What prints of several things are multiplied with: odd, so that nothing is lost, and its powers
/// far apart.
const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

impl Print {
    /// The print of nothing, for [`Print::and`].
    pub const NOTHING: Self = Self { low: 0, high: 0 };

    /// The print of several things in their order, of which this is the one of those before `next`.
    /// It is as good as that of their bytes would be, because nobody knows the prints.
    #[inline]
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        let both = self.number().wrapping_add(next.number());
        Self::from_number(both.wrapping_mul(FACTOR))
    }

    /// The print as bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.number().to_le_bytes()
    }

    #[inline]
    fn number(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    #[inline]
    fn from_number(number: u128) -> Self {
        Self {
            low: number as u64,
            high: (number >> 64) as u64,
        }
    }
}

/// What is known while a request is read.
#[derive(Debug)]
pub struct Lookup<'a> {
    secret: &'a Secret,
    references: RwLockReadGuard<'a, References>,
    /// Where the next series is expected.
    next: usize,
}

impl References {
    fn forget(&mut self) {
        self.learned = Vec::new();
        self.table = HashTable::new();
    }

    fn place(&self, print: Print) -> Option<usize> {
        let same = |place: &u32| {
            let learned = self.learned.get(*place as usize);
            learned.is_some_and(|(other, _)| *other == print)
        };
        self.table
            .find(print.low, same)
            .map(|place| *place as usize)
    }

    fn learn(&mut self, print: Print, reference: SeriesRef) {
        if let Some(place) = self.place(print) {
            self.learned[place].1 = reference;
            return;
        }
        if self.learned.len() >= KNOWN_MAX {
            self.forget();
        }
        let place = self.learned.len() as u32;
        self.learned.push((print, reference));
        let learned = &self.learned;
        let hash_of = |place: &u32| learned.get(*place as usize).map_or(0, |l| l.0.low);
        self.table.insert_unique(print.low, place, hash_of);
    }
}

impl Default for KnownSeries {
    fn default() -> Self {
        Self {
            secrets: [Secret::random(), Secret::random()],
            references: RwLock::default(),
        }
    }
}

impl KnownSeries {
    /// Reads what is known of series that are stored as they are sent, or without the label that is
    /// removed from those of replicas. What is learned waits for the end of it.
    pub fn read(&self, loses_label: bool) -> Lookup<'_> {
        let [whole, shortened] = &self.secrets;
        Lookup {
            secret: if loses_label { shortened } else { whole },
            references: self.references.read(),
            next: 0,
        }
    }

    /// Remembers series, unless everything was forgotten since: they may be those of an engine that is
    /// closed by now.
    pub fn learn(&self, since: Since, series: &[(Print, SeriesRef)]) {
        let mut references = self.references.write();
        if Since(references.forgotten) != since {
            return;
        }
        for &(print, reference) in series {
            references.learn(print, reference);
        }
    }

    /// Forgets everything: a reference has ended, and others may have, or there will be another engine.
    pub fn forget(&self) {
        let mut references = self.references.write();
        references.forget();
        references.forgotten += 1;
    }
}

impl Lookup<'_> {
    /// For [`KnownSeries::learn`].
    pub fn since(&self) -> Since {
        Since(self.references.forgotten)
    }

    /// The print of a label set as it was sent.
    #[inline]
    pub fn print(&self, wire: &[u8]) -> Print {
        Print::from_number(xxh3_128_with_secret(wire, &self.secret.0))
    }

    /// The series that a print stands for.
    #[inline]
    pub fn get(&mut self, print: Print) -> Option<SeriesRef> {
        let references = &*self.references;
        let reference = match references.learned.get(self.next) {
            Some((expected, reference)) if *expected == print => *reference,
            _ => {
                self.next = references.place(print)?;
                references.learned.get(self.next)?.1
            }
        };
        self.next += 1;
        Some(reference)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use trine_storage::Labels;
    use trine_tsdb::{Durability, SeriesRef, Tsdb, Value};

    use super::{KNOWN_MAX, KnownSeries, Print, Since};

    /// A store with series of these names, and their references.
    fn store(dir: &Path, names: &[&str]) -> Vec<SeriesRef> {
        let engine = Tsdb::open(dir.join("m")).unwrap();
        let label_sets = names
            .iter()
            .map(|name| Labels::from_pairs([("a", *name)]).unwrap());
        let label_sets: Vec<_> = label_sets.collect();
        let mut appender = engine.appender();
        for labels in &label_sets {
            appender.append(labels, 1_700_000_000_000, Value::Float(1.0));
        }
        appender
            .commit(Durability::Buffered)
            .unwrap()
            .wait()
            .unwrap();
        let found = label_sets.iter().map(|l| engine.reference(l).unwrap());
        found.collect()
    }

    #[test]
    fn any_order_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c", "d"];
        let references = store(dir.path(), &names);
        let known = KnownSeries::default();
        let print = |name: &str| known.read(false).print(name.as_bytes());
        let prints = names.map(print);
        let series: Vec<_> = prints.into_iter().zip(references.iter().copied()).collect();
        known.learn(Since(0), &series);
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 3, 0], [2, 3, 0, 1]] {
            let mut lookup = known.read(false);
            for at in order {
                assert_eq!(lookup.get(lookup.print(b"?")), None);
                let print = lookup.print(names[at].as_bytes());
                assert_eq!(lookup.get(print), Some(references[at]), "{order:?}");
            }
        }
    }

    #[test]
    fn what_was_learned_is_found_until_there_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let reference = store(dir.path(), &["x"])[0];
        let known = KnownSeries::default();
        let print = known.read(false).print(b"bytes");
        assert_eq!(known.read(false).get(print), None);
        known.learn(Since(0), &[(print, reference)]);
        assert_eq!(known.read(false).get(print), Some(reference));
        let [a, b] = [b"a", b"b"].map(|wire| known.read(false).print(wire));
        let several = [
            Print::NOTHING.and(a),
            Print::NOTHING.and(a).and(b),
            Print::NOTHING.and(b).and(a),
            Print::NOTHING.and(a).and(a),
        ];
        let different: std::collections::HashSet<_> =
            several.iter().map(|p| p.to_bytes()).collect();
        assert_eq!(different.len(), several.len(), "the order matters");
        let near = known.read(false).print(b"bytex");
        assert_eq!(known.read(false).get(near), None);
        let dropped = known.read(true).print(b"bytes");
        assert_eq!(known.read(true).get(dropped), None);
        let other = KnownSeries::default();
        assert_ne!(
            other.read(false).print(b"bytes"),
            print,
            "the secret is one's own"
        );

        let print_of = |low| Print { low, high: !low };
        let series: Vec<_> = (1..KNOWN_MAX as u64)
            .map(|i| (print_of(i), reference))
            .collect();
        known.learn(Since(0), &series);
        assert_eq!(known.read(false).references.learned.len(), KNOWN_MAX);
        known.learn(Since(0), &[(print_of(5), reference)]);
        assert_eq!(known.read(false).references.learned.len(), KNOWN_MAX);
        known.learn(Since(0), &[(print_of(u64::MAX), reference)]);
        assert_eq!(known.read(false).references.learned.len(), 1);
        known.forget();
        assert_eq!(known.read(false).get(print_of(u64::MAX)), None);
    }
}
