//! `sort_by_label`: an instant vector in the natural order of label values. Called by the calls.

use std::cmp::Ordering;

use super::Evaluation;
use super::expression::string;
use super::steps::Steps;
use super::stream::Vector;
use crate::promql::ast::Expr;
use crate::promql::error::QueryError;
use crate::promql::functions::SortOrder;

impl<'q> Evaluation<'q> {
    pub(super) fn sort_by_label(
        &'q self,
        order: SortOrder,
        arguments: &'q [Expr],
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let [argument, names @ ..] = arguments else {
            return Ok(Vector::empty());
        };
        self.sorted(argument, steps, |series| {
            series.sort_by(|a, b| {
                let by_name = names.iter().map(string).map(|name| {
                    let (a, b) = (a.labels.get(name), b.labels.get(name));
                    natural(a.unwrap_or(""), b.unwrap_or(""))
                });
                let ascending = by_name
                    .fold(Ordering::Equal, Ordering::then)
                    .then_with(|| a.labels.cmp(&b.labels));
                match order {
                    SortOrder::Ascending => ascending,
                    SortOrder::Descending => ascending.reverse(),
                }
            });
        })
    }
}

/// Runs of digits compare as numbers, everything else as bytes.
fn natural(a: &str, b: &str) -> Ordering {
    let lengths = a.len().cmp(&b.len());
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (left, right) = (run(a), run(b));
        let order = match (left.parse::<u128>(), right.parse::<u128>()) {
            (Ok(left), Ok(right)) => left.cmp(&right),
            _ => left.cmp(right),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (
            a.get(left.len()..).unwrap_or(""),
            b.get(right.len()..).unwrap_or(""),
        );
    }
    a.len().cmp(&b.len()).then(lengths)
}

/// The digits, or what is no digits, at the start.
fn run(text: &str) -> &str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits);
    text.get(..end.unwrap_or(text.len())).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_in_texts_count_as_numbers() {
        let sorted = [
            "", "2", "10", "a", "a1", "a2b", "a10", "a10b2", "a10b10", "b",
        ];
        for two in sorted.windows(2) {
            assert!(natural(two[0], two[1]).is_lt(), "{two:?}");
            assert!(natural(two[1], two[0]).is_gt(), "{two:?}");
        }
        assert!(
            natural("a01", "a1").is_gt(),
            "equal numbers, then the length"
        );
        assert!(natural(&"9".repeat(60), "1").is_gt());
    }
}
