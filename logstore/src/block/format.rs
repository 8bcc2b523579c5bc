//! The bytes of a block's sections and pages (`FORMAT.md`, "Block"): called by writer and reader.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::ops::Range;

use trine_storage::codec::{Reader, put_bytes, put_signed, put_u32, put_u64, put_varint};
use trine_storage::sealed::PageRef;
use trine_storage::{Error, Kind, Labels, Result, TimeRange};

use crate::wal_record::{put_code_runs, read_code_runs};

/// What the header of a sealed file says of ours.
pub(crate) const KIND: [u8; 4] = *b"LOGS";
/// The version that is written, and the only one that is read.
pub(crate) const VERSION: u32 = 2;

/// Section: version and totals.
pub(crate) const SUMMARY: u32 = 1;
/// Section: labels of each stream, and which streams have which labels.
pub(crate) const LABEL_INDEX: u32 = 2;
/// Section: what is in each chunk and where its pages lie.
pub(crate) const CHUNKS: u32 = 3;

/// A chunk is closed when its lines and metadata take this many bytes ...
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// ... or when it has this many entries.
pub(crate) const CHUNK_ROWS_MAX: usize = 16 << 10;
/// More than any page unpacks to; a claim above it is damage.
const PAGE_RAW_BYTES_MAX: u32 = 64 << 20;

const STORED: u8 = 0;
const ZSTD: u8 = 1;
const ZSTD_LEVEL: i32 = 1;

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
    pub(crate) lines: PageRef,
    /// Of length 0 when no entry has metadata.
    pub(crate) metadata: PageRef,
    /// The streams in it, in order of their codes.
    pub(crate) runs: Vec<Run>,
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
        for page in [&self.timestamps, &self.lengths, &self.lines, &self.metadata] {
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
    }

    fn read(reader: &mut Reader<'_>, streams: u32) -> Result<Self> {
        let start = reader.signed()?;
        let timestamps = PageRef::read(reader)?;
        let lengths = PageRef::read(reader)?;
        let lines = PageRef::read(reader)?;
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
        let range = TimeRange::inclusive(start, end);
        Ok(Self {
            range,
            rows,
            line_bytes,
            timestamps,
            lengths,
            lines,
            metadata,
            runs,
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
    let mut out = Vec::with_capacity(3 * timestamps.len());
    let mut rest = timestamps;
    for run in runs {
        let rows = usize::try_from(run.rows)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        let (of_run, after) = rest.split_at(rows);
        for (before, timestamp) in of_run.iter().zip(of_run.iter().skip(1)) {
            put_varint(&mut out, distance(*before, *timestamp));
        }
        rest = after;
    }
    out
}

/// Reads what [`encode_timestamps`] wrote.
pub(crate) fn decode_timestamps(name: &str, raw: &[u8], chunk: &ChunkHeader) -> Result<Vec<i64>> {
    let mut reader = Reader::new(name, raw);
    let mut timestamps = Vec::with_capacity(CHUNK_ROWS_MAX.min(raw.len() + chunk.runs.len()));
    for run in &chunk.runs {
        let mut timestamp = run.first;
        timestamps.push(timestamp);
        for _ in 1..run.rows {
            timestamp = timestamp
                .checked_add_unsigned(reader.varint()?)
                .ok_or_else(|| reader.corrupt("a timestamp is out of range"))?;
            timestamps.push(timestamp);
        }
        if timestamp != run.last {
            return Err(reader.corrupt("timestamps do not end where their header says"));
        }
    }
    Ok(timestamps)
}

/// Page: sets of metadata and which entry has which.
pub(crate) fn encode_metadata(sets: &[Labels], codes: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, sets.len() as u64 - 1);
    for set in sets.iter().skip(1) {
        put_bytes(&mut out, set.encoded());
    }
    put_code_runs(&mut out, codes);
    out
}

/// Metadata of a chunk; sets are only parsed when they are asked for.
#[derive(Debug)]
pub(crate) struct Metadata {
    raw: Vec<u8>,
    sets: Vec<Range<usize>>,
    pub(crate) codes: Vec<u32>,
}

impl Metadata {
    pub(crate) fn decode(name: &str, raw: Vec<u8>, rows: u32) -> Result<Self> {
        let mut reader = Reader::new(name, &raw);
        // The empty set is not stored.
        let mut sets = vec![Range::default()];
        for _ in 0..reader.count(1)? {
            let len = reader.bytes()?.len();
            sets.push(reader.offset() - len..reader.offset());
        }
        let rows = usize::try_from(rows)
            .unwrap_or(usize::MAX)
            .min(CHUNK_ROWS_MAX);
        let codes = read_code_runs(&mut reader, rows, sets.len())?;
        Ok(Self { raw, sets, codes })
    }

    /// The sets that `rows` use, each in its place; the others are left empty.
    pub(crate) fn sets_of(&self, rows: &[u32]) -> Result<Vec<Labels>> {
        let empty = Labels::empty();
        let mut sets = vec![empty; self.sets.len()];
        for &row in rows {
            let code = usize::try_from(row)
                .ok()
                .and_then(|row| self.codes.get(row));
            let code = code
                .and_then(|&code| usize::try_from(code).ok())
                .unwrap_or(0);
            if let Some(set) = sets.get_mut(code).filter(|set| set.is_empty())
                && let Some(bytes) = self.sets.get(code).and_then(|at| self.raw.get(at.clone()))
            {
                *set = Labels::from_encoded(bytes)?;
            }
        }
        Ok(sets)
    }
}

/// Packs a page: codec, length of what is packed, packed bytes.
pub(crate) fn pack(raw: &[u8]) -> Result<Vec<u8>> {
    let raw_len = u32::try_from(raw.len())
        .ok()
        .filter(|&len| len <= PAGE_RAW_BYTES_MAX);
    let raw_len = raw_len.ok_or_else(|| {
        Error::new(
            Kind::Limit,
            format!("a page of {} bytes is too large", raw.len()),
        )
    })?;
    let packed =
        zstd::bulk::compress(raw, ZSTD_LEVEL).map_err(|e| Error::io("compress a page", e))?;
    let (codec, body) = if packed.len() < raw.len() {
        (ZSTD, packed.as_slice())
    } else {
        (STORED, raw)
    };
    let mut out = Vec::with_capacity(5 + body.len());
    out.push(codec);
    put_u32(&mut out, raw_len);
    out.extend_from_slice(body);
    Ok(out)
}

/// Unpacks what [`pack`] made.
pub(crate) fn unpack(name: &str, page: &[u8]) -> Result<Vec<u8>> {
    let mut reader = Reader::new(name, page);
    let codec = reader.u8()?;
    let raw_len = reader.u32()?;
    if raw_len > PAGE_RAW_BYTES_MAX {
        return Err(reader.corrupt("a page says that it is larger than any page"));
    }
    let raw_len = usize::try_from(raw_len).unwrap_or(usize::MAX);
    let body = reader.take(reader.remaining())?;
    let raw = match codec {
        STORED => body.to_vec(),
        ZSTD => zstd::bulk::decompress(body, raw_len)
            .map_err(|_| reader.corrupt("a page cannot be decompressed"))?,
        _ => return Err(reader.corrupt("a page has an unknown codec")),
    };
    if raw.len() != raw_len {
        return Err(reader.corrupt("a page is not as long as it says"));
    }
    Ok(raw)
}
