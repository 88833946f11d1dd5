//! The same payment many times, and contracts that only their index tells apart.

use bitcoin::OutPoint;
use farebox_channel::gateway::{Channel, Input, Open, Refusal};
use farebox_channel::{Contract, Kind};
use farebox_ledger::LedgerError;

use crate::support::{
    Books, FIRST, account, charge, contract, msat, now, open, outpoint, paid, queue, sat, spent,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_equal_payments_at_once_are_one_credit() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let payment = paid(channel.contract(), 3_000);
    let tasks = (0..100).map(|_| {
        let (ledger, channel) = (ledger.clone(), channel.clone());
        let pay = Input::Pay { payment, price: msat(1_000_000) };
        tokio::spawn(async move { ledger.apply(outpoint(&channel), now(), pay).await })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut served = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => served += 1,
            Err(LedgerError::Refused(Refusal::Underpaid { credit, .. })) => {
                assert!(credit < msat(1_000_000));
            }
            Err(other) => panic!("{other}"),
        }
    }
    watch.close(ledger);
    let account = books.only().account().clone();
    assert_eq!(served, 3, "3,000 sat pay for three requests of 1,000 sat");
    assert_eq!((account.payment.paid(), account.spent), (sat(3_000), msat(3_000_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_that_a_slow_commit_holds_up_are_told_apart_by_amount_and_not_by_order() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    watch.close(ledger);
    let (ledger, watch) = books.open_held();
    let pay = |amount| {
        let payment = paid(channel.contract(), amount);
        queue(&ledger, &channel, Input::Pay { payment, price: msat(1_000_000) })
    };
    let answers = [pay(4_000), pay(2_500), pay(3_500), pay(2_500)];
    tokio::task::block_in_place(|| watch.wait());
    watch.release();
    let mut sums = vec![];
    for answer in answers {
        let paid = answer.await.unwrap();
        assert_eq!(paid.account().payment.paid(), sat(4_000), "a lower amount changes nothing");
        sums.push(spent(&paid));
    }
    assert_eq!(sums, [1_000_000, 2_000_000, 3_000_000, 4_000_000]);
    watch.close(ledger);
    assert_eq!(spent(&books.only()), 4_000_000);
}

#[tokio::test]
async fn two_outputs_of_one_transaction_are_two_channels_with_accounts_of_their_own() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let txid = contract(Kind::Cltv, 1).outpoint.txid;
    let channels = [0, 1].map(|vout| {
        let outpoint = OutPoint { txid, vout };
        let contract = Contract { outpoint, ..contract(Kind::Cltv, 1) };
        let payment = paid(&contract, FIRST);
        Channel::Open(Open { account: account(contract, payment), height: Some(201) })
    });
    for channel in &channels {
        ledger.create(channel.clone()).await.unwrap();
    }
    for (channel, price) in channels.iter().zip([5, 70]) {
        ledger.apply(outpoint(channel), now(), charge(channel, price)).await.unwrap();
    }
    watch.close(ledger);
    let on_disk = books.on_disk().channels;
    assert_eq!(on_disk.iter().map(spent).collect::<Vec<_>>(), [5, 70]);
    assert_eq!(on_disk.iter().map(outpoint).collect::<Vec<_>>(), channels.each_ref().map(outpoint));
}
