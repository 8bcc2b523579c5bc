//! Block ids: ULIDs, so that names sort by the time at which the block was made.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::clock::Clock;
use crate::error::Error;

/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The id of a block: 48 bits of milliseconds, 80 bits that tell apart what the same millisecond
/// made. Written as 26 characters of Crockford's base 32 (the ULID specification).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BlockId(u128);

impl BlockId {
    /// An id from its 128 bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

/// Makes ids that are unique within a store: the tail is hashed from the clock, a counter and the
/// store's own salt, so that a simulated run makes the same ids every time.
#[derive(Debug)]
pub struct IdSource {
    salt: u64,
    counter: AtomicU64,
}

impl IdSource {
    /// A source whose ids differ from those of every other salt.
    pub fn new(salt: u64) -> Self {
        Self {
            salt,
            counter: AtomicU64::new(0),
        }
    }

    /// The next id.
    pub fn next(&self, clock: &dyn Clock) -> BlockId {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut seed = clock.monotonic_ns().to_le_bytes().to_vec();
        seed.extend_from_slice(&counter.to_le_bytes());
        seed.extend_from_slice(&clock.now_ns().to_le_bytes());
        let tail = xxh3_128_with_seed(&seed, self.salt) & ((1 << 80) - 1);
        let millis = u128::try_from(clock.now_ms()).unwrap_or(0) & ((1 << 48) - 1);
        BlockId(millis << 80 | tail)
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in (0..26).rev() {
            let digit = (self.0 >> (5 * i)) & 31;
            write!(f, "{}", char::from(ALPHABET[digit as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlockId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::invalid(format!("{text:?} is not a block id (a ULID)"));
        if text.len() != 26 || text.as_bytes().first().is_some_and(|&first| first > b'7') {
            return Err(bad());
        }
        let mut bits = 0u128;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|&a| a == byte).ok_or_else(bad)?;
            bits = bits << 5 | digit as u128;
        }
        Ok(Self(bits))
    }
}

impl TryFrom<String> for BlockId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<BlockId> for String {
    fn from(id: BlockId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn ids_are_written_as_the_specification_says() {
        let id = BlockId::from_bits(0x0156_3E3A_B5D3_D676_4C61_EFB9_9302_BD5B);
        assert_eq!(id.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        assert_eq!("01ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<BlockId>().unwrap(), id);
        for bad in [
            "",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "../../../../../../../../x",
        ] {
            assert!(bad.parse::<BlockId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_unique_and_sort_by_time() {
        let clock = ManualClock::new(1_700_000_000_000_000_000);
        let source = IdSource::new(7);
        let first = source.next(&clock);
        assert_ne!(first, source.next(&clock));
        clock.advance(std::time::Duration::from_millis(1));
        assert!(first < source.next(&clock));
    }
}
