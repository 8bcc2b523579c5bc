//! Conditions on labels, compiled for rows.

use trine_storage::regex::{Dot, LabelRegex};
use trine_storage::{MatchOp, Matcher};

use super::ip::IpRange;
use super::labels::{ERROR, ERROR_DETAILS, EXTRACTED, RowError, RowLabels};
use crate::logql::ast::{CompareOp, LabelCompare, LabelFilter};
use crate::logql::units;

/// A condition on the labels of a row.
#[derive(Debug, Clone)]
pub(in crate::logql) enum LabelTest {
    Text {
        name: String,
        negative: bool,
        value: Value,
    },
    Number(LabelCompare<f64>),
    Duration(LabelCompare<i64>),
    Bytes {
        name: String,
        op: CompareOp,
        value: u64,
    },
    Ip {
        name: String,
        negative: bool,
        range: IpRange,
    },
    All(Vec<LabelTest>),
    Any(Vec<LabelTest>),
}

/// What a label's text is compared with.
#[derive(Debug, Clone)]
pub(in crate::logql) enum Value {
    Literal(String),
    /// Anchored; unlike in selectors `.` does not match a newline.
    Regex(LabelRegex),
}

impl Value {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => text == literal,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

fn holds<T: PartialOrd>(op: CompareOp, value: &T, wanted: &T) -> bool {
    match op {
        CompareOp::Equal => value == wanted,
        CompareOp::NotEqual => value != wanted,
        CompareOp::Greater => value > wanted,
        CompareOp::GreaterOrEqual => value >= wanted,
        CompareOp::Less => value < wanted,
        CompareOp::LessOrEqual => value <= wanted,
    }
}

impl LabelTest {
    /// Compiles the condition.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::logql) fn new(filter: &LabelFilter) -> Result<Self, String> {
        let all = |filters: &[LabelFilter]| -> Result<Vec<Self>, String> {
            filters.iter().map(Self::new).collect()
        };
        Ok(match filter {
            LabelFilter::Text(matcher) => {
                let negative = matches!(matcher.op(), MatchOp::NotEqual | MatchOp::NotMatch);
                let value = if matcher.regex().is_some() {
                    let regex = LabelRegex::with_dot(matcher.value(), Dot::NotNewline);
                    Value::Regex(regex.map_err(|error| error.to_string())?)
                } else {
                    Value::Literal(matcher.value().to_owned())
                };
                Self::Text {
                    name: matcher.name().to_owned(),
                    negative,
                    value,
                }
            }
            LabelFilter::Number(compare) => Self::Number(compare.clone()),
            LabelFilter::Duration(compare) => Self::Duration(compare.clone()),
            LabelFilter::Bytes(compare) => Self::Bytes {
                name: compare.name.clone(),
                op: compare.op,
                value: compare.value.bytes,
            },
            LabelFilter::Ip { name, op, range } => {
                let negative = match op {
                    MatchOp::Equal => false,
                    MatchOp::NotEqual => true,
                    _ => return Err("ip: invalid operation".to_owned()),
                };
                Self::Ip {
                    name: name.clone(),
                    negative,
                    range: IpRange::parse(range)?,
                }
            }
            LabelFilter::All(filters) => Self::All(all(filters)?),
            LabelFilter::Any(filters) => Self::Any(all(filters)?),
        })
    }

    /// Adds to `conditions` what a store may ask of an entry that no stage has changed. Whether these
    /// say all that this one does.
    ///
    /// Only the text of a label is asked for, and only of one that is either the stream's or metadata
    /// as it was sent.
    pub(in crate::logql) fn pushdown(&self, conditions: &mut Vec<Matcher>) -> bool {
        match self {
            Self::Text {
                name,
                negative,
                value: Value::Literal(value),
            } if !name.starts_with("__") && !name.ends_with(EXTRACTED) => {
                let op = if *negative {
                    MatchOp::NotEqual
                } else {
                    MatchOp::Equal
                };
                let condition = Matcher::new(op, name.as_str(), value.as_str()).ok();
                let is_condition = condition.is_some();
                conditions.extend(condition);
                is_condition
            }
            // Every part is asked, also after one that cannot be.
            Self::All(tests) => {
                let mut all = true;
                for test in tests {
                    all &= test.pushdown(conditions);
                }
                all
            }
            _ => false,
        }
    }

