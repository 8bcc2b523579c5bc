//! Pages of numbers: packed bits above the least of the page (frame of reference), so that one
//! number is read without the others and conditions are tested on groups that are just unpacked.
//! The least and the greatest lie in the directory of the column; a page of equal numbers has no
//! bytes at all. Codes of dictionaries and of templates are such pages too.
//!
//! Numbers are stored *ordered*: as `u64`s in the order of the values (see [`ordered`]).

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::{Error, Result};

use super::bits::{self, GROUP, Packed, packed_bytes};
use super::values::Type;

const SIGN: u64 = 1 << 63;

/// The bits of a number as a `u64` in the order of the values: `i64` by value; `f64` in their total
/// order (-NaN, -inf .. -0.0, 0.0 .. inf, NaN); truth as it is.
pub(crate) fn ordered(kind: Type, bits: u64) -> u64 {
    match kind {
        Type::Int => bits ^ SIGN,
        Type::Float if bits & SIGN != 0 => !bits,
        Type::Float => bits | SIGN,
        _ => bits,
    }
}

/// The inverse of [`ordered`].
pub(crate) fn unordered(kind: Type, ordered: u64) -> u64 {
    match kind {
        Type::Int => ordered ^ SIGN,
        Type::Float if ordered & SIGN == 0 => !ordered,
        Type::Float => ordered & !SIGN,
        _ => ordered,
    }
}

/// The least and the greatest number of a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) least: u64,
    pub(crate) greatest: u64,
}

impl Bounds {
    /// Those of some numbers; of none when there are none.
    pub(crate) fn of(numbers: impl Iterator<Item = u64>) -> Option<Self> {
        let none = Self {
            least: u64::MAX,
            greatest: 0,
        };
        let all = numbers.fold(none, |bounds, number| Self {
            least: bounds.least.min(number),
            greatest: bounds.greatest.max(number),
        });
        (all.least <= all.greatest).then_some(all)
    }

    /// Bits of a number of the page.
    pub(crate) fn width(self) -> u8 {
        bits::width_of(self.greatest.saturating_sub(self.least))
    }

    /// Bytes of a page of so many numbers.
    pub(crate) fn page_bytes(self, count: usize) -> usize {
        packed_bytes(count, self.width())
    }
}

/// Appends a page of numbers that lie within `bounds`.
pub(crate) fn put_page(
    out: &mut Vec<u8>,
    numbers: impl ExactSizeIterator<Item = u64>,
    bounds: Bounds,
) {
    let above = numbers.map(|number| number.wrapping_sub(bounds.least));
    bits::pack(out, above, bounds.width());
}

/// Which numbers are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// From `least` to `greatest`, both included.
    Range(Bounds),
    /// Any of these: ascending, at least two.
    Any(Vec<u64>),
    /// Those of which the bit is set. For codes.
    Bits(Vec<u64>),
}

/// Above this many, places in a bitmap are tested and no list.
const ANY_MAX: usize = 4;

impl Wanted {
    /// Any of these numbers; `None` when there are none.
    pub(crate) fn any(mut numbers: Vec<u64>) -> Option<Self> {
        numbers.sort_unstable();
        numbers.dedup();
        let (least, greatest) = (*numbers.first()?, *numbers.last()?);
        if greatest - least == numbers.len() as u64 - 1 {
            return Some(Self::Range(Bounds { least, greatest }));
        }
        Some(Self::Any(numbers))
    }

    /// Any of these codes, which ascend and are less than `of`; `None` when there are none.
    pub(crate) fn codes(codes: Vec<u64>, of: u32) -> Option<Self> {
        let wanted = Self::any(codes)?;
        let Self::Any(codes) = &wanted else {
            return Some(wanted);
        };
        if codes.len() <= ANY_MAX {
            return Some(wanted);
        }
        let mut words = vec![0u64; (of as usize).div_ceil(64)];
        for &code in codes {
            let word = usize::try_from(code / 64).unwrap_or(usize::MAX);
            if let Some(word) = words.get_mut(word) {
                *word |= 1 << (code % 64);
            }
        }
        Some(Self::Bits(words))
    }

    /// Whether a number is wanted.
    pub(crate) fn has(&self, number: u64) -> bool {
        match self {
            Self::Range(range) => (range.least..=range.greatest).contains(&number),
            Self::Any(numbers) => numbers.binary_search(&number).is_ok(),
            Self::Bits(words) => {
                let word = usize::try_from(number / 64).ok().and_then(|w| words.get(w));
                word.is_some_and(|word| word >> (number % 64) & 1 == 1)
            }
        }
    }

