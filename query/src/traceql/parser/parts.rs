//! What stands outside of curly brackets: sets of spans, pipelines, aggregates, series over time and
//! numbers. Called for a whole query and for what stands in round brackets.

use super::{Parser, field_op, fold};
use crate::text::Span;
use crate::traceql::ast::{
    Aggregate, FieldExpr, Form, MetricsExpr, MetricsFunction, MetricsTerm, Op, Pipeline, Relation,
    ScalarExpr, SpansetExpr, SpansetOp, Stage, Static,
};
use crate::traceql::error::ParseError;
use crate::traceql::lexer::Token;

/// What an expression without stages gives.
pub(super) enum Part {
    Spans(Box<SpansetExpr>),
    /// A number about the spans that come in.
    Scalar(Box<ScalarExpr>),
    /// A number about what pipelines of their own give.
    OfPipelines(Box<ScalarExpr>),
    Number(Number),
    Metrics(Box<MetricsExpr>),
}

/// A constant.
pub(super) struct Number {
    pub(super) value: Static,
    pub(super) span: Span,
    /// Whether it was computed from others.
    pub(super) is_computed: bool,
    /// Where a duration stands that it was computed from.
    pub(super) of_duration: Option<Span>,
}

/// A part, or stages after one another.
pub(super) enum Sequence {
    Part(Part),
    Stages(Vec<Stage>),
}

/// An operator between parts.
#[derive(Clone, Copy)]
enum Join {
    Spans(SpansetOp),
    Numbers(Op),
}

impl Join {
    fn power(self) -> u8 {
        match self {
            Self::Spans(op) => op.power(),
            Self::Numbers(op) => op.power(),
        }
    }

    /// The least power of what may stand on its right.
    fn right(self) -> u8 {
        match self {
            Self::Spans(op) => op.power() + 1,
            Self::Numbers(op) => op.sides().1,
        }
    }
}

/// The least power of arithmetic.
pub(super) const ARITHMETIC: u8 = 3;

