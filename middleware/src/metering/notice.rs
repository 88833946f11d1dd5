//! What an event stream tells its client of the account, in events of its own.
//!
//! A client that does not listen for events of the type `payment-channel` never sees them (WHATWG
//! HTML §9.2.6).

use bytes::Bytes;
use farebox_channel::Msat;
use serde_json::json;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Credit runs low: less is left than is drawn at a time.
    Low,
    /// There is no credit, and the stream waits for it.
    Paused,
    /// The stream ends for want of credit, or because the channel gives none any more.
    Ended(&'static str),
}

impl Notice {
    /// Returns the event: `cost` is what the answer has cost so far, `credit` what is left of what
    /// is paid.
    pub(crate) fn event(self, cost: Msat, credit: Msat) -> Bytes {
        let (state, reason) = match self {
            Self::Low => ("low", None),
            Self::Paused => ("paused", None),
            Self::Ended(reason) => ("ended", Some(reason)),
        };
        let data = json!({
            "state": state,
            "cost_msat": cost.get(),
            "credit_msat": credit.get(),
            "reason": reason,
        });
        Bytes::from(format!("event: payment-channel\ndata: {data}\n\n"))
    }
}
