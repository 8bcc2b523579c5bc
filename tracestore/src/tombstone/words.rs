//! Filters in the words of the catalog (`FORMAT.md`, "Deletes"). `tombstone` writes and reads them.

use serde_json::{Value as Json, json};
use trine_storage::regex::{Dot, LabelRegex};

use crate::request::{AttributeRef, Condition, Filter, Intrinsic, Scope, Test, Value};

const INTRINSICS: [(&str, Intrinsic); 13] = [
    ("duration", Intrinsic::Duration),
    ("name", Intrinsic::Name),
    ("status", Intrinsic::Status),
    ("status message", Intrinsic::StatusMessage),
    ("kind", Intrinsic::Kind),
    ("span id", Intrinsic::SpanId),
    ("parent id", Intrinsic::ParentId),
    ("trace id", Intrinsic::TraceId),
    ("is root", Intrinsic::IsRoot),
    ("trace duration", Intrinsic::TraceDuration),
    ("root name", Intrinsic::RootName),
    ("root service name", Intrinsic::RootServiceName),
    ("child count", Intrinsic::ChildCount),
];

const SCOPES: [(&str, Scope); 5] = [
    ("resource", Scope::Resource),
    ("span", Scope::Span),
    ("event", Scope::Event),
    ("link", Scope::Link),
    ("instrumentation", Scope::Instrumentation),
];

