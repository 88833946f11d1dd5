//! What a connection is doing, and since when: so that slow ones are ended without a timer for each
//! request.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

/// How often connections are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// How long a connection may do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// Send the head of a request, from its first byte on.
    pub(crate) head: Duration,
    /// Send nothing, between two requests.
    pub(crate) idle: Duration,
    /// Leave bytes of an answer unread.
    pub(crate) write: Duration,
}

/// The epochs that are told apart: this one, the last one, and the one before.
const EPOCHS: usize = 3;

/// The time of a worker, counted in ticks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticks(Arc<Clock>);

#[derive(Debug, Default)]
struct Clock {
    now: AtomicU32,
    /// The number of this epoch, below [`EPOCHS`]. Each lasts as long as an answer may be unread.
    epoch: AtomicUsize,
    epoch_since: AtomicU32,
}

impl Ticks {
    fn now(&self) -> u32 {
        self.0.now.load(Ordering::Relaxed)
    }

    fn epoch(&self) -> usize {
        self.0.epoch.load(Ordering::Relaxed)
    }

    fn advance(&self, epoch: Duration) -> u32 {
        let now = self.0.now.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if now.wrapping_sub(self.0.epoch_since.load(Ordering::Relaxed)) > ticks(epoch) {
            self.0.epoch.store(next(self.epoch()), Ordering::Relaxed);
            self.0.epoch_since.store(now, Ordering::Relaxed);
        }
        now
    }
}

/// Returns the epoch after another one. It is also the oldest one that is told apart.
const fn next(epoch: usize) -> usize {
    match epoch {
        0 => 1,
        1 => 2,
        _ => 0,
    }
}

/// What one connection is doing.
#[derive(Debug)]
pub(crate) struct Vitals {
    ticks: Ticks,
    /// The requests that are being answered.
    requests: AtomicUsize,
    /// When the last request was answered.
    idle_since: AtomicU32,
    /// When the first bytes of a head have come, plus one; zero while none have.
    head_since: AtomicU32,
    /// When the client has begun to leave bytes unread, plus one; zero while it reads.
    blocked_since: AtomicU32,
    /// Whether it speaks HTTP/2, where bytes are no sign of a request.
    is_http2: AtomicBool,
    /// How many answers wait for the client to read on, by the epoch since which they do. With
    /// HTTP/2 a client lets single answers wait while the connection goes on.
    unread: [AtomicUsize; EPOCHS],
}

