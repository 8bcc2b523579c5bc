//! Conditions `label="value"` after a parser: a line fulfils one only if it has the value in its text,
//! or in its metadata, so that the store's index can say where to look. Called by `range.rs` and
//! `search.rs`.

use bytes::Bytes;
use trine_storage::{MatchOp, Matcher};

use crate::logql::ast::{LabelFilter, Stage, StageKind};
use crate::logql::pipeline::labels::EXTRACTED;
use crate::logql::source::{LineFilter, Rows};

/// Shorter values are in most lines.
const VALUE_BYTES_MIN: usize = 3;
/// How the characters of a value that is looked for may be written otherwise, in JSON and in quotes.
const ESCAPE: &[u8] = b"\\u00";

/// A label that all lines that pass have with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Equality {
    name: String,
    value: String,
    /// What lines have in which a parser found the value.
    text: String,
}

impl Equality {
    /// The longest value that stages ask of a label that may be parsed.
    pub(super) fn of(stages: &[Stage]) -> Option<Self> {
        let (mut parsed, mut only_json, mut found) = (false, true, Vec::new());
        for stage in stages {
            match &stage.kind {
                StageKind::LineFilter(_) => {}
                StageKind::Json(paths) if paths.is_empty() => parsed = true,
                StageKind::Json(_)
                | StageKind::Logfmt(_)
                | StageKind::Regexp(_)
                | StageKind::Pattern(_) => (parsed, only_json) = (true, false),
                StageKind::LabelFilter(filter) if parsed => collect(filter, only_json, &mut found),
                StageKind::LabelFilter(_) => {}
                _ => break,
            }
        }
        found.into_iter().max_by_key(|found| found.value.len())
    }

    /// Two requests that together give all lines of `rows` that can pass, each with the conditions
    /// on labels of the stream and metadata that tell its lines from those of the other.
    pub(super) fn split(&self, rows: &Rows) -> [(Rows, Vec<Matcher>); 2] {
        let with = |value: &str| {
            let only = vec![Matcher::equal(self.name.as_str(), value)];
            let mut rows = rows.clone();
            rows.metadata.extend_from_slice(&only);
            (rows, only)
        };
        let mut parsed = with("");
        parsed.0.lines.push(LineFilter::ContainsAny(vec![
            Bytes::copy_from_slice(self.text.as_bytes()),
            Bytes::from_static(ESCAPE),
        ]));
        [parsed, with(&self.value)]
    }
}

/// Whether JSON has the value in quotes: it is no number nor a boolean, nor the beginning of one.
fn is_quoted(value: &str) -> bool {
    !value.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && !matches!(value, "true" | "false")
}

fn collect(filter: &LabelFilter, only_json: bool, found: &mut Vec<Equality>) {
    match filter {
        LabelFilter::Text(matcher) if matcher.op() == MatchOp::Equal => {
            let (name, value) = (matcher.name(), matcher.value());
            // Other characters may be escaped in other ways.
            let plain =
                |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b'/');
            let special = name.starts_with("__") || name.ends_with(EXTRACTED);
            if !special && value.len() >= VALUE_BYTES_MIN && value.bytes().all(plain) {
                found.push(Equality {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    text: match only_json && is_quoted(value) {
                        true => format!("\"{value}\""),
                        false => value.to_owned(),
                    },
                });
            }
        }
        LabelFilter::All(filters) => filters
            .iter()
            .for_each(|filter| collect(filter, only_json, found)),
        _ => {}
    }
}
