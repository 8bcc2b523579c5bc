//! Reads `key=value` pairs of a line, for the `logfmt` stage.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::ControlFlow;

use super::labels::{Escapes, RowError, RowLabels};
use super::skeleton::{Skeleton, written};
use super::text::{is_name, pair_end, push_lossy, push_sanitized};

/// How the stage reads a line.
#[derive(Debug, Clone, Copy)]
pub(in crate::logql) struct Options {
    /// Stop at the first bad pair.
    pub(in crate::logql) strict: bool,
    /// Keep keys without a value.
    pub(in crate::logql) keep_empty: bool,
}

/// `label="key"` of a `logfmt` stage.
#[derive(Debug, Clone)]
pub(in crate::logql) struct KeyLabel {
    pub(in crate::logql) label: String,
    pub(in crate::logql) key: String,
}

/// The value of a pair; a slice of the line.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    Empty,
    Plain(&'a [u8]),
    /// Between quotes, with escapes.
    Escaped(&'a [u8]),
}

struct Mistake {
    /// From 1.
    position: usize,
    what: &'static str,
}

impl Mistake {
    fn details(&self) -> String {
        format!(
            "logfmt syntax error at pos {} : {}",
            self.position, self.what
        )
    }
}

/// Extracts all pairs of the line.
pub(in crate::logql) fn extract_all(
    line: &[u8],
    name: &mut String,
    options: Options,
    labels: &mut RowLabels<'_>,
) {
    let seeks = labels.seek();
    if seeks && labels.may_skip(line, Escapes::None) {
        return;
    }
    let skeleton = labels.skeleton();
    let mistake = each_pair(line, skeleton, options.strict, |key, value| {
        let dropped = value == Value::Empty && !options.keep_empty;
        if dropped || (seeks && !labels.may_begin(key)) {
            return ControlFlow::Continue(());
        }
        if seeks && is_name(key) {
            return match labels.sought(key) {
                Some(at) => labels.fill(at, |text| push_value(text, value, skeleton)),
                None => ControlFlow::Continue(()),
            };
        }
        if !labels.wanted().may_go_on(0, key) {
            return ControlFlow::Continue(());
        }
        name.clear();
        written(skeleton, key, |key| push_sanitized(name, key, true));
        labels.extract(name, |text| push_value(text, value, skeleton))
    });
    if let Some(mistake) = mistake {
        // It tells its place in the line.
        skeleton.into_iter().for_each(Skeleton::is_unclear);
        labels.set_error(RowError::Logfmt, &mistake.details());
    }
}

/// Sets each label to the value of its key, or to nothing.
pub(in crate::logql) fn extract_keys(
    line: &[u8],
    keys: &[KeyLabel],
    options: Options,
    labels: &mut RowLabels<'_>,
) {
    let mut flow = ControlFlow::Continue(());
    let mistake = each_pair(line, None, options.strict, |key, value| {
        for wish in keys.iter().filter(|wish| wish.key.as_bytes() == key) {
            flow = labels.extract(&wish.label, |text| push_value(text, value, None));
        }
        flow
    });
    if let Some(mistake) = mistake {
        labels.set_error(RowError::Logfmt, &mistake.details());
        return;
    }
    for wish in keys {
        // A label that is set already keeps its value.
        if labels.extract(&wish.label, |_| {}).is_break() {
            return;
        }
    }
}

fn push_value(text: &mut String, value: Value<'_>, skeleton: Option<Skeleton<'_>>) {
    match value {
        Value::Empty => {}
        Value::Plain(raw) => written(skeleton, raw, |raw| push_lossy(text, raw)),
        Value::Escaped(raw) => written(skeleton, raw, |raw| push_unquoted(text, raw)),
    }
}

/// Calls `visit` with each pair until it breaks. Bad pairs are passed over, or end the walk when
/// it is strict.
fn each_pair<'a>(
    line: &'a [u8],
    skeleton: Option<Skeleton<'_>>,
    strict: bool,
    mut visit: impl FnMut(&'a [u8], Value<'a>) -> ControlFlow<()>,
) -> Option<Mistake> {
    let mut at = 0;
    loop {
        at += run(line, at, |byte| byte <= b' ');
        if at >= line.len() {
            return None;
        }
        match take_pair(line, skeleton, at) {
            Ok((key, value, end)) => {
                at = end;
                if visit(key, value).is_break() {
                    return None;
                }
            }
            Err(mistake) if strict => return Some(mistake),
            Err(mistake) => {
                at = mistake.position.max(at + 1) - 1;
                at += run(line, at, |byte| byte > b' ');
            }
        }
    }
}

