//! What filters of lines mean, line by line; for the tests of filters and for the naive reader.

use super::LineFilter;

fn contains(line: &[u8], literal: &[u8]) -> bool {
    literal.is_empty() || line.windows(literal.len()).any(|window| window == literal)
}

/// Whether `text` is in the line with no byte of a word next to it.
fn whole(line: &[u8], text: &[u8]) -> bool {
    let of_word =
        |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || !b.is_ascii());
    (0..=line.len()).any(|at| {
        let before = at.checked_sub(1).and_then(|before| line.get(before));
        line[at..].starts_with(text) && !of_word(before) && !of_word(line.get(at + text.len()))
    })
}

pub(crate) fn passes(filter: &LineFilter, line: &[u8]) -> bool {
    match filter {
        LineFilter::Contains(literal) => contains(line, literal),
        LineFilter::NotContains(literal) => !contains(line, literal),
        LineFilter::ContainsAny(literals) => literals.iter().any(|literal| contains(line, literal)),
        LineFilter::ContainsWhole { text, or } => {
            whole(line, text) || or.as_ref().is_some_and(|or| contains(line, or))
        }
        LineFilter::Matches(regex) => regex.is_match(line),
        LineFilter::NotMatches(regex) => !regex.is_match(line),
    }
}
