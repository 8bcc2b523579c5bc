//! Labels that are numbered while an index is built: [`super::FrozenWriter`] interns every pair of
//! name and value.

use xxhash_rust::xxh3::xxh3_64_with_seed;

const FREE: u32 = u32::MAX;
/// Slots of the smallest table.
const SLOTS_MIN: usize = 64;

/// Pairs of a name's number and a value, each once, numbered in the order in which they came. One
/// buffer holds all values.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    names: Vec<u32>,
    text: String,
    ends: Vec<usize>,
    /// Numbers, each in the first free slot from where its hash points; a power of two, at least
    /// half of them [`FREE`].
    slots: Vec<u32>,
}

impl Pairs {
    /// The number of the pair.
    pub(super) fn number(&mut self, name: u32, value: &str) -> u32 {
        if self.slots.len() <= 2 * self.names.len() {
            self.grow();
        }
        let (slot, found) = self.find(name, value);
        if found != FREE {
            return found;
        }
        let number = u32::try_from(self.names.len()).expect("the pairs fit memory");
        self.names.push(name);
        self.text.push_str(value);
        self.ends.push(self.text.len());
        self.put(slot, number);
        number
    }

    /// The number of the pair's name.
    pub(super) fn name(&self, number: u32) -> u32 {
        let name = self.names.get(number as usize);
        *name.expect("only numbers that were given are asked for")
    }

    /// The pair's value.
    pub(super) fn value(&self, number: u32) -> &str {
        let at = number as usize;
        let before = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let end = self.ends.get(at);
        end.and_then(|end| self.text.get(before.copied().unwrap_or(0)..*end))
            .expect("only numbers that were given are asked for")
    }

    /// The numbers that were given.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        (0..self.names.len()).map_while(|number| u32::try_from(number).ok())
    }

    /// Lets go of what only finds pairs again.
    pub(super) fn close(&mut self) {
        self.slots = Vec::new();
    }

    /// The slot of a pair and what is in it.
    fn find(&self, name: u32, value: &str) -> (usize, u32) {
        let mask = self.slots.len() - 1;
        let hash = xxh3_64_with_seed(value.as_bytes(), u64::from(name));
        let mut slot = usize::try_from(hash & mask as u64).unwrap_or(0);
        loop {
            slot &= mask;
            match self.slots.get(slot) {
                Some(&number)
                    if number != FREE
                        && (self.name(number) != name || self.value(number) != value) =>
                {
                    slot += 1;
                }
                found => return (slot, found.copied().unwrap_or(FREE)),
            }
        }
    }

    fn put(&mut self, slot: usize, number: u32) {
        if let Some(free) = self.slots.get_mut(slot) {
            *free = number;
        }
    }

    fn grow(&mut self) {
        let len = SLOTS_MIN.max(2 * self.slots.len());
        self.slots.clear();
        self.slots.resize(len, FREE);
        for number in self.numbers() {
            let (slot, _) = self.find(self.name(number), self.value(number));
            self.put(slot, number);
        }
    }
}
