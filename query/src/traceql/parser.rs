//! Words to tree, by precedence climbing.
//!
//! Precedence, low to high: `|`; `&& ||` (one level); comparisons and structural operators (one
//! level); `+ -`; `!`; `* / %`; `^` (to the right); unary minus.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod metrics;

use super::ast::{
    Aggregate, Attribute, FieldExpr, Form, MetricsExpr, MetricsFunction, MetricsTerm, NEGATE_POWER,
    NOT_POWER, Op, Pipeline, Query, Relation, Root, ScalarExpr, SpansetExpr, SpansetOp, Stage,
    Static,
};
use super::error::ParseError;
use super::lexer::{Token, lex};
use super::printer::scope_name;
use super::validate;
use crate::text::Span;

/// How deep brackets and signs may be nested.
pub const NESTING_MAX: usize = 128;

/// How many operators a query may hold, those between stages among them. A chain of them is as deep
/// a tree as brackets are, and all that walks the tree calls itself.
pub const OPERATORS_MAX: usize = 500;

/// Words that mean something where a stage may stand; errors call them by their names.
const KEYWORDS: [&str; 11] = [
    "avg", "bottomk", "by", "coalesce", "count", "max", "min", "select", "sum", "topk", "with",
];

const AGGREGATES: [&str; 5] = ["count", "min", "max", "avg", "sum"];

/// Reads and checks a query.
///
/// # Errors
/// [`ParseError`] with Tempo's text: where the text is no query, or what makes no sense in it.
pub fn parse(text: &str) -> Result<Query, ParseError> {
    let tokens = lex(text)?;
    let mut parser = Parser {
        text,
        tokens,
        at: 0,
        depth: 0,
        operators: 0,
    };
    let pipeline = parser.pipeline()?;
    let root = match parser.over_time()? {
        Some((metrics, then)) => Root::Metrics(MetricsExpr {
            term: MetricsTerm::Function(pipeline.into(), metrics),
            then,
        }),
        None => Root::Search(pipeline),
    };
    let hints = parser.hints()?;
    parser.expect_end()?;
    let query = Query { root, hints };
    validate::check(&query)?;
    Ok(query)
}

