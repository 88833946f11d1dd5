//! A node that is away, at the start or later, or that is not the right one.

use std::process::Command;
use std::sync::Arc;

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use farebox::regtest::Regtest;
use farebox_channel::Kind;
use farebox_channel::message::StateName;

use crate::support::{Api, Buyer, Gateway, Operator, World, gateway_configuration, until};

#[tokio::test]
async fn without_a_node_free_routes_go_on_and_nothing_opens() {
    let mut node = Regtest::start().await.unwrap();
    node.create_wallets().await.unwrap();
    let api = Api::start().await;
    let folder = tempfile::TempDir::with_prefix("farebox-test-").unwrap();
    let config = gateway_configuration(&node, &api);
    node.stop().await.unwrap();

    let gateway = Gateway::start(&folder, &config);
    let mut world = World { gateway, api, node: Arc::new(node), folder };
    let mut buyer = world.buyer();
    assert_eq!(buyer.send("/free/x", &[]).await.status, 200);
    assert_eq!(buyer.send("/paid/x", &[]).await.refusal(), (402, "payment-required".to_owned()));
    let (_, request) = buyer.wish(Kind::Cltv).await;
    let refused = buyer.step(&request).await;
    assert_eq!(refused.refusal(), (503, "node-unavailable".to_owned()));
    assert!(refused.headers.contains_key("retry-after"));

    Arc::get_mut(&mut world.node).unwrap().restart().await.unwrap();
    world.until_the_node_is_followed().await;
    buyer.open(&world, Kind::Cltv).await;
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
}

#[tokio::test]
async fn when_the_node_goes_away_open_channels_are_served_and_closes_wait_for_it() {
    let mut world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Refund).await;
    let held = Buyer::new(&world.gateway).held(&world, Kind::Refund).await;
    let unseen = held.show(&buyer.key).unwrap();
    Arc::get_mut(&mut world.node).unwrap().stop().await.unwrap();

    assert_eq!(buyer.pay("/paid/x").await.status, 200);
    assert_eq!(buyer.send("/free/x", &[]).await.status, 200);
    // The payment is checked first, so only an honest contract learns that the node is away.
    until("the gateway notices", async || buyer.step(&unseen).await.status == 503).await;
    let closing = buyer.close().await;
    assert_eq!((closing.state, closing.settlement), (StateName::Closing, None));
    let refused = buyer.pay("/paid/x").await;
    assert_eq!(refused.refusal(), (409, "channel-closing".to_owned()));
    let operator = Operator::of(&world);
    for line in [
        "farebox_node_away 1".to_owned(),
        format!("farebox_unsettled_sat {}", closing.paid.get()),
        "farebox_paid_open_sat 0".to_owned(),
        "farebox_refusals_total{problem=\"channel-closing\"} 1".to_owned(),
    ] {
        operator.until_told(&line).await;
    }

    Arc::get_mut(&mut world.node).unwrap().restart().await.unwrap();
    world.until_the_node_is_followed().await;
    let shown = buyer.shown.clone().unwrap();
    let settlement = buyer.until_settlement().await;
    world.mine_until_mined(settlement).await;
    world.mine(5).await;
    buyer.until_state(&shown, StateName::Settled).await;
}

#[tokio::test]
async fn steps_of_one_address_that_wait_for_the_node_are_few_and_hold_nobody_up() {
    let world = World::start_with(|config| {
        config.replace("openings_at_once = 1_000", "openings_at_once = 2")
    })
    .await;
    let mut payer = world.buyer_with_channel(Kind::Cltv).await;
    let buyers = [world.buyer(), world.buyer()];
    let mut unseen = Vec::new();
    for buyer in &buyers {
        unseen.push(buyer.held(&world, Kind::Cltv).await.show(&buyer.key).unwrap());
    }
    world.signal_node("-STOP");
    let waiting = async { tokio::join!(buyers[0].step(&unseen[0]), buyers[1].step(&unseen[1])) };
    let beside = async {
        Operator::of(&world).until_told("farebox_requests_in_flight 2").await;
        let third = payer.step(&unseen[0]).await;
        assert_eq!(third.refusal(), (429, "too-many-requests".to_owned()));
        assert!(third.headers.contains_key("retry-after"));
        assert_eq!(payer.pay("/paid/x").await.status, 200);
        assert_eq!(payer.send("/free/x", &[]).await.status, 200);
        world.signal_node("-CONT");
    };

    let (answers, ()) = tokio::join!(waiting, beside);

    assert_eq!([answers.0.status, answers.1.status], [200, 200]);
}

/// Starts a gateway that should not start, and returns what it says.
fn refused_start(folder: &tempfile::TempDir, config: &str) -> String {
    let path = folder.path().join("farebox.toml");
    std::fs::write(&path, config).unwrap();
    let program = env!("CARGO_BIN_EXE_farebox");
    let ended = Command::new(program).args(["serve", "--config"]).arg(path).output().unwrap();
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).unwrap()
}

#[tokio::test]
async fn a_node_that_does_not_enforce_version_three_is_refused_unless_told_otherwise() {
    let node = Regtest::start_with("mempooltruc=accept").await.unwrap();
    node.create_wallets().await.unwrap();
    let api = Api::start().await;
    let folder = tempfile::TempDir::with_prefix("farebox-test-").unwrap();
    let config = gateway_configuration(&node, &api);

    let words = refused_start(&folder, &config);
    let otherwise = config.replace("[bitcoind]", "[bitcoind]\nany_truc_policy = true");
    let gateway = Gateway::start(&folder, &otherwise);

    assert!(words.contains("truc_policy is `accept`"), "{words}");
    assert!(words.contains("mempooltruc=enforce"), "{words}");
    let buyer = Buyer::new(&gateway);
    assert_eq!(buyer.send("/free/x", &[]).await.status, 200);
}

#[tokio::test]
async fn a_node_of_another_network_is_refused() {
    let node = Regtest::start().await.unwrap();
    node.create_wallets().await.unwrap();
    let api = Api::start().await;
    let folder = tempfile::TempDir::with_prefix("farebox-test-").unwrap();
    let config = gateway_configuration(&node, &api).replace("\"regtest\"", "\"signet\"");

    let words = refused_start(&folder, &config);

    assert!(words.contains("network `regtest`") && words.contains("`signet`"), "{words}");
}

#[tokio::test]
async fn a_node_lets_the_gateway_in_by_name_and_password() {
    let mut hash = HmacEngine::<sha256::Hash>::new(b"salt");
    hash.input(b"word");
    let hash = Hmac::from_engine(hash);
    let line = format!("mempooltruc=enforce\nrpcauth=seller:salt${hash}");
    let node = Regtest::start_with(&line).await.unwrap();
    node.create_wallets().await.unwrap();
    let api = Api::start().await;
    let folder = tempfile::TempDir::with_prefix("farebox-test-").unwrap();
    let cookie = format!("cookie_file = \"{}\"", node.cookie_file().display());
    let config = gateway_configuration(&node, &api);
    let config = config.replace(&cookie, "user = \"seller\"\npassword = \"word\"");

    let gateway = Gateway::start(&folder, &config);

    let world = World { gateway, api, node: Arc::new(node), folder };
    world.until_the_node_is_followed().await;
}
