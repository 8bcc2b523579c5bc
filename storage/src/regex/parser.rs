//! Parser of RE2 syntax as Go's `regexp` package reads it, called by every compiled expression of
//! [`super`]. It accepts and refuses the same patterns, with the same words.
//!
//! It keeps a stack of open groups instead of recursing, so that no pattern can exhaust the
//! thread's stack.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod class;

use super::Dot;
use super::syntax::{Assert, Class, Node};
use crate::error::{Error, Kind, Result};

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Deepest nesting of groups, repetitions and alternatives. RE2 allows 1,000; Rust's compiler
/// recurses, and this depth fits into the smallest thread.
pub const NESTING_MAX: u32 = 250;

/// Largest count of a repetition, and largest product of counts nested in each other. RE2's rule.
pub const REPEAT_MAX: u32 = 1000;

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) node: Node,
    /// The capture groups' names; the first stands for the whole match.
    pub(super) names: Vec<Option<String>>,
    /// Whether a byte that is not UTF-8 may play a part in a match.
    pub(super) sees_invalid: bool,
    /// Whether it has a `\B`, which Rust's engine also finds between the bytes of a character.
    pub(super) has_not_boundary: bool,
    /// Whether it looks at what lies around a match: `^ $ \A \z \b \B`.
    pub(super) has_assertion: bool,
}

/// Parses `pattern`; `dot` says what `.` matches before any flag says otherwise.
pub(super) fn parse(pattern: &str, dot: Dot) -> Result<Parsed> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(Error::new(
            Kind::Limit,
            format!(
                "a regular expression of {} bytes is longer than the {PATTERN_BYTES_MAX} allowed",
                pattern.len()
            ),
        ));
    }
    let flags = Flags {
        dot_newline: dot == Dot::AnyChar,
        ..Flags::default()
    };
    let parser = Parser {
        whole: pattern,
        pos: 0,
        flags,
        group: Group::new(Opening::Plain, flags),
        outer: Vec::new(),
        names: vec![None],
        sees_invalid: false,
        has_not_boundary: false,
        has_assertion: false,
    };
    parser.run()
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_newline: bool,
    swap_greed: bool,
}

/// A finished piece with what the limits need to know about it.
#[derive(Debug)]
struct Item {
    node: Node,
    /// The largest product of nested counts in it.
    repeats: u32,
    height: u32,
}

impl Item {
    fn leaf(node: Node) -> Self {
        Self {
            node,
            repeats: 1,
            height: 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    Plain,
    Capture,
}

/// An open group: the branches before the last `|` and the items after it.
#[derive(Debug)]
struct Group {
    opening: Opening,
    /// The flags to go back to when it closes.
    flags: Flags,
    branches: Vec<Item>,
    items: Vec<Item>,
}

impl Group {
    fn new(opening: Opening, flags: Flags) -> Self {
        Self {
            opening,
            flags,
            branches: Vec::new(),
            items: Vec::new(),
        }
    }

    /// Ends the branch at a `|` or at the end of the group. Neighbouring literals become one.
    fn end_branch(&mut self) {
        let (mut repeats, mut height) = (1, 0);
        let mut nodes: Vec<Node> = Vec::new();
        for item in self.items.drain(..) {
            repeats = repeats.max(item.repeats);
            height = height.max(item.height);
            match (nodes.last_mut(), item.node) {
                (
                    Some(Node::Literal { text, fold }),
                    Node::Literal {
                        text: more,
                        fold: more_fold,
                    },
                ) if *fold == more_fold => text.push_str(&more),
                (_, node) => nodes.push(node),
            }
        }
        let node = match nodes.len() {
            0 => Node::Empty,
            1 => nodes.pop().unwrap_or(Node::Empty),
            _ => Node::Concat(nodes),
        };
        self.branches.push(Item {
            node,
            repeats,
            height: height + 1,
        });
    }

    fn finish(mut self) -> Item {
        self.end_branch();
        let repeats = self
            .branches
            .iter()
            .map(|item| item.repeats)
            .max()
            .unwrap_or(1);
        let height = self
            .branches
            .iter()
            .map(|item| item.height)
            .max()
            .unwrap_or(0)
            + 1;
        let mut branches: Vec<Node> = self.branches.into_iter().map(|item| item.node).collect();
        let node = match branches.len() {
            1 => branches.pop().unwrap_or(Node::Empty),
            _ => Node::Alternate(branches),
        };
        Item {
            node,
            repeats,
            height,
        }
    }
}

struct Parser<'a> {
    whole: &'a str,
    pos: usize,
    flags: Flags,
    /// The innermost open group and those around it. The outermost is the pattern itself.
    group: Group,
    outer: Vec<Group>,
    names: Vec<Option<String>>,
    sees_invalid: bool,
    has_not_boundary: bool,
    has_assertion: bool,
}

impl<'a> Parser<'a> {
    fn run(mut self) -> Result<Parsed> {
        // Where the repetition operator began that ended just before the current position.
        let mut previous = None;
        while let Some(c) = self.peek() {
            let start = self.pos;
            let mut operator = None;
            match c {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.bump();
                    self.group.end_branch();
                }
                '[' => {
                    let class = self.class()?;
                    self.push_class(class);
                }
                '\\' => self.backslash()?,
                '*' | '+' | '?' => {
                    self.bump();
                    let counts = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(start, counts, previous)?;
                    operator = Some(start);
                }
                '{' => match self.counts()? {
                    Some(counts) => {
                        self.repeat(start, counts, previous)?;
                        operator = Some(start);
                    }
                    None => {
                        self.bump();
                        self.literal('{');
                    }
                },
                '^' | '$' | '.' => {
                    self.bump();
                    self.push_symbol(c);
                }
                c => {
                    self.bump();
                    self.literal(c);
                }
            }
            previous = operator;
        }
        if !self.outer.is_empty() {
            return Err(self.refuse("missing closing )", self.whole));
        }
        let item = self.group.finish();
        Ok(Parsed {
            node: item.node,
            names: self.names,
            sees_invalid: self.sees_invalid,
            has_not_boundary: self.has_not_boundary,
            has_assertion: self.has_assertion,
        })
    }

