//! How long a client makes a service wait.

use std::time::Duration;

use tokio::time::Instant;

/// How long a client may make a service wait, all in all. What fails after that is the client's doing:
/// otherwise a client could read on, or send on, a little now and then, until the service gives up, and
/// have its charge back with nearly all that it was charged for.
const STALL_MAX: Duration = Duration::from_secs(5);

/// Watches how long a service waits for a client.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    since: Option<Instant>,
    waited: Duration,
}

impl Stall {
    /// Notes that it is the client's turn.
    pub(crate) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Notes that the client has done something.
    pub(crate) fn end(&mut self) {
        (self.waited, self.since) = (self.waited(), None);
    }

    fn waited(&self) -> Duration {
        let now = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.waited.saturating_add(now)
    }

    /// Tells whether the client has taken too long to be heard when something fails.
    pub(crate) fn is_long(&self) -> bool {
        self.waited() > STALL_MAX
    }
}
