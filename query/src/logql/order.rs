//! The order in which stages are best run: lines are dropped before they are parsed. Called by
//! whoever compiles a pipeline.

use super::ast::{LineFilter, LineOp, LineOperand, LogExpr, Stage, StageKind};

impl LogExpr {
    /// The stages with line filters as early as is safe: ahead of parsers and of the label filters
    /// behind these, but behind every stage that changes lines. What comes out is the same.
    ///
    /// ```
    /// use trine_query::logql::{ast::Expr, parse};
    ///
    /// let Expr::Log(log) = parse("{app=\"a\"} | json | status=500 |= \"x\"")? else { panic!() };
    /// let stages: Vec<_> = log.filters_first().iter().map(|s| s.to_string()).collect();
    /// assert_eq!(stages, ["|= \"x\"", "| json", "| status==500"]);
    /// # Ok::<(), trine_query::logql::ParseError>(())
    /// ```
    pub fn filters_first(&self) -> Vec<&Stage> {
        filters_first(&self.stages)
    }

    /// Whether a stage can drop lines.
    pub fn has_filter(&self) -> bool {
        self.stages.iter().any(|stage| match &stage.kind {
            StageKind::LineFilter(filter) => !filter.matches_all(),
            StageKind::LabelFilter(_) => true,
            _ => false,
        })
    }
}

/// See [`LogExpr::filters_first`].
pub(super) fn filters_first(stages: &[Stage]) -> Vec<&Stage> {
    let mut ordered = Vec::with_capacity(stages.len());
    let mut later = Vec::new();
    for stage in stages {
        match &stage.kind {
            StageKind::LineFilter(_) => ordered.push(stage),
            // A condition on labels that are there already is as cheap.
            StageKind::LabelFilter(_) if later.is_empty() => ordered.push(stage),
            StageKind::LineFormat(_) | StageKind::Unpack | StageKind::Decolorize => {
                later.push(stage);
                ordered.append(&mut later);
            }
            _ => later.push(stage),
        }
    }
    ordered.append(&mut later);
    ordered
}

impl LineFilter {
    /// Whether it is one of `|= ""` and `|~ ""`, which every line passes.
    pub fn matches_all(&self) -> bool {
        let nothing = |operand: &LineOperand| *operand == LineOperand::Text(String::new());
        matches!(self.op, LineOp::Contains | LineOp::Matches) && self.operands.iter().any(nothing)
    }
}
