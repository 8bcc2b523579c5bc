//! Puts rows together into batches for the reader.

use std::collections::HashMap;

use bytes::Bytes;
use trine_storage::{Labels, Result};

use super::place::OpenPlace;
use super::unpacked::Unpacked;
use crate::request::{Lines, Projection, RowBatch};

/// A batch that is being filled.
#[derive(Debug)]
pub(super) struct Building {
    rows: RowBatch,
    projection: Projection,
    blob: Vec<u8>,
    /// Place and code there to code in the batch.
    stream_codes: HashMap<(usize, u32), u32>,
    /// Labels to code in the batch.
    label_codes: HashMap<Labels, u32>,
    last_stream: Option<((usize, u32), u32)>,
    /// Place, chunk and code there to code in the batch.
    set_codes: HashMap<(usize, usize, u32), u32>,
}

impl Building {
    pub(super) fn new(projection: Projection) -> Self {
        Self {
            rows: RowBatch {
                metadata_sets: vec![Labels::empty()],
                ..RowBatch::default()
            },
            projection,
            blob: Vec::new(),
            stream_codes: HashMap::new(),
            label_codes: HashMap::new(),
            last_stream: None,
            set_codes: HashMap::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.timestamps.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.blob.len()
    }

    /// Adds a row whose columns were unpacked as far as they are wanted.
    pub(super) fn push(&mut self, open: &OpenPlace, from: &Unpacked, row: u32) -> Result<()> {
        let stream = self.stream_code(open, from.place, from.stream(row))?;
        self.rows.stream.push(stream);
        self.rows.timestamps.push(from.timestamp(row));
        if self.projection.lines {
            self.blob.extend_from_slice(from.text().line(row as usize));
        }
        let end = u32::try_from(self.blob.len()).expect("batches end long before 4 GiB");
        self.rows.lines.ends.push(end);
        let set = if self.projection.metadata {
            self.set_code(from, row)
        } else {
            0
        };
        self.rows.metadata.push(set);
        Ok(())
    }

    /// Adds all rows of a chunk, whose lines may be taken rather than copied.
    pub(super) fn push_chunk(
        &mut self,
        open: &OpenPlace,
        from: &mut Unpacked,
        rows: &[u32],
    ) -> Result<()> {
        let is_whole = self.blob.is_empty() && rows.len() == from.timestamps().len();
        let taken = (is_whole && self.projection.lines)
            .then(|| from.take_lines())
            .flatten();
        for &row in rows {
            self.push(open, from, row)?;
        }
        if let Some((blob, ends)) = taken {
            (self.blob, self.rows.lines.ends) = (blob, ends);
        }
        Ok(())
    }

    fn stream_code(&mut self, open: &OpenPlace, place: usize, stream: u32) -> Result<u32> {
        let key = (place, stream);
        if let Some((last, code)) = self.last_stream
            && last == key
        {
            return Ok(code);
        }
        let code = match self.stream_codes.get(&key) {
            Some(&code) => code,
            None => {
                let labels = open.labels(stream)?;
                let streams = &mut self.rows.streams;
                let code = *self.label_codes.entry(labels).or_insert_with_key(|labels| {
                    streams.push(labels.clone());
                    u32::try_from(streams.len() - 1).expect("a batch has few streams")
                });
                self.stream_codes.insert(key, code);
                code
            }
        };
        self.last_stream = Some((key, code));
        Ok(code)
    }

    fn set_code(&mut self, from: &Unpacked, row: u32) -> u32 {
        let code = from.set_code(row);
        if code == 0 {
            return 0;
        }
        let sets = &mut self.rows.metadata_sets;
        *self
            .set_codes
            .entry((from.place, from.chunk, code))
            .or_insert_with(|| {
                sets.push(from.set(row));
                u32::try_from(sets.len() - 1).expect("a batch has few sets")
            })
    }

    pub(super) fn finish(mut self) -> RowBatch {
        self.rows.lines = Lines {
            blob: Bytes::from(self.blob),
            ends: self.rows.lines.ends,
        };
        self.rows
    }
}
