//! Expressions over the fields of spans, evaluated over the columns of a batch: once for each
//! distinct value of a dictionary where only one column is involved, row by row otherwise.
//!
//! What conditions that are joined by `&&` say about events they say about one event of the span, and
//! likewise about links: some event must satisfy all of them. They are evaluated over *cells*, a span
//! with one of its events and one of its links. What stands below a `!`, and whether an attribute of
//! events is missing, is asked of the span with all its events.

mod columns;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use trine_storage::regex::{Dot, LabelRegex};

use super::ast::{Attribute, FieldExpr, Intrinsic, Op, Static};
use super::lower;
use super::source::{ABSENT, AttributeRef, Column, NO_ROW, Scope, SpanBatch};
use super::value::{Fault, Field, binary, negate, not};
use columns::{coded, column, either, intrinsic_values, named};

pub(super) use columns::hex;

/// The values of an expression for all rows of a batch.
#[derive(Debug)]
pub(super) enum Values<'a> {
    /// One value for all rows.
    Same(Field),
    /// A code for each row into distinct values; [`ABSENT`] for none.
    Coded(Cow<'a, [u32]>, Vec<Field>),
    /// A value for each row.
    Rows(Vec<Field>),
}

impl Values<'_> {
    /// The value of a row.
    pub(super) fn get(&self, row: usize) -> Field {
        match self {
            Self::Same(value) => value.clone(),
            Self::Coded(codes, values) => {
                let code = codes.get(row).copied().unwrap_or(ABSENT);
                values.get(code as usize).cloned().unwrap_or(Field::Nil)
            }
            Self::Rows(values) => values.get(row).cloned().unwrap_or(Field::Nil),
        }
    }

    /// The rows whose value is `true`, and those that cannot be evaluated.
    pub(super) fn truths(&self, rows: usize) -> Vec<Truth> {
        match self {
            Self::Same(value) => vec![Truth::of(value); rows],
            Self::Coded(codes, values) => {
                let truths: Vec<Truth> = values.iter().map(Truth::of).collect();
                let truth = |code: &u32| truths.get(*code as usize).copied();
                codes
                    .iter()
                    .map(|code| truth(code).unwrap_or(Truth::No))
                    .collect()
            }
            Self::Rows(values) => values.iter().map(Truth::of).collect(),
        }
    }

    /// The same for other rows, each one of these or [`NO_ROW`].
    fn of_rows(self, rows: &[u32]) -> Self {
        match self {
            Self::Same(value) => Self::Same(value),
            Self::Coded(codes, values) => {
                let code = |row: &u32| codes.get(*row as usize).copied().unwrap_or(ABSENT);
                Self::Coded(Cow::Owned(rows.iter().map(code).collect()), values)
            }
            Self::Rows(values) => {
                let value = |row: &u32| values.get(*row as usize).cloned();
                let values = rows.iter().map(|row| value(row).unwrap_or(Field::Nil));
                Self::Rows(values.collect())
            }
        }
    }
}

/// What a filter says about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    No,
    Yes,
    /// It cannot be said.
    Fault(Fault),
}

impl Truth {
    fn of(value: &Field) -> Self {
        match value {
            Field::Bool(true) => Self::Yes,
            Field::Fault(fault) => Self::Fault(*fault),
            _ => Self::No,
        }
    }
}

/// The values of truths, by code.
#[derive(Debug, Default)]
struct Truths {
    codes: Vec<u32>,
    values: Vec<Field>,
}

impl Truths {
    fn push(&mut self, value: &Field) {
        let known = self.values.iter().position(|held| held == value);
        let code = known.unwrap_or_else(|| {
            self.values.push(value.clone());
            self.values.len() - 1
        });
        self.codes.push(code as u32);
    }

    fn values(self) -> Values<'static> {
        Values::Coded(Cow::Owned(self.codes), self.values)
    }
}

/// The compiled patterns of a query, by their text.
#[derive(Debug, Default)]
pub(super) struct Patterns(HashMap<Arc<str>, LabelRegex>);

