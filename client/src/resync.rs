//! Going on after a loss, on either side: what is on record there is asked for, verified and saved.

use bitcoin::OutPoint;
use farebox_chain::{Chain, Wallet};
use farebox_channel::client::{Purse, Recovered};
use farebox_channel::message::{
    ChannelStatus, ContractRequest, PayRequest, Receipt, RefundReply, StateName, StateReply,
    StatusReply, StatusRequest, StatusSubject,
};
use farebox_channel::{Place, Proof};
use reqwest::Url;
use secp256k1::{SECP256K1, SecretKey};

use crate::error::PayError;
use crate::event::Event;
use crate::gateway::{Origin, step};
use crate::opening::wall;
use crate::paying::{PayingClient, Till, lock};
use crate::record::{Record, Stage};

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
            let mut record =
                self.file.channels()?.into_iter().find(|it| it.outpoint() == told.channel);
            let stage = match record.take().map(|record| record.stage) {
                Some(Stage::Open(purse)) => Stage::Open(purse.resynchronise(&told)?),
                Some(Stage::Closing(..)) => continue,
                Some(Stage::Funded(_) | Stage::Held(_)) | None => {
                    Stage::Open(self.hold_again(&origin, recovered).await?)
                }
            };
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

    /// Brings the two records of a channel together: takes what the gateway knows and this client
    /// does not, and shows the newest payment to a gateway that does not know it.
    pub(crate) async fn resynchronise(&self, till: &Till, origin: &Origin) -> Result<(), PayError> {
        let Some((purse, record)) = open_purse(till) else { return Ok(()) };
        let contract = purse.contract();
        let (subject, network) =
            (StatusSubject::Channel(contract.outpoint), contract.terms.network);
        match self.status(origin, subject, network, &record.key).await {
            Ok(told) => {
                for told in told.iter().filter(|told| told.channel == contract.outpoint) {
                    self.account(till, |purse| Ok(purse.resynchronise(told)?))?;
                }
            }
            // A gateway that has lost its record takes the contract once more.
            Err(PayError::Refused { .. }) => self.show_again(origin, &purse).await?,
            Err(error) => return Err(error),
        }
        let Some((purse, _)) = open_purse(till) else { return Ok(()) };
        let (channel, pass, payment) = (contract.outpoint, purse.pass, purse.payment);
        let receipt: Receipt =
            step(&self.http, origin, &PayRequest { channel, pass, payment }).await?;
        self.account(till, |purse| Ok(purse.catch_up(&receipt)?))?;
        if let Some((Purse { payment, spent, .. }, _)) = open_purse(till) {
            self.observer.tell(&Event::Resynchronised { channel, paid: payment.paid, spent });
        }
        Ok(())
    }

    /// Shows a contract that is mined, with the newest payment.
    async fn show_again(&self, origin: &Origin, purse: &Purse) -> Result<(), PayError> {
        let contract = purse.contract();
        let shown = ContractRequest {
            outpoint: contract.outpoint,
            transaction: None,
            capacity: contract.capacity,
            kind: contract.terms.kind,
            client_key: contract.terms.client_key,
            expiry: contract.terms.expiry,
            payout: contract.payout.clone(),
            payment: purse.payment,
        };
        let StateReply { state, .. } = step(&self.http, origin, &shown).await?;
        match state {
            StateName::Open => Ok(()),
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

/// Returns the purse of a till that is open, with its record.
fn open_purse(till: &Till) -> Option<(Purse, Record)> {
    let record = lock(till);
    match &record.stage {
        Stage::Open(purse) => Some((purse.clone(), record.clone())),
        Stage::Funded(_) | Stage::Held(_) | Stage::Closing(..) => None,
    }
}
