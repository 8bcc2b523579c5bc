//! A place in an object store: blocking requests that are bounded, repeated and counted. Everything
//! else of this module asks through it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::counters::{Counters, Verb};
use super::failure::{Failure, Reason};
use super::location::{Backend, Location};
use crate::clock::Clock;
use crate::cost::Cost;
use crate::error::{Error, Result};
use crate::ulid::IdSource;

/// Objects that a page of a list has, by the rules of all stores.
const LIST_PAGE: u64 = 1000;

/// Limits of a bucket.
#[derive(Debug, Clone)]
pub struct Options {
    /// Requests that are sent at a time. Default 64.
    pub requests_in_flight_max: usize,
    /// How often one request is sent before its error is given. Default 6, at least 1.
    pub attempts_max: u32,
    /// The longest pause before the second attempt; it doubles from attempt to attempt, and half of
    /// it is chosen by chance. Default 100 ms.
    pub backoff_first: Duration,
    /// The longest pause of all. Default 5 s.
    pub backoff_max: Duration,
    /// How long one attempt may take. Default 60 s.
    pub request_time_max: Duration,
    /// Bytes of an object that is read whole. Default 64 MiB.
    pub body_bytes_max: u64,
    /// Objects that one list may have. Default 1,000,000.
    pub objects_listed_max: usize,
    /// What tokens and pauses are chosen by; nothing for a number that the system gives. Simulations
    /// set it, differently for each bucket.
    pub salt: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            requests_in_flight_max: 64,
            attempts_max: 6,
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            request_time_max: Duration::from_secs(60),
            body_bytes_max: 64 << 20,
            objects_listed_max: 1_000_000,
            salt: None,
        }
    }
}

/// Whether an object was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutNew {
    /// It was not there and is now.
    Created,
    /// Somebody else's object of that name is there, and stays.
    Exists,
}

/// What a store says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name within the bucket.
    pub key: String,
    /// Bytes in it.
    pub bytes: u64,
    /// When it was written, milliseconds since 1970 by the clock of the store.
    pub modified_ms: i64,
}

/// A bucket and a prefix. A cheap handle; all methods block and may be called from any thread but
/// those that drive the runtime.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use trine_storage::clock::SystemClock;
/// use trine_storage::remote::{Bucket, Options, PutNew};
///
/// let runtime = tokio::runtime::Runtime::new()?;
/// let clock = Arc::new(SystemClock::new());
/// let environment: BTreeMap<String, String> = std::env::vars().collect();
/// let bucket = Bucket::open(
///     "memory:///",
///     &environment,
///     Options::default(),
///     runtime.handle().clone(),
///     clock,
/// )?;
/// bucket.check()?;
/// assert_eq!(bucket.put_new("a/b", "text".into())?, PutNew::Created);
/// assert_eq!(bucket.get("a/b")?.as_deref(), Some(&b"text"[..]));
/// assert_eq!(bucket.list("a")?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Bucket {
    backend: Backend,
    prefix: Path,
    shown: Arc<str>,
    shared: Arc<Shared>,
    attempts_max: u32,
    request_time_max: Duration,
}

/// What a bucket has in common with those within it.
struct Shared {
    handle: Handle,
    options: Options,
    in_flight: Semaphore,
    counters: Counters,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    salt: u64,
    draws: AtomicU64,
    /// Whether nobody waits for the store any more.
    is_over: watch::Sender<bool>,
}

