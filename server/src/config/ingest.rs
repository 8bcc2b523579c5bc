//! Settings of what becomes of metrics that are sent. `config` reads them with all others.

use std::time::Duration;

use super::{Setting, value};
use crate::ingest::otlp_names::Strategy;

/// How samples of replicas are told apart and one of them is taken. The names are Mimir's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HighAvailability {
    /// Whether one replica is chosen at all.
    pub accept: bool,
    /// The label that replicas of one sender have in common.
    pub cluster_label: String,
    /// The label that tells them apart. It is removed.
    pub replica_label: String,
    /// How long nothing may come from the chosen replica before another one is.
    pub failover_timeout: Duration,
    /// Senders with replicas that one tenant may have.
    pub clusters_max: usize,
}

impl Default for HighAvailability {
    fn default() -> Self {
        Self {
            accept: false,
            cluster_label: "cluster".to_owned(),
            replica_label: "__replica__".to_owned(),
            failover_timeout: Duration::from_secs(30),
            clusters_max: 100,
        }
    }
}

/// How OTLP metrics become series. The names are those of Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtlpMetrics {
    /// What becomes of names.
    pub translation_strategy: Strategy,
    /// Attributes of the resource that become labels of each of its series.
    pub promote_resource_attributes: Vec<String>,
    /// Whether all do, apart from those that are ignored.
    pub promote_all_resource_attributes: bool,
    /// Attributes that do not when all do.
    pub ignore_resource_attributes: Vec<String>,
    /// Whether `target_info` also has the attributes that `job` and `instance` are made of.
    pub keep_identifying_resource_attributes: bool,
    /// Whether explicit histograms become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Whether name, version, schema and attributes of the scope become labels.
    pub promote_scope_metadata: bool,
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "creation-grace-period",
        value: "DURATION",
        help: "How far ahead of the clock the timestamp of a sample or entry may lie [default: 10m]",
        apply: |config, text| value::put(&mut config.creation_grace_period, value::duration(text)),
    },
    Setting {
        name: "accept-ha-samples",
        value: "BOOL",
        help: "Whether of several replicas of one Prometheus only one is listened to [default: \
               false]",
        apply: |config, text| value::put(&mut config.ha.accept, value::truth(text)),
    },
    Setting {
        name: "ha-cluster-label",
        value: "LABEL",
        help: "Label that the replicas of one Prometheus have in common [default: cluster]",
        apply: |config, text| value::put(&mut config.ha.cluster_label, value::label(text)),
    },
    Setting {
        name: "ha-replica-label",
        value: "LABEL",
        help: "Label that tells the replicas of one Prometheus apart; it is removed [default: \
               __replica__]",
        apply: |config, text| value::put(&mut config.ha.replica_label, value::label(text)),
    },
    Setting {
        name: "ha-tracker-failover-timeout",
        value: "DURATION",
        help: "How long nothing may come from a replica before another one is listened to \
               [default: 30s]",
        apply: |config, text| value::put(&mut config.ha.failover_timeout, value::duration(text)),
    },
    Setting {
        name: "ha-max-clusters",
        value: "N",
        help: "Prometheus servers with replicas that one tenant may have [default: 100]",
        apply: |config, text| value::put(&mut config.ha.clusters_max, value::count(text)),
    },
    Setting {
        name: "otlp-translation-strategy",
        value: "WORD",
        help: "What becomes of the names of OTLP metrics: UnderscoreEscapingWithSuffixes, \
               UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation \
               [default: UnderscoreEscapingWithSuffixes]",
        apply: |config, text| {
            let place = &mut config.otlp.translation_strategy;
            value::put(place, Strategy::parse(text))
        },
    },
    Setting {
        name: "otlp-promote-resource-attributes",
        value: "KEYS",
        help: "Attributes of OTLP resources that become labels of all their metrics, with commas \
               between them [default: ]",
        apply: |config, text| {
            config.otlp.promote_resource_attributes = value::words(text);
            Ok(())
        },
    },
    Setting {
        name: "otlp-promote-all-resource-attributes",
        value: "BOOL",
        help: "Whether all attributes of OTLP resources become labels [default: false]",
        apply: |config, text| {
            let place = &mut config.otlp.promote_all_resource_attributes;
            value::put(place, value::truth(text))
        },
    },
    Setting {
        name: "otlp-ignore-resource-attributes",
        value: "KEYS",
        help: "Attributes of OTLP resources that become no labels when all others do, with commas \
               between them [default: ]",
        apply: |config, text| {
            config.otlp.ignore_resource_attributes = value::words(text);
            Ok(())
        },
    },
    Setting {
        name: "otlp-keep-identifying-resource-attributes",
        value: "BOOL",
        help: "Whether target_info has service.name, service.namespace and service.instance.id \
               beside job and instance [default: false]",
        apply: |config, text| {
            let place = &mut config.otlp.keep_identifying_resource_attributes;
            value::put(place, value::truth(text))
        },
    },
    Setting {
        name: "otlp-convert-histograms-to-nhcb",
        value: "BOOL",
        help: "Whether OTLP histograms with explicit buckets become native histograms with custom \
               buckets [default: false]",
        apply: |config, text| {
            let place = &mut config.otlp.convert_histograms_to_nhcb;
            value::put(place, value::truth(text))
        },
    },
    Setting {
        name: "otlp-promote-scope-metadata",
        value: "BOOL",
        help: "Whether name, version, schema and attributes of OTLP scopes become labels \
               (otel_scope_name and so on) [default: false]",
        apply: |config, text| {
            let place = &mut config.otlp.promote_scope_metadata;
            value::put(place, value::truth(text))
        },
    },
];
