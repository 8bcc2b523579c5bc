//! Ids, and engines that are opened when they are needed.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use trine_storage::Kind;
use trine_storage::clock::{Clock, SystemClock};
use trine_storage::fs::{Fs, RealFs};
use trine_storage::shared::Shared;
use trine_storage::sim::SimFs;
use trine_storage::{Labels, TimeRange};
use trine_tracestore::Span;

use super::{ID_BYTES_MAX, TENANT_HEADER, Tenant, TenantId, Tenants};
use crate::config::Config;
use crate::storage::Storage;

#[test]
fn ids() {
    let longest = "a".repeat(ID_BYTES_MAX);
    for good in ["a", "team-1", "...", "A_b.c*(d)!'", "0", &longest] {
        assert_eq!(TenantId::parse(good).unwrap().as_str(), good);
    }
    let too_long = "a".repeat(ID_BYTES_MAX + 1);
    for (bad, why) in [
        ("", "is not allowed"),
        (".", "is not allowed"),
        ("..", "is not allowed"),
        ("../../x", "unsupported character '/'"),
        ("a\\b", "unsupported character '\\\\'"),
        ("a b", "unsupported character ' '"),
        ("é", "unsupported character 'é'"),
        ("a\0", "unsupported character"),
        ("a|b", "several tenants at once (a|b) can only be read"),
        (&too_long, "too long"),
    ] {
        let refusal = TenantId::parse(bad).unwrap_err();
        assert!(refusal.text.contains(why), "{bad:?}: {refusal}");
    }
}

#[test]
fn a_request_without_the_header_is_anonymous() {
    let mut headers = HeaderMap::new();
    assert_eq!(TenantId::of(&headers).unwrap().as_str(), "anonymous");
    headers.insert(TENANT_HEADER, HeaderValue::from_static(""));
    assert_eq!(TenantId::of(&headers).unwrap().as_str(), "anonymous");
    headers.insert(TENANT_HEADER, HeaderValue::from_static("a"));
    assert_eq!(TenantId::of(&headers).unwrap().as_str(), "a");
    headers.insert(TENANT_HEADER, HeaderValue::from_bytes(b"\xff").unwrap());
    assert!(TenantId::of(&headers).is_err());
}

#[test]
fn a_request_may_name_several() {
    let mut headers = HeaderMap::new();
    let mut check = |text: Option<&'static str>, expect: Option<&[&str]>| {
        headers.clear();
        if let Some(text) = text {
            headers.insert(TENANT_HEADER, HeaderValue::from_static(text));
        }
        let found = TenantId::all_of(&headers).ok();
        let found: Option<Vec<String>> =
            found.map(|ids| ids.iter().map(ToString::to_string).collect());
        assert_eq!(
            found.as_deref(),
            expect
                .map(|e| e.iter().map(ToString::to_string).collect::<Vec<_>>())
                .as_deref(),
            "{text:?}"
        );
    };
    check(None, Some(&["anonymous"]));
    check(Some("a"), Some(&["a"]));
    check(Some("b|a|b"), Some(&["a", "b"]));
    check(Some("a|"), None);
    check(Some("a|../b"), None);
}

fn open(config: &Config) -> Result<Tenants, trine_storage::Error> {
    open_on(config, Arc::new(RealFs))
}

fn open_on(config: &Config, fs: Arc<dyn Fs>) -> Result<Tenants, trine_storage::Error> {
    let shared = Shared::without_workers();
    let lock = trine_storage::fs::claim(&*fs, &config.data_dir)?;
    Tenants::open(config, fs, Arc::new(SystemClock::new()), shared, lock, None)
}

#[test]
fn reads_create_nothing_and_writes_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: dir.path().to_owned(),
        tenants_max: 2,
        ..Config::default()
    };
    let id = |text: &str| TenantId::parse(text).unwrap();
    {
        let tenants = open(&config).unwrap();
        assert!(tenants.get(&id("a")).is_none());
        let tenant = tenants.get_or_create(&id("a")).unwrap();
        assert!(tenant.read_metrics().unwrap().is_none());
        tenant.metrics().unwrap();
        assert!(tenant.read_metrics().unwrap().is_some());
        assert!(tenant.read_logs().unwrap().is_none());
        tenants.get_or_create(&id("b")).unwrap().logs().unwrap();
        let error = tenants.get_or_create(&id("c")).unwrap_err();
        assert_eq!(error.kind(), Kind::Limit);
        assert_eq!(open(&config).unwrap_err().kind(), Kind::Locked);
        tenants.close().unwrap();
    }
    let tenants = open(&config).unwrap();
    let tenant = tenants.get(&id("a")).unwrap();
    assert!(tenant.read_metrics().unwrap().is_some());
    assert!(tenant.read_traces().unwrap().is_none());
    assert!(
        tenants.get_or_create(&id("c")).is_err(),
        "tenants on disk count"
    );
}

