//! Talking to a gateway: one step per request, on its well-known path.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farebox_channel::message::Offer;
use farebox_channel::wire::{Field, PROBLEM, PROBLEM_PREFIX, WELL_KNOWN, problem_type};
use http::response::Parts;
use http_body::{Body, Frame};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Response, ResponseBuilderExt, StatusCode, Url};
use serde::Deserialize;
use tokio::time::timeout;

use crate::error::PayError;

/// How long a gateway may take for a step.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to say why it refuses.
const PROBLEM_PATIENCE: Duration = Duration::from_secs(5);
/// How many letters of a gateway's words are told.
const WORDS_LEN_MAX: usize = 500;
/// The greatest problem document to read.
const PROBLEM_LEN_MAX: usize = 64 * 1024;

/// A server that may be a gateway: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(Url);

impl Origin {
    /// Returns the origin of a URL, if payments may be sent there.
    pub(crate) fn of(url: &Url) -> Result<Self, PayError> {
        let host = url.host_str().ok_or_else(|| PayError::NoHost(url.to_string()))?;
        let is_loopback = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        let mut origin = url.clone();
        // Neither fails on a URL with a host.
        let _user = origin.set_username("");
        let _password = origin.set_password(None);
        if url.scheme() != "https" && !is_loopback {
            return Err(PayError::Insecure(origin.to_string()));
        }
        origin.set_path("/");
        origin.set_query(None);
        origin.set_fragment(None);
        Ok(Self(origin))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the host as it stands in proofs: with its port unless that is the scheme's own.
    pub(crate) fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Returns where steps are sent.
    pub(crate) fn well_known(&self) -> Url {
        let mut url = self.0.clone();
        url.set_path(WELL_KNOWN);
        url
    }
}

/// Sends a step and returns the gateway's message.
pub(crate) async fn step<Q: Field, A: Field>(
    http: &reqwest::Client,
    origin: &Origin,
    request: &Q,
) -> Result<A, PayError> {
    let asked = http.get(origin.well_known()).header(Q::NAME, request.encode());
    let sent = asked.timeout(PATIENCE).send().await?;
    if !sent.status().is_success() {
        return Err(refused(sent).await);
    }
    field(sent.headers())
}

/// Reads a message of an answer.
pub(crate) fn field<F: Field>(headers: &HeaderMap) -> Result<F, PayError> {
    let value = headers.get(F::NAME).ok_or(PayError::NoField(F::NAME))?;
    Ok(F::decode(value.as_bytes())?)
}

/// Returns the offer of an answer that asks for payment.
pub(crate) fn offer(response: &Response) -> Result<Option<Offer>, PayError> {
    if response.status() != StatusCode::PAYMENT_REQUIRED {
        return Ok(None);
    }
    match field(response.headers()) {
        Ok(offer) => Ok(Some(offer)),
        Err(PayError::NoField(_)) => Err(PayError::NoOffer),
        Err(error) => Err(error),
    }
}

/// A problem document, as far as it matters here (RFC 9457).
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    detail: Option<String>,
}

/// Reads why a gateway refuses, as far as it says so in time.
pub(crate) async fn refused(response: Response) -> PayError {
    let status = response.status();
    match told(response).await {
        Some(document) => document.refused(status),
        None if status == StatusCode::SERVICE_UNAVAILABLE => PayError::NotNow(status.to_string()),
        None => refused_by_nobody(status),
    }
}

/// Reads why a request with a payment is refused. What cannot be read is not taken for the gateway's
/// word, which would say that nothing was charged.
pub(crate) async fn refused_payment(response: Response) -> PayError {
    let status = response.status();
    let document = told(response).await;
    document.map_or_else(|| refused_by_nobody(status), |document| document.refused(status))
}

/// Returns a refusal that says nothing but its status.
fn refused_by_nobody(status: StatusCode) -> PayError {
    PayError::Refused { kind: "about:blank".to_owned(), detail: status.to_string() }
}

/// Reads what an answer tells, as far as it comes in time.
async fn told(response: Response) -> Option<Document> {
    let (parts, body) = http::Response::from(response).into_parts();
    let mut peeked = Peeked::new(body);
    let _late = timeout(PROBLEM_PATIENCE, peeked.read()).await;
    Document::read(&parts.headers, &peeked.text)
}

impl Document {
    /// Reads a body, or the field that stands for one, as with HEAD.
    fn read(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let in_field = || {
            let kind = problem_type(headers.get(PROBLEM)?.as_bytes()).ok()?;
            Some(Self { kind, detail: None })
        };
        serde_json::from_slice(body).ok().or_else(in_field)
    }

