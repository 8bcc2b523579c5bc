//! Names of attributes for Tempo's autocompletion, and which values they have. `tempo` and `streaming`
//! ask here; `json` writes the answers.

use std::sync::Arc;

use trine_query::traceql::source::{
    AttributeRef, Condition, Filter, Intrinsic, Scope, Source, Test, Value, ValuesRequest, keys,
};
use trine_query::traceql::{
    self,
    ast::{self, Attribute},
};
use trine_storage::TimeRange;

use super::request;
use super::source::{self, Several};
use crate::api::prometheus::run::Asked;
use crate::config::Traces;
use crate::proto::tempo::{
    MetadataMetrics, SearchTagsResponse, SearchTagsV2Response, SearchTagsV2Scope, TagValue,
};
use crate::refusal::Refusal;

/// What every span has without an attribute.
const INTRINSIC: [&str; 20] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:kind",
    "span:name",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

/// Where a name belongs, in the order of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagScope {
    /// An attribute.
    Of(Scope),
    /// What is built in.
    Intrinsic,
}

impl TagScope {
    const ALL: [Self; 6] = [
        Self::Of(Scope::Resource),
        Self::Of(Scope::Span),
        Self::Intrinsic,
        Self::Of(Scope::Event),
        Self::Of(Scope::Link),
        Self::Of(Scope::Instrumentation),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Of(Scope::Resource) => "resource",
            Self::Of(Scope::Span) => "span",
            Self::Intrinsic => "intrinsic",
            Self::Of(Scope::Event) => "event",
            Self::Of(Scope::Link) => "link",
            Self::Of(Scope::Instrumentation) => "instrumentation",
        }
    }

    /// The scope of a name; `None` for all.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, Refusal> {
        match text {
            "" | "none" => Ok(None),
            _ => match Self::ALL.into_iter().find(|scope| scope.name() == text) {
                Some(scope) => Ok(Some(scope)),
                None => Err(Refusal::bad(format!("invalid scope: {text}"))),
            },
        }
    }
}

/// What names or values are asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Of spans that begin in this range.
    pub(super) range: TimeRange,
    /// The most of them; of names, of each scope.
    pub(super) limit: Option<usize>,
    /// TraceQL that the spans satisfy. It may be half written.
    pub(super) query: String,
}

/// Names by scope: those of attributes as they were found, and what is built in.
pub(super) fn by_scope(
    asked: &Asked,
    only: Option<TagScope>,
    wanted: &Wanted,
) -> Result<SearchTagsV2Response, Refusal> {
    let limits = source::limits(asked);
    let found = names(asked, only, wanted, &limits)?;
    let mut room = Room::of(limits.tags_bytes_max);
    let scopes = TagScope::ALL
        .into_iter()
        .filter(|scope| only.is_none_or(|only| only == *scope));
    let scopes = scopes.map(|scope| {
        let of_scope = found.iter().filter(|(held, _)| *held == scope);
        let most = of_scope.take(wanted.limit.unwrap_or(usize::MAX));
        let tags = most.map_while(|(_, name)| room.take(name.clone()));
        SearchTagsV2Scope {
            name: scope.name().to_owned(),
            tags: tags.collect(),
        }
    });
    Ok(SearchTagsV2Response {
        scopes: scopes.filter(|scope| !scope.tags.is_empty()).collect(),
        metrics: Some(MetadataMetrics::default()),
    })
}

