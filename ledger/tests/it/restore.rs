//! A store from a backup: what is noted of it, and what becomes of its channels.

use farebox_channel::gateway::{Cause, Channel, Input, Refusal, RequestName};
use farebox_channel::message::StateName;
use farebox_channel::{Kind, Msat};
use farebox_ledger::{Charge, LedgerError, Restored, restore};

use crate::support::{Books, charge, contract, msat, now, open, outpoint, pending, spent, step};

/// A charge on `channel` from its credit.
fn price(channel: &Channel, price_msat: u64, name: Option<RequestName>) -> Charge {
    let payment = channel.account().payment;
    Charge { payment, price: msat(price_msat), price_max: None, name, memo: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_keeps_its_channels_and_counts_their_credit_as_spent() {
    let books = Books::new();
    let channel = step(&open(1, 2_000), charge(&open(1, 2_000), 1_500_000));
    let closing = step(&open(2, 3_000), Input::Expire(Cause::Client));
    let waiting = pending(contract(Kind::Refund, 3));
    books.record(&[channel.clone(), closing.clone(), waiting.clone()]).await;

    let restored = restore(&mut books.store().unwrap(), 300).unwrap();

    assert_eq!(restored, Restored { channels: 2, credit: msat(500_000) });
    let on_disk = books.on_disk();
    assert_eq!(on_disk.restored, Some(300));
    for (number, expected) in [(1, channel.restored()), (2, closing), (3, waiting.restored())] {
        let found = on_disk.channels.iter().find(|it| outpoint(it).vout == number);
        assert_eq!(found, Some(&expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_over_a_restored_store_judges_by_it_also_after_the_next_start() {
    let books = Books::new();
    books.record(&[open(1, 2_000)]).await;
    restore(&mut books.store().unwrap(), 300).unwrap();
    for _start in 0..2 {
        let (ledger, watch) = books.open();
        assert_eq!(ledger.rules().restored, Some(300));
        let channel = ledger.channel(outpoint(&open(1, 2_000))).unwrap();
        assert_eq!((channel.name(), spent(&channel)), (StateName::Pending, 2_000_000));
        watch.close(ledger);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_named_before_a_restore_buys_no_answer_after_it() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let name = Some(RequestName { key: [1; 32], request: [2; 32] });
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let paid = ledger.pay(outpoint(&channel), now(), price(&channel, 7, name)).await.unwrap();
    watch.close(ledger);

    restore(&mut books.store().unwrap(), 300).unwrap();

    let (ledger, watch) = books.open();
    let again = ledger.pay(outpoint(&channel), now(), price(&channel, 7, name)).await;
    assert_eq!(again, Err(LedgerError::Refused(Refusal::Answered(paid.receipt))));
    watch.close(ledger);
}

#[test]
fn a_store_that_was_lost_is_noted_as_restored_before_anything_is_on_record() {
    let books = Books::new();
    let restored = restore(&mut books.store().unwrap(), 300).unwrap();
    assert_eq!(restored, Restored { channels: 0, credit: Msat::ZERO });
    assert_eq!(books.on_disk().restored, Some(300));
}
