//! Where a level is found, and where it is not.

use trine_storage::Labels;

use super::{Levels, service_name};

const NOTHING: [(&str, &str); 0] = [];

#[test]
fn from_the_line() {
    for (line, expect) in [
        ("", "unknown"),
        ("nothing to see", "unknown"),
        ("ERROR: disk full", "error"),
        ("2024-01-01 [warning] low disk", "warn"),
        ("terror and misinformation", "unknown"),
        ("an error.", "unknown"),
        ("info then error", "info"),
        ("(critical) stop", "critical"),
        ("fatal", "fatal"),
        ("|debug|", "debug"),
        ("level=err msg=x", "error"),
        ("msg=\"level=info\" level=debug", "debug"),
        ("msg=x lvl=wrn", "warn"),
        ("level=bogus msg=\"some info\"", "info"),
        ("a=b", "unknown"),
        ("=", "unknown"),
        ("level=\"open", "unknown"),
        (r#"{"level":"INFO","msg":"an error occurred"}"#, "info"),
        (r#"{"a":{"level":"debug"}}"#, "debug"),
        (r#"{"a":{"b":{"level":"trc"}}}"#, "unknown"),
        (r#"{"msg":"level","x":"error"}"#, "error"),
        (r#"prefix {"severity" : "Warning"} suffix"#, "warn"),
        (r#"{"level":30,"msg":"x"}"#, "unknown"),
        (r#"{"msg":"say \"info\" now","level":"error"}"#, "error"),
        (r#"{"level":"#, "unknown"),
        ("{\"é\":\"ü\",\"Level\":\"TRACE\"}", "trace"),
        ("}{", "unknown"),
    ] {
        assert_eq!(
            Levels::default().level(&NOTHING, line.as_bytes()),
            expect,
            "{line}"
        );
    }
}

#[test]
fn what_is_told_wins_over_the_line() {
    let line = "level=error";
    let check = |labels: &[(&str, &str)], pairs: &[(&str, &str)], expect| {
        let labels = Labels::from_pairs(labels.iter().copied()).unwrap();
        let levels = Levels::of(&labels);
        let found = levels.level(pairs, line.as_bytes());
        assert_eq!(found, expect, "{labels} {pairs:?}");
    };
    check(&[], &[("detected_level", "WRN")], "warn");
    check(&[("level", "info")], &[("detected_level", "trc")], "trace");
    check(&[("level", "Information")], &[("severity", "warn")], "info");
    check(
        &[],
        &[("severity_text", "Dbg"), ("severity_number", "21")],
        "debug",
    );
    check(&[("lvl", "info"), ("level", "debug")], &[], "debug");
    check(&[("level", "notice")], &[], "notice");
    for (severity, expect) in [
        ("1", "trace"),
        ("4", "trace"),
        ("5", "debug"),
        ("9", "info"),
        ("13", "warn"),
        ("17", "error"),
        ("24", "fatal"),
        ("25", "unknown"),
        ("0", "unknown"),
        ("-1", "unknown"),
        ("many", "info"),
    ] {
        check(&[], &[("severity_number", severity)], expect);
    }
    check(&[], &[], "error");
}

#[test]
fn the_service_is_found() {
    for (pairs, expect) in [
        (vec![("service_name", "x"), ("app", "y")], "x"),
        (vec![("app", "y"), ("job", "z")], "y"),
        (vec![("job", "z"), ("component", "c")], "c"),
        (vec![("service", "s"), ("app", "y")], "s"),
        (vec![("job", "z")], "z"),
        (vec![("host", "h")], "unknown_service"),
        (vec![], "unknown_service"),
    ] {
        let labels = Labels::from_pairs(pairs).unwrap();
        assert_eq!(service_name(&labels), expect, "{labels}");
    }
}

/// The cases of Loki's own tests, where `TRINE_CONFORMANCE` has them.
#[test]
fn levels_are_those_that_loki_finds() {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/conformance").into();
    let folder = std::env::var("TRINE_CONFORMANCE").unwrap_or_else(|_| beside());
    let path = std::path::Path::new(&folder).join("logql/pipeline_cases.yaml");
    let Ok(text) = std::fs::read_to_string(path) else {
        return;
    };
    let (_, cases) = text.split_once("\nlevel_cases:\n- ").unwrap();
    let mut count = 0;
    for case in cases.split("\n- ") {
        let field = |name: &str| {
            let mut lines = case.lines().filter_map(|line| line.trim().split_once(": "));
            lines
                .find(|(held, _)| *held == name)
                .map(|(_, value)| value)
        };
        let text = |name: &str| -> String {
            field(name).map_or(String::new(), |value| serde_json::from_str(value).unwrap())
        };
        let pairs = |name: &str| -> Vec<(String, String)> {
            let parse = |value| serde_json::from_str::<serde_json::Value>(value).unwrap();
            let pairs = field(name).map(parse);
            let pairs = pairs.iter().flat_map(|value| value.as_object().unwrap());
            pairs
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect()
        };
        let line = text("line");
        let found = match text("scope").as_str() {
            "unstructured_line" => super::word(line.as_bytes()).unwrap_or("unknown").into(),
            _ => {
                let labels = Labels::from_pairs(pairs("stream_labels")).unwrap();
                let metadata = pairs("structured_metadata");
                Levels::of(&labels)
                    .level(&metadata, line.as_bytes())
                    .into_owned()
            }
        };
        assert_eq!(found, text("want"), "{case}");
        count += 1;
    }
    assert!(count > 150, "{count} cases");
}

proptest::proptest! {
    /// A level in any spelling of a field, among fields and words that tell nothing.
    #[test]
    fn any_line_has_a_level(line: Vec<u8>) {
        let level = Levels::default().level(&NOTHING, &line).into_owned();
        let word = super::word(&line).unwrap_or("unknown");
        let text = String::from_utf8_lossy(&line);
        let has_fields = text.contains(['{', '=']);
        proptest::prop_assert!(has_fields || level == word);
    }
}
