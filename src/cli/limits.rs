//! The options that say how much `farebox pay` may pay, in this run and over all of them.

use clap::Args;
use farebox_channel::{Sat, Seconds};
use farebox_client::Policy;

/// Reads an amount.
pub(super) fn sat(number: &str) -> Result<Sat, String> {
    let number = number.parse().map_err(|_| "a whole number of satoshi".to_owned())?;
    Sat::new(number).map_err(|error| error.to_string())
}

/// Reads a time.
pub(super) fn seconds(number: &str) -> Result<Seconds, String> {
    let number = number.parse().map_err(|_| "a whole number of seconds".to_owned())?;
    Ok(Seconds::new(number))
}

/// The limits that a person sets once.
#[derive(Debug, Args)]
pub(super) struct LimitArguments {
    /// The most to pay in all, over all runs [default: no limit]
    #[arg(long, value_name = "SAT", value_parser = sat, env = "FAREBOX_BUDGET")]
    budget: Option<Sat>,
    /// The most to pay on one day (UTC), over all runs [default: no limit]
    #[arg(long, value_name = "SAT", value_parser = sat, env = "FAREBOX_BUDGET_DAY")]
    budget_day: Option<Sat>,
    /// The most to pay to this server, over all runs [default: no limit]
    #[arg(long, value_name = "SAT", value_parser = sat, env = "FAREBOX_BUDGET_HOST")]
    budget_host: Option<Sat>,
    /// How many channels may be opened with this server on one day (UTC) [default: 10]
    #[arg(long, value_name = "NUMBER", env = "FAREBOX_MAX_CHANNELS")]
    max_channels: Option<u32>,
    /// The greatest first payment of a new channel [default: 20000]
    #[arg(long, value_name = "SAT", value_parser = sat, env = "FAREBOX_MAX_FIRST_PAYMENT")]
    max_first_payment: Option<Sat>,
    /// The most that a new channel may lock [default: --capacity, or 1000000]
    #[arg(long, value_name = "SAT", value_parser = sat, env = "FAREBOX_MAX_CAPACITY")]
    max_capacity: Option<Sat>,
    /// The longest time that it may be locked for [default: --lifetime, or 2592000]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, env = "FAREBOX_MAX_LIFETIME")]
    max_lifetime: Option<Seconds>,
}

impl LimitArguments {
    /// Sets the limits that are given.
    pub(super) fn apply(&self, policy: &mut Policy) {
        policy.total_max = self.budget.map(Sat::to_msat);
        policy.day_max = self.budget_day.map(Sat::to_msat);
        policy.host_max = self.budget_host.map(Sat::to_msat);
        policy.openings_max = self.max_channels.unwrap_or(policy.openings_max);
        policy.first_payment_max = self.max_first_payment.unwrap_or(policy.first_payment_max);
        policy.capacity_max = self.max_capacity.unwrap_or(policy.capacity_max);
        policy.lifetime_max = self.max_lifetime.unwrap_or(policy.lifetime_max);
    }
}
