//! Functions over time: `rate() by(...) | topk(5)`. Called for the last stage of a pipeline.

use super::{Parser, metrics_function};
use crate::text::Span;
use crate::traceql::ast::{
    FieldExpr, Metrics, MetricsArgument, MetricsFunction, SecondStage, Static,
};
use crate::traceql::error::ParseError;
use crate::traceql::lexer::Token;

impl Parser<'_> {
    /// A function over time and what is done with its series, standing at the sign before it.
    pub(super) fn over_time(&mut self) -> Result<Option<(Metrics, Vec<SecondStage>)>, ParseError> {
        if *self.peek() != Token::Sign("|") {
            return Ok(None);
        }
        self.operator()?;
        self.advance();
        let function = match self.peek() {
            Token::Ident(name) => metrics_function(name),
            _ => None,
        };
        let Some(function) = function else {
            return Err(self.unexpected(""));
        };
        let span = self.span();
        let arguments = self.call(|parser| parser.arguments(function))?;
        let mut by = Vec::new();
        if matches!(self.peek(), Token::Ident(word) if word == "by") {
            by = self.call(Self::selected)?;
        }
        let mut then = Vec::new();
        while let Some(second) = self.second_stage()? {
            then.push(second);
        }
        let metrics = Metrics {
            function,
            arguments,
            by,
            span,
        };
        Ok(Some((metrics, then)))
    }

    fn arguments(&mut self, function: MetricsFunction) -> Result<Vec<MetricsArgument>, ParseError> {
        let mut arguments = Vec::new();
        let (least, most) = match function {
            MetricsFunction::Rate | MetricsFunction::CountOverTime => return Ok(arguments),
            MetricsFunction::Compare => {
                if *self.peek() != Token::Sign("{") {
                    return Err(self.unexpected("expecting {"));
                }
                let filter = self.deeper(Self::spanset_operand)?;
                arguments.push(MetricsArgument::Filter(filter));
                (0, 3)
            }
            _ => {
                let (Token::Attribute(attribute), span) = self.advance() else {
                    self.at -= 1;
                    return Err(self.unexpected(""));
                };
                arguments.push(MetricsArgument::Attribute(attribute, span));
                match function {
                    MetricsFunction::QuantileOverTime => (1, usize::MAX),
                    _ => (0, 0),
                }
            }
        };
        let mut literals = 0;
        while literals < most && self.take(",") {
            let (mut value, span) = self.number()?;
            if let (MetricsFunction::QuantileOverTime, Static::Int(number)) = (function, &value) {
                value = Static::Float(*number as f64);
            }
            arguments.push(MetricsArgument::Literal(value, span));
            literals += 1;
        }
        if literals < least {
            return Err(self.unexpected("expecting ,"));
        }
        Ok(arguments)
    }

    /// A number, possibly with a sign.
    fn number(&mut self) -> Result<(Static, Span), ParseError> {
        let at = self.at;
        match self.field_operand() {
            Ok(FieldExpr::Static(
                value @ (Static::Int(_) | Static::Float(_) | Static::Duration(_)),
                span,
            )) => Ok((value, span)),
            _ => {
                self.at = at;
                Err(self.unexpected(""))
            }
        }
    }

    fn second_stage(&mut self) -> Result<Option<SecondStage>, ParseError> {
        if let Some(op) = self.order() {
            self.operator()?;
            let (_, start) = self.advance();
            let (value, end) = self.number()?;
            let value = match value {
                Static::Int(number) => number as f64,
                Static::Duration(nanoseconds) => nanoseconds as f64 / 1e9,
                Static::Float(number) => number,
                _ => f64::NAN,
            };
            return Ok(Some(SecondStage::Compare(op, value, start.to(end))));
        }
        if *self.peek() != Token::Sign("|") {
            return Ok(None);
        }
        self.operator()?;
        self.advance();
        let span = self.span();
        let make = match self.peek() {
            Token::Ident(name) if name == "topk" => SecondStage::Top,
            Token::Ident(name) if name == "bottomk" => SecondStage::Bottom,
            _ => return Err(self.unexpected("")),
        };
        let count = self.call(|parser| match *parser.peek() {
            Token::Static(Static::Int(count)) => {
                parser.advance();
                Ok(count)
            }
            _ => Err(parser.unexpected("expecting INTEGER")),
        })?;
        Ok(Some(make(count, span)))
    }
}
