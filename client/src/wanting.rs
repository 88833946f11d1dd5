//! Contracts that somebody else pays: the gateway looks out for them, and the client's own node says
//! whether it is true.

use bitcoin::{OutPoint, TxOut};
use farebox_chain::{Chain, Wallet};
use farebox_channel::message::{WatchReply, WatchRequest};
use farebox_channel::{Kind, Sat};
use tokio::time::{Instant, sleep};

use crate::error::PayError;
use crate::event::Event;
use crate::gateway::{Origin, step};
use crate::opening::{PAUSE, wall};
use crate::paying::PayingClient;
use crate::record::{Record, Stage, Wanted};
use crate::recovery::Recovery;

/// Who looks out for a contract, and which block is next.
struct Lookout<'a> {
    wanted: &'a Wanted,
    next: u32,
}

impl<B: Chain + Wallet> PayingClient<B> {
    /// Returns what somebody was asked to pay earlier for a server, and may pay yet.
    pub(crate) fn wanted(&self, origin: &Origin) -> Result<Vec<Wanted>, PayError> {
        let now = wall();
        let is_wanted = |wanted: &Wanted| {
            let terms = &wanted.draft.terms;
            wanted.origin == origin.as_str()
                && terms.kind == self.policy.kind
                && terms.kind == Kind::Cltv
                && terms.expiry.timestamp() > now
        };
        Ok(self.file.wanted()?.into_iter().filter(is_wanted).collect())
    }

    /// Returns the channel of a contract that somebody was asked to pay earlier. Where the wallet is
    /// elsewhere they are asked once more.
    pub(crate) async fn found(
        &self,
        origin: &Origin,
        wanted: &Wanted,
    ) -> Result<Option<Record>, PayError> {
        let mut lookout = Lookout { wanted, next: wanted.height };
        match self.seen(origin, &mut lookout).await? {
            Some(seen) => self.take(wanted, seen).map(Some),
            None => self.asked(origin, wanted).await,
        }
    }

    /// Asks somebody to pay, where the wallet is elsewhere, and waits until that was done.
    pub(crate) async fn asked(
        &self,
        origin: &Origin,
        wanted: &Wanted,
    ) -> Result<Option<Record>, PayError> {
        let terms = wanted.draft.terms;
        let (address, capacity) = (terms.address(), wanted.draft.capacity);
        if terms.kind != Kind::Cltv {
            return Ok(None);
        }
        // Whoever pays may do so once this client and the gateway are gone.
        let exported = Recovery::wanted(wanted).save(&self.file.recovery_folder())?;
        if !self.node.ask(address.clone(), capacity.get()).await? {
            return Ok(None);
        }
        self.observer.tell(&Event::Exported(exported));
        self.observer.tell(&Event::Asked(terms, capacity));
        let mut lookout = Lookout { wanted, next: wanted.height };
        let deadline = Instant::now() + self.policy.patience;
        while Instant::now() < deadline {
            if let Some(seen) = self.seen(origin, &mut lookout).await? {
                return self.take(wanted, seen).map(Some);
            }
            sleep(PAUSE).await;
        }
        Err(PayError::Unpaid(address))
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
            Err(PayError::NotNow(_) | PayError::Refused { .. } | PayError::Http(_)) => None,
            Err(error) => return Err(error),
        };
        if let Some(outpoint) = told
            && let Some(seen) = self.verified(lookout.wanted, outpoint).await?
        {
            return Ok(Some(seen));
        }
        match self.mined(lookout).await? {
            Some(outpoint) => self.verified(lookout.wanted, outpoint).await,
            None => Ok(None),
        }
    }

    /// Returns an output with its value, if it is there and pays the contract.
    async fn verified(
        &self,
        wanted: &Wanted,
        outpoint: OutPoint,
    ) -> Result<Option<(OutPoint, Sat)>, PayError> {
        let unspent = self.node.unspent(outpoint).await?;
        let check = |output: &TxOut| wanted.draft.terms.check_output(output).ok();
        let capacity = unspent.and_then(|unspent| check(&unspent.output));
        Ok(capacity.map(|capacity| (outpoint, capacity)))
    }

    /// Looks for the contract in the blocks that were not looked at yet.
    async fn mined(&self, lookout: &mut Lookout<'_>) -> Result<Option<OutPoint>, PayError> {
        let script = lookout.wanted.draft.terms.script_pubkey();
        while let Some(hash) = self.node.block_hash(lookout.next).await? {
            for transaction in self.node.block(hash).await?.txdata {
                let pays = |output: &TxOut| output.script_pubkey == script;
                if let Some(index) = transaction.output.iter().position(pays) {
                    let vout = u32::try_from(index).unwrap_or(u32::MAX);
                    return Ok(Some(OutPoint { txid: transaction.compute_txid(), vout }));
                }
            }
            lookout.next = lookout.next.saturating_add(1);
        }
        Ok(None)
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
        self.file.save(&record)?;
        self.observer.tell(&Event::Funded(outpoint));
        Ok(record)
    }
}
