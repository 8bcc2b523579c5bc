//! Which rows of a page have a value of a column: ascending numbers, each split into low bits, which
//! are packed, and the rest, which a bit for each number and for each step tells (Elias and Fano).
//! Tables whose rows all have other attributes have such a page for each column.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;

use trine_storage::{Error, Result};

use super::bits::{Packed, pack, packed_bytes};

/// In place of a width: a bit for each row.
const BITS: u8 = 255;
/// Low bits that are tried; pages have 2^13 rows.
const WIDTHS: Range<u8> = 0..13;

/// Appends a page of rows, which ascend; a row may be there again. The first rows, each once, take
/// no bytes.
pub(crate) fn put_page(out: &mut Vec<u8>, rows: &[u32]) {
    let is_first = rows.iter().zip(0u32..).all(|(row, at)| *row == at);
    let (Some(last), false) = (rows.last(), is_first) else {
        return;
    };
    let high_bytes = |width: u8| ((*last >> width) as usize + rows.len()).div_ceil(8);
    let bytes = |width: u8| packed_bytes(rows.len(), width) + high_bytes(width);
    let width = WIDTHS.min_by_key(|width| bytes(*width)).unwrap_or(0);
    let bit_bytes = *last as usize / 8 + 1;
    if bit_bytes <= bytes(width) && rows.is_sorted_by(|a, b| a < b) {
        out.push(BITS);
        let bits = rows.iter().map(|row| *row as usize);
        put_bits(out, bits, bit_bytes);
        return;
    }
    out.push(width);
    let low = rows.iter().map(|row| u64::from(row & ((1 << width) - 1)));
    pack(out, low, width);
    let high = rows.iter().enumerate();
    let high = high.map(|(at, row)| (*row >> width) as usize + at);
    put_bits(out, high, high_bytes(width));
}

fn put_bits(out: &mut Vec<u8>, bits: impl Iterator<Item = usize>, bytes: usize) {
    let first = out.len();
    out.resize(first + bytes, 0);
    for bit in bits {
        if let Some(byte) = out.get_mut(first + bit / 8) {
            *byte |= 1 << (bit % 8);
        }
    }
}

/// Hands over those of a page of `count` rows that lie in `wanted`, and tells how many lie before.
///
/// # Errors
/// [`Kind::Corrupt`](trine_storage::Kind::Corrupt), with `name` and `offset`, when there are not so
/// many, they do not ascend or lie behind `of`.
pub(crate) fn each(
    (name, offset): (&str, u64),
    bytes: &[u8],
    (count, of): (u32, u32),
    wanted: Range<u32>,
    mut take: impl FnMut(u32),
) -> Result<u32> {
    let corrupt = |what: &str| Err(Error::corrupt(name, offset, what));
    let Some((tag, body)) = bytes.split_first() else {
        if count > of {
            return corrupt("a page tells more rows than it has");
        }
        (wanted.start..wanted.end.min(count)).for_each(take);
        return Ok(wanted.start.min(count));
    };
    let width = if *tag == BITS { 0 } else { *tag };
    let low_bytes = packed_bytes(count as usize, width);
    let (true, Some((low, high))) = (WIDTHS.contains(&width), body.split_at_checked(low_bytes))
    else {
        return corrupt("rows of a page are told in an unknown way");
    };
    let low = Packed::new(name, offset, low, count as usize, width)?;
    // Of numbers without low bits each step is a row of its own.
    let is_bits = *tag == BITS;
    let (mut seen, mut before, mut last) = (0u32, 0u32, 0u32);
    let mut is_over = false;
    for (at, word) in (0u32..).zip(words(high)) {
        let ones = word.count_ones();
        let first_bit = at.saturating_mul(64);
        // The greatest that a number of this word can be begins with so much.
        let most = first_bit + 63 - if is_bits { 0 } else { seen.min(first_bit + 63) };
        if is_over || most < wanted.start >> width {
            before += if is_over { 0 } else { ones };
            seen += ones;
            continue;
        }
        let mut left = word;
        while left != 0 {
            let bit = first_bit + left.trailing_zeros();
            left &= left - 1;
            let high = if is_bits { bit } else { bit - seen.min(bit) };
            let row = u32::try_from(u64::from(high) << width | low.get(seen as usize));
            let row = row.unwrap_or(u32::MAX);
            seen += 1;
            if row >= of || row < last {
                return corrupt("rows of a page do not ascend, or are not there");
            }
            last = row;
            if row < wanted.start {
                before += 1;
            } else if row < wanted.end {
                take(row);
            } else {
                is_over = true;
                seen += left.count_ones();
                break;
            }
        }
    }
    if seen != count {
        return corrupt("a page has not as many rows as its values");
    }
    Ok(before)
}