    /// Whether a page with these bounds may have a wanted number: what need not be read.
    pub(crate) fn meets(&self, bounds: Bounds) -> bool {
        match self {
            Self::Range(range) => range.least <= bounds.greatest && bounds.least <= range.greatest,
            Self::Any(numbers) => {
                let from = numbers.partition_point(|&number| number < bounds.least);
                numbers
                    .get(from)
                    .is_some_and(|&number| number <= bounds.greatest)
            }
            Self::Bits(_) if bounds.least == bounds.greatest => self.has(bounds.least),
            Self::Bits(_) => true,
        }
    }

    /// Whether all numbers of a page with these bounds are wanted for sure.
    pub(crate) fn covers(&self, bounds: Bounds) -> bool {
        match self {
            Self::Range(range) => range.least <= bounds.least && bounds.greatest <= range.greatest,
            _ => bounds.least == bounds.greatest && self.has(bounds.least),
        }
    }
}

/// A page, read in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberPage<'a> {
    packed: Packed<'a>,
    bounds: Bounds,
}

impl<'a> NumberPage<'a> {
    /// A page of `count` numbers that takes all of `bytes`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), with `name` and `offset`, when it has
    /// another length.
    pub(crate) fn new(
        name: &str,
        offset: u64,
        bytes: &'a [u8],
        count: usize,
        bounds: Bounds,
    ) -> Result<Self> {
        Ok(Self {
            packed: Packed::new(name, offset, bytes, count, bounds.width())?,
            bounds,
        })
    }

    /// How many numbers there are.
    pub(crate) fn len(&self) -> usize {
        self.packed.len()
    }

    fn groups(&self) -> usize {
        self.len().div_ceil(GROUP)
    }

    fn is_narrow(&self) -> bool {
        self.packed.width() <= 32
    }

    /// One number.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> u64 {
        self.bounds.least.wrapping_add(self.packed.get(index))
    }

    /// Appends all numbers, each as `of` makes it.
    pub(crate) fn decode(&self, out: &mut Vec<u64>, of: impl Fn(u64) -> u64) {
        let least = self.bounds.least;
        out.reserve(self.len());
        if self.packed.width() == 0 {
            out.extend(std::iter::repeat_n(of(least), self.len()));
            return;
        }
        let mut group = [0; GROUP];
        for number in 0..self.groups() {
            let count = self.packed.group(number, &mut group);
            let known = group.iter().take(count);
            out.extend(known.map(|&above| of(least.wrapping_add(above))));
        }
    }

    /// Hands over all numbers, some at a time.
    pub(crate) fn each_group(&self, mut take: impl FnMut(&[u64])) {
        let mut group = [0; GROUP];
        for number in 0..self.groups() {
            let count = self.packed.group(number, &mut group);
            for above in &mut group {
                *above = self.bounds.least.wrapping_add(*above);
            }
            take(group.get(..count).unwrap_or_default());
        }
    }

    /// Appends all numbers, which are codes.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when one is above the greatest of the page:
    /// so that places in lists can be trusted.
    pub(crate) fn codes(&self, name: &str, offset: u64, out: &mut Vec<u32>) -> Result<()> {
        let bad = || Error::corrupt(name, offset, "a code is larger than it can be");
        let least = u32::try_from(self.bounds.least).map_err(|_| bad())?;
        let greatest = u32::try_from(self.bounds.greatest).map_err(|_| bad())?;
        out.reserve(self.len());
        if least >= greatest {
            out.extend(std::iter::repeat_n(least, self.len()));
            return Ok(());
        }
        let mut group = [0u32; GROUP];
        let mut worst = 0;
        for number in 0..self.groups() {
            let count = self.packed.group32(number, &mut group);
            worst = group.iter().fold(worst, |worst, &above| worst.max(above));
            let known = group.iter().take(count);
            out.extend(known.map(|&above| above.wrapping_add(least)));
        }
        if worst > greatest - least {
            return Err(bad());
        }
        Ok(())
    }

    /// Appends the places of wanted numbers, ascending.
    pub(crate) fn search(&self, wanted: &Wanted, out: &mut Vec<u32>) {
        if !wanted.meets(self.bounds) {
            return;
        }
        if wanted.covers(self.bounds) {
            out.extend((0..).take(self.len()));
            return;
        }
        let least = self.bounds.least;
        match wanted {
            Wanted::Range(range) => {
                // Up to the greatest of the page and no further: what lies below `from` wraps around
                // to more than a span that has no more bits than the numbers.
                let from = range.least.saturating_sub(least);
                let to = range.greatest.min(self.bounds.greatest) - least;
                let span = to.saturating_sub(from);
                match (self.is_narrow(), u32::try_from(from), u32::try_from(span)) {
                    (true, Ok(from), Ok(span)) => {
                        self.narrow(out, |above| above.wrapping_sub(from) <= span);
                    }
                    _ => self.wide(out, |above| above.wrapping_sub(from) <= span),
                }
            }
            Wanted::Any(numbers) if numbers.len() <= ANY_MAX && self.is_narrow() => {
                // What lies outside of the page becomes one that does not.
                let within = |&&n: &&u64| (least..=self.bounds.greatest).contains(&n);
                let mut few = [0u32; ANY_MAX];
                let mut inside = numbers.iter().filter(within).map(|&n| n - least);
                let Some(mut last) = inside.next() else {
                    return;
                };
                for place in &mut few {
                    *place = u32::try_from(last).unwrap_or(u32::MAX);
                    last = inside.next().unwrap_or(last);
                }
                let [a, b, c, d] = few;
                self.narrow(out, |n| (n == a) | (n == b) | (n == c) | (n == d));
            }
            _ => self.wide(out, |above| wanted.has(least.wrapping_add(above))),
        }
    }

    /// Appends those of some places that have a wanted number. Faster than [`Self::search`] for few.
    pub(crate) fn search_among(&self, wanted: &Wanted, places: &[u32], out: &mut Vec<u32>) {
        let is_wanted = |place: &u32| wanted.has(self.get(*place as usize));
        out.extend(places.iter().copied().filter(is_wanted));
    }

    fn narrow(&self, out: &mut Vec<u32>, test: impl Fn(u32) -> bool) {
        let mut group = [0; GROUP];
        for number in 0..self.groups() {
            let count = self.packed.group32(number, &mut group);
            push_places(out, number, count, flags(&group, &test));
        }
    }

    fn wide(&self, out: &mut Vec<u32>, test: impl Fn(u64) -> bool) {
        let mut group = [0; GROUP];
        for number in 0..self.groups() {
            let count = self.packed.group(number, &mut group);
            push_places(out, number, count, flags(&group, &test));
        }
    }
}

