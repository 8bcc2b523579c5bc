//! Line filters over a whole blob of lines at once, not line by line. Scans and deletes call it.

use std::ops::{Range, RangeInclusive};

use aho_corasick::{AhoCorasick, MatchKind};
use bytes::Bytes;
use memchr::memmem::Finder;
use trine_storage::regex::{LineRegex, Required};
use trine_storage::{Error, Kind, Result};

use crate::index::Needles;
use crate::index::token::is_token_byte;
use crate::request::LineFilter;

/// Shorter parts of literals are not worth a search of their own.
const PART_BYTES_MIN: usize = 3;
/// Numbers of so many digits are worth a search of their own, and fit 64 bits.
const NUMBER_DIGITS: RangeInclusive<usize> = 3..=19;

/// Lines in one piece.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Text<'a> {
    pub(crate) blob: &'a [u8],
    /// Where each line ends in `blob`.
    pub(crate) ends: &'a [u32],
}

impl<'a> Text<'a> {
    /// Where the line of `row` lies in the blob.
    pub(crate) fn range(&self, row: usize) -> Range<usize> {
        let end = self.ends.get(row).copied().unwrap_or(0) as usize;
        let start = row
            .checked_sub(1)
            .and_then(|before| self.ends.get(before).copied());
        start.unwrap_or(0) as usize..end
    }

    /// The line of `row`; empty when there is none.
    pub(crate) fn line(&self, row: usize) -> &'a [u8] {
        self.blob.get(self.range(row)).unwrap_or_default()
    }
}

/// Filters that are ready to run, the cheapest first. A clone is for another thread.
#[derive(Debug, Clone)]
pub(crate) struct Filters {
    tests: Vec<Test>,
}

/// One filter that is ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Test {
    needle: Needle,
    keep: Keep,
    literals: Vec<Bytes>,
    parts: Option<Parts>,
    number: Option<Number>,
}

/// A number that every line that passes has, unless it has another text.
#[derive(Debug, Clone)]
pub(crate) struct Number {
    /// Its digits; no digit stands next to them, and they are no part of an id.
    pub(crate) digits: Vec<u8>,
    /// The other text, as far as it has no digits.
    pub(crate) or: Option<Vec<u8>>,
    /// Either of them.
    needle: Needle,
}

