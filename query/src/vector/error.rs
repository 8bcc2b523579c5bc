//! Why step vectors cannot be combined; the texts are Prometheus'.

use std::fmt;

use trine_storage::Labels;

use crate::text::format_general;

/// A side of a binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The left operand.
    Left,
    /// The right operand.
    Right,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Left => "left",
            Self::Right => "right",
        })
    }
}

/// Why an operator or an aggregation has no result. `Display` gives Prometheus' text.
#[derive(Debug, Clone, PartialEq)]
pub enum VectorError {
    /// Two series of the side that must be unique have the same matching labels.
    DuplicateOnOneSide {
        /// The matching labels that both have.
        group: Labels,
        /// Where they are.
        side: Side,
        /// The lesser one in label order.
        first: Labels,
        /// The greater one.
        second: Labels,
    },
    /// Several series of the left side match one of the right, and neither `group_left` nor
    /// `group_right` was said.
    ManyToOneNotExplicit,
    /// Several series of the "many" side give the same result labels.
    GroupingNotUnique,
    /// Two series of one vector have the same labels.
    DuplicateLabels,
    /// The parameter of an aggregation is NaN.
    ParameterNan,
    /// The share of `limit_ratio` is NaN.
    RatioNan,
    /// The parameter of an aggregation (given) is too large for an integer.
    ParameterOverflow(f64),
    /// The parameter of an aggregation (given) is too small for an integer.
    ParameterUnderflow(f64),
    /// The label name (given) of `count_values` cannot be one.
    InvalidLabelName(String),
}

impl fmt::Display for VectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateOnOneSide {
                group,
                side,
                first,
                second,
            } => write!(
                f,
                "found duplicate series for the match group {group} on the {side} hand-side of the \
                 operation: [{first}, {second}];many-to-many matching not allowed: matching labels \
                 must be unique on one side"
            ),
            Self::ManyToOneNotExplicit => f.write_str(
                "multiple matches for labels: many-to-one matching must be explicit \
                 (group_left/group_right)",
            ),
            Self::GroupingNotUnique => f.write_str(
                "multiple matches for labels: grouping labels must ensure unique matches",
            ),
            Self::DuplicateLabels => {
                f.write_str("vector cannot contain metrics with the same labelset")
            }
            Self::ParameterNan => f.write_str("Parameter value is NaN"),
            Self::RatioNan => f.write_str("Ratio value is NaN"),
            Self::ParameterOverflow(value) => {
                write!(f, "Scalar value {} overflows int64", format_general(*value))
            }
            Self::ParameterUnderflow(value) => {
                write!(
                    f,
                    "Scalar value {} underflows int64",
                    format_general(*value)
                )
            }
            Self::InvalidLabelName(name) => {
                write!(f, "invalid label name {}", crate::text::quote(name))
            }
        }
    }
}

impl std::error::Error for VectorError {}
