//! A service that speaks HTTP/1.1 and HTTP/2, in the clear and over TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A running service.
pub(super) struct Modern {
    pub(super) address: SocketAddr,
    counts: Arc<Counts>,
    leave: broadcast::Sender<()>,
    serving: JoinHandle<()>,
}

/// What a service counts.
#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    hits: AtomicUsize,
    pieces: AtomicUsize,
}

impl Modern {
    /// Starts a service, over TLS if there are a certificate and a key.
    pub(super) async fn start(identity: Option<(String, String)>) -> Self {
        Self::start_narrow(identity, None).await
    }

    /// The same, with so many requests of a connection at once (by default as many as there are).
    pub(super) async fn start_narrow(
        identity: Option<(String, String)>,
        streams: Option<u32>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = identity.map(|(certificate, key)| acceptor(&certificate, &key));
        let counts = Arc::<Counts>::default();
        let (leave, _) = broadcast::channel(4);
        let shared = (Arc::clone(&counts), leave.clone());
        let serving = tokio::spawn(async move {
            let (counts, leave) = shared;
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, counts, left) = (tls.clone(), Arc::clone(&counts), leave.subscribe());
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, counts, streams, left).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(socket).await else { return };
                            serve(stream, counts, streams, left).await;
                        }
                    }
                });
            }
        });
        Self { address, counts, leave, serving }
    }

    /// Returns how many connections have come as far as HTTP.
    pub(super) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Returns how many requests there were.
    pub(super) fn hits(&self) -> usize {
        self.counts.hits.load(Ordering::SeqCst)
    }

    /// Returns how many pieces of answers without an end were taken.
    pub(super) fn pieces(&self) -> usize {
        self.counts.pieces.load(Ordering::SeqCst)
    }

    /// Tells all connections that they are to end: with HTTP/2 by GOAWAY.
    pub(super) fn leave(&self) {
        self.leave.send(()).unwrap();
    }
}

impl Drop for Modern {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Returns what speaks TLS with a certificate and its key.
pub(super) fn acceptor(certificate: &str, key: &str) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap();
    let chain = chain.collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve<S>(
    stream: S,
    counts: Arc<Counts>,
    streams: Option<u32>,
    mut left: broadcast::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    counts.connections.fetch_add(1, Ordering::SeqCst);
    let service = service_fn(move |request| {
        counts.hits.fetch_add(1, Ordering::SeqCst);
        answer(request, Arc::clone(&counts))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(streams);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let _ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = left.recv() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

type Told = Response<http_body_util::combinators::BoxBody<Bytes, hyper::Error>>;

/// Answers as the path says.
async fn answer(request: Request<Incoming>, counts: Arc<Counts>) -> Result<Told, Infallible> {
    let whole = |body: Bytes| Full::new(body).map_err(|never| match never {});
    let version = if request.version() == Version::HTTP_2 { "2" } else { "1.1" };
    let path = request.uri().path().to_owned();
    Ok(match path.strip_prefix("/paid").unwrap_or(&path) {
        "/echo" => Response::new(request.into_body().boxed()),
        "/trailers" => {
            let trailers = HeaderMap::from_iter([(
                http::header::HeaderName::from_static("x-sum"),
                HeaderValue::from_static("42"),
            )]);
            // Its length is not known beforehand, or there would be no room for trailers.
            let frames = [Frame::data(Bytes::from("counted\n")), Frame::trailers(trailers)];
            let frames = futures_util::stream::iter(frames.map(Ok));
            let mut response = Response::new(StreamBody::new(frames).boxed());
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
            response
        }
        "/large" => Response::new(whole(vec![7; 8 << 20].into()).boxed()),
        "/count" => {
            let sent = request.into_body().collect().await.unwrap();
            let trailers = sent.trailers().map_or(0, HeaderMap::len);
            let told = format!("{} bytes, {trailers} trailers", sent.to_bytes().len());
            Response::new(whole(told.into()).boxed())
        }
        "/endless" => {
            let pieces = std::iter::repeat_with(move || {
                counts.pieces.fetch_add(1, Ordering::SeqCst);
                Ok(Frame::data(Bytes::from_static(&[7; 16 << 10])))
            });
            Response::new(StreamBody::new(futures_util::stream::iter(pieces)).boxed())
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Response::new(whole("at last".into()).boxed())
        }
        _ => Response::new(whole(format!("over {version}").into()).boxed()),
    })
}
