//! The gateway's side of a channel: one state in, one input, the next state out.
//!
//! Nothing here waits, stores or sends. [`Channel::handle`] takes `&self`, so on any failure the
//! old state is still true. [`Channel::due`] says when the gateway has to close a channel by itself,
//! and [`Plan`] what is to be settled; both say it again until an input tells that it is done.

mod account;
mod attempt;
mod event;
mod mempool;
mod mined;
mod opening;
mod plan;
mod refusal;
mod rules;
mod state;

use std::sync::Arc;

use bitcoin::{OutPoint, Txid};

pub use account::Account;
pub use attempt::{ATTEMPT_LIFETIME, Attempt, RequestName};
pub use event::{Event, Happened};
pub use mempool::{Market, Mempool, Rival};
pub use mined::{Mined, Spender};
pub use opening::{Gateway, Shown};
pub use plan::{Draft, Plan, Step};
pub use refusal::Refusal;
pub use rules::{Rules, Settling, Unconfirmed};
pub use state::{Closing, Ended, Late, Open, Pending};

use crate::contract::Contract;
use crate::message::{ChannelStatus, StateName};
use crate::pass::Pass;
use crate::payment::VerifiedPayment;
use crate::settlement::Settlement;
use crate::units::{Clock, Msat, Sat, Timestamp};

/// The depth at which a transaction counts as final.
pub const DEPTH_FINAL: u32 = 6;

/// A channel as the gateway knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The contract is not confirmed enough.
    Pending(Pending),
    /// The contract confirmed too late or never; the client waits for its refund.
    Late(Late),
    /// Payments are taken.
    Open(Open),
    /// A settlement is wanted, on its way or mined.
    Closing(Closing),
    /// The contract's spending is deep in the chain.
    Ended(Ended),
}

/// Why a channel closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client asked for it.
    Client,
    /// Everything is paid and spent.
    Exhausted,
    /// The expiry is near.
    Expiring,
    /// The client has not paid for long.
    Idle,
    /// The gateway's operator asked for it.
    Operator,
    /// The contract was spent without the gateway's doing.
    Spent,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 6] =
        [Self::Client, Self::Exhausted, Self::Expiring, Self::Idle, Self::Operator, Self::Spent];

    /// Returns the cause's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Exhausted => "exhausted",
            Self::Expiring => "expiring",
            Self::Idle => "idle",
            Self::Operator => "operator",
            Self::Spent => "spent",
        }
    }
}

/// What happens to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The client pays for a request.
    Pay {
        /// The payment, verified.
        payment: VerifiedPayment,
        /// The price to charge.
        price: Msat,
    },
    /// The client asks again for an answer that is paid for, with its newest payment, verified.
    Repeat(VerifiedPayment),
    /// A request was not answered, so its charge is taken back.
    Release {
        /// What was charged.
        charge: Msat,
    },
    /// The client closes with its final payment, verified.
    Close(VerifiedPayment),
    /// The gateway closes for what is paid. A channel that it finds exhausted or idle is judged
    /// again: it is left as it is where [`Channel::due`] has no answer any more.
    Expire(Cause),
    /// The contract is in the mempool, and its transaction spends these coins.
    Seen(Vec<OutPoint>),
    /// The contract was mined.
    Confirmed {
        /// The block's height.
        height: u32,
        /// The confirmations that it has now.
        confirmations: u32,
    },
    /// The contract is no longer in a block, or in the mempool where it was served from there.
    Unconfirmed,
    /// A settlement is built; it goes to the node once this is saved. Or another one than the
    /// newest was mined.
    Settle(Arc<Settlement>),
    /// The channel's settlement was given up, because another channel's input is no good.
    Withdraw,
    /// A settlement would cost more than it brings, or the contract is gone: nothing is done any
    /// more.
    WriteOff,
    /// The contract's output was spent in a block.
    Spent(Mined),
    /// That block is no longer in the chain.
    Unspent,
    /// The chain has grown to this height.
    Deepened {
        /// The height of the tip.
        height: u32,
    },
}

