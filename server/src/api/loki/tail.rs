//! Following logs over a WebSocket: first what is there, then what comes.
//!
//! What waits for a client lies in the queue of the store, which is bounded and counts what it drops;
//! of a client that takes nothing for a while, or that is not heard of, nothing is kept.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use trine_logstore::{LineFilter, LogStore, Tail};
use trine_query::budget::{Cancel, Limits};
use trine_query::logql::ast::{Expr, LogExpr, StageKind};
use trine_query::logql::source::{Direction, RowBatch, Source};
use trine_query::logql::{
    self, Entry, LogRows, QueryError, QueryValue, RangeQuery, Stages, logstore,
};
use trine_storage::{Error, Kind, Labels};

use super::answer::{self, Encoding, Failure};
use super::limits::QueryLimits;
use super::request;
use super::several::Several;
use crate::api::prometheus::federation;
use crate::api::prometheus::json::{self, Object};
use crate::api::prometheus::run::Asked;
use crate::app::App;
use crate::params::Params;
use crate::slots::Slot;
use crate::tenants::TenantId;

/// Entries that wait for one client at most; the store adds a bound on bytes.
const WAITING_MAX: usize = 10_000;

/// Entries of one frame.
const FRAME_ENTRIES_MAX: usize = 100;

/// How often it is looked for entries.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often a client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(1);

/// How long a client may take nothing of what it is sent, or be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long entries are compared with those that were told at the start.
const OVERLAP: Duration = Duration::from_secs(5);

/// Bytes that the reason of a closing frame may have.
const REASON_BYTES_MAX: usize = 123;

/// Seconds that a client may want answers to be held back.
const DELAY_MAX: i64 = 5;

/// `GET`, to become a WebSocket.
pub(super) async fn tail(
    State(app): State<Arc<App>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    if let Some(failure) = only_blocks(&app) {
        return failure.into_response();
    }
    let wanted = match Wanted::of(&app, &request) {
        Ok(wanted) => wanted,
        Err(failure) => return failure.into_response(),
    };
    match upgrade {
        Ok(upgrade) => upgrade.on_upgrade(move |socket| serve(app, socket, wanted)),
        Err(_) => {
            let text = "Bad Request\nthis is followed over a WebSocket only\n";
            Failure::bad(text).into_response()
        }
    }
}

/// Why nothing can be followed on a server that only reads: entries come to it in blocks, long after
/// they were written, and never pass its memory.
fn only_blocks(app: &App) -> Option<Failure> {
    let storage = app.tenants.storage()?;
    storage.config().read_only.then(|| {
        let name = storage.depots().name();
        Failure::not_implemented(format!(
            "logs cannot be followed on this server: it is read-only (--read-only) and sees entries of {name} only once they are in blocks; follow them on the server that writes there, or query\n"
        ))
    })
}

/// What a client wants to follow.
struct Wanted {
    asked: Asked,
    expr: LogExpr,
    stages: Stages,
    limit: usize,
    start_ns: i64,
    encoding: Encoding,
}

impl Wanted {
    fn of(app: &Arc<App>, request: &Request) -> Result<Self, Failure> {
        let params = Params::from_query(request.uri().query().unwrap_or(""));
        let find = |id: TenantId| {
            let tenant = app.tenants.get(&id);
            (id, tenant)
        };
        let ids = TenantId::all_of(request.headers())?;
        let tenants: Vec<_> = ids.into_iter().map(find).collect();
        let asked = Asked {
            tenant: tenants.first().and_then(|(_, tenant)| tenant.clone()),
            tenants,
            arrived_ns: app.clock.monotonic_ns(),
            headers: request.headers().clone(),
            params,
            cancel: Cancel::new(),
            app: Arc::clone(app),
        };
        let text = asked.params.get("query").unwrap_or("");
        let Expr::Log(expr) = logql::parse(text).map_err(QueryError::from)? else {
            return Err(Failure::bad("only log selector is supported"));
        };
        let delay = asked.params.get("delay_for").map(str::parse::<i64>);
        if delay.is_some_and(|delay| delay.map_or(true, |delay| delay > DELAY_MAX)) {
            return Err(Failure::bad(format!(
                "delay_for can't be greater than {DELAY_MAX}"
            )));
        }
        let limit = request::limit(&asked.params)?;
        let limits = QueryLimits::of(&asked);
        limits.check_entries(limit)?;
        let now_ns = app.clock.now_ns();
        let start_ns = request::bounds(&asked.params, now_ns)?.start_ns;
        limits.check(&asked, &Expr::Log(expr.clone()), (start_ns, now_ns))?;
        Ok(Self {
            stages: Stages::new(&expr)?,
            encoding: super::encoding(&asked),
            asked,
            expr,
            limit,
            start_ns,
        })
    }
}

