//! Pages of texts as templates and numbers: a code of a template for each value, and for each
//! place of a number a column of the numbers that lie there, of values whose template has so many.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::{Reader, put_varint};
use trine_storage::{Error, Result};

use super::super::numbers::{Bounds, NumberPage, Wanted, put_page as put_numbers};
use super::numbered::NUMBERS_MAX;
use super::{Numbered, SLOTS_MAX, Templates};

/// Appends a page of values, each the code of a template and its numbers. `codes` are the bounds of
/// the codes, which the directory keeps. `places` is memory that is used again.
pub(crate) fn put_page<'s>(
    out: &mut Vec<u8>,
    values: impl ExactSizeIterator<Item = (u32, &'s [u64])> + Clone,
    codes: Bounds,
    places: &mut [Vec<u64>; SLOTS_MAX],
) {
    places.iter_mut().for_each(Vec::clear);
    for (_, slots) in values.clone() {
        for (place, slot) in places.iter_mut().zip(slots) {
            place.push(*slot);
        }
    }
    let used = || places.iter().take_while(|place| !place.is_empty());
    let bounds = |place: &[u64]| Bounds::of(place.iter().copied()).unwrap_or_default();
    // At most eight.
    out.push(u8::try_from(used().count()).unwrap_or(0));
    for place in used() {
        let Bounds { least, greatest } = bounds(place);
        put_varint(out, place.len() as u64);
        put_varint(out, least);
        put_varint(out, greatest - least);
    }
    put_numbers(out, values.map(|(code, _)| code.into()), codes);
    for place in used() {
        put_numbers(out, place.iter().copied(), bounds(place));
    }
}

/// A needle that was split: the code of its template and its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needle {
    pub(crate) code: u32,
    pub(crate) slots: Vec<u64>,
}

/// A page, read in place.
#[derive(Debug)]
pub(crate) struct TemplatePage<'a> {
    name: &'a str,
    offset: u64,
    templates: &'a Templates,
    codes: NumberPage<'a>,
    codes_bounds: Bounds,
    places: Vec<(NumberPage<'a>, Bounds)>,
}

/// Goes through a page in row order.
struct Walk {
    /// How many numbers of each place were passed.
    passed: [usize; SLOTS_MAX],
    slots: [u64; SLOTS_MAX],
}

