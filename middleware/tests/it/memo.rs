//! Memos: from the client to the service, and back.

use farebox_channel::message::{Memo, Receipt};
use farebox_channel::wire::Field;
use http::HeaderMap;
use http::header::HeaderName;
use tower_layer::Layer;

use crate::support::{Answer, Api, Desk, ask, header};

const FIELD: HeaderName = HeaderName::from_static("x-memo");

fn memo(text: &str) -> Memo {
    Memo::new(text).unwrap()
}

/// Pays for a request, with more fields, before a service that answers with `answers`.
async fn pay(
    desk: &Desk,
    answers: &[(&'static str, &str)],
    more: &[(&str, String)],
) -> (Answer, HeaderMap) {
    let answers =
        answers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    let api = Api { answers: answers.collect(), ..Api::default() };
    let fields = [&[header(&desk.pay(1_000))], more].concat();
    let answer = ask(&mut desk.layer().memo(Some(FIELD)).layer(api.clone()), "/x", &fields).await;
    let asked = api.asked.lock().unwrap().pop().unwrap_or_default();
    (answer, asked)
}

#[tokio::test]
async fn a_memo_goes_to_the_service_and_the_answers_memo_comes_back() {
    let desk = Desk::open().await;
    for text in ["one", "two", ""] {
        let (answer, asked) = pay(&desk, &[("x-memo", ":YW5zd2Vy:")], &[header(&memo(text))]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(Memo::decode(asked[FIELD].as_bytes()), Ok(memo(text)));
        assert_eq!(answer.message::<Memo>(), memo("answer"));
        assert!(!answer.headers.contains_key(FIELD) && !asked.contains_key("payment-channel-memo"));
    }
    let (answer, asked) = pay(&desk, &[], &[]).await;
    assert_eq!(answer.status, 200);
    assert!(!asked.contains_key(FIELD) && !answer.headers.contains_key("payment-channel-memo"));
}

#[tokio::test]
async fn a_client_cannot_set_the_services_field_itself() {
    let desk = Desk::open().await;
    let forged = ("x-memo", ":Zm9yZ2Vk:".to_owned());
    let (_, asked) = pay(&desk, &[], std::slice::from_ref(&forged)).await;
    assert!(!asked.contains_key(FIELD));
    let (_, asked) = pay(&desk, &[], &[forged, header(&memo("mine"))]).await;
    assert_eq!(asked.get_all(FIELD).iter().collect::<Vec<_>>(), [":bWluZQ==:"]);
}

#[tokio::test]
async fn a_memo_that_is_none_is_refused_before_anything_is_charged() {
    let desk = Desk::open().await;
    let long = format!(":{}:", "AAAA".repeat(43));
    for wrong in ["one", "\"one\"", ":!:", &long] {
        let (answer, asked) = pay(&desk, &[], &[("payment-channel-memo", wrong.to_owned())]).await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.body.contains("payment-channel-memo") && asked.is_empty());
    }
    let two = [header(&memo("one")), header(&memo("two"))];
    assert_eq!(pay(&desk, &[], &two).await.0.status, 400);
    let (answer, _) = pay(&desk, &[], &[]).await;
    assert_eq!(answer.message::<Receipt>().spent.get(), crate::support::PRICE_MSAT);
}

#[tokio::test]
async fn a_services_memo_that_is_none_is_left_out_and_the_answer_is_served() {
    let desk = Desk::open().await;
    let (answer, _) = pay(&desk, &[("x-memo", "nonsense")], &[]).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key(FIELD));
    assert!(!answer.headers.contains_key("payment-channel-memo"));
}

#[tokio::test]
async fn without_a_field_for_it_a_memo_stays_at_the_paywall() {
    let desk = Desk::open().await;
    let api = Api::default();
    let fields = [header(&desk.pay(1_000)), header(&memo("one"))];
    let answer = ask(&mut desk.layer().layer(api.clone()), "/x", &fields).await;
    assert_eq!(answer.status, 200);
    assert!(api.asked.lock().unwrap()[0].is_empty());
}

#[tokio::test]
async fn fields_that_are_spelt_with_underscores_are_taken_for_the_same() {
    let desk = Desk::open().await;
    let spelt = [
        ("x_memo", ":Zm9yZ2Vk:".to_owned()),
        ("payment_channel-anything", "1".to_owned()),
        ("payment_channel_pay", "1".to_owned()),
        ("x_memory", "kept".to_owned()),
    ];
    let (answer, asked) = pay(&desk, &[], &spelt).await;
    assert_eq!(answer.status, 200);
    assert_eq!(asked.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x_memory"]);
}