/// Reads the name of one attribute or intrinsic: `span.http.method`, `."a b"`, `kind`.
///
/// # Errors
/// [`ParseError`] where the text is anything else.
pub fn parse_attribute(text: &str) -> Result<Attribute, ParseError> {
    let parser = Parser {
        text,
        tokens: lex(text)?,
        at: 0,
        depth: 0,
        operators: 0,
    };
    match parser.tokens.as_slice() {
        [(Token::Attribute(attribute), _), (Token::End, _)] => Ok(attribute.clone()),
        _ => Err(parser.unexpected("")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    operators: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens
            .get(self.at)
            .map_or(&Token::End, |(token, _)| token)
    }

    fn span(&self) -> Span {
        let end = Span::new(self.text.len(), self.text.len());
        self.tokens.get(self.at).map_or(end, |(_, span)| *span)
    }

    /// The word after the next one.
    fn second(&self) -> &Token {
        self.tokens
            .get(self.at + 1)
            .map_or(&Token::End, |(token, _)| token)
    }

    fn advance(&mut self) -> (Token, Span) {
        let span = self.span();
        let token = self
            .tokens
            .get(self.at)
            .map_or(Token::End, |(token, _)| token.clone());
        self.at += 1;
        (token, span)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<Span, ParseError> {
        let span = self.span();
        if self.take(sign) {
            Ok(span)
        } else {
            Err(self.unexpected(&format!("expecting {sign}")))
        }
    }

    fn expect_end(&self) -> Result<(), ParseError> {
        if *self.peek() == Token::End {
            Ok(())
        } else {
            Err(self.unexpected("expecting with"))
        }
    }

    fn unexpected(&self, expecting: &str) -> ParseError {
        let found = match self.peek() {
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Ident(name)
                if KEYWORDS.contains(&name.as_str()) || metrics_function(name).is_some() =>
            {
                name.clone()
            }
            Token::Ident(_) => "IDENTIFIER".to_owned(),
            Token::Attribute(Attribute::Named { parent: true, .. }) => "parent.".to_owned(),
            Token::Attribute(Attribute::Named { scope, .. }) => {
                format!("{}.", scope.map_or("", scope_name))
            }
            Token::Attribute(attribute) => attribute.to_string(),
            Token::Static(Static::Str(_)) => "STRING".to_owned(),
            Token::Static(Static::Int(_)) => "INTEGER".to_owned(),
            Token::Static(Static::Float(_)) => "FLOAT".to_owned(),
            Token::Static(Static::Duration(_)) => "DURATION".to_owned(),
            Token::Static(literal) => literal.to_string(),
            Token::End => "$end".to_owned(),
        };
        let mut what = format!("syntax error: unexpected {found}");
        if !expecting.is_empty() {
            what = format!("{what}, {expecting}");
        }
        self.error(&what)
    }

    fn error(&self, what: &str) -> ParseError {
        self.error_at(self.span(), what)
    }

    fn error_at(&self, span: Span, what: &str) -> ParseError {
        let position = span.position_in(self.text);
        let (line, column) = (position.line, position.column);
        ParseError {
            span,
            message: format!("parse error at line {line}, col {column}: {what}"),
        }
    }

    /// Runs `inner` one level deeper.
    fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth >= NESTING_MAX {
            return Err(self.error("the query is nested too deep"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Counts the operator that stands here.
    fn operator(&mut self) -> Result<(), ParseError> {
        if self.operators >= OPERATORS_MAX {
            let what = format!("the query has more than {OPERATORS_MAX} operators");
            return Err(self.error(&what));
        }
        self.operators += 1;
        Ok(())
    }

    fn pipeline(&mut self) -> Result<Pipeline, ParseError> {
        let mut stages = Vec::new();
        loop {
            stages.push(self.stage(stages.is_empty())?);
            let metrics = match self.second() {
                Token::Ident(name) => metrics_function(name).is_some(),
                _ => false,
            };
            if metrics || *self.peek() != Token::Sign("|") {
                return Ok(Pipeline { stages });
            }
            self.operator()?;
            self.advance();
        }
    }

    fn stage(&mut self, first: bool) -> Result<Stage, ParseError> {
        let calls = *self.second() == Token::Sign("(");
        match self.peek().clone() {
            Token::Ident(name) if calls => match name.as_str() {
                "by" => self.call(Self::field).map(Stage::By),
                "coalesce" if !first => self.call(|_| Ok(())).map(|()| Stage::Coalesce),
                "select" => self.call(Self::selected).map(Stage::Select),
                name if AGGREGATES.contains(&name) => self.scalar_filter(),
                _ => Err(self.unexpected("")),
            },
            Token::Static(_) | Token::Sign("-") => self.scalar_filter(),
            Token::Sign("(") if self.starts_scalar() => self.scalar_filter(),
            Token::Sign("{" | "(") => self.spanset(0).map(Stage::Spans),
            _ => Err(self.unexpected("")),
        }
    }

    /// Whether the brackets that follow hold a number and not spans: stages, filters and comparisons
    /// are only between the brackets of spans.
    fn starts_scalar(&self) -> bool {
        let mut open = 0usize;
        for (token, _) in self.tokens.get(self.at..).unwrap_or_default() {
            match token {
                Token::Sign("(") => open += 1,
                Token::Sign(")") => open = open.saturating_sub(1),
                Token::Sign("{" | "}" | "|") | Token::End => return false,
                Token::Sign(sign) if field_op(sign).is_some_and(Op::is_comparison) => return false,
                _ => {}
            }
            if open == 0 {
                return true;
            }
        }
        false
    }

    /// `name ( inner )`, standing at the name.
    fn call<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        self.advance();
        self.expect("(")?;
        let result = inner(self)?;
        self.expect(")")?;
        Ok(result)
    }

    fn selected(&mut self) -> Result<Vec<(Attribute, Span)>, ParseError> {
        let mut attributes = Vec::new();
        loop {
            match self.advance() {
                (Token::Attribute(attribute), span) => attributes.push((attribute, span)),
                _ => {
                    self.at -= 1;
                    return Err(self.unexpected(""));
                }
            }
            if !self.take(",") {
                return Ok(attributes);
            }
        }
    }

    fn hints(&mut self) -> Result<Vec<(String, Static)>, ParseError> {
        let mut hints = Vec::new();
        if !matches!(self.peek(), Token::Ident(name) if name == "with") {
            return Ok(hints);
        }
        self.advance();
        self.expect("(")?;
        loop {
            let Token::Ident(name) = self.peek().clone() else {
                return Err(self.unexpected("expecting IDENTIFIER"));
            };
            self.at += 1;
            self.expect("=")?;
            let Token::Static(value) = self.peek().clone() else {
                return Err(self.unexpected(""));
            };
            self.at += 1;
            hints.push((name, value));
            if !self.take(",") {
                self.expect(")")?;
                return Ok(hints);
            }
        }
    }

    fn spanset(&mut self, least: u8) -> Result<SpansetExpr, ParseError> {
        let mut lhs = self.deeper(Self::spanset_operand)?;
        while let Token::Sign(sign) = self.peek()
            && let Some(op) = spanset_op(sign)
            && op.power() >= least
        {
            self.operator()?;
            let (_, span) = self.advance();
            let rhs = self.spanset(op.power() + 1)?;
            lhs = SpansetExpr::Binary {
                op,
                lhs: lhs.into(),
                rhs: rhs.into(),
                span,
            };
        }
        Ok(lhs)
    }

    fn spanset_operand(&mut self) -> Result<SpansetExpr, ParseError> {
        let start = self.span();
        if self.take("{") {
            if *self.peek() == Token::Sign("}") {
                let end = self.expect("}")?;
                return Ok(SpansetExpr::Filter(None, start.to(end)));
            }
            let expr = self.field()?;
            let end = self.span();
            if !self.take("}") {
                return Err(self.unexpected(""));
            }
            return Ok(SpansetExpr::Filter(Some(expr), start.to(end)));
        }
        if self.take("(") {
            let mut pipeline = self.pipeline()?;
            if *self.peek() == Token::Sign("|") {
                let what = "arithmetic between metrics queries is not supported yet";
                return Err(self.error(what));
            }
            if !self.take(")") {
                return Err(self.unexpected("expecting ) or |"));
            }
            // Brackets around one expression only say what belongs together.
            return Ok(match (pipeline.stages.len(), pipeline.stages.pop()) {
                (1, Some(Stage::Spans(inner))) => inner,
                (_, last) => {
                    pipeline.stages.extend(last);
                    SpansetExpr::Pipeline(pipeline.into())
                }
            });
        }
        Err(self.unexpected("expecting { or ("))
    }

    fn field(&mut self) -> Result<FieldExpr, ParseError> {
        self.field_above(0)
    }

    fn field_above(&mut self, least: u8) -> Result<FieldExpr, ParseError> {
        let mut lhs = self.deeper(Self::field_operand)?;
        while let Token::Sign(sign) = self.peek()
            && let Some(op) = field_op(sign)
            && op.power() >= least
        {
            self.operator()?;
            self.advance();
            let rhs = self.field_above(op.sides().1)?;
            let span = lhs.span().to(rhs.span());
            lhs = FieldExpr::Binary {
                op,
                lhs: lhs.into(),
                rhs: rhs.into(),
                span,
            };
        }
        Ok(lhs)
    }

    fn field_operand(&mut self) -> Result<FieldExpr, ParseError> {
        let (token, span) = self.advance();
        match token {
            Token::Static(value) => Ok(FieldExpr::Static(value, span)),
            Token::Attribute(attribute) => Ok(FieldExpr::Attribute(attribute, span)),
            Token::Sign("(") => {
                let inner = self.field()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("!") => {
                let inner = self.field_above(NOT_POWER)?;
                let span = span.to(inner.span());
                Ok(FieldExpr::Not(inner.into(), span))
            }
            Token::Sign("-") => {
                let inner = self.field_above(NEGATE_POWER)?;
                let span = span.to(inner.span());
                Ok(match inner {
                    FieldExpr::Static(Static::Int(n), _) if n != i64::MIN => {
                        FieldExpr::Static(Static::Int(-n), span)
                    }
                    FieldExpr::Static(Static::Float(n), _) => {
                        FieldExpr::Static(Static::Float(-n), span)
                    }
                    FieldExpr::Static(Static::Duration(n), _) if n != i64::MIN => {
                        FieldExpr::Static(Static::Duration(-n), span)
                    }
                    inner => FieldExpr::Negate(inner.into(), span),
                })
            }
            _ => {
                self.at -= 1;
                Err(self.unexpected(""))
            }
        }
    }

    fn scalar_filter(&mut self) -> Result<Stage, ParseError> {
        let start = self.span();
        let lhs = self.scalar(0)?;
        let Some(op) = self.order() else {
            if self.depth > 0 && *self.peek() == Token::Sign(")") {
                let what = "pipelines that end in a number are not supported yet";
                return Err(self.error_at(start, what));
            }
            return Err(self.unexpected(""));
        };
        self.operator()?;
        self.advance();
        let rhs = self.scalar(0)?;
        if !has_aggregate(&lhs) && !has_aggregate(&rhs) {
            let what = "syntax error: a comparison of numbers needs an aggregate such as count()";
            return Err(self.error_at(start, what));
        }
        let end = self
            .tokens
            .get(self.at.saturating_sub(1))
            .map_or(start, |(_, span)| *span);
        Ok(Stage::Filter {
            op,
            lhs,
            rhs,
            span: start.to(end),
        })
    }

    /// The comparison of numbers that stands here.
    fn order(&self) -> Option<Op> {
        match self.peek() {
            Token::Sign(sign) => field_op(sign)
                .filter(|op| op.is_comparison() && !matches!(op, Op::Match | Op::NotMatch)),
            _ => None,
        }
    }

    fn scalar(&mut self, least: u8) -> Result<ScalarExpr, ParseError> {
        let mut lhs = self.deeper(Self::scalar_operand)?;
        while let Token::Sign(sign) = self.peek()
            && let Some(op) = field_op(sign).filter(|op| op.is_arithmetic())
            && op.power() >= least
        {
            self.operator()?;
            self.advance();
            let rhs = self.scalar(op.sides().1)?;
            lhs = ScalarExpr::Binary {
                op,
                lhs: lhs.into(),
                rhs: rhs.into(),
            };
        }
        Ok(lhs)
    }

    fn scalar_operand(&mut self) -> Result<ScalarExpr, ParseError> {
        let start = self.span();
        if self.take("(") {
            let inner = self.scalar(0)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if *self.peek() == Token::Sign("{") {
            return Err(self.error("arithmetic between metrics queries is not supported yet"));
        }
        if let Token::Ident(name) = self.peek().clone() {
            let function = match name.as_str() {
                "count" => Aggregate::Count,
                "min" => Aggregate::Min,
                "max" => Aggregate::Max,
                "avg" => Aggregate::Avg,
                "sum" => Aggregate::Sum,
                _ => return Err(self.unexpected("")),
            };
            let field = if function == Aggregate::Count {
                self.call(|_| Ok(None))?
            } else {
                self.call(|parser| parser.field().map(Some))?
            };
            let end = self
                .tokens
                .get(self.at.saturating_sub(1))
                .map_or(start, |(_, span)| *span);
            return Ok(ScalarExpr::Aggregate {
                function,
                field,
                span: start.to(end),
            });
        }
        match self.field_operand()? {
            FieldExpr::Static(value, span) => Ok(ScalarExpr::Static(value, span)),
            _ => {
                self.at -= 1;
                Err(self.unexpected(""))
            }
        }
    }
}

fn has_aggregate(expr: &ScalarExpr) -> bool {
    match expr {
        ScalarExpr::Static(..) => false,
        ScalarExpr::Aggregate { .. } | ScalarExpr::Of(..) => true,
        ScalarExpr::Binary { lhs, rhs, .. } => has_aggregate(lhs) || has_aggregate(rhs),
    }
}

fn metrics_function(name: &str) -> Option<MetricsFunction> {
    let found = MetricsFunction::NAMES
        .iter()
        .find(|(_, held)| *held == name);
    found.map(|(function, _)| *function)
}

fn field_op(sign: &str) -> Option<Op> {
    Some(match sign {
        "&&" => Op::And,
        "||" => Op::Or,
        "=" => Op::Equal,
        "!=" => Op::NotEqual,
        "<" => Op::Less,
        "<=" => Op::LessEqual,
        ">" => Op::Greater,
        ">=" => Op::GreaterEqual,
        "=~" => Op::Match,
        "!~" => Op::NotMatch,
        "+" => Op::Add,
        "-" => Op::Subtract,
        "*" => Op::Multiply,
        "/" => Op::Divide,
        "%" => Op::Modulo,
        "^" => Op::Power,
        _ => return None,
    })
}

fn spanset_op(sign: &str) -> Option<SpansetOp> {
    let (form, bare) = match sign {
        "&&" => return Some(SpansetOp::And),
        "||" => return Some(SpansetOp::Or),
        _ => match sign.strip_prefix('!') {
            Some(bare) => (Form::Not, bare),
            None => match sign.strip_prefix('&') {
                Some(bare) => (Form::Union, bare),
                None => (Form::Right, sign),
            },
        },
    };
    let relation = match bare {
        ">" => Relation::Child,
        ">>" => Relation::Descendant,
        "<" => Relation::Parent,
        "<<" => Relation::Ancestor,
        "~" => Relation::Sibling,
        _ => return None,
    };
    Some(SpansetOp::Structural(relation, form))
}
