//! What a person is told while a request is paid for, and what it has come to in the end.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{OutPoint, Txid};
use farebox_channel::message::{Receipt, StateName};
use farebox_client::{Event, Record};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::StatusCode;

use super::super::{say, span};
use super::books::{Books, Cost, signed};

/// How often the line is drawn that tells what is waited for.
const TICK: Duration = Duration::from_millis(250);

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loudness {
    Words,
    /// Nothing but what went wrong, or the account as JSON.
    Silent,
}

/// What a run has come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// How the service has answered.
    pub(super) status: Option<StatusCode>,
    /// The newest receipt of the request: of its end, if that is known.
    pub(super) receipt: Option<Receipt>,
    /// The channel in use in the end.
    pub(super) channel: Option<Record>,
    /// What the run has cost, once something may be paid.
    pub(super) books: Option<Books>,
    /// The contract that was made in this run.
    pub(super) opened: Option<OutPoint>,
    /// Whether somebody was asked to pay a contract.
    pub(super) has_asked: bool,
    /// The settlement, where the channel was closed and that is known.
    pub(super) settlement: Option<Txid>,
    /// How many confirmations a contract needs.
    confirmations: u32,
}

impl Account {
    /// Returns what the run has cost by now, and the channel that has paid.
    pub(super) fn balance(&self) -> (Cost, Option<Record>) {
        self.books.as_ref().map_or((Cost::Nothing, None), Books::balance)
    }

    /// Returns the newest receipt, if it tells what the request has cost in the end.
    pub(super) fn last_receipt(&self) -> Option<Receipt> {
        self.receipt.filter(|receipt| !receipt.is_running)
    }
}

/// Who tells what happens.
pub(super) struct Telling {
    loudness: Loudness,
    /// Whether the signed refund is printed.
    prints_refund: bool,
    account: Mutex<Account>,
    /// What is waited for, where that is drawn.
    waiting: Mutex<Option<ProgressBar>>,
}

impl Telling {
    pub(super) fn new(loudness: Loudness, prints_refund: bool) -> Self {
        let (account, waiting) = (Mutex::default(), Mutex::default());
        Self { loudness, prints_refund, account, waiting }
    }

