//! How often each limit has rejected something.

use std::sync::atomic::AtomicU64;

/// A limit that counts what it rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Requests of one channel at once.
    ChannelRequests,
    /// Connections, of one client or in all.
    Connections,
    /// Steps that are no payments.
    Openings,
    /// Payments of no channel.
    Payments,
    /// Requests at once, of one client or in all.
    Requests,
    /// Requests without a payment.
    Unpaid,
}

impl Limit {
    /// Every limit.
    pub(super) const ALL: [Self; 6] = [
        Self::ChannelRequests,
        Self::Connections,
        Self::Openings,
        Self::Payments,
        Self::Requests,
        Self::Unpaid,
    ];

    /// Returns the value of its label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::ChannelRequests => "channel_requests",
            Self::Connections => "connections",
            Self::Openings => "openings",
            Self::Payments => "payments",
            Self::Requests => "requests",
            Self::Unpaid => "unpaid",
        }
    }
}

/// What each limit has rejected. Told as zero before that: an alarm sees no step where no row was.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    channel_requests: AtomicU64,
    connections: AtomicU64,
    openings: AtomicU64,
    payments: AtomicU64,
    requests: AtomicU64,
    unpaid: AtomicU64,
}

impl Rejected {
    /// Returns the count of a limit.
    pub(super) const fn by(&self, limit: Limit) -> &AtomicU64 {
        match limit {
            Limit::ChannelRequests => &self.channel_requests,
            Limit::Connections => &self.connections,
            Limit::Openings => &self.openings,
            Limit::Payments => &self.payments,
            Limit::Requests => &self.requests,
            Limit::Unpaid => &self.unpaid,
        }
    }
}
