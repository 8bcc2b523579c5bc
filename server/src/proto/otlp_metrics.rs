//! OTLP metrics: `ExportMetricsServiceRequest`, read message by message without copying. What is
//! read into is used again for the next one, so that a request allocates little.
//! `ingest::otlp_metrics` calls it.
//!
//! A field that can be there once is refused when it is there twice. The format allows it, and means
//! that the two are one; no sender writes it.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use opentelemetry_proto::tonic::common::v1::AnyValue;
use prost::Message as _;

use super::wire::{Fields, Messages, Value, WireError};

/// Attributes of one thing that are read at most; those that follow are counted.
pub const ATTRIBUTES_READ_MAX: usize = 1_025;

/// Buckets of one side of an exponential histogram that are read at most; those that follow are
/// counted. Each has a byte in the message and takes eight of memory.
pub const SIDE_BUCKETS_MAX: usize = 1 << 20;

/// The resources of a request: messages for [`ResourceMetrics::read`].
pub fn resources(request: &[u8]) -> Messages<'_> {
    Messages::of(request, 1)
}

/// One attribute.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute<'a> {
    /// Its name.
    pub key: &'a str,
    /// Its value.
    pub value: AttributeValue<'a>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue<'a> {
    /// A string, as nearly all are.
    Text(&'a str),
    /// Anything else, or nothing.
    Other(AnyValue),
}

/// The attributes of one thing.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Attributes<'a> {
    /// The first [`ATTRIBUTES_READ_MAX`] of them.
    pub list: Vec<Attribute<'a>>,
    /// How many there are.
    pub count: usize,
}

/// The attributes of a point, not read yet: of a point that is known by their bytes, they need not
/// be.
#[derive(Debug, Default, Clone)]
pub struct AttributeMessages<'a> {
    /// The first [`ATTRIBUTES_READ_MAX`] of them.
    pub list: Vec<&'a [u8]>,
    /// How many there are.
    pub count: usize,
}

/// The metrics of one resource.
#[derive(Debug, Default, Clone)]
pub struct ResourceMetrics<'a> {
    /// What is known of it.
    pub attributes: Attributes<'a>,
    /// The same as it was sent.
    pub resource: &'a [u8],
    message: &'a [u8],
}

/// The metrics of one scope.
#[derive(Debug, Default, Clone)]
pub struct ScopeMetrics<'a> {
    /// The scope, for [`Scope::read`].
    pub scope: Option<&'a [u8]>,
    /// Where its conventions are written down.
    pub schema_url: &'a str,
    message: &'a [u8],
}

/// A scope: what measures.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Scope<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What else is known of it.
    pub attributes: Attributes<'a>,
}

/// What the points of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers, for [`NumberPoint::read`].
    Gauge,
    /// Numbers that are added to, for [`NumberPoint::read`].
    Sum,
    /// For [`HistogramPoint::read`].
    Histogram,
    /// For [`ExponentialPoint::read`].
    ExponentialHistogram,
    /// For [`SummaryPoint::read`].
    Summary,
}

/// One metric.
#[derive(Debug, Clone, Copy, Default)]
pub struct Metric<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it measures, in words.
    pub description: &'a str,
    /// Its unit.
    pub unit: &'a str,
    /// What its points are, if it says so.
    pub kind: Option<Kind>,
    /// The number of its temporality, 0 when that is not known or there is none.
    pub temporality: u32,
    /// Whether a sum only grows.
    pub is_monotonic: bool,
    /// How many points it has.
    pub points_count: usize,
    data: &'a [u8],
}

/// What points of all kinds have.
#[derive(Debug, Default, Clone)]
pub struct Point<'a> {
    /// What tells it from the others of its metric.
    pub attributes: AttributeMessages<'a>,
    /// When its counter began, nanoseconds since 1970, 0 when that is not known.
    pub start_ns: u64,
    /// When it was measured, nanoseconds since 1970.
    pub time_ns: u64,
    /// Bits that say more of it.
    pub flags: u32,
    /// Its exemplars, for [`Exemplar::read`].
    pub exemplars: Messages<'a>,
}

