//! Settlements of many channels: one write for all, one row, one value in memory.

use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, FeeRate};
use farebox_channel::gateway::{Cause, Channel, Closing, Input, Mined, Spender};
use farebox_channel::{Fee, Member, Settlement};
use farebox_ledger::{Cursor, Ledger, LedgerError, StoreError};

use crate::support::{Books, charge, keyring, now, open, outpoint, p2wpkh, spent, step};

/// Closing channels with these numbers.
fn closing(numbers: std::ops::RangeInclusive<u8>) -> Vec<Channel> {
    numbers.map(|number| step(&open(number, 5_000), Input::Expire(Cause::Operator))).collect()
}

fn settlement(channels: &[Channel], sat_per_vb: u64) -> Settlement {
    let member = |it: &'_ Channel| (it.contract().clone(), it.account().payment);
    let pairs: Vec<_> = channels.iter().map(member).collect();
    let members: Vec<_> =
        pairs.iter().map(|(contract, payment)| Member { contract, payment }).collect();
    let rate = FeeRate::from_sat_per_vb(sat_per_vb).unwrap();
    Settlement::build(&members, &keyring(), &p2wpkh(), Fee::at(rate)).unwrap()
}

/// The settlement on record for a channel.
fn on_record(channel: &Channel) -> Option<Arc<Settlement>> {
    match channel {
        Channel::Closing(Closing { settlement, .. }) => settlement.clone(),
        Channel::Pending(_) | Channel::Late(_) | Channel::Open(_) | Channel::Ended(_) => None,
    }
}

fn of(ledger: &Ledger, channel: &Channel) -> Option<Arc<Settlement>> {
    on_record(&ledger.channel(outpoint(channel)).unwrap())
}

