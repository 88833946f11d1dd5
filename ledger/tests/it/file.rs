//! The file: whose it is, who may open it, and what is said when it cannot be read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bitcoin::Network;
use farebox_channel::{Keyring, Kind, Seed};
use farebox_ledger::{Ledger, Loaded, SqliteStore, Store, StoreError};

use crate::support::{Books, charge, every_state, keyring, now, open, outpoint, rules};

#[test]
fn a_new_file_is_empty() {
    let books = Books::new();
    assert_eq!(books.on_disk(), Loaded::default());
    assert_eq!(books.on_disk(), Loaded::default(), "and so it is the second time");
}

#[tokio::test]
async fn a_file_of_another_seed_or_network_is_refused_and_left_as_it_is() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    ledger.create(open(1, 2_000)).await.unwrap();
    watch.close(ledger);
    for other in [
        Keyring::new(Seed::new([2; 32]), Network::Regtest),
        Keyring::new(Seed::new([1; 32]), Network::Bitcoin),
    ] {
        let refused = books.store_of(&other).map(|_| ());
        assert_eq!(refused, Err(StoreError::OtherSeed));
    }
    assert_eq!(books.only(), open(1, 2_000));
}

#[test]
fn a_file_of_a_newer_release_is_refused() {
    let books = Books::new();
    drop(books.store());
    books.tamper("PRAGMA user_version = 3");
    let refused = books.store().map(|_| ());
    assert_eq!(refused, Err(StoreError::Newer { found: 3, known: 2 }));
}

#[tokio::test]
async fn a_file_of_the_release_without_a_log_is_taken_on_and_closed_to_that_one() {
    let books = Books::new();
    books.record(&[open(1, 2_000)]).await;
    books.tamper("PRAGMA user_version = 1; DELETE FROM meta WHERE key = 'epoch'");
    assert_eq!(books.only(), open(1, 2_000));
    let file = rusqlite::Connection::open(books.path()).unwrap();
    assert_eq!(file.pragma_query_value(None, "user_version", |row| row.get(0)), Ok(2));
}

#[test]
fn a_second_opener_is_refused_as_long_as_the_first_is_there() {
    let books = Books::new();
    let first = books.store().unwrap();
    let refused = books.store_at_once().map(|_| ());
    assert_eq!(refused, Err(StoreError::InUse(books.path().display().to_string())));
    drop(first);
    assert!(books.store().is_ok());
}

#[tokio::test]
async fn a_ledger_holds_its_file_until_it_is_closed() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    let clone = ledger.clone();
    drop(ledger);
    assert!(matches!(books.store_at_once().map(|_| ()), Err(StoreError::InUse(_))));
    assert!(clone.create(open(1, 2_000)).await.is_ok(), "a clone goes on");
    watch.close(clone);
    assert!(books.store().is_ok());
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let books = Books::new();
    let (ledger, watch) = books.open();
    ledger.create(open(1, 2_000)).await.unwrap();
    ledger.apply(outpoint(&open(1, 2_000)), now(), charge(&open(1, 2_000), 1)).await.unwrap();
    let mut names = vec![];
    for entry in fs::read_dir(books.path().parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    let all = ["", "-payments", "-shm", "-wal", ".lock"].map(|end| format!("ledger.sqlite{end}"));
    assert_eq!(names, all);
    watch.close(ledger);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let path = Path::new("/nowhere/at/all/ledger.sqlite");
    let failed = SqliteStore::open(path, &keyring().fingerprint()).map(|_| ()).unwrap_err();
    assert!(failed.to_string().contains("/nowhere/at/all/ledger.sqlite"), "{failed}");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let books = Books::new();
    fs::write(books.path(), "not a database, but longer than a header would be, by far".repeat(20))
        .unwrap();
    let refused = books.store().map(|_| ()).unwrap_err();
    assert!(matches!(refused, StoreError::Failed(_)), "{refused}");
    assert!(fs::read(books.path()).unwrap().starts_with(b"not a database"), "it is left alone");
}

/// What opening a ledger says after `damage` to a file with a channel in every state.
async fn damaged(damage: &str) -> StoreError {
    let books = Books::new();
    let (ledger, watch) = books.open();
    for channel in every_state(Kind::Refund) {
        ledger.create(channel).await.unwrap();
    }
    watch.close(ledger);
    books.tamper(damage);
    Ledger::open(books.store().unwrap(), rules()).map(|_| ()).unwrap_err()
}

/// A settlement is taken away from its channel.
const SETTLEMENT_GONE: &str = "PRAGMA foreign_keys = OFF; DELETE FROM settlement; \
                               UPDATE channel SET settlement = 99 WHERE contract = 8";
