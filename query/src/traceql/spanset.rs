//! Sets of spans: filters, their combinations, and the stages of a pipeline, over one batch.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ast::{
    Aggregate, FieldExpr, Form, Pipeline, Relation, ScalarExpr, SpansetExpr, SpansetOp, Stage,
};
use super::error::QueryError;
use super::field::{Patterns, Values, evaluate};
use super::source::{SpanBatch, TraceRows};
use super::value::{Field, arithmetic, holds};

/// Spans of one trace that belong together.
#[derive(Debug, Clone, Default)]
pub(super) struct Set {
    /// Their rows, rising.
    pub(super) rows: Vec<u32>,
    /// What stages found out about them: `count()`, `by(...)`.
    pub(super) attributes: Vec<(String, Field)>,
}

/// The sets that a pipeline gives for each trace of the batch.
pub(super) fn run(
    pipeline: &Pipeline,
    batch: &SpanBatch,
    patterns: &Patterns,
) -> Result<Vec<Vec<Set>>, QueryError> {
    let all = |trace: &TraceRows| {
        vec![Set {
            rows: trace.rows.clone().collect(),
            ..Set::default()
        }]
    };
    let mut sets: Vec<Vec<Set>> = batch.traces.iter().map(all).collect();
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(expr) => {
                let chosen = choose(expr, batch, patterns)?;
                for set in sets.iter_mut().flatten() {
                    set.rows.retain(|&row| chosen[row as usize]);
                }
            }
            Stage::Filter { op, lhs, rhs, .. } => {
                if lhs.has_pipeline() || rhs.has_pipeline() {
                    let what = "a comparison between pipelines".to_owned();
                    return Err(QueryError::Unsupported(what));
                }
                let fields = Fields::of(&[lhs, rhs], batch, patterns);
                for set in sets.iter_mut().flatten() {
                    let mut told = Vec::new();
                    let left = scalar(lhs, set, &fields, &mut told);
                    let right = scalar(rhs, set, &fields, &mut told);
                    if holds(*op, &left, &right, None) {
                        set.attributes.extend(told);
                    } else {
                        set.rows.clear();
                    }
                }
            }
            Stage::By(expr) => {
                let values = evaluate(expr, batch, patterns);
                for sets in &mut sets {
                    *sets = std::mem::take(sets)
                        .into_iter()
                        .flat_map(|set| split(set, &values, &format!("by({expr})")))
                        .collect();
                }
            }
            Stage::Coalesce => {
                for sets in &mut sets {
                    let mut rows: Vec<u32> = sets.drain(..).flat_map(|set| set.rows).collect();
                    rows.sort_unstable();
                    rows.dedup();
                    sets.push(Set {
                        rows,
                        ..Set::default()
                    });
                }
            }
            Stage::Select(_) => {}
        }
        sets.iter_mut()
            .for_each(|sets| sets.retain(|set| !set.rows.is_empty()));
    }
    Ok(sets)
}

/// Splits a set by the values of its spans, in order of their first span.
fn split(set: Set, values: &Values<'_>, name: &str) -> Vec<Set> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut parts: Vec<Set> = Vec::new();
    for row in set.rows {
        let value = values.get(row as usize);
        let at = *places.entry(format!("{value:?}")).or_insert_with(|| {
            let mut attributes = set.attributes.clone();
            let shown = if value == Field::Nil {
                Field::Str("nil".into())
            } else {
                value.clone()
            };
            attributes.push((name.to_owned(), shown));
            parts.push(Set {
                rows: Vec::new(),
                attributes,
            });
            parts.len() - 1
        });
        parts[at].rows.push(row);
    }
    parts
}

