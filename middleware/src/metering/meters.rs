//! The meters of the requests that are under way, so that a gateway that stops can end them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::account::Account;
use super::meter::Meter;
use super::rates::Rates;
use super::tab::Tab;
use crate::problem::Problem;

/// How many meters are kept before those are forgotten that have ended.
const ROOM_MIN: usize = 64;

/// Knows all meters that are in use. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Meters(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    meters: Vec<Weak<Mutex<Tab>>>,
    /// How many there may be before those are forgotten that have ended.
    room: usize,
    /// Why nothing more passes, once that is so.
    stopped: Option<Problem>,
}

impl Meters {
    /// Opens the account of a request, of which nothing has passed.
    pub(crate) fn open(&self, rates: Arc<Rates>, account: Account) -> Meter {
        let meter = Meter::new(rates, account);
        let mut book = self.lock();
        if book.meters.len() >= book.room {
            book.meters.retain(|meter| meter.strong_count() > 0);
            book.room = book.meters.len().saturating_mul(2).max(ROOM_MIN);
        }
        book.meters.push(Arc::downgrade(&meter.0));
        let stopped = book.stopped.clone();
        drop(book);
        if let Some(problem) = stopped {
            meter.stop(problem);
        }
        meter
    }

    /// Lets nothing more pass, whatever is paid.
    pub(crate) fn stop(&self, problem: &Problem) {
        let mut book = self.lock();
        book.stopped = Some(problem.clone());
        let meters = std::mem::take(&mut book.meters);
        // A meter that is dropped here settles.
        drop(book);
        for meter in meters.iter().filter_map(Weak::upgrade) {
            Meter(meter).stop(problem.clone());
        }
    }

    /// Tells whether nothing passes any more.
    pub(crate) fn are_stopped(&self) -> bool {
        self.lock().stopped.is_some()
    }

    /// Nobody panics with the lock in hand, so a poisoned one is still good.
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}