/// How many bytes from `at` on satisfy `wanted`.
fn run(line: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> usize {
    let rest = line.get(at..).unwrap_or(&[]);
    rest.iter()
        .position(|byte| !wanted(*byte))
        .unwrap_or(rest.len())
}

type Pair<'a> = (&'a [u8], Value<'a>, usize);

fn take_pair<'a>(
    line: &'a [u8],
    skeleton: Option<Skeleton<'_>>,
    start: usize,
) -> Result<Pair<'a>, Mistake> {
    let mistake = |at: usize, what| Mistake {
        position: at + 1,
        what,
    };
    let end = pair_end(line, start);
    let key = line.get(start..end).unwrap_or(&[]);
    match line.get(end) {
        Some(b'"') => return Err(mistake(end, "unexpected '\"'")),
        Some(b'=') if key.is_empty() => return Err(mistake(end, "unexpected '='")),
        _ => {}
    }
    let is_bad = |key: &[u8]| std::str::from_utf8(key).map_or(true, |key| key.contains('\u{fffd}'));
    if !key.is_ascii() && written(skeleton, key, is_bad) {
        return Err(mistake(end, "invalid key"));
    }
    if line.get(end) != Some(&b'=') {
        return Ok((key, Value::Empty, end));
    }
    let from = end + 1;
    if line.get(from) == Some(&b'"') {
        let (value, end) = take_quoted(line, from).ok_or(mistake(line.len(), UNTERMINATED))?;
        return Ok((key, value, end));
    }
    let end = pair_end(line, from);
    match line.get(end) {
        Some(b'=') => Err(mistake(end, "unexpected '='")),
        Some(b'"') => Err(mistake(end, "unexpected '\"'")),
        _ if end == from => Ok((key, Value::Empty, end)),
        _ => Ok((key, Value::Plain(line.get(from..end).unwrap_or(&[])), end)),
    }
}

const UNTERMINATED: &str = "unterminated quoted value";

/// The quoted value whose first quote is at `start`, and where it ends.
fn take_quoted(line: &[u8], start: usize) -> Option<(Value<'_>, usize)> {
    let mut at = start + 1;
    let mut escaped = false;
    loop {
        at += memchr::memchr2(b'"', b'\\', line.get(at..)?)?;
        if line.get(at) == Some(&b'"') {
            break;
        }
        escaped = true;
        at += 2;
    }
    let raw = line.get(start + 1..at)?;
    let value = match (raw.is_empty(), escaped) {
        (true, _) => Value::Empty,
        (false, true) => Value::Escaped(raw),
        (false, false) => Value::Plain(raw),
    };
    Some((value, at + 1))
}

/// Appends a quoted value without its escapes; an unknown escape stays as it is.
fn push_unquoted(text: &mut String, raw: &[u8]) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        push_lossy(text, rest.get(..at).unwrap_or(&[]));
        let Some(escape) = rest.get(at + 1) else {
            return;
        };
        let mut used = 2;
        match escape {
            b'"' | b'\\' | b'/' | b'\'' => text.push(char::from(*escape)),
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            b'n' => text.push('\n'),
            b'r' => text.push('\r'),
            b't' => text.push('\t'),
            b'u' => {
                let digits = rest
                    .get(at + 2..at + 6)
                    .filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))
                    .and_then(|hex| std::str::from_utf8(hex).ok());
                let code = digits.and_then(|hex| u32::from_str_radix(hex, 16).ok());
                text.push(code.and_then(char::from_u32).unwrap_or(' '));
                used = 6;
            }
            other => {
                text.push('\\');
                push_lossy(text, &[*other]);
            }
        }
        rest = rest.get(at + used..).unwrap_or(&[]);
    }
    push_lossy(text, rest);
}
