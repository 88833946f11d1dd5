//! The client as a middleware: whatever stands behind it in the chain carries its requests.

use async_trait::async_trait;
use farebox_chain::{Chain, Wallet};
use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next};

use crate::carrier::Carrier;
use crate::error::PayError;
use crate::paying::PayingClient;

/// Pays for requests of a `reqwest_middleware::ClientWithMiddleware`.
///
/// Build that on [`PayingClient::http`], which follows no redirect. On a client that does, an answer that
/// has come from another server is [`PayError::Redirected`]; by then the payment has gone there.
///
/// What stands before it in the chain sees one request and one answer. What stands behind it sees
/// each sending, also those that are not paid for yet. A middleware before it that sends a request
/// again pays for it again, unless it has an `Idempotency-Key`; and [`Policy::retries`] does so
/// already. Steps, such as opening a channel, do not pass the chain.
///
/// [`Policy::retries`]: crate::Policy::retries
#[async_trait]
impl<B: Chain + Wallet> Middleware for PayingClient<B> {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response, Error> {
        let mut rest = Rest { next, extensions };
        self.execute_by(&mut rest, request).await.map_err(|error| match error {
            PayError::Http(error) => Error::Reqwest(error),
            PayError::Middleware(error) => match error.downcast() {
                Ok(error) => *error,
                Err(error) => Error::middleware(PayError::Middleware(error)),
            },
            error => Error::middleware(error),
        })
    }
}

/// What stands behind it in the chain.
struct Rest<'a> {
    next: Next<'a>,
    extensions: &'a mut Extensions,
}

impl Carrier for Rest<'_> {
    async fn carry(&mut self, request: Request) -> Result<Response, PayError> {
        let asked = request.url().clone();
        let response = self.next.clone().run(request, self.extensions).await;
        let response = response.map_err(|error| match error {
            Error::Reqwest(error) => PayError::Http(error),
            error @ Error::Middleware(_) => PayError::Middleware(Box::new(error)),
        })?;
        if response.url().origin() != asked.origin() {
            return Err(PayError::Redirected(response.url().to_string()));
        }
        Ok(response)
    }
}
