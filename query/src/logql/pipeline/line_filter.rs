//! Line filters. Literals are searched in all lines of a batch at once, not line by line.

use bytes::Bytes;
use memchr::memmem::Finder;
use trine_storage::regex::LineRegex;

use crate::logql::ast::{LineFilter, LineOp, LineOperand};
use crate::logql::source::{self, Lines};

/// Above this share of lines still wanted (one in so many), searching all lines at once beats
/// searching the wanted ones one by one.
const WHOLE_BATCH_SHARE: usize = 8;

/// One line filter: a line passes when one of the needles is in it, or, negated, when none is.
#[derive(Debug)]
pub(in crate::logql) struct LineTest {
    negative: bool,
    needles: Vec<Needle>,
}

#[derive(Debug)]
enum Needle {
    Literal(Box<Finder<'static>>),
    Regex(LineRegex),
}

impl Needle {
    fn is_in(&self, line: &[u8]) -> bool {
        match self {
            Self::Literal(finder) => finder.find(line).is_some(),
            Self::Regex(regex) => regex.is_match(line),
        }
    }
}

impl LineTest {
    /// Builds the filter.
    ///
    /// # Errors
    /// What is wrong with an expression, or what is not supported.
    pub(in crate::logql) fn new(filter: &LineFilter) -> Result<Self, LineFilterError> {
        let mut needles = Vec::with_capacity(filter.operands.len());
        for operand in &filter.operands {
            needles.push(match (filter.op, operand) {
                (_, LineOperand::Ip(_)) => {
                    return Err(LineFilterError::Unsupported("ip line filter"));
                }
                (LineOp::Pattern | LineOp::NotPattern, _) => {
                    return Err(LineFilterError::Unsupported("pattern line filter"));
                }
                (LineOp::Contains | LineOp::NotContains, LineOperand::Text(text)) => {
                    Needle::Literal(Box::new(Finder::new(text.as_bytes()).into_owned()))
                }
                (LineOp::Matches | LineOp::NotMatches, LineOperand::Text(text)) => {
                    Needle::Regex(LineRegex::new(text).map_err(LineFilterError::Regex)?)
                }
            });
        }
        Ok(Self {
            negative: filter.op.is_negative(),
            needles,
        })
    }

    /// The conditions that, all of them together, say the same to a store; `None` when none do.
    pub(in crate::logql) fn pushdown(&self) -> Option<Vec<source::LineFilter>> {
        let literal = |finder: &Finder<'_>| Bytes::copy_from_slice(finder.needle());
        if self.negative {
            let each = |needle: &Needle| match needle {
                Needle::Literal(finder) => source::LineFilter::NotContains(literal(finder)),
                Needle::Regex(regex) => source::LineFilter::NotMatches(regex.clone()),
            };
            return Some(self.needles.iter().map(each).collect());
        }
        let (mut literals, mut patterns) = (Vec::new(), Vec::new());
        for needle in &self.needles {
            match needle {
                Needle::Literal(finder) => literals.push(literal(finder)),
                Needle::Regex(regex) => patterns.push(regex),
            }
        }
        let filter = match (literals.len(), patterns.as_slice()) {
            (1, []) => source::LineFilter::Contains(literals.pop()?),
            (_, []) => source::LineFilter::ContainsAny(literals),
            (0, [regex]) => source::LineFilter::Matches((*regex).clone()),
            (0, patterns) => {
                let each = patterns
                    .iter()
                    .map(|regex| format!("(?:{})", regex.pattern()));
                let any = each.collect::<Vec<_>>().join("|");
                source::LineFilter::Matches(LineRegex::new(&any).ok()?)
            }
            _ => return None,
        };
        Some(vec![filter])
    }

    /// Whether one line passes.
    pub(in crate::logql) fn passes(&self, line: &[u8]) -> bool {
        self.needles.iter().any(|needle| needle.is_in(line)) != self.negative
    }

    /// Takes the lines that do not pass out of `selected` (one flag a line).
    pub(in crate::logql) fn select(&self, lines: &Lines, selected: &mut [bool]) {
        let wanted = selected.iter().filter(|wanted| **wanted).count();
        let literals: Option<Vec<&Finder<'_>>> = self
            .needles
            .iter()
            .map(|needle| match needle {
                Needle::Literal(finder) => Some(&**finder),
                Needle::Regex(_) => None,
            })
            .collect();
        match literals {
            Some(literals) if wanted * WHOLE_BATCH_SHARE >= selected.len() => {
                let mut hits = vec![false; selected.len()];
                literals
                    .iter()
                    .for_each(|finder| mark(finder, lines, &mut hits));
                for (wanted, hit) in selected.iter_mut().zip(hits) {
                    *wanted &= hit != self.negative;
                }
            }
            _ => {
                for (row, wanted) in selected.iter_mut().enumerate() {
                    *wanted = *wanted && self.passes(lines.get(row));
                }
            }
        }
    }
}

/// Marks the lines in which `finder` finds its needle, by one search over all lines.
fn mark(finder: &Finder<'_>, lines: &Lines, hits: &mut [bool]) {
    let length = finder.needle().len();
    if length == 0 {
        hits.fill(true);
        return;
    }
    let (blob, ends) = (&*lines.blob, lines.ends.as_slice());
    let (mut from, mut row) = (0, 0);
    while let Some(found) = finder.find(blob.get(from..).unwrap_or_default()) {
        let start = from + found;
        let later = ends.get(row..).unwrap_or_default();
        row += later.partition_point(|end| *end as usize <= start);
        let Some(&end) = ends.get(row) else {
            return;
        };
        // A hit that reaches into the next line is none, and then the line cannot have a later one.
        if start + length <= end as usize
            && let Some(hit) = hits.get_mut(row)
        {
            *hit = true;
        }
        from = end as usize;
        row += 1;
    }
}

/// Why a line filter cannot be built.
#[derive(Debug)]
pub(in crate::logql) enum LineFilterError {
    /// The expression is wrong.
    Regex(trine_storage::Error),
    /// The kind of filter (named) is not supported yet.
    Unsupported(&'static str),
}
