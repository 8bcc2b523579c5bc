//! Reads the value of `unwrap` from the labels of a row, for `scan.rs`.

use crate::logql::ast::{Conversion, Stage, StageKind, Unwrap};
use crate::logql::error::QueryError;
use crate::logql::pipeline::label_filter::LabelTest;
use crate::logql::pipeline::label_test;
use crate::logql::pipeline::labels::{RowError, RowLabels};
use crate::logql::units;
use crate::vector::Grouping;

/// Reads the value of `unwrap`.
pub(super) struct Extractor {
    pub(super) label: String,
    conversion: Conversion,
    pub(super) filters: Vec<LabelTest>,
    /// Whether the label would be one of the series otherwise.
    removes: bool,
}

impl Extractor {
    /// The extractor for series that are made by `grouping`.
    pub(super) fn new(unwrap: &Unwrap, grouping: &Option<Grouping>) -> Result<Self, QueryError> {
        let removes = match grouping {
            Some(Grouping::By(names)) => names.contains(&unwrap.label),
            _ => true,
        };
        let compile = |filter| {
            let kind = StageKind::LabelFilter(Clone::clone(filter));
            label_test(
                &Stage {
                    kind,
                    span: unwrap.span,
                },
                filter,
            )
        };
        Ok(Self {
            label: unwrap.label.clone(),
            conversion: unwrap.conversion,
            filters: unwrap
                .filters
                .iter()
                .map(compile)
                .collect::<Result<_, _>>()?,
            removes,
        })
    }

    /// The value of a row; `None` when it has none or a filter drops it.
    pub(super) fn value(&self, labels: &mut RowLabels<'_>) -> Option<f64> {
        let text = labels.get(&self.label)?;
        let read = match self.conversion {
            Conversion::Number => units::float(text),
            Conversion::Bytes => units::bytes(text).map(|bytes| bytes as f64),
            Conversion::Duration | Conversion::DurationSeconds => {
                units::go_duration(text).map(|nanos| nanos as f64 / 1e9)
            }
        };
        let value = match read {
            Ok(value) => value,
            Err(details) => {
                labels.set_error(RowError::SampleExtraction, &details);
                0.0
            }
        };
        if !self.filters.iter().all(|test| test.passes(labels)) {
            return None;
        }
        // The value is no label of the series; but an error is told with it.
        if self.removes && labels.error().is_none() {
            labels.remove(&self.label);
        }
        Some(value)
    }
}
