//! Queries that are still being typed, and the filters that requests for tags and for one trace take.
//!
//! An editor asks for the values of a tag while the query around it is incomplete. What is missing
//! must not hide values: an incomplete matcher is `true`, and what cannot be read is no filter.

use std::fmt;

use super::ast::{Attribute, FieldExpr, Intrinsic, Op, Pipeline, Query, Root, SpansetExpr, Stage};
use super::error::{ParseError, QueryError};
use super::lexer::{Token, lex};
use super::lower;
use super::parser::{field_op, parse, parse_unchecked};
use super::source::{Filter, TraceFilter};
use super::validate;

/// How many groups of conditions the filter of a tag request may have, unless somebody says otherwise,
/// once its alternatives are multiplied out.
pub const CONDITION_GROUPS_MAX: usize = 100;

/// Reads a query as far as it is typed: up to the first `|` outside of filters, matchers that lack an
/// operand are `true`, and brackets that are open at the end are closed. Types are not checked.
///
/// # Errors
/// [`ParseError`] where that is no query either; its place is one in [`completed`].
pub fn parse_lenient(text: &str) -> Result<Query, ParseError> {
    parse_unchecked(&completed(text)?)
}

/// The query of a request for tags: [`parse_lenient`], and `{ }` where the text is empty, cannot be
/// read or makes no sense.
pub fn tag_query(text: &str) -> Query {
    let read = parse_lenient(text).ok();
    let checked = read.filter(|query| validate::check(query).is_ok());
    checked.unwrap_or_else(|| Query {
        root: Root::Search(Pipeline {
            stages: vec![Stage::Spans(SpansetExpr::Filter(None, Default::default()))],
        }),
        hints: Vec::new(),
    })
}

/// What spans must satisfy whose tags a request wants; none for all spans. The filter is that of the
/// first stage, if this is a single `{ ... }`. Of it count comparisons of a literal with an intrinsic
/// or with an attribute that has a scope, joined by `&&` and `||`; with an alternative without any of
/// them there is no filter.
///
/// # Errors
/// [`QueryError::Execution`] where there are more than `groups_max` groups, of which zero is none.
pub fn tag_filter(text: &str, groups_max: usize) -> Result<Option<Filter>, QueryError> {
    let query = tag_query(text);
    let pipeline = match &query.root {
        Root::Search(pipeline) => Some(pipeline),
        Root::Metrics(metrics) => match metrics.functions().as_slice() {
            [(pipeline, _)] => Some(*pipeline),
            _ => None,
        },
    };
    let first = pipeline.and_then(|pipeline| pipeline.stages.first());
    let Some(Stage::Spans(SpansetExpr::Filter(Some(expr), span))) = first else {
        return Ok(None);
    };
    let Some(usable) = usable(expr) else {
        return Ok(None);
    };
    if groups_max > 0 && groups(&usable) > groups_max {
        return Err(QueryError::Execution(format!(
            "maximum condition groups reached (limit: {groups_max}). Reduce the number of OR \
             conditions in the query"
        )));
    }
    let filter = SpansetExpr::Filter(Some(usable), *span);
    let lowered = lower::filter(&Pipeline {
        stages: vec![Stage::Spans(filter)],
    });
    Ok(match lowered {
        TraceFilter::Has(filter) => Some(filter),
        _ => None,
    })
}

/// The part of an expression that a tag request can use.
fn usable(expr: &FieldExpr) -> Option<FieldExpr> {
    let FieldExpr::Binary { op, lhs, rhs, span } = expr else {
        return None;
    };
    let joined = |lhs: FieldExpr, rhs: FieldExpr| FieldExpr::Binary {
        op: *op,
        lhs: lhs.into(),
        rhs: rhs.into(),
        span: *span,
    };
    match op {
        Op::Or => Some(joined(usable(lhs)?, usable(rhs)?)),
        Op::And => match (usable(lhs), usable(rhs)) {
            (Some(lhs), Some(rhs)) => Some(joined(lhs, rhs)),
            (lhs, rhs) => lhs.or(rhs),
        },
        _ => match (&**lhs, &**rhs) {
            (FieldExpr::Attribute(attribute, _), FieldExpr::Static(..))
            | (FieldExpr::Static(..), FieldExpr::Attribute(attribute, _)) => {
                let is_scoped = !matches!(attribute, Attribute::Named { scope: None, .. });
                (op.is_comparison() && is_scoped).then(|| expr.clone())
            }
            _ => None,
        },
    }
}

/// How many conjunctions an expression is once its alternatives are multiplied out.
fn groups(expr: &FieldExpr) -> usize {
    match expr {
        FieldExpr::Binary { op, lhs, rhs, .. } => match op {
            Op::Or => groups(lhs).saturating_add(groups(rhs)),
            Op::And => groups(lhs).saturating_mul(groups(rhs)),
            _ => 1,
        },
        _ => 1,
    }
}

