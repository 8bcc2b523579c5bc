//! One series in memory: two buffers of samples, one per epoch, and what judges new samples.
//!
//! A seal flips the epoch: the buffer of the old epoch no longer changes and is written as it is,
//! while appends go to the other one.

use trine_storage::Labels;

use crate::chunk::{self, FloatEncoder};
use crate::columns::Columns;

/// Samples after which an open chunk is closed and a new one begun, so that a read of a few minutes
/// does not decode hours.
pub(crate) const CHUNK_SAMPLES_MAX: u32 = 240;
/// Late samples that are kept as they are; when there are this many they become a chunk.
const LATE_MAX: usize = 256;
/// The least and the largest step by which the bytes of an open chunk grow.
const GROW_BYTES: usize = 32;

/// What kind of samples the bytes of a chunk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkKind {
    /// Floats, as [`FloatEncoder`] writes them.
    Floats,
}

impl ChunkKind {
    /// What stands for it in parts.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Floats => 1,
        }
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        (number == 1).then_some(Self::Floats)
    }
}

/// A run of samples of one series, in order of time.
#[derive(Debug, Clone)]
pub(crate) struct Chunk<B> {
    pub(crate) kind: ChunkKind,
    pub(crate) count: u32,
    /// The first and the last timestamp.
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) bytes: B,
}

impl<B: AsRef<[u8]>> Chunk<B> {
    /// The same chunk with borrowed bytes.
    pub(crate) fn as_slice(&self) -> Chunk<&[u8]> {
        Chunk {
            kind: self.kind,
            count: self.count,
            first: self.first,
            last: self.last,
            bytes: self.bytes.as_ref(),
        }
    }
}

/// A series. Timestamps are milliseconds since 1970.
#[derive(Debug)]
pub(crate) struct MemSeries {
    pub(crate) labels: Labels,
    pub(crate) hash: u64,
    buffers: [Buffer; 2],
    /// Writes the open chunk of the buffer of `epoch`.
    encoder: FloatEncoder,
    /// The newest sample that was ever stored here.
    newest: i64,
    newest_bits: u64,
    /// The epoch of the last append.
    pub(crate) epoch: u32,
    /// Distinguishes this series from one that had its id before.
    pub(crate) generation: u32,
    /// A part defines the id.
    pub(crate) defined: bool,
    /// No longer found by its labels; goes when its parts have become blocks.
    pub(crate) dead: bool,
}

/// The samples of one epoch.
#[derive(Debug, Default)]
struct Buffer {
    open: Vec<u8>,
    count: u32,
    first: i64,
    last: i64,
    more: Option<Box<More>>,
}

/// What few series have.
#[derive(Debug, Default)]
struct More {
    closed: Vec<Chunk<Box<[u8]>>>,
    /// Samples that came after newer ones, in order of time.
    late: Vec<(i64, f64)>,
}

/// What became of a sample.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Insert {
    New,
    Same,
    Other,
}

impl MemSeries {
    pub(crate) fn new(labels: Labels, hash: u64, generation: u32) -> Self {
        Self {
            labels,
            hash,
            buffers: Default::default(),
            encoder: FloatEncoder::new(),
            newest: i64::MIN,
            newest_bits: 0,
            epoch: 0,
            generation,
            defined: false,
            dead: false,
        }
    }

    /// Adds a sample to the buffer of `epoch`. Gives also how many bytes more the heap holds.
    pub(crate) fn insert(&mut self, epoch: u32, timestamp: i64, value: f64) -> (Insert, usize) {
        let at = (epoch & 1) as usize;
        if self.epoch != epoch {
            // The other buffer belongs to the seal from now on.
            self.encoder = FloatEncoder::new();
            self.epoch = epoch;
        }
        let first_ever = self.newest == i64::MIN && self.is_empty();
        if timestamp > self.newest || first_ever {
            let grown = self.push(at, timestamp, value);
            (self.newest, self.newest_bits) = (timestamp, value.to_bits());
            return (Insert::New, grown);
        }
        if timestamp == self.newest && self.buffers.iter().any(|b| b.ends_at(timestamp)) {
            return match self.newest_bits == value.to_bits() {
                true => (Insert::Same, 0),
                false => (Insert::Other, 0),
            };
        }
        match self.held(timestamp) {
            Some(bits) if bits == value.to_bits() => (Insert::Same, 0),
            Some(_) => (Insert::Other, 0),
            None => (Insert::New, self.buffers[at].insert_late(timestamp, value)),
        }
    }

    fn push(&mut self, at: usize, timestamp: i64, value: f64) -> usize {
        let buffer = &mut self.buffers[at];
        let mut grown = 0;
        if buffer.count >= CHUNK_SAMPLES_MAX {
            grown += buffer.close();
            self.encoder = FloatEncoder::new();
        }
        if buffer.count == 0 {
            buffer.first = timestamp;
        }
        let before = buffer.open.capacity();
        if before - buffer.open.len() < chunk::SAMPLE_BYTES_MAX {
            let step = (before / 2).clamp(GROW_BYTES, 8 * GROW_BYTES);
            buffer.open.reserve_exact(before - buffer.open.len() + step);
        }
        self.encoder.append(&mut buffer.open, timestamp, value);
        buffer.count += 1;
        buffer.last = timestamp;
        grown + (buffer.open.capacity() - before)
    }