#[test]
fn stores_of_the_bucket_are_opened_before_anybody_asks_and_not_too_many() {
    let root = tempfile::tempdir().unwrap();
    let bucket = root.path().join("bucket");
    for tenant in ["a", "b", "c", "not@allowed"] {
        let dir = bucket.join("stores").join(tenant);
        RealFs.create_dir_all(&dir).unwrap();
        let mut marker = RealFs.create(&dir.join("metrics")).unwrap();
        marker.write_all(b"x").unwrap();
    }
    let mut config = Config {
        data_dir: root.path().join("data"),
        ..Config::default()
    };
    config.storage.url = Some(format!("file://{}", bucket.display()));
    config.storage.read_only = true;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let lock = trine_storage::fs::claim(&*fs, &config.data_dir).unwrap();
    let storage = Storage::open(&config, &fs, &clock, runtime.handle()).unwrap();
    let shared = Shared::without_workers();
    let tenants = Tenants::open(&config, fs, clock, shared, lock, storage).unwrap();
    let open = || {
        let all = tenants.all();
        let open = all.iter().filter(|(_, t)| t.open_metrics().is_some());
        open.count()
    };
    assert_eq!(open(), 0);
    tenants.open_shipped(2, &|| false);
    assert_eq!(open(), 2);
    tenants.open_shipped(9, &|| true);
    assert_eq!(open(), 2, "the server ends");
    tenants.open_shipped(3, &|| false);
    assert_eq!(open(), 3);
    tenants.open_shipped(9, &|| false);
    assert_eq!(open(), 3, "nobody can be called so");
    tenants.close().unwrap();
}

/// Writes a sample, a line and a span of this number.
fn write(tenant: &Tenant, number: i64) -> [Result<(), Kind>; 3] {
    let kind = |error: trine_storage::Error| error.kind();
    let now_ms = SystemClock::new().now_ms();
    let labels = Labels::from_pairs([("__name__", "x"), ("row", &number.to_string())]).unwrap();
    let metrics = tenant.metrics().map_err(kind).and_then(|engine| {
        let mut appender = engine.appender();
        appender.append(&labels, now_ms, 1.0.into());
        let commit = appender.commit(trine_tsdb::Durability::Synced);
        commit
            .and_then(trine_tsdb::Commit::wait)
            .map(drop)
            .map_err(kind)
    });
    let logs = tenant.logs().map_err(kind).and_then(|engine| {
        let mut appender = engine.appender();
        appender.append(&labels, now_ms * 1_000_000, b"line", &Labels::empty());
        let commit = appender.commit(trine_logstore::Durability::Synced);
        commit
            .and_then(trine_logstore::Commit::wait)
            .map(drop)
            .map_err(kind)
    });
    let traces = tenant.traces().map_err(kind).and_then(|engine| {
        let start_ns = u64::try_from(now_ms * 1_000_000).unwrap();
        let span = Span {
            trace_id: [7; 16],
            span_id: number.to_be_bytes(),
            name: "x".into(),
            start_ns,
            end_ns: start_ns + 1,
            ..Span::default()
        };
        let mut appender = engine.appender();
        appender.append(&Arc::default(), &Arc::default(), span);
        let commit = appender.commit(trine_tracestore::Durability::Synced);
        commit
            .and_then(trine_tracestore::Commit::wait)
            .map(drop)
            .map_err(kind)
    });
    [metrics, logs, traces]
}

#[test]
fn what_a_full_disk_stopped_is_written_again_when_there_is_room() {
    let config = Config {
        data_dir: "/data".into(),
        ..Config::default()
    };
    let fs = SimFs::new();
    let tenants = open_on(&config, Arc::new(fs.clone())).unwrap();
    let tenant = tenants.get_or_create(&TenantId::anonymous()).unwrap();
    assert_eq!(write(&tenant, 1), [Ok(()); 3]);
    let labels = Labels::from_pairs([("__name__", "x"), ("row", "1")]).unwrap();
    let known = tenant.known_series();
    let lookup = known.read(false);
    let (print, since) = (lookup.print(b"x"), lookup.since());
    drop(lookup);
    let reference = tenant.metrics().unwrap().reference(&labels).unwrap();
    known.learn(since, &[(print, reference)]);
    fs.fill_after(0);
    for kind in [Kind::Io, Kind::Poisoned] {
        assert_eq!(write(&tenant, 2), [Err(kind); 3]);
    }
    // As long as the disk is full they stay as they are, and are read.
    tenants.revive();
    assert_eq!(write(&tenant, 2), [Err(Kind::Poisoned); 3]);
    assert!(known.read(false).get(print).is_some());
    fs.fill_after(u64::MAX);
    assert_eq!(write(&tenant, 2), [Err(Kind::Poisoned); 3]);
    tenants.revive();
    assert_eq!(write(&tenant, 3), [Ok(()); 3]);
    // References were those of the engine before.
    assert!(known.read(false).get(print).is_none());
    known.learn(since, &[(print, reference)]);
    assert!(known.read(false).get(print).is_none());
    // What was acknowledged is there.
    let snapshot = tenant.metrics().unwrap().snapshot();
    let rows = snapshot
        .label_values("row", &[], TimeRange::ALL, None)
        .unwrap();
    for row in ["1", "3"] {
        assert!(rows.iter().any(|value| &**value == row), "{rows:?}");
    }
    assert!(!tenant.open_logs().unwrap().stats().wal.is_poisoned);
    let snapshot = tenant.traces().unwrap().snapshot();
    let trace = snapshot.trace([7; 16]).unwrap().unwrap();
    let ids: Vec<[u8; 8]> = trace.spans().map(|(_, _, span)| span.span_id).collect();
    for row in [1i64, 3] {
        assert!(ids.contains(&row.to_be_bytes()), "{ids:?}");
    }
    tenants.close().unwrap();
}
