//! Channels that the gateway finds exhausted: what comes before the close counts.

use farebox_channel::gateway::{Cause, Channel, Input};
use farebox_channel::{Clock, Msat, Sat};

use crate::support::{Books, CAPACITY, now, open, outpoint, paid, queue, spent, step};

const CLOSE: Input = Input::Expire(Cause::Exhausted);

/// A channel on which everything is paid and spent.
fn exhausted() -> Channel {
    let channel = open(1, 1_000);
    let payment = paid(channel.contract(), CAPACITY);
    step(&channel, Input::Pay { payment, price: payment.paid().to_msat() })
}

fn everything() -> Msat {
    Sat::new(CAPACITY).unwrap().to_msat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_is_queued_behind_a_release_leaves_the_channel_open() {
    let books = Books::new();
    let channel = exhausted();
    books.record(std::slice::from_ref(&channel)).await;
    let (ledger, watch) = books.open_held();
    assert_eq!(ledger.due(now().now()), std::slice::from_ref(&channel));
    let first = open(2, 1_000);
    let creating = ledger.clone();
    let first = tokio::spawn(async move { creating.create(first).await });
    tokio::task::block_in_place(|| watch.wait());
    let released = queue(&ledger, &channel, Input::Release { charge: everything() });
    let closed = queue(&ledger, &channel, CLOSE);
    watch.release();
    first.await.unwrap().unwrap();

    let released = released.await.unwrap();
    assert_eq!((spent(&released), closed.await), (0, Ok(released)));
    watch.close(ledger);
}

#[tokio::test]
async fn a_close_by_a_price_that_has_fallen_since_leaves_the_channel_open() {
    let books = Books::new();
    let channel = exhausted();
    books.record(std::slice::from_ref(&channel)).await;
    let (ledger, watch) = books.open();
    assert_eq!(ledger.due(now().now()), std::slice::from_ref(&channel));
    ledger.set_cheapest(Msat::ZERO);

    let after = ledger.apply(outpoint(&channel), now(), CLOSE).await;

    assert_eq!(after, Ok(channel));
    watch.close(ledger);
}

#[tokio::test]
async fn an_exhausted_channel_stays_open_for_a_request_that_has_come_since() {
    let books = Books::new();
    let channel = exhausted();
    books.record(std::slice::from_ref(&channel)).await;
    let (ledger, watch) = books.open();
    assert_eq!(ledger.due(now().now()), std::slice::from_ref(&channel));
    let hold = ledger.hold(outpoint(&channel));

    ledger.apply_all(now(), vec![(outpoint(&channel), CLOSE)]).await.unwrap();
    let released = Input::Release { charge: Msat::new(1).unwrap() };
    let released = ledger.apply(outpoint(&channel), now(), released).await.unwrap();
    let again = Input::Pay { payment: released.account().payment, price: Msat::new(1).unwrap() };
    ledger.apply(outpoint(&channel), now(), again).await.unwrap();
    drop(hold);
    let closed = ledger.apply(outpoint(&channel), now(), CLOSE).await.unwrap();

    assert_eq!(closed.cause(), Some(Cause::Exhausted));
    watch.close(ledger);
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_a_channel_open_until_its_expiry() {
    let books = Books::new();
    let channel = exhausted();
    books.record(std::slice::from_ref(&channel)).await;
    let (ledger, watch) = books.open();
    let _hold = ledger.hold(outpoint(&channel));
    let mark = channel.mark(&ledger.rules()).unwrap();
    let at_mark = Clock { median_time_past: mark, wall: mark };
    let cause = channel.due(at_mark, &ledger.rules()).unwrap();

    let closed = ledger.apply(outpoint(&channel), at_mark, Input::Expire(cause)).await.unwrap();

    assert_eq!(closed.cause(), Some(Cause::Expiring));
    watch.close(ledger);
}