/// Why a text is no filter of the spans of one trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterError {
    /// It is no query.
    Query(ParseError),
    /// It is more than one `{ ... }`.
    Shape,
    /// It asks for what one span does not know.
    Intrinsic(Intrinsic),
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(error) => error.fmt(f),
            Self::Shape => f.write_str("only a query of one filter is supported: { ... }"),
            Self::Intrinsic(intrinsic) => {
                write!(f, "{} is not supported in this filter", intrinsic.name())
            }
        }
    }
}

impl std::error::Error for FilterError {}

/// Reads a filter that is applied to spans one by one; none lets all pass.
///
/// # Errors
/// [`FilterError`] where the text is no query, is more than a filter, or asks for what other spans of
/// the trace tell.
pub fn parse_filter(text: &str) -> Result<Option<FieldExpr>, FilterError> {
    let query = parse(text).map_err(FilterError::Query)?;
    let stages = query.search().map(|pipeline| pipeline.stages.as_slice());
    let Some([Stage::Spans(SpansetExpr::Filter(expr, _))]) = stages else {
        return Err(FilterError::Shape);
    };
    let mut of_others = None;
    if let Some(expr) = expr {
        expr.attributes(&mut |attribute| match attribute {
            Attribute::Intrinsic(intrinsic) if !intrinsic.is_of_span() => {
                of_others = of_others.or(Some(*intrinsic));
            }
            _ => {}
        });
    }
    match of_others {
        Some(intrinsic) => Err(FilterError::Intrinsic(intrinsic)),
        None => Ok(expr.clone()),
    }
}

/// The text that [`parse_lenient`] reads: words with a blank between, incomplete matchers replaced.
///
/// # Errors
/// [`ParseError`] where the text is longer than a query may be.
pub fn completed(text: &str) -> Result<String, ParseError> {
    let mut completion = Completion::default();
    for (token, span) in lex(text)? {
        let word = text.get(span.start..span.end).unwrap_or_default();
        if completion.is_done {
            // Behind the first stage nothing is typed for a tag request: the rest stays as it is.
            let rest = text.get(span.start..).unwrap_or_default();
            completion.words.push(rest);
            break;
        }
        completion.add(&token, word);
    }
    completion.end();
    Ok(completion.words.join(" ").trim_end().to_owned())
}

/// Words as they are completed.
#[derive(Default)]
struct Completion<'a> {
    words: Vec<&'a str>,
    /// Within curly brackets, where the matcher begins.
    matcher: Option<usize>,
    /// Where the matchers around it begin, one for each open round bracket.
    around: Vec<usize>,
    /// Whether the matcher lacks something.
    is_broken: bool,
    /// Whether the first stage is over.
    is_done: bool,
}

impl<'a> Completion<'a> {
    fn add(&mut self, token: &Token, word: &'a str) {
        let Some(start) = self.matcher else {
            self.words.push(word);
            match token {
                Token::Sign("{") => self.matcher = Some(self.words.len()),
                Token::Sign("|") => self.is_done = true,
                _ => {}
            }
            return;
        };
        match token {
            Token::End => {}
            Token::Invalid(_) | Token::Unnamed { .. } => self.is_broken = true,
            Token::Sign("(") => {
                self.words.push(word);
                self.around.push(start);
                self.matcher = Some(self.words.len());
            }
            Token::Sign(")") if !self.around.is_empty() => {
                self.close();
                self.words.push(word);
                self.matcher = self.around.pop();
            }
            Token::Sign("&&" | "||") => {
                self.close();
                self.words.push(word);
                self.matcher = Some(self.words.len());
            }
            Token::Sign("!") if self.words.len() == start => {
                self.words.push(word);
                self.matcher = Some(self.words.len());
            }
            Token::Sign("}") => self.close_filter(),
            _ => self.words.push(word),
        }
    }

    /// Ends a matcher.
    fn close(&mut self) {
        let start = self.matcher.unwrap_or_default();
        let is_operator = |word: &&str| *word == "!" || field_op(word).is_some();
        let of_matcher = self.words.get(start..).unwrap_or_default();
        let is_broken = match of_matcher.last() {
            Some(last) => self.is_broken || is_operator(last),
            // `{ }` lacks nothing.
            None => self.is_broken || self.words.last() != Some(&"{"),
        };
        self.is_broken = false;
        if is_broken {
            self.words.truncate(start);
            self.words.push("true");
        }
    }

    /// Ends a filter with all brackets that are open in it.
    fn close_filter(&mut self) {
        while let Some(outer) = self.around.pop() {
            self.close();
            self.words.push(")");
            self.matcher = Some(outer);
        }
        self.close();
        self.words.push("}");
        self.matcher = None;
    }

