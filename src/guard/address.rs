//! Who the client is: the peer, or whoever the proxies in front that are trusted say it is.
//!
//! A field such as `X-Forwarded-For` is what anybody may write. It is believed from the right end,
//! as far as each address in it belongs to a proxy that the operator trusts, and no further.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use ipnet::{IpNet, Ipv4Net};

/// The addresses that a request has come from, the client first (de facto).
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme that the client uses (de facto).
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host that the client uses (de facto).
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The length of the prefix that makes an IPv6 address of an IPv4 address (RFC 4291 §2.5.5.2).
const MAPPED_LEN: u8 = 96;

/// The proxies in front whose word about a client is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Makes the list. A network of IPv4-mapped addresses counts as the IPv4 network.
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().map(unmapped).collect())
    }

    /// Tells whether an address belongs to a trusted proxy.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Notes who has connected. Once for a connection is enough.
    pub(crate) fn peer(&self, address: IpAddr) -> Peer {
        let address = address.to_canonical();
        let shown = HeaderValue::try_from(address.to_string()).ok();
        Peer { address, is_trusted: self.trusts(address), shown, proxies: self.clone() }
    }
}

/// Whoever has connected.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    address: IpAddr,
    is_trusted: bool,
    /// The address as a field's value. There always is one.
    shown: Option<HeaderValue>,
    proxies: TrustedProxies,
}

impl Peer {
    /// Returns the address that has connected. An IPv4-mapped one is IPv4.
    pub(crate) const fn address(&self) -> IpAddr {
        self.address
    }

    /// Tells whether this is a trusted proxy, so that many clients may share the connection.
    pub(crate) const fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// Returns the address of the client whose request this is.
    ///
    /// It is the peer's, or from a trusted peer the first one from the right that is not trusted.
    /// What cannot be read ends the search, and the address right of it counts.
    pub(crate) fn client(&self, headers: &HeaderMap) -> IpAddr {
        let mut client = self.address;
        if !self.is_trusted {
            return client;
        }
        // Bytes, not text: what a client writes at the left must not hide what is at the right.
        let lines = headers.get_all(FORWARDED_FOR).iter().rev().map(HeaderValue::as_bytes);
        let steps = lines.flat_map(|line| line.rsplit(|byte| *byte == b','));
        // Empty elements do not count (RFC 9110 §5.6.1.2).
        for step in steps.map(<[u8]>::trim_ascii).filter(|step| !step.is_empty()) {
            let Some(address) = read(step) else { break };
            client = address;
            if !self.proxies.trusts(address) {
                break;
            }
        }
        client
    }

    /// Returns the scheme that the client uses: `own` is that of the connection to the gateway.
    ///
    /// Where proxies have made a list, the nearest one counts.
    pub(crate) fn scheme(&self, own: Scheme, headers: &HeaderMap) -> Scheme {
        let told = self.told(&FORWARDED_PROTO, headers);
        told.and_then(|told| std::str::from_utf8(told).ok()).and_then(Scheme::read).unwrap_or(own)
    }

    /// Returns the host that the client uses, where a trusted proxy says another one than the
    /// request itself does. It is not looked at any closer here.
    pub(crate) fn host(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let told = self.told(&FORWARDED_HOST, headers)?;
        HeaderValue::from_bytes(told).ok().filter(|host| !host.is_empty())
    }

    /// Returns what the service behind is told of the way: the list of a trusted peer with the
    /// peer at its end, or else the peer alone.
    pub(crate) fn forwarded_for(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let shown = self.shown.as_ref()?;
        let is_list = |line: &&HeaderValue| !line.as_bytes().trim_ascii().is_empty();
        let mut lines = headers.get_all(FORWARDED_FOR).iter().filter(is_list).peekable();
        if !self.is_trusted || lines.peek().is_none() {
            return Some(shown.clone());
        }
        let list: Vec<&[u8]> = lines.chain([shown]).map(HeaderValue::as_bytes).collect();
        HeaderValue::from_bytes(&list.join(&b", "[..])).ok()
    }