impl Patterns {
    /// Compiles every pattern of an expression.
    pub(super) fn add(&mut self, expr: &FieldExpr) -> Result<(), trine_storage::Error> {
        match expr {
            FieldExpr::Static(..) | FieldExpr::Attribute(..) => {}
            FieldExpr::Not(inner, _) | FieldExpr::Negate(inner, _) => self.add(inner)?,
            FieldExpr::Binary { op, lhs, rhs, .. } => {
                if let (Op::Match | Op::NotMatch, FieldExpr::Static(Static::Str(pattern), _)) =
                    (op, &**rhs)
                {
                    let compiled = LabelRegex::with_dot(pattern, Dot::NotNewline)?;
                    self.0.insert(Arc::clone(pattern), compiled);
                }
                self.add(lhs)?;
                self.add(rhs)?;
            }
        }
        Ok(())
    }

    fn get(&self, op: Op, rhs: &FieldExpr) -> Option<&LabelRegex> {
        match (op, rhs) {
            (Op::Match | Op::NotMatch, FieldExpr::Static(Static::Str(pattern), _)) => {
                self.0.get(pattern)
            }
            _ => None,
        }
    }
}

/// Which of the tables below a span an expression is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Below {
    events: bool,
    links: bool,
}

impl Below {
    fn is_none(self) -> bool {
        self == Self::default()
    }

    fn or(self, other: Self) -> Self {
        Self {
            events: self.events || other.events,
            links: self.links || other.links,
        }
    }

    fn meets(self, other: Self) -> bool {
        self.events && other.events || self.links && other.links
    }

    fn of_attribute(attribute: &Attribute) -> Self {
        let scope = scope_below(attribute);
        Self {
            events: scope == Some(Scope::Event),
            links: scope == Some(Scope::Link),
        }
    }

    /// Of all attributes of an expression.
    fn of(expr: &FieldExpr) -> Self {
        let mut found = Self::default();
        expr.attributes(&mut |attribute| found = found.or(Self::of_attribute(attribute)));
        found
    }

    /// Of what one event (or link) must satisfy where the expression is a condition.
    fn of_condition(expr: &FieldExpr) -> Self {
        match expr {
            FieldExpr::Attribute(attribute, _) => Self::of_attribute(attribute),
            FieldExpr::Binary { op, lhs, rhs, .. } => match op {
                Op::And | Op::Or => Self::of_condition(lhs).or(Self::of_condition(rhs)),
                Op::Equal if is_nil(lhs) || is_nil(rhs) => Self::default(),
                _ => Self::of(expr),
            },
            FieldExpr::Static(..) | FieldExpr::Not(..) | FieldExpr::Negate(..) => Self::default(),
        }
    }
}

/// Events or links, if an attribute is theirs.
fn scope_below(attribute: &Attribute) -> Option<Scope> {
    match lower::column(attribute) {
        Some(AttributeRef::Attribute {
            scope: scope @ Some(Scope::Event | Scope::Link),
            ..
        }) => scope,
        _ => None,
    }
}

pub(super) fn is_nil(expr: &FieldExpr) -> bool {
    matches!(expr, FieldExpr::Static(Static::Nil, _))
}

/// Spans with one of their events and one of their links each; [`NO_ROW`] where there is none.
#[derive(Debug, Default)]
struct Cells {
    spans: Vec<u32>,
    /// Empty when the expression is not about events; so for links.
    events: Vec<u32>,
    links: Vec<u32>,
}

impl Cells {
    fn of(below: Below, batch: &SpanBatch) -> Self {
        let mut cells = Self::default();
        let (mut events, mut links) = (0u32, 0u32);
        for row in 0..batch.starts.len() as u32 {
            let of_span = |owners: &[u32], next: &mut u32, wanted: bool| {
                let first = *next;
                while wanted && owners.get(*next as usize) == Some(&row) {
                    *next += 1;
                }
                // A span without any has a cell, too.
                let none = (first == *next).then_some(NO_ROW);
                (first..*next).chain(none)
            };
            let of_links = of_span(&batch.links, &mut links, below.links);
            for event in of_span(&batch.events, &mut events, below.events) {
                for link in of_links.clone() {
                    cells.spans.push(row);
                    if below.events {
                        cells.events.push(event);
                    }
                    if below.links {
                        cells.links.push(link);
                    }
                }
            }
        }
        cells
    }

    fn rows(&self, scope: Scope) -> &[u32] {
        match scope {
            Scope::Event => &self.events,
            _ => &self.links,
        }
    }
}

/// Which event and which link of each span satisfied a condition; [`NO_ROW`] for none.
#[derive(Debug, Default)]
struct Satisfied {
    events: Vec<u32>,
    links: Vec<u32>,
}