    fn end(&mut self) {
        if self.matcher.is_some() {
            self.close_filter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traceql::ast::Static;
    use crate::traceql::source::{AttributeRef, Condition, Scope, Test, Value};

    #[test]
    fn what_is_half_typed_is_true() {
        for (text, expected) in [
            ("{ .a = 1 && }", "{ .a = 1 && true }"),
            ("{ .a = 1 && (", "{ .a = 1 && ( true ) }"),
            ("{ ((.a =", "{ ( ( true ) ) }"),
            ("{ resource.", "{ true }"),
            ("{ resource. = `x` && .b = 1 }", "{ true && .b = 1 }"),
            ("{ .a = \"fo", "{ true }"),
            ("{ .a = -", "{ true }"),
            ("{ .a = (.b) + && .c }", "{ true && .c }"),
            ("{ .a = (.b + ) && .c }", "{ .a = ( true ) && .c }"),
            ("{ ! }", "{ ! true }"),
            ("{", "{ }"),
            ("{ .a = /* now */ }", "{ true }"),
            ("{ .a = }|{ .b   = }", "{ true } | { .b   = }"),
            ("{ .a } ) (", "{ .a } ) ("),
            ("", ""),
        ] {
            assert_eq!(completed(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn the_first_filter_is_that_of_a_tag_request() {
        let is = |key: &str, value: &str| {
            Filter::Is(Condition {
                attribute: AttributeRef::Attribute {
                    scope: Some(Scope::Resource),
                    key: key.to_owned(),
                },
                test: Test::Equal(vec![Value::Str(value.into())]),
            })
        };
        let shown = |filter: Option<Filter>| format!("{filter:?}");
        for (text, expected) in [
            ("", None),
            ("{", None),
            ("{ }", None),
            ("{ true }", None),
            ("no query", None),
            ("{ .a = `x` }", None),
            ("{ resource.a = `x` }", Some(is("a", "x"))),
            ("{ resource.a = `x` && resource.b = ", Some(is("a", "x"))),
            ("{ `x` = resource.a } | rate() by(name)", Some(is("a", "x"))),
            ("{ resource.a = `x` } | count() > 1", Some(is("a", "x"))),
            ("{ resource.a = `x` } | select(name)", Some(is("a", "x"))),
            ("{ resource.a = `x` && .b = 1 }", Some(is("a", "x"))),
            ("{ resource.a = `x` && !(name = `y`) }", Some(is("a", "x"))),
            ("{ resource.a = `x` || .b = 1 }", None),
            ("{ resource.a = `x` || resource.b = }", None),
            ("{ resource.a = `x` } >> { }", None),
            ("{ resource.a = `x` } && { }", None),
            ("{ resource.a = `x` && name = 1 }", None),
            ("by(resource.a) | { resource.a = `x` }", None),
            ("({ resource.a = `x` } | rate()) * 2", Some(is("a", "x"))),
            ("({ resource.a = `x` } | rate()) / ({ } | rate())", None),
        ] {
            let found = tag_filter(text, CONDITION_GROUPS_MAX).unwrap();
            assert_eq!(shown(found), shown(expected), "{text}");
        }
    }

    #[test]
    fn a_tag_request_may_have_as_many_groups_as_the_limit_and_no_more() {
        let any = |count: usize| {
            let of: Vec<String> = (0..count).map(|i| format!("span.a = {i}")).collect();
            format!("({})", of.join(" || "))
        };
        for (expr, groups) in [
            (any(100), 100),
            (any(101), 101),
            (format!("{} && {}", any(10), any(10)), 100),
            (format!("{} && {}", any(10), any(11)), 110),
            (
                format!("{0} && {0} && {0} && {0}", any(90)),
                90_usize.pow(4),
            ),
        ] {
            let query = format!("{{ {expr} }}");
            assert!(tag_filter(&query, 0).is_ok());
            let found = tag_filter(&query, CONDITION_GROUPS_MAX).map(drop);
            let expected = "maximum condition groups reached (limit: 100). Reduce the number of \
                            OR conditions in the query";
            match groups <= CONDITION_GROUPS_MAX {
                true => assert!(found.is_ok(), "{expr}: {found:?}"),
                false => assert_eq!(found.unwrap_err().to_string(), expected),
            }
        }
    }

    #[test]
    fn a_filter_of_one_trace_is_one_filter() {
        assert_eq!(parse_filter("{ }"), Ok(None));
        assert!(matches!(parse_filter("{ .a = 1 }"), Ok(Some(_))));
        assert_eq!(parse_filter("({ .a } | { .b })"), Err(FilterError::Shape));
        let refused = Err(FilterError::Intrinsic(Intrinsic::NestedSetParent));
        assert_eq!(parse_filter("{ .a && nestedSetParent < 0 }"), refused);
        let told = FilterError::Intrinsic(Intrinsic::TraceDuration).to_string();
        assert_eq!(told, "traceDuration is not supported in this filter");
        assert!(matches!(parse_filter("{ .a"), Err(FilterError::Query(_))));
    }

    #[test]
    fn what_cannot_be_read_asks_for_all() {
        for text in ["", "{ .a = 1 } | { .b = }", "{ name = 1 }", "???"] {
            assert_eq!(tag_query(text).to_string(), "{ true }");
        }
        let shown = tag_query("{ .a = 1 && .b = ").to_string();
        assert_eq!(shown, "{ (.a = 1) && true }");
        assert!(matches!(
            tag_query("{ .a != nil }").search().unwrap().stages.as_slice(),
            [Stage::Spans(SpansetExpr::Filter(
                Some(FieldExpr::Binary { rhs, .. }),
                _
            ))] if matches!(**rhs, FieldExpr::Static(Static::Nil, _))
        ));
    }
}
