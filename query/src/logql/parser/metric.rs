//! Reads aggregations, operators and literals, for the parser.

use trine_storage::regex::LineRegex;

use super::{OPERATORS_MAX, Parser, Result};
use crate::logql::ast::{
    Binary, Expr, LabelReplace, LogExpr, LogRange, MetricExpr, MetricKind, RangeAggregation,
    RangeOp, Selector, Stage, Unwrap, VectorAggregation, VectorOp,
};
use crate::logql::lexer::Token;
use crate::logql::units;
use crate::text::{Span, format_fixed};
use crate::vector::{
    Arithmetic, BinaryOp, Cardinality, Comparison, Grouping, MatchLabels, Matching,
};

/// How tightly `^` binds.
const POWER: u8 = 6;

/// A range as far as it has been read.
struct Ranged {
    selector: Selector,
    stages: Vec<Stage>,
    unwrap: Option<Unwrap>,
    interval: Option<i64>,
    offset: i64,
}

impl Ranged {
    fn is_bare(&self) -> bool {
        self.stages.is_empty() && self.unwrap.is_none()
    }

    /// What may follow when nothing that is there does.
    fn expected(&self, in_parentheses: bool) -> &'static [&'static str] {
        match (self.interval, &self.unwrap) {
            (Some(_), _) => &[")"],
            (None, Some(_)) if in_parentheses => &["RANGE", ")", "|"],
            (None, Some(_)) => &["RANGE", "|"],
            (None, None) => &[],
        }
    }
}

