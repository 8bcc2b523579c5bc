//! One series in memory: two buffers of samples, one per epoch, and what judges new samples.
//!
//! A seal flips the epoch: the buffer of the old epoch no longer changes and is written as it is,
//! while appends go to the other one.

use std::sync::Arc;

use trine_storage::Labels;

use crate::chunk::starts::StartsEncoder;
use crate::chunk::{self, FloatEncoder};
use crate::columns::{Columns, Sample};
use crate::exemplar::Exemplar;
use crate::histogram::{self, Histogram, HistogramEncoder};
use crate::sample::Value;

/// Samples after which an open chunk is closed and a new one begun, so that a read of a few minutes
/// does not decode hours.
pub(crate) const CHUNK_SAMPLES_MAX: u32 = 240;
/// Bytes after which an open chunk of histograms is closed, for the same reason.
const CHUNK_BYTES: usize = 8 << 10;
/// Late samples that are kept as they are; when there are this many they become a chunk.
const LATE_MAX: usize = 256;
/// What the encoder of an open chunk of histograms holds, about: the last two of a usual size.
const HISTOGRAM_ENCODER_BYTES: usize = 2 << 10;
/// The least and the largest step by which the bytes of an open chunk grow.
const GROW_BYTES: usize = 40;

/// What kind of samples the bytes of a chunk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ChunkKind {
    /// Floats, as [`FloatEncoder`] writes them.
    #[default]
    Floats,
    /// Native histograms, as [`HistogramEncoder`] writes them.
    Histograms,
}

impl ChunkKind {
    /// What stands for it in parts.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Floats => 1,
            Self::Histograms => 2,
        }
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Floats),
            2 => Some(Self::Histograms),
            _ => None,
        }
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
    /// Start timestamps; empty when none is known.
    pub(crate) starts: B,
}

impl<B: AsRef<[u8]>> Chunk<B> {
    /// The same chunk with other bytes that are equal.
    pub(crate) fn with<'a, C>(&'a self, mut bytes: impl FnMut(&'a [u8]) -> C) -> Chunk<C> {
        Chunk {
            kind: self.kind,
            count: self.count,
            first: self.first,
            last: self.last,
            bytes: bytes(self.bytes.as_ref()),
            starts: bytes(self.starts.as_ref()),
        }
    }

    /// The same chunk with borrowed bytes.
    pub(crate) fn as_slice(&self) -> Chunk<&[u8]> {
        self.with(|bytes| bytes)
    }
}

/// A value that is still the appender's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ValueRef<'a> {
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Float(value) => Self::Float(*value),
            Value::Histogram(histogram) => Self::Histogram(histogram),
        }
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Float(value) => Self::Float(value),
            ValueRef::Histogram(histogram) => Self::Histogram(Arc::clone(histogram)),
        }
    }
}

impl<'a> From<&'a f64> for ValueRef<'a> {
    fn from(value: &'a f64) -> Self {
        Self::Float(*value)
    }
}

impl<'a> From<&'a Arc<Histogram>> for ValueRef<'a> {
    fn from(histogram: &'a Arc<Histogram>) -> Self {
        Self::Histogram(histogram)
    }
}

impl ValueRef<'_> {
    fn kind(self) -> ChunkKind {
        match self {
            Self::Float(_) => ChunkKind::Floats,
            Self::Histogram(_) => ChunkKind::Histograms,
        }
    }

    fn is(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Float(one), Value::Float(other)) => one.to_bits() == other.to_bits(),
            (Self::Histogram(one), Value::Histogram(other)) => one.same_bits(other),
            _ => false,
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
    encoder: Encoder,
    /// The newest sample that was ever stored here, and its bits if it is a float.
    newest: i64,
    newest_bits: u64,
    newest_kind: ChunkKind,
    /// The epoch of the last append.
    pub(crate) epoch: u32,
    /// Distinguishes this series from one that had its id before.
    pub(crate) generation: u32,
    /// A part defines the id.
    pub(crate) defined: bool,
    /// No longer found by its labels; goes when its parts have become blocks.
    pub(crate) dead: bool,
}

/// Writes an open chunk.
#[derive(Debug)]
enum Encoder {
    Floats(FloatEncoder),
    Histograms(Box<HistogramEncoder>),
}

impl Encoder {
    const fn floats() -> Self {
        Self::Floats(FloatEncoder::new())
    }

