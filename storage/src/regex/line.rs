//! Expressions over log lines, with captures and templates: line filters, the `regexp` stage and
//! `label_replace` call them.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use regex::bytes::{CaptureLocations, Regex};

use super::label::anchored;
use super::literals::{self, Required};
use super::parser::{self, Parsed};
use super::{Dot, compile, syntax};
use crate::error::Result;

/// An expression that may match anywhere in a line of bytes; `.` does not match a newline.
///
/// As in Go, a byte that is not part of a valid UTF-8 sequence is one character, U+FFFD.
#[derive(Debug, Clone)]
pub struct LineRegex {
    regex: Regex,
    pattern: Box<str>,
    names: Vec<Option<String>>,
    /// Whether the pattern can tell bytes that are not UTF-8 from others, so that lines must be
    /// checked for them.
    sees_invalid: bool,
    /// Whether a match must be looked at for [`splits_character`]. Implies `sees_invalid`, so that
    /// the text is valid UTF-8 then.
    has_not_boundary: bool,
    /// Whether a match depends on what lies around it.
    has_assertion: bool,
    required: Arc<Required>,
}

/// Equal when written alike (and made by the same constructor).
impl PartialEq for LineRegex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern && self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for LineRegex {}

/// Where the capture groups of one match are. Kept by the caller, so that a scan allocates once.
#[derive(Debug, Clone)]
pub struct Locations {
    slots: CaptureLocations,
    /// Offsets, in the text that was searched, of characters that stand for one invalid byte.
    replaced: Vec<usize>,
}

impl LineRegex {
    /// Compiles `pattern`, not anchored.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) when Go would refuse it, in Go's words;
    /// [`Kind::Limit`](crate::Kind::Limit) when it is too long, too deep or too large.
    pub fn new(pattern: &str) -> Result<Self> {
        let parsed = parser::parse(pattern, Dot::NotNewline)?;
        let regex = compile(&syntax::emit(&parsed.node), pattern)?;
        Ok(Self::with(regex, parsed, pattern))
    }

    /// Compiles `pattern` as `^(?s:pattern)$`: the whole text must match and `.` matches newlines,
    /// as `label_replace` wants it.
    ///
    /// # Errors
    /// As [`LineRegex::new`].
    pub fn anchored(pattern: &str) -> Result<Self> {
        let parsed = parser::parse(pattern, Dot::AnyChar)?;
        let regex = compile(&anchored(&syntax::emit(&parsed.node)), pattern)?;
        Ok(Self::with(regex, parsed, pattern))
    }

    fn with(regex: Regex, parsed: Parsed, pattern: &str) -> Self {
        Self {
            regex,
            pattern: pattern.into(),
            names: parsed.names,
            sees_invalid: parsed.sees_invalid,
            has_not_boundary: parsed.has_not_boundary,
            has_assertion: parsed.has_assertion,
            required: Arc::new(literals::required(&parsed.node)),
        }
    }

    /// The pattern as it was given.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The names of the capture groups by number; number 0 is the whole match. Go allows a name to
    /// occur twice.
    pub fn capture_names(&self) -> &[Option<String>] {
        &self.names
    }

    /// What every line with a match contains, byte for byte. Bytes that are not UTF-8 are never part
    /// of it.
    pub fn required(&self) -> &Required {
        &self.required
    }

    /// Whether the line has a match.
    pub fn is_match(&self, line: &[u8]) -> bool {
        let (text, _) = self.searchable(line);
        if !self.has_not_boundary {
            return self.regex.is_match(&text);
        }
        let mut start = 0;
        while let Some(found) = self.regex.find_at(&text, start) {
            if !splits_character(&text, &found.range()) {
                return true;
            }
            start = found.end() + 1;
        }
        false
    }

