//! Entries of all places in order of time: a merge that opens places and chunks as late as it can.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use trine_storage::{Error, Labels, Matcher, Result, TimeRange};

use super::{Chunk, OpenPlace, Place};
use crate::block::format::ChunkHeader;
use crate::block::reader::BlockFile;
use crate::columns::Columns;
use crate::filter::Filters;
use crate::request::{Batch, Direction, Lines, Projection, RowBatch, Rows};
use crate::tombstone::{Hidden, Veils};

/// The most entries of one batch.
const BATCH_ROWS_MAX: usize = 4096;
/// The least that a batch is made for, however small the hint.
const BATCH_ROWS_MIN: usize = 16;
/// A batch ends when its lines take this many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// The code of a stream that was not selected.
const NOT_SELECTED: u32 = u32::MAX;

/// Iterator over the entries that a request asks for.
///
/// It holds the unpacked chunks that overlap in time where it stands, and no others.
#[derive(Debug)]
pub(crate) struct RowScan {
    matchers: Vec<Matcher>,
    range: TimeRange,
    hidden: Hidden,
    filters: Filters,
    direction: Direction,
    projection: Projection,
    batch_rows: usize,
    /// In the order in which their entries were appended.
    sources: Vec<Source>,
    streams: Streams,
    todo: BinaryHeap<Reverse<Todo>>,
    failed: Option<Error>,
}

#[derive(Debug)]
struct Source {
    place: Place,
    open: Option<OpenPlace>,
    /// For each stream code of the place its number in this scan.
    numbers: Vec<u32>,
    veils: Veils,
}

/// The streams that a scan has met, numbered.
#[derive(Debug, Default)]
struct Streams {
    labels: Vec<Labels>,
    numbers: HashMap<Labels, u32>,
}

/// What is to be done when the answer reaches its time.
#[derive(Debug)]
struct Todo {
    /// The time, turned so that what comes first is smaller.
    time: i64,
    work: Work,
    /// Empty before a row is known.
    labels: Labels,
    /// Source, chunk and row, turned like the time.
    arrival: [u32; 3],
}

#[derive(Debug)]
enum Work {
    OpenSource(usize),
    OpenChunk(usize, usize),
    Give(Box<Cursor>),
}

/// The chosen rows of one unpacked chunk, in the order in which they are given.
#[derive(Debug)]
struct Cursor {
    source: usize,
    chunk: usize,
    columns: Arc<Columns>,
    rows: Vec<u32>,
    next: usize,
}

impl Cursor {
    fn row(&self) -> Option<usize> {
        self.rows.get(self.next).map(|&row| row as usize)
    }
}

impl Work {
    /// At one time, places are opened before chunks, and both before rows are given.
    fn stage(&self) -> u8 {
        match self {
            Self::OpenSource(_) => 0,
            Self::OpenChunk(..) => 1,
            Self::Give(_) => 2,
        }
    }
}

impl Ord for Todo {
    fn cmp(&self, other: &Self) -> Ordering {
        self.time
            .cmp(&other.time)
            .then_with(|| self.work.stage().cmp(&other.work.stage()))
            .then_with(|| self.labels.cmp(&other.labels))
            .then_with(|| self.arrival.cmp(&other.arrival))
    }
}

impl PartialOrd for Todo {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Todo {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Todo {}

impl RowScan {
    /// A scan of `places`, which are in the order in which their entries were appended.
    pub(crate) fn new(places: Vec<Place>, hidden: Hidden, request: &Rows) -> Self {
        let hint = request.limit_hint.unwrap_or(BATCH_ROWS_MAX);
        let source = |place| Source {
            place,
            open: None,
            numbers: Vec::new(),
            veils: Veils::default(),
        };
        let mut scan = Self {
            matchers: request.matchers.clone(),
            range: request.range,
            hidden,
            filters: Filters::new(&request.lines),
            direction: request.direction,
            projection: request.projection,
            batch_rows: hint.clamp(BATCH_ROWS_MIN, BATCH_ROWS_MAX),
            sources: places.into_iter().map(source).collect(),
            streams: Streams::default(),
            todo: BinaryHeap::new(),
            failed: None,
        };
        for number in 0..scan.sources.len() {
            if let Some(range) = scan.sources[number].place.range() {
                scan.later(range, Work::OpenSource(number));
            }
        }
        scan
    }

    /// Remembers to open what holds entries in `range`, when the answer reaches it.
    fn later(&mut self, range: TimeRange, work: Work) {
        if !range.overlaps(&self.range) {
            return;
        }
        let time = match self.direction {
            Direction::Forward => range.start.max(self.range.start),
            Direction::Backward => !(range.end.min(self.range.end) - 1),
        };
        let todo = Todo {
            time,
            work,
            labels: Labels::empty(),
            arrival: [0; 3],
        };
        self.todo.push(Reverse(todo));
    }

    fn turned_time(&self, timestamp: i64) -> i64 {
        match self.direction {
            Direction::Forward => timestamp,
            Direction::Backward => !timestamp,
        }
    }

