//! A gateway that lies, refuses or vanishes at any step: the client ends in time and says why, no more
//! than it has agreed to is signed for, and every coin comes back.

use bitcoin::{Network, ScriptBuf, Txid};
use farebox_channel::client::TermsRefused;
use farebox_channel::message::{Offer, RefundReply, StateName, StateReply, TermsReply};
use farebox_channel::{Expiry, Kind, Msat, Pass, Sat, Seconds};
use farebox_client::{Limit, PayError, Stage};
use http::StatusCode;
use secp256k1::{SECP256K1, SecretKey};

use super::liar::{Answer, End, Fate, Finding, Message, Twist, said, twisted};
use super::scene::{Scene, signed};
use crate::support::FIRST_SAT;

fn stranger() -> SecretKey {
    SecretKey::from_slice(&[9; 32]).unwrap()
}

fn later(expiry: Expiry, seconds: i64) -> Expiry {
    let seconds = i64::from(expiry.get()) + seconds;
    Expiry::new(u64::try_from(seconds).unwrap()).unwrap()
}

/// Lies about offers and terms.
const OPENINGS: [(&str, Twist, Finding); 12] = [
    (
        "request",
        |answer| answer.change(|it: &mut Offer| it.network = Network::Bitcoin),
        |error| matches!(error, PayError::Terms(TermsRefused::OtherNetwork(_))),
    ),
    (
        "request",
        |answer| {
            let capacity = Sat::new(2_000_000).unwrap()..=Sat::new(3_000_000).unwrap();
            answer.change(|it: &mut Offer| it.capacity = capacity);
        },
        |error| matches!(error, PayError::Limit(Limit::Capacity { .. })),
    ),
    (
        "request",
        |answer| {
            let lifetime = Seconds::new(40 * 86_400)..=Seconds::new(50 * 86_400);
            answer.change(|it: &mut Offer| it.lifetime = lifetime);
        },
        |error| matches!(error, PayError::Limit(Limit::Lifetime { .. })),
    ),
    (
        "request",
        |answer| answer.change(|it: &mut Offer| it.first_payment = Sat::new(20_001).unwrap()),
        |error| matches!(error, PayError::Limit(Limit::FirstPayment { .. })),
    ),
    (
        "request",
        |answer| answer.change(|it: &mut Offer| it.price = Msat::new(1_000_001).unwrap()),
        |error| matches!(error, PayError::Limit(Limit::Price { .. })),
    ),
    (
        "open",
        |answer| {
            let key = stranger().public_key(SECP256K1);
            answer.change(|it: &mut TermsReply| it.gateway_key = key);
        },
        |error| matches!(error, PayError::Terms(TermsRefused::OtherScript)),
    ),
    (
        "open",
        |answer| answer.change(|it: &mut TermsReply| it.script = ScriptBuf::from_bytes(vec![81])),
        |error| matches!(error, PayError::Terms(TermsRefused::OtherScript)),
    ),
    (
        "open",
        |answer| {
            let other = "bcrt1q2nfxmhd4n3c8834pj72xagvyr9gl57n5r94fsl".to_owned();
            answer.change(|it: &mut TermsReply| it.address = other);
        },
        |error| matches!(error, PayError::Terms(TermsRefused::OtherScript)),
    ),
    (
        "open",
        |answer| answer.change(|it: &mut TermsReply| it.network = Network::Testnet),
        |error| matches!(error, PayError::Terms(TermsRefused::OtherNetwork(_))),
    ),
    (
        "open",
        |answer| {
            answer.change(|it: &mut TermsReply| {
                it.kind = if it.kind == Kind::Cltv { Kind::Refund } else { Kind::Cltv };
            });
        },
        |error| matches!(error, PayError::Terms(TermsRefused::OtherKind(_))),
    ),
    (
        "open",
        |answer| answer.change(|it: &mut TermsReply| it.expiry = later(it.expiry, -10_800)),
        |error| matches!(error, PayError::Terms(TermsRefused::OtherExpiry { .. })),
    ),
    (
        "open",
        |answer| answer.change(|it: &mut TermsReply| it.expiry = later(it.expiry, 10_800)),
        |error| matches!(error, PayError::Terms(TermsRefused::OtherExpiry { .. })),
    ),
];

