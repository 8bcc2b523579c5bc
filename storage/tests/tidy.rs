//! The house rules that a program can check: head comments, file lengths, names, dependency
//! directions. Lives in the lowest crate so that it runs before anything large is built:
//! `cargo test -p trine-storage --test tidy`.

#![expect(
    clippy::disallowed_methods,
    reason = "reads the source tree, which has no Fs"
)]
#![expect(clippy::unwrap_used, reason = "a test that fails should say where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files above [`LINES_MAX`] that are there for a reason. This list only gets shorter, and each
/// number only smaller.
const LONG_FILES: &[(&str, usize)] = &[];
const LINES_MAX: usize = 800;

/// Names that answer no question.
const GRAB_BAGS: &[&str] = &[
    "common", "core", "helper", "helpers", "manager", "misc", "prelude", "util", "utils",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Files with this ending below the root, as paths from it.
fn files(ending: &str) -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "data" {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    let relative = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    let mut names: Vec<String> = found
        .iter()
        .map(relative)
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    assert!(
        !names.is_empty(),
        "no {ending} files: the check looks in the wrong place"
    );
    names
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

fn report(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = files(".rs")
        .into_iter()
        .filter(|name| !name.ends_with("tests.rs") && !name.contains("/tests/"))
        .filter(|name| !read(name).starts_with("//! "))
        .collect();
    report("files that do not begin with a `//!` sentence", &silent);
}

#[test]
fn files_stay_short() {
    let mut wrong = Vec::new();
    for name in files(".rs") {
        let lines = read(&name).lines().count();
        let max = LONG_FILES
            .iter()
            .find(|(long, _)| *long == name)
            .map_or(LINES_MAX, |l| l.1);
        if lines > max {
            wrong.push(format!("{name}: {lines} lines, at most {max}"));
        }
    }
    for (name, _) in LONG_FILES {
        let lines = read(name).lines().count();
        if lines <= LINES_MAX {
            wrong.push(format!(
                "{name} is short now ({lines} lines): take it off the list"
            ));
        }
    }
    report("files that are too long", &wrong);
}

#[test]
fn no_module_is_a_grab_bag() {
    let wrong: Vec<String> = files(".rs")
        .into_iter()
        .filter(|name| {
            name.trim_end_matches(".rs")
                .split('/')
                .any(|part| GRAB_BAGS.contains(&part))
                || name.ends_with("/mod.rs")
        })
        .collect();
    report("files whose name answers no question (or mod.rs)", &wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "todo".to_owned() + "!(",
    ];
    let mut wrong = Vec::new();
    for name in files(".rs") {
        for (number, line) in (1..).zip(read(&name).lines()) {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                wrong.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    report("marks of unfinished work", &wrong);
}

#[test]
fn every_crate_takes_the_lints_and_versions_of_the_workspace() {
    let mut wrong = Vec::new();
    for name in files("Cargo.toml")
        .into_iter()
        .filter(|name| name != "Cargo.toml")
    {
        let manifest = read(&name);
        if !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{name}: no `[lints] workspace = true`"));
        }
        let mut in_dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
                wrong.push(format!(
                    "{name}: `{line}` does not take the workspace's version"
                ));
            }
        }
    }
    report("manifests", &wrong);
}

/// Packages below `package` in the graph of normal dependencies, as cargo sees it.
fn tree(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "-e",
            "normal",
            "--prefix",
            "none",
            "-p",
            package,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let engines = ["trine-tsdb", "trine-logstore", "trine-tracestore"];
    let outside = ["tokio", "hyper", "axum", "tonic", "object_store", "reqwest"];
    let mut wrong = Vec::new();
    let mut forbid = |package: &str, forbidden: &[&str]| {
        let below = tree(package);
        assert!(
            below.contains(package),
            "cargo tree does not know {package}"
        );
        for name in forbidden.iter().filter(|name| below.contains(**name)) {
            wrong.push(format!("{package} depends on {name}"));
        }
    };
    forbid(
        "trine-storage",
        &[&engines[..], &outside, &["trine-query", "tantivy"]].concat(),
    );
    for engine in engines {
        let others: Vec<&str> = engines
            .into_iter()
            .filter(|other| *other != engine)
            .collect();
        forbid(
            engine,
            &[&others[..], &outside, &["trine-query", "trine-server"]].concat(),
        );
    }
    forbid("trine-tsdb", &["tantivy"]);
    forbid("trine-query", &[&outside[..], &["trine-server"]].concat());
    report("dependencies in the wrong direction", &wrong);
}
