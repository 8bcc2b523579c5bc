//! Which replica of a sender is listened to. Two Prometheus servers that scrape the same targets
//! send everything twice, apart from one label; of such a pair one is elected, and the other one
//! follows when it falls silent. The remote-write handler of `ingest::http` asks.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::config::HighAvailability;
use crate::refusal::Refusal;

/// The elected replicas of one tenant, by cluster.
#[derive(Debug, Default)]
pub struct Elections(Mutex<BTreeMap<String, Elected>>);

/// A replica that is listened to.
#[derive(Debug)]
struct Elected {
    replica: String,
    /// When it was last heard, milliseconds since 1970.
    heard_ms: i64,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The sender has no replicas: store it as it is.
    Single,
    /// It comes from the elected replica: store it without the label of replicas.
    Elected,
    /// It comes from another replica: store nothing. The text says which one is elected.
    Other(String),
}

impl Elections {
    /// Judges a request of a replica of a cluster (their names; empty when the request has none).
    /// The first replica of a cluster is elected, and any other one when nothing came from it for
    /// longer than the timeout.
    ///
    /// # Errors
    /// [`Reason::Bad`](crate::refusal::Reason::Bad) when it would be one cluster too many. Those
    /// that nothing came from for longer than the timeout do not count.
    pub fn vote(
        &self,
        ha: &HighAvailability,
        cluster: String,
        replica: String,
        now_ms: i64,
    ) -> Result<Verdict, Refusal> {
        if cluster.is_empty() || replica.is_empty() {
            return Ok(Verdict::Single);
        }
        let timeout_ms = i64::try_from(ha.failover_timeout.as_millis()).unwrap_or(i64::MAX);
        let silent = |elected: &Elected| now_ms.saturating_sub(elected.heard_ms) > timeout_ms;
        let mut elections = self.0.lock();
        if let Some(elected) = elections.get_mut(&cluster) {
            if elected.replica != replica {
                if !silent(elected) {
                    return Ok(Verdict::Other(format!(
                        "replicas did not match, rejecting sample: replica={replica}, elected={}",
                        elected.replica
                    )));
                }
                elected.replica = replica;
            }
            elected.heard_ms = now_ms;
            return Ok(Verdict::Elected);
        }
        if elections.len() >= ha.clusters_max {
            elections.retain(|_, elected| !silent(elected));
        }
        if elections.len() >= ha.clusters_max {
            return Err(Refusal::bad(format!(
                "the write request has been rejected because the maximum number of \
                 high-availability (HA) clusters has been reached for this tenant (limit: {}) \
                 (err-mimir-too-many-ha-clusters); ha-max-clusters is the setting",
                ha.clusters_max
            )));
        }
        let heard_ms = now_ms;
        elections.insert(cluster, Elected { replica, heard_ms });
        Ok(Verdict::Elected)
    }
}

#[cfg(test)]
mod tests {
    use super::{Elections, HighAvailability, Verdict};

    #[test]
    fn of_two_replicas_one_is_listened_to_until_it_falls_silent() {
        let elections = Elections::default();
        let ha = HighAvailability::default();
        let timeout_ms = i64::try_from(ha.failover_timeout.as_millis()).unwrap();
        let other = |replica: &str, elected: &str| {
            Verdict::Other(format!(
                "replicas did not match, rejecting sample: replica={replica}, elected={elected}"
            ))
        };
        for (now_ms, cluster, replica, expect) in [
            (0, "", "a", Verdict::Single),
            (0, "c", "", Verdict::Single),
            (0, "c", "a", Verdict::Elected),
            (1, "c", "b", other("b", "a")),
            (1, "d", "b", Verdict::Elected),
            (10, "c", "a", Verdict::Elected),
            (10 + timeout_ms, "c", "b", other("b", "a")),
            (11 + timeout_ms, "c", "b", Verdict::Elected),
            (12 + timeout_ms, "c", "a", other("a", "b")),
            // A clock that goes back makes nobody silent.
            (0, "c", "a", other("a", "b")),
        ] {
            let got = elections.vote(&ha, cluster.into(), replica.into(), now_ms);
            assert_eq!(got.unwrap(), expect, "{replica} of {cluster} at {now_ms}");
        }
    }

    #[test]
    fn clusters_have_a_limit_and_silent_ones_do_not_count() {
        let elections = Elections::default();
        let ha = HighAvailability {
            clusters_max: 2,
            ..HighAvailability::default()
        };
        let vote = |cluster: &str, now_ms| {
            let voted = elections.vote(&ha, cluster.into(), "a".into(), now_ms);
            voted.map_err(|refusal| refusal.text)
        };
        assert_eq!(vote("a", 0), Ok(Verdict::Elected));
        assert_eq!(vote("b", 1), Ok(Verdict::Elected));
        let refused = vote("c", 2).unwrap_err();
        assert!(refused.contains("(limit: 2)"), "{refused}");
        assert_eq!(vote("a", 3), Ok(Verdict::Elected));
        assert_eq!(vote("c", 30_002), Ok(Verdict::Elected), "b fell silent");
        assert!(vote("b", 30_003).is_err());
    }
}
