//! Remote read over a store: both forms, several tenants, limits, refusals.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use http_body_util::BodyExt as _;
use trine_storage::Labels;
use trine_tsdb::{Durability, Histogram, Value};

use super::crc32c::crc32c;
use super::{FRAME_BYTES_MAX, PIECE_BYTES, PIECES_MAX, Pieces, STREAMED, Stream};
use crate::api::prometheus::mount;
use crate::api::prometheus::run::harness::{Answer, Harness};
use crate::config::Config;
use crate::proto::remote_read::put_bytes;
use crate::proto::wire::{self, Fields};
use crate::refusal::{Reason, Refusal};
use crate::tenants::TenantId;

/// Samples of a few series for some tenants.
fn filled(change: impl FnOnce(&mut Config)) -> Harness {
    let harness = Harness::new(mount, change);
    for (tenant, jobs) in [("anonymous", ["a", "b"]), ("two", ["c", "d"])] {
        let tenant = harness
            .app
            .tenants
            .get_or_create(&TenantId::parse(tenant).unwrap());
        let mut appender = tenant.unwrap().metrics().unwrap().appender();
        for job in jobs {
            let labels = Labels::from_pairs([("__name__", "up"), ("job", job)]).unwrap();
            for at in 0..300 {
                appender.append(&labels, at * 1000, Value::Float(at as f64));
            }
        }
        let labels = Labels::from_pairs([("__name__", "sizes")]).unwrap();
        appender.append(&labels, 7, Histogram::default().into());
        appender.commit(Durability::Synced).unwrap().wait().unwrap();
    }
    harness
}

/// A request with a query for each matcher, all of the first 200 seconds.
fn message(matchers: &[(&str, &str)], accepted: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    for (name, value) in matchers {
        let (mut matcher, mut query) = (Vec::new(), Vec::new());
        put_bytes(&mut matcher, 2, name.as_bytes());
        put_bytes(&mut matcher, 3, value.as_bytes());
        // start 0 is left out, end is 200,000.
        query.extend_from_slice(&[0x10, 0xc0, 0x9a, 0x0c]);
        put_bytes(&mut query, 3, &matcher);
        put_bytes(&mut request, 1, &query);
    }
    put_bytes(&mut request, 2, accepted);
    request
}

async fn ask(harness: &Harness, tenant: &str, message: &[u8]) -> Answer {
    let body = snap::raw::Encoder::new().compress_vec(message).unwrap();
    let request = Request::post("/api/v1/read").header("X-Scope-OrgID", tenant);
    harness.send(request.body(Body::from(body)).unwrap()).await
}

/// The messages in field `number` of a message.
fn parts(message: &[u8], number: u32) -> Vec<&[u8]> {
    let (mut fields, mut found) = (Fields::of(message), Vec::new());
    while let Some((n, value)) = fields.next_field().unwrap() {
        if let (true, wire::Value::Bytes(bytes)) = (n == number, value) {
            found.push(bytes);
        }
    }
    found
}

fn number(message: &[u8], number: u32) -> i64 {
    let mut fields = Fields::of(message);
    while let Some((n, value)) = fields.next_field().unwrap() {
        if n == number {
            return value.int64().unwrap();
        }
    }
    0
}

