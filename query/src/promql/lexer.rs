//! Splits the text of a query into tokens. Called by the parser, one token ahead.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::error::Fault;
use crate::text::{Span, quote, quote_char};
use crate::vector::{AggregateOp, BinaryOp};

/// A token with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    End,
    Identifier,
    /// An identifier with a colon, which only a metric's name may have.
    MetricIdentifier,
    String,
    Number,
    Duration,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// `=`
    Assign,
    /// `=~`
    Match,
    /// `!~`
    NotMatch,
    /// `@`
    At,
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Offset,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Bool,
    Anchored,
    Smoothed,
    Fill,
    FillLeft,
    FillRight,
}

impl Token {
    /// The token as error texts name it.
    pub(super) fn describe(self, text: &str) -> String {
        let body = text.get(self.span.start..self.span.end).unwrap_or("");
        match self.kind {
            TokenKind::End => "end of input".to_owned(),
            TokenKind::Identifier => format!("identifier {}", quote(body)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", quote(body)),
            TokenKind::String => format!("string {}", abbreviated(body)),
            TokenKind::Number => format!("number {}", abbreviated(body)),
            TokenKind::Duration => format!("duration {}", abbreviated(body)),
            TokenKind::Operator(_) | TokenKind::Match | TokenKind::NotMatch | TokenKind::At => {
                format!("<op:{body}>")
            }
            TokenKind::Aggregate(_) => format!("<aggr:{body}>"),
            TokenKind::Keyword(_) => format!("<{body}>"),
            _ => quote(body),
        }
    }
}

/// Long tokens are cut after ten characters.
fn abbreviated(body: &str) -> String {
    if body.len() <= 10 {
        return quote(body);
    }
    format!("{}...", quote(&body.chars().take(10).collect::<String>()))
}

/// Reads tokens from a text.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    paren_depth: usize,
    in_braces: bool,
    in_brackets: bool,
    had_colon: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            paren_depth: 0,
            in_braces: false,
            in_brackets: false,
            had_colon: false,
        }
    }

    /// The next token; [`TokenKind::End`] for ever once the text is read.
    pub(super) fn next(&mut self) -> Result<Token, Fault> {
        self.skip_blanks();
        let start = self.at;
        let kind = if self.in_braces {
            self.in_braces()
        } else {
            self.outside()
        };
        match kind {
            Ok(kind) => Ok(Token {
                kind,
                span: Span::new(start, self.at),
            }),
            Err(message) => Err(Fault::new(Span::new(start, self.at.max(start)), message)),
        }
    }

    /// Whether the next token opens a parenthesis.
    pub(super) fn parenthesis_follows(&self) -> bool {
        let mut ahead = Self {
            at: self.at,
            ..Self::new(self.text)
        };
        ahead.skip_blanks();
        ahead.peek() == Some('(')
    }

    fn outside(&mut self) -> Result<TokenKind, String> {
        let Some(c) = self.bump() else {
            return self.end();
        };
        Ok(match c {
            ',' => TokenKind::Comma,
            '@' => TokenKind::At,
            '+' => TokenKind::Operator(BinaryOp::Add),
            '-' => TokenKind::Operator(BinaryOp::Sub),
            '*' => TokenKind::Operator(BinaryOp::Mul),
            '/' => TokenKind::Operator(BinaryOp::Div),
            '%' => TokenKind::Operator(BinaryOp::Mod),
            '^' => TokenKind::Operator(BinaryOp::Pow),
            '=' => match self.peek() {
                Some('=') => self.double(BinaryOp::Equal),
                Some('~') => return Err("unexpected character after '=': '~'".to_owned()),
                _ => TokenKind::Assign,
            },
            '!' => match self.bump() {
                Some('=') => TokenKind::Operator(BinaryOp::NotEqual),
                other => return Err(unexpected_after_bang("", other)),
            },
            '<' | '>' => self.order(c),
            '(' => {
                self.paren_depth += 1;
                TokenKind::LeftParen
            }
            ')' => {
                self.paren_depth = self
                    .paren_depth
                    .checked_sub(1)
                    .ok_or("unexpected right parenthesis ')'".to_owned())?;
                TokenKind::RightParen
            }
            '{' => {
                self.in_braces = true;
                TokenKind::LeftBrace
            }
            '[' if self.in_brackets => return Err("unexpected left bracket '['".to_owned()),
            '[' => {
                (self.in_brackets, self.had_colon) = (true, false);
                TokenKind::LeftBracket
            }
            ']' if !self.in_brackets => return Err("unexpected right bracket ']'".to_owned()),
            ']' => {
                self.in_brackets = false;
                TokenKind::RightBracket
            }
            ':' if self.in_brackets => {
                if std::mem::replace(&mut self.had_colon, true) {
                    return Err("unexpected colon ':'".to_owned());
                }
                TokenKind::Colon
            }
            '"' | '\'' | '`' => self.string(c)?,
            '0'..='9' => self.number(c)?,
            '.' if self.peek().is_some_and(|next| next.is_ascii_digit()) => self.number(c)?,
            'a'..='z' | 'A'..='Z' | '_' | ':' => self.word(),
            _ => return Err(format!("unexpected character: {}", quote_char(c))),
        })
    }

    fn in_braces(&mut self) -> Result<TokenKind, String> {
        let Some(c) = self.bump() else {
            return Err("unexpected end of input inside braces".to_owned());
        };
        Ok(match c {
            ',' => TokenKind::Comma,
            '}' => {
                self.in_braces = false;
                TokenKind::RightBrace
            }
            '=' if self.peek() == Some('~') => {
                self.bump();
                TokenKind::Match
            }
            '=' => TokenKind::Assign,
            '!' => match self.bump() {
                Some('=') => TokenKind::Operator(BinaryOp::NotEqual),
                Some('~') => TokenKind::NotMatch,
                other => return Err(unexpected_after_bang(" inside braces", other)),
            },
            '"' | '\'' | '`' => self.string(c)?,
            'a'..='z' | 'A'..='Z' | '_' => {
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
                TokenKind::Identifier
            }
            '{' => return Err("unexpected left brace '{'".to_owned()),
            _ => {
                return Err(format!(
                    "unexpected character inside braces: {}",
                    quote_char(c)
                ));
            }
        })
    }

    fn end(&self) -> Result<TokenKind, String> {
        if self.paren_depth > 0 {
            Err("unclosed left parenthesis".to_owned())
        } else if self.in_brackets {
            Err("unclosed left bracket".to_owned())
        } else {
            Ok(TokenKind::End)
        }
    }

    fn double(&mut self, op: BinaryOp) -> TokenKind {
        self.bump();
        TokenKind::Operator(op)
    }

    fn order(&mut self, c: char) -> TokenKind {
        match (c, self.peek()) {
            ('<', Some('=')) => self.double(BinaryOp::LessEqual),
            (_, Some('=')) => self.double(BinaryOp::GreaterEqual),
            ('<', Some('/')) => self.double(BinaryOp::TrimUpper),
            (_, Some('/')) => self.double(BinaryOp::TrimLower),
            ('<', _) => TokenKind::Operator(BinaryOp::Less),
            _ => TokenKind::Operator(BinaryOp::Greater),
        }
    }

    fn string(&mut self, quote: char) -> Result<TokenKind, String> {
        loop {
            match self.bump() {
                None if quote == '`' => return Err("unterminated raw string".to_owned()),
                None => return Err("unterminated quoted string".to_owned()),
                Some('\n') if quote != '`' => return Err("unterminated quoted string".to_owned()),
                Some('\\') if quote != '`' => {
                    if self.bump().is_none() {
                        return Err("escape sequence not terminated".to_owned());
                    }
                }
                Some(c) if c == quote => return Ok(TokenKind::String),
                Some(_) => {}
            }
        }
    }

    /// A number, or a duration where a unit follows its digits.
    fn number(&mut self, first: char) -> Result<TokenKind, String> {
        let start = self.at - first.len_utf8();
        if first == '0' && matches!(self.peek(), Some('x' | 'X')) {
            self.bump();
            self.take_while(|c| c.is_ascii_hexdigit());
        } else {
            self.take_while(|c| c.is_ascii_digit());
            if first != '.' && self.peek() == Some('.') {
                self.bump();
                self.take_while(|c| c.is_ascii_digit());
            }
            if matches!(self.peek(), Some('e' | 'E')) {
                self.bump();
                if matches!(self.peek(), Some('+' | '-')) {
                    self.bump();
                }
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if !self.peek().is_some_and(is_word) {
            return Ok(TokenKind::Number);
        }
        if self.duration_units() && !self.bump_if(is_word) {
            return Ok(TokenKind::Duration);
        }
        let text = self.text.get(start..self.at).unwrap_or("");
        Err(format!("bad number or duration syntax: {}", quote(text)))
    }

    /// Takes units, with digits between them, as far as they go.
    fn duration_units(&mut self) -> bool {
        loop {
            if !self.bump_if(|c| matches!(c, 's' | 'm' | 'h' | 'd' | 'w' | 'y')) {
                return false;
            }
            self.bump_if(|c| c == 's');
            if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
                return true;
            }
            self.take_while(|c| c.is_ascii_digit());
        }
    }

    fn word(&mut self) -> TokenKind {
        let start = self.at - 1;
        let in_brackets = self.in_brackets;
        // In `[5m:step]` the colon is a token of its own.
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && !in_brackets));
        let word = self.text.get(start..self.at).unwrap_or("");
        keyword(word).unwrap_or(if word.contains(':') {
            TokenKind::MetricIdentifier
        } else {
            TokenKind::Identifier
        })
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
            if self.peek() != Some('#') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn peek(&self) -> Option<char> {
        self.text
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn bump_if(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        let found = self.peek().is_some_and(wanted);
        if found {
            self.bump();
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.bump_if(&wanted) {}
    }
}

fn unexpected_after_bang(place: &str, found: Option<char>) -> String {
    // The end of the text reads as the character that Go's lexers use for it.
    let found = found.map_or_else(|| "'\\uffff'".to_owned(), quote_char);
    format!("unexpected character after '!'{place}: {found}")
}

/// The meaning of a reserved word, in any case.
fn keyword(word: &str) -> Option<TokenKind> {
    use AggregateOp as A;
    let known = TokenKind::Aggregate;
    Some(match word.to_ascii_lowercase().as_str() {
        "and" => TokenKind::Operator(BinaryOp::And),
        "or" => TokenKind::Operator(BinaryOp::Or),
        "unless" => TokenKind::Operator(BinaryOp::Unless),
        "atan2" => TokenKind::Operator(BinaryOp::Atan2),
        "sum" => known(A::Sum),
        "avg" => known(A::Avg),
        "count" => known(A::Count),
        "min" => known(A::Min),
        "max" => known(A::Max),
        "group" => known(A::Group),
        "stddev" => known(A::Stddev),
        "stdvar" => known(A::Stdvar),
        "topk" => known(A::Topk),
        "bottomk" => known(A::Bottomk),
        "count_values" => known(A::CountValues),
        "quantile" => known(A::Quantile),
        "limitk" => known(A::Limitk),
        "limit_ratio" => known(A::LimitRatio),
        "offset" => TokenKind::Keyword(Keyword::Offset),
        "by" => TokenKind::Keyword(Keyword::By),
        "without" => TokenKind::Keyword(Keyword::Without),
        "on" => TokenKind::Keyword(Keyword::On),
        "ignoring" => TokenKind::Keyword(Keyword::Ignoring),
        "group_left" => TokenKind::Keyword(Keyword::GroupLeft),
        "group_right" => TokenKind::Keyword(Keyword::GroupRight),
        "bool" => TokenKind::Keyword(Keyword::Bool),
        "anchored" => TokenKind::Keyword(Keyword::Anchored),
        "smoothed" => TokenKind::Keyword(Keyword::Smoothed),
        "fill" => TokenKind::Keyword(Keyword::Fill),
        "fill_left" => TokenKind::Keyword(Keyword::FillLeft),
        "fill_right" => TokenKind::Keyword(Keyword::FillRight),
        "inf" | "nan" => TokenKind::Number,
        _ => return None,
    })
}
