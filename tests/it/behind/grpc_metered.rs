//! Calls of gRPC that cost what they are: a client of tonic before the gateway, a service of tonic
//! behind, and neither knows that anything is counted.

use farebox_channel::message::{PayRequest, Receipt};
use farebox_channel::{Kind, Msat};
use tonic::{Code, Request};

use super::words::{Caller, Shop, all, message, refusal, with};
use super::{behind, spent};
use crate::support::{Buyer, World, terminate, until};

/// What is charged first, and for each message, in millisatoshi.
const DRAW_MSAT: u64 = 1_000;
const MESSAGE_MSAT: u64 = 500_000;

/// Starts a gateway before a service: one whose streams wait, another whose streams do not, and one
/// that says in its trailers what it has used.
async fn world(shop: &Shop) -> World {
    let change = behind(shop.keys());
    let route = |path: &str, billing: &str| {
        format!("[[route]]\npath = \"{path}\"\nprice_msat = {DRAW_MSAT}\n{billing}\n\n")
    };
    let messages = format!("messages = {{ msat = {MESSAGE_MSAT} }}");
    let routes = route("/patient.Shop", &format!("rates = {{ {messages} }}"))
        + &route("/brief.Shop", &format!("rates = {{ {messages}, wait_secs = 0 }}"))
        + &route("/used.Shop", "usage = { trailer = \"x-units\", unit_msat = 20 }");
    World::start_with(move |config| change(config) + &routes).await
}

/// Adds so much to what a buyer pays.
fn payment(buyer: &mut Buyer, msat: u64) -> PayRequest {
    let (purse, payment) = buyer.purse().pay(Msat::new(msat).unwrap(), &buyer.key).unwrap();
    buyer.purse = Some(purse);
    payment
}

#[tokio::test]
async fn a_stream_of_messages_waits_for_credit_and_goes_on_once_it_is_paid() {
    let shop = Shop::start().await;
    let world = world(&shop).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let mut caller = Caller::connect(&world.gateway.host).await;
    let paid = payment(&mut buyer, 2 * MESSAGE_MSAT);

    let called = caller.list("/patient.Shop/Count", with(&paid)).await.unwrap();
    assert_eq!(message::<Receipt>(called.metadata()).price.get(), DRAW_MSAT);
    let mut words = called.into_inner();
    for word in ["one", "two"] {
        assert_eq!(words.message().await.unwrap().unwrap().text, word);
    }
    until("all credit is used", async || spent(&buyer, &paid).await == 2 * MESSAGE_MSAT).await;
    let more = payment(&mut buyer, MESSAGE_MSAT + 700);
    buyer.ask::<_, Receipt>(&more).await;

    assert_eq!(words.message().await.unwrap().unwrap().text, "three");
    assert_eq!(words.message().await.unwrap(), None, "it ends as the service has ended it");
    let trailers = words.trailers().await.unwrap().unwrap();
    assert_eq!(message::<Receipt>(&trailers).price.get(), 3 * MESSAGE_MSAT);
    assert_eq!(spent(&buyer, &more).await, 3 * MESSAGE_MSAT);
}

#[tokio::test]
async fn a_stream_of_messages_that_is_not_paid_in_time_ends_with_a_status_and_the_problem() {
    let shop = Shop::start().await;
    let world = world(&shop).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let mut caller = Caller::connect(&world.gateway.host).await;
    let paid = payment(&mut buyer, 2 * MESSAGE_MSAT);

    let called = caller.list("/brief.Shop/Count", with(&paid)).await.unwrap();
    let (words, ended) = all(called.into_inner()).await;

    assert_eq!(words, ["one", "two"]);
    let ended = ended.unwrap();
    assert_eq!(refusal(&ended), (Code::FailedPrecondition, "underpaid".to_owned()));
    assert_eq!(message::<Receipt>(ended.metadata()).price.get(), 2 * MESSAGE_MSAT);
    assert_eq!(spent(&buyer, &paid).await, 2 * MESSAGE_MSAT);
}

#[tokio::test]
async fn a_stream_of_messages_that_a_stop_cuts_off_ends_with_a_status_and_the_problem() {
    let shop = Shop::start().await;
    let mut world = world(&shop).await;
    world.reconfigure(|config| config.replace("[limits]\n", "[limits]\ndrain_secs = 0\n"));
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let mut caller = Caller::connect(&world.gateway.host).await;
    let paid = payment(&mut buyer, 2 * MESSAGE_MSAT + 700);
    let called = caller.list("/patient.Shop/Count", with(&paid)).await.unwrap();
    let mut words = called.into_inner();
    for word in ["one", "two"] {
        assert_eq!(words.message().await.unwrap().unwrap().text, word);
    }
    let all_credit = 2 * MESSAGE_MSAT + DRAW_MSAT;
    until("all credit is drawn", async || spent(&buyer, &paid).await == all_credit).await;

    terminate(world.gateway.pid());

    let (words, ended) = all(words).await;
    assert!(words.is_empty(), "{words:?}");
    let ended = ended.unwrap();
    assert_eq!(refusal(&ended), (Code::Unavailable, "stopping".to_owned()));
    assert_eq!(message::<Receipt>(ended.metadata()).price.get(), 2 * MESSAGE_MSAT);
    assert!(world.gateway.wait(), "the gateway ends well");
    world.gateway.restart();
    assert_eq!(spent(&buyer, &paid).await, 2 * MESSAGE_MSAT);
}

#[tokio::test]
async fn a_call_costs_what_its_service_reports_in_its_trailers() {
    let shop = Shop::start().await;
    let world = world(&shop).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let mut caller = Caller::connect(&world.gateway.host).await;
    let paid = payment(&mut buyer, 2 * DRAW_MSAT);

    let called = caller.ask("/used.Shop/Echo", reporting(&paid, "7")).await.unwrap();
    assert_eq!(called.get_ref().text, "hello");
    assert_eq!(message::<Receipt>(called.metadata()).price.get(), 140, "in the trailers");
    assert_eq!(spent(&buyer, &paid).await, 140);
    caller.ask("/used.Shop/Echo", with(&paid)).await.unwrap();
    assert_eq!(spent(&buyer, &paid).await, 140 + DRAW_MSAT, "nothing was reported");
}

/// Returns a request whose answer reports so many units.
fn reporting(paid: &PayRequest, units: &'static str) -> Request<super::words::Word> {
    let mut request = with(paid);
    request.metadata_mut().insert("units", units.parse().unwrap());
    request
}
