//! Writes live spans into blocks, one per time range: traces by their start, in groups.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use trine_storage::catalog::BlockMeta;
use trine_storage::codec::{put_signed, put_varint};
use trine_storage::fs::Fs;
use trine_storage::sealed::{PageRef, SealedWriter};
use trine_storage::ulid::BlockId;
use trine_storage::{Error, Result, TimeRange};

use super::format::{self, GROUP_BYTES, GROUP_ROWS, ZSTD_LEVEL};
use super::reader::TraceEntry;
use crate::columns::{Columns, Key, Sparse};
use crate::live::Live;
use crate::model::{TraceId, encode_resource, encode_scope};

/// A trace of memory and its rows, in order of arrival, without spans that came twice.
#[derive(Debug)]
pub(crate) struct LiveTrace {
    id: TraceId,
    start: i64,
    rows: Vec<u32>,
}

/// The traces of memory by the time range that their first span begins in. The ranges are as wide
/// as `range`, doubled until there are at most `ranges_max` (or they cannot grow).
pub(crate) fn plan(live: &Live, range: Duration, ranges_max: usize) -> Vec<Vec<LiveTrace>> {
    let mut traces: Vec<LiveTrace> = live.trace_ids().map(|id| trace(live, id)).collect();
    traces.sort_unstable_by_key(|trace| (trace.start, trace.id));
    let mut width = i64::try_from(range.as_nanos()).unwrap_or(i64::MAX).max(1);
    let count = |width: i64| {
        let mut last = None;
        let changes = traces
            .iter()
            .filter(|t| last.replace(t.start.div_euclid(width)) != Some(t.start.div_euclid(width)));
        changes.count()
    };
    while count(width) > ranges_max.max(1) && width <= i64::MAX / 2 {
        width *= 2;
    }
    let mut ranges: Vec<(i64, Vec<LiveTrace>)> = Vec::new();
    for trace in traces {
        let range = trace.start.div_euclid(width);
        match ranges.last_mut() {
            Some((last, traces)) if *last == range => traces.push(trace),
            _ => ranges.push((range, vec![trace])),
        }
    }
    ranges.into_iter().map(|(_, traces)| traces).collect()
}

/// The rows of a trace without duplicates: of spans with the same id and kind the first counts.
fn trace(live: &Live, id: &TraceId) -> LiveTrace {
    let columns = &live.columns;
    let mut seen = HashSet::new();
    let mut rows: Vec<u32> = live.rows_of(id).to_vec();
    rows.retain(|&row| seen.insert((columns.span_ids[row as usize], columns.kinds[row as usize])));
    let start = rows
        .iter()
        .map(|&row| columns.starts[row as usize])
        .min()
        .unwrap_or(0);
    LiveTrace {
        id: *id,
        start,
        rows,
    }
}

/// Writes `traces` as the block `id` into the file `path`, synced.
///
/// # Errors
/// [`Kind::Io`](trine_storage::Kind::Io).
pub(crate) fn write(
    fs: &dyn Fs,
    path: &Path,
    id: BlockId,
    live: &Live,
    traces: &[LiveTrace],
    created_ms: i64,
) -> Result<BlockMeta> {
    let mut pages = Pages::new(SealedWriter::create(fs, path, format::KIND)?)?;
    let mut table: Vec<TraceEntry> = Vec::with_capacity(traces.len());
    let mut groups = Vec::new();
    let (mut group_count, mut rows, mut first) = (0u32, 0u64, 0usize);
    while first < traces.len() {
        let mut group_rows: Vec<u32> = Vec::new();
        let mut group_bytes = 0;
        let mut last = first;
        while let Some(trace) = traces.get(last) {
            let bytes: usize = trace.rows.iter().map(|&row| live.encoded(row).len()).sum();
            let full = group_rows.len() + trace.rows.len() > GROUP_ROWS
                || group_bytes + bytes > GROUP_BYTES;
            if last > first && full {
                break;
            }
            let start = group_rows.len() as u32;
            table.push(TraceEntry {
                id: trace.id,
                start: trace.start,
                group: group_count,
                first: start,
                rows: trace.rows.len() as u32,
            });
            group_rows.extend_from_slice(&trace.rows);
            group_bytes += bytes;
            last += 1;
        }
        write_group(&mut pages, &mut groups, live, &group_rows)?;
        rows += group_rows.len() as u64;
        group_count += 1;
        first = last;
    }
    let mut header = Vec::new();
    put_varint(&mut header, group_count.into());
    header.extend_from_slice(&groups);
    let mut file = pages.file;
    file.section(format::TABLES, &tables(live))?;
    file.section(format::TRACES, &trace_table(table))?;
    file.section(format::GROUPS, &header)?;
    let bytes = file.finish()?;
    Ok(BlockMeta {
        id,
        range: starts(live, traces),
        rows,
        bytes,
        level: 0,
        sequence: 0,
        created_ms,
        deletes_applied: 0,
    })
}

