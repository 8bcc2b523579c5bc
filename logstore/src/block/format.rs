//! The bytes of a block's sections and pages (`FORMAT.md`, "Block"): called by writer and reader.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_storage::codec::{Reader, put_bytes, put_signed, put_u32, put_u64, put_varint};
use trine_storage::sealed::PageRef;
use trine_storage::{Error, Kind, Result, TimeRange};

use super::column;
use trine_storage::pack::PAGE_RAW_BYTES_MAX;

/// What the header of a sealed file says of ours.
pub(crate) const KIND: [u8; 4] = *b"LOGS";
/// The version that is written, and the only one that is read.
pub(crate) const VERSION: u32 = 3;

/// Section: version and totals.
pub(crate) const SUMMARY: u32 = 1;
/// Section: labels of each stream, and which streams have which labels.
pub(crate) const LABEL_INDEX: u32 = 2;
/// Section: what is in each chunk and where its pages lie.
pub(crate) const CHUNKS: u32 = 3;
/// Section: which tokens are in which chunk, as filters.
pub(crate) const FILTERS: u32 = 4;
/// Section: long tokens of each chunk.
pub(crate) const LONG: u32 = 5;
/// Section: dictionaries of words and metadata.
pub(crate) const WORDS: u32 = 6;

/// A chunk is closed when its lines and metadata take this many bytes ...
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// ... or when it has this many entries.
pub(crate) const CHUNK_ROWS_MAX: usize = 16 << 10;
/// The name in the metadata whose values are counted in headers.
pub(crate) const LEVEL: &str = "detected_level";
/// Chunks with more different levels do not count them in their headers.
pub(crate) const LEVELS_MAX: usize = 16;

/// What section [`SUMMARY`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) rows: u64,
    pub(crate) streams: u32,
    pub(crate) chunks: u32,
}

impl Summary {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20);
        put_u32(&mut out, VERSION);
        put_u64(&mut out, self.rows);
        put_u32(&mut out, self.streams);
        put_u32(&mut out, self.chunks);
        out
    }

    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(name, bytes);
        let version = reader.u32()?;
        if version != VERSION {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{name} is a block of version {version}, this program reads {VERSION}"),
            ));
        }
        Ok(Self {
            rows: reader.u64()?,
            streams: reader.u32()?,
            chunks: reader.u32()?,
        })
    }
}

/// What section [`CHUNKS`] says of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    /// From the first to the last timestamp.
    pub(crate) range: TimeRange,
    pub(crate) rows: u32,
    /// Bytes of all lines.
    pub(crate) line_bytes: u64,
    pub(crate) timestamps: PageRef,
    pub(crate) lengths: PageRef,
    /// The lines without their variables.
    pub(crate) text: PageRef,
    /// The variables of the lines; not packed as a whole.
    pub(crate) variables: PageRef,
    /// Of length 0 when no entry has metadata; not packed as a whole.
    pub(crate) metadata: PageRef,
    /// The streams in it, in order of their codes.
    pub(crate) runs: Vec<Run>,
    /// The values of [`LEVEL`] that occur, empty for entries without; none at all when they are
    /// more than [`LEVELS_MAX`] and are not counted.
    pub(crate) levels: Vec<Box<str>>,
    /// When there are several levels: for each run how many entries have which.
    pub(crate) level_counts: Vec<u32>,
}

/// The entries of one stream in a chunk, in order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stream: u32,
    pub(crate) rows: u32,
    pub(crate) line_bytes: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl Run {
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::inclusive(self.first, self.last)
    }
}

