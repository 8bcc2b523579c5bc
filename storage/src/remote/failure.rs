//! Why the object store did not do what was asked: what [`super::bucket`] makes of a store's answer.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::error::{Error, Kind};

/// How much of the store's own words an error repeats, bytes.
const WORDS_MAX: usize = 400;

/// Why a request to the object store failed, which is to say: what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There is no object of that name.
    Missing,
    /// An object of that name is there already.
    Exists,
    /// There is no such bucket or container.
    NoBucket,
    /// The credentials are missing, wrong or not allowed to do this.
    Denied,
    /// The clock of this machine and that of the store are too far apart.
    ClockSkew,
    /// The store asks for fewer requests.
    Throttled,
    /// The store did not answer, or answered that it cannot at the moment.
    Unavailable,
    /// The object is not what it should be: it ends before what was asked for.
    Damaged,
    /// The store cannot do this at all.
    Unsupported,
    /// The object is larger than may be held in memory, or the list is longer.
    TooLarge,
    /// The store refused the request for another reason.
    Refused,
    /// The call came from a thread that drives the runtime, or the runtime was shut down.
    Runtime,
}

impl Reason {
    /// The reason behind an error of this module, also where it was wrapped.
    pub fn of(error: &Error) -> Option<Self> {
        let mut source: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = source {
            if let Some(failure) = error.downcast_ref::<Failure>() {
                return Some(failure.reason);
            }
            source = error.source();
        }
        None
    }

    /// Whether the same request may succeed a moment later.
    pub fn passes(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }

    fn kind(self) -> Kind {
        match self {
            Self::Damaged => Kind::Corrupt,
            Self::Unsupported => Kind::Unsupported,
            Self::TooLarge => Kind::Limit,
            Self::Runtime => Kind::Closed,
            _ => Kind::Unavailable,
        }
    }

    /// What was wrong and what to do, as the end of a sentence.
    fn advice(self) -> &'static str {
        match self {
            Self::Missing => "there is no such object",
            Self::Exists => "it exists already",
            Self::NoBucket => "there is no such bucket; create it or correct its name",
            Self::Denied => {
                "the credentials are missing, wrong or may not do this; set them in the environment and allow list, get, put and delete under the prefix"
            }
            Self::ClockSkew => {
                "the clocks of this machine and of the store are too far apart; synchronise the clock of this machine"
            }
            Self::Throttled => {
                "the store throttles; it is asked again later, lower the number of requests or of bytes a second if this goes on"
            }
            Self::Unavailable => {
                "the store does not answer; check the endpoint, the network and the store"
            }
            Self::Damaged => "the object is not what it should be; restore it or drop it",
            Self::Unsupported => "the store cannot do this; choose another one",
            Self::TooLarge => "it is larger than the limit",
            Self::Refused => "the store refuses the request",
            Self::Runtime => {
                "it was called from a thread of the runtime, or the runtime was shut down; call it from a worker thread"
            }
        }
    }
}

/// One failed request.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    words: String,
}

impl Failure {
    pub(crate) fn new(reason: Reason, words: impl Into<String>) -> Self {
        let mut words = words.into();
        if words.len() > WORDS_MAX {
            let end = (0..=WORDS_MAX).rev().find(|&i| words.is_char_boundary(i));
            words.truncate(end.unwrap_or(0));
            words.push('…');
        }
        Self { reason, words }
    }

    /// The error of `what` (for example `get blocks/x of s3://b/p`).
    pub(crate) fn during(self, what: impl fmt::Display) -> Error {
        let advice = self.reason.advice();
        let text = if self.words.is_empty() {
            format!("cannot {what}: {advice}")
        } else {
            format!("cannot {what}: {advice} ({})", self.words)
        };
        Error::caused_by(self.reason.kind(), text, self)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl StdError for Failure {}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        let words = error.to_string();
        Self::new(reason_of(&error, &words), words)
    }
}

/// Codes that stores put into the bodies of refusals, and what they mean. Bodies say more than
/// status codes: a wrong bucket and a missing object are both 404, a skewed clock and a wrong key both
/// 403.
const CODES: &[(&str, Reason)] = &[
    ("RequestTimeTooSkewed", Reason::ClockSkew),
    ("Request date header too old", Reason::ClockSkew),
    ("NoSuchBucket", Reason::NoBucket),
    ("ContainerNotFound", Reason::NoBucket),
    ("ContainerBeingDeleted", Reason::NoBucket),
    ("specified bucket does not exist", Reason::NoBucket),
    ("InvalidBucketName", Reason::NoBucket),
    ("SlowDown", Reason::Throttled),
    ("TooManyRequests", Reason::Throttled),
    ("ServerBusy", Reason::Throttled),
    ("rateLimitExceeded", Reason::Throttled),
    ("RequestLimitExceeded", Reason::Throttled),
    ("AccessDenied", Reason::Denied),
    ("InvalidAccessKeyId", Reason::Denied),
    ("SignatureDoesNotMatch", Reason::Denied),
    ("ExpiredToken", Reason::Denied),
    ("InvalidToken", Reason::Denied),
    ("AuthenticationFailed", Reason::Denied),
    ("AuthorizationFailure", Reason::Denied),
    ("BucketRegionError", Reason::Refused),
    ("PermanentRedirect", Reason::Refused),
    ("NotImplemented", Reason::Unsupported),
];

