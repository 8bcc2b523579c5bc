//! Tests of single stages; whole pipelines are tested by the scripts.

mod properties;

use super::json::{Step, parse_path};
use super::without_colors;

#[test]
fn paths_into_json() {
    let member = |name: &str| Step::Member(name.to_owned());
    let check = |text: &str, expect: &[Step]| {
        assert_eq!(parse_path(text), Ok(expect.to_vec()), "{text}");
    };
    check("app", &[member("app")]);
    check("[\"field with space\"]", &[member("field with space")]);
    check("[0]", &[Step::Element(0)]);
    check(
        "a.b[\"c\"][2].d",
        &[
            member("a"),
            member("b"),
            member("c"),
            Step::Element(2),
            member("d"),
        ],
    );
    check("", &[]);
    let fails = |text: &str, expect: &str| {
        assert_eq!(
            parse_path(text),
            Err(format!("syntax error: {expect}")),
            "{text}"
        );
    };
    fails("field with space", "unexpected FIELD");
    fails("\"pod\"]", "unexpected STRING, expecting LSB or FIELD");
    fails("[\"pod\"\"x\"]", "unexpected STRING, expecting RSB");
    fails("pod..uuid", "unexpected DOT, expecting FIELD");
}

#[test]
fn colors_go() {
    let check = |line: &[u8], expect: Option<&[u8]>| {
        let mut plain = Vec::new();
        let found = without_colors(line, &mut plain);
        assert_eq!(found.then_some(plain.as_slice()), expect);
    };
    check(b"plain", None);
    check(
        b"\x1b[0;32mgreen\x1b[0m \x1b[31mred\x1b[0m",
        Some(b"green red"),
    );
    check(b"cut \x1b[0", Some(b"cut "));
}