/// From the first to the last start of the spans.
fn starts(live: &Live, traces: &[LiveTrace]) -> TimeRange {
    let rows = traces.iter().flat_map(|trace| &trace.rows);
    let starts = rows.map(|&row| live.columns.starts[row as usize]);
    let one = |start| TimeRange::inclusive(start, start);
    starts
        .map(one)
        .reduce(|all, one| all.union(&one))
        .unwrap_or(TimeRange::new(0, 0))
}

fn tables(live: &Live) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, live.tables.resources.len() as u64);
    live.tables
        .resources
        .iter()
        .for_each(|resource| encode_resource(&mut out, resource));
    put_varint(&mut out, live.tables.scopes.len() as u64);
    live.tables
        .scopes
        .iter()
        .for_each(|scope| encode_scope(&mut out, scope));
    out
}

fn trace_table(mut table: Vec<TraceEntry>) -> Vec<u8> {
    table.sort_unstable_by_key(|entry| entry.id);
    let mut out = Vec::new();
    put_varint(&mut out, table.len() as u64);
    for entry in table {
        out.extend_from_slice(&entry.id);
        put_signed(&mut out, entry.start);
        for number in [entry.group, entry.first, entry.rows] {
            put_varint(&mut out, number.into());
        }
    }
    out
}

/// Writes the pages of one group and appends its header.
fn write_group(pages: &mut Pages, header: &mut Vec<u8>, live: &Live, rows: &[u32]) -> Result<()> {
    let columns = gather(&live.columns, rows);
    let one = |start: &i64| TimeRange::inclusive(*start, *start);
    let range = columns
        .starts
        .iter()
        .map(one)
        .reduce(|all, one| all.union(&one));
    let range = range.unwrap_or(TimeRange::new(0, 0));
    put_varint(header, rows.len() as u64);
    put_signed(header, range.start);
    put_signed(header, range.end);
    let fixed: [fn(&mut Vec<u8>, &Columns); 3] =
        [format::put_times, format::put_codes, format::put_ids];
    for put in fixed {
        pages.page(header, |out| put(out, &columns))?;
    }
    pages.page(header, |out| {
        rows.iter()
            .for_each(|&row| format::put_span(out, live.encoded(row)));
    })?;
    put_varint(header, columns.attributes.len() as u64);
    for ((scope, key), column) in &columns.attributes {
        format::put_key(header, *scope, key);
        pages.page(header, |out| format::put_sparse(out, column))?;
    }
    Ok(())
}

/// The columns of some rows, with dictionaries of only what they hold.
fn gather(columns: &Columns, rows: &[u32]) -> Columns {
    let pick = |row: &u32| *row as usize;
    let mut out = Columns {
        span_ids: rows.iter().map(|r| columns.span_ids[pick(r)]).collect(),
        parent_ids: rows.iter().map(|r| columns.parent_ids[pick(r)]).collect(),
        starts: rows.iter().map(|r| columns.starts[pick(r)]).collect(),
        durations: rows.iter().map(|r| columns.durations[pick(r)]).collect(),
        kinds: rows.iter().map(|r| columns.kinds[pick(r)]).collect(),
        statuses: rows.iter().map(|r| columns.statuses[pick(r)]).collect(),
        resources: rows.iter().map(|r| columns.resources[pick(r)]).collect(),
        scopes: rows.iter().map(|r| columns.scopes[pick(r)]).collect(),
        ..Columns::default()
    };
    for (from, to) in [
        (&columns.names, &mut out.names),
        (&columns.messages, &mut out.messages),
    ] {
        for row in rows {
            let value = from.dictionary.values[from.codes[pick(row)] as usize].clone();
            to.codes.push(to.dictionary.code(value));
        }
    }
    for (key, column) in &columns.attributes {
        let key: &Key = key;
        let mut picked = Sparse::default();
        for (row, old) in (0u32..).zip(rows) {
            if let Some(value) = column.get(*old) {
                picked.rows.push(row);
                picked.codes.push(picked.dictionary.code(value.clone()));
            }
        }
        if !picked.rows.is_empty() {
            out.attributes.insert(key.clone(), picked);
        }
    }
    out
}

/// Writes compressed pages.
struct Pages {
    file: SealedWriter,
    zstd: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl Pages {
    fn new(file: SealedWriter) -> Result<Self> {
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)
            .map_err(|e| Error::io("set up the compression", e))?;
        Ok(Self {
            file,
            zstd,
            buffer: Vec::new(),
        })
    }

    /// Writes what `fill` gives and appends where it lies to `header`.
    fn page(&mut self, header: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.buffer.clear();
        fill(&mut self.buffer);
        let packed = self
            .zstd
            .compress(&self.buffer)
            .map_err(|e| Error::io("compress a page", e))?;
        let page: PageRef = self.file.page(&packed)?;
        page.put(header);
        put_varint(header, self.buffer.len() as u64);
        Ok(())
    }
}
