//! Names and values of attributes for Tempo's autocompletion: which scopes there are, what is built
//! into every span, and how a list is written.

use crate::api::prometheus::json::{self, Object};
use crate::params::Params;
use crate::refusal::Refusal;

/// What every span has without an attribute.
const INTRINSIC: [&str; 17] = [
    "duration",
    "kind",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "traceDuration",
];

/// Where a name belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TagScope {
    Resource,
    Span,
    Intrinsic,
    Event,
    Link,
    Instrumentation,
}

impl TagScope {
    const ALL: [Self; 6] = [
        Self::Resource,
        Self::Span,
        Self::Intrinsic,
        Self::Event,
        Self::Link,
        Self::Instrumentation,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Span => "span",
            Self::Intrinsic => "intrinsic",
            Self::Event => "event",
            Self::Link => "link",
            Self::Instrumentation => "instrumentation",
        }
    }
}

/// The parameter `scope`; `None` for all.
pub(super) fn scope(params: &Params) -> Result<Option<TagScope>, Refusal> {
    match params.get("scope") {
        None | Some("none") => Ok(None),
        Some(text) => match TagScope::ALL.into_iter().find(|scope| scope.name() == text) {
            Some(scope) => Ok(Some(scope)),
            None => Err(Refusal::bad(format!("invalid scope: {text}"))),
        },
    }
}

/// Names by scope: those of attributes as they were found, and what is built in. At most `limit`
/// of each scope.
pub(super) fn scopes(
    found: &[(TagScope, String)],
    only: Option<TagScope>,
    limit: Option<usize>,
) -> String {
    let wanted = TagScope::ALL
        .into_iter()
        .filter(|scope| only.is_none_or(|only| only == *scope));
    let lists = wanted.map(|scope| (scope, names_of(found, scope, limit)));
    let lists = lists.filter(|(_, names)| !names.is_empty());
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::array(object.key("scopes"), lists, |out, (scope, names)| {
        let mut object = Object::begin(out);
        object.text("name", scope.name());
        json::strings(object.key("tags"), names);
        object.end();
    });
    object.raw("metrics", "{}");
    object.end();
    out
}

/// Names of attributes without their scope; what is built in only when it is asked for.
pub(super) fn names(
    found: &[(TagScope, String)],
    only: Option<TagScope>,
    limit: Option<usize>,
) -> String {
    let mut names: Vec<&str> = match only {
        Some(scope) => names_of(found, scope, None),
        None => found.iter().map(|(_, name)| name.as_str()).collect(),
    };
    names.sort_unstable();
    names.dedup();
    names.truncate(limit.unwrap_or(usize::MAX));
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    json::strings(object.key("tagNames"), names);
    object.raw("metrics", "{}");
    object.end();
    out
}

fn names_of(found: &[(TagScope, String)], scope: TagScope, limit: Option<usize>) -> Vec<&str> {
    let mut names: Vec<&str> = if scope == TagScope::Intrinsic {
        INTRINSIC.to_vec()
    } else {
        found
            .iter()
            .filter(|(s, _)| *s == scope)
            .map(|(_, name)| name.as_str())
            .collect()
    };
    names.truncate(limit.unwrap_or(usize::MAX));
    names
}

/// A value and its type, one of `string int float bool duration keyword`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TagValue {
    pub(super) kind: &'static str,
    pub(super) value: String,
}

/// The values of what is built in and has few of them; `None` for everything else.
pub(super) fn built_in_values(name: &str) -> Option<Vec<TagValue>> {
    let keywords: &[&str] = match name {
        "status" | "span:status" => &["error", "ok", "unset"],
        "kind" | "span:kind" => &[
            "client",
            "consumer",
            "internal",
            "producer",
            "server",
            "unspecified",
        ],
        "duration" | "span:duration" | "traceDuration" | "trace:duration" => &[],
        _ => return None,
    };
    let value = |word: &&str| TagValue {
        kind: "keyword",
        value: (*word).to_owned(),
    };
    Some(keywords.iter().map(value).collect())
}

/// Values with their types.
pub(super) fn typed_values(values: &[TagValue], limit: Option<usize>) -> String {
    value_list(values, limit, |out, value| {
        let mut object = Object::begin(out);
        object.text("type", value.kind);
        object.text("value", &value.value);
        object.end();
    })
}

/// Values alone.
pub(super) fn plain_values(values: &[TagValue], limit: Option<usize>) -> String {
    value_list(values, limit, |out, value| json::string(out, &value.value))
}

fn value_list(
    values: &[TagValue],
    limit: Option<usize>,
    write: fn(&mut String, &TagValue),
) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    let some = values.iter().take(limit.unwrap_or(usize::MAX));
    json::array(object.key("tagValues"), some, write);
    object.raw("metrics", "{}");
    object.end();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Vec<(TagScope, String)> {
        [
            (TagScope::Resource, "service.name"),
            (TagScope::Span, "http.method"),
            (TagScope::Span, "service.name"),
        ]
        .map(|(scope, name)| (scope, name.to_owned()))
        .to_vec()
    }

    #[test]
    fn names_by_scope() {
        let check = |only, limit, expect: &str| {
            let expect = format!("{{\"scopes\":[{expect}],\"metrics\":{{}}}}");
            assert_eq!(scopes(&found(), only, limit), expect);
        };
        let resource = r#"{"name":"resource","tags":["service.name"]}"#;
        let span = r#"{"name":"span","tags":["http.method"]}"#;
        let intrinsic = r#"{"name":"intrinsic","tags":["duration"]}"#;
        check(None, Some(1), &format!("{resource},{span},{intrinsic}"));
        check(Some(TagScope::Resource), None, resource);
        check(Some(TagScope::Link), None, "");
        let all = r#"{"name":"span","tags":["http.method","service.name"]}"#;
        check(Some(TagScope::Span), None, all);
    }

    #[test]
    fn names_alone() {
        for (only, limit, expect) in [
            (None, None, r#"["http.method","service.name"]"#),
            (None, Some(1), r#"["http.method"]"#),
            (Some(TagScope::Resource), None, r#"["service.name"]"#),
            (Some(TagScope::Intrinsic), Some(2), r#"["duration","kind"]"#),
        ] {
            let expect = format!("{{\"tagNames\":{expect},\"metrics\":{{}}}}");
            assert_eq!(names(&found(), only, limit), expect);
        }
    }

    #[test]
    fn values() {
        let values = built_in_values("status").unwrap();
        assert_eq!(
            typed_values(&values, Some(1)),
            r#"{"tagValues":[{"type":"keyword","value":"error"}],"metrics":{}}"#
        );
        let plain = r#"{"tagValues":["error","ok","unset"],"metrics":{}}"#;
        assert_eq!(plain_values(&values, None), plain);
        assert_eq!(built_in_values("duration"), Some(Vec::new()));
        assert_eq!(built_in_values("name"), None);
    }

    #[test]
    fn scopes_by_name() {
        let check = |query: &str| scope(&Params::from_query(query)).map_err(|e| e.text);
        for (query, expect) in [
            ("", None),
            ("scope=none", None),
            ("scope=span", Some(TagScope::Span)),
            ("scope=intrinsic", Some(TagScope::Intrinsic)),
        ] {
            assert_eq!(check(query), Ok(expect), "{query}");
        }
        assert_eq!(check("scope=x"), Err("invalid scope: x".to_owned()));
    }
}
