//! Waiting for the head of an answer: with patience, or paying for a body that is charged while it is
//! sent.

use std::future::poll_fn;
use std::pin::pin;

use reqwest::{Request, Response};
use tokio::time::timeout;

use crate::error::{Limit, PayError};
use crate::pace::Pace;
use crate::paying::PayingClient;
use crate::teller::Teller;

impl Teller {
    /// Waits until a request was answered, and pays ahead as long as it takes. Returns too what did not
    /// allow the last payment that was needed.
    pub(crate) async fn sustain<T>(
        &self,
        sending: impl Future<Output = T>,
    ) -> Result<(T, Option<Limit>), PayError> {
        let mut sending = pin!(sending);
        let mut pace = Pace::new(self.allowance.ahead);
        let mut limit = None;
        loop {
            let (mark, wished) = tokio::select! {
                answered = &mut sending => return Ok((answered, limit)),
                () = poll_fn(|context| pace.poll(context)) => pace.wishes(),
            };
            let seen = tokio::select! {
                answered = &mut sending => return Ok((answered, limit)),
                seen = self.look(mark, wished) => seen,
            };
            if let Some(look) = pace.saw(seen, wished)? {
                limit = look.limit;
            }
        }
    }
}

impl<B> PayingClient<B> {
    /// Sends a request, and waits until its answer begins.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, PayError> {
        let at_most = self.policy.answer_patience;
        match timeout(at_most, self.http.execute(request)).await {
            Ok(answered) => Ok(answered?),
            Err(_) => Err(PayError::Silent(at_most)),
        }
    }
}
