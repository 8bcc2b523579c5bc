//! `trine backup` and `trine restore`: a consistent copy of all data from one place to another, with its
//! progress on stderr. What is copied how is `trine_storage::remote`'s; a data directory is read through
//! its engines ([`backup`]).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinError;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use trine_storage::clock::{Clock, SystemClock};
use trine_storage::fs::{self, RealFs};
use trine_storage::remote::{Bucket, Fetch, LeaseTimes, Options, Source, Target, Transfer};
use trine_storage::{Error, Kind};

use crate::config::{self, Copying, Place};
use crate::storage;

mod backup;
mod progress;

use progress::Report;

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// A wait for a lease is interrupted so often to look whether to go on.
const WAIT: Duration = Duration::from_millis(500);

/// Carries the command out: returns when the copy is complete.
///
/// # Errors
/// A sentence that says what is in the way and what to do.
pub fn run(copying: Copying) -> Result<(), String> {
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr))
        .with(LevelFilter::WARN)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    runtime.block_on(copy(copying))
}

async fn copy(copying: Copying) -> Result<(), String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let is_stopped = Arc::new(AtomicBool::new(false));
    let check = {
        let is_stopped = Arc::clone(&is_stopped);
        move || match is_stopped.load(Ordering::Acquire) {
            true => Err(Error::new(Kind::Closed, "it was told to stop")),
            false => Ok(()),
        }
    };
    let bandwidth = u64::try_from(copying.bandwidth_max).ok();
    let transfer = Arc::new(Transfer::new(
        Arc::clone(&clock),
        copying.at_once,
        bandwidth.filter(|&bytes| bytes > 0),
        Box::new(check),
    ));
    let mut report = Report::new(copying.verb, &clock);
    let work = Work {
        copying: copying.clone(),
        clock: Arc::clone(&clock),
        handle: Handle::current(),
        transfer: Arc::clone(&transfer),
    };
    let listen = |kind| signal(kind).map_err(|error| format!("cannot wait for signals: {error}"));
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let mut work = tokio::task::spawn_blocking(move || work.run());
    let result = loop {
        let stop = tokio::select! {
            result = &mut work => break result,
            () = tokio::time::sleep(TOLD_EVERY) => false,
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
        };
        if stop {
            is_stopped.store(true, Ordering::Release);
        } else {
            eprintln!("{}", report.line(transfer.progress.now()));
        }
    };
    let lacks = answer(result, copying.verb).inspect_err(|_| {
        let done = transfer.progress.now();
        if done.stores > 0 {
            eprintln!("{}", report.line(done));
        }
    })?;
    println!("{}", report.summary(transfer.progress.now(), &copying));
    if lacks.is_empty() {
        return Ok(());
    }
    let lacks = lacks.join("\n  ");
    Err(format!(
        "the copy is complete but for what cannot be read of {}:\n  {lacks}",
        copying.from
    ))
}

/// What the copy lacks, or what is in the way.
fn answer(
    result: Result<Result<Vec<String>, Error>, JoinError>,
    verb: &str,
) -> Result<Vec<String>, String> {
    match result {
        Ok(Ok(lacks)) => Ok(lacks),
        Ok(Err(error)) if matches!(error.kind(), Kind::Unavailable | Kind::Closed) => Err(format!(
            "{error}\nWhat was copied stays; run the same `trine {verb}` again to go on."
        )),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("a defect stopped the copy; see above, and tell its developers".to_owned()),
    }
}

/// One copy, on a thread that may wait.
struct Work {
    copying: Copying,
    clock: Arc<dyn Clock>,
    handle: Handle,
    transfer: Arc<Transfer>,
}

impl Work {
    /// Makes the copy; gives what it lacks, a sentence each.
    fn run(&self) -> Result<Vec<String>, Error> {
        match (&self.copying.from, &self.copying.to) {
            (Place::Bucket(from), Place::Bucket(to)) => self.mirror(from, to).map(|()| Vec::new()),
            (Place::Bucket(from), Place::Directory(to)) => {
                self.fetch(from, to).map(|()| Vec::new())
            }
            (Place::Directory(from), Place::Bucket(to)) => self.back_up(from, to),
            (Place::Directory(from), Place::Directory(to)) => Err(Error::invalid(format!(
                "{} and {} are both directories; copy one with cp -a or rsync while no server has it open, or go by a bucket: --to file:///directory, which keeps what is there already",
                from.display(),
                to.display()
            ))),
        }
    }

    fn bucket(&self, url: &str) -> Result<Bucket, Error> {
        Bucket::open(
            url,
            &storage::environment(),
            Options::default(),
            self.handle.clone(),
            Arc::clone(&self.clock),
        )
    }

    /// The bucket that is copied to, for copies of the place that `identity` names.
    fn target(&self, url: &str, identity: &str) -> Result<Target, Error> {
        let bucket = self.bucket(url)?;
        bucket.check()?;
        let name = storage::name(&config::Storage::default());
        let name = format!("trine {} on {name}", self.copying.verb);
        let is_told = AtomicBool::new(false);
        let wait = |left: Duration| {
            (self.transfer.check)()?;
            if !is_told.swap(true, Ordering::Relaxed) {
                eprintln!(
                    "{}: an earlier one may still write to {url}; that is known in {} s at most",
                    self.copying.verb,
                    left.as_secs() + 1
                );
            }
            std::thread::sleep(left.min(WAIT));
            Ok(())
        };
        Target::take(&bucket, identity, &name, LeaseTimes::default(), &wait)
    }

    fn mirror(&self, from: &str, to: &str) -> Result<(), Error> {
        let source = Source::open(&self.bucket(from)?)?;
        let target = self.target(to, source.identity())?;
        let done = target.mirror(&source, &self.transfer);
        release(target);
        done
    }

    fn fetch(&self, from: &str, to: &Path) -> Result<(), Error> {
        let source = Source::open(&self.bucket(from)?)?;
        let real: Arc<dyn fs::Fs> = Arc::new(RealFs);
        let _lock = fs::claim(&*real, to)?;
        Fetch::begin(real, to, &source)?.run(&source, &self.transfer)
    }
}

/// Gives the lease of a target back.
fn release(target: Target) {
    let name = target.bucket().name().to_owned();
    if let Err(error) = target.release() {
        tracing::warn!(%error, "{name} was not given back; whoever writes there next waits a minute");
    }
}
