//! What has happened to channels, for whoever wants to know.

use farebox_channel::gateway::Event;
use thiserror::Error;
use tokio::sync::broadcast;

/// How many events a subscriber may be behind before it misses the oldest.
pub(crate) const EVENTS_MAX: usize = 4_096;

/// The events of a ledger from some time on, each of them once it is on record.
///
/// What happened while nobody was subscribed is not told again: the channels themselves tell where
/// they stand.
#[derive(Debug)]
pub struct Events(pub(crate) broadcast::Receiver<Event>);

/// A subscriber was too slow, and the oldest events are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} events were missed")]
pub struct Missed(pub u64);

impl Events {
    /// Waits for the next event. There are no more once the ledger has stopped.
    ///
    /// # Errors
    /// [`Missed`] when some are gone; the next call goes on with the oldest that is still there.
    pub async fn next(&mut self) -> Result<Option<Event>, Missed> {
        match self.0.recv().await {
            Ok(event) => Ok(Some(event)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(missed)) => Err(Missed(missed)),
        }
    }
}