/// The rows that an expression over sets gives.
fn choose(
    expr: &SpansetExpr,
    batch: &SpanBatch,
    patterns: &Patterns,
) -> Result<Vec<bool>, QueryError> {
    let rows = batch.starts.len();
    match expr {
        SpansetExpr::Filter(None, _) => Ok(vec![true; rows]),
        SpansetExpr::Filter(Some(expr), _) => Ok(evaluate(expr, batch, patterns).truths(rows)),
        SpansetExpr::Pipeline(inner) => {
            let mut chosen = vec![false; rows];
            for sets in run(inner, batch, patterns)? {
                if sets.len() > 1 {
                    let what = "spanset operators are not supported for multiple spansets per \
                                trace. consider using coalesce()";
                    return Err(QueryError::Execution(what.to_owned()));
                }
                for row in sets.into_iter().flat_map(|set| set.rows) {
                    chosen[row as usize] = true;
                }
            }
            Ok(chosen)
        }
        SpansetExpr::Binary { op, lhs, rhs, .. } => {
            let (left, right) = (choose(lhs, batch, patterns)?, choose(rhs, batch, patterns)?);
            let mut chosen = vec![false; rows];
            for trace in &batch.traces {
                let part = trace.rows.start as usize..trace.rows.end as usize;
                combine(*op, batch, &left, &right, part, &mut chosen);
            }
            Ok(chosen)
        }
    }
}

/// Combines two sets of spans of one trace.
fn combine(
    op: SpansetOp,
    batch: &SpanBatch,
    left: &[bool],
    right: &[bool],
    part: Range<usize>,
    chosen: &mut [bool],
) {
    let any = |side: &[bool]| side[part.clone()].iter().any(|chosen| *chosen);
    match op {
        SpansetOp::And | SpansetOp::Or => {
            if op == SpansetOp::Or || (any(left) && any(right)) {
                for row in part {
                    chosen[row] = left[row] || right[row];
                }
            }
        }
        SpansetOp::Structural(relation, form) => {
            if !any(right) || (form != Form::Not && !any(left)) {
                return;
            }
            let related = related(relation, batch, left, part.clone());
            for row in part.clone().filter(|&row| right[row]) {
                chosen[row] |= related[row - part.start] != (form == Form::Not);
            }
            if form == Form::Union {
                let related = self::related(inverse(relation), batch, right, part.clone());
                for row in part.clone().filter(|&row| left[row]) {
                    chosen[row] |= related[row - part.start];
                }
            }
        }
    }
}

fn inverse(relation: Relation) -> Relation {
    match relation {
        Relation::Child => Relation::Parent,
        Relation::Parent => Relation::Child,
        Relation::Descendant => Relation::Ancestor,
        Relation::Ancestor => Relation::Descendant,
        Relation::Sibling => Relation::Sibling,
    }
}

/// Which spans of a trace are the child, parent and so on of some span in `of`. Linear in the spans
/// but for the order of the nested numbers.
fn related(relation: Relation, batch: &SpanBatch, of: &[bool], part: Range<usize>) -> Vec<bool> {
    let parent = |row: usize| {
        let parent = batch.parents[row] as usize;
        part.contains(&parent).then_some(parent)
    };
    let mut found = vec![false; part.len()];
    match relation {
        Relation::Child => {
            for row in part.clone() {
                found[row - part.start] = parent(row).is_some_and(|parent| of[parent]);
            }
        }
        Relation::Parent => {
            for parent in part.clone().filter(|&row| of[row]).filter_map(parent) {
                found[parent - part.start] = true;
            }
        }
        Relation::Sibling => {
            let mut children = vec![0usize; part.len()];
            for parent in part.clone().filter(|&row| of[row]).filter_map(parent) {
                children[parent - part.start] += 1;
            }
            for row in part.clone() {
                // A span is not its own sibling.
                let own = usize::from(of[row]);
                let others = parent(row).map(|parent| children[parent - part.start] > own);
                found[row - part.start] = others.unwrap_or(false);
            }
        }
        Relation::Descendant | Relation::Ancestor => {
            let mut order: Vec<usize> = part.clone().collect();
            order.sort_unstable_by_key(|&row| batch.nested_left[row]);
            let left = |row: &usize| batch.nested_left[*row];
            if relation == Relation::Descendant {
                // The furthest end of the chosen spans that began before: what ends within is below.
                let mut end = i32::MIN;
                for row in order {
                    found[row - part.start] = batch.nested_right[row] < end;
                    if of[row] {
                        end = end.max(batch.nested_right[row]);
                    }
                }
            } else {
                let chosen: Vec<usize> = order.into_iter().filter(|&row| of[row]).collect();
                for row in part.clone() {
                    let next = chosen.partition_point(|c| left(c) <= batch.nested_left[row]);
                    let below = chosen
                        .get(next)
                        .is_some_and(|c| left(c) < batch.nested_right[row]);
                    found[row - part.start] = below;
                }
            }
        }
    }
    found
}

