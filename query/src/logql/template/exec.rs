//! Runs a template on a row.

use std::rc::Rc;

use trine_storage::regex::{LineRegex, Locations};

use super::functions::{self, Function, Kind, Op};
use super::node::{At, Branch, Command, Item, Number, Operand, OperandKind, Pipe};
use super::value::{Value, labels};
use super::{
    CALL_DEPTH_MAX, Memory, REGEXES_MAX, RUN_BYTES_MAX, RUN_STEPS_MAX, Row, Template, Tree,
};
use crate::text::quote;

/// Arguments that are held without a heap.
const FEW_ARGS: usize = 4;

/// What functions need to know, and what is left of the limits.
pub(super) struct Env<'a, 'm> {
    pub(super) row: Row<'a>,
    pub(super) now_ns: i64,
    memory: &'m mut Memory,
    bytes_left: usize,
}

impl<'a> Env<'a, '_> {
    /// Takes bytes from what the run may make.
    ///
    /// # Errors
    /// When it may not make so many.
    pub(super) fn room(&mut self, bytes: usize) -> Result<(), String> {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => return Err(format!("more than {RUN_BYTES_MAX} bytes are made")),
        }
        Ok(())
    }

    /// How many bytes may still be made.
    pub(super) fn left(&self) -> usize {
        self.bytes_left
    }

    /// The value of a label, empty when there is none.
    pub(super) fn label(&self, name: &str) -> Value<'a> {
        Value::text(self.row.labels.get(name).unwrap_or("").as_bytes())
    }

    /// An expression, compiled once.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn regex(&mut self, pattern: &[u8]) -> Result<(&LineRegex, &mut Locations), String> {
        let known = &mut self.memory.regexes;
        let place = match known.iter().position(|(held, ..)| held == pattern) {
            Some(place) => place,
            None => {
                let regex = functions::compile(pattern)?;
                if known.len() == REGEXES_MAX {
                    known.remove(0);
                }
                let locations = regex.locations();
                known.push((pattern.to_vec(), regex, locations));
                known.len() - 1
            }
        };
        match known.get_mut(place) {
            Some((_, regex, locations)) => Ok((regex, locations)),
            None => Err("no expression".to_owned()),
        }
    }
}

/// How a list of items ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a, 'm> {
    template: &'a Template,
    env: Env<'a, 'm>,
    out: &'m mut Vec<u8>,
    /// The template at work, and where it is.
    tree: &'a Tree,
    at: &'a At,
    variables: Vec<(&'a str, Value<'a>)>,
    depth: usize,
    steps: usize,
}

type Outcome<T> = Result<T, String>;

pub(super) fn run<'a>(
    template: &'a Template,
    row: Row<'a>,
    memory: &mut Memory,
    out: &mut Vec<u8>,
) -> Outcome<()> {
    static NOWHERE: std::sync::LazyLock<At> = std::sync::LazyLock::new(At::default);
    let Some(tree) = template.trees.first() else {
        return Ok(());
    };
    let mut run = Run {
        template,
        env: Env {
            row,
            now_ns: template.now_ns,
            memory,
            bytes_left: RUN_BYTES_MAX,
        },
        out,
        tree,
        at: &NOWHERE,
        variables: vec![("$", Value::Row)],
        depth: 0,
        steps: RUN_STEPS_MAX,
    };
    run.items(&tree.items, &Value::Row).map(|_| ())
}

