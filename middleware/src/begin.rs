//! Work that is begun at once, whoever waits for it.

use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;

/// Begins something at once, and returns the rest of it. What has begun is in the ledger's queue,
/// whatever comes of the future.
pub(crate) fn begun<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Pin<Box<dyn Future<Output = T> + Send>> {
    let mut work = Box::pin(unconstrained(work));
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Box::pin(ready(done)),
        Poll::Pending => work,
    }
}

/// Begins something at once, and leaves the rest of it to a task. So it is not lost when the runtime
/// ends before the task is run.
pub(crate) fn begin(work: impl Future<Output = ()> + Send + 'static) {
    let mut work = Box::pin(unconstrained(work));
    if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        tokio::spawn(work);
    }
}
