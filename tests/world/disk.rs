//! The gateway's disk: a store in memory that can lose a process at any commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bitcoin::OutPoint;
use farebox_channel::gateway::{Attempt, Channel, Open};
use farebox_ledger::{AttemptId, Changes, Cursor, Loaded, Store, StoreError};

use crate::life::{Life, lock};

/// Which side of a write a process is lost at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Nothing is written.
    Before,
    /// All is written, and nobody is told.
    After,
}

/// What will go wrong at a later commit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mishap {
    /// The process is lost.
    Crash(When),
    /// The write fails, and the process lives on.
    Full,
}

/// What is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    /// The channels.
    pub(crate) channels: BTreeMap<OutPoint, Channel>,
    attempts: BTreeMap<(OutPoint, [u8; 32]), Attempt>,
    cursor: Option<Cursor>,
    restored: Option<u32>,
}

/// One commit that was written, channel by channel.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The channel before, if it was on record.
    pub(crate) before: Option<Channel>,
    /// The channel now.
    pub(crate) after: Channel,
}

/// What a disk holds, what was done to it lately, and what will go wrong.
#[derive(Debug, Default)]
pub(crate) struct Plate {
    /// What is written.
    pub(crate) records: Records,
    /// What was written since this was last emptied.
    pub(crate) written: Vec<Written>,
    /// What has gone wrong since this was last emptied.
    pub(crate) events: Vec<String>,
    /// What will go wrong.
    pub(crate) plan: Option<Plan>,
}

/// What will go wrong, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How many commits go well before.
    pub(crate) left: u64,
    /// Whether commits that only follow the chain are counted.
    pub(crate) counts_blocks: bool,
    /// What goes wrong.
    pub(crate) mishap: Mishap,
}

/// A disk that outlives the processes that use it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Plate>>);

impl Disk {
    /// Returns what the disk holds.
    pub(crate) fn plate(&self) -> MutexGuard<'_, Plate> {
        lock(&self.0)
    }

    /// Returns a channel that is on record.
    pub(crate) fn channel(&self, outpoint: OutPoint) -> Option<Channel> {
        self.plate().records.channels.get(&outpoint).cloned()
    }

    /// Returns the disk as the store of one process.
    pub(crate) fn store(&self, life: Life) -> impl Store {
        ToyStore { disk: self.clone(), life }
    }
}

/// A disk in the hands of one process.
struct ToyStore {
    disk: Disk,
    life: Life,
}

impl Store for ToyStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let plate = self.disk.plate();
        let channels = plate.records.channels.values().cloned().collect();
        let Records { cursor, restored, .. } = plate.records;
        Ok(Loaded { channels, cursor, trail: cursor.into_iter().collect(), restored })
    }

    fn attempt(&mut self, id: &AttemptId) -> Result<Option<Attempt>, StoreError> {
        Ok(self.disk.plate().records.attempts.get(&(id.channel, id.key)).copied())
    }

    fn commit(&mut self, changes: &Changes<'_>) -> Result<(), StoreError> {
        let failed = |what: &str| StoreError::Failed(what.to_owned());
        if !self.life.is_alive() {
            return Err(failed("the process is gone"));
        }
        let mut plate = self.disk.plate();
        match plate.next_mishap(changes) {
            None => plate.write(changes),
            Some(Mishap::Full) => {
                plate.events.push("disk full".to_owned());
                return Err(failed("the disk is full"));
            }
            Some(Mishap::Crash(when)) => {
                let order = plate.order(changes);
                let side = if when == When::Before { "before" } else { "after" };
                plate.events.push(format!("crash {side} {order}"));
                if when == When::After {
                    plate.write(changes);
                }
                self.life.end();
                return Err(failed("the process is gone"));
            }
        }
        Ok(())
    }
}

impl Plate {
    /// Counts a commit, and returns what goes wrong with it.
    fn next_mishap(&mut self, changes: &Changes<'_>) -> Option<Mishap> {
        let plan = self.plan?;
        if changes.cursor.is_some() && !plan.counts_blocks {
            return None;
        }
        self.plan = plan.left.checked_sub(1).map(|left| Plan { left, ..plan });
        (plan.left == 0).then_some(plan.mishap)
    }

    fn write(&mut self, changes: &Changes<'_>) {
        for channel in in_order(changes) {
            let outpoint = channel.contract().outpoint;
            let before = self.records.channels.insert(outpoint, channel.clone());
            self.written.push(Written { before, after: channel });
        }
        for (id, attempt) in &changes.attempts {
            let key = (id.channel, id.key);
            match attempt {
                Some(attempt) => self.records.attempts.insert(key, *attempt),
                None => self.records.attempts.remove(&key),
            };
        }
        self.records.cursor = changes.cursor.or(self.records.cursor);
        if changes.restored.is_some() {
            self.records.restored = changes.restored;
            // What was begun before the restore may have been answered since.
            self.records.attempts.values_mut().for_each(|attempt| attempt.is_answered = true);
        }
    }

    /// Returns the name of the order that a commit of one order comes from.
    fn order(&self, changes: &Changes<'_>) -> &'static str {
        if let Some((_, attempt)) = changes.attempts.first() {
            return match attempt {
                Some(attempt) if attempt.is_answered => "Answer",
                Some(_) => "Pay with a name",
                None => "Release",
            };
        }
        let in_order = in_order(changes);
        let Some(after) = in_order.first() else { return "Follow" };
        match self.records.channels.get(&after.contract().outpoint) {
            None => "Create",
            Some(before) => change(before, after),
        }
    }
}

/// Returns the channels of a commit in an order that is always the same.
fn in_order(changes: &Changes<'_>) -> Vec<Channel> {
    let accounts = changes.accounts.iter().map(|open| Channel::Open(Open::clone(open)));
    let mut channels: Vec<_> = changes.channels.iter().copied().cloned().chain(accounts).collect();
    channels.sort_by_key(|channel| channel.contract().outpoint);
    channels
}

/// Returns the name of the input that makes `after` of `before`.
fn change(before: &Channel, after: &Channel) -> &'static str {
    match (before, after) {
        (Channel::Pending(_), Channel::Open(open)) if open.height.is_none() => "Seen",
        (Channel::Pending(_) | Channel::Open(_), Channel::Open(_))
            if before.height() != after.height() =>
        {
            "Confirmed"
        }
        (_, Channel::Pending(_)) if !matches!(before, Channel::Pending(_)) => "Unconfirmed",
        (_, Channel::Late(_)) => "Late",
        (Channel::Closing(before), Channel::Closing(after)) => match (before.mined, after.mined) {
            (None, Some(_)) => "Spent",
            (Some(_), None) => "Unspent",
            _ if after.is_written_off => "WriteOff",
            _ if before.height != after.height => "Height",
            _ => "Settle",
        },
        (_, Channel::Closing(after)) if after.mined.is_some() => "Spent",
        (_, Channel::Closing(_)) => "Close",
        (_, Channel::Ended(_)) => "Deepened",
        _ if after.account().spent < before.account().spent => "Release",
        _ => "Pay",
    }
}