    fn open_source(&mut self, number: usize) -> Result<()> {
        let source = &mut self.sources[number];
        let (open, selected) = source.place.open(&self.matchers)?;
        let mut numbers = vec![NOT_SELECTED; open.streams()];
        let labels = open.labels_of(&selected)?;
        for (stream, labels) in &labels {
            numbers[*stream as usize] = self.streams.number(labels);
        }
        let veil = source.place.veil(&self.hidden, self.range);
        source.veils = Veils::new(&veil, labels.iter().map(|(code, labels)| (*code, labels)));
        let is_selected = |stream: u32| is_selected(&numbers, stream);
        let mut found = Vec::new();
        for chunk in 0..open.chunks() {
            let range = open
                .chunk(chunk)
                .and_then(|c| c.range_if(self.range, is_selected));
            found.extend(range.map(|range| (chunk, range)));
        }
        source.open = Some(open);
        source.numbers = numbers;
        for (chunk, range) in found {
            self.later(range, Work::OpenChunk(number, chunk));
        }
        Ok(())
    }

    fn open_chunk(&mut self, number: usize, chunk: usize) -> Result<()> {
        let source = &self.sources[number];
        let opened = match source.open.as_ref().and_then(|open| open.chunk(chunk)) {
            Some(Chunk::Block(file, header)) => self.unpack(file, header, source)?,
            Some(Chunk::Page(page)) => self.search(&page.columns, source),
            None => None,
        };
        let Some((columns, mut rows)) = opened else {
            return Ok(());
        };
        rows.sort_unstable_by(|&a, &b| {
            let key = |row: u32| {
                let time = self.turned_time(columns.timestamps[row as usize]);
                (time, source.numbers[columns.streams[row as usize] as usize])
            };
            let ((time_a, stream_a), (time_b, stream_b)) = (key(a), key(b));
            time_a
                .cmp(&time_b)
                .then_with(|| self.streams.compare(stream_a, stream_b))
                .then_with(|| turned(self.direction, a).cmp(&turned(self.direction, b)))
        });
        let cursor = Box::new(Cursor {
            source: number,
            chunk,
            columns,
            rows,
            next: 0,
        });
        self.queue(cursor);
        Ok(())
    }

    /// The rows of a block's chunk that are asked for, with no more columns than are needed.
    fn unpack(
        &self,
        file: &BlockFile,
        header: &ChunkHeader,
        source: &Source,
    ) -> Result<Option<(Arc<Columns>, Vec<u32>)>> {
        let numbers = &source.numbers;
        let timestamps = file.timestamps(header)?;
        let mut rows = Vec::new();
        let mut streams = Vec::with_capacity(timestamps.len());
        for run in &header.runs {
            let start = streams.len();
            streams.resize(start + run.rows as usize, run.stream);
            if is_selected(numbers, run.stream) && run.range().overlaps(&self.range) {
                let of_run = &timestamps[start..streams.len()];
                let first = start + of_run.partition_point(|&t| t < self.range.start);
                let end = start + of_run.partition_point(|&t| t < self.range.end);
                rows.extend(codes(first..end));
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let mut columns = Columns {
            timestamps,
            streams,
            ..Columns::default()
        };
        let veils = &source.veils;
        if self.projection.lines || !self.filters.is_empty() || veils.needs_lines(&columns, &rows) {
            (columns.blob, columns.ends) = file.lines(header, &columns.timestamps)?;
            self.filters.retain(&columns, &mut rows);
        }
        veils.retain(&columns, &mut rows);
        if rows.is_empty() {
            return Ok(None);
        }
        if self.projection.metadata
            && let Some(metadata) = file.metadata(header)?
        {
            (columns.sets, columns.metadata) = metadata.sets_of(&rows)?;
        }
        Ok(Some((Arc::new(columns), rows)))
    }

    /// The rows of a page of the buffer that are asked for.
    fn search(&self, page: &Arc<Columns>, source: &Source) -> Option<(Arc<Columns>, Vec<u32>)> {
        let wanted = |&row: &u32| {
            self.range.contains(page.timestamps[row as usize])
                && is_selected(&source.numbers, page.streams[row as usize])
        };
        let mut rows: Vec<u32> = codes(0..page.rows()).filter(wanted).collect();
        source.veils.retain(page, &mut rows);
        self.filters.retain(page, &mut rows);
        (!rows.is_empty()).then(|| (Arc::clone(page), rows))
    }

    /// Puts a cursor back in line by its next row.
    fn queue(&mut self, cursor: Box<Cursor>) {
        let Some(row) = cursor.row() else { return };
        let source = &self.sources[cursor.source];
        let stream = source.numbers[cursor.columns.streams[row] as usize];
        let arrival = [cursor.source, cursor.chunk, row]
            .map(|part| turned(self.direction, u32::try_from(part).unwrap_or(u32::MAX)));
        self.todo.push(Reverse(Todo {
            time: self.turned_time(cursor.columns.timestamps[row]),
            labels: self.streams.labels[stream as usize].clone(),
            work: Work::Give(cursor),
            arrival,
        }));
    }

    /// Gives rows of `cursor` until another one's turn comes or the batch is full.
    fn give(&mut self, mut cursor: Box<Cursor>, batch: &mut Building) {
        while let Some(row) = cursor.row() {
            batch.push(self, &cursor, row);
            cursor.next += 1;
            let Some(next) = cursor.row() else { return };
            let time = self.turned_time(cursor.columns.timestamps[next]);
            let others_turn = self
                .todo
                .peek()
                .is_some_and(|Reverse(top)| top.time <= time);
            if others_turn || batch.is_full(self.batch_rows) {
                self.queue(cursor);
                return;
            }
        }
    }
}

impl Iterator for RowScan {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let mut batch = Building::default();
        while !batch.is_full(self.batch_rows) {
            let Some(Reverse(todo)) = self.todo.pop() else {
                break;
            };
            let done = match todo.work {
                Work::OpenSource(number) => self.open_source(number),
                Work::OpenChunk(number, chunk) => self.open_chunk(number, chunk),
                Work::Give(cursor) => {
                    self.give(cursor, &mut batch);
                    Ok(())
                }
            };
            if let Err(error) = done {
                if batch.rows.timestamps.is_empty() {
                    return Some(Err(error));
                }
                self.failed = Some(error);
                break;
            }
        }
        (!batch.rows.timestamps.is_empty()).then(|| Ok(Batch::Rows(batch.finish())))
    }
}

fn is_selected(numbers: &[u32], stream: u32) -> bool {
    numbers
        .get(stream as usize)
        .is_some_and(|&number| number != NOT_SELECTED)
}

fn turned(direction: Direction, number: u32) -> u32 {
    match direction {
        Direction::Forward => number,
        Direction::Backward => !number,
    }
}

/// Row numbers; a chunk has far fewer than 2^32 rows.
fn codes(rows: std::ops::Range<usize>) -> std::ops::Range<u32> {
    let code = |row: usize| u32::try_from(row).unwrap_or(u32::MAX);
    code(rows.start)..code(rows.end)
}

impl Streams {
    fn number(&mut self, labels: &Labels) -> u32 {
        if let Some(&number) = self.numbers.get(labels) {
            return number;
        }
        let number = u32::try_from(self.labels.len()).expect("memory ends before 2^32 streams");
        self.labels.push(labels.clone());
        self.numbers.insert(labels.clone(), number);
        number
    }