/// A bit for each number of a group: whether it passes.
#[inline]
fn flags<T: Copy>(group: &[T; GROUP], test: impl Fn(T) -> bool) -> u64 {
    let mut passed = [0u8; GROUP];
    for (passed, number) in passed.iter_mut().zip(group) {
        *passed = u8::from(test(*number));
    }
    // The product gathers the lowest bits of eight bytes in the highest byte.
    let gather = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080);
    let eights = passed.as_chunks::<8>().0.iter().rev();
    eights.fold(0, |bits, eight| bits << 8 | gather(eight) >> 56)
}

/// Appends the places of the bits that are set, of the first `count` of group `group`.
#[inline]
fn push_places(out: &mut Vec<u32>, group: usize, count: usize, bits: u64) {
    let mut left = match GROUP - count.min(GROUP) {
        GROUP => 0,
        absent => bits & (u64::MAX >> absent),
    };
    let first = u32::try_from(group * GROUP).unwrap_or(u32::MAX);
    while left != 0 {
        out.push(first.saturating_add(left.trailing_zeros()));
        left &= left - 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(numbers: &[u64]) -> (Vec<u8>, Bounds) {
        let bounds = Bounds::of(numbers.iter().copied()).unwrap();
        let mut bytes = Vec::new();
        put_page(&mut bytes, numbers.iter().copied(), bounds);
        (bytes, bounds)
    }

    #[test]
    fn golden_bytes() {
        let (bytes, bounds) = page(&[100, 103, 101]);
        assert_eq!(bytes, [0b01_1100]);
        assert_eq!((bounds.least, bounds.greatest), (100, 103));
        assert!(page(&[7; 1000]).0.is_empty());
    }

    #[test]
    fn order_is_that_of_the_values() {
        let ints = [i64::MIN, -2, -1, 0, 1, i64::MAX].map(i64::cast_unsigned);
        let floats = [-f64::NAN, f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1e-300, 2.0].map(f64::to_bits);
        for (kind, bits) in [(Type::Int, &ints[..]), (Type::Float, &floats[..])] {
            let all: Vec<u64> = bits.iter().map(|&bits| ordered(kind, bits)).collect();
            assert!(all.is_sorted_by(|a, b| a < b), "{kind:?} {all:?}");
            let back: Vec<u64> = all.iter().map(|&n| unordered(kind, n)).collect();
            assert_eq!(back, bits);
        }
    }

    #[test]
    fn codes_above_the_greatest_are_refused() {
        let bounds = Bounds {
            least: 4,
            greatest: 6,
        };
        let page = NumberPage::new("test", 9, &[0b11_10_01_00], 4, bounds).unwrap();
        let error = page.codes("test", 9, &mut Vec::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "test is damaged at byte 9: a code is larger than it can be"
        );
    }

    fn numbers() -> impl Strategy<Value = Vec<u64>> {
        (0..=64u32, any::<u64>()).prop_flat_map(|(width, base)| {
            let one = any::<u64>().prop_map(move |random| {
                let above = random & 1u64.checked_shl(width).unwrap_or(0).wrapping_sub(1);
                base.saturating_add(above)
            });
            proptest::collection::vec(one, 1..200)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn numbers_come_back_and_are_found(
            numbers in numbers(),
            picks in proptest::collection::vec((any::<prop::sample::Index>(), 0..3u64), 0..7),
        ) {
            let (bytes, bounds) = page(&numbers);
            let page = NumberPage::new("test", 0, &bytes, numbers.len(), bounds).unwrap();
            let mut out = vec![];
            page.decode(&mut out, |n| n);
            prop_assert_eq!(&out, &numbers);
            out.clear();
            page.each_group(|some| out.extend_from_slice(some));
            prop_assert_eq!(&out, &numbers);
            for (index, number) in numbers.iter().enumerate() {
                prop_assert_eq!(page.get(index), *number);
            }

            let picked: Vec<u64> = picks
                .iter()
                .map(|(index, add)| index.get(&numbers).saturating_add(*add))
                .collect();
            let range = Bounds::of(picked.iter().copied());
            let ranges = range.map(|range| {
                let up = Bounds { greatest: u64::MAX, ..range };
                let down = Bounds { least: 0, ..range };
                [range, up, down].map(Wanted::Range)
            });
            let ranges = ranges.into_iter().flatten();
            for wanted in Wanted::any(picked).into_iter().chain(ranges) {
                let mut found = vec![];
                page.search(&wanted, &mut found);
                let expected: Vec<u32> = (0..)
                    .zip(&numbers)
                    .filter(|(_, number)| wanted.has(**number))
                    .map(|(place, _)| place)
                    .collect();
                prop_assert_eq!(&found, &expected, "{:?} in {:?}", wanted, bounds);
                let even = |place: &u32| place.is_multiple_of(2);
                let some: Vec<u32> = (0u32..).take(numbers.len()).filter(even).collect();
                found.clear();
                page.search_among(&wanted, &some, &mut found);
                let expected: Vec<u32> = expected.into_iter().filter(even).collect();
                prop_assert_eq!(found, expected, "{:?} in {:?}", wanted, bounds);
            }
        }

        #[test]
        fn codes_come_back_and_are_found(
            codes in proptest::collection::vec(0..300u32, 1..200),
            wanted in proptest::collection::btree_set(0..300u64, 0..40),
        ) {
            let wide: Vec<u64> = codes.iter().copied().map(u64::from).collect();
            let (bytes, bounds) = page(&wide);
            let page = NumberPage::new("test", 0, &bytes, codes.len(), bounds).unwrap();
            let mut out = vec![];
            page.codes("test", 0, &mut out).unwrap();
            prop_assert_eq!(&out, &codes);

            let expected: Vec<u32> = (0..)
                .zip(&wide)
                .filter(|(_, code)| wanted.contains(code))
                .map(|(place, _)| place)
                .collect();
            let mut found = vec![];
            if let Some(wanted) = Wanted::codes(wanted.into_iter().collect(), 300) {
                page.search(&wanted, &mut found);
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn order_is_kept(a: i64, b: i64, x: f64, y: f64) {
            let int = |n: i64| ordered(Type::Int, n.cast_unsigned());
            prop_assert_eq!(a.cmp(&b), int(a).cmp(&int(b)));
            let float = |n: f64| ordered(Type::Float, n.to_bits());
            prop_assert_eq!(x.total_cmp(&y), float(x).cmp(&float(y)));
        }
    }
}
