//! Ways to match a label value without running an expression, found in the parsed pattern by
//! [`super::label`].

use memchr::memmem;

use super::syntax::{Assert, Node};

/// Most values that combinations and classes such as `a(b|c)d[0-9]` are expanded to. A plain list
/// of alternatives may be longer.
pub const EXPANSION_MAX: usize = 256;

/// Most bytes of all values of an expansion.
const EXPANSION_BYTES_MAX: usize = 4 << 20;

/// Most alternatives of which each is a fast path of its own, such as `a.*|b.*`.
const BRANCHES_MAX: usize = 32;

/// A test that a value can be put to directly.
#[derive(Debug)]
pub(super) enum Plan {
    /// `.*`
    Everything,
    /// `.+`
    NotEmpty,
    /// One of these, sorted and unique.
    OneOf(Vec<String>),
    /// `literal.*`, or `literal.+` with `more` = 1.
    StartsWith { literal: String, more: usize },
    /// `.*literal`
    EndsWith { literal: String, more: usize },
    /// `.*literal.*`
    Contains {
        literal: Box<memmem::Finder<'static>>,
        before: usize,
        after: usize,
    },
    /// Any of these.
    Any(Vec<Plan>),
}

impl Plan {
    /// A plan for a pattern that is anchored at both ends, if it has one.
    pub(super) fn of(node: &Node) -> Option<Self> {
        let mut sequence = sequence(node);
        // The anchors are there already.
        while let [Node::Assert(Assert::TextStart), rest @ ..] = &*sequence {
            sequence = rest.to_vec();
        }
        while let [rest @ .., Node::Assert(Assert::TextEnd)] = &*sequence {
            sequence = rest.to_vec();
        }
        if let Some(values) = expand_sequence(&sequence) {
            return Some(Self::one_of(values));
        }
        match &*sequence {
            [Node::Alternate(branches)] if branches.len() <= BRANCHES_MAX => branches
                .iter()
                .map(Self::of)
                .collect::<Option<_>>()
                .map(Self::Any),
            [rest] => Some(match wildcard(rest)? {
                0 => Self::Everything,
                _ => Self::NotEmpty,
            }),
            [Node::Literal { text, fold: false }, rest] => Some(Self::StartsWith {
                literal: text.clone(),
                more: wildcard(rest)?,
            }),
            [rest, Node::Literal { text, fold: false }] => Some(Self::EndsWith {
                literal: text.clone(),
                more: wildcard(rest)?,
            }),
            [before, Node::Literal { text, fold: false }, after] => Some(Self::Contains {
                literal: Box::new(memmem::Finder::new(text).into_owned()),
                before: wildcard(before)?,
                after: wildcard(after)?,
            }),
            _ => None,
        }
    }

    fn one_of(mut values: Vec<String>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self::OneOf(values)
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::NotEmpty => !text.is_empty(),
            Self::OneOf(values) => match &**values {
                [one] => one == text,
                many => many
                    .binary_search_by(|value| value.as_str().cmp(text))
                    .is_ok(),
            },
            Self::StartsWith { literal, more } => {
                text.len() >= literal.len() + more && text.starts_with(&**literal)
            }
            Self::EndsWith { literal, more } => {
                text.len() >= literal.len() + more && text.ends_with(&**literal)
            }
            Self::Contains {
                literal,
                before,
                after,
            } => {
                let end = text.len().saturating_sub(*after);
                let middle = text.as_bytes().get(*before..end);
                middle.is_some_and(|middle| literal.find(middle).is_some())
            }
            Self::Any(plans) => plans.iter().any(|plan| plan.is_match(text)),
        }
    }
}

/// The text that every match starts with.
pub(super) fn prefix(node: &Node) -> String {
    let mut prefix = String::new();
    for node in sequence(node) {
        match node {
            Node::Literal { text, fold: false } => prefix.push_str(text),
            Node::Assert(Assert::TextStart) => {}
            _ => break,
        }
    }
    prefix
}

/// The pieces one after the other that the pattern consists of, without parentheses around them.
fn sequence(node: &Node) -> Vec<&Node> {
    match node {
        Node::Empty => Vec::new(),
        Node::Group { node, .. } => sequence(node),
        Node::Concat(nodes) => nodes.iter().flat_map(sequence).collect(),
        node => vec![node],
    }
}

/// The least number of bytes that `.*` or `.+` takes, `None` for anything else.
fn wildcard(node: &Node) -> Option<usize> {
    match node {
        Node::Repeat {
            node,
            min: min @ (0 | 1),
            max: None,
            ..
        } => match **node {
            Node::Any { newline: true } => Some(usize::from(*min == 1)),
            _ => None,
        },
        _ => None,
    }
}

/// All texts that the node matches, when they are few.
fn expand(node: &Node) -> Option<Vec<String>> {
    match node {
        Node::Empty => Some(vec![String::new()]),
        Node::Literal { text, fold: false } => Some(vec![text.clone()]),
        Node::Class(class) => {
            let characters = class.characters(EXPANSION_MAX)?;
            Some(characters.into_iter().map(String::from).collect())
        }
        Node::Group { node, .. } => expand(node),
        Node::Concat(nodes) => expand_sequence(&nodes.iter().collect::<Vec<_>>()),
        Node::Alternate(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.append(&mut expand(branch)?);
            }
            Some(all)
        }
        Node::Repeat {
            node,
            min,
            max: Some(max),
            ..
        } if *max <= 8 => {
            let one = expand(node)?;
            let mut all = Vec::new();
            let mut power = vec![String::new()];
            for count in 0..=*max {
                if count > 0 {
                    power = product(&power, &one)?;
                }
                if count >= *min {
                    all.extend_from_slice(&power);
                }
            }
            (all.len() <= EXPANSION_MAX).then_some(all)
        }
        Node::Literal { fold: true, .. }
        | Node::Any { .. }
        | Node::Assert(_)
        | Node::Repeat { .. } => None,
    }
}

fn expand_sequence(nodes: &[&Node]) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    for node in nodes {
        all = product(&all, &expand(node)?)?;
    }
    Some(all)
}

/// Each of `left` followed by each of `right`.
fn product(left: &[String], right: &[String]) -> Option<Vec<String>> {
    let count = left.len().saturating_mul(right.len());
    if left.len() > 1 && right.len() > 1 && count > EXPANSION_MAX {
        return None;
    }
    let bytes = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    let total = bytes(left).saturating_mul(right.len()) + bytes(right).saturating_mul(left.len());
    if total > EXPANSION_BYTES_MAX {
        return None;
    }
    let both = |l: &String| right.iter().map(|r| format!("{l}{r}")).collect::<Vec<_>>();
    Some(left.iter().flat_map(both).collect())
}
