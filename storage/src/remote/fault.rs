//! An object store that fails: for tests and for the engines' simulations.
//!
//! What goes wrong is chosen by a seed: errors before and after a request took effect, writes whose
//! effect comes later than their error, throttling, bodies that are too short, lists of some time ago,
//! a store that is gone. Several actors may take turns at every single request ([`Turns`]), so that a
//! run with threads is the same each time, and may crash between any two requests.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartId, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::sim::{Cut, Rng};

mod turns;

pub use turns::Turns;

/// What goes wrong, out of a thousand requests each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Fail without effect.
    pub before: u64,
    /// Take effect, and the answer is lost.
    pub after: u64,
    /// Writes that fail and take effect up to [`Faults::late_requests`] requests later.
    pub late: u64,
    /// How late.
    pub late_requests: u64,
    /// Are refused with a 503.
    pub throttled: u64,
    /// Bodies that end too early.
    pub short: u64,
    /// Lists show what was there up to so many changes ago.
    pub list_lag_changes: u64,
    /// What every request takes.
    pub latency: Duration,
    /// Creates an object although it exists, like stores that ignore the header.
    pub ignores_create: bool,
}

/// A change that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The object.
    pub key: String,
    /// What it is now; nothing when it was removed.
    pub bytes: Option<Bytes>,
    /// When, milliseconds since 1970 by the clock of the store.
    pub at_ms: i64,
}

#[derive(Debug, Clone)]
struct Entry {
    bytes: Bytes,
    modified_ms: i64,
    number: u64,
}

#[derive(Debug, Clone)]
enum Write {
    Put(Bytes),
    Create(Bytes),
    Delete,
}

struct State {
    rng: Rng,
    faults: Faults,
    objects: BTreeMap<String, Entry>,
    uploads: BTreeMap<String, BTreeMap<usize, Bytes>>,
    /// What changed, with what was there before.
    past: Vec<(Change, Option<Entry>)>,
    late: VecDeque<(u64, String, Write)>,
    requests: u64,
    in_flight: u64,
    in_flight_most: u64,
    gone: bool,
    cut: Option<(u64, Cut)>,
}

/// The store, as one actor sees it. Clones are the same actor of the same store.
#[derive(Clone)]
pub struct FaultStore {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    turns: Option<(Arc<Turns>, usize)>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    Before,
    After,
    Late(u64),
    Short,
}

