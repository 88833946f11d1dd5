//! Opening a channel: each step is saved before the next one is sent.

use std::time::Duration;

use bitcoin::FeeRate;
use bitcoin::consensus::encode::serialize;
use farebox_chain::{Chain, ChainError, Wallet};
use farebox_channel::client::{Draft, Funded, Held, Purse};
use farebox_channel::message::{Offer, RefundReply, StateName, StateReply, TermsReply};
use farebox_channel::wire::PROBLEM_PREFIX;
use farebox_channel::{Clock, Kind, Payout, Timestamp};
use secp256k1::SecretKey;
use tokio::time::{Instant, sleep};

use crate::approval::Proposal;
use crate::error::{Limit, PayError};
use crate::event::Event;
use crate::gateway::{Origin, step};
use crate::paying::{PayingClient, is_one_of};
use crate::record::{Record, Stage, Wanted};
use crate::recovery::Recovery;

/// The greatest contract transaction that fits a header field next to all else, in bytes.
const SHOWN_LEN_MAX: usize = 4_000;
/// The problems that say nothing of the contract itself. All others tell that it will not be served.
const ASIDE: [&str; 8] = [
    "bad-path",
    "malformed",
    "method-not-allowed",
    "not-found",
    "request-timeout",
    "signature-invalid",
    "too-many-requests",
    "upstream-unavailable",
];
/// The problems of a contract that may be due to a node which is behind.
pub(crate) const BEHIND: [&str; 2] = ["contract-not-final", "contract-spent"];
/// How long to wait before the contract is shown again.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);
/// For how long the gateway's node may know less than ours.
const NODES_DIFFER: Duration = Duration::from_secs(30);
/// How often a wallet may replace its payment, each time after it was seen.
const REPLACEMENTS_MAX: usize = 10;
/// The blocks in which the contract shall be mined.
const BLOCKS: u16 = 6;

