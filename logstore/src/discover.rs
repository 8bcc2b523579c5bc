//! What can be told of an entry when it comes: its level and the service that wrote it. Servers ask
//! before they append; the store itself gives no name a meaning.
//!
//! This runs for every line of every sender, so that it must keep up with memory: what a stream's
//! labels tell is found once for the stream, and a line is gone through with searches for single
//! bytes, once for its fields and once for its words.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::borrow::Cow;

use memchr::{memchr, memchr2, memrchr};
use trine_storage::Labels;

/// The label that names the service.
pub const SERVICE_NAME: &str = "service_name";

/// The metadata that names the level.
pub const DETECTED_LEVEL: &str = "detected_level";

/// Labels from which the service is taken, the strongest first.
const SERVICE_NAMES: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

/// How deep in a JSON line a level is looked for.
const JSON_DEPTH_MAX: usize = 2;

/// The level's name when nothing tells it.
const UNKNOWN: &str = "unknown";

/// The service that writes a stream: the label [`SERVICE_NAME`], or the first other that tells it, or
/// `unknown_service`.
///
/// ```
/// use trine_logstore::discover::service_name;
/// use trine_storage::Labels;
///
/// let labels = Labels::from_pairs([("job", "api/1"), ("container", "api")])?;
/// assert_eq!(service_name(&labels), "api");
/// # Ok::<(), trine_storage::Error>(())
/// ```
pub fn service_name(labels: &Labels) -> &str {
    let mut strongest = SERVICE_NAMES.len();
    let mut found = "unknown_service";
    for (name, value) in labels {
        if name == SERVICE_NAME {
            return value;
        }
        let place = SERVICE_NAMES.iter().position(|held| *held == name);
        if let Some(place) = place.filter(|&place| place < strongest) {
            (strongest, found) = (place, value);
        }
    }
    found
}

/// Finds the levels of the entries of one stream.
///
/// ```
/// use trine_logstore::discover::Levels;
/// use trine_storage::Labels;
///
/// let levels = Levels::of(&Labels::from_pairs([("app", "api")])?);
/// let none: [(&str, &str); 0] = [];
/// assert_eq!(levels.level(&none, b"level=warn msg=\"no error\""), "warn");
/// assert_eq!(levels.level(&[("severity_number", "17")], b"stopped"), "error");
/// # Ok::<(), trine_storage::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Levels {
    /// What the stream's labels tell.
    told: Option<String>,
}

impl Levels {
    /// For a stream with these labels.
    pub fn of(labels: &Labels) -> Self {
        let told = labels
            .iter()
            .filter_map(|(name, value)| Some((strength(name.as_bytes())?, value)))
            .min_by_key(|(strength, _)| *strength);
        Self {
            told: told.map(|(_, value)| normalized(value).into_owned()),
        }
    }

    /// The level of an entry: from the metadata [`DETECTED_LEVEL`] itself, from labels and metadata
    /// with a telling name, from OpenTelemetry's severity number, from a field of the line, from a
    /// word in it; `unknown` when nothing tells it. Known spellings are made one, others stay.
    pub fn level<'a, N: AsRef<str>, V: AsRef<str>>(
        &'a self,
        metadata: &'a [(N, V)],
        line: &[u8],
    ) -> Cow<'a, str> {
        let mut told: Option<(u8, &str)> = None;
        let mut severity = None;
        for (name, value) in metadata {
            let (name, value) = (name.as_ref(), value.as_ref());
            if name == DETECTED_LEVEL {
                return normalized(value);
            }
            if name == "severity_number" {
                severity = severity.or(Some(value));
            }
            let strength = strength(name.as_bytes());
            if let Some(strength) = strength
                && told.is_none_or(|(strongest, _)| strength < strongest)
            {
                told = Some((strength, value));
            }
        }
        if let Some(told) = &self.told {
            return Cow::Borrowed(told);
        }
        if let Some((_, value)) = told.filter(|(_, value)| !value.is_empty()) {
            return normalized(value);
        }
        if let Some(number) = severity {
            return Cow::Borrowed(of_severity(number));
        }
        Cow::Borrowed(of_line(line))
    }
}

/// How strongly the value of this name tells the level, 0 most; `None` when it does not.
fn strength(name: &[u8]) -> Option<u8> {
    Some(match name {
        b"level" => 0,
        b"LEVEL" => 1,
        b"Level" => 2,
        b"log.level" => 3,
        b"severity" => 4,
        b"SEVERITY" => 5,
        b"Severity" => 6,
        b"SeverityText" => 7,
        b"lvl" => 8,
        b"LVL" => 9,
        b"Lvl" => 10,
        b"severity_text" => 11,
        b"Severity_Text" => 12,
        b"SEVERITY_TEXT" => 13,
        _ => return None,
    })
}