/// A number.
#[derive(Debug, Default, Clone)]
pub struct NumberPoint<'a> {
    /// What points of all kinds have.
    pub point: Point<'a>,
    /// Its value; an integer as the double next to it.
    pub value: Option<f64>,
}

/// A histogram with explicit bounds.
#[derive(Debug, Default, Clone)]
pub struct HistogramPoint<'a> {
    /// What points of all kinds have.
    pub point: Point<'a>,
    /// How much was observed.
    pub count: u64,
    /// The sum of it, if it is known.
    pub sum: Option<f64>,
    /// How much was observed in each bucket.
    pub bucket_counts: Vec<u64>,
    /// The upper bounds of all buckets but the last one.
    pub explicit_bounds: Vec<f64>,
}

/// An exponential histogram.
#[derive(Debug, Default, Clone)]
pub struct ExponentialPoint<'a> {
    /// What points of all kinds have.
    pub point: Point<'a>,
    /// How much was observed.
    pub count: u64,
    /// The sum of it, if it is known.
    pub sum: Option<f64>,
    /// How fine its buckets are.
    pub scale: i32,
    /// How much was observed so near to zero that no other bucket has it.
    pub zero_count: u64,
    /// How near that is, 0 when it is not known.
    pub zero_threshold: f64,
    /// The buckets of positive values.
    pub positive: Side,
    /// The buckets of negative values.
    pub negative: Side,
}

/// The buckets of one side of an exponential histogram.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Side {
    /// The index of the first one.
    pub offset: i32,
    /// The first [`SIDE_BUCKETS_MAX`] of them.
    pub counts: Vec<u64>,
    /// How many there are.
    pub count: usize,
}

/// A summary.
#[derive(Debug, Default, Clone)]
pub struct SummaryPoint<'a> {
    /// What points of all kinds have.
    pub point: Point<'a>,
    /// How much was observed.
    pub count: u64,
    /// The sum of it.
    pub sum: f64,
    /// Its quantiles, for [`quantile`].
    pub quantiles: Messages<'a>,
}

/// An exemplar.
#[derive(Debug, Default, Clone)]
pub struct Exemplar<'a> {
    /// When it was observed, nanoseconds since 1970.
    pub time_ns: u64,
    /// What was observed; an integer as the double next to it.
    pub value: Option<f64>,
    /// The span in which it was.
    pub span_id: &'a [u8],
    /// The trace of that span.
    pub trace_id: &'a [u8],
    /// Attributes that the point does not have.
    pub attributes: Attributes<'a>,
}

impl<'a> Attributes<'a> {
    fn clear(&mut self) {
        self.list.clear();
        self.count = 0;
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), WireError> {
        let message = value.bytes()?;
        self.count += 1;
        if self.count <= ATTRIBUTES_READ_MAX {
            self.list.push(Attribute::read(message)?);
        }
        Ok(())
    }
}

impl<'a> AttributeMessages<'a> {
    fn clear(&mut self) {
        self.list.clear();
        self.count = 0;
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), WireError> {
        let message = value.bytes()?;
        self.count += 1;
        if self.count <= ATTRIBUTES_READ_MAX {
            self.list.push(message);
        }
        Ok(())
    }

    /// Reads them into `attributes`.
    ///
    /// # Errors
    /// [`WireError`] when one is none.
    pub fn read(&self, attributes: &mut Attributes<'a>) -> Result<(), WireError> {
        attributes.list.clear();
        attributes.count = self.count;
        for message in &self.list {
            attributes.list.push(Attribute::read(message)?);
        }
        Ok(())
    }
}

impl<'a> Attribute<'a> {
    fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut fields = Fields::of(message);
        let (mut key, mut any) = ("", None);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => key = value.text()?,
                2 => once(&mut any, value)?,
                _ => {}
            }
        }
        let value = AttributeValue::read(any.unwrap_or_default())?;
        Ok(Self { key, value })
    }
}

