//! Contracts paid by a wallet that the paying client cannot reach, and whose payment is gone since.

use std::path::Path;
use std::time::Duration;

use bitcoin::{Network, OutPoint, Txid};
use farebox_chain::{Bitcoind, Chain, Joined, Wallet};
use farebox_channel::Kind;
use farebox_channel::message::StateName;
use farebox_client::{
    ChannelFile, Event, Invoice, Observer, OutsideWallet, PayingClient, Policy, Record, Stage,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::support::{World, until};

/// For how long an end is waited for.
const IN_TIME: Duration = Duration::from_secs(180);

/// A client whose wallet is elsewhere, and what it tells.
struct Payer {
    client: PayingClient<Joined<Bitcoind, OutsideWallet>>,
    asked: UnboundedReceiver<Invoice>,
    /// The contracts that a gateway has seen and that wait for a block.
    pending: UnboundedReceiver<OutPoint>,
}

impl Payer {
    async fn new(world: &World, file: &Path) -> Self {
        let (say, asked) = unbounded_channel();
        let back = world.wallet().fresh_address().await.unwrap();
        let wallet = OutsideWallet::by_address(Network::Regtest, back, move |invoice| {
            say.send(invoice.clone()).unwrap();
        });
        let node = Joined { chain: world.node.node(None), wallet };
        let (shown, pending) = unbounded_channel();
        let observer = Observer::new(move |event| {
            if let Event::Shown(outpoint, StateName::Pending) = event {
                shown.send(*outpoint).unwrap();
            }
        });
        let file = ChannelFile::open(file).unwrap();
        let policy = Policy { patience: Duration::from_secs(60), ..Policy::new(Kind::Cltv) };
        let client = PayingClient::new(node, file, policy).unwrap().observed_by(observer);
        Self { client, asked, pending }
    }

    /// Pays what is asked for from a wallet, until the gateway has seen it.
    async fn paid(&mut self, world: &World) -> Txid {
        let invoice = self.asked.recv().await.unwrap();
        let replaceable = json!([invoice.address, invoice.amount.to_btc(), "", "", false, true]);
        let paid: Txid = world.wallet().call("sendtoaddress", replaceable).await.unwrap();
        assert_eq!(self.pending.recv().await.unwrap().txid, paid);
        paid
    }
}

#[tokio::test]
async fn a_payment_that_its_wallet_replaces_by_a_dearer_one_opens_the_channel_with_that_one() {
    let world = World::start().await;
    let mut payer = Payer::new(&world, &world.file("channels.sqlite")).await;
    let paying = tokio::spawn(payer.client.get(world.gateway.url("/paid/x")).send());
    let paid = payer.paid(&world).await;

    let bumped: Value = world.wallet().call("bumpfee", json!([paid])).await.unwrap();
    let dearer: Txid = bumped["txid"].as_str().unwrap().parse().unwrap();
    world.mine(1).await;

    let answer = timeout(IN_TIME, paying).await.expect("an end in time");
    assert_eq!(answer.unwrap().unwrap().status(), 200);
    let records = payer.client.file().channels().unwrap();
    let is_open = |record: &&Record| matches!(record.stage, Stage::Open(_));
    let open: Vec<_> = records.iter().filter(is_open).map(Record::outpoint).collect();
    assert_eq!((open.len(), open[0].txid, records.len()), (1, dearer, 2));
    assert!(payer.asked.try_recv().is_err(), "nobody is asked twice");
}

#[tokio::test]
async fn a_channel_that_was_closed_since_it_was_shown_is_not_waited_for_and_another_is_asked_for() {
    let world = World::start().await;
    let url = world.gateway.url("/paid/x");
    let mut payer = Payer::new(&world, &world.file("channels.sqlite")).await;
    let paying = tokio::spawn(payer.client.get(&url).send());
    payer.paid(&world).await;
    // What is on record by now is all that a run which was cut off here has.
    for end in ["", "-wal"] {
        let [from, to] =
            ["channels", "early"].map(|name| world.file(&format!("{name}.sqlite{end}")));
        std::fs::copy(from, to).unwrap();
    }
    world.mine(1).await;
    assert_eq!(paying.await.unwrap().unwrap().status(), 200);
    let outpoint = payer.client.file().channels().unwrap().remove(0).outpoint();
    payer.client.close(&url).await.unwrap();
    until("the contract is spent", async || {
        world.node.node(None).unspent(outpoint).await.unwrap().is_none()
    })
    .await;
    world.mine(1).await;

    let mut again = Payer::new(&world, &world.file("early.sqlite")).await;
    assert!(matches!(again.client.file().channels().unwrap()[0].stage, Stage::Held(_)));
    let paying = tokio::spawn(again.client.get(&url).send());

    let asked = timeout(Duration::from_secs(30), again.asked.recv()).await;
    let asked = asked.expect("somebody is asked at once").unwrap();
    let closed = payer.client.file().channels().unwrap().remove(0);
    assert_ne!(asked.address, closed.contract().terms.address());
    paying.abort();
}
