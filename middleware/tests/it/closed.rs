//! Channels that their clients close.

use farebox_channel::message::{CloseRequest, StateName, StateReply};
use farebox_channel::{Place, Proof, Subject, Timestamp};

use crate::support::{Answer, Desk, HOST, NOW, WELL_KNOWN, header};

/// Asks a gateway to close its channel for what was paid first.
async fn close(desk: &Desk) -> Answer {
    let channel = desk.contract.outpoint;
    let place = Place { network: desk.gateway.network(), host: HOST };
    let proof = Proof::sign(&Subject::Close(channel), place, Timestamp::new(NOW), &desk.key);
    let close = CloseRequest { channel, proof, payment: desk.payment(1_000) };
    desk.send(WELL_KNOWN, &[header(&close)]).await
}

#[tokio::test]
async fn of_two_closes_at_once_both_are_told_where_the_channel_stands() {
    let desk = Desk::open().await;

    let (one, other) = tokio::join!(close(&desk), close(&desk));

    for answer in [one, other, close(&desk).await] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.message::<StateReply>().state, StateName::Closing);
    }
}
