//! Data for a query: series with the names and labels that its selectors ask for, so that it has
//! something to work on.

use std::collections::{BTreeMap, BTreeSet};

use trine_query::promql::ast::{Expr, ExprKind, Modifiers};
use trine_query::promql::source::Memory;
use trine_query::promql::{Query, SampleValue};
use trine_query::vector::histogram::Buckets;
use trine_query::vector::{Grouping, Histogram, MatchLabels};
use trine_storage::sim::Rng;
use trine_storage::{Labels, MatchOp, Matcher};

/// How far apart samples lie, in milliseconds.
const STEP: i64 = 15_000;

/// How far before each place samples begin.
const HISTORY: i64 = 40 * 60_000;

/// How many kinds of data there are to try.
pub(super) const VARIANTS: u64 = 48;

/// What a query asks for.
#[derive(Default)]
struct Asked {
    selectors: Vec<Vec<Matcher>>,
    /// Labels that it groups or joins by.
    labels: BTreeSet<String>,
    offsets: BTreeSet<i64>,
    has_quantile: bool,
}

/// Data for the query around `time_ms`. Variant 0 are counters that rise; in others some series
/// are missing, constant, zero, falling or native histograms. With `instances` there is a series of
/// each kind for each of them.
pub(super) fn data_for(query: &Query, time_ms: i64, variant: u64, instances: &[&str]) -> Memory {
    let mut asked = Asked::default();
    asked.read(&query.expr, 0);
    asked.offsets.insert(0);
    // A selector that asks for less finds the series of one that asks for more.
    asked
        .selectors
        .sort_by_key(|matchers| std::cmp::Reverse(matchers.len()));
    let mut preferred: BTreeMap<&str, &str> = BTreeMap::new();
    for matcher in asked.selectors.iter().flatten() {
        if matcher.op() == MatchOp::Equal && !matcher.value().is_empty() {
            preferred.entry(matcher.name()).or_insert(matcher.value());
        }
    }
    let mut rng = Rng::new(variant);
    let mut source = Memory::default();
    let mut seen: BTreeSet<Labels> = BTreeSet::new();
    for (index, matchers) in asked.selectors.iter().enumerate() {
        let kind = if variant == 0 { 1 } else { rng.below(8) };
        let slope = (rng.below(20) + 1) as f64 * if variant % 3 == 1 { 0.01 } else { 1.0 };
        let is_there = |labels: &Labels| matchers.iter().all(|m| m.matches_labels(labels));
        if seen.iter().any(is_there) {
            continue;
        }
        let series = asked.series(matchers, &preferred);
        let series = series.iter().flat_map(|labels| spread(labels, instances));
        for (place, labels) in series.enumerate() {
            if !seen.insert(labels.clone()) {
                continue;
            }
            let slope = slope * (1 + place) as f64;
            for offset in &asked.offsets {
                let end = time_ms - offset + 5 * 60_000;
                for at in 0..=HISTORY / STEP {
                    let time = end - HISTORY + at * STEP;
                    if let Some(value) = value(kind, slope, at as f64, index) {
                        source.add_sample(&labels, time, 0, value);
                    }
                }
            }
        }
    }
    source
}

fn spread(labels: &Labels, instances: &[&str]) -> Vec<Labels> {
    if instances.is_empty() {
        return vec![labels.clone()];
    }
    let each = instances.iter().map(|name| labels.with("instance", name));
    each.collect()
}

fn value(kind: u64, slope: f64, at: f64, index: usize) -> Option<SampleValue> {
    Some(SampleValue::Float(match kind {
        0 => return None,
        1 => 10.0 + slope * at,
        2 => 0.0,
        3 => 1.0,
        4 => 1e12 + slope * at,
        5 => 1e4 - slope * at,
        6 => ((at as usize + index) % 7) as f64,
        _ => {
            let counts = vec![slope * at, 2.0 * slope * at, slope * at];
            return Some(SampleValue::Histogram(
                Histogram {
                    sum: 9.0 * slope * at,
                    count: counts.iter().sum(),
                    positive: Buckets::dense(0, counts),
                    ..Histogram::default()
                }
                .into(),
            ));
        }
    }))
}

