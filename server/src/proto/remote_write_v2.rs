//! Prometheus remote write 2.0: `io.prometheus.write.v2.Request`, read series by series without
//! copying. Strings come once, as symbols; all else refers to them by their places.
//! `ingest::remote_write_v2` calls it.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::remote_write::{ROWS_MAX, RowCount, six_bytes};
use super::wire::{Fields, WireError};

/// Symbols of one request. Each takes 32 bytes of memory while it is read; senders send a few
/// thousand samples at a time, with fewer symbols than labels.
pub const SYMBOLS_MAX: usize = 1 << 20;

/// A request whose symbols were read.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The symbols, the empty one first; not checked to be UTF-8.
    pub symbols: Vec<&'a [u8]>,
    rest: Fields<'a>,
    rows: RowCount,
}

/// One series of a request; reused from series to series.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct TimeSeries<'a> {
    /// Places of the labels' symbols, name and value in turn.
    pub labels_refs: Vec<u32>,
    /// How many places there are; more than were read when there were too many.
    pub ref_count: usize,
    /// Pairs of timestamp (milliseconds) and value.
    pub samples: Vec<(i64, f64)>,
    /// When the counter of each sample began, 0 where that is not known; empty when it is not known
    /// of any.
    pub starts: Vec<i64>,
    /// When the counters of all samples and histograms began that say nothing of it themselves, as
    /// earlier drafts of the protocol have it; 0 when that was not sent.
    pub created: i64,
    /// The native histograms, for
    /// [`HistogramSample::read`](super::histogram::HistogramSample::read).
    pub histograms: Vec<&'a [u8]>,
    /// The exemplars, for [`Exemplar::read`].
    pub exemplars: Vec<&'a [u8]>,
    /// What the metric is.
    pub metadata: Metadata,
}

/// What a metric is. All zero when it was not sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// The number of its type, as in version 1.
    pub kind: u64,
    /// The place of its help.
    pub help_ref: u32,
    /// The place of its unit.
    pub unit_ref: u32,
}

/// An exemplar; reused from one to the next.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Exemplar {
    /// Places of the labels' symbols, name and value in turn.
    pub labels_refs: Vec<u32>,
    /// What was observed.
    pub value: f64,
    /// Milliseconds since 1970, 0 when it was not sent.
    pub timestamp: i64,
}

/// Places of one exemplar's labels that are read at most: one pair more than 128 characters can
/// have names.
pub const EXEMPLAR_REFS_MAX: usize = 2 * super::remote_write::EXEMPLAR_LABELS_MAX;

