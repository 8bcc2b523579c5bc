//! Buckets of time that spans are counted in, numbered in order of their first use. `counts` and
//! `comparison` use them.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;

use trine_storage::{Result, TimeRange};

use super::view::View;

/// Buckets of one width, or one bucket of all times.
#[derive(Debug)]
pub(crate) struct Buckets {
    origin: i64,
    /// 0 or less for one bucket.
    width: i64,
    places: BTreeMap<i64, usize>,
    /// The bucket that was used last: its times and its number.
    last: (TimeRange, usize),
}

impl Buckets {
    pub(crate) fn new(origin: i64, width: i64) -> Self {
        Self {
            origin,
            width,
            places: BTreeMap::new(),
            last: (TimeRange::new(0, 0), 0),
        }
    }

    /// The number of the bucket that a time belongs to.
    pub(crate) fn of(&mut self, time: i64) -> usize {
        if !self.last.0.contains(time) {
            self.enter(time);
        }
        self.last.1
    }

    /// The bucket that holds all spans of a page, when one does.
    pub(crate) fn one(&mut self, view: &View, page: usize) -> Result<Option<usize>> {
        if self.width <= 0 {
            return Ok(Some(self.of(0)));
        }
        let (first, last) = view.extent(page)?;
        let is_one = self.place(first) == self.place(last);
        Ok(is_one.then(|| self.of(first)))
    }

    /// When each bucket that was used begins, and its number.
    pub(crate) fn used(&self) -> impl Iterator<Item = (i64, usize)> {
        let begins = |place: i64| match self.width {
            ..=0 => self.origin,
            width => self.origin.saturating_add(place.saturating_mul(width)),
        };
        self.places
            .iter()
            .map(move |(place, at)| (begins(*place), *at))
    }

    fn place(&self, time: i64) -> i64 {
        let since = i128::from(time) - i128::from(self.origin);
        let place = since.div_euclid(i128::from(self.width));
        i64::try_from(place).unwrap_or(i64::MAX)
    }

    /// Makes the bucket of a time the last one.
    fn enter(&mut self, time: i64) {
        let (place, range) = match self.width {
            ..=0 => (0, TimeRange::new(i64::MIN, i64::MAX)),
            width => {
                let place = self.place(time);
                let from = i128::from(self.origin) + i128::from(place) * i128::from(width);
                let clamp = |at: i128| {
                    let at = at.clamp(i64::MIN.into(), i64::MAX.into());
                    i64::try_from(at).unwrap_or(i64::MAX)
                };
                (
                    place,
                    TimeRange::new(clamp(from), clamp(from + i128::from(width))),
                )
            }
        };
        let next = self.places.len();
        self.last = (range, *self.places.entry(place).or_insert(next));
    }
}
