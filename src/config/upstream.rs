//! The services behind: where they are, how they are spoken to, and the fields in which they and
//! the gateway talk to each other.

use std::time::Duration;

use http::Uri;
use http::header::HeaderName;
use http::uri::{PathAndQuery, Scheme};

use super::raw::{self, Balance, Protocol};
use super::{Checker, ConfigError, is_plain_authority};
use crate::upstream::{self, Location, Patience, Probe, Setup, Version};

/// The greatest number of times that a request is tried again.
const RETRIES_MAX: u32 = 10;
/// The longest time that a service can be given, in seconds.
const PATIENCE_MAX_SECS: u64 = 24 * 60 * 60;

impl Checker<'_> {
    /// Checks the name of a field between the gateway and the service.
    pub(super) fn field(
        &self,
        key: &'static str,
        name: Option<String>,
    ) -> Result<Option<HeaderName>, ConfigError> {
        let name = name.map(|name| name.parse()).transpose();
        let name: Option<HeaderName> = self.checked(key, name)?;
        // No field of HTTP itself, of the payment or of the proxy is taken away from anybody.
        let is_own = |name: &HeaderName| {
            name.as_str().starts_with("x-") && !name.as_str().starts_with("x-forwarded-")
        };
        match name {
            Some(name) if !is_own(&name) => {
                Err(self.refuse(key, "a field that begins with `x-`, but not with `x-forwarded-`"))
            }
            name => Ok(name),
        }
    }

    /// Checks all services: that of `[upstream]` first, then those with names of their own.
    pub(super) fn upstreams(&self, raw: &raw::Raw) -> Result<Vec<Setup>, ConfigError> {
        let mut setups = vec![self.upstream("upstream", &raw.upstream)?];
        for (name, upstream) in &raw.upstreams {
            let key = format!("upstreams.{name}");
            for (field, value) in
                [("usage_header", &upstream.usage_header), ("memo_header", &upstream.memo_header)]
            {
                if value.is_some() {
                    let allowed = "given in [upstream] only, where it is for all services";
                    return Err(self.refuse(&format!("{key}.{field}"), allowed));
                }
            }
            setups.push(Setup { name: name.clone(), ..self.upstream(&key, upstream)? });
        }
        Ok(setups)
    }

    fn upstream(&self, key: &str, raw: &raw::Upstream) -> Result<Setup, ConfigError> {
        let of = |name: &str| format!("{key}.{name}");
        let (urls, from) = match (&raw.url, raw.urls.as_slice()) {
            (Some(url), []) => (std::slice::from_ref(url), of("url")),
            (None, urls @ [_, ..]) => (urls, of("urls")),
            _ => return Err(self.refuse(&of("url"), "one `url`, or several `urls`")),
        };
        let locations = urls.iter().map(|url| self.location(&from, url));
        let locations = locations.collect::<Result<Vec<_>, _>>()?;
        if raw.retries > RETRIES_MAX {
            return Err(self.refuse(&of("retries"), format!("0 to {RETRIES_MAX}")));
        }
        Ok(Setup {
            name: "upstream".to_owned(),
            locations,
            balance: match raw.balance {
                Balance::LeastRequests => upstream::Balance::LeastRequests,
                Balance::RoundRobin => upstream::Balance::RoundRobin,
            },
            version: match raw.http {
                Protocol::Http1 => Version::Http1,
                Protocol::Http2 => Version::Http2,
            },
            patience: Patience {
                connect: self.secs(&of("connect_secs"), raw.connect_secs)?,
                answer: self.secs(&of("answer_secs"), raw.answer_secs)?,
                pause: self.secs(&of("pause_secs"), raw.pause_secs)?,
            },
            retries: raw.retries,
            probe: raw.health.as_ref().map(|raw| self.probe(&of("health"), raw)).transpose()?,
            authorities: raw.ca_file.clone().map(|file| self.below(file)),
        })
    }

    fn probe(&self, key: &str, raw: &raw::Health) -> Result<Probe, ConfigError> {
        let of = |name: &str| format!("{key}.{name}");
        let path = raw.path.parse::<PathAndQuery>().ok().filter(|_| raw.path.starts_with('/'));
        let path = path.ok_or_else(|| self.refuse(&of("path"), "a path such as \"/health\""))?;
        if !(1..=100).contains(&raw.after) {
            return Err(self.refuse(&of("after"), "1 to 100"));
        }
        Ok(Probe {
            path,
            every: self.secs(&of("every_secs"), raw.every_secs)?,
            timeout: self.secs(&of("timeout_secs"), raw.timeout_secs)?,
            after: raw.after,
        })
    }

    /// Checks a time.
    pub(super) fn secs(&self, key: &str, secs: u64) -> Result<Duration, ConfigError> {
        if (1..=PATIENCE_MAX_SECS).contains(&secs) {
            Ok(Duration::from_secs(secs))
        } else {
            Err(self.refuse(key, format!("1 to {PATIENCE_MAX_SECS} seconds")))
        }
    }

    /// Checks where a service is.
    fn location(&self, key: &str, url: &str) -> Result<Location, ConfigError> {
        let uri = self.service(key, url)?;
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let base = uri.path().trim_end_matches('/').to_owned();
        let authority = uri.into_parts().authority;
        let authority = authority.ok_or_else(|| self.refuse(key, "a URL with a host"))?;
        Ok(Location { is_tls, authority, base })
    }

    /// Checks the URL of a service.
    pub(super) fn service(&self, key: &str, url: &str) -> Result<Uri, ConfigError> {
        let uri: Uri = self.checked(key, url.parse())?;
        let allowed = "an http or https URL without a user or a query, such as \
                       \"http://127.0.0.1:3000\"";
        let is_http = [Scheme::HTTPS, Scheme::HTTP].iter().any(|it| uri.scheme() == Some(it));
        let is_plain = uri.authority().is_some_and(is_plain_authority);
        if is_http && is_plain && uri.query().is_none() {
            Ok(uri)
        } else {
            Err(self.refuse(key, allowed))
        }
    }
}
