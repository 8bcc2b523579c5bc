//! Figures of the bucket: requests, caches, what queries cost, who writes, and how far each store has come. `registry`
//! gathers them; there are none where there is no bucket.

use trine_storage::remote::{DepotsStats, StoreStats, Verb};

use super::query_cost::QueryCosts;
use super::registry::Family;
use crate::storage::Storage;

type Labels = Vec<(&'static str, String)>;

/// All figures, at `now_ms` since 1970.
pub(super) fn families(storage: Option<&Storage>, costs: &QueryCosts, now_ms: i64) -> Vec<Family> {
    let Some(storage) = storage else {
        return Vec::new();
    };
    let stats = storage.depots().stats();
    let mut families = of_requests(&stats);
    families.extend(of_caches(&stats));
    families.extend(costs.families());
    families.extend(of_process(&stats));
    families.extend(of_stores(&stats, now_ms));
    families
}

fn family(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    points: impl IntoIterator<Item = (Labels, f64)>,
) -> Family {
    let mut family = Family::new(name, kind, help);
    for (labels, value) in points {
        family.add("", labels, value);
    }
    family
}

fn alone(value: f64) -> [(Labels, f64); 1] {
    [(Vec::new(), value)]
}

fn by(name: &'static str, values: &[(&str, u64)]) -> Vec<(Labels, f64)> {
    let points = values.iter();
    points
        .map(|(label, value)| (vec![(name, (*label).to_owned())], *value as f64))
        .collect()
}

fn of_requests(stats: &DepotsStats) -> Vec<Family> {
    let counted = &stats.counted;
    let by_verb = |values: &[u64]| {
        let values: Vec<(&str, u64)> = Verb::ALL
            .iter()
            .map(|verb| verb.name())
            .zip(values.iter().copied())
            .collect();
        by("verb", &values)
    };
    vec![
        family(
            "trine_storage_requests_total",
            "counter",
            "Requests that were sent to the bucket, repeated ones too.",
            by_verb(&counted.requests),
        ),
        family(
            "trine_storage_errors_total",
            "counter",
            "Requests to the bucket that failed.",
            by_verb(&counted.errors),
        ),
        family(
            "trine_storage_retries_total",
            "counter",
            "Requests that were sent to the bucket again.",
            alone(counted.retries as f64),
        ),
        family(
            "trine_storage_throttled_total",
            "counter",
            "Requests that the bucket refused because there were too many.",
            alone(counted.throttled as f64),
        ),
        family(
            "trine_storage_bytes_total",
            "counter",
            "Bytes of objects that came from the bucket, and that were sent there.",
            by(
                "direction",
                &[("in", counted.bytes_in), ("out", counted.bytes_out)],
            ),
        ),
    ]
}

fn of_caches(stats: &DepotsStats) -> Vec<Family> {
    let cache = &stats.cache;
    vec![
        family(
            "trine_storage_cache_bytes",
            "gauge",
            "Bytes of pages of remote blocks that are kept.",
            by(
                "tier",
                &[("memory", cache.memory_bytes), ("disk", cache.disk_bytes)],
            ),
        ),
        family(
            "trine_storage_cache_hits_total",
            "counter",
            "Pages of remote blocks that were found here.",
            by(
                "tier",
                &[("memory", cache.memory_hits), ("disk", cache.disk_hits)],
            ),
        ),
        family(
            "trine_storage_cache_misses_total",
            "counter",
            "Pages of remote blocks that had to be fetched.",
            alone(cache.misses as f64),
        ),
        family(
            "trine_storage_copies_bytes",
            "gauge",
            "Bytes of local copies of shipped blocks.",
            alone(stats.copies.bytes as f64),
        ),
        family(
            "trine_storage_evicted_total",
            "counter",
            "Local copies of shipped blocks that had to go.",
            alone(stats.copies.evicted as f64),
        ),
        family(
            "trine_storage_copies_fetched_total",
            "counter",
            "Local copies that were fetched of shipped blocks that are read much.",
            alone(stats.copies.fetched as f64),
        ),
        family(
            "trine_storage_copies_fetched_bytes_total",
            "counter",
            "Bytes of the local copies that were fetched.",
            alone(stats.copies.fetched_bytes as f64),
        ),
        family(
            "trine_storage_swept_total",
            "counter",
            "Objects that were removed from the bucket since nobody needs them.",
            alone(stats.swept as f64),
        ),
    ]
}

fn of_process(stats: &DepotsStats) -> Vec<Family> {
    let epoch = match stats.role {
        trine_storage::depot::Role::Writer { epoch } => epoch,
        _ => 0,
    };
    vec![
        family(
            "trine_storage_lease_held",
            "gauge",
            "Whether this server surely has the lease of the bucket.",
            alone(f64::from(u8::from(stats.is_lease_held))),
        ),
        family(
            "trine_storage_epoch",
            "gauge",
            "The epoch in which this server writes to the bucket, 0 when it does not.",
            alone(epoch as f64),
        ),
    ]
}

/// A figure of a store: its name, its help and its value, where there is one.
type Figure = (
    &'static str,
    &'static str,
    fn(&StoreStats, i64) -> Option<f64>,
);

const FOLLOW_AGE: &str = "trine_storage_follow_age_seconds";

const FIGURES: [Figure; 6] = [
    (
        "trine_storage_unshipped_blocks",
        "Blocks that are on this disk only.",
        |of, _| Some(of.state.unshipped_blocks as f64),
    ),
    (
        "trine_storage_unshipped_bytes",
        "Bytes of blocks that are on this disk only.",
        |of, _| Some(of.state.unshipped_bytes as f64),
    ),
    (
        "trine_storage_unshipped_age_seconds",
        "How long the oldest block is on this disk only.",
        |of, now_ms| {
            Some(
                of.state
                    .unshipped_since_ms
                    .map_or(0.0, |ms| age(ms, now_ms)),
            )
        },
    ),
    (
        "trine_storage_catalog_version",
        "The version of the bucket's catalog that is served.",
        |of, _| Some(of.state.version as f64),
    ),
    (
        FOLLOW_AGE,
        "How long ago the bucket last said what is newest.",
        |of, now_ms| (of.state.followed_ms > 0).then(|| age(of.state.followed_ms, now_ms)),
    ),
    (
        "trine_storage_quarantined_blocks",
        "Blocks of the bucket that are damaged and not served.",
        |of, _| Some(of.state.quarantined.len() as f64),
    ),
];

fn age(ms: i64, now_ms: i64) -> f64 {
    now_ms.saturating_sub(ms).max(0) as f64 / 1000.0
}

fn of_stores(stats: &DepotsStats, now_ms: i64) -> Vec<Family> {
    // Who writes has no need to follow.
    let is_told = |name: &str| !stats.role.is_writer() || name != FOLLOW_AGE;
    let of = |(name, help, value): Figure| {
        let points = stats.stores.iter().filter_map(|store| {
            let labels = vec![
                ("signal", store.name.signal.clone()),
                ("tenant", store.name.tenant.clone()),
            ];
            Some((labels, value(store, now_ms)?))
        });
        family(name, "gauge", help, points)
    };
    let told = FIGURES.into_iter().filter(|(name, ..)| is_told(name));
    told.map(of).collect()
}

#[cfg(test)]
mod tests {
    use trine_storage::depot::{Role, ShipState};
    use trine_storage::remote::{CacheStats, CopiesStats, Counted, StoreName};

    use super::*;
    use crate::observe::registry::text;

    #[test]
    fn stores_are_told_by_tenant_and_signal() {
        let store = StoreStats {
            name: StoreName::new("t", "logs"),
            state: ShipState {
                unshipped_blocks: 3,
                unshipped_since_ms: Some(4_000),
                ..ShipState::default()
            },
            failed_since_ms: None,
        };
        let mut stats = DepotsStats {
            role: Role::ReadOnly,
            is_lease_held: false,
            counted: Counted::default(),
            cache: CacheStats::default(),
            copies: CopiesStats::default(),
            swept: 0,
            stores: vec![store],
        };
        let never_asked = text(&of_stores(&stats, 10_000));
        for expect in [
            "trine_storage_unshipped_blocks{signal=\"logs\",tenant=\"t\"} 3\n",
            "trine_storage_unshipped_age_seconds{signal=\"logs\",tenant=\"t\"} 6\n",
        ] {
            assert!(never_asked.contains(expect), "{never_asked}");
        }
        assert!(!never_asked.contains("follow_age"), "{never_asked}");
        stats.stores[0].state.followed_ms = 3_000;
        assert!(
            text(&of_stores(&stats, 10_000))
                .contains("follow_age_seconds{signal=\"logs\",tenant=\"t\"} 7\n")
        );
        stats.role = Role::Writer { epoch: 1 };
        let writes = text(&of_stores(&stats, 10_000));
        assert!(!writes.contains("follow_age"), "{writes}");
    }

    #[test]
    fn there_is_nothing_to_tell_without_a_bucket() {
        assert!(families(None, &QueryCosts::default(), 0).is_empty());
    }
}
