//! Selection by matchers: `FrozenIndex::select`.

use roaring::RoaringBitmap;

use super::postings::every_place;
use super::{FrozenIndex, Name};
use crate::error::Result;
use crate::matcher::{MatchOp, Matcher};
use crate::regex::LabelRegex;

/// What it costs to run an expression over a value, in ids of postings.
const VALUE_COST: u64 = 32;

/// What a matcher demands, as references to postings.
enum Demand {
    Everything,
    Only(Vec<u32>),
    AllBut(Vec<u32>),
}

impl FrozenIndex {
    /// The places whose labels satisfy all matchers; without matchers, all places.
    ///
    /// Matchers that look up values come first. What they leave may be so little that the labels of
    /// these places are read and put to the others, rather than postings united.
    pub fn select(&self, matchers: &[Matcher]) -> Result<RoaringBitmap> {
        let mut steps = Vec::with_capacity(matchers.len());
        for matcher in matchers {
            let found = self.look_up(matcher)?;
            let cost = match &found {
                Some(references) => self.cost(references)?,
                None => u64::MAX,
            };
            if cost == 0 {
                return Ok(RoaringBitmap::new());
            }
            steps.push((cost, found, matcher));
        }
        steps.sort_by_key(|(cost, ..)| *cost);

        let mut selected: Option<RoaringBitmap> = None;
        let mut unwanted = Vec::new();
        let mut unchecked = Vec::new();
        for (_, found, matcher) in steps {
            let demand = match found {
                Some(references) => Demand::Only(references),
                None if self.is_cheaper(&selected, self.test_cost(matcher)?) => {
                    unchecked.push(matcher);
                    continue;
                }
                None => self.demand(matcher)?,
            };
            match demand {
                Demand::Everything => {}
                Demand::Only(references) | Demand::AllBut(references)
                    if self.is_cheaper(&selected, self.cost(&references)?) =>
                {
                    unchecked.push(matcher);
                }
                Demand::Only(references) => {
                    let places = self.union(&references)?;
                    selected = Some(match selected {
                        Some(selected) => selected & places,
                        None => places,
                    });
                }
                Demand::AllBut(references) => unwanted.extend(references),
            }
            if selected.as_ref().is_some_and(RoaringBitmap::is_empty) {
                return Ok(RoaringBitmap::new());
            }
        }
        let mut selected = selected.unwrap_or_else(|| every_place(self.layout.sets));
        selected -= self.union(&unwanted)?;
        if unchecked.is_empty() {
            return Ok(selected);
        }
        self.check(&selected, &unchecked)
    }

    fn is_cheaper(&self, selected: &Option<RoaringBitmap>, cost: u64) -> bool {
        let selected = selected.as_ref();
        selected.is_some_and(|places| self.walk_is_cheaper(places, cost))
    }

    /// Those of `places` whose labels satisfy the matchers.
    fn check(&self, places: &RoaringBitmap, matchers: &[&Matcher]) -> Result<RoaringBitmap> {
        let mut tests = Vec::with_capacity(matchers.len());
        for matcher in matchers {
            tests.push((self.find_name(matcher.name())?, matcher));
        }
        let mut sets = self.label_sets();
        let mut kept = RoaringBitmap::new();
        'places: for place in places {
            let set = sets.seek(place)?;
            for (name, matcher) in &tests {
                let value = match name {
                    Some((number, name)) => match set.iter().find(|label| label.0 == *number) {
                        Some((_, value)) => self.value_text(*name, *value)?,
                        None => "",
                    },
                    None => "",
                };
                if !matcher.matches(value) {
                    continue 'places;
                }
            }
            kept.insert(place);
        }
        Ok(kept)
    }

    /// The postings that the matcher demands, when its values are found by look-up alone.
    fn look_up(&self, matcher: &Matcher) -> Result<Option<Vec<u32>>> {
        let mut found = Vec::new();
        let values = match (matcher.op(), matcher.regex()) {
            (MatchOp::Equal, _) => &[matcher.value().to_owned()][..],
            (MatchOp::Match, Some(regex)) => match regex.set_matches() {
                Some(values) => values,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        if matcher.matches_empty() {
            return Ok(None);
        }
        if let Some((_, name)) = self.find_name(matcher.name())? {
            for value in values {
                if let Some(value) = self.find_value(name, value)? {
                    found.push(self.value_reference(name, value)?);
                }
            }
        }
        Ok(Some(found))
    }

    /// What it costs to find what the matcher demands, without the postings.
    fn test_cost(&self, matcher: &Matcher) -> Result<u64> {
        let Some((_, name)) = self.find_name(matcher.name())? else {
            return Ok(0);
        };
        Ok(match matcher.regex() {
            Some(regex) if !regex.matches_everything() && !regex.matches_not_empty() => {
                u64::from(name.values).saturating_mul(VALUE_COST)
            }
            _ => 0,
        })
    }

    fn demand(&self, matcher: &Matcher) -> Result<Demand> {
        // A name that nobody has is a name whose value is empty everywhere.
        let Some((_, name)) = self.find_name(matcher.name())? else {
            return Ok(match matcher.matches_empty() {
                true => Demand::Everything,
                false => Demand::Only(Vec::new()),
            });
        };
        let value = matcher.value();
        Ok(match (matcher.op(), matcher.regex()) {
            (MatchOp::Equal, _) if value.is_empty() => Demand::AllBut(vec![name.present]),
            (MatchOp::Equal, _) => Demand::Only(self.exactly(name, value)?),
            (MatchOp::NotEqual, _) if value.is_empty() => Demand::Only(vec![name.present]),
            (MatchOp::NotEqual, _) => Demand::AllBut(self.exactly(name, value)?),
            (MatchOp::Match, Some(regex)) => self.matching(name, regex)?,
            (MatchOp::NotMatch, Some(regex)) => match self.matching(name, regex)? {
                Demand::Everything => Demand::Only(Vec::new()),
                Demand::Only(references) => Demand::AllBut(references),
                Demand::AllBut(references) => Demand::Only(references),
            },
            (MatchOp::Match | MatchOp::NotMatch, None) => Demand::Only(Vec::new()),
        })
    }

    fn exactly(&self, name: Name, value: &str) -> Result<Vec<u32>> {
        match self.find_value(name, value)? {
            Some(value) => Ok(vec![self.value_reference(name, value)?]),
            None => Ok(Vec::new()),
        }
    }

    /// The places whose value matches. An expression that matches the empty string also takes the
    /// places without the label, so what comes back is then what it leaves out.
    fn matching(&self, name: Name, regex: &LabelRegex) -> Result<Demand> {
        if regex.matches_everything() {
            return Ok(Demand::Everything);
        }
        if regex.matches_not_empty() {
            return Ok(Demand::Only(vec![name.present]));
        }
        if let (Some(set), false) = (regex.set_matches(), regex.matches_empty()) {
            let mut references = Vec::with_capacity(set.len());
            for value in set {
                references.extend(self.exactly(name, value)?);
            }
            return Ok(Demand::Only(references));
        }
        // A prefix is empty when the expression matches the empty string.
        let prefix = regex.prefix();
        let mut references = Vec::new();
        for value in self.value_at_or_after(name, prefix)?..name.values {
            let text = self.value_text(name, value)?;
            if !text.starts_with(prefix) {
                break;
            }
            if regex.is_match(text) != regex.matches_empty() {
                references.push(self.value_reference(name, value)?);
            }
        }
        Ok(match regex.matches_empty() {
            true => Demand::AllBut(references),
            false => Demand::Only(references),
        })
    }
}