impl Vitals {
    /// Notes that bytes have come.
    pub(crate) fn read(&self) {
        if self.head_since.load(Ordering::Relaxed) == 0
            && self.requests.load(Ordering::Relaxed) == 0
        {
            self.head_since.store(self.ticks.now().saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Notes that bytes wait to be read by the client.
    pub(crate) fn blocked(&self) {
        if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.blocked_since.store(self.ticks.now().saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Notes that the client reads.
    pub(crate) fn unblocked(&self) {
        if self.blocked_since.load(Ordering::Relaxed) != 0 {
            self.blocked_since.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that a request is being answered, until the value is dropped.
    pub(crate) fn begin(self: &Arc<Self>, is_http2: bool) -> Request {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        if is_http2 {
            self.is_http2.store(true, Ordering::Relaxed);
        }
        Request { vitals: Arc::clone(self), unread_since: None }
    }

    /// Tells whether the connection has taken too long for what it does.
    fn is_late(&self, now: u32, patience: &Patience) -> bool {
        let is_over = |since: u32, patience: Duration| now.saturating_sub(since) > ticks(patience);
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if blocked > 0 && is_over(blocked, patience.write) {
            return true;
        }
        if self.requests.load(Ordering::Relaxed) > 0 {
            let oldest = self.unread.get(next(self.ticks.epoch()));
            return oldest.is_some_and(|unread| unread.load(Ordering::Relaxed) > 0);
        }
        let head = self.head_since.load(Ordering::Relaxed);
        if head > 0 && !self.is_http2.load(Ordering::Relaxed) {
            return is_over(head, patience.head);
        }
        is_over(self.idle_since.load(Ordering::Relaxed), patience.idle)
    }
}

/// Returns a time in ticks, rounded up.
fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX)
}

/// A request that is being answered, for as long as this value lives.
pub(crate) struct Request {
    vitals: Arc<Vitals>,
    /// The epoch since which its answer waits for the client.
    unread_since: Option<usize>,
}

impl Request {
    /// Notes that its answer waits until the client reads on, where the connection does not show it.
    pub(crate) fn waits(&mut self) {
        self.goes_on();
        if self.vitals.is_http2.load(Ordering::Relaxed) {
            let epoch = self.vitals.ticks.epoch();
            if let Some(unread) = self.vitals.unread.get(epoch) {
                unread.fetch_add(1, Ordering::Relaxed);
                self.unread_since = Some(epoch);
            }
        }
    }

    /// Notes that the client reads on.
    pub(crate) fn goes_on(&mut self) {
        let since = self.unread_since.take();
        if let Some(unread) = since.and_then(|epoch| self.vitals.unread.get(epoch)) {
            unread.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.goes_on();
        self.vitals.idle_since.store(self.vitals.ticks.now(), Ordering::Relaxed);
        self.vitals.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Ward {
    ticks: Ticks,
    connections: Mutex<Vec<(Arc<Vitals>, AbortHandle)>>,
}

impl Ward {
    /// Makes the vitals of a new connection.
    pub(crate) fn admit(&self) -> Arc<Vitals> {
        let now = self.ticks.now();
        Arc::new(Vitals {
            ticks: self.ticks.clone(),
            requests: AtomicUsize::new(0),
            idle_since: AtomicU32::new(now),
            // A connection is opened to be used: it has the time of a head for its first one.
            head_since: AtomicU32::new(now.saturating_add(1)),
            blocked_since: AtomicU32::new(0),
            is_http2: AtomicBool::new(false),
            unread: Default::default(),
        })
    }

    /// Looks after a connection, whose task can be ended.
    pub(crate) fn watch(&self, vitals: Arc<Vitals>, task: AbortHandle) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.push((vitals, task));
    }

    /// Ends the connections that take too long, and forgets those that have ended.
    pub(crate) fn round(&self, patience: &Patience) {
        let now = self.ticks.advance(patience.write);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|(vitals, task)| {
            if vitals.is_late(now, patience) {
                task.abort();
            }
            !task.is_finished()
        });
    }

    /// Tells whether no connection is left.
    pub(crate) fn is_empty(&self) -> bool {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|(_, task)| !task.is_finished());
        connections.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(2),
        idle: Duration::from_secs(5),
        write: Duration::from_secs(3),
    };

    /// Returns after how many ticks a connection is late, of 100.
    fn late_after(ward: &Ward, vitals: &Vitals) -> Option<u32> {
        (0..100).find(|_| {
            let now = ward.ticks.advance(PATIENCE.write);
            vitals.is_late(now, &PATIENCE)
        })
    }

    #[test]
    fn a_head_has_less_time_than_an_idle_connection_and_an_answer_has_any() {
        let ward = Ward::default();
        let vitals = ward.admit();
        assert_eq!(late_after(&ward, &vitals), Some(5), "a first head");

        let request = vitals.begin(false);
        assert_eq!(late_after(&ward, &vitals), None, "an answer");
        drop(request);
        assert_eq!(late_after(&ward, &vitals), Some(10), "an idle connection");

        vitals.begin(false);
        vitals.read();
        assert_eq!(late_after(&ward, &vitals), Some(5), "the next head");
    }

    #[test]
    fn a_client_that_does_not_read_is_late_even_while_it_is_answered() {
        let ward = Ward::default();
        let vitals = ward.admit();
        let _request = vitals.begin(false);
        vitals.blocked();
        vitals.unblocked();
        vitals.blocked();
        assert_eq!(late_after(&ward, &vitals), Some(7));
    }

    #[test]
    fn an_answer_that_is_left_unread_is_late_while_others_go_on() {
        let ward = Ward::default();
        let vitals = ward.admit();
        let mut unread = vitals.begin(true);
        let mut read = vitals.begin(true);
        for _ in 0..100 {
            let now = ward.ticks.advance(PATIENCE.write);
            read.waits();
            assert!(!vitals.is_late(now, &PATIENCE), "it is read on");
        }
        unread.waits();
        let late = (0..100).find(|_| {
            read.waits();
            let now = ward.ticks.advance(PATIENCE.write);
            vitals.is_late(now, &PATIENCE)
        });
        assert!(late.is_some_and(|late| (6..=14).contains(&late)), "{late:?}");
    }

    #[test]
    fn bytes_between_requests_are_no_head_with_http2() {
        let ward = Ward::default();
        let vitals = ward.admit();
        drop(vitals.begin(true));
        vitals.read();
        assert_eq!(late_after(&ward, &vitals), Some(10));
    }
}