/// Evaluates expressions over one batch.
#[derive(Debug)]
pub(super) struct Evaluation<'a> {
    pub(super) batch: &'a SpanBatch,
    /// None where only attributes are asked for.
    patterns: Option<&'a Patterns>,
    satisfied: RefCell<Satisfied>,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(batch: &'a SpanBatch, patterns: &'a Patterns) -> Self {
        Self {
            batch,
            patterns: Some(patterns),
            satisfied: RefCell::default(),
        }
    }

    fn rows(&self) -> usize {
        self.batch.starts.len()
    }

    /// Whether a condition holds, for all rows.
    pub(super) fn condition(&self, expr: &FieldExpr) -> Values<'a> {
        match expr {
            FieldExpr::Binary {
                op: Op::And,
                lhs,
                rhs,
                ..
            } => {
                let mut conditions = Vec::new();
                lhs.conjuncts(&mut conditions);
                rhs.conjuncts(&mut conditions);
                self.all(conditions)
            }
            FieldExpr::Binary {
                op: Op::Or,
                lhs,
                rhs,
                ..
            } => {
                let (left, right) = (self.condition(lhs), self.condition(rhs));
                pairs(Op::Or, left, right, None, self.rows())
            }
            FieldExpr::Not(inner, _) => map(self.condition(inner), not),
            expr => match Below::of_condition(expr) {
                below if below.is_none() => self.values_of(expr, None),
                below => self.some(&[expr], below),
            },
        }
    }

    /// The values of an expression, for all rows.
    pub(super) fn values(&self, expr: &FieldExpr) -> Values<'a> {
        self.values_of(expr, None)
    }

    /// Whether all conditions hold, those about events for one event and those about links for one
    /// link.
    fn all(&self, conditions: Vec<&FieldExpr>) -> Values<'a> {
        let mut left = Values::Same(Field::Bool(true));
        let mut groups: Vec<(Below, Vec<&FieldExpr>)> = Vec::new();
        for condition in conditions {
            let mut below = Below::of_condition(condition);
            if below.is_none() {
                let values = self.condition(condition);
                left = pairs(Op::And, left, values, None, self.rows());
                continue;
            }
            let mut group = vec![condition];
            let (same, others): (Vec<_>, Vec<_>) = std::mem::take(&mut groups)
                .into_iter()
                .partition(|(of, _)| of.meets(below));
            groups = others;
            for (of, conditions) in same {
                below = below.or(of);
                group.extend(conditions);
            }
            groups.push((below, group));
        }
        for (below, group) in groups {
            let values = self.some(&group, below);
            left = pairs(Op::And, left, values, None, self.rows());
        }
        left
    }

    /// Whether some cell of the span satisfies all conditions.
    fn some(&self, conditions: &[&FieldExpr], below: Below) -> Values<'a> {
        let cells = Cells::of(below, self.batch);
        let mut left = Values::Same(Field::Bool(true));
        for condition in conditions {
            let values = self.values_of(condition, Some(&cells));
            left = pairs(Op::And, left, values, None, cells.spans.len());
        }
        let truths = left.truths(cells.spans.len());
        let mut found = vec![Truth::No; self.rows()];
        let mut satisfied = self.satisfied.borrow_mut();
        for (at, (truth, span)) in truths.into_iter().zip(&cells.spans).enumerate() {
            let Some(held) = found.get_mut(*span as usize) else {
                continue;
            };
            if *held == Truth::Yes || truth == Truth::No {
                continue;
            }
            *held = truth;
            if truth == Truth::Yes {
                let Satisfied { events, links } = &mut *satisfied;
                for (held, told) in [(events, &cells.events), (links, &cells.links)] {
                    if let Some(row) = told.get(at) {
                        held.resize(self.rows(), NO_ROW);
                        held[*span as usize] = *row;
                    }
                }
            }
        }
        let mut truths = Truths::default();
        for truth in found {
            truths.push(&match truth {
                Truth::Yes => Field::Bool(true),
                Truth::No => Field::Bool(false),
                Truth::Fault(fault) => Field::Fault(fault),
            });
        }
        truths.values()
    }

    /// The values of an expression for all rows, or for all cells.
    fn values_of(&self, expr: &FieldExpr, cells: Option<&Cells>) -> Values<'a> {
        let of_spans = |values: Values<'a>| match cells {
            Some(cells) => values.of_rows(&cells.spans),
            None => values,
        };
        match expr {
            FieldExpr::Static(value, _) => Values::Same(value.into()),
            FieldExpr::Attribute(attribute, _) => self.attribute_of(attribute, cells),
            FieldExpr::Not(..) => of_spans(self.condition(expr)),
            FieldExpr::Negate(inner, _) => map(self.values_of(inner, cells), negate),
            FieldExpr::Binary { op, lhs, rhs, .. } => match op {
                Op::And | Op::Or if cells.is_none() => self.condition(expr),
                _ if cells.is_none() && !Below::of_condition(expr).is_none() => {
                    self.comparison_or_number(expr, *op)
                }
                Op::Equal | Op::NotEqual if is_nil(lhs) || is_nil(rhs) => {
                    self.presence(*op, lhs, rhs, cells)
                }
                op => self.binary(*op, (lhs, rhs), cells),
            },
        }
    }

    /// An expression about events outside a group: a comparison asks for some event, a number is
    /// computed from the values that stand for the span.
    fn comparison_or_number(&self, expr: &FieldExpr, op: Op) -> Values<'a> {
        match expr {
            FieldExpr::Binary { lhs, rhs, .. } if op.is_arithmetic() => {
                self.binary(op, (lhs, rhs), None)
            }
            expr => self.condition(expr),
        }
    }

    /// `nil` on one side asks whether the other side is there.
    fn presence(
        &self,
        op: Op,
        lhs: &FieldExpr,
        rhs: &FieldExpr,
        cells: Option<&Cells>,
    ) -> Values<'a> {
        if is_nil(lhs) && is_nil(rhs) {
            return Values::Same(Field::Bool(false));
        }
        let other = if is_nil(lhs) { rhs } else { lhs };
        let is_nil = |value: &Field| match value {
            Field::Fault(fault) => Field::Fault(*fault),
            value => Field::Bool((*value == Field::Nil) == (op == Op::Equal)),
        };
        match (op, cells) {
            // That none of its events has it is said about the span.
            (Op::Equal, Some(cells)) => {
                map(self.values_of(other, None), is_nil).of_rows(&cells.spans)
            }
            _ => map(self.values_of(other, cells), is_nil),
        }
    }

    fn binary(
        &self,
        op: Op,
        (lhs, rhs): (&FieldExpr, &FieldExpr),
        cells: Option<&Cells>,
    ) -> Values<'a> {
        let (left, right) = (self.side(lhs, rhs, cells), self.side(rhs, lhs, cells));
        let rows = cells.map_or(self.rows(), |cells| cells.spans.len());
        let pattern = self.patterns.and_then(|patterns| patterns.get(op, rhs));
        pairs(op, left, right, pattern, rows)
    }

    /// One side of an operator. A literal that is compared to a trace id may lack leading zeros.
    fn side(&self, expr: &FieldExpr, other: &FieldExpr, cells: Option<&Cells>) -> Values<'a> {
        let trace_id = Attribute::Intrinsic(Intrinsic::TraceId);
        match (expr, other) {
            (FieldExpr::Static(Static::Str(text), _), FieldExpr::Attribute(attribute, _))
                if *attribute == trace_id && text.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                Values::Same(Field::Str(
                    format!("{:0>32}", text.to_ascii_lowercase()).into(),
                ))
            }
            _ => self.values_of(expr, cells),
        }
    }

    fn attribute_of(&self, attribute: &Attribute, cells: Option<&Cells>) -> Values<'a> {
        let Some(cells) = cells else {
            return self.attribute(attribute);
        };
        match scope_below(attribute) {
            Some(scope) if !cells.rows(scope).is_empty() => {
                self.below(attribute).map_or(Values::Same(Field::Nil), |c| {
                    coded(c).of_rows(cells.rows(scope))
                })
            }
            _ => self.attribute(attribute).of_rows(&cells.spans),
        }
    }

    /// The column of an attribute of events or links.
    fn below(&self, attribute: &Attribute) -> Option<&'a Column> {
        match lower::column(attribute) {
            Some(AttributeRef::Attribute {
                scope: Some(scope),
                key,
            }) => column(scope, &key, self.batch),
            _ => None,
        }
    }

    /// The values of an attribute for all rows. Of the events of a span that one stands for it that
    /// satisfied a condition, and otherwise the first that has the attribute; so for links.
    pub(super) fn attribute(&self, attribute: &Attribute) -> Values<'a> {
        let batch = self.batch;
        match attribute {
            Attribute::Intrinsic(intrinsic) => match scope_below(attribute) {
                Some(scope) => self.one_of(scope, self.below(attribute)),
                None => intrinsic_values(*intrinsic, attribute, batch),
            },
            Attribute::Named {
                scope: Some(scope @ (Scope::Event | Scope::Link)),
                key,
                ..
            } => self.one_of(*scope, column(*scope, key, batch)),
            Attribute::Named {
                scope: Some(scope),
                key,
                ..
            } => named(*scope, key, batch),
            Attribute::Named {
                scope: None, key, ..
            } => {
                let (span, resource) = (
                    column(Scope::Span, key, batch),
                    column(Scope::Resource, key, batch),
                );
                match (span, resource) {
                    (None, None) => Values::Same(Field::Nil),
                    (Some(one), None) | (None, Some(one)) => coded(one),
                    (Some(span), Some(resource)) => either(span, resource),
                }
            }
        }
    }

    fn one_of(&self, scope: Scope, column: Option<&Column>) -> Values<'a> {
        let Some(column) = column else {
            return Values::Same(Field::Nil);
        };
        let satisfied = self.satisfied.borrow();
        let (owners, satisfied) = match scope {
            Scope::Event => (&self.batch.events, &satisfied.events),
            _ => (&self.batch.links, &satisfied.links),
        };
        let mut codes = vec![ABSENT; self.rows()];
        for (owner, code) in owners.iter().zip(&column.codes) {
            if let Some(held) = codes.get_mut(*owner as usize).filter(|c| **c == ABSENT) {
                *held = *code;
            }
        }
        for (held, row) in codes.iter_mut().zip(satisfied) {
            let code = column.codes.get(*row as usize).copied().unwrap_or(ABSENT);
            if code != ABSENT {
                *held = code;
            }
        }
        let values = column.dictionary.iter().map(Field::from).collect();
        Values::Coded(Cow::Owned(codes), values)
    }
}

