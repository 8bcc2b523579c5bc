//! Labels of the series that data points become: attributes of the point, of the resource where
//! they are promoted, of the scope, and what identifies the resource. `otlp_metrics` calls it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use crate::config::OtlpMetrics;
use crate::ingest::metric_labels::Pair;
use crate::ingest::otlp_names::Strategy;
use crate::ingest::otlp_value;
use crate::proto::otlp_metrics::{Attribute, AttributeValue, Attributes, Scope, ScopeMetrics};
use crate::proto::wire::WireError;

/// Resource attributes that `job` and `instance` are made of.
const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE_ID: &str = "service.instance.id";
const IDENTIFYING: [&str; 3] = [SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_INSTANCE_ID];

/// Attributes of one point, with those that are promoted to it, that are looked at. Each is compared
/// with all others; limits of labels are far lower.
pub(super) const ATTRIBUTES_MAX: usize = 1_024;

/// The value of an attribute as the value of a label.
pub(super) fn text<'m>(attribute: &Attribute<'m>) -> Cow<'m, str> {
    match &attribute.value {
        AttributeValue::Text(text) => Cow::Borrowed(text),
        AttributeValue::Other(value) => Cow::Owned(otlp_value::text(Some(value))),
    }
}

/// Names of labels by the keys of attributes, each translated once in a request.
#[derive(Debug)]
pub(super) struct Names<'m> {
    strategy: Strategy,
    known: HashMap<&'m str, Rc<str>>,
    /// What was asked for at each place the last time: the points of a metric have the same keys.
    recent: Vec<(&'m str, Rc<str>)>,
}

impl<'m> Names<'m> {
    pub(super) fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            known: HashMap::new(),
            recent: Vec::new(),
        }
    }

    /// The name for the key of the attribute at `place` of those that are sorted by their keys.
    fn get(&mut self, place: usize, key: &'m str) -> Rc<str> {
        if let Some((recent, name)) = self.recent.get(place)
            && *recent == key
        {
            return Rc::clone(name);
        }
        let strategy = self.strategy;
        let name = self.known.entry(key);
        let name = name.or_insert_with(|| strategy.label_name(key).into());
        let name = Rc::clone(name);
        match self.recent.get_mut(place) {
            Some(recent) => *recent = (key, Rc::clone(&name)),
            // The places before it were asked for first.
            None => self.recent.push((key, Rc::clone(&name))),
        }
        name
    }
}

/// The labels that all series of a resource have.
#[derive(Debug)]
pub(super) struct ResourceLabels {
    /// `job` and `instance`, which win over everything else.
    identity: Vec<(Rc<str>, String)>,
    /// Promoted attributes of resource and scope, which everything else wins over.
    promoted: Vec<(Rc<str>, String)>,
    /// How many of them are the resource's.
    of_resource: usize,
}

impl ResourceLabels {
    pub(super) fn of<'m>(
        attributes: &Attributes<'m>,
        settings: &OtlpMetrics,
        names: &mut Names<'m>,
    ) -> Self {
        let attributes = &attributes.list;
        let attribute = |key: &str| {
            let pair = attributes.iter().find(|pair| pair.key == key)?;
            Some(text(pair).into_owned()).filter(|value| !value.is_empty())
        };
        let job = match (attribute(SERVICE_NAMESPACE), attribute(SERVICE_NAME)) {
            (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
            (_, name) => name,
        };
        let identity = [("job", job), ("instance", attribute(SERVICE_INSTANCE_ID))];
        let identity = identity.into_iter();
        let promoted = attributes.iter().filter(|pair| {
            let among = |keys: &[String]| keys.iter().any(|key| *key == pair.key);
            match settings.promote_all_resource_attributes {
                true => !among(&settings.ignore_resource_attributes),
                false => among(&settings.promote_resource_attributes),
            }
        });
        let promoted: Vec<(Rc<str>, String)> = promoted
            .enumerate()
            .map(|(place, pair)| (names.get(place, pair.key), text(pair).into_owned()))
            .filter(|(name, _)| !name.is_empty())
            .collect();
        Self {
            identity: identity
                .filter_map(|(name, value)| Some((name.into(), value?)))
                .collect(),
            of_resource: promoted.len(),
            promoted,
        }
    }

    /// Adds what the scope is, in place of what another one was.
    ///
    /// # Errors
    /// [`WireError`] when it is no scope.
    pub(super) fn set_scope(
        &mut self,
        metrics: &ScopeMetrics<'_>,
        names: &Names<'_>,
    ) -> Result<(), WireError> {
        self.promoted.truncate(self.of_resource);
        let Some(message) = metrics.scope else {
            return Ok(());
        };
        let scope = Scope::read(message)?;
        let facts = [
            ("otel_scope_name", scope.name),
            ("otel_scope_version", scope.version),
            ("otel_scope_schema_url", metrics.schema_url),
        ];
        let facts = facts.map(|(name, value)| (name.into(), value.to_owned()));
        self.promoted.extend(facts);
        for pair in &scope.attributes.list {
            let name = names
                .strategy
                .label_name(&format!("otel_scope_{}", pair.key));
            self.promoted.push((name.into(), text(pair).into_owned()));
        }
        Ok(())
    }

    /// The labels of `target_info`; `None` when it would say nothing or nothing identifies the
    /// resource.
    pub(super) fn target_info<'a, 'm: 'a>(
        &'a self,
        attributes: &Attributes<'m>,
        settings: &OtlpMetrics,
        names: &mut Names<'m>,
    ) -> Option<Result<PointLabels<'a>, String>> {
        let list = &attributes.list;
        let others = list.iter().filter(|pair| !IDENTIFYING.contains(&pair.key));
        let tells = others.count() > 0 || settings.keep_identifying_resource_attributes;
        if self.identity.is_empty() || !tells {
            return None;
        }
        let keeps = |key: &str| {
            settings.keep_identifying_resource_attributes || !IDENTIFYING.contains(&key)
        };
        let kept = list.iter().filter(|pair| keeps(pair.key));
        let mut kept = Attributes {
            list: kept.cloned().collect(),
            count: attributes.count,
        };
        let identity = &self.identity;
        Some(PointLabels::sorted(&mut kept, identity, &[], names))
    }
}

