//! Words to tree, by precedence climbing.
//!
//! Precedence, low to high: `|`; `&& ||` (one level); comparisons and structural operators (one
//! level); `+ -`; `!`; `* / %`; `^` (to the right); unary minus. Inside of curly brackets stand
//! fields (`field`); outside stand sets of spans, aggregates of them, series over time and numbers,
//! and what an operator means is told by its left side (`parts`).

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod field;
mod fold;
mod metrics;
mod parts;

use super::ast::{Attribute, Op, Pipeline, Query, Root, Stage, Static};
use super::error::ParseError;
use super::lexer::{Token, is_keyword, lex};
use super::printer::scope_name;
use super::validate;
use crate::text::Span;
use parts::{Part, Sequence};

/// How deep pipelines, and expressions outside of curly brackets on the right of an operator, may be
/// nested: each costs some kilobytes of the stack. Other brackets cost none.
pub const NESTING_MAX: usize = 128;

/// How many operators a query may hold outside of curly brackets, those between stages among them. A
/// chain of them is as deep a tree as brackets are, and all that walks the tree calls itself.
pub const OPERATORS_MAX: usize = 500;

/// How many operators deep an expression over fields may be, without the innermost one. A chain of
/// `||` or of `&&` is a flat tree, so that it may be as long as a query.
pub(super) const DEPTH_MAX: usize = 500;

/// Reads and checks a query.
///
/// # Errors
/// [`ParseError`] with Tempo's text: where the text is no query, or what makes no sense in it.
pub fn parse(text: &str) -> Result<Query, ParseError> {
    let query = parse_unchecked(text)?;
    validate::check(&query)?;
    Ok(query)
}

/// Reads a query without a check of what it means: it may compare what cannot be compared.
///
/// # Errors
/// [`ParseError`] where the text is no query.
pub fn parse_unchecked(text: &str) -> Result<Query, ParseError> {
    let mut parser = Parser::new(text)?;
    let root = parser.root()?;
    let hints = parser.hints()?;
    parser.expect_end()?;
    Ok(Query { root, hints })
}

/// Reads the name of one attribute or intrinsic: `span.http.method`, `."a b"`, `kind`.
///
/// # Errors
/// [`ParseError`] where the text is anything else.
pub fn parse_attribute(text: &str) -> Result<Attribute, ParseError> {
    let mut parser = Parser::new(text)?;
    let (attribute, _) = parser.attribute()?;
    match parser.peek() {
        Token::End => Ok(attribute),
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

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, ParseError> {
        let tokens = lex(text)?;
        Ok(Self {
            text,
            tokens,
            at: 0,
            depth: 0,
            operators: 0,
        })
    }

    fn peek(&self) -> &Token {
        self.tokens
            .get(self.at)
            .map_or(&Token::End, |(token, _)| token)
    }

    /// The sign that stands here.
    fn sign(&self) -> Option<&'static str> {
        match self.peek() {
            Token::Sign(sign) => Some(sign),
            _ => None,
        }
    }

    fn span(&self) -> Span {
        let end = Span::new(self.text.len(), self.text.len());
        self.tokens.get(self.at).map_or(end, |(_, span)| *span)
    }

    /// Where the word before stands.
    fn before(&self) -> Span {
        let token = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        token.map_or(Span::default(), |(_, span)| *span)
    }

    fn advance(&mut self) -> Span {
        let span = self.span();
        self.at += 1;
        span
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.sign() == Some(sign);
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
        self.unexpected_at(self.at, expecting)
    }

    /// The error that word `at` should not stand where it stands.
    fn unexpected_at(&self, at: usize, expecting: &str) -> ParseError {
        let end = (Token::End, Span::new(self.text.len(), self.text.len()));
        let (token, span) = self.tokens.get(at).unwrap_or(&end);
        let found = match token {
            Token::Invalid(why) => return self.error_at(*span, why),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Ident(name) if is_keyword(name) => name.clone(),
            Token::Ident(_) => "IDENTIFIER".to_owned(),
            Token::Attribute(Attribute::Named { parent: true, .. })
            | Token::Unnamed { parent: true, .. } => "parent.".to_owned(),
            Token::Attribute(Attribute::Named { scope, .. }) | Token::Unnamed { scope, .. } => {
                format!("{}.", scope.map_or("", scope_name))
            }
            Token::Attribute(attribute) => attribute.to_string(),
            Token::Static(Static::Str(_)) => "STRING".to_owned(),
            Token::Static(Static::Int(_)) | Token::LeastMagnitude => "INTEGER".to_owned(),
            Token::Static(Static::Float(_)) => "FLOAT".to_owned(),
            Token::Static(Static::Duration(_)) => "DURATION".to_owned(),
            Token::Static(literal) => literal.to_string(),
            Token::End => "$end".to_owned(),
        };
        let mut what = format!("syntax error: unexpected {found}");
        if !expecting.is_empty() {
            what = format!("{what}, {expecting}");
        }
        self.error_at(*span, &what)
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
            return Err(self.error_at(self.span(), "the query is nested too deep"));
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
            return Err(self.error_at(self.span(), &what));
        }
        self.operators += 1;
        Ok(())
    }

    fn root(&mut self) -> Result<Root, ParseError> {
        Ok(match self.sequence(false)? {
            Sequence::Stages(stages) => Root::Search(Pipeline { stages }),
            Sequence::Part(Part::Spans(expr)) => Root::Search(Pipeline {
                stages: vec![Stage::Spans(*expr)],
            }),
            Sequence::Part(Part::Metrics(expr)) => Root::Metrics(*expr),
            Sequence::Part(_) => return Err(self.unexpected("")),
        })
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

    /// An attribute or intrinsic.
    fn attribute(&mut self) -> Result<(Attribute, Span), ParseError> {
        let expecting = match self.peek() {
            Token::Attribute(attribute) => {
                let attribute = attribute.clone();
                return Ok((attribute, self.advance()));
            }
            Token::Unnamed {
                parent: true,
                scope: None,
            } => "IDENTIFIER or resource. or span.",
            Token::Unnamed { .. } => "IDENTIFIER",
            _ => return Err(self.unexpected("")),
        };
        let what = format!("syntax error: unexpected END_ATTRIBUTE, expecting {expecting}");
        Err(self.error_at(self.span(), &what))
    }

    /// Attributes between commas.
    fn attributes(&mut self) -> Result<Vec<(Attribute, Span)>, ParseError> {
        let mut attributes = vec![self.attribute()?];
        while self.take(",") {
            attributes.push(self.attribute()?);
        }
        Ok(attributes)
    }

    fn hints(&mut self) -> Result<Vec<(String, Static)>, ParseError> {
        let mut hints = Vec::new();
        if !matches!(self.peek(), Token::Ident(name) if name == "with") {
            return Ok(hints);
        }
        self.call(|parser| {
            loop {
                let Token::Ident(name) = parser.peek().clone() else {
                    return Err(parser.unexpected("expecting IDENTIFIER"));
                };
                parser.advance();
                parser.expect("=")?;
                let Token::Static(value) = parser.peek().clone() else {
                    return Err(parser.unexpected(""));
                };
                parser.advance();
                hints.push((name, value));
                if !parser.take(",") {
                    return Ok(());
                }
            }
        })?;
        Ok(hints)
    }
}

/// The operator between fields that a sign is.
pub(super) fn field_op(sign: &str) -> Option<Op> {
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
