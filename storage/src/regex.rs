//! Regular expressions with the meaning that Go's RE2 gives them, on Rust's engine.
//!
//! Matchers and the label index call [`LabelRegex`], line filters and `label_replace` call
//! [`LineRegex`]. A pattern is parsed by the rules of Go's `regexp` and written anew for Rust's
//! engine, so that nothing is reinterpreted: `\d \s \w \b` and `[:alpha:]` are ASCII, `[a&&b]` and
//! nested brackets are plain characters, `{gid}` and `\Q..\E` are literal. What Go refuses is
//! refused in Go's words ([`Kind::Invalid`]); what only Rust's engine refuses (too large, too
//! deep) is a [`Kind::Limit`].

mod label;
mod line;
mod literals;
mod parser;
mod plan;
mod syntax;

use crate::error::{Error, Kind, Result};

pub use label::LabelRegex;
pub use line::{LineRegex, Locations, Template};
pub use literals::{REQUIRED_BYTES_MAX, REQUIRED_LITERALS_MAX, Required};
pub use parser::{NESTING_MAX, PATTERN_BYTES_MAX, REPEAT_MAX};
pub use plan::EXPANSION_MAX;

/// Largest compiled expression, in bytes.
pub const PROGRAM_BYTES_MAX: usize = 10 << 20;

/// Largest cache of lazily built states, in bytes, of one expression in one thread.
pub const STATES_BYTES_MAX: usize = 2 << 20;

/// Depth of nesting that Rust's parser allows: one level of a pattern may become three.
const EMITTED_NESTING_MAX: u32 = 4 * NESTING_MAX;

/// What `.` matches where no flag of the pattern says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dot {
    /// Every character, as in selectors and `label_replace`: `(?s:pattern)`.
    AnyChar,
    /// Every character but a newline, as in line filters and label filters.
    NotNewline,
}

/// Translates a Go (RE2) pattern into one for Rust's `regex::Regex` and `regex::bytes::Regex`.
///
/// The result carries all its flags itself and may be put into a larger expression between `(?:`
/// and `)`. Capture groups keep their numbers and lose their names, because Go allows names that
/// Rust does not. A byte that is not UTF-8 is not matched by `.`; [`LineRegex`] sees to that.
///
/// # Errors
/// [`Kind::Invalid`] when Go would refuse it, in Go's words; [`Kind::Limit`] when it is longer than
/// [`PATTERN_BYTES_MAX`] or deeper than [`NESTING_MAX`].
///
/// ```
/// use trine_storage::regex::{Dot, translate};
///
/// assert_eq!(translate(r"\d{gid}", Dot::AnyChar)?, r"[0-9]\{gid\}");
/// let error = translate("a(b", Dot::AnyChar).unwrap_err();
/// assert_eq!(error.to_string(), "error parsing regexp: missing closing ): `a(b`");
/// # Ok::<(), trine_storage::Error>(())
/// ```
pub fn translate(pattern: &str, dot: Dot) -> Result<String> {
    Ok(syntax::emit(&parser::parse(pattern, dot)?.node))
}

/// Compiles what [`translate`] gave for `pattern`.
fn compile(emitted: &str, pattern: &str) -> Result<regex::bytes::Regex> {
    regex::bytes::RegexBuilder::new(emitted)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(STATES_BYTES_MAX)
        .nest_limit(EMITTED_NESTING_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => Error::new(
                Kind::Limit,
                format!(
                    "the regular expression `{pattern}` needs more than {PROGRAM_BYTES_MAX} bytes \
                     when compiled; use fewer or smaller repetitions"
                ),
            ),
            error => Error::new(
                Kind::Unsupported,
                format!("the regular expression `{pattern}` cannot be used: {error}"),
            ),
        })
}

#[cfg(test)]
mod tests;