impl<'a> AttributeValue<'a> {
    fn read(message: &'a [u8]) -> Result<Self, WireError> {
        // As every sender writes a string: nothing else, and shorter than 128 bytes.
        if let [0x0a, length @ 0..128, text @ ..] = message
            && text.len() == usize::from(*length)
        {
            let text = std::str::from_utf8(text).map_err(|_| WireError::NotUtf8)?;
            return Ok(Self::Text(text));
        }
        let mut fields = Fields::of(message);
        if let Some((1, value)) = fields.next_field()?
            && fields.is_empty()
        {
            return value.text().map(Self::Text);
        }
        // Lists in lists are rare, and how deep they may be is known there.
        let any = AnyValue::decode(message).map_err(|_| WireError::BadAttribute)?;
        Ok(Self::Other(any))
    }
}

impl<'a> ResourceMetrics<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        self.attributes.clear();
        self.message = message;
        let mut resource = None;
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            if number == 1 {
                once(&mut resource, value)?;
            }
        }
        self.resource = resource.unwrap_or_default();
        let mut attributes = Messages::of(self.resource, 1);
        while let Some(attribute) = attributes.next_message()? {
            self.attributes.push(Value::Bytes(attribute))?;
        }
        Ok(())
    }

    /// Its scopes: messages for [`ScopeMetrics::read`].
    pub fn scopes(&self) -> Messages<'a> {
        Messages::of(self.message, 2)
    }
}

impl<'a> ScopeMetrics<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut read = Self {
            message,
            ..Self::default()
        };
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => once(&mut read.scope, value)?,
                3 => read.schema_url = value.text()?,
                _ => {}
            }
        }
        Ok(read)
    }

    /// Its metrics: messages for [`Metric::read`].
    pub fn metrics(&self) -> Messages<'a> {
        Messages::of(self.message, 2)
    }
}

impl<'a> Scope<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut read = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => read.name = value.text()?,
                2 => read.version = value.text()?,
                3 => read.attributes.push(value)?,
                _ => {}
            }
        }
        Ok(read)
    }
}

impl<'a> Metric<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut read = Self::default();
        let mut data = None;
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            let kind = match number {
                1 => {
                    read.name = value.text()?;
                    continue;
                }
                2 => {
                    read.description = value.text()?;
                    continue;
                }
                3 => {
                    read.unit = value.text()?;
                    continue;
                }
                5 => Kind::Gauge,
                7 => Kind::Sum,
                9 => Kind::Histogram,
                10 => Kind::ExponentialHistogram,
                11 => Kind::Summary,
                _ => continue,
            };
            once(&mut data, value)?;
            read.kind = Some(kind);
        }
        read.data = data.unwrap_or_default();
        let mut fields = Fields::of(read.data);
        while let Some((number, value)) = fields.next_field()? {
            match (number, read.kind) {
                (1, _) => {
                    value.bytes()?;
                    read.points_count += 1;
                }
                (2, Some(Kind::Sum | Kind::Histogram | Kind::ExponentialHistogram)) => {
                    read.temporality = low(value.uint64()?);
                }
                (3, Some(Kind::Sum)) => read.is_monotonic = value.uint64()? != 0,
                _ => {}
            }
        }
        Ok(read)
    }

    /// Its points: messages for the reader that [`Metric::kind`] names.
    pub fn points(&self) -> Messages<'a> {
        Messages::of(self.data, 1)
    }
}

impl<'a> Point<'a> {
    fn clear(&mut self, message: &'a [u8], exemplars: u32) {
        self.attributes.clear();
        (self.start_ns, self.time_ns, self.flags) = (0, 0, 0);
        self.exemplars = Messages::of(message, exemplars);
    }
}

