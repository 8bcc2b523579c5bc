//! Reads test scripts. The grammar is that of Prometheus' own scripts, so that one may be tried on
//! the other: `clear`, `load`, `eval instant`, `eval range` and `expect ..` lines.

use std::collections::HashSet;

use trine_query::promql::{Sequence, SeriesDescription, SeriesValue, parse_series};
use trine_query::text::{parse_number, parse_prometheus_duration, unquote};
use trine_storage::Labels;
use trine_storage::regex::LineRegex;

use super::histogram;

pub(super) struct Script {
    pub(super) commands: Vec<Command>,
}

pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Box<Case>),
}

/// Samples to store.
pub(super) struct Load {
    pub(super) samples: Vec<Sample>,
    /// Whether classic histograms are stored as native ones with custom buckets too.
    pub(super) with_custom: bool,
}

pub(super) struct Sample {
    pub(super) labels: Labels,
    pub(super) time_ms: i64,
    /// 0 where it is not known.
    pub(super) start_ms: i64,
    pub(super) value: SeriesValue,
}

pub(super) struct Case {
    pub(super) line: usize,
    pub(super) query: String,
    pub(super) when: When,
    pub(super) ordered: bool,
    pub(super) warnings: Notes,
    pub(super) infos: Notes,
    pub(super) expect: Expect,
    /// Where the points of a range vector lie that an instant query yields.
    pub(super) matrix: Option<(i64, i64, i64)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    Instant(i64),
    Range(i64, i64, i64),
}

pub(super) enum Expect {
    Series(Vec<Wanted>),
    Number(f64),
    String(String),
    Failure(Text),
}

/// A series with one value a step.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) labels: Labels,
    pub(super) values: Vec<SeriesValue>,
}

/// What a text must be.
pub(super) enum Text {
    Any,
    Exactly(String),
    Like(LineRegex),
}

/// Which annotations must be there.
#[derive(Default)]
pub(super) enum Notes {
    #[default]
    Unchecked,
    None,
    Some(Vec<Text>),
}

impl Text {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(text) = text.strip_prefix("msg:") {
            Ok(Self::Exactly(text.trim().to_owned()))
        } else if let Some(text) = text.strip_prefix("regex:") {
            let regex = LineRegex::new(text.trim()).map_err(|error| error.to_string())?;
            Ok(Self::Like(regex))
        } else if text.is_empty() {
            Ok(Self::Any)
        } else {
            Err(format!("neither msg nor regex: {text}"))
        }
    }

    pub(super) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => wanted == text,
            Self::Like(regex) => regex.is_match(text.as_bytes()),
        }
    }
}

impl Notes {
    fn add(&mut self, text: Text) -> Result<(), String> {
        match self {
            Self::None => return Err("both some and no annotations are expected".to_owned()),
            Self::Some(texts) => texts.push(text),
            Self::Unchecked => *self = Self::Some(vec![text]),
        }
        Ok(())
    }

    pub(super) fn accepts(&self, notes: &[String]) -> Result<(), String> {
        let fine = match self {
            Self::Unchecked => true,
            Self::None => notes.is_empty(),
            Self::Some(texts) => {
                let named = |text: &Text| notes.iter().any(|note| text.accepts(note));
                let known = |note: &String| texts.iter().any(|text| text.accepts(note));
                !notes.is_empty() && texts.iter().all(named) && notes.iter().all(known)
            }
        };
        if fine {
            Ok(())
        } else {
            Err(format!("there are {notes:?}"))
        }
    }
}

impl Case {
    /// The first and last time of the expected values, and their distance.
    pub(super) fn times(&self) -> (i64, i64, i64) {
        match (self.matrix, self.when) {
            (Some(times), _) => times,
            (None, When::Range(start, end, step)) => (start, end, step),
            (None, When::Instant(at)) => (at, at, 1),
        }
    }
}

