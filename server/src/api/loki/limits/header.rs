//! Limits that a request brings itself, in its headers; `limits` calls it. They make those of its
//! tenants tighter, never wider, and what cannot be read is no limit, as with Loki.

use std::time::Duration;

use axum::http::HeaderMap;
use serde::Deserialize;
use trine_query::logql;
use trine_query::logql::ast::Expr;
use trine_query::text::parse_prometheus_duration;

use super::QueryLimits;

/// A header with limits as JSON.
const LIMITS_HEADER: &str = "x-loki-query-limits";

/// A header with the query, as JSON, of which the request asks for a part.
const CONTEXT_HEADER: &str = "x-loki-query-limits-context";

/// The limits of one request. What is absent or zero is none.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Own {
    max_query_length: Time,
    max_query_interval: Time,
    max_query_lookback: Time,
    max_entries_limit_per_query: usize,
    max_query_time: Time,
    required_labels: Vec<String>,
    minimum_labels_number: usize,
    max_query_bytes_read: Size,
}

/// Nanoseconds, as `1h30m`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Time(i64);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let ms = parse_prometheus_duration(&text).map_err(|error| error.to_string())?;
        Ok(Self(ms.max(0).saturating_mul(1_000_000)))
    }
}

/// Bytes, as `5GB`, of units that are powers of 1024.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Size(u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size");
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let shift = match unit.trim().to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" => 10,
            "M" | "MB" => 20,
            "G" | "GB" => 30,
            "T" | "TB" => 40,
            "P" | "PB" => 50,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let bytes = number.checked_mul(1 << shift);
        bytes.map(Self).ok_or_else(wrong)
    }
}

impl Own {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        serde_json::from_slice(headers.get(LIMITS_HEADER)?.as_bytes()).ok()
    }

    pub(super) fn limits(self) -> QueryLimits {
        let timeout = match u64::try_from(self.max_query_time.0) {
            Ok(ns) if ns > 0 => Duration::from_nanos(ns),
            _ => Duration::MAX,
        };
        QueryLimits {
            entries_max: self.max_entries_limit_per_query,
            series_max: usize::MAX,
            length_ns: self.max_query_length.0,
            interval_ns: self.max_query_interval.0,
            lookback_ns: self.max_query_lookback.0,
            bytes_max: self.max_query_bytes_read.0,
            required: self.required_labels.into_iter().collect(),
            required_count: self.minimum_labels_number,
            timeout,
        }
    }
}

/// The whole query of which a request asks for a part: whether it reads too much is asked of it all.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) expr: Expr,
    pub(super) start_ns: i64,
    pub(super) end_ns: i64,
}

#[derive(Deserialize)]
struct Written {
    expr: String,
    from: Instant,
    to: Instant,
}

/// RFC 3339, or milliseconds since 1970.
#[derive(Deserialize)]
#[serde(untagged)]
enum Instant {
    Text(String),
    Ms(i64),
}

impl Instant {
    fn ns(&self) -> Option<i64> {
        match self {
            Self::Text(text) => {
                let time: jiff::Timestamp = text.parse().ok()?;
                i64::try_from(time.as_nanosecond()).ok()
            }
            Self::Ms(ms) => ms.checked_mul(1_000_000),
        }
    }
}

impl Context {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let written = headers.get(CONTEXT_HEADER)?.as_bytes();
        let written: Written = serde_json::from_slice(written).ok()?;
        let (start_ns, end_ns) = (written.from.ns()?, written.to.ns()?);
        let expr = logql::parse(&written.expr).ok()?;
        (start_ns <= end_ns).then_some(Self {
            expr,
            start_ns,
            end_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str) -> Option<Own> {
        let mut headers = HeaderMap::new();
        headers.insert(LIMITS_HEADER, text.parse().unwrap());
        Own::of(&headers)
    }

    #[test]
    fn limits_as_clients_write_them() {
        let text = r#"{"maxQueryLength":"2d","maxQueryInterval":"1h30m","maxQueryLookback":"1w",
            "maxEntriesLimitPerQuery":7,"maxQueryTime":"5s","requiredLabels":["app"],
            "minimumLabelsNumber":2,"maxQueryBytesRead":"5GB","another":1}"#;
        let limits = own(&text.replace('\n', "")).unwrap().limits();
        assert_eq!(
            limits,
            QueryLimits {
                entries_max: 7,
                series_max: usize::MAX,
                length_ns: 172_800_000_000_000,
                interval_ns: 5_400_000_000_000,
                lookback_ns: 604_800_000_000_000,
                bytes_max: 5 << 30,
                required: ["app".to_owned()].into(),
                required_count: 2,
                timeout: Duration::from_secs(5),
            }
        );
        assert_eq!(own("{}").unwrap().limits().timeout, Duration::MAX);
        for text in ["", "{broken}", r#"{"maxQueryLength":"x"}"#] {
            assert_eq!(own(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("7b", 7),
            ("1KB", 1024),
            ("3 m", 3 << 20),
            ("2PB", 2 << 50),
        ] {
            assert_eq!(Size::try_from(text.to_owned()), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "x",
            "1XB",
            "-1",
            "99999999999999999999",
            "99999999999PB",
        ] {
            assert!(Size::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_whole_of_a_query() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTEXT_HEADER, text.parse().unwrap());
            Context::of(&headers)
                .map(|whole| (whole.expr.to_string(), whole.start_ns, whole.end_ns))
        };
        let expect = Some(("{a=\"b\"}".to_owned(), 1_000_000_000, 2_500_000_000));
        let text =
            r#"{"expr":"{a=\"b\"}","from":"1970-01-01T00:00:01Z","to":"1970-01-01T00:00:02.5Z"}"#;
        assert_eq!(of(text), expect);
        assert_eq!(of(r#"{"expr":"{a=\"b\"}","from":1000,"to":2500}"#), expect);
        for text in [
            "{broken}",
            r#"{"expr":"{a=\"b\"}"}"#,
            r#"{"expr":"{","from":1,"to":2}"#,
            r#"{"expr":"{a=\"b\"}","from":2,"to":1}"#,
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
