//! The labels of one row while it goes through a pipeline, for the stages.
//!
//! A row has labels of three categories: those of its stream, its structured metadata, and what
//! the stages parsed. Parsed names and values live in one buffer that all rows share, so that a
//! row costs no allocation.

use std::ops::{ControlFlow, Range};

use trine_storage::Labels;

use super::label_filter::LabelTest;
use super::skeleton::Skeleton;
use super::slots::Slots;

/// Where a label comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::logql) enum Category {
    Stream,
    Metadata,
    Parsed,
}

/// Which labels a parser needs to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::logql) enum Wanted {
    /// All that it finds.
    All,
    /// Only these; it may stop when it has found them all.
    Names(Vec<String>),
}

impl Wanted {
    pub(in crate::logql) fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.iter().any(|wanted| wanted == name),
        }
    }

    /// Whether a field that a parser calls `name` may become one of these.
    fn takes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names
                .iter()
                .any(|wanted| wanted == name || wanted.strip_suffix(EXTRACTED) == Some(name)),
        }
    }

    /// Whether a name whose first `at` bytes are known may go on with `key`; wrong answers are all
    /// "yes". Asked before the key is made into a name.
    pub(in crate::logql) fn may_go_on(&self, at: usize, key: &[u8]) -> bool {
        let Self::Names(names) = self else {
            return true;
        };
        let begins = |name: &String| {
            let rest = name.as_bytes().get(at..);
            rest.is_some_and(|rest| rest.starts_with(key))
        };
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let digit = key.first().is_none_or(u8::is_ascii_digit);
        digit || names.iter().any(begins) || !key.iter().all(is_plain)
    }
}

/// What went wrong with a row; becomes its `__error__` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::logql) enum RowError {
    Json,
    Logfmt,
    LabelFilter,
    SampleExtraction,
    TemplateFormat,
    /// One that the row came with, in its metadata.
    Told,
}

impl RowError {
    fn name(self, told: &str) -> &str {
        match self {
            Self::Json => "JSONParserErr",
            Self::Logfmt => "LogfmtParserErr",
            Self::LabelFilter => "LabelFilterErr",
            Self::SampleExtraction => "SampleExtractionErr",
            Self::TemplateFormat => "TemplateFormatErr",
            Self::Told => told,
        }
    }
}

/// The label that names what went wrong with a row.
pub(in crate::logql) const ERROR: &str = "__error__";
/// The label that describes it.
pub(in crate::logql) const ERROR_DETAILS: &str = "__error_details__";
/// The label that asks to keep rows with errors in metric queries.
pub(in crate::logql) const PRESERVE_ERROR: &str = "__preserve_error__";
/// What a parsed name gets when a stream or metadata label has it already.
pub(in crate::logql) const EXTRACTED: &str = "_extracted";

/// What the stages after a parser make of what it finds.
#[derive(Debug, Default)]
pub(in crate::logql) struct Ahead {
    /// Rows are dropped for which one of these does not hold.
    pub(in crate::logql) conditions: Vec<LabelTest>,
    /// Whether nobody will know that the parser met a mistake.
    pub(in crate::logql) is_blind: bool,
}

static NOTHING_AHEAD: Ahead = Ahead {
    conditions: Vec::new(),
    is_blind: false,
};

/// Whether keys may be written with backslashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::logql) enum Escapes {
    None,
    Backslash,
}

#[derive(Debug)]
struct Field {
    category: Category,
    name: Range<usize>,
    value: Range<usize>,
}

/// The buffers of [`RowLabels`], reused from row to row.
#[derive(Debug, Default)]
pub(in crate::logql) struct Fields {
    text: String,
    fields: Vec<Field>,
    hidden: Vec<Range<usize>>,
    error: Option<RowError>,
    told: String,
    details: String,
    slots: Slots,
}

/// The labels of one row.
#[derive(Debug)]
pub(in crate::logql) struct RowLabels<'a> {
    stream: &'a Labels,
    metadata: &'a Labels,
    buffers: &'a mut Fields,
    wanted: &'a Wanted,
    /// What later stages make of what the parser at work finds.
    ahead: &'a Ahead,
    /// A bit for each wanted name that a stage has set, while a parser seeks.
    found: u64,
    /// Whether one of them refuses the row.
    refused: bool,
    skeleton: Option<Skeleton<'a>>,
}

