//! The ids of one label value, in one of three forms: most values of a label such as `pod` have one
//! id, a value of some hundred ids among a million is smallest as a list, and the others are
//! bitmaps.

use std::borrow::Cow;

use roaring::{MultiOps, RoaringBitmap};

/// The ids of a value that has more than one, or had.
#[derive(Debug, Clone)]
pub(super) enum Many {
    /// Sorted.
    Listed(Vec<u32>),
    Bitmap(RoaringBitmap),
}

/// A list becomes a bitmap when it has this many ids for each container of the bitmap that it would
/// make: a container costs about 70 bytes and saves two bytes an id.
const LISTED_PER_CONTAINER_MAX: usize = 64;
/// And when it has this many: taking an id out of a list moves the ones behind it.
const LISTED_MAX: usize = 4096;

impl Many {
    pub(super) fn insert(&mut self, id: u32) {
        match self {
            Self::Bitmap(bitmap) => {
                bitmap.insert(id);
            }
            Self::Listed(ids) => {
                // Ids mostly come in rising order.
                let at = match ids.last() {
                    Some(last) if *last < id => ids.len(),
                    _ => match ids.binary_search(&id) {
                        Ok(_) => return,
                        Err(at) => at,
                    },
                };
                if ids.len() == ids.capacity() {
                    ids.reserve_exact(ids.len() / 4 + 2);
                }
                ids.insert(at, id);
                // Looked at now and then, which is enough.
                if ids.len().is_multiple_of(LISTED_PER_CONTAINER_MAX) && is_dense(ids) {
                    *self = Self::Bitmap(ids.iter().copied().collect());
                }
            }
        }
    }

    /// Takes out an id; says whether it was there.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        match self {
            Self::Bitmap(bitmap) => bitmap.remove(id),
            Self::Listed(ids) => {
                let Ok(at) = ids.binary_search(&id) else {
                    return false;
                };
                ids.remove(at);
                if ids.len() < ids.capacity() / 2 {
                    ids.shrink_to(ids.len() + ids.len() / 4);
                }
                true
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Listed(ids) => ids.is_empty(),
            Self::Bitmap(bitmap) => bitmap.is_empty(),
        }
    }
}

fn is_dense(ids: &[u32]) -> bool {
    let container = |id: Option<&u32>| id.map_or(0, |id| (id >> 16) as usize);
    let containers = container(ids.last()) - container(ids.first()) + 1;
    ids.len() >= LISTED_MAX || ids.len() >= LISTED_PER_CONTAINER_MAX * containers
}

/// A look at the ids of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Postings<'a> {
    One(u32),
    Many(&'a Many),
}

impl<'a> Postings<'a> {
    pub(super) fn len(self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Many(Many::Listed(ids)) => ids.len() as u64,
            Self::Many(Many::Bitmap(bitmap)) => bitmap.len(),
        }
    }

    pub(super) fn intersects(self, filter: &RoaringBitmap) -> bool {
        match self {
            Self::One(id) => filter.contains(id),
            Self::Many(Many::Listed(ids)) => ids.iter().any(|id| filter.contains(*id)),
            Self::Many(Many::Bitmap(bitmap)) => !bitmap.is_disjoint(filter),
        }
    }

    pub(super) fn bitmap(self) -> Cow<'a, RoaringBitmap> {
        match self {
            Self::One(id) => Cow::Owned([id].into_iter().collect()),
            Self::Many(Many::Listed(ids)) => Cow::Owned(ids.iter().copied().collect()),
            Self::Many(Many::Bitmap(bitmap)) => Cow::Borrowed(bitmap),
        }
    }
}

/// The union of many postings.
pub(super) fn union<'a>(postings: impl Iterator<Item = Postings<'a>>) -> RoaringBitmap {
    let mut listed = Vec::new();
    let mut bitmaps = Vec::new();
    for postings in postings {
        match postings {
            Postings::One(id) => listed.push(id),
            Postings::Many(Many::Listed(ids)) => listed.extend_from_slice(ids),
            Postings::Many(Many::Bitmap(bitmap)) => bitmaps.push(bitmap),
        }
    }
    listed.sort_unstable();
    let mut union = bitmaps.union();
    union.extend(listed);
    union
}
