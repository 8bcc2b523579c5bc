//! Reads fields of a JSON line, for the `json` stage: streaming and lenient. What comes before a
//! mistake stays extracted, and nothing after the object's end is looked at.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::ControlFlow;

use super::labels::{Escapes, RowError, RowLabels};
use super::skeleton::{Skeleton, written};
use super::text::{find_quote, is_name, push_lossy, push_sanitized};
use crate::logql::source::STAND_IN;

/// Objects nested deeper than this are passed over.
pub(in crate::logql) const DEPTH_MAX: usize = 128;

const BAD_OBJECT: &str = "Value looks like object, but can't find closing '}' symbol";
const BAD_ARRAY: &str = "Value looks like array, but can't find closing ']' symbol";
const BAD_STRING: &str = "Value looks like string, but can't find closing '\"' symbol";
const BAD_JSON: &str = "Malformed JSON error";
const BAD_VALUE: &str = "Unknown value type";

/// Why a walk ended before the end of the line.
enum Stop {
    /// Everything wanted was found.
    Done,
    /// The line is not JSON from here on.
    Bad(&'static str),
}

type Walk<T> = Result<T, Stop>;

/// One value of a line; slices of it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    /// What is between the quotes.
    Text(&'a [u8]),
    /// A number or a boolean.
    Plain(&'a [u8]),
    /// What begins with a number or an id that was left out: a number, or a mistake.
    LeftOut(&'a [u8]),
    Null,
    /// With the braces.
    Object(&'a [u8]),
    /// With the brackets.
    Array(&'a [u8]),
}

/// Extracts all fields of the line; nested names are joined with `_`.
pub(in crate::logql) fn extract_all(line: &[u8], path: &mut String, labels: &mut RowLabels<'_>) {
    path.clear();
    let walk = if !labels.seek() {
        walk_object(line, path, 0, labels)
    } else if labels.may_skip(line, Escapes::Backslash) {
        return;
    } else {
        seek_members(line, path, labels)
    };
    if let Err(Stop::Bad(details)) = walk {
        labels.set_error(RowError::Json, details);
    }
}

/// As [`walk_object`] for the line itself, where few of the keys are wanted: these are looked up as
/// they are written.
fn seek_members(line: &[u8], path: &mut String, labels: &mut RowLabels<'_>) -> Walk<()> {
    let skeleton = labels.skeleton();
    each_member(line, skeleton, |key, value| {
        if !labels.may_begin(key) {
            return pass_over(value, skeleton);
        }
        let is_leaf = matches!(value, Value::Text(_) | Value::Plain(_) | Value::LeftOut(_));
        if !is_leaf || !is_name(key) {
            return visit_member((key, value), path, 0, labels);
        }
        match labels.sought(key) {
            Some(at) => take((value, skeleton), |write| labels.fill(at, write)),
            None => pass_over(value, skeleton),
        }
    })
}

/// Lets `set` have the text of a value, which it may not want.
fn take(
    (value, skeleton): (Value<'_>, Option<Skeleton<'_>>),
    set: impl FnOnce(&mut dyn FnMut(&mut String)) -> ControlFlow<()>,
) -> Walk<()> {
    let mut is_taken = false;
    let flow = set(&mut |text| {
        is_taken = true;
        push_value(text, value, skeleton);
    });
    if !is_taken {
        pass_over(value, skeleton)?;
    }
    go_on(flow)
}

/// Passes over a value that nobody wants, unless it is a mistake.
fn pass_over(value: Value<'_>, skeleton: Option<Skeleton<'_>>) -> Walk<()> {
    let Value::LeftOut(raw) = value else {
        return Ok(());
    };
    let first = raw.get(..1).unwrap_or_default();
    let is_number = written(skeleton, first, |first| {
        first.first().is_some_and(u8::is_ascii_digit)
    });
    match is_number {
        true => Ok(()),
        false => Err(Stop::Bad(BAD_VALUE)),
    }
}

fn walk_object(
    object: &[u8],
    path: &mut String,
    depth: usize,
    labels: &mut RowLabels<'_>,
) -> Walk<()> {
    each_member(object, labels.skeleton(), |key, value| {
        visit_member((key, value), path, depth, labels)
    })
}

fn visit_member(
    (key, value): (&[u8], Value<'_>),
    path: &mut String,
    depth: usize,
    labels: &mut RowLabels<'_>,
) -> Walk<()> {
    let parent = path.len();
    let at = parent + usize::from(parent > 0);
    let skeleton = labels.skeleton();
    if !labels.wanted().may_go_on(at, key) {
        return pass_over(value, skeleton);
    }
    written(skeleton, key, |key| push_member(path, key));
    let flow = match value {
        Value::Object(inner) if depth < DEPTH_MAX => walk_object(inner, path, depth + 1, labels),
        Value::Null | Value::Array(_) | Value::Object(_) => Ok(()),
        Value::Text(_) | Value::Plain(_) | Value::LeftOut(_) => {
            take((value, skeleton), |write| labels.extract(path, write))
        }
    };
    path.truncate(parent);
    flow
}

fn go_on(flow: ControlFlow<()>) -> Walk<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Stop::Done),
    }
}

/// Adds a key to the path, in the characters that a label name may have.
fn push_member(path: &mut String, key: &[u8]) {
    let parent = path.len();
    if parent > 0 {
        path.push('_');
    }
    let start = path.len();
    if key.contains(&b'\\') {
        let mut unescaped = String::new();
        push_unescaped(&mut unescaped, key);
        push_sanitized(path, unescaped.as_bytes(), parent == 0);
    } else {
        push_sanitized(path, key, parent == 0);
    }
    if path.len() == start {
        path.truncate(parent);
    }
}

fn push_value(text: &mut String, value: Value<'_>, skeleton: Option<Skeleton<'_>>) {
    match value {
        Value::Text(raw) => written(skeleton, raw, |raw| match raw.contains(&b'\\') {
            true => push_unescaped(text, raw),
            false => push_lossy(text, raw),
        }),
        Value::Plain(raw) | Value::Object(raw) | Value::Array(raw) => {
            written(skeleton, raw, |raw| push_lossy(text, raw));
        }
        Value::LeftOut(raw) => written(skeleton, raw, |raw| {
            if !raw.first().is_some_and(u8::is_ascii_digit) {
                skeleton.into_iter().for_each(Skeleton::is_unclear);
            }
            push_lossy(text, raw);
        }),
        Value::Null => {}
    }
}

/// Calls `visit` with each member of the object that `bytes` begin with. A comma before the
/// closing brace is let pass.
fn each_member<'a>(
    bytes: &'a [u8],
    skeleton: Option<Skeleton<'_>>,
    mut visit: impl FnMut(&'a [u8], Value<'a>) -> Walk<()>,
) -> Walk<()> {
    let mut rest = skip_blanks(bytes)
        .strip_prefix(b"{")
        .ok_or(Stop::Bad(BAD_OBJECT))?;
    loop {
        rest = skip_blanks(rest);
        match rest.first() {
            Some(b'}') => return Ok(()),
            Some(b'"') => {}
            Some(_) => return Err(Stop::Bad(BAD_JSON)),
            None => return Err(Stop::Bad(BAD_OBJECT)),
        }
        let (key, after) = take_string(rest)?;
        let after = skip_blanks(after)
            .strip_prefix(b":")
            .ok_or(Stop::Bad(BAD_JSON))?;
        let (value, after) = take_value(skip_blanks(after), skeleton)?;
        visit(key, value)?;
        rest = skip_blanks(after);
        match rest.split_first() {
            Some((b',', after)) => rest = after,
            Some((b'}', _)) => return Ok(()),
            Some(_) => return Err(Stop::Bad(BAD_JSON)),
            None => return Err(Stop::Bad(BAD_OBJECT)),
        }
    }
}

#[inline]
fn skip_blanks(bytes: &[u8]) -> &[u8] {
    match bytes.first() {
        Some(first) if *first > b' ' => bytes,
        _ => bytes.trim_ascii_start(),
    }
}

/// Splits a string off the front of `bytes`, which begin with its quote.
#[inline]
fn take_string(bytes: &[u8]) -> Walk<(&[u8], &[u8])> {
    let body = bytes.get(1..).unwrap_or(&[]);
    let mut from = 0;
    while let Some(found) = find_quote(body.get(from..).unwrap_or(&[])) {
        let at = from + found;
        if body.get(at) == Some(&b'"') {
            let (text, after) = body.split_at_checked(at).ok_or(Stop::Bad(BAD_STRING))?;
            return Ok((text, after.get(1..).unwrap_or(&[])));
        }
        from = at + 2;
    }
    Err(Stop::Bad(BAD_STRING))
}

fn take_value<'a>(bytes: &'a [u8], skeleton: Option<Skeleton<'_>>) -> Walk<(Value<'a>, &'a [u8])> {
    match bytes.first() {
        Some(b'"') => {
            let (text, after) = take_string(bytes)?;
            Ok((Value::Text(text), after))
        }
        Some(b'{') => {
            let (block, after) = take_block(bytes, b'{', b'}').ok_or(Stop::Bad(BAD_OBJECT))?;
            Ok((Value::Object(block), after))
        }
        Some(b'[') => {
            let (block, after) = take_block(bytes, b'[', b']').ok_or(Stop::Bad(BAD_ARRAY))?;
            Ok((Value::Array(block), after))
        }
        Some(_) => {
            let is_end =
                |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
            let len = bytes.iter().position(is_end).unwrap_or(bytes.len());
            let (plain, after) = bytes.split_at_checked(len).ok_or(Stop::Bad(BAD_VALUE))?;
            match plain {
                [b'-' | b'0'..=b'9', ..] => Ok((Value::Plain(plain), after)),
                b"null" => Ok((Value::Null, after)),
                b"true" | b"false" => Ok((Value::Plain(plain), after)),
                [STAND_IN, ..] if skeleton.is_some() => Ok((Value::LeftOut(plain), after)),
                _ => Err(Stop::Bad(BAD_VALUE)),
            }
        }
        None => Err(Stop::Bad(BAD_VALUE)),
    }
}

/// Splits a bracketed block off the front of `bytes`.
fn take_block(bytes: &[u8], open: u8, close: u8) -> Option<(&[u8], &[u8])> {
    let mut depth = 0usize;
    let mut from = 0;
    while let Some(found) = memchr::memchr3(b'"', open, close, bytes.get(from..)?) {
        let at = from + found;
        let byte = *bytes.get(at)?;
        if byte == b'"' {
            let (_, after) = take_string(bytes.get(at..)?).ok()?;
            from = bytes.len() - after.len();
            continue;
        }
        from = at + 1;
        depth = if byte == open {
            depth + 1
        } else {
            depth.checked_sub(1)?
        };
        if depth == 0 {
            return bytes.split_at_checked(from);
        }
    }
    None
}

/// Appends the text that an escaped string stands for; a bad escape makes all of it empty.
fn push_unescaped(text: &mut String, raw: &[u8]) {
    let start = text.len();
    if push_escapes(text, raw).is_none() {
        text.truncate(start);
    }
}

fn push_escapes(text: &mut String, raw: &[u8]) -> Option<()> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        push_lossy(text, rest.get(..at)?);
        let escape = *rest.get(at + 1)?;
        rest = rest.get(at + 2..)?;
        text.push(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (character, after) = take_unicode(rest)?;
                rest = after;
                character
            }
            _ => return None,
        });
    }
    push_lossy(text, rest);
    Some(())
}

