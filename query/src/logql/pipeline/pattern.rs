//! Patterns such as `<ip> - <user> "<_>"`: the `pattern` stage and the line filters `|>` and `!>`.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::ControlFlow;

use memchr::memmem::{self, Finder};

use super::labels::RowLabels;
use super::text::push_lossy;

/// One piece of a pattern.
#[derive(Debug, Clone)]
enum Piece {
    Literal(Box<Finder<'static>>),
    /// `<name>`; `None` for `<_>`.
    Capture(Option<String>),
}

/// A pattern of the `pattern` stage.
#[derive(Debug)]
pub(in crate::logql) struct Pattern(Vec<Piece>);

/// A pattern of a line filter.
#[derive(Debug)]
pub(in crate::logql) struct PatternFilter(Vec<Piece>);

const NO_CAPTURE: &str = "at least one capture is required";
const NOTHING: &str = "parse error at line 1, col 1: syntax error: unexpected $end, expecting \
    IDENTIFIER or LITERAL";

/// Splits a pattern. What only looks like a capture is text.
fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let literal = |text: &str| Piece::Literal(Box::new(Finder::new(text).into_owned()));
    let (mut rest, mut from) = (pattern, 0);
    while let Some(found) = rest
        .get(from..)
        .and_then(|text| memmem::find(text.as_bytes(), b"<"))
    {
        let open = from + found;
        let inside = rest.get(open + 1..).unwrap_or("");
        let Some((name, after)) = take_name(inside) else {
            from = open + 1;
            continue;
        };
        if open > 0 {
            pieces.push(literal(rest.get(..open).unwrap_or("")));
        }
        pieces.push(Piece::Capture((name != "_").then(|| name.to_owned())));
        (rest, from) = (after, 0);
    }
    if !rest.is_empty() {
        pieces.push(literal(rest));
    }
    pieces
}

/// Takes `name>` off the front.
fn take_name(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.split_once('>')?;
    let mut chars = name.chars();
    let valid = chars
        .next()
        .is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric());
    valid.then_some((name, after))
}

fn check_neighbours(pieces: &[Piece]) -> Result<(), String> {
    let name = |name: &Option<String>| name.as_deref().unwrap_or("_").to_owned();
    for two in pieces.windows(2) {
        if let [Piece::Capture(a), Piece::Capture(b)] = two {
            let (a, b) = (name(a), name(b));
            return Err(format!(
                "found consecutive capture '<{a}><{b}>': invalid expression"
            ));
        }
    }
    Ok(())
}

impl Pattern {
    /// Reads the pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::logql) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err(NOTHING.to_owned());
        }
        let pieces = pieces(pattern);
        let names = || {
            pieces.iter().filter_map(|piece| match piece {
                Piece::Capture(name) => name.as_deref(),
                Piece::Literal(_) => None,
            })
        };
        if names().next().is_none() {
            return Err(NO_CAPTURE.to_owned());
        }
        check_neighbours(&pieces)?;
        let mut seen = std::collections::BTreeSet::new();
        if let Some(name) = names().find(|name| !seen.insert(*name)) {
            return Err(format!(
                "duplicate capture name ({name}): invalid expression"
            ));
        }
        Ok(Self(pieces))
    }

    /// Sets the labels of the captures. The text at the front must match; where later text is
    /// missing, the capture before it takes all that is left and is the last.
    pub(in crate::logql) fn extract(&self, line: &[u8], labels: &mut RowLabels<'_>) {
        self.each_capture(line, |name, value| {
            labels.extract(name, |text| push_lossy(text, value))
        });
    }

    fn each_capture(&self, line: &[u8], mut visit: impl FnMut(&str, &[u8]) -> ControlFlow<()>) {
        let mut rest = line;
        let mut pieces = self.0.as_slice();
        if let Some((Piece::Literal(first), after)) = pieces.split_first() {
            let Some(found) = rest.strip_prefix(first.needle()) else {
                return;
            };
            (rest, pieces) = (found, after);
        }
        while let Some((Piece::Capture(name), after)) = pieces.split_first() {
            let (value, next) = match after.first() {
                Some(Piece::Literal(literal)) => match literal.find(rest) {
                    Some(at) => {
                        let end = at + literal.needle().len();
                        (rest.get(..at), rest.get(end..))
                    }
                    None => (Some(rest), None),
                },
                _ => (Some(rest), None),
            };
            if let Some(name) = name
                && visit(name, value.unwrap_or_default()).is_break()
            {
                return;
            }
            let Some(next) = next else {
                return;
            };
            rest = next;
            pieces = after.get(1..).unwrap_or_default();
        }
    }
}

