//! A price that was raised since the client has seen it, and for how long it is promised.

use std::time::Duration;

use bitcoin::{OutPoint, Transaction, TxOut};
use farebox_channel::message::{ContractRequest, Offer, PayRequest, Receipt};
use farebox_channel::{ChainTime, Clock, Msat, Sat, Seconds, Terms};
use farebox_middleware::{Cashier, Node, NodeError, PaywallLayer};
use http::request::Parts;
use tower_layer::Layer;

use crate::support::{Api, Desk, HOST, PRICE_MSAT, Quiet, WELL_KNOWN, ask, header};

/// A quiet node that takes so long to look at a channel.
#[derive(Clone, Debug)]
struct Slow(Duration);

impl Node for Slow {
    fn clock(&self) -> Clock {
        Quiet.clock()
    }

    fn chain_time(&self) -> Option<ChainTime> {
        Quiet.chain_time()
    }

    async fn find(&self, of: OutPoint, by: Option<Transaction>) -> Result<TxOut, NodeError> {
        Quiet.find(of, by).await
    }

    async fn watch(&self, terms: Terms) -> Result<Option<(OutPoint, Sat)>, NodeError> {
        Quiet.watch(terms).await
    }

    async fn attend(&self, _: OutPoint) {
        tokio::time::advance(self.0).await;
    }
}

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

#[tokio::test(start_paused = true)]
async fn a_price_is_promised_from_the_requests_beginning_however_late_its_answer_is() {
    let desk = Desk::open().await;
    let shown = header(&ContractRequest::of(&desk.contract, desk.payment(1_000), None));
    let promised = async |millis| {
        let node = Slow(Duration::from_millis(millis));
        let (keyring, ledger) = (desk.gateway.keyring.clone(), desk.ledger.clone());
        let cashier = Cashier::new(keyring, ledger, node, vec![HOST.to_owned()]);
        let layer = PaywallLayer::new(cashier, |_: &Parts| Msat::new(PRICE_MSAT).ok());
        let mut paywall = layer.quote(Duration::from_secs(60)).layer(Api::default());
        let fields = [shown.clone()];
        ask(&mut paywall, "/x", &fields).await.message::<Offer>().price_holds.map(Seconds::get)
    };
    assert_eq!(promised(0).await, Some(60));
    assert_eq!(promised(20_500).await, Some(40));
    assert_eq!(promised(60_000).await, None);
    assert_eq!(promised(90_000).await, None);
}
