//! What is known of one request when its answer has ended.
//!
//! A record never holds a payment, a pass, a signature, a query or a body. A channel is in it as a
//! label that cannot be turned back into the channel.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use farebox_channel::{Label, Msat};
use farebox_middleware::ProblemKind;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version};

use super::id::RequestId;
use super::trace::TraceContext;
use crate::guard::address::Scheme;

/// One request, from its first byte to the last one of its answer.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The request's own name.
    pub(crate) id: RequestId,
    /// When the request's head had come.
    pub(crate) began: SystemTime,
    /// Who has sent it.
    pub(crate) client: IpAddr,
    /// The method.
    pub(crate) method: Method,
    /// The host that it was sent to, if it names one.
    pub(crate) host: Option<HeaderValue>,
    /// The scheme that the client has used.
    pub(crate) scheme: Scheme,
    /// The target. Only its path is ever shown.
    pub(crate) target: PathAndQuery,
    /// The version of HTTP.
    pub(crate) version: Version,
    /// The messages from the client and from the service, where they have gone over to a WebSocket.
    pub(crate) messages: Option<(u64, u64)>,
    /// The route's name, where there is a route.
    pub(crate) route: Option<Arc<str>>,
    /// The service behind that has answered, or was asked last.
    pub(crate) upstream: Option<Arc<str>>,
    /// The channel that has paid.
    pub(crate) channel: Option<Label>,
    /// The channel's credit after it.
    pub(crate) credit: Option<Msat>,
    /// Its place in a trace, where requests are traced.
    pub(crate) trace: Option<TraceContext>,
    /// What is counted of it.
    pub(crate) figures: Figures,
}

/// What is counted of one request, whether or not anybody is told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// The status of the answer.
    pub(crate) status: StatusCode,
    /// The length of the request's body, as far as it was read.
    pub(crate) bytes_in: u64,
    /// The length of the answer's body, as far as it was sent.
    pub(crate) bytes_out: u64,
    /// The time until the answer had ended.
    pub(crate) duration: Duration,
    /// The time until the answer's head was there.
    pub(crate) first_byte: Option<Duration>,
    /// What the request was charged in the end.
    pub(crate) price: Option<Msat>,
    /// The problem that it was answered with.
    pub(crate) refusal: Option<ProblemKind>,
    /// What it would have been charged, where the route only counts.
    pub(crate) would_charge: Option<Msat>,
    /// Whether the whole charge was taken back.
    pub(crate) is_released: bool,
    /// Whether the client has left before the answer's end.
    pub(crate) has_client_left: bool,
}

impl Record {
    /// Returns the host that the request was sent to, if it names one.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_ref()?.to_str().ok()
    }

    /// Returns the path, without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.path()
    }

    /// Returns the version of HTTP as the access log and traces write it.
    pub(crate) const fn version_name(&self) -> &'static str {
        match self.version {
            Version::HTTP_09 => "0.9",
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            Version::HTTP_3 => "3",
            _ => "1.1",
        }
    }
}

/// Returns a duration in microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A record for tests: a paid request.
#[cfg(test)]
pub(crate) fn sample() -> Record {
    Record {
        id: RequestId::from_bytes([0x11; 16]),
        began: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_000_000_123),
        client: IpAddr::from([203, 0, 113, 7]),
        method: Method::GET,
        host: Some(HeaderValue::from_static("api.example.com")),
        scheme: Scheme::Https,
        target: PathAndQuery::from_static("/forecast/today?key=secret"),
        version: Version::HTTP_11,
        messages: None,
        route: Some("forecast".into()),
        upstream: Some("127.0.0.1:3000".into()),
        channel: Some(Label::new([0, 1, 2, 3, 4, 5, 6, 0xff])),
        credit: Msat::new(98_500).ok(),
        trace: None,
        figures: Figures {
            status: StatusCode::OK,
            bytes_in: 0,
            bytes_out: 512,
            duration: Duration::from_micros(2_345),
            first_byte: Some(Duration::from_micros(1_200)),
            price: Msat::new(1_500).ok(),
            refusal: None,
            would_charge: None,
            is_released: false,
            has_client_left: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_shown_as_sixteen_digits() {
        assert_eq!(Label::new([0, 1, 2, 3, 4, 5, 6, 0xff]).to_string(), "00010203040506ff");
    }

    #[test]
    fn a_version_is_named_as_in_a_status_line() {
        for (version, name) in
            [(Version::HTTP_10, "1.0"), (Version::HTTP_11, "1.1"), (Version::HTTP_2, "2")]
        {
            assert_eq!(Record { version, ..sample() }.version_name(), name);
        }
    }
}
