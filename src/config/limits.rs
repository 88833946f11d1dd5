//! How much strangers may ask of the gateway, and who stands in front of it.

use std::fmt::Display;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::raw;
use super::{Checker, ConfigError};
use crate::guard::address::TrustedProxies;
use crate::guard::rate::Rate;

/// The greatest number of anything that is counted.
const COUNT_MAX: u32 = 1_000_000;
/// The greatest number of steps of one client at once.
const OPENINGS_MAX: u32 = 1_000;
/// The greatest number of streams of one connection.
const STREAMS_MAX: u32 = 10_000;
/// How long a request's head may be. Payment fields alone may have 8 KiB (docs/protocol.md §13).
const HEADER_BYTES: RangeInclusive<usize> = 16 * 1024..=1024 * 1024;
/// How long a request's body may be.
const BODY_BYTES: RangeInclusive<u64> = 1..=1 << 40;
/// The longest time that can be set.
const SECS_MAX: u32 = 3_600;
/// The greatest number of networks of proxies.
const PROXIES_MAX: usize = 1_000;

/// How much the gateway takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: NonZeroU32,
    /// Connections of one client.
    pub connections_per_client: NonZeroU32,
    /// Requests under way in all.
    pub requests: NonZeroU32,
    /// Requests of one client under way.
    pub requests_per_client: NonZeroU32,
    /// Requests of one channel under way.
    pub requests_per_channel: NonZeroU32,
    /// How often one client is answered without a payment.
    pub unpaid: Rate,
    /// How often one client may ask for a step that is no payment.
    pub openings: Rate,
    /// Such steps of one client under way.
    pub openings_at_once: NonZeroU32,
    /// The length of a request's head in bytes.
    pub header_bytes: usize,
    /// The length of a request's body in bytes.
    pub body_bytes: u64,
    /// The time for a whole request head.
    pub header_timeout: Duration,
    /// How long a connection is kept without a request.
    pub idle_timeout: Duration,
    /// The longest pause within a request's body.
    pub body_timeout: Duration,
    /// How long a client may leave bytes unread.
    pub write_timeout: Duration,
    /// HTTP/2 streams of one connection.
    pub streams: NonZeroU32,
    /// How long running requests may take to end once the gateway stops.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let most = |most| NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN);
        let secs = |secs: u32| Duration::from_secs(secs.into());
        let raw = raw::Limits::default();
        Self {
            connections: most(raw.connections),
            connections_per_client: most(raw::CONNECTIONS_PER_CLIENT),
            requests: most(raw.requests),
            requests_per_client: most(raw::REQUESTS_PER_CLIENT),
            requests_per_channel: most(raw::REQUESTS_PER_CHANNEL),
            unpaid: Rate { per_sec: most(raw.unpaid_per_sec), burst: most(raw.unpaid_burst) },
            openings: Rate { per_sec: most(raw.openings_per_sec), burst: most(raw.openings_burst) },
            openings_at_once: most(raw.openings_at_once),
            header_bytes: raw.header_bytes,
            body_bytes: raw.body_bytes,
            header_timeout: secs(raw.header_secs),
            idle_timeout: secs(raw.idle_secs),
            body_timeout: secs(raw.body_secs),
            write_timeout: secs(raw.write_secs),
            streams: most(raw.streams),
            drain_timeout: secs(raw.drain_secs),
        }
    }
}

