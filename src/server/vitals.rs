//! What a connection is doing, and since when: so that slow ones are ended without a timer for each
//! request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::streams;

/// How often connections are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// The greatest number of streams of one connection that its client resets in one tick. Each may
/// have reached the service, whose connection is closed for it.
const RESETS_MAX: u32 = 200;

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

/// The time of a worker, counted in ticks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticks(Arc<AtomicU32>);

impl Ticks {
    fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn advance(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
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
    /// Whether the last request has a body, of which something may still be coming. With HTTP/2 it
    /// is the stream that ends, and not the connection.
    is_uploading: AtomicBool,
    /// The streams of HTTP/2 that are being answered. A client lets single answers wait while the
    /// connection goes on.
    streams: Mutex<BTreeMap<u64, Arc<Stream>>>,
    /// How many there ever were.
    streams_ever: AtomicU64,
    /// How many of them were reset in this tick.
    resets: AtomicU32,
    /// Whether it is of a trusted proxy, so that the resets are of many clients.
    is_shared: AtomicBool,
    /// The task of the connection.
    task: OnceLock<AbortHandle>,
}

/// A stream that is being answered.
#[derive(Debug)]
struct Stream {
    /// When its answer has begun to wait for the client, plus one; zero while it does not.
    unread_since: AtomicU32,
    task: AbortHandle,
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
        let mut stream = None;
        if is_http2 {
            self.is_http2.store(true, Ordering::Relaxed);
            stream = streams::own().map(|task| {
                let number = self.streams_ever.fetch_add(1, Ordering::Relaxed);
                let begun = Arc::new(Stream { unread_since: AtomicU32::new(0), task });
                self.streams().insert(number, Arc::clone(&begun));
                (number, begun)
            });
        }
        Request { vitals: Arc::clone(self), stream }
    }

    /// Ends the streams whose answers were left unread for too long. Others of the connection go
    /// on: behind a proxy, they are of other clients.
    fn end_unread(&self, now: u32, patience: Duration) {
        for stream in self.streams().values() {
            let unread = stream.unread_since.load(Ordering::Relaxed);
            if unread > 0 && is_over(now, unread, patience) {
                stream.task.abort();
            }
        }
    }

    /// Notes that a stream was reset. Whoever does that all the time is hung up on (CVE-2023-44487).
    fn reset(&self) {
        if self.resets.fetch_add(1, Ordering::Relaxed) >= RESETS_MAX
            && !self.is_shared.load(Ordering::Relaxed)
            && let Some(task) = self.task.get()
        {
            task.abort();
        }
    }

    /// Tells whether the connection has ended.
    fn has_ended(&self) -> bool {
        self.task.get().is_none_or(AbortHandle::is_finished)
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Stream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that many clients share the connection.
    pub(crate) fn share(&self) {
        self.is_shared.store(true, Ordering::Relaxed);
    }

    /// Notes whether a request of HTTP/1 has a body.
    pub(crate) fn uploads(&self, has_body: bool) {
        self.is_uploading.store(has_body, Ordering::Relaxed);
    }

    /// Tells whether something of a body may still be coming when the connection ends.
    pub(crate) fn is_uploading(&self) -> bool {
        self.is_uploading.load(Ordering::Relaxed)
    }

    /// Tells whether the connection has taken too long for what it does.
    fn is_late(&self, now: u32, patience: &Patience) -> bool {
        let blocked = self.blocked_since.load(Ordering::Relaxed);
        if blocked > 0 && is_over(now, blocked, patience.write) {
            return true;
        }
        if self.requests.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let head = self.head_since.load(Ordering::Relaxed);
        if head > 0 && !self.is_http2.load(Ordering::Relaxed) {
            return is_over(now, head, patience.head);
        }
        is_over(now, self.idle_since.load(Ordering::Relaxed), patience.idle)
    }
}

/// Tells whether something has taken longer than it may.
fn is_over(now: u32, since: u32, patience: Duration) -> bool {
    now.saturating_sub(since) > ticks(patience)
}

/// Returns a time in ticks, rounded up.
fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX)
}

