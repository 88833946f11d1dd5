//! A gateway that asks for more, gives false receipts, or answers without an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farebox_channel::client::Distrust;
use farebox_channel::message::{Offer, OfferedRate, OfferedRates, Receipt};
use farebox_channel::{Kind, Msat, Sat, Seconds};
use farebox_client::{Event, Limit, Observer, PayError};
use http::{HeaderName, StatusCode};
use tokio::time::timeout;

use super::liar::{Answer, End, Fate, Finding, Message, Twist, long, twisted};
use super::scene::{BOUND, Scene, signed};
use crate::support::{Api, FIRST_SAT};

#[tokio::test]
async fn a_gateway_that_asks_again_and_again_gets_no_more_than_the_greatest_price() {
    let mut scene = Scene::set().await;
    for step_msat in [0, 200_000, 998_500] {
        scene.liar.lie(|_, _| Fate::Pass);
        let client = scene.client_with_channel(Kind::Cltv).await;
        let mut offer = scene.world.buyer().offer().await;
        scene.liar.lie(move |step, message| {
            if let Message::Answered(answer) = message
                && step == "paid"
            {
                offer.price = Msat::new(offer.price.get() + step_msat).unwrap();
                *answer = Answer::problem(StatusCode::PAYMENT_REQUIRED, "underpaid");
                answer.set(&offer);
            }
            Fate::Pass
        });
        for _ in 0..3 {
            let refused = scene.get(&client).await.unwrap_err();
            // The gateway behind has charged what its answer was taken away of.
            let is_typed = matches!(
                refused,
                PayError::Refused { .. }
                    | PayError::Limit(Limit::Price { .. })
                    | PayError::Distrust(_)
            );
            assert!(is_typed, "{step_msat}: {refused}");
        }

        let most = FIRST_SAT + 1_000 + 2;
        assert!(signed(&client) <= most, "{step_msat}: {} sat", signed(&client));
    }
    scene.take_all_back().await;
}

/// Lies about what a request has cost.
const RECEIPTS: [(Twist, Finding); 3] = [
    (
        |answer| {
            answer.change(|it: &mut Receipt| it.price = Msat::new(it.price.get() + 1).unwrap());
        },
        |error| matches!(error, PayError::Distrust(Distrust::Overcharged { .. })),
    ),
    (
        |answer| {
            let more = |it: &mut Receipt| it.spent = Msat::new(it.spent.get() + 900_000).unwrap();
            answer.change(more);
        },
        |error| matches!(error, PayError::Distrust(Distrust::Overcharged { .. })),
    ),
    (
        |answer| answer.change(|it: &mut Receipt| it.paid = Sat::new(it.paid.get() + 9).unwrap()),
        |error| matches!(error, PayError::Distrust(Distrust::OtherPayment { .. })),
    ),
];

#[tokio::test]
async fn a_receipt_for_more_than_was_agreed_to_is_not_believed() {
    let mut scene = Scene::set().await;
    for (index, (twist, is_found)) in RECEIPTS.into_iter().enumerate() {
        scene.liar.lie(|_, _| Fate::Pass);
        let told: Arc<AtomicBool> = Arc::default();
        let hearing = Arc::clone(&told);
        let client = scene.client_with_channel(Kind::Refund).await;
        let client = client.observed_by(Observer::new(move |event| {
            hearing.fetch_or(matches!(event, Event::Paid(_)), Ordering::Relaxed);
        }));
        scene.liar.lie(twisted("paid", twist));

        let error = scene.get(&client).await.unwrap_err();

        assert!(!told.load(Ordering::Relaxed), "{index}: what is not believed is not told");

        assert!(is_found(&error), "{index}: {error}");
        assert_eq!(signed(&client), FIRST_SAT);
    }
    // An answer at a price that runs for ever, and has always drawn all that is there.
    scene.liar.lie(|_, _| Fate::Pass);
    let client = scene.client_with_channel(Kind::Refund).await;
    scene.liar.lie(|step, message| {
        if let Message::Answered(answer) = message {
            answer.end = if step == "paid" { End::Never } else { End::Well };
            answer.change(|it: &mut Receipt| {
                (it.spent, it.credit, it.is_running) = (it.paid.to_msat(), Msat::ZERO, true);
            });
        }
        Fate::Pass
    });
    let answer = scene.get(&client).await.unwrap();
    let reading = timeout(BOUND, answer.bytes());
    let error = reading.await.expect("an end in time").unwrap_err();
    let limit = PayError::of(&error);
    assert!(matches!(limit, Some(PayError::Limit(Limit::Answer(_)))), "{error:?}");
    assert_eq!(signed(&client), FIRST_SAT, "nobody has agreed to more than its price");
    drop((client, error));
    scene.take_all_back().await;
}