    fn compare(&self, a: u32, b: u32) -> Ordering {
        if a == b {
            return Ordering::Equal;
        }
        self.labels[a as usize].cmp(&self.labels[b as usize])
    }
}

/// A batch that is being filled.
#[derive(Debug, Default)]
struct Building {
    rows: RowBatch,
    blob: Vec<u8>,
    /// Number in the scan to code in the batch.
    stream_codes: HashMap<u32, u32>,
    last_stream: Option<(u32, u32)>,
    /// Source, chunk and code there to code in the batch.
    set_codes: HashMap<(usize, usize, u32), u32>,
}

impl Building {
    fn is_full(&self, rows: usize) -> bool {
        self.rows.timestamps.len() >= rows || self.blob.len() >= BATCH_BYTES
    }

    fn push(&mut self, scan: &RowScan, cursor: &Cursor, row: usize) {
        let columns = &*cursor.columns;
        let number = scan.sources[cursor.source].numbers[columns.streams[row] as usize];
        let stream = self.stream_code(scan, number);
        self.rows.stream.push(stream);
        self.rows.timestamps.push(columns.timestamps[row]);
        if scan.projection.lines {
            self.blob.extend_from_slice(columns.line(row));
        }
        let end = u32::try_from(self.blob.len()).expect("a batch ends at BATCH_BYTES");
        self.rows.lines.ends.push(end);
        if self.rows.metadata_sets.is_empty() {
            self.rows.metadata_sets.push(Labels::empty());
        }
        let set = if scan.projection.metadata {
            self.set_code(cursor, row)
        } else {
            0
        };
        self.rows.metadata.push(set);
    }

    fn stream_code(&mut self, scan: &RowScan, number: u32) -> u32 {
        if let Some((last, code)) = self.last_stream
            && last == number
        {
            return code;
        }
        let streams = &mut self.rows.streams;
        let code = *self.stream_codes.entry(number).or_insert_with(|| {
            streams.push(scan.streams.labels[number as usize].clone());
            u32::try_from(streams.len() - 1).expect("a batch has BATCH_ROWS_MAX rows at most")
        });
        self.last_stream = Some((number, code));
        code
    }

    fn set_code(&mut self, cursor: &Cursor, row: usize) -> u32 {
        let code = cursor.columns.set_code(row);
        if code == 0 {
            return 0;
        }
        let sets = &mut self.rows.metadata_sets;
        *self
            .set_codes
            .entry((cursor.source, cursor.chunk, code))
            .or_insert_with(|| {
                sets.push(cursor.columns.set(row).clone());
                u32::try_from(sets.len() - 1).expect("a batch has BATCH_ROWS_MAX rows at most")
            })
    }

    fn finish(mut self) -> RowBatch {
        self.rows.lines = Lines {
            blob: Bytes::from(self.blob),
            ends: self.rows.lines.ends,
        };
        self.rows
    }
}
