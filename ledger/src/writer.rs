//! The one thread that changes channels: it takes all that waits, and commits it at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use farebox_channel::gateway::Event;
use tokio::sync::broadcast;

use crate::awaited::Awaited;
use crate::head::{Draft, Head};
use crate::hold::Holds;
use crate::ledger::Committed;
use crate::pace::Pace;
use crate::post::Post;
use crate::queue::{Exit, Waiting};
use crate::{LedgerError, Store, StoreError};

/// How long after a commit the store is tidied.
const TIDY_AFTER: Duration = Duration::from_secs(1);

/// The owner of the store.
pub(crate) struct Writer<S> {
    store: S,
    holds: Holds,
    awaited: Awaited,
    committed: Arc<Committed>,
    commits: Arc<AtomicU64>,
    events: broadcast::Sender<Event>,
    pace: Pace,
    /// Whether the store could be tidied when that was last tried. An operator is told once.
    is_tidy: bool,
    /// Goes last: whoever waits for the end finds the store closed.
    orders: Exit,
}

impl<S: Store> Writer<S> {
    pub(crate) fn new(
        store: S,
        (holds, awaited): (Holds, Awaited),
        committed: Arc<Committed>,
        commits: Arc<AtomicU64>,
        events: broadcast::Sender<Event>,
        orders: Exit,
    ) -> Self {
        Self {
            store,
            holds,
            awaited,
            committed,
            commits,
            events,
            pace: Pace::default(),
            is_tidy: true,
            orders,
        }
    }

    /// Works until it is closed, or every handle of the ledger is gone.
    pub(crate) fn run(mut self) {
        let mut batch = Vec::new();
        let mut tidy_at = None;
        while self.orders.take(&self.pace, tidy_at, &mut batch) {
            if !batch.is_empty() {
                let orders = batch.len();
                self.commit(&mut batch);
                let now = Instant::now();
                self.pace.note(orders, now);
                tidy_at = tidy_at.or_else(|| now.checked_add(TIDY_AFTER));
            }
            if tidy_at.is_some_and(|at| at <= Instant::now()) {
                let is_tidy = self.tidy();
                tidy_at = if is_tidy { None } else { Instant::now().checked_add(TIDY_AFTER) };
            }
        }
    }

    /// Tidies the store, and tells whether that was done.
    fn tidy(&mut self) -> bool {
        let tidied = self.store.tidy();
        match &tidied {
            // Nothing is lost: what is not in the tables is in the log of payments.
            Err(error) if self.is_tidy => tracing::warn!(%error, "the store cannot be tidied"),
            Ok(()) if !self.is_tidy => tracing::info!("the store is tidy again"),
            Ok(()) | Err(_) => {}
        }
        self.is_tidy = tidied.is_ok();
        self.is_tidy
    }

    /// Applies a batch in order, saves what changed, and only then answers.
    fn commit(&mut self, batch: &mut Vec<Waiting>) {
        let mut draft = Draft::with_room(batch.len());
        let mut head = Head::new(&mut draft, &self.committed, &mut self.store, &self.holds);
        let answers = batch.drain(..).map(|Waiting { order, reply }| (reply, head.apply(order)));
        let answers: Vec<_> = answers.collect();
        drop(head);
        let saved = self.save(draft);
        let mut posts = Vec::new();
        for (reply, answer) in answers {
            // A refusal too was judged by a head that is gone when the commit failed.
            reply.give(saved.clone().map_err(LedgerError::Store).and(answer), &mut posts);
        }
        posts.iter().for_each(Post::send);
    }

    /// Saves a draft, and shows it to readers and subscribers.
    fn save(&mut self, draft: Draft) -> Result<(), StoreError> {
        if !draft.is_empty() {
            self.store.commit(&draft.changes())?;
            self.commits.fetch_add(1, Ordering::Relaxed);
        }
        let Draft { channels, events, .. } = draft;
        let mut committed = self.committed.write().unwrap_or_else(PoisonError::into_inner);
        let news = self.awaited.among(channels.values().map(|it| &it.channel), committed.rules());
        committed.put(channels.into_values().map(|it| it.channel));
        drop(committed);
        self.awaited.tell(&news);
        for event in events {
            // Nobody has to be listening.
            let _heard = self.events.send(event);
        }
        Ok(())
    }
}
