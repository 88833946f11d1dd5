//! Concurrent inputs: applied in the order in which they come, and saved together.

use std::task::{Context, Waker};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use farebox_channel::gateway::{Channel, Input, Refusal};
use farebox_ledger::{Cursor, Ledger, LedgerError};

use crate::support::{Books, Watch, charge, msat, now, open, outpoint, paid, queue, spent};

/// The greatest number of inputs that wait for a commit.
const QUEUE_MAX: usize = 8_192;

fn cursor(height: u32) -> Cursor {
    Cursor { height, hash: BlockHash::all_zeros() }
}

/// Opens books with `channels` on record, whose next commit is held up.
async fn held(books: &Books, channels: &[Channel]) -> (Ledger, Watch) {
    let (ledger, watch) = books.open();
    for channel in channels {
        ledger.create(channel.clone()).await.unwrap();
    }
    watch.close(ledger);
    let (ledger, watch) = books.open_held();
    let following = ledger.clone();
    tokio::spawn(async move { following.follow(cursor(1), now(), vec![]).await });
    tokio::task::block_in_place(|| watch.wait());
    (ledger, watch)
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_of_one_channel_are_applied_in_order_and_share_a_commit() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = held(&books, std::slice::from_ref(&channel)).await;
    let answers: Vec<_> =
        (1..=100).map(|price| queue(&ledger, &channel, charge(&channel, price))).collect();
    watch.release();
    let mut sum = 0;
    for (price, answer) in (1..).zip(answers) {
        sum += price;
        assert_eq!(spent(&answer.await.unwrap()), sum, "each sees the ones before");
    }
    assert_eq!(watch.commits(), 2, "the held one, and one for all");
    watch.close(ledger);
    assert_eq!(spent(&books.only()), 5_050);
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_of_many_channels_share_a_commit() {
    let books = Books::new();
    let channels: Vec<_> = (1..=40).map(|number| open(number, 2_000)).collect();
    let (ledger, watch) = held(&books, &channels).await;
    let answers: Vec<_> =
        channels.iter().map(|channel| queue(&ledger, channel, charge(channel, 7))).collect();
    watch.release();
    for answer in answers {
        assert_eq!(spent(&answer.await.unwrap()), 7);
    }
    assert_eq!(watch.commits(), 2);
    watch.close(ledger);
    assert_eq!(books.on_disk().channels.iter().map(spent).sum::<u64>(), 40 * 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_inputs_than_a_commit_holds_are_all_saved() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = held(&books, std::slice::from_ref(&channel)).await;
    let answers: Vec<_> =
        (0..3_000).map(|_| queue(&ledger, &channel, charge(&channel, 1))).collect();
    watch.release();
    for answer in answers {
        assert!(answer.await.is_ok());
    }
    assert!((3..=6).contains(&watch.commits()), "{} commits", watch.commits());
    watch.close(ledger);
    assert_eq!(spent(&books.only()), 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_seen_or_answered_before_it_is_saved() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    watch.close(ledger);
    let (ledger, watch) = books.open_held();
    let mut answer = queue(&ledger, &channel, charge(&channel, 1));
    tokio::task::block_in_place(|| watch.wait());
    let mut context = Context::from_waker(Waker::noop());
    assert!(answer.as_mut().poll(&mut context).is_pending());
    assert_eq!(ledger.channel(outpoint(&channel)), Some(channel.clone()));
    watch.release();
    assert_eq!(spent(&answer.await.unwrap()), 1);
    assert_eq!(ledger.channel(outpoint(&channel)).as_ref().map(spent), Some(1));
    watch.close(ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_input_does_not_disturb_those_beside_it() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = held(&books, std::slice::from_ref(&channel)).await;
    let before = queue(&ledger, &channel, charge(&channel, 1_500_000));
    let refused = queue(&ledger, &channel, charge(&channel, 500_001));
    let after = queue(&ledger, &channel, charge(&channel, 500_000));
    watch.release();
    assert_eq!(before.await.as_ref().map(spent), Ok(1_500_000));
    let refused = refused.await;
    assert!(matches!(refused, Err(LedgerError::Refused(Refusal::Underpaid { .. }))));
    assert_eq!(after.await.as_ref().map(spent), Ok(2_000_000));
    watch.close(ledger);
    assert_eq!(spent(&books.only()), 2_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_and_a_payment_that_race_are_one_after_the_other() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = held(&books, std::slice::from_ref(&channel)).await;
    let payment = paid(channel.contract(), 3_000);
    let counted = queue(&ledger, &channel, Input::Pay { payment, price: msat(2_500_000) });
    let close = queue(&ledger, &channel, Input::Close(payment));
    let too_late = queue(&ledger, &channel, charge(&channel, 1));
    watch.release();
    assert_eq!(counted.await.as_ref().map(spent), Ok(2_500_000));
    assert_eq!(close.await.as_ref().map(spent), Ok(2_500_000));
    assert_eq!(too_late.await, Err(Refusal::Closing.into()));
    watch.close(ledger);
    assert_eq!(books.only().account().payment.paid().get(), 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undone_change_is_saved_as_undone() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = held(&books, std::slice::from_ref(&channel)).await;
    let charged = queue(&ledger, &channel, charge(&channel, 5));
    let released = queue(&ledger, &channel, Input::Release { charge: msat(5) });
    watch.release();
    assert_eq!(charged.await.as_ref().map(spent), Ok(5));
    assert_eq!(released.await.as_ref().map(spent), Ok(0));
    watch.close(ledger);
    assert_eq!(spent(&books.only()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_take_its_charge_along() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = held(&books, std::slice::from_ref(&channel)).await;
    drop(queue(&ledger, &channel, charge(&channel, 5)));
    let next = queue(&ledger, &channel, charge(&channel, 1));
    watch.release();
    assert_eq!(next.await.as_ref().map(spent), Ok(6));
    watch.close(ledger);
    assert_eq!(spent(&books.only()), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_create_the_same_channel_at_once_get_the_first() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let creating = (1..=20).map(|thousands| {
        let (ledger, channel) = (ledger.clone(), open(1, thousands * 1_000));
        tokio::spawn(async move { ledger.create(channel).await.unwrap() })
    });
    let creating: Vec<_> = creating.collect();
    let mut created = vec![];
    for task in creating {
        created.push(task.await.unwrap());
    }
    watch.close(ledger);
    let first = books.only();
    assert!(created.iter().all(|channel| *channel == first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_charge_is_lost_between_many_tasks() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let tasks = (0..16).map(|_| {
        let (ledger, channel) = (ledger.clone(), channel.clone());
        tokio::spawn(async move {
            let mut served = 0_u64;
            for _ in 0..50 {
                let paid = ledger.apply(outpoint(&channel), now(), charge(&channel, 3_000)).await;
                served += u64::from(paid.is_ok());
            }
            served
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut served = 0;
    for task in tasks {
        served += task.await.unwrap();
    }
    assert_eq!(served, 666, "2,000 sat pay for so many at 3,000 msat each, whoever asks");
    watch.close(ledger);
    assert_eq!(spent(&books.only()), 666 * 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_turns_away_what_begins_and_takes_what_ends() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = held(&books, std::slice::from_ref(&channel)).await;
    let answers: Vec<_> =
        (0..QUEUE_MAX).map(|_| queue(&ledger, &channel, charge(&channel, 1))).collect();
    assert_eq!(ledger.queued(), QUEUE_MAX);
    let busy = ledger.apply(outpoint(&channel), now(), charge(&channel, 1)).await;
    assert_eq!(busy, Err(LedgerError::Busy));
    let releasing = {
        let (ledger, outpoint) = (ledger.clone(), outpoint(&channel));
        tokio::spawn(async move { ledger.release(outpoint, now(), msat(1), None).await })
    };
    tokio::task::block_in_place(|| {
        while ledger.queued() == QUEUE_MAX {
            std::thread::yield_now();
        }
    });
    watch.release();
    for answer in answers {
        assert!(answer.await.is_ok());
    }
    assert!(releasing.await.unwrap().is_ok());
    let after = ledger.apply(outpoint(&channel), now(), charge(&channel, 1)).await;
    assert_eq!(after.as_ref().map(spent), Ok(8_192), "all but the one that was turned away");
    watch.close(ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_saves_what_waits_and_all_that_comes_later_is_told() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let (ledger, watch) = held(&books, std::slice::from_ref(&channel)).await;
    let before = queue(&ledger, &channel, charge(&channel, 5));
    let mut closing = Box::pin(ledger.close());
    let mut context = Context::from_waker(Waker::noop());
    assert!(closing.as_mut().poll(&mut context).is_pending());
    let after = ledger.apply(outpoint(&channel), now(), charge(&channel, 1)).await;
    assert_eq!(after, Err(LedgerError::Stopped));
    watch.release();
    closing.await;
    assert_eq!(before.await.as_ref().map(spent), Ok(5));
    ledger.close().await;
    assert_eq!(spent(&books.only()), 5);
}
