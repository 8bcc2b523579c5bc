//! Native histograms as both versions of remote write send them. `ingest::remote_write` and
//! `ingest::remote_write_v2` call [`HistogramSample::read`].
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use trine_tsdb::{BUCKETS_MAX, Buckets, Histogram, HistogramError, ResetHint, Span};

use super::wire::{Fields, Value, WireError, zigzag};

/// One sample whose value is a histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// When its counter began, milliseconds since 1970, 0 when that is not known.
    pub start_timestamp: i64,
    /// The histogram, or why none can be made of the message. The engine judges what is in it.
    pub histogram: Result<Histogram, HistogramError>,
}

/// At most [`BUCKETS_MAX`] things, and how many there were.
#[derive(Debug)]
struct Bounded<T> {
    kept: Vec<T>,
    count: usize,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            count: 0,
        }
    }
}

impl<T> Bounded<T> {
    fn push(&mut self, item: T) {
        self.count += 1;
        if self.count <= BUCKETS_MAX {
            self.kept.push(item);
        }
    }
}

/// The buckets of one side.
#[derive(Debug, Default)]
struct Side {
    spans: Bounded<Span>,
    /// Integers, each as the difference to the one before.
    deltas: Bounded<i64>,
    floats: Bounded<f64>,
}

/// A count that is one of the two.
#[derive(Debug, Clone, Copy)]
enum Count {
    Integer(u64),
    Float(f64),
}

/// The fields of the message.
#[derive(Debug, Default)]
struct Message {
    count: Option<Count>,
    zero_count: Option<Count>,
    sum: f64,
    schema: i64,
    zero_threshold: f64,
    positive: Side,
    negative: Side,
    reset_hint: u64,
    timestamp: i64,
    start_timestamp: i64,
    custom_values: Bounded<f64>,
}

impl HistogramSample {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(message: &[u8]) -> Result<Self, WireError> {
        let mut read = Message::default();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            read.field(number, value)?;
        }
        Ok(Self {
            timestamp: read.timestamp,
            start_timestamp: read.start_timestamp,
            histogram: read.finish(),
        })
    }
}

impl Message {
    fn field(&mut self, number: u32, value: Value<'_>) -> Result<(), WireError> {
        match number {
            1 => self.count = Some(Count::Integer(value.uint64()?)),
            2 => self.count = Some(Count::Float(value.double()?)),
            3 => self.sum = value.double()?,
            4 => self.schema = value.sint64()?,
            5 => self.zero_threshold = value.double()?,
            6 => self.zero_count = Some(Count::Integer(value.uint64()?)),
            7 => self.zero_count = Some(Count::Float(value.double()?)),
            8..=10 => self.negative.field(number - 8, value)?,
            11..=13 => self.positive.field(number - 11, value)?,
            14 => self.reset_hint = value.uint64()?,
            15 => self.timestamp = value.int64()?,
            16 => {
                let values = &mut self.custom_values;
                value.doubles(|bound| values.push(bound))?;
            }
            17 => self.start_timestamp = value.int64()?,
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Histogram, HistogramError> {
        let schema = i8::try_from(self.schema).map_err(|_| {
            let far = if self.schema < 0 { i32::MIN } else { i32::MAX };
            HistogramError::UnknownSchema(i32::try_from(self.schema).unwrap_or(far))
        })?;
        let buckets = match self.count {
            Some(Count::Float(count)) => Buckets::Float {
                zero_count: match self.zero_count {
                    Some(Count::Float(count)) => count,
                    _ => 0.0,
                },
                count,
                positive: kept(self.positive.floats)?,
                negative: kept(self.negative.floats)?,
            },
            integer => Buckets::Integer {
                zero_count: match self.zero_count {
                    Some(Count::Integer(count)) => count,
                    _ => 0,
                },
                count: match integer {
                    Some(Count::Integer(count)) => count,
                    _ => 0,
                },
                positive: absolute(self.positive.deltas)?,
                negative: absolute(self.negative.deltas)?,
            },
        };
        Ok(Histogram {
            schema,
            reset_hint: match self.reset_hint {
                1 => ResetHint::Reset,
                2 => ResetHint::NotReset,
                3 => ResetHint::Gauge,
                _ => ResetHint::Unknown,
            },
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            buckets,
            positive_spans: spans(self.positive.spans)?,
            negative_spans: spans(self.negative.spans)?,
            custom_values: spans(self.custom_values)?,
        })
    }
}

impl Side {
    /// Takes a field by its number among the three of the side.
    fn field(&mut self, number: u32, value: Value<'_>) -> Result<(), WireError> {
        match number {
            0 => self.spans.push(span(value.bytes()?)?),
            1 => {
                let deltas = &mut self.deltas;
                value.varints(|delta| deltas.push(zigzag(delta)))?;
            }
            _ => {
                let floats = &mut self.floats;
                value.doubles(|count| floats.push(count))?;
            }
        }
        Ok(())
    }
}

fn span(message: &[u8]) -> Result<Span, WireError> {
    let mut span = Span {
        offset: 0,
        length: 0,
    };
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => {
                span.offset = i32::try_from(value.sint64()?).map_err(|_| WireError::BadNumber)?;
            }
            2 => {
                span.length = u32::try_from(value.uint64()?).map_err(|_| WireError::BadNumber)?;
            }
            _ => {}
        }
    }
    Ok(span)
}

fn kept<T>(counts: Bounded<T>) -> Result<Vec<T>, HistogramError> {
    if counts.count > BUCKETS_MAX {
        return Err(HistogramError::TooManyBuckets {
            buckets: counts.count,
            max: BUCKETS_MAX,
        });
    }
    Ok(counts.kept)
}

fn spans<T>(spans: Bounded<T>) -> Result<Vec<T>, HistogramError> {
    if spans.count > BUCKETS_MAX {
        return Err(HistogramError::TooManySpans(spans.count));
    }
    Ok(spans.kept)
}

fn absolute(deltas: Bounded<i64>) -> Result<Vec<i64>, HistogramError> {
    let mut counts = kept(deltas)?;
    let mut count = 0i64;
    for place in &mut counts {
        count = count
            .checked_add(*place)
            .ok_or(HistogramError::CountOverflow)?;
        *place = count;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests;
