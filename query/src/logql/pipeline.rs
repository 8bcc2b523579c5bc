//! The stages of a query compiled for rows; called by the engine, batch by batch.
//!
//! Line filters run first, over whole batches, however far back they stand in the query: dropping
//! a line early or late is the same as long as no stage before changes the line. The other stages
//! run row by row on the survivors.

mod ip;
pub(super) mod json;
pub(super) mod label_filter;
pub(super) mod labels;
pub(super) mod line_filter;
pub(super) mod logfmt;
pub(super) mod pattern;
pub(super) mod regexp;
mod skeleton;
mod slots;
mod text;

use std::borrow::Cow;

use trine_storage::clock::{Clock as _, SystemClock};
use trine_storage::regex::Locations;
use trine_storage::{Labels, Matcher};

use self::label_filter::LabelTest;
use self::labels::{
    Ahead, ERROR, ERROR_DETAILS, Fields, PRESERVE_ERROR, RowError, RowLabels, Wanted,
};
use self::line_filter::LineTest;
use self::pattern::Pattern;
use self::regexp::Regexp;
use self::skeleton::{Filling, Skeleton};
use super::ast::{LabelChoice, LabelFilter, LabelFormat, Stage, StageKind};
use super::error::{ParseError, QueryError};
use super::source::{self, Lines, Skeletons};
use super::template::{Memory, Row, Template};

/// The stages of a query.
#[derive(Debug)]
pub(super) struct Pipeline {
    filters: Vec<LineTest>,
    steps: Vec<Step>,
    /// For each step what later ones make of what a parser finds.
    ahead: Vec<Ahead>,
    pushed: Pushed,
    wanted: Wanted,
    /// Whether rows are told apart by their error, which is then no failure.
    keeps_errors: bool,
    /// Whether nothing of rows is looked at but that they pass.
    is_sieve: bool,
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
    Pattern(Pattern),
    Unpack,
    Labels(LabelTest),
    LineFormat(Template),
    LabelFormat(Vec<Format>),
    Drop(Vec<LabelChoice>),
    Keep(Vec<LabelChoice>),
    Decolorize,
    /// A line filter that stands after a stage that changes the line.
    Line(LineTest),
}

/// One assignment of `label_format`.
#[derive(Debug)]
enum Format {
    Rename { to: String, from: String },
    Template { label: String, template: Template },
}

/// Buffers that all rows share.
#[derive(Debug)]
pub(super) struct Scratch {
    /// When the row was written, for templates; set it before [`Pipeline::run`].
    pub(super) timestamp_ns: i64,
    fields: Fields,
    name: String,
    /// One for each `regexp` stage, in their order.
    locations: Vec<Locations>,
    /// The line after a stage that changed it.
    line: Vec<u8>,
    /// What a template makes.
    made: Vec<u8>,
    filling: Filling,
    memory: Memory,
}

/// A row that came through.
#[derive(Debug)]
pub(super) struct Passed<'a> {
    pub(super) line: Cow<'a, [u8]>,
    pub(super) labels: RowLabels<'a>,
    /// Whether that is not sure before the stages have seen the whole line.
    pub(super) is_unclear: bool,
}

impl Pipeline {
    /// Compiles the stages. `wanted` are the labels that are looked at after the last stage.
    ///
    /// # Errors
    /// What makes no sense in a stage.
    pub(super) fn new(stages: &[Stage], wanted: Wanted) -> Result<Self, QueryError> {
        Self::compile(stages, wanted, false)
    }

    /// Compiles the stages to find out which rows come through, and nothing else of them.
    ///
    /// # Errors
    /// As [`Pipeline::new`].
    pub(super) fn sieve(stages: &[Stage]) -> Result<Self, QueryError> {
        Self::compile(stages, Wanted::Names(Vec::new()), true)
    }

    fn compile(stages: &[Stage], wanted: Wanted, is_sieve: bool) -> Result<Self, QueryError> {
        let keeps_errors = matches!(&wanted, Wanted::Names(_)) && wanted.contains(ERROR);
        let mut pipeline = Self {
            filters: Vec::new(),
            steps: Vec::new(),
            ahead: Vec::new(),
            pushed: Pushed::default(),
            wanted,
            keeps_errors,
            is_sieve,
        };
        let (mut line_changed, mut labels_changed) = (false, false);
        for stage in super::order::filters_first(stages) {
            if let StageKind::LineFilter(filter) = &stage.kind {
                let test = LineTest::new(filter).map_err(|what| stage_error(stage, &what))?;
                if line_changed {
                    pipeline.pushed.is_part = true;
                    pipeline.steps.push(Step::Line(test));
                } else {
                    let all = test.pushdown(&mut pipeline.pushed.lines);
                    pipeline.pushed.is_part |= !all;
                    pipeline.filters.push(test);
                }
                continue;
            }
            let step = compile(stage)?;
            line_changed |= step.changes_line();
            match &step {
                Step::Labels(test) if !labels_changed => {
                    let conditions = &mut pipeline.pushed.metadata;
                    pipeline.pushed.is_part |= !test.pushdown(conditions);
                }
                Step::Labels(_) => pipeline.pushed.is_part = true,
                _ => {}
            }
            labels_changed |= step.changes_labels();
            pipeline.steps.push(step);
        }
        pipeline.narrow();
        pipeline.look_ahead();
        Ok(pipeline)
    }

