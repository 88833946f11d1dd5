//! Requests with a name: how a client asks again without paying again.
//!
//! A client that got no answer cannot know whether its request was charged. With an
//! `Idempotency-Key` it asks again: the charge is on record, so the request is passed on once
//! more without another one, until it has been answered. A name never buys two answers.

use super::Refusal;
use crate::message::Receipt;
use crate::units::{Seconds, Timestamp};

/// How long a name is kept.
pub const ATTEMPT_LIFETIME: Seconds = Seconds::new(24 * 60 * 60);

/// What a client names a request, and what the request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestName {
    /// A hash of the client's key.
    pub key: [u8; 32],
    /// A hash of what makes the request this one and no other.
    pub request: [u8; 32],
}

/// A charged request with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// A hash of what makes the request this one and no other.
    pub request: [u8; 32],
    /// The receipt of its charge.
    pub receipt: Receipt,
    /// Whether an answer was begun.
    pub is_answered: bool,
    /// When it was charged.
    pub at: Timestamp,
}

impl Attempt {
    /// Tells whether the name is kept no longer.
    #[must_use]
    pub fn is_forgotten(&self, wall: Timestamp) -> bool {
        wall >= self.at.after(ATTEMPT_LIFETIME)
    }

    /// Returns the receipt of the charge that pays for the request once more.
    ///
    /// # Errors
    /// [`Refusal`] when it was answered already, or the name is another request's.
    pub fn repeat(&self, name: &RequestName) -> Result<Receipt, Refusal> {
        if self.request != name.request {
            return Err(Refusal::NameReused);
        }
        if self.is_answered {
            return Err(Refusal::Answered(self.receipt));
        }
        Ok(self.receipt)
    }
}
