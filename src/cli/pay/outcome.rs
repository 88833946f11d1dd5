//! What a run has come to, as one JSON object.

use reqwest::{Method, Url};
use serde::Serialize;

use super::super::exit::{Exit, Failure};
use super::books::{Cost, signed};
use super::telling::Account;

/// The last line of `--json`. Members may be added.
#[derive(Serialize)]
pub(super) struct Outcome<'o> {
    url: &'o str,
    method: &'o str,
    /// The code that the program ends with, and its name.
    exit_code: u8,
    exit: &'static str,
    /// Why it has failed.
    error: Option<String>,
    /// The status of the service's answer.
    status: Option<u16>,
    /// What the request has cost, if that is known.
    cost_msat: Option<u64>,
    /// How the account of the channel stands then.
    credit_msat: Option<u64>,
    spent_msat: Option<u64>,
    /// What is signed for on the channel.
    paid_sat: Option<u64>,
    channel: Option<String>,
    capacity_sat: Option<u64>,
    /// When the channel expires, in Unix seconds.
    expires_at: Option<u32>,
    /// The contract that was made for this request.
    opened: Option<String>,
    settlement_txid: Option<String>,
}

impl<'o> Outcome<'o> {
    pub(super) fn new(
        url: &'o Url,
        method: &'o Method,
        account: &Account,
        failure: Option<&Failure>,
    ) -> Self {
        let exit = failure.map_or(Exit::Done, Failure::exit);
        let (cost, paid_from) = account.balance();
        let paid = paid_from.as_ref().and_then(signed);
        let channel = account.channel.as_ref().or(paid_from.as_ref());
        let receipt = account.last_receipt().filter(|_| matches!(cost, Cost::Known(_)));
        Self {
            url: url.as_str(),
            method: method.as_str(),
            exit_code: exit.code(),
            exit: exit.name(),
            error: failure.map(ToString::to_string),
            status: account.status.map(|status| status.as_u16()),
            cost_msat: match cost {
                Cost::Nothing => Some(0),
                Cost::Known(cost) => Some(cost.get()),
                Cost::Unknown(_) => None,
            },
            credit_msat: receipt.map(|receipt| receipt.credit.get()),
            spent_msat: receipt.map(|receipt| receipt.spent.get()),
            paid_sat: paid.map(|paid| paid.get()),
            channel: channel.map(|record| record.outpoint().to_string()),
            capacity_sat: channel.map(|record| record.contract().capacity.get()),
            expires_at: channel.map(|record| record.contract().terms.expiry.get()),
            opened: account.opened.map(|outpoint| outpoint.to_string()),
            settlement_txid: account.settlement.map(|txid| txid.to_string()),
        }
    }
}
