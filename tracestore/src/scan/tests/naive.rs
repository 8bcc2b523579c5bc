//! Answers over spans as they came, one after the other: what the tests of reads compare with.

use std::collections::BTreeMap;
use std::sync::Arc;

use trine_storage::TimeRange;

use crate::model::{
    AnyValue, Event, KeyValue, Link, Resource, Scope as Instrumentation, Span, TraceId,
};
use crate::otlp::{Bounds, Writer};
use crate::request::{
    AttributeRef, Comparison, Counts, Filter, Intrinsic, Measure, Relation, Scope, Test,
    TraceFilter, Value, keys,
};
use crate::stage::Stage;

/// A span with what it is under.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) resource: Resource,
    pub(super) scope: Instrumentation,
    pub(super) span: Span,
}

pub(super) fn stage(spans: &[Held]) -> Stage {
    let mut writer = Writer::default();
    for held in spans {
        let (resource, scope) = (
            Arc::new(held.resource.clone()),
            Arc::new(held.scope.clone()),
        );
        writer.push(&resource, &scope, &held.span);
    }
    let bounds = Bounds {
        oldest_ns: i64::MIN,
        newest_ns: i64::MAX,
        span_bytes_max: u64::MAX,
        attributes_max: u64::MAX,
    };
    let mut stage = Stage::default();
    let accepted = stage.push_request(&writer.finish(), &bounds).unwrap();
    assert_eq!(accepted.rejected, []);
    stage
}

pub(super) fn start(span: &Span) -> i64 {
    span.start_ns as i64
}

pub(super) fn took(span: &Span) -> i64 {
    (span.end_ns as i64 - span.start_ns as i64).max(0)
}

