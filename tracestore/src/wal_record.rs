//! What one record of the log holds: the spans of one commit (`FORMAT.md`, "WAL record").

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use trine_storage::codec::{Reader, put_varint};
use trine_storage::{Error, Kind, Result};

use crate::model::{
    Resource, Scope, Span, decode_resource, decode_scope, decode_span, encode_resource,
    encode_scope, encode_span,
};

const VERSION: u8 = 1;

/// The spans of one commit, in order of arrival.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The distinct resources, as far as they came one after the other.
    pub resources: Vec<Arc<Resource>>,
    /// The distinct scopes, likewise.
    pub scopes: Vec<Arc<Scope>>,
    /// Places of resource and scope, and the span.
    pub spans: Vec<(usize, usize, Span)>,
    /// The bytes of the spans, one after the other, and where each ends.
    encoded: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    pub(crate) fn push(&mut self, resource: &Arc<Resource>, scope: &Arc<Scope>, span: Span) {
        let resource = place(&mut self.resources, resource);
        let scope = place(&mut self.scopes, scope);
        encode_span(&mut self.encoded, &span);
        self.ends.push(self.encoded.len());
        self.spans.push((resource, scope, span));
    }

    /// Bytes of the last span.
    pub(crate) fn last_bytes(&self) -> usize {
        let before = self
            .ends
            .len()
            .checked_sub(2)
            .and_then(|at| self.ends.get(at));
        self.encoded.len() - before.copied().unwrap_or(0)
    }

    /// Takes the last span out again.
    pub(crate) fn pop(&mut self) -> Option<Span> {
        self.ends.pop();
        self.encoded
            .truncate(self.ends.last().copied().unwrap_or(0));
        self.spans.pop().map(|(_, _, span)| span)
    }

    /// The spans with their resources, scopes and bytes.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let bytes = starts
            .zip(&self.ends)
            .map(|(start, end)| self.encoded.get(start..*end));
        self.spans
            .iter()
            .zip(bytes)
            .filter_map(|((resource, scope, span), encoded)| {
                let (resource, scope) = (self.resources.get(*resource)?, self.scopes.get(*scope)?);
                Some(Row {
                    resource,
                    scope,
                    span,
                    encoded: encoded?,
                })
            })
    }

    /// The record's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.resources.len() as u64);
        self.resources
            .iter()
            .for_each(|resource| encode_resource(&mut out, resource));
        put_varint(&mut out, self.scopes.len() as u64);
        self.scopes
            .iter()
            .for_each(|scope| encode_scope(&mut out, scope));
        put_varint(&mut out, self.spans.len() as u64);
        out.reserve(self.encoded.len() + 4 * self.spans.len());
        for ((resource, scope, _), row) in self.spans.iter().zip(self.rows()) {
            put_varint(&mut out, *resource as u64);
            put_varint(&mut out, *scope as u64);
            out.extend_from_slice(row.encoded);
        }
        out
    }
}

/// A span of a batch with what belongs to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) resource: &'a Arc<Resource>,
    pub(crate) scope: &'a Arc<Scope>,
    pub(crate) span: &'a Span,
    pub(crate) encoded: &'a [u8],
}

/// The place of `item`; senders group by resource and scope, so the last one is the likely one.
fn place<T: PartialEq>(table: &mut Vec<Arc<T>>, item: &Arc<T>) -> usize {
    let same = |held: &Arc<T>| Arc::ptr_eq(held, item) || held == item;
    if !table.last().is_some_and(same) {
        table.push(Arc::clone(item));
    }
    table.len() - 1
}

/// Reads a record.
///
/// # Errors
/// [`Kind::Corrupt`] when the bytes are no record, [`Kind::Unsupported`] when a newer version wrote
/// them.
pub fn decode(record: &[u8]) -> Result<Batch> {
    let mut reader = Reader::new("a record of the write-ahead log", record);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(Error::new(
            Kind::Unsupported,
            format!("a record of the log has version {version}, this program reads {VERSION}"),
        ));
    }
    let mut batch = Batch::default();
    for _ in 0..reader.count(3)? {
        batch
            .resources
            .push(Arc::new(decode_resource(&mut reader)?));
    }
    for _ in 0..reader.count(5)? {
        batch.scopes.push(Arc::new(decode_scope(&mut reader)?));
    }
    for _ in 0..reader.count(40)? {
        let resource = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        let scope = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        if resource >= batch.resources.len() || scope >= batch.scopes.len() {
            return Err(reader.corrupt("a span names a resource or scope that is not there"));
        }
        let start = reader.offset();
        batch
            .spans
            .push((resource, scope, decode_span(&mut reader)?));
        batch
            .encoded
            .extend_from_slice(record.get(start..reader.offset()).unwrap_or_default());
        batch.ends.push(batch.encoded.len());
    }
    if !reader.is_empty() {
        return Err(reader.corrupt("bytes follow the last span"));
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes written down in FORMAT.md, "WAL record".
    #[test]
    fn golden_bytes() {
        let mut batch = Batch::default();
        let span = Span {
            trace_id: [1; 16],
            span_id: [2; 8],
            name: "n".into(),
            kind: 2,
            start_ns: 1_000,
            end_ns: 1_003,
            ..Span::default()
        };
        batch.push(&Arc::default(), &Arc::default(), span);
        let mut expected = vec![1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0];
        expected.extend([1; 16]);
        expected.extend([2; 8]);
        expected.extend([0, 0, 1, b'n', 4, 0xe8, 3, 0, 0, 0, 0, 0, 0, 6]);
        expected.extend([0; 7]);
        assert_eq!(batch.encode(), expected);
        assert_eq!(decode(&expected).unwrap(), batch);
        for cut in 0..expected.len() {
            assert!(decode(&expected[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_number() {
        let error = decode(&[9]).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            decode(&bytes).ok();
        }
    }
}
