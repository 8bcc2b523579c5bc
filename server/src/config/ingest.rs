//! Settings of what becomes of metrics that are sent. `config` reads them with all others.

use std::time::Duration;

use super::{Setting, value};

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

pub(super) const SETTINGS: &[Setting] = &[
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
];
