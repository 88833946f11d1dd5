//! The states of a channel. Each holds only what is true in it.

use bitcoin::{Transaction, Txid};

use super::{Account, Cause, Channel, DEPTH_FINAL, Duty, Input, Refusal, Rules};
use crate::contract::{Contract, Kind};
use crate::payment::SETTLEMENT_VERSION;
use crate::settlement::Settlement;
use crate::units::{Clock, Msat};

/// What spent a contract's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spender {
    /// A settlement, signed by both sides.
    Settlement,
    /// The client's refund.
    Refund,
}

/// The spending of a contract's output in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mined {
    /// The id of the spending transaction.
    pub txid: Txid,
    /// The height of its block.
    pub height: u32,
    /// What it is.
    pub by: Spender,
}

impl Mined {
    /// Recognises what `transaction`, mined at `height`, does to `contract`.
    ///
    /// Returns nothing when it does not spend the contract. The gateway signs a `refund`
    /// contract for version 3 settlements and version 2 refunds only; a `cltv` refund has an
    /// empty signature in the gateway's place.
    #[must_use]
    pub fn recognise(contract: &Contract, transaction: &Transaction, height: u32) -> Option<Self> {
        let spends = |input: &&bitcoin::TxIn| input.previous_output == contract.outpoint;
        let input = transaction.input.iter().find(spends)?;
        let settled = match contract.terms.kind {
            Kind::Refund => transaction.version == SETTLEMENT_VERSION,
            Kind::Cltv => input.witness.nth(1).is_some_and(|signature| !signature.is_empty()),
        };
        let by = if settled { Spender::Settlement } else { Spender::Refund };
        Some(Self { txid: transaction.compute_txid(), height, by })
    }
}

/// The contract is not confirmed enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The account, with the first payment.
    pub account: Account,
}

impl Pending {
    pub(super) fn handle(
        &self,
        clock: Clock,
        rules: &Rules,
        input: Input,
    ) -> Result<Channel, Refusal> {
        let account = &self.account;
        let unchanged = || Channel::Pending(self.clone());
        match input {
            // A newer payment may come with the contract shown again, but nothing is served.
            Input::Pay { payment, price } if price.get() == 0 => {
                Ok(Channel::Pending(Self { account: account.pay(payment, price)? }))
            }
            Input::Pay { .. } | Input::Repeat(_) | Input::Close(_) => Err(Refusal::Pending),
            Input::Confirmed { height, confirmations } => {
                if confirmations < rules.confirmations || self.waits(height, confirmations, rules) {
                    return Ok(unchanged());
                }
                let account = account.confirmed(height, rules);
                if !rules.is_stopped(account.contract.terms.expiry, clock.now()) {
                    return Ok(Channel::Open(Open { account, height }));
                }
                if account.is_unserved() {
                    return Ok(Channel::Late(Late { account, height: Some(height) }));
                }
                // It was served before a reorg or a restore took its contract away for so long.
                Ok(close(account, Cause::Expiring))
            }
            Input::Release { charge } => {
                Ok(Channel::Pending(Self { account: account.release(charge) }))
            }
            Input::Expire(_) if account.spent == Msat::ZERO => {
                Ok(Channel::Late(Late { account: account.clone(), height: None }))
            }
            Input::Spent(mined) => Ok(spent(account, mined)),
            Input::Expire(_)
            | Input::Unconfirmed
            | Input::Settle(_)
            | Input::Unspent
            | Input::Deepened { .. } => Ok(unchanged()),
        }
    }
}

impl Pending {
    /// A contract that never confirms is not looked for until its refund, unless it may have been
    /// served before a restore.
    pub(super) fn due(&self, clock: Clock, rules: &Rules) -> Duty {
        let Account { contract, spent, is_stale, .. } = &self.account;
        let (now, expiry) = (clock.now(), contract.terms.expiry);
        let is_over =
            if *is_stale { now >= expiry.timestamp() } else { rules.is_stopped(expiry, now) };
        if is_over && *spent == Msat::ZERO {
            return Duty::Close(Cause::Expiring);
        }
        Duty::LookUp(contract.outpoint)
    }

    /// Tells whether a contract from before a restore has to wait for more blocks: the node may
    /// have forgotten a settlement that was handed out since the backup.
    fn waits(&self, height: u32, confirmations: u32, rules: &Rules) -> bool {
        let tip = height.saturating_add(confirmations).saturating_sub(1);
        let is_old = |restored| height <= restored || self.account.spent > Msat::ZERO;
        self.account.is_stale
            && rules.restored.is_some_and(|restored| {
                is_old(restored) && tip < restored.saturating_add(DEPTH_FINAL)
            })
    }
}

/// The contract confirmed too late before its expiry, or not at all: never served, and left to
/// the refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// The account, with the first payment.
    pub account: Account,
    /// The height of the contract's block, if it is in one.
    pub height: Option<u32>,
}

impl Late {
    pub(super) fn handle(&self, input: Input) -> Result<Channel, Refusal> {
        match input {
            Input::Pay { .. } | Input::Repeat(_) | Input::Close(_) => Err(Refusal::Late),
            Input::Unconfirmed if self.height.is_some() => {
                Ok(Channel::Pending(Pending { account: self.account.clone() }))
            }
            Input::Spent(mined) => Ok(spent(&self.account, mined)),
            Input::Release { .. }
            | Input::Expire(_)
            | Input::Confirmed { .. }
            | Input::Unconfirmed
            | Input::Settle(_)
            | Input::Unspent
            | Input::Deepened { .. } => Ok(Channel::Late(self.clone())),
        }
    }
}

