//! Which spans count, by the filter policies of the settings. `span_metrics` asks for every span.

use serde_json::Value;
use trine_tracestore::ValueView;

use super::super::attributes::{Found, Held, Keys};
use super::{Arrival, kind_name, status_name};
use crate::config::generator::{
    AttributeMatch, FilterAttribute, FilterPolicy, FilterTest, PolicyMatch,
};

/// The policies. A span counts when it satisfies all that include, or one of those that are enough,
/// and none that excludes.
#[derive(Debug, Default)]
pub(super) struct Filters {
    include: Vec<Policy>,
    include_any: Vec<Policy>,
    exclude: Vec<Policy>,
}

/// Conditions, all of which must hold.
#[derive(Debug)]
struct Policy(Vec<Condition>);

#[derive(Debug)]
struct Condition {
    subject: Subject,
    test: FilterTest,
}

#[derive(Debug, Clone, Copy)]
enum Subject {
    Kind,
    Status,
    Name,
    Resource(usize),
    Span(usize),
}

impl Filters {
    /// The filters of `policies`; the attributes that they look at are added to `keys`.
    pub(super) fn new(policies: &[FilterPolicy], keys: &mut Keys) -> Self {
        let mut filters = Self::default();
        for policy in policies {
            for (told, list) in [
                (&policy.include, &mut filters.include),
                (&policy.include_any, &mut filters.include_any),
                (&policy.exclude, &mut filters.exclude),
            ] {
                list.extend(told.iter().map(|told| Policy::new(told, keys)));
            }
        }
        filters
    }

    /// Whether a span counts.
    #[inline]
    pub(super) fn take(&self, arrival: &Arrival<'_, '_, '_>, found: &Found) -> bool {
        let holds = |policy: &Policy| policy.holds(arrival, found);
        // Where only single policies are enough, one of them must hold.
        let must = !self.include.is_empty() || self.include_any.is_empty();
        (self.include_any.iter().any(holds) || must && self.include.iter().all(holds))
            && !self.exclude.iter().any(holds)
    }
}

impl Policy {
    fn new(told: &PolicyMatch, keys: &mut Keys) -> Self {
        let condition = |AttributeMatch { attribute, test }: &AttributeMatch| Condition {
            subject: match attribute {
                FilterAttribute::Kind => Subject::Kind,
                FilterAttribute::Status => Subject::Status,
                FilterAttribute::Name => Subject::Name,
                FilterAttribute::Resource(key) => Subject::Resource(keys.add(key)),
                FilterAttribute::Span(key) => Subject::Span(keys.add(key)),
            },
            test: test.clone(),
        };
        Self(told.attributes.iter().map(condition).collect())
    }

    fn holds(&self, arrival: &Arrival<'_, '_, '_>, found: &Found) -> bool {
        self.0.iter().all(|held| held.holds(arrival, found))
    }
}

impl Condition {
    fn holds(&self, arrival: &Arrival<'_, '_, '_>, found: &Found) -> bool {
        let Arrival { resource, span, .. } = arrival;
        let named = |name: Option<&'static str>| ValueView::Str(name.unwrap_or("").as_bytes());
        let value = match self.subject {
            Subject::Kind => Some(named(kind_name(span.kind))),
            Subject::Status => Some(named(status_name(span.status))),
            Subject::Name => Some(ValueView::Str(span.name)),
            Subject::Resource(place) => {
                let held = resource.values.get(place).and_then(Option::as_ref);
                held.map(Held::view)
            }
            Subject::Span(place) => found.value(span, place),
        };
        value.is_some_and(|value| self.test_holds(value))
    }

    fn test_holds(&self, value: ValueView<'_>) -> bool {
        match (&self.test, value) {
            (FilterTest::Matches(regex), ValueView::Str(text)) => regex.is_match(text),
            (FilterTest::Is(Value::String(told)), ValueView::Str(text)) => told.as_bytes() == text,
            (FilterTest::Is(Value::Bool(told)), ValueView::Bool(truth)) => *told == truth,
            (FilterTest::Is(Value::Number(told)), ValueView::Int(number)) => {
                told.as_i64() == Some(number)
            }
            (FilterTest::Is(Value::Number(told)), ValueView::Float(number)) => {
                told.as_f64() == Some(number)
            }
            _ => false,
        }
    }
}
