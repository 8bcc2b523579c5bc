//! `patterns`: what texts come again and again, and how often in each step.

use std::collections::BTreeMap;

use super::answer::{self, Failure};
use super::request;
use crate::api::prometheus::federation;
use crate::api::prometheus::json::{self, Object};
use crate::api::prometheus::run::Asked;
use crate::process::patterns::{BUCKET_S, Pattern};

/// The patterns of the streams that a selector finds.
pub(super) fn patterns(asked: &Asked) -> Result<String, Failure> {
    let now_ns = asked.app.clock.now_ns();
    let query = request::range_query(&asked.params, now_ns)?;
    let matchers = request::selector(&asked.params)?;
    let range = super::bounds(asked)?.range();
    let step = query.step_ns / 1_000_000_000;
    let step = (step - step % BUCKET_S).max(BUCKET_S);
    let mut sums: BTreeMap<(String, String), BTreeMap<i64, u64>> = BTreeMap::new();
    for (id, tenant) in &asked.tenants {
        let left = match asked.tenants.len() {
            1 => Some(matchers.clone()),
            _ => federation::chosen(&matchers, id.as_str()),
        };
        let (Some(tenant), Some(left)) = (tenant, left) else {
            continue;
        };
        for pattern in tenant.patterns().find(&left, range, now_ns) {
            let Pattern {
                text,
                level,
                counts,
            } = pattern;
            let counted = sums.entry((text, level)).or_default();
            for (second, count) in counts {
                let place = second - second.rem_euclid(step);
                *counted.entry(place).or_insert(0) += count;
            }
        }
    }
    let mut found: Vec<_> = sums.iter().collect();
    found.sort_by_cached_key(|(_, counts)| std::cmp::Reverse(counts.values().sum::<u64>()));
    Ok(answer::data(|out| {
        json::array(out, found, |out, ((text, level), counts)| {
            let mut object = Object::begin(out);
            object.text("pattern", text);
            object.text("level", level);
            json::array(object.key("samples"), counts, |out, (second, count)| {
                json::display(out, format_args!("[{second},{count}]"));
            });
            object.end();
        });
    }))
}
