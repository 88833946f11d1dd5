//! Requests with an `Idempotency-Key`: asked again, and never paid twice.

use farebox_channel::message::{PayRequest, Receipt};
use farebox_channel::{Kind, Msat};

use crate::support::{Answer, Buyer, PRICE_MSAT, World, header, until};

/// Returns a payment that covers a few requests.
fn payment(buyer: &Buyer) -> PayRequest {
    let ahead = Msat::new(20 * PRICE_MSAT).unwrap();
    buyer.purse().pay(ahead, &buyer.key).unwrap().1
}

fn named(key: &str) -> (&'static str, String) {
    ("idempotency-key", key.to_owned())
}

async fn ask(buyer: &Buyer, path: &str, key: &str) -> Answer {
    buyer.send(path, &[header(&payment(buyer)), named(key)]).await
}

async fn spent(buyer: &Buyer) -> u64 {
    buyer.told(buyer.channel(), &buyer.key).await.spent.get()
}

#[tokio::test]
async fn an_answered_request_is_refused_with_its_first_receipt() {
    let mut world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;

    let first = ask(&buyer, "/paid/x", "\"one\"").await;
    let again = ask(&buyer, "/paid/x", "\"one\"").await;
    world.gateway.kill();
    world.gateway.restart();
    let after_a_crash = ask(&buyer, "/paid/x", "\"one\"").await;
    let other = ask(&buyer, "/paid/x", "\"two\"").await;

    assert_eq!(first.status, 200);
    for refused in [again, after_a_crash] {
        assert_eq!(refused.refusal(), (409, "request-answered".to_owned()));
        assert_eq!(refused.receipt(), first.receipt());
    }
    assert_eq!(other.receipt().spent.get(), 2 * PRICE_MSAT);
    assert_eq!(world.api.hits(), 2);
}

#[tokio::test]
async fn a_key_of_another_request_is_refused() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    assert_eq!(ask(&buyer, "/paid/x", "one").await.status, 200);

    let other_path = ask(&buyer, "/paid/y", "one").await;
    let other_query = ask(&buyer, "/paid/x?q=1", "one").await;
    let other_body =
        [header(&payment(&buyer)), named("one"), ("content-type", "text/plain".into())];
    let other_body = buyer.send("/paid/x", &other_body).await;

    for refused in [other_path, other_query, other_body] {
        assert_eq!(refused.refusal(), (422, "key-reused".to_owned()));
    }
    let empty = ask(&buyer, "/paid/x", "").await;
    assert_eq!(empty.refusal(), (400, "malformed".to_owned()));
    let long = ask(&buyer, "/paid/x", &"k".repeat(256)).await;
    assert_eq!(long.refusal(), (400, "malformed".to_owned()));
    assert_eq!(spent(&buyer).await, PRICE_MSAT);
}

#[tokio::test]
async fn a_key_that_was_paid_on_one_host_buys_nothing_on_another() {
    let world = World::start_with(|config| {
        let dear = "[[route]]\nname = \"dear\"\nhost = \"dear.example.com\"\npath = \"/paid\"\nprice_sat = 50";
        config.replacen("[[route]]", &format!("{dear}\n\n[[route]]"), 1)
    })
    .await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let at = async |host: &str, path: &str| {
        let pay = PayRequest { price_max: None, ..payment(&buyer) };
        let fields = [header(&pay), named("one"), ("host", host.to_owned())];
        buyer.send(path, &fields).await
    };
    let given_up = at("cheap.example.com", "/paid/slow");
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(150), given_up).await;
    assert!(given_up.is_err(), "the answer takes longer");

    let mut elsewhere = None;
    until("the gateway has noticed", async || {
        elsewhere = Some(at("dear.example.com", "/paid/slow").await);
        elsewhere.as_ref().is_some_and(|answer| answer.status != 409)
    })
    .await;
    let again = at("CHEAP.example.com.:80", "/paid/slow").await;

    assert_eq!(elsewhere.unwrap().refusal(), (422, "key-reused".to_owned()));
    assert_eq!((again.status.as_u16(), again.receipt().spent.get()), (200, PRICE_MSAT));
    assert_eq!(world.api.hits(), 2);
    assert_eq!(spent(&buyer).await, PRICE_MSAT);
}

#[tokio::test]
async fn while_a_named_request_is_under_way_its_name_is_taken() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;

    let (first, second) = tokio::join!(ask(&buyer, "/paid/slow", "one"), async {
        until("the first is under way", async || world.api.hits() == 1).await;
        ask(&buyer, "/paid/slow", "one").await
    });

    assert_eq!(first.status, 200);
    assert_eq!(second.refusal(), (409, "request-under-way".to_owned()));
    assert_eq!(spent(&buyer).await, PRICE_MSAT);
}

