//! What an operator's request is answered when it cannot be done: the only place with statuses.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bitcoin::OutPoint;
use farebox_channel::message::StateName;
use farebox_ledger::LedgerError;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::watcher::WatchError;

/// The type of a problem document (RFC 9457 §3).
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why an operator's request is not done.
#[derive(Debug, Error)]
pub(crate) enum AdminError {
    /// The request says something that means nothing.
    #[error("{0}")]
    Malformed(String),
    /// There is no such path.
    #[error("there is nothing at {0}")]
    NoPath(String),
    /// The path takes another method.
    #[error("{0} is not done here")]
    NoMethod(http::Method),
    /// There is no such channel.
    #[error("there is no channel {0} on record")]
    Unknown(OutPoint),
    /// The channel is not open, and has not been closed either.
    #[error("channel {channel} is {state}: {}", not_open(*state))]
    NotOpen {
        /// The channel.
        channel: OutPoint,
        /// Its state.
        state: StateName,
    },
    /// The node is needed and does not help.
    #[error("bitcoind is needed for this: {0}")]
    NodeAway(String),
    /// The store failed.
    #[error("it could not be saved: {0}")]
    Ledger(LedgerError),
    /// The gateway stops.
    #[error("the gateway is stopping")]
    Stopping,
}

/// Returns why a channel in this state is not closed.
const fn not_open(state: StateName) -> &'static str {
    match state {
        StateName::Pending => {
            "its contract is not confirmed, so there is nothing to settle yet; close it once it is \
             open"
        }
        StateName::Late => {
            "it was never served, so nothing is settled, and its client waits for the refund"
        }
        StateName::Open | StateName::Closing => "it is being changed; try again",
        StateName::WrittenOff => {
            "it is written off, and its client waits for the refund: a settlement would have cost \
             more than it brings"
        }
        StateName::Settled | StateName::Lost => "it has ended",
    }
}

impl From<WatchError> for AdminError {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Ledger(error) => Self::Ledger(error),
            error @ (WatchError::Chain(_) | WatchError::Unfit(_) | WatchError::OtherChain(_)) => {
                Self::NodeAway(error.to_string())
            }
        }
    }
}

impl AdminError {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::NoPath(_) | Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::NoMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotOpen { .. } => StatusCode::CONFLICT,
            Self::NodeAway(_) | Self::Ledger(_) | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A problem document (RFC 9457). Its type is `about:blank`: the status says it all.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProblemDocument {
    /// The status in words.
    pub(crate) title: String,
    /// The status.
    pub(crate) status: u16,
    /// What is wrong with this request.
    pub(crate) detail: String,
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = self.status();
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        let document = ProblemDocument { title, status: status.as_u16(), detail: self.to_string() };
        let body = serde_json::to_string_pretty(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(body + "\n"));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        response
    }
}
