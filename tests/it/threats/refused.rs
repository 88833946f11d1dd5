//! A gateway that takes no contract of an earlier offer any more: another one is opened, and the refund of
//! the first stays on record.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farebox_chain::{Joined, Wallet};
use farebox_channel::message::{ContractRequest, Offer};
use farebox_channel::wire::Field;
use farebox_channel::{Kind, Sat};
use farebox_client::{ChannelFile, OutsideWallet, PayError, PayingClient, Policy, Stage};
use http::StatusCode;

use super::liar::{Answer, Fate, Message, twisted};
use super::scene::Scene;

/// The contracts that were shown.
type Shown = Arc<Mutex<BTreeSet<Vec<u8>>>>;

/// Refuses each contract for this reason, and notes those that are shown.
fn refuse(scene: &Scene, problem: Option<&'static str>) -> Shown {
    let shown = Shown::default();
    let notes = Arc::clone(&shown);
    scene.liar.lie(move |step, message| match message {
        Message::Asked(fields) if step == "contract" => {
            notes.lock().unwrap().insert(fields[ContractRequest::NAME].as_bytes().to_vec());
            let say = |problem| Fate::Say(Answer::problem(StatusCode::PAYMENT_REQUIRED, problem));
            problem.map_or(Fate::Pass, say)
        }
        Message::Asked(_) | Message::Answered(_) => Fate::Pass,
    });
    shown
}

#[tokio::test]
async fn a_contract_that_is_refused_is_shown_no_more_and_another_one_is_opened() {
    let mut scene = Scene::set().await;
    let problems =
        ["first-payment", "capacity-out-of-bounds", "kind-not-offered", "contract-mismatch"];
    for (problem, kind) in problems.into_iter().zip(Kind::ALL.into_iter().cycle()) {
        let client = scene.client(kind);
        refuse(&scene, Some(problem));
        let error = scene.get(&client).await.unwrap_err();
        assert!(matches!(error, PayError::Refused { .. }), "{problem}: {error}");

        let shown = refuse(&scene, None);
        assert_eq!(scene.get(&client).await.unwrap().status(), 200, "{problem}");

        assert_eq!(shown.lock().unwrap().len(), 1, "{problem}: not the first one again");
        let records = client.file().channels().unwrap();
        let held = records.iter().filter(|record| matches!(record.stage, Stage::Held(_))).count();
        assert_eq!((records.len(), held), (2, 1), "{problem}");
    }
    // What says nothing of the contract leaves it as it is.
    let client = scene.client(Kind::Cltv);
    refuse(&scene, Some("too-many-requests"));
    scene.get(&client).await.unwrap_err();
    refuse(&scene, None);
    assert_eq!(scene.get(&client).await.unwrap().status(), 200);
    assert_eq!(client.file().channels().unwrap().len(), 1);
    drop(client);
    scene.take_all_back().await;
}

#[tokio::test]
async fn nobody_is_asked_to_pay_for_what_the_present_offer_does_not_take() {
    let scene = Scene::set().await;
    let (asked, network) = (Arc::new(Mutex::new(Vec::new())), bitcoin::Network::Regtest);
    let invoices = Arc::clone(&asked);
    let back = scene.world.wallet().fresh_address().await.unwrap();
    let wallet = OutsideWallet::by_address(network, back, move |invoice| {
        invoices.lock().unwrap().push(invoice.address.clone());
    });
    let node = Joined { chain: scene.world.node.node(None), wallet };
    let file = ChannelFile::open(&scene.world.file("outside.sqlite")).unwrap();
    let policy = Policy { patience: Duration::from_secs(1), ..Policy::new(Kind::Cltv) };
    let client = PayingClient::new(node, file, policy).unwrap();
    let url = scene.liar.url("/paid/x");
    let get = async || assert!(matches!(client.get(&url).await, Err(PayError::Unpaid(_))));
    get().await;
    get().await;

    scene.liar.lie(twisted("request", |answer| {
        answer.change(|offer: &mut Offer| offer.first_payment = Sat::new(401).unwrap());
    }));
    get().await;

    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0], asked[1], "while it is taken it is asked for again");
    assert_ne!(asked[1], asked[2]);
}