impl FaultStore {
    /// An empty store whose faults are chosen by `seed` and whose times are those of `clock`.
    pub fn new(seed: u64, faults: Faults, clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                rng: Rng::new(seed),
                faults,
                objects: BTreeMap::new(),
                uploads: BTreeMap::new(),
                past: Vec::new(),
                late: VecDeque::new(),
                requests: 0,
                in_flight: 0,
                in_flight_most: 0,
                gone: false,
                cut: None,
            })),
            clock,
            turns: None,
        }
    }

    /// The same store as the actor of this number, which waits for its turn at every request.
    #[must_use]
    pub fn actor(&self, turns: &Arc<Turns>, number: usize) -> Self {
        Self {
            turns: Some((Arc::clone(turns), number)),
            ..self.clone()
        }
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// Whether the store answers at all. `false` also ends what [`FaultStore::cut_after`] began.
    pub fn set_gone(&self, gone: bool) {
        let mut state = self.state.lock();
        state.gone = gone;
        state.cut = None;
    }

    /// Lets requests pass until there were so many in all, and none after them; what becomes of the
    /// first of those says `cut`.
    pub fn cut_after(&self, requests: u64, cut: Cut) {
        self.state.lock().cut = Some((requests, cut));
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.state.lock().requests
    }

    /// The most requests that waited for their latency at a time.
    pub fn in_flight_most(&self) -> u64 {
        self.state.lock().in_flight_most
    }

    /// Everything that took effect, in its order.
    pub fn changes(&self) -> Vec<Change> {
        let state = self.state.lock();
        state
            .past
            .iter()
            .map(|(change, _)| change.clone())
            .collect()
    }

    /// Writes an object past all faults: for tests that damage things.
    pub fn set(&self, key: &str, bytes: Bytes) {
        let now_ms = self.clock.now_ms();
        self.state.lock().apply(key, &Write::Put(bytes), now_ms);
    }

    /// Lets everything take effect that is late.
    pub fn settle(&self) {
        let now_ms = self.clock.now_ms();
        self.state.lock().land(u64::MAX, now_ms);
    }

    /// Waits for the turn, then decides what becomes of the request.
    async fn begin(&self, writes: bool) -> Result<Fate> {
        let latency = self.state.lock().faults.latency;
        if !latency.is_zero() {
            let _waits = InFlight::of(&self.state);
            tokio::time::sleep(latency).await;
        }
        if let Some((turns, actor)) = &self.turns {
            turns
                .wait(*actor)
                .await
                .map_err(|words| Error::NotSupported {
                    source: words.into(),
                })?;
        }
        let now_ms = self.clock.now_ms();
        let mut state = self.state.lock();
        state.requests += 1;
        let requests = state.requests;
        state.land(requests, now_ms);
        match state.cut {
            _ if state.gone => return Err(generic("connection refused")),
            Some((after, Cut::Answer)) if requests == after.saturating_add(1) => {
                return Ok(Fate::After);
            }
            Some((after, _)) if requests > after => return Err(generic("connection refused")),
            _ => {}
        }
        let faults = state.faults;
        let mut draw = state.rng.below(1000);
        let mut is = |of: u64| {
            let hit = draw < of;
            draw = if hit {
                u64::MAX
            } else {
                draw.saturating_sub(of)
            };
            hit
        };
        if is(faults.throttled) {
            return Err(generic(
                "Server returned non-2xx status code: 503 Service Unavailable: <Code>SlowDown</Code>",
            ));
        }
        if is(faults.before) {
            return Ok(Fate::Before);
        }
        if is(faults.after) {
            return Ok(Fate::After);
        }
        if is(faults.short) {
            return Ok(Fate::Short);
        }
        if is(faults.late) && writes {
            let after = 1 + state.rng.below(faults.late_requests);
            return Ok(Fate::Late(requests.saturating_add(after)));
        }
        Ok(Fate::Well)
    }

    /// A write and what becomes of it.
    async fn write(&self, path: &Path, write: Write) -> Result<PutResult> {
        let key = path.as_ref();
        let fate = self.begin(true).await?;
        let now_ms = self.clock.now_ms();
        let mut state = self.state.lock();
        if fate == Fate::Before {
            return Err(generic("connection reset before the request was sent"));
        }
        if let Fate::Late(at) = fate {
            state.late.push_back((at, key.to_owned(), write));
            return Err(generic("timed out; the request is still under way"));
        }
        let made = state.apply(key, &write, now_ms);
        match (fate, made) {
            (Fate::After, _) => Err(generic("connection reset; the answer is lost")),
            (_, Some(number)) => Ok(PutResult {
                e_tag: Some(number.to_string()),
                version: None,
                extensions: Default::default(),
            }),
            (_, None) => Err(Error::AlreadyExists {
                path: key.to_owned(),
                source: "it is there".into(),
            }),
        }
    }

    fn meta(path: &Path, entry: &Entry) -> ObjectMeta {
        let since = Duration::from_millis(u64::try_from(entry.modified_ms).unwrap_or(0));
        ObjectMeta {
            location: path.clone(),
            last_modified: (SystemTime::UNIX_EPOCH + since).into(),
            size: entry.bytes.len() as u64,
            e_tag: Some(entry.number.to_string()),
            version: None,
        }
    }
}

/// A request that waits, also if it is given up.
struct InFlight(Arc<Mutex<State>>);

