//! Memory: the spans that are not in a block yet, searchable at once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use trine_storage::codec::Reader;
use trine_storage::{Result, TimeRange};

use crate::columns::{Columns, Tables, start_of};
use crate::model::{
    Resource, Scope, Span, TraceId, decode_span, encode_resource, encode_scope, encode_span,
};
use crate::otlp::{self, Plan, Read};

/// What a span costs beside its bytes: fixed columns, a code and a row number for each of about a
/// dozen attributes, its place in its trace. An estimate for the memory budget.
const SPAN_BYTES: u64 = 320;

/// The live spans.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) columns: Columns,
    pub(crate) tables: Tables,
    /// Trace of each row.
    pub(crate) trace_ids: Vec<TraceId>,
    resource_codes: HashMap<Vec<u8>, u32>,
    scope_codes: HashMap<Vec<u8>, u32>,
    /// The spans as they came, one after the other.
    encoded: Vec<u8>,
    ends: Vec<usize>,
    traces: HashMap<TraceId, Vec<u32>>,
    bytes: u64,
    range: Option<TimeRange>,
    /// When the first span came, nanoseconds since 1970.
    since_ns: Option<i64>,
}

impl Live {
    /// Adds the spans of a plan that came at `now_ns`.
    pub(crate) fn apply(&mut self, plan: &Plan<'_>, now_ns: i64) -> Read<()> {
        for (resource, scope, span) in otlp::read(plan)?.spans() {
            let mut encoded = Vec::new();
            encode_span(&mut encoded, span);
            let encoded = &encoded;
            let resource = self.resource_code(resource);
            let scope = self.scope_code(scope);
            let row = u32::try_from(self.columns.rows()).expect("the memory budget ends before");
            self.columns.push(resource, scope, span);
            self.trace_ids.push(span.trace_id);
            self.traces.entry(span.trace_id).or_default().push(row);
            self.encoded.extend_from_slice(encoded);
            self.ends.push(self.encoded.len());
            self.bytes += SPAN_BYTES + 2 * encoded.len() as u64;
            let start = start_of(span);
            let one = TimeRange::inclusive(start, start);
            self.range = Some(self.range.map_or(one, |range| range.union(&one)));
            self.since_ns.get_or_insert(now_ns);
        }
        Ok(())
    }

    fn resource_code(&mut self, resource: &Arc<Resource>) -> u32 {
        let mut bytes = Vec::new();
        encode_resource(&mut bytes, resource);
        let table = &mut self.tables.resources;
        *self.resource_codes.entry(bytes).or_insert_with(|| {
            table.push(Arc::clone(resource));
            table.len() as u32 - 1
        })
    }

    fn scope_code(&mut self, scope: &Arc<Scope>) -> u32 {
        let mut bytes = Vec::new();
        encode_scope(&mut bytes, scope);
        let table = &mut self.tables.scopes;
        *self.scope_codes.entry(bytes).or_insert_with(|| {
            table.push(Arc::clone(scope));
            table.len() as u32 - 1
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn range(&self) -> Option<TimeRange> {
        self.range
    }

    pub(crate) fn since_ns(&self) -> Option<i64> {
        self.since_ns
    }

    /// Number of traces.
    pub(crate) fn traces(&self) -> usize {
        self.traces.len()
    }

    /// Ids of all traces.
    pub(crate) fn trace_ids(&self) -> impl Iterator<Item = &TraceId> {
        self.traces.keys()
    }

    /// The rows of a trace, in order of arrival.
    pub(crate) fn rows_of(&self, id: &TraceId) -> &[u32] {
        self.traces.get(id).map_or(&[], Vec::as_slice)
    }

    /// When the first span of a trace began.
    pub(crate) fn start_of(&self, id: &TraceId) -> Option<i64> {
        self.rows_of(id)
            .iter()
            .map(|&row| self.columns.starts[row as usize])
            .min()
    }

    /// The bytes of a span as the log holds them.
    pub(crate) fn encoded(&self, row: u32) -> &[u8] {
        let row = row as usize;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        let range: Range<usize> = start..self.ends[row];
        &self.encoded[range]
    }

    /// A span as it came.
    pub(crate) fn span(&self, row: u32) -> Result<Span> {
        decode_span(&mut Reader::new("a live span", self.encoded(row)))
    }
}
