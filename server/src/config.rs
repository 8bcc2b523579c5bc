//! Configuration: one table of settings that are flags, environment variables and keys of the
//! configuration file at once. `main` loads it; everything else reads the fields of [`Config`].
//!
//! A flag wins over the environment, the environment over the file, the file over the default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use trine_query::promql::ParseOptions;

mod file;
pub mod generator;
mod ingest;
mod logs;
mod places;
mod storage;
mod traces;
mod value;

pub use generator::Generator;
pub use ingest::{HighAvailability, OtlpMetrics};
pub use logs::{Action, Logs, OtlpLogs, rfc3339, shown as limits_of_logs};
pub use places::{Copying, Place};
pub use storage::Storage;
pub use traces::{Traces, shown as limits_of_traces};

/// What the server is told. [`Config::default`] is what it does when it is told nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Addresses to listen on; none means the standard ports on loopback (`listen`).
    pub listen: Vec<SocketAddr>,
    /// The directory that holds everything.
    pub data_dir: PathBuf,
    /// How long data is kept; `None` keeps everything.
    pub retention: Option<Duration>,
    /// Bytes of memory that heads, caches and bodies may use together.
    pub memory_budget_bytes: usize,
    /// Bytes of one request body as it comes over the wire.
    pub body_bytes_max: usize,
    /// Bytes of one request body after it was unpacked.
    pub decoded_bytes_max: usize,
    /// Tenants that may exist.
    pub tenants_max: usize,
    /// Write requests that are worked on at a time.
    pub appends_max: usize,
    /// Queries that are worked on at a time.
    pub queries_max: usize,
    /// Remote reads that are worked on at a time.
    pub remote_reads_max: usize,
    /// Requests of one class that may wait for their turn.
    pub waiting_max: usize,
    /// How long one query may take.
    pub query_timeout: Duration,
    /// Samples that one query may load.
    pub query_samples_max: usize,
    /// Series that one query over logs may make or return.
    pub query_series_max: usize,
    /// How long a shutdown waits for requests in progress.
    pub shutdown_timeout: Duration,
    /// What the server logs: a level, or directives as `tracing` filters write them.
    pub log_level: String,
    /// Whether the server stores its own metrics, logs and traces in the tenant `trine`.
    pub self_observe: bool,
    /// A path under which every API answers too; it begins with a slash and does not end with one.
    pub http_prefix: Option<String>,
    /// Whether Prometheus' API may delete series and make snapshots.
    pub enable_admin_api: bool,
    /// Whether clients may ask the server to end.
    pub enable_lifecycle: bool,
    /// Whose build information the metrics API answers with.
    pub metrics_api: MetricsApi,
    /// What of PromQL is switched on.
    pub promql: Promql,
    /// Limits of log entries and metric series.
    pub limits: Limits,
    /// How far ahead of the clock the timestamp of a sample or entry may lie.
    pub creation_grace_period: Duration,
    /// What becomes of metrics that several replicas of one sender send.
    pub ha: HighAvailability,
    /// How OTLP metrics become series.
    pub otlp: OtlpMetrics,
    /// Limits of logs.
    pub logs: Logs,
    /// Limits of queries over traces.
    pub traces: Traces,
    /// What is made of spans.
    pub generator: Generator,
    /// Where the data is kept beyond the data directory.
    pub storage: Storage,
    /// Tenants for whom other limits hold, with all that holds for them.
    pub overrides: BTreeMap<String, Config>,
    /// The settings that were told, as they were written.
    pub told: Vec<(&'static str, String)>,
}

/// What of PromQL is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promql {
    /// Functions and aggregations that Prometheus calls experimental.
    pub experimental_functions: bool,
    /// Whether a name that an operation takes away stays until the end of the query.
    pub delayed_name_removal: bool,
    /// Whether counters begin where their start timestamps say.
    pub start_timestamps: bool,
}

impl Default for Promql {
    fn default() -> Self {
        Self {
            experimental_functions: true,
            delayed_name_removal: false,
            start_timestamps: false,
        }
    }
}

impl Promql {
    /// The part of the language that is switched on.
    pub fn parse_options(&self) -> ParseOptions {
        ParseOptions {
            experimental_functions: self.experimental_functions,
            ..ParseOptions::default()
        }
    }
}

/// What the metrics API says it is. Clients offer more or less for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsApi {
    /// Prometheus 3.
    Prometheus,
    /// Grafana Mimir.
    Mimir,
}