    /// Returns the last value of a field that is believed from a trusted peer only.
    fn told<'a>(&self, name: &HeaderName, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        if !self.is_trusted {
            return None;
        }
        let line = headers.get_all(name).iter().next_back()?.as_bytes();
        line.rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii)
    }
}

/// The scheme of a client's URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// Returns it as it stands in URLs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns it as the value of a field.
    pub(crate) const fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }

    /// Reads a scheme, in upper or lower case (RFC 3986 §3.1).
    fn read(scheme: &str) -> Option<Self> {
        if scheme.eq_ignore_ascii_case("https") {
            return Some(Self::Https);
        }
        scheme.eq_ignore_ascii_case("http").then_some(Self::Http)
    }
}

/// By what clients are told apart when they are limited.
///
/// An IPv4 address counts whole. Of an IPv6 address the first 64 bits count, because one client
/// has all addresses that begin with them (RFC 4291 §2.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientKey {
    /// An IPv4 address.
    V4(u32),
    /// The first half of an IPv6 address.
    V6(u64),
}

impl Hash for ClientKey {
    /// Hashes the number alone, which is quicker. Both kinds together are still spread well.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::V4(address) => state.write_u64(u64::from(*address)),
            Self::V6(half) => state.write_u64(*half),
        }
    }
}

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or_default())
            }
        }
    }
}

/// Reads an address, which may have a port: `1.2.3.4`, `1.2.3.4:567`, `::1`, `[::1]`, `[::1]:567`.
fn read(step: &[u8]) -> Option<IpAddr> {
    let step = std::str::from_utf8(step).ok()?;
    let bare = step.strip_prefix('[').and_then(|step| step.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => match step.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => step.parse::<SocketAddr>().ok()?.ip(),
        },
    };
    Some(address.to_canonical())
}

