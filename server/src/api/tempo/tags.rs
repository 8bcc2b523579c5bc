//! Names of attributes for Tempo's autocompletion, and which values they have. `tempo` and `streaming`
//! ask here; `json` writes the answers.

use std::cmp::Ordering;

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
    MetadataMetrics, SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsResponse,
    SearchTagsV2Response, SearchTagsV2Scope, TagValue,
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
        self.0 = self.0.checked_sub(text.len())?;
        Some(text)
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
) -> Result<SearchTagValuesV2Response, Refusal> {
    let attribute = traceql::parse_attribute(name)
        .map_err(|error| Refusal::bad(format!("please provide a valid tagName: {error}")))?;
    Ok(SearchTagValuesV2Response {
        tag_values: values(asked, attribute, wanted)?,
        metrics: Some(MetadataMetrics::default()),
    })
}

/// The values of an attribute as texts. Its name may lack the dot before it.
pub(super) fn plain_values(
    asked: &Asked,
    name: &str,
    wanted: &Wanted,
) -> Result<SearchTagValuesResponse, Refusal> {
    let attribute = traceql::parse_attribute(name).unwrap_or_else(|_| Attribute::Named {
        scope: None,
        parent: false,
        key: name.into(),
    });
    let values = values(asked, attribute, wanted)?.into_iter();
    Ok(SearchTagValuesResponse {
        tag_values: values.map(|value| value.value).collect(),
        metrics: Some(MetadataMetrics::default()),
    })
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

fn values(asked: &Asked, attribute: Attribute, wanted: &Wanted) -> Result<Vec<TagValue>, Refusal> {
    let limits = source::limits(asked);
    let filter = filter(&wanted.query, &limits)?;
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let mut values: Vec<TagValue> = match Values::of(attribute) {
        Values::Words(words) => {
            let word = |word: &&str| TagValue {
                r#type: "keyword".to_owned(),
                value: (*word).to_owned(),
            };
            words.iter().map(word).collect()
        }
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
            found.filter_map(|(value, _)| tag_value(value)).collect()
        }
    };
    values.sort_by(in_order);
    let mut room = Room::of(limits.tag_values_bytes_max);
    let most = values.into_iter().take(limit);
    Ok(most
        .map_while(|value| {
            let text = room.take(value.value)?;
            Some(TagValue {
                value: text,
                ..value
            })
        })
        .collect())
}

fn in_order(a: &TagValue, b: &TagValue) -> Ordering {
    (&a.r#type, &a.value).cmp(&(&b.r#type, &b.value))
}

fn tag_value(value: Value) -> Option<TagValue> {
    let (kind, value) = match value {
        Value::Str(text) => ("string", text.to_string()),
        Value::Int(number) => ("int", number.to_string()),
        Value::Float(number) => ("float", trine_query::text::format_float(number)),
        Value::Bool(truth) => ("bool", truth.to_string()),
        // The store gives the elements of arrays on their own.
        Value::Array(_) => return None,
    };
    Some(TagValue {
        r#type: kind.to_owned(),
        value,
    })
}
