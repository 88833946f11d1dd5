//! Closing a channel: for what is spent, so that unspent credit comes back.

use bitcoin::OutPoint;
use farebox_chain::{Chain, Wallet};
use farebox_channel::Place;
use farebox_channel::client::Purse;
use farebox_channel::message::{CloseRequest, Receipt, StateName, StateReply, StatusSubject};
use reqwest::Url;

use crate::error::PayError;
use crate::event::Event;
use crate::gateway::{Origin, step};
use crate::opening::wall;
use crate::paying::{PayingClient, is_one_of, lock};
use crate::record::{Record, Stage};
use crate::till::Till;

/// The problem that tells of a final payment which the gateway does not take.
const OUT_OF_BOUNDS: &str = "final-out-of-bounds";

impl<B: Chain + Wallet> PayingClient<B> {
    /// Closes the channels with a server for what is spent, and those whose close was cut off. The
    /// change comes with the settlements. Returns the answer for the one in use. There are several
    /// after one was renewed.
    ///
    /// # Errors
    /// [`PayError`] when there is none, or the gateway does not answer or refuses one of them.
    pub async fn close(&self, url: &str) -> Result<StateReply, PayError> {
        let url = Url::parse(url).map_err(|_| PayError::NoHost(url.to_owned()))?;
        let origin = Origin::of(&url)?;
        lock(&self.closed).insert(origin.clone());
        let now = wall();
        let is_ours = |record: &Record| {
            let terms = &record.contract().terms;
            record.origin == origin.as_str()
                && terms.expiry.timestamp() > now
                && matches!(record.stage, Stage::Open(_) | Stage::Closing(..))
        };
        let mut ours: Vec<_> = self.file.channels()?.into_iter().filter(is_ours).collect();
        // Of one whose settlement was told the close was heard.
        let is_told = |record: &Record| matches!(record.stage, Stage::Closing(_, Some(_)));
        if ours.iter().all(is_told) {
            ours.truncate(1);
        } else {
            ours.retain(|record| !is_told(record));
        }
        let used = self.till(&origin).map(|till| till.record().outpoint());
        let is_open = |record: &Record| matches!(record.stage, Stage::Open(_));
        ours.sort_by_key(|record| (Some(record.outpoint()) != used, !is_open(record)));
        let mut closed = Vec::new();
        for record in ours {
            let was_open = is_open(&record);
            let reply = self.close_record(record).await;
            // What was cut off may have been heard, and then nothing is left to be closed.
            if was_open || closed.is_empty() {
                closed.push(reply);
            }
        }
        let replies = closed.into_iter().collect::<Result<Vec<_>, _>>()?;
        let first = replies.into_iter().next();
        first.ok_or_else(|| PayError::NoChannel(origin.as_str().to_owned()))
    }

    /// Closes one channel of the file for what is spent.
    ///
    /// # Errors
    /// [`PayError`] when it is not open, or the gateway does not answer or refuses. A refusal
    /// leaves the channel open.
    pub async fn close_channel(&self, channel: OutPoint) -> Result<StateReply, PayError> {
        let no_channel = || PayError::NoChannel(channel.to_string());
        let record = self.file.channels()?.into_iter().find(|record| record.outpoint() == channel);
        self.close_record(record.ok_or_else(no_channel)?).await
    }

    /// Closes a channel for what is spent, and pays with it no more.
    pub(crate) async fn close_record(&self, record: Record) -> Result<StateReply, PayError> {
        let channel = record.outpoint();
        let url =
            Url::parse(&record.origin).map_err(|_| PayError::NoHost(record.origin.clone()))?;
        let origin = Origin::of(&url)?;
        // Requests that are under way may still change the account of the till.
        let till = self.till_of(record, true);
        self.leave(&origin, &till);
        let closing = Closing::begin(&till);
        let closed = self.close_for_what_is_spent(&till, &origin).await;
        drop(closing);
        let reply = closed?;
        self.observer.tell(&Event::Closing(channel, reply.settlement));
        Ok(reply)
    }

