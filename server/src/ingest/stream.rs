//! Labels of a log stream: from the text `{a="b"}` or from pairs, checked against the limits, with
//! `service_name` added. `ingest::loki_push` and `ingest::otlp_logs` call it. The refusals have
//! Loki's words, because senders' operators search for them.

use trine_logstore::discover::{SERVICE_NAME, service_name};
use trine_storage::Labels;

use crate::config::Limits;

/// The labels that the text of a stream gives.
///
/// # Errors
/// The refusal's text.
pub fn parse(text: &str) -> Result<Labels, String> {
    let wrong = |why: &str| format!("error parsing labels '{text}' with error: {why}");
    let mut pairs: Vec<(&str, String)> = Vec::new();
    let mut rest = text
        .trim()
        .strip_prefix('{')
        .ok_or_else(|| wrong("expected {"))?
        .trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            if !after.trim().is_empty() {
                return Err(wrong("unexpected text after }"));
            }
            break;
        }
        let end = rest.find(|c: char| !is_name_part(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if !is_name(name) {
            return Err(wrong("expected a label name"));
        }
        let after = after
            .trim_start()
            .strip_prefix('=')
            .ok_or_else(|| wrong("expected ="))?;
        let (value, after) =
            quoted(after.trim_start()).ok_or_else(|| wrong("expected a string"))?;
        pairs.push((name, value));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.starts_with('}') => after,
            None => return Err(wrong("expected , or }")),
        };
    }
    build(&pairs, text)
}

/// The labels that pairs give; `text` is how a refusal names the stream.
///
/// # Errors
/// The refusal's text.
pub fn build<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)], text: &str) -> Result<Labels, String> {
    for (i, (name, _)) in pairs.iter().enumerate() {
        let name = name.as_ref();
        if !is_name(name) {
            let why = format!("invalid label name {name:?}");
            return Err(format!("error parsing labels '{text}' with error: {why}"));
        }
        if pairs
            .iter()
            .take(i)
            .any(|(earlier, _)| earlier.as_ref() == name)
        {
            return Err(format!(
                "stream '{text}' has duplicate label name: '{name}'"
            ));
        }
    }
    let pairs = pairs
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()));
    let labels = Labels::from_pairs(pairs).map_err(|error| error.to_string())?;
    if labels.is_empty() {
        return Err("error at least one label pair is required per stream".to_owned());
    }
    Ok(labels)
}

/// Checks the limits and adds `service_name`.
///
/// # Errors
/// The refusal's text.
pub fn admit(labels: Labels, limits: &Limits) -> Result<Labels, String> {
    for (name, value) in &labels {
        if name.len() > limits.log_label_name_bytes_max {
            return Err(format!(
                "stream '{labels}' has label name too long: '{name}'"
            ));
        }
        if value.len() > limits.log_label_value_bytes_max {
            return Err(format!(
                "stream '{labels}' has label value too long: '{value}'"
            ));
        }
    }
    let count = labels
        .iter()
        .filter(|(name, _)| *name != SERVICE_NAME)
        .count();
    if count > limits.log_labels_max {
        let limit = limits.log_labels_max;
        return Err(format!(
            "entry for stream '{labels}' has {count} label names; limit {limit}"
        ));
    }
    if labels.get(SERVICE_NAME).is_some() {
        return Ok(labels);
    }
    Ok(labels.with(SERVICE_NAME, service_name(&labels)))
}

/// Checks one entry against the limits. `metadata` is its pairs.
///
/// # Errors
/// The refusal's text.
pub fn admit_entry<N: AsRef<str>, V: AsRef<str>>(
    labels: &Labels,
    line: &str,
    metadata: &[(N, V)],
    limits: &Limits,
) -> Result<(), String> {
    if line.len() > limits.log_line_bytes_max {
        return Err(format!(
            "max entry size '{}' bytes exceeded for stream '{labels}' while adding an entry with \
             length '{}' bytes",
            limits.log_line_bytes_max,
            line.len()
        ));
    }
    if metadata.len() > limits.log_metadata_entries_max {
        return Err(format!(
            "stream '{labels}' has too many structured metadata labels: '{}', limit: '{}'. Please \
             see `limits_config.max_structured_metadata_entries_count` or contact your Loki \
             administrator to increase it",
            metadata.len(),
            limits.log_metadata_entries_max
        ));
    }
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.as_ref().len() + value.as_ref().len())
        .sum();
    if bytes > limits.log_metadata_bytes_max {
        return Err(format!(
            "stream '{labels}' has structured metadata too large: '{bytes}' bytes, limit: '{}' \
             bytes. Please see `limits_config.max_structured_metadata_size` or contact your Loki \
             administrator to increase it",
            limits.log_metadata_bytes_max
        ));
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    name.chars().next().is_some_and(|c| !c.is_ascii_digit()) && name.chars().all(is_name_part)
}

fn is_name_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A string literal at the front of `text`: its value and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (value, rest) = raw.split_once('`')?;
        return Some((value.to_owned(), rest));
    }
    let body = text.strip_prefix('"')?;
    let mut chars = body.char_indices();
    let mut value = String::new();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, body.get(at + 1..)?)),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'a' => '\x07',
                'b' => '\x08',
                'f' => '\x0c',
                'v' => '\x0b',
                '\\' => '\\',
                '"' => '"',
                '\'' => '\'',
                'x' => code(&mut chars, 2)?,
                'u' => code(&mut chars, 4)?,
                'U' => code(&mut chars, 8)?,
                _ => return None,
            }),
            (_, c) => value.push(c),
        }
    }
}

