//! A service of gRPC and its client, both of tonic, that send each other words.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use farebox_channel::wire::Field;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use http::HeaderMap;
use http::uri::PathAndQuery;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tower_service::Service;

/// What is sent both ways.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Word {
    /// The word.
    #[prost(string, tag = "1")]
    pub(super) text: String,
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned() }
    }
}

type Codec = tonic_prost::ProstCodec<Word, Word>;
/// One answer, or many.
type Answered<A> = BoxFuture<'static, Result<Response<A>, Status>>;
pub(super) type Words = BoxStream<'static, Result<Word, Status>>;

/// A running service.
pub(super) struct Shop {
    pub(super) address: SocketAddr,
    shelf: Shelf,
    serving: JoinHandle<()>,
}

/// What a service keeps.
#[derive(Clone, Default)]
struct Shelf {
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    /// How many calls were cancelled before they had ended.
    cancelled: Arc<AtomicUsize>,
}

impl Shop {
    /// Starts a service.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shelf = Shelf::default();
        let serving = Server::builder().serve_with_incoming(
            shelf.clone(),
            TcpIncoming::from(listener).with_nodelay(Some(true)),
        );
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, shelf, serving }
    }

    /// Returns the keys that name it.
    pub(super) fn keys(&self) -> String {
        format!("url = \"http://{}\"\nhttp = \"2\"\n", self.address)
    }

    /// Returns the heads of all calls so far.
    pub(super) fn seen(&self) -> Vec<HeaderMap> {
        self.shelf.seen.lock().unwrap().clone()
    }

    /// Returns how many calls were cancelled before they had ended.
    pub(super) fn cancelled(&self) -> usize {
        self.shelf.cancelled.load(Ordering::SeqCst)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Service<http::Request<Body>> for Shelf {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.seen.lock().unwrap().push(request.headers().clone());
        let method = Method { name: request.uri().path().to_owned(), shelf: self.clone() };
        let units = request.headers().get("units").cloned();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            let answer = match method.name.rsplit('/').next().unwrap() {
                "Count" | "Break" | "Fall" | "Hang" => grpc.server_streaming(method, request).await,
                "Join" => grpc.client_streaming(method, request).await,
                "Talk" => grpc.streaming(method, request).await,
                _ => grpc.unary(method, request).await,
            };
            Ok(match units {
                Some(units) => answer.map(|body| with_units(body, units)),
                None => answer,
            })
        })
    }
}

/// Reports units in the trailers of an answer.
fn with_units(body: Body, units: http::HeaderValue) -> Body {
    Body::new(body.map_frame(move |frame| match frame.into_trailers() {
        Ok(mut trailers) => {
            trailers.insert("x-units", units.clone());
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }))
}

/// What is done about one call, as the end of its path says.
struct Method {
    name: String,
    shelf: Shelf,
}

/// Counts a call that is dropped before its end.
struct Unfinished(Shelf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
    }
}

/// Returns a failure with all that may come with it.
fn failure(code: Code) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("x-why", MetadataValue::from_static("because"));
    metadata.insert_bin("x-why-bin", MetadataValue::from_bytes(&[0, 255]));
    Status::with_details_and_metadata(code, "höchst 100%", vec![1, 2, 0].into(), metadata)
}

impl tonic::server::UnaryService<Word> for Method {
    type Response = Word;
    type Future = Answered<Word>;

    fn call(&mut self, request: Request<Word>) -> Self::Future {
        let (metadata, _, word) = request.into_parts();
        let name = self.name.rsplit('/').next().unwrap();
        let code = match name {
            "Echo" => None,
            "Sleep" => {
                let unfinished = Unfinished(self.shelf.clone());
                return Box::pin(async move {
                    let _unfinished = unfinished;
                    future::pending().await
                });
            }
            "Lose" => Some(Code::NotFound),
            "Die" => Some(Code::Unavailable),
            _ => Some(Code::Unimplemented),
        };
        if let Some(code) = code {
            return Box::pin(future::ready(Err(failure(code))));
        }
        let mut response = Response::new(word);
        for (key, value) in metadata.into_headers() {
            let key = key.filter(|key| key.as_str().starts_with("x-own"));
            if let Some(key) = key {
                response.metadata_mut().as_mut().insert(key, value);
            }
        }
        // It is the gateway's to say.
        let forged = MetadataValue::from_static("1");
        response.metadata_mut().insert("payment-channel-anything", forged);
        Box::pin(future::ready(Ok(response)))
    }
}

impl tonic::server::ServerStreamingService<Word> for Method {
    type Response = Word;
    type ResponseStream = Words;
    type Future = Answered<Words>;

