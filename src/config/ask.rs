//! A price that is asked: the `ask` section of a route.

use std::ops::RangeInclusive;
use std::time::Duration;

use farebox_channel::Msat;

use super::{Checker, ConfigError, raw};
use crate::routes::{Ask, WhenDown};

/// The longest time for which a price is kept, in seconds.
const KEEP_MAX_SECS: u64 = 24 * 60 * 60;
/// How long an answer may take, in seconds.
const TIMEOUT_SECS: RangeInclusive<u64> = 1..=60;

impl Checker<'_> {
    /// Checks the `ask` section of a route.
    pub(super) fn ask(
        &self,
        key: impl Fn(&'static str) -> String,
        raw: raw::Ask,
    ) -> Result<Ask, ConfigError> {
        let url = self.service(&key("ask.url"), &raw.url)?;
        if raw.keep_secs > KEEP_MAX_SECS {
            return Err(self.refuse(&key("ask.keep_secs"), format!("0 to {KEEP_MAX_SECS}")));
        }
        if !TIMEOUT_SECS.contains(&raw.timeout_secs) {
            let (least, most) = TIMEOUT_SECS.into_inner();
            return Err(self.refuse(&key("ask.timeout_secs"), format!("{least} to {most}")));
        }
        let least = self.checked(&key("ask.min_msat"), Msat::new(raw.min_msat))?;
        let most = self.checked(&key("ask.max_msat"), Msat::new(raw.max_msat))?;
        if least == Msat::ZERO {
            let allowed = "at least 1; an answer may say `\"free\": true` all the same";
            return Err(self.refuse(&key("ask.min_msat"), allowed));
        }
        if most < least {
            return Err(self.refuse(&key("ask.max_msat"), "at least `ask.min_msat`"));
        }
        Ok(Ask {
            url,
            authorities: raw.ca_file.map(|file| self.below(file)),
            keep: Duration::from_secs(raw.keep_secs),
            timeout: Duration::from_secs(raw.timeout_secs),
            least,
            most,
            when_down: match raw.when_down {
                raw::WhenDown::Route => WhenDown::Route,
                raw::WhenDown::Last => WhenDown::Last,
                raw::WhenDown::Refuse => WhenDown::Refuse,
            },
        })
    }
}
