//! Requests that cost nothing, and what they would have cost where that is reported.

use std::sync::Arc;

use bytes::Bytes;
use farebox_channel::Msat;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::body::PaidBody;
use crate::headers::strip;
use crate::metering::{Counter, Meter, PaidUpload, Rates, failed, on_trial, tried, uploaded};
use crate::pricing::Pricing;
use crate::service::{Paywall, ask_plainly, is_failure};

/// What a free request gets.
type Given<B, E> = Result<Response<PaidBody<B>>, E>;

impl<S, N, P> Paywall<S, N, P> {
    /// Passes a request on that costs nothing, and reports what it would have cost where that is asked.
    pub(crate) async fn give<ReqBody, ResBody>(
        mut self,
        request: Request<ReqBody>,
    ) -> Given<ResBody, S::Error>
    where
        S: Service<Request<PaidUpload<ReqBody>>, Response = Response<ResBody>>,
        P: Pricing,
        ReqBody: Body,
        ResBody: Body<Data = Bytes>,
    {
        let (mut parts, body) = request.into_parts();
        let Some(price) = self.gate.pricing.trial(&parts) else {
            let request = Request::from_parts(parts, PaidUpload::plain(body));
            let mut response = self.inner.call(request).await?;
            strip(response.headers_mut());
            return Ok(response.map(|body| PaidBody::served(body, None)));
        };
        let billing = self.gate.pricing.billing(&parts);
        ask_plainly(&billing, &mut parts.headers);
        let upload = billing.upload(&parts.headers).filter(|_| !body.is_end_stream());
        if let Some(upload) = upload {
            return self.try_upload(Request::from_parts(parts, body), price, upload).await;
        }
        let forgiveness = self.gate.forgiveness(&parts.headers);
        let request = Request::from_parts(parts, PaidUpload::plain(body));
        let mut response = self.inner.call(request).await?;
        strip(response.headers_mut());
        let forgiveness = forgiveness.of_answer(&mut response);
        if is_failure(&response) && !forgiveness.fault.is_set() && self.gate.release.server_error {
            return Ok(failed(response));
        }
        let metering = billing.metering(response.status(), response.headers());
        Ok(tried((price, metering), forgiveness, response))
    }

    /// The same for a request whose body would be charged by what passes.
    async fn try_upload<ReqBody, ResBody>(
        mut self,
        request: Request<ReqBody>,
        price: Msat,
        (rates, counter): (Arc<Rates>, Counter),
    ) -> Given<ResBody, S::Error>
    where
        S: Service<Request<PaidUpload<ReqBody>>, Response = Response<ResBody>>,
        ResBody: Body<Data = Bytes>,
    {
        let account = on_trial(price, self.gate.forgiveness(request.headers()));
        let meter = Meter::new(rates, account);
        let mut request = request.map(|body| PaidUpload::metered(body, meter.clone(), counter));
        // Where the client leaves before the answer, this is all that tells.
        request.extensions_mut().insert(meter.bill());
        let mut response = self.inner.call(request).await?;
        strip(response.headers_mut());
        Ok(uploaded(meter, self.gate.release.server_error, response))
    }
}
