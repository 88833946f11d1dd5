//! What settlements cost, and how they are replaced.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid};
use farebox_chain::{Chain, Wallet};
use farebox_channel::Kind;
use farebox_channel::message::StateName;
use serde_json::{Value, json};

use super::{EMERGENCY_SECS, costing};
use crate::chain::verdict;
use crate::support::{CAPACITY_SAT, Crowd, World, spenders, until, wall};

/// What a settlement pays in the mempool.
async fn fee_of(world: &World, txid: Txid) -> u64 {
    world.node.node(None).in_mempool(txid).await.unwrap().unwrap().fee_sat
}

/// Waits until something else spends the first channel, and returns it with its fee.
async fn until_replaced(world: &World, crowd: &Crowd, old: Txid) -> (Txid, u64) {
    let channel = crowd.outpoints()[0];
    let mut new = old;
    until("the settlement is replaced", async || {
        let found = spenders(world, vec![channel]).await;
        new = found.get(&channel).copied().unwrap_or(old);
        new != old
    })
    .await;
    (new, fee_of(world, new).await)
}

#[tokio::test]
async fn a_fee_spike_replaces_a_lingering_settlement_three_times() {
    let mut world = World::start_with(|config| costing(&config, 2)).await;
    let mut crowd = Crowd::open(&world, &[Kind::Cltv]).await;
    assert_eq!(crowd.pay(0, 50_000).await.status, 200);
    let mut txid = crowd.close(0, 50_000).await.settlement.unwrap();
    let mut fees = vec![fee_of(&world, txid).await];
    world.mine_empty(6, wall().get() + 2 * 60 * 60).await;

    for sat_per_vb in [5, 10, 20] {
        world.reconfigure(|config| costing(&config, sat_per_vb));
        crowd.buyer.host = world.gateway.host.clone();
        let (new, fee) = until_replaced(&world, &crowd, txid).await;
        fees.push(fee);
        txid = new;
    }

    // A signature may be a byte shorter.
    for (fee, sat_per_vb) in fees.iter().zip([2, 5, 10, 20]) {
        assert!((168 * sat_per_vb..=171 * sat_per_vb).contains(fee), "{fees:?}");
    }
    assert_eq!(crowd.state(0).await.settlement, Some(txid));
    world.mine_until_mined(txid).await;
    world.mine(5).await;
    crowd.until_state(0, StateName::Settled).await;
    let audit = world.audit().await;
    assert_eq!((audit.paid_sat, audit.fee_sat), (50_000, fees[3]));
}

#[tokio::test]
async fn an_older_settlement_that_is_mined_instead_is_recognised() {
    let mut world = World::start_with(|config| costing(&config, 2)).await;
    let mut crowd = Crowd::open(&world, &[Kind::Refund]).await;
    assert_eq!(crowd.pay(0, 50_000).await.status, 200);
    let first = crowd.close(0, 50_000).await.settlement.unwrap();
    let node = world.node.node(None);
    let older = node.mempool_transaction(first).await.unwrap().unwrap();
    let fee = fee_of(&world, first).await;
    world.mine_empty(6, wall().get() + 2 * 60 * 60).await;
    world.reconfigure(|config| costing(&config, 20));
    crowd.buyer.host = world.gateway.host.clone();
    until_replaced(&world, &crowd, first).await;

    let own = json!(["raw(51)", [serialize_hex(&older)]]);
    let _hash: Value = node.call("generateblock", own).await.unwrap();
    world.mine(5).await;

    crowd.until_state(0, StateName::Settled).await;
    assert_eq!(crowd.state(0).await.settlement, Some(first));
    let audit = world.audit().await;
    assert_eq!((audit.paid_sat, audit.fee_sat), (50_000, fee));
}

#[tokio::test]
async fn near_the_expiry_a_settlement_is_bumped_toward_what_is_at_stake() {
    let mut world = World::start().await;
    let crowd = Crowd::open(&world, &[Kind::Refund]).await;
    assert_eq!(crowd.pay(0, CAPACITY_SAT).await.status, 200);
    let first = crowd.close(0, CAPACITY_SAT).await.settlement.unwrap();
    let expiry = crowd.expiry();
    // Half of the stake is reached at the expiry: 50,000 sat in 14,400 s.
    world.mine_empty(6, expiry - EMERGENCY_SECS / 2).await;
    let (second, fee) = until_replaced(&world, &crowd, first).await;
    assert_eq!(fee, CAPACITY_SAT / 4);
    world.mine_empty(6, expiry).await;
    let (third, fee) = until_replaced(&world, &crowd, second).await;
    assert_eq!(fee, CAPACITY_SAT / 2);

    world.mine_until_mined(third).await;
    world.mine(5).await;
    crowd.until_state(0, StateName::Settled).await;
    assert_eq!(world.audit().await.fee_sat, CAPACITY_SAT / 2);
}

/// Returns a child of version 3 that spends a client's change to so many outputs.
async fn child(world: &World, change: (OutPoint, Amount), outputs: u64, fee: u64) -> Transaction {
    let (outpoint, value) = change;
    let wallet = world.wallet();
    let script = wallet.fresh_address().await.unwrap().script_pubkey();
    let each = (value.to_sat() - fee) / outputs;
    let output = |_| TxOut { value: Amount::from_sat(each), script_pubkey: script.clone() };
    let child = Transaction {
        version: Version(3),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: outpoint,
            script_sig: ScriptBuf::new(),
            sequence: bitcoin::Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: bitcoin::Witness::new(),
        }],
        output: (0..outputs).map(output).collect(),
    };
    let arguments = json!([serialize_hex(&child)]);
    let signed: Value = wallet.call("signrawtransactionwithwallet", arguments).await.unwrap();
    deserialize_hex(signed["hex"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_clients_child_cannot_pin_a_settlement() {
    let mut world = World::start().await;
    let crowd = Crowd::open(&world, &[Kind::Cltv]).await;
    assert_eq!(crowd.pay(0, 50_000).await.status, 200);
    let first = crowd.close(0, 50_000).await.settlement.unwrap();
    let change = (OutPoint { txid: first, vout: 0 }, Amount::from_sat(50_000));

    let large = child(&world, change, 40, 10_000).await;
    assert!(large.vsize() > 1_000);
    assert!(verdict(&world.node, &large).await.unwrap_err().contains("truc"));
    // A small one is relayed, and a replacement has to pay for it too.
    let small = child(&world, change, 5, 2_000).await;
    let node = world.node.node(None);
    node.broadcast(small.clone()).await.unwrap();
    world.mine_empty(6, crowd.expiry() - EMERGENCY_SECS / 2).await;

    let (second, fee) = until_replaced(&world, &crowd, first).await;

    assert_eq!(fee, 50_000 / 4, "a quarter of the stake is more than both have paid");
    assert_eq!(node.mempool_transaction(small.compute_txid()).await.unwrap(), None);
    world.mine_until_mined(second).await;
    world.mine(5).await;
    crowd.until_state(0, StateName::Settled).await;
    assert_eq!(world.audit().await.paid_sat, 50_000);
}