impl<'a> TemplatePage<'a> {
    /// A page of `count` values that takes all of `bytes`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), with `name` and `offset`, when it makes no
    /// sense; so for all methods.
    pub(crate) fn new(
        (name, offset): (&'a str, u64),
        bytes: &'a [u8],
        count: usize,
        codes: Bounds,
        templates: &'a Templates,
    ) -> Result<Self> {
        let mut reader = Reader::new(name, bytes);
        let used = usize::from(reader.u8()?);
        if used > SLOTS_MAX {
            return Err(reader.corrupt("a page has more places of numbers than there can be"));
        }
        let mut headers = Vec::with_capacity(used);
        let mut before = count;
        for _ in 0..used {
            let held = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
            let least = reader.varint()?;
            let greatest = least.checked_add(reader.varint()?);
            let greatest = greatest.filter(|_| held <= before);
            let Some(greatest) = greatest else {
                return Err(reader.corrupt("a place of numbers makes no sense"));
            };
            before = held;
            headers.push((held, Bounds { least, greatest }));
        }
        let mut numbers = |count: usize, bounds: Bounds| {
            let bytes = reader.take(bounds.page_bytes(count))?;
            NumberPage::new(name, offset, bytes, count, bounds)
        };
        let codes_page = numbers(count, codes)?;
        let mut places = Vec::with_capacity(used);
        for (held, bounds) in headers {
            places.push((numbers(held, bounds)?, bounds));
        }
        if !reader.is_empty() {
            return Err(reader.corrupt("a page is longer than it says"));
        }
        Ok(Self {
            name,
            offset,
            templates,
            codes: codes_page,
            codes_bounds: codes,
            places,
        })
    }

    fn corrupt(&self) -> Error {
        Error::corrupt(
            self.name,
            self.offset,
            "a value has no template or too few numbers",
        )
    }

    /// Whether every value has as many numbers as the one with most: then a number lies at the
    /// position of its value.
    fn is_uniform(&self) -> bool {
        let last = self.places.last();
        last.is_none_or(|(place, _)| place.len() == self.codes.len())
    }

    fn code(&self, position: usize) -> usize {
        usize::try_from(self.codes.get(position)).unwrap_or(usize::MAX)
    }

    /// Hands over texts in row order: at some positions, which ascend, or all, until `take` says no.
    pub(crate) fn each(
        &self,
        positions: Option<&[u32]>,
        mut take: impl FnMut(u32, &dyn Fn(&mut Vec<u8>)) -> bool,
    ) -> Result<()> {
        let mut walk = Walk {
            passed: [0; SLOTS_MAX],
            slots: [0; SLOTS_MAX],
        };
        let mut visit = |walk: &mut Walk, position: u32| {
            let code = self.code(position as usize);
            let slots = self.slots(code, walk)?;
            Ok(take(position, &|out| {
                self.templates.write(code, slots, out);
            }))
        };
        let count = u32::try_from(self.codes.len()).unwrap_or(u32::MAX);
        match positions {
            None => {
                for position in 0..count {
                    if !visit(&mut walk, position)? {
                        break;
                    }
                }
            }
            Some(positions) if self.is_uniform() => {
                for &position in positions {
                    walk.passed = [position as usize; SLOTS_MAX];
                    if !visit(&mut walk, position)? {
                        break;
                    }
                }
            }
            Some(positions) => {
                let mut next = 0;
                for &position in positions {
                    if position < next {
                        continue;
                    }
                    while next < position {
                        self.pass(self.code(next as usize), &mut walk)?;
                        next += 1;
                    }
                    next += 1;
                    if !visit(&mut walk, position)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts the values, where each has one number that is small enough: those of each template at
    /// its place. `false` when it cannot, and nothing is counted then.
    pub(crate) fn count(&self, places: &[usize], numbered: &mut Numbered) -> Result<bool> {
        let [(numbers, bounds)] = &self.places[..] else {
            return Ok(false);
        };
        if !self.is_uniform() || bounds.greatest >= NUMBERS_MAX {
            return Ok(false);
        }
        let place = |code: u32| {
            places
                .get(code as usize)
                .copied()
                .ok_or_else(|| self.corrupt())
        };
        let Bounds { least, greatest } = self.codes_bounds;
        if least == greatest {
            let place = place(u32::try_from(least).unwrap_or(u32::MAX))?;
            numbered.reserve(place, bounds.greatest);
            numbers.each_group(|group| numbered.count(place, group.iter().copied().map(small)));
            return Ok(true);
        }
        let mut codes = Vec::new();
        self.codes.codes(self.name, self.offset, &mut codes)?;
        for place in places {
            numbered.reserve(*place, bounds.greatest);
        }
        let mut decoded = Vec::new();
        numbers.decode(&mut decoded, |number| number);
        for (code, number) in codes.into_iter().zip(decoded) {
            numbered.count(place(code)?, [small(number)]);
        }
        Ok(true)
    }

    /// The numbers of the value at the walk, which goes on.
    fn slots<'w>(&self, code: usize, walk: &'w mut Walk) -> Result<&'w [u64]> {
        let count = self.templates.slots(code).ok_or_else(|| self.corrupt())?;
        if count > self.places.len() {
            return Err(self.corrupt());
        }
        let places = self.places.iter().take(count);
        for ((slot, passed), (place, _)) in walk.slots.iter_mut().zip(&mut walk.passed).zip(places)
        {
            if *passed >= place.len() {
                return Err(self.corrupt());
            }
            *slot = place.get(*passed);
            *passed += 1;
        }
        walk.slots.get(..count).ok_or_else(|| self.corrupt())
    }

    fn pass(&self, code: usize, walk: &mut Walk) -> Result<()> {
        let count = self.templates.slots(code).ok_or_else(|| self.corrupt())?;
        let passed = walk.passed.iter_mut().take(count);
        passed.for_each(|passed| *passed += 1);
        Ok(())
    }

    /// Appends the positions of values that equal one of `needles`, ascending.
    pub(crate) fn search(&self, needles: &[Needle], out: &mut Vec<u32>) -> Result<()> {
        let from = out.len();
        for needle in needles {
            self.search_one(needle, out)?;
        }
        if needles.len() > 1 {
            let mut found = out.split_off(from);
            found.sort_unstable();
            out.append(&mut found);
        }
        Ok(())
    }

    fn search_one(&self, needle: &Needle, out: &mut Vec<u32>) -> Result<()> {
        let exactly = |number: u64| Bounds {
            least: number,
            greatest: number,
        };
        let code = exactly(needle.code.into());
        if !Wanted::Range(code).meets(self.codes_bounds) || needle.slots.len() > self.places.len() {
            return Ok(());
        }
        // The place that is most telling is searched; the others are looked at where it agrees.
        let places = || self.places.iter().zip(&needle.slots);
        if places().any(|((_, bounds), slot)| !Wanted::Range(exactly(*slot)).meets(*bounds)) {
            return Ok(());
        }
        let widest = places().max_by_key(|((_, bounds), _)| bounds.width());
        let Some(((place, _), slot)) = widest else {
            self.codes.search(&Wanted::Range(code), out);
            return Ok(());
        };
        let mut found = Vec::new();
        place.search(&Wanted::Range(exactly(*slot)), &mut found);
        if found.is_empty() {
            return Ok(());
        }
        if self.is_uniform() {
            out.extend(found.into_iter().filter(|&position| {
                let at = position as usize;
                self.codes.get(at) == code.least
                    && places().all(|((place, _), slot)| place.get(at) == *slot)
            }));
            return Ok(());
        }
        let mut walk = Walk {
            passed: [0; SLOTS_MAX],
            slots: [0; SLOTS_MAX],
        };
        for (position, at) in (0u32..).zip(0..self.codes.len()) {
            let number = self.code(at);
            if number as u64 == code.least {
                if self.slots(number, &mut walk)? == needle.slots {
                    out.push(position);
                }
            } else {
                self.pass(number, &mut walk)?;
            }
        }
        Ok(())
    }
}

fn small(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
