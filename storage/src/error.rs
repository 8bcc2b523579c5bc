//! The one error of the storage toolkit: a kind that says what the caller can do, a sentence that
//! says what was wrong and where, and the source if there is one.

use std::fmt;
use std::io;
use std::sync::Arc;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was, which is to say: what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The file system failed. Free space, fix permissions or the disk, then open again.
    Io,
    /// Bytes on disk are not what was written. The rest is served; restore or drop the named file.
    Corrupt,
    /// Another process has this directory open. Stop it or choose another directory.
    Locked,
    /// An earlier write failed, so later ones are refused. Close and open again; reads go on.
    Poisoned,
    /// The handle was closed. Open it again.
    Closed,
    /// The caller's input makes no sense. Do not send it again unchanged.
    Invalid,
    /// A named limit was reached. Send less, later, or raise the limit.
    Limit,
    /// The object store refused, throttles or does not answer; the error says which. What is local is
    /// served; ask again later.
    Unavailable,
    /// This process may only read (`--read-only`). Send it to the one that writes.
    ReadOnly,
    /// The data was written by a newer version, or asks for something this version cannot do.
    Unsupported,
}

/// An error of the storage toolkit and of the engines built on it.
///
/// `Display` is a sentence. Cloning is cheap, so that one failed sync can be told to every caller
/// that waited for it.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    context: Arc<str>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` described by `context`: what was wrong, where, and what to do.
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into().into(),
            source: None,
        }
    }

    /// An error of `kind` that was caused by `source`.
    pub fn caused_by(
        kind: Kind,
        context: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            context: context.into().into(),
            source: Some(Arc::new(source)),
        }
    }

    /// A file system error during `what` (for example `write wal/00000001.wal`).
    pub fn io(what: impl fmt::Display, source: io::Error) -> Self {
        Self::caused_by(Kind::Io, format!("cannot {what}: {source}"), source)
    }

    /// Bytes of `file` at `offset` are not what they should be.
    pub fn corrupt(file: impl fmt::Display, offset: u64, what: impl fmt::Display) -> Self {
        Self::new(
            Kind::Corrupt,
            format!("{file} is damaged at byte {offset}: {what}"),
        )
    }

    /// The caller's input makes no sense, for the reason `what`.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, what)
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}
