//! A client that says whatever a test wants it to say, step by step.

use bitcoin::{FeeRate, OutPoint, Transaction, Txid};
use farebox_chain::{Chain, Wallet};
use farebox_channel::client::{Draft, Held, Limits, Purse};
use farebox_channel::message::{
    ChannelStatus, ContractRequest, Offer, OpenRequest, Receipt, RefundReply, StateName,
    StateReply, StatusReply, StatusRequest, StatusSubject, TermsReply,
};
use farebox_channel::wire::Field;
use farebox_channel::{Clock, Kind, Payout, Place, Proof, Sat, Timestamp};
use http::{HeaderMap, StatusCode, Version};
use secp256k1::SecretKey;
use serde_json::Value;

use super::{CAPACITY_SAT, Gateway, World, until};

/// The path on which nothing is charged.
pub(crate) const WELL_KNOWN: &str = "/.well-known/payment-channel";

/// An answer of the gateway, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Returns the name of the problem, once the document was seen to be one (RFC 9457).
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(self.headers["cache-control"], "no-store");
        let document: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(document["status"], self.status.as_u16());
        assert!(document["title"].is_string() && document["detail"].is_string());
        let kind = document["type"].as_str().unwrap();
        kind.strip_prefix("urn:farebox:problem:").unwrap().to_owned()
    }

    /// Returns the status and the name of the problem.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.problem())
    }

    /// Reads a message of the answer.
    pub(crate) fn message<F: Field>(&self) -> F {
        let value = self.headers.get(F::NAME).unwrap_or_else(|| panic!("{}: {self:?}", F::NAME));
        F::decode(value.as_bytes()).unwrap()
    }

    pub(crate) fn receipt(&self) -> Receipt {
        self.message()
    }
}

/// A client with at most one channel.
pub(crate) struct Buyer {
    pub(crate) http: reqwest::Client,
    pub(crate) key: SecretKey,
    pub(crate) host: String,
    pub(crate) purse: Option<Purse>,
    pub(crate) shown: Option<ContractRequest>,
}

