//! Parses a template into its trees, with Go's errors.

use super::functions::{self, Function};
use super::lexer::{self, Kind, Token};
use super::node::{At, Branch, Command, Item, Number, Operand, OperandKind, Pipe};
use super::{NESTING_MAX, Tree};
use crate::text::{quote, unquote_bytes};

/// Parses `text`; `name` is the template's own name. The first tree is the template itself.
///
/// # Errors
/// The text that Go gives.
pub(super) fn parse(text: &str, name: &'static str) -> Result<Vec<Tree>, String> {
    let mut parser = Parser {
        tokens: lexer::tokens(text),
        at: 0,
        name,
        line: 1,
        depth: 0,
        ranges: 0,
        variables: vec!["$".to_owned()],
        trees: Vec::new(),
    };
    parser.trees.push(Tree {
        name: name.to_owned(),
        items: Vec::new(),
    });
    let items = parser.top()?;
    if let Some(tree) = parser.trees.first_mut() {
        tree.items = items;
    }
    Ok(parser.trees)
}

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    /// The next token.
    at: usize,
    name: &'static str,
    /// Of the last token.
    line: usize,
    /// Nesting of actions and parentheses.
    depth: usize,
    /// Nesting of `range`.
    ranges: usize,
    variables: Vec<String>,
    trees: Vec<Tree>,
}

/// What ended a list of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ender {
    End,
    Else,
}

impl Ender {
    fn shown(self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

enum Part {
    Item(Item),
    Nothing,
    Ender(Ender),
}

impl<'t> Parser<'t> {
    fn next(&mut self) -> Token<'t> {
        let token = self.tokens.get(self.at).cloned().unwrap_or(Token {
            kind: Kind::End,
            text: "".into(),
            pos: 0,
            line: self.line,
        });
        // The last token stays: it is the end or a mistake.
        if !matches!(token.kind, Kind::End | Kind::Error) {
            self.at += 1;
        }
        self.line = token.line;
        token
    }

    fn next_solid(&mut self) -> Token<'t> {
        self.skip_space();
        self.next()
    }

    fn peek(&self) -> Kind {
        self.tokens
            .get(self.at)
            .map_or(Kind::End, |token| token.kind)
    }

    fn peek_solid(&mut self) -> Kind {
        self.skip_space();
        self.peek()
    }

    fn skip_space(&mut self) {
        while self.peek() == Kind::Space {
            self.next();
        }
    }

