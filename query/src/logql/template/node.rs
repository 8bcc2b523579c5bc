//! The tree of a template, made by the parser and run by the executor.

use std::fmt;

use super::functions::Function;

/// Where a part stands, and how errors show it.
#[derive(Debug, Clone, Default)]
pub(super) struct At {
    /// In bytes.
    pub(super) pos: usize,
    pub(super) text: Box<str>,
}

#[derive(Debug)]
pub(super) enum Item {
    Text(Box<[u8]>),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
    Template {
        at: At,
        name: String,
        pipe: Option<Pipe>,
    },
}

#[derive(Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) body: Vec<Item>,
    pub(super) otherwise: Vec<Item>,
}

/// `$a, $b := command | command`
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) at: At,
    /// The variables that are set, with the `$`.
    pub(super) variables: Vec<String>,
    /// Whether they existed before (`=`).
    pub(super) assigns: bool,
    /// Never empty.
    pub(super) commands: Vec<Command>,
}

/// An operand and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) at: At,
    /// Never empty.
    pub(super) operands: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) at: At,
    pub(super) kind: OperandKind,
}

#[derive(Debug)]
pub(super) enum OperandKind {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Text(Vec<u8>),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`
    Variable(String, Vec<String>),
    Function(&'static Function),
    Pipe(Pipe),
    /// `(…).a.b`
    Chain(Box<Operand>, Vec<String>),
}

/// A constant, in all types that hold it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    pub(super) int: Option<i64>,
    pub(super) float: Option<f64>,
    /// Whether it is a float where any type will do.
    pub(super) is_float: bool,
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            OperandKind::Pipe(_) => write!(f, "({})", self.at.text),
            _ => f.write_str(&self.at.text),
        }
    }
}