impl Parser<'_> {
    /// What a whole query or a pair of brackets holds.
    pub(super) fn sequence(&mut self, bracketed: bool) -> Result<Sequence, ParseError> {
        if let Some(stage) = self.named_stage()? {
            return self.stages(stage, bracketed);
        }
        let first = self.part_operand()?;
        self.sequence_from(first, bracketed)
    }

    /// What begins with a part.
    fn sequence_from(&mut self, first: Part, bracketed: bool) -> Result<Sequence, ParseError> {
        match self.part_from(first, 0)? {
            Part::Spans(expr) => self.stages(Stage::Spans(*expr), bracketed),
            Part::Metrics(mut expr) => {
                self.second_stages(&mut expr.then)?;
                Ok(Sequence::Part(Part::Metrics(expr)))
            }
            Part::OfPipelines(lhs) if !bracketed && self.order().is_some() => {
                self.between_pipelines(*lhs)
            }
            part @ Part::OfPipelines(_) => Ok(Sequence::Part(part)),
            part if self.order().is_some() => {
                let stage = self.filter(part)?;
                self.stages(stage, bracketed)
            }
            part => Ok(Sequence::Part(part)),
        }
    }

    /// The stages that follow the first.
    fn stages(&mut self, first: Stage, bracketed: bool) -> Result<Sequence, ParseError> {
        let start = self.before();
        let mut stages = vec![first];
        while self.sign() == Some("|") {
            self.operator()?;
            self.advance();
            if let Token::Ident(name) = self.peek()
                && let Some(function) = MetricsFunction::of_name(name)
            {
                let metrics = self.metrics(function)?;
                let mut then = Vec::new();
                self.second_stages(&mut then)?;
                let term = MetricsTerm::Function(Pipeline { stages }.into(), metrics);
                let expr = MetricsExpr { term, then };
                return Ok(Sequence::Part(Part::Metrics(expr.into())));
            }
            if matches!(self.peek(), Token::Ident(name) if name == "coalesce") {
                self.call(|_| Ok(()))?;
                stages.push(Stage::Coalesce);
                continue;
            }
            if let Some(stage) = self.named_stage()? {
                stages.push(stage);
                continue;
            }
            match self.part(0)? {
                Part::Spans(expr) => stages.push(Stage::Spans(*expr)),
                Part::Scalar(aggregate) if bracketed && self.ends_pipeline(&aggregate) => {
                    let span = start.to(aggregate.span());
                    let expr = ScalarExpr::Of(Pipeline { stages }.into(), aggregate, span);
                    return Ok(Sequence::Part(Part::OfPipelines(expr.into())));
                }
                part => stages.push(self.filter(part)?),
            }
        }
        Ok(match (stages.pop(), stages.is_empty()) {
            (Some(Stage::Spans(expr)), true) => Sequence::Part(Part::Spans(expr.into())),
            (last, _) => {
                stages.extend(last);
                Sequence::Stages(stages)
            }
        })
    }

    /// Whether a lone aggregate is the end of a pipeline in brackets.
    fn ends_pipeline(&self, expr: &ScalarExpr) -> bool {
        matches!(expr, ScalarExpr::Aggregate { .. }) && self.sign() == Some(")")
    }

    /// `by(...)` or `select(...)`.
    fn named_stage(&mut self) -> Result<Option<Stage>, ParseError> {
        let Token::Ident(name) = self.peek() else {
            return Ok(None);
        };
        Ok(match name.as_str() {
            "by" => Some(Stage::By(self.call(Self::field)?)),
            "select" => Some(Stage::Select(self.call(Self::attributes)?)),
            _ => None,
        })
    }

    /// A comparison of aggregates, standing at its sign.
    fn filter(&mut self, lhs: Part) -> Result<Stage, ParseError> {
        let Some(op) = self.order() else {
            return Err(self.unexpected(""));
        };
        let sign = self.at;
        self.operator()?;
        self.advance();
        let right = self.at;
        let rhs = self.part(ARITHMETIC)?;
        let (lhs, rhs) = match (lhs, rhs) {
            // Two numbers say nothing about spans.
            (Part::Number(_), Part::Number(_)) => return Err(self.unexpected_at(sign, "")),
            (lhs, rhs) => match (lhs.scalar(), rhs.scalar()) {
                (Some(lhs), Some(rhs)) => (*lhs, *rhs),
                _ => return Err(self.unexpected_at(right, "")),
            },
        };
        let span = lhs.span().to(rhs.span());
        Ok(Stage::Filter { op, lhs, rhs, span })
    }

    /// A comparison of numbers about pipelines, standing at its sign: the whole query.
    fn between_pipelines(&mut self, lhs: ScalarExpr) -> Result<Sequence, ParseError> {
        let Some(op) = self.order() else {
            return Err(self.unexpected(""));
        };
        self.operator()?;
        self.advance();
        let right = self.at;
        let rhs = match self.part(ARITHMETIC)? {
            Part::OfPipelines(rhs) => *rhs,
            Part::Number(number) if !number.is_computed => {
                ScalarExpr::Static(number.value, number.span)
            }
            _ => return Err(self.unexpected_at(right, "")),
        };
        let span = lhs.span().to(rhs.span());
        Ok(Sequence::Stages(vec![Stage::Filter { op, lhs, rhs, span }]))
    }

    /// The comparison of numbers that stands here.
    pub(super) fn order(&self) -> Option<Op> {
        let op = self.sign().and_then(field_op)?;
        (op.is_comparison() && !matches!(op, Op::Match | Op::NotMatch)).then_some(op)
    }

    /// An expression whose operators bind at least as tightly as `least`.
    pub(super) fn part(&mut self, least: u8) -> Result<Part, ParseError> {
        self.deeper(|parser| {
            let first = parser.part_operand()?;
            parser.part_from(first, least)
        })
    }

    /// An expression that begins with a part.
    fn part_from(&mut self, first: Part, least: u8) -> Result<Part, ParseError> {
        let mut lhs = first;
        while let Some(join) = self.join(&lhs).filter(|join| join.power() >= least) {
            self.operator()?;
            let sign = self.at;
            self.advance();
            if matches!(join, Join::Spans(_)) && !matches!(self.sign(), Some("{" | "(")) {
                return Err(self.unexpected("expecting { or ("));
            }
            let rhs = self.part(join.right())?;
            lhs = self.joined(join, sign, lhs, rhs)?;
        }
        Ok(lhs)
    }

    /// The operator that stands here, if it can follow `lhs`.
    fn join(&self, lhs: &Part) -> Option<Join> {
        let sign = self.sign()?;
        match lhs {
            Part::Spans(_) => spanset_op(sign).map(Join::Spans),
            Part::Metrics(_) => metrics_op(field_op(sign)?).map(Join::Numbers),
            _ => {
                let op = field_op(sign).filter(|op| op.is_arithmetic());
                op.map(Join::Numbers)
            }
        }
    }

    /// Two parts combined by the operator that is word `sign`.
    fn joined(&self, join: Join, sign: usize, lhs: Part, rhs: Part) -> Result<Part, ParseError> {
        match (join, lhs, rhs) {
            (Join::Spans(op), Part::Spans(lhs), Part::Spans(rhs)) => {
                let span = self.span_of(sign);
                let expr = SpansetExpr::Binary { op, lhs, rhs, span };
                Ok(Part::Spans(expr.into()))
            }
            (Join::Numbers(op), Part::Number(a), Part::Number(b)) => {
                self.computed(op, &a, &b).map(Part::Number)
            }
            (Join::Numbers(op), Part::OfPipelines(lhs), Part::OfPipelines(rhs)) => {
                let expr = ScalarExpr::Binary { op, lhs, rhs };
                Ok(Part::OfPipelines(expr.into()))
            }
            (
                Join::Numbers(op),
                lhs @ (Part::Metrics(_) | Part::Number(_)),
                rhs @ (Part::Metrics(_) | Part::Number(_)),
            ) => self.math(op, sign, lhs, rhs),
            (Join::Numbers(op), lhs, rhs) => match (lhs.scalar(), rhs.scalar()) {
                (Some(lhs), Some(rhs)) => {
                    let expr = ScalarExpr::Binary { op, lhs, rhs };
                    Ok(Part::Scalar(expr.into()))
                }
                _ => Err(self.unexpected_at(sign + 1, "")),
            },
            _ => Err(self.unexpected_at(sign + 1, "")),
        }
    }

    /// Arithmetic between series, or series and a number.
    fn math(&self, op: Op, sign: usize, lhs: Part, rhs: Part) -> Result<Part, ParseError> {
        if metrics_op(op).is_none() {
            return Err(self.unexpected_at(sign, ""));
        }
        let (lhs, rhs) = (self.series(lhs)?.into(), self.series(rhs)?.into());
        let span = self.span_of(sign);
        let expr = MetricsExpr {
            term: MetricsTerm::Binary { op, lhs, rhs, span },
            then: Vec::new(),
        };
        Ok(Part::Metrics(expr.into()))
    }

    fn series(&self, part: Part) -> Result<MetricsExpr, ParseError> {
        match part {
            Part::Metrics(expr) => Ok(*expr),
            Part::Number(number) => {
                let (number, span) = self.without_durations(&number)?;
                Ok(MetricsExpr {
                    term: MetricsTerm::Scalar(number, span),
                    then: Vec::new(),
                })
            }
            _ => Err(self.unexpected("")),
        }
    }

    fn span_of(&self, word: usize) -> Span {
        let found = self.tokens.get(word);
        found.map_or(Span::default(), |(_, span)| *span)
    }

    /// Two constants combined.
    fn computed(&self, op: Op, a: &Number, b: &Number) -> Result<Number, ParseError> {
        let span = a.span.to(b.span);
        let is_zero = matches!(b.value, Static::Int(0));
        let Some(value) = fold::binary(op, &a.value, &b.value) else {
            let what = match op {
                Op::Divide | Op::Modulo if is_zero => "division by zero",
                _ => "the result is out of range",
            };
            return Err(self.error_at(span, what));
        };
        Ok(Number {
            value,
            span,
            is_computed: true,
            of_duration: a.duration().or(b.duration()),
        })
    }

    fn part_operand(&mut self) -> Result<Part, ParseError> {
        match self.peek() {
            Token::Sign("{") => self.braces().map(|expr| Part::Spans(expr.into())),
            Token::Sign("(") => self.brackets(),
            Token::Sign("-") => self.negative_number(),
            Token::Static(value @ (Static::Int(_) | Static::Float(_) | Static::Duration(_))) => {
                let value = value.clone();
                let span = self.advance();
                Ok(Part::Number(Number {
                    value,
                    span,
                    is_computed: false,
                    of_duration: None,
                }))
            }
            Token::Ident(name) => match Aggregate::of_name(name) {
                Some(function) => self.aggregate(function),
                None => Err(self.unexpected("")),
            },
            _ => Err(self.unexpected("")),
        }
    }

    fn negative_number(&mut self) -> Result<Part, ParseError> {
        self.operator()?;
        let span = self.advance();
        if *self.peek() == Token::LeastMagnitude {
            return Ok(Part::Number(Number {
                value: Static::Int(i64::MIN),
                span: span.to(self.advance()),
                is_computed: false,
                of_duration: None,
            }));
        }
        let at = self.at;
        let inner = self.deeper(Self::part_operand)?;
        let Part::Number(number) = inner else {
            return Err(self.unexpected_at(at, ""));
        };
        let span = span.to(number.span);
        match fold::negative(&number.value) {
            Some(value) => Ok(Part::Number(Number {
                value,
                span,
                ..number
            })),
            None => Err(self.error_at(span, "the result is out of range")),
        }
    }

    /// `{ ... }`
    pub(super) fn braces(&mut self) -> Result<SpansetExpr, ParseError> {
        let start = self.expect("{")?;
        if self.sign() == Some("}") {
            let end = self.advance();
            return Ok(SpansetExpr::Filter(None, start.to(end)));
        }
        let expr = self.field()?;
        let end = self.span();
        if !self.take("}") {
            return Err(self.unexpected(""));
        }
        // What is always true needs no expression.
        let is_true = matches!(expr, FieldExpr::Static(Static::Bool(true), _));
        let expr = (!is_true).then_some(expr);
        Ok(SpansetExpr::Filter(expr, start.to(end)))
    }

    /// `( ... )`. Brackets around one expression only say what belongs together. Those that open at
    /// one place are read in a loop: printed queries begin with as many as they have operators.
    fn brackets(&mut self) -> Result<Part, ParseError> {
        let mut open = 0usize;
        while self.take("(") {
            open += 1;
        }
        let mut inner = self.sequence(true)?;
        loop {
            let (part, expecting) = match inner {
                Sequence::Stages(stages) => {
                    let expr = SpansetExpr::Pipeline(Pipeline { stages }.into());
                    (Part::Spans(expr.into()), "expecting ) or |")
                }
                Sequence::Part(part) => (part, ""),
            };
            if !self.take(")") {
                return Err(self.unexpected(expecting));
            }
            open = open.saturating_sub(1);
            if open == 0 {
                return Ok(part);
            }
            inner = self.sequence_from(part, true)?;
        }
    }

    /// `count()` and its like, standing at the name.
    fn aggregate(&mut self, function: Aggregate) -> Result<Part, ParseError> {
        let start = self.span();
        let field = match function {
            Aggregate::Count => self.call(|_| Ok(None))?,
            _ => self.call(|parser| parser.field().map(Some))?,
        };
        let span = start.to(self.before());
        let expr = ScalarExpr::Aggregate {
            function,
            field,
            span,
        };
        Ok(Part::Scalar(expr.into()))
    }
}

impl Part {
    /// A number about the spans that come in, or a constant.
    fn scalar(self) -> Option<Box<ScalarExpr>> {
        match self {
            Self::Scalar(expr) => Some(expr),
            Self::Number(number) => Some(ScalarExpr::Static(number.value, number.span).into()),
            _ => None,
        }
    }
}

impl Number {
    /// Where it is a duration, or comes from one.
    pub(super) fn duration(&self) -> Option<Span> {
        let own = matches!(self.value, Static::Duration(_)).then_some(self.span);
        self.of_duration.or(own)
    }
}

/// The operator, if series have it.
fn metrics_op(op: Op) -> Option<Op> {
    let has = matches!(op, Op::Add | Op::Subtract | Op::Multiply | Op::Divide);
    has.then_some(op)
}

fn spanset_op(sign: &str) -> Option<SpansetOp> {
    let (form, bare) = match sign {
        "&&" => return Some(SpansetOp::And),
        "||" => return Some(SpansetOp::Or),
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
    Some(SpansetOp::Structural(relation, form))
}