    fn pos(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.pos)
    }

    fn error<T>(&self, text: impl AsRef<str>) -> Result<T, String> {
        let (name, line) = (self.name, self.line);
        Err(format!("template: {name}:{line}: {}", text.as_ref()))
    }

    fn unexpected<T>(&self, token: &Token<'_>, context: &str) -> Result<T, String> {
        if token.kind == Kind::Error {
            return self.error(&token.text);
        }
        self.error(format!("unexpected {} in {context}", token.shown()))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token<'t>, String> {
        let token = self.next_solid();
        if token.kind == kind {
            Ok(token)
        } else {
            self.unexpected(&token, context)
        }
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return self.error("max expression depth exceeded");
        }
        Ok(())
    }

    fn top(&mut self) -> Result<Vec<Item>, String> {
        let mut items = Vec::new();
        while self.peek() != Kind::End {
            match self.part(true)? {
                Part::Item(item) => items.push(item),
                Part::Nothing => {}
                Part::Ender(ender) => return self.error(format!("unexpected {}", ender.shown())),
            }
        }
        Ok(items)
    }

    fn items(&mut self) -> Result<(Vec<Item>, Ender), String> {
        let mut items = Vec::new();
        while self.peek_solid() != Kind::End {
            match self.part(false)? {
                Part::Item(item) => items.push(item),
                Part::Nothing => {}
                Part::Ender(ender) => return Ok((items, ender)),
            }
        }
        self.next();
        self.error("unexpected EOF")
    }

    /// Text or an action.
    fn part(&mut self, at_top: bool) -> Result<Part, String> {
        let token = self.next_solid();
        match token.kind {
            Kind::Text => Ok(Part::Item(Item::Text(token.text.as_bytes().into()))),
            Kind::Open => {
                if at_top && self.peek_solid() == Kind::Define {
                    self.define()?;
                    return Ok(Part::Nothing);
                }
                self.action()
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Result<Part, String> {
        let kind = self.peek_solid();
        if matches!(
            kind,
            Kind::Block
                | Kind::Break
                | Kind::Continue
                | Kind::Else
                | Kind::EndAction
                | Kind::If
                | Kind::Range
                | Kind::Template
                | Kind::With
        ) {
            let token = self.next();
            return self.control(&token);
        }
        Ok(Part::Item(Item::Action(self.pipe("command", Kind::Close)?)))
    }

    fn control(&mut self, token: &Token<'t>) -> Result<Part, String> {
        Ok(Part::Item(match token.kind {
            Kind::Break | Kind::Continue => {
                let name = format!("{{{{{}}}}}", token.text);
                self.expect(Kind::Close, &name)?;
                if self.ranges == 0 {
                    return self.error(format!("{name} outside {{{{range}}}}"));
                }
                if token.kind == Kind::Break {
                    Item::Break
                } else {
                    Item::Continue
                }
            }
            Kind::Else => {
                if !matches!(self.peek_solid(), Kind::If | Kind::With) {
                    self.expect(Kind::Close, "else")?;
                }
                return Ok(Part::Ender(Ender::Else));
            }
            Kind::EndAction => {
                self.expect(Kind::Close, "end")?;
                return Ok(Part::Ender(Ender::End));
            }
            Kind::If => Item::If(self.branch("if")?),
            Kind::With => Item::With(self.branch("with")?),
            Kind::Range => Item::Range(self.branch("range")?),
            Kind::Block => self.block()?,
            _ => self.template()?,
        }))
    }

    fn branch(&mut self, context: &str) -> Result<Branch, String> {
        self.deeper()?;
        let known = self.variables.len();
        let pipe = self.pipe(context, Kind::Close)?;
        self.ranges += usize::from(context == "range");
        let (body, mut ender) = self.items()?;
        self.ranges -= usize::from(context == "range");
        let mut otherwise = Vec::new();
        if ender == Ender::Else {
            match (context, self.peek()) {
                ("if", Kind::If) => {
                    self.next();
                    otherwise.push(Item::If(self.branch("if")?));
                    ender = Ender::End;
                }
                ("with", Kind::With) => {
                    self.next();
                    otherwise.push(Item::With(self.branch("with")?));
                    ender = Ender::End;
                }
                (_, Kind::If | Kind::With) => {
                    let token = self.next();
                    return self.unexpected(&token, "else");
                }
                _ => (otherwise, ender) = self.items()?,
            }
        }
        if ender != Ender::End {
            return self.error(format!("expected end; found {}", ender.shown()));
        }
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(Branch {
            pipe,
            body,
            otherwise,
        })
    }

    /// A template's name, and where it stands.
    fn template_name(&mut self, context: &str) -> Result<(String, usize), String> {
        let token = self.next_solid();
        if token.kind != Kind::String {
            return self.unexpected(&token, context);
        }
        let name = self.unquoted(&token)?;
        Ok((String::from_utf8_lossy(&name).into_owned(), token.pos))
    }

    fn unquoted(&self, token: &Token<'_>) -> Result<Vec<u8>, String> {
        match unquote_bytes(&token.text) {
            Ok(text) => Ok(text),
            Err(error) => self.error(error.to_string()),
        }
    }

    fn template(&mut self) -> Result<Item, String> {
        const CONTEXT: &str = "template clause";
        let (name, pos) = self.template_name(CONTEXT)?;
        let mut pipe = None;
        if self.peek_solid() == Kind::Close {
            self.next();
        } else {
            pipe = Some(self.pipe(CONTEXT, Kind::Close)?);
        }
        Ok(called(pos, name, pipe))
    }

    fn block(&mut self) -> Result<Item, String> {
        const CONTEXT: &str = "block clause";
        let (name, pos) = self.template_name(CONTEXT)?;
        let pipe = self.pipe(CONTEXT, Kind::Close)?;
        self.body(name.clone(), CONTEXT)?;
        Ok(called(pos, name, Some(pipe)))
    }

    fn define(&mut self) -> Result<(), String> {
        const CONTEXT: &str = "define clause";
        self.next();
        let (name, _) = self.template_name(CONTEXT)?;
        self.expect(Kind::Close, CONTEXT)?;
        self.body(name, CONTEXT)
    }

    /// What a `define` or `block` holds, up to its `end`.
    fn body(&mut self, name: String, context: &str) -> Result<(), String> {
        self.deeper()?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (items, ender) = self.items()?;
        if ender != Ender::End {
            return self.error(format!("unexpected {} in {context}", ender.shown()));
        }
        self.variables = outer;
        self.ranges = ranges;
        self.depth -= 1;
        let known = self.trees.iter_mut().skip(1).find(|tree| tree.name == name);
        match known {
            // An empty body never replaces another.
            Some(tree) if items.iter().any(has_content) => tree.items = items,
            Some(_) => {}
            None => self.trees.push(Tree { name, items }),
        }
        Ok(())
    }

    fn pipe(&mut self, context: &str, end: Kind) -> Result<Pipe, String> {
        self.deeper()?;
        self.skip_space();
        let pos = self.pos();
        let mut pipe = Pipe {
            at: At::default(),
            variables: Vec::new(),
            assigns: false,
            commands: Vec::new(),
        };
        while self.peek_solid() == Kind::Variable {
            // Whether something is declared is told by what follows the variable.
            let mut ahead = self.tokens.iter().skip(self.at);
            let variable = ahead.next().map_or("", |token| &*token.text).to_owned();
            let (kind, is_comma) = ahead
                .find(|token| token.kind != Kind::Space)
                .map_or((Kind::End, false), |token| (token.kind, token.text == ","));
            if matches!(kind, Kind::Assign | Kind::Declare) {
                self.next();
                self.next_solid();
                pipe.assigns = kind == Kind::Assign;
                self.variables.push(variable.clone());
                pipe.variables.push(variable);
                break;
            }
            if !(kind == Kind::Char && is_comma) {
                break;
            }
            self.next();
            self.next_solid();
            self.variables.push(variable.clone());
            pipe.variables.push(variable);
            if context != "range" || pipe.variables.len() >= 2 {
                return self.error(format!("too many declarations in {context}"));
            }
            if !matches!(
                self.peek_solid(),
                Kind::Variable | Kind::Close | Kind::RightParen
            ) {
                return self.error("range can only initialize variables");
            }
        }
        loop {
            match self.peek_solid() {
                kind if kind == end => {
                    self.next();
                    break;
                }
                Kind::Bool
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => {
                    let token = self.next();
                    return self.unexpected(&token, context);
                }
            }
        }
        self.check(&pipe, context)?;
        let commands: Vec<&str> = pipe.commands.iter().map(|c| &*c.at.text).collect();
        let mut text = pipe.variables.join(", ");
        if !text.is_empty() {
            text.push_str(if pipe.assigns { " = " } else { " := " });
        }
        text.push_str(&commands.join(" | "));
        pipe.at = At {
            pos,
            text: text.into(),
        };
        self.depth -= 1;
        Ok(pipe)
    }

    fn check(&self, pipe: &Pipe, context: &str) -> Result<(), String> {
        if pipe.commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            let constant = matches!(
                command.operands.first().map(|operand| &operand.kind),
                Some(
                    OperandKind::Bool(_)
                        | OperandKind::Dot
                        | OperandKind::Nil
                        | OperandKind::Number(_)
                        | OperandKind::Text(_)
                )
            );
            if constant {
                let stage = i + 1;
                return self.error(format!("non executable command in pipeline stage {stage}"));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, String> {
        let pos = self.pos();
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            operands.extend(self.operand()?);
            match self.peek() {
                Kind::Space => {
                    self.next();
                }
                Kind::Close | Kind::RightParen => break,
                Kind::Pipe => {
                    self.next();
                    break;
                }
                _ => {
                    let token = self.next();
                    return self.unexpected(&token, "operand");
                }
            }
        }
        if operands.is_empty() {
            return self.error("empty command");
        }
        let texts: Vec<String> = operands.iter().map(ToString::to_string).collect();
        Ok(Command {
            at: At {
                pos,
                text: texts.join(" ").into(),
            },
            operands,
        })
    }

    fn operand(&mut self) -> Result<Option<Operand>, String> {
        let Some(mut operand) = self.term()? else {
            return Ok(None);
        };
        if self.peek() != Kind::Field {
            return Ok(Some(operand));
        }
        let pos = self.pos();
        let mut fields = Vec::new();
        let mut text = operand.to_string();
        while self.peek() == Kind::Field {
            let token = self.next();
            text.push_str(&token.text);
            fields.push(token.text.get(1..).unwrap_or("").to_owned());
        }
        operand.kind = match operand.kind {
            OperandKind::Field(mut path) => {
                path.extend(fields);
                OperandKind::Field(path)
            }
            OperandKind::Variable(name, mut path) => {
                path.extend(fields);
                OperandKind::Variable(name, path)
            }
            OperandKind::Bool(_)
            | OperandKind::Text(_)
            | OperandKind::Number(_)
            | OperandKind::Nil
            | OperandKind::Dot => {
                let term = quote(&operand.at.text);
                return self.error(format!("unexpected . after term {term}"));
            }
            kind => {
                let at = std::mem::take(&mut operand.at);
                OperandKind::Chain(Box::new(Operand { at, kind }), fields)
            }
        };
        operand.at = At {
            pos,
            text: text.into(),
        };
        Ok(Some(operand))
    }

    fn term(&mut self) -> Result<Option<Operand>, String> {
        if !matches!(
            self.peek_solid(),
            Kind::Identifier
                | Kind::Dot
                | Kind::Nil
                | Kind::Variable
                | Kind::Field
                | Kind::Bool
                | Kind::Number
                | Kind::LeftParen
                | Kind::String
        ) {
            return Ok(None);
        }
        let token = self.next();
        let text = token.text.clone().into_owned();
        let mut shown = text.clone();
        let kind = match token.kind {
            Kind::Identifier => OperandKind::Function(self.function(&text)?),
            Kind::Dot => OperandKind::Dot,
            Kind::Nil => OperandKind::Nil,
            Kind::Variable => {
                if !self.variables.contains(&text) {
                    return self.error(format!("undefined variable {}", quote(&text)));
                }
                OperandKind::Variable(text, Vec::new())
            }
            Kind::Field => OperandKind::Field(vec![text.get(1..).unwrap_or("").to_owned()]),
            Kind::Bool => OperandKind::Bool(text == "true"),
            Kind::Number => OperandKind::Number(self.number(&text)?),
            Kind::String => OperandKind::Text(self.unquoted(&token)?),
            _ => {
                let pipe = self.pipe("parenthesized pipeline", Kind::RightParen)?;
                shown = pipe.at.text.clone().into();
                OperandKind::Pipe(pipe)
            }
        };
        let at = At {
            pos: token.pos,
            text: shown.into(),
        };
        Ok(Some(Operand { at, kind }))
    }

    fn function(&self, name: &str) -> Result<&'static Function, String> {
        match functions::find(name) {
            Some(function) => Ok(function),
            None => self.error(format!("function {} not defined", quote(name))),
        }
    }

    fn number(&self, text: &str) -> Result<Number, String> {
        if text.starts_with('\'') {
            let value = unquote_bytes(text).ok();
            let value = value.and_then(|bytes| String::from_utf8(bytes).ok());
            let mut chars = value.as_deref().unwrap_or("").chars();
            return match (chars.next(), chars.next()) {
                (Some(c), None) => Ok(Number {
                    int: Some(i64::from(u32::from(c))),
                    float: Some(f64::from(u32::from(c))),
                    is_float: false,
                }),
                _ => self.error(format!("malformed character constant: {text}")),
            };
        }
        let int = super::number::parse_int(text);
        let float = super::number::parse_float(text);
        if int.is_none() && float.is_none() {
            return self.error(format!("illegal number syntax: {}", quote(text)));
        }
        let is_hex = text.trim_start_matches(['+', '-']).starts_with("0x");
        let is_float = int.is_none() || (!is_hex && text.contains(['.', 'e', 'E', 'p', 'P']));
        Ok(Number {
            int: int.or_else(|| float.and_then(super::number::whole)),
            float: float.or(int.map(|int| int as f64)),
            is_float,
        })
    }
}

fn called(pos: usize, name: String, pipe: Option<Pipe>) -> Item {
    let mut text = format!("{{{{template {}", quote(&name));
    if let Some(pipe) = &pipe {
        text.push(' ');
        text.push_str(&pipe.at.text);
    }
    text.push_str("}}");
    Item::Template {
        at: At {
            pos,
            text: text.into(),
        },
        name,
        pipe,
    }
}

fn has_content(item: &Item) -> bool {
    !matches!(item, Item::Text(text) if text.trim_ascii().is_empty())
}