/// Why it ends.
#[derive(Debug)]
enum End {
    /// The client is told why.
    Told(String),
    /// The client is gone, or the server goes: it will come again by itself.
    Silent,
}

impl From<QueryError> for End {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Source(error) => error.into(),
            other => Self::Told(Failure::from(other).to_string()),
        }
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match error.kind() {
            Kind::Closed => Self::Silent,
            _ => Self::Told(error.to_string()),
        }
    }
}

async fn serve(app: Arc<App>, mut socket: WebSocket, wanted: Wanted) {
    let end = match places(&app, &wanted.asked) {
        Ok(places) => {
            let end = follow(&app, &mut socket, wanted).await;
            drop(places);
            end
        }
        Err(text) => End::Told(text),
    };
    if let End::Told(text) = end {
        let frame = CloseFrame {
            code: close_code::ERROR,
            reason: cut(&text).into(),
        };
        let close = socket.send(Message::Close(Some(frame)));
        timeout(PATIENCE, close).await.ok();
    }
}

/// As much of a text as a closing frame takes.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// A place among the followers of each tenant.
fn places(app: &App, asked: &Asked) -> Result<Vec<Slot>, String> {
    let mut places = Vec::new();
    for (id, _) in &asked.tenants {
        let max = app.config.of(id.as_str()).logs.tails_max;
        let place = app.tails.take(id, max).map_err(|taken| {
            format!(
                "max concurrent tail requests limit exceeded, count > limit ({} > {max})",
                taken + 1
            )
        })?;
        places.push(place);
    }
    Ok(places)
}

async fn follow(app: &App, socket: &mut WebSocket, wanted: Wanted) -> End {
    let (start, encoding) = (Instant::now(), wanted.encoding);
    let patience = wanted.asked.tenants.iter();
    let patience = patience.map(|(id, _)| app.config.of(id.as_str()).logs.tail_duration_max);
    let until = patience.min().filter(|least| !least.is_zero());
    let mut following = Some(Following::new(wanted));
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return End::Silent,
                Some(Ok(_)) => heard = Instant::now(),
            },
            _ = ping.tick() => {
                if heard.elapsed() > PATIENCE {
                    return End::Silent;
                }
                if until.is_some_and(|until| start.elapsed() >= until) {
                    return End::Told("reached tail max duration limit".to_owned());
                }
                if let Err(end) = send(socket, Message::Ping(Vec::new().into())).await {
                    return end;
                }
            }
            _ = look.tick() => {
                let Some(mut held) = following.take() else {
                    return End::Silent;
                };
                let looked = tokio::task::spawn_blocking(move || {
                    let found = held.look();
                    (held, found)
                });
                let Ok((held, found)) = looked.await else {
                    return End::Told("a defect stopped this request; see the log".to_owned());
                };
                following = Some(held);
                let found = match found {
                    Ok(found) => found,
                    Err(end) => return end,
                };
                for frame in found.frames(encoding) {
                    if let Err(end) = send(socket, Message::Text(frame.into())).await {
                        return end;
                    }
                }
            }
        }
    }
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match timeout(PATIENCE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(End::Silent),
    }
}

/// Entries for a client, and those that were dropped after them, as far as they are told.
#[derive(Debug, Default)]
struct Found {
    entries: Vec<Entry>,
    dropped: Vec<(Labels, i64)>,
}

