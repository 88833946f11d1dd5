//! A node, an API, a gateway and a client for each test: nothing is shared.

mod api;
mod buyer;
mod crowd;
mod gateway;
mod operator;
mod wire_tap;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hex::FromHex;
use bitcoin::{Transaction, Txid};
use farebox::regtest::Regtest;
use farebox_chain::{Bitcoind, Chain};
use farebox_channel::{Keyring, Kind, Seed};
use farebox_client::{ChannelFile, PayingClient, Policy};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) use api::{Api, Asked};
pub(crate) use buyer::{Answer, Buyer, header, wall};
pub(crate) use crowd::{Audit, Crowd, spenders};
pub(crate) use gateway::{Gateway, configuration as gateway_configuration, terminate};
pub(crate) use operator::Operator;
pub(crate) use wire_tap::{Hold, Tap};

/// The price of everything below `/paid`, in millisatoshi.
pub(crate) const PRICE_MSAT: u64 = 1_500;
/// The first payment that the gateway asks for, in satoshi.
pub(crate) const FIRST_SAT: u64 = 400;
/// What channels hold, in satoshi.
pub(crate) const CAPACITY_SAT: u64 = 100_000;
/// How long something may take that does not happen at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Everything that a test needs. It all ends with this value.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) api: Api,
    pub(crate) node: Arc<Regtest>,
    pub(crate) folder: TempDir,
}

impl World {
    /// Starts a node with a client's coins, an API, and a gateway in front of it.
    pub(crate) async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    /// The same, with a changed configuration.
    pub(crate) async fn start_with(change: impl FnOnce(String) -> String) -> Self {
        Self::start_by(Gateway::start, change).await
    }

    /// The same, with a gateway whose log is kept in the file `log`.
    pub(crate) async fn start_logged(change: impl FnOnce(String) -> String) -> Self {
        let start = |folder: &TempDir, config: &str| {
            let log = std::fs::File::create(folder.path().join("log")).unwrap();
            let mut program = Command::new("env");
            program.stderr(log).env("NO_COLOR", "1").env("FAREBOX_LOG", "info");
            Gateway::start_below(folder, config, program)
        };
        Self::start_by(start, change).await
    }

    /// The same, with a gateway that is started in another way.
    pub(crate) async fn start_by(
        start: impl FnOnce(&TempDir, &str) -> Gateway,
        change: impl FnOnce(String) -> String,
    ) -> Self {
        Self::start_on(Regtest::start().await.unwrap(), start, change).await
    }

    /// The same, with a node that has no wallets yet.
    pub(crate) async fn start_on(
        node: Regtest,
        start: impl FnOnce(&TempDir, &str) -> Gateway,
        change: impl FnOnce(String) -> String,
    ) -> Self {
        node.create_wallets().await.unwrap();
        let api = Api::start().await;
        let folder = TempDir::with_prefix("farebox-test-").unwrap();
        let config = change(gateway::configuration(&node, &api));
        let gateway = start(&folder, &config);
        let world = Self { gateway, api, node: Arc::new(node), folder };
        world.until_the_node_is_followed().await;
        world
    }

    /// Returns a file in the test's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the gateway's keys, as only its own key file makes them.
    pub(crate) fn keyring(&self) -> Keyring {
        let seed = std::fs::read_to_string(self.file("farebox.key")).unwrap();
        let seed = <[u8; 32]>::from_hex(seed.trim()).unwrap();
        Keyring::new(Seed::new(seed), bitcoin::Network::Regtest)
    }

    /// Sends a signal to the node's process.
    pub(crate) fn signal_node(&self, name: &str) {
        let id = std::fs::read_to_string(self.node.cookie_file().with_file_name("bitcoind.pid"));
        let sent = Command::new("kill").args([name, id.unwrap().trim()]).status().unwrap();
        assert!(sent.success(), "{name}");
    }

    /// Returns a client of the node's wallet `client`.
    pub(crate) fn wallet(&self) -> Bitcoind {
        self.node.node(Some("client"))
    }

    /// Returns a paying client that keeps its channels in a file named after the kind.
    pub(crate) fn paying_client(&self, kind: Kind) -> PayingClient<Bitcoind> {
        self.client(&format!("{kind}.sqlite"), Policy::new(kind))
    }

    /// Returns a paying client with a policy, and a file of that name.
    pub(crate) fn client(&self, file: &str, policy: Policy) -> PayingClient<Bitcoind> {
        let file = ChannelFile::open(&self.file(file)).unwrap();
        PayingClient::new(self.wallet(), file, policy).unwrap()
    }

