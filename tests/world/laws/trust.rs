//! The laws of contracts that are served before they are in a block.

use std::collections::BTreeMap;

use bitcoin::OutPoint;
use farebox_channel::gateway::{Channel, Rules};
use farebox_channel::message::StateName;

use super::Law;
use crate::books::Truth;
use crate::chain::ToyChain;

/// What is served on contracts that were never in a block stays within what may be lost, each and
/// together, as long as no block has shown them to be lost.
pub(crate) fn no_more_is_trusted_than_may_be_lost(
    records: &BTreeMap<OutPoint, Channel>,
    truth: &Truth,
    chain: &ToyChain,
    rules: &Rules,
) -> Law {
    let Some(unconfirmed) = rules.unconfirmed else { return Ok(()) };
    let (each, total) = (unconfirmed.each.to_msat().get(), unconfirmed.total.to_msat().get());
    let mut sum = 0;
    for (outpoint, page) in &truth.pages {
        if page.was_mined || page.is_restored || chain.is_confirmed(*outpoint) {
            continue;
        }
        let served = page.served_msat();
        if served > each {
            return Err(format!(
                "no more than {each} msat is served on an unconfirmed contract: {served} msat"
            ));
        }
        // What was given up at its expiry is lost already.
        let is_open_yet = |channel: &Channel| {
            channel.mined().is_none() && channel.name() != StateName::WrittenOff
        };
        if records.get(outpoint).is_some_and(is_open_yet) {
            sum += served;
        }
    }
    if sum > total {
        return Err(format!(
            "no more than {total} msat is served on unconfirmed contracts together: {sum} msat"
        ));
    }
    Ok(())
}
