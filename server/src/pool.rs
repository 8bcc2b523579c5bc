//! Bounded pools for calls that block. Handlers run every engine call through one, so that no
//! request blocks the runtime and overload is an answer rather than a queue without end.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::observe::query_cost::Query;
use crate::refusal::{Reason, Refusal};

/// Runs blocking work for one class of requests: at most `running_max` calls at a time and at most
/// `waiting_max` more that wait. What comes beyond is refused at once as [`Reason::Busy`].
#[derive(Debug, Clone)]
pub struct Pool {
    class: &'static str,
    is_metered: bool,
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Pool {
    /// A pool for requests of `class` (the word is used when one fails).
    pub fn new(class: &'static str, running_max: usize, waiting_max: usize) -> Self {
        let running_max = running_max.clamp(1, Semaphore::MAX_PERMITS / 2);
        let waiting_max = waiting_max.min(Semaphore::MAX_PERMITS / 2);
        Self {
            class,
            is_metered: false,
            admitted: Arc::new(Semaphore::new(running_max + waiting_max)),
            running: Arc::new(Semaphore::new(running_max)),
        }
    }

    /// The pool, of which is counted what its work reads from the bucket for the request that the
    /// calling task handles.
    #[must_use]
    pub fn metered(mut self) -> Self {
        self.is_metered = true;
        self
    }

    /// Runs `work` on a thread that may block and gives its result.
    ///
    /// # Errors
    /// [`Reason::Busy`] when the pool is full, [`Reason::Internal`] when `work` panicked.
    pub fn run<T, F>(&self, work: F) -> impl Future<Output = Result<T, Refusal>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Refusal> + Send + 'static,
    {
        // Now: the future may be given to another task.
        let query = self.is_metered.then(Query::current).flatten();
        let pool = self.clone();
        async move {
            let admitted = pool.admitted.try_acquire_owned().map_err(|_| {
                // Loki's words; its clients look for them.
                Refusal::new(Reason::Busy, "too many outstanding requests")
            })?;
            let running = pool.running.acquire_owned().await.map_err(|_| {
                Refusal::new(
                    Reason::Unavailable,
                    "the server is shutting down".to_owned(),
                )
            })?;
            let done = tokio::task::spawn_blocking(move || {
                // The permits go with the work: a client that hangs up does not free the slot early.
                let _permits = (admitted, running);
                let _counting = query.as_ref().map(|query| query.enter());
                work()
            })
            .await;
            done.unwrap_or_else(|_| {
                let text = format!("a defect stopped this {} request; see the log", pool.class);
                Err(Refusal::new(Reason::Internal, text))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::Pool;
    use crate::refusal::Reason;

    #[tokio::test]
    async fn what_does_not_fit_is_refused_at_once() {
        let pool = Pool::new("append", 1, 1);
        let (release, gate) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move || Ok(gate.recv().is_ok())).await }
        });
        while pool.running.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| Ok(2)).await }
        });
        while pool.admitted.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let third = pool.run(|| Ok(3)).await;
        assert_eq!(third.unwrap_err().reason, Reason::Busy);
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(true));
        assert_eq!(second.await.unwrap(), Ok(2));
        assert_eq!(pool.run(|| Ok(4)).await, Ok(4));
    }

    #[tokio::test]
    async fn a_panic_is_one_failed_request() {
        let pool = Pool::new("query", 1, 0);
        let refusal = pool
            .run::<(), _>(|| panic!("on purpose"))
            .await
            .unwrap_err();
        assert_eq!(refusal.reason, Reason::Internal);
        assert_eq!(pool.run(|| Ok(1)).await, Ok(1));
    }
}
