//! A till: the open channel with a server, as the requests that pay through it share it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use farebox_channel::client::Purse;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

use crate::record::{Record, Stage};

/// An open channel in use.
#[derive(Debug)]
pub(crate) struct Till {
    record: Mutex<Record>,
    is_resumed: bool,
    /// Whether what the gateway says of the amount spent was believed once.
    has_given_in: AtomicBool,
    /// Held while both sides' records are brought together.
    turn: AsyncMutex<()>,
    /// How often they were.
    turns: AtomicU32,
}

impl Till {
    /// Makes a till of a channel that was opened in this run, or is `resumed` from the file.
    pub(crate) fn new(record: Record, is_resumed: bool) -> Self {
        Self {
            record: Mutex::new(record),
            is_resumed,
            has_given_in: AtomicBool::default(),
            turn: AsyncMutex::default(),
            turns: AtomicU32::default(),
        }
    }

    /// Locks the record. No holder can leave it half changed.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the purse while the channel is open.
    pub(crate) fn purse(&self) -> Option<Purse> {
        match &self.record().stage {
            Stage::Open(purse) => Some(purse.clone()),
            Stage::Funded(_) | Stage::Held(_) | Stage::Closing(..) => None,
        }
    }

    /// Returns how often both records were brought together.
    ///
    /// A request that was signed before the last time counts as spent already.
    pub(crate) fn turns(&self) -> u32 {
        self.turns.load(Ordering::Acquire)
    }

    /// Takes the turn to bring both records together, unless that was done since `seen`.
    pub(crate) async fn turn(&self, seen: u32) -> Option<AsyncMutexGuard<'_, ()>> {
        let turn = self.turn.lock().await;
        (self.turns() == seen).then_some(turn)
    }

    /// Notes that both records were brought together.
    pub(crate) fn finish_turn(&self) {
        self.turns.fetch_add(1, Ordering::AcqRel);
    }

    /// Tells whether the gateway may know of more spent than this client: its record is of an
    /// earlier run, and may be a copy.
    pub(crate) fn may_be_old(&self) -> bool {
        self.is_resumed && !self.has_given_in.load(Ordering::Acquire)
    }

    /// Believes the gateway once in a run what no signature bears out.
    pub(crate) fn give_in(&self) -> bool {
        !self.has_given_in.swap(true, Ordering::AcqRel)
    }
}
