//! Asking what a request costs, without paying for it: nothing is signed, locked or saved.

use farebox_chain::{Chain, Wallet};
use farebox_channel::client::Limits;
use farebox_channel::message::Offer;
use farebox_channel::{Sat, Seconds};
use reqwest::header::ACCEPT;
use reqwest::{Method, Request, StatusCode, Url};
use serde::Deserialize;
use tokio::time::timeout;

use crate::error::PayError;
use crate::gateway::{Origin, PATIENCE, offer};
use crate::opening::random_key;
use crate::outside::Invoice;
use crate::paying::PayingClient;
use crate::record::{Record, Stage, Wanted};
use crate::wanting::fits;

/// The greatest price list to read.
const LIST_LEN_MAX: usize = 1024 * 1024;

/// What a request costs, and what would be done for it.
#[derive(Debug)]
pub struct Quotation {
    /// How the server answers without a payment: 402 where it asks for one.
    pub status: StatusCode,
    /// What is asked for it.
    pub costs: Option<Costs>,
}

/// What is asked for a request.
#[derive(Debug)]
pub struct Costs {
    /// The gateway's offer.
    pub offer: Offer,
    /// The channel that would pay it.
    pub channel: Option<Record>,
    /// The channel whose opening was cut off, and goes on where none is open that would pay.
    pub begun: Option<Record>,
    /// What somebody was asked to pay for a channel, and would be asked again.
    pub asked: Option<Invoice>,
    /// What another channel would lock, where one is needed.
    pub capacity: Option<Sat>,
    /// For how long it would be locked at most.
    pub lifetime: Option<Seconds>,
    /// What would keep this client from paying, as far as that is known before.
    pub refusals: Vec<PayError>,
}

impl<B: Chain + Wallet> PayingClient<B> {
    /// Asks what a request costs. It is sent without a payment, which a gateway answers itself. What is
    /// free is done at once, so a request that may change something is sent only where the gateway's
    /// price list says that it is not free.
    ///
    /// # Errors
    /// [`PayError`] when the server does not answer, or when the request may be free.
    pub async fn quote(&self, request: Request) -> Result<Quotation, PayError> {
        let origin = Origin::of(request.url())?;
        let (method, url) = (request.method().clone(), request.url().clone());
        if !method.is_safe() && self.may_be_free(&origin, &method, &url).await? {
            return Err(PayError::MayBeFree { method, list: origin.well_known() });
        }
        let patience = self.policy.answer_patience;
        let response = timeout(patience, self.http.execute(request)).await;
        let response = response.map_err(|_| PayError::Silent(patience))??;
        let status = response.status();
        let costs = match offer(&response)? {
            Some(offer) => Some(self.costs(&origin, offer).await?),
            None => None,
        };
        Ok(Quotation { status, costs })
    }

    /// Returns the channel in use with a server.
    ///
    /// # Errors
    /// [`PayError`] when no payments are sent there.
    pub fn channel(&self, url: &Url) -> Result<Option<Record>, PayError> {
        let till = self.till(&Origin::of(url)?);
        Ok(till.map(|till| till.record().clone()))
    }

    /// Returns what would be done for an offer.
    async fn costs(&self, origin: &Origin, offer: Offer) -> Result<Costs, PayError> {
        let mut refusals: Vec<PayError> =
            self.policy.check(&offer).err().into_iter().map(Into::into).collect();
        let channel = self.resume(origin, offer.price)?;
        let begun = match &channel {
            Some(_) => None,
            None => self.begun(origin)?.into_iter().next(),
        };
        let asked = match channel.as_ref().or(begun.as_ref()) {
            None if self.node.shows() => {
                let mut wanted = self.wanted(origin)?.into_iter();
                wanted.find(|wanted| fits(&wanted.draft, &offer))
            }
            Some(_) | None => None,
        };
        let is_new = channel.is_none() && begun.is_none() && asked.is_none();
        let price = offer.price.to_sat_ceil();
        // The first payment of what was begun is counted already.
        let counted = match (begun.as_ref().map(|record| &record.stage), &asked) {
            (Some(Stage::Funded(funded)), _) => funded.first_payment,
            (Some(Stage::Held(held)), _) => held.first_payment,
            (_, Some(wanted)) => wanted.draft.first_payment,
            _ => Sat::ZERO,
        };
        let more = match channel.as_ref().map(|record| (&record.stage, &record.key)) {
            Some((Stage::Open(purse), key)) => purse
                .pay(offer.price, key)
                .map(|(next, _)| next.payment.paid.checked_sub(purse.payment.paid))
                .map(Option::unwrap_or_default)
                .map_err(PayError::from),
            _ if is_new => Ok(offer.first_payment.max(price)),
            _ => Ok(price.checked_sub(counted).unwrap_or_default()),
        };
        let (mut capacity, mut lifetime) = (None, None);
        let budgets = self.policy.budgets();
        let within = more.and_then(|more| self.file.check_budgets(origin.as_str(), more, &budgets));
        refusals.extend(within.err());
        if is_new {
            match self.limits(&offer).await {
                Ok(limits) => {
                    (capacity, lifetime) = (Some(limits.capacity), Some(limits.lifetime));
                    refusals.extend(limits.request(&offer, &random_key()?).err().map(Into::into));
                }
                Err(error) => refusals.push(error),
            }
            refusals.extend(self.check_openings(origin).err());
        }
        let asked = asked.as_ref().map(Wanted::invoice);
        Ok(Costs { offer, channel, begun, asked, capacity, lifetime, refusals })
    }

