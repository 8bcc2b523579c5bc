//! Makes one block of several: their entries by stream and time, without what is not to be seen
//! and without entries that another of the blocks has byte for byte. Called by `db/compact`.
//!
//! Of each block one chunk is unpacked at a time, however many streams there are. Entries of a
//! stream go from block to block as slices as long as its times do not overlap, and a large chunk of
//! one stream that overlaps with nothing goes as it is, with what the token index says of it.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use trine_storage::block_set::Block;
use trine_storage::{Labels, Result};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::block::format::{CHUNK_BYTES, CHUNK_ROWS_MAX, ChunkHeader, Run};
use crate::block::reader::{BlockFile, Tables};
use crate::block::writer::{BlockWriter, SetCodes, Written};
use crate::columns::Columns;
use crate::index::TakenFrom;
use crate::tombstone::{Hidden, Needs, Veils};

/// A block that is being read from its first entry to its last.
#[derive(Debug)]
struct Source<'a> {
    file: &'a BlockFile,
    tables: Arc<Tables>,
    veils: Veils,
    /// Where the writer takes chunks from as they are; `None` when it does not.
    taken_from: Option<TakenFrom>,
    /// Bytes of each stream, about.
    stream_bytes: Vec<u64>,
    next_chunk: usize,
    /// The chunk at hand when it is not unpacked because it may be taken over as it is.
    whole: Option<usize>,
    /// The chunk that is unpacked; only what is to be seen.
    columns: Columns,
    /// What its sets of metadata are called in the block that is written.
    set_codes: SetCodes,
    /// The streams in it and where their entries lie.
    runs: Vec<(u32, Range<usize>)>,
    /// Of `runs`, and of its entries.
    run: usize,
    row: usize,
    /// The stream that comes next; `None` at the end.
    labels: Option<Labels>,
}

impl<'a> Source<'a> {
    fn open(
        block: &'a Block<BlockFile>,
        hidden: &Hidden,
        taken_from: Option<TakenFrom>,
    ) -> Result<Self> {
        let tables = block.reader.tables()?;
        let veils = veils_of(block, &tables, hidden)?;
        let mut stream_bytes = vec![0; tables.index.len()];
        for header in &tables.chunks {
            let metadata = u64::from(header.metadata.len) / u64::from(header.rows.max(1));
            for run in &header.runs {
                let bytes = run.line_bytes + u64::from(run.rows) * metadata;
                if let Some(sum) = stream_bytes.get_mut(run.stream as usize) {
                    *sum += bytes;
                }
            }
        }
        let mut source = Self {
            file: &block.reader,
            tables,
            veils,
            taken_from,
            stream_bytes,
            next_chunk: 0,
            whole: None,
            columns: Columns::default(),
            set_codes: SetCodes::default(),
            runs: Vec::new(),
            run: 0,
            row: 0,
            labels: None,
        };
        source.load()?;
        source.name()?;
        Ok(source)
    }

    /// Goes on to the next chunk of which something is to be seen.
    fn load(&mut self) -> Result<()> {
        let tables = Arc::clone(&self.tables);
        self.runs.clear();
        self.run = 0;
        self.row = 0;
        self.whole = None;
        while self.runs.is_empty()
            && let Some(header) = tables.chunks.get(self.next_chunk)
        {
            self.next_chunk += 1;
            match header.runs.as_slice() {
                [run] if self.may_be_taken(header, run) => {
                    self.whole = Some(self.next_chunk - 1);
                    self.runs.push((run.stream, 0..run.rows as usize));
                }
                _ => self.unpack(header)?,
            }
        }
        if self.runs.is_empty() {
            self.columns = Columns::default();
        }
        Ok(())
    }

    /// Whether all of a chunk is to be seen and it is large enough to stay what it is.
    fn may_be_taken(&self, header: &ChunkHeader, run: &Run) -> bool {
        let bytes = header.line_bytes + u64::from(header.metadata.len);
        let is_large =
            bytes >= CHUNK_BYTES as u64 / 2 || header.rows as usize >= CHUNK_ROWS_MAX / 2;
        let veil = self.veils.of(run.stream);
        let is_touched = veil.is_some_and(|veil| veil.touches(run.range()));
        self.taken_from.is_some() && is_large && !is_touched
    }