/// The values of an attribute for all rows of a batch.
pub(super) fn attribute_values<'a>(attribute: &Attribute, batch: &'a SpanBatch) -> Values<'a> {
    let evaluation = Evaluation {
        batch,
        patterns: None,
        satisfied: RefCell::default(),
    };
    evaluation.attribute(attribute)
}

/// Applies `apply` once for each distinct value. Rows without a value are given to it as none.
fn map<'a>(values: Values<'a>, apply: impl Fn(&Field) -> Field) -> Values<'a> {
    match values {
        Values::Same(value) => Values::Same(apply(&value)),
        Values::Rows(values) => Values::Rows(values.iter().map(apply).collect()),
        Values::Coded(codes, values) => {
            let mut applied: Vec<Field> = values.iter().map(&apply).collect();
            match apply(&Field::Nil) {
                Field::Nil => Values::Coded(codes, applied),
                // None has become something: it needs a code.
                none => {
                    let code = applied.len() as u32;
                    applied.push(none);
                    let replaced = codes
                        .iter()
                        .map(|&c| if c == ABSENT { code } else { c })
                        .collect();
                    Values::Coded(Cow::Owned(replaced), applied)
                }
            }
        }
    }
}

/// `left op right` for so many rows.
fn pairs<'a>(
    op: Op,
    left: Values<'a>,
    right: Values<'a>,
    pattern: Option<&LabelRegex>,
    rows: usize,
) -> Values<'a> {
    let apply = |a: &Field, b: &Field| binary(op, a, b, pattern);
    match (left, right) {
        (left, Values::Same(b)) => map(left, |a| apply(a, &b)),
        (Values::Same(a), right) => map(right, |b| apply(&a, b)),
        (left, right) if matches!(op, Op::And | Op::Or) => {
            let (left, right) = (left.truths(rows), right.truths(rows));
            let field = |truth: &Truth| match truth {
                Truth::Yes => Field::Bool(true),
                Truth::No => Field::Bool(false),
                Truth::Fault(fault) => Field::Fault(*fault),
            };
            let mut truths = Truths::default();
            for pair in left.iter().zip(&right) {
                truths.push(&match pair {
                    (Truth::Yes, Truth::Yes) => Field::Bool(true),
                    (Truth::No, Truth::No) => Field::Bool(false),
                    (a, b) => apply(&field(a), &field(b)),
                });
            }
            truths.values()
        }
        (left, right) => {
            let rows = 0..rows;
            Values::Rows(
                rows.map(|row| apply(&left.get(row), &right.get(row)))
                    .collect(),
            )
        }
    }
}
