//! The expression of a `=~` or `!~` matcher, called once per distinct label value.

use std::sync::Arc;

use super::plan::{self, Plan};
use super::{Dot, compile, parser, syntax};
use crate::error::Result;

/// An expression that must match a whole label value: `^(?s:pattern)$`.
///
/// Cheap to clone. Most patterns of real queries (lists of names, `prefix.*`, `.+`) are answered
/// without running an expression.
///
/// ```
/// use trine_storage::regex::LabelRegex;
///
/// let regex = LabelRegex::new("api-(prod|test)")?;
/// assert!(regex.is_match("api-prod") && !regex.is_match("my-api-prod"));
/// let all = ["api-prod".to_owned(), "api-test".to_owned()];
/// assert_eq!(regex.set_matches(), Some(&all[..]));
/// # Ok::<(), trine_storage::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LabelRegex(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    pattern: String,
    dot: Dot,
    test: Test,
    prefix: String,
    matches_empty: bool,
}

#[derive(Debug)]
enum Test {
    Plan(Plan),
    Regex(regex::bytes::Regex),
}

impl LabelRegex {
    /// Compiles `pattern`; `.` matches newlines, as in a selector.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) when Go would refuse it, in Go's words;
    /// [`Kind::Limit`](crate::Kind::Limit) when it is too long, too deep or too large.
    pub fn new(pattern: &str) -> Result<Self> {
        Self::with_dot(pattern, Dot::AnyChar)
    }

    /// Compiles `pattern` with the given meaning of `.`: [`Dot::NotNewline`] is `^(?:pattern)$`,
    /// which label filters of log queries use.
    ///
    /// # Errors
    /// As [`LabelRegex::new`].
    pub fn with_dot(pattern: &str, dot: Dot) -> Result<Self> {
        let parsed = parser::parse(pattern, dot)?;
        let test = match Plan::of(&parsed.node) {
            Some(plan) => Test::Plan(plan),
            None => Test::Regex(compile(&anchored(&syntax::emit(&parsed.node)), pattern)?),
        };
        let mut compiled = Compiled {
            pattern: pattern.to_owned(),
            dot,
            test,
            prefix: plan::prefix(&parsed.node),
            matches_empty: false,
        };
        compiled.matches_empty = compiled.is_match("");
        Ok(Self(Arc::new(compiled)))
    }

    /// What it was compiled from.
    pub fn pattern(&self) -> &str {
        &self.0.pattern
    }

    /// What `.` matches.
    pub fn dot(&self) -> Dot {
        self.0.dot
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// Whether the empty string matches.
    pub fn matches_empty(&self) -> bool {
        self.0.matches_empty
    }

    /// Whether every text is known to match: `.*`.
    pub fn matches_everything(&self) -> bool {
        matches!(self.0.test, Test::Plan(Plan::Everything))
    }

    /// Whether every text but the empty one is known to match and the empty one does not: `.+`.
    pub fn matches_not_empty(&self) -> bool {
        matches!(self.0.test, Test::Plan(Plan::NotEmpty))
    }

    /// All texts that match, sorted and unique, when the pattern is a list of literals or expands
    /// to at most [`EXPANSION_MAX`](super::EXPANSION_MAX).
    pub fn set_matches(&self) -> Option<&[String]> {
        match &self.0.test {
            Test::Plan(Plan::OneOf(values)) => Some(values),
            _ => None,
        }
    }

    /// What every text that matches starts with; often empty.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }
}

impl Compiled {
    fn is_match(&self, text: &str) -> bool {
        match &self.test {
            Test::Plan(plan) => plan.is_match(text),
            Test::Regex(regex) => {
                text.starts_with(&*self.prefix) && regex.is_match(text.as_bytes())
            }
        }
    }
}

/// The emitted text of a pattern, anchored at both ends.
pub(super) fn anchored(emitted: &str) -> String {
    format!(r"\A(?:{emitted})\z")
}
