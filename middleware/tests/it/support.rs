//! One gateway, one client with an open channel, and a service that tells what it was asked.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bitcoin::hashes::Hash;
use bitcoin::{Network, OutPoint, ScriptBuf, Transaction, TxOut, Txid, WPubkeyHash};
use bytes::Bytes;
use farebox_channel::gateway::{Channel, Gateway, Input, Rules, Settling};
use farebox_channel::message::{ContractRequest, PayRequest};
use farebox_channel::wire::Field;
use farebox_channel::{
    ChainTime, Clock, Contract, Expiry, Keyring, Kind, Msat, Payment, Payout, Sat, Seconds, Seed,
    Terms, Timestamp,
};
use farebox_ledger::{Ledger, SqliteStore};
use farebox_middleware::{Cashier, Node, NodeError, PaidBody, PaidUpload, PaywallLayer, Pricing};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use secp256k1::{SECP256K1, SecretKey};
use tempfile::TempDir;
use tower_layer::Layer;
use tower_service::Service;

/// What both clocks show.
pub(crate) const NOW: u64 = 1_800_000_000;
/// The host in proofs.
pub(crate) const HOST: &str = "api.example.com";
/// What each request costs, in millisatoshi.
pub(crate) const PRICE_MSAT: u64 = 1_500;
/// Where nothing is charged.
pub(crate) const WELL_KNOWN: &str = "/.well-known/payment-channel";

/// A node that knows the time, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Quiet;

impl Node for Quiet {
    fn clock(&self) -> Clock {
        Clock { median_time_past: Timestamp::new(NOW), wall: Timestamp::new(NOW) }
    }

    fn chain_time(&self) -> Option<ChainTime> {
        Some(ChainTime { height: 200, median_time_past: u32::try_from(NOW).unwrap() })
    }

    async fn find(&self, _: OutPoint, _: Option<Transaction>) -> Result<TxOut, NodeError> {
        Err(NodeError::Away("it is quiet".to_owned()))
    }

    async fn watch(&self, _: Terms) -> Result<Option<(OutPoint, Sat)>, NodeError> {
        Ok(None)
    }

    async fn attend(&self, _: OutPoint) {}
}

/// The service behind the paywall: it answers with these fields, and keeps what it was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Api {
    pub(crate) answers: HeaderMap,
    pub(crate) asked: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Service<Request<PaidUpload<Full<Bytes>>>> for Api {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<PaidUpload<Full<Bytes>>>) -> Self::Future {
        self.asked.lock().unwrap().push(request.headers().clone());
        let mut response = Response::new(Full::new(Bytes::from("hello\n")));
        *response.headers_mut() = self.answers.clone();
        ready(Ok(response))
    }
}

/// An answer, read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Reads a message of the answer.
    pub(crate) fn message<F: Field>(&self) -> F {
        let value = self.headers.get(F::NAME).unwrap_or_else(|| panic!("{}: {self:?}", F::NAME));
        F::decode(value.as_bytes()).unwrap()
    }
}

/// A gateway and its only client.
pub(crate) struct Desk {
    pub(crate) gateway: Gateway,
    pub(crate) ledger: Ledger,
    pub(crate) key: SecretKey,
    pub(crate) contract: Contract,
    _folder: TempDir,
}

impl Desk {
    /// Makes a gateway with an open channel, whose first payment is 1,000 sat.
    pub(crate) async fn open() -> Self {
        let folder = TempDir::new().unwrap();
        let keyring = Keyring::new(Seed::new([1; 32]), Network::Regtest);
        let store = SqliteStore::open(&folder.path().join("store"), &keyring.fingerprint());
        let ledger = Ledger::open(store.unwrap(), rules()).unwrap();
        let gateway = Gateway { keyring, rules: Rules::clone(&ledger.rules()) };
        let key = SecretKey::from_slice(&[2; 32]).unwrap();
        let desk =
            Self { contract: contract(&gateway, &key), gateway, ledger, key, _folder: folder };
        desk.ledger.create(desk.channel()).await.unwrap();
        desk
    }

