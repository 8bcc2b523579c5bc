//! Reads selectors and pipelines, for the parser.

use trine_storage::{MatchOp, Matcher};

use super::{Parser, Result};
use crate::logql::ast::{
    CompareOp, Conversion, Extraction, LabelChoice, LabelCompare, LabelFilter, LabelFormat,
    LineFilter, LineOp, LineOperand, LogExpr, Logfmt, Selector, Stage, StageKind, Unwrap,
};
use crate::logql::lexer::Token;
use crate::logql::pipeline::pattern::Pattern;
use crate::logql::pipeline::regexp::Regexp;
use crate::logql::units;

/// What may follow `unwrap`.
const UNWRAPPED: [&str; 4] = [
    "IDENTIFIER",
    "BYTES_CONV",
    "DURATION_CONV",
    "DURATION_SECONDS_CONV",
];

/// What a condition behind another may begin with.
const CONDITION: [&str; 2] = ["IDENTIFIER", "("];

impl Parser<'_> {
    pub(super) fn log_expr(&mut self) -> Result<LogExpr> {
        let start = self.start();
        let selector = self.selector()?;
        self.check_selector(&selector);
        let mut stages = Vec::new();
        self.pipeline(&mut stages)?;
        Ok(LogExpr {
            selector,
            stages,
            span: self.since(start),
        })
    }

    pub(super) fn selector(&mut self) -> Result<Selector> {
        let start = self.start();
        self.expect_symbol("{")?;
        let mut matchers = Vec::new();
        if !self.take_symbol("}") {
            loop {
                matchers.push(self.matcher(matchers.is_empty())?);
                if self.take_symbol("}") {
                    break;
                }
                if !self.take_symbol(",") {
                    return Err(self.unexpected(&["}", ","]));
                }
            }
        }
        Ok(Selector {
            matchers,
            span: self.since(start),
        })
    }

    fn matcher(&mut self, first: bool) -> Result<Matcher> {
        let start = self.start();
        let Token::Ident(name) = self.peek() else {
            let expected: &[&str] = &["IDENTIFIER", "}"];
            return Err(self.unexpected(if first { expected } else { &["IDENTIFIER"] }));
        };
        let name = name.clone();
        self.bump();
        let Some(op) = self.match_op() else {
            return Err(self.unexpected(&["=", "=~", "!~", "!="]));
        };
        self.bump();
        let value = self.expect_text()?;
        self.build_matcher(start, op, name, value)
    }

    fn build_matcher(
        &self,
        start: usize,
        op: MatchOp,
        name: String,
        value: String,
    ) -> Result<Matcher> {
        Matcher::new(op, name, value).map_err(|error| self.invalid(start, error.to_string()))
    }

    fn match_op(&self) -> Option<MatchOp> {
        match self.peek() {
            Token::Symbol("=") => Some(MatchOp::Equal),
            Token::Symbol("!=") => Some(MatchOp::NotEqual),
            Token::Symbol("=~") => Some(MatchOp::Match),
            Token::Symbol("!~") => Some(MatchOp::NotMatch),
            _ => None,
        }
    }

    /// Reads stages until something else comes.
    fn pipeline(&mut self, stages: &mut Vec<Stage>) -> Result<()> {
        self.pipeline_before_unwrap(stages)?;
        if self.is_unwrap() {
            self.bump();
            return Err(self.unexpected(&[]));
        }
        Ok(())
    }

    /// Reads stages until something else comes, such as `| unwrap`.
    pub(super) fn pipeline_before_unwrap(&mut self, stages: &mut Vec<Stage>) -> Result<()> {
        loop {
            let start = self.start();
            if let Some(op) = self.line_op() {
                self.bump();
                self.line_filter(start, op, stages)?;
            } else if self.is_symbol("|") && !self.is_unwrap() {
                self.bump();
                let kind = self.stage()?;
                stages.push(Stage {
                    kind,
                    span: self.since(start),
                });
            } else {
                return Ok(());
            }
        }
    }

    fn line_op(&self) -> Option<LineOp> {
        match self.peek() {
            Token::Symbol("|=") => Some(LineOp::Contains),
            Token::Symbol("!=") => Some(LineOp::NotContains),
            Token::Symbol("|~") => Some(LineOp::Matches),
            Token::Symbol("!~") => Some(LineOp::NotMatches),
            Token::Symbol("|>") => Some(LineOp::Pattern),
            Token::Symbol("!>") => Some(LineOp::NotPattern),
            _ => None,
        }
    }

    fn line_filter(&mut self, start: usize, op: LineOp, stages: &mut Vec<Stage>) -> Result<()> {
        let mut operands = vec![self.line_operand()?];
        while self.take_keyword("or") {
            operands.push(self.line_operand()?);
        }
        let span = self.since(start);
        let mut push = |operands| {
            let kind = StageKind::LineFilter(LineFilter { op, operands });
            stages.push(Stage { kind, span });
        };
        if op.is_negative() {
            operands.into_iter().for_each(|operand| push(vec![operand]));
        } else {
            push(operands);
        }
        Ok(())
    }

    fn line_operand(&mut self) -> Result<LineOperand> {
        match self.peek() {
            Token::Text(value) => {
                let value = value.clone();
                self.bump();
                Ok(LineOperand::Text(value))
            }
            Token::Function("ip") => Ok(LineOperand::Ip(self.ip()?)),
            _ => Err(self.unexpected(&["STRING", "ip"])),
        }
    }

    fn ip(&mut self) -> Result<String> {
        self.bump();
        self.expect_symbol("(")?;
        let range = self.expect_text()?;
        self.expect_symbol(")")?;
        Ok(range)
    }

    fn stage(&mut self) -> Result<StageKind> {
        let start = self.start();
        let Token::Keyword(keyword) = *self.peek() else {
            return Ok(StageKind::LabelFilter(self.label_filter(0, &[])?));
        };
        self.bump();
        Ok(match keyword {
            "json" => StageKind::Json(self.extractions()?),
            "logfmt" => StageKind::Logfmt(self.logfmt()?),
            "regexp" => {
                let regex = self.expect_text()?;
                if let Err(error) = Regexp::new(&regex) {
                    return Err(self.invalid(start, format!("invalid regexp parser: {error}")));
                }
                StageKind::Regexp(regex)
            }
            "pattern" => {
                let pattern = self.expect_text()?;
                if let Err(error) = Pattern::new(&pattern) {
                    return Err(self.invalid(start, format!("invalid pattern parser: {error}")));
                }
                StageKind::Pattern(pattern)
            }
            "unpack" => StageKind::Unpack,
            "line_format" => StageKind::LineFormat(self.expect_text()?),
            "decolorize" => StageKind::Decolorize,
            "label_format" => StageKind::LabelFormat(self.label_format(start)?),
            "drop" => StageKind::Drop(self.label_choices()?),
            "keep" => StageKind::Keep(self.label_choices()?),
            _ => {
                self.at -= 1;
                return Err(self.unexpected(&[]));
            }
        })
    }

    fn logfmt(&mut self) -> Result<Logfmt> {
        let mut logfmt = Logfmt::default();
        while let Token::Flag(flag) = *self.peek() {
            match flag {
                "strict" => logfmt.strict = true,
                _ => logfmt.keep_empty = true,
            }
            self.bump();
        }
        logfmt.extractions = self.extractions()?;
        Ok(logfmt)
    }

    fn extractions(&mut self) -> Result<Vec<Extraction>> {
        let mut extractions = Vec::new();
        while matches!(self.peek(), Token::Ident(_)) || !extractions.is_empty() {
            let start = self.start();
            let label = self.expect_ident()?;
            let expression = if self.take_symbol("=") {
                self.expect_text()?
            } else {
                label.clone()
            };
            extractions.push(Extraction {
                label,
                expression,
                span: self.since(start),
            });
            if !self.take_symbol(",") {
                break;
            }
        }
        Ok(extractions)
    }

    fn label_format(&mut self, start: usize) -> Result<Vec<LabelFormat>> {
        let mut formats: Vec<LabelFormat> = Vec::new();
        loop {
            let target = self.expect_ident()?;
            self.expect_symbol("=")?;
            let format = match self.peek().clone() {
                Token::Ident(from) => LabelFormat::Rename { to: target, from },
                Token::Text(template) => LabelFormat::Template {
                    label: target,
                    template,
                },
                _ => return Err(self.unexpected(&["IDENTIFIER", "STRING"])),
            };
            self.bump();
            let target = format.target();
            if target == "__error__" {
                return Err(self.invalid(start, "__error__ cannot be formatted"));
            }
            if formats.iter().any(|other| other.target() == target) {
                let message = format!(
                    "multiple label name '{target}' not allowed in a single format operation"
                );
                return Err(self.invalid(start, message));
            }
            formats.push(format);
            if !self.take_symbol(",") {
                return Ok(formats);
            }
        }
    }

    fn label_choices(&mut self) -> Result<Vec<LabelChoice>> {
        let mut choices = Vec::new();
        loop {
            let start = self.start();
            let name = self.expect_ident()?;
            choices.push(match self.match_op() {
                Some(op) => {
                    self.bump();
                    let value = self.expect_text()?;
                    LabelChoice::Matcher(self.build_matcher(start, op, name, value)?)
                }
                None => LabelChoice::Name(name),
            });
            if !self.take_symbol(",") {
                return Ok(choices);
            }
        }
    }

    /// Reads conditions whose operators bind at least as tightly as `least`: 1 for `or`, 2 for
    /// `and`. A comma, or nothing at all, means `and` and takes all that follows as its right side.
    /// `begins` is told where no condition begins.
    fn label_filter(&mut self, mut least: u8, begins: &[&str]) -> Result<LabelFilter> {
        let mut left = self.label_condition(begins)?;
        let mut before = Vec::new();
        loop {
            let juxtaposed = matches!(self.peek(), Token::Ident(_)) || self.is_symbol("(");
            if self.is_symbol(",") || juxtaposed {
                self.at += usize::from(!juxtaposed);
                before.push(left);
                left = self.label_condition(&CONDITION)?;
                least = 0;
            } else if least <= 1 && self.take_keyword("or") {
                let right = self.nested(|parser| parser.label_filter(2, &CONDITION))?;
                left = any_of(left, right);
            } else if least <= 2 && self.take_keyword("and") {
                let right = self.nested(|parser| parser.label_filter(3, &CONDITION))?;
                left = all_of(left, right);
            } else if before.is_empty() {
                return Ok(left);
            } else {
                before.push(left);
                let parts = before.into_iter().flat_map(|filter| match filter {
                    LabelFilter::All(parts) => parts,
                    other => vec![other],
                });
                return Ok(LabelFilter::All(parts.collect()));
            }
        }
    }

    fn label_condition(&mut self, begins: &[&str]) -> Result<LabelFilter> {
        let start = self.start();
        if self.take_symbol("(") {
            let inner = self.nested(|parser| parser.label_filter(0, &CONDITION))?;
            self.close()?;
            return Ok(inner);
        }
        let Token::Ident(name) = self.peek() else {
            return Err(self.unexpected(begins));
        };
        let name = name.clone();
        self.bump();
        if let Some(op) = self.match_op() {
            match self.token(1).clone() {
                Token::Text(value) => {
                    self.at += 2;
                    return Ok(LabelFilter::Text(
                        self.build_matcher(start, op, name, value)?,
                    ));
                }
                Token::Function("ip") if matches!(op, MatchOp::Equal | MatchOp::NotEqual) => {
                    self.bump();
                    let range = self.ip()?;
                    return Ok(LabelFilter::Ip { name, op, range });
                }
                _ => {}
            }
        }
        self.label_comparison(name)
    }

    fn label_comparison(&mut self, name: String) -> Result<LabelFilter> {
        let op = match self.peek() {
            Token::Symbol("=" | "==") => CompareOp::Equal,
            Token::Symbol("!=") => CompareOp::NotEqual,
            Token::Symbol(">") => CompareOp::Greater,
            Token::Symbol(">=") => CompareOp::GreaterOrEqual,
            Token::Symbol("<") => CompareOp::Less,
            Token::Symbol("<=") => CompareOp::LessOrEqual,
            Token::Symbol("=~" | "!~") => {
                self.bump();
                return Err(self.unexpected(&["STRING"]));
            }
            _ => return Err(self.unexpected(&[])),
        };
        self.bump();
        let filter = match self.peek().clone() {
            Token::Duration(value) => LabelFilter::Duration(LabelCompare { name, op, value }),
            Token::Bytes(value) => LabelFilter::Bytes(LabelCompare { name, op, value }),
            Token::Number(_) | Token::Symbol("+" | "-") => {
                let value = self.signed_number()?;
                return Ok(LabelFilter::Number(LabelCompare { name, op, value }));
            }
            _ => return Err(self.unexpected(&[])),
        };
        self.bump();
        Ok(filter)
    }

    /// The value of a number token.
    pub(super) fn number(&self, start: usize, text: &str) -> Result<f64> {
        units::float(text).map_err(|error| {
            self.invalid(
                start,
                format!("unable to parse literal as a float: {error}"),
            )
        })
    }

    fn is_unwrap(&self) -> bool {
        self.is_symbol("|") && *self.token(1) == Token::Keyword("unwrap")
    }

    /// `| unwrap label` with the label filters after it, if it is there.
    pub(super) fn unwrap_stage(&mut self) -> Result<Option<Unwrap>> {
        if !self.is_unwrap() {
            return Ok(None);
        }
        let start = self.start();
        self.at += 2;
        let conversion = match *self.peek() {
            Token::Function("bytes") => Conversion::Bytes,
            Token::Function("duration") => Conversion::Duration,
            Token::Function("duration_seconds") => Conversion::DurationSeconds,
            _ => Conversion::Number,
        };
        let label = if conversion == Conversion::Number {
            if !matches!(self.peek(), Token::Ident(_)) {
                return Err(self.unexpected(&UNWRAPPED));
            }
            self.expect_ident()?
        } else {
            self.bump();
            self.expect_symbol("(")?;
            let label = self.expect_ident()?;
            self.expect_symbol(")")?;
            label
        };
        let mut filters = Vec::new();
        while self.take_symbol("|") {
            filters.push(self.label_filter(0, &CONDITION)?);
        }
        Ok(Some(Unwrap {
            label,
            conversion,
            filters,
            span: self.since(start),
        }))
    }
}

fn all_of(left: LabelFilter, right: LabelFilter) -> LabelFilter {
    let mut parts = match left {
        LabelFilter::All(parts) => parts,
        other => vec![other],
    };
    match right {
        LabelFilter::All(more) => parts.extend(more),
        other => parts.push(other),
    }
    LabelFilter::All(parts)
}

fn any_of(left: LabelFilter, right: LabelFilter) -> LabelFilter {
    let mut parts = match left {
        LabelFilter::Any(parts) => parts,
        other => vec![other],
    };
    match right {
        LabelFilter::Any(more) => parts.extend(more),
        other => parts.push(other),
    }
    LabelFilter::Any(parts)
}