/// Texts without digits, one of which every line that passes has.
#[derive(Debug, Clone)]
struct Parts {
    needle: Needle,
    /// In every letter case that matters.
    texts: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Needle {
    Literal(Box<Finder<'static>>),
    Any(AhoCorasick),
    Whole(Box<Whole>),
    Regex(Box<RegexNeedle>),
    /// In every line.
    Everywhere,
    /// In no line.
    Nowhere,
}

/// A literal that stands alone, or another.
#[derive(Debug, Clone)]
struct Whole {
    text: Finder<'static>,
    /// The same wherever it stands.
    anywhere: Needle,
    or: Option<Needle>,
}

/// An expression, and what every match of it contains, which is searched first.
#[derive(Debug, Clone)]
struct RegexNeedle {
    regex: LineRegex,
    required: Option<Needle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    WithHit,
    WithoutHit,
}

impl Test {
    fn new(filter: &LineFilter) -> Result<Self> {
        let (needle, keep) = match filter {
            LineFilter::Contains(literal) => (Needle::literal(literal), Keep::WithHit),
            LineFilter::NotContains(literal) => (Needle::literal(literal), Keep::WithoutHit),
            LineFilter::ContainsAny(literals) => (Needle::any(literals)?, Keep::WithHit),
            LineFilter::ContainsWhole { text, or } => {
                (Needle::whole(text, or.as_ref()), Keep::WithHit)
            }
            LineFilter::Matches(regex) => (Needle::regex(regex), Keep::WithHit),
            LineFilter::NotMatches(regex) => (Needle::regex(regex), Keep::WithoutHit),
        };
        let literals = match filter {
            LineFilter::Contains(literal) | LineFilter::NotContains(literal) => {
                vec![literal.clone()]
            }
            LineFilter::ContainsAny(literals) => literals.clone(),
            LineFilter::ContainsWhole { .. }
            | LineFilter::Matches(_)
            | LineFilter::NotMatches(_) => Vec::new(),
        };
        let parts = match filter {
            LineFilter::Contains(literal) => part_of(literal, false).map(|part| vec![part]),
            LineFilter::ContainsAny(literals) => {
                let parts = literals.iter().map(|literal| part_of(literal, false));
                parts.collect()
            }
            LineFilter::ContainsWhole { text, or } => {
                let parts = [text].into_iter().chain(or);
                parts.map(|literal| part_of(literal, false)).collect()
            }
            LineFilter::Matches(regex) => {
                let fold = is_folded(regex.required());
                texts_of(regex.required(), &|text| part_of(text.as_bytes(), fold))
            }
            LineFilter::NotContains(_) | LineFilter::NotMatches(_) => None,
        };
        let fold = match filter {
            LineFilter::Matches(regex) => is_folded(regex.required()),
            _ => false,
        };
        let number = match (filter, &needle) {
            (LineFilter::Contains(literal), _) => Number::new(number_of(literal, false), None),
            (LineFilter::ContainsWhole { text, or }, _) => {
                Number::new(number_of(text, true), or.as_deref())
            }
            (LineFilter::Matches(_), Needle::Regex(needle)) => match &needle.required {
                Some(Needle::Literal(required)) => {
                    Number::new(number_of(required.needle(), false), None)
                }
                _ => None,
            },
            _ => None,
        };
        Ok(Self {
            number,
            parts: parts.and_then(|parts| Parts::new(&parts, fold)),
            needle,
            keep,
            literals,
        })
    }

    fn lets_all_through(&self) -> bool {
        matches!(
            (&self.needle, self.keep),
            (Needle::Everywhere, Keep::WithHit) | (Needle::Nowhere, Keep::WithoutHit)
        )
    }

    /// The literals, one of which a line must or must not have; empty for other filters.
    pub(crate) fn literals(&self) -> &[Bytes] {
        &self.literals
    }

    /// The one literal that lines must have, or, if not `true`, must not have.
    pub(crate) fn literal(&self) -> Option<(&Finder<'static>, bool)> {
        match &self.needle {
            Needle::Literal(finder) => Some((finder, self.keep == Keep::WithHit)),
            _ => None,
        }
    }

    /// Texts without digits, one of which every line that passes has, in every letter case that
    /// matters; empty when none are known.
    pub(crate) fn parts(&self) -> &[Vec<u8>] {
        self.parts.as_ref().map_or(&[], |parts| &parts.texts)
    }

    /// Keeps those of `rows` (ascending) whose lines have one of [`Test::parts`].
    pub(crate) fn retain_parts(&self, text: Text<'_>, rows: &mut Vec<u32>) {
        if let Some(parts) = &self.parts {
            parts.needle.retain(Keep::WithHit, text, rows);
        }
    }

    /// A number by which lines can be found that may pass.
    pub(crate) fn number(&self) -> Option<&Number> {
        self.number.as_ref()
    }

    /// Keeps those of `rows` that pass when no line has any of the literals.
    pub(crate) fn retain_nowhere(&self, rows: &mut Vec<u32>) {
        if self.keep == Keep::WithHit {
            rows.clear();
        }
    }

    /// Tests that cost little and leave few lines run first.
    fn cost(&self) -> (u8, usize) {
        let (class, length) = match &self.needle {
            Needle::Everywhere | Needle::Nowhere => (0, 0),
            Needle::Literal(finder) => (1, finder.needle().len()),
            Needle::Any(any) => (2, any.min_pattern_len()),
            Needle::Whole(whole) => (2, whole.text.needle().len()),
            Needle::Regex(_) => (3, 0),
        };
        let negative = u8::from(self.keep == Keep::WithoutHit);
        (2 * class + negative, usize::MAX - length)
    }

    /// Keeps those of `rows` (ascending) that pass.
    pub(crate) fn retain(&self, text: Text<'_>, rows: &mut Vec<u32>) {
        self.needle.retain(self.keep, text, rows);
    }
}

impl Needle {
    fn retain(&self, keep: Keep, text: Text<'_>, rows: &mut Vec<u32>) {
        match self {
            Self::Everywhere if keep == Keep::WithHit => {}
            Self::Nowhere if keep == Keep::WithoutHit => {}
            Self::Everywhere | Self::Nowhere => rows.clear(),
            Self::Literal(finder) => {
                let length = finder.needle().len();
                let find = |within: Range<usize>| {
                    let start = within.start + finder.find(text.blob.get(within)?)?;
                    Some(start..start + length)
                };
                self.search(keep, text, rows, find);
            }
            Self::Any(any) => {
                let find = |within: Range<usize>| {
                    let start = within.start;
                    let found = any.find(text.blob.get(within)?)?;
                    Some(start + found.start()..start + found.end())
                };
                self.search(keep, text, rows, find);
            }
            Self::Whole(whole) => whole.retain(text, rows),
            Self::Regex(needle) => {
                let regex = &needle.regex;
                if let Some(required) = needle.required.as_ref().filter(|_| keep == Keep::WithHit) {
                    required.retain(Keep::WithHit, text, rows);
                }
                let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else {
                    return;
                };
                let start = text.range(first as usize).start;
                let wanted = text.blob.get(start..text.range(last as usize).end);
                match regex.searcher(wanted.unwrap_or_default()) {
                    Some(find) => self.search(keep, text, rows, |within| {
                        let found = find(within.start - start..within.end - start)?;
                        Some(found.start + start..found.end + start)
                    }),
                    None => rows.retain(|&row| {
                        regex.is_match(text.line(row as usize)) == (keep == Keep::WithHit)
                    }),
                }
            }
        }
    }

    /// Searches the lines of neighbouring rows as one piece of text. `find` gives the leftmost hit
    /// within a part of the blob.
    fn search(
        &self,
        keep: Keep,
        text: Text<'_>,
        rows: &mut Vec<u32>,
        find: impl Fn(Range<usize>) -> Option<Range<usize>>,
    ) {
        let mut kept = Vec::with_capacity(rows.len());
        for neighbours in rows.chunk_by(|a, b| a + 1 == *b) {
            let (Some(&first), Some(&last)) = (neighbours.first(), neighbours.last()) else {
                continue;
            };
            let mut row = first;
            let mut at = text.range(first as usize).start;
            let end = text.range(last as usize).end;
            while row <= last
                && let Some(found) = find(at..end)
            {
                // The line in which the hit begins: the lines before it have none.
                let ends = text.ends.get(row as usize..=last as usize);
                let skipped = ends
                    .unwrap_or_default()
                    .partition_point(|&end| (end as usize) <= found.start);
                let hit = row + u32::try_from(skipped).unwrap_or(u32::MAX);
                if hit > last {
                    break;
                }
                let line_end = text.range(hit as usize).end;
                // What reaches over the end of the line is none, but may hide another.
                let is_in = found.end <= line_end || self.is_in(text.line(hit as usize));
                if keep == Keep::WithoutHit {
                    kept.extend(row..hit);
                }
                if is_in == (keep == Keep::WithHit) {
                    kept.push(hit);
                }
                row = hit + 1;
                at = line_end;
            }
            if keep == Keep::WithoutHit {
                kept.extend(row..=last);
            }
        }
        *rows = kept;
    }

    fn literal(literal: &[u8]) -> Self {
        if literal.is_empty() {
            return Self::Everywhere;
        }
        Self::Literal(Box::new(Finder::new(literal).into_owned()))
    }

    fn any(literals: &[Bytes]) -> Result<Self> {
        match literals {
            [] => Ok(Self::Nowhere),
            [literal] => Ok(Self::literal(literal)),
            _ if literals.iter().any(Bytes::is_empty) => Ok(Self::Everywhere),
            _ => AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostFirst)
                .build(literals)
                .map(Self::Any)
                .map_err(|error| {
                    let count = literals.len();
                    Error::new(
                        Kind::Limit,
                        format!("the {count} alternatives of a line filter are too large: {error}"),
                    )
                }),
        }
    }

    fn regex(regex: &LineRegex) -> Self {
        // What matches nothing at all, whatever is around it, matches in every line.
        let is_everywhere = regex.searcher(&[]).is_some_and(|find| find(0..0).is_some());
        if is_everywhere {
            return Self::Everywhere;
        }
        let texts = (!is_folded(regex.required()))
            .then(|| texts_of(regex.required(), &|text| required_of(text)))
            .flatten();
        let required = texts.and_then(|texts| {
            let texts: Vec<Bytes> = texts.into_iter().map(Bytes::copy_from_slice).collect();
            Self::any(&texts).ok()
        });
        Self::Regex(Box::new(RegexNeedle {
            regex: regex.clone(),
            required,
        }))
    }

    fn whole(text: &[u8], or: Option<&Bytes>) -> Self {
        Self::Whole(Box::new(Whole {
            text: Finder::new(text).into_owned(),
            anywhere: Self::literal(text),
            or: or.map(|or| Self::literal(or)),
        }))
    }

    fn is_in(&self, line: &[u8]) -> bool {
        match self {
            Self::Literal(finder) => finder.find(line).is_some(),
            Self::Any(any) => any.is_match(line),
            Self::Whole(whole) => whole.is_in(line),
            Self::Regex(needle) => needle.regex.is_match(line),
            Self::Everywhere => true,
            Self::Nowhere => false,
        }
    }
}

impl Whole {
    fn is_in(&self, line: &[u8]) -> bool {
        self.is_alone_in(line) || self.or.as_ref().is_some_and(|or| or.is_in(line))
    }