fn code(chars: &mut std::str::CharIndices<'_>, digits: usize) -> Option<char> {
    let mut number = 0u32;
    for _ in 0..digits {
        number = number
            .checked_mul(16)?
            .checked_add(chars.next()?.1.to_digit(16)?)?;
    }
    char::from_u32(number)
}

#[cfg(test)]
mod tests {
    use super::{Limits, admit, admit_entry, build, parse};

    #[test]
    fn texts() {
        let check = |text: &str, expect: Result<&str, &str>| match (parse(text), expect) {
            (Ok(labels), Ok(expect)) => assert_eq!(labels.to_string(), expect, "{text}"),
            (Err(got), Err(expect)) => assert!(got.contains(expect), "{got:?} is not {expect:?}"),
            (got, _) => panic!("{text}: {got:?}"),
        };
        check(r#"{a="b"}"#, Ok(r#"{a="b"}"#));
        check(
            r#" { b = "c" , a="\"\n\u00e9\x41" , } "#,
            Ok(r#"{a="\"\néA", b="c"}"#),
        );
        check("{a=`x\\n`}", Ok(r#"{a="x\\n"}"#));
        check(r#"{a="b", c=""}"#, Ok(r#"{a="b"}"#));
        check(
            "{}",
            Err("error at least one label pair is required per stream"),
        );
        check(
            r#"{a=""}"#,
            Err("error at least one label pair is required per stream"),
        );
        check("", Err("error parsing labels '' with error: expected {"));
        check("{a}", Err("expected ="));
        check("{a=}", Err("expected a string"));
        check(r#"{a=~"b"}"#, Err("expected a string"));
        check(r#"{a="b"#, Err("expected a string"));
        check(r#"{a="b" c="d"}"#, Err("expected , or }"));
        check(r#"{1a="b"}"#, Err("expected a label name"));
        check(r#"{a="b"} x"#, Err("unexpected text"));
        check(r#"{a="b",a="c"}"#, Err("has duplicate label name: 'a'"));
        check(r#"{a="\q"}"#, Err("expected a string"));
        check(r#"{a="\ud800"}"#, Err("expected a string"));
    }

    #[test]
    fn pairs_have_the_same_rules() {
        assert!(
            build(&[("a.b", "c")], "{}")
                .unwrap_err()
                .contains("invalid label name")
        );
        assert!(
            build(&[("", "c")], "{}")
                .unwrap_err()
                .contains("invalid label name")
        );
        assert_eq!(
            build(&[("b", "c"), ("a", "d")], "").unwrap().to_string(),
            r#"{a="d", b="c"}"#
        );
    }

    #[test]
    fn the_service_is_found() {
        for (text, expect) in [
            (r#"{service_name="x", app="y"}"#, "x"),
            (r#"{app="y", job="z"}"#, "y"),
            (r#"{job="z", component="c"}"#, "c"),
            (r#"{job="z"}"#, "z"),
            (r#"{host="h"}"#, "unknown_service"),
        ] {
            let labels = admit(parse(text).unwrap(), &Limits::default()).unwrap();
            assert_eq!(labels.get("service_name"), Some(expect), "{text}");
        }
    }

    #[test]
    fn limits_at_their_edges() {
        let limits = Limits {
            log_labels_max: 2,
            log_label_name_bytes_max: 4,
            log_label_value_bytes_max: 5,
            log_line_bytes_max: 6,
            log_metadata_entries_max: 2,
            log_metadata_bytes_max: 8,
            ..Limits::default()
        };
        let stream = |text: &str| admit(parse(text).unwrap(), &limits).map(|_| ());
        let says = |got: Result<(), String>, expect: &str| {
            let got = got.unwrap_err();
            assert!(got.contains(expect), "{got}");
        };
        assert_eq!(stream(r#"{abcd="12345", b="c"}"#), Ok(()));
        says(
            stream(r#"{a="1", b="2", c="3"}"#),
            "has 3 label names; limit 2",
        );
        says(stream(r#"{abcde="1"}"#), "has label name too long: 'abcde'");
        says(
            stream(r#"{a="123456"}"#),
            "has label value too long: '123456'",
        );
        let labels = parse(r#"{a="b"}"#).unwrap();
        let entry = |line: &str, pairs: &[(&str, &str)]| admit_entry(&labels, line, pairs, &limits);
        assert_eq!(entry("123456", &[("ab", "cd"), ("ef", "gh")]), Ok(()));
        says(
            entry("1234567", &[]),
            r#"max entry size '6' bytes exceeded for stream '{a="b"}' while adding an entry with length '7' bytes"#,
        );
        says(
            entry("", &[("a", ""), ("b", ""), ("c", "")]),
            "too many structured metadata labels: '3', limit: '2'",
        );
        says(
            entry("", &[("abcde", "fghi")]),
            "structured metadata too large: '9' bytes, limit: '8' bytes",
        );
    }
}
