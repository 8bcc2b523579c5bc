//! Entries for a query: streams with the labels that its selectors ask for, and lines with the
//! words and fields that its stages look for.

use std::collections::BTreeMap;

use serde_json::json;
use trine_query::logql::ast::{
    CompareOp, Conversion, Expr, LabelFilter, LineOp, LineOperand, LogExpr, MetricExpr, MetricKind,
    StageKind, Unwrap,
};
use trine_query::vector::Grouping;
use trine_storage::regex::LineRegex;
use trine_storage::{Labels, MatchOp, Matcher};

/// An entry without its time.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stream: Labels,
    pub(super) metadata: Labels,
    pub(super) line: String,
}

/// Entries that the query should find: for each of its selectors lines in JSON and, unless it
/// parses only these, one in logfmt and plain ones.
pub(super) fn entries_for(expr: &Expr) -> Vec<Entry> {
    let mut wanted = Vec::new();
    match expr {
        Expr::Log(log) => wanted.push(Wanted::of(log, None)),
        Expr::Metric(metric) => read(metric, &[], &mut wanted),
    }
    wanted.iter().flat_map(Wanted::entries).collect()
}

fn read(metric: &MetricExpr, grouped: &[String], out: &mut Vec<Wanted>) {
    let names = |grouping: &Option<Grouping>| match grouping {
        Some(Grouping::By(names)) => [grouped, names].concat(),
        Some(Grouping::Without(_)) | None => grouped.to_vec(),
    };
    match &metric.kind {
        MetricKind::Literal(_) | MetricKind::Vector(_) => {}
        MetricKind::Range(range) => {
            let mut wanted = Wanted::of(&range.range.log, range.range.unwrap.as_ref());
            for name in names(&range.grouping) {
                wanted.fields.entry(name).or_insert_with(|| "x".to_owned());
            }
            out.push(wanted);
        }
        MetricKind::Aggregate(aggregate) => {
            read(&aggregate.inner, &names(&aggregate.grouping), out);
        }
        MetricKind::Binary(binary) => {
            read(&binary.left, grouped, out);
            read(&binary.right, grouped, out);
        }
        MetricKind::LabelReplace(replace) => read(&replace.inner, grouped, out),
    }
}

/// What a selector and its stages look for.
#[derive(Default)]
struct Wanted {
    stream: BTreeMap<String, String>,
    words: Vec<String>,
    fields: BTreeMap<String, String>,
    /// The expression of a `pattern` stage.
    pattern: Option<String>,
    /// Whether all lines must be JSON, since the first parser reads nothing else.
    is_json: bool,
}

impl Wanted {
    fn of(log: &LogExpr, unwrap: Option<&Unwrap>) -> Self {
        let mut wanted = Self::default();
        for matcher in &log.selector.matchers {
            if let Some(value) = value_for(matcher) {
                let name = matcher.name().to_owned();
                let known = wanted.stream.entry(name).or_insert_with(|| value.clone());
                // Of two conditions on a label the narrower one decides.
                if !matcher.matches(known) {
                    *known = value;
                }
            }
        }
        let parsers = log.stages.iter().map(|stage| &stage.kind);
        let mut parsers = parsers.filter(|kind| {
            matches!(
                kind,
                StageKind::Json(_) | StageKind::Logfmt(_) | StageKind::Unpack
            )
        });
        wanted.is_json = matches!(parsers.next(), Some(StageKind::Json(_) | StageKind::Unpack))
            && parsers.next().is_none();
        for stage in &log.stages {
            match &stage.kind {
                StageKind::LineFilter(filter) => {
                    if let Some(LineOperand::Text(text)) = filter.operands.first() {
                        wanted.words.extend(match filter.op {
                            LineOp::Contains => Some(text.clone()),
                            LineOp::Matches => Some(text_for(text)),
                            LineOp::Pattern => Some(text.replace("<_>", "x")),
                            _ => None,
                        });
                    }
                }
                StageKind::LabelFilter(filter) => wanted.condition(filter),
                StageKind::Pattern(pattern) => wanted.pattern = Some(pattern.clone()),
                _ => {}
            }
        }
        if let Some(unwrap) = unwrap {
            let value = match unwrap.conversion {
                Conversion::Number => "42",
                Conversion::Bytes => "42KB",
                Conversion::Duration | Conversion::DurationSeconds => "42ms",
            };
            let label = unwrap.label.clone();
            wanted.fields.insert(label, value.to_owned());
            unwrap.filters.iter().for_each(|f| wanted.condition(f));
        }
        wanted
    }

