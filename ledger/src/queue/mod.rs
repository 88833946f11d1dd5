//! The queue of orders, between many who ask and the one who writes.
//!
//! The writer is woken only while it sleeps, and while it gathers orders only once enough are there:
//! a thread that is woken for each order costs more than the order.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::LedgerError;
use crate::order::{Answer, Order};
use crate::pace::{Gathering, Pace};
use crate::post::Post;

/// The greatest number of orders that wait for a commit. Beyond it, what begins is turned away.
const QUEUE_MAX: usize = 8_192;
/// The greatest number of orders in one commit.
const BATCH_MAX: usize = 1_024;

/// An order, and where its answer goes.
pub(crate) struct Waiting {
    /// The order.
    pub(crate) order: Order,
    /// Where its answer goes.
    pub(crate) reply: Reply,
}

/// Where an answer goes, and with which post.
pub(crate) struct Reply {
    answer: oneshot::Sender<Answer>,
    post: Option<Post>,
}

impl Reply {
    /// Gives an answer. What goes by post is on its way once `posts` are sent.
    pub(crate) fn give(self, answer: Answer, posts: &mut Vec<Post>) {
        let Some(post) = self.post else {
            // Whoever has stopped waiting will find the outcome on record.
            let _gone = self.answer.send(answer);
            return;
        };
        post.put(self.answer, answer);
        if !posts.iter().any(|known| known.is(&post)) {
            posts.push(post);
        }
    }
}

/// Makes a queue.
pub(crate) fn queue() -> (Entrance, Exit) {
    let shared = Arc::<Shared>::default();
    (Entrance(Arc::clone(&shared)), Exit(shared))
}

/// Where orders are put in. Once it is gone, the writer does what waits and stops.
#[derive(Debug)]
pub(crate) struct Entrance(Arc<Shared>);

/// Where the writer takes orders out. Once it is gone, all that is asked fails.
#[derive(Debug)]
pub(crate) struct Exit(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    orders: Vec<Waiting>,
    /// How many orders wake the writer, while it waits.
    wakes_at: Option<usize>,
    /// How many threads bring orders, and how many of them work.
    hands: usize,
    working: usize,
    /// Whether no more orders are taken.
    is_closed: bool,
    /// Whether the writer is gone.
    is_over: bool,
    /// Those who wait for the end of the writer. They are told by being dropped.
    ends: Vec<oneshot::Sender<()>>,
}

impl State {
    /// Tells whether so many orders as wait are enough, where `enough` are looked for. Once all who bring
    /// orders rest, half of them are: the disk would stand still, and the others are on their way elsewhere.
    const fn has(&self, enough: usize) -> bool {
        let is_quiet = self.hands > 0 && self.working == 0;
        self.orders.len() >= if is_quiet { enough.div_ceil(2) } else { enough }
    }

    /// Tells whether the writer is to be woken, which it is once.
    fn wakes(&mut self) -> bool {
        let wakes = self.wakes_at.is_some_and(|enough| self.has(enough));
        if wakes {
            self.wakes_at = None;
        }
        wakes
    }
}

/// A thread whose tasks bring orders, as long as this value lives. It works until it says that it rests.
#[derive(Debug)]
pub struct Hand {
    queue: Arc<Shared>,
    rests: AtomicBool,
}

impl Hand {
    /// Says that the thread rests: none of its tasks has anything to do. Once all of them rest, fewer orders
    /// are waited for.
    pub fn rest(&self) {
        if self.rests.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut state = self.queue.lock();
        state.working = state.working.saturating_sub(1);
        let wakes = state.wakes();
        drop(state);
        if wakes {
            self.queue.woken.notify_one();
        }
    }

    /// Says that the thread works again.
    pub fn work(&self) {
        if self.rests.swap(false, Ordering::Relaxed) {
            let mut state = self.queue.lock();
            state.working = state.working.saturating_add(1);
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.rest();
        let mut state = self.queue.lock();
        state.hands = state.hands.saturating_sub(1);
    }
}

impl Entrance {
    /// Returns a hand that works.
    pub(crate) fn hand(&self) -> Hand {
        let mut state = self.0.lock();
        state.hands = state.hands.saturating_add(1);
        state.working = state.working.saturating_add(1);
        drop(state);
        Hand { queue: Arc::clone(&self.0), rests: AtomicBool::new(false) }
    }

    /// Puts an order in, and returns where its answer will come.
    ///
    /// # Errors
    /// [`LedgerError::Stopped`] after the end, and [`LedgerError::Busy`] when too many wait already
    /// for one that begins something. What ends something is taken in any case: there is no more of
    /// it than was begun.
    pub(crate) fn put(
        &self,
        order: Order,
        post: Option<Post>,
    ) -> Result<oneshot::Receiver<Answer>, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.0.lock();
        if state.is_closed {
            return Err(LedgerError::Stopped);
        }
        if state.orders.len() >= QUEUE_MAX && order.begins() {
            return Err(LedgerError::Busy);
        }
        state.orders.push(Waiting { order, reply: Reply { answer: reply, post } });
        let wakes = state.wakes();
        drop(state);
        if wakes {
            self.0.woken.notify_one();
        }
        Ok(answer)
    }

    /// Returns how many orders wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().orders.len()
    }

    /// Tells whether orders are taken.
    pub(crate) fn is_open(&self) -> bool {
        !self.0.lock().is_closed
    }

    /// Takes no more orders, and returns what ends once the writer is gone.
    pub(crate) fn close(&self) -> oneshot::Receiver<()> {
        let (end, ended) = oneshot::channel();
        let mut state = self.0.lock();
        state.is_closed = true;
        if !state.is_over {
            state.ends.push(end);
        }
        drop(state);
        self.0.woken.notify_one();
        ended
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.woken.notify_one();
    }
}

impl Exit {
    /// Waits for orders, or until a time where there are none, and moves them to `batch`, which is empty.
    /// Returns false once there are none and there will be none.
    pub(crate) fn take(
        &self,
        pace: &Pace,
        until: Option<Instant>,
        batch: &mut Vec<Waiting>,
    ) -> bool {
        let mut state = self.wait(pace, until);
        if state.orders.len() > BATCH_MAX {
            batch.extend(state.orders.drain(..BATCH_MAX));
        } else {
            mem::swap(&mut state.orders, batch);
        }
        !batch.is_empty() || !state.is_closed
    }

    /// Waits until there are orders, and for more of them as long as that is the pace; at most until the
    /// end, and without orders until a time.
    fn wait(&self, pace: &Pace, until: Option<Instant>) -> MutexGuard<'_, State> {
        let mut state = self.0.lock();
        while !state.is_closed {
            let (waiting, now) = (state.orders.len(), Instant::now());
            let gathering = pace.gathering(waiting, now).filter(|it| !state.has(it.enough));
            let (enough, until) = match gathering {
                Some(Gathering { enough, until }) => (enough, Some(until)),
                None if waiting == 0 => (1, until),
                None => break,
            };
            state.wakes_at = Some(enough);
            state = match until.map(|until| until.saturating_duration_since(now)) {
                Some(Duration::ZERO) => break,
                Some(left) => {
                    let waited = self.0.woken.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.0.woken.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.wakes_at = None;
        state
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        (state.is_closed, state.is_over) = (true, true);
        let left = (mem::take(&mut state.orders), mem::take(&mut state.ends));
        drop(state);
        drop(left);
    }
}

impl Shared {
    /// Nobody panics with the lock in hand, so a poisoned one is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
