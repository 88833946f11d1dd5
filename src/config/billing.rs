//! What requests cost by what they are: the `[route.usage]` and `[route.rates]` sections.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use farebox_channel::Msat;
use farebox_middleware::{Billing, Rate, Rates, Usage, UsagePath, UsageSource};
use http::HeaderName;

use super::{Checker, ConfigError, raw};

/// The greatest number of units that a price is for.
const UNITS_MAX: u64 = 1_000_000_000;
/// The longest that a request waits for credit, in seconds.
const WAIT_MAX_SECS: u32 = 60 * 60;
/// How many units of time are in a second.
const MILLIS: u64 = 1_000;

impl Checker<'_> {
    /// Checks how the answers of a route are billed. `amount` is what is charged first.
    pub(super) fn billing(
        &self,
        key: impl Fn(&'static str) -> String,
        (usage, rates): (Option<&raw::Usage>, Option<&raw::Rates>),
        amount: Option<Msat>,
    ) -> Result<Billing, ConfigError> {
        let priced = |section: &str| {
            let allowed = "only with a price, which is charged first";
            amount.ok_or_else(|| self.refuse(section, allowed))
        };
        match (usage, rates) {
            (None, None) => Ok(Billing::Flat),
            (Some(usage), None) => {
                let section = key("usage");
                priced(&section).and_then(|_| self.usage(&section, usage))
            }
            (None, Some(rates)) => {
                let section = key("rates");
                priced(&section).and_then(|draw| self.rates(&section, rates, draw))
            }
            (Some(_), Some(_)) => Err(self.refuse(&key("rates"), "only without `usage`")),
        }
    }

    /// Checks what a service reports of its answers.
    fn usage(&self, section: &str, usage: &raw::Usage) -> Result<Billing, ConfigError> {
        let raw::Usage { header, trailer, json, event, unit_msat } = usage;
        let key = |name| format!("{section}.{name}");
        let field = |name, value: &Option<String>| {
            let field = value.as_ref().map(|value| HeaderName::try_from(value.as_str()));
            self.checked(&key(name), field.transpose())
        };
        let path = |name, value: &Option<String>| {
            let path = value.as_ref().map(|value| value.parse::<UsagePath>());
            self.checked(&key(name), path.transpose())
        };
        let sources = [
            field("header", header)?.map(UsageSource::Header),
            path("json", json)?.map(UsageSource::Json),
            path("event", event)?.map(UsageSource::Event),
            field("trailer", trailer)?.map(UsageSource::Trailer),
        ];
        let sources: Vec<_> = sources.into_iter().flatten().collect();
        if sources.is_empty() {
            let allowed = "one of `header`, `trailer`, `json` and `event` at least";
            return Err(self.refuse(section, allowed));
        }
        let unit = self.checked(&key("unit_msat"), Msat::new(*unit_msat))?;
        if unit == Msat::ZERO {
            return Err(self.refuse(&key("unit_msat"), "more than nothing"));
        }
        Ok(Billing::Reported(Arc::new(Usage { sources, unit })))
    }

    /// Checks what requests cost by what passes.
    fn rates(&self, section: &str, rates: &raw::Rates, draw: Msat) -> Result<Billing, ConfigError> {
        let raw::Rates { answer_msat, wait_secs, .. } = rates;
        let raw::Rates { bytes, events, messages, request_bytes, request_messages, secs, .. } =
            rates;
        if [bytes, events, messages, request_bytes, request_messages, secs]
            .into_iter()
            .all(Option::is_none)
        {
            let allowed = "one of `bytes`, `events`, `messages`, `request_bytes`, \
                           `request_messages` and `secs` at least";
            return Err(self.refuse(section, allowed));
        }
        if *wait_secs > WAIT_MAX_SECS {
            let allowed = format!("0 to {WAIT_MAX_SECS}");
            return Err(self.refuse(&format!("{section}.wait_secs"), allowed));
        }
        let rate = |name: &str, rate: &Option<raw::Rate>, parts: u64| {
            let section = format!("{section}.{name}");
            rate.as_ref().map(|rate| self.rate(&section, rate, parts)).transpose()
        };
        let answer = Msat::new(answer_msat.unwrap_or_default());
        Ok(Billing::Running(Arc::new(Rates {
            answer: self.checked(&format!("{section}.answer_msat"), answer)?,
            bytes: rate("bytes", bytes, 1)?,
            events: rate("events", events, 1)?,
            messages: rate("messages", messages, 1)?,
            request_bytes: rate("request_bytes", request_bytes, 1)?,
            request_messages: rate("request_messages", request_messages, 1)?,
            millis: rate("secs", secs, MILLIS)?,
            draw,
            patience: Duration::from_secs((*wait_secs).into()),
        })))
    }

    /// Checks a price for units that each have so many parts, which are what is counted.
    fn rate(&self, section: &str, rate: &raw::Rate, parts: u64) -> Result<Rate, ConfigError> {
        let key = |part| format!("{section}.{part}");
        let price = self.checked(&key("msat"), Msat::new(rate.msat))?;
        if price == Msat::ZERO {
            return Err(self.refuse(&key("msat"), "more than nothing"));
        }
        let units = NonZeroU64::new(rate.per.saturating_mul(parts));
        match units.filter(|_| rate.per <= UNITS_MAX) {
            Some(units) => Ok(Rate { price, units }),
            None => Err(self.refuse(&key("per"), format!("1 to {UNITS_MAX}"))),
        }
    }
}
