//! What the seller's service is asked, and what is believed of its answer.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use bytes::Bytes;
use farebox_channel::Msat;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::routes::Ask;

/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 4 * 1024;
/// How often a question is sent at most: a connection may end just when it is used again.
const TRIES_MAX: usize = 2;

/// What a request is, for its price.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// What the service is sent.
    text: Bytes,
    /// What sets it apart from others.
    pub(crate) key: Key,
}

/// What sets a request apart from others: nobody can make two requests with the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(text: &[u8]) -> Self {
        Self(sha256::Hash::hash(text).to_byte_array())
    }
}

/// The document that the service is sent. Nothing else of the request is.
#[derive(Serialize)]
struct Document<'r> {
    method: &'r str,
    host: Option<String>,
    path: &'r str,
    query: Option<&'r str>,
}

impl Question {
    /// Makes the question for a request: its host is bare, and its path normal.
    pub(crate) fn new(method: &Method, host: Option<&str>, target: &PathAndQuery) -> Self {
        let document = Document {
            method: method.as_str(),
            host: host.map(str::to_ascii_lowercase),
            path: target.path(),
            query: target.query(),
        };
        // Strings alone can always be written.
        let text = serde_json::to_vec(&document).unwrap_or_default();
        Self { key: Key::of(&text), text: text.into() }
    }
}

/// What a service has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The price; none is a free request.
    pub(super) price: Msat,
    /// For how long it is kept.
    pub(super) keep: Duration,
}

/// Why there is no price.
#[derive(Debug, Error)]
pub(super) enum AskError {
    /// The service cannot be reached, or breaks off.
    #[error("{}", Causes(.0))]
    Http(#[from] reqwest::Error),
    /// It took too long.
    #[error("no answer in {0:?}")]
    Late(Duration),
    /// It has answered with another status than 200.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// Its answer is too long.
    #[error("its answer has more than {ANSWER_MAX} bytes")]
    TooLong,
    /// Its answer is not the document that it should be.
    #[error("its answer is no price: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It does not say one thing.
    #[error("its answer has not one of `price_msat` and `\"free\": true`")]
    Unclear,
    /// Its price is not believed.
    #[error("{0} msat is not within `min_msat` and `max_msat`")]
    OutOfBounds(u64),
}

/// An error with all that has led to it.
struct Causes<'e>(&'e reqwest::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Asks a service.
pub(super) async fn ask(
    http: &reqwest::Client,
    ask: &Ask,
    question: &Question,
) -> Result<Said, AskError> {
    let mut tries = 0;
    let mut answer = loop {
        tries += 1;
        let request = http.post(ask.url.to_string()).body(question.text.clone());
        match request.header(CONTENT_TYPE, "application/json").send().await {
            Ok(answer) => break answer,
            Err(_) if tries < TRIES_MAX => {}
            Err(error) => return Err(error.into()),
        }
    };
    if answer.status() != StatusCode::OK {
        return Err(AskError::Status(answer.status()));
    }
    let keep = keep(answer.headers(), ask.keep);
    let mut text = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if text.len().saturating_add(piece.len()) > ANSWER_MAX {
            return Err(AskError::TooLong);
        }
        text.extend_from_slice(&piece);
    }
    Ok(Said { price: price(&text, ask)?, keep })
}

/// The document with which the service answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    price_msat: Option<u64>,
    #[serde(default)]
    free: bool,
}

/// Reads a price. One of nothing has to be called free: a slip gives nothing away.
fn price(text: &[u8], ask: &Ask) -> Result<Msat, AskError> {
    let Answer { price_msat, free } = serde_json::from_slice(text)?;
    match (price_msat, free) {
        (None, true) => Ok(Msat::ZERO),
        (Some(msat), false) => {
            let price = Msat::new(msat).ok();
            let price = price.filter(|price| (ask.least..=ask.most).contains(price));
            price.ok_or(AskError::OutOfBounds(msat))
        }
        _ => Err(AskError::Unclear),
    }
}

/// Returns for how long an answer is kept: no longer than it says itself (RFC 9111 §5.2.2).
fn keep(headers: &HeaderMap, most: Duration) -> Duration {
    let mut keep = most;
    for field in headers.get_all(CACHE_CONTROL) {
        for directive in field.to_str().unwrap_or_default().split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            let (name, value) = directive.split_once('=').unwrap_or((&directive, ""));
            let secs = match name {
                "no-store" | "no-cache" => 0,
                // What cannot be read is stale (§4.2.1).
                "max-age" => value.trim_matches('"').parse().unwrap_or(0),
                _ => continue,
            };
            keep = keep.min(Duration::from_secs(secs));
        }
    }
    keep
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::WhenDown;

    #[test]
    fn only_one_clear_price_within_the_bounds_is_believed() {
        let ask = Ask {
            url: "http://127.0.0.1/".parse().unwrap(),
            authorities: None,
            keep: Duration::from_secs(60),
            timeout: Duration::from_secs(2),
            least: Msat::new(2).unwrap(),
            most: Msat::new(9).unwrap(),
            when_down: WhenDown::Route,
        };
        let read = |text: &str| price(text.as_bytes(), &ask).ok().map(Msat::get);
        assert_eq!(read(r#"{"price_msat": 2}"#), Some(2));
        assert_eq!(read(r#" {"price_msat":9, "free":false} "#), Some(9));
        assert_eq!(read(r#"{"free": true}"#), Some(0));
        for wrong in [
            "",
            "5",
            "{}",
            r#"{"price_msat": 0}"#,
            r#"{"price_msat": 1}"#,
            r#"{"price_msat": 10}"#,
            r#"{"price_msat": 18446744073709551615}"#,
            r#"{"price_msat": 18446744073709551616}"#,
            r#"{"price_msat": -5}"#,
            r#"{"price_msat": 5.0}"#,
            r#"{"price_msat": "5"}"#,
            r#"{"price_msat": 5, "price_msat": 5}"#,
            r#"{"price_msat": 5, "free": true}"#,
            r#"{"price_sat": 5}"#,
            r#"{"price_msat": 5} {}"#,
            r#"{"free": false}"#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_answer_is_kept_no_longer_than_it_says() {
        let kept = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, http::HeaderValue::from_static(value));
            }
            keep(&headers, Duration::from_secs(60)).as_secs()
        };
        assert_eq!(kept(&[]), 60);
        assert_eq!(kept(&["max-age=3600"]), 60);
        assert_eq!(kept(&["private, Max-Age=\"5\""]), 5);
        assert_eq!(kept(&["max-age=30", "max-age=7"]), 7);
        for nothing in ["no-store", "public, no-cache", "max-age=0", "max-age=soon"] {
            assert_eq!(kept(&[nothing]), 0, "{nothing}");
        }
    }

    #[test]
    fn two_requests_are_never_the_same_question() {
        let key = |method: &Method, host, target: &'static str| {
            Question::new(method, host, &PathAndQuery::from_static(target)).key
        };
        let one = key(&Method::GET, Some("a"), "/b?c");
        assert_eq!(one, key(&Method::GET, Some("A"), "/b?c"));
        for other in [
            key(&Method::HEAD, Some("a"), "/b?c"),
            key(&Method::GET, None, "/b?c"),
            key(&Method::GET, Some("a"), "/b"),
            key(&Method::GET, Some("a"), "/b?"),
            key(&Method::GET, Some("a"), "/b?C"),
        ] {
            assert_ne!(one, other);
        }
    }
}