/// Payments are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The account.
    pub account: Account,
    /// The height of the contract's block.
    pub height: u32,
}

impl Open {
    pub(super) fn handle(
        &self,
        clock: Clock,
        rules: &Rules,
        input: Input,
    ) -> Result<Channel, Refusal> {
        let account = &self.account;
        let with = |account| Channel::Open(Self { account, height: self.height });
        match input {
            Input::Pay { payment, price: Msat::ZERO } if account.is_stale => {
                Ok(with(account.catch_up(payment)?))
            }
            Input::Pay { .. } | Input::Repeat(_) if account.is_stale => Err(Refusal::Stale),
            Input::Pay { .. } | Input::Repeat(_)
                if rules.is_stopped(account.contract.terms.expiry, clock.now()) =>
            {
                Err(Refusal::Expiring)
            }
            Input::Pay { payment, price } => Ok(with(account.pay(payment, price)?)),
            Input::Repeat(payment) => Ok(with(account.pay(payment, Msat::ZERO)?)),
            Input::Release { charge } => Ok(with(account.release(charge))),
            Input::Close(payment) => Ok(close(account.conclude(payment)?, Cause::Client)),
            Input::Expire(cause) => Ok(close(account.clone(), cause)),
            Input::Unconfirmed => Ok(Channel::Pending(Pending { account: account.clone() })),
            Input::Spent(mined) => Ok(spent(account, mined)),
            Input::Confirmed { .. }
            | Input::Settle(_)
            | Input::Unspent
            | Input::Deepened { .. } => Ok(Channel::Open(self.clone())),
        }
    }

    pub(super) fn due(&self, clock: Clock, rules: &Rules) -> Option<Duty> {
        if self.account.is_exhausted(rules) {
            return Some(Duty::Close(Cause::Exhausted));
        }
        let expiry = self.account.contract.terms.expiry;
        rules.is_overdue(expiry, clock.now()).then_some(Duty::Close(Cause::Expiring))
    }
}

/// A settlement is wanted, on its way or mined. Nothing is served any more, also after a reorg:
/// the client's signature is public once the settlement was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The account, with the payment that is settled.
    pub account: Account,
    /// Why the channel closes.
    pub cause: Cause,
    /// The settlement, once it is built.
    pub settlement: Option<Settlement>,
    /// Where the contract's output was spent, once it was.
    pub mined: Option<Mined>,
}

impl Closing {
    pub(super) fn handle(&self, input: Input) -> Result<Channel, Refusal> {
        let closing = self.clone();
        match input {
            // What is settled is signed already, so no charge can be taken back any more.
            Input::Pay { .. } | Input::Repeat(_) | Input::Close(_) | Input::Release { .. } => {
                Err(Refusal::Closing)
            }
            Input::Settle(settlement) => {
                Ok(Channel::Closing(Self { settlement: Some(settlement), ..closing }))
            }
            Input::Spent(mined) => Ok(Channel::Closing(Self { mined: Some(mined), ..closing })),
            Input::Unspent => Ok(Channel::Closing(Self { mined: None, ..closing })),
            Input::Deepened { height } => Ok(closing.deepen(height)),
            Input::Expire(_) | Input::Confirmed { .. } | Input::Unconfirmed => {
                Ok(Channel::Closing(closing))
            }
        }
    }

    /// Ends the channel once the spending is final.
    fn deepen(self, tip: u32) -> Channel {
        match self.mined {
            Some(mined) if tip >= mined.height.saturating_add(DEPTH_FINAL.saturating_sub(1)) => {
                let Self { account, cause, settlement, .. } = self;
                Channel::Ended(Ended { account, cause, settlement, mined })
            }
            Some(_) | None => Channel::Closing(self),
        }
    }

    pub(super) fn due(&self) -> Option<Duty> {
        match (&self.settlement, &self.mined) {
            (_, Some(_)) => None,
            (Some(settlement), None) => Some(Duty::Broadcast(settlement.transaction.clone())),
            // A channel that was never served is left to its client's refund.
            (None, None) if self.cause == Cause::Spent && self.account.is_unserved() => None,
            (None, None) => Some(Duty::Settle),
        }
    }

    pub(super) fn txid(&self) -> Option<Txid> {
        let built = self.settlement.as_ref();
        self.mined
            .map(|mined| mined.txid)
            .or_else(|| built.map(|settlement| settlement.transaction.compute_txid()))
    }
}

/// The contract's spending is deep in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The account, with the payment that was settled.
    pub account: Account,
    /// Why the channel closed.
    pub cause: Cause,
    /// The settlement that the gateway built, if any.
    pub settlement: Option<Settlement>,
    /// What spent the contract's output, and where.
    pub mined: Mined,
}

/// Returns the state of a channel that closes.
const fn close(account: Account, cause: Cause) -> Channel {
    Channel::Closing(Closing { account, cause, settlement: None, mined: None })
}

/// Returns the state after the contract's output was spent without the gateway's doing.
fn spent(account: &Account, mined: Mined) -> Channel {
    Channel::Closing(Closing {
        account: account.clone(),
        cause: Cause::Spent,
        settlement: None,
        mined: Some(mined),
    })
}
