//! Splits the text of a template into tokens, with Go's rules and errors; for the parser.

/// The longest text of a token that errors show whole, in characters.
const SHOWN_MAX: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A mistake; the text says which.
    Error,
    /// The end of the template.
    End,
    /// Text outside of actions.
    Text,
    /// `{{`
    Open,
    /// `}}`
    Close,
    Space,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    /// `|`
    Pipe,
    /// `(`
    LeftParen,
    /// `)`
    RightParen,
    /// Any other character, such as `,`.
    Char,
    Bool,
    /// A number or a character constant.
    Number,
    /// With its quotes.
    String,
    /// `$` or `$name`
    Variable,
    /// `.name`
    Field,
    Identifier,
    /// `.`
    Dot,
    Nil,
    Block,
    Break,
    Continue,
    Define,
    Else,
    EndAction,
    If,
    Range,
    Template,
    With,
}

impl Kind {
    fn is_keyword(self) -> bool {
        self as u8 >= Self::Dot as u8
    }
}

#[derive(Debug, Clone)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: std::borrow::Cow<'t, str>,
    /// Where it begins, in bytes.
    pub(super) pos: usize,
    /// From 1.
    pub(super) line: usize,
}

impl Token<'_> {
    /// As errors show it.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::End => "EOF".to_owned(),
            Kind::Error => self.text.clone().into_owned(),
            kind if kind.is_keyword() => format!("<{}>", self.text),
            _ => match self.text.char_indices().nth(SHOWN_MAX) {
                Some((end, _)) => {
                    let start = self.text.get(..end).unwrap_or("");
                    format!("{}...", crate::text::quote(start))
                }
                None => crate::text::quote(&self.text),
            },
        }
    }
}

/// All tokens of a template; the last is the end or a mistake.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer {
        text,
        pos: 0,
        line: 1,
        parens: 0,
        tokens: Vec::new(),
    };
    if let Err(mistake) = lexer.run() {
        let (pos, line) = (lexer.pos, lexer.line);
        lexer.tokens.push(Token {
            kind: Kind::Error,
            text: mistake.into(),
            pos,
            line,
        });
    }
    lexer.tokens
}

