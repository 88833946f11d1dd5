//! Uploads that do not break off before the answer has come.

use std::task::{Context, Poll};

use super::account::behind;
use super::meter::{End, Meter};
use super::tab::Party;

impl Meter {
    /// Waits until an upload of which nothing more passes may break off: once the request is over, and
    /// with it the answer.
    pub(crate) fn poll_over(&self, context: &Context<'_>) -> Poll<()> {
        let mut tab = self.lock();
        if tab.is_over && !tab.is_kept {
            return Poll::Ready(());
        }
        tab.watch_from(Party::Client, context.waker());
        Poll::Pending
    }

    /// Keeps the upload from breaking off until the value is dropped. The request is over then at the
    /// latest, and nothing is charged, unless that may be the client's doing.
    pub(crate) fn keep(&self) -> Kept {
        self.lock().is_kept = true;
        Kept(self.clone())
    }
}

/// An upload that does not break off while its answer comes: over some connections that would break the
/// answer off too.
pub(crate) struct Kept(Meter);

impl Drop for Kept {
    fn drop(&mut self) {
        behind(self.0.end(End::Void));
        let mut tab = self.0.lock();
        tab.is_kept = false;
        tab.wake();
    }
}
