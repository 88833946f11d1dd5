//! What the toy mempool takes, by example.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WPubkeyHash, Witness,
};

use super::{Rejected, ToyChain};

/// What the coins are worth that these tests begin with.
const COIN_SAT: u64 = 100_000;

/// Makes a transaction of a version that pays a fee, of one output and some padding.
fn spend(version: i32, coins: &[(OutPoint, u64)], fee: u64, padding: usize) -> Transaction {
    let input = coins.iter().map(|(coin, _)| TxIn {
        previous_output: *coin,
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[vec![1; 107 + padding]]),
        ..TxIn::default()
    });
    let sum: u64 = coins.iter().map(|(_, sat)| sat).sum();
    let script_pubkey = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([5; 20]));
    Transaction {
        version: Version(version),
        lock_time: LockTime::ZERO,
        input: input.collect(),
        output: vec![TxOut { value: Amount::from_sat(sum - fee), script_pubkey }],
    }
}

/// Returns a transaction's output with its worth.
fn made(by: &Transaction) -> (OutPoint, u64) {
    (OutPoint { txid: by.compute_txid(), vout: 0 }, by.output[0].value.to_sat())
}

fn chain_with_coin() -> (ToyChain, (OutPoint, u64)) {
    let mut chain = ToyChain::new(1_700_000_000);
    let coin = chain.mint(COIN_SAT);
    (chain, (coin, COIN_SAT))
}

#[test]
fn a_replacement_pays_for_what_goes_with_its_children_and_for_its_own_way() {
    let (mut chain, coin) = chain_with_coin();
    let first = spend(3, &[coin], 1_000, 0);
    let child = spend(3, &[made(&first)], 3_000, 0);
    chain.accept(&first).unwrap();
    chain.accept(&child).unwrap();
    let vsize = u64::try_from(first.vsize()).unwrap();
    let [own, family] = chain.pooled_fees(first.compute_txid()).unwrap();
    assert_eq!((own, family), ((1_000, vsize), (4_000, 2 * vsize)));

    let too_little = chain.accept(&spend(3, &[coin], 4_000 + vsize - 1, 0));
    let enough = chain.accept(&spend(3, &[coin], 4_000 + vsize, 0));

    assert_eq!(too_little, Err(Rejected::Fee));
    assert_eq!(chain.pool_txids(), [enough.unwrap()]);
}

#[test]
fn a_replacement_has_a_greater_fee_rate_than_what_it_replaces() {
    let (mut chain, coin) = chain_with_coin();
    chain.accept(&spend(3, &[coin], 10_000, 0)).unwrap();

    // It pays far more, and less for each vB.
    let poorer = spend(3, &[coin], 20_000, 2_000);

    assert_eq!(chain.accept(&poorer), Err(Rejected::Fee));
}

#[test]
fn version_three_has_one_small_child_of_its_own_version() {
    let (mut chain, coin) = chain_with_coin();
    let other = (chain.mint(COIN_SAT), COIN_SAT);
    let parent = spend(3, &[coin], 1_000, 0);
    let parents = [spend(3, &[other], 1_000, 0), parent.clone()];
    for parent in &parents {
        chain.accept(parent).unwrap();
    }

    let mixed = spend(2, &[made(&parent)], 1_000, 0);
    let too_great = spend(3, &[made(&parent)], 9_000, 4_000);
    let of_two = spend(3, &[made(&parents[0]), made(&parent)], 1_000, 0);
    let child = spend(3, &[made(&parent)], 1_000, 0);
    for bad in [mixed, too_great, of_two] {
        assert_eq!(chain.accept(&bad), Err(Rejected::Truc));
    }
    chain.accept(&child).unwrap();
    let grandchild = spend(3, &[made(&child)], 1_000, 0);

    assert_eq!(chain.accept(&grandchild), Err(Rejected::Truc));
    // What takes the child's place is no second one.
    let better = chain.accept(&spend(3, &[made(&parent)], 2_000, 0)).unwrap();
    let pool = chain.pool_txids();
    assert!(pool.contains(&better) && pool.len() == 3);
}
