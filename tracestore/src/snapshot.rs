//! Reads memory and blocks as one: traces by id, and whole traces that may match, newest first.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use trine_storage::block_set::{Block, Version};
use trine_storage::{Error, Result, TimeRange};

use crate::block::reader::{BlockFile, Index, TraceEntry, Wanted};
use crate::columns::{
    ColumnBuilder, Columns, Key, Tables, kind_of, resource_value, scope_value, visible,
};
use crate::live::Live;
use crate::model::{SpanId, Trace, TraceId};
use crate::nested::{self, NO_PARENT};
use crate::request::{
    AttributeColumn, AttributeRef, Batches, Condition, NO_ROW, Request, Scope, SpanBatch,
    TraceRows, Value, keys,
};

/// A batch is closed when it holds this many spans.
const BATCH_ROWS: usize = 4096;
/// How many decoded groups of blocks one answer keeps: traces of one time lie close together.
const GROUPS_KEPT: usize = 16;

/// A view of the store: the blocks of one version of the catalog, and the memory that belongs to
/// them. Spans that are appended to that memory later may show.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) version: Arc<Version<BlockFile>>,
    /// Memory, older first.
    pub(crate) memory: Vec<Arc<RwLock<Live>>>,
}

impl Snapshot {
    /// The trace `id`: every span that is stored, each once, in order of arrival; `None` when there
    /// is none.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) and [`Kind::Io`](trine_storage::Kind::Io)
    /// when a block cannot be read.
    pub fn trace(&self, id: TraceId) -> Result<Option<Trace>> {
        let mut trace = Trace::default();
        let mut seen = HashSet::new();
        for block in &self.version.blocks {
            let index = block.reader.index()?;
            let Some(entry) = index.trace(&id) else {
                continue;
            };
            for (resource, scope, span) in block.reader.spans(&index, entry)? {
                if seen.insert((span.span_id, kind_of(&span))) {
                    let resource = &index.tables.resources[resource as usize];
                    trace.push(resource, &index.tables.scopes[scope as usize], span);
                }
            }
        }
        for live in &self.memory {
            let live = live.read();
            for &row in live.rows_of(&id) {
                let span = live.span(row)?;
                if seen.insert((span.span_id, kind_of(&span))) {
                    let resource = live.columns.resources[row as usize] as usize;
                    let scope = live.columns.scopes[row as usize] as usize;
                    trace.push(
                        &live.tables.resources[resource],
                        &live.tables.scopes[scope],
                        span,
                    );
                }
            }
        }
        Ok((!seen.is_empty()).then_some(trace))
    }

    /// Whole traces of which some span may be what is asked for: the union of all their spans that
    /// are stored, newest first (by their first span, then by id), assembled as they are asked for.
    ///
    /// # Errors
    /// As [`Snapshot::trace`], here or from the iterator.
    pub fn spans(&self, request: &Request) -> Result<Batches> {
        let (range, conditions, all, projection) = match request {
            Request::Rows(rows) => (rows.range, &rows.conditions, rows.all, &rows.projection),
            Request::Counts(counts) => (counts.range, &counts.conditions, true, &counts.by),
        };
        let attributes = conditions.iter().map(|c| &c.attribute).chain(projection);
        let wanted: BTreeSet<AttributeRef> = attributes.cloned().collect();
        let mut sources = Vec::new();
        let mut found: HashSet<TraceId> = HashSet::new();
        for block in &self.version.blocks {
            let mut source = BlockSource::new(Arc::clone(block))?;
            if block.meta.range.overlaps(&range) {
                source.candidates(range, conditions, all, &mut found)?;
            }
            sources.push(Source::Block(source));
        }
        for live in &self.memory {
            live_candidates(&live.read(), range, conditions, all, &mut found);
            sources.push(Source::Live(Arc::clone(live)));
        }
        // A trace is as old as its first span, wherever that is and whether it matches or not.
        let starts = found.into_iter().map(|id| {
            let start = sources
                .iter()
                .filter_map(|source| source.start_of(&id))
                .min();
            (std::cmp::Reverse(start), id)
        });
        let mut order: Vec<_> = starts.collect();
        order.sort_unstable();
        let order = order.into_iter().map(|(_, id)| id).collect();
        let keys = wanted_keys(&wanted);
        Ok(Box::new(Assembly {
            sources,
            order,
            keys,
            failed: false,
        }))
    }

