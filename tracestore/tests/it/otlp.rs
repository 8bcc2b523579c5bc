//! Requests of OTLP as they come: stored as one with spans of the model, refused as a whole or span
//! by span, in records as large as the log takes.

use std::sync::Arc;

use bytes::Bytes;
use trine_storage::Kind;
use trine_storage::sim::{Crash, SimFs};
use trine_storage::wal;
use trine_tracestore::{Appender, Config, Durability, Reason, Resource, Scope, Span, TraceStore};

use crate::store::{clock, open, open_with, service, span, text};

fn message(field: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let len = u16::try_from(content.len()).unwrap();
    // Two bytes of a length, whether it needs them or not.
    let mut out = vec![field << 3 | 2, (len & 0x7f) as u8 | 0x80, (len >> 7) as u8];
    out.extend(content);
    out
}

/// A request with one span named `name` of a service.
fn request(trace: u8, id: u8, name: &str) -> Vec<u8> {
    let value = message(2, &[&message(1, &[b"web"])]);
    let resource = message(
        1,
        &[&message(1, &[&message(1, &[b"service.name"]), &value])],
    );
    let ids = [message(1, &[&[trace; 16]]), message(2, &[&[id; 8]])].concat();
    let span = message(2, &[&ids, &message(5, &[name.as_bytes()])]);
    message(1, &[&resource, &message(2, &[&span])])
}

fn commit(appender: Appender) -> u64 {
    appender
        .commit(Durability::Synced)
        .and_then(trine_tracestore::Commit::wait)
        .unwrap()
        .stored
}

/// Names of the spans of a trace.
fn names(store: &TraceStore, trace: u8) -> Vec<String> {
    let trace = store.snapshot().trace([trace; 16]).unwrap();
    let trace = trace.unwrap_or_default();
    trace.spans().map(|(.., span)| span.name.clone()).collect()
}

#[test]
fn requests_and_spans_make_one_batch_in_their_order() {
    let fs = SimFs::new();
    let store = open(&fs);
    let mut appender = store.appender();
    appender.append(&service("web"), &Arc::default(), span(1, 1, 0, "a", 1));
    appender.append_otlp(Bytes::from(request(1, 2, "b")));
    appender.append_otlp(Bytes::from(
        [request(1, 3, "c"), request(1, 4, "d")].concat(),
    ));
    appender.append(&service("web"), &Arc::default(), span(1, 5, 0, "e", 1));
    assert_eq!(commit(appender), 5);
    assert_eq!(commit(store.appender()), 0);
    let mut empty = store.appender();
    empty.append_otlp(Bytes::new());
    assert_eq!(commit(empty), 0);
    for store in [&store, &open(&fs.crash(Crash::Power, 0))] {
        let mut found = names(store, 1);
        found.sort();
        assert_eq!(found, ["a", "b", "c", "d", "e"]);
        let trace = store.snapshot().trace([1; 16]).unwrap().unwrap();
        assert!(
            trace
                .spans()
                .all(|(resource, ..)| resource.service_name() == Some("web"))
        );
    }
}

#[test]
fn a_malformed_request_stores_nothing_of_its_batch() {
    let store = open(&SimFs::new());
    let good = request(1, 1, "good");
    let mut appender = store.appender();
    appender.append_otlp(Bytes::from(good.clone()));
    appender.append_otlp(Bytes::from(good[..good.len() - 1].to_owned()));
    let error = appender.commit(Durability::Synced).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let place = "resource_spans";
    assert!(error.to_string().contains(place), "{error}");
    assert_eq!(names(&store, 1), [""; 0]);
    assert_eq!(
        store.stats().wal.bytes,
        open(&SimFs::new()).stats().wal.bytes
    );
}

#[test]
fn refused_spans_are_told_and_the_others_of_a_request_are_stored() {
    let fs = SimFs::new();
    let config = Config {
        span_attributes_max: 1,
        ..Config::default()
    };
    let store = open_with(&fs, config, clock());
    let many = Resource {
        attributes: vec![text("a", "b"), text("c", "d")],
        ..Resource::default()
    };
    let mut appender = store.appender();
    appender.append_otlp(Bytes::from(
        [request(0, 1, "zero"), request(1, 1, "good")].concat(),
    ));
    appender.append(&Arc::new(many), &Arc::default(), span(1, 2, 0, "many", 1));
    appender.append(&service("s"), &Arc::default(), span(1, 3, 0, "last", 1));
    let told = appender.commit(Durability::Synced).unwrap().wait().unwrap();
    let rejected: Vec<_> = told
        .rejected
        .iter()
        .map(|r| (r.reason, r.to_string()))
        .collect();
    let expected = [
        (Reason::TraceId, "trace ids must not be all zero".to_owned()),
        (
            Reason::TooManyAttributes,
            "a resource has 2 attributes, limit 1".to_owned(),
        ),
    ];
    assert_eq!((told.stored, &rejected[..]), (2, &expected[..]));
    for store in [&store, &open(&fs.crash(Crash::Power, 0))] {
        let mut found = names(store, 1);
        found.sort();
        assert_eq!(found, ["good", "last"]);
        assert_eq!(store.stats().live_spans, 2);
    }
}

#[test]
fn a_batch_larger_than_a_record_is_several_records() {
    let fs = SimFs::new();
    let config = || Config {
        wal: wal::Config {
            record_bytes_max: 1_000,
            ..wal::Config::default()
        },
        ..Config::default()
    };
    let store = open_with(&fs, config(), clock());
    let fill = |name: &str, spans: u8| {
        let mut appender = store.appender();
        let scope = Arc::new(Scope {
            name: "lib".into(),
            ..Scope::default()
        });
        for id in 1..=spans {
            appender.append(
                &service("s"),
                &scope,
                Span {
                    name: name.into(),
                    ..span(1, id, 0, "", 1)
                },
            );
        }
        appender
            .commit(Durability::Synced)
            .and_then(trine_tracestore::Commit::wait)
    };
    assert_eq!(fill(&"n".repeat(100), 40).unwrap().stored, 40);
    assert_eq!(store.stats().live_spans, 40);
    let again = open_with(&fs.crash(Crash::Power, 0), config(), clock());
    assert_eq!(again.stats().live_spans, 40);
    let error = fill(&"n".repeat(1_000), 1).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit, "{error}");
    assert_eq!(store.stats().live_spans, 40);
}
