//! What subscribers are told: what is on record, in its order, and nothing that is not.

use farebox_channel::gateway::{Cause, Event, Happened, Input};
use farebox_channel::message::Memo;
use farebox_ledger::{Charge, Missed};

use crate::support::{Books, charge, msat, now, open, outpoint, paid, sat};

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_told_of_an_opening_of_payments_and_of_the_close_in_order() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    let mut events = ledger.subscribe();
    ledger.create(channel.clone()).await.unwrap();
    let memo = Some(Memo::new("one").unwrap());
    let payment = paid(channel.contract(), 3_000);
    let pay =
        Charge { payment, price: msat(1_500), price_max: None, name: None, memo: memo.clone() };
    ledger.pay(outpoint(&channel), now(), pay).await.unwrap();
    ledger.release(outpoint(&channel), now(), msat(500), None).await.unwrap();
    ledger.apply(outpoint(&channel), now(), Input::Expire(Cause::Client)).await.unwrap();
    watch.close(ledger);

    let price = msat(1_500);
    for expected in [
        Happened::Opened,
        Happened::Paid { increase: sat(1_000), paid: sat(3_000), price, spent: price, memo },
        Happened::Released { charge: msat(500), spent: msat(1_000) },
        Happened::Closing { cause: Cause::Client, paid: sat(3_000) },
    ] {
        let event = Event { channel: outpoint(&channel), happened: expected };
        assert_eq!(events.next().await, Ok(Some(event)));
    }
    assert_eq!(events.next().await, Ok(None), "the ledger has stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_that_could_not_be_saved_or_was_refused() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let mut events = ledger.subscribe();
    watch.fail(true);
    assert!(ledger.apply(outpoint(&channel), now(), charge(&channel, 1)).await.is_err());
    watch.fail(false);
    let beyond = charge(&channel, 2_000_001);
    assert!(ledger.apply(outpoint(&channel), now(), beyond).await.is_err());
    ledger.apply(outpoint(&channel), now(), charge(&channel, 2)).await.unwrap();
    watch.close(ledger);

    let told = events.next().await.unwrap().unwrap().happened;
    assert!(matches!(told, Happened::Paid { price, .. } if price == msat(2)), "{told:?}");
    assert_eq!(events.next().await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_holds_nobody_up_and_learns_how_much_it_has_missed() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let mut events = ledger.subscribe();
    for _ in 0..4_100 {
        ledger.apply(outpoint(&channel), now(), charge(&channel, 1)).await.unwrap();
    }
    watch.close(ledger);
    assert_eq!(events.next().await, Err(Missed(4)));
    assert!(matches!(events.next().await, Ok(Some(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_sees_the_end_once_the_ledger_is_closed_whoever_still_holds_it() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let mut events = ledger.subscribe();
    ledger.close().await;
    assert_eq!(events.next().await, Ok(None));
    assert_eq!(ledger.subscribe().next().await, Ok(None));
    watch.close(ledger);
}
