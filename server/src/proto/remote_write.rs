//! Prometheus remote write 1.0: `WriteRequest`, read series by series without copying.
//! `ingest::remote_write` calls it.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::wire::{Fields, WireError};

/// The parts of a request, one after the other.
#[derive(Debug, Clone)]
pub struct WriteRequest<'a> {
    rest: Fields<'a>,
    rows: RowCount,
}

/// Series, samples, histograms and exemplars of one request together. An empty one has two bytes in
/// the message and takes sixteen and more of memory; those of real senders have seventeen.
pub const ROWS_MAX: usize = 4 << 20;

/// Counts rows against a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowCount {
    count: usize,
    max: usize,
}

impl RowCount {
    pub(super) fn new(max: usize) -> Self {
        Self { count: 0, max }
    }

    #[inline]
    pub(super) fn one_more(&mut self) -> Result<(), WireError> {
        self.count += 1;
        if self.count > self.max {
            return Err(WireError::TooManyRows(self.max));
        }
        Ok(())
    }
}

/// What a request is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part<'a> {
    /// A series, which was read into what was given.
    Series,
    /// What a metric is.
    Metadata(Metadata<'a>),
}

/// What a metric is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Metadata<'a> {
    /// The number of its type.
    pub kind: u64,
    /// The name of the metric; as the texts that follow, not checked to be UTF-8.
    pub family: &'a [u8],
    /// What it measures, in words.
    pub help: &'a [u8],
    /// Its unit.
    pub unit: &'a [u8],
}

/// An exemplar; reused from one to the next.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Exemplar<'a> {
    /// Pairs of name and value; not checked to be UTF-8.
    pub labels: Vec<(&'a [u8], &'a [u8])>,
    /// What was observed.
    pub value: f64,
    /// Milliseconds since 1970, 0 when it was not sent.
    pub timestamp: i64,
}

/// Labels of one exemplar that are read at most. They may have 128 characters, so one too many is
/// refused however many follow.
pub const EXEMPLAR_LABELS_MAX: usize = 129;

/// One series of a request; reused from series to series, so that a request allocates little.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct TimeSeries<'a> {
    /// The part of the message that holds the labels: what [`TimeSeries::read_labels`] reads.
    pub wire_labels: &'a [u8],
    /// Whether that part is nothing but the labels, as senders write it: all of them, then the
    /// rest. Then equal bytes are what the sender sends whenever it means this series.
    pub labels_first: bool,
    /// Pairs of name and value, in the order in which they were sent; not checked to be UTF-8.
    /// Empty before [`TimeSeries::read_labels`].
    pub labels: Vec<(&'a [u8], &'a [u8])>,
    /// How many labels there are; more than were read when there were too many.
    pub label_count: usize,
    /// Pairs of timestamp (milliseconds) and value.
    pub samples: Vec<(i64, f64)>,
    /// The exemplars, for [`Exemplar::read`].
    pub exemplars: Vec<&'a [u8]>,
    /// The native histograms, for
    /// [`HistogramSample::read`](super::histogram::HistogramSample::read).
    pub histograms: Vec<&'a [u8]>,
}

impl<'a> WriteRequest<'a> {
    /// The request in `message`, with `rows_max` rows at most.
    pub fn of(message: &'a [u8], rows_max: usize) -> Self {
        Self {
            rest: Fields::of(message),
            rows: RowCount::new(rows_max),
        }
    }

    /// Reads the next part, a series into `series`, all but its labels; `None` after the last one.
    ///
    /// # Errors
    /// [`WireError`] when the rest is not a write request; [`WireError::OtherVersion`] when it is
    /// one of version 2, [`WireError::TooManyRows`].
    pub fn next_part(
        &mut self,
        series: &mut TimeSeries<'a>,
    ) -> Result<Option<Part<'a>>, WireError> {
        while let Some((number, value)) = self.rest.next_field()? {
            match number {
                1 => {
                    self.rows.one_more()?;
                    series.read(value.bytes()?, &mut self.rows)?;
                    return Ok(Some(Part::Series));
                }
                3 => {
                    let metadata = Metadata::read(value.bytes()?)?;
                    return Ok(Some(Part::Metadata(metadata)));
                }
                // The numbers of symbols and series there, which nobody uses here.
                4 | 5 => return Err(WireError::OtherVersion),
                _ => {}
            }
        }
        Ok(None)
    }
}