impl Found {
    fn frames(self, encoding: Encoding) -> Vec<String> {
        let mut frames = Vec::with_capacity(1 + self.entries.len() / FRAME_ENTRIES_MAX);
        let mut left = self.entries.into_iter();
        while left.len() > FRAME_ENTRIES_MAX {
            let entries = left.by_ref().take(FRAME_ENTRIES_MAX).collect();
            frames.push(frame(entries, &[], encoding));
        }
        let last: Vec<Entry> = left.collect();
        if !last.is_empty() || !self.dropped.is_empty() {
            frames.push(frame(last, &self.dropped, encoding));
        }
        frames
    }
}

fn frame(entries: Vec<Entry>, dropped: &[(Labels, i64)], encoding: Encoding) -> String {
    let mut out = String::new();
    let mut object = Object::begin(&mut out);
    answer::streams(object.key("streams"), LogRows { entries }, encoding);
    if !dropped.is_empty() {
        json::array(
            object.key("dropped_entries"),
            dropped,
            |out, (labels, time)| {
                let mut object = Object::begin(out);
                object.text("timestamp", &time.to_string());
                json::labels(object.key("labels"), labels);
                object.end();
            },
        );
    }
    if encoding == Encoding::Categorized {
        json::strings(object.key("encodingFlags"), ["categorize-labels"]);
    }
    object.end();
    out
}

/// What tells an entry from others.
type Print = (i64, u64, u64);

fn print(entry: &Entry) -> Print {
    let line = xxhash_rust::xxh3::xxh3_64(&entry.line);
    (entry.timestamp_ns, entry.stream.hash64(), line)
}

/// What is followed, as of now.
struct Following {
    wanted: Wanted,
    lines: Vec<LineFilter>,
    tails: Vec<Option<Tail>>,
    /// Entries that were told at the start, and until when they may come again.
    told: HashSet<Print>,
    told_until: Instant,
}

impl Following {
    fn new(wanted: Wanted) -> Self {
        Self {
            tails: wanted.asked.tenants.iter().map(|_| None).collect(),
            lines: leading_filters(&wanted.expr),
            wanted,
            told: HashSet::new(),
            told_until: Instant::now() + OVERLAP,
        }
    }

    /// What came since the last time; of a tenant that is new here, first what was there.
    fn look(&mut self) -> Result<Found, End> {
        let new = self.subscribe()?;
        let mut found = Found {
            entries: self.before(new)?,
            dropped: Vec::new(),
        };
        for at in 0..self.tails.len() {
            self.take(at, &mut found)?;
        }
        // Of each batch, and of each tenant, they are in order.
        found.entries.sort_by_key(|entry| entry.timestamp_ns);
        Ok(found)
    }

    /// Follows the tenants that there are by now; gives what those hold that are new.
    fn subscribe(&mut self) -> Result<Vec<(String, LogStore)>, End> {
        let Asked { app, tenants, .. } = &self.wanted.asked;
        let matchers = &self.wanted.expr.selector.matchers;
        let mut new = Vec::new();
        for ((id, _), tail) in tenants.iter().zip(&mut self.tails) {
            if tail.is_some() {
                continue;
            }
            let left = match tenants.len() {
                1 => Some(matchers.clone()),
                _ => federation::chosen(matchers, id.as_str()),
            };
            let Some(left) = left else { continue };
            let Some(tenant) = app.tenants.get(id) else {
                continue;
            };
            if let Some(store) = tenant.read_logs()? {
                *tail = Some(store.tail(&left, &self.lines, WAITING_MAX)?);
                new.push((id.as_str().to_owned(), store));
            }
        }
        Ok(new)
    }

