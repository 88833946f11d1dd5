//! The streams of an HTTP/2 connection: each is a task of its own, which can be ended alone.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use hyper::rt::Executor;
use tokio::task::AbortHandle;

tokio::task_local! {
    /// What ends the stream of this task.
    static OWN: Arc<OnceLock<AbortHandle>>;
}

/// Runs the streams of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let own = Arc::new(OnceLock::new());
        let task = tokio::spawn(OWN.scope(Arc::clone(&own), stream));
        let _first = own.set(task.abort_handle());
    }
}

/// Returns what ends the stream that this is called on, and nothing else of its connection. Its
/// client is told by `RST_STREAM`.
pub(crate) fn own() -> Option<AbortHandle> {
    OWN.try_with(|own| own.get().cloned()).ok().flatten()
}