impl ChunkHeader {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_signed(out, self.range.start);
        for page in self.pages() {
            page.put(out);
        }
        put_varint(out, self.runs.len() as u64);
        let mut next_stream = 0;
        for run in &self.runs {
            put_varint(out, u64::from(run.stream - next_stream));
            next_stream = run.stream + 1;
            put_varint(out, u64::from(run.rows));
            put_varint(out, run.line_bytes);
            put_varint(out, distance(self.range.start, run.first));
            put_varint(out, distance(run.first, run.last));
        }
        put_varint(out, self.levels.len() as u64);
        for level in &self.levels {
            put_bytes(out, level.as_bytes());
        }
        for &count in &self.level_counts {
            put_varint(out, u64::from(count));
        }
    }

    /// Timestamps, lengths, text, variables, metadata.
    pub(crate) fn pages(&self) -> [&PageRef; 5] {
        [
            &self.timestamps,
            &self.lengths,
            &self.text,
            &self.variables,
            &self.metadata,
        ]
    }

    /// For each level how many entries of a run have it, as places in `levels`; `None` when they
    /// are not counted.
    pub(crate) fn levels_of(&self, run: usize) -> Option<Vec<(usize, u32)>> {
        match self.levels.len() {
            0 => None,
            1 => Some(vec![(0, self.runs.get(run)?.rows)]),
            levels => {
                let counts = self.level_counts.get(run * levels..(run + 1) * levels)?;
                let counted = counts.iter().copied().enumerate();
                Some(counted.filter(|(_, count)| *count > 0).collect())
            }
        }
    }

    fn read(reader: &mut Reader<'_>, streams: u32) -> Result<Self> {
        let start = reader.signed()?;
        let timestamps = PageRef::read(reader)?;
        let lengths = PageRef::read(reader)?;
        let text = PageRef::read(reader)?;
        let variables = PageRef::read(reader)?;
        let metadata = PageRef::read(reader)?;
        let (mut rows, mut line_bytes, mut end) = (0u32, 0u64, start);
        let mut runs = Vec::new();
        let mut next_stream = 0u32;
        for _ in 0..reader.count(5)? {
            let bad = |reader: &Reader<'_>| reader.corrupt("a chunk's header makes no sense");
            let skipped = u32::try_from(reader.varint()?).ok();
            let stream = skipped.and_then(|skipped| next_stream.checked_add(skipped));
            let stream = stream.filter(|&s| s < streams).ok_or_else(|| bad(reader))?;
            next_stream = stream + 1;
            let run_rows = u32::try_from(reader.varint()?)
                .ok()
                .filter(|&rows| rows > 0);
            let run_rows = run_rows.ok_or_else(|| bad(reader))?;
            let run_bytes = reader.varint()?;
            let first = start
                .checked_add_unsigned(reader.varint()?)
                .ok_or_else(|| bad(reader))?;
            let last = first.checked_add_unsigned(reader.varint()?);
            let last = last
                .filter(|&last| last < i64::MAX)
                .ok_or_else(|| bad(reader))?;
            rows = rows
                .checked_add(run_rows)
                .filter(|&rows| usize::try_from(rows).is_ok_and(|rows| rows <= CHUNK_ROWS_MAX))
                .ok_or_else(|| bad(reader))?;
            line_bytes = line_bytes
                .checked_add(run_bytes)
                .filter(|&bytes| bytes <= u64::from(PAGE_RAW_BYTES_MAX))
                .ok_or_else(|| bad(reader))?;
            end = end.max(last);
            runs.push(Run {
                stream,
                rows: run_rows,
                line_bytes: run_bytes,
                first,
                last,
            });
        }
        let mut levels = Vec::new();
        for _ in 0..reader.count(1)? {
            levels.push(reader.text()?.into());
        }
        let mut level_counts = Vec::new();
        if levels.len() > 1 {
            if levels.len() > LEVELS_MAX {
                return Err(reader.corrupt("a chunk has more levels than are counted"));
            }
            for run in &runs {
                let mut left = run.rows;
                for _ in &levels {
                    let count = u32::try_from(reader.varint()?).ok();
                    let count = count.filter(|&count| count <= left);
                    let count = count.ok_or_else(|| reader.corrupt("levels are miscounted"))?;
                    left -= count;
                    level_counts.push(count);
                }
                if left > 0 {
                    return Err(reader.corrupt("levels are miscounted"));
                }
            }
        }
        let range = TimeRange::inclusive(start, end);
        Ok(Self {
            range,
            rows,
            line_bytes,
            timestamps,
            lengths,
            text,
            variables,
            metadata,
            runs,
            levels,
            level_counts,
        })
    }
}

/// Section [`CHUNKS`].
pub(crate) fn decode_chunks(
    name: &str,
    bytes: &[u8],
    summary: &Summary,
) -> Result<Vec<ChunkHeader>> {
    let mut reader = Reader::new(name, bytes);
    let mut chunks = Vec::new();
    let mut rows = 0u64;
    while !reader.is_empty() {
        let chunk = ChunkHeader::read(&mut reader, summary.streams)?;
        rows += u64::from(chunk.rows);
        chunks.push(chunk);
    }
    if chunks.len() as u64 != u64::from(summary.chunks) || rows != summary.rows {
        return Err(reader.corrupt("the chunks are not those that the summary counts"));
    }
    Ok(chunks)
}

/// How far `to` lies after `from`, which is not after it.
fn distance(from: i64, to: i64) -> u64 {
    to.wrapping_sub(from).cast_unsigned()
}

/// Page: timestamps, run by run, without the first of each.
pub(crate) fn encode_timestamps(timestamps: &[i64], runs: &[Run]) -> Vec<u8> {
    let mut distances = Vec::with_capacity(timestamps.len());
    let mut unit = 0;
    let mut rest = timestamps;
    for run in runs {
        let rows = usize::try_from(run.rows)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        let (of_run, after) = rest.split_at(rows);
        for (before, timestamp) in of_run.iter().zip(of_run.iter().skip(1)) {
            let far = distance(*before, *timestamp);
            unit = common_divisor(far, unit);
            distances.push(far);
        }
        rest = after;
    }
    // Clocks of milliseconds leave zeros that need not be stored.
    let unit = unit.max(1);
    for far in &mut distances {
        *far /= unit;
    }
    let mut out = Vec::new();
    put_varint(&mut out, unit);
    column::put_blocks(&mut out, &distances);
    out
}

/// Euclid's.
fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Reads what [`encode_timestamps`] wrote.
pub(crate) fn decode_timestamps(name: &str, raw: &[u8], chunk: &ChunkHeader) -> Result<Vec<i64>> {
    let mut reader = Reader::new(name, raw);
    let unit = reader.varint()?;
    let rows = usize::try_from(chunk.rows).unwrap_or(0).min(CHUNK_ROWS_MAX);
    let distances = column::blocks(&mut reader, rows.saturating_sub(chunk.runs.len()))?;
    let bad = |what: &str| Error::corrupt(name, 0, what);
    let mut distances = distances.into_iter();
    let mut timestamps = Vec::with_capacity(rows);
    for run in &chunk.runs {
        let mut timestamp = run.first;
        timestamps.push(timestamp);
        for far in distances
            .by_ref()
            .take(usize::try_from(run.rows).unwrap_or(0).saturating_sub(1))
        {
            timestamp = far
                .checked_mul(unit)
                .and_then(|far| timestamp.checked_add_unsigned(far))
                .ok_or_else(|| bad("a timestamp is out of range"))?;
            timestamps.push(timestamp);
        }
        if timestamp != run.last {
            return Err(bad("timestamps do not end where their header says"));
        }
    }
    Ok(timestamps)
}
