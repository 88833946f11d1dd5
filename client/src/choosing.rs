//! Which channel of a server pays: the one in use, one of the file, or another one that is opened. What
//! is replaced is closed, so that its change comes back.

use std::sync::{Arc, Weak};

use farebox_chain::{Chain, Wallet};
use farebox_channel::client::{CannotPay, Purse};
use farebox_channel::message::Offer;
use farebox_channel::{Msat, Sat, Timestamp};
use reqwest::{Method, Url};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::error::PayError;
use crate::gateway::Origin;
use crate::opening::wall;
use crate::paying::{PayingClient, is_one_of, lock};
use crate::record::{Record, Stage};
use crate::till::Till;

/// The problems that tell that a channel is not served any more.
const OVER: [&str; 5] =
    ["channel-closing", "channel-ended", "channel-expiring", "channel-late", "channel-unknown"];
/// The one of them that leaves the client the time to close it.
const EXPIRING: [&str; 1] = ["channel-expiring"];
/// The part of its lifetime, as a divisor, in which a channel may be renewed at most.
const RENEWED_PART: u32 = 3;

impl<B: Chain + Wallet> PayingClient<B> {
    /// Checks a price, and makes sure that there is a channel to pay it with. Tells whether it was
    /// opened for that.
    pub(crate) async fn agree(
        &self,
        origin: &Origin,
        resource: &(Method, Url),
        offer: &Offer,
        may_open: bool,
    ) -> Result<bool, PayError> {
        self.policy.check(offer)?;
        self.approval.price(resource, offer).await?;
        lock(&self.offers).insert(origin.clone(), offer.clone());
        lock(&self.closed).remove(origin);
        // Another one may be on its way that is not needed yet.
        if self.can_pay(origin, offer.price) {
            return Ok(false);
        }
        let opening = self.opening(origin);
        let _opening = opening.lock().await;
        if self.can_pay(origin, offer.price) {
            return Ok(false);
        }
        let resumed = self.resume(origin, offer.price)?;
        let is_new = resumed.is_none();
        let till = match resumed {
            Some(record) => self.till_of(record, true),
            None if may_open => self.till_of(self.open(origin, offer).await?, false),
            None => return Err(PayError::NoChannel(origin.as_str().to_owned())),
        };
        self.use_till(origin, &till);
        if is_new {
            // No other one can pay this price.
            let used_up = self.open_channels(origin)?.into_iter();
            let used_up = used_up.filter(|record| record.outpoint() != till.record().outpoint());
            lock(&self.replaced).extend(used_up.map(|record| self.till_of(record, true)));
            let client = self.clone();
            tokio::spawn(async move { client.close_replaced().await });
        }
        Ok(is_new)
    }

    /// Returns what is held while a channel with a server is opened, so that parallel requests do not
    /// open several.
    fn opening(&self, origin: &Origin) -> Arc<AsyncMutex<()>> {
        Arc::clone(lock(&self.opening).entry(origin.clone()).or_default())
    }

    /// Pays a server through this channel from now on.
    fn use_till(&self, origin: &Origin, till: &Arc<Till>) {
        lock(&self.replaced).retain(|replaced| !Arc::ptr_eq(replaced, till));
        lock(&self.tills).insert(origin.clone(), Arc::clone(till));
    }

    /// Tells whether the channel in use can pay a price.
    pub(crate) fn can_pay(&self, origin: &Origin, price: Msat) -> bool {
        let purse = self.till(origin).and_then(|till| till.purse());
        purse.is_some_and(|purse| purse.left() >= price)
    }

    /// Returns the till of a channel: the one in use, if there is one.
    pub(crate) fn till_of(&self, record: Record, is_resumed: bool) -> Arc<Till> {
        let mut in_use = lock(&self.in_use);
        in_use.retain(|till| till.strong_count() > 0);
        let is_same = |till: &Arc<Till>| till.record().outpoint() == record.outpoint();
        if let Some(till) = in_use.iter().filter_map(Weak::upgrade).find(is_same) {
            return till;
        }
        let till = Arc::new(Till::new(&self.file, self.policy.budgets(), record, is_resumed));
        in_use.push(Arc::downgrade(&till));
        till
    }

    pub(crate) fn till(&self, origin: &Origin) -> Option<Arc<Till>> {
        lock(&self.tills).get(origin).cloned()
    }

    /// Returns a channel of an earlier run that can pay `price`.
    pub(crate) fn resume(&self, origin: &Origin, price: Msat) -> Result<Option<Record>, PayError> {
        let can_pay =
            |record: &Record| matches!(&record.stage, Stage::Open(purse) if purse.left() >= price);
        Ok(self.open_channels(origin)?.into_iter().find(can_pay))
    }

    /// Returns the open channels with a server that have not expired, the newest expiry first.
    pub(crate) fn open_channels(&self, origin: &Origin) -> Result<Vec<Record>, PayError> {
        let now = wall();
        let is_open = |record: &Record| {
            let terms = &record.contract().terms;
            record.origin == origin.as_str()
                && terms.expiry.timestamp() > now
                && matches!(record.stage, Stage::Open(_))
        };
        Ok(self.file.channels()?.into_iter().filter(is_open).collect())
    }

    /// Brings both records of a server's channel together, unless another request has done so
    /// since this one was signed. A channel that the gateway takes no longer is given up.
    pub(crate) async fn bring_in_step(
        &self,
        origin: &Origin,
        till: &Arc<Till>,
        signed_at: u32,
        refused: &PayError,
    ) -> Result<(), PayError> {
        let Some(_turn) = till.turn(signed_at).await else { return Ok(()) };
        match self.resynchronise(till, origin).await {
            Err(error) if is_over(&error) => self.give_up(origin, till, &error).await,
            Err(PayError::Refused { .. } | PayError::NotOpen(..)) if is_over(refused) => {
                self.give_up(origin, till, refused).await
            }
            other => other,
        }
    }

