//! The one spelling of a path: what is priced is what the API gets.

use farebox_channel::Kind;

use super::gate::Gate;
use crate::support::PRICE_MSAT;

#[tokio::test]
async fn the_api_gets_the_path_that_was_priced_and_paid() {
    let gate = Gate::start(|config| config).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    let spellings = [
        ("/a/../paid/x", "/paid/x"),
        ("/%70aid/x?a=%2F..//b", "/paid/x?a=%2F..//b"),
        ("//paid/./x", "/paid/x"),
        ("/free/%2e%2e/paid/caf%c3%a9", "/paid/caf%C3%A9"),
        ("/PAID/x/", "/PAID/x/"),
    ];
    for (spelling, normal) in spellings {
        assert_eq!(gate.ask(spelling, &[]).await.price(), PRICE_MSAT, "{spelling}");

        let answer = gate.pay(&mut buyer, PRICE_MSAT, spelling, &[]).await;

        assert_eq!(answer.status, 200, "{spelling}: {answer:?}");
        assert_eq!(answer.number("payment-channel-receipt", "price"), Some(PRICE_MSAT));
        assert_eq!(gate.world.api.asked().last().unwrap().path, normal);
    }
    assert_eq!(gate.world.api.hits(), spellings.len());
}

#[tokio::test]
async fn a_path_that_can_be_read_in_two_ways_is_refused() {
    let gate = Gate::start(|config| config).await;
    for path in [
        "/free/..;/paid",
        "/free/%2e%2e%2fpaid",
        "/free\\..\\paid",
        "/free/%252e%252e/paid",
        "/free/%3fx",
        "/free/%c0%af",
        "/free/%zz",
        "/free/%00",
        "/free//../paid",
    ] {
        let answer = gate.ask(path, &[]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-path"), "{path}");
    }
    assert_eq!(gate.world.api.hits(), 0);
}
