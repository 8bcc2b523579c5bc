//! Trees as cases write them: `(pipeline (filter (= (attr none "a") (int 1))))`.

use std::fmt;

use trine_query::traceql::ast::{
    Aggregate, Attribute, FieldExpr, Metrics, MetricsArgument, MetricsExpr, MetricsTerm, Op,
    Pipeline, Query, Root, ScalarExpr, SecondStage, SpansetExpr, Stage, Static,
};
use trine_query::traceql::source::Scope;

/// A word, or words and trees in brackets.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Word(String),
    /// A text between quotes.
    Text(String),
    List(Vec<Tree>),
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "({})", items.join(" "))
            }
        }
    }
}

impl Tree {
    /// Reads a tree.
    pub(super) fn read(text: &str) -> Self {
        let (tree, rest) = read(text.trim());
        assert_eq!(rest.trim(), "", "{text}");
        tree
    }

    /// What is one and the same tree for us: a pipeline of one stage is this stage, and stages behind
    /// a function over time in brackets are stages of the function.
    pub(super) fn normal(self) -> Self {
        let Self::List(items) = self else {
            return self;
        };
        let mut items: Vec<Self> = items.into_iter().map(Self::normal).collect();
        match items.first() {
            Some(Self::Word(word)) if word == "pipeline" && items.len() == 2 => items.remove(1),
            Some(Self::Word(word)) if word == "second-stage" => match items.get(1) {
                Some(Self::List(inner)) if inner[0] == word_of("metrics") => {
                    let inner = inner.iter().chain(&items[2..]);
                    Self::List(inner.cloned().collect())
                }
                _ => Self::List(items),
            },
            _ => Self::List(items),
        }
    }
}

fn read(text: &str) -> (Tree, &str) {
    if let Some(mut rest) = text.strip_prefix('(') {
        let mut items = Vec::new();
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix(')') {
                return (Tree::List(items), after);
            }
            let (item, after) = read(rest);
            items.push(item);
            rest = after;
        }
    }
    if text.starts_with('"') {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let held = stream.next().unwrap().unwrap();
        return (Tree::Text(held), &text[stream.byte_offset()..]);
    }
    let end = text.find([' ', ')']).unwrap_or(text.len());
    (word_of(&text[..end]), &text[end..])
}

fn word_of(word: &str) -> Tree {
    Tree::Word(word.to_owned())
}

fn list(head: &str, items: impl IntoIterator<Item = Tree>) -> Tree {
    Tree::List([word_of(head)].into_iter().chain(items).collect())
}

/// The tree of a query.
pub(super) fn of_query(query: &Query) -> Tree {
    let root = match &query.root {
        Root::Search(pipeline) => of_pipeline(pipeline),
        Root::Metrics(metrics) => of_metrics(metrics),
    };
    if query.hints.is_empty() {
        return root;
    }
    let hint = |(name, value): &(String, Static)| {
        list("hint", [Tree::Text(name.clone()), of_static(value)])
    };
    let hints = query.hints.iter().map(hint);
    list("with", [root].into_iter().chain(hints))
}

fn of_metrics(expr: &MetricsExpr) -> Tree {
    let then = expr.then.iter().map(|second| match second {
        SecondStage::Top(count, _) => list("topk", [word_of(&count.to_string())]),
        SecondStage::Bottom(count, _) => list("bottomk", [word_of(&count.to_string())]),
        SecondStage::Compare(op, number, _) => {
            list("cmp", [word_of(&op.to_string()), of_number(*number)])
        }
    });
    match &expr.term {
        MetricsTerm::Function(pipeline, metrics) => {
            let of_spans = [of_pipeline(pipeline), of_function(metrics)];
            list("metrics", of_spans.into_iter().chain(then))
        }
        MetricsTerm::Scalar(number, _) => of_number(*number),
        MetricsTerm::Binary { op, lhs, rhs, .. } => {
            let math = list(
                "math",
                [word_of(&op.to_string()), of_metrics(lhs), of_metrics(rhs)],
            );
            match expr.then.is_empty() {
                true => math,
                false => list("second-stage", [math].into_iter().chain(then)),
            }
        }
    }
}

fn of_number(number: f64) -> Tree {
    word_of(&format!("{number:?}"))
}

fn of_function(metrics: &Metrics) -> Tree {
    let mut items = Vec::new();
    let mut quantiles = Vec::new();
    for argument in &metrics.arguments {
        match argument {
            MetricsArgument::Attribute(attribute, _) => items.push(of_attribute(attribute)),
            MetricsArgument::Filter(filter) => items.push(of_spanset(filter)),
            MetricsArgument::Literal(Static::Float(number), _) => {
                quantiles.push(of_number(*number));
            }
            MetricsArgument::Literal(value, _) => items.push(of_static(value)),
        }
    }
    if !quantiles.is_empty() {
        items.push(list("q", quantiles));
    }
    if !metrics.by.is_empty() {
        items.push(list(
            "by",
            metrics.by.iter().map(|(by, _)| of_attribute(by)),
        ));
    }
    list(metrics.function.name(), items)
}

