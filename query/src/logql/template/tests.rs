//! Limits of templates at their edges, and functions against naive versions. What templates give is
//! in `testdata/logql/templates.test`.

use proptest::prelude::*;
use trine_storage::Labels;

use super::{CALL_DEPTH_MAX, Memory, NESTING_MAX, REGEXES_MAX, RUN_BYTES_MAX, RUN_STEPS_MAX};
use super::{Row, Template};
use crate::logql::pipeline::labels::{Fields, RowLabels, Wanted};

/// What a template makes of a row with the label `v`.
fn run(template: &str, value: &str) -> Result<String, String> {
    let mut memory = Memory::default();
    run_with(template, value, &mut memory)
}

fn run_with(template: &str, value: &str, memory: &mut Memory) -> Result<String, String> {
    let template = Template::new(template, "line", 0)?;
    let (stream, empty) = (Labels::showing([("v", value)]), Labels::empty());
    let mut fields = Fields::default();
    let row = Row {
        labels: &RowLabels::new(&stream, &empty, &Wanted::All, &mut fields),
        line: b"line",
        timestamp_ns: 0,
    };
    let mut out = Vec::new();
    template.run(row, memory, &mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn fails(template: &str, what: &str) {
    let error = run(template, "x").unwrap_err();
    assert!(error.contains(what), "{error}");
}

#[test]
fn the_bytes_of_a_run_are_bounded() {
    // What is made counts, and again when it is written.
    let half = RUN_BYTES_MAX / 2;
    let fits = run(&format!("{{{{repeat {half} .v}}}}"), "x").unwrap();
    assert_eq!(fits.len(), half);
    let what = format!("more than {RUN_BYTES_MAX} bytes are made");
    fails(&format!("{{{{repeat {half} .v}}}}x"), &what);
    fails(&format!("{{{{indent {RUN_BYTES_MAX} .v}}}}"), &what);
    fails(&format!("{{{{alignLeft {RUN_BYTES_MAX} .v}}}}"), &what);
    let doubled = "{{$x := .v}}{{range 40}}{{$x = print $x $x}}{{end}}{{len $x}}";
    fails(doubled, &what);
    fails("{{$x := repeat 3000 .v}}{{replace \"\" $x $x}}", &what);
    fails(
        "{{$x := repeat 3000 .v}}{{regexReplaceAll \"\" $x $x}}",
        &what,
    );
    fails("{{range 9}}{{printf \"%999999d\" 1}}{{end}}", "too long");
}

#[test]
fn the_steps_of_a_run_are_bounded() {
    // An element takes a step, and so does what stands in it.
    let fits = format!("{{{{range {}}}}}x{{{{end}}}}", RUN_STEPS_MAX / 2 - 10);
    assert_eq!(run(&fits, "").unwrap().len(), RUN_STEPS_MAX / 2 - 10);
    let what = format!("more than {RUN_STEPS_MAX} steps");
    fails(&format!("{{{{range {RUN_STEPS_MAX}}}}}{{{{end}}}}"), &what);
    let calls = "{{define \"a\"}}{{template \"b\"}}{{template \"b\"}}{{end}}";
    let mut text = calls.to_owned();
    for (name, next) in ('b'..'z').zip('c'..='z') {
        let body = format!("{{{{template \"{next}\"}}}}").repeat(2);
        text.push_str(&format!("{{{{define \"{name}\"}}}}{body}{{{{end}}}}"));
    }
    fails(
        &format!("{text}{{{{define \"z\"}}}}{{{{end}}}}{{{{template \"a\"}}}}"),
        &what,
    );
}

#[test]
fn nesting_and_calls_are_bounded() {
    let nested = |depth: usize| {
        let (open, close) = ("(".repeat(depth), ")".repeat(depth));
        format!("{{{{{open}.v{close}}}}}")
    };
    assert_eq!(run(&nested(NESTING_MAX - 1), "x").as_deref(), Ok("x"));
    fails(&nested(NESTING_MAX), "max expression depth exceeded");
    let ifs = |depth: usize| "{{if .v}}".repeat(depth) + "x" + &"{{end}}".repeat(depth);
    assert_eq!(run(&ifs(NESTING_MAX - 1), "x").as_deref(), Ok("x"));
    fails(&ifs(NESTING_MAX), "max expression depth exceeded");
    let calls = |depth: usize| {
        format!(
            "{{{{define \"t\"}}}}{{{{if lt (len .) {depth}}}}}{{{{template \"t\" print . \"x\"}}}}\
             {{{{else}}}}{{{{len .}}}}{{{{end}}}}{{{{end}}}}{{{{template \"t\" \"x\"}}}}"
        )
    };
    let most = CALL_DEPTH_MAX.to_string();
    assert_eq!(run(&calls(CALL_DEPTH_MAX), "").as_deref(), Ok(&*most));
    fails(
        &calls(CALL_DEPTH_MAX + 1),
        "exceeded maximum template depth",
    );
}

#[test]
fn few_expressions_are_kept() {
    let mut memory = Memory::default();
    for i in 0..REGEXES_MAX + 5 {
        let template = format!("{{{{count \"a{{{i}}}\" .v}}}}");
        run_with(&template, "aaa", &mut memory).unwrap();
        assert!(memory.regexes.len() <= REGEXES_MAX);
    }
    fails(
        "{{count \"(\" .v}}",
        "error parsing regexp: missing closing )",
    );
    fails(
        "{{count \"((a{100}){100}){100}\" .v}}",
        "error calling count",
    );
}

#[test]
fn a_template_names_the_labels_it_looks_at() {
    let labels = |text: &str| {
        let template = Template::new(text, "line", 0).unwrap();
        let names = template.labels();
        names.map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let some = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    assert_eq!(
        labels("x{{.a}}{{if eq .b \"1\"}}{{.c | lower}}{{end}}"),
        some(&["a", "b", "c"])
    );
    assert_eq!(
        labels("{{$x := .a}}{{$x}}{{$.b}}{{__line__}}"),
        some(&["a", "b"])
    );
    assert_eq!(labels("{{(lower .a).b}}"), some(&["a"]));
    assert_eq!(labels("{{index . \"a\"}}"), None);
    assert_eq!(labels("{{range $k, $v := $}}{{$k}}{{end}}"), None);
}

proptest! {
    #[test]
    fn no_text_makes_a_template_panic(text in "[{}()|.$a-c\"`:=, 0-9-]{0,24}", wrapped: bool) {
        let text = if wrapped { format!("{{{{{text}}}}}") } else { text };
        run(&text, "value").ok();
    }

    #[test]
    fn base64_and_urls_come_back(value in "\\PC{0,12}") {
        prop_assert_eq!(run("{{.v | b64enc | b64dec}}", &value).unwrap(), value.clone());
        prop_assert_eq!(run("{{.v | urlencode | urldecode}}", &value).unwrap(), value);
    }

    #[test]
    fn instants_come_back(seconds in -60_000_000_000i64..200_000_000_000, layout in 0..3usize) {
        let layout = ["2006-01-02T15:04:05Z07:00", "Mon Jan _2 15:04:05 2006", "2006 002 03:04:05PM"][layout];
        let there = format!("date \"{layout}\" {seconds}");
        let back = format!("{{{{unixEpoch (toDate \"{layout}\" ({there}))}}}}");
        // Four digits of a year are read.
        prop_assume!((-62_135_596_800..253_402_300_800).contains(&seconds));
        prop_assert_eq!(run(&back, "").unwrap(), seconds.to_string());
        let date = run(&format!("{{{{date \"2006-01-02 15:04:05\" {seconds}}}}}"), "").unwrap();
        let known = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        prop_assert_eq!(date, known.strftime("%Y-%m-%d %H:%M:%S").to_string());
    }

    #[test]
    fn decimals_are_exact(a in -10_000i64..10_000, b in -10_000i64..10_000) {
        let text = |n: i64| format!("{}{}.{:02}", if n < 0 { "-" } else { "" }, n.abs() / 100, n.abs() % 100);
        let sum = run(&format!("{{{{addf \"{}\" \"{}\"}}}}", text(a), text(b)), "").unwrap();
        let sum: f64 = sum.parse().unwrap();
        prop_assert_eq!(sum, text(a + b).parse::<f64>().unwrap());
    }
}
