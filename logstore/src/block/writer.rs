//! Writes a block from entries that come sorted by stream and time. Called by the seal and by
//! compaction.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use trine_storage::frozen_index::FrozenWriter;
use trine_storage::fs::Fs;
use trine_storage::sealed::{PageRef, SealedWriter};
use trine_storage::{Labels, Result, TimeRange};

use super::format::{
    self, CHUNK_BYTES, CHUNK_ROWS_MAX, CHUNKS, ChunkHeader, FILTERS, KIND, LABEL_INDEX, LEVEL,
    LEVELS_MAX, LONG, Run, SUMMARY, Summary, WORDS,
};
use super::lines::LineBuilder;
use super::metadata;
use super::reader::BlockFile;
use crate::columns::Columns;
use crate::index::token::Token;
use crate::index::{IndexBuilder, TakenFrom};
use crate::sets::{self, Sets};
use trine_storage::pack::pack;

/// Chunks that are made of others are closed with this many bytes, lest small ones remain.
const CHUNK_BYTES_MAX: usize = CHUNK_BYTES / 2 * 3;

/// In place of metadata where there is none.
const NO_PAGE: PageRef = PageRef {
    offset: 0,
    len: 0,
    crc: 0,
};

/// A block that is being written.
pub(crate) struct BlockWriter {
    file: SealedWriter,
    index: FrozenWriter,
    tokens: IndexBuilder,
    /// The stream of what is pushed; it gets its code with its first entry.
    stream: Labels,
    code: Option<u32>,
    streams: u32,
    chunk: Chunk,
    /// How many bytes of lines and metadata the chunk may have.
    cut: usize,
    /// Whether the stream is alone in its chunks.
    is_large: bool,
    headers: Vec<u8>,
    chunks: u32,
    rows: u64,
    range: Option<TimeRange>,
}

/// The chunk that is being put together.
#[derive(Default)]
struct Chunk {
    lines: LineBuilder,
    timestamps: Vec<i64>,
    runs: Vec<Run>,
    /// For each entry an index into `sets`.
    metadata: Vec<u32>,
    sets: Sets,
    set_codes: sets::SetCodes,
    set_bytes: usize,
}

/// What the sets of a source of entries are called in the chunk that is being written.
#[derive(Debug, Default)]
pub(crate) struct SetCodes {
    chunk: u32,
    codes: HashMap<u32, u32>,
}

