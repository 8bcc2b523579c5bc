//! One column of a group of histograms in a run: the same count, or the sum, of each of them.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::Result;
use trine_storage::codec::{Reader, put_signed, put_varint};

use super::number::{Number, Xor};

/// How the integers of a column are written, behind the first one.
mod integers {
    /// They are all equal: nothing.
    pub(super) const EQUAL: u8 = 0;
    /// Their differences.
    pub(super) const FIRST_ORDER: u8 = 1;
    /// The least difference, then by how much each exceeds it: counters that grow evenly.
    pub(super) const ABOVE_LEAST: u8 = 2;
    /// The differences of the differences: rates that change slowly.
    pub(super) const SECOND_ORDER: u8 = 3;
}

/// How the floats of a column are written.
mod floats {
    /// The control byte of each XOR with the one before, then all payloads.
    pub(super) const XOR: u8 = 0;
    /// They are all whole numbers, written as integers.
    pub(super) const WHOLE: u8 = 1;
}

/// Whole floats of up to 53 bits are told exactly by integers.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends a column of integers; `base` is the number before the first.
pub(super) fn put_integers(out: &mut Vec<u8>, base: u64, column: &[u64]) {
    let Some((&first, rest)) = column.split_first() else {
        return;
    };
    let differences = || {
        column
            .iter()
            .zip(rest)
            .map(|(before, word)| word.wrapping_sub(*before).cast_signed())
    };
    let least = differences().min().unwrap_or(0);
    let mode = cheapest(differences(), least);
    out.push(mode);
    first.put(base, out);
    match mode {
        integers::EQUAL => {}
        integers::FIRST_ORDER => differences().for_each(|difference| put_signed(out, difference)),
        integers::ABOVE_LEAST => {
            put_signed(out, least);
            for difference in differences() {
                put_varint(out, difference.wrapping_sub(least).cast_unsigned());
            }
        }
        _ => {
            let mut before = 0;
            for difference in differences() {
                put_signed(out, difference.wrapping_sub(before));
                before = difference;
            }
        }
    }
}

/// The mode of the fewest bytes; of equal ones the first, whose bytes compress best.
fn cheapest(differences: impl Iterator<Item = i64>, least: i64) -> u8 {
    let (mut first_order, mut above_least, mut second_order) = (0u64, signed_len(least), 0u64);
    let (mut before, mut is_equal) = (0, true);
    for difference in differences {
        is_equal &= difference == 0;
        first_order += signed_len(difference);
        above_least += varint_len(difference.wrapping_sub(least).cast_unsigned());
        second_order += signed_len(difference.wrapping_sub(before));
        before = difference;
    }
    if is_equal {
        integers::EQUAL
    } else if first_order <= above_least && first_order <= second_order {
        integers::FIRST_ORDER
    } else if above_least <= second_order {
        integers::ABOVE_LEAST
    } else {
        integers::SECOND_ORDER
    }
}

fn varint_len(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

fn signed_len(value: i64) -> u64 {
    varint_len(((value << 1) ^ (value >> 63)).cast_unsigned())
}

/// Appends to `column` the `rows` integers that [`put_integers`] wrote.
pub(super) fn take_integers(
    reader: &mut Reader<'_>,
    base: u64,
    rows: usize,
    column: &mut Vec<u64>,
) -> Result<()> {
    let mode = reader.u8()?;
    let mut word = u64::take(base, reader)?;
    column.push(word);
    let rest = rows.saturating_sub(1);
    match mode {
        integers::EQUAL => column.extend(std::iter::repeat_n(word, rest)),
        integers::FIRST_ORDER => {
            for _ in 0..rest {
                word = word.wrapping_add_signed(reader.signed()?);
                column.push(word);
            }
        }
        integers::ABOVE_LEAST => {
            let least = reader.signed()?;
            for _ in 0..rest {
                let above = reader.varint()?;
                word = word.wrapping_add_signed(least).wrapping_add(above);
                column.push(word);
            }
        }
        integers::SECOND_ORDER => {
            let mut difference = 0i64;
            for _ in 0..rest {
                difference = difference.wrapping_add(reader.signed()?);
                word = word.wrapping_add_signed(difference);
                column.push(word);
            }
        }
        _ => return Err(reader.corrupt("a column of integers has no such form")),
    }
    Ok(())
}

/// Appends a column of floats, given by their bits.
pub(super) fn put_floats(out: &mut Vec<u8>, base: u64, column: &[u64]) {
    let whole: Option<Vec<u64>> = column.iter().map(|word| whole(*word)).collect();
    if let Some(column) = whole {
        out.push(floats::WHOLE);
        put_integers(out, whole_base(base), &column);
        return;
    }
    out.push(floats::XOR);
    let xors = || {
        let before = std::iter::once(&base).chain(column);
        before
            .zip(column)
            .map(|(before, word)| Xor::new(*before, *word))
    };
    out.extend(xors().map(|xor| xor.control));
    xors().for_each(|xor| xor.put_payload(out));
}

/// Appends to `column` the bits of the `rows` floats that [`put_floats`] wrote.
pub(super) fn take_floats(
    reader: &mut Reader<'_>,
    base: u64,
    rows: usize,
    column: &mut Vec<u64>,
) -> Result<()> {
    match reader.u8()? {
        floats::XOR => {
            let mut word = base;
            for control in reader.take(rows)? {
                word ^= Xor::take(*control, reader)?;
                column.push(word);
            }
        }
        floats::WHOLE => {
            let start = column.len();
            take_integers(reader, whole_base(base), rows, column)?;
            for word in column.iter_mut().skip(start) {
                *word = (word.cast_signed() as f64).to_bits();
            }
        }
        _ => return Err(reader.corrupt("a column of floats has no such form")),
    }
    Ok(())
}

/// The float of these bits as an integer, if that gives back the same bits.
fn whole(bits: u64) -> Option<u64> {
    let value = f64::from_bits(bits);
    if value.is_nan() || value.abs() > WHOLE_MAX {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within 53 bits; what is lost shows in the comparison"
    )]
    let integer = value as i64;
    ((integer as f64).to_bits() == bits).then_some(integer.cast_unsigned())
}

/// The integer before the first of a column of whole floats.
fn whole_base(base: u64) -> u64 {
    whole(base).unwrap_or(0)
}
