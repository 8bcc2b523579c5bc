//! Which series of two vectors belong together: `on`, `ignoring`, `group_left`, `group_right`.

use std::collections::HashMap;

use trine_storage::Labels;

use super::{StepSeries, is_metadata_label};

/// The labels by which two vectors are matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MatchLabels {
    /// Only these.
    On(Vec<String>),
    /// All but these and the metric's name, type and unit.
    Ignoring(Vec<String>),
}

impl MatchLabels {
    /// The part of `labels` that takes part in matching.
    #[must_use]
    pub fn signature(&self, labels: &Labels) -> Labels {
        match self {
            Self::On(names) => labels.filter(|name| names.iter().any(|n| n == name)),
            Self::Ignoring(names) => {
                labels.filter(|name| !is_metadata_label(name) && !names.iter().any(|n| n == name))
            }
        }
    }

    /// The names that were written.
    pub fn names(&self) -> &[String] {
        match self {
            Self::On(names) | Self::Ignoring(names) => names,
        }
    }
}

/// How many series of each side may match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// One on each side.
    OneToOne,
    /// `group_left`: many on the left.
    ManyToOne,
    /// `group_right`: many on the right.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the series of two vectors are matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Matching {
    /// How many series of each side may match.
    pub cardinality: Cardinality,
    /// The labels that must be equal.
    pub labels: MatchLabels,
    /// Labels that the "many" side takes over from the "one" side.
    pub include: Vec<String>,
    /// Values that stand in for series that one side lacks.
    pub fill: Fill,
}

/// Values that stand in for what one side lacks where the other has a value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fill {
    /// `fill_left`
    pub left: Option<f64>,
    /// `fill_right`
    pub right: Option<f64>,
}

impl Fill {
    fn bits(self) -> (Option<u64>, Option<u64>) {
        (self.left.map(f64::to_bits), self.right.map(f64::to_bits))
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self.left.is_none() && self.right.is_none()
    }
}

/// By bits, so that NaN equals itself.
impl PartialEq for Fill {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}

impl Eq for Fill {}

impl std::hash::Hash for Fill {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bits().hash(state);
    }
}

impl Default for Matching {
    /// One to one, by all labels.
    fn default() -> Self {
        Self {
            cardinality: Cardinality::OneToOne,
            labels: MatchLabels::Ignoring(Vec::new()),
            include: Vec::new(),
            fill: Fill::default(),
        }
    }
}

/// The series of both sides that have one signature.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) signature: Labels,
    pub(super) left: Vec<&'a StepSeries>,
    pub(super) right: Vec<&'a StepSeries>,
}

/// Groups two vectors by signature, in the order in which the signatures first appear.
pub(super) fn group<'a>(
    matching: &MatchLabels,
    left: &'a [StepSeries],
    right: &'a [StepSeries],
) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::with_capacity(left.len());
    let mut by_signature: HashMap<Labels, usize> = HashMap::with_capacity(left.len());
    let mut place = |groups: &mut Vec<Group<'a>>, labels: &Labels| {
        let signature = matching.signature(labels);
        let next = groups.len();
        let at = *by_signature.entry(signature.clone()).or_insert(next);
        if at == next {
            groups.push(Group {
                signature,
                left: Vec::new(),
                right: Vec::new(),
            });
        }
        at
    };
    for series in left {
        let at = place(&mut groups, &series.labels);
        groups[at].left.push(series);
    }
    for series in right {
        let at = place(&mut groups, &series.labels);
        groups[at].right.push(series);
    }
    groups
}
