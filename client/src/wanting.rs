//! Contracts that somebody else pays: the gateway looks out for them, and the client's own node says
//! whether it is true.

use bitcoin::{Address, OutPoint, TxOut};
use farebox_chain::{Chain, ChainError, Wallet};
use farebox_channel::client::Draft;
use farebox_channel::message::{Offer, WatchReply, WatchRequest};
use farebox_channel::{Kind, Payout, Sat};
use tokio::time::{Instant, sleep};

use crate::error::PayError;
use crate::event::Event;
use crate::gateway::{Origin, step};
use crate::opening::{PAUSE, wall};
use crate::paying::PayingClient;
use crate::record::{Record, Stage, Wanted};
use crate::recovery::Recovery;

/// How often it is looked for a payment before somebody is asked to sign another one.
const LOOKS: u32 = 10;
/// For how long after its expiry what pays a contract is looked for.
const KEPT_SECS: u64 = 30 * 24 * 60 * 60;
/// How many blocks a reorg may take away.
const REORG_BLOCKS: u32 = 6;
/// How many blocks are looked at before that is saved.
const BLOCKS: u32 = 100;

/// Who looks out for a contract, and which block is next.
struct Lookout<'a> {
    wanted: &'a Wanted,
    next: u32,
    /// No block below this one pays the contract, but for what was pruned.
    clean: u32,
    /// How much of that is on record.
    noted: u32,
    /// The height of the first block that the node had thrown away before it was looked at.
    pruned: Option<u32>,
    /// What the last block has, and nobody has looked at yet.
    found: Vec<OutPoint>,
    /// Whether the gateway looks out for it too.
    is_watched: bool,
}

impl<B: Chain + Wallet> PayingClient<B> {
    /// Returns what somebody was asked to pay earlier for a server, and may pay yet.
    pub(crate) fn wanted(&self, origin: &Origin) -> Result<Vec<Wanted>, PayError> {
        let now = wall();
        let is_wanted = |wanted: &Wanted| {
            let terms = &wanted.draft.terms;
            wanted.origin == origin.as_str() && terms.expiry.timestamp() > now && !wanted.is_found
        };
        Ok(self.file.wanted()?.into_iter().filter(is_wanted).collect())
    }

    /// Returns the channel of a contract that somebody was asked to pay earlier. Where the wallet is
    /// elsewhere they are asked once more, as long as the gateway would still take it: nobody is asked for
    /// what does not fit its present offer.
    pub(crate) async fn found(
        &self,
        origin: &Origin,
        offer: &Offer,
        wanted: Wanted,
    ) -> Result<Option<Record>, PayError> {
        let mut lookout = self.lookout(&wanted).await?;
        if let Some(seen) = self.seen(origin, &mut lookout).await? {
            return self.take(&wanted, seen).map(Some);
        }
        if !lookout.is_watched || !fits(&wanted.draft, offer) {
            return Ok(None);
        }
        let address = wanted.draft.terms.address();
        let is_paid = |record: &Record| record.contract().terms.address() == address;
        if self.file.channels()?.iter().any(is_paid) {
            // That payment is gone, and whatever replaces it may be on its way. Nobody pays twice.
            return self.wait(origin, lookout).await.map(Some);
        }
        // It may have been paid where our node cannot look any more.
        if !self.node.shows() || lookout.pruned.is_some() {
            return Ok(None);
        }
        if !self.node.asks() {
            // What is to be signed may have been sent all the same, and the gateway looks for it by now.
            for _ in 0..LOOKS {
                sleep(PAUSE).await;
                if let Some(seen) = self.seen(origin, &mut lookout).await? {
                    return self.take(&wanted, seen).map(Some);
                }
            }
        }
        // Change and refunds go where they are wished now.
        let payout = Payout::try_from(&self.node.fresh_address().await?)?;
        let height = lookout.noted;
        let wanted = Wanted { payout, height, ..wanted };
        let record = if self.node.asks() {
            self.ask(origin, wanted).await?
        } else {
            // It is signed for, and sent by this client.
            self.lock(origin, wanted).await?
        };
        Ok(Some(record))
    }

    /// Returns the channel of a contract that somebody has paid, where that is seen now.
    pub(crate) async fn sent(
        &self,
        origin: &Origin,
        wanted: &Wanted,
    ) -> Result<Option<Record>, PayError> {
        if wanted.draft.terms.kind == Kind::Refund {
            return Ok(None);
        }
        let mut lookout = self.lookout(wanted).await?;
        let seen = self.seen(origin, &mut lookout).await?;
        seen.map(|seen| self.take(wanted, seen)).transpose()
    }

