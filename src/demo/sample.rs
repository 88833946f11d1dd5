//! A small API to put a price on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::routing::get;
use http::header::{CONTENT_TYPE, HeaderName};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Starts the API on a port that is free.
pub(super) async fn start() -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/forecast", get(forecast)).route("/", get(welcome));
    let serving = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(error = %error, "the sample API has stopped");
        }
    });
    Ok((address, serving))
}

async fn forecast() -> ([(HeaderName, &'static str); 1], &'static str) {
    let body = "{\"place\":\"Lugano\",\"sky\":\"clear\",\"high_celsius\":11,\"low_celsius\":3}\n";
    ([(CONTENT_TYPE, "application/json")], body)
}

async fn welcome() -> &'static str {
    "A weather service. /forecast costs a little, this page is free.\n"
}