/// What one stream, entry or series may be. Past a limit it is refused; the rest of its request
/// is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Labels of one metric series.
    pub metric_labels_max: usize,
    /// Bytes of one metric label's name.
    pub metric_label_name_bytes_max: usize,
    /// Bytes of one metric label's value.
    pub metric_label_value_bytes_max: usize,
    /// Labels of one log stream (`service_name` does not count).
    pub log_labels_max: usize,
    /// Bytes of one log label's name.
    pub log_label_name_bytes_max: usize,
    /// Bytes of one log label's value.
    pub log_label_value_bytes_max: usize,
    /// Bytes of one log line.
    pub log_line_bytes_max: usize,
    /// Bytes of one log entry's structured metadata.
    pub log_metadata_bytes_max: usize,
    /// Fields of one log entry's structured metadata.
    pub log_metadata_entries_max: usize,
    /// Attributes of one resource, span, event or link.
    pub trace_attributes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            metric_labels_max: 64,
            metric_label_name_bytes_max: 1024,
            metric_label_value_bytes_max: 8 << 10,
            log_labels_max: 15,
            log_label_name_bytes_max: 1024,
            log_label_value_bytes_max: 2048,
            log_line_bytes_max: 256 << 10,
            log_metadata_bytes_max: 64 << 10,
            log_metadata_entries_max: 128,
            trace_attributes_max: 1024,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            data_dir: "./data".into(),
            retention: None,
            memory_budget_bytes: 1 << 30,
            body_bytes_max: 32 << 20,
            decoded_bytes_max: 64 << 20,
            tenants_max: 1000,
            appends_max: 16,
            queries_max: 8,
            remote_reads_max: 10,
            waiting_max: 256,
            query_timeout: Duration::from_secs(120),
            query_samples_max: 50_000_000,
            query_series_max: 100_000,
            shutdown_timeout: Duration::from_secs(20),
            log_level: "info".to_owned(),
            self_observe: true,
            http_prefix: None,
            enable_admin_api: false,
            enable_lifecycle: false,
            metrics_api: MetricsApi::Prometheus,
            promql: Promql::default(),
            limits: Limits::default(),
            creation_grace_period: Duration::from_secs(600),
            ha: HighAvailability::default(),
            otlp: OtlpMetrics::default(),
            logs: Logs::default(),
            traces: Traces::default(),
            generator: Generator::default(),
            storage: Storage::default(),
            overrides: BTreeMap::new(),
            told: Vec::new(),
        }
    }
}

impl Config {
    /// What holds for a tenant.
    pub fn of(&self, tenant: &str) -> &Self {
        self.overrides.get(tenant).unwrap_or(self)
    }

    /// Applies what the file says of single tenants to what holds for all.
    fn override_for(&mut self, overrides: &[file::Override]) -> Result<(), String> {
        for told in overrides {
            let place = format!("{}: overrides of {}", told.path, told.tenant);
            let name = told.name.replace('_', "-");
            let setting = logs::own_name(&name)
                .or_else(|| traces::own_name(&name))
                .or_else(|| generator::own_name(&name))
                .and_then(|own| settings().find(|setting| setting.name == own))
                .ok_or_else(|| format!("{place}: no setting {:?} of one tenant", told.name))?;
            let base = self.overrides.remove(&told.tenant);
            let mut own = base.unwrap_or_else(|| self.clone_for_one());
            (setting.apply)(&mut own, &told.value)
                .map_err(|why| format!("{place}: {}: {why}", told.name))?;
            self.overrides.insert(told.tenant.clone(), own);
        }
        Ok(())
    }

    fn clone_for_one(&self) -> Self {
        Self {
            overrides: BTreeMap::new(),
            told: Vec::new(),
            ..self.clone()
        }
    }

    /// The settings as YAML.
    pub fn yaml(&self) -> String {
        let settings = self.settings();
        let lines = settings.iter();
        lines
            .map(|(name, value)| format!("{name}: {value:?}\n"))
            .collect()
    }

    /// All settings by name, as texts: what was told, else the default.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let value = |setting: &Setting| {
            let told = self.told.iter().filter(|(name, _)| *name == setting.name);
            let told: Vec<&str> = told.map(|(_, text)| text.as_str()).collect();
            let default = setting.help.split_once("[default: ");
            match (told.is_empty(), default) {
                (true, Some((_, default))) => default.trim_end_matches(']').to_owned(),
                _ => told.join(","),
            }
        };
        settings()
            .map(|setting| (setting.name, value(setting)))
            .collect()
    }
}

/// The least of two limits of which zero is none.
pub fn least<T: Ord + Default>(a: T, b: T) -> T {
    match (a == T::default(), b == T::default()) {
        (true, _) => b,
        (_, true) => a,
        _ => a.min(b),
    }
}

