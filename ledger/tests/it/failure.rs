//! A commit that fails: nothing has changed, for nobody in it, and the next one may succeed.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use farebox_channel::gateway::{Cause, Channel, Input};
use farebox_ledger::{Cursor, Ledger, LedgerError, StoreError};

use crate::support::{Answer, Books, charge, now, open, outpoint, spent};

/// Charges `price` msat, and returns the answer to come.
fn queue(ledger: &Ledger, channel: &Channel, price: u64) -> Answer {
    crate::support::queue(ledger, channel, charge(channel, price))
}

fn is_store_failure(answer: &Result<Channel, LedgerError>) -> bool {
    matches!(answer, Err(LedgerError::Store(StoreError::Failed(_))))
}

#[tokio::test]
async fn a_failing_commit_changes_nothing_and_the_next_one_succeeds() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    watch.fail(true);
    for _ in 0..3 {
        let failed = ledger.apply(outpoint(&channel), now(), charge(&channel, 5)).await;
        assert!(is_store_failure(&failed));
        assert_eq!(ledger.channel(outpoint(&channel)), Some(channel.clone()));
    }
    let failed = ledger.create(open(2, 2_000)).await;
    assert!(is_store_failure(&failed));
    assert_eq!(ledger.channel(outpoint(&open(2, 2_000))), None);
    let cursor = Cursor { height: 1, hash: BlockHash::all_zeros() };
    assert!(matches!(ledger.follow(cursor, now(), vec![]).await, Err(LedgerError::Store(_))));
    watch.fail(false);
    let paid = ledger.apply(outpoint(&channel), now(), charge(&channel, 7)).await;
    assert_eq!(paid.as_ref().map(spent), Ok(7), "nothing of what failed is left");
    watch.close(ledger);
    let on_disk = books.on_disk();
    assert_eq!(on_disk.channels.iter().map(spent).collect::<Vec<_>>(), [7]);
    assert_eq!(on_disk.cursor, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_commit_fails_everybody_in_it() {
    let books = Books::new();
    let channels = [open(1, 2_000), open(2, 2_000)];
    let (ledger, watch) = books.open();
    for channel in &channels {
        ledger.create(channel.clone()).await.unwrap();
    }
    watch.close(ledger);
    let (ledger, watch) = books.open_held();
    let held = queue(&ledger, &channels[0], 1);
    tokio::task::block_in_place(|| watch.wait());
    let answers = [
        queue(&ledger, &channels[0], 5),
        queue(&ledger, &channels[1], 5),
        queue(&ledger, &channels[0], 1_999_990),
        // It is refused for what the one before has spent, which is not to be.
        queue(&ledger, &channels[0], 1_000),
    ];
    watch.fail(true);
    watch.release();
    assert!(is_store_failure(&held.await));
    for answer in answers {
        assert!(is_store_failure(&answer.await));
    }
    watch.fail(false);
    let paying = charge(&channels[0], 1_000);
    let after = ledger.apply(outpoint(&channels[0]), now(), paying).await;
    assert_eq!(after.as_ref().map(spent), Ok(1_000));
    watch.close(ledger);
    assert_eq!(books.on_disk().channels.iter().map(spent).collect::<Vec<_>>(), [1_000, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_breaks_off_in_the_middle_is_undone_as_a_whole() {
    let books = Books::new();
    let channels: Vec<_> = (1..=9).map(|number| open(number, 2_000)).collect();
    let (ledger, watch) = books.open();
    for channel in &channels {
        ledger.create(channel.clone()).await.unwrap();
    }
    watch.close(ledger);
    // SQLite itself fails, at one row of several.
    books.tamper(
        "CREATE TRIGGER broken BEFORE UPDATE ON channel WHEN NEW.spent = 666 \
         BEGIN SELECT RAISE(ABORT, 'broken'); END",
    );
    let (ledger, watch) = books.open_held();
    let held = queue(&ledger, &channels[0], 1);
    tokio::task::block_in_place(|| watch.wait());
    let answers: Vec<_> = channels
        .iter()
        .map(|channel| {
            let is_broken = outpoint(channel) == outpoint(&channels[4]);
            queue(&ledger, channel, if is_broken { 666 } else { 5 })
        })
        .chain([crate::support::queue(&ledger, &channels[8], Input::Expire(Cause::Operator))])
        .collect();
    watch.release();
    assert_eq!(held.await.as_ref().map(spent), Ok(1));
    for answer in answers {
        assert!(is_store_failure(&answer.await));
    }
    let paying = charge(&channels[0], 2);
    let after = ledger.apply(outpoint(&channels[0]), now(), paying).await;
    assert_eq!(after.as_ref().map(spent), Ok(3), "the next one succeeds");
    watch.close(ledger);
    let spent: Vec<_> = books.on_disk().channels.iter().map(spent).collect();
    assert_eq!(spent, [3, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_channel_whose_creation_failed_can_be_created() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    books.tamper(
        "CREATE TRIGGER broken BEFORE INSERT ON channel \
         BEGIN SELECT RAISE(ABORT, 'broken'); END",
    );
    assert!(is_store_failure(&ledger.create(channel.clone()).await));
    assert_eq!(ledger.channel(outpoint(&channel)), None);
    books.tamper("DROP TRIGGER broken");
    assert_eq!(ledger.create(channel.clone()).await.as_ref(), Ok(&channel));
    watch.close(ledger);
    assert_eq!(books.only(), channel);
}
