//! A paying client that is killed at any of its messages, and run again.
//!
//! Between two saved steps there is a message to the gateway or to the node. So a kill before each
//! message goes out, and one before its answer is heard, leaves every state that a crash can leave.
//! Steps that are saved one right after the other are cut apart by hand, in `between.rs`. Calls that
//! only read change nothing on either side, and are passed by.

mod audit;
mod between;
mod stage;

use farebox_channel::Kind;

use crate::support::Hold;
use stage::{Funding, Stage, Wire};

/// More messages than a client needs from the first request to the close.
const MESSAGES_MAX: usize = 60;
/// How a client is cut off: before its message goes out, or before it hears the answer.
const BOTH: [Hold; 2] = [Hold::BeforeSending, Hold::BeforeAnswering];

/// A client that is killed at each message of a wire gets its answer and closes in the next run, pays
/// for what was answered and no more, and neither loses nor locks a coin.
async fn a_killed_client_loses_nothing(
    kind: Kind,
    funding: Funding,
    wires: &[Wire],
    modes: &[Hold],
) {
    let mut stage = Stage::set(kind, funding).await;
    for wire in wires {
        for mode in modes {
            let mut held = Vec::new();
            for nth in 1..=MESSAGES_MAX {
                let Some(method) = stage.case(*wire, nth, *mode).await else { break };
                held.push(method);
            }
            let (least, most) = (wire.messages_min(), MESSAGES_MAX);
            assert!((least..most).contains(&held.len()), "{wire:?}, {mode:?}: {held:?}");
        }
    }
    stage.audit().await;
}

#[tokio::test]
async fn a_client_that_is_killed_at_any_message_of_a_cltv_channel_loses_nothing() {
    a_killed_client_loses_nothing(Kind::Cltv, Funding::Node, &[Wire::Gateway], &BOTH).await;
}

#[tokio::test]
async fn a_client_that_is_killed_at_any_message_of_a_refund_channel_loses_nothing() {
    a_killed_client_loses_nothing(Kind::Refund, Funding::Node, &[Wire::Gateway], &BOTH).await;
}

#[tokio::test]
async fn a_client_that_is_killed_at_any_call_that_changes_its_wallet_loses_nothing() {
    a_killed_client_loses_nothing(Kind::Refund, Funding::Node, &[Wire::Node], &BOTH).await;
}

#[tokio::test]
async fn a_client_with_a_wallet_of_its_own_loses_nothing_wherever_it_is_killed() {
    let modes = [Hold::BeforeAnswering];
    a_killed_client_loses_nothing(Kind::Refund, Funding::Own, &[Wire::Gateway], &modes).await;
}

#[tokio::test]
async fn a_client_whose_contracts_somebody_pays_loses_nothing_wherever_it_is_killed() {
    let modes = [Hold::BeforeSending];
    a_killed_client_loses_nothing(Kind::Cltv, Funding::Address, &[Wire::Gateway], &modes).await;
}

#[tokio::test]
async fn a_client_whose_contracts_are_signed_elsewhere_loses_nothing_wherever_it_is_killed() {
    let modes = [Hold::BeforeAnswering];
    a_killed_client_loses_nothing(Kind::Refund, Funding::Psbt, &[Wire::Gateway], &modes).await;
}
