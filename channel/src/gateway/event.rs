//! What an embedder is told of its channels.

use bitcoin::{OutPoint, Txid};

use super::{Cause, Channel, Ended, Spender};
use crate::message::Memo;
use crate::units::{Msat, Sat};

/// Something has happened to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The channel.
    pub channel: OutPoint,
    /// What has happened to it.
    pub happened: Happened,
}

/// What has happened to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Its contract was shown, and waits for its confirmations.
    Shown {
        /// What the contract holds.
        capacity: Sat,
        /// The first payment.
        paid: Sat,
    },
    /// Its contract is confirmed: requests are served from now on.
    Opened,
    /// A reorganisation has taken its contract out of the chain: nothing is served until it is
    /// confirmed again.
    Suspended,
    /// Its contract confirmed too late or never. It is left to the client's refund.
    Late,
    /// A request was charged, or a payment has come, or both.
    Paid {
        /// What the payment adds, nothing where a request was paid from the credit.
        increase: Sat,
        /// All that is paid.
        paid: Sat,
        /// What the request was charged, nothing where a payment adds to the credit only.
        price: Msat,
        /// All that is charged.
        spent: Msat,
        /// What the client has sent along.
        memo: Option<Memo>,
    },
    /// After a restore of the gateway's record its client has shown its newest payment. All of it
    /// counts as spent.
    CaughtUp {
        /// All that is paid, and spent.
        paid: Sat,
    },
    /// A charge, or a part of it, was taken back.
    Released {
        /// What was taken back.
        charge: Msat,
        /// All that is charged.
        spent: Msat,
    },
    /// It serves no more requests.
    Closing {
        /// Why.
        cause: Cause,
        /// What is settled.
        paid: Sat,
    },
    /// It is not settled, because that would cost more than it brings or its contract is gone. It
    /// is left to the client's refund.
    WrittenOff {
        /// What was paid and is lost.
        paid: Sat,
    },
    /// What has spent its contract is deep in the chain.
    Ended {
        /// Why it closed.
        cause: Cause,
        /// What has spent the contract.
        by: Spender,
        /// The spending transaction.
        txid: Txid,
    },
}

impl Event {
    /// Returns what one input has done to a channel, if that is news.
    ///
    /// `before` is nothing where the channel is new, and `memo` is what came with a payment.
    #[must_use]
    pub fn between(before: Option<&Channel>, after: &Channel, memo: Option<Memo>) -> Option<Self> {
        let has_begun = before.is_none_or(|before| before.name() != after.name());
        let happened = match after {
            Channel::Closing(closing) if has_begun && closing.is_written_off => {
                Some(Happened::WrittenOff { paid: closing.account.payment.paid() })
            }
            Channel::Closing(closing) if has_begun => {
                let paid = closing.account.payment.paid();
                Some(Happened::Closing { cause: closing.cause, paid })
            }
            Channel::Ended(Ended { cause, mined, .. }) if has_begun => {
                Some(Happened::Ended { cause: *cause, by: mined.by, txid: mined.txid })
            }
            Channel::Open(_) if has_begun => Some(Happened::Opened),
            Channel::Late(_) if has_begun => Some(Happened::Late),
            Channel::Pending(_) if before.is_some() && has_begun => Some(Happened::Suspended),
            Channel::Pending(pending) if has_begun => {
                let capacity = pending.account.contract.capacity;
                Some(Happened::Shown { capacity, paid: pending.account.payment.paid() })
            }
            Channel::Closing(_) | Channel::Ended(_) => None,
            Channel::Open(_) | Channel::Late(_) | Channel::Pending(_) => {
                before.and_then(|before| on_account(before, after, memo))
            }
        };
        happened.map(|happened| Self { channel: after.contract().outpoint, happened })
    }
}

/// Returns what has changed on the account of a channel that stays in its state.
fn on_account(before: &Channel, after: &Channel, memo: Option<Memo>) -> Option<Happened> {
    let (before, after) = (before.account(), after.account());
    let (paid, spent) = (after.payment.paid(), after.spent);
    if before.is_stale && !after.is_stale {
        return Some(Happened::CaughtUp { paid });
    }
    if let Some(charge) = before.spent.checked_sub(spent).filter(|charge| *charge > Msat::ZERO) {
        return Some(Happened::Released { charge, spent });
    }
    let increase = paid.checked_sub(before.payment.paid()).unwrap_or_default();
    let price = spent.checked_sub(before.spent).unwrap_or_default();
    let is_news = increase > Sat::ZERO || price > Msat::ZERO;
    is_news.then_some(Happened::Paid { increase, paid, price, spent, memo })
}
