//! The channels: opened through the gateway as any client opens them, and paid by one transaction.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::{Network, OutPoint, Transaction, Txid};
use farebox::regtest::Regtest;
use farebox_chain::{Chain, Wallet};
use farebox_channel::client::{Draft, Limits};
use farebox_channel::message::{
    ContractRequest, Offer, PayRequest, StateName, StateReply, TermsReply,
};
use farebox_channel::wire::Field;
use farebox_channel::{Clock, Contract, Kind, Pass, Payment, Payout, Sat, Timestamp};
use http::StatusCode;
use http::header::RETRY_AFTER;
use secp256k1::SecretKey;
use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::gateway::{FIRST_SAT, PAID};

/// What each channel holds, in satoshi: the most that a gateway takes by default.
const CAPACITY_SAT: u64 = 10_000_000;
/// The path on which nothing is charged.
const WELL_KNOWN: &str = "/.well-known/payment-channel";
/// How long the channels may take to be open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// An open channel of a client.
#[derive(Debug)]
pub(crate) struct Purse {
    contract: Contract,
    key: SecretKey,
    pass: Pass,
    host: SocketAddr,
}

impl Purse {
    /// Returns a request that pays so much in all.
    pub(crate) fn request(&self, path: &str, paid_sat: u64) -> Outcome<Vec<u8>> {
        let (name, value) = self.field(paid_sat)?;
        Ok(request(path, self.host, &format!("{name}: {value}\r\n")))
    }

    fn field(&self, paid_sat: u64) -> Outcome<(&'static str, String)> {
        let payment = Payment::sign(&self.contract, Sat::new(paid_sat)?, &self.key)?;
        let channel = self.contract.outpoint;
        let pay = PayRequest { channel, pass: self.pass, payment, price_max: None };
        Ok((PayRequest::NAME, pay.encode()))
    }
}

/// Returns the bytes of a request with more fields.
pub(crate) fn request(path: &str, host: SocketAddr, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").into_bytes()
}

/// The client that opens channels.
#[derive(Debug)]
pub(crate) struct Opener<'a> {
    node: &'a Regtest,
    host: SocketAddr,
    http: reqwest::Client,
}

impl<'a> Opener<'a> {
    /// Makes a client of a gateway and a node, whose wallet `client` has coins.
    pub(crate) fn new(node: &'a Regtest, host: SocketAddr) -> Outcome<Self> {
        // Building a client without TLS needs no provider, but the library wants one.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        Ok(Self { node, host, http: reqwest::Client::builder().build()? })
    }

    /// Opens so many channels, and waits until they are open.
    pub(crate) async fn open(&self, count: usize) -> Outcome<Vec<Purse>> {
        self.until_the_node_is_followed().await?;
        let mut drafts = Vec::new();
        for _ in 0..count {
            drafts.push(self.draft().await?);
        }
        let funding = self.fund(&drafts).await?;
        let address = self.node.node(Some("client")).fresh_address().await?;
        let payout = Payout::try_from(&address)?;
        let mut shown = Vec::new();
        for (draft, key) in drafts {
            shown.push(self.show(draft, key, &funding, payout.clone()).await?);
        }
        self.node.mine(1).await?;
        let mut purses = Vec::new();
        for (contract_request, contract, key) in shown {
            let pass = self.until_open(&contract_request).await?;
            purses.push(Purse { contract, key, pass, host: self.host });
        }
        Ok(purses)
    }

    /// Has a channel pay so much in all, for no request.
    pub(crate) async fn top_up(&self, purse: &Purse, paid_sat: u64) -> Outcome<()> {
        let (name, value) = purse.field(paid_sat)?;
        self.send(WELL_KNOWN, Some((name, value))).await?.error_for_status()?;
        Ok(())
    }

