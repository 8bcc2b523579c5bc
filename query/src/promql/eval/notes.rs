//! Tells what operators noticed about histograms as warnings and infos of the query.

use trine_storage::Labels;

use super::Evaluation;
use super::histogram_range::RangeNotes;
use crate::promql::annotation::{self, Computing, Severity};
use crate::text::Span;
use crate::vector::{AggregateNotes, AggregateOp, BinaryNotes, BinaryOp, METRIC_NAME};

impl Evaluation<'_> {
    pub(super) fn note_binary(&self, op: BinaryOp, span: Span, notes: &BinaryNotes) {
        let operator = op.to_string();
        for (left, right) in &notes.incompatible {
            let text = annotation::incompatible_types(left.name(), &operator, right.name());
            self.annotations.add(Severity::Info, span, &text);
        }
        if notes.mixed_schemas {
            let text = annotation::incompatible_buckets(&operator);
            self.annotations.add(Severity::Warning, span, &text);
        }
        let computing = match op {
            BinaryOp::Sub => Computing::Subtraction,
            _ => Computing::Addition,
        };
        if notes.bounds_reconciled {
            let text = annotation::reconciled(computing);
            self.annotations.add(Severity::Info, span, &text);
        }
        if notes.resets_collide {
            let text = annotation::colliding_resets(computing);
            self.annotations.add(Severity::Warning, span, &text);
        }
    }

    pub(super) fn note_aggregate(&self, op: AggregateOp, span: Span, notes: &AggregateNotes) {
        if notes.ignored {
            let text = annotation::ignored_in_aggregation(&op.to_string());
            self.annotations.add(Severity::Info, span, &text);
        }
        if notes.mixed_with_floats {
            let text = annotation::MIXED_KINDS_IN_AGGREGATION;
            self.annotations.add(Severity::Warning, span, text);
        }
        for metric in &notes.mixed_schemas {
            let text = annotation::mixed_schemas(metric);
            self.annotations.add(Severity::Warning, span, &text);
        }
        if notes.bounds_reconciled {
            let text = annotation::reconciled(Computing::Aggregation);
            self.annotations.add(Severity::Info, span, &text);
        }
        if notes.resets_collide {
            let text = annotation::colliding_resets(Computing::Aggregation);
            self.annotations.add(Severity::Warning, span, &text);
        }
    }

    /// About the series `labels` of the range vector at `span`.
    pub(super) fn note_range(&self, span: Span, labels: &Labels, notes: RangeNotes) {
        let metric = labels.get(METRIC_NAME).unwrap_or("");
        let warn = |text: &str| self.annotations.add(Severity::Warning, span, text);
        let info = |text: &str| self.annotations.add(Severity::Info, span, text);
        if notes.mixed_kinds {
            warn(&annotation::mixed_kinds(metric));
        }
        if notes.mixed_schemas {
            warn(&annotation::mixed_schemas(metric));
        }
        if notes.not_a_counter {
            warn(&annotation::native_not_a_counter(metric));
        }
        if notes.not_a_gauge {
            warn(&annotation::native_not_a_gauge(metric));
        }
        if notes.resets_collide {
            warn(&annotation::colliding_resets(Computing::Aggregation));
        }
        if notes.ignored {
            info(&annotation::ignored_in_range(metric));
        }
        if let Some(computing) = notes.reconciled {
            info(&annotation::reconciled(computing));
        }
    }
}