impl Bucket {
    /// The bucket that the setting `url` names: `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix`, `file:///directory`, or `memory:///`, which is empty at first and
    /// nobody else's. Credentials and endpoints are taken from `environment`, by the names that each
    /// cloud's own tools use. Requests run on the runtime behind `handle`, whose time and network
    /// must be enabled. Nothing is asked of the store before [`Bucket::check`].
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) when the setting cannot be read or the environment lacks
    /// something, [`Kind::Io`](crate::Kind::Io) when the directory cannot be made.
    pub fn open(
        url: &str,
        environment: &BTreeMap<String, String>,
        options: Options,
        handle: Handle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let location: Location = url.parse()?;
        let backend = location.open(environment, options.request_time_max)?;
        let prefix = Path::from(location.prefix.as_str());
        Ok(Self::assemble(
            backend,
            prefix,
            &location.shown,
            options,
            (handle, clock),
        ))
    }

    /// A bucket over a store that the caller has made; errors call it `name`.
    pub fn over<S: ObjectStore + MultipartStore>(
        store: Arc<S>,
        name: &str,
        options: Options,
        handle: Handle,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let backend = Backend::of(store);
        Self::assemble(backend, Path::default(), name, options, (handle, clock))
    }

    fn assemble(
        backend: Backend,
        prefix: Path,
        name: &str,
        options: Options,
        (handle, clock): (Handle, Arc<dyn Clock>),
    ) -> Self {
        let salt = options
            .salt
            .unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Self {
            backend,
            prefix,
            shown: name.into(),
            attempts_max: options.attempts_max,
            request_time_max: options.request_time_max,
            shared: Arc::new(Shared {
                handle,
                in_flight: Semaphore::new(options.requests_in_flight_max.max(1)),
                options,
                counters: Counters::default(),
                clock,
                ids: IdSource::new(salt),
                salt,
                draws: AtomicU64::new(0),
                is_over: watch::Sender::new(false),
            }),
        }
    }

    /// The part of the bucket below `part`, which is one step of the path whatever it contains.
    /// Limits and counters are those of the whole.
    #[must_use]
    pub fn within(&self, part: &str) -> Self {
        let prefix = self.prefix.clone().join(part);
        Self {
            shown: format!("{}/{part}", self.shown).into(),
            prefix,
            ..self.clone()
        }
    }

    /// The same bucket for those who rather hear of a failure than wait: with other bounds in place of
    /// [`Options::attempts_max`] and [`Options::request_time_max`].
    #[must_use]
    pub fn hurried(&self, attempts_max: u32, request_time_max: Duration) -> Self {
        Self {
            attempts_max,
            request_time_max,
            ..self.clone()
        }
    }

    /// Ends all requests, of those within and around it too, that go on or are made later, with
    /// [`Kind::Unavailable`](crate::Kind::Unavailable): at the end of a process that has waited long
    /// enough. What became of requests that were sent is not known.
    pub fn give_up(&self) {
        self.shared.is_over.send_replace(true);
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.shown
    }

    /// What was asked of the store so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(crate) fn path(&self, key: &str) -> Path {
        let parts = key.split('/').filter(|part| !part.is_empty());
        parts.fold(self.prefix.clone(), Path::join)
    }

    /// A text that no other call, no other handle and no other process gives.
    pub fn token(&self) -> String {
        self.shared.ids.next(&*self.shared.clock).to_string()
    }

    /// Writes an object if there is none of that name. `bytes` must differ from what everybody else
    /// writes under it (a [`Bucket::token`] in them is enough): that is how a success whose answer was
    /// lost is told from somebody else's object.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable), and then the object may or may not be there,
    /// now or in a moment.
    pub fn put_new(&self, key: &str, bytes: Bytes) -> Result<PutNew> {
        let path = self.path(key);
        let this = self.clone();
        self.run("create", key, async move {
            let payload = PutPayload::from(bytes.clone());
            let mut attempt = 0;
            loop {
                attempt += 1;
                let put = || {
                    let mode = PutOptions::from(PutMode::Create);
                    this.backend.store.put_opts(&path, payload.clone(), mode)
                };
                let failure = match this.attempt(Verb::Put, put()).await {
                    Ok(_) => {
                        this.shared.counters.sent(bytes.len() as u64);
                        return Ok(PutNew::Created);
                    }
                    // It may be ours: of an attempt whose answer never came.
                    Err(failure) if failure.reason == Reason::Exists => {
                        match this.fetch(&path, None).await {
                            Ok((found, _)) if found == bytes => return Ok(PutNew::Created),
                            Ok(_) => return Ok(PutNew::Exists),
                            // It is larger than what we wrote, whatever it is.
                            Err(read) if read.reason == Reason::TooLarge => {
                                return Ok(PutNew::Exists);
                            }
                            // Stores also say so while somebody else's attempt is under way.
                            Err(read) if read.reason == Reason::Missing => failure,
                            Err(read) => return Err(read),
                        }
                    }
                    Err(failure) if failure.reason.passes() => failure,
                    Err(failure) => return Err(failure),
                };
                this.pause(attempt, failure).await?;
            }
        })
    }

    /// Writes an object, in place of one of that name.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable), and then either may be there.
    pub fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let path = self.path(key);
        let this = self.clone();
        self.run("put", key, async move {
            let payload = PutPayload::from(bytes);
            this.ask(Verb::Put, || this.backend.store.put(&path, payload.clone()))
                .await?;
            this.shared.counters.sent(payload.content_length() as u64);
            Ok(())
        })
    }

    /// Reads a whole object; nothing when there is none.
    ///
    /// # Errors
    /// [`Kind::Limit`](crate::Kind::Limit) when it has more than [`Options::body_bytes_max`],
    /// [`Kind::Unavailable`](crate::Kind::Unavailable), also when what comes is shorter or longer than
    /// the store says.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.get_object(key)?.map(|(bytes, _)| bytes))
    }

    /// Reads a whole object and what the store says of it; nothing when there is none.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub fn get_object(&self, key: &str) -> Result<Option<(Bytes, Object)>> {
        let path = self.path(key);
        let this = self.clone();
        let found = self.run("get", key, async move {
            match this.fetch(&path, None).await {
                Err(failure) if failure.reason == Reason::Missing => Ok(None),
                other => other.map(Some),
            }
        })?;
        Cost::asked(found.as_ref().map_or(0, |(bytes, _)| bytes.len() as u64));
        Ok(found.map(|(bytes, meta)| (bytes, self.object(&meta))))
    }

    /// Reads one range of an object.
    ///
    /// # Errors
    /// As [`Bucket::get`]; also when there is no such object. [`Kind::Corrupt`](crate::Kind::Corrupt)
    /// when the object ends before the range does.
    pub fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let path = self.path(key);
        let this = self.clone();
        let what = format!("get bytes {} to {} of", range.start, range.end);
        self.run(&what, key, async move {
            Ok(this.fetch(&path, Some(range)).await?.0)
        })
    }

    /// What the store says of an object; nothing when there is none.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable).
    pub fn head(&self, key: &str) -> Result<Option<Object>> {
        let path = self.path(key);
        let this = self.clone();
        let found = self.run("look at", key, async move {
            let head = this.ask(Verb::Head, || this.backend.store.head(&path));
            match head.await {
                Err(failure) if failure.reason == Reason::Missing => Ok(None),
                other => other.map(Some),
            }
        })?;
        Cost::asked(0);
        Ok(found.map(|meta| self.object(&meta)))
    }

    /// The objects below `dir`, sorted by key. What was written or removed last may be listed as it
    /// was before, where the store is so.
    ///
    /// # Errors
    /// [`Kind::Limit`](crate::Kind::Limit) when there are more than [`Options::objects_listed_max`],
    /// [`Kind::Unavailable`](crate::Kind::Unavailable).
    pub fn list(&self, dir: &str) -> Result<Vec<Object>> {
        let path = self.path(dir);
        let this = self.clone();
        let max = self.options().objects_listed_max;
        let found = self.run("list", dir, async move {
            let all = || async {
                let mut objects = this.backend.store.list(Some(&path));
                let mut found = Vec::new();
                while let Some(meta) = objects.try_next().await? {
                    if found.len() as u64 % LIST_PAGE == LIST_PAGE - 1 {
                        this.shared.counters.request(Verb::List, 1);
                    }
                    found.push(meta);
                    if found.len() > max {
                        break;
                    }
                }
                Ok(found)
            };
            let found = this.ask(Verb::List, all).await?;
            if found.len() > max {
                let words = format!("more than {max} objects");
                return Err(Failure::new(Reason::TooLarge, words));
            }
            Ok(found)
        })?;
        Cost::asked(0);
        let mut objects: Vec<Object> = found.iter().map(|meta| self.object(meta)).collect();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Whether there is no object below `dir`: one request, whatever their number. Who may not write
    /// checks a bucket with it.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable).
    pub fn is_empty(&self, dir: &str) -> Result<bool> {
        let path = self.path(dir);
        let this = self.clone();
        self.run("list", dir, async move {
            let first = || async { this.backend.store.list(Some(&path)).try_next().await };
            Ok(this.ask(Verb::List, first).await?.is_none())
        })
    }

    /// Removes an object; it is no error when there is none.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::Kind::Unavailable), and then it may or may not be gone.
    pub fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        let this = self.clone();
        self.run("delete", key, async move {
            let delete = this.ask(Verb::Delete, || this.backend.store.delete(&path));
            match delete.await {
                Err(failure) if failure.reason == Reason::Missing => Ok(()),
                other => other,
            }
        })
    }

    /// Waits so long, but not longer than anybody waits for the store.
    pub(crate) fn wait(&self, time: Duration) -> Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        let this = self.clone();
        self.run("wait for", "the bandwidth", async move {
            this.rest(time).await;
            Ok(())
        })
    }

    /// Runs requests on the runtime and waits for them.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        verb: &str,
        key: &str,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T> {
        let done = wait(&self.shared.handle, work).and_then(|done| done);
        done.map_err(|failure| failure.during(format_args!("{verb} {key} in {}", self.shown)))
    }

    /// Sends a request until it succeeds, is refused for good or attempts run out.
    pub(crate) async fn ask<T, F>(&self, verb: Verb, request: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.attempt(verb, request()).await {
                Err(failure) if failure.reason.passes() => self.pause(attempt, failure).await?,
                other => return other,
            }
        }
    }

    /// Reads an object or a range of it, exactly.
    pub(crate) async fn fetch(
        &self,
        path: &Path,
        range: Option<Range<u64>>,
    ) -> Result<(Bytes, ObjectMeta), Failure> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let fetched = self
                .attempt(Verb::Get, self.body(path, range.clone()))
                .await;
            match fetched.and_then(|body| body) {
                Ok((bytes, meta)) => {
                    self.shared.counters.came(bytes.len() as u64);
                    return Ok((bytes, meta));
                }
                Err(failure) if failure.reason.passes() => self.pause(attempt, failure).await?,
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn body(
        &self,
        path: &Path,
        range: Option<Range<u64>>,
    ) -> object_store::Result<Result<(Bytes, ObjectMeta), Failure>> {
        let options = GetOptions {
            range: range.clone().map(GetRange::Bounded),
            ..GetOptions::default()
        };
        let answer = self.backend.store.get_opts(path, options).await?;
        let meta = answer.meta.clone();
        let asked = range.clone().unwrap_or(0..meta.size);
        let max = self.shared.options.body_bytes_max;
        let expected = asked.end.saturating_sub(asked.start);
        if range.is_some() && answer.range != asked {
            let words = format!("the object has {} bytes", meta.size);
            return Ok(Err(Failure::new(Reason::Damaged, words)));
        }
        if range.is_none() && expected > max {
            let words = format!("{expected} bytes, at most {max}");
            return Ok(Err(Failure::new(Reason::TooLarge, words)));
        }
        // Not `bytes()`, which would hold whatever comes.
        let mut stream = answer.into_stream();
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut came = 0;
        while let Some(piece) = stream.try_next().await? {
            came += piece.len() as u64;
            if came > expected {
                break;
            }
            pieces.push(piece);
        }
        if came != expected {
            let words = format!("{came} bytes came of {expected}");
            // A connection that broke looks like this, too.
            return Ok(Err(Failure::new(Reason::Unavailable, words)));
        }
        Ok(Ok((joined(pieces, came), meta)))
    }

    /// One attempt, counted and bounded.
    pub(crate) async fn attempt<T>(
        &self,
        verb: Verb,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        let shared = &self.shared;
        let closed = |_| Failure::new(Reason::Runtime, "");
        let work = async {
            let permit = shared.in_flight.acquire().await.map_err(closed)?;
            shared.counters.request(verb, 1);
            let max = self.request_time_max;
            let answer = tokio::time::timeout(max, request).await;
            drop(permit);
            match answer {
                Ok(answer) => answer.map_err(Failure::from),
                Err(_) => Err(Failure::new(
                    Reason::Unavailable,
                    format!("no answer within {max:?}"),
                )),
            }
        };
        let done = match self.unless_over(work).await {
            Some(done) => done,
            None => Err(Failure::new(
                Reason::Unavailable,
                "the process ends and waits no longer",
            )),
        };
        let failure = match done {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        match failure.reason {
            Reason::Missing | Reason::Exists => {}
            reason => {
                shared.counters.error(verb);
                if reason == Reason::Throttled {
                    shared.counters.throttle();
                }
            }
        }
        Err(failure)
    }

    /// Waits before the next attempt; gives the failure back when there is none left.
    pub(crate) async fn pause(&self, attempt: u32, failure: Failure) -> Result<(), Failure> {
        let options = &self.shared.options;
        if attempt >= self.attempts_max || *self.shared.is_over.borrow() {
            return Err(failure);
        }
        self.shared.counters.retry();
        let doubled = 1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX);
        let longest = options
            .backoff_first
            .saturating_mul(doubled)
            .min(options.backoff_max);
        if !longest.is_zero() {
            // Half of it by chance, so that many that failed together do not come back together.
            let draw = self.shared.draws.fetch_add(1, Ordering::Relaxed);
            let mut rng = crate::sim::Rng::new(self.shared.salt.wrapping_add(draw));
            let half = longest / 2;
            let by_chance = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
            let jitter = Duration::from_nanos(rng.below(by_chance.saturating_add(1)));
            self.rest(half + jitter).await;
        }
        Ok(())
    }

    /// As [`Bucket::rest`], before something is done with `key`, on the calling thread.
    pub(crate) fn rest_before(&self, key: &str, time: Duration) -> Result<()> {
        let this = self.clone();
        self.run("wait for bandwidth for", key, async move {
            this.rest(time).await;
            Ok(())
        })
    }

    /// Sleeps, but not longer than anybody waits for the store.
    pub(crate) async fn rest(&self, time: Duration) {
        self.unless_over(tokio::time::sleep(time)).await;
    }

    /// What `work` gives; nothing when nobody waits for it any more.
    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut over = self.shared.is_over.subscribe();
        tokio::select! {
            biased;
            _ = over.wait_for(|is_over| *is_over) => None,
            done = work => Some(done),
        }
    }

    pub(crate) fn object(&self, meta: &ObjectMeta) -> Object {
        let key = meta.location.as_ref();
        let key = key.strip_prefix(self.prefix.as_ref()).unwrap_or(key);
        Object {
            key: key.trim_start_matches('/').to_owned(),
            bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.shown).finish()
    }
}

