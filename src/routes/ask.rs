//! A price that is asked: of whom, for how long it is kept, and what is believed.

use std::path::PathBuf;
use std::time::Duration;

use farebox_channel::Msat;
use http::Uri;

/// How the prices of a route are asked of a service of the seller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Where the service answers.
    pub url: Uri,
    /// The file with the certificates that it is verified by; nothing means the system's.
    pub authorities: Option<PathBuf>,
    /// For how long an answer is kept, unless it says less itself.
    pub keep: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The least price that is believed.
    pub least: Msat,
    /// The greatest price that is believed.
    pub most: Msat,
    /// What a request costs while the service gives no price.
    pub when_down: WhenDown,
}

/// What a request costs while nobody says what it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// The price of its route.
    #[default]
    Route,
    /// The last price that is known for the same request, else that of its route.
    Last,
    /// Nothing: it is refused.
    Refuse,
}