fn of_pipeline(pipeline: &Pipeline) -> Tree {
    list("pipeline", pipeline.stages.iter().map(of_stage))
}

fn of_stage(stage: &Stage) -> Tree {
    match stage {
        Stage::Spans(expr) => of_spanset(expr),
        Stage::Filter { op, lhs, rhs, .. } => list(
            "scalar-filter",
            [word_of(&op.to_string()), of_scalar(lhs), of_scalar(rhs)],
        ),
        Stage::By(expr) => list("by", [of_field(expr)]),
        Stage::Coalesce => list("coalesce", []),
        Stage::Select(attributes) => list(
            "select",
            attributes
                .iter()
                .map(|(attribute, _)| of_attribute(attribute)),
        ),
    }
}

fn of_spanset(expr: &SpansetExpr) -> Tree {
    match expr {
        SpansetExpr::Filter(None, _) => list("filter", [of_static(&Static::Bool(true))]),
        SpansetExpr::Filter(Some(expr), _) => list("filter", [of_field(expr)]),
        SpansetExpr::Binary { op, lhs, rhs, .. } => list(
            "spanset",
            [word_of(&op.to_string()), of_spanset(lhs), of_spanset(rhs)],
        ),
        SpansetExpr::Pipeline(pipeline) => of_pipeline(pipeline),
    }
}

fn of_scalar(expr: &ScalarExpr) -> Tree {
    match expr {
        ScalarExpr::Static(value, _) => of_static(value),
        ScalarExpr::Aggregate {
            function, field, ..
        } => {
            let name = match function {
                Aggregate::Count => "count",
                Aggregate::Min => "min",
                Aggregate::Max => "max",
                Aggregate::Avg => "avg",
                Aggregate::Sum => "sum",
            };
            list(name, field.iter().map(of_field))
        }
        ScalarExpr::Binary { op, lhs, rhs } => list(
            "scalar",
            [word_of(&op.to_string()), of_scalar(lhs), of_scalar(rhs)],
        ),
        ScalarExpr::Of(pipeline, aggregate, _) => {
            let stages = pipeline.stages.iter().map(of_stage);
            list("pipeline", stages.chain([of_scalar(aggregate)]))
        }
    }
}

fn of_field(expr: &FieldExpr) -> Tree {
    match expr {
        FieldExpr::Static(value, _) => of_static(value),
        FieldExpr::Attribute(attribute, _) => of_attribute(attribute),
        FieldExpr::Not(inner, _) => list("not", [of_field(inner)]),
        FieldExpr::Negate(inner, _) => list("neg", [of_field(inner)]),
        FieldExpr::Binary { op, lhs, rhs, .. } => match (op, &**rhs) {
            (Op::Equal, FieldExpr::Static(Static::Nil, _)) => list("not-exists", [of_field(lhs)]),
            (Op::NotEqual, FieldExpr::Static(Static::Nil, _)) => list("exists", [of_field(lhs)]),
            _ => list(&op.to_string(), [of_field(lhs), of_field(rhs)]),
        },
    }
}

/// The tree of an attribute.
pub(super) fn of_attribute(attribute: &Attribute) -> Tree {
    match attribute {
        Attribute::Intrinsic(intrinsic) => list("intrinsic", [word_of(intrinsic.name())]),
        Attribute::Named { scope, parent, key } => {
            let scope = match scope {
                None => "none",
                Some(Scope::Span) => "span",
                Some(Scope::Resource) => "resource",
                Some(Scope::Event) => "event",
                Some(Scope::Link) => "link",
                Some(Scope::Instrumentation) => "instrumentation",
            };
            let above = if *parent { "parent:" } else { "" };
            list(
                "attr",
                [
                    word_of(&format!("{above}{scope}")),
                    Tree::Text(key.to_string()),
                ],
            )
        }
    }
}

fn of_static(value: &Static) -> Tree {
    let (kind, held) = match value {
        Static::Nil => return word_of("nil"),
        Static::Bool(truth) => ("bool", truth.to_string()),
        Static::Int(number) => ("int", number.to_string()),
        Static::Float(number) => ("float", format!("{number:?}")),
        Static::Str(text) => return list("string", [Tree::Text(text.to_string())]),
        Static::Duration(nanoseconds) => ("duration", format!("{nanoseconds}ns")),
        Static::Status(_) => ("status", value.to_string()),
        Static::Kind(_) => ("kind", value.to_string()),
    };
    list(kind, [word_of(&held)])
}
