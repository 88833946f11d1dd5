//! How long a client makes an answer wait.

use std::time::Duration;

use tokio::time::Instant;

/// How long a client may make an answer wait, all its pieces together. If the answer breaks off
/// after that, it is the client's doing: otherwise a client could read on a little now and then,
/// until the service gives up, and have nearly all of the answer and its charge back.
const STALL_MAX: Duration = Duration::from_secs(5);

/// Watches how long an answer waits for its client.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    handed_at: Option<Instant>,
    waited: Duration,
}

impl Stall {
    /// Notes that the client wants more.
    pub(crate) fn wanted(&mut self) {
        let waited = self.handed_at.take().map_or(Duration::ZERO, |at| at.elapsed());
        self.waited = self.waited.saturating_add(waited);
    }

    /// Notes that a piece was handed over.
    pub(crate) fn handed(&mut self) {
        self.handed_at = Some(Instant::now());
    }

    /// Tells whether the client has waited for too long to be heard when the answer breaks off.
    pub(crate) fn is_long(&self) -> bool {
        self.waited > STALL_MAX
    }
}
