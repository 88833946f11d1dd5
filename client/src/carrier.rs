//! What carries requests to their servers: `reqwest`, or a chain of middlewares before it.

use reqwest::{Request, Response};

use crate::error::PayError;

/// Carries a request to its server, and its answer back.
pub(crate) trait Carrier: Send {
    /// Sends a request once.
    fn carry(
        &mut self,
        request: Request,
    ) -> impl Future<Output = Result<Response, PayError>> + Send;
}

impl Carrier for reqwest::Client {
    async fn carry(&mut self, request: Request) -> Result<Response, PayError> {
        Ok(self.execute(request).await?)
    }
}