#[tokio::test]
async fn a_gateway_that_lies_while_a_channel_is_opened_gets_no_coin_to_move() {
    let mut scene = Scene::set().await;
    for kind in Kind::ALL {
        for (index, (step, twist, is_found)) in OPENINGS.into_iter().enumerate() {
            let client = scene.client(kind);
            scene.liar.lie(twisted(step, twist));

            let error = scene.get(&client).await.unwrap_err();

            assert!(is_found(&error), "{kind}, {index}: {error}");
            scene.nothing_moved(&client, &format!("{kind}, {index}")).await;
        }
    }
    // The refund is not signed, or falsely.
    let refused = || Answer::problem(StatusCode::CONFLICT, "contract-refused");
    let client = scene.client(Kind::Refund);
    scene.liar.lie(said("refund", refused));
    let error = scene.get(&client).await.unwrap_err();
    assert!(matches!(error, PayError::Refused { .. }), "{error}");
    scene.nothing_moved(&client, "a refund that is refused").await;
    scene.liar.lie(twisted("refund", |answer| {
        let digest = secp256k1::Message::from_digest([7; 32]);
        let signature = SECP256K1.sign_ecdsa(&digest, &stranger());
        answer.change(|it: &mut RefundReply| it.signature = signature);
    }));
    let error = scene.get(&client).await.unwrap_err();
    assert!(matches!(error, PayError::Refund(_)), "{error}");
    scene.nothing_moved(&client, "a refund with a false signature").await;
}

#[tokio::test]
async fn a_gateway_that_says_what_is_not_so_of_a_contract_keeps_no_coin() {
    let mut scene = Scene::set().await;
    for kind in Kind::ALL {
        for state in StateName::ALL.into_iter().filter(|it| *it != StateName::Open) {
            let client = scene.client(kind);
            scene.liar.lie(move |step, message| {
                if let Message::Answered(answer) = message
                    && step == "contract"
                {
                    answer.change(|it: &mut StateReply| it.state = state);
                }
                Fate::Pass
            });

            let error = scene.get(&client).await.unwrap_err();

            let is_found = match state {
                StateName::Pending => matches!(error, PayError::Unconfirmed(_)),
                state => matches!(error, PayError::NotOpen(_, told) if told == state),
            };
            assert!(is_found, "{kind}, {state}: {error}");
        }
        // It is open, says a gateway that was never shown it.
        let client = scene.client(kind);
        scene.liar.lie(|step, message| {
            let Message::Asked(fields) = message else { return Fate::Pass };
            let Some(shown) = fields.get("payment-channel-contract") else { return Fate::Pass };
            assert_eq!(step, "contract");
            let shown: farebox_channel::message::ContractRequest =
                farebox_channel::wire::Field::decode(shown.as_bytes()).unwrap();
            let (channel, paid) = (shown.outpoint, shown.payment.paid);
            let (state, pass, settlement) = (StateName::Open, Pass::new([7; 16]), None);
            let mut answer = Answer::default();
            answer.set(&StateReply { channel, state, pass, paid, settlement });
            Fate::Say(answer)
        });
        let error = scene.get(&client).await.unwrap_err();
        assert!(matches!(error, PayError::Refused { .. }), "{error}");
    }
    scene.take_all_back().await;
}

