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
        if url.scheme() != "https" && !is_loopback {
            return Err(PayError::Insecure(url.to_string()));
        }
        let mut origin = url.clone();
        origin.set_path("/");
        origin.set_query(None);
        origin.set_fragment(None);
        // Neither fails on a URL with a host.
        let _user = origin.set_username("");
        let _password = origin.set_password(None);
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
pub(crate) async fn refused(mut response: Response) -> PayError {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > PROBLEM_LEN_MAX {
                break;
            }
        }
    };
    let _late = timeout(PROBLEM_PATIENCE, reading).await;
    refusal(response.status(), response.headers(), &body)
}

/// Returns what a refusal says: by its document, or by its field where it has none, as with HEAD.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> PayError {
    let in_field = || {
        let field = headers.get(PROBLEM)?;
        Some(Document { kind: problem_type(field.as_bytes()).ok()?, detail: None })
    };
    let Some(Document { kind, detail }) = serde_json::from_slice(body).ok().or_else(in_field)
    else {
        return match status {
            StatusCode::SERVICE_UNAVAILABLE => PayError::Unavailable(status),
            _ => PayError::Refused { kind: "about:blank".to_owned(), detail: status.to_string() },
        };
    };
    let detail = detail.unwrap_or_else(|| status.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE && kind.starts_with(PROBLEM_PREFIX) {
        return PayError::NotNow(detail);
    }
    PayError::Refused { kind, detail }
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
    let mut peeked = Peeked { frames: VecDeque::new(), rest: Some(body) };
    let text = timeout(PROBLEM_PATIENCE, peeked.read()).await.ok().flatten();
    let refused = text.map(|text| refusal(parts.status, &parts.headers, &text));
    (refused, with_body(url, parts, reqwest::Body::wrap(peeked)))
}

/// A body whose beginning was read.
struct Peeked {
    frames: VecDeque<Result<Frame<Bytes>, reqwest::Error>>,
    /// Nothing once it has ended.
    rest: Option<reqwest::Body>,
}

impl Peeked {
    /// Reads it to its end, and returns what it says, unless it is longer than a problem or breaks off.
    async fn read(&mut self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        while let Some(rest) = &mut self.rest {
            let frame = poll_fn(|context| Pin::new(&mut *rest).poll_frame(context)).await;
            let Some(frame) = frame else {
                self.rest = None;
                break;
            };
            let is_broken = frame.is_err();
            text.extend(frame.iter().filter_map(Frame::data_ref).flatten());
            self.frames.push_back(frame);
            if is_broken || text.len() > PROBLEM_LEN_MAX {
                return None;
            }
        }
        Some(text)
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
