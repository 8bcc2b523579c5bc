//! The stage as a source of columns: what a run is made of.

use std::borrow::Cow;
use std::sync::Arc;

use trine_storage::Result;

use super::{Stage, TableStage};
use crate::block::build::{end_of, start_of};
use crate::block::format::span;
use crate::block::gather::TableSource;
use crate::block::image::unzigzag;
use crate::block::shapes::RowShapes;
use crate::block::table::Key;
use crate::block::values::{Texts, Type, Values};
use crate::model::TraceId;
use crate::structure::SpanKey;

/// The place of a span's trace.
const TRACE: usize = 3;
/// The id of a span's parent.
const PARENT_ID: usize = 4;

impl Stage {
    /// For each span the place of its trace.
    pub(crate) fn traces_of_rows(&self) -> &[u64] {
        &self.spans.numbers[TRACE]
    }

    /// The traces by their places, each with when the first of its spans begins.
    pub(crate) fn trace_starts(&self) -> Result<Vec<(TraceId, i64)>> {
        let traces = self.trace_ids.iter().map(|id| (*id, i64::MAX));
        let mut traces: Vec<(TraceId, i64)> = traces.collect();
        let starts = self.spans.numbers(span::START)?;
        for (trace, start) in self.traces_of_rows().iter().zip(&*starts) {
            let (_, first) = &mut traces[*trace as usize];
            *first = start_of(*start).min(*first);
        }
        Ok(traces)
    }

    /// For each span the id of its parent, 0 without one.
    pub(crate) fn parent_ids(&self) -> &[u64] {
        &self.spans.numbers[PARENT_ID]
    }

    /// What the structure of a trace depends on, and when the span ended.
    pub(crate) fn span_key(&self, row: u32) -> (SpanKey, i64) {
        let number = |column: u8| self.spans.numbers[usize::from(column)][row as usize];
        let key = SpanKey {
            span_id: number(span::ID),
            parent_id: self.parent_ids()[row as usize],
            start: start_of(number(span::START)),
            kind: unzigzag(number(span::KIND)),
        };
        (key, end_of(number(span::START), number(span::DURATION)))
    }
}

impl TableSource for TableStage {
    fn rows(&self) -> usize {
        self.rows as usize
    }

    fn numbers(&self, number: u8) -> Result<Cow<'_, [u64]>> {
        Ok(Cow::Borrowed(&self.numbers[usize::from(number)]))
    }

    fn texts(&self, key: &Key) -> Result<Cow<'_, Values>> {
        let number = match key {
            Key::Number(number) | Key::Text(number) | Key::Bytes(number) => usize::from(*number),
            Key::Pool(_) | Key::Attribute(..) => usize::MAX,
        };
        Ok(Cow::Borrowed(&self.texts[number].values))
    }

    fn attributes(&self) -> Vec<(Arc<str>, Type)> {
        let columns = self.columns.iter();
        columns
            .map(|column| (Arc::from(&*column.key), column.kind))
            .collect()
    }

    fn shapes(&self) -> Result<Cow<'_, RowShapes>> {
        Ok(Cow::Borrowed(&self.shapes))
    }

    fn attributes_len(&self) -> usize {
        self.columns.len()
    }

    fn rows_of(&self, _attribute: usize) -> Result<Option<Vec<u32>>> {
        Ok(None)
    }

    fn in_pool(&self, _attribute: usize) -> Option<(Type, usize)> {
        None
    }

    fn pool_page(&self, _kind: Type, _page: usize) -> Result<Values> {
        Ok(Values::Plain(Texts::default()))
    }

    fn values(&self, attribute: usize) -> Result<Cow<'_, Values>> {
        Ok(Cow::Borrowed(&self.columns[attribute].values))
    }
}
