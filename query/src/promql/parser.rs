//! Text to syntax tree, by precedence climbing. Called through [`parse`] and [`parse_selector`].
//!
//! The first fault found is the error, with the text that Prometheus gives for it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod duration;
mod literal;
mod modifier;
mod selector;
mod series;

use std::sync::Arc;

use trine_storage::Matcher;

use super::ast::{Aggregate, Binary, Expr, ExprKind, Query, Sign};
use super::check;
use super::error::{Fault, SyntaxError};
use super::functions;
use super::lexer::{Keyword, Lexer, Token, TokenKind};
use crate::text::{Span, quote};
use crate::vector::{
    AggregateOp, BinaryOp, Cardinality, Comparison, Fill, Grouping, MatchLabels, Matching,
};

pub use series::{HistogramDescription, Sequence, SeriesDescription, SeriesValue, parse_series};

/// How deeply expressions may be nested, a chain of operators counting one level an operator.
/// It bounds the stack that parser, printer and evaluator need.
pub(super) const DEPTH_MAX: usize = 200;

/// Which parts of the language are switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseOptions {
    /// The functions and aggregations that the original calls experimental.
    pub experimental_functions: bool,
    /// Durations that are computed, `[5m * 2]`.
    pub duration_expressions: bool,
    /// The modifiers `anchored` and `smoothed`.
    pub extended_selectors: bool,
    /// The modifiers `fill`, `fill_left` and `fill_right`.
    pub fill_modifiers: bool,
}

impl Default for ParseOptions {
    /// All of them.
    fn default() -> Self {
        Self {
            experimental_functions: true,
            duration_expressions: true,
            extended_selectors: true,
            fill_modifiers: true,
        }
    }
}

/// Parses a query in the whole language and checks its types.
///
/// # Errors
/// The first fault, with its line and column.
pub fn parse(text: &str) -> Result<Query, SyntaxError> {
    parse_with(text, &ParseOptions::default())
}

/// Parses a query in the language that `options` leave, and checks its types.
///
/// # Errors
/// The first fault, with its line and column.
pub fn parse_with(text: &str, options: &ParseOptions) -> Result<Query, SyntaxError> {
    let expr = Parser::new(text, *options)
        .and_then(|mut parser| parser.query())
        .and_then(|expr| check::check(&expr).map(|()| expr))
        .map_err(|fault| SyntaxError::new(text, fault))?;
    Ok(Query {
        text: Arc::from(text),
        expr,
    })
}

/// Parses a series selector such as `up{job="api"}`, as `match[]` parameters hold it.
///
/// # Errors
/// The first fault, with its line and column.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, SyntaxError> {
    let parsed = Parser::new(text, ParseOptions::default()).and_then(|mut parser| {
        let expr = parser.selector()?;
        parser.expect_end()?;
        check::check(&expr).map(|()| expr)
    });
    match parsed {
        Ok(Expr {
            kind: ExprKind::Selector(selector),
            ..
        }) => Ok(selector.matchers),
        Ok(other) => Err(SyntaxError::new(
            text,
            Fault::new(other.span, "expected a selector"),
        )),
        Err(fault) => Err(SyntaxError::new(text, fault)),
    }
}

type Parsed<T = Expr> = Result<T, Fault>;

