//! The trace store as a source of spans: the same shapes, moved over.

use std::sync::Arc;

use trine_storage::{Error, TimeRange};
use trine_tracestore as store;

use super::source::{
    AttributeColumn, AttributeRef, Batch, Batches, Column, ComparisonBatch, Condition, CountBatch,
    Effort, Filter, Intrinsic, Measure, Occurrences, Relation, Request, Scope, Source, SpanBatch,
    Test, TraceFilter, TraceRows, Value, ValuesRequest,
};

impl Source for store::Snapshot {
    fn scan(&self, request: &Request) -> Result<Batches, Error> {
        let request = match request {
            Request::Rows(rows) => store::Request::Rows(store::Rows {
                range: rows.range,
                filter: trace_filter(&rows.filter),
                projection: rows.projection.iter().map(attribute).collect(),
                enough: rows.enough,
            }),
            Request::Counts(counts) => store::Request::Counts(store::Counts {
                range: counts.range,
                filter: filter(&counts.filter),
                origin_ns: counts.origin_ns,
                bucket_ns: counts.bucket_ns,
                by: counts.by.iter().map(attribute).collect(),
                measure: measure(&counts.measure),
                groups_max: counts.groups_max,
                effort: effort(&counts.effort),
            }),
            Request::Comparison(comparison) => store::Request::Comparison(store::Comparison {
                range: comparison.range,
                filter: filter(&comparison.filter),
                selection: filter(&comparison.selection),
                selected_range: comparison.selected_range,
                origin_ns: comparison.origin_ns,
                bucket_ns: comparison.bucket_ns,
                attributes: comparison.attributes.iter().map(attribute).collect(),
                values_max: comparison.values_max,
                effort: effort(&comparison.effort),
            }),
        };
        let batches = self.scan(&request)?;
        Ok(Box::new(batches.map(|found| found.map(batch))))
    }

    fn attribute_names(&self, range: TimeRange) -> Result<Vec<(Scope, String, u64)>, Error> {
        let names = self.attribute_names(range)?.into_iter();
        Ok(names
            .map(|(scope, name, count)| (from_scope(scope), name, count))
            .collect())
    }

    fn attribute_names_of(
        &self,
        range: TimeRange,
        of: &Filter,
    ) -> Result<Vec<(Scope, String)>, Error> {
        let names = self.attribute_names_of(range, &filter(of))?.into_iter();
        Ok(names
            .map(|(scope, name)| (from_scope(scope), name))
            .collect())
    }

    fn attribute_values(&self, request: &ValuesRequest) -> Result<Vec<(Value, u64)>, Error> {
        let values = self.attribute_values(&store::ValuesRequest {
            attribute: attribute(&request.attribute),
            range: request.range,
            filter: request.filter.as_ref().map(filter),
            limit: request.limit,
        })?;
        Ok(values
            .into_iter()
            .map(|(held, count)| (value(held), count))
            .collect())
    }
}

fn trace_filter(filter: &TraceFilter) -> store::TraceFilter {
    match filter {
        TraceFilter::All => store::TraceFilter::All,
        TraceFilter::Has(filter) => store::TraceFilter::Has(self::filter(filter)),
        TraceFilter::Count {
            filter,
            least,
            most,
        } => store::TraceFilter::Count {
            filter: self::filter(filter),
            least: *least,
            most: *most,
        },
        TraceFilter::Related {
            relation,
            above,
            below,
        } => store::TraceFilter::Related {
            relation: match relation {
                Relation::Child => store::Relation::Child,
                Relation::Descendant => store::Relation::Descendant,
                Relation::Sibling => store::Relation::Sibling,
            },
            above: self::filter(above),
            below: self::filter(below),
        },
        TraceFilter::And(of) => store::TraceFilter::And(of.iter().map(trace_filter).collect()),
        TraceFilter::Or(of) => store::TraceFilter::Or(of.iter().map(trace_filter).collect()),
    }
}

fn filter(filter: &Filter) -> store::Filter {
    match filter {
        Filter::Is(condition) => store::Filter::Is(self::condition(condition)),
        Filter::And(of) => store::Filter::And(of.iter().map(self::filter).collect()),
        Filter::Or(of) => store::Filter::Or(of.iter().map(self::filter).collect()),
        Filter::Not(of) => store::Filter::Not(Box::new(self::filter(of))),
    }
}

fn condition(condition: &Condition) -> store::Condition {
    let values = |values: &[Value]| values.iter().map(to_value).collect();
    store::Condition {
        attribute: attribute(&condition.attribute),
        test: match &condition.test {
            Test::Equal(of) => store::Test::Equal(values(of)),
            Test::NotEqual(of) => store::Test::NotEqual(values(of)),
            Test::Less(value) => store::Test::Less(to_value(value)),
            Test::LessEqual(value) => store::Test::LessEqual(to_value(value)),
            Test::Greater(value) => store::Test::Greater(to_value(value)),
            Test::GreaterEqual(value) => store::Test::GreaterEqual(to_value(value)),
            Test::Matches(regex) => store::Test::Matches(regex.clone()),
            Test::NotMatches(regex) => store::Test::NotMatches(regex.clone()),
            Test::Exists => store::Test::Exists,
            Test::Missing => store::Test::Missing,
        },
    }
}

