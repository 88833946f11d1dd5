//! Requests whose body is charged by what passes: how their charge ends, with an answer or without.

use bytes::Bytes;
use farebox_channel::Msat;
use farebox_channel::message::Receipt;
use http::Response;
use http_body::Body;

use crate::body::PaidBody;
use crate::charged::PaidBy;
use crate::fault::ClientFault;
use crate::grpc::could_do_nothing;
use crate::headers::insert;
use crate::layer::Gate;
use crate::metering::{Counter, End, Meter, Metered, behind};
use crate::problem::Problem;
use crate::service::{dress, is_failure, tell_cost};

/// A request that is under way. Where it is dropped its client has left, and what has passed is
/// charged.
pub(crate) struct Uploaded {
    pub(crate) meter: Meter,
    pub(crate) paid: PaidBy,
}

impl Uploaded {
    /// Ends the request, and returns the receipt of all that was charged.
    pub(crate) async fn end(&self, end: End) -> Option<Receipt> {
        match self.meter.end(end) {
            Some(settling) => settling.await,
            None => None,
        }
    }

    /// Answers a request that is not paid any further, with a receipt that says what it has cost.
    pub(crate) async fn refuse(self, problem: Problem) -> Response<Bytes> {
        let receipt = self.end(End::Unanswered).await.unwrap_or_else(|| self.meter.receipt());
        let mut response = problem.with_receipt(receipt).response();
        response.extensions_mut().insert(self.paid.charged(receipt));
        response
    }

    /// Passes on an answer. It goes on to be charged, and the body of the request with it.
    pub(crate) async fn bill<N, P, B: Body<Data = Bytes>>(
        self,
        gate: &Gate<N, P>,
        mut response: Response<B>,
    ) -> Response<PaidBody<B>> {
        dress(gate, &mut response);
        if let Some(fault) = response.extensions_mut().remove::<ClientFault>() {
            self.meter.blame(fault);
        }
        // A client that has broken off hears nothing of a failure, and may ask again.
        let is_unheard = self.meter.has_client_broken_off() && is_failure(&response);
        if is_unheard || could_do_nothing(&response) && gate.release.server_error {
            // What is settled breaks nothing off that is still on its way.
            let kept = self.meter.keep();
            let settled = self.end(End::Void).await;
            let receipt = settled.unwrap_or_else(|| self.meter.receipt());
            insert(response.headers_mut(), &receipt);
            let paid = self.paid.charged(receipt);
            let released = settled.filter(|receipt| receipt.price == Msat::ZERO);
            let paid = released.map_or(paid, |receipt| paid.released(receipt));
            response.extensions_mut().insert(paid);
            return response.map(|body| PaidBody::kept(body, kept));
        }
        match self.meter.answers().await {
            Ok(receipt) => {
                insert(response.headers_mut(), &Receipt { is_running: true, ..receipt });
                response.extensions_mut().insert(self.paid.charged(receipt));
            }
            // What has passed stays charged. The name may be asked again.
            Err(problem) => return self.refuse(problem).await.map(PaidBody::told),
        }
        tell_cost(self.meter.bill(), &mut response);
        let (meter, counter) = (self.meter.clone(), Counter::new(response.headers()));
        // From here on the body ends the request.
        response.map(|body| PaidBody::metered(Metered::new(body, meter, counter)))
    }
}

impl Drop for Uploaded {
    fn drop(&mut self) {
        if !self.meter.is_answered() {
            behind(self.meter.end(End::Unanswered));
        }
    }
}
