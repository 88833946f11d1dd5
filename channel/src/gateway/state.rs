//! The states of a channel. Each holds only what is true in it.

use std::sync::Arc;

use bitcoin::Txid;

use super::{Account, Cause, Channel, DEPTH_FINAL, Input, Mined, Refusal, Rules};
use crate::settlement::Settlement;
use crate::units::{Clock, Msat, Timestamp};

/// The contract is not confirmed enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The account, with the first payment.
    pub account: Account,
    /// The height of the contract's block, if it is in one.
    pub height: Option<u32>,
}

impl Pending {
    pub(super) fn handle(
        &self,
        clock: Clock,
        rules: &Rules,
        input: Input,
    ) -> Result<Channel, Refusal> {
        let (account, height) = (&self.account, self.height);
        let with = |account| Channel::Pending(Self { account, height });
        match input {
            // A newer payment may come with the contract shown again, but nothing is served.
            Input::Pay { payment, price: Msat::ZERO } => {
                Ok(with(account.pay(payment, Msat::ZERO, clock.now())?))
            }
            Input::Pay { .. } | Input::Repeat(_) | Input::Close(_) => Err(Refusal::Pending),
            Input::Seen(coins) if self.is_trusted(clock, rules) => {
                let account = Account { coins: coins.into(), ..account.clone() };
                Ok(Channel::Open(Open { account, height: None }))
            }
            Input::Confirmed { height, confirmations } => {
                Ok(self.confirmed(height, confirmations, clock, rules))
            }
            Input::Unconfirmed => {
                Ok(Channel::Pending(Self { account: account.clone(), height: None }))
            }
            Input::Release { charge } => Ok(with(account.release(charge))),
            // An operator closes what is open, and gives nothing up that could still open.
            Input::Expire(Cause::Operator) => Err(Refusal::Pending),
            // One from before a restore may have been served, so it is settled if that is possible.
            Input::Expire(_)
                if account.is_unserved() || (height.is_none() && account.spent == Msat::ZERO) =>
            {
                Ok(Channel::Late(Late { account: account.clone(), height }))
            }
            // It was served before a reorg, a restore or a double-spend took its contract away.
            Input::Expire(cause) => Ok(close(account.clone(), height, cause, clock)),
            Input::Spent(mined) => Ok(spent(account, height, mined, clock)),
            Input::Seen(_)
            | Input::Settle(_)
            | Input::Withdraw
            | Input::WriteOff
            | Input::Unspent
            | Input::Deepened { .. } => Ok(Channel::Pending(self.clone())),
        }
    }

    fn confirmed(&self, height: u32, confirmations: u32, clock: Clock, rules: &Rules) -> Channel {
        if confirmations < rules.confirmations || self.waits(height, confirmations, rules) {
            return Channel::Pending(Self { height: Some(height), ..self.clone() });
        }
        let account = self.account.confirmed(height, rules);
        let height = Some(height);
        if !rules.is_stopped(account.contract.terms.expiry, clock.now()) {
            return Channel::Open(Open { account, height });
        }
        if account.is_unserved() {
            return Channel::Late(Late { account, height });
        }
        // It was served before a reorg or a restore took its contract away for so long.
        close(account, height, Cause::Expiring, clock)
    }

    /// Tells whether the contract may be served as soon as it is in the mempool. One that has left
    /// it again must be mined first.
    fn is_trusted(&self, clock: Clock, rules: &Rules) -> bool {
        let Account { contract, is_stale, spent, .. } = &self.account;
        let is_first = self.height.is_none() && !is_stale && *spent == Msat::ZERO;
        let is_offered = rules.confirmations == 0 && rules.unconfirmed.is_some();
        is_first && is_offered && !rules.is_stopped(contract.terms.expiry, clock.now())
    }

