//! The watcher's own clock.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use farebox_channel::Timestamp;

/// A clock on the wall: the machine's own, or one that is set by hand. Clones show the same time.
#[derive(Clone)]
pub struct Wall(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Wall {
    /// Returns the machine's own clock.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            Timestamp::new(since.map_or(0, |since| since.as_secs()))
        })
    }

    /// Makes a clock that shows what `now` returns.
    #[must_use]
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wall").field(&self.now()).finish()
    }
}