    /// The channel, open.
    fn channel(&self) -> Channel {
        let shown = ContractRequest::of(&self.contract, self.payment(1_000), None);
        let chain = Quiet.chain_time().unwrap();
        let shown = self.gateway.check_shown(&shown, Quiet.clock(), chain).unwrap();
        let channel = shown.admit(&self.contract.output()).unwrap();
        let confirmed = Input::Confirmed { height: 201, confirmations: 1 };
        channel.handle(Quiet.clock(), &self.gateway.rules, confirmed).unwrap()
    }

    /// The client's signature for `paid` satoshi in all.
    pub(crate) fn payment(&self, paid: u64) -> Payment {
        Payment::sign(&self.contract, Sat::new(paid).unwrap(), &self.key).unwrap()
    }

    /// The payment of `paid` satoshi as a message.
    pub(crate) fn pay(&self, paid: u64) -> PayRequest {
        let channel = self.contract.outpoint;
        PayRequest {
            channel,
            pass: self.gateway.pass(channel),
            payment: self.payment(paid),
            price_max: None,
        }
    }

    /// A layer that charges the price for everything.
    pub(crate) fn layer(&self) -> PaywallLayer<Quiet, impl Pricing> {
        self.layer_for(|_: &Parts| Msat::new(PRICE_MSAT).ok())
    }

    /// A layer that charges what `pricing` says.
    pub(crate) fn layer_for<P: Pricing>(&self, pricing: P) -> PaywallLayer<Quiet, P> {
        let (keyring, ledger) = (self.gateway.keyring.clone(), self.ledger.clone());
        let cashier = Cashier::new(keyring, ledger, Quiet, vec![HOST.to_owned()]);
        PaywallLayer::new(cashier, pricing)
    }

    /// Sends a request with these fields through the paywall before a plain service.
    pub(crate) async fn send(&self, path: &str, fields: &[(&str, String)]) -> Answer {
        ask(&mut self.layer().layer(Api::default()), path, fields).await
    }
}

/// Sends a request with these fields to a service.
pub(crate) async fn ask<S>(service: &mut S, path: &str, fields: &[(&str, String)]) -> Answer
where
    S: Service<
            Request<Full<Bytes>>,
            Response = Response<PaidBody<Full<Bytes>>>,
            Error = Infallible,
        >,
{
    let mut request = Request::get(path);
    for (name, value) in fields {
        request = request.header(*name, value);
    }
    let request = request.body(Full::default()).unwrap();
    let (parts, body) = service.call(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// Returns a message as a field.
pub(crate) fn header<F: Field>(message: &F) -> (&'static str, String) {
    (F::NAME, message.encode())
}

fn rules() -> Rules {
    let sat = |sat| Sat::new(sat).unwrap();
    Rules {
        kinds: Kind::ALL.to_vec(),
        capacity: sat(10_000)..=sat(1_000_000),
        lifetime: Seconds::new(86_400)..=Seconds::new(864_000),
        first_payment: sat(1_000),
        cheapest: Msat::new(PRICE_MSAT).unwrap(),
        confirmations: 1,
        stop: Seconds::new(28_800),
        settle: Seconds::new(21_600),
        settling: Settling { wait: Seconds::new(0), ..Settling::default() },
        unconfirmed: None,
        restored: None,
    }
}

fn contract(gateway: &Gateway, key: &SecretKey) -> Contract {
    let expiry = Expiry::new(NOW + 172_800).unwrap();
    let payout = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([7; 20]));
    Contract {
        terms: gateway.keyring.terms(Kind::Cltv, key.public_key(SECP256K1), expiry),
        outpoint: OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 },
        capacity: Sat::new(100_000).unwrap(),
        payout: Payout::new(payout).unwrap(),
    }
}