    /// Tells each parser which rows will be dropped for what it finds, and whether its mistakes show. No
    /// parser changes a label that is there already, so that what a label filter sees is what the first
    /// parser found.
    fn look_ahead(&mut self) {
        let ahead = |at: usize| {
            let later = self.steps.get(at + 1..).unwrap_or_default();
            let unchanged = later.iter().take_while(|step| {
                !matches!(step, Step::LabelFormat(_) | Step::Drop(_) | Step::Keep(_))
            });
            let tests = unchanged.filter_map(|step| match step {
                Step::Labels(test) if !test.sees_error() => Some(test.clone()),
                _ => None,
            });
            Ahead {
                conditions: tests.collect(),
                is_blind: self.hides_errors(later),
            }
        };
        self.ahead = (0..self.steps.len()).map(ahead).collect();
    }

    /// Whether an error that a row has before the steps `later` makes no difference.
    fn hides_errors(&self, later: &[Step]) -> bool {
        let are_details_seen = self.wanted.contains(ERROR_DETAILS);
        for step in later {
            match step {
                Step::Labels(test) if test.sees_error() => return false,
                Step::Drop(choices) => {
                    for choice in choices {
                        match choice {
                            LabelChoice::Name(name) if name == ERROR => return !are_details_seen,
                            LabelChoice::Matcher(matcher)
                                if matches!(matcher.name(), ERROR | ERROR_DETAILS) =>
                            {
                                return false;
                            }
                            _ => {}
                        }
                    }
                }
                Step::LineFormat(_) | Step::LabelFormat(_) | Step::Keep(_) | Step::Unpack => {
                    return false;
                }
                _ => {}
            }
        }
        self.is_sieve
    }

