//! Writes a block from entries that come sorted by stream and time. Called by the seal.

use std::collections::HashMap;
use std::path::Path;

use trine_storage::frozen_index::FrozenWriter;
use trine_storage::fs::Fs;
use trine_storage::sealed::{PageRef, SealedWriter};
use trine_storage::{Labels, Result, TimeRange};

use super::format::{
    self, CHUNK_BYTES, CHUNK_ROWS_MAX, CHUNKS, ChunkHeader, KIND, LABEL_INDEX, Run, SUMMARY,
    Summary,
};
use crate::columns::Columns;
use crate::wal_record::put_lengths;

/// A block that is being written.
#[derive(Debug)]
pub(crate) struct BlockWriter<'a> {
    file: SealedWriter,
    streams: &'a [Labels],
    chunk: Columns,
    set_codes: HashMap<Labels, u32>,
    set_bytes: usize,
    headers: Vec<u8>,
    chunks: u32,
    rows: u64,
    range: Option<TimeRange>,
}

/// What was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) range: TimeRange,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl<'a> BlockWriter<'a> {
    /// Begins a block of these streams, which are in label order.
    pub(crate) fn create(fs: &dyn Fs, path: &Path, streams: &'a [Labels]) -> Result<Self> {
        debug_assert!(streams.is_sorted(), "streams are in label order");
        Ok(Self {
            file: SealedWriter::create(fs, path, KIND)?,
            streams,
            chunk: Columns::default(),
            set_codes: HashMap::new(),
            set_bytes: 0,
            headers: Vec::new(),
            chunks: 0,
            rows: 0,
            range: None,
        })
    }

    /// Adds an entry of `streams[stream]`. Entries come by stream, then by time.
    pub(crate) fn push(
        &mut self,
        stream: u32,
        timestamp: i64,
        line: &[u8],
        metadata: &Labels,
    ) -> Result<()> {
        debug_assert!(
            self.chunk.streams.last().zip(self.chunk.timestamps.last())
                <= Some((&stream, &timestamp)),
            "entries come by stream and time"
        );
        let bytes = self.chunk.blob.len() + self.set_bytes;
        let full = bytes + line.len() + metadata.encoded().len() > CHUNK_BYTES;
        if (full && self.chunk.rows() > 0) || self.chunk.rows() >= CHUNK_ROWS_MAX {
            self.close_chunk()?;
        }
        let set = self.set_code(metadata);
        self.chunk.push(stream, timestamp, line, set);
        Ok(())
    }

    fn set_code(&mut self, set: &Labels) -> u32 {
        if set.is_empty() {
            return 0;
        }
        if let Some(&code) = self.set_codes.get(set) {
            return code;
        }
        let code = u32::try_from(self.chunk.sets.len()).expect("a chunk has few entries");
        self.set_codes.insert(set.clone(), code);
        self.chunk.sets.push(set.clone());
        self.set_bytes += set.encoded().len();
        code
    }

    fn close_chunk(&mut self) -> Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        self.set_codes.clear();
        self.set_bytes = 0;
        let Some(range) = chunk.range() else {
            return Ok(());
        };
        let runs = runs_of(&chunk);
        let mut lengths = Vec::with_capacity(2 * chunk.rows());
        put_lengths(&mut lengths, &chunk.ends);
        let timestamps = self.page(&format::encode_timestamps(&chunk.timestamps, &runs))?;
        let lengths = self.page(&lengths)?;
        let lines = self.page(&chunk.blob)?;
        let metadata = if chunk.sets.len() > 1 {
            self.page(&format::encode_metadata(&chunk.sets, &chunk.metadata))?
        } else {
            PageRef {
                offset: 0,
                len: 0,
                crc: 0,
            }
        };
        let header = ChunkHeader {
            range,
            rows: u32::try_from(chunk.rows()).expect("a chunk has CHUNK_ROWS_MAX entries at most"),
            line_bytes: chunk.blob.len() as u64,
            timestamps,
            lengths,
            lines,
            metadata,
            runs,
        };
        header.put(&mut self.headers);
        self.chunks += 1;
        self.rows += u64::from(header.rows);
        self.range = Some(self.range.map_or(range, |before| before.union(&range)));
        Ok(())
    }

    fn page(&mut self, raw: &[u8]) -> Result<PageRef> {
        self.file.page(&format::pack(raw)?)
    }

    /// Writes the sections and syncs the file.
    pub(crate) fn finish(mut self) -> Result<Written> {
        self.close_chunk()?;
        let mut index = FrozenWriter::new();
        for labels in self.streams {
            index.push(labels);
        }
        let streams = u32::try_from(self.streams.len()).expect("codes of streams are 32 bits");
        let summary = Summary {
            rows: self.rows,
            streams,
            chunks: self.chunks,
        };
        self.file.section(LABEL_INDEX, &index.finish()?)?;
        self.file.section(CHUNKS, &self.headers)?;
        self.file.section(SUMMARY, &summary.encode())?;
        let bytes = self.file.finish()?;
        let range = self.range.unwrap_or(TimeRange::new(0, 0));
        Ok(Written {
            range,
            rows: self.rows,
            bytes,
        })
    }
}

fn runs_of(chunk: &Columns) -> Vec<Run> {
    let mut start = 0;
    let of_run = |codes: &[u32]| {
        let rows = start..start + codes.len();
        start = rows.end;
        let bytes = chunk.line_range(rows.end - 1).end - chunk.line_range(rows.start).start;
        Run {
            stream: codes[0],
            rows: u32::try_from(codes.len()).expect("a chunk has CHUNK_ROWS_MAX entries at most"),
            line_bytes: bytes as u64,
            first: chunk.timestamps[rows.start],
            last: chunk.timestamps[rows.end - 1],
        }
    };
    chunk.streams.chunk_by(|a, b| a == b).map(of_run).collect()
}
