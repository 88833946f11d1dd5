//! The time that an answer is charged for.

use std::time::Duration;

use tokio::time::Instant;

/// A clock that stands still while the answer pauses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StopClock {
    gone: Duration,
    since: Option<Instant>,
}

impl StopClock {
    /// Returns a clock that begins to run now.
    pub(crate) fn start() -> Self {
        Self { gone: Duration::ZERO, since: Some(Instant::now()) }
    }

    /// Returns how long it has run.
    pub(crate) fn elapsed(&self) -> Duration {
        let running = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.gone.saturating_add(running)
    }

    /// Lets it stand still.
    pub(crate) fn stop(&mut self) {
        (self.gone, self.since) = (self.elapsed(), None);
    }

    /// Lets it go on.
    pub(crate) fn go_on(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }
}