    /// Returns what it says.
    fn refused(self, status: StatusCode) -> PayError {
        let (kind, detail) = (plain(&self.kind), self.detail.as_deref().map(plain));
        let detail = detail.unwrap_or_else(|| status.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE && kind.starts_with(PROBLEM_PREFIX) {
            return PayError::NotNow(detail);
        }
        PayError::Refused { kind, detail }
    }
}

/// Returns words of a gateway's as they may be shown: in one line of some length, without what a
/// terminal obeys or what turns the order of letters around.
fn plain(words: &str) -> String {
    let shown = |letter: char| match letter {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        letter if letter.is_control() => char::REPLACEMENT_CHARACTER,
        letter => letter,
    };
    words.chars().take(WORDS_LEN_MAX).map(shown).collect()
}

/// Tells whether an answer is a problem document (RFC 9457).
pub(crate) fn is_problem(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"))
}

/// Tells whether a refusal is the gateway's own.
pub(crate) fn is_of_gateway(refused: &PayError) -> bool {
    match refused {
        PayError::Refused { kind, .. } => kind.starts_with(PROBLEM_PREFIX),
        PayError::NotNow(_) => true,
        _ => false,
    }
}

/// Reads what an answer says, and returns it with the answer as it was. What is longer than a problem, or
/// slower, says nothing.
pub(crate) async fn peek(response: Response) -> (Option<PayError>, Response) {
    let url = response.url().clone();
    let (parts, body) = http::Response::from(response).into_parts();
    let mut peeked = Peeked::new(body);
    let is_whole = timeout(PROBLEM_PATIENCE, peeked.read()).await.unwrap_or(false);
    let document = if is_whole { Document::read(&parts.headers, &peeked.text) } else { None };
    let refused = document.map(|document| document.refused(parts.status));
    (refused, with_body(url, parts, reqwest::Body::wrap(peeked)))
}

/// A body whose beginning was read.
struct Peeked {
    /// What was read.
    text: Vec<u8>,
    frames: VecDeque<Result<Frame<Bytes>, reqwest::Error>>,
    /// Nothing once it has ended.
    rest: Option<reqwest::Body>,
}

impl Peeked {
    const fn new(body: reqwest::Body) -> Self {
        Self { text: Vec::new(), frames: VecDeque::new(), rest: Some(body) }
    }

    /// Reads it, and tells whether it has come to its end: not where it is longer than a problem, or
    /// breaks off.
    async fn read(&mut self) -> bool {
        while let Some(rest) = &mut self.rest {
            let frame = poll_fn(|context| Pin::new(&mut *rest).poll_frame(context)).await;
            let Some(frame) = frame else {
                self.rest = None;
                break;
            };
            let is_broken = frame.is_err();
            self.text.extend(frame.iter().filter_map(Frame::data_ref).flatten());
            self.frames.push_back(frame);
            if is_broken || self.text.len() > PROBLEM_LEN_MAX {
                return false;
            }
        }
        true
    }
}

impl Body for Peeked {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(frame));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(context),
            None => Poll::Ready(None),
        }
    }
}

/// Puts an answer together again, with another body.
pub(crate) fn with_body(url: Url, mut parts: Parts, body: impl Into<reqwest::Body>) -> Response {
    // What carries an answer does not carry its address along.
    if let Ok(marked) = http::Response::builder().url(url).body(()) {
        parts.extensions.extend(marked.into_parts().0.extensions);
    }
    Response::from(http::Response::from_parts(parts, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_says_is_one_line_that_no_terminal_obeys() {
        let detail =
            "\u{1b}[2J\u{1b}]0;x\u{7}no\r\nfarebox: paid \u{9b}1m\u{202e}cba\u{2066}".to_owned();
        let document = Document { kind: "urn:x\n".to_owned(), detail: Some(detail) };
        let told = document.refused(StatusCode::FORBIDDEN).to_string();
        let expected = "the gateway refuses: \u{fffd}[2J\u{fffd}]0;x\u{fffd}no\u{fffd}\u{fffd}farebox: paid \
                        \u{fffd}1m\u{fffd}cba\u{fffd} (urn:x\u{fffd})";
        assert_eq!(told, expected);
        assert_eq!(plain(&"ä".repeat(9_000)), "ä".repeat(WORDS_LEN_MAX));
    }

    #[test]
    fn a_password_is_told_to_nobody() {
        let url = Url::parse("http://me:secret@example.com/x").unwrap();
        let refused = Origin::of(&url).unwrap_err().to_string();
        assert!(refused.starts_with("http://example.com/x is neither https"), "{refused}");
    }
}