    /// The attributes that spans in `range` have, by scope and name, sorted. Time is told by
    /// groups of traces.
    ///
    /// # Errors
    /// As [`Snapshot::trace`].
    pub fn attribute_names(&self, range: TimeRange) -> Result<Vec<(Scope, String)>> {
        let mut found: BTreeSet<Key> = BTreeSet::new();
        let add_tables = |tables: &Tables| {
            let resources = tables
                .resources
                .iter()
                .flat_map(|r| visible(Scope::Resource, &r.attributes));
            let scopes = tables
                .scopes
                .iter()
                .flat_map(|s| visible(Scope::Instrumentation, &s.attributes));
            resources
                .chain(scopes)
                .map(|(key, _)| key)
                .collect::<Vec<Key>>()
        };
        for block in self.blocks(range) {
            let index = block.reader.index()?;
            found.extend(add_tables(&index.tables));
            found.extend(index.keys().cloned());
        }
        for live in &self.memory {
            let live = live.read();
            if live.range().is_some_and(|held| held.overlaps(&range)) {
                found.extend(add_tables(&live.tables));
                found.extend(live.columns.attributes.keys().cloned());
            }
        }
        let intrinsic = |key: &str| {
            [
                keys::EVENT_NAME,
                keys::EVENT_TIME_SINCE_START,
                keys::LINK_TRACE_ID,
                keys::LINK_SPAN_ID,
            ]
            .contains(&key)
        };
        let names = found.into_iter().filter(|(_, key)| !intrinsic(key));
        Ok(names.map(|(scope, key)| (scope, key.to_string())).collect())
    }

    /// Distinct values of the attribute `key` of spans in `range`, at most `limit`; without a scope
    /// those of spans and resources. The elements of arrays count on their own.
    ///
    /// # Errors
    /// As [`Snapshot::trace`].
    pub fn attribute_values(
        &self,
        scope: Option<Scope>,
        key: &str,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Value>> {
        let mut values = Values {
            limit,
            ..Values::default()
        };
        let scopes = match scope {
            Some(scope) => vec![scope],
            None => vec![Scope::Span, Scope::Resource],
        };
        for block in self.blocks(range) {
            let index = block.reader.index()?;
            for &scope in &scopes {
                values.add_tables(&index.tables, scope, key);
                let wanted = Wanted {
                    ids: false,
                    attributes: vec![(scope, key.into())],
                };
                for group in index
                    .groups
                    .iter()
                    .filter(|group| group.range.overlaps(&range))
                {
                    if index.keys().any(|held| *held == wanted.attributes[0]) && !values.full() {
                        let columns = block.reader.columns(&index, group, &wanted)?;
                        values.add_columns(&columns, &wanted.attributes[0]);
                    }
                }
            }
        }
        for live in &self.memory {
            let live = live.read();
            if live.range().is_some_and(|held| held.overlaps(&range)) {
                for &scope in &scopes {
                    values.add_tables(&live.tables, scope, key);
                    values.add_columns(&live.columns, &(scope, key.into()));
                }
            }
        }
        Ok(values.found)
    }

    /// Distinct names of spans in `range`, at most `limit`.
    ///
    /// # Errors
    /// As [`Snapshot::trace`].
    pub fn span_names(&self, range: TimeRange, limit: usize) -> Result<Vec<Value>> {
        let mut values = Values {
            limit,
            ..Values::default()
        };
        for block in self.blocks(range) {
            let index = block.reader.index()?;
            for group in index
                .groups
                .iter()
                .filter(|group| group.range.overlaps(&range))
            {
                if !values.full() {
                    let columns = block.reader.columns(&index, group, &Wanted::default())?;
                    columns
                        .names
                        .dictionary
                        .values
                        .iter()
                        .for_each(|value| values.add(value));
                }
            }
        }
        for live in &self.memory {
            let live = live.read();
            let names = &live.columns.names;
            let starts = live.columns.starts.iter().zip(&names.codes);
            let codes: BTreeSet<u32> = starts
                .filter(|(start, _)| range.contains(**start))
                .map(|(_, code)| *code)
                .collect();
            for code in codes {
                values.add(&names.dictionary.values[code as usize]);
            }
        }
        Ok(values.found)
    }

    fn blocks(&self, range: TimeRange) -> impl Iterator<Item = &Arc<Block<BlockFile>>> {
        self.version
            .blocks
            .iter()
            .filter(move |block| block.meta.range.overlaps(&range))
    }
}

/// Distinct values up to a limit, in order of discovery.
#[derive(Default)]
struct Values {
    limit: usize,
    seen: HashSet<String>,
    found: Vec<Value>,
}

impl Values {
    fn full(&self) -> bool {
        self.found.len() >= self.limit
    }