    /// Tells whether a contract whose payment is gone was paid by another one.
    pub(crate) async fn is_paid_anew(
        &self,
        origin: &Origin,
        address: &Address,
    ) -> Result<bool, PayError> {
        let mut wanted = self.file.wanted()?.into_iter();
        let Some(wanted) = wanted.find(|wanted| wanted.draft.terms.address() == *address) else {
            return Ok(false);
        };
        let mut lookout = self.lookout(&wanted).await?;
        Ok(self.seen(origin, &mut lookout).await?.is_some())
    }

    /// Asks somebody to pay, and waits until that was done.
    pub(crate) async fn ask(&self, origin: &Origin, wanted: Wanted) -> Result<Record, PayError> {
        let (terms, capacity) = (wanted.draft.terms, wanted.draft.capacity);
        self.keep(&wanted)?;
        self.node.ask(terms.address(), capacity.get());
        self.observer.tell(&Event::Asked(terms, capacity));
        self.wait(origin, self.lookout(&wanted).await?).await
    }

    /// Saves what spends a contract before somebody sees its address: whoever pays may do so once this
    /// client and the gateway are gone. One of kind `refund` needs the gateway's signature besides, so it is
    /// looked for by nobody.
    pub(crate) fn keep(&self, wanted: &Wanted) -> Result<(), PayError> {
        if wanted.draft.terms.kind == Kind::Refund {
            let wanted = Wanted { is_found: true, ..wanted.clone() };
            return self.file.want(&wanted, &self.policy.budgets());
        }
        self.file.want(wanted, &self.policy.budgets())?;
        let exported = Recovery::wanted(wanted).save(&self.file.recovery_folder())?;
        self.observer.tell(&Event::Exported(exported));
        Ok(())
    }