#[tokio::test]
async fn a_request_that_a_crash_cut_off_is_asked_again_for_the_same_charge() {
    let mut world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let url = world.gateway.url("/paid/slow");
    let (name, value) = header(&payment(&buyer));
    let (key, one) = named("one");
    let cut_off = tokio::spawn(buyer.http.get(url).header(name, value).header(key, one).send());
    until("the request is under way", async || world.api.hits() == 1).await;

    world.gateway.kill();
    assert!(cut_off.await.unwrap().is_err());
    world.gateway.restart();
    assert_eq!(spent(&buyer).await, PRICE_MSAT, "a request in flight stays charged");
    let again = ask(&buyer, "/paid/slow", "one").await;

    assert_eq!(again.status, 200);
    assert_eq!(again.receipt().spent.get(), PRICE_MSAT);
    assert_eq!(world.api.hits(), 2);
    let third = ask(&buyer, "/paid/slow", "one").await;
    assert_eq!(third.refusal(), (409, "request-answered".to_owned()));
}

#[tokio::test]
async fn a_request_that_its_client_gave_up_is_asked_again_for_the_same_charge() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Refund).await;
    let fields = [header(&payment(&buyer)), named("one")];
    let impatient = buyer.send("/paid/slow", &fields);
    let impatient = tokio::time::timeout(std::time::Duration::from_millis(150), impatient).await;
    assert!(impatient.is_err(), "the answer takes longer");

    let mut answer = None;
    until("the gateway has noticed", async || {
        answer = Some(ask(&buyer, "/paid/slow", "one").await);
        answer.as_ref().is_some_and(|answer| answer.status == 200)
    })
    .await;

    assert_eq!(answer.unwrap().receipt().spent.get(), PRICE_MSAT);
    assert_eq!(spent(&buyer).await, PRICE_MSAT);
}

#[tokio::test]
async fn what_is_paid_for_is_asked_again_for_the_same_charge_although_its_price_was_raised() {
    let mut world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let pay = PayRequest { price_max: Msat::new(PRICE_MSAT).ok(), ..payment(&buyer) };
    let ask = async |key| buyer.send("/paid/slow", &[header(&pay), named(key)]).await;
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(150), ask("one")).await;
    assert!(given_up.is_err(), "the answer takes longer");

    world.reconfigure(|config| config.replace(&format!("= {PRICE_MSAT}"), "= 2_000"));
    let again = ask("one").await;
    let other = ask("two").await;

    assert_eq!(again.status, 200);
    assert_eq!(again.receipt().price.get(), PRICE_MSAT);
    assert_eq!(other.refusal(), (402, "price-raised".to_owned()));
    assert_eq!(spent(&buyer).await, PRICE_MSAT);
}

#[tokio::test]
async fn a_request_that_failed_behind_the_gateway_is_charged_when_it_is_asked_again() {
    let world = World::start().await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;

    let failed = ask(&buyer, "/paid/fail", "one").await;
    let again = ask(&buyer, "/paid/fail", "one").await;

    for answer in [failed, again] {
        assert_eq!(answer.status, 500);
        assert_eq!(answer.receipt().spent, Msat::ZERO);
    }
    let answered: Receipt = ask(&buyer, "/paid/x", "one").await.receipt();
    assert_eq!(answered.spent.get(), PRICE_MSAT, "the name is free again");
}

#[tokio::test]
async fn an_answer_that_used_less_than_its_price_is_charged_what_it_used() {
    let world = World::start_with(|config| {
        config.replace("[upstream]", "[upstream]\nusage_header = \"X-Cost-Msat\"")
    })
    .await;
    let buyer = world.buyer_with_channel(Kind::Cltv).await;

    let metered = ask(&buyer, "/paid/metered", "one").await;
    let again = ask(&buyer, "/paid/metered", "one").await;
    let overcharging = ask(&buyer, "/paid/overcharging", "two").await;
    let unclear = ask(&buyer, "/paid/unclear", "three").await;

    assert_eq!((metered.receipt().price.get(), metered.receipt().spent.get()), (400, 400));
    assert_eq!(metered.headers["x-cost-msat"], "400");
    assert_eq!(again.refusal(), (409, "request-answered".to_owned()));
    assert_eq!(again.receipt(), metered.receipt());
    assert_eq!(overcharging.receipt().price.get(), PRICE_MSAT, "never more than was reserved");
    assert_eq!(unclear.receipt().price.get(), PRICE_MSAT);
    assert_eq!(spent(&buyer).await, 400 + 2 * PRICE_MSAT);
}
