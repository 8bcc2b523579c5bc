//! The stages of a query compiled for rows; called by the engine, batch by batch.
//!
//! Line filters run first, over whole batches, however far back they stand in the query: dropping
//! a line early or late is the same as long as no stage before changes the line. The other stages
//! run row by row on the survivors.

pub(super) mod json;
pub(super) mod label_filter;
pub(super) mod labels;
pub(super) mod line_filter;
pub(super) mod logfmt;
pub(super) mod regexp;
mod text;

use std::borrow::Cow;

use trine_storage::regex::Locations;
use trine_storage::{Labels, Matcher};

use self::label_filter::{LabelFilterError, LabelTest};
use self::labels::{ERROR, Fields, RowLabels, Wanted};
use self::line_filter::{LineFilterError, LineTest};
use self::regexp::Regexp;
use super::ast::{LabelChoice, LabelFilter, LabelFormat, Stage, StageKind};
use super::error::{ParseError, QueryError};
use super::source::{self, Lines};

/// The stages of a query.
#[derive(Debug)]
pub(super) struct Pipeline {
    filters: Vec<LineTest>,
    steps: Vec<Step>,
    pushed: Pushed,
    wanted: Wanted,
}

/// What of the stages a store may apply first.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// Conditions on lines.
    pub(super) lines: Vec<source::LineFilter>,
    /// Conditions on structured metadata.
    pub(super) metadata: Vec<Matcher>,
    /// Whether there are conditions that are not among these.
    is_part: bool,
}

#[derive(Debug)]
enum Step {
    Json,
    JsonPaths(Vec<json::Path>),
    Logfmt(logfmt::Options),
    LogfmtKeys(Vec<logfmt::KeyLabel>, logfmt::Options),
    Regexp(Regexp),
    Labels(LabelTest),
    Rename(Vec<(String, String)>),
    Drop(Vec<LabelChoice>),
    Keep(Vec<LabelChoice>),
    Decolorize,
    /// A line filter that stands after a stage that changes the line.
    Line(LineTest),
}

/// Buffers that all rows share.
#[derive(Debug)]
pub(super) struct Scratch {
    fields: Fields,
    name: String,
    /// One for each `regexp` stage, in their order.
    locations: Vec<Locations>,
}

/// A row that came through.
#[derive(Debug)]
pub(super) struct Passed<'a, 'l> {
    pub(super) line: Cow<'l, [u8]>,
    pub(super) labels: RowLabels<'a>,
}

impl Pipeline {
    /// Compiles the stages. `wanted` are the labels that are looked at after the last stage.
    ///
    /// # Errors
    /// What makes no sense in a stage, or is not supported yet.
    pub(super) fn new(stages: &[Stage], wanted: Wanted) -> Result<Self, QueryError> {
        let mut pipeline = Self {
            filters: Vec::new(),
            steps: Vec::new(),
            pushed: Pushed::default(),
            wanted,
        };
        let (mut line_changed, mut labels_changed) = (false, false);
        for stage in super::order::filters_first(stages) {
            match &stage.kind {
                StageKind::LineFilter(filter) => {
                    let test = LineTest::new(filter).map_err(|error| match error {
                        LineFilterError::Regex(error) => stage_error(stage, &error.to_string()),
                        LineFilterError::Unsupported(what) => unsupported(what),
                    })?;
                    if line_changed {
                        pipeline.pushed.is_part = true;
                        pipeline.steps.push(Step::Line(test));
                    } else {
                        let pushed = test.pushdown();
                        pipeline.pushed.is_part |= pushed.is_none();
                        pipeline.pushed.lines.extend(pushed.unwrap_or_default());
                        pipeline.filters.push(test);
                    }
                }
                _ => {
                    let step = compile(stage)?;
                    line_changed |= matches!(step, Step::Decolorize);
                    match &step {
                        Step::Labels(test) if !labels_changed => {
                            let conditions = &mut pipeline.pushed.metadata;
                            pipeline.pushed.is_part |= !test.pushdown(conditions);
                        }
                        Step::Labels(_) => pipeline.pushed.is_part = true,
                        _ => {}
                    }
                    labels_changed |= !matches!(step, Step::Labels(_) | Step::Decolorize);
                    pipeline.steps.push(step);
                }
            }
        }
        pipeline.narrow();
        Ok(pipeline)
    }

