//! Columns of one series while they are read: chunks decoded one after the other, late ones merged.

use std::ops::Range;
use std::sync::Arc;

use trine_storage::{Error, Result, TimeRange};

use crate::chunk;
use crate::chunk::starts::decode_starts;
use crate::head::series::{Chunk, ChunkKind};
use crate::histogram::{Histogram, decode_histograms};
use crate::sample::{Samples, Value, Values};

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) timestamp: i64,
    /// 0 when it is not known.
    pub(crate) start: i64,
    pub(crate) value: Value,
}

/// Samples of one series, in order of time once [`Columns::settle`] was called.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Columns {
    pub(crate) timestamps: Vec<i64>,
    /// Start timestamps, 0 where unknown; empty when all are unknown.
    pub(crate) starts: Vec<i64>,
    pub(crate) values: Values,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            timestamps: Vec::new(),
            starts: Vec::new(),
            values: Values::Floats(Vec::new()),
        }
    }
}

impl Columns {
    pub(crate) fn clear(&mut self) {
        self.timestamps.clear();
        self.starts.clear();
        match &mut self.values {
            Values::Floats(values) => values.clear(),
            other => *other = Values::Floats(Vec::new()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.timestamps.len()
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        if sample.start != 0 {
            self.starts.resize(self.timestamps.len(), 0);
        }
        self.timestamps.push(sample.timestamp);
        if sample.start != 0 || !self.starts.is_empty() {
            self.starts.push(sample.start);
        }
        self.values.push(sample.value);
    }

    /// The sample in row `at`.
    pub(crate) fn get(&self, at: usize) -> Option<Sample> {
        Some(Sample {
            timestamp: *self.timestamps.get(at)?,
            start: self.starts.get(at).copied().unwrap_or(0),
            value: self.values.get(at)?,
        })
    }

    /// The samples in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Sample> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// The samples of some rows.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Self {
        let values = match &self.values {
            Values::Floats(values) => Values::Floats(some(values, &rows)),
            Values::Histograms(values) => Values::Histograms(some(values, &rows)),
            Values::Mixed(values) => Values::Mixed(some(values, &rows)),
        };
        Self {
            timestamps: some(&self.timestamps, &rows),
            starts: some(&self.starts, &rows),
            values,
        }
    }

    /// Adds the samples of a chunk, later appended than those before it.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](trine_storage::Kind::Corrupt) when the bytes are no chunk of its kind and
    /// size.
    pub(crate) fn decode<B: AsRef<[u8]>>(&mut self, name: &str, chunk: &Chunk<B>) -> Result<()> {
        let (bytes, count) = (chunk.bytes.as_ref(), chunk.count);
        let (from, times) = (self.timestamps.len(), &mut self.timestamps);
        match chunk.kind {
            ChunkKind::Floats => self
                .values
                .with_floats(|values| chunk::decode_floats(name, bytes, count, times, values))?,
            ChunkKind::Histograms => self
                .values
                .with_histograms(|values| decode_histograms(name, bytes, count, times, values))?,
        }
        let added = &self.timestamps[from..];
        let ends = (added.first().copied(), added.last().copied());
        if ends != (Some(chunk.first), Some(chunk.last)) {
            let what = "a chunk does not begin and end where it should";
            return Err(Error::corrupt(name, 0, what));
        }
        self.decode_starts(name, from, chunk.starts.as_ref())
    }

    /// Adds the start timestamps of the rows from `from` on; no bytes when they are not known.
    pub(crate) fn decode_starts(&mut self, name: &str, from: usize, bytes: &[u8]) -> Result<()> {
        if !bytes.is_empty() {
            self.starts.resize(from, 0);
            decode_starts(name, bytes, &self.timestamps[from..], &mut self.starts)?;
        } else if !self.starts.is_empty() {
            self.starts.resize(self.timestamps.len(), 0);
        }
        Ok(())
    }

    /// Brings the samples into order of time; of those with one timestamp the last added stays.
    pub(crate) fn settle(&mut self) {
        if self.timestamps.is_sorted_by(|a, b| a < b) {
            return;
        }
        let mut order: Vec<(i64, u32)> = self.timestamps.iter().copied().zip(0u32..).collect();
        order.sort_unstable();
        let last = order.chunk_by(|a, b| a.0 == b.0).filter_map(<[_]>::last);
        let places: Vec<u32> = last.map(|(_, place)| *place).collect();
        self.pick(&places);
    }

    /// Keeps the samples at these places, in this order.
    fn pick(&mut self, places: &[u32]) {
        pick(&mut self.timestamps, places);
        pick(&mut self.starts, places);
        match &mut self.values {
            Values::Floats(values) => pick(values, places),
            Values::Histograms(values) => pick(values, places),
            Values::Mixed(values) => pick(values, places),
        }
    }

    /// Takes out the samples from the place `start` on whose timestamps lie in `range`.
    pub(crate) fn remove(&mut self, start: usize, range: TimeRange) {
        let gone = |(at, timestamp): (usize, &i64)| at >= start && range.contains(*timestamp);
        if !self.timestamps.iter().enumerate().any(gone) {
            return;
        }
        let kept = (0u32..)
            .zip(self.timestamps.iter().enumerate())
            .filter(|(_, row)| !gone(*row));
        let places: Vec<u32> = kept.map(|(place, _)| place).collect();
        self.pick(&places);
    }

    /// The samples whose timestamps satisfy `wanted`.
    pub(crate) fn filter(&mut self, mut wanted: impl FnMut(i64) -> bool) {
        let kept = (0u32..).zip(&self.timestamps).filter(|(_, t)| wanted(**t));
        let places: Vec<u32> = kept.map(|(place, _)| place).collect();
        if places.len() < self.len() {
            self.pick(&places);
        }
    }

    /// Keeps the samples in `range`; they must be in order of time.
    pub(crate) fn keep(&mut self, range: TimeRange) {
        let first = self.timestamps.partition_point(|&t| t < range.start);
        let end = self.timestamps.partition_point(|&t| t < range.end);
        let rows = first..end.max(first);
        if rows == (0..self.len()) {
            return;
        }
        narrow(&mut self.timestamps, &rows);
        narrow(&mut self.starts, &rows);
        match &mut self.values {
            Values::Floats(values) => narrow(values, &rows),
            Values::Histograms(values) => narrow(values, &rows),
            Values::Mixed(values) => narrow(values, &rows),
        }
    }

    /// No samples, in the room that `samples` had.
    pub(crate) fn emptied(samples: Samples) -> Self {
        let mut columns = Self {
            timestamps: samples.timestamps,
            starts: samples.start_timestamps.unwrap_or_default(),
            values: samples.values,
        };
        columns.clear();
        columns
    }

    /// As the reader gets them.
    pub(crate) fn into_samples(self) -> Samples {
        let known = self.starts.iter().any(|start| *start != 0);
        Samples {
            timestamps: self.timestamps,
            start_timestamps: known.then_some(self.starts),
            values: self.values.pure(),
        }
    }
}

impl Values {
    pub(crate) fn push(&mut self, value: Value) {
        match (&mut *self, value) {
            (Self::Floats(values), Value::Float(value)) => values.push(value),
            (Self::Histograms(values), Value::Histogram(value)) => values.push(value),
            (Self::Mixed(values), value) => values.push(value),
            (Self::Floats(values), Value::Histogram(value)) if values.is_empty() => {
                *self = Self::Histograms(vec![value]);
            }
            (_, value) => self.mix().push(value),
        }
    }

