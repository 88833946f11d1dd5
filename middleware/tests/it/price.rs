//! A price that was raised since the client has seen it.

use farebox_channel::Msat;
use farebox_channel::message::{Offer, PayRequest, Receipt};

use crate::support::{Desk, PRICE_MSAT, WELL_KNOWN, header};

/// A payment for a request that may cost `most` millisatoshi.
fn at_most(desk: &Desk, most: u64) -> (&'static str, String) {
    header(&PayRequest { price_max: Some(Msat::new(most).unwrap()), ..desk.pay(2_000) })
}

#[tokio::test]
async fn a_request_that_costs_more_than_its_client_agrees_to_is_offered_and_not_charged() {
    let desk = Desk::open().await;
    let refused = desk.send("/x", &[at_most(&desk, PRICE_MSAT - 1)]).await;
    assert_eq!(refused.status, 402);
    assert!(refused.body.contains("price-raised"), "{}", refused.body);
    assert_eq!(refused.message::<Offer>().price.get(), PRICE_MSAT);
    let channel = desk.ledger.channel(desk.contract.outpoint).unwrap();
    let account = channel.account();
    assert_eq!((account.payment.paid().get(), account.spent), (1_000, Msat::ZERO));

    let served = desk.send("/x", &[at_most(&desk, PRICE_MSAT)]).await;
    assert_eq!(served.message::<Receipt>().price.get(), PRICE_MSAT);
    let top_up = desk.send(WELL_KNOWN, &[at_most(&desk, 0)]).await;
    assert_eq!(top_up.message::<Receipt>().price, Msat::ZERO);
}