    /// The bits of the sample at `timestamp` that is in memory.
    fn held(&self, timestamp: i64) -> Option<u64> {
        let mut columns = Columns::default();
        for buffer in &self.buffers {
            let more = buffer.more.as_deref();
            let late = more.map_or(&[][..], |more| &more.late);
            if let Ok(at) = late.binary_search_by_key(&timestamp, |(t, _)| *t) {
                return Some(late[at].1.to_bits());
            }
            for chunk in buffer.chunks() {
                if (chunk.first..=chunk.last).contains(&timestamp) {
                    columns.clear();
                    columns
                        .decode("memory", &chunk)
                        .expect("the encoder wrote it");
                    if let Ok(at) = columns.timestamps.binary_search(&timestamp) {
                        return Some(columns.values[at].to_bits());
                    }
                }
            }
        }
        None
    }

    /// The newest timestamp that was ever stored here.
    pub(crate) fn newest(&self) -> i64 {
        self.newest
    }

    /// Whether no buffer holds a sample.
    fn is_empty(&self) -> bool {
        self.buffers.iter().all(Buffer::is_empty)
    }

    /// The chunks of the buffer of `epoch`; late ones overlap the others.
    pub(crate) fn chunks(&self, epoch: u32) -> impl Iterator<Item = Chunk<&[u8]>> {
        self.buffers[(epoch & 1) as usize].chunks()
    }

    /// The late samples of the buffer of `epoch` that are in no chunk yet.
    pub(crate) fn late(&self, epoch: u32) -> &[(i64, f64)] {
        let more = self.buffers[(epoch & 1) as usize].more.as_deref();
        more.map_or(&[][..], |more| &more.late)
    }

    /// Lets go of the buffer of `epoch`. Gives how many bytes less the heap holds.
    pub(crate) fn release(&mut self, epoch: u32) -> usize {
        let buffer = &mut self.buffers[(epoch & 1) as usize];
        let bytes = buffer.heap_bytes();
        *buffer = Buffer::default();
        bytes
    }
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.samples() == 0
    }

    fn ends_at(&self, timestamp: i64) -> bool {
        self.count > 0 && self.last == timestamp
    }

    fn samples(&self) -> u64 {
        let more = self.more.as_deref().map_or(0, |more| {
            let closed: u64 = more.closed.iter().map(|c| u64::from(c.count)).sum();
            closed + more.late.len() as u64
        });
        more + u64::from(self.count)
    }

    fn chunks(&self) -> impl Iterator<Item = Chunk<&[u8]>> {
        let closed = self.more.as_deref().map_or(&[][..], |more| &more.closed);
        let open = (self.count > 0).then(|| Chunk {
            kind: ChunkKind::Floats,
            count: self.count,
            first: self.first,
            last: self.last,
            bytes: &self.open[..],
        });
        let closed = closed.iter().map(|chunk| Chunk {
            kind: chunk.kind,
            count: chunk.count,
            first: chunk.first,
            last: chunk.last,
            bytes: &chunk.bytes[..],
        });
        closed.chain(open)
    }

    /// Makes the open chunk one that no longer changes.
    fn close(&mut self) -> usize {
        let before = self.heap_bytes();
        let chunk = Chunk {
            kind: ChunkKind::Floats,
            count: std::mem::take(&mut self.count),
            first: self.first,
            last: self.last,
            bytes: self.open.as_slice().into(),
        };
        self.open.clear();
        self.more.get_or_insert_default().closed.push(chunk);
        self.heap_bytes().saturating_sub(before)
    }

    fn insert_late(&mut self, timestamp: i64, value: f64) -> usize {
        let before = self.heap_bytes();
        let more = self.more.get_or_insert_default();
        let at = more.late.partition_point(|(t, _)| *t < timestamp);
        more.late.insert(at, (timestamp, value));
        if more.late.len() >= LATE_MAX {
            let late = std::mem::take(&mut more.late);
            more.closed.push(encode(&late));
        }
        self.heap_bytes().saturating_sub(before)
    }

    fn heap_bytes(&self) -> usize {
        let more = self.more.as_deref().map_or(0, |more| {
            let closed: usize = more.closed.iter().map(|c| c.bytes.len()).sum();
            size_of::<More>()
                + closed
                + more.closed.capacity() * size_of::<Chunk<Box<[u8]>>>()
                + more.late.capacity() * size_of::<(i64, f64)>()
        });
        more + self.open.capacity()
    }
}

/// A chunk of samples that are in order of time; there must be some.
pub(crate) fn encode(samples: &[(i64, f64)]) -> Chunk<Box<[u8]>> {
    let mut encoder = FloatEncoder::new();
    let mut bytes = Vec::new();
    for &(timestamp, value) in samples {
        encoder.append(&mut bytes, timestamp, value);
    }
    let at = |sample: Option<&(i64, f64)>| sample.map_or(0, |(timestamp, _)| *timestamp);
    Chunk {
        kind: ChunkKind::Floats,
        count: u32::try_from(samples.len()).expect("a chunk is short"),
        first: at(samples.first()),
        last: at(samples.last()),
        bytes: bytes.into(),
    }
}