    fn add(&mut self, value: &Value) {
        if let Value::Array(values) = value {
            values.iter().for_each(|value| self.add(value));
        } else if !self.full() && self.seen.insert(format!("{value:?}")) {
            self.found.push(value.clone());
        }
    }

    fn add_tables(&mut self, tables: &Tables, scope: Scope, key: &str) {
        let values: Vec<Value> = match scope {
            Scope::Resource => tables
                .resources
                .iter()
                .filter_map(|r| resource_value(r, key))
                .collect(),
            Scope::Instrumentation => tables
                .scopes
                .iter()
                .filter_map(|s| scope_value(s, key))
                .collect(),
            _ => return,
        };
        values.iter().for_each(|value| self.add(value));
    }

    fn add_columns(&mut self, columns: &Columns, key: &Key) {
        if let Some(column) = columns.attributes.get(key) {
            column
                .dictionary
                .values
                .iter()
                .for_each(|value| self.add(value));
        }
    }
}

/// The columns that attributes are read from.
fn wanted_keys(attributes: &BTreeSet<AttributeRef>) -> Vec<Key> {
    let mut found: BTreeSet<Key> = BTreeSet::new();
    for attribute in attributes {
        if let AttributeRef::Attribute { scope, key } = attribute {
            match scope {
                Some(scope) => {
                    found.insert((*scope, key.as_str().into()));
                }
                None => {
                    found.insert((Scope::Span, key.as_str().into()));
                    found.insert((Scope::Resource, key.as_str().into()));
                }
            }
        }
    }
    found.into_iter().collect()
}

fn live_candidates(
    live: &Live,
    range: TimeRange,
    conditions: &[Condition],
    all: bool,
    found: &mut HashSet<TraceId>,
) {
    if !live.range().is_some_and(|held| held.overlaps(&range)) {
        return;
    }
    for row in live.columns.select(range, conditions, all, &live.tables) {
        found.insert(live.trace_ids[row as usize]);
    }
}

#[derive(Debug)]
enum Source {
    Block(BlockSource),
    Live(Arc<RwLock<Live>>),
}

impl Source {
    /// When the first span of a trace began, of those that lie here.
    fn start_of(&self, id: &TraceId) -> Option<i64> {
        match self {
            Self::Block(source) => source.index.trace(id).map(|entry| entry.start),
            Self::Live(live) => live.read().start_of(id),
        }
    }
}

/// A block with the groups that were decoded last.
#[derive(Debug)]
struct BlockSource {
    block: Arc<Block<BlockFile>>,
    index: Arc<Index>,
    decoded: VecDeque<(u32, Columns)>,
}

impl BlockSource {
    fn new(block: Arc<Block<BlockFile>>) -> Result<Self> {
        let index = block.reader.index()?;
        Ok(Self {
            block,
            index,
            decoded: VecDeque::new(),
        })
    }

