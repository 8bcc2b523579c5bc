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
    /// Pairs of name and value, in the order in which they were sent; not checked to be UTF-8.
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

    /// Reads the next series into `series`; false after the last one.
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
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => self.labels.push(label(value.bytes()?)?),
                2 => self.samples.push(sample(value.bytes()?)?),
                3 => self.exemplars += 1,
                4 => self.histograms += 1,
                _ => {}
            }
        }
        Ok(())
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
                schema::series(&[], &[]),
                third,
            ],
        };
        let bytes = request.encode_to_vec();
        let mut reader = WriteRequest::of(&bytes);
        let mut got = TimeSeries::default();
        for expect in &request.timeseries {
            assert!(reader.next_series(&mut got).unwrap());
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
            while let Ok(true) = reader.next_series(&mut got) {}
        }
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
