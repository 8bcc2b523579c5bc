//! The gRPC service `tempopb.StreamingQuerier`, which Grafana asks instead of HTTP where streaming is
//! switched on. `routes` mounts it at the root of every port.
//!
//! Searches are sent in pieces, the newest traces first, and each trace once: clients keep the first
//! of two with the same id. Other answers are sent when they are complete. No message is larger than
//! [`MESSAGE_BYTES_MAX`] unless one series or value is.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::response::{IntoResponse, Response as HttpResponse};
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::codegen::tokio_stream::Stream;
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status};

use super::metrics_request::Metrics;
use super::request::{self, Search};
use super::tags::{self, TagScope, Wanted};
use super::{metrics, search, source};
use crate::api::prometheus::run::{self, Asked, CancelOnDrop};
use crate::app::App;
use crate::ingest::grpc;
use crate::proto::tempo::{
    MetadataMetrics, QueryInstantRequest, QueryInstantResponse, QueryRangeRequest,
    QueryRangeResponse, SearchRequest, SearchResponse, SearchTagValuesRequest,
    SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsRequest, SearchTagsResponse,
    SearchTagsV2Response, SearchTagsV2Scope,
};
use crate::refusal::{Reason, Refusal};

/// Bytes of one message.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Bytes of a request: a query, and little beside it.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Messages that wait for a client that reads slowly.
const WAITING_MAX: usize = 2;

/// Serves `method` of the service.
pub async fn serve(
    State(app): State<Arc<App>>,
    Path(method): Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    match method.as_str() {
        "Search" => call(app, request, find).await,
        "SearchTags" => call(app, request, tag_names).await,
        "SearchTagsV2" => call(app, request, tag_names_v2).await,
        "SearchTagValues" => call(app, request, tag_values).await,
        "SearchTagValuesV2" => call(app, request, tag_values_v2).await,
        "MetricsQueryRange" => call(app, request, metrics_range).await,
        "MetricsQueryInstant" => call(app, request, metrics_instant).await,
        _ => Status::unimplemented("")
            .into_http::<axum::body::Body>()
            .into_response(),
    }
}

