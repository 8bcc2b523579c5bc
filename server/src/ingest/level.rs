//! The level of a log entry, found the way Loki finds it. `ingest::loki_push` and
//! `ingest::otlp_logs` add it to every entry as the structured metadata `detected_level`.

use std::borrow::Cow;

/// Labels and fields whose value is a level, the strongest first.
const NAMES: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

/// How deep in a JSON line a level is looked for.
const JSON_DEPTH_MAX: usize = 2;

/// The level's name when nothing tells it.
const UNKNOWN: &str = "unknown";

/// What is known about an entry besides its line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Looks up a stream label.
    pub labels: Option<&'a trine_storage::Labels>,
    /// Structured metadata; OTLP's severity number is one of it.
    pub metadata: &'a [(Cow<'a, str>, Cow<'a, str>)],
}

/// The level of an entry: from `detected_level` itself, from labels and metadata with a telling
/// name, from OTLP's number, from a field of the line, from a word in the line.
pub fn detect<'a>(known: &Known<'a>, line: &'a str) -> Cow<'a, str> {
    let of_metadata = |name: &str| {
        known
            .metadata
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| &**value)
    };
    if let Some(value) = of_metadata("detected_level") {
        return normalized(value);
    }
    let of_labels = |name: &str| known.labels.and_then(|labels| labels.get(name));
    let told = NAMES
        .iter()
        .find_map(|name| of_labels(name))
        .or_else(|| NAMES.iter().find_map(|name| of_metadata(name)));
    if let Some(value) = told.filter(|value| !value.is_empty()) {
        return normalized(value);
    }
    if let Some(number) = of_metadata("severity_number") {
        return Cow::Borrowed(of_severity(number));
    }
    Cow::Borrowed(of_line(line))
}

/// OTLP's ranges of severity numbers; what is no number counts as information.
fn of_severity(number: &str) -> &'static str {
    match number.parse::<i64>() {
        Ok(1..=4) => "trace",
        Ok(5..=8) => "debug",
        Ok(9..=12) => "info",
        Ok(13..=16) => "warn",
        Ok(17..=20) => "error",
        Ok(21..=24) => "fatal",
        Ok(_) => UNKNOWN,
        Err(_) => "info",
    }
}

/// A level by one of its spellings.
fn spelled(word: &str) -> Option<&'static str> {
    const SPELLINGS: [(&str, &str); 15] = [
        ("trace", "trace"),
        ("trc", "trace"),
        ("debug", "debug"),
        ("dbg", "debug"),
        ("info", "info"),
        ("inf", "info"),
        ("information", "info"),
        ("warn", "warn"),
        ("wrn", "warn"),
        ("warning", "warn"),
        ("error", "error"),
        ("err", "error"),
        ("critical", "critical"),
        ("fatal", "fatal"),
        ("unknown", "unknown"),
    ];
    SPELLINGS
        .iter()
        .find(|(spelling, _)| spelling.eq_ignore_ascii_case(word))
        .map(|(_, level)| *level)
}

/// A told level in its normal spelling; what is not recognised stays as it is.
fn normalized(value: &str) -> Cow<'_, str> {
    spelled(value).map_or(Cow::Borrowed(value), Cow::Borrowed)
}

fn of_line(line: &str) -> &'static str {
    let field = if let Some(open) = line.find('{')
        && line.rfind('}').is_some_and(|close| close > open)
    {
        json_field(line.get(open..).unwrap_or(""))
    } else if line.contains('=') {
        logfmt_field(line)
    } else {
        None
    };
    field
        .and_then(spelled)
        .unwrap_or_else(|| word(line).unwrap_or(UNKNOWN))
}

/// The string value of the first telling key, at most [`JSON_DEPTH_MAX`] objects deep. The line
/// need not be valid: what is read is what stands there.
fn json_field(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0usize);
    let mut key: Option<&str> = None;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                key = None;
            }
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                let end = string_end(bytes, at + 1)?;
                let string = text.get(at + 1..end)?;
                let colon = bytes
                    .get(end + 1..)?
                    .iter()
                    .find(|b| !b.is_ascii_whitespace());
                if colon == Some(&b':') {
                    key = Some(string);
                } else {
                    let telling = key.is_some_and(|key| NAMES.contains(&key));
                    if telling && depth <= JSON_DEPTH_MAX {
                        return Some(string);
                    }
                    key = None;
                }
                at = end;
            }
            b',' => key = None,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the string that begins at `at` ends: the index of its closing quote.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The value of the first telling key of a logfmt line.
fn logfmt_field(line: &str) -> Option<&str> {
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let end = rest.find(|c: char| c == '=' || c.is_ascii_whitespace())?;
        let (key, after) = rest.split_at(end);
        let Some(after) = after.strip_prefix('=') else {
            rest = after;
            continue;
        };
        let value = if let Some(quoted) = after.strip_prefix('"') {
            let end = string_end(quoted.as_bytes(), 0)?;
            rest = quoted.get(end + 1..)?;
            quoted.get(..end)?
        } else {
            let end = after
                .find(|c: char| c.is_ascii_whitespace())
                .unwrap_or(after.len());
            rest = after.get(end..)?;
            after.get(..end)?
        };
        if NAMES.contains(&key) {
            return Some(value);
        }
    }
}

/// The first word of the line that is a level.
fn word(line: &str) -> Option<&'static str> {
    const WORDS: [(&[u8], &str); 9] = [
        (b"trace", "trace"),
        (b"debug", "debug"),
        (b"fatal", "fatal"),
        (b"critical", "critical"),
        (b"error", "error"),
        (b"err", "error"),
        (b"warning", "warn"),
        (b"warn", "warn"),
        (b"info", "info"),
    ];
    let bytes = line.as_bytes();
    let mut before = b' ';
    for (at, &byte) in bytes.iter().enumerate() {
        let starts = is_left_boundary(before)
            && matches!(
                byte.to_ascii_lowercase(),
                b't' | b'd' | b'f' | b'c' | b'e' | b'w' | b'i'
            );
        before = byte;
        if !starts {
            continue;
        }
        for (word, level) in WORDS {
            let found = bytes
                .get(at..at + word.len())
                .is_some_and(|w| w.eq_ignore_ascii_case(word));
            if found
                && bytes
                    .get(at + word.len())
                    .is_none_or(|&after| is_right_boundary(after))
            {
                return Some(level);
            }
        }
    }
    None
}

fn is_left_boundary(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | b'\n' | b'\r' | b'[' | b'(' | b'{' | b'"' | b'\'' | b'=' | b'|'
    )
}

fn is_right_boundary(byte: u8) -> bool {
    is_left_boundary(byte) || matches!(byte, b']' | b')' | b'}' | b',' | b':' | b'!')
}

#[cfg(test)]
mod tests;