impl<'a> NumberPoint<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        let point = &mut self.point;
        point.clear(message, 5);
        self.value = None;
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                2 => point.start_ns = value.fixed64()?,
                3 => point.time_ns = value.fixed64()?,
                4 => self.value = Some(value.double()?),
                6 => self.value = Some(integer(value)?),
                7 => point.attributes.push(value)?,
                8 => point.flags = low(value.uint64()?),
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> HistogramPoint<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        let point = &mut self.point;
        point.clear(message, 8);
        (self.count, self.sum) = (0, None);
        self.bucket_counts.clear();
        self.explicit_bounds.clear();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                2 => point.start_ns = value.fixed64()?,
                3 => point.time_ns = value.fixed64()?,
                4 => self.count = value.fixed64()?,
                5 => self.sum = Some(value.double()?),
                6 => value.fixed64s(|count| self.bucket_counts.push(count))?,
                7 => value.doubles(|bound| self.explicit_bounds.push(bound))?,
                9 => point.attributes.push(value)?,
                10 => point.flags = low(value.uint64()?),
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> ExponentialPoint<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        let point = &mut self.point;
        point.clear(message, 11);
        (self.count, self.sum, self.scale) = (0, None, 0);
        (self.zero_count, self.zero_threshold) = (0, 0.0);
        let (mut positive, mut negative) = (None, None);
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => point.attributes.push(value)?,
                2 => point.start_ns = value.fixed64()?,
                3 => point.time_ns = value.fixed64()?,
                4 => self.count = value.fixed64()?,
                5 => self.sum = Some(value.double()?),
                6 => self.scale = sint32(value)?,
                7 => self.zero_count = value.fixed64()?,
                8 => once(&mut positive, value)?,
                9 => once(&mut negative, value)?,
                10 => point.flags = low(value.uint64()?),
                14 => self.zero_threshold = value.double()?,
                _ => {}
            }
        }
        self.positive.read(positive.unwrap_or_default())?;
        self.negative.read(negative.unwrap_or_default())
    }
}

impl Side {
    fn read(&mut self, message: &[u8]) -> Result<(), WireError> {
        (self.offset, self.count) = (0, 0);
        self.counts.clear();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => self.offset = sint32(value)?,
                2 => value.varints(|count| {
                    self.count += 1;
                    if self.count <= SIDE_BUCKETS_MAX {
                        self.counts.push(count);
                    }
                })?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> SummaryPoint<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`WireError`] when it is none.
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        let point = &mut self.point;
        // Summaries have none; the number stands for no field.
        point.clear(message, 0);
        (self.count, self.sum) = (0, 0.0);
        self.quantiles = Messages::of(message, 6);
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                2 => point.start_ns = value.fixed64()?,
                3 => point.time_ns = value.fixed64()?,
                4 => self.count = value.fixed64()?,
                5 => self.sum = value.double()?,
                7 => point.attributes.push(value)?,
                8 => point.flags = low(value.uint64()?),
                _ => {}
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
    pub fn read(message: &'a [u8]) -> Result<Self, WireError> {
        let mut read = Self::default();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                2 => read.time_ns = value.fixed64()?,
                3 => read.value = Some(value.double()?),
                4 => read.span_id = value.bytes()?,
                5 => read.trace_id = value.bytes()?,
                6 => read.value = Some(integer(value)?),
                7 => read.attributes.push(value)?,
                _ => {}
            }
        }
        Ok(read)
    }
}

/// A quantile of a summary and its value.
///
/// # Errors
/// [`WireError`] when the message is none.
pub fn quantile(message: &[u8]) -> Result<(f64, f64), WireError> {
    let mut pair = (0.0, 0.0);
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next_field()? {
        match number {
            1 => pair.0 = value.double()?,
            2 => pair.1 = value.double()?,
            _ => {}
        }
    }
    Ok(pair)
}

fn once<'a>(place: &mut Option<&'a [u8]>, value: Value<'a>) -> Result<(), WireError> {
    match place.replace(value.bytes()?) {
        None => Ok(()),
        Some(_) => Err(WireError::Repeated),
    }
}

/// An sfixed64 as the double next to it.
fn integer(value: Value<'_>) -> Result<f64, WireError> {
    Ok(value.fixed64()?.cast_signed() as f64)
}

/// What a field of 32 bits keeps of a number that is longer.
fn low(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}

fn sint32(value: Value<'_>) -> Result<i32, WireError> {
    let number = low(value.uint64()?);
    Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

#[cfg(test)]
mod tests;
