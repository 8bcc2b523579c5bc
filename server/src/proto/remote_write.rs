//! Prometheus remote write 1.0: `WriteRequest`, read series by series without copying.
//! `ingest::remote_write` calls it.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::wire::{Fields, WireError};

/// The series of a request, one after the other. Metadata is passed over.
#[derive(Debug, Clone)]
pub struct WriteRequest<'a>(Fields<'a>);

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
    /// Pairs of timestamp (milliseconds) and value.
    pub samples: Vec<(i64, f64)>,
    /// How many exemplars came with the series.
    pub exemplars: usize,
    /// How many native histograms came with the series.
    pub histograms: usize,
}

impl<'a> WriteRequest<'a> {
    /// The request in `message`.
    pub fn of(message: &'a [u8]) -> Self {
        Self(Fields::of(message))
    }

    /// Reads the next series into `series`, all but its labels; false after the last one.
    ///
    /// # Errors
    /// [`WireError`] when the rest is not a write request.
    pub fn next_series(&mut self, series: &mut TimeSeries<'a>) -> Result<bool, WireError> {
        while let Some((number, value)) = self.0.next_field()? {
            if number == 1 {
                series.read(value.bytes()?)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl<'a> TimeSeries<'a> {
    fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        self.labels.clear();
        self.samples.clear();
        (self.exemplars, self.histograms) = (0, 0);
        let rest = after_labels(message);
        self.labels_first = true;
        let length = message.len() - rest.len();
        self.wire_labels = message.get(..length).unwrap_or_default();
        let mut fields = Fields::of(rest);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => (self.wire_labels, self.labels_first) = (message, false),
                2 => self.samples.push(sample(value.bytes()?)?),
                3 => self.exemplars += 1,
                4 => self.histograms += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads the labels.
    ///
    /// # Errors
    /// [`WireError`] when they are no labels.
    pub fn read_labels(&mut self) -> Result<(), WireError> {
        self.labels.clear();
        let mut fields = Fields::of(self.wire_labels);
        while let Some((number, value)) = fields.next_field()? {
            if number == 1 {
                self.labels.push(label(value.bytes()?)?);
            }
        }
        Ok(())
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
        && let [a, b, c, d, e, last @ 0..128] = timestamp
        && a & b & c & d & e & 0x80 != 0
    {
        let mut number = u64::from(*last);
        for byte in [e, d, c, b, a] {
            number = number << 7 | u64::from(byte & 0x7f);
        }
        return Ok((number.cast_signed(), f64::from_le_bytes(*bits)));
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

/// The same messages as a schema: what the hand-written reader is compared with, and what tests
/// write requests with.
#[cfg(test)]
pub(crate) mod schema {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(crate) timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(crate) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(crate) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(crate) exemplars: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(crate) histograms: Vec<Sample>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Label {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Sample {
        #[prost(double, tag = "1")]
        pub(crate) value: f64,
        #[prost(int64, tag = "2")]
        pub(crate) timestamp: i64,
    }

    /// A series with its samples, all in one expression.
    pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
        TimeSeries {
            labels: labels
                .iter()
                .map(|(name, value)| Label {
                    name: (*name).into(),
                    value: (*value).into(),
                })
                .collect(),
            samples: samples
                .iter()
                .map(|&(timestamp, value)| Sample { value, timestamp })
                .collect(),
            ..TimeSeries::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{TimeSeries, WriteRequest, schema};

    #[test]
    fn the_reader_agrees_with_the_schema() {
        let mut third = schema::series(&[("a", "")], &[]);
        third.exemplars = vec![schema::Sample::default(); 2];
        third.histograms = vec![schema::Sample::default(); 3];
        let request = schema::WriteRequest {
            timeseries: vec![
                schema::series(
                    &[("__name__", "up"), ("job", "é")],
                    &[(1, 0.0), (-5, f64::NEG_INFINITY), (i64::MAX, -0.0)],
                ),
                schema::series(
                    &[("a", "b"), ("long", &"x".repeat(200)), ("z", "")],
                    &[
                        (1_700_000_000_123, 2.5),
                        ((1 << 42) - 1, 1.0),
                        (1 << 42, 3.0),
                    ],
                ),
                schema::series(&[], &[]),
                third,
            ],
        };
        let bytes = request.encode_to_vec();
        let mut reader = WriteRequest::of(&bytes);
        let mut got = TimeSeries::default();
        for expect in &request.timeseries {
            assert!(reader.next_series(&mut got).unwrap());
            assert!(got.labels.is_empty());
            got.read_labels().unwrap();
            let labels: Vec<_> = expect
                .labels
                .iter()
                .map(|l| (l.name.as_bytes(), l.value.as_bytes()))
                .collect();
            assert_eq!(got.labels, labels);
            let samples: Vec<_> = expect
                .samples
                .iter()
                .map(|s| (s.timestamp, s.value))
                .collect();
            assert_eq!(got.samples, samples);
            assert_eq!(got.exemplars, expect.exemplars.len());
            assert_eq!(got.histograms, expect.histograms.len());
        }
        assert!(!reader.next_series(&mut got).unwrap());
        for cut in 1..bytes.len() {
            let mut reader = WriteRequest::of(&bytes[..cut]);
            while let Ok(true) = reader.next_series(&mut got) {
                got.read_labels().ok();
            }
        }
    }

    #[test]
    fn labels_that_do_not_come_first_are_read_all_the_same() {
        let label = [0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'b'];
        let sample = [0x12, 2, 0x10, 7];
        let check = |series: &[u8], first: bool, labels: usize| {
            let length = u8::try_from(series.len()).unwrap();
            let message = [&[0x0a, length][..], series].concat();
            let mut got = TimeSeries::default();
            assert!(WriteRequest::of(&message).next_series(&mut got).unwrap());
            got.read_labels().unwrap();
            assert_eq!((got.labels_first, got.labels.len()), (first, labels));
            assert!(got.labels.iter().all(|label| *label == (b"a", b"b")));
            assert_eq!(got.samples, [(7, 0.0)]);
        };
        check(&[&label[..], &label, &sample].concat(), true, 2);
        check(&[&sample[..], &label].concat(), false, 1);
        check(&[&label[..], &sample, &label].concat(), false, 2);
        check(&sample, true, 0);
    }

    #[test]
    fn a_stale_marker_keeps_its_bits() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let request = schema::WriteRequest {
            timeseries: vec![schema::series(&[("a", "b")], &[(1, stale)])],
        };
        let bytes = request.encode_to_vec();
        let mut got = TimeSeries::default();
        assert!(WriteRequest::of(&bytes).next_series(&mut got).unwrap());
        assert_eq!(got.samples[0].1.to_bits(), stale.to_bits());
    }
}