    /// A contract that never confirms is given up when payments would stop; one that may have been
    /// served is looked for until its expiry. Once that one is in a block again it is settled at its
    /// mark, however many confirmations it lacks to be served.
    pub(super) fn mark(&self, rules: &Rules) -> Timestamp {
        let expiry = self.account.contract.terms.expiry;
        match (self.account.is_unserved(), self.height) {
            (true, _) => expiry.before(rules.stop),
            (false, Some(_)) => rules.closes_at(expiry),
            (false, None) => expiry.timestamp(),
        }
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
    pub(super) fn handle(&self, clock: Clock, input: Input) -> Result<Channel, Refusal> {
        match input {
            Input::Pay { .. }
            | Input::Repeat(_)
            | Input::Close(_)
            | Input::Expire(Cause::Operator) => Err(Refusal::Late),
            Input::Unconfirmed if self.height.is_some() => {
                Ok(Channel::Pending(Pending { account: self.account.clone(), height: None }))
            }
            Input::Confirmed { height, .. } => {
                Ok(Channel::Late(Self { height: Some(height), ..self.clone() }))
            }
            Input::Spent(mined) => Ok(spent(&self.account, self.height, mined, clock)),
            Input::Release { .. }
            | Input::Expire(_)
            | Input::Seen(_)
            | Input::Unconfirmed
            | Input::Settle(_)
            | Input::Withdraw
            | Input::WriteOff
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
    /// The height of the contract's block, or nothing while it is served on trust: its contract is
    /// in the mempool only.
    pub height: Option<u32>,
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
                Ok(with(account.catch_up(payment, clock.now())?))
            }
            Input::Pay { .. } | Input::Repeat(_) if account.is_stale => Err(Refusal::Stale),
            Input::Pay { .. } | Input::Repeat(_)
                if rules.is_stopped(account.contract.terms.expiry, clock.now()) =>
            {
                Err(Refusal::Expiring)
            }
            Input::Pay { payment, price } => {
                let paid = account.pay(payment, price, clock.now())?;
                if self.height.is_none() && !paid.is_within_trust(rules) {
                    return Err(Refusal::Pending);
                }
                Ok(with(paid))
            }
            Input::Repeat(payment) => Ok(with(account.pay(payment, Msat::ZERO, clock.now())?)),
            Input::Release { charge } => Ok(with(account.release(charge))),
            Input::Close(payment) => {
                Ok(close(account.conclude(payment)?, self.height, Cause::Client, clock))
            }
            Input::Expire(cause) => Ok(close(account.clone(), self.height, cause, clock)),
            Input::Confirmed { height, .. } => {
                Ok(Channel::Open(Self { height: Some(height), ..self.clone() }))
            }
            Input::Unconfirmed => {
                Ok(Channel::Pending(Pending { account: account.clone(), height: None }))
            }
            Input::Spent(mined) => Ok(spent(account, self.height, mined, clock)),
            Input::Seen(_)
            | Input::Settle(_)
            | Input::Withdraw
            | Input::WriteOff
            | Input::Unspent
            | Input::Deepened { .. } => Ok(Channel::Open(self.clone())),
        }
    }

    /// Returns when the channel is to be closed, whatever is left on it.
    pub(super) fn mark(&self, rules: &Rules) -> Timestamp {
        let expiring = rules.closes_at(self.account.contract.terms.expiry);
        let idle = rules.settling.idle.map(|idle| self.account.used_at.after(idle));
        idle.map_or(expiring, |idle| idle.min(expiring))
    }

    /// Returns why the channel is to be closed now, if it is.
    ///
    /// Near its expiry that is the cause, whatever else there is: an exhausted or idle channel waits
    /// for requests that are under way, but a client that never ends a request must not keep its
    /// channel open until its refund is valid.
    pub(super) fn due(&self, now: Timestamp, rules: &Rules) -> Option<Cause> {
        if now >= rules.closes_at(self.account.contract.terms.expiry) {
            return Some(Cause::Expiring);
        }
        if self.account.last_credit().is_some_and(|credit| credit < rules.cheapest) {
            return Some(Cause::Exhausted);
        }
        (now >= self.mark(rules)).then_some(Cause::Idle)
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
    /// Since when.
    pub since: Timestamp,
    /// The height of the contract's block, if it is in one.
    pub height: Option<u32>,
    /// The newest settlement, once one is built. All channels that it settles share it.
    pub settlement: Option<Arc<Settlement>>,
    /// Where the contract's output was spent, once it was.
    pub mined: Option<Mined>,
    /// Whether it was given up: a settlement would have cost more than it brings, or the contract
    /// was not in a block when it expired.
    pub is_written_off: bool,
}

impl Closing {
    pub(super) fn handle(&self, input: Input) -> Result<Channel, Refusal> {
        let closing = self.clone();
        let closing = match input {
            // What is settled is signed already, so no charge can be taken back any more.
            Input::Pay { .. } | Input::Repeat(_) | Input::Close(_) | Input::Release { .. } => {
                return Err(Refusal::Closing);
            }
            Input::Settle(settlement) if self.takes(&settlement) => {
                Self { settlement: Some(settlement), ..closing }
            }
            Input::Withdraw if self.mined.is_none() => Self { settlement: None, ..closing },
            Input::WriteOff if self.mined.is_none() => {
                Self { is_written_off: true, settlement: None, ..closing }
            }
            // A contract that is mined after it was given up as lost can be settled after all.
            Input::Confirmed { height, .. } if self.height.is_none() => {
                Self { height: Some(height), is_written_off: false, ..closing }
            }
            Input::Unconfirmed => Self { height: None, ..closing },
            Input::Spent(mined) => closing.spent(mined),
            Input::Unspent => Self { mined: None, ..closing },
            Input::Deepened { height } => return Ok(closing.deepen(height)),
            Input::Expire(_)
            | Input::Seen(_)
            | Input::Confirmed { .. }
            | Input::Settle(_)
            | Input::Withdraw
            | Input::WriteOff => closing,
        };
        Ok(Channel::Closing(closing))
    }

