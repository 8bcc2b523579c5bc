//! Series descriptions, the notation in which test scripts write series:
//! `metric{label="value"} 1 2+3x4 _ stale {{schema:0 sum:5 count:4 buckets:[1 3]}}x2`.
//! Called by test runners.

use trine_storage::{Labels, MatchOp};

use super::{ParseOptions, Parsed, Parser};
use crate::promql::ast::{ExprKind, Sign};
use crate::promql::error::{Fault, SyntaxError};
use crate::text::{Span, parse_number};
use crate::vector::ABSENT;

/// The most values that one item may stand for.
const REPETITIONS_MAX: usize = 10_000_000;

/// A series with its values.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesDescription {
    /// Its labels, the metric's name among them.
    pub labels: Labels,
    /// Its values, one after the other.
    pub items: Vec<Sequence>,
}

/// Values that one item stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    /// The first value.
    pub first: SeriesValue,
    /// What each further value is more (or less) than the one before it.
    pub change: Option<(Sign, SeriesValue)>,
    /// How many values there are.
    pub count: usize,
}

/// A value in a series description.
#[derive(Debug, Clone, PartialEq)]
pub enum SeriesValue {
    /// `_`
    Missing,
    /// A number, or `stale`.
    Float(f64),
    /// `{{..}}`
    Histogram(Box<HistogramDescription>),
}

/// A native histogram as it is written; counts are absolute, one a bucket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HistogramDescription {
    /// `schema`
    pub schema: i32,
    /// `sum`
    pub sum: f64,
    /// `count`
    pub count: f64,
    /// `z_bucket`
    pub zero_count: f64,
    /// `z_bucket_w`
    pub zero_threshold: f64,
    /// `buckets`
    pub buckets: Vec<f64>,
    /// `offset`: the index of the first of `buckets`.
    pub offset: i32,
    /// `n_buckets`
    pub negative_buckets: Vec<f64>,
    /// `n_offset`: the index of the first of `negative_buckets`.
    pub negative_offset: i32,
    /// `counter_reset_hint`, where it was written.
    pub hint: Option<String>,
    /// `custom_values`: the upper bounds of the buckets.
    pub custom_values: Vec<f64>,
}

/// Parses a series description.
///
/// # Errors
/// The first fault, with its line and column.
pub fn parse_series(text: &str) -> Result<SeriesDescription, SyntaxError> {
    series(text).map_err(|fault| SyntaxError::new(text, fault))
}

fn series(text: &str) -> Parsed<SeriesDescription> {
    let end = metric_end(text);
    let (metric, _) = text.split_at_checked(end).unwrap_or((text, ""));
    let labels = labels(metric)?;
    let mut items = Items { text, at: end };
    let mut found = Vec::new();
    while items.skip_blanks() {
        found.push(items.sequence()?);
    }
    Ok(SeriesDescription {
        labels,
        items: found,
    })
}

