//! The paying client: one request in, one answer out, paid for where it must be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use farebox_chain::{Chain, Wallet};
use farebox_channel::Msat;
use farebox_channel::client::CannotPay;
use farebox_channel::message::{Offer, PayRequest, Receipt};
use farebox_channel::wire::{Field, PROBLEM_PREFIX};
use reqwest::header::{CONTENT_TYPE, HeaderValue, TE};
use reqwest::{Method, Request, Response, StatusCode, Url};
use tokio::sync::Mutex as AsyncMutex;

use crate::approval::Approval;
use crate::channel_file::ChannelFile;
use crate::error::PayError;
use crate::event::{Event, Observer};
use crate::gateway::{Origin, field, offer, refused};
use crate::opening::wall;
use crate::policy::Policy;
use crate::prices::{Prices, Quote};
use crate::record::{Record, Stage};
use crate::running::follow;
use crate::teller::Teller;
use crate::ticket::Ticket;
use crate::till::Till;

/// The problems that tell that the two sides' records of a channel differ.
const OUT_OF_STEP: [&str; 3] = ["channel-restored", "channel-unknown", "underpaid"];
/// The problems that tell that a channel is not served any more.
const OVER: [&str; 5] =
    ["channel-closing", "channel-ended", "channel-expiring", "channel-late", "channel-unknown"];
/// How often a request is sent: because its price was not known, its channel is over, both sides'
/// records differ, and once more because the price has changed.
const ATTEMPTS_MAX: usize = 5;