    /// Tells whether a settlement is this channel's. Once one is mined, no other is.
    fn takes(&self, settlement: &Settlement) -> bool {
        let is_mined = |mined: Mined| mined.txid == settlement.txid();
        self.mined.is_none_or(is_mined)
            && settlement.members().any(|member| member == self.account.contract.outpoint)
    }

    /// Notes what has spent the contract. Another settlement than that one is worth nothing then.
    fn spent(self, mined: Mined) -> Self {
        let settlement = self.settlement.filter(|settlement| settlement.txid() == mined.txid);
        Self { mined: Some(mined), settlement, ..self }
    }

    /// Tells whether a settlement is to be built or brought into a block.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        // A channel that was never served is left to its client's refund.
        let is_left = self.cause == Cause::Spent && self.account.is_unserved();
        self.mined.is_none() && !self.is_written_off && !is_left
    }

    /// Ends the channel once the spending is final.
    fn deepen(self, tip: u32) -> Channel {
        match self.mined {
            Some(mined) if tip >= mined.height.saturating_add(DEPTH_FINAL.saturating_sub(1)) => {
                let Self { account, cause, since, height, settlement, .. } = self;
                Channel::Ended(Ended { account, cause, since, height, settlement, mined })
            }
            Some(_) | None => Channel::Closing(self),
        }
    }

    pub(super) fn txid(&self) -> Option<Txid> {
        let built = self.settlement.as_ref();
        self.mined.map(|mined| mined.txid).or_else(|| built.map(|settlement| settlement.txid()))
    }
}

/// The contract's spending is deep in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The account, with the payment that was settled.
    pub account: Account,
    /// Why the channel closed.
    pub cause: Cause,
    /// Since when.
    pub since: Timestamp,
    /// The height of the contract's block, if it was in one.
    pub height: Option<u32>,
    /// The settlement that was mined, if it was one.
    pub settlement: Option<Arc<Settlement>>,
    /// What spent the contract's output, and where.
    pub mined: Mined,
}

impl Ended {
    pub(super) fn handle(&self, input: Input) -> Result<Channel, Refusal> {
        match input {
            Input::Pay { .. } | Input::Repeat(_) | Input::Close(_) | Input::Release { .. } => {
                Err(Refusal::Ended)
            }
            // A reorg that was deeper than what counts as final.
            Input::Unspent => {
                let Self { account, cause, since, height, settlement, .. } = self.clone();
                let (mined, is_written_off) = (None, false);
                let closing =
                    Closing { account, cause, since, height, settlement, mined, is_written_off };
                Ok(Channel::Closing(closing))
            }
            Input::Expire(_)
            | Input::Seen(_)
            | Input::Confirmed { .. }
            | Input::Unconfirmed
            | Input::Settle(_)
            | Input::Withdraw
            | Input::WriteOff
            | Input::Spent(_)
            | Input::Deepened { .. } => Ok(Channel::Ended(self.clone())),
        }
    }
}

/// Returns the state of a channel that closes.
fn close(account: Account, height: Option<u32>, cause: Cause, clock: Clock) -> Channel {
    Channel::Closing(closing(account, height, cause, clock))
}

/// Returns the state after the contract's output was spent without the gateway's doing.
fn spent(account: &Account, height: Option<u32>, mined: Mined, clock: Clock) -> Channel {
    Channel::Closing(closing(account.clone(), height, Cause::Spent, clock).spent(mined))
}

fn closing(account: Account, height: Option<u32>, cause: Cause, clock: Clock) -> Closing {
    let since = clock.now();
    let (settlement, mined, is_written_off) = (None, None, false);
    Closing { account, cause, since, height, settlement, mined, is_written_off }
}
