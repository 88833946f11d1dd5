//! One request that is paid for: it is signed, sent, and its receipt taken.

use std::sync::Arc;

use farebox_chain::{Chain, Wallet};
use farebox_channel::Msat;
use farebox_channel::message::{PayRequest, Receipt};
use farebox_channel::wire::Field;
use reqwest::header::{HeaderValue, TE};
use reqwest::{Request, Response, StatusCode};

use crate::again::{self, Sent, Tries};
use crate::carrier::Carrier;
use crate::error::PayError;
use crate::event::Event;
use crate::gateway::{
    Origin, field, is_of_gateway, is_problem, offer, peek, refused, refused_payment,
};
use crate::paying::{PayingClient, is_one_of};
use crate::policy::Allowance;
use crate::prices::Quote;
use crate::purchase::Asked;
use crate::running::follow;
use crate::teller::Teller;
use crate::ticket::Ticket;
use crate::till::Till;

/// The problem that tells of a named request which was charged and answered before.
const ANSWERED: [&str; 1] = ["request-answered"];
/// The problem that tells of a named request which was not charged before: names are looked up first.
const UNDERPAID: [&str; 1] = ["underpaid"];

impl<B: Chain + Wallet> PayingClient<B> {
    /// Sends a request with a payment. Returns too when it was signed, in turns of the till.
    pub(crate) async fn send_paid(
        &self,
        carrier: &mut impl Carrier,
        (origin, till): (&Origin, &Arc<Till>),
        request: Request,
        quote: Quote,
    ) -> (u32, Result<Response, PayError>) {
        // What answers have cost that ran before is asked for once it can be known.
        let reckoned = self.teller(origin, till).reckon().await;
        // Whatever else fails, the request finds out.
        if let Err(error @ (PayError::Distrust(_) | PayError::File(_))) = reckoned {
            return (till.turns(), Err(error));
        }
        till.wait_for_turn().await;
        let asked = Asked::of(&request);
        let bought = if quote.is_running {
            Ticket::running(till, quote.price, self.policy.allowance(), &asked)
        } else {
            Ticket::at_price(till, quote.price, self.policy.credit, &asked)
        };
        match bought {
            Ok((ticket, payment)) => {
                let signed_at = ticket.signed_at();
                let selling = (origin, quote, ticket);
                let answered = self.send_signed(carrier, selling, request, &payment).await;
                (signed_at, answered)
            }
            Err(error) => (till.turns(), Err(error)),
        }
    }

    async fn send_signed(
        &self,
        carrier: &mut impl Carrier,
        (origin, quote, mut ticket): (&Origin, Quote, Ticket),
        mut request: Request,
        payment: &PayRequest,
    ) -> Result<Response, PayError> {
        let value = payment.encode().parse().map_err(|_| PayError::NoField(PayRequest::NAME))?;
        request.headers_mut().insert(PayRequest::NAME, value);
        // The receipt of the end stands among the trailers (RFC 9110 §6.5.1).
        request.headers_mut().entry(TE).or_insert(HeaderValue::from_static("trailers"));
        let mut teller = self.teller(origin, ticket.till());
        if !ticket.is_to_run() {
            // An answer that runs although nobody has agreed to that costs no more than was agreed to.
            teller.allowance = Allowance { ahead: Msat::ZERO, answer_max: ticket.price() };
        }
        let uploads = quote.charges_body && request.body().is_some();
        // Whoever sends it may take any time.
        let is_stream = request.body().is_some_and(|body| body.as_bytes().is_none());
        let Tries { retries, patience } = self.policy.tries();
        let tries = Tries {
            // What has run already has cost something, and would cost it once more.
            retries: if ticket.is_to_run() { 0 } else { retries },
            patience: patience.filter(|_| !uploads && !is_stream),
        };
        let sending = again::send(carrier, request, tries);
        let (Sent { answered, is_repeat }, limit) = match uploads {
            true => teller.sustain(sending).await?,
            false => (sending.await, None),
        };
        let response = match answered {
            Ok(response) => response,
            Err(error @ (PayError::Refused { .. } | PayError::NotNow(_))) => {
                return Err(refuse(&mut ticket, error, is_repeat)?);
            }
            Err(error) => return Err(error),
        };
        match field::<Receipt>(response.headers()) {
            Ok(receipt) => {
                let response = match answered_before(response).await {
                    Ok(response) => response,
                    // It was charged when somebody else sent it.
                    Err(answered) if !is_repeat => {
                        return Err(refuse(&mut ticket, answered, false)?);
                    }
                    Err(answered) => {
                        self.take_receipt(origin, &mut ticket, receipt).await?;
                        return Err(PayError::Unanswered(Box::new(answered)));
                    }
                };
                self.take_receipt(origin, &mut ticket, receipt).await?;
                if ticket.runs() {
                    return Ok(follow(response, ticket, teller));
                }
                // It was ended before its time, and what was sent of it is charged.
                let is_ended = response.status() == StatusCode::PAYMENT_REQUIRED;
                limit.filter(|_| is_ended).map_or(Ok(response), |limit| Err(PayError::Limit(limit)))
            }
            Err(_) => without_receipt(response, &mut ticket, is_repeat).await,
        }
    }

