//! The paying client: one request in, one answer out, paid for where it must be.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bitcoin::OutPoint;
use farebox_chain::{Chain, Wallet};
use farebox_channel::client::Purse;
use farebox_channel::message::{Offer, PayRequest, Receipt, StateReply};
use farebox_channel::wire::Field;
use farebox_channel::{Msat, Place};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Request, Response, StatusCode, Url};
use tokio::sync::Mutex;

use crate::channel_file::ChannelFile;
use crate::error::PayError;
use crate::event::{Event, Observer};
use crate::gateway::{Origin, field, offer, refused, step};
use crate::opening::wall;
use crate::policy::Policy;
use crate::record::{Record, Stage};

/// The beginning of a gateway's problem types.
const PROBLEM: &str = "urn:farebox:problem:";
/// How often a request is sent again because its price was not known or has changed.
const ATTEMPTS_MAX: usize = 3;

/// An HTTP client that pays for what it asks. Clones share channels and prices.
#[derive(Clone, Debug)]
pub struct PayingClient<B> {
    pub(crate) http: reqwest::Client,
    pub(crate) node: B,
    pub(crate) file: ChannelFile,
    pub(crate) policy: Policy,
    pub(crate) observer: Observer,
    /// The open channel of each server.
    tills: Arc<Mutex<HashMap<Origin, Arc<Till>>>>,
    /// Held while a channel is opened, so that parallel requests do not open several.
    opening: Arc<Mutex<()>>,
    /// What each resource cost the last time.
    prices: Arc<Mutex<HashMap<(Method, Url), Msat>>>,
}

/// An open channel, and the requests that it is paying for.
#[derive(Debug)]
struct Till {
    record: Mutex<Record>,
    under_way: AtomicUsize,
}

