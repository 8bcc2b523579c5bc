//! Which selectors find counter resets for themselves: those whose histograms serve only for their
//! count and sum. Aggregations can then warn of sums of counters of which only some began anew.
//! Found once a query, by the engine.

use std::collections::HashSet;

use crate::promql::ast::{Expr, ExprKind, Selector};
use crate::promql::functions::{Action, Function};

/// The selectors of a query, by their address in its tree.
#[derive(Debug, Default)]
pub(super) struct ResetHints(HashSet<usize>);

impl ResetHints {
    pub(super) fn of(expr: &Expr) -> Self {
        let mut found = Self::default();
        found.visit(expr, false);
        found
    }

    pub(super) fn wants(&self, selector: &Selector) -> bool {
        !self.0.is_empty() && self.0.contains(&std::ptr::from_ref(selector).addr())
    }

    /// `wanted` says what the nearest function around asks for.
    fn visit(&mut self, expr: &Expr, wanted: bool) {
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => {}
            ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
                if wanted {
                    self.0.insert(std::ptr::from_ref(selector).addr());
                }
            }
            // Between its steps samples are left out.
            ExprKind::Subquery(subquery) => self.visit(&subquery.expr, false),
            ExprKind::Aggregate(aggregate) => self.visit(&aggregate.expr, wanted),
            ExprKind::Binary(binary) => {
                self.visit(&binary.lhs, false);
                self.visit(&binary.rhs, false);
            }
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => self.visit(expr, wanted),
            ExprKind::Call {
                function,
                arguments,
            } => {
                let wanted = asks(function).unwrap_or(wanted);
                arguments
                    .iter()
                    .for_each(|argument| self.visit(argument, wanted));
            }
        }
    }
}

/// Whether a function needs no more of a histogram than count and sum; `None` where that depends
/// on what is around it.
fn asks(function: &Function) -> Option<bool> {
    match function.action {
        Action::HistogramQuantile | Action::HistogramQuantiles | Action::HistogramFraction => {
            Some(false)
        }
        Action::HistogramValue(_) => match function.name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => Some(true),
            _ => None,
        },
        _ => None,
    }
}
