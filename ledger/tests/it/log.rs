//! The log of payments: what a crash, a damaged file and a failing disk leave of it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint};
use farebox_channel::gateway::{Cause, Channel, Input, Open};
use farebox_channel::{Contract, Kind};
use farebox_ledger::{Changes, Cursor, SqliteStore, Store, StoreError};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{
    Books, FIRST, account, charge, contract, msat, now, open, outpoint, paid, queue, spent, step,
};

/// The greatest length of a log.
const BYTES_MAX: u64 = 4 * 1_024 * 1_024;
/// How many channels have paid at most before their payments go to the tables.
const LOGGED_MAX: usize = 256;

/// Lets channels spend one msat each, in one commit.
fn pay(store: &mut SqliteStore, channels: &mut [Channel]) -> Result<(), StoreError> {
    let after: Vec<_> = channels.iter().map(|channel| step(channel, charge(channel, 1))).collect();
    let accounts = after.iter().map(|channel| match channel {
        Channel::Open(open) => open,
        other => panic!("{other:?}"),
    });
    store.commit(&Changes { accounts: accounts.collect(), ..Changes::default() })?;
    channels.clone_from_slice(&after);
    Ok(())
}

/// Writes channels as a whole.
fn write(store: &mut SqliteStore, channels: &[Channel]) -> Result<(), StoreError> {
    store.commit(&Changes { channels: channels.iter().collect(), ..Changes::default() })
}

/// Follows the chain to a height.
fn follow(store: &mut SqliteStore, height: u32) -> Result<(), StoreError> {
    let cursor = Some(Cursor { height, hash: BlockHash::all_zeros() });
    store.commit(&Changes { cursor, ..Changes::default() })
}

/// Puts so many channels on record, and returns the open store.
fn recorded(books: &Books, channels: &[Channel]) -> SqliteStore {
    let mut store = books.store().unwrap();
    write(&mut store, channels).unwrap();
    store
}

/// What the tables say of the only channel.
fn spent_by_tables(books: &Books) -> u64 {
    let tables = rusqlite::Connection::open(books.path()).unwrap();
    tables.query_row("SELECT spent FROM channel", [], |row| row.get(0)).unwrap()
}

