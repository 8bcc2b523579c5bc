//! Settings from flags, environment and file; what wins; what is refused and how it is said.

use std::time::Duration;

use super::{Action, Config, Invocation, MetricsApi, Outside, least, settings};

fn load(flags: &[&str], env: &[(&str, &str)], file: &str) -> Result<Invocation, String> {
    let variable = |name: &str| {
        env.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let read = |path: &str| {
        if path == "t.yaml" {
            Ok(file.to_owned())
        } else {
            Err(format!("cannot read {path}"))
        }
    };
    let args = ["trine"].iter().chain(flags).map(|text| (*text).to_owned());
    Invocation::load(
        args,
        &Outside {
            variable: &variable,
            read: &read,
        },
    )
}

fn config(flags: &[&str], env: &[(&str, &str)], file: &str) -> Config {
    match load(flags, env, file) {
        Ok(Invocation::Serve(config)) => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_told_is_the_default() {
    assert_eq!(config(&[], &[], ""), Config::default());
}

#[test]
fn the_help_tells_the_defaults_that_the_code_has() {
    // Every default in the help text, applied, must change nothing.
    for setting in settings() {
        let Some((_, after)) = setting.help.split_once("[default: ") else {
            panic!("{} tells no default", setting.name)
        };
        let text = after.trim_end_matches(']');
        if setting.name == "listen" {
            continue;
        }
        let mut config = Config::default();
        (setting.apply)(&mut config, text).unwrap();
        assert_eq!(config, Config::default(), "{}", setting.name);
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let file = "retention: 1d\ndata_dir: f\ntenants-max: 3\nlisten: ['127.0.0.1:1', '[::1]:2']\n";
    let env = [
        ("TRINE_RETENTION", "2d"),
        ("TRINE_DATA_DIR", "e"),
        ("TRINE_NONSENSE", "x"),
    ];
    let got = config(&["--config", "t.yaml", "--retention", "3d"], &env, file);
    assert_eq!(got.retention, Some(Duration::from_secs(3 * 86_400)));
    assert_eq!(got.data_dir.to_str(), Some("e"));
    assert_eq!(got.tenants_max, 3);
    assert_eq!(
        got.listen,
        ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]
    );
    let flags = ["--listen", ":1", "--listen", "localhost:2"];
    let got = config(&flags, &[("TRINE_LISTEN", "1.2.3.4:5")], "");
    assert_eq!(
        got.listen,
        ["0.0.0.0:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]
    );
    let got = config(
        &[],
        &[
            ("TRINE_LISTEN", "1.2.3.4:5, [::]:6"),
            ("TRINE_CONFIG", "t.yaml"),
        ],
        file,
    );
    assert_eq!(
        got.listen,
        ["1.2.3.4:5".parse().unwrap(), "[::]:6".parse().unwrap()]
    );
}

#[test]
fn values() {
    let got = config(&["--memory-budget", "2GB", "--body-bytes-max=1k"], &[], "");
    assert_eq!(
        (got.memory_budget_bytes, got.body_bytes_max),
        (2_000_000_000, 1024)
    );
    let got = config(
        &["--config=t.yaml"],
        &[],
        "retention: 0\nself-observe: off\n",
    );
    assert_eq!((got.retention, got.self_observe), (None, false));
    let got = config(
        &["--config=t.yaml"],
        &[],
        "retention: 1y2w3d4h5m6s7ms\nlisten: ':80'",
    );
    assert_eq!(
        got.retention,
        Some(Duration::from_millis(
            ((((379 + 3) * 24 + 4) * 60 + 5) * 60 + 6) * 1000 + 7
        ))
    );
    assert_eq!(
        config(&["--config=t.yaml"], &[], "# only a remark\n"),
        Config::default()
    );
}

#[test]
fn switches_and_names_with_dots() {
    let got = config(
        &["--web.enable-admin-api", "--web.enable-lifecycle=false"],
        &[],
        "",
    );
    assert!(got.enable_admin_api && !got.enable_lifecycle);
    let env = [
        ("TRINE_WEB_ENABLE_LIFECYCLE", "true"),
        ("TRINE_HTTP_PREFIX", "/a/b/"),
    ];
    let got = config(
        &["--config=t.yaml"],
        &env,
        "web.enable-admin-api: true\nmetrics_api: mimir",
    );
    assert!(got.enable_admin_api && got.enable_lifecycle);
    assert_eq!(got.http_prefix.as_deref(), Some("/a/b"));
    assert_eq!(got.metrics_api, MetricsApi::Mimir);
    assert_eq!(config(&["--http.prefix", "/"], &[], "").http_prefix, None);
}

#[test]
fn settings_are_told_as_they_were_written() {
    let flags = [
        "--retention",
        "3d",
        "--listen",
        ":1",
        "--listen",
        ":2",
        "--config=t.yaml",
    ];
    let got = config(
        &flags,
        &[("TRINE_SELF_OBSERVE", "no")],
        "body-bytes-max: 1MiB",
    );
    let of = |name: &str| {
        let settings = got.settings();
        settings.into_iter().find(|(n, _)| *n == name).unwrap().1
    };
    for (name, expect) in [
        ("retention", "3d"),
        ("listen", ":1,:2"),
        ("self-observe", "no"),
        ("body-bytes-max", "1MiB"),
        ("tenants-max", "1000"),
        ("metrics-api", "prometheus"),
    ] {
        assert_eq!(of(name), expect, "{name}");
    }
    assert_eq!(got.settings().len(), settings().count());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let check = |flags: &[&str], env: &[(&str, &str)], file: &str, expect: &str| {
        let got = load(flags, env, file).unwrap_err();
        assert!(got.contains(expect), "{got:?} does not say {expect:?}");
    };
    let file = ["--config", "t.yaml"];
    check(
        &file,
        &[],
        "retension: 1d",
        r#"t.yaml: unknown key "retension"; did you mean "retention"?"#,
    );
    check(
        &file,
        &[],
        "colour: red",
        "`trine --help` lists the known ones",
    );
    check(&file, &[], "retention: [1d, 2d]", "must be one value");
    check(
        &file,
        &[],
        "retention: {a: 1}",
        "must be one value or a list",
    );
    check(&file, &[], "data-dir: a\ndata_dir: b", "twice");
    check(
        &file,
        &[],
        "retention: 1 fortnight",
        "t.yaml: the key retention: \"1 fortnight\"",
    );
    check(&file, &[], "a: [", "t.yaml");
    check(
        &["--config", "other.yaml"],
        &[],
        "",
        "cannot read other.yaml",
    );
    check(&["--retention", "1m1h"], &[], "", "the option retention");
    check(&["--retention", "5"], &[], "", "is not a duration");
    check(&["--memory-budget", "12XB"], &[], "", "is not a size");
    check(
        &["--memory-budget", "1k"],
        &[],
        "",
        "at least body-bytes-max",
    );
    check(&["--tenants-max", "0"], &[], "", "at least 1");
    check(&["--listen", "nowhere"], &[], "", "is not an address");
    check(&["--log-level", "a=b=c"], &[], "", "is not a log filter");
    check(
        &[],
        &[("TRINE_TENANTS_MAX", "many")],
        "",
        "TRINE_TENANTS_MAX: \"many\"",
    );
    check(&["--http.prefix", "trine"], &[], "", "is not a path");
    check(&["--http.prefix", "/{x}"], &[], "", "is not a path");
    check(
        &["--metrics-api", "cortex"],
        &[],
        "",
        "neither prometheus nor mimir",
    );
    check(
        &file,
        &[],
        "http_prefix: /a",
        "did you mean \"http.prefix\"?",
    );
    check(&["--nonsense"], &[], "", "--nonsense");
    check(&["serve"], &[], "", "serve");
}

#[test]
fn help_version_and_check() {
    match load(&["--help"], &[], "") {
        Ok(Invocation::Print(text)) => assert!(text.contains("--data-dir <DIR>"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        load(&["--version"], &[], ""),
        Ok(Invocation::Print(_))
    ));
    assert_eq!(load(&["--check-config"], &[], ""), Ok(Invocation::Check));
    assert!(load(&["--check-config", "--retention=x"], &[], "").is_err());
}

#[test]
fn tenants_may_have_limits_of_their_own() {
    let file = "max_query_series: 9\noverrides:\n  a:\n    max_entries_limit_per_query: 7\n    \
                max_line_size: 1KiB\n    required_labels: [app, env]\n    otlp_config:\n      \
                log_attributes:\n      - {action: drop, regex: 'secret.*'}\n  b:\n    \
                query_timeout: 5s\n";
    let file = file.replace("max_query_series", "query-series-max");
    let got = config(&["--config=t.yaml", "--log-labels-max=3"], &[], &file);
    let (a, b, other) = (got.of("a"), got.of("b"), got.of("c"));
    assert_eq!(
        (
            a.logs.entries_max,
            b.logs.entries_max,
            other.logs.entries_max
        ),
        (7, 5000, 5000)
    );
    assert_eq!(
        (a.limits.log_line_bytes_max, other.limits.log_line_bytes_max),
        (1024, 256 << 10)
    );
    assert_eq!(a.logs.required_labels, ["app", "env"]);
    assert_eq!(a.logs.otlp.of_record("secret.key"), Action::Drop);
    assert_eq!(
        other.logs.otlp.of_record("secret.key"),
        Action::StructuredMetadata
    );
    assert_eq!(b.query_timeout, Duration::from_secs(5));
    // What holds for all holds for them too.
    assert_eq!((a.query_series_max, a.limits.log_labels_max), (9, 3));
    for (file, told) in [
        (
            "overrides: {a: {data_dir: x}}",
            "t.yaml: overrides of a: no setting \"data_dir\"",
        ),
        (
            "overrides: {a: {max_line_size: x}}",
            "overrides of a: max_line_size: \"x\" is not a size",
        ),
        (
            "overrides: {a: 1}",
            "overrides must name tenants, each with keys and values",
        ),
        (
            "overrides: [a]",
            "overrides must name tenants, each with keys and values",
        ),
        (
            "otlp_config: {log_attributes: [{action: keep}]}",
            "otlp-config",
        ),
    ] {
        let error = load(&["--config=t.yaml"], &[], file).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn attributes_of_otlp_go_where_they_are_told_to() {
    let rules = "{resource_attributes: {attributes_config: [{action: index_label, attributes: \
                 [team]}, {action: drop, regex: 'host.*'}]}, scope_attributes: [{action: drop, \
                 attributes: [v]}], log_attributes: [{action: index_label, attributes: [tenant]}]}";
    let got = config(&["--otlp-config", rules], &[], "").logs.otlp;
    for (name, expect) in [
        ("team", Action::IndexLabel),
        ("host.name", Action::Drop),
        ("service.name", Action::IndexLabel),
        ("a.host", Action::StructuredMetadata),
    ] {
        assert_eq!(got.of_resource(name), expect, "{name}");
    }
    assert_eq!(got.of_scope("v"), Action::Drop);
    assert_eq!(got.of_record("tenant"), Action::IndexLabel);
    let none = "{resource_attributes: {ignore_defaults: true}}";
    let got = config(&["--otlp-config", none], &[], "").logs.otlp;
    assert_eq!(got.of_resource("service.name"), Action::StructuredMetadata);
}

#[test]
fn the_page_of_limits_lists_those_that_there_are() {
    let page = include_str!("../../../COMPAT.md");
    let (_, section) = page.split_once("### Limits of logs").unwrap();
    let rows = section.lines().take_while(|line| !line.starts_with('#'));
    let mut told = std::collections::BTreeSet::new();
    for row in rows.filter_map(|line| line.strip_prefix("| `")) {
        let (name, rest) = row.split_once("` | `").unwrap();
        let (setting, _) = rest.split_once('`').unwrap();
        assert_eq!(
            super::logs::own_name(&name.replace('_', "-")),
            Some(setting)
        );
        told.insert(name);
    }
    let mut shown: std::collections::BTreeSet<&str> = super::limits_of_logs(&Config::default())
        .into_keys()
        .collect();
    // What no tenant has for itself, and what is too long for that page.
    assert!(shown.remove("retention_period") && shown.remove("volume_enabled"));
    shown.insert("otlp_config");
    assert_eq!(told, shown);
}

#[test]
fn of_two_limits_the_least_holds_and_zero_is_none() {
    assert_eq!(
        (least(0, 5), least(5, 0), least(3, 5), least(0, 0)),
        (5, 5, 3, 0)
    );
}

#[test]
fn the_page_of_limits_of_traces_lists_those_that_there_are() {
    let page = include_str!("../../../COMPAT.md");
    let (_, section) = page
        .split_once("### Limits of queries over traces")
        .unwrap();
    let rows = section.lines().take_while(|line| !line.starts_with('#'));
    let rows = rows.filter_map(|line| line.strip_prefix("| `"));
    let told: Vec<(&str, &str)> = rows
        .map(|row| {
            let (name, rest) = row.split_once("` | `").unwrap();
            let (setting, rest) = rest.split_once("` | ").unwrap();
            assert_eq!(name.replace('_', "-"), setting);
            let (default, _) = rest.split_once(" | ").unwrap();
            let found = settings().find(|held| held.name == setting).unwrap();
            let mut config = Config::default();
            let text = if default == "none" { "0" } else { default };
            (found.apply)(&mut config, text).unwrap();
            assert_eq!(config, Config::default(), "{name}");
            (name, setting)
        })
        .collect();
    let mut names: Vec<&str> = told.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let shown = super::limits_of_traces(&super::Traces::default());
    assert_eq!(names, shown.into_keys().collect::<Vec<_>>());
}

#[test]
fn tenants_may_have_limits_of_traces_of_their_own() {
    let file = "max-search-duration: 2d\noverrides:\n  a:\n    max_search_duration: 1d\n    \
                max_exemplars: 0\n";
    let config = config(&["--config=t.yaml"], &[], file);
    let (own, usual) = (&config.of("a").traces, &config.of("b").traces);
    let day = Duration::from_secs(24 * 3600);
    assert_eq!((own.search_duration_max, own.exemplars_max), (day, 0));
    assert_eq!(
        (usual.search_duration_max, usual.exemplars_max),
        (2 * day, 100)
    );
    let mut both = usual.clone();
    both.tighten(own);
    assert_eq!(&both, own);
    let mut both = super::Traces {
        search_duration_max: Duration::ZERO,
        ..usual.clone()
    };
    both.tighten(own);
    assert_eq!(&both, own, "zero is no limit");
}

#[test]
fn the_settings_of_storage_are_refused_where_they_cannot_be() {
    let flags = |flags: &[&str]| {
        let all = [&["--storage", "s3://b/p"][..], flags].concat();
        load(&all, &[], "")
    };
    let storage = config(
        &[
            "--storage",
            "s3://b/p",
            "--read-only",
            "--ship-age-max",
            "1m",
        ],
        &[
            ("TRINE_CACHE_DISK_MAX", "1GiB"),
            ("TRINE_STORAGE_REQUESTS_MAX", "3"),
        ],
        "",
    );
    assert!(!storage.self_observe, "it would have nowhere to store it");
    let storage = storage.storage;
    assert_eq!(storage.url.as_deref(), Some("s3://b/p"));
    assert!(storage.read_only);
    assert_eq!(storage.ship_age_max, Duration::from_secs(60));
    assert_eq!((storage.cache_disk_max, storage.requests_max), (1 << 30, 3));
    for (given, why) in [
        (load(&["--read-only"], &[], ""), "read-only needs storage"),
        (
            load(&["--storage", "bucket"], &[], ""),
            "write s3://bucket/prefix",
        ),
        (flags(&["--ship-age-max", "59s"]), "it must be at least 1m"),
        (
            flags(&["--follow-interval", "0"]),
            "it must be longer than 0",
        ),
        (
            flags(&["--storage-requests-max", "0"]),
            "it must be at least 1",
        ),
        (
            flags(&["--cache-memory-max", "1GiB"]),
            "memory-budget must be at least twice cache-memory-max",
        ),
    ] {
        let told = given.unwrap_err();
        assert!(told.contains(why), "{told}");
    }
    // Without a bucket the caches take nothing.
    assert!(load(&["--cache-memory-max", "1GiB"], &[], "").is_ok());
}
