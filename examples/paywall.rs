//! A paywall in an axum router of one's own, without the proxy.
//!
//! ```console
//! cargo run --example paywall
//! ```
//!
//! It starts a bitcoind on regtest, serves two routes, and pays for one of them.

use std::error::Error;

use axum::Router;
use axum::routing::get;
use bitcoin::Network;
use farebox::config::FeeConfig;
use farebox::regtest::Regtest;
use farebox::watcher::{Fitness, Setup, Watcher};
use farebox_channel::gateway::{Rules, Settling};
use farebox_channel::{Keyring, Kind, Msat, Sat, Seconds, Seed};
use farebox_client::{ChannelFile, PayingClient, Policy};
use farebox_ledger::{Ledger, SqliteStore};
use farebox_middleware::{Cashier, PaywallLayer};
use http::request::Parts;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let node = Regtest::start().await?;
    node.create_wallets().await?;
    let folder = tempfile::tempdir()?;

    // The gateway: keys, rules, and channels that are kept in a file.
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?; // A real gateway keeps its seed in a file.
    let keyring = Keyring::new(Seed::new(seed), Network::Regtest);
    let store = SqliteStore::open(&folder.path().join("channels.sqlite"), &keyring.fingerprint())?;
    let rules = Rules {
        kinds: Kind::ALL.to_vec(),
        capacity: Sat::new(50_000)?..=Sat::new(1_000_000)?,
        lifetime: Seconds::new(172_800)..=Seconds::new(2_592_000),
        first_payment: Sat::new(400)?,
        cheapest: Msat::new(2_500)?,
        confirmations: 1,
        stop: Seconds::new(43_200),
        settle: Seconds::new(36_000),
        settling: Settling::default(),
        unconfirmed: None,
        restored: None,
    };
    let ledger = Ledger::open(store, rules)?;

    // The watcher follows the chain and settles. Its wallet takes the gateway's share.
    let fitness = Fitness::new(Network::Regtest);
    let wallet = node.node(Some("gateway"));
    fitness.check(&wallet).await?;
    let setup = Setup { fitness, payout: None, fees: FeeConfig::default() };
    let watcher = Watcher::new(wallet, keyring.clone(), ledger.clone(), setup);
    tokio::spawn(watcher.clone().run());

    // The paywall: any tower service can stand behind it.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    let pricing = |request: &Parts| {
        let is_paid = request.uri.path() == "/joke";
        is_paid.then(|| Msat::new(2_500)).and_then(Result::ok)
    };
    let paywall =
        PaywallLayer::new(Cashier::new(keyring, ledger, watcher, vec![host.clone()]), pricing);
    let router = Router::new()
        .route("/joke", get(async || "A satoshi walks into a bar. Nobody charges it.\n"))
        .route("/", get(async || "/joke costs 2.5 sat.\n"))
        .layer(paywall);
    tokio::spawn(async move { axum::serve(listener, router).await });

    // A client pays for one request.
    let channels = ChannelFile::open(&folder.path().join("client.sqlite"))?;
    let client = PayingClient::new(node.node(Some("client")), channels, Policy::new(Kind::Cltv))?;
    let url = format!("http://{host}/joke");
    let paying = client.get(&url).send();
    let mining = async {
        loop {
            node.mine_what_waits().await?;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let answer = tokio::select! {
        answer = paying => answer?,
        failed = mining => return failed,
    };
    let receipt = answer.headers().get("payment-channel-receipt").cloned();
    #[expect(clippy::print_stdout, reason = "an example shows what it does")]
    {
        print!("{}", answer.text().await?);
        println!("receipt: {}", receipt.ok_or("a paid answer has a receipt")?.to_str()?);
    }
    Ok(())
}