/// One token ahead of what is parsed.
#[derive(Debug)]
struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    token: Token,
    /// The end of the token before `token`.
    previous_end: usize,
    depth: usize,
    options: ParseOptions,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, options: ParseOptions) -> Parsed<Self> {
        let mut lexer = Lexer::new(text);
        let token = lexer.next()?;
        Ok(Self {
            text,
            lexer,
            token,
            previous_end: 0,
            depth: 0,
            options,
        })
    }

    fn query(&mut self) -> Parsed {
        if self.token.kind == TokenKind::End {
            return Err(Fault::new(Span::default(), "no expression found in input"));
        }
        let expr = self.expression(Precedence::Or)?;
        self.expect_end()?;
        Ok(expr)
    }

    fn expression(&mut self, at_least: Precedence) -> Parsed {
        self.descend()?;
        let depth_before = self.depth;
        let mut lhs = self.unary()?;
        while let TokenKind::Operator(op) = self.token.kind {
            let precedence = Precedence::of(op);
            if precedence < at_least {
                break;
            }
            self.descend()?;
            lhs = self.binary(op, precedence, lhs)?;
        }
        self.depth = depth_before - 1;
        Ok(lhs)
    }

    fn descend(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("expression is nested more than {DEPTH_MAX} levels deep");
            return Err(Fault::new(self.token.span, message));
        }
        Ok(())
    }

    fn binary(&mut self, op: BinaryOp, precedence: Precedence, lhs: Expr) -> Parsed {
        let op_span = self.advance()?.span;
        let comparison = if self.take_keyword(Keyword::Bool)? {
            Comparison::Bool
        } else {
            Comparison::Filter
        };
        let mut matching = self.matching()?;
        if op.is_set() && matching.cardinality == Cardinality::OneToOne {
            matching.cardinality = Cardinality::ManyToMany;
        }
        // All are left-associative but the power.
        let rhs_at_least = match op {
            BinaryOp::Pow => precedence,
            _ => precedence.next(),
        };
        let rhs = self.expression(rhs_at_least)?;
        let span = lhs.span.to(rhs.span);
        if !matching.fill.is_none() && !self.options.fill_modifiers {
            let message = "binop fill modifiers are experimental and not enabled";
            return Err(Fault::new(span, message));
        }
        let (lhs, rhs) = (Box::new(lhs), Box::new(rhs));
        let matching = Some(matching);
        let mut binary = Binary {
            op,
            op_span,
            comparison,
            matching,
            lhs,
            rhs,
        };
        check::settle_matching(&mut binary, span)?;
        Ok(Expr {
            kind: ExprKind::Binary(Box::new(binary)),
            span,
        })
    }

    /// `on (..)` or `ignoring (..)`, then `group_left (..)` or `group_right (..)`, then fills.
    fn matching(&mut self) -> Parsed<Matching> {
        let mut matching = self.match_labels()?;
        matching.fill = self.fills()?;
        Ok(matching)
    }

    fn match_labels(&mut self) -> Parsed<Matching> {
        let mut matching = Matching::default();
        match self.token.kind {
            TokenKind::Keyword(Keyword::On) => {
                self.advance()?;
                matching.labels = MatchLabels::On(self.label_list()?);
            }
            TokenKind::Keyword(Keyword::Ignoring) => {
                self.advance()?;
                matching.labels = MatchLabels::Ignoring(self.label_list()?);
            }
            _ => return Ok(matching),
        }
        matching.cardinality = match self.token.kind {
            TokenKind::Keyword(Keyword::GroupLeft) => Cardinality::ManyToOne,
            TokenKind::Keyword(Keyword::GroupRight) => Cardinality::OneToMany,
            _ => return Ok(matching),
        };
        self.advance()?;
        if self.token.kind == TokenKind::LeftParen {
            matching.include = self.label_list()?;
        }
        Ok(matching)
    }

    /// `fill (x)`, or `fill_left (x)` and `fill_right (y)` in any order. What no parenthesis
    /// follows is a metric of that name.
    fn fills(&mut self) -> Parsed<Fill> {
        let mut fill = Fill::default();
        loop {
            let TokenKind::Keyword(keyword) = self.token.kind else {
                return Ok(fill);
            };
            let free = match keyword {
                Keyword::Fill => fill.is_none(),
                Keyword::FillLeft => fill.left.is_none(),
                Keyword::FillRight => fill.right.is_none(),
                _ => false,
            };
            if !free || !self.lexer.parenthesis_follows() {
                return Ok(fill);
            }
            self.advance()?;
            let value = self.fill_value()?;
            if keyword != Keyword::FillRight {
                fill.left = Some(value);
            }
            if keyword != Keyword::FillLeft {
                fill.right = Some(value);
            }
            if keyword == Keyword::Fill {
                return Ok(fill);
            }
        }
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.expect(TokenKind::LeftParen, "", "")?;
        let negative = self.sign()?;
        if !matches!(self.token.kind, TokenKind::Number | TokenKind::Duration) {
            return Err(self.unexpected("", ""));
        }
        let token = self.advance()?;
        let value = self.number_of(token)?.value;
        self.expect(TokenKind::RightParen, "", "")?;
        Ok(if negative { -value } else { value })
    }

    fn unary(&mut self) -> Parsed {
        let sign = match self.token.kind {
            TokenKind::Operator(BinaryOp::Add) => Sign::Plus,
            TokenKind::Operator(BinaryOp::Sub) => Sign::Minus,
            _ => return self.postfix(),
        };
        let start = self.advance()?.span;
        // A sign binds like `*`, so it takes powers with it.
        let mut expr = self.expression(Precedence::Pow)?;
        let span = start.to(expr.span);
        if let ExprKind::Number(number) = &mut expr.kind {
            if sign == Sign::Minus {
                number.value = -number.value;
            }
            expr.span = span;
            return Ok(expr);
        }
        Ok(Expr {
            kind: ExprKind::Unary {
                sign,
                expr: Box::new(expr),
            },
            span,
        })
    }

    fn primary(&mut self) -> Parsed {
        match self.token.kind {
            TokenKind::Number | TokenKind::Duration => {
                let token = self.advance()?;
                let number = self.number_of(token)?;
                Ok(Expr {
                    kind: ExprKind::Number(number),
                    span: token.span,
                })
            }
            TokenKind::String => {
                let token = self.advance()?;
                let literal = self.literal_of(token)?;
                Ok(Expr {
                    kind: ExprKind::String(literal),
                    span: token.span,
                })
            }
            TokenKind::LeftParen => self.parenthesis(),
            TokenKind::LeftBrace => self.selector(),
            TokenKind::Aggregate(op) => self.aggregation_or_metric(op),
            TokenKind::Identifier => self.call_or_metric(),
            TokenKind::MetricIdentifier => self.selector(),
            _ if self.is_metric_name() => self.selector(),
            _ => Err(self.unexpected("", "")),
        }
    }

    fn parenthesis(&mut self) -> Parsed {
        let open = self.advance()?.span;
        let inner = self.expression(Precedence::Or)?;
        let close = self.expect(TokenKind::RightParen, "", "")?.span;
        Ok(Expr {
            kind: ExprKind::Paren(Box::new(inner)),
            span: open.to(close),
        })
    }

    /// A metric may be named like an aggregation: only what follows tells.
    fn aggregation_or_metric(&mut self, op: AggregateOp) -> Parsed {
        let token = self.advance()?;
        let mut grouping = None;
        match self.token.kind {
            TokenKind::LeftParen => {}
            TokenKind::Keyword(Keyword::By | Keyword::Without) => {
                grouping = Some(self.grouping()?);
                if self.token.kind != TokenKind::LeftParen {
                    return Err(self.unexpected("aggregation", ""));
                }
            }
            TokenKind::Identifier | TokenKind::MetricIdentifier => {
                return Err(self.unexpected("aggregation", ""));
            }
            _ => return self.selector_named(token),
        }
        let arguments = self.arguments()?;
        if matches!(
            self.token.kind,
            TokenKind::Keyword(Keyword::By | Keyword::Without)
        ) {
            if grouping.is_some() {
                return Err(self.unexpected("aggregation", ""));
            }
            grouping = Some(self.grouping()?);
        }
        let span = Span::new(token.span.start, self.previous_end);
        let experimental = matches!(op, AggregateOp::Limitk | AggregateOp::LimitRatio);
        if experimental && !self.options.experimental_functions && !arguments.is_empty() {
            let name = self.slice(token.span);
            let message = format!(
                "{name}() is experimental and must be enabled with \
                 --enable-feature=promql-experimental-functions"
            );
            return Err(Fault::new(span, message));
        }
        let grouping = grouping.unwrap_or(Grouping::By(Vec::new()));
        aggregate(op, grouping, arguments, span)
    }

    fn grouping(&mut self) -> Parsed<Grouping> {
        let keyword = self.advance()?.kind;
        let names = self.label_list()?;
        Ok(match keyword {
            TokenKind::Keyword(Keyword::Without) => Grouping::Without(names),
            _ => Grouping::By(names),
        })
    }

    fn call_or_metric(&mut self) -> Parsed {
        let token = self.advance()?;
        if self.token.kind != TokenKind::LeftParen {
            return self.selector_named(token);
        }
        let name = self.slice(token.span);
        let function = functions::lookup(name).ok_or_else(|| {
            Fault::new(
                token.span,
                format!("unknown function with name {}", quote(name)),
            )
        })?;
        if function.experimental && !self.options.experimental_functions {
            let message = format!("function {} is not enabled", quote(name));
            return Err(Fault::new(token.span, message));
        }
        let arguments = self.arguments()?;
        let span = Span::new(token.span.start, self.previous_end);
        Ok(Expr {
            kind: ExprKind::Call {
                function,
                arguments,
            },
            span,
        })
    }

    fn arguments(&mut self) -> Parsed<Vec<Expr>> {
        self.expect(TokenKind::LeftParen, "", "")?;
        let mut arguments = Vec::new();
        if self.token.kind == TokenKind::RightParen {
            self.advance()?;
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression(Precedence::Or)?);
            if self.token.kind != TokenKind::Comma {
                self.expect(TokenKind::RightParen, "", "")?;
                return Ok(arguments);
            }
            let comma = self.advance()?;
            if self.token.kind == TokenKind::RightParen {
                let message = "trailing commas not allowed in function call args";
                return Err(Fault::new(comma.span, message));
            }
        }
    }

    fn expect_end(&mut self) -> Parsed<()> {
        if self.token.kind == TokenKind::End {
            Ok(())
        } else {
            Err(self.unexpected("", ""))
        }
    }

    /// Takes the current token and reads the next one.
    fn advance(&mut self) -> Parsed<Token> {
        let next = self.lexer.next()?;
        self.previous_end = self.token.span.end;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn expect(&mut self, kind: TokenKind, context: &str, expected: &str) -> Parsed<Token> {
        if self.token.kind == kind {
            self.advance()
        } else {
            Err(self.unexpected(context, expected))
        }
    }

    fn take_keyword(&mut self, keyword: Keyword) -> Parsed<bool> {
        let found = self.token.kind == TokenKind::Keyword(keyword);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn unexpected(&self, context: &str, expected: &str) -> Fault {
        let mut message = format!("unexpected {}", self.token.describe(self.text));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        Fault::new(self.token.span, message)
    }

    fn slice(&self, span: Span) -> &'a str {
        self.text.get(span.start..span.end).unwrap_or("")
    }
}

