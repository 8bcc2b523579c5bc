//! `tempopb.StreamingQuerier` over a real socket, as Grafana dials it: cleartext HTTP/2 on the port
//! that also answers HTTP/1.1.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{Buf as _, BufMut as _};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use trine_server::proto::tempo::{
    QueryInstantRequest, QueryInstantResponse, QueryRangeRequest, QueryRangeResponse,
    SearchRequest, SearchResponse, SearchTagValuesRequest, SearchTagValuesResponse,
    SearchTagValuesV2Response, SearchTagsRequest, SearchTagsResponse, SearchTagsV2Response,
};

use crate::harness::Running;
use crate::wire::now_ms;

/// Requests are `R`, answers `A`.
struct Messages<R, A>(PhantomData<(R, A)>);

impl<R: Message + 'static, A: Message + Default + 'static> Codec for Messages<R, A> {
    type Encode = R;
    type Decode = A;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<R: Message, A> Encoder for Messages<R, A> {
    type Item = R;
    type Error = Status;

    fn encode(&mut self, request: R, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&request.encode_to_vec());
        Ok(())
    }
}

impl<R, A: Message + Default> Decoder for Messages<R, A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        let bytes = bytes.copy_to_bytes(bytes.remaining());
        Ok(Some(A::decode(bytes).unwrap()))
    }
}

/// All messages that a method answers with.
async fn call<R, A>(
    channel: &Channel,
    method: &str,
    tenants: &str,
    request: R,
) -> Result<Vec<A>, Status>
where
    R: Message + 'static,
    A: Message + Default + 'static,
{
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = Request::new(request);
    let metadata = request.metadata_mut();
    metadata.insert("x-scope-orgid", tenants.parse().unwrap());
    let path = format!("/tempopb.StreamingQuerier/{method}");
    let path = path.parse().unwrap();
    let codec = Messages(PhantomData);
    let answer = client.server_streaming(request, path, codec).await?;
    let mut stream = answer.into_inner();
    let mut all = Vec::new();
    while let Some(message) = stream.message().await? {
        all.push(message);
    }
    Ok(all)
}

/// Traces of two spans a second apart, the last one now; every tenth failed.
fn push(running: &Running, tenant: &str, traces: i64, now_s: i64, padding: usize) {
    let mut spans = Vec::new();
    for number in 0..traces {
        let at = now_s - traces + number;
        let code = if number % 10 == 0 { 2 } else { 1 };
        let long = "x".repeat(padding);
        spans.push(format!(
            r#"{{"traceId":"{number:032x}","spanId":"{:016x}","name":"root {number}{long}","kind":2,
            "startTimeUnixNano":"{at}000000000","endTimeUnixNano":"{at}500000000","status":{{"code":{code}}}}}"#,
            number * 2 + 1
        ));
        spans.push(format!(
            r#"{{"traceId":"{number:032x}","spanId":"{:016x}","parentSpanId":"{:016x}","name":"child","kind":3,
            "startTimeUnixNano":"{}000000000","endTimeUnixNano":"{}500000000"}}"#,
            number * 2 + 2,
            number * 2 + 1,
            at + 30,
            at + 30
        ));
    }
    let body = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{tenant}"}}}}]}},
        "scopeSpans":[{{"spans":[{}]}}]}}]}}"#,
        spans.join(",")
    );
    // An id of zeros is none.
    let body = body.replace(&format!("{:032x}", 0), &format!("{:032x}", 1_u64 << 40));
    let post = running.post("/v1/traces").tenant(tenant);
    assert_eq!(post.body("application/json", body).send().status, 200);
}

fn search(query: &str, (start, end): (i64, i64), limit: u32) -> SearchRequest {
    SearchRequest {
        query: query.to_owned(),
        start: start as u32,
        end: end as u32,
        limit,
        ..SearchRequest::default()
    }
}

fn ids(messages: &[SearchResponse]) -> Vec<String> {
    let traces = messages.iter().flat_map(|message| &message.traces);
    traces.map(|trace| trace.trace_id.clone()).collect()
}