/// An HTTP client that pays for what it asks. Clones share channels and prices.
#[derive(Clone, Debug)]
pub struct PayingClient<B> {
    pub(crate) http: reqwest::Client,
    pub(crate) node: B,
    pub(crate) file: ChannelFile,
    pub(crate) policy: Policy,
    pub(crate) observer: Observer,
    pub(crate) approval: Approval,
    /// The open channel of each server.
    pub(crate) tills: Arc<Mutex<HashMap<Origin, Arc<Till>>>>,
    /// Held while a channel is opened, so that parallel requests do not open several.
    opening: Arc<AsyncMutex<()>>,
    /// Every channel in use: answers may still pass of one that pays for no request any more.
    in_use: Arc<Mutex<Vec<Weak<Till>>>>,
    prices: Prices,
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
        Ok(Self {
            http,
            node,
            file,
            policy,
            observer: Observer::default(),
            approval: Approval::default(),
            tills: Arc::default(),
            opening: Arc::default(),
            in_use: Arc::default(),
            prices: Prices::default(),
        })
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
        let mut quote = self.prices.of(&resource);
        let mut request = Some(request);
        let (mut is_in_step, mut has_opened) = (false, false);
        for attempt in 1..=ATTEMPTS_MAX {
            // A body that is a stream has no copy, and is sent once.
            let copy = request.as_ref().and_then(Request::try_clone);
            let Some(sent) = copy.or_else(|| request.take()) else {
                return Err(PayError::OneShotBody);
            };
            let till = self.till(&origin);
            let (signed_at, answered) = match (quote, &till) {
                (Some(quote), Some(till)) => self.send_paid(&origin, till, sent, quote).await,
                (Some(_), None) => (0, Err(PayError::NoChannel(origin.as_str().to_owned()))),
                (None, _) => (0, self.http.execute(sent).await.map_err(PayError::from)),
            };
            let response = match (answered, &till) {
                // A running answer was quicker.
                (Err(error), Some(till))
                    if is_one_of(&error, &["underpaid"])
                        && till.traffic().sharers() > 0
                        && attempt < ATTEMPTS_MAX
                        && request.is_some() =>
                {
                    continue;
                }
                (Err(error), Some(till)) if is_one_of(&error, &OUT_OF_STEP) && !is_in_step => {
                    is_in_step = true;
                    self.bring_in_step(&origin, till, signed_at, &error).await?;
                    if request.is_none() {
                        return Err(error);
                    }
                    continue;
                }
                (Err(error), till) if is_over(&error) && request.is_some() => {
                    if let Some(till) = till {
                        self.give_up(&origin, till, &error)?;
                    }
                    quote = None;
                    continue;
                }
                (answered, _) => answered?,
            };
            if let Ok(receipt) = field::<Receipt>(response.headers()) {
                if let Some(Quote { price, is_running: false }) =
                    quote.filter(|_| receipt.is_running)
                {
                    self.prices.remember(&resource, Quote { price, is_running: true });
                }
                return Ok(response);
            }
            let Some(offer) = offer(&response)? else { return Ok(response) };
            if attempt == ATTEMPTS_MAX || quote.is_some_and(|quote| quote.price == offer.price) {
                return Err(refused(response).await);
            }
            self.observer.tell(&Event::Offered(offer.clone()));
            // A gateway that serves no channel must not have another one made, and another.
            if self.agree(&origin, &resource, &offer, !has_opened).await? {
                has_opened = true;
            }
            quote = Some(Quote::of(&offer));
            self.prices.remember(&resource, Quote::of(&offer));
        }
        Err(PayError::NoOffer)
    }

    /// Brings both records of a server's channel together, unless another request has done so
    /// since this one was signed. A channel that the gateway takes no longer is given up.
    async fn bring_in_step(
        &self,
        origin: &Origin,
        till: &Arc<Till>,
        signed_at: u32,
        refused: &PayError,
    ) -> Result<(), PayError> {
        let Some(_turn) = till.turn(signed_at).await else { return Ok(()) };
        match self.resynchronise(till, origin).await {
            Err(error) if is_over(&error) => self.give_up(origin, till, &error),
            Err(PayError::Refused { .. } | PayError::NotOpen(..)) if is_over(refused) => {
                self.give_up(origin, till, refused)
            }
            other => other,
        }
    }

    /// Checks a price, and makes sure that there is a channel to pay it with. Tells whether it was
    /// opened for that.
    async fn agree(
        &self,
        origin: &Origin,
        resource: &(Method, Url),
        offer: &Offer,
        may_open: bool,
    ) -> Result<bool, PayError> {
        self.policy.check(offer)?;
        let _opening = self.opening.lock().await;
        self.approval.price(resource, offer).await?;
        if let Some(till) = self.till(origin)
            && till.purse().is_some_and(|purse| purse.left() >= offer.price)
        {
            return Ok(false);
        }
        let resumed = self.resume(origin, offer.price)?;
        let is_new = resumed.is_none();
        let till = match resumed {
            Some(record) => self.till_of(record, true),
            None if may_open => self.till_of(self.open(origin, offer).await?, false),
            None => return Err(PayError::NoChannel(origin.as_str().to_owned())),
        };
        lock(&self.tills).insert(origin.clone(), till);
        Ok(is_new)
    }

    /// Returns the till of a channel: the one in use, if there is one.
    pub(crate) fn till_of(&self, record: Record, is_resumed: bool) -> Arc<Till> {
        let mut in_use = lock(&self.in_use);
        in_use.retain(|till| till.strong_count() > 0);
        let is_same = |till: &Arc<Till>| till.record().outpoint() == record.outpoint();
        if let Some(till) = in_use.iter().filter_map(Weak::upgrade).find(is_same) {
            return till;
        }
        let till = Arc::new(Till::new(self.file.clone(), record, is_resumed));
        in_use.push(Arc::downgrade(&till));
        till
    }

    pub(crate) fn till(&self, origin: &Origin) -> Option<Arc<Till>> {
        lock(&self.tills).get(origin).cloned()
    }

    /// Returns a channel of an earlier run that can pay `price`.
    pub(crate) fn resume(&self, origin: &Origin, price: Msat) -> Result<Option<Record>, PayError> {
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

    /// Stops paying through a channel. One that the gateway serves no longer is on record as
    /// closing: its change comes with the settlement, or with the refund.
    fn give_up(&self, origin: &Origin, till: &Arc<Till>, error: &PayError) -> Result<(), PayError> {
        {
            let mut tills = lock(&self.tills);
            // By now there may be another one, of another request.
            if tills.get(origin).is_some_and(|current| Arc::ptr_eq(current, till)) {
                tills.remove(origin);
            }
        }
        if !matches!(error, PayError::Refused { .. }) {
            return Ok(());
        }
        let mut record = till.record();
        if let Stage::Open(purse) = &record.stage {
            record.stage = Stage::Closing(purse.clone(), None);
            self.file.save(&record)?;
        }
        Ok(())
    }

    /// Sends a request with a payment. Returns too when it was signed, in turns of the till.
    async fn send_paid(
        &self,
        origin: &Origin,
        till: &Arc<Till>,
        request: Request,
        quote: Quote,
    ) -> (u32, Result<Response, PayError>) {
        // What answers have cost that ran before is asked for once it can be known.
        let reckoned = self.teller(origin, till).reckon().await;
        // Whatever else fails, the request finds out.
        if let Err(error @ (PayError::Distrust(_) | PayError::File(_))) = reckoned {
            return (till.turns(), Err(error));
        }
        let bought = if quote.is_running {
            Ticket::running(till, quote.price, self.policy.allowance())
        } else {
            Ticket::at_price(till, quote.price)
        };
        match bought {
            Ok((ticket, payment)) => {
                let signed_at = ticket.signed_at();
                (signed_at, self.send_signed(origin, ticket, request, &payment).await)
            }
            Err(error) => (till.turns(), Err(error)),
        }
    }

    async fn send_signed(
        &self,
        origin: &Origin,
        mut ticket: Ticket,
        mut request: Request,
        payment: &PayRequest,
    ) -> Result<Response, PayError> {
        let value = payment.encode().parse().map_err(|_| PayError::NoField(PayRequest::NAME))?;
        request.headers_mut().insert(PayRequest::NAME, value);
        // The receipt of the end stands among the trailers (RFC 9110 §6.5.1).
        request.headers_mut().entry(TE).or_insert(HeaderValue::from_static("trailers"));
        let teller = self.teller(origin, ticket.till());
        let uploads = ticket.is_to_run() && request.body().is_some();
        let sending = self.http.execute(request);
        let (response, limit) = match uploads {
            true => teller.sustain(sending).await?,
            false => (sending.await, None),
        };
        let response = response?;
        match field::<Receipt>(response.headers()) {
            Ok(receipt) => {
                self.observer.tell(&Event::Paid(receipt));
                self.receive(origin, &mut ticket, &receipt).await?;
                if ticket.runs() {
                    return Ok(follow(response, ticket, teller));
                }
                // It was ended before its time, and what was sent of it is charged.
                let is_ended = response.status() == StatusCode::PAYMENT_REQUIRED;
                limit.filter(|_| is_ended).map_or(Ok(response), |limit| Err(PayError::Limit(limit)))
            }
            Err(_) if response.status() == StatusCode::PAYMENT_REQUIRED => {
                ticket.refused()?;
                // With another price it is a new offer.
                let price = ticket.price();
                let is_offered = matches!(offer(&response), Ok(Some(it)) if it.price != price);
                if is_offered { Ok(response) } else { Err(refused(response).await) }
            }
            Err(_) if is_problem(&response) => {
                let refused = refused(response).await;
                // A refusal of the gateway changes nothing. Whoever else says no may have been
                // paid, so the price stays on the account.
                if is_of_gateway(&refused) {
                    ticket.refused()?;
                } else {
                    ticket.answered();
                }
                Err(refused)
            }
            Err(_) => {
                ticket.answered();
                Ok(response)
            }
        }
    }

    /// Returns who asks and pays for a till.
    fn teller(&self, origin: &Origin, till: &Arc<Till>) -> Teller {
        Teller {
            http: self.http.clone(),
            origin: origin.clone(),
            till: Arc::clone(till),
            allowance: self.policy.allowance(),
            observer: self.observer.clone(),
        }
    }
}

/// Locks a value that no holder can leave half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells whether an answer is a problem document (RFC 9457).
fn is_problem(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"))
}

/// Tells whether a refusal is the gateway's own.
fn is_of_gateway(refused: &PayError) -> bool {
    match refused {
        PayError::Refused { kind, .. } => kind.starts_with(PROBLEM_PREFIX),
        PayError::NotNow(_) => true,
        _ => false,
    }
}

/// Tells whether a channel pays no more, so that another one is needed.
fn is_over(error: &PayError) -> bool {
    match error {
        PayError::CannotPay(CannotPay::Exhausted { .. }) | PayError::NoChannel(_) => true,
        error => is_one_of(error, &OVER),
    }
}

/// Tells whether a gateway refuses for one of these problems.
pub(crate) fn is_one_of(error: &PayError, problems: &[&str]) -> bool {
    let PayError::Refused { kind, .. } = error else { return false };
    kind.strip_prefix(PROBLEM_PREFIX).is_some_and(|name| problems.contains(&name))
}