fn reason_of(error: &object_store::Error, words: &str) -> Reason {
    use object_store::Error as Of;
    if let Some((_, reason)) = CODES.iter().find(|(code, _)| words.contains(code)) {
        return *reason;
    }
    match error {
        Of::NotFound { .. } => Reason::Missing,
        Of::AlreadyExists { .. } | Of::Precondition { .. } | Of::NotModified { .. } => {
            Reason::Exists
        }
        Of::PermissionDenied { .. } | Of::Unauthenticated { .. } => Reason::Denied,
        Of::NotSupported { .. } | Of::NotImplemented { .. } => Reason::Unsupported,
        Of::InvalidPath { .. } | Of::UnknownConfigurationKey { .. } => Reason::Refused,
        _ => match (status(words), io_kind(error)) {
            (Some(429 | 503), _) => Reason::Throttled,
            (Some(408 | 500..=599), _) => Reason::Unavailable,
            (Some(401 | 403), _) => Reason::Denied,
            (Some(412 | 409), _) => Reason::Exists,
            (Some(416), _) => Reason::Damaged,
            (Some(_), _) => Reason::Refused,
            (None, Some(io::ErrorKind::PermissionDenied)) => Reason::Denied,
            // Over a network it is a connection that broke within a body.
            (None, Some(io::ErrorKind::UnexpectedEof)) if is_file(error) => Reason::Damaged,
            (None, _) if words.contains("bytes long") => Reason::Damaged,
            // No answer at all: refused, reset and timed-out connections, broken bodies.
            (None, _) => Reason::Unavailable,
        },
    }
}

/// What the client calls a store that is a directory.
const FILES: &str = "LocalFileSystem";

/// The HTTP status in the words of an error, which is the only place where it can be seen.
fn status(words: &str) -> Option<u16> {
    let (_, rest) = words.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// Whether the object is a file of this machine.
fn is_file(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { store, .. } if *store == FILES)
}

/// The kind of the system's error behind this one.
fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(words: &str) -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: words.into(),
        }
    }

    fn io_error(store: &'static str, kind: io::ErrorKind) -> object_store::Error {
        object_store::Error::Generic {
            store,
            source: Box::new(io::Error::from(kind)),
        }
    }

    #[test]
    fn answers_of_stores_are_told_apart() {
        let status = |code: &str| format!("Server returned non-2xx status code: {code}: ");
        let path = "k".to_owned();
        let missing = |words: &str| object_store::Error::NotFound {
            path: path.clone(),
            source: words.into(),
        };
        let denied = |words: &str| object_store::Error::PermissionDenied {
            path: path.clone(),
            source: words.into(),
        };
        for (error, reason) in [
            (missing("404"), Reason::Missing),
            (missing("404: <Code>NoSuchBucket</Code>"), Reason::NoBucket),
            (denied("403"), Reason::Denied),
            (
                denied("403: <Code>RequestTimeTooSkewed</Code>"),
                Reason::ClockSkew,
            ),
            (
                generic(&(status("503 Service Unavailable") + "<Code>SlowDown</Code>")),
                Reason::Throttled,
            ),
            (
                generic(&status("503 Service Unavailable")),
                Reason::Throttled,
            ),
            (generic(&status("429 Too Many Requests")), Reason::Throttled),
            (
                generic(&status("500 Internal Server Error")),
                Reason::Unavailable,
            ),
            (generic(&status("400 Bad Request")), Reason::Refused),
            (
                generic(&status("416 Range Not Satisfiable")),
                Reason::Damaged,
            ),
            (generic("connection refused"), Reason::Unavailable),
            (
                io_error(FILES, io::ErrorKind::PermissionDenied),
                Reason::Denied,
            ),
            (
                io_error(FILES, io::ErrorKind::UnexpectedEof),
                Reason::Damaged,
            ),
            (
                io_error("S3", io::ErrorKind::UnexpectedEof),
                Reason::Unavailable,
            ),
            (
                io_error("S3", io::ErrorKind::ConnectionReset),
                Reason::Unavailable,
            ),
        ] {
            let words = error.to_string();
            assert_eq!(reason_of(&error, &words), reason, "{words}");
        }
    }

    #[test]
    fn an_error_says_what_was_asked_and_what_to_do() {
        let error = Failure::new(Reason::NoBucket, "404: NoSuchBucket").during("list s3://b/p");
        assert_eq!(error.kind(), Kind::Unavailable);
        assert_eq!(Reason::of(&error), Some(Reason::NoBucket));
        assert_eq!(
            error.to_string(),
            "cannot list s3://b/p: there is no such bucket; create it or correct its name (404: NoSuchBucket)"
        );
        let wrapped = Error::caused_by(Kind::Poisoned, "later", error);
        assert_eq!(Reason::of(&wrapped), Some(Reason::NoBucket));
        assert_eq!(Reason::of(&Error::invalid("x")), None);
    }

    #[test]
    fn the_words_of_a_store_are_cut() {
        let fits = Failure::new(Reason::Refused, "x".repeat(WORDS_MAX));
        assert_eq!(fits.words.len(), WORDS_MAX);
        let long = Failure::new(Reason::Refused, "é".repeat(WORDS_MAX));
        assert_eq!(long.words, "é".repeat(WORDS_MAX / 2) + "…");
    }
}
