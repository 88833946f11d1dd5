//! Steps that are saved one right after the other, and those after the expiry.

use farebox_chain::Chain;
use farebox_channel::Kind;
use farebox_channel::client::Funded;
use farebox_client::{ChannelFile, Stage as Place};
use serde_json::{Value, json};

use super::stage::{Funding, Stage, Wire};
use crate::program::{run, text};
use crate::support::{Hold, set_median_time_past};

/// The message that shows the contract, counted from the first one.
const fn showing(kind: Kind) -> usize {
    match kind {
        Kind::Cltv => 3,
        Kind::Refund => 4,
    }
}

/// Kills a client right before its contract is shown.
async fn held(kind: Kind, funding: Funding) -> Stage {
    let mut stage = Stage::set(kind, funding).await;
    stage.hold(Wire::Gateway, showing(kind), Hold::BeforeSending);
    let killed = stage.run(stage.pay(None).await, Some(Wire::Gateway)).await;
    assert!(killed.held.is_some(), "{:?}", killed.words);
    let [record] = stage.records().try_into().unwrap();
    assert!(matches!(record.stage, Place::Held(_)), "{record:?}");
    stage
}

/// Takes back all that was saved after the contract.
fn forget_the_refund(stage: &Stage) {
    let file = ChannelFile::open(&stage.world.file("channels.sqlite")).unwrap();
    let mut record = file.channels().unwrap().remove(0);
    let Place::Held(held) = record.stage else { panic!("{record:?}") };
    record.stage = Place::Funded(Funded {
        contract: held.refund.contract().clone(),
        transaction: held.transaction.unwrap(),
        first_payment: held.first_payment,
    });
    file.save(&record).unwrap();
    std::fs::remove_dir_all(file.recovery_folder()).unwrap();
}

async fn goes_on(mut stage: Stage) {
    let again = stage.run(stage.pay(None).await, None).await;
    assert_eq!(again.answer, "hello\n", "{:?}", again.words);
    stage.check_what_was_sent("the second run").await;
    assert_eq!(stage.records().len(), 1);
    stage.bought = 1;
    stage.audit().await;
}

#[tokio::test]
async fn a_client_that_is_killed_after_its_contract_is_saved_goes_on_with_it() {
    for kind in Kind::ALL {
        let stage = held(kind, Funding::Node).await;
        forget_the_refund(&stage);
        let wallet = stage.world.wallet();
        let _done: bool = wallet.call("lockunspent", json!([true])).await.unwrap();

        goes_on(stage).await;
    }
}

#[tokio::test]
async fn coins_of_a_contract_that_nobody_was_shown_are_free_after_its_expiry() {
    for kind in Kind::ALL {
        for is_held in [false, true] {
            let mut stage = held(kind, Funding::Node).await;
            stage.world.gateway.kill();
            if !is_held {
                forget_the_refund(&stage);
            }
            assert_eq!(stage.locked().await, 1);
            let expiry = stage.records()[0].contract().terms.expiry.get();
            set_median_time_past(&stage.world.node, u64::from(expiry) + 1).await;

            let refunded = run(stage.program(&["wallet", "refund"])).await;

            let told = text(&refunded.stdout);
            assert_eq!(told, "nothing has expired that is not spent\n", "{refunded:?}");
            assert_eq!(stage.locked().await, 0, "{kind}, {is_held}");
            assert_eq!(stage.wealth().await, stage.coins);
        }
    }
}

#[tokio::test]
async fn a_refund_whose_broadcast_is_cut_off_is_broadcast_once() {
    let mut stage = Stage::set(Kind::Cltv, Funding::Node).await;
    // Right before the close.
    stage.hold(Wire::Gateway, showing(Kind::Cltv) + 2, Hold::BeforeSending);
    let killed = stage.run(stage.pay(None).await, Some(Wire::Gateway)).await;
    assert_eq!(killed.answer, "hello\n");
    stage.world.gateway.kill();
    stage.world.node.mine(1).await.unwrap();
    let record = stage.records().remove(0);
    let expiry = u64::from(record.contract().terms.expiry.get());
    set_median_time_past(&stage.world.node, expiry + 1).await;
    let node = stage.world.node.node(None);
    // The coins of the contract are let go first, once.
    for (nth, mode) in [(2, Hold::BeforeSending), (1, Hold::BeforeAnswering)] {
        stage.hold(Wire::Node, nth, mode);
        let refunding = stage.program(&["wallet", "refund"]);
        let killed = stage.run(refunding, Some(Wire::Node)).await;
        assert_eq!(killed.held.as_deref(), Some("sendrawtransaction"));
        let sent: Vec<Value> = node.call("getrawmempool", json!([])).await.unwrap();
        assert_eq!(sent.len(), usize::from(mode == Hold::BeforeAnswering));
    }

    let refunded = run(stage.program(&["wallet", "refund"])).await;

    let told = text(&refunded.stdout);
    assert!(told.starts_with(&format!("{} is refunded with ", record.outpoint())), "{told}");
    assert_eq!(node.mempool().await.unwrap().len(), 1);
    stage.world.node.mine(1).await.unwrap();
    let contract = node.confirmed(record.outpoint()).await.unwrap();
    assert_eq!(contract, None, "it is spent in a block");
}

#[tokio::test]
async fn a_close_takes_the_open_channel_and_not_a_closed_one_that_expires_later() {
    let mut stage = Stage::set(Kind::Cltv, Funding::Node).await;
    for lifetime in ["300000", "200000"] {
        let mut paying = stage.pay(None).await;
        paying.args(["--lifetime", lifetime]);
        let ended = stage.run(paying, None).await;
        assert!(ended.is_success, "{:?}", ended.words);
    }

    let records = stage.records();
    assert_eq!(records.len(), 2);
    stage.check_that_all_closes(&records, "one after the other").await;
    stage.bought = 2;
    stage.audit().await;
}
