//! The operator's commands: over the real socket, and what they do on a real chain.

mod closing;
mod exporting;
mod listing;
mod monitor;
mod socket;

use bitcoin::{OutPoint, Transaction};
use farebox_channel::Msat;
use serde_json::Value;

use crate::support::{Buyer, Operator, header};

/// What `/dear` costs.
const DEAR_SAT: u64 = 5_000;

/// Pays for requests to `/dear`.
async fn pay_dear(buyer: &mut Buyer, requests: u32) {
    for _ in 0..requests {
        let price = Msat::new(DEAR_SAT * 1_000).unwrap();
        let (purse, request) = buyer.purse().pay(price, &buyer.key).unwrap();
        buyer.purse = Some(purse);
        assert_eq!(buyer.send("/dear/x", &[header(&request)]).await.status, 200);
    }
}

/// Returns the names of the channels in a listing.
fn names(listing: &Value) -> Vec<&str> {
    let channels = listing["channels"].as_array().unwrap();
    channels.iter().map(|view| view["channel"].as_str().unwrap()).collect()
}

/// Returns what the operator is told of one channel.
async fn view(operator: &Operator, channel: OutPoint) -> Value {
    operator.json(&["channels", &channel.to_string(), "--json"]).await
}

/// Returns what a transaction pays to an output script, in satoshi.
fn paid_to(transaction: &Transaction, script: &bitcoin::Script) -> u64 {
    let paid = transaction.output.iter().filter(|output| *output.script_pubkey == *script);
    paid.map(|output| output.value.to_sat()).sum()
}