/// How many settlements a store has.
fn rows(books: &Books) -> u32 {
    let connection = rusqlite::Connection::open(books.path()).unwrap();
    connection.query_row("SELECT count(*) FROM settlement", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_batch_is_one_write_and_one_row_and_is_shared_before_and_after_reopening() {
    let books = Books::new();
    let channels = closing(1..=5);
    let (ledger, watch) = books.open();
    for channel in &channels {
        ledger.create(channel.clone()).await.unwrap();
    }
    let before = watch.commits();
    let batch = settlement(&channels, 2);
    ledger.settle(now(), batch.clone(), &[]).await.unwrap();
    assert_eq!(watch.commits(), before + 1);
    let is_shared = |ledger: &Ledger| {
        let all: Vec<_> = channels.iter().map(|it| of(ledger, it).unwrap()).collect();
        assert_eq!(*all[0], batch);
        all.iter().all(|it| Arc::ptr_eq(it, &all[0]))
    };
    assert!(is_shared(&ledger));
    watch.close(ledger);
    assert_eq!(rows(&books), 1);
    let (ledger, watch) = books.open();
    assert!(is_shared(&ledger));
    watch.close(ledger);
}

#[tokio::test]
async fn a_settlement_that_another_has_taken_the_place_of_is_gone_after_reopening() {
    let books = Books::new();
    let channels = closing(1..=3);
    let (ledger, watch) = books.open();
    for channel in &channels {
        ledger.create(channel.clone()).await.unwrap();
    }
    for rate in [1, 2, 3] {
        ledger.settle(now(), settlement(&channels, rate), &[]).await.unwrap();
    }
    let rest = settlement(&channels[..2], 5);
    ledger.settle(now(), rest.clone(), &[outpoint(&channels[2])]).await.unwrap();
    assert_eq!(of(&ledger, &channels[2]), None, "it is dropped in the same write");
    watch.close(ledger);
    assert_eq!(rows(&books), 4);
    let (ledger, watch) = books.open();
    assert_eq!(rows(&books), 1);
    let found: Vec<_> = channels.iter().map(|it| of(&ledger, it).map(|it| it.txid())).collect();
    assert_eq!(found, [Some(rest.txid()), Some(rest.txid()), None]);
    // What was forgotten can be recorded again, in a row of its own.
    ledger.settle(now(), settlement(&channels, 1), &[]).await.unwrap();
    watch.close(ledger);
    assert_eq!(books.on_disk().channels.iter().filter_map(on_record).count(), 3);
}

#[tokio::test]
async fn a_settlement_of_a_channel_that_is_not_on_record_changes_no_other() {
    let books = Books::new();
    let channels = closing(1..=3);
    let (ledger, watch) = books.open();
    for channel in &channels[..2] {
        ledger.create(channel.clone()).await.unwrap();
    }
    let before = watch.commits();
    let answer = ledger.settle(now(), settlement(&channels, 2), &[]).await;
    assert_eq!(answer, Err(LedgerError::Unknown));
    assert_eq!(ledger.select(|_| true), channels[..2]);
    assert_eq!(watch.commits(), before, "nothing is written");
    watch.close(ledger);
    assert_eq!(rows(&books), 0);
}

#[tokio::test]
async fn a_member_that_is_settled_otherwise_does_not_take_a_batch() {
    let books = Books::new();
    let channels = closing(1..=2);
    let (ledger, watch) = books.open();
    for channel in &channels {
        ledger.create(channel.clone()).await.unwrap();
    }
    let alone = settlement(&channels[..1], 2);
    let mined = Mined::recognise(channels[0].contract(), &alone.transaction, 300).unwrap();
    assert_eq!((mined.by, mined.settled.get()), (Spender::Settlement, 5_000));
    ledger.apply(outpoint(&channels[0]), now(), Input::Spent(mined)).await.unwrap();
    ledger.settle(now(), settlement(&channels, 2), &[]).await.unwrap();
    assert_eq!(of(&ledger, &channels[0]), None);
    assert!(of(&ledger, &channels[1]).is_some());
    watch.close(ledger);
}

#[tokio::test]
async fn a_failing_store_keeps_neither_a_settlement_nor_a_block() {
    let books = Books::new();
    let channels = closing(1..=2);
    let (ledger, watch) = books.open();
    for channel in &channels {
        ledger.create(channel.clone()).await.unwrap();
    }
    watch.fail(true);
    let failed = |answer| matches!(answer, Err(LedgerError::Store(StoreError::Failed(_))));
    assert!(failed(ledger.settle(now(), settlement(&channels, 2), &[]).await));
    let cursor = Cursor { height: 300, hash: BlockHash::all_zeros() };
    let unmined = || channels.iter().map(|it| (outpoint(it), Input::Unconfirmed)).collect();
    assert!(failed(ledger.follow(cursor, now(), unmined()).await));
    assert_eq!(ledger.select(|_| true), channels);
    watch.fail(false);
    let before = watch.commits();
    ledger.follow(cursor, now(), unmined()).await.unwrap();
    assert_eq!(watch.commits(), before + 1, "a block and all that it does are one write");
    watch.close(ledger);
    let on_disk = books.on_disk();
    assert_eq!(on_disk.cursor, Some(cursor));
    assert!(on_disk.channels.iter().all(|it| it.height().is_none() && on_record(it).is_none()));
}

#[tokio::test]
async fn a_block_that_touches_what_is_not_on_record_is_not_followed() {
    let books = Books::new();
    let channels = [open(1, 5_000), open(2, 5_000)];
    let (ledger, watch) = books.open();
    ledger.create(channels[0].clone()).await.unwrap();
    let cursor = Cursor { height: 300, hash: BlockHash::all_zeros() };
    let inputs = channels.iter().map(|it| (outpoint(it), Input::Unconfirmed)).collect();
    let answer = ledger.follow(cursor, now(), inputs).await;
    assert_eq!(answer, Err(LedgerError::Unknown));
    let paid = ledger.apply(outpoint(&channels[0]), now(), charge(&channels[0], 5)).await;
    assert_eq!(paid.as_ref().map(spent), Ok(5), "its contract counts as mined");
    watch.close(ledger);
    assert_eq!(books.on_disk().cursor, None);
}

#[tokio::test]
async fn inputs_of_one_block_to_one_channel_are_applied_one_after_the_other() {
    let books = Books::new();
    let channels = closing(1..=1);
    let (ledger, watch) = books.open();
    ledger.create(channels[0].clone()).await.unwrap();
    let alone = settlement(&channels, 2);
    let mined = Mined::recognise(channels[0].contract(), &alone.transaction, 300).unwrap();
    let inputs =
        [Input::Spent(mined), Input::Settle(alone.clone().into()), Input::Deepened { height: 300 }];
    let inputs = inputs.map(|input| (outpoint(&channels[0]), input)).to_vec();
    let cursor = Cursor { height: 300, hash: BlockHash::all_zeros() };
    ledger.follow(cursor, now(), inputs).await.unwrap();
    let channel = ledger.channel(outpoint(&channels[0])).unwrap();
    assert_eq!(on_record(&channel).as_deref(), Some(&alone));
    assert_eq!(channel.mined(), Some(mined));
    watch.close(ledger);
    assert_eq!(books.only(), channel);
}