#[tokio::test]
async fn a_gateway_that_vanishes_at_any_step_keeps_no_coin() {
    let mut scene = Scene::set().await;
    for (kind, at) in [
        (Kind::Cltv, "request"),
        (Kind::Cltv, "open"),
        (Kind::Refund, "refund"),
        (Kind::Refund, "contract"),
        (Kind::Cltv, "contract"),
        (Kind::Refund, "paid"),
    ] {
        for hears in [false, true] {
            let client = scene.client(kind);
            let mut is_gone = false;
            scene.liar.lie(move |step, message| {
                let is_heard = matches!(message, Message::Answered(_));
                is_gone |= step == at && is_heard == hears;
                if is_gone { Fate::Lose } else { Fate::Pass }
            });

            let error = scene.get(&client).await.unwrap_err();

            assert!(matches!(error, PayError::Http(_)), "{kind}, {at}, {hears}: {error}");
            if matches!(at, "request" | "open") {
                scene.nothing_moved(&client, at).await;
            }
        }
    }
    let client = scene.client(Kind::Cltv);
    scene.liar.lie(twisted("paid", |answer| answer.end = End::Broken));
    let answer = scene.get(&client).await.unwrap();
    assert!(answer.text().await.is_err(), "the answer is not whole");
    assert_eq!(signed(&client), FIRST_SAT);
    scene.liar.lie(|step, _| if step == "close" { Fate::Lose } else { Fate::Pass });
    let error = client.close(&scene.liar.url("/")).await.unwrap_err();
    assert!(matches!(error, PayError::Http(_)), "{error}");
    drop(client);
    scene.take_all_back().await;
}

#[tokio::test]
async fn a_gateway_that_refuses_to_close_or_tells_of_a_settlement_that_is_none_keeps_no_coin() {
    let mut scene = Scene::set().await;
    for kind in Kind::ALL {
        scene.liar.lie(|_, _| Fate::Pass);
        let (stubborn, false_) =
            (scene.client_with_channel(kind).await, scene.client_with_channel(kind).await);
        let url = scene.liar.url("/");

        scene.liar.lie(said("close", || Answer::problem(StatusCode::FORBIDDEN, "wrong-proof")));
        let error = stubborn.close(&url).await.unwrap_err();
        assert!(matches!(error, PayError::Refused { .. }), "{error}");
        let stage = stubborn.file().channels().unwrap().remove(0).stage;
        assert!(matches!(stage, Stage::Open(_)), "{stage:?}");

        let channel = false_.file().channels().unwrap().remove(0).outpoint();
        scene.liar.lie(move |step, message| match message {
            Message::Asked(_) if step == "close" => {
                let settlement: Option<Txid> = Some("33".repeat(32).parse().unwrap());
                let (pass, paid) = (Pass::new([7; 16]), Sat::new(1).unwrap());
                let state = StateName::Settled;
                let mut answer = Answer::default();
                answer.set(&StateReply { channel, state, pass, paid, settlement });
                Fate::Say(answer)
            }
            Message::Asked(_) | Message::Answered(_) => Fate::Pass,
        });
        false_.close(&url).await.unwrap();
    }
    scene.take_all_back().await;
}

#[tokio::test]
async fn a_gateway_that_says_of_each_channel_that_it_is_over_has_no_more_opened_than_a_day_allows()
{
    let mut scene = Scene::set().await;
    let client = scene.client_with_channel(Kind::Cltv).await;
    let most = 10;
    scene.liar.lie(|step, message| match message {
        Message::Asked(_) if step == "paid" => {
            Fate::Say(Answer::problem(StatusCode::CONFLICT, "channel-ended"))
        }
        Message::Asked(_) | Message::Answered(_) => Fate::Pass,
    });

    let mut ends = Vec::new();
    for _ in 0..2 * most {
        ends.push(scene.get(&client).await.unwrap_err());
    }

    assert_eq!(client.file().channels().unwrap().len(), most);
    let last = ends.pop().unwrap();
    assert!(matches!(last, PayError::Limit(Limit::Openings(10))), "{last}");
    drop((client, ends));
    scene.take_all_back().await;
}
