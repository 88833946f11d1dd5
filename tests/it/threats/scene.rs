//! A client in front of a liar in front of the real gateway, and what comes back of its coins.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::{Amount, OutPoint};
use farebox_chain::{Bitcoind, Chain};
use farebox_channel::Kind;
use farebox_client::{ChannelFile, PayError, PayingClient, Policy, Record, Stage};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::liar::Liar;
use crate::support::{World, set_median_time_past};

/// How long a client may take, whatever it is told.
pub(super) const BOUND: Duration = Duration::from_secs(15);

/// A world whose gateway is behind a liar, and serves channels at once.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) liar: Liar,
    /// The channel file of each client so far.
    files: Vec<PathBuf>,
    /// What the wallet had at first.
    coins: Amount,
}

impl Scene {
    pub(super) async fn set() -> Self {
        let (liar, listener) = Liar::take_place();
        let world = World::start_with(|config| {
            let trust = "confirmations = 0\nunconfirmed_max_sat = 50000\n\
                         unconfirmed_total_sat = 5000000\n";
            let config = config.replace("[offer]\n", &format!("[offer]\n{trust}"));
            format!("host = \"{}\"\n{config}", liar.host)
        })
        .await;
        liar.serve(listener, &world.gateway.host);
        let coins = wealth(&world).await;
        Self { world, liar, files: Vec::new(), coins }
    }

    /// Returns a new client, which waits for little.
    pub(super) fn client(&mut self, kind: Kind) -> PayingClient<Bitcoind> {
        let path = self.world.file(&format!("{}.sqlite", self.files.len()));
        let file = ChannelFile::open(&path).unwrap();
        self.files.push(path);
        let patience = Duration::from_secs(1);
        let policy = Policy { patience, answer_patience: patience, ..Policy::new(kind) };
        PayingClient::new(self.world.wallet(), file, policy).unwrap()
    }

    /// Returns a new client that has paid for an answer, and whose liar was honest so far.
    pub(super) async fn client_with_channel(&mut self, kind: Kind) -> PayingClient<Bitcoind> {
        let client = self.client(kind);
        assert_eq!(self.get(&client).await.unwrap().status(), 200);
        client
    }

    /// Has a client ask for something that costs.
    pub(super) async fn get(&self, client: &PayingClient<Bitcoind>) -> Result<Response, PayError> {
        let url = self.liar.url("/paid/x");
        let answered = timeout(BOUND, client.get(&url)).await.expect("an end in time");
        self.world.node.mine_what_waits().await.unwrap();
        answered
    }

    /// Checks that no coin was moved or kept, and none is on record.
    pub(super) async fn nothing_moved(&self, client: &PayingClient<Bitcoind>, what: &str) {
        assert_eq!(client.file().channels().unwrap(), [], "{what}");
        assert_eq!(locked(&self.world).await, 0, "{what}");
        assert_eq!(wealth(&self.world).await, self.coins, "{what}");
    }

    /// Kills the gateway, waits for the expiry, and checks that every coin comes back to every client by
    /// bitcoind alone.
    pub(super) async fn take_all_back(mut self) {
        self.world.gateway.kill();
        self.world.node.mine_what_waits().await.unwrap();
        let open = |path: &PathBuf| ChannelFile::open(path).unwrap();
        let files: Vec<_> = self.files.iter().map(open).collect();
        let records = files.iter().flat_map(|file| file.channels().unwrap());
        let expiry = records.map(|record| record.contract().terms.expiry.get()).max().unwrap();
        set_median_time_past(&self.world.node, u64::from(expiry) + 1).await;

        for file in files {
            let policy = Policy::new(Kind::Cltv);
            let client = PayingClient::new(self.world.wallet(), file, policy).unwrap();
            client.refund_due().await.unwrap();
        }

        self.world.node.mine(1).await.unwrap();
        assert_eq!(self.world.node.node(None).mempool().await.unwrap(), []);
        assert_eq!(locked(&self.world).await, 0);
        assert_eq!(wealth(&self.world).await + fees(&self.world).await, self.coins);
    }
}

/// Returns what a client has signed for in all.
pub(super) fn signed(client: &PayingClient<Bitcoind>) -> u64 {
    let [record]: [Record; 1] = client.file().channels().unwrap().try_into().unwrap();
    let (Stage::Open(purse) | Stage::Closing(purse, _)) = record.stage else {
        panic!("{record:?}")
    };
    purse.payment.paid.get()
}

/// Returns all that the client's wallet has.
async fn wealth(world: &World) -> Amount {
    let told: Value = world.wallet().call("getbalances", json!([])).await.unwrap();
    let part = |name: &str| Amount::from_btc(told["mine"][name].as_f64().unwrap()).unwrap();
    part("trusted") + part("untrusted_pending") + part("immature")
}

/// Returns how many coins the wallet keeps from being spent.
pub(super) async fn locked(world: &World) -> usize {
    let locked: Vec<Value> = world.wallet().call("listlockunspent", json!([])).await.unwrap();
    locked.len()
}

/// Returns what the miners have got.
async fn fees(world: &World) -> Amount {
    let node = world.node.node(None);
    let (mut coins, mut fees) = (BTreeMap::<OutPoint, Amount>::new(), Amount::ZERO);
    for height in 1..=node.tip().await.unwrap().height {
        let hash = node.block_hash(height).await.unwrap().unwrap();
        for transaction in node.block(hash).await.unwrap().txdata {
            let txid = transaction.compute_txid();
            let made = transaction.output.iter().map(|output| output.value);
            if !transaction.is_coinbase() {
                let spent = transaction.input.iter().map(|input| coins[&input.previous_output]);
                fees += spent.sum::<Amount>() - made.clone().sum::<Amount>();
            }
            let outpoints = (0..).map(|vout| OutPoint { txid, vout });
            coins.extend(outpoints.zip(made));
        }
    }
    fees
}
