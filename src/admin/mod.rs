//! The operator's desk: channels listed, closed and exported, over a socket that only the
//! operator can open.
//!
//! It speaks HTTP/1.1 with JSON on a Unix socket. It has no rules of its own: a close is an input
//! like any other, and its settlement is the watcher's work.

mod closing;
mod export;
mod filter;
mod problem;
mod socket;
mod view;

use std::future::Future;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use bitcoin::OutPoint;
use farebox_chain::{Chain, Wallet};
use farebox_channel::Keyring;
use farebox_channel::gateway::Channel;
use farebox_ledger::Ledger;
use farebox_middleware::Node;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Uri};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::observe::monitor::{LIVE_PATH, METRICS_PATH, Monitor, READY_PATH};
use crate::watcher::Watcher;
pub(crate) use closing::Closed;
pub(crate) use export::{ExportRequest, Exported, Outcome};
use filter::Filter;
use problem::AdminError;
pub(crate) use problem::ProblemDocument;
pub(crate) use socket::AdminSocket;
pub use socket::SocketError;
pub(crate) use view::{ChannelView, Listing, MARKS};

/// The longest body of a request, in bytes.
const BODY_MAX: usize = 16 * 1024;

/// What the operator's requests are answered from.
#[derive(Clone, Debug)]
pub(crate) struct Desk<B> {
    pub(crate) ledger: Ledger,
    pub(crate) watcher: Watcher<B>,
    pub(crate) keyring: Keyring,
    pub(crate) monitor: Monitor,
}

impl<B: Chain + Wallet> Desk<B> {
    /// Answers on a socket until the task is dropped, which removes the socket's file.
    pub(crate) fn serve(self, socket: AdminSocket) -> JoinHandle<()> {
        tokio::spawn(async move {
            let (listener, _file) = socket.into_parts();
            // It ends only with the task.
            let _ended = axum::serve(listener, self.router()).await;
        })
    }

    fn router(self) -> Router {
        Router::new()
            .route("/channels", get(list::<B>))
            .route("/channels/{channel}", get(show::<B>))
            .route("/channels/{channel}/close", post(close::<B>))
            .route("/settle", post(settle::<B>))
            .route("/export-settlements", post(export::<B>))
            .route(LIVE_PATH, get(monitor::<B>))
            .route(READY_PATH, get(monitor::<B>))
            .route(METRICS_PATH, get(monitor::<B>))
            .fallback(async |uri: Uri| AdminError::NoPath(uri.path().to_owned()))
            .method_not_allowed_fallback(async |method: Method| AdminError::NoMethod(method))
            .with_state(self)
    }

    /// Returns how channels look now.
    fn list(&self, channels: Vec<Channel>) -> Listing {
        let (alarms, now) = (self.watcher.alarms(), self.watcher.clock().now());
        Listing::of(channels, &alarms, now, &self.ledger.rules())
    }

    /// Returns how a channel looks now.
    fn show(&self, outpoint: OutPoint) -> Result<ChannelView, AdminError> {
        let channel = self.ledger.channel(outpoint).ok_or(AdminError::Unknown(outpoint))?;
        Ok(ChannelView::of(&channel, self.watcher.clock().now(), &self.ledger.rules()))
    }
}

async fn list<B: Chain + Wallet>(
    State(desk): State<Desk<B>>,
    RawQuery(query): RawQuery,
) -> Result<Response, AdminError> {
    let filter = Filter::parse(query.as_deref().unwrap_or_default())?;
    let now = desk.watcher.clock().now();
    Ok(json(&desk.list(desk.ledger.select(|channel| filter.takes(channel, now)))))
}

async fn show<B: Chain + Wallet>(
    State(desk): State<Desk<B>>,
    Path(channel): Path<String>,
) -> Result<Response, AdminError> {
    Ok(json(&desk.show(outpoint(&channel)?)?))
}

async fn close<B: Chain + Wallet>(
    State(desk): State<Desk<B>>,
    Path(channel): Path<String>,
) -> Result<Response, AdminError> {
    let outpoint = outpoint(&channel)?;
    Ok(json(&done(desk.close(outpoint)).await?))
}

async fn settle<B: Chain + Wallet>(State(desk): State<Desk<B>>) -> Result<Response, AdminError> {
    Ok(json(&done(desk.settle_all()).await?))
}

async fn export<B: Chain + Wallet>(
    State(desk): State<Desk<B>>,
    request: Request,
) -> Result<Response, AdminError> {
    let malformed = |words: String| AdminError::Malformed(words);
    let body = to_bytes(request.into_body(), BODY_MAX).await;
    let body = body.map_err(|error| malformed(format!("the body cannot be read: {error}")))?;
    let request: ExportRequest = serde_json::from_slice(&body).map_err(|error| {
        malformed(format!("the body is not like {{\"rates_sat_per_vb\": [2, 10, 50]}}: {error}"))
    })?;
    Ok(json(&done(desk.export(request)).await?))
}

async fn monitor<B: Chain + Wallet>(
    State(desk): State<Desk<B>>,
    method: Method,
    uri: Uri,
) -> Response {
    desk.monitor.answer(&method, uri.path()).map(Body::from)
}

/// Reads the name of a channel.
fn outpoint(channel: &str) -> Result<OutPoint, AdminError> {
    channel.parse().map_err(|_| {
        AdminError::Malformed(format!("`{channel}` names no channel: txid:vout of its contract"))
    })
}

/// Does something to its end, also where nobody waits for the answer any more.
async fn done<T: Send + 'static>(
    work: impl Future<Output = Result<T, AdminError>> + Send + 'static,
) -> Result<T, AdminError> {
    tokio::spawn(work).await.map_err(|_| AdminError::Stopping)?
}

/// Returns an answer that people can read too.
fn json(value: &impl Serialize) -> Response {
    let body = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut response = Response::new(Body::from(body + "\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