/// What was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// From the first to the last timestamp.
    pub(crate) range: TimeRange,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl BlockWriter {
    /// Begins a block.
    ///
    /// # Errors
    /// [`Kind::Io`](trine_storage::Kind::Io); so for all methods.
    pub(crate) fn create(fs: &dyn Fs, path: &Path) -> Result<Self> {
        Ok(Self {
            file: SealedWriter::create(fs, path, KIND)?,
            index: FrozenWriter::new(),
            tokens: IndexBuilder::new(),
            stream: Labels::empty(),
            code: None,
            streams: 0,
            chunk: Chunk::default(),
            cut: CHUNK_BYTES,
            is_large: false,
            headers: Vec::new(),
            chunks: 0,
            rows: 0,
            range: None,
        })
    }

    /// Begins a stream of about so many bytes. Streams come in label order; one without entries
    /// leaves no trace.
    ///
    /// A stream that fills chunks is alone in them, so that a merge can take them over, and they are
    /// about the same size; small ones share chunks.
    pub(crate) fn stream(&mut self, labels: &Labels, bytes: u64) -> Result<()> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let is_large = bytes >= CHUNK_BYTES / 4 * 3;
        if is_large || self.is_large {
            self.close_chunk()?;
        }
        self.is_large = is_large;
        self.cut = CHUNK_BYTES;
        if is_large {
            let chunks = (bytes.saturating_add(CHUNK_BYTES / 2) / CHUNK_BYTES).max(1);
            let cut = bytes.div_ceil(chunks);
            // Lines do not end where they should: what is left must not become one more chunk.
            self.cut = cut + cut / chunks.saturating_mul(2).max(16);
        }
        debug_assert!(
            self.streams == 0 || self.stream < *labels || self.code.is_none(),
            "streams come in label order"
        );
        self.stream = labels.clone();
        self.code = None;
        Ok(())
    }

    /// Allows that chunks of a block are taken over as they are; `None` when it does not.
    ///
    /// # Errors
    /// As [`BlockFile::tokens`].
    pub(crate) fn source(&mut self, file: &BlockFile) -> Result<Option<TakenFrom>> {
        Ok(self.tokens.source(file.tokens()?))
    }

    /// Takes over a chunk of the stream of another block, and nothing but the stream is in it. False
    /// when its entries should be pushed instead.
    pub(crate) fn take(
        &mut self,
        file: &BlockFile,
        number: u32,
        header: &ChunkHeader,
        from: TakenFrom,
    ) -> Result<bool> {
        let [run] = header.runs.as_slice() else {
            return Ok(false);
        };
        if self.chunk.lines.rows() > 0 {
            if self.chunk.bytes() < CHUNK_BYTES / 2 {
                // With this one it will be large enough.
                self.cut = CHUNK_BYTES_MAX;
                return Ok(false);
            }
            self.close_chunk()?;
        }
        let pages = file.pages(header)?;
        if !self.tokens.take(from, number)? {
            return Ok(false);
        }
        let mut copied = Vec::with_capacity(pages.len());
        for page in pages {
            copied.push(match page.is_empty() {
                true => NO_PAGE,
                false => self.file.page(&page)?,
            });
        }
        let run = Run {
            stream: self.code(),
            ..*run
        };
        let &[timestamps, lengths, text, variables, metadata] = copied.as_slice() else {
            return Ok(false);
        };
        self.put(&ChunkHeader {
            timestamps,
            lengths,
            text,
            variables,
            metadata,
            runs: vec![run],
            ..header.clone()
        });
        Ok(true)
    }

    /// Adds an entry of the stream, not older than the one before.
    #[cfg(test)]
    pub(crate) fn push(&mut self, timestamp: i64, line: &[u8], metadata: &Labels) -> Result<()> {
        self.make_room(line.len() + metadata.encoded().len())?;
        let set = self.chunk.set_code(metadata.encoded());
        self.add(timestamp, line, set);
        Ok(())
    }

    /// Adds entries of the stream, none older than the one before it. `codes` belongs to `columns`: it is new with them.
    pub(crate) fn push_rows(
        &mut self,
        columns: &Columns,
        rows: Range<usize>,
        codes: &mut SetCodes,
    ) -> Result<()> {
        for row in rows {
            let (line, set) = (columns.line(row), columns.set_code(row));
            self.make_room(line.len())?;
            if codes.chunk != self.chunks {
                codes.chunk = self.chunks;
                codes.codes.clear();
            }
            let chunk = &mut self.chunk;
            let code = match set {
                0 => 0,
                set => *codes
                    .codes
                    .entry(set)
                    .or_insert_with(|| chunk.set_code(columns.sets.encoded(set))),
            };
            self.add(columns.timestamps[row], line, code);
        }
        Ok(())
    }

    /// Closes the chunk when `bytes` more would be too much for it.
    fn make_room(&mut self, bytes: usize) -> Result<()> {
        let chunk = &self.chunk;
        let full = chunk.bytes() + bytes > self.cut;
        if chunk.lines.rows() > 0 && (full || chunk.lines.rows() >= CHUNK_ROWS_MAX) {
            self.close_chunk()?;
        }
        Ok(())
    }

    fn add(&mut self, timestamp: i64, line: &[u8], set: u32) {
        let code = self.code();
        self.chunk.push(code, timestamp, line, set);
    }

    /// The code of the stream.
    fn code(&mut self) -> u32 {
        self.code.unwrap_or_else(|| {
            self.index.push(&self.stream);
            self.streams += 1;
            *self.code.insert(self.streams - 1)
        })
    }

    fn close_chunk(&mut self) -> Result<()> {
        let (chunk, tokens) = (&mut self.chunk, &mut self.tokens);
        let first = chunk.timestamps.iter().min().copied();
        let last = chunk.timestamps.iter().max().copied();
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(());
        };
        let range = TimeRange::inclusive(first, last);
        let token = |text: &[u8], token: &Token| tokens.token(text, token);
        let lines = chunk.lines.encode(&chunk.timestamps, token);
        let timestamps = format::encode_timestamps(&chunk.timestamps, &chunk.runs);
        let timestamps = self.file.page(&timestamps)?;
        let lengths = self.file.page(&lines.lengths)?;
        let variables = self.file.page(&lines.variables)?;
        let text = self.file.page(&pack(&lines.text)?)?;
        let mut page = NO_PAGE;
        let mut levels = vec![Box::default()];
        let mut level_counts = Vec::new();
        if chunk.sets.len() > 0 {
            let columns = metadata::Columns::new(&chunk.sets, &chunk.metadata);
            page = self.file.page(&columns.encode())?;
            for (name, value) in columns.pairs() {
                self.tokens.field(name.as_bytes(), value.as_bytes());
            }
            if let Some((values, codes)) = columns.values(LEVEL) {
                (levels, level_counts) = count_levels(values, codes, &chunk.runs);
            }
        }
        self.tokens.end_chunk()?;
        let header = ChunkHeader {
            range,
            rows: small(chunk.lines.rows()),
            line_bytes: chunk.lines.line_bytes() as u64,
            timestamps,
            lengths,
            text,
            variables,
            metadata: page,
            runs: std::mem::take(&mut chunk.runs),
            levels,
            level_counts,
        };
        chunk.clear();
        self.put(&header);
        Ok(())
    }

    fn put(&mut self, header: &ChunkHeader) {
        let range = header.range;
        header.put(&mut self.headers);
        self.chunks += 1;
        self.rows += u64::from(header.rows);
        self.range = Some(self.range.map_or(range, |before| before.union(&range)));
    }

    /// Writes the sections and syncs the file.
    pub(crate) fn finish(mut self) -> Result<Written> {
        self.close_chunk()?;
        let summary = Summary {
            rows: self.rows,
            streams: self.streams,
            chunks: self.chunks,
        };
        self.file.section(LABEL_INDEX, &self.index.finish()?)?;
        self.file.section(CHUNKS, &self.headers)?;
        let tokens = self.tokens.finish()?;
        self.file.section(FILTERS, &tokens.filters)?;
        self.file.section(LONG, &tokens.long)?;
        self.file.section(WORDS, &tokens.words)?;
        self.file.section(SUMMARY, &summary.encode())?;
        let bytes = self.file.finish()?;
        Ok(Written {
            range: self.range.unwrap_or(TimeRange::new(0, 0)),
            rows: self.rows,
            bytes,
        })
    }
}

