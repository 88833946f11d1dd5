//! Header fields: what is written is read again, and what is wrong is named.

mod bounds;
mod examples;
mod malformed;
mod messages;
mod size;
mod values;

use std::fmt::Debug;

use farebox_channel::message::{
    CloseRequest, ContractRequest, Offer, OpenRequest, PayRequest, Receipt, RefundReply,
    RefundRequest, StateReply, StatusReply, StatusRequest, TermsReply, WatchReply, WatchRequest,
};
use farebox_channel::wire::{FIELD_LEN_MAX, Field, PREFIX, Step};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::sample::{Index, select};

use self::examples::{PAY, examples};
use crate::support::law;

/// Reads `value` as a field, and checks that what is read can be written and read again.
fn read<T: Field + Debug + PartialEq>(value: &[u8]) {
    if let Ok(message) = T::decode(value) {
        assert_eq!(T::decode(message.encode().as_bytes()), Ok(message));
    }
}

/// Reads `value` as each field that there is.
fn read_as_each(value: &[u8]) {
    for read in [
        read::<Offer>,
        read::<OpenRequest>,
        read::<TermsReply>,
        read::<RefundRequest>,
        read::<RefundReply>,
        read::<WatchRequest>,
        read::<WatchReply>,
        read::<ContractRequest>,
        read::<StateReply>,
        read::<PayRequest>,
        read::<Receipt>,
        read::<StatusRequest>,
        read::<StatusReply>,
        read::<CloseRequest>,
    ] {
        read(value);
    }
    for name in Step::NAMES {
        let _step = Step::decode(name, value);
    }
}

#[test]
fn every_field_has_a_name_of_its_own() {
    let names = [
        Offer::NAME,
        OpenRequest::NAME,
        TermsReply::NAME,
        RefundRequest::NAME,
        RefundReply::NAME,
        WatchRequest::NAME,
        WatchReply::NAME,
        ContractRequest::NAME,
        StateReply::NAME,
        PayRequest::NAME,
        Receipt::NAME,
        StatusRequest::NAME,
        StatusReply::NAME,
        CloseRequest::NAME,
    ];
    for (index, name) in names.iter().enumerate() {
        assert!(name.starts_with(PREFIX), "{name}");
        assert!(name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()), "{name}");
        assert!(!names[..index].contains(name), "{name} stands twice");
    }
}

#[test]
fn arbitrary_bytes_are_no_message_and_no_panic() {
    law(300, vec(any::<u8>(), 0..FIELD_LEN_MAX + 100), |bytes| {
        read_as_each(&bytes);
    });
}

#[test]
fn arbitrary_text_of_the_right_letters_is_no_panic() {
    let letters = select(b"abcpaidkey=:\"?;(),.-*0123456789+/ \t".to_vec());
    law(500, vec(letters, 0..400), |bytes| read_as_each(&bytes));
}

#[test]
fn a_field_with_a_changed_byte_is_no_panic() {
    let fields = examples();
    let changes = vec((any::<Index>(), any::<u8>()), 1..4);
    law(500, (select(fields), changes), |(field, changes)| {
        let mut bytes = field.into_bytes();
        for (index, byte) in changes {
            if !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        read_as_each(&bytes);
    });
}

#[test]
fn a_field_that_breaks_off_is_no_panic() {
    for field in examples() {
        for end in 0..field.len() {
            read_as_each(&field.as_bytes()[..end]);
        }
    }
}

#[test]
fn keys_in_any_order_and_with_unknown_ones_between_say_the_same() {
    let field = examples().swap_remove(PAY);
    let members: Vec<_> = field.split(", ").map(str::to_owned).collect();
    let shuffled = Just(members).prop_shuffle();
    let expected = PayRequest::decode(field.as_bytes()).unwrap();
    law(50, (shuffled, select(vec!["x", "x=1", "x=(a b);c", "x=@1"])), |(mut members, unknown)| {
        members.insert(1, unknown.to_owned());
        let value = members.join(",\t ");
        assert_eq!(PayRequest::decode(value.as_bytes()), Ok(expected));
    });
}
