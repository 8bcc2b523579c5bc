//! Threads that take turns at the requests of a [`FaultStore`](super::FaultStore): one runs at a time,
//! and who is next is chosen by a seed when all wait.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::sim::Rng;

/// Whose turn it is.
#[derive(Default)]
pub struct Turns {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Actors between two requests.
    running: usize,
    waiting: Vec<(usize, oneshot::Sender<()>)>,
    crashed: BTreeSet<usize>,
    stopped: BTreeSet<usize>,
}

impl Turns {
    /// Runs the actors to their ends, each on a thread of its own, and calls `between` with the number
    /// of each turn before it is given. Where the actors do nothing but ask the store, everything
    /// that happens is decided by `seed`.
    pub fn play<'a>(
        self: &Arc<Self>,
        seed: u64,
        actors: Vec<Box<dyn FnOnce() + Send + 'a>>,
        mut between: impl FnMut(u64),
    ) {
        let mut rng = Rng::new(seed);
        self.state.lock().running = actors.len();
        std::thread::scope(|scope| {
            for actor in actors {
                let this = Arc::clone(self);
                scope.spawn(move || {
                    let _ended = Ended(this);
                    actor();
                });
            }
            for turn in 0.. {
                let mut state = self.state.lock();
                while state.running > 0 {
                    self.moved.wait(&mut state);
                }
                if state.waiting.is_empty() {
                    return;
                }
                // By their numbers, not by who came first.
                state.waiting.sort_by_key(|(actor, _)| *actor);
                drop(state);
                between(turn);
                let mut state = self.state.lock();
                let next = state.choose(&mut rng);
                let (_, next) = state.waiting.swap_remove(next);
                state.running += 1;
                drop(state);
                next.send(()).ok();
            }
        });
    }

    /// From now on every request of the actor fails, as if its process had ended.
    pub fn crash(&self, actor: usize) {
        self.state.lock().crashed.insert(actor);
    }

    /// The actor's process starts again. Gives whether it had crashed.
    pub fn revive(&self, actor: usize) -> bool {
        self.state.lock().crashed.remove(&actor)
    }

    /// The actor gets no turn as long as others want one, like a process that is stopped: between two
    /// requests, or while one of its requests is under way.
    pub fn stop(&self, actor: usize) {
        self.state.lock().stopped.insert(actor);
    }

    /// The actor goes on.
    pub fn resume(&self, actor: usize) {
        self.state.lock().stopped.remove(&actor);
    }

    pub(super) async fn wait(&self, actor: usize) -> Result<(), &'static str> {
        const CRASHED: &str = "this process has crashed";
        let turn = {
            let mut state = self.state.lock();
            if state.crashed.contains(&actor) {
                return Err(CRASHED);
            }
            let (sender, turn) = oneshot::channel();
            state.waiting.push((actor, sender));
            state.running -= 1;
            self.moved.notify_all();
            turn
        };
        // The sender is not dropped before it was used.
        turn.await.ok();
        match self.state.lock().crashed.contains(&actor) {
            true => Err(CRASHED),
            false => Ok(()),
        }
    }
}

impl State {
    /// Which of those that wait is next.
    fn choose(&self, rng: &mut Rng) -> usize {
        let all = 0..self.waiting.len();
        let goes = |at: &usize| {
            let actor = self.waiting.get(*at).map(|(actor, _)| actor);
            actor.is_some_and(|actor| !self.stopped.contains(actor))
        };
        let going: Vec<usize> = all.clone().filter(goes).collect();
        let among = if going.is_empty() {
            all.collect()
        } else {
            going
        };
        let chosen = usize::try_from(rng.below(among.len() as u64)).unwrap_or(0);
        among.get(chosen).copied().unwrap_or(0)
    }
}

/// An actor that has come to its end, or to a panic.
struct Ended(Arc<Turns>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
        self.0.moved.notify_all();
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}
