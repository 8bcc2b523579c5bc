//! Remote read, in both of its forms: all samples in one message, or chunks in a stream of frames of
//! bounded size. Mounted by `prometheus`.
//!
//! A frame is the length of its message as a varint, the message's CRC-32C, highest byte first, and
//! the message, which holds chunks of one series.

mod bits;
mod chunk;
mod crc32c;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;
use trine_storage::codec::put_varint;
use trine_storage::{Error, Kind, Labels, Matcher, TimeRange};
use trine_tsdb::{Hints, Samples, Tsdb};

use super::federation::{self, Input, Merge};
use crate::app::App;
use crate::body::{self, Encoding};
use crate::proto::remote_read::{self as proto, ReadRequest, SAMPLES, STREAMED_CHUNKS};
use crate::refusal::{Reason, Refusal};
use crate::tenants::TenantId;

/// Bytes of one message in a frame. A series that has more is continued in the next frame.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Bytes after which frames are sent, and how many such pieces may wait for a slow client.
const PIECE_BYTES: usize = 64 << 10;
const PIECES_MAX: usize = 2;

/// Samples of an answer that is one message; Prometheus' limit.
const SAMPLES_MAX: usize = 50_000_000;

/// How long a client may take for a piece. One that is slower is given up, for it keeps others from
/// reading.
const STALL_MAX: Duration = Duration::from_secs(60);

const STREAMED: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// A query over the stores that it concerns.
struct Read {
    query: proto::Query,
    stores: Vec<(String, Tsdb)>,
    /// Whether series say whose they are.
    several: bool,
    samples_max: usize,
}

/// One series of an answer.
pub(super) struct Series {
    labels: Labels,
    samples: Samples,
}

impl From<trine_tsdb::Series> for Series {
    fn from(series: trine_tsdb::Series) -> Self {
        Self {
            labels: series.labels,
            samples: series.samples,
        }
    }
}

impl federation::Labelled for Series {
    fn labels(&self) -> &Labels {
        &self.labels
    }
}

/// The handler.
pub(super) async fn read(State(app): State<Arc<App>>, request: Request) -> Response {
    match answer(app, request).await {
        Ok(response) => response,
        Err(refusal) => {
            let kind = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
            let status = match refusal.reason {
                Reason::Internal | Reason::Execution => StatusCode::INTERNAL_SERVER_ERROR,
                _ => refusal.status(),
            };
            (status, [kind], format!("{}\n", refusal.text)).into_response()
        }
    }
}

async fn answer(app: Arc<App>, request: Request) -> Result<Response, Refusal> {
    let ids = TenantId::all_of(request.headers())?;
    let (parts, body) = request.into_parts();
    let config = &app.config;
    let mut payload = body::read(body, &parts.headers, config.body_bytes_max, &app.bodies).await?;
    let bytes =
        Encoding::Snappy.decode(payload.bytes, config.decoded_bytes_max, &mut payload.share)?;
    let request = ReadRequest::decode(&bytes).map_err(|error| Refusal::bad(error.to_string()))?;
    let form = negotiate(&request.accepted)?;
    let several = ids.len() > 1;
    let samples_max = config.query_samples_max.min(SAMPLES_MAX);
    let (reads, tenants) = (app.reads.clone(), Arc::clone(&app));
    let opened = move || {
        let mut stores = Vec::new();
        for id in ids {
            if let Some(tenant) = tenants.tenants.get(&id)
                && let Some(store) = tenant.read_metrics()?
            {
                stores.push((id.as_str().to_owned(), store));
            }
        }
        Ok::<_, Refusal>(stores)
    };
    let of = move |query, stores: &[(String, Tsdb)]| Read {
        query,
        stores: stores.to_vec(),
        several,
        samples_max,
    };
    if form == SAMPLES {
        let work = move || {
            let stores = opened()?;
            let queries = request.queries.into_iter();
            let reads: Vec<Read> = queries.map(|query| of(query, &stores)).collect();
            whole(&reads)
        };
        let body = reads.run(work).await?;
        let headers: [(HeaderName, &str); 2] = [
            (header::CONTENT_TYPE, "application/x-protobuf"),
            (header::CONTENT_ENCODING, "snappy"),
        ];
        return Ok((headers, Body::from(body)).into_response());
    }
    let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
    let failure = Arc::new(OnceLock::new());
    let (failed, open) = (Arc::clone(&failure), sender.clone());
    let work = move || {
        let stores = opened()?;
        let mut stream = Stream::new(sender, STALL_MAX);
        for (number, query) in (0..).zip(request.queries) {
            of(query, &stores).chunks(number, &mut stream)?;
        }
        stream.send();
        if stream.has_stalled {
            let why = "the client of a remote read was too slow";
            return Err(Refusal::new(Reason::Timeout, why));
        }
        Ok(())
    };
    let done = reads.run(work);
    tokio::spawn(async move {
        if let Err(refusal) = done.await {
            failed.set(refusal).ok();
        }
        // Until here, so that the body does not end before it can know why.
        drop(open);
    });
    // What goes wrong before the first piece is still an answer of its own.
    let first = pieces.recv().await;
    if let (None, Some(refusal)) = (&first, failure.get()) {
        return Err(refusal.clone());
    }
    let body = Body::new(Pieces {
        first,
        rest: pieces,
        failure,
    });
    Ok(([(header::CONTENT_TYPE, STREAMED)], body).into_response())
}