/// The character of `\uXXXX`, or of a surrogate pair of them, after the first `\u`.
fn take_unicode(rest: &[u8]) -> Option<(char, &[u8])> {
    let unit = |bytes: &[u8]| -> Option<u32> {
        let digits = bytes
            .get(..4)
            .filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let high = unit(rest)?;
    let after = rest.get(4..)?;
    if !(0xd800..0xdc00).contains(&high) {
        return Some((char::from_u32(high).unwrap_or(' '), after));
    }
    let Some(low) = after.strip_prefix(b"\\u") else {
        return Some((' ', after));
    };
    let low_unit = unit(low)?;
    if !(0xdc00..0xe000).contains(&low_unit) {
        return Some((' ', after));
    }
    let code = 0x10000 + ((high - 0xd800) << 10) + (low_unit - 0xdc00);
    Some((char::from_u32(code).unwrap_or(' '), low.get(4..)?))
}

/// The member of a packed line that holds the line itself.
const PACKED_ENTRY: &[u8] = b"_entry";

const NOT_PACKED: &str = "expecting json object(6), but it is not";

/// Reads a line that was packed: the texts of its object become labels, and what stood in
/// `_entry` is written to `entry`. Whether there was such a member; without it nothing happens.
pub(in crate::logql) fn unpack(
    line: &[u8],
    name: &mut String,
    entry: &mut Vec<u8>,
    labels: &mut RowLabels<'_>,
) -> bool {
    if line.is_empty() {
        return false;
    }
    if line.first() != Some(&b'{') {
        labels.set_error(RowError::Json, NOT_PACKED);
        return false;
    }
    let mut packed = None;
    let read = each_member(line, None, |key, value| {
        if let (PACKED_ENTRY, Value::Text(text)) = (key, value) {
            packed = Some(text);
        }
        Ok(())
    });
    if let Err(Stop::Bad(details)) = read {
        labels.set_error(RowError::Json, details);
        return false;
    }
    let Some(packed) = packed else {
        return false;
    };
    // The whole object has been read once: this walk meets no mistake.
    let walk = each_member(line, None, |key, value| {
        if !matches!(value, Value::Text(_)) || key == PACKED_ENTRY {
            return Ok(());
        }
        name.clear();
        push_member(name, key);
        go_on(labels.extract(name, |text| push_value(text, value, None)))
    });
    debug_assert!(matches!(walk, Ok(()) | Err(Stop::Done)), "read before");
    name.clear();
    push_value(name, Value::Text(packed), None);
    entry.clear();
    entry.extend_from_slice(name.as_bytes());
    true
}

/// One step of a path into a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::logql) enum Step {
    Member(String),
    Element(usize),
}

