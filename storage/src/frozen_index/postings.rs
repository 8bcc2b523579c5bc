//! Postings: the places that have a value, found through a reference of 32 bits.
//!
//! ```text
//! reference  all bits set: every place
//!            highest bit set: one place, the other bits
//!            else: offset in the postings
//! postings   head varint = 2 x count + form
//!            form 0: for each place how many are skipped since the one before, varint
//!            form 1: length varint, portable Roaring bitmap
//! ```

use roaring::RoaringBitmap;

use super::FrozenIndex;
use super::format::SETS_MAX;
use crate::codec::{Reader, put_varint};
use crate::error::Result;

const EVERY_PLACE: u32 = u32::MAX;
const ONE_PLACE: u32 = 1 << 31;

/// Up to this many places may be listed one by one when that is shorter than a bitmap, which is
/// faster to decode.
const LISTED_MAX: usize = 1024;

/// No bitmap is shorter: one container with one run.
const BITMAP_BYTES_MIN: usize = 15;

/// One decoded reference; the places themselves are decoded when they are asked for.
#[derive(Debug, Clone)]
pub(super) enum Postings<'a> {
    Every {
        sets: u32,
    },
    One(u32),
    Listed {
        count: u64,
        sets: u32,
        places: Reader<'a>,
    },
    Bitmap {
        count: u64,
        sets: u32,
        bytes: &'a [u8],
        at: Reader<'a>,
    },
}

impl FrozenIndex {
    pub(super) fn postings(&self, reference: u32) -> Result<Postings<'_>> {
        let sets = self.layout.sets;
        if reference == EVERY_PLACE {
            return Ok(Postings::Every { sets });
        }
        let area = &self.layout.postings;
        if reference & ONE_PLACE != 0 {
            let place = reference & !ONE_PLACE;
            return match place < sets {
                true => Ok(Postings::One(place)),
                false => Err(self.corrupt(area.start, "a value names a place that is not there")),
            };
        }
        let mut reader = self.reader(area.start.saturating_add(reference as usize), area.end)?;
        let head = reader.varint()?;
        let count = head >> 1;
        if count == 0 || count > u64::from(sets) {
            return Err(reader.corrupt("postings have no places or more than there are"));
        }
        if head & 1 == 0 {
            return Ok(Postings::Listed {
                count,
                sets,
                places: reader,
            });
        }
        let bytes = reader.bytes()?;
        Ok(Postings::Bitmap {
            count,
            sets,
            bytes,
            at: reader,
        })
    }

    /// The places of all `references`.
    pub(super) fn union(&self, references: &[u32]) -> Result<RoaringBitmap> {
        if let [one] = references {
            return self.postings(*one)?.bitmap();
        }
        let mut listed = Vec::new();
        let mut union = RoaringBitmap::new();
        for &reference in references {
            match self.postings(reference)? {
                Postings::One(place) => listed.push(place),
                Postings::Listed {
                    count,
                    sets,
                    mut places,
                } => read_listed(&mut places, count, sets, |place| {
                    listed.push(place);
                    true
                })?,
                other => union |= other.bitmap()?,
            }
        }
        Ok(union | self.bitmap_of(listed))
    }

    /// Places in any order, which exist, as a bitmap.
    fn bitmap_of(&self, mut places: Vec<u32>) -> RoaringBitmap {
        let bytes = self.layout.sets.div_ceil(8) as usize;
        if places.len() < bytes / 4 {
            places.sort_unstable();
            return places.into_iter().collect();
        }
        // Many places are set in one row of bits faster than they are sorted.
        let mut bits = vec![0u8; bytes];
        for place in places {
            if let Some(byte) = bits.get_mut((place / 8) as usize) {
                *byte |= 1 << (place % 8);
            }
        }
        RoaringBitmap::from_lsb0_bytes(0, &bits)
    }

    /// What decoding the postings costs, in ids; 0 when there are none.
    pub(super) fn cost(&self, references: &[u32]) -> Result<u64> {
        references.iter().try_fold(0, |sum, &reference| {
            Ok(sum + self.postings(reference)?.cost())
        })
    }
}

