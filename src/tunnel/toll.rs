//! What is counted of a tunnel.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farebox_middleware::{Load, Party, Passage, Problem, RunningBill};
use tokio::time::{Instant, sleep_until};

use super::frames::{Frames, Piece, Side};

/// Stands in both ways of a tunnel, counts what goes by, and has it paid where it costs something.
#[derive(Debug)]
pub(crate) struct Toll {
    passage: Option<Passage>,
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
    pub(crate) fn new(passage: Option<Passage>) -> Self {
        Self {
            passage,
            began: Instant::now(),
            moved: AtomicU64::new(0),
            from_client: Passed::default(),
            from_service: Passed::default(),
        }
    }

    /// Lets a piece pass once it is paid, and counts it. It is asked before anything of the piece is
    /// sent. What is charged for nothing never waits, such as a control frame.
    ///
    /// # Errors
    /// [`Problem`] when it is not paid any further.
    pub(super) async fn pass(&self, from: Side, piece: Piece) -> Result<(), Problem> {
        if let Some(passage) = self.passage.as_ref().filter(|_| piece.load != Load::default()) {
            passage.pass(party(from), piece.load).await?;
        }
        let passed = match from {
            Side::Client => &self.from_client,
            Side::Service => &self.from_service,
        };
        passed.payload.fetch_add(piece.payload, Ordering::Relaxed);
        passed.messages.fetch_add(piece.messages, Ordering::Relaxed);
        Ok(())
    }

    /// Tells how many frames are to be asked for at once: where they cost something, one, so that what
    /// costs nothing does not wait for it.
    pub(super) const fn at_once(&self) -> Frames {
        if self.passage.is_some() { Frames::One } else { Frames::All }
    }

    /// Notes that so much has not passed that was charged.
    pub(super) fn take_back(&self, from: Side, load: Load) {
        if let Some(passage) = &self.passage {
            passage.take_back(party(from), load);
        }
    }

    /// Waits until the tunnel is not paid any further.
    pub(super) async fn unpaid(&self) -> Problem {
        match &self.passage {
            Some(passage) => passage.ends().await,
            None => pending().await,
        }
    }

    /// Returns what tells the cost, where that is not the price.
    pub(crate) fn bill(&self) -> Option<RunningBill> {
        self.passage.as_ref().map(Passage::bill)
    }

    /// Gives back what was not used. It is on record when this returns.
    pub(crate) async fn settle(&self) {
        if let Some(passage) = &self.passage {
            let _receipt = passage.settle().await;
        }
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
                // Who waits for credit waits for that long.
                if !self.passage.as_ref().is_some_and(Passage::is_waiting) {
                    return;
                }
                self.moves();
                continue;
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

const fn party(side: Side) -> Party {
    match side {
        Side::Client => Party::Client,
        Side::Service => Party::Service,
    }
}