    /// Lets `add` add to the floats at the end.
    pub(crate) fn with_floats(
        &mut self,
        add: impl FnOnce(&mut Vec<f64>) -> Result<()>,
    ) -> Result<()> {
        if let Self::Floats(values) = self {
            return add(values);
        }
        let mut added = Vec::new();
        add(&mut added)?;
        self.mix().extend(added.into_iter().map(Value::Float));
        Ok(())
    }

    /// Lets `add` add to the histograms at the end.
    pub(crate) fn with_histograms(
        &mut self,
        add: impl FnOnce(&mut Vec<Arc<Histogram>>) -> Result<()>,
    ) -> Result<()> {
        if self.is_empty() {
            *self = Self::Histograms(Vec::new());
        }
        if let Self::Histograms(values) = self {
            return add(values);
        }
        let mut added = Vec::new();
        add(&mut added)?;
        self.mix().extend(added.into_iter().map(Value::Histogram));
        Ok(())
    }

    /// The same values as a column that takes any.
    fn mix(&mut self) -> &mut Vec<Value> {
        let mixed = match std::mem::replace(self, Self::Mixed(Vec::new())) {
            Self::Floats(values) => values.into_iter().map(Value::Float).collect(),
            Self::Histograms(values) => values.into_iter().map(Value::Histogram).collect(),
            Self::Mixed(values) => values,
        };
        match self {
            Self::Mixed(values) => {
                *values = mixed;
                values
            }
            Self::Floats(_) | Self::Histograms(_) => unreachable!("it was replaced just now"),
        }
    }

