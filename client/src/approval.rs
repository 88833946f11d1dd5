//! A question before a client agrees to something.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use farebox_channel::message::Offer;
use farebox_channel::{Msat, Sat, Terms};
use reqwest::{Method, Url};

use crate::error::PayError;
use crate::paying::PayingClient;

/// What a client is about to agree to. All limits of its policy allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// To pay this price for this request. It is put for each offer: where the price was not known, where
    /// it has changed, and where the channel holds too little for it.
    Price {
        /// The request's method.
        method: Method,
        /// What it asks for.
        url: Url,
        /// The price, and the rates where the answer is charged while it passes.
        offer: Offer,
    },
    /// To lock coins in a new channel. Nothing is signed by then, and nobody was asked to pay. An opening
    /// that was agreed to and cut off goes on without another question.
    Channel {
        /// The scheme, host and port of the server.
        origin: String,
        /// The terms as they were agreed on, with the expiry.
        terms: Terms,
        /// What is locked.
        capacity: Sat,
        /// What of it is the gateway's in any case.
        first_payment: Sat,
        /// The confirmations that the contract needs.
        confirmations: u32,
        /// The price of the request for which the channel is opened.
        price: Msat,
    },
}

impl<B> PayingClient<B> {
    /// Asks `approval` before anything is agreed to.
    #[must_use]
    pub fn approved_by(mut self, approval: Approval) -> Self {
        self.approval = approval;
        self
    }
}

/// What comes of a question: nothing where the client may go on, or the reason why it may not.
type Answer = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Who is asked before a client agrees to a price, and before it locks coins.
#[derive(Clone)]
pub struct Approval(Arc<dyn Fn(Proposal) -> Answer + Send + Sync>);

impl Approval {
    /// Makes an approval of a function, which returns the reason where it says no. The request waits
    /// for it, and so do others that would agree to something meanwhile.
    #[must_use]
    pub fn new<F>(ask: impl Fn(Proposal) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(move |proposal| Box::pin(ask(proposal))))
    }

    /// Asks whether a price is agreed to.
    pub(crate) async fn price(
        &self,
        (method, url): &(Method, Url),
        offer: &Offer,
    ) -> Result<(), PayError> {
        let (method, url, offer) = (method.clone(), url.clone(), offer.clone());
        self.ask(Proposal::Price { method, url, offer }).await
    }

    pub(crate) async fn ask(&self, proposal: Proposal) -> Result<(), PayError> {
        (self.0)(proposal).await.map_err(PayError::Declined)
    }
}

impl Default for Approval {
    /// Approves of all that the policy allows.
    fn default() -> Self {
        Self::new(|_| async { Ok(()) })
    }
}

impl fmt::Debug for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Approval(..)")
    }
}