/// A request that is being answered, for as long as this value lives.
pub(crate) struct Request {
    vitals: Arc<Vitals>,
    /// Its stream and the number of it, with HTTP/2.
    stream: Option<(u64, Arc<Stream>)>,
}

impl Request {
    /// Notes that its answer waits until the client reads on, where the connection does not show it.
    pub(crate) fn waits(&self) {
        if let Some((_, stream)) = &self.stream {
            let now = self.vitals.ticks.now();
            stream.unread_since.store(now.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Notes that the client reads on.
    pub(crate) fn goes_on(&self) {
        if let Some((_, stream)) = &self.stream {
            stream.unread_since.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that its client has left before the end of the answer.
    pub(crate) fn breaks_off(&self) {
        if self.stream.is_some() {
            self.vitals.reset();
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
        if let Some((number, _)) = &self.stream {
            self.vitals.streams().remove(number);
        }
        self.vitals.idle_since.store(self.vitals.ticks.now(), Ordering::Relaxed);
        self.vitals.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Ward {
    ticks: Ticks,
    connections: Mutex<Vec<Arc<Vitals>>>,
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
            is_uploading: AtomicBool::new(false),
            streams: Mutex::default(),
            streams_ever: AtomicU64::new(0),
            resets: AtomicU32::new(0),
            is_shared: AtomicBool::new(false),
            task: OnceLock::new(),
        })
    }

    /// Looks after a connection, whose task can be ended.
    pub(crate) fn watch(&self, vitals: Arc<Vitals>, task: AbortHandle) {
        let _first = vitals.task.set(task);
        self.connections().push(vitals);
    }

    /// Ends the connections and streams that take too long, and forgets those that have ended.
    pub(crate) fn round(&self, patience: &Patience) {
        let now = self.ticks.advance();
        self.connections().retain(|vitals| {
            vitals.resets.store(0, Ordering::Relaxed);
            vitals.end_unread(now, patience.write);
            let late = vitals.task.get().filter(|_| vitals.is_late(now, patience));
            late.into_iter().for_each(AbortHandle::abort);
            !vitals.has_ended()
        });
    }

    /// Ends all connections, and what each of them answers.
    pub(crate) fn end(&self) {
        for vitals in self.connections().iter() {
            vitals.streams().values().for_each(|stream| stream.task.abort());
            vitals.task.get().into_iter().for_each(AbortHandle::abort);
        }
    }

    /// Tells whether no connection is left.
    pub(crate) fn is_empty(&self) -> bool {
        let mut connections = self.connections();
        connections.retain(|vitals| !vitals.has_ended());
        connections.is_empty()
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Vitals>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor;

    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(2),
        idle: Duration::from_secs(5),
        write: Duration::from_secs(3),
    };

    /// Returns after how many ticks a connection is late, of 100.
    fn late_after(ward: &Ward, vitals: &Vitals) -> Option<u32> {
        (0..100).find(|_| {
            let now = ward.ticks.advance();
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

    #[tokio::test]
    async fn an_answer_that_is_left_unread_is_ended_while_others_go_on() {
        let ward = Ward::default();
        let vitals = ward.admit();
        for is_read in [false, true] {
            let vitals = Arc::clone(&vitals);
            streams::Streams.execute(async move {
                let request = vitals.begin(true);
                loop {
                    request.waits();
                    if !is_read {
                        std::future::pending::<()>().await;
                    }
                    tokio::task::yield_now().await;
                    request.goes_on();
                }
            });
        }

        let mut left = Vec::new();
        for _ in 0..100 {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            left.push(vitals.requests.load(Ordering::Relaxed));
            let now = ward.ticks.advance();
            vitals.end_unread(now, PATIENCE.write);
            assert!(!vitals.is_late(now, &PATIENCE), "the connection goes on");
        }

        assert_eq!(left.iter().position(|left| *left == 1), Some(8), "{left:?}");
        assert_eq!(left.last(), Some(&1), "the other one goes on");
        assert_eq!(vitals.streams().len(), 1);
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
