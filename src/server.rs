//! The listener and the stack of layers, outermost first.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use farebox_chain::{Chain, Wallet};
use farebox_middleware::PaywallLayer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower_layer::Layer;

use crate::proxy::Proxy;
use crate::routes::Routes;
use crate::watcher::Watcher;

/// How long running requests may take to end once the gateway stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `stopped`, and then lets running requests end.
pub(crate) async fn serve<B: Chain + Wallet>(
    listener: TcpListener,
    paywall: PaywallLayer<Watcher<B>, Routes>,
    proxy: Proxy,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // Payments are taken first, so that no payment field gets any further.
    let stack = paywall.layer(proxy);
    let router = Router::new().fallback_service(stack);
    let (stopping, draining) = oneshot::channel();
    let shutdown = async move {
        stopped.await;
        let _served_out = stopping.send(());
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(shutdown);
    let deadline = async {
        if draining.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = deadline => {
            tracing::warn!("some requests did not end in time and were cut off");
            Ok(())
        }
    }
}
