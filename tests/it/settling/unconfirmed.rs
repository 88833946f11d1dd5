//! Channels that are served before their contract is confirmed.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{OutPoint, Transaction};
use farebox_chain::{Chain, Wallet};
use farebox_channel::Kind;
use farebox_channel::message::StateName;
use serde_json::{Value, json};

use crate::support::{Crowd, FIRST_SAT, World};

/// Serves two channels at a time before they are confirmed, each for 3 sat: two requests.
async fn trusting() -> World {
    World::start_with(|config| {
        let trust = "confirmations = 0\nunconfirmed_max_sat = 3\nunconfirmed_total_sat = 6\n";
        config.replace("[offer]\n", &format!("[offer]\n{trust}"))
    })
    .await
}

/// Returns a transaction that takes the contracts of a crowd back, for a fee that replaces them.
async fn double_spend(world: &World, crowd: &Crowd) -> Transaction {
    let wallet = world.wallet();
    let txid = crowd.outpoints()[0].txid;
    let contract = wallet.mempool_transaction(txid).await.unwrap().unwrap();
    let mut value = 0;
    for input in &contract.input {
        let OutPoint { txid, vout } = input.previous_output;
        let coin: Value = wallet.call("gettxout", json!([txid, vout, false])).await.unwrap();
        value += bitcoin::Amount::from_btc(coin["value"].as_f64().unwrap()).unwrap().to_sat();
    }
    let back = wallet.fresh_address().await.unwrap();
    let mut double_spend = Transaction {
        output: vec![bitcoin::TxOut {
            value: bitcoin::Amount::from_sat(value - 100_000),
            script_pubkey: back.script_pubkey(),
        }],
        ..contract
    };
    for input in &mut double_spend.input {
        input.witness.clear();
        input.sequence = bitcoin::Sequence::ENABLE_RBF_NO_LOCKTIME;
    }
    let arguments = json!([serialize_hex(&double_spend)]);
    let signed: Value = wallet.call("signrawtransactionwithwallet", arguments).await.unwrap();
    bitcoin::consensus::encode::deserialize_hex(signed["hex"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn an_unconfirmed_channel_is_served_up_to_its_limit_and_in_so_many_places() {
    let mut world = trusting().await;
    let kinds = [(Kind::Cltv, 0), (Kind::Refund, 0), (Kind::Cltv, 0)];
    let crowd = Crowd::show(&world, &kinds).await;
    crowd.until_state(0, StateName::Open).await;
    crowd.until_state(1, StateName::Open).await;
    assert_eq!(crowd.state(2).await.state, StateName::Pending, "there are two places");

    for _ in 0..2 {
        assert_eq!(crowd.pay(0, 1_000).await.status, 200);
    }
    let refused = crowd.pay(0, 1_000).await;
    assert_eq!(refused.refusal(), (503, "channel-pending".to_owned()));
    assert_eq!(crowd.pay(1, 1_000).await.status, 200, "each has a limit of its own");

    world.mine(1).await;
    crowd.until_state(2, StateName::Open).await;
    assert_eq!(crowd.pay(0, 1_000).await.status, 200);
    assert_eq!(crowd.pay(2, 1_000).await.status, 200);
    for index in 0..3 {
        crowd.close(index, 1_000).await;
    }
    crowd.until_broadcast(&world).await;
    world.mine(6).await;
    crowd.until_state(2, StateName::Settled).await;
    assert_eq!(world.audit().await.paid_sat, 3_000);
}

#[tokio::test]
async fn a_channel_freezes_when_its_contract_is_replaced_and_is_lost_once_that_is_mined() {
    let mut world = trusting().await;
    let crowd = Crowd::show(&world, &[(Kind::Cltv, 0)]).await;
    crowd.until_state(0, StateName::Open).await;
    assert_eq!(crowd.pay(0, FIRST_SAT + 50).await.status, 200);

    let double_spend = double_spend(&world, &crowd).await;
    world.node.node(None).broadcast(double_spend.clone()).await.unwrap();

    crowd.until_state(0, StateName::Pending).await;
    let refused = crowd.pay(0, FIRST_SAT + 50).await;
    assert_eq!(refused.refusal(), (503, "channel-pending".to_owned()));
    world.mine_until_mined(double_spend.compute_txid()).await;
    world.mine(5).await;
    crowd.until_state(0, StateName::Lost).await;
    let audit = world.audit().await;
    assert_eq!((audit.settled, audit.lost, audit.lost_sat), (0, 1, FIRST_SAT + 50));
}

#[tokio::test]
async fn a_channel_is_lost_when_a_block_spends_what_its_contract_was_made_of() {
    let mut world = trusting().await;
    let crowd = Crowd::show(&world, &[(Kind::Refund, 0)]).await;
    crowd.until_state(0, StateName::Open).await;
    assert_eq!(crowd.pay(0, 1_000).await.status, 200);

    let double_spend = serialize_hex(&double_spend(&world, &crowd).await);
    let node = world.node.node(None);
    let own = json!(["raw(51)", [double_spend]]);
    let _hash: Value = node.call("generateblock", own).await.unwrap();
    world.until_the_node_is_followed().await;

    until_not_served(&crowd).await;
    world.mine(5).await;
    crowd.until_state(0, StateName::Lost).await;
    assert_eq!(world.audit().await.lost_sat, 1_000);
}

#[tokio::test]
async fn a_double_spend_of_two_contracts_at_once_is_seen_for_both() {
    let mut world = trusting().await;
    let crowd = Crowd::show(&world, &[(Kind::Cltv, 0), (Kind::Refund, 0)]).await;
    for index in 0..2 {
        crowd.until_state(index, StateName::Open).await;
        assert_eq!(crowd.pay(index, 1_000).await.status, 200);
    }

    let double_spend = serialize_hex(&double_spend(&world, &crowd).await);
    let own = json!(["raw(51)", [double_spend]]);
    let _hash: Value = world.node.node(None).call("generateblock", own).await.unwrap();
    world.mine(5).await;

    crowd.until_state(0, StateName::Lost).await;
    crowd.until_state(1, StateName::Lost).await;
    let audit = world.audit().await;
    assert_eq!((audit.lost, audit.lost_sat), (2, 2_000));
}

#[tokio::test]
async fn a_client_that_takes_its_contracts_back_is_not_served_anew() {
    let world = trusting().await;
    let crowd = Crowd::show(&world, &[(Kind::Cltv, 0), (Kind::Cltv, 0)]).await;
    for index in 0..2 {
        crowd.until_state(index, StateName::Open).await;
        assert_eq!(crowd.pay(index, 1_000).await.status, 200);
    }
    let node = world.node.node(None);
    let taken_back = double_spend(&world, &crowd).await;
    node.broadcast(taken_back.clone()).await.unwrap();
    crowd.until_state(1, StateName::Pending).await;
    until_not_served(&crowd).await;

    // All that may be lost together is at risk already. Each question has the contract looked up.
    let another = Crowd::show(&world, &[(Kind::Cltv, 0)]).await;
    assert_eq!(another.state(0).await.state, StateName::Pending);
    world.mine_until_mined(taken_back.compute_txid()).await;
    let last = Crowd::show(&world, &[(Kind::Cltv, 0)]).await;
    assert_eq!(last.state(0).await.state, StateName::Pending, "and it is not lost for good yet");
    world.mine(6).await;
    let next = Crowd::show(&world, &[(Kind::Cltv, 0)]).await;
    next.until_state(0, StateName::Open).await;
}

async fn until_not_served(crowd: &Crowd) {
    crate::support::until("nothing more is served", async || {
        crowd.pay(0, 1_000).await.status != 200
    })
    .await;
}