/// One setting: its name on the command line and how a text changes the configuration. The
/// environment writes the name in upper case after `TRINE_`, the file writes it as it is; both
/// write `_` for `-`, and the file may write either.
struct Setting {
    name: &'static str,
    value: &'static str,
    help: &'static str,
    apply: fn(&mut Config, &str) -> Result<(), String>,
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        value: "ADDR",
        help: "Address to listen on, as 127.0.0.1:9090; may be given several times. Each \
               listener speaks HTTP/1.1, HTTP/2 and gRPC and answers every API. [default: the \
               ports 9090 9009 3100 3200 4317 4318 16686 14268 9411 on loopback, those that are free]",
        apply: |config, text| {
            for part in text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
            {
                config.listen.push(value::address(part)?);
            }
            Ok(())
        },
    },
    Setting {
        name: "data-dir",
        value: "DIR",
        help: "Directory that holds everything [default: ./data]",
        apply: |config, text| value::put(&mut config.data_dir, value::path(text)),
    },
    Setting {
        name: "retention",
        value: "DURATION",
        help: "How long data is kept, as 30d or 1y; 0 keeps everything [default: 0]",
        apply: |config, text| {
            let kept = value::duration(text)?;
            config.retention = Some(kept).filter(|kept| !kept.is_zero());
            Ok(())
        },
    },
    Setting {
        name: "memory-budget",
        value: "SIZE",
        help: "Memory that heads, caches and request bodies may use together [default: 1GiB]",
        apply: |config, text| value::put(&mut config.memory_budget_bytes, value::size(text)),
    },
    Setting {
        name: "body-bytes-max",
        value: "SIZE",
        help: "Size of one request body as it comes over the wire [default: 32MiB]",
        apply: |config, text| value::put(&mut config.body_bytes_max, value::size(text)),
    },
    Setting {
        name: "decoded-bytes-max",
        value: "SIZE",
        help: "Size of one request body after it was unpacked [default: 64MiB]",
        apply: |config, text| value::put(&mut config.decoded_bytes_max, value::size(text)),
    },
    Setting {
        name: "tenants-max",
        value: "N",
        help: "Tenants that may exist [default: 1000]",
        apply: |config, text| value::put(&mut config.tenants_max, value::count(text)),
    },
    Setting {
        name: "appends-max",
        value: "N",
        help: "Write requests that are worked on at a time [default: 16]",
        apply: |config, text| value::put(&mut config.appends_max, value::count(text)),
    },
    Setting {
        name: "queries-max",
        value: "N",
        help: "Queries that are worked on at a time [default: 8]",
        apply: |config, text| value::put(&mut config.queries_max, value::count(text)),
    },
    Setting {
        name: "remote-reads-max",
        value: "N",
        help: "Remote reads that are worked on at a time [default: 10]",
        apply: |config, text| value::put(&mut config.remote_reads_max, value::count(text)),
    },
    Setting {
        name: "waiting-max",
        value: "N",
        help: "Requests of one class that may wait for their turn [default: 256]",
        apply: |config, text| value::put(&mut config.waiting_max, value::count(text)),
    },
    Setting {
        name: "query-timeout",
        value: "DURATION",
        help: "How long one query may take [default: 2m]",
        apply: |config, text| value::put(&mut config.query_timeout, value::duration(text)),
    },
    Setting {
        name: "query-samples-max",
        value: "N",
        help: "Samples that one query may load [default: 50000000]",
        apply: |config, text| value::put(&mut config.query_samples_max, value::count(text)),
    },
    Setting {
        name: "query-series-max",
        value: "N",
        help: "Series that one query over logs may make or return [default: 100000]",
        apply: |config, text| value::put(&mut config.query_series_max, value::count(text)),
    },
    Setting {
        name: "shutdown-timeout",
        value: "DURATION",
        help: "How long a shutdown waits for requests in progress [default: 20s]",
        apply: |config, text| value::put(&mut config.shutdown_timeout, value::duration(text)),
    },
    Setting {
        name: "log-level",
        value: "LEVEL",
        help: "What the server logs: error, warn, info, debug, trace, or directives such as \
               info,trine_tsdb=debug [default: info]",
        apply: |config, text| value::put(&mut config.log_level, value::filter(text)),
    },
    Setting {
        name: "self-observe",
        value: "BOOL",
        help: "Whether the server stores its own metrics, logs and traces in the tenant trine \
               [default: true]",
        apply: |config, text| value::put(&mut config.self_observe, value::truth(text)),
    },
    Setting {
        name: "http.prefix",
        value: "PATH",
        help: "A path under which every API answers too, as /trine; / for none [default: /]",
        apply: |config, text| value::put(&mut config.http_prefix, value::prefix(text)),
    },
    Setting {
        name: "web.enable-admin-api",
        value: "BOOL",
        help: "Whether the metrics API may delete series and make snapshots [default: false]",
        apply: |config, text| value::put(&mut config.enable_admin_api, value::truth(text)),
    },
    Setting {
        name: "web.enable-lifecycle",
        value: "BOOL",
        help: "Whether a request may end the server (/-/quit) [default: false]",
        apply: |config, text| value::put(&mut config.enable_lifecycle, value::truth(text)),
    },
    Setting {
        name: "metrics-api",
        value: "NAME",
        help: "What the metrics API says it is, prometheus or mimir [default: prometheus]",
        apply: |config, text| value::put(&mut config.metrics_api, value::metrics_api(text)),
    },
    Setting {
        name: "promql.experimental-functions",
        value: "BOOL",
        help: "Whether queries may use what Prometheus calls experimental [default: true]",
        apply: |config, text| {
            value::put(
                &mut config.promql.experimental_functions,
                value::truth(text),
            )
        },
    },
    Setting {
        name: "promql.delayed-name-removal",
        value: "BOOL",
        help: "Whether metric names stay until the end of a query [default: false]",
        apply: |config, text| {
            value::put(&mut config.promql.delayed_name_removal, value::truth(text))
        },
    },
    Setting {
        name: "promql.start-timestamps",
        value: "BOOL",
        help: "Whether counters begin where their start timestamps say [default: false]",
        apply: |config, text| value::put(&mut config.promql.start_timestamps, value::truth(text)),
    },
    Setting {
        name: "metric-labels-max",
        value: "N",
        help: "Labels of one metric series [default: 64]",
        apply: |config, text| value::put(&mut config.limits.metric_labels_max, value::count(text)),
    },
    Setting {
        name: "metric-label-name-bytes-max",
        value: "SIZE",
        help: "Size of one metric label's name [default: 1KiB]",
        apply: |config, text| {
            value::put(
                &mut config.limits.metric_label_name_bytes_max,
                value::size(text),
            )
        },
    },
    Setting {
        name: "metric-label-value-bytes-max",
        value: "SIZE",
        help: "Size of one metric label's value [default: 8KiB]",
        apply: |config, text| {
            value::put(
                &mut config.limits.metric_label_value_bytes_max,
                value::size(text),
            )
        },
    },
    Setting {
        name: "log-labels-max",
        value: "N",
        help: "Labels of one log stream, not counting service_name [default: 15]",
        apply: |config, text| value::put(&mut config.limits.log_labels_max, value::count(text)),
    },
    Setting {
        name: "log-label-name-bytes-max",
        value: "SIZE",
        help: "Size of one log label's name [default: 1KiB]",
        apply: |config, text| {
            value::put(
                &mut config.limits.log_label_name_bytes_max,
                value::size(text),
            )
        },
    },
    Setting {
        name: "log-label-value-bytes-max",
        value: "SIZE",
        help: "Size of one log label's value [default: 2KiB]",
        apply: |config, text| {
            value::put(
                &mut config.limits.log_label_value_bytes_max,
                value::size(text),
            )
        },
    },
    Setting {
        name: "log-line-bytes-max",
        value: "SIZE",
        help: "Size of one log line [default: 256KiB]",
        apply: |config, text| value::put(&mut config.limits.log_line_bytes_max, value::size(text)),
    },
    Setting {
        name: "log-metadata-bytes-max",
        value: "SIZE",
        help: "Size of one log entry's structured metadata [default: 64KiB]",
        apply: |config, text| {
            value::put(&mut config.limits.log_metadata_bytes_max, value::size(text))
        },
    },
    Setting {
        name: "log-metadata-entries-max",
        value: "N",
        help: "Fields of one log entry's structured metadata [default: 128]",
        apply: |config, text| {
            value::put(
                &mut config.limits.log_metadata_entries_max,
                value::count(text),
            )
        },
    },
    Setting {
        name: "trace-attributes-max",
        value: "N",
        help: "Attributes of one resource, span, event or link [default: 1024]",
        apply: |config, text| {
            value::put(&mut config.limits.trace_attributes_max, value::count(text))
        },
    },
];