/// Names of attributes without their scope; what is built in only when it is asked for.
pub(super) fn plain(
    asked: &Asked,
    only: Option<TagScope>,
    wanted: &Wanted,
) -> Result<SearchTagsResponse, Refusal> {
    let limits = source::limits(asked);
    let found = names(asked, only, wanted, &limits)?.into_iter();
    let mut names: Vec<String> = found
        .filter(|(scope, _)| only.is_some() || *scope != TagScope::Intrinsic)
        .map(|(_, name)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut room = Room::of(limits.tags_bytes_max);
    let most = names.into_iter().take(wanted.limit.unwrap_or(usize::MAX));
    Ok(SearchTagsResponse {
        tag_names: most.map_while(|name| room.take(name)).collect(),
        metrics: Some(MetadataMetrics::default()),
    })
}

/// Room for so many bytes of text; 0 for any number.
struct Room(usize);

impl Room {
    fn of(bytes_max: usize) -> Self {
        Self(if bytes_max == 0 {
            usize::MAX
        } else {
            bytes_max
        })
    }

    /// The text, if there is room for it.
    fn take(&mut self, text: String) -> Option<String> {
        self.take_some(&text).then_some(text)
    }

    /// Whether there is room for a text, which it takes then.
    fn take_some(&mut self, text: &str) -> bool {
        let left = self.0.checked_sub(text.len());
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

fn names(
    asked: &Asked,
    only: Option<TagScope>,
    wanted: &Wanted,
    limits: &Traces,
) -> Result<Vec<(TagScope, String)>, Refusal> {
    let intrinsic = INTRINSIC.map(|name| (TagScope::Intrinsic, name.to_owned()));
    let filter = filter(&wanted.query, limits)?;
    if only == Some(TagScope::Intrinsic) {
        return Ok(intrinsic.into());
    }
    let stores = Several(source::snapshots(asked)?);
    let names: Vec<(Scope, String)> = match &filter {
        Some(filter) => stores.attribute_names_of(wanted.range, filter)?,
        None => {
            let names = stores.attribute_names(wanted.range)?.into_iter();
            names.map(|(scope, name, _)| (scope, name)).collect()
        }
    };
    let names = names
        .into_iter()
        .map(|(scope, name)| (TagScope::Of(scope), name));
    let mut found: Vec<(TagScope, String)> = names
        .filter(|(scope, _)| only.is_none_or(|only| only == *scope))
        .collect();
    if only.is_none() {
        found.extend(intrinsic);
    }
    Ok(found)
}

/// What spans must satisfy by a query that may be half written; `None` when that is nothing.
fn filter(query: &str, limits: &Traces) -> Result<Option<Filter>, Refusal> {
    request::size(query, limits)?;
    traceql::tag_filter(query, limits.condition_groups_max).map_err(source::refusal)
}

/// The values of the attribute that an identifier of TraceQL names.
pub(super) fn typed_values(
    asked: &Asked,
    name: &str,
    wanted: &Wanted,
) -> Result<Vec<Listed>, Refusal> {
    let attribute = traceql::parse_attribute(name)
        .map_err(|error| Refusal::bad(format!("please provide a valid tagName: {error}")))?;
    values(asked, attribute, wanted)
}

/// The values of an attribute of which only the texts are told. Its name may lack the dot before it.
pub(super) fn plain_values(
    asked: &Asked,
    name: &str,
    wanted: &Wanted,
) -> Result<Vec<Listed>, Refusal> {
    let attribute = traceql::parse_attribute(name).unwrap_or_else(|_| Attribute::Named {
        scope: None,
        parent: false,
        key: name.into(),
    });
    values(asked, attribute, wanted)
}

/// Values as a message has them.
pub(super) fn tag_values(values: Vec<Listed>) -> impl Iterator<Item = TagValue> {
    values.into_iter().map(|(kind, value)| TagValue {
        r#type: kind.to_owned(),
        value: value.to_string(),
    })
}

/// Values as a message has their texts.
pub(super) fn tag_texts(values: Vec<Listed>) -> impl Iterator<Item = String> {
    values.into_iter().map(|(_, value)| value.to_string())
}

/// What there is to know of the values of an attribute.
enum Values {
    /// They are always the same.
    Words(&'static [&'static str]),
    /// The store knows them, of all spans or of roots only.
    Stored(AttributeRef, Spans),
}

#[derive(PartialEq)]
enum Spans {
    All,
    Roots,
}

impl Values {
    fn of(attribute: Attribute) -> Self {
        use ast::Intrinsic as Built;
        let named = |scope, key: &str| AttributeRef::Attribute {
            scope: Some(scope),
            key: key.to_owned(),
        };
        let built_in = |intrinsic| Self::Stored(AttributeRef::Intrinsic(intrinsic), Spans::All);
        match attribute {
            Attribute::Named { scope, key, .. } => {
                let key = key.to_string();
                Self::Stored(AttributeRef::Attribute { scope, key }, Spans::All)
            }
            Attribute::Intrinsic(Built::Status) => Self::Words(&["error", "ok", "unset"]),
            Attribute::Intrinsic(Built::Kind) => Self::Words(&[
                "client",
                "consumer",
                "internal",
                "producer",
                "server",
                "unspecified",
            ]),
            Attribute::Intrinsic(Built::Name) => built_in(Intrinsic::Name),
            Attribute::Intrinsic(Built::StatusMessage) => built_in(Intrinsic::StatusMessage),
            Attribute::Intrinsic(Built::TraceRootName) => {
                Self::Stored(AttributeRef::Intrinsic(Intrinsic::Name), Spans::Roots)
            }
            Attribute::Intrinsic(Built::TraceRootService) => {
                Self::Stored(named(Scope::Resource, "service.name"), Spans::Roots)
            }
            Attribute::Intrinsic(Built::EventName) => {
                Self::Stored(named(Scope::Event, keys::EVENT_NAME), Spans::All)
            }
            Attribute::Intrinsic(Built::InstrumentationName) => Self::Stored(
                named(Scope::Instrumentation, keys::INSTRUMENTATION_NAME),
                Spans::All,
            ),
            Attribute::Intrinsic(Built::InstrumentationVersion) => Self::Stored(
                named(Scope::Instrumentation, keys::INSTRUMENTATION_VERSION),
                Spans::All,
            ),
            // Ids, durations and numbers are no list to choose from.
            Attribute::Intrinsic(_) => Self::Words(&[]),
        }
    }
}

/// Values as texts with the names of their types, sorted by these and then by the texts, as many as an
/// answer has room for.
fn values(asked: &Asked, attribute: Attribute, wanted: &Wanted) -> Result<Vec<Listed>, Refusal> {
    let limits = source::limits(asked);
    let filter = filter(&wanted.query, &limits)?;
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let mut values: Vec<Listed> = match Values::of(attribute) {
        Values::Words(words) => words
            .iter()
            .map(|word| ("keyword", (*word).into()))
            .collect(),
        Values::Stored(attribute, spans) => {
            let is_root = Filter::Is(Condition {
                attribute: AttributeRef::Intrinsic(Intrinsic::IsRoot),
                test: Test::Equal(vec![Value::Bool(true)]),
            });
            let filter = match (filter, spans) {
                (filter, Spans::All) => filter,
                (None, Spans::Roots) => Some(is_root),
                (Some(filter), Spans::Roots) => Some(Filter::And(vec![is_root, filter])),
            };
            let request = ValuesRequest {
                attribute,
                range: wanted.range,
                filter,
                // Each value takes a byte at least, but for the empty one.
                limit: match limits.tag_values_bytes_max {
                    0 => limit,
                    bytes => limit.min(bytes.saturating_add(1)),
                },
            };
            let found = Several(source::snapshots(asked)?).attribute_values(&request)?;
            let found = found.into_iter();
            found.filter_map(|(value, _)| listed(value)).collect()
        }
    };
    sort(&mut values);
    values.truncate(limit);
    let mut room = Room::of(limits.tag_values_bytes_max);
    let fit = values.iter().take_while(|(_, text)| room.take_some(text));
    let fit = fit.count();
    values.truncate(fit);
    Ok(values)
}

/// The name of the type of a value, and its text.
pub(super) type Listed = (&'static str, Arc<str>);

/// Sorts by type, then by text. Most values have a beginning in common: only what is behind it is
/// compared, eight bytes at a time.
fn sort(values: &mut Vec<Listed>) {
    let shared = match &values[..] {
        [(_, first), rest @ ..] => rest.iter().fold(first.len(), |shared, (_, text)| {
            let same = first.bytes().zip(text.bytes()).take(shared);
            same.take_while(|(a, b)| a == b).count()
        }),
        [] => return,
    };
    let key = |text: &str| {
        let mut bytes = [0; 8];
        let behind = text.as_bytes().get(shared..).unwrap_or_default();
        bytes
            .iter_mut()
            .zip(behind)
            .for_each(|(to, from)| *to = *from);
        u64::from_be_bytes(bytes)
    };
    let mut keyed: Vec<(&'static str, u64, Arc<str>)> = std::mem::take(values)
        .into_iter()
        .map(|(kind, text)| (kind, key(&text), text))
        .collect();
    keyed.sort_unstable();
    values.extend(keyed.into_iter().map(|(kind, _, text)| (kind, text)));
}

fn listed(value: Value) -> Option<Listed> {
    Some(match value {
        Value::Str(text) => ("string", text),
        Value::Int(number) => ("int", number.to_string().into()),
        Value::Float(number) => ("float", trine_query::text::format_float(number).into()),
        Value::Bool(truth) => ("bool", truth.to_string().into()),
        // The store gives the elements of arrays on their own.
        Value::Array(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_sorted_by_type_and_text() {
        let texts = [
            "user-10",
            "user-9",
            "user-1",
            "user-1\0",
            "user-100000000",
            "user-",
            "user-99999999b",
            "user-99999999a",
        ];
        let mut values: Vec<Listed> = texts
            .iter()
            .map(|text| ("string", (*text).into()))
            .collect();
        values.push(("int", "9".into()));
        for _ in 0..2 {
            let mut expect = values.clone();
            expect.sort();
            sort(&mut values);
            assert_eq!(values, expect);
            // All of one type, with something in common.
            values.remove(0);
            values.reverse();
        }
        sort(&mut Vec::new());
    }
}