impl Channel {
    /// Returns the channel after `input`.
    ///
    /// # Errors
    /// [`Refusal`] when the input is not possible now; then nothing has changed.
    pub fn handle(&self, clock: Clock, rules: &Rules, input: Input) -> Result<Self, Refusal> {
        let input = if matches!(input, Input::Expire(Cause::Exhausted | Cause::Idle)) {
            // That was judged by an earlier state: a payment or a release may have come since.
            let Some(cause) = self.due(clock, rules) else { return Ok(self.clone()) };
            Input::Expire(cause)
        } else {
            input
        };
        match (self, input) {
            (Self::Pending(pending), input) => pending.handle(clock, rules, input),
            (Self::Late(late), input) => late.handle(clock, input),
            (Self::Open(open), input) => open.handle(clock, rules, input),
            (Self::Closing(closing), input) => closing.handle(input),
            (Self::Ended(ended), input) => ended.handle(input),
        }
    }

    /// Returns the channel as it counts after its record was restored from a backup.
    ///
    /// Nobody knows what was paid and served since. So all credit counts as spent, the contract is
    /// looked up anew, and the client shows its newest payment before it is served again.
    #[must_use]
    pub fn restored(self) -> Self {
        match self {
            Self::Pending(Pending { account, .. }) if account.spent == Msat::ZERO => {
                let account = Account { is_stale: true, ..account };
                Self::Pending(Pending { account, height: None })
            }
            Self::Open(Open { account, .. }) | Self::Pending(Pending { account, .. }) => {
                let account = Account { is_stale: true, ..account.count_as_spent() };
                Self::Pending(Pending { account, height: None })
            }
            Self::Late(_) | Self::Closing(_) | Self::Ended(_) => self,
        }
    }

    /// Returns why the gateway has to close the channel now, if it has to.
    #[must_use]
    pub fn due(&self, clock: Clock, rules: &Rules) -> Option<Cause> {
        match self {
            Self::Pending(pending) => {
                (clock.now() >= pending.mark(rules)).then_some(Cause::Expiring)
            }
            Self::Open(open) => open.due(clock.now(), rules),
            Self::Late(_) | Self::Closing(_) | Self::Ended(_) => None,
        }
    }

    /// Returns from when on [`Channel::due`] has an answer whatever is left on the channel, if
    /// nothing else happens.
    #[must_use]
    pub fn mark(&self, rules: &Rules) -> Option<Timestamp> {
        match self {
            Self::Pending(pending) => Some(pending.mark(rules)),
            Self::Open(open) => Some(open.mark(rules)),
            Self::Late(_) | Self::Closing(_) | Self::Ended(_) => None,
        }
    }

    /// Returns what is left on an open channel, if everything is paid. [`Channel::due`] has an
    /// answer at any time where that is less than the cheapest price.
    #[must_use]
    pub fn last_credit(&self) -> Option<Msat> {
        match self {
            Self::Open(open) => open.account.last_credit(),
            Self::Pending(_) | Self::Late(_) | Self::Closing(_) | Self::Ended(_) => None,
        }
    }

    /// Returns the height of the contract's block, if it is known to be in one.
    #[must_use]
    pub const fn height(&self) -> Option<u32> {
        match self {
            Self::Pending(Pending { height, .. })
            | Self::Late(Late { height, .. })
            | Self::Open(Open { height, .. })
            | Self::Closing(Closing { height, .. })
            | Self::Ended(Ended { height, .. }) => *height,
        }
    }

    /// Returns why the channel closes or has closed.
    #[must_use]
    pub const fn cause(&self) -> Option<Cause> {
        match self {
            Self::Closing(Closing { cause, .. }) | Self::Ended(Ended { cause, .. }) => Some(*cause),
            Self::Pending(_) | Self::Late(_) | Self::Open(_) => None,
        }
    }

    /// Returns the newest settlement, or the one that was mined.
    #[must_use]
    pub const fn settlement(&self) -> Option<&Arc<Settlement>> {
        match self {
            Self::Closing(Closing { settlement, .. }) | Self::Ended(Ended { settlement, .. }) => {
                settlement.as_ref()
            }
            Self::Pending(_) | Self::Late(_) | Self::Open(_) => None,
        }
    }

    /// Returns where the contract's output was spent, once it was.
    #[must_use]
    pub const fn mined(&self) -> Option<Mined> {
        match self {
            Self::Closing(closing) => closing.mined,
            Self::Ended(ended) => Some(ended.mined),
            Self::Pending(_) | Self::Late(_) | Self::Open(_) => None,
        }
    }

