//! A request as spans of the model: what tests compare the stage with.

use std::sync::Arc;

use super::check::Plan;
use super::message::{
    AnyRef, EventRef, KeyValueRef, LinkRef, Part, ResourceRef, ScopeRef, SpanRef, items,
};
use super::wire::Read;
use crate::model::{
    AnyValue, Event, Grouped, KeyValue, Link, Resource, Scope, Span, Status, Trace,
};

/// The spans of `plan`, in order of arrival, under their resources and scopes.
pub(crate) fn read(plan: &Plan<'_>) -> Read<Trace> {
    let mut found = Grouped::default();
    let mut current: Option<(usize, Arc<Resource>, Arc<Scope>)> = None;
    for planned in &plan.spans {
        let span = span(planned.bytes)?;
        if let Some((place, resource, scope)) = &current
            && *place == planned.scope
        {
            found.push(Arc::clone(resource), Arc::clone(scope), span);
            continue;
        }
        let Some(scope) = plan.scopes.get(planned.scope) else {
            continue;
        };
        let Some(resource) = plan.resources.get(scope.resource) else {
            continue;
        };
        let resource = Arc::new(self::resource(&resource.bytes, resource.schema_url)?);
        let scope = Arc::new(self::scope(&scope.bytes, scope.schema_url)?);
        found.push(Arc::clone(&resource), Arc::clone(&scope), span);
        current = Some((planned.scope, resource, scope));
    }
    Ok(found.finish())
}

fn resource(bytes: &[u8], schema_url: &[u8]) -> Read<Resource> {
    let mut attributes = Vec::new();
    let read = ResourceRef::read(bytes, |bytes| pair(bytes, &mut attributes))?;
    Ok(Resource {
        attributes,
        dropped_attributes_count: read.dropped,
        schema_url: text(schema_url),
    })
}

fn scope(bytes: &[u8], schema_url: &[u8]) -> Read<Scope> {
    let mut attributes = Vec::new();
    let read = ScopeRef::read(bytes, |bytes| pair(bytes, &mut attributes))?;
    Ok(Scope {
        name: text(read.name),
        version: text(read.version),
        attributes,
        dropped_attributes_count: read.dropped,
        schema_url: text(schema_url),
    })
}

fn span(bytes: &[u8]) -> Read<Span> {
    let (mut attributes, mut events, mut links) = (Vec::new(), Vec::new(), Vec::new());
    let read = SpanRef::read(bytes, |part| {
        match part {
            Part::Attribute(bytes) => pair(bytes, &mut attributes)?,
            Part::Event(bytes) => events.push(event(bytes)?),
            Part::Link(bytes) => links.push(link(bytes)?),
        }
        Ok(())
    })?;
    Ok(Span {
        trace_id: read.trace_id.try_into().unwrap_or_default(),
        span_id: read.span_id.try_into().unwrap_or_default(),
        trace_state: text(read.trace_state),
        parent_span_id: read.parent(),
        name: text(read.name),
        kind: read.kind,
        start_ns: read.start_ns,
        end_ns: read.end_ns,
        attributes,
        dropped_attributes_count: read.dropped_attributes,
        events,
        dropped_events_count: read.dropped_events,
        links,
        dropped_links_count: read.dropped_links,
        status: read.status.map(|status| Status {
            code: status.code,
            message: text(status.message),
        }),
        flags: read.flags,
    })
}

fn event(bytes: &[u8]) -> Read<Event> {
    let mut attributes = Vec::new();
    let read = EventRef::read(bytes, |bytes| pair(bytes, &mut attributes))?;
    Ok(Event {
        time_ns: read.time_ns,
        name: text(read.name),
        attributes,
        dropped_attributes_count: read.dropped,
    })
}

fn link(bytes: &[u8]) -> Read<Link> {
    let mut attributes = Vec::new();
    let read = LinkRef::read(bytes, |bytes| pair(bytes, &mut attributes))?;
    Ok(Link {
        trace_id: read.trace_id.to_owned(),
        span_id: read.span_id.to_owned(),
        trace_state: text(read.trace_state),
        attributes,
        dropped_attributes_count: read.dropped,
        flags: read.flags,
    })
}

fn pair(bytes: &[u8], pairs: &mut Vec<KeyValue>) -> Read<()> {
    let read = KeyValueRef::read(bytes)?;
    pairs.push(KeyValue {
        key: String::from_utf8_lossy(read.key).into(),
        value: value(read.value)?,
    });
    Ok(())
}

/// A value that was checked, so that it is not nested too deep.
fn value(read: AnyRef<'_>) -> Read<AnyValue> {
    Ok(match read {
        AnyRef::Empty => AnyValue::Empty,
        AnyRef::String(bytes) => AnyValue::String(text(bytes)),
        AnyRef::Bool(truth) => AnyValue::Bool(truth != 0),
        AnyRef::Int(number) => AnyValue::Int(number),
        AnyRef::Double(bits) => AnyValue::Double(f64::from_bits(bits)),
        AnyRef::Array(list) => {
            let mut values = Vec::new();
            items(list, |item| {
                values.push(value(AnyRef::read(item)?)?);
                Ok(())
            })?;
            AnyValue::Array(values)
        }
        AnyRef::KeyValues(list) => {
            let mut pairs = Vec::new();
            items(list, |item| pair(item, &mut pairs))?;
            AnyValue::KeyValues(pairs)
        }
        AnyRef::Bytes(bytes) => AnyValue::Bytes(bytes.to_owned()),
    })
}

/// Text that was checked.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
