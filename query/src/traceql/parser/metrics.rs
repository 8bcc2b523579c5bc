//! Functions over time: `rate() by(...) | topk(5)`. Called for the last stage of a pipeline.

use super::Parser;
use crate::text::Span;
use crate::traceql::ast::{
    FieldExpr, Metrics, MetricsArgument, MetricsFunction, SecondStage, Static,
};
use crate::traceql::error::ParseError;
use crate::traceql::lexer::Token;

impl Parser<'_> {
    /// A function over time with all that follows it, standing at its name.
    pub(super) fn metrics(&mut self, function: MetricsFunction) -> Result<Metrics, ParseError> {
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
        Ok(Metrics {
            function,
            arguments,
            by,
            then,
            span,
        })
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
            let (value, span) = self.number()?;
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