    /// The chunk at hand, its number and when its last entry is, if it is not unpacked.
    fn whole(&self) -> Option<(u32, &ChunkHeader, i64)> {
        let header = self.tables.chunks.get(self.whole?)?;
        let last = header.runs.first()?.last;
        Some((u32::try_from(self.whole?).ok()?, header, last))
    }

    /// Takes over the chunk at hand, all of which comes before `next`. False when its entries are to
    /// be given one by one.
    fn take(&mut self, next: Option<i64>, writer: &mut BlockWriter) -> Result<bool> {
        let Some((number, header, last)) = self.whole() else {
            return Ok(false);
        };
        match self.taken_from {
            Some(from) if next.is_none_or(|next| last < next) => {
                writer.take(self.file, number, header, from)
            }
            _ => Ok(false),
        }
    }

    /// Unpacks the chunk at hand if it is not.
    fn open_chunk(&mut self) -> Result<()> {
        let tables = Arc::clone(&self.tables);
        if let Some(header) = self.whole.take().and_then(|whole| tables.chunks.get(whole)) {
            self.runs.clear();
            self.unpack(header)?;
        }
        Ok(())
    }

    fn unpack(&mut self, header: &ChunkHeader) -> Result<()> {
        let hidden = header.runs.iter().all(|run| {
            let veil = self.veils.of(run.stream);
            veil.is_some_and(|veil| veil.covers(run.range()))
        });
        if hidden {
            return Ok(());
        }
        let mut columns = Columns {
            timestamps: self.file.timestamps(header)?,
            ..Columns::default()
        };
        let all = Needs {
            lines: true,
            metadata: true,
        };
        all.load(self.file, header, &mut columns)?;
        let mut start = 0;
        for run in &header.runs {
            let end = start + run.rows as usize;
            columns.streams.resize(end, run.stream);
            self.runs.push((run.stream, start..end));
            start = end;
        }
        let mut seen: Vec<u32> = (0..header.rows).collect();
        self.veils.retain(&columns, &mut seen);
        if seen.len() < columns.rows() {
            (columns, self.runs) = only(&columns, &seen);
        }
        self.columns = columns;
        self.set_codes = SetCodes::default();
        Ok(())
    }

    /// Says which stream comes next.
    fn name(&mut self) -> Result<()> {
        self.labels = match self.runs.get(self.run) {
            Some((stream, _)) => Some(self.tables.index.labels(*stream)?),
            None => None,
        };
        Ok(())
    }

    /// Bytes of the stream that comes next, about.
    fn bytes(&self) -> u64 {
        let stream = self.runs.get(self.run).map(|(stream, _)| *stream as usize);
        let bytes = stream.and_then(|stream| self.stream_bytes.get(stream));
        bytes.copied().unwrap_or(0)
    }

    /// Where the rest of the run lies that comes next.
    fn rest(&self) -> Range<usize> {
        let run = self.runs.get(self.run);
        run.map_or(0..0, |(_, rows)| self.row.max(rows.start)..rows.end)
    }

    fn timestamp(&self) -> i64 {
        if let Some(run) = self.whole().and_then(|(_, header, _)| header.runs.first()) {
            return run.first;
        }
        let row = self.rest().start;
        self.columns
            .timestamps
            .get(row)
            .copied()
            .unwrap_or(i64::MAX)
    }

    /// Gives the next `rows` entries of the run.
    fn give(&mut self, rows: usize, writer: &mut BlockWriter) -> Result<()> {
        let start = self.rest().start;
        writer.push_rows(&self.columns, start..start + rows, &mut self.set_codes)
    }