    fn is_alone_in(&self, line: &[u8]) -> bool {
        let of_word = |byte: Option<&u8>| byte.copied().is_some_and(is_token_byte);
        let length = self.text.needle().len();
        let mut from = 0;
        while let Some(found) = line.get(from..).and_then(|rest| self.text.find(rest)) {
            let at = from + found;
            let before = at.checked_sub(1).and_then(|before| line.get(before));
            if !of_word(before) && !of_word(line.get(at + length)) {
                return true;
            }
            from = at + 1;
        }
        false
    }

    /// Keeps those of `rows` (ascending) whose lines have one of the two.
    fn retain(&self, text: Text<'_>, rows: &mut Vec<u32>) {
        let mut alone = rows.clone();
        self.anywhere.retain(Keep::WithHit, text, &mut alone);
        alone.retain(|&row| self.is_alone_in(text.line(row as usize)));
        match &self.or {
            None => *rows = alone,
            Some(or) => {
                or.retain(Keep::WithHit, text, rows);
                rows.extend(alone);
                rows.sort_unstable();
                rows.dedup();
            }
        }
    }
}

impl Number {
    fn new(digits: Option<&[u8]>, or: Option<&[u8]>) -> Option<Self> {
        let digits = digits?;
        let or = match or {
            Some(or) => {
                let parts = or.split(u8::is_ascii_digit);
                let longest = parts.max_by_key(|part| part.len())?;
                Some(longest)
                    .filter(|part| !part.is_empty())?
                    .to_vec()
                    .into()
            }
            None => None,
        };
        let texts = [digits].into_iter().chain(or.as_deref());
        let texts: Vec<Bytes> = texts.map(Bytes::copy_from_slice).collect();
        Some(Self {
            digits: digits.to_vec(),
            needle: Needle::any(&texts).ok()?,
            or,
        })
    }