/// One piece of memory of several.
pub(crate) fn joined(mut pieces: Vec<Bytes>, len: u64) -> Bytes {
    if pieces.len() == 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(len).unwrap_or(0));
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}

/// Runs `work` on the runtime and waits for it.
pub(crate) fn wait<T: Send + 'static>(
    handle: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Failure> {
    refuse_runtime_threads(handle)?;
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    handle.spawn(async move {
        // Nobody stops waiting for it.
        sender.send(work.await).ok();
    });
    // The sender goes when the runtime is shut down.
    receiver
        .recv()
        .map_err(|_| Failure::new(Reason::Runtime, "the runtime was shut down"))
}

/// Waiting on a thread that drives the runtime could wait for itself.
pub(crate) fn refuse_runtime_threads(handle: &Handle) -> Result<(), Failure> {
    // Threads that only belong to the runtime (`spawn_blocking`) know it too, but may wait: tokio
    // tells them apart in no other way than by the panic of `block_on`.
    let may_wait = Handle::try_current().is_err()
        || catch_unwind(AssertUnwindSafe(|| handle.block_on(async {}))).is_ok();
    if may_wait {
        Ok(())
    } else {
        let words = "a blocking call on a thread of the runtime";
        Err(Failure::new(Reason::Runtime, words))
    }
}

/// The last of numbers that have no gap: the first is known to be there, and so is every one up to
/// the last. Asks a logarithm of times.
pub(crate) fn last_there(first: u64, there: impl Fn(u64) -> Result<bool>) -> Result<u64> {
    let (mut low, mut step) = (first, 1);
    while there(low + step)? {
        low += step;
        step *= 2;
    }
    // `low` is there, `high` is not.
    let mut high = low + step;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if there(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The error of an operation that no request was made for.
pub(crate) fn refused(what: impl fmt::Display, reason: Reason, words: &str) -> Error {
    Failure::new(reason, words).during(what)
}

#[cfg(test)]
mod tests;