/// All settings.
fn settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS
        .iter()
        .chain(ingest::SETTINGS)
        .chain(logs::SETTINGS)
        .chain(traces::SETTINGS)
        .chain(generator::SETTINGS)
        .chain(storage::SETTINGS)
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Invocation {
    /// Run the server.
    Serve(Box<Config>),
    /// Copy all data from one place to another.
    Copy(Copying),
    /// Say whether the configuration is good, and nothing else.
    Check,
    /// Print this text (help or version) and nothing else.
    Print(String),
}

/// The outside of the process that a configuration is read from, so that tests can bring their
/// own.
pub struct Outside<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file.
    pub read: &'a dyn Fn(&str) -> Result<String, String>,
}

impl std::fmt::Debug for Outside<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outside")
    }
}

impl Invocation {
    /// Reads the command line `args` (with the program's name first), the environment and the
    /// configuration file.
    ///
    /// # Errors
    /// A sentence that says which setting is wrong, where it was written and what it may be.
    pub fn load(
        args: impl IntoIterator<Item = String>,
        outside: &Outside<'_>,
    ) -> Result<Self, String> {
        let flags = match command().try_get_matches_from(args) {
            Ok(flags) => flags,
            Err(error) if !error.use_stderr() => return Ok(Self::Print(error.to_string())),
            Err(error) => return Err(error.to_string().trim_end().to_owned()),
        };
        if let Some(copying) = places::read(&flags)? {
            return Ok(Self::Copy(copying));
        }
        let mut config = Config::default();
        let path = flags
            .get_one::<String>("config")
            .cloned()
            .or_else(|| (outside.variable)("TRINE_CONFIG").filter(|path| !path.is_empty()));
        let (from_file, overrides) = match &path {
            Some(path) => file::parse(path, &(outside.read)(path)?)?,
            None => (Vec::new(), Vec::new()),
        };
        for setting in settings() {
            apply(setting, &mut config, &flags, &from_file, outside)?;
        }
        config.override_for(&overrides)?;
        if config.body_bytes_max > config.memory_budget_bytes {
            return Err("memory-budget must be at least body-bytes-max".to_owned());
        }
        storage::settle(&mut config)?;
        Ok(if flags.get_flag("check-config") {
            Self::Check
        } else {
            Self::Serve(Box::new(config))
        })
    }
}

