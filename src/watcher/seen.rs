//! What the watcher tells of the node and of its own work, to whoever looks at the gateway.

use std::sync::atomic::Ordering;

use farebox_chain::{Chain, Tip, Wallet};
use farebox_channel::Timestamp;
use farebox_middleware::Node;

use super::Watcher;

/// How the node looked last.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The newest block, while the node answers.
    pub(crate) tip: Option<Tip>,
    /// Why the node counts as away, while it does.
    pub(crate) away: Option<String>,
    /// The time by which marks are measured.
    pub(crate) now: Timestamp,
    /// The machine's own time.
    pub(crate) wall: Timestamp,
    /// How often a settlement was handed to the node.
    pub(crate) broadcasts: u64,
}

impl<B: Chain + Wallet> Watcher<B> {
    /// Returns how the node looked last. Nothing is asked for it.
    pub(crate) fn seen(&self) -> Seen {
        Seen {
            tip: self.tip(),
            away: self.away(),
            now: self.clock().now(),
            wall: self.wall_now(),
            broadcasts: self.0.broadcasts.load(Ordering::Relaxed),
        }
    }
}
