//! Metric queries over entries of a scenario.

use super::Check;

/// Checks a scenario of `metric_cases`.
pub(super) const SCENARIO: Option<Check> = None;
