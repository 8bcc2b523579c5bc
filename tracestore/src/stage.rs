//! Spans in order of arrival: a plain form of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use trine_storage::Result;

use crate::block::build::{end_of, start_of};
use crate::block::format::{event, link, resource, scope, span as col};
use crate::block::gather::TableSource;
use crate::block::shapes::{Lists, RowShapes};
use crate::block::values::{Texts, Type, Values};
use crate::model::{AnyValue, KeyValue, Resource, Scope, Span, TraceId};
use crate::structure::SpanKey;

#[derive(Debug, Default)]
pub(crate) struct TableStage {
    rows: usize,
    numbers: Vec<Vec<u64>>,
    texts: Vec<Texts>,
    keys: HashMap<(Arc<str>, Type), u32>,
    columns: Vec<(Arc<str>, Type, Values)>,
    shapes: RowShapes,
    lists: Lists,
}

#[derive(Debug, Default)]
pub(crate) struct Stage {
    pub(crate) resources: TableStage,
    pub(crate) scopes: TableStage,
    pub(crate) spans: TableStage,
    pub(crate) events: TableStage,
    pub(crate) links: TableStage,
    pub(crate) trace_ids: Vec<TraceId>,
    traces: HashMap<TraceId, u32>,
    of_rows: Vec<u32>,
}

impl TableStage {
    fn push(&mut self, numbers: &[u64], texts: &[&[u8]], attributes: &[KeyValue]) {
        self.numbers.resize(numbers.len(), Vec::new());
        self.texts.resize(texts.len(), Texts::default());
        for (column, number) in self.numbers.iter_mut().zip(numbers) {
            column.push(*number);
        }
        for (column, text) in self.texts.iter_mut().zip(texts) {
            column.push(text);
        }
        let mut list: Vec<u32> = Vec::new();
        for (at, attribute) in attributes.iter().enumerate() {
            let again = attributes[..at].iter().any(|a| a.key == attribute.key);
            let (kind, number, text) = crate::model::stored(&attribute.value, again);
            let key: Arc<str> = attribute.key.as_str().into();
            let next = self.columns.len() as u32;
            let column = *self.keys.entry((key.clone(), kind)).or_insert(next);
            if column == next {
                let is_text = matches!(kind, Type::Str | Type::Array | Type::Other);
                let values = if is_text {
                    Values::Plain(Texts::default())
                } else {
                    Values::Numbers(Vec::new())
                };
                self.columns.push((key, kind, values));
            }
            match &mut self.columns[column as usize].2 {
                Values::Plain(texts) => texts.push(&text),
                Values::Numbers(numbers) => numbers.push(number),
                Values::Coded { .. } => {}
            }
            list.push(column);
        }
        self.shapes.codes.push(self.lists.number(&list));
        self.shapes.lists = self.lists.all().to_vec();
        self.rows += 1;
    }
}

fn zigzag(number: i32) -> u64 {
    ((i64::from(number) << 1) ^ (i64::from(number) >> 63)).cast_unsigned()
}