/// A row, what is said of it, and what was done to it.
const DAMAGE: [(&str, &str, &str); 30] = [
    ("channel 1", "state", "UPDATE channel SET state = 'shut' WHERE contract = 1"),
    ("channel 3", "-1", "UPDATE channel SET height = -1 WHERE contract = 3"),
    ("channel 4", "spent", "UPDATE channel SET spent = 999999999999001 WHERE contract = 4"),
    ("channel 4", "-1", "UPDATE channel SET spent = -1 WHERE contract = 4"),
    ("channel 4", "paid", "UPDATE channel SET paid = 1000000000000 WHERE contract = 4"),
    ("channel 4", "signature", "UPDATE channel SET signature = zeroblob(63) WHERE contract = 4"),
    ("channel 5", "cause", "UPDATE channel SET cause = NULL WHERE contract = 5"),
    ("channel 5", "cause", "UPDATE channel SET cause = 'weather' WHERE contract = 5"),
    ("channel 5", "since", "UPDATE channel SET since = NULL WHERE contract = 5"),
    ("channel 5", "written_off", "UPDATE channel SET written_off = NULL WHERE contract = 5"),
    ("channel 6", "-1", "UPDATE channel SET used_at = -1 WHERE contract = 6"),
    ("channel 8", "settlement", SETTLEMENT_GONE),
    ("channel 9", "settled", "UPDATE channel SET settled = NULL WHERE contract = 9"),
    ("channel 9", "settled", "UPDATE channel SET settled = 1000000000000 WHERE contract = 9"),
    ("channel 18", "coins", "UPDATE channel SET coins = zeroblob(37) WHERE contract = 18"),
    ("channel 9", "mined_txid", "UPDATE channel SET mined_txid = NULL WHERE contract = 9"),
    ("channel 9", "mined_txid", "UPDATE channel SET mined_txid = x'00' WHERE contract = 9"),
    ("channel 9", "mined_height", "UPDATE channel SET mined_height = NULL WHERE contract = 9"),
    ("channel 9", "nobody", "UPDATE channel SET mined_by = 'nobody' WHERE contract = 9"),
    ("channel 2", "outpoint", "UPDATE contract SET outpoint = x'00' WHERE id = 2"),
    ("channel 2", "network", "UPDATE contract SET network = 'moon' WHERE id = 2"),
    ("channel 2", "kind", "UPDATE contract SET kind = 'lightning' WHERE id = 2"),
    ("channel 2", "gateway_key", "UPDATE contract SET gateway_key = zeroblob(33) WHERE id = 2"),
    ("channel 2", "client_key", "UPDATE contract SET client_key = x'02' WHERE id = 2"),
    ("channel 2", "expiry", "UPDATE contract SET expiry = 499999999 WHERE id = 2"),
    ("channel 2", "-5", "UPDATE contract SET capacity = -5 WHERE id = 2"),
    ("channel 2", "payout", "UPDATE contract SET payout = x'6a' WHERE id = 2"),
    ("channel 2", "least", "UPDATE contract SET least = 1000000000000 WHERE id = 2"),
    ("settlement 1", "raw", "UPDATE settlement SET raw = x'0300' WHERE id = 1"),
    ("settlement 1", "-1", "UPDATE settlement SET fee = -1 WHERE id = 1"),
];

#[tokio::test]
async fn a_damaged_row_is_named_with_what_is_wrong_in_it() {
    for (row, wrong, damage) in DAMAGE {
        let StoreError::Damaged { record, reason } = damaged(damage).await else {
            panic!("{damage}")
        };
        assert_eq!(record, row, "{damage}");
        assert!(reason.contains(wrong), "{damage}: {reason}");
    }
}

#[tokio::test]
async fn a_damaged_cursor_is_named() {
    let books = Books::new();
    drop(books.store());
    books.tamper(
        "INSERT INTO meta (key, value) VALUES ('cursor_height', x'00'), ('cursor_hash', x'00')",
    );
    let refused = Ledger::open(books.store().unwrap(), rules()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, StoreError::Damaged { record, .. } if record.starts_with("cursor_")));
}

#[tokio::test]
async fn a_store_commits_what_it_has_not_loaded_only_once() {
    let books = Books::new();
    let channel = open(1, 2_000);
    let changes = farebox_ledger::Changes { channels: vec![&channel], ..Default::default() };
    let mut store = books.store().unwrap();
    store.commit(&changes).unwrap();
    store.commit(&changes).unwrap();
    drop(store);
    assert_eq!(outpoint(&books.only()), outpoint(&channel));
}