    /// Keeps those of `rows` (ascending) in whose text it is.
    pub(crate) fn retain(&self, text: Text<'_>, rows: &mut Vec<u32>) {
        self.needle.retain(Keep::WithHit, text, rows);
    }
}

impl Parts {
    fn new(parts: &[&[u8]], fold: bool) -> Option<Self> {
        let needle = match (parts, fold) {
            ([part], false) => Needle::Literal(Box::new(Finder::new(part).into_owned())),
            _ => Needle::Any(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostFirst)
                    .ascii_case_insensitive(fold)
                    .build(parts)
                    .ok()?,
            ),
        };
        let mut texts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        if fold {
            texts.extend(parts.iter().map(|part| part.to_ascii_uppercase()));
            texts.extend(parts.iter().map(|part| part.to_ascii_lowercase()));
        }
        Some(Self { needle, texts })
    }
}

/// The longest number of a literal that no digit can stand next to and that is no part of an id; no
/// letter or digit stands next to the literal itself if `whole`.
fn number_of(literal: &[u8], whole: bool) -> Option<&[u8]> {
    let mut longest: Option<&[u8]> = None;
    let mut start = 0;
    for token in literal.chunk_by(|a, b| is_token_byte(*a) && is_token_byte(*b)) {
        // Ids have no other letters.
        let is_word = token
            .iter()
            .any(|byte| matches!(byte.to_ascii_lowercase(), b'g'..=b'z'));
        for run in token.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
            let end = start + run.len();
            let is_closed = whole || (start > 0 && end < literal.len());
            let is_number = run.first().is_some_and(u8::is_ascii_digit);
            if is_word
                && is_number
                && is_closed
                && NUMBER_DIGITS.contains(&run.len())
                && longest.is_none_or(|longest| longest.len() < run.len())
            {
                longest = Some(run);
            }
            start = end;
        }
    }
    longest
}