impl Checker<'_> {
    /// Checks how much the gateway takes.
    pub(super) fn limits(&self, raw: &raw::Limits) -> Result<Limits, ConfigError> {
        let connections = self.count("connections", raw.connections, COUNT_MAX)?;
        let requests = self.count("requests", raw.requests, COUNT_MAX)?;
        let of_connections = |name, most, default| self.share(name, most, default, connections);
        let of_requests = |name, most, default| self.share(name, most, default, requests);
        Ok(Limits {
            connections,
            connections_per_client: of_connections(
                "connections_per_client",
                raw.connections_per_client,
                raw::CONNECTIONS_PER_CLIENT,
            )?,
            requests,
            requests_per_client: of_requests(
                "requests_per_client",
                raw.requests_per_client,
                raw::REQUESTS_PER_CLIENT,
            )?,
            requests_per_channel: of_requests(
                "requests_per_channel",
                raw.requests_per_channel,
                raw::REQUESTS_PER_CHANNEL,
            )?,
            unpaid: Rate {
                per_sec: self.count("unpaid_per_sec", raw.unpaid_per_sec, COUNT_MAX)?,
                burst: self.count("unpaid_burst", raw.unpaid_burst, COUNT_MAX)?,
            },
            openings: Rate {
                per_sec: self.count("openings_per_sec", raw.openings_per_sec, COUNT_MAX)?,
                burst: self.count("openings_burst", raw.openings_burst, COUNT_MAX)?,
            },
            openings_at_once: self.count("openings_at_once", raw.openings_at_once, OPENINGS_MAX)?,
            header_bytes: self.within("header_bytes", raw.header_bytes, &HEADER_BYTES)?,
            body_bytes: self.within("body_bytes", raw.body_bytes, &BODY_BYTES)?,
            header_timeout: self.span("header_secs", raw.header_secs, 1)?,
            idle_timeout: self.span("idle_secs", raw.idle_secs, 1)?,
            body_timeout: self.span("body_secs", raw.body_secs, 1)?,
            write_timeout: self.span("write_secs", raw.write_secs, 1)?,
            streams: self.count("streams", raw.streams, STREAMS_MAX)?,
            drain_timeout: self.span("drain_secs", raw.drain_secs, 0)?,
        })
    }

    /// Checks a number that is not nothing.
    fn count(&self, name: &str, count: u32, most: u32) -> Result<NonZeroU32, ConfigError> {
        let count = NonZeroU32::new(count).filter(|count| count.get() <= most);
        count.ok_or_else(|| self.refuse(&format!("limits.{name}"), format!("1 to {most}")))
    }

    /// Checks what one may have of all. Its default is never more than all.
    fn share(
        &self,
        name: &str,
        most: Option<u32>,
        default: u32,
        all: NonZeroU32,
    ) -> Result<NonZeroU32, ConfigError> {
        self.count(name, most.unwrap_or_else(|| default.min(all.get())), all.get())
    }

    /// Checks a quantity.
    fn within<T: PartialOrd + Display>(
        &self,
        name: &str,
        quantity: T,
        bounds: &RangeInclusive<T>,
    ) -> Result<T, ConfigError> {
        if bounds.contains(&quantity) {
            return Ok(quantity);
        }
        let allowed = format!("{} to {}", bounds.start(), bounds.end());
        Err(self.refuse(&format!("limits.{name}"), allowed))
    }

    /// Checks a time.
    fn span(&self, name: &str, secs: u32, least: u32) -> Result<Duration, ConfigError> {
        let secs = self.within(name, secs, &(least..=SECS_MAX))?;
        Ok(Duration::from_secs(secs.into()))
    }

    /// Checks who stands in front.
    pub(super) fn trusted_proxies(&self, raw: &[String]) -> Result<TrustedProxies, ConfigError> {
        let key = "trusted_proxies";
        if raw.len() > PROXIES_MAX {
            return Err(self.refuse(key, format!("at most {PROXIES_MAX} networks")));
        }
        let read = |written: &String| {
            let address = written.parse::<IpAddr>().map(IpNet::from);
            let network = address.or_else(|_| written.parse::<IpNet>());
            // With bits beyond its length, one of the two is not what was meant.
            network.ok().filter(|network| network.addr() == network.network()).ok_or_else(|| {
                let allowed = "an address such as \"::1\", or a network such as \"10.0.0.0/8\" \
                               that ends in zeros";
                self.refuse(key, format!("`{written}` is not {allowed}"))
            })
        };
        let networks = raw.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(TrustedProxies::new(networks))
    }
}
