//! A good field of each kind.

use bitcoin::Network;
use farebox_channel::message::{
    ChannelStatus, CloseRequest, OpenRequest, PayRequest, Receipt, RefundReply, RefundRequest,
    StateName, StateReply, StatusReply, StatusRequest, StatusSubject, WatchReply, WatchRequest,
};
use farebox_channel::wire::Field;
use farebox_channel::{Kind, Proof, Seconds, Timestamp};

use crate::support::{gateway, keyring, msat, now, shown, terms};

/// Where the payment stands in [`examples`].
pub(super) const PAY: usize = 9;

/// A good field of each kind.
pub(super) fn examples() -> Vec<String> {
    [opening(), paying()].concat()
}

/// The fields that open a channel, from the offer to the state of the shown contract.
fn opening() -> Vec<String> {
    let (shown, terms) = (shown(Kind::Refund), terms(Kind::Cltv));
    let (outpoint, capacity) = (shown.outpoint, shown.capacity);
    let (client_key, expiry) = (terms.client_key, terms.expiry);
    let lifetime = Seconds::new(172_800);
    let wish = OpenRequest { kind: Kind::Cltv, client_key, capacity, lifetime };
    let state = StateReply {
        channel: outpoint,
        state: StateName::Closing,
        pass: keyring().pass(outpoint),
        paid: shown.payment.paid,
        settlement: Some(outpoint.txid),
    };
    vec![
        gateway().rules.offer(msat(2_500), Network::Regtest).encode(),
        wish.encode(),
        gateway().terms(&wish, now()).unwrap().encode(),
        RefundRequest { outpoint, capacity, client_key, expiry }.encode(),
        RefundReply { signature: shown.payment.signature }.encode(),
        WatchRequest { client_key, expiry }.encode(),
        WatchReply { seen: Some((outpoint, capacity)) }.encode(),
        shown.encode(),
        state.encode(),
    ]
}

/// The fields of an open channel: pay, receipt, status, record, close.
fn paying() -> Vec<String> {
    let shown = shown(Kind::Refund);
    let (channel, payment) = (shown.outpoint, shown.payment);
    let pass = keyring().pass(channel);
    let proof = Proof { time: Timestamp::new(1), signature: payment.signature };
    let status = ChannelStatus {
        channel,
        gateway_key: terms(Kind::Refund).gateway_key,
        kind: shown.kind,
        expiry: shown.expiry,
        capacity: shown.capacity,
        payout: shown.payout,
        payment,
        least: payment.paid,
        spent: msat(1),
        credit: msat(999_999),
        state: StateName::Open,
        pass,
    };
    let (spent, credit, price) = (msat(1), msat(999_999), msat(1));
    let subject = StatusSubject::Channel(channel);
    vec![
        PayRequest { channel, pass, payment, price_max: Some(price) }.encode(),
        Receipt { paid: payment.paid, spent, credit, price, is_running: true }.encode(),
        StatusRequest { subject, proof }.encode(),
        StatusReply { channels: vec![status.clone(), status] }.encode(),
        CloseRequest { channel, proof, payment }.encode(),
    ]
}