/// The values of the fields that aggregates are about, for the whole batch.
struct Fields<'a, 'b> {
    values: Vec<(&'a FieldExpr, Values<'b>)>,
}

impl<'a, 'b> Fields<'a, 'b> {
    fn of(exprs: &[&'a ScalarExpr], batch: &'b SpanBatch, patterns: &Patterns) -> Self {
        let mut fields = Self { values: Vec::new() };
        for expr in exprs {
            fields.add(expr, batch, patterns);
        }
        fields
    }

    fn add(&mut self, expr: &'a ScalarExpr, batch: &'b SpanBatch, patterns: &Patterns) {
        match expr {
            ScalarExpr::Aggregate {
                field: Some(field), ..
            } => {
                self.values.push((field, evaluate(field, batch, patterns)));
            }
            ScalarExpr::Binary { lhs, rhs, .. } => {
                self.add(lhs, batch, patterns);
                self.add(rhs, batch, patterns);
            }
            ScalarExpr::Of(_, aggregate, _) => self.add(aggregate, batch, patterns),
            ScalarExpr::Static(..) | ScalarExpr::Aggregate { field: None, .. } => {}
        }
    }

    fn get(&self, field: &FieldExpr) -> Option<&Values<'b>> {
        self.values
            .iter()
            .find(|(held, _)| std::ptr::eq(*held, field))
            .map(|(_, values)| values)
    }
}

/// The number that an expression gives for a set; none when there is nothing to aggregate.
fn scalar(
    expr: &ScalarExpr,
    set: &Set,
    fields: &Fields<'_, '_>,
    told: &mut Vec<(String, Field)>,
) -> Field {
    match expr {
        ScalarExpr::Static(value, _) => value.into(),
        ScalarExpr::Of(_, aggregate, _) => scalar(aggregate, set, fields, told),
        ScalarExpr::Binary { op, lhs, rhs } => {
            let left = scalar(lhs, set, fields, told);
            let right = scalar(rhs, set, fields, told);
            arithmetic(*op, &left, &right)
        }
        ScalarExpr::Aggregate {
            function, field, ..
        } => {
            let value = match field.as_ref().and_then(|field| fields.get(field)) {
                None => Field::Int(set.rows.len() as i64),
                Some(values) => aggregate(*function, set, values),
            };
            told.push((expr.to_string(), value.clone()));
            value
        }
    }
}

fn aggregate(function: Aggregate, set: &Set, values: &Values<'_>) -> Field {
    let numbers: Vec<Field> = set
        .rows
        .iter()
        .map(|&row| values.get(row as usize))
        .filter(|value| value.number().is_some())
        .collect();
    if numbers.is_empty() {
        return Field::Nil;
    }
    let durations = numbers.iter().all(|n| matches!(n, Field::Duration(_)));
    let integers = numbers.iter().all(|n| matches!(n, Field::Int(_)));
    let floats = numbers.iter().filter_map(Field::number);
    let result = match function {
        Aggregate::Count => numbers.len() as f64,
        Aggregate::Min => floats.fold(f64::INFINITY, f64::min),
        Aggregate::Max => floats.fold(f64::NEG_INFINITY, f64::max),
        Aggregate::Sum => floats.sum(),
        Aggregate::Avg => floats.sum::<f64>() / numbers.len() as f64,
    };
    if durations {
        Field::Duration(result as i64)
    } else if integers && function != Aggregate::Avg {
        Field::Int(result as i64)
    } else {
        Field::Float(result)
    }
}