    /// Returns a client that says whatever a test wants it to say.
    pub(crate) fn buyer(&self) -> Buyer {
        Buyer::new(&self.gateway)
    }

    /// Returns a buyer with an open channel.
    pub(crate) async fn buyer_with_channel(&self, kind: Kind) -> Buyer {
        let mut buyer = self.buyer();
        buyer.open(self, kind).await;
        buyer
    }

    /// Mines blocks and waits until the gateway has seen them.
    pub(crate) async fn mine(&self, blocks: u32) {
        self.node.mine(blocks).await.unwrap();
        self.until_the_node_is_followed().await;
    }

    /// Mines blocks that take nothing from the mempool, at a time, and waits until the gateway has
    /// seen them. Six of them move the median time past there.
    pub(crate) async fn mine_empty(&self, blocks: u32, seconds: u64) {
        let node = self.node.node(None);
        let _none: Value = node.call("setmocktime", json!([seconds])).await.unwrap();
        for _ in 0..blocks {
            let _hash: Value = node.call("generateblock", json!(["raw(51)", []])).await.unwrap();
        }
        self.until_the_node_is_followed().await;
    }

    /// Takes blocks out of the chain. Their transactions go back to the mempool, and later blocks
    /// get another time, or the same ones would be mined again.
    pub(crate) async fn unmine(&self, blocks: u32) {
        let node = self.node.node(None);
        let height = node.tip().await.unwrap().height;
        let first = node.block_hash(height + 1 - blocks).await.unwrap();
        let _none: Value = node.call("invalidateblock", json!([first])).await.unwrap();
        let later = wall().get() + 600;
        let _none: Value = node.call("setmocktime", json!([later])).await.unwrap();
        self.until_the_node_is_followed().await;
    }

    /// Starts the gateway again with a changed configuration.
    pub(crate) fn reconfigure(&mut self, change: impl FnOnce(String) -> String) {
        assert!(self.gateway.terminate());
        let path = self.file("farebox.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(config)).unwrap();
        self.gateway.restart();
    }

    /// Mines blocks until a transaction is in one, and returns it.
    pub(crate) async fn mine_until_mined(&self, txid: Txid) -> Transaction {
        until("the transaction is mined", async || {
            self.node.mine_what_waits().await.unwrap();
            self.node.mined(txid).await.is_ok()
        })
        .await;
        self.until_the_node_is_followed().await;
        self.node.mined(txid).await.unwrap()
    }

    /// Mines a block whenever something waits for one, until the guard is dropped.
    pub(crate) fn keep_mining(&self) -> Mining {
        let node = Arc::clone(&self.node);
        Mining(tokio::spawn(async move {
            loop {
                // The node may be stopped by the test.
                let _mined = node.mine_what_waits().await;
                tokio::time::sleep(PAUSE).await;
            }
        }))
    }

    /// Waits until the gateway has followed the chain to its tip.
    pub(crate) async fn until_the_node_is_followed(&self) {
        let height = self.node.node(None).tip().await.unwrap().height;
        let buyer = self.buyer();
        until("the gateway follows the chain", async || {
            let described = buyer.send(buyer::WELL_KNOWN, &[]).await.body;
            let described: Value = serde_json::from_str(&described).unwrap();
            described["chain"]["height"] == height
        })
        .await;
    }

    /// Moves the node's clock, and with it the median time past.
    pub(crate) async fn set_median_time_past(&self, seconds: u64) {
        set_median_time_past(&self.node, seconds).await;
        self.until_the_node_is_followed().await;
    }

    /// Takes the newest block out of the chain, and waits until the gateway has noticed.
    pub(crate) async fn unmine_tip(&self) {
        let node = self.node.node(None);
        let tip = node.tip().await.unwrap();
        let _none: Value = node.call("invalidateblock", json!([tip.hash])).await.unwrap();
        // Later blocks get another time, or the same block would be mined again.
        let later = wall().get() + 600;
        let _none: Value = node.call("setmocktime", json!([later])).await.unwrap();
        self.until_the_node_is_followed().await;
    }
}

/// Moves a node's clock, and with it the median time past.
pub(crate) async fn set_median_time_past(node: &Regtest, seconds: u64) {
    let rpc = node.node(None);
    let _none: Value = rpc.call("setmocktime", json!([seconds])).await.unwrap();
    node.mine(6).await.unwrap();
    let told = rpc.tip().await.unwrap().median_time_past;
    assert_eq!(told, seconds, "six of eleven blocks have that time");
}

/// Mines as long as it lives.
pub(crate) struct Mining(tokio::task::JoinHandle<()>);

impl Drop for Mining {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until something is true.
pub(crate) async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_true().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}
