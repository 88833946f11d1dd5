//! The paying client: one request in, one answer out, paid for where it must be.

use std::collections::{HashMap, HashSet};
use std::env;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use farebox_chain::{Chain, Wallet};
use farebox_channel::message::{Offer, Receipt};
use farebox_channel::wire::PROBLEM_PREFIX;
use reqwest::{ClientBuilder, NoProxy, Proxy, Request, Response};
use tokio::sync::Mutex as AsyncMutex;

use crate::approval::Approval;
use crate::carrier::Carrier;
use crate::channel_file::ChannelFile;
use crate::choosing::is_over;
use crate::error::PayError;
use crate::event::{Event, Observer};
use crate::gateway::{Origin, field, offer, refused};
use crate::held_body::Holding;
use crate::policy::Policy;
use crate::prices::{Prices, Quote};
use crate::till::Till;
use crate::{again, held_body};

/// The problems that tell that the two sides' records of a channel differ.
const OUT_OF_STEP: [&str; 3] = ["channel-restored", "channel-unknown", "underpaid"];
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
    /// Channels that others have replaced, until they are closed.
    pub(crate) replaced: Arc<Mutex<Vec<Arc<Till>>>>,
    /// The servers whose channels were closed, until something is to be paid there again.
    pub(crate) closed: Arc<Mutex<HashSet<Origin>>>,
    /// Held while a channel with a server is opened.
    pub(crate) opening: Arc<Mutex<HashMap<Origin, Arc<AsyncMutex<()>>>>>,
    /// Held while coins are chosen for a contract, and until they are on record.
    pub(crate) funding: Arc<AsyncMutex<()>>,
    /// Every channel in use: answers may still pass of one that pays for no request any more.
    pub(crate) in_use: Arc<Mutex<Vec<Weak<Till>>>>,
    /// What each server has offered last.
    pub(crate) offers: Arc<Mutex<HashMap<Origin, Offer>>>,
    prices: Prices,
}

impl<B: Chain + Wallet> PayingClient<B> {
    /// Makes a client that pays with the coins of `node`'s wallet. What goes over https goes by the proxy
    /// that `HTTPS_PROXY` or `ALL_PROXY` name, unless `NO_PROXY` says otherwise.
    ///
    /// # Errors
    /// [`PayError::Http`] when the system has no TLS roots, or such a variable names no proxy.
    pub fn new(node: B, file: ChannelFile, policy: Policy) -> Result<Self, PayError> {
        // Plain http is for this machine, and nobody else may read it.
        let http = reqwest::Client::builder().no_proxy();
        let http = match named_proxy() {
            Some(proxy) => http.proxy(Proxy::https(proxy)?.no_proxy(NoProxy::from_env())),
            None => http,
        };
        Self::with_http(http, node, file, policy)
    }

    /// Makes one whose requests are sent as `http` says: proxies, times, fields, certificates. A proxy for
    /// plain http would read the payments to a gateway on this machine (`Proxy::https` takes no others).
    ///
    /// It follows no redirect, which could carry a payment to another server: the answer that
    /// redirects is returned. Nor does `reqwest` send anything again by itself, which would be paid
    /// for once more; [`Policy::retries`] says what is.
    ///
    /// # Errors
    /// [`PayError::Http`] when there can be no such client.
    pub fn with_http(
        http: ClientBuilder,
        node: B,
        file: ChannelFile,
        policy: Policy,
    ) -> Result<Self, PayError> {
        // Another provider may be installed already; either will do.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let http = http.retry(reqwest::retry::never()).redirect(reqwest::redirect::Policy::none());
        let http = http.build()?;
        Ok(Self {
            http,
            node,
            file,
            policy,
            observer: Observer::default(),
            approval: Approval::default(),
            tills: Arc::default(),
            replaced: Arc::default(),
            closed: Arc::default(),
            opening: Arc::default(),
            funding: Arc::default(),
            in_use: Arc::default(),
            offers: Arc::default(),
            prices: Prices::default(),
        })
    }

    /// Returns the client beneath, which follows no redirect and pays for nothing: what goes on
    /// middlewares (`reqwest-middleware`).
    #[must_use]
    pub const fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Returns the file of the client's channels.
    #[must_use]
    pub const fn file(&self) -> &ChannelFile {
        &self.file
    }

