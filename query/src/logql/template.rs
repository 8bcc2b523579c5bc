//! Go's text templates as LogQL uses them in `line_format` and `label_format`; the pipeline compiles
//! one for each use and runs it on every row.
//!
//! `template/lexer.rs` and `template/parser.rs` make the trees of `template/node.rs`, which
//! `template/exec.rs` runs with the functions of `template/functions.rs` on the values of
//! `template/value.rs`. What a row gives is borrowed; a template that only puts labels and text
//! together allocates nothing.

mod exec;
mod functions;
mod lexer;
mod node;
mod number;
mod parser;
mod printf;
mod strings;
#[cfg(test)]
mod tests;
mod time;
mod value;

use trine_storage::regex::{LineRegex, Locations};

use self::node::{Item, Operand, OperandKind, Pipe};
use super::pipeline::labels::RowLabels;

/// How deep actions and parentheses may be nested in a template.
pub(super) const NESTING_MAX: usize = 100;

/// How many bytes one run of a template may make, what it writes and what it computes with together.
pub(super) const RUN_BYTES_MAX: usize = 4 << 20;

/// How many actions and operands one run of a template may evaluate.
pub(super) const RUN_STEPS_MAX: usize = 100_000;

/// How deep `template` actions may call each other.
pub(super) const CALL_DEPTH_MAX: usize = 50;

/// How many expressions a template keeps compiled.
const REGEXES_MAX: usize = 16;

/// A template and those it defines.
#[derive(Debug)]
pub(super) struct Template {
    /// The first is the template itself.
    trees: Vec<Tree>,
    text: Box<str>,
    name: &'static str,
    /// What `now` is, in nanoseconds since 1970.
    now_ns: i64,
}

#[derive(Debug)]
struct Tree {
    name: String,
    items: Vec<Item>,
}

/// What a template is run on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) labels: &'a RowLabels<'a>,
    pub(super) line: &'a [u8],
    pub(super) timestamp_ns: i64,
}

/// What the runs of a template share: expressions that were compiled.
#[derive(Debug, Default)]
pub(super) struct Memory {
    regexes: Vec<(Vec<u8>, LineRegex, Locations)>,
}

impl Template {
    /// Compiles a template. `name` is what errors call it, `now_ns` the instant that `now` gives.
    ///
    /// # Errors
    /// The text that Go gives.
    pub(super) fn new(text: &str, name: &'static str, now_ns: i64) -> Result<Self, String> {
        Ok(Self {
            trees: parser::parse(text, name)?,
            text: text.into(),
            name,
            now_ns,
        })
    }

    /// Appends what the template makes of a row.
    ///
    /// # Errors
    /// The text that Go gives; `out` may hold a part of the output then.
    pub(super) fn run<'a>(
        &'a self,
        row: Row<'a>,
        memory: &mut Memory,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        exec::run(self, row, memory, out)
    }

    /// The labels that the template looks at; `None` when it may look at any.
    pub(super) fn labels(&self) -> Option<Vec<&str>> {
        let mut names = Vec::new();
        let all = self
            .trees
            .iter()
            .all(|tree| names_of(&tree.items, &mut names));
        all.then_some(names)
    }
}

/// Adds the labels that items look at; false when these may be any.
fn names_of<'t>(items: &'t [Item], names: &mut Vec<&'t str>) -> bool {
    items.iter().all(|item| match item {
        Item::Text(_) | Item::Break | Item::Continue => true,
        Item::Action(pipe) => names_of_pipe(pipe, names),
        Item::If(branch) => {
            names_of_pipe(&branch.pipe, names)
                && names_of(&branch.body, names)
                && names_of(&branch.otherwise, names)
        }
        Item::With(branch) | Item::Range(branch) => {
            // In the body a field may be one of another value than the row: one name too many.
            names_of_pipe(&branch.pipe, names)
                && names_of(&branch.body, names)
                && names_of(&branch.otherwise, names)
        }
        Item::Template { pipe, .. } => pipe.as_ref().is_none_or(|pipe| names_of_pipe(pipe, names)),
    })
}

fn names_of_pipe<'t>(pipe: &'t Pipe, names: &mut Vec<&'t str>) -> bool {
    let mut operands = pipe.commands.iter().flat_map(|command| &command.operands);
    operands.all(|operand| names_of_operand(operand, names))
}

fn names_of_operand<'t>(operand: &'t Operand, names: &mut Vec<&'t str>) -> bool {
    match &operand.kind {
        OperandKind::Dot => false,
        OperandKind::Variable(name, path) => {
            match path.first() {
                Some(field) if name == "$" => names.push(field),
                Some(_) => {}
                None => return name != "$",
            }
            true
        }
        OperandKind::Field(path) => {
            names.extend(path.first().map(String::as_str));
            true
        }
        OperandKind::Pipe(pipe) => names_of_pipe(pipe, names),
        OperandKind::Chain(operand, _) => names_of_operand(operand, names),
        OperandKind::Nil
        | OperandKind::Bool(_)
        | OperandKind::Number(_)
        | OperandKind::Text(_)
        | OperandKind::Function(_) => true,
    }
}