/// `label="path"` of a `json` stage.
#[derive(Debug, Clone)]
pub(in crate::logql) struct Path {
    pub(in crate::logql) label: String,
    pub(in crate::logql) steps: Vec<Step>,
}

/// Sets the label of each path to what the line has there, or to nothing.
pub(in crate::logql) fn extract_paths(line: &[u8], paths: &[Path], labels: &mut RowLabels<'_>) {
    if line.is_empty() {
        return;
    }
    if skip_blanks(line).first() != Some(&b'{') {
        labels.set_error(RowError::Json, "");
        return;
    }
    for path in paths {
        let value = find_path(line, &path.steps);
        let flow = labels.extract(&path.label, |text| {
            if let Some(value) = value {
                push_value(text, value, None);
            }
        });
        if flow.is_break() {
            return;
        }
    }
}

fn find_path<'a>(line: &'a [u8], steps: &[Step]) -> Option<Value<'a>> {
    let (mut value, _) = match take_value(skip_blanks(line), None) {
        Ok(found) => found,
        // The object may be cut: what is in front of the cut can still be found.
        Err(_) => (Value::Object(line), line),
    };
    for step in steps {
        value = match (step, value) {
            (Step::Member(name), Value::Object(object)) => find_member(object, name)?,
            (Step::Element(index), Value::Array(array)) => find_element(array, *index)?,
            _ => return None,
        };
    }
    Some(value)
}

