//! What a real bitcoind answers to a watcher: fees, spenders, waits, and blocks that are gone.

use std::time::{Duration, Instant};

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, OutPoint, Transaction, Txid};
use farebox::regtest::Regtest;
use farebox_chain::{Bitcoind, Chain, ChainError, Wallet};
use serde_json::{Value, json};

/// More outputs than one call asks about.
const MANY: u32 = 1_201;

/// Starts a node with a client's coins.
async fn node_with_coins() -> (Regtest, Bitcoind) {
    let node = Regtest::start().await.unwrap();
    node.create_wallets().await.unwrap();
    let wallet = node.node(Some("client"));
    (node, wallet)
}

/// Returns a transaction of the wallet's that pays to itself, not yet sent.
async fn parent(wallet: &Bitcoind) -> Transaction {
    let script = wallet.fresh_address().await.unwrap().script_pubkey();
    let rate = FeeRate::from_sat_per_vb_u32(2);
    let transaction = wallet.fund(script, 1_000_000, rate).await.unwrap();
    wallet.reserve(transaction.clone()).await.unwrap();
    transaction
}

/// Returns a transaction that spends a wallet's output of 1,000,000 sat, and leaves a fee.
async fn child(wallet: &Bitcoind, spent: OutPoint, fee_sat: u64) -> Transaction {
    let inputs = json!([{ "txid": spent.txid, "vout": spent.vout }]);
    let btc = bitcoin::Amount::from_sat(1_000_000 - fee_sat).to_btc();
    let outputs = json!([{ wallet.fresh_address().await.unwrap().to_string(): btc }]);
    let raw: String = wallet.call("createrawtransaction", json!([inputs, outputs])).await.unwrap();
    let signed: Value = wallet.call("signrawtransactionwithwallet", json!([raw])).await.unwrap();
    deserialize_hex(signed["hex"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_transaction_of_the_mempool_is_shown_with_its_fee_and_its_familys() {
    let (node, wallet) = node_with_coins().await;
    let first = parent(&wallet).await;
    let coin = first.input[0].previous_output;
    let made = OutPoint { txid: first.compute_txid(), vout: 0 };
    assert_eq!(wallet.in_mempool(made.txid).await, Ok(None));
    wallet.broadcast(first.clone()).await.unwrap();
    let alone = wallet.in_mempool(made.txid).await.unwrap().unwrap();
    let second = child(&wallet, made, 5_000).await;
    wallet.broadcast(second.clone()).await.unwrap();

    let family = wallet.in_mempool(made.txid).await.unwrap().unwrap();
    let spenders = wallet.spenders(vec![made, coin, OutPoint::null(), made]).await.unwrap();

    assert_eq!(alone.vsize, u64::try_from(first.vsize()).unwrap());
    // A signature may be a byte or two shorter than it was taken to be.
    assert!((alone.vsize * 2..=alone.vsize * 2 + 2).contains(&alone.fee_sat), "{alone:?}");
    assert_eq!((alone.family_fee_sat, alone.family_vsize), (alone.fee_sat, alone.vsize));
    let child_vsize = u64::try_from(second.vsize()).unwrap();
    assert_eq!((family.fee_sat, family.vsize), (alone.fee_sat, alone.vsize));
    assert_eq!(family.family_fee_sat, alone.fee_sat + 5_000);
    assert_eq!(family.family_vsize, alone.vsize + child_vsize);
    let second = Some(second.compute_txid());
    // The null outpoint's index is beyond what the node takes, and nobody spends it.
    assert_eq!(spenders, [second, Some(made.txid), None, second]);
    node.mine(1).await.unwrap();
    assert_eq!(wallet.in_mempool(made.txid).await, Ok(None));
    assert_eq!(wallet.spenders(vec![coin, made]).await, Ok(vec![None, None]));
}

#[tokio::test]
async fn the_spenders_of_any_number_of_outputs_are_told_in_their_order() {
    let (_node, wallet) = node_with_coins().await;
    let sent = parent(&wallet).await;
    wallet.broadcast(sent.clone()).await.unwrap();
    let nowhere = Txid::from_byte_array([7; 32]);
    let mut outpoints: Vec<_> = (0..MANY).map(|vout| OutPoint { txid: nowhere, vout }).collect();
    outpoints.push(sent.input[0].previous_output);

    let spenders = wallet.spenders(outpoints).await.unwrap();

    assert_eq!(spenders.len(), usize::try_from(MANY).unwrap() + 1);
    assert_eq!(spenders.last(), Some(&Some(sent.compute_txid())));
    assert_eq!(spenders.iter().flatten().count(), 1);
    assert_eq!(wallet.spenders(vec![]).await, Ok(vec![]));
}

#[tokio::test]
async fn an_output_that_the_mempool_spends_is_still_confirmed() {
    let (node, wallet) = node_with_coins().await;
    let sent = parent(&wallet).await;
    let coin = sent.input[0].previous_output;
    let before = wallet.unspent(coin).await.unwrap();
    assert_eq!(wallet.confirmed(coin).await.unwrap(), before);
    wallet.broadcast(sent.clone()).await.unwrap();
    let made = OutPoint { txid: sent.compute_txid(), vout: 0 };

    assert_eq!(wallet.unspent(coin).await, Ok(None));
    assert_eq!(wallet.confirmed(coin).await, Ok(before));
    assert_eq!(wallet.unspent(made).await.unwrap().unwrap().confirmations, 0);
    assert_eq!(wallet.confirmed(made).await, Ok(None));
    node.mine(1).await.unwrap();
    assert_eq!(wallet.confirmed(coin).await, Ok(None));
    assert_eq!(wallet.confirmed(made).await.unwrap().unwrap().confirmations, 1);
}

#[tokio::test]
async fn a_replacement_pays_the_increment_for_its_own_size_and_not_a_satoshi_less() {
    let (_node, wallet) = node_with_coins().await;
    let policy = wallet.relay_policy().await.unwrap();
    let first = parent(&wallet).await;
    let made = OutPoint { txid: first.compute_txid(), vout: 0 };
    wallet.broadcast(first).await.unwrap();
    let replaced = child(&wallet, made, 1_000).await;
    wallet.broadcast(replaced.clone()).await.unwrap();
    let pays = wallet.in_mempool(replaced.compute_txid()).await.unwrap().unwrap();
    // Signatures differ in length, so a replacement is built until it has the same size.
    let with_fee = async |fee_sat| loop {
        let made = child(&wallet, made, fee_sat).await;
        if made.vsize() == replaced.vsize() {
            return made;
        }
    };
    let needed = pays.family_fee_sat + policy.increment.fee_vb(pays.vsize).unwrap().to_sat();

    let too_little = wallet.broadcast(with_fee(needed - 1).await).await;
    let enough = wallet.broadcast(with_fee(needed).await).await;

    assert_eq!(policy.increment, FeeRate::from_sat_per_vb_u32(1));
    assert!(matches!(too_little, Err(ChainError::Refused { code: -26, .. })), "{too_little:?}");
    assert_eq!(enough, Ok(()));
}

#[tokio::test]
async fn a_wait_ends_with_the_block_or_with_its_time() {
    let node = Regtest::start().await.unwrap();
    let rpc = node.node(None);
    node.mine(3).await.unwrap();
    let began = Instant::now();
    rpc.wait_for_height(3, Duration::from_secs(9)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "the height is there already");

    let waiting = {
        let rpc = rpc.clone();
        tokio::spawn(async move { rpc.wait_for_height(4, Duration::from_secs(9)).await })
    };
    // The node shall be waiting by then; were it not, the test would only see less.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    let began = Instant::now();
    node.mine(1).await.unwrap();
    waiting.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "the block ends it");

    for (at_most, least) in [(Duration::from_secs(1), 900), (Duration::ZERO, 0)] {
        let began = Instant::now();
        rpc.wait_for_height(5, at_most).await.unwrap();
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(least), "{waited:?}");
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    }
}

#[tokio::test]
async fn the_tip_has_its_own_time_beside_the_median() {
    let node = Regtest::start().await.unwrap();
    let rpc = node.node(None);
    node.mine(11).await.unwrap();
    let later = rpc.tip().await.unwrap().time + 3_600;
    let _none: Value = rpc.call("setmocktime", json!([later])).await.unwrap();
    node.mine(1).await.unwrap();

    let tip = rpc.tip().await.unwrap();

    assert_eq!(tip.time, later);
    assert!(tip.median_time_past < later - 3_000);
    assert_eq!(tip.oldest, None);
    let header = rpc.block(tip.hash).await.unwrap().header;
    assert_eq!(u64::from(header.time), tip.time);
}

#[tokio::test]
async fn a_block_that_was_pruned_is_told_from_one_that_never_was() {
    let node = Regtest::start_with("mempooltruc=enforce\nprune=1\nfastprune=1").await.unwrap();
    let rpc = node.node(None);
    node.mine(700).await.unwrap();
    let hash = rpc.block_hash(5).await.unwrap().unwrap();
    assert!(rpc.block(hash).await.is_ok());

    let _height: u32 = rpc.call("pruneblockchain", json!([400])).await.unwrap();

    assert_eq!(rpc.block(hash).await, Err(ChainError::Pruned { hash, height: 5 }));
    let words = rpc.block(hash).await.unwrap_err().to_string();
    assert!(words.starts_with(&format!("bitcoind has pruned block {hash}")), "{words}");
    assert!(rpc.block_place(hash).await.unwrap().unwrap().is_active);
    let oldest = rpc.tip().await.unwrap().oldest.unwrap();
    let kept = rpc.block_hash(oldest).await.unwrap().unwrap();
    let gone = rpc.block_hash(oldest - 1).await.unwrap().unwrap();
    assert!(rpc.block(kept).await.is_ok());
    assert_eq!(rpc.block(gone).await, Err(ChainError::Pruned { hash: gone, height: oldest - 1 }));
    let unknown = bitcoin::BlockHash::from_byte_array([7; 32]);
    let refused = rpc.block(unknown).await;
    assert!(matches!(refused, Err(ChainError::Refused { code: -5, .. })), "{refused:?}");
}
