//! When to ask for the account of a running answer, and how much to pay ahead for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use farebox_channel::Msat;
use tokio::time::{Instant, Sleep, sleep};

use crate::error::PayError;
use crate::teller::Look;

/// How long to wait at first, and once nothing has come for a moment.
const SOON: Duration = Duration::from_millis(50);
/// How long to wait at most. The wait doubles as long as nothing is spent.
const LATE: Duration = Duration::from_secs(1);
/// How long to wait at least, whatever a stream tells.
const AT_ONCE: Duration = Duration::from_millis(10);
/// What is paid ahead is meant to last so long. Where it does not, twice as much is paid.
const LASTS: Duration = Duration::from_secs(1);
/// More is paid when less than this part of what is paid ahead is left.
const MARK_PART: u64 = 2;
/// What grows by then.
const GROWS: u64 = 2;

/// The pace of a running answer.
#[derive(Debug)]
pub(crate) struct Pace {
    alarm: Pin<Box<Sleep>>,
    wait: Duration,
    looked_at: Instant,
    spent: Msat,
    /// Whether anything has come since it was last known what was spent.
    has_flowed: bool,
    ahead: Msat,
    paid_at: Instant,
}

impl Pace {
    /// Begins with what is paid ahead by now.
    pub(crate) fn new(ahead: Msat) -> Self {
        let now = Instant::now();
        Self {
            alarm: Box::pin(sleep(SOON)),
            wait: SOON,
            looked_at: now,
            spent: Msat::ZERO,
            has_flowed: false,
            ahead,
            paid_at: now,
        }
    }

    /// Waits until the account is to be asked for.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.alarm.as_mut().poll(context)
    }

    /// Notes that something has come.
    pub(crate) const fn flowed(&mut self) {
        self.has_flowed = true;
    }

    /// Notes that nothing comes at the moment. Tells whether the wait is another one now.
    pub(crate) fn stalled(&mut self) -> bool {
        std::mem::take(&mut self.has_flowed) && self.hurry(Instant::now() + SOON)
    }

    /// Asks for the account at once.
    pub(crate) fn hasten(&mut self) {
        let _is_sooner = self.hurry(self.looked_at + AT_ONCE);
    }

    fn hurry(&mut self, until: Instant) -> bool {
        let is_sooner = until < self.alarm.deadline();
        if is_sooner {
            self.alarm.as_mut().reset(until);
        }
        is_sooner
    }

    /// Returns what there is to be at least, and how much to pay where it is less.
    pub(crate) fn wishes(&self) -> (Msat, Msat) {
        let mark = self.ahead.get().checked_div(MARK_PART).and_then(|mark| Msat::new(mark).ok());
        let wished = if self.paid_at.elapsed() < LASTS {
            let more = self.ahead.get().saturating_mul(GROWS);
            Msat::new(more).unwrap_or(Msat::MAX)
        } else {
            self.ahead
        };
        (mark.unwrap_or_default().max(Msat::ONE), wished)
    }

    /// Takes what a look has shown, for which so much was wished. One that has failed is repeated.
    pub(crate) fn saw(
        &mut self,
        seen: Result<Look, PayError>,
        wished: Msat,
    ) -> Result<Option<Look>, PayError> {
        let look = match seen {
            Ok(look) => Some(look),
            Err(
                error @ (PayError::Distrust(_)
                | PayError::Limit(_)
                | PayError::File(_)
                | PayError::Payment(_)),
            ) => return Err(error),
            Err(_) => None,
        };
        self.looked(look, wished);
        Ok(look)
    }

    /// Notes what the account was, for which so much was wished, and waits for the next time.
    fn looked(&mut self, look: Option<Look>, wished: Msat) {
        self.looked_at = Instant::now();
        let has_moved = look.is_some_and(|look| look.spent != self.spent);
        if let Some(look) = look {
            self.spent = look.spent;
            if look.has_paid {
                self.ahead = wished;
                self.paid_at = self.looked_at;
            }
        }
        self.wait = if has_moved { SOON } else { self.wait.saturating_mul(2).min(LATE) };
        self.alarm.as_mut().reset(self.looked_at + self.wait);
    }
}