    /// Tells whether requests are or were served on a contract that is in no block, so that they may
    /// be served for nothing. What is lost counts until that is deep or given up.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let account = self.account();
        let was_served = account.spent > Msat::ZERO && !account.coins.is_empty();
        match self {
            Self::Open(open) => open.height.is_none(),
            Self::Pending(pending) => pending.height.is_none() && was_served,
            Self::Closing(closing) => {
                closing.height.is_none() && !closing.is_written_off && was_served
            }
            Self::Late(_) | Self::Ended(_) => false,
        }
    }

    /// Returns what can be charged now: the credit, but on a contract that is in no block no more
    /// than is served on it.
    #[must_use]
    pub fn chargeable(&self, rules: &Rules) -> Msat {
        match self {
            Self::Open(Open { account, height: None }) => {
                account.credit().min(account.trusted(rules))
            }
            Self::Open(open) => open.account.credit(),
            Self::Pending(_) | Self::Late(_) | Self::Closing(_) | Self::Ended(_) => Msat::ZERO,
        }
    }

    /// Returns what the gateway would lose now if no settlement were ever mined.
    #[must_use]
    pub fn at_stake(&self) -> Sat {
        let account = self.account();
        match self {
            Self::Late(_) | Self::Ended(_) => Sat::ZERO,
            Self::Closing(Closing { mined: Some(mined), .. }) => mined.settled,
            Self::Closing(closing) if !closing.is_claimed() => Sat::ZERO,
            Self::Pending(_) if account.is_unserved() => Sat::ZERO,
            Self::Pending(_) | Self::Open(_) | Self::Closing(_) => account.payment.paid(),
        }
    }

    /// Returns what was paid and is lost, as far as the chain tells by now.
    #[must_use]
    pub fn lost(&self) -> Sat {
        let account = self.account();
        let is_written_off = matches!(self, Self::Closing(closing) if closing.is_written_off);
        let settled = match self.mined() {
            Some(mined) => mined.settled,
            None if is_written_off => Sat::ZERO,
            None => return Sat::ZERO,
        };
        if account.is_unserved() {
            return Sat::ZERO;
        }
        account.payment.paid().checked_sub(settled).unwrap_or_default()
    }

    /// Returns the account.
    #[must_use]
    pub const fn account(&self) -> &Account {
        match self {
            Self::Pending(Pending { account, .. })
            | Self::Late(Late { account, .. })
            | Self::Open(Open { account, .. })
            | Self::Closing(Closing { account, .. })
            | Self::Ended(Ended { account, .. }) => account,
        }
    }

    /// Returns the contract.
    #[must_use]
    pub const fn contract(&self) -> &Arc<Contract> {
        &self.account().contract
    }

    /// Returns the state's name on the wire.
    #[must_use]
    pub const fn name(&self) -> StateName {
        match self {
            Self::Pending(_) => StateName::Pending,
            Self::Late(_) => StateName::Late,
            Self::Open(_) => StateName::Open,
            Self::Closing(closing) if closing.is_written_off => StateName::WrittenOff,
            Self::Closing(_) => StateName::Closing,
            Self::Ended(ended) => match ended.mined.by {
                Spender::Settlement => StateName::Settled,
                Spender::Refund | Spender::DoubleSpend => StateName::Lost,
            },
        }
    }

    /// Returns what is told of the channel to its client, with its pass.
    #[must_use]
    pub fn status(&self, pass: Pass) -> ChannelStatus {
        let (contract, account) = (self.contract(), self.account());
        ChannelStatus {
            channel: contract.outpoint,
            gateway_key: contract.terms.gateway_key,
            kind: contract.terms.kind,
            expiry: contract.terms.expiry,
            capacity: contract.capacity,
            payout: contract.payout.clone(),
            payment: *account.payment.payment(),
            least: account.least,
            spent: account.spent,
            credit: account.credit(),
            state: self.name(),
            pass,
        }
    }

    /// Returns the id of the transaction that has settled or will settle the channel.
    #[must_use]
    pub fn settlement_txid(&self) -> Option<Txid> {
        match self {
            Self::Closing(closing) => closing.txid(),
            Self::Ended(ended) => Some(ended.mined.txid),
            Self::Pending(_) | Self::Late(_) | Self::Open(_) => None,
        }
    }
}