    fn rest(&self) -> &'a str {
        self.text(self.pos, self.whole.len())
    }

    fn text(&self, from: usize, to: usize) -> &'a str {
        self.whole.get(from..to).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    /// An error in the words of Go's `regexp/syntax`.
    fn refuse(&self, what: &str, excerpt: &str) -> Error {
        Error::invalid(format!("error parsing regexp: {what}: `{excerpt}`"))
    }

    fn too_deep(&self) -> Error {
        Error::new(
            Kind::Limit,
            format!(
                "error parsing regexp: expression nests too deeply: `{}`",
                self.whole
            ),
        )
    }

    fn literal(&mut self, c: char) {
        self.sees_invalid |= c == char::REPLACEMENT_CHARACTER;
        let fold = self.flags.fold && c.is_alphabetic();
        self.group.items.push(Item::leaf(Node::Literal {
            text: c.into(),
            fold,
        }));
    }

    fn push_class(&mut self, class: Class) {
        self.sees_invalid |= class.may_match_replacement();
        self.group.items.push(Item::leaf(Node::Class(class)));
    }

    fn push_assert(&mut self, assert: Assert) {
        self.has_assertion = true;
        if assert == Assert::NotWordBoundary {
            // It holds between any two bytes that are not UTF-8.
            self.sees_invalid = true;
            self.has_not_boundary = true;
        }
        self.group.items.push(Item::leaf(Node::Assert(assert)));
    }

    fn push_symbol(&mut self, c: char) {
        match (c, self.flags.multi_line) {
            ('^', false) => self.push_assert(Assert::TextStart),
            ('^', true) => self.push_assert(Assert::LineStart),
            ('$', false) => self.push_assert(Assert::TextEnd),
            ('$', true) => self.push_assert(Assert::LineEnd),
            _ => {
                self.sees_invalid = true;
                let newline = self.flags.dot_newline;
                self.group.items.push(Item::leaf(Node::Any { newline }));
            }
        }
    }

    /// At a `(`.
    fn open(&mut self) -> Result<()> {
        let start = self.pos;
        let before = self.flags;
        self.bump();
        let rest = self.rest();
        let named = rest.strip_prefix("?P<").or_else(|| rest.strip_prefix("?<"));
        let opening = if named.is_some_and(|name| !name.is_empty()) {
            self.capture_name(start)?;
            Some(Opening::Capture)
        } else if rest.starts_with('?') {
            self.bump();
            self.group_flags(start)?
        } else {
            self.names.push(None);
            Some(Opening::Capture)
        };
        let Some(opening) = opening else {
            return Ok(());
        };
        let group = std::mem::replace(&mut self.group, Group::new(opening, before));
        self.outer.push(group);
        if self.outer.len() >= NESTING_MAX as usize {
            return Err(self.too_deep());
        }
        Ok(())
    }

    /// After `(`, at `?P<name>` or `?<name>`.
    fn capture_name(&mut self, start: usize) -> Result<()> {
        let Some((head, _)) = self.rest().split_once('>') else {
            return Err(self.refuse("invalid named capture", self.text(start, self.whole.len())));
        };
        let name = head.split_once('<').map_or("", |(_, name)| name);
        self.pos += head.len() + 1;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(self.refuse("invalid named capture", self.text(start, self.pos)));
        }
        self.names.push(Some(name.to_owned()));
        Ok(())
    }

    /// After `(?`: flags up to `)`, which hold from here on, or up to `:`, which open a group.
    fn group_flags(&mut self, start: usize) -> Result<Option<Opening>> {
        let mut flags = self.flags;
        let (mut value, mut flag_seen) = (true, false);
        loop {
            let c = self.bump();
            match c {
                Some('i') => flags.fold = value,
                Some('m') => flags.multi_line = value,
                Some('s') => flags.dot_newline = value,
                Some('U') => flags.swap_greed = value,
                Some('-') if value => value = false,
                Some(':' | ')') if value || flag_seen => {
                    self.flags = flags;
                    return Ok((c == Some(':')).then_some(Opening::Plain));
                }
                _ => {
                    let excerpt = self.text(start, self.pos);
                    return Err(self.refuse("invalid or unsupported Perl syntax", excerpt));
                }
            }
            flag_seen = c != Some('-');
        }
    }

    /// At a `)`.
    fn close(&mut self) -> Result<()> {
        let Some(outer) = self.outer.pop() else {
            return Err(self.refuse("unexpected )", self.whole));
        };
        self.bump();
        let group = std::mem::replace(&mut self.group, outer);
        self.flags = group.flags;
        let capture = group.opening == Opening::Capture;
        let item = group.finish();
        let node = Node::Group {
            node: Box::new(item.node),
            capture,
        };
        self.push_outer(node, item.repeats, item.height)
    }

    /// Adds a piece that encloses another of this height.
    fn push_outer(&mut self, node: Node, repeats: u32, height: u32) -> Result<()> {
        if height >= NESTING_MAX {
            return Err(self.too_deep());
        }
        self.group.items.push(Item {
            node,
            repeats,
            height: height + 1,
        });
        Ok(())
    }

    /// After a repetition operator that began at `start`.
    fn repeat(
        &mut self,
        start: usize,
        (min, max): (u32, Option<u32>),
        previous: Option<usize>,
    ) -> Result<()> {
        let mut greedy = !self.flags.swap_greed;
        if self.peek() == Some('?') {
            self.bump();
            greedy = !greedy;
        }
        let operator = self.text(start, self.pos);
        if let Some(previous) = previous {
            let both = self.text(previous, self.pos);
            return Err(self.refuse("invalid nested repetition operator", both));
        }
        let Some(item) = self.group.items.pop() else {
            return Err(self.refuse("missing argument to repetition operator", operator));
        };
        let mut repeats = item.repeats;
        if operator.starts_with('{') {
            // A count of zero leaves nothing of what is inside.
            repeats = match max.unwrap_or(min) {
                0 if max.is_some() => 1,
                0 => repeats,
                count => repeats.saturating_mul(count),
            };
            if (min >= 2 || max.is_some_and(|max| max >= 2)) && repeats > REPEAT_MAX {
                return Err(self.refuse("invalid repeat count", operator));
            }
        }
        let node = Node::Repeat {
            node: Box::new(item.node),
            min,
            max,
            greedy,
        };
        self.push_outer(node, repeats, item.height)
    }

    /// At a `{`: the counts and the cursor behind `}`, or `None` when it is a literal brace.
    fn counts(&mut self) -> Result<Option<(u32, Option<u32>)>> {
        let Some((inside, _)) = self.rest().get(1..).and_then(|rest| rest.split_once('}')) else {
            return Ok(None);
        };
        let (min, max) = match inside.split_once(',') {
            None => (count(inside), None),
            Some((min, "")) => (count(min), None),
            Some((min, max)) => {
                let max = count(max);
                if max.is_none() {
                    return Ok(None);
                }
                (count(min), max)
            }
        };
        let Some(min) = min else { return Ok(None) };
        let start = self.pos;
        self.pos += inside.len() + 2;
        let max = if inside.contains(',') { max } else { Some(min) };
        if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
            return Err(self.refuse("invalid repeat count", self.text(start, self.pos)));
        }
        Ok(Some((min, max)))
    }

    /// At a `\` outside a class.
    fn backslash(&mut self) -> Result<()> {
        let start = self.pos;
        let assert = match self.rest().as_bytes().get(1) {
            Some(b'A') => Some(Assert::TextStart),
            Some(b'z') => Some(Assert::TextEnd),
            Some(b'b') => Some(Assert::WordBoundary),
            Some(b'B') => Some(Assert::NotWordBoundary),
            Some(b'Q') => {
                let quoted = self.rest().get(2..).unwrap_or("");
                let (text, skip) = match quoted.split_once("\\E") {
                    Some((text, _)) => (text, 4),
                    None => (quoted, 2),
                };
                self.pos += text.len() + skip;
                text.chars().for_each(|c| self.literal(c));
                return Ok(());
            }
            _ => None,
        };
        if let Some(assert) = assert {
            self.pos += 2;
            self.push_assert(assert);
            return Ok(());
        }
        let mut class = Class {
            fold: self.flags.fold,
            ..Class::default()
        };
        if self.named_escape(&mut class)? {
            self.push_class(class);
            return Ok(());
        }
        self.bump();
        let code = self.escape(start)?;
        match char::from_u32(code) {
            Some(c) => self.literal(c),
            // A surrogate, which no text holds: the empty class.
            None => self.push_class(Class::default()),
        }
        Ok(())
    }
}

/// A count in braces: digits without a leading zero. A number too large for `u32` is as refused as
/// any above [`REPEAT_MAX`].
fn count(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    (digits && canonical).then(|| text.parse().unwrap_or(u32::MAX))
}
