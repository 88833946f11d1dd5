//! The listener and the workers behind it.
//!
//! One task accepts connections and gives each to the worker that has the fewest. A worker is a
//! thread with a runtime of its own.

mod answer;
mod asked;
mod booth;
mod call;
mod crossing;
mod door;
mod site;
mod stream;
mod streams;
mod vitals;
mod worker;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::observe::metrics::Limit;
pub(crate) use call::Call;
pub(crate) use site::{Current, Site};
pub(crate) use worker::Till;
use worker::{Arrival, GRACE, Worker};

/// How long to wait when there is no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much later than they should workers may end.
const SLACK: Duration = Duration::from_secs(1);

/// Returns how many workers there are: one for each core.
pub(crate) fn workers() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Serves until `stopped`, and then lets running requests end, and ends those that do not. What they
/// were charged is settled when this returns.
pub(crate) async fn serve(
    listener: TcpListener,
    current: Current,
    tills: Vec<Till>,
    stopped: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let (drain, draining) = watch::channel(false);
    let mut team = Vec::new();
    for (seat, till) in current.seats().iter().zip(tills) {
        team.push(Worker::start(Arc::clone(seat), till, draining.clone())?);
    }
    tokio::select! {
        () = accept(&listener, &current, &team) => {}
        () = stopped => {}
    }
    drop(listener);
    let _nobody_is_left = drain.send(true);
    // All of them hear of it before one is waited for.
    let threads: Vec<_> = team.into_iter().map(Worker::dismiss).collect();
    let ended = tokio::task::spawn_blocking(move || join(threads));
    // They keep to the time themselves, unless one is stuck.
    let patience = current.get().limits.drain_timeout.saturating_add(GRACE).saturating_add(SLACK);
    if !tokio::time::timeout(patience, ended).await.is_ok_and(|ended| ended.unwrap_or(false)) {
        tracing::warn!("some requests did not end in time and were cut off");
    }
    Ok(())
}

/// Waits until threads have ended, and tells whether all their requests have ended in time.
fn join(threads: Vec<thread::JoinHandle<bool>>) -> bool {
    let mut are_in_time = true;
    for thread in threads {
        match thread.join() {
            Ok(is_in_time) => are_in_time &= is_in_time,
            Err(_) => tracing::error!("a worker has panicked"),
        }
    }
    are_in_time
}

/// Accepts connections, for ever.
async fn accept(listener: &TcpListener, current: &Current, team: &[Worker]) {
    loop {
        match listener.accept().await.and_then(|arrived| admit(current, arrived)) {
            Ok(Some(arrival)) => {
                let least = team.iter().min_by_key(|worker| worker.load());
                if let Some(worker) = least {
                    worker.take(arrival);
                }
            }
            Ok(None) => {}
            Err(error) if is_lack(&error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // One that has gone again is no reason to wait.
            Err(error) => tracing::debug!(%error, "a connection has gone again"),
        }
    }
}

/// Takes a connection's place, before anybody is busy with it. What has none is closed.
fn admit(
    current: &Current,
    (socket, peer): (TcpStream, SocketAddr),
) -> io::Result<Option<Arrival>> {
    let site = current.get();
    let peer = site.proxies.peer(peer.ip());
    let Ok(held) = site.guards.connection(&peer) else {
        // There is nobody to be answered yet.
        site.observers.limited(Limit::Connections);
        return Ok(None);
    };
    socket.set_nodelay(true)?;
    Ok(Some(Arrival { socket: socket.into_std()?, peer, held }))
}

/// Tells whether there is no room for another connection, which time may change.
fn is_lack(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| lacks.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_room_is_waited_for() {
        let is_lack = |error: Errno| is_lack(&error.into());
        assert!(is_lack(Errno::MFILE) && is_lack(Errno::NFILE));
        assert!(is_lack(Errno::NOBUFS) && is_lack(Errno::NOMEM));
        assert!(!is_lack(Errno::CONNABORTED) && !is_lack(Errno::INTR) && !is_lack(Errno::INVAL));
    }
}
