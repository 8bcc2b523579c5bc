//! The search of Tempo that is older than TraceQL, as TraceQL: what attributes must be (`tags`, in
//! logfmt), and how long traces must take. `request` calls it.

use trine_query::text::quote;

use crate::refusal::Refusal;

/// Names and values.
pub(super) type Tags = Vec<(String, String)>;

/// TraceQL that asks for traces with these attributes that take at least and at most so many
/// nanoseconds.
pub(super) fn query(
    tags: &[(String, String)],
    min_ns: Option<i64>,
    max_ns: Option<i64>,
) -> Result<String, Refusal> {
    if let (Some(min), Some(max)) = (min_ns, max_ns)
        && max < min
    {
        return Err(Refusal::bad(
            "invalid maxDuration: must be greater than minDuration",
        ));
    }
    let mut conditions: Vec<String> = tags
        .iter()
        .map(|(name, value)| condition(name, value))
        .collect();
    conditions.extend(min_ns.map(|ns| format!("traceDuration >= {ns}ns")));
    conditions.extend(max_ns.map(|ns| format!("traceDuration <= {ns}ns")));
    if conditions.is_empty() {
        return Ok("{}".to_owned());
    }
    Ok(format!("{{ {} }}", conditions.join(" && ")))
}

/// The condition that a tag stands for. Names of services and spans are searched for a part of
/// them, everything else for the whole value.
fn condition(name: &str, value: &str) -> String {
    let part = |attribute: &str| {
        format!(
            "{attribute} =~ {}",
            quote(&format!(".*{}.*", escaped(value)))
        )
    };
    match name {
        "service.name" => part("resource.service.name"),
        "root.service.name" => part("rootServiceName"),
        "root.name" => part("rootName"),
        "name" => part("name"),
        "status.code" if matches!(value, "ok" | "error" | "unset") => format!("status = {value}"),
        "error" if value == "true" => "status = error".to_owned(),
        _ => {
            let plain = name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            let name = if plain {
                format!(".{name}")
            } else {
                format!(".{}", quote(name))
            };
            match literal(value) {
                Some(typed) => format!("({name} = {} || {name} = {typed})", quote(value)),
                None => format!("{name} = {}", quote(value)),
            }
        }
    }
}

/// The number or truth value that a text may stand for, as TraceQL writes it.
fn literal(text: &str) -> Option<String> {
    if let Ok(number) = text.parse::<i64>() {
        return (number != i64::MIN).then(|| number.to_string());
    }
    let is_decimal = text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_decimal && let Ok(number) = text.parse::<f64>() {
        return Some(format!("{number:?}"));
    }
    matches!(text, "true" | "false").then(|| text.to_owned())
}

/// A regular expression that matches `text` only.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The pairs of a line in logfmt: `name=value` or `name="quoted value"`, separated by spaces.
pub(super) fn logfmt(line: &str) -> Result<Tags, Refusal> {
    let mut pairs = Tags::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return Err(Refusal::bad(format!(
                "invalid tags: unexpected '=' in {}",
                quote(line)
            )));
        }
        let (value, after) = match after.strip_prefix('=') {
            Some(after) => logfmt_value(after)
                .ok_or_else(|| Refusal::bad("invalid tags: unterminated quoted value"))?,
            None => (String::new(), after),
        };
        if pairs.iter().any(|(held, _)| held == name) {
            return Err(Refusal::bad(format!(
                "invalid tags: tag {name} has been set twice"
            )));
        }
        pairs.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

fn logfmt_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_at(text.find(' ').unwrap_or(text.len()));
        return Some((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use trine_query::traceql;

    use super::{Tags, logfmt, query};
    use crate::refusal::Refusal;

    #[test]
    fn tags_become_traceql() {
        for (tags, (min, max), expect) in [
            ("", (None, None), "{}"),
            (
                "http.method=GET",
                (None, None),
                r#"{ .http.method = "GET" }"#,
            ),
            (
                "service.name=sh.op",
                (None, None),
                r#"{ resource.service.name =~ ".*sh\\.op.*" }"#,
            ),
            (
                "name=\"GET /\" x=\"a\\\"b\"",
                (None, None),
                r#"{ name =~ ".*GET /.*" && .x = "a\"b" }"#,
            ),
            (
                "code=200",
                (None, None),
                r#"{ (.code = "200" || .code = 200) }"#,
            ),
            (
                "code=+007",
                (None, None),
                r#"{ (.code = "+007" || .code = 7) }"#,
            ),
            ("p=.5", (None, None), r#"{ (.p = ".5" || .p = 0.5) }"#),
            (
                "v=1.2.3 u=1e3",
                (None, None),
                r#"{ .v = "1.2.3" && .u = "1e3" }"#,
            ),
            (
                "ok=true",
                (None, None),
                r#"{ (.ok = "true" || .ok = true) }"#,
            ),
            ("a&b=c", (None, None), r#"{ ."a&b" = "c" }"#),
            ("flag", (None, None), r#"{ .flag = "" }"#),
            (
                "error=true status.code=ok",
                (None, None),
                "{ status = error && status = ok }",
            ),
            ("", (Some(7), None), "{ traceDuration >= 7ns }"),
            (
                "",
                (Some(7), Some(7)),
                "{ traceDuration >= 7ns && traceDuration <= 7ns }",
            ),
            (
                "root.name=a",
                (None, Some(9)),
                r#"{ rootName =~ ".*a.*" && traceDuration <= 9ns }"#,
            ),
        ] {
            let found = query(&logfmt(tags).unwrap(), min, max).unwrap();
            assert_eq!(found, expect, "{tags}");
            assert!(traceql::parse(&found).is_ok(), "{found}");
        }
    }

    #[test]
    fn what_makes_no_sense() {
        for (tags, why) in [
            ("a=1 a=2", "invalid tags: tag a has been set twice"),
            ("a=\"b", "invalid tags: unterminated quoted value"),
            ("=b", "invalid tags: unexpected '=' in \"=b\""),
        ] {
            assert_eq!(logfmt(tags), Err(Refusal::bad(why)), "{tags}");
        }
        let why = "invalid maxDuration: must be greater than minDuration";
        let none = Tags::new();
        assert_eq!(query(&none, Some(2), Some(1)), Err(Refusal::bad(why)));
    }
}