    /// Adds what the stages look at to what is wanted, and drops all stages that only set or remove
    /// labels if that is nothing.
    fn narrow(&mut self) {
        let Wanted::Names(names) = &mut self.wanted else {
            return;
        };
        let mut add = |name: &str| {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        };
        for step in &self.steps {
            match step {
                Step::Labels(test) => test.each_name(&mut add),
                Step::Rename(pairs) => pairs.iter().for_each(|(_, from)| add(from)),
                _ => {}
            }
        }
        if names.is_empty() {
            self.steps.retain(Step::sees_lines);
        }
    }

    /// Buffers for [`Pipeline::run`].
    pub(super) fn scratch(&self) -> Scratch {
        let locations = self.steps.iter().filter_map(|step| match step {
            Step::Regexp(regexp) => Some(regexp.locations()),
            _ => None,
        });
        Scratch {
            fields: Fields::default(),
            name: String::new(),
            locations: locations.collect(),
        }
    }

    /// Whether every line passes with the labels of its entry, so that lines need not be read.
    pub(super) fn is_empty(&self) -> bool {
        self.filters.is_empty() && self.steps.is_empty()
    }

    /// Whether the stages do nothing but what a store does that applies [`Pipeline::pushed`].
    pub(super) fn is_pushed(&self) -> bool {
        let is_condition = |step: &Step| matches!(step, Step::Labels(_));
        !self.pushed.is_part && self.steps.iter().all(is_condition)
    }

    /// What a store may apply first.
    pub(super) fn pushed(&self) -> &Pushed {
        &self.pushed
    }

    /// Takes the lines out of `selected` (one flag a line) that the line filters drop.
    pub(super) fn select(&self, lines: &Lines, selected: &mut [bool]) {
        for filter in &self.filters {
            filter.select(lines, selected);
        }
    }

    /// Runs the stages after the line filters on one row; `None` when one drops it.
    pub(super) fn run<'a, 'l>(
        &self,
        line: &'l [u8],
        stream: &'a Labels,
        metadata: &'a Labels,
        scratch: &'a mut Scratch,
    ) -> Option<Passed<'a, 'l>> {
        let Scratch {
            fields,
            name,
            locations,
        } = scratch;
        let mut locations = locations.iter_mut();
        let mut labels = RowLabels::new(stream, metadata, fields);
        let mut line = Cow::Borrowed(line);
        for step in &self.steps {
            match step {
                Step::Json => json::extract_all(&line, name, &self.wanted, &mut labels),
                Step::JsonPaths(paths) => {
                    json::extract_paths(&line, paths, &self.wanted, &mut labels);
                }
                Step::Logfmt(options) => {
                    logfmt::extract_all(&line, name, *options, &self.wanted, &mut labels);
                }
                Step::LogfmtKeys(keys, options) => {
                    logfmt::extract_keys(&line, keys, *options, &self.wanted, &mut labels);
                }
                Step::Regexp(regexp) => {
                    if let Some(locations) = locations.next() {
                        regexp.extract(&line, locations, &self.wanted, &mut labels);
                    }
                }
                Step::Labels(test) if !test.passes(&mut labels) => return None,
                Step::Line(test) if !test.passes(&line) => return None,
                Step::Labels(_) | Step::Line(_) => {}
                Step::Rename(pairs) => pairs.iter().for_each(|(to, from)| labels.rename(to, from)),
                Step::Drop(choices) => drop_labels(choices, &mut labels),
                Step::Keep(choices) => labels.retain(|name, value| {
                    choices.iter().any(|choice| is_chosen(choice, name, value))
                }),
                Step::Decolorize => {
                    if let Some(plain) = without_colors(&line) {
                        line = Cow::Owned(plain);
                    }
                }
            }
        }
        Some(Passed { line, labels })
    }
}

impl Step {
    /// Whether the stage matters where no label is looked at: it may drop or change lines.
    fn sees_lines(&self) -> bool {
        matches!(self, Self::Labels(_) | Self::Decolorize | Self::Line(_))
    }
}

