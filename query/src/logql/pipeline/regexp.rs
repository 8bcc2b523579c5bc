//! Extracts the named groups of an expression, for the `regexp` stage.

use std::ops::ControlFlow;

use trine_storage::regex::{LineRegex, Locations};

use super::labels::RowLabels;
use super::text::push_lossy;

/// A compiled `regexp` stage.
#[derive(Debug)]
pub(in crate::logql) struct Regexp {
    regex: LineRegex,
    /// Numbers and names of the named groups.
    groups: Vec<(usize, String)>,
}

impl Regexp {
    /// Compiles the expression.
    ///
    /// # Errors
    /// A text that says what is wrong with the expression or its groups.
    pub(in crate::logql) fn new(pattern: &str) -> Result<Self, String> {
        let regex = LineRegex::new(pattern).map_err(|error| error.to_string())?;
        let mut groups: Vec<(usize, String)> = Vec::new();
        for (number, name) in regex.capture_names().iter().enumerate() {
            let Some(name) = name else {
                continue;
            };
            let valid = |(i, c): (usize, char)| {
                c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit())
            };
            if !name.chars().enumerate().all(valid) {
                return Err(format!("invalid extracted label name '{name}'"));
            }
            if groups.iter().any(|(_, other)| other == name) {
                return Err(format!("duplicate extracted label name '{name}'"));
            }
            groups.push((number, name.clone()));
        }
        if groups.is_empty() {
            return Err("at least one named capture must be supplied".to_owned());
        }
        Ok(Self { regex, groups })
    }

    /// Room for the places of the groups, for [`Regexp::extract`].
    pub(in crate::logql) fn locations(&self) -> Locations {
        self.regex.locations()
    }

    /// Sets the label of each group to what it matched; a line without a match stays as it is.
    pub(in crate::logql) fn extract(
        &self,
        line: &[u8],
        locations: &mut Locations,
        labels: &mut RowLabels<'_>,
    ) {
        if !self.regex.captures(line, locations) {
            return;
        }
        for (number, name) in &self.groups {
            let value = locations.get(*number).and_then(|range| line.get(range));
            let flow = labels.extract(name, |text| {
                push_lossy(text, value.unwrap_or_default());
            });
            if flow == ControlFlow::Break(()) {
                return;
            }
        }
    }
}
