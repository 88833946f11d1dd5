//! The API behind the gateway. It knows nothing of payments, and remembers what it was asked.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request as the API got it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

/// A running API.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
    }

    /// Starts one that listens already.
    pub(crate) fn start_on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(any(answer)).with_state(Arc::clone(&asked));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked, serving }
    }

    /// Returns all requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Returns how many requests there were so far.
    pub(crate) fn hits(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers as the last part of the path says.
async fn answer(State(asked): State<Arc<Mutex<Vec<Asked>>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let what = parts.uri.path().rsplit('/').next().unwrap().to_owned();
    asked.lock().unwrap().push(Asked {
        method: parts.method.to_string(),
        path,
        headers: parts.headers,
    });
    match what.as_str() {
        "fail" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "missing" => StatusCode::NOT_FOUND.into_response(),
        "metered" => ([("x-cost-msat", "400")], "a little\n").into_response(),
        "unused" => ([("x-cost-msat", "0")], "nothing\n").into_response(),
        "slowly-metered" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            ([("x-cost-msat", "400")], "a little\n").into_response()
        }
        "overcharging" => ([("x-cost-msat", "9000")], "a lot\n").into_response(),
        "unclear" => ([("x-cost-msat", "-1")], "who knows\n").into_response(),
        "slowly-fail" => {
            // Longer than the gateway takes to look what is due.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        "moved" => {
            let elsewhere = parts.uri.query().unwrap().to_owned();
            (StatusCode::TEMPORARY_REDIRECT, [("location", elsewhere)]).into_response()
        }
        "shared" => {
            let shared = [
                ("access-control-allow-origin", "*"),
                ("access-control-allow-credentials", "true"),
                ("vary", "Origin"),
            ];
            (shared, "shared\n").into_response()
        }
        "echo" => Body::from_stream(body.into_data_stream()).into_response(),
        "length" => {
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            body.len().to_string().into_response()
        }
        "slow" => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            "at last\n".into_response()
        }
        "broken" => {
            let begun = futures_util::stream::once(async { Ok(Bytes::from("begun")) });
            let broken = futures_util::stream::once(async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(std::io::Error::other("broken off"))
            });
            Body::from_stream(begun.chain(broken)).into_response()
        }
        "forged" => {
            let forged = [
                ("payment-channel-receipt", "paid=0, spent=0, credit=9, price=0"),
                ("payment-channel-anything", "1"),
                ("cache-control", "public, max-age=600"),
            ];
            (forged, "forged\n").into_response()
        }
        _ => "hello\n".into_response(),
    }
}
