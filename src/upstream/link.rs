//! A connection to a service.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, TE, TRANSFER_ENCODING};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::fields::set;
use super::{Address, Upload, Upstream, Version};

/// How much of an answer is read at once, and the length of its head, in bytes. A client that reads
/// slowly keeps no more than that waiting.
const PIECE_MAX: usize = 64 * 1024;
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
    /// It took too long.
    #[error("no connection in time")]
    Late,
}

/// A connection to a service, that takes requests.
#[derive(Debug)]
pub(super) enum Link {
    /// One request at a time.
    Http1(http1::SendRequest<Upload>),
    /// Many requests.
    Http2(http2::SendRequest<Upload>),
}

impl Link {
    /// Tells whether no more requests can be sent.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Returns another handle of a connection that takes many requests.
    pub(super) fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    /// Aims a request at an address, as it is sent over this connection. Returns nothing where the
    /// path is too long with what stands before it; then it must not be sent.
    #[must_use]
    pub(super) fn aim(
        &self,
        request: &mut Request<Upload>,
        address: &Address,
        path: &PathAndQuery,
    ) -> Option<()> {
        let is_http2 = matches!(self, Self::Http2(_));
        *request.uri_mut() = target(address, path, is_http2)?;
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
        Some(())
    }

    /// Sends a request. One that was certainly not sent comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match self {
            Self::Http1(sender) => {
                // It may have given its last answer a moment ago. If it is closed, sending says so.
                if !sender.is_ready() {
                    let _closed = sender.ready().await;
                }
                sender.try_send_request(request).await
            }
            Self::Http2(sender) => sender.try_send_request(request).await,
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
        if let Some(link) = address.take(worker) {
            return Ok(link);
        }
        let link = connect(upstream, address).await?;
        if let Some(shared) = link.share() {
            address.keep(worker, shared);
        }
        Ok(link)
    };
    timeout(upstream.setup().patience.connect, joining).await.map_err(|_| LinkError::Late)?
}

async fn connect(upstream: &Upstream, address: &Address) -> Result<Link, LinkError> {
    let location = address.location();
    let (host, port) = location.host_and_port();
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    let version = upstream.setup().version;
    if !location.is_tls {
        return speak(socket, version).await;
    }
    let tls = upstream.tls().ok_or_else(|| io::Error::other("TLS is not set up"))?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, socket).await?;
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
            tokio::spawn(async move { drop(connection.await) });
            Ok(Link::Http1(sender))
        }
        Version::Http2 => {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .adaptive_window(true)
                .keep_alive_interval(ALIVE)
                .keep_alive_timeout(ALIVE)
                .handshake(stream)
                .await?;
            tokio::spawn(async move { drop(connection.await) });
            Ok(Link::Http2(sender))
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
    link.aim(&mut request, address, path).ok_or_else(|| io::Error::other("no URI"))?;
    match link.send(request).await {
        Ok(answer) => Ok(answer.status()),
        Err(error) => Err(error.into_error().into()),
    }
}