impl Chunk {
    /// Of lines and metadata.
    fn bytes(&self) -> usize {
        self.lines.line_bytes() + self.set_bytes
    }

    fn set_code(&mut self, encoded: &[u8]) -> u32 {
        let known = self.sets.len();
        let code = self.set_codes.code(&mut self.sets, encoded);
        if self.sets.len() > known {
            self.set_bytes += encoded.len();
        }
        code
    }

    fn push(&mut self, stream: u32, timestamp: i64, line: &[u8], set: u32) {
        match self.runs.last_mut() {
            Some(run) if run.stream == stream => {
                debug_assert!(run.last <= timestamp, "entries come in order of time");
                run.rows += 1;
                run.line_bytes += line.len() as u64;
                run.last = timestamp;
            }
            _ => self.runs.push(Run {
                stream,
                rows: 1,
                line_bytes: line.len() as u64,
                first: timestamp,
                last: timestamp,
            }),
        }
        self.timestamps.push(timestamp);
        self.metadata.push(set);
        self.lines.push(line);
    }

    fn clear(&mut self) {
        self.lines.clear();
        self.timestamps.clear();
        self.runs.clear();
        self.metadata.clear();
        self.sets.clear();
        self.set_codes.clear();
        self.set_bytes = 0;
    }
}

/// The levels of a chunk's entries and, when there are several, how many of each run have which.
/// None when they are too many.
fn count_levels(values: &[&str], codes: &[u64], runs: &[Run]) -> (Vec<Box<str>>, Vec<u32>) {
    let some_without = codes.contains(&0);
    let levels: Vec<Box<str>> = some_without
        .then(Box::default)
        .into_iter()
        .chain(values.iter().map(|&value| value.into()))
        .collect();
    if levels.len() > LEVELS_MAX {
        return (Vec::new(), Vec::new());
    }
    if levels.len() == 1 {
        return (levels, Vec::new());
    }
    let mut counts = Vec::with_capacity(levels.len() * runs.len());
    let mut rest = codes;
    for run in runs {
        let (of_run, after) = rest.split_at(rest.len().min(run.rows as usize));
        rest = after;
        let start = counts.len();
        counts.resize(start + levels.len(), 0);
        for &code in of_run {
            // Without a level comes first, if it occurs at all.
            let place = usize::try_from(code).unwrap_or(0) - usize::from(!some_without);
            counts[start + place] += 1;
        }
    }
    (levels, counts)
}

/// Numbers of entries in a chunk, which are [`CHUNK_ROWS_MAX`] at most.
fn small(number: usize) -> u32 {
    u32::try_from(number).expect("a chunk has CHUNK_ROWS_MAX entries at most")
}
