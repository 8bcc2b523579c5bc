//! Syntax tree to text over several lines, as `format_query` answers: what does not fit into a
//! line is split at its operands, which are indented. Called through [`Query::pretty`].

use std::fmt::{self, Formatter};

use super::ast::{Binary, Expr, ExprKind, Query, Sign};

/// The most bytes of an expression that stays on one line.
const LINE_MAX: usize = 100;

const INDENT: &str = "  ";

impl Query {
    /// The query over as many lines as make it readable, in the original's layout.
    pub fn pretty(&self) -> String {
        Layout { line_max: LINE_MAX }.expr(&self.expr, 0)
    }
}

/// Prints a part of a node.
struct Part<F: Fn(&mut Formatter<'_>) -> fmt::Result>(F);

impl<F: Fn(&mut Formatter<'_>) -> fmt::Result> fmt::Display for Part<F> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0(f)
    }
}

struct Layout {
    line_max: usize,
}

impl Layout {
    /// The expression, its first line indented by `level` as well.
    fn expr(&self, expr: &Expr, level: usize) -> String {
        let (indent, whole) = (INDENT.repeat(level), expr.to_string());
        let fits = whole.len() <= self.line_max;
        match &expr.kind {
            // A sign stays with what follows it, whatever its length.
            ExprKind::Unary { sign, expr } => {
                let sign = if *sign == Sign::Minus { "-" } else { "+" };
                format!("{indent}{sign}{}", self.expr(expr, level).trim())
            }
            // So it is there: a subquery that fits is not indented.
            ExprKind::Subquery(_) if fits => whole,
            _ if fits => format!("{indent}{whole}"),
            ExprKind::Subquery(subquery) => {
                let inner = self.expr(&subquery.expr, level);
                format!("{inner}{}", Part(|f| subquery.suffix(f)))
            }
            ExprKind::Aggregate(aggregate) => {
                let mut inner = String::new();
                if let Some(parameter) = &aggregate.parameter {
                    inner = self.expr(parameter, level + 1) + ",\n";
                }
                inner += &self.expr(&aggregate.expr, level + 1);
                let head = Part(|f| aggregate.head(f));
                format!("{indent}{head}(\n{inner}\n{indent})")
            }
            ExprKind::Binary(binary) => self.binary(binary, level),
            ExprKind::Call {
                function,
                arguments,
            } => {
                let lines = arguments.iter().map(|one| self.expr(one, level + 1));
                let inner = lines.collect::<Vec<_>>().join(",\n");
                format!("{indent}{}(\n{inner}\n{indent})", function.name)
            }
            ExprKind::Paren(inner) => {
                format!("{indent}(\n{}\n{indent})", self.expr(inner, level + 1))
            }
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::Selector(_)
            | ExprKind::Range { .. } => format!("{indent}{whole}"),
        }
    }

    fn binary(&self, binary: &Binary, level: usize) -> String {
        let head = Part(|f| binary.head(f));
        format!(
            "{}\n{}{head}\n{}",
            self.expr(&binary.lhs, level + 1),
            INDENT.repeat(level),
            self.expr(&binary.rhs, level + 1)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;
    use crate::promql::parse;

    #[test]
    fn what_fits_stays_on_its_line() {
        let text = format!("sum by (job) (rate({}[5m]))", "x".repeat(76));
        assert_eq!(text.len(), 101);
        let split = parse(&text).unwrap().pretty();
        assert_eq!(split.lines().count(), 3, "{split}");
        let text = text.replacen('x', "", 1);
        assert_eq!(parse(&text).unwrap().pretty(), text);
    }

    #[test]
    fn operands_are_indented_below_their_operators() {
        let table = [
            ("aa", "aa"),
            ("aaaa+bbbbbb", "  aaaa\n+\n  bbbbbb"),
            ("a*on(l)group_left(m)b", "  a\n* on (l) group_left (m)\n  b"),
            (
                "aaaaa>bool fill(2) bbbbbb",
                "  aaaaa\n> bool fill (2)\n  bbbbbb",
            ),
            ("topk(3, aaaaaaaa)", "topk(\n  3,\n  aaaaaaaa\n)"),
            ("sum(aaaaaaaaa) by (b)", "sum by (b) (\n  aaaaaaaaa\n)"),
            ("-rate(aaaa[5m])", "-rate(\n  aaaa[5m]\n)"),
            ("(aaaaaaaaaa)", "(\n  aaaaaaaaaa\n)"),
            (
                "rate(aaaaaaaa[5m] anchored offset 1m)",
                "rate(\n  aaaaaaaa[5m] anchored offset 1m\n)",
            ),
            (
                "max_over_time(rate(a[1m])[5m:] @ end())",
                "max_over_time(\n  rate(\n    a[1m]\n  )[5m:] @ end()\n)",
            ),
            ("last_over_time(a[5m:])", "last_over_time(\na[5m:]\n)"),
            (
                "label_replace(a,\"b\",\"c\",\"d\",\"e\")",
                "label_replace(\n  a,\n  \"b\",\n  \"c\",\n  \"d\",\n  \"e\"\n)",
            ),
        ];
        let layout = Layout { line_max: 10 };
        for (text, expect) in table {
            let query = parse(text).unwrap();
            let pretty = layout.expr(&query.expr, 0);
            assert_eq!(pretty, expect, "{text}");
            assert_eq!(
                parse(&pretty).unwrap().to_string(),
                query.to_string(),
                "the layout changes nothing else"
            );
        }
    }
}
