//! Functions over time: `rate() by(...) | topk(5)`. Called for what ends a pipeline.

use super::Parser;
use super::parts::{ARITHMETIC, Number, Part};
use crate::text::Span;
use crate::traceql::ast::{Metrics, MetricsArgument, MetricsFunction, SecondStage, Static};
use crate::traceql::error::ParseError;
use crate::traceql::lexer::Token;

impl Parser<'_> {
    /// A function over time, standing at its name.
    pub(super) fn metrics(&mut self, function: MetricsFunction) -> Result<Metrics, ParseError> {
        let span = self.span();
        let arguments = self.call(|parser| parser.arguments(function))?;
        let mut by = Vec::new();
        if matches!(self.peek(), Token::Ident(word) if word == "by") {
            by = self.call(Self::attributes)?;
        }
        Ok(Metrics {
            function,
            arguments,
            by,
            span,
        })
    }

    fn arguments(&mut self, function: MetricsFunction) -> Result<Vec<MetricsArgument>, ParseError> {
        let mut arguments = Vec::new();
        match function {
            MetricsFunction::Rate | MetricsFunction::CountOverTime => {}
            MetricsFunction::Compare => {
                arguments.push(MetricsArgument::Filter(self.braces()?));
                // The number of values, then both ends of the time or neither.
                if self.take(",") {
                    arguments.push(self.whole_number()?);
                    if self.take(",") {
                        arguments.push(self.whole_number()?);
                        self.expect(",")?;
                        arguments.push(self.whole_number()?);
                    }
                }
            }
            MetricsFunction::QuantileOverTime => {
                arguments.push(self.measured()?);
                self.expect(",")?;
                arguments.push(self.quantile()?);
                while self.take(",") {
                    arguments.push(self.quantile()?);
                }
            }
            _ => arguments.push(self.measured()?),
        }
        Ok(arguments)
    }

    fn measured(&mut self) -> Result<MetricsArgument, ParseError> {
        let (attribute, span) = self.attribute()?;
        Ok(MetricsArgument::Attribute(attribute, span))
    }

    fn quantile(&mut self) -> Result<MetricsArgument, ParseError> {
        let at = self.at;
        let (number, span) = match self.peek() {
            Token::Static(Static::Int(_) | Static::Float(_)) | Token::Sign("-") => {
                let number = self.constant(at)?;
                self.without_durations(&number)?
            }
            _ => return Err(self.unexpected("")),
        };
        Ok(MetricsArgument::Literal(Static::Float(number), span))
    }

    fn whole_number(&mut self) -> Result<MetricsArgument, ParseError> {
        let Token::Static(value @ Static::Int(_)) = self.peek() else {
            return Err(self.unexpected("expecting INTEGER"));
        };
        let value = value.clone();
        Ok(MetricsArgument::Literal(value, self.advance()))
    }

    /// A constant, which may be computed from others.
    fn constant(&mut self, at: usize) -> Result<Number, ParseError> {
        match self.part(ARITHMETIC)? {
            Part::Number(number) => Ok(number),
            _ => Err(self.unexpected_at(at, "")),
        }
    }

    /// A number that is no duration and does not come from one.
    pub(super) fn without_durations(&self, number: &Number) -> Result<(f64, Span), ParseError> {
        match (&number.value, number.duration()) {
            (Static::Int(value), None) => Ok((*value as f64, number.span)),
            (Static::Float(value), None) => Ok((*value, number.span)),
            (_, duration) => {
                let what = "syntax error: unexpected DURATION in arithmetic";
                Err(self.error_at(duration.unwrap_or(number.span), what))
            }
        }
    }

    /// What is done with series, as far as it goes.
    pub(super) fn second_stages(&mut self, then: &mut Vec<SecondStage>) -> Result<(), ParseError> {
        loop {
            if let Some(op) = self.order() {
                self.operator()?;
                let start = self.advance();
                let number = self.constant(self.at)?;
                let span = start.to(number.span);
                let value = match number.value {
                    Static::Duration(nanoseconds) if number.of_duration.is_none() => {
                        nanoseconds as f64 / 1e9
                    }
                    _ => self.without_durations(&number)?.0,
                };
                then.push(SecondStage::Compare(op, value, span));
            } else if self.sign() == Some("|") {
                self.operator()?;
                self.advance();
                then.push(self.ranked()?);
            } else {
                return Ok(());
            }
        }
    }

    /// `topk(n)` or `bottomk(n)`.
    fn ranked(&mut self) -> Result<SecondStage, ParseError> {
        let make = match self.peek() {
            Token::Ident(name) if name == "topk" => SecondStage::Top,
            Token::Ident(name) if name == "bottomk" => SecondStage::Bottom,
            _ => return Err(self.unexpected("")),
        };
        let start = self.span();
        let count = self.call(|parser| match *parser.peek() {
            Token::Static(Static::Int(count)) => {
                parser.advance();
                Ok(count)
            }
            _ => Err(parser.unexpected("expecting INTEGER")),
        })?;
        Ok(make(count, start))
    }
}