#[tokio::test]
async fn an_answer_that_is_endless_or_never_begins_ends_with_the_reason() {
    let mut scene = Scene::set().await;
    let elsewhere = Api::start().await;
    let moved = format!("http://{}/x", elsewhere.address);
    let client = scene.client(Kind::Cltv);
    scene.liar.lie(|step, _| if step == "request" { Fate::Swallow } else { Fate::Pass });
    let error = scene.get(&client).await.unwrap_err();
    assert!(matches!(error, PayError::Silent(_)), "{error}");
    let asked = client.get(scene.liar.url("/paid/x")).build().unwrap();
    let error = timeout(BOUND, client.quote(asked)).await.expect("an end in time").unwrap_err();
    assert!(matches!(error, PayError::Silent(_)), "{error}");
    scene.liar.lie(move |step, message| match message {
        Message::Asked(_) if step == "open" => {
            let status = StatusCode::TEMPORARY_REDIRECT;
            let mut answer = Answer { status, ..Answer::default() };
            answer.put("location", &moved);
            Fate::Say(answer)
        }
        Message::Asked(_) | Message::Answered(_) => Fate::Pass,
    });
    let error = scene.get(&client).await.unwrap_err();
    assert!(matches!(error, PayError::Refused { .. }), "{error}");
    assert_eq!(elsewhere.hits(), 0, "steps follow no redirect");
    scene.liar.lie(twisted("open", |answer| {
        answer.headers.insert(HeaderName::from_static("x-long"), long(2_000_000));
    }));
    let error = scene.get(&client).await.unwrap_err();
    assert!(matches!(error, PayError::Http(_)), "{error}");
    scene.nothing_moved(&client, "an opening").await;
    scene.liar.lie(|_, _| Fate::Pass);
    assert_eq!(scene.get(&client).await.unwrap().status(), 200);

    scene.liar.lie(|step, _| if step == "paid" { Fate::Swallow } else { Fate::Pass });
    let error = scene.get(&client).await.unwrap_err();
    assert!(matches!(error, PayError::Silent(_)), "{error}");
    for end in [End::Never, End::Well] {
        scene.liar.lie(move |step, message| match message {
            Message::Asked(_) if step == "paid" => {
                let mut answer = Answer::problem(StatusCode::FORBIDDEN, "no");
                (answer.body, answer.end) = (vec![b' '; 10_000].into(), end);
                if end == End::Well {
                    answer.body = vec![b' '; 10_000_000].into();
                }
                Fate::Say(answer)
            }
            Message::Asked(_) | Message::Answered(_) => Fate::Pass,
        });
        let error = scene.get(&client).await.unwrap_err();
        assert!(matches!(error, PayError::Refused { .. }), "{error}");
    }
    drop(client);
    scene.take_all_back().await;
}

#[tokio::test]
async fn a_paid_answer_that_is_endless_or_never_begins_ends_with_the_reason() {
    let mut scene = Scene::set().await;
    let client = scene.client_with_channel(Kind::Cltv).await;
    // A refusal without an end, with a receipt: the service may have said so, and is paid.
    scene.liar.lie(twisted("paid", |answer| {
        answer.status = StatusCode::CONFLICT;
        answer.put("content-type", "application/problem+json");
        answer.headers.remove("content-length");
        (answer.body, answer.end) = (vec![b' '; 10_000].into(), End::Never);
    }));
    let answer = scene.get(&client).await.unwrap();
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    drop(answer);
    // An answer that costs what passes, and never begins. Nothing is charged for what is sent.
    scene.liar.lie(|step, message| match message {
        Message::Asked(_) if step == "paid" => Fate::Swallow,
        Message::Answered(answer) if step == "request" => {
            answer.change(|offer: &mut Offer| offer.rates = Some(rates(offer.price)));
            Fate::Pass
        }
        Message::Asked(_) | Message::Answered(_) => Fate::Pass,
    });
    let asked = client.post(scene.liar.url("/paid/other")).body("question").send();
    let error = timeout(BOUND, asked).await.expect("an end in time").unwrap_err();
    assert!(matches!(error, PayError::Silent(_)), "{error}");
    assert!(signed(&client) <= FIRST_SAT + 100, "{}", signed(&client));
    drop(client);
    scene.take_all_back().await;
}

/// Rates by which only what is answered costs something.
fn rates(answer: Msat) -> OfferedRates {
    let second = OfferedRate::new(Msat::new(1).unwrap(), 1_000).ok();
    OfferedRates {
        answer,
        bytes: None,
        events: None,
        messages: None,
        millis: second,
        request_bytes: None,
        request_messages: None,
        wait: Seconds::new(10),
    }
}