    fn new(kind: ChunkKind) -> Self {
        match kind {
            ChunkKind::Floats => Self::floats(),
            ChunkKind::Histograms => Self::Histograms(Box::new(HistogramEncoder::new())),
        }
    }
}

/// The samples of one epoch.
#[derive(Debug, Default)]
struct Buffer {
    open: Vec<u8>,
    count: u32,
    kind: ChunkKind,
    /// Start timestamps of the open chunk are known. Told here too, because what few series have
    /// is far away.
    started: bool,
    last: i64,
    more: Option<Box<More>>,
}

/// What few series have.
#[derive(Debug, Default)]
struct More {
    /// Start timestamps of the open chunk, if any is known.
    starts: Option<StartsEncoder>,
    closed: Vec<Chunk<Box<[u8]>>>,
    /// Samples that came after newer ones, in order of time.
    late: Vec<Sample>,
    exemplars: Vec<Exemplar>,
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
            encoder: Encoder::floats(),
            newest: i64::MIN,
            newest_bits: 0,
            newest_kind: ChunkKind::Floats,
            epoch: 0,
            generation,
            defined: false,
            dead: false,
        }
    }

    /// From now on appends go to the buffer of `epoch`; the other one belongs to the seal.
    fn enter(&mut self, epoch: u32) {
        if self.epoch != epoch {
            self.encoder = Encoder::floats();
            self.epoch = epoch;
        }
    }

    /// Reads what an append to the buffer of `epoch` will need, so that it is near. Gives something
    /// that depends on it.
    pub(crate) fn touch(&self, epoch: u32) -> u8 {
        let open = &self.buffers[(epoch & 1) as usize].open;
        open.last().copied().unwrap_or(0)
    }

    /// Adds a sample to the buffer of `epoch`; 0 when the start timestamp is not known. Gives also
    /// how many bytes more the heap holds.
    pub(crate) fn insert(
        &mut self,
        epoch: u32,
        timestamp: i64,
        start: i64,
        value: ValueRef<'_>,
    ) -> (Insert, isize) {
        let at = (epoch & 1) as usize;
        self.enter(epoch);
        let first_ever = self.newest == i64::MIN && self.is_empty();
        if timestamp > self.newest || first_ever {
            let grown = self.buffers[at].push(&mut self.encoder, timestamp, start, value);
            self.newest = timestamp;
            self.newest_kind = value.kind();
            if let ValueRef::Float(value) = value {
                self.newest_bits = value.to_bits();
            }
            return (Insert::New, grown);
        }
        if timestamp == self.newest
            && self.newest_kind == ChunkKind::Floats
            && self.buffers.iter().any(|b| b.ends_at(timestamp))
        {
            return match value {
                ValueRef::Float(value) if self.newest_bits == value.to_bits() => (Insert::Same, 0),
                _ => (Insert::Other, 0),
            };
        }
        match self.held(timestamp) {
            Some(held) if value.is(&held) => (Insert::Same, 0),
            Some(_) => (Insert::Other, 0),
            None => {
                let sample = Sample {
                    timestamp,
                    start,
                    value: value.into(),
                };
                (Insert::New, self.buffers[at].insert_late(sample))
            }
        }
    }

    /// Adds an exemplar to the buffer of `epoch`, unless it is there. Gives whether it was added
    /// and how many bytes more the heap holds.
    pub(crate) fn insert_exemplar(&mut self, epoch: u32, exemplar: &Exemplar) -> (bool, isize) {
        self.enter(epoch);
        let held = |buffer: &Buffer| {
            let mut held = buffer.exemplars().iter().rev();
            held.any(|held| held.same_bits(exemplar))
        };
        if self.buffers.iter().any(held) {
            return (false, 0);
        }
        let buffer = &mut self.buffers[(epoch & 1) as usize];
        let before = buffer.heap_bytes();
        let more = buffer.more.get_or_insert_default();
        more.exemplars.push(exemplar.clone());
        (true, difference(before, buffer.heap_bytes()))
    }

    /// The value at `timestamp` that is in memory.
    fn held(&self, timestamp: i64) -> Option<Value> {
        let mut columns = Columns::default();
        for buffer in &self.buffers {
            let late = buffer.late();
            if let Ok(at) = late.binary_search_by_key(&timestamp, |sample| sample.timestamp) {
                return Some(late[at].value.clone());
            }
            for chunk in buffer.chunks() {
                if (chunk.first..=chunk.last).contains(&timestamp) {
                    columns.clear();
                    columns
                        .decode("memory", &chunk)
                        .expect("the encoder wrote it");
                    if let Ok(at) = columns.timestamps.binary_search(&timestamp) {
                        return columns.values.get(at);
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
    pub(crate) fn late(&self, epoch: u32) -> &[Sample] {
        self.buffers[(epoch & 1) as usize].late()
    }

    /// The exemplars of the buffer of `epoch`, in order of arrival.
    pub(crate) fn exemplars(&self, epoch: u32) -> &[Exemplar] {
        self.buffers[(epoch & 1) as usize].exemplars()
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
        let more = self.more.as_deref();
        self.count == 0 && more.is_none_or(|more| more.closed.is_empty() && more.late.is_empty())
    }

    fn ends_at(&self, timestamp: i64) -> bool {
        self.count > 0 && self.last == timestamp
    }

    fn late(&self) -> &[Sample] {
        self.more.as_deref().map_or(&[][..], |more| &more.late)
    }

    fn exemplars(&self) -> &[Exemplar] {
        self.more.as_deref().map_or(&[][..], |more| &more.exemplars)
    }

    /// The first timestamp of the open chunk, if it has samples. It is the first thing in its bytes.
    fn first(&self) -> i64 {
        let first = match self.kind {
            ChunkKind::Floats => chunk::first_timestamp(&self.open),
            ChunkKind::Histograms => histogram::first_timestamp(&self.open),
        };
        first.unwrap_or(self.last)
    }

    fn chunks(&self) -> impl Iterator<Item = Chunk<&[u8]>> {
        let more = self.more.as_deref();
        let closed = more.map_or(&[][..], |more| &more.closed);
        let starts = more.and_then(|more| more.starts.as_ref());
        let open = (self.count > 0).then(|| Chunk {
            kind: self.kind,
            count: self.count,
            first: self.first(),
            last: self.last,
            bytes: &self.open[..],
            starts: starts.map_or(&[][..], StartsEncoder::bytes),
        });
        closed.iter().map(Chunk::as_slice).chain(open)
    }

    /// Adds a sample that is newer than all others to the open chunk, which `encoder` writes. Gives
    /// how many bytes more the heap holds.
    fn push(
        &mut self,
        encoder: &mut Encoder,
        timestamp: i64,
        start: i64,
        value: ValueRef<'_>,
    ) -> isize {
        let kind = value.kind();
        let full = match encoder {
            Encoder::Floats(_) => false,
            Encoder::Histograms(encoder) => self.open.len() >= CHUNK_BYTES || encoder.is_full(),
        };
        let mut grown = 0;
        if self.count > 0 && (self.count >= CHUNK_SAMPLES_MAX || self.kind != kind || full) {
            grown += self.close();
        }
        if self.count == 0 {
            self.kind = kind;
            *encoder = Encoder::new(kind);
            grown += difference(0, self.encoder_bytes());
        }
        if start != 0 || self.started {
            self.started = true;
            if self.more.is_none() {
                grown += difference(0, size_of::<More>());
            }
            let more = self.more.get_or_insert_default();
            let (count, last) = (self.count, self.last);
            let before = more.starts.as_ref().map_or(0, StartsEncoder::heap_bytes);
            let starts = more
                .starts
                .get_or_insert_with(|| StartsEncoder::after_unknown(count, last));
            starts.append(timestamp, start);
            grown += difference(before, starts.heap_bytes());
        }
        let before = self.open.capacity();
        match (encoder, value) {
            (Encoder::Floats(encoder), ValueRef::Float(value)) => {
                if before - self.open.len() < chunk::SAMPLE_BYTES_MAX {
                    let step = (before / 2).clamp(GROW_BYTES, 8 * GROW_BYTES);
                    self.open.reserve_exact(before - self.open.len() + step);
                }
                let before = (self.count > 0).then_some(self.last);
                encoder.append(&mut self.open, before, timestamp, value);
            }
            (Encoder::Histograms(encoder), ValueRef::Histogram(histogram)) => {
                encoder.append(&mut self.open, timestamp, histogram);
            }
            _ => unreachable!("a chunk of another kind was closed above"),
        }
        self.count += 1;
        self.last = timestamp;
        grown + difference(before, self.open.capacity())
    }

    /// Makes the open chunk one that no longer changes.
    fn close(&mut self) -> isize {
        let (before, first) = (self.heap_bytes(), self.first());
        let more = self.more.get_or_insert_default();
        let starts = more.starts.take();
        self.started = false;
        more.closed.push(Chunk {
            kind: self.kind,
            count: std::mem::take(&mut self.count),
            first,
            last: self.last,
            bytes: self.open.as_slice().into(),
            starts: starts.map_or_else(Box::default, |starts| starts.bytes().into()),
        });
        self.open.clear();
        difference(before, self.heap_bytes())
    }

    fn insert_late(&mut self, sample: Sample) -> isize {
        let before = self.heap_bytes();
        let more = self.more.get_or_insert_default();
        let at = more
            .late
            .partition_point(|s| s.timestamp < sample.timestamp);
        more.late.insert(at, sample);
        if more.late.len() >= LATE_MAX {
            let late = std::mem::take(&mut more.late);
            more.closed.extend(encode(late));
        }
        difference(before, self.heap_bytes())
    }

    fn heap_bytes(&self) -> usize {
        let more = self.more.as_deref().map_or(0, |more| {
            let closed = more.closed.iter().map(|c| c.bytes.len() + c.starts.len());
            let late = more.late.iter().map(|sample| match &sample.value {
                Value::Float(_) => 0,
                Value::Histogram(histogram) => histogram.heap_bytes(),
            });
            let exemplars = more.exemplars.iter().map(|e| e.labels.heap_bytes());
            let starts = more.starts.as_ref().map_or(0, StartsEncoder::heap_bytes);
            size_of::<More>()
                + closed.sum::<usize>()
                + late.sum::<usize>()
                + exemplars.sum::<usize>()
                + starts
                + more.closed.capacity() * size_of::<Chunk<Box<[u8]>>>()
                + more.late.capacity() * size_of::<Sample>()
                + more.exemplars.capacity() * size_of::<Exemplar>()
        });
        let encoder = if self.count > 0 {
            self.encoder_bytes()
        } else {
            0
        };
        more + encoder + self.open.capacity()
    }

    /// What the encoder of the open chunk holds, about.
    fn encoder_bytes(&self) -> usize {
        match self.kind {
            ChunkKind::Floats => 0,
            ChunkKind::Histograms => HISTOGRAM_ENCODER_BYTES,
        }
    }
}

/// How many bytes more there are.
fn difference(before: usize, after: usize) -> isize {
    after.wrapping_sub(before).cast_signed()
}

/// Chunks of samples that are in order of time.
pub(crate) fn encode(samples: impl IntoIterator<Item = Sample>) -> Vec<Chunk<Box<[u8]>>> {
    let mut buffer = Buffer::default();
    let mut encoder = Encoder::floats();
    for sample in samples {
        let value = ValueRef::from(&sample.value);
        buffer.push(&mut encoder, sample.timestamp, sample.start, value);
    }
    if buffer.count > 0 {
        buffer.close();
    }
    buffer.more.map_or_else(Vec::new, |more| more.closed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_is_counted_once(
            rows in prop::collection::vec(
                (0i64..2000, 0i64..3, any::<bool>(), 0i64..50, any::<bool>()),
                0..400,
            ),
        ) {
            let mut series = MemSeries::new(Labels::empty(), 0, 0);
            let mut counted = 0;
            for (number, (time, start, is_histogram, value, with_exemplar)) in (0i64..).zip(rows) {
                // Mostly rising, so that there are open chunks, closed ones and late samples.
                let time = 10 * number + time / 100 * (time % 7 / 5) * 10 - time % 3 * 15;
                let histogram = Arc::new(Histogram {
                    sum: value as f64,
                    ..Histogram::default()
                });
                let value = match is_histogram {
                    true => ValueRef::Histogram(&histogram),
                    false => ValueRef::Float(value as f64),
                };
                counted += series.insert(0, time, start, value).1;
                if with_exemplar {
                    let labels = Labels::from_pairs([("trace_id", number.to_string())]).unwrap();
                    let exemplar = Exemplar { labels, timestamp: time, value: 1.0 };
                    counted += series.insert_exemplar(0, &exemplar).1;
                }
                prop_assert_eq!(counted.cast_unsigned(), series.buffers[0].heap_bytes());
            }
            prop_assert_eq!(counted.cast_unsigned(), series.release(0));
        }
    }
}
