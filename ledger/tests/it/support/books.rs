//! A store in a folder of its own, which can be opened again, watched, held up and made to fail.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use farebox_channel::Keyring;
use farebox_channel::gateway::{Attempt, Channel};
use farebox_ledger::{AttemptId, Changes, Ledger, Loaded, SqliteStore, Store, StoreError};
use tempfile::TempDir;

use super::{keyring, rules};

/// How long a test waits for a thread before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a store.
pub(crate) struct Books {
    folder: TempDir,
}

/// What a test sees of an open store, and does to it.
pub(crate) struct Watch {
    commits: Arc<AtomicUsize>,
    tidyings: Arc<AtomicUsize>,
    is_failing: Arc<AtomicBool>,
    is_unreadable: Arc<AtomicBool>,
    gate: mpsc::Sender<()>,
    arrived: mpsc::Receiver<()>,
    closed: mpsc::Receiver<()>,
}

impl Books {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.sqlite")
    }

    /// Opens the store.
    ///
    /// A process that another test is about to start holds a copy of every lock for a moment, so
    /// a store that has just been closed may still be in use.
    pub(crate) fn store(&self) -> Result<SqliteStore, StoreError> {
        self.store_of(&keyring())
    }

    /// Opens the store for a keyring.
    pub(crate) fn store_of(&self, keyring: &Keyring) -> Result<SqliteStore, StoreError> {
        let patience_ends = Instant::now() + PATIENCE;
        loop {
            match SqliteStore::open(&self.path(), &keyring.fingerprint()) {
                Err(StoreError::InUse(_)) if Instant::now() < patience_ends => thread::yield_now(),
                opened => return opened,
            }
        }
    }

    /// Opens the store, or finds it in use.
    pub(crate) fn store_at_once(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.path(), &keyring().fingerprint())
    }

    /// The log of payments.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("ledger.sqlite-payments")
    }

    /// Returns what a crash would leave of the store now. It may be open, but not be written to.
    pub(crate) fn after_a_crash(&self) -> Self {
        let left = Self::new();
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), left.folder.path().join(entry.file_name())).unwrap();
        }
        left
    }

    /// Opens the ledger.
    pub(crate) fn open(&self) -> (Ledger, Watch) {
        self.watched(false)
    }

    /// Opens the ledger, and holds up its first commit until [`Watch::release`].
    pub(crate) fn open_held(&self) -> (Ledger, Watch) {
        self.watched(true)
    }

    fn watched(&self, is_held: bool) -> (Ledger, Watch) {
        let (commits, tidyings) = <(Arc<_>, Arc<_>)>::default();
        let (is_failing, is_unreadable) = <(Arc<_>, Arc<_>)>::default();
        let (gate, held) = mpsc::channel();
        let (arrives, arrived) = mpsc::channel();
        let (closes, closed) = mpsc::channel();
        let store = Watched {
            store: self.store().unwrap(),
            commits: Arc::clone(&commits),
            tidyings: Arc::clone(&tidyings),
            is_failing: Arc::clone(&is_failing),
            is_unreadable: Arc::clone(&is_unreadable),
            held: is_held.then_some((arrives, held)),
            _closes: closes,
        };
        let ledger = Ledger::open(store, rules()).unwrap();
        (ledger, Watch { commits, tidyings, is_failing, is_unreadable, gate, arrived, closed })
    }

    /// Puts channels on record.
    pub(crate) async fn record(&self, channels: &[Channel]) {
        let (ledger, watch) = self.open();
        for channel in channels {
            ledger.create(channel.clone()).await.unwrap();
        }
        watch.close(ledger);
    }

    /// Returns what is on disk, in the order of the outpoints.
    pub(crate) fn on_disk(&self) -> Loaded {
        let mut loaded = self.store().unwrap().load().unwrap();
        loaded.channels.sort_by_key(super::outpoint);
        loaded
    }

    /// Returns the one channel that is on disk.
    pub(crate) fn only(&self) -> Channel {
        let [channel] = self.on_disk().channels.try_into().unwrap();
        channel
    }

    /// Does something to the file that the ledger would not do.
    pub(crate) fn tamper(&self, sql: &str) {
        rusqlite::Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }
}

impl Watch {
    /// The commits that were tried.
    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// How often the store was tidied, or could not be.
    pub(crate) fn tidyings(&self) -> usize {
        self.tidyings.load(Ordering::SeqCst)
    }

    /// Lets commits fail, or succeed again.
    pub(crate) fn fail(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::SeqCst);
    }

    /// Lets reads of named requests fail, or succeed again.
    pub(crate) fn fail_reads(&self, is_unreadable: bool) {
        self.is_unreadable.store(is_unreadable, Ordering::SeqCst);
    }

    /// Waits until the first commit is held up.
    pub(crate) fn wait(&self) {
        self.arrived.recv_timeout(PATIENCE).unwrap();
    }

    /// Lets the held commit go on.
    pub(crate) fn release(&self) {
        self.gate.send(()).unwrap();
    }

    /// Closes the ledger, and waits until its file is closed too.
    pub(crate) fn close(self, ledger: Ledger) {
        drop(ledger);
        let closed = self.closed.recv_timeout(PATIENCE);
        assert_eq!(closed, Err(mpsc::RecvTimeoutError::Disconnected));
    }
}

/// The real store, between a ledger and a test.
struct Watched {
    store: SqliteStore,
    commits: Arc<AtomicUsize>,
    tidyings: Arc<AtomicUsize>,
    is_failing: Arc<AtomicBool>,
    is_unreadable: Arc<AtomicBool>,
    held: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
    /// Goes last, when the store is closed.
    _closes: mpsc::Sender<()>,
}

impl Store for Watched {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.store.load()
    }

    fn attempt(&mut self, id: &AttemptId) -> Result<Option<Attempt>, StoreError> {
        if self.is_unreadable.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("as the test wants it".to_owned()));
        }
        self.store.attempt(id)
    }

    fn commit(&mut self, changes: &Changes<'_>) -> Result<(), StoreError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        if let Some((arrives, held)) = self.held.take() {
            arrives.send(()).unwrap();
            held.recv_timeout(PATIENCE).unwrap();
        }
        if self.is_failing.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("as the test wants it".to_owned()));
        }
        self.store.commit(changes)
    }

    fn tidy(&mut self) -> Result<(), StoreError> {
        self.tidyings.fetch_add(1, Ordering::SeqCst);
        self.store.tidy()
    }
}
