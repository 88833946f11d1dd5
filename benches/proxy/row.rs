//! What is compared with what.

use clap::ValueEnum;

/// A way of asking for the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Row {
    /// nginx as a proxy.
    Nginx,
    /// Farebox, on a free route.
    Free,
    /// Farebox, the latest payment again: the price is taken from credit.
    Credit,
    /// Farebox, a fresh signature for each request, each connection on a channel of its own.
    Signature,
    /// Farebox, a fresh signature for each request, all connections on one channel.
    OneChannel,
}

impl Row {
    /// Those that are measured at a steady rate.
    pub(crate) const STEADY: [Self; 3] = [Self::Free, Self::Credit, Self::Signature];

    /// Returns the row's name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Free => "free",
            Self::Credit => "credit",
            Self::Signature => "signature",
            Self::OneChannel => "one-channel",
        }
    }
}
