//! The words of TraceQL.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use super::ast::{Attribute, Intrinsic, KINDS, MetricsFunction, STATUSES, Static};
use super::error::ParseError;
use super::printer::scope_name;
use super::source::Scope;
use crate::text::{Span, parse_go_duration, parse_prometheus_duration, unquote};

/// The longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 128 << 10;

/// One word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// An operator or a bracket.
    Sign(&'static str),
    /// A name that is none of the below.
    Ident(String),
    Attribute(Attribute),
    /// What stands before the name of an attribute, without a name.
    Unnamed {
        scope: Option<Scope>,
        parent: bool,
    },
    Static(Static),
    /// The magnitude of the least whole number, which is one only behind a minus.
    LeastMagnitude,
    /// What is no word, with the reason. The last one before [`Token::End`].
    Invalid(String),
    End,
}

/// Signs with the names that Tempo's lexer gives them, longest first.
const SIGNS: [(&str, &str); 38] = [
    ("!>>", "NOT_DESC"),
    ("!<<", "NOT_ANCE"),
    ("&>>", "UNION_DESC"),
    ("&<<", "UNION_ANCE"),
    ("&&", "AND"),
    ("||", "OR"),
    ("!=", "NEQ"),
    ("!~", "NRE"),
    ("=~", "RE"),
    ("<=", "LTE"),
    (">=", "GTE"),
    (">>", "DESC"),
    ("<<", "ANCE"),
    ("!>", "NOT_CHILD"),
    ("!<", "NOT_PARENT"),
    ("&>", "UNION_CHILD"),
    ("&<", "UNION_PARENT"),
    ("&~", "UNION_SIBL"),
    ("{", "OPEN_BRACE"),
    ("}", "CLOSE_BRACE"),
    ("(", "OPEN_PARENS"),
    (")", "CLOSE_PARENS"),
    ("|", "PIPE"),
    ("=", "EQ"),
    ("<", "LT"),
    (">", "GT"),
    ("~", "TILDE"),
    ("!", "NOT"),
    ("+", "ADD"),
    ("-", "SUB"),
    ("*", "MULT"),
    ("/", "DIV"),
    ("%", "MOD"),
    ("^", "POW"),
    (",", "COMMA"),
    ("&", "AMPERSAND"),
    (":", "COLON"),
    (";", "SEMICOLON"),
];

/// Cuts a query into words. The last one is [`Token::End`].
pub(super) fn lex(text: &str) -> Result<Vec<(Token, Span)>, ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        let message = format!(
            "query is {} bytes long, at most {QUERY_BYTES_MAX}",
            text.len()
        );
        return Err(ParseError {
            span: Span::new(0, text.len()),
            message,
        });
    }
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let token = lexer.next().unwrap_or_else(Token::Invalid);
        if matches!(token, Token::Invalid(_)) {
            lexer.at = text.len();
        }
        let end = token == Token::End;
        tokens.push((token, Span::new(start, lexer.at)));
        if end {
            return Ok(tokens);
        }
    }
}

/// The names that Tempo's lexer gives the words of a text, for editors and tests. It ends where the
/// text is no TraceQL.
pub fn tokens(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (token, span) in lex(text).unwrap_or_default() {
        let word = text.get(span.start..span.end).unwrap_or_default();
        match token {
            Token::Sign(sign) => {
                let found = SIGNS.iter().find(|(held, _)| *held == sign);
                names.extend(found.map(|(_, name)| (*name).to_owned()));
            }
            Token::Ident(word) => names.push(match is_keyword(&word) {
                true => word.to_uppercase(),
                false => "IDENTIFIER".to_owned(),
            }),
            Token::Attribute(Attribute::Named { scope, parent, .. }) => {
                names.extend(dots(scope, parent));
                names.extend(["IDENTIFIER".to_owned(), "END_ATTRIBUTE".to_owned()]);
            }
            Token::Unnamed { scope, parent } => {
                names.extend(dots(scope, parent));
                names.push("END_ATTRIBUTE".to_owned());
            }
            Token::Attribute(Attribute::Intrinsic(_)) => {
                let (scope, name) = word.split_once(':').unwrap_or(("", word));
                if !scope.is_empty() {
                    names.push(format!("{}_COLON", scope.to_uppercase()));
                }
                names.push(intrinsic_token(name));
            }
            Token::Static(value) => names.push(match value {
                Static::Int(_) if word.starts_with('m') => word.to_uppercase(),
                Static::Int(_) => "INTEGER".to_owned(),
                Static::Float(_) => "FLOAT".to_owned(),
                Static::Str(_) => "STRING".to_owned(),
                Static::Duration(_) => "DURATION".to_owned(),
                Static::Status(_) => format!("STATUS_{}", word.to_uppercase()),
                Static::Kind(_) => format!("KIND_{}", word.to_uppercase()),
                Static::Nil | Static::Bool(_) => word.to_uppercase(),
            }),
            Token::LeastMagnitude => names.push("INTEGER".to_owned()),
            Token::Invalid(_) | Token::End => {}
        }
    }
    names
}

