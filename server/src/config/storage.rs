//! Settings of object storage: which bucket, who writes to it, how soon blocks are shipped there and how
//! much of them is kept here. `config` reads them with all others.

use std::time::Duration;

use super::{Config, Setting, value};

/// How soon blocks can be shipped at least.
const SHIP_AGE_LEAST: Duration = Duration::from_secs(60);

/// Where the data is kept beyond the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The bucket; nothing when all data is in the data directory only.
    pub url: Option<String>,
    /// Whether the server only reads what others write to the bucket.
    pub read_only: bool,
    /// How old data may be that is on this disk only.
    pub ship_age_max: Duration,
    /// Bytes a second of all uploads; zero for any number.
    pub ship_bandwidth_max: usize,
    /// Bytes that copies of shipped data may take of the disk.
    pub cache_disk_max: usize,
    /// Bytes of memory, within the memory budget, for what was read of the bucket.
    pub cache_memory_max: usize,
    /// How often a server that does not write looks for what is new.
    pub follow_interval: Duration,
    /// How long objects stay that are not needed any more.
    pub delete_delay: Duration,
    /// Requests to the bucket at a time.
    pub requests_max: usize,
    /// What other servers are told this one is called; nothing for host and process.
    pub instance_name: Option<String>,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            url: None,
            read_only: false,
            ship_age_max: Duration::from_secs(900),
            ship_bandwidth_max: 0,
            cache_disk_max: 20 << 30,
            cache_memory_max: 256 << 20,
            follow_interval: Duration::from_secs(10),
            delete_delay: Duration::from_secs(3600),
            requests_max: 64,
            instance_name: None,
        }
    }
}

impl Storage {
    /// Bytes of the memory budget that are not the engines'.
    pub fn memory_bytes(&self) -> usize {
        self.url.as_ref().map_or(0, |_| self.cache_memory_max)
    }
}

/// Checks what needs more than one setting, and switches off what cannot be with others.
pub(super) fn settle(config: &mut Config) -> Result<(), String> {
    let storage = &config.storage;
    if storage.url.is_none() {
        return match storage.read_only {
            true => Err("read-only needs storage: the bucket that is read".to_owned()),
            false => Ok(()),
        };
    }
    if storage.cache_memory_max > config.memory_budget_bytes / 2 {
        return Err("memory-budget must be at least twice cache-memory-max".to_owned());
    }
    if storage.read_only {
        config.self_observe = false;
    }
    Ok(())
}

/// A time that is not zero.
fn some_time(text: &str) -> Result<Duration, String> {
    match value::duration(text)? {
        Duration::ZERO => Err("it must be longer than 0".to_owned()),
        time => Ok(time),
    }
}

fn ship_age(text: &str) -> Result<Duration, String> {
    let age = value::duration(text)?;
    if age < SHIP_AGE_LEAST {
        return Err("it must be at least 1m".to_owned());
    }
    Ok(age)
}

/// The URL of a bucket; keys and passwords are no part of it.
fn url(text: &str) -> Result<Option<String>, String> {
    match text {
        "none" | "" => Ok(None),
        _ if text.contains("://") => Ok(Some(text.to_owned())),
        _ => Err(format!(
            "{text:?} is not a place for objects; write s3://bucket/prefix, gs://bucket/prefix, \
             az://container/prefix or file:///directory"
        )),
    }
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "storage",
        value: "URL",
        help: "Bucket that keeps the data, as s3://bucket/prefix, gs://bucket/prefix, \
               az://container/prefix or file:///directory; the data directory is then what is not \
               shipped yet, and a cache. Credentials come from the environment, by the names that each \
               cloud's own tools use [default: none]",
        apply: |config, text| value::put(&mut config.storage.url, url(text)),
    },
    Setting {
        name: "read-only",
        value: "BOOL",
        help: "Whether the server only reads what another writes to the bucket of --storage \
               [default: false]",
        apply: |config, text| value::put(&mut config.storage.read_only, value::truth(text)),
    },
    Setting {
        name: "ship-age-max",
        value: "DURATION",
        help: "How old data may be that is on this disk only; at least 1m [default: 15m]",
        apply: |config, text| value::put(&mut config.storage.ship_age_max, ship_age(text)),
    },
    Setting {
        name: "ship-bandwidth-max",
        value: "SIZE",
        help: "Bytes a second that are uploaded to the bucket, and as many that are fetched for \
               copies of what is read much; 0 for any number [default: 0]",
        apply: |config, text| {
            value::put(
                &mut config.storage.ship_bandwidth_max,
                value::size_or_none(text),
            )
        },
    },
    Setting {
        name: "cache-disk-max",
        value: "SIZE",
        help: "Disk for copies of what is in the bucket [default: 20GiB]",
        apply: |config, text| value::put(&mut config.storage.cache_disk_max, value::size(text)),
    },
    Setting {
        name: "cache-memory-max",
        value: "SIZE",
        help: "Memory, within memory-budget, for what was read of the bucket [default: 256MiB]",
        apply: |config, text| value::put(&mut config.storage.cache_memory_max, value::size(text)),
    },
    Setting {
        name: "follow-interval",
        value: "DURATION",
        help: "How often a server that does not write looks for what is new in the bucket \
               [default: 10s]",
        apply: |config, text| value::put(&mut config.storage.follow_interval, some_time(text)),
    },
    Setting {
        name: "storage-delete-delay",
        value: "DURATION",
        help: "How long objects stay in the bucket that are not needed any more, for those who read \
               an older state [default: 1h]",
        apply: |config, text| value::put(&mut config.storage.delete_delay, some_time(text)),
    },
    Setting {
        name: "storage-requests-max",
        value: "N",
        help: "Requests to the bucket at a time [default: 64]",
        apply: |config, text| value::put(&mut config.storage.requests_max, value::count(text)),
    },
    Setting {
        name: "instance-name",
        value: "TEXT",
        help: "What other servers on the bucket are told this one is called; by default host and \
               process [default: ]",
        apply: |config, text| {
            config.storage.instance_name = Some(text.to_owned()).filter(|text| !text.is_empty());
            Ok(())
        },
    },
];