impl Asked {
    fn read(&mut self, expr: &Expr, offset: i64) {
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => {}
            ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
                self.selectors.push(selector.matchers.clone());
                self.look(&selector.modifiers, offset);
            }
            ExprKind::Subquery(subquery) => {
                let offset = self.look(&subquery.modifiers, offset);
                self.read(&subquery.expr, offset);
            }
            ExprKind::Aggregate(aggregate) => {
                if let Grouping::By(names) = &aggregate.grouping {
                    self.labels.extend(names.iter().cloned());
                }
                if let Some(parameter) = &aggregate.parameter {
                    self.read(parameter, offset);
                }
                self.read(&aggregate.expr, offset);
            }
            ExprKind::Binary(binary) => {
                if let Some(matching) = &binary.matching {
                    if let MatchLabels::On(names) = &matching.labels {
                        self.labels.extend(names.iter().cloned());
                    }
                    self.labels.extend(matching.include.iter().cloned());
                }
                self.read(&binary.lhs, offset);
                self.read(&binary.rhs, offset);
            }
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => self.read(expr, offset),
            ExprKind::Call {
                function,
                arguments,
            } => {
                self.has_quantile |= function.name == "histogram_quantile";
                for argument in arguments {
                    self.read(argument, offset);
                }
            }
        }
    }

    fn look(&mut self, modifiers: &Modifiers, offset: i64) -> i64 {
        let offset = offset + modifiers.offset_ms.unwrap_or(0);
        self.offsets.insert(offset);
        offset
    }

    /// The label sets of the series for one selector.
    fn series(&self, matchers: &[Matcher], preferred: &BTreeMap<&str, &str>) -> Vec<Labels> {
        let names: BTreeSet<&str> = matchers.iter().map(Matcher::name).collect();
        let mut labels = Labels::empty();
        for name in &names {
            let of_label: Vec<&Matcher> = matchers.iter().filter(|m| m.name() == *name).collect();
            let hint = preferred.get(name).copied().unwrap_or("v");
            labels = labels.with(name, &satisfying(&of_label, hint));
        }
        for name in &self.labels {
            if !names.contains(name.as_str()) && name != "le" && name != "__name__" {
                let value = preferred.get(name.as_str()).copied().unwrap_or("v");
                labels = labels.with(name, value);
            }
        }
        let name = labels.get("__name__").unwrap_or("").to_owned();
        let wants_bounds =
            name.ends_with("_bucket") || (self.has_quantile && self.labels.contains("le"));
        if wants_bounds && !names.contains("le") {
            let bounds = ["0.1", "1", "+Inf"];
            return bounds.map(|bound| labels.with("le", bound)).to_vec();
        }
        vec![labels]
    }
}

/// A value that all matchers of one label accept.
fn satisfying(matchers: &[&Matcher], hint: &str) -> String {
    let accepted = |value: &str| matchers.iter().all(|matcher| matcher.matches(value));
    let mut candidates = vec![
        hint.to_owned(),
        "v".to_owned(),
        "1".to_owned(),
        "x1y2".to_owned(),
    ];
    for matcher in matchers {
        match matcher.op() {
            MatchOp::Equal => candidates.insert(0, matcher.value().to_owned()),
            MatchOp::Match => candidates.extend(sample(matcher.value())),
            MatchOp::NotEqual | MatchOp::NotMatch => {}
        }
    }
    let found = candidates.iter().find(|value| accepted(value));
    found.cloned().unwrap_or_default()
}

/// Texts that a simple pattern matches: one for each of its alternatives.
fn sample(pattern: &str) -> Vec<String> {
    let mut parser = Pattern {
        chars: pattern.chars().collect(),
        at: 0,
    };
    parser.alternatives()
}

struct Pattern {
    chars: Vec<char>,
    at: usize,
}

impl Pattern {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn alternatives(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            all.push(self.sequence());
            if self.peek() != Some('|') {
                return all;
            }
            self.at += 1;
        }
    }

    fn sequence(&mut self) -> String {
        let mut out = String::new();
        while let Some(c) = self.peek().filter(|c| !matches!(c, '|' | ')')) {
            self.at += 1;
            let piece = match c {
                '.' => "a".to_owned(),
                '(' => {
                    if self.peek() == Some('?') {
                        while self.peek().is_some_and(|c| !matches!(c, ':' | '>' | ')')) {
                            self.at += 1;
                        }
                        self.at += 1;
                    }
                    let found = self.alternatives();
                    self.at += 1;
                    found.into_iter().next().unwrap_or_default()
                }
                '[' => self.class(),
                '^' | '$' => String::new(),
                '\\' => self.escaped(),
                c => c.to_string(),
            };
            match self.peek() {
                Some('*' | '?') => self.at += 1,
                Some('+') => {
                    self.at += 1;
                    out.push_str(&piece);
                }
                Some('{') => {
                    let mut count = String::new();
                    self.at += 1;
                    while let Some(c) = self.peek().filter(char::is_ascii_digit) {
                        count.push(c);
                        self.at += 1;
                    }
                    while self.peek().is_some_and(|c| c != '}') {
                        self.at += 1;
                    }
                    self.at += 1;
                    out.push_str(&piece.repeat(count.parse().unwrap_or(1)));
                }
                _ => out.push_str(&piece),
            }
        }
        out
    }

    fn class(&mut self) -> String {
        let negated = self.peek() == Some('^');
        let mut first = None;
        if negated {
            self.at += 1;
        }
        while let Some(c) = self.peek() {
            self.at += 1;
            match c {
                ']' if first.is_some() => break,
                '\\' => first = first.or(self.escaped().chars().next()),
                c => first = first.or(Some(c)),
            }
        }
        if negated {
            return "a".to_owned();
        }
        first.map(String::from).unwrap_or_default()
    }

    fn escaped(&mut self) -> String {
        let c = self.peek().unwrap_or('\\');
        self.at += 1;
        match c {
            'd' => "1".to_owned(),
            'w' | 'S' | 'D' => "a".to_owned(),
            's' => " ".to_owned(),
            c => c.to_string(),
        }
    }
}
