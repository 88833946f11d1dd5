//! What is counted of a tunnel.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::frames::{Piece, Side};

/// Stands in both ways of a tunnel, and counts what goes by.
#[derive(Debug)]
pub(crate) struct Toll {
    began: Instant,
    /// When something has moved last, in milliseconds since the beginning.
    moved: AtomicU64,
    from_client: Passed,
    from_service: Passed,
}

/// What has gone one way.
#[derive(Debug, Default)]
struct Passed {
    payload: AtomicU64,
    messages: AtomicU64,
}

/// What has gone both ways: the payload in bytes, and the data messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The payload from the client.
    pub(crate) bytes_in: u64,
    /// The payload from the service.
    pub(crate) bytes_out: u64,
    /// The messages from the client.
    pub(crate) messages_in: u64,
    /// The messages from the service.
    pub(crate) messages_out: u64,
}

impl Toll {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            moved: AtomicU64::new(0),
            from_client: Passed::default(),
            from_service: Passed::default(),
        }
    }

    /// Lets a piece pass, and counts it. It is asked before anything of the piece is sent.
    pub(super) fn pass(&self, from: Side, piece: Piece) {
        let passed = match from {
            Side::Client => &self.from_client,
            Side::Service => &self.from_service,
        };
        passed.payload.fetch_add(piece.payload, Ordering::Relaxed);
        passed.messages.fetch_add(piece.messages, Ordering::Relaxed);
    }

    /// Notes that bytes have come or gone.
    pub(super) fn moves(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// Waits until nothing has moved for so long.
    pub(super) async fn standstill(&self, pause: Duration) {
        loop {
            let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
            let end = self.began.checked_add(moved).and_then(|moved| moved.checked_add(pause));
            // A pause without an end in sight is as good as none.
            let Some(end) = end else { return pending().await };
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    /// Returns what has gone both ways so far.
    pub(crate) fn tally(&self) -> Tally {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally {
            bytes_in: read(&self.from_client.payload),
            bytes_out: read(&self.from_service.payload),
            messages_in: read(&self.from_client.messages),
            messages_out: read(&self.from_service.messages),
        }
    }
}
