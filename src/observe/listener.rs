//! The monitor's own address: few connections, short ones, and nothing but reading.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::monitor::Monitor;

/// The greatest number of connections at a time.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may take to send a head, also between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest life of a connection.
const LIFE_MAX: Duration = Duration::from_secs(10 * 60);
/// How long to wait when no connection can be accepted.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Answers on an address until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, monitor: Monitor) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Nobody is accepted for whom there is no place.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(error = %error, "the monitor could not accept a connection");
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        let monitor = monitor.clone();
        tokio::spawn(async move {
            let _ended = tokio::time::timeout(LIFE_MAX, converse(stream, &monitor)).await;
            drop(place);
        });
    }
}

/// Answers one connection.
async fn converse(stream: TcpStream, monitor: &Monitor) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let response: Response<Bytes> = monitor.answer(request.method(), request.uri().path());
        Ok::<_, Infallible>(response.map(Full::new))
    });
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    // Whoever has left is not missed.
    let _served = connection.serve_connection(TokioIo::new(stream), service).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::monitor::tests::monitor;
    use super::*;

    async fn asked(path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, monitor(true)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serving.abort();
        answer
    }

    #[tokio::test]
    async fn metrics_are_read_over_an_address_of_their_own() {
        let answer = asked("/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("farebox_channels{state=\"open\"} 0"), "{answer}");
    }

    #[tokio::test]
    async fn a_query_does_not_hide_the_path() {
        assert!(asked("/readyz?verbose").await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(asked("/channels").await.starts_with("HTTP/1.1 404 "));
    }
}
