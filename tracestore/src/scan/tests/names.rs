//! Names of attributes, with a filter and without.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trine_storage::TimeRange;

use super::{Places, naive, random, views};
use crate::request::{AttributeRef, Scope, ValuesRequest};
use crate::scan::{attribute_names, attribute_names_of, attribute_values};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn names_are_those_of_the_spans(spans in prop::collection::vec(random::held(), 1..20)) {
        let traces = naive::traces(&spans);
        let expected = naive::names(&traces);
        let places = Places::of(&spans, &[], &|_| false);
        let range = TimeRange::new(i64::MIN, i64::MAX);
        let found = attribute_names(&views(&places), range).unwrap();
        let found: BTreeMap<(Scope, String), u64> =
            found.into_iter().map(|(scope, name, count)| ((scope, name), count)).collect();
        prop_assert_eq!(found, expected);
        let range = TimeRange::new(5_000, 6_000);
        prop_assert!(attribute_names(&views(&places), range).unwrap().is_empty());
    }

    #[test]
    fn names_with_a_filter_are_those_of_attributes_with_values(
        spans in prop::collection::vec(random::held(), 1..20),
        cuts in prop::collection::vec(0usize..20, 0..2),
        filter in random::filter(),
    ) {
        let places = Places::of(&spans, &cuts, &|held| held.span.name.ends_with('b'));
        let views = views(&places);
        let range = TimeRange::new(i64::MIN, i64::MAX);
        let found = attribute_names_of(&views, &filter, range).unwrap();
        let all = attribute_names(&views, range).unwrap();
        let mut expected = Vec::new();
        for (scope, key, _) in all {
            let attribute = AttributeRef::Attribute { scope: Some(scope), key: key.clone() };
            let filter = Some(filter.clone());
            let request = ValuesRequest { attribute, range, filter, limit: 1 };
            if !attribute_values(&views, &request).unwrap().is_empty() {
                expected.push((scope, key));
            }
        }
        prop_assert_eq!(found, expected, "{:?}", filter);
    }
}
