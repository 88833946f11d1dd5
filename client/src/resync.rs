//! Going on after a loss, on either side: what is on record there is asked for, verified and saved.

use std::sync::Arc;

use bitcoin::OutPoint;
use farebox_chain::{Chain, Wallet};
use farebox_channel::client::{Distrust, Purse, Recovered};
use farebox_channel::message::{
    ChannelStatus, ContractRequest, Receipt, RefundReply, StateName, StateReply, StatusReply,
    StatusRequest, StatusSubject,
};
use farebox_channel::{Contract, Msat, Place, Proof};
use reqwest::Url;
use secp256k1::{SECP256K1, SecretKey};

use crate::error::PayError;
use crate::event::Event;
use crate::gateway::{Origin, step};
use crate::opening::wall;
use crate::paying::PayingClient;
use crate::record::{Record, Stage};
use crate::ticket::Ticket;
use crate::till::Till;

impl<B: Chain + Wallet> PayingClient<B> {
    /// Finds the channels of `key` with a server and puts them on record, where the client's own
    /// record is lost or old. Returns those that are open.
    ///
    /// # Errors
    /// [`PayError`] when the gateway does not answer, or tells what the key has not signed for.
    pub async fn recover(&self, url: &str, key: SecretKey) -> Result<Vec<OutPoint>, PayError> {
        let url = Url::parse(url).map_err(|_| PayError::NoHost(url.to_owned()))?;
        let origin = Origin::of(&url)?;
        let subject = StatusSubject::Key(key.public_key(SECP256K1));
        let network = self.node.tip().await?.network;
        let mut open = Vec::new();
        for told in self.status(&origin, subject, network, &key).await? {
            if !matches!(told.state, StateName::Open | StateName::Pending) {
                continue;
            }
            let recovered = Recovered::verify(&told, network, &key)?;
            if let Some(till) =
                self.till(&origin).filter(|it| it.record().outpoint() == told.channel)
            {
                till.account(|purse| Ok(purse.resynchronise(&told)?))?;
                open.push(told.channel);
                continue;
            }
            let known = self.file.channels()?.into_iter().find(|it| it.outpoint() == told.channel);
            let is_ours = |contract: &Contract| contract == recovered.contract();
            let purse = match known.map(|record| record.stage) {
                Some(Stage::Open(purse)) => purse.resynchronise(&told)?,
                Some(Stage::Closing(..)) => continue,
                Some(Stage::Held(held)) if is_ours(held.refund.contract()) => recovered.with(held),
                Some(Stage::Funded(funded)) if !is_ours(&funded.contract) => {
                    return Err(Distrust::OtherContract.into());
                }
                Some(Stage::Held(_)) => return Err(Distrust::OtherContract.into()),
                Some(Stage::Funded(_)) | None => self.hold_again(&origin, recovered).await?,
            };
            let stage = Stage::Open(purse);
            self.file.save(&Record { origin: origin.as_str().to_owned(), key, stage })?;
            open.push(told.channel);
        }
        Ok(open)
    }

    /// Has the refund of a recovered channel signed once more, where its kind needs it.
    async fn hold_again(&self, origin: &Origin, lost: Recovered) -> Result<Purse, PayError> {
        let signature = match lost.refund_request() {
            Some(request) => {
                Some(step::<_, RefundReply>(&self.http, origin, &request).await?.signature)
            }
            None => None,
        };
        Ok(lost.hold(signature)?)
    }