    /// The traces of the block that may match, by the columns of the conditions alone.
    fn candidates(
        &mut self,
        range: TimeRange,
        conditions: &[Condition],
        all: bool,
        found: &mut HashSet<TraceId>,
    ) -> Result<()> {
        let index = Arc::clone(&self.index);
        let attributes = conditions.iter().map(|c| c.attribute.clone()).collect();
        let wanted = Wanted {
            ids: false,
            attributes: wanted_keys(&attributes),
        };
        let groups = index.groups.iter().zip(index.traces_by_group());
        for (group, traces) in groups.filter(|(group, _)| group.range.overlaps(&range)) {
            let columns = self.block.reader.columns(&index, group, &wanted)?;
            let rows = columns.select(range, conditions, all, &index.tables);
            for entry in traces {
                let span = entry.first..entry.first + entry.rows;
                if rows.range_cardinality(span) > 0 {
                    found.insert(entry.id);
                }
            }
        }
        Ok(())
    }

    /// The columns of a group, decoded once while the answer stays near it.
    fn group(&mut self, number: u32, keys: &[Key]) -> Result<&Columns> {
        if let Some(at) = self.decoded.iter().position(|(held, _)| *held == number) {
            return Ok(&self.decoded[at].1);
        }
        let group = &self.index.groups[number as usize];
        let wanted = Wanted {
            ids: true,
            attributes: keys.to_vec(),
        };
        let columns = self.block.reader.columns(&self.index, group, &wanted)?;
        if self.decoded.len() == GROUPS_KEPT {
            self.decoded.pop_front();
        }
        self.decoded.push_back((number, columns));
        Ok(&self.decoded[self.decoded.len() - 1].1)
    }
}

/// Puts the traces of an answer together, batch by batch.
#[derive(Debug)]
struct Assembly {
    /// Blocks in order of their making, then memory: of spans that came twice the first counts.
    sources: Vec<Source>,
    order: VecDeque<TraceId>,
    keys: Vec<Key>,
    failed: bool,
}

impl Iterator for Assembly {
    type Item = Result<SpanBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.order.is_empty() {
            return None;
        }
        let mut builder = BatchBuilder::new(&self.keys);
        while builder.batch.starts.len() < BATCH_ROWS
            && let Some(id) = self.order.pop_front()
        {
            if let Err(error) = self.add(&mut builder, id) {
                self.failed = true;
                return Some(Err(error));
            }
        }
        Some(Ok(builder.finish()))
    }
}

impl Assembly {
    fn add(&mut self, builder: &mut BatchBuilder, id: TraceId) -> Result<()> {
        let mut rows = Vec::new();
        for source in &mut self.sources {
            match source {
                Source::Block(source) => {
                    let Some(entry) = source.index.trace(&id).copied() else {
                        continue;
                    };
                    let TraceEntry {
                        group,
                        first,
                        rows: count,
                        ..
                    } = entry;
                    let index = Arc::clone(&source.index);
                    let columns = source.group(group, &self.keys)?;
                    let part = first..first + count;
                    part.for_each(|row| rows.push(builder.row(columns, &index.tables, row)));
                }
                Source::Live(live) => {
                    let live = live.read();
                    let part = live.rows_of(&id).iter();
                    rows.extend(part.map(|&row| builder.row(&live.columns, &live.tables, row)));
                }
            }
        }
        builder.trace(id, rows);
        Ok(())
    }
}

/// One span on its way into a batch.
struct RowParts {
    span_id: SpanId,
    parent_id: SpanId,
    start: i64,
    duration: u64,
    kind: u8,
    status: u8,
    name: Value,
    message: Value,
    service: Option<Value>,
    attributes: Vec<Option<Value>>,
}

struct BatchBuilder {
    keys: Vec<Key>,
    batch: SpanBatch,
    names: ColumnBuilder,
    messages: ColumnBuilder,
    attributes: Vec<ColumnBuilder>,
}