impl<'a> TimeSeries<'a> {
    fn read(&mut self, message: &'a [u8], rows: &mut RowCount) -> Result<(), WireError> {
        self.labels.clear();
        self.samples.clear();
        self.exemplars.clear();
        self.histograms.clear();
        let rest = after_labels(message);
        self.labels_first = true;
        let length = message.len() - rest.len();
        self.wire_labels = message.get(..length).unwrap_or_default();
        let mut fields = Fields::of(rest);
        while let Some((number, value)) = fields.next_field()? {
            if matches!(number, 2..=4) {
                rows.one_more()?;
            }
            match number {
                1 => (self.wire_labels, self.labels_first) = (message, false),
                2 => self.samples.push(sample(value.bytes()?)?),
                3 => self.exemplars.push(value.bytes()?),
                4 => self.histograms.push(value.bytes()?),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads the labels, `max` at most; the rest is counted.
    ///
    /// # Errors
    /// [`WireError`] when they are no labels.
    pub fn read_labels(&mut self, max: usize) -> Result<(), WireError> {
        self.labels.clear();
        self.label_count = 0;
        let mut fields = Fields::of(self.wire_labels);
        while let Some((number, value)) = fields.next_field()? {
            if number == 1 {
                let label = label(value.bytes()?)?;
                self.label_count += 1;
                if self.label_count <= max {
                    self.labels.push(label);
                }
            }
        }
        Ok(())
    }
}

impl<'a> Exemplar<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        self.labels.clear();
        (self.value, self.timestamp) = (0.0, 0);
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => {
                    let label = label(value.bytes()?)?;
                    if self.labels.len() < EXEMPLAR_LABELS_MAX {
                        self.labels.push(label);
                    }
                }
                2 => self.value = value.double()?,
                3 => self.timestamp = value.int64()?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> Metadata<'a> {
    fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut metadata = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => metadata.kind = value.uint64()?,
                2 => metadata.family = value.bytes()?,
                4 => metadata.help = value.bytes()?,
                5 => metadata.unit = value.bytes()?,
                _ => {}
            }
        }
        Ok(metadata)
    }
}

/// What follows the labels that a series begins with.
fn after_labels(message: &[u8]) -> &[u8] {
    let mut rest = message;
    loop {
        let (length, after) = match rest {
            [0x0a, length @ 0..128, after @ ..] => (usize::from(*length), after),
            [0x0a, low, high @ 0..128, after @ ..] => {
                (usize::from(*high) << 7 | usize::from(*low & 0x7f), after)
            }
            _ => return rest,
        };
        let Some(after) = after.get(length..) else {
            return rest;
        };
        rest = after;
    }
}

fn label(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    // As every sender writes it: name, then value, both shorter than 128 bytes.
    if let [0x0a, name_len @ 0..128, rest @ ..] = message
        && let Some((name, [0x12, value_len @ 0..128, value @ ..])) =
            rest.split_at_checked(usize::from(*name_len))
        && value.len() == usize::from(*value_len)
    {
        return Ok((name, value));
    }
    let mut fields = Fields::of(message);
    let mut label = (&b""[..], &b""[..]);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => label.0 = value.bytes()?,
            2 => label.1 = value.bytes()?,
            _ => {}
        }
    }
    Ok(label)
}

fn sample(message: &[u8]) -> Result<(i64, f64), WireError> {
    // As every sender writes it: value, then a timestamp of this century.
    if let Some(([0x09, bits @ .., 0x10], timestamp)) = message.split_first_chunk::<10>()
        && let Ok(timestamp) = timestamp.try_into()
        && let Some(timestamp) = six_bytes(timestamp)
    {
        return Ok((timestamp, f64::from_le_bytes(*bits)));
    }
    let mut fields = Fields::of(message);
    let mut sample = (0, 0.0);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => sample.1 = value.double()?,
            2 => sample.0 = value.int64()?,
            _ => {}
        }
    }
    Ok(sample)
}

/// The number that a varint of just six bytes is written for: the timestamps of this century in
/// milliseconds.
#[inline]
pub(super) fn six_bytes(bytes: &[u8; 6]) -> Option<i64> {
    let [a, b, c, d, e, last @ 0..128] = bytes else {
        return None;
    };
    if a & b & c & d & e & 0x80 == 0 {
        return None;
    }
    let mut number = u64::from(*last);
    for byte in [e, d, c, b, a] {
        number = number << 7 | u64::from(byte & 0x7f);
    }
    Some(number.cast_signed())
}

#[cfg(test)]
mod tests;