impl InFlight {
    fn of(state: &Arc<Mutex<State>>) -> Self {
        let mut counted = state.lock();
        counted.in_flight += 1;
        counted.in_flight_most = counted.in_flight_most.max(counted.in_flight);
        Self(Arc::clone(state))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl State {
    /// Makes a change; nothing when it is refused.
    fn apply(&mut self, key: &str, write: &Write, at_ms: i64) -> Option<u64> {
        let bytes = match write {
            Write::Create(_) if self.objects.contains_key(key) && !self.faults.ignores_create => {
                return None;
            }
            Write::Create(bytes) | Write::Put(bytes) => Some(bytes.clone()),
            Write::Delete => None,
        };
        let number = self.past.len() as u64;
        let before = match &bytes {
            Some(bytes) => {
                let entry = Entry {
                    bytes: bytes.clone(),
                    modified_ms: at_ms,
                    number,
                };
                self.objects.insert(key.to_owned(), entry)
            }
            None => self.objects.remove(key),
        };
        let change = Change {
            key: key.to_owned(),
            bytes,
            at_ms,
        };
        self.past.push((change, before));
        Some(number)
    }

    /// What is late takes effect.
    fn land(&mut self, requests: u64, now_ms: i64) {
        let (due, later) = std::mem::take(&mut self.late)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(at, ..)| *at <= requests);
        self.late = later;
        for (_, key, write) in due {
            self.apply(&key, &write, now_ms);
        }
    }

    /// What is below `prefix`, or was some changes ago.
    fn list(&mut self, prefix: &str) -> Vec<(String, Entry)> {
        let lag = self.rng.below(self.faults.list_lag_changes + 1);
        let mut objects = self.objects.clone();
        let lag = usize::try_from(lag).unwrap_or(0);
        for (change, before) in self.past.iter().rev().take(lag) {
            match before {
                Some(entry) => objects.insert(change.key.clone(), entry.clone()),
                None => objects.remove(&change.key),
            };
        }
        let below = |key: &str| {
            let rest = key.strip_prefix(prefix);
            prefix.is_empty() || rest.is_some_and(|rest| rest.starts_with('/'))
        };
        objects.retain(|key, _| below(key));
        objects.into_iter().collect()
    }
}

fn generic(words: &str) -> Error {
    Error::Generic {
        store: "faults",
        source: words.into(),
    }
}

fn cannot(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: "FaultStore".to_owned(),
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = Bytes::from(payload);
        match options.mode {
            PutMode::Overwrite => self.write(location, Write::Put(bytes)).await,
            PutMode::Create => self.write(location, Write::Create(bytes)).await,
            PutMode::Update(_) => Err(cannot("update")),
        }
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(cannot("put_multipart"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fate = self.begin(false).await?;
        if matches!(fate, Fate::Before | Fate::After) {
            return Err(generic("connection reset"));
        }
        let found = self.state.lock().objects.get(location.as_ref()).cloned();
        let entry = found.ok_or_else(|| Error::NotFound {
            path: location.to_string(),
            source: "it is not there".into(),
        })?;
        let meta = Self::meta(location, &entry);
        let range: Range<u64> = match &options.range {
            Some(range) => range
                .as_range(meta.size)
                .map_err(|e| generic(&e.to_string()))?,
            None => 0..meta.size,
        };
        let ends = usize::try_from(range.start).and_then(|start| {
            let end = usize::try_from(range.end)?;
            Ok(start..end)
        });
        let ends = ends.map_err(|e| generic(&e.to_string()))?;
        let mut body = entry.bytes.slice(ends);
        if fate == Fate::Short {
            body.truncate(body.len() / 2);
        }
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::iter([Ok(body)]).boxed()),
            meta,
            range,
            attributes: Attributes::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    this.write(&location, Write::Delete).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let prefix = prefix.map_or_else(String::new, |prefix| prefix.as_ref().to_owned());
        stream::once(async move {
            let found = match this.begin(false).await {
                Ok(Fate::Before | Fate::After) => Err(generic("connection reset")),
                Ok(_) => Ok(this.state.lock().list(&prefix)),
                Err(error) => Err(error),
            };
            let metas: Vec<Result<ObjectMeta>> = match found {
                Ok(found) => found
                    .iter()
                    .map(|(key, entry)| Ok(Self::meta(&Path::parse(key)?, entry)))
                    .collect(),
                Err(error) => vec![Err(error)],
            };
            stream::iter(metas)
        })
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> Result<ListResult> {
        Err(cannot("list_with_delimiter"))
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(cannot("copy"))
    }
}

#[async_trait]
impl MultipartStore for FaultStore {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let fate = self.begin(false).await?;
        let mut state = self.state.lock();
        if fate == Fate::Before {
            return Err(generic("connection reset"));
        }
        let id = format!("{path}#{}", state.uploads.len());
        state.uploads.insert(id.clone(), BTreeMap::new());
        match fate {
            Fate::After => Err(generic("connection reset; the answer is lost")),
            _ => Ok(id),
        }
    }

    async fn put_part(
        &self,
        _path: &Path,
        id: &MultipartId,
        part: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let fate = self.begin(false).await?;
        let mut state = self.state.lock();
        let parts = state.uploads.get_mut(id).ok_or_else(|| no_upload(id))?;
        if fate == Fate::Before {
            return Err(generic("connection reset"));
        }
        parts.insert(part, Bytes::from(data));
        match fate {
            Fate::After => Err(generic("connection reset; the answer is lost")),
            _ => Ok(PartId {
                content_id: part.to_string(),
            }),
        }
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let bytes = {
            let state = self.state.lock();
            let stored = state.uploads.get(id).ok_or_else(|| no_upload(id))?;
            let mut whole = Vec::new();
            for part in &parts {
                let number = part.content_id.parse().ok();
                let bytes = number.and_then(|n: usize| stored.get(&n));
                whole.extend_from_slice(bytes.ok_or_else(|| no_upload(id))?);
            }
            Bytes::from(whole)
        };
        let done = self.write(path, Write::Put(bytes)).await;
        // An upload that came to its end is not known any more, whatever was answered.
        let mut state = self.state.lock();
        if state.objects.contains_key(path.as_ref()) {
            state.uploads.remove(id);
        }
        done
    }

    async fn abort_multipart(&self, _path: &Path, id: &MultipartId) -> Result<()> {
        self.begin(false).await?;
        self.state.lock().uploads.remove(id);
        Ok(())
    }
}

fn no_upload(id: &str) -> Error {
    Error::NotFound {
        path: id.to_owned(),
        source: "<Code>NoSuchUpload</Code>".into(),
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore")
            .field("requests", &self.requests())
            .finish()
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}