fn aggregate(op: AggregateOp, grouping: Grouping, mut arguments: Vec<Expr>, span: Span) -> Parsed {
    let wanted = match op {
        AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::Quantile
        | AggregateOp::CountValues
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio => 2,
        _ => 1,
    };
    if arguments.is_empty() {
        return Err(Fault::new(
            span,
            "no arguments for aggregate expression provided",
        ));
    }
    let got = arguments.len();
    let vector = arguments.pop().filter(|_| got == wanted).ok_or_else(|| {
        let expected = format!("expected {wanted}, got {got}");
        Fault::new(
            span,
            format!("wrong number of arguments for aggregate expression provided, {expected}"),
        )
    })?;
    let parameter = arguments.pop().map(Box::new);
    let expr = Box::new(vector);
    Ok(Expr {
        kind: ExprKind::Aggregate(Aggregate {
            op,
            grouping,
            parameter,
            expr,
        }),
        span,
    })
}

/// How strongly an operator binds, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Precedence {
    Or,
    And,
    Comparison,
    Sum,
    Product,
    Pow,
    /// Stronger than every operator.
    Operand,
}

impl Precedence {
    pub(super) fn of(op: BinaryOp) -> Self {
        match op {
            BinaryOp::Or => Self::Or,
            BinaryOp::And | BinaryOp::Unless => Self::And,
            BinaryOp::Add | BinaryOp::Sub => Self::Sum,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => Self::Product,
            BinaryOp::Pow => Self::Pow,
            _ => Self::Comparison,
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Or => Self::And,
            Self::And => Self::Comparison,
            Self::Comparison => Self::Sum,
            Self::Sum => Self::Product,
            Self::Product => Self::Pow,
            Self::Pow | Self::Operand => Self::Operand,
        }
    }
}

#[cfg(test)]
mod tests;