    /// The newest entries that were there before.
    fn before(&mut self, stores: Vec<(String, LogStore)>) -> Result<Vec<Entry>, End> {
        if stores.is_empty() {
            return Ok(Vec::new());
        }
        let Wanted {
            asked,
            expr,
            limit,
            start_ns,
            ..
        } = &self.wanted;
        let query = RangeQuery {
            start_ns: *start_ns,
            end_ns: asked.app.clock.now_ns(),
            step_ns: 1,
            direction: Direction::Backward,
            limit: *limit,
            interval_ns: 0,
        };
        let expr = Expr::Log(expr.clone());
        let views = stores.into_iter().map(|(id, store)| {
            let view: Box<dyn Source> = Box::new(store.snapshot());
            (id, view)
        });
        let mut views: Vec<_> = views.collect();
        let source = match (asked.tenants.len(), views.pop()) {
            (1, Some((_, only))) => only,
            (_, last) => {
                views.extend(last);
                Box::new(Several::new(views))
            }
        };
        let result = super::engine(asked).range(&*source, &expr, query, &asked.cancel)?;
        let QueryValue::Streams(mut rows) = result.value else {
            return Ok(Vec::new());
        };
        rows.entries.reverse();
        self.told.extend(rows.entries.iter().map(print));
        self.told_until = Instant::now() + OVERLAP;
        Ok(rows.entries)
    }

    fn take(&mut self, at: usize, found: &mut Found) -> Result<(), End> {
        let Asked { app, tenants, .. } = &self.wanted.asked;
        let (Some(Some(tail)), Some((id, _))) = (self.tails.get(at), tenants.get(at)) else {
            return Ok(());
        };
        let Some(tailed) = tail.try_recv()? else {
            return Ok(());
        };
        let name = |labels: Labels| match tenants.len() {
            1 => labels,
            _ => federation::labelled(&labels, id.as_str()),
        };
        found.dropped.extend(
            tailed
                .first_dropped
                .into_iter()
                .map(|(labels, time)| (name(labels), time)),
        );
        let (limits, cancel) = (Limits::default(), &self.wanted.asked.cancel);
        let stages = &self.wanted.stages;
        for rows in tailed.rows {
            let mut rows = RowBatch::from(rows);
            rows.streams = rows.streams.into_iter().map(name).collect();
            let mut entries = stages.entries(&rows, &limits, &app.clock, cancel)?;
            if !self.told.is_empty() {
                entries.retain(|entry| !self.told.contains(&print(entry)));
            }
            found.entries.append(&mut entries);
        }
        if !self.told.is_empty() && Instant::now() >= self.told_until {
            self.told = HashSet::new();
        }
        Ok(())
    }
}

/// The filters of lines before all other stages, which the store applies.
fn leading_filters(expr: &LogExpr) -> Vec<LineFilter> {
    let mut filters = Vec::new();
    for stage in &expr.stages {
        let StageKind::LineFilter(filter) = &stage.kind else {
            break;
        };
        // What these do not say is applied with the other stages.
        if let Ok((conditions, _)) = logstore::conditions(filter) {
            filters.extend(conditions);
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(time: i64) -> Entry {
        Entry {
            timestamp_ns: time,
            line: b"x".to_vec(),
            stream: Labels::from_pairs([("a", "b")]).unwrap(),
            metadata: Labels::empty(),
            parsed: Labels::empty(),
        }
    }

    #[test]
    fn frames_are_bounded_and_tell_what_was_dropped_last() {
        let dropped = Labels::from_pairs([("a", "b")]).unwrap();
        let found = Found {
            entries: (0..=FRAME_ENTRIES_MAX as i64).map(entry).collect(),
            dropped: vec![(dropped, 7)],
        };
        let frames = found.frames(Encoding::Merged);
        assert_eq!(frames.len(), 2);
        assert!(!frames[0].contains("dropped_entries"));
        assert_eq!(
            frames[1],
            r#"{"streams":[{"stream":{"a":"b"},"values":[["100","x"]]}],"dropped_entries":[{"timestamp":"7","labels":{"a":"b"}}]}"#
        );
        let found = Found {
            entries: vec![entry(1)],
            dropped: Vec::new(),
        };
        assert_eq!(
            found.frames(Encoding::Categorized),
            [
                r#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",{}]]}],"encodingFlags":["categorize-labels"]}"#
            ]
        );
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        assert_eq!(cut("ab"), "ab");
        let long = "é".repeat(REASON_BYTES_MAX);
        assert_eq!(cut(&long).len(), REASON_BYTES_MAX - 1);
    }
}