/// Where the metric ends: at the first blank outside braces and strings.
fn metric_end(text: &str) -> usize {
    let (mut quoted, mut escaped, mut depth) = (None, false, 0usize);
    for (at, c) in text.char_indices() {
        match (quoted, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(open), '\\') if open != '`' => escaped = true,
            (Some(open), c) if open == c => quoted = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quoted = Some(c),
            (None, '{') => depth += 1,
            (None, '}') => depth = depth.saturating_sub(1),
            (None, ' ' | '\t') if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

fn labels(metric: &str) -> Parsed<Labels> {
    let mut parser = Parser::new(metric, ParseOptions::default())?;
    let expr = parser.selector()?;
    parser.expect_end()?;
    let fault = |message: String| Fault::new(expr.span, message);
    let ExprKind::Selector(selector) = &expr.kind else {
        return Err(fault("expected a metric".to_owned()));
    };
    if selector.matchers.iter().any(|m| m.op() != MatchOp::Equal) {
        return Err(fault("expected \"=\" in label set".to_owned()));
    }
    let pairs = selector.matchers.iter().map(|m| (m.name(), m.value()));
    Labels::from_pairs(pairs).map_err(|error| fault(error.to_string()))
}

/// What follows the metric.
struct Items<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Items<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Whether something comes behind the blanks.
    fn skip_blanks(&mut self) -> bool {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        !self.rest().is_empty()
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        let end = self.rest().chars().next().map_or(0, char::len_utf8);
        Fault::new(Span::new(self.at, self.at + end), message)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or("")
    }

    fn sequence(&mut self) -> Parsed<Sequence> {
        let first = self.value()?;
        let sign = if self.rest().starts_with('+') {
            Some(Sign::Plus)
        } else if self.rest().starts_with('-') {
            Some(Sign::Minus)
        } else {
            None
        };
        let mut change = None;
        if let Some(sign) = sign {
            self.at += 1;
            let by = self.value()?;
            let fits = matches!(
                (&first, &by),
                (SeriesValue::Float(_), SeriesValue::Float(_))
                    | (SeriesValue::Histogram(_), SeriesValue::Histogram(_))
            );
            if !fits {
                return Err(self.fault("unexpected change of kind in series values"));
            }
            change = Some((sign, by));
        }
        let count = if self.take("x") {
            self.repetitions()?
        } else if change.is_some() {
            return Err(self.fault("unexpected end of item in series values, expected \"x\""));
        } else {
            0
        };
        if !self.rest().is_empty() && !self.rest().starts_with([' ', '\t']) {
            return Err(self.fault("unexpected text in series values"));
        }
        // `_x3` is three gaps, but `1x3` the value and three repetitions.
        let count = match first {
            SeriesValue::Missing => count.max(1),
            _ => count + 1,
        };
        Ok(Sequence {
            first,
            change,
            count,
        })
    }

    fn repetitions(&mut self) -> Parsed<usize> {
        let digits = self.take_while(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(count) if count <= REPETITIONS_MAX => Ok(count),
            _ => Err(self.fault(format!("invalid repetition in series values: {digits}"))),
        }
    }

    fn value(&mut self) -> Parsed<SeriesValue> {
        if self.take("{{") {
            return self.histogram();
        }
        if self.take("stale") {
            return Ok(SeriesValue::Float(ABSENT));
        }
        if self.take("_") {
            return Ok(SeriesValue::Missing);
        }
        self.number().map(SeriesValue::Float)
    }

    fn number(&mut self) -> Parsed<f64> {
        let start = self.at;
        if self.rest().starts_with(['+', '-']) {
            self.at += 1;
        }
        let word = self.take_while(|c| c.is_ascii_alphabetic() && c != 'x');
        if word.is_empty() {
            self.take_while(|c| c.is_ascii_digit() || c == '.');
            if self.rest().starts_with(['e', 'E']) {
                self.at += 1;
                if self.rest().starts_with(['+', '-']) {
                    self.at += 1;
                }
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        let text = self.text.get(start..self.at).unwrap_or("");
        parse_number(text).ok_or_else(|| {
            let span = Span::new(start, self.at);
            Fault::new(
                span,
                "unexpected text in series values, expected number or \"stale\"",
            )
        })
    }

    fn histogram(&mut self) -> Parsed<SeriesValue> {
        let mut out = HistogramDescription::default();
        let mut seen: Vec<&str> = Vec::new();
        loop {
            self.skip_blanks();
            if self.take("}}") {
                return Ok(SeriesValue::Histogram(Box::new(out)));
            }
            let key = self.take_while(|c| c.is_ascii_alphabetic() || c == '_');
            if seen.contains(&key) {
                return Err(self.fault(format!("duplicate key \"{key}\" in histogram")));
            }
            seen.push(key);
            if !self.take(":") {
                return Err(self.fault("unexpected text in histogram description, expected \":\""));
            }
            match key {
                "schema" => out.schema = self.integer()?,
                "sum" => out.sum = self.number()?,
                "count" => out.count = self.number()?,
                "z_bucket" => out.zero_count = self.number()?,
                "z_bucket_w" => out.zero_threshold = self.number()?,
                "offset" => out.offset = self.integer()?,
                "n_offset" => out.negative_offset = self.integer()?,
                "buckets" => out.buckets = self.numbers()?,
                "n_buckets" => out.negative_buckets = self.numbers()?,
                "custom_values" => out.custom_values = self.numbers()?,
                "counter_reset_hint" => {
                    let hint = self.take_while(|c| c.is_ascii_alphabetic() || c == '_');
                    out.hint = Some(hint.to_owned());
                }
                _ => {
                    let wanted = "expected histogram description key";
                    return Err(self.fault(format!("unexpected \"{key}\", {wanted}")));
                }
            }
        }
    }

    fn integer(&mut self) -> Parsed<i32> {
        let sign = if self.take("-") { "-" } else { "" };
        let digits = self.take_while(|c| c.is_ascii_digit());
        format!("{sign}{digits}")
            .parse()
            .map_err(|_| self.fault("expected an integer in histogram description"))
    }

    fn numbers(&mut self) -> Parsed<Vec<f64>> {
        if !self.take("[") {
            return Err(self.fault("unexpected text in histogram description, expected \"[\""));
        }
        let mut all = Vec::new();
        loop {
            self.skip_blanks();
            if self.take("]") {
                return Ok(all);
            }
            all.push(self.number()?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SeriesValue, parse_series};
    use crate::promql::ast::Sign;

    #[test]
    fn items_of_every_kind() {
        let text =
            "m{a=\"x y\"} 1 2+3x4 -1-0.5x2 _ _x3 stale Inf 1e-5x1 {{sum:1.5 buckets:[1 2]}}x2";
        let parsed = parse_series(text).unwrap();
        assert_eq!(parsed.labels.to_string(), "{__name__=\"m\", a=\"x y\"}");
        let counts: Vec<usize> = parsed.items.iter().map(|item| item.count).collect();
        assert_eq!(counts, [1, 5, 3, 1, 3, 1, 1, 2, 3]);
        assert_eq!(
            parsed.items[2].change,
            Some((Sign::Minus, SeriesValue::Float(0.5)))
        );
        let SeriesValue::Histogram(histogram) = &parsed.items[8].first else {
            panic!("a histogram")
        };
        assert_eq!((histogram.sum, histogram.buckets.len()), (1.5, 2));
        assert!(parse_series("{}").unwrap().labels.is_empty());
    }

    #[test]
    fn faults_have_positions() {
        for (text, expect) in [
            (
                "m{a!=\"b\"} 1",
                "1:1: parse error: expected \"=\" in label set",
            ),
            ("m 1y", "1:4: parse error: unexpected text in series values"),
            (
                "m 1+1",
                "1:6: parse error: unexpected end of item in series values, expected \"x\"",
            ),
            (
                "m {{sum:1 sum:2}}",
                "1:14: parse error: duplicate key \"sum\" in histogram",
            ),
            (
                "m {{sum:1",
                "1:10: parse error: unexpected text in histogram description, expected \":\"",
            ),
            (
                "m 1x99999999999",
                "1:16: parse error: invalid repetition in series values: 99999999999",
            ),
        ] {
            assert_eq!(
                parse_series(text).unwrap_err().to_string(),
                expect,
                "{text}"
            );
        }
    }
}
