//! A till: the open channel with a server, as the requests that pay through it share it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farebox_channel::client::{Distrust, Purse};
use farebox_channel::{Msat, Timestamp};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};
use tokio::time::Instant;

use crate::budget::Budgets;
use crate::channel_file::ChannelFile;
use crate::error::PayError;
use crate::opening::wall;
use crate::purchase::{Asked, Line, Number, Purchase};
use crate::record::{Record, Stage};
use crate::traffic::Traffic;

/// How long to wait until another channel is opened ahead of time once more.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// Longer than any channel lasts.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// An open channel in use. Whatever changes it is saved first.
#[derive(Debug)]
pub(crate) struct Till {
    file: ChannelFile,
    budgets: Budgets,
    record: Mutex<Record>,
    /// Locked after the record, where both are.
    traffic: Mutex<Traffic>,
    is_resumed: bool,
    /// When it was opened, if that was in this run.
    opened_at: Option<Timestamp>,
    /// Held while both sides' records are brought together.
    turn: AsyncMutex<()>,
    /// How often they were.
    turns: AtomicU32,
    /// When another channel was last to be opened ahead of time in its place.
    renewal: Mutex<Option<Instant>>,
}

impl Till {
    /// Makes a till of a channel that was opened in this run, or is `resumed` from the file.
    pub(crate) fn new(
        file: &ChannelFile,
        budgets: Budgets,
        record: Record,
        is_resumed: bool,
    ) -> Self {
        let is_shared = matches!(&record.stage, Stage::Open(purse) if purse.known.is_some());
        Self {
            file: file.clone(),
            budgets,
            record: Mutex::new(record),
            traffic: Mutex::new(Traffic::new(is_resumed, is_shared)),
            is_resumed,
            opened_at: (!is_resumed).then(wall),
            turn: AsyncMutex::default(),
            turns: AtomicU32::default(),
            renewal: Mutex::default(),
        }
    }

    /// Locks the record. No holder can leave it half changed.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks what is under way. No holder can leave it half changed.
    pub(crate) fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the purse while the channel is open.
    pub(crate) fn purse(&self) -> Option<Purse> {
        match &self.record().stage {
            Stage::Open(purse) => Some(purse.clone()),
            Stage::Funded(_) | Stage::Held(_) | Stage::Closing(..) => None,
        }
    }

    /// Changes the account of an open channel and saves it.
    pub(crate) fn account(
        &self,
        change: impl FnOnce(&Purse) -> Result<Purse, PayError>,
    ) -> Result<(), PayError> {
        let mut record = self.record();
        let Stage::Open(purse) = &record.stage else { return Ok(()) };
        let next = change(purse)?;
        self.keep(&mut record, next, None).map(|_| ())
    }

    /// Notes that the gateway has charged no more than that, where nothing is under way.
    pub(crate) fn charged(&self, spent: Msat) -> Result<(), PayError> {
        let mut record = self.record();
        let lower =
            |purse: &Purse| Purse { spent: spent.min(purse.spent), known: None, ..purse.clone() };
        match &record.stage {
            Stage::Open(purse) => {
                let next = lower(purse);
                self.keep(&mut record, next, None).map(|_| ())
            }
            Stage::Closing(purse, None) => {
                record.stage = Stage::Closing(lower(purse), None);
                Ok(self.file.save(&record)?)
            }
            Stage::Funded(_) | Stage::Held(_) | Stage::Closing(..) => Ok(()),
        }
    }

    /// Counts a channel as open again whose close was asked for before, and never taken.
    pub(crate) fn reopen(&self) -> Result<(), PayError> {
        let mut record = self.record();
        let Stage::Closing(purse, None) = &record.stage else { return Ok(()) };
        let next = purse.clone();
        self.keep(&mut record, next, None).map(|_| ())
    }

    /// Notes what has come of a request or an answer, and changes the account and the history by it.
    /// Where no answer runs any more, and what each has cost is known, the rest of their pool is credit
    /// again.
    pub(crate) fn book(
        &self,
        line: Option<Line>,
        note: impl FnOnce(&mut Traffic),
        change: impl FnOnce(&Purse, &mut Traffic) -> Result<Purse, PayError>,
    ) -> Result<(), PayError> {
        let mut record = self.record();
        let mut traffic = self.traffic();
        note(&mut traffic);
        let Stage::Open(purse) = &record.stage else { return self.write(line) };
        let is_shared = traffic.sharers() > 0;
        let next = if is_shared && !traffic.is_closing {
            change(&purse.shared(), &mut traffic)?
        } else {
            change(purse, &mut traffic)?
        };
        let next = if traffic.sharers() == 0 { next.rest() } else { next };
        self.keep(&mut record, next, line).map(|_| ())
    }

    /// Writes a line into the history.
    pub(crate) fn write(&self, line: Option<Line>) -> Result<(), PayError> {
        if let Some(line) = line {
            self.file.note(&line)?;
        }
        Ok(())
    }

