//! JSON with a line for each value, for people who follow the UI's link to it. The handlers in `jaeger`
//! call it.

const INDENT: &str = "    ";

/// The text of JSON with line breaks and four spaces for each level.
pub(super) fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut rest = json;
    while let Some(at) = rest.find(['{', '}', '[', ']', ',', ':', '"']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let mut chars = from.chars();
        let sign = chars.next().unwrap_or(',');
        rest = chars.as_str();
        match sign {
            '"' => {
                let end = end_of_text(rest);
                let (text, behind) = rest.split_at(end);
                out.push('"');
                out.push_str(text);
                rest = behind;
            }
            '{' | '[' => {
                out.push(sign);
                if let Some(behind) = rest.strip_prefix(['}', ']']) {
                    out.push(if sign == '{' { '}' } else { ']' });
                    rest = behind;
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(sign);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            _ => out.push_str(": "),
        }
    }
    out.push_str(rest);
    out
}

/// Where a text ends that has begun: behind its closing quote.
fn end_of_text(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str(INDENT);
    }
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn values_have_their_lines_and_texts_stay() {
        for (json, expect) in [
            ("null", "null"),
            ("[]", "[]"),
            (
                r#"{"a":[1,{}],"b\"{,":"x:\\","c":{"d":null}}"#,
                "{\n    \"a\": [\n        1,\n        {}\n    ],\n    \"b\\\"{,\": \"x:\\\\\",\n    \
                 \"c\": {\n        \"d\": null\n    }\n}",
            ),
        ] {
            assert_eq!(indented(json), expect);
        }
    }
}