impl<B: Chain + Wallet> PayingClient<B> {
    /// Makes a client that pays with the coins of `node`'s wallet.
    ///
    /// # Errors
    /// [`PayError::Http`] when the system has no TLS roots.
    pub fn new(node: B, file: ChannelFile, policy: Policy) -> Result<Self, PayError> {
        // Another provider may be installed already; either will do.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            // A redirect could carry a payment to another server.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let observer = Observer::default();
        Ok(Self {
            http,
            node,
            file,
            policy,
            observer,
            tills: Arc::default(),
            opening: Arc::default(),
            prices: Arc::default(),
        })
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observed_by(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Returns the file of the client's channels.
    #[must_use]
    pub const fn file(&self) -> &ChannelFile {
        &self.file
    }

    /// Gets a resource, and pays for it if need be.
    ///
    /// # Errors
    /// [`PayError`] when there is no answer that was paid for.
    pub async fn get(&self, url: &str) -> Result<Response, PayError> {
        let request = self.http.get(url).build()?;
        self.execute(request).await
    }

    /// Sends a request, and pays for it if need be.
    ///
    /// # Errors
    /// [`PayError`] when there is no answer that was paid for. An answer of the service itself,
    /// also one that says that it failed, is no error.
    pub async fn execute(&self, request: Request) -> Result<Response, PayError> {
        let origin = Origin::of(request.url())?;
        let resource = (request.method().clone(), request.url().clone());
        let mut price = self.prices.lock().await.get(&resource).copied();
        let mut request = Some(request);
        for attempt in 1..=ATTEMPTS_MAX {
            // The last attempt needs no copy, and a body that is a stream has none.
            let copy = request.as_ref().and_then(Request::try_clone);
            let Some(sent) = copy.or_else(|| request.take()) else {
                return Err(PayError::OneShotBody);
            };
            let response = match price {
                Some(price) => self.send_paid(&origin, sent, price).await?,
                None => self.http.execute(sent).await?,
            };
            let Some(offer) = offer(&response)? else {
                return Ok(response);
            };
            if attempt == ATTEMPTS_MAX || price == Some(offer.price) {
                return Err(refused(response).await);
            }
            self.observer.tell(&Event::Offered(offer.clone()));
            self.agree(&origin, &offer).await?;
            price = Some(offer.price);
            self.prices
                .lock()
                .await
                .insert(resource.clone(), offer.price);
        }
        Err(PayError::NoOffer)
    }

    /// Checks a price, and makes sure that there is a channel to pay it with.
    async fn agree(&self, origin: &Origin, offer: &Offer) -> Result<(), PayError> {
        if let Some(most) = self.policy.price_max.filter(|most| offer.price > *most) {
            return Err(PayError::TooExpensive {
                price: offer.price,
                most,
            });
        }
        let _opening = self.opening.lock().await;
        if let Some(till) = self.till(origin).await {
            let record = till.record.lock().await;
            if let Stage::Open(purse) = &record.stage
                && purse.left() >= offer.price
            {
                return Ok(());
            }
        }
        let record = match self.resume(origin, offer.price)? {
            Some(record) => record,
            None => self.open(origin, offer).await?,
        };
        let till = Till {
            record: Mutex::new(record),
            under_way: AtomicUsize::new(0),
        };
        self.tills
            .lock()
            .await
            .insert(origin.clone(), Arc::new(till));
        Ok(())
    }

    async fn till(&self, origin: &Origin) -> Option<Arc<Till>> {
        self.tills.lock().await.get(origin).cloned()
    }

    /// Returns a channel of an earlier run that can pay `price`.
    fn resume(&self, origin: &Origin, price: Msat) -> Result<Option<Record>, PayError> {
        let now = wall();
        let can_pay = |record: &Record| {
            let terms = &record.contract().terms;
            record.origin == origin.as_str()
                && terms.kind == self.policy.kind
                && terms.expiry.timestamp() > now
                && matches!(&record.stage, Stage::Open(purse) if purse.left() >= price)
        };
        Ok(self.file.channels()?.into_iter().find(can_pay))
    }

    /// Sends a request with a payment.
    async fn send_paid(
        &self,
        origin: &Origin,
        mut request: Request,
        price: Msat,
    ) -> Result<Response, PayError> {
        let till = self.till(origin).await;
        let till = till.ok_or_else(|| PayError::NoChannel(origin.as_str().to_owned()))?;
        let payment = self.pay(&till, price).await?;
        let value = payment
            .encode()
            .parse()
            .map_err(|_| PayError::NoField(PayRequest::NAME))?;
        request.headers_mut().insert(PayRequest::NAME, value);
        till.under_way.fetch_add(1, Ordering::SeqCst);
        let answered = self.http.execute(request).await;
        let alone = till.under_way.fetch_sub(1, Ordering::SeqCst) == 1;
        let response = answered?;
        match field::<Receipt>(response.headers()) {
            Ok(receipt) => {
                self.observer.tell(&Event::Paid(receipt));
                self.account(&till, |purse| Ok(purse.receive(&receipt, price, alone)?))
                    .await?;
                Ok(response)
            }
            Err(_) if response.status() == StatusCode::PAYMENT_REQUIRED => {
                self.account(&till, |purse| Ok(purse.take_back(price)))
                    .await?;
                Ok(response)
            }
            Err(_) if is_problem(&response) => {
                let refused = refused(response).await;
                // Only the gateway's own refusals are known to charge nothing.
                if matches!(&refused, PayError::Refused { kind, .. } if kind.starts_with(PROBLEM)) {
                    self.account(&till, |purse| Ok(purse.take_back(price)))
                        .await?;
                }
                Err(refused)
            }
            Err(_) => Ok(response),
        }
    }

    /// Changes the account of an open channel and saves it.
    async fn account(
        &self,
        till: &Till,
        change: impl FnOnce(&Purse) -> Result<Purse, PayError>,
    ) -> Result<(), PayError> {
        let mut record = till.record.lock().await;
        let Stage::Open(purse) = &record.stage else {
            return Ok(());
        };
        record.stage = Stage::Open(change(purse)?);
        Ok(self.file.save(&record)?)
    }

    /// Signs for a price and saves it, so that nothing is sent that is not on record.
    async fn pay(&self, till: &Till, price: Msat) -> Result<PayRequest, PayError> {
        let mut record = till.record.lock().await;
        let Stage::Open(purse) = &record.stage else {
            return Err(PayError::NoChannel(record.origin.clone()));
        };
        let (purse, payment) = purse.pay(price, &record.key)?;
        record.stage = Stage::Open(purse);
        self.file.save(&record)?;
        Ok(payment)
    }

    /// Closes the channel with a server for what is spent. The change comes with the settlement.
    ///
    /// # Errors
    /// [`PayError`] when there is none, or the gateway does not answer or refuses.
    pub async fn close(&self, url: &str) -> Result<StateReply, PayError> {
        let url = Url::parse(url).map_err(|_| PayError::NoHost(url.to_owned()))?;
        let origin = Origin::of(&url)?;
        let is_ours = |record: &Record| {
            record.origin == origin.as_str()
                && record.contract().terms.kind == self.policy.kind
                && matches!(record.stage, Stage::Open(_) | Stage::Closing(..))
        };
        let channels = self.file.channels()?;
        let record = channels.into_iter().find(is_ours);
        let record = record.ok_or_else(|| PayError::NoChannel(origin.as_str().to_owned()))?;
        self.close_channel(record).await
    }

    /// Closes one channel of the file for what is spent.
    ///
    /// # Errors
    /// [`PayError`] when it is not open, or the gateway does not answer or refuses.
    pub async fn close_channel(&self, mut record: Record) -> Result<StateReply, PayError> {
        let url =
            Url::parse(&record.origin).map_err(|_| PayError::NoHost(record.origin.clone()))?;
        let origin = Origin::of(&url)?;
        self.tills.lock().await.remove(&origin);
        let purse: Purse = match record.stage {
            Stage::Open(purse) | Stage::Closing(purse, _) => purse,
            Stage::Funded(_) | Stage::Held(_) => {
                return Err(PayError::NoChannel(record.origin));
            }
        };
        let host = origin.host();
        let place = Place {
            network: purse.contract().terms.network,
            host: &host,
        };
        let request = purse.close(place, wall(), &record.key)?;
        record.stage = Stage::Closing(purse.clone(), None);
        self.file.save(&record)?;
        let reply: StateReply = step(&self.http, &origin, &request).await?;
        record.stage = Stage::Closing(purse, reply.settlement);
        self.file.save(&record)?;
        let channel: OutPoint = record.outpoint();
        self.observer
            .tell(&Event::Closing(channel, reply.settlement));
        Ok(reply)
    }
}

/// Tells whether an answer is a problem document (RFC 9457).
fn is_problem(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"))
}
