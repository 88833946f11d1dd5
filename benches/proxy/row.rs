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
    /// Farebox, a long answer that is charged by its bytes.
    Metered,
}

impl Row {
    /// Those that are measured with short answers.
    pub(crate) const SHORT: [Self; 5] =
        [Self::Nginx, Self::Free, Self::Credit, Self::Signature, Self::OneChannel];
    /// Those of them that are measured at a steady rate.
    pub(crate) const STEADY: [Self; 3] = [Self::Free, Self::Credit, Self::Signature];
    /// Those that are measured with long answers.
    pub(crate) const LONG: [Self; 3] = [Self::Nginx, Self::Free, Self::Metered];

    /// Returns the row's name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Free => "free",
            Self::Credit => "credit",
            Self::Signature => "signature",
            Self::OneChannel => "one-channel",
            Self::Metered => "metered",
        }
    }
}