/// OpenTelemetry's ranges of severity numbers; what is no number counts as information.
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
fn spelled(word: &[u8]) -> Option<&'static str> {
    const SPELLINGS: [(&[u8], &str); 15] = [
        (b"info", "info"),
        (b"error", "error"),
        (b"warn", "warn"),
        (b"debug", "debug"),
        (b"trace", "trace"),
        (b"trc", "trace"),
        (b"dbg", "debug"),
        (b"inf", "info"),
        (b"information", "info"),
        (b"wrn", "warn"),
        (b"warning", "warn"),
        (b"err", "error"),
        (b"critical", "critical"),
        (b"fatal", "fatal"),
        (b"unknown", "unknown"),
    ];
    SPELLINGS
        .iter()
        .find(|(spelling, _)| spelling.eq_ignore_ascii_case(word))
        .map(|(_, level)| *level)
}

/// A told level in its normal spelling; what is not recognised stays as it is.
fn normalized(value: &str) -> Cow<'_, str> {
    spelled(value.as_bytes()).map_or(Cow::Borrowed(value), Cow::Borrowed)
}

fn of_line(line: &[u8]) -> &'static str {
    let field = match memchr(b'{', line) {
        Some(open) if memrchr(b'}', line).is_some_and(|close| close > open) => {
            json_field(line.get(open..).unwrap_or_default())
        }
        _ => logfmt_field(line),
    };
    field
        .and_then(spelled)
        .or_else(|| word(line))
        .unwrap_or(UNKNOWN)
}

/// The string value of the first telling key, at most [`JSON_DEPTH_MAX`] objects deep. The line
/// need not be valid: what is read is what stands there.
fn json_field(text: &[u8]) -> Option<&[u8]> {
    let (mut at, mut depth) = (0, 0usize);
    // Whether the key that was read last tells the level.
    let mut tells = false;
    loop {
        match text.get(at)? {
            b'{' | b'[' => {
                depth += 1;
                tells = false;
            }
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                let end = string_end(text, at + 1)?;
                let string = text.get(at + 1..end)?;
                let rest = text.get(end + 1..)?;
                if rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':') {
                    tells = strength(string).is_some();
                } else if tells && depth <= JSON_DEPTH_MAX {
                    return Some(string);
                } else {
                    tells = false;
                }
                at = end;
            }
            b',' => tells = false,
            _ => {}
        }
        at += 1;
    }
}

/// Where the string that begins at `at` ends: the index of its closing quote.
fn string_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// The value of the first telling key of a logfmt line.
fn logfmt_field(line: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        // Words without a value are passed over with what is between the pairs.
        let equals = at + memchr(b'=', line.get(at..)?)?;
        let before = line.get(at..equals)?;
        let start = before.iter().rposition(u8::is_ascii_whitespace);
        let key = before.get(start.map_or(0, |start| start + 1)..)?;
        let value = line.get(equals + 1..)?;
        let (value, end) = if value.first() == Some(&b'"') {
            let end = string_end(line, equals + 2)?;
            (line.get(equals + 2..end)?, end + 1)
        } else {
            let len = value.iter().position(u8::is_ascii_whitespace);
            let end = equals + 1 + len.unwrap_or(value.len());
            (line.get(equals + 1..end)?, end)
        };
        if strength(key).is_some() {
            return Some(value);
        }
        at = end;
    }
}

/// A byte after which a word may begin.
const LEFT: u8 = 1;
/// A byte before which a word may end.
const RIGHT: u8 = 2;
/// A byte with which a level begins.
const FIRST: u8 = 4;

const KINDS: [u8; 256] = kinds();

const fn kinds() -> [u8; 256] {
    let mut kinds = [0; 256];
    mark(&mut kinds, b" \t\n\r[({\"'=|", LEFT | RIGHT);
    mark(&mut kinds, b"])},:!", RIGHT);
    mark(&mut kinds, b"tdfcewiTDFCEWI", FIRST);
    kinds
}

#[expect(
    clippy::indexing_slicing,
    reason = "a constant that is computed by the compiler"
)]
const fn mark(kinds: &mut [u8; 256], bytes: &[u8], kind: u8) {
    let mut i = 0;
    while i < bytes.len() {
        kinds[bytes[i] as usize] |= kind;
        i += 1;
    }
}

fn is(byte: u8, kind: u8) -> bool {
    KINDS
        .get(usize::from(byte))
        .is_some_and(|held| held & kind != 0)
}

/// The first word of the line that is a level.
fn word(line: &[u8]) -> Option<&'static str> {
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
    let mut before = b' ';
    for (at, &byte) in line.iter().enumerate() {
        let begins = is(before, LEFT) & is(byte, FIRST);
        before = byte;
        if !begins {
            continue;
        }
        let rest = line.get(at..)?;
        for (word, level) in WORDS {
            let found = rest.get(..word.len());
            if found.is_some_and(|found| found.eq_ignore_ascii_case(word))
                && rest.get(word.len()).is_none_or(|&after| is(after, RIGHT))
            {
                return Some(level);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
