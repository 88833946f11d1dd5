//! Requests with an `Idempotency-Key`: which are the same, and what a repeat may cost.

use crate::support::{Answer, Desk, header};

const KEY: &str = "idempotency-key";

/// The end of the answer's problem type.
fn problem(answer: &Answer) -> String {
    let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    document["type"].as_str().unwrap().trim_start_matches("urn:farebox:problem:").to_owned()
}

#[tokio::test]
async fn a_name_is_paid_on_one_host_however_that_is_spelt() {
    let desk = Desk::open().await;
    let at = async |url: &str, host: &str| {
        let fields = [header(&desk.pay(2_000)), (KEY, "one".into()), ("host", host.into())];
        desk.send(url, &fields).await
    };

    let first = at("/x", "api.example.com").await;
    let same = [
        at("/x", "API.example.com.:8402").await,
        at("http://Api.Example.com:80/x", "other.example.com").await,
    ];
    let other = [
        at("/x", "other.example.com").await,
        at("http://other.example.com/x", "api.example.com").await,
    ];

    assert_eq!(first.status, 200);
    for answer in same {
        assert_eq!(problem(&answer), "request-answered");
    }
    for answer in other {
        assert_eq!(problem(&answer), "key-reused");
    }
}
