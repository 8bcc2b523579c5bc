//! The tree that the parser builds from an RE2 pattern, and its text for Rust's engine.
//!
//! The emitted text never depends on flags around it (each piece carries its own), so it can be
//! put into any larger expression. Character classes are written as code points only: what Rust
//! would read as a set operation or a nested class cannot occur.

use std::fmt::Write as _;

/// One piece of a pattern. Flags were resolved when it was parsed.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// Matches nothing and succeeds.
    Empty,
    /// This text, letter case ignored when `fold`.
    Literal { text: String, fold: bool },
    /// One character of a class.
    Class(Class),
    /// `.`, which may or may not match a newline.
    Any { newline: bool },
    /// A condition on the position.
    Assert(Assert),
    /// One after the other.
    Concat(Vec<Node>),
    /// The first that leads to a match.
    Alternate(Vec<Node>),
    /// `min` to `max` times, without `max` any number of times.
    Repeat {
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
        greedy: bool,
    },
    /// Parentheses.
    Group { node: Box<Node>, capture: bool },
}

/// A condition on the position in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assert {
    TextStart,
    TextEnd,
    LineStart,
    LineEnd,
    WordBoundary,
    NotWordBoundary,
}

/// A set of characters: the union of `ranges` and `parts`, perhaps negated.
#[derive(Debug, Clone, Default)]
pub(super) struct Class {
    /// Inclusive code points; never a surrogate.
    pub(super) ranges: Vec<(u32, u32)>,
    /// What is better said in Rust's own syntax: `\p{gc=L}`, `[^0-9]`.
    pub(super) parts: Vec<String>,
    pub(super) negated: bool,
    pub(super) fold: bool,
}

impl Class {
    /// Adds a range of code points, without the surrogates in it: no text holds those.
    pub(super) fn add(&mut self, low: u32, high: u32) {
        let low = if (0xd800..=0xdfff).contains(&low) {
            0xe000
        } else {
            low
        };
        let high = if (0xd800..=0xdfff).contains(&high) {
            0xd7ff
        } else {
            high
        };
        if low <= high {
            self.ranges.push((low, high));
        }
    }

    /// Whether U+FFFD may be in the class, which stands for every byte that is not UTF-8.
    pub(super) fn may_match_replacement(&self) -> bool {
        self.negated
            || !self.parts.is_empty()
            || self
                .ranges
                .iter()
                .any(|&(low, high)| (low..=high).contains(&0xfffd))
    }

    /// The characters of the class when they are at most `max` and can be told without tables.
    pub(super) fn characters(&self, max: usize) -> Option<Vec<char>> {
        if self.negated || !self.parts.is_empty() {
            return None;
        }
        let mut all = Vec::new();
        for &(low, high) in &self.ranges {
            let count = usize::try_from(high - low).ok()?.saturating_add(1);
            if all.len() + count > max {
                return None;
            }
            all.extend((low..=high).filter_map(char::from_u32));
        }
        if self.fold && all.iter().any(|c| c.is_alphabetic()) {
            return None;
        }
        all.sort_unstable();
        all.dedup();
        Some(all)
    }

    fn emit(&self, out: &mut String) {
        if self.ranges.is_empty() && self.parts.is_empty() {
            out.push_str(if self.negated {
                "(?s:.)"
            } else {
                r"[^\x{0}-\x{10FFFF}]"
            });
            return;
        }
        out.push_str(if self.fold { "(?i:[" } else { "[" });
        if self.negated {
            out.push('^');
        }
        for &(low, high) in &self.ranges {
            emit_code_point(low, out);
            if high != low {
                out.push('-');
                emit_code_point(high, out);
            }
        }
        for part in &self.parts {
            out.push_str(part);
        }
        out.push_str(if self.fold { "])" } else { "]" });
    }
}

/// Writes a code point so that it is never an operator inside a class.
fn emit_code_point(code: u32, out: &mut String) {
    match char::from_u32(code) {
        Some(c) if c.is_ascii_alphanumeric() => out.push(c),
        _ => write!(out, "\\x{{{code:X}}}").expect("writing to a String cannot fail"),
    }
}

/// The text of `node` for Rust's engine.
pub(super) fn emit(node: &Node) -> String {
    let mut out = String::new();
    emit_into(node, &mut out);
    out
}

fn emit_into(node: &Node, out: &mut String) {
    match node {
        Node::Empty => {}
        Node::Literal { text, fold: false } => out.push_str(&regex::escape(text)),
        Node::Literal { text, fold: true } => {
            out.push_str("(?i:");
            out.push_str(&regex::escape(text));
            out.push(')');
        }
        Node::Class(class) => class.emit(out),
        Node::Any { newline: true } => out.push_str("(?s:.)"),
        Node::Any { newline: false } => out.push_str(r"[^\n]"),
        Node::Assert(assert) => out.push_str(match assert {
            Assert::TextStart => r"\A",
            Assert::TextEnd => r"\z",
            Assert::LineStart => "(?m:^)",
            Assert::LineEnd => "(?m:$)",
            Assert::WordBoundary => r"(?-u:\b)",
            Assert::NotWordBoundary => r"(?-u:\B)",
        }),
        Node::Concat(nodes) => nodes.iter().for_each(|node| emit_into(node, out)),
        Node::Alternate(branches) => {
            for (i, branch) in branches.iter().enumerate() {
                if i > 0 {
                    out.push('|');
                }
                emit_into(branch, out);
            }
        }
        Node::Repeat {
            node,
            min,
            max,
            greedy,
        } => {
            emit_operand(node, out);
            emit_counts(*min, *max, out);
            if !greedy {
                out.push('?');
            }
        }
        Node::Group { node, capture } => {
            out.push_str(if *capture { "(" } else { "(?:" });
            emit_into(node, out);
            out.push(')');
        }
    }
}

/// Writes what a repetition applies to, in parentheses unless it is one unit already.
fn emit_operand(node: &Node, out: &mut String) {
    let unit = match node {
        Node::Class(_) | Node::Any { .. } | Node::Group { .. } => true,
        Node::Literal { text, fold } => *fold || text.chars().count() == 1,
        _ => false,
    };
    if unit {
        emit_into(node, out);
    } else {
        out.push_str("(?:");
        emit_into(node, out);
        out.push(')');
    }
}

fn emit_counts(min: u32, max: Option<u32>, out: &mut String) {
    match (min, max) {
        (0, None) => out.push('*'),
        (1, None) => out.push('+'),
        (0, Some(1)) => out.push('?'),
        (min, None) => write!(out, "{{{min},}}").expect("writing to a String cannot fail"),
        (min, Some(max)) => {
            write!(out, "{{{min},{max}}}").expect("writing to a String cannot fail");
        }
    }
}