/// Applies the strongest of the texts that are given for `setting`.
fn apply(
    setting: &Setting,
    config: &mut Config,
    flags: &ArgMatches,
    from_file: &[file::Entry],
    outside: &Outside<'_>,
) -> Result<(), String> {
    let told = |place: String| {
        let name = setting.name;
        move |why: String| format!("{place} {name}: {why}")
    };
    if let Some(texts) = flags.get_many::<String>(setting.name) {
        for text in texts {
            (setting.apply)(config, text).map_err(told("the option".to_owned()))?;
            config.told.push((setting.name, text.clone()));
        }
        return Ok(());
    }
    let variable = format!(
        "TRINE_{}",
        setting.name.replace(['-', '.'], "_").to_ascii_uppercase()
    );
    if let Some(text) = (outside.variable)(&variable).filter(|text| !text.is_empty()) {
        (setting.apply)(config, &text)
            .map_err(|why| format!("the environment variable {variable}: {why}"))?;
        config.told.push((setting.name, text));
        return Ok(());
    }
    for entry in from_file.iter().filter(|entry| entry.name == setting.name) {
        for text in &entry.values {
            (setting.apply)(config, text).map_err(told(format!("{}: the key", entry.path)))?;
            config.told.push((setting.name, text.clone()));
        }
    }
    Ok(())
}

fn command() -> Command {
    let mut command = Command::new("trine")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Metrics, logs and traces in one place: speaks the APIs of Prometheus, Loki, Tempo and Jaeger",
        )
        .after_help(
            "Every option can also be set in the environment (TRINE_DATA_DIR for --data-dir) and \
             in the file that --config names (YAML, `data-dir: ...`). An option wins over the \
             environment, the environment over the file.",
        )
        .subcommands(places::commands())
        .args_conflicts_with_subcommands(true)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Configuration file (YAML); unknown keys are refused"),
        )
        .arg(
            Arg::new("check-config")
                .long("check-config")
                .action(ArgAction::SetTrue)
                .help("Say whether the configuration is good, then stop"),
        );
    for setting in settings() {
        let action = if setting.name == "listen" {
            ArgAction::Append
        } else {
            ArgAction::Set
        };
        let mut arg = Arg::new(setting.name)
            .long(setting.name)
            .value_name(setting.value)
            .help(setting.help)
            .action(action);
        if setting.value == "BOOL" {
            // A switch alone is on, as in Prometheus.
            arg = arg.num_args(0..=1).default_missing_value("true");
        }
        command = command.arg(arg);
    }
    command
}

#[cfg(test)]
mod tests;
