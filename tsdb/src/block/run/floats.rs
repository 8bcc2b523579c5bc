//! Columns of floats: constant, decimals or the bits of doubles as a column of integers, with
//! exceptions kept apart.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;

use trine_storage::codec::{Reader, put_bytes, put_varint};
use trine_storage::{Error, Result};

use super::Effort;
use super::integers::{self, Column, Nesting};

/// The kind of a column is in the two lowest bits of its first byte.
const CONSTANT: u8 = 0;
const DECIMAL: u8 = 1;
const DOUBLE: u8 = 2;
const KIND_MASK: u8 = 3;
/// Set when exceptions follow.
const EXCEPTIONS: u8 = 1 << 2;
/// Where the first byte has the number of decimals.
const DECIMALS_SHIFT: u32 = 3;

/// The powers of ten that doubles hold exactly and that are of use.
const POWERS: [f64; 19] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18,
];
/// At most one row in this many may be an exception, and some more.
const ROWS_PER_EXCEPTION: usize = 8;
const EXCEPTIONS_SPARE: usize = 4;
/// When at most one row in this many is an exception, no other form is tried.
const ROWS_PER_EXCEPTION_FEW: usize = 64;
/// Rows looked at to find the number of decimals.
const SAMPLE_ROWS: usize = 32;
/// When this many of them are no decimals, the others are not looked at.
const SAMPLE_MISSES: usize = 6;
/// Integers with decimals are below this: with more digits any double would look like a decimal.
const DECIMAL_END: f64 = 1e15;

/// The bits of the stale marker, by far the most frequent exception. Others are stored as their
/// difference to it.
const STALE: i64 = 0x7ff0_0000_0000_0002;

/// Rows that do not fit the rest.
#[derive(Debug, Default)]
struct Exceptions {
    rows: Vec<usize>,
    /// The bits of each, less [`STALE`].
    bits: Vec<i64>,
}

impl Exceptions {
    fn push(&mut self, row: usize, value: f64) {
        self.rows.push(row);
        self.bits
            .push(value.to_bits().cast_signed().wrapping_sub(STALE));
    }
}

fn too_many(exceptions: usize, rows: usize) -> bool {
    exceptions > rows / ROWS_PER_EXCEPTION + EXCEPTIONS_SPARE
}

/// Appends the column of `values`; nothing when there are none.
pub(super) fn encode(values: &[f64], effort: Effort, out: &mut Vec<u8>) {
    let [first, rest @ ..] = values else { return };
    if rest.iter().all(|value| value.to_bits() == first.to_bits()) {
        out.push(CONSTANT);
        let bits = first.to_bits().to_be_bytes();
        let len = bits
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        out.extend(bits.into_iter().take(len));
        return;
    }
    let start = out.len();
    let decimal = decimals(values);
    if let Some((decimals, integers, exceptions)) = &decimal {
        let kind = DECIMAL | decimals << DECIMALS_SHIFT;
        encode_parts(kind, integers, exceptions, effort, out);
        if exceptions.rows.len() * ROWS_PER_EXCEPTION_FEW <= values.len() {
            return;
        }
    }
    let (integers, exceptions) = doubles(values);
    if decimal.is_none() {
        encode_parts(DOUBLE, &integers, &exceptions, effort, out);
        return;
    }
    let mut other = Vec::new();
    encode_parts(DOUBLE, &integers, &exceptions, effort, &mut other);
    if other.len() < out.len() - start {
        out.truncate(start);
        out.append(&mut other);
    }
}

fn encode_parts(
    kind: u8,
    integers: &[i64],
    exceptions: &Exceptions,
    effort: Effort,
    out: &mut Vec<u8>,
) {
    if exceptions.rows.is_empty() {
        out.push(kind);
    } else {
        out.push(kind | EXCEPTIONS);
        put_varint(out, exceptions.rows.len() as u64);
        for part in [&integers::from_rows(&exceptions.rows), &exceptions.bits] {
            let mut column = Vec::new();
            integers::encode(part, effort, Nesting::Inner, &mut column);
            put_bytes(out, &column);
        }
    }
    integers::encode(integers, effort, Nesting::Outer, out);
}

/// The integer that gives `value` when it is divided by `power`, bit for bit.
#[inline]
fn integer(value: f64, power: f64) -> Option<i64> {
    let scaled = value * power;
    let small = scaled.abs() < DECIMAL_END;
    let rounded = if small {
        scaled + 0.5f64.copysign(scaled)
    } else {
        scaled
    };
    // The cast saturates; whatever it gives is checked.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the result is checked against the value"
    )]
    let integer = rounded as i64;
    let same = decimal(integer, power).to_bits() == value.to_bits();
    (same && (small || power == 1.0)).then_some(integer)
}

/// The value of an integer of a decimal column.
#[inline]
fn decimal(integer: i64, power: f64) -> f64 {
    integer as f64 / power
}

/// The fewest decimals of `value`.
fn decimals_of(value: f64) -> Option<usize> {
    POWERS
        .iter()
        .position(|&power| integer(value, power).is_some())
}