    /// Goes on after `rows` entries of the run. False when the stream ends there.
    fn advance(&mut self, rows: usize) -> Result<bool> {
        let rest = self.rest();
        self.row = rest.start + rows;
        if self.row < rest.end {
            return Ok(true);
        }
        let stream = self.runs.get(self.run).map(|(stream, _)| *stream);
        self.run += 1;
        if self.run >= self.runs.len() {
            self.load()?;
        }
        let goes_on = stream.is_some() && self.runs.get(self.run).map(|(s, _)| *s) == stream;
        if !goes_on {
            self.name()?;
        }
        Ok(goes_on)
    }
}

/// A copy of some rows, which rise, and where the streams lie in it.
fn only(columns: &Columns, rows: &[u32]) -> (Columns, Vec<(u32, Range<usize>)>) {
    let mut copy = Columns {
        sets: columns.sets.clone(),
        ..Columns::default()
    };
    for row in rows.iter().map(|&row| row as usize) {
        let (stream, timestamp) = (columns.streams[row], columns.timestamps[row]);
        copy.push(stream, timestamp, columns.line(row), columns.set_code(row));
    }
    let mut start = 0;
    let run = |codes: &[u32]| {
        let rows = start..start + codes.len();
        start = rows.end;
        (codes[0], rows)
    };
    let runs = copy.streams.chunk_by(|a, b| a == b).map(run).collect();
    (copy, runs)
}

/// Blocks that are being merged.
pub(crate) struct Merger<'a> {
    /// By sequence.
    sources: Vec<Source<'a>>,
    writer: BlockWriter,
    /// For the hashes of entries of one instant.
    seed: u64,
}

