//! Nodes that are away, behind, or have forgotten blocks.

use std::sync::Arc;
use std::time::Duration;

use farebox::regtest::Regtest;
use farebox_chain::Chain;
use farebox_channel::Kind;
use farebox_channel::message::StateName;
use serde_json::{Value, json};

use super::SETTLE_SECS;
use crate::support::{
    Api, Crowd, Gateway, Operator, World, gateway_configuration, set_median_time_past, until, wall,
};

#[tokio::test]
async fn a_node_that_was_stopped_over_a_mark_settles_as_soon_as_it_is_back() {
    let mut world = World::start().await;
    let crowd = Crowd::open(&world, &[Kind::Cltv, Kind::Refund]).await;
    assert_eq!(crowd.pay(0, 7_000).await.status, 200);
    Arc::get_mut(&mut world.node).unwrap().stop().await.unwrap();
    // Its expiry is far, so it is served.
    assert_eq!(crowd.pay(0, 8_000).await.status, 200);
    // What waits for the node is told.
    crowd.close(1, 400).await;
    let operator = Operator::of(&world);
    let mut alarms = Vec::new();
    until("an alarm is raised", async || {
        let listing = operator.json(&["channels", "--json"]).await;
        alarms = listing["alarms"].as_array().unwrap().clone();
        !alarms.is_empty()
    })
    .await;
    let words = alarms[0].as_str().unwrap();
    assert!(words.starts_with("bitcoind: "), "{words}");
    assert!(words.ends_with("1 channel, 400 sat at stake"), "{words}");
    assert!(operator.ok(&["channels"]).await.contains(&format!("alarm: {words}")));

    let raised = "farebox_alarms{alarm=\"node\"} 1\n";
    assert!(operator.metrics().await.contains(raised));

    let node = Arc::get_mut(&mut world.node).unwrap();
    node.restart().await.unwrap();
    set_median_time_past(node, crowd.expiry() - SETTLE_SECS + 3_600).await;

    crowd.until_broadcast(&world).await;
    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    crowd.until_state(1, StateName::Settled).await;
    assert_eq!(operator.json(&["channels", "--json"]).await["alarms"], json!([]));
    assert!(!operator.metrics().await.contains(raised));
    assert_eq!(world.audit().await.paid_sat, 8_400);
}

#[tokio::test]
async fn a_new_block_is_noticed_within_two_seconds() {
    let world = World::start().await;
    for _ in 0..3 {
        world.node.mine(1).await.unwrap();
        let mined = tokio::time::Instant::now();
        world.until_the_node_is_followed().await;
        assert!(mined.elapsed() < Duration::from_secs(2), "{:?}", mined.elapsed());
    }
}

#[tokio::test]
async fn on_a_stalled_tip_nothing_opens_and_what_is_open_is_served() {
    let node = Regtest::start().await.unwrap();
    let long_ago = wall().get() - 2 * 60 * 60;
    let _none: Value = node.node(None).call("setmocktime", json!([long_ago])).await.unwrap();
    let mut world = World::start_on(node, Gateway::start, |config| {
        config.replace("wallet = \"gateway\"\n", "wallet = \"gateway\"\nstall_secs = 5_400\n")
    })
    .await;
    let (_, request) = world.buyer().wish(Kind::Cltv).await;
    let refused = world.buyer().step(&request).await;
    assert_eq!(refused.refusal(), (503, "node-unavailable".to_owned()));

    // It recovers alone.
    let rpc = world.node.node(None);
    let _none: Value = rpc.call("setmocktime", json!([wall().get()])).await.unwrap();
    world.mine(1).await;
    let crowd = Crowd::open(&world, &[Kind::Cltv]).await;
    assert_eq!(crowd.pay(0, 1_000).await.status, 200);
    crowd.close(0, 1_000).await;
    crowd.until_broadcast(&world).await;
    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    assert_eq!(world.audit().await.paid_sat, 1_000);
}