    /// The same values, mixed only if they are.
    pub(crate) fn pure(self) -> Self {
        let Self::Mixed(values) = self else {
            return self;
        };
        let floats = values.iter().filter(|v| matches!(v, Value::Float(_)));
        let floats = floats.count();
        if floats > 0 && floats < values.len() {
            return Self::Mixed(values);
        }
        let mut pure = Self::Floats(Vec::new());
        for value in values {
            pure.push(value);
        }
        pure
    }
}

/// The rows of a column that may be empty because nothing is known of any row.
fn some<T: Clone>(column: &[T], rows: &Range<usize>) -> Vec<T> {
    column.get(rows.clone()).unwrap_or_default().to_vec()
}

fn pick<T: Clone>(column: &mut Vec<T>, places: &[u32]) {
    if !column.is_empty() {
        let at = |place: &u32| column[*place as usize].clone();
        *column = places.iter().map(at).collect();
    }
}

fn narrow<T>(column: &mut Vec<T>, rows: &Range<usize>) {
    if !column.is_empty() {
        column.truncate(rows.end);
        column.drain(..rows.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(timestamp: i64, value: char) -> Sample {
        // Capital letters are histograms, some have start timestamps.
        let number = f64::from(value as u32);
        let histogram = || Histogram {
            sum: number,
            ..Histogram::default()
        };
        Sample {
            timestamp,
            start: if value == 's' { 1 } else { 0 },
            value: match value.is_uppercase() {
                true => histogram().into(),
                false => number.into(),
            },
        }
    }

    fn columns(rows: &[(i64, char)]) -> Columns {
        let mut columns = Columns::default();
        for (timestamp, value) in rows {
            columns.push(sample(*timestamp, *value));
        }
        columns
    }

    #[test]
    fn the_last_added_stays_and_order_is_kept() {
        for (added, expected) in [
            (vec![], vec![]),
            (vec![(1, 'o'), (2, 'o')], vec![(1, 'o'), (2, 'o')]),
            (
                vec![(1, 'o'), (3, 'o'), (5, 'o'), (2, 'n'), (3, 'n')],
                vec![(1, 'o'), (2, 'n'), (3, 'n'), (5, 'o')],
            ),
            (
                vec![(5, 'o'), (1, 's'), (9, 'n')],
                vec![(1, 's'), (5, 'o'), (9, 'n')],
            ),
            (vec![(5, 'o'), (5, 'm'), (5, 'n')], vec![(5, 'n')]),
            (vec![(5, 'O'), (5, 'm'), (6, 'N')], vec![(5, 'm'), (6, 'N')]),
            (vec![(5, 'O'), (6, 'm'), (6, 'N')], vec![(5, 'O'), (6, 'N')]),
        ] {
            let mut settled = columns(&added);
            settled.settle();
            let expected = columns(&expected).into_samples();
            assert_eq!(settled.into_samples(), expected, "{added:?}");
        }
    }

    #[test]
    fn rows_are_chosen_in_all_columns() {
        let rows = [(1, 'a'), (2, 'S'), (3, 's'), (4, 'B'), (5, 's')];
        let all = columns(&rows);
        let check = |mut of: Columns, change: &dyn Fn(&mut Columns), expected: &[usize]| {
            change(&mut of);
            let expected: Vec<Sample> = expected.iter().filter_map(|at| all.get(*at)).collect();
            assert_eq!(of.iter().collect::<Vec<_>>(), expected);
            assert!(of.starts.is_empty() || of.starts.len() == of.len());
        };
        let range = TimeRange::new(2, 4);
        check(all.clone(), &|c| c.keep(range), &[1, 2]);
        check(all.clone(), &|c| c.remove(0, range), &[0, 3, 4]);
        check(all.clone(), &|c| c.remove(2, range), &[0, 1, 3, 4]);
        check(all.clone(), &|c| c.filter(|t| t % 2 == 1), &[0, 2, 4]);
        check(all.rows(3..5), &|_| {}, &[3, 4]);
    }
}