    /// Takes a receipt, and tells of it once it is believed.
    async fn take_receipt(
        &self,
        origin: &Origin,
        ticket: &mut Ticket,
        receipt: Receipt,
    ) -> Result<(), PayError> {
        self.receive(origin, ticket, &receipt).await?;
        self.observer.tell(&Event::Paid(receipt));
        Ok(())
    }

    /// Returns who asks and pays for a till.
    pub(crate) fn teller(&self, origin: &Origin, till: &Arc<Till>) -> Teller {
        Teller {
            http: self.http.clone(),
            origin: origin.clone(),
            till: Arc::clone(till),
            allowance: self.policy.allowance(),
            observer: self.observer.clone(),
        }
    }
}

/// Takes an answer that does not say what it has cost.
async fn without_receipt(
    response: Response,
    ticket: &mut Ticket,
    is_repeat: bool,
) -> Result<Response, PayError> {
    if response.status() == StatusCode::PAYMENT_REQUIRED {
        // With another price it is a new offer.
        let price = ticket.price();
        if matches!(offer(&response), Ok(Some(it)) if it.price != price) {
            ticket.refused()?;
            return Ok(response);
        }
        let refused = refused(response).await;
        if is_repeat && !is_one_of(&refused, &UNDERPAID) {
            return Err(refuse(ticket, refused, true)?);
        }
        ticket.refused()?;
        return Err(refused);
    }
    if is_problem(&response) {
        return Err(refuse(ticket, refused_payment(response).await, is_repeat)?);
    }
    ticket.answered();
    Ok(response)
}

/// Takes a refusal, and returns it. One of the gateway changes nothing, unless the request was sent
/// before. Whoever else says no may have been paid. Then the price stays on the account.
fn refuse(ticket: &mut Ticket, refused: PayError, is_repeat: bool) -> Result<PayError, PayError> {
    if is_repeat {
        ticket.answered();
        return Ok(PayError::Unanswered(Box::new(refused)));
    }
    if is_of_gateway(&refused) {
        ticket.refused()?;
    } else {
        ticket.answered();
    }
    Ok(refused)
}

/// Returns the refusal of an answer with a receipt that says of a named request that it was answered
/// before, or the answer.
async fn answered_before(response: Response) -> Result<Response, PayError> {
    if response.status() != StatusCode::CONFLICT || !is_problem(&response) {
        return Ok(response);
    }
    match peek(response).await {
        (Some(refused), _) if is_one_of(&refused, &ANSWERED) => Err(refused),
        (_, response) => Ok(response),
    }
}