fn find_member<'a>(object: &'a [u8], name: &str) -> Option<Value<'a>> {
    let mut found = None;
    let walk = each_member(object, None, |key, value| {
        let same = if key.contains(&b'\\') {
            let mut unescaped = String::new();
            push_unescaped(&mut unescaped, key);
            unescaped == name
        } else {
            key == name.as_bytes()
        };
        if same {
            found = Some(value);
            return Err(Stop::Done);
        }
        Ok(())
    });
    match walk {
        // A mistake after the member does not matter, and one before it hides it.
        Ok(()) | Err(Stop::Done | Stop::Bad(_)) => found,
    }
}

fn find_element(array: &[u8], index: usize) -> Option<Value<'_>> {
    let mut rest = skip_blanks(array.strip_prefix(b"[")?);
    let mut at = 0;
    loop {
        let (value, after) = take_value(rest, None).ok()?;
        if at == index {
            return Some(value);
        }
        at += 1;
        rest = skip_blanks(skip_blanks(after).strip_prefix(b",")?);
    }
}

/// Reads a path such as `a.b[0]["c d"]`. The empty text is the path to the whole line.
///
/// # Errors
/// A syntax error in the words that the stage's users know.
pub(in crate::logql) fn parse_path(text: &str) -> Result<Vec<Step>, String> {
    let tokens = path_tokens(text)?;
    let mut tokens = tokens.into_iter();
    let mut steps = Vec::new();
    let mut first = true;
    let unexpected = |token: Option<PathToken>, expected: &str| {
        let name = token.map_or("$end", |token| token.name());
        let comma = if expected.is_empty() {
            ""
        } else {
            ", expecting "
        };
        Err(format!("syntax error: unexpected {name}{comma}{expected}"))
    };
    while let Some(token) = tokens.next() {
        match token {
            PathToken::Field(name) if first => steps.push(Step::Member(name)),
            PathToken::Dot if !first => match tokens.next() {
                Some(PathToken::Field(name)) => steps.push(Step::Member(name)),
                other => return unexpected(other, "FIELD"),
            },
            PathToken::Open => {
                match tokens.next() {
                    Some(PathToken::Text(name)) => steps.push(Step::Member(name)),
                    Some(PathToken::Index(index)) => steps.push(Step::Element(index)),
                    other => return unexpected(other, "STRING or INDEX"),
                }
                match tokens.next() {
                    Some(PathToken::Close) => {}
                    other => return unexpected(other, "RSB"),
                }
            }
            other if first => return unexpected(Some(other), "LSB or FIELD"),
            other => return unexpected(Some(other), ""),
        }
        first = false;
    }
    Ok(steps)
}

