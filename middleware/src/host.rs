//! The host that a request is for.

use http::header::HOST;
use http::request::Parts;

/// Removes from a host what does not tell hosts apart: the port, and the dot of the root.
#[must_use]
pub fn bare_host(host: &str) -> &str {
    let (name, _) = host_and_port(host);
    name.strip_suffix('.').unwrap_or(name)
}

/// Parts a host from its port.
#[must_use]
pub fn host_and_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        // The colons of an IPv6 address stand within brackets.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Returns the host that a request names, bare.
pub(crate) fn named(request: &Parts) -> &str {
    let field = || request.headers.get(HOST).and_then(|host| host.to_str().ok());
    bare_host(request.uri.host().or_else(field).unwrap_or_default())
}