impl Stage {
    pub(crate) fn push(&mut self, of: &Resource, by: &Scope, span: &Span) {
        let next = self.trace_ids.len() as u32;
        let trace = *self.traces.entry(span.trace_id).or_insert(next);
        if trace == next {
            self.trace_ids.push(span.trace_id);
        }
        self.of_rows.push(trace);
        let of_row = self.resources.rows as u64;
        self.resources.push(
            &[of.dropped_attributes_count.into()],
            &[of.schema_url.as_bytes()],
            &of.attributes,
        );
        let by_row = self.scopes.rows as u64;
        self.scopes.push(
            &[by.dropped_attributes_count.into()],
            &[
                by.name.as_bytes(),
                by.version.as_bytes(),
                by.schema_url.as_bytes(),
            ],
            &by.attributes,
        );
        let mut numbers = vec![0u64; 15];
        let mut set = |column: u8, number: u64| numbers[column as usize] = number;
        set(col::ID, u64::from_be_bytes(span.span_id));
        set(col::START, span.start_ns);
        set(col::DURATION, span.end_ns.wrapping_sub(span.start_ns));
        set(
            col::PARENT_ID,
            span.parent_span_id.map_or(0, u64::from_be_bytes),
        );
        set(col::KIND, zigzag(span.kind));
        set(
            col::STATUS,
            span.status.as_ref().map_or(0, |s| 1 + zigzag(s.code)),
        );
        set(col::RESOURCE, of_row);
        set(col::SCOPE, by_row);
        set(col::FLAGS, span.flags.into());
        set(
            col::DROPPED_ATTRIBUTES,
            span.dropped_attributes_count.into(),
        );
        set(col::DROPPED_EVENTS, span.dropped_events_count.into());
        set(col::DROPPED_LINKS, span.dropped_links_count.into());
        set(col::EVENTS, span.events.len() as u64);
        set(col::LINKS, span.links.len() as u64);
        let message = span.status.as_ref().map_or("", |s| s.message.as_str());
        self.spans.push(
            &numbers,
            &[
                span.name.as_bytes(),
                message.as_bytes(),
                span.trace_state.as_bytes(),
            ],
            &span.attributes,
        );
        for held in &span.events {
            let mut numbers = [0; 2];
            numbers[event::TIME as usize] = held.time_ns.wrapping_sub(span.start_ns);
            numbers[event::DROPPED_ATTRIBUTES as usize] = held.dropped_attributes_count.into();
            self.events
                .push(&numbers, &[held.name.as_bytes()], &held.attributes);
        }
        for held in &span.links {
            let mut numbers = [0; 2];
            numbers[link::DROPPED_ATTRIBUTES as usize] = held.dropped_attributes_count.into();
            numbers[link::FLAGS as usize] = held.flags.into();
            self.links.push(
                &numbers,
                &[&held.trace_id, &held.span_id, held.trace_state.as_bytes()],
                &held.attributes,
            );
        }
        let _ = (resource::SCHEMA_URL, scope::NAME);
    }

    pub(crate) fn rows(&self) -> u32 {
        self.spans.rows as u32
    }

    pub(crate) fn bytes(&self) -> u64 {
        500 * u64::from(self.rows())
    }

    pub(crate) fn traces_of_rows(&self) -> &[u32] {
        &self.of_rows
    }

    pub(crate) fn parent_ids(&self) -> &[u64] {
        self.spans
            .numbers
            .get(col::PARENT_ID as usize)
            .map_or(&[], Vec::as_slice)
    }

    pub(crate) fn span_key(&self, row: u32) -> (SpanKey, i64) {
        let number = |column: u8| self.spans.numbers[column as usize][row as usize];
        let key = SpanKey {
            span_id: number(col::ID),
            parent_id: number(col::PARENT_ID),
            start: start_of(number(col::START)),
            kind: crate::block::image::unzigzag(number(col::KIND)),
        };
        (key, end_of(number(col::START), number(col::DURATION)))
    }
}

impl TableSource for TableStage {
    fn rows(&self) -> usize {
        self.rows
    }

    fn numbers(&self, number: u8) -> Result<Cow<'_, [u64]>> {
        Ok(Cow::Borrowed(
            self.numbers
                .get(number as usize)
                .map_or(&[][..], Vec::as_slice),
        ))
    }

    fn texts(&self, number: u8) -> Result<Cow<'_, Values>> {
        let texts = self.texts.get(number as usize).cloned().unwrap_or_default();
        Ok(Cow::Owned(Values::Plain(texts)))
    }

    fn attributes(&self) -> Vec<(Arc<str>, Type)> {
        self.columns
            .iter()
            .map(|(key, kind, _)| (key.clone(), *kind))
            .collect()
    }

    fn shapes(&self) -> Result<Cow<'_, RowShapes>> {
        Ok(Cow::Borrowed(&self.shapes))
    }

    fn values(&self, attribute: usize) -> Result<Cow<'_, Values>> {
        Ok(Cow::Borrowed(&self.columns[attribute].2))
    }
}

const _: Option<AnyValue> = None;
