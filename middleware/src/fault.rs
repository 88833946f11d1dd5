//! Whose doing it is that a request has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says that a request failed through its client, so that its charge stays.
///
/// A service that passes requests on puts a clone into its answer's extensions, and sets it when
/// the request's own body breaks off. Otherwise a client could break its upload at the end of a
/// long answer, and have the charge back.
#[derive(Clone, Debug, Default)]
pub struct ClientFault(Arc<AtomicBool>);

impl ClientFault {
    /// Notes that the client has broken its request off.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Tells whether the client has broken its request off.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