struct Lexer<'t> {
    text: &'t str,
    pos: usize,
    line: usize,
    /// Open parentheses.
    parens: usize,
    tokens: Vec<Token<'t>>,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.pos..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Makes a token of the next `len` bytes.
    fn push(&mut self, kind: Kind, len: usize) {
        let text = self.rest().get(..len).unwrap_or("");
        let (pos, line) = (self.pos, self.line);
        self.tokens.push(Token {
            kind,
            text: text.into(),
            pos,
            line,
        });
        self.skip(len);
    }

    fn skip(&mut self, len: usize) {
        let text = self.rest().get(..len).unwrap_or("");
        self.line += text.matches('\n').count();
        self.pos += len;
    }

    fn run(&mut self) -> Result<(), String> {
        loop {
            let rest = self.rest();
            let Some(open) = rest.find("{{") else {
                if !rest.is_empty() {
                    self.push(Kind::Text, rest.len());
                }
                self.push(Kind::End, 0);
                return Ok(());
            };
            let before = rest.get(..open).unwrap_or("");
            let inside = rest.get(open + 2..).unwrap_or("");
            let trims = trims_left(inside);
            let kept = if trims {
                before.trim_end_matches(is_space).len()
            } else {
                open
            };
            if kept > 0 {
                self.push(Kind::Text, kept);
            }
            self.skip(open - kept);
            let marker = if trims { 2 } else { 0 };
            if inside.get(marker..).unwrap_or("").starts_with("/*") {
                self.skip(2 + marker);
                self.comment()?;
                continue;
            }
            self.push(Kind::Open, 2);
            self.skip(marker);
            self.parens = 0;
            while !self.action()? {}
        }
    }

    fn comment(&mut self) -> Result<(), String> {
        let end = self.rest().find("*/").ok_or("unclosed comment")?;
        self.skip(end + 2);
        let (len, trims) = self
            .close()
            .ok_or("comment ends before closing delimiter")?;
        self.skip(len);
        self.trim(trims);
        Ok(())
    }

    /// The length of the closing delimiter that comes next, and whether it trims.
    fn close(&self) -> Option<(usize, bool)> {
        let rest = self.rest();
        if rest.starts_with("}}") {
            return Some((2, false));
        }
        let after = rest.strip_prefix(is_space)?;
        after.starts_with("-}}").then_some((4, true))
    }

    fn trim(&mut self, trims: bool) {
        if trims {
            let rest = self.rest();
            self.skip(rest.len() - rest.trim_start_matches(is_space).len());
        }
    }

    /// Reads one token of an action; true after its end.
    fn action(&mut self) -> Result<bool, String> {
        if let Some((len, trims)) = self.close() {
            if self.parens > 0 {
                return Err("unclosed left paren".to_owned());
            }
            if trims {
                self.skip(2);
            }
            self.push(Kind::Close, len.min(2));
            self.trim(trims);
            return Ok(true);
        }
        let rest = self.rest();
        let c = self.peek().ok_or("unclosed action")?;
        match c {
            c if is_space(c) => self.space(),
            '=' => self.push(Kind::Assign, 1),
            ':' if rest.starts_with(":=") => self.push(Kind::Declare, 2),
            ':' => return Err("expected :=".to_owned()),
            '|' => self.push(Kind::Pipe, 1),
            '"' => self.quoted('"', "unterminated quoted string", Kind::String)?,
            '\'' => self.quoted('\'', "unterminated character constant", Kind::Number)?,
            '`' => {
                let body = rest.get(1..).unwrap_or("");
                let end = body.find('`').ok_or("unterminated raw quoted string")?;
                self.push(Kind::String, end + 2);
            }
            '$' => self.name(Kind::Variable)?,
            '.' if !rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => {
                self.name(Kind::Field)?;
            }
            '.' | '+' | '-' | '0'..='9' => self.number()?,
            c if is_word(c) => self.name(Kind::Identifier)?,
            '(' => {
                self.parens += 1;
                self.push(Kind::LeftParen, 1);
            }
            ')' => {
                self.parens = self.parens.checked_sub(1).ok_or("unexpected right paren")?;
                self.push(Kind::RightParen, 1);
            }
            c if c.is_ascii_graphic() => self.push(Kind::Char, 1),
            c => return Err(format!("unrecognized character in action: {}", shown(c))),
        }
        Ok(false)
    }

    /// A run of blanks, without one that belongs to a closing delimiter.
    fn space(&mut self) {
        let rest = self.rest();
        let mut len = rest.len() - rest.trim_start_matches(is_space).len();
        if len > 1 && rest.get(len..).unwrap_or("").starts_with("-}}") {
            len -= 1;
        }
        self.push(Kind::Space, len);
    }

    fn quoted(&mut self, quote: char, open: &str, kind: Kind) -> Result<(), String> {
        let mut escaped = false;
        for (at, c) in self.rest().char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => {
                    self.push(kind, at + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(open.to_owned())
    }

    /// A name, with the `.` or `$` before it.
    fn name(&mut self, kind: Kind) -> Result<(), String> {
        let rest = self.rest();
        let start = usize::from(kind != Kind::Identifier);
        let body = rest.get(start..).unwrap_or("");
        let len = start + body.find(|c| !is_word(c)).unwrap_or(body.len());
        let after = rest.get(len..).unwrap_or("");
        let ends = after.starts_with("}}")
            || after
                .chars()
                .next()
                .is_none_or(|c| is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '('));
        if !ends {
            let c = after.chars().next().unwrap_or_default();
            return Err(format!("bad character {}", shown(c)));
        }
        let word = rest.get(..len).unwrap_or("");
        let kind = match (kind, word) {
            (Kind::Field, ".") => Kind::Dot,
            (Kind::Identifier, word) => keyword(word),
            (kind, _) => kind,
        };
        self.push(kind, len);
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let len = number_len(rest);
        let after = rest.get(len..).unwrap_or("").chars().next();
        if let Some(c) = after.filter(|c| is_word(*c)) {
            let bad = rest.get(..len + c.len_utf8()).unwrap_or("");
            return Err(format!("bad number syntax: {}", crate::text::quote(bad)));
        }
        self.push(Kind::Number, len);
        Ok(())
    }
}

fn keyword(word: &str) -> Kind {
    match word {
        "true" | "false" => Kind::Bool,
        "nil" => Kind::Nil,
        "block" => Kind::Block,
        "break" => Kind::Break,
        "continue" => Kind::Continue,
        "define" => Kind::Define,
        "else" => Kind::Else,
        "end" => Kind::EndAction,
        "if" => Kind::If,
        "range" => Kind::Range,
        "template" => Kind::Template,
        "with" => Kind::With,
        _ => Kind::Identifier,
    }
}

fn trims_left(inside: &str) -> bool {
    inside
        .strip_prefix('-')
        .is_some_and(|after| after.starts_with(is_space))
}

/// How many bytes at the front look like a number.
fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let run = |from: usize, digits: &str| {
        let is_digit = |byte: &u8| digits.as_bytes().contains(byte) || *byte == b'_';
        from + bytes
            .iter()
            .skip(from)
            .take_while(|byte| is_digit(byte))
            .count()
    };
    let mut len = usize::from(matches!(at(0), b'+' | b'-'));
    let mut digits = "0123456789";
    if at(len) == b'0' {
        len += 1;
        digits = match at(len) | 0x20 {
            b'x' => "0123456789abcdefABCDEF",
            b'o' => "01234567",
            b'b' => "01",
            _ => digits,
        };
        len += usize::from(digits != "0123456789");
    }
    let is_hex = digits.len() > 16;
    len = run(len, digits);
    if at(len) == b'.' {
        len = run(len + 1, digits);
    }
    let exponent = if is_hex { b'p' } else { b'e' };
    if at(len) | 0x20 == exponent && (is_hex || digits.len() == 10) {
        len += 1;
        len += usize::from(matches!(at(len), b'+' | b'-'));
        len = run(len, "0123456789");
    }
    len
}

/// A character as Go's `%#U` shows it.
fn shown(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}
