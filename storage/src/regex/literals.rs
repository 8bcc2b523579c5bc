//! Text that every match of an expression contains, found in the parsed pattern by
//! [`super::line`]. What is found may be less than what is required, never more.

use super::syntax::{Class, Node};

/// Most literals of one expression; of what has more, some are left out.
pub const REQUIRED_LITERALS_MAX: usize = 256;

/// Most bytes of all literals of one expression.
pub const REQUIRED_BYTES_MAX: usize = 64 << 10;

/// Most texts that combinations such as `a(b|c)[de]` are expanded to, so that their parts stay
/// together.
const EXPANSION_MAX: usize = 16;

/// Most characters of a class that is taken for a list of texts.
const CLASS_MAX: usize = 4;

/// Most repetitions that are written out.
const COPIES_MAX: u32 = 8;

/// What a text must contain for an expression to match it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Required {
    /// Nothing that is known.
    Nothing,
    /// This text, letter case ignored when `fold`.
    Literal {
        /// Not empty.
        text: String,
        /// Whether letter case is ignored, by Unicode's simple folding.
        fold: bool,
    },
    /// All of these.
    All(Vec<Required>),
    /// At least one of these.
    Any(Vec<Required>),
}

/// One of the texts that a piece of a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    text: String,
    fold: bool,
}

/// What is known of the texts that a piece of a pattern matches.
enum Known {
    /// It is one of these.
    OneOf(Vec<Text>),
    /// It contains this.
    Contains(Required),
}

/// What every match of `node` contains.
pub(super) fn required(node: &Node) -> Required {
    let mut required = known(node).required();
    let mut budget = Budget {
        literals: REQUIRED_LITERALS_MAX,
        bytes: REQUIRED_BYTES_MAX,
    };
    budget.cut(&mut required);
    required
}

impl Known {
    fn required(self) -> Required {
        match self {
            Self::Contains(required) => required,
            // One of several characters is in nearly every text.
            Self::OneOf(texts) if texts.len() > 1 && texts.iter().any(Text::is_short) => {
                Required::Nothing
            }
            Self::OneOf(texts) => {
                let literal = |Text { text, fold }| match &*text {
                    "" => Required::Nothing,
                    _ => Required::Literal { text, fold },
                };
                any(texts.into_iter().map(literal).collect())
            }
        }
    }
}

fn known(node: &Node) -> Known {
    match node {
        Node::Empty | Node::Assert(_) => Known::OneOf(vec![Text::empty()]),
        Node::Literal { text, fold } => literal(text, *fold),
        Node::Class(class) => one_of_class(class),
        Node::Any { .. } => Known::Contains(Required::Nothing),
        Node::Concat(nodes) => concat(nodes.iter().map(known)),
        Node::Alternate(branches) => alternate(branches.iter().map(known).collect()),
        Node::Group { node, .. } => known(node),
        Node::Repeat { min: 0, .. } => Known::Contains(Required::Nothing),
        Node::Repeat { node, min, max, .. } => {
            let one = known(node);
            let copies = match (&one, max) {
                (Known::OneOf(texts), Some(max)) if min == max && *min <= COPIES_MAX => {
                    let first = Some(vec![Text::empty()]);
                    (0..*min).fold(first, |before, _| product(&before?, texts))
                }
                _ => None,
            };
            copies.map_or_else(|| Known::Contains(one.required()), Known::OneOf)
        }
    }
}

/// U+FFFD stands for bytes that are not UTF-8 too, so a literal is known without it only.
fn literal(text: &str, fold: bool) -> Known {
    if !text.contains(char::REPLACEMENT_CHARACTER) {
        let text = text.to_owned();
        return Known::OneOf(vec![Text { text, fold }]);
    }
    let parts = text.split(char::REPLACEMENT_CHARACTER);
    let parts = parts.filter(|part| !part.is_empty()).map(|part| {
        let text = part.to_owned();
        Required::Literal { text, fold }
    });
    Known::Contains(all(parts.collect()))
}

fn one_of_class(class: &Class) -> Known {
    let characters = class.characters(CLASS_MAX).unwrap_or_default();
    if characters.is_empty() || characters.contains(&char::REPLACEMENT_CHARACTER) {
        return Known::Contains(Required::Nothing);
    }
    let text = |c: char| Text {
        text: c.into(),
        fold: false,
    };
    Known::OneOf(characters.into_iter().map(text).collect())
}

