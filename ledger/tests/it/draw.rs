//! Requests under way that are charged for more, and those that wait for credit.

use std::pin::pin;
use std::task::{Context, Waker};

use farebox_channel::gateway::{Cause, Channel, Input, Open, Refusal, Rules, Unconfirmed};
use farebox_ledger::{Credited, Ledger, LedgerError};

use crate::support::{Books, charge, msat, now, open, outpoint, paid, rules, sat, spent};

/// Tells whether something was told since the last time.
fn is_told(credited: &mut Credited) -> bool {
    pin!(credited.again()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[tokio::test]
async fn a_draw_takes_what_there_is_but_no_less_than_is_of_use() {
    let books = Books::new();
    let channel = open(1, 2);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();

    let first = ledger.draw(outpoint(&channel), now(), msat(1), msat(1_500)).await.unwrap();
    let rest = ledger.draw(outpoint(&channel), now(), msat(1), msat(1_500)).await.unwrap();
    let none = ledger.draw(outpoint(&channel), now(), msat(1), msat(1_500)).await;

    assert_eq!((first.price, first.spent, first.credit), (msat(1_500), msat(1_500), msat(500)));
    assert_eq!((rest.price, rest.spent, rest.credit), (msat(500), msat(2_000), msat(0)));
    assert!(matches!(none, Err(LedgerError::Refused(Refusal::Underpaid { .. }))), "{none:?}");
    watch.close(ledger);
    assert_eq!(spent(&books.only()), 2_000);
}

#[tokio::test]
async fn a_closing_channel_gives_nothing_to_draw() {
    let books = Books::new();
    let channel = open(1, 2);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let close = Input::Expire(Cause::Operator);
    ledger.apply(outpoint(&channel), now(), close).await.unwrap();

    let drawn = ledger.draw(outpoint(&channel), now(), msat(1), msat(1)).await;

    assert_eq!(drawn, Err(LedgerError::Refused(Refusal::Closing)));
    watch.close(ledger);
}

#[tokio::test]
async fn whoever_waits_for_credit_is_told_of_a_payment_and_of_a_release_and_of_nothing_else() {
    let books = Books::new();
    let (channel, other) = (open(1, 2), open(2, 2));
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    ledger.create(other.clone()).await.unwrap();
    ledger.draw(outpoint(&channel), now(), msat(1), msat(2_000)).await.unwrap();
    let mut credited = ledger.credited(outpoint(&channel));

    ledger.apply(outpoint(&other), now(), charge(&other, 1)).await.unwrap();
    assert!(!is_told(&mut credited), "another channel has changed");

    let payment = paid(channel.contract(), 3);
    let pay = Input::Pay { payment, price: msat(1_000) };
    ledger.apply(outpoint(&channel), now(), pay).await.unwrap();
    assert!(!is_told(&mut credited), "it is spent already");

    let release = Input::Release { charge: msat(10) };
    ledger.apply(outpoint(&channel), now(), release).await.unwrap();
    assert!(is_told(&mut credited));
    assert!(!is_told(&mut credited), "it was told once");

    let pay = Input::Pay { payment: paid(channel.contract(), 4), price: msat(0) };
    ledger.apply(outpoint(&channel), now(), pay).await.unwrap();
    assert!(is_told(&mut credited));
    watch.close(ledger);
}

#[tokio::test]
async fn whoever_waits_for_credit_is_told_that_the_channel_closes() {
    let books = Books::new();
    let channel = open(1, 2);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    ledger.draw(outpoint(&channel), now(), msat(1), msat(2_000)).await.unwrap();
    let mut credited = ledger.credited(outpoint(&channel));

    let close = Input::Expire(Cause::Operator);
    ledger.apply(outpoint(&channel), now(), close).await.unwrap();

    assert!(is_told(&mut credited));
    watch.close(ledger);
}

#[tokio::test]
async fn a_draw_on_a_contract_in_no_block_takes_what_is_served_on_it_and_more_once_it_is_mined() {
    let books = Books::new();
    let Channel::Open(mined) = open(1, 9) else { panic!("it is open") };
    let channel = Channel::Open(Open { height: None, ..mined });
    let unconfirmed = Some(Unconfirmed { each: sat(2), total: sat(2) });
    let rules = Rules { confirmations: 0, unconfirmed, ..rules() };
    let ledger = Ledger::open(books.store().unwrap(), rules).unwrap();
    ledger.create(channel.clone()).await.unwrap();
    let draw = async || ledger.draw(outpoint(&channel), now(), msat(1), msat(1_500)).await;

    let drawn = [draw().await, draw().await].map(|drew| drew.unwrap().price);
    assert_eq!(drawn, [msat(1_500), msat(500)]);
    assert_eq!(draw().await, Err(LedgerError::Refused(Refusal::Pending)));
    let mut credited = ledger.credited(outpoint(&channel));
    let pay = Input::Pay { payment: paid(channel.contract(), 10), price: msat(0) };
    ledger.apply(outpoint(&channel), now(), pay).await.unwrap();
    assert!(!is_told(&mut credited), "more credit is of no use");

    let confirmed = Input::Confirmed { height: 201, confirmations: 1 };
    ledger.apply(outpoint(&channel), now(), confirmed).await.unwrap();
    assert!(is_told(&mut credited));
    assert_eq!(draw().await.unwrap().price, msat(1_500));
    ledger.close().await;
    drop(ledger);
    assert_eq!(spent(&books.only()), 3_500);
}