/// Answers a request of the type `R` with messages of the type `A`.
pub(in crate::api) type Method<R, A> = fn(&Asked, &R, &mut Sender<'_, A>) -> Result<(), Refusal>;

/// Serves a call of a method that answers with any number of messages; `jaeger` calls it, too.
pub(in crate::api) async fn call<R, A>(
    app: Arc<App>,
    request: HttpRequest,
    method: Method<R, A>,
) -> HttpResponse
where
    R: Message + Default + 'static,
    A: Message + 'static,
{
    let mut compressions = EnabledCompressionEncodings::default();
    compressions.enable(CompressionEncoding::Gzip);
    compressions.enable(CompressionEncoding::Zstd);
    let mut service = Grpc::new(grpc::BytesCodec::<A>::default())
        .apply_compression_config(compressions, EnabledCompressionEncodings::default())
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    let begin = tower::service_fn(|request| begin(Arc::clone(&app), request, method));
    service
        .server_streaming(begin, request)
        .await
        .into_response()
}

/// Starts the work; its answers follow.
async fn begin<R, A>(
    app: Arc<App>,
    request: Request<Bytes>,
    method: Method<R, A>,
) -> Result<Response<Answers<A>>, Status>
where
    R: Message + Default + 'static,
    A: Message + 'static,
{
    let headers = request.metadata().clone().into_headers();
    let message = R::decode(request.into_inner())
        .map_err(|error| Status::invalid_argument(format!("cannot decode the request: {error}")))?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let timeout = app.config.query_timeout;
    let runtime = Handle::current();
    let own = sender.clone();
    let work = move |asked: &Asked| {
        let mut send = |message| {
            let sent = runtime.block_on(own.send_timeout(Ok(message), timeout));
            if sent.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        method(asked, &message, &mut send)
    };
    let (running, cancel) =
        run::detached(app, headers, work).map_err(|refusal| status(&refusal))?;
    tokio::spawn(async move {
        if let Err(refusal) = running.await {
            // Who is gone needs no answer.
            sender.send(Err(status(&refusal))).await.ok();
        }
    });
    Ok(Response::new(Answers {
        receiver,
        _cancel: cancel,
    }))
}

/// Takes a message; tells when the client wants no more.
pub(in crate::api) type Sender<'a, A> = dyn FnMut(A) -> ControlFlow<()> + 'a;

/// The messages of one call. Dropping it stops the work.
#[derive(Debug)]
struct Answers<A> {
    receiver: mpsc::Receiver<Result<A, Status>>,
    _cancel: CancelOnDrop,
}

impl<A> Stream for Answers<A> {
    type Item = Result<A, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

/// A refusal as Tempo's gRPC clients read it.
fn status(refusal: &Refusal) -> Status {
    let code = match refusal.reason {
        Reason::Busy => Code::ResourceExhausted,
        reason => grpc::code(reason),
    };
    Status::new(code, refusal.text.clone())
}

fn find(
    asked: &Asked,
    message: &SearchRequest,
    send: &mut Sender<'_, SearchResponse>,
) -> Result<(), Refusal> {
    let limits = source::limits(asked);
    let wanted = Search::of_message(message, &limits)?;
    search::in_pieces(asked, &wanted, &limits, |piece| {
        let SearchResponse { traces, metrics } = piece;
        in_packets(traces, Message::encoded_len, |traces| {
            send(SearchResponse { traces, metrics })
        })
    })
}

fn metrics_range(
    asked: &Asked,
    message: &QueryRangeRequest,
    send: &mut Sender<'_, QueryRangeResponse>,
) -> Result<(), Refusal> {
    let limits = source::limits(asked);
    let wanted = Metrics::of_range(message, &limits)?;
    let QueryRangeResponse {
        series,
        metrics,
        status,
        message,
    } = metrics::range(asked, &wanted, &limits)?;
    let sent = in_packets(series, Message::encoded_len, |series| {
        send(QueryRangeResponse {
            series,
            metrics,
            status,
            message: message.clone(),
        })
    });
    done(sent)
}

/// In one message: of several, clients keep the last.
fn metrics_instant(
    asked: &Asked,
    message: &QueryInstantRequest,
    send: &mut Sender<'_, QueryInstantResponse>,
) -> Result<(), Refusal> {
    let limits = source::limits(asked);
    let wanted = Metrics::of_instant(message, &limits)?;
    done(send(metrics::instant(asked, &wanted, &limits)?))
}

fn tag_names(
    asked: &Asked,
    message: &SearchTagsRequest,
    send: &mut Sender<'_, SearchTagsResponse>,
) -> Result<(), Refusal> {
    let scope = TagScope::parse(&message.scope)?;
    let found = tags::plain(asked, scope, &names_wanted(message)?)?;
    let metrics = found.metrics;
    done(in_packets(found.tag_names, String::len, |tag_names| {
        send(SearchTagsResponse { tag_names, metrics })
    }))
}

fn tag_names_v2(
    asked: &Asked,
    message: &SearchTagsRequest,
    send: &mut Sender<'_, SearchTagsV2Response>,
) -> Result<(), Refusal> {
    let scope = TagScope::parse(&message.scope)?;
    let found = tags::by_scope(asked, scope, &names_wanted(message)?)?;
    let metrics = found.metrics;
    let mut packets: Vec<SearchTagsV2Scope> = Vec::new();
    for SearchTagsV2Scope { name, tags } in found.scopes {
        let sent = in_packets(tags, String::len, |tags| {
            let name = name.clone();
            packets.push(SearchTagsV2Scope { name, tags });
            ControlFlow::Continue(())
        });
        done(sent)?;
    }
    done(in_packets(packets, Message::encoded_len, |scopes| {
        send(SearchTagsV2Response { scopes, metrics })
    }))
}

fn names_wanted(message: &SearchTagsRequest) -> Result<Wanted, Refusal> {
    let most = message.max_tags_per_scope;
    Ok(Wanted {
        range: request::range_of_message(message.start, message.end)?,
        limit: (most > 0).then_some(most as usize),
        query: message.query.clone(),
    })
}

fn tag_values(
    asked: &Asked,
    message: &SearchTagValuesRequest,
    send: &mut Sender<'_, SearchTagValuesResponse>,
) -> Result<(), Refusal> {
    let found = tags::plain_values(asked, &message.tag_name, &values_wanted(message)?)?;
    let metrics = Some(MetadataMetrics::default());
    done(in_packets(
        tags::tag_texts(found),
        String::len,
        |tag_values| {
            send(SearchTagValuesResponse {
                tag_values,
                metrics,
            })
        },
    ))
}

fn tag_values_v2(
    asked: &Asked,
    message: &SearchTagValuesRequest,
    send: &mut Sender<'_, SearchTagValuesV2Response>,
) -> Result<(), Refusal> {
    let found = tags::typed_values(asked, &message.tag_name, &values_wanted(message)?)?;
    let metrics = Some(MetadataMetrics::default());
    let size = Message::encoded_len;
    done(in_packets(tags::tag_values(found), size, |tag_values| {
        send(SearchTagValuesV2Response {
            tag_values,
            metrics,
        })
    }))
}

fn values_wanted(message: &SearchTagValuesRequest) -> Result<Wanted, Refusal> {
    let most = message.max_tag_values;
    Ok(Wanted {
        range: request::range_of_message(message.start, message.end)?,
        limit: (most > 0).then_some(most as usize),
        query: message.query.clone(),
    })
}

/// A client that wants no more is none of our business.
fn done(_: ControlFlow<()>) -> Result<(), Refusal> {
    Ok(())
}

/// Gives `send` the items in packets of at most [`MESSAGE_BYTES_MAX`], at least one packet.
fn in_packets<T>(
    items: impl IntoIterator<Item = T>,
    size: impl Fn(&T) -> usize,
    mut send: impl FnMut(Vec<T>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    // What a tag and a length take at most, and what else is in a message.
    const HEAD: usize = 6;
    const REST: usize = 1024;
    let (mut packet, mut bytes) = (Vec::new(), REST);
    for item in items {
        let more = size(&item) + HEAD;
        if bytes + more > MESSAGE_BYTES_MAX && !packet.is_empty() {
            send(std::mem::take(&mut packet))?;
            bytes = REST;
        }
        bytes += more;
        packet.push(item);
    }
    send(packet)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{
        Asked, Bytes, MESSAGE_BYTES_MAX, Refusal, Request, SearchRequest, SearchResponse, Sender,
        begin, in_packets,
    };
    use crate::api::prometheus::run::harness::Harness;

    static IS_STARTED: AtomicBool = AtomicBool::new(false);
    static IS_STOPPED: AtomicBool = AtomicBool::new(false);

    fn until_it_is_stopped(
        asked: &Asked,
        _: &SearchRequest,
        _: &mut Sender<'_, SearchResponse>,
    ) -> Result<(), Refusal> {
        IS_STARTED.store(true, Ordering::SeqCst);
        // Bounded, so that a defect is a failure and not a test without end.
        let mut turns = 0..10_000_000;
        while !asked.cancel.is_canceled() && turns.next().is_some() {
            std::thread::yield_now();
        }
        IS_STOPPED.store(asked.cancel.is_canceled(), Ordering::SeqCst);
        Ok(())
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_stops_its_query() {
        let harness = Harness::new(|routes, _| routes, |config| config.queries_max = 1);
        let request = Request::new(Bytes::new());
        let answers = begin(harness.app.clone(), request, until_it_is_stopped).await;
        while !IS_STARTED.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        drop(answers.unwrap());
        // There is one place, which is free when the work is over.
        assert_eq!(harness.app.queries.run(|| Ok(())).await, Ok(()));
        assert!(IS_STOPPED.load(Ordering::SeqCst));
    }

    #[test]
    fn packets_are_bounded_and_hold_everything() {
        let check = |sizes: &[usize], expect: &[usize]| {
            let mut told = Vec::new();
            let sent = in_packets(
                sizes.to_vec(),
                |size| *size,
                |packet| {
                    told.push(packet.len());
                    ControlFlow::Continue(())
                },
            );
            assert_eq!((sent, told.as_slice()), (ControlFlow::Continue(()), expect));
        };
        let room = MESSAGE_BYTES_MAX - 1024;
        check(&[], &[0]);
        check(&[1, 2, 3], &[3]);
        check(&[room - 6], &[1]);
        check(&[room / 2 - 6, room / 2 - 6], &[2]);
        check(&[room / 2 - 6, room / 2 - 5], &[1, 1]);
        check(&[2 * room, 1], &[1, 1]);
    }

    #[test]
    fn a_client_that_is_gone_gets_nothing_more() {
        let mut count = 0;
        let sent = in_packets(
            vec![MESSAGE_BYTES_MAX; 3],
            |size| *size,
            |_| {
                count += 1;
                ControlFlow::Break(())
            },
        );
        assert_eq!((sent, count), (ControlFlow::Break(()), 1));
    }
}