/// The first form that the client wants and that is spoken here.
fn negotiate(accepted: &[u64]) -> Result<u64, Refusal> {
    let spoken = |form: &u64| matches!(*form, SAMPLES | STREAMED_CHUNKS);
    match accepted.iter().copied().find(spoken) {
        Some(form) => Ok(form),
        None if accepted.is_empty() => Ok(SAMPLES),
        None => Err(Refusal::bad(format!(
            "server does not support any of the requested response types: {accepted:?}; \
             supported: [SAMPLES STREAMED_XOR_CHUNKS]"
        ))),
    }
}

impl Read {
    /// The series in label order.
    fn series(&self) -> Result<Merge<Series>, Error> {
        let wanted = &self.query.matchers;
        let matchers = wanted
            .iter()
            .map(|(op, name, value)| Matcher::new(*op, name, value))
            .collect::<Result<Vec<_>, _>>()?;
        let range = TimeRange::inclusive(self.query.start_ms, self.query.end_ms);
        let mut inputs = Vec::new();
        for (tenant, store) in &self.stores {
            let tenant = self.several.then(|| tenant.clone());
            let matchers = match &tenant {
                None => matchers.clone(),
                Some(tenant) => match federation::chosen(&matchers, tenant) {
                    Some(matchers) => matchers,
                    None => continue,
                },
            };
            let snapshot = store.snapshot();
            let found = snapshot.select(&matchers, range, &Hints::default())?;
            let Some(tenant) = tenant else {
                inputs.push(Box::new(found.map(|series| Ok(Series::from(series?)))) as Input<_>);
                continue;
            };
            let found = found.map(move |series| {
                let mut series = Series::from(series?);
                series.labels = federation::labelled(&series.labels, &tenant);
                Ok(series)
            });
            inputs.push(federation::ordered(&snapshot, found)?);
        }
        Ok(Merge::of(inputs))
    }

    /// Sends the frames of the query with this number, as long as somebody wants them.
    fn chunks(&self, number: u64, stream: &mut Stream) -> Result<(), Error> {
        for series in self.series()? {
            if !stream.is_wanted() {
                return Ok(());
            }
            let Series { labels, samples } = series?;
            let mut head = Vec::new();
            proto::put_labels(&mut head, &labels);
            let mut message = head.clone();
            let mut part = Vec::new();
            chunk::encode(&samples.timestamps, &samples.values, |chunk| {
                part.clear();
                let times = (chunk.min_ms, chunk.max_ms);
                proto::put_chunk(&mut part, times, chunk.encoding as u64, &chunk.data);
                // Field numbers and lengths take a few bytes more.
                if message.len() > head.len() && message.len() + part.len() + 32 > FRAME_BYTES_MAX {
                    stream.frame(&proto::chunked_response(&message, number));
                    message.clone_from(&head);
                }
                proto::put_bytes(&mut message, 2, &part);
                stream.is_wanted()
            });
            stream.frame(&proto::chunked_response(&message, number));
        }
        Ok(())
    }
}

/// All answers as one packed message.
fn whole(reads: &[Read]) -> Result<Vec<u8>, Refusal> {
    let (mut message, mut samples) = (Vec::new(), 0);
    for read in reads {
        let (mut result, mut series_message) = (Vec::new(), Vec::new());
        for series in read.series()? {
            let series = series?;
            samples += series.samples.timestamps.len();
            if samples > read.samples_max {
                let why = format!("exceeded sample limit ({})", read.samples_max);
                return Err(Refusal::bad(why));
            }
            series_message.clear();
            proto::put_series(&mut series_message, &series.labels, &series.samples);
            proto::put_bytes(&mut result, 1, &series_message);
        }
        proto::put_bytes(&mut message, 1, &result);
    }
    let packed = snap::raw::Encoder::new().compress_vec(&message);
    packed.map_err(|error| Error::new(Kind::Limit, format!("pack the answer: {error}")).into())
}

/// Frames on their way to the client.
struct Stream {
    piece: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
    stall_max: Duration,
    /// The client was too slow.
    has_stalled: bool,
}

impl Stream {
    /// Frames that go to `sender`, which takes each piece within `stall_max`.
    fn new(sender: mpsc::Sender<Bytes>, stall_max: Duration) -> Self {
        Self {
            piece: Vec::new(),
            sender,
            stall_max,
            has_stalled: false,
        }
    }

    fn is_wanted(&self) -> bool {
        !self.has_stalled && !self.sender.is_closed()
    }

    fn frame(&mut self, message: &[u8]) {
        put_varint(&mut self.piece, message.len() as u64);
        let checksum = crc32c::crc32c(message);
        self.piece.extend_from_slice(&checksum.to_be_bytes());
        self.piece.extend_from_slice(message);
        if self.piece.len() >= PIECE_BYTES {
            self.send();
        }
    }

    /// Waits until there is room for what is written so far. To be called where blocking is allowed,
    /// on a thread of the runtime.
    fn send(&mut self) {
        if self.piece.is_empty() || !self.is_wanted() {
            return;
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let sent = tokio::time::timeout(self.stall_max, self.sender.send(piece));
        // A client that went away is seen by `is_wanted`.
        self.has_stalled = tokio::runtime::Handle::current().block_on(sent).is_err();
    }
}

/// The body of a streamed answer. A failure breaks it off, so that nobody takes what there is of it
/// for the whole.
struct Pieces {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Bytes>,
    /// Set before `rest` ends, if something went wrong.
    failure: Arc<OnceLock<Refusal>>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let next = match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.rest.poll_recv(context),
        };
        next.map(|piece| match (piece, self.failure.get()) {
            (Some(piece), _) => Some(Ok(Frame::data(piece))),
            (None, Some(refusal)) => Some(Err(refusal.clone())),
            (None, None) => None,
        })
    }
}

#[cfg(test)]
mod tests;