fn name_of<T: PartialEq>(names: &[(&'static str, T)], wanted: &T) -> &'static str {
    let named = names.iter().find(|(_, held)| held == wanted);
    named.map_or("", |(name, _)| name)
}

fn named<T: Copy>(names: &[(&'static str, T)], name: &str) -> Option<T> {
    let named = names.iter().find(|(held, _)| *held == name);
    named.map(|(_, held)| *held)
}

/// A filter in words.
pub(super) fn filter(held: &Filter) -> Json {
    let all = |filters: &[Filter]| filters.iter().map(filter).collect::<Vec<Json>>();
    match held {
        Filter::Is(condition) => {
            let (op, operand) = test(&condition.test);
            json!([attribute(&condition.attribute), op, operand])
        }
        Filter::And(filters) => json!({ "and": all(filters) }),
        Filter::Or(filters) => json!({ "or": all(filters) }),
        Filter::Not(held) => json!({ "not": filter(held) }),
    }
}

/// The filter that words stand for.
pub(super) fn read_filter(words: &Json) -> Option<Filter> {
    let all = |words: &Json| {
        let words = words.as_array()?.iter();
        words.map(read_filter).collect::<Option<Vec<Filter>>>()
    };
    match words {
        Json::Array(words) => {
            let [attribute, op, operand] = words.as_slice() else {
                return None;
            };
            Some(Filter::Is(Condition {
                attribute: read_attribute(attribute)?,
                test: read_test(op.as_str()?, operand)?,
            }))
        }
        Json::Object(words) if words.len() == 1 => {
            let (word, words) = words.iter().next()?;
            match word.as_str() {
                "and" => all(words).map(Filter::And),
                "or" => all(words).map(Filter::Or),
                "not" => Some(Filter::Not(Box::new(read_filter(words)?))),
                _ => None,
            }
        }
        _ => None,
    }
}

fn attribute(held: &AttributeRef) -> Json {
    match held {
        AttributeRef::Intrinsic(intrinsic) => json!(name_of(&INTRINSICS, intrinsic)),
        AttributeRef::Attribute { scope, key } => {
            let scope = scope.map(|scope| name_of(&SCOPES, &scope));
            json!([scope, key])
        }
    }
}

fn read_attribute(words: &Json) -> Option<AttributeRef> {
    if let Some(name) = words.as_str() {
        return named(&INTRINSICS, name).map(AttributeRef::Intrinsic);
    }
    let [scope, key] = words.as_array()?.as_slice() else {
        return None;
    };
    let scope = match scope {
        Json::Null => None,
        scope => Some(named(&SCOPES, scope.as_str()?)?),
    };
    let key = key.as_str()?.to_owned();
    Some(AttributeRef::Attribute { scope, key })
}

fn test(held: &Test) -> (&'static str, Json) {
    let values = |values: &[Value]| values.iter().map(value).collect::<Json>();
    match held {
        Test::Equal(held) => ("=", values(held)),
        Test::NotEqual(held) => ("!=", values(held)),
        Test::Less(held) => ("<", value(held)),
        Test::LessEqual(held) => ("<=", value(held)),
        Test::Greater(held) => (">", value(held)),
        Test::GreaterEqual(held) => (">=", value(held)),
        Test::Matches(held) => ("=~", regex(held)),
        Test::NotMatches(held) => ("!~", regex(held)),
        Test::Exists => ("exists", Json::Null),
        Test::Missing => ("missing", Json::Null),
    }
}

fn read_test(op: &str, operand: &Json) -> Option<Test> {
    let values = || {
        let values = operand.as_array()?.iter();
        values.map(read_value).collect::<Option<Vec<Value>>>()
    };
    let value = || read_value(operand);
    match op {
        "=" => values().map(Test::Equal),
        "!=" => values().map(Test::NotEqual),
        "<" => value().map(Test::Less),
        "<=" => value().map(Test::LessEqual),
        ">" => value().map(Test::Greater),
        ">=" => value().map(Test::GreaterEqual),
        "=~" => read_regex(operand).map(Test::Matches),
        "!~" => read_regex(operand).map(Test::NotMatches),
        "exists" => Some(Test::Exists),
        "missing" => Some(Test::Missing),
        _ => None,
    }
}

/// A regular expression, and whether `.` matches a newline.
fn regex(held: &LabelRegex) -> Json {
    json!([held.pattern(), held.dot() == Dot::AnyChar])
}

fn read_regex(words: &Json) -> Option<LabelRegex> {
    let [pattern, newline] = words.as_array()?.as_slice() else {
        return None;
    };
    let dot = if newline.as_bool()? {
        Dot::AnyChar
    } else {
        Dot::NotNewline
    };
    LabelRegex::with_dot(pattern.as_str()?, dot).ok()
}

/// A value. Of a float its bits, so that it comes back as it was.
fn value(held: &Value) -> Json {
    match held {
        Value::Str(text) => json!(**text),
        Value::Int(number) => json!(number),
        Value::Bool(held) => json!(held),
        Value::Float(number) => json!({ "float": number.to_bits() }),
        Value::Array(values) => values.iter().map(value).collect(),
    }
}

fn read_value(words: &Json) -> Option<Value> {
    match words {
        Json::String(text) => Some(Value::Str(text.as_str().into())),
        Json::Number(number) => number.as_i64().map(Value::Int),
        Json::Bool(held) => Some(Value::Bool(*held)),
        Json::Object(words) => {
            let bits = words.get("float")?.as_u64()?;
            Some(Value::Float(f64::from_bits(bits)))
        }
        Json::Array(words) => {
            let values = words.iter().map(read_value);
            values.collect::<Option<_>>().map(Value::Array)
        }
        Json::Null => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> Filter {
        let is = |attribute: AttributeRef, test: Test| Filter::Is(Condition { attribute, test });
        let key = |scope: Option<Scope>| AttributeRef::Attribute {
            scope,
            key: "k".into(),
        };
        let text = |text: &str| Value::Str(text.into());
        let regex = |dot| LabelRegex::with_dot("a.c", dot).unwrap();
        let tests = [
            Test::Equal(vec![text("a"), Value::Int(-1), Value::Bool(true)]),
            Test::NotEqual(vec![Value::Float(0.5), Value::Float(-0.0)]),
            Test::Less(Value::Int(i64::MAX)),
            Test::LessEqual(Value::Int(i64::MIN)),
            Test::Greater(Value::Float(f64::INFINITY)),
            Test::GreaterEqual(Value::Array(vec![Value::Int(1), Value::Int(2)])),
            Test::Matches(regex(Dot::AnyChar)),
            Test::NotMatches(regex(Dot::NotNewline)),
            Test::Exists,
            Test::Missing,
        ];
        let intrinsics = INTRINSICS.map(|(_, intrinsic)| AttributeRef::Intrinsic(intrinsic));
        let scopes = SCOPES.map(|(_, scope)| key(Some(scope)));
        let attributes = intrinsics.into_iter().chain(scopes).chain([key(None)]);
        let all = attributes.zip(tests.into_iter().cycle());
        let all = all.map(|(attribute, test)| is(attribute, test)).collect();
        Filter::And(vec![Filter::Or(all), Filter::And(vec![])])
    }

    #[test]
    fn filters_come_back_as_they_were() {
        let words = filter(&every()).to_string();
        let read = read_filter(&serde_json::from_str(&words).unwrap()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", every()));
    }

    /// The words written down in FORMAT.md, "Deletes".
    #[test]
    fn golden_words() {
        let condition = |attribute, test| Filter::Is(Condition { attribute, test });
        let key = AttributeRef::Attribute {
            scope: Some(Scope::Span),
            key: "http.status_code".into(),
        };
        let held = Filter::And(vec![
            condition(key, Test::GreaterEqual(Value::Int(500))),
            condition(
                AttributeRef::Intrinsic(Intrinsic::Name),
                Test::Equal(vec![Value::Str("GET /".into())]),
            ),
        ]);
        let words = r#"{"and":[[["span","http.status_code"],">=",500],["name","=",["GET /"]]]}"#;
        assert_eq!(filter(&held).to_string(), words);
    }

    #[test]
    fn words_that_make_no_sense_are_refused() {
        for words in [
            "null",
            "[]",
            "{}",
            r#"{"and":1}"#,
            r#"{"and":[1]}"#,
            r#"{"and":[],"or":[]}"#,
            r#"["size","exists",null]"#,
            r#"[["span"],"exists",null]"#,
            r#"[["trace","k"],"exists",null]"#,
            r#"[["span",1],"exists",null]"#,
            r#"["name","like",null]"#,
            r#"["name","=","a"]"#,
            r#"["name","=",[null]]"#,
            r#"["name","<",1.5]"#,
            r#"["name","<",{"float":"1"}]"#,
            r#"["name","=~","a"]"#,
            r#"["name","=~",["(",true]]"#,
        ] {
            let words: Json = serde_json::from_str(words).unwrap();
            assert!(read_filter(&words).is_none(), "{words}");
        }
    }
}
