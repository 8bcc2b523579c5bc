//! Values of templates with one number, counted by template and number instead of being put together
//! one by one. Splitting is the same everywhere, so that values of many pages and of several columns
//! add up here. `column::reader` and `scan::values` count with it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::{NUMBER, Templates};
use crate::block::values::ValueRef;

/// How many templates are counted.
const TEMPLATES_MAX: usize = 8;

/// Numbers below this are counted.
pub(super) const NUMBERS_MAX: u64 = 1 << 20;

/// Texts with how often each was met.
#[derive(Debug, Default)]
pub(crate) struct Numbered {
    templates: Templates,
    /// By template and number.
    counts: Vec<Vec<u32>>,
    distinct: usize,
}

impl Numbered {
    /// How many different texts were met.
    pub(crate) fn len(&self) -> usize {
        self.distinct
    }

    /// Where values of some templates are counted, by their codes; nowhere when one of them has not
    /// one number, or is no text between them, or they are too many.
    pub(crate) fn places(&mut self, of: &Templates) -> Option<Vec<usize>> {
        let is_text = |template: &[u8]| {
            let mut parts = template.split(|byte| *byte >= NUMBER);
            parts.all(|part| std::str::from_utf8(part).is_ok())
        };
        let countable =
            |(code, template): (usize, &[u8])| of.slots(code) == Some(1) && is_text(template);
        if of.texts.len() > TEMPLATES_MAX || !of.texts.iter().enumerate().all(countable) {
            return None;
        }
        let mut places = Vec::with_capacity(of.texts.len());
        for template in of.texts.iter() {
            let known = self.templates.find(template);
            let known = known.and_then(|code| usize::try_from(code).ok());
            let place = match known {
                Some(place) => place,
                None if self.counts.len() >= TEMPLATES_MAX => return None,
                None => {
                    self.templates.push(template)?;
                    self.counts.push(Vec::new());
                    self.counts.len() - 1
                }
            };
            places.push(place);
        }
        Some(places)
    }

    /// Makes room for numbers up to `greatest` of the template at a place.
    pub(super) fn reserve(&mut self, place: usize, greatest: u64) {
        let room = usize::try_from(greatest.min(NUMBERS_MAX - 1)).unwrap_or(0) + 1;
        if let Some(counts) = self
            .counts
            .get_mut(place)
            .filter(|counts| counts.len() < room)
        {
            counts.resize(room, 0);
        }
    }

    /// Counts numbers of the template at a place, which there is room for.
    pub(super) fn count(&mut self, place: usize, numbers: impl IntoIterator<Item = usize>) {
        let Some(counts) = self.counts.get_mut(place) else {
            return;
        };
        for number in numbers {
            if let Some(count) = counts.get_mut(number) {
                self.distinct += usize::from(*count == 0);
                *count = count.saturating_add(1);
            }
        }
    }

    /// Hands over all texts until `each` says no, and forgets them. Whether it never did.
    pub(crate) fn drain(&mut self, each: &mut dyn FnMut(ValueRef<'_>, u64) -> bool) -> bool {
        let mut text = Vec::new();
        let mut more = true;
        for (code, counts) in self.counts.iter_mut().enumerate() {
            for (number, count) in (0u64..).zip(&mut *counts).filter(|(_, count)| **count > 0) {
                if !more {
                    break;
                }
                text.clear();
                self.templates.write(code, &[number], &mut text);
                // `places` looked at the template.
                let text = std::str::from_utf8(&text).unwrap_or_default();
                more = each(ValueRef::Str(text), (*count).into());
            }
            counts.fill(0);
        }
        self.distinct = 0;
        more
    }
}

#[cfg(test)]
mod tests {
    use super::super::{put_templates, split};
    use super::*;
    use crate::block::values::Texts;

    fn templates(texts: &[&str]) -> Templates {
        let mut all = Texts::default();
        for text in texts {
            let (mut template, mut slots) = (Vec::new(), Vec::new());
            split(text.as_bytes(), &mut template, &mut slots);
            all.push(&template);
        }
        let mut bytes = Vec::new();
        put_templates(&mut bytes, &all);
        Templates::open("test", &bytes, texts.len()).unwrap()
    }

    fn drained(numbered: &mut Numbered, most: usize) -> (Vec<(String, u64)>, bool) {
        let mut found = Vec::new();
        let more = numbered.drain(&mut |value, count| {
            let text = String::from_utf8(value.bytes().unwrap().to_vec()).unwrap();
            found.push((text, count));
            found.len() < most
        });
        (found, more)
    }

    #[test]
    fn texts_of_several_columns_add_up() {
        let mut numbered = Numbered::default();
        let first = numbered.places(&templates(&["user-1", "é7!"])).unwrap();
        let second = numbered.places(&templates(&["é1!", "x1"])).unwrap();
        assert_eq!((&*first, &*second), (&[0, 1][..], &[1, 2][..]));
        for (place, numbers) in [(0, vec![3, 5, 3]), (1, vec![5]), (1, vec![5, 0])] {
            numbered.reserve(place, 5);
            numbered.count(place, numbers);
        }
        numbered.reserve(2, 5);
        assert_eq!(numbered.len(), 4);
        let told = [("user-3", 2), ("user-5", 1), ("é0!", 1), ("é5!", 2)];
        let told = told.map(|(text, count)| (text.to_owned(), count)).to_vec();
        assert_eq!(drained(&mut numbered, 9), (told, true));
        assert_eq!(
            (numbered.len(), drained(&mut numbered, 9)),
            (0, (vec![], true))
        );
        numbered.count(0, [1, 2, 3]);
        let (few, more) = drained(&mut numbered, 2);
        assert_eq!((few.len(), more, numbered.len()), (2, false, 0));
    }

    #[test]
    fn only_a_few_templates_with_one_number_are_counted() {
        let mut numbered = Numbered::default();
        assert!(numbered.places(&templates(&["no number"])).is_none());
        assert!(numbered.places(&templates(&["1 and 2"])).is_none());
        let broken = Templates::open("test", &[3, b'x', 0xc3, NUMBER], 1).unwrap();
        assert!(numbered.places(&broken).is_none());
        let names: Vec<String> = (0..=TEMPLATES_MAX)
            .map(|n| format!("{}1", "x".repeat(n + 1)))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(numbered.places(&templates(&names)).is_none());
        let (most, one_more) = names.split_at(TEMPLATES_MAX);
        assert_eq!(
            numbered.places(&templates(most)).unwrap().len(),
            TEMPLATES_MAX
        );
        assert!(numbered.places(&templates(one_more)).is_none());
        assert_eq!(numbered.places(&templates(&most[3..4])).unwrap(), [3]);
    }

    #[test]
    fn numbers_are_counted_up_to_a_bound() {
        let mut numbered = Numbered::default();
        let place = numbered.places(&templates(&["user-1"])).unwrap()[0];
        numbered.reserve(place, u64::MAX);
        let greatest = usize::try_from(NUMBERS_MAX).unwrap() - 1;
        numbered.count(place, [greatest, greatest + 1]);
        assert_eq!(numbered.len(), 1);
        assert_eq!(
            drained(&mut numbered, 9).0,
            [(format!("user-{greatest}"), 1)]
        );
    }
}