    fn call(&mut self, _: Request<Word>) -> Self::Future {
        let some = stream::iter(["one", "two", "three"]).map(|word| Ok(word.into()));
        let words = match self.name.rsplit('/').next().unwrap() {
            "Break" => some.chain(stream::iter([Err(failure(Code::DataLoss))])).boxed(),
            "Fall" => stream::iter([Err(failure(Code::Internal))]).boxed(),
            "Hang" => {
                let unfinished = Unfinished(self.shelf.clone());
                let forever = stream::pending().map(move |word| {
                    let _held = &unfinished;
                    word
                });
                some.chain(forever).boxed()
            }
            _ => some.boxed(),
        };
        Box::pin(future::ready(Ok(Response::new(words))))
    }
}

impl tonic::server::ClientStreamingService<Word> for Method {
    type Response = Word;
    type Future = Answered<Word>;

    fn call(&mut self, request: Request<Streaming<Word>>) -> Self::Future {
        let mut words = request.into_inner();
        Box::pin(async move {
            let mut all = Vec::new();
            while let Some(word) = words.message().await? {
                all.push(word.text);
            }
            Ok(Response::new(all.join(" ").as_str().into()))
        })
    }
}

impl tonic::server::StreamingService<Word> for Method {
    type Response = Word;
    type ResponseStream = Words;
    type Future = Answered<Words>;

    /// Answers each word before it has the next.
    fn call(&mut self, request: Request<Streaming<Word>>) -> Self::Future {
        let back = |word: Word| Word { text: format!("{}!", word.text) };
        let words = request.into_inner().map(move |word| word.map(back)).boxed();
        Box::pin(future::ready(Ok(Response::new(words))))
    }
}

/// A client of the service.
#[derive(Clone)]
pub(super) struct Caller(tonic::client::Grpc<Channel>);

impl Caller {
    /// Connects to a gateway.
    pub(super) async fn connect(host: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{host}")).unwrap();
        Self(tonic::client::Grpc::new(endpoint.connect().await.unwrap()))
    }

    /// Makes a call of one word for one word.
    pub(super) async fn ask(
        &mut self,
        method: &'static str,
        request: Request<Word>,
    ) -> Result<Response<Word>, Status> {
        self.0.ready().await.unwrap();
        self.0.unary(request, PathAndQuery::from_static(method), Codec::default()).await
    }

    /// Makes a call of one word for many.
    pub(super) async fn list(
        &mut self,
        method: &'static str,
        request: Request<Word>,
    ) -> Result<Response<Streaming<Word>>, Status> {
        self.0.ready().await.unwrap();
        self.0.server_streaming(request, PathAndQuery::from_static(method), Codec::default()).await
    }

    /// Makes a call of many words for one.
    pub(super) async fn join(
        &mut self,
        method: &'static str,
        words: impl Stream<Item = Word> + Send + 'static,
    ) -> Result<Response<Word>, Status> {
        self.0.ready().await.unwrap();
        let (request, path) = (Request::new(words), PathAndQuery::from_static(method));
        self.0.client_streaming(request, path, Codec::default()).await
    }

    /// Makes a call of many words for many.
    pub(super) async fn talk(
        &mut self,
        method: &'static str,
        words: impl Stream<Item = Word> + Send + 'static,
    ) -> Result<Response<Streaming<Word>>, Status> {
        self.0.ready().await.unwrap();
        let (request, path) = (Request::new(words), PathAndQuery::from_static(method));
        self.0.streaming(request, path, Codec::default()).await
    }
}

/// Returns a request with a message as its metadata.
pub(super) fn with<F: Field>(message: &F) -> Request<Word> {
    let mut request = Request::new("hello".into());
    let value = message.encode().parse().unwrap();
    request.metadata_mut().insert(MetadataKey::from_static(F::NAME), value);
    request
}

/// Reads a message out of metadata.
pub(super) fn message<F: Field>(metadata: &MetadataMap) -> F {
    let value = metadata.get(F::NAME).unwrap_or_else(|| panic!("{}: {metadata:?}", F::NAME));
    F::decode(value.as_encoded_bytes()).unwrap()
}

/// Returns the name of a problem, and its status of gRPC.
pub(super) fn refusal(status: &Status) -> (Code, String) {
    let problem = status.metadata().get("payment-channel-problem");
    let problem = problem.unwrap_or_else(|| panic!("{status:?}")).to_str().unwrap();
    let problem = problem.strip_prefix("type=\"urn:farebox:problem:").unwrap();
    (status.code(), problem.split('"').next().unwrap().to_owned())
}

/// Reads words to their end.
pub(super) async fn all(mut words: Streaming<Word>) -> (Vec<String>, Option<Status>) {
    let mut all = Vec::new();
    loop {
        match words.message().await {
            Ok(Some(word)) => all.push(word.text),
            Ok(None) => return (all, None),
            Err(status) => return (all, Some(status)),
        }
    }
}
