//! In which order the attributes of a row are, as a number: most rows have the order that is usual in
//! their table. The writer and the reader of tables whose columns tell their rows call it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::block::shapes::RowShapes;

/// The attributes are in the usual order.
pub(super) const USUAL: u64 = 0;
/// Too many attributes are in another order: the row spells them out.
pub(super) const SPELLED: u64 = 1;
/// Numbers of permutations begin with this one.
const FIRST: u64 = 2;
/// Permutations of so many have numbers that 64 bits can hold.
const NUMBERED_MAX: usize = 20;

/// The usual order of the columns that are not left out: by their mean place in the rows.
pub(super) fn usual(shapes: &RowShapes, is_left_out: &dyn Fn(u32) -> bool) -> Vec<u32> {
    let mut places: Vec<(u64, u64)> = Vec::new();
    for (list, rows) in shapes.lists.iter().zip(shapes.rows_by_list()) {
        for (place, column) in (0u64..).zip(list) {
            let at = column as usize;
            places.resize(places.len().max(at + 1), (0, 0));
            if let Some((sum, count)) = places.get_mut(at) {
                *sum += place * u64::from(rows);
                *count += u64::from(rows);
            }
        }
    }
    let mut order: Vec<(u128, u32)> = Vec::new();
    for ((sum, count), column) in places.into_iter().zip(0u32..) {
        if let Some(mean) = (u128::from(sum) << 32).checked_div(count.into())
            && !is_left_out(column)
        {
            order.push((mean, column));
        }
    }
    order.sort_unstable();
    order.into_iter().map(|(_, column)| column).collect()
}

/// The number of the order of a row, of whose columns these are the places in the usual one. They
/// are used up.
pub(super) fn number(ranks: &mut [u32]) -> u64 {
    if ranks.is_sorted() {
        return USUAL;
    }
    if ranks.len() > NUMBERED_MAX {
        return SPELLED;
    }
    // Which of those that are left comes next, of equal ones the first.
    let mut number = 0u64;
    let mut rest = ranks;
    while let Some((&mut next, others)) = rest.split_first_mut() {
        let less = others.iter().filter(|rank| **rank < next).count() as u64;
        number = number * (others.len() as u64 + 1) + less;
        rest = others;
    }
    number.saturating_add(FIRST)
}

/// Puts what is in the usual order in the order of a number.
pub(super) fn arrange(number: u64, columns: &mut [u32], scratch: &mut Vec<u32>) {
    let Some(mut left) = number.checked_sub(FIRST) else {
        return;
    };
    // From the last on: which of those that are left then.
    scratch.clear();
    for among in 1..=columns.len() as u64 {
        scratch.push(u32::try_from(left % among).unwrap_or(0));
        left /= among;
    }
    let mut first = 0;
    while let (Some(rest), Some(next)) = (columns.get_mut(first..), scratch.pop()) {
        let end = (next as usize + 1).min(rest.len());
        if let Some(moved) = rest.get_mut(..end) {
            moved.rotate_right(1);
        }
        first += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::shapes::Lists;

    #[test]
    fn the_usual_order_is_that_of_most_rows() {
        let lists: [&[u32]; 4] = [&[3, 1, 2], &[3, 2], &[1, 3], &[7]];
        let shapes = RowShapes {
            codes: vec![0, 0, 1, 2, 3],
            lists: lists
                .iter()
                .map(|list| list.iter().copied())
                .collect::<Lists>(),
        };
        assert_eq!(usual(&shapes, &|_| false), [7, 3, 1, 2]);
        assert_eq!(usual(&shapes, &|column| column == 3), [7, 1, 2]);
    }

    fn comes_back(ranks: &[u32]) -> u64 {
        let number = number(&mut ranks.to_vec());
        let mut sorted = ranks.to_vec();
        sorted.sort_unstable();
        arrange(number, &mut sorted, &mut Vec::new());
        assert_eq!(sorted, ranks, "{number}");
        number
    }

    #[test]
    fn orders_have_numbers() {
        assert_eq!(comes_back(&[]), USUAL);
        assert_eq!(comes_back(&[1, 1, 4]), USUAL);
        assert_eq!(comes_back(&[2, 1]), FIRST + 1);
        let most: Vec<u32> = (0..20).rev().collect();
        let factorial: u64 = (1..=20).product();
        assert_eq!(comes_back(&most), FIRST + factorial - 1);
        assert_eq!(number(&mut (0..21).rev().collect::<Vec<_>>()), SPELLED);
        assert_eq!(comes_back(&(0..30).collect::<Vec<_>>()), USUAL);
    }

    proptest! {
        #[test]
        fn any_order_comes_back(ranks in prop::collection::vec(0u32..9, 0..20)) {
            comes_back(&ranks);
        }

        #[test]
        fn any_number_is_an_order(number: u64, count in 0u32..40) {
            let mut columns: Vec<u32> = (0..count).collect();
            arrange(number, &mut columns, &mut Vec::new());
            columns.sort_unstable();
            prop_assert!(columns.into_iter().eq(0..count));
        }
    }
}
