//! Line filters. Literals are searched in all lines of a batch at once, not line by line.

use bytes::Bytes;
use memchr::memmem::Finder;
use trine_storage::regex::LineRegex;

use super::ip::IpRange;
use super::pattern::PatternFilter;
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
    Pattern(PatternFilter),
    Ip(IpRange),
}

impl Needle {
    fn is_in(&self, line: &[u8]) -> bool {
        match self {
            Self::Literal(finder) => finder.find(line).is_some(),
            Self::Regex(regex) => regex.is_match(line),
            Self::Pattern(pattern) => pattern.is_match(line),
            Self::Ip(range) => range.is_in(line),
        }
    }

    /// The condition that says the same to a store when no line with it may pass.
    fn excluded(&self) -> Option<source::LineFilter> {
        match self {
            Self::Literal(finder) => Some(source::LineFilter::NotContains(literal(finder))),
            Self::Regex(regex) => Some(source::LineFilter::NotMatches(regex.clone())),
            Self::Pattern(_) | Self::Ip(_) => None,
        }
    }
}

fn literal(finder: &Finder<'_>) -> Bytes {
    Bytes::copy_from_slice(finder.needle())
}

impl LineTest {
    /// Builds the filter.
    ///
    /// # Errors
    /// What is wrong with an expression.
    pub(in crate::logql) fn new(filter: &LineFilter) -> Result<Self, String> {
        let mut needles = Vec::with_capacity(filter.operands.len());
        for operand in &filter.operands {
            needles.push(match (filter.op, operand) {
                (LineOp::Contains | LineOp::NotContains, LineOperand::Ip(range)) => {
                    Needle::Ip(IpRange::parse(range)?)
                }
                (_, LineOperand::Ip(_)) => return Err("ip: invalid operation".to_owned()),
                (LineOp::Pattern | LineOp::NotPattern, LineOperand::Text(text)) => {
                    Needle::Pattern(PatternFilter::new(text)?)
                }
                (LineOp::Contains | LineOp::NotContains, LineOperand::Text(text)) => {
                    Needle::Literal(Box::new(Finder::new(text.as_bytes()).into_owned()))
                }
                (LineOp::Matches | LineOp::NotMatches, LineOperand::Text(text)) => {
                    Needle::Regex(LineRegex::new(text).map_err(|error| error.to_string())?)
                }
            });
        }
        Ok(Self {
            negative: filter.op.is_negative(),
            needles,
        })
    }

    /// Adds to `conditions` what a store may ask of lines first. Whether these say all that this
    /// filter does.
    pub(in crate::logql) fn pushdown(&self, conditions: &mut Vec<source::LineFilter>) -> bool {
        if self.negative {
            let told = conditions.len() + self.needles.len();
            conditions.extend(self.needles.iter().filter_map(Needle::excluded));
            return conditions.len() == told;
        }
        if let [Needle::Pattern(pattern)] = self.needles.as_slice() {
            let contains = |text: &[u8]| source::LineFilter::Contains(Bytes::copy_from_slice(text));
            conditions.extend(pattern.literals().map(contains));
            return false;
        }
        let any = self.any();
        let is_told = any.is_some();
        conditions.extend(any);
        is_told
    }

    /// One condition that holds when one of the needles is in the line.
    fn any(&self) -> Option<source::LineFilter> {
        let (mut literals, mut patterns) = (Vec::new(), Vec::new());
        for needle in &self.needles {
            match needle {
                Needle::Literal(finder) => literals.push(literal(finder)),
                Needle::Regex(regex) => patterns.push(regex),
                Needle::Pattern(_) | Needle::Ip(_) => return None,
            }
        }
        Some(match (literals.len(), patterns.as_slice()) {
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
        })
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
                Needle::Regex(_) | Needle::Pattern(_) | Needle::Ip(_) => None,
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
