//! Which pages in browsers may ask, and for what.

use http::header::HeaderName;
use http::uri::Authority;
use http::{HeaderValue, Method};

use super::raw;
use super::{Checker, ConfigError, is_plain_authority};
use crate::cors::{Cors, Origins, Policy};

/// The greatest number of entries of each list.
const ENTRIES_MAX: usize = 100;
/// The longest time for which any browser keeps the answer to a preflight, in seconds.
const MAX_AGE_SECS: u32 = 24 * 60 * 60;
/// What stands for anything.
const ANY: &str = "*";

impl Checker<'_> {
    /// Checks what is said to browsers.
    pub(super) fn cors(&self, raw: raw::Cors) -> Result<Cors, ConfigError> {
        let key = "cors.origins";
        let origins = if raw.origins == [ANY] {
            if raw.credentials {
                let allowed = "named origins, because `cors.credentials` is true: with `*` any \
                               page could act for whoever visits it";
                return Err(self.refuse(key, allowed));
            }
            Origins::Any
        } else {
            self.list(key, raw.origins.len(), 1)?;
            let origins = raw.origins.iter().map(|origin| self.origin(origin));
            Origins::These(origins.collect::<Result<_, _>>()?)
        };
        if raw.max_age_secs > MAX_AGE_SECS {
            return Err(self.refuse("cors.max_age_secs", format!("at most {MAX_AGE_SECS}")));
        }
        let policy = Policy {
            origins,
            headers: self.names("cors.headers", &raw.headers, raw.credentials)?,
            exposed: self.names("cors.exposed", &raw.exposed, raw.credentials)?,
            methods: self.methods(&raw.methods, raw.credentials)?,
            max_age_secs: raw.max_age_secs,
            credentials: raw.credentials,
        };
        self.checked("cors", Cors::new(policy))
    }

    /// Checks an origin: browsers compare it byte by byte with their own spelling.
    fn origin(&self, origin: &str) -> Result<HeaderValue, ConfigError> {
        let is_good = origin.split_once("://").is_some_and(|(scheme, host)| {
            let is_scheme =
                |byte: u8| byte.is_ascii_lowercase() || b"+-.0123456789".contains(&byte);
            let is_host = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._[]:".contains(&byte)
            };
            let authority = host.parse::<Authority>().ok().filter(is_plain_authority);
            let own_port = match scheme {
                "http" => Some(80),
                "https" => Some(443),
                _ => None,
            };
            let has_own_port = |it: &Authority| own_port.is_some() && it.port_u16() == own_port;
            scheme.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
                && scheme.bytes().all(is_scheme)
                && host.bytes().all(is_host)
                && authority.is_some_and(|it| !has_own_port(&it))
        });
        let value = HeaderValue::from_str(origin).ok().filter(|_| is_good);
        value.ok_or_else(|| {
            let allowed = "an origin as browsers spell it, such as \"https://app.example.com\": in \
                           lower case, without a path, a slash at its end or a default port; or \
                           \"*\" alone. `null` is anybody's, so it cannot be named";
            self.refuse("cors.origins", format!("`{origin}` is not {allowed}"))
        })
    }

    /// Checks names of fields.
    fn names(
        &self,
        key: &str,
        names: &[String],
        credentials: bool,
    ) -> Result<Vec<HeaderName>, ConfigError> {
        self.list(key, names.len(), 0)?;
        self.no_wildcard(key, names, credentials)?;
        names.iter().map(|name| self.checked(key, name.parse())).collect()
    }

    /// Checks methods.
    fn methods(&self, names: &[String], credentials: bool) -> Result<Vec<Method>, ConfigError> {
        let key = "cors.methods";
        self.list(key, names.len(), 1)?;
        self.no_wildcard(key, names, credentials)?;
        let method = |name: &String| {
            // Methods are case-sensitive (RFC 9110 §9.1), so `get` would allow nothing.
            let is_upper = !name.bytes().any(|byte| byte.is_ascii_lowercase());
            let method = name.parse().ok().filter(|_| is_upper);
            method.ok_or_else(|| self.refuse(key, "methods in capital letters, such as \"GET\""))
        };
        names.iter().map(method).collect()
    }

    /// Checks that `*` means what it says: with credentials it is a name like others.
    fn no_wildcard(
        &self,
        key: &str,
        names: &[String],
        credentials: bool,
    ) -> Result<(), ConfigError> {
        if credentials && names.iter().any(|name| name == ANY) {
            let allowed = "names, because `*` means nothing where `cors.credentials` is true";
            return Err(self.refuse(key, allowed));
        }
        Ok(())
    }

    /// Checks a list's length.
    fn list(&self, key: &str, length: usize, least: usize) -> Result<(), ConfigError> {
        if (least..=ENTRIES_MAX).contains(&length) {
            return Ok(());
        }
        Err(self.refuse(key, format!("{least} to {ENTRIES_MAX} entries")))
    }
}