#[test]
fn every_method_answers() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms() / 1000;
    push(&running, "a", 100, now, 0);
    push(&running, "b", 3, now, 0);
    let url = format!("http://{}", running.address);
    let range = (now - 900, now + 60);
    running.block_on(async {
        let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();

        // Grafana's health check, with and without data.
        for tenant in ["a", "nobody"] {
            let health = search("{}", range, 1);
            let found: Vec<SearchResponse> =
                call(&channel, "Search", tenant, health).await.unwrap();
            assert_eq!(ids(&found).len(), usize::from(tenant == "a"));
        }

        // In pieces it is what HTTP gives at once, each trace once and in the same order.
        for (query, limit) in [
            ("{}", 20),
            ("{}", 1000),
            ("{status=error}", 7),
            ("{name=\"x\"}", 5),
        ] {
            let found: Vec<SearchResponse> =
                call(&channel, "Search", "a", search(query, range, limit))
                    .await
                    .unwrap();
            let path = crate::query::path(
                "/api/search",
                &[
                    ("q", query),
                    ("start", &range.0.to_string()),
                    ("end", &range.1.to_string()),
                    ("limit", &limit.to_string()),
                ],
            );
            let whole = running.get(&path).tenant("a").send().json();
            let whole: Vec<&str> = whole["traces"]
                .as_array()
                .unwrap()
                .iter()
                .map(|trace| trace["traceID"].as_str().unwrap())
                .collect();
            assert_eq!(ids(&found), whole, "{query}");
            let jobs: Vec<(u32, u32)> = found
                .iter()
                .filter_map(|message| message.metrics)
                .map(|metrics| (metrics.completed_jobs, metrics.total_jobs))
                .collect();
            assert!(jobs.is_sorted(), "{jobs:?}");
            let last = jobs.last().unwrap();
            assert_eq!(last.0, last.1, "{jobs:?}");
        }
        let found: Vec<SearchResponse> = call(&channel, "Search", "a|b", search("{}", range, 1000))
            .await
            .unwrap();
        assert_eq!(ids(&found).len(), 100, "tenants share ids here");

        let request = SearchTagsRequest {
            scope: "resource".to_owned(),
            ..SearchTagsRequest::default()
        };
        let found: Vec<SearchTagsV2Response> = call(&channel, "SearchTagsV2", "a", request.clone())
            .await
            .unwrap();
        assert_eq!(found[0].scopes[0].tags, ["service.name"]);
        let found: Vec<SearchTagsResponse> =
            call(&channel, "SearchTags", "a", request).await.unwrap();
        assert_eq!(found[0].tag_names, ["service.name"]);

        let request = |name: &str| SearchTagValuesRequest {
            tag_name: name.to_owned(),
            ..SearchTagValuesRequest::default()
        };
        let service = request("resource.service.name");
        let found: Vec<SearchTagValuesV2Response> =
            call(&channel, "SearchTagValuesV2", "a|b", service)
                .await
                .unwrap();
        let values: Vec<&str> = found[0]
            .tag_values
            .iter()
            .map(|v| v.value.as_str())
            .collect();
        assert_eq!(values, ["a", "b"]);
        let found: Vec<SearchTagValuesResponse> =
            call(&channel, "SearchTagValues", "b", request("service.name"))
                .await
                .unwrap();
        assert_eq!(found[0].tag_values, ["b"]);

        let ns = |second: i64| (second * 1_000_000_000) as u64;
        let request = QueryRangeRequest {
            query: "{} | count_over_time() by (kind)".to_owned(),
            start: ns(range.0),
            end: ns(range.1),
            step: ns(60),
            ..QueryRangeRequest::default()
        };
        let found: Vec<QueryRangeResponse> = call(&channel, "MetricsQueryRange", "a", request)
            .await
            .unwrap();
        let series = found.iter().flat_map(|message| &message.series);
        let sums: Vec<f64> = series
            .map(|series| series.samples.iter().map(|sample| sample.value).sum())
            .collect();
        assert_eq!(sums, [100.0, 100.0]);
        let request = QueryInstantRequest {
            query: "{} | count_over_time()".to_owned(),
            start: ns(range.0),
            end: ns(range.1),
        };
        let found: Vec<QueryInstantResponse> = call(&channel, "MetricsQueryInstant", "a", request)
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].series[0].value, 200.0);
    });
    running.stop();
}

#[test]
fn what_makes_no_sense_is_a_status() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let url = format!("http://{}", running.address);
    running.block_on(async {
        let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
        for (method, tenant, request, code, text) in [
            (
                "Search",
                "a",
                search("{", (1, 2), 0),
                Code::InvalidArgument,
                "invalid TraceQL query: ",
            ),
            (
                "Search",
                "a",
                search("{}", (1, 2_000_000), 0),
                Code::InvalidArgument,
                "range specified by start and end exceeds 168h0m0s",
            ),
            (
                "Search",
                "a/b",
                search("{}", (1, 2), 0),
                Code::InvalidArgument,
                "tenant ID",
            ),
            (
                "Find",
                "a",
                search("{}", (1, 2), 0),
                Code::Unimplemented,
                "",
            ),
        ] {
            let found: Result<Vec<SearchResponse>, Status> =
                call(&channel, method, tenant, request).await;
            let status = found.unwrap_err();
            assert_eq!(status.code(), code, "{status:?}");
            assert!(status.message().starts_with(text), "{status:?}");
        }
    });
    running.stop();
}

/// Clients take messages of four megabytes by default.
#[test]
fn messages_are_small() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), |_| {});
    let now = now_ms() / 1000;
    push(&running, "a", 300, now, 10_000);
    let url = format!("http://{}", running.address);
    running.block_on(async {
        let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
        let request = search("{}", (now - 900, now + 60), 1000);
        let found: Vec<SearchResponse> = call(&channel, "Search", "a", request).await.unwrap();
        assert_eq!(ids(&found).len(), 300);
        let sizes: Vec<usize> = found.iter().map(Message::encoded_len).collect();
        assert!(sizes.len() > 5, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 1 << 20), "{sizes:?}");
    });
    running.stop();
}