    /// Returns what would be asked for in a new channel.
    async fn limits(&self, offer: &Offer) -> Result<Limits, PayError> {
        let network = self.node.tip().await?.network;
        Ok(self.policy.limits(offer, network)?)
    }

    /// Tells whether a request may be passed on without a payment, by the price list.
    async fn may_be_free(
        &self,
        origin: &Origin,
        method: &Method,
        url: &Url,
    ) -> Result<bool, PayError> {
        let asked = self.http.get(origin.well_known()).header(ACCEPT, "application/json");
        let mut response = asked.timeout(PATIENCE).send().await?;
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            text.extend_from_slice(&chunk);
            if text.len() > LIST_LEN_MAX {
                return Ok(true);
            }
        }
        let Ok(list) = serde_json::from_slice::<PriceList>(&text) else { return Ok(true) };
        let is_free = |line: &Line| line.gives() && line.may_take(method, url.path());
        Ok(list.prices.is_empty() || list.prices.iter().any(is_free))
    }
}

/// The price list of a gateway (docs/protocol.md §2), as far as it matters here.
#[derive(Deserialize)]
struct PriceList {
    prices: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    path: String,
    methods: Vec<String>,
    price_msat: u64,
    /// Whether a service of the seller's is asked, which may say that it is free.
    asked: bool,
    free: bool,
    free_allowance: Option<serde::de::IgnoredAny>,
    shadow: bool,
}

impl Line {
    /// Tells whether something is to be had without a payment.
    fn gives(&self) -> bool {
        self.free
            || self.asked
            || self.shadow
            || self.free_allowance.is_some()
            || self.price_msat == 0
    }

    /// Tells whether a request may be one of these.
    fn may_take(&self, method: &Method, path: &str) -> bool {
        if !self.methods.is_empty() && !self.methods.iter().any(|it| it == method.as_str()) {
            return false;
        }
        // A gateway reads a path that is written in an unusual way as another one.
        let is_plain =
            path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte))
                && !path.contains("//");
        let fixed = self.path.split(['*', '{']).next().unwrap_or_default();
        let fixed = if fixed == self.path { fixed } else { fixed.trim_end_matches('/') };
        !is_plain || path.strip_prefix(fixed).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str, methods: &[&str]) -> Line {
        let methods = methods.iter().map(|it| (*it).to_owned()).collect();
        let (asked, free, shadow, free_allowance) = (false, true, false, None);
        Line { path: path.to_owned(), methods, price_msat: 0, asked, free, free_allowance, shadow }
    }

    #[test]
    fn what_may_be_a_free_request_is_taken_for_one() {
        let takes = |line: Line, path: &str| line.may_take(&Method::POST, path);
        assert!(takes(line("/free", &[]), "/free/x"));
        assert!(takes(line("/free", &["POST"]), "/free"));
        assert!(takes(line("/users/{id}/name", &[]), "/users/1/name"));
        assert!(takes(line("/free", &[]), "/%66ree"), "it is the same path");
        assert!(takes(line("/free", &[]), "//free"), "it is the same path");
        assert!(!takes(line("/free", &["GET"]), "/free"));
        assert!(!takes(line("/free", &[]), "/paid"));
        assert!(!takes(line("/users/{id}/name", &[]), "/paid/1/name"));
        let priced = Line { price_msat: 1, free: false, ..line("/x", &[]) };
        assert!(!priced.gives());
        assert!(Line { asked: true, ..priced }.gives(), "whoever is asked may say so");
    }
}
