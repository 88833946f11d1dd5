//! The listener and the workers behind it.
//!
//! One task accepts connections and gives each to the worker that has the fewest. A worker is a
//! thread with a runtime of its own.

mod answer;
mod call;
mod door;
mod site;
mod stream;
mod vitals;
mod worker;

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use farebox_ledger::Post;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) use call::Call;
pub(crate) use site::{Current, Site};
use worker::{Arrival, Worker};

/// How long to wait when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Returns how many workers there are: one for each core.
pub(crate) fn workers() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Serves until `stopped`, and then lets running requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    current: Current,
    posts: Vec<Post>,
    stopped: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let (drain, draining) = watch::channel(false);
    let mut team = Vec::new();
    for (index, post) in posts.into_iter().enumerate() {
        team.push(Worker::start(index, current.clone(), post, draining.clone())?);
    }
    tokio::select! {
        () = accept(&listener, &team) => {}
        () = stopped => {}
    }
    drop(listener);
    let _nobody_is_left = drain.send(true);
    let ended = tokio::task::spawn_blocking(move || team.into_iter().for_each(Worker::join));
    let patience = current.get().limits.drain_timeout;
    if tokio::time::timeout(patience, ended).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
    Ok(())
}

/// Accepts connections, for ever.
async fn accept(listener: &TcpListener, team: &[Worker]) {
    loop {
        let accepted = listener.accept().await.and_then(|(socket, peer)| {
            socket.set_nodelay(true)?;
            Ok(Arrival { socket: socket.into_std()?, peer })
        });
        match accepted {
            Ok(arrival) => {
                let least = team.iter().min_by_key(|worker| worker.load());
                if let Some(worker) = least {
                    worker.take(arrival);
                }
            }
            Err(error) => {
                // One that has gone again is no reason to wait; without descriptors there is.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
