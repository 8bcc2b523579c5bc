//! The configuration file: YAML with the names of the options as keys. `config` calls it once.

use std::collections::BTreeMap;

use super::settings;

/// One key of the file with its values as texts, so that the table of settings reads them.
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) values: Vec<String>,
}

/// What the file says for one tenant only.
pub(super) struct Override {
    pub(super) path: String,
    pub(super) tenant: String,
    pub(super) name: String,
    pub(super) value: String,
}

/// The key under which tenants have settings of their own.
const OVERRIDES: &str = "overrides";

/// The most edits between an unknown key and the known one that is suggested for it.
const EDITS_MAX: usize = 3;

/// Reads the file's `text`; `path` is for messages.
pub(super) fn parse(path: &str, text: &str) -> Result<(Vec<Entry>, Vec<Override>), String> {
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut keys: BTreeMap<String, serde_json::Value> =
        serde_saphyr::from_str(text).map_err(|error| format!("{path}: {error}"))?;
    let overrides = match keys.remove(OVERRIDES) {
        Some(value) => overrides(path, value)?,
        None => Vec::new(),
    };
    let mut entries = Vec::new();
    for (key, value) in keys {
        let name = key.replace('_', "-");
        if !settings().any(|setting| setting.name == name) {
            return Err(unknown(path, &key, &name));
        }
        if entries.iter().any(|entry: &Entry| entry.name == name) {
            return Err(format!("{path}: the key {name} is there twice"));
        }
        let values = match &value {
            serde_json::Value::Array(items) => items.iter().map(scalar).collect::<Option<Vec<_>>>(),
            // JSON is YAML.
            serde_json::Value::Object(_) if takes_yaml(&name) => Some(vec![value.to_string()]),
            single => scalar(single).map(|text| vec![text]),
        };
        let values = values.ok_or_else(|| {
            format!("{path}: the key {key} must be one value or a list of values")
        })?;
        if values.len() != 1 && name != "listen" {
            return Err(format!("{path}: the key {key} must be one value"));
        }
        entries.push(Entry {
            path: path.to_owned(),
            name,
            values,
        });
    }
    Ok((entries, overrides))
}

/// Tenants with their settings.
fn overrides(path: &str, value: serde_json::Value) -> Result<Vec<Override>, String> {
    let wrong = || format!("{path}: {OVERRIDES} must name tenants, each with keys and values");
    let tenants: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_value(value).map_err(|_| wrong())?;
    let mut found = Vec::new();
    for (tenant, keys) in tenants {
        for (name, value) in keys {
            found.push(Override {
                path: path.to_owned(),
                tenant: tenant.clone(),
                value: scalar_or_words(&name, &value).ok_or_else(wrong)?,
                name,
            });
        }
    }
    Ok(found)
}

/// Whether a setting is written as YAML.
fn takes_yaml(name: &str) -> bool {
    settings().any(|setting| setting.name == name && setting.value == "YAML")
}

/// One value as it would be written on the command line; lists have commas between their words.
fn scalar_or_words(name: &str, value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Object(_) if takes_yaml(&name.replace('_', "-")) => {
            Some(value.to_string())
        }
        serde_json::Value::Array(items) => {
            let words: Option<Vec<String>> = items.iter().map(scalar).collect();
            words.map(|words| words.join(","))
        }
        single => scalar(single),
    }
}

fn scalar(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn unknown(path: &str, key: &str, name: &str) -> String {
    let nearest = settings()
        .map(|setting| (edits(name, setting.name), setting.name))
        .min()
        .filter(|(distance, _)| *distance <= EDITS_MAX);
    match nearest {
        Some((_, near)) => format!("{path}: unknown key {key:?}; did you mean {near:?}?"),
        None => format!("{path}: unknown key {key:?}; `trine --help` lists the known ones"),
    }
}

/// The number of letters to insert, delete or replace to make `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let replace = diagonal + usize::from(x != *y);
            diagonal = *cell;
            left = replace.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::edits;

    #[test]
    fn distances() {
        for (a, b, expect) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("retension", "retention", 1),
            ("data-dirs", "data-dir", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edits(a, b), expect, "{a} {b}");
        }
    }
}
