//! Pipelines over single lines, and the discovery of levels.

use super::Check;

/// Checks a case of `pipeline_cases`.
pub(super) const CASE: Option<Check> = None;

/// Checks a case of `level_cases`.
pub(super) const LEVEL: Option<Check> = None;