impl<'a> RowLabels<'a> {
    /// The labels of a row that no stage has seen yet, of which stages extract those that are
    /// `wanted`, always the same for the same buffers.
    pub(in crate::logql) fn new(
        stream: &'a Labels,
        metadata: &'a Labels,
        wanted: &'a Wanted,
        buffers: &'a mut Fields,
    ) -> Self {
        buffers.text.clear();
        buffers.fields.clear();
        buffers.hidden.clear();
        buffers.error = None;
        buffers.details.clear();
        buffers.slots.refresh(stream, metadata, wanted);
        let mut labels = Self {
            stream,
            metadata,
            buffers,
            wanted,
            ahead: &NOTHING_AHEAD,
            found: 0,
            refused: false,
            skeleton: None,
        };
        if labels.buffers.slots.tells_error {
            labels.take_told();
        }
        labels
    }

    /// Makes metadata that has the name of the error the row's error.
    fn take_told(&mut self) {
        let early = self
            .metadata
            .iter()
            .take_while(|(name, _)| *name <= ERROR_DETAILS);
        for (name, value) in early {
            if name == ERROR {
                self.buffers.told.clear();
                self.buffers.told.push_str(value);
                self.buffers.error = Some(RowError::Told);
            } else if name == ERROR_DETAILS {
                self.buffers.details.push_str(value);
            }
        }
    }

    fn text(&self, range: &Range<usize>) -> &str {
        self.buffers.text.get(range.clone()).unwrap_or("")
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.buffers
            .fields
            .iter()
            .find(|field| self.text(&field.name) == name)
    }

    fn is_hidden(&self, name: &str) -> bool {
        self.buffers
            .hidden
            .iter()
            .any(|hidden| self.text(hidden) == name)
    }

    /// The value that the stream or the metadata give for `name`.
    fn base(&self, name: &str) -> Option<(Category, &str)> {
        if let Some(value) = self.stream.get(name) {
            return Some((Category::Stream, value));
        }
        if self.metadata.is_empty() {
            return None;
        }
        let of_metadata = self.metadata.get(name).or_else(|| {
            let name = name.strip_suffix(EXTRACTED)?;
            self.stream.get(name).and_then(|_| self.metadata.get(name))
        });
        of_metadata.map(|value| (Category::Metadata, value))
    }

    fn find(&self, name: &str) -> Option<(Category, &str)> {
        if let Some(field) = self.field(name) {
            return Some((field.category, self.text(&field.value)));
        }
        if self.is_hidden(name) {
            None
        } else {
            self.base(name)
        }
    }

    /// The value of `name`, the error labels included.
    pub(in crate::logql) fn get(&self, name: &str) -> Option<&str> {
        match name {
            ERROR => self.error(),
            ERROR_DETAILS => Some(self.buffers.details.as_str()).filter(|text| !text.is_empty()),
            _ => self.find(name).map(|(_, value)| value),
        }
    }

    /// What went wrong with the row.
    pub(in crate::logql) fn error(&self) -> Option<&str> {
        self.buffers
            .error
            .map(|error| error.name(&self.buffers.told))
    }

    /// Marks the row as bad.
    pub(in crate::logql) fn set_error(&mut self, error: RowError, details: &str) {
        self.buffers.error = Some(error);
        self.buffers.details.clear();
        self.buffers.details.push_str(details);
    }

    fn push_text(&mut self, text: &str) -> Range<usize> {
        let start = self.buffers.text.len();
        self.buffers.text.push_str(text);
        start..self.buffers.text.len()
    }

    /// Makes [`RowLabels::extract`] break with a label that one of the conditions refuses: the row
    /// will be dropped, whatever else the parser finds.
    pub(in crate::logql) fn look_ahead(&mut self, ahead: &'a Ahead) {
        self.ahead = ahead;
    }

    /// Whether parsing the line would change nothing that anybody looks at. Asked after
    /// [`RowLabels::seek`] said yes.
    pub(in crate::logql) fn may_skip(&mut self, line: &[u8], escapes: Escapes) -> bool {
        self.ahead.is_blind
            && (self.skeleton.is_none() || self.buffers.slots.are_seen())
            && self.buffers.slots.are_absent(line)
            && (escapes == Escapes::None || memchr::memchr(b'\\', line).is_none())
    }

    /// Whether the row is to be dropped.
    pub(in crate::logql) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether the stream or the metadata have the name, so that what is parsed gets another.
    fn is_taken(&self, name: &str) -> bool {
        self.stream.get(name).is_some()
            || (self.metadata.get(name).is_some() && !self.is_hidden(name))
    }

