//! A connection to a service.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::header::{HOST, TE, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::dial::dial;
use super::fields::set;
use super::{Address, Upload, Upstream, Version};

/// How much of an answer is read at once, and the length of its head, in bytes. A client that reads
/// slowly keeps no more than that waiting.
const PIECE_MAX: usize = 64 * 1024;
/// How much of one answer a service may send before any of it is passed on, where many answers share
/// a connection. So much memory at most waits for each request under way.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The greatest number of requests at once on a connection.
const STREAMS_MAX: u16 = 1_024;
/// For how long a connection takes requests. A name that has other addresses by now is noticed so.
const AGE_MAX: Duration = Duration::from_secs(300);
/// How often a new connection is looked at until the other side has said how many requests it takes.
const SETTINGS_TICK: Duration = Duration::from_millis(1);
/// How often the other side of a connection with many requests is asked whether it is there, and how
/// long its answer may take.
const ALIVE: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// The address cannot be reached, or its certificate is not to be trusted.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not speak HTTP as it should.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// It has ended before it has begun.
    #[error("the connection has ended at once")]
    Ended,
    /// It took too long.
    #[error("no connection in time")]
    Late,
}

/// A connection to a service, that takes requests.
#[derive(Debug)]
pub(super) struct Link {
    sender: Sender,
    opened: Instant,
}

#[derive(Debug)]
enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<Upload>),
    /// Many requests.
    Http2 {
        sender: http2::SendRequest<Upload>,
        /// How many it takes.
        room: Arc<Room>,
        /// The place of this request; a handle that is only kept has none.
        _place: Option<Place>,
    },
}

impl From<Sender> for Link {
    fn from(sender: Sender) -> Self {
        Self { sender, opened: Instant::now() }
    }
}

/// How many requests a connection takes at once, and has.
#[derive(Debug, Default)]
struct Room {
    most: AtomicUsize,
    taken: AtomicUsize,
}

impl Room {
    /// Notes how many the other side takes now.
    fn set(&self, most: usize) {
        self.most.store(most.min(usize::from(STREAMS_MAX)), Ordering::Relaxed);
    }

    /// Takes a place, if one is left.
    fn enter(self: &Arc<Self>) -> Option<Place> {
        let most = self.most.load(Ordering::Relaxed);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            (taken < most).then_some(taken.saturating_add(1))
        });
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }
}

/// The place of one request on a connection that takes many, for as long as this value lives.
#[derive(Debug)]
struct Place(Arc<Room>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    /// Tells whether no more requests can be sent.
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2 { sender, .. } => sender.is_closed(),
        }
    }

    /// Tells whether it is so old that the next request goes over a new one.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opened) >= AGE_MAX
    }

    /// Tells whether it takes many requests at once.
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self.sender, Sender::Http2 { .. })
    }

    /// Returns a handle for one request of a connection that takes many, unless it has as many as
    /// it takes.
    pub(super) fn share(&self) -> Option<Self> {
        let Sender::Http2 { sender, room, .. } = &self.sender else { return None };
        let _place = Some(room.enter()?);
        let sender = Sender::Http2 { sender: sender.clone(), room: Arc::clone(room), _place };
        Some(Self { sender, opened: self.opened })
    }

    /// Aims a request at an address, as it is sent over this connection. Tells whether it may be
    /// sent: not where the path is too long with what stands before it.
    #[must_use]
    pub(super) fn aim(
        &self,
        request: &mut Request<Upload>,
        address: &Address,
        path: &PathAndQuery,
    ) -> bool {
        let is_http2 = self.is_shared();
        let Some(target) = target(address, path, is_http2) else { return false };
        *request.uri_mut() = target;
        let headers = request.headers_mut();
        if is_http2 {
            headers.remove(HOST);
            headers.remove(TRANSFER_ENCODING);
            // Some services have no other sign that trailers pass (RFC 9110 §10.1.4).
            headers.insert(TE, HeaderValue::from_static("trailers"));
            *request.version_mut() = http::Version::HTTP_2;
        } else {
            set(headers, HOST, address.host().cloned());
            *request.version_mut() = http::Version::HTTP_11;
        }
        true
    }

    /// Sends a request. One that was certainly not sent comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                // It may have given its last answer a moment ago. If it is closed, sending says so.
                if !sender.is_ready() {
                    let _closed = sender.ready().await;
                }
                sender.try_send_request(request).await
            }
            Sender::Http2 { sender, .. } => sender.try_send_request(request).await,
        }
    }
}

/// Connects to an address.
pub(super) async fn open(upstream: &Upstream, address: &Address) -> Result<Link, LinkError> {
    let opening = connect(upstream, address);
    timeout(upstream.setup().patience.connect, opening).await.map_err(|_| LinkError::Late)?
}

