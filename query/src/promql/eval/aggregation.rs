//! Aggregations: feeds a stream into an aggregator.

use super::Evaluation;
use super::expression::label_name;
use super::steps::Steps;
use super::stream::{Collected, Held, Vector};
use crate::promql::annotation::{self, Severity};
use crate::promql::ast::Aggregate;
use crate::promql::error::QueryError;
use crate::vector::{AggregateOp, Aggregator, Grouping, METRIC_NAME, Parameter};

impl<'q> Evaluation<'q> {
    pub(super) fn aggregate(
        &'q self,
        aggregate: &'q Aggregate,
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let input = self.vector(&aggregate.expr, steps)?;
        let parameter = self.aggregation_parameter(aggregate, steps)?;
        let (op, grouping) = (aggregate.op, aggregate.grouping.clone());
        let one_name = match &grouping {
            _ if op.selects() => input.one_name,
            Grouping::By(names) => !names.iter().any(|name| name == METRIC_NAME),
            Grouping::Without(_) => true,
        };
        let mut aggregator = Aggregator::new(op, grouping, parameter, steps.count())?;
        let mut held = Held::new(self.budget);
        for series in input.series {
            aggregator.push(&series?);
            held.grow_to(aggregator.samples_held())?;
        }
        let (series, notes) = aggregator.finish_with_notes();
        self.note_aggregate(op, aggregate.expr.span, &notes);
        Ok(Collected::new(series, one_name, held).into_vector())
    }

    fn aggregation_parameter(
        &'q self,
        aggregate: &'q Aggregate,
        steps: Steps,
    ) -> Result<Parameter, QueryError> {
        let Some(parameter) = aggregate.parameter.as_deref() else {
            return Ok(Parameter::None);
        };
        if aggregate.op == AggregateOp::CountValues {
            let name = label_name(parameter);
            let invalid = |name| QueryError::Execution(format!("invalid label name {name}"));
            return Ok(Parameter::Label(name.map_err(invalid)?.to_owned()));
        }
        let values = self.scalar(parameter, steps)?;
        if aggregate.op == AggregateOp::Quantile {
            for q in values.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                let message = annotation::invalid_quantile(*q);
                self.annotations
                    .add(Severity::Warning, parameter.span, &message);
            }
        }
        if aggregate.op == AggregateOp::LimitRatio {
            for ratio in values.iter().filter(|ratio| ratio.abs() > 1.0) {
                let message = annotation::invalid_ratio(*ratio);
                self.annotations
                    .add(Severity::Warning, parameter.span, &message);
            }
        }
        Ok(Parameter::Steps(values))
    }
}