    /// Asks, and asks again when the gateway says so: its limits are the ones that it has by default.
    async fn send(
        &self,
        path: &str,
        field: Option<(&'static str, String)>,
    ) -> Outcome<reqwest::Response> {
        loop {
            let mut request = self.http.get(format!("http://{}{path}", self.host));
            if let Some((name, value)) = &field {
                request = request.header(*name, value);
            }
            let answer = request.send().await?;
            if answer.status() != StatusCode::TOO_MANY_REQUESTS {
                return Ok(answer);
            }
            let wait = answer.headers().get(RETRY_AFTER).ok_or("there is no Retry-After")?;
            tokio::time::sleep(Duration::from_secs(wait.to_str()?.parse()?)).await;
        }
    }

    /// Sends a step, and returns the gateway's message.
    async fn ask<Q: Field, A: Field>(&self, step: &Q) -> Outcome<A> {
        let answer = self.send(WELL_KNOWN, Some((Q::NAME, step.encode()))).await?;
        match answer.headers().get(A::NAME).cloned() {
            Some(message) => Ok(A::decode(message.as_bytes()).map_err(|error| error.to_string())?),
            None => Err(format!("{} was refused: {}", Q::NAME, answer.text().await?).into()),
        }
    }

    async fn offer(&self) -> Outcome<Offer> {
        let answer = self.send(PAID, None).await?;
        let offer = answer.headers().get(Offer::NAME).ok_or("there is no offer")?;
        Ok(Offer::decode(offer.as_bytes()).map_err(|error| error.to_string())?)
    }

    /// Agrees on terms.
    async fn draft(&self) -> Outcome<(Draft, SecretKey)> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let key = SecretKey::from_slice(&bytes)?;
        let offer = self.offer().await?;
        let limits = Limits {
            network: Network::Regtest,
            kind: Kind::Cltv,
            capacity: Sat::new(CAPACITY_SAT)?,
            lifetime: *offer.lifetime.start(),
            first_payment_max: Sat::new(FIRST_SAT)?,
        };
        let request = limits.request(&offer, &key)?;
        let reply: TermsReply = self.ask(&request).await?;
        let told = self.node.node(None).tip().await?.median_time_past;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let clock = Clock { median_time_past: Timestamp::new(told), wall: Timestamp::new(wall) };
        Ok((Draft::accept(&offer, &request, &reply, clock)?, key))
    }

    /// Broadcasts one transaction that pays all contracts.
    async fn fund(&self, drafts: &[(Draft, SecretKey)]) -> Outcome<Transaction> {
        let wallet = self.node.node(Some("client"));
        let output = |(draft, _): &(Draft, SecretKey)| {
            (draft.terms.address().to_string(), json!(draft.capacity.to_amount().to_btc()))
        };
        let outputs: Map<String, Value> = drafts.iter().map(output).collect();
        let txid: Txid = wallet.call("sendmany", json!(["", outputs])).await?;
        let funding = wallet.mempool_transaction(txid).await?;
        Ok(funding.ok_or("the contracts are not in the mempool")?)
    }

    /// Shows a contract with its first payment.
    async fn show(
        &self,
        draft: Draft,
        key: SecretKey,
        funding: &Transaction,
        payout: Payout,
    ) -> Outcome<(ContractRequest, Contract, SecretKey)> {
        let Draft { terms, capacity, .. } = draft;
        let script = terms.script_pubkey();
        let vout = funding.output.iter().position(|output| output.script_pubkey == script);
        let vout = u32::try_from(vout.ok_or("a contract is not paid")?)?;
        let outpoint = OutPoint { txid: funding.compute_txid(), vout };
        let contract = Contract { terms, outpoint, capacity, payout };
        let shown = ContractRequest {
            outpoint,
            transaction: None,
            capacity,
            kind: contract.terms.kind,
            client_key: contract.terms.client_key,
            expiry: contract.terms.expiry,
            payout: contract.payout.clone(),
            payment: Payment::sign(&contract, Sat::new(FIRST_SAT)?, &key)?,
        };
        let _pending: StateReply = self.ask(&shown).await?;
        Ok((shown, contract, key))
    }

    /// Waits until a channel is open, and returns its pass.
    async fn until_open(&self, shown: &ContractRequest) -> Outcome<Pass> {
        let deadline = tokio::time::Instant::now() + OPEN_TIMEOUT;
        while tokio::time::Instant::now() < deadline {
            let reply: StateReply = self.ask(shown).await?;
            if reply.state == StateName::Open {
                return Ok(reply.pass);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err("a channel is not open in time".into())
    }

    /// Waits until the gateway has followed the chain to its tip.
    async fn until_the_node_is_followed(&self) -> Outcome<()> {
        let height = self.node.node(None).tip().await?.height;
        let deadline = tokio::time::Instant::now() + OPEN_TIMEOUT;
        while tokio::time::Instant::now() < deadline {
            let told = self.send(WELL_KNOWN, None).await?.text().await?;
            let told: Value = serde_json::from_str(&told)?;
            if told["chain"]["height"] == height {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err("the gateway does not follow the chain".into())
    }
}
