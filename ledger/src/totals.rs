//! Sums over all channels, kept up to date with each commit.

use farebox_channel::gateway::Channel;

/// How many channels there are and what they hold, as of the last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The channels that wait for confirmations.
    pub pending: u64,
    /// The channels that confirmed too late to be served.
    pub late: u64,
    /// The channels that payments are taken on.
    pub open: u64,
    /// The channels that are closing, or whose spending is not deep in the chain yet.
    pub closing: u64,
    /// The channels whose spending is deep in the chain.
    pub ended: u64,
    /// What the open channels hold, in sat.
    pub open_capacity_sat: u64,
    /// What is paid on the open channels, in sat.
    pub open_paid_sat: u64,
    /// What is paid and not spent on the open channels, in msat.
    pub open_credit_msat: u64,
    /// What the gateway would lose of the closing channels if no settlement were ever mined, in sat.
    pub closing_at_stake_sat: u64,
    /// What it would lose of all channels, in sat.
    pub at_stake_sat: u64,
    /// What was paid and is lost, in sat.
    pub lost_sat: u64,
}

impl Totals {
    /// Returns what one channel adds.
    #[must_use]
    pub fn of(channel: &Channel) -> Self {
        let account = channel.account();
        let at_stake_sat = channel.at_stake().get();
        let none = Self { at_stake_sat, lost_sat: channel.lost().get(), ..Self::default() };
        match channel {
            Channel::Pending(_) => Self { pending: 1, ..none },
            Channel::Late(_) => Self { late: 1, ..none },
            Channel::Open(_) => Self {
                open: 1,
                open_capacity_sat: account.contract.capacity.get(),
                open_paid_sat: account.payment.paid().get(),
                open_credit_msat: account.credit().get(),
                ..none
            },
            Channel::Closing(_) => Self { closing: 1, closing_at_stake_sat: at_stake_sat, ..none },
            Channel::Ended(_) => Self { ended: 1, ..none },
        }
    }

    /// Adds what a channel adds now.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// Takes away what a channel has added before.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    fn with(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            pending: with(self.pending, other.pending),
            late: with(self.late, other.late),
            open: with(self.open, other.open),
            closing: with(self.closing, other.closing),
            ended: with(self.ended, other.ended),
            open_capacity_sat: with(self.open_capacity_sat, other.open_capacity_sat),
            open_paid_sat: with(self.open_paid_sat, other.open_paid_sat),
            open_credit_msat: with(self.open_credit_msat, other.open_credit_msat),
            closing_at_stake_sat: with(self.closing_at_stake_sat, other.closing_at_stake_sat),
            at_stake_sat: with(self.at_stake_sat, other.at_stake_sat),
            lost_sat: with(self.lost_sat, other.lost_sat),
        }
    }
}
