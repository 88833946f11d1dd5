//! The time that a request is charged for.

use std::time::Duration;

use tokio::time::Instant;

/// A clock that stands still until the answer begins, and while it pauses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StopClock {
    has_begun: bool,
    gone: Duration,
    since: Option<Instant>,
}

impl StopClock {
    /// Lets it run from now on.
    pub(crate) fn begin(&mut self) {
        self.has_begun = true;
        self.go_on();
    }

    /// Tells whether it has ever run.
    pub(crate) const fn has_begun(&self) -> bool {
        self.has_begun
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

    /// Lets it go on, once it has begun.
    pub(crate) fn go_on(&mut self) {
        if self.has_begun {
            self.since.get_or_insert_with(Instant::now);
        }
    }
}