    /// Where the leftmost match in `text` is, for callers that search many lines as one text:
    /// whatever matches within a line matches at the same place in the text. A match may reach over
    /// the end of a line, and is none then. `None` when this pattern cannot be searched so, because
    /// it looks at what lies around a match or at bytes of `text` that are not ASCII.
    pub fn searcher<'a>(
        &'a self,
        text: &'a [u8],
    ) -> Option<impl Fn(Range<usize>) -> Option<Range<usize>> + 'a> {
        let possible = !self.has_assertion && (!self.sees_invalid || text.is_ascii());
        possible.then_some(move |within: Range<usize>| {
            let start = within.start;
            let found = self.regex.find(text.get(within)?)?;
            Some(start + found.start()..start + found.end())
        })
    }

    /// Room for the captures of this expression.
    pub fn locations(&self) -> Locations {
        Locations {
            slots: self.regex.capture_locations(),
            replaced: Vec::new(),
        }
    }

    /// Finds the leftmost match and where its groups are. `locations` must come from this
    /// expression; without a match it holds nothing of use.
    pub fn captures(&self, line: &[u8], locations: &mut Locations) -> bool {
        let (text, replaced) = self.searchable(line);
        locations.replaced = replaced;
        let mut start = 0;
        while let Some(found) = self
            .regex
            .captures_read_at(&mut locations.slots, &text, start)
        {
            if !self.has_not_boundary || !splits_character(&text, &found.range()) {
                return true;
            }
            start = found.end() + 1;
        }
        false
    }

    /// Calls `visit` with the groups of each match from left to right until it gives false. As in Go
    /// an empty match right after another match is none. `locations` must come from this expression.
    pub fn each_match(
        &self,
        line: &[u8],
        locations: &mut Locations,
        mut visit: impl FnMut(&Locations) -> bool,
    ) {
        let (text, replaced) = self.searchable(line);
        locations.replaced = replaced;
        let (mut start, mut last_end) = (0, None);
        while start <= text.len() {
            let Some(found) = self
                .regex
                .captures_read_at(&mut locations.slots, &text, start)
                .map(|found| found.range())
            else {
                return;
            };
            if self.has_not_boundary && splits_character(&text, &found) {
                start = found.end + 1;
                continue;
            }
            let is_repeated = found.is_empty() && last_end == Some(found.end);
            if !is_repeated && !visit(locations) {
                return;
            }
            start = found.end;
            if found.is_empty() {
                // On to the next character.
                let rest = text.get(start + 1..).unwrap_or_default();
                start += 1 + rest.iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
            }
            last_end = Some(found.end);
        }
    }

    /// The line with each invalid byte replaced by U+FFFD, if the pattern can tell, and where.
    fn searchable<'t>(&self, line: &'t [u8]) -> (Cow<'t, [u8]>, Vec<usize>) {
        if !self.sees_invalid || std::str::from_utf8(line).is_ok() {
            return (Cow::Borrowed(line), Vec::new());
        }
        let mut text = Vec::with_capacity(line.len() + 16);
        let mut replaced = Vec::new();
        for chunk in line.utf8_chunks() {
            text.extend_from_slice(chunk.valid().as_bytes());
            for _ in chunk.invalid() {
                replaced.push(text.len());
                text.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        (Cow::Owned(text), replaced)
    }
}

/// Whether a match in valid UTF-8 is empty and lies within a character. Go looks between
/// characters only; Rust's engine for bytes finds `\B` there too.
fn splits_character(text: &[u8], found: &Range<usize>) -> bool {
    // A match of one byte or more begins and ends with whole characters.
    found.is_empty()
        && text
            .get(found.start)
            .is_some_and(|byte| byte & 0xc0 == 0x80)
}

impl Locations {
    /// Where group `index` matched, in bytes of the line; `None` when it took no part.
    pub fn get(&self, index: usize) -> Option<Range<usize>> {
        let (start, end) = self.slots.get(index)?;
        Some(self.original(start)..self.original(end))
    }

    /// An offset in the searched text as an offset in the line: each replaced byte is two longer.
    fn original(&self, offset: usize) -> usize {
        offset - 2 * self.replaced.partition_point(|&replaced| replaced < offset)
    }
}

/// A replacement text with Go's references: `$1`, `$name`, `${1}`, `${name}`, `$$`.
///
/// A name is as long as possible (`$1x` is `${1x}`), a reference to a group that does not exist is
/// empty, a `$` that begins no reference is itself.
#[derive(Debug, Clone)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Literal(String),
    /// The first of these groups that took part.
    Groups(Vec<usize>),
}

impl Template {
    /// Parses `template` for the groups of `regex`.
    pub fn new(template: &str, regex: &LineRegex) -> Self {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
            } else if let Some((name, after)) = reference(after) {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                pieces.push(Piece::Groups(groups(name, regex)));
                rest = after;
            } else {
                literal.push('$');
                rest = after;
            }
        }
        literal.push_str(rest);
        pieces.push(Piece::Literal(literal));
        Self(pieces)
    }

    /// Appends the template to `out`, references replaced by what they matched in `line`.
    pub fn expand(&self, line: &[u8], locations: &Locations, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Groups(groups) => {
                    let range = groups.iter().find_map(|&group| locations.get(group));
                    out.extend_from_slice(range.and_then(|r| line.get(r)).unwrap_or_default());
                }
            }
        }
    }
}

/// Takes `name` or `{name}` off the front.
fn reference(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let inside = braced.unwrap_or(text);
    let end = inside.find(|c: char| !(c.is_alphabetic() || c.is_ascii_digit() || c == '_'));
    let (name, rest) = inside.split_at(end.unwrap_or(inside.len()));
    let rest = if braced.is_some() {
        rest.strip_prefix('}')?
    } else {
        rest
    };
    (!name.is_empty()).then_some((name, rest))
}

/// The groups that a name or a number means.
fn groups(name: &str, regex: &LineRegex) -> Vec<usize> {
    let number =
        name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if number {
        return name
            .parse()
            .ok()
            .filter(|&n| n < regex.names.len())
            .into_iter()
            .collect();
    }
    let named = |&(_, group): &(usize, &Option<String>)| group.as_deref() == Some(name);
    regex
        .names
        .iter()
        .enumerate()
        .filter(named)
        .map(|(index, _)| index)
        .collect()
}
