//! Requests with a name, which are charged once.

use std::ops::Range;

use farebox_channel::Timestamp;
use farebox_channel::gateway::{Attempt, Channel, Input, Refusal, RequestName};
use farebox_ledger::{AttemptId, Changes, Charge, LedgerError, SqliteStore, Store};

use crate::support::{Books, msat, now, open, outpoint, spent};

/// A named charge on `channel` from its credit.
fn named(channel: &Channel) -> Charge {
    let name = RequestName { key: [1; 32], request: [2; 32] };
    let payment = channel.account().payment;
    Charge { payment, price: msat(7), price_max: None, name: Some(name), memo: None }
}

#[tokio::test]
async fn a_named_request_is_not_served_again_while_a_reorg_has_its_contract() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let first = ledger.pay(outpoint(&channel), now(), named(&channel)).await.unwrap();

    ledger.apply(outpoint(&channel), now(), Input::Unconfirmed).await.unwrap();
    let refused = ledger.pay(outpoint(&channel), now(), named(&channel)).await;
    let confirmed = Input::Confirmed { height: 202, confirmations: 1 };
    ledger.apply(outpoint(&channel), now(), confirmed).await.unwrap();
    let again = ledger.pay(outpoint(&channel), now(), named(&channel)).await;

    assert_eq!(refused, Err(LedgerError::Refused(Refusal::Pending)));
    assert_eq!(again, Ok(first));
    watch.close(ledger);
}

#[tokio::test]
async fn an_answer_whose_name_cannot_be_read_changes_nothing() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let paid = ledger.pay(outpoint(&channel), now(), named(&channel)).await.unwrap();

    watch.fail_reads(true);
    let failed = ledger.answer(outpoint(&channel), now(), paid, msat(3)).await;
    watch.fail_reads(false);

    assert!(matches!(failed, Err(LedgerError::Store(_))), "{failed:?}");
    assert_eq!(ledger.channel(outpoint(&channel)).as_ref().map(spent), Some(7));
    let receipt = ledger.answer(outpoint(&channel), now(), paid, msat(3)).await.unwrap();
    assert_eq!((receipt.price, receipt.spent), (msat(4), msat(4)));
    watch.close(ledger);
}

/// Two days later than [`now`].
fn later() -> Timestamp {
    Timestamp::new(now().now().get() + 2 * 24 * 60 * 60)
}

/// Writes a named request of a channel for each number, in one commit.
fn write(store: &mut SqliteStore, channel: &Channel, numbers: Range<u16>, at: Timestamp) {
    let receipt = channel.account().receipt(msat(7));
    let attempt = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let key = std::array::from_fn(|place| if place == 0 { high } else { low });
        let attempt = Attempt { request: [2; 32], receipt, is_answered: true, at };
        (AttemptId { channel: outpoint(channel), key }, Some(attempt))
    };
    let (channels, attempts) = (vec![channel], numbers.map(attempt).collect());
    store.commit(&Changes { channels, attempts, ..Changes::default() }).unwrap();
}

/// Returns how many names are on record that are to be forgotten.
fn forgotten(books: &Books) -> u16 {
    let reader = rusqlite::Connection::open(books.path()).unwrap();
    let sql = "SELECT count(*) FROM attempt WHERE at < ?";
    reader.query_row(sql, [later().get()], |row| row.get(0)).unwrap()
}

#[test]
fn a_day_of_names_is_forgotten_in_several_commits_and_not_in_one() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let mut store = books.store().unwrap();
    write(&mut store, &channel, 0..0, now().now());
    write(&mut store, &channel, 0..1_000, now().now());
    assert_eq!(forgotten(&books), 1_000);

    let mut left = vec![1_000];
    for number in 1_000..1_010 {
        write(&mut store, &channel, number..number + 1, later());
        left.push(forgotten(&books));
    }

    assert!(left.windows(2).all(|two| two[0] - two[1] <= 300), "{left:?}");
    assert_eq!(left.last(), Some(&0), "{left:?}");
}

#[test]
fn names_are_forgotten_as_fast_as_they_come() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let mut store = books.store().unwrap();
    write(&mut store, &channel, 0..0, now().now());
    write(&mut store, &channel, 0..1_000, now().now());

    write(&mut store, &channel, 1_000..2_000, later());

    assert_eq!(forgotten(&books), 0);
}