impl<'a> Request<'a> {
    /// Reads the symbols of `message`, wherever in it they are; `symbols_max` at most.
    ///
    /// # Errors
    /// [`WireError`] when it is no request; [`WireError::OtherVersion`] when it is one of
    /// version 1, [`WireError::TooManySymbols`].
    pub fn read(message: &'a [u8], symbols_max: usize) -> Result<Self, WireError> {
        let mut symbols = Vec::new();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                // The numbers of series and metadata there, which nobody uses here.
                1..=3 => return Err(WireError::OtherVersion),
                4 if symbols.len() == symbols_max => {
                    return Err(WireError::TooManySymbols(symbols_max));
                }
                4 => symbols.push(value.bytes()?),
                _ => {}
            }
        }
        Ok(Self {
            symbols,
            rest: Fields::of(message),
            rows: RowCount::new(ROWS_MAX),
        })
    }

    /// Reads the next series into `series`, `refs_max` of the places of its labels at most; false
    /// after the last one.
    ///
    /// # Errors
    /// [`WireError`] when it is none; [`WireError::TooManyRows`] past [`ROWS_MAX`].
    pub fn next_series(
        &mut self,
        refs_max: usize,
        series: &mut TimeSeries<'a>,
    ) -> Result<bool, WireError> {
        while let Some((number, value)) = self.rest.next_field()? {
            if number == 5 {
                self.rows.one_more()?;
                series.read(value.bytes()?, refs_max, &mut self.rows)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl<'a> TimeSeries<'a> {
    fn read(
        &mut self,
        message: &'a [u8],
        refs_max: usize,
        rows: &mut RowCount,
    ) -> Result<(), WireError> {
        self.clear();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            if matches!(number, 2..=4) {
                rows.one_more()?;
            }
            match number {
                1 => {
                    let refs = &mut self.labels_refs;
                    let count = &mut self.ref_count;
                    value.varints(|place| {
                        *count += 1;
                        if *count <= refs_max {
                            refs.push(place_of(place));
                        }
                    })?;
                }
                2 => self.sample(value.bytes()?)?,
                3 => self.histograms.push(value.bytes()?),
                4 => self.exemplars.push(value.bytes()?),
                5 => self.metadata = Metadata::read(value.bytes()?)?,
                6 => self.created = value.int64()?,
                _ => {}
            }
        }
        self.spread_created();
        Ok(())
    }

    fn clear(&mut self) {
        self.labels_refs.clear();
        self.samples.clear();
        self.starts.clear();
        self.histograms.clear();
        self.exemplars.clear();
        (self.ref_count, self.created, self.metadata) = (0, 0, Metadata::default());
    }

    #[inline]
    fn sample(&mut self, message: &[u8]) -> Result<(), WireError> {
        let (timestamp, start, value) = sample(message)?;
        if start != 0 || !self.starts.is_empty() {
            self.starts.resize(self.samples.len(), 0);
            self.starts.push(start);
        }
        self.samples.push((timestamp, value));
        Ok(())
    }

    fn spread_created(&mut self) {
        if self.created != 0 {
            self.starts.resize(self.samples.len(), 0);
            let unknown = self.starts.iter_mut().filter(|start| **start == 0);
            unknown.for_each(|start| *start = self.created);
        }
    }
}

impl Metadata {
    fn read(message: &[u8]) -> Result<Self, WireError> {
        let mut metadata = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => metadata.kind = value.uint64()?,
                3 => metadata.help_ref = place_of(value.uint64()?),
                4 => metadata.unit_ref = place_of(value.uint64()?),
                _ => {}
            }
        }
        Ok(metadata)
    }
}

impl Exemplar {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(&mut self, message: &[u8]) -> Result<(), WireError> {
        self.labels_refs.clear();
        (self.value, self.timestamp) = (0.0, 0);
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => {
                    let refs = &mut self.labels_refs;
                    value.varints(|place| {
                        if refs.len() < EXEMPLAR_REFS_MAX {
                            refs.push(place_of(place));
                        }
                    })?;
                }
                2 => self.value = value.double()?,
                3 => self.timestamp = value.int64()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A place as it is kept; one that is too large for any table stays too large.
fn place_of(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Timestamp, start timestamp and value of a sample.
#[inline]
fn sample(message: &[u8]) -> Result<(i64, i64, f64), WireError> {
    // As every sender writes it: value, then one or two timestamps of this century.
    if let Some(([0x09, bits @ .., 0x10], rest)) = message.split_first_chunk::<10>()
        && let Some((timestamp, rest)) = rest.split_first_chunk::<6>()
        && let Some(timestamp) = six_bytes(timestamp)
    {
        let value = f64::from_le_bytes(*bits);
        match rest {
            [] => return Ok((timestamp, 0, value)),
            [0x18, start @ ..] => {
                if let Some(start) = start.try_into().ok().and_then(six_bytes) {
                    return Ok((timestamp, start, value));
                }
            }
            _ => {}
        }
    }
    let mut fields = Fields::of(message);
    let mut sample = (0, 0, 0.0);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => sample.2 = value.double()?,
            2 => sample.0 = value.int64()?,
            3 => sample.1 = value.int64()?,
            _ => {}
        }
    }
    Ok(sample)
}

#[cfg(test)]
mod tests;