fn measure(measure: &Measure) -> store::Measure {
    match measure {
        Measure::Spans => store::Measure::Spans,
        Measure::Log2(of) => store::Measure::Log2(attribute(of)),
        Measure::Sum(of) => store::Measure::Sum(attribute(of)),
        Measure::Least(of) => store::Measure::Least(attribute(of)),
        Measure::Greatest(of) => store::Measure::Greatest(attribute(of)),
    }
}

fn effort(effort: &Effort) -> store::Effort {
    store::Effort {
        threads: effort.threads,
        stop: Arc::clone(&effort.stop),
    }
}

fn to_scope(scope: Scope) -> store::AttributeScope {
    match scope {
        Scope::Resource => store::AttributeScope::Resource,
        Scope::Span => store::AttributeScope::Span,
        Scope::Event => store::AttributeScope::Event,
        Scope::Link => store::AttributeScope::Link,
        Scope::Instrumentation => store::AttributeScope::Instrumentation,
    }
}

fn from_scope(scope: store::AttributeScope) -> Scope {
    match scope {
        store::AttributeScope::Resource => Scope::Resource,
        store::AttributeScope::Span => Scope::Span,
        store::AttributeScope::Event => Scope::Event,
        store::AttributeScope::Link => Scope::Link,
        store::AttributeScope::Instrumentation => Scope::Instrumentation,
    }
}

fn attribute(attribute: &AttributeRef) -> store::AttributeRef {
    match attribute {
        AttributeRef::Intrinsic(intrinsic) => store::AttributeRef::Intrinsic(match intrinsic {
            Intrinsic::Duration => store::Intrinsic::Duration,
            Intrinsic::Name => store::Intrinsic::Name,
            Intrinsic::Status => store::Intrinsic::Status,
            Intrinsic::StatusMessage => store::Intrinsic::StatusMessage,
            Intrinsic::Kind => store::Intrinsic::Kind,
            Intrinsic::SpanId => store::Intrinsic::SpanId,
            Intrinsic::ParentId => store::Intrinsic::ParentId,
            Intrinsic::TraceId => store::Intrinsic::TraceId,
            Intrinsic::IsRoot => store::Intrinsic::IsRoot,
            Intrinsic::TraceDuration => store::Intrinsic::TraceDuration,
            Intrinsic::RootName => store::Intrinsic::RootName,
            Intrinsic::RootServiceName => store::Intrinsic::RootServiceName,
            Intrinsic::ChildCount => store::Intrinsic::ChildCount,
        }),
        AttributeRef::Attribute { scope, key } => store::AttributeRef::Attribute {
            scope: scope.map(to_scope),
            key: key.clone(),
        },
    }
}

fn to_value(value: &Value) -> store::Value {
    match value {
        Value::Str(text) => store::Value::Str(text.clone()),
        Value::Int(number) => store::Value::Int(*number),
        Value::Float(number) => store::Value::Float(*number),
        Value::Bool(truth) => store::Value::Bool(*truth),
        Value::Array(values) => store::Value::Array(values.iter().map(to_value).collect()),
    }
}

fn value(value: store::Value) -> Value {
    match value {
        store::Value::Str(text) => Value::Str(text),
        store::Value::Int(number) => Value::Int(number),
        store::Value::Float(number) => Value::Float(number),
        store::Value::Bool(truth) => Value::Bool(truth),
        store::Value::Array(values) => Value::Array(values.into_iter().map(self::value).collect()),
    }
}

fn column(column: store::Column) -> Column {
    let dictionary = column.dictionary.into_iter().map(value).collect();
    Column {
        codes: column.codes,
        dictionary,
    }
}

fn batch(batch: store::Batch) -> Batch {
    match batch {
        store::Batch::Spans(batch) => Batch::Spans(spans(batch)),
        store::Batch::Counts(batch) => Batch::Counts(CountBatch {
            by: batch.by.into_iter().map(column).collect(),
            buckets: batch.buckets,
            exponents: batch.exponents,
            counts: batch.counts,
            values: batch.values,
            is_full: batch.is_full,
        }),
        store::Batch::Comparison(batch) => Batch::Comparison(ComparisonBatch {
            attributes: batch.attributes.into_iter().map(occurrences).collect(),
        }),
    }
}

fn occurrences(held: store::Occurrences) -> Occurrences {
    Occurrences {
        values: column(held.values),
        buckets: held.buckets,
        selected: held.selected,
        others: held.others,
    }
}

fn spans(batch: store::SpanBatch) -> SpanBatch {
    let trace = |trace: store::TraceRows| TraceRows {
        id: trace.id,
        rows: trace.rows,
        start: trace.start,
        end: trace.end,
        root_service: trace.root_service,
        root_name: trace.root_name,
    };
    let attribute = |attribute: store::AttributeColumn| AttributeColumn {
        scope: from_scope(attribute.scope),
        key: attribute.key,
        column: column(attribute.column),
    };
    SpanBatch {
        traces: batch.traces.into_iter().map(trace).collect(),
        span_ids: batch.span_ids,
        parent_ids: batch.parent_ids,
        parents: batch.parents,
        nested_left: batch.nested_left,
        nested_right: batch.nested_right,
        nested_parent: batch.nested_parent,
        starts: batch.starts,
        durations: batch.durations,
        kinds: batch.kinds,
        statuses: batch.statuses,
        names: column(batch.names),
        status_messages: column(batch.status_messages),
        events: batch.events,
        links: batch.links,
        attributes: batch.attributes.into_iter().map(attribute).collect(),
    }
}
