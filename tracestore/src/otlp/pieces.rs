//! A request that is larger than a record of the log may be, as several that are not. `db` writes
//! them instead.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::check::{Plan, PlannedSpan};
use super::wire::{put_item, put_message, put_text};

/// The most that the tag and the length of a message take.
const FRAME_BYTES: usize = 6;

/// The spans of `plan` as requests of at most `bytes_max` bytes each, if no span is larger with its
/// resource and scope; such a one is a request of its own.
pub(crate) fn pieces(plan: &Plan<'_>, bytes_max: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = plan.spans.as_slice();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(first_piece(plan, rest, bytes_max));
        out.push(request(plan, piece));
        rest = behind;
    }
    out
}

/// How many of `spans` are the first piece.
fn first_piece(plan: &Plan<'_>, spans: &[PlannedSpan<'_>], bytes_max: usize) -> usize {
    let mut bytes = 0usize;
    let (mut scope, mut resource) = (None, None);
    let over = spans.iter().position(|span| {
        bytes += FRAME_BYTES + span.bytes.len();
        if scope != Some(span.scope)
            && let Some(new) = plan.scopes.get(span.scope)
        {
            scope = Some(span.scope);
            bytes += 3 * FRAME_BYTES + new.bytes.len() + new.schema_url.len();
            if resource != Some(new.resource)
                && let Some(held) = plan.resources.get(new.resource)
            {
                resource = Some(new.resource);
                bytes += 3 * FRAME_BYTES + held.bytes.len() + held.schema_url.len();
            }
        }
        bytes > bytes_max
    });
    over.unwrap_or(spans.len()).max(1)
}

fn request(plan: &Plan<'_>, spans: &[PlannedSpan<'_>]) -> Vec<u8> {
    let resource = |span: &PlannedSpan<'_>| plan.scopes.get(span.scope).map(|s| s.resource);
    let mut out = Vec::new();
    for spans in spans.chunk_by(|a, b| resource(a) == resource(b)) {
        let held = spans.first().and_then(resource);
        let Some(held) = held.and_then(|place| plan.resources.get(place)) else {
            continue;
        };
        put_message(&mut out, 1, |out| {
            put_text(out, 1, &held.bytes);
            for spans in spans.chunk_by(|a, b| a.scope == b.scope) {
                put_message(out, 2, |out| put_scope_spans(out, plan, spans));
            }
            put_text(out, 3, held.schema_url);
        });
    }
    out
}

/// The fields of a `ScopeSpans` with spans of one scope.
fn put_scope_spans(out: &mut Vec<u8>, plan: &Plan<'_>, spans: &[PlannedSpan<'_>]) {
    let scope = spans.first().and_then(|span| plan.scopes.get(span.scope));
    if let Some(scope) = scope {
        put_text(out, 1, &scope.bytes);
        for span in spans {
            put_item(out, 2, span.bytes);
        }
        put_text(out, 3, scope.schema_url);
    }
}