impl Script {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut commands = Vec::new();
        let mut lines = text.lines().map(str::trim).enumerate().peekable();
        while let Some((at, head)) = lines.next() {
            if is_blank(head) {
                continue;
            }
            let mut body = Vec::new();
            let has_body = !head.eq_ignore_ascii_case("clear");
            while let Some((_, line)) = lines.next_if(|(_, line)| has_body && !is_blank(line)) {
                body.push(line);
            }
            let command = command(head, &body, at + 1);
            commands.push(command.map_err(|error| format!("line {}: {error}", at + 1))?);
        }
        Ok(Self { commands })
    }
}

fn is_blank(line: &str) -> bool {
    line.is_empty() || line.starts_with('#')
}

fn command(head: &str, body: &[&str], line: usize) -> Result<Command, String> {
    let (command, rest) = word(head);
    let command = command.to_ascii_lowercase();
    match command.as_str() {
        "clear" => Ok(Command::Clear),
        "load" | "load_with_nhcb" => Ok(Command::Load(Load {
            samples: load(duration(rest)?, body)?,
            with_custom: command == "load_with_nhcb",
        })),
        _ if command == "eval" || command.starts_with("eval_") => {
            let mut case = eval(rest, line)?;
            match command.strip_prefix("eval_") {
                None => {}
                Some("fail") => case.expect = Expect::Failure(Text::Any),
                Some("warn") => case.warnings.add(Text::Any)?,
                Some("info") => case.infos.add(Text::Any)?,
                Some("ordered") => case.ordered = true,
                Some(other) => return Err(format!("unknown command eval_{other}")),
            }
            for line in body {
                expectation(&mut case, line)?;
            }
            Ok(Command::Eval(Box::new(case)))
        }
        other => Err(format!("unknown command {other}")),
    }
}

fn load(step: i64, body: &[&str]) -> Result<Vec<Sample>, String> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut seen = HashSet::new();
    let mut starts: Option<(String, Vec<Option<i64>>)> = None;
    for line in body {
        if let Some((metric, items)) = start_line(line) {
            starts = Some((metric.to_owned(), start_items(items)?));
            continue;
        }
        let wanted = series(line)?;
        let mut start_times = Vec::new();
        if let Some((metric, times)) = starts.take() {
            let SeriesDescription { labels, .. } =
                parse_series(&metric).map_err(|error| error.to_string())?;
            if labels != wanted.labels || times.len() != wanted.values.len() {
                return Err(format!(
                    "the start times before this line do not fit: {line}"
                ));
            }
            start_times = times;
        }
        // The last of equal series of one block counts.
        if !seen.insert(wanted.labels.clone()) {
            samples.retain(|sample| sample.labels != wanted.labels);
        }
        for (at, value) in wanted.values.into_iter().enumerate() {
            if value == SeriesValue::Missing {
                continue;
            }
            let time_ms = i64::try_from(at).map_err(|error| error.to_string())? * step;
            let offset = start_times.get(at).copied().flatten();
            samples.push(Sample {
                labels: wanted.labels.clone(),
                time_ms,
                start_ms: offset.map_or(0, |offset| time_ms + offset),
                value,
            });
        }
    }
    match starts {
        Some((metric, _)) => Err(format!("no series follows the start times of {metric}")),
        None => Ok(samples),
    }
}

/// `metric{labels}@st item item ..`
fn start_line(line: &str) -> Option<(&str, &str)> {
    let (metric, items) = line.split_once("@st")?;
    items.starts_with([' ', '\t']).then_some((metric, items))
}

/// How far from each sample its start lies, in milliseconds.
fn start_items(items: &str) -> Result<Vec<Option<i64>>, String> {
    let mut out = Vec::new();
    for item in items.split_whitespace() {
        let (body, times) = match item.rsplit_once('x') {
            Some((body, times)) => (body, times.parse::<usize>().map_err(|e| e.to_string())?),
            None => (item, 0),
        };
        if body == "_" {
            out.extend(std::iter::repeat_n(None, times.max(1)));
            continue;
        }
        let sign = body.get(1..).and_then(|rest| rest.find(['+', '-']));
        let (first, change) = match sign {
            Some(at) => body.split_at(at + 1),
            None => (body, "0"),
        };
        let (first, change) = (signed_duration(first)?, signed_duration(change)?);
        let mut at = first;
        for _ in 0..=times {
            out.push(Some(at));
            at += change;
        }
    }
    Ok(out)
}

