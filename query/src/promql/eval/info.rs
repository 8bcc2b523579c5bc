//! `info(vector, {matchers})`: the labels of info metrics added to series of the same instance and
//! job. Called by the calls.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use trine_storage::{Labels, MatchOp, Matcher};

use super::Evaluation;
use super::expression::unchecked;
use super::look_up::{Pick, look_up};
use super::steps::Steps;
use super::stream::{Collected, Held, Vector};
use crate::promql::ast::{Expr, ExprKind, Modifiers, Selector, ValueType};
use crate::promql::error::QueryError;
use crate::promql::source::Hints;
use crate::vector::{METRIC_NAME, Merged, StepSeries, is_absent};

/// The labels that say which series belong together.
const IDENTITY: [&str; 2] = ["instance", "job"];

/// The info metric that is meant where none is named.
const TARGET_INFO: &str = "target_info";

/// What is looked for: which info metrics, and which of their labels.
struct Wanted {
    names: Vec<Matcher>,
    labels: Vec<Matcher>,
}

impl Wanted {
    fn of(selector: Option<&Expr>) -> Self {
        let matchers = match selector.map(|expr| &expr.kind) {
            Some(ExprKind::Selector(selector)) => selector.matchers.as_slice(),
            _ => &[],
        };
        let is_name = |matcher: &&Matcher| matcher.name() == METRIC_NAME;
        let mut names: Vec<Matcher> = matchers.iter().filter(is_name).cloned().collect();
        let positive = |m: &Matcher| matches!(m.op(), MatchOp::Equal | MatchOp::Match);
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        } else if !names.iter().any(positive)
            && let Ok(any) = Matcher::new(MatchOp::Match, METRIC_NAME, ".+_info")
        {
            names.push(any);
        }
        let labels = matchers.iter().filter(|m| !is_name(m)).cloned().collect();
        Self { names, labels }
    }

    /// Whether a series is one of the info metrics itself.
    fn is_info(&self, labels: &Labels) -> bool {
        let name = labels.get(METRIC_NAME).unwrap_or("");
        self.names.iter().all(|matcher| matcher.matches(name))
    }

    /// Whether a label is to be added.
    fn takes(&self, label: &str) -> bool {
        label != METRIC_NAME
            && (self.labels.is_empty() || self.labels.iter().any(|m| m.name() == label))
    }
}

type Identity = [String; 2];

fn identity(labels: &Labels) -> Identity {
    IDENTITY.map(|name| labels.get(name).unwrap_or("").to_owned())
}

/// The info series: by whom they are about and by metric, each with the time of its sample at each
/// step.
#[derive(Default)]
struct Infos {
    series: Vec<StepSeries>,
    by_identity: HashMap<Identity, BTreeMap<String, Vec<usize>>>,
}

impl<'q> Evaluation<'q> {
    pub(super) fn info(
        &'q self,
        arguments: &'q [Expr],
        steps: Steps,
    ) -> Result<Vector<'q>, QueryError> {
        let argument = arguments
            .first()
            .ok_or_else(|| unchecked(ValueType::InstantVector))?;
        let wanted = Wanted::of(arguments.get(1));
        let base = self.vector(argument, steps)?.collect(self.budget)?;
        let (base, held) = base.into_parts();
        let modifiers = first_times(argument).unwrap_or_default();
        let mut info_held = Held::new(self.budget);
        let infos = self.infos(&base, &wanted, modifiers, steps, &mut info_held)?;
        let mut out = Merged::with_capacity(base.len());
        for series in base {
            self.budget.check()?;
            if wanted.is_info(&series.labels) {
                out.push(series)?;
            } else {
                infos.enrich(&series, &wanted, &mut out)?;
            }
        }
        let held = held.join(info_held);
        Ok(Collected::new(out.into_series(), false, held).into_vector())
    }

    /// The info series about those of `base`.
    fn infos(
        &'q self,
        base: &[StepSeries],
        wanted: &Wanted,
        modifiers: Modifiers,
        steps: Steps,
        held: &mut Held<'q>,
    ) -> Result<Infos, QueryError> {
        let mut infos = Infos::default();
        let mut matchers = wanted.names.clone();
        matchers.extend(wanted.labels.iter().cloned());
        let mut identified = false;
        for label in IDENTITY {
            let others = base.iter().filter(|series| !wanted.is_info(&series.labels));
            let values: BTreeSet<&str> = others.filter_map(|s| s.labels.get(label)).collect();
            if values.is_empty() {
                continue;
            }
            identified = true;
            let patterns: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            matchers.push(Matcher::new(MatchOp::Match, label, patterns.join("|"))?);
        }
        if !identified {
            return Ok(infos);
        }
        let selector = Selector {
            name: None,
            matchers,
            modifiers: Modifiers {
                extended: None,
                ..modifiers
            },
        };
        let places = self.places(&selector.modifiers, steps);
        let lookback = self.options.lookback_ms.max(1);
        let hints = Hints {
            step_ms: steps.step_ms(),
            range_ms: 0,
            function: Some("info"),
        };
        for raw in self.samples(&selector, places, (lookback, 0), hints)? {
            let mut raw = raw?;
            if raw.histograms.is_some() {
                return Err(QueryError::Execution(format!(
                    "this should be an info metric, with float samples: {}",
                    raw.labels
                )));
            }
            let series = look_up(&mut raw, places, lookback, Pick::Time);
            if series.has_values() {
                held.add(series.values.len())?;
                infos.push(series);
            }
        }
        Ok(infos)
    }
}

