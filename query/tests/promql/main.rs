//! Runs PromQL's test scripts: our own in `query/testdata/promql`, and Prometheus' where the
//! environment variable `TRINE_CONFORMANCE` (or `../shared/conformance` beside the workspace) has
//! them. Every case runs over samples in memory and over sealed blocks of a store.

#![expect(clippy::unwrap_used, reason = "a test that fails should say where")]
#![expect(clippy::disallowed_methods, reason = "reads scripts, which have no Fs")]

#[path = "../cases/cases.rs"]
mod cases;
mod check;
mod dashboards;
mod generate;
mod histogram;
mod rewrite;
mod script;
mod sources;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cases::{conformance, files, listed, say};
use script::{Command, Script};
use sources::Sources;

/// What became of the cases of one file.
#[derive(Default)]
struct Tally {
    cases: usize,
    /// Line, query and reason of those that failed.
    failures: Vec<(usize, String, String)>,
}

fn run(text: &str) -> Tally {
    let script = Script::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let mut sources = Sources::new();
    let mut tally = Tally::default();
    for command in script.commands {
        match command {
            Command::Clear => sources = Sources::new(),
            Command::Load(load) => sources.load(load),
            Command::Eval(case) => {
                tally.cases += 1;
                let failed = sources.both().into_iter().find_map(|(name, source)| {
                    let error = check::check(source, &case).err()?;
                    Some(format!("{name}: {error}"))
                });
                if let Some(reason) = failed {
                    tally.failures.push((case.line, case.query.clone(), reason));
                }
            }
        }
    }
    tally
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

#[test]
fn own_scripts() {
    let folder = workspace().join("query/testdata/promql");
    let (mut cases, mut failures) = (0, String::new());
    for path in files(&folder, "test") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let tally = run(&std::fs::read_to_string(&path).unwrap());
        cases += tally.cases;
        for (line, query, reason) in tally.failures {
            writeln!(failures, "{name}:{line}: {query}\n    {reason}").unwrap();
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(cases >= 570, "there are only {cases} cases of our own");
}

/// The cases that are known to fail: `file:line reason`.
fn known_failures() -> BTreeSet<String> {
    listed(include_str!("../../testdata/promql_known_failures.txt"))
}

#[test]
fn conformance_scripts() {
    let Some(folder) = conformance() else {
        say("conformance: SKIPPED, no data");
        return;
    };
    let mut known = known_failures();
    let (mut passed, mut cases, mut wrong) = (0, 0, String::new());
    for path in files(&folder.join("promql"), "test") {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let tally = run(&std::fs::read_to_string(&path).unwrap());
        let good = tally.cases - tally.failures.len();
        say(&format!(
            "promql {stem} evals: {good} of {} passed",
            tally.cases
        ));
        (passed, cases) = (passed + good, cases + tally.cases);
        for (line, query, reason) in tally.failures {
            if !known.remove(&format!("{stem}.test:{line}")) {
                writeln!(wrong, "{stem}.test:{line}: {query}\n    {reason}").unwrap();
            }
        }
    }
    say(&format!("promql: {passed} of {cases} passed"));
    for place in known {
        writeln!(
            wrong,
            "{place} passes now (or is no case): take it off the list"
        )
        .unwrap();
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A runner that believes everything would pass every script.
#[test]
fn wrong_expectations_fail() {
    let load = "load 1m\n  m{a=\"x\"} 1 2 3\n  h {{schema:0 sum:3 count:2 buckets:[1 1]}}x5\n\n";
    let wrong = [
        "eval instant at 1m m\n  m{a=\"x\"} 3\n",
        "eval instant at 1m m\n  m{a=\"y\"} 2\n",
        "eval instant at 1m m\n",
        "eval instant at 1m m + 1\n  {a=\"x\"} 3\n  {a=\"y\"} 3\n",
        "eval instant at 1m 1 + 1\n  3\n",
        "eval instant at 1m m\n  expect fail\n",
        "eval_fail instant at 1m m\n",
        "eval instant at 1m m - on() m\n  expect fail msg: something else\n",
        "eval instant at 1m m\n  expect warn\n  m{a=\"x\"} 2\n",
        "eval instant at 1m quantile(2, m)\n  expect no_warn\n  {} Inf\n",
        "eval instant at 1m quantile(2, m)\n  expect warn msg: no\n  {} Inf\n",
        "eval range from 0 to 2m step 1m m\n  m{a=\"x\"} 1 2 4\n",
        "eval range from 0 to 2m step 1m m\n  m{a=\"x\"} 1 2 _\n",
        "eval range from 0 to 2m step 1m m\n  m{a=\"x\"} 1 2\n",
        "eval instant at 2m m[2m]\n  expect range vector from 1m to 2m step 1m\n  m{a=\"x\"} 2\n",
        "eval instant at 1m h\n  h {{schema:0 sum:3 count:2 buckets:[1 1.1]}}\n",
        "eval instant at 1m h\n  h {{schema:1 sum:3 count:2 buckets:[1 1]}}\n",
        "eval instant at 1m h\n  h {{schema:0 sum:3 count:2 offset:1 buckets:[1 1]}}\n",
        "eval instant at 1m h\n  h {{schema:0 sum:3 count:2 buckets:[1 1] counter_reset_hint:gauge}}\n",
    ];
    for case in wrong {
        let tally = run(&format!("{load}{case}"));
        assert_eq!(tally.failures.len(), 1, "{case}");
    }
}
