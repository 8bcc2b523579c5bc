//! The traces of the tenants of a request as the engine reads them. `search`, `metrics`, `values` and
//! `trace` ask here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use trine_query::budget::BudgetError;
use trine_query::traceql::source::{Batches, Filter, Request, Scope, Source, Value, ValuesRequest};
use trine_query::traceql::{Engine, QueryError};
use trine_storage::{Error, TimeRange};
use trine_tracestore::Snapshot;

use crate::api::prometheus::run::Asked;
use crate::config::Traces;
use crate::refusal::{Reason, Refusal};

/// What the tenants of the request hold at this moment; nothing of those without traces.
///
/// # Errors
/// Those of opening their engines.
pub(super) fn snapshots(asked: &Asked) -> Result<Vec<Snapshot>, Error> {
    let mut found = Vec::new();
    for (_, tenant) in &asked.tenants {
        if let Some(tenant) = tenant
            && let Some(store) = tenant.read_traces()?
        {
            found.push(store.snapshot());
        }
    }
    Ok(found)
}

/// The least of what holds for each tenant of the request.
pub(super) fn limits(asked: &Asked) -> Traces {
    let config = &asked.app.config;
    let mut ids = asked.tenants.iter().map(|(id, _)| id.as_str());
    let mut limits = config.of(ids.next().unwrap_or("")).traces.clone();
    for id in ids {
        limits.tighten(&config.of(id).traces);
    }
    limits
}

/// What runs queries.
pub(super) fn engine(asked: &Asked) -> Engine {
    Engine::with_clock(asked.limits(), Arc::clone(&asked.app.clock))
}

/// An error of a query as its client should see it.
pub(super) fn refusal(error: QueryError) -> Refusal {
    match error {
        QueryError::Source(error) => error.into(),
        QueryError::Budget(BudgetError::TimedOut | BudgetError::Canceled) => {
            Refusal::new(Reason::Timeout, error.to_string())
        }
        other => Refusal::bad(other.to_string()),
    }
}

/// An attribute of an answer.
pub(super) fn pair(key: String, value: Option<Value>) -> KeyValue {
    KeyValue {
        key,
        value: Some(AnyValue {
            value: value.map(any_value),
        }),
        ..KeyValue::default()
    }
}

fn any_value(value: Value) -> any_value::Value {
    match value {
        Value::Str(text) => any_value::Value::StringValue(text.to_string()),
        Value::Int(number) => any_value::Value::IntValue(number),
        Value::Float(number) => any_value::Value::DoubleValue(number),
        Value::Bool(truth) => any_value::Value::BoolValue(truth),
        Value::Array(values) => {
            let of_value = |value| AnyValue {
                value: Some(any_value(value)),
            };
            let values = values.into_iter().map(of_value).collect();
            any_value::Value::ArrayValue(ArrayValue { values })
        }
    }
}

/// Several stores as one. Of a trace that lies in two of them, each has its own part.
#[derive(Debug)]
pub(super) struct Several<S>(pub(super) Vec<S>);

impl<S: Source> Source for Several<S> {
    /// Batches of one store after the other: rows are in order within a store only.
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        let batches: Result<Vec<Batches>, Error> =
            self.0.iter().map(|source| source.scan(request)).collect();
        Ok(Box::new(batches?.into_iter().flatten()))
    }

    fn attribute_names(&self, range: TimeRange) -> Result<Vec<(Scope, String, u64)>, Error> {
        let mut found: BTreeMap<(Scope, String), u64> = BTreeMap::new();
        for source in &self.0 {
            for (scope, name, count) in source.attribute_names(range)? {
                *found.entry((scope, name)).or_default() += count;
            }
        }
        let found = found.into_iter();
        Ok(found
            .map(|((scope, name), count)| (scope, name, count))
            .collect())
    }

    fn attribute_names_of(
        &self,
        range: TimeRange,
        filter: &Filter,
    ) -> Result<Vec<(Scope, String)>, Error> {
        let mut found = BTreeSet::new();
        for source in &self.0 {
            found.extend(source.attribute_names_of(range, filter)?);
        }
        Ok(found.into_iter().collect())
    }

    fn attribute_values(&self, request: &ValuesRequest) -> Result<Vec<(Value, u64)>, Error> {
        if let [source] = &*self.0 {
            return source.attribute_values(request);
        }
        let mut found: Vec<(Value, u64)> = Vec::new();
        // Floats are told apart by their bits, as values are written.
        let mut places: HashMap<String, usize> = HashMap::new();
        for source in &self.0 {
            for (value, count) in source.attribute_values(request)? {
                let place = *places.entry(format!("{value:?}")).or_insert(found.len());
                match found.get_mut(place) {
                    Some((_, held)) => *held += count,
                    None => found.push((value, count)),
                }
            }
        }
        found.truncate(request.limit);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine_query::traceql::source::AttributeRef;

    /// A store of names and values alone.
    struct Fixed(Vec<(&'static str, u64)>);

    impl Source for Fixed {
        fn scan(&self, _: &Request) -> Result<Batches, Error> {
            Ok(Box::new(std::iter::empty()))
        }

        fn attribute_names(&self, _: TimeRange) -> Result<Vec<(Scope, String, u64)>, Error> {
            let all = self.0.iter();
            Ok(all
                .map(|(name, count)| (Scope::Span, (*name).to_owned(), *count))
                .collect())
        }

        fn attribute_values(&self, _: &ValuesRequest) -> Result<Vec<(Value, u64)>, Error> {
            let all = self.0.iter();
            Ok(all
                .map(|(name, count)| (Value::Str((*name).into()), *count))
                .collect())
        }
    }

    #[test]
    fn names_and_values_of_several_stores_add_up() {
        let several = Several(vec![
            Fixed(vec![("a", 1), ("b", 2)]),
            Fixed(vec![("b", 3), ("c", 4)]),
        ]);
        let span = |name: &str, count| (Scope::Span, name.to_owned(), count);
        let names = several.attribute_names(TimeRange::ALL).unwrap();
        assert_eq!(names, [span("a", 1), span("b", 5), span("c", 4)]);
        let request = |limit| ValuesRequest {
            attribute: AttributeRef::Attribute {
                scope: None,
                key: "k".to_owned(),
            },
            range: TimeRange::ALL,
            filter: None,
            limit,
        };
        let text = |name: &str, count| (Value::Str(name.into()), count);
        let values = several.attribute_values(&request(9)).unwrap();
        assert_eq!(values, [text("a", 1), text("b", 5), text("c", 4)]);
        let values = several.attribute_values(&request(1)).unwrap();
        assert_eq!(values, [text("a", 1)]);
    }
}
