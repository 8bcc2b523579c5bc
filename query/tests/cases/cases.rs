//! What the runners of conformance cases share.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder of conformance data, where there is one.
pub(crate) fn conformance() -> Option<PathBuf> {
    let folder = match std::env::var_os("TRINE_CONFORMANCE") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"),
    };
    folder.is_dir().then_some(folder)
}

/// Files of a folder that end in `.extension`, by name.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

/// Prints a line even where the test passes: `println` is caught.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The places of a list of exceptions, each of which must have its reason.
pub(crate) fn listed(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (place, reason) = line.split_once(' ').unwrap_or((line, ""));
            assert!(!reason.trim().is_empty(), "{place} has no reason");
            place.to_owned()
        })
        .collect()
}

/// The query with values for the variables of Grafana, written `$name`, `${name:form}` or
/// `[[name]]`. `$1` of `label_replace` is none of them.
pub(crate) fn substituted(query: &str) -> String {
    let mut out = String::new();
    let mut rest = query;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let after = after.strip_prefix('$').unwrap();
        let (name, tail) = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}').unwrap_or((inner, "")),
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                after.split_at(end.unwrap_or(after.len()))
            }
        };
        let plain = name.split(':').next().unwrap_or(name);
        if plain.is_empty() || plain.starts_with(|c: char| c.is_ascii_digit()) {
            out.push('$');
            rest = after;
            continue;
        }
        out.push_str(match plain {
            "__auto" | "__rate_interval" => "5m",
            "__interval" => "1m",
            "__interval_ms" => "60000",
            "__range" => "1h",
            "__range_s" => "3600",
            "latency_metrics" => "1",
            // A pattern that is a variable stands for all values, as Grafana's "All" does.
            _ if out.ends_with("=~\"") => ".+",
            _ => "v",
        });
        rest = tail;
    }
    out + rest
}