fn signed_duration(text: &str) -> Result<i64, String> {
    match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(rest), _) => Ok(-duration(rest)?),
        (_, Some(rest)) => duration(rest),
        _ => duration(text),
    }
}

fn eval(rest: &str, line: usize) -> Result<Case, String> {
    let (kind, rest) = word(rest);
    let (when, query) = if kind == "instant" {
        let rest = rest.strip_prefix("at ").ok_or("no time")?;
        let (at, query) = word(rest.trim_start());
        (When::Instant(duration(at)?), query)
    } else if kind == "range" {
        let (start, rest) = word(rest.strip_prefix("from ").ok_or("no start")?);
        let (end, rest) = word(rest.strip_prefix("to ").ok_or("no end")?);
        let (step, query) = word(rest.strip_prefix("step ").ok_or("no step")?);
        let times = (duration(start)?, duration(end)?, duration(step)?);
        (When::Range(times.0, times.1, times.2), query)
    } else {
        return Err(format!("neither instant nor range: {kind}"));
    };
    Ok(Case {
        line,
        query: query.to_owned(),
        when,
        ordered: false,
        warnings: Notes::default(),
        infos: Notes::default(),
        expect: Expect::Series(Vec::new()),
        matrix: None,
    })
}

fn expectation(case: &mut Case, line: &str) -> Result<(), String> {
    if let Some(text) = line.strip_prefix("expected_fail_message") {
        case.expect = Expect::Failure(Text::Exactly(text.trim().to_owned()));
        return Ok(());
    }
    if let Some(rest) = line.strip_prefix("expect ") {
        let (what, text) = word(rest);
        match what {
            "fail" => case.expect = Expect::Failure(Text::parse(text)?),
            "warn" => case.warnings.add(Text::parse(text)?)?,
            "info" => case.infos.add(Text::parse(text)?)?,
            "no_warn" => case.warnings = Notes::None,
            "no_info" => case.infos = Notes::None,
            "ordered" => case.ordered = true,
            "string" => {
                case.expect = Expect::String(unquote(text).map_err(|error| error.to_string())?);
            }
            "range" => {
                let words: Vec<&str> = text.split_whitespace().collect();
                let ["vector", "from", start, "to", end, "step", step] = words[..] else {
                    return Err(format!("cannot read {line}"));
                };
                case.matrix = Some((duration(start)?, duration(end)?, duration(step)?));
            }
            other => return Err(format!("unknown expectation {other}")),
        }
        return Ok(());
    }
    if let Some(number) = parse_number(line) {
        case.expect = Expect::Number(number);
        return Ok(());
    }
    match &mut case.expect {
        Expect::Series(all) => all.push(series(line)?),
        _ => return Err(format!("a series where none can be: {line}")),
    }
    Ok(())
}

/// A series description with every item expanded.
fn series(line: &str) -> Result<Wanted, String> {
    let SeriesDescription { labels, items } = parse_series(line).map_err(|e| e.to_string())?;
    let mut values = Vec::new();
    for Sequence {
        first,
        change,
        count,
    } in items
    {
        let mut value = first;
        for at in 0..count {
            if at > 0
                && let Some((sign, by)) = &change
            {
                value = histogram::changed(&value, *sign, by)?;
            }
            values.push(value.clone());
        }
    }
    Ok(Wanted { labels, values })
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim())
}

fn duration(text: &str) -> Result<i64, String> {
    parse_prometheus_duration(text.trim()).map_err(|error| error.to_string())
}
