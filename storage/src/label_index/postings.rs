//! The ids of one label value. Most values of a label such as `pod` have one id, which needs no
//! bitmap.

use std::borrow::Cow;

use roaring::{MultiOps, RoaringBitmap};

/// A set of ids; empty only while its owner adds the first or takes the last.
#[derive(Debug, Clone)]
pub(super) enum Postings {
    One(u32),
    Many(RoaringBitmap),
}

impl Default for Postings {
    fn default() -> Self {
        Self::Many(RoaringBitmap::new())
    }
}

impl Postings {
    /// Adds an id; says whether it is new.
    pub(super) fn insert(&mut self, id: u32) -> bool {
        match self {
            Self::One(one) if *one == id => false,
            Self::One(one) => {
                *self = Self::Many([*one, id].into_iter().collect());
                true
            }
            Self::Many(many) if many.is_empty() => {
                *self = Self::One(id);
                true
            }
            Self::Many(many) => many.insert(id),
        }
    }

    /// Takes out an id; says whether it was there.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        match self {
            Self::One(one) if *one == id => {
                *self = Self::default();
                true
            }
            Self::One(_) => false,
            Self::Many(many) => many.remove(id),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Many(many) => many.is_empty(),
        }
    }

    pub(super) fn intersects(&self, ids: &RoaringBitmap) -> bool {
        match self {
            Self::One(one) => ids.contains(*one),
            Self::Many(many) => !many.is_disjoint(ids),
        }
    }

    pub(super) fn bitmap(&self) -> Cow<'_, RoaringBitmap> {
        match self {
            Self::One(one) => Cow::Owned([*one].into_iter().collect()),
            Self::Many(many) => Cow::Borrowed(many),
        }
    }
}

impl From<RoaringBitmap> for Postings {
    fn from(ids: RoaringBitmap) -> Self {
        match (ids.len(), ids.min()) {
            (1, Some(one)) => Self::One(one),
            _ => Self::Many(ids),
        }
    }
}

/// The union of many postings.
pub(super) fn union<'a>(postings: impl Iterator<Item = &'a Postings>) -> RoaringBitmap {
    let mut single = Vec::new();
    let mut bitmaps = Vec::new();
    for postings in postings {
        match postings {
            Postings::One(one) => single.push(*one),
            Postings::Many(many) => bitmaps.push(many),
        }
    }
    single.sort_unstable();
    let mut union = bitmaps.union();
    union.extend(single);
    union
}