impl Parser<'_> {
    /// Reads an expression whose operators bind at least as tightly as `least`.
    pub(super) fn expr(&mut self, least: u8) -> Result<Expr> {
        self.nested(|parser| parser.operators(least))
    }

    fn operators(&mut self, least: u8) -> Result<Expr> {
        let start = self.start();
        let mut left = self.operand()?;
        while let Some(op) = self.binary_op()
            && precedence(op) >= least
        {
            self.operators += 1;
            if self.operators > OPERATORS_MAX {
                let message = format!("the query has more than {OPERATORS_MAX} binary operators");
                return Err(self.invalid(start, message));
            }
            self.bump();
            let comparison = if self.take_keyword("bool") {
                Comparison::Bool
            } else {
                Comparison::Filter
            };
            let matching = self.matching()?;
            let tighter = precedence(op) + u8::from(!binds_right(op));
            let right = self.expr(tighter)?;
            let span = self.since(start);
            left = Expr::Metric(match (leg(op, "left", left), leg(op, "right", right)) {
                (Ok(left), Ok(right)) => {
                    let binary = Binary {
                        op,
                        comparison,
                        matching,
                        left,
                        right,
                    };
                    fold(binary, span)
                }
                (Err(message), _) | (_, Err(message)) => {
                    self.flaw(start, message);
                    let kind = MetricKind::Vector(f64::NAN);
                    MetricExpr { kind, span }
                }
            });
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr> {
        let start = self.start();
        match self.peek().clone() {
            Token::Symbol("(") => {
                self.bump();
                let inner = self.expr(0)?;
                self.close()?;
                Ok(inner)
            }
            Token::Symbol("{") => Ok(Expr::Log(self.log_expr()?)),
            Token::Number(_) | Token::Symbol("+" | "-") => {
                let value = self.signed_number()?;
                Ok(self.metric(start, MetricKind::Literal(value)))
            }
            Token::Function(name) => self.call(start, name),
            _ => Err(self.unexpected(&[])),
        }
    }

    /// The parenthesis after an expression, where operators could stand as well.
    pub(super) fn close(&mut self) -> Result<()> {
        match self.take_symbol(")") {
            true => Ok(()),
            false => Err(self.unexpected(&[])),
        }
    }

    fn metric(&self, start: usize, kind: MetricKind) -> Expr {
        Expr::Metric(MetricExpr {
            kind,
            span: self.since(start),
        })
    }

    /// A number with or without a sign.
    pub(super) fn signed_number(&mut self) -> Result<f64> {
        let negative = self.take_symbol("-");
        if !negative {
            self.take_symbol("+");
        }
        let value = self.plain_number()?;
        Ok(if negative { -value } else { value })
    }

    fn plain_number(&mut self) -> Result<f64> {
        let start = self.start();
        let Token::Number(text) = self.peek().clone() else {
            return Err(self.unexpected(&["NUMBER"]));
        };
        self.bump();
        self.number(start, &text)
    }

    fn call(&mut self, start: usize, name: &'static str) -> Result<Expr> {
        if let Some(op) = RangeOp::ALL.into_iter().find(|op| op.name() == name) {
            self.bump();
            let range = self.range_aggregation(start, op)?;
            return Ok(self.metric(start, MetricKind::Range(range)));
        }
        if let Some(op) = VectorOp::ALL.into_iter().find(|op| op.name() == name) {
            self.bump();
            let aggregation = self.vector_aggregation(start, op)?;
            return Ok(self.metric(start, MetricKind::Aggregate(aggregation)));
        }
        match name {
            "vector" => {
                self.bump();
                self.expect_symbol("(")?;
                let value = self.plain_number()?;
                self.expect_symbol(")")?;
                Ok(self.metric(start, MetricKind::Vector(value)))
            }
            "label_replace" => {
                self.bump();
                let replace = self.label_replace(start)?;
                Ok(self.metric(start, MetricKind::LabelReplace(Box::new(replace))))
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    fn label_replace(&mut self, start: usize) -> Result<LabelReplace> {
        self.expect_symbol("(")?;
        let inner = self.metric_argument()?;
        if !self.is_symbol(",") {
            return Err(self.unexpected(&[]));
        }
        let mut texts = [const { String::new() }; 4];
        for text in &mut texts {
            self.expect_symbol(",")?;
            *text = self.expect_text()?;
        }
        self.expect_symbol(")")?;
        let [to, replacement, from, regex] = texts;
        if let Err(error) = LineRegex::anchored(&regex) {
            self.flaw(start, format!("invalid regex in label_replace: {error}"));
        }
        Ok(LabelReplace {
            inner,
            to,
            replacement,
            from,
            regex,
        })
    }

    /// An argument that must be a metric expression.
    fn metric_argument(&mut self) -> Result<MetricExpr> {
        match self.expr(0)? {
            Expr::Metric(metric) => Ok(metric),
            Expr::Log(_) => Err(self.unexpected(&[])),
        }
    }

    fn grouping(&mut self) -> Result<Option<Grouping>> {
        Ok(if self.take_keyword("by") {
            Some(Grouping::By(self.label_list()?))
        } else if self.take_keyword("without") {
            Some(Grouping::Without(self.label_list()?))
        } else {
            None
        })
    }

    /// A number and a comma, the first argument of some functions, with the number's text.
    fn param(&mut self) -> Option<String> {
        let Token::Number(text) = self.peek() else {
            return None;
        };
        let text = text.clone();
        if *self.token(1) != Token::Symbol(",") {
            return None;
        }
        self.at += 2;
        Some(text)
    }

    fn range_aggregation(&mut self, start: usize, op: RangeOp) -> Result<RangeAggregation> {
        let name = op.name();
        self.expect_symbol("(")?;
        let mut param_text = None;
        if let Token::Number(text) = self.peek() {
            param_text = Some(text.clone());
            self.bump();
            self.expect_symbol(",")?;
        }
        let openings: &[&str] = match param_text {
            Some(_) => &["{", "("],
            None => &["NUMBER", "{", "("],
        };
        let range = self.log_range(openings)?;
        self.expect_symbol(")")?;
        let grouping = self.grouping()?;
        let param = match (op, param_text) {
            (RangeOp::Quantile, None) => Err(format!("parameter required for operation {name}")),
            (RangeOp::Quantile, Some(text)) => match units::float(&text) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(format!("invalid parameter for operation {name}: {error}")),
            },
            (_, None) => Ok(None),
            (_, Some(text)) => Err(format!(
                "parameter {text} not supported for operation {name}"
            )),
        };
        let param = param.and_then(|param| match (&range.unwrap, &grouping) {
            (_, Some(_)) if !op.allows_grouping() => {
                Err(format!("grouping not allowed for {name} aggregation"))
            }
            (Some(_), _) if !op.allows_unwrap() => {
                Err(format!("invalid aggregation {name} with unwrap"))
            }
            (None, _) if !op.allows_lines() => {
                Err(format!("invalid aggregation {name} without unwrap"))
            }
            _ => Ok(param),
        });
        Ok(RangeAggregation {
            op,
            param: self.sound(start, param),
            range,
            grouping,
        })
    }

    /// The value of a parameter; what is wrong with it is noted.
    fn sound<T>(&mut self, start: usize, param: Result<Option<T>, String>) -> Option<T> {
        param.unwrap_or_else(|message| {
            self.flaw(start, message);
            None
        })
    }

    /// Reads a selector with its window; `openings` are the tokens that may begin it.
    fn log_range(&mut self, openings: &[&str]) -> Result<LogRange> {
        let start = self.start();
        let ranged = self.ranged(openings)?;
        let Some(interval) = ranged.interval else {
            return Err(self.unexpected(ranged.expected(false)));
        };
        let log = LogExpr {
            selector: ranged.selector,
            stages: ranged.stages,
            span: self.since(start),
        };
        Ok(LogRange {
            log,
            unwrap: ranged.unwrap,
            interval,
            offset: ranged.offset,
        })
    }

    /// A selector with a window before or behind its pipeline, and parentheses around what is
    /// before the window or around all. Without parentheses the window may be missing yet.
    fn ranged(&mut self, openings: &[&str]) -> Result<Ranged> {
        if self.take_symbol("(") {
            let mut ranged = self.nested(|parser| parser.ranged(&["{", "("]))?;
            if !self.take_symbol(")") {
                return Err(self.unexpected(ranged.expected(true)));
            }
            if ranged.interval.is_none() {
                if !self.window(&mut ranged)? {
                    return Err(self.unexpected(&["RANGE"]));
                }
                if ranged.is_bare() {
                    ranged.unwrap = self.unwrap_stage()?;
                }
            }
            return Ok(ranged);
        }
        if !self.is_symbol("{") {
            return Err(self.unexpected(openings));
        }
        let selector = self.selector()?;
        self.check_selector(&selector);
        let mut ranged = Ranged {
            selector,
            stages: Vec::new(),
            unwrap: None,
            interval: None,
            offset: 0,
        };
        let first = self.window(&mut ranged)?;
        self.pipeline_before_unwrap(&mut ranged.stages)?;
        ranged.unwrap = self.unwrap_stage()?;
        if !first {
            self.window(&mut ranged)?;
        }
        Ok(ranged)
    }

    /// Reads `[5m] offset 1m` if it is there.
    fn window(&mut self, ranged: &mut Ranged) -> Result<bool> {
        let Token::Range(nanos) = *self.peek() else {
            return Ok(false);
        };
        self.bump();
        ranged.interval = Some(nanos);
        ranged.offset = self.offset()?;
        Ok(true)
    }

    fn offset(&mut self) -> Result<i64> {
        if !self.take_keyword("offset") {
            return Ok(0);
        }
        let Token::Duration(nanos) = *self.peek() else {
            return Err(self.unexpected(&["DURATION"]));
        };
        self.bump();
        Ok(nanos)
    }

    fn vector_aggregation(&mut self, start: usize, op: VectorOp) -> Result<VectorAggregation> {
        let name = op.name();
        let before = self.grouping()?;
        self.expect_symbol("(")?;
        let param_text = self.param();
        let inner = Box::new(self.metric_argument()?);
        self.close()?;
        let grouping = if before.is_some() {
            before
        } else {
            self.grouping()?
        };
        let param = match (op.takes_param(), param_text) {
            (true, None) => Err(format!("parameter required for operation {name}")),
            (false, Some(text)) => Err(format!(
                "unsupported parameter for operation {name}({text},"
            )),
            (false, None) => Ok(None),
            (true, Some(text)) => match text.parse::<i64>() {
                Err(_) => Err(format!("invalid parameter {name}({text},")),
                Ok(..=0) => Err(format!(
                    "invalid parameter (must be greater than 0) {name}({text}"
                )),
                Ok(k) => Ok(Some(u32::try_from(k).unwrap_or(u32::MAX))),
            },
        };
        let param = self.sound(start, param);
        let message = match op {
            VectorOp::Sort | VectorOp::SortDesc => "sort and sort_desc doesn't allow grouping by ",
            VectorOp::ApproxTopk => "grouping not allowed for approx_topk aggregation",
            _ => "",
        };
        if grouping.is_some() && !message.is_empty() {
            self.flaw(start, message);
        }
        Ok(VectorAggregation {
            op,
            param,
            grouping,
            inner,
        })
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        Some(match self.peek() {
            Token::Keyword("or") => BinaryOp::Or,
            Token::Keyword("and") => BinaryOp::And,
            Token::Keyword("unless") => BinaryOp::Unless,
            Token::Symbol("+") => BinaryOp::Add,
            Token::Symbol("-") => BinaryOp::Sub,
            Token::Symbol("*") => BinaryOp::Mul,
            Token::Symbol("/") => BinaryOp::Div,
            Token::Symbol("%") => BinaryOp::Mod,
            Token::Symbol("^") => BinaryOp::Pow,
            Token::Symbol("==") => BinaryOp::Equal,
            Token::Symbol("!=") => BinaryOp::NotEqual,
            Token::Symbol(">") => BinaryOp::Greater,
            Token::Symbol(">=") => BinaryOp::GreaterEqual,
            Token::Symbol("<") => BinaryOp::Less,
            Token::Symbol("<=") => BinaryOp::LessEqual,
            _ => return None,
        })
    }

    fn matching(&mut self) -> Result<Matching> {
        let mut matching = Matching::default();
        matching.labels = if self.take_keyword("on") {
            MatchLabels::On(self.label_list()?)
        } else if self.take_keyword("ignoring") {
            MatchLabels::Ignoring(self.label_list()?)
        } else {
            return Ok(matching);
        };
        matching.cardinality = if self.take_keyword("group_left") {
            Cardinality::ManyToOne
        } else if self.take_keyword("group_right") {
            Cardinality::OneToMany
        } else {
            return Ok(matching);
        };
        if self.is_symbol("(") {
            matching.include = self.label_list()?;
        }
        Ok(matching)
    }
}

/// An operand of an operator, or why it cannot be one.
fn leg(op: BinaryOp, side: &str, expr: Expr) -> Result<MetricExpr, String> {
    match expr {
        Expr::Log(log) => {
            let kind = if log.stages.is_empty() {
                "*syntax.MatchersExpr"
            } else {
                "*syntax.PipelineExpr"
            };
            Err(format!(
                "unexpected type for {side} leg of binary operation ({op}): {kind}"
            ))
        }
        Expr::Metric(MetricExpr {
            kind: MetricKind::Literal(value),
            ..
        }) if op.is_set() => Err(format!(
            "unexpected literal for {side} leg of logical/set binary operation ({op}): {}",
            format_fixed(value, 6)
        )),
        Expr::Metric(metric) => Ok(metric),
    }
}

/// How tightly an operator binds; larger binds tighter.
pub(in crate::logql) fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 5,
        BinaryOp::Pow | BinaryOp::Atan2 => POWER,
        _ => 3,
    }
}

/// Whether of two such operators in a row the second is computed first.
pub(in crate::logql) fn binds_right(op: BinaryOp) -> bool {
    precedence(op) == POWER
}

/// The operator, or its value when both operands are numbers.
fn fold(binary: Binary, span: Span) -> MetricExpr {
    let kind = match (&binary.left.kind, &binary.right.kind) {
        (MetricKind::Literal(left), MetricKind::Literal(right)) => {
            MetricKind::Literal(binary.op.apply(*left, *right, Arithmetic::Loki))
        }
        _ => MetricKind::Binary(Box::new(binary)),
    };
    MetricExpr { kind, span }
}
