//! Sets of spans: filters, their combinations, and the stages of a pipeline, over one batch. `engine`
//! calls it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::ast::{
    Aggregate, FieldExpr, Form, Op, Pipeline, Relation, ScalarExpr, SpansetExpr, SpansetOp, Stage,
};
use super::error::QueryError;
use super::field::{Evaluation, Truth, Values};
use super::source::{SpanBatch, SpanId, TraceRows};
use super::value::{Field, binary};

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
    evaluation: &Evaluation<'_>,
) -> Result<Vec<Vec<Set>>, QueryError> {
    let all = |trace: &TraceRows| {
        vec![Set {
            rows: trace.rows.clone().collect(),
            ..Set::default()
        }]
    };
    let mut sets: Vec<Vec<Set>> = evaluation.batch.traces.iter().map(all).collect();
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(expr) => filter(expr, evaluation, &mut sets)?,
            Stage::Filter { op, lhs, rhs, .. } => {
                let scalars = Scalars::of(&[lhs, rhs], evaluation)?;
                if lhs.has_pipeline() || rhs.has_pipeline() {
                    sets = scalars.sets();
                }
                for (trace, sets) in sets.iter_mut().enumerate() {
                    for set in sets {
                        let mut told = Vec::new();
                        let left = scalars.scalar(lhs, (trace, set), &mut told);
                        let right = scalars.scalar(rhs, (trace, set), &mut told);
                        match binary(*op, &left, &right, None) {
                            Field::Bool(true) => set.attributes.extend(told),
                            Field::Fault(fault) => {
                                return Err(QueryError::Execution(fault.message().to_owned()));
                            }
                            _ => set.rows.clear(),
                        }
                    }
                }
            }
            Stage::By(expr) => {
                let values = evaluation.values(expr);
                let name = format!("by({expr})");
                for sets in &mut sets {
                    let mut parts = Vec::new();
                    for set in std::mem::take(sets) {
                        split(set, &values, &name, &mut parts)?;
                    }
                    *sets = parts;
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

/// Leaves the spans of each set that an expression chooses among them. Sets of one trace are looked at
/// apart.
fn filter(
    expr: &SpansetExpr,
    evaluation: &Evaluation<'_>,
    sets: &mut [Vec<Set>],
) -> Result<(), QueryError> {
    let most = sets.iter().map(Vec::len).max().unwrap_or(0);
    for number in 0..most {
        let mut among = vec![false; evaluation.batch.starts.len()];
        let mut these: Vec<&mut Set> = sets.iter_mut().filter_map(|s| s.get_mut(number)).collect();
        for row in these.iter().flat_map(|set| &set.rows) {
            among[*row as usize] = true;
        }
        let chosen = choose(expr, evaluation, &among)?;
        for set in &mut these {
            set.rows.retain(|&row| chosen[row as usize]);
        }
    }
    Ok(())
}

/// Splits a set by the values of its spans, in order of their first span.
fn split(
    set: Set,
    values: &Values<'_>,
    name: &str,
    parts: &mut Vec<Set>,
) -> Result<(), QueryError> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in set.rows {
        let value = values.get(row as usize);
        if let Field::Fault(fault) = value {
            return Err(QueryError::Execution(fault.message().to_owned()));
        }
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
    Ok(())
}

/// The rows that an expression over sets gives, of those that it may choose `among`.
fn choose(
    expr: &SpansetExpr,
    evaluation: &Evaluation<'_>,
    among: &[bool],
) -> Result<Vec<bool>, QueryError> {
    let batch = evaluation.batch;
    match expr {
        SpansetExpr::Filter(None, _) => Ok(among.to_vec()),
        SpansetExpr::Filter(Some(expr), _) => {
            let truths = evaluation.condition(expr).truths(among.len());
            let chosen = truths
                .into_iter()
                .zip(among)
                .map(|(truth, is_among)| match truth {
                    Truth::Yes => Ok(*is_among),
                    Truth::Fault(fault) if *is_among => {
                        let what = format!("{}: {{ {expr} }}", fault.message());
                        Err(QueryError::Execution(what))
                    }
                    Truth::No | Truth::Fault(_) => Ok(false),
                });
            chosen.collect()
        }
        SpansetExpr::Pipeline(inner) => {
            let mut chosen = vec![false; among.len()];
            for set in one_set_each(inner, evaluation)? {
                for row in set.rows {
                    chosen[row as usize] = among[row as usize];
                }
            }
            Ok(chosen)
        }
        SpansetExpr::Binary { op, lhs, rhs, .. } => {
            let left = choose(lhs, evaluation, among)?;
            let right = choose(rhs, evaluation, among)?;
            let mut chosen = vec![false; among.len()];
            for trace in &batch.traces {
                let part = trace.rows.start as usize..trace.rows.end as usize;
                combine(*op, batch, &left, &right, part, &mut chosen);
            }
            Ok(chosen)
        }
    }
}

/// The spans that a pipeline gives for each trace.
fn one_set_each(pipeline: &Pipeline, evaluation: &Evaluation<'_>) -> Result<Vec<Set>, QueryError> {
    let one = |mut sets: Vec<Set>| match sets.len() {
        0 | 1 => Ok(sets.pop().unwrap_or_default()),
        _ => {
            let what = "spanset operators are not supported for multiple spansets per trace. \
                        consider using coalesce()";
            Err(QueryError::Execution(what.to_owned()))
        }
    };
    run(pipeline, evaluation)?.into_iter().map(one).collect()
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
    let mut found = vec![false; part.len()];
    // Of nested-set numbers only those above zero tell relations.
    let of_rows = |number: &dyn Fn(usize) -> i32| -> HashSet<i32> {
        let rows = part.clone().filter(|&row| of[row]).map(number);
        rows.filter(|number| *number > 0).collect()
    };
    match relation {
        Relation::Child => {
            let parents = of_rows(&|row| batch.nested_left[row]);
            for row in part.clone() {
                found[row - part.start] = parents.contains(&batch.nested_parent[row]);
            }
        }
        Relation::Parent => {
            let parents = of_rows(&|row| batch.nested_parent[row]);
            for row in part.clone() {
                found[row - part.start] = parents.contains(&batch.nested_left[row]);
            }
        }
        Relation::Sibling => {
            // By the ids of the parents: these need not be stored.
            let id = |row: usize| batch.parent_ids[row];
            let mut children: HashMap<SpanId, usize> = HashMap::new();
            for row in part.clone().filter(|&row| of[row]) {
                *children.entry(id(row)).or_insert(0) += 1;
            }
            for row in part.clone().filter(|&row| id(row) != SpanId::default()) {
                // A span is not its own sibling.
                let others = children.get(&id(row)).copied().unwrap_or(0);
                found[row - part.start] = others > usize::from(of[row]);
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

/// What the numbers of a comparison are computed from, for the whole batch.
struct Scalars<'e, 'b> {
    /// The fields that aggregates are about.
    values: Vec<(&'e FieldExpr, Values<'b>)>,
    /// What pipelines of their own choose, by trace.
    chosen: Vec<(&'e Pipeline, Vec<Set>)>,
    traces: usize,
}

impl<'e, 'b> Scalars<'e, 'b> {
    fn of(exprs: &[&'e ScalarExpr], evaluation: &Evaluation<'b>) -> Result<Self, QueryError> {
        let mut scalars = Self {
            values: Vec::new(),
            chosen: Vec::new(),
            traces: evaluation.batch.traces.len(),
        };
        for expr in exprs {
            scalars.add(expr, evaluation)?;
        }
        Ok(scalars)
    }

    fn add(&mut self, expr: &'e ScalarExpr, evaluation: &Evaluation<'b>) -> Result<(), QueryError> {
        match expr {
            ScalarExpr::Aggregate {
                field: Some(field), ..
            } => self.values.push((field, evaluation.values(field))),
            ScalarExpr::Binary { lhs, rhs, .. } => {
                self.add(lhs, evaluation)?;
                self.add(rhs, evaluation)?;
            }
            ScalarExpr::Of(pipeline, aggregate, _) => {
                let sets = one_set_each(pipeline, evaluation)?;
                self.chosen.push((pipeline, sets));
                self.add(aggregate, evaluation)?;
            }
            ScalarExpr::Static(..) | ScalarExpr::Aggregate { field: None, .. } => {}
        }
        Ok(())
    }

    /// The spans that any of the pipelines chooses, a set for each trace.
    fn sets(&self) -> Vec<Vec<Set>> {
        let of_trace = |trace: usize| {
            let sets = self.chosen.iter().filter_map(|(_, sets)| sets.get(trace));
            let mut rows: Vec<u32> = sets.flat_map(|set| set.rows.iter().copied()).collect();
            rows.sort_unstable();
            rows.dedup();
            vec![Set {
                rows,
                ..Set::default()
            }]
        };
        (0..self.traces).map(of_trace).collect()
    }

    /// The number that an expression gives for a set; none when there is nothing to aggregate.
    fn scalar(
        &self,
        expr: &ScalarExpr,
        (trace, set): (usize, &Set),
        told: &mut Vec<(String, Field)>,
    ) -> Field {
        match expr {
            ScalarExpr::Static(value, _) => value.into(),
            ScalarExpr::Of(pipeline, aggregate, _) => {
                let held = self
                    .chosen
                    .iter()
                    .find(|(p, _)| std::ptr::eq(*p, &**pipeline));
                let Some(set) = held.and_then(|(_, sets)| sets.get(trace)) else {
                    return Field::Nil;
                };
                let value = self.scalar(aggregate, (trace, set), &mut Vec::new());
                tell(told, expr, &value);
                value
            }
            ScalarExpr::Binary { op, lhs, rhs } => {
                let left = self.scalar(lhs, (trace, set), told);
                let right = self.scalar(rhs, (trace, set), told);
                binary(*op, &left, &right, None)
            }
            ScalarExpr::Aggregate {
                function, field, ..
            } => {
                let values = field.as_ref().and_then(|field| {
                    let held = self.values.iter().find(|(of, _)| std::ptr::eq(*of, field));
                    held.map(|(_, values)| values)
                });
                let value = match values {
                    None => Field::Int(set.rows.len() as i64),
                    Some(values) => aggregate(*function, set, values),
                };
                tell(told, expr, &value);
                value
            }
        }
    }
}

/// Tells the value of an expression once, however often it stands in a comparison.
fn tell(told: &mut Vec<(String, Field)>, expr: &ScalarExpr, value: &Field) {
    let name = expr.to_string();
    if told.iter().all(|(known, _)| *known != name) {
        told.push((name, value.clone()));
    }
}

/// An aggregate of the numbers among the values of a set. Whole numbers and durations stay what they
/// are, but for the average of whole numbers; several types together are floats.
fn aggregate(function: Aggregate, set: &Set, values: &Values<'_>) -> Field {
    let mut numbers = Vec::with_capacity(set.rows.len());
    for row in &set.rows {
        match values.get(*row as usize) {
            fault @ Field::Fault(_) => return fault,
            // NaN compares with nothing.
            value if value.number().is_some_and(|number| !number.is_nan()) => numbers.push(value),
            _ => {}
        }
    }
    let count = numbers.len() as i64;
    let sum = |a: Field, b: &Field| binary(Op::Add, &a, b, None);
    let least = |op: Op| {
        let better = |best: Field, value: &Field| match binary(op, value, &best, None) {
            Field::Bool(true) => value.clone(),
            _ => best,
        };
        let (first, rest) = numbers.split_first()?;
        Some(rest.iter().fold(first.clone(), better))
    };
    let Some((first, rest)) = numbers.split_first() else {
        return Field::Nil;
    };
    match function {
        Aggregate::Count => Field::Int(count),
        Aggregate::Min => least(Op::Less).unwrap_or(Field::Nil),
        Aggregate::Max => least(Op::Greater).unwrap_or(Field::Nil),
        Aggregate::Sum => rest.iter().fold(first.clone(), sum),
        Aggregate::Avg => match rest.iter().fold(first.clone(), sum) {
            Field::Duration(total) => Field::Duration(total / count),
            total => Field::Float(total.number().unwrap_or(0.0) / count as f64),
        },
    }
}
