//! Figures of the metrics that are made of spans, by tenant, with the names that Tempo gives those of
//! its metrics generator. `registry` gathers them.

use super::registry::Family;
use crate::process::generator::Figures;
use crate::tenants::Tenants;

/// A figure: its name, its kind and its help, the reason that is its label, and its value.
type Figure = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    fn(&Figures) -> u64,
);

const DISCARDED: &str = "tempo_metrics_generator_spans_discarded_total";
const DISCARDED_HELP: &str = "Spans that metrics were not made of, by reason.";

const FIGURES: [Figure; 15] = [
    (
        "tempo_metrics_generator_spans_received_total",
        "counter",
        "Spans that metrics could be made of.",
        None,
        |of| of.received,
    ),
    (
        DISCARDED,
        "counter",
        DISCARDED_HELP,
        Some("outside_metrics_ingestion_slack"),
        |of| of.outside_slack,
    ),
    (
        DISCARDED,
        "counter",
        DISCARDED_HELP,
        Some("span_metrics_filtered"),
        |of| of.filtered,
    ),
    (
        "tempo_metrics_generator_repeated_requests_total",
        "counter",
        "Requests that came again and were not counted again.",
        None,
        |of| of.repeated,
    ),
    (
        "tempo_metrics_generator_registry_active_series",
        "gauge",
        "Series of spans that there are, or that those may come to have.",
        None,
        |of| of.active_series,
    ),
    (
        "tempo_metrics_generator_registry_max_active_series",
        "gauge",
        "How many of them there may be, 0 for any number.",
        None,
        |of| of.max_active_series,
    ),
    (
        "tempo_metrics_generator_registry_series_added_total",
        "counter",
        "Series of spans that were begun.",
        None,
        |of| of.added,
    ),
    (
        "tempo_metrics_generator_registry_series_removed_total",
        "counter",
        "Series of spans that ended.",
        None,
        |of| of.removed,
    ),
    (
        "tempo_metrics_generator_registry_series_limited_total",
        "counter",
        "Spans and edges that were not counted since there are too many series.",
        None,
        |of| of.limited,
    ),
    (
        "tempo_metrics_generator_registry_collections_total",
        "counter",
        "Rounds in which series of spans were stored.",
        None,
        |of| of.rounds,
    ),
    (
        "tempo_metrics_generator_registry_collections_failed_total",
        "counter",
        "Rounds that failed.",
        None,
        |of| of.rounds_failed,
    ),
    (
        "tempo_metrics_generator_processor_service_graphs_edges",
        "counter",
        "Edges between services, of one side or both.",
        None,
        |of| of.edges,
    ),
    (
        "tempo_metrics_generator_processor_service_graphs_expired_edges",
        "counter",
        "Edges whose other side did not come in time.",
        None,
        |of| of.expired_edges,
    ),
    (
        "tempo_metrics_generator_processor_service_graphs_dropped_spans",
        "counter",
        "Spans that could not wait for the other side since too many do.",
        None,
        |of| of.dropped_spans,
    ),
    (
        "tempo_metrics_generator_spans_waiting_bytes",
        "gauge",
        "Bytes of requests whose spans are not counted yet.",
        None,
        |of| of.waiting_bytes,
    ),
];

/// The figures of all tenants that had spans.
pub(super) fn families(tenants: &Tenants) -> Vec<Family> {
    let of_tenants = tenants.all().into_iter();
    let of_tenants = of_tenants.map(|(id, tenant)| (id, tenant.generator().figures()));
    let of_tenants: Vec<_> = of_tenants.filter(|(_, of)| of.received > 0).collect();
    let mut families: Vec<Family> = Vec::new();
    for (name, kind, help, reason, value) in FIGURES {
        if families.last().is_none_or(|family| family.name != name) {
            families.push(Family::new(name, kind, help));
        }
        for (id, of) in &of_tenants {
            let reason = reason.map(|reason| ("reason", reason.to_owned()));
            let tenant = ("tenant", id.as_str().to_owned());
            let labels = reason.into_iter().chain([tenant]).collect();
            if let Some(family) = families.last_mut() {
                family.add("", labels, value(of) as f64);
            }
        }
    }
    families
}