impl Postings<'_> {
    /// How many places there are.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Every { sets } => u64::from(*sets),
            Self::One(_) => 1,
            Self::Listed { count, .. } | Self::Bitmap { count, .. } => *count,
        }
    }

    /// What decoding costs, in ids.
    pub(super) fn cost(&self) -> u64 {
        match self {
            Self::Every { .. } | Self::One(_) => 1,
            Self::Listed { count, .. } | Self::Bitmap { count, .. } => *count,
        }
    }

    pub(super) fn bitmap(self) -> Result<RoaringBitmap> {
        match self {
            Self::Every { sets } => Ok(every_place(sets)),
            Self::One(place) => Ok(RoaringBitmap::from_iter([place])),
            Self::Listed {
                count,
                sets,
                mut places,
            } => {
                let mut bitmap = RoaringBitmap::new();
                read_listed(&mut places, count, sets, |place| bitmap.insert(place))?;
                Ok(bitmap)
            }
            Self::Bitmap {
                count,
                sets,
                mut bytes,
                at,
            } => match RoaringBitmap::deserialize_from(&mut bytes) {
                Ok(bitmap)
                    if bytes.is_empty()
                        && bitmap.len() == count
                        && bitmap.max().is_some_and(|place| place < sets) =>
                {
                    Ok(bitmap)
                }
                _ => Err(at.corrupt("a bitmap of places is damaged")),
            },
        }
    }

    /// Whether one of the places is in `filter`.
    pub(super) fn intersects(self, filter: &RoaringBitmap) -> Result<bool> {
        match self {
            Self::Every { sets } => Ok(filter.min().is_some_and(|place| place < sets)),
            Self::One(place) => Ok(filter.contains(place)),
            Self::Listed {
                count,
                sets,
                mut places,
            } => {
                let mut found = false;
                read_listed(&mut places, count, sets, |place| {
                    found = filter.contains(place);
                    !found
                })?;
                Ok(found)
            }
            Self::Bitmap { .. } => Ok(!self.bitmap()?.is_disjoint(filter)),
        }
    }
}

/// Every place of an index of `sets` label sets.
pub(super) fn every_place(sets: u32) -> RoaringBitmap {
    let mut every = RoaringBitmap::new();
    every.insert_range(0..sets);
    every
}

/// Gives the places of a list to `take` until it says no.
fn read_listed(
    reader: &mut Reader<'_>,
    count: u64,
    sets: u32,
    mut take: impl FnMut(u32) -> bool,
) -> Result<()> {
    let mut next = 0u64;
    for _ in 0..count {
        let place = next.saturating_add(reader.varint()?);
        let place = u32::try_from(place).ok().filter(|place| *place < sets);
        let Some(place) = place else {
            return Err(reader.corrupt("postings name a place that is not there"));
        };
        if !take(place) {
            break;
        }
        next = u64::from(place) + 1;
    }
    Ok(())
}

/// Appends the places to `out` unless the reference can hold them; gives the reference. There is at
/// least one, and they are sorted unless they are all that there are.
pub(super) fn put_postings(out: &mut Vec<u8>, places: &[u32], sets: u32) -> u32 {
    debug_assert!(sets <= SETS_MAX);
    if let [place] = places {
        return ONE_PLACE | place;
    }
    if places.len() == sets as usize {
        return EVERY_PLACE;
    }
    debug_assert!(places.is_sorted_by(|a, b| a < b));
    let reference = u32::try_from(out.len()).unwrap_or(u32::MAX);
    let listed = (places.len() <= LISTED_MAX).then(|| list(places));
    if let Some(listed) = &listed
        && listed.len() < BITMAP_BYTES_MIN
    {
        put_listed(out, places.len(), listed);
        return reference;
    }
    let mut bitmap: RoaringBitmap = places.iter().copied().collect();
    // Runs of places are common: labels that come early in label order have them.
    bitmap.optimize();
    let bitmap_bytes = bitmap.serialized_size();
    if let Some(listed) = listed.filter(|listed| listed.len() <= bitmap_bytes) {
        put_listed(out, places.len(), &listed);
        return reference;
    }
    put_varint(out, (places.len() as u64) << 1 | 1);
    put_varint(out, bitmap_bytes as u64);
    bitmap
        .serialize_into(&mut *out)
        .expect("writing to a Vec cannot fail");
    reference
}

fn put_listed(out: &mut Vec<u8>, count: usize, listed: &[u8]) {
    put_varint(out, (count as u64) << 1);
    out.extend_from_slice(listed);
}

fn list(places: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut next = 0;
    for &place in places {
        put_varint(&mut out, u64::from(place - next));
        next = place + 1;
    }
    out
}