    /// Stops paying through a channel. One that the gateway serves no longer is on record as
    /// closing: its change comes with the settlement, or with the refund.
    pub(crate) async fn give_up(
        &self,
        origin: &Origin,
        till: &Arc<Till>,
        error: &PayError,
    ) -> Result<(), PayError> {
        self.leave(origin, till);
        if !matches!(error, PayError::Refused { .. }) {
            return Ok(());
        }
        // A gateway that closes by itself keeps what is not spent.
        let record = till.record().clone();
        let is_open = matches!(record.stage, Stage::Open(_));
        let is_expiring = is_one_of(error, &EXPIRING);
        if is_open && is_expiring && till.traffic().is_quiet() {
            let _asked_again = self.close_record(record).await;
        }
        let mut record = till.record();
        if let Stage::Open(purse) = &record.stage {
            record.stage = Stage::Closing(purse.clone(), None);
            self.file.save(&record)?;
            if is_expiring {
                lock(&self.replaced).push(Arc::clone(till));
            }
        }
        Ok(())
    }

    /// Pays a server through another channel from now on, unless that is so by now.
    pub(crate) fn leave(&self, origin: &Origin, till: &Arc<Till>) {
        let mut tills = lock(&self.tills);
        if tills.get(origin).is_some_and(|current| Arc::ptr_eq(current, till)) {
            tills.remove(origin);
        }
    }

    /// Closes the channels that were replaced and that nothing passes on any more. What cannot be
    /// closed now is closed later, or settled by the gateway.
    pub(crate) async fn close_replaced(&self) {
        let replaced = std::mem::take(&mut *lock(&self.replaced));
        for till in replaced {
            let is_quiet = till.traffic().is_quiet();
            let record = till.record().clone();
            let is_kept = match is_quiet {
                true => self.close_record(record).await.is_err_and(|error| !is_over(&error)),
                false => true,
            };
            if is_kept {
                lock(&self.replaced).push(till);
            }
        }
    }

    /// Does what is due once a request was answered: opens another channel ahead of time, and closes
    /// what was replaced. No request waits for it.
    pub(crate) fn tidy(&self, origin: &Origin) {
        let is_due = lock(&self.replaced).iter().any(|till| till.traffic().is_quiet());
        if is_due {
            let client = self.clone();
            tokio::spawn(async move { client.close_replaced().await });
        }
        let Some(till) = self.till(origin) else { return };
        let is_due = |offer: &&Offer| self.is_to_renew(&till, offer);
        let offer = lock(&self.offers).get(origin).filter(is_due).cloned();
        let Some(offer) = offer.filter(|_| till.begin_renewal(Instant::now())) else { return };
        let (client, origin) = (self.clone(), origin.clone());
        tokio::spawn(async move {
            // It is tried again later, and at the latest when there is no other way to pay.
            let _tried = client.renew(&origin, &till, &offer).await;
        });
    }

    /// Opens another channel in the place of the one in use.
    async fn renew(
        &self,
        origin: &Origin,
        till: &Arc<Till>,
        offer: &Offer,
    ) -> Result<(), PayError> {
        let opening = self.opening(origin);
        let _opening = opening.lock().await;
        if !self.till(origin).is_some_and(|current| Arc::ptr_eq(&current, till)) {
            return Ok(());
        }
        let opened = self.open(origin, offer).await;
        if matches!(opened, Err(PayError::Declined(_))) {
            till.is_not_to_be_renewed();
        }
        let next = self.till_of(opened?, false);
        if lock(&self.closed).contains(origin) {
            // Nobody wants it any more.
            lock(&self.replaced).push(next);
        } else {
            self.use_till(origin, &next);
            lock(&self.replaced).push(Arc::clone(till));
        }
        self.close_replaced().await;
        Ok(())
    }

    /// Tells whether the channel in use is to be replaced ahead of time.
    fn is_to_renew(&self, till: &Till, offer: &Offer) -> bool {
        let policy = &self.policy;
        let lifetime = policy.lifetime.unwrap_or_else(|| *offer.lifetime.start());
        let lifetime = lifetime.min(policy.lifetime_max).get().checked_div(RENEWED_PART);
        let expiry = till.record().contract().terms.expiry.timestamp();
        // Whatever is offered next, one that was opened just now is not renewed.
        let whole = till.opened_at().map(|opened| expiry.get().saturating_sub(opened.get()));
        let part = whole.and_then(|whole| whole.checked_div(RENEWED_PART.into()));
        let before = u64::from(policy.renew_before.get().min(lifetime.unwrap_or_default()));
        let before = before.min(part.unwrap_or(before));
        let until = Timestamp::new(wall().get().saturating_add(before));
        // A channel that holds no more at first must not be replaced by another one like it.
        let half = |purse: &Purse| purse.contract().capacity.get().div_euclid(2);
        let is_low = till.purse().is_some_and(|purse| {
            let half = Sat::saturating(half(&purse)).to_msat();
            purse.left() < policy.renew_below.min(half)
        });
        is_low || before > 0 && until >= expiry
    }
}

/// Tells whether a channel pays no more, so that another one is needed.
pub(crate) fn is_over(error: &PayError) -> bool {
    match error {
        PayError::CannotPay(CannotPay::Exhausted { .. }) | PayError::NoChannel(_) => true,
        error => is_one_of(error, &OVER),
    }
}
