//! Routes: which requests are served, what each costs, and where each goes.
//!
//! A path is made normal once ([`normalise`]). The normal path is what is matched here and what is
//! sent on, so no spelling of a priced path is another route's. The first route of the [`Table`]
//! that takes host, method and path is taken. A [`Tariff`] is a table and the prices that were
//! quoted before it. Nothing here does any I/O or knows of payments.

mod ask;
mod host;
mod methods;
mod path;
mod pattern;
mod price;
mod route;
mod table;
mod tariff;

pub use ask::{Ask, WhenDown};
pub(crate) use host::is_host;
pub use host::{BadHost, Host};
pub use methods::{BadMethods, Methods};
pub use path::{BadPath, normalise};
pub use pattern::{BadPattern, Pattern};
pub use price::Price;
pub use route::{Allowance, Route};
pub use table::{Found, Table, TableError};
pub use tariff::{Fare, Quote, Tariff};

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;

/// Returns the path of a request in its normal form, with the query as it is.
///
/// # Errors
/// [`BadPath`] where somebody else could read the path as a different one.
pub fn normal_target(uri: &Uri) -> Result<PathAndQuery, BadPath> {
    let target = match (normalise(uri.path())?, uri.query(), uri.path_and_query()) {
        (Cow::Borrowed(_), _, Some(target)) => return Ok(target.clone()),
        (path, None, _) => path.into_owned(),
        (path, Some(query), _) => format!("{path}?{query}"),
    };
    // A normal path has only characters that stand in URLs, and the query comes from one.
    PathAndQuery::try_from(target).map_err(|_| BadPath::NotAbsolute)
}
