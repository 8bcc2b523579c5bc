//! Words to tree, by precedence climbing.
//!
//! Precedence, low to high: `|`; `&& ||` (one level); comparisons and structural operators (one
//! level); `+ -`; `!`; `* / %`; `^` (to the right); unary minus.

use super::ast::{
    Aggregate, Attribute, FieldExpr, Form, Op, Pipeline, Query, Relation, ScalarExpr, SpansetExpr,
    SpansetOp, Stage, Static,
};
use super::error::ParseError;
use super::lexer::{Token, lex};
use super::validate;
use crate::text::Span;

/// How deep brackets and signs may be nested.
pub const NESTING_MAX: usize = 128;

const METRICS: [&str; 9] = [
    "rate",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "avg_over_time",
    "sum_over_time",
    "quantile_over_time",
    "histogram_over_time",
    "compare",
];

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
    };
    let pipeline = parser.pipeline()?;
    let hints = parser.hints()?;
    parser.expect_end()?;
    let query = Query { pipeline, hints };
    validate::check(&query)?;
    Ok(query)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
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
            Err(self.unexpected("expecting |"))
        }
    }

    fn unexpected(&self, expecting: &str) -> ParseError {
        let found = match self.peek() {
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Ident(_) => "IDENTIFIER".to_owned(),
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
        let span = self.span();
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

    fn pipeline(&mut self) -> Result<Pipeline, ParseError> {
        let mut stages = vec![self.stage()?];
        while self.take("|") {
            stages.push(self.stage()?);
        }
        Ok(Pipeline { stages })
    }

    fn stage(&mut self) -> Result<Stage, ParseError> {
        let span = self.span();
        let calls = *self.second() == Token::Sign("(");
        match self.peek().clone() {
            Token::Ident(name) if calls => match name.as_str() {
                "by" => self.call(Self::field).map(Stage::By),
                "coalesce" => self.call(|_| Ok(())).map(|()| Stage::Coalesce),
                "select" => self.call(Self::selected).map(Stage::Select),
                "count" | "min" | "max" | "avg" | "sum" => self.scalar_filter(),
                name if METRICS.contains(&name) => {
                    let name = name.to_owned();
                    self.metrics(name, span)
                }
                _ => Err(self.unexpected("")),
            },
            Token::Static(_) | Token::Sign("-") => self.scalar_filter(),
            Token::Sign("(") if self.starts_scalar() => self.scalar_filter(),
            _ => self.spanset(0).map(Stage::Spans),
        }
    }

    /// Whether the brackets that follow hold a number and not spans.
    fn starts_scalar(&self) -> bool {
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        let inner = rest
            .iter()
            .map(|(token, _)| token)
            .find(|t| **t != Token::Sign("("));
        match inner {
            Some(Token::Static(_) | Token::Sign("-")) => true,
            Some(Token::Ident(name)) => {
                ["count", "min", "max", "avg", "sum"].contains(&name.as_str())
            }
            _ => false,
        }
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

    /// A function over time: its arguments are checked for balance only, as nothing evaluates them.
    fn metrics(&mut self, name: String, span: Span) -> Result<Stage, ParseError> {
        self.advance();
        self.balanced()?;
        if matches!(self.peek(), Token::Ident(by) if by == "by") {
            self.advance();
            self.balanced()?;
        }
        loop {
            let second =
                matches!(self.second(), Token::Ident(name) if name == "topk" || name == "bottomk");
            let compares = ["=", "!=", "<", "<=", ">", ">="];
            if *self.peek() == Token::Sign("|") && second {
                self.at += 2;
                self.balanced()?;
            } else if matches!(self.peek(), Token::Sign(sign) if compares.contains(sign)) {
                self.at += 1;
                if !matches!(self.advance().0, Token::Static(_)) {
                    self.at -= 1;
                    return Err(self.unexpected(""));
                }
            } else {
                return Ok(Stage::Metrics { name, span });
            }
        }
    }

    fn balanced(&mut self) -> Result<(), ParseError> {
        self.expect("(")?;
        let mut open = 1;
        while open > 0 {
            match self.peek() {
                Token::Sign("(" | "{") => open += 1,
                Token::Sign(")" | "}") => open -= 1,
                Token::End => return Err(self.unexpected("")),
                _ => {}
            }
            self.at += 1;
        }
        Ok(())
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
            && let Some((op, power)) = spanset_op(sign)
            && power >= least
        {
            let (_, span) = self.advance();
            let rhs = self.spanset(power + 1)?;
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
            let end = self.expect("}")?;
            return Ok(SpansetExpr::Filter(Some(expr), start.to(end)));
        }
        if self.take("(") {
            let mut pipeline = self.pipeline()?;
            self.expect(")")?;
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
            && let Some((op, power)) = field_op(sign)
            && power >= least
        {
            self.advance();
            let right = if op == Op::Power { power } else { power + 1 };
            let rhs = self.field_above(right)?;
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
        let op = match self.peek() {
            Token::Sign(sign) => field_op(sign).map(|(op, _)| op),
            _ => None,
        };
        let Some(op) =
            op.filter(|op| op.is_comparison() && !matches!(op, Op::Match | Op::NotMatch))
        else {
            return Err(self.unexpected(""));
        };
        self.advance();
        let rhs = self.scalar(0)?;
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

    fn scalar(&mut self, least: u8) -> Result<ScalarExpr, ParseError> {
        let mut lhs = self.deeper(Self::scalar_operand)?;
        while let Token::Sign(sign) = self.peek()
            && let Some((op, power)) = field_op(sign).filter(|(op, _)| op.is_arithmetic())
            && power >= least
        {
            self.advance();
            let right = if op == Op::Power { power } else { power + 1 };
            let rhs = self.scalar(right)?;
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

const NOT_POWER: u8 = 4;
const NEGATE_POWER: u8 = 7;

fn field_op(sign: &str) -> Option<(Op, u8)> {
    Some(match sign {
        "&&" => (Op::And, 1),
        "||" => (Op::Or, 1),
        "=" => (Op::Equal, 2),
        "!=" => (Op::NotEqual, 2),
        "<" => (Op::Less, 2),
        "<=" => (Op::LessEqual, 2),
        ">" => (Op::Greater, 2),
        ">=" => (Op::GreaterEqual, 2),
        "=~" => (Op::Match, 2),
        "!~" => (Op::NotMatch, 2),
        "+" => (Op::Add, 3),
        "-" => (Op::Subtract, 3),
        "*" => (Op::Multiply, 5),
        "/" => (Op::Divide, 5),
        "%" => (Op::Modulo, 5),
        "^" => (Op::Power, 6),
        _ => return None,
    })
}

fn spanset_op(sign: &str) -> Option<(SpansetOp, u8)> {
    let (form, bare) = match sign {
        "&&" => return Some((SpansetOp::And, 1)),
        "||" => return Some((SpansetOp::Or, 1)),
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
    Some((SpansetOp::Structural(relation, form), 2))
}