/// Returns a network of IPv4-mapped addresses as the IPv4 network that it means.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let address = mapped.network().to_ipv4_mapped();
    let length = mapped.prefix_len().checked_sub(MAPPED_LEN);
    let plain = address.zip(length).and_then(|(address, length)| {
        let plain = Ipv4Net::new(address, length).ok()?;
        Some(IpNet::V4(plain))
    });
    plain.unwrap_or(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> TrustedProxies {
        let networks = ["10.0.0.0/8", "::1/128", "::ffff:192.168.0.0/112", "2001:db8::/32"];
        TrustedProxies::new(networks.map(|network| network.parse().unwrap()))
    }

    fn peer(address: &str) -> Peer {
        proxies().peer(address.parse().unwrap())
    }

    fn headers(name: &HeaderName, lines: &[&[u8]]) -> HeaderMap {
        let line = |line: &&[u8]| (name.clone(), HeaderValue::from_bytes(line).unwrap());
        lines.iter().map(line).collect()
    }

    /// The client of a request from `from` with these lines of `X-Forwarded-For`.
    fn client(from: &str, lines: &[&[u8]]) -> String {
        peer(from).client(&headers(&FORWARDED_FOR, lines)).to_string()
    }

    #[test]
    fn a_stranger_is_itself_whatever_it_claims() {
        assert_eq!(client("9.9.9.9", &[b"1.2.3.4"]), "9.9.9.9");
        assert_eq!(client("::ffff:9.9.9.9", &[]), "9.9.9.9");
        assert_eq!(
            TrustedProxies::default().peer([10, 0, 0, 1].into()).address().to_string(),
            "10.0.0.1"
        );
        assert!(!TrustedProxies::default().peer([10, 0, 0, 1].into()).is_trusted());
    }

    #[test]
    fn the_first_stranger_from_the_right_is_the_client() {
        assert_eq!(client("10.0.0.1", &[b"1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("::ffff:10.0.0.1", &[b"5.5.5.5, 1.2.3.4 ,10.7.7.7"]), "1.2.3.4");
        assert_eq!(client("::1", &[b"5.5.5.5", b"1.2.3.4, 10.0.0.9", b"192.168.0.4"]), "1.2.3.4");
        assert_eq!(client("2001:db8::7", &[b"10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[b"1.2.3.4,,", b" "]), "1.2.3.4");
    }

    #[test]
    fn addresses_may_have_ports_and_brackets() {
        for (written, address) in [
            ("1.2.3.4:567", "1.2.3.4"),
            ("[2a00::1]:567", "2a00::1"),
            ("[2a00::1]", "2a00::1"),
            ("2a00::1", "2a00::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("[::ffff:1.2.3.4]:9", "1.2.3.4"),
        ] {
            assert_eq!(client("10.0.0.1", &[written.as_bytes()]), address, "{written}");
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_search_at_the_last_good_address() {
        for junk in
            ["unknown", "_hidden", "1.2.3", "[1.2.3.4]", "1.2.3.4:x", "\"1.2.3.4\"", "1:2:3"]
        {
            let list = format!("5.5.5.5, {junk}, 10.0.0.2");
            assert_eq!(client("10.0.0.1", &[list.as_bytes()]), "10.0.0.2", "{junk}");
        }
        // Bytes that are no text, left of what the proxy has added, hide nobody.
        assert_eq!(client("10.0.0.1", &[b"\xff\xfe, 1.2.3.4"]), "1.2.3.4");
    }

    #[test]
    fn scheme_and_host_are_believed_from_a_trusted_peer_only() {
        let scheme = |from, lines: &[&[u8]]| {
            peer(from).scheme(Scheme::Http, &headers(&FORWARDED_PROTO, lines))
        };
        assert_eq!(scheme("9.9.9.9", &[b"https"]), Scheme::Http);
        assert_eq!(scheme("10.0.0.1", &[b"HTTPS"]), Scheme::Https);
        assert_eq!(scheme("10.0.0.1", &[b"http, https"]), Scheme::Https);
        assert_eq!(scheme("10.0.0.1", &[b"gopher"]), Scheme::Http);
        assert_eq!(peer("10.0.0.1").scheme(Scheme::Https, &HeaderMap::new()), Scheme::Https);
        assert_eq!(Scheme::Https.value(), "https");

        let host = |from, line: &[u8]| peer(from).host(&headers(&FORWARDED_HOST, &[line]));
        assert_eq!(host("9.9.9.9", b"api.example.com"), None);
        assert_eq!(
            host("10.0.0.1", b"evil, api.example.com:8443").unwrap(),
            "api.example.com:8443"
        );
        assert_eq!(host("10.0.0.1", b"api.example.com, "), None);
    }

    #[test]
    fn the_service_behind_is_told_the_list_of_a_trusted_peer_and_else_the_peer_alone() {
        let told = |from, lines: &[&[u8]]| {
            peer(from).forwarded_for(&headers(&FORWARDED_FOR, lines)).unwrap()
        };
        assert_eq!(told("9.9.9.9", &[b"1.2.3.4"]), "9.9.9.9");
        assert_eq!(
            told("::ffff:10.0.0.1", &[b"5.5.5.5", b"1.2.3.4"]),
            "5.5.5.5, 1.2.3.4, 10.0.0.1"
        );
        assert_eq!(told("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(told("10.0.0.1", &[b" "]), "10.0.0.1");
    }

    #[test]
    fn clients_are_told_apart_by_their_ipv4_address_or_the_half_of_their_ipv6_address() {
        let key = |address: &str| ClientKey::from(address.parse::<IpAddr>().unwrap());
        assert_ne!(key("1.2.3.4"), key("1.2.3.5"));
        assert_eq!(key("::ffff:1.2.3.4"), key("1.2.3.4"));
        assert_eq!(key("2a00:1:2:3::1"), key("2a00:1:2:3:ffff::9"));
        assert_ne!(key("2a00:1:2:3::1"), key("2a00:1:2:4::1"));
    }
}