#[tokio::test]
async fn a_node_of_another_chain_is_refused_and_one_of_the_right_chain_is_taken() {
    let node = Regtest::start().await.unwrap();
    node.create_wallets().await.unwrap();
    let api = Api::start().await;
    let folder = tempfile::TempDir::with_prefix("farebox-test-").unwrap();
    let hash = node.node(None).block_hash(50).await.unwrap().unwrap();
    let with = |block: String| {
        let line = format!("wallet = \"gateway\"\nblock = \"{block}\"\n");
        gateway_configuration(&node, &api).replace("wallet = \"gateway\"\n", &line)
    };
    let path = folder.path().join("farebox.toml");
    std::fs::write(&path, with(format!("51:{hash}"))).unwrap();
    let mut refused = std::process::Command::new(env!("CARGO_BIN_EXE_farebox"));
    let refused = refused.args(["serve", "--config"]).arg(&path).output().unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(words.contains("it is another chain"), "{words}");
    assert!(!folder.path().join("farebox.key").exists(), "nothing was made");

    let _gateway = Gateway::start(&folder, &with(format!("50:{hash}")));
}

#[tokio::test]
async fn blocks_that_the_node_has_pruned_are_leapt_over_with_what_is_unspent() {
    let conf = "mempooltruc=enforce\nprune=1\nfastprune=1";
    let node = Regtest::start_with(conf).await.unwrap();
    let mut world = World::start_on(node, Gateway::start, |config| config).await;
    let crowd = Crowd::open(&world, &[Kind::Cltv, Kind::Refund, Kind::Cltv]).await;
    for index in 0..3 {
        assert_eq!(crowd.pay(index, 5_000).await.status, 200);
    }
    crowd.close(0, 5_000).await;
    let settled = crowd.outpoints()[0];
    until("the settlement is out", async || {
        !crate::support::spenders(&world, vec![settled]).await.is_empty()
    })
    .await;
    world.gateway.kill();

    // It is mined in a block that the gateway will never see.
    world.node.mine(700).await.unwrap();
    let rpc = world.node.node(None);
    let _height: u32 = rpc.call("pruneblockchain", json!([420])).await.unwrap();
    world.gateway.restart();
    world.until_the_node_is_followed().await;

    crowd.until_state(1, StateName::Open).await;
    assert_eq!(crowd.pay(1, 6_000).await.status, 200);
    // It is deep, and no other block comes.
    crowd.until_state(0, StateName::Settled).await;
    world.mine(6).await;
    crowd.close(1, 6_000).await;
    crowd.close(2, 5_000).await;
    until("the others are settled", async || {
        world.node.mine_what_waits().await.unwrap();
        rpc.confirmed(crowd.outpoints()[2]).await.unwrap().is_none()
    })
    .await;
    world.mine(6).await;
    crowd.until_state(2, StateName::Settled).await;
}

#[tokio::test]
async fn a_node_that_never_saw_the_newest_block_is_followed_from_the_last_common_one() {
    let mut world = World::start().await;
    let crowd = Crowd::open(&world, &[Kind::Cltv]).await;
    assert_eq!(crowd.pay(0, 5_000).await.status, 200);
    world.mine(1).await;
    let (first, second) = (world.node.node(None), Regtest::start().await.unwrap());
    let height = first.tip().await.unwrap().height;
    for height in 1..height {
        let hash = first.block_hash(height).await.unwrap();
        let raw: String = first.call("getblock", json!([hash, 0])).await.unwrap();
        let refused: Value = second.node(None).call("submitblock", json!([raw])).await.unwrap();
        assert_eq!(refused, Value::Null);
    }
    second.create_wallet("gateway").await.unwrap();
    second.mine(2).await.unwrap();

    let (old, old_cookie) = (world.node.url(), world.node.cookie_file());
    let (new, new_cookie) = (second.url(), second.cookie_file());
    world.reconfigure(|config| {
        let cookie = |path: &std::path::Path| path.display().to_string();
        config.replace(&old, &new).replace(&cookie(&old_cookie), &cookie(&new_cookie))
    });
    world.node = Arc::new(second);
    world.until_the_node_is_followed().await;

    assert_eq!(crowd.pay(0, 6_000).await.status, 200);
    crowd.close(0, 6_000).await;
    crowd.until_broadcast(&world).await;
    world.mine(6).await;
    crowd.until_state(0, StateName::Settled).await;
    assert_eq!(world.audit().await.paid_sat, 6_000);
}
