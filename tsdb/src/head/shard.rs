//! One shard of the head: a table of places by labels, and the series in their places.

use hashbrown::HashTable;
use trine_storage::{Error, Kind, Labels, Result};

use super::PLACE_MAX;
use super::series::MemSeries;
use crate::batch::{Batch, Key};

/// Series whose ids share their high bits.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Places of the series that are found by their labels.
    pub(super) table: HashTable<u32>,
    pub(super) places: Vec<Option<MemSeries>>,
    pub(super) free: Vec<u32>,
    pub(super) generation: u32,
}

impl Shard {
    pub(super) fn find(&self, batch: &Batch, key: &Key) -> Option<u32> {
        match key {
            Key::Labels { hash, .. } => self.find_encoded(*hash, batch.encoded(key)),
            Key::Reference { id, generation } => {
                let place = id & PLACE_MAX;
                let series = self.places.get(place as usize)?.as_ref()?;
                (series.generation == *generation && !series.dead).then_some(place)
            }
        }
    }

    pub(super) fn find_encoded(&self, hash: u64, encoded: &[u8]) -> Option<u32> {
        let places = &self.places;
        let same = |place: &u32| {
            let series = places.get(*place as usize).and_then(Option::as_ref);
            series.is_some_and(|s| s.hash == hash && s.labels.encoded() == encoded)
        };
        self.table.find(hash, same).copied()
    }

    /// Reads what appends to these series will need: one after the other they would wait for memory
    /// each time, together they wait once.
    pub(super) fn touch(&self, places: impl Iterator<Item = u32>, epoch: u32) {
        let series = places.filter_map(|place| self.places.get(place as usize)?.as_ref());
        let bytes = series.fold(0, |all, series| all ^ series.touch(epoch));
        std::hint::black_box(bytes);
    }

    /// Makes room for so many series more.
    pub(super) fn reserve(&mut self, series: usize) {
        self.places.reserve_exact(series);
        let places = &self.places;
        let hash_of = |place: &u32| {
            let series = places.get(*place as usize).and_then(Option::as_ref);
            series.map_or(0, |series| series.hash)
        };
        self.table.reserve(series, hash_of);
    }

    pub(super) fn begin(&mut self, labels: Labels, hash: u64) -> Result<u32> {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                let place = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
                if place > PLACE_MAX {
                    let what = "the head holds as many series as it has ids for";
                    return Err(Error::new(Kind::Limit, what));
                }
                self.places.push(None);
                place
            }
        };
        let generation = self.next_generation();
        self.places[place as usize] = Some(MemSeries::new(labels, hash, generation));
        self.list(hash, place);
        Ok(place)
    }

    pub(super) fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    pub(super) fn list(&mut self, hash: u64, place: u32) {
        let places = &self.places;
        let hash_of = |place: &u32| {
            let series = places.get(*place as usize).and_then(Option::as_ref);
            series.map_or(0, |series| series.hash)
        };
        self.table.insert_unique(hash, place, hash_of);
    }

    pub(super) fn unlist(&mut self, hash: u64, same: impl Fn(&u32, &[Option<MemSeries>]) -> bool) {
        let places = &self.places;
        if let Ok(entry) = self.table.find_entry(hash, |place| same(place, places)) {
            entry.remove();
        }
    }

    /// Takes a series that is no longer in its place out of the table.
    pub(super) fn forget(&mut self, gone: &MemSeries) {
        let places = &self.places;
        let missing = |place: &u32| places.get(*place as usize).is_none_or(Option::is_none);
        if let Ok(entry) = self.table.find_entry(gone.hash, missing) {
            entry.remove();
        }
    }
}

pub(super) fn same_labels(places: &[Option<MemSeries>], a: u32, b: u32) -> bool {
    let labels = |place: u32| {
        let series = places.get(place as usize).and_then(Option::as_ref);
        series.map(|series| &series.labels)
    };
    labels(a).is_some() && labels(a) == labels(b)
}