fn labels(series: &[u8]) -> String {
    let label = |message: &&[u8]| {
        let text = |n| std::str::from_utf8(parts(message, n)[0]).unwrap();
        format!("{}={}", text(1), text(2))
    };
    parts(series, 1)
        .iter()
        .map(label)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Query, labels and chunks (kind, first, last) of a frame.
type Told = (i64, String, Vec<(i64, i64, i64)>);

/// The frames of a stream.
fn frames(mut body: &[u8]) -> Vec<Told> {
    let mut found = Vec::new();
    while !body.is_empty() {
        let mut length = 0usize;
        for shift in (0..).step_by(7) {
            let (byte, rest) = body.split_first().unwrap();
            body = rest;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (checksum, rest) = body.split_first_chunk::<4>().unwrap();
        let (message, rest) = rest.split_at(length);
        body = rest;
        assert_eq!(u32::from_be_bytes(*checksum), crc32c(message));
        assert!(length <= FRAME_BYTES_MAX, "{length}");
        let series = parts(message, 1);
        assert_eq!(series.len(), 1, "clients read one series a frame");
        let chunks = parts(series[0], 2).into_iter();
        let chunks = chunks.map(|chunk| (number(chunk, 3), number(chunk, 1), number(chunk, 2)));
        found.push((number(message, 2), labels(series[0]), chunks.collect()));
    }
    found
}

#[tokio::test]
async fn all_samples_in_one_message() {
    let harness = filled(|_| {});
    for accepted in [&[][..], &[0], &[0, 1], &[9, 0]] {
        let request = message(&[("__name__", "up"), ("__name__", "sizes")], accepted);
        let answer = ask(&harness, "anonymous", &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.headers["content-type"], "application/x-protobuf");
        assert_eq!(answer.headers["content-encoding"], "snappy");
        let message = snap::raw::Decoder::new()
            .decompress_vec(&answer.body)
            .unwrap();
        let results = parts(&message, 1);
        let series = parts(results[0], 1);
        let told: Vec<_> = series
            .iter()
            .map(|s| (labels(s), parts(s, 2).len()))
            .collect();
        let expect = ["__name__=up job=a", "__name__=up job=b"].map(|s| (s.to_owned(), 201));
        assert_eq!(told, expect);
        assert_eq!(parts(parts(results[1], 1)[0], 4).len(), 1, "a histogram");
    }
}

#[tokio::test]
async fn chunks_in_frames() {
    let harness = filled(|_| {});
    let request = message(&[("__name__", "up"), ("__name__", "sizes")], &[1, 0]);
    let answer = ask(&harness, "anonymous", &request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], STREAMED);
    assert_eq!(answer.headers.get("content-encoding"), None);
    let two = vec![(1, 0, 119_000), (1, 120_000, 200_000)];
    let expect = [
        (0, "__name__=up job=a".to_owned(), two.clone()),
        (0, "__name__=up job=b".to_owned(), two),
        (1, "__name__=sizes".to_owned(), vec![(2, 7, 7)]),
    ];
    assert_eq!(frames(&answer.body), expect);
}

#[tokio::test]
async fn a_long_series_is_continued_in_the_next_frame() {
    let harness = Harness::new(mount, |_| {});
    let mut appender = harness.tenant().metrics().unwrap().appender();
    let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
    let mut random = 1u64;
    for at in 0..200_000 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        appender.append(&labels, at, Value::Float(f64::from_bits(random >> 2)));
    }
    appender
        .commit(Durability::Buffered)
        .unwrap()
        .wait()
        .unwrap();
    let answer = ask(&harness, "anonymous", &message(&[("__name__", "up")], &[1])).await;
    let frames = frames(&answer.body);
    assert!(frames.len() > 1, "{}", answer.body.len());
    let chunks: Vec<_> = frames
        .into_iter()
        .flat_map(|(_, _, chunks)| chunks)
        .collect();
    assert_eq!(chunks.len(), 200_000usize.div_ceil(120));
    assert!(chunks.windows(2).all(|two| two[0].2 + 1 == two[1].1));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let (sender, mut pieces) = tokio::sync::mpsc::channel(PIECES_MAX);
    let work = tokio::task::spawn_blocking(move || {
        let mut stream = Stream::new(sender, Duration::from_millis(20));
        let mut wanted = Vec::new();
        for _ in 0..PIECES_MAX + 2 {
            stream.frame(&[0; PIECE_BYTES]);
            wanted.push(stream.is_wanted());
        }
        wanted
    });
    // As many as may wait are taken, the next one waits in vain.
    assert_eq!(work.await.unwrap(), [true, true, false, false]);
    for _ in 0..PIECES_MAX {
        assert!(pieces.recv().await.is_some());
    }
    assert!(pieces.recv().await.is_none());
}

#[tokio::test]
async fn a_failure_after_the_first_piece_breaks_the_answer_off() {
    let failure = Arc::new(OnceLock::new());
    let (sender, rest) = tokio::sync::mpsc::channel(PIECES_MAX);
    let mut body = Body::new(Pieces {
        first: Some(Bytes::from_static(b"a")),
        rest,
        failure: Arc::clone(&failure),
    });
    sender.send(Bytes::from_static(b"b")).await.unwrap();
    failure
        .set(Refusal::new(Reason::Unavailable, "why"))
        .unwrap();
    drop(sender);
    for expect in [b"a", b"b"] {
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(&data[..], expect);
    }
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn several_tenants_are_read_as_one() {
    let harness = filled(|_| {});
    let request = message(&[("__name__", "up"), ("__tenant_id__", "two")], &[1]);
    let answer = ask(&harness, "two|anonymous|nobody", &request).await;
    let told: Vec<(i64, String)> = frames(&answer.body)
        .into_iter()
        .map(|f| (f.0, f.1))
        .collect();
    let up = |tenant, job| format!("__name__=up __tenant_id__={tenant} job={job}");
    let expect = [
        (0, up("anonymous", "a")),
        (0, up("anonymous", "b")),
        (0, up("two", "c")),
        (0, up("two", "d")),
        (1, "__name__=sizes __tenant_id__=two".to_owned()),
        (1, up("two", "c")),
        (1, up("two", "d")),
    ];
    assert_eq!(told, expect);
}

#[tokio::test]
async fn refusals_and_limits() {
    let harness = filled(|config| config.query_samples_max = 402);
    let up = message(&[("__name__", "up")], &[]);
    assert_eq!(
        ask(&harness, "anonymous", &up).await.status,
        200,
        "at the limit"
    );
    let both = message(&[("__name__", "up"), ("__name__", "sizes")], &[]);
    let answer = ask(&harness, "anonymous", &both).await;
    assert_eq!(answer.told(), (400, "exceeded sample limit (402)\n"));
    let answer = ask(&harness, "anonymous", &message(&[("__name__", "up")], &[7])).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("requested response types: [7]"),
        "{}",
        answer.text()
    );
    assert_eq!(ask(&harness, "anonymous", &[0xff]).await.status, 400);
    let request = Request::post("/api/v1/read").body(Body::from("no snappy"));
    assert_eq!(harness.send(request.unwrap()).await.status, 400);
    let answer = ask(&harness, "nobody", &message(&[("__name__", "up")], &[1])).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(harness.get("/api/v1/read").await.status, 405);
}
