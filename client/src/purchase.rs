//! What a client has bought, as the history in its file has it.

use bitcoin::OutPoint;
use farebox_channel::{Msat, Timestamp};
use reqwest::Request;

/// A request that was paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// When it was signed for.
    pub time: Timestamp,
    /// The scheme, host and port of the server.
    pub origin: String,
    /// The method.
    pub method: String,
    /// The path, without the query, which may hold secrets.
    pub path: String,
    /// The channel that has paid.
    pub channel: OutPoint,
    /// The price that was agreed to. Where the answer is charged while it passes, that is what was
    /// agreed to at first.
    pub price: Msat,
    /// What it has cost in the end, where that is known: an answer may have been lost, or run yet.
    pub cost: Option<Msat>,
}

/// What a request asks for, as the history has it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
}

impl Asked {
    pub(crate) fn of(request: &Request) -> Self {
        Self { method: request.method().to_string(), path: request.url().path().to_owned() }
    }
}

/// The number of a row of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) i64);

/// A place in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bookmark(pub(crate) i64);

/// What is written into the history.
#[derive(Debug)]
pub(crate) enum Line {
    /// A request is about to be sent.
    Begun(Purchase),
    /// A request has cost so much.
    Paid(Number, Msat),
    /// A request was refused, and has cost nothing.
    Refused(Number),
}
