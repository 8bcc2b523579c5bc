//! Conditions `label="value"` after a parser: a line fulfils one only if it has the value in its text,
//! or in its metadata, so that the store's index can say where to look. Called by `range.rs` and
//! `search.rs`.
//!
//! JSON and logfmt put quotes, blanks and the like around values, so that no letter or digit stands
//! next to one: the index looks for the whole word then, not for all that begin with it.

use bytes::Bytes;
use trine_storage::{MatchOp, Matcher};

use crate::logql::ast::{LabelFilter, Stage, StageKind};
use crate::logql::pipeline::labels::EXTRACTED;
use crate::logql::source::{Either, LineFilter};

/// Shorter values are in most lines.
const VALUE_BYTES_MIN: usize = 3;
/// How the characters of a value that is looked for may be written otherwise, in JSON and in quotes.
const ESCAPE: &[u8] = b"\\u00";

/// A label that all lines that pass have with one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Equality {
    name: String,
    value: String,
    /// Whether no letter or digit can stand next to the value.
    is_whole: bool,
}

impl Equality {
    /// The longest value that stages ask of a label that may be parsed.
    pub(super) fn of(stages: &[Stage]) -> Option<Self> {
        let (mut parsed, mut is_whole, mut found) = (false, true, Vec::new());
        for stage in stages {
            match &stage.kind {
                StageKind::LineFilter(_) => {}
                StageKind::Json(_) | StageKind::Logfmt(_) => parsed = true,
                StageKind::Regexp(_) | StageKind::Pattern(_) => (parsed, is_whole) = (true, false),
                StageKind::LabelFilter(filter) if parsed => {
                    collect(filter, is_whole, &mut found);
                }
                StageKind::LabelFilter(_) => {}
                _ => break,
            }
        }
        found.into_iter().max_by_key(|found| found.value.len())
    }

    /// What says so to a store.
    pub(super) fn either(&self) -> Either {
        let value = Bytes::copy_from_slice(self.value.as_bytes());
        let escape = Bytes::from_static(ESCAPE);
        Either {
            line: if self.is_whole {
                LineFilter::ContainsWhole {
                    text: value,
                    or: Some(escape),
                }
            } else {
                LineFilter::ContainsAny(vec![value, escape])
            },
            metadata: Matcher::equal(self.name.as_str(), self.value.as_str()),
        }
    }
}

fn collect(filter: &LabelFilter, is_whole: bool, found: &mut Vec<Equality>) {
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
                    is_whole,
                });
            }
        }
        LabelFilter::All(filters) => {
            for filter in filters {
                collect(filter, is_whole, found);
            }
        }
        _ => {}
    }
}