/// The words before the name of an attribute.
fn dots(scope: Option<Scope>, parent: bool) -> Vec<String> {
    let mut names = Vec::new();
    if parent {
        names.push("PARENT_DOT".to_owned());
    }
    match scope {
        Some(scope) => names.push(format!("{}_DOT", scope_name(scope).to_uppercase())),
        None if !parent => names.push("DOT".to_owned()),
        None => {}
    }
    names
}

fn intrinsic_token(name: &str) -> String {
    match name {
        "duration" => "IDURATION",
        "statusMessage" => "STATUS_MESSAGE",
        "parentID" => "PARENT_ID",
        "traceID" => "TRACE_ID",
        "spanID" => "SPAN_ID",
        name => return name.to_uppercase(),
    }
    .to_owned()
}

/// Words that mean something outside of curly brackets.
const KEYWORDS: [&str; 11] = [
    "avg", "bottomk", "by", "coalesce", "count", "max", "min", "select", "sum", "topk", "with",
];

/// Whether errors call a word by its name.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word) || MetricsFunction::of_name(word).is_some()
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

/// What ends the name of an attribute.
fn ends_name(c: char) -> bool {
    c.is_whitespace() || "{}()=~!<>&|^,".contains(c)
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The longest start of the rest whose characters satisfy `accept`.
    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// White space and Go's comments.
    fn skip_blank(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest().starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                let end = self
                    .rest()
                    .find("*/")
                    .map_or(self.rest().len(), |end| end + 2);
                self.at += end;
            } else {
                return;
            }
        }
    }

    fn next(&mut self) -> Result<Token, String> {
        let Some(c) = self.peek() else {
            return Ok(Token::End);
        };
        if c == '"' || c == '`' {
            return self
                .string()
                .map(|text| Token::Static(Static::Str(text.into())));
        }
        let second = self.rest().chars().nth(1);
        if c.is_ascii_digit() || (c == '.' && second.is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if c == '.' {
            self.at += 1;
            return self.attribute(None, false);
        }
        if c.is_alphabetic() || c == '_' {
            return self.word();
        }
        let found = SIGNS.iter().find(|(sign, _)| self.rest().starts_with(sign));
        let (sign, _) = found.ok_or("syntax error: invalid character")?;
        self.at += sign.len();
        Ok(Token::Sign(sign))
    }

    fn string(&mut self) -> Result<String, String> {
        let start = self.at;
        let quote = self.peek();
        self.at += 1;
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            if Some(c) == quote {
                let literal = self.text.get(start..self.at).unwrap_or_default();
                return unquote(literal).map_err(|_| "syntax error: invalid string".to_owned());
            }
            if c == '\\' && quote == Some('"') {
                self.at += self.peek().map_or(0, char::len_utf8);
            }
        }
        Err("syntax error: literal not terminated".to_owned())
    }

    /// A duration, or else a number: `1h30m` is the one, `1t` is a number before a word.
    fn number(&mut self) -> Result<Token, String> {
        let start = self.at;
        let is_digit = |c: char| c.is_ascii_digit();
        self.take_while(is_digit);
        let mut is_whole = true;
        if self.rest().starts_with('.') {
            self.at += 1;
            self.take_while(is_digit);
            is_whole = false;
        }
        let exponent = self.rest().strip_prefix(['e', 'E']);
        let digits = exponent.map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
        if digits.is_some_and(|digits| digits.starts_with(is_digit)) {
            self.at += 2;
            self.take_while(is_digit);
            is_whole = false;
        } else if is_whole && self.goes_on_as_in_go(start) {
            // Go's other ways to write numbers are words of the language, and no numbers.
            self.take_while(|c| c.is_alphanumeric() || c == '_');
        }
        let end = self.at;
        self.take_while(|c| is_digit(c) || "nuµμmshdwy.".contains(c));
        let text = self.text.get(start..self.at).unwrap_or_default();
        if self.at > end
            && let Some(nanoseconds) = duration(text)
        {
            return Ok(Token::Static(Static::Duration(nanoseconds)));
        }
        self.at = end;
        let text = self.text.get(start..end).unwrap_or_default();
        let refused = |of: &str, why: &str| format!("strconv.Parse{of}: parsing \"{text}\": {why}");
        if !is_whole {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            let number = number.ok_or_else(|| refused("Float", "value out of range"))?;
            return Ok(Token::Static(Static::Float(number)));
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused("Int", "invalid syntax"));
        }
        match text.parse::<i64>() {
            Ok(number) => Ok(Token::Static(Static::Int(number))),
            Err(_) if text.parse() == Ok(i64::MIN.unsigned_abs()) => Ok(Token::LeastMagnitude),
            Err(_) => Err(refused("Int", "value out of range")),
        }
    }

    /// Whether the digits since `start` begin a number such as `0x10` or `1_000`.
    fn goes_on_as_in_go(&self, start: usize) -> bool {
        let rest = self.rest();
        let is_zero = self.text.get(start..self.at) == Some("0");
        rest.starts_with('_') || (is_zero && rest.starts_with(['x', 'X', 'b', 'B', 'o', 'O']))
    }

    fn word(&mut self) -> Result<Token, String> {
        let word = self.take_while(|c| c.is_alphanumeric() || c == '_');
        let scope = match word {
            "span" => Some(Scope::Span),
            "resource" => Some(Scope::Resource),
            "event" => Some(Scope::Event),
            "link" => Some(Scope::Link),
            "instrumentation" => Some(Scope::Instrumentation),
            _ => None,
        };
        if self.rest().starts_with('.') && (scope.is_some() || word == "parent") {
            self.at += 1;
            return match scope {
                Some(scope) => self.attribute(Some(scope), false),
                None => self.parent_attribute(),
            };
        }
        if self.rest().starts_with(':') && (scope.is_some() || word == "trace") {
            self.at += 1;
            return self.scoped_intrinsic(word);
        }
        let number = |names: &[&str]| {
            names
                .iter()
                .position(|name| *name == word)
                .and_then(|at| u8::try_from(at).ok())
        };
        let literal = match word {
            "true" => Some(Static::Bool(true)),
            "false" => Some(Static::Bool(false)),
            "nil" => Some(Static::Nil),
            "minInt" => Some(Static::Int(i64::MIN)),
            "maxInt" => Some(Static::Int(i64::MAX)),
            _ => number(&STATUSES)
                .map(Static::Status)
                .or_else(|| number(&KINDS).map(Static::Kind)),
        };
        if let Some(literal) = literal {
            return Ok(Token::Static(literal));
        }
        let found = Intrinsic::NAMES.iter().find(|(_, short, _)| *short == word);
        Ok(match found {
            Some((intrinsic, _, _)) => Token::Attribute(Attribute::Intrinsic(*intrinsic)),
            None => Token::Ident(word.to_owned()),
        })
    }

    /// After `span:` and its like.
    fn scoped_intrinsic(&mut self, scope: &str) -> Result<Token, String> {
        let name = self.take_while(|c| c.is_alphanumeric() || c == '_');
        let within = |full: &'static str| full.strip_prefix(scope)?.strip_prefix(':');
        let names = Intrinsic::NAMES
            .iter()
            .filter_map(|(intrinsic, _, full)| Some((*intrinsic, within(full)?)));
        if let Some((intrinsic, _)) = names.clone().find(|(_, held)| *held == name) {
            return Ok(Token::Attribute(Attribute::Intrinsic(intrinsic)));
        }
        let known = Intrinsic::NAMES.iter().any(|(_, short, full)| {
            *short == name || full.rsplit(':').next().is_some_and(|held| held == name)
        });
        let found = match name {
            "" => "$end",
            name if known || is_keyword(name) => name,
            _ => "IDENTIFIER",
        };
        let expected: Vec<&str> = names.map(|(_, name)| name).collect();
        let expecting = match expected.len() {
            0..=4 => format!(", expecting {}", expected.join(" or ")),
            _ => String::new(),
        };
        Err(format!("syntax error: unexpected {found}{expecting}"))
    }

    /// After `parent.`: an attribute with or without a scope.
    fn parent_attribute(&mut self) -> Result<Token, String> {
        for (word, scope) in [("span.", Scope::Span), ("resource.", Scope::Resource)] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return self.attribute(Some(scope), true);
            }
        }
        self.attribute(None, true)
    }

    /// A quoted part of a name, in which only quotes and backslashes are escaped.
    fn quoted_part(&mut self, key: &mut String) -> Result<(), String> {
        self.at += 1;
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(()),
                '\\' => match self.peek() {
                    Some(escaped @ ('"' | '\\')) => {
                        self.at += 1;
                        key.push(escaped);
                    }
                    _ => return Err("syntax error: invalid escape in a name".to_owned()),
                },
                c => key.push(c),
            }
        }
        Err("syntax error: literal not terminated".to_owned())
    }

    /// The name of an attribute; parts may be quoted.
    fn attribute(&mut self, scope: Option<Scope>, parent: bool) -> Result<Token, String> {
        let mut key = String::new();
        loop {
            match self.peek() {
                Some('"') => self.quoted_part(&mut key)?,
                Some(c) if !ends_name(c) => {
                    key.push_str(self.take_while(|c| c != '"' && !ends_name(c)));
                }
                _ => break,
            }
        }
        if key.is_empty() {
            return Ok(Token::Unnamed { scope, parent });
        }
        let key: Arc<str> = key.into();
        Ok(Token::Attribute(Attribute::Named { scope, parent, key }))
    }
}

/// Nanoseconds, as Go writes durations or as Prometheus does.
fn duration(text: &str) -> Option<i64> {
    parse_go_duration(text).ok().or_else(|| {
        let milliseconds = parse_prometheus_duration(text).ok()?;
        milliseconds.checked_mul(1_000_000)
    })
}
