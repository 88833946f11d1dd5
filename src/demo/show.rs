//! What the demo shows to people.

use std::sync::Arc;

use bitcoin::consensus::encode::serialize;
use farebox_channel::Kind;
use farebox_channel::message::StateName;
use farebox_channel::wire::Field;
use farebox_client::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Outcome;

/// Where the demo is shown: lines go to a function, the progress bar to the terminal.
#[derive(Clone)]
pub struct Stage(Arc<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stage(..)")
    }
}

impl Stage {
    /// Shows the demo line by line.
    #[must_use]
    pub fn new(print: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(print))
    }

    fn line(&self, line: &str) {
        (self.0)(line);
    }

    pub(super) fn step(&self, name: &str, words: &str) {
        self.line(&format!("{name:>10}  {words}"));
    }

    pub(super) fn note(&self, words: &str) {
        self.line(&format!("{:>10}  {words}", ""));
    }

    pub(super) fn channel(&self, kind: Kind) {
        let words = match kind {
            Kind::Refund => "a plain 2-of-2; the gateway signs the refund first",
            Kind::Cltv => "the refund path is in the script; any wallet can fund it",
        };
        self.line("");
        self.line(&format!("Channel of kind `{kind}`: {words}"));
    }

    /// Shows what the client is doing.
    pub(super) fn event(&self, event: &Event) {
        match event {
            Event::Offered(offer) => {
                self.step("402", "the request costs money; the answer says how to pay");
                self.note(&format!("Payment-Channel-Offer: {}", offer.encode()));
            }
            Event::Agreed { terms, .. } => {
                self.step("terms", "script and address rebuilt by the client, and the same");
                self.note(&format!("{} · expires at {}", terms.address(), terms.expiry.get()));
            }
            Event::Funded(outpoint) => {
                self.step("contract", "built and signed; nobody has seen it");
                self.note(&outpoint.to_string());
            }
            Event::RefundHeld(refund) => {
                self.step("refund", "complete and on record: the money comes back without anybody");
                self.note(&format!(
                    "{} · {} bytes, valid after {}",
                    refund.compute_txid(),
                    serialize(refund).len(),
                    refund.lock_time.to_consensus_u32(),
                ));
            }
            Event::Shown(_, StateName::Pending) => {
                self.step("shown", "the gateway has broadcast the contract; a block is awaited");
            }
            Event::Shown(_, state) => {
                self.step("shown", &format!("the channel is {state}"));
            }
            Event::Closing(_, Some(txid)) => self.note(&format!("settlement {txid}")),
            Event::Closing(_, None) => self.note("the settlement is on its way"),
            Event::Exported(file) => self.note(&format!("{} needs a node alone", file.display())),
            Event::Asked(..)
            | Event::Confirmed(..)
            | Event::Paid(_)
            | Event::Refunding(..)
            | Event::ToppedUp { .. }
            | Event::Ended(_)
            | Event::Resynchronised { .. } => {}
        }
    }

    /// Shows a bar over the requests, where there is a terminal.
    pub(super) fn requests(&self, requests: u32) -> ProgressBar {
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(Some(u64::from(requests)), target);
        let template = "    paying  [{bar:40}] {pos}/{len} requests · {per_sec}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar
    }

    pub(super) fn settled(&self, outcome: &Outcome) {
        self.step("settled", &format!("{} requests, mined in a block", outcome.requests));
    }

    /// Shows who got what.
    pub fn table(&self, outcomes: &[Outcome]) {
        self.line("");
        self.line(
            "   kind  requests   capacity  = client's change + gateway's share +  fee  (sat)",
        );
        for outcome in outcomes {
            self.line(&format!(
                "{:>7} {:>9} {:>10}  = {:>15} + {:>15} + {:>4}",
                outcome.kind,
                outcome.requests,
                outcome.capacity_sat,
                outcome.client_sat,
                outcome.gateway_sat,
                outcome.fee_sat,
            ));
        }
    }
}
