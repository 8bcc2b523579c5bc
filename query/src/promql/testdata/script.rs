//! Reads test scripts. Called by the runner beside it.

use trine_storage::Labels;
use trine_storage::regex::LineRegex;

use crate::promql::parse_selector;
use crate::text::{parse_number, parse_prometheus_duration, unquote};
use crate::vector::ABSENT;

#[derive(Debug)]
pub(super) struct Script {
    pub(super) commands: Vec<Command>,
}

#[derive(Debug)]
pub(super) enum Command {
    Clear,
    Load(Vec<(Labels, i64, f64)>),
    Eval(Case),
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) line: usize,
    pub(super) query: String,
    pub(super) when: When,
    pub(super) ordered: bool,
    pub(super) warnings: Notes,
    pub(super) infos: Notes,
    pub(super) expect: Expect,
    /// Where the points of a range vector lie that an instant query yields.
    matrix: Option<(i64, i64, i64)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    Instant(i64),
    Range(i64, i64, i64),
}

#[derive(Debug)]
pub(super) enum Expect {
    Series(Vec<(Labels, Vec<Option<f64>>)>),
    Number(f64),
    String(String),
    Failure(Text),
}

/// What a text must be.
#[derive(Debug, Clone)]
pub(super) enum Text {
    Any,
    Exactly(String),
    Like(String),
}

/// Which annotations must be there.
#[derive(Debug, Default)]
pub(super) enum Notes {
    #[default]
    Unchecked,
    None,
    Some(Vec<Text>),
}

impl Text {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(text) = text.strip_prefix("msg:") {
            Self::Exactly(text.trim().to_owned())
        } else if let Some(text) = text.strip_prefix("regex:") {
            Self::Like(text.trim().to_owned())
        } else {
            Self::Any
        }
    }

    pub(super) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => wanted == text,
            Self::Like(pattern) => {
                LineRegex::new(pattern).is_ok_and(|regex| regex.is_match(text.as_bytes()))
            }
        }
    }
}

impl Notes {
    fn add(&mut self, text: Text) {
        match self {
            Self::Some(texts) => texts.push(text),
            _ => *self = Self::Some(vec![text]),
        }
    }

    pub(super) fn accepts(&self, notes: &[String]) -> Result<(), String> {
        let fine = match self {
            Self::Unchecked => true,
            Self::None => notes.is_empty(),
            Self::Some(texts) => {
                !notes.is_empty()
                    && texts
                        .iter()
                        .all(|text| notes.iter().any(|note| text.accepts(note)))
                    && notes
                        .iter()
                        .all(|note| texts.iter().any(|text| text.accepts(note)))
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
            if head.is_empty() || head.starts_with('#') {
                continue;
            }
            let mut body = Vec::new();
            let has_body = !head.eq_ignore_ascii_case("clear");
            while let Some((_, line)) =
                lines.next_if(|(_, line)| has_body && !line.is_empty() && !line.starts_with('#'))
            {
                body.push(line);
            }
            let command = command(head, &body, at + 1);
            commands.push(command.map_err(|error| format!("line {}: {error}", at + 1))?);
        }
        Ok(Self { commands })
    }
}

fn command(head: &str, body: &[&str], line: usize) -> Result<Command, String> {
    let (word, rest) = head.split_once(' ').unwrap_or((head, ""));
    match word.to_ascii_lowercase().as_str() {
        "clear" => Ok(Command::Clear),
        "load" => load(duration(rest)?, body).map(Command::Load),
        "eval" => eval(rest.trim(), body, line).map(Command::Eval),
        other => Err(format!("unknown command {other}")),
    }
}

fn load(step: i64, body: &[&str]) -> Result<Vec<(Labels, i64, f64)>, String> {
    let mut samples = Vec::new();
    for line in body {
        let (labels, values) = series(line)?;
        for (at, value) in (0i64..).zip(values) {
            if let Some(value) = value {
                samples.push((labels.clone(), at * step, value));
            }
        }
    }
    Ok(samples)
}

fn eval(rest: &str, body: &[&str], line: usize) -> Result<Case, String> {
    let (when, query) = if let Some(rest) = rest.strip_prefix("instant at ") {
        let (at, query) = word(rest);
        (When::Instant(duration(at)?), query)
    } else {
        let rest = rest
            .strip_prefix("range from ")
            .ok_or("neither instant nor range")?;
        let (start, rest) = word(rest);
        let (end, rest) = word(rest.strip_prefix("to ").ok_or("no end")?);
        let (step, query) = word(rest.strip_prefix("step ").ok_or("no step")?);
        (
            When::Range(duration(start)?, duration(end)?, duration(step)?),
            query,
        )
    };
    let mut case = Case {
        line,
        query: query.to_owned(),
        when,
        ordered: false,
        warnings: Notes::default(),
        infos: Notes::default(),
        expect: Expect::Series(Vec::new()),
        matrix: None,
    };
    for line in body {
        expectation(&mut case, line)?;
    }
    Ok(case)
}

fn expectation(case: &mut Case, line: &str) -> Result<(), String> {
    if let Some(rest) = line.strip_prefix("expect ") {
        let (what, text) = word(rest);
        match what {
            "fail" => case.expect = Expect::Failure(Text::parse(text)),
            "warn" => case.warnings.add(Text::parse(text)),
            "info" => case.infos.add(Text::parse(text)),
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

/// `metric{labels} item item ..`
fn series(line: &str) -> Result<(Labels, Vec<Option<f64>>), String> {
    let mut quoted = None;
    let mut depth = 0;
    let end = line.char_indices().find(|(at, c)| {
        match (quoted, c) {
            (Some(open), c) if open == *c && line.as_bytes()[at - 1] != b'\\' => quoted = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quoted = Some(*c),
            (None, '{') => depth += 1,
            (None, '}') => depth -= 1,
            _ => {}
        }
        quoted.is_none() && depth == 0 && (*c == ' ' || *c == '\t')
    });
    let (name, items) = line.split_at(end.map_or(line.len(), |(at, _)| at));
    let labels = if name == "{}" {
        Labels::empty()
    } else {
        let matchers = parse_selector(name).map_err(|error| error.to_string())?;
        Labels::from_pairs(matchers.iter().map(|m| (m.name(), m.value())))
            .map_err(|error| error.to_string())?
    };
    let mut values = Vec::new();
    for item in items.split_whitespace() {
        values.extend(expand(item).ok_or_else(|| format!("cannot read the item {item}"))?);
    }
    Ok((labels, values))
}

fn expand(item: &str) -> Option<Vec<Option<f64>>> {
    let (body, times) = match item.rsplit_once('x') {
        Some((body, times)) => (body, times.parse::<usize>().ok()?),
        None => (item, 0),
    };
    if body == "_" {
        return Some(vec![None; times.max(1)]);
    }
    if body == "stale" {
        return Some(vec![Some(ABSENT); times + 1]);
    }
    let bytes = body.as_bytes();
    let operator = (1..bytes.len())
        .find(|at| matches!(bytes[*at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'));
    let (start, delta) = match operator {
        Some(at) => (parse_number(&body[..at])?, parse_number(&body[at..])?),
        None => (parse_number(body)?, 0.0),
    };
    Some(
        (0..=times)
            .map(|i| {
                Some(if delta == 0.0 {
                    start
                } else {
                    start + delta * i as f64
                })
            })
            .collect(),
    )
}

fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim())
}

fn duration(text: &str) -> Result<i64, String> {
    parse_prometheus_duration(text.trim()).map_err(|error| error.to_string())
}