    /// Takes a receipt. Where this client's record is older than the gateway's, both are brought
    /// together first; the answer that the receipt came with is there in any case.
    pub(crate) async fn receive(
        &self,
        origin: &Origin,
        ticket: &mut Ticket,
        receipt: &Receipt,
    ) -> Result<(), PayError> {
        let (till, price) = (Arc::clone(ticket.till()), ticket.price());
        let seen = till.turns();
        let distrust = match ticket.receive(receipt) {
            Err(PayError::Distrust(distrust)) => distrust,
            other => return other,
        };
        let is_old = match distrust {
            Distrust::OtherPayment { .. } => true,
            Distrust::Overcharged { .. } => receipt.price <= price && till.may_be_old()?,
            Distrust::OtherContract | Distrust::Unsigned { .. } => false,
        };
        if !is_old {
            return Err(distrust.into());
        }
        if let Some(_turn) = till.turn(seen).await {
            match self.resynchronise(&till, origin).await {
                // The next request will find out.
                Err(PayError::Http(_) | PayError::NotNow(_) | PayError::Refused { .. }) => {
                    return ticket.note(receipt.price.min(price));
                }
                other => other?,
            }
        }
        match till.purse() {
            Some(purse) if receipt.paid > purse.payment.paid => Err(distrust.into()),
            Some(_) | None => ticket.note(receipt.price.min(price)),
        }
    }

    /// Brings the two records of a channel together: takes what the gateway knows and this client
    /// does not, and shows the newest payment to a gateway that does not know it.
    ///
    /// What no signature bears out is how much of the credit is spent. It is believed once, and again when
    /// the gateway has served for as much since: this client's record may be an old copy, or the
    /// gateway's, but not time and again.
    pub(crate) async fn resynchronise(&self, till: &Till, origin: &Origin) -> Result<(), PayError> {
        let Some(before) = till.purse() else { return Ok(()) };
        let contract = before.contract();
        let (channel, network) = (contract.outpoint, contract.terms.network);
        let key = till.record().key;
        let told = match self.status(origin, StatusSubject::Channel(channel), network, &key).await {
            Ok(told) => told.into_iter().find(|told| told.channel == channel),
            // A gateway that has lost its record takes the contract once more.
            Err(PayError::Refused { .. }) => {
                self.show_again(origin, &before).await?;
                None
            }
            Err(error) => return Err(error),
        };
        let in_step = |purse: &Purse| match &told {
            Some(told) => purse.resynchronise(told),
            None => Ok(purse.clone()),
        };
        let Some(purse) = till.purse() else { return Ok(()) };
        till.traffic().named = Msat::ZERO;
        let receipt: Receipt = step(&self.http, origin, &in_step(&purse)?.top_up()).await?;
        // Both claims are believed at once: whoever is cut off between them would believe no other.
        let catch_up = |purse: &Purse| in_step(purse)?.catch_up(&receipt);
        till.believe(till.trusts()?, receipt.spent, catch_up)?;
        let Some(after) = till.purse() else { return Ok(()) };
        let (paid, spent) = (after.payment.paid, after.spent);
        self.observer.tell(&Event::Resynchronised { channel, paid, spent });
        Ok(())
    }

    /// Shows a contract that is mined, with the newest payment.
    async fn show_again(&self, origin: &Origin, purse: &Purse) -> Result<(), PayError> {
        let contract = purse.contract();
        let shown = ContractRequest::of(contract, purse.payment, None);
        let StateReply { state, .. } = step(&self.http, origin, &shown).await?;
        match state {
            StateName::Open => Ok(()),
            StateName::Pending => Err(PayError::NotNow(
                "the gateway looks the contract up again; try again later".to_owned(),
            )),
            state => Err(PayError::NotOpen(contract.outpoint, state)),
        }
    }

    /// Asks what is on record.
    pub(crate) async fn status(
        &self,
        origin: &Origin,
        subject: StatusSubject,
        network: bitcoin::Network,
        key: &SecretKey,
    ) -> Result<Vec<ChannelStatus>, PayError> {
        let host = origin.host();
        let place = Place { network, host: &host };
        let proof = Proof::sign(&subject.proven(), place, wall(), key);
        let asked = StatusRequest { subject, proof };
        match step::<_, StatusReply>(&self.http, origin, &asked).await {
            Ok(told) => Ok(told.channels),
            // An empty list has no field (RFC 9651 §4.1).
            Err(PayError::NoField(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
