//! The fields of a request for a service, and of its answer.

use farebox_middleware::begins;
use http::header::{CONNECTION, COOKIE, FORWARDED, HeaderName, TRAILER, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};

/// Where the gateway tells a service what it knows. Nobody else sets fields that begin so.
pub(crate) const OWN_PREFIX: &str = "farebox-";
/// How the fields begin that tell where a request has come from (de facto).
const WAY_PREFIXES: [&str; 2] = ["x-forwarded-", "x-real-ip"];
/// What the request has cost, in millisatoshi.
pub(crate) const PRICE: HeaderName = HeaderName::from_static("farebox-price");
/// The channel that has paid, as a name that tells nothing.
pub(crate) const CHANNEL: HeaderName = HeaderName::from_static("farebox-channel");
/// The request's name in the gateway's logs.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("farebox-request-id");

/// The one protocol that clients and services may go over to.
const WEBSOCKET: &str = "websocket";

/// Tells whether a request that has no body asks for a WebSocket (RFC 6455 §4.1).
pub(crate) fn asks_for_websocket(head: &Parts) -> bool {
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && has_token(&head.headers, &CONNECTION, "upgrade")
        && is_websocket(&head.headers)
}

/// Tells whether a WebSocket is among the protocols that are named.
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, WEBSOCKET)
}

/// Sets the fields by which both sides of a connection go over to a WebSocket.
pub(super) fn go_over(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// Tells whether a word is in a list, in whatever case.
fn has_token(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
}

/// Removes the fields that concern one connection only, and those that `Connection` names.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let gone: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    if gone.contains(&CONNECTION) {
        named(headers).iter().for_each(|name| drop(headers.remove(name)));
    }
    gone.iter().for_each(|name| drop(headers.remove(name)));
}

/// Tells whether a field concerns one connection only (RFC 9110 §7.6.1).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Returns the fields that `Connection` names, besides those that are removed in any case.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    let is_plain =
        |name: &&str| name.eq_ignore_ascii_case("keep-alive") || name.eq_ignore_ascii_case("close");
    names.filter(|name| !is_plain(name)).filter_map(|name| name.parse().ok()).collect()
}

/// Removes the fields of an answer that concern the connection to the service only.
pub(super) fn remove_connection(headers: &mut HeaderMap) {
    let trailer = headers.remove(TRAILER);
    remove_hop_by_hop(headers);
    // Only the trailers that are named there reach a client with HTTP/1.1.
    if trailer.is_some() {
        set(headers, TRAILER, trailer);
    }
}

/// Removes what a client claims about its way here, and what only the gateway tells. What a trusted
/// proxy says of the way stays, in the spelling that such proxies use.
pub(super) fn remove_claims(headers: &mut HeaderMap, is_trusted: bool) {
    let is_claim = |name: &&HeaderName| {
        let is_way = || WAY_PREFIXES.iter().any(|prefix| begins(name, prefix));
        let is_believed = || is_trusted && !name.as_str().contains('_');
        **name == FORWARDED || begins(name, OWN_PREFIX) || (is_way() && !is_believed())
    };
    let claims: Vec<HeaderName> = headers.keys().filter(is_claim).cloned().collect();
    claims.iter().for_each(|name| drop(headers.remove(name)));
}

/// Makes one field of several cookie fields, as HTTP/1.1 has them (RFC 9113 §8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(COOKIE).iter();
    if all.next().is_none() || all.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

/// Returns bytes as hexadecimal digits. Each request has such fields, and to format them takes several
/// times as long.
pub(super) fn hex(bytes: &[u8]) -> Option<HeaderValue> {
    let digit = |number: u8| match number {
        0..=9 => b'0' + number,
        _ => b'a' + number - 10,
    };
    let mut digits = Vec::with_capacity(bytes.len().saturating_mul(2));
    digits.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]));
    HeaderValue::try_from(digits).ok()
}

/// Sets a field, or removes it.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => headers.insert(name, value),
        None => headers.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_they_are_formatted() {
        let bytes: Vec<u8> = (0..=255).collect();
        let formatted: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex(&bytes).unwrap(), formatted);
    }
}