    fn condition(&mut self, filter: &LabelFilter) {
        let (name, value) = match filter {
            LabelFilter::Text(matcher) => match value_for(matcher) {
                Some(value) => (matcher.name(), value),
                None => return,
            },
            LabelFilter::Number(c) => (c.name.as_str(), (c.value + beyond(c.op)).to_string()),
            LabelFilter::Duration(c) => {
                let nanos = c.value as f64 + beyond(c.op);
                (c.name.as_str(), format!("{nanos}ns"))
            }
            LabelFilter::Bytes(c) => {
                let bytes = c.value.bytes as f64 + beyond(c.op);
                (c.name.as_str(), format!("{bytes}B"))
            }
            LabelFilter::Ip { name, range, .. } => {
                let first = range.split(['-', '/']).next().unwrap_or("");
                (name.as_str(), first.to_owned())
            }
            LabelFilter::All(parts) | LabelFilter::Any(parts) => {
                return parts.iter().for_each(|part| self.condition(part));
            }
        };
        if !name.starts_with("__") {
            self.fields.insert(name.to_owned(), value);
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let labels = |pairs: &BTreeMap<String, String>| Labels::from_pairs(pairs).unwrap();
        let of_stream = |name: &str| self.stream.contains_key(name);
        let mut fields = self.fields.clone();
        fields.retain(|name, _| !of_stream(name));
        let words = self.words.join(" ");
        let mut object = json!(fields);
        object["msg"] = json!(words);
        let pairs: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
        let plain = match &self.pattern {
            Some(pattern) => filled(pattern, &fields, &words),
            None => words.clone(),
        };
        let entry = |line: String, metadata: &BTreeMap<String, String>| Entry {
            stream: labels(&self.stream),
            metadata: labels(metadata),
            line,
        };
        let none = BTreeMap::new();
        let as_json = [&none, &fields].map(|metadata| entry(object.to_string(), metadata));
        if self.is_json {
            return as_json.into();
        }
        let others = [
            entry(format!("{} {words} msg={words:?}", pairs.join(" ")), &none),
            entry(plain, &none),
            entry(format!("{words} GET x x"), &fields),
        ];
        as_json.into_iter().chain(others).collect()
    }
}

/// A line that a `pattern` stage takes apart into the fields; the last one has the words as well.
fn filled(pattern: &str, fields: &BTreeMap<String, String>, words: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let (name, after) = after.split_once('>').unwrap_or((after, ""));
        out.push_str(fields.get(name).map_or("x", String::as_str));
        rest = after;
    }
    format!("{out}{rest} {words}")
}

/// How far from its bound a value must lie.
fn beyond(op: CompareOp) -> f64 {
    match op {
        CompareOp::Equal | CompareOp::GreaterOrEqual | CompareOp::LessOrEqual => 0.0,
        CompareOp::Greater | CompareOp::NotEqual => 1.0,
        CompareOp::Less => -1.0,
    }
}

/// A value that matches; `None` where the label is better left out.
fn value_for(matcher: &Matcher) -> Option<String> {
    let value = match matcher.op() {
        MatchOp::Equal => matcher.value().to_owned(),
        MatchOp::Match => text_for(matcher.value()),
        MatchOp::NotEqual | MatchOp::NotMatch => "x".to_owned(),
    };
    (!value.is_empty() && matcher.matches(&value)).then_some(value)
}

/// A text in which the expression finds something: its first alternatives, with the shortest of
/// what repeats.
fn text_for(pattern: &str) -> String {
    let mut text = pattern.replace("(?i)", "");
    while let Some(open) = text.find('(') {
        let Some(len) = text[open..].find(')') else {
            break;
        };
        let group = text[open + 1..open + len].trim_start_matches("?:");
        let first = group.split('|').next().unwrap_or("").to_owned();
        let optional = text[open + len + 1..].starts_with('?');
        let end = open + len + 1 + usize::from(optional);
        text.replace_range(open..end, if optional { "" } else { &first });
    }
    let text = text.split('|').next().unwrap_or("");
    let text = text.replace(".+", "x").replace(".*", "").replace(".?", "");
    let text = text.replace(['\\', '^', '$'], "");
    match LineRegex::new(pattern) {
        Ok(regex) if regex.is_match(text.as_bytes()) => text,
        _ => "x".to_owned(),
    }
}
