//! The bytes of segments and frames (`FORMAT.md`, "Write-ahead log").

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;

use super::Compression;
use crate::codec::{Reader, put_u32, put_u64};
use crate::error::{Error, Kind, Result};

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
const SEGMENT_MAGIC: &[u8; 8] = b"TRINEWAL";
const FRAME_MAGIC: [u8; 4] = *b"TWF\x01";
const SEGMENT_HEADER_BYTES: usize = 32;
/// What stands before the records of a frame.
pub(super) const FRAME_HEADER_BYTES: usize = 32;
/// Frames below this many bytes are stored as they are: zstd's own header would eat the gain.
const COMPRESS_BYTES_MIN: usize = 256;
/// More than any frame holds (staged bytes plus one record); a claim above it is damage.
const FRAME_BYTES_MAX: u32 = 256 << 20;
const SPARE: &str = ".spare";
const STORED: u8 = 0;
const ZSTD: u8 = 1;
const ZSTD_LEVEL: i32 = 1;

/// The file name of a segment; names sort by sequence.
pub(super) fn segment_name(sequence: u64) -> String {
    format!("{sequence:016}.wal")
}

/// The sequence that a file name stands for, if it names a segment.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    name.strip_suffix(".wal")
        .filter(|digits| digits.len() == 16)?
        .parse()
        .ok()
}

pub(super) fn segment_header(sequence: u64, first: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    out.extend_from_slice(SEGMENT_MAGIC);
    put_u32(&mut out, VERSION);
    put_u64(&mut out, sequence);
    put_u64(&mut out, first);
    let crc = crc32fast::hash(&out);
    put_u32(&mut out, crc);
    out
}

/// Makes frames of batches of records.
pub(super) struct Encoder {
    compression: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// The last frame that was compressed.
    frame: Vec<u8>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// An encoder; the compression context is made when it is first needed.
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            compression,
            zstd: None,
            frame: Vec::new(),
        }
    }

    /// The frame of `count` records, numbered from `first`. They begin [`FRAME_HEADER_BYTES`] into
    /// `batch`, so that a frame that is stored as it is need not be copied.
    pub(super) fn encode<'a>(
        &'a mut self,
        batch: &'a mut [u8],
        first: u64,
        count: u32,
    ) -> Result<&'a [u8]> {
        let records = batch.get(FRAME_HEADER_BYTES..).unwrap_or_default();
        let raw_len = frame_len(records)?;
        if self.compression == Compression::Zstd && records.len() >= COMPRESS_BYTES_MIN {
            let zstd_failed = |e| Error::io("compress a frame", e);
            let zstd = match &mut self.zstd {
                Some(zstd) => zstd,
                empty => {
                    empty.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(zstd_failed)?)
                }
            };
            let compressed = zstd.compress(records).map_err(zstd_failed)?;
            if compressed.len() < records.len() {
                self.frame.clear();
                self.frame
                    .extend_from_slice(&header(&compressed, raw_len, first, count, ZSTD)?);
                self.frame.extend_from_slice(&compressed);
                return Ok(&self.frame);
            }
        }
        let header = header(records, raw_len, first, count, STORED)?;
        if let Some(room) = batch.first_chunk_mut() {
            *room = header;
        }
        Ok(batch)
    }

    /// Lets go of all but `bytes` of the memory that the last frame took.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.frame.clear();
        self.frame.shrink_to(bytes);
    }
}

fn frame_len(bytes: &[u8]) -> Result<u32> {
    let len = u32::try_from(bytes.len()).ok();
    len.filter(|&len| len <= FRAME_BYTES_MAX).ok_or_else(|| {
        let what = format!("a frame of {} bytes is too large", bytes.len());
        Error::new(Kind::Limit, what)
    })
}

/// The header of the frame that stores `payload`.
fn header(
    payload: &[u8],
    raw_len: u32,
    first: u64,
    count: u32,
    codec: u8,
) -> Result<[u8; FRAME_HEADER_BYTES]> {
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES);
    out.extend_from_slice(&FRAME_MAGIC);
    put_u32(&mut out, frame_len(payload)?);
    put_u32(&mut out, raw_len);
    put_u64(&mut out, first);
    put_u32(&mut out, count);
    out.extend_from_slice(&[codec, 0, 0, 0]);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out);
    crc.update(payload);
    put_u32(&mut out, crc.finalize());
    let whole = out.first_chunk().copied();
    Ok(whole.expect("the fields add up to the header's length"))
}

/// What one segment held.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// The position of the first record that the header announces.
    pub first: u64,
    /// The position after the last record that could be read.
    pub end: u64,
    /// Records that could be read.
    pub records: u64,
    /// Bytes up to the end of the last good frame.
    pub good_bytes: u64,
    /// Byte ranges before the last good frame that could not be read.
    pub damaged: Vec<(u64, u64)>,
    /// Whether frames follow that are older than the segment: its file was written over.
    pub is_reused: bool,
    /// Whether the header is cut or damaged.
    pub is_headless: bool,
}

