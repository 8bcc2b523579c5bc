//! The stages of LogQL's pipelines over any line: the first line of the input is the stages, the rest
//! is the log line. Parsers, patterns and templates must read or refuse both.

use std::sync::Arc;

use bytes::Bytes;
use trine_query::budget::{Cancel, Limits};
use trine_query::logql::ast::Expr;
use trine_query::logql::source::{Lines, RowBatch};
use trine_query::logql::{Stages, parse};
use trine_storage::Labels;
use trine_storage::clock::{Clock, SystemClock};

/// Longer lines only make the target slow.
const LINE_BYTES_MAX: usize = 4096;

pub(crate) fn run(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let stages = parts
        .next()
        .and_then(|stages| std::str::from_utf8(stages).ok());
    let line = parts.next().unwrap_or_default();
    let line = &line[..line.len().min(LINE_BYTES_MAX)];
    let query = stages.and_then(|stages| parse(&format!("{{app=\"a\"}} {stages}")).ok());
    let Some(Expr::Log(expr)) = query else {
        return;
    };
    let (Ok(stages), Ok(stream)) = (
        Stages::new(&expr),
        Labels::from_pairs([("app", "a"), ("n", "7")]),
    ) else {
        return;
    };
    let rows = RowBatch {
        streams: vec![stream],
        stream: vec![0],
        timestamps: vec![0],
        lines: Lines {
            blob: Bytes::copy_from_slice(line),
            ends: vec![line.len() as u32],
        },
        metadata_sets: vec![Labels::empty()],
        ..RowBatch::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let found = stages.entries(&rows, &Limits::default(), &clock, &Cancel::new());
    if let Ok(entries) = found {
        assert!(entries.len() <= 1, "one line came in");
    }
}
