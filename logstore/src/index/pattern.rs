//! A run of token bytes as it is looked for in lists of tokens, which are text with a newline before
//! and after each token. Made once per query, run over the lists of every block.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};

/// Longest run of which all is compared when letter case is ignored, in bytes. Of a longer one the
/// beginning must do.
pub(crate) const FOLD_RUN_BYTES_MAX: usize = 256;

/// Finds tokens that are a run, or begin with it, end with it, contain it.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    search: Search,
    /// Bytes of a match before the token: the newline, or nothing.
    before: usize,
    /// Bytes of a match behind the token.
    after: usize,
}

#[derive(Debug, Clone)]
enum Search {
    Exact(Box<Finder<'static>>),
    Fold(Regex),
}

/// Where a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Offset of a byte of the token.
    pub(crate) token: usize,
    /// From where the next match is looked for.
    pub(crate) next: usize,
}

impl Pattern {
    /// What finds `run` in a token: at its start unless `open_left`, at its end unless `open_right`;
    /// whatever the letter case if `fold`. `None` when that cannot be told from the bytes.
    pub(crate) fn new(run: &[u8], open_left: bool, open_right: bool, fold: bool) -> Option<Self> {
        let mut open_right = open_right;
        let search = if fold {
            let mut text = str::from_utf8(run).ok()?;
            if text.len() > FOLD_RUN_BYTES_MAX {
                let cut = text.floor_char_boundary(FOLD_RUN_BYTES_MAX);
                text = text.get(..cut)?;
                open_right = true;
            }
            let frame = |open: bool| if open { "" } else { "\\n" };
            let (left, right) = (frame(open_left), frame(open_right));
            let pattern = format!("{left}(?i:{}){right}", regex::escape(text));
            Search::Fold(RegexBuilder::new(&pattern).build().ok()?)
        } else {
            let mut needle = Vec::with_capacity(run.len() + 2);
            needle.extend((!open_left).then_some(b'\n'));
            needle.extend_from_slice(run);
            needle.extend((!open_right).then_some(b'\n'));
            Search::Exact(Box::new(Finder::new(&needle).into_owned()))
        };
        (!run.is_empty()).then_some(Self {
            search,
            before: usize::from(!open_left),
            after: usize::from(!open_right),
        })
    }

    /// The first match at or after `from`.
    pub(crate) fn find(&self, text: &[u8], from: usize) -> Option<Hit> {
        let (start, end) = match &self.search {
            Search::Exact(finder) => {
                let start = from + finder.find(text.get(from..)?)?;
                (start, start + finder.needle().len())
            }
            Search::Fold(regex) => {
                let found = regex.find_at(text, from.min(text.len()))?;
                (found.start(), found.end())
            }
        };
        Some(Hit {
            token: start + self.before,
            // The newline behind one token is the one before the next.
            next: end - self.after,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(pattern: &Pattern, text: &str) -> Vec<usize> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(hit) = pattern.find(text.as_bytes(), at) {
            found.push(hit.token);
            at = hit.next;
        }
        found
    }

    #[test]
    fn neighbours_are_both_found() {
        for fold in [false, true] {
            let whole = Pattern::new(b"ab", false, false, fold).unwrap();
            assert_eq!(hits(&whole, "\nab\nab\nabc\nab\n"), [1, 4, 11]);
            let end = Pattern::new(b"ab", true, false, fold).unwrap();
            assert_eq!(hits(&end, "\nab\nxab\nabc\n"), [1, 5]);
        }
    }

    #[test]
    fn folding_is_that_of_expressions() {
        let text = "\nTAS\u{212a}\nta\u{17f}k\nTask\ntasks\n";
        let whole = Pattern::new(b"task", false, false, true).unwrap();
        assert_eq!(hits(&whole, text), [1, 8, 14]);
        assert!(Pattern::new(b"\xe9", false, false, true).is_none());
        assert!(Pattern::new(b"\xe9", false, false, false).is_some());
        assert!(Pattern::new(b"", true, true, false).is_none());
    }

    #[test]
    fn only_the_beginning_of_a_very_long_run_is_compared_when_case_is_ignored() {
        let longest = "x".repeat(FOLD_RUN_BYTES_MAX);
        let text = format!("\n{longest}y\n");
        for (run, found) in [(longest.clone(), 0), (format!("{longest}z"), 1)] {
            let pattern = Pattern::new(run.as_bytes(), false, false, true).unwrap();
            assert_eq!(hits(&pattern, &text).len(), found);
        }
        let cut = format!("{}\u{e9}", &longest[1..]);
        assert!(Pattern::new(cut.as_bytes(), false, false, true).is_some());
    }
}