    /// Saves a purse, unless it is on record like that, and a line of the history.
    fn keep(
        &self,
        record: &mut Record,
        next: Purse,
        line: Option<Line>,
    ) -> Result<Option<Number>, PayError> {
        if matches!(&record.stage, Stage::Open(purse) if *purse == next) {
            let noted = line.map(|line| self.file.note(&line)).transpose();
            return Ok(noted?);
        }
        let before = std::mem::replace(&mut record.stage, Stage::Open(next));
        let saved = self.file.save_within(record, &self.budgets, wall(), line.as_ref());
        if saved.is_err() {
            record.stage = before;
        }
        saved
    }

    /// Signs for something and saves it, so that nothing is sent that is not on record. What is
    /// signed is noted as under way in the same step. What is `sold`, with its price, gets a row in the
    /// history.
    pub(crate) fn sign<T>(
        &self,
        sold: Option<(&Asked, Msat)>,
        sign: impl FnOnce(&Purse, &Record, &Traffic) -> Result<(Purse, T), PayError>,
        note: impl FnOnce(&mut Traffic),
    ) -> Result<(T, Option<Number>), PayError> {
        let mut record = self.record();
        let mut traffic = self.traffic();
        let Stage::Open(purse) = &record.stage else {
            return Err(PayError::NoChannel(record.origin.clone()));
        };
        if traffic.is_closing {
            return Err(PayError::NoChannel(record.origin.clone()));
        }
        let purse = if traffic.sharers() > 0 { purse.shared() } else { purse.clone() };
        let (next, signed) = sign(&purse, &record, &traffic)?;
        let line = sold.map(|(Asked { method, path }, price)| {
            Line::Begun(Purchase {
                time: wall(),
                origin: record.origin.clone(),
                method: method.clone(),
                path: path.clone(),
                channel: record.outpoint(),
                price,
                cost: None,
            })
        });
        let number = self.keep(&mut record, next, line)?;
        note(&mut traffic);
        Ok((signed, number))
    }

    /// Returns how often both records were brought together.
    pub(crate) fn turns(&self) -> u32 {
        self.turns.load(Ordering::Acquire)
    }

    /// Takes the turn to bring both records together, unless that was done since `seen`.
    pub(crate) async fn turn(&self, seen: u32) -> Option<AsyncMutexGuard<'_, ()>> {
        let turn = self.turn.lock().await;
        (self.turns() == seen).then_some(turn)
    }

    /// Waits while both records are brought together: what was signed meanwhile could be too little.
    pub(crate) async fn wait_for_turn(&self) {
        let _turn = self.turn.lock().await;
    }

    /// Returns when it was opened, if that was in this run.
    pub(crate) const fn opened_at(&self) -> Option<Timestamp> {
        self.opened_at
    }

    /// Tells whether another channel may be opened in its place now: not while that is tried, nor soon
    /// after.
    pub(crate) fn begin_renewal(&self, now: Instant) -> bool {
        let mut renewal = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = renewal.is_none_or(|last| now.saturating_duration_since(last) > RENEWAL_PAUSE);
        if is_due {
            *renewal = Some(now);
        }
        is_due
    }

    /// Has no other channel opened ahead of time in its place any more: somebody has said no.
    pub(crate) fn is_not_to_be_renewed(&self) {
        let mut renewal = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        *renewal = Instant::now().checked_add(NEVER);
    }

    /// Tells whether the gateway may know of more spent than this client: its record is of an
    /// earlier run, and may be a copy.
    pub(crate) fn may_be_old(&self) -> Result<bool, PayError> {
        Ok(self.is_resumed && self.trusts()?)
    }

    /// Tells whether the gateway is believed what no signature bears out. It is once, and again when it
    /// has served for as much as it was believed.
    pub(crate) fn trusts(&self) -> Result<bool, PayError> {
        let channel = self.record().outpoint();
        Ok(self.file.doubted(&channel)? == Msat::ZERO)
    }

    /// Takes what the gateway knows, and that it has `charged` so much: both records are brought together.
    /// More spent on the same payment, which no signature bears out, is taken where it `may` be; else
    /// nothing changes.
    ///
    /// A request that waits meanwhile may be charged yet, and is counted besides.
    pub(crate) fn believe(
        &self,
        may: bool,
        charged: Msat,
        change: impl FnOnce(&Purse) -> Result<Purse, Distrust>,
    ) -> Result<(), PayError> {
        let mut record = self.record();
        let mut traffic = self.traffic();
        let Stage::Open(purse) = &record.stage else { return Ok(()) };
        let least = change(purse)?;
        let claimed = |next: &Purse| match next.payment == purse.payment {
            true => next.spent.checked_sub(purse.spent).unwrap_or_default(),
            false => Msat::ZERO,
        };
        let charged = charged.max(traffic.named.min(least.payment.paid.to_msat()));
        let besides = least.besides(charged, traffic.agreed());
        let is_besides = least.known.is_none() && (may || claimed(&besides) == Msat::ZERO);
        let next = if is_besides { besides } else { least };
        let claimed = claimed(&next);
        if claimed > Msat::ZERO && !may {
            let (charged, agreed) = (next.spent, purse.spent);
            return Err(Distrust::Overcharged { charged, agreed }.into());
        }
        if claimed > Msat::ZERO {
            let believed = Record { stage: Stage::Open(next), ..record.clone() };
            self.file.believe(&believed, claimed)?;
            *record = believed;
        } else {
            self.keep(&mut record, next, None)?;
        }
        traffic.charged = is_besides.then_some(charged);
        self.turns.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}