impl<'a> Merger<'a> {
    /// Opens blocks, which are in the order in which their entries were appended, to merge them into
    /// what `writer` writes. Chunks of blocks that are `sound` may be taken over as they are. `seed`
    /// should differ from merge to merge.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) and [`Kind::Io`](trine_storage::Kind::Io)
    /// when a block cannot be read; so below.
    pub(crate) fn open(
        blocks: &[&'a Block<BlockFile>],
        hidden: &Hidden,
        seed: u64,
        mut writer: BlockWriter,
        sound: bool,
    ) -> Result<Self> {
        let mut sources = Vec::with_capacity(blocks.len());
        for block in blocks {
            let taken_from = match sound {
                true => writer.source(&block.reader)?,
                false => None,
            };
            sources.push(Source::open(block, hidden, taken_from)?);
        }
        Ok(Self {
            sources,
            writer,
            seed,
        })
    }

    /// Writes all entries; `check` is asked again and again.
    pub(crate) fn run(mut self, check: &dyn Fn() -> Result<()>) -> Result<Written> {
        loop {
            let labels = self.sources.iter().filter_map(|s| s.labels.as_ref()).min();
            let Some(labels) = labels.cloned() else {
                return self.writer.finish();
            };
            let with = |source: &Source<'_>| source.labels.as_ref() == Some(&labels);
            let mut active: Vec<usize> = (0..self.sources.len())
                .filter(|&number| with(&self.sources[number]))
                .collect();
            let bytes = active.iter().map(|&number| self.sources[number].bytes());
            self.writer.stream(&labels, bytes.sum())?;
            while !active.is_empty() {
                check()?;
                self.step(&mut active)?;
            }
        }
    }

    /// Gives the entries of one stream that come before those of all blocks but one.
    fn step(&mut self, active: &mut Vec<usize>) -> Result<()> {
        let mut heads: Vec<(i64, usize)> = active
            .iter()
            .map(|&number| (self.sources[number].timestamp(), number))
            .collect();
        heads.sort_unstable();
        let Some(&(first, number)) = heads.first() else {
            return Ok(());
        };
        let next = heads.get(1).map(|(timestamp, _)| *timestamp);
        if next == Some(first) {
            return self.instant(first, active);
        }
        let source = &mut self.sources[number];
        let mut rows = source.rest().len();
        if !source.take(next, &mut self.writer)? {
            source.open_chunk()?;
            let times = &source.columns.timestamps[source.rest()];
            rows = next.map_or(times.len(), |next| times.partition_point(|&t| t < next));
            source.give(rows, &mut self.writer)?;
        }
        if !source.advance(rows)? {
            active.retain(|&other| other != number);
        }
        Ok(())
    }

    /// Gives the entries of one stream and one instant that several blocks have, each once. That
    /// two of them are the same is told by 128 bits of hash, so that an instant with any number of
    /// entries takes little memory.
    fn instant(&mut self, timestamp: i64, active: &mut Vec<usize>) -> Result<()> {
        let mut given = HashSet::new();
        for number in active.clone() {
            let source = &mut self.sources[number];
            while source.timestamp() == timestamp {
                source.open_chunk()?;
                let row = source.rest().start;
                if given.insert(hash(&source.columns, row, self.seed)) {
                    source.give(1, &mut self.writer)?;
                }
                if !source.advance(1)? {
                    active.retain(|&other| other != number);
                    break;
                }
            }
        }
        Ok(())
    }
}

/// A hash of line and metadata of an entry.
fn hash(columns: &Columns, row: usize, seed: u64) -> u128 {
    let set = columns.set(row);
    let set = xxh3_128_with_seed(set, seed);
    // The metadata's hash seeds the line's, so that the border between the two counts.
    let seed = seed ^ (set as u64) ^ ((set >> 64) as u64).rotate_left(32);
    xxh3_128_with_seed(columns.line(row), seed)
}

/// What is hidden of the streams of a block.
fn veils_of(block: &Block<BlockFile>, tables: &Tables, hidden: &Hidden) -> Result<Veils> {
    let veil = hidden.veil(Some(&block.meta), block.meta.range);
    let streams = match veil.needs_streams() {
        true => veil.streams_of(tables)?,
        false => Vec::new(),
    };
    let streams = streams.iter().map(|(code, labels)| (*code, labels));
    Ok(Veils::new(&veil, streams))
}

/// Whether a block has entries that are `hidden`: lines are looked at where that must be known.
pub(crate) fn holds_hidden(
    block: &Block<BlockFile>,
    hidden: &Hidden,
    check: &dyn Fn() -> Result<()>,
) -> Result<bool> {
    let tables = block.reader.tables()?;
    let veils = veils_of(block, &tables, hidden)?;
    for header in &tables.chunks {
        check()?;
        if chunk_holds_hidden(&block.reader, header, &veils)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn chunk_holds_hidden(file: &BlockFile, header: &ChunkHeader, veils: &Veils) -> Result<bool> {
    let touched = |run: &Run| {
        let veil = veils.of(run.stream);
        veil.is_some_and(|veil| veil.touches(run.range()))
    };
    if !header.runs.iter().any(touched) {
        return Ok(false);
    }
    let mut columns = Columns {
        timestamps: file.timestamps(header)?,
        ..Columns::default()
    };
    for run in &header.runs {
        let rows = columns.streams.len() + run.rows as usize;
        columns.streams.resize(rows, run.stream);
    }
    let mut rows: Vec<u32> = (0..header.rows).collect();
    let needs = veils.needs(&columns, &rows);
    needs.load(file, header, &mut columns)?;
    veils.retain(&columns, &mut rows);
    Ok(rows.len() < columns.rows())
}

/// How many entries of a block are expired, as far as runs as a whole tell.
pub(crate) fn expired_rows(block: &Block<BlockFile>, hidden: &Hidden) -> Result<u64> {
    let tables = block.reader.tables()?;
    let mut sets = tables.index.label_sets();
    let mut oldest = Vec::new();
    for stream in 0..u32::try_from(tables.index.len()).unwrap_or(u32::MAX) {
        let labels = sets.labels(stream)?;
        oldest.push(hidden.retention.oldest_ns(&labels, hidden.now_ns));
    }
    let runs = tables.chunks.iter().flat_map(|chunk| &chunk.runs);
    let expired = runs.filter(|run| {
        let oldest = oldest.get(run.stream as usize);
        oldest.is_some_and(|&oldest| run.range().end <= oldest)
    });
    Ok(expired.map(|run| u64::from(run.rows)).sum())
}
