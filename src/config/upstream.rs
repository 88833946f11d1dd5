//! The service behind: where it is, and the fields in which it and the gateway talk to each other.

use http::Uri;
use http::header::HeaderName;
use http::uri::Scheme;

use super::{Checker, ConfigError, is_plain_authority};
use crate::proxy::Upstream;

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

    /// Checks where the service is.
    pub(super) fn upstream(&self, url: &str) -> Result<Upstream, ConfigError> {
        let key = "upstream.url";
        let uri: Uri = self.checked(key, url.parse())?;
        let allowed = "an http URL without a user or a query, such as \"http://127.0.0.1:3000\"";
        if uri.scheme() != Some(&Scheme::HTTP) || uri.query().is_some() {
            return Err(self.refuse(key, allowed));
        }
        let base = uri.path().trim_end_matches('/').to_owned();
        let authority = uri.into_parts().authority.filter(is_plain_authority);
        let authority = authority.ok_or_else(|| self.refuse(key, allowed))?;
        Ok(Upstream { authority, base })
    }
}
