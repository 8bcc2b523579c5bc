//! Why a request was not served. Every layer below HTTP answers with a [`Refusal`]; each API
//! family writes it in the form that its clients read (`api`, `ingest`).

use std::fmt;
use std::time::Duration;

use axum::http::StatusCode;
use trine_storage::{Error, Kind};

/// What kind of refusal it is, which is to say: what the client should do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The request makes no sense. Do not send it again unchanged.
    Bad,
    /// The body is larger than a limit. Send smaller ones.
    TooLarge,
    /// The content type or encoding is not spoken here.
    UnsupportedMedia,
    /// There is no such thing.
    NotFound,
    /// The request was understood, but its evaluation failed (a limit of a query, for example).
    Execution,
    /// Too much is going on. Send it again later.
    Busy,
    /// The request ran out of the time that it was given.
    Timeout,
    /// The store cannot do its job now (shutting down, disk full). Send it again later.
    Unavailable,
    /// This server takes no writes. Send it to another one.
    Forbidden,
    /// The tenant may send nothing for now; the status that its operator chose.
    Blocked(u16),
    /// A defect of this program.
    Internal,
}

/// A request that was not served: the reason and a sentence for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub reason: Reason,
    /// What was wrong and what to do, in one sentence.
    pub text: String,
}

/// How long a client should wait after [`Reason::Busy`] or [`Reason::Unavailable`].
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Refusal {
    /// A refusal for `reason` with the sentence `text`.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }

    /// The request makes no sense, as `text` says.
    pub fn bad(text: impl Into<String>) -> Self {
        Self::new(Reason::Bad, text)
    }

    /// The status code that a client of any of the ingest protocols understands.
    pub fn status(&self) -> StatusCode {
        match self.reason {
            Reason::Bad => StatusCode::BAD_REQUEST,
            Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Reason::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Reason::Forbidden => StatusCode::FORBIDDEN,
            Reason::NotFound => StatusCode::NOT_FOUND,
            Reason::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Reason::Busy => StatusCode::TOO_MANY_REQUESTS,
            Reason::Timeout | Reason::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Reason::Blocked(status) => {
                StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN)
            }
            Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds for the header `Retry-After`, for those refusals that pass by themselves.
    pub fn retry_after(&self) -> Option<u64> {
        match self.reason {
            Reason::Busy | Reason::Unavailable => Some(RETRY_AFTER.as_secs()),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

impl From<Error> for Refusal {
    /// An engine's error as the client should see it: what the caller did wrong is a bad request,
    /// a limit is a reason to come back later, a server that only reads is the wrong one, and all that
    /// concerns the disk or the bucket is "unavailable", because agents drop what is answered with 500 and repeat what is answered with 503.
    fn from(error: Error) -> Self {
        let reason = match error.kind() {
            Kind::Invalid | Kind::Unsupported => Reason::Bad,
            Kind::Limit => Reason::Busy,
            Kind::ReadOnly => Reason::Forbidden,
            _ => Reason::Unavailable,
        };
        Self::new(reason, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use trine_storage::{Error, Kind};

    use super::{Reason, Refusal};

    #[test]
    fn an_engines_error_becomes_the_status_that_agents_handle_well() {
        for (kind, status, retry) in [
            (Kind::Invalid, 400, None),
            (Kind::Unsupported, 400, None),
            (Kind::Limit, 429, Some(1)),
            (Kind::Io, 503, Some(1)),
            (Kind::Poisoned, 503, Some(1)),
            (Kind::Closed, 503, Some(1)),
            (Kind::Corrupt, 503, Some(1)),
            (Kind::Locked, 503, Some(1)),
            (Kind::Unavailable, 503, Some(1)),
            (Kind::ReadOnly, 403, None),
        ] {
            let refusal = Refusal::from(Error::new(kind, "why"));
            assert_eq!(refusal.status().as_u16(), status, "{kind:?}");
            assert_eq!(refusal.retry_after(), retry, "{kind:?}");
            assert_eq!(refusal.to_string(), "why");
        }
        assert_eq!(Refusal::new(Reason::Internal, "").retry_after(), None);
    }
}