/// The rows as integers of so many decimals; nothing when too many are none.
fn decimals(values: &[f64]) -> Option<(u8, Vec<i64>, Exceptions)> {
    let mut misses = 0;
    let mut decimals = 0;
    for &value in values.iter().step_by(values.len().div_ceil(SAMPLE_ROWS)) {
        match decimals_of(value) {
            Some(number) => decimals = decimals.max(number),
            None => misses += 1,
        }
        if misses == SAMPLE_MISSES {
            return None;
        }
    }
    loop {
        let power = *POWERS.get(decimals)?;
        let mut integers = Vec::with_capacity(values.len());
        let mut exceptions = Exceptions::default();
        let mut more = decimals;
        for (row, &value) in values.iter().enumerate() {
            if let Some(integer) = integer(value, power) {
                integers.push(integer);
                continue;
            }
            exceptions.push(row, value);
            if exceptions.rows.len() <= SAMPLE_ROWS {
                more = more.max(decimals_of(value).unwrap_or(0));
            }
            if too_many(exceptions.rows.len(), values.len()) {
                break;
            }
        }
        let many = exceptions.rows.len() * ROWS_PER_EXCEPTION_FEW > values.len();
        if many && more > decimals {
            decimals = more;
        } else if too_many(exceptions.rows.len(), values.len()) {
            return None;
        } else {
            return Some((u8::try_from(decimals).ok()?, integers, exceptions));
        }
    }
}

/// The rows as integers in the order of the doubles; what is not finite is an exception.
fn doubles(values: &[f64]) -> (Vec<i64>, Exceptions) {
    let odd = values.iter().filter(|value| !value.is_finite()).count();
    let keep_odd = too_many(odd, values.len());
    let mut exceptions = Exceptions::default();
    let mut integers = Vec::with_capacity(values.len());
    for (row, &value) in values.iter().enumerate() {
        if keep_odd || value.is_finite() {
            integers.push(ordered(value.to_bits().cast_signed()));
        } else {
            exceptions.push(row, value);
        }
    }
    (integers, exceptions)
}

/// The bits of doubles as integers that are ordered as the doubles are; and back.
#[inline]
fn ordered(bits: i64) -> i64 {
    bits ^ (bits >> 63).cast_unsigned().wrapping_shr(1).cast_signed()
}

/// Appends `rows` of the column of `count` rows.
///
/// # Errors
/// Corrupt; Invalid when there are no such rows.
pub(super) fn decode(
    name: &str,
    bytes: &[u8],
    count: usize,
    rows: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<()> {
    if rows.start > rows.end || rows.end > count {
        return Err(Error::invalid(format!(
            "{name} has {count} rows, not rows {rows:?}"
        )));
    }
    let mut reader = Reader::new(name, bytes);
    if count == 0 {
        return if reader.is_empty() {
            Ok(())
        } else {
            Err(reader.corrupt("a column is longer than its rows"))
        };
    }
    let flags = reader.u8()?;
    if flags == CONSTANT {
        let bytes = reader.take(reader.remaining())?;
        let mut bits = [0; 8];
        let Some(head) = bits.get_mut(..bytes.len()) else {
            return Err(reader.corrupt("a constant is too long"));
        };
        head.copy_from_slice(bytes);
        out.resize(
            out.len() + rows.len(),
            f64::from_bits(u64::from_be_bytes(bits)),
        );
        return Ok(());
    }
    let exceptions = match flags & EXCEPTIONS {
        0 => Exceptions::default(),
        _ => read_exceptions(name, &mut reader, count)?,
    };
    let inner = count - exceptions.rows.len();
    let column = Column::open(
        name,
        reader.take(reader.remaining())?,
        inner,
        Nesting::Outer,
    )?;
    let before = |row: usize| exceptions.rows.partition_point(|&odd| odd < row);
    let odd = before(rows.start)..before(rows.end);
    let regular = rows.start - odd.start..rows.end - odd.end;
    let at = out.len();
    out.reserve(rows.len());
    let decimals = flags >> DECIMALS_SHIFT;
    match (flags & KIND_MASK, POWERS.get(usize::from(decimals))) {
        (DECIMAL, Some(_)) if decimals == 0 => {
            column.read(regular, |values| {
                out.extend(values.iter().map(|&value| value as f64));
            })?;
        }
        (DECIMAL, Some(&power)) => {
            column.read(regular, |values| {
                out.extend(values.iter().map(|&value| decimal(value, power)));
            })?;
        }
        (DOUBLE, _) if decimals == 0 => {
            let double = |&value: &i64| f64::from_bits(ordered(value).cast_unsigned());
            column.read(regular, |values| out.extend(values.iter().map(double)))?;
        }
        _ => return Err(reader.corrupt("a column is of no known kind")),
    }
    let listed = exceptions
        .rows
        .get(odd.clone())
        .zip(exceptions.bits.get(odd));
    if let Some((odd, bits)) = listed {
        insert(out, at, odd.iter().map(|row| row - rows.start), bits);
    }
    Ok(())
}

/// Puts `bits` in their places among the rows of `out` from `at` on. `places` ascend.
fn insert(
    out: &mut Vec<f64>,
    at: usize,
    places: impl DoubleEndedIterator<Item = usize>,
    bits: &[i64],
) {
    let mut from = out.len();
    let mut end = from + bits.len();
    out.resize(end, 0.0);
    for (place, &bits) in places.rev().zip(bits.iter().rev()) {
        // All rows behind the exception move to their place.
        let behind = end.saturating_sub(at + place + 1);
        out.copy_within(from.saturating_sub(behind)..from, at + place + 1);
        from = from.saturating_sub(behind);
        end = at + place;
        if let Some(slot) = out.get_mut(end) {
            *slot = f64::from_bits(bits.wrapping_add(STALE).cast_unsigned());
        }
    }
}

fn read_exceptions(name: &str, reader: &mut Reader<'_>, count: usize) -> Result<Exceptions> {
    let number = reader.varint()?;
    let rows = integers::read_rows(name, reader.bytes()?, number, count)?;
    let mut bits = Vec::new();
    let column = Column::open(name, reader.bytes()?, rows.len(), Nesting::Inner)?;
    column.append(0..rows.len(), &mut bits)?;
    Ok(Exceptions { rows, bits })
}