    /// Sends a request, and pays for it if need be.
    ///
    /// # Errors
    /// [`PayError`] when there is no answer that was paid for. An answer of the service itself,
    /// also one that says that it failed, is no error.
    pub async fn execute(&self, request: Request) -> Result<Response, PayError> {
        self.execute_by(&mut self.http.clone(), request).await
    }

    /// Does the same with requests that something else carries.
    pub(crate) async fn execute_by(
        &self,
        carrier: &mut impl Carrier,
        mut request: Request,
    ) -> Result<Response, PayError> {
        let origin = Origin::of(request.url())?;
        again::name(&mut request, &self.policy)?;
        let answered = self.pay_for(carrier, &origin, request).await;
        self.tidy(&origin);
        answered
    }

    /// Sends a request without a payment. One that has no copy comes back as that where nothing of its
    /// body was sent.
    async fn send_unpaid(
        &self,
        carrier: &mut impl Carrier,
        sent: Request,
        copy: &mut Option<Request>,
    ) -> Result<Response, PayError> {
        if copy.is_some() {
            return again::send(&mut Holding(carrier), sent, self.policy.tries()).await.answered;
        }
        let (answered, whole) = held_body::send(carrier, sent).await;
        *copy = whole;
        answered
    }

    async fn pay_for(
        &self,
        carrier: &mut impl Carrier,
        origin: &Origin,
        request: Request,
    ) -> Result<Response, PayError> {
        let resource = (request.method().clone(), request.url().clone());
        let mut quote = self.prices.of(&resource);
        let mut request = Some(request);
        let (mut is_in_step, mut has_opened) = (false, false);
        for attempt in 1..=ATTEMPTS_MAX {
            // Without a channel for it, the price is asked for once more.
            quote = quote.filter(|quote| self.can_pay(origin, quote.price));
            // A body that is a stream has no copy, and is sent once.
            let copy = request.as_ref().and_then(Request::try_clone);
            let Some(sent) = copy.or_else(|| request.take()) else {
                return Err(PayError::OneShotBody);
            };
            let till = self.till(origin);
            let (signed_at, answered) = match (quote, &till) {
                (Some(quote), Some(till)) => {
                    self.send_paid(carrier, (origin, till), sent, quote).await
                }
                (..) => (0, self.send_unpaid(carrier, sent, &mut request).await),
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
                    self.bring_in_step(origin, till, signed_at, &error).await?;
                    if request.is_none() {
                        return Err(error);
                    }
                    continue;
                }
                (Err(error), till) if is_over(&error) && request.is_some() => {
                    if let Some(till) = till {
                        self.give_up(origin, till, &error).await?;
                    }
                    quote = None;
                    continue;
                }
                (answered, _) => answered?,
            };
            if let Ok(receipt) = field::<Receipt>(response.headers()) {
                if receipt.is_running && quote.is_some_and(|quote| !quote.is_running) {
                    // Its rates are to be agreed to first.
                    self.prices.forget(&resource);
                }
                return Ok(response);
            }
            let Some(offer) = offer(&response)? else { return Ok(response) };
            if attempt == ATTEMPTS_MAX || quote.is_some_and(|quote| quote.price == offer.price) {
                return Err(refused(response).await);
            }
            self.observer.tell(&Event::Offered(offer.clone()));
            if request.is_none() {
                // Nothing is opened for what cannot be sent.
                return Err(PayError::OneShotBody);
            }
            // A gateway that serves no channel must not have another one made, and another.
            has_opened |= self.agree(origin, &resource, &offer, !has_opened).await?;
            quote = Some(Quote::of(&offer));
            self.prices.remember(&resource, Quote::of(&offer));
        }
        Err(PayError::NoOffer)
    }
}

/// Returns the proxy that the environment names for what goes over https.
fn named_proxy() -> Option<String> {
    let names = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    names.into_iter().filter_map(|name| env::var(name).ok()).find(|proxy| !proxy.is_empty())
}

/// Locks a value that no holder can leave half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells whether a gateway refuses for one of these problems.
pub(crate) fn is_one_of(error: &PayError, problems: &[&str]) -> bool {
    let PayError::Refused { kind, .. } = error else { return false };
    kind.strip_prefix(PROBLEM_PREFIX).is_some_and(|name| problems.contains(&name))
}
