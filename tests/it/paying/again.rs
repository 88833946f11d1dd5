//! Requests whose connection breaks: asked again by their name, and paid once.

use std::net::Ipv4Addr;

use farebox_channel::Kind;
use farebox_client::{PayError, Policy};
use reqwest::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::middleman::Fate;
use super::{Stand, purses};
use crate::support::{PRICE_MSAT, World, until};

/// Asks for something with a key, where this becomes of the first request that carries its payment.
async fn ask(stand: &Stand, path: &str, fate: Fate) -> Result<Response, PayError> {
    stand.middleman.rule(move |count| if count == 1 { fate } else { Fate::Pass });
    let request = stand.client.post(stand.middleman.url(path)).body("what I want");
    request.idempotency_key("\"one\"").send().await
}

/// Both sides count the request that has opened the channel, and so many others.
async fn assert_paid(stand: &Stand, others: u64) {
    let expected = (1 + others) * PRICE_MSAT;
    assert_eq!(stand.spent().await, expected, "the gateway's account");
    assert_eq!(purses(&stand.client)[0].spent.get(), expected, "the client's account");
}

#[tokio::test]
async fn a_named_request_that_never_arrived_is_asked_again_and_paid_once() {
    for fate in [Fate::Lost, Fate::BadGateway] {
        let stand = Stand::start().await;
        let answer = ask(&stand, "/paid/x", fate).await.unwrap();

        assert_eq!(
            (answer.status(), answer.text().await.unwrap().as_str()),
            (200.try_into().unwrap(), "hello\n")
        );
        assert_eq!(stand.middleman.payments().len(), 2);
        assert_eq!(stand.world.api.hits(), 2);
        assert_paid(&stand, 1).await;
    }
}

#[tokio::test]
async fn a_named_request_that_broke_before_its_answer_is_asked_again_for_the_same_charge() {
    for fate in [Fate::Left, Fate::TimedOut] {
        let stand = Stand::start().await;
        let answer = ask(&stand, "/paid/slow", fate).await.unwrap();

        assert_eq!(
            (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
            (200, "at last\n")
        );
        assert_eq!(stand.world.api.hits(), 3, "it was passed on once more");
        assert_paid(&stand, 1).await;
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_on_its_way_is_told_of_and_never_paid_twice() {
    let stand = Stand::start().await;
    let lost = ask(&stand, "/paid/x", Fate::Unheard).await.unwrap_err();

    let PayError::Unanswered(cause) = &lost else { panic!("{lost:?}") };
    assert!(
        matches!(&**cause, PayError::Refused { kind, .. } if kind.ends_with("request-answered"))
    );
    assert_eq!(stand.world.api.hits(), 2);
    assert_paid(&stand, 1).await;
}

#[tokio::test]
async fn an_answer_that_broke_in_its_middle_is_not_asked_again_by_itself_nor_paid_twice() {
    let stand = Stand::start().await;
    let begun = ask(&stand, "/paid/x", Fate::Half).await.unwrap();
    assert!(begun.text().await.is_err());
    assert_eq!(stand.middleman.payments().len(), 1);
    let again = ask(&stand, "/paid/x", Fate::Pass).await.unwrap_err();

    assert!(matches!(&again, PayError::Refused { kind, .. } if kind.ends_with("request-answered")));
    assert_eq!(stand.world.api.hits(), 2);
    assert_paid(&stand, 1).await;
}

#[tokio::test]
async fn a_request_without_a_name_is_sent_once() {
    for (method, fate) in
        [(Method::POST, Fate::Lost), (Method::GET, Fate::Unheard), (Method::GET, Fate::BadGateway)]
    {
        let stand = Stand::start().await;
        // Its price is known by then.
        let ask = || stand.client.request(method.clone(), stand.middleman.url("/paid/x"));
        ask().await.unwrap();
        stand.middleman.rule(move |_| fate);
        let answered = ask().await;

        assert_eq!(stand.middleman.heads().len(), 1, "{method} {fate:?}");
        let error = answered.unwrap_err();
        let is_told = matches!(error, PayError::Refused { .. });
        assert!(is_told == (fate == Fate::BadGateway), "{error}");
        assert_eq!(purses(&stand.client)[0].spent.get(), 3 * PRICE_MSAT, "it may be charged");
    }
}

#[tokio::test]
async fn what_nobody_has_paid_for_is_sent_once_and_has_the_answer_of_its_service() {
    let world = World::start().await;
    let policy = Policy { names_requests: true, ..Policy::new(Kind::Cltv) };
    let client = world.client("client.sqlite", policy);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let problem = r#"{"type": "about:blank", "detail": "there is none"}"#;
    let answer = format!(
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{problem}",
        problem.len()
    );
    let serving = tokio::spawn(async move {
        for answer in ["", &answer] {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4_096];
            assert!(socket.read(&mut request).await.unwrap() > 0);
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });

    let lost = client.post(&url).send().await.unwrap_err();
    let missing = client.post(&url).send().await.unwrap();

    assert!(matches!(lost, PayError::Http(_)), "it may be done already: {lost}");
    assert_eq!(missing.status().as_u16(), 404);
    assert_eq!(missing.text().await.unwrap(), problem);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_refusal_of_somebody_in_between_leaves_the_price_on_the_account() {
    let stand = Stand::start().await;
    stand.middleman.rule(|count| if count == 1 { Fate::Overloaded } else { Fate::Pass });
    let ask = || stand.client.get(stand.middleman.url("/paid/x"));
    let refused = ask().await.unwrap_err();
    assert!(matches!(&refused, PayError::Refused { .. }), "{refused}");

    assert_eq!(ask().await.unwrap().status(), 200);

    assert_paid(&stand, 2).await;
}

#[tokio::test]
async fn requests_are_given_names_where_the_policy_says_so() {
    let policy = Policy { names_requests: true, ..Policy::new(Kind::Cltv) };
    let stand = Stand::with(policy).await;
    stand.middleman.rule(|count| if count == 1 { Fate::Left } else { Fate::Pass });
    let slow = stand.client.get(stand.middleman.url("/paid/slow")).await.unwrap();
    let other = stand.client.get(stand.middleman.url("/paid/x")).await.unwrap();

    assert_eq!((slow.status().as_u16(), other.status().as_u16()), (200, 200));
    let key = |head: &String| {
        head.lines().find(|line| line.starts_with("idempotency-key:")).map(str::to_owned)
    };
    let keys: std::collections::BTreeSet<_> =
        stand.middleman.heads().iter().filter_map(key).collect();
    assert_eq!(keys.len(), 2, "each request has one of its own");
    assert_paid(&stand, 2).await;
}

#[tokio::test]
async fn a_named_request_is_given_up_after_so_many_times() {
    let policy = Policy { retries: 2, ..Policy::new(Kind::Cltv) };
    let stand = Stand::with(policy).await;
    stand.middleman.rule(|_| Fate::Lost);
    let request = stand.client.get(stand.middleman.url("/paid/x"));
    let error = request.idempotency_key("\"one\"").send().await.unwrap_err();

    assert!(matches!(error, PayError::Http(_)), "{error}");
    assert_eq!(stand.middleman.heads().len(), 3);
    stand.middleman.rule(|_| Fate::Pass);
    until("the account is what it was", async || stand.spent().await == PRICE_MSAT).await;
}
