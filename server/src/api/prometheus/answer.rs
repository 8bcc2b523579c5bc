//! What Prometheus' API answers: the envelope around data or an error, and the values of queries.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use trine_query::budget::BudgetError;
use trine_query::promql::{QueryError, QueryResult, SampleValue, Samples, Value, Values};
use trine_query::vector::Histogram;
use trine_query::vector::histogram::Bucket;
use trine_storage::Error;

use super::json::{self, Object};
use crate::refusal::{RETRY_AFTER, Reason, Refusal};

/// The warning beside an answer that `limit` cut.
pub(super) const TRUNCATED: &str = "results truncated due to limit";

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    kind: FailureKind,
    text: String,
}

/// The kinds of failures that clients tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureKind {
    BadData,
    Execution,
    Canceled,
    Timeout,
    Unavailable,
    TooLarge,
    NotFound,
    Internal,
}

impl FailureKind {
    /// The word for it and the status code. Grafana reads the text of 400, 422 and 503 only, so a
    /// query that stopped and a server that is busy are 503.
    fn in_words(self) -> (&'static str, StatusCode) {
        match self {
            Self::BadData => ("bad_data", StatusCode::BAD_REQUEST),
            Self::Execution => ("execution", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Canceled => ("canceled", StatusCode::SERVICE_UNAVAILABLE),
            Self::Timeout => ("timeout", StatusCode::SERVICE_UNAVAILABLE),
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::TooLarge => ("bad_data", StatusCode::PAYLOAD_TOO_LARGE),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl Failure {
    /// The request makes no sense.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::BadData,
            text: text.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.reason {
            Reason::Bad | Reason::UnsupportedMedia => FailureKind::BadData,
            Reason::TooLarge => FailureKind::TooLarge,
            Reason::NotFound => FailureKind::NotFound,
            Reason::Execution => FailureKind::Execution,
            Reason::Timeout => FailureKind::Timeout,
            Reason::Busy | Reason::Unavailable => FailureKind::Unavailable,
            Reason::Internal => FailureKind::Internal,
        };
        Self {
            kind,
            text: refusal.text,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let kind = match &error {
            QueryError::Invalid(_) => FailureKind::BadData,
            QueryError::Budget(BudgetError::TimedOut) => FailureKind::Timeout,
            QueryError::Budget(BudgetError::Canceled) => FailureKind::Canceled,
            _ => FailureKind::Execution,
        };
        Self {
            kind,
            text: error.to_string(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (word, status) = self.kind.in_words();
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        object.text("status", "error");
        object.text("errorType", word);
        json::html_safe_string(object.key("error"), &self.text);
        object.end();
        let mut response = (status, respond(out)).into_response();
        if self.kind == FailureKind::Unavailable {
            let seconds = HeaderValue::from(RETRY_AFTER.as_secs());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// A JSON text as a response.
pub(super) fn respond(text: String) -> Response {
    let kind = (
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    ([kind], Body::from(text)).into_response()
}

/// Data in its envelope; `write` writes the data.
pub(super) fn success(
    warnings: &[String],
    infos: &[String],
    write: impl FnOnce(&mut String),
) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    object.text("status", "success");
    write(object.key("data"));
    for (name, texts) in [("warnings", warnings), ("infos", infos)] {
        if !texts.is_empty() {
            let list = object.key(name);
            json::array(list, texts, |out, text| json::html_safe_string(out, text));
        }
    }
    object.end();
    out
}

/// Sorted names, at most `limit` of them, in the envelope.
pub(super) fn names(mut names: Vec<String>, limit: Option<usize>) -> String {
    let warnings = truncate(&mut names, limit);
    success(&warnings, &[], |out| json::strings(out, &names))
}

/// Cuts a list to `limit` and gives the warning if that lost something.
pub(super) fn truncate<T>(list: &mut Vec<T>, limit: Option<usize>) -> Vec<String> {
    match limit {
        Some(limit) if list.len() > limit => {
            list.truncate(limit);
            vec![TRUNCATED.to_owned()]
        }
        _ => Vec::new(),
    }
}

/// The result of a query in the envelope, at most `limit` series of it.
pub(super) fn query_result(mut result: QueryResult, limit: Option<usize>) -> String {
    let mut warnings = match &mut result.value {
        Value::Vector(vector) => truncate(vector, limit),
        Value::Matrix(matrix) => truncate(matrix, limit),
        Value::Scalar { .. } | Value::String { .. } => Vec::new(),
    };
    warnings.append(&mut result.warnings);
    success(&warnings, &result.infos, |out| value(out, &result.value))
}

fn value(out: &mut String, value: &Value) {
    let mut object = Object::begin(out);
    let kind = match value {
        Value::Scalar { .. } => "scalar",
        Value::String { .. } => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    object.text("resultType", kind);
    let out = object.key("result");
    match value {
        Value::Scalar { time_ms, value } => point(out, *time_ms, *value),
        Value::String { time_ms, value } => {
            out.push('[');
            json::seconds(out, *time_ms);
            out.push(',');
            json::string(out, value);
            out.push(']');
        }
        Value::Vector(vector) => json::array(out, vector, |out, sample| {
            let mut object = Object::begin(out);
            json::labels(object.key("metric"), &sample.labels);
            match &sample.value {
                SampleValue::Float(value) => point(object.key("value"), sample.time_ms, *value),
                SampleValue::Histogram(histogram) => {
                    histogram_point(object.key("histogram"), sample.time_ms, histogram);
                }
            }
            object.end();
        }),
        Value::Matrix(matrix) => json::array(out, matrix, |out, series| {
            let mut object = Object::begin(out);
            json::labels(object.key("metric"), &series.labels);
            points(&mut object, &series.samples);
            object.end();
        }),
    }
    object.end();
}

/// Floats and histograms stand in lists of their own, each only where there are some.
fn points(object: &mut Object<'_>, samples: &Samples) {
    let times = samples.timestamps.iter().copied();
    let (floats, histograms) = match &samples.values {
        Values::Floats(values) => {
            let samples = times.zip(values);
            json::array(object.key("values"), samples, |out, (time_ms, value)| {
                point(out, time_ms, *value);
            });
            return;
        }
        Values::Histograms(values) => (Vec::new(), times.zip(values).collect()),
        Values::Mixed(values) => {
            let (mut floats, mut histograms) = (Vec::new(), Vec::new());
            for (time_ms, value) in times.zip(values) {
                match value {
                    SampleValue::Float(value) => floats.push((time_ms, *value)),
                    SampleValue::Histogram(value) => histograms.push((time_ms, value)),
                }
            }
            (floats, histograms)
        }
    };
    if !floats.is_empty() {
        json::array(object.key("values"), floats, |out, (time_ms, value)| {
            point(out, time_ms, value);
        });
    }
    if !histograms.is_empty() {
        let list = object.key("histograms");
        json::array(list, histograms, |out, (time_ms, histogram): (i64, _)| {
            histogram_point(out, time_ms, histogram);
        });
    }
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
        (false, true) => 0,
        (true, false) => 1,
        (false, false) => 2,
        (true, true) => 3,
    };
    out.push('[');
    json::display(out, rule);
    for number in [bucket.lower, bucket.upper, bucket.count] {
        out.push(',');
        json::sample_value(out, number);
    }
    out.push(']');
}

fn point(out: &mut String, time_ms: i64, value: f64) {
    out.push('[');
    json::seconds(out, time_ms);
    out.push(',');
    json::sample_value(out, value);
    out.push(']');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use trine_query::budget::Cost;

    use trine_query::promql::{Series, VectorSample};
    use trine_query::vector::histogram::{Buckets, CUSTOM_SCHEMA};
    use trine_storage::{Kind, Labels};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn check(value: Value, limit: Option<usize>, expect: &str) {
        let (warnings, infos) = (Vec::new(), Vec::new());
        let result = QueryResult {
            value,
            warnings,
            infos,
            cost: Cost::default(),
        };
        assert_eq!(query_result(result, limit), expect);
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
            Value::String {
                time_ms: 1500,
                value: "a\"<b".to_owned(),
            },
            None,
            r#"{"status":"success","data":{"resultType":"string","result":[1.500,"a\"<b"]}}"#,
        );
        check(
            Value::Vector(Vec::new()),
            None,
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
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
            SampleValue::Histogram(histogram),
            SampleValue::Float(7.0),
            SampleValue::Histogram(custom),
            SampleValue::Histogram(Arc::default()),
        ]);
        check(
            Value::Matrix(vec![Series {
                labels: labels(&[]),
                samples: Samples::new(vec![1000, 2000, 3000, 4000], mixed),
            }]),
            None,
            &format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[[2,"7"]],"histograms":[[1,{exponential}],[3,{with_bounds}],[4,{{"count":"0","sum":"0"}}]]}}]}}}}"#
            ),
        );
    }

    #[test]
    fn warnings_and_infos_stand_beside_the_data() {
        let text = success(&["w".to_owned()], &["i<".to_owned()], |out| {
            out.push_str("[]");
        });
        let expect = r#"{"status":"success","data":[],"warnings":["w"],"infos":["i\u003c"]}"#;
        assert_eq!(text, expect);
        assert_eq!(
            names(Vec::new(), Some(1)),
            r#"{"status":"success","data":[]}"#
        );
    }

    #[tokio::test]
    async fn failures() {
        let refusal = |reason| Failure::from(Refusal::new(reason, "why"));
        for (failure, status, word) in [
            (Failure::bad("why"), 400, "bad_data"),
            (
                QueryError::Invalid("why".to_owned()).into(),
                400,
                "bad_data",
            ),
            (
                QueryError::Execution("why".to_owned()).into(),
                422,
                "execution",
            ),
            (
                QueryError::Budget(BudgetError::Samples).into(),
                422,
                "execution",
            ),
            (
                QueryError::Budget(BudgetError::TimedOut).into(),
                503,
                "timeout",
            ),
            (
                QueryError::Budget(BudgetError::Canceled).into(),
                503,
                "canceled",
            ),
            (Error::new(Kind::Io, "why").into(), 503, "unavailable"),
            (refusal(Reason::Busy), 503, "unavailable"),
            (refusal(Reason::TooLarge), 413, "bad_data"),
            (refusal(Reason::Internal), 500, "internal"),
        ] {
            let text = failure.to_string();
            let response = failure.into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["content-type"], "application/json");
            let body = axum::body::to_bytes(response.into_body(), 4096)
                .await
                .unwrap();
            let expect = format!(r#"{{"status":"error","errorType":"{word}","error":"{text}"}}"#);
            assert_eq!(std::str::from_utf8(&body).unwrap(), expect);
        }
    }
}
