//! The thread that commits goes before others, where the system lets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use farebox_channel::gateway::Attempt;
use farebox_ledger::{AttemptId, Changes, Ledger, Loaded, SqliteStore, Store, StoreError};
use rustix::process::{getpriority_process, setpriority_process};

use crate::support::{Books, open, rules};

/// A store that notes the priority of the thread that commits.
struct Noting {
    store: SqliteStore,
    priority: Arc<AtomicI32>,
}

impl Store for Noting {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.store.load()
    }

    fn attempt(&mut self, id: &AttemptId) -> Result<Option<Attempt>, StoreError> {
        self.store.attempt(id)
    }

    fn commit(&mut self, changes: &Changes<'_>) -> Result<(), StoreError> {
        self.priority.store(getpriority_process(None).unwrap(), Ordering::SeqCst);
        self.store.commit(changes)
    }
}

#[tokio::test]
async fn the_thread_that_commits_goes_first_as_far_as_the_system_lets_it_and_no_other_does() {
    let own = getpriority_process(None).unwrap();
    let is_allowed = thread::spawn(|| setpriority_process(None, -20).is_ok()).join().unwrap();
    let books = Books::new();
    let priority = Arc::new(AtomicI32::new(i32::MAX));
    let store = Noting { store: books.store().unwrap(), priority: Arc::clone(&priority) };
    let ledger = Ledger::open(store, rules()).unwrap();

    ledger.create(open(1, 2_000)).await.unwrap();

    assert_eq!(priority.load(Ordering::SeqCst), if is_allowed { -20 } else { own });
    assert_eq!(getpriority_process(None), Ok(own));
}