impl BatchBuilder {
    fn new(keys: &[Key]) -> Self {
        Self {
            keys: keys.to_vec(),
            batch: SpanBatch::default(),
            names: ColumnBuilder::default(),
            messages: ColumnBuilder::default(),
            attributes: keys.iter().map(|_| ColumnBuilder::default()).collect(),
        }
    }

    fn row(&self, columns: &Columns, tables: &Tables, row: u32) -> RowParts {
        let at = row as usize;
        let resource = &tables.resources[columns.resources[at] as usize];
        let scope = &tables.scopes[columns.scopes[at] as usize];
        let attribute = |(place, key): &Key| match place {
            Scope::Resource => resource_value(resource, key),
            Scope::Instrumentation => scope_value(scope, key),
            _ => columns
                .attributes
                .get(&(*place, Arc::clone(key)))?
                .get(row)
                .cloned(),
        };
        RowParts {
            span_id: columns.span_ids[at],
            parent_id: columns.parent_ids[at],
            start: columns.starts[at],
            duration: columns.durations[at],
            kind: columns.kinds[at],
            status: columns.statuses[at],
            name: columns.names.dictionary.values[columns.names.codes[at] as usize].clone(),
            message: columns.messages.dictionary.values[columns.messages.codes[at] as usize]
                .clone(),
            service: resource_value(resource, "service.name"),
            attributes: self.keys.iter().map(attribute).collect(),
        }
    }

    /// Adds the spans of a trace, by start, each once.
    fn trace(&mut self, id: TraceId, mut rows: Vec<RowParts>) {
        let mut seen = HashSet::new();
        rows.retain(|row| seen.insert((row.span_id, row.kind)));
        rows.sort_by_key(|row| (row.start, row.span_id));
        let batch = &mut self.batch;
        let first = batch.starts.len() as u32;
        let root = rows.iter().find(|row| row.parent_id == NO_PARENT);
        let text = |value: &Value| match value {
            Value::Str(text) => Some(Arc::clone(text)),
            _ => None,
        };
        let end = |row: &RowParts| row.start.saturating_add_unsigned(row.duration);
        batch.traces.push(TraceRows {
            id,
            rows: first..first + rows.len() as u32,
            start: rows.iter().map(|row| row.start).min().unwrap_or(0),
            end: rows.iter().map(end).max().unwrap_or(0),
            root_service: root.and_then(|row| row.service.as_ref()).and_then(text),
            root_name: root.and_then(|row| text(&row.name)),
        });
        let span_ids: Vec<SpanId> = rows.iter().map(|row| row.span_id).collect();
        let parent_ids: Vec<SpanId> = rows.iter().map(|row| row.parent_id).collect();
        let nested = nested::number(&span_ids, &parent_ids);
        let in_batch = |row: u32| if row == NO_ROW { NO_ROW } else { first + row };
        batch
            .parents
            .extend(nested.parents.into_iter().map(in_batch));
        batch.nested_left.extend(nested.left);
        batch.nested_right.extend(nested.right);
        batch.nested_parent.extend(nested.parent);
        batch.span_ids.extend(span_ids);
        batch.parent_ids.extend(parent_ids);
        for row in rows {
            batch.starts.push(row.start);
            batch.durations.push(row.duration);
            batch.kinds.push(row.kind);
            batch.statuses.push(row.status);
            self.names.push(Some(row.name));
            self.messages.push(Some(row.message));
            for (column, value) in self.attributes.iter_mut().zip(row.attributes) {
                column.push(value);
            }
        }
    }

    fn finish(mut self) -> SpanBatch {
        self.batch.names = self.names.finish().unwrap_or_default();
        self.batch.status_messages = self.messages.finish().unwrap_or_default();
        for ((scope, key), column) in self.keys.into_iter().zip(self.attributes) {
            if let Some(column) = column.finish() {
                self.batch
                    .attributes
                    .push(AttributeColumn { scope, key, column });
            }
        }
        self.batch
    }
}
