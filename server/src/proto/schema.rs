//! The messages of both versions of remote write as a schema: what tests write requests with, and
//! what the hand-written readers are compared with. Unit tests and `tests/it` include it.

pub(crate) mod v1 {
    //! `prometheus.WriteRequest`.
    use super::{Histogram, Sample};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(crate) timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub(crate) metadata: Vec<Metadata>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(crate) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(crate) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(crate) exemplars: Vec<Exemplar>,
        #[prost(message, repeated, tag = "4")]
        pub(crate) histograms: Vec<Histogram>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Label {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Exemplar {
        #[prost(message, repeated, tag = "1")]
        pub(crate) labels: Vec<Label>,
        #[prost(double, tag = "2")]
        pub(crate) value: f64,
        #[prost(int64, tag = "3")]
        pub(crate) timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(crate) kind: i32,
        #[prost(string, tag = "2")]
        pub(crate) family: String,
        #[prost(string, tag = "4")]
        pub(crate) help: String,
        #[prost(string, tag = "5")]
        pub(crate) unit: String,
    }

    /// Labels in the order in which they are given.
    pub(crate) fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
        let label = |(name, value): &(&str, &str)| Label {
            name: (*name).into(),
            value: (*value).into(),
        };
        pairs.iter().map(label).collect()
    }

    /// A series with its samples, all in one expression.
    pub(crate) fn series(pairs: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
        TimeSeries {
            labels: labels(pairs),
            samples: super::samples(samples),
            ..TimeSeries::default()
        }
    }

    /// A request of nothing but series.
    pub(crate) fn request(timeseries: Vec<TimeSeries>) -> WriteRequest {
        WriteRequest {
            timeseries,
            ..WriteRequest::default()
        }
    }
}

pub(crate) mod v2 {
    //! `io.prometheus.write.v2.Request`.
    use super::{Histogram, Sample};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Request {
        #[prost(string, repeated, tag = "4")]
        pub(crate) symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub(crate) timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TimeSeries {
        #[prost(uint32, repeated, tag = "1")]
        pub(crate) labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub(crate) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub(crate) histograms: Vec<Histogram>,
        #[prost(message, repeated, tag = "4")]
        pub(crate) exemplars: Vec<Exemplar>,
        #[prost(message, optional, tag = "5")]
        pub(crate) metadata: Option<Metadata>,
        #[prost(int64, tag = "6")]
        pub(crate) created_timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Exemplar {
        #[prost(uint32, repeated, tag = "1")]
        pub(crate) labels_refs: Vec<u32>,
        #[prost(double, tag = "2")]
        pub(crate) value: f64,
        #[prost(int64, tag = "3")]
        pub(crate) timestamp: i64,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Metadata {
        #[prost(int32, tag = "1")]
        pub(crate) kind: i32,
        #[prost(uint32, tag = "3")]
        pub(crate) help_ref: u32,
        #[prost(uint32, tag = "4")]
        pub(crate) unit_ref: u32,
    }

    impl Request {
        /// A request without series, with the symbol that comes first.
        pub(crate) fn begin() -> Self {
            Self {
                symbols: vec![String::new()],
                timeseries: Vec::new(),
            }
        }

        /// The reference of a symbol.
        pub(crate) fn symbol(&mut self, text: &str) -> u32 {
            let place = self.symbols.iter().position(|symbol| symbol == text);
            let place = place.unwrap_or_else(|| {
                self.symbols.push(text.into());
                self.symbols.len() - 1
            });
            u32::try_from(place).expect("few symbols")
        }

        /// The references of labels.
        pub(crate) fn refs(&mut self, pairs: &[(&str, &str)]) -> Vec<u32> {
            let texts = pairs.iter().flat_map(|(name, value)| [*name, *value]);
            texts.map(|text| self.symbol(text)).collect()
        }

        /// Adds a series with its samples; what else it has is put into what is given back.
        pub(crate) fn series(
            &mut self,
            pairs: &[(&str, &str)],
            samples: &[(i64, f64)],
        ) -> &mut TimeSeries {
            let series = TimeSeries {
                labels_refs: self.refs(pairs),
                samples: super::samples(samples),
                ..TimeSeries::default()
            };
            self.timeseries.push(series);
            self.timeseries.last_mut().expect("one was added")
        }
    }
}

/// A sample; only version 2 has start timestamps.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
    #[prost(int64, tag = "3")]
    pub(crate) start_timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Histogram {
    #[prost(oneof = "Count", tags = "1, 2")]
    pub(crate) count: Option<Count>,
    #[prost(double, tag = "3")]
    pub(crate) sum: f64,
    #[prost(sint32, tag = "4")]
    pub(crate) schema: i32,
    #[prost(double, tag = "5")]
    pub(crate) zero_threshold: f64,
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub(crate) zero_count: Option<ZeroCount>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub(crate) negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub(crate) negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub(crate) positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub(crate) positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub(crate) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(crate) timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub(crate) custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    pub(crate) start_timestamp: i64,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Count {
    #[prost(uint64, tag = "1")]
    Integer(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum ZeroCount {
    #[prost(uint64, tag = "6")]
    Integer(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Span {
    #[prost(sint32, tag = "1")]
    pub(crate) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) length: u32,
}

fn samples(samples: &[(i64, f64)]) -> Vec<Sample> {
    let sample = |&(timestamp, value): &(i64, f64)| Sample {
        value,
        timestamp,
        ..Sample::default()
    };
    samples.iter().map(sample).collect()
}

/// Three observations in (1, 2] and one in (4, 8], as integers.
pub(crate) fn histogram(timestamp: i64) -> Histogram {
    Histogram {
        count: Some(Count::Integer(4)),
        sum: 10.5,
        zero_threshold: 1e-128,
        zero_count: Some(ZeroCount::Integer(0)),
        positive_spans: vec![
            Span {
                offset: 1,
                length: 1,
            },
            Span {
                offset: 1,
                length: 1,
            },
        ],
        positive_deltas: vec![3, -2],
        timestamp,
        ..Histogram::default()
    }
}