fn compile(stage: &Stage) -> Result<Step, QueryError> {
    Ok(match &stage.kind {
        StageKind::Json(paths) if paths.is_empty() => Step::Json,
        StageKind::Json(paths) => {
            let mut compiled = Vec::with_capacity(paths.len());
            for path in paths {
                let steps = json::parse_path(&path.expression).map_err(|error| {
                    let expression = &path.expression;
                    stage_error(
                        stage,
                        &format!("cannot parse expression [{expression}]: {error}"),
                    )
                })?;
                compiled.push(json::Path {
                    label: path.label.clone(),
                    steps,
                });
            }
            Step::JsonPaths(compiled)
        }
        StageKind::Logfmt(logfmt) => {
            let options = logfmt::Options {
                strict: logfmt.strict,
                keep_empty: logfmt.keep_empty,
            };
            if logfmt.extractions.is_empty() {
                return Ok(Step::Logfmt(options));
            }
            let mut keys = Vec::with_capacity(logfmt.extractions.len());
            for wish in &logfmt.extractions {
                let key = wish.expression.trim();
                if key.contains(char::is_whitespace) {
                    let text = format!(
                        "cannot parse expression [{}]: syntax error: unexpected KEY",
                        wish.expression
                    );
                    return Err(stage_error(stage, &text));
                }
                keys.push(logfmt::KeyLabel {
                    label: wish.label.clone(),
                    key: key.to_owned(),
                });
            }
            Step::LogfmtKeys(keys, options)
        }
        StageKind::LabelFilter(filter) => Step::Labels(label_test(stage, filter)?),
        StageKind::LabelFormat(formats) => {
            let mut pairs = Vec::with_capacity(formats.len());
            for format in formats {
                match format {
                    LabelFormat::Rename { to, from } => pairs.push((to.clone(), from.clone())),
                    LabelFormat::Template { .. } => {
                        return Err(unsupported("label_format with a template"));
                    }
                }
            }
            Step::Rename(pairs)
        }
        StageKind::Drop(choices) => Step::Drop(choices.clone()),
        StageKind::Keep(choices) => Step::Keep(choices.clone()),
        StageKind::Decolorize => Step::Decolorize,
        StageKind::Regexp(pattern) => Step::Regexp(
            Regexp::new(pattern)
                .map_err(|error| parse_error(stage, format!("invalid regexp parser: {error}")))?,
        ),
        StageKind::Pattern(_) => return Err(unsupported("pattern parser")),
        StageKind::Unpack => return Err(unsupported("unpack parser")),
        StageKind::LineFormat(_) => return Err(unsupported("line_format")),
        StageKind::LineFilter(_) => return Err(unsupported("this line filter")),
    })
}

/// Compiles a condition that stands in `stage`.
pub(super) fn label_test(stage: &Stage, filter: &LabelFilter) -> Result<LabelTest, QueryError> {
    LabelTest::new(filter).map_err(|error| match error {
        LabelFilterError::Regex(error) => stage_error(stage, &error.to_string()),
        LabelFilterError::Unsupported(what) => unsupported(what),
    })
}

/// A refusal that names what is missing.
pub(super) fn unsupported(what: &str) -> QueryError {
    QueryError::Unsupported(format!("{what} is not supported yet"))
}

fn stage_error(stage: &Stage, what: &str) -> QueryError {
    parse_error(stage, format!("stage '{stage}' : {what}"))
}

fn parse_error(stage: &Stage, message: String) -> QueryError {
    QueryError::Parse(ParseError {
        message,
        span: stage.span,
        position: None,
    })
}

fn is_chosen(choice: &LabelChoice, name: &str, value: &str) -> bool {
    match choice {
        LabelChoice::Name(chosen) => chosen == name,
        LabelChoice::Matcher(matcher) => matcher.name() == name && matcher.matches(value),
    }
}

fn drop_labels(choices: &[LabelChoice], labels: &mut RowLabels<'_>) {
    for choice in choices {
        let name = choice.name();
        let value = labels.get(name);
        let matches = |matcher: &Matcher| value.is_some_and(|value| matcher.matches(value));
        let chosen = match choice {
            LabelChoice::Name(_) => value.is_some() || name == ERROR,
            LabelChoice::Matcher(matcher) => matches(matcher),
        };
        if chosen {
            labels.remove(name);
        }
    }
}

/// The line without the escape sequences that color it; `None` when it has none.
fn without_colors(line: &[u8]) -> Option<Vec<u8>> {
    const START: &[u8] = b"\x1b[";
    memchr::memmem::find(line, START)?;
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = memchr::memmem::find(rest, START) {
        plain.extend_from_slice(&rest[..at]);
        let sequence = &rest[at + START.len()..];
        // Parameters, then one final byte.
        let parameters = sequence
            .iter()
            .take_while(|byte| (0x20..0x40).contains(*byte))
            .count();
        rest = sequence.get(parameters + 1..).unwrap_or_default();
    }
    plain.extend_from_slice(rest);
    Some(plain)
}

#[cfg(test)]
mod tests;
