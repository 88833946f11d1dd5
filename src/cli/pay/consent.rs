//! The question before coins are locked.

use std::sync::Arc;

use farebox_client::{Approval, Proposal};

use super::super::confirm::ConfirmArguments;
use super::super::span;
use super::telling::Telling;

/// Asks at the terminal before a channel is opened. Prices are what `--max-price` is for.
pub(super) fn at_terminal(confirm: ConfirmArguments, telling: Arc<Telling>) -> Approval {
    Approval::new(move |proposal| {
        let telling = Arc::clone(&telling);
        async move { ask(confirm, &telling, proposal).await }
    })
}

async fn ask(
    confirm: ConfirmArguments,
    telling: &Telling,
    proposal: Proposal,
) -> Result<(), String> {
    let Proposal::Channel { origin, terms, capacity, first_payment, price, .. } = proposal else {
        return Ok(());
    };
    let until = span::date(terms.expiry.get().into());
    let question = format!(
        "{origin} asks {price} for this request. Lock {capacity} until {until} at the latest, \
         and pay at least {first_payment} of it?"
    );
    // What was waited for would be drawn over the question.
    telling.rest();
    // A person takes a while.
    let asked = move || confirm.ask(&question).map_err(|error| error.to_string());
    let answered = tokio::task::spawn_blocking(asked).await;
    answered.map_err(|error| error.to_string())?
}