    async fn close_for_what_is_spent(
        &self,
        till: &Till,
        origin: &Origin,
    ) -> Result<StateReply, PayError> {
        self.ask_what_is_spent(till, origin).await?;
        match self.close_till(till, origin).await {
            // One of the two records is old. What the gateway counts as spent it would take with
            // a close of its own too, as long as it is signed.
            Err(error) if is_one_of(&error, &[OUT_OF_BOUNDS]) => {
                till.reopen()?;
                self.resynchronise(till, origin).await?;
                // An answer that runs may have drawn more meanwhile.
                self.ask_what_is_spent(till, origin).await?;
                self.close_till(till, origin).await
            }
            reply => reply,
        }
    }

    /// Asks for the close. A refusal leaves the channel as it is.
    async fn close_till(&self, till: &Till, origin: &Origin) -> Result<StateReply, PayError> {
        let before = till.record().stage.clone();
        let (purse, request) = self.sign_close(till, origin)?;
        let answered = step::<_, StateReply>(&self.http, origin, &request).await;
        let mut record = till.record();
        record.stage = match &answered {
            Ok(reply) => Stage::Closing(purse, reply.settlement),
            Err(PayError::Refused { .. }) => before,
            Err(_) => return answered,
        };
        self.file.save(&record)?;
        answered
    }

    /// Asks the gateway what it has charged. It may be less than was agreed to, when an answer
    /// was lost or broke off; more is not believed.
    async fn ask_what_is_spent(&self, till: &Till, origin: &Origin) -> Result<(), PayError> {
        let record = till.record().clone();
        let (Stage::Open(own) | Stage::Closing(own, None)) = &record.stage else { return Ok(()) };
        let subject = StatusSubject::Channel(record.outpoint());
        let network = record.contract().terms.network;
        let told = match self.status(origin, subject, network, &record.key).await {
            Ok(told) => told,
            // The close says for itself what is wrong.
            Err(PayError::Refused { .. } | PayError::NotNow(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        // A gateway that looks the contract up may count more as spent once it has found it.
        let told = told.into_iter().find(|told| told.state != StateName::Pending);
        let Some(told) = told else { return Ok(()) };
        // A close that was heard is not for less the next time.
        let is_open = matches!(record.stage, Stage::Open(_));
        if told.payment.paid >= own.payment.paid && (is_open || told.state == StateName::Open) {
            return till.charged(told.spent);
        }
        if !is_open {
            return Ok(());
        }
        // The newest payment was lost on its way, or the gateway's record is older than that.
        let receipt: Receipt = match step(&self.http, origin, &own.top_up()).await {
            Err(PayError::Refused { .. } | PayError::NotNow(_)) => return Ok(()),
            receipt => receipt?,
        };
        till.account(|purse| {
            Ok(Purse { spent: receipt.spent, known: None, ..purse.catch_up(&receipt)? })
        })
    }

    /// Signs a close and saves that it was asked for.
    fn sign_close(&self, till: &Till, origin: &Origin) -> Result<(Purse, CloseRequest), PayError> {
        let mut record = till.record();
        let purse = match &record.stage {
            Stage::Open(purse) | Stage::Closing(purse, _) => purse.clone(),
            Stage::Funded(_) | Stage::Held(_) => {
                return Err(PayError::NoChannel(record.origin.clone()));
            }
        };
        let host = origin.host();
        let place = Place { network: purse.contract().terms.network, host: &host };
        let request = purse.close(place, wall(), &record.key)?;
        record.stage = Stage::Closing(purse.clone(), None);
        self.file.save(&record)?;
        Ok((purse, request))
    }
}

/// A close under way: nothing more is paid meanwhile, whether its end is waited for or not.
struct Closing<'t>(&'t Till);

impl<'t> Closing<'t> {
    fn begin(till: &'t Till) -> Self {
        till.traffic().is_closing = true;
        Self(till)
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.traffic().is_closing = false;
    }
}