fn kind(span: &Span) -> i32 {
    if (0..=5).contains(&span.kind) {
        span.kind
    } else {
        0
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(text: &str) -> Option<Value> {
    Some(Value::Str(text.into()))
}

/// Spans by trace, each once: the first that came counts.
pub(super) fn traces(spans: &[Held]) -> BTreeMap<TraceId, Vec<Held>> {
    let mut all: BTreeMap<TraceId, Vec<Held>> = BTreeMap::new();
    for held in spans {
        let trace = all.entry(held.span.trace_id).or_default();
        let same = |other: &Held| {
            other.span.span_id == held.span.span_id && kind(&other.span) == kind(&held.span)
        };
        if !trace.iter().any(same) {
            trace.push(held.clone());
        }
    }
    all
}

/// The value of the first attribute with a name, when queries see it.
pub(super) fn visible(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let found = attributes.iter().find(|attribute| &*attribute.key == key)?;
    let scalar = |value: &AnyValue| match value {
        AnyValue::String(text) => Some(Value::Str(text.as_str().into())),
        AnyValue::Bool(truth) => Some(Value::Bool(*truth)),
        AnyValue::Int(number) => Some(Value::Int(*number)),
        AnyValue::Double(number) => Some(Value::Float(*number)),
        _ => None,
    };
    match &found.value {
        AnyValue::Array(values) if !values.is_empty() => {
            let values: Option<Vec<Value>> = values.iter().map(scalar).collect();
            let values = values?;
            let kinds = |value: &Value| std::mem::discriminant(value);
            let same = values.iter().all(|value| kinds(value) == kinds(&values[0]));
            same.then_some(Value::Array(values))
        }
        value => scalar(value),
    }
}

/// The parent of each span in the trace. Where links run in circles, the first span of those that no
/// top leads to has none, and so on.
fn parents(trace: &[Held]) -> Vec<Option<usize>> {
    let age = |at: &usize| {
        let span = &trace[*at].span;
        (span.start_ns, span.span_id, kind(span))
    };
    // Of spans with one id the one that begins first is the parent.
    let of_id = |id| {
        (0..trace.len())
            .filter(|at| trace[*at].span.span_id == id)
            .min_by_key(age)
    };
    let parent = |held: &Held| {
        let id = held
            .span
            .parent_span_id
            .filter(|id| *id != held.span.span_id)?;
        of_id(id)
    };
    let mut parents: Vec<Option<usize>> = trace.iter().map(parent).collect();
    let mut by_age: Vec<usize> = (0..trace.len()).collect();
    by_age.sort_by_key(age);
    loop {
        let leads_to_a_top = |at: &usize| {
            let mut at = Some(*at);
            for _ in 0..=trace.len() {
                match at {
                    Some(row) => at = parents[row],
                    None => return true,
                }
            }
            false
        };
        match by_age.iter().find(|at| !leads_to_a_top(at)) {
            Some(first) => parents[*first] = None,
            None => return parents,
        }
    }
}

fn children_of(trace: &[Held], span: &Span) -> usize {
    let is_it = |held: &Held| held.span.span_id == span.span_id && kind(&held.span) == kind(span);
    let at = trace.iter().position(is_it);
    parents(trace)
        .iter()
        .filter(|parent| parent.is_some() && **parent == at)
        .count()
}

fn root(trace: &[Held]) -> Option<&Held> {
    let roots = trace
        .iter()
        .filter(|held| held.span.parent_span_id.is_none());
    roots.min_by_key(|held| (held.span.start_ns, held.span.span_id, kind(&held.span)))
}

pub(super) fn extent(trace: &[Held]) -> (i64, i64) {
    let start = trace.iter().map(|held| start(&held.span)).min().unwrap();
    let end = trace
        .iter()
        .map(|held| self::start(&held.span) + took(&held.span))
        .max();
    (start, end.unwrap())
}

pub(super) fn root_name(trace: &[Held]) -> Option<String> {
    root(trace).map(|root| root.span.name.clone())
}

pub(super) fn root_service(trace: &[Held]) -> Option<String> {
    match visible(&root(trace)?.resource.attributes, "service.name") {
        Some(Value::Str(name)) => Some(name.to_string()),
        _ => None,
    }
}

/// The value of an attribute of a span; of events and links those of each.
pub(super) fn values(trace: &[Held], held: &Held, attribute: &AttributeRef) -> Vec<Option<Value>> {
    let span = &held.span;
    let one = match attribute {
        AttributeRef::Intrinsic(intrinsic) => match intrinsic {
            Intrinsic::Duration => Some(Value::Int(took(span))),
            Intrinsic::Name => text(&span.name),
            Intrinsic::Status => {
                let code = span.status.as_ref().map_or(0, |status| status.code);
                Some(Value::Int(if code == 1 || code == 2 {
                    code.into()
                } else {
                    0
                }))
            }
            Intrinsic::StatusMessage => {
                text(span.status.as_ref().map_or("", |status| &status.message))
            }
            Intrinsic::Kind => Some(Value::Int(kind(span).into())),
            Intrinsic::SpanId => text(&hex(&span.span_id)),
            Intrinsic::ParentId => text(&span.parent_span_id.map_or(String::new(), |id| hex(&id))),
            Intrinsic::TraceId => text(&hex(&span.trace_id)),
            Intrinsic::IsRoot => Some(Value::Bool(span.parent_span_id.is_none())),
            Intrinsic::TraceDuration => {
                let (start, end) = extent(trace);
                Some(Value::Int(end - start))
            }
            Intrinsic::RootName => text(&root_name(trace).unwrap_or_default()),
            Intrinsic::RootServiceName => text(&root_service(trace).unwrap_or_default()),
            Intrinsic::ChildCount => Some(Value::Int(children_of(trace, span) as i64)),
        },
        AttributeRef::Attribute { scope, key } => match scope {
            Some(Scope::Span) => visible(&span.attributes, key),
            Some(Scope::Resource) => visible(&held.resource.attributes, key),
            Some(Scope::Instrumentation) => match key.as_str() {
                keys::INSTRUMENTATION_NAME => text(&held.scope.name),
                keys::INSTRUMENTATION_VERSION => text(&held.scope.version),
                key => visible(&held.scope.attributes, key),
            },
            None => {
                visible(&span.attributes, key).or_else(|| visible(&held.resource.attributes, key))
            }
            Some(Scope::Event) => {
                let of = |event: &Event| match key.as_str() {
                    keys::EVENT_NAME => text(&event.name),
                    keys::EVENT_TIME_SINCE_START => {
                        Some(Value::Int(event.time_ns.wrapping_sub(span.start_ns) as i64))
                    }
                    key => visible(&event.attributes, key),
                };
                return span.events.iter().map(of).collect();
            }
            Some(Scope::Link) => {
                let of = |link: &Link| match key.as_str() {
                    keys::LINK_TRACE_ID => text(&hex(&link.trace_id)),
                    keys::LINK_SPAN_ID => text(&hex(&link.span_id)),
                    key => visible(&link.attributes, key),
                };
                return span.links.iter().map(of).collect();
            }
        },
    };
    vec![one]
}

fn passes(test: &Test, value: Option<&Value>) -> bool {
    let Some(value) = value else {
        return matches!(test, Test::Missing);
    };
    if let Value::Array(values) = value {
        let mut each = values.iter().map(|value| passes(test, Some(value)));
        return match test {
            Test::NotEqual(_) | Test::NotMatches(_) => each.all(|holds| holds),
            _ => each.any(|holds| holds),
        };
    }
    // -1, 0, 1, or 2 for what does not compare; `None` for other types.
    let order = |wanted: &Value| -> Option<i32> {
        let of = |order: Option<std::cmp::Ordering>| Some(order.map_or(2, |order| order as i32));
        match (value, wanted) {
            (Value::Str(a), Value::Str(b)) => of(Some(a.as_bytes().cmp(b.as_bytes()))),
            (Value::Bool(a), Value::Bool(b)) => of(Some(a.cmp(b))),
            (Value::Int(a), Value::Int(b)) => of(Some(a.cmp(b))),
            (Value::Int(a), Value::Float(b)) => of((*a as f64).partial_cmp(b)),
            (Value::Float(a), Value::Int(b)) => of(a.partial_cmp(&(*b as f64))),
            (Value::Float(a), Value::Float(b)) => of(a.partial_cmp(b)),
            _ => None,
        }
    };
    match test {
        Test::Equal(wanted) => wanted.iter().any(|wanted| order(wanted) == Some(0)),
        Test::NotEqual(wanted) => wanted
            .iter()
            .all(|wanted| order(wanted).is_some_and(|o| o != 0)),
        Test::Less(wanted) => order(wanted) == Some(-1),
        Test::LessEqual(wanted) => order(wanted).is_some_and(|order| order <= 0),
        Test::Greater(wanted) => order(wanted) == Some(1),
        Test::GreaterEqual(wanted) => order(wanted).is_some_and(|order| order == 0 || order == 1),
        Test::Matches(regex) => matches!(value, Value::Str(text) if regex.is_match(text)),
        Test::NotMatches(regex) => matches!(value, Value::Str(text) if !regex.is_match(text)),
        Test::Exists => true,
        Test::Missing => false,
    }
}

/// The scope of a filter that one event (or link) alone can satisfy.
fn of_children(filter: &Filter) -> Option<Scope> {
    match filter {
        Filter::Is(condition) if matches!(condition.test, Test::Missing) => None,
        Filter::Is(condition) => match &condition.attribute {
            AttributeRef::Attribute {
                scope: scope @ Some(Scope::Event | Scope::Link),
                ..
            } => *scope,
            _ => None,
        },
        Filter::And(of) | Filter::Or(of) => {
            let scopes: Vec<Option<Scope>> = of.iter().map(of_children).collect();
            let first = scopes.first().copied().flatten();
            first.filter(|_| scopes.iter().all(|scope| *scope == first))
        }
        Filter::Not(_) => None,
    }
}

/// Whether the event (or link) of a number satisfies a filter about nothing else.
fn child_satisfies(trace: &[Held], held: &Held, filter: &Filter, at: usize) -> bool {
    let each = |of: &Filter| child_satisfies(trace, held, of, at);
    match filter {
        Filter::And(of) => of.iter().all(each),
        Filter::Or(of) => of.iter().any(each),
        Filter::Not(of) => !each(of),
        Filter::Is(condition) => {
            let value = &values(trace, held, &condition.attribute)[at];
            passes(&condition.test, value.as_ref())
        }
    }
}

pub(super) fn satisfies(trace: &[Held], held: &Held, filter: &Filter) -> bool {
    let some_child = |filters: &[&Filter], scope: Scope| {
        let count = match scope {
            Scope::Link => held.span.links.len(),
            _ => held.span.events.len(),
        };
        let all = |at| {
            filters
                .iter()
                .all(|of| child_satisfies(trace, held, of, at))
        };
        filters.is_empty() || (0..count).any(all)
    };
    if let Some(scope) = of_children(filter) {
        return some_child(&[filter], scope);
    }
    match filter {
        Filter::Is(condition) => {
            let found = values(trace, held, &condition.attribute);
            match condition.test {
                Test::Missing => {
                    found.iter().all(Option::is_none)
                        && !matches!(condition.attribute, AttributeRef::Intrinsic(_))
                }
                _ => passes(&condition.test, found[0].as_ref()),
            }
        }
        Filter::Not(filter) => !satisfies(trace, held, filter),
        Filter::Or(filters) => filters.iter().any(|filter| satisfies(trace, held, filter)),
        Filter::And(filters) => {
            let of = |scope: Option<Scope>| -> Vec<&Filter> {
                filters.iter().filter(|f| of_children(f) == scope).collect()
            };
            of(None).iter().all(|filter| satisfies(trace, held, filter))
                && some_child(&of(Some(Scope::Event)), Scope::Event)
                && some_child(&of(Some(Scope::Link)), Scope::Link)
        }
    }
}

pub(super) fn trace_satisfies(trace: &[Held], filter: &TraceFilter, range: TimeRange) -> bool {
    let meets = |held: &Held| {
        let began = start(&held.span);
        began < range.end && began + took(&held.span) >= range.start
    };
    trace.iter().any(meets) && has_what_it_takes(trace, filter)
}

fn has_what_it_takes(trace: &[Held], filter: &TraceFilter) -> bool {
    match filter {
        TraceFilter::All => true,
        TraceFilter::Has(filter) => trace.iter().any(|held| satisfies(trace, held, filter)),
        TraceFilter::Count {
            filter,
            least,
            most,
        } => {
            let found = trace.iter().filter(|held| satisfies(trace, held, filter));
            ((*least).max(1)..=*most).contains(&(found.count() as u64))
        }
        TraceFilter::Related {
            relation,
            above,
            below,
        } => {
            let side = |filter: &Filter| -> Vec<usize> {
                let rows = 0..trace.len();
                rows.filter(|at| satisfies(trace, &trace[*at], filter))
                    .collect()
            };
            let (above, below) = (side(above), side(below));
            let parents = parents(trace);
            let mut pairs = above
                .iter()
                .flat_map(|a| below.iter().map(move |b| (*a, *b)));
            pairs.any(|(a, b)| match relation {
                Relation::Child => parents[b] == Some(a),
                Relation::Descendant => {
                    std::iter::successors(parents[b], |at| parents[*at]).any(|at| at == a)
                }
                Relation::Sibling => {
                    let parent = |at: usize| trace[at].span.parent_span_id;
                    a != b && parent(a).is_some() && parent(a) == parent(b)
                }
            })
        }
        TraceFilter::And(filters) => filters.iter().all(|f| has_what_it_takes(trace, f)),
        TraceFilter::Or(filters) => filters.iter().any(|f| has_what_it_takes(trace, f)),
    }
}

/// The value of an attribute as one: of events and links that of the first which has it.
fn one_value(trace: &[Held], held: &Held, attribute: &AttributeRef) -> Option<Value> {
    values(trace, held, attribute).into_iter().flatten().next()
}

fn exponent(value: f64) -> i32 {
    match value {
        ..=0.0 => i32::MIN,
        f64::INFINITY => i32::MAX,
        value => (-1_100..=1_024).find(|e| value <= 2f64.powi(*e)).unwrap(),
    }
}

pub(super) fn counts(spans: &[Held], request: &Counts) -> Vec<String> {
    let measured = match &request.measure {
        Measure::Spans => None,
        Measure::Log2(a) | Measure::Sum(a) | Measure::Least(a) | Measure::Greatest(a) => Some(a),
    };
    let mut groups: BTreeMap<String, (i64, String, Option<i32>, Vec<f64>)> = BTreeMap::new();
    for trace in traces(spans).values() {
        for held in trace {
            let at = start(&held.span);
            if !request.range.contains(at) || !satisfies(trace, held, &request.filter) {
                continue;
            }
            let value = measured.map(|attribute| one_value(trace, held, attribute));
            let exact = match &value {
                Some(Some(Value::Int(number))) if *number > 0 => {
                    Some((0..64).find(|e| i128::from(*number) <= 1i128 << e).unwrap())
                }
                _ => None,
            };
            let number = match value {
                None => 0.0,
                Some(Some(Value::Int(number))) => number as f64,
                Some(Some(Value::Float(number))) if !number.is_nan() => number,
                Some(_) => continue,
            };
            let bucket = match request.bucket_ns {
                ..=0 => request.origin_ns,
                width => request.origin_ns + (at - request.origin_ns).div_euclid(width) * width,
            };
            let value = |attribute: &AttributeRef| one_value(trace, held, attribute);
            let by: Vec<Option<Value>> = request.by.iter().map(value).collect();
            let by = format!("{by:?}");
            let exponent = match request.measure {
                Measure::Log2(_) => Some(exact.unwrap_or_else(|| exponent(number))),
                _ => None,
            };
            let key = format!("{bucket} {by} {exponent:?}");
            let group = groups
                .entry(key)
                .or_insert((bucket, by, exponent, Vec::new()));
            group.3.push(number);
        }
    }
    let words = |(bucket, by, exponent, numbers): (i64, String, Option<i32>, Vec<f64>)| {
        let value = match request.measure {
            Measure::Spans | Measure::Log2(_) => None,
            Measure::Sum(_) => Some(sum(&numbers)),
            Measure::Least(_) => numbers.iter().copied().reduce(f64::min),
            Measure::Greatest(_) => numbers.iter().copied().reduce(f64::max),
        };
        // Zero is told without a sign.
        let value = value.map(|value| value + 0.0);
        format!("{bucket} {by} {exponent:?} {} {value:?}", numbers.len())
    };
    let mut found: Vec<String> = groups.into_values().map(words).collect();
    found.sort();
    found
}

/// By attribute, value (in words; none where it is not told apart) and bucket: how many selected spans
/// and how many others.
pub(super) type Compared = BTreeMap<(usize, Option<String>, i64), (u64, u64)>;

pub(super) fn comparison(spans: &[Held], request: &Comparison) -> Compared {
    let mut found = Compared::new();
    for trace in traces(spans).values() {
        for held in trace {
            let at = start(&held.span);
            if !request.range.contains(at) || !satisfies(trace, held, &request.filter) {
                continue;
            }
            let is_selected =
                request.selected_range.contains(at) && satisfies(trace, held, &request.selection);
            let bucket = match request.bucket_ns {
                ..=0 => request.origin_ns,
                width => request.origin_ns + (at - request.origin_ns).div_euclid(width) * width,
            };
            for (number, attribute) in request.attributes.iter().enumerate() {
                let Some(value) = one_value(trace, held, attribute) else {
                    continue;
                };
                let counts = found.entry((number, Some(format!("{value:?}")), bucket));
                let counts = counts.or_insert((0, 0));
                match is_selected {
                    true => counts.0 += 1,
                    false => counts.1 += 1,
                }
            }
        }
    }
    found
}

/// Exact: finite numbers of the tests are multiples of a half.
fn sum(numbers: &[f64]) -> f64 {
    if numbers.iter().all(|number| number.is_finite()) {
        let halves: i128 = numbers.iter().map(|number| (number * 2.0) as i128).sum();
        return halves as f64 / 2.0;
    }
    numbers.iter().sum()
}

pub(super) fn is_of_children(attribute: &AttributeRef) -> bool {
    matches!(
        attribute,
        AttributeRef::Attribute {
            scope: Some(Scope::Event | Scope::Link),
            ..
        }
    )
}

pub(super) fn distinct(
    spans: &[Held],
    attribute: &AttributeRef,
    filter: Option<&Filter>,
    range: TimeRange,
) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for trace in traces(spans).values() {
        for held in trace {
            let is_in = range.contains(start(&held.span));
            if is_in && filter.is_none_or(|filter| satisfies(trace, held, filter)) {
                for value in values(trace, held, attribute).into_iter().flatten() {
                    let values = match value {
                        Value::Array(values) => values,
                        value => vec![value],
                    };
                    for value in values {
                        *found.entry(format!("{value:?}")).or_insert(0) += 1;
                    }
                }
            }
        }
    }
    found
}

pub(super) fn names(traces: &BTreeMap<TraceId, Vec<Held>>) -> BTreeMap<(Scope, String), u64> {
    let mut found = BTreeMap::new();
    let mut add = |scope: Scope, attributes: &[KeyValue]| {
        let names: std::collections::BTreeSet<&str> =
            attributes.iter().map(|attribute| &*attribute.key).collect();
        for name in names
            .into_iter()
            .filter(|name| visible(attributes, name).is_some())
        {
            *found.entry((scope, name.to_owned())).or_insert(0) += 1;
        }
    };
    for held in traces.values().flatten() {
        add(Scope::Span, &held.span.attributes);
        add(Scope::Resource, &held.resource.attributes);
        add(Scope::Instrumentation, &held.scope.attributes);
        held.span
            .events
            .iter()
            .for_each(|event| add(Scope::Event, &event.attributes));
        held.span
            .links
            .iter()
            .for_each(|link| add(Scope::Link, &link.attributes));
    }
    found
}
