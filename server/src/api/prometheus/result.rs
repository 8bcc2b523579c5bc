//! Results of queries as Prometheus writes them, piece by piece: a range query over many series is
//! tens of megabytes of numbers. The handlers in `prometheus` call it.

use trine_query::promql::{QueryResult, SampleValue, Samples, Series, Value, Values, VectorSample};
use trine_query::vector::Histogram;
use trine_query::vector::histogram::Bucket;

use super::answer;
use super::json::{self, Object};
use super::pieces::{List, PIECE_BYTES, Produce, Reply};

/// Where the time of a query went, nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timings {
    /// Until its turn came.
    pub(super) queue_ns: u64,
    /// Reading its text.
    pub(super) preparation_ns: u64,
    /// Its evaluation.
    pub(super) evaluation_ns: u64,
}

/// The answer to a query: at most `limit` series of `result`; with `timings` also what it took.
pub(super) fn reply(
    mut result: QueryResult,
    limit: Option<usize>,
    timings: Option<Timings>,
) -> Reply {
    let mut warnings = match &mut result.value {
        Value::Vector(vector) => answer::truncate(vector, limit),
        Value::Matrix(matrix) => answer::truncate(matrix, limit),
        Value::Scalar { .. } | Value::String { .. } => Vec::new(),
    };
    warnings.append(&mut result.warnings);
    let kind = match &result.value {
        Value::Scalar { .. } => "scalar",
        Value::String { .. } => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    let head = format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":["#);
    let mut tail = String::from("]");
    if let Some(timings) = &timings {
        stats(&mut tail, timings, &result);
    }
    tail.push('}');
    answer::annotations(&mut tail, &warnings, &result.infos);
    tail.push('}');
    match result.value {
        // These two are written by the library of Go rather than by Prometheus: no exponents, no
        // zeros at the end of the time, no HTML.
        Value::Scalar { time_ms, value } => {
            let mut out = head;
            json::float(&mut out, time_ms as f64 / 1000.0);
            out.push_str(",\"");
            json::float(&mut out, value);
            out.push('"');
            Reply::from(out + &tail)
        }
        Value::String { time_ms, value } => {
            let mut out = head;
            json::float(&mut out, time_ms as f64 / 1000.0);
            out.push(',');
            json::html_safe_string(&mut out, &value);
            Reply::from(out + &tail)
        }
        Value::Vector(vector) => Reply::of(List::new(head, vector, sample, tail)),
        Value::Matrix(matrix) => Reply::of(Matrix {
            head,
            series: matrix.into_iter(),
            open: None,
            is_first: true,
            tail,
        }),
    }
}

fn sample(out: &mut String, sample: VectorSample) {
    out.push_str(r#"{"metric":"#);
    json::labels(out, &sample.labels);
    match sample.value {
        SampleValue::Float(value) => {
            out.push_str(r#","value":"#);
            point(out, sample.time_ms, value);
        }
        SampleValue::Histogram(histogram) => {
            out.push_str(r#","histogram":"#);
            histogram_point(out, sample.time_ms, &histogram);
        }
    }
    out.push('}');
}

fn point(out: &mut String, time_ms: i64, value: f64) {
    out.push('[');
    json::seconds(out, time_ms);
    out.push(',');
    json::sample_value(out, value);
    out.push(']');
}

fn histogram_point(out: &mut String, time_ms: i64, histogram: &Histogram) {
    out.push('[');
    json::seconds(out, time_ms);
    out.push(',');
    let mut object = Object::begin(out);
    json::sample_value(object.key("count"), histogram.count);
    json::sample_value(object.key("sum"), histogram.sum);
    let mut filled = histogram.buckets().filter(|b| b.count != 0.0).peekable();
    if filled.peek().is_some() {
        json::array(object.key("buckets"), filled, bucket);
    }
    object.end();
    out.push(']');
}

/// A bucket with its bounds and a number that says which of them are inside.
fn bucket(out: &mut String, bucket: Bucket) {
    let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
        (false, true) => "[0,",
        (true, false) => "[1,",
        (false, false) => "[2,",
        (true, true) => "[3,",
    };
    out.push_str(rule);
    json::sample_value(out, bucket.lower);
    out.push(',');
    json::sample_value(out, bucket.upper);
    out.push(',');
    json::sample_value(out, bucket.count);
    out.push(']');
}

/// Series with many samples.
struct Matrix {
    head: String,
    series: std::vec::IntoIter<Series>,
    /// The series that is being written.
    open: Option<Open>,
    is_first: bool,
    tail: String,
}

/// A series of which something is written. Floats and histograms stand in lists of their own, each
/// only where there are some.
struct Open {
    samples: Samples,
    /// Which list is being written, and whether something is in it already.
    list: Kind,
    has_items: bool,
    /// The row that is looked at next.
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Floats,
    Histograms,
}

impl Produce for Matrix {
    fn produce(&mut self, out: &mut String) -> bool {
        out.push_str(&std::mem::take(&mut self.head));
        while out.len() < PIECE_BYTES {
            if let Some(open) = &mut self.open {
                if open.write(out) {
                    out.push('}');
                    self.open = None;
                }
                continue;
            }
            let Some(series) = self.series.next() else {
                out.push_str(&self.tail);
                return false;
            };
            if !std::mem::replace(&mut self.is_first, false) {
                out.push(',');
            }
            out.push_str(r#"{"metric":"#);
            json::labels(out, &series.labels);
            self.open = Some(Open {
                samples: series.samples,
                list: Kind::Floats,
                has_items: false,
                at: 0,
            });
        }
        true
    }
}

impl Open {
    /// Writes until a piece is full. Gives whether both lists are written.
    fn write(&mut self, out: &mut String) -> bool {
        if self.list == Kind::Floats {
            if !self.floats(out) {
                return false;
            }
            self.close(out);
            (self.list, self.at) = (Kind::Histograms, 0);
        }
        if !self.histograms(out) {
            return false;
        }
        self.close(out);
        true
    }

    fn close(&mut self, out: &mut String) {
        if std::mem::replace(&mut self.has_items, false) {
            out.push(']');
        }
    }

    /// Writes what comes before the next item of the list.
    fn before_item(has_items: &mut bool, out: &mut String, begin: &str) {
        if std::mem::replace(has_items, true) {
            out.push(',');
        } else {
            out.push_str(begin);
        }
    }

    fn floats(&mut self, out: &mut String) -> bool {
        let mut write = |out: &mut String, time_ms: i64, value: f64| {
            Self::before_item(&mut self.has_items, out, r#","values":["#);
            point(out, time_ms, value);
        };
        let times = self.samples.timestamps.iter().skip(self.at);
        match &self.samples.values {
            Values::Floats(values) => {
                for (time_ms, value) in times.zip(values.iter().skip(self.at)) {
                    if out.len() >= PIECE_BYTES {
                        return false;
                    }
                    write(out, *time_ms, *value);
                    self.at += 1;
                }
            }
            Values::Histograms(_) => {}
            Values::Mixed(values) => {
                for (time_ms, value) in times.zip(values.iter().skip(self.at)) {
                    if out.len() >= PIECE_BYTES {
                        return false;
                    }
                    if let SampleValue::Float(value) = value {
                        write(out, *time_ms, *value);
                    }
                    self.at += 1;
                }
            }
        }
        true
    }

    fn histograms(&mut self, out: &mut String) -> bool {
        if matches!(self.samples.values, Values::Floats(_)) {
            return true;
        }
        while let Some(time_ms) = self.samples.timestamps.get(self.at) {
            if out.len() >= PIECE_BYTES {
                return false;
            }
            if let Some(SampleValue::Histogram(histogram)) = self.samples.values.get(self.at) {
                Self::before_item(&mut self.has_items, out, r#","histograms":["#);
                histogram_point(out, *time_ms, &histogram);
            }
            self.at += 1;
        }
        true
    }
}

/// What the query took. Samples by step are not counted, as in a Prometheus that was not told to.
fn stats(out: &mut String, timings: &Timings, result: &QueryResult) {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let evaluation = timings.preparation_ns + timings.evaluation_ns;
    out.push_str(r#","stats":"#);
    let mut object = Object::begin(out);
    let mut times = Object::begin(object.key("timings"));
    times.raw("evalTotalTime", seconds(evaluation));
    times.raw("resultSortTime", 0);
    times.raw("queryPreparationTime", seconds(timings.preparation_ns));
    times.raw("innerEvalTime", seconds(timings.evaluation_ns));
    times.raw("execQueueTime", seconds(timings.queue_ns));
    times.raw("execTotalTime", seconds(timings.queue_ns + evaluation));
    times.end();
    let mut samples = Object::begin(object.key("samples"));
    samples.raw("totalQueryableSamples", result.cost.samples_read);
    samples.raw("samplesRead", result.cost.samples_read);
    samples.raw("peakSamples", result.cost.samples_peak);
    samples.end();
    object.end();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trine_query::budget::Cost;
    use trine_query::vector::histogram::{Buckets, CUSTOM_SCHEMA};
    use trine_storage::Labels;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn result(value: Value) -> QueryResult {
        let (warnings, infos) = (Vec::new(), Vec::new());
        QueryResult {
            value,
            warnings,
            infos,
            cost: Cost::default(),
        }
    }

    fn check(value: Value, limit: Option<usize>, expect: &str) {
        assert_eq!(reply(result(value), limit, None).into_text(), expect);
    }

    #[test]
    fn values() {
        check(
            Value::Scalar {
                time_ms: 4000,
                value: 2.0,
            },
            None,
            r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#,
        );
        check(
            Value::Scalar {
                time_ms: 4120,
                value: 1e30,
            },
            None,
            r#"{"status":"success","data":{"resultType":"scalar","result":[4.12,"1000000000000000000000000000000"]}}"#,
        );
        check(
            Value::String {
                time_ms: 1500,
                value: "a\"<b".to_owned(),
            },
            None,
            r#"{"status":"success","data":{"resultType":"string","result":[1.5,"a\"\u003cb"]}}"#,
        );
        check(
            Value::Vector(Vec::new()),
            None,
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
        );
        check(
            Value::Matrix(Vec::new()),
            None,
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
        );
        let sample = |name, value| VectorSample {
            labels: labels(&[("a", name)]),
            time_ms: 1,
            value: SampleValue::Float(value),
        };
        check(
            Value::Vector(vec![sample("1", f64::NAN), sample("2", f64::INFINITY)]),
            None,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[0.001,"NaN"]},{"metric":{"a":"2"},"value":[0.001,"+Inf"]}]}}"#,
        );
        check(
            Value::Vector(vec![sample("1", 1.0), sample("2", 2.0)]),
            Some(1),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[0.001,"1"]}]},"warnings":["results truncated due to limit"]}"#,
        );
        let values = Values::Floats(vec![1e-7, -0.0]);
        let samples = Samples::new(vec![1000, 1001], values);
        check(
            Value::Matrix(vec![Series {
                labels: labels(&[]),
                samples,
            }]),
            Some(1),
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1e-07"],[1.001,"-0"]]}]}}"#,
        );
    }

    #[test]
    fn histograms() {
        let histogram = Arc::new(Histogram {
            zero_threshold: 0.5,
            zero_count: 2.0,
            count: 10.0,
            sum: -3.5,
            positive: Buckets::dense(0, vec![1.0, 0.0, 3.0]),
            negative: Buckets::dense(1, vec![4.0]),
            ..Histogram::default()
        });
        let custom = Arc::new(Histogram {
            schema: CUSTOM_SCHEMA,
            count: 3.0,
            sum: 1.0,
            positive: Buckets::dense(0, vec![1.0, 2.0]),
            custom_values: vec![5.0].into(),
            ..Histogram::default()
        });
        let exponential = r#"{"count":"10","sum":"-3.5","buckets":[[1,"-2","-1","4"],[3,"-0.5","0.5","2"],[0,"0.5","1","1"],[0,"2","4","3"]]}"#;
        let with_bounds =
            r#"{"count":"3","sum":"1","buckets":[[3,"-Inf","5","1"],[0,"5","+Inf","2"]]}"#;
        check(
            Value::Vector(vec![VectorSample {
                labels: labels(&[]),
                time_ms: 1000,
                value: SampleValue::Histogram(Arc::clone(&histogram)),
            }]),
            None,
            &format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"histogram":[1,{exponential}]}}]}}}}"#
            ),
        );
        let mixed = Values::Mixed(vec![
            SampleValue::Histogram(Arc::clone(&histogram)),
            SampleValue::Float(7.0),
            SampleValue::Histogram(Arc::clone(&custom)),
            SampleValue::Histogram(Arc::default()),
        ]);
        let only = Values::Histograms(vec![custom]);
        let series = |times: Vec<i64>, values| Series {
            labels: labels(&[]),
            samples: Samples::new(times, values),
        };
        check(
            Value::Matrix(vec![
                series(vec![1000, 2000, 3000, 4000], mixed),
                series(vec![5000], only),
            ]),
            None,
            &format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[[2,"7"]],"histograms":[[1,{exponential}],[3,{with_bounds}],[4,{{"count":"0","sum":"0"}}]]}},{{"metric":{{}},"histograms":[[5,{with_bounds}]]}}]}}}}"#
            ),
        );
    }

    #[test]
    fn a_series_is_cut_where_a_piece_is_full() {
        let series = |job: &str, count: i64| Series {
            labels: labels(&[("job", job)]),
            samples: Samples::new(
                (0..count).map(|at| at * 1000).collect(),
                Values::Floats(vec![0.5; count as usize]),
            ),
        };
        let points = |count: i64| {
            let points: Vec<String> = (0..count).map(|at| format!("[{at},\"0.5\"]")).collect();
            points.join(",")
        };
        for counts in [[10_000, 3], [3, 10_000], [1, 1]] {
            let [a, b] = counts;
            let matrix = Value::Matrix(vec![series("a", a), series("b", b)]);
            let expect = format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"job":"a"}},"values":[{}]}},{{"metric":{{"job":"b"}},"values":[{}]}}]}}}}"#,
                points(a),
                points(b)
            );
            let reply = reply(result(matrix), None, None);
            let in_pieces =
                matches!(&reply, Reply::Pieces(first, _) if first.len() < PIECE_BYTES + 64);
            assert_eq!(in_pieces, a + b > 10_000);
            assert_eq!(reply.into_text(), expect);
        }
    }

    #[test]
    fn stats_are_told_when_asked_for() {
        let timings = Timings {
            queue_ns: 1_000_000,
            preparation_ns: 2_000_000,
            evaluation_ns: 3_000_000_000,
        };
        let mut of = result(Value::Vector(Vec::new()));
        of.cost.samples_read = 7;
        of.cost.samples_peak = 5;
        of.infos = vec!["i".to_owned()];
        let expect = r#"{"status":"success","data":{"resultType":"vector","result":[],"stats":{"timings":{"evalTotalTime":3.002,"resultSortTime":0,"queryPreparationTime":0.002,"innerEvalTime":3,"execQueueTime":0.001,"execTotalTime":3.003},"samples":{"totalQueryableSamples":7,"samplesRead":7,"peakSamples":5}}},"infos":["i"]}"#;
        assert_eq!(reply(of, None, Some(timings)).into_text(), expect);
    }
}