/// The longest part of a literal without digits. With `fold` also without letters that are not
/// ASCII or have a form that is not: then case is a matter of ASCII.
fn part_of(literal: &[u8], fold: bool) -> Option<&[u8]> {
    let ends = |byte: &u8| {
        byte.is_ascii_digit()
            || fold && (!byte.is_ascii() || matches!(byte, b'k' | b'K' | b's' | b'S'))
    };
    let longest = literal.split(ends).max_by_key(|part| part.len());
    longest.filter(|part| part.len() >= PART_BYTES_MIN)
}

/// A required text that is worth a search.
fn required_of(text: &str) -> Option<&[u8]> {
    Some(text.as_bytes()).filter(|text| text.len() >= PART_BYTES_MIN)
}

/// Texts, one of which every match of an expression has, made of what it requires by `of`.
fn texts_of<'a>(
    required: &'a Required,
    of: &dyn Fn(&'a str) -> Option<&'a [u8]>,
) -> Option<Vec<&'a [u8]>> {
    match required {
        Required::Nothing => None,
        Required::Literal { text, .. } => of(text).map(|part| vec![part]),
        Required::All(all) => {
            let each = all.iter().filter_map(|part| texts_of(part, of));
            // One text is found much faster than one of several.
            each.max_by_key(|texts| {
                let shortest = texts.iter().map(|text| text.len()).min();
                (texts.len() == 1, shortest)
            })
        }
        Required::Any(any) => {
            let each = any.iter().map(|part| texts_of(part, of));
            let mut texts = each.collect::<Option<Vec<_>>>()?.concat();
            texts.sort_unstable();
            texts.dedup();
            Some(texts)
        }
    }
}

/// Whether letter case does not matter somewhere.
fn is_folded(required: &Required) -> bool {
    match required {
        Required::Nothing => false,
        Required::Literal { fold, .. } => *fold,
        Required::All(parts) | Required::Any(parts) => parts.iter().any(is_folded),
    }
}

/// What a line must have in it to pass all filters, for the token index.
pub(crate) fn needles(filters: &[LineFilter]) -> Needles {
    let needles = filters.iter().map(|filter| match filter {
        LineFilter::Contains(literal) => Needles::literal(literal, false),
        LineFilter::ContainsAny(literals) => {
            let each = literals.iter();
            Needles::any(
                each.map(|literal| Needles::literal(literal, false))
                    .collect(),
            )
        }
        LineFilter::ContainsWhole { text, or } => {
            let or = or.iter().map(|or| Needles::literal(or, false));
            Needles::any(std::iter::once(Needles::whole(text)).chain(or).collect())
        }
        LineFilter::Matches(regex) => Needles::required(regex.required()),
        LineFilter::NotContains(_) | LineFilter::NotMatches(_) => Needles::Anything,
    });
    Needles::all(needles.collect())
}

impl Filters {
    /// # Errors
    /// [`Kind::Limit`] for alternatives that are too large to be searched at once.
    pub(crate) fn new(filters: &[LineFilter]) -> Result<Self> {
        let mut tests = filters.iter().map(Test::new).collect::<Result<Vec<_>>>()?;
        tests.retain(|test| !test.lets_all_through());
        tests.sort_by_key(Test::cost);
        Ok(Self { tests })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// Each filter.
    pub(crate) fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// Keeps those of `rows` (ascending) whose lines satisfy every filter.
    pub(crate) fn retain(&self, text: Text<'_>, rows: &mut Vec<u32>) {
        for test in &self.tests {
            if rows.is_empty() {
                return;
            }
            test.retain(text, rows);
        }
    }
}

#[cfg(test)]
mod tests;