impl Infos {
    fn push(&mut self, series: StepSeries) {
        let name = series.labels.get(METRIC_NAME).unwrap_or("").to_owned();
        let by_name = self
            .by_identity
            .entry(identity(&series.labels))
            .or_default();
        by_name.entry(name).or_default().push(self.series.len());
        self.series.push(series);
    }

    /// Adds the series with the labels of its info series to `out`: one series for each of the sets
    /// of labels that it has at some step.
    fn enrich(
        &self,
        series: &StepSeries,
        wanted: &Wanted,
        out: &mut Merged,
    ) -> Result<(), QueryError> {
        let by_name = self.by_identity.get(&identity(&series.labels));
        let drops_others = wanted.labels.iter().any(|matcher| !matcher.matches_empty());
        let mut made: Vec<(Vec<usize>, StepSeries)> = Vec::new();
        let (mut chosen, mut current) = (Vec::new(), usize::MAX);
        for step in 0..series.values.len() {
            if !series.has(step) {
                continue;
            }
            chosen.clear();
            for candidates in by_name.into_iter().flat_map(BTreeMap::values) {
                chosen.extend(self.newest(candidates, step)?);
            }
            if chosen.is_empty() && drops_others {
                continue;
            }
            if made.get(current).is_none_or(|(infos, _)| *infos != chosen) {
                current = match made.iter().position(|(infos, _)| *infos == chosen) {
                    Some(at) => at,
                    None => {
                        let labels = self.labels(&series.labels, &chosen, wanted)?;
                        let new = StepSeries {
                            drop_name: series.drop_name,
                            ..StepSeries::absent(labels, series.values.len())
                        };
                        made.push((chosen.clone(), new));
                        made.len() - 1
                    }
                };
            }
            if let Some((_, new)) = made.get_mut(current) {
                new.copy_step(series, step);
            }
        }
        for (_, new) in made {
            out.push(new)?;
        }
        Ok(())
    }

    /// The info series of one metric whose sample is the newest at a step.
    fn newest(&self, candidates: &[usize], step: usize) -> Result<Option<usize>, QueryError> {
        let mut best: Option<(usize, f64)> = None;
        for at in candidates {
            let Some(info) = self.series.get(*at) else {
                continue;
            };
            let time = info.values.get(step).copied();
            let Some(time) = time.filter(|time| !is_absent(*time)) else {
                continue;
            };
            match best {
                Some((_, other)) if other > time => {}
                Some((other, same)) if same == time => {
                    let existing = self.series.get(other).map(|s| s.labels.to_string());
                    let ms = (time * 1000.0).round() as i64;
                    return Err(QueryError::Execution(format!(
                        "found duplicate series for info metric: existing {} @ {ms}, new {} @ {ms}",
                        existing.unwrap_or_default(),
                        info.labels
                    )));
                }
                _ => best = Some((*at, time)),
            }
        }
        Ok(best.map(|(at, _)| at))
    }

    fn labels(
        &self,
        base: &Labels,
        chosen: &[usize],
        wanted: &Wanted,
    ) -> Result<Labels, QueryError> {
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for info in chosen.iter().filter_map(|at| self.series.get(*at)) {
            for (name, value) in &info.labels {
                if !wanted.takes(name) {
                    continue;
                }
                if added.get(name).is_some_and(|other| *other != value) {
                    let text = format!("conflicting label: {name}");
                    return Err(QueryError::Execution(text));
                }
                if base.get(name).is_none() {
                    added.insert(name, value);
                }
            }
        }
        let labels = added.iter().fold(base.clone(), |labels, (name, value)| {
            labels.with(name, value)
        });
        Ok(labels)
    }
}

/// When the selector that is read first looks, subqueries around it included: the info series
/// share its times.
fn first_times(expr: &Expr) -> Option<Modifiers> {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => None,
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
            Some(selector.modifiers.clone())
        }
        ExprKind::Subquery(subquery) => {
            let (inner, outer) = (first_times(&subquery.expr)?, &subquery.modifiers);
            if inner.at.is_some() {
                return Some(inner);
            }
            let offset = |of: &Modifiers| of.offset_ms.unwrap_or(0);
            Some(Modifiers {
                at: outer.at,
                offset_ms: Some(offset(&inner).saturating_add(offset(outer))),
                ..Modifiers::default()
            })
        }
        ExprKind::Aggregate(aggregate) => first_times(&aggregate.expr),
        ExprKind::Binary(binary) => first_times(&binary.lhs).or_else(|| first_times(&binary.rhs)),
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => first_times(expr),
        ExprKind::Call { arguments, .. } => arguments.iter().find_map(first_times),
    }
}

/// A pattern that only the text matches.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