    /// Adds what the stages look at to what is wanted, and drops all stages that only set or remove
    /// labels if that is nothing.
    fn narrow(&mut self) {
        let Wanted::Names(names) = &mut self.wanted else {
            return;
        };
        // A name counts once.
        let mut at = 0;
        while let Some(name) = names.get(at) {
            match names.iter().take(at).any(|before| before == name) {
                true => drop(names.remove(at)),
                false => at += 1,
            }
        }
        let mut add = |name: &str| {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        };
        let mut all = false;
        for step in &self.steps {
            match step {
                Step::Labels(test) => test.each_name(&mut add),
                Step::LineFormat(template) => all |= !add_labels(template, &mut add),
                Step::LabelFormat(formats) => {
                    for format in formats {
                        match format {
                            Format::Rename { from, .. } => add(from),
                            Format::Template { template, .. } => {
                                all |= !add_labels(template, &mut add);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        if all {
            self.wanted = Wanted::All;
            return;
        }
        if names.is_empty() {
            let last_line = self.steps.iter().rposition(Step::reads_line);
            let mut place = 0;
            self.steps.retain(|step| {
                place += 1;
                let unpacks = matches!(step, Step::Unpack) && last_line >= Some(place);
                unpacks || step.sees_lines()
            });
        }
    }

    /// Buffers for [`Pipeline::run`].
    pub(super) fn scratch(&self) -> Scratch {
        let locations = self.steps.iter().filter_map(|step| match step {
            Step::Regexp(regexp) => Some(regexp.locations()),
            _ => None,
        });
        Scratch {
            timestamp_ns: 0,
            fields: Fields::default(),
            name: String::new(),
            locations: locations.collect(),
            line: Vec::new(),
            made: Vec::new(),
            filling: Filling::default(),
            memory: Memory::default(),
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

    /// Whether a stage drops lines that a store does not drop that applies [`Pipeline::pushed`].
    pub(super) fn may_drop(&self) -> bool {
        self.pushed.is_part
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

    /// Whether the stages can be run on [`Skeletons`], if nobody looks at lines behind them.
    pub(super) fn takes_skeletons(&self) -> bool {
        let parses = |step: &Step| matches!(step, Step::Json | Step::Logfmt(_));
        let sees_no_line = |step: &Step| match step {
            Step::Labels(_) | Step::Drop(_) | Step::Keep(_) => true,
            Step::LabelFormat(formats) => formats
                .iter()
                .all(|format| matches!(format, Format::Rename { .. })),
            step => parses(step),
        };
        self.filters.is_empty()
            && self.steps.iter().any(parses)
            && self.steps.iter().all(sees_no_line)
    }

    /// Runs the stages after the line filters on one row; `None` when one drops it.
    pub(super) fn run<'a>(
        &'a self,
        line: &'a [u8],
        stream: &'a Labels,
        metadata: &'a Labels,
        scratch: &'a mut Scratch,
    ) -> Option<Passed<'a>> {
        self.run_on((line, None), stream, metadata, scratch)
    }

    /// The same on a row of skeletons. What comes through has no line, and may have to be run again
    /// on the whole line ([`Passed::is_unclear`]).
    pub(super) fn run_skeleton<'a>(
        &'a self,
        (lines, row): (&'a dyn Skeletons, usize),
        stream: &'a Labels,
        metadata: &'a Labels,
        scratch: &'a mut Scratch,
    ) -> Option<Passed<'a>> {
        self.run_on(
            (lines.get(row), Some((lines, row))),
            stream,
            metadata,
            scratch,
        )
    }

    fn run_on<'a>(
        &'a self,
        (line, skeleton): (&'a [u8], Option<(&'a dyn Skeletons, usize)>),
        stream: &'a Labels,
        metadata: &'a Labels,
        scratch: &'a mut Scratch,
    ) -> Option<Passed<'a>> {
        let Scratch {
            timestamp_ns,
            fields,
            name,
            locations,
            line: changed,
            made,
            filling,
            memory,
        } = scratch;
        let filling: &'a Filling = filling;
        let skeleton = skeleton.map(|(lines, row)| Skeleton {
            lines,
            row,
            line,
            filling,
        });
        let mut locations = locations.iter_mut();
        let mut labels = RowLabels::new(stream, metadata, &self.wanted, fields);
        labels.parse_skeleton(skeleton);
        let original = line;
        let mut is_changed = false;
        for (step, ahead) in self.steps.iter().zip(&self.ahead) {
            let line: &[u8] = if is_changed { changed } else { original };
            labels.look_ahead(ahead);
            match step {
                Step::Json => json::extract_all(line, name, &mut labels),
                Step::JsonPaths(paths) => json::extract_paths(line, paths, &mut labels),
                Step::Logfmt(options) => logfmt::extract_all(line, name, *options, &mut labels),
                Step::LogfmtKeys(keys, options) => {
                    logfmt::extract_keys(line, keys, *options, &mut labels);
                }
                Step::Regexp(regexp) => {
                    if let Some(locations) = locations.next() {
                        regexp.extract(line, locations, &mut labels);
                    }
                }
                Step::Pattern(pattern) => pattern.extract(line, &mut labels),
                Step::Unpack => {
                    if json::unpack(line, name, made, &mut labels) {
                        std::mem::swap(changed, made);
                        is_changed = true;
                    }
                }
                Step::Labels(test) if !test.passes(&mut labels) => return None,
                Step::Line(test) if !test.passes(line) => return None,
                Step::Labels(_) | Step::Line(_) => {}
                Step::LineFormat(template) => {
                    let row = Row {
                        labels: &labels,
                        line,
                        timestamp_ns: *timestamp_ns,
                    };
                    made.clear();
                    match template.run(row, memory, made) {
                        Ok(()) => {
                            std::mem::swap(changed, made);
                            is_changed = true;
                        }
                        Err(details) => labels.set_error(RowError::TemplateFormat, &details),
                    }
                }
                Step::LabelFormat(formats) => {
                    let when = *timestamp_ns;
                    format_labels(formats, (line, when), (memory, made), &mut labels);
                }
                Step::Drop(choices) => drop_labels(choices, &mut labels),
                Step::Keep(choices) => labels.retain(|name, value| {
                    choices.iter().any(|choice| is_chosen(choice, name, value))
                }),
                Step::Decolorize => {
                    if without_colors(line, made) {
                        std::mem::swap(changed, made);
                        is_changed = true;
                    }
                }
            }
            if skeleton.is_some() && filling.take_unclear() {
                let line = Cow::Borrowed(&[][..]);
                return Some(Passed {
                    line,
                    labels,
                    is_unclear: true,
                });
            }
            if labels.is_refused() {
                return None;
            }
        }
        if self.keeps_errors && labels.error().is_some() {
            labels.set_parsed(PRESERVE_ERROR, "true");
        }
        let line: &[u8] = match skeleton {
            Some(_) => &[],
            None if is_changed => changed,
            None => original,
        };
        Some(Passed {
            line: Cow::Borrowed(line),
            labels,
            is_unclear: false,
        })
    }
}

/// Adds the labels that a template looks at; false when these may be any.
fn add_labels(template: &Template, add: &mut impl FnMut(&str)) -> bool {
    let names = template.labels();
    names.as_ref().is_some_and(|names| {
        names.iter().for_each(|name| add(name));
        true
    })
}

/// Runs a `label_format` stage. All of its templates see the labels as the first of them does.
fn format_labels(
    formats: &[Format],
    (line, timestamp_ns): (&[u8], i64),
    (memory, made): (&mut Memory, &mut Vec<u8>),
    labels: &mut RowLabels<'_>,
) {
    let is_template = |format: &Format| matches!(format, Format::Template { .. });
    let first = formats
        .iter()
        .position(is_template)
        .unwrap_or(formats.len());
    let (before, rest) = formats.split_at(first);
    let rename = |format: &Format, labels: &mut RowLabels<'_>| {
        if let Format::Rename { to, from } = format {
            labels.rename(to, from);
        }
    };
    before.iter().for_each(|format| rename(format, labels));
    made.clear();
    let mut results = Vec::new();
    for format in rest {
        if let Format::Template { template, .. } = format {
            let row = Row {
                labels,
                line,
                timestamp_ns,
            };
            let start = made.len();
            let result = template.run(row, memory, made);
            results.push(result.map(|()| start..made.len()));
        }
    }
    let mut results = results.into_iter();
    for format in rest {
        match format {
            Format::Rename { .. } => rename(format, labels),
            Format::Template { label, .. } => match results.next() {
                Some(Ok(range)) => {
                    let value = made.get(range).unwrap_or_default();
                    labels.set_parsed(label, &String::from_utf8_lossy(value));
                }
                Some(Err(details)) => labels.set_error(RowError::TemplateFormat, &details),
                None => {}
            },
        }
    }
}

impl Step {
    /// Whether the stage matters where no label is looked at: it may drop or change lines.
    fn sees_lines(&self) -> bool {
        matches!(
            self,
            Self::Labels(_) | Self::Decolorize | Self::Line(_) | Self::LineFormat(_)
        )
    }

    /// Whether what comes out depends on the line.
    fn reads_line(&self) -> bool {
        matches!(self, Self::Line(_) | Self::LineFormat(_))
    }

    fn changes_line(&self) -> bool {
        matches!(self, Self::Decolorize | Self::LineFormat(_) | Self::Unpack)
    }

    fn changes_labels(&self) -> bool {
        !matches!(self, Self::Labels(_) | Self::Decolorize | Self::Line(_))
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
            let mut formats_of = Vec::with_capacity(formats.len());
            for format in formats {
                formats_of.push(match format {
                    LabelFormat::Rename { to, from } => Format::Rename {
                        to: to.clone(),
                        from: from.clone(),
                    },
                    LabelFormat::Template { label, template } => {
                        let template = template_of(template, "label").map_err(|what| {
                            let text = format!("invalid template for label '{label}': {what}");
                            stage_error(stage, &text)
                        })?;
                        Format::Template {
                            label: label.clone(),
                            template,
                        }
                    }
                });
            }
            Step::LabelFormat(formats_of)
        }
        StageKind::Drop(choices) => Step::Drop(choices.clone()),
        StageKind::Keep(choices) => Step::Keep(choices.clone()),
        StageKind::Decolorize => Step::Decolorize,
        StageKind::Regexp(pattern) => Step::Regexp(
            Regexp::new(pattern)
                .map_err(|error| parse_error(stage, format!("invalid regexp parser: {error}")))?,
        ),
        StageKind::Pattern(pattern) => Step::Pattern(
            Pattern::new(pattern)
                .map_err(|error| parse_error(stage, format!("invalid pattern parser: {error}")))?,
        ),
        StageKind::Unpack => Step::Unpack,
        StageKind::LineFormat(template) => {
            let template = template_of(template, "line")
                .map_err(|what| stage_error(stage, &format!("invalid line template: {what}")))?;
            Step::LineFormat(template)
        }
        StageKind::LineFilter(filter) => {
            Step::Line(LineTest::new(filter).map_err(|what| stage_error(stage, &what))?)
        }
    })
}

fn template_of(text: &str, name: &'static str) -> Result<Template, String> {
    Template::new(text, name, SystemClock::new().now_ns())
}

/// Compiles a condition that stands in `stage`.
pub(super) fn label_test(stage: &Stage, filter: &LabelFilter) -> Result<LabelTest, QueryError> {
    LabelTest::new(filter).map_err(|what| stage_error(stage, &what))
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

/// Writes the line without the escape sequences that color it; false when it has none.
fn without_colors(line: &[u8], plain: &mut Vec<u8>) -> bool {
    const START: &[u8] = b"\x1b[";
    if memchr::memmem::find(line, START).is_none() {
        return false;
    }
    plain.clear();
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
    true
}

#[cfg(test)]
mod tests;