/// Returns what an operator is told meanwhile.
fn told(books: &Books, act: impl FnOnce()) -> String {
    let path = books.path().with_file_name("told");
    let file = Arc::new(File::create(&path).unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(file).finish();
    tracing::subscriber::with_default(subscriber, act);
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_payment_is_on_record_after_a_crash_though_the_tables_do_not_have_it() {
    let (books, mut channel) = (Books::new(), [open(1, 2_000)]);
    let mut store = recorded(&books, &channel);
    for paid in 1..=3 {
        pay(&mut store, &mut channel).unwrap();
        assert_eq!(spent_by_tables(&books), 0);
        let left = books.after_a_crash();
        assert_eq!(spent(&left.only()), paid);
        assert!(!left.log().exists(), "what was in it is in the tables");
        assert_eq!(spent_by_tables(&left), paid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_more_than_an_account_is_whole_though_the_channel_stays_open() {
    let Channel::Open(mut stale) = open(2, 2_000) else { panic!("it is open") };
    stale.account.is_stale = true;
    let (books, channels) = (Books::new(), [open(1, 2_000), Channel::Open(stale)]);
    books.record(&channels).await;
    let topped_up = paid(channels[1].contract(), 3_000);
    let (ledger, watch) = books.open_held();
    // All of them share a commit, but for the first.
    let answers = [
        queue(&ledger, &channels[0], charge(&channels[0], 1)),
        queue(&ledger, &channels[0], Input::Confirmed { height: 202, confirmations: 1 }),
        queue(&ledger, &channels[0], charge(&channels[0], 1)),
        queue(&ledger, &channels[1], Input::Pay { payment: topped_up, price: msat(0) }),
    ];
    tokio::task::block_in_place(|| watch.wait());
    watch.release();
    for answer in answers {
        answer.await.unwrap();
    }
    let on_disk = books.after_a_crash().on_disk().channels;
    for (channel, on_disk) in channels.iter().zip(&on_disk) {
        assert_eq!(ledger.channel(outpoint(channel)).as_ref(), Some(on_disk));
    }
    assert_eq!((on_disk[0].height(), spent(&on_disk[0])), (Some(202), 2));
    assert!(!on_disk[1].account().is_stale);
    watch.close(ledger);
}

#[test]
fn a_store_that_was_closed_has_everything_in_its_tables_and_no_log() {
    let (books, mut channel) = (Books::new(), [open(1, 2_000)]);
    let mut store = recorded(&books, &channel);
    pay(&mut store, &mut channel).unwrap();
    assert!(books.log().exists());
    drop(store);
    assert!(!books.log().exists());
    assert_eq!(spent_by_tables(&books), 1);
}

#[tokio::test]
async fn a_ledger_puts_payments_in_the_tables_a_second_later() {
    let (books, channel) = (Books::new(), open(1, 2_000));
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    let began = Instant::now();
    let mut sum = 0;
    // Whether or not others come meanwhile.
    for waits in [Duration::from_secs(60), Duration::from_millis(10)] {
        let mut paid_at = None;
        while sum == 0 || spent_by_tables(&books) == 0 {
            if paid_at.is_none_or(|at: Instant| at.elapsed() > waits) {
                ledger.apply(outpoint(&channel), now(), charge(&channel, 1)).await.unwrap();
                (sum, paid_at) = (sum + 1, Some(Instant::now()));
            }
            assert!(began.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(1));
        }
        books.tamper("UPDATE channel SET spent = 0");
    }
    assert!(began.elapsed() > Duration::from_millis(1_900), "twice, and not for each payment");
    watch.close(ledger);
}

#[tokio::test]
async fn payments_that_did_not_get_to_the_tables_get_there_though_nobody_pays_again() {
    let (books, channel) = (Books::new(), open(1, 2_000));
    let (ledger, watch) = books.open();
    ledger.create(channel.clone()).await.unwrap();
    books.tamper(
        "CREATE TRIGGER broken BEFORE UPDATE ON channel \
         BEGIN SELECT RAISE(FAIL, 'broken'); END",
    );
    ledger.apply(outpoint(&channel), now(), charge(&channel, 1)).await.unwrap();
    let began = Instant::now();
    while watch.tidyings() == 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(spent_by_tables(&books), 0);
    books.tamper("DROP TRIGGER broken");
    while spent_by_tables(&books) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(10));
    }
    watch.close(ledger);
    assert_eq!(spent(&books.only()), 1);
}

#[test]
fn a_frame_that_is_cut_off_or_damaged_anywhere_was_never_there_and_those_before_it_are() {
    let (books, mut channels) = (Books::new(), [open(1, 2_000), open(2, 2_000)]);
    let mut store = recorded(&books, &channels);
    pay(&mut store, &mut channels).unwrap();
    let before = fs::read(books.log()).unwrap().len();
    pay(&mut store, &mut channels[..1]).unwrap();
    let whole = fs::read(books.log()).unwrap();
    let left = books.after_a_crash();
    let mut damaged: Vec<_> = (before..whole.len()).map(|end| whole[..end].to_vec()).collect();
    for at in before..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        damaged.push(bytes);
    }
    for bytes in damaged {
        let left = left.after_a_crash();
        fs::write(left.log(), &bytes).unwrap();
        let spent: Vec<_> = left.on_disk().channels.iter().map(spent).collect();
        assert_eq!(spent, [1, 1], "{} of {} bytes", bytes.len(), whole.len());
    }
    let after: Vec<_> = left.on_disk().channels.iter().map(spent).collect();
    assert_eq!(after, [2, 1]);
}

#[test]
fn a_log_says_nothing_once_anything_else_was_written() {
    let (books, mut channel) = (Books::new(), [open(1, 2_000)]);
    let mut store = recorded(&books, &channel);
    pay(&mut store, &mut channel).unwrap();
    let old = fs::read(books.log()).unwrap();
    let closed = step(&channel[0], Input::Expire(Cause::Operator));
    write(&mut store, std::slice::from_ref(&closed)).unwrap();
    assert_eq!(fs::read(books.log()).unwrap(), old, "it is not even emptied");
    assert_eq!(books.after_a_crash().only(), closed);

    // Nor does a log that was left beside a copy from another time.
    let copy = Books::new();
    follow(&mut recorded(&copy, &[open(1, 2_000)]), 1).unwrap();
    fs::write(copy.log(), &old).unwrap();
    assert_eq!(copy.only(), open(1, 2_000));
    assert!(!copy.log().exists());
}

#[test]
fn payments_after_a_failed_transaction_outlive_a_crash_that_finds_it_on_the_disk() {
    let (books, mut channel) = (Books::new(), [open(1, 2_000)]);
    let mut store = recorded(&books, &channel);
    pay(&mut store, &mut channel).unwrap();
    let log = fs::read(books.log()).unwrap();
    let breaks = "CREATE TRIGGER broken BEFORE INSERT ON contract \
                  BEGIN SELECT RAISE(ABORT, 'broken'); END";
    books.tamper(breaks);
    assert!(write(&mut store, &[open(2, 2_000)]).is_err());
    books.tamper("DROP TRIGGER broken");

    pay(&mut store, &mut channel).unwrap();
    assert_eq!(fs::read(books.log()).unwrap(), log, "it is not in a log that may be void");
    assert_eq!(spent_by_tables(&books), 2);
    pay(&mut store, &mut channel).unwrap();
    assert_eq!(spent_by_tables(&books), 2, "the log goes on");
    assert_eq!(spent(&books.after_a_crash().only()), 3);
}

#[test]
fn where_the_log_cannot_be_written_the_tables_are_and_that_is_told_once() {
    let (books, mut channel) = (Books::new(), [open(1, 2_000)]);
    let mut store = recorded(&books, &channel);
    fs::create_dir(books.log()).unwrap();
    let words = told(&books, || {
        for paid in 1..=3 {
            pay(&mut store, &mut channel).unwrap();
            assert_eq!(spent_by_tables(&books), paid);
        }
        fs::remove_dir(books.log()).unwrap();
        pay(&mut store, &mut channel).unwrap();
    });
    let words: Vec<_> = words.lines().collect();
    assert!(words[0].contains("no payment can be appended"), "{words:?}");
    assert!(words[1].contains("payments are appended again"), "{words:?}");
    assert_eq!(words.len(), 2, "{words:?}");
    assert_eq!(spent_by_tables(&books), 3);
    assert_eq!(spent(&books.after_a_crash().only()), 4);
}

#[test]
fn a_store_that_is_in_use_is_in_use_by_a_link_too() {
    let (books, linked, channel) = (Books::new(), Books::new(), [open(1, 2_000)]);
    let _store = recorded(&books, &channel);
    symlink(books.path(), linked.path()).unwrap();
    assert!(matches!(linked.store(), Err(StoreError::InUse(_))));
}

#[test]
fn beside_a_link_to_the_database_there_is_no_log() {
    let (books, linked, mut channel) = (Books::new(), Books::new(), [open(1, 2_000)]);
    drop(recorded(&books, &channel));
    symlink(books.path(), linked.path()).unwrap();
    let mut store = linked.store().unwrap();
    store.load().unwrap();
    pay(&mut store, &mut channel).unwrap();
    assert!(books.log().exists() && !linked.log().exists());
    assert_eq!(spent(&books.after_a_crash().only()), 1);
}

#[test]
fn a_log_is_never_longer_than_a_start_reads_in_no_time() {
    let (books, mut channels) = (Books::new(), [1, 2, 3, 4].map(|number| open(number, 2_000)));
    let mut store = recorded(&books, &channels);
    let (mut longest, mut last, mut turns) = (0, 0, 0);
    let mut many: Vec<_> = channels.iter().cycle().take(200).cloned().collect();
    while turns < 2 {
        pay(&mut store, &mut many).unwrap();
        channels.clone_from_slice(&many[..4]);
        let tables = rusqlite::Connection::open(books.path()).unwrap();
        let spent = "SELECT max(spent) FROM channel";
        let now: u64 = tables.query_row(spent, [], |row| row.get(0)).unwrap();
        turns += u32::from(now > last);
        last = now;
        longest = longest.max(fs::metadata(books.log()).unwrap().len());
    }
    assert!(longest <= BYTES_MAX && longest > BYTES_MAX * 9 / 10, "{longest} bytes");
    let left = books.after_a_crash().on_disk();
    assert!(left.channels.iter().all(|channel| spent(channel) == spent(&channels[0])));
}

#[test]
fn payments_of_many_channels_go_to_the_tables_in_between() {
    let books = Books::new();
    let channels = (0..400).map(|vout| {
        let outpoint = OutPoint { vout, ..contract(Kind::Cltv, 1).outpoint };
        let contract = Contract { outpoint, ..contract(Kind::Cltv, 1) };
        let payment = paid(&contract, FIRST);
        Channel::Open(Open { account: account(contract, payment), height: Some(201) })
    });
    let mut channels: Vec<_> = channels.collect();
    let mut store = recorded(&books, &channels);
    let counting = rusqlite::Connection::open(books.path()).unwrap();
    let sql = "SELECT count(*) FROM channel WHERE spent = 1";
    let mut in_tables = 0;
    for paid in 0..channels.len() {
        pay(&mut store, &mut channels[paid..=paid]).unwrap();
        let now: usize = counting.query_row(sql, [], |row| row.get(0)).unwrap();
        assert!(now == in_tables || now == paid + 1, "all that wait go together");
        in_tables = now;
        assert!(paid + 1 - in_tables <= LOGGED_MAX, "{in_tables} of {paid}");
    }
    assert!(in_tables > 0 && in_tables < channels.len());
    let mut left = books.after_a_crash().on_disk().channels;
    left.sort_by_key(outpoint);
    assert_eq!(left, channels);
}

/// What may happen to a store with four channels.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Some of the channels pay, from one to another.
    Pay(usize, usize),
    /// A channel is closed, or is as open as before.
    Turn(usize),
    Follow,
    Tidy,
    /// The process is gone, and the next one finds some bytes behind the log that nobody has written.
    Crash(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_usize, 1..=4_usize).prop_map(|(from, to)| Step::Pay(from.min(to - 1), to)),
        1 => (0..4_usize).prop_map(Step::Turn),
        1 => Just(Step::Follow),
        1 => Just(Step::Tidy),
        2 => (0..200_u8).prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_was_committed_is_there_after_a_crash_at_any_time(steps in vec(any_step(), 1..24)) {
        let mut books = Books::new();
        let mut channels = [1, 2, 3, 4].map(|number| open(number, 2_000));
        let (mut store, mut cursor) = (recorded(&books, &channels), None);
        for (height, taken) in (1..).zip(steps) {
            match taken {
                Step::Pay(from, to) => {
                    let paying = &mut channels[from..to];
                    if paying.iter().all(|channel| matches!(channel, Channel::Open(_))) {
                        pay(&mut store, paying).unwrap();
                    }
                }
                Step::Turn(place) => {
                    if let Channel::Open(_) = channels[place] {
                        let closed = step(&channels[place], Input::Expire(Cause::Operator));
                        channels[place] = closed;
                    }
                    write(&mut store, &channels[place..=place]).unwrap();
                }
                Step::Follow => {
                    follow(&mut store, height).unwrap();
                    cursor = Some(height);
                }
                Step::Tidy => store.tidy().unwrap(),
                Step::Crash(garbage) => {
                    let left = books.after_a_crash();
                    drop(store);
                    if left.log().exists() {
                        let mut bytes = fs::read(left.log()).unwrap();
                        bytes.extend((0..garbage).map(|byte| byte ^ garbage));
                        fs::write(left.log(), bytes).unwrap();
                    }
                    books = left;
                    store = books.store().unwrap();
                    store.load().unwrap();
                }
            }
            let on_disk = books.after_a_crash().on_disk();
            prop_assert_eq!(on_disk.channels, channels.to_vec(), "after {:?}", taken);
            prop_assert_eq!(on_disk.cursor.map(|cursor| cursor.height), cursor);
        }
    }
}