impl<B: Chain + Wallet> PayingClient<B> {
    /// Opens a channel with a server, or goes on where an earlier attempt was cut off.
    pub(crate) async fn open(&self, origin: &Origin, offer: &Offer) -> Result<Record, PayError> {
        for begun in self.begun(origin)? {
            if let Stage::Funded(funded) = &begun.stage {
                match self.node.reserve(funded.transaction.clone()).await {
                    // The run that was cut off may have come so far.
                    Ok(()) | Err(ChainError::Refused { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if let Some(open) = self.go_on(origin, offer, begun).await? {
                return Ok(open);
            }
        }
        for wanted in self.wanted(origin)? {
            if let Some(record) = self.found(origin, offer, wanted).await?
                && let Some(open) = self.go_on(origin, offer, record).await?
            {
                return Ok(open);
            }
        }
        let record = self.fund(origin, offer).await?;
        self.carry_on(origin, offer, record).await
    }

    /// Goes on with a contract of an earlier attempt. Returns nothing where it is refused for good: then
    /// its refund is on record, and another one is opened.
    async fn go_on(
        &self,
        origin: &Origin,
        offer: &Offer,
        record: Record,
    ) -> Result<Option<Record>, PayError> {
        let outpoint = record.outpoint();
        match self.carry_on(origin, offer, record).await {
            Err(error) if is_gone(&error) && !self.file.may_be_shown(&outpoint)? => Ok(None),
            other => other.map(Some),
        }
    }

    /// Takes a contract as far as an open channel, or the one that a wallet has paid in its place.
    async fn carry_on(
        &self,
        origin: &Origin,
        offer: &Offer,
        mut record: Record,
    ) -> Result<Record, PayError> {
        for _ in 0..REPLACEMENTS_MAX {
            let address = record.contract().terms.address();
            let gone = match self.proceed(origin, record).await {
                Err(gone) if is_gone(&gone) => gone,
                other => return other,
            };
            // It is looked for again where its payment is lost.
            let mut wanted = self.wanted(origin)?.into_iter();
            let wanted = wanted.find(|wanted| wanted.draft.terms.address() == address);
            let Some(wanted) = wanted else { return Err(gone) };
            record = self.found(origin, offer, wanted).await?.ok_or(gone)?;
        }
        Err(PayError::Unconfirmed(record.outpoint()))
    }

    /// Returns the channels whose opening was cut off.
    pub(crate) fn begun(&self, origin: &Origin) -> Result<Vec<Record>, PayError> {
        let now = wall();
        let is_begun = |record: &Record| {
            record.origin == origin.as_str()
                && record.contract().terms.expiry.timestamp() > now
                && matches!(record.stage, Stage::Funded(_) | Stage::Held(_))
        };
        let mut begun = Vec::new();
        for record in self.file.channels()?.into_iter().filter(is_begun) {
            if self.file.may_be_shown(&record.outpoint())? {
                begun.push(record);
            }
        }
        Ok(begun)
    }

    /// Takes a contract that nobody has seen as far as an open channel.
    async fn proceed(&self, origin: &Origin, mut record: Record) -> Result<Record, PayError> {
        if let Stage::Funded(funded) = record.stage {
            let held = match self.hold(origin, funded.clone()).await {
                Ok(held) => held,
                Err(error @ (PayError::Refused { .. } | PayError::Refund(_))) => {
                    // Nobody has seen the contract, so its coins are free again, where they are.
                    if self.node.release(funded.transaction).await.is_ok() {
                        self.file.forget(&funded.contract.outpoint)?;
                    }
                    return Err(error);
                }
                Err(error) => return Err(error),
            };
            record.stage = Stage::Held(held);
            self.file.save(&record)?;
            let rate = self.policy.fee_rate_fallback;
            self.observer.tell(&Event::RefundHeld(record.refund_transaction(rate)?));
        }
        if let Stage::Held(held) = &record.stage {
            let exported = Recovery::of(&record)?.save(&self.file.recovery_folder())?;
            self.observer.tell(&Event::Exported(exported));
            self.file.reserve(&record, &self.policy.budgets(), wall())?;
            match self.show(origin, held, &record.key).await {
                Err(error) if is_gone(&error) => {
                    self.give_up_contract(origin, &record, held, &error).await?;
                    return Err(error);
                }
                shown => record.stage = Stage::Open(shown?),
            }
            self.file.save(&record)?;
        }
        Ok(record)
    }

    /// Agrees on terms and builds the contract. Nobody sees it yet.
    async fn fund(&self, origin: &Origin, offer: &Offer) -> Result<Record, PayError> {
        let clock = self.clock().await?;
        let key = random_key()?;
        let limits = self.policy.limits(offer, self.node.tip().await?.network)?;
        self.check_openings(origin)?;
        // The request that the channel is opened for is paid at once.
        let least = offer.first_payment.max(offer.price.to_sat_ceil());
        self.file.check_budgets(origin.as_str(), least, &self.policy.budgets())?;
        let request = limits.request(offer, &key)?;
        let reply: TermsReply = step(&self.http, origin, &request).await?;
        let draft = Draft::accept(offer, &request, &reply, clock)?;
        let (capacity, first_payment) = (draft.capacity, draft.first_payment);
        self.observer.tell(&Event::Agreed { terms: draft.terms, capacity, first_payment });
        self.approval.ask(proposal(origin, &draft, offer)).await?;
        let payout = Payout::try_from(&self.node.fresh_address().await?)?;
        let (origin_name, height) = (origin.as_str().to_owned(), self.node.tip().await?.height);
        let (is_found, pruned) = (false, None);
        let wanted = Wanted { origin: origin_name, key, draft, payout, height, is_found, pruned };
        if wanted.draft.terms.kind == Kind::Cltv && self.node.asks() {
            return self.ask(origin, wanted).await;
        }
        self.lock(origin, wanted).await
    }

    /// Builds the contract that was agreed on. Nobody sees it yet.
    pub(crate) async fn lock(&self, origin: &Origin, wanted: Wanted) -> Result<Record, PayError> {
        if self.node.shows() {
            self.keep(&wanted)?;
        }
        let (terms, capacity) = (wanted.draft.terms, wanted.draft.capacity);
        let script = terms.script_pubkey();
        let rate = self.fee_rate().await?;
        // Two openings at a time would choose the same coins.
        let _choosing = self.funding.lock().await;
        let transaction = self.node.fund(script, capacity.get(), rate).await?;
        // Whoever was asked to sign may have sent another one by now.
        if self.node.shows()
            && let Some(record) = self.sent(origin, &wanted).await?
        {
            return Ok(record);
        }
        let Wanted { origin, key, draft, payout, .. } = wanted;
        let funded = match draft.fund(transaction.clone(), payout) {
            Ok(funded) => funded,
            Err(error) => {
                let _elsewhere = self.node.release(transaction).await;
                return Err(error.into());
            }
        };
        self.observer.tell(&Event::Funded(funded.contract.outpoint));
        let record = Record { origin, key, stage: Stage::Funded(funded) };
        // It counts once.
        self.file.set_found(&terms.address(), true)?;
        let saved = self.file.save_within(&record, &self.policy.budgets(), wall(), None);
        if let Err(PayError::Limit(limit)) = saved {
            let _elsewhere = self.node.release(transaction).await;
            return Err(limit.into());
        }
        saved?;
        match self.node.reserve(transaction).await {
            // Another payment of the wallet was quicker.
            Err(error @ ChainError::Refused { .. }) => {
                self.file.forget(&record.outpoint())?;
                Err(error.into())
            }
            Err(error) => Err(error.into()),
            Ok(()) => Ok(record),
        }
    }

    /// Checks whether another channel may be opened with a server today.
    pub(crate) fn check_openings(&self, origin: &Origin) -> Result<(), PayError> {
        let most = self.policy.openings_max;
        let is_within = self.file.opened(origin.as_str(), wall())? < most;
        if is_within { Ok(()) } else { Err(Limit::Openings(most).into()) }
    }

    /// Has the gateway sign the refund, where the kind of contract needs it.
    async fn hold(&self, origin: &Origin, funded: Funded) -> Result<Held, PayError> {
        let signature = match funded.refund_request() {
            Some(request) => {
                let reply: RefundReply = step(&self.http, origin, &request).await?;
                Some(reply.signature)
            }
            None => None,
        };
        Ok(funded.hold(signature)?)
    }

    /// Shows the contract until the channel is open. What somebody has paid has to stay where our own node
    /// has seen it: a wallet may replace its payment by a dearer one.
    async fn show(&self, origin: &Origin, held: &Held, key: &SecretKey) -> Result<Purse, PayError> {
        let (mut held, is_elsewhere) = (held.clone(), held.transaction.is_none());
        // What does not fit a header field is broadcast here and shown by its outpoint.
        if let Some(contract) = held.transaction.take_if(|tx| serialize(tx).len() > SHOWN_LEN_MAX) {
            self.node.broadcast(contract).await?;
        }
        let shown = held.show(key)?;
        let began = Instant::now();
        let is_patient = || began.elapsed() < self.policy.patience;
        let (mut last, mut counted, mut away_since) = (None, 0, None);
        loop {
            let reply: StateReply = match step(&self.http, origin, &shown).await {
                Err(error) if is_passing(&error, began) && is_patient() => {
                    sleep(PAUSE).await;
                    continue;
                }
                reply => reply?,
            };
            if last.replace(reply.state) != Some(reply.state) {
                self.observer.tell(&Event::Shown(shown.outpoint, reply.state));
            }
            if reply.state == StateName::Open {
                return Ok(held.open(&shown, &reply));
            }
            if reply.state != StateName::Pending {
                return Err(PayError::NotOpen(shown.outpoint, reply.state));
            }
            if !is_patient() {
                return Err(PayError::Unconfirmed(shown.outpoint));
            }
            // Whoever watches is told what the client's own node says, if it says anything.
            let seen = self.node.unspent(shown.outpoint).await;
            if is_elsewhere && matches!(seen, Ok(None)) {
                let since: &mut Instant = away_since.get_or_insert_with(Instant::now);
                if since.elapsed() > NODES_DIFFER {
                    return Err(PayError::NotOpen(shown.outpoint, reply.state));
                }
            } else {
                away_since = None;
            }
            let confirmations = seen.ok().flatten().map_or(0, |unspent| unspent.confirmations);
            if confirmations > counted {
                counted = confirmations;
                self.observer.tell(&Event::Confirmed(shown.outpoint, counted));
            }
            sleep(PAUSE).await;
        }
    }

    pub(crate) async fn fee_rate(&self) -> Result<FeeRate, PayError> {
        let least = self.node.relay_policy().await?.least;
        let estimate = self.node.fee_rate(BLOCKS).await?;
        Ok(estimate.unwrap_or(self.policy.fee_rate_fallback).max(least))
    }

    /// Returns the time as the client's own node and machine tell it.
    async fn clock(&self) -> Result<Clock, PayError> {
        let tip = self.node.tip().await?;
        let median_time_past = Timestamp::new(tip.median_time_past);
        Ok(Clock { median_time_past, wall: wall() })
    }
}

/// Returns what somebody is asked before coins are locked.
fn proposal(origin: &Origin, draft: &Draft, offer: &Offer) -> Proposal {
    let Draft { terms, capacity, first_payment } = *draft;
    let (origin, confirmations, price) =
        (origin.as_str().to_owned(), offer.confirmations, offer.price);
    Proposal::Channel { origin, terms, capacity, first_payment, confirmations, price }
}

/// Tells whether the refusal of a contract may pass: where the gateway, or what is before it, is busy, or
/// where its node has not seen what ours has.
fn is_passing(error: &PayError, began: Instant) -> bool {
    match error {
        PayError::NotNow(_) | PayError::Http(_) => true,
        PayError::Refused { kind, .. } if !kind.starts_with(PROBLEM_PREFIX) => true,
        error if is_one_of(error, &["too-many-requests"]) => true,
        error => is_one_of(error, &BEHIND) && began.elapsed() < NODES_DIFFER,
    }
}

/// Tells whether a contract will not be served.
fn is_gone(error: &PayError) -> bool {
    match error {
        PayError::NotOpen(..) => true,
        PayError::Refused { kind, .. } => {
            kind.starts_with(PROBLEM_PREFIX) && !is_one_of(error, &ASIDE)
        }
        _ => false,
    }
}

/// Returns the machine's time.
pub(crate) fn wall() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::new(since.map_or(0, |since| since.as_secs()))
}

/// Makes a key that no other channel has.
pub(crate) fn random_key() -> Result<SecretKey, PayError> {
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(PayError::Random)?;
        // All but one in 2^128 of all strings of 32 bytes are keys.
        if let Ok(key) = SecretKey::from_slice(&bytes) {
            return Ok(key);
        }
    }
}