impl Buyer {
    pub(crate) fn new(gateway: &Gateway) -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).unwrap();
        // Building a client without TLS needs no provider, but the library wants one.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        Self {
            // A connection that is kept could be one of a gateway that was killed since.
            http: reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap(),
            key: SecretKey::from_slice(&bytes).unwrap(),
            host: gateway.host.clone(),
            purse: None,
            shown: None,
        }
    }

    /// Sends a request with these fields.
    pub(crate) async fn send(&self, path: &str, fields: &[(&str, String)]) -> Answer {
        let mut request = self.http.get(format!("http://{}{path}", self.host));
        for (name, value) in fields {
            request = request.header(*name, value);
        }
        read(request.send().await.unwrap()).await
    }

    /// Sends a request with one field, without borrowing it.
    pub(crate) async fn send_owned(&self, path: &str, field: (&'static str, String)) -> Answer {
        self.send(path, &[field]).await
    }

    /// Sends a step to the well-known path.
    pub(crate) async fn step<F: Field>(&self, step: &F) -> Answer {
        self.send(WELL_KNOWN, &[(F::NAME, step.encode())]).await
    }

    /// Sends a step and reads the gateway's message.
    pub(crate) async fn ask<Q: Field, A: Field>(&self, step: &Q) -> A {
        let answer = self.step(step).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.message()
    }

    pub(crate) async fn offer(&self) -> Offer {
        self.send("/paid", &[]).await.message()
    }

    /// Returns a wish that the offer fits.
    pub(crate) async fn wish(&self, kind: Kind) -> (Offer, OpenRequest) {
        let offer = self.offer().await;
        let limits = Limits {
            network: bitcoin::Network::Regtest,
            kind,
            capacity: Sat::new(CAPACITY_SAT).unwrap(),
            lifetime: *offer.lifetime.start(),
            first_payment_max: Sat::new(CAPACITY_SAT).unwrap(),
        };
        let request = limits.request(&offer, &self.key).unwrap();
        (offer, request)
    }

    /// Agrees on terms.
    pub(crate) async fn draft(&self, world: &World, kind: Kind) -> Draft {
        let (offer, request) = self.wish(kind).await;
        let reply: TermsReply = self.ask(&request).await;
        Draft::accept(&offer, &request, &reply, clock(world).await).unwrap()
    }

    /// Comes as far as holding the refund.
    pub(crate) async fn held(&self, world: &World, kind: Kind) -> Held {
        let draft = self.draft(world, kind).await;
        let wallet = world.wallet();
        let script = draft.terms.script_pubkey();
        let rate = FeeRate::from_sat_per_vb_u32(2);
        let transaction = wallet.fund(script, draft.capacity.get(), rate).await.unwrap();
        wallet.reserve(transaction.clone()).await.unwrap();
        self.hold(world, draft, transaction).await
    }

    /// Holds the refund of a contract that any transaction funds.
    pub(crate) async fn hold(&self, world: &World, draft: Draft, contract: Transaction) -> Held {
        let payout = world.wallet().fresh_address().await.unwrap();
        let payout = Payout::try_from(&payout).unwrap();
        let funded = draft.fund(contract, payout).unwrap();
        let signature = match funded.refund_request() {
            Some(request) => Some(self.ask::<_, RefundReply>(&request).await.signature),
            None => None,
        };
        funded.hold(signature).unwrap()
    }

    /// Shows a contract, which no block has yet.
    pub(crate) async fn show(&mut self, world: &World, kind: Kind) -> ContractRequest {
        self.show_as(world, kind, StateName::Pending).await
    }

    /// The same, where the channel has another state at once.
    pub(crate) async fn show_as(
        &mut self,
        world: &World,
        kind: Kind,
        state: StateName,
    ) -> ContractRequest {
        let held = self.held(world, kind).await;
        let shown = held.show(&self.key).unwrap();
        let reply: StateReply = self.ask(&shown).await;
        assert_eq!(reply.state, state);
        self.purse = Some(held.open(&shown, &reply));
        self.shown = Some(shown.clone());
        shown
    }

    /// Opens a channel, with a block for the contract.
    pub(crate) async fn open(&mut self, world: &World, kind: Kind) {
        let shown = self.show(world, kind).await;
        world.mine(1).await;
        self.until_state(&shown, StateName::Open).await;
    }

    /// Shows the contract until the channel has a state.
    pub(crate) async fn until_state(&self, shown: &ContractRequest, state: StateName) {
        until(&format!("the channel is {state}"), async || {
            self.ask::<_, StateReply>(shown).await.state == state
        })
        .await;
    }

    /// Asks about the channel until its settlement is built, and returns its id.
    pub(crate) async fn until_settlement(&self) -> Txid {
        let mut settlement = None;
        until("the settlement is built", async || {
            let shown = self.shown.as_ref().unwrap();
            settlement = self.ask::<_, StateReply>(shown).await.settlement;
            settlement.is_some()
        })
        .await;
        settlement.unwrap()
    }

    pub(crate) fn purse(&self) -> &Purse {
        self.purse.as_ref().unwrap()
    }

    pub(crate) fn channel(&self) -> OutPoint {
        self.purse().contract().outpoint
    }

    /// Pays for a request below `/paid`.
    pub(crate) async fn pay(&mut self, path: &str) -> Answer {
        let price = farebox_channel::Msat::new(super::PRICE_MSAT).unwrap();
        let (purse, request) = self.purse().pay(price, &self.key).unwrap();
        self.purse = Some(purse);
        self.send(path, &[header(&request)]).await
    }

    /// Asks what is on record of a channel, with the proof of its key.
    pub(crate) async fn told(&self, channel: OutPoint, key: &SecretKey) -> ChannelStatus {
        let subject = StatusSubject::Channel(channel);
        let proof = Proof::sign(&subject.proven(), self.place(), wall(), key);
        let told: StatusReply = self.ask(&StatusRequest { subject, proof }).await;
        told.channels.into_iter().next().unwrap()
    }

    /// Closes the channel for what is spent.
    pub(crate) async fn close(&self) -> StateReply {
        let request = self.purse().close(self.place(), wall(), &self.key).unwrap();
        self.ask(&request).await
    }

    /// Returns where this client's proofs are good.
    pub(crate) fn place(&self) -> Place<'_> {
        Place { network: bitcoin::Network::Regtest, host: &self.host }
    }
}

/// Returns a message as a field.
pub(crate) fn header<F: Field>(message: &F) -> (&'static str, String) {
    (F::NAME, message.encode())
}

/// Reads an answer to its end.
pub(crate) async fn read(response: reqwest::Response) -> Answer {
    let (status, version) = (response.status(), response.version());
    let headers = response.headers().clone();
    // A body that breaks off is what some tests are about.
    let body = response.text().await.unwrap_or_else(|error| format!("broken off: {error}"));
    Answer { status, version, headers, body }
}

/// Returns the machine's time.
pub(crate) fn wall() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::new(since.as_secs())
}

async fn clock(world: &World) -> Clock {
    let told = world.node.node(None).tip().await.unwrap().median_time_past;
    Clock { median_time_past: Timestamp::new(told), wall: wall() }
}
