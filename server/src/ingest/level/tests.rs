//! Where a level is found, and where it is not.

use std::borrow::Cow;

use trine_storage::Labels;

use super::{Known, detect};

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
        assert_eq!(detect(&Known::default(), line), expect, "{line}");
    }
}

#[test]
fn what_is_told_wins_over_the_line() {
    let line = "level=error";
    let metadata = |pairs: &[(&'static str, &'static str)]| -> Vec<_> {
        pairs
            .iter()
            .map(|(n, v)| (Cow::Borrowed(*n), Cow::Borrowed(*v)))
            .collect()
    };
    let check = |labels: &[(&str, &str)], pairs: &[(&'static str, &'static str)], expect| {
        let labels = Labels::from_pairs(labels.iter().copied()).unwrap();
        let metadata = metadata(pairs);
        let known = Known {
            labels: Some(&labels),
            metadata: &metadata,
        };
        assert_eq!(detect(&known, line), expect, "{labels} {pairs:?}");
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