    /// Says that stages see the line without its numbers and ids.
    pub(super) fn parse_skeleton(&mut self, skeleton: Option<Skeleton<'a>>) {
        self.skeleton = skeleton;
    }

    /// How the line was given that a parser is at, where that is without numbers and ids.
    pub(super) fn skeleton(&self) -> Option<Skeleton<'a>> {
        self.skeleton
    }

    /// Which labels stages extract.
    pub(in crate::logql) fn wanted(&self) -> &'a Wanted {
        self.wanted
    }

    fn names(&self) -> &'a [String] {
        match self.wanted {
            Wanted::Names(names) => names,
            Wanted::All => &[],
        }
    }

    /// Begins a parser; whether it may look keys up with [`RowLabels::sought`].
    pub(in crate::logql) fn seek(&mut self) -> bool {
        if !self.buffers.slots.is_usable() || !self.buffers.hidden.is_empty() {
            return false;
        }
        self.found = 0;
        if !self.buffers.fields.is_empty() {
            for (at, name) in self.names().iter().enumerate() {
                self.found |= u64::from(self.field(name).is_some()) << at;
            }
        }
        true
    }

    /// Whether a field whose key begins as this one does may be wanted; wrong answers are all "yes".
    #[inline]
    pub(in crate::logql) fn may_begin(&self, key: &[u8]) -> bool {
        self.buffers.slots.may_begin(key)
    }

    /// Which of the wanted names a field becomes whose key is a name as it is written.
    #[inline]
    pub(in crate::logql) fn sought(&self, key: &[u8]) -> Option<usize> {
        self.buffers.slots.find(key, self.names())
    }

    /// Adds what a parser found for a wanted name, as [`RowLabels::extract`] does.
    #[inline]
    pub(in crate::logql) fn fill(
        &mut self,
        at: usize,
        write: impl FnOnce(&mut String),
    ) -> ControlFlow<()> {
        let Some(name) = self.names().get(at).filter(|_| self.found & (1 << at) == 0) else {
            return ControlFlow::Continue(());
        };
        self.found |= 1 << at;
        let name = self.push_text(name);
        write(&mut self.buffers.text);
        self.add(name)?;
        let Slots { taken, all, .. } = self.buffers.slots;
        match self.found | taken == all {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Adds a label that a parser found, whose value `write` appends. A name that the stream or
    /// the metadata have becomes `<name>_extracted`; the first of several equal names stays.
    /// Breaks when everything wanted has been found.
    pub(in crate::logql) fn extract(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut String),
    ) -> ControlFlow<()> {
        let wanted = self.wanted;
        if !wanted.takes(name) {
            return ControlFlow::Continue(());
        }
        let start = self.buffers.text.len();
        self.buffers.text.push_str(name);
        if self.is_taken(name) {
            self.buffers.text.push_str(EXTRACTED);
        }
        let name = start..self.buffers.text.len();
        let repeated = self.field(self.text(&name)).is_some();
        if repeated || !wanted.contains(self.text(&name)) {
            self.buffers.text.truncate(start);
            return ControlFlow::Continue(());
        }
        if let Some(at) = self
            .names()
            .iter()
            .position(|wanted| wanted == self.text(&name))
        {
            self.found |= 1u64
                .checked_shl(u32::try_from(at).unwrap_or(u32::MAX))
                .unwrap_or(0);
        }
        write(&mut self.buffers.text);
        self.add(name)?;
        let is_known = |name: &String| self.field(name).is_some() || self.is_taken(name);
        match wanted {
            Wanted::Names(names) if names.iter().all(is_known) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Adds a label that a parser found: the name, and the text after it. Breaks when a condition
    /// refuses the row.
    #[inline]
    fn add(&mut self, name: Range<usize>) -> ControlFlow<()> {
        let value = name.end..self.buffers.text.len();
        let (found, text) = (self.text(&name), self.text(&value));
        if self
            .ahead
            .conditions
            .iter()
            .any(|test| test.refuses(found, text))
        {
            self.refused = true;
            return ControlFlow::Break(());
        }
        self.buffers.fields.push(Field {
            category: Category::Parsed,
            name,
            value,
        });
        ControlFlow::Continue(())
    }

    /// Sets a label that a stage made.
    pub(in crate::logql) fn set_parsed(&mut self, name: &str, value: &str) {
        self.set(Category::Parsed, name, value);
    }

    /// Sets a label, whatever had its name before.
    fn set(&mut self, category: Category, name: &str, value: &str) {
        self.remove(name);
        let name = self.push_text(name);
        let value = self.push_text(value);
        self.buffers.fields.push(Field {
            category,
            name,
            value,
        });
    }

    /// Gives the label `from` the name `to`; nothing happens when there is none.
    pub(in crate::logql) fn rename(&mut self, to: &str, from: &str) {
        let Some((category, value)) = self.find(from) else {
            return;
        };
        let value = value.to_owned();
        self.remove(from);
        self.set(category, to, &value);
    }

    /// Removes a label of any category, or the row's error.
    pub(in crate::logql) fn remove(&mut self, name: &str) {
        match name {
            ERROR => self.buffers.error = None,
            ERROR_DETAILS => self.buffers.details.clear(),
            _ => {
                let Fields { text, fields, .. } = &mut *self.buffers;
                fields.retain(|field| text.get(field.name.clone()) != Some(name));
                if self.base(name).is_some() && !self.is_hidden(name) {
                    let hidden = self.push_text(name);
                    self.buffers.hidden.push(hidden);
                }
            }
        }
    }

    /// Removes every label that `keep` does not want, but never the error.
    pub(in crate::logql) fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        let mut gone: Vec<String> = Vec::new();
        self.each(|_, name, value| {
            if name != PRESERVE_ERROR && !keep(name, value) {
                gone.push(name.to_owned());
            }
        });
        for name in gone {
            self.remove(&name);
        }
    }

    /// Calls `visit` with every label but those of the error, in no particular order.
    pub(in crate::logql) fn each(&self, mut visit: impl FnMut(Category, &str, &str)) {
        let changed = !self.buffers.hidden.is_empty() || !self.buffers.fields.is_empty();
        let visible =
            |name: &str| !changed || (self.field(name).is_none() && !self.is_hidden(name));
        for (name, value) in self.stream.iter().filter(|(name, _)| visible(name)) {
            visit(Category::Stream, name, value);
        }
        for (name, value) in self.metadata {
            if matches!(name, ERROR | ERROR_DETAILS) {
                continue;
            }
            if self.stream.get(name).is_none() {
                if visible(name) {
                    visit(Category::Metadata, name, value);
                }
            } else {
                let name = format!("{name}{EXTRACTED}");
                if visible(&name) {
                    visit(Category::Metadata, &name, value);
                }
            }
        }
        for field in &self.buffers.fields {
            visit(
                field.category,
                self.text(&field.name),
                self.text(&field.value),
            );
        }
    }

    /// Calls `visit` with the labels that stages added, in the order they did.
    pub(in crate::logql) fn each_added(&self, mut visit: impl FnMut(&str, &str)) {
        for field in &self.buffers.fields {
            visit(self.text(&field.name), self.text(&field.value));
        }
    }

    /// Calls `visit` with the names of stream and metadata labels that stages removed.
    pub(in crate::logql) fn each_hidden(&self, mut visit: impl FnMut(&str)) {
        for hidden in &self.buffers.hidden {
            visit(self.text(hidden));
        }
    }

    /// The labels of one category; errors count as parsed.
    pub(in crate::logql) fn category(&self, wanted: Category) -> Labels {
        // Parsers never touch base labels, so these two are mostly as the source gave them.
        let is_of = |category| {
            self.buffers
                .fields
                .iter()
                .any(|field| field.category == category)
        };
        let untouched = self.buffers.hidden.is_empty() && !is_of(wanted);
        if wanted == Category::Stream && untouched {
            return self.stream.clone();
        }
        let is_free = |(name, _): (&str, &str)| {
            self.stream.get(name).is_none() && !matches!(name, ERROR | ERROR_DETAILS)
        };
        if wanted == Category::Metadata && untouched && self.metadata.iter().all(is_free) {
            return self.metadata.clone();
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        self.each(|category, name, value| {
            if category == wanted {
                pairs.push((name.to_owned(), value.to_owned()));
            }
        });
        if wanted == Category::Parsed {
            self.push_error(&mut pairs);
        }
        Labels::showing(pairs)
    }

    /// All labels in one set, the error included.
    pub(in crate::logql) fn merged(&self) -> Labels {
        let mut pairs: Vec<(String, String)> = Vec::new();
        self.each(|_, name, value| pairs.push((name.to_owned(), value.to_owned())));
        self.push_error(&mut pairs);
        Labels::showing(pairs)
    }

    fn push_error(&self, pairs: &mut Vec<(String, String)>) {
        for name in [ERROR, ERROR_DETAILS] {
            if let Some(value) = self.get(name) {
                pairs.push((name.to_owned(), value.to_owned()));
            }
        }
    }
}