    /// Returns what the run has come to.
    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something, above what is waited for.
    pub(super) fn say(&self, words: &str) {
        if self.loudness == Loudness::Silent {
            return;
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match &*waiting {
            Some(bar) => bar.suspend(|| say(&format!("farebox: {words}"))),
            None => say(&format!("farebox: {words}")),
        }
    }

    /// Says what is waited for: on a terminal with the time that it takes.
    fn wait(&self, words: String) {
        if self.loudness == Loudness::Silent || !io::stderr().is_terminal() {
            return self.say(&words);
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = waiting.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("farebox: {spinner} {msg} · {elapsed}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(words);
    }

    /// Stops waiting.
    pub(super) fn rest(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = waiting.take() {
            bar.finish_and_clear();
        }
    }

    /// Says what the request has cost, if it was paid for, or may have been.
    pub(super) fn receipt(&self) {
        let account = self.account().clone();
        let (cost, channel) = account.balance();
        let mut words = match (cost, account.receipt) {
            (Cost::Nothing, _) => return,
            (Cost::Known(cost), _) => format!("paid {cost}"),
            (Cost::Unknown(_), Some(Receipt { price, is_running: true, .. })) => {
                format!("{price} at first, and it is not known what the answer has cost in the end")
            }
            (Cost::Unknown(agreed), _) => {
                format!("the request may have been charged: {agreed} were agreed to")
            }
        };
        if let (Cost::Known(_), Some(Receipt { credit, .. })) = (cost, account.last_receipt()) {
            words = format!("{words} · credit {credit}");
        }
        if let Some((record, paid)) =
            channel.and_then(|record| signed(&record).map(|it| (record, it)))
        {
            let (capacity, channel) = (record.contract().capacity, record.outpoint());
            words = format!("{words} · {paid} in all of {capacity} in channel {channel}");
        }
        self.say(&words);
    }

    /// Hears what happens to the money.
    pub(super) fn hear(&self, event: &Event) {
        self.note(event);
        match event {
            Event::Offered(offer) => self.say(&format!("this costs {}", offer.price)),
            Event::Agreed { terms, capacity, first_payment } => {
                let (kind, address) = (terms.kind, terms.address());
                let expiry = span::date(terms.expiry.get().into());
                self.say(&format!("a channel of kind `{kind}` locks {capacity} at {address}"));
                self.say(&format!(
                    "until {expiry} at the latest; at least {first_payment} are paid"
                ));
            }
            Event::Asked(_, amount) => self.wait(format!("waiting until {amount} were paid")),
            Event::Funded(outpoint) => {
                self.rest();
                self.say(&format!("contract {outpoint}, not shown yet"));
            }
            Event::RefundHeld(refund) => {
                let time = span::date(refund.lock_time.to_consensus_u32().into());
                self.say(&format!("the refund is held, valid after {time}"));
                if self.prints_refund {
                    say(&serialize_hex(refund));
                }
            }
            Event::Exported(file) => {
                self.say(&format!("{} gets the coins back with a node alone", file.display()));
            }
            Event::Shown(_, StateName::Pending) => self.count(0),
            Event::Confirmed(_, confirmations) => self.count(*confirmations),
            Event::Shown(_, state) => {
                self.rest();
                self.say(&format!("the channel is {state}"));
            }
            Event::Paid(receipt) if receipt.is_running => {
                let price = receipt.price;
                self.say(&format!("the answer costs what passes, and {price} at first"));
            }
            Event::ToppedUp { amount, cost, .. } => {
                self.say(&format!("{cost} by now, so {amount} more are paid ahead"));
            }
            Event::Ended(receipt) if self.account().receipt.is_none() => {
                self.say(&format!("an earlier answer has cost {}", receipt.price));
            }
            // What the request has cost is told at the end.
            Event::Paid(_) | Event::Ended(_) => {}
            Event::Resynchronised { channel, paid, spent } => {
                self.say(&format!("channel {channel} goes on with {paid} paid and {spent} spent"));
            }
            Event::Refunding(channel, txid) => {
                self.say(&format!("channel {channel} has expired and is refunded with {txid}"));
            }
            Event::Closing(channel, Some(txid)) => {
                self.say(&format!("channel {channel} is closing with {txid}"));
            }
            Event::Closing(channel, None) => self.say(&format!("channel {channel} is closing")),
        }
    }

    /// Says how many confirmations a contract has.
    fn count(&self, confirmations: u32) {
        let needed = self.account().confirmations;
        self.wait(match needed {
            0 => format!("waiting for the contract's confirmations: {confirmations} so far"),
            _ => format!("waiting for the contract's confirmations: {confirmations} of {needed}"),
        });
    }

    /// Keeps what the run has come to.
    fn note(&self, event: &Event) {
        let mut account = self.account();
        match event {
            Event::Offered(offer) => account.confirmations = offer.confirmations,
            Event::Asked(..) => account.has_asked = true,
            Event::Funded(outpoint) => account.opened = Some(*outpoint),
            Event::Paid(receipt) => account.receipt = Some(*receipt),
            Event::Ended(receipt) if account.receipt.is_some() => account.receipt = Some(*receipt),
            Event::Closing(_, settlement) => account.settlement = *settlement,
            Event::Agreed { .. }
            | Event::RefundHeld(_)
            | Event::Exported(_)
            | Event::Shown(..)
            | Event::Confirmed(..)
            | Event::ToppedUp { .. }
            | Event::Ended(_)
            | Event::Resynchronised { .. }
            | Event::Refunding(..) => {}
        }
    }
}