    /// Whether no row passes in which the label `name` has this value.
    pub(in crate::logql) fn refuses(&self, name: &str, text: &str) -> bool {
        match self {
            Self::Text {
                name: own,
                negative,
                value,
            } => own == name && value.matches(text) == *negative,
            Self::Number(compare) => {
                compare.name == name
                    && units::float(text)
                        .is_ok_and(|found| !holds(compare.op, &found, &compare.value))
            }
            Self::Duration(compare) => {
                compare.name == name
                    && units::go_duration(text)
                        .is_ok_and(|found| !holds(compare.op, &found, &compare.value))
            }
            Self::Bytes {
                name: own,
                op,
                value,
            } => own == name && units::bytes(text).is_ok_and(|found| !holds(*op, &found, value)),
            // A row with an error passes, and the error may be yet to come.
            Self::Ip { .. } => false,
            Self::All(tests) => tests.iter().any(|test| test.refuses(name, text)),
            Self::Any(tests) => tests.iter().all(|test| test.refuses(name, text)),
        }
    }

    /// Whether the condition looks at the row's error.
    pub(in crate::logql) fn sees_error(&self) -> bool {
        let is_error = |name: &str| matches!(name, ERROR | ERROR_DETAILS);
        match self {
            Self::Text { name, .. } | Self::Bytes { name, .. } => is_error(name),
            Self::Number(compare) => is_error(&compare.name),
            Self::Duration(compare) => is_error(&compare.name),
            Self::Ip { .. } => true,
            Self::All(tests) | Self::Any(tests) => tests.iter().any(Self::sees_error),
        }
    }

    /// Calls `visit` with the name of each label that the condition looks at.
    pub(in crate::logql) fn each_name(&self, visit: &mut impl FnMut(&str)) {
        match self {
            Self::Text { name, .. } | Self::Bytes { name, .. } | Self::Ip { name, .. } => {
                visit(name);
            }
            Self::Number(compare) => visit(&compare.name),
            Self::Duration(compare) => visit(&compare.name),
            Self::All(tests) | Self::Any(tests) => {
                tests.iter().for_each(|test| test.each_name(visit));
            }
        }
    }

    /// Whether the row passes. A value that cannot be read lets the row pass and marks it.
    pub(in crate::logql) fn passes(&self, labels: &mut RowLabels<'_>) -> bool {
        match self {
            Self::Text {
                name,
                negative,
                value,
            } => {
                let found = labels.get(name).unwrap_or("");
                value.matches(found) != *negative
            }
            Self::Number(compare) => compare_with(
                labels,
                &compare.name,
                compare.op,
                &compare.value,
                units::float,
            ),
            Self::Duration(compare) => compare_with(
                labels,
                &compare.name,
                compare.op,
                &compare.value,
                units::go_duration,
            ),
            Self::Bytes { name, op, value } => compare_with(labels, name, *op, value, units::bytes),
            Self::Ip {
                name,
                negative,
                range,
            } => {
                let is_in = |text: &str| range.is_in(text.as_bytes()) != *negative;
                labels.error().is_some() || labels.get(name).is_some_and(is_in)
            }
            // All parts run, also after one has failed: each may mark the row, which shows when
            // the whole is an alternative of another condition.
            Self::All(tests) => {
                let mut all = true;
                for test in tests {
                    all &= test.passes(labels);
                }
                all
            }
            Self::Any(tests) => tests.iter().any(|test| test.passes(labels)),
        }
    }
}

/// Compares a label by what `read` makes of its text. A row without the label does not pass, and
/// the labels of the error are none here: only text conditions see them.
fn compare_with<T: PartialOrd>(
    labels: &mut RowLabels<'_>,
    name: &str,
    op: CompareOp,
    wanted: &T,
    read: impl Fn(&str) -> Result<T, String>,
) -> bool {
    let Some(text) = labels
        .get(name)
        .filter(|_| !matches!(name, ERROR | ERROR_DETAILS))
    else {
        return false;
    };
    match read(text) {
        Ok(value) => holds(op, &value, wanted),
        Err(details) => {
            labels.set_error(RowError::LabelFilter, &details);
            true
        }
    }
}
