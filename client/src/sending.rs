//! A request whose body is charged while it is sent: it is paid for meanwhile.

use std::future::poll_fn;
use std::pin::pin;

use crate::error::{Limit, PayError};
use crate::pace::Pace;
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
