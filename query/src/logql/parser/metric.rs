//! Reads aggregations, operators and literals, for the parser.

use trine_storage::regex::LineRegex;

use super::{OPERATORS_MAX, Parser, Result};
use crate::logql::ast::{
    Binary, Expr, LabelReplace, LogExpr, LogRange, MetricExpr, MetricKind, RangeAggregation,
    RangeOp, Selector, Stage, Unwrap, VectorAggregation, VectorOp,
};
use crate::logql::lexer::Token;
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
            // `^` binds to the right, all others to the left.
            let tighter = precedence(op) + u8::from(precedence(op) != POWER);
            let right = self.expr(tighter)?;
            let left_leg = self.leg(start, op, "left", left)?;
            let right_leg = self.leg(start, op, "right", right)?;
            let binary = Binary {
                op,
                comparison,
                matching,
                left: left_leg,
                right: right_leg,
            };
            left = Expr::Metric(fold(binary, self.since(start)));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr> {
        let start = self.start();
        match self.peek().clone() {
            Token::Symbol("(") => {
                self.bump();
                let inner = self.expr(0)?;
                self.expect_symbol(")")?;
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

    fn metric(&self, start: usize, kind: MetricKind) -> Expr {
        Expr::Metric(MetricExpr {
            kind,
            span: self.since(start),
        })
    }

    fn signed_number(&mut self) -> Result<f64> {
        let start = self.start();
        let negative = self.take_symbol("-");
        if !negative {
            self.take_symbol("+");
        }
        let Token::Number(text) = self.peek().clone() else {
            return Err(self.unexpected(&["NUMBER"]));
        };
        self.bump();
        let value = self.number(start, &text)?;
        Ok(if negative { -value } else { value })
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
                let value = self.signed_number()?;
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
        let mut texts = [const { String::new() }; 4];
        for text in &mut texts {
            self.expect_symbol(",")?;
            *text = self.expect_text()?;
        }
        self.expect_symbol(")")?;
        let [to, replacement, from, regex] = texts;
        if let Err(error) = LineRegex::anchored(&regex) {
            return Err(self.invalid(start, format!("invalid regex in label_replace: {error}")));
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
        let param_text = self.param();
        let param = match &param_text {
            Some(text) => Some(self.number(start, text)?),
            None => None,
        };
        let range = self.log_range()?;
        self.expect_symbol(")")?;
        let grouping = self.grouping()?;
        let problem = match (op, param_text) {
            (RangeOp::Quantile, None) => Some(format!("parameter required for operation {name}")),
            (RangeOp::Quantile, Some(_)) | (_, None) => None,
            (_, Some(text)) => Some(format!(
                "parameter {text} not supported for operation {name}"
            )),
        };
        let problem = problem.or_else(|| match (&range.unwrap, &grouping) {
            (_, Some(_)) if !op.allows_grouping() => {
                Some(format!("grouping not allowed for {name} aggregation"))
            }
            (Some(_), _) if !op.allows_unwrap() => {
                Some(format!("invalid aggregation {name} with unwrap"))
            }
            (None, _) if !op.allows_lines() => {
                Some(format!("invalid aggregation {name} without unwrap"))
            }
            _ => None,
        });
        match problem {
            Some(message) => Err(self.invalid(start, message)),
            None => Ok(RangeAggregation {
                op,
                param,
                range,
                grouping,
            }),
        }
    }

    fn log_range(&mut self) -> Result<LogRange> {
        let start = self.start();
        let ranged = self.ranged()?;
        let Some(interval) = ranged.interval else {
            return Err(self.unexpected(&[]));
        };
        let Ranged {
            selector,
            stages,
            unwrap,
            offset,
            ..
        } = ranged;
        let log = LogExpr {
            selector,
            stages,
            span: self.since(start),
        };
        Ok(LogRange {
            log,
            unwrap,
            interval,
            offset,
        })
    }

    /// A selector with pipeline, unwrap, range and offset, in any of the orders allowed.
    fn ranged(&mut self) -> Result<Ranged> {
        let mut ranged = if self.take_symbol("(") {
            let inner = self.nested(Self::ranged)?;
            self.expect_symbol(")")?;
            inner
        } else if self.is_symbol("{") {
            Ranged {
                selector: self.selector()?,
                stages: Vec::new(),
                unwrap: None,
                interval: None,
                offset: 0,
            }
        } else {
            return Err(self.unexpected(&[]));
        };
        loop {
            match *self.peek() {
                Token::Range(nanos) if ranged.interval.is_none() => {
                    self.bump();
                    ranged.interval = Some(nanos);
                    ranged.offset = self.offset()?;
                }
                _ if ranged.unwrap.is_none() => {
                    let before = self.at;
                    self.pipeline(&mut ranged.stages)?;
                    ranged.unwrap = self.unwrap_stage()?;
                    if self.at == before {
                        return Ok(ranged);
                    }
                }
                _ => return Ok(ranged),
            }
        }
    }

    fn offset(&mut self) -> Result<i64> {
        if !self.take_keyword("offset") {
            return Ok(0);
        }
        let negative = self.take_symbol("-");
        let Token::Duration(nanos) = *self.peek() else {
            return Err(self.unexpected(&["DURATION"]));
        };
        self.bump();
        Ok(if negative { -nanos } else { nanos })
    }

    fn vector_aggregation(&mut self, start: usize, op: VectorOp) -> Result<VectorAggregation> {
        let name = op.name();
        let before = self.grouping()?;
        self.expect_symbol("(")?;
        let param_text = self.param();
        let inner = Box::new(self.metric_argument()?);
        self.expect_symbol(")")?;
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
        let param = param.map_err(|message| self.invalid(start, message))?;
        let message = match op {
            VectorOp::Sort | VectorOp::SortDesc => "sort and sort_desc doesn't allow grouping by ",
            VectorOp::ApproxTopk => "grouping not allowed for approx_topk aggregation",
            _ => "",
        };
        if grouping.is_some() && !message.is_empty() {
            return Err(self.invalid(start, message));
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
        if self.is_group_labels() {
            matching.include = self.label_list()?;
        }
        Ok(matching)
    }

    /// Whether the parenthesis after `group_left` holds labels rather than the right operand.
    fn is_group_labels(&self) -> bool {
        self.is_symbol("(")
            && match self.token(1) {
                Token::Symbol(")") => true,
                Token::Ident(_) => matches!(self.token(2), Token::Symbol("," | ")")),
                _ => false,
            }
    }

    fn leg(&self, start: usize, op: BinaryOp, side: &str, expr: Expr) -> Result<MetricExpr> {
        let symbol = op;
        let message = match expr {
            Expr::Log(log) => {
                let kind = if log.stages.is_empty() {
                    "*syntax.MatchersExpr"
                } else {
                    "*syntax.PipelineExpr"
                };
                format!("unexpected type for {side} leg of binary operation ({symbol}): {kind}")
            }
            Expr::Metric(MetricExpr {
                kind: MetricKind::Literal(value),
                ..
            }) if op.is_set() => {
                format!(
                    "unexpected literal for {side} leg of logical/set binary operation \
                     ({symbol}): {}",
                    format_fixed(value, 6)
                )
            }
            Expr::Metric(metric) => return Ok(metric),
        };
        Err(self.invalid(start, message))
    }
}

/// How tightly an operator binds; larger binds tighter.
fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 5,
        BinaryOp::Pow | BinaryOp::Atan2 => POWER,
        _ => 3,
    }
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
