//! A process that is killed, and a disk that is full.
//!
//! Each test runs itself a second time, as the process that the misfortune befalls. What a loss
//! of power does is not tried here.

use std::env;
use std::io::{BufRead, BufReader, Write, stderr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use farebox_ledger::{Ledger, LedgerError, SqliteStore};

use crate::support::{Books, CAPACITY, charge, keyring, now, open, outpoint, rules, spent};

/// Tells the second process where the store is.
const STORE: &str = "FAREBOX_TEST_STORE";
/// The greatest number of charges of a process that nothing befalls.
const CHARGES_MAX: usize = 100_000;

/// Charges again and again, and says so each time, until a charge fails.
async fn charge_on(path: &Path) {
    let store = SqliteStore::open(path, &keyring().fingerprint()).unwrap();
    let ledger = Ledger::open(store, rules()).unwrap();
    let channel = open(1, CAPACITY);
    ledger.create(channel.clone()).await.unwrap();
    let (mut sum, mut told) = (0, stderr());
    for _ in 0..CHARGES_MAX {
        match ledger.apply(outpoint(&channel), now(), charge(&channel, 1)).await {
            Ok(paid) => {
                sum = spent(&paid);
                writeln!(told, "spent {sum}").unwrap();
            }
            Err(error) => {
                assert!(matches!(error, LedgerError::Store(_)), "{error}");
                assert_eq!(ledger.channel(outpoint(&channel)).as_ref().map(spent), Some(sum));
                writeln!(told, "failed: {error}").unwrap();
                return;
            }
        }
    }
}

/// Runs the test `name` again, by way of `shell`, on the store at `path`.
fn again(name: &str, shell: &str, path: &Path) -> Child {
    Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" \"$@\"")])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name])
        .env(STORE, path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The lines that a second process writes.
fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap)
}

fn charged(line: &str) -> Option<u64> {
    line.strip_prefix("spent ")?.parse().ok()
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_answered() {
    if let Some(path) = env::var_os(STORE) {
        return charge_on(Path::new(&path)).await;
    }
    let books = Books::new();
    let name = "crash::a_killed_process_loses_nothing_that_was_answered";
    let mut child = again(name, "", &books.path());
    let mut answered = 0;
    let mut is_killed = false;
    for charged in lines(&mut child).filter_map(|line| charged(&line)) {
        answered = charged;
        if answered >= 50 && !is_killed {
            child.kill().unwrap();
            is_killed = true;
        }
    }
    assert!(is_killed && !child.wait().unwrap().success());
    let on_disk = spent(&books.only());
    assert!((answered..=answered + 1).contains(&on_disk), "{on_disk} of {answered}");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_answered_and_answers_nothing_else() {
    if let Some(path) = env::var_os(STORE) {
        return charge_on(Path::new(&path)).await;
    }
    let books = Books::new();
    let name = "crash::a_full_disk_loses_nothing_that_was_answered_and_answers_nothing_else";
    // No file of this process may be larger than 256 blocks of 512 bytes; a write beyond fails.
    let mut child = again(name, "trap '' XFSZ; ulimit -f 256;", &books.path());
    let lines: Vec<_> = lines(&mut child).collect();
    assert!(child.wait().unwrap().success(), "{lines:?}");
    let answered = lines.iter().filter_map(|line| charged(line)).max().unwrap();
    assert!(lines.iter().any(|line| line.starts_with("failed: the store failed")), "{lines:?}");
    assert_eq!(spent(&books.only()), answered);
}