/// Pieces one after the other. Neighbours stay together as long as they are few texts.
fn concat(pieces: impl Iterator<Item = Known>) -> Known {
    let mut parts = Vec::new();
    let mut run = vec![Text::empty()];
    let mut whole = true;
    for piece in pieces {
        let texts = match piece {
            Known::OneOf(texts) => match product(&run, &texts) {
                Some(both) => {
                    run = both;
                    continue;
                }
                None => texts,
            },
            Known::Contains(required) => {
                parts.push(
                    Known::OneOf(std::mem::replace(&mut run, vec![Text::empty()])).required(),
                );
                parts.push(required);
                whole = false;
                continue;
            }
        };
        parts.push(Known::OneOf(std::mem::replace(&mut run, texts)).required());
        whole = false;
    }
    if whole {
        return Known::OneOf(run);
    }
    parts.push(Known::OneOf(run).required());
    Known::Contains(all(parts))
}

fn alternate(branches: Vec<Known>) -> Known {
    let few = |known: &Known| matches!(known, Known::OneOf(_));
    if branches.iter().all(few) {
        let texts = branches.into_iter().flat_map(|known| match known {
            Known::OneOf(texts) => texts,
            Known::Contains(_) => Vec::new(),
        });
        return Known::OneOf(texts.collect());
    }
    Known::Contains(any(branches.into_iter().map(Known::required).collect()))
}

/// Each of `left` followed by each of `right`, unless they are too many or too long.
fn product(left: &[Text], right: &[Text]) -> Option<Vec<Text>> {
    let bytes = |texts: &[Text]| texts.iter().map(|text| text.text.len()).max().unwrap_or(0);
    let most = if left.len() == 1 || right.len() == 1 {
        REQUIRED_LITERALS_MAX
    } else {
        EXPANSION_MAX
    };
    let count = left.len() * right.len();
    // A literal beside a list is worth copying into it only while the list is short.
    if count > most || (bytes(left) + bytes(right)).saturating_mul(count) > REQUIRED_BYTES_MAX {
        return None;
    }
    let mut both = Vec::with_capacity(count);
    for left in left {
        for right in right {
            both.push(Text {
                text: format!("{}{}", left.text, right.text),
                fold: left.fold || right.fold,
            });
        }
    }
    Some(both)
}

impl Text {
    fn empty() -> Self {
        Self {
            text: String::new(),
            fold: false,
        }
    }

    fn is_short(&self) -> bool {
        self.text.chars().nth(1).is_none()
    }
}

fn all(parts: Vec<Required>) -> Required {
    let mut kept = Vec::new();
    for part in parts {
        match part {
            Required::Nothing => {}
            Required::All(parts) => kept.extend(parts),
            part => kept.push(part),
        }
    }
    match kept.len() {
        0 => Required::Nothing,
        1 => kept.remove(0),
        _ => Required::All(kept),
    }
}

fn any(parts: Vec<Required>) -> Required {
    let mut kept: Vec<Required> = Vec::new();
    for part in parts {
        match part {
            Required::Nothing => return Required::Nothing,
            Required::Any(parts) => kept.extend(parts),
            part => kept.push(part),
        }
    }
    match kept.len() {
        0 => Required::Nothing,
        1 => kept.remove(0),
        _ => Required::Any(kept),
    }
}

/// What is left of the bounds on the whole.
struct Budget {
    literals: usize,
    bytes: usize,
}

impl Budget {
    /// Leaves out what exceeds the bounds; an alternative without one of its branches is nothing.
    fn cut(&mut self, required: &mut Required) {
        match required {
            Required::Nothing => {}
            Required::Literal { text, .. } => {
                if self.literals == 0 || text.len() > self.bytes {
                    *required = Required::Nothing;
                } else {
                    self.literals -= 1;
                    self.bytes -= text.len();
                }
            }
            Required::All(parts) => {
                parts.iter_mut().for_each(|part| self.cut(part));
                *required = all(std::mem::take(parts));
            }
            Required::Any(parts) => {
                parts.iter_mut().for_each(|part| self.cut(part));
                *required = any(std::mem::take(parts));
            }
        }
    }
}

#[cfg(test)]
mod tests;
