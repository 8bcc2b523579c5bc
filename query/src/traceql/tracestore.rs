//! The trace store as a source of spans: the same shapes, moved over.

use trine_storage::{Error, TimeRange};
use trine_tracestore as store;

use super::source::{
    AttributeColumn, AttributeRef, Batches, Column, CompareOp, Condition, Intrinsic, Request,
    Scope, Source, SpanBatch, TraceRows, Value,
};

impl Source for store::Snapshot {
    fn spans(&self, request: &Request) -> Result<Batches, Error> {
        let request = match request {
            Request::Rows(rows) => store::Request::Rows(store::Rows {
                range: rows.range,
                conditions: rows.conditions.iter().map(condition).collect(),
                all: rows.all,
                projection: rows.projection.iter().map(attribute).collect(),
            }),
            Request::Counts(counts) => store::Request::Counts(store::Counts {
                range: counts.range,
                conditions: counts.conditions.iter().map(condition).collect(),
                bucket_ns: counts.bucket_ns,
                by: counts.by.iter().map(attribute).collect(),
            }),
        };
        let batches = self.spans(&request)?;
        Ok(Box::new(batches.map(|found| found.map(batch))))
    }

    fn attribute_names(&self, range: TimeRange) -> Result<Vec<(Scope, String)>, Error> {
        let names = self.attribute_names(range)?;
        Ok(names
            .into_iter()
            .map(|(scope, name)| (from_scope(scope), name))
            .collect())
    }

    fn attribute_values(
        &self,
        scope: Option<Scope>,
        key: &str,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Value>, Error> {
        let values = self.attribute_values(scope.map(to_scope), key, range, limit)?;
        Ok(values.into_iter().map(value).collect())
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
        }),
        AttributeRef::Attribute { scope, key } => store::AttributeRef::Attribute {
            scope: scope.map(to_scope),
            key: key.clone(),
        },
    }
}

fn condition(condition: &Condition) -> store::Condition {
    store::Condition {
        attribute: attribute(&condition.attribute),
        op: match condition.op {
            CompareOp::Equal => store::CompareOp::Equal,
            CompareOp::NotEqual => store::CompareOp::NotEqual,
            CompareOp::Less => store::CompareOp::Less,
            CompareOp::LessEqual => store::CompareOp::LessEqual,
            CompareOp::Greater => store::CompareOp::Greater,
            CompareOp::GreaterEqual => store::CompareOp::GreaterEqual,
            CompareOp::Exists => store::CompareOp::Exists,
        },
        values: condition.values.iter().map(to_value).collect(),
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

fn batch(batch: store::SpanBatch) -> SpanBatch {
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
        attributes: batch.attributes.into_iter().map(attribute).collect(),
    }
}