/// The labels of one data point by name, without those that make its series differ.
#[derive(Debug)]
pub(super) struct PointLabels<'a>(Vec<(Rc<str>, Cow<'a, str>)>);

impl<'a> PointLabels<'a> {
    /// The labels of a point with these attributes, which are brought into order.
    ///
    /// # Errors
    /// The text that says which attribute has no name as a label.
    pub(super) fn of<'m: 'a>(
        attributes: &mut Attributes<'m>,
        shared: &'a ResourceLabels,
        names: &mut Names<'m>,
    ) -> Result<Self, String> {
        Self::sorted(attributes, &shared.identity, &shared.promoted, names)
    }

    /// Attributes whose names become the same are joined with `;` in the order of their keys.
    fn sorted<'m: 'a>(
        attributes: &mut Attributes<'m>,
        identity: &'a [(Rc<str>, String)],
        promoted: &'a [(Rc<str>, String)],
        names: &mut Names<'m>,
    ) -> Result<Self, String> {
        let count = attributes.count + promoted.len();
        if count > ATTRIBUTES_MAX {
            return Err(format!(
                "a point has {count} attributes, of which at most {ATTRIBUTES_MAX} are looked at"
            ));
        }
        let attributes = &mut attributes.list;
        attributes.sort_by(|a, b| a.key.cmp(b.key));
        let mut labels: Vec<(Rc<str>, Cow<'_, str>)> = Vec::with_capacity(attributes.len() + 4);
        for (place, pair) in attributes.iter().enumerate() {
            let name = names.get(place, pair.key);
            if name.is_empty() {
                return Err(format!(
                    "nothing is left of the name of attribute {:?}",
                    pair.key
                ));
            }
            if &*name == "__name__" || identity.iter().any(|(own, _)| *own == name) {
                continue;
            }
            let value = text(pair);
            match labels.iter_mut().find(|(earlier, _)| *earlier == name) {
                Some((_, earlier)) => {
                    let earlier = earlier.to_mut();
                    earlier.push(';');
                    earlier.push_str(&value);
                }
                None => labels.push((name, value)),
            }
        }
        for (name, value) in identity {
            labels.push((Rc::clone(name), Cow::Borrowed(value)));
        }
        for (name, value) in promoted {
            if labels.iter().all(|(held, _)| held != name) {
                labels.push((Rc::clone(name), Cow::Borrowed(value)));
            }
        }
        labels.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self(labels))
    }

    /// Gives the labels of one series of the point to `each`: with the name of its metric and
    /// the label that tells it from the others, which win over attributes of the same name.
    pub(super) fn with<T>(
        &self,
        metric: &str,
        suffix: &str,
        extra: Option<(&str, &str)>,
        each: impl FnOnce(&[Pair<'_>]) -> T,
    ) -> T {
        let name = match suffix {
            "" => Cow::Borrowed(metric),
            suffix => Cow::Owned(format!("{metric}{suffix}")),
        };
        let own = [("__name__", &*name), extra.unwrap_or_default()];
        let own = own.get(..1 + usize::from(extra.is_some()));
        let own = own.unwrap_or_default();
        let mut pairs: Vec<Pair<'_>> = Vec::with_capacity(self.0.len() + own.len());
        let mut rest = own.iter().peekable();
        for (name, value) in &self.0 {
            while let Some((own, value)) = rest.next_if(|(own, _)| **own <= **name) {
                pairs.push((own.as_bytes(), value.as_bytes()));
            }
            if own.iter().all(|(own, _)| **own != **name) {
                pairs.push((name.as_bytes(), value.as_bytes()));
            }
        }
        pairs.extend(rest.map(|(own, value)| (own.as_bytes(), value.as_bytes())));
        each(&pairs)
    }
}
