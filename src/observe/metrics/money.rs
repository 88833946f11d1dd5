//! What is told of the money: read when somebody asks, so that it costs a paid request nothing.

use std::fmt;
use std::sync::Arc;

use farebox_ledger::Totals;
use prometheus_client::encoding::DescriptorEncoder;

use super::text::{Rows, counter, gauge};
use crate::watcher::Alarm;

/// Returns how the money stands now.
pub(crate) type MoneySource = Arc<dyn Fn() -> Money + Send + Sync>;

/// How the money stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Money {
    /// The channels, and what they hold.
    pub(crate) totals: Totals,
    /// The time until the next mark of a channel, if one will come.
    pub(crate) next_mark_secs: Option<u64>,
    /// The height of the newest block, while the node tells it.
    pub(crate) chain_height: Option<u32>,
    /// How old the newest block is, while the node tells it.
    pub(crate) chain_age_secs: Option<u64>,
    /// Whether the node counts as away.
    pub(crate) is_node_away: bool,
    /// The names of the alarms that are raised.
    pub(crate) alarms: Vec<&'static str>,
    /// How often a settlement was handed to the node.
    pub(crate) broadcasts: u64,
    /// How many writes the ledger has committed.
    pub(crate) commits: u64,
    /// How many inputs wait for a commit.
    pub(crate) queue: u64,
}

impl Money {
    /// Writes everything.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Totals { pending, late, open, closing, ended, .. } = self.totals;
        let states = [
            ("pending", pending),
            ("late", late),
            ("open", open),
            ("closing", closing),
            ("ended", ended),
        ];
        let states: Rows<'_> =
            states.into_iter().map(|(state, count)| (vec![("state", state)], count)).collect();
        gauge(encoder, "channels", "Channels by state", &states)?;
        let totals = &self.totals;
        for (name, help, value) in [
            ("capacity_open_sat", "What is locked in open channels", totals.open_capacity_sat),
            ("paid_open_sat", "What is paid on open channels", totals.open_paid_sat),
            ("credit_open_msat", "Paid on open channels, not charged", totals.open_credit_msat),
            ("unsettled_sat", "At stake on channels that close", totals.closing_at_stake_sat),
            ("at_risk_sat", "Lost if no settlement were ever mined", totals.at_stake_sat),
            ("lost_sat", "What was paid and is lost", totals.lost_sat),
            ("node_away", "Whether the node counts as away", u64::from(self.is_node_away)),
            ("ledger_queue_length", "Inputs that wait for a commit", self.queue),
        ] {
            gauge(encoder, name, help, &[(vec![], value)])?;
        }
        let alarms: Rows<'_> = Alarm::NAMES
            .iter()
            .map(|name| (vec![("alarm", *name)], u64::from(self.alarms.contains(name))))
            .collect();
        gauge(encoder, "alarms", "Whether an alarm is raised", &alarms)?;
        let height = self.chain_height.map(u64::from);
        for (name, help, value) in [
            ("next_mark_seconds", "The time until the next mark of a channel", self.next_mark_secs),
            ("chain_height", "The height of the newest block", height),
            ("chain_tip_age_seconds", "How old the newest block is", self.chain_age_secs),
        ] {
            if let Some(value) = value {
                gauge(encoder, name, help, &[(vec![], value)])?;
            }
        }
        let help = "Settlements handed to the node, again each time";
        counter(encoder, "settlements_broadcast", help, &[(vec![], self.broadcasts)])?;
        let help = "Writes that the ledger has committed";
        counter(encoder, "ledger_commits", help, &[(vec![], self.commits)])
    }
}
