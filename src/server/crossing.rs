//! A request that goes on after HTTP: its tunnel, and what belongs to it until that ends.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use farebox_middleware::PaidBody;
use http::{HeaderValue, Response};
use hyper::upgrade::{self, OnUpgrade};

use super::answer::{Answer, Ending};
use super::booth::Lane;
use crate::tunnel::{Toll, Tunnel};
use crate::upstream::Download;

/// A tunnel with its request.
pub(crate) struct Crossing {
    tunnel: Tunnel,
    toll: Arc<Toll>,
    ending: Box<Ending>,
    /// While it lives the request is under way for the service, and for the channel that has paid.
    _paid: PaidBody<Download>,
}

impl Crossing {
    /// Passes on the answer by which a service agrees to a tunnel.
    pub(crate) fn begin(
        (client, lane): (OnUpgrade, &Lane),
        mut response: Response<PaidBody<Download>>,
        ending: Box<Ending>,
        origin: Option<&HeaderValue>,
    ) -> (Response<Answer>, Self) {
        let service = upgrade::on(&mut response);
        let pause = lane.upstream.setup().patience.pause;
        let toll = Arc::new(Toll::new(response.body_mut().passage()));
        let (answer, ending, paid) = ending.switch(response, origin, Arc::clone(&toll));
        let tunnel = Tunnel { client, service, pause };
        (answer, Self { tunnel, toll, ending, _paid: paid })
    }

    /// Carries on until the tunnel ends.
    pub(crate) async fn run(self, stopped: impl Future<Output = ()> + Send) {
        let Self { tunnel, toll, mut ending, _paid } = self;
        if tunnel.run(&toll, stopped).await {
            ending.is_over();
        }
        // What it has cost is on record before it is told, and before a gateway that stops has ended.
        toll.settle().await;
    }
}

impl fmt::Debug for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crossing").field("tunnel", &self.tunnel).finish_non_exhaustive()
    }
}