/// Connects a worker to an address. Requests that come together share a connection that takes many.
pub(super) async fn join(
    upstream: &Upstream,
    address: &Address,
    worker: usize,
) -> Result<Link, LinkError> {
    if upstream.setup().version == Version::Http1 {
        return open(upstream, address).await;
    }
    let joining = async {
        let _gate = address.gate(worker).await;
        if let Some(link) = address.take(worker, Instant::now()) {
            return Ok(link);
        }
        let link = connect(upstream, address).await?;
        let Some(mine) = link.share() else { return Ok(link) };
        address.keep(worker, link);
        Ok(mine)
    };
    timeout(upstream.setup().patience.connect, joining).await.map_err(|_| LinkError::Late)?
}

async fn connect(upstream: &Upstream, address: &Address) -> Result<Link, LinkError> {
    let location = address.location();
    let (host, port) = location.host_and_port();
    let socket = dial(host, port).await?;
    socket.set_nodelay(true)?;
    let version = upstream.setup().version;
    if !location.is_tls {
        return speak(socket, version).await;
    }
    let trust = upstream.trust().ok_or_else(|| io::Error::other("TLS is not set up"))?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(trust.config())).connect(name, socket).await?;
    speak(stream, version).await
}

/// Begins to speak HTTP.
async fn speak<T>(stream: T, version: Version) -> Result<Link, LinkError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(stream);
    match version {
        Version::Http1 => {
            let (sender, connection) =
                http1::Builder::new().max_buf_size(PIECE_MAX).handshake(stream).await?;
            // What goes wrong is told by the request that it goes wrong for.
            tokio::spawn(async move { drop(connection.with_upgrades().await) });
            Ok(Sender::Http1(sender).into())
        }
        Version::Http2 => {
            let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                // Room for all of them, so that clients that read nothing hold up no other answer.
                .initial_connection_window_size(STREAM_WINDOW.saturating_mul(STREAMS_MAX.into()))
                .keep_alive_interval(ALIVE)
                .keep_alive_timeout(ALIVE)
                // It takes none until it has said how many.
                .initial_max_send_streams(0)
                .handshake(stream)
                .await?;
            let room = Arc::<Room>::default();
            while connection.current_max_send_streams() == 0 {
                // Nothing tells when it has said so.
                match timeout(SETTINGS_TICK, &mut connection).await {
                    Ok(ended) => {
                        return Err(ended.map_or_else(LinkError::Http, |()| LinkError::Ended));
                    }
                    Err(_not_yet) => {}
                }
            }
            room.set(connection.current_max_send_streams());
            let told = Arc::clone(&room);
            tokio::spawn(poll_fn(move |context| {
                let ended = Pin::new(&mut connection).poll(context);
                told.set(connection.current_max_send_streams());
                ended.map(drop)
            }));
            Ok(Sender::Http2 { sender, room, _place: None }.into())
        }
    }
}

/// Returns the URI of an address, with or without what names it.
fn target(address: &Address, wanted: &PathAndQuery, is_named: bool) -> Option<Uri> {
    let location = address.location();
    let path = if location.base.is_empty() {
        wanted.clone()
    } else {
        format!("{}{wanted}", location.base).parse().ok()?
    };
    if !is_named {
        return Some(Uri::from(path));
    }
    let scheme = if location.is_tls { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(location.authority.clone());
    uri.path_and_query(path).build().ok()
}

/// Asks an address for a path, over a connection of its own.
pub(super) async fn ask(
    upstream: &Upstream,
    address: &Address,
    path: &PathAndQuery,
) -> Result<StatusCode, LinkError> {
    let mut link = open(upstream, address).await?;
    let mut request = Request::new(Upload::empty());
    if !link.aim(&mut request, address, path) {
        return Err(io::Error::other("the path is too long").into());
    }
    match link.send(request).await {
        Ok(answer) => Ok(answer.status()),
        Err(error) => Err(error.into_error().into()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use hyper::service::service_fn;

    use super::*;

    #[tokio::test]
    async fn a_connection_takes_no_requests_once_it_is_old() {
        for version in [Version::Http1, Version::Http2] {
            let (ours, theirs) = tokio::io::duplex(PIECE_MAX);
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(
                    TokioIo::new(theirs),
                    service_fn(|_| pending::<Result<Response<Upload>, Infallible>>()),
                );
            tokio::spawn(serving);
            let mut link = speak(ours, version).await.unwrap();
            let now = Instant::now();
            assert!(!link.is_old(now));

            link.opened = now.checked_sub(AGE_MAX).unwrap();

            assert!(link.is_old(now));
            assert!(link.share().is_none_or(|shared| shared.is_old(now)), "a handle is no younger");
        }
    }
}