impl PatternFilter {
    /// Reads the pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::logql) fn new(pattern: &str) -> Result<Self, String> {
        let pieces = pieces(pattern);
        check_neighbours(&pieces)?;
        for piece in &pieces {
            if let Piece::Capture(Some(name)) = piece {
                return Err(format!("named captures are not allowed: found '<{name}>'"));
            }
        }
        Ok(Self(pieces))
    }

    /// The texts that every line with a match contains.
    pub(in crate::logql) fn literals(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Literal(literal) => Some(literal.needle()),
            Piece::Capture(_) => None,
        })
    }

    /// Whether the pattern is in the line: its texts one after the other, each where it comes first,
    /// at least one byte for each capture, and nothing after the last.
    pub(in crate::logql) fn is_match(&self, line: &[u8]) -> bool {
        let mut rest = line;
        // Whether a capture stands before what comes next.
        let mut captures = false;
        for piece in &self.0 {
            match piece {
                Piece::Capture(_) => captures = true,
                Piece::Literal(literal) => {
                    let Some(at) = literal.find(rest) else {
                        return false;
                    };
                    if captures && at == 0 {
                        return false;
                    }
                    captures = false;
                    rest = rest.get(at + literal.needle().len()..).unwrap_or_default();
                }
            }
        }
        captures != rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use proptest::prelude::*;

    use super::{Pattern, PatternFilter};

    fn captures(pattern: &str, line: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        Pattern::new(pattern)
            .unwrap()
            .each_capture(line.as_bytes(), |name, value| {
                found.push((name.to_owned(), String::from_utf8_lossy(value).into_owned()));
                ControlFlow::Continue(())
            });
        found
    }

    /// The same by positions, one piece after the other.
    fn naive(pattern: &str, line: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut at = 0;
        let mut pending: Option<String> = None;
        let mut parts: Vec<(bool, String)> = Vec::new();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            if let Some((name, after)) = rest.strip_prefix('<').and_then(|t| t.split_once('>')) {
                parts.push((true, name.to_owned()));
                rest = after;
            } else {
                match parts.last_mut() {
                    Some((false, text)) => text.push(c),
                    _ => parts.push((false, c.to_string())),
                }
                rest = &rest[c.len_utf8()..];
            }
        }
        for (is_capture, text) in parts {
            if is_capture {
                pending = Some(text);
                continue;
            }
            let place = (at..=line.len()).find(|&i| line[i..].starts_with(&text));
            match (&pending, place) {
                (None, Some(place)) if place == at => at += text.len(),
                (None, _) => return found,
                (Some(name), place) => {
                    let end = place.unwrap_or(line.len());
                    if name != "_" {
                        found.push((name.clone(), line[at..end].to_owned()));
                    }
                    if place.is_none() {
                        return found;
                    }
                    at = end + text.len();
                }
            }
            pending = None;
        }
        if let Some(name) = pending.filter(|name| name != "_") {
            found.push((name, line[at..].to_owned()));
        }
        found
    }

    proptest! {
        #[test]
        fn captures_are_those_of_positions(
            parts in prop::collection::vec("[ab ]{1,2}", 1..4),
            line in "[ab c]{0,12}",
            leads in any::<bool>(),
        ) {
            let mut pattern = String::new();
            for (i, part) in parts.iter().enumerate() {
                if i > 0 || leads {
                    pattern.push_str(&format!("<n{i}>"));
                }
                pattern.push_str(part);
            }
            pattern.push_str("<end>");
            prop_assert_eq!(captures(&pattern, &line), naive(&pattern, &line));
        }
    }

    #[test]
    fn filters_search_from_left_to_right() {
        let check = |pattern: &str, line: &str, expect: bool| {
            let filter = PatternFilter::new(pattern).unwrap();
            assert_eq!(
                filter.is_match(line.as_bytes()),
                expect,
                "{pattern} in {line}"
            );
        };
        check("", "", true);
        check("", "a", false);
        check("<_>", "", false);
        check("<_>", "x", true);
        check("<_> bar", "foo bar", true);
        check("<_> bar", "foo bar baz", false);
        check("<_> b", "a b b", false);
        check("foo <_>", "a foo b", true);
        check("foo", "a foo", true);
        check("foo", "foo a", false);
        check("a<_>c", "abbc", true);
        check("a<_>c", "ac", false);
        check("a <b c", "a <b c", true);
    }
}
