//! Hosts: for which names a route is.

use std::fmt;
use std::net::Ipv6Addr;

use farebox_middleware::host_and_port;
use thiserror::Error;

/// The host of a route is none. The words say what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a name without a port, such as \"api.example.com\", or \"*.example.com\" for all names below"
)]
pub struct BadHost;

/// The hosts that a route is for, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// This one.
    Exact(String),
    /// All names that end so, from the dot on.
    Below(String),
}

impl fmt::Display for Host {
    /// Writes it as it stands in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(end) => write!(f, "*{end}"),
        }
    }
}

impl Host {
    /// Reads a host, or `*.` and a name for all hosts below it.
    ///
    /// # Errors
    /// [`BadHost`] says what is allowed.
    pub fn new(text: &str) -> Result<Self, BadHost> {
        let text = text.to_ascii_lowercase();
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_name = name.split('.').all(is_label) || (is_bracketed(name) && name == text);
        match text.starts_with("*.") {
            _ if !is_name => Err(BadHost),
            true => Ok(Self::Below(format!(".{name}"))),
            false => Ok(Self::Exact(name.to_owned())),
        }
    }

    /// Tells whether this takes a host that was made [bare](farebox_middleware::bare_host).
    pub(super) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name),
            Self::Below(end) => {
                let start = host.len().checked_sub(end.len()).filter(|start| *start > 0);
                let rest = start.and_then(|start| host.as_bytes().get(start..));
                rest.is_some_and(|rest| rest.eq_ignore_ascii_case(end.as_bytes()))
            }
        }
    }

    /// Tells whether this takes all that `other` takes.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Below(end), Self::Below(other)) => other.ends_with(end.as_str()),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

/// Tells whether a request may name this as its host: a name or an address as routes have it, and a
/// port or none. Whatever else RFC 3986 §3.2 allows, another reader could take for another host.
pub(crate) fn is_host(text: &str) -> bool {
    let (host, port) = host_and_port(text);
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && (port.is_empty() || port.parse::<u16>().is_ok())
    };
    (name.split('.').all(is_label) || is_bracketed(host)) && port.is_none_or(is_port)
}

/// Tells whether this is a part of a name, between dots.
fn is_label(label: &str) -> bool {
    let is_in_label = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !label.is_empty() && label.bytes().all(is_in_label)
}

/// Tells whether this is an IPv6 address as it stands in URLs.
fn is_bracketed(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use farebox_middleware::bare_host;

    use super::*;

    fn takes(pattern: &str, host: &str) -> bool {
        Host::new(pattern).unwrap().matches(bare_host(host))
    }

    #[test]
    fn a_host_is_compared_without_case_port_and_last_dot() {
        for host in
            ["api.example.com", "API.example.com:8443", "api.example.com.", "api.example.com.:80"]
        {
            assert!(takes("Api.example.com", host) && takes("api.example.com.", host), "{host}");
        }
        for host in
            ["example.com", "xapi.example.com", "api.example.com.evil.org", "", "api.example"]
        {
            assert!(!takes("api.example.com", host), "{host}");
        }
        assert!(takes("[::1]", "[::1]:8402") && takes("[::1]", "[::1]"));
        assert!(takes("127.0.0.1", "127.0.0.1:8402"));
    }

    #[test]
    fn a_star_takes_one_label_or_more() {
        for host in ["a.example.com", "a.b.EXAMPLE.com:80"] {
            assert!(takes("*.example.com", host), "{host}");
        }
        for host in ["example.com", ".example.com", "aexample.com", "a.example.org"] {
            assert!(!takes("*.example.com", host), "{host}");
        }
    }

    #[test]
    fn a_host_that_no_url_has_is_refused() {
        for host in ["", "*", "*.", "a..b", "a:80", "a/b", "*a.b", "a.*.b", "u@a", "*.[::1]", "[x]"]
        {
            assert_eq!(Host::new(host), Err(BadHost), "{host}");
        }
    }

    #[test]
    fn a_host_that_could_be_taken_for_another_one_is_none() {
        for host in
            ["a", "a.b_c-d.", "A.example.com:80", "a:", "1.2.3.4:65535", "[::1]", "[::1]:80"]
        {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "",
            ".",
            "a:80:80",
            "a,b",
            "u@a",
            "a%2eb",
            "a..",
            "a..b",
            ".a",
            "a:x",
            "a:+80",
            "a:65536",
            "a b",
            "a/b",
            "a~b",
            "::1",
            "[::1",
            "[a]",
            "[::1].",
            "[::1]:80:80",
            "[::1%25eth0]",
            "a;b",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn a_wider_host_covers_a_narrower_one() {
        let covers = |one, other| Host::new(one).unwrap().covers(&Host::new(other).unwrap());
        assert!(covers("*.a.b", "x.a.b") && covers("*.b", "*.a.b") && covers("a.b", "A.b"));
        assert!(!covers("*.a.b", "a.b") && !covers("*.a.b", "*.b") && !covers("x.b", "*.b"));
        assert!(!covers("*.b", "*.ab"));
    }
}
