//! Connecting to a name: to whichever of its addresses answers first.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// For how long an address is waited for before the next one is tried beside it (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to a host.
pub(super) async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    race(lookup_host((host, port)).await?.collect(), TcpStream::connect).await
}

/// Tries addresses in their order, each with a head start, and returns what the first one gives that
/// succeeds. The others are given up.
async fn race<T: Send + 'static, F: Future<Output = io::Result<T>> + Send + 'static>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    if let [only] = addresses.as_slice() {
        return connect(*only).await;
    }
    let mut left = addresses.into_iter();
    let mut trying = JoinSet::new();
    let mut failed = io::Error::other("the name has no address");
    loop {
        if let Some(next) = left.next() {
            trying.spawn(connect(next));
        }
        let head_start = if left.len() == 0 { Duration::MAX } else { HEAD_START };
        match timeout(head_start, trying.join_next()).await {
            Ok(None) => return Err(failed),
            Ok(Some(Ok(Ok(connected)))) => return Ok(connected),
            Ok(Some(Ok(Err(error)))) => failed = error,
            Ok(Some(Err(error))) => failed = io::Error::other(error),
            // The next one is tried beside it.
            Err(_late) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// Returns an address that neither takes a connection nor refuses it, for as long as the rest
    /// lives.
    async fn dead() -> (SocketAddr, impl Sized) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Nobody takes what is in the queue, and a full queue takes nothing more.
        let queue = socket.listen(0).unwrap();
        let address = queue.local_addr().unwrap();
        let mut filling = Vec::new();
        for _ in 0..4 {
            let connecting = TcpStream::connect(address);
            filling.push(timeout(Duration::from_millis(200), connecting).await);
        }
        assert!(filling.pop().unwrap().is_err(), "it is full");
        (address, (queue, filling))
    }

    #[tokio::test]
    async fn a_dead_address_of_a_name_does_not_hide_the_next_one() {
        let (dead, _filled) = dead().await;
        let refusing = "127.0.0.1:1".parse().unwrap();
        let well = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = well.local_addr().unwrap();
        let began = Instant::now();

        let connected =
            race(vec![refusing, dead, dead, address], TcpStream::connect).await.unwrap();

        assert_eq!(connected.peer_addr().unwrap(), address);
        assert!(began.elapsed() >= HEAD_START * 2, "each has its head start");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_name_whose_addresses_all_refuse_is_given_up_at_once() {
        let refusing = "127.0.0.1:1".parse().unwrap();

        let failed = race(vec![refusing; 3], TcpStream::connect).await.unwrap_err();

        assert_eq!(failed.kind(), io::ErrorKind::ConnectionRefused);
        assert!(race(Vec::new(), TcpStream::connect).await.is_err());
    }
}