/// The file name of a segment that is done with and will be written over.
pub(super) fn spare_name(sequence: u64) -> String {
    format!("{sequence:016}{SPARE}")
}

/// Whether [`spare_name`] gave this name.
pub(super) fn is_spare(name: &str) -> bool {
    name.ends_with(SPARE)
}

/// Reads a segment, giving every record to `each` with its position. Bytes that are no frame are
/// skipped up to the next good one, a damaged header too.
///
/// # Errors
/// [`Kind::Corrupt`] when the header is cut or damaged and no frame follows it,
/// [`Kind::Unsupported`] when a newer version wrote it, and whatever `each` gives.
pub fn read_segment(
    name: &str,
    bytes: &[u8],
    each: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<SegmentReport> {
    let (first, mut offset) = match read_header(name, bytes) {
        Ok(first) => (first, SEGMENT_HEADER_BYTES),
        // Frames say themselves which records they are.
        Err(error) if error.kind() == Kind::Corrupt => match next_frame(bytes, 0) {
            Some((_, frame)) => (frame.first, 0),
            None => return Err(error),
        },
        Err(error) => return Err(error),
    };
    let mut report = SegmentReport {
        is_headless: offset == 0,
        first,
        end: first,
        good_bytes: offset as u64,
        ..SegmentReport::default()
    };
    let mut raw = Vec::new();
    while let Some((found, frame)) = next_frame(bytes, offset) {
        if frame.first < first {
            report.is_reused = true;
            break;
        }
        if found > offset {
            report.damaged.push((offset as u64, found as u64));
        }
        let records = match frame.codec {
            ZSTD => {
                raw = zstd::bulk::decompress(frame.payload, frame.raw_len)
                    .map_err(|e| Error::corrupt(name, found as u64, e))?;
                raw.as_slice()
            }
            _ => frame.payload,
        };
        let mut reader = Reader::new(name, records);
        for i in 0..u64::from(frame.count) {
            each(frame.first + i, reader.bytes()?)?;
        }
        raw.clear();
        report.records += u64::from(frame.count);
        report.end = frame.first + u64::from(frame.count);
        offset = found + FRAME_HEADER_BYTES + frame.payload.len();
        report.good_bytes = offset as u64;
    }
    Ok(report)
}

/// The position of the first record that the header of a segment announces.
fn read_header(name: &str, bytes: &[u8]) -> Result<u64> {
    let mut header = Reader::new(name, bytes);
    if header.take(8)? != SEGMENT_MAGIC {
        return Err(Error::corrupt(
            name,
            0,
            "this is not a segment of a write-ahead log",
        ));
    }
    let version = header.u32()?;
    let sequence = header.u64()?;
    let first = header.u64()?;
    let crc = header.u32()?;
    if bytes.get(..SEGMENT_HEADER_BYTES - 4).map(crc32fast::hash) != Some(crc) {
        return Err(Error::corrupt(
            name,
            0,
            "the checksum of the header does not match",
        ));
    }
    if version != VERSION {
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "{name} (segment {sequence}) has version {version}, this program reads {VERSION}"
            ),
        ));
    }
    Ok(first)
}

struct Frame<'a> {
    first: u64,
    count: u32,
    codec: u8,
    raw_len: usize,
    payload: &'a [u8],
}

/// The first good frame at or after `offset`.
fn next_frame(bytes: &[u8], offset: usize) -> Option<(usize, Frame<'_>)> {
    let mut at = offset;
    loop {
        let rest = bytes.get(at..)?;
        let skip = rest
            .windows(FRAME_MAGIC.len())
            .position(|window| window == FRAME_MAGIC)?;
        at += skip;
        if let Some(frame) = bytes.get(at..).and_then(parse_frame) {
            return Some((at, frame));
        }
        at += 1;
    }
}

/// The frame at the start of `bytes`, if it is whole.
fn parse_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let mut reader = Reader::new("frame", bytes);
    reader.take(FRAME_MAGIC.len()).ok()?;
    let stored_len = reader.u32().ok()?;
    let raw_len = reader.u32().ok()?;
    let first = reader.u64().ok()?;
    let count = reader.u32().ok()?;
    let [codec, _, _, _] = reader.array().ok()?;
    let crc = reader.u32().ok()?;
    if raw_len > FRAME_BYTES_MAX || codec > ZSTD {
        return None;
    }
    let payload = reader.take(usize::try_from(stored_len).ok()?).ok()?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..FRAME_HEADER_BYTES - 4)?);
    hasher.update(payload);
    let raw_len = usize::try_from(raw_len).ok()?;
    (hasher.finalize() == crc).then_some(Frame {
        first,
        count,
        codec,
        raw_len,
        payload,
    })
}
