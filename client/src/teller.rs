//! Asking for the account while answers run, and paying ahead for them.
//!
//! The newest payment on the well-known path costs nothing, and its receipt has the account.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use farebox_channel::Msat;
use farebox_channel::client::{Ahead, NoMore};
use farebox_channel::message::Receipt;
use tokio::time::timeout;

use crate::budget::as_far_as_budgets_go;
use crate::error::{Limit, PayError};
use crate::event::{Event, Observer};
use crate::gateway::{Origin, step};
use crate::policy::Allowance;
use crate::purchase::Line;
use crate::till::Till;

/// How long the gateway may take to tell the account.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who asks and pays for a till.
#[derive(Debug)]
pub(crate) struct Teller {
    pub(crate) http: reqwest::Client,
    pub(crate) origin: Origin,
    pub(crate) till: Arc<Till>,
    pub(crate) allowance: Allowance,
    pub(crate) observer: Observer,
}

/// What a look at the account has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// What is spent.
    pub(crate) spent: Msat,
    /// Whether more was paid ahead.
    pub(crate) has_paid: bool,
    /// Whether no credit is left.
    pub(crate) is_dry: bool,
    /// What does not allow more, where it is needed.
    pub(crate) limit: Option<Limit>,
}

impl Teller {
    /// Asks for the account, and where less than `mark` is left pays so much more as is `wished`, as
    /// far as the limits allow it. Nothing is lost when this is not waited for.
    pub(crate) async fn look(&self, mark: Msat, wished: Msat) -> Result<Look, PayError> {
        let seen = self.till.traffic().topped_up;
        let receipt = self.ask().await?;
        let answers = self.till.traffic().sharers();
        let pool_max = self.allowance.pool_max(answers);
        let drawn = self.till.purse().map(|purse| purse.drawn(&receipt)).unwrap_or_default();
        if drawn > pool_max {
            return Err(PayError::Limit(Limit::Answer(self.allowance.answer_max)));
        }
        let is_dry = receipt.credit == Msat::ZERO;
        let mut look = Look { spent: receipt.spent, has_paid: false, is_dry, limit: None };
        if receipt.credit >= mark {
            return Ok(look);
        }
        match self.pay(seen, Ahead { wished, pool_max }, drawn) {
            Ok(has_paid) => look.has_paid = has_paid,
            Err(PayError::Limit(limit)) => look.limit = Some(limit),
            Err(error) => return Err(error),
        }
        if look.has_paid {
            look.spent = self.ask().await?.spent;
        }
        Ok(look)
    }

    /// Sends the newest payment, and returns the account.
    async fn ask(&self) -> Result<Receipt, PayError> {
        let channel = || PayError::NoChannel(self.origin.as_str().to_owned());
        let newest = self.till.purse().ok_or_else(channel)?;
        let payment = newest.top_up();
        let asked = timeout(PATIENCE, step(&self.http, &self.origin, &payment)).await;
        let is_late = |_| PayError::NotNow("the account was not told in time".to_owned());
        let receipt: Receipt = asked.map_err(is_late)??;
        self.till.account(|purse| {
            purse.check(&receipt)?;
            Ok(purse.clone())
        })?;
        Ok(receipt)
    }

    /// Signs more and saves it, unless that was done since the account was `seen`.
    fn pay(&self, seen: u64, ahead: Ahead, cost: Msat) -> Result<bool, PayError> {
        let no_more = |no_more| match no_more {
            NoMore::Budget(_) => PayError::Limit(Limit::Answer(self.allowance.answer_max)),
            NoMore::Capacity(capacity) => PayError::Limit(Limit::Channel(capacity)),
            NoMore::Payment(error) => error.into(),
        };
        let sign = |wished| {
            let ahead = Ahead { wished, ..ahead };
            let has_paid = Cell::new(false);
            self.till.sign(
                None,
                |purse, record, traffic| {
                    if traffic.topped_up != seen {
                        return Ok((purse.clone(), None));
                    }
                    has_paid.set(true);
                    let next = purse.pay_ahead(ahead, &record.key).map_err(no_more)?;
                    let amount = next.payment.paid.checked_sub(purse.payment.paid);
                    Ok((next, Some((record.outpoint(), amount.unwrap_or_default()))))
                },
                |traffic| {
                    if has_paid.get() {
                        traffic.topped_up = traffic.topped_up.wrapping_add(1);
                    }
                },
            )
        };
        let (amount, _) = as_far_as_budgets_go(ahead.wished, sign)?;
        let Some((channel, amount)) = amount else { return Ok(false) };
        self.observer.tell(&Event::ToppedUp { channel, amount, cost });
        Ok(true)
    }

    /// Where no answer runs any more, and it is not known what each has cost, asks for it. The
    /// answer is believed only if nothing is under way on either side. Tells whether it was.
    pub(crate) async fn reckon(&self) -> Result<bool, PayError> {
        let Some(calm) = self.till.traffic().calm() else { return Ok(false) };
        let receipt = self.ask().await?;
        let (mut told, mut known) = (None, None);
        self.till.book(
            None,
            |_| {},
            |purse, traffic| {
                if receipt.is_running || traffic.calm() != Some(calm) {
                    return Ok(purse.clone());
                }
                told = Some(Receipt { price: purse.drawn(&receipt), ..receipt });
                let next = purse.reckon(&receipt, traffic.lost())?;
                known = traffic.know();
                Ok(next)
            },
        )?;
        if let Some(receipt) = told {
            self.till.write(known.map(|number| Line::Paid(number, receipt.price)))?;
            self.observer.tell(&Event::Ended(receipt));
        }
        Ok(told.is_some())
    }
}
