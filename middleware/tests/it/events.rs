//! What an embedder hears of the requests that go through its paywall.

use farebox_channel::gateway::{Cause, Happened};
use farebox_channel::message::{CloseRequest, Memo};
use farebox_channel::{Msat, Place, Proof, Sat, Subject, Timestamp};

use crate::support::{Desk, HOST, PRICE_MSAT, WELL_KNOWN, header};

#[tokio::test]
async fn an_embedder_hears_of_payments_with_their_memos_and_of_the_close_with_its_cause() {
    let desk = Desk::open().await;
    let mut events = desk.ledger.subscribe();
    let memo = Memo::new("order 7").unwrap();
    let fields = [header(&desk.pay(1_200)), header(&memo)];
    assert_eq!(desk.send("/x", &fields).await.status, 200);
    assert_eq!(desk.send("/x", &[header(&desk.pay(9))]).await.status, 200);
    let channel = desk.contract.outpoint;
    let place = Place { network: bitcoin::Network::Regtest, host: HOST };
    let proof =
        Proof::sign(&Subject::Close(channel), place, Timestamp::new(1_800_000_000), &desk.key);
    let close = CloseRequest { channel, proof, payment: desk.payment(1_100) };
    assert_eq!(desk.send(WELL_KNOWN, &[header(&close)]).await.status, 200);

    let (price, twice) = (Msat::new(PRICE_MSAT).unwrap(), Msat::new(2 * PRICE_MSAT).unwrap());
    let sat = |sat| Sat::new(sat).unwrap();
    let paid = sat(1_200);
    for expected in [
        Happened::Paid { increase: sat(200), paid, price, spent: price, memo: Some(memo) },
        Happened::Paid { increase: Sat::ZERO, paid, price, spent: twice, memo: None },
        Happened::Closing { cause: Cause::Client, paid: sat(1_100) },
    ] {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.channel, event.happened), (channel, expected));
    }
}

#[tokio::test]
async fn a_refusal_is_no_event() {
    let desk = Desk::open().await;
    let mut events = desk.ledger.subscribe();
    let wrong = farebox_channel::message::PayRequest {
        pass: farebox_channel::Pass::new([7; 16]),
        ..desk.pay(2_000)
    };
    assert_eq!(desk.send("/x", &[header(&wrong)]).await.status, 402);
    assert_eq!(desk.send("/x", &[]).await.status, 402);
    desk.ledger.close().await;
    drop(desk);
    assert_eq!(events.next().await, Ok(None));
}