    /// Begins where an earlier run has left off, or where its node had pruned what this one has.
    async fn lookout<'a>(&self, wanted: &'a Wanted) -> Result<Lookout<'a>, PayError> {
        let mut pruned = wanted.pruned;
        if let Some(height) = pruned {
            let oldest = self.node.tip().await?.oldest.unwrap_or_default();
            pruned = pruned.filter(|_| height < oldest);
        }
        let next = match (wanted.pruned, pruned) {
            (Some(height), None) => height,
            _ => wanted.height,
        };
        let (clean, noted, found, is_watched) = (next, next, Vec::new(), true);
        Ok(Lookout { wanted, next, clean, noted, pruned, found, is_watched })
    }

    /// Waits until somebody has paid.
    async fn wait(&self, origin: &Origin, mut lookout: Lookout<'_>) -> Result<Record, PayError> {
        let wanted = lookout.wanted;
        let began = Instant::now();
        while began.elapsed() < self.policy.patience {
            if let Some(seen) = self.seen(origin, &mut lookout).await? {
                return self.take(wanted, seen);
            }
            sleep(PAUSE).await;
        }
        Err(PayError::Unpaid(wanted.draft.terms.address()))
    }

    /// Puts on record what was paid to contracts that have expired, whoever has asked for it and
    /// however often it was paid, so that it is refunded. Returns why not all of it can be looked for, if
    /// so: what the node has pruned.
    pub(crate) async fn take_expired(
        &self,
        median_time_past: u64,
    ) -> Result<Option<ChainError>, PayError> {
        let mut pruned = None;
        for wanted in self.file.wanted()? {
            let expiry = u64::from(wanted.draft.terms.expiry.get());
            // Of kind `refund` nothing but the key is kept.
            if expiry >= median_time_past || wanted.draft.terms.kind == Kind::Refund {
                continue;
            }
            let gap = self.take_all(&wanted).await?;
            // Of what was paid the channel is on record, whatever else there is.
            pruned = pruned.or_else(|| gap.filter(|_| !wanted.is_found));
            if median_time_past > expiry.saturating_add(KEPT_SECS) {
                // The recovery file stays.
                self.file.unwant(&wanted)?;
            }
        }
        let Some(height) = pruned else { return Ok(None) };
        let hash = self.node.block_hash(height).await?;
        Ok(hash.map(|hash| ChainError::Pruned { hash, height }))
    }

    /// Puts on record all that has paid a contract. Returns the height of the first block that cannot be
    /// looked at.
    async fn take_all(&self, wanted: &Wanted) -> Result<Option<u32>, PayError> {
        let mut lookout = self.lookout(wanted).await?;
        while let Some(outpoint) = self.mined(&mut lookout).await? {
            let unspent = self.node.confirmed(outpoint).await?;
            let paid = unspent.map(|unspent| Sat::try_from(unspent.output.value)).transpose()?;
            if let Some(paid) = paid {
                self.take(wanted, (outpoint, paid))?;
            }
        }
        // Whatever was found is on record.
        self.file.looked(&wanted.draft.terms.address(), below(lookout.next), lookout.pruned)?;
        Ok(lookout.pruned)
    }

    /// Returns the output that pays a contract. The gateway tells of one that waits for a block, and
    /// the node whether that is true; one in a block the node finds itself.
    async fn seen(
        &self,
        origin: &Origin,
        lookout: &mut Lookout<'_>,
    ) -> Result<Option<(OutPoint, Sat)>, PayError> {
        let terms = lookout.wanted.draft.terms;
        let request = WatchRequest { client_key: terms.client_key, expiry: terms.expiry };
        let told = match step::<_, WatchReply>(&self.http, origin, &request).await {
            Ok(reply) => reply.seen.map(|(outpoint, _)| outpoint),
            Err(PayError::Refused { .. }) => {
                lookout.is_watched = false;
                None
            }
            Err(PayError::NotNow(_) | PayError::Http(_)) => None,
            Err(error) => return Err(error),
        };
        if let Some(outpoint) = told
            && let Some(seen) = self.verified(lookout.wanted, outpoint).await?
        {
            return Ok(Some(seen));
        }
        while let Some(outpoint) = self.mined(lookout).await? {
            if let Some(seen) = self.verified(lookout.wanted, outpoint).await? {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// Returns an output with its value, if it is there and pays the contract. Less than was asked for
    /// is anybody's, and no channel.
    async fn verified(
        &self,
        wanted: &Wanted,
        outpoint: OutPoint,
    ) -> Result<Option<(OutPoint, Sat)>, PayError> {
        let Draft { terms, capacity, .. } = wanted.draft;
        let unspent = self.node.unspent(outpoint).await?;
        let paid = unspent.and_then(|unspent| terms.check_output(&unspent.output).ok());
        Ok(paid.filter(|paid| *paid >= capacity).map(|paid| (outpoint, paid)))
    }

    /// Returns the next output that pays the contract's address in a block that was not looked at
    /// yet. What a node has pruned is left out, and noted.
    async fn mined(&self, lookout: &mut Lookout<'_>) -> Result<Option<OutPoint>, PayError> {
        let script = lookout.wanted.draft.terms.script_pubkey();
        let pays = |output: &TxOut| output.script_pubkey == script;
        loop {
            if let Some(found) = lookout.found.pop() {
                return Ok(Some(found));
            }
            let Some(hash) = self.node.block_hash(lookout.next).await? else {
                self.note(lookout, 1)?;
                return Ok(None);
            };
            let block = match self.node.block(hash).await {
                Err(ChainError::Pruned { height, .. }) => {
                    lookout.pruned.get_or_insert(height);
                    let oldest = self.node.tip().await?.oldest.unwrap_or_default();
                    let next = lookout.next.saturating_add(1).max(oldest);
                    if lookout.clean == lookout.next {
                        lookout.clean = next;
                    }
                    lookout.next = next;
                    continue;
                }
                block => block?,
            };
            for transaction in block.txdata {
                let outputs = transaction.output.iter().zip(0..).filter(|(output, _)| pays(output));
                let (txid, outputs) = (transaction.compute_txid(), outputs.map(|(_, vout)| vout));
                lookout.found.extend(outputs.map(|vout| OutPoint { txid, vout }));
            }
            let is_clean = lookout.found.is_empty() && lookout.clean == lookout.next;
            lookout.next = lookout.next.saturating_add(1);
            if is_clean {
                lookout.clean = lookout.next;
                self.note(lookout, BLOCKS)?;
            }
        }
    }

    /// Saves how far the chain was looked at, if that is so many blocks further.
    fn note(&self, lookout: &mut Lookout<'_>, blocks: u32) -> Result<(), PayError> {
        let (wanted, height) = (lookout.wanted, below(lookout.clean));
        if height >= lookout.noted.saturating_add(blocks) {
            self.file.looked(&wanted.draft.terms.address(), height, lookout.pruned)?;
            lookout.noted = height;
        }
        Ok(())
    }

    /// Puts a contract on record that was found.
    fn take(
        &self,
        wanted: &Wanted,
        (outpoint, capacity): (OutPoint, Sat),
    ) -> Result<Record, PayError> {
        let Wanted { origin, key, draft, payout, .. } = wanted.clone();
        let held = draft.found(outpoint, capacity, payout)?;
        let record = Record { origin, key, stage: Stage::Held(held) };
        self.file.find(&record)?;
        self.observer.tell(&Event::Funded(outpoint));
        Ok(record)
    }
}

/// Returns where to begin the next time: what a reorg may change is looked at again.
const fn below(height: u32) -> u32 {
    height.saturating_sub(REORG_BLOCKS)
}

/// Tells whether an offer takes a contract.
pub(crate) fn fits(draft: &Draft, offer: &Offer) -> bool {
    offer.network == draft.terms.network
        && offer.kinds.contains(&draft.terms.kind)
        && offer.capacity.contains(&draft.capacity)
        && offer.first_payment <= draft.first_payment
}
