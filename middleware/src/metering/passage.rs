//! What goes on after an answer that leaves HTTP, charged by what passes.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use farebox_channel::message::Receipt;
use tokio::time::{Instant, sleep};

use super::account::behind;
use super::bill::RunningBill;
use super::meter::{End, Halt, Meter};
use super::rates::Counts;
use super::tab::Party;
use crate::problem::{Problem, ProblemKind};

/// What passes in both ways after an answer that leaves HTTP, such as a WebSocket. Whoever carries it
/// asks before it passes anything on, and settles at the end. Where it is dropped, it is settled too.
pub struct Passage(Meter);

/// So much of what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
}

impl From<Load> for Counts {
    fn from(load: Load) -> Self {
        Self { bytes: load.bytes, events: 0, messages: load.messages }
    }
}

impl Passage {
    /// Takes over from an answer that has begun. From now on time counts.
    pub(crate) fn new(meter: Meter) -> Self {
        meter.begin();
        Self(meter)
    }

    /// Returns what tells the cost.
    #[must_use]
    pub fn bill(&self) -> RunningBill {
        self.0.bill()
    }

    /// Waits until it is charged that so much more passes from one side. It is safe to drop: what was
    /// not waited for to the end is not charged.
    ///
    /// # Errors
    /// [`Problem`] when it is not paid any further.
    pub async fn pass(&self, from: Party, load: Load) -> Result<(), Problem> {
        poll_fn(|context| self.0.poll_load(from, load.into(), context)).await.map_err(problem)
    }

    /// Notes that so much has not passed from one side that was charged.
    pub fn take_back(&self, from: Party, load: Load) {
        self.0.take_back(from, load.into());
    }

    /// Tells whether there is no credit, and a payment is waited for.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.0.is_unpaid()
    }

    /// Charges the time, and waits until it, or anything else, is not paid any further. Returns why.
    pub async fn ends(&self) -> Problem {
        let mut alarm = pin!(sleep(std::time::Duration::ZERO));
        poll_fn(|context| {
            loop {
                if let Poll::Ready(halt) = self.0.poll_time(context) {
                    return Poll::Ready(problem(halt));
                }
                let lasts = self.0.lasts().filter(|_| !self.0.is_unpaid());
                let Some(lasts) = lasts else { return Poll::Pending };
                alarm.as_mut().reset(Instant::now() + lasts);
                if alarm.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Gives back what was not used, and returns the receipt of all that was charged, if that is on
    /// record.
    pub async fn settle(&self) -> Option<Receipt> {
        match self.0.end(End::Answered) {
            Some(settling) => settling.await,
            None => None,
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        behind(self.0.end(End::Answered));
    }
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passage").finish_non_exhaustive()
    }
}

fn problem(halt: Halt) -> Problem {
    match halt {
        Halt::Unpaid(problem) => problem,
        Halt::Over => Problem::new(ProblemKind::Underpaid, "it is settled already"),
    }
}
