//! How large a field gets.

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use farebox_channel::message::{
    ChannelStatus, ContractRequest, PayRequest, StateName, StatusReply, StatusRequest,
    StatusSubject,
};
use farebox_channel::wire::{FIELD_LEN_MAX, Fault, Field, Malformed};
use farebox_channel::{Kind, Msat, Pass, Payment, Proof, Sat, Timestamp};

use super::examples::{PAY, examples};
use crate::support::{expiry, funding, p2wpkh, payouts, shown, terms};

/// The channels that the gateway tells of in one answer.
const STATUS_CHANNELS: usize = 10;

/// The outpoint that is longest as text.
fn longest() -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([0xff; 32]), vout: u32::MAX }
}

/// The payment that is longest as text.
fn greatest() -> Payment {
    Payment { paid: Sat::MAX, signature: shown(Kind::Cltv).payment.signature }
}

#[test]
fn the_greatest_payment_is_a_header_of_less_than_300_bytes() {
    let pass = Pass::new([0xff; 16]);
    let pay = PayRequest { channel: longest(), pass, payment: greatest() };
    let header = format!("{}: {}\r\n", PayRequest::NAME, pay.encode());
    assert!(header.len() < 300, "{} bytes", header.len());
}

#[test]
fn a_request_with_every_header_of_a_paid_request_is_under_8_kib() {
    let all: usize = examples().iter().map(|field| field.len() + 40).sum();
    assert!(all < 8 * 1024, "{all} bytes");
}

#[test]
fn the_longest_record_of_as_many_channels_as_are_told_fits_a_field() {
    let channel = ChannelStatus {
        channel: longest(),
        gateway_key: terms(Kind::Refund).gateway_key,
        kind: Kind::Refund,
        expiry: expiry(2_147_483_647),
        capacity: Sat::MAX,
        payout: payouts()[1].0.clone(),
        payment: greatest(),
        least: Sat::MAX,
        spent: Msat::MAX,
        credit: Msat::MAX,
        state: StateName::Pending,
        pass: Pass::new([0xff; 16]),
    };
    let reply = StatusReply { channels: vec![channel; STATUS_CHANNELS] };
    let value = reply.encode();
    assert!(value.len() <= FIELD_LEN_MAX, "{} bytes", value.len());
    assert_eq!(StatusReply::decode(value.as_bytes()), Ok(reply));
}

#[test]
fn a_time_beyond_all_integers_is_written_as_the_greatest() {
    let proof = Proof { time: Timestamp::new(u64::MAX), signature: greatest().signature };
    let request = StatusRequest { subject: StatusSubject::Channel(longest()), proof };
    let read = StatusRequest::decode(request.encode().as_bytes()).unwrap();
    assert_eq!(read.proof.time, Timestamp::new(999_999_999_999_999));
}

#[test]
fn a_contract_transaction_fits_up_to_4_000_bytes() {
    let with = |outputs: usize| {
        let payout = p2wpkh().script().to_owned();
        let transaction = funding(&vec![(1_000, payout); outputs]);
        let size = bitcoin::consensus::serialize(&transaction).len();
        let request = ContractRequest { transaction: Some(transaction), ..shown(Kind::Refund) };
        (size, ContractRequest::decode(request.encode().as_bytes()))
    };
    let (size, read) = with(125);
    assert!(size > 4_000 && read.is_ok(), "{size} bytes");
    let (_, refused) = with(200);
    let name = ContractRequest::NAME;
    assert_eq!(refused, Err(Malformed { name, fault: Fault::TooLong }));
}

#[test]
fn a_field_may_be_6_kib_long_and_no_longer() {
    let good = examples().swap_remove(PAY);
    let padded = |length: usize| {
        let padding = "x".repeat(length - good.len() - 2);
        PayRequest::decode(format!("{good}, {padding}").as_bytes())
    };
    assert_eq!(FIELD_LEN_MAX, 6 * 1024);
    assert!(padded(FIELD_LEN_MAX).is_ok());
    let name = PayRequest::NAME;
    assert_eq!(padded(FIELD_LEN_MAX + 1), Err(Malformed { name, fault: Fault::TooLong }));
}
