//! Talking to a gateway: one step per request, on its well-known path.

use std::time::Duration;

use farebox_channel::message::Offer;
use farebox_channel::wire::{Field, WELL_KNOWN};
use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use crate::error::PayError;

/// How long a gateway may take for a step.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
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

/// Reads why a gateway refuses.
pub(crate) async fn refused(mut response: Response) -> PayError {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > PROBLEM_LEN_MAX {
            break;
        }
    }
    let (kind, detail) = match serde_json::from_slice::<Document>(&body) {
        Ok(Document { kind, detail }) => (kind, detail.unwrap_or_else(|| status.to_string())),
        Err(_) => ("about:blank".to_owned(), status.to_string()),
    };
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return PayError::NotNow(detail);
    }
    PayError::Refused { kind, detail }
}