/// Words of a bitmap, the last with zeros after it.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (whole, rest) = bytes.as_chunks::<8>();
    let mut last = [0u8; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let last = (!rest.is_empty()).then_some(last);
    let whole = whole.iter().copied();
    whole.chain(last).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], count: usize, wanted: Range<u32>) -> Result<(u32, Vec<u32>)> {
        let mut rows = Vec::new();
        let count = (u32::try_from(count).expect("a small number"), 8192);
        let before = each(("x", 0), bytes, count, wanted, |row| rows.push(row))?;
        Ok((before, rows))
    }

    fn check(rows: &[u32], cuts: &[u32]) -> usize {
        let mut bytes = Vec::new();
        put_page(&mut bytes, rows);
        let all = read(&bytes, rows.len(), 0..u32::MAX).expect("good bytes");
        assert_eq!(all, (0, rows.to_vec()));
        for (at, from) in cuts.iter().enumerate() {
            for to in cuts.iter().skip(at) {
                let inside = rows.iter().copied().filter(|row| (from..to).contains(&row));
                let before = rows.iter().filter(|row| *row < from).count();
                let found = read(&bytes, rows.len(), *from..*to).expect("good bytes");
                assert_eq!(found.1, inside.collect::<Vec<_>>(), "{from}..{to}");
                assert_eq!(found.0 as usize, before, "{from}..{to}");
            }
        }
        bytes.len()
    }

    #[test]
    fn rows_take_as_few_bytes_as_they_can() {
        let cuts = [0, 1, 63, 64, 65, 4_000, 8_191, 8_192];
        assert_eq!(check(&[], &cuts), 0);
        assert_eq!(check(&(0..8192).collect::<Vec<_>>(), &cuts), 0);
        assert_eq!(check(&(0..17).collect::<Vec<_>>(), &cuts), 0);
        // One number has hardly more than its bits.
        assert_eq!(check(&[8191], &cuts), 4);
        let every = |step: usize| (0..8192).skip(1).step_by(step).collect::<Vec<u32>>();
        assert_eq!(check(&every(2), &cuts), 1 + 1024);
        assert_eq!(check(&every(9), &cuts), 585);
        let twice: Vec<u32> = every(9).into_iter().flat_map(|row| [row, row]).collect();
        assert!(check(&twice, &cuts) < 1_000);
    }

    proptest! {
        #[test]
        fn any_rows_come_back(
            mut rows in prop::collection::vec(0u32..8192, 0..600),
            cuts in prop::collection::vec(0u32..8193, 0..4),
            shift in 0u32..12,
        ) {
            rows.iter_mut().for_each(|row| *row >>= shift);
            rows.sort_unstable();
            let mut cuts = cuts;
            cuts.sort_unstable();
            check(&rows, &cuts);
            rows.dedup();
            check(&rows, &cuts);
        }

        #[test]
        fn any_bytes_are_rows_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            width in 0u8..16,
            count in 0usize..200,
            wanted in 0u32..9_000,
        ) {
            for tag in [width, BITS] {
                let bytes = [&[tag], &bytes[..]].concat();
                if let Ok((_, rows)) = read(&bytes, count, 0..8192) {
                    prop_assert!(rows.is_sorted() && rows.len() == count);
                }
                read(&bytes, count, wanted..wanted + 100).ok();
            }
        }
    }
}