impl<'a> Run<'a, '_> {
    /// An error at the current place.
    fn error<T>(&self, what: impl AsRef<str>) -> Outcome<T> {
        let text = self.template.text.get(..self.at.pos).unwrap_or("");
        let line = 1 + text.matches('\n').count();
        let column = text.len() - text.rfind('\n').map_or(0, |newline| newline + 1);
        Err(format!(
            "template: {}:{line}:{column}: executing {} at <{}>: {}",
            self.template.name,
            quote(&self.tree.name),
            self.at.text,
            what.as_ref()
        ))
    }

    fn step(&mut self) -> Outcome<()> {
        match self.steps.checked_sub(1) {
            Some(left) => self.steps = left,
            None => return self.error(format!("more than {RUN_STEPS_MAX} steps")),
        }
        Ok(())
    }

    fn write(&mut self, text: &[u8]) -> Outcome<()> {
        if let Err(what) = self.env.room(text.len()) {
            return self.error(what);
        }
        self.out.extend_from_slice(text);
        Ok(())
    }

    fn items(&mut self, items: &'a [Item], dot: &Value<'a>) -> Outcome<Flow> {
        for item in items {
            self.step()?;
            let flow = match item {
                Item::Text(text) => {
                    self.write(text)?;
                    Flow::On
                }
                Item::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.at = &pipe.at;
                        self.print(&value)?;
                    }
                    Flow::On
                }
                Item::If(branch) => self.branch(branch, dot, false)?,
                Item::With(branch) => self.branch(branch, dot, true)?,
                Item::Range(branch) => self.range(branch, dot)?,
                Item::Break => Flow::Break,
                Item::Continue => Flow::Continue,
                Item::Template { at, name, pipe } => {
                    self.call_template(at, name, pipe.as_ref(), dot)?;
                    Flow::On
                }
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn print(&mut self, value: &Value<'a>) -> Outcome<()> {
        if let Value::Text(text) = value {
            return self.write(text);
        }
        let start = self.out.len();
        value.print(self.env.row, "<no value>", self.out);
        match self.env.room(self.out.len() - start) {
            Ok(()) => Ok(()),
            Err(what) => self.error(what),
        }
    }

    fn branch(&mut self, branch: &'a Branch, dot: &Value<'a>, with: bool) -> Outcome<Flow> {
        let known = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = if !value.is_true(self.env.row) {
            self.items(&branch.otherwise, dot)
        } else if with {
            self.items(&branch.body, &value)
        } else {
            self.items(&branch.body, dot)
        };
        self.variables.truncate(known);
        flow
    }

    fn range(&mut self, branch: &'a Branch, dot: &Value<'a>) -> Outcome<Flow> {
        let known = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        // The variables of the pipeline are set anew for each element.
        if !branch.pipe.assigns {
            self.variables.truncate(known);
        }
        let flow = self.range_over(branch, dot, &value);
        self.variables.truncate(known);
        flow
    }

    fn range_over(
        &mut self,
        branch: &'a Branch,
        dot: &Value<'a>,
        over: &Value<'a>,
    ) -> Outcome<Flow> {
        let mut any = false;
        match over {
            Value::List(list) => {
                for (i, value) in list.iter().enumerate() {
                    any = true;
                    let key = Value::Int(i64::try_from(i).unwrap_or(i64::MAX));
                    if self.element(branch, key, value)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    any = true;
                    let key = Value::text(key.clone());
                    if self.element(branch, key, value)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Row => {
                for (name, value) in labels(self.env.row) {
                    any = true;
                    let (key, value) = (Value::owned(name), Value::owned(value));
                    if self.element(branch, key, &value)? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Int(count) | Value::Int64(count) => {
                self.at = &branch.pipe.at;
                if branch.pipe.variables.len() > 1 {
                    let count = branch.pipe.at.text.clone();
                    return self.error(format!(
                        "can't use {count} to iterate over more than one variable"
                    ));
                }
                for i in 0..*count {
                    any = true;
                    if self.element(branch, Value::Int(i), &Value::Int(i))? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Nil => {}
            other => {
                self.at = &branch.pipe.at;
                let mut shown = Vec::new();
                other.print(self.env.row, "<nil>", &mut shown);
                let shown = String::from_utf8_lossy(&shown).into_owned();
                return self.error(format!("range can't iterate over {shown}"));
            }
        }
        if any {
            Ok(Flow::On)
        } else {
            self.items(&branch.otherwise, dot)
        }
    }

    fn element(&mut self, branch: &'a Branch, key: Value<'a>, value: &Value<'a>) -> Outcome<Flow> {
        self.step()?;
        let known = self.variables.len();
        let pipe = &branch.pipe;
        let values = match pipe.variables.as_slice() {
            [] => Vec::new(),
            [only] => vec![(only, value.clone())],
            [first, second, ..] => vec![(first, key), (second, value.clone())],
        };
        for (name, value) in values {
            self.set(name, value, pipe.assigns);
        }
        let flow = self.items(&branch.body, value);
        self.variables.truncate(known);
        flow
    }

    fn set(&mut self, name: &'a str, value: Value<'a>, assigns: bool) {
        if assigns
            && let Some((_, held)) = self
                .variables
                .iter_mut()
                .rev()
                .find(|(held, _)| *held == name)
        {
            *held = value;
            return;
        }
        self.variables.push((name, value));
    }

    fn call_template(
        &mut self,
        at: &'a At,
        name: &str,
        pipe: Option<&'a Pipe>,
        dot: &Value<'a>,
    ) -> Outcome<()> {
        self.at = at;
        let template = self.template;
        let Some(tree) = template.trees.iter().rev().find(|tree| tree.name == name) else {
            return self.error(format!("template {} not defined", quote(name)));
        };
        if self.depth == CALL_DEPTH_MAX {
            return self.error(format!(
                "exceeded maximum template depth ({CALL_DEPTH_MAX})"
            ));
        }
        let dot = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        self.depth += 1;
        let outer = std::mem::replace(&mut self.tree, tree);
        let variables = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        self.items(&tree.items, &dot)?;
        self.variables = variables;
        self.tree = outer;
        self.depth -= 1;
        Ok(())
    }

    fn pipe(&mut self, pipe: &'a Pipe, dot: &Value<'a>) -> Outcome<Value<'a>> {
        self.at = &pipe.at;
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or_default();
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    /// Evaluates a command; `last` is the value of the one before it in the pipeline.
    fn command(
        &mut self,
        command: &'a Command,
        dot: &Value<'a>,
        last: Option<Value<'a>>,
    ) -> Outcome<Value<'a>> {
        self.step()?;
        let Some((head, args)) = command.operands.split_first() else {
            return Ok(Value::Nil);
        };
        let has_args = !args.is_empty() || last.is_some();
        match &head.kind {
            OperandKind::Function(function) => {
                self.at = &head.at;
                return self.call(function, args, dot, last, &command.at);
            }
            OperandKind::Field(path) => return self.path(dot.clone(), path, &head.at, has_args),
            OperandKind::Variable(_, path) | OperandKind::Chain(_, path) if !path.is_empty() => {
                let whole = self.whole(head, dot)?;
                return self.path(whole, path, &head.at, has_args);
            }
            _ => {}
        }
        if !matches!(head.kind, OperandKind::Pipe(_)) {
            self.at = &head.at;
        }
        if has_args {
            return self.error(format!("can't give argument to non-function {head}"));
        }
        match &head.kind {
            OperandKind::Nil => self.error("nil is not a command"),
            _ => self.whole(head, dot),
        }
    }

    /// The value of an operand, of a path only its beginning.
    fn whole(&mut self, operand: &'a Operand, dot: &Value<'a>) -> Outcome<Value<'a>> {
        Ok(match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => Value::Nil,
            OperandKind::Bool(value) => Value::Bool(*value),
            OperandKind::Number(number) => constant(*number),
            OperandKind::Text(text) => Value::text(text.as_slice()),
            OperandKind::Field(path) => {
                return self.path(dot.clone(), path, &operand.at, false);
            }
            OperandKind::Variable(name, _) => {
                let found = self.variables.iter().rev().find(|(held, _)| held == name);
                found.map(|(_, value)| value.clone()).unwrap_or_default()
            }
            OperandKind::Function(function) => {
                self.at = &operand.at;
                return self.call(function, &[], dot, None, &operand.at);
            }
            OperandKind::Pipe(pipe) => return self.pipe(pipe, dot),
            OperandKind::Chain(inner, _) => {
                if matches!(inner.kind, OperandKind::Nil) {
                    return self.error(format!("indirection through explicit nil in {operand}"));
                }
                self.at = &inner.at;
                return self.whole(inner, dot);
            }
        })
    }

    /// The value of an operand with the path after it.
    fn operand(&mut self, operand: &'a Operand, dot: &Value<'a>) -> Outcome<Value<'a>> {
        self.step()?;
        self.at = &operand.at;
        let whole = self.whole(operand, dot)?;
        match &operand.kind {
            OperandKind::Variable(_, path) | OperandKind::Chain(_, path) => {
                self.path(whole, path, &operand.at, false)
            }
            _ => Ok(whole),
        }
    }

    /// Follows field names.
    fn path(
        &mut self,
        value: Value<'a>,
        path: &'a [String],
        at: &'a At,
        has_args: bool,
    ) -> Outcome<Value<'a>> {
        self.at = at;
        let mut value = value;
        for (i, name) in path.iter().enumerate() {
            let has_args = has_args && i + 1 == path.len();
            value = match value {
                Value::Row | Value::Map(_) if has_args => {
                    return self.error(format!("{name} is not a method but has arguments"));
                }
                Value::Row => self.env.label(name),
                Value::Map(map) => map.get(name.as_bytes()).cloned().unwrap_or_default(),
                Value::Nil if i > 0 => {
                    return self.error(format!("nil pointer evaluating interface {{}}.{name}"));
                }
                Value::Nil => Value::Nil,
                Value::Time(time) if !has_args => match method(&time, name) {
                    Some(value) => value,
                    None => {
                        return self
                            .error(format!("can't evaluate field {name} in type time.Time"));
                    }
                },
                other => {
                    let type_name = other.type_name();
                    return self.error(format!("can't evaluate field {name} in type {type_name}"));
                }
            };
        }
        Ok(value)
    }

    fn call(
        &mut self,
        function: &'static Function,
        args: &'a [Operand],
        dot: &Value<'a>,
        last: Option<Value<'a>>,
        at: &'a At,
    ) -> Outcome<Value<'a>> {
        let fixed = function.fixed.len();
        let given = args.len() + usize::from(last.is_some());
        let name = function.name;
        if function.more.is_some() && given < fixed {
            let found = args.len();
            return self.error(format!(
                "wrong number of args for {name}: want at least {fixed} got {found}"
            ));
        }
        if function.more.is_none() && given != fixed {
            return self.error(format!(
                "wrong number of args for {name}: want {fixed} got {given}"
            ));
        }
        if matches!(function.op, Op::And | Op::Or) {
            let mut value = Value::Nil;
            for arg in args {
                value = self.operand(arg, dot)?;
                if value.is_true(self.env.row) == (function.op == Op::Or) {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut few: [Value<'a>; FEW_ARGS] = Default::default();
        let mut many = Vec::new();
        if given > FEW_ARGS {
            many.resize(given, Value::Nil);
        }
        for i in 0..given {
            let kind = function.fixed.get(i).copied().or(function.more);
            let kind = kind.unwrap_or(Kind::Any);
            let value = match (args.get(i), &last) {
                (Some(arg), _) => self.argument(arg, kind, dot)?,
                (None, Some(last)) => self.checked(last.clone(), kind)?,
                (None, None) => Value::Nil,
            };
            let slots = if many.is_empty() {
                &mut few[..]
            } else {
                &mut many[..]
            };
            if let Some(slot) = slots.get_mut(i) {
                *slot = value;
            }
        }
        let slots = if many.is_empty() {
            &mut few[..]
        } else {
            &mut many[..]
        };
        let result = functions::call(
            function.op,
            slots.get_mut(..given).unwrap_or_default(),
            &mut self.env,
        );
        result.or_else(|what| {
            self.at = at;
            self.error(format!("error calling {name}: {what}"))
        })
    }

    /// An argument as a value of the parameter's type.
    fn argument(
        &mut self,
        operand: &'a Operand,
        kind: Kind,
        dot: &Value<'a>,
    ) -> Outcome<Value<'a>> {
        let value = match &operand.kind {
            OperandKind::Nil => {
                self.at = &operand.at;
                if kind != Kind::Any {
                    return self.error(format!("cannot assign nil to {}", kind.name()));
                }
                Value::Nil
            }
            OperandKind::Bool(_) | OperandKind::Number(_) | OperandKind::Text(_) => {
                self.at = &operand.at;
                return self.constant(operand, kind);
            }
            _ => self.operand(operand, dot)?,
        };
        self.checked(value, kind)
    }

    fn constant(&self, operand: &'a Operand, kind: Kind) -> Outcome<Value<'a>> {
        let expected = |what: &str| self.error(format!("expected {what}; found {operand}"));
        match (kind, &operand.kind) {
            (Kind::Any, OperandKind::Number(number)) => Ok(constant(*number)),
            (Kind::Any, OperandKind::Bool(value)) => Ok(Value::Bool(*value)),
            (Kind::Any | Kind::Text, OperandKind::Text(text)) => Ok(Value::text(text.as_slice())),
            (Kind::Int, OperandKind::Number(Number { int: Some(int), .. })) => Ok(Value::Int(*int)),
            (Kind::Float, OperandKind::Number(Number { float: Some(f), .. })) => {
                Ok(Value::Float(*f))
            }
            (Kind::Text, _) => expected("string"),
            (Kind::Int, _) => expected("integer"),
            (Kind::Float, _) => expected("float"),
            (Kind::Any | Kind::Time, _) => self.error(format!(
                "can't handle {operand} for arg of type {}",
                kind.name()
            )),
        }
    }

    fn checked(&self, value: Value<'a>, kind: Kind) -> Outcome<Value<'a>> {
        let fits = match kind {
            Kind::Any => true,
            Kind::Text => matches!(value, Value::Text(_)),
            Kind::Int => matches!(value, Value::Int(_)),
            Kind::Float => matches!(value, Value::Float(_)),
            Kind::Time => matches!(value, Value::Time(_)),
        };
        if fits {
            return Ok(value);
        }
        let expected = kind.name();
        self.error(match &value {
            Value::Nil => format!("invalid value; expected {expected}"),
            value => format!(
                "wrong type for value; expected {expected}; got {}",
                value.type_name()
            ),
        })
    }
}

fn constant<'a>(number: Number) -> Value<'a> {
    match number {
        Number {
            int: Some(int),
            is_float: false,
            ..
        } => Value::Int(int),
        Number { float, .. } => Value::Float(float.unwrap_or(0.0)),
    }
}

/// What the methods of Go's times give that take nothing.
fn method<'a>(time: &Rc<super::time::Time>, name: &str) -> Option<Value<'a>> {
    Some(match name {
        "Unix" => Value::Int64(time.seconds()),
        "UnixMilli" => Value::Int64(time.units(1000)),
        "UnixMicro" => Value::Int64(time.units(1_000_000)),
        "UnixNano" => Value::Int64(time.units(1_000_000_000)),
        "Month" => Value::text(time.month().as_bytes()),
        "Weekday" => Value::text(time.weekday().as_bytes()),
        "String" => Value::owned(time.to_string()),
        name => Value::Int(time.part(name)?),
    })
}
