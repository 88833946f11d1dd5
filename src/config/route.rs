//! What is served: the `[[route]]` sections, and what goes for all of them.

use std::collections::BTreeSet;
use std::time::Duration;

use farebox_channel::{Msat, Sat, Seconds};

use super::{Checker, ConfigError, raw};
use crate::routes::{
    Allowance, BadPattern, Host, Methods, Pattern, Price, Route, Table, TableError,
};

/// The name of what takes the requests that no route takes.
const UNKNOWN: &str = "unknown";
/// The most bytes of a route's name.
const NAME_MAX: usize = 64;
/// The longest time for which a price holds after a reload, in seconds.
const QUOTE_MAX_SECS: u32 = 24 * 60 * 60;

/// What the file says of routes.
pub(super) struct Sales<'a> {
    /// `[[route]]`
    pub(super) routes: Vec<raw::Route>,
    /// `[unknown]`
    pub(super) unknown: Option<raw::Unknown>,
    /// `shadow`
    pub(super) is_shadow: bool,
    /// `quote_secs`
    pub(super) quote_secs: u32,
    /// The names that a route's `upstream` may have.
    pub(super) upstreams: &'a BTreeSet<String>,
}

impl Checker<'_> {
    /// Checks all routes, and that they can stand together.
    pub(super) fn routes(&self, sales: Sales<'_>) -> Result<Table, ConfigError> {
        let Sales { routes, unknown, is_shadow, quote_secs, upstreams } = sales;
        if routes.is_empty() && unknown.is_none() {
            return Err(self.refuse("route", "at least one [[route]] with a `path`"));
        }
        if quote_secs > QUOTE_MAX_SECS {
            return Err(self.refuse("quote_secs", format!("0 to {QUOTE_MAX_SECS}")));
        }
        let unknown = unknown.map(|unknown| self.unknown(&unknown, is_shadow)).transpose()?;
        let mut checked = Vec::with_capacity(routes.len());
        for (index, route) in routes.into_iter().enumerate() {
            checked.push(self.route(index, route, is_shadow, upstreams)?);
        }
        let table = Table::new(checked).map_err(|error| match &error {
            TableError::SameName { later, .. } => self.refuse(&key(*later, "name"), error),
            TableError::NeverReached { later, .. } => self.refuse(&key(*later, "path"), error),
        })?;
        Ok(table.unknown(unknown).quote(Duration::from_secs(quote_secs.into())))
    }

    /// Checks a `[[route]]` section.
    fn route(
        &self,
        index: usize,
        raw: raw::Route,
        is_shadow: bool,
        upstreams: &BTreeSet<String>,
    ) -> Result<Route, ConfigError> {
        let key = |name| key(index, name);
        let path = Pattern::new(&raw.path, raw.exact).map_err(|error| {
            let wrong = if error == BadPattern::Exact { "exact" } else { "path" };
            self.refuse(&key(wrong), error)
        })?;
        let amount = match (raw.price_sat, raw.price_msat, raw.free) {
            (None, None, true) => None,
            (sat, msat, false) if sat.is_some() != msat.is_some() => {
                Some(self.amount(key, sat, msat)?)
            }
            _ => {
                let allowed = "one of `price_sat`, `price_msat` and `free = true`";
                return Err(self.refuse(&key("price_sat"), allowed));
            }
        };
        if amount == Some(Msat::ZERO) {
            return Err(self.refuse(&key("price_sat"), "more than nothing, or `free = true`"));
        }
        if amount.is_none() && raw.shadow {
            return Err(self.refuse(&key("shadow"), "only with a price"));
        }
        if amount.is_none() && raw.ask.is_some() {
            let allowed = "only with a price, which holds where no other one is known";
            return Err(self.refuse(&key("ask"), allowed));
        }
        if let Some(upstream) = raw.upstream.as_ref().filter(|name| !upstreams.contains(*name)) {
            let allowed = format!("\"{upstream}\" is not the name of an [upstreams.NAME] section");
            return Err(self.refuse(&key("upstream"), allowed));
        }
        let host = raw.host.as_deref().map(Host::new).transpose();
        let methods = raw.methods.as_deref().map(Methods::new).transpose();
        let allowance = self.allowance(index, &raw, amount)?;
        let billing = self.billing(key, (raw.usage.as_ref(), raw.rates.as_ref()), amount)?;
        Ok(Route {
            label: raw.name.map(|name| self.name(index, name)).transpose()?,
            host: self.checked(&key("host"), host)?,
            methods: self.checked(&key("methods"), methods)?,
            billing,
            allowance,
            upstream: raw.upstream,
            ask: raw.ask.map(|ask| self.ask(key, ask)).transpose()?,
            ..Route::new(path, price(amount, is_shadow || raw.shadow))
        })
    }

    /// Checks the name of a route: it stands in logs and metrics.
    fn name(&self, index: usize, name: String) -> Result<String, ConfigError> {
        let is_printed = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        if name == UNKNOWN || name.is_empty() || name.len() > NAME_MAX || !is_printed {
            let allowed = format!(
                "1 to {NAME_MAX} printable ASCII characters without spaces and quotation marks, \
                 and not \"{UNKNOWN}\""
            );
            return Err(self.refuse(&key(index, "name"), allowed));
        }
        Ok(name)
    }

    /// Checks what a client has free of a route.
    fn allowance(
        &self,
        index: usize,
        raw: &raw::Route,
        amount: Option<Msat>,
    ) -> Result<Option<Allowance>, ConfigError> {
        let (requests, secs) = match (raw.free_requests, raw.free_secs) {
            (None, None) => return Ok(None),
            (Some(requests), Some(secs)) => (requests, secs),
            (Some(_), None) => {
                return Err(self.refuse(&key(index, "free_secs"), "needed with `free_requests`"));
            }
            (None, Some(_)) => {
                return Err(self.refuse(&key(index, "free_requests"), "needed with `free_secs`"));
            }
        };
        if amount.is_none() {
            return Err(self.refuse(&key(index, "free_requests"), "only with a price"));
        }
        for (name, value) in [("free_requests", requests), ("free_secs", secs)] {
            if value == 0 {
                return Err(self.refuse(&key(index, name), "at least 1"));
            }
        }
        Ok(Some(Allowance { requests, span: Seconds::new(secs) }))
    }

    /// Checks the `[unknown]` section.
    fn unknown(&self, raw: &raw::Unknown, is_shadow: bool) -> Result<Route, ConfigError> {
        let key = |name| format!("unknown.{name}");
        if raw.price_sat.is_some() == raw.price_msat.is_some() {
            let allowed = "one of `price_sat` and `price_msat`; without the section, what has no \
                           route is not served";
            return Err(self.refuse(&key("price_sat"), allowed));
        }
        let amount = self.amount(key, raw.price_sat, raw.price_msat)?;
        if amount == Msat::ZERO {
            let allowed = "more than nothing; a last [[route]] with `path = \"/\"` can be free";
            return Err(self.refuse(&key("price_sat"), allowed));
        }
        let path = self.checked("unknown", Pattern::new("/", false))?;
        let label = Some(UNKNOWN.to_owned());
        Ok(Route { label, ..Route::new(path, price(Some(amount), is_shadow)) })
    }

    /// Checks the one amount that is given.
    fn amount(
        &self,
        key: impl Fn(&'static str) -> String,
        sat: Option<u64>,
        msat: Option<u64>,
    ) -> Result<Msat, ConfigError> {
        match sat {
            Some(sat) => Ok(self.checked(&key("price_sat"), Sat::new(sat))?.to_msat()),
            None => self.checked(&key("price_msat"), Msat::new(msat.unwrap_or_default())),
        }
    }
}

/// Returns the name of a key of a `[[route]]` section.
fn key(index: usize, name: &str) -> String {
    format!("route[{index}].{name}")
}

/// Returns the price of an amount, if there is one.
fn price(amount: Option<Msat>, is_shadow: bool) -> Price {
    match amount {
        None => Price::Free,
        Some(amount) if is_shadow => Price::Shadow(amount),
        Some(amount) => Price::Charged(amount),
    }
}