enum PathToken {
    Field(String),
    Text(String),
    Index(usize),
    Dot,
    Open,
    Close,
}

impl PathToken {
    fn name(&self) -> &'static str {
        match self {
            Self::Field(_) => "FIELD",
            Self::Text(_) => "STRING",
            Self::Index(_) => "INDEX",
            Self::Dot => "DOT",
            Self::Open => "LSB",
            Self::Close => "RSB",
        }
    }
}

fn path_tokens(text: &str) -> Result<Vec<PathToken>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '$');
        let len = match first {
            '.' | '[' | ']' => {
                tokens.push(match first {
                    '.' => PathToken::Dot,
                    '[' => PathToken::Open,
                    _ => PathToken::Close,
                });
                1
            }
            '"' => {
                // Text without its closing quote ends with the path.
                let cut = rest.get(1..).unwrap_or("").as_bytes();
                let (raw, after) = take_string(rest.as_bytes()).unwrap_or((cut, b""));
                let mut name = String::new();
                push_unescaped(&mut name, raw);
                tokens.push(PathToken::Text(name));
                rest.len() - after.len()
            }
            c if c.is_ascii_digit() && matches!(tokens.last(), Some(PathToken::Open)) => {
                let len = rest
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(rest.len());
                let digits = rest.get(..len).unwrap_or("");
                let index = digits.parse().map_err(|_| format!("bad index {digits}"))?;
                tokens.push(PathToken::Index(index));
                len
            }
            c if is_name(c) => {
                let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                tokens.push(PathToken::Field(rest.get(..len).unwrap_or("").to_owned()));
                len
            }
            c => return Err(format!("unexpected char {c}")),
        };
        rest = rest.get(len..).unwrap_or("").trim_start();
    }
    Ok(tokens)
}
